//! `cp`: arguments, and what is told of it on standard error.
//!
//! Read: docker cp(1).

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Args;

use super::human;
use super::progress::Progress;
use crate::engine::files::cp::{self, Choices};
use crate::engine::home::Home;
use crate::error::{Error, Result};

pub const HELP: &str = "\
Example:
  onggi cp web:/etc/os-release .
  onggi cp site/. web:/srv
  onggi cp web:/var/log - | tar t

`-` stands for a tar archive on standard input or output.";

#[derive(Debug, Args)]
pub struct CpArgs {
    /// Owners stay as they are (what comes out of a container is yours otherwise)
    #[arg(short, long)]
    archive: bool,
    /// If SOURCE is a link, copy what it leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Tell nothing [default: unless standard output is a terminal]
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    quiet: Option<bool>,
    /// CONTAINER:PATH, a path of this machine, or -
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// The same
    #[arg(value_name = "DESTINATION")]
    destination: OsString,
}

/// Copies.
///
/// # Errors
/// Those of [`cp`].
pub fn cp(args: &CpArgs) -> Result<u8> {
    let refuse = |why: &str| Err(Error::invalid("copy", why));
    if args.source.is_empty() {
        return refuse("source can not be empty");
    }
    if args.destination.is_empty() {
        return refuse("destination can not be empty");
    }
    let choices = Choices { keep_owners: args.archive, follow: args.follow_link };
    let quiet = args.quiet.unwrap_or(!std::io::stdout().is_terminal());
    match (side(&args.source), side(&args.destination)) {
        (Side::Container(..), Side::Container(..)) => refuse("copying between containers is not supported"),
        (Side::Container(_, path), _) | (_, Side::Container(_, path)) if path.is_empty() => refuse("the path in the container can not be empty"),
        (Side::Container(name, path), Side::Archive) => {
            let home = Home::open()?;
            super::to_stdout(|out| cp::out_as_archive(&home, name, path, args.follow_link, out))
        }
        (Side::Container(name, path), Side::Host(host)) => {
            let mut progress = Progress::new("Copying from container", quiet);
            let size = cp::out(&Home::open()?, name, path, host, choices, &mut |size| progress.show(size))?;
            let place = std::path::absolute(Path::new(host)).unwrap_or_else(|_| host.into());
            progress.end(&copied(size, &place.display().to_string()));
            Ok(0)
        }
        (Side::Archive, Side::Container(name, path)) => {
            let mut progress = Progress::new("Copying to container", true);
            cp::into_from_archive(&Home::open()?, std::io::stdin().lock(), name, path, &mut |size| progress.show(size)).map(|_| 0)
        }
        (Side::Host(host), Side::Container(name, path)) => {
            let mut progress = Progress::new("Copying to container", quiet);
            let size = cp::into(&Home::open()?, host, name, path, choices, &mut |size| progress.show(size))?;
            progress.end(&copied(size, &format!("{name}:{}", path.display())));
            Ok(0)
        }
        _ => Err(Error::invalid("copy", "must specify at least one container source")
            .hint("CONTAINER:PATH is a file in a container: `onggi cp web:/etc/os-release .`")),
    }
}

/// What an argument names.
#[derive(Debug, PartialEq)]
enum Side<'a> {
    Archive,
    Host(&'a OsStr),
    Container(&'a str, &'a OsStr),
}

/// A path that begins with `/` or `.` is the host's, whatever colons it has.
fn side(text: &OsStr) -> Side<'_> {
    let bytes = text.as_bytes();
    if bytes == b"-" {
        return Side::Archive;
    }
    let colon = bytes.iter().position(|&b| b == b':').filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b"."));
    match colon.map(|at| (std::str::from_utf8(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..]))) {
        Some((Ok(name), path)) if !name.is_empty() => Side::Container(name, path),
        _ => Side::Host(text),
    }
}

/// Docker's words.
fn copied(size: u64, place: &str) -> String {
    format!("Successfully copied {} to {place}", human::size(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_a_container_an_archive_or_a_path() {
        let side = |text: &'static str| side(OsStr::new(text));
        assert_eq!(side("web:/etc/a:b"), Side::Container("web", OsStr::new("/etc/a:b")));
        assert_eq!(side("web:rel"), Side::Container("web", OsStr::new("rel")));
        assert_eq!(side("-"), Side::Archive);
        for host in ["file", "./web:x", "/a:b", "../c:d", ":x", "-x"] {
            assert_eq!(side(host), Side::Host(OsStr::new(host)));
        }
    }
}
