//! D-Bus by hand, as much of it as asking systemd takes: a unix socket, a greeting, and messages of aligned little-endian fields.
//!
//! A message is a header (what is asked, of whom, and the *signature* of what follows) and a body. Types are letters: `s` a string,
//! `u` 32 bits, `a` an array of what follows, `(…)` a struct, `v` a variant that carries its own signature.
//!
//! See it: `busctl monitor org.freedesktop.systemd1`, `busctl introspect org.freedesktop.systemd1 /org/freedesktop/systemd1`.
//! Read: the D-Bus specification ("Marshaling", "Message Format", "Authentication Protocol"), sd-bus(3), busctl(1).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::error::{Class, Doing, Error, Result};

/// A value with its D-Bus type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Byte(u8),
    Bool(bool),
    U32(u32),
    U64(u64),
    Str(String),
    Path(String),
    Signature(String),
    /// The signature of one item, and the items.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
    /// A number of a type that we read but never write (`i`, `x`, `n`, `q`, `d`, `h`), as its bits.
    Other(char, u64),
}

impl Value {
    pub fn text(text: impl Into<String>) -> Value {
        Value::Str(text.into())
    }

    pub fn variant(self) -> Value {
        Value::Variant(Box::new(self))
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Path(text) | Value::Signature(text) => Some(text),
            Value::Variant(inner) => inner.as_text(),
            _ => None,
        }
    }

    pub fn signature(&self) -> String {
        match self {
            Value::Byte(_) => "y".into(),
            Value::Bool(_) => "b".into(),
            Value::U32(_) => "u".into(),
            Value::U64(_) => "t".into(),
            Value::Str(_) => "s".into(),
            Value::Path(_) => "o".into(),
            Value::Signature(_) => "g".into(),
            Value::Array(item, _) => format!("a{item}"),
            Value::Struct(fields) => format!("({})", fields.iter().map(Value::signature).collect::<String>()),
            Value::Variant(_) => "v".into(),
            Value::Other(letter, _) => letter.to_string(),
        }
    }
}

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// A message as received.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    pub kind: u8,
    pub serial: u32,
    pub reply_to: u32,
    pub member: String,
    pub error_name: String,
    pub body: Vec<Value>,
}

/// What is called.
pub struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub body: Vec<Value>,
}

/// A connection to a bus, or to systemd itself.
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Signals that came while we waited for a reply.
    signals: Vec<Message>,
}

/// Nobody should wait for systemd longer than systemd itself waits for a job of this kind.
const PATIENCE: Duration = Duration::from_secs(30);

impl Bus {
    /// Connects and greets. `peer`: at the other end is systemd itself and no bus, which needs no Hello.
    ///
    /// # Errors
    /// NotFound, Denied: nobody listens there, or won't have us.
    pub fn connect(address: &str, peer: bool) -> Result<Bus> {
        let story = || format!("talk D-Bus at {address}");
        let mut stream = open(address)?;
        stream.set_read_timeout(Some(PATIENCE)).doing(story)?;
        // One NUL carries our credentials; EXTERNAL means "who the socket says that I am", so that it works in user namespaces too.
        // BEGIN goes along, as with libsystemd: sent later, systemd would read it in one go with our first call, and then sleep on
        // the call until something else comes.
        stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n").doing(story)?;
        for expected in ["DATA", "OK "] {
            let line = read_line(&mut stream).doing(story)?;
            if !line.starts_with(expected) {
                return Err(Error::new(Class::Denied, story(), format!("it answered {line:?} to our greeting")));
            }
        }
        let mut bus = Bus { stream, serial: 0, signals: Vec::new() };
        if !peer {
            let bus_name = "org.freedesktop.DBus";
            bus.call(Call { destination: bus_name, path: "/org/freedesktop/DBus", interface: bus_name, member: "Hello", body: vec![] })?;
        }
        Ok(bus)
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// The error that the other end answers, as `Said("org.…: text")`.
    pub fn call(&mut self, call: Call) -> Result<Vec<Value>> {
        self.serial += 1;
        let story = || format!("call {} over D-Bus", call.member);
        let bytes = method_call(self.serial, &call);
        self.stream.write_all(&bytes).doing(story)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let message = self.receive().doing(story)?;
            match message.kind {
                RETURN if message.reply_to == self.serial => return Ok(message.body),
                ERROR if message.reply_to == self.serial => {
                    let text = message.body.first().and_then(Value::as_text).unwrap_or("").to_string();
                    return Err(Error::new(class_of(&message.error_name), story(), format!("{}: {text}", message.error_name)));
                }
                SIGNAL => self.signals.push(message),
                _ => {}
            }
        }
        Err(Error::new(Class::System, story(), "no answer in 30 seconds"))
    }

