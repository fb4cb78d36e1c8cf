//! Clearing up behind whoever was killed: a monitor, a command, or all of them at once when the machine stopped.
//!
//! Whoever looks after a container leaves a mark that names it. A mark whose process is gone means a container that nobody looks after:
//! what is left of it is ended and removed, and its record says so.
//!
//! See it: `ls /run/onggi/running`.

use super::events;
use super::home::Home;
use super::networks::{attach, unfinished};
use super::record::{self, Record, Status};
use super::{remove, volumes};
use crate::clock;
use crate::error::{Class, Doing, Result};
use crate::runtime::state::{ProcessId, Store};
use crate::runtime::{cgroups, lifecycle};

/// Clears what was left by those who were killed; cheap when nothing was.
///
/// # Errors
/// EACCES.
pub fn sweep(home: &Home) -> Result<()> {
    if is_first_since_the_machines_start(home) {
        for id in record::ids(home)? {
            // A damaged record is shown as such.
            let Ok(record) = record::load(home, &id).and_then(|record| settle(home, record)) else { continue };
            // Or only our folder in /run was lost, and it lives.
            if let Some(monitor) = record.state.monitor.filter(|_| record.is_active()) {
                record::mark_running(home, &id, monitor)?;
            }
        }
        write_boot_id(home)?;
    }
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
    unfinished::sweep(home)?;
    remove::sweep(home);
    Ok(())
}

/// The marks are gone with the machine's end, so that all containers have to be looked at, once.
fn is_first_since_the_machines_start(home: &Home) -> bool {
    std::fs::read_to_string(home.run.join("boot")).ok() != Some(record::boot_id().to_string())
}

fn write_boot_id(home: &Home) -> Result<()> {
    let (file, new) = (home.run.join("boot"), home.run.join(format!(".boot.{}", std::process::id())));
    std::fs::write(&new, record::boot_id()).and_then(|()| std::fs::rename(&new, &file)).doing(|| format!("write {}", file.display()))
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
            end_of_life(home, store, id, None)?;
            return remove_mark(home, id);
        }
        held => held?,
    };
    let (_held, mut record) = held;
    // Somebody else may have started it anew, or cleared it, before we held it.
    if record.is_attended() {
        return Ok(());
    }
    end_of_life(home, store, id, record.state.cgroup.as_ref())?;
    let _ = std::fs::remove_file(home.monitors().join(id));
    if record.goes_with_its_end() {
        remove::forget(home, id, true)?;
        return remove_mark(home, id);
    }
    if record.state.status == Status::Running {
        let same_boot = record.state.boot == record::boot_id();
        // The kernel killed it with its monitor; what the machine's own end did to it nobody knows.
        record.state.exit_code = if same_boot { 137 } else { 255 };
        record.state.finished = Some(clock::rfc3339(std::time::SystemTime::now()));
    }
    // Between two lives the last one's end is known.
    if matches!(record.state.status, Status::Running | Status::Restarting) {
        record.state.status = Status::Exited;
    }
    record.state.monitor = None;
    record.state.init = None;
    record.state.cgroup = None;
    record.state.ports.clear();
    record::save(home, &record)?;
    events::container(home, &record, "die", &[("exitCode", &record.state.exit_code.to_string())]);
    events::networks_of(home, &record, "disconnect");
    volumes::events_of(home, &record, "unmount");
    remove_mark(home, id)
}

/// The runtime clears what it made, and the networks forget it. When the runtime's record is lost (somebody has emptied /run), the cgroup is known to ours still.
///
/// # Errors
/// Conflict when a process can't be ended.
pub fn end_of_life(home: &Home, store: &Store, id: &str, cgroup: Option<&cgroups::Place>) -> Result<()> {
    lifecycle::delete(store, id, true)?;
    attach::detach(home, id)?;
    match cgroup.filter(|place| place.dirs().iter().any(|dir| dir.exists())) {
        Some(place) => cgroups::kill_all(place, libc::SIGKILL).and_then(|()| cgroups::remove(place)),
        None => Ok(()),
    }
}

fn remove_mark(home: &Home, id: &str) -> Result<()> {
    match std::fs::remove_file(home.running(id)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).doing(|| format!("remove {}", home.running(id).display())),
        _ => Ok(()),
    }
}
