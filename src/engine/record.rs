//! What the engine remembers of a container: three files in its folder.
//!
//! ```text
//! container.json    who it is, and its state; what `ps` reads
//! definition.json   what it is made from, each time it starts: the request and the image's own settings
//! lock              held (flock(2)) by whoever changes the two above
//! ```
//! A file is written aside and renamed into its place, so that a reader sees the old one or the new one, whatever is killed when.
//! Whether a container runs is not believed but asked: its monitor lives, or nobody looks after it any more (see `sweep`).
//!
//! See it: `cat /var/lib/onggi/containers/*/container.json`. Read: rename(2), flock(2).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::home::Home;
use super::request::{Attachment, NetworkMode, Request, Restart, Volume};
pub use super::state::{Health, Port, Probe, State, Status};
use crate::error::{Class, Doing, Error, Result};
use crate::image::digest::ChainId;
use crate::image::manifest::ContainerConfig;
use crate::image::snapshot;
use crate::network::ports::Protocol;
use crate::runtime::cgroups;
use crate::runtime::state::ProcessId;

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub id: String,
    pub name: String,
    /// As it was asked for.
    pub image: String,
    /// `sha256:…` of the image's config.
    pub image_id: String,
    /// `sha256:…` of its manifest.
    pub manifest: String,
    pub command: Vec<String>,
    /// RFC 3339.
    pub created: String,
    /// It goes when it has ended (`--rm`).
    pub remove: bool,
    pub restart: Restart,
    pub stop_signal: Option<String>,
    /// Seconds.
    pub stop_timeout: Option<u64>,
    /// The image's and its own.
    pub labels: Vec<(String, String)>,
    pub network: NetworkMode,
    /// The networks that it is on, or will be when it runs.
    #[serde(default)]
    pub networks: Vec<Attachment>,
    /// The ports that it offers: published ones are in its state.
    #[serde(default)]
    pub exposed: Vec<(u16, Protocol)>,
    pub terminal: bool,
    /// Its standard input is open.
    pub interactive: bool,
    pub volumes: Vec<Volume>,
    pub state: State,
}

/// What a container is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    pub request: Request,
    /// The image's settings when the container was created: the image may be gone, or mean something else, by now.
    pub image: ContainerConfig,
    /// The layers by their snapshots' names, the lowest first.
    pub layers: Vec<ChainId>,
}

impl Record {
    /// Whether somebody looks after it: only then what its state says of running is true.
    pub fn is_attended(&self) -> bool {
        self.state.monitor.is_some_and(|monitor| monitor.lives()) && self.state.boot == boot_id()
    }

    /// Whether its program runs, or will again by itself.
    pub fn is_active(&self) -> bool {
        matches!(self.state.status, Status::Running | Status::Restarting) && self.is_attended()
    }

    /// Whether its end removes it.
    pub fn goes_with_its_end(&self) -> bool {
        self.remove && !self.state.kept
    }

    /// Its state now, the kernel asked.
    pub fn status(&self) -> Status {
        match self.state.status {
            Status::Running | Status::Restarting if !self.is_attended() => Status::Exited,
            Status::Running if self.state.cgroup.as_ref().is_some_and(cgroups::frozen) => Status::Paused,
            status => status,
        }
    }
}

/// Another one after each start of the machine (random(4)); it doesn't change while we live.
pub fn boot_id() -> &'static str {
    static ID: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ID.get_or_init(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_string()).unwrap_or_default())
}

/// Writes the record; the caller holds the container's lock.
///
/// # Errors
/// ENOSPC.
pub fn save(home: &Home, record: &Record) -> Result<()> {
    write_json(&home.container(&record.id).join("container.json"), record)
}

/// Replaces a file: the old one or the new one is there, never half of one.
///
/// # Errors
/// ENOSPC.
pub fn write_json(file: &Path, value: &impl Serialize) -> Result<()> {
    let new = file.with_extension("json.new");
    let text = serde_json::to_vec(value).unwrap_or_default();
    let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, file));
    written.inspect_err(|_| drop(std::fs::remove_file(&new))).doing(|| format!("write {}", file.display()))
}

/// Writes the record into the file that is there, when there is no room for a new one: how a container ended is told on a full disk, too.
/// Shorter than what it takes the place of, it needs no more room; who is killed in this very moment leaves a damaged record.
///
/// # Errors
/// ENOSPC when it is longer; EIO.
pub fn save_in_place(home: &Home, record: &Record) -> Result<()> {
    let path = home.container(&record.id).join("container.json");
    let text = serde_json::to_vec(record).unwrap_or_default();
    let written = File::options().write(true).open(&path).and_then(|file| {
        file.write_all_at(&text, 0)?;
        file.set_len(text.len() as u64)
    });
    written.doing(|| format!("write {}", path.display()))
}

/// The record of a container, by its full ID.
///
/// # Errors
/// NotFound; Invalid when the file is damaged.
pub fn load(home: &Home, id: &str) -> Result<Record> {
    read_json(home, id, "container.json")
}

/// What a container is made from.
///
/// # Errors
/// NotFound; Invalid when the file is damaged.
pub fn definition(home: &Home, id: &str) -> Result<Definition> {
    read_json(home, id, "definition.json")
}

/// Bytes; what is longer is damaged, and ends in the middle for us.
const LARGEST: u64 = 64 << 20;

