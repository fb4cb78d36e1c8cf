//! An image in a file: the files of an archive, or of a directory, found by their names.
//!
//! An archive comes as a stream and in any order, so that all of its files are put aside first. No name in it ever becomes a name on this
//! host: they are keys of a table, and a link is a key that means another. In a directory no link is followed at all.
//!
//! See it: `tar tf IMAGE.tar`. Source: OCI image specification, image-layout.md; `docker save`'s own manifest.json.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::compression;
use super::digest::{Digest, Hashing};
use super::durable::{Temporary, sync_parent};
use super::layer_entry::{copy_content, inside, unreadable};
use super::store::Store;
use super::tar_header::Kind;
use super::tar_reader::Reader;
use crate::error::{Class, Doing, Error, Result};
use crate::sys::path;

/// Five hundred images of thirty layers, as Docker of old wrote them, are 45 000 files.
const MOST_FILES: usize = 200_000;

const LONGEST_NAMES: usize = 4096;

/// Links after each other; Docker writes one.
const MOST_LINKS: usize = 8;

/// The files of an image.
pub enum Source {
    Archive { files: HashMap<PathBuf, Stored>, links: HashMap<PathBuf, PathBuf>, _temporary: Temporary },
    Folder(OwnedFd),
}

/// A file that was put aside.
pub struct Stored {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl Source {
    /// Reads an archive to its end, whatever it is compressed with.
    ///
    /// # Errors
    /// Invalid for what is no archive, or one with too much in it; ENOSPC.
    pub fn archive(store: &Store, input: impl Read) -> Result<Source> {
        let temporary = Temporary::new(store)?;
        let (mut files, mut links) = (HashMap::new(), HashMap::new());
        let mut count = 0;
        let mut archive = Reader::new(compression::undone(input).map_err(in_archive)?);
        let mut buffer = vec![0u8; 256 << 10];
        while let Some(entry) = archive.next_entry().map_err(in_archive)? {
            count += 1;
            if count > MOST_FILES || entry.name.len() + entry.link.len() > LONGEST_NAMES {
                return Err(Error::invalid("read the archive", "it has more files, or longer names, than an image has"));
            }
            let name = inside(&entry.name)?;
            let linked = Path::new(std::ffi::OsStr::from_bytes(&entry.link));
            match entry.kind {
                Kind::File => {
                    let path = temporary.path().join(count.to_string());
                    let file = new_file(&path)?;
                    copy_content(&entry, &mut archive, file, &mut buffer, &name)?;
                    let (digest, size) = digest_of(&path)?;
                    links.remove(&name);
                    // A second file of this name takes the place of the first, whose bytes wait for the end.
                    files.insert(name, Stored { path, digest, size });
                }
                Kind::Symlink => drop(links.insert(name.clone(), name.parent().unwrap_or(Path::new("")).join(linked))),
                Kind::HardLink => drop(links.insert(name, linked.to_path_buf())),
                Kind::Folder => {}
                _ => return Err(Error::invalid("read the archive", format!("{} is no file: this is no image", name.display()))),
            }
        }
        Ok(Source::Archive { files, links, _temporary: temporary })
    }

    /// A directory with an image's files in it.
    ///
    /// # Errors
    /// NotFound, Denied.
    pub fn folder(dir: &Path) -> Result<Source> {
        path::open_root(dir).doing(|| format!("open {}", dir.display())).map(Source::Folder)
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// A small file whole.
    ///
    /// # Errors
    /// NotFound; Invalid for a big one.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        const BIGGEST: u64 = 4 << 20;
        let doing = || format!("read {name} of the image");
        let mut bytes = Vec::new();
        self.open(name)?.take(BIGGEST + 1).read_to_end(&mut bytes).doing(doing)?;
        if bytes.len() as u64 > BIGGEST { Err(Error::invalid(doing(), "it has more than 4 MiB")) } else { Ok(bytes) }
    }

