//! cgroup v1: the same limits in the older form, each controller in a tree of its own.
//!
//! See it: `cat /sys/fs/cgroup/memory/onggi/web1/memory.limit_in_bytes`. Read: cgroups(7) ("Cgroups version 1"),
//! Documentation/admin-guide/cgroup-v1/{memory,cpusets,devices,blkio-controller,net_cls,net_prio}.rst,
//! Documentation/scheduler/{sched-bwc,sched-rt-group}.rst.

use std::path::Path;

use nix::errno::Errno;

use super::place::Place;
use super::settings::{Absent, Setting, number, set};
use super::v2::{Size, check_usage, checked_size, checked_weight, page_size, rdma_settings};
use crate::error::{Cause, Class, Error, Result};
use crate::runtime::spec::{BlockIo, Cpu, Memory, Resources};
use crate::sys::fs;

/// Writes the limits into the controllers' groups.
///
/// # Errors
/// See [`settings`]; Unsupported when a limit's controller isn't mounted; what the kernel says to a value.
pub fn apply(place: &Place, resources: &Resources, update: bool) -> Result<()> {
    let dir = |controller: &str| place.legacy.get(controller).map(|dir| dir.as_path());
    let now = |file: &str| std::fs::read_to_string(dir(controller_of(file))?.join(file)).ok().map(|text| text.trim().to_string());
    if let Some(memory) = &resources.memory {
        check_usage(memory, || number(dir("memory")?, "memory.usage_in_bytes"))?;
    }
    let settings = settings(resources, update, &now)?;
    let mut settings = settings.iter().peekable();
    while let Some(setting) = settings.next() {
        let controller = controller_of(&setting.file);
        let dir = dir(controller).ok_or_else(|| no_controller(setting, controller))?;
        match set(dir, setting) {
            // A share of CPU may not exceed the parent's at any moment: which of the two to write first depends on what is there.
            Err(e) if is_einval(&e) && setting.file == "cpu.cfs_period_us" && settings.peek().is_some_and(|s| s.file == "cpu.cfs_quota_us") => {
                settings.next().map_or(Ok(()), |quota| set(dir, quota))?;
                set(dir, setting)?;
            }
            answer => answer?,
        }
    }
    Ok(())
}

fn is_einval(error: &Error) -> bool {
    matches!(error.cause.as_deref(), Some(Cause::Sys(fact)) if fact.errno() == Errno::EINVAL)
}

fn controller_of(file: &str) -> &str {
    file.split('.').next().unwrap_or(file)
}

fn no_controller(setting: &Setting, controller: &str) -> Error {
    Error::new(
        Class::Unsupported,
        format!("set {} to {:?}", setting.file, setting.value),
        format!("no group of the v1 controller {controller:?} can be used"),
    )
    .hint("see `grep cgroup /proc/self/mountinfo` for what is mounted and /proc/cgroups for what the kernel has")
}

/// The files and values for a config, in the order in which they must be written.
///
/// # Errors
/// Invalid for values that contradict each other, Unsupported for `unified`.
pub fn settings(resources: &Resources, update: bool, now: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Setting>> {
    let mut list = Vec::new();
    if let Some(file) = resources.unified.keys().next() {
        let error = Error::new(Class::Unsupported, format!("set the cgroup file {file:?}"), "`unified` is for cgroup v2, and this host has v1");
        return Err(error.hint("boot it with systemd.unified_cgroup_hierarchy=1"));
    }
    if let Some(memory) = &resources.memory {
        memory_settings(memory, update, now, &mut list)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, now, &mut list)?;
    }
    if let Some(pids) = &resources.pids {
        match pids.limit {
            limit @ 1.. => list.push(Setting::new("pids.max", limit)),
            _ if update => list.push(Setting::new("pids.max", "max")),
            _ => {}
        }
    }
    if let Some(io) = &resources.block_io {
        io_settings(io, &mut list)?;
    }
    for huge in &resources.hugepage_limits {
        let size = page_size(&huge.page_size)?;
        list.push(Setting::new(format!("hugetlb.{size}.limit_in_bytes"), huge.limit));
        list.push(Setting::new(format!("hugetlb.{size}.rsvd.limit_in_bytes"), huge.limit).if_absent(Absent::Same));
    }
    list.extend(rdma_settings(resources));
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id.filter(|&class| class != 0) {
            list.push(Setting::new("net_cls.classid", class));
        }
        list.extend(network.priorities.iter().map(|one| Setting::new("net_prio.ifpriomap", format!("{} {}", one.name, one.priority))));
    }
    Ok(list)
}

