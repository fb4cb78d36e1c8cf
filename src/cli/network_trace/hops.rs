//! The way of a packet, from the sender's namespace to the receiver's: each hop is asked of the kernel, and the first that stops it ends
//! the walk.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Hop;
use super::world::World;
use crate::engine::networks::live::Endpoint;
use crate::engine::request::NetworkMode;
use crate::error::Result;
use crate::inspect::network::{self as facts, Namespace};
use crate::network::link::Link;
use crate::network::nat::{self, Verdict};
use crate::network::ports::Protocol;
use crate::network::way::Way;

/// The hops, and what a proof has to know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Walked {
    pub hops: Vec<Hop>,
    pub port: u16,
    /// Whose MAC address the sender has to learn.
    pub next: Option<IpAddr>,
}

/// Port 7 was that of the echo service: hardly anybody listens there, and a refusal proves as much as an answer.
const ANY_PORT: u16 = 7;

pub(super) struct Walk<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) host: Namespace,
    pub(super) sender: Namespace,
    pub(super) to: IpAddr,
    pub(super) port: Option<u16>,
    pub(super) protocol: Protocol,
    pub(super) hops: Vec<Hop>,
    next: Option<IpAddr>,
}

/// Where the walk goes on.
pub(super) enum Onward {
    /// It ends here: it was stopped, or nothing more is known.
    End,
    /// A program of this namespace has it, at this address.
    Program { pid: i32, whose: String, at: IpAddr },
}

/// Walks. To be called where the bridges are.
///
/// # Errors
/// EPERM for who may not look into the namespaces.
pub fn walk(world: &World, to: IpAddr, port: Option<u16>, protocol: Protocol) -> Result<Walked> {
    let (host, sender) = (facts::here()?, facts::of(world.pid)?);
    let mut walk = Walk { world, host, sender, to, port, protocol, hops: Vec::new(), next: None };
    let end = walk.leave()?;
    if let Onward::Program { pid, whose, at } = end {
        walk.arrive(pid, &whose, at)?;
    }
    Ok(Walked { port: walk.port.unwrap_or(ANY_PORT), hops: walk.hops, next: walk.next })
}

