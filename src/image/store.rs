//! The store: blobs under their digests, and which reference means which manifest.
//!
//! ```text
//! ROOT/version                  of the layout; a newer one is refused
//! ROOT/images/blobs/sha256/HEX  manifests, configs, layers: never changed, only added and removed
//! ROOT/images/repositories.json {"references": {"docker.io/library/base:latest": "sha256:…"}}
//! ROOT/snapshots/HEX/fs         layers unpacked, by chain ID (`snapshot`)
//! ROOT/tmp/…                    what is being made; without a living maker it is rubbish
//! ```
//! Everything is made under `tmp`, synced, and renamed into its place: a name in the store means that the whole is there. A maker
//! holds a lock (flock(2)) on its folder in `tmp`; the kernel drops it with the maker, however that ends, and the next one clears up.
//!
//! See it: `find /var/lib/onggi/images`. Read: rename(2), fsync(2), flock(2). Source: OCI image specification, image-layout.md.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hashing};
use super::durable::{Temporary, make_dir, sync_parent, write_whole};
use super::reference::Reference;
use crate::error::{Class, Doing, Error, Result};

/// The layout that this program writes.
const VERSION: u32 = 1;

/// Manifests and configs are a few kilobytes; the registries' own limit is 4 MiB.
const BIGGEST_JSON: u64 = 4 << 20;

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Repositories {
    references: BTreeMap<String, Digest>,
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

    /// Which reference means which manifest.
    ///
    /// # Errors
    /// Invalid when the file is damaged.
    pub fn references(&self) -> Result<BTreeMap<String, Digest>> {
        Ok(self.repositories()?.references)
    }

    fn repositories(&self) -> Result<Repositories> {
        let path = self.root.join("images/repositories.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("read {}", path.display()), e.to_string())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Repositories::default()),
            Err(e) => Err(e).doing(|| format!("read {}", path.display())),
        }
    }

    /// Lets `reference` mean this manifest (or index) from now on.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn tag(&self, reference: &Reference, manifest: &Digest) -> Result<()> {
        self.change_references(|references| {
            references.insert(reference.to_string(), manifest.clone());
        })
    }

    /// Takes the name away and answers what it meant. The blobs stay: others may need them.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn untag(&self, reference: &Reference) -> Result<Option<Digest>> {
        let mut meant = None;
        self.change_references(|references| meant = references.remove(&reference.to_string()))?;
        Ok(meant)
    }

    fn change_references(&self, change: impl FnOnce(&mut BTreeMap<String, Digest>)) -> Result<()> {
        // Held from reading to renaming: two changes at once would otherwise lose one.
        let _lock = self.lock("images/repositories.lock")?;
        let mut repositories = self.repositories()?;
        change(&mut repositories.references);
        let text = serde_json::to_vec_pretty(&repositories).unwrap_or_default();
        write_whole(&self.root.join("images/repositories.json"), &text)
    }

    /// Waits until nobody else holds the lock of this name; held until the answer is dropped.
    ///
    /// # Errors
    /// EACCES, ENOSPC.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.root.join(name);
        let doing = || format!("lock {}", path.display());
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).doing(doing)?;
        file.lock().doing(doing)?;
        Ok(file)
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
    fn references_are_kept_and_forgotten() {
        let folder = Folder::new();
        let store = Store::open(folder.path()).unwrap();
        let (base, digest) = (Reference::parse("base").unwrap(), Digest::of(b""));
        assert!(store.references().unwrap().is_empty());
        store.tag(&base, &digest).unwrap();
        let again = Store::open(folder.path()).unwrap();
        assert_eq!(again.references().unwrap().get("docker.io/library/base:latest"), Some(&digest));
        assert_eq!(again.untag(&base).unwrap(), Some(digest));
        assert_eq!(store.untag(&base).unwrap(), None);
    }

    #[test]
    fn references_set_at_once_are_all_kept() {
        let folder = Folder::new();
        let store = Store::open(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let store = store.clone();
                scope.spawn(move || store.tag(&Reference::parse(&format!("base:{n}")).unwrap(), &Digest::of(b"")).unwrap());
            }
        });
        assert_eq!(store.references().unwrap().len(), 8);
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
