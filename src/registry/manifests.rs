//! `GET`, `HEAD`, `PUT` and `DELETE` of manifests, by tag or digest.
//!
//! A manifest is written down when all that it needs is here, so that what is listed can be pulled.
//!
//! See it: `curl -i localhost:5000/v2/team/web/manifests/1`. Source: distribution specification, "Pulling manifests", "Pushing Manifests".

use std::time::Duration;

use hyper::body::Incoming;
use hyper::http::{HeaderMap, HeaderName, header};
use serde_json::json;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::answer::{Answer, CONTENT_DIGEST, Code, Refusal, empty, refuse, set};
use super::body::{self, Body};
use super::described::{self, BIGGEST, Described};
use super::layout::{Layout, PATIENCE};
use super::route::TagOrDigest;
use super::server::Registry;
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::sys::process;

/// A manifest of an image with all the layers that there can be has about 20 kB.
const USUAL: usize = 64 << 10;
/// So long a manifest may take to come.
const PATIENCE_WHOLE: Duration = Duration::from_secs(20);

/// Held while a big manifest is in memory.
struct Room<'a>(#[expect(dead_code, reason = "held, not read")] Option<SemaphorePermit<'a>>);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        process::give_back_memory();
    }
}

/// A manifest; with `head` all but the content.
///
/// # Errors
/// 404; 502 when the registry behind this one fails and nothing is here.
pub fn manifest(registry: &Registry, name: &str, place: &TagOrDigest, head: bool) -> Result<Answer, Refusal> {
    let unknown = || refuse(404, Code::ManifestUnknown, format!("there is no manifest {place} in {name}"));
    if let Some(mirror) = &registry.mirror {
        mirror.refresh(&registry.layout, name, place)?;
    }
    let line = registry.layout.find(name, place).ok_or_else(unknown)?;
    let (file, length) = registry.layout.blob(&line.digest)?.ok_or_else(unknown)?;
    let mut answer = empty(200);
    if !head {
        *answer.body_mut() = Body::stretch(file, 0, length, &registry.counts);
    }
    set(&mut answer, header::CONTENT_TYPE, &line.media_type);
    set(&mut answer, header::CONTENT_LENGTH, &length.to_string());
    set(&mut answer, header::ETAG, &format!("\"{}\"", line.digest));
    set(&mut answer, CONTENT_DIGEST, line.digest.as_str());
    Ok(answer)
}

/// Takes a manifest.
///
/// # Errors
/// 400 when it is none, when its digest is another, or when what it needs isn't here; 413, 507.
pub async fn put(registry: &Registry, name: &str, place: &TagOrDigest, headers: &HeaderMap, body: &mut Incoming) -> Result<Answer, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // Big ones come one after the other: all of one is in memory for a moment.
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let _room = match length.is_some_and(|length| length <= USUAL) {
        true => None,
        false => Some(Room(registry.room_for_big.acquire().await.ok())),
    };
    let bytes = match timeout(PATIENCE_WHOLE, body::all(body, BIGGEST)).await {
        Ok(received) => received?,
        Err(_) => return Err(refuse(408, Code::Unknown, "the manifest didn't come in time")),
    };
    registry.counts.received(bytes.len());
    let digest = Digest::of(&bytes);
    if let TagOrDigest::Digest(expected) = place
        && *expected != digest
    {
        return Err(refuse(400, Code::DigestInvalid, format!("what was sent is {digest}, and not {expected}")));
    }
    let (media_type, described) = described::check(&bytes, content_type)?;
    check_present(&registry.layout, name, &described)?;
    registry.layout.put(&bytes)?;
    let line = Descriptor::new(&media_type, digest.clone(), bytes.len() as u64);
    write_down(&registry.layout, name, place, line, &described)?;
    let mut answer = empty(201);
    set(&mut answer, header::LOCATION, &format!("/v2/{name}/manifests/{digest}"));
    set(&mut answer, header::CONTENT_LENGTH, "0");
    set(&mut answer, CONTENT_DIGEST, digest.as_str());
    if let Some(subject) = &described.subject {
        // Tells the client that it need not keep a list of referrers by itself.
        set(&mut answer, HeaderName::from_static("oci-subject"), subject.digest.as_str());
    }
    Ok(answer)
}

/// Gives a manifest its line. With an index, the lines of those that it names have become superfluous.
///
/// # Errors
/// 400 when something that it needs has gone meanwhile; 507.
fn write_down(layout: &Layout, name: &str, place: &TagOrDigest, line: Descriptor, described: &Described) -> Result<(), Refusal> {
    let is_known = matches!(place, TagOrDigest::Digest(_)) && layout.find(name, place).is_some();
    layout.change(|catalog| {
        check_present(layout, name, described)?;
        if !is_known {
            catalog.put(name, place, line);
        }
        if let Some(repository) = catalog.repositories.get_mut(name) {
            described.children().iter().for_each(|child| drop(repository.untagged.remove(&child.digest)));
        }
        Ok(())
    })
}

fn check_present(layout: &Layout, name: &str, described: &Described) -> Result<(), Refusal> {
    let needed = described.blobs().chain(described.children());
    for descriptor in needed {
        let wrong = |why: String| {
            let refusal = refuse(400, Code::ManifestBlobUnknown, why);
            refusal.detail(json!({"name": name, "digest": descriptor.digest}))
        };
        match layout.size_wanted(&descriptor.digest) {
            None => return Err(wrong(format!("the manifest needs {}, which is not here: push that first", descriptor.digest))),
            Some(size) if size != descriptor.size => {
                return Err(wrong(format!("the manifest says that {} has {} bytes, and it has {size}", descriptor.digest, descriptor.size)));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Strikes out a tag, or a manifest with its tags; what only it needed is collected.
///
/// # Errors
/// 404.
pub fn delete(registry: &Registry, name: &str, place: &TagOrDigest) -> Result<Answer, Refusal> {
    registry.layout.change(|catalog| match catalog.remove(name, place) {
        true => Ok(()),
        false => Err(refuse(404, Code::ManifestUnknown, format!("there is no manifest {place} in {name}"))),
    })?;
    registry.layout.collect(PATIENCE)?;
    Ok(empty(202))
}
