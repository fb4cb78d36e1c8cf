//! Who has a port: the kernel's list of sockets names each by its inode, and the process that has it open shows the same number.
//!
//! See it: `cat /proc/net/tcp`, `ls -l /proc/P/fd`. Read: proc_pid_net(5), proc_pid_fd(5).

use std::net::{IpAddr, SocketAddr};

use super::Protocol;

/// Where the list has a socket's state, and what it has there for one that listens (TCP_LISTEN in the kernel's tcp_states.h).
const LISTENS: &str = "0A";

/// One sentence about who has the port at `at`, for a hint.
pub fn told(at: SocketAddr, protocol: Protocol) -> String {
    let look = format!("`ss -{}lnp 'sport = :{}'`", if protocol == Protocol::Tcp { 't' } else { 'u' }, at.port());
    match inodes(at, protocol).iter().find_map(|inode| owner(*inode)) {
        Some((pid, name)) if name.starts_with("onggi") => {
            format!("another container has it, through {name} (PID {pid}): `onggi ps` shows which; or publish another port")
        }
        Some((pid, name)) => format!("{name} (PID {pid}) has it: end that, or publish another port"),
        None => format!("another program has it, whose name is for root to see: {look}"),
    }
}

/// The sockets that stand in the way of a bind to `at`.
fn inodes(at: SocketAddr, protocol: Protocol) -> Vec<u64> {
    // Of this thread: one network namespace is not another's.
    let read = |file: String| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let lists = [read(protocol.to_string()), read(format!("{protocol}6"))];
    let mut found: Vec<_> = lists.iter().flat_map(|list| list.lines()).filter_map(|line| in_the_way(line, at)).collect();
    // Who listens comes before a connection that has this port as its own end, and the same address before one that means all.
    found.sort_by_key(|found| (!found.listens, !found.same));
    found.into_iter().map(|found| found.inode).collect()
}

struct Found {
    listens: bool,
    same: bool,
    inode: u64,
}

/// A line `sl local_address rem_address st … inode …`, when it is about the port.
fn in_the_way(line: &str, at: SocketAddr) -> Option<Found> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    let address = address_of(address)?;
    let meets = address == at.ip() || address.is_unspecified() || at.ip().is_unspecified();
    let found = Found { listens: *words.get(3)? == LISTENS, same: address == at.ip(), inode: words.get(9)?.parse().ok()? };
    (u16::from_str_radix(port, 16).ok()? == at.port() && meets).then_some(found)
}

/// An address in that list: 32-bit words, each as the machine reads it.
fn address_of(digits: &str) -> Option<IpAddr> {
    let words = (0..digits.len() / 8).map(|at| u32::from_str_radix(digits.get(at * 8..at * 8 + 8)?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// The PID and the name of a process that has the socket open.
fn owner(inode: u64) -> Option<(i32, String)> {
    let link = format!("socket:[{inode}]");
    let mut owners: Vec<(i32, String)> = Vec::new();
    for pid in std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        // A process that ended meanwhile, or another user's, has no list for us.
        let mut fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        if fds.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link.as_str())) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            owners.push((pid, name.trim_end().to_string()));
        }
    }
    // Of a family that shares it, the eldest has made it.
    owners.into_iter().min_by_key(|(pid, _)| crate::sys::process::start_time(*pid).unwrap_or(u64::MAX))
}
