//! The three files of `/etc` that belong to the container and not to its image: hostname, hosts, resolv.conf. They stand in the
//! container's folder and are bound over the image's; what changes while it runs is written into the same file.
//!
//! Read: hosts(5), resolv.conf(5), hostname(5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::home::Home;
use super::networks::live::{self, Endpoint};
use super::networks::network;
use super::record::Record;
use super::request::{NetworkMode, Request};
use crate::error::{Doing, Result};
use crate::network::dns::resolv_conf::{self, Nameserver, ResolvConf};

/// Where the program's questions for names go.
pub struct Resolver {
    pub text: String,
    /// Whom the container's monitor asks what it doesn't know; None when it isn't asked itself.
    pub upstream: Option<Vec<SocketAddr>>,
    /// False on networks that lead nowhere: what the monitor doesn't know, nobody does.
    pub forwards: bool,
}

/// The embedded DNS server, at Docker's address.
pub const EMBEDDED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Writes them into the container's folder; answers (file, place in the container).
///
/// # Errors
/// ENOSPC.
pub fn write(home: &Home, record: &Record, request: &Request, hostname: &str, resolver: &Resolver) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut dir = home.container(&record.id);
    if let NetworkMode::Container(other) = &record.network {
        // One network, one set of names: the other's files.
        dir = home.container(other);
    } else {
        put(&dir.join("hostname"), &format!("{hostname}\n"))?;
        put(&dir.join("hosts"), &hosts(home, record, request, hostname, &[]))?;
        put(&dir.join("resolv.conf"), &resolver.text)?;
    }
    Ok(["hostname", "hosts", "resolv.conf"].map(|name| (dir.join(name), Path::new("/etc").join(name))).into())
}

/// The hosts file, now that its addresses are known.
///
/// # Errors
/// ENOSPC.
pub fn write_hosts(home: &Home, record: &Record, request: &Request, endpoints: &[Endpoint]) -> Result<()> {
    let hostname = hostname(home, &record.id).unwrap_or_default();
    put(&home.container(&record.id).join("hosts"), &hosts(home, record, request, &hostname, endpoints))
}

/// The name that a container calls itself; None when it was never started.
pub fn hostname(home: &Home, id: &str) -> Option<String> {
    let text = std::fs::read_to_string(home.container(id).join("hostname")).ok()?;
    Some(text.trim_end().to_string())
}

/// Both, when the networks of a running container have changed. Its own additions to its hosts file go.
///
/// # Errors
/// ENOSPC.
pub fn rewrite(home: &Home, record: &Record, request: &Request, endpoints: &[Endpoint], resolver: &Resolver) -> Result<()> {
    put(&home.container(&record.id).join("resolv.conf"), &resolver.text)?;
    write_hosts(home, record, request, endpoints)
}

/// Into the same file: it may be mounted somewhere.
fn put(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).doing(|| format!("write {}", file.display()))
}

fn hosts(home: &Home, record: &Record, request: &Request, hostname: &str, endpoints: &[Endpoint]) -> String {
    let mut text = match record.network {
        NetworkMode::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        _ => concat!(
            "127.0.0.1\tlocalhost\n",
            "::1\tlocalhost ip6-localhost ip6-loopback\n",
            "fe00::0\tip6-localnet\n",
            "ff00::0\tip6-mcastprefix\n",
            "ff02::1\tip6-allnodes\n",
            "ff02::2\tip6-allrouters\n"
        )
        .to_string(),
    };
    for (name, address) in &request.hosts {
        match (address.as_str(), gateway(home, record)) {
            ("host-gateway", Some(gateway)) => text.push_str(&format!("{gateway}\t{name}\n")),
            ("host-gateway", None) => text.push_str(&format!("127.0.0.1\t{name}\n")),
            _ => text.push_str(&format!("{address}\t{name}\n")),
        }
    }
    links(home, record, &mut text);
    let addresses: Vec<IpAddr> = endpoints.iter().flat_map(|endpoint| &endpoint.addresses).map(|cidr| cidr.address).collect();
    for address in &addresses {
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    if record.network == NetworkMode::None {
        text.push_str(&format!("127.0.0.1\t{hostname}\n"));
    }
    text
}

/// On the default bridge there are no names but those that `--link` writes down.
fn links(home: &Home, record: &Record, text: &mut String) {
    for attachment in record.networks.iter().filter(|attachment| !attachment.links.is_empty()) {
        let there = live::endpoints(home, &attachment.network).unwrap_or_default();
        for (alias, container) in &attachment.links {
            if let Some(other) = there.iter().find(|endpoint| endpoint.container == *container) {
                let names = if *alias == other.name { alias.clone() } else { format!("{alias} {}", other.name) };
                other.addresses.iter().for_each(|cidr| text.push_str(&format!("{}\t{names}\n", cidr.address)));
            }
        }
    }
}

/// The host, as the container sees it: the gateway of its first network that has one.
fn gateway(home: &Home, record: &Record) -> Option<IpAddr> {
    let networks = record.networks.iter().filter_map(|attachment| network::load(home, &attachment.network).ok());
    networks.flat_map(|network| network.subnets).map(|subnet| subnet.gateway).next()
}

/// How the container finds names.
///
/// # Errors
/// EACCES.
pub fn resolver(home: &Home, request: &Request, record: &Record) -> Result<Resolver> {
    let of_host = resolv_conf::host()?;
    let own: Vec<Nameserver> = request.dns.servers.iter().map(|address| Nameserver { address: *address, zone: None }).collect();
    let or = |servers: &[Nameserver]| if own.is_empty() { servers.to_vec() } else { own.clone() };
    if record.network != NetworkMode::Own {
        return Ok(Resolver { text: written(request, &of_host, or(&of_host.nameservers), false), upstream: None, forwards: true });
    }
    let networks: Vec<_> = record.networks.iter().filter_map(|attachment| network::load(home, &attachment.network).ok()).collect();
    let forwards = networks.iter().any(|network| !network.internal);
    if !networks.iter().any(|network| network.has_names()) {
        let reachable = or(&resolv_conf::host_without_loopback()?.nameservers);
        if !reachable.is_empty() {
            return Ok(Resolver { text: written(request, &of_host, reachable, false), upstream: None, forwards });
        }
        // The host asks itself (127.0.0.53, say), where the container can't reach it: its monitor can.
    }
    let upstream = or(&of_host.nameservers).iter().filter_map(Nameserver::socket_address).collect();
    let embedded = vec![Nameserver { address: EMBEDDED, zone: None }];
    Ok(Resolver { text: written(request, &of_host, embedded, true), upstream: Some(upstream), forwards })
}

fn written(request: &Request, of_host: &ResolvConf, nameservers: Vec<Nameserver>, embedded: bool) -> String {
    let dns = &request.dns;
    // `--dns-search .` means none at all.
    let search = match &dns.search[..] {
        [] => of_host.search.clone(),
        [only] if only == "." => Vec::new(),
        some => some.to_vec(),
    };
    let mut options = if dns.options.is_empty() { of_host.options.clone() } else { dns.options.clone() };
    if embedded && !options.iter().any(|option| option.starts_with("ndots:")) {
        // Names without a dot are the networks' own: they are asked as they are, before anything is hung on to them.
        options.push("ndots:0".into());
    }
    ResolvConf { nameservers, search, options }.write()
}
