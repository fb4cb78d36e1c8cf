//! The name server of one container, at 127.0.0.11: names of its networks are answered here, all others are asked further.
//!
//! It lives in the monitor's loop over poll(2): no thread, no call that waits, and no client can make it use more than a fixed
//! amount of memory. One epoll descriptor stands for all of its sockets, so that a thousand of them cost the monitor as much as one.
//!
//! See it: `dig web` in a container on a network of your own. Read: RFC 1035; epoll(7); resolv.conf(5).

pub mod message;
pub mod names;
pub mod redirect;
pub mod resolv_conf;
mod stream;
mod upstream;

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::error::{Doing, Result, SysError};
use message::Read;
pub use names::Names;
use stream::Stream;
use upstream::{Answered, Client, Upstream};

/// The numbers of the two sockets that are always there; connections and questions have greater ones.
const UDP: u64 = 0;
const TCP: u64 = 1;

/// At most so many packets are read over UDP before others have their turn.
const PACKETS: usize = 128;
/// No question over UDP is longer (RFC 6891, 6.2.5): what is cut here was none.
const QUESTION: usize = 4096;
const CONNECTIONS: usize = 64;
/// As many questions of one connection may be asked further at one time.
const PIPELINE: usize = 32;
const IDLE: Duration = Duration::from_secs(10);
/// How long no connection is taken when the process has no file descriptor left.
const PAUSE: Duration = Duration::from_secs(1);

/// The name server of one container.
pub struct Server {
    epoll: Epoll,
    udp: UdpSocket,
    tcp: TcpListener,
    connections: BTreeMap<u64, Connection>,
    upstream: Upstream,
    /// The last number that a connection or a question got.
    last: u64,
    turn: usize,
    paused: Option<Instant>,
    buffer: Box<[u8]>,
}

struct Connection {
    stream: Stream,
    heard: Instant,
    /// Questions that were asked further.
    pending: usize,
    interest: EpollFlags,
}

