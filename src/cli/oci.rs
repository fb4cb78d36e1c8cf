//! `onggi oci …` and `onggi-runtime …`: the low level alone, with the commands and options that dockerd, containerd and podman pass to
//! an OCI runtime.
//!
//! Read: runtime.md of the OCI runtime specification, runc(8), crun(1).

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::oci_exec::ExecArgs;
use super::oci_update::UpdateArgs;
use crate::engine::foreground::{self, Signals, Streams};
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::lifecycle::{self, Choices, Request};
use crate::runtime::spec::{ConsoleSize, Process};
use crate::runtime::state::{self, Store};
use crate::runtime::{bundle, cgroups, change, default_spec, features, own_program, signal, terminal};
use crate::sys::fd;

/// The options before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// Folder for the state of containers
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File for errors, beside standard error
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How the log file is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Log how long each command took, too
    #[arg(long)]
    debug: bool,
    /// Let systemd make the cgroups (cgroupsPath is then slice:prefix:name)
    #[arg(long)]
    systemd_cgroup: bool,
    /// Whether cgroup permission errors are expected: true, false or auto
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["true", "false", "auto"])]
    rootless: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// The OCI runtime
#[derive(Debug, Parser)]
#[command(name = "onggi-runtime", disable_version_flag = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Runtime {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a container: everything but its program
    Create(CreateArgs),
    /// Start the program of a created container
    Start {
        /// Its ID
        id: String,
    },
    /// Create and start a container
    Run(RunArgs),
    /// Print a container's state as JSON
    State {
        /// Its ID
        id: String,
    },
    /// Send a signal to a container's first process
    Kill {
        /// To every process of the container
        #[arg(short, long)]
        all: bool,
        /// Its ID
        id: String,
        #[arg(default_value = "SIGTERM")]
        signal: String,
    },
    /// Remove a container that has stopped
    Delete {
        /// One that runs, too: it gets SIGKILL
        #[arg(short, long)]
        force: bool,
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Run one more process in a container
    Exec(Box<ExecArgs>),
    /// List containers
    List {
        #[arg(short, long, value_parser = ["table", "json"], default_value = "table")]
        format: String,
        /// Only the IDs
        #[arg(short, long)]
        quiet: bool,
    },
    /// Stop all processes of a container where they are
    Pause {
        /// Its ID
        id: String,
    },
    /// Let them go on
    Resume {
        /// Its ID
        id: String,
    },
    /// Print what a container uses, again and again, and when its memory ran out
    Events {
        /// Between two prints, such as 5s or 500ms
        #[arg(long, default_value = "5s", value_parser = duration)]
        interval: Duration,
        /// Once, and end
        #[arg(long)]
        stats: bool,
        /// Its ID
        id: String,
    },
    /// List the processes of a container
    Ps {
        #[arg(short, long, value_parser = ["table", "json"], default_value = "table")]
        format: String,
        /// Its ID
        id: String,
        /// Options for ps(1)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Change a container's limits
    Update(Box<UpdateArgs>),
    /// Write a config.json to begin with
    Spec {
        #[arg(short, long, default_value = ".")]
        bundle: PathBuf,
        /// For a user without root's rights
        #[arg(long = "rootless")]
        for_rootless: bool,
    },
    /// Print what this runtime can do, as JSON
    Features,
    /// Not supported: say so
    #[command(hide = true)]
    Checkpoint(Refused),
    /// Not supported: say so
    #[command(hide = true)]
    Restore(Refused),
}

#[derive(Debug, Args)]
struct Refused {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _rest: Vec<OsString>,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Folder with config.json
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// Unix socket that takes the container's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File for the PID of its first process
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting (for an initramfs)
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass on this many descriptors beside 0, 1 and 2
    #[arg(long, default_value_t = 0, value_name = "N")]
    preserve_fds: i32,
    /// The container's ID: a name that you choose
    id: String,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    create: CreateArgs,
    /// Return at once
    #[arg(short, long)]
    detach: bool,
    /// Keep the container's state when it has ended
    #[arg(long)]
    keep: bool,
    /// Accepted for runc's callers: this runtime is the parent of what it runs and needs no subreaper
    #[arg(long)]
    no_subreaper: bool,
}

/// Parses the words after the program's name, runs the command, and answers the exit code.
pub fn main(words: Vec<OsString>) -> u8 {
    if words.get(1).is_some_and(|word| word == "--version" || word == "-v") && words.len() == 2 {
        println!("onggi-runtime version {}\nspec: {}", env!("CARGO_PKG_VERSION"), crate::runtime::spec::OCI_VERSION);
        return 0;
    }
    match Runtime::try_parse_from(words) {
        Ok(runtime) => run(runtime),
        Err(e) => {
            let _ = e.print();
            u8::from(e.use_stderr())
        }
    }
}

/// Runs a parsed command: its exit code. Errors are told on standard error and in `--log`.
pub fn run(runtime: Runtime) -> u8 {
    let began = SystemTime::now();
    let outcome = dispatch(&runtime);
    if runtime.global.debug {
        let words = format!("took {:?}", began.elapsed().unwrap_or_default());
        log(&runtime.global, "debug", &words);
    }
    match outcome {
        Ok(code) => code,
        Err(error) => {
            log(&runtime.global, "error", &error.one_line());
            let _ = writeln!(std::io::stderr(), "onggi-runtime: {error}");
            // runc's callers only ask for zero or not; a command that the container lacks keeps its own code.
            match error.class {
                Class::CommandNotFound | Class::CommandNotRunnable => error.exit_code(),
                _ => 1,
            }
        }
    }
}

/// One record in `--log FILE`, as runc writes it: containerd and podman read the last one's `msg`.
fn log(global: &Global, level: &str, message: &str) {
    let Some(path) = &global.log else { return };
    let time = crate::clock::rfc3339(SystemTime::now());
    let line = match global.log_format {
        LogFormat::Json => serde_json::json!({ "level": level, "msg": message, "time": time }).to_string(),
        LogFormat::Text => format!("time={time:?} level={level} msg={message:?}"),
    };
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    if let Err(e) = opened.and_then(|mut file| writeln!(file, "{line}")) {
        let _ = writeln!(std::io::stderr(), "onggi-runtime: cannot write the log {}: {e}", path.display());
    }
}

fn dispatch(runtime: &Runtime) -> Result<u8> {
    let global = &runtime.global;
    match &runtime.command {
        Command::Spec { bundle, for_rootless } => return write_spec(bundle, *for_rootless).map(|()| 0),
        Command::Features => return print_json(&features::features()).map(|()| 0),
        Command::Checkpoint(_) | Command::Restore(_) => {
            let why = "this runtime does not checkpoint or restore processes (CRIU)";
            return Err(Error::new(Class::Unsupported, "checkpoint a container", why));
        }
        _ => {}
    }
    if matches!(runtime.command, Command::Create(_) | Command::Run(_) | Command::Exec(_)) {
        own_program::protect()?;
    }
    let store = Store::open(&global.root.clone().unwrap_or_else(state::default_root))?;
    match &runtime.command {
        Command::Create(args) => create(&store, args, global, false).map(|_| 0),
        Command::Start { id } => lifecycle::start(&store, id).map(|failures| warn_all(&failures)).map(|()| 0),
        Command::Run(args) => run_container(&store, args, global),
        Command::State { id } => print_json(&store.state(&store.load(id)?)).map(|()| 0),
        Command::Kill { all, id, signal } => lifecycle::kill(&store, id, signal::number(signal)?, *all).map(|()| 0),
        Command::Delete { force, ids } => delete(&store, ids, *force),
        Command::Exec(args) => super::oci_exec::exec(&store, args),
        Command::List { format, quiet } => list(&store, format, *quiet).map(|()| 0),
        Command::Pause { id } => change::pause(&store, id, true).map(|()| 0),
        Command::Resume { id } => change::pause(&store, id, false).map(|()| 0),
        Command::Events { interval, stats, id } => super::oci_events::events(&store, id, *interval, *stats).map(|()| 0),
        Command::Ps { format, id, options } => super::oci_events::ps(&store, id, format, options).map(|()| 0),
        Command::Update(args) => super::oci_update::update(&store, args).map(|()| 0),
        Command::Spec { .. } | Command::Features | Command::Checkpoint(_) | Command::Restore(_) => Ok(0),
    }
}

struct Made {
    created: lifecycle::Created,
    /// Our end of the socket over which the terminal comes, when we sit in front of it ourselves.
    terminal: Option<OwnedFd>,
}

fn create(store: &Store, args: &CreateArgs, global: &Global, foreground: bool) -> Result<Made> {
    let mut bundle = bundle::load(&args.bundle)?;
    let wants_terminal = bundle.spec.process.as_ref().is_some_and(|process| process.terminal);
    if let Some(process) = bundle.spec.process.as_mut().filter(|_| foreground) {
        size_like_ours(process);
    }
    let (console, terminal) = console(args.console_socket.as_deref(), wants_terminal && foreground)?;
    let choices = Choices {
        // The container's folder may be changed to: what the caller named is meant from here.
        pid_file: args.pid_file.as_ref().map(std::path::absolute).transpose().doing(|| "find the PID file".into())?,
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        preserve_fds: args.preserve_fds,
        systemd_cgroup: global.systemd_cgroup,
        rootless: global.rootless.parse().ok(),
        ends_with_maker: false,
    };
    let request = Request { id: args.id.clone(), bundle, choices, rootfs: None, trees: Vec::new(), stdio: None, console, meanwhile: None };
    let created = lifecycle::create(store, request)?;
    for warning in &created.warnings {
        log(global, "warning", warning);
        let _ = writeln!(std::io::stderr(), "onggi-runtime: warning: {warning}");
    }
    Ok(Made { created, terminal })
}

/// Where the terminal's master goes: to the caller's socket, or over a pair to ourselves.
pub(super) fn console(socket: Option<&Path>, to_us: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    match socket {
        Some(path) => {
            let connected = fd::connect_unix(path).doing(|| format!("connect to the console socket {}", path.display()))?;
            Ok((Some(connected), None))
        }
        None if to_us => {
            let (ours, theirs) = fd::message_pair().doing(|| "make a pair of sockets".into())?;
            Ok((Some(theirs), Some(ours)))
        }
        None => Ok((None, None)),
    }
}

/// A program may ask for its terminal's size first of all: it has that of the terminal that we sit at from the beginning.
pub(super) fn size_like_ours(process: &mut Process) {
    if let Some(size) = foreground::our_size().filter(|_| process.terminal) {
        process.console_size = Some(ConsoleSize { height: size.rows, width: size.columns });
    }
}

/// Takes the master out of our end of the pair.
pub(super) fn streams(terminal: Option<OwnedFd>) -> Result<Streams> {
    terminal.map_or_else(|| Ok(Streams::default()), |socket| Streams::terminal(terminal::take(socket.as_fd())?, true))
}

fn run_container(store: &Store, args: &RunArgs, global: &Global) -> Result<u8> {
    let signals = if args.detach { None } else { Some(Signals::take()?) };
    let made = create(store, &args.create, global, !args.detach)?;
    let id = &args.create.id;
    let outcome = streams(made.terminal).and_then(|streams| lifecycle::start(store, id).map(|failures| warn_all(&failures)).map(|()| streams));
    let streams = match outcome {
        Ok(streams) => streams,
        Err(e) => {
            let _ = lifecycle::delete(store, id, true);
            return Err(e);
        }
    };
    let Some(signals) = signals else { return Ok(0) };
    let exit = foreground::attend_child(made.created.pidfd.as_fd(), streams, &signals);
    if !args.keep {
        warn_all(&lifecycle::delete(store, id, true)?);
    }
    Ok(exit?.code() as u8)
}

fn delete(store: &Store, ids: &[String], force: bool) -> Result<u8> {
    for id in ids {
        warn_all(&lifecycle::delete(store, id, force)?);
    }
    Ok(0)
}

fn warn_all(failures: &[Error]) {
    for failure in failures {
        let _ = writeln!(std::io::stderr(), "onggi-runtime: warning: {}", failure.one_line());
    }
}

fn list(store: &Store, format: &str, quiet: bool) -> Result<()> {
    let (records, errors) = store.list()?;
    warn_all(&errors);
    let states: Vec<state::State> = records.iter().map(|record| store.state(record)).collect();
    let mut out = std::io::stdout().lock();
    let printed = if quiet {
        states.iter().try_for_each(|state| writeln!(out, "{}", state.id))
    } else if format == "json" {
        return print_json(&states);
    } else {
        writeln!(out, "{:<20}{:<12}{:<12}{:<32}{:<32}OWNER", "ID", "PID", "STATUS", "BUNDLE", "CREATED").and_then(|()| {
            states.iter().try_for_each(|s| {
                let created = s.created.clone().unwrap_or_default();
                writeln!(out, "{:<20}{:<12}{:<12}{:<32}{created:<32}{}", s.id, s.pid, s.status, s.bundle.display().to_string(), s.owner)
            })
        })
    };
    printed.or_else(quiet_pipe)
}

/// `| head` closes our output: that is no error of ours.
pub(super) fn quiet_pipe(e: std::io::Error) -> Result<()> {
    match e.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(e).doing(|| "write to standard output".into()),
    }
}

pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    writeln!(std::io::stdout(), "{text}").or_else(quiet_pipe)
}

fn write_spec(dir: &Path, rootless: bool) -> Result<()> {
    let file = dir.join("config.json");
    if file.exists() {
        return Err(Error::new(Class::Conflict, format!("write {}", file.display()), "it exists; remove it first"));
    }
    bundle::write(dir, &default_spec::spec(rootless))
}

/// `5s`, `500ms`, `1m`, as Go writes durations.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is no duration, such as 5s"))?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("{unit:?} is none of ms, s, m, h")),
    };
    if seconds > 0.0 && seconds < 1e9 { Ok(Duration::from_secs_f64(seconds)) } else { Err("it is not more than 0".into()) }
}

/// The container's cgroup, for commands that can't do without.
pub(super) fn place_of<'a>(record: &'a state::Record, doing: &str) -> Result<&'a cgroups::Place> {
    record.cgroup.as_ref().ok_or_else(|| change::no_cgroup(doing, &record.id))
}
