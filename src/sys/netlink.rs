//! netlink: how programs talk with the kernel's network, in messages over a socket.
//!
//! A request goes out in one datagram, which may hold several messages; the kernel works on it while we are in send(2), so that its
//! answers lie ready when send(2) is back. A dump (a list) comes in parts, until NLMSG_DONE.
//!
//! See it: `ss -f netlink`, `strace -e network ip link`. Read: netlink(7), include/uapi/linux/netlink.h.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::call::{SysError, SysResult, call};
use super::mount::owned;
use super::namespace::within_network;

/// Links, addresses and routes: rtnetlink(7).
pub const NETLINK_ROUTE: i32 = libc::NETLINK_ROUTE;
/// nf_tables and connection tracking.
pub const NETLINK_NETFILTER: i32 = libc::NETLINK_NETFILTER;

/// Length of `struct nlmsghdr`.
pub const HEADER: usize = 16;

const NLM_F_MULTI: u16 = 2;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A netlink socket. It belongs to the network namespace in which it was opened, wherever its owner goes.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    protocol: i32,
    sequence: Cell<u32>,
}

/// A request that the kernel refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub fact: SysError,
    /// The kernel's own words (NETLINK_EXT_ACK), when it has some.
    pub words: Option<String>,
    /// Which message of the datagram it refused, counted from 0, when it said so.
    pub at: Option<usize>,
}

impl From<SysError> for Refusal {
    fn from(fact: SysError) -> Refusal {
        Refusal { fact, words: None, at: None }
    }
}

/// One message of an answer: its type, and what follows the header.
#[derive(Debug)]
pub struct Answer {
    pub kind: u16,
    pub body: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A netlink socket in the caller's network namespace.
///
/// # Errors
/// EPROTONOSUPPORT when the kernel lacks the protocol, EMFILE.
pub fn open(protocol: i32) -> SysResult<Socket> {
    // SAFETY: integers only.
    let raw = || unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) as _ };
    let fd = owned(call("socket", || format!("AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, {}", protocol_name(protocol)), raw)?);
    // Words with an error, and no copy of our own request in it. A kernel that knows neither answers without.
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        set_option(fd.as_fd(), libc::SOL_NETLINK, option, 1);
    }
    Ok(Socket { fd, protocol, sequence: Cell::new(0) })
}

/// A netlink socket in the network namespace behind `netns`.
///
/// # Errors
/// As [`open`] and [`within_network`].
pub fn open_in(netns: BorrowedFd, protocol: i32) -> SysResult<Socket> {
    within_network(netns, || open(protocol))?
}

impl Socket {
    /// Sends requests that change something, in one datagram, and waits for the kernel's answers. `what` tells them to people. Each
    /// message has its header's length, type and flags set; the sequence numbers are set here. Answers what the kernel sent
    /// back beside its acknowledgements.
    ///
    /// # Errors
    /// The first refusal. Whether the other messages took effect is the protocol's matter: for rtnetlink they did, nf_tables takes all
    /// or nothing.
    pub fn change(&self, what: impl Fn() -> String, mut messages: Vec<u8>) -> Result<Vec<Answer>, Refusal> {
        let before = self.sequence.get();
        self.number(&mut messages);
        let (mut answers, mut words, mut refused) = (Vec::new(), None, None);
        let tell = || format!("{}, {}", protocol_name(self.protocol), what());
        call("sendto", tell, || {
            let first = self.send(&messages).and_then(|()| self.answers(&mut answers, &mut words, &mut refused));
            match first {
                Ok(()) => 0,
                Err(errno) => {
                    errno.set();
                    -1
                }
            }
        })
        .map_err(|fact| Refusal { fact, words: words.take(), at: refused.map(|number: u32| number.wrapping_sub(before + 1) as usize) })?;
        Ok(answers)
    }

    /// The list that `message` (with NLM_F_DUMP) asks for, or the one thing (without). Asking changes nothing, so it isn't told.
    ///
    /// # Errors
    /// The kernel's refusal; EINTR when the list kept changing while it was read.
    pub fn ask(&self, what: &str, message: &[u8]) -> Result<Vec<Answer>, Refusal> {
        for _ in 0..16 {
            let mut message = message.to_vec();
            self.number(&mut message);
            let mut words = None;
            let answers = self.send(&message).and_then(|()| self.list(&mut words));
            match answers {
                // NLM_F_DUMP_INTR: something changed between two parts, so that one may be missing.
                Err(Errno::EINTR) => continue,
                Ok(answers) => return Ok(answers),
                Err(errno) => {
                    let fact = SysError::new("sendto", format!("{}, {what}", protocol_name(self.protocol)), errno);
                    return Err(Refusal { fact, words, at: None });
                }
            }
        }
        Err(SysError::new("sendto", format!("{}, {what}", protocol_name(self.protocol)), Errno::EINTR).into())
    }

    /// Numbers the messages of a datagram.
    fn number(&self, messages: &mut [u8]) {
        let mut at = 0;
        while at + HEADER <= messages.len() {
            let length = u32_at(messages, at) as usize;
            self.sequence.set(self.sequence.get().wrapping_add(1));
            messages[at + 8..at + 12].copy_from_slice(&self.sequence.get().to_ne_bytes());
            at += length.max(HEADER).next_multiple_of(4);
        }
    }

