//! One TCP connection through the proxy: two sockets, and bytes that go from one to the other, both ways.
//!
//! The end of one way is passed on and the other way goes on (a half-closed connection); a reset of one side resets the other.
//!
//! Read: tcp(7), shutdown(2), splice(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::error::{Doing, Result};
use crate::sys::{fd, inet};

/// What a user may have in a pipe without asking (fs.pipe-max-size).
const WIDE: usize = 1 << 20;
/// So many times one connection is served before others have their turn.
const TURNS: usize = 4;

/// A pipe that all connections share, for splice(2) moves bytes between a socket and a pipe only. Between two moves it is empty.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// An empty pipe.
    ///
    /// # Errors
    /// EMFILE.
    pub fn new() -> Result<Pipe> {
        let (read, write) = fd::pipe().doing(|| "settle as a proxy".into())?;
        inet::widen(write.as_fd(), WIDE as i32);
        Ok(Pipe { read, write })
    }

    /// Moves what `from` has to `to`, and answers with what `to` had no room for; None when `from` has said all.
    fn carry(&self, from: BorrowedFd, to: BorrowedFd) -> Result<Option<Vec<u8>>, Errno> {
        let mut inside = inet::splice(from, self.write.as_fd(), WIDE)?;
        if inside == 0 {
            return Ok(None);
        }
        let mut trouble = None;
        while inside > 0 {
            match inet::splice(self.read.as_fd(), to, inside) {
                Ok(moved) if moved > 0 => inside -= moved,
                Ok(_) | Err(Errno::EAGAIN) => break,
                Err(e) => {
                    trouble = Some(e);
                    break;
                }
            }
        }
        // The next connection must find the pipe empty.
        let rest = self.empty(inside)?;
        trouble.map_or(Ok(Some(rest)), Err)
    }

    fn empty(&self, inside: usize) -> Result<Vec<u8>, Errno> {
        let mut rest = vec![0; inside];
        let mut filled = 0;
        while filled < inside {
            filled += nix::unistd::read(&self.read, &mut rest[filled..])?;
        }
        Ok(rest)
    }
}

/// One of the two ends.
struct Side {
    socket: OwnedFd,
    /// What is on its way to it, and how much of that it has.
    pending: Vec<u8>,
    written: usize,
    /// It has said all.
    ended: bool,
    /// It was told that there will be no more.
    told: bool,
    /// What epoll waits for on its behalf.
    watched: EpollFlags,
}

/// A connection from a client to the container.
pub struct Stream {
    client: Side,
    container: Side,
    connecting: bool,
}

impl Stream {
    /// A connection of a client, and the one to the container that is on its way.
    pub fn new(client: OwnedFd, container: OwnedFd) -> Stream {
        let sides = [client, container];
        for side in &sides {
            inet::make_lively(side.as_fd());
            let _ = fd::set_nonblocking(side.as_fd());
        }
        let [client, container] = sides.map(Side::new);
        Stream { client, container, connecting: true }
    }

    /// Moves what can be moved. False when the connection is over.
    pub fn go_on(&mut self, pipe: &mut Pipe) -> bool {
        if self.connecting {
            match self.arrived() {
                Ok(true) => self.connecting = false,
                Ok(false) => return true,
                Err(_) => return self.reset(),
            }
        }
        let both = flow(&mut self.client, &mut self.container, pipe).and_then(|()| flow(&mut self.container, &mut self.client, pipe));
        match both {
            Ok(()) => !(self.client.told && self.container.told),
            Err(_) => self.reset(),
        }
    }

    /// Whether the connection to the container is there.
    fn arrived(&self) -> Result<bool, Errno> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut one = [PollFd::new(self.container.socket.as_fd(), PollFlags::POLLOUT)];
        poll(&mut one, PollTimeout::ZERO)?;
        if !one[0].any().unwrap_or(false) {
            return Ok(false);
        }
        inet::failure(self.container.socket.as_fd()).map_or(Ok(true), Err)
    }

    /// A connection that one side has broken off, or never took, is broken off for the other one, too.
    fn reset(&self) -> bool {
        inet::reset_at_close(self.client.socket.as_fd());
        inet::reset_at_close(self.container.socket.as_fd());
        false
    }

    /// Tells epoll what each side waits for. A side that waits for nothing is not watched: the kernel would tell of its hang-up for ever.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC.
    pub fn watch(&mut self, epoll: &Epoll, [client, container]: [u64; 2]) -> nix::Result<()> {
        let (out, none) = (EpollFlags::EPOLLOUT, EpollFlags::empty());
        if self.connecting {
            self.client.watch(epoll, client, none)?;
            return self.container.watch(epoll, container, out);
        }
        let wants = |side: &Side, other: &Side| {
            let reads = if !side.ended && other.pending.is_empty() { EpollFlags::EPOLLIN } else { none };
            reads | if side.pending.is_empty() { none } else { out }
        };
        let (at_client, at_container) = (wants(&self.client, &self.container), wants(&self.container, &self.client));
        self.client.watch(epoll, client, at_client)?;
        self.container.watch(epoll, container, at_container)
    }
}

/// One way: from one side to the other, until there is no more or no room.
fn flow(from: &mut Side, to: &mut Side, pipe: &mut Pipe) -> Result<(), Errno> {
    for _ in 0..TURNS {
        if !to.flush()? || from.ended {
            break;
        }
        match pipe.carry(from.socket.as_fd(), to.socket.as_fd()) {
            Ok(Some(rest)) => (to.pending, to.written) = (rest, 0),
            Ok(None) => from.ended = true,
            Err(Errno::EAGAIN) => break,
            Err(e) => return Err(e),
        }
    }
    if from.ended && to.pending.is_empty() && !to.told {
        inet::say_all(to.socket.as_fd()).map_err(|e| e.errno())?;
        to.told = true;
    }
    Ok(())
}

impl Side {
    fn new(socket: OwnedFd) -> Side {
        Side { socket, pending: Vec::new(), written: 0, ended: false, told: false, watched: EpollFlags::empty() }
    }

    /// Writes what is on its way; false when some of it has to wait.
    fn flush(&mut self) -> Result<bool, Errno> {
        while self.written < self.pending.len() {
            match nix::unistd::write(&self.socket, &self.pending[self.written..]) {
                Ok(length) => self.written += length,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        (self.pending, self.written) = (Vec::new(), 0);
        Ok(true)
    }

    fn watch(&mut self, epoll: &Epoll, token: u64, wants: EpollFlags) -> nix::Result<()> {
        if wants == self.watched {
            return Ok(());
        }
        match (self.watched.is_empty(), wants.is_empty()) {
            (true, _) => epoll.add(&self.socket, EpollEvent::new(wants, token))?,
            (_, true) => epoll.delete(&self.socket)?,
            _ => epoll.modify(&self.socket, &mut EpollEvent::new(wants, token))?,
        }
        self.watched = wants;
        Ok(())
    }
}
