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
mod tree;
mod unpack;
pub mod view;

use super::events;
use super::home::Home;
use super::record::{self, Held, Record, layer_dirs};
use super::sweep;
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
    let view = opened(home, record, purpose, View::running, View::at_rest)?;
    let action = if purpose == Purpose::Read { "archive-path" } else { "extract-to-dir" };
    events::container(home, record, action, &[]);
    Ok(view)
}

/// A container's own files alone, without its volumes and what else is mounted.
///
/// # Errors
/// As [`view_of`].
pub fn layers_of(home: &Home, record: &Record) -> Result<View> {
    opened(home, record, Purpose::Read, View::layers_of_running, View::layers_at_rest)
}

type OfRunning = fn(&crate::runtime::state::ProcessId) -> Result<Option<View>>;
type AtRest = fn(Parts) -> Result<View>;

fn opened(home: &Home, record: &Record, purpose: Purpose, of_running: OfRunning, at_rest: AtRest) -> Result<View> {
    // Started or ended while we look: then it is looked at again.
    for _ in 0..16 {
        let now = sweep::settle(home, record::load(home, &record.id)?)?;
        if let Some(init) = now.state.init.filter(|_| now.is_active())
            && let Some(view) = of_running(&init)?
        {
            return Ok(view);
        }
        // Who only reads stands in nobody's way, and waits for nobody: in a pipe the other end of which writes, both would wait for ever.
        // A mount that writes nothing disturbs no other one of the same upper directory.
        let (held, now): (Option<Held>, Record) = match purpose {
            Purpose::Read => (None, record::load(home, &record.id)?),
            Purpose::Write => record::hold(home, &record.id).map(|(held, now)| (Some(held), now))?,
        };
        if !now.is_active() || now.state.init.is_none_or(|init| !init.lives()) {
            let definition = record::definition(home, &record.id)?;
            let layers = layer_dirs(home, &definition);
            let request = &definition.request;
            let parts = Parts { dir: &home.container(&record.id), layers: &layers, volumes: &request.mounts, read_only: request.read_only };
            let view = at_rest(parts)?;
            return Ok(match held {
                Some(held) => view.holding(held),
                None => view,
            });
        }
    }
    Err(Error::new(Class::Conflict, format!("look at the files of {}", record.name), "it starts and ends again and again"))
}
