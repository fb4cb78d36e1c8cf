//! One command sees processes, mounts, names and network devices of its own: new namespaces, and a root that nothing leads out of.
//!
//! Try it: `step-02 jar sh -c 'hostname; ps; ip link'`
//! See it: `lsns -p PID`, `ls -l /proc/PID/ns` in another shell, PID being the command's outside (`pgrep -P $(pidof step-02)`)
//! Read: namespaces(7), pid_namespaces(7), user_namespaces(7), clone(2), pivot_root(2)

use std::env;
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
use onggi::error::{Class, Doing, Error, Result};
use onggi::sys::process::{Clone, Forked, clone3};

const NAME: &str = env!("CARGO_BIN_NAME");
const USAGE: &str = "ROOTFS COMMAND [ARG]...";
/// For the arguments of mount(2) that a call does without.
const NONE: Option<&str> = None;

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
    if command.is_empty() { Err(usage()) } else { Ok(Request { rootfs, command }) }
}

/// Answers the command's exit code.
fn run(request: &Request) -> Result<i32> {
    let child = isolate(request)?;
    wait_for(child)
}

/// Makes a child whose namespaces are its own: it becomes the command, and is PID 1 for itself.
fn isolate(request: &Request) -> Result<Pid> {
    let mut kinds = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    kinds |= CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if uid != 0 {
        // The other kinds ask for CAP_SYS_ADMIN; whoever makes a user namespace has it there (user_namespaces(7)).
        kinds |= CloneFlags::CLONE_NEWUSER;
    }
    match clone3(&Clone { flags: kinds.bits() as u64, cgroup: None }).doing(|| "make namespaces".into())? {
        Forked::Parent { pid, .. } => Ok(Pid::from_raw(pid)),
        Forked::Child => exit(inside(request, uid, gid).unwrap_or_else(tell)),
    }
}

/// The child's half, in the order that the kernel demands.
fn inside(request: &Request, uid: u32, gid: u32) -> Result<i32> {
    // With us it ends, and with PID 1 its whole PID namespace: whatever happens, nobody is left (PR_SET_PDEATHSIG(2const)).
    set_pdeathsig(Signal::SIGKILL).doing(|| "end with the parent".into())?;
    if uid != 0 {
        become_root(uid, gid).doing(|| "become root of the user namespace".into())?;
    }
    sethostname("jar").doing(|| "set the host name".into())?;
    // The mounts are copies, but a shared one passes on what happens to it: none of ours shall reach the host (mount_namespaces(7)).
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).doing(|| "cut the mounts off from the host's".into())?;
    pivot(&request.rootfs).doing(|| format!("make {} the root", request.rootfs))?;
    execute(&request.command)
}

/// Who we are outside is root inside. A single id may be mapped without privilege if setgroups(2) is given up: a group can also be one
/// that *denies*, and nobody shall get rid of it that way (user_namespaces(7)).
fn become_root(uid: u32, gid: u32) -> std::io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Makes `rootfs` the root of this mount namespace and unmounts the old one: unlike after chroot(2), there is nothing to go back to.
fn pivot(rootfs: &str) -> nix::Result<()> {
    // pivot_root(2) demands that new_root be a mount point; a folder becomes one when bound onto itself.
    mount(Some(rootfs), rootfs, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    chdir(rootfs)?;
    // The old root comes to lie on top of the new one, so that it needs no folder of its own (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".")?;
    // It shows the PID namespace of who mounts it. In a user namespace that is allowed while the host's own is still in sight.
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, NONE)?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

/// Becomes the command: same process, same PID, another program. Comes back only to say why not.
fn execute(command: &[String]) -> Result<i32> {
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    let class = if error.kind() == ErrorKind::NotFound { Class::CommandNotFound } else { Class::CommandNotRunnable };
    Err(Error::io(format!("run {}", command[0]), &error).class(class))
}

/// Waits for the child's end. Answers its exit code; 128+n when signal n ended it.
fn wait_for(child: Pid) -> Result<i32> {
    match waitpid(child, None).doing(|| "wait for the command".into())? {
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
        WaitStatus::Exited(_, code) => Ok(code),
        other => Err(Error::new(Class::System, "wait for the command", format!("{other:?}"))),
    }
}

fn usage() -> Error {
    Error::invalid("begin", format!("usage: {NAME} {USAGE}"))
}

/// One line. Exit code 125 is for our own failures, 126 and 127 are for the command's, as in a shell.
fn tell(error: Error) -> i32 {
    eprintln!("{NAME}: {}", error.one_line());
    error.exit_code().into()
}
