//! `GET`, `HEAD` and `DELETE` of blobs, whole or a stretch of one.
//!
//! A blob is the same in all repositories, for its name is its content: who knows the digest gets it, whatever repository it asks.
//!
//! See it: `curl -r 0-9 localhost:5000/v2/team/web/blobs/sha256:…`. Source: distribution specification, "Pulling blobs"; RFC 9110, 14.

use hyper::http::header;

use super::answer::{Answer, CONTENT_DIGEST, Code, Refusal, empty, refuse, set};
use super::body::Body;
use super::mirror::Found;
use super::server::Registry;
use crate::image::digest::Digest;

/// A blob, or what `range` asks of it; with `head` all but the content.
///
/// # Errors
/// 404, 416; 502 when the registry behind this one fails.
pub fn blob(registry: &Registry, name: &str, digest: &Digest, range: Option<&str>, head: bool) -> Result<Answer, Refusal> {
    let unknown = || refuse(404, Code::BlobUnknown, format!("there is no blob {digest} in {name}"));
    if head && let Some(size) = registry.layout.size_wanted(digest) {
        return Ok(described(empty(200), digest, Some(size)));
    }
    if let Some((file, size)) = registry.layout.blob(digest)? {
        return stretch(registry, digest, (file, size), range);
    }
    let mirror = registry.mirror.as_ref().filter(|_| !head).ok_or_else(unknown)?;
    match mirror.blob(&registry.layout, name, digest)?.ok_or_else(unknown)? {
        Found::Here(file, size) => stretch(registry, digest, (file, size), range),
        Found::Arriving(arriving) => {
            // A stretch of what is still coming would be a second download: the whole is an answer to every range.
            let mut answer = described(empty(200), digest, arriving.total());
            *answer.body_mut() = Body::arriving(arriving, &registry.counts);
            Ok(answer)
        }
    }
}

fn stretch(registry: &Registry, digest: &Digest, (file, size): (std::fs::File, u64), range: Option<&str>) -> Result<Answer, Refusal> {
    let (status, from, to) = match range.map_or(Asked::Whole, |range| asked(range, size)) {
        Asked::Whole => (200, 0, size),
        Asked::Stretch(from, to) => (206, from, to),
        Asked::Beyond => {
            let refusal = refuse(416, Code::SizeInvalid, format!("the blob has {size} bytes"));
            return Err(refusal.with(header::CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    let mut answer = described(empty(status), digest, Some(to - from));
    if status == 206 {
        set(&mut answer, header::CONTENT_RANGE, &format!("bytes {from}-{}/{size}", to - 1));
    }
    *answer.body_mut() = Body::stretch(file, from, to, &registry.counts);
    Ok(answer)
}

fn described(mut answer: Answer, digest: &Digest, length: Option<u64>) -> Answer {
    set(&mut answer, header::CONTENT_TYPE, "application/octet-stream");
    set(&mut answer, CONTENT_DIGEST, digest.as_str());
    set(&mut answer, header::ETAG, &format!("\"{digest}\""));
    set(&mut answer, header::ACCEPT_RANGES, "bytes");
    set(&mut answer, header::CACHE_CONTROL, "max-age=31536000, immutable");
    if let Some(length) = length {
        set(&mut answer, header::CONTENT_LENGTH, &length.to_string());
    }
    answer
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    /// From, and to before.
    Stretch(u64, u64),
    Beyond,
}

/// RFC 9110, 14.2: what is no range, or several, is answered with the whole.
fn asked(range: &str, size: u64) -> Asked {
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else { return Asked::Whole };
    match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from > to => Asked::Whole,
        (Ok(from), _) if from >= size && (to.is_empty() || to.parse::<u64>().is_ok()) => Asked::Beyond,
        (Ok(from), Ok(to)) => Asked::Stretch(from, to.saturating_add(1).min(size)),
        (Ok(from), Err(_)) if to.is_empty() => Asked::Stretch(from, size),
        (Err(_), Ok(last)) if from.is_empty() => match last.min(size) {
            0 => Asked::Beyond,
            last => Asked::Stretch(size - last, size),
        },
        _ => Asked::Whole,
    }
}

/// Removes a blob, if no manifest needs it.
///
/// # Errors
/// 404; 405 while a manifest needs it: pulls of that would fail.
pub fn delete(registry: &Registry, name: &str, digest: &Digest) -> Result<Answer, Refusal> {
    match registry.layout.remove_blob(digest)? {
        None => Err(refuse(404, Code::BlobUnknown, format!("there is no blob {digest} in {name}"))),
        Some(false) => Err(refuse(405, Code::Unsupported, "a manifest needs this blob: delete the manifest, and it goes with it")),
        Some(true) => Ok(empty(202)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        for (range, meant) in [
            ("bytes=0-4", Asked::Stretch(0, 5)),
            ("bytes=5-", Asked::Stretch(5, 10)),
            ("bytes=-3", Asked::Stretch(7, 10)),
            ("bytes=-30", Asked::Stretch(0, 10)),
            ("bytes=3-99", Asked::Stretch(3, 10)),
            ("bytes=0-18446744073709551615", Asked::Stretch(0, 10)),
            ("bytes=10-", Asked::Beyond),
            ("bytes=10-12", Asked::Beyond),
            ("bytes=-0", Asked::Beyond),
            ("bytes=4-3", Asked::Whole),
            ("bytes=0-1,4-5", Asked::Whole),
            ("bytes=x-", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=99999999999999999999-", Asked::Whole),
        ] {
            assert_eq!(asked(range, 10), meant, "{range}");
        }
    }
}
