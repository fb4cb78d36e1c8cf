//! `linux.intelRdt`: a share of the processor's last-level cache and memory bandwidth, where the processor and kernel can give one.
//!
//! The kernel object is a folder again: a *control group* of the resctrl file system, with `schemata` (which cache ways, how much
//! bandwidth) and `tasks` (who). A folder in its `mon_groups` counts what its tasks use.
//!
//! See it: `cat /sys/fs/resctrl/CLOS/schemata`. Read: Documentation/filesystems/resctrl.rst, config-linux.md "IntelRdt".

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rootfs::unescape;
use super::spec::IntelRdt;
use crate::error::{Class, Doing, Error, Result};
use crate::sys::{Reason, because, fs};

static SHARE: Reason = Reason {
    id: "rdt.share",
    en: "a share of the cache and the memory bandwidth is a folder of resctrl",
    ko: "캐시와 메모리 대역폭의 몫은 resctrl의 폴더다",
    see: "cat /sys/fs/resctrl/*/schemata",
};

/// A container's folders, as state.json keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    dir: PathBuf,
    monitor: Option<PathBuf>,
    /// Whether the folder is ours to remove: not when `closID` named one that was there.
    ours: bool,
}

/// Decides on the folders; nothing is made yet.
///
/// # Errors
/// Unsupported where no resctrl is mounted, Invalid for a closID that is no name, NotFound for one without a schema that isn't there.
pub fn place(rdt: &IntelRdt, id: &str) -> Result<Group> {
    let table = fs::read("/proc/self/mountinfo".as_ref()).doing(|| "read the mount table".into())?;
    let line = table.lines().find(|line| line.contains(" - resctrl "));
    let mount = line.and_then(|line| line.split(' ').nth(4)).map(unescape).ok_or_else(|| {
        Error::new(Class::Unsupported, "apply linux.intelRdt", "no resctrl file system is mounted").hint("mount -t resctrl resctrl /sys/fs/resctrl")
    })?;
    let name = rdt.clos_id.as_deref().unwrap_or(id);
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(Error::invalid("use linux.intelRdt.closID", format!("{name:?} is no name of a folder")));
    }
    let dir = mount.join(name);
    let ours = !dir.exists();
    if ours && rdt.clos_id.is_some() && rdt.l3_cache_schema.is_none() && rdt.mem_bw_schema.is_none() {
        return Err(Error::new(
            Class::NotFound,
            "use linux.intelRdt.closID",
            format!("{} is not there, and no schema says what to make", dir.display()),
        ));
    }
    let monitored = rdt.enable_cmt == Some(true) || rdt.enable_mbm == Some(true);
    let monitor = monitored.then(|| dir.join("mon_groups").join(id));
    Ok(Group { dir, monitor, ours })
}

/// Makes the folders, writes the schemata and puts the process in.
///
/// # Errors
/// ENOSPC when the processor has no class left, EINVAL for a schema that it doesn't take.
pub fn apply(group: &Group, rdt: &IntelRdt, pid: i32) -> Result<()> {
    because(&SHARE);
    if group.ours {
        fs::mkdir(&group.dir, 0o755).doing(|| "make a resctrl group".into())?;
    }
    let lines = [("l3CacheSchema", &rdt.l3_cache_schema), ("memBwSchema", &rdt.mem_bw_schema)];
    for (name, schema) in lines.into_iter().filter_map(|(name, schema)| Some((name, schema.as_ref()?))) {
        fs::write(&group.dir.join("schemata"), &format!("{}\n", schema.trim_end())).doing(|| format!("apply linux.intelRdt.{name}"))?;
    }
    let join = |dir: &Path| fs::write(&dir.join("tasks"), &pid.to_string()).doing(|| "put the process into its resctrl group".into());
    join(&group.dir)?;
    if let Some(monitor) = &group.monitor {
        fs::mkdir(monitor, 0o755).doing(|| "make a resctrl monitoring group".into())?;
        join(monitor)?;
    }
    Ok(())
}

/// Removes what is ours. What is missing is fine.
pub fn remove(group: &Group) {
    if let Some(monitor) = &group.monitor {
        let _ = fs::rmdir(monitor);
    }
    if group.ours {
        let _ = fs::rmdir(&group.dir);
    }
}