fn read_json<T: serde::de::DeserializeOwned>(home: &Home, id: &str, name: &str) -> Result<T> {
    let file = home.container(id).join(name);
    // Room for the usual record: it is read in one go.
    let mut text = Vec::with_capacity(8192);
    match File::open(&file).and_then(|file| file.take(LARGEST).read_to_end(&mut text)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(no_such(id)),
        read => drop(read.doing(|| format!("read {}", file.display()))?),
    }
    serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("read {}", file.display()), e.to_string()).hint("`onggi rm -f` removes it"))
}

/// Docker's words, which scripts look for.
pub fn no_such(name: &str) -> Error {
    Error::new(Class::NotFound, format!("find the container {name}"), format!("No such container: {name}"))
        .hint("`onggi ps -a` lists those that there are")
}

/// The right to change a container, until it is dropped.
#[must_use]
pub struct Held(File);

impl Held {
    /// The lock's descriptor: a monitor that was forked shares it, and shuts its copy when it is done.
    pub fn file(&self) -> &File {
        &self.0
    }
}

/// Waits for the right to change a container, and answers its record as it is then.
///
/// # Errors
/// NotFound when it is gone.
pub fn hold(home: &Home, id: &str) -> Result<(Held, Record)> {
    let path = home.container(id).join("lock");
    let file = match File::options().create(true).truncate(false).write(true).open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(no_such(id)),
        file => file.doing(|| format!("lock the container {}", crate::id::short(id)))?,
    };
    file.lock().doing(|| format!("lock the container {}", crate::id::short(id)))?;
    // Its folder may have been removed while we waited: then this finds no record.
    let record = load(home, id)?;
    Ok((Held(file), record))
}

/// Changes a container's record in one go.
///
/// # Errors
/// NotFound, ENOSPC.
pub fn change(home: &Home, id: &str, change: impl FnOnce(&mut Record)) -> Result<Record> {
    let (_held, _) = hold(home, id)?;
    change_held(home, id, change)
}

/// The same on a disk that may be full, for what must not be lost.
///
/// # Errors
/// NotFound; ENOSPC when even the old record's place is too small.
pub fn change_without_room(home: &Home, id: &str, change: impl FnOnce(&mut Record)) -> Result<Record> {
    let (_held, mut record) = hold(home, id)?;
    change(&mut record);
    save(home, &record).or_else(|_| save_in_place(home, &record))?;
    Ok(record)
}

/// The same for whoever holds the container's lock already.
///
/// # Errors
/// NotFound, ENOSPC.
pub fn change_held(home: &Home, id: &str, change: impl FnOnce(&mut Record)) -> Result<Record> {
    let mut record = load(home, id)?;
    change(&mut record);
    save(home, &record)?;
    Ok(record)
}

/// The IDs of all containers, in no order.
///
/// # Errors
/// EACCES.
pub fn ids(home: &Home) -> Result<Vec<String>> {
    let dir = home.data.join("containers");
    let entries = std::fs::read_dir(&dir).doing(|| format!("read {}", dir.display()))?;
    let is_id = |name: &String| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(is_id).collect())
}

/// The containers that are looked after at the moment, by their marks.
///
/// # Errors
/// EACCES.
pub fn running_ids(home: &Home) -> Result<Vec<String>> {
    let dir = home.run.join("running");
    let entries = std::fs::read_dir(&dir).doing(|| format!("read {}", dir.display()))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// All records, the newest first; a damaged one is shown as dead.
///
/// # Errors
/// EACCES.
pub fn list(home: &Home, all: bool) -> Result<Vec<Record>> {
    let ids = if all { ids(home)? } else { running_ids(home)? };
    let mut records: Vec<Record> = Vec::with_capacity(ids.len());
    for id in ids {
        match load(home, &id) {
            Ok(record) => records.push(record),
            // Removed since we looked.
            Err(e) if e.class == Class::NotFound => {}
            Err(e) => records.push(damaged(&id, &e)),
        }
    }
    records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    Ok(records)
}

fn damaged(id: &str, error: &Error) -> Record {
    Record {
        id: id.into(),
        name: crate::id::short(id).into(),
        image: String::new(),
        image_id: String::new(),
        manifest: String::new(),
        command: Vec::new(),
        created: String::new(),
        remove: false,
        restart: Restart::No,
        stop_signal: None,
        stop_timeout: None,
        labels: Vec::new(),
        network: NetworkMode::None,
        networks: Vec::new(),
        exposed: Vec::new(),
        terminal: false,
        interactive: false,
        volumes: Vec::new(),
        state: State { status: Status::Dead, error: error.one_line(), ..State::default() },
    }
}

/// Says who looks after the container: whoever finds this file and not that process clears up.
///
/// # Errors
/// ENOSPC.
pub fn mark_running(home: &Home, id: &str, who: ProcessId) -> Result<()> {
    let file = home.running(id);
    let new = home.run.join(format!(".mark.{}", std::process::id()));
    let text = serde_json::to_vec(&who).unwrap_or_default();
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &file)).doing(|| format!("write {}", file.display()))
}

/// The folders of a container's layers, the lowest first.
pub fn layer_dirs(home: &Home, definition: &Definition) -> Vec<PathBuf> {
    definition.layers.iter().map(|chain| snapshot::dir_below(&home.data, chain)).collect()
}
