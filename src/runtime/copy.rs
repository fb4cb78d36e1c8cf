//! Copies a tree of files between two open folders: what `tmpcopyup` does, so that a tmpfs starts with what it covers.
//!
//! Names are only ever opened relative to an open folder and never through a link, so a link in the source is copied as a link.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, mknodat, utimensat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::error::{Doing, Result};

/// Copies what is in `from` into `to`: files, folders, links, nodes, with modes, owners and times.
///
/// # Errors
/// ENOSPC, EACCES, EPERM, with the name.
pub fn tree(from: BorrowedFd, to: BorrowedFd) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let listing = openat(from, ".", flags, Mode::empty()).doing(|| "read the folder that it covers".into())?;
    let mut dir = Dir::from_fd(listing).doing(|| "read the folder that it covers".into())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.doing(|| "read the folder that it covers".into())?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        entry(from, to, name)?;
    }
    Ok(())
}

fn entry(from: BorrowedFd, to: BorrowedFd, name: &Path) -> Result<()> {
    let doing = || format!("copy {}", name.display());
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).doing(doing)?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
        SFlag::S_IFDIR => {
            nix::sys::stat::mkdirat(to, name, Mode::S_IRWXU).doing(doing)?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let inside: OwnedFd = openat(from, name, flags, Mode::empty()).doing(doing)?;
            let outside: OwnedFd = openat(to, name, flags, Mode::empty()).doing(doing)?;
            tree(inside.as_fd(), outside.as_fd())?;
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name).doing(doing)?;
            symlinkat(target.as_os_str(), to, name).doing(doing)?;
        }
        SFlag::S_IFREG => {
            let source = openat(from, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).doing(doing)?;
            let target =
                openat(to, name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC, Mode::S_IRUSR | Mode::S_IWUSR).doing(doing)?;
            std::io::copy(&mut File::from(source), &mut File::from(target)).doing(doing)?;
        }
        kind => mknodat(to, name, kind, mode, stat.st_rdev).doing(doing)?,
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).doing(doing)?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFLNK {
        // After the owner: a change of owner takes setuid off.
        fchmodat(to, name, mode, FchmodatFlags::FollowSymlink).doing(doing)?;
    }
    let times = (nix::sys::time::TimeSpec::new(stat.st_atime, stat.st_atime_nsec), nix::sys::time::TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec));
    utimensat(to, name, &times.0, &times.1, nix::sys::stat::UtimensatFlags::NoFollowSymlink).doing(doing)
}
