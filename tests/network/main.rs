//! Networks at the level of commands: what is typed, and what is then true for packets, names and ports. Each test is a host of its own
//! with a cable to the world; nothing of this machine's network is touched.
//!
//! See it: `onggi network inspect bridge`, `nft list ruleset`. Read: docker-network(1), docker-run(1).

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod ends;
mod host;
mod modes;
mod names;
mod ports;
mod programs;
mod reach;
mod resolvers;
