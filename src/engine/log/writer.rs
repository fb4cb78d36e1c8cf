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
            let newline = window.iter().position(|&byte| byte == b'\n');
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A folder of its own, gone with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Folder {
            static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("onggi-log-{}-{number}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Folder(dir)
        }

        fn log(&self) -> PathBuf {
            self.0.join("x-json.log")
        }

        fn open(&self, max_size: Option<u64>, max_file: u32) -> Writer {
            Writer::open(&self.log(), &Options { kept: true, max_size, max_file }).unwrap()
        }

        fn entries(&self, number: u32) -> Vec<Entry> {
            let text = fs::read(rotated(&self.log(), number)).unwrap_or_default();
            let decode = |line: &[u8]| {
                let mut entry = Entry::default();
                assert!(entry::decode(line, &mut entry), "{}", String::from_utf8_lossy(line));
                entry
            };
            text.split_inclusive(|&byte| byte == b'\n').map(decode).collect()
        }

        fn texts(&self) -> Vec<String> {
            self.entries(0).into_iter().map(|entry| String::from_utf8_lossy(&entry.text).into_owned()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn half_a_line_waits_for_its_rest_or_the_end() {
        let folder = Folder::new();
        let mut writer = folder.open(None, 1);
        writer.write(Stream::Stdout, b"one\ntw").unwrap();
        assert_eq!(folder.texts(), ["one\n"]);
        writer.write(Stream::Stderr, b"other\n").unwrap();
        writer.write(Stream::Stdout, b"o\nthree").unwrap();
        writer.end(Stream::Stdout).unwrap();
        writer.end(Stream::Stdout).unwrap();
        assert_eq!(folder.texts(), ["one\n", "other\n", "two\n", "three"]);
    }

    #[test]
    fn a_long_line_is_pieces_of_sixteen_kilobytes_that_cut_no_character() {
        let folder = Folder::new();
        let mut writer = folder.open(None, 1);
        writer.write(Stream::Stdout, &[b'x'; PIECE]).unwrap();
        writer.write(Stream::Stdout, b"\n").unwrap();
        let korean = "항아리".repeat(4000);
        writer.write(Stream::Stdout, korean.as_bytes()).unwrap();
        writer.end(Stream::Stdout).unwrap();
        let lengths: Vec<usize> = folder.texts().iter().map(String::len).collect();
        assert_eq!(lengths, [PIECE, 1, PIECE - 1, PIECE - 1, 36_000 - 2 * (PIECE - 1)]);
        assert_eq!(folder.texts()[2..].concat(), korean);
    }

    #[test]
    fn a_full_file_makes_room_for_a_new_one() {
        let folder = Folder::new();
        let mut writer = folder.open(Some(300), 3);
        for number in 0..40 {
            writer.write(Stream::Stdout, format!("line {number:02}\n").as_bytes()).unwrap();
        }
        let all: Vec<Entry> = (0..4).rev().flat_map(|number| folder.entries(number)).collect();
        assert!(!rotated(&folder.log(), 3).exists());
        assert_eq!(all.last().unwrap().text, b"line 39\n");
        assert!(folder.entries(1).len() > 2 && folder.entries(1).len() == folder.entries(2).len(), "{all:?}");
        let numbers: Vec<u32> = all.iter().map(|entry| String::from_utf8_lossy(&entry.text[5..7]).parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }

    #[test]
    fn one_file_of_a_size_begins_anew() {
        let folder = Folder::new();
        let mut writer = folder.open(Some(200), 1);
        (0..100).for_each(|n| writer.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap());
        assert!(fs::metadata(folder.log()).unwrap().len() < 300);
        assert_eq!(folder.texts().last().unwrap(), "99\n");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn half_an_entry_of_a_killed_writer_is_cut_off() {
        let folder = Folder::new();
        folder.open(None, 1).write(Stream::Stdout, b"whole\nhalf\n").unwrap();
        let whole = fs::read(folder.log()).unwrap();
        for end in [whole.len() - 1, whole.len() - 20, whole.len() / 2 + 1] {
            let mut torn = whole[..end].to_vec();
            torn.extend(vec![0; 9000]);
            fs::write(folder.log(), torn).unwrap();
            folder.open(None, 1).write(Stream::Stdout, b"next\n").unwrap();
            assert_eq!(folder.texts(), ["whole\n", "next\n"]);
        }
    }

    #[test]
    fn nothing_is_kept_when_nothing_is_wanted() {
        let folder = Folder::new();
        let mut writer = Writer::open(&folder.log(), &Options { kept: false, max_size: None, max_file: 1 }).unwrap();
        writer.write(Stream::Stdout, b"x\ny").and_then(|()| writer.end(Stream::Stdout)).unwrap();
        assert!(!folder.log().exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_bytes_in_any_chunks_come_out_the_same(
            chunks in proptest::collection::vec((any::<bool>(), proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), 1..600usize), 0..12),
            max_size in proptest::option::of(20_000..90_000u64),
        ) {
            let folder = Folder::new();
            let mut writer = folder.open(max_size, 200);
            let mut said = [Vec::new(), Vec::new()];
            for (is_err, bytes, times) in chunks {
                let bytes = bytes.repeat(times);
                let stream = if is_err { Stream::Stderr } else { Stream::Stdout };
                said[stream as usize].extend_from_slice(&bytes);
                writer.write(stream, &bytes).unwrap();
            }
            writer.end(Stream::Stdout).and_then(|()| writer.end(Stream::Stderr)).unwrap();
            let files = (0..).take_while(|&number| rotated(&folder.log(), number).exists()).count() as u32;
            let mut kept = [Vec::new(), Vec::new()];
            for entry in (0..files).rev().flat_map(|number| folder.entries(number)) {
                prop_assert!(entry.text.len() <= PIECE);
                kept[entry.stream as usize].extend_from_slice(&entry.text);
            }
            prop_assert_eq!(kept, said);
        }
    }
}
