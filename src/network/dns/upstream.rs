//! Questions that others must answer: they go to the host's own name servers as they came, and the answers come back the same way.
//!
//! Each question has a socket of its own: the kernel chooses its port at random and takes answers only from the server that was
//! asked. Together with a random ID, somebody who wants to slip in a wrong answer has to guess 32 bits within two seconds.
//!
//! See it: `ss -unp` in the host's network namespace. Read: RFC 5452 (forged answers), udp(7), resolver(5).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, connect, socket};

use super::message::{self, Code, Read as Packet, Reply};
use super::stream::Stream;
use crate::error::{Doing, Result};

/// How long one server may think. Clients wait five seconds (resolver(5), RES_TIMEOUT): a second server can answer within that.
const PATIENCE: Duration = Duration::from_secs(2);
/// As many questions as may be with the servers at one time.
const MOST: u64 = 1000;
/// As many servers as a C library would ask (resolver(5), MAXNS).
const SERVERS: usize = 3;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Udp(SocketAddr),
    /// The number of the connection.
    Tcp(u64),
}

/// A packet and who gets it.
pub type Answered = (Client, Vec<u8>);

/// The servers, and what they were asked.
pub struct Upstream {
    servers: Vec<SocketAddr>,
    /// By number. Numbers only grow and patience is the same for all, so that the first is the next to time out.
    asked: BTreeMap<u64, Asked>,
    random: BufReader<File>,
    most: usize,
    buffer: Box<[u8]>,
}

struct Asked {
    client: Client,
    packet: Vec<u8>,
    /// Our ID of the question, not the client's.
    id: u16,
    /// Which of the servers has it.
    server: usize,
    link: Link,
    deadline: Instant,
}

enum Link {
    Udp(UdpSocket),
    Tcp(Stream),
}

impl Upstream {
    /// Nothing is opened before the first question.
    ///
    /// # Errors
    /// When there is no source of random numbers.
    pub fn new(mut servers: Vec<SocketAddr>) -> Result<Upstream> {
        servers.truncate(SERVERS);
        let random = File::open("/dev/urandom").doing(|| "open /dev/urandom for the IDs of DNS questions".into())?;
        // Half of the process' file descriptors are for others.
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(MOST, |(soft, _)| soft / 2);
        let most = files.min(MOST) as usize;
        Ok(Upstream { servers, asked: BTreeMap::new(), random: BufReader::with_capacity(256, random), most, buffer: vec![0; 65535].into() })
    }

    /// Asks the first server. An answer that comes at once says that there is nobody to ask.
    pub fn ask(&mut self, epoll: &Epoll, next: &mut u64, client: Client, packet: &[u8]) -> Option<Answered> {
        if self.asked.len() >= self.most {
            return Some((client, failure(packet)));
        }
        self.ask_from(epoll, next, client, packet.to_vec(), 0)
    }

    /// Asks the first server that can be reached, from number `server` on.
    fn ask_from(&mut self, epoll: &Epoll, next: &mut u64, client: Client, packet: Vec<u8>, server: usize) -> Option<Answered> {
        for (server, address) in self.servers.iter().enumerate().skip(server) {
            let mut id = [0; 2];
            if self.random.read_exact(&mut id).is_err() {
                break;
            }
            let mut question = packet.clone();
            question[..2].copy_from_slice(&id);
            let Ok(link) = Link::open(client, *address, &question) else { continue };
            *next += 1;
            if epoll.add(&link, EpollEvent::new(link.interest(), *next)).is_err() {
                break;
            }
            let id = u16::from_be_bytes(id);
            self.asked.insert(*next, Asked { client, packet, id, server, link, deadline: Instant::now() + PATIENCE });
            return None;
        }
        Some((client, failure(&packet)))
    }

