//! The registry behind a mirror, as the mirror asks it: through our own client, and without mirrors, of which this is one.
//!
//! See it: `onggi registry serve --mirror-of docker.io`, and `ss -tnp` while somebody pulls. Source: distribution specification, "Pull".

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use super::route::TagOrDigest;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::registry::repository::{Access, Repository};
use crate::image::registry::settings::Settings;

/// Repositories whose connections and tokens are kept.
const MOST: usize = 64;

/// A registry, and what of it was asked lately.
pub struct Outside {
    pub registry: String,
    settings: Settings,
    repositories: Mutex<HashMap<String, Arc<Repository>>>,
}

/// What comes of a blob: from which byte on, how long the whole is, and the bytes.
pub type Content = (u64, Option<u64>, Box<dyn Read + Send>);

impl Outside {
    /// This registry, which is asked for nothing yet.
    ///
    /// # Errors
    /// Invalid for settings that can't be read.
    pub fn new(registry: String) -> Result<Outside> {
        Ok(Outside { registry, settings: Settings::load()?.without_mirrors(), repositories: Mutex::default() })
    }

    /// The digest that a tag has there now; None when it isn't told.
    ///
    /// # Errors
    /// NotFound, Denied, and all that can happen on the way.
    pub fn digest_of(&self, name: &str, place: &TagOrDigest) -> Result<Option<Digest>> {
        self.repository(name)?.digest_of(&place.to_string())
    }

    /// A manifest: its media type and bytes, whose digest was checked.
    ///
    /// # Errors
    /// As [`Outside::digest_of`].
    pub fn manifest(&self, name: &str, place: &TagOrDigest) -> Result<(String, Vec<u8>)> {
        self.repository(name)?.manifest(&place.to_string()).map(|fetched| (fetched.media_type, fetched.bytes))
    }

    /// A blob from this byte on, or from its first.
    ///
    /// # Errors
    /// As [`Outside::digest_of`].
    pub fn blob(&self, name: &str, digest: &Digest, from: u64) -> Result<Content> {
        let download = self.repository(name)?.blob(digest, from)?;
        Ok((download.from, download.total, download.body))
    }

    fn repository(&self, name: &str) -> Result<Arc<Repository>> {
        let mut all = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name) {
            return Ok(known.clone());
        }
        if all.len() >= MOST {
            all.clear();
        }
        let repository = Arc::new(Repository::open(&self.settings, &self.registry, name, Access::Pull)?);
        all.insert(name.to_string(), repository.clone());
        Ok(repository)
    }
}
