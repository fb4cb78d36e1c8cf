//! cgroup v2: a config's limits as files and values, and the controllers that must be handed down to a group before it has these
//! files.
//!
//! A group has the files of a controller when its *parent* names the controller in `cgroup.subtree_control`; and a parent with
//! processes of its own may not (but for the root). So controllers are handed down level by level, and processes live in leaves.
//!
//! See it: `cat /sys/fs/cgroup/onggi/web1/{cgroup.controllers,memory.max,cpu.max,pids.max}`.
//! Read: cgroup-v2.rst ("Controllers", "No Internal Process Constraint", "Threads"), config-linux.md ("Control groups").

use std::collections::BTreeSet;
use std::path::Path;

use nix::errno::Errno;

use super::place::Place;
use super::settings::{Absent, Setting, number, set};
use crate::error::{Class, Error, Result, SysError};
use crate::runtime::spec::{BlockIo, Cpu, Memory, Resources};
use crate::sys::fs;

/// Writes the limits into the group `dir`.
///
/// # Errors
/// See [`settings`], and what the kernel says to a value.
pub fn apply(dir: &Path, resources: &Resources, update: bool) -> Result<()> {
    let now = |file: &str| std::fs::read_to_string(dir.join(file)).ok().map(|text| text.trim().to_string());
    let settings = settings(resources, if update { &now } else { &|_| None })?;
    if let Some(memory) = &resources.memory {
        check_usage(memory, || number(dir, "memory.current"))?;
    }
    settings.iter().try_for_each(|setting| set(dir, setting))
}

/// `checkBeforeUpdate`: rather refuse a limit than have the kernel kill for it.
pub(super) fn check_usage(memory: &Memory, usage: impl Fn() -> Option<u64>) -> Result<()> {
    let (Some(true), Some(limit @ 1..)) = (memory.check_before_update, memory.limit) else { return Ok(()) };
    match usage() {
        Some(used) if used > limit as u64 => {
            let why = format!("{used} bytes are in use");
            Err(Error::new(Class::Conflict, format!("set the memory limit to {limit}"), why).hint("checkBeforeUpdate asks to refuse such a limit"))
        }
        _ => Ok(()),
    }
}

/// The controllers that must be there for these limits.
pub fn needed(resources: &Resources) -> Result<BTreeSet<String>> {
    Ok(settings(resources, &|_| None)?.iter().filter(|s| s.absent != Absent::Same).filter_map(|s| Some(s.controller()?.to_string())).collect())
}

/// The controllers that the v2 tree of `place` has to give.
pub fn offered(place: &Place) -> BTreeSet<String> {
    let top = place.unified.as_ref().and_then(|dir| place.levels(dir).first()?.parent().map(Path::to_path_buf));
    let list = top.and_then(|top| std::fs::read_to_string(top.join("cgroup.controllers")).ok()).unwrap_or_default();
    list.split_whitespace().map(String::from).collect()
}

/// The files and values for a config, in the order in which they must be written. `now` reads a file of the living group when
/// there is one: a pair of which the config names one half keeps the other.
///
/// # Errors
/// Invalid for values that contradict each other, Unsupported for limits that only cgroup v1 has.
pub fn settings(resources: &Resources, now: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Setting>> {
    let mut list = Vec::new();
    if let Some(memory) = &resources.memory {
        memory_settings(memory, now, &mut list)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, now, &mut list)?;
    }
    if let Some(pids) = &resources.pids {
        match pids.limit {
            limit @ 1.. => list.push(Setting::new("pids.max", limit)),
            // A new group has no limit, so there is only something to take back when it lives.
            _ if now("pids.max").is_some_and(|value| value != "max") => list.push(Setting::new("pids.max", "max")),
            _ => {}
        }
    }
    if let Some(io) = &resources.block_io {
        io_settings(io, &mut list)?;
    }
    for huge in &resources.hugepage_limits {
        let size = page_size(&huge.page_size)?;
        list.push(Setting::new(format!("hugetlb.{size}.max"), huge.limit));
        // Pages that are only reserved count by another file, where the kernel has it (Linux 5.7).
        list.push(Setting::new(format!("hugetlb.{size}.rsvd.max"), huge.limit).if_absent(Absent::Same));
    }
    list.extend(rdma_settings(resources));
    if let Some(network) = &resources.network
        && (network.class_id.is_some_and(|id| id != 0) || !network.priorities.is_empty())
    {
        return Err(only_v1("network (classID, priorities)", "cgroup v2 has no net_cls and net_prio; mark packets with nftables' `socket cgroupv2`"));
    }
    for (file, value) in &resources.unified {
        unified_settings(file, value, &mut list)?;
    }
    Ok(list)
}

