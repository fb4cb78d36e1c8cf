//! A file of lines that others append to and rotate, read whole line by whole line through all its files, the oldest first.
//!
//! See it: `ls -li /var/lib/onggi/containers/ID`: a rotated file keeps its inode. Read: rename(2), pread(2), stat(2).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use super::rotated;
use crate::error::{Doing, Result};

/// What a reader of lines finds at the end, or answers to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    ToCome,
    /// What follows is later than what is wanted.
    Later,
}

/// Where somebody is in the files.
pub struct Lines {
    file: Option<File>,
    /// The files that follow.
    queue: VecDeque<File>,
    buffer: Vec<u8>,
    /// What of the buffer is not used up.
    at: usize,
}

/// Two reads' worth of a pipe.
const BLOCK: usize = 128 << 10;

/// A longer line is damage.
const LONGEST: usize = 4 << 20;

impl Lines {
    /// From the beginning, or from the last `tail` lines on. Files that are not there yet have no lines.
    ///
    /// # Errors
    /// EACCES.
    pub fn open(path: &Path, tail: Option<u64>) -> Result<Lines> {
        let mut queue: VecDeque<File> = generations(path).doing(|| format!("read {}", path.display()))?.into();
        if let Some(count) = tail {
            skip_to_last(&mut queue, count).doing(|| format!("read {}", path.display()))?;
        }
        Ok(Lines { file: queue.pop_front(), queue, buffer: Vec::new(), at: 0 })
    }

    /// Goes on with the next younger file; false when there is none. Half a line at the end of this one will never be whole.
    pub fn next_file(&mut self) -> bool {
        let Some(next) = self.queue.pop_front() else { return false };
        self.file = Some(next);
        self.forget();
        true
    }

    fn forget(&mut self) {
        self.buffer.clear();
        self.at = 0;
    }

    /// Begins this file anew when somebody has shortened it.
    ///
    /// # Errors
    /// EIO.
    pub fn notice_truncation(&mut self) -> std::io::Result<()> {
        if let Some(file) = &mut self.file
            && file.metadata()?.len() < file.stream_position()?
        {
            file.rewind()?;
            self.forget();
        }
        Ok(())
    }

    /// Gives `each` all whole lines, without their newlines, up to the end of the file as it is now, or until it says that it is enough.
    ///
    /// # Errors
    /// EIO; those of `each`.
    pub fn rest(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<Rest>) -> Result<Rest> {
        loop {
            while let Some(length) = memchr::memchr(b'\n', &self.buffer[self.at..]) {
                let line = self.at..self.at + length;
                self.at += length + 1;
                if each(&self.buffer[line])? == Rest::Later {
                    return Ok(Rest::Later);
                }
            }
            if !self.fill().doing(|| "read the next lines".into())? {
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

    /// Goes on in a younger file when there is one.
    ///
    /// # Errors
    /// EACCES, EIO; those of `each`.
    pub fn turn(&mut self, path: &Path, each: &mut dyn FnMut(&[u8]) -> Result<Rest>) -> Result<bool> {
        let doing = || format!("follow {}", path.display());
        let Some(current) = self.file.as_ref().map(identity).transpose().doing(doing)? else {
            self.queue.extend(generations(path).doing(doing)?);
            return Ok(self.next_file());
        };
        // Between two files, or removed with its folder: nothing younger is there.
        let Ok(youngest) = File::open(path) else { return Ok(false) };
        if identity(&youngest).doing(doing)? == current {
            return Ok(false);
        }
        // It gets nothing more; what it got since we were at its end is still to be read.
        if self.rest(each)? == Rest::Later {
            return Ok(false);
        }
        let mut files = generations(path).doing(doing)?;
        let at = files.iter().position(|file| identity(file).is_ok_and(|one| one == current));
        // Not there any more: so fast was it rotated that what lies between is gone, and the oldest is next.
        self.queue.extend(files.drain(at.map_or(0, |at| at + 1)..));
        Ok(self.next_file())
    }
}

/// The files as they were at one instant, the oldest first. A rotation renames one after the other: who looks meanwhile sees a
/// gap, or another youngest file afterwards, and looks again.
fn generations(path: &Path) -> std::io::Result<Vec<File>> {
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
fn identity(file: &File) -> std::io::Result<(u64, u64)> {
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
