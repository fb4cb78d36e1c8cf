//! Mounting: the old call mount(2), and the file-descriptor calls that replaced it (Linux 5.2, and mount_setattr in 5.12).
//!
//! With the new calls a mount is made *detached*: it exists, has all its attributes, and is nowhere to be seen until
//! move_mount(2) puts it in its place. So there is no moment at which a mount stands there writable that should be read-only,
//! and the place is a descriptor, which no symlink can bend.
//!
//! See it: `/proc/P/mountinfo`. Read: mount(2), fsopen(2), open_tree(2), mount_setattr(2), pivot_root(2), proc_pid_mountinfo(5).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::call::{SysResult, call};
use super::{c_string, flag_names};

pub use libc::{
    MNT_DETACH, MOUNT_ATTR__ATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME, MS_BIND, MS_MOVE, MS_PRIVATE, MS_REC,
    MS_SHARED, MS_SLAVE, MS_UNBINDABLE,
};

const MS_NAMES: &[(u64, &str)] = &[
    (libc::MS_REC, "MS_REC"),
    (libc::MS_BIND, "MS_BIND"),
    (libc::MS_MOVE, "MS_MOVE"),
    (libc::MS_REMOUNT, "MS_REMOUNT"),
    (libc::MS_RDONLY, "MS_RDONLY"),
    (libc::MS_NOSUID, "MS_NOSUID"),
    (libc::MS_NODEV, "MS_NODEV"),
    (libc::MS_NOEXEC, "MS_NOEXEC"),
    (libc::MS_PRIVATE, "MS_PRIVATE"),
    (libc::MS_SLAVE, "MS_SLAVE"),
    (libc::MS_SHARED, "MS_SHARED"),
    (libc::MS_UNBINDABLE, "MS_UNBINDABLE"),
];

