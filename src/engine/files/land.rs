//! Making files in a folder that somebody else may be changing at the same moment.
//!
//! A name can become a link to anywhere between two calls. So whatever is set on a file is set on the descriptor that made or opened it,
//! and by name only with calls that don't follow links: the worst that a container can do is to spoil a file of its own.
//!
//! Read: openat2(2), fchown(2), futimens(3), unlinkat(2).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, unlinkat};

use super::place::{IN_FOLDER, look};
use crate::error::{Class, Doing, Error, Result};
use crate::image::layers::in_user_namespace;
use crate::sys::{path, xattr};

/// What a file has besides its content.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// User and group; None leaves it to whoever makes it.
    pub owner: Option<(u32, u32)>,
    pub mode: u32,
    pub accessed: TimeSpec,
    pub modified: TimeSpec,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// A folder of this name, open; one that is there stays, with what is in it.
///
/// # Errors
/// Conflict when it is there and no folder; EROFS, ENOSPC.
pub fn folder(parent: &OwnedFd, name: &OsStr, shown: &Path) -> Result<OwnedFd> {
    let doing = || format!("make the folder {}", shown.display());
    if let Some((_, stat)) = look(parent.as_fd(), name)? {
        if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
            let why = format!("cannot overwrite non-directory {:?} with directory", shown.display().to_string());
            return Err(Error::new(Class::Conflict, doing(), why));
        }
    } else {
        path::mkdirat(parent, Path::new(name), 0o700).doing(doing)?;
    }
    path::openat2(parent.as_fd(), Path::new(name), libc::O_RDONLY | libc::O_DIRECTORY, 0, IN_FOLDER).doing(doing)
}

/// Owner, mode, attributes and times of a folder that [`folder`] answered.
///
/// # Errors
/// EPERM, EROFS.
pub fn finish_folder(open: &OwnedFd, attributes: &Attributes, shown: &Path) -> Result<()> {
    finish(open.as_fd(), (open.as_fd(), OsStr::new(".")), attributes, shown)
}

/// A new file, filled by `fill`; when that fails, nothing of it stays.
///
/// # Errors
/// Conflict for a folder in its place, EBUSY for a mount; ENOSPC, EROFS.
pub fn file(parent: &OwnedFd, name: &OsStr, attributes: &Attributes, shown: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    clear_the_way(parent, name, shown)?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let made = path::openat2(parent.as_fd(), Path::new(name), flags, 0o600, IN_FOLDER).doing(|| doing(shown))?;
    let mut file = File::from(made);
    let done = fill(&mut file).and_then(|()| finish(file.as_fd(), (parent.as_fd(), name), attributes, shown));
    done.inspect_err(|_| {
        let _ = unlinkat(parent, name, UnlinkatFlags::NoRemoveDir);
    })
}

/// A symbolic link. What it says is never looked at.
///
/// # Errors
/// As [`file`].
pub fn link(parent: &OwnedFd, name: &OsStr, target: &Path, attributes: &Attributes, shown: &Path) -> Result<()> {
    clear_the_way(parent, name, shown)?;
    path::symlinkat(target, parent, Path::new(name)).doing(|| doing(shown))?;
    if let Some(owner) = attributes.owner {
        chown_name(parent, name, owner, shown)?;
    }
    utimensat(parent, name, &attributes.accessed, &attributes.modified, UtimensatFlags::NoFollowSymlink).doing(|| doing(shown))
}

/// One more name for a file that was made before, `first` in `folder`.
///
/// # Errors
/// As [`file`]; NotFound.
pub fn hard_link(parent: &OwnedFd, name: &OsStr, folder: &OwnedFd, first: &OsStr, shown: &Path) -> Result<()> {
    clear_the_way(parent, name, shown)?;
    nix::unistd::linkat(folder, first, parent, name, nix::fcntl::AtFlags::empty()).doing(|| doing(shown))
}

