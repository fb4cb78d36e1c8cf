//! What a container's programs see of files, as one descriptor: its root directory.
//!
//! ```text
//! running     /proc/PID/root         its own mounts, volumes and tmpfs among them
//! otherwise   the layers, stacked    mounted for us alone, with its volumes on it
//! ```
//! A mount that nobody else shall see needs a mount namespace: a child makes one, mounts there, and sends back the root and the namespace
//! itself, which lives as long as its descriptor. No program of the container runs for it and nothing is left to unmount.
//!
//! See it: `ls -l /proc/P/root`. Read: proc_pid_root(5), mount_namespaces(7), open_tree(2), move_mount(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::engine::record::Held;
use crate::engine::request::Volume;
use crate::error::{Class, Doing, Error, Result};
use crate::image::snapshot::{self, Mounted};
use crate::runtime::mounts::place_for;
use crate::runtime::state::ProcessId;
use crate::sys::namespace::{CLONE_NEWNS, setns};
use crate::sys::process::{self, Clone, Forked};
use crate::sys::{fd, mount, path};

/// A tree of files that is looked at through its root.
pub struct View {
    root: OwnedFd,
    /// Keeps the mounts below the root where they are.
    _namespace: Option<OwnedFd>,
    read_only: bool,
    /// Keeps a container that doesn't run from being started meanwhile.
    _held: Option<Held>,
}

/// What a container that doesn't run is stacked from.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Its folder.
    pub dir: &'a Path,
    /// The folders of its image's layers, the lowest first.
    pub layers: &'a [PathBuf],
    pub mounts: &'a [Volume],
    /// Its volumes, open, with the places where they belong.
    pub volumes: &'a [(PathBuf, OwnedFd)],
    /// It may not write to its root.
    pub read_only: bool,
    /// Something shall be written: its lock is held.
    pub writes: bool,
}

impl View {
    /// The host's own files.
    ///
    /// # Errors
    /// EMFILE.
    pub fn host() -> Result<View> {
        View::plain(Path::new("/"))
    }

    /// What a running container sees; None when it has just ended.
    ///
    /// # Errors
    /// EACCES.
    pub fn running(init: &ProcessId) -> Result<Option<View>> {
        let doing = || format!("open the root of process {}", init.pid);
        let Some(_handle) = init.open().doing(doing)? else { return Ok(None) };
        let root = match path::open_root(Path::new(&format!("/proc/{}/root", init.pid))) {
            Err(_) if !init.lives() => return Ok(None),
            root => root.doing(doing)?,
        };
        // Asked again behind the open: the number may have become a stranger's in between.
        Ok(init.lives().then(|| View::new(root)))
    }

    /// What a container that doesn't run would see. Its lock is to be held as long as something is written: of two mounts of one upper
    /// directory, each would know nothing of what the other writes.
    ///
    /// # Errors
    /// NotFound when a layer is missing, EPERM, ENOSPC.
    pub fn at_rest(parts: Parts) -> Result<View> {
        let mut fds = mounted(&parts, |mounted| in_namespace(|| attach(mounted, &parts)))?.into_iter();
        match (fds.next(), fds.next()) {
            (Some(root), namespace @ Some(_)) => Ok(View { _namespace: namespace, read_only: parts.read_only, ..View::new(root) }),
            _ => Err(Error::new(Class::System, "look at the container's files", "not all came")),
        }
    }

    /// The layers of a container that doesn't run, without its volumes.
    ///
    /// # Errors
    /// As [`View::at_rest`].
    pub fn layers_at_rest(parts: Parts) -> Result<View> {
        mounted(&parts, |mounted| match mounted {
            Mounted::Overlay(root) => Ok(View { read_only: parts.read_only, ..View::new(root) }),
            Mounted::Copied { path, .. } => View::plain(&path),
        })
    }

    /// The root mount of a running container without what is mounted on it; None when it has just ended.
    ///
    /// # Errors
    /// EPERM.
    pub fn layers_of_running(init: &ProcessId) -> Result<Option<View>> {
        let doing = || format!("enter the mounts of process {}", init.pid);
        let Some(handle) = init.open().doing(doing)? else { return Ok(None) };
        let cloned = in_namespace(|| {
            setns(handle.as_fd(), CLONE_NEWNS).doing(doing)?;
            // Of its whole tree of mounts just the first.
            mount::clone_tree(None, Path::new("/"), false).doing(|| "copy the root mount".into()).map(|root| vec![root])
        });
        match cloned {
            Err(_) if !init.lives() => Ok(None),
            cloned => cloned.map(|mut fds| fds.pop()).map(|root| root.map(View::new)),
        }
    }

    fn plain(root: &Path) -> Result<View> {
        path::open_root(root).doing(|| format!("open {}", root.display())).map(View::new)
    }

    fn new(root: OwnedFd) -> View {
        View { root, _namespace: None, read_only: false, _held: None }
    }

