//! The volumes of a container as mounts that are attached nowhere yet, for its start and for whoever looks at its files at rest.
//!
//! A part of a volume is opened once, with no way out of the volume, and it is the open file that is mounted: nobody can put a link in
//! its place between the look and the mount.
//!
//! See it: `findmnt -N PID`. Read: open_tree(2), openat2(2) RESOLVE_BENEATH, fsopen(2).

use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::files::view;
use super::home::Home;
use super::record;
use super::request::{NamedVolume, Volume};
use super::volumes;
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::mount_options;
use crate::sys::mount::{self, Attributes, MS_PRIVATE};
use crate::sys::namespace::{CLONE_NEWNS, setns};
use crate::sys::path;
use crate::volume;

/// The volumes of the container `id`, by the places where they belong.
///
/// # Errors
/// NotFound for a volume that is gone, or a part of one; what the kernel says to a volume with options.
pub fn trees(home: &Home, id: &str, mounts: &[Volume]) -> Result<Vec<(PathBuf, OwnedFd)>> {
    volumes::named(mounts).map(|named| Ok((named.target.clone(), tree(home, id, named)?))).collect()
}

fn tree(home: &Home, id: &str, named: &NamedVolume) -> Result<OwnedFd> {
    let root = home.volumes();
    let known = volume::load(&root, &named.name)?;
    let whole = match known.options.is_empty() {
        true => {
            volume::settle(&root, &named.name)?;
            mount::clone_tree(None, &volume::data(&root, &named.name), true).doing(|| format!("mount the volume {}", named.name))?
        }
        false => with_options(home, id, &known)?,
    };
    private(whole.as_fd(), &named.name)?;
    match &named.subpath {
        None => Ok(whole),
        Some(part) => part_of(&whole, &named.name, part),
    }
}

/// Nothing that is mounted on it in the container shows up on the host.
fn private(tree: std::os::fd::BorrowedFd, name: &str) -> Result<()> {
    let attributes = Attributes { propagation: MS_PRIVATE, ..Attributes::default() };
    mount::mount_setattr(tree, attributes, true, None).doing(|| format!("mount the volume {name}"))
}

fn part_of(whole: &OwnedFd, name: &str, part: &Path) -> Result<OwnedFd> {
    let doing = || format!("mount {} of the volume {name}", part.display());
    let flags = path::RESOLVE_BENEATH | path::RESOLVE_NO_MAGICLINKS;
    let found = path::openat2(whole.as_fd(), part, libc::O_PATH, 0, flags).map_err(|e| match e.errno() {
        Errno::ENOENT | Errno::ENOTDIR => {
            Error::new(Class::NotFound, doing(), "no such file or directory: a subpath must be there before the container starts")
        }
        Errno::EXDEV => Error::new(Class::Denied, doing(), "it leads out of the volume"),
        _ => Error::sys(doing(), e),
    })?;
    let tree = mount::clone_tree(Some(found.as_fd()), Path::new(""), true).doing(doing)?;
    private(tree.as_fd(), name)?;
    Ok(tree)
}

/// What `type`, `device` and `o` describe, as mount(8) would understand them.
fn with_options(home: &Home, id: &str, known: &volume::Volume) -> Result<OwnedFd> {
    let doing = || format!("mount the volume {}", known.name);
    let value = |key: &str| known.options.get(key).map_or("", String::as_str);
    let (kind, device) = (value("type"), value("device"));
    let words: Vec<String> = value("o").split(',').filter(|word| !word.is_empty()).map(String::from).collect();
    let options = mount_options::parse(&words, &format!("the options of the volume {}", known.name))?;
    if let Some(recursive) = options.bind {
        let tree = mount::clone_tree(None, Path::new(device), recursive).doing(doing)?;
        mount::mount_setattr(tree.as_fd(), options.own, false, None).doing(doing)?;
        return Ok(tree);
    }
    if kind == "tmpfs"
        && let Some(tree) = of_another(home, id, &known.name)?
    {
        return Ok(tree);
    }
    let mut data = options.data;
    if kind.starts_with("nfs") || kind == "cifs" {
        // The kernel takes no host names.
        for (_, address) in data.iter_mut().filter(|(key, _)| key == "addr") {
            let name = address.clone().unwrap_or_default();
            let mut found = (name.as_str(), 0).to_socket_addrs().doing(|| format!("find the address of {name}"))?;
            *address = found.next().map(|found| found.ip().to_string());
        }
    }
    mount::new_filesystem(kind, Some(device), &data, options.own.set).doing(doing)
}

/// A tmpfs lives as long as its mounts: while another container that runs has it, it is that one's.
fn of_another(home: &Home, id: &str, name: &str) -> Result<Option<OwnedFd>> {
    for record in record::list(home, false)?.into_iter().filter(|record| record.id != id && record.is_active()) {
        let mut mounts = record.volumes.iter();
        let target = mounts.find_map(|mount| match mount {
            Volume::Named(other) if other.name == name && other.subpath.is_none() => Some(&other.target),
            _ => None,
        });
        let (Some(target), Some(init)) = (target, record.state.init) else { continue };
        let doing = || format!("mount the volume {name} of container {}", record.name);
        let Some(handle) = init.open().doing(doing)? else { continue };
        let found = view::in_namespace(|| {
            setns(handle.as_fd(), CLONE_NEWNS).doing(doing)?;
            mount::clone_tree(None, target, true).doing(doing).map(|tree| vec![tree])
        });
        match found {
            // Unless its program has unmounted it.
            Ok(mut trees) => match trees.pop() {
                Some(tree) if mount::filesystem_magic(&tree).is_ok_and(|magic| magic == libc::TMPFS_MAGIC) => return Ok(Some(tree)),
                _ => {}
            },
            // It has just ended.
            Err(_) if !init.lives() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}
