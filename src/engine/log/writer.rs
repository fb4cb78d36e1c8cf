//! The monitor's side of the log: what the container wrote becomes entries, at the pace of the container and in a few kilobytes.
//!
//! As Docker does it: an entry is a line; a line longer than 16 KiB is several, without a newline but for the last; half a line waits for
//! its rest, or for the end of the stream. When the file has reached its size, it becomes `.1`, that one `.2`, and a new one begins.
//!
//! When the disk is full, the file ends with its last whole entry, and when there is room again, an entry says how much is missing.
//!
//! See it: `strace -e write -p $(pgrep onggi-monitor)`. Read: write(2), ftruncate(2), rename(2).

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::entry::{self, Entry, Stream};
use super::rotated;
use crate::clock;
use crate::error::{Doing, Result};

/// Docker's buffer, and so the longest text of one entry.
pub const PIECE: usize = 16 << 10;

/// Entries are gathered up to this size before they are written: a read's worth of short lines is a few megabytes of entries.
const GATHERED: usize = 32 << 10;

/// How much is kept, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// False: nowhere (`--log-driver none`).
    pub kept: bool,
    /// Bytes; None is unlimited.
    pub max_size: Option<u64>,
    /// How many files there are at most, the one that is written included.
    pub max_file: u32,
}

/// An open log.
#[derive(Debug)]
pub struct Writer {
    /// None: nothing is kept.
    file: Option<File>,
    path: PathBuf,
    options: Options,
    size: u64,
    /// What waits for its newline, by stream.
    pending: [Vec<u8>; 2],
    /// Entries on their way to the file.
    out: Vec<u8>,
    time: String,
    /// Bytes of the container that are missing behind the last entry.
    lost: u64,
    /// Bytes of half an entry that stand at the file's end, because they could not be cut off at once.
    torn: u64,
    failed: Option<std::io::Error>,
}

impl Writer {
    /// Opens the log, and makes it when there is none. Half an entry at its end, from a writer that was killed, is cut off.
    ///
    /// # Errors
    /// EACCES, ENOSPC.
    pub fn open(path: &Path, options: &Options) -> Result<Writer> {
        let doing = || format!("open the log {}", path.display());
        let mut writer = Writer {
            file: None,
            path: path.into(),
            options: options.clone(),
            size: 0,
            pending: [Vec::new(), Vec::new()],
            out: Vec::new(),
            time: String::new(),
            lost: 0,
            torn: 0,
            failed: None,
        };
        if options.kept {
            let file = open(path).doing(doing)?;
            writer.size = mend(&file).doing(doing)?;
            writer.file = Some(file);
        }
        Ok(writer)
    }

    /// Takes what the container wrote. The bytes are safe with the kernel when this returns, but for half a line.
    ///
    /// # Errors
    /// ENOSPC, EIO: some of it is lost, and the log will say so; the next call is welcome.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        self.time = clock::rfc3339(SystemTime::now());
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = PIECE - pending.len();
            let window = &rest[..room.min(rest.len())];
            let newline = memchr::memchr(b'\n', window);
            let taken = newline.map_or(window.len(), |at| at + 1);
            let is_full = taken == room;
            if newline.is_none() && !is_full {
                pending.extend_from_slice(window);
                break;
            }
            if pending.is_empty() {
                let end = if newline.is_some() { taken } else { whole_characters(window) };
                self.add(stream, &window[..end]);
                rest = &rest[end..];
                continue;
            }
            pending.extend_from_slice(&window[..taken]);
            rest = &rest[taken..];
            let end = if newline.is_some() { pending.len() } else { whole_characters(&pending) };
            self.add(stream, &pending[..end]);
            pending.drain(..end);
        }
        self.pending[stream as usize] = pending;
        self.flush()
    }

    /// The stream has ended: what waited for its newline has none.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn end(&mut self, stream: Stream) -> Result<()> {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if pending.is_empty() || self.file.is_none() {
            return Ok(());
        }
        self.time = clock::rfc3339(SystemTime::now());
        self.add(stream, &pending);
        self.flush()
    }

    fn add(&mut self, stream: Stream, text: &[u8]) {
        if self.options.max_size.is_some_and(|most| self.size + self.out.len() as u64 >= most) {
            self.push();
            // When the old files can't be moved, the log goes on in the one that there is.
            if let Err(e) = self.rotate() {
                self.failed.get_or_insert(e);
            }
        }
        if self.out.is_empty() && self.lost > 0 {
            entry::encode_loss(&mut self.out, self.lost, &self.time);
            self.lost = 0;
        }
        entry::encode(&mut self.out, text, stream, &self.time);
        if self.out.len() >= GATHERED {
            self.push();
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.push();
        // Control characters and hex make an entry larger than usual: that much memory is not kept.
        self.out.shrink_to(2 * GATHERED);
        match self.failed.take() {
            Some(e) => Err(e).doing(|| format!("write the log {}", self.path.display())),
            None => Ok(()),
        }
    }

    /// Writes the gathered entries.
    fn push(&mut self) {
        let Some(file) = self.file.as_mut().filter(|_| !self.out.is_empty()) else { return };
        let mut written = 0;
        let mut failure = match self.torn {
            0 => None,
            torn => cut(file, torn).inspect(|()| self.torn = 0).err(),
        };
        while failure.is_none() && written < self.out.len() {
            match file.write(&self.out[written..]) {
                Ok(0) => failure = Some(ErrorKind::WriteZero.into()),
                Ok(length) => written += length,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => failure = Some(e),
            }
        }
        self.size += written as u64;
        if let Some(failure) = failure {
            let whole = self.out[..written].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            let half = (written - whole) as u64;
            self.size -= half;
            if half > 0 && cut(file, half).is_err() {
                self.torn = half;
            }
            self.lost += length_of(&self.out[whole..]);
            self.failed.get_or_insert(failure);
        }
        self.out.clear();
    }

    /// Begins a new file. Whoever reads the old one has it open and can read it to its end.
    fn rotate(&mut self) -> std::io::Result<()> {
        for number in (1..self.options.max_file).rev() {
            match fs::rename(rotated(&self.path, number - 1), rotated(&self.path, number)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        if self.options.max_file < 2 {
            match fs::remove_file(&self.path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.file = Some(open(&self.path)?);
        (self.size, self.torn) = (0, 0);
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o640).open(path)
}

/// Cuts off what stands behind the last newline; answers the size.
fn mend(file: &File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    let (mut end, mut block) = (length, [0; 4096]);
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = part.iter().rposition(|&byte| byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(end)
}

/// Takes `half` bytes from the end. Its end is asked for: others may have shortened the file meanwhile.
fn cut(file: &File, half: u64) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    file.set_len(length.saturating_sub(half))
}

/// How many of the container's bytes these entries hold.
fn length_of(entries: &[u8]) -> u64 {
    let mut entry = Entry::default();
    let lines = entries.split_inclusive(|&byte| byte == b'\n');
    lines.map(|line| if entry::decode(line, &mut entry) { entry.text.len() as u64 + entry.lost } else { 0 }).sum()
}

/// Up to where a full piece holds whole characters: one that is cut in two would be two that are no text.
fn whole_characters(piece: &[u8]) -> usize {
    let tail = piece.len().saturating_sub(3);
    let Some(at) = (tail..piece.len()).rev().find(|&at| piece[at] & 0xC0 != 0x80) else { return piece.len() };
    let wanted = match piece[at] {
        0xF0..=0xF7 => 4,
        0xE0..=0xEF => 3,
        0xC0..=0xDF => 2,
        _ => 1,
    };
    if at + wanted > piece.len() && at > 0 { at } else { piece.len() }
}
