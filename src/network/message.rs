//! How a netlink message is written and read: a header, a fixed struct of the protocol, then attributes, which may hold attributes.
//!
//! An attribute is a length (with its own four bytes), a type, and a value padded to four bytes. Numbers are in the byte order of the
//! machine in rtnetlink, in that of the network in netfilter.
//!
//! Read: netlink(7), rtnetlink(7), include/uapi/linux/netlink.h (`struct nlmsghdr`, `struct nlattr`).

use std::net::IpAddr;

use crate::sys::netlink::HEADER;

pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;

/// Says that the attribute's value is attributes.
const NLA_F_NESTED: u16 = 1 << 15;
/// Without the flags in the two high bits (nested, network byte order).
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A message in the making; also the inside of a nested attribute.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A request of this type; `flags` beside NLM_F_REQUEST.
    pub fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        Message(bytes)
    }

    /// Attributes only, to be put into another.
    pub fn inner() -> Message {
        Message(Vec::new())
    }

    /// The protocol's fixed struct behind the header.
    pub fn fixed(mut self, bytes: &[u8]) -> Message {
        self.0.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// An attribute with these bytes.
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Message {
        // Values are small: what is long is split by who writes it, as the length has 16 bits.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.pad();
        self
    }

    pub fn u8(self, kind: u16, value: u8) -> Message {
        self.bytes(kind, &[value])
    }

    pub fn u32(self, kind: u16, value: u32) -> Message {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order, as netfilter wants them.
    pub fn be32(self, kind: u16, value: u32) -> Message {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn be16(self, kind: u16, value: u16) -> Message {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A string with its NUL.
    pub fn text(self, kind: u16, value: &str) -> Message {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub fn address(self, kind: u16, value: IpAddr) -> Message {
        match value {
            IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
    }

    /// An attribute that holds attributes.
    pub fn nest(self, kind: u16, inside: Message) -> Message {
        self.bytes(kind | NLA_F_NESTED, &inside.0)
    }

    /// The same with attributes as another message had them.
    pub fn nest_bytes(self, kind: u16, inside: &[u8]) -> Message {
        self.bytes(kind | NLA_F_NESTED, inside)
    }

    /// The finished message, with its length in its header.
    pub fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// The attributes in `bytes`, in their order; what is cut off or lies about its length ends the walk.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]) as usize;
        let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]) & NLA_TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number in the machine's byte order.
pub fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// A number in network byte order.
pub fn be32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

/// A number in network byte order.
pub fn be64_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?))
}

/// A string, without its NUL.
pub fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// An address of four or sixteen bytes.
pub fn address_of(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let inside = Message::inner().text(1, "veth").u32(2, 7);
        let bytes = Message::new(16, NLM_F_ACK).fixed(&[0; 16]).u8(9, 5).nest(18, inside).finish();
        assert_eq!(u32_of(&bytes), Some(bytes.len() as u32));
        let body = &bytes[HEADER + 16..];
        assert_eq!(attribute(body, 9), Some(&[5u8][..]));
        let inside = attribute(body, 18).unwrap();
        assert_eq!((attribute(inside, 1).map(text_of), attribute(inside, 2).and_then(u32_of)), (Some("veth".into()), Some(7)));
    }

    #[test]
    fn attributes_that_lie_about_their_length_end_the_walk() {
        for bytes in [&[][..], &[3, 0, 1, 0], &[0, 0, 1, 0], &[200, 0, 1, 0, 1], &[8, 0, 1]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
        let whole = Message::inner().u32(1, 2).text(3, "x").0;
        for end in 0..whole.len() {
            assert!(attributes(&whole[..end]).count() <= 2);
        }
    }
}
