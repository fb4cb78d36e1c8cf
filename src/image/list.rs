//! Which images there are, and what they are called.
//!
//! ```text
//! images/repositories.json   {"references": {"docker.io/library/base:latest": "sha256:MANIFEST", …},
//!                             "images": {"sha256:MANIFEST": {"id": "sha256:CONFIG", "created": …, "size": …}, …}}
//! ```
//! An image without a name (its name means another one by now) is in the second part only: a *dangling* one. What is in neither is nobody's.
//! The facts stand there so that a list of five hundred images is one file read; they never change, as the manifest's digest covers them.
//!
//! See it: `jq . /var/lib/onggi/images/repositories.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::digest::{ChainId, Digest};
use super::durable::write_whole;
use super::manifest::ImageConfig;
use super::reference::Reference;
use super::resolve::for_this_machine;
use super::snapshot;
use super::store::Store;
use crate::error::{Doing, Error, Result};

/// The file, as it is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repositories {
    pub references: BTreeMap<String, Digest>,
    /// None: what this manifest says could not be read when it was put down.
    pub images: BTreeMap<Digest, Option<Facts>>,
}

/// What a list shows of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The config's digest.
    pub id: Digest,
    #[serde(default)]
    pub created: String,
    /// Bytes of the files in its layers.
    pub size: u64,
}

/// An image and its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: Digest,
    pub created: String,
    pub size: u64,
    /// The manifests (or indexes) by which it is known, as a rule one.
    pub manifests: Vec<Digest>,
    /// Its names and the manifest that each means, sorted.
    pub names: Vec<(Reference, Digest)>,
}

/// All images, the newest first.
///
/// # Errors
/// Invalid when the file is damaged.
pub fn all(store: &Store) -> Result<Vec<Listed>> {
    Ok(listed(store, &store.repositories()?))
}

/// The same, of a file that was read already. An image that can't be read any more (a blob was deleted by hand) is left out.
pub fn listed(store: &Store, repositories: &Repositories) -> Vec<Listed> {
    let mut images: BTreeMap<Digest, Listed> = BTreeMap::new();
    let mut ids: BTreeMap<Digest, Digest> = BTreeMap::new();
    for manifest in repositories.images.keys().chain(repositories.references.values()) {
        if ids.contains_key(manifest) {
            continue;
        }
        let known = repositories.images.get(manifest).cloned().flatten();
        let Some(Facts { id, created, size }) = known.or_else(|| facts(store, manifest).ok()) else { continue };
        ids.insert(manifest.clone(), id.clone());
        let image = images.entry(id.clone()).or_insert(Listed { id, created, size, manifests: Vec::new(), names: Vec::new() });
        image.manifests.push(manifest.clone());
    }
    for (name, manifest) in &repositories.references {
        let image = ids.get(manifest).and_then(|id| images.get_mut(id));
        if let (Some(image), Ok(reference)) = (image, Reference::parse(name)) {
            image.names.push((reference, manifest.clone()));
        }
    }
    let mut all: Vec<Listed> = images.into_values().collect();
    all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    all
}

/// What a list shows of the image that this manifest describes.
///
/// # Errors
/// NotFound, Invalid.
pub fn facts(store: &Store, manifest: &Digest) -> Result<Facts> {
    let (_, manifest) = for_this_machine(store, manifest)?;
    let config: ImageConfig = store.read_json(&manifest.config.digest)?;
    let size = ChainId::stack(&config.rootfs.diff_ids).iter().map(|chain| layer_size(store, chain)).sum();
    Ok(Facts { id: manifest.config.digest, created: config.created.unwrap_or_default(), size })
}

/// Bytes of the files in the topmost layer of a stack; 0 when it isn't unpacked.
pub fn layer_size(store: &Store, chain: &ChainId) -> u64 {
    let dir = snapshot::dir(store, chain);
    match fs::read_to_string(dir.with_file_name("size")).ok().and_then(|text| text.trim().parse().ok()) {
        Some(size) => size,
        None => size_of_tree(&dir),
    }
}

fn size_of_tree(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of_tree(&entry.path()),
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    });
    sizes.sum()
}

impl Store {
    /// Which reference means which manifest.
    ///
    /// # Errors
    /// Invalid when the file is damaged.
    pub fn references(&self) -> Result<BTreeMap<String, Digest>> {
        Ok(self.repositories()?.references)
    }

    /// Names and images as they are now.
    ///
    /// # Errors
    /// Invalid when the file is damaged.
    pub fn repositories(&self) -> Result<Repositories> {
        let path = self.root().join("images/repositories.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("read {}", path.display()), e.to_string())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Repositories::default()),
            Err(e) => Err(e).doing(|| format!("read {}", path.display())),
        }
    }

    /// Lets `reference` mean this manifest (or index) from now on. The one that it meant before stays, without a name if it has no other.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn tag(&self, reference: &Reference, manifest: &Digest) -> Result<()> {
        self.add(manifest, std::slice::from_ref(reference))
    }

    /// Puts an image on the list, with these names or with none.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn add(&self, manifest: &Digest, names: &[Reference]) -> Result<()> {
        self.add_all(std::iter::once((manifest, names)))
    }

    /// Puts several images on the list at once.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn add_all<'a>(&self, images: impl Iterator<Item = (&'a Digest, &'a [Reference])>) -> Result<()> {
        let images: Vec<_> = images.map(|(manifest, names)| (manifest, facts(self, manifest).ok(), names)).collect();
        self.change_repositories(|repositories| {
            for (manifest, facts, names) in images {
                repositories.images.insert(manifest.clone(), facts);
                repositories.references.extend(names.iter().map(|name| (name.to_string(), manifest.clone())));
            }
        })
    }

    /// Takes the name away and answers what it meant. The image stays on the list.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn untag(&self, reference: &Reference) -> Result<Option<Digest>> {
        self.change_repositories(|repositories| repositories.references.remove(&reference.to_string()))
    }

    /// Changes the file, with nobody else changing it.
    pub(super) fn change_repositories<T>(&self, change: impl FnOnce(&mut Repositories) -> T) -> Result<T> {
        // Held from reading to renaming: two changes at once would otherwise lose one.
        let _lock = self.lock("images/repositories.lock")?;
        let mut repositories = self.repositories()?;
        let before = repositories.clone();
        let answer = change(&mut repositories);
        if repositories == before {
            return Ok(answer);
        }
        let text = serde_json::to_vec_pretty(&repositories).unwrap_or_default();
        write_whole(&self.root().join("images/repositories.json"), &text)?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::Folder;

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
}
