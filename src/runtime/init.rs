//! The heart: a process becomes a container's first process.
//!
//! [`run`] is read from top to bottom. Each line is a chapter; their order is the kernel's, and changing it breaks something: mounts
//! need the rights that the user change takes away, the terminal needs the new root, the filter must not forbid what comes after it.
//!
//! See it: `onggi run --explain --rm base true`. Read: the man page of each call.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::cgroups::Place;
use super::kernel_files::KernelFiles;
use super::mounts::{self, Prepared};
use super::namespaces::{self, Plan};
use super::spec::{CapabilitySets, Linux, Process, Spec};
use super::state::{State, Status};
use super::sync::{Message, Socket};
use super::{affinity, attributes, capabilities, devices, hooks, labels, lifecycle, program, rootfs, seccomp, sysctl, terminal, users};
use crate::error::{Class, Doing, Error, Result};
use crate::sys::namespace::{CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER};
use crate::sys::{Reason, because, fd, ids, namespace, path, process, sched};

static SESSION: Reason = Reason {
    id: "init.session",
    en: "a session of its own: no signal of the caller's terminal reaches it",
    ko: "자기만의 세션: 부른 쪽 터미널의 시그널이 닿지 않는다",
    see: "ps -o pid,sid,tty -p {P}",
};
static NAMES: Reason = Reason {
    id: "init.hostname",
    en: "the container has a host name of its own",
    ko: "컨테이너는 자기만의 호스트 이름을 가진다",
    see: "nsenter -t {P} -u hostname",
};
static LOOPBACK: Reason = Reason {
    id: "init.loopback",
    en: "a new network namespace has only lo, and it is down",
    ko: "새 네트워크 네임스페이스에는 lo만 있고 꺼져 있다",
    see: "nsenter -t {P} -n ip address",
};
static PROGRAM: Reason = Reason {
    id: "init.execve",
    en: "the process becomes the program: everything set up so far stays",
    ko: "프로세스가 프로그램이 된다: 지금까지의 설정은 모두 남는다",
    see: "tr '\\0' ' ' < /proc/{P}/cmdline",
};

/// All that the first process needs to know. It was made by clone3, so it has a copy of everything.
pub struct Init<'a> {
    pub id: &'a str,
    pub spec: &'a Spec,
    pub process: &'a Process,
    pub bundle: &'a Path,
    pub rootfs: PathBuf,
    /// A root file system that the caller mounted, not attached anywhere.
    pub detached: Option<OwnedFd>,
    pub plan: &'a Plan,
    pub cgroup: Option<&'a Place>,
    pub prepared: Vec<Prepared>,
    pub parent: Socket,
    /// Where the terminal's master goes.
    pub console: Option<OwnedFd>,
    /// What becomes 0, 1 and 2, when not the caller's own.
    pub stdio: Option<[OwnedFd; 3]>,
    pub filter: Option<seccomp::Program>,
    pub start: program::Start,
    /// The state for hooks that run in the container.
    pub state: State,
    pub no_pivot: bool,
    pub new_keyring: bool,
    pub preserve_fds: i32,
    pub ends_with_maker: bool,
}

/// In the child, from its first breath: becomes the container, or tells the parent why it can't.
pub fn enter(mut init: Init) -> ! {
    let Err(error) = run(&mut init);
    let _ = init.parent.tell(&Message::Failed(Box::new(error)));
    process::exit_now(1)
}

