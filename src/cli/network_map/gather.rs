//! What the kernel has and what the engine knows, laid over each other. Where they differ stands a note; nothing is changed.
//!
//! See it: `ip -d link`, `nft list ruleset`, `cat /run/onggi/networks/*.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::model::{Bridge, Cable, Container, Host, Map, Port, Traffic, Uplink};
use crate::engine::home::Home;
use crate::engine::networks::live::{self, Endpoint};
use crate::engine::networks::network::{self, Driver, Network};
use crate::engine::networks::{describe, ground};
use crate::engine::record::{self, Record};
use crate::engine::request::NetworkMode;
use crate::error::Result;
use crate::id;
use crate::inspect::network::{self as facts, Namespace, PortUse};
use crate::network::link::{Counters, Link, mac_text};

/// What is read from the kernel in one go, where the bridges are.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    host: Namespace,
    forwarding: bool,
    containers: BTreeMap<i32, Namespace>,
    ports: Vec<PortUse>,
}

/// Draws nothing yet: gathers all about these networks (all of them, when none is named). Nothing is changed.
///
/// # Errors
/// NotFound for a network; EPERM for who may not look into the containers' namespaces.
pub fn gather(home: &Home, names: &[String]) -> Result<Map> {
    let mut networks: Vec<Network> = match names {
        [] => network::list(home)?,
        names => names.iter().map(|name| network::find(home, name)).collect::<Result<_>>()?,
    };
    networks.retain(|network| network.driver == Driver::Bridge);
    let mut endpoints = Vec::new();
    for network in &networks {
        endpoints.extend(live::endpoints(home, &network.id)?);
    }
    let running: Vec<Record> = record::list(home, false)?.into_iter().filter(|record| record.is_active() && record.state.init.is_some()).collect();
    let records: Vec<&Record> = running.iter().filter(|record| names.is_empty() || is_on(record, &networks)).collect();
    let pids: Vec<i32> = records.iter().filter_map(|record| record.state.init.map(|init| init.pid)).collect();
    let table = network::table(home);
    let look = || {
        // A container that ends while we look is simply gone.
        let containers = pids.iter().filter_map(|pid| Some((*pid, facts::of(*pid).ok()?))).collect();
        let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() != "0");
        Ok(Seen { host: facts::here()?, forwarding, containers, ports: facts::ports(&table).unwrap_or_default() })
    };
    let seen = match ground::present(home)? {
        Some(ground) => ground.inside(look)?,
        // Nothing of ours is there yet; where the host's packets go is there.
        None => Seen { host: facts::here()?, ..Seen::default() },
    };
    let mut map = Map { host: host(&seen), ..Map::default() };
    map.networks = networks.iter().map(|network| bridge(network, &seen.host, &endpoints)).collect();
    map.containers = records.iter().map(|record| container(record, &running, &endpoints, &networks, &seen)).collect();
    map.containers.sort_by(|a, b| a.name.cmp(&b.name));
    map.unknown = unknown(&networks, &endpoints, &running, &seen, names.is_empty());
    Ok(map)
}

fn is_on(record: &Record, networks: &[Network]) -> bool {
    record.networks.iter().any(|attachment| networks.iter().any(|network| network.id == attachment.network))
}

fn host(seen: &Seen) -> Host {
    let (forwarding, seen) = (seen.forwarding, &seen.host);
    let mut uplinks: Vec<Uplink> = Vec::new();
    for (index, gateway) in seen.ways_out() {
        let Some(link) = seen.link_of(index) else { continue };
        match uplinks.iter_mut().find(|uplink| uplink.link == link.name) {
            Some(uplink) => uplink.gateway = uplink.gateway.or(gateway),
            None => uplinks.push(Uplink { link: link.name.clone(), addresses: texts(seen, index), gateway }),
        }
    }
    Host {
        name: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        namespace: seen.inode,
        forwarding,
        uplinks,
    }
}

fn texts(seen: &Namespace, index: u32) -> Vec<String> {
    seen.addresses_of(index).iter().map(ToString::to_string).collect()
}

fn bridge(network: &Network, seen: &Namespace, endpoints: &[Endpoint]) -> Bridge {
    let link = seen.link(&network.link);
    let is_used = endpoints.iter().any(|endpoint| endpoint.network == network.id);
    let mut notes = Vec::new();
    let addresses = link.map(|link| texts(seen, link.index)).unwrap_or_default();
    match link {
        None if is_used => notes.push(format!("the kernel has no bridge {}: the next container that starts here makes it anew", network.link)),
        None => {}
        Some(link) if !link.up => notes.push(format!("it is down: ip link set {} up", network.link)),
        Some(_) => {
            let wanted = network.subnets.iter().map(|subnet| format!("{}/{}", subnet.gateway, subnet.subnet.prefix));
            notes.extend(wanted.filter(|wanted| !addresses.contains(wanted)).map(|lost| format!("its address {lost} is missing in the kernel")));
        }
    }
    Bridge {
        name: network.name.clone(),
        id: id::short(&network.id).into(),
        link: network.link.clone(),
        present: link.is_some(),
        addresses,
        internal: network.internal,
        masquerade: network.masquerade && !network.internal,
        open: network.icc,
        has_names: network.has_names(),
        notes,
    }
}

