//! A container's life between `create` and `rm`, one short function a command.
//!
//! With several names each is tried; one that fails is told, and makes the exit code 1.
//!
//! Read: docker-start(1) … docker-wait(1).

use clap::Args;

use super::limits::LimitArgs;
use super::values::{self, Keys, detach_keys};
use super::{each, say, side_by_side};
use crate::engine::change::{self, Change};
use crate::engine::foreground::{Outcome, Signals};
use crate::engine::home::Home;
use crate::engine::record;
use crate::engine::request::Restart;
use crate::engine::{events, names, remove, start, stop};
use crate::error::{Class, Error, Result};
use crate::runtime::signal;

/// Containers, by name or ID
#[derive(Debug, Args)]
pub struct Names {
    /// Container: its name, or (the beginning of) its ID
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct StartArgs {
    /// Attach to its standard output and error, and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Attach to its standard input, too
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys, default_value = "ctrl-p,ctrl-q", hide_default_value = true)]
    detach_keys: Keys,
    #[command(flatten)]
    names: Names,
}

/// Starts containers; with `-a` or `-i` one, and sits in front of it.
///
/// # Errors
/// NotFound, and those of the container.
pub fn start(args: &StartArgs) -> Result<u8> {
    let home = Home::open()?;
    if !args.attach && !args.interactive {
        return each(&args.names.containers, |name| {
            let record = names::find(&home, name)?;
            start::start(&home, &record.id, None, &mut warn)?;
            say(name)
        });
    }
    let [name] = &args.names.containers[..] else {
        return Err(Error::invalid("start containers", "you cannot start and attach multiple containers at once"));
    };
    let record = names::find(&home, name)?;
    let signals = Signals::take()?;
    let wants = start::all_streams(args.interactive && record.interactive);
    let attached = match start::start(&home, &record.id, Some(wants), &mut warn) {
        // It runs already: then this is `attach`.
        Err(e) if e.class == Class::Conflict && record::load(&home, &record.id)?.is_active() => start::attach(&home, &record, &wants)?,
        started => started?.ok_or_else(|| Error::new(Class::System, format!("attach to {name}"), "its streams were not given"))?,
    };
    match attached.attend(&signals, true, Some(args.detach_keys.0.clone()))? {
        Outcome::Ended(exit) => Ok(exit.code() as u8),
        Outcome::Detached | Outcome::Interrupted(_) => Ok(0),
    }
}

fn warn(words: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "onggi: warning: {words}");
}

#[derive(Debug, Args)]
pub struct StopArgs {
    /// Seconds before SIGKILL; -1 waits for ever [default: the container's own, or 10]
    #[arg(short, long = "timeout", visible_alias = "time", value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// The signal that asks it to end [default: the container's own, or SIGTERM]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    #[command(flatten)]
    names: Names,
}

/// Stops containers.
///
/// # Errors
/// NotFound, EPERM.
pub fn stop(args: &StopArgs) -> Result<u8> {
    let home = Home::open()?;
    let signal = args.signal.as_deref().map(signal::number).transpose()?;
    side_by_side(&args.names.containers, |name| stop::stop(&home, &names::find(&home, name)?, signal, args.time))
}

/// Stops containers and starts them again.
///
/// # Errors
/// NotFound, and those of a start.
pub fn restart(args: &StopArgs) -> Result<u8> {
    let home = Home::open()?;
    let signal = args.signal.as_deref().map(signal::number).transpose()?;
    each(&args.names.containers, |name| {
        let record = names::find(&home, name)?;
        stop::stop_for_restart(&home, &record, signal, args.time)?;
        start::start(&home, &record.id, None, &mut warn)?;
        events::container(&home, &record, "restart", &[]);
        say(name)
    })
}

#[derive(Debug, Args)]
pub struct KillArgs {
    /// The signal [default: SIGKILL]
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL", hide_default_value = true)]
    signal: String,
    #[command(flatten)]
    names: Names,
}

/// Sends a signal.
///
/// # Errors
/// Conflict for one that doesn't run.
pub fn kill(args: &KillArgs) -> Result<u8> {
    let home = Home::open()?;
    let signal = signal::number(&args.signal)?;
    each(&args.names.containers, |name| {
        stop::kill(&home, &names::find(&home, name)?, signal)?;
        say(name)
    })
}

/// Freezes containers, or lets them go on.
///
/// # Errors
/// Conflict in another state.
pub fn pause(args: &Names, on: bool) -> Result<u8> {
    let home = Home::open()?;
    each(&args.containers, |name| {
        change::pause(&home, &names::find(&home, name)?, on)?;
        say(name)
    })
}

#[derive(Debug, Args)]
pub struct RmArgs {
    /// Remove those that run, too (they are ended with SIGKILL); one that isn't there is no failure
    #[arg(short, long)]
    force: bool,
    /// Remove their anonymous volumes, too, unless other containers use them
    #[arg(short, long)]
    volumes: bool,
    #[command(flatten)]
    names: Names,
}

/// Removes containers.
///
/// # Errors
/// Conflict for one that runs.
pub fn rm(args: &RmArgs) -> Result<u8> {
    let home = Home::open()?;
    each(&args.names.containers, |name| {
        let record = match names::find(&home, name) {
            Err(_)
                if args.force
                    && let Some(id) = names::find_damaged(&home, name) =>
            {
                remove::remove_damaged(&home, &id)?;
                return say(name);
            }
            Err(e) if args.force && e.class == Class::NotFound => {
                super::complain(&e);
                return Ok(0);
            }
            found => found?,
        };
        remove::remove(&home, &record, args.force, args.volumes)?;
        say(name)
    })
}

/// Waits for the end of containers.
///
/// # Errors
/// NotFound.
pub fn wait(args: &Names) -> Result<u8> {
    let home = Home::open()?;
    each(&args.containers, |name| say(stop::wait_for_an_end(&home, &names::find(&home, name)?)?))
}

#[derive(Debug, Args)]
pub struct RenameArgs {
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "NEW_NAME")]
    new: String,
}

/// Gives a container another name.
///
/// # Errors
/// Conflict for a name that is taken.
pub fn rename(args: &RenameArgs) -> Result<u8> {
    let home = Home::open()?;
    remove::rename(&home, &names::find(&home, &args.container)?, &args.new).map(|()| 0)
}

#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    limits: LimitArgs,
    /// When to start it again: no, always, unless-stopped, on-failure[:TIMES]
    #[arg(long, value_name = "POLICY", value_parser = values::restart)]
    restart: Option<Restart>,
    #[command(flatten)]
    names: Names,
}

/// Changes limits and the restart policy.
///
/// # Errors
/// EBUSY for a limit below what is used.
pub fn update(args: &UpdateArgs) -> Result<u8> {
    let change = Change { limits: args.limits.limits()?, restart: args.restart };
    let home = Home::open()?;
    each(&args.names.containers, |name| {
        change::update(&home, &names::find(&home, name)?, &change)?;
        say(name)
    })
}
