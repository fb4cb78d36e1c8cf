//! Layers laid on top of each other by copying: what stands in for overlay where overlay can't write.
//!
//! Slow and big next to a mount, but right: deletions, opaque folders, owners, modes, times, attributes and hard links are what overlay
//! would show. A file system with reflinks (btrfs, XFS) shares the data of the copy: copy_file_range(2).
//!
//! Read: the kernel's filesystems/overlayfs.rst, copy_file_range(2).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;

use super::layers::{in_user_namespace, is_whiteout, lstat, opaque_attribute, remove};
use crate::error::{Doing, Error, Result};
use crate::sys::{path, xattr};

/// Copies the layers (the lowest first) into `target`, an empty directory.
///
/// # Errors
/// ENOSPC, EACCES.
pub fn merge(layers: &[&Path], target: &Path) -> Result<()> {
    let open = |dir: &Path| path::open_root(dir).doing(|| format!("open {}", dir.display()));
    let to = open(target)?;
    for layer in layers {
        // Links between files hold within a layer only.
        let mut copying = Copying {
            opaque: opaque_attribute(in_user_namespace()),
            linked: HashMap::new(),
            root: to.try_clone().doing(|| "duplicate a descriptor".into())?,
        };
        let from = open(layer)?;
        let stat = path::stat(from.as_fd()).doing(|| format!("look at {}", layer.display()))?;
        copying.folder(&from, &to, Path::new(""))?;
        copying.attributes(&from, &to, Path::new("."), Path::new("/"), &stat)?;
    }
    Ok(())
}

struct Copying {
    opaque: &'static str,
    /// Inodes with more than one name, and the first of them in the copy.
    linked: HashMap<(u64, u64), PathBuf>,
    root: OwnedFd,
}

impl Copying {
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<()> {
        let doing = || format!("copy the folder /{}", path.display());
        let mut entries = Dir::openat(from, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).doing(doing)?;
        for entry in entries.iter() {
            let entry = entry.doing(doing)?;
            let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
            if name != Path::new(".") && name != Path::new("..") {
                self.entry(from, to, name, &path.join(name))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &Path, path: &Path) -> Result<()> {
        let doing = || format!("copy /{}", path.display());
        let stat = lstat(from, name).ok_or_else(|| Error::new(crate::error::Class::System, doing(), "it is gone"))?;
        let kind = stat.st_mode & libc::S_IFMT;
        if kind == libc::S_IFDIR {
            return self.subfolder(from, to, name, path, &stat);
        }
        remove(to, name).doing(doing)?;
        if is_whiteout(&stat) {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                return nix::unistd::linkat(&self.root, first, to, name, nix::fcntl::AtFlags::empty()).doing(doing);
            }
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_path_buf());
        }
        match kind {
            libc::S_IFREG => {
                let resolve = path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS;
                let source = path::openat2(from.as_fd(), name, libc::O_RDONLY, 0, resolve).doing(doing)?;
                let target = path::openat2(to.as_fd(), name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600, resolve).doing(doing)?;
                std::io::copy(&mut File::from(source), &mut File::from(target)).doing(doing)?;
            }
            libc::S_IFLNK => {
                let target = nix::fcntl::readlinkat(from, name).doing(doing)?;
                path::symlinkat(Path::new(&target), to, name).doing(doing)?;
            }
            // Sockets are nobody's any more.
            libc::S_IFSOCK => return Ok(()),
            _ => path::mknodat(to, name, kind | 0o600, stat.st_rdev).doing(doing)?,
        }
        self.attributes(from, to, name, path, &stat)
    }

    fn subfolder(&mut self, from: &OwnedFd, to: &OwnedFd, name: &Path, path: &Path, stat: &libc::stat) -> Result<()> {
        let doing = || format!("copy the folder /{}", path.display());
        let is_opaque = xattr::value(from.as_fd(), name, self.opaque).is_ok_and(|value| value == b"y");
        let there = lstat(to, name).is_some_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
        if is_opaque || !there {
            remove(to, name).doing(doing)?;
            path::mkdirat(to, name, 0o700).doing(doing)?;
        }
        let resolve = path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS;
        let open = |dir: &OwnedFd| path::openat2(dir.as_fd(), name, libc::O_PATH | libc::O_DIRECTORY, 0, resolve).doing(doing);
        self.folder(&open(from)?, &open(to)?, path)?;
        // After what is in it, which changes its time.
        self.attributes(from, to, name, path, stat)
    }

    fn attributes(&self, from: &OwnedFd, to: &OwnedFd, name: &Path, path: &Path, stat: &libc::stat) -> Result<()> {
        let doing = || format!("copy the attributes of /{}", path.display());
        path::chownat(to, name, stat.st_uid, stat.st_gid).doing(doing)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFLNK {
            fchmodat(to, name, Mode::from_bits_truncate(stat.st_mode & 0o7777), FchmodatFlags::FollowSymlink).doing(doing)?;
        }
        for key in xattr::names(from.as_fd(), name).unwrap_or_default() {
            if key.starts_with("trusted.overlay.") || key.starts_with("user.overlay.") {
                continue;
            }
            let value = xattr::value(from.as_fd(), name, &key).doing(doing)?;
            match xattr::set(to.as_fd(), name, &key, &value) {
                Err(e) if matches!(e.errno(), Errno::ENOTSUP | Errno::EPERM) => {}
                set => set.doing(doing)?,
            }
        }
        let times = [TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)];
        utimensat(to, name, &times[0], &times[1], UtimensatFlags::NoFollowSymlink).doing(doing)
    }
}
