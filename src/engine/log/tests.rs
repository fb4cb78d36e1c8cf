//! What is written is what is read, whatever happens between.

use proptest::prelude::*;

use std::fs;
use std::path::PathBuf;

use super::entry::{self, Entry, Stream};
use super::writer::PIECE;
use super::{Options, Writer, rotated};

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
