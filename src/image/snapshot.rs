//! Snapshots: layers unpacked once, stacked for each container by overlay.
//!
//! ```text
//!   upper     what this container changes        CONTAINER/upper
//!   lower     the image's layers, read-only      ROOT/snapshots/HEX/fs, shared by all
//!   work      overlay's own                      CONTAINER/work
//! ```
//! The mount is made *detached* (fsopen, fsconfig, fsmount): no process of the host ever sees it, and when the last holder of its
//! descriptor and the last mount namespace that has it are gone, so is it. Nothing is left to unmount after a crash.
//!
//! See it: `grep overlay /proc/P/mountinfo`. Read: the kernel's filesystems/overlayfs.rst, fsopen(2), fsconfig(2), fsmount(2).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::copy;
use super::digest::ChainId;
use super::durable::make_dir;
use super::layers::in_user_namespace;
use super::store::Store;
use crate::error::{Class, Doing, Error, Result};
use crate::sys::{Reason, SysError, SysResult, because, child_mount, mount, path};

/// fsconfig(2) takes strings of fewer bytes than this.
const LONGEST_VALUE: usize = 256;

/// Where the snapshot of a stack is, or would be.
pub fn dir(store: &Store, chain: &ChainId) -> PathBuf {
    dir_below(store.root(), chain)
}

/// The same for who knows the store's folder and need not open it.
pub fn dir_below(root: &Path, chain: &ChainId) -> PathBuf {
    root.join("snapshots").join(chain.0.hex()).join("fs")
}

/// The directories of one container's root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The layers, the uppermost first.
    pub lowers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    container: PathBuf,
}

/// Makes `upper` and `work` in the container's folder; those that are there stay, with what the container wrote. `layers` are the
/// snapshot directories, the lowest first.
///
/// # Errors
/// NotFound when a snapshot is missing; ENOSPC.
pub fn prepare(layers: &[PathBuf], container: &Path) -> Result<Prepared> {
    let mut lowers: Vec<PathBuf> = layers.iter().rev().cloned().collect();
    if lowers.is_empty() {
        // Overlay wants one; an image without layers (`FROM scratch`) has none.
        let empty = container.join("empty");
        make_dir(&empty, 0o755)?;
        lowers.push(empty);
    }
    let (upper, work) = (container.join("upper"), container.join("work"));
    let top = fs::metadata(&lowers[0]).doing(|| format!("find the layer {}", lowers[0].display()))?;
    if !upper.exists() {
        // The root's own owner and mode are upper's: made aside first, so that an upper which is there is right.
        let new = container.join("upper.new");
        make_dir(&new, 0o700)?;
        std::os::unix::fs::chown(&new, Some(top.uid()), Some(top.gid())).doing(|| format!("make {}", upper.display()))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(top.mode() & 0o7777)).doing(|| format!("make {}", upper.display()))?;
        fs::rename(&new, &upper).doing(|| format!("make {}", upper.display()))?;
    }
    make_dir(&work, 0o700)?;
    Ok(Prepared { lowers, upper, work, container: container.to_path_buf() })
}

/// The same for who only reads, beside whoever writes: a mount empties its work directory, so this one has its own. It is to be removed
/// as soon as the mount is there. Errors are those of [`prepare`].
pub fn prepare_to_read(layers: &[PathBuf], container: &Path) -> Result<Prepared> {
    let work = container.join(format!("work.read.{}", std::process::id()));
    make_dir(&work, 0o700)?;
    Ok(Prepared { work, ..prepare(layers, container)? })
}

/// A root file system, ready to be put somewhere.
#[derive(Debug)]
pub enum Mounted {
    /// A detached overlay mount.
    Overlay(OwnedFd),
    /// A copy of all layers, because overlay can't write here; `reason` says why.
    Copied { path: PathBuf, reason: String },
}

