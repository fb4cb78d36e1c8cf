//! What the engine's tests and the book's have in common: peers that may be missing, and the virtual machine.
#![allow(dead_code)] // the tests use all of it

#[path = "../../../tests/support/initramfs.rs"]
pub mod initramfs;
#[path = "../../../tests/support/peers.rs"]
mod peers;
#[path = "../../../tests/support/vm.rs"]
pub mod vm;

pub use peers::{find_program, peer, peers_are_required, say, skip_for_want_of};
