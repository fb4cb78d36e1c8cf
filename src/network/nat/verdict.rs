//! Which of our rules decides over a packet: read from the sets as the kernel has them now, in the order of the chain.
//!
//! See it: `nft list chain inet onggi forward`, `nft monitor trace`.

use super::super::nft::look::{self, Counted};
use super::super::nft::set::{ifname, padded};
use super::super::nft::{self, IPV4, IPV6};
use super::rules::{self, BRIDGES, INTERNAL, MASQUERADED, OPEN};
use crate::error::Result;

/// A rule, and what it says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    pub chain: &'static str,
    /// The rule's comment; what is none of the rules is the chain's policy.
    pub rule: &'static str,
    pub passes: bool,
}

/// What becomes of a new connection that comes in on one link and goes out on another; `published`: its destination was a port of the
/// host's. None when the table is missing or has lost rules.
///
/// # Errors
/// Whatever the kernel answers.
pub fn forwarded(table: &str, from: &str, to: &str, published: bool) -> Result<Option<Verdict>> {
    let socket = nft::open()?;
    if look::rules(&socket, table)? != rules::COUNT {
        return Ok(None);
    }
    let has = |set, key: &[u8]| Ok::<_, crate::error::Error>(look::elements(&socket, table, set)?.iter().any(|element| holds(element, key)));
    let (came, goes) = (ifname(from), ifname(to));
    let (rule, passes) = if has(OPEN, &[came, goes].concat())? {
        ("within a network", true)
    } else if has(INTERNAL, &came)? {
        ("out of an internal network", false)
    } else if has(INTERNAL, &goes)? {
        ("into an internal network", false)
    } else if published {
        ("to a published port", true)
    } else if has(BRIDGES, &goes)? {
        ("into a network", false)
    } else {
        ("policy accept", true)
    };
    Ok(Some(Verdict { chain: "forward", rule, passes }))
}

/// Whether what comes from a bridge leaves the host with the host's own address.
///
/// # Errors
/// Whatever the kernel answers.
pub fn is_masqueraded(table: &str, from: &str, v6: bool) -> Result<bool> {
    let key = [padded(&[if v6 { IPV6 } else { IPV4 }]), ifname(from).to_vec()].concat();
    Ok(look::elements(&*nft::open()?, table, MASQUERADED)?.iter().any(|element| holds(element, &key)))
}

fn holds(element: &Counted, key: &[u8]) -> bool {
    element.key.starts_with(key)
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_verdict_is_a_rule_of_the_chain() {
        let told = ["within a network", "out of an internal network", "into an internal network", "to a published port", "into a network"];
        let there: Vec<&str> = super::rules::comments("forward").collect();
        assert!(told.iter().all(|rule| there.contains(rule)), "{there:?}");
    }
}
