//! Who lives in the one user namespace that all of a user's containers, their monitors and the commands of the moment share.
//!
//! A user namespace lives as long as a process in it, and only from inside may a command signal a container, enter it, or mount what it
//! mounted. So each such process has a file here, named by its PID, from before the one that brought it forth can be gone until its own
//! end: while anything lives in there, a file says through whom it can be entered. There is no process whose only work is to be there.
//!
//! ```text
//! userns.lock    held (flock(2)) while somebody enters, or makes the namespace because nobody lives in it
//! userns/PID     who that is, with its start time: a PID alone may be a stranger's by now
//! ```
//! See it: `ls $XDG_RUNTIME_DIR/onggi/userns`, `lsns -t user`. Read: user_namespaces(7), flock(2), proc_pid_stat(5).

use std::fs::File;
use std::path::{Path, PathBuf};

use super::home::Home;
use super::record;
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::state::ProcessId;

/// The members, while nobody else can become one.
#[must_use]
pub struct Members {
    dir: PathBuf,
    _lock: File,
}

/// Waits for one's turn to enter the namespace, or to make it.
///
/// # Errors
/// EACCES, ENOSPC.
pub fn lock(home: &Home) -> Result<Members> {
    let dir = dir(home);
    let doing = || format!("use {}", dir.display());
    std::fs::create_dir_all(&dir).doing(doing)?;
    let file = File::options().create(true).truncate(false).write(true).open(home.run.join("userns.lock")).doing(doing)?;
    file.lock().doing(doing)?;
    Ok(Members { dir, _lock: file })
}

/// Whether this process is a member: what it forks is to be one, too, if it lives on.
pub fn includes_us(home: &Home) -> bool {
    ProcessId::now(std::process::id() as i32).is_some_and(|us| read(&dir(home).join(us.pid.to_string())) == Some(us))
}

/// A fork of a member becomes one. Whoever forked it must not leave before.
///
/// # Errors
/// Conflict when that one was killed before our turn came, and the next command has found nobody and made another namespace; ENOSPC.
pub fn register(home: &Home) -> Result<()> {
    let members = lock(home)?;
    if members.living().iter().any(is_elsewhere) {
        let why = "its command was killed, and another one has made a user namespace of its own meanwhile";
        return Err(Error::new(Class::Conflict, "stay in the user namespace of the other containers", why).hint("try it again"));
    }
    members.add_us()
}

/// This process is about to end.
pub fn leave(home: &Home) {
    if includes_us(home) {
        let _ = std::fs::remove_file(dir(home).join(std::process::id().to_string()));
    }
}

impl Members {
    /// Those that live; the files of others are removed.
    pub fn living(&self) -> Vec<ProcessId> {
        let mut living = Vec::new();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            match read(&entry.path()).filter(ProcessId::lives) {
                Some(member) => living.push(member),
                // We hold the lock: nobody is about to write this.
                None => drop(std::fs::remove_file(entry.path())),
            }
        }
        living
    }

    /// This process is a member from now on.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn add_us(&self) -> Result<()> {
        let us = ProcessId::now(std::process::id() as i32)
            .ok_or_else(|| Error::new(Class::System, "enter the user namespace", "/proc doesn't show this process"))?;
        record::write_json(&self.dir.join(us.pid.to_string()), &us)
    }

    /// This one was never a member: its file is older than the last start of the machine.
    pub fn remove(&self, other: &ProcessId) {
        let _ = std::fs::remove_file(self.dir.join(other.pid.to_string()));
    }
}

fn dir(home: &Home) -> PathBuf {
    home.run.join("userns")
}

fn read(file: &Path) -> Option<ProcessId> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Whether a member lives in another user namespace than we. Into a stranger's we may not even look.
fn is_elsewhere(member: &ProcessId) -> bool {
    let ours = std::fs::read_link("/proc/self/ns/user").ok();
    let theirs = std::fs::read_link(format!("/proc/{}/ns/user", member.pid)).ok();
    ours != theirs && member.lives()
}
