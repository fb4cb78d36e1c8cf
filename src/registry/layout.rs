//! The images on disk: an OCI image layout, which one can copy to a stick and give to anybody's tools.
//!
//! ```text
//! DIR/oci-layout          the layout's version
//! DIR/index.json          which manifests there are, and where they belong (`catalog`)
//! DIR/blobs/sha256/HEX    manifests, configs, layers
//! DIR/uploads/…           what is on its way; cleared at the start, and nothing of it is ever served
//! DIR/.lock               held by the one server that writes here
//! ```
//! A blob is written aside, synced and renamed; `index.json` likewise. A blob that no manifest needs is collected when a manifest was
//! deleted, at the start and every few minutes, if nobody has asked for it for a while: a push names its manifest last.
//!
//! What docker pushed keeps docker's own media types, and so its digest; skopeo finds such manifests in registries only, onggi here, too.
//!
//! See it: `skopeo inspect oci:/var/lib/onggi/registry:team/web:1`. Source: OCI image specification, image-layout.md.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::answer::Refusal;
use super::catalog::Catalog;
use super::described::{self, Described};
use super::route::TagOrDigest;
use crate::error::{Class, Doing, Error, Result};
use crate::id;
use crate::image::digest::Digest;
use crate::image::durable::{sync_parent, write_whole};
use crate::image::manifest::{DOCKER_LIST, Descriptor, INDEX, Index};

/// So long a blob may lie here without a manifest that needs it: longer than any push takes from a blob to its manifest.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// An index of indexes of indexes: nobody makes more.
const DEEPEST: u32 = 4;

/// An open layout. One process has it.
pub struct Layout {
    root: PathBuf,
    catalog: Mutex<Arc<Catalog>>,
    _lock: Option<File>,
}

impl Layout {
    /// Opens the layout in `root`, and makes it when there is none. With `read_only` it may stand on a medium that can't be written.
    ///
    /// # Errors
    /// Conflict when another server has it, Invalid when it is something else, EACCES, ENOSPC.
    pub fn open(root: &Path, read_only: bool) -> Result<Layout> {
        if !(read_only && root.join("oci-layout").exists()) {
            create(root)?;
        }
        let lock = lock(root, read_only)?;
        if lock.is_some() {
            clear_uploads(root);
        }
        check_version(root)?;
        let path = root.join("index.json");
        let index: Index = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("read {}", path.display()), e.to_string()))?,
            Err(e) if e.kind() == ErrorKind::NotFound => Catalog::default().index(),
            Err(e) => return Err(e).doing(|| format!("read {}", path.display())),
        };
        if lock.is_some() && !path.exists() {
            write_index(root, &index)?;
        }
        Ok(Layout { root: root.to_path_buf(), catalog: Mutex::new(Arc::new(Catalog::of(index))), _lock: lock })
    }

    /// The folder of what is on its way.
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// Which images there are at this moment.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Arc<Catalog>> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// A blob and its size, or None.
    ///
    /// # Errors
    /// EIO, EMFILE.
    pub fn blob(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let doing = || format!("open blob {}", digest.short());
        match File::open(self.blob_path(digest)) {
            Ok(file) => file.metadata().doing(doing).map(|meta| Some((file, meta.len()))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).doing(doing),
        }
    }

    /// A blob's size, or None; one that is asked for is not collected soon.
    pub fn size_wanted(&self, digest: &Digest) -> Option<u64> {
        let file = File::open(self.blob_path(digest)).ok()?;
        // On a medium that can't be written nothing is collected.
        let _ = file.set_modified(SystemTime::now());
        Some(file.metadata().ok()?.len())
    }

    /// A manifest's bytes, or None.
    ///
    /// # Errors
    /// EIO; Invalid when they were changed on the disk.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some((file, _)) = self.blob(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(described::BIGGEST as u64 + 1).read_to_end(&mut bytes).doing(|| format!("read blob {}", digest.short()))?;
        match Digest::of(&bytes) == *digest {
            true => Ok(Some(bytes)),
            false => Err(Error::new(Class::System, format!("read blob {}", digest.short()), "its bytes were changed on the disk")),
        }
    }

    /// A manifest as what it needs; None for what isn't here or can't be read as one.
    pub fn described(&self, digest: &Digest) -> Option<Described> {
        described::read(&self.manifest(digest).ok()??).ok()
    }

    /// Puts small bytes under their digest.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size_wanted(&digest).is_some() {
            return Ok(digest);
        }
        let aside = self.uploads().join(id::random()?);
        let doing = || format!("write blob {}", digest.short());
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).and_then(|mut file| {
            file.write_all(bytes)?;
            Ok(file)
        });
        let kept = written.doing(doing).and_then(|file| self.keep(&aside, &file, &digest));
        if kept.is_err() {
            let _ = fs::remove_file(&aside);
        }
        kept.map(|()| digest)
    }

    /// Gives a file that was written aside, and whose digest was checked, its place.
    ///
    /// # Errors
    /// ENOSPC, EIO.
    pub fn keep(&self, aside: &Path, file: &File, digest: &Digest) -> Result<()> {
        let place = self.blob_path(digest);
        let _ = file.set_modified(SystemTime::now());
        file.sync_all().and_then(|()| fs::rename(aside, &place)).doing(|| format!("store blob {}", digest.short()))?;
        sync_parent(&place)
    }

    /// Changes which images there are: in memory only when it is on the disk. Nothing is collected meanwhile.
    ///
    /// # Errors
    /// Those of `change`; ENOSPC: nothing has changed then.
    pub fn change<T>(&self, change: impl FnOnce(&mut Catalog) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut locked = self.locked();
        let mut catalog = Catalog::clone(&locked);
        let answer = change(&mut catalog)?;
        write_index(&self.root, &catalog.index())?;
        *locked = Arc::new(catalog);
        Ok(answer)
    }

    /// The descriptor of a manifest that belongs to this repository: by its own line, or in one of the repository's indexes.
    pub fn find(&self, name: &str, place: &TagOrDigest) -> Option<Descriptor> {
        let catalog = self.catalog();
        if let Some(line) = catalog.line(name, place) {
            return Some(line.clone());
        }
        let TagOrDigest::Digest(digest) = place else { return None };
        catalog.repositories.get(name)?.lines().find_map(|line| self.child(line, digest, DEEPEST))
    }

    fn child(&self, parent: &Descriptor, digest: &Digest, depth: u32) -> Option<Descriptor> {
        if ![INDEX, DOCKER_LIST].contains(&parent.media_type.as_str()) || depth == 0 {
            return None;
        }
        let described = self.described(&parent.digest)?;
        let own = described.children().iter().find(|child| child.digest == *digest).cloned();
        own.or_else(|| described.children().iter().find_map(|child| self.child(child, digest, depth - 1)))
    }

    /// Removes the blobs that no manifest needs and nobody has asked for lately: how many bytes.
    ///
    /// # Errors
    /// EACCES, EIO.
    pub fn collect(&self, patience: Duration) -> Result<u64> {
        // Held to the end: no manifest is written down that needs what is being removed.
        let locked = self.locked();
        let mut needed = BTreeSet::new();
        locked.all().for_each(|line| self.need(line, &mut needed, DEEPEST));
        let folder = self.root.join("blobs/sha256");
        let mut freed = 0;
        for entry in fs::read_dir(&folder).doing(|| format!("list {}", folder.display()))?.flatten() {
            let Ok(digest) = Digest::parse(&format!("sha256:{}", entry.file_name().to_string_lossy())) else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            let is_old = meta.modified().is_ok_and(|time| time.elapsed().unwrap_or_default() >= patience);
            if is_old && !needed.contains(&digest) {
                fs::remove_file(entry.path()).doing(|| format!("remove blob {}", digest.short()))?;
                freed += meta.len();
            }
        }
        Ok(freed)
    }

    /// Removes a blob that no manifest needs: whether it was removed, or None when there is none.
    ///
    /// # Errors
    /// EACCES, EIO.
    pub fn remove_blob(&self, digest: &Digest) -> Result<Option<bool>> {
        let locked = self.locked();
        let mut needed = BTreeSet::new();
        locked.all().for_each(|line| self.need(line, &mut needed, DEEPEST));
        if needed.contains(digest) {
            return Ok(Some(false));
        }
        match fs::remove_file(self.blob_path(digest)) {
            Ok(()) => Ok(Some(true)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).doing(|| format!("remove blob {}", digest.short())),
        }
    }

    fn need(&self, line: &Descriptor, needed: &mut BTreeSet<Digest>, depth: u32) {
        if !needed.insert(line.digest.clone()) || depth == 0 {
            return;
        }
        let Some(described) = self.described(&line.digest) else { return };
        let blobs = described.config.iter().chain(described.layers.iter().flatten());
        needed.extend(blobs.map(|blob| blob.digest.clone()));
        described.children().iter().for_each(|child| self.need(child, needed, depth - 1));
    }
}

