//! A manifest as a registry sees it: what it needs, what it belongs to, and nothing of what it means.
//!
//! See it: `skopeo inspect --raw docker://localhost:5000/team/web:1`. Source: OCI image specification, manifest.md and image-index.md.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::answer::{Code, Refusal, refuse};
use crate::image::manifest::{self, Descriptor, Index, Manifest};

/// More than this is no manifest (distribution specification, "Pushing Manifests").
pub const BIGGEST: usize = 4 << 20;

/// No image has as many layers, and no index as many images.
const MOST: usize = 1000;

/// What stands in a manifest of any kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    #[serde(default)]
    pub schema_version: u32,
    pub media_type: Option<String>,
    pub artifact_type: Option<String>,
    pub config: Option<Descriptor>,
    pub layers: Option<Vec<Descriptor>>,
    pub manifests: Option<Vec<Descriptor>>,
    pub subject: Option<Descriptor>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Reads a manifest that somebody sends, and says what it is.
///
/// # Errors
/// 400 for what is none, for schema 1, for one that is image and index at once, and when the two who name its type disagree.
pub fn check(bytes: &[u8], content_type: Option<&str>) -> Result<(String, Described), Refusal> {
    let wrong = |why: String| refuse(400, Code::ManifestInvalid, why);
    let described = read(bytes).map_err(|e| wrong(format!("this is no manifest: {e}")))?;
    if described.schema_version != 2 {
        return Err(wrong("only manifests of schema 2 are taken: push the image again with a client of today".into()));
    }
    // The manifest's own word first: it is covered by the digest.
    let told = content_type.map(|value| value.split(';').next().unwrap_or_default().trim()).filter(|value| !value.is_empty());
    let media_type = match (&described.media_type, told) {
        (Some(own), Some(told)) if own != told => {
            return Err(wrong(format!("it calls itself {own}, and was sent as {told}")));
        }
        (Some(own), _) => own.clone(),
        (None, Some(told)) => told.to_string(),
        (None, None) => return Err(wrong("neither the manifest nor the request says of which type it is".into())),
    };
    let is_image = match media_type.as_str() {
        manifest::MANIFEST | manifest::DOCKER_MANIFEST => true,
        manifest::INDEX | manifest::DOCKER_LIST => false,
        other => return Err(wrong(format!("manifests of the type {other} are not kept here"))),
    };
    if described.layers.as_ref().map_or(0, Vec::len).max(described.children().len()) > MOST {
        return Err(wrong(format!("it names more than {MOST} others")));
    }
    // One who reads it as an image and one who reads it as an index must not see two things (CVE-2021-41190).
    let fits = match is_image {
        true => described.manifests.is_none() && serde_json::from_slice::<Manifest>(bytes).is_ok(),
        false => described.layers.is_none() && described.config.is_none() && serde_json::from_slice::<Index>(bytes).is_ok(),
    };
    fits.then_some((media_type.clone(), described)).ok_or_else(|| wrong(format!("what is in it is not what {media_type} has")))
}

/// Reads a manifest that was taken once.
///
/// # Errors
/// Those of its JSON.
pub fn read(bytes: &[u8]) -> serde_json::Result<Described> {
    serde_json::from_slice(bytes)
}

impl Described {
    /// The blobs that must be here before the manifest is.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        // Those that may not be distributed are fetched from where their makers keep them.
        let may_be_absent = |layer: &&Descriptor| !layer.media_type.contains("foreign") && !layer.media_type.contains("nondistributable");
        self.config.iter().chain(self.layers.iter().flatten().filter(may_be_absent))
    }

    /// The manifests that an index names.
    pub fn children(&self) -> &[Descriptor] {
        self.manifests.as_deref().unwrap_or_default()
    }

    /// What kind of artifact it says it is; by its config's type when it says nothing (distribution specification, "Listing Referrers").
    pub fn kind(&self) -> Option<&str> {
        self.artifact_type.as_deref().or_else(|| self.config.as_ref().map(|config| config.media_type.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

    #[test]
    fn a_manifest_is_what_both_say_it_is() {
        let image = format!(r#"{{"schemaVersion":2,"config":{BLOB},"layers":[{BLOB}]}}"#);
        let (media_type, described) = check(image.as_bytes(), Some(manifest::MANIFEST)).unwrap();
        assert_eq!((media_type.as_str(), described.blobs().count()), (manifest::MANIFEST, 2));
        assert!(check(image.as_bytes(), None).is_err() && check(image.as_bytes(), Some("text/html")).is_err());
        let own = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{BLOB}]}}"#, manifest::INDEX);
        assert_eq!(check(own.as_bytes(), None).unwrap().1.children().len(), 1);
        assert!(check(own.as_bytes(), Some(manifest::MANIFEST)).is_err());
    }

    #[test]
    fn what_could_be_read_in_two_ways_and_schema_1_are_refused() {
        let both = format!(r#"{{"schemaVersion":2,"config":{BLOB},"layers":[],"manifests":[]}}"#);
        assert!(check(both.as_bytes(), Some(manifest::MANIFEST)).is_err() && check(both.as_bytes(), Some(manifest::INDEX)).is_err());
        let old = check(br#"{"schemaVersion":1,"fsLayers":[]}"#, Some("application/vnd.docker.distribution.manifest.v1+json")).unwrap_err();
        assert!(old.message.contains("schema 2"), "{}", old.message);
    }
}
