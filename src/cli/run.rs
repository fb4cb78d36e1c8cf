//! `onggi run`: a container is made, started, and sat in front of.
//!
//! Read: docker-run(1).

use clap::Args;

use super::create::{self, Cidfile, CreateArgs};
use super::pull;
use super::values::{Keys, detach_keys};
use crate::engine::foreground::Outcome;
use crate::engine::home::Home;
use crate::engine::monitor::control::Attach;
use crate::engine::{run, start};
use crate::error::{Class, Error, Result};

/// What only a container that starts at once can be asked
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Run in the background and print the container's ID
    #[arg(short, long)]
    detach: bool,
    /// Attach only these: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", value_parser = ["stdin", "stdout", "stderr"], ignore_case = true, conflicts_with = "detach")]
    attach: Vec<String>,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys, default_value = "ctrl-p,ctrl-q", hide_default_value = true)]
    detach_keys: Keys,
    #[command(flatten)]
    create: CreateArgs,
}

/// Runs the container: its exit code, or 0 when it runs in the background.
///
/// # Errors
/// Ours, with Docker's exit codes: 125, 126, 127.
pub fn run(args: RunArgs) -> Result<u8> {
    let mut request = create::request(&args.create)?;
    let wants = |stream: &str| args.attach.is_empty() || args.attach.iter().any(|wanted| wanted.eq_ignore_ascii_case(stream));
    request.stdin_once = request.interactive && !args.detach;
    if request.terminal && request.interactive && !args.detach && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        // Docker's command refuses this itself, before it asks its daemon: exit code 1 and not 125.
        super::complain(
            &Error::invalid("run with -it", "the input device is not a TTY").hint("leave -t out when standard input is a pipe or a file"),
        );
        return Ok(1);
    }
    let attach = (!args.detach).then(|| Attach {
        stdin: request.interactive && wants("stdin"),
        stdout: wants("stdout"),
        stderr: wants("stderr"),
        ..start::all_streams(false)
    });
    let cidfile = Cidfile::claim(args.create.cidfile.as_deref())?;
    let home = Home::open()?;
    let held = pull::ensure(&home, args.create.image(), &args.create.pull)?;
    let running = run::run(&home, &request, attach, &mut |notice| create::tell(notice, &cidfile)).map_err(|e| after_image(e, &request.command))?;
    drop(held);
    cidfile.written()?;
    let Some((attached, signals)) = running.attached.zip(running.signals) else {
        return super::say(&running.id);
    };
    match attached.attend(&signals, args.sig_proxy, Some(args.detach_keys.0))? {
        Outcome::Ended(exit) => Ok(exit.code() as u8),
        Outcome::Detached => Ok(0),
        Outcome::Interrupted(signal) => Ok(128 + signal as u8),
    }
}

/// `run IMAGE --name x`: what follows the image is the container's command, and looks like an option by mistake only.
fn after_image(error: Error, command: &[String]) -> Error {
    match command.first() {
        Some(word) if word.starts_with('-') && error.class == Class::CommandNotFound => {
            error.hint(format!("options stand before the image: onggi run {word} … IMAGE; what follows it is the container's command"))
        }
        _ => error,
    }
}
