//! Paths inside a root that we don't trust. A symlink in an image is its author's, not ours: `/etc -> /` on the host must never be
//! followed out of the root. openat2(2) with RESOLVE_IN_ROOT makes the kernel resolve every component, `..` and link inside it.
//!
//! No path inside a container's root file system is opened by other means.
//!
//! Read: openat2(2), path_resolution(7), symlink(7).

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::call::{SysError, SysResult, call};
use super::mount::{fd_name, owned};
use super::{c_string, flag_names};

pub use libc::{RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV};

const RESOLVE_NAMES: &[(u64, &str)] = &[
    (libc::RESOLVE_IN_ROOT, "RESOLVE_IN_ROOT"),
    (libc::RESOLVE_BENEATH, "RESOLVE_BENEATH"),
    (libc::RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS"),
    (libc::RESOLVE_NO_MAGICLINKS, "RESOLVE_NO_MAGICLINKS"),
    (libc::RESOLVE_NO_XDEV, "RESOLVE_NO_XDEV"),
];

const OPEN_NAMES: &[(u64, &str)] = &[
    (libc::O_PATH as u64, "O_PATH"),
    (libc::O_DIRECTORY as u64, "O_DIRECTORY"),
    (libc::O_NOFOLLOW as u64, "O_NOFOLLOW"),
    (libc::O_CREAT as u64, "O_CREAT"),
    (libc::O_EXCL as u64, "O_EXCL"),
    (libc::O_RDWR as u64, "O_RDWR"),
    (libc::O_WRONLY as u64, "O_WRONLY"),
    (libc::O_CLOEXEC as u64, "O_CLOEXEC"),
];

/// openat2(2). O_CLOEXEC is always set.
///
/// # Errors
/// ENOENT, ENOTDIR, ELOOP (a link where none may be), EXDEV (a way out), EACCES, EAGAIN after renames.
pub fn openat2(dir: BorrowedFd, path: &Path, flags: i32, mode: u32, resolve: u64) -> SysResult<OwnedFd> {
    let path_c = c_string(path)?;
    // SAFETY: zeroed is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = mode as u64;
    how.resolve = resolve;
    // EAGAIN: the kernel saw a rename elsewhere while it resolved `..` and can't vouch for the answer (openat2(2)).
    for _ in 0..128 {
        let answer = call(
            "openat2",
            || {
                format!(
                    "{}, {:?}, {{{}, {}}}",
                    fd_name(dir.as_raw_fd()),
                    path.display().to_string(),
                    flag_names(how.flags, OPEN_NAMES),
                    flag_names(resolve, RESOLVE_NAMES)
                )
            },
            // SAFETY: a valid C string, and a live struct of the size that is told.
            || unsafe { libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path_c.as_ptr(), &how, size_of::<libc::open_how>()) },
        );
        match answer {
            Err(e) if e.errno() == Errno::EAGAIN => continue,
            other => return other.map(owned),
        }
    }
    Err(SysError::new("openat2", path.display().to_string(), Errno::EAGAIN))
}

/// Opens the root directory itself: what the other functions take as `root`.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES.
pub fn open_root(path: &Path) -> SysResult<OwnedFd> {
    let path_c = c_string(path)?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    call(
        "open",
        || format!("{}, O_PATH|O_DIRECTORY|O_CLOEXEC", path.display()),
        // SAFETY: a valid C string.
        || unsafe { libc::open(path_c.as_ptr(), flags) as _ },
    )
    .map(owned)
}

