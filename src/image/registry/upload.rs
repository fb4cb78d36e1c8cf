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
use super::failure::Failure;
use super::http::{Ask, Content, Server, absolute};
use super::repository::Repository;
use crate::error::{Class, Error, Result};
use crate::image::digest::Digest;

/// An upload is cut into parts of this many bytes: what fails is sent again from there.
const PART: u64 = 32 << 20;

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
                let location = self.location(server, &response)?;
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
        let begun = server.send(&Ask::new(Method::POST, &self.place("blobs/uploads/"))).map_err(|failure| failure.doing(doing()))?;
        let mut location = self.location(server, &begun)?;
        let mut from = 0;
        while size - from > PART {
            let range = format!("{from}-{}", from + PART - 1);
            let headers = [("Content-Type", "application/octet-stream"), ("Content-Range", range.as_str())];
            let part = Content::Part { file: content, from, length: PART, sent };
            let ask = Ask { headers: &headers, content: part, again: false, ..Ask::new(Method::PATCH, &location) };
            (location, from) = match server.send(&ask) {
                Ok(response) => (self.location(server, &response)?, from + PART),
                // How far did it get?
                Err(failure) if failure.may_pass => self.resume(server, &location, failure).map_err(|failure| failure.doing(doing()))?,
                Err(failure) => return Err(failure.doing(doing())),
            };
        }
        let last = with_query(&location, &encode(&[("digest", digest.as_str())]));
        let part = Content::Part { file: content, from, length: size - from, sent };
        let headers = [("Content-Type", "application/octet-stream")];
        let ask = Ask { headers: &headers, content: part, again: from == 0, ..Ask::new(Method::PUT, &last) };
        match server.send(&ask) {
            Ok(_) => Ok(()),
            // The answer may have been lost, and not the blob.
            Err(failure) if failure.may_pass && self.has_blob(digest).unwrap_or(false) => Ok(()),
            Err(failure) => Err(failure.doing(doing())),
        }
    }

    /// Where an interrupted upload goes on: the place and the next byte.
    fn resume(&self, server: &Server, location: &str, failure: Failure) -> std::result::Result<(String, u64), Failure> {
        let response = server.send(&Ask::new(Method::GET, location)).map_err(|_| failure.clone())?;
        let range = response.headers().get("Range").and_then(|value| value.to_str().ok());
        let last = range.and_then(|range| range.trim_start_matches("bytes=").split_once('-')?.1.parse::<u64>().ok());
        let location = self.location(server, &response).unwrap_or_else(|_| location.to_string());
        last.map(|last| (location, if last == 0 { 0 } else { last + 1 })).ok_or(failure)
    }

    /// The place that an answer gives for the next request; on this server as a rule.
    fn location(&self, server: &Server, response: &Response<Body>) -> Result<String> {
        let text = response.headers().get("Location").and_then(|value| value.to_str().ok());
        let wrong = || Error::invalid(format!("send to {}", self.full_name()), "the registry doesn't say where to");
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
}

fn with_query(location: &str, query: &str) -> String {
    format!("{location}{}{query}", if location.contains('?') { '&' } else { '?' })
}
