//! Many containers share one folder, and each writes as if it were its own: an overlay of read-only layers and a fresh one on top.
//!
//! Try it: `step-04 jar sh -c 'echo mine > /etc/motd; rm /etc/profile; ls /etc'; ls jar/etc`
//! See it: `ls -lR /run/onggi-steps/*/upper` in another shell while it runs, `grep overlay /proc/PID/mountinfo`
//! Read: mount(8) "Mount options for overlay", the kernel's filesystems/overlayfs.rst

use std::env;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, getegid, geteuid, pivot_root, sethostname};
use onggi::cli::size;
use onggi::error::{Class, Doing, Error, Result};
use onggi::id;
use onggi::sys::process::{Clone, Forked, clone3};

const NAME: &str = env!("CARGO_BIN_NAME");
const USAGE: &str = "[--memory SIZE] [--cpus NUMBER] [--pids NUMBER] LOWER[:LOWER...] COMMAND [ARG]...";
/// For the arguments of mount(2) that a call does without.
const NONE: Option<&str> = None;

/// What is asked for.
struct Request {
    /// What to write into which file of the cgroup, by the names of v2.
    limits: Vec<(&'static str, u64)>,
    /// The layers, the topmost first.
    lowers: Vec<String>,
    command: Vec<String>,
}

fn main() {
    exit(parse().and_then(|request| run(&request)).unwrap_or_else(tell))
}

fn parse() -> Result<Request> {
    let mut words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).peekable();
    let mut limits = Vec::new();
    while let Some(option) = words.next_if(|word| word.starts_with("--")) {
        let value = words.next().ok_or_else(usage)?;
        let (file, number) = match option.as_str() {
            "--memory" => ("memory.max", size::bytes(&value).ok().and_then(|bytes| bytes.try_into().ok())),
            // Microseconds of processor time in each period of 100 ms, which is the kernel's own choice.
            "--cpus" => ("cpu.max", value.parse().ok().map(|cpus: f64| (cpus * 100_000.0) as u64)),
            "--pids" => ("pids.max", value.parse().ok()),
            _ => return Err(usage()),
        };
        let wrong = || Error::invalid(format!("use {option}"), format!("{value} is no {}", if file == "memory.max" { "size" } else { "number" }));
        limits.push((file, number.filter(|number| *number > 0).ok_or_else(wrong)?));
    }
    let lowers = words.next().ok_or_else(usage)?.split(':').map(String::from).collect();
    let command: Vec<String> = words.collect();
    if command.is_empty() { Err(usage()) } else { Ok(Request { limits, lowers, command }) }
}

/// Answers the command's exit code.
fn run(request: &Request) -> Result<i32> {
    // A signal that ended us at once would leave the cgroup behind: they wait until we ask for them.
    signals().thread_block().doing(|| "block signals".into())?;
    let id = id::random()?;
    let group = limit(&request.limits, id::short(&id))?;
    let snapshot = Snapshot::make(id::short(&id))?;
    let child = isolate(request, &group, &snapshot)?;
    wait_for(child)
}

/// A cgroup for one run: a folder, or with v1 one in the tree of each controller. Dropped, it is gone.
struct Group(Vec<PathBuf>);

