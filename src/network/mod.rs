//! The network of containers: a bridge, a pair of veth for each container, addresses, and the rules between them and the world.
//!
//! It knows network namespaces as descriptors, and neither containers nor the engine. All of it is messages to the kernel over netlink
//! sockets, which [`message`] writes and reads.
//!
//! See it: `ip link`, `ip -n NAME address`, `bridge fdb`, `nft list ruleset`. Read: rtnetlink(7), veth(4), bridge(8), nft(8).

pub mod address;
pub mod bridge;
pub mod cidr;
pub mod conntrack;
pub mod dns;
pub mod link;
pub mod message;
pub mod nat;
pub mod neighbour;
pub mod nft;
pub mod ports;
pub mod proxy;
pub mod veth;
pub mod way;

pub use cidr::Cidr;

use crate::error::{Class, Error, Result};
use crate::sys::netlink::{self, NETLINK_ROUTE, Refusal, Socket};

/// A socket for links, addresses and routes of the caller's network namespace.
///
/// # Errors
/// EMFILE, or a kernel without networking.
pub fn open() -> Result<Socket> {
    netlink::open(NETLINK_ROUTE).map_err(|fact| Error::sys("open a netlink socket", fact))
}

/// What to do about a refusal that says that the kernel lacks this module.
pub(crate) fn needs_module(error: Error, module: &str) -> Error {
    match error.class {
        Class::Unsupported => error.hint(format!("this kernel has no {module}, or may not load it: as root, modprobe {module}")),
        _ => error,
    }
}

/// Turns the kernel's refusal into a story: `.told(|| "make the bridge onggi0".into())`.
pub(crate) trait Told<T> {
    fn told(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Told<T> for std::result::Result<T, Refusal> {
    fn told(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|refusal| {
            let errno = refusal.fact.errno();
            let error = Error::sys(doing(), refusal.fact);
            let error = match errno {
                nix::errno::Errno::EEXIST | nix::errno::Errno::EBUSY => error.class(Class::Conflict),
                nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EPROTONOSUPPORT => error.class(Class::Unsupported),
                _ => error,
            };
            match refusal.words {
                Some(words) => error.hint(format!("the kernel says: {words}")),
                None => error,
            }
        })
    }
}
