//! Being found: answers to those on the same network who ask for registries, by multicast DNS.
//!
//! The port is shared with other programs of this machine that speak it. Only neighbours are answered, and not more than a few times a second.
//! The name is not tried out first (RFC 6762, 8.1): registries are called after their machines.
//!
//! See it: `onggi registry find`, `avahi-browse -rt _onggi-registry._tcp`. Source: RFC 6762, 6763.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::addresses::{self, Own};
use super::mdns::{self, Announced, GROUP, LONGEST, PORT};
use crate::error::{Doing, Result};
use crate::sys::inet::{self, Here};

/// So often the machine's addresses are looked at again: laptops join networks.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// More answers in a second nobody needs.
const MOST_A_SECOND: u32 = 30;

/// A registry that is being announced. Dropped, it says that it is gone.
pub struct Announcing {
    socket: Arc<UdpSocket>,
    ours: Announced,
}

/// Announces a registry at this port of all our addresses.
///
/// # Errors
/// EADDRINUSE when a program has the port of multicast DNS for itself.
pub fn begin(name: &str, port: u16, is_tls: bool) -> Result<Announcing> {
    let doing = || "announce the registry by multicast DNS".to_string();
    let socket = UdpSocket::from(inet::shared(PORT).doing(doing)?);
    socket.set_nonblocking(false).and_then(|()| socket.set_read_timeout(Some(Duration::from_secs(1)))).doing(doing)?;
    // RFC 6762, 11: so that one who gets it can tell that no router passed it on.
    socket.set_multicast_ttl_v4(255).doing(doing)?;
    let socket = Arc::new(socket);
    // DNS allows a label 63 bytes.
    let name: String = name.char_indices().take_while(|(at, letter)| at + letter.len_utf8() <= 63).map(|(_, letter)| letter).collect();
    let host = format!("onggi-{}", addresses::host_name()).chars().take(63).collect();
    let ours = Announced { name, host, address: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port), is_tls };
    let (listening, answering) = (socket.clone(), ours.clone());
    std::thread::Builder::new().name("announce".into()).spawn(move || listen(&listening, answering)).doing(doing)?;
    Ok(Announcing { socket, ours })
}

impl Drop for Announcing {
    fn drop(&mut self) {
        for own in addresses::own() {
            tell(&self.socket, &mut self.ours, own, true);
        }
    }
}

fn listen(socket: &UdpSocket, mut ours: Announced) {
    let mut joined: Vec<Own> = Vec::new();
    let mut looked: Option<Instant> = None;
    let (mut second, mut answers) = (Instant::now(), 0);
    let mut again = Vec::new();
    let mut bytes = vec![0; LONGEST];
    loop {
        // Said twice, with a second between (RFC 6762, 8.3).
        std::mem::take(&mut again).into_iter().for_each(|own| tell(socket, &mut ours, own, false));
        if looked.is_none_or(|time| time.elapsed() > LOOK_AGAIN) {
            looked = Some(Instant::now());
            let now = addresses::own();
            for own in now.iter().filter(|own| !joined.contains(own)) {
                let _ = socket.join_multicast_v4(&GROUP, &own.address);
                tell(socket, &mut ours, *own, false);
                again.push(*own);
            }
            joined = now;
        }
        if second.elapsed() > Duration::from_secs(1) {
            (second, answers) = (Instant::now(), 0);
        }
        let Ok((length, SocketAddr::V4(from), Some(here))) = inet::receive_from(socket.as_fd(), &mut bytes) else { continue };
        let Some(own) = joined.iter().find(|own| own.is_neighbour(*from.ip())) else { continue };
        if answers < MOST_A_SECOND && reply(socket, &bytes[..length], &mut ours, (from, here, *own)) {
            answers += 1;
        }
    }
}

/// Whether there was something to say.
fn reply(socket: &UdpSocket, message: &[u8], ours: &mut Announced, (from, here, own): (SocketAddrV4, Here, Own)) -> bool {
    ours.address.set_ip(own.address);
    let Some((answer, for_all)) = mdns::reply(message, ours, from.port() != PORT) else { return false };
    let to = if for_all { SocketAddrV4::new(GROUP, PORT) } else { from };
    let here = Here { address: own.address.into(), ..here };
    inet::send_from(socket.as_fd(), &answer, to.into(), Some(here)).is_ok()
}

fn tell(socket: &UdpSocket, ours: &mut Announced, own: Own, gone: bool) {
    ours.address.set_ip(own.address);
    if let Some(words) = mdns::announcement(ours, gone) {
        let here = Here { address: own.address.into(), link: 0 };
        let _ = inet::send_from(socket.as_fd(), &words, (GROUP, PORT).into(), Some(here));
    }
}
