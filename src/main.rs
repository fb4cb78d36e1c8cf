//! `onggi`: parse, dispatch, exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use onggi::cli::container::{self, Container, Noun};
use onggi::cli::images::{self, Image, Images};
use onggi::cli::networks::{self, Networks};
use onggi::cli::registry::{self, Registry};
use onggi::cli::system::{self, System};
use onggi::cli::volume::{self, Verb};
use onggi::cli::{complain, complete, doctor, events, info, login, man, oci, search, slips};
use onggi::engine::rootless;
use onggi::error::Result;
use onggi::runtime::{explain, own_program};
use onggi::workshop::{book, tour};

/// A container engine to learn from: build your own Docker, then look inside it
#[derive(Debug, Parser)]
#[command(name = "onggi", version, disable_help_subcommand = true, after_help = HELP)]
struct Onggi {
    #[command(flatten)]
    explain: Explain,
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "New here?
  onggi tour                     a container is made before your eyes
  onggi book                     how all this works, chapter by chapter
  onggi run -it --rm base sh     a shell in a container
  onggi run --help               all about one command";

#[derive(Debug, Args)]
struct Explain {
    /// Tell each system call that makes the container, why, and where its effect is seen
    #[arg(long, global = true, display_order = 999, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    explain: Option<Form>,
}

/// The verbs that it tells something of.
const EXPLAINED: &[&str] = &["run", "create", "start", "restart", "exec", "oci"];

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Verb(Container),
    /// What can be done with containers, by the noun: `onggi container ls`
    #[command(after_help = "Example:\n  onggi container prune")]
    Container {
        #[command(subcommand)]
        noun: Noun,
    },
    /// The engine as a whole: room on the disk, clearing up, what starts with the machine
    #[command(after_help = "Example:\n  onggi system df")]
    System {
        #[command(subcommand)]
        verb: System,
    },
    /// Show what is done to containers, images, networks and volumes, as it happens
    #[command(after_help = "Example:\n  onggi events --since 1h --filter event=die")]
    Events(events::EventsArgs),
    #[command(flatten)]
    Images(Images),
    /// What can be done with images, by the noun: `onggi image ls`
    #[command(after_help = "Example:\n  onggi image ls")]
    Image {
        #[command(subcommand)]
        verb: Image,
    },
    /// Log in to a registry
    Login(login::LoginArgs),
    /// Log out of a registry
    Logout(login::LogoutArgs),
    /// Look for images on the Hub, or in a registry of your own
    Search(search::SearchArgs),
    /// Networks: make them, put containers on them, look at them
    #[command(after_help = "Example:\n  onggi network create front")]
    Network {
        #[command(subcommand)]
        verb: Networks,
    },
    /// A registry for the classroom: serve one, find one, use one
    #[command(after_help = "Example:\n  onggi registry serve")]
    Registry {
        #[command(subcommand)]
        verb: Registry,
    },
    /// Folders that outlive their containers
    #[command(after_help = "Example:\n  onggi volume ls")]
    Volume {
        #[command(subcommand)]
        verb: Verb,
    },
    /// Show the version
    #[command(after_help = "Example:\n  onggi version --format '{{.Client.Version}}'")]
    Version(info::AboutArgs),
    /// Show counts and facts of this engine and this machine
    #[command(after_help = "Example:\n  onggi info --format '{{.ContainersRunning}} of {{.Containers}}'")]
    Info(info::AboutArgs),
    /// Print what a shell needs to complete commands, options and names at Tab
    Completion(complete::CompletionArgs),
    /// Print or write the manual's pages
    Man(man::ManArgs),
    /// See how a container is made, in less than a minute
    #[command(after_help = "Example:\n  onggi tour --lang ko --no-wait")]
    Tour(tour::TourArgs),
    /// Open the book: how all this works, chapter by chapter
    #[command(after_help = "Example:\n  onggi book 04")]
    Book(book::BookArgs),
    /// Say what this machine can do for containers, and the remedy for what it can't
    #[command(after_help = "Example:\n  onggi doctor")]
    Doctor(doctor::DoctorArgs),
    /// The OCI runtime below: create, start, state, kill, delete …
    Oci(oci::Runtime),
}

