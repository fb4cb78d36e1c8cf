//! Which repositories there are, and what is in them: `index.json` in memory.
//!
//! Each descriptor in it says by an annotation where it belongs: `team/web:1`, or `team/web@sha256:…` when it has no tag there. What an index
//! names belongs to the repository with it and has no line of its own. Lines of others, which name no repository, are left as they are.
//!
//! See it: `jq . /var/lib/onggi/registry/index.json`. Source: OCI image specification, image-layout.md "index.json file".

use std::collections::BTreeMap;

use super::route::TagOrDigest;
use crate::image::digest::Digest;
use crate::image::manifest::{self, Descriptor, Index};
use crate::image::reference::{is_repository, is_tag};

const NAME: &str = "org.opencontainers.image.ref.name";
/// From which registry a tag was fetched: there it is looked for again.
const FROM: &str = "dev.onggi.fetched-from";

/// All repositories by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub repositories: BTreeMap<String, Repository>,
    others: Vec<Descriptor>,
}

/// One repository's manifests.
#[derive(Debug, Clone, Default)]
pub struct Repository {
    pub tags: BTreeMap<String, Descriptor>,
    pub untagged: BTreeMap<Digest, Descriptor>,
}

impl Catalog {
    /// Reads it out of `index.json`.
    pub fn of(index: Index) -> Catalog {
        let mut catalog = Catalog::default();
        for mut descriptor in index.manifests {
            match descriptor.annotations.get(NAME).and_then(|name| place(name, &descriptor.digest)) {
                Some((name, place)) => {
                    descriptor.annotations.remove(NAME);
                    catalog.put(&name, &place, descriptor);
                }
                None => catalog.others.push(descriptor),
            }
        }
        catalog
    }

    /// The other way round.
    pub fn index(&self) -> Index {
        let mut manifests = self.others.clone();
        let mut line = |descriptor: &Descriptor, name: String| {
            let mut descriptor = descriptor.clone();
            descriptor.annotations.insert(NAME.into(), name);
            manifests.push(descriptor);
        };
        for (name, repository) in &self.repositories {
            repository.tags.iter().for_each(|(tag, descriptor)| line(descriptor, format!("{name}:{tag}")));
            repository.untagged.iter().for_each(|(digest, descriptor)| line(descriptor, format!("{name}@{digest}")));
        }
        Index { schema_version: 2, media_type: Some(manifest::INDEX.into()), manifests, annotations: BTreeMap::new() }
    }

    /// The line of a tag or digest.
    pub fn line(&self, name: &str, place: &TagOrDigest) -> Option<&Descriptor> {
        let repository = self.repositories.get(name)?;
        match place {
            TagOrDigest::Tag(tag) => repository.tags.get(tag),
            TagOrDigest::Digest(digest) => repository.lines().find(|line| line.digest == *digest),
        }
    }

    /// Writes down a manifest. What the tag named before stays as one without a tag: somebody may be pulling it.
    pub fn put(&mut self, name: &str, place: &TagOrDigest, descriptor: Descriptor) {
        let repository = self.repositories.entry(name.to_string()).or_default();
        match place {
            TagOrDigest::Digest(digest) => {
                if !repository.lines().any(|line| line.digest == *digest) {
                    repository.untagged.insert(digest.clone(), descriptor);
                }
            }
            TagOrDigest::Tag(tag) => {
                repository.untagged.remove(&descriptor.digest);
                let digest = descriptor.digest.clone();
                let old = repository.tags.insert(tag.clone(), descriptor).filter(|old| old.digest != digest);
                // What was fetched can be fetched again.
                if let Some(old) = old.filter(|old| !is_fetched(old) && !repository.lines().any(|line| line.digest == old.digest)) {
                    repository.untagged.insert(old.digest.clone(), old);
                }
            }
        }
    }

