//! The known ways out of a container, tried from within: each would succeed on a runtime without the defence, and what is asserted is
//! a fact outside of it: a file of the host, or the kernel's own answer.
//!
//! See it: `cargo test --test attacks`. Read: the advisories named beside each.

#[path = "attacks/confinement.rs"]
mod confinement;
#[path = "attacks/descriptors.rs"]
mod descriptors;
#[path = "attacks/files.rs"]
mod files;
#[path = "attacks/input.rs"]
mod input;
#[path = "attacks/jar.rs"]
mod jar;
mod support;
