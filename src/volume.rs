//! Volumes on the disk: folders that outlive the containers that use them.
//!
//! ```text
//! volumes/NAME/_data         what containers see
//! volumes/NAME/volume.json   its labels and options, written once
//! volumes/NAME/filling       (for a moment) the copy of an image's folder on its way, worth nothing when its maker is gone
//! volumes/NAME/filled        (for a moment) the whole copy, from which all moves into `_data`; whoever finds it goes on
//! ```
//! A volume is made aside and renamed into its place, and renamed away before it is removed. Who is about to use one holds its folder
//! (flock(2), shared) until a record says so; who removes it holds it alone. A fill is ordered by a lock on `volume.json`.
//!
//! See it: `ls -l /var/lib/onggi/volumes/*`. Read: rename(2), flock(2), docker-volume-create(1).

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::{Deserialize, Serialize};

use crate::error::{Class, Doing, Error, Result};
use crate::id;
use crate::sys::xattr;

/// The label by which Docker knows a volume that nobody gave a name.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// Beside the volumes, which may be a disk of their own; no volume's name begins with a dot.
const REMOVING: &str = ".removing";

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    /// RFC 3339.
    pub created: String,
    pub labels: BTreeMap<String, String>,
    /// `type`, `device`, `o`: what is mounted instead of `_data`.
    pub options: BTreeMap<String, String>,
}

/// The right to use a volume, or to remove it, until it is dropped.
#[must_use]
pub struct Held(#[expect(dead_code, reason = "the lock is the descriptor's")] File);

/// Checks a name (Docker's rule).
///
/// # Errors
/// Invalid, in Docker's words.
pub fn check_name(name: &str) -> Result<()> {
    let doing = || format!("create the volume {name}");
    let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !is_plain || !name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) {
        let why =
            format!("create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed");
        return Err(Error::invalid(doing(), why).hint("a folder of this machine is meant by its absolute path"));
    }
    match name.len() {
        1 => Err(Error::invalid(doing(), "volume name is too short, names should be at least two alphanumeric characters")),
        // It is a folder's name (NAME_MAX).
        256.. => Err(Error::invalid(doing(), "volume name is too long, names are at most 255 characters")),
        _ => Ok(()),
    }
}

/// Checks what `--opt` says: Docker's `local` driver takes all of `type`, `device` and `o`, or none.
///
/// # Errors
/// Invalid.
pub fn check_options(name: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let wrong = |why: String| Err(Error::invalid(format!("create the volume {name}"), why));
    for key in options.keys() {
        match key.as_str() {
            "type" | "device" | "o" => {}
            "size" => return wrong("quota size requested but no quota support".into()),
            _ => return wrong(format!("invalid option: {key:?}")),
        }
    }
    let needs = [("device", "type"), ("type", "device"), ("o", "device"), ("o", "type")];
    match needs.iter().find(|(given, needed)| options.contains_key(*given) && options.get(*needed).is_none_or(|value| value.is_empty())) {
        Some((_, missing)) => wrong(format!("missing required option: {missing:?}")),
        None => Ok(()),
    }
}

/// What containers see of a volume without options. `root` is the folder of all volumes.
pub fn data(root: &Path, name: &str) -> PathBuf {
    root.join(name).join("_data")
}

/// Makes a volume; false when there is one of this name already, which stays as it is.
///
/// # Errors
/// Invalid for its name or options; ENOSPC.
pub fn make(root: &Path, volume: &Volume) -> Result<bool> {
    check_name(&volume.name)?;
    let place = root.join(&volume.name);
    if place.exists() {
        return Ok(false);
    }
    check_options(&volume.name, &volume.options)?;
    let doing = || format!("make the volume {}", volume.name);
    make_dir(root, 0o701)?;
    let lock = File::options().create(true).truncate(false).write(true).open(root.join(".lock")).doing(doing)?;
    lock.lock().doing(doing)?;
    let new = root.join(".making");
    // Its maker would hold the lock.
    remove_tree(&new)?;
    make_dir(&new, 0o701)?;
    make_dir(&new.join("_data"), 0o755)?;
    // Whatever the caller's umask: containers' users are not the caller.
    fs::set_permissions(new.join("_data"), fs::Permissions::from_mode(0o755)).doing(doing)?;
    let text = serde_json::to_vec(volume).unwrap_or_default();
    let made = fs::write(new.join("volume.json"), text).and_then(|()| fs::rename(&new, &place));
    match made {
        // Somebody else was faster.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EEXIST | libc::ENOTEMPTY)) => remove_tree(&new).map(|()| false),
        Err(e) => {
            let _ = remove_tree(&new);
            Err(e).doing(doing)
        }
        Ok(()) => Ok(true),
    }
}

