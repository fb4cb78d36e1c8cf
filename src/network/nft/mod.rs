//! nf_tables: the kernel's packet filter and address translation, spoken to by hand.
//!
//! A table holds chains, a chain holds rules, a rule holds [expressions](expression) that work on registers like a small machine; sets
//! and maps hold [elements](set) and are looked up in the time of one. All changes of a [`Batch`] take effect in one moment or not at all.
//!
//! See it: `nft list ruleset`, `nft --debug=netlink list ruleset`, `nft monitor`. Read: nft(8), include/uapi/linux/netfilter/nf_tables.h.

pub mod expression;
pub mod look;
pub mod set;

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use super::message::{Message, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use crate::error::{Doing, Error, Result, SysError};
use crate::sys::netlink::{self, NETLINK_NETFILTER, Refusal, Socket};
use expression::Expression;

/// Tables of this family see IPv4 and IPv6.
pub(crate) const INET: u8 = 1;
pub(crate) const IPV4: u8 = 2;
pub(crate) const IPV6: u8 = 10;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
pub(crate) const NEWTABLE: u16 = 0;
pub(crate) const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
pub(crate) const NEWCHAIN: u16 = 3;
pub(crate) const GETCHAIN: u16 = 4;
const NEWRULE: u16 = 6;
pub(crate) const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
pub(crate) const NEWSET: u16 = 9;
pub(crate) const NEWSETELEM: u16 = 12;
pub(crate) const GETSETELEM: u16 = 13;
pub(crate) const DELSETELEM: u16 = 14;

pub(crate) const NFTA_TABLE_NAME: u16 = 1;
pub(crate) const NFTA_CHAIN_TABLE: u16 = 1;
pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
pub(crate) const NFTA_CHAIN_HOOK: u16 = 4;
pub(crate) const NFTA_CHAIN_POLICY: u16 = 5;
pub(crate) const NFTA_CHAIN_TYPE: u16 = 7;
pub(crate) const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
pub(crate) const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
pub(crate) const NFTA_LIST_ELEM: u16 = 1;
/// The kind of user data that nft(8) shows as a rule's comment.
const UDATA_COMMENT: u8 = 0;

pub(crate) const NF_ACCEPT: u32 = 1;

/// Where a chain listens, and when among the others there. Without one it is a chain to jump to.
pub struct Hook {
    /// `nat` or `filter`.
    pub kind: &'static str,
    pub place: Place,
    /// The lower the earlier; nft(8) has names for the customary ones.
    pub priority: i32,
}

/// The five places of netfilter where a packet passes by (nft(8) "CHAINS").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// Changes that the kernel makes all at once.
pub struct Batch<'a> {
    table: &'a str,
    bytes: Vec<u8>,
    told: Vec<String>,
}

