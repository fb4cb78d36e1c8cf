//! The command line: one file a noun; arguments and output only.

pub mod attach;
pub mod container;
pub mod doctor;
pub mod exec;
pub mod filter;
pub mod human;
pub mod inspect;
pub mod life;
pub mod oci;
pub mod oci_events;
pub mod oci_exec;
pub mod oci_update;
pub mod ps;
pub mod run;
pub mod size;
pub mod stats;
pub mod system;
pub mod table;
pub mod template;
pub mod top;
pub mod values;
pub mod volume;

use std::fmt::Display;
use std::io::Write;

use crate::error::{Doing, Error, Result};

/// Prints a line; a closed standard output (`| head`) is no failure worth words.
///
/// # Errors
/// ENOSPC, EIO.
pub fn say(line: impl Display) -> Result<u8> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        written => written.doing(|| "write to standard output".into()).map(|()| 0),
    }
}

/// Tells a failure on standard error.
pub fn complain(error: &Error) {
    let _ = writeln!(std::io::stderr(), "onggi: {error}");
}

/// Does the same with each name. One that fails is told, the others are done: then the exit code is 1.
///
/// # Errors
/// The only name's own failure.
pub fn each(names: &[String], mut one: impl FnMut(&str) -> Result<u8>) -> Result<u8> {
    if let [name] = names {
        return one(name);
    }
    let mut code = 0;
    for name in names {
        if let Err(e) = one(name) {
            complain(&e);
            code = 1;
        }
    }
    Ok(code)
}
