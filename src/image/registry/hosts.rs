//! Hosts, as settings name them: a mirror's URL, a registry without TLS, this machine itself.
//!
//! See it: `getent ahosts localhost`. Read: RFC 3986 "Authority", RFC 6761 "localhost", dockerd(8) "insecure-registry".

use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};

use crate::error::{Error, Result};
use crate::image::reference;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// A server that has another registry's images; without a scheme it is asked like any registry of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub scheme: Option<Scheme>,
    pub host: String,
    /// The path before `/v2`.
    pub prefix: String,
}

/// A host, with the port that it was named with, or all addresses that begin with so many bits of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insecure {
    Host(String),
    Net(IpAddr, u8),
}

impl Mirror {
    /// Reads a mirror's URL.
    ///
    /// # Errors
    /// Invalid; what was being done is the caller's to say.
    pub fn parse(url: &str) -> Result<Mirror> {
        if url.contains('@') {
            // Not shown: it may be a password.
            return Err(Error::invalid("", "invalid mirror: the URL has a user in it").hint("use `onggi login` for the mirror's host"));
        }
        let wrong = |why: &str| Err(Error::invalid("", format!("invalid mirror {url:?}: {why}")));
        let (scheme, rest) = match url.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return wrong("unsupported scheme, use http:// or https://"),
            None => (None, url),
        };
        if rest.contains(['?', '#']) {
            return wrong("it has a query or a fragment");
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !reference::is_host(host) {
            return wrong("its host is no host name with or without a port");
        }
        let path = path.trim_matches('/');
        if path.contains(|c: char| c.is_whitespace() || c.is_control()) || path.split('/').any(|part| part == ".." || part == ".") {
            return wrong("its path is none of a URL");
        }
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Mirror { scheme, host: host.to_string(), prefix })
    }
}

impl Insecure {
    /// Reads a registry, or a range of addresses.
    ///
    /// # Errors
    /// Invalid; what was being done is the caller's to say.
    pub fn parse(text: &str) -> Result<Insecure> {
        let wrong = || Error::invalid("", format!("{text:?} is neither a registry (lab:5000) nor a range of addresses (10.0.0.0/8)"));
        // Docker takes the scheme too, and warns of it.
        let host = text.strip_prefix("http://").or(text.strip_prefix("https://")).unwrap_or(text);
        match host.split_once('/') {
            None if reference::is_host(host) => Ok(Insecure::Host(host.to_string())),
            None => Err(wrong()),
            Some((address, bits)) => {
                let address: IpAddr = address.parse().map_err(|_| wrong())?;
                let bits: u8 = bits.parse().map_err(|_| wrong())?;
                let most = if address.is_ipv4() { 32 } else { 128 };
                if bits <= most { Ok(Insecure::Net(address, bits)) } else { Err(wrong()) }
            }
        }
    }

    /// Whether the address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let first = |bits: u8, width: u32, one: u128, other: u128| (one ^ other).checked_shr(width - u32::from(bits)).unwrap_or(0) == 0;
        match (self, address) {
            (Insecure::Net(IpAddr::V4(net), bits), IpAddr::V4(address)) => first(*bits, 32, net.to_bits().into(), address.to_bits().into()),
            (Insecure::Net(IpAddr::V6(net), bits), IpAddr::V6(address)) => first(*bits, 128, net.to_bits(), address.to_bits()),
            _ => false,
        }
    }
}

/// `localhost:5000` without the port, `[::1]` without the brackets.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether it is this machine: by its name alone, for no name server is believed in that.
pub fn is_loopback(host: &str) -> bool {
    let name = without_port(host).to_ascii_lowercase();
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Ok(IpAddr::V6(address)) => address == Ipv6Addr::LOCALHOST,
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// The addresses of a host, none when it has none.
pub fn addresses(host: &str) -> Vec<IpAddr> {
    let name = without_port(host);
    match name.parse() {
        Ok(address) => vec![address],
        Err(_) => (name, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default(),
    }
}
