//! The mounts of config.json, each made detached with all its attributes and then put in its place inside the root.
//!
//! The place is opened with RESOLVE_IN_ROOT: whatever links the image has, the mount lands inside. Nothing is put into `/proc`
//! except the few files that lxcfs replaces, for who controls `/proc` misleads whoever reads it (CVE-2019-16884, CVE-2019-19921).
//!
//! See it: `/proc/P/mountinfo`. Read: config.md "Mounts", mount_setattr(2), open_tree(2), tmpfs(5).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::cgroups::Place;
use super::mount_options::{self, Options};
use super::spec::{IdMapping, Linux, Mount, Spec};
use super::{cgroup_mounts, namespaces, users};
use crate::error::{Class, Doing, Error, Result};
use crate::sys::mount::{self, Attributes, MOUNT_ATTR_IDMAP, MOUNT_ATTR_RDONLY, MS_SLAVE};
use crate::sys::namespace::CLONE_NEWUSER;
use crate::sys::{Reason, because, path};

static MOUNT: Reason = Reason {
    id: "mounts.make",
    en: "each mount is built out of sight, with its flags, and then put in its place inside the new root",
    ko: "마운트는 보이지 않는 곳에서 옵션까지 갖춰 만든 다음 새 루트 안의 제자리에 놓는다",
    see: "cat /proc/{P}/mountinfo",
};

/// What the runtime's own side has opened for a mount, before the container's process is cloned.
#[derive(Default)]
pub struct Prepared {
    /// The tree to bind, detached.
    tree: Option<OwnedFd>,
    /// The user namespace whose map an idmapped mount uses, when the tree is not here to be mapped at once.
    idmap: Option<OwnedFd>,
}

/// Opens, with the caller's rights, what the container's process could not: sources of binds when it lives in a new user namespace
/// (whose root may not even look into a folder of 0700), and the maps of idmapped mounts. What the caller has opened already, by its
/// destination, is in `trees`.
///
/// # Errors
/// NotFound for a source that isn't there; Invalid for options.
pub fn prepare(spec: &Spec, bundle: &Path, mut trees: Vec<(PathBuf, OwnedFd)>) -> Result<Vec<Prepared>> {
    let no_linux = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&no_linux);
    let new_user_namespace = linux.namespaces.iter().any(|n| n.kind.flag() == CLONE_NEWUSER);
    let may_mount = nix::unistd::geteuid().is_root();
    let mut prepared = Vec::with_capacity(spec.mounts.len());
    for (index, wanted) in spec.mounts.iter().enumerate() {
        let options = mount_options::parse(&wanted.options, &json_path(index))?;
        let mut ready = Prepared::default();
        let idmapped = options.idmap.is_some() || !wanted.uid_mappings.is_empty();
        if idmapped {
            let (uids, gids) = idmap_of(wanted, linux, index)?;
            ready.idmap = Some(namespaces::user_namespace_with(|pid| users::write_mappings(pid, uids, gids))?);
        }
        if let Some(at) = trees.iter().position(|(destination, _)| *destination == wanted.destination) {
            ready.tree = Some(trees.swap_remove(at).1);
        } else if is_bind(wanted, &options) && !options.remount && may_mount && (new_user_namespace || idmapped) {
            because(&MOUNT);
            let tree = bind_tree(wanted, &options, bundle, index)?;
            // It came from the host's mounts: what is mounted there later may come in, nothing may go out.
            let slave = Attributes { propagation: MS_SLAVE, ..Attributes::default() };
            mount::mount_setattr(tree.as_fd(), slave, true, None).doing(|| format!("bind {}", wanted.destination.display()))?;
            // Who maps owners needs rights over the file system itself, which no root of a new user namespace has.
            if let Some(idmap) = ready.idmap.take() {
                map_owners(tree.as_fd(), idmap.as_fd(), &options).map_err(|e| named(e, index, wanted))?;
            }
            ready.tree = Some(tree);
        }
        prepared.push(ready);
    }
    Ok(prepared)
}

fn idmap_of<'a>(wanted: &'a Mount, linux: &'a Linux, index: usize) -> Result<(&'a [IdMapping], &'a [IdMapping])> {
    match (wanted.uid_mappings.is_empty(), wanted.gid_mappings.is_empty()) {
        (false, false) => Ok((&wanted.uid_mappings, &wanted.gid_mappings)),
        (true, true) if !linux.uid_mappings.is_empty() => Ok((&linux.uid_mappings, &linux.gid_mappings)),
        (true, true) => Err(Error::invalid(format!("use {}.options", json_path(index)), "idmap needs uidMappings and gidMappings, here or in linux")),
        _ => Err(Error::invalid(format!("use {}", json_path(index)), "uidMappings and gidMappings go together")),
    }
}

/// What the mounts are made with.
pub struct Context<'a> {
    pub spec: &'a Spec,
    pub bundle: &'a Path,
    /// The new root, open.
    pub root: BorrowedFd<'a>,
    pub cgroup: Option<&'a Place>,
    pub prepared: Vec<Prepared>,
}

