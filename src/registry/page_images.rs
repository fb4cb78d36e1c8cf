//! What the page tells of the images: by tag, with their platforms and layers.

use super::layout::Layout;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Platform};

/// More layers than this, of all images together, are counted, and not shown.
const MOST_LAYERS: usize = 5000;

/// One tag.
pub struct Image {
    /// `team/web:1`
    pub name: String,
    pub digest: Digest,
    pub variants: Vec<Variant>,
}

/// What the tag is on one kind of machine.
pub struct Variant {
    pub platform: String,
    /// Of the layers as they are sent.
    pub size: u64,
    pub layers: Vec<Descriptor>,
    /// Layers that aren't shown.
    pub more: usize,
    /// A mirror fetches what is asked for only.
    pub is_here: bool,
}

impl Image {
    /// Its layers, each once.
    pub fn layers(&self) -> impl Iterator<Item = &Digest> {
        let all: std::collections::BTreeSet<_> = self.variants.iter().flat_map(|variant| &variant.layers).map(|layer| &layer.digest).collect();
        all.into_iter()
    }
}

/// The first `most` images by name, and how many there are.
pub fn images(layout: &Layout, most: usize) -> (Vec<Image>, usize) {
    let catalog = layout.catalog();
    let tags = || catalog.repositories.iter().flat_map(|(name, repository)| repository.tags.iter().map(move |(tag, line)| (name, tag, line)));
    let mut room = MOST_LAYERS;
    let images = tags().take(most).map(|(name, tag, line)| Image {
        name: format!("{name}:{tag}"),
        digest: line.digest.clone(),
        variants: variants(layout, line, &mut room),
    });
    (images.collect(), tags().count())
}

fn variants(layout: &Layout, line: &Descriptor, room: &mut usize) -> Vec<Variant> {
    let Some(described) = layout.described(&line.digest) else { return vec![variant(layout, line, room)] };
    if described.manifests.is_none() {
        return vec![variant(layout, line, room)];
    }
    // What isn't for a machine is a proof of how the image was built.
    let is_image = |child: &&Descriptor| child.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
    described.children().iter().filter(is_image).take(32).map(|child| variant(layout, child, room)).collect()
}

fn variant(layout: &Layout, line: &Descriptor, room: &mut usize) -> Variant {
    let described = layout.described(&line.digest);
    let is_here = described.is_some();
    let described = described.unwrap_or_default();
    let mut layers = described.layers.unwrap_or_default();
    let (size, all) = (layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add), layers.len());
    layers.truncate(*room);
    layers.iter_mut().for_each(|layer| layer.annotations.clear());
    *room -= layers.len();
    let of_config = || {
        let bytes = layout.manifest(&described.config.as_ref()?.digest).ok()??;
        serde_json::from_slice::<Platform>(&bytes).ok()
    };
    let platform = line.platform.clone().or_else(of_config).map_or_else(|| "-".into(), |platform| words(&platform));
    Variant { platform, size, more: all - layers.len(), layers, is_here }
}

fn words(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    let words: String = format!("{}/{}{variant}", platform.os, platform.architecture);
    words.chars().take(60).collect()
}
