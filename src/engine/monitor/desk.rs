//! Who is attached to a container: each has pipes of its own, into which the monitor puts what the container writes.
//!
//! A reader that doesn't keep up holds the container back, as a pipe would; one that has gone is forgotten.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::control::{self, Attach, Tell};
use super::life::Life;
use crate::engine::log::Stream;
use crate::error::{Doing, Result};
use crate::sys::fd;

/// Somebody at the other end of a socket.
pub struct Client {
    pub socket: OwnedFd,
    outs: Vec<Out>,
    /// It sits in front of the container: when what it shows is not wanted any more (`| head`), the container shall learn it.
    owner: bool,
    /// It has been told of the end, and only gets the rest.
    leaving: bool,
}

/// One pipe to a client.
pub struct Out {
    stream: Stream,
    pub pipe: OwnedFd,
    pending: Vec<u8>,
}

/// What became of bytes for a client.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    All,
    Later,
    Gone,
}

impl Client {
    pub fn new(socket: OwnedFd) -> Client {
        Client { socket, outs: Vec::new(), owner: false, leaving: false }
    }

    /// Gives it the streams that it asks for.
    ///
    /// # Errors
    /// EMFILE; EPIPE when it has gone.
    pub fn attach(&mut self, wants: &Attach, life: &mut Life, owner: bool) -> Result<()> {
        let doing = || "attach to the container".to_string();
        life.resize(wants.size);
        let is_terminal = life.master.is_some();
        let mut fds = Vec::new();
        let stdin = wants.stdin && life.input.is_some();
        if let Some(input) = life.input.as_ref().filter(|_| stdin) {
            fds.push(fd::duplicate(input.as_fd()).doing(doing)?);
        }
        self.outs.clear();
        for (stream, wanted) in [(Stream::Stdout, wants.stdout), (Stream::Stderr, wants.stderr && !is_terminal)] {
            if wanted {
                let (read, write) = fd::pipe().doing(doing)?;
                fd::set_nonblocking(write.as_fd()).doing(doing)?;
                fds.push(read);
                self.outs.push(Out { stream, pipe: write, pending: Vec::new() });
            }
        }
        if let Some(master) = &life.master {
            fds.push(fd::duplicate(master.as_fd()).doing(doing)?);
        }
        self.owner = owner;
        let stderr = wants.stderr && !is_terminal;
        let tell = Tell::Attached { stdin, stdout: wants.stdout, stderr, terminal: is_terminal };
        control::send(self.socket.as_fd(), &tell, &fds.iter().map(|fd| fd.as_fd()).collect::<Vec<_>>())
    }

    /// Whether the container was begun for it.
    pub fn sits_in_front(&self) -> bool {
        self.owner
    }

    /// Tells it that the container has ended; what it has not read yet still comes.
    pub fn dismiss(&mut self, code: i32) {
        let _ = control::send(self.socket.as_fd(), &Tell::Exited { code }, &[]);
        self.leaving = true;
    }

    /// Puts bytes into its pipe, or aside when that is full. True when its reader has left what it sits in front of.
    pub fn put(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        if self.leaving {
            return false;
        }
        let Some(at) = self.outs.iter().position(|out| out.stream == stream) else { return false };
        self.outs[at].pending.extend_from_slice(bytes);
        self.flush(at)
    }

    /// Goes on writing what was put aside.
    pub fn flush(&mut self, at: usize) -> bool {
        let Some(out) = self.outs.get_mut(at) else { return false };
        if out.write() != Written::Gone {
            return false;
        }
        self.outs.remove(at);
        self.owner && !has_hung_up(self.socket.as_fd())
    }

    /// The pipes that wait for their reader.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.outs.iter().enumerate().filter(|(_, out)| !out.pending.is_empty()).map(|(at, out)| (at, out.pipe.as_fd()))
    }

    /// Whether it keeps up with this stream.
    pub fn keeps_up(&self, stream: Stream) -> bool {
        self.leaving || !self.outs.iter().any(|out| out.stream == stream && !out.pending.is_empty())
    }

    /// Whether it has all that it shall have.
    pub fn is_done(&self) -> bool {
        self.leaving && self.outs.iter().all(|out| out.pending.is_empty())
    }
}

impl Out {
    fn write(&mut self) -> Written {
        while !self.pending.is_empty() {
            match nix::unistd::write(&self.pipe, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Written::Later,
                Err(_) => return Written::Gone,
            }
        }
        self.pending.shrink_to(1 << 16);
        Written::All
    }
}

/// Whether the process at the other end has shut it, or was ended.
fn has_hung_up(socket: BorrowedFd) -> bool {
    let mut one = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut one, PollTimeout::ZERO).is_ok() && one[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}
