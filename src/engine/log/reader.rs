//! Reading a log back: all of it or the last lines, through the files into which it was rotated, the oldest first.
//!
//! See it: `strace -e openat,pread64,read onggi logs --tail 1 web`. Read: docker-logs(1), pread(2).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::entry::{self, Entry};
use super::rotated;
use crate::clock;
use crate::error::{Doing, Result};

/// What is wanted of a log.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The last entries only; None is all.
    pub tail: Option<u64>,
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
}

/// Takes the entries, one after the other. None says that there is no other one now, and that what was gathered should be shown. Its
/// errors are those of whoever reads the output, and end the reading.
pub type Take<'a> = dyn FnMut(Option<&Entry>) -> std::io::Result<()> + 'a;

/// Gives `take` what is there, and answers. A container without a log has an empty one.
///
/// # Errors
/// EACCES; those of `take`.
pub fn read(path: &Path, wanted: &Wanted, take: &mut Take) -> Result<()> {
    let mut reader = Reader::open(path, wanted)?;
    while reader.rest(take)? == Rest::ToCome && reader.next_file() {}
    take(None).doing(|| "write the log".into())
}

/// What `rest` found at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    ToCome,
    /// What follows is later than what is wanted.
    Later,
}

/// Where somebody is in a log.
pub(super) struct Reader {
    pub(super) file: Option<File>,
    /// The files that follow.
    queue: VecDeque<File>,
    buffer: Vec<u8>,
    /// What of the buffer is not used up.
    at: usize,
    entry: Entry,
    /// As text that sorts like the times.
    since: Option<String>,
    until: Option<String>,
}

/// Two reads' worth of a pipe.
const BLOCK: usize = 128 << 10;

/// A longer line is damage, not an entry.
const LONGEST: usize = 4 << 20;

impl Reader {
    pub(super) fn open(path: &Path, wanted: &Wanted) -> Result<Reader> {
        let mut queue: VecDeque<File> = generations(path).doing(|| format!("read the log {}", path.display()))?.into();
        if let Some(count) = wanted.tail {
            skip_to_last(&mut queue, count).doing(|| format!("read the log {}", path.display()))?;
        }
        let sortable = |time: Option<SystemTime>| time.map(clock::rfc3339);
        let (since, until) = (sortable(wanted.since), sortable(wanted.until));
        Ok(Reader { file: queue.pop_front(), queue, buffer: Vec::new(), at: 0, entry: Entry::default(), since, until })
    }

    /// Goes on with the next younger file; false when there is none. Half an entry at the end of this one will never be whole.
    pub(super) fn next_file(&mut self) -> bool {
        let Some(next) = self.queue.pop_front() else { return false };
        self.file = Some(next);
        self.forget();
        true
    }

    /// Goes on in these files.
    pub(super) fn append(&mut self, files: impl IntoIterator<Item = File>) {
        self.queue.extend(files);
    }

    fn forget(&mut self) {
        self.buffer.clear();
        self.at = 0;
    }

    /// Begins this file anew when somebody has shortened it.
    pub(super) fn notice_truncation(&mut self) -> std::io::Result<()> {
        if let Some(file) = &mut self.file
            && file.metadata()?.len() < file.stream_position()?
        {
            file.rewind()?;
            self.forget();
        }
        Ok(())
    }

    /// Gives `take` all whole entries up to the end of the file as it is now.
    pub(super) fn rest(&mut self, take: &mut Take) -> Result<Rest> {
        loop {
            while let Some(length) = self.buffer[self.at..].iter().position(|&byte| byte == b'\n') {
                let line = self.at..self.at + length;
                self.at += length + 1;
                // A damaged line is left out; those around it are not.
                if !entry::decode(&self.buffer[line], &mut self.entry) {
                    continue;
                }
                if self.until.as_deref().is_some_and(|until| *sortable(&self.entry.time) > *until) {
                    return Ok(Rest::Later);
                }
                if self.since.as_deref().is_none_or(|since| *sortable(&self.entry.time) >= *since) {
                    take(Some(&self.entry)).doing(|| "write the log".into())?;
                }
            }
            if !self.fill().doing(|| "read the log".into())? {
                return Ok(Rest::ToCome);
            }
        }
    }

    /// Reads one block more; false at the end.
    fn fill(&mut self) -> std::io::Result<bool> {
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.buffer.len() > LONGEST {
            self.buffer.clear();
        }
        let Some(file) = &mut self.file else { return Ok(false) };
        let held = self.buffer.len();
        self.buffer.resize(held + BLOCK, 0);
        let read = loop {
            match file.read(&mut self.buffer[held..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }
}

/// The times of one width: others leave out the last zeros.
fn sortable(time: &str) -> Cow<'_, str> {
    if time.len() == "2026-11-21T08:00:00.123456789Z".len() {
        return time.into();
    }
    let time = time.trim_end_matches('Z');
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{fraction:0<9}Z").into()
}

/// The time of an entry as `logs --timestamps` shows it: all nine digits.
pub fn timestamp(entry: &Entry) -> Cow<'_, str> {
    sortable(&entry.time)
}

/// The log's files as they were at one instant, the oldest first. A rotation renames one after the other: who looks meanwhile sees a
/// gap, or another youngest file afterwards, and looks again.
pub(super) fn generations(path: &Path) -> std::io::Result<Vec<File>> {
    let mut files = Vec::new();
    for _ in 0..50 {
        files.clear();
        let mut misses = 0;
        let mut has_gap = false;
        for number in 0.. {
            match File::open(rotated(path, number)) {
                Ok(file) => {
                    has_gap |= misses > 0;
                    misses = 0;
                    files.push(file);
                }
                Err(e) if e.kind() == ErrorKind::NotFound && misses < 2 => misses += 1,
                Err(e) if e.kind() == ErrorKind::NotFound => break,
                Err(e) => return Err(e),
            }
        }
        let youngest = files.first().map(identity).transpose()?;
        if !has_gap && File::open(path).ok().as_ref().map(identity).transpose()? == youngest {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    files.reverse();
    Ok(files)
}

/// Which file it is, whatever it is called.
pub(super) fn identity(file: &File) -> std::io::Result<(u64, u64)> {
    file.metadata().map(|facts| (facts.dev(), facts.ino()))
}

/// Puts the files before their last `count` entries: those that end earlier are dropped.
fn skip_to_last(files: &mut VecDeque<File>, mut count: u64) -> std::io::Result<()> {
    for index in (0..files.len()).rev() {
        let (start, found) = before_last(&files[index], count)?;
        files[index].seek(SeekFrom::Start(start))?;
        count -= found;
        if count == 0 {
            files.drain(..index);
            break;
        }
    }
    Ok(())
}

/// Where the last `count` whole lines begin, and how many of them there are; read from the end, block by block.
fn before_last(file: &File, count: u64) -> std::io::Result<(u64, u64)> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; 64 << 10];
    // The newline that ends the last line begins none.
    let mut newlines = 0;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        for (at, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            newlines += 1;
            if newlines > count {
                return Ok((start + at as u64 + 1, count));
            }
        }
        end = start;
    }
    Ok((0, newlines))
}
