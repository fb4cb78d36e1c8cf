//! Images of a few files for a registry for tests, right ones and strange ones.
//!
//! Source: OCI image specification 1.1: layer.md, config.md, manifest.md, image-index.md.
#![allow(dead_code)] // a benchmark compiles this module too, and uses its own part of it

use std::io::Write;

use onggi::image::digest::{Digest, Hashing};
use onggi::image::manifest;
use serde_json::{Value, json};

/// A layer as it is transferred, and what its archive's digest is.
#[derive(Debug, Clone)]
pub struct Layer {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub diff_id: String,
}

/// A manifest or an index, and all the blobs below it.
#[derive(Debug, Clone)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub digest: String,
    /// The config's digest; of an index, that of its first manifest.
    pub id: String,
    pub blobs: Vec<(String, Vec<u8>)>,
    /// Of an index: its manifests, with those of its indexes.
    pub inner: Vec<Image>,
}

impl Layer {
    /// A gzipped archive of these files.
    pub fn of(files: &[(&str, &[u8])]) -> Layer {
        Layer::gzipped(&archive(files))
    }

    pub fn gzipped(archive: &[u8]) -> Layer {
        Layer { bytes: gzip(archive), media_type: manifest::LAYER_GZIP.into(), diff_id: digest(archive) }
    }

    /// The same archive sent as something else.
    pub fn sent_as(archive: &[u8], bytes: Vec<u8>, media_type: &str) -> Layer {
        Layer { bytes, media_type: media_type.into(), diff_id: digest(archive) }
    }

    /// A file of so many times 16 MiB of zeros: gzip's members can be one after the other, so that one is made once.
    pub fn zeros(pieces: u64) -> Layer {
        let piece = vec![0u8; 16 << 20];
        let mut header = tar::Header::new_gnu();
        header.set_path("zeros").expect("a name");
        header.set_size(pieces * piece.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let mut hash = Hashing::new(std::io::sink());
        let mut write = |bytes: &[u8]| hash.write_all(bytes).expect("a sink");
        write(header.as_bytes());
        (0..pieces).for_each(|_| write(&piece));
        write(&[0; 1024]);
        let bytes = [gzip(header.as_bytes()), gzip(&piece).repeat(pieces as usize), gzip(&[0; 1024])].concat();
        Layer { bytes, media_type: manifest::LAYER_GZIP.into(), diff_id: hash.finish().1.to_string() }
    }

    pub fn digest(&self) -> String {
        digest(&self.bytes)
    }
}

impl Image {
    /// An image of these layers, for this machine.
    pub fn of(layers: &[Layer]) -> Image {
        Image::with_config(layers, json!({"architecture": manifest::architecture(), "os": "linux", "config": {"Cmd": ["/bin/true"]}}))
    }

    /// The same with other fields in the config, which gets the layers.
    pub fn with_config(layers: &[Layer], mut config: Value) -> Image {
        let diff_ids: Vec<&String> = layers.iter().map(|layer| &layer.diff_id).collect();
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let config = config.to_string().into_bytes();
        let descriptors: Vec<Value> = layers.iter().map(|layer| descriptor(&layer.media_type, &layer.bytes)).collect();
        let text = json!({
            "schemaVersion": 2, "mediaType": manifest::MANIFEST, "config": descriptor(manifest::CONFIG, &config), "layers": descriptors,
        });
        let mut image = Image::raw(manifest::MANIFEST, text.to_string().into_bytes());
        image.id = digest(&config);
        image.blobs = layers.iter().map(|layer| (layer.digest(), layer.bytes.clone())).collect();
        image.blobs.push((image.id.clone(), config));
        image
    }

    /// One small layer whose bytes are this text's, and which gzip can't make much smaller.
    pub fn small(seed: u64) -> Image {
        Image::of(&[Layer::of(&[("etc/seed", seed.to_string().as_bytes()), ("etc/noise", &noise(seed, 20_000))])])
    }

