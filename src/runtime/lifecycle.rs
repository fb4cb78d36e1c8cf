//! A container's life at the low level: create, start, kill, delete. See runtime.md "Lifecycle".
//!
//! ```text
//! create   claim the name → cgroup → clone3 → maps, cgroup, record → "go" → (hooks) → "ready" → record in its place
//! start    a byte through exec.fifo → poststart hooks
//! delete   (kill) → cgroup → poststop hooks → record
//! ```
//! Until the record is in its place everything belongs to `Making`, whose drop undoes it; a maker that dies is swept by the next
//! command.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::bundle::{self, Bundle};
use super::init::{self, Init};
use super::program;
use super::spec::{Hooks, Linux, Process, Resources};
use super::state::{self, ProcessId, Record, State, Status, Store};
use super::sync::{self, Message, Socket};
use super::{cgroups, hooks, labels, mounts, namespaces, pid_file, rdt, seccomp, users};
use crate::clock;
use crate::error::{Class, Doing, Error, Result};
use crate::sys::call::fault;
use crate::sys::{fd, process, watch};

/// What is to be created, and the choices that are not in config.json.
pub struct Request<'a> {
    pub id: String,
    pub bundle: Bundle,
    pub choices: Choices,
    /// A root file system mounted by the caller and attached nowhere; else root.path is used.
    pub rootfs: Option<OwnedFd>,
    /// What the caller has opened to be bound, attached nowhere, by its destination in config.json.
    pub trees: Vec<(PathBuf, OwnedFd)>,
    /// What becomes 0, 1 and 2 of the container's program, when not the caller's own.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Where the master of its terminal is sent.
    pub console: Option<OwnedFd>,
    /// What the caller does with the first process while that makes its mounts: its namespaces are there.
    pub meanwhile: Option<&'a mut dyn FnMut(i32) -> Result<()>>,
}

/// The options of `create` and `run`.
#[derive(Debug, Default, Clone)]
pub struct Choices {
    pub pid_file: Option<PathBuf>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: i32,
    pub systemd_cgroup: bool,
    /// Whether to do without a cgroup where none may be made; None asks who we are.
    pub rootless: Option<bool>,
    /// The container's first process ends with its maker.
    pub ends_with_maker: bool,
}

/// A container that waits for `start`.
pub struct Created {
    pub record: Record,
    /// A handle on its first process, our child.
    pub pidfd: OwnedFd,
    /// What could only be done in part.
    pub warnings: Vec<String>,
}

