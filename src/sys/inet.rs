//! Sockets of the Internet protocols: bound and connected ones, datagrams with the address at which they arrived, and splice(2).
//!
//! See it: `ss -tulpn`. Read: ip(7), ipv6(7), tcp(7), udp(7), splice(2).

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SpliceFFlags};
use nix::sys::socket::{self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, sockopt};

use super::call::{SysError, SysResult};

/// A socket bound to `address` that listens for connections (SOCK_STREAM), or takes datagrams and tells at which of our addresses
/// (SOCK_DGRAM). Nonblocking, close-on-exec; an IPv6 one leaves IPv4 alone (IPV6_V6ONLY).
///
/// # Errors
/// EADDRINUSE, EADDRNOTAVAIL, EACCES for a port of the privileged, EAFNOSUPPORT without IPv6.
pub fn bound(address: SocketAddr, kind: SockType) -> SysResult<OwnedFd> {
    let made = open(address, kind)?;
    let option = |name: &'static str| move |e| SysError::new("setsockopt", name, e);
    if address.is_ipv6() {
        socket::setsockopt(&made, sockopt::Ipv6V6Only, &true).map_err(option("IPV6_V6ONLY"))?;
    }
    if kind == SockType::Stream {
        // socket(7): what is left of connections that were closed (TIME_WAIT) doesn't keep the port.
        socket::setsockopt(&made, sockopt::ReuseAddr, &true).map_err(option("SO_REUSEADDR"))?;
    } else if address.is_ipv6() {
        socket::setsockopt(&made, sockopt::Ipv6RecvPacketInfo, &true).map_err(option("IPV6_RECVPKTINFO"))?;
    } else {
        socket::setsockopt(&made, sockopt::Ipv4PacketInfo, &true).map_err(option("IP_PKTINFO"))?;
    }
    socket::bind(made.as_raw_fd(), &SockaddrStorage::from(address)).map_err(|e| SysError::new("bind", address.to_string(), e))?;
    if kind == SockType::Stream {
        socket::listen(&made, socket::Backlog::MAXCONN).map_err(|e| SysError::new("listen", address.to_string(), e))?;
    }
    Ok(made)
}

/// A datagram socket at this port of all our addresses, which other programs may have, too (SO_REUSEADDR): as all who speak multicast DNS
/// do. It tells at which of our addresses a datagram arrived.
///
/// # Errors
/// EADDRINUSE when another one doesn't share it.
pub fn shared(port: u16) -> SysResult<OwnedFd> {
    let address = SocketAddr::from(([0, 0, 0, 0], port));
    let made = open(address, SockType::Datagram)?;
    let option = |name: &'static str| move |e| SysError::new("setsockopt", name, e);
    socket::setsockopt(&made, sockopt::ReuseAddr, &true).map_err(option("SO_REUSEADDR"))?;
    socket::setsockopt(&made, sockopt::Ipv4PacketInfo, &true).map_err(option("IP_PKTINFO"))?;
    socket::bind(made.as_raw_fd(), &SockaddrStorage::from(address)).map_err(|e| SysError::new("bind", address.to_string(), e))?;
    Ok(made)
}

/// A nonblocking socket on its way to `address`: it is there, or not, when it can be written to ([`failure`]).
///
/// # Errors
/// ECONNREFUSED, ENETUNREACH, EMFILE.
pub fn connecting(address: SocketAddr, kind: SockType) -> SysResult<OwnedFd> {
    let made = open(address, kind)?;
    match socket::connect(made.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(made),
        Err(e) => Err(SysError::new("connect", address.to_string(), e)),
    }
}

fn open(address: SocketAddr, kind: SockType) -> SysResult<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let made = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None);
    made.map_err(|e| SysError::new("socket", format!("{family:?}, {kind:?}"), e))
}

/// What became of a connection that was [`connecting`] (SO_ERROR): None when it is there.
pub fn failure(socket: BorrowedFd) -> Option<Errno> {
    match socket::getsockopt(&socket, sockopt::SocketError) {
        Ok(0) => None,
        Ok(number) => Some(Errno::from_raw(number)),
        Err(e) => Some(e),
    }
}

/// Small writes go out at once (TCP_NODELAY), and a peer that has vanished without a word is found out (SO_KEEPALIVE).
pub fn make_lively(stream: BorrowedFd) {
    let _ = socket::setsockopt(&stream, sockopt::TcpNoDelay, &true);
    let _ = socket::setsockopt(&stream, sockopt::KeepAlive, &true);
}

