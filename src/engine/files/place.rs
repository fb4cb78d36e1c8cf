//! What a path on the command line of `cp` means: which file is copied under which name, and where to. The rules are those of docker
//! cp(1), which look at how a path ends:
//!
//! ```text
//! SOURCE        a folder as such; with `/.` what is in it; with `/` a link is followed
//! DESTINATION   a folder: the source goes into it
//!               a file: it is replaced
//!               nothing there: the source gets this name, if there is a folder for it
//! ```
//! Paths are relative to a root and resolved inside it.
//!
//! Read: docker cp(1), path_resolution(7).

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Class, Doing, Error, Result};
use crate::sys::mount::is_the_kernels;
use crate::sys::path;

/// As in path_resolution(7).
const MOST_LINKS: usize = 40;

/// A path as it was typed, made absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    pub path: PathBuf,
    /// It ends in `/.`: what is in the folder is meant.
    pub contents: bool,
    /// It ends in `/`: it can only be a folder.
    pub folder: bool,
}

impl Typed {
    /// `text`, taken from `base` when it is relative. `..` takes the name before it away, as Docker does, whatever that is.
    pub fn new(base: &Path, text: &OsStr) -> Typed {
        let bytes = text.as_bytes();
        let mut path = PathBuf::from("/");
        for part in base.join(text).components() {
            match part {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => drop(path.pop()),
                _ => {}
            }
        }
        let is_root = path == Path::new("/");
        Typed { path, contents: is_root || bytes == b"." || bytes.ends_with(b"/."), folder: bytes.ends_with(b"/") }
    }
}

/// What is copied.
#[derive(Debug)]
pub struct Source {
    pub folder: OwnedFd,
    /// In that folder; `.` for what the folder holds.
    pub name: OsString,
    /// What it is called where it arrives in a folder; `.` when it has no name of its own there.
    pub called: OsString,
    pub is_folder: bool,
}

/// Where it is copied to.
#[derive(Debug)]
pub enum Destination {
    /// Into a folder that is there.
    Into { folder: OwnedFd, path: PathBuf },
    /// Under a new name, or in place of a file.
    As { folder: OwnedFd, path: PathBuf, name: OsString, is_there: bool },
}

/// Finds what is copied.
///
/// # Errors
/// NotFound; Invalid for a file that was called a folder.
pub fn source(root: BorrowedFd, typed: &Typed, follow: bool) -> Result<Source> {
    let doing = || format!("copy {}", typed.path.display());
    if typed.contents {
        let folder = open_folder(root, &typed.path).map_err(|e| not_found(doing(), &typed.path, e))?;
        return Ok(Source { folder, name: ".".into(), called: ".".into(), is_folder: true });
    }
    let found = locate(root, &typed.path, follow || typed.folder).map_err(|e| not_found(doing(), &typed.path, e))?;
    let missing = || Error::new(Class::NotFound, doing(), format!("Could not find the file {}", typed.path.display()));
    let stat = found.stat.filter(|_| !is_the_kernels(found.folder.as_fd())).ok_or_else(missing)?;
    let is_folder = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if typed.folder && !is_folder {
        return Err(Error::invalid(doing(), "not a directory"));
    }
    // Followed, it still goes by the name that was typed.
    let called = typed.path.file_name().unwrap_or(&found.name).to_os_string();
    Ok(Source { folder: found.folder, name: found.name, called, is_folder })
}

/// Finds where to copy to.
///
/// # Errors
/// NotFound without a folder for it; Invalid for a device, or a folder onto a file.
pub fn destination(root: BorrowedFd, typed: &Typed, source_is_folder: bool) -> Result<Destination> {
    let doing = || format!("copy to {}", typed.path.display());
    let found = locate(root, &typed.path, true).map_err(|e| not_found(doing(), &typed.path, e))?;
    let kind = found.stat.map(|stat| stat.st_mode & libc::S_IFMT);
    if kind == Some(libc::S_IFDIR) {
        let folder = match found.name.as_bytes() {
            b"." => found.folder,
            _ => path::openat2(found.folder.as_fd(), Path::new(&found.name), libc::O_PATH | libc::O_DIRECTORY, 0, IN_FOLDER).doing(doing)?,
        };
        return Ok(Destination::Into { folder, path: found.path });
    }
    match kind {
        Some(libc::S_IFREG) if typed.folder || typed.contents => return Err(Error::invalid(doing(), "not a directory")),
        Some(libc::S_IFREG) if source_is_folder => return Err(Error::invalid(doing(), "cannot copy directory")),
        Some(libc::S_IFREG) => {}
        Some(other) => {
            let why = format!("{} must be a directory or a regular file: got a {}", typed.path.display(), kind_name(other));
            return Err(Error::invalid(doing(), why));
        }
        None if typed.contents => return Err(could_not_find(doing(), &typed.path)),
        None if typed.folder && !source_is_folder => return Err(Error::new(Class::NotFound, doing(), "no such directory")),
        None => {}
    }
    let path = found.path.parent().unwrap_or(Path::new("/")).to_path_buf();
    Ok(Destination::As { folder: found.folder, path, name: found.name, is_there: kind.is_some() })
}