    /// The next signal of this name for which `wanted` answers true.
    ///
    /// # Errors
    /// System when none comes in 30 seconds.
    pub fn wait_signal(&mut self, member: &str, wanted: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        let story = || format!("wait for the signal {member} over D-Bus");
        let fits = |message: &Message| message.kind == SIGNAL && message.member == member && wanted(&message.body);
        if let Some(at) = self.signals.iter().position(fits) {
            return Ok(self.signals.remove(at).body);
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let message = self.receive().doing(story)?;
            if fits(&message) {
                return Ok(message.body);
            }
        }
        Err(Error::new(Class::System, story(), "none came in 30 seconds"))
    }

    fn receive(&mut self) -> std::io::Result<Message> {
        let mut bytes = vec![0; 16];
        self.stream.read_exact(&mut bytes)?;
        let total = length(&bytes).ok_or_else(|| std::io::Error::other("not a D-Bus message"))?;
        bytes.resize(total, 0);
        self.stream.read_exact(&mut bytes[16..])?;
        decode(&bytes).ok_or_else(|| std::io::Error::other("a D-Bus message that makes no sense"))
    }
}

fn class_of(error: &str) -> Class {
    match error.rsplit('.').next().unwrap_or("") {
        "AccessDenied" | "InteractiveAuthorizationRequired" => Class::Denied,
        "NoSuchUnit" => Class::NotFound,
        "UnitExists" => Class::Conflict,
        "InvalidArgs" | "PropertyReadOnly" | "UnknownProperty" => Class::Invalid,
        "ServiceUnknown" | "UnknownMethod" => Class::Unsupported,
        _ => Class::System,
    }
}

/// `unix:path=/run/dbus/system_bus_socket,guid=…;…`: the first that answers.
fn open(address: &str) -> Result<UnixStream> {
    let mut last = Error::invalid(format!("connect to D-Bus at {address:?}"), "only unix:path= and unix:abstract= are known");
    for one in address.split(';') {
        let pairs = one.strip_prefix("unix:").unwrap_or("").split(',').filter_map(|pair| pair.split_once('='));
        for (key, value) in pairs {
            let stream = match key {
                "path" => UnixStream::connect(value),
                "abstract" => {
                    use std::os::linux::net::SocketAddrExt;
                    std::os::unix::net::SocketAddr::from_abstract_name(value).and_then(|name| UnixStream::connect_addr(&name))
                }
                _ => continue,
            };
            match stream.doing(|| format!("connect to D-Bus at {one}")) {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            }
        }
    }
    Err(last)
}

fn read_line(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte, so that nothing of a first message is taken with it.
    while !line.ends_with(b"\r\n") && line.len() < 1024 {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_string())
}

