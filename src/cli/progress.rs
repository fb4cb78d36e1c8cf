//! How far something is that takes its time: one line on standard error that is written over, on a terminal only, and only after half
//! a second.

use std::io::{IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use super::human;

/// How far it is, on one line that is written over.
pub struct Progress {
    doing: &'static str,
    quiet: bool,
    is_live: bool,
    begun: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// `quiet` tells nothing; elsewhere than on a terminal only the end is told.
    pub fn new(doing: &'static str, quiet: bool) -> Progress {
        Progress { doing, quiet, is_live: !quiet && std::io::stderr().is_terminal(), begun: Instant::now(), shown: None }
    }

    /// So many bytes by now.
    pub fn show(&mut self, size: u64) {
        let now = Instant::now();
        let is_due = now.duration_since(self.shown.unwrap_or(self.begun)) >= Duration::from_millis(if self.shown.is_some() { 200 } else { 500 });
        if self.is_live && is_due {
            self.shown = Some(now);
            let _ = write!(std::io::stderr(), "\r\x1b[K{} - {}", self.doing, human::size(size));
        }
    }

    /// It is done, and this is said of it.
    pub fn end(mut self, line: &str) {
        self.clear();
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// What is read through this is counted and shown.
    pub fn reading<R: Read>(&mut self, from: R) -> Counted<'_, R> {
        Counted { from, bytes: 0, progress: self }
    }

    fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A reader whose bytes are counted.
pub struct Counted<'a, R> {
    from: R,
    bytes: u64,
    progress: &'a mut Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.bytes += count as u64;
        self.progress.show(self.bytes);
        Ok(count)
    }
}