/// v1 writes "no limit" as -1.
fn bytes(size: Size) -> i64 {
    match size {
        Size::Bytes(bytes) => bytes as i64,
        Size::Max => -1,
    }
}

fn memory_settings(memory: &Memory, update: bool, now: &dyn Fn(&str) -> Option<String>, list: &mut Vec<Setting>) -> Result<()> {
    if let Some(hierarchy) = memory.use_hierarchy
        && now("memory.use_hierarchy").is_none_or(|value| value != u8::from(hierarchy).to_string())
    {
        list.push(Setting::new("memory.use_hierarchy", u8::from(hierarchy)));
    }
    memory_and_swap(memory, now, list)?;
    let others = [
        ("memory.soft_limit_in_bytes", memory.reservation),
        ("memory.kmem.limit_in_bytes", memory.kernel),
        ("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp),
    ];
    for (file, value) in others {
        match checked_size(file, value)? {
            // A new group has no limits.
            Some(Size::Max) if !update => {}
            Some(size) => list.push(Setting::new(file, bytes(size))),
            None => {}
        }
    }
    match memory.swappiness {
        None | Some(u64::MAX) => {}
        Some(value @ 0..=100) => list.push(Setting::new("memory.swappiness", value)),
        Some(value) => return Err(Error::invalid(format!("set memory.swappiness to {value}"), "it goes from 0 to 100")),
    }
    match memory.disable_oom_killer {
        Some(true) => list.push(Setting::new("memory.oom_control", 1)),
        Some(false) if update => list.push(Setting::new("memory.oom_control", 0)),
        _ => {}
    }
    Ok(())
}

/// The kernel demands at every moment that memory and swap together (memsw) be at least memory: so of two new values the one that
/// makes room goes first.
fn memory_and_swap(memory: &Memory, now: &dyn Fn(&str) -> Option<String>, list: &mut Vec<Setting>) -> Result<()> {
    let limit = checked_size("memory.limit", memory.limit)?;
    let mut both = checked_size("memory.swap", memory.swap)?;
    if let (Some(limit), Some(sum)) = (limit, both)
        && (bytes(sum) as u64) < bytes(limit) as u64
    {
        let why = format!("it is memory and swap together, so it can't be below memory.limit, {limit}");
        return Err(Error::invalid(format!("set memory.swap to {sum}"), why));
    }
    if limit == Some(Size::Max) && both.is_none() {
        both = Some(Size::Max);
    }
    let limit = limit.map(|limit| Setting::new("memory.limit_in_bytes", bytes(limit)));
    let swap = both.map(|both| {
        let absent = if both == Size::Max { Absent::Same } else { Absent::Fail };
        Setting::new("memory.memsw.limit_in_bytes", bytes(both)).if_absent(absent)
    });
    let old_sum = now("memory.memsw.limit_in_bytes").and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX);
    // -1 as u64 is the greatest of all. A kernel says 9223372036854771712 for "no limit".
    let fits = memory.limit.is_none_or(|limit| limit as u64 <= old_sum || old_sum > i64::MAX as u64 / 2);
    let (first, second) = if fits { (limit, swap) } else { (swap, limit) };
    list.extend(first.into_iter().chain(second));
    Ok(())
}

