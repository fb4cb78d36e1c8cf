//! Descriptors: pairs of sockets, passing a descriptor to another process, files that live in memory only.
//!
//! See it: `ls -l /proc/P/fd`. Read: socketpair(2), unix(7) on SCM_RIGHTS, memfd_create(2), pidfd_getfd(2).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

use super::call::{SysError, SysResult, call};

/// Two connected sockets that keep message borders (AF_UNIX, SOCK_SEQPACKET) and close at execve.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn message_pair() -> SysResult<(OwnedFd, OwnedFd)> {
    let mut pair: [RawFd; 2] = [-1; 2];
    call(
        "socketpair",
        || "AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0".into(),
        // SAFETY: room for two descriptors.
        || unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()) as _ },
    )?;
    // SAFETY: the kernel just made both; nobody else knows them.
    Ok(unsafe { (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1])) })
}

/// A pipe whose ends close at execve: (read, write).
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pipe() -> SysResult<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| SysError::new("pipe2", "O_CLOEXEC", e))
}

/// Sends one message, with a descriptor when there is one (SCM_RIGHTS: the receiver gets its own copy).
///
/// # Errors
/// EPIPE when nobody is at the other end.
pub fn send(socket: BorrowedFd, message: &[u8], fds: &[BorrowedFd]) -> SysResult<()> {
    let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(message)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(SysError::new("sendmsg", format!("fd {}, {} bytes, {} fds", socket.as_raw_fd(), message.len(), raw.len()), e)),
        }
    }
}

/// Receives one message of at most 64 KiB with its descriptors, close-on-exec; an empty message means that the other end is gone.
///
/// # Errors
/// ECONNRESET, EBADF.
pub fn receive(socket: BorrowedFd) -> SysResult<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0u8; 65536];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let (length, fds) = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(message) => {
                let mut fds = Vec::new();
                for control in message.cmsgs().map_err(|e| SysError::new("recvmsg", "control", e))? {
                    if let ControlMessageOwned::ScmRights(raw) = control {
                        // SAFETY: the kernel put these fresh descriptors into this process for this message.
                        fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                break (message.bytes, fds);
            }
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(SysError::new("recvmsg", format!("fd {}", socket.as_raw_fd()), e)),
        }
    };
    bytes.truncate(length);
    Ok((bytes, fds))
}

/// Connects to the unix socket at `path` (unix(7)).
///
/// # Errors
/// ENOENT, ECONNREFUSED, ENAMETOOLONG.
pub fn connect_unix(path: &Path) -> SysResult<OwnedFd> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(stream) => Ok(stream.into()),
        Err(e) => Err(SysError::new("connect", path.display().to_string(), e.raw_os_error().map_or(Errno::ENAMETOOLONG, Errno::from_raw))),
    }
}

/// A unix socket at `path` that keeps message borders and takes calls (SOCK_SEQPACKET, listen(2)).
///
/// # Errors
/// EADDRINUSE, EACCES, ENAMETOOLONG.
pub fn listen_messages(path: &Path) -> SysResult<OwnedFd> {
    use nix::sys::socket::{Backlog, bind, listen};
    let (socket, address) = message_socket(path)?;
    let story = |e| SysError::new("bind", path.display().to_string(), e);
    bind(socket.as_raw_fd(), &address).map_err(story)?;
    listen(&socket, Backlog::MAXCONN).map_err(|e| SysError::new("listen", path.display().to_string(), e))?;
    Ok(socket)
}

/// Calls the one that [`listen_messages`] made.
///
/// # Errors
/// ENOENT, ECONNREFUSED when nobody listens any more.
pub fn connect_messages(path: &Path) -> SysResult<OwnedFd> {
    let (socket, address) = message_socket(path)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &address).map_err(|e| SysError::new("connect", path.display().to_string(), e))?;
    Ok(socket)
}

fn message_socket(path: &Path) -> SysResult<(OwnedFd, UnixAddr)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let address = UnixAddr::new(path).map_err(|e| SysError::new("bind", path.display().to_string(), e))?;
    let made = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None);
    Ok((made.map_err(|e| SysError::new("socket", "AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC", e))?, address))
}

