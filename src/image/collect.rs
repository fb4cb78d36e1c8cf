//! Collecting: blobs and snapshots that no image and no container needs any more go.
//!
//! Who makes something, or is about to write down that it needs something, holds the store ([`Store::hold`], a shared flock(2)); who
//! collects has it alone, and looks at what is needed only then. As long as anybody holds it there is a mark that something is to be
//! collected, and the next one who removes or makes an image does it.
//!
//! See it: `du -sh /var/lib/onggi/snapshots/*`, `ls /var/lib/onggi/images`. Read: flock(2).

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::digest::{ChainId, Digest};
use super::durable::Temporary;
use super::manifest::{ImageConfig, Manifest};
use super::resolve::{ManifestOrIndex, config_of};
use super::store::Store;
use crate::error::{Doing, Result};

/// A container, as far as images care.
#[derive(Debug, Clone)]
pub struct User {
    pub container: String,
    pub is_running: bool,
    /// The image's ID.
    pub image: String,
    pub manifest: String,
    pub layers: Vec<ChainId>,
}

/// Asked when nothing can change: which containers there are.
pub type Users<'a> = &'a dyn Fn() -> Result<Vec<User>>;

/// What went.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Freed {
    pub snapshots: Vec<ChainId>,
    pub blobs: u64,
    /// Of both.
    pub bytes: u64,
}

/// Says that there may be something to collect.
///
/// # Errors
/// ENOSPC, EACCES.
pub fn want(store: &Store) -> Result<()> {
    fs::write(mark(store), b"").doing(|| "say that there is something to collect".into())
}

/// Collects if somebody said that there may be something, and if nobody holds the store.
///
/// # Errors
/// EACCES; Invalid when the list of images is damaged.
pub fn collect(store: &Store, users: Users) -> Result<Freed> {
    if !mark(store).exists() {
        return Ok(Freed::default());
    }
    let Some(_alone) = store.hold_alone()? else { return Ok(Freed::default()) };
    let mut needed = Needed::default();
    let repositories = store.repositories()?;
    for manifest in repositories.images.keys().chain(repositories.references.values()) {
        needed.manifest(store, manifest);
    }
    for user in users()? {
        needed.chains.extend(user.layers);
        for digest in [&user.image, &user.manifest].into_iter().filter_map(|text| Digest::parse(text).ok()) {
            needed.manifest(store, &digest);
        }
    }
    let freed = sweep(store, &needed)?;
    let _ = fs::remove_file(mark(store));
    Ok(freed)
}

fn mark(store: &Store) -> std::path::PathBuf {
    store.root().join("images/collect")
}

#[derive(Default)]
struct Needed {
    blobs: HashSet<Digest>,
    chains: HashSet<ChainId>,
}

impl Needed {
    /// The manifest or index, and all that it needs, as far as it is here.
    fn manifest(&mut self, store: &Store, digest: &Digest) {
        if !self.blobs.insert(digest.clone()) {
            return;
        }
        match store.read_json::<ManifestOrIndex>(digest) {
            Ok(ManifestOrIndex::Manifest(manifest)) => self.parts(store, &manifest),
            Ok(ManifestOrIndex::Index(index)) => index.manifests.iter().for_each(|inner| self.manifest(store, &inner.digest)),
            // A config, or a blob that somebody deleted.
            Err(_) => {}
        }
    }

    fn parts(&mut self, store: &Store, manifest: &Manifest) {
        self.blobs.insert(manifest.config.digest.clone());
        self.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        if let Ok(config) = config_of::<ImageConfig>(store, manifest) {
            self.chains.extend(ChainId::stack(&config.rootfs.diff_ids));
        }
    }
}

fn sweep(store: &Store, needed: &Needed) -> Result<Freed> {
    let mut freed = Freed::default();
    // Aside first: a snapshot that has a name is whole, also when this is killed in the middle.
    let temporary = Temporary::new(store)?;
    for (path, digest) in named(&store.root().join("snapshots"))? {
        let chain = ChainId(digest);
        if !needed.chains.contains(&chain) {
            freed.bytes += super::list::layer_size(store, &chain);
            fs::rename(&path, temporary.path().join(chain.0.hex())).doing(|| format!("remove {}", path.display()))?;
            freed.snapshots.push(chain);
        }
    }
    for (path, digest) in named(&store.root().join("images/blobs/sha256"))? {
        if !needed.blobs.contains(&digest) {
            freed.bytes += path.metadata().map_or(0, |meta| meta.len());
            fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
            freed.blobs += 1;
        }
    }
    // Nobody fetches anything while we are alone: these were left by who was killed.
    for (path, _) in named(&store.root().join("images/partial")).unwrap_or_default() {
        freed.bytes += path.metadata().map_or(0, |meta| meta.len());
        fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
    }
    freed.snapshots.sort();
    Ok(freed)
}

fn named(dir: &Path) -> Result<Vec<(std::path::PathBuf, Digest)>> {
    let entries = fs::read_dir(dir).doing(|| format!("read {}", dir.display()))?;
    let digest = |entry: &fs::DirEntry| Digest::parse(&format!("sha256:{}", entry.file_name().to_string_lossy())).ok();
    Ok(entries.flatten().filter_map(|entry| digest(&entry).map(|digest| (entry.path(), digest))).collect())
}
