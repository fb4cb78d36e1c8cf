//! A container's networks are changed in several steps: links, rules, the file of endpoints, its record. Whoever is at it leaves a mark; a
//! mark whose process is gone means that the steps have to be made to agree again. What the record says holds, as far as the kernel has it.
//!
//! See it: `ls /run/onggi/networks/*.changing`.

use std::path::{Path, PathBuf};

use super::live;
use super::{attach, connect, ground, network};
use crate::engine::home::Home;
use crate::engine::record;
use crate::error::{Class, Doing, Result};
use crate::network::{self as net, link};
use crate::runtime::state::ProcessId;

/// The mark, as long as somebody is at it.
#[must_use]
pub struct Changing(PathBuf);

impl Drop for Changing {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Marks that the networks of a container, whose lock the caller holds, are being changed.
///
/// # Errors
/// ENOSPC.
pub fn begin(home: &Home, container: &str) -> Result<Changing> {
    let dir = home.run.join("networks");
    std::fs::create_dir_all(&dir).doing(|| format!("make {}", dir.display()))?;
    let mark = dir.join(format!("{container}.changing"));
    record::write_json(&mark, &ProcessId::now(std::process::id() as i32))?;
    Ok(Changing(mark))
}

/// Ends what those began who were killed; one look into a folder when nobody was.
///
/// # Errors
/// EACCES; Denied without CAP_NET_ADMIN.
pub fn sweep(home: &Home) -> Result<()> {
    let entries = std::fs::read_dir(home.run.join("networks")).into_iter().flatten().flatten();
    for mark in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "changing")) {
        let owner: Option<ProcessId> = std::fs::read(&mark).ok().and_then(|text| serde_json::from_slice(&text).ok()).flatten();
        if !owner.is_some_and(|owner| owner.lives()) {
            settle(home, &mark)?;
        }
    }
    Ok(())
}

fn settle(home: &Home, mark: &Path) -> Result<()> {
    let id = mark.file_stem().unwrap_or_default().to_string_lossy();
    let (_held, record) = match record::hold(home, &id) {
        // With the container its endpoints went, too.
        Err(e) if e.class == Class::NotFound => {
            drop(Changing(mark.into()));
            return Ok(());
        }
        held => held?,
    };
    // One that doesn't run is on no network now, and its record alone says on which it shall be.
    if let Some(init) = record.state.init.filter(|_| record.is_attended()) {
        // It is dying: who ends it clears its networks.
        let Ok(namespace) = attach::namespace_of(init.pid) else { return Ok(()) };
        let Some(ground) = ground::present(home)? else { return Ok(()) };
        let networks = network::lock(home)?;
        let mut left = Vec::new();
        for endpoint in live::of_container(home, &id)? {
            let is_plugged = ground.inside(|| Ok(link::find(&net::open()?, &endpoint.link)?.is_some_and(|link| link.up)))?;
            if is_plugged && record.networks.iter().any(|a| a.network == endpoint.network) {
                left.push(endpoint.network);
            } else {
                attach::detach_one(&networks, &endpoint)?;
            }
        }
        drop(networks);
        let saved = record::change_held(home, &id, |record| record.networks.retain(|a| left.contains(&a.network)))?;
        ground.inside(|| attach::set_routes(home, &id, &saved.networks, &namespace))?;
        // Whoever runs a command now has not asked for its ports.
        let _ = connect::tell_monitor(home, &saved);
    }
    drop(Changing(mark.into()));
    Ok(())
}
