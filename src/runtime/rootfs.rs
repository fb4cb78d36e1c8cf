//! The new root: made a mount of its own, filled, and then pivoted to, so that the host's files are not merely hidden but gone.
//!
//! chroot(2) moves no mount: a process with a descriptor outside, or root's rights, walks back out. pivot_root(2) exchanges the
//! root of the whole mount namespace, and the old one is unmounted: there is nothing to walk back to.
//!
//! See it: `ls /proc/P/root`, `/proc/P/mountinfo`. Read: pivot_root(2), mount_namespaces(7), config-linux.md "Masked Paths".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use super::mount_options;
use super::spec::Linux;
use crate::error::{Doing, Error, Result};
use crate::sys::mount::{
    self, Attributes, MNT_DETACH, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MS_MOVE, MS_PRIVATE, MS_REC, MS_SLAVE,
};
use crate::sys::{Reason, because, fs, path};

static PRIVATE: Reason = Reason {
    id: "rootfs.private",
    en: "no mount made from here on may show up on the host",
    ko: "지금부터 만드는 마운트는 호스트에 나타나지 않아야 한다",
    see: "grep -c shared: /proc/{P}/mountinfo",
};
static BIND: Reason = Reason {
    id: "rootfs.bind",
    en: "pivot_root(2) wants a mount point, so the image's folder becomes one",
    ko: "pivot_root(2)는 마운트 지점을 요구하므로 이미지 폴더를 마운트 지점으로 만든다",
    see: "head -1 /proc/{P}/mountinfo",
};
static PIVOT: Reason = Reason {
    id: "rootfs.pivot",
    en: "the image becomes /, and the host's files are unmounted: nothing leads back to them",
    ko: "이미지가 /가 되고 호스트 파일은 마운트 해제된다: 돌아갈 길이 없다",
    see: "ls /proc/{P}/root",
};
static MASK: Reason = Reason {
    id: "rootfs.mask",
    en: "files of the kernel that tell or change too much are covered or made read-only",
    ko: "너무 많은 것을 알려 주거나 바꾸는 커널 파일을 가리거나 읽기 전용으로 만든다",
    see: "grep -E '/proc/|/sys/' /proc/{P}/mountinfo",
};
static READ_ONLY: Reason =
    Reason {
        id: "rootfs.readonly", en: "the image is made read-only", ko: "이미지를 읽기 전용으로 만든다", see: "head -1 /proc/{P}/mountinfo"
    };

/// Cuts the new mount namespace off from the host's, and makes `rootfs` a mount in it: of its own folder, or of the detached mount
/// that the caller made. Answers the new root, open.
///
/// # Errors
/// NotFound when there is no such folder; EPERM when the mount namespace isn't ours.
pub fn prepare(rootfs: &Path, detached: Option<&OwnedFd>, linux: &Linux) -> Result<OwnedFd> {
    because(&PRIVATE);
    match linux.rootfs_propagation.as_deref().and_then(mount_options::propagation) {
        // A shared root wants the host's peer groups kept, so that mounts on shared volumes travel; only the mount that holds the
        // root must not be shared, or our own mounts on it would travel too (and pivot_root(2) refuses).
        Some((mount::MS_SHARED, _)) => mount::mount(None, &mount_point_of(rootfs)?, None, MS_PRIVATE, None),
        Some((MS_PRIVATE, _)) => mount::mount(None, "/".as_ref(), None, MS_REC | MS_PRIVATE, None),
        _ => mount::mount(None, "/".as_ref(), None, MS_REC | MS_SLAVE, None),
    }
    .doing(|| "isolate the container's mounts".into())?;

    because(&BIND);
    let doing = || format!("use root.path {}", rootfs.display());
    let tree = match detached {
        Some(tree) => crate::sys::fd::duplicate(tree.as_fd()).doing(doing)?,
        None => mount::clone_tree(None, rootfs, true).doing(doing)?,
    };
    let private = Attributes { propagation: MS_PRIVATE, ..Attributes::default() };
    mount::mount_setattr(tree.as_fd(), private, false, None).doing(doing)?;
    let place = path::open_root(rootfs).doing(doing)?;
    mount::move_mount(tree.as_fd(), place.as_fd()).doing(doing)?;
    Ok(tree)
}