/// Opens `path` inside `root`, links resolved as the container itself would.
///
/// # Errors
/// ENOENT, ENOTDIR, ELOOP, EACCES.
pub fn open_in(root: BorrowedFd, path: &Path, flags: i32) -> SysResult<OwnedFd> {
    openat2(root, &inside(path), flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
}

/// Opens the regular file `path` inside `root` for reading. Anything else is not even opened: opening a FIFO would wait for a writer,
/// and opening a device can do things of its own (rewind a tape).
///
/// # Errors
/// As [`open_in`]; EINVAL when it is no regular file.
pub fn open_file_in(root: BorrowedFd, path: &Path) -> SysResult<OwnedFd> {
    open_regular(root, path, libc::O_PATH)?;
    // Should something else have taken its name since: O_NONBLOCK doesn't wait, O_NOCTTY takes no terminal.
    open_regular(root, path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)
}

fn open_regular(root: BorrowedFd, path: &Path, flags: i32) -> SysResult<OwnedFd> {
    let found = open_in(root, path, flags)?;
    match stat(as_borrowed(&found))?.st_mode & libc::S_IFMT {
        libc::S_IFREG => Ok(found),
        _ => Err(SysError::new("openat2", path.display().to_string(), Errno::EINVAL)),
    }
}

/// Opens the directory `path` inside `root` (O_PATH), and makes it and its parents with `mode` where they are missing.
///
/// # Errors
/// ENOTDIR, EROFS, EACCES, ENOSPC.
pub fn make_dirs_in(root: BorrowedFd, path: &Path, mode: u32) -> SysResult<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match open_in(root, path, flags) {
        Err(e) if e.errno() == Errno::ENOENT => {}
        done => return done,
    }
    let mut so_far = PathBuf::from(".");
    let mut here = open_in(root, &so_far, flags)?;
    for component in path.components() {
        let Component::Normal(name) = component else {
            if component == Component::ParentDir {
                so_far.push("..");
                here = open_in(root, &so_far, flags)?;
            }
            continue;
        };
        so_far.push(name);
        here = match open_in(root, &so_far, flags) {
            // A link into nowhere: mkdir would answer EEXIST for its name, so its target is made.
            Err(e) if e.errno() == Errno::ENOENT => match mkdirat(&here, name.as_ref(), mode) {
                Err(e) if e.errno() == Errno::EEXIST && is_link(&here, name.as_ref()) => make_link_target(root, &here, &so_far, mode)?,
                Err(e) if e.errno() != Errno::EEXIST => return Err(e),
                _ => open_in(root, &so_far, flags)?,
            },
            done => done?,
        };
    }
    Ok(here)
}

fn is_link(dir: &OwnedFd, name: &Path) -> bool {
    nix::fcntl::readlinkat(dir, name).is_ok()
}

fn make_link_target(root: BorrowedFd, dir: &OwnedFd, link: &Path, mode: u32) -> SysResult<OwnedFd> {
    let name = link.file_name().map(PathBuf::from).unwrap_or_default();
    let target = nix::fcntl::readlinkat(dir, &name).map_err(|e| SysError::new("readlinkat", link.display().to_string(), e))?;
    let target = PathBuf::from(target);
    let full = if target.is_absolute() { target } else { link.parent().unwrap_or(Path::new("/")).join(target) };
    if full == link || full.components().count() > 64 {
        return Err(SysError::new("mkdirat", link.display().to_string(), Errno::ELOOP));
    }
    make_dirs_in(root, &full, mode)
}

