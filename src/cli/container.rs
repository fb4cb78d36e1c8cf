//! The container's verbs: each as `onggi VERB` and as `onggi container VERB`.

use clap::{Args, Subcommand};

use super::create::{self, CreateArgs};
use super::life;
use super::run::{self, RunArgs};
use super::{attach, commit, cp, diff, exec, export, inspect, logs, prune, ps, stats, top};
use crate::error::Result;

const RUN: &str = "Examples:
  onggi run -it --rm base sh                        a shell in a container that goes with its end
  onggi run -d --name web base sleep 1000           in the background; then `onggi ps`, `onggi logs web`
  onggi run --rm -v .:/here base ls /here           with a folder of this machine
  onggi run --rm --memory 64m --cpus 0.5 base ls    with limits";

/// What can be done with containers.
#[derive(Debug, Subcommand)]
pub enum Container {
    /// Run a command in a new container
    #[command(disable_help_flag = true, override_usage = "onggi run [OPTIONS] IMAGE [COMMAND] [ARG]...", after_help = RUN)]
    Run {
        #[command(flatten)]
        args: Box<RunArgs>,
        #[command(flatten)]
        help: Help,
    },
    /// List containers
    #[command(visible_aliases = ["ls", "list"], after_help = "Example:\n  onggi ps -a --filter status=exited --format 'table {{.Names}}\\t{{.Status}}'")]
    Ps(ps::PsArgs),
    /// Show what a container has said
    #[command(after_help = "Example:\n  onggi logs -f --tail 20 web")]
    Logs(logs::LogsArgs),
    /// Run a command in a container that runs
    #[command(after_help = "Example:\n  onggi exec -it web sh")]
    Exec(exec::ExecArgs),
    /// Sit down in front of a container that runs
    #[command(after_help = "Example:\n  onggi attach web     (leave it with Ctrl-P Ctrl-Q)")]
    Attach(attach::AttachArgs),
    /// Ask containers to end, and end those that don't
    #[command(
        after_help = "Example:\n  onggi stop -t 30 web\n\nA container whose first process has no handler for SIGTERM (`sleep`, say) ends only when the time is over; `run --init` helps."
    )]
    Stop(life::StopArgs),
    /// Start containers that have been made or have ended
    #[command(after_help = "Example:\n  onggi start -ai web")]
    Start(life::StartArgs),
    /// Stop containers and start them again
    #[command(after_help = "Example:\n  onggi restart web")]
    Restart(life::StopArgs),
    /// Remove containers
    #[command(visible_alias = "remove", after_help = "Example:\n  onggi rm $(onggi ps -aq -f status=exited)")]
    Rm(life::RmArgs),
    /// Show all that is known of containers
    #[command(after_help = "Example:\n  onggi inspect --format '{{.State.Status}} {{.State.ExitCode}}' web")]
    Inspect(inspect::InspectArgs),
    /// Show the processes of a container
    #[command(after_help = "Example:\n  onggi top web -o pid,user,cmd")]
    Top(top::TopArgs),
    /// Show what containers use: CPU, memory, network, disk
    #[command(after_help = "Example:\n  onggi stats --no-stream web")]
    Stats(stats::StatsArgs),
    /// Show the published ports of a container
    #[command(after_help = "Example:\n  onggi port web 80")]
    Port(top::PortArgs),
    /// Make a container without starting it
    #[command(
        disable_help_flag = true,
        override_usage = "onggi create [OPTIONS] IMAGE [COMMAND] [ARG]...",
        after_help = "Example:\n  onggi create --name web base sleep 1000"
    )]
    Create {
        #[command(flatten)]
        args: Box<CreateArgs>,
        #[command(flatten)]
        help: Help,
    },
    /// Send a signal to containers
    #[command(
        after_help = "Example:\n  onggi kill --signal=SIGHUP web\n\nA container's first process hears only signals that it has a handler for (pid_namespaces(7)); SIGKILL and SIGSTOP always work."
    )]
    Kill(life::KillArgs),
    /// Freeze all processes of containers
    #[command(after_help = "Example:\n  onggi pause web")]
    Pause(life::Names),
    /// Let frozen containers go on
    #[command(after_help = "Example:\n  onggi unpause web")]
    Unpause(life::Names),
    /// Wait until containers end, and print their exit codes
    #[command(after_help = "Example:\n  onggi wait web")]
    Wait(life::Names),
    /// Give a container another name
    #[command(after_help = "Example:\n  onggi rename web web-old")]
    Rename(life::RenameArgs),
    /// Change limits and the restart policy of containers
    #[command(after_help = "Example:\n  onggi update --memory 256m --cpus 0.5 web")]
    Update(Box<life::UpdateArgs>),
    /// Copy files between a container and this machine
    #[command(
        override_usage = "onggi cp [OPTIONS] CONTAINER:SOURCE DESTINATION|-\n       onggi cp [OPTIONS] SOURCE|- CONTAINER:DESTINATION",
        after_help = cp::HELP
    )]
    Cp(cp::CpArgs),
    /// Show which files a container added, changed and deleted
    #[command(after_help = "Example:\n  onggi diff web\n\nA added, C changed, D deleted.")]
    Diff(diff::DiffArgs),
    /// Write all files of a container as a tar archive
    #[command(after_help = "Example:\n  onggi export -o web.tar web")]
    Export(export::ExportArgs),
    /// Make an image of a container
    #[command(after_help = "Example:\n  onggi commit -m 'with curl' -c 'CMD [\"sh\"]' web my/web:1")]
    Commit(commit::CommitArgs),
}

