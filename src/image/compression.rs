//! gzip and zstd, undone. What something is compressed with is told by its first bytes: names and media types say it wrong at times.
//!
//! A few bytes can stand for very many: gzip makes at most 1,032 out of one, zstd has no such limit. More than that would be no layer but
//! an attack on the disk, so that this many is what is taken of both.
//!
//! See it: `file LAYER`, `xxd LAYER | head -1`. Source: RFC 1952 (gzip), RFC 8878 (zstd).

use std::cell::Cell;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Bytes that one compressed byte may stand for, and bytes that nobody minds.
const MOST_FROM_ONE: u64 = 1100;
const FREE: u64 = 16 << 20;

/// What bytes are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the first bytes of something say.
    ///
    /// # Errors
    /// `Unsupported` for bzip2 and xz.
    pub fn of(first: &[u8]) -> Result<Compression> {
        let unsupported = |name| Err(Error::new(ErrorKind::Unsupported, format!("it is compressed with {name}; gzip, zstd and none are read here")));
        match first {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => unsupported("xz"),
            _ => Ok(Compression::None),
        }
    }
}

/// A reader of what `input` holds, uncompressed.
///
/// # Errors
/// `Unsupported` for other compressions, and those of `input`. Reading gives `InvalidData` and `UnexpectedEof`.
pub fn undone<'a>(input: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let taken = Rc::new(Cell::new(0));
    let mut input = BufReader::with_capacity(128 << 10, Counting { input, count: taken.clone() });
    // The first read of a pipe may bring less than the six bytes that tell.
    let mut first = Vec::new();
    Read::by_ref(&mut input).take(6).read_to_end(&mut first)?;
    let compression = Compression::of(&first)?;
    let input = BufReader::with_capacity(128 << 10, std::io::Cursor::new(first).chain(input));
    let inner: Box<dyn Read + 'a> = match compression {
        Compression::None => return Ok(Box::new(input)),
        Compression::Gzip => Box::new(Gunzip(MultiGzDecoder::new(input))),
        Compression::Zstd => Box::new(Unzstd { input, frame: FrameDecoder::new(), inside: false }),
    };
    Ok(Box::new(Bounded { inner, taken, given: 0 }))
}

struct Counting<R> {
    input: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.input.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

struct Bounded<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
    given: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.inner.read(buffer)?;
        self.given += count as u64;
        if self.given > FREE + MOST_FROM_ONE.saturating_mul(self.taken.get()) {
            let why = format!("{} compressed bytes would become more than {}: this is no layer but a bomb", self.taken.get(), self.given);
            return Err(Error::new(ErrorKind::InvalidData, why));
        }
        Ok(count)
    }
}

/// gzip, of several members after each other too.
struct Gunzip<R>(MultiGzDecoder<R>);

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.read(buffer).map_err(|e| match e.kind() {
            _ if e.raw_os_error().is_some() => e,
            ErrorKind::UnexpectedEof => Error::new(ErrorKind::UnexpectedEof, "the gzip data is cut off"),
            // Whoever brings the data has a reason of their own.
            ErrorKind::Other => e,
            _ => Error::new(ErrorKind::InvalidData, "the gzip data is damaged, or something else follows it"),
        })
    }
}

/// zstd, of several frames after each other too.
struct Unzstd<R> {
    input: R,
    frame: FrameDecoder,
    inside: bool,
}

impl<R: BufRead> Read for Unzstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            if self.frame.can_collect() > 0 {
                return self.frame.read(buffer);
            }
            if self.inside && !self.frame.is_finished() {
                self.frame.decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBytes(128 << 10)).map_err(damaged)?;
                continue;
            }
            self.inside = false;
            if self.input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.frame.reset(&mut self.input) {
                Ok(()) => self.inside = true,
                // A frame to be passed over: pzstd and eStargz keep tables in them.
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    std::io::copy(&mut Read::by_ref(&mut self.input).take(length.into()), &mut std::io::sink())?;
                }
                Err(e) => return Err(damaged(e)),
            }
        }
    }
}

fn damaged(e: FrameDecoderError) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the zstd data is cut off or damaged, or something else follows it: {e}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        undone(bytes)?.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn each_is_known_by_its_first_bytes_and_several_after_each_other_are_one() {
        let text: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
        assert!(read(&text).unwrap() == text && read(&gzip(&text)).unwrap() == text && read(&zstd(&text)).unwrap() == text);
        assert_eq!(read(&[gzip(b"one"), gzip(b"two")].concat()).unwrap(), b"onetwo");
        let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        assert_eq!(read(&[skipped.clone(), zstd(b"one"), skipped, zstd(b"two")].concat()).unwrap(), b"onetwo");
        assert_eq!((read(b"").unwrap().len(), read(b"x").unwrap().len()), (0, 1));
        assert!(read(b"BZh91AY").unwrap_err().to_string().contains("bzip2"));
    }

    #[test]
    fn what_is_cut_off_or_followed_by_something_else_is_refused() {
        let text = b"some text that is long enough to be cut".repeat(100);
        for whole in [gzip(&text), zstd(&text)] {
            for length in [7, 20, whole.len() - 1] {
                assert!(read(&whole[..length]).is_err(), "{length}");
            }
            assert!(read(&[&whole[..], b"garbage after the end"].concat()).is_err());
        }
    }

    #[test]
    fn a_bomb_is_defused() {
        // zstd says "128 KiB of zeros" in four bytes.
        let mut bomb = b"\x28\xb5\x2f\xfd\x00\x58".to_vec();
        for _ in 0..4096 {
            bomb.extend([0x02, 0x00, 0x10, 0x00]);
        }
        let mut bomb = undone(&*bomb).unwrap();
        let error = std::io::copy(&mut bomb, &mut std::io::sink()).unwrap_err();
        assert!(error.to_string().contains("bomb"), "{error}");
    }
}
