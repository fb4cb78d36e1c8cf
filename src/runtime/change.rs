//! Changing a container that runs: it stands still, goes on, gets other limits.
//!
//! See it: `cat /sys/fs/cgroup/onggi/web1/{cgroup.freeze,memory.max}`. Read: cgroups(7), runc-pause(8), runc-update(8).

use super::cgroups;
use super::spec::Resources;
use super::state::{Status, Store};
use crate::error::{Class, Error, Result};

/// Stops all processes of a container where they are, or lets them go on.
///
/// # Errors
/// Conflict in another state, Unsupported without a cgroup.
pub fn pause(store: &Store, id: &str, on: bool) -> Result<()> {
    let record = store.load(id)?;
    let (wanted, doing) = if on { (Status::Running, "pause") } else { (Status::Paused, "resume") };
    let status = store.status(&record);
    if status != wanted && !(on && status == Status::Created) {
        return Err(Error::new(Class::Conflict, format!("{doing} {id}"), format!("it is {status}, not {wanted}")));
    }
    let place = record.cgroup.as_ref().ok_or_else(|| no_cgroup(doing, id))?;
    cgroups::freeze(place, on)
}

/// Changes a container's limits.
///
/// # Errors
/// EBUSY for a limit below what is used; Conflict when it has stopped.
pub fn update(store: &Store, id: &str, resources: &Resources) -> Result<()> {
    let mut record = store.load(id)?;
    if store.status(&record) == Status::Stopped {
        return Err(Error::new(Class::Conflict, format!("update {id}"), "container not running"));
    }
    let place = record.cgroup.as_ref().ok_or_else(|| no_cgroup("update", id))?;
    cgroups::apply(place, resources, true)?;
    let linux = record.spec.linux.get_or_insert_default();
    linux.resources = Some(merged(linux.resources.take().unwrap_or_default(), resources));
    store.save(&record)
}

/// The old limits with the new ones over them, field by field.
fn merged(old: Resources, new: &Resources) -> Resources {
    fn overlay(old: &mut serde_json::Value, new: serde_json::Value) {
        match (old, new) {
            (serde_json::Value::Object(old), serde_json::Value::Object(new)) => {
                for (key, value) in new {
                    overlay(old.entry(key).or_insert(serde_json::Value::Null), value);
                }
            }
            (old, new) => *old = new,
        }
    }
    let mut base = serde_json::to_value(&old).unwrap_or_default();
    overlay(&mut base, serde_json::to_value(new).unwrap_or_default());
    serde_json::from_value(base).unwrap_or(old)
}

pub fn no_cgroup(doing: &str, id: &str) -> Error {
    Error::new(Class::Unsupported, format!("{doing} {id}"), "it has no cgroup")
        .hint("rootless containers need a delegated cgroup; see `onggi doctor` and `onggi book 03`")
}
