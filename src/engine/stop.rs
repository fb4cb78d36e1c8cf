//! Ending a container, and waiting for its end: `stop`, `kill`, `restart`'s first half, `wait`.
//!
//! A signal goes through a pidfd that was compared with the start time: never to a stranger who got the PID. Whoever waits watches the
//! mark in `running/`, which goes when the record tells the end.
//!
//! Read: signal(7), pidfd_send_signal(2), inotify(7).

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::events;
use super::home::Home;
use super::monitor::control::{self, Ask, Tell};
use super::record::{self, Record, Status};
use super::sweep;
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::lifecycle;
use crate::runtime::state::Store;
use crate::sys::{process, watch};

/// As long as Docker waits between the stop signal and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// The time between the stop signal and SIGKILL: as asked for now, as the container says, or ten seconds. A negative number is for ever.
pub fn patience(record: &Record, asked: Option<i64>) -> Duration {
    match asked {
        Some(seconds) => u64::try_from(seconds).map_or(FOR_EVER, Duration::from_secs),
        None => record.stop_timeout.map_or(PATIENCE, |seconds| Duration::from_secs(seconds).min(FOR_EVER)),
    }
}

/// The signal that asks it to end.
///
/// # Errors
/// Invalid for what is no signal.
pub fn stop_signal(record: &Record) -> Result<i32> {
    record.stop_signal.as_deref().map_or(Ok(libc::SIGTERM), crate::runtime::signal::number)
}

/// Stops a container: the stop signal, and SIGKILL when it hasn't ended in time. One that doesn't run is fine.
///
/// # Errors
/// NotFound, EPERM.
pub fn stop(home: &Home, record: &Record, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
    if !sweep::settle(home, record.clone())?.is_active() {
        return Ok(());
    }
    let record = say_stopped(home, record)?;
    let signal = signal.map_or_else(|| stop_signal(&record), Ok)?;
    if !send(home, &record, signal)? {
        return wait(home, &record, None).map(drop);
    }
    events::container(home, &record, "kill", &[("signal", &signal.to_string())]);
    // A container that stands still can't hear: it goes on, as it does under docker.
    if record.status() == Status::Paused {
        let _ = crate::runtime::change::pause(&Store::open(&home.oci())?, &record.id, false);
    }
    if wait(home, &record, Some(patience(&record, timeout)))?.is_none() {
        send(home, &record, libc::SIGKILL)?;
        wait(home, &record, None)?;
    }
    events::container(home, &record, "stop", &[]);
    Ok(())
}

/// The first half of a restart: `stop`, whose end doesn't remove it, even with `--rm`.
///
/// # Errors
/// As [`stop`].
pub fn stop_for_restart(home: &Home, record: &Record, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
    record::change(home, &record.id, |record| record.state.kept = true)?;
    stop(home, record, signal, timeout)
}

/// Ends a container at once, and for good.
///
/// # Errors
/// EPERM.
pub fn kill_for_good(home: &Home, record: &Record) -> Result<()> {
    let record = say_stopped(home, record)?;
    if send(home, &record, libc::SIGKILL)? {
        events::container(home, &record, "kill", &[("signal", "9")]);
    }
    wait(home, &record, None).map(drop)
}

/// From now on its restart policy rests; a monitor that waits for the next start is woken.
fn say_stopped(home: &Home, record: &Record) -> Result<Record> {
    let record = match record::change(home, &record.id, |record| record.state.stopped = true) {
        // It went by itself: --rm.
        Err(e) if e.class == Class::NotFound => return Ok(record.clone()),
        changed => changed?,
    };
    if record.state.status == Status::Restarting {
        wake(home, &record.id);
    }
    Ok(record)
}

/// Lets the monitor read the record again. Without a monitor there is nobody to wake.
pub fn wake(home: &Home, id: &str) {
    if let Ok(socket) = control::call(home, id) {
        let _ = control::send(socket.as_fd(), &Ask::Wake, &[]);
    }
}