/// Opens the file `path` inside `root` (O_PATH), and makes an empty one, with its parents, where it is missing.
///
/// # Errors
/// EISDIR is not among them: a directory in that place is opened as it is. ENOTDIR, EROFS, EACCES, ENOSPC.
pub fn make_file_in(root: BorrowedFd, path: &Path, mode: u32) -> SysResult<OwnedFd> {
    match open_in(root, path, libc::O_PATH) {
        Err(e) if e.errno() == Errno::ENOENT => {}
        done => return done,
    }
    let parent = make_dirs_in(root, path.parent().unwrap_or(Path::new("/")), 0o755)?;
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    // O_EXCL does not follow a last link, so a dangling one gives EEXIST and not a file somewhere else.
    match openat2(as_borrowed(&parent), &name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, mode, RESOLVE_BENEATH) {
        Err(e) if e.errno() != Errno::EEXIST => return Err(e),
        _ => {}
    }
    openat2(as_borrowed(&parent), &name, libc::O_PATH | libc::O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
}

/// mkdirat(2).
///
/// # Errors
/// EEXIST, ENOENT, EROFS, ENOSPC.
pub fn mkdirat(dir: &OwnedFd, name: &Path, mode: u32) -> SysResult<()> {
    let name_c = c_string(name)?;
    call(
        "mkdirat",
        || format!("{}, {:?}, {mode:04o}", fd_name(dir.as_raw_fd()), name.display().to_string()),
        // SAFETY: a valid C string.
        || unsafe { libc::mkdirat(dir.as_raw_fd(), name_c.as_ptr(), mode) as _ },
    )?;
    Ok(())
}

/// mknodat(2): a device node, FIFO or file. The umask is taken off `mode`.
///
/// # Errors
/// EEXIST, EPERM (in a user namespace no device can be made).
pub fn mknodat(dir: &OwnedFd, name: &Path, mode: u32, device: u64) -> SysResult<()> {
    let name_c = c_string(name)?;
    call(
        "mknodat",
        || {
            format!(
                "{}, {:?}, {mode:#o}, makedev({}, {})",
                fd_name(dir.as_raw_fd()),
                name.display().to_string(),
                libc::major(device),
                libc::minor(device)
            )
        },
        // SAFETY: a valid C string.
        || unsafe { libc::mknodat(dir.as_raw_fd(), name_c.as_ptr(), mode, device) as _ },
    )?;
    Ok(())
}

/// symlinkat(2).
///
/// # Errors
/// EEXIST, EROFS, ENOSPC.
pub fn symlinkat(target: &Path, dir: &OwnedFd, name: &Path) -> SysResult<()> {
    let (target_c, name_c) = (c_string(target)?, c_string(name)?);
    call(
        "symlinkat",
        || format!("{:?}, {}, {:?}", target.display().to_string(), fd_name(dir.as_raw_fd()), name.display().to_string()),
        // SAFETY: two valid C strings.
        || unsafe { libc::symlinkat(target_c.as_ptr(), dir.as_raw_fd(), name_c.as_ptr()) as _ },
    )?;
    Ok(())
}

/// fchownat(2) on a name, never through a link.
///
/// # Errors
/// EPERM, EINVAL for an id that this user namespace doesn't map.
pub fn chownat(dir: &OwnedFd, name: &Path, uid: u32, gid: u32) -> SysResult<()> {
    let name_c = c_string(name)?;
    call(
        "fchownat",
        || format!("{}, {:?}, {uid}, {gid}, AT_SYMLINK_NOFOLLOW", fd_name(dir.as_raw_fd()), name.display().to_string()),
        // SAFETY: a valid C string.
        || unsafe { libc::fchownat(dir.as_raw_fd(), name_c.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW) as _ },
    )?;
    Ok(())
}

/// fstat(2).
///
/// # Errors
/// EBADF, EIO.
pub fn stat(fd: BorrowedFd) -> SysResult<libc::stat> {
    // SAFETY: zeroed is a valid stat.
    let mut answer: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a live struct.
    call("fstat", || fd_name(fd.as_raw_fd()), || unsafe { libc::fstat(fd.as_raw_fd(), &mut answer) as _ })?;
    Ok(answer)
}

fn as_borrowed(fd: &OwnedFd) -> BorrowedFd<'_> {
    use std::os::fd::AsFd;
    fd.as_fd()
}

/// RESOLVE_IN_ROOT takes `/etc` and `etc` alike; an empty path means the root.
fn inside(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_path_buf() }
}

/// The C string of a path below `/proc/self/fd`, for calls that take no descriptor.
pub fn magic(fd: BorrowedFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// getcwd(2) itself: the C library hides that a directory is outside the root; the kernel says `(unreachable)/…`.
///
/// # Errors
/// ENOENT when it was removed.
pub fn working_directory() -> SysResult<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: pointer and length of one live buffer.
    let length = call("getcwd", String::new, || unsafe { libc::syscall(libc::SYS_getcwd, bytes.as_mut_ptr(), bytes.len()) })?;
    bytes.truncate((length as usize).saturating_sub(1));
    Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}
