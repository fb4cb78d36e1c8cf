//! What a container has said: one file, a JSON object a line, in the form that Docker calls json-file.
//!
//! ```text
//! {"log":"text\n","stream":"stdout","time":"2026-11-21T08:00:00.123456789Z"}
//! ```
//! [`writer`] is the monitor's part, [`reader`] that of `logs`; [`entry`] is the one line that both know. Nobody asks anybody: who reads
//! never disturbs who writes.
//!
//! See it: `tail /var/lib/onggi/containers/ID/ID-json.log`. Read: docker-logs(1).

use std::path::{Path, PathBuf};

pub mod entry;
pub mod follow;
pub mod lines;
pub mod reader;
#[cfg(test)]
mod tests;
pub mod writer;

pub use entry::{Entry, Stream};
pub use writer::{Options, Writer};

/// Where the log was before it was rotated `number` times: `….log.1` is the youngest of the old ones.
pub fn rotated(file: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return file.to_path_buf();
    }
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
