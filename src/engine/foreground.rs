//! Whoever sits in front of a container: its streams or its terminal, and the signals, until it ends.
//!
//! One loop over poll(2): what the container writes goes out, what is typed goes in, signals go to its first process, a change of
//! the window's size goes to its terminal. A flow that can't move on (a full pipe, a stopped reader) holds up none of the others.
//!
//! See it: `strace -p` on an `onggi run`. Read: poll(2), signalfd(2), pty(7), termios(3), pidfd_open(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Doing, Result};
use crate::sys::fd::standard;
use crate::sys::process::{self, Exit};
use crate::sys::terminal;

/// The container's end of the streams that we look after.
pub enum Streams {
    /// It has ours: nothing to do.
    Inherited,
    /// Pipes: (its stdin, its stdout, its stderr).
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// The master of its terminal; what is typed goes in when `interactive`.
    Terminal { master: OwnedFd, interactive: bool },
}

/// The signals of this process, taken out of their usual way: from here on they come as messages, none is lost.
pub struct Signals(SignalFd);

impl Signals {
    /// To be called before the container is created, so that a Ctrl-C in the meantime waits for it.
    ///
    /// # Errors
    /// EMFILE.
    pub fn take() -> Result<Signals> {
        let mut set = SigSet::all();
        // Faults of our own; and SIGCHLD, for which the pidfd speaks. Stopping stays with the shell: Ctrl-Z stops *us*.
        for kept in
            [Signal::SIGCHLD, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT, Signal::SIGTRAP, Signal::SIGSYS]
        {
            set.remove(kept);
        }
        for kept in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGPIPE, Signal::SIGURG] {
            set.remove(kept);
        }
        set.thread_block().doing(|| "take over the signals".into())?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Signals).doing(|| "take over the signals".into())
    }

    /// The number of the next one that has come.
    fn next(&self) -> Option<i32> {
        self.0.read_signal().ok().flatten().map(|info| info.ssi_signo as i32)
    }
}

/// The caller's terminal in raw mode: every key goes to the container, Ctrl-C too. Dropped, it is as it was.
pub struct RawMode(Option<Termios>);

impl RawMode {
    /// Raw mode when standard input is a terminal, nothing otherwise.
    pub fn enter() -> RawMode {
        let Ok(before) = tcgetattr(standard(0)) else { return RawMode(None) };
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // TCSADRAIN and not TCSAFLUSH: what was typed ahead is the container's to read.
        let entered = tcsetattr(standard(0), SetArg::TCSADRAIN, &raw).is_ok();
        RawMode(entered.then_some(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(standard(0), SetArg::TCSADRAIN, before);
        }
    }
}

/// One direction: bytes that were read and are not yet written.
struct Flow {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    bytes: Vec<u8>,
    /// Where the other end goes with the reader's end: a container's stdin closes when ours does.
    closes: bool,
    /// Who read what we write has gone.
    deserted: bool,
}

/// poll(2) promises that a write of this much does not block (pipe(7), PIPE_BUF).
const CHUNK: usize = 4096;

impl Flow {
    fn new(from: OwnedFd, to: OwnedFd, closes: bool) -> Flow {
        Flow { from: Some(from), to: Some(to), bytes: Vec::new(), closes, deserted: false }
    }

    fn waits_for(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match (&self.from, &self.to) {
            (_, Some(to)) if !self.bytes.is_empty() => Some((to.as_fd(), PollFlags::POLLOUT)),
            (Some(from), _) => Some((from.as_fd(), PollFlags::POLLIN)),
            _ => None,
        }
    }

    /// Moves once: writes what is there, or reads more.
    fn step(&mut self) {
        if !self.bytes.is_empty() {
            self.write();
        } else {
            self.read();
        }
        if self.from.is_none() && self.bytes.is_empty() && self.closes {
            self.to = None;
        }
    }

