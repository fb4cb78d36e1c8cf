//! A tar archive, read entry by entry as a stream: the formats of old Unix, GNU and PAX, with sparse files of both.
//!
//! An archive comes from strangers. What is read into memory has limits, numbers are checked before they are used, and what is cut off or
//! contradicts itself is an error. Attributes may hold any byte, also a newline: a PAX record is as long as it says.
//!
//! See it: `tar tvf ARCHIVE --full-time --xattrs`. Read: tar(5), pax(1) "pax Interchange Format", GNU tar's manual "Storing Sparse Files".

use std::io::{Error, ErrorKind, Read, Result};

use super::pax::Description;
use super::tar_header::{BLOCK, Kind};

/// Names and attributes of one entry; Go's archive/tar, and so Docker, has the same limit.
const MOST_DESCRIPTION: u64 = 1 << 20;

/// Parts of one sparse file.
const MOST_SEGMENTS: usize = 1 << 18;

/// One entry, without its content.
#[derive(Debug, Clone)]
pub struct Entry {
    pub kind: Kind,
    pub name: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Of the file; a sparse one has fewer bytes in the archive.
    pub size: u64,
    /// Seconds since 1970 and nanoseconds.
    pub time: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// Of a sparse file: where the parts go that are in the archive (offset, length). The rest is holes.
    pub segments: Option<Vec<(u64, u64)>>,
}

/// Reads entries; between two of them, it is itself the reader of the first one's content.
pub struct Reader<R> {
    input: R,
    /// Bytes of the entry's content that nobody has read.
    left: u64,
    /// Bytes after the content, up to the next block.
    padding: u64,
}

impl<R: Read> Reader<R> {
    pub fn new(input: R) -> Reader<R> {
        Reader { input, left: 0, padding: 0 }
    }

