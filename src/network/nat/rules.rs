//! The constant part of the table: its sets, chains and rules, in the order in which a packet meets them.
//!
//! See it: `nft list table inet onggi`. Read: nft(8).

use super::super::nft::expression::Expression::{self, *};
use super::super::nft::expression::{Base, Ct as Track, Meta as Key, Verdict as Decision};
use super::super::nft::set::{Set, Type};
use super::super::nft::{Batch, Hook, IPV4, IPV6, Place};

/// Published ports by the host's address, protocol and port.
pub(super) const EXACT_V4: &str = "published_v4";
pub(super) const EXACT_V6: &str = "published_v6";
/// Those of any of the host's addresses.
pub(super) const ANY_V4: &str = "published_any_v4";
pub(super) const ANY_V6: &str = "published_any_v6";
/// The networks' bridges.
pub(super) const BRIDGES: &str = "bridges";
/// Each bridge with itself: from it and back into it.
pub(super) const WITHIN: &str = "within";
/// The same for those whose containers may speak with each other.
pub(super) const OPEN: &str = "open";
/// The bridges whose containers may not: even a packet that is on its way to a published port isn't passed on between them.
pub(super) const CLOSED: &str = "closed";
/// The bridges of networks with no way in or out.
pub(super) const INTERNAL: &str = "internal";
/// The bridges whose packets leave with the host's address, by family.
pub(super) const MASQUERADED: &str = "masqueraded";

const SETS: [Set; 10] = [
    Set { name: EXACT_V4, key: &[Type::Ipv4, Type::Protocol, Type::Port], data: &[Type::Ipv4, Type::Port] },
    Set { name: EXACT_V6, key: &[Type::Ipv6, Type::Protocol, Type::Port], data: &[Type::Ipv6, Type::Port] },
    Set { name: ANY_V4, key: &[Type::Protocol, Type::Port], data: &[Type::Ipv4, Type::Port] },
    Set { name: ANY_V6, key: &[Type::Protocol, Type::Port], data: &[Type::Ipv6, Type::Port] },
    Set { name: BRIDGES, key: &[Type::Ifname], data: &[] },
    Set { name: WITHIN, key: &[Type::Ifname, Type::Ifname], data: &[] },
    Set { name: OPEN, key: &[Type::Ifname, Type::Ifname], data: &[] },
    Set { name: CLOSED, key: &[Type::Ifname], data: &[] },
    Set { name: INTERNAL, key: &[Type::Ifname], data: &[] },
    Set { name: MASQUERADED, key: &[Type::NfProto, Type::Ifname], data: &[] },
];

const CHAINS: [(&str, Option<Hook>); 5] = [
    ("published", None),
    ("prerouting", Some(Hook { kind: "nat", place: Place::Prerouting, priority: -100 })),
    ("output", Some(Hook { kind: "nat", place: Place::Output, priority: -100 })),
    ("forward", Some(Hook { kind: "filter", place: Place::Forward, priority: 0 })),
    ("postrouting", Some(Hook { kind: "nat", place: Place::Postrouting, priority: 100 })),
];

type Rule = (&'static str, &'static str, &'static [Expression<'static>]);

/// How many rules a whole table has.
pub(super) const COUNT: usize = RULES.len();

/// The comments of a chain's rules, in their order.
#[cfg(test)]
pub(super) fn comments(chain: &str) -> impl Iterator<Item = &'static str> {
    RULES.iter().filter(move |rule| rule.0 == chain).map(|rule| rule.1)
}

const RETURN: Expression = Verdict(Decision::Return);
const ACCEPT: Expression = Verdict(Decision::Accept);
const DROP: Expression = Verdict(Decision::Drop);
const IIF: Expression = Meta { key: Key::IifName, word: 0 };
const L4_FIRST: Expression = Meta { key: Key::L4Proto, word: 0 };
const IS_IPV4: [Expression; 2] = [Meta { key: Key::NfProto, word: 0 }, Equal { word: 0, value: &[IPV4] }];
const IS_IPV6: [Expression; 2] = [Meta { key: Key::NfProto, word: 0 }, Equal { word: 0, value: &[IPV6] }];
const DADDR_V4: Expression = Payload { base: Base::Network, offset: 16, length: 4, word: 0 };
const DADDR_V6: Expression = Payload { base: Base::Network, offset: 24, length: 16, word: 0 };

/// The destination port: TCP, UDP and SCTP all have it in bytes 2 and 3.
const fn dport(word: u32) -> Expression<'static> {
    Payload { base: Base::Transport, offset: 2, length: 2, word }
}

