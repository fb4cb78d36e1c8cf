//! Networks in Docker's words: what `network inspect` prints, and the network's part of a container's `inspect`.
//!
//! Read: docs.docker.com/reference/api/engine, "Inspect a network", "Inspect a container".

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::live::{self, Endpoint};
use super::network::{Driver, Network, Subnet};
use crate::engine::home::Home;
use crate::engine::record::Record;
use crate::engine::request::{Attachment, NetworkMode, Request};
use crate::error::Result;
use crate::network::cidr::Cidr;

/// What `network inspect` tells, in Docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Description {
    pub name: String,
    pub id: String,
    pub created: String,
    pub scope: &'static str,
    pub driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    pub ipam: Value,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    pub config_from: Value,
    pub config_only: bool,
    pub containers: BTreeMap<String, Member>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// Who is on a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    pub name: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub mac_address: String,
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// A network, with those who are on it now.
///
/// # Errors
/// EACCES.
pub fn network(home: &Home, network: &Network) -> Result<Description> {
    let mut containers = BTreeMap::new();
    for endpoint in live::endpoints(home, &network.id)? {
        let address = |cidr: Option<Cidr>| cidr.map_or_else(String::new, |cidr| cidr.to_string());
        let (ipv4_address, ipv6_address) = (address(endpoint.ipv4()), address(endpoint.ipv6()));
        let member = Member { name: endpoint.name, endpoint_id: endpoint.id, mac_address: endpoint.mac, ipv4_address, ipv6_address };
        containers.insert(endpoint.container, member);
    }
    Ok(Description {
        name: network.name.clone(),
        id: network.id.clone(),
        created: network.created.clone(),
        scope: "local",
        driver: network.driver.name(),
        enable_ipv4: network.driver == Driver::Bridge,
        enable_ipv6: network.ipv6,
        ipam: json!({ "Driver": "default", "Options": Value::Null, "Config": network.subnets.iter().map(pool).collect::<Vec<_>>() }),
        internal: network.internal,
        attachable: network.attachable,
        ingress: false,
        config_from: json!({ "Network": "" }),
        config_only: false,
        containers,
        options: options(network),
        labels: network.labels.iter().cloned().collect(),
    })
}

fn pool(subnet: &Subnet) -> Value {
    let mut pool = json!({ "Subnet": subnet.subnet, "Gateway": subnet.gateway });
    if let Some(range) = subnet.range {
        pool["IPRange"] = json!(range);
    }
    if !subnet.reserved.is_empty() {
        pool["AuxiliaryAddresses"] = json!(subnet.reserved.iter().cloned().collect::<BTreeMap<String, IpAddr>>());
    }
    pool
}

/// Those that were given; the default bridge has Docker's, spelt out.
fn options(network: &Network) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = network.options.iter().cloned().collect();
    if network.name == "bridge" {
        let word = |key: &str| format!("com.docker.network.bridge.{key}");
        all.insert(word("default_bridge"), "true".into());
        all.insert(word("enable_icc"), network.icc.to_string());
        all.insert(word("enable_ip_masquerade"), network.masquerade.to_string());
        all.insert(word("name"), network.link.clone());
    }
    all
}

/// `NetworkSettings` of a container.
///
/// # Errors
/// EACCES.
pub fn settings(home: &Home, record: &Record) -> Result<Value> {
    let endpoints = live::of_container(home, &record.id)?;
    let mut networks = Map::new();
    for attachment in &record.networks {
        let endpoint = endpoints.iter().find(|endpoint| endpoint.network == attachment.network);
        networks.insert(attachment.name.clone(), membership(attachment, endpoint, record));
    }
    if matches!(record.network, NetworkMode::None | NetworkMode::Host) {
        networks.insert(mode(record), membership(&Attachment::default(), None, record));
    }
    // The older fields speak of the default bridge.
    let first = networks.get("bridge").cloned().unwrap_or_default();
    let text = |key: &str| first.get(key).cloned().unwrap_or_else(|| "".into());
    Ok(json!({
        "Bridge": "",
        "SandboxID": endpoints.first().map_or("", |endpoint| endpoint.id.as_str()),
        "SandboxKey": record.state.init.map_or_else(String::new, |init| format!("/proc/{}/ns/net", init.pid)),
        "Ports": ports(record),
        "EndpointID": text("EndpointID"),
        "Gateway": text("Gateway"),
        "GlobalIPv6Address": text("GlobalIPv6Address"),
        "GlobalIPv6PrefixLen": first.get("GlobalIPv6PrefixLen").cloned().unwrap_or_else(|| 0.into()),
        "IPAddress": text("IPAddress"),
        "IPPrefixLen": first.get("IPPrefixLen").cloned().unwrap_or_else(|| 0.into()),
        "IPv6Gateway": text("IPv6Gateway"),
        "MacAddress": text("MacAddress"),
        "Networks": networks,
    }))
}