/// Creates a container: everything but its program.
///
/// # Errors
/// Conflict for a taken ID, Invalid for a config, and every call that failed on the way; nothing is left behind.
pub fn create(store: &Store, mut request: Request) -> Result<Created> {
    fault::role("create");
    state::check_id(&request.id)?;
    let spec = &request.bundle.spec;
    let process = spec.process.clone().ok_or_else(|| Error::invalid("create a container", "config.json has no process"))?;
    let no_linux = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&no_linux);

    // Everything that can be wrong with the request is found before anything is made.
    labels::check(&process)?;
    check_console(&process, request.console.is_some())?;
    let filter = linux.seccomp.as_ref().map(seccomp::compile).transpose()?;
    let plan = namespaces::plan(linux)?;
    let rootfs = bundle::rootfs(&request.bundle)?;
    let prepared = mounts::prepare(spec, &request.bundle.dir, std::mem::take(&mut request.trees))?;
    let resources = resources_of(linux);
    let place = place_for(linux, &resources, &request)?;
    let rdt = linux.intel_rdt.as_ref().map(|wanted| rdt::place(wanted, &request.id)).transpose()?;

    let record = Record {
        id: request.id.clone(),
        bundle: request.bundle.dir.clone(),
        rootfs: rootfs.clone(),
        created: clock::rfc3339(SystemTime::now()),
        owner: nix::unistd::getuid().as_raw(),
        maker: ProcessId::now(std::process::id() as i32).unwrap_or(ProcessId { pid: 0, start_time: 0 }),
        init: None,
        cgroup: place,
        rdt,
        pid_file: request.choices.pid_file.clone(),
        systemd_cgroup: request.choices.systemd_cgroup,
        spec: spec.clone(),
    };
    store.claim(&record)?;
    let mut making = Making { store, record, child: None, kept: false };
    let start = program::waiting_room(&store.dir_of_unfinished(&request.id))?;
    let cgroup_dir = match &mut making.record.cgroup {
        Some(place) => {
            cgroups::create(place, &resources)?.keep();
            cgroups::apply(place, &resources, false)?;
            cgroups::dir_fd(place)?
        }
        None => None,
    };

    let mut pair = sync::pair()?;
    // systemd makes the group for a process that is there.
    let later = making.record.cgroup.as_ref().filter(|place| place.unit.is_some());
    let inside = cgroup_dir.as_ref().filter(|_| later.is_none()).map(|dir| dir.as_fd());
    let enter = || making.record.cgroup.as_ref().filter(|_| later.is_none()).map_or(Ok(()), cgroups::enter_legacy);
    let side = namespaces::fork(&plan, inside, &mut pair, enter, |pid| users::write_maps(pid, linux))?;
    let namespaces::Side::Parent { pid, pidfd } = side else {
        init::enter(Init {
            id: &request.id,
            spec,
            process: &process,
            bundle: &request.bundle.dir,
            rootfs,
            detached: request.rootfs,
            plan: &plan,
            cgroup: making.record.cgroup.as_ref(),
            prepared,
            parent: pair.theirs()?,
            console: request.console,
            stdio: request.stdio,
            filter,
            start,
            state: inner_state(&making.record),
            no_pivot: request.choices.no_pivot,
            new_keyring: !request.choices.no_new_keyring,
            preserve_fds: request.choices.preserve_fds,
            ends_with_maker: request.choices.ends_with_maker,
        })
    };
    let attach = later.is_some();
    making.child = Some(pidfd);
    drop(start);
    making.record.init = ProcessId::now(pid);
    store.save(&making.record)?;
    if let Some(place) = making.record.cgroup.as_ref().filter(|_| attach) {
        cgroups::attach(place, pid, &resources)?;
    }
    if let (Some(group), Some(wanted)) = (&making.record.rdt, &linux.intel_rdt) {
        rdt::apply(group, wanted, pid)?;
    }
    let ours = pair.ours()?;
    // Should it have ended already, then it has said why.
    let _ = ours.tell(&Message::Go);
    if let Some(work) = request.meanwhile
        && let Err(e) = work(pid)
    {
        // A child that ended meanwhile has no namespaces any more, which the work may have stumbled over: what the child says is the reason.
        let has_ended = making.child.as_ref().is_some_and(|child| watch::wait_readable(child.as_fd(), Some(0)).unwrap_or(false));
        return Err(if has_ended { attend(&ours, &making).err().unwrap_or(e) } else { e });
    }
    let warnings = attend(&ours, &making)?;
    if let Some(file) = &making.record.pid_file {
        pid_file::write(file, pid)?;
    }
    store.finish(&making.record.id)?;
    Ok(making.keep(warnings))
}

/// The limits of config.json, and the devices that every container may use (config-linux.md "Default Devices").
fn resources_of(linux: &Linux) -> Resources {
    let mut resources = linux.resources.clone().unwrap_or_default();
    resources.devices.extend(cgroups::default_rules());
    resources
}

fn place_for(linux: &Linux, resources: &Resources, request: &Request) -> Result<Option<cgroups::Place>> {
    let wanted = cgroups::Request {
        layout: &cgroups::detect()?,
        cgroups_path: linux.cgroups_path.as_deref(),
        id: &request.id,
        systemd: request.choices.systemd_cgroup,
        rootless: request.choices.rootless.unwrap_or_else(|| !nix::unistd::geteuid().is_root() || users::in_user_namespace()),
        limits: cgroups::limits(resources),
    };
    let mut place = cgroups::place(&wanted)?;
    place.iter_mut().for_each(cgroups::foresee);
    Ok(place)
}

/// A container in the making. Dropped before it is kept, it takes everything back.
struct Making<'a> {
    store: &'a Store,
    record: Record,
    child: Option<OwnedFd>,
    kept: bool,
}

impl Making<'_> {
    fn keep(mut self, warnings: Vec<String>) -> Created {
        self.kept = true;
        let pidfd = self.child.take().expect("the child was cloned before");
        Created { record: self.record.clone(), pidfd, warnings }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(child) = &self.child {
            let _ = process::pidfd_send_signal(child.as_fd(), libc::SIGKILL);
            let _ = process::wait(child.as_fd());
        }
        // An error is being told already; what can't be cleared now the next command's sweep will try again.
        if state::clear(&self.record).is_ok() {
            let _ = std::fs::remove_dir_all(self.store.dir_of_unfinished(&self.record.id));
        }
    }
}

