//! What the runtime remembers of a container: one folder with `state.json`, and the files that `start` needs.
//!
//! ```text
//! ROOT/.creating/ID/   while it is being made: a folder here whose maker is dead is swept by the next command
//! ROOT/ID/             when it is there
//!   state.json         a new file renamed over the old: never half of one
//!   exec.fifo          as long as it waits for `start`
//!   exec.error         why it could not become its program
//! ```
//! Whether it runs is never written down: the kernel is asked, by PID *and* start time, so that a PID given to a stranger after the
//! container's end is never shown, signalled or entered.
//!
//! Read: runtime.md "State".

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cgroups::{self, Place};
use super::spec::{OCI_VERSION, Spec};
use crate::error::{Class, Doing, Error, Result};
use crate::sys::{fs, process};

/// One process, for ever: a PID alone is given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this PID now.
    pub fn now(pid: i32) -> Option<ProcessId> {
        Some(ProcessId { pid, start_time: process::start_time(pid)? })
    }

    /// Whether it is still there and no zombie.
    pub fn lives(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let ended = matches!(fields.first(), None | Some(&"Z" | &"X"));
        !ended && fields.get(19).and_then(|t| t.parse().ok()) == Some(self.start_time)
    }

    /// A handle on it, or None when it is gone: opened first and compared after, so that it can't change in between.
    pub fn open(&self) -> Option<OwnedFd> {
        let handle = process::pidfd_open(self.pid).ok()?;
        self.lives().then_some(handle)
    }
}

/// The record of one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    pub owner: u32,
    /// Its maker, as long as it is being made.
    pub maker: ProcessId,
    pub init: Option<ProcessId>,
    pub cgroup: Option<Place>,
    pub pid_file: Option<PathBuf>,
    /// `LISTEN_FDS` and other choices of `create` that `exec` shares.
    pub systemd_cgroup: bool,
    pub spec: Spec,
}

/// The status words of runtime.md, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The state that `state` prints and hooks read: runtime.md "State", with runc's `rootfs`, `created` and `owner` beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    pub status: Status,
    pub bundle: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub owner: String,
}

/// A folder of containers: `--root`.
#[derive(Debug, Clone)]
pub struct Store {
    pub root: PathBuf,
}

/// `/run/onggi/oci`, or for others than root the XDG run-time folder.
pub fn default_root() -> PathBuf {
    if nix::unistd::geteuid().is_root() && !super::users::in_user_namespace() {
        return "/run/onggi/oci".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir).join("onggi/oci"),
        _ => std::env::temp_dir().join(format!("onggi-{}/oci", super::users::outer_uid())),
    }
}

/// Whether `id` can name a container: runc's rule.
///
/// # Errors
/// Invalid.
pub fn check_id(id: &str) -> Result<()> {
    let fits = !id.is_empty() && id.len() <= 255 && !id.starts_with('.') && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-.".contains(&b));
    match fits {
        true => Ok(()),
        false => {
            Err(Error::invalid(format!("use {id:?} as a container's ID"), "an ID has letters, digits and _ + - . and does not begin with a dot"))
        }
    }
}

