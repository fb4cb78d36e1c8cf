//! A layer: the tar archive of what changed, unpacked into a directory that overlay can stack.
//!
//! A layer comes from strangers. Each name in it is resolved by the kernel inside the directory (`sys::path`): `..`, absolute names
//! and links lead nowhere else. What the archive says by names, overlay says by other means:
//!
//! ```text
//! in the archive        in the directory                        it means
//! .wh.NAME              NAME, a character device 0:0            NAME of the layers below is gone
//! DIR/.wh..wh..opq      xattr trusted.overlay.opaque=y on DIR   all that the layers below have in DIR is gone
//! ```
//! In a user namespace the attribute is `user.overlay.opaque`, and device nodes are left out: nobody there may make them.
//!
//! See it: `tar tvf LAYER`, `ls -l /var/lib/onggi/snapshots/*/fs`. Read: tar(5), openat2(2), the kernel's filesystems/overlayfs.rst.
//! Source: OCI image specification, layer.md.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::UnlinkatFlags;

use super::digest::{DiffId, Hashing};
use super::layer_entry::{copy_content, inside, link_name, may_travel, unreadable};
use super::tar_header::Kind;
use super::tar_reader::{Entry, Reader};
use crate::error::{Doing, Error, Result};
use crate::sys::{path, xattr};

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    pub diff_id: DiffId,
    /// Bytes of the archive.
    pub size: u64,
    pub entries: u64,
    /// Bytes of the files in it, which is what an image's size is the sum of.
    pub content: u64,
    /// Device nodes left out, because this is a user namespace.
    pub devices_left_out: u64,
    /// Files that belong to ids which this user namespace doesn't map, and now to its root.
    pub owners_unmapped: u64,
}

/// Unpacks the (uncompressed) archive into `root`, an empty directory. `below` are the directories of the layers below it, the
/// uppermost first: a folder that the archive only implies looks as it does there.
///
/// # Errors
/// Invalid when the archive is cut off, wants out of the directory, or contradicts itself; ENOSPC, EPERM.
pub fn unpack(archive: impl Read, root: &Path, below: &[PathBuf]) -> Result<Unpacked> {
    let open = |dir: &Path| path::open_root(dir).doing(|| format!("open {}", dir.display()));
    let mut unpacking = Unpacking {
        root: open(root)?,
        below: below.iter().map(|dir| open(dir)).collect::<Result<_>>()?,
        folder: None,
        folder_times: BTreeMap::new(),
        restricted: in_user_namespace(),
        buffer: vec![0u8; 256 << 10],
        devices_left_out: 0,
        owners_unmapped: 0,
    };
    let mut archive = Reader::new(BufReader::with_capacity(256 << 10, Hashing::new(archive)));
    let (mut entries, mut content) = (0, 0u64);
    while let Some(entry) = archive.next_entry().map_err(unreadable)? {
        unpacking.entry(&entry, &mut archive)?;
        entries += 1;
        content = content.saturating_add(entry.size);
    }
    unpacking.set_folder_times()?;
    // What follows the archive's end (padding, as a rule) counts for its digest.
    let mut rest = archive.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(unreadable)?;
    let (_, digest, size) = rest.into_inner().finish();
    let Unpacking { devices_left_out, owners_unmapped, .. } = unpacking;
    Ok(Unpacked { diff_id: DiffId(digest), size, entries, content, devices_left_out, owners_unmapped })
}

/// Whether this process lives in a user namespace below the first, whose inode has a number of its own (PROC_USER_INIT_INO).
pub fn in_user_namespace() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/user").is_ok_and(|ns| ns.ino() != 0xEFFF_FFFD)
}

/// The attribute that makes overlay hide the layers below a directory; another one where `trusted.` may not be written.
pub fn opaque_attribute(restricted: bool) -> &'static str {
    if restricted { "user.overlay.opaque" } else { "trusted.overlay.opaque" }
}