const ATTR_NAMES: &[(u64, &str)] = &[
    (MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"),
    (MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"),
    (MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"),
    (MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"),
    (MOUNT_ATTR__ATIME, "MOUNT_ATTR__ATIME"),
    (MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"),
    (MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"),
    (MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"),
    (MOUNT_ATTR_IDMAP, "MOUNT_ATTR_IDMAP"),
    (MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"),
];

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_SET_FD: u32 = 5;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSMOUNT_CLOEXEC: u32 = 1;

/// mount(2), the old call. `None` is printed as the man page's NULL.
///
/// # Errors
/// See mount(2): EPERM without CAP_SYS_ADMIN over the mount namespace, ENOENT, EINVAL, EBUSY …
pub fn mount(source: Option<&str>, target: &Path, fstype: Option<&str>, flags: u64, data: Option<&str>) -> SysResult<()> {
    let optional = |text: Option<&str>| text.map(c_string).transpose();
    let (source_c, target_c, fstype_c, data_c) = (optional(source)?, c_string(target)?, optional(fstype)?, optional(data)?);
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
    let null = |text: Option<&str>| text.unwrap_or("NULL").to_string();
    call(
        "mount",
        || format!("{}, {}, {}, {}, {}", null(source), target.display(), null(fstype), flag_names(flags, MS_NAMES), null(data)),
        // SAFETY: the pointers are NULL where mount(2) allows it, or come from CStrings that live until the call returns.
        || unsafe { libc::mount(pointer(&source_c), target_c.as_ptr(), pointer(&fstype_c), flags, pointer(&data_c).cast()) as _ },
    )?;
    Ok(())
}

/// umount2(2). With [`MNT_DETACH`] the mount leaves the tree at once and goes when its last user does.
///
/// # Errors
/// EINVAL when `target` is no mount point, EBUSY without MNT_DETACH, EPERM.
pub fn umount2(target: &Path, flags: i32) -> SysResult<()> {
    let target_c = c_string(target)?;
    let names = [(MNT_DETACH as u64, "MNT_DETACH"), (libc::UMOUNT_NOFOLLOW as u64, "UMOUNT_NOFOLLOW")];
    call(
        "umount2",
        || format!("{}, {}", target.display(), flag_names(flags as u64, &names)),
        // SAFETY: a valid C string.
        || unsafe { libc::umount2(target_c.as_ptr(), flags) as _ },
    )?;
    Ok(())
}

/// pivot_root(2): the mount at `new_root` becomes `/`, and the old `/` is put at `put_old`.
///
/// # Errors
/// EINVAL when new_root is no mount point, is on the same mount as put_old's parent or has a shared parent; on an initramfs, whose
/// root can't be moved; EPERM.
pub fn pivot_root(new_root: &Path, put_old: &Path) -> SysResult<()> {
    let (new_c, old_c) = (c_string(new_root)?, c_string(put_old)?);
    call(
        "pivot_root",
        || format!("{}, {}", new_root.display(), put_old.display()),
        // SAFETY: two valid C strings.
        || unsafe { libc::syscall(libc::SYS_pivot_root, new_c.as_ptr(), old_c.as_ptr()) },
    )?;
    Ok(())
}

/// chroot(2): from here on `/` is `path` for this process. It moves no mount: see chapter 01 for the way out.
///
/// # Errors
/// EPERM without CAP_SYS_CHROOT, ENOENT, ENOTDIR.
pub fn chroot(path: &Path) -> SysResult<()> {
    let path_c = c_string(path)?;
    // SAFETY: a valid C string.
    call("chroot", || path.display().to_string(), || unsafe { libc::chroot(path_c.as_ptr()) as _ })?;
    Ok(())
}

/// open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount at `path` (with those below it when `recursive`); what
/// `mount --bind` does, before it has a place. An empty `path` means `dir` itself.
///
/// # Errors
/// ENOENT, EPERM, EINVAL (an unbindable mount).
pub fn clone_tree(dir: Option<BorrowedFd>, path: &Path, recursive: bool) -> SysResult<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE as u64 | libc::O_CLOEXEC as u64 | libc::AT_EMPTY_PATH as u64;
    if recursive {
        flags |= libc::AT_RECURSIVE as u64;
    }
    open_tree(dir, path, flags)
}

fn open_tree(dir: Option<BorrowedFd>, path: &Path, flags: u64) -> SysResult<OwnedFd> {
    let path_c = c_string(path)?;
    let at = at_fd(dir);
    let names = [
        (libc::OPEN_TREE_CLONE as u64, "OPEN_TREE_CLONE"),
        (libc::O_CLOEXEC as u64, "OPEN_TREE_CLOEXEC"),
        (libc::AT_RECURSIVE as u64, "AT_RECURSIVE"),
        (libc::AT_EMPTY_PATH as u64, "AT_EMPTY_PATH"),
    ];
    let fd = call(
        "open_tree",
        || format!("{}, {:?}, {}", at_name(at), path.display().to_string(), flag_names(flags, &names)),
        // SAFETY: a valid C string and a descriptor that is open or AT_FDCWD.
        || unsafe { libc::syscall(libc::SYS_open_tree, at, path_c.as_ptr(), flags as libc::c_uint) },
    )?;
    Ok(owned(fd))
}

/// move_mount(2): puts the detached mount `mount` on the place that `target` is open on.
///
/// # Errors
/// EINVAL when `target` is not in our mount namespace or differs in kind (file on folder), EPERM, ELOOP.
pub fn move_mount(mount: BorrowedFd, target: BorrowedFd) -> SysResult<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    call(
        "move_mount",
        || format!("{}, \"\", {}, \"\", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH", fd_name(mount.as_raw_fd()), fd_name(target.as_raw_fd())),
        // SAFETY: both descriptors are open for the call, the paths are empty C strings.
        || unsafe { libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags) },
    )?;
    Ok(())
}

/// What mount_setattr(2) is to change.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE` or 0.
    pub propagation: u64,
}

/// mount_setattr(2) on the mount that `mount` is open on; `recursive` also on those below it. With `user_namespace`, and
/// MOUNT_ATTR_IDMAP set, owners are shown as that namespace maps them.
///
/// # Errors
/// EPERM for a flag that a parent user namespace has locked, EINVAL (a file system that can't be idmapped).
pub fn mount_setattr(mount: BorrowedFd, attributes: Attributes, recursive: bool, user_namespace: Option<BorrowedFd>) -> SysResult<()> {
    let attr = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let describe = || {
        let mut words = Vec::new();
        for (name, bits) in [("set", attr.attr_set), ("clr", attr.attr_clr)] {
            if bits != 0 {
                words.push(format!("attr_{name}={}", flag_names(bits, ATTR_NAMES)));
            }
        }
        if attr.propagation != 0 {
            words.push(format!("propagation={}", flag_names(attr.propagation, MS_NAMES)));
        }
        let recursive = if recursive { "|AT_RECURSIVE" } else { "" };
        format!("{}, \"\", AT_EMPTY_PATH{recursive}, {{{}}}", fd_name(mount.as_raw_fd()), words.join(", "))
    };
    call(
        "mount_setattr",
        describe,
        // SAFETY: `attr` is a live struct of the size that is told.
        || unsafe { libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, &attr, size_of::<libc::mount_attr>()) },
    )?;
    Ok(())
}

/// A new file system of this type, detached: fsopen(2), fsconfig(2) for each option (`key=value`, `key`), fsmount(2).
///
/// # Errors
/// ENODEV (no such type), EINVAL (an option it doesn't know), EPERM.
pub fn new_filesystem(fstype: &str, source: Option<&str>, options: &[(String, Option<String>)], attributes: u64) -> SysResult<OwnedFd> {
    let context = fsopen(fstype)?;
    if let Some(source) = source {
        fsconfig(&context, FSCONFIG_SET_STRING, Some("source"), Some(source))?;
    }
    for (key, value) in options {
        let command = if value.is_some() { FSCONFIG_SET_STRING } else { FSCONFIG_SET_FLAG };
        fsconfig(&context, command, Some(key), value.as_deref())?;
    }
    fsconfig(&context, FSCONFIG_CMD_CREATE, None, None)?;
    fsmount(&context, attributes)
}

/// fsopen(2): a file-system context, to be configured.
///
/// # Errors
/// ENODEV when the kernel has no such type, EPERM.
pub fn fsopen(fstype: &str) -> SysResult<OwnedFd> {
    let fstype_c = c_string(fstype)?;
    // SAFETY: a valid C string.
    let raw = || unsafe { libc::syscall(libc::SYS_fsopen, fstype_c.as_ptr(), libc::FSOPEN_CLOEXEC) };
    Ok(owned(call("fsopen", || format!("{fstype}, FSOPEN_CLOEXEC"), raw)?))
}

/// fsconfig(2) with a string, a flag or the command to create.
///
/// # Errors
/// EINVAL for an option that the file system doesn't know or a value that it doesn't take.
pub fn fsconfig(context: &OwnedFd, command: u32, key: Option<&str>, value: Option<&str>) -> SysResult<()> {
    let (key_c, value_c) = (key.map(c_string).transpose()?, value.map(c_string).transpose()?);
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
    let name = match command {
        FSCONFIG_SET_FLAG => "FSCONFIG_SET_FLAG",
        FSCONFIG_SET_STRING => "FSCONFIG_SET_STRING",
        FSCONFIG_SET_FD => "FSCONFIG_SET_FD",
        _ => "FSCONFIG_CMD_CREATE",
    };
    call(
        "fsconfig",
        || format!("fd, {name}, {}, {}, 0", key.unwrap_or("NULL"), value.unwrap_or("NULL")),
        // SAFETY: NULL where fsconfig(2) wants it, valid C strings otherwise.
        || unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(&key_c), pointer(&value_c), 0) },
    )?;
    Ok(())
}

/// fsmount(2): the configured context as a detached mount with these `MOUNT_ATTR_*`.
///
/// # Errors
/// EPERM, EBUSY.
pub fn fsmount(context: &OwnedFd, attributes: u64) -> SysResult<OwnedFd> {
    let fd = call(
        "fsmount",
        || format!("fd, FSMOUNT_CLOEXEC, {}", flag_names(attributes, ATTR_NAMES)),
        // SAFETY: integers only.
        || unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) },
    )?;
    Ok(owned(fd))
}

