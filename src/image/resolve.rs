//! From a name to an image: reference → manifest → config → the directories of its layers.
//!
//! This is on the way of every `run`: three small files are read, and one look is taken at the top snapshot.
//!
//! See it: `cat /var/lib/onggi/images/repositories.json`.

use std::path::PathBuf;

use serde::Deserialize;

use super::digest::{ChainId, Digest};
use super::list::{self, Listed, Repositories};
use super::manifest::{self, Descriptor, ImageConfig, Index, Manifest};
use super::platform;
use super::reference::Reference;
use super::snapshot;
use super::store::Store;
use super::unpack;
use crate::error::{Class, Error, Result};

/// An image that is here, unpacked.
#[derive(Debug, Clone)]
pub struct Image {
    /// The config's digest.
    pub id: Digest,
    pub manifest: Digest,
    /// The name by which it was asked for, as people write it.
    pub reference: String,
    pub config: ImageConfig,
    /// The snapshot directories, the lowest first.
    pub layers: Vec<PathBuf>,
    /// Their names, in the same order.
    pub chain: Vec<ChainId>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum ManifestOrIndex {
    Manifest(Box<Manifest>),
    Index(Index),
}

/// Finds the image that `name` means: a reference, a digest, or the beginning of an ID. Layers that aren't unpacked are unpacked now.
///
/// # Errors
/// NotFound when there is none, Conflict when the beginning of an ID fits several, Invalid when the store is damaged.
pub fn resolve(store: &Store, name: &str) -> Result<Image> {
    let _held = store.hold()?;
    let found = find(store, &store.repositories()?, name)?;
    load(store, &found, Reference::parse(name).map_or(name.to_string(), |reference| reference.familiar()))
}

/// The manifest (or index) that `name` means.
///
/// # Errors
/// As [`resolve`].
pub fn find(store: &Store, repositories: &Repositories, name: &str) -> Result<Digest> {
    let reference = Reference::parse(name);
    let named = reference.as_ref().ok().and_then(|reference| match &reference.digest {
        Some(digest) => repositories.images.contains_key(digest).then_some(digest),
        None => repositories.references.get(&reference.to_string()),
    });
    if let Some(manifest) = named {
        return Ok(manifest.clone());
    }
    by_id(store, repositories, name)?.ok_or_else(|| match reference {
        Ok(reference) => Error::new(Class::NotFound, format!("find the image {name}"), format!("No such image: {}", reference.familiar()))
            .hint("`onggi images` shows what is here"),
        Err(not_a_reference) => not_a_reference,
    })
}

pub(super) fn load(store: &Store, manifest: &Digest, reference: String) -> Result<Image> {
    let (digest, manifest) = for_this_machine(store, manifest)?;
    let config: ImageConfig = config_of(store, &manifest)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let why = format!("its manifest has {} layers and its config {}", manifest.layers.len(), diff_ids.len());
        return Err(Error::invalid(format!("open the image {reference}"), why));
    }
    let chain = ChainId::stack(diff_ids);
    let layers: Vec<PathBuf> = chain.iter().map(|chain| snapshot::dir(store, chain)).collect();
    unpack_missing(store, &manifest.layers, &config, &chain)?;
    Ok(Image { id: manifest.config.digest, manifest: digest, reference, config, layers, chain })
}

/// The config that a manifest names.
///
/// # Errors
/// NotFound, Invalid.
pub fn config_of<T: serde::de::DeserializeOwned>(store: &Store, manifest: &Manifest) -> Result<T> {
    store.read_json(&manifest.config.digest)
}

fn unpack_missing(store: &Store, descriptors: &[Descriptor], config: &ImageConfig, chain: &[ChainId]) -> Result<()> {
    for (at, descriptor) in descriptors.iter().enumerate() {
        if !snapshot::dir(store, &chain[at]).exists() {
            unpack::unpack(store, &chain[..at], Some(&config.rootfs.diff_ids[at]), store.open_blob(&descriptor.digest)?)?;
        }
    }
    Ok(())
}

/// The manifest itself, or out of an index (or of an index in it) the one for this machine.
pub fn for_this_machine(store: &Store, digest: &Digest) -> Result<(Digest, Manifest)> {
    below(store, digest, 0)
}

fn below(store: &Store, digest: &Digest, depth: u32) -> Result<(Digest, Manifest)> {
    const DEEPEST: u32 = 3;
    let index = match store.read_json(digest)? {
        ManifestOrIndex::Manifest(manifest) => return Ok((digest.clone(), *manifest)),
        ManifestOrIndex::Index(index) => index,
    };
    let doing = || format!("open the image {}", digest.short());
    let chosen = platform::choose(&index.manifests, &platform::host());
    let chosen = chosen.ok_or_else(|| Error::new(Class::NotFound, doing(), format!("it has nothing for linux/{}", manifest::architecture())))?;
    match depth {
        DEEPEST => Err(Error::new(Class::Unsupported, doing(), "it is an index of indexes of indexes of indexes")),
        _ => below(store, &chosen.digest, depth + 1),
    }
}

/// The manifest of the image whose ID begins like this.
fn by_id(store: &Store, repositories: &Repositories, text: &str) -> Result<Option<Digest>> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() < 2 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let fits = |image: &Listed| image.id.hex().starts_with(digits) || image.manifests.iter().any(|manifest| manifest.hex().starts_with(digits));
    let mut found = list::listed(store, repositories).into_iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(Error::new(Class::Conflict, format!("find the image {text}"), "several IDs begin like this")),
        (Some(image), None) => Ok(image.manifests.into_iter().next()),
        (None, _) => Ok(None),
    }
}
