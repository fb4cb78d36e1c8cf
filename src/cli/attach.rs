//! `onggi attach`: in front of a container that runs.
//!
//! Read: docker-attach(1).

use clap::Args;

use super::values::{Keys, detach_keys};
use crate::engine::foreground::{Outcome, Signals};
use crate::engine::home::Home;
use crate::engine::{names, start};
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys, default_value = "ctrl-p,ctrl-q", hide_default_value = true)]
    detach_keys: Keys,
    /// Don't attach standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Container: its name, or (the beginning of) its ID
    container: String,
}

/// Attends it: its exit code.
///
/// # Errors
/// Conflict when it doesn't run.
pub fn attach(args: AttachArgs) -> Result<u8> {
    let home = Home::open()?;
    let record = names::find(&home, &args.container)?;
    let stdin = record.interactive && !args.no_stdin;
    if record.terminal && stdin && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Error::invalid(format!("attach to {}", record.name), "the input device is not a TTY").hint("use --no-stdin"));
    }
    let attached = start::attach(&home, &record, &start::all_streams(stdin))?;
    // Not before: a monitor that doesn't answer would not let us go.
    let signals = Signals::take()?;
    match attached.attend(&signals, args.sig_proxy, Some(args.detach_keys.0))? {
        Outcome::Ended(exit) => Ok(exit.code() as u8),
        Outcome::Detached => Ok(0),
        Outcome::Interrupted(signal) => Ok(128 + signal as u8),
    }
}
