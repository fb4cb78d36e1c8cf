//! Why a request failed, in words for people and in facts for whoever decides whether to ask again.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, Uri};
use ureq::{Body, Error as Http};

use super::cancel;
use super::http::retry_after;
use crate::error::{Class, Error};

/// No server needs more words than this for an error.
const LONGEST_ANSWER: u64 = 64 << 10;

/// So often is something tried again that may pass, after 100, 200, 400 … milliseconds.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A server that says "in an hour" is told of, not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A request that came to nothing.
#[derive(Debug, Clone, Default)]
pub struct Failure {
    /// `GET http://localhost:5000/v2/…`
    pub asked: Option<String>,
    pub why: String,
    pub hint: Option<String>,
    /// The answer's status, when there was an answer.
    pub status: Option<u16>,
    /// The first code of the answer: `MANIFEST_UNKNOWN`.
    pub code: Option<String>,
    /// Asking again may help.
    pub may_pass: bool,
    /// So long the server wants to be left alone.
    pub wait: Option<Duration>,
    pub is_unreachable: bool,
    /// It may be that TLS is spoken there, or is not.
    pub is_other_scheme: bool,
}

/// The specification's form of an error.
#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<Said>,
    /// As servers of tokens and of the Hub say it.
    #[serde(default, alias = "error_description", alias = "message")]
    details: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Failure {
    /// A failure that no server told us of.
    pub fn words(why: impl Into<String>) -> Failure {
        Failure { why: why.into(), ..Failure::default() }
    }

    /// What an answer of 400 and more says.
    pub fn of_answer(mut response: Response<Body>) -> Failure {
        let status = response.status();
        let wait = retry_after(response.headers());
        let mut bytes = Vec::new();
        let _ = response.body_mut().as_reader().take(LONGEST_ANSWER).read_to_end(&mut bytes);
        let errors = serde_json::from_slice::<Errors>(&bytes).unwrap_or(Errors { errors: Vec::new(), details: None });
        let code = errors.errors.first().map(|said| said.code.clone()).filter(|code| !code.is_empty());
        let said = errors.errors.first().map(|said| format!("{}: {}", said.code.to_lowercase().replace('_', " "), said.message));
        let said = said.or(errors.details).map(|text| printable(&text)).unwrap_or_default();
        let reason = status.canonical_reason().unwrap_or_default();
        let why = format!("{} {reason}{}{said}", status.as_u16(), if said.is_empty() { "" } else { ": " });
        let hint = match status.as_u16() {
            429 => Some("the registry answers so many requests only: wait, or `onggi login` if it knows you".to_string()),
            _ => None,
        };
        let may_pass = matches!(status.as_u16(), 408 | 429 | 500 | 502..=504);
        Failure { why, hint, status: Some(status.as_u16()), code, may_pass, wait, ..Failure::default() }
    }

    /// How long to wait before it is tried once more, when it failed so often by now: as the server says, or twice as long each time.
    /// None when that would not help, or nobody waits for it any more.
    pub fn pause(&self, failed: u32) -> Option<Duration> {
        if !self.may_pass || failed > TRIES || cancel::is_on() {
            return None;
        }
        let pause = self.wait.unwrap_or(FIRST_PAUSE * 2u32.pow(failed.saturating_sub(1)));
        (pause <= LONGEST_PAUSE).then_some(pause)
    }

    /// The story of it; the words follow "cannot".
    pub fn doing(self, doing: impl Into<String>) -> Error {
        let class = match self.status {
            Some(401 | 403) => Class::Denied,
            Some(404) => Class::NotFound,
            Some(405 | 415) => Class::Unsupported,
            _ => Class::System,
        };
        let why = match self.asked {
            Some(asked) => format!("{asked}: {}", self.why),
            None => self.why,
        };
        let error = Error::new(class, doing, why);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// A stranger's words on our terminal: on one line, without control characters, not for ever.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect::<String>().trim().to_string()
}

/// Why no answer came.
pub fn of_request(error: Http, address: &Uri) -> Failure {
    let host = address.host().unwrap_or_default();
    let failure = |why: String| Failure { why, ..Failure::default() };
    match error {
        Http::Io(e) => of_io(&e, address),
        Http::Timeout(_) => Failure { may_pass: true, is_unreachable: true, ..failure("no answer in time".into()) },
        Http::HostNotFound => Failure {
            is_unreachable: true,
            hint: Some("is the name right, and is there a network? `base` and what `onggi images` lists need none".into()),
            ..failure(format!("no host is called {host}"))
        },
        Http::Protocol(e) => Failure { may_pass: true, is_other_scheme: true, ..failure(format!("the answer is no HTTP: {e}")) },
        Http::Rustls(e) => Failure { is_other_scheme: true, hint: Some(tls_hint(address)), ..failure(format!("TLS: {e}")) },
        Http::ConnectProxyFailed(e) => failure(format!("the proxy refused: {}", printable(&e))),
        e => failure(printable(&e.to_string())),
    }
}

fn of_io(e: &std::io::Error, address: &Uri) -> Failure {
    let port = address.port_u16().unwrap_or(if address.scheme_str() == Some("https") { 443 } else { 80 });
    let why = match e.kind() {
        ErrorKind::ConnectionRefused => format!("nobody listens at port {port} of {}", address.host().unwrap_or_default()),
        ErrorKind::UnexpectedEof => "the connection was closed in the middle".into(),
        // TLS errors come wrapped in these.
        ErrorKind::InvalidData => format!("TLS: {}", printable(&e.to_string())),
        _ => printable(&e.to_string()),
    };
    let no_name = e.to_string().contains("lookup address");
    let hint = no_name.then(|| "is the name right, and is there a network? `base` and what `onggi images` lists need none".to_string());
    let cannot = no_name || matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable);
    let is_tls = e.kind() == ErrorKind::InvalidData;
    // Who speaks no TLS hangs up at its first words.
    let is_no_tls = address.scheme_str() == Some("https") && matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset);
    Failure {
        why,
        hint: if is_tls || is_no_tls { Some(tls_hint(address)) } else { hint },
        may_pass: !cannot && !is_tls,
        is_unreachable: cannot || e.kind() == ErrorKind::TimedOut,
        is_other_scheme: true,
        ..Failure::default()
    }
}

fn tls_hint(address: &Uri) -> String {
    let host = address.authority().map(|authority| authority.as_str()).unwrap_or_default();
    format!(
        "its certificate's authority belongs in /etc/onggi/certs.d/{host}/ca.crt; \
         a registry without TLS belongs in insecure-registries of /etc/onggi/registries.json"
    )
}
