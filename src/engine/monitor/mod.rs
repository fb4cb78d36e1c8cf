//! The monitor: one small process for each container that runs. It is the parent of the container's first process, holds its streams,
//! writes its log, learns its exit status, and starts it again when its policy says so. It has left the terminal from which it came,
//! and goes when the container has ended for good.
//!
//! ```text
//! command ── fork ──> monitor ── clone3 ──> the container's first process
//!    │  asks, is told    │ <── what it writes ──┘
//!    └── pipes ──────────┘
//! ```
//! One loop over poll(2), no thread. When the monitor is killed, the kernel kills the container with it (PR_SET_PDEATHSIG), and the
//! next command clears up (`sweep`).
//!
//! See it: `ps -o pid,ppid,sid,tty,rss,args -C onggi-monitor`. Read: setsid(2), poll(2), waitid(2), prctl(2).

pub mod control;
mod desk;
mod health;
pub mod life;
mod net;
mod restart;
mod serve;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use self::control::{Attach, Tell};
use self::desk::Client;
use self::health::Health;
use self::life::Life;
use super::events;
use super::foreground::Signals;
use super::home::Home;
use super::log::{self, Writer};
use super::networks::attach;
use super::record::{self, Definition, Held, State, Status};
use super::{background, config, members, remove, sweep, volumes};
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::state::{ProcessId, Store};
use crate::runtime::{explain, lifecycle};
use crate::sys::fd;
use crate::sys::process::{self, Clone, Exit, Forked};

/// Forks the monitor of a container, whose lock the caller holds. It speaks first: warnings, `Attached` when that was asked for, then
/// `Started` or `Failed`.
///
/// # Errors
/// EAGAIN when there are too many processes.
pub fn begin(home: &Home, id: &str, held: &Held, attach: Option<Attach>) -> Result<OwnedFd> {
    let doing = || "start the container's monitor".to_string();
    let (ours, theirs) = fd::message_pair().doing(doing)?;
    let is_member = members::includes_us(home);
    match process::clone3(&Clone::default()).doing(doing)? {
        Forked::Parent { .. } => Ok(ours),
        Forked::Child => {
            // The lock stays held as long as one of us has it open.
            let lock = fd::duplicate(held.file().as_fd());
            let kept: Vec<BorrowedFd> = lock.iter().map(|lock| lock.as_fd()).chain([theirs.as_fd()]).collect();
            let outcome = background::leave_the_terminal(c"onggi-monitor", &kept)
                .and_then(|()| if is_member { members::register(home) } else { Ok(()) })
                .and_then(|()| Monitor::new(home, id));
            match outcome {
                Ok(mut monitor) => monitor.watch(theirs, lock.ok(), attach),
                Err(e) => drop(control::send(theirs.as_fd(), &Tell::Failed(Box::new(e)), &[])),
            }
            members::leave(home);
            process::exit_now(0)
        }
    }
}

struct Monitor<'a> {
    home: &'a Home,
    id: String,
    definition: Definition,
    store: Store,
    signals: Signals,
    listener: OwnedFd,
    clients: Vec<Client>,
    log: Writer,
    health: Option<Health>,
    /// When SIGKILL follows the stop signal that a SIGTERM of ours was turned into.
    killing_at: Option<Instant>,
}