    /// Reads what came for the question `number`.
    pub fn ready(&mut self, epoll: &Epoll, next: &mut u64, number: u64) -> Option<Answered> {
        let asked = self.asked.get_mut(&number)?;
        let heard = match asked.link.receive(&mut self.buffer) {
            Ok(None) => None,
            Ok(Some(packet)) => match message::reply(packet, asked.id, &asked.packet) {
                Reply::Foreign => None,
                Reply::Failed => Some(None),
                Reply::Good => Some(Some(packet.to_vec())),
            },
            // ECONNREFUSED, for one: nobody listens there.
            Err(_) => Some(None),
        };
        match heard {
            None => {
                let _ = epoll.modify(&asked.link, &mut EpollEvent::new(asked.link.interest(), number));
                None
            }
            Some(None) => self.ask_next(epoll, next, number),
            Some(Some(mut packet)) => {
                let asked = self.asked.remove(&number)?;
                packet[..2].copy_from_slice(&asked.packet[..2]);
                Some((asked.client, packet))
            }
        }
    }

    fn ask_next(&mut self, epoll: &Epoll, next: &mut u64, number: u64) -> Option<Answered> {
        let asked = self.asked.remove(&number)?;
        self.ask_from(epoll, next, asked.client, asked.packet, asked.server + 1)
    }

    /// When the next server's patience ends.
    pub fn due(&self) -> Option<Instant> {
        self.asked.first_key_value().map(|(_, asked)| asked.deadline)
    }

    /// Takes the questions from the servers that had time enough.
    pub fn on_time(&mut self, epoll: &Epoll, next: &mut u64, now: Instant) -> Vec<Answered> {
        let late: Vec<u64> = self.asked.iter().take_while(|(_, asked)| asked.deadline <= now).map(|(number, _)| *number).collect();
        late.into_iter().filter_map(|number| self.ask_next(epoll, next, number)).collect()
    }
}

/// What a client hears when nobody has answered.
fn failure(packet: &[u8]) -> Vec<u8> {
    match message::read(packet) {
        Packet::Question(question) => message::error(&question, Code::ServFail),
        Packet::Refuse(refusal) => refusal,
        Packet::Drop => Vec::new(),
    }
}

impl Link {
    /// A socket that has the question, or will have once it is connected. Who asked over TCP wants an answer longer than UDP carries.
    fn open(client: Client, server: SocketAddr, question: &[u8]) -> std::io::Result<Link> {
        if let Client::Udp(_) = client {
            let any: SocketAddr = match server {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            socket.connect(server)?;
            socket.send(question)?;
            return Ok(Link::Udp(socket));
        }
        let mut stream = Stream::new(start_to_connect(server)?);
        stream.queue(question);
        Ok(Link::Tcp(stream))
    }

    /// A packet, or nothing yet.
    fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> std::io::Result<Option<&'a [u8]>> {
        match self {
            Link::Udp(socket) => match socket.recv(buffer) {
                Ok(length) => Ok(Some(&buffer[..length])),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
            Link::Tcp(stream) => {
                stream.flush()?;
                stream.read()?;
                match stream.next_message() {
                    Some(packet) => {
                        buffer[..packet.len()].copy_from_slice(&packet);
                        Ok(Some(&buffer[..packet.len()]))
                    }
                    None if stream.ended => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    None => Ok(None),
                }
            }
        }
    }

    fn interest(&self) -> EpollFlags {
        match self {
            Link::Udp(_) => EpollFlags::EPOLLIN,
            Link::Tcp(stream) => stream.interest(),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Link::Udp(socket) => socket.as_fd(),
            Link::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// connect(2) without waiting for it: the standard library's waits.
fn start_to_connect(server: SocketAddr) -> std::io::Result<TcpStream> {
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    let connected = match server {
        SocketAddr::V4(server) => connect(socket.as_raw_fd(), &SockaddrIn::from(server)),
        SocketAddr::V6(server) => connect(socket.as_raw_fd(), &SockaddrIn6::from(server)),
    };
    match connected {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(errno) => Err(errno.into()),
    }
}
