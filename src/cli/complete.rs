//! `onggi completion bash`: what a shell needs to complete our words. The script asks this program again at each Tab, so that it knows
//! the containers, networks, volumes and images of that moment.
//!
//! See it: `onggi completion bash`. Read: bash(1) "Programmable Completion", zshcompsys(1), fish-completions(7).

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Args, Command, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};

use super::say;
use crate::engine::home::Home;
use crate::engine::networks::network;
use crate::engine::record;
use crate::error::{Doing, Result};
use crate::image::reference::Reference;
use crate::image::registry::credentials;
use crate::image::store::Store;
use crate::volume;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    onggi completion bash > /etc/bash_completion.d/onggi\n  \
    onggi completion zsh > ~/.zfunc/_onggi       (with ~/.zfunc in fpath)\n  \
    onggi completion fish > ~/.config/fish/completions/onggi.fish")]
pub struct CompletionArgs {
    /// The shell that asks
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The variable by which a script tells us that it wants words, and for which shell.
const ASKS: &str = "ONGGI_COMPLETE";

/// Prints a shell's script.
///
/// # Errors
/// ENOSPC.
pub fn completion(args: &CompletionArgs) -> Result<u8> {
    let mut script = Vec::new();
    let written = match args.shell {
        Shell::Bash => Bash.write_registration(ASKS, "onggi", "onggi", "onggi", &mut script),
        Shell::Zsh => Zsh.write_registration(ASKS, "onggi", "onggi", "onggi", &mut script),
        Shell::Fish => Fish.write_registration(ASKS, "onggi", "onggi", "onggi", &mut script),
    };
    written.doing(|| "write the script".into())?;
    say(String::from_utf8_lossy(&script).trim_end())
}

/// Answers a script that asks for words, and ends; does nothing for everybody else.
pub fn answer(command: fn() -> Command) {
    if std::env::var_os(ASKS).is_some() {
        CompleteEnv::with_factory(move || with_names(command())).var(ASKS).complete();
    }
}

/// Whatever is called CONTAINER, NETWORK, VOLUME, IMAGE or SERVER in a command's usage is completed with their names; what `pull` and `push`
/// call NAME is an image's too.
fn with_names(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let names = arg.get_value_names().unwrap_or_default();
        // A place without a name of its own is called like its field.
        let asks_for =
            |name: &str| names.iter().any(|known| known.as_str() == name) || (names.is_empty() && arg.get_id().as_str().eq_ignore_ascii_case(name));
        if asks_for("CONTAINER") {
            arg.add(ArgValueCandidates::new(containers))
        } else if asks_for("NETWORK") {
            arg.add(ArgValueCandidates::new(networks))
        } else if asks_for("VOLUME") {
            arg.add(ArgValueCandidates::new(volumes))
        } else if ["IMAGE", "NAME[:TAG]", "NAME[:TAG|@DIGEST]"].into_iter().any(asks_for) {
            arg.add(ArgValueCandidates::new(images))
        } else if asks_for("SERVER") {
            arg.add(ArgValueCandidates::new(servers))
        } else {
            arg
        }
    });
    command.mut_subcommands(with_names)
}

fn containers() -> Vec<CompletionCandidate> {
    let Ok(home) = Home::find() else { return Vec::new() };
    let records = record::list(&home, true).unwrap_or_default();
    records.into_iter().map(|record| CompletionCandidate::new(record.name).help(Some(record.image.into()))).collect()
}

fn networks() -> Vec<CompletionCandidate> {
    let Ok(home) = Home::find() else { return Vec::new() };
    // Whoever only asks makes none: those that are always there stand in no file before the first container.
    let known = network::list_files(&home).unwrap_or_default();
    let names: BTreeSet<String> = known.into_iter().map(|network| network.name).chain(["bridge", "host", "none"].map(String::from)).collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn volumes() -> Vec<CompletionCandidate> {
    let Ok(home) = Home::find() else { return Vec::new() };
    let known = volume::list(&home.volumes()).unwrap_or_default();
    known.into_iter().map(|volume| CompletionCandidate::new(volume.name)).collect()
}

fn images() -> Vec<CompletionCandidate> {
    let Ok(home) = Home::find() else { return Vec::new() };
    // Whoever only asks makes no store.
    let store = Some(home.data.as_path()).filter(|data| Path::exists(&data.join("version"))).and_then(|data| Store::open(data).ok());
    let references = store.and_then(|store| store.references().ok()).unwrap_or_default();
    let familiar = |name: &String| Reference::parse(name).map_or(name.clone(), |reference| reference.familiar());
    let mut names: BTreeSet<String> = references.keys().map(familiar).map(|name| name.strip_suffix(":latest").unwrap_or(&name).to_string()).collect();
    names.insert("base".into());
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// The registries that one has logged in to.
fn servers() -> Vec<CompletionCandidate> {
    let names: BTreeSet<String> = credentials::known().into_iter().collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}