impl<'a> Monitor<'a> {
    fn new(home: &'a Home, id: &str) -> Result<Monitor<'a>> {
        let definition = record::definition(home, id)?;
        let log = &definition.request.log;
        let options = log::Options { kept: log.kept, max_size: log.max_size, max_file: log.max_file };
        Ok(Monitor {
            home,
            id: id.into(),
            store: Store::open(&home.oci())?,
            signals: Signals::take()?,
            listener: control::listen(home, id)?,
            clients: Vec::new(),
            log: Writer::open(&home.log(id), &options)?,
            definition,
            health: None,
            killing_at: None,
        })
    }

    /// All lives of the container, one after the other.
    fn watch(&mut self, socket: OwnedFd, lock: Option<OwnedFd>, attach: Option<Attach>) {
        let first = self.begin_first(socket, attach);
        drop(lock);
        let Some(mut life) = first else { return };
        explain::end();
        // What was left behind by others is nobody's: while the program runs there is time.
        let _ = sweep::sweep(self.home);
        let mut patience = restart::Patience::default();
        loop {
            let exit = self.serve(&mut life);
            match self.ended(&mut life, exit, &mut patience) {
                Some(wait) if self.pause(wait) => {}
                _ => break,
            }
            match self.begin_again() {
                Some(next) => life = next,
                None => break,
            }
        }
        self.finish();
    }

    /// The first start: whoever asked for it is told how it went.
    fn begin_first(&mut self, socket: OwnedFd, attach: Option<Attach>) -> Option<Life> {
        let mut client = Client::new(socket);
        match self.start(Some((&mut client, attach)), false) {
            Ok(life) => {
                let started = control::send(client.socket.as_fd(), &Tell::Started { init: life.init }, &[]).is_ok();
                if started && attach.is_some() {
                    self.clients.push(client);
                }
                Some(life)
            }
            Err(e) => {
                self.failed(&e);
                let _ = control::send(client.socket.as_fd(), &Tell::Failed(Box::new(e)), &[]);
                None
            }
        }
    }

    /// Another life; None when somebody has stopped it just now, or it can't be started any more. It is held as at the first start:
    /// nobody sends a signal to a program that isn't there yet.
    fn begin_again(&mut self) -> Option<Life> {
        let (_held, record) = record::hold(self.home, &self.id).ok()?;
        if record.state.stopped {
            let _ = record::change_held(self.home, &self.id, settle);
            return None;
        }
        // Its limits may have been changed (`update`).
        self.definition = record::definition(self.home, &self.id).unwrap_or_else(|_| self.definition.clone());
        match self.start(None, true) {
            Ok(life) => Some(life),
            Err(e) => {
                self.failed(&e);
                None
            }
        }
    }

    /// Creates the container, says in its record that it runs, and lets its program start.
    fn start(&mut self, first: Option<(&mut Client, Option<Attach>)>, again: bool) -> Result<Life> {
        // A life that was not cleared up: its monitor was killed.
        lifecycle::delete(&self.store, &self.id, true)?;
        let life = life::create(self.home, &self.store, &self.id, &self.definition);
        let started = life.and_then(|mut life| self.attach_and_start(&mut life, first, again).map(|()| life));
        if started.is_err() {
            let _ = sweep::end_of_life(self.home, &self.store, &self.id, None);
        }
        started
    }

    fn attach_and_start(&mut self, life: &mut Life, first: Option<(&mut Client, Option<Attach>)>, again: bool) -> Result<()> {
        if let Some((client, attach)) = first {
            for words in &life.warnings {
                let _ = control::send(client.socket.as_fd(), &Tell::Warning(words.clone()), &[]);
            }
            if let Some(wants) = attach {
                client.attach(&wants, life, true)?;
                self.close_once(&wants, life);
            }
        }
        let us = ProcessId::now(std::process::id() as i32);
        if let Some(us) = us {
            record::mark_running(self.home, &self.id, us)?;
        }
        self.health = config::health_check(&self.definition.request, &self.definition.image).map(Health::new);
        let record = record::change_held(self.home, &self.id, |record| {
            record.state = State {
                status: Status::Running,
                monitor: us,
                boot: record::boot_id().into(),
                init: Some(life.init),
                cgroup: life.cgroup.clone(),
                started: Some(crate::clock::rfc3339(SystemTime::now())),
                finished: record.state.finished.take(),
                restarts: if again { record.state.restarts + 1 } else { 0 },
                health: self.health.as_ref().map(|health| health.now.clone()),
                ports: life.net.ports(),
                ..State::default()
            };
        })?;
        volumes::events_of(self.home, &record, "mount");
        events::networks_of(self.home, &record, "connect");
        lifecycle::start(&self.store, &self.id)?;
        events::container(self.home, &record, "start", &[]);
        life.began = Instant::now();
        Ok(())
    }

    /// A container whose standard input ends with its first reader has no other writer than that.
    fn close_once(&self, wants: &Attach, life: &mut Life) {
        if wants.stdin && self.definition.request.stdin_once && life.master.is_none() {
            life.input = None;
        }
    }

    /// It could not be started.
    fn failed(&mut self, error: &Error) {
        let change = |record: &mut record::Record| {
            let began = record.state.started.is_some();
            record.state.status = if began { Status::Exited } else { Status::Created };
            record.state.monitor = None;
            record.state.exit_code = i32::from(error.exit_code()).max(1);
            if !matches!(error.class, Class::CommandNotFound | Class::CommandNotRunnable) {
                record.state.exit_code = 128;
            }
            record.state.error = error.one_line();
        };
        let record = record::change_held(self.home, &self.id, change);
        self.leave(record.is_ok_and(|record| record.remove));
    }

    /// The end of all lives.
    fn finish(&mut self) {
        let (remove, code) = record::load(self.home, &self.id).map_or((false, 255), |record| (record.goes_with_its_end(), record.state.exit_code));
        self.leave(remove);
        // Whoever has called just now shall hear it, too.
        self.let_them_read(Some(Duration::ZERO));
        self.clients.iter_mut().for_each(|client| client.dismiss(code));
        // They may still have to read what was written before the end.
        while self.clients.iter().any(|client| !client.is_done()) {
            self.let_them_read(None);
            if self.signals.next().is_some_and(|signal| matches!(signal, libc::SIGTERM | libc::SIGINT)) {
                break;
            }
        }
    }

    /// Nobody looks after the container any more; with `--rm` it goes.
    fn leave(&mut self, remove: bool) {
        let _ = std::fs::remove_file(self.home.monitors().join(&self.id));
        if remove {
            let _ = remove::forget(self.home, &self.id, true);
        }
        // Last, for this is what those who wait for the end look at.
        let _ = std::fs::remove_file(self.home.running(&self.id));
    }

    /// One life is over. Answers how long to wait for the next one.
    fn ended(&mut self, life: &mut Life, exit: Exit, patience: &mut restart::Patience) -> Option<Duration> {
        let code = exit.code();
        let oom_killed = life.oom_killed || life.oom.as_mut().is_some_and(|oom| matches!(oom.look(), Some(Some(_))));
        life.net.end();
        let cleared = sweep::end_of_life(self.home, &self.store, &self.id, life.cgroup.as_ref()).err();
        self.health.take().into_iter().for_each(Health::end);
        let killed = self.killing_at.is_some();
        let mut again = false;
        let change = |record: &mut record::Record| {
            let stopped = record.state.stopped || killed;
            again = restart::wanted(record.restart, code, record.state.restarts, stopped);
            record.state.status = if again { Status::Restarting } else { Status::Exited };
            record.state.exit_code = code;
            record.state.oom_killed = oom_killed;
            record.state.finished = Some(crate::clock::rfc3339(SystemTime::now()));
            record.state.init = None;
            record.state.cgroup = None;
            record.state.ports.clear();
            if let Some(health) = &mut record.state.health {
                health.status = "unhealthy".into();
            }
            if let Some(e) = &cleared {
                record.state.error = e.one_line();
            }
            if !again {
                record.state.monitor = None;
            }
        };
        if let Ok(record) = record::change_without_room(self.home, &self.id, change) {
            if oom_killed {
                events::container(self.home, &record, "oom", &[]);
            }
            events::container(self.home, &record, "die", &[("exitCode", &code.to_string())]);
            events::networks_of(self.home, &record, "disconnect");
            volumes::events_of(self.home, &record, "unmount");
        }
        // Whoever connected it to a network in its last moment held the record until now.
        let _ = attach::detach(self.home, &self.id);
        if again {
            self.clients.iter_mut().for_each(|client| client.dismiss(code));
        }
        again.then(|| patience.next(life.began.elapsed()))
    }

    /// Waits between two lives; false when somebody has stopped the container meanwhile.
    fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.let_them_read(Some(left));
            let stopped = record::load(self.home, &self.id).map_or(true, |record| record.state.stopped);
            if stopped || self.signals.next().is_some_and(|signal| matches!(signal, libc::SIGTERM | libc::SIGINT)) {
                let _ = record::change(self.home, &self.id, settle);
                return false;
            }
        }
        true
    }
}

/// There is no next life.
fn settle(record: &mut record::Record) {
    record.state.status = Status::Exited;
    record.state.monitor = None;
}
