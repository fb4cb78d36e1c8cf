//! Whoever sits in front of a container: its streams or its terminal, and the signals, until it ends.
//!
//! One loop over poll(2): what the container writes goes out, what is typed goes in, signals go to its first process, a change of
//! the window's size goes to its terminal. A flow that can't move on (a full pipe, a stopped reader) holds up none of the others.
//!
//! See it: `strace -p` on an `onggi run`. Read: poll(2), signalfd(2), pty(7), termios(3), pidfd_open(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::monitor::control::{self, Ask, Tell};
use crate::error::{Doing, Result};
use crate::sys::fd::{self, standard};
use crate::sys::process::{self, Exit};
use crate::sys::terminal;

/// The container's ends of its streams, as far as we have them.
#[derive(Default)]
pub struct Streams {
    /// Where what is typed goes.
    pub input: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// The master of its terminal, for changes of its size.
    pub master: Option<OwnedFd>,
}

impl Streams {
    /// A terminal; what is typed goes in when `interactive`.
    ///
    /// # Errors
    /// EMFILE.
    pub fn terminal(master: OwnedFd, interactive: bool) -> Result<Streams> {
        let copy = || fd::duplicate(master.as_fd()).doing(|| "look after the terminal".into());
        Ok(Streams { input: if interactive { Some(copy()?) } else { None }, stdout: Some(copy()?), stderr: None, master: Some(master) })
    }
}

/// Who tells that it has ended.
pub enum End<'a> {
    /// The process is our child.
    Child(BorrowedFd<'a>),
    /// Its monitor tells us over this socket.
    Monitor(BorrowedFd<'a>),
}

/// How one goes about it.
pub struct Manners<'a> {
    /// Who gets our signals; None: they are ours.
    pub signals_to: Option<BorrowedFd<'a>>,
    /// Keys that end the attendance and not the container.
    pub detach: Option<Vec<u8>>,
}

