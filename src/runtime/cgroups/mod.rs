//! Control groups: how much of the machine a container may use, which devices it may open, and who belongs to it.
//!
//! A cgroup is a *directory* in a file system of the kernel's own; its processes and its limits are files in it. All that this room
//! does could be done with `mkdir`, `echo` and `cat`:
//!
//! ```text
//! mkdir /sys/fs/cgroup/onggi /sys/fs/cgroup/onggi/web1      tree      create, attach, remove
//! echo 64M >  …/web1/memory.max                             v2, v1    a config's limits as files and values
//! echo $PID > …/web1/cgroup.procs                           tree      (or born there: clone3 with CLONE_INTO_CGROUP)
//! echo 1 >    …/web1/cgroup.freeze                          life      freeze, kill all, who is there
//! cat         …/web1/memory.current                         stats     what it uses; oom: when memory ran out
//! ```
//!
//! `layout` finds out what the host has, `place` decides on the directory, `devices` and `filter` guard device nodes, and with
//! `--systemd-cgroup` `systemd` asks PID 1 for the directory over `dbus`.
//!
//! See it: `cat /proc/P/cgroup`, `ls /sys/fs/cgroup/onggi`, `systemd-cgls`. Read: cgroups(7),
//! Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/, the OCI specification's config-linux.md ("Control groups").

pub mod dbus;
pub mod devices;
pub mod filter;
pub mod layout;
pub mod life;
pub mod oom;
pub mod place;
pub mod settings;
pub mod stats;
pub mod systemd;
pub mod tree;
pub mod v1;
pub mod v2;

pub use devices::default_rules;
pub use layout::{Hierarchy, Layout, detect};
pub use life::{freeze, frozen, kill_all, processes};
pub use oom::{OomWatcher, oom_events};
pub use place::{Place, Request, place};
pub use stats::{Stats, stats};
pub use tree::{Created, attach, create, dir_fd, enter_legacy, exec_dir, foresee, remove};

use crate::error::{Class, Error, Result};
use crate::runtime::spec::{Cpu, Resources};
use crate::sys::{Reason, because};

static LIMIT: Reason = Reason {
    id: "cgroup.limit",
    en: "limits are files in the group's directory: what is written there holds for all its processes together",
    ko: "한도는 그룹 디렉터리 안의 파일입니다. 거기에 쓴 값이 그룹의 모든 프로세스에 함께 적용됩니다",
    see: "cat /proc/{P}/cgroup",
};

/// Writes every limit that `resources` asks for. With `update` the group lives already: halves of a pair that aren't named keep
/// their value (`cpu.max` has quota *and* period), and an empty device list leaves the devices as they are.
///
/// # Errors
/// Invalid for a value that makes no sense, Unsupported for a limit that this kernel or this kind of cgroup hasn't,
/// Conflict for a memory limit below what is in use, Denied.
pub fn apply(place: &Place, resources: &Resources, update: bool) -> Result<()> {
    if !asks(resources) {
        return Ok(());
    }
    because(&LIMIT);
    if place.unit.is_some() && update {
        systemd::set_properties(place, resources)?;
    }
    let (old, new) = split(place, resources);
    if !place.legacy.is_empty() {
        v1::apply(place, &old, update)?;
    }
    match &place.unified {
        Some(dir) => v2::apply(dir, &new, update)?,
        None if place.legacy.is_empty() && limits(resources) => return Err(no_cgroup()),
        None => {}
    }
    devices::apply(place, &resources.devices, update)
}

/// Whether this host counts swap apart: v1 can have it switched off (`swapaccount=0`), v2 always does.
pub fn counts_swap() -> bool {
    let Ok(layout) = detect() else { return false };
    let memory = layout.legacy().iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == "memory"));
    memory.map_or(layout.unified().is_some(), |hierarchy| hierarchy.mount.join("memory.memsw.limit_in_bytes").exists())
}

/// Whether there is anything in `resources` at all.
pub fn asks(resources: &Resources) -> bool {
    limits(resources) || !resources.devices.is_empty()
}