impl Store {
    /// Opens the folder, makes it when it is missing, and sweeps what makers that died have left.
    ///
    /// # Errors
    /// EACCES, EROFS, ENOSPC.
    pub fn open(root: &Path) -> Result<Store> {
        let store = Store { root: root.to_path_buf() };
        let unfinished = store.unfinished();
        if !unfinished.is_dir() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(root);
            made.and_then(|()| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&unfinished))
                .doing(|| format!("make {}", root.display()))?;
        }
        store.sweep()?;
        Ok(store)
    }

    fn unfinished(&self) -> PathBuf {
        self.root.join(".creating")
    }

    /// Where a container is when it is there.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Where it is while it is being made.
    pub fn dir_of_unfinished(&self, id: &str) -> PathBuf {
        self.unfinished().join(id)
    }

    /// One command at a time claims names and sweeps. The lock goes with the process that holds it.
    fn lock(&self) -> Result<File> {
        let path = self.root.join(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).doing(|| format!("open {}", path.display()))?;
        file.lock().doing(|| format!("lock {}", path.display()))?;
        Ok(file)
    }

    /// Takes the name for a container to be made, and writes its first record.
    ///
    /// # Errors
    /// Conflict when there is one of that name, finished or not.
    pub fn claim(&self, record: &Record) -> Result<()> {
        let _lock = self.lock()?;
        let unfinished = self.dir_of_unfinished(&record.id);
        if self.dir(&record.id).exists() || unfinished.exists() {
            return Err(Error::new(Class::Conflict, format!("create {}", record.id), "a container of this ID already exists"));
        }
        fs::mkdir(&unfinished, 0o700).doing(|| format!("make {}", unfinished.display()))?;
        write(&unfinished, record).inspect_err(|_| drop(std::fs::remove_dir_all(&unfinished)))
    }

    /// From here on the container is there.
    ///
    /// # Errors
    /// ENOSPC, EIO.
    pub fn finish(&self, id: &str) -> Result<()> {
        std::fs::rename(self.dir_of_unfinished(id), self.dir(id)).doing(|| format!("finish {id}"))
    }

    /// Clears what makers that are dead have left: a process, a cgroup, files.
    fn sweep(&self) -> Result<()> {
        let entries = std::fs::read_dir(self.unfinished()).doing(|| format!("read {}", self.unfinished().display()))?;
        let mut lock = None;
        for entry in entries.flatten() {
            if lock.is_none() {
                lock = Some(self.lock()?);
            }
            let dir = entry.path();
            match read(&dir) {
                Ok(record) if record.maker.lives() => {}
                Ok(record) => {
                    clear(&record)?;
                    remove(&dir)?;
                }
                // Killed between mkdir and the first record, which are made under the lock that we hold: nothing else was made yet.
                // Or it was finished since we listed it, and is there no more.
                Err(_) => remove(&dir)?,
            }
        }
        Ok(())
    }

    /// The record of a container.
    ///
    /// # Errors
    /// NotFound.
    pub fn load(&self, id: &str) -> Result<Record> {
        check_id(id)?;
        for dir in [self.dir(id), self.dir_of_unfinished(id)] {
            if dir.join("state.json").exists() {
                return read(&dir);
            }
        }
        // containerd looks for these three words.
        Err(Error::new(Class::NotFound, format!("find container {id}"), format!("container {id:?} does not exist")))
    }

    /// All records, by name. One that can't be read is left out and said.
    ///
    /// # Errors
    /// EACCES.
    pub fn list(&self) -> Result<(Vec<Record>, Vec<Error>)> {
        let (mut records, mut errors) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.root).doing(|| format!("read {}", self.root.display()))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || !entry.path().is_dir() {
                continue;
            }
            match read(&entry.path()) {
                Ok(record) => records.push(record),
                Err(e) => errors.push(e),
            }
        }
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((records, errors))
    }

    /// Writes a record anew.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn save(&self, record: &Record) -> Result<()> {
        let unfinished = self.dir_of_unfinished(&record.id);
        let dir = if unfinished.exists() { unfinished } else { self.dir(&record.id) };
        write(&dir, record)
    }

    /// Holds a container for one command: `start`, `delete`.
    ///
    /// # Errors
    /// NotFound when it is gone.
    pub fn hold(&self, id: &str) -> Result<File> {
        let path = self.dir(id).join(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).doing(|| format!("lock container {id}"))?;
        file.lock().doing(|| format!("lock container {id}"))?;
        Ok(file)
    }

    /// What the kernel says of it now.
    pub fn status(&self, record: &Record) -> Status {
        let alive = record.init.filter(ProcessId::lives);
        if self.dir_of_unfinished(&record.id).exists() && record.maker.lives() {
            return Status::Creating;
        }
        match alive {
            None => Status::Stopped,
            Some(_) if self.dir(&record.id).join("exec.fifo").exists() => Status::Created,
            Some(_) if record.cgroup.as_ref().is_some_and(cgroups::frozen) => Status::Paused,
            Some(_) => Status::Running,
        }
    }

    /// The state of runtime.md.
    pub fn state(&self, record: &Record) -> State {
        let status = self.status(record);
        state_of(record, status)
    }
}

/// The state with a given status: for hooks, which run in the midst of a change.
pub fn state_of(record: &Record, status: Status) -> State {
    State {
        oci_version: if record.spec.oci_version.is_empty() { OCI_VERSION.into() } else { record.spec.oci_version.clone() },
        id: record.id.clone(),
        pid: if status == Status::Stopped { 0 } else { record.init.map_or(0, |init| init.pid) },
        status,
        bundle: record.bundle.clone(),
        rootfs: Some(record.rootfs.clone()),
        created: Some(record.created.clone()),
        annotations: record.spec.annotations.clone(),
        owner: nix::unistd::User::from_uid(record.owner.into()).ok().flatten().map(|user| user.name).unwrap_or_default(),
    }
}

/// Ends what is left of a container and removes its cgroup. What is gone already is fine.
///
/// # Errors
/// EBUSY when a process can't be ended.
pub fn clear(record: &Record) -> Result<()> {
    use std::os::fd::AsFd;
    if let Some(handle) = record.init.and_then(|init| init.open()) {
        let _ = process::pidfd_send_signal(handle.as_fd(), libc::SIGKILL);
    }
    if let Some(place) = &record.cgroup {
        // Others of its processes, when it had no PID namespace of its own whose end would be theirs.
        cgroups::kill_all(place, libc::SIGKILL)?;
        cgroups::remove(place)?;
    }
    if let Some(file) = &record.pid_file {
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}

/// Removes a folder, which somebody else may be removing, or have moved away.
fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.doing(|| format!("remove {}", dir.display())),
    }
}

fn read(dir: &Path) -> Result<Record> {
    let path = dir.join("state.json");
    let text = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("read {}", path.display()), e.to_string()))
}

/// A reader sees the old record or the new one, never half of one. `/run` is memory, so there is nothing to fsync: what a power cut
/// takes it takes with the processes.
fn write(dir: &Path, record: &Record) -> Result<()> {
    let path = dir.join("state.json");
    let doing = || format!("write {}", path.display());
    let text = serde_json::to_vec(record).map_err(|e| Error::new(Class::System, doing(), e.to_string()))?;
    let new = dir.join("state.json.new");
    File::create(&new).and_then(|mut file| file.write_all(&text)).doing(doing).inspect_err(|_| drop(std::fs::remove_file(&new)))?;
    std::fs::rename(&new, &path).doing(doing)
}