    /// The same, with the right to change the container for as long as it lasts.
    pub fn holding(self, held: Held) -> View {
        View { _held: Some(held), ..self }
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Refuses a folder that its container may not write to.
    ///
    /// # Errors
    /// Denied, in Docker's words.
    pub fn check_writable(&self, folder: BorrowedFd, path: &Path, doing: &str) -> Result<()> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let on_root = path::openat2(self.root(), path, flags, 0, path::RESOLVE_IN_ROOT | path::RESOLVE_NO_MAGICLINKS | path::RESOLVE_NO_XDEV).is_ok();
        let mounted_so = mount::is_read_only(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd()))).doing(|| doing.into())?;
        match (on_root, mounted_so || on_root && self.read_only) {
            (_, false) => Ok(()),
            (true, true) => Err(Error::new(Class::Denied, doing, "container rootfs is marked read-only")),
            (false, true) => Err(Error::new(Class::Denied, doing, "mounted volume is marked read-only")),
        }
    }
}

/// The layers, mounted for as long as `use_it` needs to hold them.
fn mounted<T>(parts: &Parts, use_it: impl FnOnce(Mounted) -> Result<T>) -> Result<T> {
    if parts.writes {
        return use_it(snapshot::mount(&snapshot::prepare(parts.layers, parts.dir)?)?);
    }
    let prepared = snapshot::prepare_to_read(parts.layers, parts.dir)?;
    let used = snapshot::mount(&prepared).and_then(use_it);
    // Whoever reads needs it no more, and nobody else knows it.
    let _ = std::fs::remove_dir_all(&prepared.work);
    used
}

/// Runs `work` in a child with a mount namespace of its own, and answers the descriptors that it found there.
///
/// # Errors
/// Those of `work`; EPERM.
pub fn in_namespace(work: impl FnOnce() -> Result<Vec<OwnedFd>>) -> Result<Vec<OwnedFd>> {
    let doing = || "look into the container from a process of its own".to_string();
    let (ours, theirs) = fd::message_pair().doing(doing)?;
    match process::clone3(&Clone { flags: CLONE_NEWNS, ..Clone::default() }).doing(doing)? {
        Forked::Child => {
            drop(ours);
            let sent = match work() {
                Ok(fds) => fd::send(theirs.as_fd(), b"{}", &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>()),
                Err(error) => fd::send(theirs.as_fd(), &serde_json::to_vec(&error).unwrap_or_default(), &[]),
            };
            process::exit_now(i32::from(sent.is_err()))
        }
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            let (message, fds) = fd::receive(ours.as_fd()).doing(doing)?;
            process::wait(pidfd.as_fd()).doing(doing)?;
            match fds.is_empty() {
                false => Ok(fds),
                true => Err(serde_json::from_slice(&message).unwrap_or_else(|_| Error::new(Class::System, doing(), "it ended without a word"))),
            }
        }
    }
}

/// In the child: the layers on the container's folder, and on them what is mounted from outside.
fn attach(mounted: Mounted, parts: &Parts) -> Result<Vec<OwnedFd>> {
    // Nothing made here may travel back to the host.
    mount::mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, None).doing(|| "make the mounts private".into())?;
    let mut binds: Vec<(PathBuf, PathBuf, bool)> =
        ["hosts", "hostname", "resolv.conf"].iter().map(|name| (parts.dir.join(name), Path::new("/etc").join(name), false)).collect();
    for volume in parts.mounts {
        if let Volume::Bind { source, target, read_only, .. } = volume {
            binds.push((source.clone(), target.clone(), *read_only));
        }
    }
    // Opened before the layers cover the folder that some of them are in.
    let mut sources = Vec::new();
    for (source, target, is_read_only) in binds.into_iter().filter(|(source, ..)| source.exists()) {
        let tree = mount::clone_tree(None, &source, true).doing(|| format!("bind {}", source.display()))?;
        if is_read_only {
            read_only(&tree, &target)?;
        }
        sources.push((tree, target));
    }
    for (target, tree) in parts.volumes {
        let tree = fd::duplicate(tree.as_fd()).doing(|| format!("mount {}", target.display()))?;
        if parts.mounts.iter().any(|mount| matches!(mount, Volume::Named(named) if named.target == *target && named.read_only)) {
            read_only(&tree, target)?;
        }
        sources.push((tree, target.clone()));
    }
    // A volume inside another one after it.
    sources.sort_by_key(|(_, target)| target.components().count());
    let layers = match mounted {
        Mounted::Overlay(layers) => layers,
        Mounted::Copied { path, .. } => mount::clone_tree(None, &path, false).doing(|| format!("bind {}", path.display()))?,
    };
    let open = || path::open_root(parts.dir).doing(|| format!("open {}", parts.dir.display()));
    mount::move_mount(layers.as_fd(), open()?.as_fd()).doing(|| "mount the layers".into())?;
    let root = open()?;
    for (tree, target) in sources {
        let is_folder = path::stat(tree.as_fd()).doing(|| format!("look at {}", target.display()))?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let place = place_for(root.as_fd(), &target, is_folder)?;
        mount::move_mount(tree.as_fd(), place.as_fd()).doing(|| format!("mount {}", target.display()))?;
    }
    let namespace = std::fs::File::open("/proc/self/ns/mnt").doing(|| "open the mount namespace".into())?;
    Ok(vec![root, namespace.into()])
}

fn read_only(tree: &OwnedFd, target: &Path) -> Result<()> {
    let attributes = mount::Attributes { set: libc::MOUNT_ATTR_RDONLY, ..mount::Attributes::default() };
    mount::mount_setattr(tree.as_fd(), attributes, true, None).doing(|| format!("make {} read-only", target.display()))
}
