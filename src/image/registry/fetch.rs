//! A blob comes into the store: hashed while it arrives, readable while it grows, a blob only when its digest is right.
//!
//! ```text
//! ROOT/images/partial/HEX    on its way; flock(2) says who fetches it
//! ```
//! Who finds it locked waits: another process is fetching the very same. What a killed one left is where the next one goes on, by a
//! request for the bytes that are missing. What was interrupted by Ctrl-C, or turned out wrong, goes at once.
//!
//! See it: `watch ls -l /var/lib/onggi/images/partial` during a pull. Read: flock(2). Source: RFC 9110, 14.2 (Range).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cancel;
use super::failure::{Failure, printable};
use super::growing::Growing;
use super::repository::{Download, Repository};
use super::{State, Tell, Told};
use crate::error::{Class, Doing, Error, Result};
use crate::image::digest::{Digest, Hashing};
use crate::image::durable::{make_dir, sync_parent};
use crate::image::manifest::Descriptor;
use crate::image::store::Store;

/// Whoever gets on by so many bytes may fail as often again.
const PROGRESS: u64 = 1 << 20;

/// A blob on its way into the store.
struct Partial {
    path: PathBuf,
    file: File,
}

/// What a fetch needs.
pub struct Fetch<'a> {
    pub store: &'a Store,
    pub repository: &'a Repository,
    pub tell: Tell<'a>,
    /// Somebody has failed: all stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// Gets a blob; `growing` has it as far as it is here.
///
/// # Errors
/// NotFound, Denied; Invalid for other bytes than the digest names; ENOSPC.
pub fn blob(fetch: &Fetch, descriptor: &Descriptor, growing: &Growing) -> Result<()> {
    let fetched = get(fetch, descriptor, growing);
    growing.end(fetched.as_ref().copied().map_err(Error::one_line));
    fetched
}

fn get(fetch: &Fetch, descriptor: &Descriptor, growing: &Growing) -> Result<()> {
    let digest = &descriptor.digest;
    let doing = || format!("fetch the blob {} of {}", digest.short(), fetch.repository.full_name());
    let Some(partial) = claim(fetch, descriptor)? else {
        let file = fetch.store.open_blob(digest)?;
        let length = file.metadata().doing(doing)?.len();
        growing.begin(file, length);
        return Ok(());
    };
    let arrived = arrive(fetch, descriptor, &partial, growing).map_err(|failure| failure.into_error(doing()));
    if let Err(failed) = arrived {
        // What was right so far is worth going on from, unless somebody said that it is to end.
        if failed.is_wrong || cancel::is_on() {
            let _ = fs::remove_file(&partial.path);
        }
        return Err(failed.error);
    }
    (fetch.tell)(Told { layer: digest.short(), state: State::DownloadComplete });
    growing.end(Ok(()));
    let place = fetch.store.blob_path(digest);
    let kept = partial.file.sync_data().and_then(|()| fs::rename(&partial.path, &place)).doing(|| format!("store blob {}", digest.short()));
    kept.and_then(|()| sync_parent(&place)).inspect_err(|_| drop(fs::remove_file(&partial.path)))
}

