//! Who we are, told to a registry: by name and password, or by a token that another server gives for them.
//!
//! ```text
//! GET /v2/…                     401  WWW-Authenticate: Bearer realm="https://auth…/token",service="registry…",scope="repository:x:pull"
//! GET https://auth…/token?…     200  {"token": "…"}        by name and password, or by nobody's
//! GET /v2/…  Authorization: Bearer …
//! ```
//! A token is good for what it was asked for, and for some minutes: when it is refused later, another one is asked for.
//!
//! See it: `curl -i http://localhost:5000/v2/`. Source: distribution's specification of tokens, RFC 6750, RFC 7617.

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::{HeaderMap, Method};

use super::credentials::Credentials;
use super::failure::Failure;
use super::http::{Ask, Server};
use super::settings::Settings;
use crate::error::{Class, Error, Result};

const LONGEST_ANSWER: u64 = 1 << 20;

/// What is known and was given, for one server.
pub struct Auth {
    credentials: Option<Credentials>,
    /// A token that takes the password's place is wanted, too.
    stays: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What a token shall be good for: `repository:library/nginx:pull`.
    scopes: Vec<String>,
    /// The header that was good last.
    header: Option<String>,
    /// What the answer to a question for it was good for, besides a token for requests: one that stays.
    refresh: Option<String>,
}

#[derive(Deserialize)]
struct Given {
    #[serde(default, alias = "access_token")]
    token: String,
    #[serde(default)]
    refresh_token: Option<String>,
}

impl Auth {
    /// Nothing is sent before the server asks for it.
    pub fn new(credentials: Option<Credentials>, scope: &str) -> Auth {
        let scopes = if scope.is_empty() { Vec::new() } else { vec![scope.to_string()] };
        Auth { credentials, stays: false, state: Mutex::new(State { scopes, ..State::default() }) }
    }

    /// The `Authorization` that is good, as far as is known.
    pub fn header(&self) -> Option<String> {
        self.lock().header.clone()
    }

    /// From now on tokens shall be good for this too.
    pub fn widen(&self, scope: &str) {
        let mut state = self.lock();
        if !state.scopes.iter().any(|other| other == scope) {
            state.scopes.push(scope.to_string());
            if state.header.as_ref().is_some_and(|header| header.starts_with("Bearer")) {
                state.header = None;
            }
        }
    }

    /// The server wants proof, and `refused` was none: gets another one. False when there is none to be had.
    ///
    /// # Errors
    /// Of the server that gives tokens.
    pub fn answer(&self, server: &Server, challenges: &HeaderMap, refused: Option<&str>) -> std::result::Result<bool, Failure> {
        let mut state = self.lock();
        if state.header.as_deref() != refused {
            // Another thread has got one meanwhile.
            return Ok(true);
        }
        let challenges: Vec<Challenge> =
            challenges.get_all("WWW-Authenticate").iter().filter_map(|value| Challenge::parse(value.to_str().ok()?)).collect();
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            let given = self.token(server, bearer, &state.scopes)?;
            (state.header, state.refresh) = (Some(format!("Bearer {}", given.token)), given.refresh_token);
            return Ok(true);
        }
        let is_basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        match &self.credentials {
            Some(Credentials::Password { user, password }) if is_basic && refused.is_none() => {
                state.header = Some(basic(user, password));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks who gives tokens.
    fn token(&self, server: &Server, bearer: &Challenge, scopes: &[String]) -> std::result::Result<Given, Failure> {
        let realm = bearer.value("realm").ok_or_else(|| Failure::words("the registry wants a token and doesn't say whose"))?;
        if realm.starts_with("http://") && self.credentials.is_some() && server.is_tls() {
            return Err(Failure::words(format!("the registry wants our password sent to {realm}, where anybody could listen")));
        }
        let mut query: Vec<(&str, &str)> = bearer.value("service").map(|service| ("service", service)).into_iter().collect();
        let asked: Vec<&str> = bearer.value("scope").into_iter().filter(|_| scopes.is_empty()).collect();
        query.extend(scopes.iter().map(String::as_str).chain(asked).map(|scope| ("scope", scope)));
        query.push(("client_id", "onggi"));
        let answered = match &self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                query.extend([("grant_type", "refresh_token"), ("refresh_token", token)]);
                let form = [("Content-Type", "application/x-www-form-urlencoded")];
                server.elsewhere(Method::POST, realm, &form, encode(&query).as_bytes())
            }
            credentials => {
                let proof = match credentials {
                    Some(Credentials::Password { user, password }) => Some((user, basic(user, password))),
                    _ => None,
                };
                query.extend(proof.iter().map(|(user, _)| ("account", user.as_str())));
                if self.stays {
                    query.push(("offline_token", "true"));
                }
                let headers: Vec<(&str, &str)> = proof.iter().map(|(_, basic)| ("Authorization", basic.as_str())).collect();
                let join = if realm.contains('?') { '&' } else { '?' };
                server.elsewhere(Method::GET, &format!("{realm}{join}{}", encode(&query)), &headers, &[])
            }
        };
        let mut bytes = Vec::new();
        let _ = answered?.body_mut().as_reader().take(LONGEST_ANSWER).read_to_end(&mut bytes);
        match serde_json::from_slice::<Given>(&bytes) {
            Ok(given) if is_token(&given.token) => Ok(given),
            _ => Err(Failure::words(format!("{} gave no token", super::http::plain(realm)))),
        }
    }
}