/// Stacks the layers: an overlay mount, or a copy where the store's file system can't carry one.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN; ENOSPC.
pub fn mount(prepared: &Prepared) -> Result<Mounted> {
    let copied = prepared.container.join("rootfs");
    let reason_file = prepared.container.join("rootfs.reason");
    if copied.exists() {
        let reason = fs::read_to_string(reason_file).unwrap_or_default();
        return Ok(Mounted::Copied { path: copied, reason });
    }
    let refused = match overlay(prepared) {
        Ok(fd) => return Ok(Mounted::Overlay(fd)),
        Err(refused) => refused,
    };
    // EINVAL: upper is on overlay, NFS, or what else has no whiteouts or attributes. ENODEV: no overlay. The others: a kernel that
    // allows overlay to the host's root only (before 5.11), while we still may write to the container's folder.
    if !matches!(refused.errno(), Errno::EINVAL | Errno::ENODEV | Errno::ENOTSUP | Errno::EPERM | Errno::EREMOTE | Errno::ESTALE) {
        return Err(Error::sys("stack the layers", refused));
    }
    let reason = format!("{} can't be the upper of an overlay mount: {refused}", prepared.upper.display());
    let new = prepared.container.join("rootfs.new");
    if new.exists() {
        fs::remove_dir_all(&new).doing(|| format!("remove {}", new.display()))?;
    }
    make_dir(&new, 0o755)?;
    let lowest_first: Vec<&Path> = prepared.lowers.iter().rev().map(PathBuf::as_path).collect();
    copy::merge(&lowest_first, &new).map_err(|e| Error { class: Class::System, ..e }.hint(reason.clone()))?;
    fs::write(&reason_file, &reason).doing(|| format!("write {}", reason_file.display()))?;
    fs::rename(&new, &copied).doing(|| format!("make {}", copied.display()))?;
    Ok(Mounted::Copied { path: copied, reason })
}

/// The three ways to tell overlay its lower directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `lowerdir+`, one by one (Linux 6.7).
    OneByOne,
    /// `lowerdir=A:B:C` in one fsconfig(2), up to 255 bytes.
    OneString,
    /// The same in mount(2), up to a page.
    Child,
}

static STACK: Reason = Reason {
    id: "snapshot.overlay",
    en: "the image's layers are stacked read-only; one more layer on top, this container's own, takes what it writes",
    ko: "이미지 층은 읽기 전용으로 쌓고, 맨 위에 이 컨테이너만의 층을 하나 더 올려 쓴 것을 받는다",
    see: "head -1 /proc/{P}/mountinfo",
};

fn overlay(prepared: &Prepared) -> SysResult<OwnedFd> {
    because(&STACK);
    let mut refused = None;
    for way in [Way::OneByOne, Way::OneString, Way::Child] {
        match overlay_by(prepared, way) {
            // What one way's option is unknown to this kernel, the next may say.
            Err(e) if matches!(e.errno(), Errno::EINVAL | Errno::E2BIG | Errno::ENOSYS) => refused = Some(e),
            answer => return answer,
        }
    }
    Err(refused.unwrap_or_else(|| SysError::new("fsopen", "overlay", Errno::EINVAL)))
}

fn overlay_by(prepared: &Prepared, way: Way) -> SysResult<OwnedFd> {
    let Prepared { lowers, upper, work, .. } = prepared;
    let mut fixed = vec![("index", Some("off")), ("metacopy", Some("off"))];
    if in_user_namespace() {
        fixed.push(("userxattr", None));
    } else {
        // A renamed folder is copied, not marked as moved: a layer made of upper then needs no overlay to be read.
        fixed.push(("redirect_dir", Some("nofollow")));
    }
    if way == Way::Child {
        let options: Vec<String> = fixed.into_iter().map(|(key, value)| value.map_or(key.to_string(), |value| format!("{key}={value}"))).collect();
        return overlay_by_links(prepared, &options.join(","));
    }
    let mut fixed: Vec<(String, Option<String>)> = fixed.into_iter().map(|(key, value)| (key.into(), value.map(str::to_string))).collect();
    // Names that can't be told as they are go by a descriptor, kept open until overlay has looked.
    let mut kept = Vec::new();
    let mut name = |dir: &Path, always: bool| {
        let bytes = dir.as_os_str().as_bytes();
        if !always && bytes.len() < LONGEST_VALUE && !bytes.iter().any(|b| b",:\\".contains(b)) && bytes.is_ascii() {
            return Ok(dir.display().to_string());
        }
        let fd = path::open_root(dir)?;
        let number = fd.as_raw_fd();
        kept.push(fd);
        Ok(format!("/proc/self/fd/{number}"))
    };
    let (upper, work) = (name(upper, false)?, name(work, false)?);
    let mut options: Vec<(String, Option<String>)> = Vec::new();
    if way == Way::OneByOne {
        for lower in lowers {
            options.push(("lowerdir+".into(), Some(name(lower, false)?)));
        }
    } else {
        let mut all = lowers.iter().map(|lower| name(lower, false)).collect::<SysResult<Vec<_>>>()?.join(":");
        if all.len() >= LONGEST_VALUE {
            all = lowers.iter().map(|lower| name(lower, true)).collect::<SysResult<Vec<_>>>()?.join(":");
        }
        options.push(("lowerdir".into(), Some(all)));
    }
    options.push(("upperdir".into(), Some(upper)));
    options.push(("workdir".into(), Some(work)));
    options.append(&mut fixed);
    mount::new_filesystem("overlay", Some("overlay"), &options, 0)
}

