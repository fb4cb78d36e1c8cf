//! After the machine's start: the containers whose restart policy says so come back.
//!
//! Docker's daemon does it when it starts; without a daemon it is a command, and a systemd unit that calls it.

use super::home::Home;
use super::record::{self, Record};
use super::request::Restart;
use super::{start, sweep};
use crate::error::{Error, Result};

/// Starts them, the oldest first. Answers for each how it went.
///
/// # Errors
/// EACCES.
pub fn boot(home: &Home, warning: &mut dyn FnMut(&str)) -> Result<Vec<(Record, Result<(), Error>)>> {
    sweep::sweep(home)?;
    let mut done = Vec::new();
    for record in record::list(home, true)?.into_iter().rev() {
        let record = match sweep::settle(home, record.clone()) {
            Ok(record) if record.is_active() || !comes_back(&record) => continue,
            Ok(record) => record,
            // Gone with its end (--rm), or damaged.
            Err(_) => continue,
        };
        let started = start::start(home, &record.id, None, warning).map(drop);
        done.push((record, started));
    }
    Ok(done)
}

/// Docker's rule: `always` comes back even when it was stopped by hand; one that never ran does not.
fn comes_back(record: &Record) -> bool {
    let ran = record.state.started.is_some();
    ran && match record.restart {
        Restart::No => false,
        Restart::Always => true,
        Restart::UnlessStopped => !record.state.stopped,
        Restart::OnFailure(_) => record.state.exit_code != 0 && !record.state.stopped,
    }
}