impl Server {
    /// Answers at two sockets of the container's network namespace; the sockets to `upstream` are made in the caller's own.
    /// Without `forwards` (a container that has internal networks only), unknown names get SERVFAIL, as Docker's do.
    ///
    /// # Errors
    /// EMFILE, ENOMEM.
    pub fn new(udp: UdpSocket, tcp: TcpListener, upstream: Vec<SocketAddr>, forwards: bool) -> Result<Server> {
        let story = || "set up the name server".to_string();
        udp.set_nonblocking(true).doing(story)?;
        tcp.set_nonblocking(true).doing(story)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| SysError::new("epoll_create1", "EPOLL_CLOEXEC", e)).doing(story)?;
        let fact = |e| SysError::new("epoll_ctl", "EPOLL_CTL_ADD, EPOLLIN", e);
        epoll.add(&udp, EpollEvent::new(EpollFlags::EPOLLIN, UDP)).map_err(fact).doing(story)?;
        epoll.add(&tcp, EpollEvent::new(EpollFlags::EPOLLIN, TCP)).map_err(fact).doing(story)?;
        let upstream = Upstream::new(if forwards { upstream } else { Vec::new() })?;
        let buffer = vec![0; QUESTION].into();
        Ok(Server { epoll, udp, tcp, connections: BTreeMap::new(), upstream, last: TCP, turn: 0, paused: None, buffer })
    }

    /// What poll(2) is to wait for.
    pub fn waits(&self) -> [(BorrowedFd<'_>, PollFlags); 1] {
        [(self.epoll.0.as_fd(), PollFlags::POLLIN)]
    }

    /// Does what can be done now, at most some hundred packets of it. `names` is called after questions have arrived, once for those
    /// that came together on one socket: no question is answered with names that are older than itself.
    pub fn ready(&mut self, names: &mut dyn FnMut() -> Rc<Names>) {
        let mut events = [EpollEvent::empty(); 16];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..count] {
            match event.data() {
                UDP => self.read_udp(names),
                TCP => self.accept(),
                number if self.connections.contains_key(&number) => self.serve(number, event.events(), names),
                number => {
                    let answered = self.upstream.ready(&self.epoll, &mut self.last, number);
                    self.deliver(answered);
                }
            }
        }
    }

    /// When [`Server::on_time`] is to be called.
    pub fn due(&self) -> Option<Instant> {
        let idle = self.connections.values().map(|connection| connection.heard + IDLE).min();
        [self.upstream.due(), idle, self.paused].into_iter().flatten().min()
    }

    /// Asks the next server where one was too slow, and closes connections on which nothing was heard for ten seconds.
    pub fn on_time(&mut self) {
        let now = Instant::now();
        for answered in self.upstream.on_time(&self.epoll, &mut self.last, now) {
            self.deliver(Some(answered));
        }
        // Closing a socket takes it out of the epoll set (epoll(7), question 6).
        self.connections.retain(|_, connection| connection.heard + IDLE > now);
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            let _ = self.epoll.modify(&self.tcp, &mut EpollEvent::new(EpollFlags::EPOLLIN, TCP));
        }
    }

    fn read_udp(&mut self, names: &mut dyn FnMut() -> Rc<Names>) {
        let mut packets = Vec::new();
        for _ in 0..PACKETS {
            // EAGAIN: all read. Any other error is of one answer that did not arrive (ip(7), ECONNREFUSED).
            match self.udp.recv_from(&mut self.buffer) {
                Ok((length, from)) => packets.push((self.buffer[..length].to_vec(), from)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        let known = LazyCell::new(names);
        for (packet, from) in packets {
            let client = Client::Udp(from);
            let answered = match message::read(&packet) {
                Read::Drop => None,
                Read::Refuse(refusal) => Some((client, refusal)),
                Read::Question(question) => {
                    self.turn = self.turn.wrapping_add(1);
                    match known.answer(&question, self.turn, question.room()) {
                        Some(answer) => Some((client, answer)),
                        None => self.upstream.ask(&self.epoll, &mut self.last, client, question.packet),
                    }
                }
            };
            self.deliver(answered);
        }
    }

    fn accept(&mut self) {
        for _ in 0..PACKETS {
            let socket = match self.tcp.accept() {
                Ok((socket, _)) => socket,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) => {
                    // The connection stays in the queue and poll(2) would return at once, for ever.
                    self.paused = Some(Instant::now() + PAUSE);
                    let _ = self.epoll.modify(&self.tcp, &mut EpollEvent::new(EpollFlags::empty(), TCP));
                    return;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => continue,
            };
            if self.connections.len() >= CONNECTIONS {
                let quietest = self.connections.iter().min_by_key(|(_, connection)| connection.heard).map(|(number, _)| *number);
                quietest.and_then(|number| self.connections.remove(&number));
            }
            self.last += 1;
            let interest = EpollFlags::EPOLLIN;
            if socket.set_nonblocking(true).is_ok() && self.epoll.add(&socket, EpollEvent::new(interest, self.last)).is_ok() {
                let connection = Connection { stream: Stream::new(socket), heard: Instant::now(), pending: 0, interest };
                self.connections.insert(self.last, connection);
            }
        }
    }

    /// Reads and answers what came over a connection.
    fn serve(&mut self, number: u64, events: EpollFlags, names: &mut dyn FnMut() -> Rc<Names>) {
        let Some(mut connection) = self.connections.remove(&number) else { return };
        let readable = events.contains(EpollFlags::EPOLLIN);
        if events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) && !readable || connection.stream.flush().is_err() {
            return;
        }
        if readable {
            connection.heard = Instant::now();
            if connection.stream.read().is_err() {
                return;
            }
        }
        let known = LazyCell::new(names);
        while let Some(packet) = connection.stream.next_message() {
            let answer = match message::read(&packet) {
                // Here a client that sends something else than questions can be told to go.
                Read::Drop => return,
                Read::Refuse(refusal) => Some(refusal),
                Read::Question(question) => {
                    self.turn = self.turn.wrapping_add(1);
                    known.answer(&question, self.turn, usize::from(u16::MAX)).or_else(|| {
                        if connection.pending >= PIPELINE {
                            return Some(message::error(&question, message::Code::ServFail));
                        }
                        let answered = self.upstream.ask(&self.epoll, &mut self.last, Client::Tcp(number), question.packet);
                        connection.pending += usize::from(answered.is_none());
                        answered.map(|(_, answer)| answer)
                    })
                }
            };
            if answer.is_some_and(|answer| connection.stream.send(&answer).is_err()) {
                return;
            }
        }
        self.keep(number, connection);
    }

    /// Gives an answer to who asked. Who has gone meanwhile gets none.
    fn deliver(&mut self, answered: Option<Answered>) {
        match answered {
            None => {}
            // No room in the socket's buffer is one packet lost, as on any network: the client asks again.
            Some((Client::Udp(to), answer)) => drop(self.udp.send_to(&answer, to)),
            Some((Client::Tcp(number), answer)) => {
                let Some(mut connection) = self.connections.remove(&number) else { return };
                connection.pending -= 1;
                if connection.stream.send(&answer).is_ok() {
                    self.keep(number, connection);
                }
            }
        }
    }

    /// Puts a connection back, unless all was said on it.
    fn keep(&mut self, number: u64, mut connection: Connection) {
        if connection.stream.ended && connection.pending == 0 && connection.stream.is_flushed() {
            return;
        }
        let interest = connection.stream.interest();
        if interest != connection.interest {
            connection.interest = interest;
            let _ = self.epoll.modify(&connection.stream, &mut EpollEvent::new(interest, number));
        }
        self.connections.insert(number, connection);
    }
}
