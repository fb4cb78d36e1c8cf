//! `push`: an image goes to a registry: its layers, its config, and last its manifest, which names them.
//!
//! Nothing is sent that is there: a blob that another repository of the same registry has is mounted from it.
//!
//! See it: `curl -s localhost:5000/v2/NAME/manifests/TAG`. Source: OCI distribution specification, "Push".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use super::repository::{Access, Repository};
use super::settings::Settings;
use super::{State, Tell, Told, cancel};
use crate::error::{Class, Error, Result};
use crate::image::digest::Digest;
use crate::image::list::Repositories;
use crate::image::manifest::{self, Descriptor, ImageConfig, Manifest};
use crate::image::reference::Reference;
use crate::image::resolve::{ManifestOrIndex, config_of, for_this_machine};
use crate::image::store::Store;

/// As many blobs are sent at once.
const AT_ONCE: usize = 3;
/// As many other repositories are asked whether they have a blob.
const MOUNTS: usize = 3;

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    pub digest: Digest,
    /// Bytes of the manifest (or index), as Docker tells them.
    pub size: u64,
}

/// A manifest or index, to be sent after what it names.
struct Document {
    digest: Digest,
    media_type: String,
    bytes: Vec<u8>,
}

/// A blob to be sent.
struct Part {
    descriptor: Descriptor,
    /// Docker's name of the layer: twelve digits of its diff ID. None for a config, of which nothing is told.
    layer: Option<String>,
    /// Repositories of the same registry that have it, as far as is known here.
    elsewhere: Vec<String>,
}

/// What belongs to an image.
#[derive(Default)]
struct Image {
    parts: Vec<Part>,
    /// The one that the tag means is the last.
    documents: Vec<Document>,
}

/// Pushes an image that is here under its name. `tell` is told of each layer.
///
/// # Errors
/// NotFound when there is no such image here, Denied, and all that can happen on the way.
pub fn push(store: &Store, settings: &Settings, reference: &Reference, tell: Tell) -> Result<Pushed> {
    let _held = store.hold()?;
    let repositories = store.repositories()?;
    let image = image(store, &repositories, reference)?;
    let repository = Repository::open(settings, &reference.registry, &reference.repository, Access::Push)?;
    let sent = send(store, &repository, &image, reference, tell);
    sent.map_err(|e| match (e.class, &e.hint) {
        (Class::Denied, None) => {
            let host = if reference.registry == "docker.io" { String::new() } else { format!(" {}", reference.registry) };
            e.hint(format!("`onggi login{host}`, and may you write to the repository {}?", reference.repository))
        }
        _ => e,
    })
}

fn send(store: &Store, repository: &Repository, image: &Image, reference: &Reference, tell: Tell) -> Result<Pushed> {
    let last = image.documents.last().ok_or_else(|| Error::invalid("push", "there is nothing to push"))?;
    let told = |part: &Part, state: State| part.layer.iter().for_each(|layer| tell(Told { layer, state: state.clone() }));
    image.parts.iter().for_each(|part| told(part, State::Preparing));
    // A manifest is taken only with all that it names: where it is, all of that is.
    let is_there = match repository.digest_of(last.digest.as_str()) {
        Ok(_) => true,
        Err(e) if e.class == Class::NotFound => false,
        Err(e) => return Err(e),
    };
    if is_there {
        image.parts.iter().for_each(|part| told(part, State::LayerAlreadyExists));
    } else {
        send_parts(store, repository, &image.parts, &told)?;
    }
    for document in &image.documents {
        let is_last = document.digest == last.digest;
        let name = reference.tag.as_deref().filter(|_| is_last).unwrap_or(document.digest.as_str());
        repository.put_manifest(name, &document.media_type, &document.bytes)?;
    }
    Ok(Pushed { digest: last.digest.clone(), size: last.bytes.len() as u64 })
}

