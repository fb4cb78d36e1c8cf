//! `pull`: an image comes from a registry.
//!
//! ```text
//! name → manifest (out of an index: the one for this platform) → config → layers
//!
//!   three threads     fetch, hash, write the blob      images/partial/HEX → images/blobs/sha256/HEX
//!   one thread        read it as it grows, gunzip
//!   this one          hash, unpack, write the files    tmp/… → snapshots/HEX
//! ```
//! A layer is unpacked while it still arrives, and its end comes only when its digest is right; the snapshot gets its name only when its
//! diff ID is. The image gets its name last. The slowest of the three is gunzip, as a rule, and on a disk the writing.
//!
//! See it: `top -H` and `ls /var/lib/onggi/tmp` during a pull. Source: OCI distribution specification, "Pull"; OCI image specification.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::fetch::{self, Fetch};
use super::growing::Growing;
use super::repository::{Access, Fetched, Repository};
use super::settings::Settings;
use super::{State, Tell, Told, cancel};
use crate::error::{Class, Error, Result};
use crate::image::ahead::ahead;
use crate::image::digest::{ChainId, Digest};
use crate::image::layer_entry::unreadable;
use crate::image::manifest::{CONFIG, DOCKER_CONFIG, Descriptor, ImageConfig, Index, Manifest, Platform};
use crate::image::reference::Reference;
use crate::image::resolve::ManifestOrIndex;
use crate::image::snapshot;
use crate::image::store::Store;
use crate::image::unpack::{self, Aside};
use crate::image::{compression, platform};

/// As many layers are fetched at once, as by Docker.
const AT_ONCE: usize = 3;
/// Indexes of indexes of indexes are no image.
const DEEPEST: usize = 3;
/// Unpacked layers get their names together: one sync for many small ones. A kill costs the unpacking of so much time at most.
const TOGETHER: Duration = Duration::from_secs(1);

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// What the name means in the registry: the digest of an index or a manifest.
    pub digest: Digest,
    /// It was here, with all of its layers.
    pub was_here: bool,
    /// For which machine it is.
    pub platform: Platform,
}

/// An image as its registry describes it, with nothing of it here yet.
struct Found {
    /// Those that led to it, the outermost first.
    indexes: Vec<Fetched>,
    manifest: Fetched,
    parsed: Manifest,
    config: ImageConfig,
    config_bytes: Vec<u8>,
    platform: Platform,
}

/// Pulls an image and gives it its name here. `tell` is told of each layer.
///
/// # Errors
/// NotFound, Denied, Unsupported; Invalid when what comes is not what its digest names; ENOSPC. The layers that are finished stay.
pub fn pull(store: &Store, settings: &Settings, reference: &Reference, wanted: Option<&Platform>, tell: Tell) -> Result<Pulled> {
    let _held = store.hold()?;
    let repository = Repository::open(settings, &reference.registry, &reference.repository, Access::Pull)?;
    let name = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
    };
    if let Some(pulled) = here(store, &repository, reference, &name, wanted)? {
        return Ok(pulled);
    }
    let found = find(&repository, &name, wanted)?;
    let was_here = layers(store, &repository, &found, tell)? == 0 && store.has(&found.manifest.digest);
    store.put(&found.config_bytes)?;
    store.put(&found.manifest.bytes)?;
    for index in &found.indexes {
        store.put(&index.bytes)?;
    }
    let (named, digest) = match found.indexes.first() {
        // Another machine's image is named by its own manifest: the index means ours.
        Some(index) if platform::fits(&platform::host(), &found.platform) => (index.digest.clone(), index.digest.clone()),
        Some(index) => (found.manifest.digest.clone(), index.digest.clone()),
        None => (found.manifest.digest.clone(), found.manifest.digest.clone()),
    };
    let was_named = store.references()?.get(&reference.to_string()) == Some(&named);
    store.add(&named, std::slice::from_ref(reference))?;
    Ok(Pulled { digest, was_here: was_here && was_named, platform: found.platform })
}

/// The image of this name, when it is here whole and the registry says that the name still means it.
fn here(store: &Store, repository: &Repository, reference: &Reference, name: &str, wanted: Option<&Platform>) -> Result<Option<Pulled>> {
    let Some(known) = store.references()?.get(&reference.to_string()).cloned() else { return Ok(None) };
    let Some(platform) = complete(store, &known) else { return Ok(None) };
    let is_wanted = wanted.is_none_or(|wanted| platform::fits(wanted, &platform));
    if !is_wanted || reference.digest.is_none() && repository.digest_of(name)?.as_ref() != Some(&known) {
        return Ok(None);
    }
    Ok(Some(Pulled { digest: known, was_here: true, platform }))
}

