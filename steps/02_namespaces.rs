//! One command sees processes, mounts, names and network devices of its own: new namespaces, and a root that it can't leave.
//!
//! Try it: `step-02 jar sh -c 'hostname; ps; ip link'`
//! See it: `lsns -p PID`, `ls -l /proc/PID/ns` in another shell, PID being the command's outside (`pgrep -P $(pidof step-02)`)
//! Read: namespaces(7), pid_namespaces(7), user_namespaces(7), clone(2), pivot_root(2)

use std::env;
use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, getegid, geteuid, pivot_root, sethostname};
use onggi::sys::process::{Clone, Forked, clone3};

const NAME: &str = env!("CARGO_BIN_NAME");
const USAGE: &str = "ROOTFS COMMAND [ARG]...";
/// For the arguments of mount(2) that a call does without.
const NONE: Option<&str> = None;

/// Why it can't be, and the exit code that says so: 125 is for this program's own failures, 126 and 127 are for the command's.
struct Failure(i32, String);
type Result<T> = std::result::Result<T, Failure>;

/// What is asked for.
struct Request {
    rootfs: String,
    command: Vec<String>,
}

fn main() {
    exit(parse().and_then(|request| run(&request)).unwrap_or_else(tell))
}

fn parse() -> Result<Request> {
    let mut words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let rootfs = words.next().ok_or_else(usage)?;
    let command: Vec<String> = words.collect();
    if command.is_empty() {
        return Err(usage());
    }
    Ok(Request { rootfs, command })
}

/// Answers the command's exit code.
fn run(request: &Request) -> Result<i32> {
    let child = isolate(request)?;
    wait_for(child)
}

/// Makes a child whose namespaces are its own: it becomes the command, and is PID 1 for itself.
fn isolate(request: &Request) -> Result<Pid> {
    let mut kinds = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    let (uid, gid) = (geteuid(), getegid());
    if !uid.is_root() {
        // The other kinds ask for CAP_SYS_ADMIN; whoever makes a user namespace has it there (user_namespaces(7)).
        kinds |= CloneFlags::CLONE_NEWUSER;
    }
    match clone3(&Clone { flags: kinds.bits() as u64, cgroup: None }).map_err(failed("make namespaces"))? {
        Forked::Parent { pid, .. } => Ok(Pid::from_raw(pid)),
        Forked::Child => exit(inside(request, uid.as_raw(), gid.as_raw()).unwrap_or_else(tell)),
    }
}

/// The child's half, in the order that the kernel demands.
fn inside(request: &Request, uid: u32, gid: u32) -> Result<i32> {
    // With us it ends, and with PID 1 all of its PID namespace: whatever happens, nobody is left (PR_SET_PDEATHSIG(2const)).
    set_pdeathsig(Signal::SIGKILL).map_err(failed("end with the parent"))?;
    if uid != 0 {
        become_root(uid, gid).map_err(failed("become root of the user namespace"))?;
    }
    sethostname("jar").map_err(failed("set the host name"))?;
    // Mounts are copied with the namespace, and shared ones pass on what happens to them: ours must not reach the host.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).map_err(failed("cut the mounts off from the host's"))?;
    pivot(&request.rootfs).map_err(failed(format!("make {} the root", request.rootfs)))?;
    Err(execute(&request.command))
}

/// Who we are outside is root inside. One id may be mapped without any privilege, if setgroups(2) is given up for it: a group can also
/// *deny* access, and nobody shall get rid of one that way (user_namespaces(7)).
fn become_root(uid: u32, gid: u32) -> std::io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Makes `rootfs` the root of this mount namespace, and unmounts the old one: unlike after chroot(2) there is nothing to go back to.
fn pivot(rootfs: &str) -> nix::Result<()> {
    // pivot_root(2) demands that new_root be a mount point; a folder becomes one when bound onto itself.
    mount(Some(rootfs), rootfs, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    chdir(rootfs)?;
    // The old root goes on top of the new one, so that no folder is needed for it (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".")?;
    // It shows the PID namespace of who mounts it. A user namespace may, as long as the host's own /proc is still in sight.
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, NONE)?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

/// Becomes the command: same process, same PID, other program. Comes back only to say why not.
fn execute(command: &[String]) -> Failure {
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    Failure(code, format!("{}: {error}", command[0]))
}

/// Waits for the child's end. Answers its exit code; 128+n when signal n ended it.
fn wait_for(child: Pid) -> Result<i32> {
    match waitpid(child, None).map_err(failed("wait for the command"))? {
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
        WaitStatus::Exited(_, code) => Ok(code),
        other => Err(Failure(125, format!("wait for the command: {other:?}"))),
    }
}

fn usage() -> Failure {
    Failure(125, format!("usage: {NAME} {USAGE}"))
}

/// For `map_err`: what was tried, and then what the kernel says.
fn failed<E: Display>(tried: impl Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure(125, format!("{tried}: {error}"))
}

fn tell(Failure(code, why): Failure) -> i32 {
    eprintln!("{NAME}: {why}");
    code
}
