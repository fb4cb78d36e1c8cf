//! `/dev`: the handful of devices that every program counts on, the ones that config.json asks for, and the links of old.
//!
//! In a user namespace mknod(2) of a device gives EPERM, whoever asks: there the host's own node is bound over an empty file.
//!
//! See it: `ls -l /proc/P/root/dev`. Read: config-linux.md "Default Devices", null(4), random(4), tty(4), mknod(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::spec::{Device, Spec};
use crate::error::{Doing, Error, Result};
use crate::sys::{Reason, because, mount, path};

static DEVICES: Reason = Reason {
    id: "devices.make",
    en: "the few devices that every program counts on; the host's disks are not among them",
    ko: "모든 프로그램이 기대하는 몇 가지 장치. 호스트의 디스크는 없다",
    see: "ls -l /proc/{P}/root/dev",
};

/// Name, major, minor: config-linux.md "Default Devices".
const DEFAULTS: &[(&str, u32, u32)] = &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: &[(&str, &str)] =
    &[("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx")];

/// Fills `/dev`, unless config.json binds a whole `/dev` from elsewhere: that one is not ours to change.
///
/// # Errors
/// EPERM, ENOSPC; NotFound for a device that the host doesn't have, in a user namespace.
pub fn make(root: BorrowedFd, spec: &Spec, in_user_namespace: bool) -> Result<()> {
    because(&DEVICES);
    let bound = |m: &super::spec::Mount| {
        super::mounts::is_dev(&m.destination) && (m.kind.as_deref() == Some("bind") || m.options.iter().any(|o| o == "bind" || o == "rbind"))
    };
    let wanted = spec.linux.as_ref().map_or(&[][..], |linux| &linux.devices);
    if spec.mounts.iter().any(bound) {
        return Ok(());
    }
    // The umask would take bits off the modes that are asked for.
    let mask = crate::sys::process::umask(0);
    let made = make_all(root, wanted, in_user_namespace);
    crate::sys::process::umask(mask);
    made
}

fn make_all(root: BorrowedFd, wanted: &[Device], in_user_namespace: bool) -> Result<()> {
    let dev = path::make_dirs_in(root, "/dev".as_ref(), 0o755).doing(|| "open /dev".into())?;
    for &(name, major, minor) in DEFAULTS {
        let asked = wanted.iter().any(|device| device.path == Path::new("/dev").join(name));
        if !asked {
            make_node(&dev, name.as_ref(), libc::S_IFCHR | 0o666, libc::makedev(major, minor), in_user_namespace)?;
        }
    }
    for (index, device) in wanted.iter().enumerate() {
        make_wanted(root, device, in_user_namespace).map_err(|e| Error { doing: format!("make linux.devices[{index}]: {}", e.doing), ..e })?;
    }
    for (name, target) in LINKS {
        match path::symlinkat(target.as_ref(), &dev, name.as_ref()) {
            Err(e) if e.errno() != Errno::EEXIST => return Err(Error::sys(format!("make /dev/{name}"), e)),
            _ => {}
        }
    }
    Ok(())
}

fn make_wanted(root: BorrowedFd, device: &Device, in_user_namespace: bool) -> Result<()> {
    let doing = || format!("make {}", device.path.display());
    let kind = match device.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        _ => libc::S_IFIFO,
    };
    let parent = path::make_dirs_in(root, device.path.parent().unwrap_or(Path::new("/")), 0o755).doing(doing)?;
    let name: PathBuf = device.path.file_name().map(PathBuf::from).ok_or_else(|| Error::invalid(doing(), "it has no name"))?;
    let number = libc::makedev(device.major as u32, device.minor as u32);
    let made = make_node(&parent, &name, kind | device.file_mode.unwrap_or(0o666) & 0o7777, number, in_user_namespace && kind != libc::S_IFIFO)?;
    if made && (device.uid.is_some() || device.gid.is_some()) {
        path::chownat(&parent, &name, device.uid.unwrap_or(0), device.gid.unwrap_or(0)).doing(doing)?;
    }
    Ok(())
}

/// Makes one node; one of the same kind and number that stands there is kept. Answers whether it is ours to give an owner.
fn make_node(dev: &OwnedFd, name: &Path, mode: u32, number: u64, bind: bool) -> Result<bool> {
    let doing = || format!("make the device {}", name.display());
    if bind {
        return bind_node(dev, name).map(|()| false);
    }
    match path::mknodat(dev, name, mode, number) {
        Err(e) if e.errno() == Errno::EEXIST => {
            let there = path::openat2(dev.as_fd(), name, libc::O_PATH | libc::O_NOFOLLOW, 0, path::RESOLVE_BENEATH).doing(doing)?;
            let stat = path::stat(there.as_fd()).doing(doing)?;
            let same = stat.st_mode & libc::S_IFMT == mode & libc::S_IFMT && stat.st_rdev == number;
            if same { Ok(false) } else { Err(Error::invalid(doing(), "the image has something else in its place")) }
        }
        Err(e) if e.errno() == Errno::EPERM => bind_node(dev, name).map(|()| false),
        done => done.doing(doing).map(|()| true),
    }
}

/// The host's node of the same name, bound over an empty file.
fn bind_node(dev: &OwnedFd, name: &Path) -> Result<()> {
    let host = Path::new("/dev").join(name);
    let doing = || format!("bind the host's {}", host.display());
    let tree = mount::clone_tree(None, &host, false).doing(doing)?;
    match path::mknodat(dev, name, libc::S_IFREG | 0o644, 0) {
        Err(e) if e.errno() != Errno::EEXIST => return Err(Error::sys(doing(), e)),
        _ => {}
    }
    let place =
        path::openat2(dev.as_fd(), name, libc::O_PATH | libc::O_NOFOLLOW, 0, path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS).doing(doing)?;
    mount::move_mount(tree.as_fd(), place.as_fd()).doing(doing)
}
