//! What a URL names: the distribution API's paths, and the question after the `?`.
//!
//! A name is checked against the specification's grammar before anything is done with it; `..`, however it is written, is no name.
//!
//! See it: `curl -i localhost:5000/v2/../etc/manifests/passwd --path-as-is`. Source: distribution specification, "Endpoints".

use crate::image::digest::Digest;
use crate::image::reference;

use super::answer::{Code, Refusal, refuse};

/// A thing that a request is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`, for people.
    Page,
    /// `/ca.crt`: our certificate.
    Certificate,
    /// `/v2/`
    Version,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(String),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(String, Digest),
    /// `/v2/NAME/manifests/TAG` or `DIGEST`
    Manifest(String, TagOrDigest),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(String, Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(String),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(String, String),
}

/// How a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagOrDigest {
    Tag(String),
    Digest(Digest),
}

impl std::fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TagOrDigest::Tag(tag) => f.write_str(tag),
            TagOrDigest::Digest(digest) => digest.fmt(f),
        }
    }
}

/// What this path names.
///
/// # Errors
/// 404 for what is no path of the API, 400 for a name or digest that is none.
pub fn route(path: &str) -> Result<Route, Refusal> {
    let nowhere = || refuse(404, Code::NameUnknown, "there is nothing at this address");
    let path = decoded(path).ok_or_else(|| refuse(400, Code::NameInvalid, "the address is not in UTF-8"))?;
    let inside = match path.as_str() {
        "/" => return Ok(Route::Page),
        "/ca.crt" => return Ok(Route::Certificate),
        "/v2" | "/v2/" => return Ok(Route::Version),
        "/v2/_catalog" => return Ok(Route::Catalog),
        path => path.strip_prefix("/v2/").ok_or_else(nowhere)?,
    };
    // From the end: a repository's name has slashes of its own.
    if let Some(name) = inside.strip_suffix("/tags/list") {
        return Ok(Route::Tags(repository(name)?));
    }
    if let Some(name) = inside.strip_suffix("/blobs/uploads/").or_else(|| inside.strip_suffix("/blobs/uploads")) {
        return Ok(Route::Uploads(repository(name)?));
    }
    let (rest, last) = inside.rsplit_once('/').ok_or_else(nowhere)?;
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        return Ok(Route::Upload(repository(name)?, upload(last)?));
    }
    if let Some(name) = rest.strip_suffix("/manifests") {
        return Ok(Route::Manifest(repository(name)?, tag_or_digest(last)?));
    }
    if let Some(name) = rest.strip_suffix("/blobs") {
        return Ok(Route::Blob(repository(name)?, digest(last)?));
    }
    if let Some(name) = rest.strip_suffix("/referrers") {
        return Ok(Route::Referrers(repository(name)?, digest(last)?));
    }
    Err(nowhere())
}

/// A digest as the API takes it.
///
/// # Errors
/// 400 for what is none, and for other algorithms than sha256.
pub fn digest(text: &str) -> Result<Digest, Refusal> {
    Digest::parse(text).map_err(|e| refuse(400, Code::DigestInvalid, e.one_line()))
}

pub fn repository(name: &str) -> Result<String, Refusal> {
    match reference::is_repository(name) {
        true => Ok(name.to_string()),
        false => Err(refuse(400, Code::NameInvalid, "a repository's name is made of a-z, 0-9 and single separators . _ - / between them")),
    }
}

fn tag_or_digest(text: &str) -> Result<TagOrDigest, Refusal> {
    if text.contains(':') {
        return digest(text).map(TagOrDigest::Digest);
    }
    match reference::is_tag(text) {
        true => Ok(TagOrDigest::Tag(text.to_string())),
        false => Err(refuse(400, Code::ManifestInvalid, "a tag has 1 to 128 of A-Z, a-z, 0-9, _ . - and begins with none of the last two")),
    }
}

fn upload(id: &str) -> Result<String, Refusal> {
    let is_ours = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| id.to_string()).ok_or_else(|| refuse(404, Code::BlobUploadUnknown, "there is no such upload"))
}

/// The question's parts, `n=5&last=web`, decoded; what isn't UTF-8 is left out.
pub fn question(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decoded(key)?, decoded(value)?))
    };
    query.split('&').filter(|part| !part.is_empty()).filter_map(pair).collect()
}

/// RFC 3986, 2.1: `%3A` is a colon.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn each_address_of_the_api_names_its_thing() {
        let digest = Digest::parse(EMPTY).unwrap();
        for (path, named) in [
            ("/", Route::Page),
            ("/v2/", Route::Version),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/tags/list", Route::Tags("a/b".into())),
            ("/v2/a/manifests/1.0", Route::Manifest("a".into(), TagOrDigest::Tag("1.0".into()))),
            (&format!("/v2/a/manifests/{EMPTY}"), Route::Manifest("a".into(), TagOrDigest::Digest(digest.clone()))),
            (&format!("/v2/a/blobs/{}", EMPTY.replace(':', "%3a")), Route::Blob("a".into(), digest.clone())),
            (&format!("/v2/a/referrers/{EMPTY}"), Route::Referrers("a".into(), digest)),
            ("/v2/blobs/blobs/uploads/", Route::Uploads("blobs".into())),
            ("/v2/a/blobs/uploads/0123456789abcdef0123456789abcdef", Route::Upload("a".into(), "0123456789abcdef0123456789abcdef".into())),
            // A repository may be called as the API's own words are.
            ("/v2/tags/list/manifests/blobs", Route::Manifest("tags/list".into(), TagOrDigest::Tag("blobs".into()))),
        ] {
            assert_eq!(route(path).unwrap(), named, "{path}");
        }
    }

    #[test]
    fn what_is_no_name_never_gets_further() {
        for path in [
            "/v2/../etc/manifests/passwd",
            "/v2/%2e%2e/manifests/x",
            "/v2/a/%2e%2e/b/manifests/x",
            "/v2/a%2f..%2fb/manifests/x",
            "/v2/A/manifests/x",
            "/v2//manifests/x",
            "/v2/a/manifests/..",
            "/v2/a/manifests/%00",
            "/v2/a/blobs/sha256:00",
            "/v2/a/blobs/sha512:00",
            "/v2/a/blobs/../../etc",
            "/v2/a/blobs/uploads/../../../etc/passwd",
            "/v2/a/blobs/uploads/..%2f..%2fx",
            "/v2/%ff/manifests/x",
            "/v2/a/manifests/%",
            "/etc/passwd",
            "/v2/a",
        ] {
            assert!(route(path).is_err(), "{path}");
        }
    }
}
