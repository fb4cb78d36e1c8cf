//! Many containers share one folder, and each writes as if it were its own: an overlay of read-only layers and a fresh one on top.
//!
//! Try it: `step-04 jar sh -c 'echo mine > /etc/motd; rm /etc/profile; ls /etc'; ls jar/etc`
//! See it: `ls -lR /run/onggi-steps/*/upper` in another shell while it runs, `grep overlay /proc/PID/mountinfo`
//! Read: mount(8) "Mount options for overlay", the kernel's filesystems/overlayfs.rst

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use clap::Parser;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, chdir, getegid, geteuid, pivot_root, sethostname};
use onggi::cli::limits::LimitArgs;
use onggi::error::{Class, Doing, Error, Result};
use onggi::id;
use onggi::sys::process::{Clone, Forked, clone3};
use onggi::workshop::steps::{self, Group};

const NAME: &str = env!("CARGO_BIN_NAME");
/// For the arguments of mount(2) that a call does without.
const NONE: Option<&str> = None;

/// What is asked for.
#[derive(Parser)]
#[command(infer_long_args = true)]
struct Request {
    #[command(flatten)]
    limits: LimitArgs,
    /// The layers, the topmost first
    #[arg(value_name = "LOWER[:LOWER...]")]
    lowers: String,
    /// What to run
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

fn main() {
    exit(steps::arguments().and_then(|request| run(&request)).unwrap_or_else(|error| steps::tell(NAME, &error)))
}

/// Answers the command's exit code.
fn run(request: &Request) -> Result<i32> {
    // A signal that ended us at once would leave the cgroup behind: they wait until we ask for them.
    steps::signals().thread_block().doing(|| "block signals".into())?;
    let id = id::random()?;
    let group = steps::limit(&request.limits, &format!("{NAME}-{}", id::short(&id)))?;
    let snapshot = Snapshot::make(id::short(&id))?;
    let child = isolate(request, &group, &snapshot)?;
    steps::wait_for(child)
}

/// The folders of one run: `upper` for what the command writes, `work` for overlay itself, `merged` for the two and the layers below in
/// one. Dropped, they are gone.
struct Snapshot(PathBuf);

impl Snapshot {
    fn make(id: &str) -> Result<Snapshot> {
        let snapshot = Snapshot(steps::folder(id)?);
        // Others stay out, for there may be secrets and setuid programs. Only the mode of upper is seen inside: it becomes that of `/`.
        for (name, mode) in [("", 0o700), ("upper", 0o755), ("work", 0o700), ("merged", 0o700)] {
            let folder = snapshot.0.join(name);
            let made = fs::create_dir_all(&folder).and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(mode)));
            made.doing(|| format!("make {}", folder.display()))?;
        }
        Ok(snapshot)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        clear(&self.0);
    }
}

/// Removes a folder with all that is in it, also below folders that let nobody in, such as overlay's own in `work`.
fn clear(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) { clear(&entry.path()) } else { drop(fs::remove_file(entry.path())) }
    }
    let _ = fs::remove_dir(folder);
}

/// Mounts the layers over each other. Only this mount namespace has the mount, so nobody has to take it away.
fn stack(lowers: &str, snapshot: &Snapshot, in_user_namespace: bool) -> Result<PathBuf> {
    let mut below = Vec::new();
    for lower in lowers.split(':') {
        let path = fs::canonicalize(lower).doing(|| format!("use the layer {lower}"))?;
        // In the options of overlay these letters mean something.
        below.push(path.to_string_lossy().replace('\\', r"\\").replace(':', r"\:").replace(',', r"\,"));
    }
    let (upper, work, merged) = (snapshot.0.join("upper"), snapshot.0.join("work"), snapshot.0.join("merged"));
    // What overlay notes down on files goes into their extended attributes: into `trusted.*` as root, which a user may not write.
    let xattr = if in_user_namespace { ",userxattr" } else { "" };
    let options = format!("lowerdir={},upperdir={},workdir={}{xattr}", below.join(":"), upper.display(), work.display());
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str())).doing(|| format!("stack {lowers}"))?;
    Ok(merged)
}

/// Makes a child whose namespaces are its own: it becomes the command, and is PID 1 for itself.
fn isolate(request: &Request, group: &Group, snapshot: &Snapshot) -> Result<Pid> {
    let mut kinds = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    kinds |= CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if uid != 0 {
        // The other kinds ask for CAP_SYS_ADMIN; whoever makes a user namespace has it there (user_namespaces(7)).
        kinds |= CloneFlags::CLONE_NEWUSER;
    }
    // With v2 it is born in its group, those of v1 it enters by itself.
    let birthplace = group.birthplace()?;
    let plan = Clone { flags: kinds.bits() as u64, cgroup: birthplace.as_ref().map(|group| group.as_fd()) };
    match clone3(&plan).doing(|| "make namespaces".into())? {
        Forked::Parent { pid, .. } => Ok(Pid::from_raw(pid)),
        Forked::Child => exit(inside(request, group, snapshot, uid, gid).unwrap_or_else(|error| steps::tell(NAME, &error))),
    }
}

/// The child's half, in the order that the kernel demands.
fn inside(request: &Request, group: &Group, snapshot: &Snapshot, uid: u32, gid: u32) -> Result<i32> {
    // With us it ends, and with PID 1 its whole PID namespace: whatever happens, nobody is left (PR_SET_PDEATHSIG(2const)).
    set_pdeathsig(Signal::SIGKILL).doing(|| "end with the parent".into())?;
    steps::signals().thread_unblock().doing(|| "unblock signals".into())?;
    if uid != 0 {
        become_root(uid, gid).doing(|| "become root of the user namespace".into())?;
    }
    group.enter()?;
    sethostname("jar").doing(|| "set the host name".into())?;
    // The mounts are copies, but a shared one passes on what happens to it: none of ours shall reach the host (mount_namespaces(7)).
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).doing(|| "cut the mounts off from the host's".into())?;
    let rootfs = stack(&request.lowers, snapshot, uid != 0)?;
    pivot(&rootfs).doing(|| format!("make {} the root", rootfs.display()))?;
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
fn pivot(rootfs: &Path) -> nix::Result<()> {
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
