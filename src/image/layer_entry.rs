//! One entry of a layer's archive: where its name leads, and its content on the way to a file.
//!
//! See it: `tar tvf LAYER --full-time --xattrs`. Read: tar(5), pax(1) "pax Interchange Format".

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::tar_reader::Entry;
use crate::error::{Doing, Error, Result};

/// A name in the archive as a path relative to the root, without `.` and `..`.
pub fn inside(name: &[u8]) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    let text = Path::new(OsStr::from_bytes(name));
    for component in text.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir if !path.pop() => {
                return Err(Error::invalid(format!("unpack {}", text.display()), "it leads out of the layer"));
            }
            _ => {}
        }
    }
    Ok(path)
}

/// Whether an extended attribute goes into archives and comes out of them. Overlay's own are ours to write: an image could send overlay
/// elsewhere with them. SELinux' labels belong to this host's policy.
pub fn may_travel(xattr: &str) -> bool {
    !xattr.starts_with("trusted.") && !xattr.starts_with("user.overlay.") && xattr != "security.selinux"
}

pub fn link_name(entry: &Entry, path: &Path) -> Result<PathBuf> {
    match entry.link.is_empty() {
        true => Err(Error::invalid(format!("unpack {}", path.display()), "it is a link to nothing")),
        false => Ok(PathBuf::from(OsStr::from_bytes(&entry.link))),
    }
}

/// Writes the entry's content, which `content` reads, into the new file; holes of a sparse file stay holes.
pub fn copy_content(entry: &Entry, content: &mut impl Read, mut file: File, buffer: &mut [u8], path: &Path) -> Result<()> {
    let doing = || format!("unpack {}", path.display());
    let whole = [(0, entry.size)];
    for &(offset, length) in entry.segments.as_deref().unwrap_or(&whole) {
        file.seek(SeekFrom::Start(offset)).doing(doing)?;
        let mut left = length;
        while left > 0 {
            let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match content.read(&mut buffer[..room]) {
                Ok(count) => {
                    file.write_all(&buffer[..count]).doing(doing)?;
                    left -= count as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable_entry(path, e)),
            }
        }
    }
    if entry.segments.is_some() { file.set_len(entry.size).doing(doing) } else { Ok(()) }
}

pub fn unreadable(e: std::io::Error) -> Error {
    match e.raw_os_error() {
        Some(_) => Err::<(), _>(e).doing(|| "read the layer".into()).unwrap_err(),
        None => Error::invalid("read the layer", e.to_string()),
    }
}

pub fn unreadable_entry(path: &Path, e: std::io::Error) -> Error {
    let mut error = unreadable(e);
    error.doing = format!("read the layer's entry {}", path.display());
    error
}
