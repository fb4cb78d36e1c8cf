//! What happened: one line for each thing that was done to a container, an image, a network or a volume, in a file that all commands
//! append to. There is no daemon that would have to be asked.
//!
//! The lines are Docker's events as its API gives them. When the file has grown to [`MOST`], it becomes `events.jsonl.1`.
//!
//! See it: `tail -f /run/onggi/events.jsonl`. Read: docker-events(1), open(2) on O_APPEND, flock(2).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::home::Home;
use super::log::follow::{self, Follow};
use super::log::lines::{Lines, Rest};
use super::log::rotated;
use super::networks::{Network, network};
use super::record::Record;
use super::request::NetworkMode;
use crate::error::Result;

/// Bytes after which a new file begins; as many again are kept.
const MOST: u64 = 4 << 20;

/// Something that was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The older names of action and ID, which containers and images still have in Docker's events.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// A container's image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `die` …
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: String,
    /// Seconds since 1970, and the same in nanoseconds.
    pub time: u64,
    #[serde(rename = "timeNano")]
    pub nanoseconds: u64,
}

/// To whom it was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name, its image, its labels, and what belongs to the action, such as `exitCode`.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Something that was done just now.
    pub fn new(kind: &str, action: &str, id: &str, attributes: impl IntoIterator<Item = (String, String)>) -> Event {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let attributes: BTreeMap<String, String> = attributes.into_iter().collect();
        let is_old = matches!(kind, "container" | "image");
        let old = |text: &str| if is_old { text.to_string() } else { String::new() };
        Event {
            status: old(action),
            id: old(id),
            from: attributes.get("image").filter(|_| kind == "container").cloned().unwrap_or_default(),
            kind: kind.into(),
            action: action.into(),
            actor: Actor { id: id.into(), attributes },
            scope: "local".into(),
            time: now.as_secs(),
            nanoseconds: now.as_nanos() as u64,
        }
    }

    /// When it was.
    pub fn moment(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.nanoseconds)
    }
}

/// Where the events are.
pub fn path(home: &Home) -> PathBuf {
    home.run.join("events.jsonl")
}

/// Notes an event. No command fails for want of it: when there is no room, it is lost.
pub fn record(home: &Home, event: &Event) {
    let _ = append(&path(home), event);
}

/// Notes what was done to a container; `more` is what belongs to the action.
pub fn container(home: &Home, of: &Record, action: &str, more: &[(&str, &str)]) {
    let own = [("image", of.image.as_str()), ("name", of.name.as_str())];
    let labels = of.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let attributes = labels.chain(own).chain(more.iter().copied()).map(|(key, value)| (key.to_string(), value.to_string()));
    record(home, &Event::new("container", action, &of.id, attributes));
}

/// Notes what was done to an image: by its ID, or by a name.
pub fn image(home: &Home, action: &str, id: &str, name: &str) {
    let attributes = (!name.is_empty()).then(|| ("name".to_string(), name.to_string()));
    record(home, &Event::new("image", action, id, attributes));
}

/// Notes what was done to a network; `container` is who came or went.
pub fn network(home: &Home, of: &Network, action: &str, container: Option<&str>) {
    let own = [("name".to_string(), of.name.clone()), ("type".to_string(), of.driver.name().to_string())];
    let attributes = own.into_iter().chain(container.map(|id| ("container".to_string(), id.to_string())));
    record(home, &Event::new("network", action, &of.id, attributes));
}

/// Notes that a container came to all its networks, or left them.
pub fn networks_of(home: &Home, of: &Record, action: &str) {
    let networks: Vec<Network> = match &of.network {
        NetworkMode::Own => of.networks.iter().filter_map(|attachment| network::load(home, &attachment.network).ok()).collect(),
        NetworkMode::Host => network::find(home, "host").into_iter().collect(),
        NetworkMode::None => network::find(home, "none").into_iter().collect(),
        NetworkMode::Container(_) => Vec::new(),
    };
    networks.iter().for_each(|joined| network(home, joined, action, Some(&of.id)));
}

