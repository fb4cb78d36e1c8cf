//! How far the layers of an image are that come or go.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::engine::interrupt::interruptible;
use crate::error::Result;
use crate::image::registry::{State, Tell, Told};

/// Where the progress is shown: `pull` and `push` tell it on standard output, `run` leaves that to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    Stdout,
    Stderr,
}

impl Where {
    /// Says a line there.
    ///
    /// # Errors
    /// ENOSPC, EIO.
    pub fn tell(self, line: impl std::fmt::Display) -> Result<()> {
        match self {
            Where::Stdout => super::images::tell(line),
            // Nobody listens to us any more: no reason not to go on.
            Where::Stderr => Ok(drop(writeln!(std::io::stderr(), "{line}"))),
        }
    }
}

/// Does the work and shows how far it is; Ctrl-C ends it.
///
/// # Errors
/// Those of the work; Interrupted.
pub fn show<T>(doing: &str, quiet: bool, place: Where, work: impl FnOnce(Tell) -> Result<T>) -> Result<T> {
    let said: Mutex<BTreeSet<String>> = Mutex::default();
    let tell = |told: Told| {
        let Some(word) = word(&told.state).filter(|_| !quiet) else { return };
        let line = format!("{}: {word}\n", told.layer);
        if said.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
            let _ = match place {
                Where::Stdout => std::io::stdout().write_all(line.as_bytes()),
                Where::Stderr => std::io::stderr().write_all(line.as_bytes()),
            };
        }
    };
    interruptible(doing, || work(&tell))
}

/// Docker's word for a state; None for one that is told by a bar only.
fn word(state: &State) -> Option<String> {
    Some(match state {
        State::Preparing => "Preparing".into(),
        State::Waiting => "Waiting".into(),
        State::PullingFsLayer => "Pulling fs layer".into(),
        State::Verifying => "Verifying Checksum".into(),
        State::DownloadComplete => "Download complete".into(),
        State::PullComplete => "Pull complete".into(),
        State::AlreadyExists => "Already exists".into(),
        State::Retrying { seconds } => format!("Retrying in {seconds} second{}", if *seconds == 1 { "" } else { "s" }),
        State::Pushed => "Pushed".into(),
        State::LayerAlreadyExists => "Layer already exists".into(),
        State::MountedFrom(repository) => format!("Mounted from {repository}"),
        State::Downloading { .. } | State::Extracting { .. } | State::Pushing { .. } => return None,
    })
}
