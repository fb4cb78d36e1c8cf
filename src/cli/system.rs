//! `onggi system`: the engine as a whole.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::events::{EventsArgs, events};
use super::prune::{self, SystemPruneArgs};
use super::{complain, info, say};
use crate::engine::boot;
use crate::engine::home::Home;
use crate::error::{Class, Doing, Error, Result};

/// What can be done with all of it.
#[derive(Debug, Subcommand)]
pub enum System {
    /// Start the containers whose restart policy says so, as after the machine's start
    #[command(after_help = "Example:\n  onggi system boot --unit | sudo tee /etc/systemd/system/onggi.service\n  sudo systemctl enable onggi")]
    Boot(BootArgs),
    /// Show how much room images, containers and volumes take
    #[command(after_help = "Example:\n  onggi system df")]
    Df(info::DfArgs),
    /// Remove containers that don't run, networks and images that nobody needs, and with --volumes anonymous volumes
    #[command(after_help = "Example:\n  onggi system prune -f")]
    Prune(SystemPruneArgs),
    /// Show counts and facts of this engine and this machine
    Info(info::AboutArgs),
    /// Show what is done to containers, images, networks and volumes, as it happens
    #[command(after_help = "Example:\n  onggi system events --since 1h --filter event=die")]
    Events(EventsArgs),
}

#[derive(Debug, Args)]
pub struct BootArgs {
    /// Print a systemd unit that calls this command at each start of the machine
    #[arg(long)]
    unit: bool,
}

/// Does it: the exit code.
///
/// # Errors
/// Those of the verb.
pub fn system(verb: &System) -> Result<u8> {
    match verb {
        System::Boot(args) => boot(args),
        System::Df(args) => info::df(args),
        System::Prune(args) => prune::system(args),
        System::Info(args) => info::info(args),
        System::Events(args) => events(args),
    }
}

fn boot(args: &BootArgs) -> Result<u8> {
    let home = Home::open()?;
    if args.unit {
        return print_unit(&home);
    }
    let mut warn = |words: &str| drop(writeln!(std::io::stderr(), "onggi: warning: {words}"));
    let mut code = 0;
    for (record, started) in boot::boot(&home, &mut warn)? {
        match started {
            Ok(()) => drop(say(&record.name)?),
            Err(e) => {
                complain(&e);
                code = 1;
            }
        }
    }
    Ok(code)
}

/// The monitors that it begins stay in the unit's cgroup: when the machine goes down, systemd sends them SIGTERM, and each stops its
/// container as `onggi stop` would.
fn print_unit(home: &Home) -> Result<u8> {
    let program = own_path()?;
    let program = program.display();
    let target = if home.rootless { "default.target" } else { "multi-user.target" };
    say(format_args!(
        "[Unit]\n\
         Description=Onggi: containers whose restart policy brings them back\n\
         After=network-online.target local-fs.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={program} system boot\n\
         TimeoutStopSec=90\n\
         \n\
         [Install]\n\
         WantedBy={target}"
    ))
}

/// The file that the caller means by our name: `/proc/self/exe` is the read-only copy from which we run.
fn own_path() -> Result<PathBuf> {
    let name = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let doing = || "find this program's file".to_string();
    if name.components().count() > 1 {
        return name.canonicalize().doing(doing);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(&name)).find(|file| file.is_file());
    found.ok_or_else(|| Error::new(Class::NotFound, doing(), format!("{} is not in PATH", name.display())))
}
