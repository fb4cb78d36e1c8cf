//! `onggi stats`: what containers use, once or again each second.
//!
//! Read: docker-stats(1).

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::human::{binary_size, size};
use super::table::{self, Column, Listing};
use crate::engine::home::Home;
use crate::engine::record::{self, Record};
use crate::engine::stats::{self, Sample};
use crate::engine::{names, sweep};
use crate::error::{Doing, Result};
use crate::id;

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    /// How to show them: table, json, 'table TEMPLATE' or a Go template such as '{{.Name}} {{.CPUPerc}}'
    #[arg(long, value_name = "FORM")]
    format: Option<String>,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Show IDs in full
    #[arg(long)]
    no_trunc: bool,
    /// Containers, by name or ID; those that run when none is given
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const COLUMNS: [Column; 8] = [
    Column { header: "CONTAINER ID", field: "ID" },
    Column { header: "NAME", field: "Name" },
    Column { header: "CPU %", field: "CPUPerc" },
    Column { header: "MEM USAGE / LIMIT", field: "MemUsage" },
    Column { header: "MEM %", field: "MemPerc" },
    Column { header: "NET I/O", field: "NetIO" },
    Column { header: "BLOCK I/O", field: "BlockIO" },
    Column { header: "PIDS", field: "PIDs" },
];

/// How long the first share of the CPU is measured.
const FIRST: Duration = Duration::from_millis(500);

/// Prints what containers use.
///
/// # Errors
/// NotFound for a container, Invalid for a template.
pub fn stats(args: &StatsArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let mut before: HashMap<String, Sample> = HashMap::new();
    for record in chosen(&home, args)? {
        before.extend(stats::sample(&record).map(|sample| (record.id, sample)));
    }
    let redraws = !args.no_stream && std::io::stdout().is_terminal();
    let mut pause = FIRST;
    loop {
        std::thread::sleep(pause);
        pause = Duration::from_secs(1);
        let mut rows = Vec::new();
        let mut now = HashMap::new();
        for record in chosen(&home, args)? {
            let sample = stats::sample(&record);
            rows.push(row(&record, before.get(&record.id), sample.as_ref(), args.no_trunc));
            now.extend(sample.map(|sample| (record.id, sample)));
        }
        before = now;
        let listing = Listing { columns: COLUMNS.to_vec(), headers: &[("Container", "CONTAINER")], rows };
        let text = table::render(&listing, args.format.as_deref(), None)?;
        if !show(&text, redraws)? || args.no_stream {
            return Ok(0);
        }
    }
}

/// False when nobody reads any more.
fn show(text: &str, redraws: bool) -> Result<bool> {
    // Home, each line cleared to its end, and what is below: nothing flickers (console_codes(4)).
    let text = if redraws { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text.to_string() };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.doing(|| "write to standard output".into()).map(|()| true),
    }
}

/// The containers that were named, or all, or all that run; in the order in which they were created.
fn chosen(home: &Home, args: &StatsArgs) -> Result<Vec<Record>> {
    if !args.containers.is_empty() {
        return args.containers.iter().map(|name| names::find(home, name)).collect();
    }
    let mut records = record::list(home, args.all)?;
    records.retain(|record| args.all || record.is_active());
    Ok(records)
}

fn row(record: &Record, before: Option<&Sample>, now: Option<&Sample>, no_trunc: bool) -> Value {
    let nothing = Sample::default();
    let now = now.unwrap_or(&nothing);
    let cpu = before.map_or(0.0, |before| stats::cpu_percent(before, now));
    let memory = if now.memory_limit > 0 { now.memory as f64 / now.memory_limit as f64 * 100.0 } else { 0.0 };
    let id = if no_trunc { &record.id } else { id::short(&record.id) };
    json!({
        "Container": id,
        "ID": id,
        "Name": record.name,
        "CPUPerc": format!("{cpu:.2}%"),
        "MemUsage": format!("{} / {}", binary_size(now.memory), binary_size(now.memory_limit)),
        "MemPerc": format!("{memory:.2}%"),
        "NetIO": format!("{} / {}", size(now.received), size(now.sent)),
        "BlockIO": format!("{} / {}", size(now.read), size(now.written)),
        "PIDs": now.pids.to_string(),
    })
}
