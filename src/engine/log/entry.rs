//! One line of a log, written and read.
//!
//! JSON can only hold text. Bytes that are no UTF-8 stand as U+FFFD in `log`, for other programs, and exactly, in hex, in an attribute
//! of our own, `bytes`. An entry with `lost` says that so many bytes are missing here: there was no room on the disk.
//!
//! See it: `head -1 /var/lib/onggi/containers/ID/ID-json.log`. Read: RFC 8259, section 7.

use std::io::Write;

use serde::Deserialize;

/// Where a container wrote it to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stream {
    #[default]
    Stdout,
    Stderr,
}

/// One entry, as it was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// With its newline; without one it is a piece of a longer line.
    pub text: Vec<u8>,
    pub stream: Stream,
    /// RFC 3339 in UTC.
    pub time: String,
    /// So many bytes are missing here.
    pub lost: u64,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Adds the line of an entry to `out`.
pub fn encode(out: &mut Vec<u8>, text: &[u8], stream: Stream, time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    let exact = match std::str::from_utf8(text) {
        Ok(_) => {
            escape(out, text);
            None
        }
        Err(_) => {
            escape(out, String::from_utf8_lossy(text).as_bytes());
            Some(text)
        }
    };
    close(out, stream, time);
    if let Some(exact) = exact {
        out.extend_from_slice(b",\"bytes\":\"");
        out.extend(exact.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]));
        out.push(b'"');
    }
    out.extend_from_slice(b"}\n");
}

/// Adds the line that says how much is missing.
pub fn encode_loss(out: &mut Vec<u8>, lost: u64, time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    close(out, Stream::Stderr, time);
    // A Vec takes all that is written to it.
    let _ = write!(out, ",\"lost\":{lost}}}");
    out.push(b'\n');
}

fn close(out: &mut Vec<u8>, stream: Stream, time: &str) {
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.push(b'"');
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn must_be_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The runs between what must be escaped are copied whole: most lines are one run and a newline.
fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = text.iter().position(|&byte| must_be_escaped(byte)) {
        out.extend_from_slice(&text[..at]);
        match text[at] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

/// Reads one line into `entry`, whose memory is used again; false when it is no entry.
pub fn decode(line: &[u8], entry: &mut Entry) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    ours(line, entry).is_some() || anybodys(line, entry).is_some()
}

/// The form that the writer gives a line: read in one go.
fn ours(line: &[u8], entry: &mut Entry) -> Option<()> {
    entry.text.clear();
    entry.time.clear();
    entry.lost = 0;
    let mut rest = unescape(line.strip_prefix(b"{\"log\":\"")?, &mut entry.text)?;
    rest = rest.strip_prefix(b",\"stream\":\"std")?;
    (entry.stream, rest) = match rest.strip_prefix(b"out\"") {
        Some(rest) => (Stream::Stdout, rest),
        None => (Stream::Stderr, rest.strip_prefix(b"err\"")?),
    };
    rest = rest.strip_prefix(b",\"time\":\"")?;
    let end = memchr::memchr(b'"', rest)?;
    entry.time.push_str(std::str::from_utf8(&rest[..end]).ok()?);
    rest = &rest[end + 1..];
    if let Some(hex) = rest.strip_prefix(b",\"bytes\":\"") {
        entry.text.clear();
        unhex(hex.strip_suffix(b"\"}")?, &mut entry.text)?;
        return Some(());
    }
    if let Some(number) = rest.strip_prefix(b",\"lost\":") {
        entry.lost = std::str::from_utf8(number.strip_suffix(b"}")?).ok()?.parse().ok()?;
        return Some(());
    }
    (rest == b"}").then_some(())
}

/// Copies a JSON string up to its closing quote, and answers what follows. Escapes that the writer doesn't make are not known here.
fn unescape<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest)?;
        text.extend_from_slice(&rest[..at]);
        if rest[at] == b'"' {
            return Some(&rest[at + 1..]);
        }
        let byte = match *rest.get(at + 1)? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            byte @ (b'"' | b'\\') => byte,
            b'u' => {
                let hex = rest.get(at + 2..at + 6)?.strip_prefix(b"00")?;
                let byte = (digit(hex[0])? << 4) | digit(hex[1])?;
                rest = &rest[4..];
                Some(byte).filter(u8::is_ascii)?
            }
            _ => return None,
        };
        text.push(byte);
        rest = &rest[at + 2..];
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn unhex(hex: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let pairs = hex.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    for pair in pairs {
        bytes.push((digit(pair[0])? << 4) | digit(pair[1])?);
    }
    Some(())
}

/// An entry as another program may have written it.
fn anybodys(line: &[u8], entry: &mut Entry) -> Option<()> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        log: String,
        #[serde(default)]
        stream: String,
        time: String,
        bytes: Option<String>,
        #[serde(default)]
        lost: u64,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    entry.text.clear();
    match line.bytes {
        Some(hex) => unhex(hex.as_bytes(), &mut entry.text)?,
        None => entry.text.extend_from_slice(line.log.as_bytes()),
    }
    entry.stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    entry.time = line.time;
    entry.lost = line.lost;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: &str = "2026-11-21T08:00:00.123456789Z";

    fn round(text: &[u8]) -> Entry {
        let (mut line, mut entry) = (Vec::new(), Entry::default());
        encode(&mut line, text, Stream::Stderr, TIME);
        assert!(decode(&line, &mut entry), "{}", String::from_utf8_lossy(&line));
        // What another program sees.
        let seen: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(seen["log"], String::from_utf8_lossy(text).as_ref());
        entry
    }

    #[test]
    fn a_line_is_dockers() {
        let mut line = Vec::new();
        encode(&mut line, b"say \"hi\"\t\x01\n", Stream::Stdout, TIME);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            format!("{{\"log\":\"say \\\"hi\\\"\\t\\u0001\\n\",\"stream\":\"stdout\",\"time\":\"{TIME}\"}}\n")
        );
    }

    #[test]
    fn a_line_of_dockers_is_read() {
        let mut entry = Entry::default();
        let line = br#"{"log":"a \u003c b \u2028\n","stream":"stderr","attrs":{"tag":"x"},"time":"2026-11-21T08:00:00.1Z"}"#;
        assert!(decode(line, &mut entry));
        assert_eq!((entry.text, entry.stream), ("a < b \u{2028}\n".as_bytes().to_vec(), Stream::Stderr));
    }

    #[test]
    fn half_a_line_is_none() {
        let mut line = Vec::new();
        encode(&mut line, b"text \xff\n", Stream::Stdout, TIME);
        for end in 0..line.len() - 1 {
            assert!(!decode(&line[..end], &mut Entry::default()), "{end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(round(&text), Entry { text, stream: Stream::Stderr, time: TIME.into(), lost: 0 });
        }

        #[test]
        fn any_text_comes_back(text in ".{0,100}\n?") {
            prop_assert_eq!(round(text.as_bytes()).text, text.as_bytes());
        }
    }
}