/// Why the attendance is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ended(Exit),
    /// By the detach keys.
    Detached,
    /// By a signal that was ours.
    Interrupted(i32),
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
    pub fn next(&self) -> Option<i32> {
        self.0.read_signal().ok().flatten().map(|info| info.ssi_signo as i32)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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

/// The keys that end the attendance. A beginning of them is held back until the next key decides.
struct Keys {
    keys: Vec<u8>,
    matched: usize,
    pressed: bool,
}

impl Keys {
    fn new(keys: Vec<u8>) -> Keys {
        Keys { keys, matched: 0, pressed: false }
    }

    fn take_out(&mut self, bytes: &mut Vec<u8>) {
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes.drain(..) {
            if self.pressed {
                break;
            }
            if self.keys.get(self.matched) != Some(&byte) && self.matched > 0 {
                passed.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if !self.keys.is_empty() && self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                self.pressed = self.matched == self.keys.len();
            } else {
                passed.push(byte);
            }
        }
        *bytes = passed;
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

/// As long as Docker waits for those to whom a process that has ended has left its streams.
const LAST_WORDS: Duration = Duration::from_secs(2);

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

    /// Moves once: writes what is there, or reads more, in which `keys` looks for its own.
    fn step(&mut self, keys: Option<&mut Keys>) {
        if !self.bytes.is_empty() {
            self.write();
        } else {
            self.read();
            if let Some(keys) = keys {
                keys.take_out(&mut self.bytes);
            }
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

/// Attends a process of ours until it has ended and all that it wrote is out; it gets our signals, and is reaped.
///
/// # Errors
/// As [`attend`].
pub fn attend_child(pidfd: BorrowedFd, streams: Streams, signals: &Signals) -> Result<Exit> {
    match attend(&End::Child(pidfd), streams, signals, &Manners { signals_to: Some(pidfd), detach: None })? {
        Outcome::Ended(exit) => Ok(exit),
        Outcome::Detached | Outcome::Interrupted(_) => Ok(Exit::Code(0)),
    }
}

/// Attends a container until it has ended and all that it wrote is out. A child is reaped.
///
/// # Errors
/// EMFILE, EBADF: failures of this process, not of the container's.
pub fn attend(end: &End, streams: Streams, signals: &Signals, manners: &Manners) -> Result<Outcome> {
    let copy = |fd: BorrowedFd| fd::duplicate(fd).doing(|| "look after the streams".into());
    let is_terminal = streams.master.is_some();
    let mut keys = manners.detach.clone().map(Keys::new);
    let mut master = streams.master;
    let mut input = None;
    let mut raw = None;
    if let Some(to) = streams.input {
        // A terminal's end of input is a key; a pipe ends with ours.
        input = Some(Flow::new(copy(standard(0))?, to, !is_terminal));
        raw = is_terminal.then(RawMode::enter);
    }
    let mut outputs = Vec::new();
    for (from, ours) in [(streams.stdout, 1), (streams.stderr, 2)] {
        if let Some(from) = from {
            outputs.push(Flow::new(from, copy(standard(ours))?, false));
        }
    }
    master.iter().for_each(|master| resize(master.as_fd()));
    let mut exit = None;
    let mut last_word = Instant::now();
    'attended: while exit.is_none() || !outputs.iter().all(Flow::is_done) {
        let ended = exit.is_some();
        let has_input = !ended && input.is_some();
        let flows: Vec<&mut Flow> = if ended { outputs.iter_mut().collect() } else { input.iter_mut().chain(outputs.iter_mut()).collect() };
        // A child of the process' own may hold its streams for ever. A monitor closes what it has given us.
        let patience = (ended && matches!(end, End::Child(_))).then_some(LAST_WORDS);
        let ready = wait_for_any((!ended).then(|| end.fd()), signals, &flows, patience)?;
        if !ended || ready.flows.contains(&true) {
            last_word = Instant::now();
        }
        for (at, (flow, ready)) in flows.into_iter().zip(&ready.flows).enumerate() {
            if *ready {
                flow.step(if at == 0 && has_input { keys.as_mut() } else { None });
            }
        }
        if keys.as_ref().is_some_and(|keys| keys.pressed) {
            return Ok(Outcome::Detached);
        }
        if ready.ended && exit.is_none() {
            exit = end.learn()?;
        }
        // A terminal without its last master hangs up: SIGHUP to whoever sits at it.
        if is_terminal && outputs.iter().any(|output| output.deserted) {
            (master, input) = (None, None);
        }
        if patience.is_some() && last_word.elapsed() >= LAST_WORDS && outputs.iter().all(|output| output.bytes.is_empty()) {
            break;
        }
        while let Some(signal) = signals.next() {
            if let (libc::SIGHUP, true, End::Monitor(socket)) = (signal, is_terminal, end) {
                // Our window is closed: the container's terminal, which was this one, hangs up, and its shell reads the end.
                let _ = control::send(*socket, &Ask::HangUp, &[]);
                return Ok(Outcome::Interrupted(signal));
            }
            match (signal, manners.signals_to) {
                // Who could get them is gone: they are meant for us.
                (libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT, _) if exit.is_some() => break 'attended,
                (libc::SIGWINCH, _) => master.iter().for_each(|master| resize(master.as_fd())),
                (_, Some(target)) => drop(process::pidfd_send_signal(target, signal)),
                (libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT, None) => return Ok(Outcome::Interrupted(signal)),
                _ => {}
            }
        }
    }
    drop(raw);
    Ok(Outcome::Ended(exit.unwrap_or(Exit::Code(0))))
}

impl End<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Child(fd) | End::Monitor(fd) => *fd,
        }
    }

    /// How it ended; None when the message was another one.
    fn learn(&self) -> Result<Option<Exit>> {
        match self {
            End::Child(pidfd) => process::wait(*pidfd).doing(|| "learn how the container ended".into()).map(Some),
            End::Monitor(socket) => match control::receive::<Tell>(*socket)? {
                Some((Tell::Exited { code }, _)) => Ok(Some(Exit::Code(code))),
                Some(_) => Ok(None),
                // The monitor was killed, and the container with it.
                None => Ok(Some(Exit::Signal(libc::SIGKILL))),
            },
        }
    }
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

fn wait_for_any(end: Option<BorrowedFd>, signals: &Signals, flows: &[&mut Flow], patience: Option<Duration>) -> Result<Ready> {
    let mut waiting = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
    waiting.extend(end.map(|end| PollFd::new(end, PollFlags::POLLIN)));
    let first_flow = waiting.len();
    let mut places = Vec::new();
    for flow in flows {
        places.push(flow.waits_for().map(|(fd, events)| {
            waiting.push(PollFd::new(fd, events));
            waiting.len() - 1
        }));
    }
    match poll(&mut waiting, patience.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))) {
        Err(Errno::EINTR) => {}
        other => drop(other.doing(|| "wait for the container".into())?),
    }
    let happened = |index: usize| waiting[index].revents().is_some_and(|events| !events.is_empty());
    Ok(Ready { ended: first_flow == 2 && happened(1), flows: places.into_iter().map(|place| place.is_some_and(happened)).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detach_keys_are_taken_out_and_a_beginning_of_them_is_not_lost() {
        let mut keys = Keys::new(vec![16, 17]);
        let mut feed = |text: &[u8]| {
            let mut bytes = text.to_vec();
            keys.take_out(&mut bytes);
            (bytes, keys.pressed)
        };
        assert_eq!(feed(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(feed(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(feed(b"\x10\x10\x11z"), (b"\x10".to_vec(), true));
    }
}
