//! The store: blobs under their digests.
//!
//! ```text
//! ROOT/version                  of the layout; a newer one is refused
//! ROOT/images/blobs/sha256/HEX  manifests, configs, layers: never changed, only added and removed
//! ROOT/images/repositories.json which images there are, and what they are called (`list`)
//! ROOT/snapshots/HEX/fs         layers unpacked, by chain ID (`snapshot`)
//! ROOT/tmp/…                    what is being made; without a living maker it is rubbish
//! ```
//! Everything is made under `tmp`, synced, and renamed into its place: a name in the store means that the whole is there. A maker
//! holds a lock (flock(2)) on its folder in `tmp`; the kernel drops it with the maker, however that ends, and the next one clears up.
//!
//! See it: `find /var/lib/onggi/images`. Read: rename(2), fsync(2), flock(2). Source: OCI image specification, image-layout.md.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::digest::{Digest, Hashing};
use super::durable::{Temporary, make_dir, sync_parent, write_whole};
use crate::error::{Class, Doing, Error, Result};

/// The layout that this program writes.
const VERSION: u32 = 1;

/// Held by many who need what is in the store, or by one who removes from it.
const IN_USE: &str = "images/in_use.lock";

/// Manifests and configs are a few kilobytes; the registries' own limit is 4 MiB.
const BIGGEST_JSON: u64 = 4 << 20;

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store in `root`, and makes it when there is none.
    ///
    /// # Errors
    /// Unsupported when a newer Onggi wrote it; EACCES, ENOSPC.
    pub fn open(root: &Path) -> Result<Store> {
        let store = Store { root: root.to_path_buf() };
        let version = root.join("version");
        let text = match fs::read_to_string(&version) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                store.create()?;
                return Ok(store);
            }
            Err(e) => return Err(e).doing(|| format!("read {}", version.display())),
        };
        let doing = || format!("open the store {}", root.display());
        match text.trim().parse::<u32>() {
            Ok(found) if found <= VERSION => Ok(store),
            Ok(found) => {
                Err(Error::new(Class::Unsupported, doing(), format!("its layout is version {found}, and this onggi knows {VERSION} at most"))
                    .hint("a newer onggi has used it: use that one, or another folder with ONGGI_ROOT"))
            }
            Err(_) => Err(Error::invalid(doing(), format!("{} holds {text:?}, which is no version", version.display()))),
        }
    }

    fn create(&self) -> Result<()> {
        // Layers have setuid programs and device nodes in them: nobody else may walk in.
        for (dir, mode) in
            [("", 0o711), ("images", 0o700), ("images/blobs", 0o700), ("images/blobs/sha256", 0o700), ("snapshots", 0o711), ("tmp", 0o700)]
        {
            make_dir(&self.root.join(dir), mode)?;
        }
        let _lock = self.lock("tmp/.lock")?;
        // Last: a store with a version has all its folders.
        write_whole(&self.root.join("version"), format!("{VERSION}\n").as_bytes())
    }

    /// The folder that holds all of it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("images/blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// A small blob whole, its digest checked.
    ///
    /// # Errors
    /// NotFound, Invalid when its bytes are not the ones that the digest names.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let doing = || format!("read blob {}", digest.short());
        let mut bytes = Vec::new();
        File::open(&path).and_then(|file| file.take(BIGGEST_JSON).read_to_end(&mut bytes)).doing(doing)?;
        if Digest::of(&bytes) != *digest {
            return Err(Error::invalid(doing(), format!("{} was changed: its bytes are {}", path.display(), Digest::of(&bytes)))
                .hint("delete it, and pull or make the image again"));
        }
        Ok(bytes)
    }

    /// A JSON blob as what it is.
    ///
    /// # Errors
    /// As [`Store::read`]; Invalid when it is something else.
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T> {
        let bytes = self.read(digest)?;
        serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("read blob {}", digest.short()), e.to_string()))
    }

    /// A big blob, to be read as a stream; who reads it to its end can check its digest.
    ///
    /// # Errors
    /// NotFound.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        File::open(self.blob_path(digest)).doing(|| format!("open blob {}", digest.short()))
    }

    /// Puts bytes into the store.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.has(&digest) {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer.write_all(bytes).doing(|| format!("write blob {}", digest.short()))?;
        writer.commit(Some(&digest)).map(|(digest, _)| digest)
    }

    /// A new blob, to be written as a stream.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn writer(&self) -> Result<BlobWriter> {
        let temporary = Temporary::new(self)?;
        let path = temporary.path().join("blob");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).doing(|| format!("make {}", path.display()))?;
        Ok(BlobWriter { store: self.clone(), temporary, file: Hashing::new(file) })
    }

    /// Keeps all that is in the store from being collected until the answer is dropped: whoever makes an image, or is about to write down
    /// that a container needs one, holds this.
    ///
    /// # Errors
    /// EACCES, ENOSPC.
    pub fn hold(&self) -> Result<Held> {
        let (path, file) = self.open_lock(IN_USE)?;
        file.lock_shared().doing(|| format!("lock {}", path.display()))?;
        Ok(Held(file))
    }

    /// The store for one who removes things from it; None as long as somebody holds it.
    ///
    /// # Errors
    /// EACCES, ENOSPC.
    pub(super) fn hold_alone(&self) -> Result<Option<Held>> {
        let (path, file) = self.open_lock(IN_USE)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Held(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e).doing(|| format!("lock {}", path.display())),
        }
    }

    /// Waits until nobody else holds the lock of this name; held until the answer is dropped.
    ///
    /// # Errors
    /// EACCES, ENOSPC.
    pub fn lock(&self, name: &str) -> Result<File> {
        let (path, file) = self.open_lock(name)?;
        file.lock().doing(|| format!("lock {}", path.display()))?;
        Ok(file)
    }

    fn open_lock(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.root.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        file.doing(|| format!("open the lock {}", path.display())).map(|file| (path, file))
    }
}

