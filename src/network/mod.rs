//! The network of containers: a bridge, a pair of veth for each container, addresses, and the rules between them and the world.
//!
//! It knows network namespaces as descriptors, and neither containers nor the engine. All of it is messages to the kernel over netlink
//! sockets.
//!
//! See it: `ip link`, `ip -n NAME address`, `bridge fdb`, `nft list ruleset`. Read: rtnetlink(7), veth(4), bridge(8), nft(8).

pub mod dns;
pub mod ports;
pub mod proxy;