fn membership(attachment: &Attachment, endpoint: Option<&Endpoint>, record: &Record) -> Value {
    let address = |cidr: Option<Cidr>| cidr.map_or_else(String::new, |cidr| cidr.address.to_string());
    let prefix = |cidr: Option<Cidr>| cidr.map_or(0, |cidr| cidr.prefix);
    let gateway = |v4: bool| {
        let found = endpoint.and_then(|endpoint| endpoint.gateways.iter().find(|gateway| gateway.is_ipv4() == v4));
        found.map_or_else(String::new, IpAddr::to_string)
    };
    let (v4, v6) = (endpoint.and_then(Endpoint::ipv4), endpoint.and_then(Endpoint::ipv6));
    let mut wanted = Map::new();
    wanted.extend(attachment.ip.map(|ip| ("IPv4Address".to_string(), json!(ip))));
    wanted.extend(attachment.ip6.map(|ip| ("IPv6Address".to_string(), json!(ip))));
    let names: Vec<&String> = endpoint.iter().flat_map(|endpoint| std::iter::once(&endpoint.name).chain(&endpoint.aliases)).collect();
    let links: Vec<String> = attachment.links.iter().map(|(alias, other)| format!("{other}:{alias}")).collect();
    json!({
        "IPAMConfig": if wanted.is_empty() { Value::Null } else { wanted.into() },
        "Links": if links.is_empty() { Value::Null } else { json!(links) },
        "Aliases": if attachment.aliases.is_empty() { Value::Null } else { json!(attachment.aliases) },
        "MacAddress": endpoint.map_or("", |endpoint| endpoint.mac.as_str()),
        "DriverOpts": Value::Null,
        "GwPriority": attachment.priority,
        "NetworkID": attachment.network,
        "EndpointID": endpoint.map_or("", |endpoint| endpoint.id.as_str()),
        "Gateway": gateway(true),
        "IPAddress": address(v4),
        "IPPrefixLen": prefix(v4),
        "IPv6Gateway": gateway(false),
        "GlobalIPv6Address": address(v6),
        "GlobalIPv6PrefixLen": prefix(v6),
        "DNSNames": if names.is_empty() || attachment.name == "bridge" || record.networks.is_empty() { Value::Null } else { json!(names) },
    })
}

/// `80/tcp` → where it is published, or null.
fn ports(record: &Record) -> Map<String, Value> {
    let mut ports = Map::new();
    if !record.is_active() {
        return ports;
    }
    for (port, protocol) in &record.exposed {
        ports.insert(format!("{port}/{protocol}"), Value::Null);
    }
    for port in &record.state.ports {
        let place = json!({ "HostIp": port.host.ip().to_string(), "HostPort": port.host.port().to_string() });
        match ports.entry(format!("{}/{}", port.container, port.protocol)).or_insert(Value::Null) {
            Value::Array(places) => places.push(place),
            other => *other = json!([place]),
        }
    }
    ports
}

/// `HostConfig.PortBindings`: what was asked for.
pub fn bindings(request: &Request) -> Map<String, Value> {
    let mut bindings = Map::new();
    for binding in &request.ports {
        let range = match (binding.first, binding.last) {
            (0, 0) => String::new(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let place = json!({ "HostIp": binding.host.map_or_else(String::new, |host| host.to_string()), "HostPort": range });
        match bindings.entry(format!("{}/{}", binding.container, binding.protocol)).or_insert(Value::Null) {
            Value::Array(places) => places.push(place),
            other => *other = json!([place]),
        }
    }
    bindings
}

/// `HostConfig.NetworkMode`.
pub fn mode(record: &Record) -> String {
    match &record.network {
        NetworkMode::None => "none".into(),
        NetworkMode::Host => "host".into(),
        NetworkMode::Container(other) => format!("container:{other}"),
        NetworkMode::Own => record.networks.first().map_or_else(|| "bridge".into(), |attachment| attachment.name.clone()),
    }
}

/// The names of the networks that a container is on.
pub fn names(record: &Record) -> Vec<String> {
    match &record.network {
        NetworkMode::Own => record.networks.iter().map(|attachment| attachment.name.clone()).collect(),
        _ => vec![mode(record)],
    }
}
