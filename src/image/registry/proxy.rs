//! Which proxy the environment names for an address: the rules are those of Go's programs (docker, podman, skopeo), so that what is set for
//! them serves here.
//!
//! ```text
//! HTTPS_PROXY  HTTP_PROXY     http://[user:password@]host:port, for https:// and for http://; in lower case, too
//! NO_PROXY                    *  host  .domain  192.0.2.0/24  host:port, with commas between: asked directly
//! ```
//! This machine itself is never asked for elsewhere.
//!
//! See it: `env | grep -i proxy`. Source: golang.org/x/net/http/httpproxy, FromEnvironment.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

use super::failure::Failure;

/// The proxy for this address; None when it is to be asked directly.
///
/// # Errors
/// When the environment names something that is no proxy.
pub fn of(address: &Uri) -> Result<Option<Proxy>, Failure> {
    let variable = if address.scheme_str() == Some("https") { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some(proxy) = set(variable) else { return Ok(None) };
    let host = address.host().unwrap_or_default();
    let port = address.port_u16().unwrap_or(if variable == "HTTPS_PROXY" { 443 } else { 80 });
    if is_this_machine(host) || is_excepted(&set("NO_PROXY").unwrap_or_default(), host, port) {
        return Ok(None);
    }
    // It may have a password in it.
    let refused = |_| Failure::words(format!("{variable} of the environment names no proxy: it is written as http://HOST:PORT"));
    Proxy::new(&proxy).map(Some).map_err(refused)
}

fn set(variable: &str) -> Option<String> {
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    value(variable).or_else(|| value(&variable.to_lowercase()))
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || ip(host).is_some_and(|ip| ip.is_loopback())
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

fn is_excepted(exceptions: &str, host: &str, port: u16) -> bool {
    exceptions.split(',').map(|exception| exception.trim().to_ascii_lowercase()).any(|exception| fits(&exception, &host.to_ascii_lowercase(), port))
}

fn fits(exception: &str, host: &str, port: u16) -> bool {
    if exception == "*" {
        return true;
    }
    if let (Some((network, bits)), Some(ip)) = (exception.split_once('/'), ip(host)) {
        return network.parse().ok().zip(bits.parse().ok()).is_some_and(|(network, bits)| is_in(ip, network, bits));
    }
    // A colon before digits begins a port, unless there are several: an address of IPv6.
    let (name, only_port) = match exception.rsplit_once(':') {
        Some((name, text)) if ip(exception).is_none() => (name, Some(text.parse().ok())),
        _ => (exception, None),
    };
    if name.is_empty() || only_port.is_some_and(|only| only != Some(port)) {
        return false;
    }
    match (ip(name), ip(host)) {
        (Some(excepted), Some(ip)) => excepted == ip,
        // `.lab.example` is all below it, `lab.example` is itself, too.
        _ => match name.strip_prefix('*').unwrap_or(name).strip_prefix('.') {
            Some(domain) => is_below(host, domain),
            None => host == name || is_below(host, name),
        },
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn is_in(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    let same = |one: u128, other: u128, width: u32| bits <= width && (bits == 0 || (one ^ other) >> (width - bits) == 0);
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => same(ip.to_bits().into(), network.to_bits().into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(network)) => same(ip.to_bits(), network.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_hosts_domains_networks_and_ports() {
        for (exceptions, host) in [
            ("*", "hub.example"),
            ("lab.example", "lab.example"),
            ("lab.example", "hub.lab.example"),
            (".lab.example", "hub.lab.example"),
            ("*.lab.example", "hub.lab.example"),
            ("x, LAB.example:5000", "lab.EXAMPLE"),
            ("192.0.2.0/24", "192.0.2.77"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8::/32", "[2001:db8::1]"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("0.0.0.0/0", "1.1.1.1"),
        ] {
            assert!(is_excepted(exceptions, host, 5000), "{exceptions} {host}");
        }
        for (exceptions, host) in [
            ("", "lab.example"),
            (",", "lab.example"),
            (".lab.example", "lab.example"),
            ("lab.example", "slab.example"),
            ("lab.example:80", "lab.example"),
            ("lab.example:", "lab.example"),
            ("192.0.2.0/24", "192.0.3.1"),
            ("192.0.2.0/99", "192.0.2.1"),
            ("192.0.2.0/24", "lab.example"),
            ("2001:db8::/32", "192.0.2.1"),
        ] {
            assert!(!is_excepted(exceptions, host, 5000), "{exceptions} {host}");
        }
        assert!(is_this_machine("localhost") && is_this_machine("127.0.0.2") && is_this_machine("[::1]") && !is_this_machine("192.0.2.1"));
    }
}