fn cpu_settings(cpu: &Cpu, now: &dyn Fn(&str) -> Option<String>, list: &mut Vec<Setting>) -> Result<()> {
    let set_to = |value: Option<u64>| value.filter(|&value| value != 0);
    if let Some(period) = set_to(cpu.realtime_period) {
        list.push(Setting::new("cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|&runtime| runtime != 0) {
        list.push(Setting::new("cpu.rt_runtime_us", runtime));
    }
    // An idle group has no shares (EINVAL), so it is made busy before, or idle after, they are set.
    let idle = cpu.idle.map(|idle| Setting::new("cpu.idle", idle));
    if cpu.idle == Some(0) && now("cpu.idle").is_some_and(|value| value != "0") {
        list.extend(idle.clone());
    }
    match set_to(cpu.shares) {
        Some(shares @ (0..2 | 262_145..)) => return Err(Error::invalid(format!("set the CPU shares to {shares}"), "they go from 2 to 262144")),
        Some(shares) => list.push(Setting::new("cpu.shares", shares)),
        None => {}
    }
    if cpu.idle.is_some_and(|idle| idle != 0) {
        list.extend(idle);
    }
    if cpu.burst.is_some() && now("cpu.cfs_burst_us").is_some_and(|value| value != "0") {
        list.push(Setting::new("cpu.cfs_burst_us", 0));
    }
    if let Some(period) = set_to(cpu.period) {
        list.push(Setting::new("cpu.cfs_period_us", period));
    }
    if let Some(quota) = cpu.quota.filter(|&quota| quota != 0) {
        list.push(Setting::new("cpu.cfs_quota_us", quota.max(-1)));
    }
    if let Some(burst) = set_to(cpu.burst) {
        list.push(Setting::new("cpu.cfs_burst_us", burst));
    }
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            list.push(Setting::new(file, value));
        }
    }
    Ok(())
}

fn io_settings(io: &BlockIo, list: &mut Vec<Setting>) -> Result<()> {
    // CFQ, whose files had no name of their own, left the kernel in 5.0; BFQ came with its own.
    let weigh = |file: &str, prefix: &str, weight: u16| -> Result<Setting> {
        let value = format!("{prefix}{}", checked_weight(weight)?);
        let other = Setting::new(format!("blkio.{file}"), &value);
        Ok(Setting::new(format!("blkio.bfq.{file}"), value).if_absent(Absent::Instead(Box::new(other))))
    };
    if let Some(weight) = io.weight.filter(|&weight| weight != 0) {
        list.push(weigh("weight", "", weight)?);
    }
    if let Some(weight) = io.leaf_weight.filter(|&weight| weight != 0) {
        list.push(Setting::new("blkio.leaf_weight", checked_weight(weight)?));
    }
    for device in &io.weight_device {
        let prefix = format!("{}:{} ", device.major, device.minor);
        if let Some(weight) = device.weight.filter(|&weight| weight != 0) {
            list.push(weigh("weight_device", &prefix, weight)?);
        }
        if let Some(weight) = device.leaf_weight.filter(|&weight| weight != 0) {
            list.push(Setting::new("blkio.leaf_weight_device", format!("{prefix}{}", checked_weight(weight)?)));
        }
    }
    let throttles = [
        ("read_bps", &io.throttle_read_bps_device),
        ("write_bps", &io.throttle_write_bps_device),
        ("read_iops", &io.throttle_read_iops_device),
        ("write_iops", &io.throttle_write_iops_device),
    ];
    for (key, devices) in throttles {
        for device in devices {
            list.push(Setting::new(format!("blkio.throttle.{key}_device"), format!("{}:{} {}", device.major, device.minor, device.rate)));
        }
    }
    Ok(())
}