/// The mount point below which `path` lies (proc_pid_mountinfo(5), field 5).
fn mount_point_of(path: &Path) -> Result<std::path::PathBuf> {
    let table = fs::read("/proc/self/mountinfo".as_ref()).doing(|| "read the mount table".into())?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let longest = points.filter(|point| path.starts_with(point)).max_by_key(|point| point.as_os_str().len());
    Ok(longest.unwrap_or_else(|| "/".into()))
}

/// `\040` is a blank in the mount table.
pub fn unescape(field: &str) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let code = (bytes[i] == b'\\').then(|| bytes.get(i + 1..i + 4)).flatten();
        match code.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

/// Makes `root` the root of this mount namespace and unmounts the host's. With `no_pivot`, or where the host's own root can't be
/// pivoted from (an initramfs), the mount is moved over `/` instead.
///
/// # Errors
/// See pivot_root(2).
pub fn pivot(root: BorrowedFd, no_pivot: bool, linux: &Linux) -> Result<()> {
    because(&PIVOT);
    fs::fchdir(root).doing(|| "enter the new root".into())?;
    if no_pivot || !switch_root()? {
        move_root()?;
    }
    fs::chdir("/".as_ref()).doing(|| "enter the new root".into())?;
    if let Some((propagation, recursive)) = linux.rootfs_propagation.as_deref().and_then(mount_options::propagation) {
        let flags = propagation | if recursive { MS_REC } else { 0 };
        mount::mount(None, "/".as_ref(), None, flags, None).doing(|| "set linux.rootfsPropagation".into())?;
    }
    Ok(())
}

/// Answers false where pivot_root(2) can't work because the root is the initramfs.
fn switch_root() -> Result<bool> {
    let old_root = path::open_root("/".as_ref()).doing(|| "open the old root".into())?;
    // With "." twice the old root is put on top of the new one, where it can be taken away (pivot_root(2), "pivot_root(".", ".")").
    match mount::pivot_root(".".as_ref(), ".".as_ref()) {
        Err(e) if e.errno() == Errno::EINVAL && root_is_initramfs() => return Ok(false),
        done => done.doing(|| "make the image the root".into())?,
    }
    // "." is the new root; mount(2) does not step from it onto what lies on top. So the old one is entered by its descriptor.
    fs::fchdir(old_root.as_fd()).doing(|| "enter the old root".into())?;
    // Unmounting must not travel to the host.
    mount::mount(None, ".".as_ref(), None, MS_REC | MS_SLAVE, None).doing(|| "let go of the old root".into())?;
    mount::umount2(".".as_ref(), MNT_DETACH).doing(|| "let go of the old root".into())?;
    Ok(true)
}

fn root_is_initramfs() -> bool {
    std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|table| table.lines().any(|line| line.contains(" / / ") && line.contains(" - rootfs ")))
}

/// The old way, as switch_root(8) does it: the new root is moved onto `/`, and chroot(2) follows. The host's `/proc` and `/sys` are
/// unmounted first: they would stay below the new root, complete, for whoever finds a way under it.
fn move_root() -> Result<()> {
    let here = nix::unistd::getcwd().doing(|| "find the new root".into())?;
    let table = fs::read("/proc/self/mountinfo".as_ref()).doing(|| "read the mount table".into())?;
    for line in table.lines().rev() {
        let kernel = [" - proc ", " - sysfs "].iter().any(|kind| line.contains(kind));
        let point = line.split(' ').nth(4).map(unescape).unwrap_or_default();
        if kernel && !point.starts_with(&here) {
            mount::umount2(&point, MNT_DETACH).doing(|| format!("let go of the host's {}", point.display()))?;
        }
    }
    mount::mount(Some("."), "/".as_ref(), None, MS_MOVE, None).doing(|| "move the image over the root".into())?;
    mount::chroot(".".as_ref()).doing(|| "make the image the root".into())
}

