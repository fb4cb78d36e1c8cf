//! A veth pair: a cable with one end in the bridge and the other, `eth0`, in a container's network namespace.
//!
//! See it: `ip -details link show type veth`, `ip -n NAME address`. Read: veth(4), rtnetlink(7), bridge(8).

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::link::{
    self, IFLA_ADDRESS, IFLA_BRPORT_ISOLATED, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD,
    RTM_NEWLINK, ifinfo, mac_text, missing_is_fine,
};
use super::message::{Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use super::{Cidr, Told, address, needs_module};
use crate::error::{Class, Error, Result};
use crate::sys::call::{Reason, because};
use crate::sys::netlink::Socket;

static CABLE: Reason = Reason {
    id: "network.veth",
    en: "a cable with one end in the bridge and the other in the container's network namespace",
    ko: "한쪽 끝은 브리지에, 다른 쪽 끝은 컨테이너의 네트워크 네임스페이스에 있는 케이블",
    see: "ip -details link show type veth",
};
static INSIDE: Reason = Reason {
    id: "network.inside",
    en: "the container's end gets its address, and the gateway as its way to everywhere else",
    ko: "컨테이너 쪽 끝에 주소를 주고, 다른 모든 곳으로 가는 길로 게이트웨이를 정한다",
    see: "nsenter -t {P} -n ip route",
};
static UNPLUGGED: Reason = Reason {
    id: "network.unplug",
    en: "the cable goes, both ends at once",
    ko: "케이블이 양쪽 끝 모두 한꺼번에 사라진다",
    see: "ip link show type veth",
};

const VETH_INFO_PEER: u16 = 1;
const IFLA_PROTINFO: u16 = 12;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_FLUSH: u16 = 24;
const BR_STATE_DISABLED: u8 = 0;
const RTM_SETLINK: u16 = libc::RTM_SETLINK;

/// The cable that an endpoint wants.
pub struct Veth<'a> {
    /// Its end on the host.
    pub name: &'a str,
    /// The bridge's index.
    pub bridge: u32,
    /// Its end in the container: `eth0`.
    pub inside: &'a str,
    /// The container's.
    pub mac: [u8; 6],
    pub addresses: &'a [Cidr],
    /// Default routes, at most one a family.
    pub gateways: &'a [IpAddr],
    pub mtu: Option<u32>,
    /// Speaks with the host and through it, but not with other isolated ports of the bridge (`icc=false`).
    pub isolated: bool,
}

/// Makes the pair, its end in the bridge and the one in the container's namespace both on, with addresses and routes. `host` and
/// `inside` are sockets of the two namespaces; `namespace` is the container's. What fails half-way leaves nothing.
///
/// # Errors
/// Conflict when a link has one of the names; EPERM.
pub fn connect(host: &Socket, inside: &Socket, namespace: BorrowedFd, wanted: &Veth) -> Result<()> {
    because(&CABLE);
    let doing = || format!("connect {} to {}", wanted.inside, wanted.name);
    let told = || format!("RTM_NEWLINK {} master {} peer {} {}", wanted.name, wanted.bridge, wanted.inside, mac_text(wanted.mac));
    host.change(told, create(wanted, namespace).finish()).told(doing).map_err(|e| needs_module(e, "veth"))?;
    let plugged = plug(host, wanted).and_then(|()| furnish(inside, wanted));
    if plugged.is_err() {
        // The first error is the one that tells something.
        let _ = link::delete(host, wanted.name);
    }
    plugged
}

/// Makes these the container's default routes, and takes away those of a family that has none any more.
///
/// # Errors
/// NotFound when the container has no such link.
pub fn set_gateways(inside: &Socket, gateways: &[IpAddr], name: &str) -> Result<()> {
    because(&INSIDE);
    let doing = || format!("set the gateway of {name}");
    let index = index_of(inside, name)?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let gateway = gateways.iter().find(|gateway| gateway.is_ipv4() == (family == libc::AF_INET));
        let (told, message) = match gateway {
            Some(gateway) => (format!("RTM_NEWROUTE default via {gateway} dev {name}"), address::default_route(index, *gateway)),
            None => (format!("RTM_DELROUTE default dev {name}"), address::no_default_route(index, family)),
        };
        match inside.change(|| told.clone(), message.finish()) {
            // There was none, or the kernel has no such family.
            Err(refusal) if gateway.is_none() && matches!(refusal.fact.errno(), Errno::ESRCH | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => {}
            result => drop(result.told(doing)?),
        }
    }
    Ok(())
}

/// Deletes the pair by its end on the host. One that is missing is fine.
///
/// # Errors
/// Whatever the kernel answers beside ENODEV.
pub fn disconnect(host: &Socket, name: &str) -> Result<()> {
    because(&UNPLUGGED);
    link::delete(host, name)
}

