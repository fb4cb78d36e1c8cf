//! What the later steps take for granted: arguments, errors, limits, the image, the root with all that belongs there. Each concept was
//! spelled out in an earlier step; here the engine's own rooms do it, so that the step shows what is its own.
//!
//! See it: `steps/`, `ls -l /run/onggi-steps`. Read: the book, chapters 01 to 05.

pub mod container;
pub mod state;
pub mod words;

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid};

use crate::cli::limits::LimitArgs;
use crate::engine::config::changed_resources;
use crate::engine::rootless;
use crate::error::{Class, Doing, Error, Result};
use crate::image::resolve::{self, Image};
use crate::image::snapshot::{self, Mounted, Prepared};
use crate::image::{load, store::Store};
use crate::runtime::cgroups::{self, Place};
use crate::runtime::spec::{Linux, Spec};
use crate::runtime::{default_spec, devices, mounts, rootfs, users};
use crate::sys::namespace::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, unshare};
use crate::sys::process;

/// Where programs are, for images that don't say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The words of the command line, and this process as it shall be for all that follows: root, if need be of a user namespace
/// (chapter 02a; [`rootless::leave`] is to be called in the end), and with the usual umask.
///
/// # Errors
/// Invalid, told in one line; Denied where the host forbids user namespaces.
pub fn begin<T: Parser>(name: &str) -> Result<T> {
    let words = arguments()?;
    rootless::enter(&mut |warning| eprintln!("{name}: {warning}"))?;
    process::set_name(&crate::sys::c_string(name).doing(|| "name this process".into())?);
    process::umask(0o022);
    Ok(words)
}

/// The words of the command line alone.
///
/// # Errors
/// Invalid, told in one line.
pub fn arguments<T: Parser>() -> Result<T> {
    T::try_parse().map_err(|e| if e.use_stderr() { Error::invalid("begin", first_words(&e)) } else { e.exit() })
}

/// What clap says, in one line: what is wrong, or where a verb is missing, how it is used.
fn first_words(e: &clap::Error) -> String {
    let text = e.to_string();
    let mut parts = text.split("\n\n");
    let part = parts.find(|part| part.starts_with("error: ") || part.starts_with("Usage: ")).unwrap_or(&text);
    part.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads what is asked for, does it, and ends with the exit code.
pub fn main<T: Parser>(name: &str, act: impl FnOnce(T) -> Result<i32>) -> ! {
    let code = begin(name).and_then(act).unwrap_or_else(|error| tell(name, &error));
    rootless::leave();
    std::process::exit(code)
}

/// Says why not, in one line. Answers the exit code: 125 is for our own failures, 126 and 127 are for the command's, as in a shell.
pub fn tell(name: &str, error: &Error) -> i32 {
    // What a library says to a file may go on with the file.
    eprintln!("{name}: {}", error.one_line().lines().next().unwrap_or_default());
    error.exit_code().into()
}

/// A folder for what is short-lived, made where there is none; others stay out of it, for there may be secrets and setuid programs.
///
/// # Errors
/// Invalid for a user without XDG_RUNTIME_DIR; EACCES, ENOSPC.
pub fn folder(name: impl AsRef<Path>) -> Result<PathBuf> {
    let parent = if is_rootless() { std::env::var("XDG_RUNTIME_DIR") } else { Ok("/run".into()) };
    let parent = parent.map_err(|_| Error::invalid("find a place for short-lived files", "XDG_RUNTIME_DIR is not set"))?;
    let folder = Path::new(&parent).join("onggi-steps").join(name);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).doing(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

fn is_rootless() -> bool {
    !geteuid().is_root() || users::in_user_namespace()
}

/// Holds one of these folders until dropped (flock(2)): for what only one at a time may do.
///
/// # Errors
/// As [`folder`].
pub fn hold(name: &str) -> Result<File> {
    let file = File::open(folder(name)?).doing(|| format!("open the folder of {name}"))?;
    file.lock().doing(|| format!("wait for {name}")).map(|()| file)
}

/// The image in a layout of the OCI, unpacked (chapter 05).
///
/// # Errors
/// NotFound, and Invalid for what is no image.
pub fn image(layout: &Path) -> Result<Image> {
    let store = Store::open(&folder("images")?)?;
    // Nothing is ever removed from this store: nobody has to say which layers are in use.
    let users = || Err(Error::invalid("remove layers", "who uses them is not known"));
    let loaded = match layout.is_dir() {
        true => load::folder(&store, layout, &users)?,
        false => load::archive(&store, File::open(layout).doing(|| format!("open the image {}", layout.display()))?, &users)?,
    };
    let first = loaded.first().ok_or_else(|| Error::invalid("run the image", "there is none in it"))?;
    resolve::resolve(&store, first.id.as_str())
}

/// The cgroup of one run, where it has one (chapter 03). Dropped, it is gone.
#[must_use]
pub struct Group(Option<Place>);

/// Makes the group of this name in the uppermost one, and writes the limits.
///
/// # Errors
/// Denied for limits where no group may be made; what the kernel says to a limit.
pub fn limit(limits: &LimitArgs, name: &str) -> Result<Group> {
    let resources = changed_resources(&limits.limits()?);
    let (layout, path, rootless) = (cgroups::detect()?, format!("/{name}"), is_rootless());
    let cgroups_path = (!rootless).then_some(path.as_str());
    let request = cgroups::Request { layout: &layout, cgroups_path, id: name, systemd: false, rootless, limits: cgroups::limits(&resources) };
    let mut group = Group(cgroups::place(&request)?);
    if let Some(place) = &mut group.0 {
        cgroups::create(place, &resources)?.keep();
        cgroups::apply(place, &resources, false)?;
    }
    Ok(group)
}

impl Group {
    /// Where it is, for a record on disk.
    pub fn place(&self) -> Option<Place> {
        self.0.clone()
    }

    /// The group of v2, for a child to be born in.
    ///
    /// # Errors
    /// ENOENT when it is gone.
    pub fn birthplace(&self) -> Result<Option<OwnedFd>> {
        self.0.as_ref().map_or(Ok(None), cgroups::dir_fd)
    }

    /// The calling process goes into the groups of v1, and sees its own group as the whole tree from then on.
    ///
    /// # Errors
    /// EACCES.
    pub fn enter(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), cgroups::enter_legacy)?;
        unshare(CLONE_NEWCGROUP).doing(|| "make a cgroup namespace".into())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.0.iter().for_each(|place| drop(cgroups::remove(place)));
    }
}