/// `root.readonly`.
///
/// # Errors
/// EPERM.
pub fn make_read_only() -> Result<()> {
    because(&READ_ONLY);
    let root = path::open_root("/".as_ref()).doing(|| "open the root".into())?;
    read_only(root.as_fd()).doing(|| "make the root read-only".into())
}

/// Makes one mount read-only.
///
/// # Errors
/// EPERM.
pub fn read_only(mount: BorrowedFd) -> crate::sys::SysResult<()> {
    mount::mount_setattr(mount, Attributes { set: MOUNT_ATTR_RDONLY, ..Attributes::default() }, false, None)
}

/// `linux.maskedPaths` and `linux.readonlyPaths`; what isn't there needs no cover.
///
/// A file is covered by the host's `/dev/null`, never by the image's: an image could have put a link there and have us bind what it
/// likes (CVE-2025-31133). So it is done before the pivot, while the host's is still there to be bound.
///
/// # Errors
/// EPERM, and whatever a mount answers.
pub fn hide(root: BorrowedFd, linux: &Linux) -> Result<()> {
    because(&MASK);
    for hidden in &linux.readonly_paths {
        let Some(target) = existing(root, hidden)? else { continue };
        let tree = mount::clone_tree(Some(target.as_fd()), "".as_ref(), true).doing(|| format!("make {} read-only", hidden.display()))?;
        read_only(tree.as_fd()).doing(|| format!("make {} read-only", hidden.display()))?;
        mount::move_mount(tree.as_fd(), target.as_fd()).doing(|| format!("make {} read-only", hidden.display()))?;
    }
    let null = (!linux.masked_paths.is_empty()).then(host_null).transpose()?;
    for hidden in &linux.masked_paths {
        let doing = || format!("mask {}", hidden.display());
        let Some(target) = existing(root, hidden)? else { continue };
        let stat = path::stat(target.as_fd()).doing(doing)?;
        let cover = if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
            mount::new_filesystem("tmpfs", Some("tmpfs"), &[("size".into(), Some("0".into())), ("nr_inodes".into(), Some("2".into()))], attributes)
        } else {
            mount::clone_tree(null.as_ref().map(|null| null.as_fd()), "".as_ref(), false)
        };
        mount::move_mount(cover.doing(doing)?.as_fd(), target.as_fd()).doing(doing)?;
    }
    Ok(())
}

fn existing(root: BorrowedFd, wanted: &Path) -> Result<Option<OwnedFd>> {
    match path::open_in(root, wanted, libc::O_PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(None),
        Err(e) => Err(Error::sys(format!("find {}", wanted.display()), e)),
    }
}

/// Opens the host's `/dev/null`, and makes sure that it is the one: character device 1:3.
///
/// # Errors
/// Invalid when something else stands there.
fn host_null() -> Result<OwnedFd> {
    let doing = || "open the host's /dev/null".to_string();
    let root = path::open_root("/".as_ref()).doing(doing)?;
    let null = path::open_in(root.as_fd(), "/dev/null".as_ref(), libc::O_PATH | libc::O_NOFOLLOW).doing(doing)?;
    let stat = path::stat(null.as_fd()).doing(doing)?;
    match stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3) {
        true => Ok(null),
        false => Err(Error::invalid(doing(), "it is not the null device (1:3)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_blanks_is_read_back() {
        assert_eq!(unescape(r"/mnt/my\040disk\134x"), Path::new(r"/mnt/my disk\x"));
        assert_eq!(unescape(r"/ends\04"), Path::new(r"/ends\04"));
    }
}
