//! 127.0.0.11, port 53, of a container: two sockets on another port, and rules that exchange the port on the way.
//!
//! A container may run a name server of its own on port 53 of all addresses, so ours can't be bound to it. Docker has NAT for that;
//! we rewrite the port in the packet, to and fro, without connection tracking: there is no state to keep for a question that
//! lives 20 microseconds. If the container itself tracks connections, it sees our port in both directions: questions are rewritten
//! before that, answers after it.
//!
//! See it: `nsenter -n -t PID nft list table ip onggi-dns`. Read: nft(8), "PAYLOAD EXPRESSIONS"; setns(2); netlink(7).

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::error::{Doing, Result, SysError};
use crate::sys::SysResult;
use crate::sys::namespace::{CLONE_NEWNET, loopback_up, setns};

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
    let home = File::open("/proc/thread-self/ns/net").doing(|| "remember our own network namespace".into())?;
    setns(netns, CLONE_NEWNET).doing(|| "enter the container's network namespace".into())?;
    let opened = open_here();
    setns(home.as_fd(), CLONE_NEWNET).doing(|| "come back from the container's network namespace".into())?;
    opened
}

fn open_here() -> Result<(UdpSocket, TcpListener)> {
    // 127.0.0.11 is an address only while the loopback device is up.
    loopback_up().doing(|| "switch the container's loopback device on".into())?;
    let (udp, tcp) = bind()?;
    let port = udp.local_addr().doing(|| "ask for the name server's port".into())?.port();
    apply(&rules(port)).doing(|| format!("lead {ADDRESS}:{PORT} to the name server")).map_err(|error| match error.cause.as_deref() {
        Some(crate::error::Cause::Sys(fact)) if matches!(fact.errno(), Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::ENOENT) => {
            error.hint("this kernel lacks nf_tables or its payload expression: `modprobe nf_tables` (CONFIG_NF_TABLES, CONFIG_NF_TABLES_IPV4)")
        }
        _ => error,
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

// Numbers of linux/netfilter/nf_tables.h and nfnetlink.h that libc has under these names, as the types of the bytes that are sent.
const NEW_TABLE: u16 = subsystem(libc::NFT_MSG_NEWTABLE);
const NEW_CHAIN: u16 = subsystem(libc::NFT_MSG_NEWCHAIN);
const NEW_RULE: u16 = subsystem(libc::NFT_MSG_NEWRULE);
const BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
const NESTED: u16 = libc::NLA_F_NESTED as u16;
/// linux/netfilter.h: packets of this host on their way out. Through the loopback device, questions and answers both are.
const LOCAL_OUT: u32 = libc::NF_INET_LOCAL_OUT as u32;

const fn subsystem(message: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | message as u16
}

/// Everything in one batch, which the kernel takes as a whole or not at all:
///
/// ```text
/// table ip onggi-dns {
///   chain questions { type filter hook output priority raw;  ip daddr 127.0.0.11 udp dport 53 udp dport set 40000; (tcp too) }
///   chain answers   { type filter hook output priority 300;  ip saddr 127.0.0.11 udp sport 40000 udp sport set 53; (tcp too) }
/// }
/// ```
fn rules(port: u16) -> Vec<u8> {
    let mut batch = Vec::new();
    message(&mut batch, BATCH_BEGIN, 0, |_| {});
    message(&mut batch, NEW_TABLE, libc::NLM_F_CREATE, |body| text(body, 1, TABLE));
    // Connection tracking sits at -200 (linux/netfilter_ipv4.h).
    for (chain, priority) in [("questions", -300), ("answers", 300)] {
        message(&mut batch, NEW_CHAIN, libc::NLM_F_CREATE, |body| {
            text(body, 1, TABLE);
            text(body, 3, chain);
            nest(body, 4, |hook| {
                word(hook, 1, LOCAL_OUT);
                word(hook, 2, priority as u32);
            });
            text(body, 7, "filter");
        });
    }
    // Offsets in the headers of IP (source 12, destination 16) and of TCP and UDP (source port 0, destination port 2; RFC 791, 768, 9293).
    for (protocol, checksum) in [(libc::IPPROTO_UDP as u8, 6), (libc::IPPROTO_TCP as u8, 16)] {
        rule(&mut batch, "questions", &Rewrite { protocol, checksum, address_at: 16, port_at: 2, from: PORT, to: port });
        rule(&mut batch, "answers", &Rewrite { protocol, checksum, address_at: 12, port_at: 0, from: port, to: PORT });
    }
    message(&mut batch, BATCH_END, libc::NLM_F_ACK, |_| {});
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

fn rule(batch: &mut Vec<u8>, chain: &str, rewrite: &Rewrite) {
    const NETWORK: u32 = libc::NFT_PAYLOAD_NETWORK_HEADER as u32;
    const TRANSPORT: u32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32;
    message(batch, NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, |body| {
        text(body, 1, TABLE);
        text(body, 2, chain);
        nest(body, 4, |list| {
            expression(list, "payload", |data| load(data, NETWORK, rewrite.address_at, 4));
            expression(list, "cmp", |data| equals(data, &ADDRESS.octets()));
            expression(list, "meta", |data| {
                word(data, 1, 1);
                word(data, 2, libc::NFT_META_L4PROTO as u32);
            });
            expression(list, "cmp", |data| equals(data, &[rewrite.protocol]));
            expression(list, "payload", |data| load(data, TRANSPORT, rewrite.port_at, 2));
            expression(list, "cmp", |data| equals(data, &rewrite.from.to_be_bytes()));
            expression(list, "immediate", |data| {
                word(data, 1, 1);
                nest(data, 2, |value| attribute(value, 1, &rewrite.to.to_be_bytes()));
            });
            expression(list, "payload", |data| {
                word(data, 2, TRANSPORT);
                word(data, 3, rewrite.port_at);
                word(data, 4, 2);
                word(data, 5, 1);
                word(data, 6, libc::NFT_PAYLOAD_CSUM_INET as u32);
                word(data, 7, rewrite.checksum);
            });
        });
    });
}

/// Bytes of a header into register 1.
fn load(data: &mut Vec<u8>, base: u32, offset: u32, length: u32) {
    for (kind, value) in [(1, 1), (2, base), (3, offset), (4, length)] {
        word(data, kind, value);
    }
}

/// Goes on only when register 1 is `value`.
fn equals(data: &mut Vec<u8>, value: &[u8]) {
    word(data, 1, 1);
    word(data, 2, libc::NFT_CMP_EQ as u32);
    nest(data, 3, |nested| attribute(nested, 1, value));
}

fn expression(list: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    nest(list, 1, |element| {
        text(element, 1, name);
        nest(element, 2, fill);
    });
}

/// A netlink message: its length, type, flags, sequence number and port; the family that nf_tables is asked about; attributes.
fn message(batch: &mut Vec<u8>, kind: u16, flags: i32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    let is_batch = kind == BATCH_BEGIN || kind == BATCH_END;
    let (family, resource) = if is_batch { (0, libc::NFNL_SUBSYS_NFTABLES as u16) } else { (libc::NFPROTO_IPV4 as u8, 0) };
    body.extend([family, libc::NFNETLINK_V0 as u8]);
    body.extend(resource.to_be_bytes());
    fill(&mut body);
    batch.extend((body.len() as u32 + 16).to_ne_bytes());
    batch.extend(kind.to_ne_bytes());
    batch.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
    batch.extend([0; 8]);
    batch.extend(body);
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((value.len() as u16 + 4).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn text(body: &mut Vec<u8>, kind: u16, value: &str) {
    attribute(body, kind, &[value.as_bytes(), &[0]].concat());
}

fn word(body: &mut Vec<u8>, kind: u16, value: u32) {
    attribute(body, kind, &value.to_be_bytes());
}

fn nest(body: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    attribute(body, kind | NESTED, &inner);
}

/// Sends a batch to nf_tables of the namespace that the caller is in.
fn apply(batch: &[u8]) -> SysResult<()> {
    let fact = |call: &'static str| move |errno| SysError::new(call, "NETLINK_NETFILTER, table ip onggi-dns", errno);
    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter).map_err(fact("socket"))?;
    // Without an address a netlink socket sends to the kernel (netlink(7)).
    send(netlink.as_raw_fd(), batch, MsgFlags::empty()).map_err(fact("send"))?;
    let mut answer = [0; 8192];
    // The kernel has answered when send returns: an error for each message that has one, an acknowledgement of the batch's end.
    loop {
        let length = match recv(netlink.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => length,
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(fact("recv")(errno)),
        };
        if let Some(errno) = first_error(&answer[..length]) {
            return Err(fact("send")(errno));
        }
    }
}

/// The first refusal among the answers. NLMSG_ERROR carries a negative errno, or 0 as an acknowledgement (netlink(7)).
fn first_error(mut answers: &[u8]) -> Option<Errno> {
    let number = |at: usize, bytes: &[u8]| bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map(i32::from_ne_bytes);
    while let Some(length) = number(0, answers).filter(|length| *length >= 16) {
        let kind = answers.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        if let Some(errno) = number(16, answers).filter(|errno| kind == Some(libc::NLMSG_ERROR as u16) && *errno != 0) {
            return Some(Errno::from_raw(-errno));
        }
        answers = answers.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    None
}