/// Has the bridge forget what it learnt on this port, and pass nothing more through it: the container is dead, but its namespace goes
/// when the kernel finds time, and until then its cable would answer for an address that may be another's by now. One that is
/// missing is fine.
///
/// # Errors
/// Whatever the kernel answers beside ENODEV.
pub fn silence(host: &Socket, name: &str) -> Result<()> {
    let Some(link) = link::find(host, name)?.filter(|link| link.master.is_some()) else { return Ok(()) };
    let port = Message::inner().u8(IFLA_BRPORT_STATE, BR_STATE_DISABLED).bytes(IFLA_BRPORT_FLUSH, &[]);
    let message = set_port(link.index, port);
    missing_is_fine(host.change(|| format!("RTM_SETLINK {name} state disabled, flush"), message.finish()).map(drop))
        .told(|| format!("silence the port {name}"))
}

/// Both ends in one message, each made where it belongs: to make it here and move it costs a hundred times as much, as the kernel then
/// waits until nobody can be using it here any more (synchronize_net).
fn create(wanted: &Veth, namespace: BorrowedFd) -> Message {
    let mtu = |message: Message| wanted.mtu.map_or(message.clone(), |mtu| message.u32(IFLA_MTU, mtu));
    let peer = Message::inner().fixed(&ifinfo(0, 0, 0)).text(IFLA_IFNAME, wanted.inside).bytes(IFLA_ADDRESS, &wanted.mac);
    let peer = mtu(peer.u32(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32));
    let data = Message::inner().nest(VETH_INFO_PEER, peer);
    let info = Message::inner().text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, data);
    let message = Message::new(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).fixed(&ifinfo(0, 0, 0));
    mtu(message.text(IFLA_IFNAME, wanted.name).u32(IFLA_MASTER, wanted.bridge).nest(IFLA_LINKINFO, info))
}

/// Switches the host's end on. A port of a bridge needs no address, so IPv6 is off on it.
fn plug(host: &Socket, wanted: &Veth) -> Result<()> {
    let index = index_of(host, wanted.name)?;
    let mut messages = Vec::new();
    let mut told = String::new();
    if wanted.isolated {
        messages.extend(set_port(index, Message::inner().u8(IFLA_BRPORT_ISOLATED, 1)).finish());
        told = format!("RTM_SETLINK {} isolated, ", wanted.name);
    }
    if bridges_pass_netfilter() {
        messages.extend(set_port(index, Message::inner().u8(IFLA_BRPORT_MODE, 1)).finish());
        told.push_str(&format!("RTM_SETLINK {} hairpin, ", wanted.name));
    }
    messages.extend(link::up(index, false).finish());
    host.change(|| format!("{told}RTM_NEWLINK {} up", wanted.name), messages).told(|| format!("switch {} on", wanted.name))?;
    Ok(())
}

/// Whether br_netfilter is there (Docker loads it): then a bridge translates addresses itself, and what a container sends to its own
/// published port has to go back out of the port that it came in by, which a bridge refuses unless it is in hairpin mode.
fn bridges_pass_netfilter() -> bool {
    std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
}

/// What the container's end needs, in one datagram; a route can only be made over a link that is on.
fn furnish(inside: &Socket, wanted: &Veth) -> Result<()> {
    because(&INSIDE);
    let name = wanted.inside;
    let index = index_of(inside, name)?;
    let with_ipv6 = wanted.addresses.iter().any(|cidr| cidr.address.is_ipv6());
    let mut messages = link::up(index, with_ipv6).finish();
    let mut told = format!("RTM_NEWLINK {name} up");
    for cidr in wanted.addresses {
        messages.extend(address::add(index, cidr).finish());
        told.push_str(&format!(", RTM_NEWADDR {cidr} dev {name}"));
    }
    for gateway in wanted.gateways {
        messages.extend(address::default_route(index, *gateway).finish());
        told.push_str(&format!(", RTM_NEWROUTE default via {gateway} dev {name}"));
    }
    inside.change(|| told.clone(), messages).told(|| format!("give {name} its addresses"))?;
    Ok(())
}

/// A message about a link as port of its bridge.
fn set_port(index: u32, port: Message) -> Message {
    Message::new(RTM_SETLINK, NLM_F_ACK).fixed(&ifinfo(libc::AF_BRIDGE, index, 0)).nest(IFLA_PROTINFO, port)
}

fn index_of(socket: &Socket, name: &str) -> Result<u32> {
    let missing = || Error::new(Class::NotFound, format!("find the link {name}"), "the network namespace has none of that name");
    Ok(link::find(socket, name)?.ok_or_else(missing)?.index)
}
