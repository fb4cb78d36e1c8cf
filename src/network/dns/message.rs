//! DNS messages as bytes: what a question asks, and how an answer is written.
//!
//! A message is a header of 12 bytes, then questions, answers, authorities and additional records. We read one question and look for
//! an OPT record; of the rest only the lengths matter. An answer points back to the question's name (`c0 0c`), so that no name has
//! to be compressed, and a name in a question has no pointers, so that there is no loop to fall into.
//!
//! See it: `dig +qr web @127.0.0.11`. Read: RFC 1035, section 4; RFC 6891 (EDNS).

pub const HEADER: usize = 12;

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
const OPT: u16 = 41;
pub const ANY: u16 = 255;
const IN: u16 = 1;

/// What the fourth byte of a header says of an answer (RFC 1035, 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NoError = 0,
    /// The question could not be read.
    FormErr = 1,
    ServFail = 2,
    /// Another opcode than QUERY.
    NotImp = 4,
    /// An EDNS version that we don't know: its upper bits are in the OPT record (RFC 6891, 6.1.3).
    BadVers = 16,
}

/// What a client told with an OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The longest answer over UDP that the client takes.
    pub size: u16,
    version: u8,
    /// "DNSSEC OK", to be copied (RFC 4035, 3.2.1).
    dnssec: bool,
}

/// One question that could be read.
#[derive(Debug)]
pub struct Question<'a> {
    /// The packet as it came.
    pub packet: &'a [u8],
    /// The name in lower case, without a dot at its end; `None` when a label has bytes that no host name has (a dot, say).
    pub name: Option<String>,
    pub kind: u16,
    class: u16,
    /// Where the question section ends.
    end: usize,
    pub edns: Option<Edns>,
}

/// What is to be done with a packet.
#[derive(Debug)]
pub enum Read<'a> {
    Question(Question<'a>),
    /// It is answered with an error at once.
    Refuse(Vec<u8>),
    /// It is no question at all.
    Drop,
}

/// Reads a packet from a client.
pub fn read(packet: &[u8]) -> Read<'_> {
    // Without the flags nobody knows whether it is a question, and an answer to an answer would go on for ever.
    if packet.len() < 4 || packet[2] & 0x80 != 0 {
        return Read::Drop;
    }
    if packet.len() < HEADER {
        return Read::Refuse(bare_error(packet, Code::FormErr));
    }
    if packet[2] & 0x78 != 0 {
        return Read::Refuse(bare_error(packet, Code::NotImp));
    }
    match read_question(packet) {
        None => Read::Refuse(bare_error(packet, Code::FormErr)),
        Some(question) if question.edns.is_some_and(|edns| edns.version > 0) => Read::Refuse(error(&question, Code::BadVers)),
        Some(question) => Read::Question(question),
    }
}

fn read_question(packet: &[u8]) -> Option<Question<'_>> {
    if number(packet, 4)? != 1 {
        return None;
    }
    let (name, after) = read_name(packet, HEADER)?;
    let mut question = Question { packet, name, kind: number(packet, after)?, class: number(packet, after + 2)?, end: after + 4, edns: None };
    // A record has at least 11 bytes, so a count that lies ends at the end of the packet.
    let records: usize = [6, 8, 10].iter().map(|at| usize::from(number(packet, *at).unwrap_or(0))).sum();
    let mut at = question.end;
    for _ in 0..records {
        let fixed = skip_name(packet, at)?;
        let length = usize::from(number(packet, fixed + 8)?);
        if number(packet, fixed)? == OPT {
            // RFC 6891, 6.1.1: the name is the root, and a second OPT is a format error.
            if question.edns.is_some() || packet[at] != 0 {
                return None;
            }
            let flags = packet[fixed + 6];
            question.edns = Some(Edns { size: number(packet, fixed + 2)?, version: packet[fixed + 5], dnssec: flags & 0x80 != 0 });
        }
        at = fixed + 10 + length;
        if at > packet.len() {
            return None;
        }
    }
    Some(question)
}

/// The name at `at` and where it ends. RFC 1035, 2.3.4: labels of at most 63 bytes, names of at most 255.
fn read_name(packet: &[u8], at: usize) -> Option<(Option<String>, usize)> {
    let mut name = String::new();
    let mut plain = true;
    let mut next = at;
    loop {
        let length = usize::from(*packet.get(next)?);
        // A question is the first name in its packet: there is nothing before it that a pointer (0xc0) could point to.
        if length > 63 || next + 1 + length - at > 255 {
            return None;
        }
        if length == 0 {
            return Some((plain.then_some(name), next + 1));
        }
        let label = packet.get(next + 1..next + 1 + length)?;
        plain &= label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
        if plain {
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        }
        next += 1 + length;
    }
}

/// Where the name at `at` ends. A pointer is its last part, wherever it points to.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*packet.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + length,
            192.. => return (at + 2 <= packet.len()).then_some(at + 2),
            _ => return None,
        }
    }
}

fn number(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}

