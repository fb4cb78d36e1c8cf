//! The two ends of a process' streams: its own, and ours.
//!
//! A terminal, or pipes: never somebody's own descriptors, for a container that has a caller's terminal open can read what is typed.
//!
//! Read: pipe(7), pty(7).

use std::os::fd::{AsFd, OwnedFd};

use super::foreground::Streams;
use crate::error::{Doing, Result};
use crate::runtime::terminal;
use crate::sys::fd;

/// Both ends, before the process is there.
#[derive(Default)]
pub struct Ends {
    /// Its own three descriptors; None with a terminal.
    pub theirs: Option<[OwnedFd; 3]>,
    /// Where it sends the master of its terminal.
    pub console: Option<OwnedFd>,
    socket: Option<OwnedFd>,
    interactive: bool,
    pipes: Streams,
}

impl Ends {
    /// A terminal, or pipes; what is typed goes in when `interactive`.
    ///
    /// # Errors
    /// EMFILE.
    pub fn make(terminal: bool, interactive: bool) -> Result<Ends> {
        let doing = || "make the process' streams".to_string();
        if terminal {
            let (ours, theirs) = fd::message_pair().doing(doing)?;
            return Ok(Ends { console: Some(theirs), socket: Some(ours), interactive, ..Ends::default() });
        }
        let (stdin, input) = if interactive {
            let (read, write) = fd::pipe().doing(doing)?;
            (read, Some(write))
        } else {
            (null()?, None)
        };
        let (out_read, out_write) = fd::pipe().doing(doing)?;
        let (err_read, err_write) = fd::pipe().doing(doing)?;
        let pipes = Streams { input, stdout: Some(out_read), stderr: Some(err_read), master: None };
        Ok(Ends { theirs: Some([stdin, out_write, err_write]), pipes, ..Ends::default() })
    }

    /// Nothing to read, and nobody who reads.
    ///
    /// # Errors
    /// EMFILE.
    pub fn nothing() -> Result<Ends> {
        Ok(Ends { theirs: Some([null()?, null()?, null()?]), ..Ends::default() })
    }

    /// Ours, once the process is there.
    ///
    /// # Errors
    /// System when its terminal doesn't come.
    pub fn ours(self) -> Result<Streams> {
        match self.socket {
            Some(socket) => Streams::terminal(terminal::take(socket.as_fd())?, self.interactive),
            None => Ok(self.pipes),
        }
    }
}

/// A null that is opened anew is never the caller's, and keeps its owner.
fn null() -> Result<OwnedFd> {
    std::fs::File::options().read(true).write(true).open("/dev/null").doing(|| "open /dev/null".into()).map(OwnedFd::from)
}
