//! A tar archive from somewhere, compressed or not, unpacked into a folder: `cp -`.
//!
//! An archive's names stay in that folder: `..` that leads out is refused, and so is a link on the way that does. (The root is the one
//! exception: there, an absolute link is the container's own and leads nowhere else.)
//!
//! Read: tar(5), openat2(2) RESOLVE_BENEATH.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;

use super::land::{self, Attributes};
use super::place::look;
use crate::error::{Class, Doing, Error, Result};
use crate::image::tar_header::{BLOCK, Kind};
use crate::image::tar_reader::{Entry, Reader};
use crate::image::{compression, layer_entry};
use crate::sys::mount::is_the_kernels;
use crate::sys::path;

/// Unpacks, and answers how many bytes of content came.
///
/// # Errors
/// Invalid for an archive that can't be read or leads out of the folder; Conflict for a file onto a folder; ENOSPC, EROFS.
pub fn unpack(archive: impl Read, folder: &OwnedFd, shown: &Path, told: &mut dyn FnMut(u64)) -> Result<u64> {
    let stays = if shown == Path::new("/") { path::RESOLVE_IN_ROOT } else { path::RESOLVE_BENEATH };
    let mut unpacking = Unpacking { folder, shown, resolve: stays | path::RESOLVE_NO_MAGICLINKS, late: BTreeMap::new(), buffer: vec![0; 256 << 10] };
    let unreadable = |e: std::io::Error| Error::invalid("read the archive", e.to_string());
    let mut archive = Reader::new(compression::undone(archive).map_err(unreadable)?);
    let mut size = 2 * BLOCK as u64;
    while let Some(entry) = archive.next_entry().map_err(unreadable)? {
        size += (BLOCK as u64).saturating_add(entry.size);
        told(size);
        unpacking.entry(&entry, &mut archive)?;
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
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let doing = || format!("unpack {}", String::from_utf8_lossy(&entry.name));
        let at = layer_entry::inside(&entry.name).map_err(|_| Error::invalid(doing(), "it leads out of the folder"))?;
        // `./`: the folder itself is the container's.
        let Some(name) = at.file_name().map(OsStr::to_os_string) else { return Ok(()) };
        let parent = self.parent(at.parent().unwrap_or(Path::new("")), &doing())?;
        let attributes = attributes(entry).ok_or_else(|| Error::invalid(doing(), "its owner is no user and group"))?;
        let shown = self.shown.join(&at);
        match entry.kind {
            Kind::Folder => {
                land::folder(&parent, &name, &shown)?;
                self.late.insert(at, attributes);
                Ok(())
            }
            Kind::File => land::file(&parent, &name, &attributes, &shown, |file| {
                let file = file.try_clone().doing(doing)?;
                layer_entry::copy_content(entry, content, file, &mut self.buffer, &at)
            }),
            Kind::Symlink => land::link(&parent, &name, &layer_entry::link_name(entry, &at)?, &attributes, &shown),
            Kind::HardLink => {
                let (folder, first) = self.linked_to(&layer_entry::link_name(entry, &at)?, &doing())?;
                land::hard_link(&parent, &name, &folder, &first, &shown)
            }
            Kind::Fifo => land::node(&parent, &name, libc::S_IFIFO, 0, &attributes, &shown),
            Kind::CharDevice | Kind::BlockDevice => {
                let kind = if entry.kind == Kind::CharDevice { libc::S_IFCHR } else { libc::S_IFBLK };
                land::node(&parent, &name, kind, libc::makedev(entry.device.0, entry.device.1), &attributes, &shown)
            }
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

fn attributes(entry: &Entry) -> Option<Attributes> {
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    let time = TimeSpec::new(entry.time.0, entry.time.1.into());
    let xattrs = entry.xattrs.iter().filter(|(key, _)| layer_entry::may_travel(key)).cloned().collect();
    Some(Attributes { owner: Some((id(entry.uid)?, id(entry.gid)?)), mode: entry.mode, accessed: time, modified: time, xattrs })
}
