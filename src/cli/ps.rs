//! `onggi ps`: the containers, in Docker's columns and words.
//!
//! Each is one small file, read once; those that run are asked of the kernel.
//!
//! Read: docker-ps(1).

use std::net::IpAddr;
use std::time::SystemTime;

use clap::Args;
use serde_json::{Map, Value, json};

use super::filter::Filters;
use super::human;
use super::table::{self, Column, Listing};
use crate::clock;
use crate::engine::home::Home;
use crate::engine::networks::describe as describe_networks;
use crate::engine::record::{self, Port, Record, Status};
use crate::engine::request::{Attachment, Volume};
use crate::engine::{describe, names, sweep, volumes};
use crate::error::{Error, Result};
use crate::id;
use crate::image;
use crate::network::ports::Protocol;

#[derive(Debug, Args)]
pub struct PsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    /// Show those that fit: status=exited, name=web, label=tier=front … (again and again)
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// How to show them: table, json, 'table TEMPLATE' or a Go template such as '{{.ID}} {{.Names}}'
    #[arg(long, value_name = "FORM")]
    format: Option<String>,
    /// Show the last N that were created, whether they run or not
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
    last: i64,
    /// Show the one created last
    #[arg(short, long)]
    latest: bool,
    /// Show IDs and commands in full
    #[arg(long)]
    no_trunc: bool,
    /// Print IDs alone
    #[arg(short, long)]
    quiet: bool,
    /// Show how much each has written
    #[arg(short, long)]
    size: bool,
}

const FILTERS: [&str; 11] = ["ancestor", "before", "exited", "health", "id", "label", "name", "network", "since", "status", "volume"];

const COLUMNS: [Column; 7] = [
    Column { header: "CONTAINER ID", field: "ID" },
    Column { header: "IMAGE", field: "Image" },
    Column { header: "COMMAND", field: "Command" },
    Column { header: "CREATED", field: "RunningFor" },
    Column { header: "STATUS", field: "Status" },
    Column { header: "PORTS", field: "Ports" },
    Column { header: "NAMES", field: "Names" },
];

const HEADERS: &[(&str, &str)] = &[
    ("CreatedAt", "CREATED AT"),
    ("State", "STATE"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
];

/// Prints the containers, the newest first.
///
/// # Errors
/// Invalid for a filter or template, NotFound for a container named in a filter.
pub fn ps(args: &PsArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &FILTERS)?;
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let last = if args.latest { 1 } else { args.last };
    let chosen = choose(&home, &filters, args.all, last)?;
    let with_size = args.size || args.format.as_deref().is_some_and(|format| format.contains(".Size"));
    let mut columns = COLUMNS.to_vec();
    if args.size {
        columns.push(Column { header: "SIZE", field: "Size" });
    }
    let mut rows = Vec::with_capacity(chosen.len());
    for (record, status) in &chosen {
        if args.quiet {
            rows.push(json!({ "ID": if args.no_trunc { &record.id } else { id::short(&record.id) } }));
            continue;
        }
        let mut row = row(record, *status, args.no_trunc);
        if args.format.is_some() {
            // The clock's zone is asked for each; the usual table doesn't show it.
            row.insert("CreatedAt".into(), human::local(&record.created).into());
        }
        if with_size {
            let (written, whole) = describe::sizes(&home, &record.id);
            row.insert("Size".into(), format!("{} (virtual {})", human::size(written), human::size(whole)).into());
        }
        rows.push(Value::Object(row));
    }
    let listing = Listing { columns, headers: HEADERS, rows };
    // As docker's: an ID is an ID, whatever else was asked for.
    let format = args.format.as_deref().filter(|_| !args.quiet);
    table::print(&listing, format, args.quiet.then_some("ID")).map(|()| 0)
}

/// The containers that were asked for, and how each is now.
fn choose(home: &Home, filters: &Filters, all: bool, last: i64) -> Result<Vec<(Record, Status)>> {
    let any_state = all || last > 0 || filters.has("status");
    let patterns = Patterns::of(home, filters)?;
    let mut chosen = Vec::new();
    for record in record::list(home, any_state)? {
        let status = record.status();
        let shown = any_state || matches!(status, Status::Running | Status::Paused | Status::Restarting);
        if shown && patterns.fit(home, filters, &record, status)? {
            chosen.push((record, status));
        }
        if last > 0 && chosen.len() as i64 == last {
            break;
        }
    }
    Ok(chosen)
}

/// What the filters mean, looked up once.
struct Patterns {
    names: Vec<regex_lite::Regex>,
    ids: Vec<regex_lite::Regex>,
    before: Option<Record>,
    since: Option<Record>,
    /// Images by ID and by their top layers.
    ancestors: Vec<image::Image>,
}

