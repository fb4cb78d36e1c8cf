//! The first hop: who says what address a name stands for. When nobody does, and a container of that name runs, the trace goes on with
//! its address, to show what else lies between.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::world::World;
use super::{Answer, Hop, Target};
use crate::engine::etc_files::EMBEDDED;
use crate::engine::names as containers;
use crate::engine::networks::live::Endpoint;
use crate::engine::networks::network::Network;
use crate::engine::record::Record;
use crate::engine::request::NetworkMode;
use crate::error::Result;
use crate::id;
use crate::inspect::network_proof as proof;
use crate::network::dns::resolv_conf;

/// A name server in another part of the world may take its time.
const PATIENCE: Duration = Duration::from_secs(4);

/// The address behind a name, as the sender learns it, and what was seen on the way.
///
/// # Errors
/// EPERM for who may not enter the sender's namespace.
pub fn resolve(world: &World, target: &Target) -> Result<(Option<IpAddr>, Vec<Hop>)> {
    let name = &target.name;
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok((Some(address), Vec::new()));
    }
    if name == "host" {
        return Ok(host(world));
    }
    let own = &world.from.name;
    let see = format!("onggi exec {own} nslookup {name}");
    if let Some(address) = in_hosts(world, name) {
        return Ok((
            Some(address),
            vec![Hop::new("name", format!("/etc/hosts of {own} says that {name} is {address}"), format!("onggi exec {own} cat /etc/hosts"))],
        ));
    }
    let servers = servers(world);
    let asks_monitor = servers.iter().any(|server| server.ip() == EMBEDDED);
    let known = if asks_monitor { known(world, name) } else { Vec::new() };
    if let Some((first, _)) = known.first() {
        let address = first.addresses.first().map(|cidr| cidr.address);
        let all: Vec<String> = known.iter().map(|(endpoint, network)| format!("{} on {network}", addresses(endpoint))).collect();
        let hop = Hop::new("name", format!("127.0.0.11, the monitor of {own}, knows {name}: {}", all.join(", ")), see);
        return Ok((address, vec![confirmed(world, &servers, name, address, hop)?]));
    }
    match containers::find(world.home, name).ok() {
        Some(other) => Ok(unreachable_by_name(world, &other, name, asks_monitor, see)),
        None => in_the_world(world, &servers, name, see),
    }
}

fn text(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "no address".into(), |address| address.to_string())
}

/// The host, as the sender sees it: the gateway of its first network that has one.
fn host(world: &World) -> (Option<IpAddr>, Vec<Hop>) {
    let own = &world.from.name;
    if world.from.network == NetworkMode::Host {
        let address = IpAddr::from([127, 0, 0, 1]);
        return (Some(address), vec![Hop::new("name", format!("{own} is in the host's network: the host is {address}"), "")]);
    }
    let gateway = |endpoint: &&Endpoint| {
        let network = world.network(&endpoint.network)?;
        Some((network.subnets.first()?.gateway, network.name.clone()))
    };
    match world.own().iter().find_map(gateway) {
        Some((address, network)) => {
            let hop = Hop::new("name", format!("the host is the gateway of {network}: {address}"), format!("onggi exec {own} ip route"));
            (Some(address), vec![hop])
        }
        None => {
            let hop = Hop::new("name", format!("{own} is on no network: the host has no address there"), format!("onggi inspect {own}"));
            (None, vec![hop.stops(format!("onggi network connect bridge {own}"))])
        }
    }
}

fn in_hosts(world: &World, name: &str) -> Option<IpAddr> {
    // The same file that is bound over /etc/hosts inside.
    let text = std::fs::read_to_string(world.home.container(&world.owner.id).join("hosts")).ok()?;
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().find_map(line)
}

fn servers(world: &World) -> Vec<SocketAddr> {
    let file = world.home.container(&world.owner.id).join("resolv.conf");
    let conf = resolv_conf::parse(&std::fs::read_to_string(file).unwrap_or_default());
    conf.nameservers.iter().filter_map(|server| server.socket_address()).collect()
}

fn addresses(endpoint: &Endpoint) -> String {
    endpoint.addresses.iter().map(|cidr| cidr.address.to_string()).collect::<Vec<_>>().join(" ")
}

/// Who has this name on the sender's networks. Programs try all addresses of a name, so the first one here is on a network whose containers
/// may speak with each other, if there is one.
fn known<'a>(world: &'a World, name: &str) -> Vec<(&'a Endpoint, &'a str)> {
    let links = |endpoint: &Endpoint| {
        let attachment = world.owner.networks.iter().find(|attachment| attachment.network == endpoint.network);
        attachment.is_some_and(|a| a.links.iter().any(|(alias, id)| alias.eq_ignore_ascii_case(name) && *id == endpoint.container))
    };
    let mut networks: Vec<_> = world.own().into_iter().filter_map(|own| world.network(&own.network)).filter(|network| network.has_names()).collect();
    networks.sort_by_key(|network| !network.icc);
    let on = |network: &'a Network| {
        let bare = name.strip_suffix(&format!(".{}", network.name)).unwrap_or(name).to_string();
        let is_meant = move |endpoint: &&Endpoint| {
            let mut all = std::iter::once(&endpoint.name).chain(&endpoint.aliases);
            endpoint.network == network.id && (all.any(|known| known.eq_ignore_ascii_case(&bare)) || links(endpoint))
        };
        world.endpoints.iter().filter(is_meant).map(|endpoint| (endpoint, network.name.as_str())).collect::<Vec<_>>()
    };
    networks.into_iter().flat_map(on).collect()
}

