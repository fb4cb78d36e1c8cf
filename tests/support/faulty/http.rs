//! HTTP/1.1 as far as a registry for tests needs it: a request is read whole, an answer is written right or wrong on purpose.
//!
//! Source: RFC 9112 (messages), RFC 9110 (ranges, Retry-After).

use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What was asked.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// With what follows `?`.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What is answered when nothing goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What goes wrong with one answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing: to count, or to be late.
    None,
    /// The connection ends before a word is said.
    Gone,
    /// Not a word is said, and the connection stays.
    Silent,
    /// No HTTP at all.
    Garbage,
    /// The answer is right, and comes later.
    Late(Duration),
    /// The head comes at once, and then a piece of the body after each pause.
    Slow(usize, Duration),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// One bit of this byte of the body is another one.
    Flip(usize),
    /// This status with these headers instead.
    Status(u16, Vec<(&'static str, String)>),
    /// The challenge that a request without a right token gets.
    Unauthorized,
    /// Somewhere else, which `{path}` may be a part of.
    Redirect(u16, String),
    /// Content-Length says so many bytes more, or fewer, and the connection ends with the body.
    Length(i64),
    /// The body in chunks, its length not told before.
    Chunked,
    /// One header is another one; the body stays.
    Header(&'static str, String),
    /// Other bytes in place of the right ones, whatever the other headers say.
    Bytes(Vec<u8>),
    /// Bytes without an end, in chunks.
    Endless,
    /// A header without an end.
    EndlessHead,
    /// All, though a part was asked for.
    NoRange,
    /// Another part than the one asked for, and it says so.
    OtherRange,
}

impl Request {
    /// The next request of a connection, or None when there is none.
    pub fn read(stream: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_string);
        let mut request = Request { method: words.next().unwrap_or_default(), path: words.next().unwrap_or_default(), ..Request::default() };
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            request.headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        if request.header("expect").is_some() {
            stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = body(stream, &request)?;
        Ok(Some(request))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Method and path, as rules and tests name a request.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The first byte that is wanted.
    pub fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

fn body(stream: &mut BufReader<TcpStream>, request: &Request) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_none() {
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        stream.take(length).read_to_end(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
        stream.take(length).read_to_end(&mut body)?;
        stream.read_line(&mut line)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: body.into() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A failure as the distribution specification wants it told.
    pub fn error(status: u16, code: &str) -> Answer {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{}"}}]}}"#, code.to_lowercase().replace('_', " "));
        Answer::new(status, body).with("Content-Type", "application/json")
    }

    /// Of the whole the part from here on.
    pub fn part(mut self, from: usize) -> Answer {
        let total = self.body.len();
        if from >= total {
            return Answer::error(416, "RANGE_INVALID").with("Content-Range", format!("bytes */{total}"));
        }
        self.status = 206;
        self.body.drain(..from);
        self.with("Content-Range", format!("bytes {from}-{}/{total}", total - 1))
    }

    /// Writes it, wrong in this way. False: the connection is over.
    pub fn write(mut self, stream: &mut TcpStream, request: &Request, fault: &Fault, is_over: impl Fn() -> bool) -> Result<bool> {
        match fault {
            Fault::Gone => return Ok(false),
            Fault::Silent => return rest_until(is_over),
            Fault::Garbage => return stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").map(|()| false),
            Fault::EndlessHead => return endless(stream, b"HTTP/1.1 200 OK\r\nX-Long: ", b"aaaaaaaaaaaaaaaa", is_over),
            Fault::Late(pause) => std::thread::sleep(*pause),
            Fault::Flip(at) if !self.body.is_empty() => {
                let at = at % self.body.len();
                self.body[at] ^= 1;
            }
            Fault::Status(status, headers) => {
                self = headers.iter().fold(Answer::error(*status, "UNKNOWN"), |answer, (name, value)| answer.with(name, value));
            }
            Fault::Redirect(status, to) => self = Answer::new(*status, "").with("Location", to.replace("{path}", &request.path)),
            Fault::Header(name, value) => self = self.with(name, value),
            Fault::Bytes(bytes) => self.body = bytes.clone(),
            _ => {}
        }
        let is_head = request.method == "HEAD";
        let length = self.body.len() as i64;
        let framing = match fault {
            Fault::Endless | Fault::Chunked => "Transfer-Encoding: chunked".to_string(),
            Fault::Length(more) => format!("Content-Length: {}", (length + more).max(0)),
            _ => format!("Content-Length: {length}"),
        };
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        stream.write_all(format!("HTTP/1.1 {} Told\r\n{lines}{framing}\r\n\r\n", self.status).as_bytes())?;
        match fault {
            _ if is_head => {}
            Fault::Endless => return endless(stream, b"", &[b"10000\r\n", &[b'x'; 65536][..], b"\r\n"].concat(), is_over),
            Fault::Chunked => {
                for chunk in self.body.chunks(1000) {
                    stream.write_all(&[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())?;
                }
                stream.write_all(b"0\r\n\r\n")?;
            }
            Fault::Slow(size, pause) => {
                for piece in self.body.chunks(*size) {
                    stream.write_all(piece)?;
                    std::thread::sleep(*pause);
                }
            }
            Fault::Cut(after) => return stream.write_all(&self.body[..self.body.len().min(*after)]).map(|()| false),
            _ => stream.write_all(&self.body)?,
        }
        Ok(!matches!(fault, Fault::Length(_)))
    }
}

fn rest_until(is_over: impl Fn() -> bool) -> Result<bool> {
    while !is_over() {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

fn endless(stream: &mut TcpStream, head: &[u8], again: &[u8], is_over: impl Fn() -> bool) -> Result<bool> {
    stream.write_all(head)?;
    while !is_over() {
        stream.write_all(again)?;
    }
    Ok(false)
}
