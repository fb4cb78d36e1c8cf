//! A tar archive from somewhere, unpacked into a folder: `cp -`.
//!
//! An archive's names stay in that folder: `..` that leads out is refused, and so is a link on the way that does. (The root is the one
//! exception: there, an absolute link is the container's own and leads nowhere else.)
//!
//! Read: tar(5), openat2(2) RESOLVE_BENEATH.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use tar::EntryType;

use super::land::{self, Attributes};
use super::place::look;
use super::view::is_the_kernels;
use crate::error::{Class, Doing, Error, Result};
use crate::image::layer_entry;
use crate::sys::path;

/// Unpacks, and answers how many bytes of content came.
///
/// # Errors
/// Invalid for an archive that can't be read or leads out of the folder; Conflict for a file onto a folder; ENOSPC, EROFS.
pub fn unpack(archive: impl Read, folder: &OwnedFd, shown: &Path, told: &mut dyn FnMut(u64)) -> Result<u64> {
    let stays = if shown == Path::new("/") { path::RESOLVE_IN_ROOT } else { path::RESOLVE_BENEATH };
    let mut unpacking = Unpacking { folder, shown, resolve: stays | path::RESOLVE_NO_MAGICLINKS, late: BTreeMap::new() };
    let unreadable = |e: std::io::Error| Error::invalid("read the archive", e.to_string());
    let mut size = 0;
    for entry in tar::Archive::new(archive).entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        size += entry.size() + 512;
        told(size);
        unpacking.entry(entry)?;
    }
    unpacking.finish()?;
    Ok(size)
}

struct Unpacking<'a> {
    folder: &'a OwnedFd,
    shown: &'a Path,
    resolve: u64,
    /// Folders, whose times each file in them changes.
    late: BTreeMap<PathBuf, Attributes>,
}

impl Unpacking<'_> {
    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<()> {
        let kind = entry.header().entry_type();
        let raw = entry.path_bytes().into_owned();
        let doing = || format!("unpack {}", String::from_utf8_lossy(&raw));
        let at = layer_entry::inside(&raw).map_err(|_| Error::invalid(doing(), "it leads out of the folder"))?;
        let name = match at.file_name() {
            Some(name) if kind != EntryType::XGlobalHeader => name.to_os_string(),
            _ => return Ok(()),
        };
        let read = layer_entry::attributes(&mut entry).map_err(|e| Error::invalid(doing(), e.to_string()))?;
        let id =
            |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| Error::invalid(doing(), format!("{id} is no user or group")));
        let attributes = Attributes {
            owner: Some((id(read.uid)?, id(read.gid)?)),
            mode: read.mode,
            accessed: read.time,
            modified: read.time,
            xattrs: read.xattrs,
        };
        let parent = self.parent(at.parent().unwrap_or(Path::new("")), &doing())?;
        let shown = self.shown.join(&at);
        match kind {
            EntryType::Directory => {
                land::folder(&parent, &name, &shown)?;
                self.late.insert(at, attributes);
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => land::file(&parent, &name, &attributes, &shown, |file| {
                let file = file.try_clone().doing(doing)?;
                layer_entry::copy_content(&mut entry, file, &at)
            }),
            EntryType::Symlink => land::link(&parent, &name, &layer_entry::link_name(&entry, &at)?, &attributes, &shown),
            EntryType::Link => {
                let (folder, first) = self.linked_to(&layer_entry::link_name(&entry, &at)?, &doing())?;
                land::hard_link(&parent, &name, &folder, &first, &shown)
            }
            EntryType::Fifo => land::node(&parent, &name, libc::S_IFIFO, 0, &attributes, &shown),
            EntryType::Char | EntryType::Block => {
                let header = entry.header();
                let (Ok(major), Ok(minor)) = (header.device_major(), header.device_minor()) else {
                    return Err(Error::invalid(doing(), "its device number can't be read"));
                };
                let device = libc::makedev(major.unwrap_or(0), minor.unwrap_or(0));
                land::node(&parent, &name, if kind == EntryType::Char { libc::S_IFCHR } else { libc::S_IFBLK }, device, &attributes, &shown)
            }
            _ => Err(Error::invalid(doing(), format!("this version doesn't know entries of type {:?}", kind.as_byte() as char))),
        }
    }

    /// The folder of an entry, made with its parents where the archive only implies it.
    fn parent(&self, at: &Path, doing: &str) -> Result<OwnedFd> {
        let open = |at: &Path| {
            let at = if at.as_os_str().is_empty() { Path::new(".") } else { at };
            path::openat2(self.folder.as_fd(), at, libc::O_PATH | libc::O_DIRECTORY, 0, self.resolve)
        };
        let told = |e: crate::sys::SysError| match e.errno() {
            Errno::EXDEV => Error::invalid(doing, "a link on its way leads out of the folder"),
            Errno::ENOTDIR => Error::new(Class::Conflict, doing, "cannot overwrite non-directory with directory"),
            _ => Error::sys(doing, e),
        };
        let folder = match open(at) {
            Err(e) if e.errno() == Errno::ENOENT => {
                let mut so_far = PathBuf::new();
                let mut here = open(&so_far).map_err(told)?;
                for name in at.iter() {
                    so_far.push(name);
                    here = match open(&so_far) {
                        Err(e) if e.errno() == Errno::ENOENT => {
                            path::mkdirat(&here, Path::new(name), 0o755).doing(|| doing.into())?;
                            open(&so_far).map_err(told)?
                        }
                        there => there.map_err(told)?,
                    };
                }
                here
            }
            there => there.map_err(told)?,
        };
        match is_the_kernels(folder.as_fd()) {
            true => Err(Error::new(Class::Denied, doing, "nothing is copied into the kernel's own folders")),
            false => Ok(folder),
        }
    }

    /// The file that a hard link names, which is in the folder already.
    fn linked_to(&self, target: &Path, doing: &str) -> Result<(OwnedFd, OsString)> {
        use std::os::unix::ffi::OsStrExt;
        let at = layer_entry::inside(target.as_os_str().as_bytes()).map_err(|_| Error::invalid(doing, "it links to a file outside of the folder"))?;
        let missing = || Error::invalid(doing, format!("there is no file {} to link to", at.display()));
        let name = at.file_name().ok_or_else(missing)?.to_os_string();
        let folder = self.parent(at.parent().unwrap_or(Path::new("")), doing)?;
        match look(folder.as_fd(), &name)? {
            Some((_, stat)) if stat.st_mode & libc::S_IFMT != libc::S_IFDIR => Ok((folder, name)),
            _ => Err(missing()),
        }
    }

    fn finish(self) -> Result<()> {
        // The deepest first.
        for (at, attributes) in self.late.iter().rev() {
            let open = path::openat2(self.folder.as_fd(), at, libc::O_RDONLY | libc::O_DIRECTORY, 0, self.resolve);
            match open {
                // A later entry of the archive, or the container, put something else there.
                Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR | Errno::EXDEV) => {}
                open => land::finish_folder(&open.doing(|| format!("unpack {}", at.display()))?, attributes, &self.shown.join(at))?,
            }
        }
        Ok(())
    }
}
