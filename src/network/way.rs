//! Where a packet to some address goes next: the kernel's own answer, after all its tables and rules of routing.
//!
//! See it: `ip route get 172.17.0.2`. Read: rtnetlink(7) (RTM_GETROUTE), ip-route(8).

use std::net::IpAddr;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Told;
use super::message::{Message, address_of, attribute, u32_of};
use crate::error::Result;
use crate::sys::netlink::Socket;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTN_LOCAL: u8 = 2;

/// The first step towards an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The link on which it leaves.
    pub index: u32,
    /// Who takes it from there; None: the address itself is on the link.
    pub gateway: Option<IpAddr>,
    /// The address that it leaves with.
    pub source: Option<IpAddr>,
    /// The address is one of this namespace's own.
    pub local: bool,
}

/// The way to an address from the socket's namespace; None when there is none.
///
/// # Errors
/// Whatever the kernel answers beside "unreachable".
pub fn to(socket: &Socket, address: IpAddr) -> Result<Option<Way>> {
    let (family, bits) = if address.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
    let mut fixed = [0; 12];
    (fixed[0], fixed[1]) = (family as u8, bits);
    let message = Message::new(libc::RTM_GETROUTE, 0).fixed(&fixed).address(RTA_DST, address).finish();
    match socket.ask(&format!("RTM_GETROUTE {address}"), &message) {
        Ok(answers) => Ok(answers.iter().find_map(|answer| parse(&answer.body))),
        // No route, or one that says so; and without IPv6 nothing of it.
        Err(refusal)
            if matches!(refusal.fact.errno(), Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL | Errno::EAFNOSUPPORT) =>
        {
            Ok(None)
        }
        Err(refusal) => Err(refusal).told(|| format!("ask for the way to {address}")),
    }
}

fn parse(body: &[u8]) -> Option<Way> {
    let rest = body.get(12..)?;
    Some(Way {
        index: attribute(rest, RTA_OIF).and_then(u32_of)?,
        gateway: attribute(rest, RTA_GATEWAY).and_then(address_of),
        source: attribute(rest, RTA_PREFSRC).and_then(address_of),
        local: body[7] == RTN_LOCAL,
    })
}