const LOOPBACK_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// rtnetlink(7): RTN_LOCAL.
const RTN_LOCAL: [u8; 4] = 2u32.to_ne_bytes();
/// nf_conntrack_common.h: IP_CT_ESTABLISHED and IP_CT_RELATED as bits of `ct state`; IPS_DST_NAT of `ct status`.
const ESTABLISHED_OR_RELATED: u32 = 6;
const DST_NAT: u32 = 32;

const RULES: [Rule; 18] = [
    (
        "published",
        "the port's holder answers on loopback",
        &[IS_IPV4[0], IS_IPV4[1], Payload { base: Base::Network, offset: 16, length: 1, word: 0 }, Equal { word: 0, value: &[127] }, RETURN],
    ),
    ("published", "the same", &[IS_IPV6[0], IS_IPV6[1], DADDR_V6, Equal { word: 0, value: &LOOPBACK_V6 }, RETURN]),
    ("published", "the same for neighbours that must not meet", &[IIF, Within { set: CLOSED, word: 0 }, RETURN]),
    (
        "published",
        "-p ADDRESS:PORT",
        &[
            IS_IPV4[0],
            IS_IPV4[1],
            DADDR_V4,
            Meta { key: Key::L4Proto, word: 1 },
            dport(2),
            Mapped { map: EXACT_V4, word: 0 },
            Dnat { family: IPV4, address: 0, port: 1 },
        ],
    ),
    (
        "published",
        "-p [ADDRESS]:PORT",
        &[
            IS_IPV6[0],
            IS_IPV6[1],
            DADDR_V6,
            Meta { key: Key::L4Proto, word: 4 },
            dport(5),
            Mapped { map: EXACT_V6, word: 0 },
            Dnat { family: IPV6, address: 0, port: 4 },
        ],
    ),
    ("published", "-p PORT", &[L4_FIRST, dport(1), Mapped { map: ANY_V4, word: 0 }, Dnat { family: IPV4, address: 0, port: 1 }]),
    ("published", "-p PORT", &[L4_FIRST, dport(1), Mapped { map: ANY_V6, word: 0 }, Dnat { family: IPV6, address: 0, port: 4 }]),
    ("prerouting", "to this host", &[DestinationType { word: 0 }, Equal { word: 0, value: &RTN_LOCAL }, Verdict(Decision::Jump("published"))]),
    ("output", "to itself", &[DestinationType { word: 0 }, Equal { word: 0, value: &RTN_LOCAL }, Verdict(Decision::Jump("published"))]),
    (
        "forward",
        "answers",
        &[Ct { key: Track::State, word: 0 }, Mask { word: 0, mask: ESTABLISHED_OR_RELATED }, Differs { word: 0, value: &[0; 4] }, ACCEPT],
    ),
    ("forward", "within a network", &[IIF, Meta { key: Key::OifName, word: 4 }, Within { set: OPEN, word: 0 }, ACCEPT]),
    ("forward", "out of an internal network", &[IIF, Within { set: INTERNAL, word: 0 }, DROP]),
    ("forward", "into an internal network", &[Meta { key: Key::OifName, word: 0 }, Within { set: INTERNAL, word: 0 }, DROP]),
    (
        "forward",
        "to a published port",
        &[Ct { key: Track::Status, word: 0 }, Mask { word: 0, mask: DST_NAT }, Differs { word: 0, value: &[0; 4] }, ACCEPT],
    ),
    ("forward", "into a network", &[Meta { key: Key::OifName, word: 0 }, Within { set: BRIDGES, word: 0 }, DROP]),
    (
        "postrouting",
        "back where it came from: the answer has to pass here",
        &[
            IIF,
            Meta { key: Key::OifName, word: 4 },
            Within { set: WITHIN, word: 0 },
            Ct { key: Track::Status, word: 0 },
            Mask { word: 0, mask: DST_NAT },
            Differs { word: 0, value: &[0; 4] },
            Masquerade,
        ],
    ),
    ("postrouting", "within a network", &[IIF, Meta { key: Key::OifName, word: 4 }, Within { set: WITHIN, word: 0 }, RETURN]),
    (
        "postrouting",
        "to the world",
        &[Meta { key: Key::NfProto, word: 0 }, Meta { key: Key::IifName, word: 1 }, Within { set: MASQUERADED, word: 0 }, Masquerade],
    ),
];

/// Makes whatever is missing of the table, and its rules anew; elements stay.
pub(super) fn lay(batch: &mut Batch) {
    batch.table();
    for (id, set) in (1..).zip(&SETS) {
        batch.set(set, id);
    }
    for (name, hook) in &CHAINS {
        batch.chain(name, hook.as_ref());
        batch.flush(name);
    }
    for (chain, comment, expressions) in &RULES {
        batch.rule(chain, comment, expressions);
    }
}