/// The verbs behind the noun: all of those, and some that are only here.
#[derive(Debug, Subcommand)]
pub enum Noun {
    #[command(flatten)]
    Verb(Container),
    /// Remove all containers that don't run
    #[command(after_help = "Example:\n  onggi container prune -f --filter until=24h")]
    Prune(prune::PruneArgs),
}

/// Does it: the exit code.
///
/// # Errors
/// Those of the verb.
pub fn noun(noun: Noun) -> Result<u8> {
    match noun {
        Noun::Verb(verb) => container(verb),
        Noun::Prune(args) => prune::containers(&args),
    }
}

/// `--help` alone: `-h` is the host name.
#[derive(Debug, Args)]
pub struct Help {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

impl Container {
    /// Whether failures of ours exit with 125 (docker run(1)) and not with 1.
    pub fn runs(&self) -> bool {
        matches!(self, Container::Run { .. })
    }

    /// Whether this program will be inside of a container for a moment.
    pub fn enters_containers(&self) -> bool {
        use Container::{Commit, Cp, Diff, Exec, Export, Restart, Run, Start};
        matches!(self, Run { .. } | Start(_) | Restart(_) | Exec(_) | Cp(_) | Diff(_) | Export(_) | Commit(_))
    }
}

/// Does it: the exit code.
///
/// # Errors
/// Those of the verb.
pub fn container(verb: Container) -> Result<u8> {
    match verb {
        Container::Run { args, .. } => run::run(*args),
        Container::Create { args, .. } => create::create(&args),
        Container::Start(args) => life::start(&args),
        Container::Stop(args) => life::stop(&args),
        Container::Restart(args) => life::restart(&args),
        Container::Kill(args) => life::kill(&args),
        Container::Pause(args) => life::pause(&args, true),
        Container::Unpause(args) => life::pause(&args, false),
        Container::Rm(args) => life::rm(&args),
        Container::Wait(args) => life::wait(&args),
        Container::Rename(args) => life::rename(&args),
        Container::Update(args) => life::update(&args),
        Container::Logs(args) => logs::logs(&args),
        Container::Exec(args) => exec::exec(args),
        Container::Attach(args) => attach::attach(args),
        Container::Ps(args) => ps::ps(&args),
        Container::Inspect(args) => inspect::inspect(&args),
        Container::Top(args) => top::top(&args),
        Container::Port(args) => top::port(&args),
        Container::Stats(args) => stats::stats(&args),
        Container::Cp(args) => cp::cp(&args),
        Container::Diff(args) => diff::diff(&args),
        Container::Export(args) => export::export(&args),
        Container::Commit(args) => commit::commit(args),
    }
}