/// Makes all mounts of config.json, in its order. Answers those that must become read-only once their content is made (`/dev`).
///
/// # Errors
/// What the kernel says to a mount, with its destination named.
pub fn make(context: &Context) -> Result<Vec<OwnedFd>> {
    let mut read_only_later = Vec::new();
    for (index, wanted) in context.spec.mounts.iter().enumerate() {
        because(&MOUNT);
        let mut options = mount_options::parse(&wanted.options, &json_path(index))?;
        let waits = is_dev(&wanted.destination) && options.own.set & MOUNT_ATTR_RDONLY != 0 && !is_bind(wanted, &options);
        if waits {
            options.own.set &= !MOUNT_ATTR_RDONLY;
        }
        if let Some(mounted) = make_one(context, index, wanted, &options).map_err(|e| named(e, index, wanted))?
            && waits
        {
            read_only_later.push(mounted);
        }
    }
    Ok(read_only_later)
}

/// Every failure names the mount by its JSON path.
fn named(mut e: Error, index: usize, wanted: &Mount) -> Error {
    e.doing = format!("mount {} ({}): {}", wanted.destination.display(), json_path(index), e.doing);
    e
}

fn make_one(context: &Context, index: usize, wanted: &Mount, options: &Options) -> Result<Option<OwnedFd>> {
    if options.remount {
        return remount(context, wanted, options).map(|()| None);
    }
    match wanted.kind.as_deref() {
        Some("cgroup" | "cgroup2") if options.bind.is_none() => {
            cgroup_mounts::make(context.root, &wanted.destination, options, context.cgroup).map(|()| None)
        }
        _ if is_bind(wanted, options) => bind(context, index, wanted, options).map(Some),
        Some(fstype) => new_filesystem(context, wanted, fstype, options).map(Some),
        None => Err(Error::invalid("find out what to mount", "neither a type nor `bind` is given")),
    }
}

fn bind(context: &Context, index: usize, wanted: &Mount, options: &Options) -> Result<OwnedFd> {
    let ready = &context.prepared[index];
    let tree = match &ready.tree {
        Some(tree) => crate::sys::fd::duplicate(tree.as_fd()).doing(|| "take over the tree".into())?,
        None => bind_tree(wanted, options, context.bundle, index)?,
    };
    if let Some(idmap) = &ready.idmap {
        map_owners(tree.as_fd(), idmap.as_fd(), options)?;
    }
    set_attributes(tree.as_fd(), options)?;
    let is_dir = is_directory(tree.as_fd())?;
    let place = place_for(context.root, &wanted.destination, is_dir)?;
    mount::move_mount(tree.as_fd(), place.as_fd()).doing(|| "put it in its place".into())?;
    set_propagation(tree.as_fd(), options)?;
    Ok(tree)
}

fn map_owners(tree: BorrowedFd, idmap: BorrowedFd, options: &Options) -> Result<()> {
    let attributes = Attributes { set: MOUNT_ATTR_IDMAP, ..Attributes::default() };
    let mapped = mount::mount_setattr(tree, attributes, options.idmap.unwrap_or(false), Some(idmap)).doing(|| "map owners".into());
    mapped.map_err(|e| e.hint("this file system can't be idmapped by this kernel, or the mount is idmapped already; see mount_setattr(2)"))
}

fn bind_tree(wanted: &Mount, options: &Options, bundle: &Path, index: usize) -> Result<OwnedFd> {
    let doing = || format!("bind {}", wanted.source.as_deref().unwrap_or_default());
    let source = wanted.source.as_ref().filter(|s| !s.is_empty());
    let source = source.ok_or_else(|| Error::invalid(format!("use {}", json_path(index)), "a bind mount needs a source"))?;
    mount::clone_tree(None, &bundle.join(source), options.bind == Some(true)).doing(doing).map_err(|e| match missing(&e) {
        true => e.class(Class::NotFound),
        false => e,
    })
}

fn missing(e: &Error) -> bool {
    matches!(e.cause.as_deref(), Some(crate::error::Cause::Sys(fact)) if fact.errno() == nix::errno::Errno::ENOENT)
}

fn new_filesystem(context: &Context, wanted: &Mount, fstype: &str, options: &Options) -> Result<OwnedFd> {
    let place = match fstype {
        // A link at /proc or /sys would put it elsewhere and leave the image's own /proc to be read by everybody (CVE-2019-19921).
        "proc" | "sysfs" => place_without_links(context.root, &wanted.destination)?,
        _ => place_for(context.root, &wanted.destination, true)?,
    };
    let mut data = options.data.clone();
    if let Some(label) = context.spec.linux.as_ref().and_then(|l| l.mount_label.as_ref()).filter(|_| super::labels::selinux_is_on()) {
        data.push(("context".into(), Some(label.clone())));
    }
    let source = wanted.source.as_deref().filter(|s| !s.is_empty());
    let mounted = mount::new_filesystem(fstype, source, &data, options.own.set).doing(|| format!("make a {fstype}"))?;
    if fstype == "tmpfs" {
        inherit_mode(place.as_fd(), mounted.as_fd(), &data);
        if options.tmpcopyup {
            super::copy::tree(place.as_fd(), mounted.as_fd()).map_err(|e| Error { doing: format!("copy up: {}", e.doing), ..e })?;
        }
    }
    mount::move_mount(mounted.as_fd(), place.as_fd()).doing(|| "put it in its place".into())?;
    set_propagation(mounted.as_fd(), options)?;
    Ok(mounted)
}

