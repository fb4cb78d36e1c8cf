//! What a monitor and a command say to each other: JSON messages over a SEQPACKET socket, which keeps their borders and carries
//! descriptors (SCM_RIGHTS).
//!
//! Who attaches is given pipes, and for a terminal its master: the bytes then flow without a word of protocol.
//!
//! See it: `ss -xlp | grep onggi-monitor`, `ls -l /run/onggi/monitors`. Read: unix(7), cmsg(3).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::engine::home::Home;
use crate::engine::record::Port;
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::state::ProcessId;
use crate::sys::{fd, path};

/// What a command asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    Attach(Attach),
    /// Read the record again: somebody stopped the container, or changed its restart policy.
    Wake,
    /// Its networks have changed: read who is on them again. It is answered.
    Networks,
    /// The window is closed in which the container was begun: its terminal goes with it.
    HangUp,
}

/// Which streams, and for a terminal its size.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Attach {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
}

/// What the monitor tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Tell {
    Warning(String),
    /// The descriptors come with it, in this order: those that are true.
    Attached {
        stdin: bool,
        stdout: bool,
        stderr: bool,
        /// The master of its terminal, for changes of its size; what is typed goes there too.
        terminal: bool,
    },
    /// That was done.
    Done,
    /// The networks have changed, and these are the ports that are published now.
    Ports(Vec<Port>),
    Started {
        init: ProcessId,
    },
    /// It could not be started, or this could not be done.
    Failed(Box<Error>),
    Exited {
        code: i32,
    },
}

/// Sends a message.
///
/// # Errors
/// EPIPE when nobody is there any more.
pub fn send(socket: BorrowedFd, message: &impl Serialize, fds: &[BorrowedFd]) -> Result<()> {
    let text = serde_json::to_vec(message).unwrap_or_default();
    fd::send(socket, &text, fds).doing(|| "speak with the container's monitor".into())
}

/// Receives one; None when the other side is gone.
///
/// # Errors
/// Invalid for what is none of ours.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let doing = || "hear the container's monitor".to_string();
    let (bytes, fds) = match fd::receive(socket) {
        Err(e) if e.errno() == nix::errno::Errno::ECONNRESET => return Ok(None),
        received => received.doing(doing)?,
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = serde_json::from_slice(&bytes).map_err(|e| Error::invalid(doing(), e.to_string()))?;
    Ok(Some((message, fds)))
}

/// The socket on which a container's monitor hears. Its name is told by a descriptor: a socket's address has room for 107 bytes only.
///
/// # Errors
/// ENOSPC, EACCES.
pub fn listen(home: &Home, id: &str) -> Result<OwnedFd> {
    let doing = || "make the monitor's socket".to_string();
    let dir = path::open_root(&home.monitors()).doing(doing)?;
    let _ = std::fs::remove_file(home.monitors().join(id));
    let socket = fd::listen_messages(&in_folder(dir.as_fd(), id)).doing(doing)?;
    std::fs::set_permissions(home.monitors().join(id), std::fs::Permissions::from_mode(0o600)).doing(doing)?;
    Ok(socket)
}

/// Calls a container's monitor.
///
/// # Errors
/// Conflict when there is none.
pub fn call(home: &Home, id: &str) -> Result<OwnedFd> {
    let dir = path::open_root(&home.monitors()).doing(|| "find the container's monitor".into())?;
    fd::connect_messages(&in_folder(dir.as_fd(), id)).map_err(|e| {
        let why = format!("container {} is not running", crate::id::short(id));
        match e.errno() {
            nix::errno::Errno::ENOENT | nix::errno::Errno::ECONNREFUSED => Error::new(Class::Conflict, "reach the container's monitor", why),
            _ => Error::sys("reach the container's monitor", e),
        }
    })
}

/// Tells a container's monitor that its networks have changed, and waits until it answers for the new names; answers the ports that it has
/// published now. None when it has just ended.
///
/// # Errors
/// Conflict for a port that is taken.
pub fn wake_for_networks(home: &Home, id: &str) -> Result<Option<Vec<Port>>> {
    let Ok(socket) = call(home, id) else { return Ok(None) };
    send(socket.as_fd(), &Ask::Networks, &[])?;
    let mut one = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    // A monitor that stands still must not keep us.
    if !poll(&mut one, PollTimeout::from(2000u16)).is_ok_and(|ready| ready > 0) {
        return Ok(None);
    }
    match receive(socket.as_fd())? {
        Some((Tell::Ports(ports), _)) => Ok(Some(ports)),
        Some((Tell::Failed(e), _)) => Err(*e),
        _ => Ok(None),
    }
}

fn in_folder(dir: BorrowedFd, id: &str) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(id)
}
