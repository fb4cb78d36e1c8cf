//! Which namespaces a container gets: new ones, or those that others have made, entered by their path.
//!
//! The kernel demands an order. A user namespace comes first, for it gives the rights over all the others. A PID or time namespace
//! that is entered holds only for *children*, so whoever enters one must clone once more. In all but these cases one clone3(2)
//! makes everything at once; otherwise a short-lived *stage* process enters, and clones the container's first process as its
//! own sister (CLONE_PARENT), so that we, and not the stage, are the parent.
//!
//! See it: `ls -l /proc/P/ns`. Read: namespaces(7), user_namespaces(7), pid_namespaces(7), time_namespaces(7).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::spec::{Linux, NamespaceKind, TimeOffset};
use super::sync::{Message, Pair, Socket};
use crate::error::{Class, Doing, Error, Result};
use crate::sys::call::fault;
use crate::sys::namespace::{
    self, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS,
};
use crate::sys::process::{self, Clone, Forked};
use crate::sys::{Reason, because, fd, fs};

static NEW: Reason = Reason {
    id: "namespaces.new",
    en: "the new process gets its own view of mounts, processes, host name, IPC and network",
    ko: "새 프로세스는 마운트, 프로세스, 호스트 이름, IPC, 네트워크를 자기만의 시야로 본다",
    see: "ls -l /proc/{P}/ns",
};
static JOIN: Reason = Reason {
    id: "namespaces.join",
    en: "it enters namespaces that are there already",
    ko: "이미 있는 네임스페이스에 들어간다",
    see: "ls -l /proc/{P}/ns",
};
static CGROUP: Reason = Reason {
    id: "namespaces.cgroup",
    en: "its own cgroup becomes the root of what it sees of the cgroup tree",
    ko: "자기 cgroup이 자기가 보는 cgroup 트리의 뿌리가 된다",
    see: "cat /proc/{P}/cgroup",
};
static CLOCKS: Reason = Reason {
    id: "namespaces.time",
    en: "its monotonic and boot clocks are shifted, before anybody lives by them",
    ko: "누군가 쓰기 전에 단조 시계와 부팅 시계를 옮긴다",
    see: "cat /proc/{P}/timens_offsets",
};

/// A namespace to enter.
pub struct Join {
    pub flag: u64,
    pub fd: OwnedFd,
}

/// Where a container's namespaces come from.
pub struct Plan {
    pub join: Vec<Join>,
    /// `CLONE_NEW*` of those to make, without the cgroup namespace, which is made after the process is in its cgroup.
    pub new: u64,
    pub new_cgroup: bool,
    pub time_offsets: BTreeMap<String, TimeOffset>,
}

impl NamespaceKind {
    pub fn flag(self) -> u64 {
        match self {
            NamespaceKind::User => CLONE_NEWUSER,
            NamespaceKind::Pid => CLONE_NEWPID,
            NamespaceKind::Network => CLONE_NEWNET,
            NamespaceKind::Mount => CLONE_NEWNS,
            NamespaceKind::Ipc => CLONE_NEWIPC,
            NamespaceKind::Uts => CLONE_NEWUTS,
            NamespaceKind::Cgroup => CLONE_NEWCGROUP,
            NamespaceKind::Time => CLONE_NEWTIME,
        }
    }

    /// Its name in `/proc/P/ns`.
    pub fn file(self) -> &'static str {
        match self {
            NamespaceKind::User => "user",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Network => "net",
            NamespaceKind::Mount => "mnt",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Time => "time",
        }
    }

    /// All eight, in the order in which they are entered: the user namespace gives the rights over the rest, the mount namespace
    /// is last but one because it changes what every path means.
    pub const ALL: [NamespaceKind; 8] = [
        NamespaceKind::User,
        NamespaceKind::Network,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Cgroup,
        NamespaceKind::Time,
        NamespaceKind::Pid,
        NamespaceKind::Mount,
    ];
}

