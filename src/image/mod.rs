//! Images: what a container's file system starts as. A stack of layers and a config, found under digests and named by references.
//!
//! Read [`digest`] first, then [`manifest`] and [`store`]; [`layers`] and [`snapshot`] turn an image into directories and a mount;
//! [`base`] makes one from the host's own programs.
//! Source: the OCI image specification 1.1, <https://github.com/opencontainers/image-spec>.

mod ahead;
mod archive;
pub mod base;
mod base_tree;
pub mod collect;
pub mod compression;
mod copy;
pub mod create;
pub mod digest;
pub mod durable;
mod host_programs;
pub mod layer_entry;
pub mod layers;
mod libraries;
pub mod list;
pub mod load;
pub mod manifest;
pub mod pack;
mod pax;
pub mod platform;
pub mod probe;
pub mod reference;
pub mod registry;
pub mod remove;
pub mod resolve;
pub mod save;
pub mod snapshot;
pub mod store;
pub mod tar_header;
pub mod tar_reader;
#[cfg(test)]
mod testing;
pub mod unpack;

pub use resolve::{Image, resolve};
