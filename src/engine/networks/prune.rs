//! `network prune`: networks on which no container is, or is to be.

use super::create;
use super::network;
use crate::engine::events::{self, Event};
use crate::engine::home::Home;
use crate::engine::sweep;
use crate::error::{Class, Result};

use super::Network;

/// Removes the networks that nobody uses and that are meant. Answers their names.
///
/// # Errors
/// EACCES.
pub fn prune(home: &Home, is_meant: &dyn Fn(&Network) -> bool) -> Result<Vec<String>> {
    sweep::sweep(home)?;
    let mut gone = Vec::new();
    for network in network::list(home)? {
        if network.is_predefined() || !is_meant(&network) || create::has_containers(home, &network)? {
            continue;
        }
        match create::remove(home, &network) {
            // Somebody has joined it at this moment.
            Err(e) if matches!(e.class, Class::Conflict | Class::NotFound) => continue,
            removed => removed?,
        }
        gone.push(network.name);
    }
    events::record(home, &Event::new("network", "prune", "", [("reclaimed".to_string(), "0".to_string())]));
    Ok(gone)
}
