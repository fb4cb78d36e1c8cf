//! From a name to an image: reference → manifest → config → the directories of its layers.
//!
//! This is on the way of every `run`: three small files are read, and one look is taken at the top snapshot.
//!
//! See it: `onggi image inspect base`.

use std::path::PathBuf;

use serde::Deserialize;

use super::digest::{ChainId, Digest};
use super::manifest::{self, Descriptor, ImageConfig, Index, Manifest};
use super::reference::Reference;
use super::snapshot;
use super::store::Store;
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
enum ManifestOrIndex {
    Manifest(Box<Manifest>),
    Index(Index),
}

/// Finds the image that `name` means: a reference, a digest, or the beginning of an ID. Layers that aren't unpacked are unpacked now.
///
/// # Errors
/// NotFound when there is none, Conflict when the beginning of an ID fits several, Invalid when the store is damaged.
pub fn resolve(store: &Store, name: &str) -> Result<Image> {
    let references = store.references()?;
    let reference = Reference::parse(name);
    let named = reference.as_ref().ok().and_then(|reference| match &reference.digest {
        Some(digest) => store.has(digest).then_some(digest),
        None => references.get(&reference.to_string()),
    });
    let manifest = match named {
        Some(manifest) => manifest.clone(),
        None => by_id(store, references.values(), name)?.ok_or_else(|| match reference.clone() {
            Ok(_) => Error::new(Class::NotFound, format!("find the image {name}"), "there is none of this name here")
                .hint("`onggi images` lists those that are here; `onggi pull` gets others; `base` is made from this host by itself"),
            Err(not_a_reference) => not_a_reference,
        })?,
    };
    load(store, &manifest, reference.map_or(name.to_string(), |reference| reference.familiar()))
}

fn load(store: &Store, manifest: &Digest, reference: String) -> Result<Image> {
    let (digest, manifest) = for_this_machine(store, manifest)?;
    let config: ImageConfig = store.read_json(&manifest.config.digest)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let why = format!("its manifest has {} layers and its config {}", manifest.layers.len(), diff_ids.len());
        return Err(Error::invalid(format!("open the image {reference}"), why));
    }
    let chain = ChainId::stack(diff_ids);
    let layers: Vec<PathBuf> = chain.iter().map(|chain| snapshot::dir(store, chain)).collect();
    // Unpacked from below and removed from above: when the top is there, all are.
    if layers.last().is_some_and(|top| !top.exists()) {
        unpack_missing(store, &manifest.layers, &config, &chain, &layers)?;
    }
    Ok(Image { id: manifest.config.digest, manifest: digest, reference, config, layers, chain })
}

fn unpack_missing(store: &Store, descriptors: &[Descriptor], config: &ImageConfig, chain: &[ChainId], layers: &[PathBuf]) -> Result<()> {
    for (at, descriptor) in descriptors.iter().enumerate() {
        if layers[at].exists() {
            continue;
        }
        if ![manifest::LAYER, manifest::DOCKER_LAYER].contains(&&*descriptor.media_type) {
            let doing = format!("unpack layer {}", descriptor.digest.short());
            return Err(Error::new(Class::Unsupported, doing, format!("{} is not an archive that is read here", descriptor.media_type)));
        }
        let below: Vec<PathBuf> = layers[..at].iter().rev().cloned().collect();
        snapshot::unpack(store, &chain[at], &config.rootfs.diff_ids[at], &below, store.open_blob(&descriptor.digest)?)?;
    }
    Ok(())
}

/// The manifest itself, or out of an index the one for this machine.
fn for_this_machine(store: &Store, digest: &Digest) -> Result<(Digest, Manifest)> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|platform| platform.os == "linux" && platform.architecture == manifest::architecture())
    };
    let index = match store.read_json(digest)? {
        ManifestOrIndex::Manifest(manifest) => return Ok((digest.clone(), *manifest)),
        ManifestOrIndex::Index(index) => index,
    };
    let doing = || format!("open the image {}", digest.short());
    let chosen = index.manifests.iter().find(fits);
    let chosen = chosen.ok_or_else(|| Error::new(Class::NotFound, doing(), format!("it has nothing for linux/{}", manifest::architecture())))?;
    match store.read_json(&chosen.digest)? {
        ManifestOrIndex::Manifest(manifest) => Ok((chosen.digest.clone(), *manifest)),
        ManifestOrIndex::Index(_) => Err(Error::new(Class::Unsupported, doing(), "it is an index of indexes")),
    }
}

/// The manifest of the image whose ID begins like this.
fn by_id<'a>(store: &Store, manifests: impl Iterator<Item = &'a Digest>, text: &str) -> Result<Option<Digest>> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() < 4 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut found: Option<(Digest, Digest)> = None;
    for manifest in manifests {
        let Ok((_, content)) = for_this_machine(store, manifest) else { continue };
        let id = content.config.digest;
        if id.hex().starts_with(digits) || manifest.hex().starts_with(digits) {
            if found.as_ref().is_some_and(|(other, _)| *other != id) {
                return Err(Error::new(Class::Conflict, format!("find the image {text}"), "several IDs begin like this"));
            }
            found = Some((id, manifest.clone()));
        }
    }
    Ok(found.map(|(_, manifest)| manifest))
}
