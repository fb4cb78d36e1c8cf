//! Without root's rights: this whole program moves into a user namespace, as its root, and goes on as if nothing were.
//!
//! Inside, it may mount, make namespaces and give files to users, and outside all of that belongs to one ordinary user and the range of
//! ids that `/etc/subuid` grants them. Where something of this user's engine lives already, its namespace is joined, which the kernel
//! grants to whoever made it; else there is a new one. Whoever made the range map must stay outside: a process is cloned before the
//! move, and calls newuidmap for the one that moved.
//!
//! See it: `cat /proc/P/uid_map`, `lsns -t user`. Read: user_namespaces(7), setns(2), newuidmap(1), subuid(5).

use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{getegid, geteuid};

use super::home::Home;
use super::members::{self, Members};
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
    ko: "일반 사용자가 사용자 네임스페이스의 root가 된다: 자기 것에 대해서만 root다",
    see: "cat /proc/{P}/uid_map",
};
static JOIN: Reason = Reason {
    id: "rootless.join",
    en: "this user's containers live in a user namespace: from inside they can be signalled and entered",
    ko: "이 사용자의 컨테이너가 이미 사용자 네임스페이스에 있다: 그 안에서 시그널을 보내고 들어갈 수 있다",
    see: "readlink /proc/{P}/ns/user",
};

/// Moves this process into the user namespace of this user's engine, unless it is root already, and starts it anew there. To be called
/// first of all. `warning` is told when that namespace has other ids than this user would get now.
///
/// # Errors
/// Denied where the host forbids user namespaces, with where to look.
pub fn enter(warning: &mut dyn FnMut(&str)) -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let home = Home::open()?;
    let (uids, gids) = (mappings("/etc/subuid", geteuid().as_raw()), mappings("/etc/subgid", getegid().as_raw()));
    let members = members::lock(&home)?;
    match join(&members)? {
        Some(member) => {
            if map_of(&member, "uid_map") != numbers(&uids) || map_of(&member, "gid_map") != numbers(&gids) {
                warning("the containers that run have other user and group ids than you would get now; that changes when all have ended");
            }
            namespace::unshare(CLONE_NEWNS).doing(|| "make a mount namespace".into())?;
        }
        None => make(uids, gids)?,
    }
    users::become_root()?;
    // Who changes its user is hidden from its own kin by the kernel, until the next execve; but from now on we may be asked the way in.
    process::set_dumpable(true).doing(|| "show up for the other commands".into())?;
    members.add_us()?;
    drop(members);
    // The new self runs from a read-only mount, which we may make now: see own_program.
    let copy = own_program::read_only().doing(|| "start from a read-only copy of this program".into())?;
    own_program::restart(&copy)
}

/// To be called last of all.
pub fn leave() {
    if geteuid().is_root()
        && users::in_user_namespace()
        && let Ok(home) = Home::find()
    {
        members::leave(&home);
    }
}

/// Joins the user namespace of the first member that leads us in; None when nobody lives there.
fn join(members: &Members) -> Result<Option<ProcessId>> {
    let doing = || "join the user namespace of your other containers".to_string();
    let mut refused = None;
    for member in members.living() {
        let Some(handle) = member.open().doing(doing)? else { continue };
        // A namespace in which we are root, or another process has this PID and, since a restart of the machine, this start time.
        if !matches!(map_of(&member, "uid_map").first(), Some([0, outer, 1]) if *outer == geteuid().as_raw()) {
            members.remove(&member);
            continue;
        }
        because(&JOIN);
        match namespace::setns(handle.as_fd(), CLONE_NEWUSER) {
            Ok(()) => return Ok(Some(member)),
            // It has just ended.
            Err(_) if !member.lives() => {}
            Err(e) => refused = Some((member, e)),
        }
    }
    match refused {
        None => Ok(None),
        Some((member, e)) => Err(Error::sys(doing(), e).hint(format!("process {} lives there: `ps -p {0}`", member.pid))),
    }
}

fn make(uids: Vec<IdMapping>, gids: Vec<IdMapping>) -> Result<()> {
    because(&MOVE);
    let map_writer = MapWriter::begin(std::process::id() as i32, uids, gids)?;
    let forbidden = |e: Error| {
        e.hint("this host forbids user namespaces to ordinary users; `onggi doctor` says which setting and how to change it, `onggi book 12a` why")
    };
    namespace::unshare(CLONE_NEWUSER | CLONE_NEWNS).doing(|| "make a user namespace".into()).map_err(forbidden)?;
    map_writer.finish()
}

/// The lines of `/proc/P/uid_map` or `gid_map`: first id inside, first id outside, how many.
fn map_of(member: &ProcessId, file: &str) -> Vec<[u32; 3]> {
    let text = std::fs::read_to_string(format!("/proc/{}/{file}", member.pid)).unwrap_or_default();
    let line = |line: &str| <[u32; 3]>::try_from(line.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).ok();
    text.lines().filter_map(line).collect()
}

fn numbers(mappings: &[IdMapping]) -> Vec<[u32; 3]> {
    mappings.iter().map(|m| [m.container_id, m.host_id, m.size]).collect()
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