/// Answers the first process until it is ready. Answers its warnings.
fn attend(ours: &Socket, making: &Making) -> Result<Vec<String>> {
    let record = &making.record;
    let no_hooks = Hooks::default();
    let wanted = record.spec.hooks.as_ref().unwrap_or(&no_hooks);
    let mut warnings = Vec::new();
    loop {
        match ours.hear()? {
            Some(Message::Mounted) => {
                let state = json(&state::state_of(record, Status::Creating));
                hooks::run("prestart", &wanted.prestart, &state)?;
                hooks::run("createRuntime", &wanted.create_runtime, &state)?;
                ours.tell(&Message::Go)?;
            }
            Some(Message::Listener(number)) => {
                if let Some(child) = &making.child {
                    hand_over_listener(record, child.as_fd(), number)?;
                }
                ours.tell(&Message::Go)?;
            }
            Some(Message::Warning(words)) => warnings.push(words),
            Some(Message::Ready) => return Ok(warnings),
            Some(Message::Failed(e)) => return Err(*e),
            Some(_) => return Err(Error::new(Class::System, "create the container", "its first process said something unexpected")),
            None => return Err(Error::new(Class::System, "create the container", last_words(making))),
        }
    }
}

fn last_words(making: &Making) -> String {
    match making.child.as_ref().map(|child| process::wait(child.as_fd())) {
        Some(Ok(process::Exit::Signal(signal))) => format!("its first process was ended by {} (out of memory?)", process::signal_name(signal)),
        Some(Ok(process::Exit::Code(code))) => format!("its first process ended with code {code} without a word"),
        _ => "its first process ended without a word".into(),
    }
}

/// config-linux.md "containerProcessState": who wants to be asked about system calls gets the listener and the container's state.
pub(super) fn hand_over_listener(record: &Record, child: BorrowedFd, number: i32) -> Result<()> {
    let Some(seccomp) = record.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()) else { return Ok(()) };
    let listener = fd::take_from(child, number).doing(|| "take over the seccomp listener".into())?;
    let state = state::state_of(record, Status::Creating);
    let pid = process::pidfd_pid(child).unwrap_or(state.pid);
    let message = seccomp::process_state(pid, seccomp.listener_metadata.as_deref(), serde_json::to_value(&state).unwrap_or_default());
    seccomp::send_listener(listener.as_fd(), seccomp.listener_path.as_deref().unwrap_or(Path::new("")), &message)
}

pub(super) fn check_console(process: &Process, console: bool) -> Result<()> {
    match (process.terminal, console) {
        (true, false) => Err(Error::invalid(
            "give the container a terminal",
            "process.terminal is true, and nobody takes the terminal: a console socket is needed",
        )),
        (false, true) => Err(Error::invalid("use the console socket", "process.terminal is false: there is no terminal to send")),
        _ => Ok(()),
    }
}

/// The state as hooks inside the container see it: there the first process is the one that runs them.
fn inner_state(record: &Record) -> State {
    State { pid: std::process::id() as i32, ..state::state_of(record, Status::Creating) }
}

pub(super) fn json(state: &State) -> String {
    serde_json::to_string(state).unwrap_or_default()
}

/// Starts the program of a created container.
///
/// # Errors
/// Conflict when it isn't in the state `created`; CommandNotFound and CommandNotRunnable for its program. Answers which poststart hooks
/// failed: runtime.md wants that to be a warning, and the container to live on.
pub fn start(store: &Store, id: &str) -> Result<Vec<Error>> {
    fault::role("start");
    let _held = store.load(id).and_then(|_| store.hold(id))?;
    let record = store.load(id)?;
    match store.status(&record) {
        Status::Created => {}
        status => return Err(Error::new(Class::Conflict, format!("start {id}"), format!("cannot start a container in the {status} state"))),
    }
    let dir = store.dir(id);
    let started = program::start(&dir.join("exec.fifo"), &dir.join("exec.error"));
    // Without its FIFO a container is no longer waiting; see Store::status.
    let _ = std::fs::remove_file(dir.join("exec.fifo"));
    started?;
    let hooks = record.spec.hooks.as_ref();
    Ok(hooks.map_or_else(Vec::new, |hooks| hooks::run_all("poststart", &hooks.poststart, &json(&state::state_of(&record, Status::Running)))))
}