/// mount(2) takes a page of options in all, and a hundred layers have longer names: they get short ones, links in a folder that is gone
/// right after, as overlay has found the directories then.
fn overlay_by_links(prepared: &Prepared, options: &str) -> SysResult<OwnedFd> {
    let Prepared { lowers, upper, work, container } = prepared;
    let links = container.join("links");
    let linked = || {
        let _ = fs::remove_dir_all(&links);
        fs::create_dir(&links)?;
        std::os::unix::fs::symlink(upper, links.join("u"))?;
        std::os::unix::fs::symlink(work, links.join("w"))?;
        lowers.iter().enumerate().try_for_each(|(number, lower)| std::os::unix::fs::symlink(lower, links.join(number.to_string())))
    };
    let to_fact = |e: std::io::Error| SysError::new("symlink", links.display().to_string(), Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)));
    linked().map_err(to_fact)?;
    let numbers: Vec<String> = (0..lowers.len()).map(|number| number.to_string()).collect();
    let data = format!("lowerdir={},upperdir=u,workdir=w,{options}", numbers.join(":"));
    let mounted = match data.len() {
        0..4096 => child_mount::mount_detached("overlay", container, &data, &links),
        _ => Err(SysError::new("mount", format!("overlay of {} layers", lowers.len()), Errno::E2BIG)),
    };
    let _ = fs::remove_dir_all(&links);
    mounted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layers;
    use crate::image::testing::{Folder, may_mount};

    /// Layers of one file each, and on top one that deletes the first's.
    fn layers(folder: &Folder, count: usize) -> Vec<PathBuf> {
        (0..count)
            .map(|number| {
                let dir = folder.path().join(format!("layer-{number}-{}", "x".repeat(60)));
                fs::create_dir(&dir).unwrap();
                fs::write(dir.join(format!("file{number}")), number.to_string()).unwrap();
                fs::write(dir.join("shared"), number.to_string()).unwrap();
                if number == count - 1 && count > 1 {
                    layers::unpack(&*whiteout_of("file0"), &dir, &[]).unwrap();
                }
                dir
            })
            .collect()
    }

    fn whiteout_of(name: &str) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!(".wh.{name}"), std::io::empty()).unwrap();
        archive.into_inner().unwrap()
    }

    fn container(folder: &Folder) -> PathBuf {
        let dir = folder.path().join("container");
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn shows(root: &Path, count: usize) {
        assert_eq!(fs::read_to_string(root.join("shared")).unwrap(), (count - 1).to_string());
        assert_eq!(fs::read_to_string(root.join("file1")).unwrap(), "1");
        assert!(!root.join("file0").exists());
    }

    #[test]
    fn each_way_stacks_the_layers_and_none_is_seen_on_the_host() {
        if !may_mount() {
            return;
        }
        let mountinfo = || fs::read_to_string("/proc/self/mountinfo").unwrap();
        for (way, count) in [(Way::OneByOne, 3), (Way::OneByOne, 150), (Way::OneString, 3), (Way::OneString, 10), (Way::Child, 3), (Way::Child, 300)]
        {
            let folder = Folder::new();
            let prepared = prepare(&layers(&folder, count), &container(&folder)).unwrap();
            let fd = match overlay_by(&prepared, way) {
                Err(e) if e.errno() == Errno::EINVAL && way == Way::OneByOne => continue, // before Linux 6.7
                mounted => mounted.unwrap_or_else(|e| panic!("{way:?} with {count}: {e}")),
            };
            assert!(!mountinfo().contains(folder.path().to_str().unwrap()), "{way:?}");
            let root = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            shows(&root, count);
            fs::write(root.join("new"), "written").unwrap();
            assert_eq!(fs::read_to_string(prepared.upper.join("new")).unwrap(), "written");
            assert!(!prepared.container.join("links").exists());
        }
    }

    #[test]
    fn the_best_way_is_found_also_for_odd_names() {
        if !may_mount() {
            return;
        }
        let folder = Folder::new();
        let odd = folder.path().join("a:b,c\\d 한글");
        fs::create_dir(&odd).unwrap();
        let mut all = layers(&folder, 3);
        let renamed = odd.join("layer");
        fs::rename(&all[1], &renamed).unwrap();
        all[1] = renamed;
        let prepared = prepare(&all, &odd).unwrap();
        let Mounted::Overlay(fd) = mount(&prepared).unwrap() else { panic!("copied") };
        shows(&PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())), 3);
        drop(fd);
        let prepared = prepare(&all, &odd).unwrap();
        let by_child = overlay_by(&prepared, Way::Child).unwrap();
        shows(&PathBuf::from(format!("/proc/self/fd/{}", by_child.as_raw_fd())), 3);
    }

    #[test]
    fn what_a_container_wrote_is_there_when_it_starts_again() {
        if !may_mount() {
            return;
        }
        let folder = Folder::new();
        let (all, container) = (layers(&folder, 2), container(&folder));
        for round in 0..2 {
            let Mounted::Overlay(fd) = mount(&prepare(&all, &container).unwrap()).unwrap() else { panic!("copied") };
            let root = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            assert_eq!(root.join("new").exists(), round == 1);
            fs::write(root.join("new"), "x").unwrap();
        }
    }

    #[test]
    fn where_overlay_cannot_write_the_layers_are_copied_and_the_reason_is_told() {
        if !may_mount() {
            return;
        }
        let folder = Folder::new();
        let all = layers(&folder, 3);
        fs::create_dir(all[0].join("dir")).unwrap();
        std::os::unix::fs::symlink("/nowhere", all[0].join("link")).unwrap();
        fs::hard_link(all[1].join("file1"), all[1].join("file1-again")).unwrap();
        // An overlay is no place for another's upper.
        let below = prepare(&all[..1], &container(&folder)).unwrap();
        let Mounted::Overlay(fd) = mount(&below).unwrap() else { panic!("copied") };
        let on_overlay = PathBuf::from(format!("/proc/self/fd/{}/container", fd.as_raw_fd()));
        fs::create_dir(&on_overlay).unwrap();
        for _ in 0..2 {
            let Mounted::Copied { path, reason } = mount(&prepare(&all, &on_overlay).unwrap()).unwrap() else { panic!("overlay on overlay") };
            assert!(reason.contains("EINVAL") || reason.contains("upper"), "{reason}");
            shows(&path, 3);
            assert_eq!(fs::read_link(path.join("link")).unwrap(), Path::new("/nowhere"));
            assert_eq!(fs::metadata(path.join("file1")).unwrap().nlink(), 2);
            fs::write(path.join("written"), "stays").unwrap();
        }
    }

    #[test]
    fn an_image_without_layers_is_an_empty_folder() {
        if !may_mount() {
            return;
        }
        let folder = Folder::new();
        let Mounted::Overlay(fd) = mount(&prepare(&[], &container(&folder)).unwrap()).unwrap() else { panic!("copied") };
        assert_eq!(fs::read_dir(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().count(), 0);
    }
}