/// Reads the plan out of config.json and opens the namespaces to enter, before anything is made.
///
/// # Errors
/// Invalid when a path is no namespace of its kind, NotFound when it isn't there.
pub fn plan(linux: &Linux) -> Result<Plan> {
    let mut plan = Plan { join: Vec::new(), new: 0, new_cgroup: false, time_offsets: linux.time_offsets.clone() };
    for kind in NamespaceKind::ALL {
        let Some((index, wanted)) = linux.namespaces.iter().enumerate().find(|(_, n)| n.kind == kind) else { continue };
        match &wanted.path {
            Some(path) => {
                let doing = || format!("use linux.namespaces[{index}].path {}", path.display());
                let file: OwnedFd = File::open(path).doing(doing)?.into();
                match namespace::kind(file.as_fd()) {
                    Ok(flag) if flag == kind.flag() => {}
                    _ => return Err(Error::invalid(doing(), format!("it is no {} namespace", kind.file()))),
                }
                // Entering the namespace that we are in already would fail for some kinds (setns(2): EINVAL for user).
                if !is_ours(file.as_fd(), kind) {
                    plan.join.push(Join { flag: kind.flag(), fd: file });
                }
            }
            None if kind == NamespaceKind::Cgroup => plan.new_cgroup = true,
            None => plan.new |= kind.flag(),
        }
    }
    Ok(plan)
}

fn is_ours(fd: BorrowedFd, kind: NamespaceKind) -> bool {
    use std::os::unix::fs::MetadataExt;
    let theirs = crate::sys::path::stat(fd).map(|s| (s.st_dev, s.st_ino)).ok();
    let ours = std::fs::metadata(format!("/proc/self/ns/{}", kind.file())).map(|m| (m.dev(), m.ino())).ok();
    theirs.is_some() && theirs == ours
}

/// The plan of one more process for a container that lives: all namespaces of its first process that are not ours, in one call.
///
/// # Errors
/// NotFound when it has ended.
pub fn plan_to_enter(pid: i32, pidfd: OwnedFd) -> Result<Plan> {
    use std::os::unix::fs::MetadataExt;
    let mut flags = 0;
    for kind in NamespaceKind::ALL {
        let inode = |who: &str| std::fs::metadata(format!("/proc/{who}/ns/{}", kind.file())).map(|m| (m.dev(), m.ino()));
        let theirs = inode(&pid.to_string()).doing(|| format!("look at the {} namespace of process {pid}", kind.file()))?;
        if inode("self").is_ok_and(|ours| ours != theirs) {
            flags |= kind.flag();
        }
    }
    let join = if flags == 0 { Vec::new() } else { vec![Join { flag: flags, fd: pidfd }] };
    Ok(Plan { join, new: 0, new_cgroup: false, time_offsets: BTreeMap::new() })
}

impl Plan {
    /// Whether one clone3 is not enough; see the head of this file.
    pub fn staged(&self) -> bool {
        let enters = |flag: u64| self.join.iter().any(|j| j.flag & flag != 0);
        enters(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWTIME)
            || !self.time_offsets.is_empty()
            || (self.new & CLONE_NEWUSER != 0 && !self.join.is_empty())
    }

    pub fn makes(&self, flag: u64) -> bool {
        self.new & flag != 0 || (flag == CLONE_NEWCGROUP && self.new_cgroup)
    }
}

/// Who came out of [`fork`].
pub enum Side {
    /// We, with the new process' PID as we see it.
    Parent { pid: i32, pidfd: OwnedFd },
    /// The container's first process.
    Child,
}

/// Clones the container's first process into its namespaces. `enter` is called in the child, or its stage, as long as it has our
/// rights: it goes into the cgroups that nobody can be born in. `map` is called in the parent, with the PID of the process whose new
/// user namespace waits for its maps. The child comes out of here with nothing done but that: it must wait for its parent's word.
///
/// # Errors
/// EPERM where the host forbids a kind, ENOSPC for too many namespaces, and what `map` says.
pub fn fork(
    plan: &Plan,
    cgroup: Option<BorrowedFd>,
    pair: &mut Pair,
    enter: impl Fn() -> Result<()>,
    map: impl Fn(i32) -> Result<()>,
) -> Result<Side> {
    if plan.staged() {
        return fork_staged(plan, cgroup, pair, enter, map);
    }
    because(&NEW);
    match process::clone3(&Clone { flags: plan.new, cgroup }).doing(|| "make the container's namespaces".into()).map_err(restricted)? {
        Forked::Child => {
            fault::role("init");
            if let Err(e) = enter() {
                let _ = pair.child().tell(&Message::Failed(Box::new(e)));
                process::exit_now(1);
            }
            Ok(Side::Child)
        }
        Forked::Parent { pid, pidfd } => {
            let side = Side::Parent { pid, pidfd };
            if plan.new & CLONE_NEWUSER != 0
                && let Err(e) = map(pid)
            {
                end(&side);
                return Err(e);
            }
            Ok(side)
        }
    }
}

