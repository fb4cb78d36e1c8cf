//! What the engine remembers of a container: `container.json` in its folder, a link from its name, and as long as it runs a file that
//! says who sits in front of it.
//!
//! What a `kill -9` leaves is found by that file: the next command sees that nobody sits there any more, and clears up.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::home::Home;
use crate::error::{Class, Doing, Error, Result};
use crate::id;
use crate::runtime::lifecycle;
use crate::runtime::state::{ProcessId, Store};

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub id: String,
    pub name: String,
    pub image: String,
    /// `sha256:…` of the image's config.
    pub image_id: String,
    pub command: Vec<String>,
    /// RFC 3339.
    pub created: String,
    pub remove: bool,
    pub stop_signal: Option<String>,
    pub labels: Vec<(String, String)>,
    /// None as long as it has not ended.
    pub exit_code: Option<i32>,
    pub finished: Option<String>,
}

/// Takes a name for an ID: one of two commands wins.
///
/// # Errors
/// Conflict, with the container that has it.
pub fn claim_name(home: &Home, name: &str, id: &str) -> Result<()> {
    let link = home.name(name);
    match std::os::unix::fs::symlink(id, &link) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let owner = std::fs::read_link(&link).unwrap_or_default();
            let owner = owner.to_string_lossy();
            // A mark without a folder: it is being made at this moment.
            if home.container(&owner).exists() || home.running(&owner).exists() {
                let why = format!("the container name \"/{name}\" is already in use by container {}", id::short(&owner));
                return Err(Error::new(Class::Conflict, format!("create {name}"), why).hint("remove or rename that container to reuse the name"));
            }
            // Its container is gone: the link was left by a command that was killed.
            std::fs::remove_file(&link).and_then(|()| std::os::unix::fs::symlink(id, &link)).doing(|| format!("take the name {name}"))
        }
        done => done.doing(|| format!("take the name {name}")),
    }
}

/// Writes the record: the old one or the new one is there, never half of one.
///
/// # Errors
/// ENOSPC.
pub fn save(home: &Home, record: &Record) -> Result<()> {
    let file = home.container(&record.id).join("container.json");
    let text = serde_json::to_vec_pretty(record).unwrap_or_default();
    let new = file.with_extension("json.new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &file)).doing(|| format!("write {}", file.display()))
}

/// The record of a container.
///
/// # Errors
/// NotFound, Invalid.
pub fn load(home: &Home, id: &str) -> Result<Record> {
    let file = home.container(id).join("container.json");
    let text = std::fs::read(&file).doing(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("read {}", file.display()), e.to_string()))
}

/// Says that this process sits in front of the container.
///
/// # Errors
/// ENOSPC.
pub fn mark_running(home: &Home, id: &str) -> Result<()> {
    let us = ProcessId::now(std::process::id() as i32);
    let text = serde_json::to_vec(&us).unwrap_or_default();
    std::fs::write(home.running(id), text).doing(|| format!("write {}", home.running(id).display()))
}

/// Removes a container's folder, name and mark. What is missing is fine.
pub fn forget(home: &Home, id: &str) {
    // Killed between its name and its record, a container has a name that no record tells: then the links are asked.
    let names = match load(home, id) {
        Ok(record) => vec![home.name(&record.name)],
        Err(_) => std::fs::read_dir(home.data.join("names")).into_iter().flatten().flatten().map(|entry| entry.path()).collect(),
    };
    for link in names.iter().filter(|link| std::fs::read_link(link).is_ok_and(|owner| owner == Path::new(id))) {
        let _ = std::fs::remove_file(link);
    }
    let _ = std::fs::remove_dir_all(home.container(id));
    let _ = std::fs::remove_file(home.running(id));
}

/// Clears what was left by commands that were killed in front of their containers.
///
/// # Errors
/// EACCES.
pub fn sweep(home: &Home, store: &Store) -> Result<()> {
    for entry in std::fs::read_dir(home.run.join("running")).doing(|| "look for containers that were left".into())?.flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let owner: Option<ProcessId> = std::fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok()).flatten();
        if owner.is_some_and(|owner| owner.lives()) {
            continue;
        }
        lifecycle::delete(store, &id, true)?;
        match load(home, &id) {
            Ok(mut record) if !record.remove => {
                record.exit_code = Some(137);
                save(home, &record)?;
                let _ = std::fs::remove_file(home.running(&id));
            }
            _ => forget(home, &id),
        }
    }
    Ok(())
}
