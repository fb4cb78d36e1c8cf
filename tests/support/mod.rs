//! What the integration tests share: peers that may be missing, and a VM with cgroup v2.
//!
//! A test that can't run here says why in one visible line and counts as skipped; CI has everything and allows no skip
//! (`ONGGI_REQUIRE_PEERS=1`, set by `.ci/run`).
#![allow(dead_code)] // every test program compiles this module and uses its own part of it

pub mod container;
pub mod guest;
pub mod initramfs;
pub mod jar;
pub mod kernel;
mod peers;
pub mod short;
pub mod vm;

pub use peers::{find_program, peer, peers_are_required, say, skip_for_want_of};
