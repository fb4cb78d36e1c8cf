//! `onggi`: parse, dispatch, exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use onggi::cli::container::{Container, container};
use onggi::cli::{complain, doctor, oci};
use onggi::engine::rootless;
use onggi::error::Result;
use onggi::runtime::{explain, own_program};
use onggi::workshop::tour;

/// A container engine to learn from: build your own Docker, then look inside it
#[derive(Debug, Parser)]
#[command(name = "onggi", version, disable_help_subcommand = true)]
struct Onggi {
    #[command(flatten)]
    explain: Explain,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Explain {
    /// Tell each system call that makes the container, why, and where its effect is seen
    #[arg(long, global = true, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    explain: Option<Form>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Verb(Container),
    /// The same verbs by their noun: `onggi container ls`
    Container {
        #[command(subcommand)]
        verb: Container,
    },
    /// See how a container is made, in less than a minute
    Tour(tour::TourArgs),
    /// Say what this machine can do for containers, and the remedy for what it can't
    Doctor(doctor::DoctorArgs),
    /// The OCI runtime below: create, start, state, kill, delete …
    Oci(oci::Runtime),
}

fn main() -> ExitCode {
    own_program::protect_for(&["run", "start", "restart", "exec", "tour"]);
    let onggi = match Onggi::try_parse() {
        Ok(onggi) => onggi,
        Err(e) => {
            let _ = e.print();
            // Docker answers 1 for a command that it doesn't know, and 125 for a wrong option.
            return match e.kind() {
                clap::error::ErrorKind::InvalidSubcommand => 1.into(),
                _ if e.use_stderr() => 125.into(),
                _ => 0.into(),
            };
        }
    };
    // Docker's commands exit with 1 when they fail; only `run` has codes of its own for who failed.
    let runs = matches!(&onggi.command, Command::Verb(verb) | Command::Container { verb } if verb.runs());
    let done = dispatch(onggi);
    rootless::leave();
    match done {
        Ok(code) => code.into(),
        Err(error) => {
            complain(&error);
            let code = error.exit_code();
            if code == 125 && !runs { 1.into() } else { code.into() }
        }
    }
}

fn dispatch(onggi: Onggi) -> Result<u8> {
    if let Some(form) = onggi.explain.explain {
        let form = if matches!(form, Form::Json) { explain::Form::Json } else { explain::Form::Text };
        explain::begin(form, std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())?;
    }
    match onggi.command {
        Command::Verb(verb) | Command::Container { verb } => {
            rootless::enter(&mut warn)?;
            own_program::protect()?;
            container(verb)
        }
        Command::Tour(args) => {
            rootless::enter(&mut warn)?;
            own_program::protect()?;
            tour::tour(&args)
        }
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Oci(runtime) => Ok(oci::run(runtime)),
    }
}

fn warn(words: &str) {
    let _ = writeln!(std::io::stderr(), "onggi: warning: {words}");
}
