//! One jar, and the registry that it pulls from: what is here after a pull, and whether it is right.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use onggi::image::compression;
use onggi::image::digest::{ChainId, DiffId, Digest};
use serde_json::Value;

use super::{Image, Registry};
use crate::support::jar::{Jar, Said, said};

pub struct Scene {
    pub jar: Jar,
    pub registry: Registry,
}

impl Scene {
    /// None, after having said so, when this isn't root: layers have owners.
    pub fn new() -> Option<Scene> {
        if !nix::unistd::geteuid().is_root() {
            crate::support::skip_for_want_of("owners of files are root's to give, and this is not root");
            return None;
        }
        // The jar first: it makes this thread's network, on which the registry listens.
        let jar = Jar::empty();
        Some(Scene { jar, registry: Registry::new() })
    }

    /// `onggi WORDS` with nothing of this machine's own settings.
    pub fn onggi(&self, words: &[&str]) -> Command {
        let mut command = self.jar.onggi(words);
        command.env("HOME", self.jar.root.join("home")).env_remove("DOCKER_CONFIG").env_remove("XDG_CONFIG_HOME");
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(proxy).env_remove(proxy.to_uppercase());
        }
        command
    }

    pub fn says(&self, words: &[&str]) -> Said {
        said(self.onggi(words).output().expect("start onggi"))
    }

    /// `onggi pull HOST/REST`
    pub fn pull(&self, rest: &str) -> Said {
        self.says(&["pull", &self.registry.name(rest)])
    }

    /// Pulls, and asserts that the image is here and right: what was said.
    #[track_caller]
    pub fn pulls(&self, rest: &str, image: &Image) -> String {
        let said = self.pull(rest);
        assert_eq!(said.code, 0, "{rest}: {}{}", said.out, said.err);
        self.assert_right(rest, image);
        said.out
    }

    /// Asserts that a pull fails with each of these parts in one message, that nothing has the name, and that the store is intact: the message.
    #[track_caller]
    pub fn refuses(&self, rest: &str, parts: &[&str]) -> String {
        let before = self.references();
        let said = self.pull(rest);
        assert_eq!(said.code, 1, "{rest}: {}{}", said.out, said.err);
        for part in parts {
            assert!(said.err.contains(part), "{rest}: {part:?} is not in {}", said.err);
        }
        assert_clear(&said.err);
        assert_eq!(self.references(), before, "{}", said.err);
        self.assert_intact();
        said.err
    }

    /// Asserts that this name means this image, that its layers are unpacked as they are, and that the store is intact.
    #[track_caller]
    pub fn assert_right(&self, rest: &str, image: &Image) {
        let name = self.registry.name(rest);
        let id = self.says(&["image", "inspect", "--format", "{{.Id}}", &name]);
        assert_eq!(id.out.trim(), image.id, "{name}: {}", id.err);
        self.assert_intact();
        let blobs: BTreeMap<&String, &Vec<u8>> = image.blobs.iter().map(|(digest, bytes)| (digest, bytes)).collect();
        let Some(config) = blobs.get(&image.id).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok()) else { return };
        for (chain, layer) in chains(&config).iter().zip(image.layers_of(&image.id)) {
            assert_unpacked(&self.jar.root.join("data/snapshots").join(chain).join("fs"), blobs[&layer]);
        }
    }

    /// The names of images and what they mean, as the store has it.
    pub fn references(&self) -> Value {
        self.repositories()["references"].clone()
    }

    fn repositories(&self) -> Value {
        let text = fs::read(self.data("images/repositories.json")).unwrap_or_else(|_| b"{}".to_vec());
        serde_json::from_slice(&text).expect("repositories.json is JSON")
    }

    fn data(&self, path: &str) -> PathBuf {
        self.jar.root.join("data").join(path)
    }

    /// The digests of the blobs that are here.
    pub fn blobs(&self) -> Vec<String> {
        names(&self.data("images/blobs/sha256"))
    }

    /// What has come of blobs that are not whole: the next pull goes on there.
    pub fn begun(&self) -> Vec<String> {
        names(&self.data("images/partial"))
    }

    /// What is in `tmp` and no lock.
    pub fn unfinished(&self) -> Vec<String> {
        names(&self.data("tmp")).into_iter().filter(|name| !name.ends_with("lock")).collect()
    }

    /// Asserts that every blob is what its name says, every snapshot whole, every image complete, and nothing half made is left.
    #[track_caller]
    pub fn assert_intact(&self) {
        assert_eq!(self.unfinished(), [""; 0], "left in tmp");
        self.assert_whole();
    }

    /// The same, but for what a killed one left in tmp for the next to go on with.
    #[track_caller]
    pub fn assert_whole(&self) {
        for name in self.blobs() {
            let bytes = fs::read(self.data("images/blobs/sha256").join(&name)).expect("read a blob");
            assert_eq!(Digest::of(&bytes).hex(), name, "{} bytes of another blob", bytes.len());
        }
        for name in names(&self.data("snapshots")) {
            let snapshot = self.data("snapshots").join(name);
            assert!(snapshot.join("fs").is_dir() && snapshot.join("size").is_file(), "{} is half a snapshot", snapshot.display());
        }
        let repositories = self.repositories();
        for (name, digest) in repositories["references"].as_object().into_iter().flatten() {
            assert!(repositories["images"].get(digest.as_str().unwrap_or_default()).is_some(), "{name} means no image");
        }
        for digest in repositories["images"].as_object().into_iter().flatten().map(|(digest, _)| digest) {
            self.assert_complete(digest);
        }
    }

    #[track_caller]
    fn assert_complete(&self, manifest: &str) {
        let json = |digest: &str| -> Option<Value> {
            serde_json::from_slice(&fs::read(self.data("images/blobs/sha256").join(digest.strip_prefix("sha256:")?)).ok()?).ok()
        };
        let Some(manifest) = json(manifest) else { panic!("the manifest {manifest} is not here") };
        // Of an index, one image at least.
        let Some(id) = manifest["config"]["digest"].as_str() else { return };
        let Some(config) = json(id) else { panic!("the config {id} is not here") };
        for chain in chains(&config) {
            assert!(self.data("snapshots").join(&chain).is_dir(), "the snapshot {chain} of {id} is not here");
        }
        for layer in manifest["layers"].as_array().into_iter().flatten().filter_map(|layer| layer["digest"].as_str()) {
            assert!(self.blobs().contains(&layer.trim_start_matches("sha256:").to_string()), "the layer {layer} of {id} is not here");
        }
    }
}

