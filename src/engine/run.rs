//! `run`, a straight line: an image and a request become a container, a monitor looks after it, and somebody sits in front of it.

use super::create::{self, Notice};
use super::foreground::Signals;
use super::home::Home;
use super::monitor::control::Attach;
use super::record;
use super::request::Request;
use super::start::{self, Attached};
use super::{remove, sweep};
use crate::error::{Class, Error, Result};
use crate::runtime::state::ProcessId;

/// A container that was started.
pub struct Running {
    pub id: String,
    /// None when it runs in the background.
    pub attached: Option<Attached>,
    pub signals: Option<Signals>,
}

/// Creates a container and starts it.
///
/// # Errors
/// Of every step. With `--rm` nothing is left behind; otherwise a container that could not be started stays, as under docker.
pub fn run(home: &Home, request: &Request, attach: Option<Attach>, notice: &mut dyn FnMut(Notice)) -> Result<Running> {
    // From here on a Ctrl-C waits until there is a container that it can be sent to.
    let signals = attach.map(|_| Signals::take()).transpose()?;
    let us = ProcessId::now(std::process::id() as i32);
    let record = match create::create(home, request, us, notice) {
        // The name may be that of a container whose `run` was killed.
        Err(e) if e.class == Class::Conflict => {
            sweep::sweep(home)?;
            create::create(home, request, us, notice)?
        }
        created => created?,
    };
    match start::start(home, &record.id, attach, &mut |words| notice(Notice::Warning(words))) {
        Ok(attached) => Ok(Running { id: record.id, attached, signals }),
        Err(e) => Err(not_started(home, &record.id, request, e)),
    }
}

fn not_started(home: &Home, id: &str, request: &Request, error: Error) -> Error {
    if request.remove {
        // Its monitor has done so, unless it could not even begin.
        let _ = remove::forget(home, id, true);
    } else {
        let _ = record::change(home, id, |record| record.state.monitor = None);
    }
    let _ = std::fs::remove_file(home.running(id));
    error
}
