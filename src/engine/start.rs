//! `start`, `run` and `attach`, from the side of the command: a monitor is begun, or called, and what it hands out is attended.

use std::os::fd::{AsFd, OwnedFd};

use super::foreground::{self, End, Manners, Outcome, Signals, Streams};
use super::home::Home;
use super::monitor::control::{self, Ask, Attach, Tell};
use super::monitor::{self, life};
use super::record::{self, Record, Status};
use super::{events, sweep};
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::state::ProcessId;

/// A container to whose streams we are attached.
pub struct Attached {
    pub init: ProcessId,
    socket: OwnedFd,
    pub streams: Streams,
}

/// Starts a container. With `attach` its streams are ours from its first byte on; without, one that runs already is fine, whoever has
/// started it.
///
/// # Errors
/// CommandNotFound, CommandNotRunnable; Conflict when a port is taken, or when its first byte is gone already.
pub fn start(home: &Home, id: &str, attach: Option<Attach>, warning: &mut dyn FnMut(&str)) -> Result<Option<Attached>> {
    sweep::settle(home, record::load(home, id)?)?;
    let (held, record) = record::hold(home, id)?;
    let doing = || format!("start container {}", record.name);
    if record.status() == Status::Paused {
        return Err(Error::new(Class::Conflict, doing(), "cannot start a paused container, try unpause instead")
            .hint(format!("onggi unpause {}", record.name)));
    }
    if record.is_active() && attach.is_none() {
        return Ok(None);
    }
    if record.is_active() {
        return Err(Error::new(Class::Conflict, doing(), "it is running already"));
    }
    if record.state.status == Status::Dead {
        return Err(Error::new(Class::Conflict, doing(), "container is marked for removal and cannot be started"));
    }
    let socket = monitor::begin(home, id, &held, attach)?;
    let mut streams = Streams::default();
    loop {
        match control::receive::<Tell>(socket.as_fd())? {
            Some((Tell::Warning(words), _)) => warning(&words),
            Some((tell @ Tell::Attached { .. }, fds)) => streams = handed(&tell, fds),
            Some((Tell::Started { init }, _)) => return Ok(attach.map(|_| Attached { init, socket, streams })),
            Some((Tell::Failed(e), _)) => return Err(*e),
            Some((Tell::Exited { .. } | Tell::Done | Tell::Ports(_), _)) => {}
            None => return Err(Error::new(Class::System, doing(), "its monitor ended without a word (out of memory?)")),
        }
    }
}

/// Attaches to a container that runs.
///
/// # Errors
/// Conflict when it doesn't run.
pub fn attach(home: &Home, record: &Record, wants: &Attach) -> Result<Attached> {
    let record = sweep::settle(home, record.clone())?;
    let doing = || format!("attach to container {}", record.name);
    match record.status() {
        Status::Paused => {
            return Err(Error::new(Class::Conflict, doing(), "You cannot attach to a paused container, unpause it first"));
        }
        Status::Restarting => {
            return Err(Error::new(Class::Conflict, doing(), "You cannot attach to a restarting container, wait until it is running"));
        }
        Status::Running => {}
        _ => return Err(Error::new(Class::Conflict, doing(), "You cannot attach to a stopped container, start it first")),
    }
    let init = record.state.init.ok_or_else(|| Error::new(Class::Conflict, doing(), "it has no first process"))?;
    let socket = control::call(home, &record.id)?;
    control::send(socket.as_fd(), &Ask::Attach(*wants), &[])?;
    match control::receive::<Tell>(socket.as_fd())? {
        Some((tell @ Tell::Attached { .. }, fds)) => {
            events::container(home, &record, "attach", &[]);
            Ok(Attached { init, socket, streams: handed(&tell, fds) })
        }
        Some((Tell::Failed(e), _)) => Err(*e),
        _ => Err(Error::new(Class::Conflict, doing(), "it has just ended")),
    }
}

/// What `docker attach` and `docker run` ask for, with the size of the caller's terminal.
pub fn all_streams(stdin: bool) -> Attach {
    Attach { stdin, stdout: true, stderr: true, size: life::size_of_ours() }
}

fn handed(tell: &Tell, fds: Vec<OwnedFd>) -> Streams {
    let Tell::Attached { stdin, stdout, stderr, terminal } = tell else { return Streams::default() };
    let mut fds = fds.into_iter();
    let mut next = |there: &bool| there.then(|| fds.next()).flatten();
    Streams { input: next(stdin), stdout: next(stdout), stderr: next(stderr), master: next(terminal) }
}

impl Attached {
    /// Sits in front of it until it ends, or its attendant leaves. Signals go to the container when `proxy` is set.
    ///
    /// # Errors
    /// EMFILE.
    pub fn attend(self, signals: &Signals, proxy: bool, detach: Option<Vec<u8>>) -> Result<Outcome> {
        let target = if proxy { self.init.open().doing(|| "find the container's first process".into())? } else { None };
        let is_terminal = self.streams.master.is_some();
        let manners = Manners { signals_to: target.as_ref().map(|fd| fd.as_fd()), detach: detach.filter(|_| is_terminal) };
        foreground::attend(&End::Monitor(self.socket.as_fd()), self.streams, signals, &manners)
    }
}
