//! Namespaces: leaving, entering, looking at them.
//!
//! See it: `ls -l /proc/self/ns`, `lsns`. Read: namespaces(7), unshare(2), setns(2), ioctl_nsfs(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::call::{SysError, SysResult, call};
use super::flag_names;

pub const CLONE_NEWTIME: u64 = 0x80;
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
pub const CLONE_NEWNS: u64 = libc::CLONE_NEWNS as u64;
pub const CLONE_NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
pub const CLONE_NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
pub const CLONE_NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
pub const CLONE_NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
pub const CLONE_NEWPID: u64 = libc::CLONE_NEWPID as u64;
pub const CLONE_NEWNET: u64 = libc::CLONE_NEWNET as u64;

/// The flags of clone3, unshare and setns by name.
pub const CLONE_NAMES: &[(u64, &str)] = &[
    (CLONE_NEWUSER, "CLONE_NEWUSER"),
    (CLONE_NEWNS, "CLONE_NEWNS"),
    (CLONE_NEWPID, "CLONE_NEWPID"),
    (CLONE_NEWNET, "CLONE_NEWNET"),
    (CLONE_NEWUTS, "CLONE_NEWUTS"),
    (CLONE_NEWIPC, "CLONE_NEWIPC"),
    (CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
    (CLONE_NEWTIME, "CLONE_NEWTIME"),
    (libc::CLONE_PARENT as u64, "CLONE_PARENT"),
    (libc::CLONE_PIDFD as u64, "CLONE_PIDFD"),
    (CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"),
];

/// unshare(2): this process gets new namespaces of these kinds (PID and time: its future children do).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN (CLONE_NEWUSER needs none, unless the host restricts it), ENOSPC, EUSERS.
pub fn unshare(flags: u64) -> SysResult<()> {
    // SAFETY: integers only.
    call("unshare", || flag_names(flags, CLONE_NAMES), || unsafe { libc::unshare(flags as i32) as _ })?;
    Ok(())
}

/// setns(2): enters the namespace behind `fd`, or with a pidfd all of that process' namespaces that `flags` names (Linux 5.8).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over the target's owner, EINVAL for the wrong kind, ESRCH when the process is gone.
pub fn setns(fd: BorrowedFd, flags: u64) -> SysResult<()> {
    call(
        "setns",
        || format!("{}, {}", super::mount::fd_name(fd.as_raw_fd()), flag_names(flags, CLONE_NAMES)),
        // SAFETY: integers only.
        || unsafe { libc::setns(fd.as_raw_fd(), flags as i32) as _ },
    )?;
    Ok(())
}

/// Does `work` in the network namespace behind `netns`; the calling thread is in its own again afterwards.
///
/// # Errors
/// Those of setns(2). When the way back fails the thread stays in the other namespace, and the error says so.
pub fn within_network<T>(netns: BorrowedFd, work: impl FnOnce() -> T) -> SysResult<T> {
    let path = "/proc/thread-self/ns/net";
    let own = std::fs::File::open(path).map_err(|e| SysError::new("open", path, e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))?;
    setns(netns, CLONE_NEWNET)?;
    let done = work();
    setns(own.as_fd(), CLONE_NEWNET)?;
    Ok(done)
}

/// The kind of the namespace behind `fd`, as a `CLONE_NEW*` flag (ioctl NS_GET_NSTYPE).
///
/// # Errors
/// ENOTTY when `fd` is no namespace.
pub fn kind(fd: BorrowedFd) -> SysResult<u64> {
    const NS_GET_NSTYPE: u64 = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument.
    call(
        "ioctl",
        || format!("{}, NS_GET_NSTYPE", super::mount::fd_name(fd.as_raw_fd())),
        || unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) as _ },
    )
    .map(|kind| kind as u64)
}

/// sethostname(2), in the caller's UTS namespace.
///
/// # Errors
/// EINVAL over 64 bytes, EPERM.
pub fn sethostname(name: &str) -> SysResult<()> {
    // SAFETY: pointer and length of one live string.
    call("sethostname", || format!("{name:?}, {}", name.len()), || unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) as _ })?;
    Ok(())
}

/// setdomainname(2), in the caller's UTS namespace.
///
/// # Errors
/// EINVAL over 64 bytes, EPERM.
pub fn setdomainname(name: &str) -> SysResult<()> {
    // SAFETY: pointer and length of one live string.
    call("setdomainname", || format!("{name:?}, {}", name.len()), || unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) as _ })?;
    Ok(())
}

/// Switches the loopback device of the caller's network namespace on (netdevice(7): SIOCSIFFLAGS with IFF_UP).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the namespace.
pub fn loopback_up() -> SysResult<()> {
    // SAFETY: integers only.
    let raw = || unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) as _ };
    let socket = super::mount::owned(call("socket", || "AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, 0".into(), raw)?);
    // SAFETY: zeroed is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    call(
        "ioctl",
        || "socket, SIOCSIFFLAGS, {ifr_name=lo, ifr_flags=IFF_UP|IFF_RUNNING}".into(),
        // SAFETY: SIOCSIFFLAGS reads one live ifreq.
        || unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) as _ },
    )?;
    Ok(())
}