/// Kills a process that must not go on, and waits for its end.
pub fn end(side: &Side) {
    if let Side::Parent { pidfd, .. } = side {
        let _ = process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(pidfd.as_fd());
    }
}

fn fork_staged(
    plan: &Plan,
    cgroup: Option<BorrowedFd>,
    pair: &mut Pair,
    enter: impl Fn() -> Result<()>,
    map: impl Fn(i32) -> Result<()>,
) -> Result<Side> {
    because(&JOIN);
    // The stage is born in the container's cgroup, with our rights, and its child after it: once it is in the container's cgroup namespace,
    // a move in from outside is refused (cgroups(7), "nsdelegate").
    let (stage_pid, stage) = match process::clone3(&Clone { flags: 0, cgroup }).doing(|| "make a stage process".into())? {
        Forked::Child => {
            fault::role("stage");
            let theirs = pair.child();
            match enter().and_then(|()| stage(plan, theirs)) {
                Ok(()) => return Ok(Side::Child),
                Err(e) => {
                    let _ = theirs.tell(&Message::Failed(Box::new(e)));
                    process::exit_now(1);
                }
            }
        }
        Forked::Parent { pid, pidfd } => (pid, pidfd),
    };
    let ours = pair.parent();
    let outcome = loop {
        match ours.hear_with_fd() {
            Ok((Message::Map, _)) => match map(stage_pid) {
                Ok(()) => ours.tell(&Message::Go)?,
                Err(e) => break Err(e),
            },
            Ok((Message::Cloned, Some(pidfd))) => break Ok(pidfd),
            Ok((Message::Failed(e), _)) => break Err(*e),
            Ok(_) => break Err(Error::new(Class::System, "enter the namespaces", "the stage process said something unexpected")),
            Err(e) => break Err(e),
        }
    };
    if outcome.is_err() {
        let _ = process::pidfd_send_signal(stage.as_fd(), libc::SIGKILL);
    }
    let _ = process::wait(stage.as_fd());
    let pidfd = outcome?;
    let pid = process::pidfd_pid(pidfd.as_fd()).ok_or_else(|| Error::new(Class::System, "find the container's first process", "it ended at once"))?;
    Ok(Side::Parent { pid, pidfd })
}

/// In the stage process: enter, make, clone. Returns only in the container's first process.
fn stage(plan: &Plan, theirs: &Socket) -> Result<()> {
    // Only who may be looked at may open its own file of offsets.
    let clocks = (!plan.time_offsets.is_empty()).then(open_clocks).transpose()?;
    // The container that we enter may be hostile: keep /proc/PID/exe, fd and memory of ours shut to it (CVE-2016-9962, CVE-2019-5736).
    process::set_dumpable(false).doing(|| "hide from the container".into())?;
    let (before, after): (Vec<&Join>, Vec<&Join>) = plan.join.iter().partition(|j| j.flag != CLONE_NEWNS);
    for join in before {
        enter_one(join)?;
    }
    let mut rest = plan.new;
    if rest & CLONE_NEWUSER != 0 {
        rest &= !CLONE_NEWUSER;
        because(&NEW);
        namespace::unshare(CLONE_NEWUSER).doing(|| "make a user namespace".into()).map_err(restricted)?;
        // Its maps are written by the parent, who has the rights over the host's ids; and to be written to, we must be visible to it.
        process::set_dumpable(true).doing(|| "show up for the parent".into())?;
        theirs.tell(&Message::Map)?;
        theirs.wait_for_go()?;
        process::set_dumpable(false).doing(|| "hide from the container".into())?;
    }
    if plan.makes(CLONE_NEWUSER) || plan.join.iter().any(|j| j.flag & CLONE_NEWUSER != 0) {
        super::users::become_root()?;
    }
    if rest & CLONE_NEWTIME != 0 {
        rest &= !CLONE_NEWTIME;
        because(&CLOCKS);
        namespace::unshare(CLONE_NEWTIME).doing(|| "make a time namespace".into())?;
        clocks.map_or(Ok(()), |clocks| shift_clocks(&clocks, &plan.time_offsets))?;
    }
    for join in after {
        enter_one(join)?;
    }
    because(&NEW);
    let flags = rest | libc::CLONE_PARENT as u64;
    match process::clone3(&Clone { flags, cgroup: None }).doing(|| "make the container's namespaces".into()).map_err(restricted)? {
        Forked::Child => {
            fault::role("init");
            Ok(())
        }
        Forked::Parent { pidfd, .. } => {
            theirs.tell_with_fd(&Message::Cloned, pidfd.as_fd())?;
            process::exit_now(0)
        }
    }
}