fn only_v1(what: &str, hint: &str) -> Error {
    Error::new(Class::Unsupported, format!("set the limit {what}"), "cgroup v2 has nothing like it").hint(hint)
}

fn memory_settings(memory: &Memory, now: &dyn Fn(&str) -> Option<String>, list: &mut Vec<Setting>) -> Result<()> {
    if memory.kernel.is_some_and(|limit| limit > 0) || memory.kernel_tcp.is_some_and(|limit| limit > 0) {
        return Err(only_v1("memory.kernel", "kernel memory counts in memory.limit there"));
    }
    // Old writers say -1 for "not set", which is this number in an unsigned field.
    if memory.swappiness.is_some_and(|value| value != u64::MAX) {
        return Err(only_v1("memory.swappiness", "the host has one for all: `sysctl vm.swappiness`"));
    }
    if memory.disable_oom_killer == Some(true) {
        return Err(only_v1("memory.disableOOMKiller", "in v2 the kernel slows a group down at memory.high, and kills at memory.max"));
    }
    if memory.use_hierarchy == Some(false) {
        return Err(only_v1("memory.useHierarchy = false", "a group of v2 always counts its children's memory"));
    }
    let limit = checked_size("memory.limit", memory.limit)?;
    if let Some(low) = checked_size("memory.reservation", memory.reservation)? {
        list.push(Setting::new("memory.low", low));
    }
    if let Some(swap) = swap_alone(memory, limit, now)? {
        // Without a swap file in the kernel's build there is nothing to limit: none and any amount are the same then.
        let absent = if matches!(swap, Size::Max | Size::Bytes(0)) { Absent::Same } else { Absent::Fail };
        list.push(Setting::new("memory.swap.max", swap).if_absent(absent));
    }
    if let Some(limit) = limit {
        list.push(Setting::new("memory.max", limit));
    }
    Ok(())
}

/// A size as v2's files write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Bytes(u64),
    Max,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Size::Bytes(bytes) => write!(f, "{bytes}"),
            Size::Max => write!(f, "max"),
        }
    }
}

/// -1 is no limit, 0 is not set.
pub(super) fn checked_size(name: &str, value: Option<i64>) -> Result<Option<Size>> {
    match value {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(Size::Max)),
        Some(bytes @ 1..) => Ok(Some(Size::Bytes(bytes as u64))),
        Some(other) => Err(Error::invalid(format!("set {name} to {other}"), "a size is a number of bytes, or -1 for no limit")),
    }
}

/// OCI's `swap` is memory and swap together, as v1 counted; v2 counts swap alone.
fn swap_alone(memory: &Memory, limit: Option<Size>, now: &dyn Fn(&str) -> Option<String>) -> Result<Option<Size>> {
    let Some(both) = checked_size("memory.swap", memory.swap)? else {
        // No limit on memory and no word on swap: no limit on either, as v1 would do.
        return Ok((limit == Some(Size::Max)).then_some(Size::Max));
    };
    let Size::Bytes(both) = both else { return Ok(Some(Size::Max)) };
    let limit = limit.or_else(|| now("memory.max").and_then(|text| text.parse().ok()).map(Size::Bytes));
    match limit {
        Some(Size::Bytes(limit)) if both >= limit => Ok(Some(Size::Bytes(both - limit))),
        Some(Size::Bytes(limit)) => Err(Error::invalid(
            format!("set memory.swap to {both}"),
            format!("it is memory and swap together, so it can't be below memory.limit, {limit}"),
        )),
        _ => Err(Error::invalid(format!("set memory.swap to {both}"), "it is memory and swap together, so it needs a memory.limit")),
    }
}

