//! Addresses of links, and routes: where a packet to some address goes next.
//!
//! See it: `ip address`, `ip route show table all`. Read: rtnetlink(7) (RTM_NEWADDR, RTM_NEWROUTE), ip-route(8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::message::{Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, address_of, attribute, u32_of};
use super::{Cidr, Told};
use crate::error::Result;
use crate::sys::netlink::Socket;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RT_TABLE_LOCAL: u32 = 255;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The link's index.
    pub index: u32,
    pub cidr: Cidr,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// With prefix 0 it is the default route.
    pub destination: Cidr,
    pub gateway: Option<IpAddr>,
    /// The link that leads there.
    pub index: Option<u32>,
    pub table: u32,
}

/// All addresses in the socket's namespace.
///
/// # Errors
/// Whatever the kernel answers.
pub fn addresses(socket: &Socket) -> Result<Vec<Address>> {
    let message = Message::new(libc::RTM_GETADDR, NLM_F_DUMP).fixed(&[0; 8]).finish();
    let answers = socket.ask("RTM_GETADDR", &message).told(|| "list the addresses".into())?;
    Ok(answers.iter().filter(|answer| answer.kind == libc::RTM_NEWADDR).filter_map(|answer| parse_address(&answer.body)).collect())
}

/// All routes in the socket's namespace, of IPv4 and IPv6, in all tables but `local`, which the kernel keeps by itself.
///
/// # Errors
/// Whatever the kernel answers.
pub fn routes(socket: &Socket) -> Result<Vec<Route>> {
    let message = Message::new(libc::RTM_GETROUTE, NLM_F_DUMP).fixed(&[0; 12]).finish();
    let answers = socket.ask("RTM_GETROUTE", &message).told(|| "list the routes".into())?;
    let routes = answers.iter().filter(|answer| answer.kind == libc::RTM_NEWROUTE).filter_map(|answer| parse_route(&answer.body));
    Ok(routes.filter(|route| route.table != RT_TABLE_LOCAL).collect())
}

/// The message that gives a link an address, or nothing new when it has it.
pub(crate) fn add(index: u32, cidr: &Cidr) -> Message {
    // struct ifaddrmsg: family, prefix, flags, scope, index. An address that we gave out is nobody else's: without the kernel's search
    // for duplicates (NODAD) an IPv6 address can be used at once instead of a second later.
    let (family, flags) = if cidr.address.is_ipv4() { (libc::AF_INET, 0) } else { (libc::AF_INET6, IFA_F_NODAD) };
    let mut fixed = [family as u8, cidr.prefix, flags, 0, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    let message = Message::new(libc::RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).fixed(&fixed);
    let message = message.address(IFA_LOCAL, cidr.address).address(IFA_ADDRESS, cidr.address);
    if cidr.address.is_ipv4() && cidr.prefix < 31 { message.address(IFA_BROADCAST, cidr.broadcast()) } else { message }
}

/// The message that makes `gateway` the way to everywhere, in the place of the one before.
pub(crate) fn default_route(index: u32, gateway: IpAddr) -> Message {
    let family = if gateway.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    route(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, family, RTNH_F_ONLINK, RTN_UNICAST).u32(RTA_OIF, index).address(RTA_GATEWAY, gateway)
}

/// The message that takes the default route of this family over this link away.
pub(crate) fn no_default_route(index: u32, family: i32) -> Message {
    // Type 0: whichever.
    route(libc::RTM_DELROUTE, 0, family, 0, 0).u32(RTA_OIF, index)
}

/// A message about a default route of the main table: `struct rtmsg`, RTNH_F_ONLINK for a gateway that no prefix of the link holds.
fn route(kind: u16, flags: u16, family: i32, onlink: u32, unicast: u8) -> Message {
    let mut fixed = [family as u8, 0, 0, 0, RT_TABLE_MAIN, if unicast == 0 { 0 } else { RTPROT_BOOT }, 0, unicast, 0, 0, 0, 0];
    fixed[8..].copy_from_slice(&onlink.to_ne_bytes());
    Message::new(kind, NLM_F_ACK | flags).fixed(&fixed)
}

fn parse_address(body: &[u8]) -> Option<Address> {
    let rest = body.get(8..)?;
    // IFA_ADDRESS is the other end's on a point-to-point link; IFA_LOCAL, when there is one, is always ours.
    let address = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS)).and_then(address_of)?;
    Some(Address { index: u32_of(body.get(4..8)?)?, cidr: Cidr::new(address, body[1]) })
}

fn parse_route(body: &[u8]) -> Option<Route> {
    let rest = body.get(12..)?;
    let everywhere: IpAddr = match i32::from(body[0]) {
        libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    Some(Route {
        destination: Cidr::new(attribute(rest, RTA_DST).and_then(address_of).unwrap_or(everywhere), body[1]),
        gateway: attribute(rest, RTA_GATEWAY).and_then(address_of),
        index: attribute(rest, RTA_OIF).and_then(u32_of),
        table: attribute(rest, RTA_TABLE).and_then(u32_of).unwrap_or(body[4].into()),
    })
}
