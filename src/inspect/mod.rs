//! Typed facts read from the kernel and the store, each with its source: one place for all that shows or checks them.

pub mod host;
pub mod process;
