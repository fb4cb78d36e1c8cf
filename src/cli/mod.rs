//! The command line: one file a noun; arguments and output only.

pub mod attach;
mod bars;
pub mod commit;
pub mod complete;
pub mod container;
pub mod cp;
pub mod create;
pub mod diff;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod export;
pub mod filter;
pub mod human;
pub mod image_files;
pub mod image_filter;
pub mod image_look;
pub mod image_remove;
pub mod images;
pub mod info;
pub mod inspect;
pub mod life;
pub mod limits;
pub mod login;
pub mod logs;
pub mod man;
pub mod mounts;
pub mod network_map;
pub mod network_trace;
pub mod networking;
pub mod networks;
pub mod oci;
pub mod oci_events;
pub mod oci_exec;
pub mod oci_update;
mod password;
pub mod progress;
pub mod prune;
pub mod ps;
pub mod pull;
pub mod push;
pub mod registry;
pub mod registry_ls;
pub mod run;
pub mod search;
pub mod size;
pub mod slips;
pub mod stats;
pub mod system;
pub mod table;
pub mod template;
pub mod top;
pub mod transfer;
pub mod values;
pub mod volume;

use std::fmt::Display;
use std::io::{BufWriter, Write};

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

/// Has standard output written to; when it is closed (`| head`), that is the end, and no failure worth words.
///
/// # Errors
/// Those of the writer.
pub fn to_stdout(write: impl FnOnce(&mut BufWriter<Closable>) -> Result<()>) -> Result<u8> {
    let mut out = BufWriter::with_capacity(256 << 10, Closable { is_closed: false });
    let written = write(&mut out);
    let is_closed = out.get_ref().is_closed;
    // What is buffered still would be written again, in vain.
    let _ = out.into_parts();
    if is_closed { Ok(0) } else { written.map(|()| 0) }
}

/// Standard output that knows whether its reader has gone.
pub struct Closable {
    is_closed: bool,
}

impl Write for Closable {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Not through the standard library's own buffer, which looks for the ends of lines.
        let written = nix::unistd::write(crate::sys::fd::standard(1), bytes).map_err(std::io::Error::from);
        written.inspect_err(|e| self.is_closed |= e.kind() == std::io::ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Tells a failure on standard error.
pub fn complain(error: &Error) {
    let _ = writeln!(std::io::stderr(), "onggi: {error}");
}

/// Does the same with all names at once, for what waits: ten containers need no longer than the slowest. They are told in the names' order.
///
/// # Errors
/// The only name's own failure.
pub fn side_by_side(names: &[String], one: impl Fn(&str) -> Result<()> + Sync) -> Result<u8> {
    std::thread::scope(|scope| {
        let begun: Vec<_> = names.iter().map(|name| scope.spawn(|| one(name))).collect();
        let mut ends = begun.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        each(names, |name| ends.next().unwrap_or(Ok(())).and_then(|()| say(name)))
    })
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
