//! One entry of a layer's archive, read: its name, owner, mode, time, attributes and content.
//!
//! See it: `tar tvf LAYER --full-time --xattrs`. Read: tar(5), pax(1) "pax Interchange Format".

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::time::TimeSpec;
use tar::EntryType;

use crate::error::{Doing, Error, Result};

/// What an entry's header says about its owner, mode, time and attributes.
pub struct Attributes {
    pub uid: u64,
    pub gid: u64,
    pub mode: u32,
    pub time: TimeSpec,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// A name in the archive as a path relative to the root, without `.` and `..`.
pub fn inside(name: &[u8]) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    let text = Path::new(std::ffi::OsStr::from_bytes(name));
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

pub fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> std::io::Result<Attributes> {
    let header = entry.header();
    let (uid, gid, mode) = (header.uid()?, header.gid()?, header.mode()?);
    let mut time = TimeSpec::new(header.mtime()? as i64, 0);
    let mut xattrs = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let Ok(key) = extension.key() else { continue };
            match key.strip_prefix("SCHILY.xattr.") {
                Some(name) if may_travel(name) => {
                    xattrs.push((name.to_string(), extension.value_bytes().to_vec()));
                }
                Some(_) => {}
                None if key == "mtime" => time = extension.value().ok().and_then(pax_time).unwrap_or(time),
                None => {}
            }
        }
    }
    Ok(Attributes { uid, gid, mode, time, xattrs })
}

/// Whether an extended attribute goes into archives and comes out of them. Overlay's own are ours to write: an image could send overlay
/// elsewhere with them. SELinux' labels belong to this host's policy.
pub fn may_travel(xattr: &str) -> bool {
    !xattr.starts_with("trusted.") && !xattr.starts_with("user.overlay.") && xattr != "security.selinux"
}

/// `1700000000.123`
fn pax_time(text: &str) -> Option<TimeSpec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(TimeSpec::new(seconds.parse().ok()?, nanoseconds.parse().ok()?))
}

pub fn link_name(entry: &tar::Entry<'_, impl Read>, path: &Path) -> Result<PathBuf> {
    let name = entry.link_name_bytes().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Error::invalid(format!("unpack {}", path.display()), "it is a link to nothing"))?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&name)))
}

pub fn copy_content(entry: &mut tar::Entry<'_, impl Read>, mut file: File, path: &Path) -> Result<()> {
    let mut buffer = vec![0u8; 64 << 10];
    let mut copied = 0;
    loop {
        match entry.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                file.write_all(&buffer[..count]).doing(|| format!("unpack {}", path.display()))?;
                copied += count as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable_entry(path, e)),
        }
    }
    match entry.header().entry_type() {
        EntryType::GNUSparse => Ok(()),
        _ if copied == entry.size() => Ok(()),
        _ => Err(Error::invalid(
            format!("unpack {}", path.display()),
            format!("the archive ends in the middle of it, after {copied} of {} bytes", entry.size()),
        )),
    }
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