/// Asks a registry whether these are good: the token that is to be kept instead of the password, if it gives one.
///
/// # Errors
/// Denied when they are not good.
pub fn check(settings: &Settings, registry: &str, credentials: &Credentials) -> Result<Option<String>> {
    let doing = || format!("log in to the registry {registry}");
    let endpoint = settings.endpoints(registry, true)?.into_iter().next();
    let endpoint = endpoint.ok_or_else(|| Error::new(Class::NotFound, doing(), "nothing says where it is"))?;
    let server = Server::new(endpoint, Auth { stays: true, ..Auth::new(Some(credentials.clone()), "") })?;
    match server.send(&Ask::new(Method::GET, "/v2/")) {
        Ok(_) => Ok(server.auth.lock().refresh.clone()),
        Err(failure) if failure.status == Some(401) => Err(Error::new(Class::Denied, doing(), "unauthorized: incorrect username or password")),
        Err(failure) => Err(failure.doing(doing())),
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// RFC 6750, 2.1: what may stand in a header.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// `application/x-www-form-urlencoded`
pub fn encode(pairs: &[(&str, &str)]) -> String {
    let one = |text: &str| {
        let byte = |b: u8| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        };
        text.bytes().map(byte).collect::<String>()
    };
    pairs.iter().map(|(key, value)| format!("{key}={}", one(value))).collect::<Vec<_>>().join("&")
}

/// `Bearer realm="…",service="…"`
#[derive(Debug, PartialEq)]
struct Challenge {
    scheme: String,
    values: Vec<(String, String)>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Challenge> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut values = Vec::new();
        while let Some((key, after)) = rest.split_once('=') {
            let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
            let value;
            (value, rest) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let (value, rest) = after.split_once(',').unwrap_or((after, ""));
                    (value.trim().to_string(), rest)
                }
            };
            values.push((key, value));
        }
        Some(Challenge { scheme: scheme.to_ascii_lowercase(), values })
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_whom_to_ask_and_for_what() {
        let text = r#"Bearer realm="https://auth.docker.io/token",service=registry.docker.io,scope="repository:a:pull,push", error="a\"b""#;
        let challenge = Challenge::parse(text).unwrap();
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.value("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(challenge.value("service"), Some("registry.docker.io"));
        assert_eq!(challenge.value("scope"), Some("repository:a:pull,push"));
        assert_eq!(challenge.value("error"), Some("a\"b"));
        assert_eq!(Challenge::parse("Basic realm=\"x").map(|c| c.scheme), None);
        assert_eq!(Challenge::parse("Negotiate").unwrap().values, []);
    }

    #[test]
    fn a_query_has_no_letters_of_its_own_meaning() {
        assert_eq!(encode(&[("scope", "repository:a/b:pull,push"), ("q", "한 &")]), "scope=repository%3Aa%2Fb%3Apull%2Cpush&q=%ED%95%9C%20%26");
    }
}
