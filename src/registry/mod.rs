//! The classroom's registry: a server from which docker, podman and onggi pull, and to which they push, in one command.
//!
//! ```text
//! server        the door: a thread a connection, limits, the clean end        tls, auth   who may come in, and unheard by others
//!   route         what a URL names                                            page        the same for people, in a browser
//!   api           the distribution API's verbs: blobs, uploads, manifests, lists
//!     layout        the images on disk: an OCI image layout that one can copy to a stick
//!     mirror        what is not here comes from another registry, once
//! announce      how it is found on the same network (multicast DNS)
//! ```
//! Nothing here makes containers: the process that serves never clones, and a name in a request never becomes a path.
//!
//! See it: `onggi registry serve`, then `curl -i localhost:5000/v2/_catalog`.
//! Source: the OCI distribution specification 1.1, <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md>.

pub mod addresses;
pub mod announce;
pub mod answer;
mod api;
pub mod auth;
mod blobs;
pub mod body;
mod catalog;
pub mod clients;
mod counts;
mod described;
mod fetching;
pub mod find;
mod layout;
mod lists;
mod manifests;
mod mdns;
mod mirror;
mod outside;
mod page;
mod page_images;
mod page_words;
mod route;
pub mod server;
pub mod tls;
mod uploading;
mod uploads;

pub use server::{Options, serve};
