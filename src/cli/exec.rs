//! `onggi exec`: one more process in a container that runs.
//!
//! Read: docker-exec(1).

use std::path::PathBuf;

use clap::Args;

use super::values::{self, Keys, detach_keys};
use crate::engine::exec::{self, Request};
use crate::engine::home::Home;
use crate::engine::names;
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Run it in the background
    #[arg(short, long)]
    detach: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable; NAME alone takes the caller's value
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// User name or UID, and group: USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// All capabilities
    #[arg(long)]
    privileged: bool,
    /// Keys that leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys, default_value = "ctrl-p,ctrl-q", hide_default_value = true)]
    detach_keys: Keys,
    /// Container: its name, or (the beginning of) its ID
    container: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs it: its exit code.
///
/// # Errors
/// Conflict when the container doesn't run, CommandNotFound, CommandNotRunnable.
pub fn exec(args: ExecArgs) -> Result<u8> {
    if args.tty && args.interactive && !args.detach && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Error::invalid("exec with -it", "the input device is not a TTY").hint("leave -t out when standard input is a pipe or a file"));
    }
    if let Some(dir) = args.workdir.as_ref().filter(|dir| !dir.is_absolute()) {
        return Err(Error::invalid(format!("use --workdir {}", dir.display()), "it needs to be an absolute path"));
    }
    let home = Home::open()?;
    let record = names::find(&home, &args.container)?;
    let request = Request {
        command: args.command,
        interactive: args.interactive,
        terminal: args.tty,
        detach: args.detach,
        env: values::environment(&args.env_file, &args.env)?,
        working_dir: args.workdir,
        user: args.user,
        privileged: args.privileged,
        detach_keys: Some(args.detach_keys.0),
    };
    Ok(exec::exec(&home, &record, &request)?.map_or(0, |exit| exit.code() as u8))
}