fn cpu_settings(cpu: &Cpu, now: &dyn Fn(&str) -> Option<String>, list: &mut Vec<Setting>) -> Result<()> {
    if cpu.realtime_runtime.is_some_and(|time| time != 0) || cpu.realtime_period.is_some_and(|time| time != 0) {
        return Err(only_v1("cpu.realtimeRuntime", "cgroup v2 does not ration real-time processes"));
    }
    // An idle group has no weight (EINVAL), so it is made busy before, or idle after, the weight is set.
    let idle = cpu.idle.map(|idle| Setting::new("cpu.idle", idle));
    if cpu.idle == Some(0) && now("cpu.idle").is_some_and(|value| value != "0") {
        list.extend(idle.clone());
    }
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        list.push(Setting::new("cpu.weight", weight_of_shares(shares)));
    }
    if cpu.idle.is_some_and(|idle| idle != 0) {
        list.extend(idle);
    }
    cpu_max(cpu, now, list);
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            list.push(Setting::new(file, value));
        }
    }
    Ok(())
}

/// `cpu.max` is `QUOTA PERIOD` in microseconds; quota may be `max`.
fn cpu_max(cpu: &Cpu, now: &dyn Fn(&str) -> Option<String>, list: &mut Vec<Setting>) {
    let (quota, period) = (cpu.quota.filter(|&quota| quota != 0), cpu.period.filter(|&period| period != 0));
    if cpu.burst.is_some() && now("cpu.max.burst").is_some_and(|value| value != "0") {
        // The old burst could be above the new quota, which EINVAL forbids.
        list.push(Setting::new("cpu.max.burst", 0));
    }
    if quota.is_some() || period.is_some() {
        let old = now("cpu.max").unwrap_or_else(|| "max 100000".into());
        let (old_quota, old_period) = old.split_once(' ').unwrap_or(("max", "100000"));
        let quota = match quota {
            None => old_quota.to_string(),
            Some(quota @ 1..) => quota.to_string(),
            Some(_) => "max".into(),
        };
        let period = period.map_or(old_period.to_string(), |period| period.to_string());
        list.push(Setting::new("cpu.max", format!("{quota} {period}")));
    }
    if let Some(burst) = cpu.burst.filter(|&burst| burst != 0) {
        list.push(Setting::new("cpu.max.burst", burst));
    }
}

/// v1's shares (2 to 262144, default 1024) as v2's weight (1 to 10000, default 100): a straight line between the ends, as runc
/// and crun have it (1024 becomes 39). What counts is the proportion between neighbours, and they are converted alike.
pub fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// OCI's block weight (10 to 1000) as v2's io.weight (1 to 10000).
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

pub(super) fn checked_weight(weight: u16) -> Result<u16> {
    match weight {
        10..=1000 => Ok(weight),
        _ => Err(Error::invalid(format!("set the block I/O weight to {weight}"), "it goes from 10 to 1000")),
    }
}

fn io_settings(io: &BlockIo, list: &mut Vec<Setting>) -> Result<()> {
    let leaf = io.leaf_weight.into_iter().chain(io.weight_device.iter().filter_map(|device| device.leaf_weight));
    if leaf.into_iter().any(|weight| weight != 0) {
        return Err(only_v1("blockIO.leafWeight", "in v2 processes are only in leaves, so a leaf's weight is the group's"));
    }
    // Two schedulers share a disk by weight: BFQ with its own file and scale, and io.cost with io.weight.
    let weigh = |prefix: &str, weight: u16| -> Result<Setting> {
        let weight = checked_weight(weight)?;
        let other = Setting::new("io.weight", format!("{prefix}{}", io_weight(weight)));
        Ok(Setting::new("io.bfq.weight", format!("{prefix}{weight}")).if_absent(Absent::Instead(Box::new(other))))
    };
    if let Some(weight) = io.weight.filter(|&weight| weight != 0) {
        list.push(weigh("", weight)?);
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight.filter(|&weight| weight != 0) {
            list.push(weigh(&format!("{}:{} ", device.major, device.minor), weight)?);
        }
    }
    let throttles = [
        ("rbps", &io.throttle_read_bps_device),
        ("wbps", &io.throttle_write_bps_device),
        ("riops", &io.throttle_read_iops_device),
        ("wiops", &io.throttle_write_iops_device),
    ];
    for (key, devices) in throttles {
        for device in devices {
            let rate = if device.rate == 0 { Size::Max } else { Size::Bytes(device.rate) };
            list.push(Setting::new("io.max", format!("{}:{} {key}={rate}", device.major, device.minor)));
        }
    }
    Ok(())
}

