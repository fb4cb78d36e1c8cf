//! `load`: images out of an archive or a directory, in the OCI's layout or as `docker save` has always written them.
//!
//! ```text
//! index.json      OCI: which manifests there are, and their names as annotations; what they name is in blobs/sha256/HEX
//! manifest.json   Docker: [{"Config": FILE, "RepoTags": [NAME, …], "Layers": [FILE, …]}, …]
//! ```
//! The first is taken when both are there: with it the manifest's own bytes come along. Every digest is checked before an image gets its
//! name, and all names are given at once, at the end; what was stored until a failure is collected.
//!
//! Read: docker load(1). Source: OCI image specification, image-layout.md.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::archive::Source;
use super::collect::{self, Users};
use super::compression::Compression;
use super::digest::Digest;
use super::manifest::{self, Descriptor, Index, Manifest};
use super::reference::Reference;
use super::resolve::{self, ManifestOrIndex, for_this_machine};
use super::store::Store;
use crate::error::{Class, Error, Result};

/// An image that is here now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub manifest: Digest,
    pub id: Digest,
    pub names: Vec<Reference>,
}

/// Loads all images of an archive.
///
/// # Errors
/// Invalid for what is no image or lies about its digests, ENOSPC; nothing is left behind.
pub fn archive(store: &Store, input: impl Read, users: Users) -> Result<Vec<Loaded>> {
    or_nothing(store, users, || load(store, Source::archive(store, input)?))
}

/// Loads all images of a directory in the OCI's layout.
///
/// # Errors
/// As [`archive`].
pub fn folder(store: &Store, dir: &Path, users: Users) -> Result<Vec<Loaded>> {
    or_nothing(store, users, || load(store, Source::folder(dir)?))
}

/// Makes something in the store; when that fails, what is in it already is collected.
pub(super) fn or_nothing<T>(store: &Store, users: Users, make: impl FnOnce() -> Result<T>) -> Result<T> {
    let held = store.hold()?;
    let made = make();
    if made.is_err() {
        let _ = collect::want(store);
    }
    drop(held);
    // Also when all went well: whoever removed something meanwhile left the collecting to us.
    let _ = collect::collect(store, users);
    made
}

fn load(store: &Store, mut source: Source) -> Result<Vec<Loaded>> {
    let images = if source.has("index.json") {
        of_layout(store, &mut source)?
    } else if source.has("manifest.json") {
        of_docker(store, &mut source)?
    } else {
        return Err(Error::invalid("load images", "there is neither an index.json nor a manifest.json: this is no image")
            .hint("a file system in an archive becomes an image by `onggi import`"));
    };
    let mut loaded: Vec<Loaded> = Vec::new();
    for (manifest, names) in images {
        // Unpacked, and so checked against the diff IDs in its config.
        let image = resolve::load(store, &manifest, names.first().map_or_else(|| manifest.short().to_string(), Reference::familiar))?;
        match loaded.iter_mut().find(|one| one.manifest == manifest) {
            Some(one) => one.names.extend(names),
            None => loaded.push(Loaded { manifest, id: image.id, names }),
        }
    }
    store.add_all(loaded.iter().map(|one| (&one.manifest, &*one.names)))?;
    Ok(loaded)
}

fn of_layout(store: &Store, source: &mut Source) -> Result<Vec<(Digest, Vec<Reference>)>> {
    let index: Index = json("index.json", &source.read("index.json")?)?;
    let mut images = Vec::new();
    for descriptor in &index.manifests {
        if take_manifest(store, source, descriptor, 0)? {
            images.push((descriptor.digest.clone(), name_of(descriptor)?.into_iter().collect()));
        }
    }
    match images.is_empty() {
        true => Err(Error::invalid("load images", "its index.json names no image")),
        false => Ok(images),
    }
}

