//! The requests that bring a blob: begin, send pieces, ask how far it is, end; or all of it at once; or take it from another repository.
//!
//! ```text
//! POST   /v2/NAME/blobs/uploads/                       202, and where to go on; with ?mount=DIGEST 201 when the blob is here
//! POST   /v2/NAME/blobs/uploads/?digest=DIGEST         201: the whole blob is the body
//! PATCH  /v2/NAME/blobs/uploads/ID                     202: a piece, in order (Content-Range), or a stream of any length
//! PUT    /v2/NAME/blobs/uploads/ID?digest=DIGEST       201: that was all
//! ```
//! See it: `curl -i -X POST localhost:5000/v2/team/web/blobs/uploads/`. Source: distribution specification, "Pushing Blobs".

use hyper::body::Incoming;
use hyper::http::{HeaderMap, HeaderName, header};

use super::answer::{Answer, CONTENT_DIGEST, Code, Refusal, empty, refuse, set};
use super::body;
use super::route;
use super::server::Registry;
use super::uploads::Writing;
use crate::image::digest::Digest;

const ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Begins an upload, or does all of it.
///
/// # Errors
/// 400 for a wrong digest, 429, 507.
pub async fn begin(registry: &Registry, name: &str, question: &[(String, String)], body: &mut Incoming) -> Result<Answer, Refusal> {
    let asked = |key: &str| question.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    if let Some(mount) = asked("mount") {
        let digest = route::digest(mount)?;
        if registry.layout.size_wanted(&digest).is_some() {
            return Ok(created(name, &digest));
        }
    }
    let expected = asked("digest").map(route::digest).transpose()?;
    let mut writing = registry.uploads.begin(name)?;
    let Some(digest) = expected else { return Ok(under_way(202, name, &writing)) };
    match receive(registry, &mut writing, body).await {
        Ok(()) => writing.commit(&registry.layout, &digest).map(|()| created(name, &digest)),
        Err(refusal) => {
            // Nobody was told of it, so nobody will go on.
            writing.forget();
            Err(refusal)
        }
    }
}

/// How far an upload is.
///
/// # Errors
/// 404, 409.
pub fn status(registry: &Registry, name: &str, id: &str) -> Result<Answer, Refusal> {
    registry.uploads.take(id, name).map(|writing| under_way(204, name, &writing))
}

/// Takes a piece.
///
/// # Errors
/// 404, 409; 416 for a piece that isn't the next one; 507.
pub async fn piece(registry: &Registry, name: &str, id: &str, headers: &HeaderMap, body: &mut Incoming) -> Result<Answer, Refusal> {
    let mut writing = registry.uploads.take(id, name)?;
    in_order(&writing, name, headers)?;
    receive(registry, &mut writing, body).await?;
    Ok(under_way(202, name, &writing))
}

/// Takes the last piece, if there is one, and checks the whole.
///
/// # Errors
/// As [`piece`]; 400 without a digest or with another one than the content's.
pub async fn end(
    registry: &Registry,
    (name, id): (&str, &str),
    question: &[(String, String)],
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Answer, Refusal> {
    let digest = question.iter().find(|(key, _)| key == "digest").map(|(_, value)| route::digest(value)).transpose()?;
    let digest = digest.ok_or_else(|| refuse(400, Code::DigestInvalid, "the last request of an upload says its digest: ?digest=sha256:…"))?;
    let mut writing = registry.uploads.take(id, name)?;
    in_order(&writing, name, headers)?;
    receive(registry, &mut writing, body).await?;
    writing.commit(&registry.layout, &digest)?;
    Ok(created(name, &digest))
}

/// Forgets an upload.
///
/// # Errors
/// 404, 409.
pub fn cancel(registry: &Registry, name: &str, id: &str) -> Result<Answer, Refusal> {
    registry.uploads.take(id, name)?.forget();
    Ok(empty(204))
}

async fn receive(registry: &Registry, writing: &mut Writing<'_>, body: &mut Incoming) -> Result<(), Refusal> {
    while let Some(bytes) = body::next(body).await? {
        registry.counts.received(bytes.len());
        writing.write(&bytes)?;
    }
    Ok(())
}

/// A piece that says where it belongs must belong at the end of what is here.
fn in_order(writing: &Writing<'_>, name: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else { return Ok(()) };
    let told = |value: &str| {
        let (from, to) = value.trim().strip_prefix("bytes ").unwrap_or(value).split_once('-')?;
        Some((from.parse::<u64>().ok()?, to.split('/').next()?.parse::<u64>().ok()?))
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match range.to_str().ok().and_then(told) {
        Some((from, to)) if from == writing.length() && to >= from && length.is_none_or(|length| length == to - from + 1) => Ok(()),
        _ => {
            let refusal = refuse(416, Code::BlobUploadInvalid, format!("the next piece begins at byte {}", writing.length()));
            Err(refusal.with(header::LOCATION, place(name, &writing.id)).with(header::RANGE, so_far(writing.length())).with(ID, writing.id.clone()))
        }
    }
}

fn under_way(status: u16, name: &str, writing: &Writing<'_>) -> Answer {
    let mut answer = empty(status);
    set(&mut answer, header::LOCATION, &place(name, &writing.id));
    set(&mut answer, header::RANGE, &so_far(writing.length()));
    set(&mut answer, header::CONTENT_LENGTH, "0");
    set(&mut answer, ID, &writing.id);
    answer
}

fn created(name: &str, digest: &Digest) -> Answer {
    let mut answer = empty(201);
    set(&mut answer, header::LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    set(&mut answer, header::CONTENT_LENGTH, "0");
    set(&mut answer, CONTENT_DIGEST, digest.as_str());
    answer
}

fn place(name: &str, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// The first and the last byte that are here. Nothing and one byte look the same: so the specification has it.
fn so_far(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}