/// `2MB`, as in the names of the kernel's files.
pub(super) fn page_size(size: &str) -> Result<&str> {
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && matches!(&size[digits.len()..], "KB" | "MB" | "GB") {
        return Ok(size);
    }
    Err(Error::invalid(format!("limit huge pages of size {size:?}"), "a page size is written like 64KB, 2MB or 1GB"))
}

/// The same file in v1 and v2.
pub(super) fn rdma_settings(resources: &Resources) -> Vec<Setting> {
    let mut list = Vec::new();
    for (device, limit) in &resources.rdma {
        let parts = [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)];
        let words: Vec<String> = parts.iter().filter_map(|(key, value)| Some(format!("{key}={}", (*value)?))).collect();
        if !words.is_empty() {
            list.push(Setting::new("rdma.max", format!("{device} {}", words.join(" "))));
        }
    }
    list
}

/// `unified`: any file of the group by its name.
fn unified_settings(file: &str, value: &str, list: &mut Vec<Setting>) -> Result<()> {
    if file.is_empty() || file.contains('/') || file.starts_with("..") || file == "." {
        return Err(Error::invalid(format!("set the cgroup file {file:?}"), "`unified` takes the names of files in the group's own directory"));
    }
    // Files such as io.max take one line in one write.
    match value.trim_end_matches('\n') {
        lines if lines.contains('\n') => list.extend(lines.lines().filter(|line| !line.is_empty()).map(|line| Setting::new(file, line))),
        line => list.push(Setting::new(file, line)),
    }
    Ok(())
}

/// Hands the controllers down to the group `dir`: `needed` without fail, and the usual others where they can be had, because
/// `stats` reads them.
///
/// # Errors
/// Unsupported when a needed controller isn't there, Conflict when a parent has processes of its own.
pub fn hand_down(place: &Place, dir: &Path, needed: &BTreeSet<String>) -> Result<()> {
    const USUAL: [&str; 8] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc"];
    for parent in place.levels(dir).iter().filter_map(|level| level.parent()) {
        let words = |file: &str| -> BTreeSet<String> {
            std::fs::read_to_string(parent.join(file)).unwrap_or_default().split_whitespace().map(String::from).collect()
        };
        let (offered, given) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
        if let Some(lacking) = needed.iter().find(|name| !offered.contains(*name)) {
            return Err(lacks(parent, lacking, &offered));
        }
        let missing: Vec<&String> = offered.difference(&given).filter(|name| USUAL.contains(&name.as_str()) || needed.contains(*name)).collect();
        if !missing.is_empty() && divides_no_more(parent) {
            match missing.into_iter().find(|name| needed.contains(*name)) {
                Some(name) => return Err(populated(parent, name)),
                None => continue,
            }
        }
        let file = parent.join("cgroup.subtree_control");
        let all = missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
        if missing.is_empty() || fs::write(&file, &all).is_ok() {
            continue;
        }
        // The write is all or nothing, and one controller alone may be the culprit.
        for name in missing {
            match fs::write(&file, &format!("+{name}")) {
                Err(e) if needed.contains(name) => return Err(not_handed_down(parent, name, e)),
                _ => {}
            }
        }
    }
    Ok(())
}

fn lacks(parent: &Path, controller: &str, offered: &BTreeSet<String>) -> Error {
    let offered = offered.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let why = format!("{} has only these: {offered}", parent.join("cgroup.controllers").display());
    Error::new(Class::Unsupported, format!("use the cgroup controller {controller:?}"), why)
        .hint(format!("it is missing in the kernel, mounted as v1 (see /proc/cgroups), or not delegated; {}", super::DELEGATION))
}

/// Whether processes in `parent` forbid it to hand controllers down. The kernel would answer EBUSY for most; the few that work on
/// threads it would hand down, and make the whole group a threaded one by the way, which nobody asked for. The root may do both.
fn divides_no_more(parent: &Path) -> bool {
    let populated = || std::fs::read_to_string(parent.join("cgroup.procs")).is_ok_and(|pids| !pids.trim().is_empty());
    kind(parent).as_deref() == Some("domain") && populated()
}

