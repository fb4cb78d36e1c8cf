//! An ordinary user's networks: one network namespace with all of their bridges in it, and the process that keeps it, `onggi-network`.
//!
//! ```text
//! host ── onggi-network ── slirp4netns ═ tap0 ┐ the user's network namespace, in which onggi-netns sits
//!              │ the way in                   ├─ og-… (bridge) ─ veth… ═ eth0 of a container
//!         monitors, commands                  └─ og-… (bridge) ─ veth… ═ eth0 of another one
//! ```
//! Whoever calls at its socket gets a descriptor of the namespace, and it lives as long as somebody keeps such a call up: the monitors
//! of containers that are on networks, and commands for their moment. The keeper itself stays in the host's namespace, where the outside
//! is. One that is killed is replaced by whoever calls next; the containers from before keep their links to each other, but have lost the
//! outside and don't meet the new ones until they are restarted.
//!
//! See it: `ps -C onggi-network,onggi-netns`, `nsenter -t P -U -n ip link` with the PID of onggi-netns. Read: network_namespaces(7), unix(7) on SCM_RIGHTS, slirp4netns(1).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::outward::Outward;
use crate::engine::background;
use crate::engine::home::Home;
use crate::engine::members;
use crate::error::{Class, Doing, Error, Result};
use crate::sys::namespace::{self, CLONE_NEWNET};
use crate::sys::process::{self, Clone, Forked};
use crate::sys::{SysResult, fd, ids, path};

/// A call that is kept up.
pub struct Line {
    pub namespace: OwnedFd,
    _socket: OwnedFd,
}

/// What a keeper tells who began it.
#[derive(Serialize, Deserialize)]
enum Begun {
    Ready,
    Failed(Error),
}

/// Nobody calls any more: after so long the keeper looks whether it may go.
const QUIET: u16 = 20;
/// The way out is begun anew when it has ended, but not more often than this.
const AGAIN: Duration = Duration::from_secs(1);

/// Calls the keeper; None when there is none.
///
/// # Errors
/// EACCES.
pub fn call(home: &Home) -> Result<Option<Line>> {
    let _turn = turn(home)?;
    reach(home)
}

/// Calls the keeper, or begins one.
///
/// # Errors
/// EPERM or ENOSPC when no namespace can be had.
pub fn call_or_begin(home: &Home) -> Result<Line> {
    let _turn = turn(home)?;
    if let Some(line) = reach(home)? {
        return Ok(line);
    }
    begin(home)?;
    reach(home)?.ok_or_else(|| Error::new(Class::System, "reach the keeper of your networks", "it ended at once (out of memory?)"))
}

/// While it is held nobody else calls, begins a keeper, or goes as one.
fn turn(home: &Home) -> Result<File> {
    let file = turns(home)?;
    file.lock().doing(|| "wait for the keeper of your networks".into())?;
    Ok(file)
}

fn turns(home: &Home) -> Result<File> {
    let path = home.run.join("network.lock");
    File::options().create(true).truncate(false).write(true).open(&path).doing(|| format!("open {}", path.display()))
}

fn reach(home: &Home) -> Result<Option<Line>> {
    let doing = || "reach the keeper of your networks".to_string();
    let dir = path::open_root(&home.run).doing(doing)?;
    let socket = match fd::connect_messages(&in_folder(dir.as_fd())) {
        Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ECONNREFUSED) => return Ok(None),
        connected => connected.doing(doing)?,
    };
    // Killed between our call and its answer, it gives none.
    let answer = match fd::receive(socket.as_fd()) {
        Err(e) if e.errno() == Errno::ECONNRESET => return Ok(None),
        answer => answer.doing(doing)?,
    };
    Ok(answer.1.into_iter().next().map(|namespace| Line { namespace, _socket: socket }))
}

/// A socket's address has room for 107 bytes only: the folder is told by its descriptor.
fn in_folder(dir: BorrowedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join("network.sock")
}

/// Forks a keeper, and returns when it can be called. It is nobody's child but init's, for its first caller may live longer than it.
fn begin(home: &Home) -> Result<()> {
    let doing = || "start the keeper of your networks".to_string();
    let (ours, theirs) = fd::message_pair().doing(doing)?;
    match process::clone3(&Clone::default()).doing(doing)? {
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            let _ = process::wait(pidfd.as_fd());
            let (text, _) = fd::receive(ours.as_fd()).doing(doing)?;
            let silent = |_| Error::new(Class::System, doing(), "it ended without a word (out of memory?)");
            match serde_json::from_slice(&text).map_err(silent)? {
                Begun::Ready => Ok(()),
                Begun::Failed(e) => Err(e),
            }
        }
        Forked::Child => {
            if matches!(process::clone3(&Clone::default()), Ok(Forked::Child)) {
                live(home, theirs);
            }
            process::exit_now(0)
        }
    }
}

fn live(home: &Home, caller: OwnedFd) {
    let begun = background::leave_the_terminal(c"onggi-network", &[caller.as_fd()]).and_then(|()| members::register(home));
    let keeper = begun.and_then(|()| Keeper::new(home));
    let told = match &keeper {
        Ok(_) => Begun::Ready,
        Err(e) => Begun::Failed(e.clone()),
    };
    let _ = fd::send(caller.as_fd(), &serde_json::to_vec(&told).unwrap_or_default(), &[]);
    drop(caller);
    if let Ok(mut keeper) = keeper {
        keeper.serve();
    }
    members::leave(home);
}

