//! How much room images, containers and volumes take, and how much of it would come free.
//!
//! See it: `du -sh /var/lib/onggi/*`. Read: docker-system-df(1).

use std::collections::{HashMap, HashSet};

use super::describe;
use super::home::Home;
use super::record::{self, Status};
use super::volumes::{self, Users};
use crate::error::Result;
use crate::image;
use crate::image::digest::ChainId;
use crate::volume;

/// One line of `system df`. Bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    pub total: usize,
    /// In use: images by containers, containers because they run.
    pub active: usize,
    pub size: u64,
    pub reclaimable: u64,
}

/// Images, containers, volumes. A layer that several images share is counted once.
///
/// # Errors
/// EACCES; Invalid when the store is damaged.
pub fn usage(home: &Home) -> Result<[Usage; 3]> {
    let store = image::store::Store::open(&home.data)?;
    let mut containers = Usage::default();
    let mut used_images = HashSet::new();
    let mut layers: HashMap<ChainId, bool> = HashMap::new();
    for record in record::list(home, true)? {
        let runs = matches!(record.status(), Status::Running | Status::Paused | Status::Restarting);
        let written = describe::tree_size(&home.container(&record.id).join("upper"));
        containers.total += 1;
        containers.active += usize::from(runs);
        containers.size += written;
        containers.reclaimable += if runs { 0 } else { written };
        used_images.insert(record.image_id.clone());
        let chain = record::definition(home, &record.id).map(|definition| definition.layers).unwrap_or_default();
        layers.extend(chain.into_iter().map(|chain| (chain, true)));
    }
    let listed = image::list::all(&store)?;
    for image in &listed {
        let chain = image::resolve(&store, &image.id.to_string()).map(|image| image.chain).unwrap_or_default();
        for layer in chain {
            layers.entry(layer).or_insert(false);
        }
    }
    let mut images = Usage { total: listed.len(), ..Usage::default() };
    images.active = listed.iter().filter(|image| used_images.contains(&image.id.to_string())).count();
    for (chain, used) in &layers {
        let size = image::list::layer_size(&store, chain);
        images.size += size;
        images.reclaimable += if *used { 0 } else { size };
    }
    Ok([images, containers, volume_usage(home)?])
}

fn volume_usage(home: &Home) -> Result<Usage> {
    let users = Users::of(home)?;
    let mut usage = Usage::default();
    for known in volume::list(&home.volumes())? {
        let size = volumes::size(home, &known);
        let is_used = !users.of_volume(&known.name).is_empty();
        usage.total += 1;
        usage.active += usize::from(is_used);
        usage.size += size;
        usage.reclaimable += if is_used { 0 } else { size };
    }
    Ok(usage)
}
