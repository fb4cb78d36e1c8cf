//! The kernel's files as a way to speak to it: `/proc/P/uid_map`, `/sys/fs/cgroup/…/memory.max`. A write there is as good as a
//! system call, and goes through the same door.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;

use super::call::{SysResult, call};

/// Writes `text` into the existing file at `path` in one write(2), as the kernel's files want it.
///
/// # Errors
/// ENOENT, EACCES, and what the file says to the value: EINVAL, EBUSY, ERANGE …
pub fn write(path: &Path, text: &str) -> SysResult<()> {
    call(
        "write",
        || describe(path, text),
        || {
            // O_TRUNC and O_CREAT would do harm where a path is not what we think.
            answer(
                OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW).open(path).and_then(|file| write_once(&file, text)),
            )
        },
    )?;
    Ok(())
}

/// The same, for a file that is open already.
///
/// # Errors
/// What the file says to the value.
pub fn write_to(file: &OwnedFd, name: &Path, text: &str) -> SysResult<()> {
    call(
        "write",
        || describe(name, text),
        || {
            // SAFETY: pointer and length of one live string.
            unsafe { libc::write(file.as_raw_fd(), text.as_ptr().cast(), text.len()) as _ }
        },
    )?;
    Ok(())
}

/// Reads a small file whole.
///
/// # Errors
/// ENOENT, EACCES, ENODEV (a cgroup that is going away).
pub fn read(path: &Path) -> SysResult<String> {
    let mut text = String::new();
    call("read", || path.display().to_string(), || answer(File::open(path).and_then(|mut file| file.read_to_string(&mut text))))?;
    Ok(text)
}

/// mkdir(2).
///
/// # Errors
/// EEXIST, ENOENT, EACCES, ENOSPC.
pub fn mkdir(path: &Path, mode: u32) -> SysResult<()> {
    let path_c = super::c_string(path)?;
    // SAFETY: a valid C string.
    call("mkdir", || format!("{}, {mode:04o}", path.display()), || unsafe { libc::mkdir(path_c.as_ptr(), mode) as _ })?;
    Ok(())
}

/// rmdir(2).
///
/// # Errors
/// ENOENT, ENOTEMPTY, EBUSY (a cgroup with processes in it).
pub fn rmdir(path: &Path) -> SysResult<()> {
    let path_c = super::c_string(path)?;
    // SAFETY: a valid C string.
    call("rmdir", || path.display().to_string(), || unsafe { libc::rmdir(path_c.as_ptr()) as _ })?;
    Ok(())
}

/// mkfifo(3).
///
/// # Errors
/// EEXIST, ENOSPC.
pub fn mkfifo(path: &Path, mode: u32) -> SysResult<()> {
    let path_c = super::c_string(path)?;
    // SAFETY: a valid C string.
    call("mknod", || format!("{}, S_IFIFO|{mode:04o}", path.display()), || unsafe { libc::mkfifo(path_c.as_ptr(), mode) as _ })?;
    Ok(())
}

/// chdir(2).
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES.
pub fn chdir(path: &Path) -> SysResult<()> {
    let path_c = super::c_string(path)?;
    // SAFETY: a valid C string.
    call("chdir", || path.display().to_string(), || unsafe { libc::chdir(path_c.as_ptr()) as _ })?;
    Ok(())
}

/// fchdir(2).
///
/// # Errors
/// ENOTDIR, EACCES.
pub fn fchdir(dir: BorrowedFd) -> SysResult<()> {
    // SAFETY: integers only.
    call("fchdir", || super::mount::fd_name(dir.as_raw_fd()), || unsafe { libc::fchdir(dir.as_raw_fd()) as _ })?;
    Ok(())
}

fn describe(path: &Path, text: &str) -> String {
    format!("{}, {:?}", path.display(), text.trim_end())
}

fn write_once(mut file: &File, text: &str) -> std::io::Result<usize> {
    file.write(text.as_bytes())
}

/// The standard library's answer in the C library's form: −1 and errno.
fn answer(result: std::io::Result<usize>) -> libc::c_long {
    match result {
        Ok(count) => count as libc::c_long,
        Err(e) => {
            Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)).set();
            -1
        }
    }
}
