//! Removing what nobody needs any more: containers that don't run.

use super::events::Event;
use super::home::Home;
use super::record::{self, Record};
use super::{describe, events, remove, sweep};
use crate::error::{Class, Result};

/// What went.
#[derive(Debug, Default)]
pub struct Pruned {
    pub ids: Vec<String>,
    /// Bytes on the disk that were theirs alone.
    pub bytes: u64,
}

/// Removes all containers that don't run and that are meant. One that is started at this moment stays.
///
/// # Errors
/// EACCES.
pub fn containers(home: &Home, is_meant: &dyn Fn(&Record) -> bool) -> Result<Pruned> {
    sweep::sweep(home)?;
    let mut pruned = Pruned::default();
    for record in record::list(home, true)? {
        let Ok(record) = sweep::settle(home, record) else { continue };
        // Somebody is about to start it: `run` has made it a moment ago.
        if record.is_active() || record.is_attended() || !is_meant(&record) {
            continue;
        }
        let bytes = size(home, &record.id);
        match remove::remove(home, &record, false, false) {
            // Invalid: a record that can't be read doesn't say whether its container runs.
            Err(e) if matches!(e.class, Class::Conflict | Class::NotFound | Class::Invalid) => continue,
            removed => removed?,
        }
        pruned.bytes += bytes;
        pruned.ids.push(record.id);
    }
    events::record(home, &Event::new("container", "prune", "", [("reclaimed".to_string(), pruned.bytes.to_string())]));
    Ok(pruned)
}

/// The bytes on the disk that are a container's alone: what it wrote.
pub fn size(home: &Home, id: &str) -> u64 {
    // A copied root file system, where overlay can't be, is its own too.
    ["upper", "rootfs"].iter().map(|name| describe::tree_size(&home.container(id).join(name))).sum()
}
