//! One repository at its registry: what the OCI distribution specification lets one ask of it.
//!
//! ```text
//! /v2/NAME/manifests/TAG|DIGEST      HEAD GET PUT       what an image is made of, and under which names
//! /v2/NAME/blobs/DIGEST              HEAD GET           its parts
//! /v2/NAME/blobs/uploads/            POST PATCH PUT     a part on its way there
//! /v2/NAME/tags/list, /v2/_catalog   GET                what there is
//! ```
//! A mirror is asked first where one is configured, for reading only; whatever it answers has to have the right digest.
//!
//! See it: `curl http://localhost:5000/v2/_catalog`. Source: OCI distribution specification 1.1.

use std::io::Read;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use ureq::http::{HeaderMap, Method};

use super::auth::Auth;
use super::credentials;
use super::failure::Failure;
use super::http::{Ask, Content, Server};
use super::settings::Settings;
use crate::error::{Class, Error, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST};

/// The registries' own limit, too.
const BIGGEST_MANIFEST: u64 = 4 << 20;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A repository, and who can be asked for it.
pub struct Repository {
    /// The mirrors, and last the registry itself.
    pub(super) servers: Vec<Server>,
    pub registry: String,
    pub name: String,
}

/// What one is going to do there: a token is asked for that allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Pull,
    Push,
    Delete,
}

/// A manifest or index as the registry has it.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// A blob on its way.
pub struct Download {
    /// Its first byte; 0 when the server gives only the whole.
    pub from: u64,
    /// Of the whole blob, as the server says.
    pub total: Option<u64>,
    pub body: Box<dyn Read + Send>,
}

impl Repository {
    /// A repository that was not asked for yet.
    ///
    /// # Errors
    /// Invalid for settings, certificates or stored credentials that can't be read.
    pub fn open(settings: &Settings, registry: &str, name: &str, access: Access) -> Result<Repository> {
        let actions = match access {
            Access::Pull => "pull",
            // The challenge to a first HEAD would say `pull` only.
            Access::Push => "pull,push",
            Access::Delete => "pull,push,delete",
        };
        let scope = format!("repository:{name}:{actions}");
        let server = |endpoint: super::settings::Endpoint| {
            // A mirror is another registry, whose own credentials it gets.
            let owner = if endpoint.is_mirror { endpoint.host.clone() } else { registry.to_string() };
            Server::new(endpoint, Auth::new(credentials::find(&owner)?, &scope))
        };
        let servers = settings.endpoints(registry, access != Access::Pull)?.into_iter().map(server).collect::<Result<_>>()?;
        Ok(Repository { servers, registry: registry.into(), name: name.into() })
    }

    /// The digest that a tag means now; None when the server doesn't tell.
    ///
    /// # Errors
    /// NotFound, Denied, and all that can happen on the way.
    pub fn digest_of(&self, tag_or_digest: &str) -> Result<Option<Digest>> {
        let place = self.place(&format!("manifests/{tag_or_digest}"));
        let ask = Ask { headers: &[("Accept", ACCEPTED)], ..Ask::new(Method::HEAD, &place) };
        match self.first(|server| server.send(&ask)) {
            Ok(response) => Ok(content_digest(response.headers())),
            // Some servers know no HEAD.
            Err(failure) if failure.status == Some(405) => Ok(None),
            Err(failure) => Err(self.no_manifest(failure, tag_or_digest)),
        }
    }

    /// A manifest or index whole, its digest checked.
    ///
    /// # Errors
    /// NotFound, Denied; Unsupported for Docker's schema 1; Invalid for other bytes than the digest names.
    pub fn manifest(&self, tag_or_digest: &str) -> Result<Fetched> {
        let place = self.place(&format!("manifests/{tag_or_digest}"));
        let ask = Ask { headers: &[("Accept", ACCEPTED)], ..Ask::new(Method::GET, &place) };
        let whole = |server: &Server| {
            let (headers, bytes) = server.whole(&ask, BIGGEST_MANIFEST)?;
            checked(&headers, bytes, tag_or_digest)
        };
        self.first(whole).map_err(|failure| self.no_manifest(failure, tag_or_digest))
    }

    /// A blob from this byte on.
    ///
    /// # Errors
    /// NotFound, Denied, and all that can happen on the way.
    pub fn blob(&self, digest: &Digest, from: u64) -> Result<Download> {
        self.download(digest, from).map_err(|failure| failure.doing(format!("fetch the blob {} of {}", digest.short(), self.full_name())))
    }

