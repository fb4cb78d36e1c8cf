//! JSON, written as it comes: nothing is collected, so nothing can be too long.
//!
//! A byte that is not part of valid UTF-8 is written as `\xNN` in the text (that is `\\xNN` in JSON): visible, and always valid JSON.
//!
//! Read: RFC 8259.

use crate::kernel::{self, Errno, File};

/// Standard output through a buffer, with the commas put in by itself.
pub struct Json {
    buffer: [u8; 4096],
    used: usize,
    last: u8,
    /// Bytes of a UTF-8 sequence that is not complete yet.
    pending: [u8; 4],
    held: usize,
    pub failed: Option<Errno>,
}

impl Json {
    pub fn new() -> Json {
        Json { buffer: [0; 4096], used: 0, last: b'{', pending: [0; 4], held: 0, failed: None }
    }

    pub fn flush(&mut self) {
        if let Err(errno) = kernel::write_all(1, self.buffer.get(..self.used).unwrap_or_default()) {
            self.failed = Some(errno);
        }
        self.used = 0;
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn put(&mut self, byte: u8) {
        if self.used == self.buffer.len() {
            self.flush();
        }
        if let Some(place) = self.buffer.get_mut(self.used) {
            *place = byte;
            self.used += 1;
        }
        self.last = byte;
    }

    fn puts(&mut self, text: &[u8]) {
        for &byte in text {
            self.put(byte);
        }
    }

    /// Whatever comes next is a new value: after another one it needs a comma.
    fn separate(&mut self) {
        if !matches!(self.last, b'{' | b'[' | b':' | b'\n') {
            self.put(b',');
        }
    }

    pub fn open(&mut self, bracket: u8) {
        self.separate();
        self.put(bracket);
    }

    pub fn close(&mut self, bracket: u8) {
        self.put(bracket);
    }

    /// Ends the line, and with it the document.
    pub fn end(&mut self) {
        self.put(b'\n');
        self.flush();
    }

    pub fn key(&mut self, name: &str) {
        self.text(name.as_bytes());
        self.put(b':');
    }

    pub fn null(&mut self) {
        self.separate();
        self.puts(b"null");
    }

    pub fn number(&mut self, value: u64) {
        self.separate();
        self.digits(value);
    }

    pub fn signed(&mut self, value: i64) {
        self.separate();
        if value < 0 {
            self.put(b'-');
        }
        self.digits(value.unsigned_abs());
    }

    fn digits(&mut self, value: u64) {
        let mut unit = 1;
        while value / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            self.put(b'0' + (value / unit % 10) as u8);
            unit /= 10;
        }
    }

    /// Sixteen digits in hexadecimal, as `/proc/P/status` shows sets.
    pub fn hex(&mut self, value: u64) {
        self.begin();
        for nibble in (0..16).rev() {
            self.put(hex_digit((value >> (nibble * 4)) as u8));
        }
        self.finish();
    }

    pub fn text(&mut self, bytes: &[u8]) {
        self.begin();
        for &byte in bytes {
            self.byte(byte);
        }
        self.finish();
    }

    /// Begins a string whose bytes come one by one.
    pub fn begin(&mut self) {
        self.separate();
        self.put(b'"');
    }

    pub fn finish(&mut self) {
        self.give_up();
        self.put(b'"');
    }

    /// One byte of a string.
    pub fn byte(&mut self, byte: u8) {
        if byte < 0x80 {
            self.give_up();
            return self.ascii(byte);
        }
        // A byte that begins a sequence ends the one before it.
        if byte >= 0xc0 || self.held == self.pending.len() {
            self.give_up();
        }
        if let Some(place) = self.pending.get_mut(self.held) {
            *place = byte;
            self.held += 1;
        }
        let sequence = self.pending;
        let sequence = sequence.get(..self.held).unwrap_or_default();
        match core::str::from_utf8(sequence) {
            Ok(_) => {
                self.puts(sequence);
                self.held = 0;
            }
            // No error length: it could still become valid.
            Err(e) if e.error_len().is_some() => self.give_up(),
            Err(_) => {}
        }
    }

    fn ascii(&mut self, byte: u8) {
        match byte {
            b'"' | b'\\' => self.puts(&[b'\\', byte]),
            b'\n' => self.puts(b"\\n"),
            b'\t' => self.puts(b"\\t"),
            0..0x20 | 0x7f => self.puts(&[b'\\', b'u', b'0', b'0', hex_digit(byte >> 4), hex_digit(byte)]),
            _ => self.put(byte),
        }
    }

    fn give_up(&mut self) {
        let sequence = self.pending;
        for &byte in sequence.get(..self.held).unwrap_or_default() {
            self.puts(&[b'\\', b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte)]);
        }
        self.held = 0;
    }

    /// The rest of the line (without its end) as a string.
    pub fn line(&mut self, file: &mut File) {
        self.begin();
        while let Some(byte) = file.next() {
            if byte == b'\n' || byte == 0 {
                break;
            }
            self.byte(byte);
        }
        self.finish();
    }
}

fn hex_digit(value: u8) -> u8 {
    let value = value & 15;
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}
