//! `export`: all files of a container as one tar archive; what is mounted into it from outside (volumes, /proc, the engine's /etc/hosts)
//! is not its own and stays out.
//!
//! Read: docker export(1), tar(5).

use std::io::Write;

use crate::engine::events;
use crate::engine::home::Home;
use crate::engine::record::Record;
use crate::error::Result;
use crate::image::pack;

/// Writes a container's files as an archive.
///
/// # Errors
/// NotFound when a layer is missing; those of `out`.
pub fn export(home: &Home, record: &Record, out: impl Write) -> Result<()> {
    pack::tree(super::layers_of(home, record)?.root(), out)?;
    events::container(home, record, "export", &[]);
    Ok(())
}
