//! References: how people name an image, `registry/repository:tag@digest`, with the parts that everybody leaves out filled in.
//!
//! ```text
//! base                      docker.io/library/base:latest
//! localhost:5000/team/web   localhost:5000/team/web:latest
//! alpine@sha256:…           docker.io/library/alpine@sha256:…
//! ```
//! Source: the distribution project's reference grammar, <https://pkg.go.dev/github.com/distribution/reference>.

use std::fmt;

use super::digest::Digest;
use crate::error::{Error, Result};

/// A complete, valid reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

/// Whether people wrote a tag or a digest behind the name; a port is none.
pub fn has_tag(text: &str) -> bool {
    text.contains('@') || text.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

impl Reference {
    /// Reads a reference as people write it. Without tag and digest the tag is `latest`.
    ///
    /// # Errors
    /// Invalid, with the part that is wrong: registry, repository, tag or digest. Upper case in the repository has the right form as hint.
    pub fn parse(text: &str) -> Result<Reference> {
        let wrong = |why: String| Error::invalid(format!("read the image reference {text:?}"), format!("invalid reference format: {why}"));
        if text.contains("://") {
            return Err(wrong("it is an address of the web".into()).hint("leave the scheme out: registry/repository:tag"));
        }
        if let Some(why) = is_id(text) {
            return Err(wrong(why).hint("a digest stands behind a repository: repository@sha256:…"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash begins the tag; before it, a port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let (registry, repository) = split(name);
        if !is_host(registry) {
            return Err(wrong(format!("the registry {registry:?} is no host name with or without a port")));
        }
        if repository.chars().any(char::is_uppercase) {
            let error = wrong(format!("repository name ({repository}) must be lowercase"));
            return Err(match lower(registry, &repository, &text[name.len()..]) {
                Some(right) => error.hint(format!("did you mean {right}?")),
                None => error,
            });
        }
        if repository.len() > 255 {
            return Err(wrong(format!("the repository's name has {} letters, and may have 255", repository.len())));
        }
        if !is_repository(&repository) {
            return Err(wrong(format!("the repository {repository:?} is not made of a-z, 0-9 and single separators . _ __ - / between them")));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(wrong(format!("the tag {tag:?} is not 1 to 128 of A-Z, a-z, 0-9, _ . - beginning with none of the last two")));
        }
        let digest = digest.map(Digest::parse).transpose().map_err(|e| {
            let why = e.cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            wrong(format!("the digest {:?} is none{why}", digest.unwrap_or_default()))
        })?;
        let tag = tag.map(str::to_string).or_else(|| digest.is_none().then(|| "latest".to_string()));
        Ok(Reference { registry: registry.to_string(), repository, tag, digest })
    }

    /// As people write it: without what they leave out, as long as it means the same then.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(short) = full.strip_prefix("docker.io/") else { return full };
        // library/a/b is not a/b.
        let short = short.strip_prefix("library/").filter(|_| self.repository.matches('/').count() == 1).unwrap_or(short);
        let is_same = |other: Reference| (other.registry, other.repository) == (self.registry.clone(), self.repository.clone());
        if Reference::parse(short).is_ok_and(is_same) { short.to_string() } else { full }
    }
}

/// The same name in lower case, as people write it; None when it would be wrong still.
fn lower(registry: &str, repository: &str, rest: &str) -> Option<String> {
    // Some letters are upper case and have no lower one.
    let repository = repository.to_lowercase();
    let right = is_repository(&repository).then(|| Reference::parse(&format!("{registry}/{repository}{rest}")).ok()).flatten()?;
    let familiar = right.familiar();
    Some(if rest.is_empty() { familiar.strip_suffix(":latest").unwrap_or(&familiar).to_string() } else { familiar })
}

/// Registry and repository: the first part is a registry when it could be a host's name.
fn split(name: &str) -> (&str, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) => (first, rest),
        _ => ("docker.io", name),
    };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    let is_short = registry == "docker.io" && !repository.contains('/');
    (registry, if is_short { format!("library/{repository}") } else { repository.to_string() })
}

/// Why a text of hexadecimal digits alone is an ID and no name; None when it is none.
pub(super) fn is_id(text: &str) -> Option<String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match (is_hex, hex == text) {
        (false, _) => None,
        (true, true) => Some(format!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")),
        (true, false) => Some(format!("{text} is a digest without a repository")),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether it can be a registry's name: a host, with or without a port.
pub fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |part: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    // Without zones and without an IPv4 address at the end.
    let ipv6 = |h: &str| h.parse::<std::net::Ipv6Addr>().is_ok() && !h.contains('.');
    let ipv6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).is_some_and(ipv6);
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    port.is_none_or(is_port) && (ipv6 || host.split('.').all(label))
}

/// Whether this is the name of a repository at its registry.
pub fn is_repository(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let letter = |c: char| matches!(c, 'a'..='z' | '0'..='9');
    let separator = |part: &str| matches!(part, "" | "." | "_" | "__") || part.chars().all(|c| c == '-');
    // Between the letters and digits there are only separators, and none at the ends.
    text.starts_with(letter) && text.ends_with(letter) && text.split(letter).all(separator)
}

/// Whether this is a tag.
pub fn is_tag(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.chars().next().is_some_and(letter) && text.chars().all(|c| letter(c) || c == '.' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_left_out_is_filled_in() {
        for (short, full) in [
            ("base", "docker.io/library/base:latest"),
            ("base:1", "docker.io/library/base:1"),
            ("team/web", "docker.io/team/web:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("host:5000/x", "host:5000/x:latest"),
            ("[::1]:5000/x:2", "[::1]:5000/x:2"),
            ("ghcr.io/a/b/c:v1.0", "ghcr.io/a/b/c:v1.0"),
            ("index.docker.io/library/base", "docker.io/library/base:latest"),
            ("a__b/c-d--e.f", "docker.io/a__b/c-d--e.f:latest"),
        ] {
            assert_eq!(Reference::parse(short).unwrap().to_string(), full);
        }
        assert_eq!(Reference::parse("docker.io/library/base:latest").unwrap().familiar(), "base:latest");
    }

    #[test]
    fn a_digest_may_stand_with_or_without_a_tag() {
        assert_eq!(Reference::parse(&format!("base@{HEX}")).unwrap().tag, None);
        assert_eq!(Reference::parse(&format!("base:1@{HEX}")).unwrap().to_string(), format!("docker.io/library/base:1@{HEX}"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            "Base",
            "team/Web",
            "a//b",
            "/a",
            "a/",
            "-a",
            "_a",
            "a_",
            "a..b",
            "a._b",
            "a___b",
            "a:",
            "a:-x",
            "a b",
            "a@sha256:12",
            "x:70000/y",
            "../a",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
    }

    #[test]
    fn a_refusal_says_which_part_is_wrong() {
        for (text, part) in [
            ("x:70000/y", "the registry \"x:70000\""),
            ("-lab.io/y", "the registry \"-lab.io\""),
            ("lab.io/a//b", "the repository \"a//b\""),
            ("a_", "the repository \"library/a_\""),
            ("team/web:-1", "the tag \"-1\""),
            ("web:", "the tag \"\""),
            ("web@sha256:12", "the digest \"sha256:12\""),
            ("web@", "the digest \"\""),
            ("https://ghcr.io/a/b", "leave the scheme out"),
            (HEX, "a digest without a repository"),
            (&HEX[7..], "cannot specify 64-byte hexadecimal strings"),
        ] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("invalid reference format"), "{text}: {error}");
        }
    }

    #[test]
    fn upper_case_is_refused_with_the_right_form() {
        for (text, right) in [
            ("Nginx", "did you mean nginx?"),
            ("team/Web:V1", "did you mean team/web:V1?"),
            ("Localhost:5000/Web", "did you mean Localhost:5000/web?"),
            ("Web:latest", "did you mean web:latest?"),
        ] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains("must be lowercase") && error.ends_with(right), "{text}: {error}");
        }
        let error = Reference::parse("We_").unwrap_err();
        assert!(error.to_string().contains("repository name (library/We_) must be lowercase") && error.hint.is_none());
    }

    #[test]
    fn the_short_form_means_the_same() {
        for (full, familiar) in [
            ("docker.io/library/a/b", "library/a/b:latest"),
            ("docker.io/localhost/a", "docker.io/localhost/a:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest"),
            ("docker.io/team/web", "team/web:latest"),
            ("localhost/library/a", "localhost/library/a:latest"),
        ] {
            assert_eq!(Reference::parse(full).unwrap().familiar(), familiar);
        }
    }
}
