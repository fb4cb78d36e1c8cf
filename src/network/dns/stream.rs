//! DNS over TCP: messages behind their length, on a socket that never blocks.
//!
//! See it: `dig +tcp web @127.0.0.11`. Read: RFC 7766; RFC 1035, 4.2.2; tcp(7).

use std::io::{ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::epoll::EpollFlags;

/// How much is read at once: about a hundred questions, so that one client holds up nobody.
const CHUNK: usize = 2048;
/// With more than this to send, nothing more is read; with four times as much the peer has stopped reading.
const BACKLOG: usize = 64 << 10;

/// One connection. What came in part waits for its rest, what does not go out waits for room.
pub struct Stream {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Whether the peer has said that it will send nothing more.
    pub ended: bool,
}

impl Stream {
    /// Takes a socket that is nonblocking; it may still be connecting.
    pub fn new(socket: TcpStream) -> Stream {
        Stream { socket, input: Vec::new(), output: Vec::new(), ended: false }
    }

    /// Reads what has come, up to a limit.
    ///
    /// # Errors
    /// Those of read(2) which end the connection.
    pub fn read(&mut self) -> Result<()> {
        let mut chunk = [0; CHUNK];
        match self.socket.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(length) => self.input.extend(&chunk[..length]),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The next whole message that has come.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes(self.input.get(..2)?.try_into().ok()?));
        let message = self.input.get(2..2 + length)?.to_vec();
        self.input.drain(..2 + length);
        Some(message)
    }

    /// Sends a message as far as it goes; the rest waits for [`Stream::flush`].
    ///
    /// # Errors
    /// Those of write(2), and TimedOut when the peer has long stopped to read.
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.queue(message);
        if self.output.len() > 4 * BACKLOG {
            return Err(ErrorKind::TimedOut.into());
        }
        self.flush()
    }

    /// Puts a message behind the others, to be sent once the connection stands.
    pub fn queue(&mut self, message: &[u8]) {
        // Length and message go in one write: some servers take them for two messages otherwise (RFC 7766, 8).
        self.output.extend((message.len() as u16).to_be_bytes());
        self.output.extend(message);
    }

    /// Sends what waits, as far as it goes.
    ///
    /// # Errors
    /// Those of write(2) which end the connection.
    pub fn flush(&mut self) -> Result<()> {
        let mut sent = 0;
        while sent < self.output.len() {
            match self.socket.write(&self.output[sent..]) {
                Ok(length) => sent += length,
                Err(error) if is_passing(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.output.drain(..sent);
        Ok(())
    }

    /// Whether all that was to be sent is sent.
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// What is to be waited for.
    pub fn interest(&self) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, !self.ended && self.output.len() <= BACKLOG);
        flags.set(EpollFlags::EPOLLOUT, !self.output.is_empty());
        flags
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