/// See [`Store::hold`].
#[must_use]
pub struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Not just closed: a process that was forked meanwhile has the same open file, and would hold the lock on.
        let _ = self.0.unlock();
    }
}

/// A blob on its way. Dropped without [`BlobWriter::commit`], it is gone.
#[must_use]
pub struct BlobWriter {
    store: Store,
    temporary: Temporary,
    file: Hashing<File>,
}

impl BlobWriter {
    /// Puts what was written into the store, under its digest: (digest, size).
    ///
    /// # Errors
    /// Invalid when it isn't the `expected` one; ENOSPC.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let BlobWriter { store, temporary, file } = self;
        let (file, digest, size) = file.finish();
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(Error::invalid(format!("store blob {}", expected.short()), format!("its bytes are {digest}")));
        }
        let doing = || format!("store blob {}", digest.short());
        file.sync_all().doing(doing)?;
        let place = store.blob_path(&digest);
        fs::rename(temporary.path().join("blob"), &place).doing(doing)?;
        sync_parent(&place)?;
        Ok((digest, size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::Folder;

    #[test]
    fn a_blob_is_found_under_its_digest_and_checked_when_read() {
        let folder = Folder::new();
        let store = Store::open(folder.path()).unwrap();
        let digest = store.put(b"onggi").unwrap();
        assert_eq!(store.put(b"onggi").unwrap(), digest);
        assert_eq!(store.read(&digest).unwrap(), b"onggi");
        fs::write(store.blob_path(&digest), b"other").unwrap();
        let error = store.read(&digest).unwrap_err();
        assert!(error.class == Class::Invalid && error.to_string().contains("was changed"), "{error}");
        assert_eq!(store.read(&Digest::of(b"not here")).unwrap_err().class, Class::NotFound);
    }

    #[test]
    fn a_wrong_blob_is_refused_and_leaves_nothing() {
        let folder = Folder::new();
        let store = Store::open(folder.path()).unwrap();
        let mut writer = store.writer().unwrap();
        writer.write_all(b"evil").unwrap();
        assert_eq!(writer.commit(Some(&Digest::of(b"good"))).unwrap_err().class, Class::Invalid);
        assert_eq!(fs::read_dir(folder.path().join("images/blobs/sha256")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 1, "only the lock");
    }

    #[test]
    fn a_store_of_a_newer_version_is_refused() {
        let folder = Folder::new();
        Store::open(folder.path()).unwrap();
        fs::write(folder.path().join("version"), "2\n").unwrap();
        let error = Store::open(folder.path()).unwrap_err();
        assert!(error.class == Class::Unsupported && error.to_string().contains("version 2"), "{error}");
        fs::write(folder.path().join("version"), "x").unwrap();
        assert_eq!(Store::open(folder.path()).unwrap_err().class, Class::Invalid);
    }
}
