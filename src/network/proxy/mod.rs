//! Copies what arrives at a port of the host to a container, and back.
//!
//! What comes from outside goes the kernel's way (nf_tables changes the destination). What the host itself sends to 127.0.0.1 or ::1 does
//! not, nor does anything where the networks are an ordinary user's: it ends at the socket that holds the port. For that there is this
//! process, one for each container, which begins with the first such connection and ends with its monitor.
//!
//! One loop over epoll(7), no thread. It parses nothing and keeps no privilege.
//!
//! See it: `ps -C onggi-proxy`, `ss -tnp`. Read: epoll(7), splice(2), udp(7).

mod datagram;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::SockType;

use self::datagram::{Datagrams, Peer};
use self::stream::{Pipe, Stream};
use super::ports::Protocol;
use crate::error::{Doing, Result};
use crate::sys::namespace::{self, CLONE_NEWNET};
use crate::sys::process::{self, Clone, Forked};
use crate::sys::{fd, ids, inet};

/// From where to where.
#[derive(Debug)]
pub struct Way {
    /// A TCP socket that listens, or a UDP socket that is bound, of the host's network namespace; nonblocking.
    pub socket: OwnedFd,
    pub protocol: Protocol,
    pub to: SocketAddr,
}

/// Forks the process that serves these ways until it is killed or its parent ends. `namespace` is the network namespace where the
/// ways' ends can be reached, when it isn't the caller's. Answers a handle on the process (pidfd).
///
/// Only to be called in a process with one thread.
///
/// # Errors
/// EAGAIN, EMFILE.
pub fn begin(ways: Vec<Way>, namespace: Option<BorrowedFd>) -> Result<OwnedFd> {
    let doing = || "start the proxy of the published ports".to_string();
    let parent = std::process::id();
    match process::clone3(&Clone::default()).doing(doing)? {
        Forked::Parent { pidfd, .. } => Ok(pidfd),
        Forked::Child => {
            let served = settle(parent, &ways, namespace).and_then(|()| Proxy::new(ways)?.serve());
            process::exit_now(i32::from(served.is_err()))
        }
    }
}

/// Leaves all that was the parent's but the sockets.
fn settle(parent: u32, ways: &[Way], namespace: Option<BorrowedFd>) -> Result<()> {
    let doing = || "settle as a proxy".to_string();
    process::die_with_parent().doing(doing)?;
    // prctl(2): a parent that ended before the call is not noticed.
    if nix::unistd::getppid().as_raw() as u32 != parent {
        process::exit_now(1);
    }
    process::set_name(c"onggi-proxy");
    process::default_signals();
    // A write to a connection that is gone is an error to be looked at, not the end.
    SigSet::from_iter([Signal::SIGPIPE]).thread_block().doing(doing)?;
    if let Some(namespace) = namespace {
        namespace::setns(namespace, CLONE_NEWNET).doing(doing)?;
    }
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").doing(doing)?;
    for number in 0..3 {
        fd::dup_onto(null.as_fd(), number).doing(doing)?;
    }
    let kept: Vec<BorrowedFd> = ways.iter().map(|way| way.socket.as_fd()).collect();
    // What it has copied from its parent stays closed: `null` is among it.
    std::mem::forget(null);
    process::close_all_but(3, &kept).doing(doing)?;
    process::no_new_privileges().doing(doing)?;
    ids::capset(ids::Capabilities::default()).doing(doing)
}

/// Whom an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Token {
    Way(usize),
    Client(u32),
    Container(u32),
    Peer(u32),
}

impl Token {
    fn number(self) -> u64 {
        let (kind, number) = match self {
            Token::Way(at) => (0, at as u32),
            Token::Client(number) => (1, number),
            Token::Container(number) => (2, number),
            Token::Peer(number) => (3, number),
        };
        kind << 32 | u64::from(number)
    }

    fn of(number: u64) -> Token {
        let low = number as u32;
        match number >> 32 {
            0 => Token::Way(low as usize),
            1 => Token::Client(low),
            2 => Token::Container(low),
            _ => Token::Peer(low),
        }
    }
}

/// So many connections are taken in one go before others have their turn.
const AT_ONCE: usize = 64;
/// When there is no descriptor left, new connections wait for that long: the list of them would be readable all the time.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);
/// As often silent UDP peers are looked for.
const LOOK_FOR_SILENT: Duration = Duration::from_secs(10);

struct Proxy {
    ways: Vec<Way>,
    epoll: Epoll,
    pipe: Pipe,
    streams: HashMap<u32, Stream>,
    datagrams: Datagrams,
    next: u32,
    /// New connections are not taken until then.
    closed_until: Option<Instant>,
    /// The one that was taken with the last descriptor, and its way.
    waiting: Option<(usize, OwnedFd)>,
    /// When silent UDP peers were last looked for.
    looked: Instant,
}

