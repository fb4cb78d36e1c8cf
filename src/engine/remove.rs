//! `rm`: a container goes, with all that it wrote.
//!
//! Its folder is renamed away first: from that instant it is not there any more, and what is left of the folder after a `kill -9` is
//! rubbish that the next command clears.

use super::events;
use super::home::Home;
use super::networks::live;
use super::record::{self, Record, Status};
use super::{names, stop, sweep, volumes};
use crate::error::{Class, Doing, Error, Result};
use crate::id;
use crate::runtime::state::Store;
use crate::volume;

/// Removes a container; with `force` one that runs, too; with `volumes` its anonymous volumes that no other one uses.
///
/// # Errors
/// Conflict when it runs, NotFound.
pub fn remove(home: &Home, record: &Record, force: bool, volumes: bool) -> Result<()> {
    let record = sweep::settle(home, record.clone())?;
    if record.is_active() {
        if !force {
            let status = record.status();
            let why = match status {
                Status::Paused => "container is paused and must be unpaused first".to_string(),
                _ => format!("container is {status}: stop the container before removing or force remove"),
            };
            let doing = format!("remove container \"{}\"", record.name);
            return Err(Error::new(Class::Conflict, doing, why).hint(format!("onggi stop {0}, or onggi rm -f {0}", record.name)));
        }
        stop::kill_for_good(home, &record)?;
    }
    let (held, now) = match record::hold(home, &record.id) {
        // With --rm its monitor was faster.
        Err(e) if force && e.class == Class::NotFound => return Ok(()),
        held => held?,
    };
    if now.is_active() && !force {
        return Err(Error::new(Class::Conflict, format!("remove container \"{}\"", now.name), "it was started meanwhile"));
    }
    sweep::end_of_life(home, &Store::open(&home.oci())?, &now.id, now.state.cgroup.as_ref())?;
    forget(home, &now.id, volumes)?;
    let _ = std::fs::remove_file(home.running(&now.id));
    drop(held);
    Ok(())
}

/// Removes a container whose record can't be read, whether it runs or not.
///
/// # Errors
/// EBUSY, EACCES.
pub fn remove_damaged(home: &Home, id: &str) -> Result<()> {
    sweep::end_of_life(home, &Store::open(&home.oci())?, id, None)?;
    forget(home, id, false)?;
    let _ = std::fs::remove_file(home.running(id));
    Ok(())
}

/// Removes a container's folder and name, and with `volumes` its anonymous volumes; the caller holds it, or is its monitor. What is
/// missing is fine.
///
/// # Errors
/// EBUSY, EACCES.
pub fn forget(home: &Home, id: &str, volumes: bool) -> Result<()> {
    let record = record::load(home, id);
    let gone = home.data.join("removing").join(id);
    let doing = || format!("remove the container {}", id::short(id));
    std::fs::create_dir_all(home.data.join("removing")).doing(doing)?;
    match std::fs::rename(home.container(id), &gone) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        renamed => renamed.doing(doing)?,
    }
    if let Ok(record) = record {
        // Held, lest somebody takes the name between the look and the removal.
        names::lock(home)?.release(&record.name, id);
        events::container(home, &record, "destroy", &[]);
        if volumes {
            volumes::remove_anonymous(home, &record.volumes);
        }
    }
    match std::fs::remove_dir_all(&gone) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing(doing),
    }
}

/// Clears what removals that were killed have left. What can't be removed now is tried again by the next.
pub fn sweep(home: &Home) {
    for entry in std::fs::read_dir(home.data.join("removing")).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir_all(entry.path());
    }
    volume::sweep(&home.volumes());
}

/// Gives a container another name.
///
/// # Errors
/// Conflict for a name that is taken, Invalid for what is no name.
pub fn rename(home: &Home, record: &Record, new: &str) -> Result<()> {
    let new = new.strip_prefix('/').unwrap_or(new);
    id::check_name(new)?;
    // Always in this order: a container, then the names.
    let (_held, now) = record::hold(home, &record.id)?;
    if new == now.name {
        return Err(Error::invalid(format!("rename {new}"), "renaming a container with the same name as its current name"));
    }
    let names = names::lock(home)?;
    names.claim(new, &record.id)?;
    if let Err(e) = record::change_held(home, &record.id, |record| record.name = new.to_string()) {
        names.release(new, &record.id);
        return Err(e);
    }
    names.release(&now.name, &record.id);
    drop(names);
    live::rename(home, &record.id, new)?;
    let renamed = Record { name: new.into(), ..record.clone() };
    events::container(home, &renamed, "rename", &[("oldName", &format!("/{}", now.name))]);
    Ok(())
}