/// The close of this stream will be a reset, and not an end (socket(7): SO_LINGER of zero).
pub fn reset_at_close(stream: BorrowedFd) {
    let _ = socket::setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}

/// There will be no more from us (shutdown(2), SHUT_WR).
///
/// # Errors
/// ENOTCONN when it was reset.
pub fn say_all(stream: BorrowedFd) -> SysResult<()> {
    socket::shutdown(stream.as_raw_fd(), socket::Shutdown::Write).map_err(|e| SysError::new("shutdown", "SHUT_WR", e))
}

/// The address that a socket was bound to.
///
/// # Errors
/// EBADF; EAFNOSUPPORT for one of another family.
pub fn own_address(socket: BorrowedFd) -> SysResult<SocketAddr> {
    let told = socket::getsockname::<SockaddrStorage>(socket.as_raw_fd()).map_err(|e| SysError::new("getsockname", "", e))?;
    internet(&told).ok_or_else(|| SysError::new("getsockname", "", Errno::EAFNOSUPPORT))
}

fn internet(told: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = told.as_sockaddr_in().map(|address| SocketAddr::V4(SocketAddrV4::from(*address)));
    v4.or_else(|| told.as_sockaddr_in6().map(|address| SocketAddr::V6(SocketAddrV6::from(*address))))
}

/// At which of our addresses a datagram arrived, and for IPv6 on which link: an answer must come from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Here {
    pub address: IpAddr,
    pub link: u32,
}

/// The next datagram: how long it is, who sent it, and where it arrived.
///
/// # Errors
/// EAGAIN when there is none.
pub fn receive_from(socket: BorrowedFd, bytes: &mut [u8]) -> SysResult<(usize, SocketAddr, Option<Here>)> {
    let fault = |e| SysError::new("recvmsg", format!("fd {}", socket.as_raw_fd()), e);
    let mut space = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let mut slices = [IoSliceMut::new(bytes)];
    let message = socket::recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).map_err(fault)?;
    let from = message.address.as_ref().and_then(internet).ok_or_else(|| fault(Errno::EAFNOSUPPORT))?;
    let here = message.cmsgs().map_err(fault)?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Here { address: info.ipi_spec_dst.s_addr.to_ne_bytes().into(), link: 0 }),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Here { address: info.ipi6_addr.s6_addr.into(), link: info.ipi6_ifindex }),
        _ => None,
    });
    Ok((message.bytes, from, here))
}

/// Sends a datagram from the one of our addresses at which the other one spoke to us.
///
/// # Errors
/// EAGAIN, ENOBUFS, EPERM from a firewall.
pub fn send_from(socket: BorrowedFd, bytes: &[u8], to: SocketAddr, here: Option<Here>) -> SysResult<()> {
    match here {
        Some(Here { address: IpAddr::V4(address), .. }) => {
            let (none, source) = (libc::in_addr { s_addr: 0 }, libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) });
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: none };
            send_message(socket, bytes, to, &[ControlMessage::Ipv4PacketInfo(&info)])
        }
        Some(Here { address: IpAddr::V6(address), link }) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: address.octets() }, ipi6_ifindex: link };
            send_message(socket, bytes, to, &[ControlMessage::Ipv6PacketInfo(&info)])
        }
        None => send_message(socket, bytes, to, &[]),
    }
}

fn send_message(socket: BorrowedFd, bytes: &[u8], to: SocketAddr, control: &[ControlMessage]) -> SysResult<()> {
    let sent = socket::sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, Some(&SockaddrStorage::from(to)));
    sent.map(drop).map_err(|e| SysError::new("sendmsg", format!("{to}, {} bytes", bytes.len()), e))
}

/// Moves bytes between a pipe and a socket without copying them through this process (splice(2)): how many; 0 at the end.
///
/// # Errors
/// EAGAIN when there are none, or no room.
pub fn splice(from: BorrowedFd, to: BorrowedFd, at_most: usize) -> Result<usize, Errno> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    nix::fcntl::splice(from, None, to, None, at_most, flags)
}

/// Lets a pipe hold `bytes` (F_SETPIPE_SZ), if this user may have as much.
pub fn widen(pipe: BorrowedFd, bytes: i32) {
    let _ = nix::fcntl::fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes));
}
