//! A bridge: the switch in the kernel that the containers of a network are plugged into. The host has the gateway's address on it.
//!
//! See it: `ip -details link show type bridge`, `bridge link`. Read: bridge(8), ip-link(8) "BRIDGE Type Support".

use std::fs;
use std::net::IpAddr;

use super::link::{self, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, Link, RTM_NEWLINK, ifinfo};
use super::message::{Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use super::{Cidr, Told, address, needs_module, open};
use crate::error::{Class, Doing, Error, Result};
use crate::sys::call::{Reason, because};
use crate::sys::netlink::Socket;

static BRIDGE: Reason = Reason {
    id: "network.bridge",
    en: "a switch in the kernel for the network's containers; the host has the gateway's address on it",
    ko: "네트워크의 컨테이너들을 잇는 커널 안의 스위치로, 호스트는 그 위에 게이트웨이 주소를 갖는다",
    see: "ip -details link show type bridge",
};

const IFLA_BR_FORWARD_DELAY: u16 = 1;

/// The bridge that a network wants.
pub struct Bridge<'a> {
    pub name: &'a str,
    /// The gateways, with the network's prefix.
    pub addresses: &'a [Cidr],
    pub mtu: Option<u32>,
    /// None: one made of the first address.
    pub mac: Option<[u8; 6]>,
}

/// The index of the bridge, which is made when it isn't there and finished when somebody died while making it.
///
/// # Errors
/// Conflict when a link of that name is no bridge; EPERM without CAP_NET_ADMIN.
pub fn ensure(wanted: &Bridge) -> Result<u32> {
    let socket = open()?;
    // Switching it on is the last step, so what is on is whole.
    if let Some(index) = look(&socket, wanted.name)?.filter(|link| link.up).map(|link| link.index) {
        return Ok(index);
    }
    because(&BRIDGE);
    let doing = || format!("make the bridge {}", wanted.name);
    match socket.change(|| format!("RTM_NEWLINK {} type bridge", wanted.name), create(wanted).finish()) {
        // Half-made, or another process is at it: all the steps that follow may be done twice.
        Err(refusal) if refusal.fact.errno() == nix::errno::Errno::EEXIST => {}
        result => drop(result.told(doing).map_err(|e| needs_module(e, "bridge"))?),
    }
    let index = look(&socket, wanted.name)?
        .ok_or_else(|| Error::new(Class::Conflict, doing(), "somebody deleted it in the same moment").hint("try again"))?
        .index;
    quiet_ipv6(wanted.name);
    let with_ipv6 = wanted.addresses.iter().any(|cidr| cidr.address.is_ipv6());
    let mut messages: Vec<u8> = wanted.addresses.iter().flat_map(|cidr| address::add(index, cidr).finish()).collect();
    messages.extend(link::up(index, with_ipv6).finish());
    let told = wanted.addresses.iter().map(|cidr| format!("RTM_NEWADDR {cidr} dev {}, ", wanted.name)).collect::<String>();
    socket.change(|| format!("{told}RTM_NEWLINK {} up", wanted.name), messages).told(doing)?;
    Ok(index)
}

/// Deletes the bridge. One that is missing is fine.
///
/// # Errors
/// Conflict when a link of that name is no bridge.
pub fn remove(name: &str) -> Result<()> {
    let socket = open()?;
    match look(&socket, name)? {
        Some(_) => link::delete(&socket, name),
        None => Ok(()),
    }
}

/// Has the kernel pass on packets that are for others, which is off on a machine that is no router. Answers whether it was off.
///
/// # Errors
/// When `/proc/sys` can't be written.
pub fn forwarding(v6: bool) -> Result<bool> {
    let path = if v6 { "/proc/sys/net/ipv6/conf/all/forwarding" } else { "/proc/sys/net/ipv4/ip_forward" };
    let doing = || format!("switch forwarding on in {path}");
    if fs::read_to_string(path).doing(doing)?.trim() != "0" {
        return Ok(false);
    }
    if v6 {
        keep_router_advertisements();
    }
    let hint = if v6 { "as root: sysctl -w net.ipv6.conf.all.forwarding=1" } else { "as root: sysctl -w net.ipv4.ip_forward=1" };
    fs::write(path, "1").doing(doing).map_err(|e| e.hint(hint))?;
    Ok(true)
}

/// A router takes no advice from other routers (accept_ra=1 means "unless forwarding"): a host that has its own address and its default
/// route from them would lose both. 2 means "even so". See Documentation/networking/ip-sysctl.rst.
fn keep_router_advertisements() {
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
        let path = entry.path().join("accept_ra");
        if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
            let _ = fs::write(&path, "2");
        }
    }
}

/// The link of that name, which has to be a bridge.
fn look(socket: &Socket, name: &str) -> Result<Option<Link>> {
    match link::find(socket, name)? {
        Some(link) if link.kind.as_deref() != Some("bridge") => {
            let kind = link.kind.unwrap_or_else(|| "real card".into());
            let why = format!("the host has a link of that name, which is a {kind}");
            Err(Error::new(Class::Conflict, format!("use {name} as a bridge"), why).hint(format!("see `ip -details link show {name}`")))
        }
        found => Ok(found),
    }
}

fn create(wanted: &Bridge) -> Message {
    // Without an address of its own a bridge takes the lowest of its ports', and changes it as they come and go.
    let mac = wanted.mac.unwrap_or_else(|| mac_of(wanted));
    // The delay is the time that a new port listens for loops before it forwards: there are none among containers.
    let data = Message::inner().u32(IFLA_BR_FORWARD_DELAY, 0);
    let info = Message::inner().text(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, data);
    let message = Message::new(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).fixed(&ifinfo(0, 0, 0));
    let message = message.text(IFLA_IFNAME, wanted.name).bytes(IFLA_ADDRESS, &mac).nest(IFLA_LINKINFO, info);
    wanted.mtu.map_or(message.clone(), |mtu| message.u32(IFLA_MTU, mtu))
}

/// 02 marks an address as made by us and not by a manufacturer; 42 is Docker's custom.
fn mac_of(wanted: &Bridge) -> [u8; 6] {
    let octets = wanted.addresses.iter().find_map(|cidr| match cidr.address {
        IpAddr::V4(address) => Some(address.octets()),
        IpAddr::V6(_) => None,
    });
    // FNV-1a of the name, when there is no IPv4 address.
    let hash = wanted.name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = octets.unwrap_or(hash.to_be_bytes());
    [0x02, 0x42, a, b, c, d]
}

/// The host believes no router advertisement out of a container (CVE-2020-13401), and doesn't wait for duplicates of its own addresses.
fn quiet_ipv6(name: &str) {
    for setting in ["accept_ra", "accept_dad"] {
        // Missing without IPv6, and then not needed.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{setting}"), "0");
    }
}