    /// A file, to be read as a stream.
    ///
    /// # Errors
    /// NotFound.
    pub fn open(&self, name: &str) -> Result<File> {
        let missing = || Error::new(Class::NotFound, format!("read {name} of the image"), "it is missing");
        match self {
            Source::Archive { .. } => {
                let stored = self.stored(name).ok_or_else(missing)?;
                File::open(&stored.path).doing(|| format!("read {name} of the image"))
            }
            Source::Folder(root) => {
                let plain = path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS;
                // Looked at first: opening a FIFO would wait, and opening a device can do things of its own.
                for flags in [libc::O_PATH, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY] {
                    let fd = path::openat2(root.as_fd(), Path::new(name), flags, 0, plain).map_err(|e| missing().hint(e.to_string()))?;
                    let kind = path::stat(fd.as_fd()).doing(|| format!("look at {name}"))?.st_mode & libc::S_IFMT;
                    match kind {
                        libc::S_IFREG if flags != libc::O_PATH => return Ok(File::from(fd)),
                        libc::S_IFREG => {}
                        _ => break,
                    }
                }
                Err(missing().hint("what has this name is no file"))
            }
        }
    }

    /// Puts a file into the store, as it is: (digest, size).
    ///
    /// # Errors
    /// NotFound; Invalid when it is not the one that is expected; ENOSPC.
    pub fn keep(&mut self, store: &Store, name: &str, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        if let Some(expected) = expected.filter(|expected| store.has(expected)) {
            let size = store.blob_path(expected).metadata().map_or(0, |meta| meta.len());
            return Ok((expected.clone(), size));
        }
        let (digest, size) = match self.stored(name) {
            None => {
                let mut writer = store.writer()?;
                std::io::copy(&mut self.open(name)?, &mut writer).doing(|| format!("store {name} of the image"))?;
                return writer.commit(expected);
            }
            Some(stored) => (stored.digest.clone(), stored.size),
        };
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(Error::invalid(format!("store blob {}", expected.short()), format!("its bytes are {digest}")));
        }
        if !store.has(&digest) {
            self.move_into(store, name, &digest)?;
        }
        Ok((digest, size))
    }

    /// The file that was put aside becomes the blob; no byte is copied again.
    fn move_into(&mut self, store: &Store, name: &str, digest: &Digest) -> Result<()> {
        let Source::Archive { files, links, .. } = self else { return Ok(()) };
        let Some(stored) = target(files, links, name).and_then(|key| files.get_mut(&key)) else { return Ok(()) };
        let (doing, place) = (|| format!("store {name} of the image"), store.blob_path(digest));
        File::open(&stored.path).and_then(|file| file.sync_all()).doing(doing)?;
        std::fs::rename(&stored.path, &place).doing(doing)?;
        stored.path.clone_from(&place);
        sync_parent(&place)
    }

    fn stored(&self, name: &str) -> Option<&Stored> {
        match self {
            Source::Archive { files, links, .. } => target(files, links, name).and_then(|key| files.get(&key)),
            Source::Folder(_) => None,
        }
    }
}

/// The name of the file that a name means, links followed inside the archive.
fn target(files: &HashMap<PathBuf, Stored>, links: &HashMap<PathBuf, PathBuf>, name: &str) -> Option<PathBuf> {
    let mut name = inside(name.as_bytes()).ok()?;
    for _ in 0..MOST_LINKS {
        if files.contains_key(&name) {
            return Some(name);
        }
        name = inside(links.get(&name)?.as_os_str().as_bytes()).ok()?;
    }
    None
}

fn new_file(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).doing(|| format!("make {}", path.display()))
}

fn digest_of(path: &Path) -> Result<(Digest, u64)> {
    let mut hashing = Hashing::new(std::io::sink());
    let mut file = File::open(path).doing(|| format!("read {}", path.display()))?;
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        match file.read(&mut buffer).doing(|| format!("read {}", path.display()))? {
            0 => break,
            count => hashing.write_all(&buffer[..count]).doing(|| "take a digest".into())?,
        }
    }
    let (_, digest, size) = hashing.finish();
    Ok((digest, size))
}

fn in_archive(e: std::io::Error) -> Error {
    Error { doing: "read the archive".into(), ..unreadable(e) }
}
