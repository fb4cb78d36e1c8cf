//! The instructions of nf_tables' small machine: load something into a register, compare, look up, decide.
//!
//! Registers are words of four bytes; what belongs together (an address and a port) lies in successive ones. The first that
//! compares false ends its rule.
//!
//! See it: `nft --debug=netlink list ruleset` shows each rule as these. Read: include/uapi/linux/netfilter/nf_tables.h.

use super::super::message::Message;

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
pub(crate) const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// One instruction. `word` is the number of the first register that it reads or writes.
#[derive(Debug, Clone, Copy)]
pub enum Expression<'a> {
    /// Loads a fact about the packet.
    Meta { key: Meta, word: u32 },
    /// Loads bytes of the packet's header.
    Payload { base: Base, offset: u32, length: u32, word: u32 },
    /// Loads what connection tracking knows.
    Ct { key: Ct, word: u32 },
    /// Loads the kind of address that the destination is for this host (`fib daddr type`).
    DestinationType { word: u32 },
    /// Keeps only these bits.
    Mask { word: u32, mask: u32 },
    /// Goes on when the bytes are the same.
    Equal { word: u32, value: &'a [u8] },
    /// Goes on when they are not.
    Differs { word: u32, value: &'a [u8] },
    /// Goes on when the set has what begins at `word`.
    Within { set: &'a str, word: u32 },
    /// Goes on when the map has it, and loads what it maps to in its place.
    Mapped { map: &'a str, word: u32 },
    /// Puts a value into a register.
    Immediate { word: u32, value: &'a [u8] },
    /// Writes a register's bytes into the packet's header, and mends the checksum that is at `checksum`.
    Rewrite { base: Base, offset: u32, length: u32, word: u32, checksum: u32 },
    /// Rewrites the destination to the address at `address` and the port at `port`.
    Dnat { family: u8, address: u32, port: u32 },
    /// Rewrites the source to the address of the link that the packet leaves by.
    Masquerade,
    /// Decides.
    Verdict(Verdict<'a>),
}

/// nft(8) "META EXPRESSIONS".
#[derive(Debug, Clone, Copy)]
pub enum Meta {
    IifName = 6,
    OifName = 7,
    NfProto = 15,
    L4Proto = 16,
}

/// Where a header begins.
#[derive(Debug, Clone, Copy)]
pub enum Base {
    Network = 1,
    Transport = 2,
}

/// nft(8) "CONNTRACK EXPRESSIONS".
#[derive(Debug, Clone, Copy)]
pub enum Ct {
    State = 0,
    Status = 2,
}

/// nft(8) "VERDICT STATEMENT".
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    Drop,
    Accept,
    Jump(&'a str),
    Return,
}

impl Expression<'_> {
    /// Its name and its attributes, in the kernel's numbers.
    pub(crate) fn message(&self) -> Message {
        let (name, data) = self.parts();
        Message::inner().text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, data)
    }

    fn parts(&self) -> (&'static str, Message) {
        let new = Message::inner;
        match *self {
            Expression::Meta { key, word } => ("meta", new().be32(1, register(word)).be32(2, key as u32)),
            Expression::Payload { base, offset, length, word } => {
                ("payload", new().be32(1, register(word)).be32(2, base as u32).be32(3, offset).be32(4, length))
            }
            Expression::Ct { key, word } => ("ct", new().be32(1, register(word)).be32(2, key as u32)),
            Expression::DestinationType { word } => {
                const RESULT_ADDRTYPE: u32 = 3;
                const F_DADDR: u32 = 2;
                ("fib", new().be32(1, register(word)).be32(2, RESULT_ADDRTYPE).be32(3, F_DADDR))
            }
            Expression::Mask { word, mask } => {
                let (source, target) = (register(word), register(word));
                let numbers = new().be32(1, source).be32(2, target).be32(3, 4);
                ("bitwise", numbers.nest(4, value(&mask.to_ne_bytes())).nest(5, value(&[0; 4])))
            }
            Expression::Equal { word, value: bytes } => ("cmp", new().be32(1, register(word)).be32(2, 0).nest(3, value(bytes))),
            Expression::Differs { word, value: bytes } => ("cmp", new().be32(1, register(word)).be32(2, 1).nest(3, value(bytes))),
            Expression::Within { set, word } => ("lookup", new().text(1, set).be32(2, register(word))),
            Expression::Mapped { map, word } => ("lookup", new().text(1, map).be32(2, register(word)).be32(3, register(word))),
            Expression::Immediate { word, value: bytes } => ("immediate", new().be32(1, register(word)).nest(2, value(bytes))),
            Expression::Rewrite { base, offset, length, word, checksum } => {
                const CSUM_INET: u32 = 1;
                let place = new().be32(5, register(word)).be32(2, base as u32).be32(3, offset).be32(4, length);
                ("payload", place.be32(6, CSUM_INET).be32(7, checksum))
            }
            Expression::Dnat { family, address, port } => {
                const DNAT: u32 = 1;
                ("nat", new().be32(1, DNAT).be32(2, family.into()).be32(3, register(address)).be32(5, register(port)))
            }
            Expression::Masquerade => ("masq", new()),
            Expression::Verdict(verdict) => {
                const REG_VERDICT: u32 = 0;
                ("immediate", new().be32(1, REG_VERDICT).nest(2, new().nest(NFTA_DATA_VERDICT, verdict.message())))
            }
        }
    }
}

impl Verdict<'_> {
    fn message(&self) -> Message {
        let code = |number: i32| Message::inner().be32(NFTA_VERDICT_CODE, number as u32);
        match self {
            Verdict::Drop => code(0),
            Verdict::Accept => code(1),
            Verdict::Jump(chain) => code(-3).text(NFTA_VERDICT_CHAIN, chain),
            Verdict::Return => code(-5),
        }
    }
}

/// Bytes as nf_tables takes them.
pub(crate) fn value(bytes: &[u8]) -> Message {
    Message::inner().bytes(NFTA_DATA_VALUE, bytes)
}

/// The kernel counts words from 8; four aligned ones also have a name from the time when registers had sixteen bytes, 1 to 4, which
/// nft(8) goes by when it lists a rule.
fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { 1 + word / 4 } else { 8 + word }
}