/// A tmpfs over an existing folder keeps that folder's permissions unless `mode=` says otherwise, as everywhere else.
fn inherit_mode(place: BorrowedFd, mounted: BorrowedFd, data: &[(String, Option<String>)]) {
    if data.iter().any(|(key, _)| key == "mode") {
        return;
    }
    if let Ok(stat) = path::stat(place) {
        let mode = nix::sys::stat::Mode::from_bits_truncate(stat.st_mode & 0o7777);
        let _ = nix::sys::stat::fchmodat(mounted, ".", mode, nix::sys::stat::FchmodatFlags::FollowSymlink);
    }
}

fn remount(context: &Context, wanted: &Mount, options: &Options) -> Result<()> {
    let place = path::open_in(context.root, &wanted.destination, libc::O_PATH).doing(|| "find it".into())?;
    set_attributes(place.as_fd(), options)?;
    set_propagation(place.as_fd(), options)
}

/// mount_setattr(2) for the mount alone, then for the mounts below it too.
fn set_attributes(tree: BorrowedFd, options: &Options) -> Result<()> {
    for (attributes, recursive) in [(options.own, false), (options.recursive, true)] {
        if attributes != Attributes::default() {
            mount::mount_setattr(tree, attributes, recursive, None).doing(|| "set its options".into())?;
        }
    }
    Ok(())
}

fn set_propagation(tree: BorrowedFd, options: &Options) -> Result<()> {
    match options.propagation {
        Some((propagation, recursive)) => {
            let attributes = Attributes { propagation, ..Attributes::default() };
            mount::mount_setattr(tree, attributes, recursive, None).doing(|| "set its propagation".into())
        }
        None => Ok(()),
    }
}

/// The place of a mount inside the root, made where it is missing.
///
/// # Errors
/// Denied for a place inside /proc; ENOTDIR, EROFS …
pub fn place_for(root: BorrowedFd, destination: &Path, directory: bool) -> Result<OwnedFd> {
    let doing = || format!("make a place at {}", destination.display());
    let place = if directory { path::make_dirs_in(root, destination, 0o755) } else { path::make_file_in(root, destination, 0o644) }.doing(doing)?;
    refuse_proc(place.as_fd(), destination)?;
    Ok(place)
}

/// lxcfs shows a container its own numbers in these files; nothing else may be mounted inside /proc.
const LXCFS: &[&str] = &[
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "net/dev",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

fn refuse_proc(place: BorrowedFd, destination: &Path) -> Result<()> {
    if mount::filesystem_magic(place).doing(|| "look at the place".into())? != libc::PROC_SUPER_MAGIC {
        return Ok(());
    }
    let name = std::fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd())).unwrap_or_default();
    if LXCFS.iter().any(|file| name.ends_with(Path::new("proc").join(file))) {
        return Ok(());
    }
    Err(Error::new(Class::Denied, format!("mount inside /proc at {}", destination.display()), "whoever controls /proc misleads all who read it"))
}

fn place_without_links(root: BorrowedFd, destination: &Path) -> Result<OwnedFd> {
    let relative: PathBuf = destination.strip_prefix("/").unwrap_or(destination).to_path_buf();
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let resolve = path::RESOLVE_IN_ROOT | path::RESOLVE_NO_SYMLINKS | path::RESOLVE_NO_MAGICLINKS;
    match path::openat2(root, &relative, flags, 0, resolve) {
        Err(e) if e.errno() == nix::errno::Errno::ENOENT => {
            path::make_dirs_in(root, destination, 0o755).doing(|| format!("make {}", destination.display()))?;
            path::openat2(root, &relative, flags, 0, resolve)
        }
        done => done,
    }
    .doing(|| format!("open {}, which must be a folder and no link", destination.display()))
}

fn is_bind(wanted: &Mount, options: &Options) -> bool {
    options.bind.is_some() || wanted.kind.as_deref() == Some("bind") || wanted.kind.is_none()
}

/// Whether the OCI destination is the container's `/dev` itself.
pub fn is_dev(destination: &Path) -> bool {
    destination.components().filter(|c| *c != std::path::Component::RootDir).collect::<PathBuf>() == Path::new("dev")
}

fn is_directory(fd: BorrowedFd) -> Result<bool> {
    let stat = path::stat(fd).doing(|| "look at the source".into())?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn json_path(index: usize) -> String {
    format!("mounts[{index}]")
}