/// A volume.
///
/// # Errors
/// NotFound; Invalid when its file is damaged.
pub fn load(root: &Path, name: &str) -> Result<Volume> {
    let file = root.join(name).join("volume.json");
    // A name is a folder's name below: nothing that leads elsewhere.
    if check_name(name).is_err() {
        return Err(no_such(name));
    }
    match fs::read(&file) {
        Err(e) if e.kind() == ErrorKind::NotFound => Err(no_such(name)),
        read => {
            let text = read.doing(|| format!("read {}", file.display()))?;
            serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("read {}", file.display()), e.to_string()))
        }
    }
}

/// All volumes, by name; one whose file is damaged is listed without labels.
///
/// # Errors
/// EACCES.
pub fn list(root: &Path) -> Result<Vec<Volume>> {
    let entries = match fs::read_dir(root) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(|| format!("read {}", root.display()))?,
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| check_name(name).is_ok());
    let mut volumes = Vec::new();
    for name in names {
        match load(root, &name) {
            // Removed since its name was read.
            Err(e) if e.class == Class::NotFound => {}
            loaded => volumes.push(loaded.unwrap_or(Volume { name, ..Volume::default() })),
        }
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(volumes)
}

/// Docker's words, which scripts look for.
pub fn no_such(name: &str) -> Error {
    Error::new(Class::NotFound, format!("find the volume {name}"), format!("get {name}: no such volume"))
        .hint("`onggi volume ls` lists those that there are")
}

/// Waits for the right to use a volume, beside others that do; None when it was removed.
///
/// # Errors
/// EACCES.
pub fn hold(root: &Path, name: &str) -> Result<Option<Held>> {
    held(root, name, |dir| dir.lock_shared().map(|()| true))
}

/// The right to remove a volume; None when it was removed already.
///
/// # Errors
/// Conflict while somebody is about to use it.
pub fn hold_alone(root: &Path, name: &str) -> Result<Option<Held>> {
    let alone = |dir: &File| match dir.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(e)) => Err(e),
        Ok(()) => Ok(true),
    };
    held(root, name, alone)
}

fn held(root: &Path, name: &str, lock: impl FnOnce(&File) -> std::io::Result<bool>) -> Result<Option<Held>> {
    let (place, doing) = (root.join(name), || format!("lock the volume {name}"));
    let dir = match File::open(&place) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        dir => dir.doing(doing)?,
    };
    if !lock(&dir).doing(doing)? {
        return Err(Error::new(
            Class::Conflict,
            format!("remove the volume {name}"),
            format!("remove {name}: volume is in use - [a container that is being made]"),
        ));
    }
    // It may have been removed, and another one made under its name, while we waited.
    let ours = dir.metadata().doing(doing)?;
    let is_there = fs::metadata(&place).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino()));
    Ok(is_there.then_some(Held(dir)))
}

