//! Finding: one question on each network that this machine is on, and the answers of a few seconds.
//!
//! See it: `tcpdump -ni any udp port 5353`. Source: RFC 6762, 5.1 "One-Shot Multicast DNS Queries".

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::addresses;
use super::mdns::{self, Announced, GROUP, LONGEST, PORT};
use crate::error::{Class, Doing, Error, Result};

/// More registries than this in one room are somebody's joke.
const MOST: usize = 100;

/// The registries that answer in this time.
///
/// # Errors
/// NotFound without a network.
pub fn find(time: Duration) -> Result<Vec<Announced>> {
    let own = addresses::own();
    if own.is_empty() {
        return Err(Error::new(Class::NotFound, "look for registries", "this machine is on no network with neighbours"));
    }
    let doing = || "ask for registries".to_string();
    let question = mdns::ask(true).ok_or_else(|| Error::invalid(doing(), ""))?;
    let mut sockets = Vec::new();
    for own in own {
        // Bound to the network's own address, the question goes out there.
        let Ok(socket) = UdpSocket::bind((own.address, 0)) else { continue };
        socket.set_multicast_ttl_v4(255).and_then(|()| socket.set_nonblocking(true)).doing(doing)?;
        sockets.push(socket);
    }
    let (begun, mut asked, mut found) = (Instant::now(), 0, BTreeSet::new());
    let mut bytes = vec![0; LONGEST];
    while begun.elapsed() < time {
        // Once more in the middle: wireless networks lose what is for all.
        if begun.elapsed() >= time / 2 * asked && asked < 2 {
            asked += 1;
            sockets.iter().for_each(|socket| drop(socket.send_to(&question, (GROUP, PORT))));
        }
        for socket in &sockets {
            while let Ok((length, _)) = socket.recv_from(&mut bytes) {
                found.extend(mdns::read(&bytes[..length]));
            }
        }
        if found.len() > MOST {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(found.into_iter().take(MOST).collect())
}
