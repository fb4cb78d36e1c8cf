//! Sets and maps: what is variable about the rules. One of a thousand elements is found in the time of one, as the kernel hashes them.
//!
//! See it: `nft list map inet onggi ports_v4`. Read: nft(8) "SETS" and "MAPS".

use super::super::message::{Message, NLM_F_CREATE};
use super::expression::value;
use super::{Batch, DELSETELEM, INET, NEWSET, NEWSETELEM, NFTA_LIST_ELEM, request};

const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_EXPR: u16 = 17;
/// nft(8)'s own note on a set: type, length and value; its type 0 is the key's byte order, and 1 is the host's. Without it nft shows names as "".
const KEY_IN_HOSTS_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];
const NFT_SET_MAP: u32 = 8;
pub(crate) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(crate) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(crate) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(crate) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(crate) const NFTA_SET_ELEM_DATA: u16 = 2;

/// The list of elements in one message is an attribute, whose length has 16 bits.
const ELEMENTS_A_MESSAGE: usize = 256;

/// What a part of a key is. The number is nft(8)'s own (its include/datatype.h): the kernel only keeps it, for nft to show it right.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    NfProto = 2,
    Ipv4 = 7,
    Ipv6 = 8,
    Protocol = 12,
    Port = 13,
    Ifname = 41,
}

impl Type {
    /// Bytes in registers: whole words.
    fn length(self) -> u32 {
        match self {
            Type::Ipv6 | Type::Ifname => 16,
            _ => 4,
        }
    }
}

/// A set; with `data` a map that counts what matched each element.
pub struct Set {
    pub name: &'static str,
    pub key: &'static [Type],
    pub data: &'static [Type],
}

/// An element; `data` is empty in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    pub set: &'static str,
    pub key: Vec<u8>,
    pub data: Vec<u8>,
    /// For people.
    pub told: String,
}

impl Batch<'_> {
    /// Makes the set unless it is there. `id` tells it from others in the same batch.
    pub fn set(&mut self, set: &Set, id: u32) {
        let mut message = request(NEWSET, NLM_F_CREATE, INET)
            .text(NFTA_SET_TABLE, self.table)
            .text(NFTA_SET_NAME, set.name)
            .be32(NFTA_SET_FLAGS, if set.data.is_empty() { 0 } else { NFT_SET_MAP })
            .be32(NFTA_SET_KEY_TYPE, number(set.key))
            .be32(NFTA_SET_KEY_LEN, length(set.key));
        if !set.data.is_empty() {
            message = message.be32(NFTA_SET_DATA_TYPE, number(set.data)).be32(NFTA_SET_DATA_LEN, length(set.data));
        }
        message = message.be32(NFTA_SET_ID, id);
        if matches!(set.key, [Type::Ifname]) {
            message = message.bytes(NFTA_SET_USERDATA, &KEY_IN_HOSTS_ORDER);
        }
        if !set.data.is_empty() {
            message = message.nest(NFTA_SET_EXPR, Message::inner().text(1, "counter").nest(2, Message::inner()));
        }
        self.push(message, format!("add set {}", set.name));
    }

    /// Adds elements. One that is there with the same data is fine; with other data the batch fails with EEXIST or EBUSY.
    pub fn add(&mut self, elements: &[Element]) {
        self.elements(NEWSETELEM, NLM_F_CREATE, "add", elements);
    }

    /// Deletes elements. When one is missing the batch fails with ENOENT.
    pub fn delete(&mut self, elements: &[Element]) {
        self.elements(DELSETELEM, 0, "delete", elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, verb: &str, elements: &[Element]) {
        for of_one_set in elements.chunk_by(|a, b| a.set == b.set) {
            for few in of_one_set.chunks(ELEMENTS_A_MESSAGE) {
                let set = few[0].set;
                let list = few.iter().fold(Message::inner(), |list, element| list.nest(NFTA_LIST_ELEM, element.message()));
                let message = request(kind, flags, INET)
                    .text(NFTA_SET_ELEM_LIST_TABLE, self.table)
                    .text(NFTA_SET_ELEM_LIST_SET, set)
                    .nest(NFTA_SET_ELEM_LIST_ELEMENTS, list);
                let told: Vec<_> = few.iter().map(|element| element.told.as_str()).collect();
                self.push(message, format!("{verb} element {set} {{ {} }}", told.join(", ")));
            }
        }
    }
}

impl Element {
    pub(crate) fn message(&self) -> Message {
        let message = Message::inner().nest(NFTA_SET_ELEM_KEY, value(&self.key));
        if self.data.is_empty() { message } else { message.nest(NFTA_SET_ELEM_DATA, value(&self.data)) }
    }
}

/// The types of a concatenation in one number, six bits each.
fn number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, part| number << 6 | *part as u32)
}

fn length(types: &[Type]) -> u32 {
    types.iter().map(|part| part.length()).sum()
}

/// Pads a part of a key to whole words, as registers are.
pub fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A link's name as nf_tables compares it: sixteen bytes, filled with zeros.
pub fn ifname(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    // The kernel allows fifteen.
    for (place, byte) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *place = byte;
    }
    bytes
}
