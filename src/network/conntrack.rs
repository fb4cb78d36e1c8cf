//! Connection tracking: the kernel's memory of who speaks with whom. What it remembers of a dead container would lead packets for its
//! successor astray, for minutes with UDP.
//!
//! See it: `conntrack -L`, `/proc/net/nf_conntrack`. Read: conntrack(8), include/uapi/linux/netfilter/nfnetlink_conntrack.h.

use std::net::IpAddr;

use nix::errno::Errno;

use super::Told;
use super::message::{Message, NLM_F_ACK, NLM_F_DUMP, address_of, attribute};
use crate::error::Result;

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
/// Deletions in one datagram.
const AT_ONCE: usize = 256;

/// Has the kernel forget all connections from or to these addresses.
///
/// # Errors
/// EPERM.
pub fn forget(addresses: &[IpAddr]) -> Result<()> {
    let doing = || "forget the connections of an address".to_string();
    let socket = super::nft::open()?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let wanted: Vec<_> = addresses.iter().filter(|address| address.is_ipv4() == (family == libc::AF_INET)).collect();
        if wanted.is_empty() {
            continue;
        }
        let list = Message::new(SUBSYSTEM << 8 | GET, NLM_F_DUMP).fixed(&[family as u8, 0, 0, 0]).finish();
        let entries = socket.ask("list connections", &list).told(doing)?;
        let theirs = entries.iter().filter_map(|entry| entry.body.get(4..)).filter(|entry| wanted.iter().any(|address| concerns(entry, **address)));
        let deletions: Vec<_> = theirs.map(|entry| deletion(family, entry)).collect();
        for few in deletions.chunks(AT_ONCE) {
            match socket.change(|| format!("delete {} connections", few.len()), few.concat()) {
                // It ended by itself meanwhile.
                Err(refusal) if refusal.fact.errno() == Errno::ENOENT => {}
                result => drop(result.told(doing)?),
            }
        }
    }
    Ok(())
}

/// Whether a connection begins at `address`, or ends there: then answers come from it, whatever address the connection was made to.
fn concerns(entry: &[u8], address: IpAddr) -> bool {
    [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY].iter().any(|tuple| source(entry, *tuple) == Some(address))
}

fn source(entry: &[u8], tuple: u16) -> Option<IpAddr> {
    let addresses = attribute(attribute(entry, tuple)?, CTA_TUPLE_IP)?;
    attribute(addresses, CTA_IP_V4_SRC).or_else(|| attribute(addresses, CTA_IP_V6_SRC)).and_then(address_of)
}

/// Deletes this very entry: with its ID, as another of the same addresses and ports may have taken its place.
fn deletion(family: i32, entry: &[u8]) -> Vec<u8> {
    let message = Message::new(SUBSYSTEM << 8 | DELETE, NLM_F_ACK).fixed(&[family as u8, 0, 0, 0]);
    let message = message.nest_bytes(CTA_TUPLE_ORIG, attribute(entry, CTA_TUPLE_ORIG).unwrap_or_default());
    let message = attribute(entry, CTA_ZONE).map_or(message.clone(), |zone| message.bytes(CTA_ZONE, zone));
    attribute(entry, CTA_ID).map_or(message.clone(), |id| message.bytes(CTA_ID, id)).finish()
}