/// A whole message: header, padding to 8, body.
pub fn method_call(serial: u32, call: &Call) -> Vec<u8> {
    let mut body = Vec::new();
    call.body.iter().for_each(|value| encode(value, &mut body));
    let field = |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), value.variant()]);
    let mut fields = vec![field(1, Value::Path(call.path.into())), field(2, Value::text(call.interface)), field(3, Value::text(call.member))];
    if !call.destination.is_empty() {
        fields.push(field(6, Value::text(call.destination)));
    }
    if !call.body.is_empty() {
        fields.push(field(8, Value::Signature(call.body.iter().map(Value::signature).collect())));
    }
    // Little endian, a call, no flags, protocol 1.
    let mut bytes = vec![b'l', CALL, 0, 1];
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(serial.to_le_bytes());
    encode(&Value::Array("(yv)".into(), fields), &mut bytes);
    pad(&mut bytes, 8);
    bytes.extend(body);
    bytes
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// To how many bytes a type is aligned, by the first letter of its signature.
fn alignment(letter: u8) -> usize {
    match letter {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

fn encode(value: &Value, bytes: &mut Vec<u8>) {
    pad(bytes, alignment(value.signature().as_bytes()[0]));
    match value {
        Value::Byte(byte) => bytes.push(*byte),
        Value::Bool(flag) => bytes.extend(u32::from(*flag).to_le_bytes()),
        Value::U32(number) => bytes.extend(number.to_le_bytes()),
        Value::U64(number) | Value::Other(_, number) => bytes.extend(number.to_le_bytes()),
        Value::Str(text) | Value::Path(text) => {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        Value::Signature(text) => {
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        Value::Array(item, items) => {
            let length_at = bytes.len();
            bytes.extend([0; 4]);
            // The padding before the first item doesn't count as length, and is there even without items.
            pad(bytes, alignment(item.as_bytes()[0]));
            let start = bytes.len();
            items.iter().for_each(|item| encode(item, bytes));
            let length = (bytes.len() - start) as u32;
            bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        }
        Value::Struct(fields) => fields.iter().for_each(|field| encode(field, bytes)),
        Value::Variant(inner) => {
            encode(&Value::Signature(inner.signature()), bytes);
            encode(inner, bytes);
        }
    }
}

/// How long the message is that begins with these 16 bytes; at most the specification's 128 MiB.
fn length(head: &[u8]) -> Option<usize> {
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?) as usize);
    let (body, fields) = (word(4)?, word(12)?);
    let total = (16 + fields).next_multiple_of(8).checked_add(body)?;
    (head[0] == b'l' && total <= 128 << 20).then_some(total)
}

/// A whole message taken apart; None when it is broken.
fn decode(bytes: &[u8]) -> Option<Message> {
    let mut reader = Reader { bytes, at: 12 };
    let mut message = Message { kind: bytes[1], serial: u32::from_le_bytes(bytes[8..12].try_into().ok()?), ..Message::default() };
    let mut signature = String::new();
    let Value::Array(_, fields) = reader.value(&mut "a(yv)".as_bytes(), 0)? else { return None };
    for field in fields {
        let Value::Struct(pair) = field else { return None };
        let [Value::Byte(code), Value::Variant(value)] = pair.as_slice() else { return None };
        match (code, value.as_ref()) {
            (3, Value::Str(name)) => message.member = name.clone(),
            (4, Value::Str(name)) => message.error_name = name.clone(),
            (5, Value::U32(serial)) => message.reply_to = *serial,
            (8, Value::Signature(text)) => signature = text.clone(),
            _ => {}
        }
    }
    reader.align(8)?;
    let mut rest = signature.as_bytes();
    while !rest.is_empty() {
        message.body.push(reader.value(&mut rest, 0)?);
    }
    Some(message)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }

    /// Reads one value of the type at the front of `signature`, and takes that type off it.
    fn value(&mut self, signature: &mut &[u8], depth: usize) -> Option<Value> {
        let letter = *signature.first()?;
        // The specification's own limit is 32 arrays and 32 structs deep.
        if depth > 64 {
            return None;
        }
        self.align(alignment(letter))?;
        *signature = &signature[1..];
        Some(match letter {
            b'y' => Value::Byte(self.take(1)?[0]),
            b'b' => Value::Bool(self.u32()? != 0),
            b'u' => Value::U32(self.u32()?),
            b'i' | b'h' => Value::Other(letter.into(), self.u32()?.into()),
            b'n' | b'q' => Value::Other(letter.into(), u16::from_le_bytes(self.take(2)?.try_into().ok()?).into()),
            b't' => Value::U64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            b'x' | b'd' => Value::Other(letter.into(), u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            b's' | b'o' => {
                let length = self.u32()? as usize;
                let text = self.text(length)?;
                if letter == b's' { Value::Str(text) } else { Value::Path(text) }
            }
            b'g' => {
                let length = self.take(1)?[0] as usize;
                Value::Signature(self.text(length)?)
            }
            b'a' => self.array(signature, depth)?,
            b'(' | b'{' => {
                let mut fields = Vec::new();
                while !matches!(signature.first()?, b')' | b'}') {
                    fields.push(self.value(signature, depth + 1)?);
                }
                *signature = &signature[1..];
                Value::Struct(fields)
            }
            b'v' => {
                let Value::Signature(inner) = self.value(&mut "g".as_bytes(), depth + 1)? else { return None };
                Value::Variant(Box::new(self.value(&mut inner.as_bytes(), depth + 1)?))
            }
            _ => return None,
        })
    }

    fn array(&mut self, signature: &mut &[u8], depth: usize) -> Option<Value> {
        let length = self.u32()? as usize;
        let item = first_type(signature)?;
        *signature = &signature[item.len()..];
        self.align(alignment(item[0]))?;
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len())?;
        let mut items = Vec::new();
        while self.at < end {
            let before = self.at;
            items.push(self.value(&mut &item[..], depth + 1)?);
            // A struct without fields takes no room and would never end.
            (self.at > before).then_some(())?;
        }
        Some(Value::Array(String::from_utf8_lossy(item).into_owned(), items))
    }
}

/// The first complete type of a signature: `a(sv)` of `a(sv)u`.
fn first_type<'a>(signature: &&'a [u8]) -> Option<&'a [u8]> {
    let mut open = 0;
    for (at, letter) in signature.iter().enumerate() {
        match letter {
            b'(' | b'{' => open += 1,
            b')' | b'}' => open -= 1,
            _ => {}
        }
        if open == 0 && *letter != b'a' {
            return Some(&signature[..=at]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Call<'static> {
        let bus = "org.freedesktop.DBus";
        Call { destination: bus, path: "/org/freedesktop/DBus", interface: bus, member: "Hello", body: vec![] }
    }

    #[test]
    fn hello_is_byte_for_byte_what_libdbus_sends() {
        let expected: Vec<u8> = [
            &b"l\x01\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x6d\x00\x00\x00"[..],
            b"\x01\x01o\x00\x15\x00\x00\x00/org/freedesktop/DBus\x00\x00\x00",
            b"\x02\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00",
            b"\x03\x01s\x00\x05\x00\x00\x00Hello\x00\x00\x00",
            b"\x06\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00",
        ]
        .concat();
        assert_eq!(method_call(1, &hello()), expected);
    }

    #[test]
    fn an_array_of_structs_is_padded_before_its_first_item() {
        let mut bytes = Vec::new();
        encode(&Value::text("ab"), &mut bytes);
        encode(&Value::Array("(sv)".into(), vec![Value::Struct(vec![Value::text("N"), Value::U64(7).variant()])]), &mut bytes);
        let expected: &[u8] = b"\x02\0\0\0ab\0\0\x18\0\0\0\0\0\0\0\x01\0\0\0N\0\x01t\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0";
        // Length 0x18: string 6 bytes, the variant's signature 3, padding to 8 which makes 7, and the number.
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let body = vec![
            Value::text("web.scope"),
            Value::Array("(sv)".into(), vec![Value::Struct(vec![Value::text("PIDs"), Value::Array("u".into(), vec![Value::U32(42)]).variant()])]),
            Value::Array("(sa(sv))".into(), vec![]),
            Value::Bool(true),
            Value::Byte(9),
        ];
        let call = Call { body: body.clone(), ..hello() };
        let bytes = method_call(7, &call);
        assert_eq!(length(&bytes[..16]), Some(bytes.len()));
        let message = decode(&bytes).unwrap();
        assert_eq!((message.kind, message.serial, message.member.as_str()), (CALL, 7, "Hello"));
        assert_eq!(message.body, body);
    }

    #[test]
    fn broken_messages_are_refused_without_a_panic() {
        let bytes = method_call(7, &Call { body: vec![Value::text("x"), Value::Array("s".into(), vec![Value::text("y")])], ..hello() });
        for end in 16..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "cut at {end}");
        }
        for at in 12..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0xff;
            let _ = decode(&wrong);
        }
    }

    #[test]
    fn addresses_name_sockets() {
        assert_eq!(open("tcp:host=x").unwrap_err().class, Class::Invalid);
        assert_eq!(open("unix:path=/nonexistent/bus,guid=1").unwrap_err().class, Class::NotFound);
    }
}