impl Walk<'_> {
    pub(super) fn pass(&mut self, hop: Hop) {
        self.hops.push(hop);
    }

    pub(super) fn stop(&mut self, hop: Hop, remedy: impl Into<String>) -> Result<Onward> {
        self.hops.push(hop.stops(remedy));
        Ok(Onward::End)
    }

    /// The sender's own routes.
    fn leave(&mut self) -> Result<Onward> {
        let (own, pid) = (self.world.from.name.clone(), self.world.pid);
        if self.sender.inode == self.host.inode {
            self.pass(Hop::new("route", format!("{own} is in the host's network"), "onggi network map"));
            return self.through_host(None);
        }
        let see = format!("nsenter -t {pid} -n ip route get {}", self.to);
        let Some(way) = facts::way_of(pid, self.to)? else {
            let (why, remedy) = self.no_way();
            return self.stop(Hop::new("route", format!("inside {own} there is no way to {}: {why}", self.to), see), remedy);
        };
        if way.local {
            self.pass(Hop::new("route", format!("{} is {own} itself", self.to), see));
            return Ok(Onward::Program { pid, whose: own, at: self.to });
        }
        let link = self.sender.link_of(way.index).map_or_else(|| "?".into(), |link| link.name.clone());
        let through = way.gateway.map_or_else(|| "straight".into(), |gateway| format!("through {gateway}"));
        let source = way.source.map_or_else(String::new, |source| format!(" from {source}"));
        self.next = Some(way.gateway.unwrap_or(self.to));
        self.pass(Hop::new("route", format!("inside {own}: {through}, over {link}{source}"), see));
        let endpoint = self.world.own().into_iter().find(|endpoint| endpoint.inside == link).cloned();
        match endpoint {
            Some(endpoint) => self.over_cable(&endpoint, &way),
            None => {
                self.hops
                    .push(Hop::new("cable", format!("{link} is no link of ours"), format!("nsenter -t {pid} -n ip -d link show {link}")).unknown(""));
                Ok(Onward::End)
            }
        }
    }

    /// Why the sender has no route, and what helps.
    fn no_way(&self) -> (String, String) {
        let (own, pid) = (&self.world.from.name, self.world.pid);
        let mine = self.world.own();
        if mine.is_empty() {
            let remedy = if self.world.owner.network == NetworkMode::None { "onggi network connect NETWORK" } else { "onggi restart" };
            return ("it is on no network".into(), format!("{remedy} {own}"));
        }
        let inside = |endpoint: &&&Endpoint| self.sender.link(&endpoint.inside).is_none_or(|link| !link.up);
        if let Some(down) = mine.iter().find(inside) {
            return (format!("{} is down", down.inside), format!("nsenter -t {pid} -n ip link set {} up", down.inside));
        }
        if let Some((endpoint, cidr)) = mine.iter().find_map(|e| Some((e, e.addresses.iter().find(|cidr| cidr.contains(self.to))?))) {
            let why = format!("the route to its network {} is missing", endpoint.network_name);
            let subnet = format!("{}/{}", cidr.network(), cidr.prefix);
            return (
                why,
                format!("nsenter -t {pid} -n ip route add {subnet} dev {} src {}   (or: onggi restart {own})", endpoint.inside, cidr.address),
            );
        }
        let gateway = mine.iter().find_map(|e| Some((e, e.gateways.iter().find(|gateway| gateway.is_ipv4() == self.to.is_ipv4())?)));
        match gateway {
            Some((endpoint, gateway)) => (
                "its default route is missing".into(),
                format!("nsenter -t {pid} -n ip route add default via {gateway} dev {}   (or: onggi restart {own})", endpoint.inside),
            ),
            None if self.to.is_ipv6() => ("its networks have no IPv6".into(), "onggi network create --ipv6 NETWORK".into()),
            None => ("its networks are internal, they lead nowhere else".into(), self.connect_remedy()),
        }
    }

    /// The command that puts sender and receiver on one network, or the sender on one with a way out.
    fn connect_remedy(&self) -> String {
        let own = &self.world.from.name;
        let there = self.world.endpoints.iter().find(|endpoint| endpoint.addresses.iter().any(|cidr| cidr.address == self.to));
        match there {
            Some(there) => format!("onggi network connect {} {own}", there.network_name),
            None => format!("onggi network connect bridge {own}"),
        }
    }

    /// From the container's end of a cable to the bridge.
    fn over_cable(&mut self, endpoint: &Endpoint, way: &Way) -> Result<Onward> {
        let Some(bridge) = self.cable(endpoint)? else { return Ok(Onward::End) };
        let next = way.gateway.unwrap_or(self.to);
        let (name, network) = (bridge.name.clone(), endpoint.network_name.clone());
        if self.host.addresses_of(bridge.index).iter().any(|cidr| cidr.address == next) {
            self.pass(Hop::new("bridge", format!("{name} of {network}: {next} is the host's end of it"), format!("ip address show {name}")));
            return self.through_host(Some(&bridge));
        }
        let see = format!("bridge link show master {name}");
        let Some(other) = self.world.holder(&endpoint.network, next).cloned() else {
            let lost = endpoint.gateways.contains(&next);
            let remedy = match endpoint.addresses.iter().find(|cidr| cidr.contains(next)).filter(|_| lost) {
                Some(cidr) => format!("ip address add {next}/{} dev {name}", cidr.prefix),
                None => "onggi network map shows who has which address".into(),
            };
            let who = if lost { "the bridge has lost its address" } else { "nobody there has the address" };
            return self.stop(Hop::new("bridge", format!("{name} of {network}: {who} {next}, nobody answers to ARP"), see), remedy);
        };
        let isolated = |endpoint: &Endpoint| self.host.link(&endpoint.link).is_some_and(|link| link.isolated);
        if isolated(endpoint) && isolated(&other) {
            let hop = Hop::new(
                "bridge",
                format!("{name} of {network}: its containers are kept apart (enable_icc=false), both ports are isolated"),
                format!("bridge -d link show dev {}", endpoint.link),
            );
            return self.stop(
                hop,
                format!("onggi network create app && onggi network connect app {} && onggi network connect app {}", self.world.from.name, other.name),
            );
        }
        self.pass(Hop::new("bridge", format!("{name} of {network} passes it on to {}", other.link), see));
        if std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|text| text.trim() == "1")
            && !self.rule(&name, &name, false)?
        {
            return Ok(Onward::End);
        }
        self.enter(&other, self.to)
    }

    /// A pair of links between a container and its bridge, which is the answer.
    pub(super) fn cable(&mut self, endpoint: &Endpoint) -> Result<Option<Link>> {
        let cable = format!("{} of {} ═══ {}", endpoint.inside, endpoint.name, endpoint.link);
        let see = format!("ip -d link show {}", endpoint.link);
        let bridge = self.world.network(&endpoint.network).map(|network| network.link.clone()).unwrap_or_default();
        let anew = format!("onggi network disconnect {0} {1} && onggi network connect {0} {1}", endpoint.network_name, endpoint.name);
        let outer = self.host.link(&endpoint.link).cloned();
        let bridge_link = self.host.link(&bridge).cloned();
        let (why, remedy) = match (&outer, &bridge_link) {
            (None, _) => ("the kernel has no such link".to_string(), anew),
            (Some(link), _) if !link.up => (format!("{} is down", link.name), format!("ip link set {} up", link.name)),
            (_, None) => (format!("the kernel has no bridge {bridge}"), anew),
            (Some(link), Some(bridge)) if link.master != Some(bridge.index) => {
                (format!("{} is no port of {}", link.name, bridge.name), format!("ip link set {} master {}", link.name, bridge.name))
            }
            (_, Some(bridge)) if !bridge.up => (format!("{} is down", bridge.name), format!("ip link set {} up", bridge.name)),
            (Some(_), Some(found)) => {
                self.pass(Hop::new("cable", format!("{cable}, a port of {}", found.name), see));
                return Ok(bridge_link);
            }
        };
        self.stop(Hop::new("cable", format!("{cable}: {why}"), see), remedy)?;
        Ok(None)
    }

    /// The host has it: for itself, for a published port, for another of its networks, or for the world.
    fn through_host(&mut self, from: Option<&Link>) -> Result<Onward> {
        let see = format!("ip route get {}", self.to);
        let Some(way) = facts::way(self.to)? else {
            let remedy = if self.world.home.rootless {
                "onggi doctor says what a way out of an ordinary user's networks needs"
            } else {
                "ip route shows what ways it has"
            };
            return self.stop(Hop::new("host", format!("the host has no way to {}", self.to), see), remedy);
        };
        if way.local {
            return self.at_host(from);
        }
        let out = self.host.link_of(way.index).cloned();
        let name = out.as_ref().map_or_else(|| "?".into(), |link| link.name.clone());
        if let Some(network) = self.world.network_of_link(&name) {
            let (id, to) = (network.id.clone(), network.name.clone());
            if let Some(from) = from {
                self.pass(Hop::new("host", format!("leads it on to {name}, the bridge of {to}"), see));
                if !self.forwards()? || !self.rule(&from.name, &name, false)? {
                    return Ok(Onward::End);
                }
            }
            self.next = self.next.filter(|_| from.is_some());
            return match self.world.holder(&id, self.to).cloned() {
                Some(other) => self.enter(&other, self.to),
                None => self.stop(
                    Hop::new("bridge", format!("nobody on {to} has the address {}", self.to), format!("ip neighbour show dev {name}")),
                    "onggi network map shows who has which address",
                ),
            };
        }
        let gateway = way.gateway.map_or_else(String::new, |gateway| format!(" to {gateway}"));
        self.pass(Hop::new("host", format!("leads it out over {name}{gateway}"), see));
        let Some(from) = from else { return Ok(Onward::End) };
        if !self.forwards()? || !self.rule(&from.name, &name, false)? {
            return Ok(Onward::End);
        }
        if nat::is_masqueraded(&self.world.table, &from.name, self.to.is_ipv6())? {
            let source = way.source.map_or_else(|| "the host's address".into(), |source| source.to_string());
            self.pass(Hop::new(
                "nat",
                format!("it leaves as {source} (postrouting: \"to the world\")"),
                format!("nft list chain inet {} postrouting", self.world.table),
            ));
        }
        // Beyond this machine only the proof can tell; a port that usually answers is the best guess.
        self.port = self.port.or(Some(if self.protocol == Protocol::Tcp { 443 } else { 53 }));
        Ok(Onward::End)
    }

    /// The kernel passes packets on for others only when it was told to.
    fn forwards(&mut self) -> Result<bool> {
        let path = if self.to.is_ipv4() { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" };
        let is_on = std::fs::read_to_string(format!("/proc/sys/{path}")).is_ok_and(|text| text.trim() != "0");
        if !is_on {
            self.stop(
                Hop::new("host", "it passes no packets on for others: forwarding is off", format!("cat /proc/sys/{path}")),
                format!("sysctl -w {}=1", path.replace('/', ".")),
            )?;
        }
        Ok(is_on)
    }

    /// What our rules say of it, and others' that would drop it; false when ours do.
    fn rule(&mut self, from: &str, to: &str, published: bool) -> Result<bool> {
        let table = &self.world.table;
        let see = format!("nft list chain inet {table} forward");
        let verdict = nat::forwarded(table, from, to, published)?;
        match verdict {
            None => self.pass(Hop::new("rule", format!("our table {table} is not whole: nothing of ours keeps it"), see)),
            Some(Verdict { chain, rule, passes: true }) => self.pass(Hop::new("rule", format!("inet {table} {chain}: \"{rule}\" lets it pass"), see)),
            Some(Verdict { chain, rule, .. }) => {
                let remedy = self.connect_remedy();
                self.stop(Hop::new("rule", format!("inet {table} {chain}: \"{rule}\" drops it"), see), remedy)?;
                return Ok(false);
            }
        }
        for chain in nat::dropping_chains()? {
            let remedy = nat::remedy(&chain, &[from]);
            self.pass(
                Hop::new("filter", format!("{chain} is not ours, and drops what it doesn't know"), format!("nft list chain {chain}")).unknown(remedy),
            );
        }
        Ok(true)
    }

    /// It is for one of the host's own addresses.
    fn at_host(&mut self, from: Option<&Link>) -> Result<Onward> {
        let ports = facts::ports(&self.world.table)?;
        let is_meant = |port: &nat::Published| {
            self.port == Some(port.host_port)
                && port.protocol == self.protocol
                && port.host.is_none_or(|host| host == self.to)
                && port.to.is_ipv4() == self.to.is_ipv4()
        };
        let led = ports.iter().map(|used| &used.port).find(|port| is_meant(port) && !self.to.is_loopback()).cloned();
        let Some(led) = led else {
            self.pass(Hop::new("host", format!("{} is the host's own", self.to), "ip address"));
            let pid = std::process::id() as i32;
            return Ok(Onward::Program { pid, whose: "the host".into(), at: self.to });
        };
        let comment = if led.host.is_some() { "-p ADDRESS:PORT" } else { "-p PORT" };
        let seen = format!("port {} of the host leads to {} (published: \"{comment}\")", led.host_port, led.to);
        self.pass(Hop::new("nat", seen, format!("nft list table inet {}", self.world.table)));
        let other = self.world.endpoints.iter().find(|endpoint| endpoint.addresses.iter().any(|cidr| cidr.address == led.to.ip())).cloned();
        let Some(other) = other else {
            return self.stop(
                Hop::new("nat", format!("nobody has the address {}", led.to.ip()), "onggi network map"),
                "onggi ps shows who publishes which port",
            );
        };
        let to = self.world.network(&other.network).map(|network| network.link.clone()).unwrap_or_default();
        if let Some(from) = from
            && !self.rule(&from.name, &to, true)?
        {
            return Ok(Onward::End);
        }
        self.inner(&other, led.to)
    }

    /// To the port of the container behind a published one.
    fn inner(&mut self, other: &Endpoint, to: SocketAddr) -> Result<Onward> {
        let asked = self.port.replace(to.port());
        let end = self.enter(other, to.ip())?;
        if let Onward::Program { pid, whose, at } = end {
            self.arrive(pid, &whose, at)?;
        }
        // The proof goes where the sender was told to.
        self.port = asked;
        Ok(Onward::End)
    }
}
