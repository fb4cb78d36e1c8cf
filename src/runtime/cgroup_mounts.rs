//! `/sys/fs/cgroup` inside a container: its own group and nothing above it.
//!
//! On cgroup v2 that is one mount. On v1 it is a tmpfs with one folder a controller, and links for those that share one (`cpu` →
//! `cpu,cpuacct`). In a cgroup namespace a fresh mount shows the container's group as the root; without one the group's folder is bound.
//!
//! See it: `ls /proc/P/root/sys/fs/cgroup`. Read: cgroup_namespaces(7), config-linux.md "Cgroup ownership".

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::cgroups::{self, Layout, Place};
use super::mount_options::Options;
use super::{mounts, rootfs};
use crate::error::{Doing, Result};
use crate::sys::mount::{self, Attributes, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use crate::sys::path;

const SAFE: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// Mounts the container's view of the cgroups at `destination`.
///
/// # Errors
/// EPERM, ENOENT.
pub fn make(root: BorrowedFd, destination: &Path, options: &Options, place: Option<&Place>) -> Result<()> {
    let layout = cgroups::detect()?;
    let namespaced = in_namespace_of_its_own();
    let read_only = options.own.set & MOUNT_ATTR_RDONLY != 0;
    let target = mounts::place_for(root, destination, true)?;
    match &layout {
        Layout::Unified(hierarchy) => {
            let own = place.and_then(|place| place.unified.clone()).unwrap_or_else(|| hierarchy.own_dir());
            let mounted = fresh("cgroup2", &[], options.own.set | SAFE, &own, namespaced)?;
            mount::move_mount(mounted.as_fd(), target.as_fd()).doing(|| "mount the cgroups".into())
        }
        Layout::Legacy(hierarchies) | Layout::Hybrid { legacy: hierarchies, .. } => {
            let data = [("mode".to_string(), Some("755".to_string()))];
            let tmpfs = mount::new_filesystem("tmpfs", Some("tmpfs"), &data, SAFE).doing(|| "make a tmpfs for the controllers".into())?;
            mount::move_mount(tmpfs.as_fd(), target.as_fd()).doing(|| "mount the tmpfs for the controllers".into())?;
            let groups = place.map(|place| &place.legacy);
            for hierarchy in hierarchies {
                controller(tmpfs.as_fd(), hierarchy, groups, options.own.set | SAFE, namespaced)?;
            }
            if let Layout::Hybrid { unified, .. } = &layout {
                let folder = path::make_dirs_in(tmpfs.as_fd(), "unified".as_ref(), 0o755).doing(|| "make unified".into())?;
                let own = place.and_then(|place| place.unified.clone()).unwrap_or_else(|| unified.own_dir());
                let mounted = fresh("cgroup2", &[], options.own.set | SAFE, &own, namespaced)?;
                mount::move_mount(mounted.as_fd(), folder.as_fd()).doing(|| "mount unified".into())?;
            }
            if read_only {
                rootfs::read_only(tmpfs.as_fd()).doing(|| "make the cgroups read-only".into())?;
            }
            Ok(())
        }
    }
}

fn controller(
    tmpfs: BorrowedFd,
    hierarchy: &cgroups::Hierarchy,
    groups: Option<&BTreeMap<String, PathBuf>>,
    attributes: u64,
    namespaced: bool,
) -> Result<()> {
    let names = &hierarchy.controllers;
    let Some(first) = names.first() else { return Ok(()) };
    let shown: Vec<&str> = names.iter().map(|name| name.strip_prefix("name=").unwrap_or(name)).collect();
    let folder_name = shown.join(",");
    let doing = || format!("mount the controller {folder_name}");
    let own = groups.and_then(|groups| groups.get(first)).cloned().unwrap_or_else(|| hierarchy.own_dir());
    let options: Vec<(String, Option<String>)> = match first.strip_prefix("name=") {
        Some(name) => vec![("none".into(), None), ("name".into(), Some(name.into()))],
        None => names.iter().map(|name| (name.clone(), None)).collect(),
    };
    let folder = path::make_dirs_in(tmpfs, folder_name.as_ref(), 0o755).doing(doing)?;
    let mounted = fresh("cgroup", &options, attributes, &own, namespaced)?;
    mount::move_mount(mounted.as_fd(), folder.as_fd()).doing(doing)?;
    if shown.len() > 1 {
        let dir = path::make_dirs_in(tmpfs, "/".as_ref(), 0o755).doing(doing)?;
        for name in shown {
            path::symlinkat(folder_name.as_ref(), &dir, name.as_ref()).doing(doing)?;
        }
    }
    Ok(())
}

/// A mount that shows `own` as its root: a fresh one in a cgroup namespace whose root that is, else a bind of the folder.
fn fresh(fstype: &str, options: &[(String, Option<String>)], attributes: u64, own: &Path, namespaced: bool) -> Result<OwnedFd> {
    if namespaced && let Ok(mounted) = mount::new_filesystem(fstype, Some(fstype), options, attributes) {
        return Ok(mounted);
    }
    // EPERM in a user namespace that doesn't own the cgroup namespace, EBUSY on some v1 hosts: the folder is there all the same.
    let doing = || format!("bind the cgroup {}", own.display());
    let tree = mount::clone_tree(None, own, true).doing(doing)?;
    mount::mount_setattr(tree.as_fd(), Attributes { set: attributes, ..Attributes::default() }, false, None).doing(doing)?;
    Ok(tree)
}

/// In a cgroup namespace of its own a process is in `/` of every hierarchy.
fn in_namespace_of_its_own() -> bool {
    std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| text.lines().all(|line| line.ends_with(":/")))
}