/// Fills a volume, if it is empty: `copy` writes into the folder that it is given, and answers whether there was anything to be copied
/// from. The copy arrives whole or not at all. To be called by who [`hold`]s it.
///
/// # Errors
/// Those of `copy`; ENOSPC, after which the volume is as empty as before.
pub fn fill(root: &Path, name: &str, copy: impl FnOnce(&OwnedFd) -> Result<bool>) -> Result<()> {
    let (dir, doing) = (root.join(name), || format!("fill the volume {name}"));
    let lock = File::open(dir.join("volume.json")).doing(doing)?;
    lock.lock().doing(doing)?;
    finish_fill(&dir).doing(doing)?;
    let new = dir.join("filling");
    remove_tree(&new)?;
    if !is_empty(&dir.join("_data")) {
        return Ok(());
    }
    make_dir(&new, 0o755)?;
    let filled = File::open(&new).doing(doing).and_then(|folder| {
        let folder = OwnedFd::from(folder);
        let filled = copy(&folder)?;
        if filled && !is_empty(&new) {
            // One call for all files: after a power cut a copy that has its name is whole.
            nix::unistd::syncfs(folder.as_fd()).doing(doing)?;
        }
        Ok(filled)
    });
    match filled {
        Ok(true) => fs::rename(&new, dir.join("filled")).and_then(|()| finish_fill(&dir)).doing(doing),
        other => remove_tree(&new).and(other.map(drop)),
    }
}

/// Goes on where somebody was killed who had filled a volume all but the last step.
///
/// # Errors
/// ENOSPC, EROFS.
pub fn settle(root: &Path, name: &str) -> Result<()> {
    let (dir, doing) = (root.join(name), || format!("fill the volume {name}"));
    if !dir.join("filled").exists() {
        return Ok(());
    }
    let lock = File::open(dir.join("volume.json")).doing(doing)?;
    lock.lock().doing(doing)?;
    finish_fill(&dir).doing(doing)
}

/// All that is in `filled` moves into `_data`, which a container may have mounted already and which therefore stays the folder that it
/// is. What is there under the same name was put there since, and stays.
fn finish_fill(dir: &Path) -> std::io::Result<()> {
    let (from, to) = (dir.join("filled"), dir.join("_data"));
    let entries = match fs::read_dir(&from) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let facts = fs::metadata(&from)?;
    for entry in entries {
        let name = entry?.file_name();
        match renameat2(AT_FDCWD, &from.join(&name), AT_FDCWD, &to.join(&name), RenameFlags::RENAME_NOREPLACE) {
            Err(nix::errno::Errno::EEXIST | nix::errno::Errno::ENOENT) => {}
            moved => moved?,
        }
    }
    copy_attributes(&from, &to, &facts)?;
    fs::remove_dir_all(&from)
}

/// Owner, mode, times and attributes of the folder itself. Owner first: a new one takes the mode's special bits away.
fn copy_attributes(from: &Path, to: &Path, facts: &fs::Metadata) -> std::io::Result<()> {
    let (source, target) = (File::open(from)?, File::open(to)?);
    std::os::unix::fs::fchown(&target, Some(facts.uid()), Some(facts.gid()))?;
    target.set_permissions(fs::Permissions::from_mode(facts.mode() & 0o7777))?;
    let here = Path::new(".");
    for key in xattr::names(source.as_fd(), here).unwrap_or_default() {
        if let Ok(value) = xattr::value(source.as_fd(), here, &key) {
            // What this file system can't keep it did not keep on the copy either.
            let _ = xattr::set(target.as_fd(), here, &key, &value);
        }
    }
    target.set_times(fs::FileTimes::new().set_accessed(facts.accessed()?).set_modified(facts.modified()?))
}

/// Removes a volume, which the caller holds alone: it goes at once, its files by and by.
///
/// # Errors
/// EACCES, EBUSY.
pub fn remove(root: &Path, name: &str) -> Result<()> {
    let doing = || format!("remove the volume {name}");
    let gone = root.join(REMOVING).join(id::random()?);
    make_dir(&root.join(REMOVING), 0o700)?;
    fs::rename(root.join(name), &gone).doing(doing)?;
    remove_tree(&gone)
}

/// Clears what removals that were killed have left.
pub fn sweep(root: &Path) {
    for entry in fs::read_dir(root.join(REMOVING)).into_iter().flatten().flatten() {
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Whether nothing is in a folder; one that can't be read may hold something.
pub fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().mode(mode).create(dir) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.doing(|| format!("make {}", dir.display())),
    }
}

fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.doing(|| format!("remove {}", dir.display())),
    }
}
