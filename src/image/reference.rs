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

impl Reference {
    /// Reads a reference as people write it. Without tag and digest the tag is `latest`.
    ///
    /// # Errors
    /// Invalid for upper case in the repository, empty or odd parts, a tag over 128 letters, what is no digest.
    pub fn parse(text: &str) -> Result<Reference> {
        let wrong = |why: &str| Error::invalid(format!("read the image reference {text:?}"), why);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        // A colon after the last slash begins the tag; before it, a port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        // The first part is a registry when it could be a host's name.
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) => {
                (first, rest.to_string())
            }
            _ => ("docker.io", name.to_string()),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let repository = if registry == "docker.io" && !repository.contains('/') { format!("library/{repository}") } else { repository };
        if !is_host(registry) {
            return Err(wrong("the registry is no host name with or without a port"));
        }
        if repository.chars().any(char::is_uppercase) {
            return Err(wrong("the repository's name must be lower case"));
        }
        if !is_repository(&repository) {
            return Err(wrong("the repository's name is made of a-z, 0-9 and single separators . _ - / between them"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("a tag has 1 to 128 of A-Z, a-z, 0-9, _ . - and begins with none of the last two"));
        }
        let tag = tag.map(str::to_string).or_else(|| digest.is_none().then(|| "latest".to_string()));
        Ok(Reference { registry: registry.to_string(), repository, tag, digest })
    }

    /// As people write it: without what they leave out.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let full = full.strip_prefix("docker.io/").unwrap_or(&full);
        let full = full.strip_prefix("library/").unwrap_or(full);
        full.to_string()
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
    let ipv6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok());
    port.is_none_or(|port| port.parse::<u16>().is_ok()) && (ipv6 || host.split('.').all(label))
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
}