    /// The next entry; None at the end. What is left of the last one's content is passed over.
    ///
    /// # Errors
    /// `InvalidData`, `UnexpectedEof`, and those of the input.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut about = Description::default();
        loop {
            self.pass_over()?;
            let Some(block) = self.block()? else { return Ok(None) };
            let size = about.size.unwrap_or(number(&block[124..136])?);
            match block[156] {
                b'x' => about.read(&self.description(number(&block[124..136])?)?)?,
                // For all that follows: a comment of git's, as a rule. Docker passes over them, too.
                b'g' => drop(self.description(number(&block[124..136])?)?),
                b'L' => about.name = Some(until_nul(&self.description(number(&block[124..136])?)?)),
                b'K' => about.link = Some(until_nul(&self.description(number(&block[124..136])?)?)),
                kind => return self.entry(&block, kind, size, about).map(Some),
            }
        }
    }

    /// The input, at the place that was reached.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn entry(&mut self, block: &[u8; BLOCK], letter: u8, size: u64, about: Description) -> Result<Entry> {
        let name = about.sparse_name.or(about.name).unwrap_or_else(|| name_in(block));
        let kind = match letter {
            // Archives of long ago know folders by their names only.
            0 | b'0' if name.ends_with(b"/") => Kind::Folder,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            other => return Err(invalid(format!("entries of type {:?} have no meaning in a layer", other as char))),
        };
        // Only files have content; some archivers tell a size for others, and mean nothing by it.
        let size = if kind == Kind::File { size } else { 0 };
        (self.left, self.padding) = (size, padding(size)?);
        let mut entry = Entry {
            kind,
            name,
            link: about.link.unwrap_or_else(|| until_nul(&block[157..257])),
            mode: number(&block[100..108])? as u32 & 0o7777,
            uid: about.uid.map_or_else(|| number(&block[108..116]), Ok)?,
            gid: about.gid.map_or_else(|| number(&block[116..124]), Ok)?,
            size,
            time: about.time.map_or_else(|| signed(&block[136..148]).map(|seconds| (seconds, 0)), Ok)?,
            device: (number(&block[329..337]).unwrap_or(0) as u32, number(&block[337..345]).unwrap_or(0) as u32),
            xattrs: about.xattrs,
            segments: None,
        };
        let map = match letter {
            b'S' => Some((number(&block[483..495])?, self.gnu_map(block)?)),
            _ if about.sparse_is_in_content => Some((about.sparse_size.unwrap_or(size), self.map_in_content()?)),
            _ => about.sparse_size.filter(|_| !about.sparse_map.is_empty()).map(|real| (real, about.sparse_map)),
        };
        if let Some((real, map)) = map {
            entry.segments = Some(self.segments(&map, real)?);
            entry.size = real;
        }
        Ok(entry)
    }

    /// The next header, its checksum verified; None at an empty block or at the input's end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0u8; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut_off()),
                Ok(count) => filled += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let outside = |&(at, _): &(usize, &u8)| !(148..156).contains(&at);
        let sum = 8 * 32 + block.iter().enumerate().filter(outside).map(|(_, &b)| u64::from(b)).sum::<u64>();
        // Some old archivers added signed bytes.
        let signed_sum = 8 * 32 + block.iter().enumerate().filter(outside).map(|(_, &b)| i64::from(b as i8)).sum::<i64>();
        match number(&block[148..156]) {
            Ok(told) if told == sum || told as i64 == signed_sum => Ok(Some(block)),
            _ => Err(invalid("this is no tar archive, or it is damaged: a header's checksum is wrong")),
        }
    }

    /// The content of an entry that is about the next one.
    fn description(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MOST_DESCRIPTION {
            return Err(invalid(format!("names and attributes of {size} bytes for one entry")));
        }
        (self.left, self.padding) = (size, padding(size)?);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn pass_over(&mut self) -> Result<()> {
        let (content, padding) = (std::mem::take(&mut self.left), std::mem::take(&mut self.padding));
        match std::io::copy(&mut Read::by_ref(&mut self.input).take(content + padding), &mut std::io::sink())? {
            // `umoci insert` ends an archive with its last file's last byte, and all others read that.
            passed if passed >= content => Ok(()),
            _ => Err(cut_off()),
        }
    }

    /// GNU's own sparse map: four parts in the header, and blocks of 21 after it.
    fn gnu_map(&mut self, block: &[u8; BLOCK]) -> Result<Vec<u64>> {
        let mut map = Vec::new();
        let mut more = block[482] != 0;
        read_pairs(&block[386..482], &mut map)?;
        while more {
            let mut next = [0u8; BLOCK];
            self.input.read_exact(&mut next)?;
            read_pairs(&next[..504], &mut map)?;
            more = next[504] != 0;
        }
        Ok(map)
    }

    /// PAX 1.0: decimal numbers, one a line, in blocks before the content.
    fn map_in_content(&mut self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let (mut count, mut digits) = (None, String::new());
        while count.is_none_or(|count: u64| (numbers.len() as u64) < 2 * count) {
            let mut block = [0u8; BLOCK];
            self.read_exact(&mut block)?;
            for byte in block {
                match byte {
                    b'0'..=b'9' if digits.len() < 20 => digits.push(byte as char),
                    b'\n' => {
                        let number: u64 = std::mem::take(&mut digits).parse().map_err(|_| invalid("a sparse file's map is no numbers"))?;
                        if count.is_none() { count = Some(number) } else { numbers.push(number) }
                    }
                    0 => break,
                    _ => return Err(invalid("a sparse file's map is no numbers")),
                }
            }
            if numbers.len() > 2 * MOST_SEGMENTS || count.is_some_and(|count| count > MOST_SEGMENTS as u64) {
                return Err(invalid("a sparse file of too many parts"));
            }
        }
        numbers.truncate(2 * count.unwrap_or(0) as usize);
        Ok(numbers)
    }

    /// The map as pairs: in order, inside the file, and of as many bytes as the archive has.
    fn segments(&self, map: &[u64], size: u64) -> Result<Vec<(u64, u64)>> {
        let (mut end, mut stored) = (0u64, 0u64);
        let mut segments = Vec::with_capacity(map.len() / 2);
        for pair in map.chunks(2) {
            let &[offset, length] = pair else { return Err(invalid("a sparse file's map has an odd number of numbers")) };
            let past = offset.checked_add(length).filter(|past| offset >= end && *past <= size);
            (end, stored) = (past.ok_or_else(|| invalid("a sparse file's parts overlap, or are outside of it"))?, stored + length);
            segments.push((offset, length));
        }
        match stored == self.left && size <= i64::MAX as u64 {
            true => Ok(segments),
            false => Err(invalid("a sparse file's parts are not as long as its content")),
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        match self.input.read(&mut buffer[..room])? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, format!("the archive ends in the middle of it, {} bytes before its end", self.left))),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}