/// One name in a folder: nothing that leads out of it, and no link.
pub const IN_FOLDER: u64 = path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS;

/// Opens one name in a folder without following it (O_PATH); None when there is none.
///
/// # Errors
/// EACCES.
pub fn look(folder: BorrowedFd, name: &OsStr) -> Result<Option<(OwnedFd, libc::stat)>> {
    let doing = || format!("look at {}", name.display());
    match path::openat2(folder, Path::new(name), libc::O_PATH | libc::O_NOFOLLOW, 0, path::RESOLVE_BENEATH) {
        Err(e) if e.errno() == Errno::ENOENT => Ok(None),
        found => {
            let found = found.doing(doing)?;
            let stat = path::stat(found.as_fd()).doing(doing)?;
            Ok(Some((found, stat)))
        }
    }
}

struct Located {
    folder: OwnedFd,
    name: OsString,
    path: PathBuf,
    stat: Option<libc::stat>,
}

/// The folder that a path is in and its name there; with `follow`, those of what a link at its end leads to, there or not.
fn locate(root: BorrowedFd, path: &Path, follow: bool) -> Result<Located> {
    let doing = || format!("find {}", path.display());
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let Some(name) = path.file_name().map(OsStr::to_os_string) else {
            // `/`, or a link that ends in `..`: a folder without a name.
            let folder = open_folder(root, &path)?;
            let stat = path::stat(folder.as_fd()).doing(doing)?;
            return Ok(Located { folder, name: ".".into(), path, stat: Some(stat) });
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        let folder = open_folder(root, parent)?;
        let found = look(folder.as_fd(), &name)?;
        match found {
            Some((link, stat)) if follow && stat.st_mode & libc::S_IFMT == libc::S_IFLNK => {
                let target = nix::fcntl::readlinkat(&link, "").doing(doing)?;
                path = parent.join(target);
            }
            found => return Ok(Located { folder, name, path, stat: found.map(|(_, stat)| stat) }),
        }
    }
    Err(Error::invalid(doing(), "too many symlinks"))
}

fn open_folder(root: BorrowedFd, path: &Path) -> Result<OwnedFd> {
    path::open_in(root, path, libc::O_PATH | libc::O_DIRECTORY).map_err(|e| match e.errno() {
        Errno::ENOENT => could_not_find(format!("find {}", path.display()), path),
        Errno::ENOTDIR => Error::invalid(format!("find {}", path.display()), "not a directory"),
        _ => Error::sys(format!("open {}", path.display()), e),
    })
}

/// The words that scripts look for, about the path that was typed and not the folder in which it isn't.
fn not_found(doing: String, typed: &Path, e: Error) -> Error {
    match e.class {
        Class::NotFound => could_not_find(doing, typed),
        _ => Error { doing, ..e },
    }
}

fn could_not_find(doing: String, path: &Path) -> Error {
    Error::new(Class::NotFound, doing, format!("Could not find the file {}", path.display()))
}

fn kind_name(kind: u32) -> &'static str {
    match kind {
        libc::S_IFIFO => "named pipe",
        libc::S_IFSOCK => "socket",
        _ => "device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> (String, bool, bool) {
        let typed = Typed::new(Path::new("/here"), OsStr::new(text));
        (typed.path.display().to_string(), typed.contents, typed.folder)
    }

    #[test]
    fn the_end_of_a_path_tells_what_is_meant() {
        assert_eq!(typed("a/b"), ("/here/a/b".into(), false, false));
        assert_eq!(typed("/a//b/"), ("/a/b".into(), false, true));
        assert_eq!(typed("/a/."), ("/a".into(), true, false));
        assert_eq!(typed("."), ("/here".into(), true, false));
        assert_eq!(typed("/"), ("/".into(), true, true));
        assert_eq!(typed("../../../x"), ("/x".into(), false, false));
        assert_eq!(typed("/a/../b"), ("/b".into(), false, false));
    }
}
