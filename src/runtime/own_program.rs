//! This program runs inside of containers for a moment, as their first process, before it becomes theirs. In that moment
//! `/proc/self/exe` is *our file on the host*: an image whose program is `#!/proc/self/exe` makes us run as its program, and once we
//! have ended it could open that same file for writing and replace it (CVE-2019-5736).
//!
//! So before anything else we start ourselves anew from a mount of our own file that is read-only, attached nowhere, and dissolved
//! as soon as the new self runs: there is no path to it, and nobody can make it writable again. It costs one execveat(2), half a
//! millisecond. Who may not mount runs from a sealed copy in memory instead.
//!
//! See it: `ls -l /proc/P/exe` while a container is being made. Read: open_tree(2), mount_setattr(2), memfd_create(2), fcntl(2) F_ADD_SEALS.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use crate::error::{Class, Doing, Error, Result};
use crate::sys::mount::{self, Attributes, MOUNT_ATTR_RDONLY};
use crate::sys::{Reason, because, fd, process};

static PROTECT: Reason = Reason {
    id: "own_program.protect",
    en: "this program starts anew from a read-only copy of its own file: it will be inside the container for a moment, and nobody there may change it",
    ko: "이 프로그램은 자기 파일의 읽기 전용 사본에서 다시 시작한다: 잠시 컨테이너 안에 있게 되므로 안에서 고칠 수 없어야 한다",
    see: "ls -l /proc/{P}/exe",
};

const OURSELVES: &str = "/proc/self/exe";

/// Makes sure that this process' program can't be written to through `/proc`. Either returns at once, or starts this process anew with
/// the same arguments: so it is called first of all.
///
/// # Errors
/// ENOMEM, EMFILE.
pub fn protect() -> Result<()> {
    let doing = || "start from a read-only copy of this program".to_string();
    if is_protected().doing(doing)? {
        process::set_name(c"onggi");
        return Ok(());
    }
    because(&PROTECT);
    let copy = read_only().doing(doing)?;
    restart(&copy)
}

/// The same as early as can be, before the arguments are parsed (which would be done twice), when one of them is a command that
/// needs it. What goes wrong here goes wrong again in [`protect`], where it is told.
pub fn protect_for(commands: &[&str]) {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    // With --explain both selves are to be heard.
    let explained = words.iter().any(|word| word.to_string_lossy().starts_with("--explain"));
    if !explained && nix::unistd::geteuid().is_root() && words.iter().any(|word| commands.iter().any(|command| word == command)) {
        let _ = protect();
    }
}

/// Starts this process anew from `program`, with the same arguments and environment. Returns only when it can't.
///
/// # Errors
/// What execveat(2) says.
pub fn restart(program: &OwnedFd) -> Result<()> {
    let c_string = |text: std::ffi::OsString| CString::new(text.into_vec()).unwrap_or_default();
    let argv: Vec<CString> = std::env::args_os().map(c_string).collect();
    let envp: Vec<CString> = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            c_string(name)
        })
        .collect();
    let fact = process::execveat(program.as_fd(), &argv, &envp);
    Err(Error::sys("start from a read-only copy of this program", fact).class(Class::System))
}

fn is_protected() -> crate::sys::SysResult<bool> {
    if mount::is_read_only(OURSELVES.as_ref())? {
        return Ok(true);
    }
    // A sealed file in memory has no other name than this.
    Ok(std::fs::read_link(OURSELVES).is_ok_and(|name| name.to_string_lossy().starts_with("/memfd:onggi")))
}

/// Our own file, in a way that nobody can write to: a detached, read-only mount, or a copy in memory.
///
/// # Errors
/// ENOMEM, EMFILE.
pub fn read_only() -> crate::sys::SysResult<OwnedFd> {
    read_only_mount().or_else(|_| sealed_copy())
}

fn read_only_mount() -> crate::sys::SysResult<OwnedFd> {
    // The link leads to the mount of the namespace that we began in. From a new namespace that one can't be cloned (EINVAL), and the
    // same file is reached by its name.
    let tree = mount::clone_tree(None, OURSELVES.as_ref(), false).or_else(|refused| by_name().ok_or(refused))?;
    mount::mount_setattr(tree.as_fd(), Attributes { set: MOUNT_ATTR_RDONLY, ..Attributes::default() }, false, None)?;
    Ok(tree)
}

/// A clone of the mount at our file's name, if that is still our file.
fn by_name() -> Option<OwnedFd> {
    let tree = mount::clone_tree(None, &std::fs::read_link(OURSELVES).ok()?, false).ok()?;
    let there = nix::sys::stat::fstat(&tree).ok()?;
    let ours = nix::sys::stat::stat(OURSELVES).ok()?;
    ((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)).then_some(tree)
}

fn sealed_copy() -> crate::sys::SysResult<OwnedFd> {
    let bytes = std::fs::read(OURSELVES)
        .map_err(|e| crate::sys::SysError::new("read", OURSELVES, nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))))?;
    fd::sealed_file("onggi", &bytes)
}
