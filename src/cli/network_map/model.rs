//! The map before it is drawn: a plain description of what is there, and the words that text and picture share.

use std::net::IpAddr;

use serde::Serialize;

use crate::cli::human;

/// All that is drawn.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Map {
    pub host: Host,
    pub networks: Vec<Bridge>,
    pub containers: Vec<Container>,
    /// What the kernel has and this engine doesn't know.
    pub unknown: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    pub name: String,
    /// The inode of the network namespace that the bridges are in.
    pub namespace: u64,
    pub forwarding: bool,
    pub uplinks: Vec<Uplink>,
}

/// A link with a default route.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    pub link: String,
    pub addresses: Vec<String>,
    pub gateway: Option<IpAddr>,
}

/// A network, by its bridge.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    pub name: String,
    pub id: String,
    pub link: String,
    /// The bridge is in the kernel.
    pub present: bool,
    /// As the kernel has them.
    pub addresses: Vec<String>,
    pub internal: bool,
    pub masquerade: bool,
    /// Its containers may speak with each other.
    pub open: bool,
    /// Its containers find each other by name.
    pub has_names: bool,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    pub name: String,
    pub id: String,
    pub pid: i32,
    /// The inode of its network namespace.
    pub namespace: u64,
    /// Whose namespace it is in, if not its own: `host`, or a container's name.
    pub shares: Option<String>,
    pub cables: Vec<Cable>,
    pub ports: Vec<Port>,
    pub notes: Vec<String>,
}

/// A pair of veth, from a bridge to a container.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cable {
    pub network: String,
    /// The end on the bridge.
    pub outside: String,
    /// The end in the container.
    pub inside: String,
    pub addresses: Vec<String>,
    pub mac: String,
    /// What others on the network call it.
    pub names: Vec<String>,
    /// The host's ports lead here.
    pub way_in: bool,
    pub received: Traffic,
    pub sent: Traffic,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
}

/// A port of the host that leads to the container.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    pub host: String,
    pub container: String,
    /// How many connections came through the rules; what comes from the host's own 127.0.0.1 is copied by a process and isn't counted.
    pub connections: Option<u64>,
}

impl Map {
    /// The containers on a network, each with its cable there.
    pub fn on<'a>(&'a self, network: &'a str) -> impl Iterator<Item = (&'a Container, &'a Cable)> {
        let cable = move |container: &'a Container| container.cables.iter().find(|cable| cable.network == network);
        self.containers.iter().filter_map(move |container| Some((container, cable(container)?)))
    }

    /// Containers that are on no network of their own.
    pub fn elsewhere(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.cables.is_empty())
    }
}

impl Host {
    /// `eth0 192.0.2.10/24 → 192.0.2.1`, a line for each way out.
    pub fn ways(&self) -> Vec<String> {
        let way = |uplink: &Uplink| {
            let gateway = uplink.gateway.map_or_else(String::new, |gateway| format!(" → {gateway}"));
            format!("{} {}{gateway}", uplink.link, uplink.addresses.join(" "))
        };
        self.uplinks.iter().map(way).collect()
    }
}

impl Bridge {
    /// What kind of network it is, in words; empty for the usual one.
    pub fn kind(&self) -> String {
        let words = [
            (!self.present, "not made yet"),
            (self.internal, "internal"),
            (!self.open, "containers apart"),
            (!self.masquerade && !self.internal, "no NAT"),
            (!self.has_names, "no names"),
        ];
        words.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
    }
}

impl Container {
    /// `PID 4242 · net:[4026532712]`
    pub fn namespace(&self) -> String {
        format!("PID {} · net:[{}]", self.pid, self.namespace)
    }

    /// Its cable at which the host's ports arrive.
    pub fn way_in(&self) -> Option<&Cable> {
        self.cables.iter().find(|cable| cable.way_in).or(self.cables.first())
    }

    /// In whose network it is, when it has no cable.
    pub fn where_else(&self) -> String {
        match &self.shares {
            Some(other) if other == "host" => "in the host's network".into(),
            Some(other) => format!("in the network of {other}"),
            None => "on no network".into(),
        }
    }
}

impl Cable {
    pub fn traffic(&self) -> String {
        let amount = |traffic: Traffic| format!("{} in {} packet{}", amount(traffic), traffic.packets, if traffic.packets == 1 { "" } else { "s" });
        format!("received {}, sent {}", amount(self.received), amount(self.sent))
    }
}

/// `1.2kB`
pub fn amount(traffic: Traffic) -> String {
    human::size(traffic.bytes)
}

impl Port {
    pub fn line(&self) -> String {
        let count = match self.connections {
            None => String::new(),
            Some(1) => ", 1 connection".into(),
            Some(count) => format!(", {count} connections"),
        };
        format!("{} → {}{count}", self.host, self.container)
    }
}