    /// A small blob whole, its digest checked.
    ///
    /// # Errors
    /// As [`Repository::blob`]; Invalid for other bytes than the digest names, and for more than `most`.
    pub fn small_blob(&self, digest: &Digest, most: u64) -> Result<Vec<u8>> {
        let doing = || format!("fetch the blob {} of {}", digest.short(), self.full_name());
        let place = self.place(&format!("blobs/{digest}"));
        let (_, bytes) = self.first(|server| server.whole(&Ask::new(Method::GET, &place), most)).map_err(|failure| failure.doing(doing()))?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(Error::invalid(doing(), format!("the bytes that came are {found}"))),
        }
    }

    /// The same, with the facts of a failure.
    pub fn download(&self, digest: &Digest, from: u64) -> std::result::Result<Download, Failure> {
        let place = self.place(&format!("blobs/{digest}"));
        let range = format!("bytes={from}-");
        let headers = [("Range", range.as_str())];
        let ask = Ask { headers: if from > 0 { &headers } else { &[] }, ..Ask::new(Method::GET, &place) };
        let response = self.first(|server| server.send(&ask))?;
        let begins = match response.status().as_u16() {
            206 => range_of(response.headers()).map(|(first, total)| (first, Some(total))),
            _ => Some((0, response.body().content_length())),
        };
        match begins {
            Some((first, total)) if first == from || first == 0 => {
                Ok(Download { from: first, total, body: Box::new(response.into_body().into_reader()) })
            }
            // As good as "not from there", which is how it is said.
            _ => Err(Failure { status: Some(416), ..Failure::words(format!("the bytes from {from} on were asked for, and others came")) }),
        }
    }

    /// A blob that is kept elsewhere (a foreign layer). No proof of who we are goes there.
    pub fn download_from(&self, address: &str) -> std::result::Result<Download, Failure> {
        let server = self.servers.last().ok_or_else(|| Failure::words("nothing says where the registry is"))?;
        let response = server.elsewhere(Method::GET, address, &[], &[])?;
        Ok(Download { from: 0, total: response.body().content_length(), body: Box::new(response.into_body().into_reader()) })
    }

    /// Whether the registry has the blob.
    ///
    /// # Errors
    /// Denied, and all that can happen on the way.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        match self.own()?.send(&Ask::new(Method::HEAD, &self.place(&format!("blobs/{digest}")))) {
            Ok(_) => Ok(true),
            Err(failure) if failure.status == Some(404) => Ok(false),
            Err(failure) => Err(failure.doing(format!("ask {} for the blob {}", self.full_name(), digest.short()))),
        }
    }

    /// Puts a manifest or index there, under a tag or its digest.
    ///
    /// # Errors
    /// Denied, and all that can happen on the way.
    pub fn put_manifest(&self, tag_or_digest: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let place = self.place(&format!("manifests/{tag_or_digest}"));
        let headers = [("Content-Type", media_type)];
        let ask = Ask { headers: &headers, content: Content::Bytes(bytes), ..Ask::new(Method::PUT, &place) };
        let sent = self.own()?.send(&ask);
        sent.map(drop).map_err(|failure| failure.doing(format!("push the manifest {tag_or_digest} to {}", self.full_name())))
    }

    /// Ends all that is under way there.
    pub fn shut(&self) {
        self.servers.iter().for_each(Server::shut);
    }

    /// Registry and repository.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }

    pub(super) fn place(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.name)
    }

    /// The registry itself: who pushes asks no mirror.
    pub(super) fn own(&self) -> Result<&Server> {
        self.servers.last().ok_or_else(|| nowhere(&self.registry))
    }

    /// Asks one after the other; what the last one says counts.
    fn first<T>(&self, ask: impl Fn(&Server) -> std::result::Result<T, Failure>) -> std::result::Result<T, Failure> {
        let mut failure = Failure::words("nothing says where it is");
        for (at, server) in self.servers.iter().enumerate() {
            let is_last = at + 1 == self.servers.len();
            if !is_last && server.is_down.load(Ordering::Relaxed) {
                continue;
            }
            match ask(server) {
                Ok(answer) => return Ok(answer),
                Err(other) => failure = other,
            }
        }
        Err(failure)
    }

    /// Why there is no such manifest, in words that tell registry, repository and tag apart.
    fn no_manifest(&self, failure: Failure, wanted: &str) -> Error {
        let doing = format!("fetch the manifest {wanted} of {}", self.full_name());
        let hub = if self.registry == "docker.io" { String::new() } else { format!(" {}", self.registry) };
        match (failure.status, failure.code.as_deref()) {
            (Some(404), Some("NAME_UNKNOWN")) => {
                let hint = format!("the registry {} answered, and has no repository {}", self.registry, self.name);
                failure.doing(doing).hint(hint)
            }
            (Some(404), _) => {
                let hint =
                    format!("the registry {} has no {wanted} in the repository {}: `onggi pull -a` takes what there is", self.registry, self.name);
                failure.doing(doing).hint(hint)
            }
            (Some(401 | 403), _) => {
                let hint = format!("the repository doesn't exist in the registry {}, or is not for everybody: `onggi login{hub}`", self.registry);
                failure.doing(doing).hint(hint)
            }
            _ => failure.doing(doing),
        }
    }
}

/// A manifest whose digest is the one that was asked for, or the one that the server names.
fn checked(headers: &HeaderMap, bytes: Vec<u8>, wanted: &str) -> std::result::Result<Fetched, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        schema_version: Option<u32>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let digest = Digest::of(&bytes);
    if let Some(expected) = Digest::parse(wanted).ok().or_else(|| content_digest(headers)).filter(|expected| *expected != digest) {
        return Err(Failure::words(format!("the bytes are {digest}, not {expected}: somebody changed them on the way, or the registry is damaged")));
    }
    let said = headers.get("Content-Type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said = said.split(';').next().unwrap_or_default().trim();
    let kind = serde_json::from_slice::<Kind>(&bytes).map_err(|e| Failure::words(format!("the answer is no manifest: {e}")))?;
    if kind.schema_version == Some(1) || said.contains("docker.distribution.manifest.v1") {
        let why = "the image has Docker's schema 1, which nobody has made since 2016 and which has no digests of its layers' contents";
        return Err(Failure { hint: Some("pull it with an old docker and push it again".into()), status: Some(415), ..Failure::words(why) });
    }
    let known = [INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
    let guess = if kind.manifests.is_some() { INDEX } else { MANIFEST };
    let media_type = kind.media_type.or_else(|| known.contains(&said).then(|| said.to_string())).unwrap_or_else(|| guess.into());
    Ok(Fetched { digest, media_type, bytes })
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    Digest::parse(headers.get("Docker-Content-Digest")?.to_str().ok()?).ok()
}

/// `Content-Range: bytes 100-299/300` is (100, 300).
fn range_of(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = headers.get("Content-Range")?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

pub(super) fn nowhere(registry: &str) -> Error {
    Error::new(Class::NotFound, format!("reach the registry {registry}"), "nothing says where it is")
}
