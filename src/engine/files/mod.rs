//! A container's files, whether it runs or not: copied in and out, compared with its image, packed as an archive, made an image of.
//!
//! Nothing of the container is trusted: its names lead nowhere but into its own root, and none of its programs or libraries takes part.
//!
//! Read [`view`] first, then [`place`] and [`cp`].

pub mod commit;
pub mod cp;
pub mod diff;
pub mod export;
pub mod instructions;
mod land;
pub mod place;
pub(super) mod tree;
mod unpack;
pub mod view;

use super::events;
use super::home::Home;
use super::record::{self, Held, Record, layer_dirs};
use super::{sweep, volume_mounts};
use crate::error::{Class, Error, Result};
use view::{Parts, View};

/// What a view is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Read,
    /// Then a container that doesn't run can't be started meanwhile.
    Write,
}

/// A container's files as its programs see them.
///
/// # Errors
/// NotFound when it, or one of its layers, is gone; EPERM.
pub fn view_of(home: &Home, record: &Record, purpose: Purpose) -> Result<View> {
    let view = opened(home, record, purpose, true)?;
    let action = if purpose == Purpose::Read { "archive-path" } else { "extract-to-dir" };
    events::container(home, record, action, &[]);
    Ok(view)
}

/// A container's own files alone, without its volumes and what else is mounted.
///
/// # Errors
/// As [`view_of`].
pub fn layers_of(home: &Home, record: &Record) -> Result<View> {
    opened(home, record, Purpose::Read, false)
}

fn opened(home: &Home, record: &Record, purpose: Purpose, with_volumes: bool) -> Result<View> {
    // Started or ended while we look: then it is looked at again.
    for _ in 0..16 {
        let now = sweep::settle(home, record::load(home, &record.id)?)?;
        if let Some(init) = now.state.init.filter(|_| now.is_active())
            && let Some(view) = if with_volumes { View::running(&init)? } else { View::layers_of_running(&init)? }
        {
            return Ok(view);
        }
        // Who only reads stands in nobody's way, and waits for nobody: in a pipe the other end of which writes, both would wait for ever.
        // A mount that writes nothing, with a work directory of its own, disturbs no other one of the same upper directory.
        let (held, now): (Option<Held>, Record) = match purpose {
            Purpose::Read => (None, record::load(home, &record.id)?),
            Purpose::Write => record::hold(home, &record.id).map(|(held, now)| (Some(held), now))?,
        };
        if !now.is_active() || now.state.init.is_none_or(|init| !init.lives()) {
            let definition = record::definition(home, &record.id)?;
            let layers = layer_dirs(home, &definition);
            let request = &definition.request;
            // What is looked at without its volumes needs none of them to be there.
            let volumes = if with_volumes { volume_mounts::trees(home, &record.id, &request.mounts)? } else { Vec::new() };
            let dir = home.container(&record.id);
            let parts = Parts {
                dir: &dir,
                layers: &layers,
                mounts: &request.mounts,
                volumes: &volumes,
                read_only: request.read_only,
                writes: purpose == Purpose::Write,
            };
            let view = if with_volumes { View::at_rest(parts)? } else { View::layers_at_rest(parts)? };
            return Ok(match held {
                Some(held) => view.holding(held),
                None => view,
            });
        }
    }
    Err(Error::new(Class::Conflict, format!("look at the files of {}", record.name), "it starts and ends again and again"))
}
