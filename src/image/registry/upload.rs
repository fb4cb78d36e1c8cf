//! A blob goes to a registry: taken over from another repository there, or sent in parts.
//!
//! ```text
//! POST  /v2/NAME/blobs/uploads/              202  Location: where the first part goes
//! PATCH that place, Content-Range: 0-…       202  Location: where the next one goes
//! PUT   that place?digest=sha256:…           201  with the last part: the registry checks the digest
//! POST  …/uploads/?mount=DIGEST&from=OTHER   201  it has it now, and no byte was sent
//! ```
//! Source: OCI distribution specification 1.1, "Pushing blobs".

use std::fs::File;

use ureq::Body;
use ureq::http::{Method, Response};

use super::auth::encode;
use super::cancel;
use super::failure::Failure;
use super::http::{Ask, Content, Server, absolute};
use super::repository::Repository;
use crate::error::{Class, Error, Result};
use crate::image::digest::Digest;

/// An upload is cut into parts of this many bytes: what fails is sent again from there.
const PART: u64 = 32 << 20;
/// So often does an upload begin anew, or go on, after some waiting.
const TRIES: u32 = 4;

impl Repository {
    /// Has the registry take a blob over from another repository of its own. False when it won't.
    ///
    /// # Errors
    /// Denied, and all that can happen on the way.
    pub fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        let server = self.own()?;
        server.auth.widen(&format!("repository:{from}:pull"));
        let query = encode(&[("mount", digest.as_str()), ("from", from)]);
        let place = self.place(&format!("blobs/uploads/?{query}"));
        match server.send(&Ask::new(Method::POST, &place)) {
            Ok(response) if response.status() == 201 => Ok(true),
            Ok(response) => {
                // An upload was begun instead, which nobody will end.
                let location = location(server, &response)
                    .map_err(|failure| failure.doing(format!("mount the blob {} in {}", digest.short(), self.full_name())))?;
                let _ = server.send(&Ask::new(Method::DELETE, &location));
                Ok(false)
            }
            // A token that is too narrow, or a repository that isn't there: it is uploaded then.
            Err(failure) if failure.status.is_some() => Ok(false),
            Err(failure) => Err(failure.doing(format!("mount the blob {} in {}", digest.short(), self.full_name()))),
        }
    }

    /// Sends a blob, in parts. `sent` is told how many bytes have gone.
    ///
    /// # Errors
    /// Denied, and all that can happen on the way.
    pub fn upload(&self, digest: &Digest, content: &File, sent: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let doing = || format!("send the blob {} to {}", digest.short(), self.full_name());
        let size = content.metadata().map_err(|e| Error::new(Class::System, doing(), e.to_string()))?.len();
        let server = self.own()?;
        let mut tries = 0;
        while let Err(failure) = self.send_once(server, digest, (content, size), sent, &mut tries) {
            // Of an upload that a server doesn't know any more, or has another part of, the next one knows nothing.
            let failure = Failure { may_pass: failure.may_pass || matches!(failure.status, Some(404 | 416)), ..failure };
            // The answer may have been lost, and not the blob.
            if failure.may_pass && self.has_blob(digest).unwrap_or(false) {
                return Ok(());
            }
            tries += 1;
            let Some(pause) = failure.pause(tries).filter(|_| tries <= TRIES) else { return Err(failure.doing(doing())) };
            cancel::sleep(pause);
        }
        Ok(())
    }

    /// One upload, from its beginning. What is interrupted in it goes on, and counts as a try.
    fn send_once(
        &self,
        server: &Server,
        digest: &Digest,
        (content, size): (&File, u64),
        sent: &(dyn Fn(u64) + Sync),
        tries: &mut u32,
    ) -> std::result::Result<(), Failure> {
        let begun = server.send(&Ask::new(Method::POST, &self.place("blobs/uploads/")))?;
        let mut location = location(server, &begun)?;
        let mut from = 0;
        while size - from > PART {
            let range = format!("{from}-{}", from + PART - 1);
            let headers = [("Content-Type", "application/octet-stream"), ("Content-Range", range.as_str())];
            let part = Content::Part { file: content, from, length: PART, sent };
            let ask = Ask { headers: &headers, content: part, again: false, ..Ask::new(Method::PATCH, &location) };
            (location, from) = match server.send(&ask) {
                Ok(response) => (self::location(server, &response)?, from + PART),
                Err(failure) if *tries < TRIES => {
                    *tries += 1;
                    let Some(pause) = failure.pause(*tries) else { return Err(failure) };
                    cancel::sleep(pause);
                    // How far did it get?
                    resume(server, &location, size).ok_or(failure)?
                }
                Err(failure) => return Err(failure),
            };
        }
        let last = with_query(&location, &encode(&[("digest", digest.as_str())]));
        let part = Content::Part { file: content, from, length: size - from, sent };
        let headers = [("Content-Type", "application/octet-stream")];
        server.send(&Ask { headers: &headers, content: part, again: false, ..Ask::new(Method::PUT, &last) }).map(|_| ())
    }
}

/// Where an interrupted upload goes on: the place and the next byte.
fn resume(server: &Server, place: &str, size: u64) -> Option<(String, u64)> {
    let response = server.send(&Ask::new(Method::GET, place)).ok()?;
    let range = response.headers().get("Range")?.to_str().ok()?;
    let last = range.trim_start_matches("bytes=").split_once('-')?.1.parse::<u64>().ok()?;
    let next = location(server, &response).unwrap_or_else(|_| place.to_string());
    Some((next, if last == 0 { 0 } else { last.checked_add(1)? })).filter(|(_, from)| *from <= size)
}

/// The place that an answer gives for the next request; on this server as a rule.
fn location(server: &Server, response: &Response<Body>) -> std::result::Result<String, Failure> {
    let text = response.headers().get("Location").and_then(|value| value.to_str().ok());
    let wrong = || Failure::words("the registry doesn't say where to send it");
    let text = text.ok_or_else(wrong)?;
    let here = format!("{}://{}/", if server.is_tls() { "https" } else { "http" }, server.endpoint.host);
    let here = here.parse().map_err(|_| wrong())?;
    // A registry behind a proxy that speaks TLS for it doesn't know that it does.
    let plain = format!("http://{}/", server.endpoint.host);
    let whole = absolute(&here, text);
    Ok(match whole.strip_prefix(&plain) {
        Some(rest) if server.is_tls() => format!("https://{}/{rest}", server.endpoint.host),
        _ => whole,
    })
}

fn with_query(location: &str, query: &str) -> String {
    format!("{location}{}{query}", if location.contains('?') { '&' } else { '?' })
}
