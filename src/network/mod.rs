//! Networks of containers. Knows network namespaces as file descriptors; no container and no engine.
//!
//! See it: `ip -br link`, `nft list ruleset`. Read: network_namespaces(7).

pub mod dns;
