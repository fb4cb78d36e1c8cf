//! `save`: images as one archive that everybody reads. It is the OCI's layout, and has Docker's own manifest.json besides, naming the same
//! blobs. Blobs leave as they came, so that an image has the same digests wherever it is loaded.
//!
//! ```text
//! oci-layout  index.json  manifest.json  repositories  blobs/sha256/HEX …
//! ```
//! Read: docker save(1). Source: OCI image specification, image-layout.md.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use serde_json::json;

use super::digest::{Digest, Hashing};
use super::list::Repositories;
use super::manifest::{self, Index};
use super::reference::{Reference, has_tag};
use super::resolve::{ManifestOrIndex, find, for_this_machine};
use super::store::Store;
use super::tar_header::{self, Header, Kind};
use crate::error::{Doing, Error, Result};

/// Writes these images, each under the name by which it is asked for. A repository without a tag means all of its tags.
///
/// # Errors
/// NotFound; Invalid when the store is damaged; those of `out`.
pub fn save(store: &Store, names: &[String], out: impl Write) -> Result<()> {
    let _held = store.hold()?;
    let repositories = store.repositories()?;
    let mut images: Vec<(Digest, Vec<Reference>)> = Vec::new();
    for name in names {
        for (manifest, reference) in meant(store, &repositories, name)? {
            match images.iter_mut().find(|(one, _)| *one == manifest) {
                Some((_, references)) => references.extend(reference.filter(|reference| !references.contains(reference))),
                None => images.push((manifest, reference.into_iter().collect())),
            }
        }
    }
    let mut saving = Saving { store, blobs: BTreeSet::new() };
    let (mut descriptors, mut docker, mut legacy) = (Vec::new(), Vec::new(), BTreeMap::<String, BTreeMap<String, String>>::new());
    for (digest, references) in &images {
        saving.manifest(digest)?;
        descriptors.extend(saving.descriptors(digest, references)?);
        let (_, manifest) = for_this_machine(store, digest)?;
        let files: Vec<String> = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
        let tags: Vec<String> = references.iter().map(Reference::familiar).collect();
        docker.push(json!({"Config": blob_name(&manifest.config.digest), "RepoTags": tags, "Layers": files}));
        for (tag, top) in tags.iter().zip(std::iter::repeat(manifest.layers.last())) {
            if let (Some((repository, tag)), Some(top)) = (tag.rsplit_once(':'), top) {
                legacy.entry(repository.into()).or_default().insert(tag.into(), top.digest.hex().into());
            }
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": manifest::INDEX, "manifests": descriptors});
    saving.write(
        out,
        &[
            ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
            ("index.json", index),
            ("manifest.json", json!(docker)),
            ("repositories", json!(legacy)),
        ],
    )
}

/// The manifests that a word on the command line means, and their names.
fn meant(store: &Store, repositories: &Repositories, name: &str) -> Result<Vec<(Digest, Option<Reference>)>> {
    let reference = Reference::parse(name).ok();
    if let Some(reference) = reference.as_ref().filter(|_| !has_tag(name)) {
        let of_repository = |full: &&str| {
            full.rsplit_once(':').is_some_and(|(repository, _)| repository == format!("{}/{}", reference.registry, reference.repository))
        };
        let all = repositories.references.iter().filter(|(full, _)| of_repository(&full.as_str()));
        let all: Vec<_> = all.map(|(full, manifest)| (manifest.clone(), Reference::parse(full).ok())).collect();
        if !all.is_empty() {
            return Ok(all);
        }
    }
    let manifest = find(store, repositories, name).map_err(|e| Error { doing: format!("save the image {name}"), ..e })?;
    Ok(vec![(manifest, reference.filter(|reference| repositories.references.contains_key(&reference.to_string())))])
}

struct Saving<'a> {
    store: &'a Store,
    blobs: BTreeSet<Digest>,
}

impl Saving<'_> {
    /// Notes the manifest or index and all that it names, as far as it is here.
    fn manifest(&mut self, digest: &Digest) -> Result<()> {
        self.blobs.insert(digest.clone());
        match self.store.read_json(digest)? {
            ManifestOrIndex::Manifest(manifest) => {
                self.blobs.insert(manifest.config.digest);
                self.blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            }
            ManifestOrIndex::Index(Index { manifests, .. }) => {
                for inner in manifests.iter().filter(|inner| self.store.has(&inner.digest)) {
                    self.manifest(&inner.digest)?;
                }
            }
        }
        Ok(())
    }

    /// One descriptor a name, or one without.
    fn descriptors(&self, digest: &Digest, references: &[Reference]) -> Result<Vec<serde_json::Value>> {
        let bytes = self.store.read(digest)?;
        let own: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let usual = if own.get("manifests").is_some() { manifest::INDEX } else { manifest::MANIFEST };
        let media_type = own.get("mediaType").and_then(|value| value.as_str()).unwrap_or(usual);
        let plain = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        let named = references.iter().map(|reference| {
            let mut descriptor = plain.clone();
            let tag = reference.tag.clone().unwrap_or_default();
            descriptor["annotations"] = json!({"io.containerd.image.name": reference.to_string(), "org.opencontainers.image.ref.name": tag});
            descriptor
        });
        Ok(if references.is_empty() { vec![plain] } else { named.collect() })
    }

    fn write(&self, mut out: impl Write, files: &[(&str, serde_json::Value)]) -> Result<()> {
        let doing = || "write the archive".to_string();
        for (name, content) in files {
            let bytes = content.to_string();
            Header { size: bytes.len() as u64, ..Header::new(Kind::File, name.as_bytes()) }.write(&mut out).doing(doing)?;
            out.write_all(bytes.as_bytes()).and_then(|()| tar_header::pad(&mut out, bytes.len() as u64)).doing(doing)?;
        }
        for folder in ["blobs/", "blobs/sha256/"] {
            Header { mode: 0o755, ..Header::new(Kind::Folder, folder.as_bytes()) }.write(&mut out).doing(doing)?;
        }
        for digest in &self.blobs {
            self.blob(&mut out, digest)?;
        }
        tar_header::end(&mut out).doing(doing)
    }

    fn blob(&self, out: &mut impl Write, digest: &Digest) -> Result<()> {
        let doing = || format!("save blob {}", digest.short());
        let mut file = self.store.open_blob(digest)?;
        let size = file.metadata().doing(doing)?.len();
        Header { size, ..Header::new(Kind::File, blob_name(digest).as_bytes()) }.write(out).doing(doing)?;
        let mut hashing = Hashing::new(&mut *out);
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            match file.read(&mut buffer).doing(doing)? {
                0 => break,
                count => hashing.write_all(&buffer[..count]).doing(doing)?,
            }
        }
        let (_, found, length) = hashing.finish();
        if found != *digest || length != size {
            return Err(
                Error::invalid(doing(), format!("the store is damaged: its bytes are {found}")).hint("delete it, and pull or make the image again")
            );
        }
        tar_header::pad(out, size).doing(doing)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
