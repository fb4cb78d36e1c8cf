//! A container's life, from `create` to `rm`: each command and option asked for its effect in the kernel and on disk, not for its words
//! alone.
//!
//! See it: `cargo test --test life`. Read: docker run(1), docker start(1) … docker update(1).

#[path = "../support/mod.rs"]
mod support;

mod attach;
mod crowd;
mod exec;
mod health;
mod life_jar;
mod machine;
mod monitor;
mod names;
mod policy;
mod start;
mod stop;
