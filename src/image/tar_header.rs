//! The first 512 bytes of an entry in a tar archive, written: name, owner, size, time, kind; and before them, where they don't fit, a PAX
//! record of the same.
//!
//! Nothing here depends on when, where or by whom an archive is made: the same entries give the same bytes.
//!
//! See it: `tar tvf ARCHIVE --full-time`, `xxd ARCHIVE | less`. Read: tar(5), pax(1) "ustar Interchange Format" and "pax Header Block".

use std::collections::BTreeMap;
use std::io::{Result, Write};

pub const BLOCK: usize = 512;

/// What an entry is, in the letter that tar uses for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    File = b'0',
    HardLink = b'1',
    Symlink = b'2',
    CharDevice = b'3',
    BlockDevice = b'4',
    Folder = b'5',
    Fifo = b'6',
}

/// An entry's header.
#[derive(Debug, Clone)]
pub struct Header {
    pub kind: Kind,
    /// A folder's ends in `/`.
    pub name: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Seconds since 1970 and nanoseconds.
    pub time: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Header {
    pub fn new(kind: Kind, name: &[u8]) -> Header {
        let (name, link) = (name.to_vec(), Vec::new());
        Header { kind, name, link, mode: 0o644, uid: 0, gid: 0, size: 0, time: (0, 0), device: (0, 0), xattrs: Vec::new() }
    }

    /// Writes the header, after a PAX header when some of it has no room.
    pub fn write(&self, out: &mut impl Write) -> Result<()> {
        let records = self.pax_records();
        if !records.is_empty() {
            let base = self.name.rsplit(|&b| b == b'/').find(|part| !part.is_empty()).unwrap_or(b"root");
            let mut pax = Header::new(Kind::File, &[b"PaxHeaders.0/", base].concat());
            pax.size = records.len() as u64;
            out.write_all(&pax.block(b'x'))?;
            out.write_all(&records)?;
            pad(out, pax.size)?;
        }
        out.write_all(&self.block(self.kind as u8))
    }

    /// `LENGTH KEY=VALUE\n` for each thing that the block can't say, sorted by key.
    fn pax_records(&self) -> Vec<u8> {
        let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        if self.name.len() > 100 {
            all.insert("path".into(), self.name.clone());
        }
        if self.link.len() > 100 {
            all.insert("linkpath".into(), self.link.clone());
        }
        for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id > 0o7_777_777 {
                all.insert(key.into(), id.to_string().into());
            }
        }
        if self.size > 0o77_777_777_777 {
            all.insert("size".into(), self.size.to_string().into());
        }
        let (seconds, nanoseconds) = self.time;
        if nanoseconds != 0 || !(0..=0o77_777_777_777).contains(&seconds) {
            all.insert("mtime".into(), pax_time(seconds, nanoseconds).into());
        }
        for (key, value) in &self.xattrs {
            all.insert(format!("SCHILY.xattr.{key}"), value.clone());
        }
        all.iter().flat_map(|(key, value)| pax_record(key, value)).collect()
    }

    fn block(&self, letter: u8) -> [u8; BLOCK] {
        let mut block = [0u8; BLOCK];
        let mut put = |at: usize, room: usize, bytes: &[u8]| {
            let length = bytes.len().min(room);
            block[at..at + length].copy_from_slice(&bytes[..length]);
        };
        put(0, 100, &self.name);
        put(100, 8, &octal(7, self.mode.into()));
        put(108, 8, &octal(7, if self.uid > 0o7_777_777 { 0 } else { self.uid.into() }));
        put(116, 8, &octal(7, if self.gid > 0o7_777_777 { 0 } else { self.gid.into() }));
        put(124, 12, &octal(11, if self.size > 0o77_777_777_777 { 0 } else { self.size }));
        put(136, 12, &octal(11, self.time.0.clamp(0, 0o77_777_777_777) as u64));
        // The checksum is taken with spaces in its own place.
        put(148, 8, b"        ");
        put(156, 1, &[letter]);
        put(157, 100, &self.link);
        put(257, 8, b"ustar\x0000");
        put(329, 8, &octal(7, self.device.0.into()));
        put(337, 8, &octal(7, self.device.1.into()));
        let sum: u64 = block.iter().map(|&b| u64::from(b)).sum();
        block[148..155].copy_from_slice(&[octal(6, sum).as_slice(), b"\0"].concat());
        block
    }
}

/// Fills up to a whole block after `size` bytes of content.
pub fn pad(out: &mut impl Write, size: u64) -> Result<()> {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { Ok(()) } else { out.write_all(&[0u8; BLOCK][over..]) }
}

/// Two empty blocks: the end.
pub fn end(out: &mut impl Write) -> Result<()> {
    out.write_all(&[0u8; 2 * BLOCK])?;
    out.flush()
}

fn octal(digits: usize, number: u64) -> Vec<u8> {
    format!("{number:0digits$o}").into_bytes()
}

/// The length counts itself: one digit more can make it one longer.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() > length {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// Seconds with a fraction. Before 1970 the fraction counts away from zero, as the whole does.
fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    let (sign, whole, fraction) = match seconds {
        0.. => ("", seconds, nanoseconds),
        _ => ("-", -(seconds + 1), 1_000_000_000 - nanoseconds),
    };
    format!("{sign}{whole}.{fraction:09}").trim_end_matches('0').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_length_counts_its_own_digits() {
        assert_eq!(pax_record("a", b"b"), b"6 a=b\n");
        for length in 80..110 {
            let record = pax_record("key", &vec![b'x'; length]);
            let told: usize = std::str::from_utf8(record.split(|&b| b == b' ').next().unwrap()).unwrap().parse().unwrap();
            assert_eq!(told, record.len());
        }
    }

    #[test]
    fn times_have_as_many_digits_as_they_need() {
        assert_eq!(pax_time(1, 500_000_000), "1.5");
        assert_eq!(pax_time(-1, 0), "-1");
        assert_eq!(pax_time(-1, 750_000_000), "-0.25");
    }
}