/// Becomes the container's program. Returns only when something failed.
///
/// # Errors
/// The call that failed, with what it was to do.
pub fn run(init: &mut Init) -> Result<Infallible> {
    let no_linux = Linux::default();
    let linux = init.spec.linux.as_ref().unwrap_or(&no_linux);
    let parent = &init.parent;

    // The parent writes our user map, puts us into our cgroup and connects our network; then it says go.
    parent.wait_for_go()?;
    // The places that we make are for every user of the container, whatever the caller's umask.
    process::umask(0o022);
    namespaces::join(init.plan)?;
    if init.plan.makes(CLONE_NEWUSER) {
        users::become_root()?;
    }
    let in_user_namespace = users::in_user_namespace();
    because(&SESSION);
    process::setsid().doing(|| "start a session".into())?;
    if init.new_keyring {
        new_keyring(init.id)?;
    }
    namespaces::new_cgroup_namespace(init.plan)?;
    if init.plan.makes(CLONE_NEWNET) {
        because(&LOOPBACK);
        namespace::loopback_up().doing(|| "switch the loopback device on".into())?;
    }

    // The file system: while we still see the host's, for the sources of mounts are there.
    let files = KernelFiles::open()?;
    let isolated = init.plan.makes(CLONE_NEWNS);
    if isolated {
        let root = rootfs::prepare(&init.rootfs, init.detached.as_ref(), linux)?;
        let context = mounts::Context {
            spec: init.spec,
            bundle: init.bundle,
            root: root.as_fd(),
            cgroup: init.cgroup,
            prepared: std::mem::take(&mut init.prepared),
        };
        let read_only_later = mounts::make(&context)?;
        devices::make(root.as_fd(), init.spec, in_user_namespace)?;
        make_working_directory(root.as_fd(), init.process)?;
        container_hooks(parent, init.spec, &init.state)?;
        rootfs::hide(root.as_fd(), linux)?;
        rootfs::pivot(root.as_fd(), init.no_pivot, linux)?;
        take_streams(&init.stdio, &init.console, init.process, true)?;
        for mount in read_only_later {
            rootfs::read_only(mount.as_fd()).doing(|| "make /dev read-only".into())?;
        }
        if init.spec.root.as_ref().is_some_and(|root| root.readonly) {
            rootfs::make_read_only()?;
        }
    } else {
        container_hooks(parent, init.spec, &init.state)?;
        crate::sys::fs::chdir(&init.rootfs).doing(|| "enter root.path".into())?;
        crate::sys::mount::chroot(".".as_ref()).doing(|| "make root.path the root".into())?;
        take_streams(&init.stdio, &init.console, init.process, false)?;
    }

    // What a process is, beside what it sees.
    set_names(init.spec)?;
    sysctl::apply(linux, &files)?;
    for warning in attributes::apply(init.process, linux, &files)? {
        parent.tell(&Message::Warning(warning))?;
    }
    labels::apply(init.process, &files)?;
    drop(files);
    become_unprivileged(parent, init.process, init.filter.as_ref())?;

    if init.ends_with_maker {
        // After the change of user, which clears it. Should our maker be gone already, the next word to it fails.
        process::die_with_parent().doing(|| "end with our maker".into())?;
    }

    // Only the program is missing. It is looked up as the user that it runs as, and with nothing of the host's left open.
    init.start.close_the_rest(parent, init.preserve_fds)?;
    enter_working_directory(&init.process.cwd)?;
    let found = program::find(init.process)?;
    parent.tell(&Message::Ready)?;
    init.start.wait()?;
    if let Some(hooks) = &init.spec.hooks {
        let state = State { status: Status::Created, ..init.state.clone() };
        hooks::run("startContainer", &hooks.start_container, &lifecycle::json(&state)).or_else(|e| init.start.fail(parent, e))?;
    }
    if init.process.no_new_privileges && !listens(init.filter.as_ref()) {
        load_filter(None, init.filter.as_ref()).or_else(|e| init.start.fail(parent, e))?;
    }
    because(&PROGRAM);
    process::default_signals();
    let error = program::execute(&found, init.process, init.preserve_fds);
    init.start.fail(parent, error)
}

fn new_keyring(id: &str) -> Result<()> {
    match sched::join_session_keyring(&format!("_ses.{id}")) {
        // Keys are scarce (/proc/sys/kernel/keys/maxkeys), and a kernel may have none at all or a filter may forbid them: then the
        // session keyring is nobody's.
        Err(e) if !matches!(e.errno(), nix::errno::Errno::ENOSYS | nix::errno::Errno::EDQUOT | nix::errno::Errno::EPERM) => {
            Err(Error::sys("give the container a session keyring", e))
        }
        _ => Ok(()),
    }
}

/// Hooks of the runtime's side run between the mounts and the pivot, and then those of the container's side, here.
fn container_hooks(parent: &Socket, spec: &Spec, state: &State) -> Result<()> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        parent.tell(&Message::Mounted)?;
        parent.wait_for_go()?;
    }
    hooks::run("createContainer", &hooks.create_container, &lifecycle::json(state))
}

/// A working directory that the image lacks is made, as Docker does.
fn make_working_directory(root: std::os::fd::BorrowedFd, process: &Process) -> Result<()> {
    match path::make_dirs_in(root, &process.cwd, 0o755) {
        // A read-only image: chdir(2) will say what is missing.
        Err(e) if e.errno() == nix::errno::Errno::EROFS => Ok(()),
        done => done.map(drop).doing(|| format!("make process.cwd {}", process.cwd.display())),
    }
}

fn take_streams(stdio: &Option<[OwnedFd; 3]>, console: &Option<OwnedFd>, process: &Process, new_mounts: bool) -> Result<()> {
    if let (true, Some(console)) = (process.terminal, console) {
        return terminal::open(process, console.as_fd(), new_mounts);
    }
    for (number, stream) in stdio.iter().flatten().enumerate() {
        fd::dup_onto(stream.as_fd(), number as i32).doing(|| "take the standard streams".into())?;
    }
    Ok(())
}

fn set_names(spec: &Spec) -> Result<()> {
    because(&NAMES);
    if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        namespace::sethostname(name).doing(|| format!("set hostname {name}"))?;
    }
    if let Some(name) = spec.domainname.as_deref().filter(|name| !name.is_empty()) {
        namespace::setdomainname(name).doing(|| format!("set domainname {name}"))?;
    }
    Ok(())
}