/// Where the steps from 07 on add their part to a container's life: the places at which the OCI's runtime specification has hooks
/// (config.md).
pub trait Hooks {
    /// In the monitor: the child has its namespaces, and waits.
    ///
    /// # Errors
    /// Those of the step; then there is no container.
    fn create_runtime(&mut self, _child: Pid) -> Result<()> {
        Ok(())
    }

    /// In the child: all is mounted below `root`, and the host's files are still within reach.
    ///
    /// # Errors
    /// Those of the step; then there is no container.
    fn create_container(&self, _root: BorrowedFd) -> Result<()> {
        Ok(())
    }

    /// In PID 1, and in the command: the last thing before the image's programs run.
    ///
    /// # Errors
    /// Those of the step; then nothing runs.
    fn start_container(&self) -> Result<()> {
        Ok(())
    }

    /// In the monitor: all have ended.
    fn poststop(&mut self) {}
}

/// Makes a child whose namespaces are its own (chapter 02), in the group. It does `inside`, and ends with the exit code.
///
/// # Errors
/// EPERM, ENOSPC for one namespace too many.
pub fn isolate(name: &str, group: &Group, inside: impl FnOnce() -> Result<i32>) -> Result<Pid> {
    let flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC;
    // With v2 it is born in its group, those of v1 it enters by itself.
    let birthplace = group.birthplace()?;
    let plan = process::Clone { flags, cgroup: birthplace.as_ref().map(AsFd::as_fd) };
    match process::clone3(&plan).doing(|| "make namespaces".into())? {
        process::Forked::Parent { pid, .. } => Ok(Pid::from_raw(pid)),
        process::Forked::Child => std::process::exit(inside().unwrap_or_else(|error| tell(name, &error))),
    }
}

/// Waits for a child's end (chapter 03), with [`signals`] blocked. Answers its exit code; 128+n when signal n ended it, or us.
///
/// # Errors
/// ECHILD.
pub fn wait_for(child: Pid) -> Result<i32> {
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
pub fn signals() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM].into_iter().collect()
}

/// In a mount namespace of its own: the layers are stacked (chapter 04), /proc, /dev and /sys are made in them, and `more` adds what it
/// likes. Then they are the root (chapter 02). `work` is the folder that was prepared.
///
/// # Errors
/// What the kernel says to a mount.
pub fn furnish(work: &Path, prepared: &Prepared, group: &Group, more: impl FnOnce(&OwnedFd) -> Result<()>) -> Result<()> {
    let linux = Linux::default();
    let place = work.join("merged");
    let root = match snapshot::mount(prepared)? {
        Mounted::Overlay(mount) => {
            DirBuilder::new().recursive(true).create(&place).doing(|| format!("make {}", place.display()))?;
            rootfs::prepare(&place, Some(&mount), &linux)?
        }
        Mounted::Copied { path, .. } => rootfs::prepare(&path, None, &linux)?,
    };
    let spec = Spec { mounts: default_spec::mounts(default_spec::one_group_only(), false), ..Spec::default() };
    let prepared = spec.mounts.iter().map(|_| mounts::Prepared::default()).collect();
    mounts::make(&mounts::Context { spec: &spec, bundle: work, root: root.as_fd(), cgroup: group.0.as_ref(), prepared })?;
    devices::make(root.as_fd(), &spec, users::in_user_namespace())?;
    more(&root)?;
    rootfs::pivot(root.as_fd(), false, &linux)
}

/// Becomes the command: same process, same PID, another program. Comes back only to say why not.
///
/// # Errors
/// CommandNotFound, CommandNotRunnable.
pub fn execute(command: &[String], env: &[String]) -> Result<i32> {
    let env = env.iter().filter_map(|pair| pair.split_once('='));
    let error = Command::new(&command[0]).args(&command[1..]).env_clear().env("PATH", PATH).envs(env).exec();
    let class = if error.kind() == ErrorKind::NotFound { Class::CommandNotFound } else { Class::CommandNotRunnable };
    Err(Error::io(format!("run {}", command[0]), &error).class(class))
}
