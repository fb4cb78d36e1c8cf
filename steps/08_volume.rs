//! Volumes: folders of the host, or folders with a name that are kept for containers, mounted into a container and outliving it.
//!
//! Try it: `step-08 run -v notes:/notes base.tar sh -c 'date >> /notes/log'; step-08 run -v notes:/notes base.tar cat /notes/log`
//! See it: `ls /run/onggi-steps/volumes/notes`, `grep notes /proc/PID/mountinfo`, `stat -c '%d %i'` on both sides
//! Read: open_tree(2), mount_setattr(2), move_mount(2), openat2(2) "RESOLVE_IN_ROOT", docker-volume-create(1)

#[path = "07_bridge.rs"]
#[allow(dead_code)] // its `main`
pub mod bridge;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};

use bridge::Network;
use bridge::container::{self, NAME};
use clap::Args;
use nix::unistd::Pid;
use onggi::error::{Doing, Error, Result};
use onggi::id;
use onggi::sys::mount::{self, Attributes, MOUNT_ATTR_RDONLY};
use onggi::sys::path;
use onggi::workshop::steps::{self, Hooks};

/// What this step adds to a container.
#[derive(Args)]
pub struct Volumes {
    #[command(flatten)]
    network: Network,
    /// Mount a folder or file of the host, or the volume of this name, SOURCE:TARGET[:ro]
    #[arg(short, long, value_parser = Volume::parse)]
    volume: Vec<Volume>,
}

fn main() {
    steps::main(NAME, container::act::<Volumes>)
}

impl Hooks for Volumes {
    fn create_runtime(&mut self, child: Pid) -> Result<()> {
        self.network.create_runtime(child)
    }

    fn create_container(&self, root: BorrowedFd) -> Result<()> {
        self.network.create_container(root)?;
        self.volume.iter().try_for_each(|volume| volume.attach(root))
    }

    fn poststop(&mut self) {
        self.network.poststop();
    }
}

/// What `-v SOURCE:TARGET[:ro]` asks for.
#[derive(Clone)]
pub struct Volume {
    /// A folder or file of the host, or a volume's name.
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
    is_named: bool,
}

impl Volume {
    /// With a slash in it the source is a path of the host; without, a name.
    pub fn parse(text: &str) -> Result<Volume> {
        let wrong = |why: &str| Error::invalid(format!("use {text}"), why);
        let (source, target, read_only) = match text.split(':').collect::<Vec<_>>()[..] {
            [source, target] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            _ => return Err(wrong("it is not SOURCE:TARGET or SOURCE:TARGET:ro")),
        };
        if !target.starts_with('/') {
            return Err(wrong("the target is no path from the root"));
        }
        let is_named = !source.contains('/');
        if is_named && (source.is_empty() || source.starts_with('.')) {
            return Err(wrong("the source is neither a path nor a name"));
        }
        let source = if is_named { source.into() } else { fs::canonicalize(source).doing(|| format!("use {source}"))? };
        Ok(Volume { source, target: target.into(), read_only, is_named })
    }

    /// Mounts it below `root`, the container's root that nobody has entered yet.
    pub fn attach(&self, root: BorrowedFd) -> Result<()> {
        let doing = || format!("mount {} at {}", self.source.display(), self.target.display());
        let source = if self.is_named { steps::folder("volumes")?.join(&self.source) } else { self.source.clone() };
        // A link on the way to the target is the image's author's, not ours: the kernel resolves it as if `root` were `/`
        // (openat2(2), RESOLVE_IN_ROOT).
        let place = match self.is_named || source.is_dir() {
            true => path::make_dirs_in(root, &self.target, 0o755).doing(doing)?,
            false => path::make_file_in(root, &self.target, 0o644).doing(doing)?,
        };
        if self.is_named && !source.exists() {
            fill(&source, &place)?;
        }
        // A copy of the mount that is nowhere yet (open_tree(2)): read-only, if so, before anybody can reach it.
        let tree = mount::clone_tree(None, &source, true).doing(doing)?;
        if self.read_only {
            let read_only = Attributes { set: MOUNT_ATTR_RDONLY, ..Attributes::default() };
            mount::mount_setattr(tree.as_fd(), read_only, true, None).doing(doing)?;
        }
        mount::move_mount(tree.as_fd(), place.as_fd()).doing(doing)
    }
}

/// The first use of a named volume: it begins with what the image has in its place. Copied aside, it gets its name when it is whole.
fn fill(volume: &Path, place: &OwnedFd) -> Result<()> {
    let aside = volume.with_file_name(format!(".{}", id::random()?));
    let copied = copy(Path::new(&format!("/proc/self/fd/{}/.", place.as_raw_fd())), &aside).and_then(|()| fs::rename(&aside, volume));
    // rename(2) puts no folder in the place of one that holds something: then another container was faster, and all is well.
    copied.or_else(|e| fs::remove_dir_all(&aside).and(if volume.exists() { Ok(()) } else { Err(e) })).doing(|| format!("fill {}", volume.display()))
}

/// Copies a tree with owners and modes; links stay links. Devices, pipes and sockets are left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let facts = fs::symlink_metadata(from)?;
    let kind = facts.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else {
        return Ok(());
    }
    lchown(to, Some(facts.uid()), Some(facts.gid()))?;
    // Last, as a new owner takes the set-user-ID bit away (chown(2)).
    if kind.is_symlink() { Ok(()) } else { fs::set_permissions(to, facts.permissions()) }
}