/// A FIFO or a device. In a user namespace no device can be made: it is left out.
///
/// # Errors
/// As [`file`].
pub fn node(parent: &OwnedFd, name: &OsStr, kind: u32, device: u64, attributes: &Attributes, shown: &Path) -> Result<()> {
    if kind != libc::S_IFIFO && in_user_namespace() {
        return Ok(());
    }
    clear_the_way(parent, name, shown)?;
    path::mknodat(parent, Path::new(name), kind | 0o600, device).doing(|| doing(shown))?;
    if let Some(owner) = attributes.owner {
        chown_name(parent, name, owner, shown)?;
    }
    // Its mode by a descriptor, which can't be opened for more: that would wait for a writer, or wake the device.
    let made = look(parent.as_fd(), name)?.filter(|(_, stat)| stat.st_mode & libc::S_IFMT == kind);
    let (made, _) = made.ok_or_else(|| Error::new(Class::Conflict, doing(shown), "it was replaced while it was made"))?;
    let by_descriptor = format!("/proc/self/fd/{}", made.as_raw_fd());
    std::fs::set_permissions(by_descriptor, std::fs::Permissions::from_mode(attributes.mode & 0o7777)).doing(|| doing(shown))?;
    utimensat(parent, name, &attributes.accessed, &attributes.modified, UtimensatFlags::NoFollowSymlink).doing(|| doing(shown))
}

/// Owner first: a new one takes setuid bits and file capabilities away.
fn finish(open: BorrowedFd, (folder, name): (BorrowedFd, &OsStr), attributes: &Attributes, shown: &Path) -> Result<()> {
    if let Some(owner) = attributes.owner {
        chown(open, owner, shown)?;
    }
    nix::sys::stat::fchmod(open, nix::sys::stat::Mode::from_bits_truncate(attributes.mode & 0o7777)).doing(|| doing(shown))?;
    for (key, value) in &attributes.xattrs {
        match xattr::set(folder, Path::new(name), key, value) {
            // What can't be kept on this file system, or by us, is left out, as Docker does.
            Err(e) if matches!(e.errno(), Errno::ENOTSUP | Errno::EPERM | Errno::EINVAL) => {}
            set => set.doing(|| doing(shown))?,
        }
    }
    futimens(open, &attributes.accessed, &attributes.modified).doing(|| doing(shown))
}

/// Removes a file of this name.
fn clear_the_way(parent: &OwnedFd, name: &OsStr, shown: &Path) -> Result<()> {
    let Some((_, stat)) = look(parent.as_fd(), name)? else { return Ok(()) };
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        let why = format!("cannot overwrite directory {:?} with non-directory", shown.display().to_string());
        return Err(Error::new(Class::Conflict, doing(shown), why));
    }
    // The kernel would let us: a mount in another namespace goes with the name below it, and its container loses it.
    match path::openat2(parent.as_fd(), Path::new(name), libc::O_PATH | libc::O_NOFOLLOW, 0, path::RESOLVE_BENEATH | path::RESOLVE_NO_XDEV) {
        Err(e) if e.errno() == Errno::EXDEV => {
            return Err(Error::new(Class::Conflict, doing(shown), "device or resource busy: a file of the host is mounted there")
                .hint("change that file on the host"));
        }
        _ => {}
    }
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        done => done.doing(|| doing(shown)),
    }
}

/// EINVAL: a user or group that this user namespace doesn't have. The file stays its maker's.
fn chown(file: BorrowedFd, (uid, gid): (u32, u32), shown: &Path) -> Result<()> {
    match nix::unistd::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
        Err(Errno::EINVAL) if in_user_namespace() => Ok(()),
        answer => answer.doing(|| doing(shown)),
    }
}

/// The same for what can't be opened.
fn chown_name(parent: &OwnedFd, name: &OsStr, (uid, gid): (u32, u32), shown: &Path) -> Result<()> {
    match path::chownat(parent, Path::new(name), uid, gid) {
        Err(e) if e.errno() == Errno::EINVAL && in_user_namespace() => Ok(()),
        answer => answer.doing(|| doing(shown)),
    }
}

fn doing(shown: &Path) -> String {
    format!("write {}", shown.display())
}
