//! What a container uses at this moment, and how much CPU since the moment before.
//!
//! See it: `cat /sys/fs/cgroup/…/{cpu.stat,memory.current,io.stat}`, `cat /proc/P/net/dev`, `head -1 /proc/stat`.
//! Read: proc_stat(5), proc_pid_net(5), cgroup-v2.rst, docker-stats(1).

use super::record::Record;
use crate::runtime::cgroups::{self, Stats};

/// The counters of one moment. Bytes, and nanoseconds.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Sample {
    pub cpu: u64,
    /// What all CPUs of the machine have spent, idle or not.
    pub machine: u64,
    pub online: u64,
    pub memory: u64,
    pub memory_limit: u64,
    pub received: u64,
    pub sent: u64,
    pub read: u64,
    pub written: u64,
    pub pids: u64,
}

/// Takes a sample; None when the container doesn't run.
pub fn sample(record: &Record) -> Option<Sample> {
    let init = record.state.init.filter(|_| record.is_attended())?;
    let stats = record.state.cgroup.as_ref().map(cgroups::stats).unwrap_or_default();
    let (received, sent) = network(&std::fs::read_to_string(format!("/proc/{}/net/dev", init.pid)).unwrap_or_default());
    // The number may have passed to a stranger while we read.
    if !init.lives() {
        return None;
    }
    let (machine, online) = machine(&std::fs::read_to_string("/proc/stat").unwrap_or_default());
    let total = memory_total();
    let limit = stats.memory.usage.limit;
    Some(Sample {
        cpu: stats.cpu.usage.total,
        machine,
        online,
        memory: memory(&stats),
        memory_limit: if limit == 0 || limit > total { total } else { limit },
        received,
        sent,
        read: blocks(&stats, "read"),
        written: blocks(&stats, "write"),
        pids: stats.pids.current,
    })
}

/// Percent of one CPU: 200 for two that are busy. As Docker computes it, from the container's share of what the machine spent.
pub fn cpu_percent(before: &Sample, after: &Sample) -> f64 {
    let spent = after.cpu.saturating_sub(before.cpu) as f64;
    let machine = after.machine.saturating_sub(before.machine) as f64;
    if machine > 0.0 { spent / machine * after.online as f64 * 100.0 } else { 0.0 }
}

/// Without the page cache that the kernel gives up first: who reads a large file doesn't hold its memory.
fn memory(stats: &Stats) -> u64 {
    let usage = stats.memory.usage.usage;
    let inactive = ["total_inactive_file", "inactive_file"].iter().find_map(|name| stats.memory.raw.get(*name));
    inactive.filter(|inactive| **inactive < usage).map_or(usage, |inactive| usage - inactive)
}

fn blocks(stats: &Stats, op: &str) -> u64 {
    let entries = stats.blkio.io_service_bytes_recursive.iter();
    entries.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum()
}

/// Bytes received and sent on all devices but the loopback.
fn network(table: &str) -> (u64, u64) {
    let mut total = (0, 0);
    for line in table.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let mut numbers = counters.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        total.0 += numbers.next().unwrap_or(0);
        total.1 += numbers.nth(7).unwrap_or(0);
    }
    total
}

/// The nanoseconds that all CPUs have spent, and how many there are.
fn machine(stat: &str) -> (u64, u64) {
    // The kernel shows hundredths of a second, whatever its own clock is (time(7), USER_HZ).
    const TICK: u64 = 10_000_000;
    let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8).filter_map(|number| number.parse::<u64>().ok());
    let online = stat.lines().filter(|line| line.starts_with("cpu") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit)).count();
    (ticks.sum::<u64>() * TICK, online as u64)
}

/// The bytes of this machine's memory.
pub fn memory_total() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_keeps_two_of_four_cpus_busy_uses_200_percent() {
        let before = Sample { cpu: 5_000, machine: 100_000, online: 4, ..Sample::default() };
        let after = Sample { cpu: 7_000, machine: 104_000, online: 4, ..Sample::default() };
        assert_eq!(cpu_percent(&before, &after), 200.0);
        assert_eq!(cpu_percent(&after, &after), 0.0);
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 999 9 0 0 0 0 0 0 999 9 0 0 0 0 0 0\n  eth0:100 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n  eth1: 1 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0\n";
        assert_eq!(network(table), (101, 22));
        assert_eq!(machine("cpu  1 2 3 4 5 6 7 8 9 9\ncpu0 1 2 3 4\ncpu1 0 0 0 0\nintr 5\n"), (360_000_000, 2));
    }
}
