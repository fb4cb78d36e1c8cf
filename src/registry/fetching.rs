//! One blob's way from the registry outside into the layout: written aside, hashed as it comes, and kept only when it is the right one.
//!
//! A connection that breaks is taken up again where it broke.
//!
//! See it: `ls -l /var/lib/onggi/registry/uploads`. Source: distribution specification, "Pulling blobs"; RFC 9110, 14 "Range Requests".

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::body::PIECE;
use super::counts::Counts;
use super::layout::Layout;
use super::mirror::Arriving;
use super::outside::Outside;
use crate::error::{Class, Doing, Error, Result};
use crate::id;
use crate::image::digest::{Digest, Hashing};

/// So often a broken connection is taken up again, each time a little later.
const ATTEMPTS: u32 = 5;
/// A registry that doesn't say how long a blob is gets so far.
const LONGEST: u64 = 64 << 30;

/// Fetches a blob; `arriving` is told how far it is.
///
/// # Errors
/// NotFound, Denied, those of the way; Invalid for other bytes than the digest names. Nothing is left behind.
pub fn fetch(layout: &Layout, outside: &Outside, counts: &Counts, (name, digest): (&str, &Digest), arriving: &Arriving) -> Result<()> {
    let doing = || format!("fetch the blob {} of {}/{name}", digest.short(), outside.registry);
    let aside = Aside(layout.uploads().join(id::random()?));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&aside.0).doing(doing)?;
    let mut writer = Hashing::new(file.try_clone().doing(doing)?);
    let (mut written, mut total, mut has_begun) = (0, None, false);
    for attempt in 0.. {
        let copied = outside.blob(name, digest, written).and_then(|(from, told, mut content)| {
            if !has_begun {
                arriving.begin(file.try_clone().doing(doing)?, told);
                (total, has_begun) = (told, true);
            }
            skip(&mut content, written - from.min(written)).doing(doing)?;
            copy(content, &mut writer, total.unwrap_or(LONGEST), &mut written, |piece, written| {
                counts.fetched(piece);
                arriving.reach(written);
            })
            .map_err(|e| Error { doing: doing(), ..e })
        });
        match copied {
            // Less than was announced is a broken connection, too.
            Ok(()) if total.is_none_or(|total| written == total) => break,
            Err(e) if !has_begun || is_ours(&e) || attempt >= ATTEMPTS => return Err(e),
            Ok(()) if attempt >= ATTEMPTS => return Err(Error::new(Class::System, doing(), "it ended too early, again and again")),
            _ => std::thread::sleep(Duration::from_millis(100 << attempt)),
        }
    }
    let (_, found, _) = writer.finish();
    if found != *digest {
        return Err(Error::invalid(doing(), format!("its bytes are {found}: the registry is damaged, or somebody changed them on the way")));
    }
    layout.keep(&aside.0, &file, digest)
}

/// A full disk doesn't get better by asking again.
fn is_ours(error: &Error) -> bool {
    error.class == Class::Conflict
}

fn skip(content: &mut impl Read, count: u64) -> std::io::Result<()> {
    std::io::copy(&mut content.by_ref().take(count), &mut std::io::sink()).map(drop)
}

/// Copies to the end, or to `most` bytes in all.
fn copy(mut content: impl Read, to: &mut Hashing<File>, most: u64, written: &mut u64, mut tell: impl FnMut(usize, u64)) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match content.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) if *written + count as u64 > most => {
                return Err(Error::new(Class::Conflict, "", format!("it is longer than the {most} bytes that it may have")));
            }
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e).doing(String::new),
        };
        to.write_all(&piece[..count]).doing(String::new).map_err(|e| e.class(Class::Conflict))?;
        *written += count as u64;
        tell(count, *written);
    }
}

/// A file that goes if it wasn't given its place.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