/// The next call at a listening socket.
///
/// # Errors
/// EAGAIN, ECONNABORTED.
pub fn accept(listener: BorrowedFd) -> SysResult<OwnedFd> {
    use nix::sys::socket::{SockFlag, accept4};
    let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).map_err(|e| SysError::new("accept4", "SOCK_CLOEXEC", e))?;
    // SAFETY: the kernel just made it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Reads and writes that would wait answer EAGAIN instead (O_NONBLOCK), for all who share the open file.
///
/// # Errors
/// EBADF.
pub fn set_nonblocking(fd: BorrowedFd) -> SysResult<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let now = fcntl(fd, FcntlArg::F_GETFL).map_err(|e| SysError::new("fcntl", "F_GETFL", e))?;
    let flags = OFlag::from_bits_retain(now) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map_err(|e| SysError::new("fcntl", "F_SETFL, O_NONBLOCK", e)).map(drop)
}

/// dup2(2) without close-on-exec: `to` becomes another name of `from`. When both are the same, only close-on-exec is taken off.
///
/// # Errors
/// EBADF.
pub fn dup_onto(from: BorrowedFd, to: RawFd) -> SysResult<()> {
    if from.as_raw_fd() == to {
        return set_cloexec(from, false);
    }
    // SAFETY: integers only; the callers pass 0, 1, 2 or a number that they reserved.
    call("dup2", || format!("{}, {to}", from.as_raw_fd()), || unsafe { libc::dup2(from.as_raw_fd(), to) as _ })?;
    Ok(())
}

/// A copy of a descriptor that closes at execve, numbered 3 or above.
///
/// # Errors
/// EMFILE, EBADF.
pub fn duplicate(fd: BorrowedFd) -> SysResult<OwnedFd> {
    // SAFETY: integers only.
    let raw = || unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) as _ };
    Ok(super::mount::owned(call("fcntl", || format!("{}, F_DUPFD_CLOEXEC, 3", fd.as_raw_fd()), raw)?))
}

/// Whether the descriptor closes at execve (fcntl F_SETFD).
///
/// # Errors
/// EBADF.
pub fn set_cloexec(fd: BorrowedFd, on: bool) -> SysResult<()> {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: integers only.
    call("fcntl", || format!("{}, F_SETFD, {flags}", fd.as_raw_fd()), || unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) as _ })?;
    Ok(())
}

/// Takes over a descriptor that this process was started with (`--preserve-fds`, `LISTEN_FDS`): None when it isn't open.
pub fn inherited(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD only asks; afterwards the number is known to be open, and the caller says that it is this process' to own.
    unsafe { (libc::fcntl(fd, libc::F_GETFD) >= 0).then(|| OwnedFd::from_raw_fd(fd)) }
}

/// Borrows a standard descriptor: 0, 1, 2.
pub fn standard(number: RawFd) -> BorrowedFd<'static> {
    assert!((0..=2).contains(&number));
    // SAFETY: the standard library keeps 0, 1 and 2 open for the whole life of the process.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// A file in memory that holds `content` and can never change again (memfd_create(2) with all seals).
///
/// # Errors
/// ENOMEM, EMFILE.
pub fn sealed_file(name: &str, content: &[u8]) -> SysResult<OwnedFd> {
    use std::io::Write;
    let name_c = super::c_string(name)?;
    // SAFETY: a valid C string.
    let raw = || unsafe { libc::memfd_create(name_c.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) as _ };
    let fd = super::mount::owned(call("memfd_create", || format!("{name:?}, MFD_CLOEXEC|MFD_ALLOW_SEALING"), raw)?);
    let mut file = std::fs::File::from(fd);
    file.write_all(content).map_err(|e| SysError::new("write", name.to_string(), e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: integers only.
    call("fcntl", || format!("{name}, F_ADD_SEALS"), || unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) as _ })?;
    Ok(file.into())
}

/// A copy of the descriptor `number` of another process (pidfd_getfd(2), Linux 5.6).
///
/// # Errors
/// EPERM without the right to ptrace it, EBADF.
pub fn take_from(process: BorrowedFd, number: RawFd) -> SysResult<OwnedFd> {
    // SAFETY: integers only.
    let raw = || unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    Ok(super::mount::owned(call("pidfd_getfd", || format!("pidfd, {number}, 0"), raw)?))
}