/// The file to write to, ours alone; None when the blob is here.
fn claim(fetch: &Fetch, descriptor: &Descriptor) -> Result<Option<Partial>> {
    let digest = &descriptor.digest;
    let folder = fetch.store.root().join("images/partial");
    make_dir(&folder, 0o700)?;
    let path = folder.join(digest.hex());
    let doing = || format!("write {}", path.display());
    while !(fetch.stop)() {
        if fetch.store.has(digest) {
            return Ok(None);
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).doing(doing)?;
        match file.try_lock() {
            // Unless it was renamed or removed between our open and our lock.
            Ok(()) if is_still(&file, &path) && !fetch.store.has(digest) => return Ok(Some(Partial { path, file })),
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(e).doing(doing),
            Err(TryLockError::WouldBlock) => {
                let done = file.metadata().map_or(0, |meta| meta.len());
                (fetch.tell)(Told { layer: digest.short(), state: State::Downloading { done, total: descriptor.size } });
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    Err(interrupted(digest))
}

fn is_still(file: &File, path: &Path) -> bool {
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(|(ours, named)| (ours.dev(), ours.ino()) == (named.dev(), named.ino()))
}

fn interrupted(digest: &Digest) -> Error {
    Error::new(Class::System, format!("fetch the blob {}", digest.short()), "it was interrupted")
}

/// Why a blob did not arrive.
enum Wrong {
    /// The way failed.
    Failed(Failure),
    /// The disk did.
    Disk(std::io::Error),
    /// The bytes are others.
    Bytes(String),
}

struct Failed {
    error: Error,
    /// What is here is of no use.
    is_wrong: bool,
}

impl Wrong {
    fn into_error(self, doing: String) -> Failed {
        match self {
            Wrong::Failed(failure) => Failed { error: failure.doing(doing), is_wrong: false },
            Wrong::Disk(e) => Failed { error: Error::io(doing, &e), is_wrong: true },
            Wrong::Bytes(why) => Failed { error: Error::invalid(doing, why), is_wrong: true },
        }
    }
}

fn arrive(fetch: &Fetch, descriptor: &Descriptor, partial: &Partial, growing: &Growing) -> std::result::Result<(), Wrong> {
    let (mut hashing, mut length) = hash_of(&partial.file, descriptor.size).map_err(Wrong::Disk)?;
    growing.begin(partial.file.try_clone().map_err(Wrong::Disk)?, length);
    let (mut tries, mut from) = (0, length);
    while length < descriptor.size {
        match receive(fetch, descriptor, partial, growing, (&mut hashing, &mut length)) {
            Ok(()) => {}
            Err(Wrong::Failed(failure)) if !(fetch.stop)() => {
                if length > from + PROGRESS {
                    (tries, from) = (0, length);
                }
                tries += 1;
                let Some(pause) = failure.pause(tries) else { return Err(Wrong::Failed(failure)) };
                (fetch.tell)(Told { layer: descriptor.digest.short(), state: State::Retrying { seconds: pause.as_secs().max(1) } });
                cancel::sleep(pause);
            }
            Err(wrong) => return Err(wrong),
        }
    }
    (fetch.tell)(Told { layer: descriptor.digest.short(), state: State::Verifying });
    let (_, digest, _) = hashing.finish();
    match digest == descriptor.digest {
        true => Ok(()),
        false => Err(Wrong::Bytes(format!("the bytes that came are {digest}: somebody changed them on the way, or the registry is damaged"))),
    }
}

/// What is here of it already, hashed. What is too long is none of it.
fn hash_of(file: &File, size: u64) -> std::io::Result<(Hashing<std::io::Sink>, u64)> {
    let mut hashing = Hashing::new(std::io::sink());
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let (mut at, mut buffer) = (0, vec![0u8; 256 << 10]);
    loop {
        match file.read_at(&mut buffer, at)? {
            0 => return Ok((hashing, at)),
            count => {
                hashing.write_all(&buffer[..count])?;
                at += count as u64;
            }
        }
    }
}

/// One answer of the server, as far as it goes.
fn receive(
    fetch: &Fetch,
    descriptor: &Descriptor,
    partial: &Partial,
    growing: &Growing,
    (hashing, length): (&mut Hashing<std::io::Sink>, &mut u64),
) -> std::result::Result<(), Wrong> {
    // It was asked often enough; only what breaks off is worth going on with.
    let Download { from, total, mut body } = ask(fetch, descriptor, *length).map_err(|f| Wrong::Failed(Failure { may_pass: false, ..f }))?;
    if total.is_some_and(|total| total != descriptor.size) {
        let total = total.unwrap_or_default();
        return Err(Wrong::Bytes(format!("the registry has {total} bytes of it, and the manifest says {}", descriptor.size)));
    }
    if from != *length {
        // The server gives the whole only: once more from its first byte.
        (*hashing, *length) = (Hashing::new(std::io::sink()), 0);
    }
    let mut buffer = vec![0u8; 128 << 10];
    loop {
        if (fetch.stop)() {
            return Err(Wrong::Failed(Failure::words("it was interrupted")));
        }
        let broken = |e: std::io::Error| Wrong::Failed(Failure { may_pass: true, ..Failure::words(printable(&e.to_string())) });
        let count = body.read(&mut buffer).map_err(broken)?;
        if count == 0 {
            break;
        }
        if *length + count as u64 > descriptor.size {
            return Err(Wrong::Bytes(format!("more bytes came than the {} that the manifest says", descriptor.size)));
        }
        partial.file.write_all_at(&buffer[..count], *length).map_err(Wrong::Disk)?;
        hashing.write_all(&buffer[..count]).map_err(Wrong::Disk)?;
        *length += count as u64;
        growing.reach(*length);
        (fetch.tell)(Told { layer: descriptor.digest.short(), state: State::Downloading { done: *length, total: descriptor.size } });
    }
    match *length == descriptor.size {
        true => Ok(()),
        false => Err(Wrong::Failed(Failure { may_pass: true, ..Failure::words("the connection was closed in the middle") })),
    }
}

/// From the registry; a foreign layer that it doesn't have, from where its descriptor says.
fn ask(fetch: &Fetch, descriptor: &Descriptor, from: u64) -> std::result::Result<Download, Failure> {
    match fetch.repository.download(&descriptor.digest, from) {
        // It won't go on from here: from the beginning, then.
        Err(failure) if failure.status == Some(416) && from > 0 => fetch.repository.download(&descriptor.digest, 0),
        Err(failure) if failure.status == Some(404) && !descriptor.urls.is_empty() => {
            let mut answers = descriptor.urls.iter().map(|address| fetch.repository.download_from(address));
            answers.find(std::result::Result::is_ok).unwrap_or(Err(failure))
        }
        answered => answered,
    }
}
