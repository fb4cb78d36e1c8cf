//! `exec`: one more process in a container that runs, with the container's own settings and what the caller changes.
//!
//! It is a child of the command, not of the monitor: its streams are the command's business alone.

use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ends::Ends;
use super::foreground::{self, Signals};
use super::home::Home;
use super::record::{self, Record, Status};
use super::{config, events, sweep, users};
use crate::error::{Class, Error, Result};
use crate::runtime::spec::{ConsoleSize, Process};
use crate::runtime::state::{ProcessId, Store};
use crate::runtime::{capabilities, exec};
use crate::sys::process::Exit;

/// What to run, and how.
#[derive(Debug, Default, Clone)]
pub struct Request {
    pub command: Vec<String>,
    pub interactive: bool,
    pub terminal: bool,
    pub detach: bool,
    pub env: Vec<String>,
    pub working_dir: Option<PathBuf>,
    /// `user`, `user:group`, by name or number.
    pub user: Option<String>,
    pub privileged: bool,
    pub detach_keys: Option<Vec<u8>>,
}

/// Runs a process in a container: how it ended, or None when it goes on in the background.
///
/// # Errors
/// Conflict when the container doesn't run, CommandNotFound, CommandNotRunnable.
pub fn exec(home: &Home, record: &Record, request: &Request) -> Result<Option<Exit>> {
    let record = sweep::settle(home, record.clone())?;
    let doing = || format!("run a process in {}", record.name);
    match record.status() {
        Status::Running => {}
        Status::Paused => {
            let why = format!("Container {} is paused, unpause the container before exec", record.name);
            return Err(Error::new(Class::Conflict, doing(), why).hint(format!("onggi unpause {}", record.name)));
        }
        status => {
            let why = format!("container {} is not running: it is {status}", record.id);
            return Err(Error::new(Class::Conflict, doing(), why).hint(format!("onggi start {}", record.name)));
        }
    }
    // Nobody would hold the master of a terminal in the background.
    let request = &Request { terminal: request.terminal && !request.detach, ..request.clone() };
    let signals = if request.detach { None } else { Some(Signals::take()?) };
    let store = Store::open(&home.oci())?;
    // It may end while we come.
    let has_ended = || record.state.init.is_none_or(ends_now);
    let not_running = || Error::new(Class::Conflict, doing(), format!("container {} is not running", record.id));
    let process = match process(home, &store, &record, request) {
        Err(_) if has_ended() => return Err(not_running()),
        process => process?,
    };
    let mut ends = if request.detach { Ends::nothing()? } else { Ends::make(request.terminal, request.interactive)? };
    let asked =
        exec::Request { process, pid_file: None, preserve_fds: 0, ignore_paused: false, console: ends.console.take(), stdio: ends.theirs.take() };
    let running = match exec::exec(&store, &record.id, asked) {
        Err(e) if !matches!(e.class, Class::CommandNotFound | Class::CommandNotRunnable) && has_ended() => return Err(not_running()),
        running => running?,
    };
    events::container(home, &record, &format!("exec_create: {}", request.command.join(" ")), &[]);
    events::container(home, &record, &format!("exec_start: {}", request.command.join(" ")), &[]);
    let Some(signals) = signals else { return Ok(None) };
    let streams = ends.ours()?;
    let manners = foreground::Manners {
        signals_to: Some(running.pidfd.as_fd()),
        detach: request.detach_keys.clone().filter(|_| request.terminal && request.interactive),
    };
    match foreground::attend(&foreground::End::Child(running.pidfd.as_fd()), streams, &signals, &manners)? {
        foreground::Outcome::Ended(exit) => {
            events::container(home, &record, "exec_die", &[("exitCode", &exit.code().to_string())]);
            Ok(Some(exit))
        }
        foreground::Outcome::Detached | foreground::Outcome::Interrupted(_) => Ok(None),
    }
}

/// Whether a process has ended, or does so in this moment.
fn ends_now(process: ProcessId) -> bool {
    let Ok(Some(handle)) = process.open() else { return true };
    poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], PollTimeout::from(100u8)).is_ok_and(|ended| ended > 0)
}

/// The container's own process, with what the request changes.
fn process(home: &Home, store: &Store, record: &Record, request: &Request) -> Result<Process> {
    let like = store.load(&record.id)?.spec.process.unwrap_or_default();
    let mut process = Process { args: request.command.clone(), terminal: request.terminal, console_size: None, ..like };
    if request.terminal && !process.env.iter().any(|pair| pair.starts_with("TERM=")) {
        process.env.push("TERM=xterm".into());
    }
    request.env.iter().for_each(|pair| config::set_variable(&mut process.env, pair));
    if let Some(dir) = &request.working_dir {
        process.cwd = dir.clone();
    }
    if let Some(wanted) = &request.user {
        let definition = record::definition(home, &record.id)?;
        let mut lowers = vec![home.container(&record.id).join("upper")];
        lowers.extend(record::layer_dirs(home, &definition).into_iter().rev());
        process.user = users::resolve(&lowers, wanted, &[])?;
        // HOME is the new user's: init sets it when it is not there.
        process.env.retain(|pair| !pair.starts_with("HOME="));
    }
    let bounding = match (request.privileged, &process.capabilities) {
        (true, _) => capabilities::docker_set(true, &[], &[])?,
        (false, Some(sets)) => sets.bounding.clone(),
        (false, None) => Vec::new(),
    };
    process.capabilities = Some(config::capability_sets(&bounding, process.user.uid));
    if request.terminal
        && let Some(size) = foreground::our_size()
    {
        process.console_size = Some(ConsoleSize { height: size.rows, width: size.columns });
    }
    Ok(process)
}