/// How many bytes come between content of this size and the next block.
fn padding(size: u64) -> Result<u64> {
    let whole = size.checked_next_multiple_of(BLOCK as u64).filter(|whole| *whole <= i64::MAX as u64);
    whole.map(|whole| whole - size).ok_or_else(|| invalid(format!("an entry of {size} bytes")))
}

/// The name in the header itself: POSIX has a second field for the first part of long ones, where GNU has other things.
fn name_in(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    let prefix = until_nul(&block[345..500]);
    if &block[257..263] != b"ustar\0" || prefix.is_empty() { name } else { [&prefix[..], b"/", &name].concat() }
}

fn read_pairs(bytes: &[u8], map: &mut Vec<u64>) -> Result<()> {
    for pair in bytes.chunks_exact(24).take_while(|pair| pair[0] != 0) {
        map.extend([number(&pair[..12])?, number(&pair[12..])?]);
    }
    if map.len() > 2 * MOST_SEGMENTS { Err(invalid("a sparse file of too many parts")) } else { Ok(()) }
}

fn number(field: &[u8]) -> Result<u64> {
    u64::try_from(signed(field)?).map_err(|_| invalid("a header has a negative number"))
}

/// Octal digits, or, with the first bit set, GNU's binary form for what has too many of them.
fn signed(field: &[u8]) -> Result<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let first = if negative { i128::from(field[0] as i8) } else { i128::from(field[0] & 0x3f) };
        let value = field[1..].iter().fold(first, |value, &byte| (value << 8) | i128::from(byte));
        return i64::try_from(value).map_err(|_| invalid("a header's number is too large"));
    }
    let digits = until_nul(field);
    let digits = text(&digits).map(|text| text.trim_matches(' ')).ok_or_else(|| invalid("a header's number is none"))?;
    if digits.is_empty() {
        return Ok(0);
    }
    i64::from_str_radix(digits, 8).map_err(|_| invalid("a header's number is none"))
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}

pub fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

pub fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidData, why.into())
}

fn cut_off() -> Error {
    Error::new(ErrorKind::UnexpectedEof, "the archive is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tar_header::{self, Header};

    fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
        let mut reader = Reader::new(bytes);
        let mut all = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut content = Vec::new();
            reader.read_to_end(&mut content)?;
            all.push((entry, content));
        }
        Ok(all)
    }

    #[test]
    fn what_a_header_says_is_read_back() {
        let mut header = Header::new(Kind::File, "한글/".repeat(30).as_bytes());
        header.name.extend(b"file");
        header.uid = 3_000_000_000;
        header.time = (-5, 250_000_000);
        header.size = 3;
        header.xattrs = vec![("user.a".into(), b"1\n2\0".to_vec()), ("user.b".into(), Vec::new())];
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        bytes.extend(b"abc");
        tar_header::pad(&mut bytes, 3).unwrap();
        tar_header::end(&mut bytes).unwrap();
        let all = read_all(&bytes).unwrap();
        let (entry, content) = &all[0];
        assert_eq!((&entry.name, entry.uid, entry.time, &entry.xattrs), (&header.name, 3_000_000_000, header.time, &header.xattrs));
        assert_eq!((content.as_slice(), all.len()), (&b"abc"[..], 1));
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\x02\0\0\0").unwrap(), 2 << 24);
        assert_eq!(signed(&[0xff; 12]).unwrap(), -1);
        assert!(number(&[0xff; 12]).is_err() && number(b"9\0").is_err() && number(&[0xbf; 12]).is_err());
    }

    #[test]
    fn an_archive_may_end_with_its_last_byte_but_not_before() {
        let mut header = Header::new(Kind::File, b"file");
        header.size = 3;
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        bytes.extend(b"abc");
        assert_eq!(read_all(&bytes).unwrap()[0].1, b"abc");
        bytes.truncate(bytes.len() - 1);
        assert!(read_all(&bytes).is_err());
    }

    #[test]
    fn what_lies_about_its_length_is_refused() {
        let mut header = Header::new(Kind::File, b"big");
        header.size = u64::MAX;
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        assert!(read_all(&bytes).is_err());
    }
}
