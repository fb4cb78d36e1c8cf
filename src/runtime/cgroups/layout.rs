//! Which cgroup hierarchies this host has, where they are mounted, and where in them this process is.
//!
//! cgroup v2 is *one* tree for all controllers. In v1 each controller (or a few together: `cpu,cpuacct`) has a tree of its own, and
//! there are trees without a controller that only name groups (`name=systemd`). A host may have both: then a controller is in one
//! of them, never in two.
//!
//! See it: `grep cgroup /proc/self/mountinfo`, `cat /proc/self/cgroup`. Read: cgroups(7), proc_pid_mountinfo(5),
//! Documentation/admin-guide/cgroup-v2.rst.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result};

/// One mounted tree of cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount: PathBuf,
    /// The group of this process, below `mount`: `/user.slice/…`; `/` is the mount itself.
    pub own: String,
    /// v1 only: `cpu`, `cpuacct`, `name=systemd`. In v2 each group tells in `cgroup.controllers`.
    pub controllers: Vec<String>,
}

/// The host's hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// cgroup v2 alone: what a host of today has.
    Unified(Hierarchy),
    /// cgroup v1 alone; empty when nothing is mounted at all.
    Legacy(Vec<Hierarchy>),
    /// v1 controllers, and a v2 tree beside them, most often without controllers.
    Hybrid { legacy: Vec<Hierarchy>, unified: Hierarchy },
}

/// The host's layout, from two files read once.
///
/// # Errors
/// When /proc isn't mounted.
pub fn detect() -> Result<Layout> {
    let read = |path: &str| {
        // Room for all of it at once: the kernel writes such a file anew for each read(2), and says no size beforehand.
        let mut text = String::with_capacity(16 * 1024);
        let done = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
        done.doing(|| format!("find the cgroups of this host in {path}")).map(|_| text)
    };
    Ok(parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
}

impl Layout {
    pub fn unified(&self) -> Option<&Hierarchy> {
        match self {
            Layout::Unified(unified) | Layout::Hybrid { unified, .. } => Some(unified),
            Layout::Legacy(_) => None,
        }
    }

    pub fn legacy(&self) -> &[Hierarchy] {
        match self {
            Layout::Legacy(legacy) | Layout::Hybrid { legacy, .. } => legacy,
            Layout::Unified(_) => &[],
        }
    }
}

impl Hierarchy {
    /// The directory of this process' own group.
    pub fn own_dir(&self) -> PathBuf {
        below(&self.mount, &self.own)
    }
}

/// `path` taken as below `root`, a leading `/` or not.
pub fn below(root: &Path, path: &str) -> PathBuf {
    match path.trim_matches('/') {
        "" => root.to_path_buf(),
        inner => root.join(inner),
    }
}

fn parse(mountinfo: &str, memberships: &str) -> Layout {
    let mounts: Vec<CgroupMount> = mountinfo.lines().filter_map(cgroup_mount).collect();
    let (mut legacy, mut unified) = (Vec::new(), None);
    for line in memberships.lines() {
        // `4:cpu,cpuacct:/user.slice`; v2 is `0::/user.slice`. A group's name may hold colons, so only two are counted.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let controllers: Vec<String> = controllers.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
        let v2 = controllers.is_empty();
        // The options of a v1 mount name its controllers among others (`xattr`, `release_agent=…`): this list says which are which.
        let mut fits =
            mounts.iter().filter(|mount| mount.v2 == v2 && controllers.iter().all(|name| mount.options.iter().any(|option| option == name)));
        // A hierarchy may be mounted more than once, in parts: the part that has our own group in it serves us best.
        let Some(mount) = fits.clone().find(|mount| mount.inner(path).is_some()).or_else(|| fits.next()) else { continue };
        let own = mount.inner(path).unwrap_or("/").to_string();
        let hierarchy = Hierarchy { mount: mount.point.clone(), own, controllers };
        if v2 { unified = Some(hierarchy) } else { legacy.push(hierarchy) }
    }
    match unified {
        Some(unified) if legacy.is_empty() => Layout::Unified(unified),
        Some(unified) => Layout::Hybrid { legacy, unified },
        None => Layout::Legacy(legacy),
    }
}

struct CgroupMount {
    v2: bool,
    /// Which directory of the file system is mounted: `/docker/1234…` inside a container of others.
    root: String,
    point: PathBuf,
    options: Vec<String>,
}

impl CgroupMount {
    /// The group `path` as seen below this mount; None when it is outside.
    fn inner<'a>(&self, path: &'a str) -> Option<&'a str> {
        match path.strip_prefix(self.root.trim_end_matches('/'))? {
            "" => Some("/"),
            // `/..` is what a process outside of our cgroup namespace has.
            inner if inner.starts_with('/') && !inner.split('/').any(|part| part == "..") => Some(inner),
            _ => None,
        }
    }
}

/// `41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw` (proc_pid_mountinfo(5)).
fn cgroup_mount(line: &str) -> Option<CgroupMount> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let v2 = match right.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let left: Vec<&str> = left.split(' ').collect();
    let options = right.nth(1).unwrap_or("").split(',').map(String::from).collect();
    Some(CgroupMount { v2, root: plain(left.get(3)?), point: PathBuf::from(plain(left.get(4)?)), options })
}

/// A field of mountinfo without its escapes: `\040` is a blank, `\134` a backslash.
fn plain(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut bytes = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[3..]);
            }
            None => bytes.extend_from_slice(part.as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_today_is_unified() {
        let layout = parse(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
            "0::/user.slice/user-1000.slice/session-2.scope\n",
        );
        let Layout::Unified(unified) = layout else { panic!("{layout:?}") };
        assert_eq!(unified.own_dir(), Path::new("/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope"));
    }

    #[test]
    fn controllers_mounted_together_share_one_hierarchy() {
        let layout = parse(
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n",
            "3:cpu,cpuacct:/a:b\n2:net_cls:/\n1:name=systemd:/init.scope\n0::/\n",
        );
        let Layout::Legacy(legacy) = layout else { panic!("{layout:?}") };
        assert_eq!(legacy.len(), 2, "net_cls has no mount, and the v2 line of a v1 host means nothing");
        assert_eq!(legacy[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(legacy[0].own, "/a:b");
        assert_eq!(legacy[1].controllers, ["name=systemd"]);
    }

    #[test]
    fn a_v2_tree_beside_v1_is_hybrid() {
        let layout =
            parse("35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n", "4:memory:/\n0::/\n");
        assert!(matches!(&layout, Layout::Hybrid { legacy, .. } if legacy.len() == 1), "{layout:?}");
    }

    #[test]
    fn the_root_of_a_partial_mount_is_cut_off_our_own_path() {
        let mounts = "9 1 0:1 /docker/abc /sys/fs/cgroup/memory\\040x ro - cgroup cgroup rw,memory\n";
        let layout = parse(mounts, "4:memory:/docker/abc/inner\n");
        assert_eq!(layout.legacy()[0].own_dir(), Path::new("/sys/fs/cgroup/memory x/inner"));
        assert_eq!(parse(mounts, "4:memory:/docker/abcd\n").legacy()[0].own, "/");
    }

    #[test]
    fn nothing_mounted_is_an_empty_layout() {
        assert_eq!(parse("27 1 254:0 / / rw - ext4 /dev/vda rw\n", "0::/\n"), Layout::Legacy(vec![]));
    }

    #[test]
    fn this_host_has_a_layout() {
        detect().unwrap();
    }
}
