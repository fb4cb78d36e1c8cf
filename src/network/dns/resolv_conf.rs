//! `/etc/resolv.conf`: whom the host asks, which decides whom a container asks.
//!
//! A host that asks itself (systemd-resolved at 127.0.0.53, dnsmasq at 127.0.0.1) tells containers nothing: their loopback is
//! another. systemd-resolved then has a second file, with the servers behind it.
//!
//! See it: `cat /etc/resolv.conf /run/systemd/resolve/resolv.conf`. Read: resolv.conf(5), systemd-resolved.service(8), "/ETC/RESOLV.CONF".

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;

use crate::error::{Doing, Result};

const HOST: &str = "/etc/resolv.conf";
/// What systemd-resolved itself asks.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
const PORT: u16 = 53;

/// The lines of a `resolv.conf` that have a meaning.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    pub nameservers: Vec<Nameserver>,
    /// Domains that are tried behind a name with few dots.
    pub search: Vec<String>,
    /// As they are written: `ndots:2`, `rotate`.
    pub options: Vec<String>,
}

/// An address, and for IPv6 addresses of one link (`fe80::…%eth0`) the link's name or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameserver {
    pub address: IpAddr,
    pub zone: Option<String>,
}

/// Reads the text of a `resolv.conf` as the C library does: what it doesn't know, it passes over.
pub fn parse(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text.lines() {
        // resolv.conf(5): a keyword starts its line, and a comment has its sign in the first column. glibc takes what follows an
        // address for a comment too.
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let keyword = words.next().filter(|_| !line.starts_with(['#', ';', ' ', '\t']));
        match keyword {
            Some("nameserver") => conf.nameservers.extend(words.next().and_then(Nameserver::parse)),
            // The last of several search and domain lines counts.
            Some("search") => conf.search = words.filter(|word| *word != ".").map(str::to_string).collect(),
            Some("domain") => conf.search = words.take(1).map(str::to_string).collect(),
            Some("options") => conf.options.extend(words.map(str::to_string)),
            _ => {}
        }
    }
    conf
}

/// The host's `resolv.conf`; one that is missing is empty.
///
/// # Errors
/// EACCES, EIO.
pub fn host() -> Result<ResolvConf> {
    read(Path::new(HOST))
}

/// The host's `resolv.conf` for a container, which can't reach the host's loopback: without servers there. When none is left, what
/// systemd-resolved asks; when there is none either, an empty list, and whoever writes the container's file adds servers of his choice.
///
/// # Errors
/// EACCES, EIO.
pub fn host_without_loopback() -> Result<ResolvConf> {
    without_loopback(Path::new(HOST), Path::new(BEHIND_RESOLVED))
}

fn without_loopback(first: &Path, second: &Path) -> Result<ResolvConf> {
    let mut conf = read(first)?;
    conf.nameservers.retain(|server| !server.address.to_canonical().is_loopback());
    if conf.nameservers.is_empty() {
        conf.nameservers = read(second)?.nameservers;
        conf.nameservers.retain(|server| !server.address.to_canonical().is_loopback());
    }
    Ok(conf)
}

fn read(path: &Path) -> Result<ResolvConf> {
    match std::fs::read(path) {
        Ok(text) => Ok(parse(&String::from_utf8_lossy(&text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ResolvConf::default()),
        Err(error) => Err(error).doing(|| format!("read {}", path.display())),
    }
}

impl Nameserver {
    /// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
    pub fn parse(text: &str) -> Option<Nameserver> {
        let (address, zone) = match text.split_once('%') {
            Some((address, zone)) => (address, Some(zone.to_string())),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        match (address, &zone) {
            (IpAddr::V4(_), Some(_)) => None,
            (_, Some(zone)) if zone.is_empty() => None,
            _ => Some(Nameserver { address, zone }),
        }
    }

    /// Where it answers, seen from the caller's network namespace. `None` when its zone names no link there.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        let IpAddr::V6(address) = self.address else { return Some((self.address, PORT).into()) };
        let index = match self.zone.as_deref() {
            None => 0,
            Some(zone) => zone.parse().ok().or_else(|| link_index(zone))?,
        };
        Some(SocketAddrV6::new(address, PORT, 0, index).into())
    }
}

fn link_index(name: &str) -> Option<u32> {
    // A name with a slash would be another file.
    let name = Some(name).filter(|name| !name.contains('/') && *name != "..")?;
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

impl fmt::Display for Nameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl ResolvConf {
    /// The file's text.
    pub fn write(&self) -> String {
        let mut text: String = self.nameservers.iter().map(|server| format!("nameserver {server}\n")).collect();
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# nameserver 1.1.1.1\n; nameserver 1.1.1.2\n  nameserver 1.1.1.3\nnameserver\t192.0.2.1   # ours\n\
        nameserver fe80::1%eth0\nnameserver not.an.address\nnameserver 192.0.2.1%eth0\ndomain one.example\nsearch two.example  three.example\n\
        options ndots:2 rotate\noptions timeout:1\nsortlist 192.0.2.0\nnameserver";

    #[test]
    fn what_the_c_library_reads_is_read() {
        let conf = parse(TEXT);
        assert_eq!(conf.nameservers.iter().map(Nameserver::to_string).collect::<Vec<_>>(), ["192.0.2.1", "fe80::1%eth0"]);
        assert_eq!(conf.search, ["two.example", "three.example"]);
        assert_eq!(conf.options, ["ndots:2", "rotate", "timeout:1"]);
        assert_eq!(parse("search a b\nsearch .\n").search, Vec::<String>::new());
        assert_eq!(parse("search a b\ndomain c d\n").search, ["c"]);
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let conf = parse(TEXT);
        assert_eq!(parse(&conf.write()), conf);
        assert_eq!(ResolvConf::default().write(), "");
    }

    #[test]
    fn a_zone_becomes_the_index_of_its_link() {
        let loopback = Nameserver::parse("fe80::1%lo").unwrap().socket_address().unwrap();
        assert_eq!(loopback, "[fe80::1%1]:53".parse().unwrap());
        assert_eq!(Nameserver::parse("fe80::1%7").unwrap().socket_address(), "[fe80::1%7]:53".parse().ok());
        for missing in ["fe80::1%nolink0", "fe80::1%../../net/lo"] {
            assert_eq!(Nameserver::parse(missing).unwrap().socket_address(), None, "{missing}");
        }
        assert_eq!(Nameserver::parse("192.0.2.1").unwrap().socket_address(), "192.0.2.1:53".parse().ok());
    }

    #[test]
    fn a_host_that_asks_itself_is_asked_whom_it_asks() {
        let dir = std::env::temp_dir().join(format!("onggi-resolv-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let [stub, behind, missing] = ["stub", "behind", "missing"].map(|name| dir.join(name));
        std::fs::write(&stub, "nameserver 127.0.0.53\nnameserver ::1\nnameserver ::ffff:127.0.0.1\noptions edns0\nsearch here\n").unwrap();
        std::fs::write(&behind, "nameserver 192.0.2.9\nnameserver 127.0.0.1\nsearch there\n").unwrap();
        let conf = without_loopback(&stub, &behind).unwrap();
        assert_eq!(conf.write(), "nameserver 192.0.2.9\nsearch here\noptions edns0\n");
        assert_eq!(without_loopback(&behind, &missing).unwrap().nameservers.len(), 1);
        assert_eq!(without_loopback(&stub, &missing).unwrap().nameservers, []);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
