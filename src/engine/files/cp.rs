//! `cp`: between the host and a container, or between a container and a tar archive.
//!
//! Both sides are views, the host's and the container's, and one copy does for both directions.
//!
//! Read: docker cp(1).

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::place::{self, Destination, Typed};
use super::view::View;
use super::{Purpose, tree, unpack};
use crate::engine::home::Home;
use crate::engine::names;
use crate::error::{Class, Doing, Error, Result};
use crate::image::pack;
use crate::sys::mount::is_the_kernels;

/// How to copy.
#[derive(Debug, Default, Clone, Copy)]
pub struct Choices {
    /// Owners stay as they are. Without it, what comes out of a container is its copier's; what goes in keeps its numbers anyway.
    pub keep_owners: bool,
    /// A link given as the source is followed.
    pub follow: bool,
}

/// From a container to the host; answers the bytes that were copied, as an archive of them would have.
///
/// # Errors
/// NotFound for the container, the source, or the destination's folder; Invalid, Conflict for kinds that don't fit; ENOSPC.
pub fn out(home: &Home, container: &str, path: &OsStr, host: &OsStr, choices: Choices, told: &mut dyn FnMut(u64)) -> Result<u64> {
    let view = super::view_of(home, &names::find(home, container)?, Purpose::Read)?;
    let here = View::host()?;
    let source = place::source(view.root(), &Typed::new(Path::new("/"), path), choices.follow).map_err(|e| inside(container, e))?;
    let destination = place::destination(here.root(), &here_typed(host)?, source.is_folder).map_err(output_path)?;
    refuse_the_kernels(&destination)?;
    tree::copy(&source, &destination, choices.keep_owners, told)
}

/// From the host into a container; answers the bytes as [`out`] does.
///
/// # Errors
/// As [`out`]; Denied for a read-only root or volume.
pub fn into(home: &Home, host: &OsStr, container: &str, path: &OsStr, choices: Choices, told: &mut dyn FnMut(u64)) -> Result<u64> {
    let here = View::host()?;
    let source = place::source(here.root(), &here_typed(host)?, choices.follow).map_err(|e| match e.class {
        Class::NotFound => Error::new(e.class, e.doing, "no such file or directory"),
        _ => e,
    })?;
    let view = super::view_of(home, &names::find(home, container)?, Purpose::Write)?;
    let destination = writable(&view, container, &Typed::new(Path::new("/"), path), source.is_folder)?;
    tree::copy(&source, &destination, true, told)
}

/// From a container into an archive.
///
/// # Errors
/// NotFound; those of `archive`.
pub fn out_as_archive(home: &Home, container: &str, path: &OsStr, follow: bool, archive: impl Write) -> Result<()> {
    let view = super::view_of(home, &names::find(home, container)?, Purpose::Read)?;
    let source = place::source(view.root(), &Typed::new(Path::new("/"), path), follow).map_err(|e| inside(container, e))?;
    match source.name.as_encoded_bytes() {
        b"." => pack::tree(source.folder.as_fd(), archive),
        _ => pack::one(source.folder.as_fd(), &source.name, &source.called, archive),
    }
}

/// From an archive into a folder of a container; answers the bytes that came.
///
/// # Errors
/// Invalid when the destination is no folder, or for an archive that leads out of it; Denied for a read-only root or volume.
pub fn into_from_archive(home: &Home, archive: impl Read, container: &str, path: &OsStr, told: &mut dyn FnMut(u64)) -> Result<u64> {
    let view = super::view_of(home, &names::find(home, container)?, Purpose::Write)?;
    let must_be = || Error::invalid(format!("copy to {container}"), format!("destination \"{container}:{}\" must be a directory", path.display()));
    let typed = Typed { contents: false, folder: false, ..Typed::new(Path::new("/"), path) };
    match writable(&view, container, &typed, false) {
        Ok(Destination::Into { folder, path }) => unpack::unpack(archive, &folder, &path, told),
        Ok(Destination::As { .. }) => Err(must_be()),
        Err(e) if matches!(e.class, Class::NotFound | Class::Invalid) => Err(must_be()),
        Err(e) => Err(e),
    }
}

fn writable(view: &View, container: &str, typed: &Typed, source_is_folder: bool) -> Result<Destination> {
    let destination = place::destination(view.root(), typed, source_is_folder).map_err(|e| inside(container, e))?;
    refuse_the_kernels(&destination)?;
    let (Destination::Into { folder, path } | Destination::As { folder, path, .. }) = &destination;
    view.check_writable(folder.as_fd(), path, &format!("copy to {container}:{}", typed.path.display()))?;
    Ok(destination)
}

fn refuse_the_kernels(destination: &Destination) -> Result<()> {
    let (Destination::Into { folder, path } | Destination::As { folder, path, .. }) = destination;
    match is_the_kernels(folder.as_fd()) {
        true => Err(Error::new(Class::Denied, format!("copy to {}", path.display()), "nothing is copied into the kernel's own folders")),
        false => Ok(()),
    }
}

/// A path of the host, from the working directory.
fn here_typed(text: &OsStr) -> Result<Typed> {
    let here =
        if Path::new(text).is_absolute() { PathBuf::from("/") } else { std::env::current_dir().doing(|| "find the working directory".into())? };
    Ok(Typed::new(&here, text))
}

/// Docker's words for what a container doesn't have.
fn inside(container: &str, e: Error) -> Error {
    match &e.cause {
        Some(cause) if cause.to_string().starts_with("Could not find the file") => {
            Error::new(e.class, e.doing, format!("{cause} in container {container}"))
        }
        _ => e,
    }
}

/// And for a place on the host that can't be one.
fn output_path(e: Error) -> Error {
    match e.cause.as_ref().map(|cause| cause.to_string()) {
        Some(why) if why.contains("must be a directory or a regular file") => Error::new(e.class, e.doing, format!("invalid output path: {why}")),
        Some(why) if why.starts_with("Could not find the file ") => {
            let path = PathBuf::from(why.trim_start_matches("Could not find the file "));
            let folder = path.parent().unwrap_or(Path::new("/")).display().to_string();
            Error::new(e.class, e.doing, format!("invalid output path: directory {folder:?} does not exist"))
        }
        _ => e,
    }
}