/// The question is really asked: what is predicted and what is answered may be two things.
fn confirmed(world: &World, servers: &[SocketAddr], name: &str, predicted: Option<IpAddr>, hop: Hop) -> Result<Hop> {
    let answer = ask(world, servers, name)?;
    Ok(match answer {
        Some(found) if predicted.is_some_and(|address| found.contains(&address)) => hop,
        Some(found) => {
            let seen = format!("{}; asked, it says {}", hop.seen, list(&found));
            Hop { seen, ..hop }.unknown(format!("onggi restart {}", world.owner.name))
        }
        None => {
            let seen = format!("{}; asked, it does not answer", hop.seen);
            Hop { seen, ..hop }.stops(format!("onggi restart {}", world.owner.name))
        }
    })
}

fn ask(world: &World, servers: &[SocketAddr], name: &str) -> Result<Option<Vec<IpAddr>>> {
    let servers: Vec<SocketAddr> = servers.iter().take(2).copied().collect();
    proof::inside(world.pid, || servers.iter().find_map(|server| proof::resolve(*server, name, PATIENCE / 2)))
}

fn list(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() { "that there is no such name".into() } else { addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ") }
}

/// There is such a container, and the sender does not learn its address by this name.
fn unreachable_by_name(world: &World, other: &Record, name: &str, asks_monitor: bool, see: String) -> (Option<IpAddr>, Vec<Hop>) {
    let own = &world.from.name;
    let theirs = match &other.network {
        NetworkMode::Container(id) => world.of(id),
        _ => world.of(&other.id),
    };
    let mine = world.own();
    let shared = theirs.iter().find(|endpoint| mine.iter().any(|own| own.network == endpoint.network)).copied();
    let address = shared.or(theirs.first().copied()).and_then(|endpoint| endpoint.addresses.first()).map(|cidr| cidr.address);
    let stop = |seen: String, remedy: String| (address, vec![Hop::new("name", seen, see.clone()).stops(remedy)]);
    let names = |endpoint: &&Endpoint| world.network(&endpoint.network).filter(|network| network.has_names()).map(|network| network.name.clone());
    if !other.is_active() {
        return stop(format!("{name} does not run: only who runs has an address"), format!("onggi start {name}"));
    }
    if other.network == NetworkMode::Host {
        let (address, _) = host(world);
        let hop = Hop::new("name", format!("{name} is in the host's network, and has no name of its own"), see);
        return (address, vec![hop.stops(format!("say host instead of {name}: onggi network trace {own} host"))]);
    }
    match (theirs.is_empty(), shared.is_some()) {
        (true, _) => stop(format!("{name} is on no network"), format!("onggi network connect NETWORK {name}")),
        (false, true) if asks_monitor && shared.is_some_and(|endpoint| names(&endpoint).is_some()) => stop(
            format!("{name} is the beginning of an ID, which is no name on a network: {} is one", other.name),
            format!("onggi network trace {own} {}", other.name),
        ),
        (false, true) => stop(
            format!("the default bridge has no names: nobody there tells {own} where {name} is, though it is {}", text(address)),
            format!("onggi network create app && onggi network connect app {own} && onggi network connect app {name}"),
        ),
        (false, false) => {
            let where_they = theirs.iter().map(|endpoint| endpoint.network_name.as_str()).collect::<Vec<_>>().join(", ");
            let where_i = mine.iter().map(|endpoint| endpoint.network_name.as_str()).collect::<Vec<_>>().join(", ");
            let remedy = match (theirs.iter().find_map(names), mine.iter().find_map(names)) {
                (Some(network), _) => format!("onggi network connect {network} {own}"),
                (None, Some(network)) => format!("onggi network connect {network} {name}"),
                (None, None) => format!("onggi network create app && onggi network connect app {own} && onggi network connect app {name}"),
            };
            stop(format!("{own} ({}) and {name} ({where_they}) share no network", if where_i.is_empty() { "none" } else { &where_i }), remedy)
        }
    }
}

/// No container's name: the name servers of the host know it, or nobody.
fn in_the_world(world: &World, servers: &[SocketAddr], name: &str, see: String) -> Result<(Option<IpAddr>, Vec<Hop>)> {
    let whom = servers.first().map_or_else(|| "nobody".into(), |server| server.ip().to_string());
    let found = ask(world, servers, name)?;
    let address = found.iter().flatten().next().copied();
    let hop = Hop::new(
        "name",
        format!("no container has that name; {whom} says {}", found.as_ref().map_or_else(|| "nothing".into(), |found| list(found))),
        see,
    );
    let all = world.endpoints.iter().flat_map(|endpoint| std::iter::once(&endpoint.name).chain(&endpoint.aliases)).map(String::as_str);
    Ok(match (address, id::nearest(name, all)) {
        (Some(_), _) => (address, vec![hop]),
        (None, Some(near)) => (None, vec![hop.stops(format!("did you mean {near}?"))]),
        (None, None) => (None, vec![Hop { answer: Answer::Stops, ..hop.stops("onggi ps lists the containers, onggi network map their names") }]),
    })
}