/// Stores a manifest and what it names. False for what is no image (signatures, attestations).
fn take_manifest(store: &Store, source: &mut Source, descriptor: &Descriptor, depth: u32) -> Result<bool> {
    let name = blob_name(&descriptor.digest);
    let bytes = source.read(&name)?;
    let refuse = |why: String| Error::invalid(format!("load the manifest {}", descriptor.digest.short()), why);
    if Digest::of(&bytes) != descriptor.digest || bytes.len() as u64 != descriptor.size {
        return Err(refuse(format!("its bytes are {}, {} of them", Digest::of(&bytes), bytes.len())));
    }
    match json(&name, &bytes)? {
        ManifestOrIndex::Manifest(manifest) => {
            if is_no_image(&manifest) {
                return Ok(false);
            }
            source.keep(store, &blob_name(&manifest.config.digest), Some(&manifest.config.digest))?;
            for layer in &manifest.layers {
                source.keep(store, &blob_name(&layer.digest), Some(&layer.digest))?;
            }
        }
        ManifestOrIndex::Index(_) if depth > 2 => return Err(refuse("indexes of indexes of indexes".into())),
        ManifestOrIndex::Index(index) => {
            for inner in &index.manifests {
                // Other machines' images may have been left out.
                if source.has(&blob_name(&inner.digest)) {
                    take_manifest(store, source, inner, depth + 1)?;
                }
            }
            store.put(&bytes)?;
            return Ok(for_this_machine(store, &descriptor.digest).is_ok());
        }
    }
    store.put(&bytes)?;
    Ok(true)
}

fn is_no_image(manifest: &Manifest) -> bool {
    manifest.artifact_type.is_some() || ![manifest::CONFIG, manifest::DOCKER_CONFIG].contains(&&*manifest.config.media_type)
}

/// Docker's and containerd's own annotation has the whole name; the OCI's may have it, or the tag alone, which is no name.
fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>> {
    let annotation = |key: &str| descriptor.annotations.get(key);
    if let Some(name) = annotation("io.containerd.image.name") {
        return Reference::parse(name).map(Some);
    }
    let name = annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']));
    Ok(name.and_then(|name| Reference::parse(name).ok()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

fn of_docker(store: &Store, source: &mut Source) -> Result<Vec<(Digest, Vec<Reference>)>> {
    let images: Vec<DockerImage> = json("manifest.json", &source.read("manifest.json")?)?;
    let mut all = Vec::new();
    for image in &images {
        let config = store.put(&source.read(&image.config)?)?;
        let config = descriptor_of(store, manifest::CONFIG, config)?;
        let mut layers = Vec::new();
        for file in image.layers.iter().flatten() {
            let mut first = Vec::new();
            let _ = source.open(file)?.take(6).read_to_end(&mut first);
            let media_type = match Compression::of(&first) {
                Ok(Compression::None) => manifest::LAYER,
                Ok(Compression::Gzip) => manifest::LAYER_GZIP,
                Ok(Compression::Zstd) => manifest::LAYER_ZSTD,
                Err(e) => return Err(Error::new(Class::Unsupported, format!("load {file}"), e.to_string())),
            };
            let (digest, size) = source.keep(store, file, None)?;
            layers.push(Descriptor::new(media_type, digest, size));
        }
        let names = image.repo_tags.iter().flatten().map(|name| Reference::parse(name)).collect::<Result<_>>()?;
        all.push((put_manifest(store, config, layers)?, names));
    }
    match all.is_empty() {
        true => Err(Error::invalid("load images", "its manifest.json names no image")),
        false => Ok(all),
    }
}

/// A manifest for an image that came without one, or that is being made.
pub(super) fn put_manifest(store: &Store, config: Descriptor, layers: Vec<Descriptor>) -> Result<Digest> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(manifest::MANIFEST.into()),
        artifact_type: None,
        config,
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    store.put(&serde_json::to_vec(&manifest).unwrap_or_default())
}

pub(super) fn descriptor_of(store: &Store, media_type: &str, digest: Digest) -> Result<Descriptor> {
    use crate::error::Doing;
    let size = store.blob_path(&digest).metadata().doing(|| format!("look at blob {}", digest.short()))?.len();
    Ok(Descriptor::new(media_type, digest, size))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("read {name} of the image"), e.to_string()))
}
