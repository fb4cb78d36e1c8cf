//! What a container uses, from its cgroup's files, in the form of runc's `events --stats` (so that cAdvisor and others can read it).
//!
//! See it: `cat /sys/fs/cgroup/onggi/web1/{cpu.stat,memory.current,memory.stat,io.stat,pids.current}`; `onggi-runtime events --stats`.
//! Read: cgroup-v2.rst ("Interface Files"), cgroup-v1/{cpuacct,memory,blkio-controller}.rst, runc-events(8), Documentation/accounting/psi.rst.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::place::Place;
use super::settings::number;

/// One event line of `events`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event<'a> {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    pub id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a Stats>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub cpu: CpuStats,
    pub cpuset: CpusetStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    pub blkio: BlkioStats,
    /// By page size, `2MB`.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    pub intel_rdt: serde_json::Map<String, serde_json::Value>,
    /// The runtime knows no networks.
    pub network_interfaces: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Nanoseconds.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpusetStats {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Bytes. "No limit" is what the kernel says: 18446744073709551615 on v2, 9223372036854771712 on v1.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryEntry {
    pub limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    pub usage: MemoryEntry,
    /// Memory and swap together, as v1 counts.
    pub swap: MemoryEntry,
    pub kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlkioStats {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HugetlbStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

/// How long processes waited for a resource (psi.rst): `some` of them, or all that had work (`full`).
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    pub some: PressureLine,
    pub full: PressureLine,
}

/// Percent over 10, 60 and 300 seconds; microseconds in all.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What the container uses now. A file that isn't there counts as zero: not every host has every controller.
pub fn stats(place: &Place) -> Stats {
    let mut stats = Stats::default();
    if let Some(dir) = &place.unified {
        read_v2(dir, &mut stats);
    }
    for (controller, dir) in &place.legacy {
        read_v1(controller, dir, &mut stats);
    }
    stats
}

fn read_v2(dir: &Path, stats: &mut Stats) {
    let cpu = pairs(dir, "cpu.stat");
    let microseconds = |key: &str| cpu.get(key).copied().unwrap_or(0) * 1000;
    stats.cpu.usage =
        CpuUsage { total: microseconds("usage_usec"), user: microseconds("user_usec"), kernel: microseconds("system_usec"), ..CpuUsage::default() };
    stats.cpu.throttling = throttling(&cpu, microseconds("throttled_usec"));
    stats.cpu.psi = pressure(dir, "cpu.pressure");
    stats.cpuset.cpus = list(dir, "cpuset.cpus.effective");
    stats.cpuset.mems = list(dir, "cpuset.mems.effective");
    stats.memory = memory_v2(dir);
    stats.pids = pids(dir);
    stats.blkio = blkio_v2(&std::fs::read_to_string(dir.join("io.stat")).unwrap_or_default());
    stats.blkio.psi = pressure(dir, "io.pressure");
    for size in huge_sizes(dir) {
        let file = |end: &str| format!("hugetlb.{size}.{end}");
        let failcnt = pairs(dir, &file("events")).get("max").copied().unwrap_or(0);
        let entry = HugetlbStats { usage: number(dir, &file("current")).unwrap_or(0), max: 0, failcnt };
        stats.hugetlb.insert(size, entry);
    }
}

fn memory_v2(dir: &Path) -> MemoryStats {
    let raw = pairs(dir, "memory.stat");
    let at = |file: &str| number(dir, file).unwrap_or(0);
    let failed = |file: &str| pairs(dir, file).get("max").copied().unwrap_or(0);
    let usage = MemoryEntry { limit: at("memory.max"), usage: at("memory.current"), max: at("memory.peak"), failcnt: failed("memory.events") };
    // Readers of this format expect swap with memory in it; saturating, because "no limit" is the largest number.
    let swap = MemoryEntry {
        limit: at("memory.swap.max").saturating_add(usage.limit),
        usage: at("memory.swap.current").saturating_add(usage.usage),
        max: 0,
        failcnt: failed("memory.swap.events"),
    };
    let kernel = MemoryEntry { usage: raw.get("kernel").or(raw.get("kernel_stack")).copied().unwrap_or(0), ..MemoryEntry::default() };
    let cache = raw.get("file").copied().unwrap_or(0);
    MemoryStats { cache, usage, swap, kernel, kernel_tcp: MemoryEntry::default(), psi: pressure(dir, "memory.pressure"), raw }
}

fn pids(dir: &Path) -> PidsStats {
    PidsStats { current: number(dir, "pids.current").unwrap_or(0), limit: number(dir, "pids.max").filter(|&max| max != u64::MAX).unwrap_or(0) }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn blkio_v2(text: &str) -> BlkioStats {
    let mut blkio = BlkioStats::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "dbytes" => (&mut blkio.io_service_bytes_recursive, "Discard"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                "dios" => (&mut blkio.io_serviced_recursive, "Discard"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.into(), value: value.parse().unwrap_or(0) });
        }
    }
    blkio
}

fn read_v1(controller: &str, dir: &Path, stats: &mut Stats) {
    let at = |file: &str| number(dir, file).unwrap_or(0);
    match controller {
        "cpu" => {
            let cpu = pairs(dir, "cpu.stat");
            stats.cpu.throttling = throttling(&cpu, cpu.get("throttled_time").copied().unwrap_or(0));
        }
        "cpuacct" => stats.cpu.usage = cpu_usage_v1(dir),
        "cpuset" => stats.cpuset = cpuset_v1(dir),
        "memory" => {
            let raw = pairs(dir, "memory.stat");
            let entry = |name: &str| MemoryEntry {
                limit: at(&format!("memory.{name}limit_in_bytes")),
                usage: at(&format!("memory.{name}usage_in_bytes")),
                max: at(&format!("memory.{name}max_usage_in_bytes")),
                failcnt: at(&format!("memory.{name}failcnt")),
            };
            let cache = raw.get("cache").copied().unwrap_or(0);
            let (usage, swap, kernel, kernel_tcp) = (entry(""), entry("memsw."), entry("kmem."), entry("kmem.tcp."));
            stats.memory = MemoryStats { cache, usage, swap, kernel, kernel_tcp, raw, psi: None };
        }
        "pids" => stats.pids = pids(dir),
        "blkio" => stats.blkio = blkio_v1(dir),
        "hugetlb" => {
            for size in huge_sizes(dir) {
                let file = |end: &str| at(&format!("hugetlb.{size}.{end}"));
                let entry = HugetlbStats { usage: file("usage_in_bytes"), max: file("max_usage_in_bytes"), failcnt: file("failcnt") };
                stats.hugetlb.insert(size, entry);
            }
        }
        _ => {}
    }
}

fn cpu_usage_v1(dir: &Path) -> CpuUsage {
    let numbers = |file: &str| -> Vec<u64> {
        let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    // cpuacct.stat counts in ticks, a hundredth of a second on every machine of ours (USER_HZ).
    let ticks = pairs(dir, "cpuacct.stat");
    let time = |key: &str| ticks.get(key).copied().unwrap_or(0) * 10_000_000;
    CpuUsage {
        total: number(dir, "cpuacct.usage").unwrap_or(0),
        percpu: numbers("cpuacct.usage_percpu"),
        percpu_kernel: numbers("cpuacct.usage_percpu_sys"),
        percpu_user: numbers("cpuacct.usage_percpu_user"),
        kernel: time("system"),
        user: time("user"),
    }
}

fn cpuset_v1(dir: &Path) -> CpusetStats {
    let at = |file: &str| number(dir, &format!("cpuset.{file}")).unwrap_or(0);
    CpusetStats {
        cpus: list(dir, "cpuset.cpus"),
        cpu_exclusive: at("cpu_exclusive"),
        mems: list(dir, "cpuset.mems"),
        mem_hardwall: at("mem_hardwall"),
        mem_exclusive: at("mem_exclusive"),
        memory_migrate: at("memory_migrate"),
        memory_spread_page: at("memory_spread_page"),
        memory_spread_slab: at("memory_spread_slab"),
        memory_pressure: at("memory_pressure"),
        sched_load_balance: at("sched_load_balance"),
        sched_relax_domain_level: std::fs::read_to_string(dir.join("cpuset.sched_relax_domain_level"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0),
    }
}

/// BFQ keeps the richer accounts; without it the throttling layer counts.
fn blkio_v1(dir: &Path) -> BlkioStats {
    let read = |file: &str| blkio_lines(&std::fs::read_to_string(dir.join(format!("blkio.{file}_recursive"))).unwrap_or_default());
    let first = |files: [&str; 2]| files.iter().map(|file| read(file)).find(|entries| !entries.is_empty()).unwrap_or_default();
    BlkioStats {
        io_service_bytes_recursive: first(["bfq.io_service_bytes", "throttle.io_service_bytes"]),
        io_serviced_recursive: first(["bfq.io_serviced", "throttle.io_serviced"]),
        io_queued_recursive: read("bfq.io_queued"),
        io_service_time_recursive: read("bfq.io_service_time"),
        io_wait_time_recursive: read("bfq.io_wait_time"),
        io_merged_recursive: read("bfq.io_merged"),
        io_time_recursive: read("bfq.time"),
        sectors_recursive: read("bfq.sectors"),
        psi: None,
    }
}

/// `8:0 Read 123`, or `8:0 123` for what has no direction; the last line is a total without a device.
fn blkio_lines(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (major, minor) = device(words.first()?)?;
        let op = if words.len() > 2 { words[1].to_string() } else { String::new() };
        Some(BlkioEntry { major, minor, op, value: words.last()?.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

fn device(word: &str) -> Option<(u64, u64)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn throttling(cpu: &BTreeMap<String, u64>, throttled_time: u64) -> Throttling {
    let at = |key: &str| cpu.get(key).copied().unwrap_or(0);
    Throttling { periods: at("nr_periods"), throttled_periods: at("nr_throttled"), throttled_time }
}

/// A file of lines `key number`.
fn pairs(dir: &Path, file: &str) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(' ')).filter_map(|(key, value)| Some((key.to_string(), value.trim().parse().ok()?))).collect()
}

/// `0-2,7`
fn list(dir: &Path, file: &str) -> Vec<u16> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`
fn pressure(dir: &Path, file: &str) -> Option<Pressure> {
    let text = std::fs::read_to_string(dir.join(file)).ok()?;
    let line = |name: &str| {
        let words = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        let at = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let average = |key: &str| at(key).and_then(|value| value.parse().ok()).unwrap_or(0.0);
        let total = at("total").and_then(|value| value.parse().ok()).unwrap_or(0);
        PressureLine { avg10: average("avg10"), avg60: average("avg60"), avg300: average("avg300"), total }
    };
    // An unreadable file (PSI switched off gives EOPNOTSUPP) was answered above.
    Some(Pressure { some: line("some "), full: line("full ") })
}

/// The page sizes that have files here.
fn huge_sizes(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let size = |name: String| Some(name.strip_prefix("hugetlb.")?.split('.').next()?.to_string());
    let mut sizes: Vec<String> = names.filter_map(size).collect();
    sizes.sort();
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_shape_of_runc() {
        let mut stats = Stats::default();
        stats.cpu.usage = CpuUsage { total: 5, user: 3, kernel: 2, ..CpuUsage::default() };
        stats.memory.usage.limit = u64::MAX;
        stats.pids = PidsStats { current: 1, limit: 0 };
        stats.blkio = blkio_v2("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n");
        let event = serde_json::to_value(Event { kind: "stats", id: "web1", data: Some(&stats) }).unwrap();
        assert_eq!(event["type"], "stats");
        let data = &event["data"];
        assert_eq!(data["cpu"]["usage"], serde_json::json!({"total": 5, "kernel": 2, "user": 3}));
        assert_eq!(data["memory"]["usage"], serde_json::json!({"limit": u64::MAX, "failcnt": 0}));
        assert_eq!(data["pids"], serde_json::json!({"current": 1}));
        assert_eq!(data["blkio"]["ioServiceBytesRecursive"][1], serde_json::json!({"major": 8, "op": "Write", "value": 2}));
        assert_eq!((&data["intel_rdt"], &data["network_interfaces"]), (&serde_json::json!({}), &serde_json::Value::Null));
        assert_eq!(data["memory"]["kernelTCP"]["limit"], 0);
    }

    #[test]
    fn v1_block_accounts_are_read_with_and_without_a_direction() {
        let entries = blkio_lines("8:0 Read 12\n8:0 Write 0\nTotal 12\n8:16 99\n");
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0], BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 12 });
        assert_eq!(entries[2], BlkioEntry { major: 8, minor: 16, op: String::new(), value: 99 });
    }

    #[test]
    fn an_oom_event_has_no_data() {
        assert_eq!(serde_json::to_string(&Event { kind: "oom", id: "x", data: None }).unwrap(), r#"{"type":"oom","id":"x"}"#);
    }
}
