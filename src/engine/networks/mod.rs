//! Networks, as the engine keeps them: what each is (a file that stays), who is on it now (a file that goes with the machine's start),
//! and what the kernel is told when a container comes and goes.
//!
//! ```text
//! DATA/networks/ID.json   name, subnets, options            network.rs, create.rs, pools.rs
//! RUN/networks/ID.json    endpoints: who has which address  live.rs
//! RUN/networks.lock       held (flock(2)) while any of it, or the kernel's links and rules, are changed
//! ```
//! What is done to the kernel is written down before it is done: whoever is killed in between leaves a note of what to clear.
//!
//! See it: `onggi network inspect bridge`, `ip link show type bridge`, `nft list ruleset`.

pub mod attach;
pub mod connect;
pub mod create;
pub mod describe;
pub mod ground;
pub mod keeper;
pub mod live;
pub mod names;
pub mod network;
pub mod outward;
pub mod pools;
pub mod ports;
pub mod prune;
pub mod unfinished;

pub use network::Network;
