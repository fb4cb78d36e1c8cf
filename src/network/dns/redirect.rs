//! 127.0.0.11, port 53, of a container: two sockets on another port, and rules that exchange the port on the way.
//!
//! A container may run a name server of its own on port 53 of all addresses, so ours can't be bound to it. Docker has NAT for that;
//! we rewrite the port in the packet, to and fro, without connection tracking: there is no state to keep for a question that
//! lives 20 microseconds. If the container itself tracks connections, it sees our port in both directions: questions are rewritten
//! before that, answers after it.
//!
//! See it: `nsenter -n -t PID nft list table inet onggi-dns`. Read: nft(8), "PAYLOAD EXPRESSIONS"; setns(2).

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::super::nft::expression::{Base, Expression, Meta};
use super::super::nft::{self, Batch, Hook, Place};
use crate::error::{Doing, Error, Result};
use crate::sys::namespace::{loopback_up, within_network};
use crate::sys::netlink::{self, NETLINK_NETFILTER};

/// Where containers ask: the address that Docker took, which programs have learned to know.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
const TABLE: &str = "onggi-dns";

/// Sockets in the network namespace `netns` that get what is sent to 127.0.0.11:53 there. The caller is back in his own namespace
/// afterwards; only the calling thread is ever elsewhere.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN here and CAP_NET_ADMIN there; EPROTONOSUPPORT or EOPNOTSUPP on a kernel without nf_tables.
pub fn open(netns: BorrowedFd) -> Result<(UdpSocket, TcpListener)> {
    within_network(netns, open_here).doing(|| "enter the container's network namespace".into())?
}

fn open_here() -> Result<(UdpSocket, TcpListener)> {
    // 127.0.0.11 is an address only while the loopback device is up.
    loopback_up().doing(|| "switch the container's loopback device on".into())?;
    let (udp, tcp) = bind()?;
    let port = udp.local_addr().doing(|| "ask for the name server's port".into())?.port();
    let doing = || format!("lead {ADDRESS}:{PORT} to the name server");
    // Not the socket that this thread keeps: it would keep the container's namespace.
    let socket = netlink::open(NETLINK_NETFILTER).doing(doing)?;
    let missing = "this kernel lacks nf_tables or its payload expression: `modprobe nf_tables` (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)";
    rules(port).commit(&socket).map_err(|refusal| match refusal.fact.errno() {
        Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::ENOENT => Error::sys(doing(), refusal.fact).hint(missing),
        _ => Error::sys(doing(), refusal.fact),
    })?;
    Ok((udp, tcp))
}

/// One port for both protocols: what the kernel chose for one may be taken for the other.
fn bind() -> Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..16 {
        let udp = UdpSocket::bind((ADDRESS, 0)).doing(|| format!("bind a UDP port of {ADDRESS}"))?;
        let port = udp.local_addr().doing(|| "ask for the name server's port".into())?.port();
        match TcpListener::bind((ADDRESS, port)) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Errno::EADDRINUSE.into())).doing(|| format!("bind a TCP port of {ADDRESS}"))
}

/// Everything in one batch, which the kernel takes as a whole or not at all:
///
/// ```text
/// table inet onggi-dns {
///   chain questions { type filter hook output priority raw;  ip daddr 127.0.0.11 udp dport 53 udp dport set 40000; (tcp too) }
///   chain answers   { type filter hook output priority 300;  ip saddr 127.0.0.11 udp sport 40000 udp sport set 53; (tcp too) }
/// }
/// ```
fn rules(port: u16) -> Batch<'static> {
    let mut batch = Batch::new(TABLE);
    batch.table();
    // Through the loopback device, questions and answers both are packets on their way out. Connection tracking sits at -200
    // (linux/netfilter_ipv4.h).
    for (chain, priority) in [("questions", -300), ("answers", 300)] {
        batch.chain(chain, Some(&Hook { kind: "filter", place: Place::Output, priority }));
    }
    // Offsets in the headers of IP (source 12, destination 16) and of TCP and UDP (source port 0, destination port 2; RFC 791, 768, 9293).
    for (protocol, checksum) in [(libc::IPPROTO_UDP as u8, 6), (libc::IPPROTO_TCP as u8, 16)] {
        rule(&mut batch, "questions", &Rewrite { protocol, checksum, address_at: 16, port_at: 2, from: PORT, to: port });
        rule(&mut batch, "answers", &Rewrite { protocol, checksum, address_at: 12, port_at: 0, from: port, to: PORT });
    }
    batch
}

/// One port becomes another in packets of one protocol from or to our address.
struct Rewrite {
    protocol: u8,
    /// Where the protocol's checksum is.
    checksum: u32,
    address_at: u32,
    port_at: u32,
    from: u16,
    to: u16,
}

fn rule(batch: &mut Batch, chain: &str, rewrite: &Rewrite) {
    let expressions = [
        Expression::Meta { key: Meta::NfProto, word: 0 },
        Expression::Equal { word: 0, value: &[nft::IPV4] },
        Expression::Payload { base: Base::Network, offset: rewrite.address_at, length: 4, word: 0 },
        Expression::Equal { word: 0, value: &ADDRESS.octets() },
        Expression::Meta { key: Meta::L4Proto, word: 0 },
        Expression::Equal { word: 0, value: &[rewrite.protocol] },
        Expression::Payload { base: Base::Transport, offset: rewrite.port_at, length: 2, word: 0 },
        Expression::Equal { word: 0, value: &rewrite.from.to_be_bytes() },
        Expression::Immediate { word: 0, value: &rewrite.to.to_be_bytes() },
        Expression::Rewrite { base: Base::Transport, offset: rewrite.port_at, length: 2, word: 0, checksum: rewrite.checksum },
    ];
    batch.rule(chain, "our name server's port", &expressions);
}
