//! Being told of a change instead of asking again and again: inotify(7) for files, eventfd(2) for the kernel's own bells.
//!
//! See it: `/proc/P/fdinfo/N` shows `inotify wd:…` or `eventfd-count:…`. Read: inotify(7), eventfd(2), poll(2).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::c_string;
use super::call::{SysError, SysResult, call};
use super::mount::owned;

/// An inotify descriptor that becomes readable when the file at `path` is modified or goes away.
///
/// # Errors
/// ENOENT, EMFILE (see /proc/sys/fs/inotify/max_user_instances), ENOSPC (max_user_watches).
pub fn modified(path: &Path) -> SysResult<OwnedFd> {
    inotify(path, libc::IN_MODIFY | libc::IN_DELETE_SELF, "IN_MODIFY|IN_DELETE_SELF")
}

/// One that becomes readable when the file at `path` goes away, or another takes its place.
///
/// # Errors
/// As [`modified`].
pub fn removed(path: &Path) -> SysResult<OwnedFd> {
    // A file goes when its last name does: that is a change of its attributes (the number of names) first.
    inotify(path, libc::IN_ATTRIB | libc::IN_DELETE_SELF, "IN_ATTRIB|IN_DELETE_SELF")
}

fn inotify(path: &Path, mask: u32, mask_name: &str) -> SysResult<OwnedFd> {
    let path_c = c_string(path)?;
    // SAFETY: integers only.
    let raw = || unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) as _ };
    let fd = owned(call("inotify_init1", || "IN_CLOEXEC|IN_NONBLOCK".into(), raw)?);
    call(
        "inotify_add_watch",
        || format!("{}, {mask_name}", path.display()),
        // SAFETY: a valid C string.
        || unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path_c.as_ptr(), mask) as _ },
    )?;
    Ok(fd)
}

/// An inotify descriptor that becomes readable when something in one of these folders is written, made, renamed or removed, or when one
/// of these files goes. What is not there is not watched.
///
/// # Errors
/// EMFILE (see /proc/sys/fs/inotify/max_user_instances), ENOSPC (max_user_watches).
pub fn changed(paths: &[&Path]) -> SysResult<OwnedFd> {
    // SAFETY: integers only.
    let raw = || unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) as _ };
    let fd = owned(call("inotify_init1", || "IN_CLOEXEC|IN_NONBLOCK".into(), raw)?);
    let mask = libc::IN_MODIFY | libc::IN_CREATE | libc::IN_MOVE | libc::IN_DELETE | libc::IN_DELETE_SELF;
    for path in paths {
        let path_c = c_string(path)?;
        let watched = call(
            "inotify_add_watch",
            || format!("{}, IN_MODIFY|IN_CREATE|IN_MOVE|IN_DELETE|IN_DELETE_SELF", path.display()),
            // SAFETY: a valid C string.
            || unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path_c.as_ptr(), mask) as _ },
        );
        match watched {
            Err(e) if e.errno() != Errno::ENOENT => return Err(e),
            _ => {}
        }
    }
    Ok(fd)
}

/// A counter that the kernel or a process adds to, and poll(2) waits for.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn eventfd() -> SysResult<OwnedFd> {
    // SAFETY: integers only.
    let raw = || unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) as _ };
    Ok(owned(call("eventfd2", || "0, EFD_CLOEXEC|EFD_NONBLOCK".into(), raw)?))
}

/// Waits until `fd` has something to read or to say (POLLIN, POLLPRI, an error); false when `milliseconds` went by first.
/// None waits for ever.
///
/// # Errors
/// EINVAL.
pub fn wait_readable(fd: BorrowedFd, milliseconds: Option<u16>) -> SysResult<bool> {
    loop {
        let timeout = milliseconds.map_or(PollTimeout::NONE, PollTimeout::from);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN | PollFlags::POLLPRI)], timeout) {
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(SysError::new("poll", format!("fd {}", fd.as_raw_fd()), e)),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}

/// Reads away what made a descriptor of this room readable.
pub fn drain(fd: BorrowedFd) {
    let mut buffer = [0u8; 4096];
    while nix::unistd::read(fd, &mut buffer).is_ok_and(|n| n == buffer.len()) {}
}
