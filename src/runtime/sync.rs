//! The words that a container's first process and its maker exchange while one makes the other: messages over a pair of sockets.
//!
//! The child speaks with plain read(2) and write(2): by the end a seccomp filter may be in force that allows little else.
//!
//! See it: `strace -f -e trace=sendmsg,recvmsg,read,write onggi run …`. Read: unix(7), SOCK_SEQPACKET in socket(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::error::{Class, Doing, Error, Result};
use crate::sys::fd;

/// What one side tells the other.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// Stage to parent: write the maps of my user namespace.
    Map,
    /// Stage to parent, with a pidfd: the container's first process is there.
    Cloned,
    /// Parent to child: go on.
    Go,
    /// Child to parent: all mounts are made; run the hooks of the runtime's side now.
    Mounted,
    /// Child to parent: a seccomp listener is open as this descriptor of mine.
    Listener(i32),
    /// Child to parent: something could be done in part only.
    Warning(String),
    /// Child to parent: only the program is missing.
    Ready,
    /// Child to parent: this went wrong, and I end.
    Failed(Box<Error>),
}

/// One end.
pub struct Socket(OwnedFd);

/// Both ends, before the clone. Each side must shut the other's end after it: a process that holds both would never hear that its
/// partner is gone.
pub struct Pair(Option<Socket>, Option<Socket>);

/// A fresh pair.
///
/// # Errors
/// EMFILE.
pub fn pair() -> Result<Pair> {
    let (ours, theirs) = fd::message_pair().doing(|| "make a pair of sockets".into())?;
    Ok(Pair(Some(Socket(ours)), Some(Socket(theirs))))
}

impl Pair {
    /// In the parent: its end, the child's shut.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn ours(&mut self) -> Result<Socket> {
        self.1 = None;
        self.0.take().ok_or_else(taken)
    }

    /// In the child: its end, the parent's shut.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn theirs(&mut self) -> Result<Socket> {
        self.0 = None;
        self.1.take().ok_or_else(taken)
    }

    /// In the parent: looks at its end, the child's shut.
    pub fn parent(&mut self) -> &Socket {
        self.1 = None;
        self.0.as_ref().expect("the parent's end is there until it is taken")
    }

    /// In the child: looks at its end, the parent's shut.
    pub fn child(&mut self) -> &Socket {
        self.0 = None;
        self.1.as_ref().expect("the child's end is there until it is taken")
    }
}

fn taken() -> Error {
    Error::new(Class::System, "speak to the other side of a container's creation", "the socket is gone")
}

impl Socket {
    /// Sends one message.
    ///
    /// # Errors
    /// EPIPE when the other side is gone.
    pub fn tell(&self, message: &Message) -> Result<()> {
        let bytes = serde_json::to_vec(message).unwrap_or_default();
        // A plain write(2): see the head of this file. SIGPIPE is ignored by the parent (Rust's start-up does that), and a child whose
        // parent is gone may as well end by it.
        nix::unistd::write(&self.0, &bytes).doing(|| "speak to the other side of a container's creation".into())?;
        Ok(())
    }

    /// Sends one message with a descriptor.
    ///
    /// # Errors
    /// EPIPE when the other side is gone.
    pub fn tell_with_fd(&self, message: &Message, passed: BorrowedFd) -> Result<()> {
        let bytes = serde_json::to_vec(message).unwrap_or_default();
        fd::send(self.0.as_fd(), &bytes, &[passed]).doing(|| "pass a descriptor".into())
    }

    /// Waits for one message; None when the other side is gone.
    ///
    /// # Errors
    /// A message that can't be read.
    pub fn hear(&self) -> Result<Option<Message>> {
        let mut bytes = vec![0u8; 65536];
        let length = loop {
            match nix::unistd::read(&self.0, &mut bytes) {
                // The other side has ended without having read all that we said (unix(7)). The kernel tells that once and first; what it
                // said before it ended comes with the next read.
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNRESET) => continue,
                other => break other.doing(|| "hear from the other side of a container's creation".into())?,
            }
        };
        if length == 0 {
            return Ok(None);
        }
        parse(&bytes[..length]).map(Some)
    }

    /// Waits for one message and the descriptor that may come with it.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn hear_with_fd(&self) -> Result<(Message, Option<OwnedFd>)> {
        let (bytes, fds) = fd::receive(self.0.as_fd()).doing(|| "hear from the stage process".into())?;
        if bytes.is_empty() {
            return Err(Error::new(Class::System, "enter the namespaces", "the stage process ended without a word"));
        }
        Ok((parse(&bytes)?, fds.into_iter().next()))
    }

    /// In the child: waits until the parent says go. When the parent is gone this process has no reason to be.
    ///
    /// # Errors
    /// The parent ended, or said something else.
    pub fn wait_for_go(&self) -> Result<()> {
        match self.hear()? {
            Some(Message::Go) => Ok(()),
            _ => crate::sys::process::exit_now(1),
        }
    }

    /// The descriptor itself.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn parse(bytes: &[u8]) -> Result<Message> {
    serde_json::from_slice(bytes).map_err(|e| Error::new(Class::System, "read a message of a container's creation", e.to_string()))
}
