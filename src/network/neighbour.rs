//! Neighbours: whose MAC address stands behind an IP address of the same network, as the kernel has learned it by ARP or NDP.
//!
//! See it: `ip neighbour`. Read: rtnetlink(7) (RTM_GETNEIGH), arp(7), ip-neighbour(8).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Told;
use super::message::{Message, NLM_F_DUMP, address_of, attribute};
use crate::error::Result;
use crate::sys::netlink::Socket;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// Asked, and no answer yet; and never one.
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;

/// What is known of one neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The index of the link on which it was looked for.
    pub index: u32,
    pub address: IpAddr,
    /// None: it was asked for, and nobody answered.
    pub mac: Option<[u8; 6]>,
}

/// All neighbours that somebody asked for lately.
///
/// # Errors
/// Whatever the kernel answers.
pub fn neighbours(socket: &Socket) -> Result<Vec<Neighbour>> {
    // struct ndmsg: family, padding, index, state, flags, type.
    let message = Message::new(libc::RTM_GETNEIGH, NLM_F_DUMP).fixed(&[0; 12]).finish();
    let answers = socket.ask("RTM_GETNEIGH", &message).told(|| "list the neighbours".into())?;
    Ok(answers.iter().filter(|answer| answer.kind == libc::RTM_NEWNEIGH).filter_map(|answer| parse(&answer.body)).collect())
}

fn parse(body: &[u8]) -> Option<Neighbour> {
    let rest = body.get(12..)?;
    let state = u16::from_ne_bytes(body.get(8..10)?.try_into().ok()?);
    let mac = attribute(rest, NDA_LLADDR).and_then(|mac| mac.try_into().ok()).filter(|_| state & (NUD_INCOMPLETE | NUD_FAILED) == 0);
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    Some(Neighbour { index, address: attribute(rest, NDA_DST).and_then(address_of)?, mac })
}
