//! `process.execCPUAffinity`: on which CPUs a process may run while it goes into a running container, and from then on. On a host that
//! keeps CPUs free for real-time work, even the short moment before it is in its cpuset matters.
//!
//! See it: `grep Cpus_allowed_list /proc/P/status`. Read: sched_setaffinity(2), config.md "execCPUAffinity".

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::{Doing, Error, Result};

/// `0-3,7` as numbers.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(list: &str) -> std::result::Result<Vec<usize>, String> {
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::count()).ok_or(format!("{text:?} is no CPU"));
    let mut cpus = Vec::new();
    for part in list.split(',') {
        match part.split_once('-') {
            Some((first, last)) => cpus.extend(number(first)?..=number(last)?),
            None => cpus.push(number(part)?),
        }
    }
    if cpus.is_empty() { Err("it names no CPU".into()) } else { Ok(cpus) }
}

/// Moves the calling process to these CPUs; `name` is the JSON path. Nothing is done for an empty list.
///
/// # Errors
/// EINVAL when none of them is there or the cpuset has none of them.
pub fn apply(list: Option<&str>, name: &str) -> Result<()> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(()) };
    let mut set = CpuSet::new();
    for cpu in parse(list).map_err(|why| Error::invalid(format!("use {name}"), why))? {
        set.set(cpu).doing(|| format!("use {name} {list}"))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).doing(|| format!("apply {name} {list}"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lists_and_ranges_name_cpus() {
        assert_eq!(parse("0-2,5"), Ok(vec![0, 1, 2, 5]));
        assert!(parse("").is_err() && parse("3-1").is_err() && parse("a").is_err() && parse("99999999").is_err());
    }
}
