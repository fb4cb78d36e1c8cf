//! What there is in a registry: repositories, their tags, and what refers to an image. All in pages.
//!
//! See it: `curl -i 'http://localhost:5000/v2/_catalog?n=2'`. Source: OCI distribution specification 1.1, "Content discovery".

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Method};

use super::auth::Auth;
use super::credentials;
use super::failure::Failure;
use super::http::{Ask, Server};
use super::repository::{Repository, nowhere};
use super::settings::Settings;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Index};

/// Of a page.
const BIGGEST_LIST: u64 = 16 << 20;
const MOST_PAGES: usize = 1000;

/// All repositories of a registry.
///
/// # Errors
/// Denied, Unsupported (the Hub lists none), and all that can happen on the way.
pub fn catalog(settings: &Settings, registry: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Catalog {
        repositories: Option<Vec<String>>,
    }
    let endpoint = settings.endpoints(registry, true)?.into_iter().next().ok_or_else(|| nowhere(registry))?;
    let server = Server::new(endpoint, Auth::new(credentials::find(registry)?, "registry:catalog:*"))?;
    let pages = pages::<Catalog>(&server, "/v2/_catalog".into()).map_err(|failure| failure.doing(format!("list the repositories of {registry}")))?;
    Ok(pages.into_iter().filter_map(|page| page.repositories).flatten().collect())
}

impl Repository {
    /// All tags.
    ///
    /// # Errors
    /// NotFound, Denied, and all that can happen on the way.
    pub fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let doing = || format!("list the tags of {}", self.full_name());
        let server = self.servers.last().ok_or_else(|| nowhere(&self.registry))?;
        let pages = pages::<Tags>(server, self.place("tags/list")).map_err(|failure| failure.doing(doing()))?;
        Ok(pages.into_iter().filter_map(|page| page.tags).flatten().collect())
    }

    /// What refers to a manifest: signatures, lists of contents. Also from registries that keep them under a tag.
    ///
    /// # Errors
    /// Denied, and all that can happen on the way.
    pub fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>> {
        let place = self.place(&format!("referrers/{digest}"));
        let server = self.servers.last().ok_or_else(|| nowhere(&self.registry))?;
        let pages = match pages::<Index>(server, place) {
            // The specification's way for registries before 1.1.
            Err(failure) if failure.status == Some(404) => match pages::<Index>(server, self.place(&format!("manifests/sha256-{}", digest.hex()))) {
                Err(failure) if failure.status == Some(404) => Ok(Vec::new()),
                pages => pages,
            },
            pages => pages,
        };
        let pages = pages.map_err(|failure| failure.doing(format!("list what refers to {} in {}", digest.short(), self.full_name())))?;
        Ok(pages.into_iter().flat_map(|page| page.manifests).collect())
    }
}

/// A list that comes in pages, each with a link to the next.
fn pages<T: DeserializeOwned>(server: &Server, first: String) -> std::result::Result<Vec<T>, Failure> {
    let (mut place, mut all) = (first, Vec::new());
    while all.len() < MOST_PAGES {
        let accept = [("Accept", "application/json, application/vnd.oci.image.index.v1+json")];
        let (headers, bytes) = server.whole(&Ask { headers: &accept, ..Ask::new(Method::GET, &place) }, BIGGEST_LIST)?;
        let next = next_page(&headers);
        all.push(serde_json::from_slice(&bytes).map_err(|e| Failure::words(format!("the list can't be read: {e}")))?);
        match next {
            Some(next) if next.starts_with('/') && next != place => place = next,
            _ => return Ok(all),
        }
    }
    Err(Failure::words(format!("the list has more than {MOST_PAGES} pages")))
}

/// `Link: </v2/_catalog?last=x&n=100>; rel="next"`
fn next_page(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("Link")?.to_str().ok()?;
    let (address, rest) = text.strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then(|| address.to_string())
}