/// Whether `resources` limits something else than devices. (Every writer of config.json has device rules in it, so they alone are
/// no reason to refuse a rootless container that has no cgroup: it can't make device nodes anyway.)
pub fn limits(resources: &Resources) -> bool {
    let none = Resources { devices: resources.devices.clone(), ..Resources::default() };
    *resources != none && !(v2::settings(resources, &|_| None).is_ok_and(|settings| settings.is_empty()))
}

/// A host with both kinds has each controller in one of them: what goes to v1, and what to v2.
fn split(place: &Place, resources: &Resources) -> (Resources, Resources) {
    if place.legacy.is_empty() {
        return (Resources::default(), resources.clone());
    }
    let mut old = resources.clone();
    if place.unified.is_none() {
        return (old, Resources::default());
    }
    let offered = v2::offered(place);
    let is_new = |controller: &str| !place.legacy.contains_key(controller) && offered.contains(controller);
    let mut new = Resources { unified: std::mem::take(&mut old.unified), ..Resources::default() };
    if is_new("memory") {
        new.memory = old.memory.take();
    }
    if is_new("pids") {
        new.pids = old.pids.take();
    }
    if is_new("io") {
        new.block_io = old.block_io.take();
    }
    if is_new("hugetlb") {
        new.hugepage_limits = std::mem::take(&mut old.hugepage_limits);
    }
    if is_new("rdma") {
        new.rdma = std::mem::take(&mut old.rdma);
    }
    if let Some(cpu) = &mut old.cpu {
        // One section of the config, two controllers.
        let sets = Cpu { cpus: cpu.cpus.take(), mems: cpu.mems.take(), ..Cpu::default() };
        let rest = std::mem::take(cpu);
        let (mut for_old, mut for_new) = (Cpu::default(), Cpu::default());
        *(if is_new("cpu") { &mut for_new } else { &mut for_old }) = rest;
        let home = if is_new("cpuset") { &mut for_new } else { &mut for_old };
        (home.cpus, home.mems) = (sets.cpus, sets.mems);
        old.cpu = (for_old != Cpu::default()).then_some(for_old);
        new.cpu = (for_new != Cpu::default()).then_some(for_new);
    }
    (old, new)
}

pub(crate) fn no_cgroup() -> Error {
    Error::new(Class::Denied, "limit the container's resources", "there is no cgroup that this user may write to").hint(DELEGATION)
}

/// What to do when a user has no cgroup of their own.
pub(crate) const DELEGATION: &str = "run it in a group that systemd hands over to you: `systemd-run --user --scope -p Delegate=yes onggi …`; \
for all controllers, root sets `Delegate=yes` in a drop-in for user@.service (systemctl edit user@.service); `onggi book 03` tells more";

#[cfg(test)]
mod kernel_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::spec::{DeviceRule, Memory, Pids};
    use std::collections::BTreeMap;

    #[test]
    fn device_rules_and_unset_values_are_no_limits() {
        let mut resources = Resources { devices: vec![DeviceRule::default()], ..Resources::default() };
        assert!(!limits(&resources) && asks(&resources));
        resources.pids = Some(Pids { limit: 0 });
        resources.memory = Some(Memory { disable_oom_killer: Some(false), ..Memory::default() });
        assert!(!limits(&resources), "0 and false are what is there anyway");
        resources.pids = Some(Pids { limit: 9 });
        assert!(limits(&resources));
    }

    #[test]
    fn what_v2_would_refuse_is_still_a_limit() {
        let memory = Memory { swappiness: Some(3), ..Memory::default() };
        assert!(limits(&Resources { memory: Some(memory), ..Resources::default() }));
    }

    #[test]
    fn a_host_with_v1_alone_keeps_everything_there() {
        let place = Place { legacy: BTreeMap::from([("cpu".into(), "/nowhere".into())]), ..Place::default() };
        let resources = Resources { pids: Some(Pids { limit: 9 }), ..Resources::default() };
        assert_eq!(split(&place, &resources), (resources.clone(), Resources::default()));
    }
}