/// Sends a signal to the container's first process; false when that has ended.
fn send(home: &Home, record: &Record, signal: i32) -> Result<bool> {
    let doing = || format!("signal container {}", record.name);
    let Some(handle) = record.state.init.as_ref().map_or(Ok(None), |init| init.open()).doing(doing)? else { return Ok(false) };
    if signal == libc::SIGKILL {
        // Also when it is frozen, or shares its PIDs with the host: the runtime knows.
        match lifecycle::kill(&Store::open(&home.oci())?, &record.id, signal, false) {
            // What the runtime knew is lost (a user's folder in /run goes when they log out): we know its first process, too.
            Err(e) if e.class == Class::NotFound => {}
            Err(e) if e.class == Class::Conflict => return Ok(false),
            killed => return killed.map(|()| true),
        }
    }
    match process::pidfd_send_signal(handle.as_fd(), signal) {
        Err(e) if e.errno() == nix::errno::Errno::ESRCH => Ok(false),
        sent => sent.doing(doing).map(|()| true),
    }
}

/// `kill`: a signal to a container that runs.
///
/// # Errors
/// Conflict when it doesn't run.
pub fn kill(home: &Home, record: &Record, signal: i32) -> Result<()> {
    let record = sweep::settle(home, record.clone())?;
    let (doing, why) = (format!("kill container {}", record.name), format!("container {} is not running", record.id));
    let not_running = || Error::new(Class::Conflict, doing.clone(), why.clone());
    if !record.is_active() {
        return Err(not_running());
    }
    // Docker: who kills means it, and the restart policy rests. Other signals may be a word to the program.
    let ends = signal == libc::SIGKILL || Ok(signal) == stop_signal(&record);
    let record = if ends { say_stopped(home, &record)? } else { record };
    if record.state.status == Status::Restarting {
        // Between two lives nobody hears: there is no next one, and that is all.
        return if ends { wait(home, &record, None).map(drop) } else { Ok(()) };
    }
    if !send(home, &record, signal)? {
        return Err(not_running());
    }
    events::container(home, &record, "kill", &[("signal", &signal.to_string())]);
    if signal == libc::SIGKILL {
        wait(home, &record, None)?;
    }
    Ok(())
}

/// Waits until the container has ended for good: its exit code, or None when the time is over first.
///
/// # Errors
/// EMFILE.
pub fn wait(home: &Home, record: &Record, timeout: Option<Duration>) -> Result<Option<i32>> {
    let until = timeout.map(|timeout| Instant::now() + timeout.min(FOR_EVER));
    let doing = || format!("wait for container {}", record.name);
    // With --rm the record goes with the container: then only its monitor can tell how it ended.
    let teller = if record.remove { control::call(home, &record.id).ok() } else { None };
    loop {
        // The mark is watched before the record is read: an end in between is not missed.
        let bell = match watch::removed(&home.running(&record.id)) {
            Err(e) if e.errno() == nix::errno::Errno::ENOENT => None,
            bell => Some(bell.doing(doing)?),
        };
        let now = match record::load(home, &record.id) {
            // Removed with its end (--rm).
            Err(e) if e.class == Class::NotFound => return Ok(Some(last_word(teller).unwrap_or(record.state.exit_code))),
            now => sweep::settle(home, now?)?,
        };
        if !now.is_active() && !now.is_attended() {
            return Ok(Some(now.state.exit_code));
        }
        let left = match until.map(|until| until.checked_duration_since(Instant::now())) {
            Some(None) => return Ok(None),
            Some(Some(left)) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let monitor = now.state.monitor.as_ref().map_or(Ok(None), |monitor| monitor.open()).doing(doing)?;
        let mut fds: Vec<PollFd> = bell.iter().chain(&monitor).map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        if fds.is_empty() {
            continue;
        }
        match poll(&mut fds, left) {
            Err(nix::errno::Errno::EINTR) => {}
            answer => drop(answer.doing(doing)?),
        }
    }
}

/// Waits until the container has ended once, whether its restart policy starts it again or not, as Docker's `wait` does: its exit code.
///
/// # Errors
/// EMFILE.
pub fn wait_for_an_end(home: &Home, record: &Record) -> Result<i32> {
    let record = sweep::settle(home, record.clone())?;
    let teller = if record.is_active() { control::call(home, &record.id).ok() } else { None };
    match last_word(teller) {
        Some(code) => Ok(code),
        None => Ok(wait(home, &record, None)?.unwrap_or_default()),
    }
}

/// The exit code that a monitor tells all who have called it.
fn last_word(teller: Option<OwnedFd>) -> Option<i32> {
    let teller = teller?;
    loop {
        match control::receive::<Tell>(teller.as_fd()) {
            Ok(Some((Tell::Exited { code }, _))) => return Some(code),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}