/// Makes the cgroup and writes the limits.
fn limit(limits: &[(&str, u64)], id: &str) -> Result<Group> {
    if !limits.is_empty() && !geteuid().is_root() {
        return Err(Error::new(Class::Denied, "limit anything", "cgroups are root's, unless systemd gives a user some (chapter 12a)"));
    }
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mut group = Group(Vec::new());
    for (file, value) in limits {
        let controller = file.trim_end_matches(".max");
        let parent = PathBuf::from("/sys/fs/cgroup").join(if v2 { "" } else { controller });
        let folder = parent.join(format!("{NAME}-{id}"));
        if v2 {
            // A group has the files of a controller only when its parent hands it down.
            put(&parent.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
        if !group.0.contains(&folder) {
            fs::create_dir(&folder).doing(|| format!("make the cgroup {}", folder.display()))?;
            group.0.push(folder.clone());
        }
        let file = match *file {
            "memory.max" if !v2 => "memory.limit_in_bytes",
            "cpu.max" if !v2 => "cpu.cfs_quota_us",
            file => file,
        };
        put(&folder.join(file), value.to_string())?;
    }
    Ok(group)
}

/// Settings of the kernel are files: what it doesn't like, write(2) refuses.
fn put(file: &Path, value: String) -> Result<()> {
    fs::write(file, &value).doing(|| format!("write {value} to {}", file.display()))
}

impl Group {
    /// Puts the calling process (0) into the group; all that it starts from then on is born there. What it sees of the tree begins here,
    /// too (cgroup_namespaces(7)).
    fn enter(&self) -> Result<()> {
        self.0.iter().try_for_each(|folder| put(&folder.join("cgroup.procs"), "0".into()))?;
        unshare(CloneFlags::CLONE_NEWCGROUP).doing(|| "make a cgroup namespace".into())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // rmdir(2) wants it without processes, and it is: with PID 1 all have ended. The files in it are the kernel's.
        self.0.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// The folders of one run: `upper` for what the command writes, `work` for overlay itself, `merged` for the two and the layers below in
/// one. Dropped, they are gone.
struct Snapshot(PathBuf);

impl Snapshot {
    fn make(id: &str) -> Result<Snapshot> {
        let snapshot = Snapshot(state_folder()?.join(id));
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

/// What is ours and short-lived is in memory: the machine's next start doesn't find it.
fn state_folder() -> Result<PathBuf> {
    let folder = if geteuid().is_root() { Ok("/run".into()) } else { env::var("XDG_RUNTIME_DIR") };
    let missing = |_| Error::invalid("find a place for short-lived files", "XDG_RUNTIME_DIR is not set");
    Ok(Path::new(&folder.map_err(missing)?).join("onggi-steps"))
}

/// Mounts the layers over each other. Only this mount namespace has the mount, so nobody has to take it away.
fn stack(lowers: &[String], snapshot: &Snapshot, in_user_namespace: bool) -> Result<PathBuf> {
    let mut below = Vec::new();
    for lower in lowers {
        let path = fs::canonicalize(lower).doing(|| format!("use the layer {lower}"))?;
        // In the options of overlay these letters mean something.
        below.push(path.to_string_lossy().replace('\\', r"\\").replace(':', r"\:").replace(',', r"\,"));
    }
    let (upper, work, merged) = (snapshot.0.join("upper"), snapshot.0.join("work"), snapshot.0.join("merged"));
    // What overlay notes down on files goes into their extended attributes: into `trusted.*` as root, which a user may not write.
    let xattr = if in_user_namespace { ",userxattr" } else { "" };
    let options = format!("lowerdir={},upperdir={},workdir={}{xattr}", below.join(":"), upper.display(), work.display());
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str())).doing(|| format!("stack {}", lowers.join(" on ")))?;
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
    match clone3(&Clone { flags: kinds.bits() as u64, cgroup: None }).doing(|| "make namespaces".into())? {
        Forked::Parent { pid, .. } => Ok(Pid::from_raw(pid)),
        Forked::Child => exit(inside(request, group, snapshot, uid, gid).unwrap_or_else(tell)),
    }
}

/// The child's half, in the order that the kernel demands.
fn inside(request: &Request, group: &Group, snapshot: &Snapshot, uid: u32, gid: u32) -> Result<i32> {
    // With us it ends, and with PID 1 its whole PID namespace: whatever happens, nobody is left (PR_SET_PDEATHSIG(2const)).
    set_pdeathsig(Signal::SIGKILL).doing(|| "end with the parent".into())?;
    signals().thread_unblock().doing(|| "unblock signals".into())?;
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

/// Waits for the child's end. Answers its exit code; 128+n when signal n ended it, or us.
fn wait_for(child: Pid) -> Result<i32> {
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).doing(|| "wait for the command".into())? {
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as i32),
            WaitStatus::Exited(_, code) => return Ok(code),
            _ => {}
        }
        let signal = signals().wait().doing(|| "wait for a signal".into())?;
        if signal != Signal::SIGCHLD {
            // We are to end. PID 1 gets no signal that it doesn't handle, except this one (pid_namespaces(7)).
            kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None)).doing(|| "end the command".into())?;
            return Ok(128 + signal as i32);
        }
    }
}

/// What wakes us: the child has changed, or somebody wants us to end.
fn signals() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM].into_iter().collect()
}

fn usage() -> Error {
    Error::invalid("begin", format!("usage: {NAME} {USAGE}"))
}

/// One line. Exit code 125 is for our own failures, 126 and 127 are for the command's, as in a shell.
fn tell(error: Error) -> i32 {
    eprintln!("{NAME}: {}", error.one_line());
    error.exit_code().into()
}
