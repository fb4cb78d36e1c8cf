//! `events` and `ps` of the OCI runtime: what a container uses, and who is in it.

use std::io::Write;
use std::time::{Duration, Instant};

use super::oci::{place_of, print_json, quiet_pipe};
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::cgroups::{self, stats::Event};
use crate::runtime::state::{Status, Store};

/// Prints the container's statistics as JSON, one object a line: once, or every `interval` until it ends, with a record when its memory
/// ran out.
pub fn events(store: &Store, id: &str, interval: Duration, once: bool) -> Result<()> {
    let record = store.load(id)?;
    let place = place_of(&record, "watch")?;
    if store.status(&record) == Status::Stopped {
        return Err(Error::new(Class::Conflict, format!("watch {id}"), "container not running"));
    }
    if once {
        return print_stats(id, place);
    }
    let mut out_of_memory = cgroups::oom_events(place)?;
    let mut next = Instant::now();
    while store.status(&record) != Status::Stopped {
        while let Some(Some(_)) = out_of_memory.look() {
            print(&Event { kind: "oom", id, data: None })?;
        }
        if Instant::now() >= next {
            print_stats(id, place)?;
            next = Instant::now() + interval;
        }
        std::thread::sleep(Duration::from_millis(50).min(interval));
    }
    Ok(())
}

fn print_stats(id: &str, place: &cgroups::Place) -> Result<()> {
    print(&Event { kind: "stats", id, data: Some(&cgroups::stats(place)) })
}

fn print(event: &Event) -> Result<()> {
    let text = serde_json::to_string(event).unwrap_or_default();
    writeln!(std::io::stdout(), "{text}").or_else(quiet_pipe)
}

/// Prints the container's processes: their PIDs as JSON, or ps(1)'s table cut down to them.
pub fn ps(store: &Store, id: &str, format: &str, options: &[String]) -> Result<()> {
    let record = store.load(id)?;
    let pids = match &record.cgroup {
        Some(place) => cgroups::processes(place),
        // Without a cgroup only the first process is known.
        None => record.init.filter(|init| init.lives()).map(|init| init.pid).into_iter().collect(),
    };
    if format == "json" {
        return print_json(&pids);
    }
    let default = ["-ef".to_string()];
    let options = if options.is_empty() { &default[..] } else { options };
    let output = std::process::Command::new("ps").args(options).output().doing(|| "run ps(1)".into())?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(Error::invalid(format!("run ps {}", options.join(" ")), why));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Error::invalid("list processes", "ps(1) prints no column PID with these options"))?;
    let belongs = |line: &&str| line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid));
    let mut out = std::io::stdout().lock();
    std::iter::once(header).chain(lines.filter(belongs)).try_for_each(|line| writeln!(out, "{line}")).or_else(quiet_pipe)
}