    /// An index of images with their platforms, `os/architecture[/variant]`.
    pub fn index(images: &[(&str, Image)]) -> Image {
        let described = |(platform, image): &(&str, Image)| {
            let mut one = descriptor(&image.media_type, &image.bytes);
            let mut parts = platform.split('/');
            one["platform"] = json!({"os": parts.next().unwrap_or_default(), "architecture": parts.next().unwrap_or_default()});
            if let Some(variant) = parts.next() {
                one["platform"]["variant"] = json!(variant);
            }
            one
        };
        let all: Vec<Value> = images.iter().map(described).collect();
        let text = json!({"schemaVersion": 2, "mediaType": manifest::INDEX, "manifests": all});
        let mut index = Image::raw(manifest::INDEX, text.to_string().into_bytes());
        index.id = images.first().map_or_else(String::new, |(_, image)| image.id.clone());
        index.blobs = images.iter().flat_map(|(_, image)| image.blobs.clone()).collect();
        let bare = |image: &Image| Image { inner: Vec::new(), blobs: Vec::new(), ..image.clone() };
        index.inner = images.iter().flat_map(|(_, image)| image.inner.iter().map(bare).chain([bare(image)])).collect();
        index
    }

    /// These bytes as a manifest, whatever they are.
    pub fn raw(media_type: &str, bytes: Vec<u8>) -> Image {
        Image { digest: digest(&bytes), media_type: media_type.into(), bytes, id: String::new(), blobs: Vec::new(), inner: Vec::new() }
    }

    /// Writes it as a folder in the OCI's layout, under this tag.
    pub fn write_layout(&self, folder: &std::path::Path, tag: &str) {
        let place = folder.join("blobs/sha256");
        std::fs::create_dir_all(&place).expect("make a layout");
        let manifests = self.inner.iter().chain([self]).map(|one| (&one.digest, &one.bytes));
        for (digest, bytes) in self.blobs.iter().map(|(digest, bytes)| (digest, bytes)).chain(manifests) {
            std::fs::write(place.join(digest.trim_start_matches("sha256:")), bytes).expect("write a blob");
        }
        let mut own = descriptor(&self.media_type, &self.bytes);
        own["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "mediaType": manifest::INDEX, "manifests": [own]});
        std::fs::write(folder.join("index.json"), index.to_string()).expect("write index.json");
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write oci-layout");
    }

    /// The layers' digests as they are transferred, the lowest first.
    pub fn layers(&self) -> Vec<String> {
        self.layers_of(&self.id)
    }

    /// Of an index: those of the image with this ID.
    pub fn layers_of(&self, id: &str) -> Vec<String> {
        let manifests = self.inner.iter().chain([self]).filter_map(|one| serde_json::from_slice::<Value>(&one.bytes).ok());
        let found = manifests.into_iter().find(|manifest| manifest["config"]["digest"] == id).unwrap_or_default();
        let layers = found["layers"].as_array().cloned().unwrap_or_default();
        layers.iter().filter_map(|layer| layer["digest"].as_str().map(str::to_string)).collect()
    }

    /// The bytes of the only layer, or of the lowest.
    pub fn layer(&self) -> Vec<u8> {
        let lowest = self.layers().into_iter().next();
        self.blobs.iter().find(|(digest, _)| Some(digest) == lowest.as_ref()).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

pub fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// A tar archive; a name that ends with a slash is a folder.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(if name.ends_with('/') { 0o755 } else { 0o644 });
        header.set_entry_type(if name.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, name, *bytes).expect("an archive in memory");
    }
    builder.into_inner().expect("an archive in memory")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("gzip in memory");
    encoder.finish().expect("gzip in memory")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Bytes that no compression makes smaller; the same seed gives the same.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    (0..length).map(|_| dice.roll(256) as u8).collect()
}

/// xorshift64*: the same seed gives the same numbers.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// The value of Authorization for a user and a password (RFC 7617).
pub fn basic(user: &str, password: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = format!("{user}:{password}").into_bytes();
    let mut text = String::from("Basic ");
    for three in bytes.chunks(3) {
        let number = three.iter().chain(&[0; 2]).take(3).fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            text.push(if at > three.len() { '=' } else { char::from(LETTERS[number >> shift & 63]) });
        }
    }
    text
}