/// Asserts that a failure is told as one question, its answer, and a hint perhaps: no panic, no second story.
#[track_caller]
pub fn assert_clear(text: &str) {
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("etrying")).collect();
    let told = lines.iter().filter(|line| line.starts_with("onggi: cannot ")).count();
    assert!(told == 1 && lines.len() <= 3 && !text.contains("panicked"), "no clear error:\n{text}");
    assert!(lines.iter().all(|line| line.chars().count() < 500), "too long a line:\n{text}");
}

/// The snapshots' names, the lowest first.
fn chains(config: &Value) -> Vec<String> {
    let diff_ids = config["rootfs"]["diff_ids"].as_array().into_iter().flatten();
    let diff_ids: Vec<DiffId> = diff_ids.filter_map(|id| Digest::parse(id.as_str()?).ok().map(DiffId)).collect();
    ChainId::stack(&diff_ids).iter().map(|chain| chain.0.hex().to_string()).collect()
}

#[track_caller]
fn assert_unpacked(root: &Path, layer: &[u8]) {
    let mut archive = tar::Archive::new(compression::undone(layer).expect("a layer"));
    let mut count = 0;
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let place = root.join(entry.path().expect("a name"));
        if entry.header().entry_type().is_file() && !place.to_string_lossy().contains(".wh.") {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its bytes");
            assert!(fs::read(&place).is_ok_and(|found| found == bytes), "{} is not what the layer has", place.display());
            count += 1;
        }
    }
    assert!(count > 0 || names(root).is_empty(), "{} has more than the layer", root.display());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
