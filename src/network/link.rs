//! Links: the kernel's network interfaces, as they are in one network namespace.
//!
//! See it: `ip -details -statistics link`. Read: rtnetlink(7) (RTM_GETLINK, RTM_NEWLINK, RTM_DELLINK), netdevice(7).

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Told;
use super::message::{Message, NLM_F_ACK, NLM_F_DUMP, attribute, text_of, u32_of};
use crate::error::Result;
use crate::sys::netlink::{Refusal, Socket};

pub(crate) const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
const RTM_DELLINK: u16 = libc::RTM_DELLINK;
const RTM_GETLINK: u16 = libc::RTM_GETLINK;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_MASTER: u16 = 10;
pub(crate) const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
pub(crate) const IFLA_AF_SPEC: u16 = 26;
pub(crate) const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
pub(crate) const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

const IFF_UP: u32 = libc::IFF_UP as u32;

/// What went through a link in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub bytes: u64,
    pub packets: u64,
    pub dropped: u64,
    pub errors: u64,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `bridge`, `veth`, …; none for a real card and for `lo`.
    pub kind: Option<String>,
    /// The index of the bridge that it is a port of.
    pub master: Option<u32>,
    pub up: bool,
    /// As a port of a bridge it speaks with the host alone, and with no other port that is isolated.
    pub isolated: bool,
    pub mac: [u8; 6],
    pub mtu: u32,
    /// The index of a veth's other end, in that one's namespace.
    pub peer_index: Option<u32>,
    /// Which namespace that is, by the number that this namespace gives it; none when it is this one.
    pub peer_namespace: Option<i32>,
    pub received: Counters,
    pub sent: Counters,
}

/// All links of the socket's namespace, in the order of their indices.
///
/// # Errors
/// Whatever the kernel answers.
pub fn links(socket: &Socket) -> Result<Vec<Link>> {
    let message = Message::new(RTM_GETLINK, NLM_F_DUMP).fixed(&ifinfo(0, 0, 0)).finish();
    let answers = socket.ask("RTM_GETLINK", &message).told(|| "list the network links".into())?;
    let mut links: Vec<_> = answers.iter().filter(|answer| answer.kind == RTM_NEWLINK).filter_map(|answer| parse(&answer.body)).collect();
    links.sort_by_key(|link| link.index);
    Ok(links)
}

/// The link of this name, if there is one; its counters are not asked for.
///
/// # Errors
/// Whatever the kernel answers beside ENODEV.
pub fn find(socket: &Socket, name: &str) -> Result<Option<Link>> {
    let message = Message::new(RTM_GETLINK, 0).fixed(&ifinfo(0, 0, 0)).text(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    match socket.ask(&format!("RTM_GETLINK {name}"), &message.finish()) {
        Ok(answers) => Ok(answers.iter().find_map(|answer| parse(&answer.body))),
        Err(refusal) if refusal.fact.errno() == Errno::ENODEV => Ok(None),
        Err(refusal) => Err(refusal).told(|| format!("look at the link {name}")),
    }
}

/// Deletes a link; of a veth pair both ends go. One that is missing is fine.
///
/// # Errors
/// EOPNOTSUPP for what can't be deleted, a real card.
pub fn delete(socket: &Socket, name: &str) -> Result<()> {
    let message = Message::new(RTM_DELLINK, NLM_F_ACK).fixed(&ifinfo(0, 0, 0)).text(IFLA_IFNAME, name).finish();
    missing_is_fine(socket.change(|| format!("RTM_DELLINK {name}"), message).map(drop)).told(|| format!("delete the link {name}"))
}

pub(crate) fn missing_is_fine(result: Result<(), Refusal>) -> Result<(), Refusal> {
    result.or_else(|refusal| if refusal.fact.errno() == Errno::ENODEV { Ok(()) } else { Err(refusal) })
}

/// `struct ifinfomsg`: address family, index, and which flags to set.
pub(crate) fn ifinfo(family: i32, index: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = family as u8;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

/// The message that switches a link on. `with_ipv6`: as it comes up the kernel gives it an IPv6 link-local address, or not
/// (ip-link(8) `addrgenmode none`), in which case it takes no part in IPv6.
pub(crate) fn up(index: u32, with_ipv6: bool) -> Message {
    let message = Message::new(RTM_NEWLINK, NLM_F_ACK).fixed(&ifinfo(0, index, IFF_UP));
    if with_ipv6 || !kernel_has_ipv6() {
        return message;
    }
    let none = Message::inner().u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
    message.nest(IFLA_AF_SPEC, Message::inner().nest(libc::AF_INET6 as u16, none))
}

/// A kernel booted with `ipv6.disable=1` refuses every word about IPv6.
pub(crate) fn kernel_has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// `02:42:ac:12:00:02`
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn parse(body: &[u8]) -> Option<Link> {
    let rest = body.get(16..)?;
    let flags = u32_of(body.get(8..12)?)?;
    let number = |kind| attribute(rest, kind).and_then(u32_of);
    let info = attribute(rest, IFLA_LINKINFO).unwrap_or_default();
    let stats = attribute(rest, IFLA_STATS64).unwrap_or_default();
    Some(Link {
        index: u32_of(body.get(4..8)?)?,
        name: attribute(rest, IFLA_IFNAME).map(text_of)?,
        kind: attribute(info, IFLA_INFO_KIND).map(text_of),
        master: number(IFLA_MASTER),
        up: flags & IFF_UP != 0,
        isolated: attribute(info, IFLA_INFO_SLAVE_DATA).and_then(|port| attribute(port, IFLA_BRPORT_ISOLATED)) == Some(&[1]),
        mac: attribute(rest, IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).unwrap_or_default(),
        mtu: number(IFLA_MTU).unwrap_or(0),
        peer_index: number(IFLA_LINK).filter(|index| *index != 0),
        peer_namespace: number(IFLA_LINK_NETNSID).map(|id| id as i32),
        received: counters(stats, 0),
        sent: counters(stats, 1),
    })
}

/// `struct rtnl_link_stats64`: packets, bytes, errors, dropped, each received and sent.
fn counters(stats: &[u8], direction: usize) -> Counters {
    let number =
        |at: usize| stats.get((at + direction) * 8..(at + direction + 1) * 8).map_or(0, |b| u64::from_ne_bytes(b.try_into().unwrap_or_default()));
    Counters { packets: number(0), bytes: number(2), errors: number(4), dropped: number(6) }
}
