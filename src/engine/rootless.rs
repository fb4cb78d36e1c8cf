//! Without root's rights: this whole program moves into a user namespace of its own, as its root, and goes on as if nothing were.
//!
//! Inside, it may mount, make namespaces and give files to users, and outside all of that belongs to one ordinary user and the range of
//! ids that `/etc/subuid` grants them. Whoever made the range map must stay outside: a helper process is cloned before the move, and
//! calls newuidmap for the one that moved.
//!
//! See it: `cat /proc/P/uid_map`. Read: user_namespaces(7), newuidmap(1), subuid(5).

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::unistd::{getegid, geteuid};

use super::home::Home;
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::spec::IdMapping;
use crate::runtime::state::ProcessId;
use crate::runtime::sync::{self, Message};
use crate::runtime::{own_program, users};
use crate::sys::namespace::{self, CLONE_NEWNS, CLONE_NEWUSER};
use crate::sys::process::{self, Clone, Forked};
use crate::sys::{Reason, because};

static MOVE: Reason = Reason {
    id: "rootless.move",
    en: "an ordinary user becomes root of a user namespace: root over what they own, nothing more",
    ko: "보통 사용자가 사용자 네임스페이스의 root가 된다: 자기 것에 대해서만 root다",
    see: "cat /proc/{P}/uid_map",
};

/// Moves this process into a user namespace, unless it is root already, and starts it anew there. To be called first of all.
///
/// # Errors
/// Denied where the host forbids user namespaces, with where to look.
pub fn enter() -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    if let Some(namespace) = of_running() {
        because(&MOVE);
        namespace::setns(namespace.as_fd(), CLONE_NEWUSER).doing(|| "enter the user namespace of the containers that run".into())?;
        namespace::unshare(CLONE_NEWNS).doing(|| "make a mount namespace".into())?;
        return begin_anew();
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let (uids, gids) = (mappings("/etc/subuid", uid), mappings("/etc/subgid", gid));
    because(&MOVE);
    let map_writer = MapWriter::begin(std::process::id() as i32, uids, gids)?;
    let forbidden = |e: Error| e.hint("this host forbids user namespaces to ordinary users; `onggi doctor` says which setting and how to change it");
    namespace::unshare(CLONE_NEWUSER | CLONE_NEWNS).doing(|| "make a user namespace".into()).map_err(forbidden)?;
    map_writer.finish()?;
    begin_anew()
}

fn begin_anew() -> Result<()> {
    users::become_root()?;
    // The new self runs from a read-only mount, which we may make now: see own_program.
    let copy = own_program::read_only().doing(|| "start from a read-only copy of this program".into())?;
    own_program::restart(&copy)
}

/// The user namespace of this user's containers, if one runs: who is in another has no rights over them.
fn of_running() -> Option<File> {
    let marks = std::fs::read_dir(Home::find().ok()?.run.join("running")).ok()?;
    marks.flatten().find_map(|mark| {
        let monitor: ProcessId = serde_json::from_slice(&std::fs::read(mark.path()).ok()?).ok()?;
        let _handle = monitor.open().ok()??;
        let namespace = File::open(format!("/proc/{}/ns/user", monitor.pid)).ok()?;
        // Asked again behind the open: the number may have become a stranger's in between. And root's own is not to be entered.
        let is_ours = |file: &File| std::fs::metadata("/proc/self/ns/user").is_ok_and(|own| file.metadata().is_ok_and(|it| it.ino() != own.ino()));
        (monitor.lives() && is_ours(&namespace)).then_some(namespace)
    })
}

/// One's own id as root, and behind it the range of the file, when there is one that newuidmap can grant.
fn mappings(file: &str, own: u32) -> Vec<IdMapping> {
    let mut mappings = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    let program = if file.ends_with("subuid") { "newuidmap" } else { "newgidmap" };
    if let Some((first, count)) = users::granted_range(file).filter(|_| crate::runtime::program::on_path(program)) {
        mappings.push(IdMapping { container_id: 1, host_id: first, size: count });
    }
    mappings
}

/// The process that stays outside to write the maps.
struct MapWriter {
    pair: sync::Pair,
    pidfd: OwnedFd,
}

impl MapWriter {
    fn begin(moved: i32, uids: Vec<IdMapping>, gids: Vec<IdMapping>) -> Result<MapWriter> {
        let mut pair = sync::pair()?;
        match process::clone3(&Clone::default()).doing(|| "clone a process that writes the maps".into())? {
            Forked::Child => {
                let Ok(socket) = pair.theirs() else { process::exit_now(1) };
                if socket.wait_for_go().is_err() {
                    process::exit_now(1);
                }
                let answer = match users::write_mappings(moved, &uids, &gids) {
                    Ok(()) => Message::Ready,
                    Err(e) => Message::Failed(Box::new(e)),
                };
                let _ = socket.tell(&answer);
                process::exit_now(0)
            }
            Forked::Parent { pidfd, .. } => Ok(MapWriter { pair, pidfd }),
        }
    }

    fn finish(mut self) -> Result<()> {
        let socket = self.pair.ours()?;
        socket.tell(&Message::Go)?;
        let answer = socket.hear()?;
        let _ = process::wait(self.pidfd.as_fd());
        match answer {
            Some(Message::Ready) => Ok(()),
            Some(Message::Failed(e)) => Err(*e),
            _ => Err(Error::new(Class::System, "write the maps of the user namespace", "the process for it ended without a word")),
        }
    }
}
