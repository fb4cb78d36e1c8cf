//! `exec` of the OCI runtime: one more process in a container that runs.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::Args;

use super::oci::{console, size_like_ours, streams};
use crate::engine::config;
use crate::engine::foreground::{self, Signals};
use crate::error::{Doing, Error, Result};
use crate::runtime::spec::{CapabilitySets, Process};
use crate::runtime::state::Store;
use crate::runtime::{bundle, exec};

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Unix socket that takes the process' terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long)]
    cwd: Option<PathBuf>,
    /// NAME=value, may be given again
    #[arg(short, long)]
    env: Vec<String>,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// UID[:GID]
    #[arg(short, long)]
    user: Option<String>,
    /// Additional groups
    #[arg(short = 'g', long = "additional-gids")]
    additional_gids: Vec<u32>,
    /// File with the process as JSON, instead of a command
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return at once
    #[arg(short, long)]
    detach: bool,
    /// File for its PID
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long)]
    process_label: Option<String>,
    /// AppArmor profile
    #[arg(long)]
    apparmor: Option<String>,
    /// Gain nothing from setuid programs
    #[arg(long)]
    no_new_privs: bool,
    /// One more capability, may be given again
    #[arg(short, long = "cap")]
    cap: Vec<String>,
    /// Pass on this many descriptors beside 0, 1 and 2
    #[arg(long, default_value_t = 0, value_name = "N")]
    preserve_fds: i32,
    /// Wait in a paused container
    #[arg(long)]
    ignore_paused: bool,
    /// The container's ID
    id: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs it; the exit code is the process' own in the foreground.
pub fn exec(store: &Store, args: &ExecArgs) -> Result<u8> {
    let signals = if args.detach { None } else { Some(Signals::take()?) };
    let mut process = process(store, args)?;
    if !args.detach {
        size_like_ours(&mut process);
    }
    let (console, terminal) = console(args.console_socket.as_deref(), process.terminal && !args.detach)?;
    let request = exec::Request {
        process,
        pid_file: args.pid_file.clone(),
        preserve_fds: args.preserve_fds,
        ignore_paused: args.ignore_paused,
        console,
        stdio: None,
    };
    let running = exec::exec(store, &args.id, request)?;
    for warning in &running.warnings {
        let _ = writeln!(std::io::stderr(), "onggi-runtime: warning: {warning}");
    }
    let Some(signals) = signals else { return Ok(0) };
    Ok(foreground::attend_child(running.pidfd.as_fd(), streams(terminal)?, &signals)?.code() as u8)
}

/// The process to run: from `--process`, or the container's own with what the options change.
fn process(store: &Store, args: &ExecArgs) -> Result<Process> {
    if let Some(file) = &args.process {
        return read_process(file);
    }
    let mut process = store.load(&args.id)?.spec.process.unwrap_or_default();
    if args.command.is_empty() {
        return Err(Error::invalid(format!("run a process in {}", args.id), "no command is given, and no --process"));
    }
    process.args = args.command.clone();
    process.terminal = args.tty;
    args.env.iter().for_each(|pair| config::set_variable(&mut process.env, pair));
    if let Some(cwd) = &args.cwd {
        process.cwd = cwd.clone();
    }
    if let Some(user) = &args.user {
        (process.user.uid, process.user.gid) = user_and_group(user, process.user.gid)?;
    }
    process.user.additional_gids.extend(&args.additional_gids);
    process.selinux_label = args.process_label.clone().or(process.selinux_label);
    process.apparmor_profile = args.apparmor.clone().or(process.apparmor_profile);
    process.no_new_privileges |= args.no_new_privs;
    add_capabilities(process.capabilities.get_or_insert_default(), &args.cap);
    check(&process, "process")?;
    Ok(process)
}

fn add_capabilities(sets: &mut CapabilitySets, more: &[String]) {
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend(more.iter().filter(|cap| !set.contains(cap)).cloned().collect::<Vec<_>>());
    }
}

fn read_process(file: &Path) -> Result<Process> {
    let doing = || format!("use {}", file.display());
    let text = std::fs::read_to_string(file).doing(|| format!("read {}", file.display()))?;
    let mut json = serde_json::Deserializer::from_str(&text);
    let process: Process = serde_path_to_error::deserialize(&mut json).map_err(|e| Error::invalid(doing(), e.to_string()))?;
    check(&process, "process")?;
    Ok(process)
}

fn check(process: &Process, at: &str) -> Result<()> {
    bundle::check_process(process, at).map_err(|wrong| Error::invalid("use the process", format!("{}: {}", wrong.path, wrong.reason)))
}

fn user_and_group(text: &str, gid: u32) -> Result<(u32, u32)> {
    let wrong = |_| Error::invalid(format!("use --user {text}"), "it is UID or UID:GID, in numbers");
    match text.split_once(':') {
        Some((uid, gid)) => Ok((uid.parse().map_err(wrong)?, gid.parse().map_err(wrong)?)),
        None => Ok((text.parse().map_err(wrong)?, gid)),
    }
}
