//! A container comes to its networks, and leaves them.
//!
//! ```text
//! host                                      container
//!  onggi0 (bridge, 172.17.0.1/16)
//!    └─ veth3f2a91c ═══════════════════════ eth0 (172.17.0.2/16, default via 172.17.0.1)
//! ```
//! Its first process waits while this is done from outside: the namespace is there, the program isn't.
//!
//! See it: `ip link show master onggi0`, `nsenter -t P -n ip addr`.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::create::{networks_link, still_free};
use super::ground::{self, Ground};
use super::live::{self, Endpoint, Who};
use super::network::{self, Network, Networks};
use crate::engine::home::Home;
use crate::engine::record::Record;
use crate::engine::request::Attachment;
use crate::error::{Class, Doing, Error, Result};
use crate::network::cidr::Cidr;
use crate::network::nat::{self, Published};
use crate::network::ports::Held;
use crate::network::veth::{self, Veth};
use crate::network::{self as net, conntrack};
use crate::sys::netlink;

/// The network namespace of a process.
///
/// # Errors
/// ENOENT when it is gone.
pub fn namespace_of(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    File::open(&path).map(OwnedFd::from).doing(|| format!("open {path}"))
}

/// A container that comes to its networks.
pub struct Arrival<'a> {
    pub who: Who<'a>,
    pub wanted: &'a [Attachment],
    pub namespace: BorrowedFd<'a>,
    /// The host's ports that it holds.
    pub ports: &'a [Held],
}

/// A container on one network.
struct Place {
    network: Network,
    endpoint: Endpoint,
    /// The network with the highest has the way out.
    priority: i32,
}

/// Puts a container on all of its networks, and lets the host's ports lead to it.
///
/// # Errors
/// NotFound for a network that was removed; Conflict for an address; Denied without CAP_NET_ADMIN. Nothing is left behind.
pub fn attach(home: &Home, ground: &Ground, arrival: &Arrival) -> Result<Vec<Endpoint>> {
    let networks = network::lock(home)?;
    let mut places: Vec<Place> = Vec::new();
    for (at, attachment) in arrival.wanted.iter().enumerate() {
        let network = network::load(home, &attachment.network).map_err(|e| if e.class == Class::NotFound { gone(attachment) } else { e })?;
        let network = still_free(&networks, network)?;
        let endpoint = networks.place(&network, &arrival.who, attachment, &format!("eth{at}"))?;
        places.push(Place { network, endpoint, priority: attachment.priority });
    }
    let ways_out = ways_out(&places);
    if let Some(best) = ways_out.first() {
        places[*best].endpoint.published = published(&places[*best], arrival.ports);
    }
    for place in &places {
        networks.change_endpoints(&place.network.id, |there| there.push(place.endpoint.clone()))?;
    }
    let done = ground.inside(|| {
        for (at, place) in places.iter().enumerate() {
            plug_in(home, &place.network, &place.endpoint, &own_gateways(&places, &ways_out, at), arrival.namespace)?;
        }
        let all: Vec<Published> = places.iter().flat_map(|place| place.endpoint.published.clone()).collect();
        if all.is_empty() { Ok(()) } else { nat::publish(&network::table(home), &all) }
    });
    if let Err(e) = done {
        let _ = detach_held(&networks, arrival.who.id, Some(ground));
        return Err(e);
    }
    Ok(places.into_iter().map(|place| place.endpoint).collect())
}

/// Where a running container is now; `wanted` says how much it wants to be there.
fn places_of(home: &Home, container: &str, wanted: &[Attachment]) -> Result<Vec<Place>> {
    let endpoints = live::of_container(home, container)?.into_iter();
    let place = |endpoint: Endpoint| {
        let priority = wanted.iter().find(|attachment| attachment.network == endpoint.network).map_or(0, |attachment| attachment.priority);
        Ok(Place { network: network::load(home, &endpoint.network)?, endpoint, priority })
    };
    endpoints.map(place).collect()
}

fn gone(attachment: &Attachment) -> Error {
    let name = &attachment.name;
    Error::new(Class::NotFound, format!("join the network {name}"), format!("network {name} not found: it was removed"))
        .hint(format!("onggi network create {name}, or create the container anew on another network"))
}

/// One pair of links, from the network's bridge to the container.
///
/// # Errors
/// Denied without CAP_NET_ADMIN; Conflict for a link's name.
pub fn plug_in(home: &Home, network: &Network, endpoint: &Endpoint, gateways: &[IpAddr], namespace: BorrowedFd) -> Result<()> {
    let doing = || format!("join the network {}", network.name);
    let bridge = networks_link(home, network)?;
    let host = net::open()?;
    let inside = netlink::open_in(namespace, netlink::NETLINK_ROUTE).doing(doing)?;
    let wanted = Veth {
        name: &endpoint.link,
        bridge,
        inside: &endpoint.inside,
        mac: endpoint.mac_bytes(),
        addresses: &endpoint.addresses,
        gateways,
        mtu: network.mtu,
        isolated: !network.icc,
    };
    veth::connect(&host, &inside, namespace, &wanted)
}

/// The networks through which the container reaches the rest of the world, the best first: those with the highest priority, then by name.
fn ways_out(places: &[Place]) -> Vec<usize> {
    let mut ways: Vec<usize> = (0..places.len()).filter(|at| !places[*at].network.internal).collect();
    ways.sort_by(|a, b| {
        let (a, b) = (&places[*a], &places[*b]);
        b.priority.cmp(&a.priority).then_with(|| a.network.name.cmp(&b.network.name))
    });
    ways
}

