//! One file or folder copied from one place to another, by descriptors all the way: what runs at either end meanwhile may rename and
//! replace what it likes, and no name leads anywhere else.
//!
//! Links are copied as links, hard links stay linked among what is copied, sockets are left out, the kernel's own folders (/proc, /sys)
//! stay empty.
//!
//! Read: openat2(2), copy_file_range(2).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;

use super::land::{self, Attributes};
use super::place::{Destination, IN_FOLDER, Source, look};
use crate::error::{Doing, Result};
use crate::image::pack;
use crate::sys::mount::is_the_kernels;
use crate::sys::{path, xattr};

/// A block of a tar archive, in which Docker counts what it copies.
const BLOCK: u64 = 512;

/// Copies, and answers the bytes that a tar archive of it would have. `told` hears of them on the way.
///
/// # Errors
/// Conflict for a file onto a folder or the other way round; ENOSPC, EROFS, EACCES, with the name.
pub fn copy(source: &Source, destination: &Destination, keep_owners: bool, told: &mut dyn FnMut(u64)) -> Result<u64> {
    let (folder, path) = match destination {
        Destination::Into { folder, path } | Destination::As { folder, path, .. } => (folder, path),
    };
    let stat = path::stat(folder.as_fd()).doing(|| format!("look at {}", path.display()))?;
    let mut copying = Copying { keep_owners, base: folder, linked: HashMap::new(), avoided: vec![(stat.st_dev, stat.st_ino)], size: 2 * BLOCK, told };
    match destination {
        Destination::Into { .. } if source.name == "." => copying.contents(&source.folder, folder, Path::new(""), path)?,
        Destination::Into { .. } => copying.entry(&source.folder, &source.name, folder, &source.called, Path::new(""), path)?,
        Destination::As { name, .. } => copying.entry(&source.folder, &source.name, folder, name, Path::new(""), path)?,
    }
    Ok(copying.size)
}

/// A folder without what is in it.
///
/// # Errors
/// As [`copy`].
pub fn folder_alone(from: &OwnedFd, name: &OsStr, to: &OwnedFd) -> Result<()> {
    let Some((_, stat)) = look(from.as_fd(), name)? else { return Ok(()) };
    let shown = Path::new(name);
    land::finish_folder(&land::folder(to, name, shown)?, &attributes(from, name, &stat, true), shown)
}

/// What a folder has besides what is in it, onto one that is there.
///
/// # Errors
/// EPERM, EROFS.
pub fn folder_itself(from: &OwnedFd, name: &OsStr, to: &OwnedFd) -> Result<()> {
    let stat = path::stat(from.as_fd()).doing(|| format!("look at {}", name.display()))?;
    land::finish_folder(to, &attributes(from, name, &stat, true), Path::new(name))
}

struct Copying<'a> {
    keep_owners: bool,
    /// Where the copy goes, from which `linked` are relative.
    base: &'a OwnedFd,
    /// Inodes with more than one name, and the first of them in the copy.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Folders that the copy made itself: it is not copied into itself without end.
    avoided: Vec<(u64, u64)>,
    size: u64,
    told: &'a mut dyn FnMut(u64),
}

impl Copying<'_> {
    /// What is in `from`, into `to`. `at` is `to` relative to the base, `shown` its path for people.
    fn contents(&mut self, from: &OwnedFd, to: &OwnedFd, at: &Path, shown: &Path) -> Result<()> {
        if is_the_kernels(from.as_fd()) {
            return Ok(());
        }
        for name in pack::names(from.as_fd()).doing(|| format!("read the folder for {}", shown.display()))? {
            self.entry(from, &name, to, &name, at, shown)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &OwnedFd, name: &OsStr, to: &OwnedFd, called: &OsStr, at: &Path, folder: &Path) -> Result<()> {
        let (at, shown) = (at.join(called), folder.join(called));
        let doing = || format!("copy {}", shown.display());
        // Removed since its name was read.
        let Some((found, stat)) = look(from.as_fd(), name)? else { return Ok(()) };
        let kind = stat.st_mode & libc::S_IFMT;
        if kind == libc::S_IFSOCK || self.avoided.contains(&(stat.st_dev, stat.st_ino)) && kind == libc::S_IFDIR {
            return Ok(());
        }
        self.count(BLOCK);
        let attributes = attributes(from, name, &stat, self.keep_owners);
        if kind == libc::S_IFDIR {
            let made = land::folder(to, called, &shown)?;
            let stat = path::stat(made.as_fd()).doing(doing)?;
            self.avoided.push((stat.st_dev, stat.st_ino));
            self.contents(&found, &made, &at, &shown)?;
            self.avoided.pop();
            // After what is in it, which changes its time.
            return land::finish_folder(&made, &attributes, &shown);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                let first_folder = self.folder_of(first)?;
                return land::hard_link(to, called, &first_folder, first.file_name().unwrap_or_default(), &shown);
            }
            self.linked.insert((stat.st_dev, stat.st_ino), at);
        }
        match kind {
            libc::S_IFREG => {
                let source = open_again(&found).doing(doing)?;
                land::file(to, called, &attributes, &shown, |target| self.fill(&source, target, &shown))
            }
            libc::S_IFLNK => {
                let target = nix::fcntl::readlinkat(&found, "").doing(doing)?;
                land::link(to, called, Path::new(&target), &attributes, &shown)
            }
            _ => land::node(to, called, kind, stat.st_rdev, &attributes, &shown),
        }
    }

    fn fill(&mut self, source: &File, target: &mut File, shown: &Path) -> Result<()> {
        loop {
            // In pieces, so that something can be told; each piece is the kernel's to copy.
            let copied = std::io::copy(&mut source.take(16 << 20), target).doing(|| format!("copy {}", shown.display()))?;
            self.count(copied.next_multiple_of(BLOCK));
            if copied == 0 {
                return Ok(());
            }
        }
    }

    fn count(&mut self, bytes: u64) {
        self.size += bytes;
        (self.told)(self.size);
    }

    /// The folder of an earlier copy, found again name by name.
    fn folder_of(&self, at: &Path) -> Result<OwnedFd> {
        let parent = at.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        path::openat2(self.base.as_fd(), parent, libc::O_PATH | libc::O_DIRECTORY, 0, IN_FOLDER).doing(|| format!("link to {}", at.display()))
    }
}

fn attributes(folder: &OwnedFd, name: &OsStr, stat: &libc::stat, keep_owner: bool) -> Attributes {
    Attributes {
        owner: keep_owner.then_some((stat.st_uid, stat.st_gid)),
        mode: stat.st_mode,
        accessed: TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        modified: TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
        xattrs: xattrs(folder, name),
    }
}

/// The attributes that mean the same elsewhere: file capabilities and people's own.
fn xattrs(folder: &OwnedFd, name: &OsStr) -> Vec<(String, Vec<u8>)> {
    let travels = |key: &String| key == "security.capability" || key.starts_with("user.") && !key.starts_with("user.overlay.");
    let keys = xattr::names(folder.as_fd(), Path::new(name)).unwrap_or_default();
    let value = |key: String| xattr::value(folder.as_fd(), Path::new(name), &key).ok().map(|value| (key, value));
    keys.into_iter().filter(travels).filter_map(value).collect()
}

/// The very file that was looked at, for reading.
fn open_again(found: &OwnedFd) -> nix::Result<File> {
    let name = format!("/proc/self/fd/{}", found.as_raw_fd());
    nix::fcntl::open(name.as_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
}
