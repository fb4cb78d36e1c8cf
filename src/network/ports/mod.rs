//! The host's side of a published port: a socket that is bound, so that the port is ours and nobody else's as long as we have it.
//!
//! See it: `ss -tulpn`, `/proc/net/tcp`. Read: bind(2), ip(7) on port numbers, docker run(1) on `-p`.

mod holder;
mod parse;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::SockType;
use serde::{Deserialize, Serialize};

pub use self::parse::{parse, parse_expose};
use crate::error::{Class, Error, Result};
use crate::sys::inet;
use crate::sys::{SysError, SysResult};

/// What travels through a port; its number is IP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
}

/// A port of a container, and where on the host it is to be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// None: at all of the host's addresses.
    pub host: Option<IpAddr>,
    /// Any free port from `first` to `last`; any at all when both are 0.
    pub first: u16,
    pub last: u16,
    pub container: u16,
    pub protocol: Protocol,
}

/// A port of the host that is held: TCP connections wait at the socket, UDP datagrams too.
#[derive(Debug)]
pub struct Held {
    pub socket: OwnedFd,
    pub address: SocketAddr,
    pub container: u16,
    pub protocol: Protocol,
}

/// As often a random port is asked for that is free at both IPv4 and IPv6.
const TRIES: usize = 64;

/// Binds a port: at one address, or at all of IPv4 and all of IPv6 under one number. A host without IPv6 does with IPv4.
///
/// # Errors
/// Conflict when somebody has it, with their name; Denied for a port of the privileged; Invalid for an address that isn't the host's.
pub fn hold(binding: &Binding) -> Result<Vec<Held>> {
    let candidates = if binding.first == 0 { vec![0; TRIES] } else { (binding.first..=binding.last).collect() };
    let mut taken = None;
    for port in candidates {
        match hold_number(binding, port) {
            Ok(held) => return Ok(held),
            Err((at, fact)) if fact.errno() == Errno::EADDRINUSE => taken = Some((at, fact)),
            Err((at, fact)) => return Err(refused(binding, at, fact)),
        }
    }
    let (at, fact) = taken.unwrap_or_else(|| (SocketAddr::new(any(binding), binding.first), SysError::new("bind", "", Errno::EADDRINUSE)));
    Err(refused(binding, at, fact))
}

fn any(binding: &Binding) -> IpAddr {
    binding.host.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

fn hold_number(binding: &Binding, port: u16) -> Result<Vec<Held>, (SocketAddr, SysError)> {
    let hold = |at: SocketAddr| hold_at(binding, at).map_err(|fact| (at, fact));
    let first = hold(SocketAddr::new(any(binding), port))?;
    if binding.host.is_some() {
        return Ok(vec![first]);
    }
    // A number that the kernel chose for IPv4 is asked for IPv6, too.
    let second = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), first.address.port());
    match hold(second) {
        Ok(second) => Ok(vec![first, second]),
        Err((_, fact)) if matches!(fact.errno(), Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => Ok(vec![first]),
        Err(refused) => Err(refused),
    }
}

fn hold_at(binding: &Binding, at: SocketAddr) -> SysResult<Held> {
    let kind = if binding.protocol == Protocol::Tcp { SockType::Stream } else { SockType::Datagram };
    let socket = inet::bound(at, kind)?;
    let address = inet::own_address(socket.as_fd())?;
    Ok(Held { socket, address, container: binding.container, protocol: binding.protocol })
}

fn refused(binding: &Binding, at: SocketAddr, fact: SysError) -> Error {
    let doing = format!("publish port {}/{}", binding.container, binding.protocol);
    match fact.errno() {
        Errno::EADDRINUSE if binding.first != binding.last => {
            let why = format!("Bind for {}:{}-{} failed: all ports are allocated", shown(at.ip()), binding.first, binding.last);
            Error::new(Class::Conflict, doing, why).hint(holder::told(at, binding.protocol))
        }
        Errno::EADDRINUSE => {
            Error::new(Class::Conflict, doing, format!("Bind for {at} failed: port is already allocated")).hint(holder::told(at, binding.protocol))
        }
        Errno::EACCES => Error::sys(doing, fact).hint(format!(
            "ports below {} are root's: take a higher one, or let root lower that with `sysctl net.ipv4.ip_unprivileged_port_start={}`",
            first_of_everybody(),
            at.port()
        )),
        Errno::EADDRNOTAVAIL => {
            Error::invalid(doing, format!("{} is no address of this host", at.ip())).hint("`ip address` lists the addresses of this host")
        }
        Errno::EAFNOSUPPORT => Error::new(Class::Unsupported, doing, format!("this host has no IPv6, of which {} is", at.ip())),
        _ => Error::sys(doing, fact),
    }
}

/// An address as it stands before a colon.
fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// ip(7): the first port that needs no privilege.
fn first_of_everybody() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}
