//! What the kernel has in a network namespace now: links, addresses, routes, neighbours; and which published ports were used how often.
//!
//! See it: `ip -details -statistics link`, `ip address`, `ip route`, `ip neighbour`, `nft list ruleset`. Read: network_namespaces(7).

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};
use crate::network::address::{self, Address, Route};
use crate::network::link::{self, Link};
use crate::network::nat::{self, Published};
use crate::network::neighbour::{self, Neighbour};
use crate::network::way::{self, Way};
use crate::network::{self, Cidr};
use crate::sys::netlink::{self, NETLINK_ROUTE, Socket};

/// One network namespace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Namespace {
    /// The number in `net:[4026531840]`.
    pub inode: u64,
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
}

/// A published port, and how many connections came through our rules for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortUse {
    pub port: Published,
    pub connections: u64,
}

/// This thread's own network namespace.
///
/// # Errors
/// Whatever the kernel answers.
pub fn here() -> Result<Namespace> {
    read(&network::open()?, "/proc/thread-self/ns/net")
}

/// The network namespace of a process; to be asked by who may enter it and come back.
///
/// # Errors
/// NotFound when the process is gone; EPERM.
pub fn of(pid: i32) -> Result<Namespace> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).doing(|| format!("open {path}"))?;
    let socket = netlink::open_in(namespace.as_fd(), NETLINK_ROUTE).doing(|| format!("look into the network namespace of process {pid}"))?;
    read(&socket, &path)
}

fn read(socket: &Socket, path: &str) -> Result<Namespace> {
    Ok(Namespace {
        inode: std::fs::metadata(path).doing(|| format!("look at {path}"))?.ino(),
        links: link::links(socket)?,
        addresses: address::addresses(socket)?,
        routes: address::routes(socket)?,
        neighbours: neighbour::neighbours(socket)?,
    })
}

/// The published ports in our table, as the kernel has them.
///
/// # Errors
/// Whatever the kernel answers.
pub fn ports(table: &str) -> Result<Vec<PortUse>> {
    Ok(nat::counters(table)?.into_iter().map(|counted| PortUse { port: counted.port, connections: counted.connections }).collect())
}

impl Namespace {
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    pub fn link_of(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The addresses of a link, IPv6's own link-local ones aside.
    pub fn addresses_of(&self, index: u32) -> Vec<Cidr> {
        let is_own = |cidr: &Cidr| !matches!(cidr.address, IpAddr::V6(address) if address.is_unicast_link_local());
        self.addresses.iter().filter(|address| address.index == index).map(|address| address.cidr).filter(is_own).collect()
    }

    /// The default routes: link's index and gateway.
    pub fn ways_out(&self) -> Vec<(u32, Option<IpAddr>)> {
        let defaults = self.routes.iter().filter(|route| route.destination.prefix == 0);
        defaults.filter_map(|route| Some((route.index?, route.gateway))).collect()
    }
}

/// The way to an address from this thread's own namespace; None when there is none.
///
/// # Errors
/// Whatever the kernel answers.
pub fn way(to: IpAddr) -> Result<Option<Way>> {
    way::to(&network::open()?, to)
}

/// The same from the network namespace of a process.
///
/// # Errors
/// NotFound when the process is gone; EPERM.
pub fn way_of(pid: i32, to: IpAddr) -> Result<Option<Way>> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).doing(|| format!("open {path}"))?;
    let socket = netlink::open_in(namespace.as_fd(), NETLINK_ROUTE).doing(|| format!("look into the network namespace of process {pid}"))?;
    way::to(&socket, to)
}