struct Keeper<'a> {
    home: &'a Home,
    resident: Resident,
    namespace: OwnedFd,
    listener: OwnedFd,
    lines: Vec<OwnedFd>,
    outward: Option<Outward>,
    /// When the way out was begun last.
    begun: Instant,
}

impl Keeper<'_> {
    fn new(home: &Home) -> Result<Keeper<'_>> {
        let doing = || "make a network namespace for your containers".to_string();
        process::default_signals();
        let resident = Resident::begin()?;
        let namespace = File::open(resident.place()).doing(doing)?.into();
        let outward = Outward::begin(home, &resident.place())?;
        // One that was killed has left it behind.
        let _ = std::fs::remove_file(home.run.join("network.sock"));
        let dir = path::open_root(&home.run).doing(doing)?;
        process::umask(0o177);
        let listener = fd::listen_messages(&in_folder(dir.as_fd())).doing(doing)?;
        process::umask(0o022);
        fd::set_nonblocking(listener.as_fd()).doing(doing)?;
        Ok(Keeper { home, resident, namespace, listener, lines: Vec::new(), outward, begun: Instant::now() })
    }

    fn serve(&mut self) {
        loop {
            let (called, gone, cut_off) = self.wait();
            if called && let Ok(caller) = fd::accept(self.listener.as_fd()) {
                // Who doesn't hear it any more has hung up, which the next round sees.
                let _ = fd::send(caller.as_fd(), b"here", &[self.namespace.as_fd()]);
                self.lines.push(caller);
            }
            gone.into_iter().rev().for_each(|at| drop(self.lines.remove(at)));
            if cut_off {
                self.begin_outward();
            }
            if self.lines.is_empty() && self.may_go() {
                return;
            }
        }
    }

    /// Waits for something: whether somebody calls, who has hung up, and whether the way out has ended.
    fn wait(&self) -> (bool, Vec<usize>, bool) {
        let outward = self.outward.iter().map(|outward| outward.pidfd.as_fd());
        let fds: Vec<BorrowedFd> = [self.listener.as_fd()].into_iter().chain(self.lines.iter().map(|line| line.as_fd())).chain(outward).collect();
        let mut waits: Vec<PollFd> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        let timeout = if self.lines.is_empty() { PollTimeout::from(QUIET) } else { PollTimeout::NONE };
        let _ = poll(&mut waits, timeout);
        let is_ready: Vec<bool> = waits.iter().map(|wait| wait.any().unwrap_or(false)).collect();
        let gone = (0..self.lines.len()).filter(|at| is_ready[at + 1]).collect();
        (is_ready[0], gone, is_ready.get(self.lines.len() + 1).copied().unwrap_or(false))
    }

    /// The way out has ended by itself, or was killed: there is a new one, unless that ended at once, too.
    fn begin_outward(&mut self) {
        self.outward = None;
        if self.begun.elapsed() >= AGAIN {
            self.begun = Instant::now();
            self.outward = Outward::begin(self.home, &self.resident.place()).ok().flatten();
        }
    }

    /// Whether nobody is about to call. Then the socket is gone, and with us the namespace.
    fn may_go(&mut self) -> bool {
        let Ok(turns) = turns(self.home) else { return true };
        if turns.try_lock().is_err() {
            return false;
        }
        let mut calls = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut calls, PollTimeout::ZERO).is_ok_and(|count| count > 0) {
            return false;
        }
        let _ = std::fs::remove_file(self.home.run.join("network.sock"));
        self.outward = None;
        true
    }
}

/// The first process of the namespace: through its `/proc/P/ns/net` others find the way in. It has no capability, so that whoever has few
/// may look at it (ptrace(2), access mode checking), and does nothing.
struct Resident {
    pid: i32,
    pidfd: OwnedFd,
    _socket: OwnedFd,
}

impl Resident {
    /// A process in a network namespace of its own, with nothing in it but the loopback device.
    fn begin() -> Result<Resident> {
        let doing = || "make a network namespace for your containers".to_string();
        let (ours, theirs) = fd::message_pair().doing(doing)?;
        match process::clone3(&Clone { flags: CLONE_NEWNET, cgroup: None }).doing(doing)? {
            Forked::Child => {
                drop(ours);
                process::set_name(c"onggi-netns");
                let settled =
                    process::die_with_parent().and_then(|()| namespace::loopback_up()).and_then(|()| ids::capset(ids::Capabilities::default()));
                let _ = fd::send(theirs.as_fd(), &serde_json::to_vec(&settled).unwrap_or_default(), &[]);
                // Until the keeper has ended.
                let _ = process::close_all_but(3, &[theirs.as_fd()]).and_then(|()| fd::receive(theirs.as_fd()).map(drop));
                process::exit_now(0)
            }
            Forked::Parent { pid, pidfd } => {
                drop(theirs);
                let (text, _) = fd::receive(ours.as_fd()).doing(doing)?;
                let silent = |_| Error::new(Class::System, doing(), "its first process ended without a word");
                serde_json::from_slice::<SysResult<()>>(&text).map_err(silent)?.doing(doing)?;
                Ok(Resident { pid, pidfd, _socket: ours })
            }
        }
    }

    /// Where its namespace can be opened.
    fn place(&self) -> String {
        format!("/proc/{}/ns/net", self.pid)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(self.pidfd.as_fd());
    }
}