fn populated(parent: &Path, controller: &str) -> Error {
    let pids = std::fs::read_to_string(parent.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<&str> = pids.split_whitespace().take(5).collect();
    let why = format!("that group has processes of its own: {}", pids.join(", "));
    Error::new(Class::Conflict, format!("hand the controller {controller:?} down from {}", parent.display()), why)
        .hint("a v2 group has processes or gives controllers to children, not both; choose another cgroupsPath")
}

fn not_handed_down(parent: &Path, controller: &str, fact: SysError) -> Error {
    let errno = fact.errno();
    let error = Error::sys(format!("hand the controller {controller:?} down from {}", parent.display()), fact);
    match errno {
        Errno::EBUSY => populated(parent, controller),
        Errno::EOPNOTSUPP | Errno::EINVAL if kind(parent).is_some_and(|kind| kind != "domain") => {
            error.class(Class::Unsupported).hint("that group is threaded, and only cpu, cpuset, pids and perf_event work on threads")
        }
        Errno::EPERM | Errno::EACCES => error.hint(super::DELEGATION),
        _ => error,
    }
}

/// `domain`, `threaded`, `domain threaded` or `domain invalid`; None at the root.
fn kind(dir: &Path) -> Option<String> {
    std::fs::read_to_string(dir.join("cgroup.type")).ok().map(|text| text.trim().to_string())
}

/// Makes a new group able to hold processes: below a threaded parent it is born `domain invalid` and must become threaded itself.
///
/// # Errors
/// Unsupported when a needed controller doesn't work on threads.
pub fn settle_type(dir: &Path, needed: &BTreeSet<String>) -> Result<()> {
    if kind(dir).as_deref() != Some("domain invalid") {
        return Ok(());
    }
    if let Some(name) = needed.iter().find(|name| !["cpu", "cpuset", "pids", "perf_event"].contains(&name.as_str())) {
        let why = format!("{} is below a threaded group, where {name} does not work", dir.display());
        return Err(
            Error::new(Class::Unsupported, format!("use the cgroup controller {name:?}"), why).hint("choose a cgroupsPath below a domain group")
        );
    }
    set(dir, &Setting::new("cgroup.type", "threaded"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    fn written(resources: serde_json::Value) -> Vec<String> {
        let resources: Resources = serde_json::from_value(resources).unwrap();
        settings(&resources, &|_| None).unwrap().into_iter().map(|s| format!("{} {}", s.file, s.value)).collect()
    }

    fn refused(resources: serde_json::Value) -> Class {
        let resources: Resources = serde_json::from_value(resources).unwrap();
        settings(&resources, &|_| None).unwrap_err().class
    }

    #[test]
    fn swap_is_written_without_the_memory_that_oci_counts_in() {
        let memory = serde_json::json!({"memory": {"limit": 100, "swap": 300, "reservation": 50}});
        assert_eq!(written(memory), ["memory.low 50", "memory.swap.max 200", "memory.max 100"]);
        assert_eq!(written(serde_json::json!({"memory": {"limit": 100, "swap": 100}})), ["memory.swap.max 0", "memory.max 100"]);
        assert_eq!(written(serde_json::json!({"memory": {"limit": 100, "swap": -1}})), ["memory.swap.max max", "memory.max 100"]);
        assert_eq!(written(serde_json::json!({"memory": {"limit": -1}})), ["memory.swap.max max", "memory.max max"]);
        assert_eq!(refused(serde_json::json!({"memory": {"limit": 100, "swap": 99}})), Class::Invalid);
        assert_eq!(refused(serde_json::json!({"memory": {"swap": 99}})), Class::Invalid);
    }

    #[test]
    fn an_update_of_one_half_keeps_the_other() {
        let now = |file: &str| match file {
            "memory.max" => Some("100".into()),
            "cpu.max" => Some("5000 20000".into()),
            _ => None,
        };
        let one = |json| settings(&serde_json::from_value(json).unwrap(), &now).unwrap().pop().unwrap().value;
        assert_eq!(one(serde_json::json!({"memory": {"swap": 150}})), "50");
        assert_eq!(one(serde_json::json!({"cpu": {"quota": 7000}})), "7000 20000");
        assert_eq!(one(serde_json::json!({"cpu": {"period": 30000}})), "5000 30000");
        assert_eq!(one(serde_json::json!({"cpu": {"quota": -1}})), "max 20000");
    }

    #[test]
    fn cpu_limits_become_v2_files() {
        let cpu = serde_json::json!({"cpu": {"shares": 1024, "quota": 50000, "burst": 1000, "cpus": "0-1", "mems": "0", "idle": 1}});
        assert_eq!(written(cpu), ["cpu.weight 39", "cpu.idle 1", "cpu.max 50000 100000", "cpu.max.burst 1000", "cpuset.cpus 0-1", "cpuset.mems 0"]);
    }

    #[test]
    fn weights_keep_their_ends() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight_of_shares), [1, 1, 39, 10000, 10000]);
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10000]);
        assert!(checked_weight(9).is_err() && checked_weight(1001).is_err());
    }

    #[test]
    fn block_io_prefers_bfq_and_knows_the_way_without() {
        let io = serde_json::json!({"blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}});
        let list = settings(&serde_json::from_value(io).unwrap(), &|_| None).unwrap();
        assert_eq!((list[0].file.as_str(), list[0].value.as_str()), ("io.bfq.weight", "500"));
        assert_eq!(list[0].absent, Absent::Instead(Box::new(Setting::new("io.weight", 4950))));
        assert_eq!(list[1], Setting::new("io.max", "8:0 rbps=1024"));
        assert_eq!(list[2], Setting::new("io.max", "8:16 wiops=max"));
    }

    #[test]
    fn huge_pages_rdma_and_pids_have_their_files() {
        let rest = serde_json::json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}], "pids": {"limit": 7},
            "rdma": {"mlx4_0": {"hcaHandles": 3, "hcaObjects": 10}}});
        let expected = ["pids.max 7", "hugetlb.2MB.max 4194304", "hugetlb.2MB.rsvd.max 4194304", "rdma.max mlx4_0 hca_handle=3 hca_object=10"];
        assert_eq!(written(rest), expected);
        assert_eq!(refused(serde_json::json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]})), Class::Invalid);
    }

    #[test]
    fn what_only_v1_can_is_refused_and_its_unset_values_are_not() {
        for json in [
            serde_json::json!({"memory": {"swappiness": 0}}),
            serde_json::json!({"memory": {"disableOOMKiller": true}}),
            serde_json::json!({"memory": {"kernel": 1}}),
            serde_json::json!({"memory": {"kernelTCP": 1}}),
            serde_json::json!({"memory": {"useHierarchy": false}}),
            serde_json::json!({"cpu": {"realtimeRuntime": 1}}),
            serde_json::json!({"blockIO": {"leafWeight": 10}}),
            serde_json::json!({"network": {"classID": 1}}),
            serde_json::json!({"network": {"priorities": [{"name": "eth0", "priority": 1}]}}),
        ] {
            assert_eq!(refused(json.clone()), Class::Unsupported, "{json}");
        }
        let unset = serde_json::json!({"memory": {"limit": 0, "kernel": -1, "disableOOMKiller": false}, "cpu": {"shares": 0, "realtimePeriod": 0, "cpus": ""},
            "blockIO": {"weight": 0}, "network": {"classID": 0}, "pids": {"limit": -1}});
        assert!(written(unset).is_empty());
    }

    #[test]
    fn unified_takes_file_names_only_and_writes_line_by_line() {
        assert_eq!(written(serde_json::json!({"unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2\n"}})), ["io.max 8:0 rbps=1", "io.max 8:16 rbps=2"]);
        for name in ["../memory.max", "a/b", "", ".."] {
            assert_eq!(refused(serde_json::json!({"unified": {name: "1"}})), Class::Invalid, "{name}");
        }
    }

    #[test]
    fn the_needed_controllers_follow_from_the_files() {
        let resources = serde_json::json!({"memory": {"limit": 1}, "cpu": {"cpus": "0"}, "unified": {"cgroup.max.depth": "3"}});
        let names: Vec<String> = needed(&serde_json::from_value(resources).unwrap()).unwrap().into_iter().collect();
        assert_eq!(names, ["cpuset", "memory"]);
    }

    #[test]
    fn a_limit_below_use_is_refused_when_asked_to() {
        let memory = Memory { limit: Some(100), check_before_update: Some(true), ..Memory::default() };
        assert_eq!(check_usage(&memory, || Some(101)).unwrap_err().class, Class::Conflict);
        assert!(check_usage(&memory, || Some(100)).is_ok());
    }
}
