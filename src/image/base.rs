//! The image `base`: made from the host's own programs, without a network, on its first use. A real image in the store: one layer, a
//! config, a manifest, and a reference like any other.
//!
//! See it: `onggi run --rm base ls -l /usr/bin`, `cat /var/lib/onggi/images/repositories.json`.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use super::base_tree::Tree;
use super::digest::{ChainId, DiffId, Digest};
use super::manifest::{self, ContainerConfig, Descriptor, History, ImageConfig, Manifest, RootFs};
use super::reference::Reference;
use super::resolve::{Image, resolve};
use super::snapshot;
use super::store::Store;
use super::unpack;
use crate::clock;
use crate::error::{Class, Doing, Error, Result};

/// What people call it.
pub const NAME: &str = "base";

/// Whether the image was made by this very call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    Before,
    Now {
        files: u64,
        bytes: u64,
        took: Duration,
        /// The usual programs that this host doesn't have.
        missing: Vec<&'static str>,
    },
}

impl std::fmt::Display for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Made::Before => write!(f, "it was there"),
            Made::Now { files, bytes, took, .. } => {
                write!(f, "{files} files, {:.0} MB, in {:.2} s", *bytes as f64 / 1e6, took.as_secs_f64())
            }
        }
    }
}

/// Whether a name means this image.
pub fn is_meant(name: &str) -> bool {
    Reference::parse(name).is_ok_and(|meant| Reference::parse(NAME).is_ok_and(|base| base == meant))
}

/// The image `base`, made now if there is none. Several at once make one: the others wait for it.
///
/// # Errors
/// NotFound on a host without a shell; ENOSPC.
pub fn ensure(store: &Store) -> Result<(Image, Made)> {
    if let Some(image) = existing(store)? {
        return Ok((image, Made::Before));
    }
    let _lock = store.lock("images/base.lock")?;
    match existing(store)? {
        Some(image) => Ok((image, Made::Before)),
        None => make(store),
    }
}

/// Makes it anew, from the programs that the host has now.
///
/// # Errors
/// As [`ensure`].
pub fn remake(store: &Store) -> Result<(Image, Made)> {
    let _lock = store.lock("images/base.lock")?;
    make(store)
}

fn existing(store: &Store) -> Result<Option<Image>> {
    match resolve(store, NAME) {
        Err(e) if e.class == Class::NotFound => Ok(None),
        found => found.map(Some),
    }
}

fn make(store: &Store) -> Result<(Image, Made)> {
    let _held = store.hold()?;
    let began = Instant::now();
    let tree = Tree::of_this_host()?;
    let mut blob = BufWriter::with_capacity(256 << 10, store.writer()?);
    tree.write(&mut blob).and_then(|()| blob.flush()).doing(|| "write the layer of the image base".into())?;
    let blob = blob.into_inner().map_err(|e| Error::new(Class::System, "write the layer of the image base", e.to_string()))?;
    let (layer, size) = blob.commit(None)?;
    // The layer is not compressed, so that its own digest is its diff ID, and the only one, so that this is its chain ID too.
    let diff_id = DiffId(layer.clone());
    let chain = ChainId(layer.clone());
    if !snapshot::dir(store, &chain).exists() {
        unpack::unpack(store, &[], Some(&diff_id), store.open_blob(&layer)?)?;
    }
    let config = store.put(&to_json(&config(&tree, diff_id)))?;
    let manifest = store.put(&to_json(&describe(store, config, layer, size)?))?;
    // Last: the name means an image that is all there.
    store.tag(&Reference::parse(NAME)?, &manifest)?;
    let image = resolve(store, NAME)?;
    let (files, bytes) = tree.count();
    Ok((image, Made::Now { files, bytes, took: began.elapsed(), missing: tree.missing }))
}

fn config(tree: &Tree, diff_id: DiffId) -> ImageConfig {
    let shell = if tree.has("usr/bin/bash") { "/bin/bash" } else { "/bin/sh" };
    // No clock goes into the image, so that the same host makes the same one again: it is as old as the newest program in it.
    let created = tree.newest.map(clock::rfc3339);
    let env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"];
    ImageConfig {
        created: created.clone(),
        architecture: manifest::architecture().into(),
        os: "linux".into(),
        config: ContainerConfig { env: env.map(str::to_string).to_vec(), cmd: vec![shell.into()], ..ContainerConfig::default() },
        rootfs: RootFs { kind: "layers".into(), diff_ids: vec![diff_id] },
        history: vec![History { created, created_by: Some("onggi: the host's own programs".into()), ..History::default() }],
        ..ImageConfig::default()
    }
}

fn describe(store: &Store, config: Digest, layer: Digest, size: u64) -> Result<Manifest> {
    let config_size = store.blob_path(&config).metadata().doing(|| format!("look at blob {}", config.short()))?.len();
    Ok(Manifest {
        schema_version: 2,
        media_type: Some(manifest::MANIFEST.into()),
        artifact_type: None,
        config: Descriptor::new(manifest::CONFIG, config, config_size),
        layers: vec![Descriptor::new(manifest::LAYER, layer, size)],
        subject: None,
        annotations: BTreeMap::new(),
    })
}

fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // These structs are maps with text keys: there is nothing in them that JSON couldn't say.
    serde_json::to_vec(value).unwrap_or_default()
}
