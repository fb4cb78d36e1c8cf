//! `diff`: what a container changed in its image's files. Overlay has the answer on disk: the upper directory holds what was written,
//! marks say what was deleted, and the layers below are as they were.
//!
//! Where the layers were copied instead of stacked, the copy is compared with them, file by file.
//!
//! See it: `find CONTAINER/upper`. Read: the kernel's filesystems/overlayfs.rst "whiteouts and opaque directories", docker diff(1).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::place::{IN_FOLDER, look};
use crate::engine::home::Home;
use crate::engine::record::{self, Record, layer_dirs};
use crate::error::{Doing, Result};
use crate::image::layers::is_whiteout;
use crate::image::pack;
use crate::sys::{path, xattr};

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Changed,
    Added,
    Deleted,
}

/// One file that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: Kind,
    /// From the container's root.
    pub path: PathBuf,
}

/// Places that the engine itself makes in a container's root, to mount on them. They are nobody's change as long as they are empty.
pub const OURS: [&str; 8] = ["/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/dev/pts"];

/// The changes of a container, sorted by path.
///
/// # Errors
/// NotFound when a layer is missing, EACCES.
pub fn changes(home: &Home, record: &Record) -> Result<Vec<Change>> {
    let dir = home.container(&record.id);
    let definition = record::definition(home, &record.id)?;
    let open = |dir: &PathBuf| path::open_root(dir).doing(|| format!("open {}", dir.display()));
    let mut lowers = layer_dirs(home, &definition).iter().rev().map(open).collect::<Result<Vec<_>>>()?;
    // Where there is nothing to compare with, there is nothing: an image without layers.
    lowers.retain(|lower| path::stat(lower.as_fd()).is_ok());
    let (copied, upper) = (dir.join("rootfs"), dir.join("upper"));
    let (top, is_whole) = if copied.exists() { (copied, true) } else { (upper, false) };
    let mut changes = Vec::new();
    // Created, and never looked at or started.
    if top.exists() {
        folder(&open(&top)?, &lowers, Path::new("/"), is_whole, &mut changes)?;
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

/// Compares a folder with what the layers have at its place, the uppermost first. `is_whole`: what is not in it is deleted. Answers whether
/// places of ours are in it, which change its time.
fn folder(top: &OwnedFd, lowers: &[OwnedFd], at: &Path, is_whole: bool, changes: &mut Vec<Change>) -> Result<bool> {
    let doing = || format!("compare {}", at.display());
    let mut has_ours = false;
    let mut seen = Vec::new();
    for name in pack::names(top.as_fd()).doing(doing)? {
        let Some((found, stat)) = look(top.as_fd(), &name)? else { continue };
        let path = at.join(&name);
        let below = below(lowers, &name)?;
        seen.push(name.clone());
        let mut push = |kind| changes.push(Change { kind, path: path.clone() });
        if is_whiteout(&stat) && !is_whole {
            if below.is_some() {
                push(Kind::Deleted);
            }
            continue;
        }
        let is_folder = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if !is_folder {
            match &below {
                None if is_ours(&path) && stat.st_size == 0 => has_ours = true,
                None => push(Kind::Added),
                Some(old) if is_whole && same(&stat, &old.stat) => {}
                Some(_) => push(Kind::Changed),
            }
            continue;
        }
        let opened = path::openat2(top.as_fd(), Path::new(&name), libc::O_PATH | libc::O_DIRECTORY, 0, IN_FOLDER).doing(doing)?;
        drop(found);
        let old_folders = below.as_ref().map_or(&[][..], |old| &old.folders[..]);
        let is_opaque = !is_whole && is_opaque(top, &name);
        let before = changes.len();
        let inner_ours = folder(&opened, old_folders, &path, is_whole || is_opaque, changes)?;
        let inner = changes.len() > before;
        let kind = match &below {
            None if is_ours(&path) && !inner => {
                has_ours = true;
                continue;
            }
            None => Kind::Added,
            // What changed in a folder changed the folder, whatever its time says.
            Some(old) if !inner && same_folder(&stat, &old.stat, inner_ours) => continue,
            Some(_) => Kind::Changed,
        };
        changes.push(Change { kind, path });
    }
    if is_whole {
        let old: BTreeMap<OsString, ()> = lowers
            .iter()
            .map(|lower| pack::names(lower.as_fd()))
            .collect::<nix::Result<Vec<_>>>()
            .doing(doing)?
            .into_iter()
            .flatten()
            .map(|name| (name, ()))
            .collect();
        for name in old.into_keys().filter(|name| !seen.contains(name)) {
            if below(lowers, &name)?.is_some() {
                changes.push(Change { kind: Kind::Deleted, path: at.join(name) });
            }
        }
    }
    Ok(has_ours)
}

/// What the layers show under a name.
struct Below {
    stat: libc::stat,
    /// Its folders, the uppermost first; none for a file.
    folders: Vec<OwnedFd>,
}

fn below(lowers: &[OwnedFd], name: &OsStr) -> Result<Option<Below>> {
    let mut shown: Option<Below> = None;
    for lower in lowers {
        let Some((found, stat)) = look(lower.as_fd(), name)? else { continue };
        let is_folder = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if is_whiteout(&stat) || shown.is_some() && !is_folder {
            break;
        }
        let below = shown.get_or_insert(Below { stat, folders: Vec::new() });
        if !is_folder {
            break;
        }
        below.folders.push(found);
        if is_opaque(lower, name) {
            break;
        }
    }
    Ok(shown)
}

fn is_opaque(folder: &OwnedFd, name: &OsStr) -> bool {
    let is = |key: &str| xattr::value(folder.as_fd(), Path::new(name), key).is_ok_and(|value| value == b"y");
    is("trusted.overlay.opaque") || is("user.overlay.opaque")
}

fn is_ours(path: &Path) -> bool {
    OURS.iter().any(|ours| path == Path::new(ours))
}

fn same(a: &libc::stat, b: &libc::stat) -> bool {
    let of = |s: &libc::stat| (s.st_mode, s.st_uid, s.st_gid, s.st_rdev, s.st_size, s.st_mtime, s.st_mtime_nsec);
    of(a) == of(b)
}

fn same_folder(a: &libc::stat, b: &libc::stat, whatever_its_time: bool) -> bool {
    let of = |s: &libc::stat| (s.st_mode, s.st_uid, s.st_gid);
    of(a) == of(b) && (whatever_its_time || (a.st_mtime, a.st_mtime_nsec) == (b.st_mtime, b.st_mtime_nsec))
}