    fn read(&mut self) {
        let Some(from) = &self.from else { return };
        let mut chunk = [0u8; CHUNK];
        match nix::unistd::read(from, &mut chunk) {
            Ok(0) => self.from = None,
            Ok(length) => self.bytes.extend_from_slice(&chunk[..length]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // EIO: the last slave of a terminal is closed.
            Err(_) => self.from = None,
        }
        if self.to.is_none() {
            self.bytes.clear();
        }
    }

    fn write(&mut self) {
        let Some(to) = &self.to else { return self.bytes.clear() };
        let length = self.bytes.len().min(CHUNK);
        match nix::unistd::write(to, &self.bytes[..length]) {
            Ok(written) => drop(self.bytes.drain(..written)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // Nobody reads any more. Both ends close, so that the writer at the other end learns it as it would without us: by SIGPIPE.
            Err(_) => {
                self.deserted = true;
                self.from = None;
                self.to = None;
                self.bytes.clear();
            }
        }
    }

    fn is_done(&self) -> bool {
        self.from.is_none() && (self.bytes.is_empty() || self.to.is_none())
    }
}

/// Attends a container's process until it has ended and all that it wrote is out. Answers how it ended; it is reaped.
///
/// # Errors
/// EMFILE, EBADF: failures of this process, not of the container's.
pub fn attend(pidfd: BorrowedFd, streams: Streams, signals: &Signals, proxy: bool) -> Result<Exit> {
    let copy = |fd: BorrowedFd| crate::sys::fd::duplicate(fd).doing(|| "look after the streams".into());
    let mut input = None;
    let mut outputs = Vec::new();
    let mut master = None;
    let mut raw = None;
    match streams {
        Streams::Inherited => {}
        Streams::Pipes { stdin, stdout, stderr } => {
            if let Some(stdin) = stdin {
                input = Some(Flow::new(copy(standard(0))?, stdin, true));
            }
            outputs.push(Flow::new(stdout, copy(standard(1))?, false));
            outputs.push(Flow::new(stderr, copy(standard(2))?, false));
        }
        Streams::Terminal { master: end, interactive } => {
            if interactive {
                input = Some(Flow::new(copy(standard(0))?, copy(end.as_fd())?, false));
                raw = Some(RawMode::enter());
            }
            outputs.push(Flow::new(copy(end.as_fd())?, copy(standard(1))?, false));
            resize(end.as_fd());
            master = Some(end);
        }
    }
    let mut ended = false;
    while !ended || !outputs.iter().all(Flow::is_done) {
        let flows: Vec<&mut Flow> = if ended { outputs.iter_mut().collect() } else { input.iter_mut().chain(outputs.iter_mut()).collect() };
        let ready = wait_for_any(pidfd, ended, signals, &flows)?;
        for (flow, ready) in flows.into_iter().zip(&ready.flows) {
            if *ready {
                flow.step();
            }
        }
        ended |= ready.ended;
        // A terminal without its last master hangs up: SIGHUP to whoever sits at it.
        if master.is_some() && outputs.iter().any(|output| output.deserted) {
            (master, input) = (None, None);
        }
        while let Some(signal) = signals.next() {
            match signal {
                libc::SIGWINCH => master.iter().for_each(|master| resize(master.as_fd())),
                _ if proxy => drop(process::pidfd_send_signal(pidfd, signal)),
                _ => {}
            }
        }
    }
    drop(raw);
    process::wait(pidfd).doing(|| "learn how the container ended".into())
}

/// The container's terminal gets the size of ours.
pub fn resize(master: BorrowedFd) {
    if let Some(size) = our_size() {
        let _ = terminal::resize(master, size);
    }
}

/// The size of the caller's terminal, when there is one and it has any.
pub fn our_size() -> Option<terminal::Size> {
    let ours = [0, 1, 2].into_iter().find_map(|number| terminal::size(standard(number)).ok());
    ours.filter(|size| size.rows > 0 && size.columns > 0)
}

struct Ready {
    ended: bool,
    flows: Vec<bool>,
}

fn wait_for_any(pidfd: BorrowedFd, ended: bool, signals: &Signals, flows: &[&mut Flow]) -> Result<Ready> {
    let mut waiting = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
    if !ended {
        waiting.push(PollFd::new(pidfd, PollFlags::POLLIN));
    }
    let first_flow = waiting.len();
    let mut places = Vec::new();
    for flow in flows {
        places.push(flow.waits_for().map(|(fd, events)| {
            waiting.push(PollFd::new(fd, events));
            waiting.len() - 1
        }));
    }
    match poll(&mut waiting, PollTimeout::NONE) {
        Err(Errno::EINTR) => {}
        other => drop(other.doing(|| "wait for the container".into())?),
    }
    let happened = |index: usize| waiting[index].revents().is_some_and(|events| !events.is_empty());
    Ok(Ready { ended: !ended && first_flow == 2 && happened(1), flows: places.into_iter().map(|place| place.is_some_and(happened)).collect() })
}
