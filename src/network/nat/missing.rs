//! Which of the kernel's modules our rules want in vain. The kernel says of a whole batch only that something in it isn't there; so each part
//! is tried alone, in a table that is gone again before anybody sees it.
//!
//! See it: `lsmod`, `ls /lib/modules/$(uname -r)/kernel/net/netfilter`. Read: nft(8), modprobe(8).

use nix::errno::Errno;

use super::super::nft::expression::{Ct, Expression};
use super::super::nft::{Batch, Hook, IPV4, Place};
use crate::sys::netlink::Socket;

/// The first module that is missing.
pub fn module(socket: &Socket) -> Option<&'static str> {
    let hook = Hook { kind: "nat", place: Place::Postrouting, priority: 100 };
    let parts: [(&str, &[Expression]); 5] = [
        ("nft_chain_nat", &[]),
        ("nft_ct", &[Expression::Ct { key: Ct::State, word: 0 }]),
        ("nft_masq", &[Expression::Masquerade]),
        ("nft_nat", &[Expression::Dnat { family: IPV4, address: 0, port: 1 }]),
        ("nft_fib_inet", &[Expression::DestinationType { word: 0 }]),
    ];
    let is_missing = |(_, expressions): &&(&str, &[Expression])| {
        let mut batch = Batch::new("onggi-try");
        batch.table();
        batch.chain("try", Some(&hook));
        if !expressions.is_empty() {
            batch.rule("try", "tried", expressions);
        }
        batch.delete_table();
        // A rule that is whole but makes no sense here is EINVAL: then its module is there.
        batch.commit(socket).is_err_and(|refusal| matches!(refusal.fact.errno(), Errno::ENOENT | Errno::EOPNOTSUPP))
    };
    parts.iter().find(is_missing).map(|(module, _)| *module)
}
