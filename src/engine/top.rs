//! The processes of a container, as the host's ps(1) shows them: the cgroup says which they are.
//!
//! See it: `cat /sys/fs/cgroup/…/cgroup.procs`. Read: ps(1), docker-top(1).

use std::collections::HashSet;
use std::process::{Command, Stdio};

use super::record::{Record, Status};
use crate::error::{Class, Doing, Error, Result};
use crate::id;
use crate::runtime::cgroups;

/// Titles, and a row for each process.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Processes {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Asks ps with `options` (`-ef` when there are none) and keeps the container's processes.
///
/// # Errors
/// Conflict when it doesn't run; NotFound without a ps; Invalid when ps doesn't take the options, or shows no PIDs with them.
pub fn top(record: &Record, options: &[String]) -> Result<Processes> {
    let doing = || format!("show the processes of {}", record.name);
    let init = record.state.init.filter(|_| matches!(record.status(), Status::Running | Status::Paused));
    let Some(init) = init else {
        return Err(Error::new(Class::Conflict, doing(), format!("container {} is not running", id::short(&record.id))));
    };
    let pids = match &record.state.cgroup {
        Some(place) => cgroups::processes(place).into_iter().collect(),
        None => with_its_pid_namespace(init.pid),
    };
    let default = ["-ef".to_string()];
    let options = if options.is_empty() { &default } else { options };
    let ran = Command::new("ps").args(options).stdin(Stdio::null()).output();
    let ran = ran.doing(doing).map_err(|e| if e.class == Class::NotFound { e.hint("install the program ps (package procps)") } else { e })?;
    if !ran.status.success() {
        return Err(Error::invalid(doing(), format!("ps: {}", String::from_utf8_lossy(&ran.stderr).lines().next().unwrap_or("it failed"))));
    }
    keep(&String::from_utf8_lossy(&ran.stdout), &pids)
        .ok_or_else(|| Error::invalid(doing(), "couldn't find PID field in ps output").hint("let ps show it: -o pid,…"))
}

/// Without a cgroup (and without root's rights there may be none) its PID namespace says who belongs to it.
fn with_its_pid_namespace(init: i32) -> HashSet<i32> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(its) = namespace(init).filter(|its| Some(its) != namespace(std::process::id() as i32).as_ref()) else {
        return HashSet::from([init]);
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).filter(|pid| namespace(*pid).as_ref() == Some(&its)).collect()
}

/// The rows whose PID is one of these; None when there is no such column.
fn keep(table: &str, pids: &HashSet<i32>) -> Option<Processes> {
    let mut lines = table.lines();
    let titles: Vec<String> = lines.next()?.split_whitespace().map(String::from).collect();
    let column = titles.iter().position(|title| title == "PID")?;
    let mut rows = Vec::new();
    for line in lines {
        let row = cells(line, titles.len());
        // Below a thread's row, `-` stands for the PID of the one above.
        let is_ours = row.get(column).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid));
        if is_ours {
            rows.push(row);
        }
    }
    Some(Processes { titles, rows })
}

/// The words of a line, the last being all the rest: a command has spaces of its own.
fn cells(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim();
    let mut cells = Vec::new();
    while cells.len() + 1 < count && !rest.is_empty() {
        let (cell, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        cells.push(cell.to_string());
        rest = after.trim_start();
    }
    cells.push(rest.to_string());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_rows_are_kept_and_commands_stay_whole() {
        let table = "UID   PID  PPID CMD\nroot    1     0 init\nroot  420     1 sh -c  sleep 9\n";
        let kept = keep(table, &HashSet::from([420])).unwrap();
        assert_eq!(kept.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(kept.rows, [["root", "420", "1", "sh -c  sleep 9"]]);
        assert_eq!(keep("USER CMD\nroot sh\n", &HashSet::new()), None);
    }
}