/// For which machine the image is, when all of it is here.
fn complete(store: &Store, digest: &Digest) -> Option<Platform> {
    let (_, manifest) = crate::image::resolve::for_this_machine(store, digest).ok()?;
    let config: ImageConfig = crate::image::resolve::config_of(store, &manifest).ok()?;
    let has_blobs = manifest.layers.iter().all(|layer| store.has(&layer.digest));
    let has_layers = ChainId::stack(&config.rootfs.diff_ids).iter().all(|chain| snapshot::dir(store, chain).exists());
    (has_blobs && has_layers).then(|| config.platform())
}

/// From a name in the registry to manifest and config.
fn find(repository: &Repository, name: &str, wanted: Option<&Platform>) -> Result<Found> {
    let host = platform::host();
    let mut fetched = repository.manifest(name)?;
    let mut indexes = Vec::new();
    for _ in 0..=DEEPEST {
        let doing = || format!("pull {name} of {}", repository.full_name());
        let read = serde_json::from_slice(&fetched.bytes);
        let parsed = match read.map_err(|e| Error::invalid(doing(), format!("its manifest can't be read: {e}")))? {
            ManifestOrIndex::Manifest(manifest) => *manifest,
            ManifestOrIndex::Index(inner) => {
                let chosen = choose(&inner, wanted.unwrap_or(&host)).map_err(|why| Error::new(Class::NotFound, doing(), why))?;
                let next = repository.manifest(chosen.digest.as_str())?;
                indexes.push(std::mem::replace(&mut fetched, next));
                continue;
            }
        };
        let (config_bytes, config) = config(repository, &parsed)?;
        let platform = config.platform();
        // An index has said for which machine it is; configs are less exact, and leave the variant out.
        if let Some(wanted) = wanted.filter(|wanted| indexes.is_empty() && !platform::fits(wanted, &platform)) {
            let why = format!("it is for {} only, and {} was asked for", platform::name(&platform), platform::name(wanted));
            return Err(Error::new(Class::NotFound, doing(), why));
        }
        return Ok(Found { indexes, manifest: fetched, parsed, config, config_bytes, platform });
    }
    Err(Error::invalid(format!("pull {name} of {}", repository.full_name()), "its index names an index that names an index that names an index"))
}

fn choose<'a>(index: &'a Index, wanted: &Platform) -> std::result::Result<&'a Descriptor, String> {
    platform::choose(&index.manifests, wanted).ok_or_else(|| {
        let offered: Vec<String> = index.manifests.iter().filter_map(|one| one.platform.as_ref().map(platform::name)).take(20).collect();
        let offered = if offered.is_empty() { "nothing".into() } else { offered.join(", ") };
        format!("no matching manifest for {} in the manifest list entries: there is {offered}", platform::name(wanted))
    })
}

/// The config that a manifest names, when it is one of an image.
fn config(repository: &Repository, manifest: &Manifest) -> Result<(Vec<u8>, ImageConfig)> {
    const BIGGEST: u64 = 4 << 20;
    let doing = || format!("fetch the config {} of {}", manifest.config.digest.short(), repository.full_name());
    let kind = manifest.artifact_type.as_deref().unwrap_or(&manifest.config.media_type);
    if ![CONFIG, DOCKER_CONFIG].contains(&kind) {
        return Err(Error::new(Class::Unsupported, doing(), format!("this is no image but {}", super::failure::printable(kind))));
    }
    if manifest.config.size > BIGGEST {
        return Err(Error::invalid(doing(), "it has more than 4 MiB"));
    }
    let bytes = repository.small_blob(&manifest.config.digest, BIGGEST)?;
    let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|e| Error::invalid(doing(), e.to_string()))?;
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        let why = format!("it has {} layers, and the manifest {}", config.rootfs.diff_ids.len(), manifest.layers.len());
        return Err(Error::invalid(doing(), why));
    }
    Ok((bytes, config))
}

