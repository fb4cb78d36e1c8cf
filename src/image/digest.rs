//! Digests: the name of bytes is their hash, so who holds the name can check the bytes.
//!
//! ```text
//! layer digest   the layer as it was sent (maybe compressed)      names a blob
//! diff ID        the layer's tar, uncompressed                    names a change, however it was packed
//! chain ID       sha256("chain ID below" + " " + "diff ID")       names a stack: this change on top of exactly those
//! ```
//! See it: `sha256sum /var/lib/onggi/images/blobs/sha256/*`. Source: OCI image specification, descriptor.md "Digests" and config.md
//! "Layer ChainID".

use std::fmt;
use std::io::{Read, Write};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `sha256:` and 64 hexadecimal digits, checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// The digest of a layer's uncompressed tar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DiffId(pub Digest);

/// The name of a stack of layers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainId(pub Digest);

impl Digest {
    /// Reads a digest.
    ///
    /// # Errors
    /// Invalid for another algorithm, another length, or upper case (the specification's `[a-f0-9]{64}`).
    pub fn parse(text: &str) -> Result<Digest> {
        let doing = || format!("read the digest {text:?}");
        let hex = text.strip_prefix("sha256:").ok_or_else(|| Error::invalid(doing(), "it does not begin with sha256:"))?;
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::invalid(doing(), "sha256: is followed by 64 digits of 0-9 and a-f"));
        }
        Ok(Digest(text.to_string()))
    }

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hash = Context::new(&SHA256);
        hash.update(bytes);
        finish(hash)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits, good as a file's name: no `:` in it.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The first twelve digits, as people are shown them.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl ChainId {
    /// The chain ID of each stack from the lowest layer up; the last names the whole.
    pub fn stack(layers: &[DiffId]) -> Vec<ChainId> {
        let mut chain: Vec<ChainId> = Vec::with_capacity(layers.len());
        for layer in layers {
            chain.push(ChainId::on(chain.last(), layer));
        }
        chain
    }

    /// The name of the stack `below` with one layer more.
    pub fn on(below: Option<&ChainId>, layer: &DiffId) -> ChainId {
        match below {
            None => ChainId(layer.0.clone()),
            Some(below) => ChainId(Digest::of(format!("{} {}", below.0, layer.0).as_bytes())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Digest, String> {
        Digest::parse(&text).map_err(|e| e.one_line())
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hashes and counts all that is read or written through it.
pub struct Hashing<T> {
    inner: T,
    hash: Context,
    length: u64,
}

impl<T> Hashing<T> {
    pub fn new(inner: T) -> Hashing<T> {
        Hashing { inner, hash: Context::new(&SHA256), length: 0 }
    }

    /// What went through: digest and length; and the inner one back.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, finish(self.hash), self.length)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.length += count as u64;
        Ok(count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn finish(hash: Context) -> Digest {
    use std::fmt::Write;
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in hash.finish().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    Digest(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn nothing_has_the_digest_that_everybody_knows() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        assert_eq!(Digest::parse(EMPTY).unwrap().short(), "e3b0c44298fc");
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in ["", "sha256:", "e3b0c442", "md5:0123", &EMPTY.to_uppercase(), &EMPTY[..70], &format!("{EMPTY}0"), "sha256:../../../etc/passwd"] {
            assert!(Digest::parse(text).is_err(), "{text}");
            assert!(serde_json::from_value::<Digest>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_chain_of_one_is_its_layer_and_a_longer_one_hashes_both_names() {
        let layers = [DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b"))];
        let chain = ChainId::stack(&layers);
        assert_eq!(chain[0].0, layers[0].0);
        assert_eq!(chain[1].0, Digest::of(format!("{} {}", layers[0], layers[1]).as_bytes()));
        assert!(ChainId::stack(&[]).is_empty());
    }

    #[test]
    fn a_stream_is_hashed_as_it_passes() {
        let mut reader = Hashing::new(&b"onggi"[..]);
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        assert_eq!(reader.finish().1, Digest::of(b"onggi"));
    }
}