impl Patterns {
    fn of(home: &Home, filters: &Filters) -> Result<Patterns> {
        let regexes = |key: &str| {
            let one = |text: &String| regex_lite::Regex::new(text).map_err(|e| Error::invalid(format!("use --filter {key}={text}"), e.to_string()));
            filters.values(key).iter().map(one).collect::<Result<Vec<_>>>()
        };
        let states = ["created", "running", "paused", "restarting", "exited", "dead", "removing"];
        if let Some(wrong) = filters.values("status").iter().find(|value| !states.contains(&value.as_str())) {
            let why = format!("invalid filter 'status={wrong}'");
            return Err(Error::invalid(format!("use --filter status={wrong}"), why).hint(format!("the states are {}", states.join(", "))));
        }
        if let Some(wrong) = filters.values("exited").iter().find(|value| value.parse::<i32>().is_err()) {
            return Err(Error::invalid(format!("use --filter exited={wrong}"), "it is no exit code"));
        }
        let healths = ["starting", "healthy", "unhealthy", "none"];
        if let Some(wrong) = filters.values("health").iter().find(|value| !healths.contains(&value.as_str())) {
            let why = format!("invalid filter 'health={wrong}'");
            return Err(Error::invalid(format!("use --filter health={wrong}"), why).hint(format!("write {}", healths.join(", "))));
        }
        let named = |key: &str| filters.values(key).last().map(|name| names::find(home, name)).transpose();
        let ancestors = match filters.values("ancestor") {
            [] => Vec::new(),
            values => {
                let store = image::store::Store::open(&home.data)?;
                // An image that isn't here any more is still known by the name that containers remember.
                values.iter().filter_map(|name| image::resolve(&store, name).ok()).collect()
            }
        };
        Ok(Patterns { names: regexes("name")?, ids: regexes("id")?, before: named("before")?, since: named("since")?, ancestors })
    }

    fn fit(&self, home: &Home, filters: &Filters, record: &Record, status: Status) -> Result<bool> {
        let slashed = format!("/{}", record.name);
        let named = self.names.is_empty() || self.names.iter().any(|name| name.is_match(&record.name) || name.is_match(&slashed));
        let id = self.ids.is_empty() || self.ids.iter().any(|id| id.is_match(&record.id));
        let health = record.state.health.as_ref().map_or("none", |health| health.status.as_str());
        let ended = matches!(status, Status::Exited | Status::Dead) && record.state.started.is_some();
        let labels = record.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let simple = named
            && id
            && filters.any("status", |value| value == status.to_string())
            && filters.any("exited", |code| ended && code.parse() == Ok(record.state.exit_code))
            && filters.any("health", |value| value == health)
            && filters.any("network", |value| is_on(record, value))
            && filters.any("volume", |value| record.volumes.iter().any(|volume| is_volume(volume, value)))
            && filters.labels(labels)
            && self.before.as_ref().is_none_or(|other| record.created < other.created)
            && self.since.as_ref().is_none_or(|other| record.created > other.created);
        Ok(simple && self.descends(home, filters, record))
    }

    /// Whether it is of one of the images asked for, or of one built on it.
    fn descends(&self, home: &Home, filters: &Filters, record: &Record) -> bool {
        let plain = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_string();
        let by_name = filters.any("ancestor", |name| {
            let hex = name.strip_prefix("sha256:").unwrap_or(name);
            plain(name) == plain(&record.image) || (hex.len() >= 4 && record.image_id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(hex)))
        });
        by_name
            || self.ancestors.iter().any(|image| image.id.to_string() == record.image_id)
            || (!self.ancestors.is_empty()
                && record::definition(home, &record.id).is_ok_and(|definition| {
                    self.ancestors.iter().any(|image| !image.chain.is_empty() && definition.layers.starts_with(&image.chain))
                }))
    }
}

fn is_volume(volume: &Volume, value: &str) -> bool {
    let source = match volume {
        Volume::Bind { source, .. } => source.to_str(),
        Volume::Named(named) => Some(named.name.as_str()),
        Volume::Tmpfs { .. } => None,
    };
    source == Some(value) || volume.target().to_str() == Some(value)
}

/// Whether it is on a network of this name, or of this ID's beginning.
fn is_on(record: &Record, value: &str) -> bool {
    let by_id = |attachment: &Attachment| value.len() >= 4 && attachment.network.starts_with(value);
    describe_networks::names(record).iter().any(|name| name == value) || record.networks.iter().any(by_id)
}

