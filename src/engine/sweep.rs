//! Clearing up behind whoever was killed: a monitor, a command, or all of them at once when the machine stopped.
//!
//! Whoever looks after a container leaves a mark that names it. A mark whose process is gone means a container that nobody looks after:
//! what is left of it is ended and removed, and its record says so.
//!
//! See it: `ls /run/onggi/running`.

use super::home::Home;
use super::record::{self, Record, Status};
use super::remove;
use crate::clock;
use crate::error::{Class, Doing, Result};
use crate::runtime::lifecycle;
use crate::runtime::state::{ProcessId, Store};

/// Clears what was left by those who were killed; cheap when nothing was.
///
/// # Errors
/// EACCES.
pub fn sweep(home: &Home) -> Result<()> {
    let mut store = None;
    for id in record::running_ids(home)? {
        let owner: Option<ProcessId> = std::fs::read(home.running(&id)).ok().and_then(|text| serde_json::from_slice(&text).ok()).flatten();
        if owner.is_some_and(|owner| owner.lives()) {
            continue;
        }
        if store.is_none() {
            store = Some(Store::open(&home.oci())?);
        }
        if let Some(store) = &store {
            clear(home, store, &id)?;
        }
    }
    remove::sweep(home);
    Ok(())
}

/// A container that nobody looks after: as after a reboot, when even the marks are gone.
///
/// # Errors
/// EACCES, ENOSPC.
pub fn settle(home: &Home, record: Record) -> Result<Record> {
    let looks_alive = matches!(record.state.status, Status::Running | Status::Restarting);
    if !looks_alive || record.is_attended() {
        return Ok(record);
    }
    clear(home, &Store::open(&home.oci())?, &record.id)?;
    record::load(home, &record.id)
}

fn clear(home: &Home, store: &Store, id: &str) -> Result<()> {
    let held = match record::hold(home, id) {
        Err(e) if e.class == Class::NotFound => {
            // Removed, and killed before the mark was.
            lifecycle::delete(store, id, true)?;
            return remove_mark(home, id);
        }
        held => held?,
    };
    let (_held, mut record) = held;
    // Somebody else may have started it anew, or cleared it, before we held it.
    if record.is_attended() {
        return Ok(());
    }
    lifecycle::delete(store, id, true)?;
    let _ = std::fs::remove_file(home.monitors().join(id));
    if record.goes_with_its_end() {
        remove::forget(home, id)?;
        return remove_mark(home, id);
    }
    if matches!(record.state.status, Status::Running | Status::Restarting) {
        let same_boot = record.state.boot == record::boot_id();
        record.state.status = Status::Exited;
        // The kernel killed it with its monitor; what the machine's own end did to it nobody knows.
        record.state.exit_code = if same_boot { 137 } else { 255 };
        record.state.finished = Some(clock::rfc3339(std::time::SystemTime::now()));
    }
    record.state.monitor = None;
    record.state.init = None;
    record.state.cgroup = None;
    record::save(home, &record)?;
    remove_mark(home, id)
}

fn remove_mark(home: &Home, id: &str) -> Result<()> {
    match std::fs::remove_file(home.running(id)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).doing(|| format!("remove {}", home.running(id).display())),
        _ => Ok(()),
    }
}