fn main() -> ExitCode {
    complete::answer(command);
    own_program::protect_for(&["run", "start", "restart", "exec", "boot", "tour"]);
    let mut command = command();
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let onggi = match parsed.and_then(|words| Onggi::from_arg_matches(&words)) {
        Ok(onggi) => onggi,
        Err(e) => {
            let _ = e.print();
            if let Some(hint) = slips::hint(&e, &command) {
                let _ = writeln!(std::io::stderr(), "\n{hint}");
            }
            // Docker answers 1 for a command that it doesn't know or that lacks an argument, and 125 for a wrong option.
            return match e.kind() {
                clap::error::ErrorKind::InvalidSubcommand | clap::error::ErrorKind::MissingRequiredArgument => 1.into(),
                _ if e.use_stderr() => 125.into(),
                _ => 0.into(),
            };
        }
    };
    // Docker's commands exit with 1 when they fail; only `run` has codes of its own for who failed.
    let runs = matches!(&onggi.command, Command::Verb(verb) | Command::Container { noun: Noun::Verb(verb) } if verb.runs());
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
        Command::Verb(verb) => {
            prepare(verb.enters_containers())?;
            container::container(verb)
        }
        Command::Container { noun } => {
            prepare(matches!(&noun, Noun::Verb(verb) if verb.enters_containers()))?;
            container::noun(noun)
        }
        Command::System { verb } => {
            prepare(matches!(verb, System::Boot(_)))?;
            system::system(&verb)
        }
        Command::Events(args) => {
            prepare(false)?;
            events::events(&args)
        }
        Command::Images(verb) => {
            prepare(false)?;
            images::images(verb)
        }
        Command::Image { verb } => {
            prepare(false)?;
            images::image(verb)
        }
        // The keyring and the file are the user's own, so these stay outside of the containers' user namespace.
        Command::Login(args) => login::login(&args),
        Command::Logout(args) => login::logout(&args),
        Command::Search(args) => search::search(&args),
        Command::Network { verb } => {
            prepare(false)?;
            networks::networks(&verb)
        }
        Command::Registry { verb } => registry::registry(&verb),
        Command::Volume { verb } => {
            prepare(false)?;
            volume::volume(&verb)
        }
        Command::Tour(args) => {
            prepare(true)?;
            tour::tour(&args)
        }
        Command::Book(args) => book::book(&args),
        Command::Version(args) => info::version(&args),
        Command::Info(args) => {
            prepare(false)?;
            info::info(&args)
        }
        Command::Completion(args) => complete::completion(&args),
        Command::Man(args) => man::man(&args, command()),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Oci(runtime) => Ok(oci::run(runtime)),
    }
}

/// The command line; `--explain` stands in the help of those commands only that make or enter containers.
fn command() -> clap::Command {
    let command = Onggi::command();
    let explain = command.get_arguments().find(|argument| argument.get_id() == "explain").cloned();
    match explain {
        Some(explain) => place(command, &explain),
        None => command,
    }
}

fn place(command: clap::Command, explain: &clap::Arg) -> clap::Command {
    command.mut_subcommands(|verb| {
        let tells = EXPLAINED.contains(&verb.get_name());
        place(verb.arg(explain.clone().hide(!tells)), explain)
    })
}

/// Without root's rights: into the user namespace of this user's containers. Who will be inside of a container for a moment first starts
/// anew from a read-only copy of this program.
fn prepare(enters_containers: bool) -> Result<()> {
    rootless::enter(&mut warn)?;
    if enters_containers { own_program::protect() } else { Ok(()) }
}

fn warn(words: &str) {
    let _ = writeln!(std::io::stderr(), "onggi: warning: {words}");
}
