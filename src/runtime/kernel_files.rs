//! Writing into `/proc` on behalf of a container, without trusting the container's `/proc`.
//!
//! The host's `/proc` is opened before the root changes and kept: it speaks for whoever opens its files, so a process that has entered
//! new namespaces sets *their* values through it. Links and mounts on the way are refused: in a `/proc` where somebody put another
//! file in the way, a write would seem to succeed and leave the program unconfined.
//!
//! Read: openat2(2) on RESOLVE_NO_XDEV, proc(5); CVE-2019-16884, CVE-2025-52881.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Doing, Error, Result};
use crate::sys::mount::{self, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID};
use crate::sys::{SysResult, fs, path};

/// An open `/proc` that belongs to nobody else.
pub struct KernelFiles(OwnedFd);

impl KernelFiles {
    /// To be called while we still see the host's files.
    ///
    /// # Errors
    /// Invalid when `/proc` is not the kernel's.
    pub fn open() -> Result<KernelFiles> {
        let proc = path::open_root("/proc".as_ref()).doing(|| "open /proc".into())?;
        match mount::filesystem_magic(proc.as_fd()).doing(|| "look at /proc".into())? {
            libc::PROC_SUPER_MAGIC => Ok(KernelFiles(proc)),
            _ => Err(Error::invalid("open /proc", "it is not the kernel's")),
        }
    }

    /// Writes into an existing file below `/proc`.
    ///
    /// # Errors
    /// ENOENT, EACCES, ELOOP, EXDEV (something is mounted over it), and what the file says to the value.
    pub fn write(&self, name: &str, text: &str) -> SysResult<()> {
        match write_below(&self.0, name, text) {
            // We run inside of a container ourselves, whose /proc has parts bound read-only: a fresh one has not, where we may mount it.
            Err(e) if matches!(e.errno(), Errno::EXDEV | Errno::EROFS) => {
                let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
                let fresh = mount::new_filesystem("proc", Some("proc"), &[], attributes).map_err(|_| e)?;
                write_below(&fresh, name, text)
            }
            done => done,
        }
    }
}

fn write_below(proc: &OwnedFd, name: &str, text: &str) -> SysResult<()> {
    // `self` is a link, and the only one that is allowed.
    let (dir, rest) = match name.strip_prefix("self/") {
        Some(rest) => (Some(path::openat2(proc.as_fd(), "self".as_ref(), libc::O_PATH | libc::O_DIRECTORY, 0, path::RESOLVE_NO_XDEV)?), rest),
        None => (None, name),
    };
    let base = dir.as_ref().unwrap_or(proc);
    let resolve = path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS | path::RESOLVE_NO_XDEV;
    let file = path::openat2(base.as_fd(), rest.as_ref(), libc::O_WRONLY, 0, resolve)?;
    fs::write_to(&file, &Path::new("/proc").join(name), text)
}
