//! Looking for repositories: the Hub answers questions, with descriptions and stars; other registries have a list of all that they hold.
//!
//! ```text
//! GET https://index.docker.io/v1/search?q=nginx&n=25     what dockerd asks
//! GET http://localhost:5000/v2/_catalog                  names only, page by page
//! ```
//! What comes back is written by strangers: it is text without control characters when it leaves here.
//!
//! See it: `curl 'https://index.docker.io/v1/search?q=nginx&n=3' | jq .` Source: the OCI distribution specification has no search;
//! docker's own, <https://docs.docker.com/reference/cli/docker/search/>.

use serde::Deserialize;
use ureq::http::Method;

use super::auth::{self, Auth};
use super::credentials;
use super::http::{Ask, Server};
use super::lists;
use super::settings::{Endpoint, HUB, Scheme, Settings};
use crate::error::{Error, Result};
use crate::image::reference;

/// The server that answers for the Hub.
const INDEX: &str = "index.docker.io";

/// A hundred answers are some 30 kilobytes.
const BIGGEST: u64 = 4 << 20;

/// One repository, as its registry tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Found {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default, rename = "star_count")]
    pub stars: u64,
    #[serde(default)]
    pub is_official: bool,
    #[serde(default)]
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Answer {
    results: Option<Vec<Found>>,
}

/// What is searched for, and where: `nginx` on the Hub, `localhost:5000/web` or just `localhost:5000` in another registry.
pub fn split(term: &str) -> (&str, &str) {
    let (first, rest) = term.split_once('/').unwrap_or((term, ""));
    let is_host = reference::is_host(first) && (first.contains(':') || (term.contains('/') && (first.contains('.') || first == "localhost")));
    match (is_host, first) {
        (true, HUB | INDEX) => (HUB, rest),
        (true, _) => (first, rest),
        (false, _) => (HUB, term),
    }
}

/// The repositories that fit, in the order in which the registry has them, not more than the limit.
///
/// # Errors
/// Invalid for a term with a scheme; Denied, and all that can happen on the way.
pub fn search(settings: &Settings, term: &str, limit: usize) -> Result<Vec<Found>> {
    if term.contains("://") {
        let why = format!("invalid repository name: repository name ({term}) should not have a scheme");
        return Err(Error::invalid(format!("search for {term}"), why));
    }
    let (registry, wanted) = split(term);
    let found = match registry {
        HUB => ask_hub(settings, wanted.strip_prefix("library/").unwrap_or(wanted), limit)?,
        _ => look_through(settings, registry, wanted)?,
    };
    Ok(found.into_iter().take(limit).map(Found::printable).collect())
}

fn ask_hub(settings: &Settings, term: &str, limit: usize) -> Result<Vec<Found>> {
    let trust = settings.trust(INDEX)?;
    let (host, schemes) = (INDEX.to_string(), vec![Scheme::Https]);
    let endpoint = Endpoint { host, schemes, prefix: String::new(), registry: HUB.into(), is_mirror: false, trust };
    let server = Server::new(endpoint, Auth::new(credentials::find(HUB)?, ""))?;
    let place = format!("/v1/search?{}", auth::encode(&[("q", term), ("n", &limit.to_string())]));
    let doing = || format!("search the Hub for {term}");
    let (_, bytes) = server.whole(&Ask::new(Method::GET, &place), BIGGEST).map_err(|failure| {
        let unreachable = failure.is_unreachable;
        let error = failure.doing(doing());
        match mirror(settings) {
            Some(mirror) if unreachable => error.hint(format!("your mirror may be nearer: `onggi search {mirror}/{term}`")),
            _ => error,
        }
    })?;
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|e| Error::invalid(doing(), format!("its answer can't be read: {e}")))?;
    Ok(answer.results.unwrap_or_default())
}

/// The host of the mirror that is asked first.
fn mirror(settings: &Settings) -> Option<String> {
    let endpoints = settings.endpoints(HUB, false).ok()?;
    endpoints.into_iter().find(|endpoint| endpoint.is_mirror).map(|endpoint| endpoint.host)
}

fn look_through(settings: &Settings, registry: &str, part: &str) -> Result<Vec<Found>> {
    let part = part.to_lowercase();
    let fits = |name: &String| name.to_lowercase().contains(&part);
    let found =
        |name: String| Found { name: format!("{registry}/{name}"), description: String::new(), stars: 0, is_official: false, is_automated: false };
    Ok(lists::catalog(settings, registry)?.into_iter().filter(fits).map(found).collect())
}

impl Found {
    /// The same in one line of text that does nothing to a terminal.
    fn printable(self) -> Found {
        let line = |text: String| text.chars().map(|c| if c.is_control() || is_direction(c) { ' ' } else { c }).collect::<String>();
        Found { name: line(self.name), description: line(self.description).trim().to_string(), ..self }
    }
}

/// Marks that turn the order of what follows them.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_begins_with_a_registry_when_it_could_be_one() {
        for (term, registry, rest) in [
            ("nginx", HUB, "nginx"),
            ("node.js", HUB, "node.js"),
            ("team/web", HUB, "team/web"),
            ("docker.io/nginx", HUB, "nginx"),
            ("localhost:5000/web", "localhost:5000", "web"),
            ("localhost:5000", "localhost:5000", ""),
            ("localhost:5000/", "localhost:5000", ""),
            ("localhost/web", "localhost", "web"),
            ("ghcr.io/a/b", "ghcr.io", "a/b"),
            ("[::1]:5000/x", "[::1]:5000", "x"),
            ("a b:c", HUB, "a b:c"),
        ] {
            assert_eq!(split(term), (registry, rest), "{term}");
        }
    }

    #[test]
    fn a_strangers_words_do_nothing_to_the_terminal() {
        let found = Found {
            name: "a\x1b]0;b\x07".into(),
            description: "\r\n\u{202e}x\x1b[2J\u{9b}y".into(),
            stars: 1,
            is_official: true,
            is_automated: false,
        };
        let found = found.printable();
        assert_eq!((found.name.as_str(), found.description.as_str()), ("a ]0;b ", "x [2J y"));
    }
}