/// Gets and unpacks what isn't here: how many layers that were.
fn layers(store: &Store, repository: &Repository, found: &Found, tell: Tell) -> Result<usize> {
    let chain = ChainId::stack(&found.config.rootfs.diff_ids);
    let is_here: Vec<bool> =
        found.parsed.layers.iter().zip(&chain).map(|(layer, chain)| store.has(&layer.digest) && snapshot::dir(store, chain).exists()).collect();
    // A layer that stands in the image twice comes once.
    let mut growing: HashMap<&Digest, Growing> = HashMap::new();
    let mut wanted: Vec<&Descriptor> = Vec::new();
    for (layer, is_here) in found.parsed.layers.iter().zip(&is_here) {
        let state = if *is_here { State::AlreadyExists } else { State::PullingFsLayer };
        tell(Told { layer: layer.digest.short(), state });
        if !is_here && growing.insert(&layer.digest, Growing::default()).is_none() {
            wanted.push(layer);
        }
    }
    let failed = AtomicBool::new(false);
    let stop = || failed.load(Ordering::Relaxed) || cancel::is_on();
    let fetching = Fetch { store, repository, tell, stop: &stop };
    let left = Mutex::new(wanted.iter().copied());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let first_error = Mutex::new(None);
    let fetch_all = || {
        while let Some(layer) = next() {
            if let Err(e) = fetch::blob(&fetching, layer, &growing[&layer.digest]) {
                first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                failed.store(true, Ordering::Relaxed);
                // Others wait for bytes, perhaps from a server that sends none.
                repository.shut();
                // Nobody shall wait for what nobody fetches any more.
                growing.values().for_each(|growing| growing.end(Err("another layer failed".into())));
            }
        }
    };
    let broke_off = AtomicBool::new(false);
    let unpacked = std::thread::scope(|scope| {
        (0..AT_ONCE.min(wanted.len())).for_each(|_| drop(scope.spawn(fetch_all)));
        let unpacked =
            unpack_all(&Unpacking { fetching: &fetching, found, chain: &chain, is_here: &is_here, growing: &growing, broke_off: &broke_off });
        failed.fetch_or(unpacked.is_err(), Ordering::Relaxed);
        if unpacked.is_err() {
            repository.shut();
        }
        unpacked
    });
    // Why a layer did not come says more than that its reader got no end. When its content was wrong, the fetches only stopped with it.
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) if broke_off.into_inner() || unpacked.is_ok() => Err(e),
        _ => unpacked.map(|()| wanted.len()),
    }
}

/// What is needed to unpack an image's layers.
struct Unpacking<'a> {
    fetching: &'a Fetch<'a>,
    found: &'a Found,
    chain: &'a [ChainId],
    is_here: &'a [bool],
    growing: &'a HashMap<&'a Digest, Growing>,
    /// A layer that was being unpacked did not come to its end.
    broke_off: &'a AtomicBool,
}

/// Unpacks the layers from the lowest up, each as it comes.
fn unpack_all(unpacking: &Unpacking) -> Result<()> {
    let Unpacking { fetching: Fetch { store, repository, tell, .. }, found, chain, is_here, growing, broke_off } = unpacking;
    let mut asides: Vec<Aside> = Vec::new();
    let mut kept = Instant::now();
    for (at, layer) in found.parsed.layers.iter().enumerate() {
        let short = layer.digest.short();
        let named = |e: Error| Error { doing: format!("{} (layer {short} of {})", e.doing, repository.full_name()), ..e };
        if is_here[at] {
            continue;
        }
        if !snapshot::dir(store, &chain[at]).exists() && !asides.iter().any(|aside| aside.chain == chain[at]) {
            let folder = |chain: &ChainId| match asides.iter().find(|aside| aside.chain == *chain) {
                Some(aside) => aside.dir(),
                None => snapshot::dir(store, chain),
            };
            let folders: Vec<_> = chain[..at].iter().map(folder).collect();
            let aside = std::thread::scope(|scope| {
                let mut reader = growing[&layer.digest].reader();
                let inner = move |buffer: &mut [u8]| reader.read(buffer).inspect_err(|_| broke_off.store(true, Ordering::Relaxed));
                let counted = Counted { inner, done: 0, told: 0, layer, tell };
                let plain = ahead(scope, || compression::undone(counted));
                unpack::unpack_aside(store, at.checked_sub(1).map(|below| &chain[below]), &folders, Some(&found.config.rootfs.diff_ids[at]), plain)
            });
            match aside {
                Ok(aside) => asides.push(aside),
                // What is right stays.
                Err(e) => return unpack::keep(store, asides).and(Err(named(e))),
            }
        } else if let Err(e) = std::io::copy(&mut growing[&layer.digest].reader(), &mut std::io::sink()) {
            broke_off.store(true, Ordering::Relaxed);
            return unpack::keep(store, asides).and(Err(named(unreadable(e))));
        }
        if kept.elapsed() > TOGETHER {
            unpack::keep(store, std::mem::take(&mut asides))?;
            kept = Instant::now();
        }
        tell(Told { layer: short, state: State::PullComplete });
    }
    unpack::keep(store, asides)
}

/// Tells how much of a layer was unpacked.
struct Counted<'a, R> {
    inner: R,
    done: u64,
    told: u64,
    layer: &'a Descriptor,
    tell: Tell<'a>,
}

impl<R: FnMut(&mut [u8]) -> std::io::Result<usize>> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const OFTEN: u64 = 512 << 10;
        let count = (self.inner)(buffer)?;
        self.done += count as u64;
        if self.done - self.told >= OFTEN || count == 0 {
            self.told = self.done;
            (self.tell)(Told { layer: self.layer.digest.short(), state: State::Extracting { done: self.done, total: self.layer.size } });
        }
        Ok(count)
    }
}