/// The last steps down. A filter can be loaded either with CAP_SYS_ADMIN, so before it is dropped, or under no_new_privs, so as late
/// as possible (seccomp(2)): then fewer calls of ours need to be allowed by it.
fn become_unprivileged(parent: &Socket, wanted: &Process, filter: Option<&seccomp::Program>) -> Result<()> {
    // What we may give is asked here, in the container's user namespace: it decides what there is to give.
    let nothing = CapabilitySets::default();
    let (sets, left_out) = capabilities::sets(wanted.capabilities.as_ref().unwrap_or(&nothing), capabilities::Ours::ask()?);
    for item in left_out {
        parent.tell(&Message::Warning(item.to_string()))?;
    }
    if wanted.no_new_privileges {
        process::no_new_privileges().doing(|| "set process.noNewPrivileges".into())?;
    }
    capabilities::apply_bounding(&sets)?;
    if !wanted.no_new_privileges || listens(filter) {
        load_filter(Some(parent), filter)?;
    }
    ids::keep_capabilities(true).doing(|| "keep capabilities over the change of user".into())?;
    users::become_user(&wanted.user)?;
    capabilities::apply(&sets)
}

fn listens(filter: Option<&seccomp::Program>) -> bool {
    filter.is_some_and(|filter| filter.notifies())
}

fn load_filter(parent: Option<&Socket>, filter: Option<&seccomp::Program>) -> Result<()> {
    use std::os::fd::AsRawFd;
    let Some(filter) = filter else { return Ok(()) };
    if let (Some(listener), Some(parent)) = (filter.load()?, parent) {
        // The parent takes its own copy of the descriptor with pidfd_getfd(2), and hands it to who wants to be asked.
        parent.tell(&Message::Listener(listener.as_raw_fd()))?;
        parent.wait_for_go()?;
    }
    Ok(())
}

/// chdir(2) as the user; then the kernel is asked where we are. A path like `/proc/self/fd/7` can lead out of the root: the answer then
/// does not begin with a slash (CVE-2024-21626).
///
/// # Errors
/// ENOENT, EACCES; Denied when it leads outside.
pub fn enter_working_directory(cwd: &Path) -> Result<()> {
    let doing = || format!("enter process.cwd {}", cwd.display());
    crate::sys::fs::chdir(cwd).doing(doing)?;
    match path::working_directory() {
        Ok(here) if here.is_absolute() => Ok(()),
        Err(e) if e.errno() != nix::errno::Errno::ENOENT => Err(Error::sys(doing(), e)),
        _ => Err(Error::new(Class::Denied, doing(), "it leads out of the container's root")),
    }
}

/// Strings as execve(2) takes them.
pub fn c_strings(words: &[String]) -> Vec<CString> {
    words.iter().filter_map(|word| CString::new(word.as_str()).ok()).collect()
}

/// What one more process in a running container needs to know: see `exec`.
pub struct Entering<'a> {
    pub process: &'a Process,
    pub linux: &'a Linux,
    pub plan: &'a Plan,
    pub parent: Socket,
    pub console: Option<OwnedFd>,
    pub stdio: Option<[OwnedFd; 3]>,
    pub filter: Option<seccomp::Program>,
    pub files: KernelFiles,
    pub start: program::Start,
    pub preserve_fds: i32,
}

/// In the child: becomes one more of the container's processes.
pub fn enter_container(entering: Entering) -> ! {
    let Err(error) = join_container(&entering);
    let _ = entering.parent.tell(&Message::Failed(Box::new(error)));
    process::exit_now(1)
}

/// [`run`] without all that the first process has done already.
fn join_container(entering: &Entering) -> Result<Infallible> {
    let parent = &entering.parent;
    parent.wait_for_go()?;
    namespaces::join(entering.plan)?;
    because(&SESSION);
    process::setsid().doing(|| "start a session".into())?;
    take_streams(&entering.stdio, &entering.console, entering.process, false)?;
    let last = entering.process.exec_cpu_affinity.as_ref().and_then(|affinity| affinity.last.as_deref());
    affinity::apply(last, "process.execCPUAffinity.final")?;
    for warning in attributes::apply(entering.process, entering.linux, &entering.files)? {
        parent.tell(&Message::Warning(warning))?;
    }
    labels::apply(entering.process, &entering.files)?;
    become_unprivileged(parent, entering.process, entering.filter.as_ref())?;
    entering.start.close_the_rest(parent, entering.preserve_fds)?;
    // The container is fine, the command can't be run: Docker's exit code 126.
    enter_working_directory(&entering.process.cwd).map_err(|e| Error { class: Class::CommandNotRunnable, ..e })?;
    let found = program::find(entering.process)?;
    parent.tell(&Message::Ready)?;
    if entering.process.no_new_privileges && !listens(entering.filter.as_ref()) {
        load_filter(None, entering.filter.as_ref()).or_else(|e| entering.start.fail(parent, e))?;
    }
    because(&PROGRAM);
    process::default_signals();
    let error = program::execute(&found, entering.process, entering.preserve_fds);
    entering.start.fail(parent, error)
}