fn send_parts(store: &Store, repository: &Repository, parts: &[Part], told: &(dyn Fn(&Part, State) + Sync)) -> Result<()> {
    let left = Mutex::new(parts.iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let failed = AtomicBool::new(false);
    let first_error = Mutex::new(None);
    let send_some = || {
        while let Some(part) = next().filter(|_| !failed.load(Ordering::Relaxed) && !cancel::is_on()) {
            if let Err(e) = send_part(store, repository, part, told) {
                first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                failed.store(true, Ordering::Relaxed);
                repository.shut();
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE.min(parts.len())).for_each(|_| drop(scope.spawn(send_some))));
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None if cancel::is_on() => Err(Error::new(Class::System, format!("push to {}", repository.full_name()), "it was interrupted")),
        None => Ok(()),
    }
}

fn send_part(store: &Store, repository: &Repository, part: &Part, told: &(dyn Fn(&Part, State) + Sync)) -> Result<()> {
    let digest = &part.descriptor.digest;
    if repository.has_blob(digest)? {
        told(part, State::LayerAlreadyExists);
        return Ok(());
    }
    for other in &part.elsewhere {
        if repository.mount(digest, other)? {
            told(part, State::MountedFrom(other.clone()));
            return Ok(());
        }
    }
    let total = part.descriptor.size;
    repository.upload(digest, &store.open_blob(digest)?, &|done| told(part, State::Pushing { done, total }))?;
    told(part, State::Pushed);
    Ok(())
}

/// What the name means here, with all of its parts.
fn image(store: &Store, repositories: &Repositories, reference: &Reference) -> Result<Image> {
    let doing = || format!("push {}", reference.familiar());
    let missing = || {
        let why = format!("An image does not exist locally with the tag: {}", repository_name(reference));
        Error::new(Class::NotFound, doing(), why).hint(format!("`onggi tag IMAGE {}` gives an image this name", reference.familiar()))
    };
    let digest = repositories.references.get(&reference.to_string()).ok_or_else(missing)?;
    let mut image = Image::default();
    if !gather(store, digest, &mut image)? {
        // Of an index only this machine's image is here: that one goes, under its own digest.
        image = Image::default();
        gather(store, &for_this_machine(store, digest)?.0, &mut image)?;
    }
    let known = known_places(store, repositories, reference);
    for part in &mut image.parts {
        part.elsewhere = known.get(&part.descriptor.digest).into_iter().flatten().take(MOUNTS).cloned().collect();
    }
    Ok(image)
}

fn repository_name(reference: &Reference) -> String {
    Reference { tag: None, digest: None, ..reference.clone() }.familiar()
}

/// Collects a manifest or index and all that it names. False when something of it isn't here.
fn gather(store: &Store, digest: &Digest, image: &mut Image) -> Result<bool> {
    if !store.has(digest) {
        return Ok(false);
    }
    let bytes = store.read(digest)?;
    let media_type = match store.read_json(digest)? {
        ManifestOrIndex::Index(index) => {
            for inner in &index.manifests {
                if !gather(store, &inner.digest, image)? {
                    return Ok(false);
                }
            }
            index.media_type.unwrap_or_else(|| manifest::INDEX.into())
        }
        ManifestOrIndex::Manifest(manifest) => {
            add_parts(store, &manifest, image)?;
            manifest.media_type.unwrap_or_else(|| manifest::MANIFEST.into())
        }
    };
    image.documents.push(Document { digest: digest.clone(), media_type, bytes });
    Ok(true)
}

fn add_parts(store: &Store, manifest: &Manifest, image: &mut Image) -> Result<()> {
    let config: ImageConfig = config_of(store, manifest)?;
    let names = config.rootfs.diff_ids.iter().map(|diff_id| diff_id.0.short().to_string());
    let layers = manifest.layers.iter().zip(names.map(Some).chain(std::iter::repeat(None)));
    for (descriptor, layer) in layers.chain([(&manifest.config, None)]) {
        // What its owner lets nobody pass on stays where it is.
        let is_foreign = descriptor.media_type.contains("foreign") || descriptor.media_type.contains("nondistributable");
        let is_known = image.parts.iter().any(|part| part.descriptor.digest == descriptor.digest);
        if !is_foreign && !is_known {
            image.parts.push(Part { descriptor: descriptor.clone(), layer, elsewhere: Vec::new() });
        }
    }
    Ok(())
}

/// Which repositories of the same registry have which blobs, as far as the names here tell.
fn known_places(store: &Store, repositories: &Repositories, reference: &Reference) -> BTreeMap<Digest, BTreeSet<String>> {
    let mut places: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    for (name, digest) in &repositories.references {
        let Ok(other) = Reference::parse(name) else { continue };
        if other.registry != reference.registry || other.repository == reference.repository {
            continue;
        }
        let Ok((_, manifest)) = for_this_machine(store, digest) else { continue };
        for layer in &manifest.layers {
            places.entry(layer.digest.clone()).or_default().insert(other.repository.clone());
        }
    }
    places
}