/// `0.0.0.0:80-81->80-81/tcp, 443/tcp, 0.0.0.0:8080->90/tcp`: what is only offered inside or has the same number outside, each with its
/// neighbours; then what has another number outside.
pub fn ports_words(record: &Record) -> String {
    let published = &record.state.ports;
    let is_hidden = |(port, protocol): &&(u16, Protocol)| !published.iter().any(|p| p.container == *port && p.protocol == *protocol);
    let offered = record.exposed.iter().filter(is_hidden).map(|(port, protocol)| (*port, None, *protocol));
    let (same, mut other): (Vec<&Port>, Vec<&Port>) = published.iter().partition(|port| port.host.port() == port.container);
    let mut alike: Vec<_> = offered.chain(same.iter().map(|port| (port.container, Some(port.host.ip()), port.protocol))).collect();
    alike.sort();
    let (mut ended, mut open): (Vec<Group>, Vec<Group>) = (Vec::new(), Vec::new());
    for (port, host, protocol) in alike {
        let new = Group { host, protocol, first: port, last: port };
        match open.iter_mut().find(|group| (group.host, group.protocol) == (host, protocol)) {
            Some(group) if group.last.checked_add(1) == Some(port) => group.last = port,
            Some(group) => ended.push(std::mem::replace(group, new)),
            None => open.push(new),
        }
    }
    other.sort_by_key(|port| (port.container, port.host.ip(), port.host.port(), port.protocol));
    let other = other.iter().map(|port| format!("{}->{}/{}", port.host, port.container, port.protocol));
    ended.iter().chain(&open).map(Group::words).chain(other).collect::<Vec<_>>().join(", ")
}

/// Neighbouring ports of a container, and where on the host they have the same numbers.
struct Group {
    host: Option<IpAddr>,
    protocol: Protocol,
    first: u16,
    last: u16,
}

impl Group {
    fn words(&self) -> String {
        let Group { protocol, first, last, .. } = self;
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        match self.host {
            None => format!("{range}/{protocol}"),
            Some(IpAddr::V4(host)) => format!("{host}:{range}->{range}/{protocol}"),
            Some(IpAddr::V6(host)) => format!("[{host}]:{range}->{range}/{protocol}"),
        }
    }
}

fn row(record: &Record, status: Status, no_trunc: bool) -> Map<String, Value> {
    let command = describe::one_line(&record.command);
    let sources: Vec<String> = record.volumes.iter().filter_map(|volume| mount_word(volume, no_trunc)).collect();
    let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let row = json!({
        "ID": if no_trunc { &record.id } else { id::short(&record.id) },
        "Names": record.name,
        "Image": image_word(record, no_trunc),
        "Command": format!("{:?}", if no_trunc { command } else { shortened(&command, 20) }),
        "RunningFor": human::ago(&record.created),
        "Ports": if record.is_active() { ports_words(record) } else { String::new() },
        "State": status.to_string(),
        "Status": status_words(record, status, SystemTime::now()),
        "Size": "0B",
        "Labels": labels.join(","),
        "Mounts": sources.join(","),
        "LocalVolumes": volumes::named(&record.volumes).count().to_string(),
        "Networks": describe_networks::names(record).join(","),
        "_labels": record.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect::<Map<String, Value>>(),
    });
    match row {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The image's name as it was asked for; an ID is as short as all IDs.
fn image_word(record: &Record, no_trunc: bool) -> String {
    match record.image.strip_prefix("sha256:") {
        Some(hex) if !no_trunc => id::short(hex).into(),
        _ => record.image.clone(),
    }
}

fn mount_word(volume: &Volume, no_trunc: bool) -> Option<String> {
    let source = match volume {
        Volume::Bind { source, .. } => source.display().to_string(),
        Volume::Named(named) => named.name.clone(),
        Volume::Tmpfs { .. } => return None,
    };
    Some(if no_trunc { source } else { shortened(&source, 15) })
}

/// So many letters at most, the last being `…` when some are missing.
fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.into(),
    }
}

/// `Up 2 minutes (healthy)`, `Exited (137) 5 seconds ago`, `Created` …
pub fn status_words(record: &Record, status: Status, now: SystemTime) -> String {
    let state = &record.state;
    let since = |time: &Option<String>| {
        let time = time.as_deref().and_then(clock::parse_rfc3339).unwrap_or(now);
        human::duration(now.duration_since(time).unwrap_or_default())
    };
    match status {
        Status::Created => "Created".into(),
        Status::Dead => "Dead".into(),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(&state.finished)),
        Status::Paused => format!("Up {} (Paused)", since(&state.started)),
        Status::Running => match state.health.as_ref().map(|health| health.status.as_str()) {
            Some("starting") => format!("Up {} (health: starting)", since(&state.started)),
            Some(health) => format!("Up {} ({health})", since(&state.started)),
            None => format!("Up {}", since(&state.started)),
        },
        // It was made, and could not be started.
        Status::Exited if state.started.is_none() && state.finished.is_none() => "Created".into(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(&state.finished)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_end_in_an_ellipsis() {
        assert_eq!(shortened("0123456789", 10), "0123456789");
        assert_eq!(shortened("0123456789a", 10), "012345678…");
        assert_eq!(shortened("옹기옹기", 3), "옹기…");
    }
}