/// The default routes that lead through this one: those that no better way gives already.
fn own_gateways(places: &[Place], ways: &[usize], at: usize) -> Vec<IpAddr> {
    let Some(rank) = ways.iter().position(|way| *way == at) else { return Vec::new() };
    let better = |gateway: &IpAddr| ways[..rank].iter().flat_map(|way| &places[*way].endpoint.gateways).any(|g| g.is_ipv4() == gateway.is_ipv4());
    places[at].endpoint.gateways.iter().copied().filter(|gateway| !better(gateway)).collect()
}

/// Where the host's ports lead, for the kernel: those that are open at an address which others than the host itself can reach.
fn published(place: &Place, ports: &[Held]) -> Vec<Published> {
    let mut published = Vec::new();
    for held in ports.iter().filter(|held| !held.address.ip().is_loopback()) {
        let same_family = |cidr: &&Cidr| cidr.address.is_ipv4() == held.address.is_ipv4();
        let Some(to) = place.endpoint.addresses.iter().find(same_family) else { continue };
        published.push(Published {
            host: Some(held.address.ip()).filter(|ip| !ip.is_unspecified()),
            host_port: held.address.port(),
            protocol: held.protocol,
            to: SocketAddr::new(to.address, held.container),
        });
    }
    published
}

/// Lets the host's ports lead through the best network that a running container has now.
///
/// # Errors
/// EACCES; Denied without CAP_NET_ADMIN.
pub fn republish(home: &Home, record: &Record, ports: &[Held]) -> Result<()> {
    let networks = network::lock(home)?;
    let places = places_of(home, &record.id, &record.networks)?;
    let best = ways_out(&places).first().copied();
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for (at, place) in places.iter().enumerate() {
        let now = if best == Some(at) { published(place, ports) } else { Vec::new() };
        if now == place.endpoint.published {
            continue;
        }
        old.extend(place.endpoint.published.clone());
        new.extend(now.clone());
        networks.change_endpoints(&place.network.id, |there| {
            there.iter_mut().filter(|other| other.id == place.endpoint.id).for_each(|other| other.published.clone_from(&now));
        })?;
    }
    let table = network::table(home);
    ground::get(home)?.inside(|| {
        if !old.is_empty() {
            nat::unpublish(&table, &old)?;
        }
        if new.is_empty() { Ok(()) } else { nat::publish(&table, &new) }
    })
}

/// Takes a container off all networks; its namespace is about to go, and its links with it. Nothing to do is fine.
///
/// # Errors
/// EACCES; Denied without CAP_NET_ADMIN.
pub fn detach(home: &Home, container: &str) -> Result<()> {
    // A look without the lock: nobody else puts a container on a network while we clear up behind it.
    match live::of_container(home, container)?.is_empty() {
        true => Ok(()),
        false => detach_held(&network::lock(home)?, container, None),
    }
}

fn detach_held(networks: &Networks, container: &str, ground: Option<&Ground>) -> Result<()> {
    let home = networks.home;
    let endpoints = live::of_container(home, container)?;
    let present = if ground.is_none() { ground::present(home)? } else { None };
    if let Some(ground) = ground.or(present.as_ref()) {
        ground.inside(|| unplug(home, &endpoints))?;
    }
    // Only now are the addresses free.
    for endpoint in &endpoints {
        networks.change_endpoints(&endpoint.network, |there| there.retain(|other| other.container != container))?;
    }
    Ok(())
}

/// The host's side of endpoints whose container is dead. The links vanish with its namespace, some moments later; until then they are silent.
fn unplug(home: &Home, endpoints: &[Endpoint]) -> Result<()> {
    let host = net::open()?;
    let mut first_error: Option<Error> = None;
    let mut note = |result: Result<()>| first_error = first_error.take().or(result.err());
    let published: Vec<Published> = endpoints.iter().flat_map(|endpoint| endpoint.published.clone()).collect();
    if !published.is_empty() {
        note(nat::unpublish(&network::table(home), &published));
    }
    endpoints.iter().for_each(|endpoint| note(veth::silence(&host, &endpoint.link)));
    if !published.is_empty() {
        // Who still sends to a published port would be led to the dead address for minutes (UDP), whoever publishes the port next.
        let addresses: Vec<IpAddr> = endpoints.iter().flat_map(|endpoint| &endpoint.addresses).map(|cidr| cidr.address).collect();
        note(conntrack::forget(&addresses));
    }
    first_error.map_or(Ok(()), Err)
}

/// Takes a running container off one network: its pair of links goes at once.
///
/// # Errors
/// EACCES; Denied without CAP_NET_ADMIN.
pub fn detach_one(networks: &Networks, endpoint: &Endpoint) -> Result<()> {
    let home = networks.home;
    if let Some(ground) = ground::present(home)? {
        ground.inside(|| {
            unplug(home, std::slice::from_ref(endpoint))?;
            let host = net::open()?;
            veth::disconnect(&host, &endpoint.link)
        })?;
    }
    networks.change_endpoints(&endpoint.network, |there| there.retain(|other| other.container != endpoint.container))
}

/// The better default routes of a container after its networks have changed.
///
/// # Errors
/// ENODEV, EPERM.
pub fn set_routes(home: &Home, container: &str, wanted: &[Attachment], namespace: &OwnedFd) -> Result<()> {
    let places = places_of(home, container, wanted)?;
    let ways = ways_out(&places);
    let inside = netlink::open_in(namespace.as_fd(), netlink::NETLINK_ROUTE).doing(|| "set the default route".into())?;
    let set = |(at, place): (usize, &Place)| veth::set_gateways(&inside, &own_gateways(&places, &ways, at), &place.endpoint.inside);
    places.iter().enumerate().try_for_each(set)
}
