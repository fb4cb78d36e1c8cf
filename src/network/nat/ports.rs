//! Published ports: elements of the maps that the rules look into.
//!
//! See it: `nft list map inet onggi published_any_v4`. Read: nft(8) "MAPS".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::super::Told;
use super::super::message::address_of;
use super::super::nft::set::{Element, padded};
use super::super::nft::{self, Batch, look};
use super::super::ports::Protocol;
use super::rules::{ANY_V4, ANY_V6, EXACT_V4, EXACT_V6};
use crate::error::Result;
use crate::sys::call::{Reason, because};

static PUBLISH: Reason = Reason {
    id: "network.publish",
    en: "packets to this port of the host have the container as their new destination",
    ko: "호스트의 이 포트로 온 패킷의 목적지를 컨테이너로 바꾼다",
    see: "nft list ruleset",
};

/// A port of the host that leads to a port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// One of the host's addresses, or all of the family that `to` has.
    pub host: Option<IpAddr>,
    pub host_port: u16,
    pub protocol: Protocol,
    pub to: SocketAddr,
}

/// How often a published port was used: the first packet of each connection is what the rules see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortCounters {
    pub port: Published,
    pub connections: u64,
}

/// Opens these ports, all or none. One that led elsewhere leads here now: who publishes holds the host's socket, so the other is dead.
///
/// # Errors
/// ENOENT when the table is missing; EPERM.
pub fn publish(table: &str, ports: &[Published]) -> Result<()> {
    because(&PUBLISH);
    let socket = nft::open()?;
    let elements = elements(ports);
    let add = || {
        let mut batch = Batch::new(table);
        batch.add(&elements);
        batch.commit(&socket)
    };
    let added = match add() {
        Err(refusal) if matches!(refusal.fact.errno(), Errno::EEXIST | Errno::EBUSY) => {
            unpublish(table, ports)?;
            add()
        }
        result => result,
    };
    added.told(|| "publish ports".into())
}

/// Closes these ports to new connections. What is missing is fine.
///
/// # Errors
/// EPERM.
pub fn unpublish(table: &str, ports: &[Published]) -> Result<()> {
    let socket = nft::open()?;
    let elements = elements(ports);
    let delete = |elements: &[Element]| {
        let mut batch = Batch::new(table);
        batch.delete(elements);
        batch.commit(&socket)
    };
    let doing = || "unpublish ports".to_string();
    match delete(&elements) {
        // One that is missing keeps the others from going: one after the other then.
        Err(refusal) if refusal.fact.errno() == Errno::ENOENT => {
            elements.iter().try_for_each(|element| super::missing_is_fine(delete(std::slice::from_ref(element))).told(doing))
        }
        result => result.told(doing),
    }
}

/// All published ports with the number of connections that came through each.
///
/// # Errors
/// Whatever the kernel answers.
pub fn counters(table: &str) -> Result<Vec<PortCounters>> {
    let socket = nft::open()?;
    let mut found = Vec::new();
    for (map, v6, exact) in [(EXACT_V4, false, true), (EXACT_V6, true, true), (ANY_V4, false, false), (ANY_V6, true, false)] {
        let listed = look::elements(&socket, table, map)?;
        found.extend(listed.iter().filter_map(|element| Some(PortCounters { port: read(element, v6, exact)?, connections: element.packets })));
    }
    Ok(found)
}

/// One element a port, those of one map after the other. 127.0.0.1 and ::1 have none: nobody from outside may come in there.
fn elements(ports: &[Published]) -> Vec<Element> {
    let mut elements: Vec<_> = ports.iter().filter(|port| !port.host.is_some_and(|host| host.is_loopback())).map(element).collect();
    elements.sort_by_key(|element| element.set);
    elements
}

fn element(port: &Published) -> Element {
    // 0.0.0.0 and :: are how people write "any".
    let host = port.host.filter(|host| !host.is_unspecified());
    let set = match (host.is_some(), port.to.is_ipv6()) {
        (true, false) => EXACT_V4,
        (true, true) => EXACT_V6,
        (false, false) => ANY_V4,
        (false, true) => ANY_V6,
    };
    let mut key = host.map(octets).unwrap_or_default();
    key.extend(padded(&[port.protocol as u8]));
    key.extend(padded(&port.host_port.to_be_bytes()));
    let data = [octets(port.to.ip()), padded(&port.to.port().to_be_bytes())].concat();
    let told = format!("{} {} {} to {}", host.map_or("any".into(), |host| host.to_string()), port.protocol, port.host_port, port.to);
    Element { set, key, data, told }
}

fn read(element: &look::Counted, v6: bool, exact: bool) -> Option<Published> {
    let (key, length) = (&element.key, if v6 { 16 } else { 4 });
    let rest = key.get(if exact { length } else { 0 }..)?;
    let port = |bytes: Option<&[u8]>| Some(u16::from_be_bytes(bytes?.try_into().ok()?));
    let protocol = match rest.first()? {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return None,
    };
    let to = SocketAddr::new(address_of(element.data.get(..length)?)?, port(element.data.get(length..length + 2))?);
    let host = if exact { Some(address_of(key.get(..length)?)?) } else { None };
    Some(Published { host, host_port: port(rest.get(4..6))?, protocol, to })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
    }
}
