//! What is known of a container, as a file in its folder, and what is done with nothing else: list them, remove one.
//!
//! See it: `cat /run/onggi-steps/containers/*/state.json`. Read: rename(2), pidfd_open(2), flock(2).

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder as short_lived;
use crate::error::{Class, Doing, Error, Result};
use crate::id;
use crate::runtime::cgroups::{self, Place};
use crate::sys::process::{pidfd_open, start_time};
use crate::sys::watch;

/// What is known of a container, in its folder. A PID is written down with its start time: once it is somebody else's, they differ.
#[derive(Serialize, Deserialize)]
pub struct State {
    /// Of PID 1, as the host knows it.
    pub pid: i32,
    pub start_time: u64,
    pub command: Vec<String>,
    /// Of a container that has ended.
    pub exit_code: Option<i32>,
    pub cgroup: Option<Place>,
}

impl State {
    /// The state of the container in `folder`.
    ///
    /// # Errors
    /// NotFound; Invalid for a damaged file.
    pub fn load(folder: &Path) -> Result<State> {
        let missing = |_| Error::new(Class::NotFound, "find the container", format!("there is no {}", folder.display()));
        let bytes = fs::read(folder.join("state.json")).map_err(missing)?;
        serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("read the state in {}", folder.display()), e.to_string()))
    }

    /// Written aside, and renamed over the old one: who reads gets the one or the other, and never a half.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let aside = folder.join("state.new");
        let text = serde_json::to_string(self).map_err(|e| Error::invalid("write the state", e.to_string()))?;
        fs::write(&aside, text).and_then(|()| fs::rename(&aside, folder.join("state.json"))).doing(|| "write the state".into())
    }

    /// A handle on the first process, if that is still alive. Unlike its PID, it will never mean another (pidfd_open(2)).
    pub fn process(&self) -> Option<OwnedFd> {
        let handle = pidfd_open(self.pid).ok().filter(|_| start_time(self.pid) == Some(self.start_time))?;
        // It can be read as soon as the process has ended, even if nobody has taken its exit status yet.
        (!watch::wait_readable(handle.as_fd(), Some(0)).ok()?).then_some(handle)
    }
}

/// A container's folder.
///
/// # Errors
/// Invalid for a name that is none.
pub fn folder(name: &str) -> Result<PathBuf> {
    id::check_name(name)?;
    Ok(short_lived("containers")?.join(name))
}

/// Prints all containers.
///
/// # Errors
/// EACCES.
pub fn list() -> Result<i32> {
    println!("{:<20} {:<12} {:<8} COMMAND", "NAME", "STATUS", "PID");
    for entry in fs::read_dir(short_lived("containers")?).into_iter().flatten().flatten() {
        let Ok(state) = State::load(&entry.path()) else { continue };
        let status = match (state.exit_code, state.process()) {
            (None, Some(_)) => "Up".into(),
            // Killed, and so its container with it.
            (None, None) => "Dead".into(),
            (Some(code), _) => format!("Exited ({code})"),
        };
        println!("{:<20} {status:<12} {:<8} {}", entry.file_name().display(), state.pid, state.command.join(" "));
    }
    Ok(0)
}

/// Removes a container that nobody watches any more.
///
/// # Errors
/// NotFound; Conflict while it runs.
pub fn remove(step: &str, name: &str) -> Result<i32> {
    let folder = folder(name)?;
    let state = State::load(&folder)?;
    let doing = || format!("remove {name}");
    if File::open(folder.join("lock")).doing(doing)?.try_lock().is_err() {
        return Err(Error::new(Class::Conflict, doing(), format!("it runs; first do: {step} stop {name}")));
    }
    // What a killed monitor has left; otherwise it is gone.
    state.cgroup.as_ref().map_or(Ok(()), cgroups::remove)?;
    fs::remove_dir_all(folder).doing(doing)?;
    println!("{name}");
    Ok(0)
}