/// Whether the file that `fd` is open on lives in a file system with this magic number (statfs(2): `PROC_SUPER_MAGIC` …).
///
/// # Errors
/// EBADF, EIO.
pub fn filesystem_magic(fd: impl AsFd) -> SysResult<i64> {
    // SAFETY: zeroed is a valid statfs.
    let mut answer: libc::statfs = unsafe { std::mem::zeroed() };
    let raw_fd = fd.as_fd().as_raw_fd();
    // SAFETY: the struct is live and writable.
    call("fstatfs", || fd_name(raw_fd), || unsafe { libc::fstatfs(raw_fd, &mut answer) as _ })?;
    Ok(answer.f_type as i64)
}

/// Whether `fd` is open on one of the kernel's own tables (/proc, /sys, cgroups, /dev/pts), which look like files and are none.
pub fn is_the_kernels(fd: impl AsFd) -> bool {
    let tables = [libc::PROC_SUPER_MAGIC, libc::SYSFS_MAGIC, libc::CGROUP_SUPER_MAGIC, libc::CGROUP2_SUPER_MAGIC, libc::DEVPTS_SUPER_MAGIC];
    filesystem_magic(fd).is_ok_and(|magic| tables.contains(&magic))
}

/// Whether the mount that holds `path` is read-only.
///
/// # Errors
/// ENOENT, EACCES.
pub fn is_read_only(path: &Path) -> SysResult<bool> {
    let path_c = c_string(path)?;
    // SAFETY: zeroed is a valid statvfs.
    let mut answer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a valid C string and a live struct.
    call("statvfs", || path.display().to_string(), || unsafe { libc::statvfs(path_c.as_ptr(), &mut answer) as _ })?;
    Ok(answer.f_flag & libc::ST_RDONLY != 0)
}

fn at_fd(dir: Option<BorrowedFd>) -> RawFd {
    dir.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd())
}

fn at_name(fd: RawFd) -> String {
    if fd == libc::AT_FDCWD { "AT_FDCWD".into() } else { fd_name(fd) }
}

/// What a descriptor is open on, for a reader: `/var/lib/onggi/…` rather than `7`.
pub(crate) fn fd_name(fd: RawFd) -> String {
    match std::fs::read_link(format!("/proc/self/fd/{fd}")) {
        Ok(path) => path.display().to_string(),
        Err(_) => format!("fd {fd}"),
    }
}

/// A descriptor that the kernel just gave us.
pub(crate) fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the callers pass the fresh answer of a system call that returns a new descriptor; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}
