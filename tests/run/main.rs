//! `onggi run`, asked from outside on the real kernel: what a student of Docker expects of each option, and that nothing is left behind.
//!
//! See it: `cargo test --test run`. Read: docker run(1).

#[path = "../support/mod.rs"]
mod support;

mod behaviour;
mod environment;
mod isolation;
mod leftovers;
mod limits;
mod mounts;
mod streams;
