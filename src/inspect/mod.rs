//! Typed facts read from the kernel and the store, each with its source: one place for all that shows or checks them.

pub mod host;
pub mod host_network;
pub mod network;
pub mod network_proof;
pub mod process;
pub mod sockets;