/// A new cpuset of v1 is empty, and no process may enter an empty one: it gets its parent's CPUs and memory nodes.
///
/// # Errors
/// EACCES, EINVAL when the parent is empty too.
pub fn inherit_cpuset(level: &Path) -> Result<()> {
    let Some(parent) = level.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_string();
        if read(level).is_empty() {
            let inherited = read(parent);
            fs::write(&level.join(file), &inherited)
                .map_err(|e| Error::sys(format!("give the new group {} its parent's {file}", level.display()), e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(resources: serde_json::Value, update: bool, old_memsw: Option<&str>) -> Vec<String> {
        let resources: Resources = serde_json::from_value(resources).unwrap();
        let now = |file: &str| old_memsw.filter(|_| file == "memory.memsw.limit_in_bytes").map(String::from);
        settings(&resources, update, &now).unwrap().into_iter().map(|s| format!("{} {}", s.file, s.value)).collect()
    }

    #[test]
    fn memory_and_swap_are_written_in_the_order_that_makes_room() {
        let memory = serde_json::json!({"memory": {"limit": 100, "swap": 200}});
        let (limit, sum) = ("memory.limit_in_bytes 100", "memory.memsw.limit_in_bytes 200");
        assert_eq!(written(memory.clone(), false, Some("9223372036854771712")), [limit, sum]);
        assert_eq!(written(memory.clone(), true, Some("150")), [limit, sum], "100 still fits below 150");
        assert_eq!(written(memory, true, Some("90")), [sum, limit], "raised: room first");
        let unlimited = serde_json::json!({"memory": {"limit": -1}});
        assert_eq!(written(unlimited, true, Some("90")), ["memory.memsw.limit_in_bytes -1", "memory.limit_in_bytes -1"]);
    }

    #[test]
    fn swap_below_memory_is_refused() {
        for memory in [serde_json::json!({"limit": 100, "swap": 99}), serde_json::json!({"limit": -1, "swap": 99})] {
            let resources = serde_json::from_value(serde_json::json!({ "memory": memory })).unwrap();
            assert_eq!(settings(&resources, false, &|_| None).unwrap_err().class, Class::Invalid);
        }
    }

    #[test]
    fn every_field_has_its_v1_file() {
        let all = serde_json::json!({
            "memory": {"reservation": 5, "kernel": 6, "kernelTCP": 7, "swappiness": 60, "disableOOMKiller": true, "useHierarchy": true},
            "cpu": {"shares": 512, "quota": 1000, "period": 2000, "burst": 10, "realtimeRuntime": 3, "realtimePeriod": 4, "cpus": "0", "mems": "0", "idle": 1},
            "pids": {"limit": 8},
            "blockIO": {"weight": 10, "leafWeight": 11, "weightDevice": [{"major": 8, "minor": 0, "weight": 12, "leafWeight": 13}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}], "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}], "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 9}],
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
            "rdma": {"mlx": {"hcaHandles": 1}}
        });
        insta::assert_snapshot!(written(all, false, None).join("\n"), @r"
        memory.use_hierarchy 1
        memory.soft_limit_in_bytes 5
        memory.kmem.limit_in_bytes 6
        memory.kmem.tcp.limit_in_bytes 7
        memory.swappiness 60
        memory.oom_control 1
        cpu.rt_period_us 4
        cpu.rt_runtime_us 3
        cpu.shares 512
        cpu.idle 1
        cpu.cfs_period_us 2000
        cpu.cfs_quota_us 1000
        cpu.cfs_burst_us 10
        cpuset.cpus 0
        cpuset.mems 0
        pids.max 8
        blkio.bfq.weight 10
        blkio.leaf_weight 11
        blkio.bfq.weight_device 8:0 12
        blkio.leaf_weight_device 8:0 13
        blkio.throttle.read_bps_device 8:0 1
        blkio.throttle.write_bps_device 8:0 2
        blkio.throttle.read_iops_device 8:0 3
        blkio.throttle.write_iops_device 8:0 4
        hugetlb.2MB.limit_in_bytes 9
        hugetlb.2MB.rsvd.limit_in_bytes 9
        rdma.max mlx hca_handle=1
        net_cls.classid 1048577
        net_prio.ifpriomap eth0 5
        ");
    }

    #[test]
    fn unified_is_refused_on_v1() {
        let resources = serde_json::from_value(serde_json::json!({"unified": {"memory.high": "1"}})).unwrap();
        assert_eq!(settings(&resources, false, &|_| None).unwrap_err().class, Class::Unsupported);
    }
}
