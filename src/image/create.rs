//! A new image: the layers of another one, one more layer, and a config. `commit` and `import` are this.
//!
//! See it: `onggi history IMAGE`. Source: OCI image specification, config.md and manifest.md.

use std::io::{Read, Write};
use std::time::SystemTime;

use super::collect::Users;
use super::compression::Compression;
use super::digest::{ChainId, Digest};
use super::load::{descriptor_of, or_nothing, put_manifest};
use super::manifest::{self, ContainerConfig, Descriptor, History, ImageConfig, RootFs};
use super::reference::Reference;
use super::resolve::{config_of, for_this_machine};
use super::store::Store;
use super::unpack;
use crate::clock;
use crate::error::{Class, Doing, Error, Result};

/// What a new image is to be, besides its layers.
#[derive(Debug, Clone, Default)]
pub struct New {
    /// The manifest of the image that it stands on; None for an image of one layer.
    pub below: Option<Digest>,
    pub config: ContainerConfig,
    pub author: Option<String>,
    pub comment: Option<String>,
    pub created_by: Option<String>,
    pub name: Option<Reference>,
}

/// Makes an image with the layer that `write` writes (an archive, compressed or not), and answers its ID.
///
/// # Errors
/// Invalid when it is no archive, ENOSPC, those of `write`; nothing is left behind.
pub fn create(store: &Store, new: &New, users: Users, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Digest> {
    or_nothing(store, users, || {
        let (mut config, mut layers) = below(store, new)?;
        let mut writer = store.writer()?;
        write(&mut writer)?;
        let (layer, size) = writer.commit(None)?;
        let chain = ChainId::stack(&config.rootfs.diff_ids);
        let (_, unpacked) = unpack::unpack(store, &chain, None, store.open_blob(&layer)?)?;
        layers.push(Descriptor::new(media_type(store, &layer)?, layer, size));

        let created = Some(clock::rfc3339(SystemTime::now()));
        config.rootfs.diff_ids.push(unpacked.diff_id);
        config.history.push(History {
            created: created.clone(),
            created_by: new.created_by.clone(),
            author: new.author.clone(),
            comment: new.comment.clone(),
            empty_layer: false,
        });
        (config.created, config.author, config.config) = (created, new.author.clone(), new.config.clone());
        let id = store.put(&serde_json::to_vec(&config).unwrap_or_default())?;
        let manifest = put_manifest(store, descriptor_of(store, manifest::CONFIG, id.clone())?, layers)?;
        store.add(&manifest, new.name.as_slice())?;
        Ok(id)
    })
}

fn below(store: &Store, new: &New) -> Result<(ImageConfig, Vec<Descriptor>)> {
    if let Some(digest) = &new.below {
        let (_, manifest) = for_this_machine(store, digest)?;
        return Ok((config_of(store, &manifest)?, manifest.layers));
    }
    let rootfs = RootFs { kind: "layers".into(), diff_ids: Vec::new() };
    let config = ImageConfig { architecture: manifest::architecture().into(), os: "linux".into(), rootfs, ..ImageConfig::default() };
    Ok((config, Vec::new()))
}

fn media_type(store: &Store, layer: &Digest) -> Result<&'static str> {
    let mut first = Vec::new();
    store.open_blob(layer)?.take(6).read_to_end(&mut first).doing(|| "look at the layer".into())?;
    match Compression::of(&first) {
        Ok(Compression::None) => Ok(manifest::LAYER),
        Ok(Compression::Gzip) => Ok(manifest::LAYER_GZIP),
        Ok(Compression::Zstd) => Ok(manifest::LAYER_ZSTD),
        Err(e) => Err(Error::new(Class::Unsupported, "look at the layer", e.to_string())),
    }
}
