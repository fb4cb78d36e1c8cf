//! The proof of what was predicted: a question is asked, or a packet sent, from inside a container's network namespace, by a child of
//! ours that enters it.
//!
//! See it: `nsenter -t PID -n tcpdump -ni eth0`. Read: setns(2), connect(2), RFC 1035 section 4.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Class, Doing, Error, Result};
use crate::network::dns::message::{self, A, AAAA, HEADER, Reply};
use crate::network::ports::Protocol;
use crate::sys::namespace::{CLONE_NEWNET, setns};
use crate::sys::process::{self, Clone, Forked};
use crate::sys::{SysResult, fd};

/// What became of a packet that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum Outcome {
    /// A program took it.
    Answered,
    /// The kernel over there answered that nobody listens.
    Refused,
    /// Nothing came back in time.
    Silence,
    /// The kernel here or on the way said why not: ENETUNREACH, EHOSTUNREACH …
    Failed { errno: String },
}

/// Does work in the network namespace of a process, in a child that enters it; this process stays where it is.
///
/// # Errors
/// NotFound when the process is gone; EPERM.
pub fn inside<T: Serialize + DeserializeOwned>(pid: i32, work: impl FnOnce() -> T) -> Result<T> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).doing(|| format!("open {path}"))?;
    in_child(0, || setns(namespace.as_fd(), CLONE_NEWNET).map(|()| work()))
        .map_err(|e| e.hint(format!("it was to be done in the network of process {pid}")))
}

/// Does work in a child that has new namespaces of these kinds, and ends.
///
/// # Errors
/// EPERM for the namespaces; what the work failed at.
pub(super) fn in_child<T: Serialize + DeserializeOwned>(namespaces: u64, work: impl FnOnce() -> SysResult<T>) -> Result<T> {
    let doing = || "work in a network namespace".to_string();
    let (ours, theirs) = fd::pipe().doing(doing)?;
    match process::clone3(&Clone { flags: namespaces, cgroup: None }).doing(doing)? {
        Forked::Child => {
            drop(ours);
            // An error goes back as its words, an answer as JSON.
            let answer = work().map_err(|fact| fact.to_string());
            let _ = serde_json::to_vec(&answer).map(|bytes| File::from(theirs).write_all(&bytes));
            process::exit_now(0)
        }
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            let mut bytes = Vec::new();
            let read = File::from(ours).read_to_end(&mut bytes);
            process::wait(pidfd.as_fd()).doing(doing)?;
            read.doing(doing)?;
            let answer: std::result::Result<T, String> =
                serde_json::from_slice(&bytes).map_err(|e| Error::new(Class::System, doing(), e.to_string()))?;
            answer.map_err(|why| Error::new(Class::System, doing(), why))
        }
    }
}

/// Sends one: for TCP the beginning of a connection, for UDP a datagram with one NUL; waits this long for an answer.
pub fn send(to: SocketAddr, protocol: Protocol, patience: Duration) -> (Outcome, Duration) {
    let began = Instant::now();
    let sent = match protocol {
        Protocol::Tcp => TcpStream::connect_timeout(&to, patience).map(drop),
        Protocol::Udp => datagram(to, patience),
    };
    let outcome = match sent {
        Ok(()) => Outcome::Answered,
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Outcome::Refused,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock) => Outcome::Silence,
        Err(e) => Outcome::Failed { errno: e.raw_os_error().map_or_else(|| e.to_string(), |n| format!("{:?}", nix::errno::Errno::from_raw(n))) },
    };
    (outcome, began.elapsed())
}

fn datagram(to: SocketAddr, patience: Duration) -> std::io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(&[0])?;
    // An ICMP "port unreachable" comes back as ECONNREFUSED (udp(7)).
    socket.recv(&mut [0; 64]).map(drop)
}

/// Asks a name server for the addresses of a name; None when it doesn't answer in time.
pub fn resolve(server: SocketAddr, name: &str, patience: Duration) -> Option<Vec<IpAddr>> {
    let mut found = Vec::new();
    for kind in [A, AAAA] {
        found.extend(ask(server, name, kind, patience)?);
    }
    Some(found)
}

fn ask(server: SocketAddr, name: &str, kind: u16, patience: Duration) -> Option<Vec<IpAddr>> {
    let id = std::process::id() as u16;
    let mut question = [id.to_be_bytes(), [1, 0], [0, 1], [0, 0], [0, 0], [0, 0]].concat();
    question.extend(message::labels(name)?);
    question.extend([kind.to_be_bytes(), [0, 1]].concat());
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(server).ok()?;
    socket.set_read_timeout(Some(patience)).ok()?;
    socket.send(&question).ok()?;
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).ok()?;
    match message::reply(&bytes[..length], id, &question) {
        Reply::Foreign => None,
        Reply::Failed => Some(Vec::new()),
        Reply::Good => Some(addresses(&bytes[..length], question.len(), kind)),
    }
}

/// The addresses in an answer, which begins at `at`; what else is there (CNAME) is passed over.
fn addresses(packet: &[u8], mut at: usize, kind: u16) -> Vec<IpAddr> {
    let number = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let mut found = Vec::new();
    for _ in 0..number(HEADER - 6).unwrap_or(0) {
        // A name ends with a NUL or with a pointer of two bytes (RFC 1035, 4.1.4).
        while packet.get(at).is_some_and(|length| (1..64).contains(length)) {
            at += 1 + usize::from(packet[at]);
        }
        at += if packet.get(at).is_some_and(|length| *length >= 0xc0) { 2 } else { 1 };
        let Some((told, length)) = number(at).zip(number(at + 8)) else { break };
        let data = packet.get(at + 10..at + 10 + usize::from(length)).unwrap_or_default();
        if told == kind {
            found.extend(crate::network::message::address_of(data));
        }
        at += 10 + usize::from(length);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_behind_pointers_and_other_records() {
        let question = b"\x02db\x00\x00\x01\x00\x01";
        let mut packet = [&[0, 1, 0x80, 0, 0, 1, 0, 2, 0, 0, 0, 0][..], question].concat();
        let start = packet.len();
        packet.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x01\x00\x04\x01x\xc0\x0c");
        packet.extend(b"\x01x\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x0a\x00\x00\x02");
        assert_eq!(addresses(&packet, start, A), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        for end in 0..packet.len() {
            assert!(addresses(&packet[..end], start, A).is_empty(), "{end}");
        }
    }
}