impl<'a> Batch<'a> {
    /// An empty one, for a table of the family `inet`.
    pub fn new(table: &'a str) -> Batch<'a> {
        let mut batch = Batch { table, bytes: Vec::new(), told: Vec::new() };
        batch.bytes.extend(Message::new(BATCH_BEGIN, 0).fixed(&[0, 0, 0, SUBSYSTEM as u8]).finish());
        batch
    }

    /// Makes the table unless it is there.
    pub fn table(&mut self) {
        let message = request(NEWTABLE, NLM_F_CREATE, INET).text(NFTA_TABLE_NAME, self.table);
        self.push(message, format!("add table inet {}", self.table));
    }

    /// Deletes the table with all that is in it.
    pub fn delete_table(&mut self) {
        let message = request(DELTABLE, 0, INET).text(NFTA_TABLE_NAME, self.table);
        self.push(message, format!("delete table inet {}", self.table));
    }

    /// Makes the chain unless it is there; what passes its end is accepted.
    pub fn chain(&mut self, name: &str, hook: Option<&Hook>) {
        let mut message = request(NEWCHAIN, NLM_F_CREATE, INET).text(NFTA_CHAIN_TABLE, self.table).text(NFTA_CHAIN_NAME, name);
        if let Some(hook) = hook {
            let place = Message::inner().be32(NFTA_HOOK_HOOKNUM, hook.place as u32).be32(NFTA_HOOK_PRIORITY, hook.priority as u32);
            message = message.nest(NFTA_CHAIN_HOOK, place).be32(NFTA_CHAIN_POLICY, NF_ACCEPT).text(NFTA_CHAIN_TYPE, hook.kind);
        }
        self.push(message, format!("add chain {name}"));
    }

    /// Takes all rules out of a chain.
    pub fn flush(&mut self, chain: &str) {
        let message = request(DELRULE, 0, INET).text(NFTA_RULE_TABLE, self.table).text(NFTA_RULE_CHAIN, chain);
        self.push(message, format!("flush chain {chain}"));
    }

    /// Puts a rule at the end of a chain.
    pub fn rule(&mut self, chain: &str, comment: &str, expressions: &[Expression]) {
        let list = expressions.iter().fold(Message::inner(), |list, expression| list.nest(NFTA_LIST_ELEM, expression.message()));
        let mut data = vec![UDATA_COMMENT, comment.len() as u8 + 1];
        data.extend_from_slice(comment.as_bytes());
        data.push(0);
        let message = request(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, INET)
            .text(NFTA_RULE_TABLE, self.table)
            .text(NFTA_RULE_CHAIN, chain)
            .nest(NFTA_RULE_EXPRESSIONS, list)
            .bytes(NFTA_RULE_USERDATA, &data);
        self.push(message, format!("add rule {chain} {comment:?}"));
    }

    pub(crate) fn push(&mut self, message: Message, told: String) {
        self.bytes.extend(message.finish());
        self.told.push(told);
    }

    /// The kernel makes all of it, or nothing.
    ///
    /// # Errors
    /// The first refusal: ENOENT for a table, set or element that is missing.
    pub fn commit(mut self, socket: &Socket) -> Result<(), Refusal> {
        if self.told.is_empty() {
            return Ok(());
        }
        self.bytes.extend(Message::new(BATCH_END, 0).fixed(&[0, 0, 0, SUBSYSTEM as u8]).finish());
        let done = socket.change(|| self.told.join("; "), self.bytes.clone()).map(drop);
        done.map_err(|refusal| {
            // The batch's beginning is message 0.
            let told = refusal.at.and_then(|at| self.told.get(at.checked_sub(1)?));
            let fact = |told: &String| SysError::new("sendto", format!("NETLINK_NETFILTER, {told}"), refusal.fact.errno());
            Refusal { fact: told.map_or_else(|| refusal.fact.clone(), fact), ..refusal }
        })
    }
}

/// A socket for netfilter in the caller's network namespace: the one that this thread has for it, as long as it lives. For who shuts one
/// waits until the kernel has freed all that was deleted, whoever deleted it (nft_rcv_nl_event), and that takes longer than a container.
///
/// # Errors
/// Unsupported when the kernel has no netfilter.
pub fn open() -> Result<Rc<Socket>> {
    /// Whose it is: the process, the namespace's device and inode; and the socket there.
    type Kept = Option<((u32, u64, u64), Rc<Socket>)>;
    thread_local!(static KEPT: RefCell<Kept> = const { RefCell::new(None) });
    let who = std::process::id();
    let here = std::fs::metadata("/proc/thread-self/ns/net").doing(|| "look at our network namespace".into())?;
    let here = (who, here.dev(), here.ino());
    KEPT.with_borrow_mut(|kept| match kept {
        Some((of, socket)) if *of == here => Ok(Rc::clone(socket)),
        _ => {
            // In a fork it is the parent's, whose answers we would take; or it was shut, and its number is somebody else's, whom we would shut.
            if let Some((_, foreign)) = kept.take_if(|kept| kept.0.0 != who) {
                std::mem::forget(foreign);
            }
            let socket = netlink::open(NETLINK_NETFILTER).map_err(|fact| Error::sys("open a socket to nf_tables", fact))?;
            let socket = Rc::new(socket);
            *kept = Some((here, Rc::clone(&socket)));
            Ok(socket)
        }
    })
}

/// The beginning of a message to nf_tables: `struct nfgenmsg` is family, version 0, and a number that only batches use.
pub(crate) fn request(kind: u16, flags: u16, family: u8) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, NLM_F_ACK | flags).fixed(&[family, 0, 0, 0])
}

/// The same for a list.
pub(crate) fn dump(kind: u16, family: u8) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, super::message::NLM_F_DUMP).fixed(&[family, 0, 0, 0])
}