    /// Strikes out a tag, or a manifest with all its tags: whether there was one.
    pub fn remove(&mut self, name: &str, place: &TagOrDigest) -> bool {
        if self.line(name, place).is_none() {
            return false;
        }
        let Some(repository) = self.repositories.get_mut(name) else { return false };
        match place {
            TagOrDigest::Tag(tag) => repository.untag(tag),
            TagOrDigest::Digest(digest) => {
                repository.tags.retain(|_, line| line.digest != *digest);
                repository.untagged.remove(digest);
            }
        }
        if repository.lines().next().is_none() {
            self.repositories.remove(name);
        }
        true
    }

    /// Every manifest that has a line.
    pub fn all(&self) -> impl Iterator<Item = &Descriptor> {
        self.repositories.values().flat_map(Repository::lines).chain(&self.others)
    }
}

impl Repository {
    /// All lines, those with tags first.
    pub fn lines(&self) -> impl Iterator<Item = &Descriptor> {
        self.tags.values().chain(self.untagged.values())
    }

    /// A tag goes; its manifest stays, as deleting a tag is specified.
    fn untag(&mut self, tag: &str) {
        let Some(mut line) = self.tags.remove(tag) else { return };
        line.annotations.remove(FROM);
        if !self.lines().any(|other| other.digest == line.digest) {
            self.untagged.insert(line.digest.clone(), line);
        }
    }
}

/// A descriptor of a tag that was fetched from elsewhere.
pub fn fetched(mut descriptor: Descriptor, from: &str) -> Descriptor {
    descriptor.annotations.insert(FROM.into(), from.into());
    descriptor
}

/// Whether a tag was fetched from elsewhere, and not pushed here.
pub fn is_fetched(descriptor: &Descriptor) -> bool {
    descriptor.annotations.contains_key(FROM)
}

fn place(name: &str, digest: &Digest) -> Option<(String, TagOrDigest)> {
    let (name, place) = match name.split_once('@') {
        Some((name, text)) => (name, (text == digest.as_str()).then(|| TagOrDigest::Digest(digest.clone()))?),
        None => name.rsplit_once(':').filter(|(_, tag)| is_tag(tag)).map(|(name, tag)| (name, TagOrDigest::Tag(tag.into())))?,
    };
    is_repository(name).then(|| (name.to_string(), place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(content: &str) -> Descriptor {
        Descriptor::new(manifest::MANIFEST, Digest::of(content.as_bytes()), 1)
    }

    fn tag(tag: &str) -> TagOrDigest {
        TagOrDigest::Tag(tag.into())
    }

    #[test]
    fn what_is_written_down_is_read_again_and_strangers_lines_stay() {
        let mut catalog = Catalog::default();
        catalog.put("team/web", &tag("1"), descriptor("one"));
        catalog.put("team/web", &TagOrDigest::Digest(Digest::of(b"two")), descriptor("two"));
        let mut index = catalog.index();
        let mut stranger = descriptor("three");
        stranger.annotations.insert(NAME.into(), "Not/A/Name".into());
        index.manifests.push(stranger);
        let again = Catalog::of(index);
        assert_eq!(again.line("team/web", &tag("1")), Some(&descriptor("one")));
        assert_eq!(again.repositories["team/web"].untagged.len(), 1);
        assert_eq!((again.all().count(), again.index().manifests.len()), (3, 3));
    }

    #[test]
    fn a_tag_that_moves_or_goes_leaves_its_manifest_and_a_digest_takes_its_tags_along() {
        let mut catalog = Catalog::default();
        catalog.put("web", &tag("1"), descriptor("one"));
        catalog.put("web", &tag("1"), descriptor("two"));
        catalog.put("web", &tag("latest"), descriptor("two"));
        assert_eq!(catalog.repositories["web"].untagged.len(), 1);
        assert!(catalog.remove("web", &tag("1")));
        assert_eq!(catalog.repositories["web"].untagged.len(), 1, "the other tag still names it");
        assert!(catalog.remove("web", &TagOrDigest::Digest(Digest::of(b"two"))));
        assert_eq!(catalog.line("web", &tag("latest")), None);
        assert!(catalog.remove("web", &TagOrDigest::Digest(Digest::of(b"one"))));
        assert!(catalog.repositories.is_empty() && !catalog.remove("web", &tag("1")));
    }
}
