//! The rules between containers, the host and the world: one table whose rules never change, over sets and maps that do.
//!
//! ```text
//! prerouting, output   to one of the host's own addresses and a published port → to the container         (dnat)
//! forward              what was let in once may go on; within a network; from outside only what is published; the rest is dropped
//! postrouting          what leaves for the world has the host's address as its source                     (masquerade)
//! ```
//! 127.0.0.1 and ::1 are not translated: what arrives there is the business of the process that holds the port.
//!
//! See it: `nft list table inet onggi`. Read: nft(8), "NAT STATEMENTS"; the packet's way: <https://wiki.nftables.org>, "Netfilter hooks".

mod missing;
mod others;
mod ports;
mod rules;
mod verdict;

pub use others::{dropping_chains, filters, remedy, warnings};
pub use ports::{PortCounters, Published, counters, publish, unpublish};
pub use verdict::{Verdict, forwarded, is_masqueraded};

use nix::errno::Errno;

use super::nft::look;
use super::nft::set::{Element, ifname, padded};
use super::nft::{self, Batch, IPV4, IPV6};
use super::{Cidr, Told, needs_module};
use crate::error::{Class, Result};
use crate::sys::call::{Reason, because};

static RULES: Reason = Reason {
    id: "network.rules",
    en: "the network's packets may leave with the host's address, and nothing comes in that was not published",
    ko: "네트워크의 패킷은 호스트 주소로 나가고, 공개하지 않은 것은 들어오지 못한다",
    see: "nft list ruleset",
};

/// A network, as the rules see it.
pub struct Subnet<'a> {
    /// The bridge's name.
    pub link: &'a str,
    pub cidrs: &'a [Cidr],
    /// Its containers appear outside with the host's address.
    pub masquerade: bool,
    /// No way in or out.
    pub internal: bool,
    /// Its containers may speak with each other.
    pub icc: bool,
}

/// Lets a network's packets go as it says. Makes the table when it is missing, and repairs one that has lost rules: true when it had to,
/// for then elements may be missing, too. May be done twice, and with other wishes than before.
///
/// # Errors
/// Unsupported when the kernel lacks nf_tables or NAT; EPERM.
pub fn ensure(table: &str, network: &Subnet) -> Result<bool> {
    because(&RULES);
    let socket = nft::open()?;
    let doing = || format!("set the rules of {}", network.link);
    let (wanted, unwanted) = elements(network);
    let is_whole = look::rules(&socket, table)? == rules::COUNT;
    if !is_whole {
        let mut batch = Batch::new(table);
        rules::lay(&mut batch);
        batch.commit(&socket).told(doing).map_err(|e| match missing::module(&socket) {
            Some(module) => needs_module(e.class(Class::Unsupported), module),
            None => e,
        })?;
    }
    let mut batch = Batch::new(table);
    batch.add(&wanted);
    for element in unwanted {
        if look::has(&socket, table, &element)? {
            batch.delete(&[element]);
        }
    }
    batch.commit(&socket).told(doing).map(|()| !is_whole)
}

/// Takes a network out of the rules. What is missing is fine.
///
/// # Errors
/// EPERM.
pub fn remove_network(table: &str, network: &Subnet) -> Result<()> {
    let (mut all, unwanted) = elements(network);
    all.extend(unwanted);
    let mut batch = Batch::new(table);
    batch.add(&all);
    batch.delete(&all);
    missing_is_fine(batch.commit(&*nft::open()?)).told(|| format!("take {} out of the rules", network.link))
}

/// Deletes the table and all that is in it. One that is missing is fine.
///
/// # Errors
/// EPERM.
pub fn remove_table(table: &str) -> Result<()> {
    let mut batch = Batch::new(table);
    batch.delete_table();
    missing_is_fine(batch.commit(&*nft::open()?)).told(|| format!("delete the table {table}"))
}

/// The names of the `inet` tables that begin with `onggi`.
///
/// # Errors
/// Whatever the kernel answers.
pub fn tables() -> Result<Vec<String>> {
    Ok(look::tables(&*nft::open()?)?.into_iter().filter(|name| name.starts_with("onggi")).collect())
}

fn missing_is_fine(result: Result<(), crate::sys::netlink::Refusal>) -> Result<(), crate::sys::netlink::Refusal> {
    result.or_else(|refusal| if refusal.fact.errno() == Errno::ENOENT { Ok(()) } else { Err(refusal) })
}

/// The elements that a network wants, and those that it might have had and doesn't want.
fn elements(network: &Subnet) -> (Vec<Element>, Vec<Element>) {
    let link = network.link;
    let one = |set, wanted: bool| (wanted, Element { set, key: ifname(link).to_vec(), data: Vec::new(), told: link.into() });
    let pair = |set, from: &str, wanted: bool| {
        (wanted, Element { set, key: [ifname(from), ifname(link)].concat(), data: Vec::new(), told: format!("{from:?} . {link}") })
    };
    let leaves = |family: u8, name: &str, wanted: bool| {
        let key = [padded(&[family]), ifname(link).to_vec()].concat();
        (wanted, Element { set: rules::MASQUERADED, key, data: Vec::new(), told: format!("{name} . {link}") })
    };
    let out = network.masquerade && !network.internal;
    let all = [
        one(rules::BRIDGES, true),
        pair(rules::WITHIN, link, true),
        // Where bridges pass netfilter (br_netfilter) a packet that stays in the bridge has no link that it came from at the end.
        pair(rules::WITHIN, "", true),
        pair(rules::OPEN, link, network.icc),
        one(rules::CLOSED, !network.icc),
        one(rules::INTERNAL, network.internal),
        leaves(IPV4, "ipv4", out && network.cidrs.iter().any(|cidr| cidr.address.is_ipv4())),
        leaves(IPV6, "ipv6", out && network.cidrs.iter().any(|cidr| cidr.address.is_ipv6())),
    ];
    let (wanted, unwanted): (Vec<_>, Vec<_>) = all.into_iter().partition(|(wanted, _)| *wanted);
    let elements = |list: Vec<(bool, Element)>| list.into_iter().map(|(_, element)| element).collect();
    (elements(wanted), elements(unwanted))
}