fn container(record: &Record, running: &[Record], endpoints: &[Endpoint], networks: &[Network], seen: &Seen) -> Container {
    let pid = record.state.init.map_or(0, |init| init.pid);
    let inside = seen.containers.get(&pid);
    let mut own: Vec<&Endpoint> = endpoints.iter().filter(|endpoint| endpoint.container == record.id).collect();
    // eth10 is behind eth9.
    own.sort_by_key(|endpoint| (endpoint.inside.len(), endpoint.inside.clone()));
    let mut notes = Vec::new();
    for attachment in record.networks.iter().filter(|attachment| networks.iter().any(|network| network.id == attachment.network)) {
        if !own.iter().any(|endpoint| endpoint.network == attachment.network) {
            notes.push(format!("it should be on {}, and has no place there: onggi restart {}", attachment.name, record.name));
        }
    }
    let shares = match &record.network {
        NetworkMode::Host => Some("host".into()),
        NetworkMode::Container(other) => {
            Some(running.iter().find(|record| record.id == *other).map_or_else(|| describe::mode(record), |other| other.name.clone()))
        }
        _ => None,
    };
    Container {
        name: record.name.clone(),
        id: id::short(&record.id).into(),
        pid,
        namespace: inside.map_or(0, |inside| inside.inode),
        shares,
        cables: own.iter().map(|endpoint| cable(endpoint, networks, &seen.host, inside)).collect(),
        ports: record.state.ports.iter().map(|port| port_of(port, &seen.ports)).collect(),
        notes,
    }
}

fn cable(endpoint: &Endpoint, networks: &[Network], host: &Namespace, inside: Option<&Namespace>) -> Cable {
    let bridge = networks.iter().find(|network| network.id == endpoint.network).and_then(|network| host.link(&network.link));
    let outer = host.link(&endpoint.link);
    let inner = inside.and_then(|inside| inside.link(&endpoint.inside));
    let addresses = inner.zip(inside).map(|(link, inside)| texts(inside, link.index)).unwrap_or_default();
    let mut notes = Vec::new();
    match outer {
        None => notes.push(format!("the kernel has no link {}", endpoint.link)),
        Some(link) if !link.up => notes.push(format!("{} is down: ip link set {0} up", link.name)),
        Some(link) if link.master != bridge.map(|bridge| bridge.index) => notes.push(format!("{} is no port of the bridge", link.name)),
        Some(_) => {}
    }
    match inner {
        None => notes.push(format!("there is no {} in its namespace", endpoint.inside)),
        Some(link) if !link.up => notes.push(format!("{} is down inside", link.name)),
        Some(_) => {
            let lost = endpoint.addresses.iter().map(ToString::to_string).filter(|wanted| !addresses.contains(wanted));
            notes.extend(lost.map(|lost| format!("its address {lost} is missing inside")));
        }
    }
    let (received, sent) = traffic(inner, outer);
    let has_names = networks.iter().any(|network| network.id == endpoint.network && network.has_names());
    let names = std::iter::once(&endpoint.name).chain(&endpoint.aliases).filter(|_| has_names).cloned().collect();
    Cable {
        network: endpoint.network_name.clone(),
        outside: endpoint.link.clone(),
        inside: endpoint.inside.clone(),
        addresses,
        mac: inner.map_or_else(String::new, |link| mac_text(link.mac)),
        names,
        way_in: !endpoint.published.is_empty(),
        received,
        sent,
        notes,
    }
}

/// From the container's side; what the host's end has sent, the container has received.
fn traffic(inner: Option<&Link>, outer: Option<&Link>) -> (Traffic, Traffic) {
    let of = |counters: Counters| Traffic { bytes: counters.bytes, packets: counters.packets };
    match (inner, outer) {
        (Some(link), _) => (of(link.received), of(link.sent)),
        (None, Some(link)) => (of(link.sent), of(link.received)),
        (None, None) => Default::default(),
    }
}

fn port_of(port: &record::Port, seen: &[PortUse]) -> Port {
    let host = Some(port.host.ip()).filter(|ip| !ip.is_unspecified());
    let is_same = |used: &&PortUse| {
        let to = &used.port;
        to.host_port == port.host.port() && to.protocol == port.protocol && to.host == host && to.to.is_ipv4() == port.host.is_ipv4()
    };
    Port {
        host: port.host.to_string(),
        container: format!("{}/{}", port.container, port.protocol),
        connections: seen.iter().find(is_same).map(|used| used.connections),
    }
}

fn unknown(networks: &[Network], endpoints: &[Endpoint], running: &[Record], seen: &Seen, all: bool) -> Vec<String> {
    let mut told = Vec::new();
    for network in networks {
        let Some(bridge) = seen.host.link(&network.link) else { continue };
        let ports = seen.host.links.iter().filter(|link| link.master == Some(bridge.index));
        let strange = ports.filter(|link| !endpoints.iter().any(|endpoint| endpoint.link == link.name));
        told.extend(
            strange.map(|link| format!("{} is plugged into {} ({}), and no container of ours is behind it", link.name, network.link, network.name)),
        );
    }
    let gone = endpoints.iter().filter(|endpoint| !running.iter().any(|record| record.id == endpoint.container));
    told.extend(gone.map(|endpoint| {
        let addresses = endpoint.addresses.iter().map(|cidr| cidr.address.to_string()).collect::<Vec<_>>().join(" ");
        format!("{} holds {addresses} on {}, and doesn't run: the next command frees it", endpoint.name, endpoint.network_name)
    }));
    if all {
        let ours = |link: &&Link| link.kind.as_deref() == Some("bridge") && (link.name == "onggi0" || link.name.starts_with("og-"));
        let strange = seen.host.links.iter().filter(ours).filter(|link| !networks.iter().any(|network| network.link == link.name));
        told.extend(strange.map(|link| format!("the bridge {} is no network of this engine: another ONGGI_ROOT's, or left over", link.name)));
        let leads = |used: &&PortUse| endpoints.iter().any(|e| e.addresses.iter().any(|cidr| cidr.address == used.port.to.ip()));
        let strange = seen.ports.iter().filter(|used| !leads(used));
        told.extend(strange.map(|used| format!("port {} of the host leads to {}, where nobody is", used.port.host_port, used.port.to)));
    }
    told
}
