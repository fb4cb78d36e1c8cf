//! Looking at what rules there are, ours and others'.
//!
//! See it: `nft list tables`, `nft list chains`. Read: nft(8).

use nix::errno::Errno;

use super::super::Told;
use super::super::message::{attribute, attributes, be32_of, be64_of, text_of};
use super::set::*;
use super::*;

/// An element of a map, as the kernel has it.
pub struct Counted {
    pub key: Vec<u8>,
    pub data: Vec<u8>,
    pub packets: u64,
    pub bytes: u64,
}

/// The names of all tables of the family `inet`.
///
/// # Errors
/// Whatever the kernel answers.
pub fn tables(socket: &Socket) -> Result<Vec<String>> {
    let answers = socket.ask("list tables", &dump(GETTABLE, INET).finish()).told(|| "list the tables of nf_tables".into())?;
    Ok(answers.iter().filter_map(|answer| attribute(answer.body.get(4..)?, NFTA_TABLE_NAME).map(text_of)).collect())
}

/// How many rules a table of the family `inet` has: 0 when it is missing.
///
/// # Errors
/// Whatever the kernel answers.
pub fn rules(socket: &Socket, table: &str) -> Result<usize> {
    let message = dump(GETRULE, INET).text(NFTA_RULE_TABLE, table).finish();
    let answers = match socket.ask(&format!("list rules of {table}"), &message) {
        Err(refusal) if refusal.fact.errno() == Errno::ENOENT => return Ok(0),
        answers => answers.told(|| format!("list the rules of the table {table}"))?,
    };
    // A kernel that knows no such filter tells all.
    let ours = |body: &[u8]| body.get(4..).and_then(|body| attribute(body, NFTA_RULE_TABLE)).is_some_and(|name| text_of(name) == table);
    Ok(answers.iter().filter(|answer| answer.kind & 0xff == 6 && ours(&answer.body)).count())
}

/// Whether a rule of this table, of whatever family, speaks of a link by a name that begins so.
///
/// # Errors
/// Whatever the kernel answers.
pub fn names_a_link(socket: &Socket, family: u8, table: &str, beginning: &str) -> Result<bool> {
    let message = dump(GETRULE, family).text(NFTA_RULE_TABLE, table).finish();
    let answers = socket.ask(&format!("list rules of {table}"), &message).told(|| format!("list the rules of the table {table}"))?;
    let ours = |body: &[u8]| body.get(4..).and_then(|body| attribute(body, NFTA_RULE_TABLE)).is_some_and(|name| text_of(name) == table);
    let speaks = |body: &[u8]| memchr::memmem::find(body, beginning.as_bytes()).is_some();
    Ok(answers.iter().any(|answer| ours(&answer.body) && speaks(&answer.body)))
}

/// A chain of anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// `inet`, `ip` or `ip6`.
    pub family: &'static str,
    pub table: String,
    pub chain: String,
    /// `filter`, `nat`, `route`; empty for one without a hook.
    pub kind: String,
    /// Where it listens: the kernel's number of the hook.
    pub hook: Option<u32>,
    pub policy: Option<u32>,
}

impl Chain {
    /// `ip filter FORWARD`
    pub fn name(&self) -> String {
        format!("{} {} {}", self.family, self.table, self.chain)
    }
}

/// All chains of the socket's namespace that see IP packets.
///
/// # Errors
/// Whatever the kernel answers.
pub fn chains(socket: &Socket) -> Result<Vec<Chain>> {
    let answers = socket.ask("list chains", &dump(GETCHAIN, 0).finish()).told(|| "list the chains of nf_tables".into())?;
    Ok(answers.iter().filter_map(|answer| chain(&answer.body)).collect())
}

fn chain(body: &[u8]) -> Option<Chain> {
    let family = match *body.first()? {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => return None,
    };
    let rest = body.get(4..)?;
    let text = |kind| attribute(rest, kind).map(text_of);
    Some(Chain {
        family,
        table: text(NFTA_CHAIN_TABLE)?,
        chain: text(NFTA_CHAIN_NAME)?,
        kind: text(NFTA_CHAIN_TYPE).unwrap_or_default(),
        hook: attribute(rest, NFTA_CHAIN_HOOK).and_then(|hook| attribute(hook, NFTA_HOOK_HOOKNUM)).and_then(be32_of),
        policy: attribute(rest, NFTA_CHAIN_POLICY).and_then(be32_of),
    })
}

/// Whether a set or map has this element.
///
/// # Errors
/// Whatever the kernel answers beside ENOENT.
pub fn has(socket: &Socket, table: &str, element: &Element) -> Result<bool> {
    let list = Message::inner().nest(NFTA_LIST_ELEM, element.message());
    let message = Message::new(SUBSYSTEM << 8 | GETSETELEM, 0)
        .fixed(&[INET, 0, 0, 0])
        .text(NFTA_SET_ELEM_LIST_TABLE, table)
        .text(NFTA_SET_ELEM_LIST_SET, element.set)
        .nest(NFTA_SET_ELEM_LIST_ELEMENTS, list)
        .finish();
    match socket.ask(&format!("get element {} {}", element.set, element.told), &message) {
        Err(refusal) if refusal.fact.errno() == Errno::ENOENT => Ok(false),
        answers => answers.told(|| format!("look for {} in the set {}", element.told, element.set)).map(|_| true),
    }
}

/// The elements of a map with their counters; none when table or map is missing.
///
/// # Errors
/// Whatever the kernel answers.
pub fn elements(socket: &Socket, table: &str, map: &str) -> Result<Vec<Counted>> {
    let message = dump(GETSETELEM, INET).text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, map).finish();
    let answers = match socket.ask(&format!("list map {table} {map}"), &message) {
        Err(refusal) if refusal.fact.errno() == Errno::ENOENT => return Ok(Vec::new()),
        answers => answers.told(|| format!("list the map {map} of the table {table}"))?,
    };
    let lists = answers.iter().filter_map(|answer| attribute(answer.body.get(4..)?, NFTA_SET_ELEM_LIST_ELEMENTS));
    Ok(lists.flat_map(attributes).filter_map(|(_, element)| counted(element)).collect())
}

fn counted(element: &[u8]) -> Option<Counted> {
    const NFTA_SET_ELEM_EXPR: u16 = 7;
    let data = |kind| attribute(element, kind).and_then(|data| attribute(data, expression::NFTA_DATA_VALUE)).map(<[u8]>::to_vec);
    let counter = attribute(element, NFTA_SET_ELEM_EXPR).and_then(|counter| attribute(counter, 2)).unwrap_or_default();
    let number = |kind| attribute(counter, kind).and_then(be64_of).unwrap_or(0);
    Some(Counted { key: data(NFTA_SET_ELEM_KEY)?, data: data(NFTA_SET_ELEM_DATA).unwrap_or_default(), bytes: number(1), packets: number(2) })
}
