//! UDP through the proxy: each client that has spoken gets a socket of its own towards the container, so that answers find their way
//! back; one that is silent for long is forgotten.
//!
//! Read: udp(7), ip(7) on IP_PKTINFO.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::SockType;

use super::{AT_ONCE, Way};
use crate::sys::SysResult;
use crate::sys::inet::{self, Here};

/// After so long without a word a client is forgotten: docker-proxy's time, and longer than the kernel's own 30 s for a question.
const SILENT: Duration = Duration::from_secs(90);
/// So many clients are known at once; for another one the most silent is forgotten.
const KNOWN: usize = 1000;

/// A datagram from a client, by its length in the common buffer.
pub struct Heard {
    length: usize,
    from: SocketAddr,
    here: Option<Here>,
}

/// A client that has spoken.
pub struct Peer {
    pub socket: OwnedFd,
    way: usize,
    from: SocketAddr,
    here: Option<Here>,
    last: Instant,
}

/// Who has spoken at which way, to which of our addresses.
type Name = (usize, SocketAddr, Option<Here>);

/// All clients of UDP ports.
pub struct Datagrams {
    peers: HashMap<u32, Peer>,
    names: HashMap<Name, u32>,
    /// Room for the longest datagram.
    bytes: Vec<u8>,
}

impl Default for Datagrams {
    fn default() -> Datagrams {
        Datagrams { peers: HashMap::new(), names: HashMap::new(), bytes: vec![0; 1 << 16] }
    }
}

impl Peer {
    /// A client's way to the container.
    ///
    /// # Errors
    /// EMFILE, ENETUNREACH.
    pub fn new(way: usize, heard: &Heard, to: SocketAddr) -> SysResult<Peer> {
        let socket = inet::connecting(to, SockType::Datagram)?;
        Ok(Peer { socket, way, from: heard.from, here: heard.here, last: Instant::now() })
    }

    fn name(&self) -> Name {
        (self.way, self.from, self.here)
    }
}

impl Datagrams {
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub fn has(&self, number: u32) -> bool {
        self.peers.contains_key(&number)
    }

    /// The next datagram of a way.
    ///
    /// # Errors
    /// EAGAIN when there is none.
    pub fn hear(&mut self, way: &Way) -> SysResult<Heard> {
        let (length, from, here) = inet::receive_from(way.socket.as_fd(), &mut self.bytes)?;
        Ok(Heard { length, from, here })
    }

    pub fn known(&self, way: usize, heard: &Heard) -> Option<u32> {
        self.names.get(&(way, heard.from, heard.here)).copied()
    }

    pub fn add(&mut self, number: u32, peer: Peer) {
        if self.peers.len() >= KNOWN
            && let Some(silent) = self.peers.iter().min_by_key(|(_, peer)| peer.last).map(|(number, _)| *number)
        {
            self.forget(silent);
        }
        self.names.insert(peer.name(), number);
        self.peers.insert(number, peer);
    }

    /// Sends what was heard to the container. What gets lost is lost, as on any way of a datagram.
    pub fn pass_on(&mut self, number: u32, heard: &Heard) {
        if let Some(peer) = self.peers.get_mut(&number) {
            peer.last = Instant::now();
            let _ = nix::unistd::write(&peer.socket, &self.bytes[..heard.length]);
        }
    }

    /// Sends what the container has said back to the client.
    pub fn answer(&mut self, number: u32, ways: &[Way]) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        for _ in 0..AT_ONCE {
            // ECONNREFUSED: nobody listens in the container, as an ICMP message has told; that is read, and gone.
            let Ok(length) = nix::unistd::read(&peer.socket, &mut self.bytes) else { return };
            peer.last = Instant::now();
            let _ = inet::send_from(ways[peer.way].socket.as_fd(), &self.bytes[..length], peer.from, peer.here);
        }
    }

    /// Forgets those who have been silent too long.
    pub fn forget_silent(&mut self, now: Instant) {
        let silent = |peer: &Peer| now.saturating_duration_since(peer.last) >= SILENT;
        let numbers: Vec<u32> = self.peers.iter().filter(|(_, peer)| silent(peer)).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.forget(number));
    }

    fn forget(&mut self, number: u32) {
        if let Some(peer) = self.peers.remove(&number) {
            self.names.remove(&peer.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(port: u16) -> Heard {
        Heard { length: 0, from: SocketAddr::from(([127, 0, 0, 1], port)), here: None }
    }

    fn known_are(count: u16) -> Datagrams {
        let mut datagrams = Datagrams::default();
        for port in 1..=count {
            // A connected UDP socket sends nothing before it is written to.
            let peer = Peer::new(0, &heard(port), SocketAddr::from(([127, 0, 0, 1], 9))).unwrap();
            datagrams.add(u32::from(port), peer);
        }
        datagrams
    }

    #[test]
    fn whoever_is_silent_for_ninety_seconds_is_forgotten() {
        let mut datagrams = known_are(2);
        let began = datagrams.peers[&1].last;
        datagrams.peers.get_mut(&2).unwrap().last = began + Duration::from_secs(60);
        datagrams.forget_silent(began + Duration::from_secs(89));
        assert_eq!((datagrams.known(0, &heard(1)), datagrams.known(0, &heard(2))), (Some(1), Some(2)));
        datagrams.forget_silent(began + Duration::from_secs(90));
        assert_eq!((datagrams.known(0, &heard(1)), datagrams.known(0, &heard(2))), (None, Some(2)));
    }

    #[test]
    fn no_more_than_a_thousand_are_known() {
        let mut datagrams = known_are(KNOWN as u16 + 1);
        assert_eq!((datagrams.peers.len(), datagrams.names.len()), (KNOWN, KNOWN));
        assert!(datagrams.known(0, &heard(1)).is_none() && datagrams.known(0, &heard(2)).is_some());
        datagrams.forget_silent(Instant::now() + SILENT);
        assert!(datagrams.is_empty() && datagrams.names.is_empty());
    }
}