/// Whether this is overlay's mark of a deletion: a character device 0:0.
pub fn is_whiteout(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

struct Unpacking {
    root: OwnedFd,
    below: Vec<OwnedFd>,
    /// The folder of the last entry: archives go folder by folder.
    folder: Option<(PathBuf, OwnedFd)>,
    /// Set last, because each file put into a folder changes its time.
    folder_times: BTreeMap<PathBuf, TimeSpec>,
    restricted: bool,
    buffer: Vec<u8>,
    devices_left_out: u64,
    owners_unmapped: u64,
}

impl Unpacking {
    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let path = inside(&entry.name)?;
        let Some(name) = path.file_name().map(PathBuf::from) else {
            // The root itself, `./`.
            let root = self.root.try_clone().doing(|| "duplicate a descriptor".into())?;
            return self.apply(&root, Path::new("."), &path, entry);
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let folder = self.folder(parent)?;
        let done = match name.as_os_str().as_bytes() {
            b".wh..wh..opq" => self.mark_opaque(&folder, Path::new("."), parent),
            // Marks of aufs' own, which only Docker of long ago wrote.
            [b'.', b'w', b'h', b'.', b'.', b'w', b'h', b'.', ..] => Ok(()),
            [b'.', b'w', b'h', b'.', deleted @ ..] => self.whiteout(&folder, deleted, &path),
            _ => self.make(&folder, &name, &path, entry, content).and_then(|made| match made {
                true => self.apply(&folder, &name, &path, entry),
                false => Ok(()),
            }),
        };
        self.folder = Some((parent.to_path_buf(), folder));
        done
    }

    /// Makes what the entry is. False when there is nothing whose attributes could be set.
    fn make(&mut self, folder: &OwnedFd, name: &Path, path: &Path, entry: &Entry, content: &mut impl Read) -> Result<bool> {
        let doing = || format!("unpack {}", path.display());
        match entry.kind {
            Kind::Folder => return self.make_folder(folder, name, path).map(|()| true),
            Kind::HardLink => return self.hard_link(folder, name, path, &link_name(entry, path)?).map(|()| false),
            Kind::File => {
                remove(folder, name).doing(doing)?;
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
                let file = path::openat2(folder.as_fd(), name, flags, 0o600, path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS).doing(doing)?;
                copy_content(entry, content, File::from(file), &mut self.buffer, path)?;
            }
            Kind::Symlink => {
                let target = link_name(entry, path)?;
                remove(folder, name).doing(doing)?;
                path::symlinkat(&target, folder, name).doing(doing)?;
            }
            Kind::Fifo => {
                remove(folder, name).doing(doing)?;
                path::mknodat(folder, name, libc::S_IFIFO | 0o600, 0).doing(doing)?;
            }
            Kind::CharDevice | Kind::BlockDevice => {
                if self.restricted {
                    self.devices_left_out += 1;
                    return Ok(false);
                }
                let mode = if entry.kind == Kind::CharDevice { libc::S_IFCHR } else { libc::S_IFBLK };
                remove(folder, name).doing(doing)?;
                path::mknodat(folder, name, mode | 0o600, libc::makedev(entry.device.0, entry.device.1)).doing(doing)?;
            }
        }
        if self.folder_times.contains_key(path) {
            // A folder that was here is now something else.
            self.folder_times.retain(|folder, _| !folder.starts_with(path));
        }
        Ok(true)
    }

    fn make_folder(&mut self, folder: &OwnedFd, name: &Path, path: &Path) -> Result<()> {
        let doing = || format!("unpack {}", path.display());
        match lstat(folder, name) {
            Some(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => Ok(()),
            Some(stat) => {
                remove(folder, name).doing(doing)?;
                path::mkdirat(folder, name, 0o700).doing(doing)?;
                // Deleted and made anew in one layer: what the layers below have in it stays deleted.
                if is_whiteout(&stat) { self.mark_opaque(folder, name, path) } else { Ok(()) }
            }
            None => path::mkdirat(folder, name, 0o700).doing(doing),
        }
    }

    /// A second name of a file in the same layer. A link at the end of `target` is itself the file.
    fn hard_link(&mut self, folder: &OwnedFd, name: &Path, path: &Path, target: &Path) -> Result<()> {
        let doing = || format!("unpack {}, a hard link to {}", path.display(), target.display());
        let target = inside(target.as_os_str().as_bytes()).map_err(|e| Error::invalid(doing(), e.one_line()))?;
        if target == path {
            return Ok(());
        }
        let missing = |_| Error::invalid(doing(), "there is no such file in this layer");
        let target_name = target.file_name().ok_or(()).map_err(missing)?;
        let parent = target.parent().unwrap_or(Path::new(""));
        let target_folder = path::open_in(self.root.as_fd(), parent, libc::O_PATH | libc::O_DIRECTORY).map_err(|_| ()).map_err(missing)?;
        let stat = lstat(&target_folder, Path::new(target_name)).ok_or(()).map_err(missing)?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(Error::invalid(doing(), "a folder has one name only"));
        }
        remove(folder, name).doing(doing)?;
        nix::unistd::linkat(&target_folder, target_name, folder, name, nix::fcntl::AtFlags::empty()).doing(doing)
    }

    fn whiteout(&mut self, folder: &OwnedFd, deleted: &[u8], path: &Path) -> Result<()> {
        if deleted.is_empty() || deleted == b"." || deleted == b".." {
            return Err(Error::invalid(format!("unpack {}", path.display()), "a whiteout names one file"));
        }
        let name = Path::new(std::ffi::OsStr::from_bytes(deleted));
        match lstat(folder, name) {
            // This layer has one of its own: only what lies below is deleted, which a file hides by being there.
            Some(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => self.mark_opaque(folder, name, path),
            Some(_) => Ok(()),
            // Also in a user namespace, unlike all other device nodes (Linux 5.8).
            None => path::mknodat(folder, name, libc::S_IFCHR, 0).doing(|| format!("unpack {}", path.display())),
        }
    }

    fn mark_opaque(&self, folder: &OwnedFd, name: &Path, path: &Path) -> Result<()> {
        xattr::set(folder.as_fd(), name, opaque_attribute(self.restricted), b"y").doing(|| format!("hide what lies below {}", path.display()))
    }

    /// Owner, mode, attributes, times; in this order, because a new owner takes setuid bits and file capabilities away.
    fn apply(&mut self, folder: &OwnedFd, name: &Path, path: &Path, entry: &Entry) -> Result<()> {
        let doing = || format!("unpack {}", path.display());
        self.chown(folder, name, path, entry)?;
        if entry.kind != Kind::Symlink {
            // Not a link: it was made just now, in a folder that is ours alone.
            fchmodat(folder, name, Mode::from_bits_truncate(entry.mode & 0o7777), FchmodatFlags::FollowSymlink).doing(doing)?;
        }
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| may_travel(key)) {
            match xattr::set(folder.as_fd(), name, key, value) {
                // Another file system, or another machine's security module: what can't be kept here is left out, as Docker does.
                Err(e) if matches!(e.errno(), Errno::ENOTSUP | Errno::EPERM | Errno::EINVAL) => {}
                set => set.doing(doing)?,
            }
        }
        let time = TimeSpec::new(entry.time.0, i64::from(entry.time.1));
        if entry.kind == Kind::Folder {
            self.folder_times.insert(path.to_path_buf(), time);
            return Ok(());
        }
        utimensat(folder, name, &time, &time, UtimensatFlags::NoFollowSymlink).doing(doing)
    }

    fn chown(&mut self, folder: &OwnedFd, name: &Path, path: &Path, entry: &Entry) -> Result<()> {
        let doing = || format!("unpack {}", path.display());
        let id =
            |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| Error::invalid(doing(), format!("{id} is no user or group")));
        match path::chownat(folder, name, id(entry.uid)?, id(entry.gid)?) {
            Err(e) if e.errno() == Errno::EINVAL && self.restricted => {
                self.owners_unmapped += 1;
                Ok(())
            }
            answer => answer.doing(doing),
        }
    }

    /// The folder of an entry, made with its parents where the archive only implies it.
    fn folder(&mut self, path: &Path) -> Result<OwnedFd> {
        // What the entry before changed was *in* this folder, so it is still the one that the name means.
        if let Some((_, fd)) = self.folder.take().filter(|(last, _)| last == path) {
            return Ok(fd);
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        match path::open_in(self.root.as_fd(), path, flags) {
            Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR) => {}
            opened => return opened.doing(|| format!("unpack into {}", path.display())),
        }
        let mut so_far = PathBuf::new();
        let mut here = path::open_in(self.root.as_fd(), &so_far, flags).doing(|| "open a layer's directory".into())?;
        for name in path.iter().map(Path::new) {
            so_far.push(name);
            here = match path::open_in(self.root.as_fd(), &so_far, flags) {
                Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR) => self.implied_folder(&here, name, &so_far)?,
                opened => opened.doing(|| format!("unpack into {}", so_far.display()))?,
            };
        }
        Ok(here)
    }

    fn implied_folder(&mut self, parent: &OwnedFd, name: &Path, path: &Path) -> Result<OwnedFd> {
        let doing = || format!("unpack into {}", path.display());
        let there = lstat(parent, name);
        if there.is_some_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFLNK) {
            // A link to what is not there yet: its target, inside the root, becomes the folder.
            return path::make_dirs_in(self.root.as_fd(), path, 0o755).doing(doing);
        }
        if there.is_some_and(|stat| !is_whiteout(&stat)) {
            return Err(Error::invalid(doing(), "it is a file, and has files in it"));
        }
        self.make_folder(parent, name, path)?;
        let like = self.below.iter().find_map(|below| {
            let fd =
                path::openat2(below.as_fd(), path, libc::O_PATH | libc::O_NOFOLLOW, 0, path::RESOLVE_IN_ROOT | path::RESOLVE_NO_MAGICLINKS).ok()?;
            path::stat(fd.as_fd()).ok().filter(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
        });
        let (mode, uid, gid, time) = match like {
            Some(stat) => (stat.st_mode, stat.st_uid.into(), stat.st_gid.into(), (stat.st_mtime, stat.st_mtime_nsec as u32)),
            None => (0o755, 0, 0, (0, 0)),
        };
        let (kind, name_bytes) = (Kind::Folder, path.as_os_str().as_bytes().to_vec());
        let implied =
            Entry { kind, name: name_bytes, mode, uid, gid, time, link: Vec::new(), size: 0, device: (0, 0), xattrs: Vec::new(), segments: None };
        self.apply(parent, name, path, &implied)?;
        path::openat2(parent.as_fd(), name, libc::O_PATH | libc::O_DIRECTORY, 0, path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS).doing(doing)
    }

    fn set_folder_times(&mut self) -> Result<()> {
        for (path, time) in std::mem::take(&mut self.folder_times) {
            let doing = || format!("set the time of {}", path.display());
            let folder = match path::open_in(self.root.as_fd(), &path, libc::O_RDONLY | libc::O_DIRECTORY) {
                // Replaced by a later entry.
                Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR) => continue,
                opened => opened.doing(doing)?,
            };
            nix::sys::stat::futimens(&folder, &time, &time).doing(doing)?;
        }
        Ok(())
    }
}

pub(super) fn lstat(folder: &OwnedFd, name: &Path) -> Option<libc::stat> {
    let fd = path::openat2(folder.as_fd(), name, libc::O_PATH | libc::O_NOFOLLOW, 0, path::RESOLVE_BENEATH).ok()?;
    path::stat(fd.as_fd()).ok()
}

/// Removes whatever has this name: an earlier entry of the same layer.
pub(super) fn remove(folder: &OwnedFd, name: &Path) -> std::io::Result<()> {
    match nix::unistd::unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        // The standard library's removal follows no link on its way down.
        Err(Errno::EISDIR) => std::fs::remove_dir_all(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)),
        Err(e) => Err(e.into()),
    }
}