impl Question<'_> {
    /// Whether it asks about the Internet, and not about the Chaosnet that `version.bind` lives in.
    pub fn is_internet(&self) -> bool {
        self.class == IN || self.class == ANY
    }

    /// How long an answer over UDP may be: 512 bytes unless the client takes more. Our loopback device carries more than 4,096, but
    /// who asks for more than that has a library with a fault.
    pub fn room(&self) -> usize {
        self.edns.map_or(512, |edns| usize::from(edns.size).clamp(512, 4096))
    }
}

/// An answer that grows record by record.
pub struct Answer<'a> {
    question: &'a Question<'a>,
    bytes: Vec<u8>,
    room: usize,
}

impl<'a> Answer<'a> {
    /// An empty answer to `question` of at most `room` bytes.
    pub fn new(question: &'a Question<'a>, room: usize) -> Answer<'a> {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(&question.packet[..2]);
        // QR and AA: these names are ours. RD is copied; RA, since we ask further.
        bytes.extend([0x84 | question.packet[2] & 0x01, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(&question.packet[HEADER..question.end]);
        let opt = if question.edns.is_some() { OPT_LENGTH } else { 0 };
        Answer { question, bytes, room: room - opt }
    }

    /// One more record about the question's name, or false when there is no room: the answer then says so (TC).
    pub fn add(&mut self, kind: u16, data: &[u8]) -> bool {
        if self.bytes.len() + 12 + data.len() > self.room {
            self.bytes[2] |= 0x02;
            return false;
        }
        let count = number(&self.bytes, 6).unwrap_or(0) + 1;
        self.bytes[6..8].copy_from_slice(&count.to_be_bytes());
        self.bytes.extend([0xc0, HEADER as u8]);
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(IN.to_be_bytes());
        // A TTL of 0: "for the transaction in progress" only (RFC 1035, 3.2.1). Docker says 600 seconds, and whoever caches
        // (nginx, Envoy, Java) goes on asking the old address of a container that was started again.
        self.bytes.extend(0u32.to_be_bytes());
        self.bytes.extend((data.len() as u16).to_be_bytes());
        self.bytes.extend(data);
        true
    }

    /// The packet.
    pub fn finish(mut self) -> Vec<u8> {
        if let Some(edns) = self.question.edns {
            add_opt(&mut self.bytes, edns, Code::NoError);
        }
        self.bytes
    }
}

/// An answer to `question` with an error and nothing else.
pub fn error(question: &Question, code: Code) -> Vec<u8> {
    let mut bytes = bare_error(question.packet, code);
    bytes[5] = 1;
    bytes.extend(&question.packet[HEADER..question.end]);
    if let Some(edns) = question.edns {
        add_opt(&mut bytes, edns, code);
    }
    bytes
}

/// An error without the question, which could not be read.
fn bare_error(packet: &[u8], code: Code) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..2].copy_from_slice(&packet[..2]);
    bytes[2] = 0x80 | packet[2] & 0x79;
    bytes[3] = 0x80 | (code as u8 & 0x0f);
    bytes
}

/// Root name, type, size, code and version and flags, no data.
const OPT_LENGTH: usize = 11;

fn add_opt(bytes: &mut Vec<u8>, edns: Edns, code: Code) {
    bytes[11] += 1;
    bytes.push(0);
    bytes.extend(OPT.to_be_bytes());
    // What we take: more than fits into a frame of Ethernet comes in fragments, which get lost (dnsflagday.net/2020).
    bytes.extend(1232u16.to_be_bytes());
    bytes.extend([code as u8 >> 4, 0, if edns.dnssec { 0x80 } else { 0 }, 0, 0, 0]);
}

/// A host name as labels with their lengths, or `None` for what is no name.
pub fn labels(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.trim_end_matches('.').split('.') {
        if !(1..=63).contains(&label.len()) {
            return None;
        }
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= 255).then_some(bytes)
}

/// What an upstream server said, seen from the question that it was asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Another question's, or somebody who guesses.
    Foreign,
    /// The server can't or won't: another may.
    Failed,
    Good,
}

/// Compares an answer from upstream with the question that was sent there with `id`.
pub fn reply(packet: &[u8], id: u16, asked: &[u8]) -> Reply {
    if packet.len() < HEADER || number(packet, 0) != Some(id) || packet[2] & 0x80 == 0 {
        return Reply::Foreign;
    }
    let failed = matches!(packet[3] & 0x0f, 2 | 5);
    let Some(end) = skip_name(asked, HEADER).map(|after| after + 4) else { return Reply::Foreign };
    let same = match (packet.get(HEADER..end), asked.get(HEADER..end)) {
        // Some servers answer in lower case.
        (Some(theirs), Some(ours)) if number(packet, 4) == Some(1) => theirs.eq_ignore_ascii_case(ours),
        // A server that could not read the question can't repeat it.
        _ => number(packet, 4) == Some(0) && packet[3] & 0x0f != 0,
    };
    match (same, failed) {
        (false, _) => Reply::Foreign,
        (true, true) => Reply::Failed,
        (true, false) => Reply::Good,
    }
}