fn append(path: &Path, event: &Event) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    loop {
        let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.lock()?;
        let facts = file.metadata()?;
        // Somebody else has begun a new file while we waited.
        if fs::metadata(path).map(|now| now.ino()).ok() != Some(facts.ino()) {
            continue;
        }
        if facts.len() >= MOST {
            fs::rename(path, rotated(path, 1))?;
            continue;
        }
        // Behind half a line of somebody who was killed, a new one begins.
        let mut last = [b'\n'];
        if facts.len() > 0 {
            file.read_exact_at(&mut last, facts.len() - 1)?;
        }
        if last != [b'\n'] {
            line.insert(0, b'\n');
        }
        // One write: a reader sees the whole line. On a full disk it may be half of it, and then none.
        return file.write_all(&line).inspect_err(|_| drop(file.set_len(facts.len())));
    }
}

/// Gives `take` the events that were since `since`, in their order; with `follow` also those to come. None says that there is none for
/// now. It ends with `follow.until`, or when `take` answers false.
///
/// # Errors
/// EACCES; EMFILE, ENOSPC of inotify(7); those of `take`.
pub fn read(home: &Home, since: SystemTime, follow: &Follow, take: &mut dyn FnMut(Option<&Event>) -> Result<bool>) -> Result<()> {
    let more = |goes_on: bool| if goes_on { Rest::ToCome } else { Rest::Later };
    let mut each = |line: Option<&[u8]>| {
        let Some(line) = line else { return take(None).map(more) };
        let Ok(event) = serde_json::from_slice::<Event>(line) else { return Ok(Rest::ToCome) };
        match event.moment() {
            // Those of several commands may stand a moment out of order; none that was waiting is written a second late.
            moment if follow.until.is_some_and(|until| moment > until + Duration::from_secs(1)) => Ok(Rest::Later),
            moment if moment < since || follow.until.is_some_and(|until| moment > until) => Ok(Rest::ToCome),
            _ => take(Some(&event)).map(more),
        }
    };
    let path = path(home);
    if follow.until.is_some_and(|until| until < SystemTime::now()) {
        let mut lines = Lines::open(&path, None)?;
        while lines.rest(&mut |line| each(Some(line)))? == Rest::ToCome && lines.next_file() {}
        return each(None).map(drop);
    }
    follow::lines(&path, None, follow, &mut each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_fields_of_dockers() {
        let mut event = Event::new("container", "start", "abc", [("image".into(), "base".into()), ("name".into(), "web".into())]);
        (event.time, event.nanoseconds) = (1, 1_000_000_002);
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"status":"start","id":"abc","from":"base","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"image":"base","name":"web"}},"scope":"local","time":1,"timeNano":1000000002}"#
        );
        assert_eq!(
            serde_json::from_str::<Event>(
                r#"{"Type":"network","Action":"create","Actor":{"ID":"x","Attributes":{}},"scope":"local","time":1,"timeNano":2}"#
            )
            .unwrap()
            .kind,
            "network"
        );
    }

    #[test]
    fn events_of_many_at_once_are_all_there_and_half_a_line_harms_no_other() {
        let run = std::env::temp_dir().join(format!("onggi-events-{}", std::process::id()));
        fs::create_dir_all(&run).unwrap();
        let home = Home { data: run.clone(), run: run.clone(), rootless: false };
        fs::write(path(&home), "{\"Type\":\"cont").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let home = &home;
                scope.spawn(move || (0..50).for_each(|n| record(home, &Event::new("container", "start", &format!("{thread}-{n}"), []))));
            }
        });
        let mut ids = Vec::new();
        let now = SystemTime::now();
        let follow = Follow { lives: &|| true, mark: None, until: Some(now) };
        read(&home, UNIX_EPOCH, &follow, &mut |event| {
            ids.extend(event.map(|event| event.actor.id.clone()));
            Ok(true)
        })
        .unwrap();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 200);
        fs::remove_dir_all(run).unwrap();
    }

    #[test]
    fn a_long_history_is_cut() {
        let run = std::env::temp_dir().join(format!("onggi-events-cut-{}", std::process::id()));
        fs::create_dir_all(&run).unwrap();
        let path = run.join("events.jsonl");
        fs::write(&path, vec![b'\n'; MOST as usize]).unwrap();
        append(&path, &Event::new("image", "pull", "base", [])).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 300 && fs::metadata(rotated(&path, 1)).unwrap().len() == MOST);
        fs::remove_dir_all(run).unwrap();
    }
}