fn create(root: &Path) -> Result<()> {
    // A fresh file system has a folder of its own.
    let is_other = |entry: fs::DirEntry| ![".lock", "lost+found"].iter().any(|name| entry.file_name() == *name);
    let is_strange = || fs::read_dir(root).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_other)));
    if !root.join("oci-layout").exists() && is_strange() {
        return Err(Error::invalid(format!("keep images in {}", root.display()), "there are other things in this folder")
            .hint("choose an empty folder, or one that is an OCI image layout"));
    }
    // What is in there may be nobody else's business, whatever the server's own rules are.
    for dir in ["", "blobs", "blobs/sha256", "uploads"] {
        // Not by chmod(2), which a stick's file system refuses.
        let dir = root.join(dir);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).doing(|| format!("make {}", dir.display()))?;
    }
    let version = root.join("oci-layout");
    if version.exists() { Ok(()) } else { write_whole(&version, br#"{"imageLayoutVersion":"1.0.0"}"#) }
}

fn lock(root: &Path, read_only: bool) -> Result<Option<File>> {
    let path = root.join(".lock");
    let file = match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path) {
        Ok(file) => file,
        Err(e) if read_only && matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => return Ok(None),
        Err(e) => return Err(e).doing(|| format!("open the lock {}", path.display())),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Error::new(Class::Conflict, format!("serve {}", root.display()), "another registry serves this folder already"))
        }
        Err(fs::TryLockError::Error(e)) => Err(e).doing(|| format!("lock {}", path.display())),
    }
}

/// What a server that was killed left: its clients begin again.
fn clear_uploads(root: &Path) {
    for entry in fs::read_dir(root.join("uploads")).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

fn check_version(root: &Path) -> Result<()> {
    let path = root.join("oci-layout");
    let bytes = fs::read(&path).doing(|| format!("read {}", path.display()))?;
    let version = serde_json::from_slice::<serde_json::Value>(&bytes).ok().and_then(|value| Some(value["imageLayoutVersion"].as_str()?.to_string()));
    match version.as_deref() {
        Some("1.0.0") => Ok(()),
        other => Err(Error::invalid(format!("open the layout {}", root.display()), format!("its version is {}", other.unwrap_or("not told")))),
    }
}

fn write_index(root: &Path, index: &Index) -> Result<()> {
    write_whole(&root.join("index.json"), &serde_json::to_vec_pretty(index).unwrap_or_default())
}