fn open_clocks() -> Result<OwnedFd> {
    let file = std::fs::OpenOptions::new().write(true).open("/proc/self/timens_offsets").doing(|| "open /proc/self/timens_offsets".into())?;
    Ok(file.into())
}

/// time_namespaces(7): the offsets can be written as long as no process is inside, so before the child is cloned; and in one write.
fn shift_clocks(file: &OwnedFd, offsets: &BTreeMap<String, TimeOffset>) -> Result<()> {
    let lines: String = offsets.iter().map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs, offset.nanosecs)).collect();
    fs::write_to(file, "/proc/self/timens_offsets".as_ref(), &lines).doing(|| "set linux.timeOffsets".into())
}

/// In the container's first process, when no stage did it: enters what is to be entered.
///
/// # Errors
/// EPERM.
pub fn join(plan: &Plan) -> Result<()> {
    if plan.join.is_empty() || plan.staged() {
        return Ok(());
    }
    process::set_dumpable(false).doing(|| "hide from the container".into())?;
    plan.join.iter().try_for_each(enter_one)
}

fn enter_one(join: &Join) -> Result<()> {
    because(&JOIN);
    namespace::setns(join.fd.as_fd(), join.flag).doing(|| format!("enter the namespace {}", crate::sys::mount::fd_name(join.fd.as_raw_fd())))
}

/// A cgroup namespace shows the cgroup in which it was made as the root, so it is made when the process is in its cgroup.
///
/// # Errors
/// EPERM.
pub fn new_cgroup_namespace(plan: &Plan) -> Result<()> {
    if !plan.new_cgroup {
        return Ok(());
    }
    because(&CGROUP);
    namespace::unshare(CLONE_NEWCGROUP).doing(|| "make a cgroup namespace".into())
}

/// A user namespace that nobody lives in, with these maps: what an idmapped mount takes its mapping from.
///
/// # Errors
/// EPERM, EINVAL for maps that overlap.
pub fn user_namespace_with(map: impl Fn(i32) -> Result<()>) -> Result<OwnedFd> {
    let (parent_end, child_end) = fd::pipe().doing(|| "make a pipe".into())?;
    let doing = || "make a user namespace for an idmapped mount".to_string();
    match process::clone3(&Clone { flags: CLONE_NEWUSER, cgroup: None }).doing(doing)? {
        Forked::Child => {
            // Lives until the parent closes its end: read(2) then gives 0.
            drop(child_end);
            let _ = std::io::Read::read(&mut File::from(parent_end), &mut [0]);
            process::exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            let namespace = map(pid).and_then(|()| File::open(format!("/proc/{pid}/ns/user")).doing(doing));
            drop(child_end);
            let _ = process::wait(pidfd.as_fd());
            namespace.map(OwnedFd::from)
        }
    }
}

/// A refusal of a user namespace has a handful of well-known causes; the hint says where to look.
fn restricted(e: Error) -> Error {
    match e.class {
        Class::Denied => {
            e.hint("this host restricts namespaces for this user; `onggi doctor` says which setting and how to change it, `onggi book 12a` why")
        }
        _ => e,
    }
}