    fn send(&self, bytes: &[u8]) -> nix::Result<()> {
        // What was left of an earlier exchange that failed isn't the answer to this one.
        while self.receive(libc::MSG_DONTWAIT).is_ok() {}
        if bytes.len() > 64 * 1024 {
            // A datagram must fit into the socket's buffer (socket(7): SO_SNDBUFFORCE, which needs CAP_NET_ADMIN).
            set_option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes.len() as i32 * 2);
        }
        loop {
            // SAFETY: pointer and length of one live buffer. Without an address a netlink datagram goes to the kernel.
            let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            match Errno::result(sent) {
                Err(Errno::EINTR) => continue,
                result => return result.map(drop),
            }
        }
    }

    /// What lies ready after a change. All of it is read, and the first refusal is the answer; `refused` is the number of its request.
    fn answers(&self, others: &mut Vec<Answer>, words: &mut Option<String>, refused: &mut Option<u32>) -> nix::Result<()> {
        let (mut refusal, mut heard) = (None, false);
        loop {
            let datagram = match self.receive(libc::MSG_DONTWAIT) {
                Ok(datagram) => datagram,
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno),
            };
            heard = true;
            each_message(&datagram, |kind, flags, body| {
                if kind != libc::NLMSG_ERROR as u16 {
                    others.push(Answer { kind, body: body.to_vec() });
                    return Ok(());
                }
                if let (Err(errno), None) = (acknowledgement(body)?, refusal) {
                    refusal = Some(errno);
                    // Behind the errno stands the header of our request, with its number.
                    *refused = body.get(4..4 + HEADER).map(|header| u32_at(header, 8));
                    *words = kernel_words(flags, body);
                }
                Ok(())
            })?;
        }
        match refusal {
            Some(errno) => Err(errno),
            None if heard => Ok(()),
            None => Err(Errno::EPROTO),
        }
    }

    fn list(&self, words: &mut Option<String>) -> nix::Result<Vec<Answer>> {
        let (mut answers, mut done, mut torn) = (Vec::new(), false, false);
        while !done {
            let datagram = self.receive(0)?;
            each_message(&datagram, |kind, flags, body| {
                torn |= flags & NLM_F_DUMP_INTR != 0;
                if kind == libc::NLMSG_DONE as u16 {
                    done = true;
                    return acknowledgement(body)?;
                }
                if kind == libc::NLMSG_ERROR as u16 {
                    done = true;
                    *words = kernel_words(flags, body);
                    return acknowledgement(body)?;
                }
                done |= flags & NLM_F_MULTI == 0;
                answers.push(Answer { kind, body: body.to_vec() });
                Ok(())
            })?;
        }
        if torn { Err(Errno::EINTR) } else { Ok(answers) }
    }

    /// One datagram from the kernel; what other processes send to our socket is passed over.
    fn receive(&self, flags: i32) -> nix::Result<Vec<u8>> {
        // The kernel makes the parts of a dump at most this long (netlink_dump in net/netlink/af_netlink.c).
        let mut bytes = vec![0u8; 64 * 1024];
        loop {
            // SAFETY: zeroed is a valid sockaddr_nl.
            let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
            let mut room = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            let got = unsafe {
                // SAFETY: pointer and length of live buffers; `from` is as large as `room` says.
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    bytes.as_mut_ptr().cast(),
                    bytes.len(),
                    flags | libc::MSG_TRUNC,
                    (&raw mut from).cast(),
                    &mut room,
                )
            };
            match Errno::result(got) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
                Ok(_) if from.nl_pid != 0 => continue,
                Ok(length) if length as usize > bytes.len() => return Err(Errno::EMSGSIZE),
                Ok(length) => {
                    bytes.truncate(length as usize);
                    return Ok(bytes);
                }
            }
        }
    }
}

/// Walks the messages of a datagram; one that says it is longer than the datagram is an error.
fn each_message(datagram: &[u8], mut tell: impl FnMut(u16, u16, &[u8]) -> nix::Result<()>) -> nix::Result<()> {
    let mut rest = datagram;
    while rest.len() >= HEADER {
        let length = u32_at(rest, 0) as usize;
        let body = rest.get(HEADER..length).ok_or(Errno::EBADMSG)?;
        tell(u16_at(rest, 4), u16_at(rest, 6), body)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

/// What NLMSG_ERROR and NLMSG_DONE begin with: 0 or an errno, negated.
fn acknowledgement(body: &[u8]) -> nix::Result<nix::Result<()>> {
    let code = body.get(..4).ok_or(Errno::EBADMSG)?;
    let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
    Ok(if code < 0 { Err(Errno::from_raw(code.saturating_neg())) } else { Ok(()) })
}

/// The text behind an error: after the errno and the header of our request, and the request itself unless it was left out.
fn kernel_words(flags: u16, body: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = if flags & NLM_F_CAPPED != 0 { HEADER } else { body.get(4..8).map(|bytes| u32_at(bytes, 0) as usize)? };
    let mut rest = body.get(4 + echoed.next_multiple_of(4)..)?;
    while rest.len() >= 4 {
        let length = u16_at(rest, 0) as usize;
        let value = rest.get(4..length)?;
        if u16_at(rest, 2) == NLMSGERR_ATTR_MSG {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_string());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// setsockopt(2) with a number; an option that the kernel lacks or denies is one that we do without.
fn set_option(fd: BorrowedFd, level: i32, option: i32, value: i32) {
    // SAFETY: pointer and length of one live integer.
    unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), size_of::<i32>() as _) };
}

fn protocol_name(protocol: i32) -> &'static str {
    match protocol {
        NETLINK_ROUTE => "NETLINK_ROUTE",
        NETLINK_NETFILTER => "NETLINK_NETFILTER",
        _ => "NETLINK",
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