/// Sends a signal to a container's first process, or with `all` to every process in it.
///
/// # Errors
/// Conflict when it has ended ("container not running", which containerd looks for); EPERM.
pub fn kill(store: &Store, id: &str, signal: i32, all: bool) -> Result<()> {
    let record = store.load(id)?;
    let doing = || format!("signal {id}");
    let handle = record.first_process()?;
    // A container without a PID namespace of its own doesn't end with its first process.
    let shares_pids =
        !record.spec.linux.as_ref().is_some_and(|l| l.namespaces.iter().any(|n| n.kind == super::spec::NamespaceKind::Pid && n.path.is_none()));
    if let Some(place) = record.cgroup.as_ref().filter(|_| all || (signal == libc::SIGKILL && shares_pids)) {
        let there = !cgroups::processes(place).is_empty();
        cgroups::kill_all(place, signal)?;
        return if there || all { Ok(()) } else { Err(Error::new(Class::Conflict, doing(), "container not running")) };
    }
    let Some(handle) = handle else {
        return if all { Ok(()) } else { Err(Error::new(Class::Conflict, doing(), "container not running")) };
    };
    process::pidfd_send_signal(handle.as_fd(), signal).doing(doing)?;
    if signal == libc::SIGKILL { thaw(record.cgroup.as_ref()) } else { Ok(()) }
}

/// A frozen process would keep the signal until it is thawed; death must not wait.
fn thaw(place: Option<&cgroups::Place>) -> Result<()> {
    match place.filter(|place| cgroups::frozen(place)) {
        // Its end may have been cleared up already: a group that is gone holds nobody back.
        Some(place) => cgroups::freeze(place, false).or_else(|e| if place.dirs().iter().any(|dir| dir.exists()) { Err(e) } else { Ok(()) }),
        None => Ok(()),
    }
}

/// Removes a container that has stopped; with `force` one that runs too, and one that isn't there.
///
/// # Errors
/// Conflict when it runs, NotFound.
pub fn delete(store: &Store, id: &str, force: bool) -> Result<Vec<Error>> {
    fault::role("delete");
    // Read when it is held: before that somebody else may have deleted it.
    let held = store.load(id).and_then(|_| Ok((store.hold(id)?, store.load(id)?)));
    let (_held, record) = match held {
        Err(e) if force && e.class == Class::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let status = store.status(&record);
    // A created container has no program yet: nothing is lost with it (runc deletes it too).
    if !matches!(status, Status::Stopped | Status::Created) && !force {
        return Err(Error::new(Class::Conflict, format!("delete {id}"), format!("cannot delete container {id} that is not stopped: it is {status}")));
    }
    if let Some(handle) = record.first_process()? {
        end(handle.as_fd(), record.cgroup.as_ref())?;
    }
    if let Some(place) = &record.cgroup {
        cgroups::kill_all(place, libc::SIGKILL)?;
        cgroups::remove(place)?;
    }
    record.rdt.iter().for_each(rdt::remove);
    let failures = match &record.spec.hooks {
        Some(hooks) => hooks::run_all("poststop", &hooks.poststop, &json(&state::state_of(&record, Status::Stopped))),
        None => Vec::new(),
    };
    std::fs::remove_dir_all(store.dir(id)).doing(|| format!("remove the record of {id}"))?;
    Ok(failures)
}

/// Kills a process and waits until it is gone, whoever's child it is: a pidfd becomes readable at its end (pidfd_open(2)).
fn end(handle: BorrowedFd, place: Option<&cgroups::Place>) -> Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    match process::pidfd_send_signal(handle, libc::SIGKILL) {
        Err(e) if e.errno() != nix::errno::Errno::ESRCH => return Err(Error::sys("end the container", e)),
        _ => thaw(place)?,
    }
    let limit = PollTimeout::try_from(Duration::from_secs(10)).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(handle, PollFlags::POLLIN)], limit) {
        Ok(0) => Err(Error::new(
            Class::System,
            "end the container",
            "its first process is still there 10 s after SIGKILL (a device or network file system that does not answer?)",
        )),
        _ => Ok(()),
    }
}