impl Proxy {
    fn new(ways: Vec<Way>) -> Result<Proxy> {
        let doing = || "settle as a proxy".to_string();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).doing(doing)?;
        let (pipe, datagrams, looked) = (Pipe::new()?, Datagrams::default(), Instant::now());
        let proxy = Proxy { ways, epoll, pipe, streams: HashMap::new(), datagrams, next: 0, closed_until: None, waiting: None, looked };
        proxy.listen(true).doing(doing)?;
        Ok(proxy)
    }

    /// Starts or stops to look at what arrives at the host.
    fn listen(&self, on: bool) -> nix::Result<()> {
        let events = if on { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        for (at, way) in self.ways.iter().enumerate() {
            let mut event = EpollEvent::new(events, Token::Way(at).number());
            match self.epoll.modify(&way.socket, &mut event) {
                Err(Errno::ENOENT) => self.epoll.add(&way.socket, event)?,
                done => done?,
            }
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Err(Errno::EINTR) => continue,
                waited => waited.doing(|| "wait for connections".into())?,
            };
            for event in &events[..count] {
                match Token::of(event.data()) {
                    Token::Way(at) if self.ways[at].protocol == Protocol::Tcp => self.take_connections(at),
                    Token::Way(at) => self.take_datagrams(at),
                    Token::Client(number) | Token::Container(number) => self.go_on(number),
                    Token::Peer(number) => self.datagrams.answer(number, &self.ways),
                }
            }
            if self.looked.elapsed() >= LOOK_FOR_SILENT {
                self.looked = Instant::now();
                self.datagrams.forget_silent(self.looked);
            }
            if self.closed_until.is_some_and(|until| until <= Instant::now()) {
                self.closed_until = None;
                let waiting = self.waiting.take();
                if waiting.is_none_or(|(at, client)| self.take(at, client)) {
                    let _ = self.listen(true);
                }
            }
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let wait = match (self.closed_until, self.datagrams.is_empty()) {
            (Some(_), _) => OUT_OF_DESCRIPTORS,
            (None, false) => LOOK_FOR_SILENT,
            (None, true) => return EpollTimeout::NONE,
        };
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::NONE)
    }

    fn fresh(&mut self) -> u32 {
        loop {
            self.next = self.next.wrapping_add(1);
            if !self.streams.contains_key(&self.next) && !self.datagrams.has(self.next) {
                return self.next;
            }
        }
    }

    fn take_connections(&mut self, at: usize) {
        for _ in 0..AT_ONCE {
            let client = match fd::accept(self.ways[at].socket.as_fd()) {
                Ok(client) => client,
                Err(e) if matches!(e.errno(), Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => return self.close_for_a_while(),
                // accept(2): what was wrong with one connection is told here; the next may be good.
                Err(e) if matches!(e.errno(), Errno::EAGAIN | Errno::EINVAL | Errno::EBADF) => return,
                Err(_) => continue,
            };
            if !self.take(at, client) {
                return;
            }
        }
    }

    /// Serves a new client; false when that has to wait, and it with all others.
    fn take(&mut self, at: usize, client: OwnedFd) -> bool {
        match inet::connecting(self.ways[at].to, SockType::Stream) {
            Ok(container) => {
                let number = self.fresh();
                self.streams.insert(number, Stream::new(client, container));
                self.go_on(number);
                true
            }
            Err(e) if matches!(e.errno(), Errno::EMFILE | Errno::ENFILE) => {
                self.waiting = Some((at, client));
                self.close_for_a_while();
                false
            }
            Err(_) => {
                inet::reset_at_close(client.as_fd());
                true
            }
        }
    }

    fn close_for_a_while(&mut self) {
        self.closed_until = Some(Instant::now() + OUT_OF_DESCRIPTORS);
        let _ = self.listen(false);
    }

    fn go_on(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let tokens = [Token::Client(number).number(), Token::Container(number).number()];
        if !stream.go_on(&mut self.pipe) || stream.watch(&self.epoll, tokens).is_err() {
            // Closed, both sockets leave epoll's list by themselves (epoll(7), question 6).
            self.streams.remove(&number);
        }
    }

    fn take_datagrams(&mut self, at: usize) {
        for _ in 0..AT_ONCE {
            let Ok(heard) = self.datagrams.hear(&self.ways[at]) else { return };
            if let Some(number) = self.datagrams.known(at, &heard) {
                self.datagrams.pass_on(number, &heard);
                continue;
            }
            let number = self.fresh();
            let Ok(peer) = Peer::new(at, &heard, self.ways[at].to) else { continue };
            let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Peer(number).number());
            if self.epoll.add(&peer.socket, event).is_ok() {
                self.datagrams.add(number, peer);
                self.datagrams.pass_on(number, &heard);
            }
        }
    }
}
