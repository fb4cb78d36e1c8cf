//! One more process in a container that runs: it enters every namespace of the first one, its cgroup, and its confinement.
//!
//! The container may be hostile by now, and it sees the newcomer before that has become its program. So the newcomer is not dumpable
//! (nobody inside can open its `/proc/PID/exe` or `fd`), has nothing open that the container should not have, and opens nothing by a
//! path of the container with rights of the host.
//!
//! See it: `ls -l /proc/P/ns` of both. Read: setns(2), runc's `exec`; CVE-2016-9962, CVE-2019-5736, CVE-2024-21626.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::init::{self, Entering};
use super::program::Start;
use super::spec::{Linux, Process};
use super::state::{Record, Status, Store};
use super::sync::{self, Message};
use super::{affinity, cgroups, labels, lifecycle, namespaces, seccomp};
use crate::error::{Class, Error, Result};
use crate::sys::call::fault;
use crate::sys::process;

/// What to run in which container.
pub struct Request {
    pub process: Process,
    pub pid_file: Option<PathBuf>,
    pub preserve_fds: i32,
    /// Wait in a paused container instead of refusing.
    pub ignore_paused: bool,
    pub console: Option<OwnedFd>,
    pub stdio: Option<[OwnedFd; 3]>,
}

/// The process that was started, our child.
pub struct Running {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub warnings: Vec<String>,
}

/// Starts a process in a running container.
///
/// # Errors
/// Conflict when it doesn't run, CommandNotFound, CommandNotRunnable, and what the kernel says to a step.
pub fn exec(store: &Store, id: &str, request: Request) -> Result<Running> {
    fault::role("exec");
    let record = store.load(id)?;
    let init = first_process(store, &record, request.ignore_paused)?;
    let doing = || format!("run a process in {id}");
    let handle = record.first_process()?.ok_or_else(|| Error::new(Class::Conflict, doing(), "container not running"))?;
    labels::check(&request.process)?;
    lifecycle::check_console(&request.process, request.console.is_some())?;
    let no_linux = Linux::default();
    let linux = record.spec.linux.as_ref().unwrap_or(&no_linux);
    let filter = linux.seccomp.as_ref().map(seccomp::compile).transpose()?;
    let plan = namespaces::plan_to_enter(init.pid, handle)?;

    let cgroup = record.cgroup.as_ref().map_or(Ok(None), |place| cgroups::exec_dir(place, init.pid))?;
    let mut pair = sync::pair()?;
    let files = super::kernel_files::KernelFiles::open()?;
    // The stage goes into the v1 groups before it enters anything, with the rights of the host.
    let affinity = request.process.exec_cpu_affinity.clone().unwrap_or_default();
    let enter = || {
        affinity::apply(affinity.initial.as_deref(), "process.execCPUAffinity.initial")?;
        record.cgroup.as_ref().filter(|place| place.unit.is_none()).map_or(Ok(()), cgroups::enter_legacy)
    };
    let side = namespaces::fork(&plan, cgroup.as_ref().map(|dir| dir.as_fd()), &mut pair, enter, |_| Ok(()))?;
    let namespaces::Side::Parent { pid, pidfd } = side else {
        init::enter_container(Entering {
            process: &request.process,
            linux,
            plan: &plan,
            parent: pair.theirs()?,
            console: request.console,
            stdio: request.stdio,
            filter,
            files,
            start: Start::AtOnce,
            preserve_fds: request.preserve_fds,
        })
    };
    let mut warnings = Vec::new();
    let attach = cgroup.is_none() && record.cgroup.as_ref().is_some_and(|place| place.unified.is_some() || place.unit.is_some());
    let outcome = attend(&mut pair, &record, attach, pid, &pidfd, &mut warnings);
    let written = outcome.and_then(|()| request.pid_file.as_ref().map_or(Ok(()), |file| super::pid_file::write(file, pid)));
    if let Err(e) = written {
        namespaces::end(&namespaces::Side::Parent { pid, pidfd });
        return Err(e);
    }
    Ok(Running { pid, pidfd, warnings })
}

fn first_process(store: &Store, record: &Record, ignore_paused: bool) -> Result<super::state::ProcessId> {
    let status = store.status(record);
    let doing = || format!("run a process in {}", record.id);
    match (status, record.init) {
        (Status::Paused, _) if !ignore_paused => Err(Error::new(Class::Conflict, doing(), "the container is paused").hint("resume it first")),
        (Status::Running | Status::Created | Status::Paused, Some(init)) => Ok(init),
        _ => Err(Error::new(Class::Conflict, doing(), "container not running")),
    }
}

fn attend(pair: &mut sync::Pair, record: &Record, attach: bool, pid: i32, pidfd: &OwnedFd, warnings: &mut Vec<String>) -> Result<()> {
    if let Some(place) = record.cgroup.as_ref().filter(|_| attach) {
        cgroups::attach(place, pid, &Default::default())?;
    }
    let ours = pair.ours()?;
    // Should it have ended already, then it has said why.
    let _ = ours.tell(&Message::Go);
    loop {
        match ours.hear()? {
            Some(Message::Warning(words)) => warnings.push(words),
            Some(Message::Listener(number)) => {
                lifecycle::hand_over_listener(record, pidfd.as_fd(), number)?;
                ours.tell(&Message::Go)?;
            }
            // The socket closes when it becomes its program; until then it may still fail.
            Some(Message::Ready) => match ours.hear()? {
                None => return Ok(()),
                Some(Message::Failed(e)) => return Err(*e),
                Some(_) => return Err(unexpected()),
            },
            Some(Message::Failed(e)) => return Err(*e),
            Some(_) => return Err(unexpected()),
            None => {
                let end = process::wait(pidfd.as_fd()).map(|exit| exit.code()).unwrap_or(-1);
                return Err(Error::new(
                    Class::System,
                    "run a process in the container",
                    format!("it ended with code {end} before it was its program"),
                ));
            }
        }
    }
}

fn unexpected() -> Error {
    Error::new(Class::System, "run a process in the container", "it said something unexpected")
}
