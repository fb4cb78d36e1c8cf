//! One server over HTTP: a request goes out, with a token where one is wanted, again when that may help, and where it is led to.
//!
//! What the server sends is a stranger's: headers, texts and the number of redirects are bounded, waiting is too, and what proves who we
//! are goes to this server alone, never to one that it leads us to.
//!
//! See it: `onggi registry serve` and its lines, `tcpdump -A -i lo port 5000`. Source: RFC 9110 (HTTP), OCI distribution specification.

use std::fs::File;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ureq::http::request::Builder;
use ureq::http::{HeaderMap, Method, Request, Response, Uri};
use ureq::{Agent, Body, Proxy, SendBody};

use super::auth::Auth;
use super::cancel;
use super::failure::{self, Failure};
use super::proxy;
use super::settings::{Endpoint, Scheme};
use super::tls;
use crate::error::Result;

const REDIRECTS: u32 = 10;
/// A connection on which nothing moves for so long is dead.
const STILL: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);

/// A server, and what it knows of us.
pub struct Server {
    pub endpoint: Endpoint,
    pub auth: Auth,
    agent: Agent,
    _watched: cancel::Watched,
    /// The scheme by which it answered.
    scheme: Mutex<Option<Scheme>>,
    /// It can't be reached: not asked again, when there is another one.
    pub is_down: AtomicBool,
}

/// What is sent along. It may have to be sent twice.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    Part { file: &'a File, from: u64, length: u64, sent: &'a (dyn Fn(u64) + Sync) },
}

/// A request.
pub struct Ask<'a> {
    pub method: Method,
    /// `/v2/…`, or a whole address that the server gave.
    pub place: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub content: Content<'a>,
    /// Whether doing it twice does the same as doing it once.
    pub again: bool,
}

impl Ask<'_> {
    /// A request without content, that may be repeated.
    pub fn new(method: Method, place: &str) -> Ask<'_> {
        Ask { method, place, headers: &[], content: Content::None, again: true }
    }
}

/// What came back, or why nothing did.
pub type Answered = std::result::Result<Response<Body>, Failure>;

impl Server {
    /// A server that was not asked yet.
    ///
    /// # Errors
    /// NotFound, Invalid for a certificate.
    pub fn new(endpoint: Endpoint, auth: Auth) -> Result<Server> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_per_read(Some(STILL))
            .timeout_per_write(Some(STILL))
            .timeout_recv_response(Some(STILL))
            .max_idle_connections_per_host(8)
            .user_agent(concat!("onggi/", env!("CARGO_PKG_VERSION")))
            // A layer is wanted as it is stored, not compressed once more.
            .accept_encoding("identity")
            .tls_config(tls::config(&endpoint)?)
            .build();
        let agent = Agent::new_with_config(config);
        let watched = cancel::watch(&agent);
        Ok(Server { endpoint, auth, agent, _watched: watched, scheme: Mutex::new(None), is_down: AtomicBool::new(false) })
    }

    /// Asks, and asks again when that may help. Answers below 400 only.
    pub fn send(&self, ask: &Ask) -> Answered {
        self.patiently(ask, Ok)
    }

    /// The same, and the answer's content with it, which may have that many bytes at most.
    pub fn whole(&self, ask: &Ask, most: u64) -> std::result::Result<(HeaderMap, Vec<u8>), Failure> {
        self.patiently(ask, |response| {
            let (parts, body) = response.into_parts();
            let mut bytes = Vec::new();
            let read = body.into_reader().take(most + 1).read_to_end(&mut bytes);
            read.map_err(|e| Failure { may_pass: true, ..Failure::words(format!("the answer broke off: {}", failure::printable(&e.to_string()))) })?;
            match bytes.len() as u64 > most {
                true => Err(Failure::words(format!("the answer has more than {} MiB", most >> 20))),
                false => Ok((parts.headers, bytes)),
            }
        })
    }

    fn patiently<T>(&self, ask: &Ask, take: impl Fn(Response<Body>) -> std::result::Result<T, Failure>) -> std::result::Result<T, Failure> {
        let mut tries = 0;
        loop {
            let answered = self.once(ask).and_then(|response| match response.status().as_u16() {
                0..400 => take(response),
                _ => Err(Failure::of_answer(response)),
            });
            let failure = match answered {
                Ok(taken) => return Ok(taken),
                Err(failure) => Failure { asked: Some(format!("{} {}", ask.method, plain(&self.address(ask.place)))), ..failure },
            };
            tries += 1;
            let Some(pause) = failure.pause(tries).filter(|_| ask.again) else {
                self.is_down.fetch_or(failure.is_unreachable, Ordering::Relaxed);
                return Err(failure);
            };
            cancel::sleep(pause);
        }
    }

    /// Ends all that is under way with this server.
    pub fn shut(&self) {
        self.agent.clone().shutdown();
    }

    /// The whole address of a place on this server.
    fn address(&self, place: &str) -> String {
        if place.contains("://") {
            return place.into();
        }
        let scheme = self.known_scheme().unwrap_or(self.endpoint.schemes.first().copied().unwrap_or(Scheme::Https));
        format!("{}://{}{}{place}", name(scheme), self.endpoint.host, self.endpoint.prefix)
    }

    /// Whether others can't listen on the way.
    pub fn is_tls(&self) -> bool {
        self.known_scheme().or(self.endpoint.schemes.first().copied()) == Some(Scheme::Https)
    }

    fn known_scheme(&self) -> Option<Scheme> {
        *self.scheme.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// By the scheme that works: found out by the first request.
    fn once(&self, ask: &Ask) -> Answered {
        if self.known_scheme().is_some() || ask.place.contains("://") {
            return self.follow(ask, self.address(ask.place));
        }
        let mut last = None;
        for scheme in &self.endpoint.schemes {
            let answered = self.follow(ask, format!("{}://{}{}{}", name(*scheme), self.endpoint.host, self.endpoint.prefix, ask.place));
            match answered {
                // Go's answer to HTTP where TLS is spoken.
                Ok(response) if *scheme == Scheme::Http && response.status() == 400 && self.endpoint.schemes.len() > 1 => {
                    last = Some(Ok(response));
                }
                // Of two failures the more definite one: who speaks no TLS hangs up, and that explains nothing.
                Err(failure) if failure.is_other_scheme && self.endpoint.schemes.len() > 1 => {
                    last = match last {
                        Some(Err(first)) if failure.may_pass => Some(Err(first)),
                        _ => Some(Err(failure)),
                    };
                }
                answered => {
                    if answered.is_ok() {
                        *self.scheme.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(*scheme);
                    }
                    return answered;
                }
            }
        }
        last.unwrap_or_else(|| Err(Failure::words("no way to ask it is configured")))
    }

    /// One request with all that it leads to: a token, other places.
    fn follow(&self, ask: &Ask, address: String) -> Answered {
        let first = parse(&address)?;
        let mut here = first.clone();
        let (mut redirects, mut refusals) = (0, 0);
        loop {
            let is_ours = is_same_server(&first, &here) && self.is_registry(&here);
            let proof = if is_ours { self.auth.header() } else { None };
            let response = self.one(ask, &here, proof.as_deref())?;
            match response.status().as_u16() {
                401 if is_ours && refusals < 2 => {
                    refusals += 1;
                    if !self.auth.answer(self, response.headers(), proof.as_deref())? {
                        return Ok(response);
                    }
                }
                301 | 302 | 303 | 307 | 308 if matches!(ask.method, Method::GET | Method::HEAD) => {
                    redirects += 1;
                    if redirects > REDIRECTS {
                        return Err(Failure::words(format!("it was led on more than {REDIRECTS} times, last to {}", plain(&here.to_string()))));
                    }
                    here = next_place(&here, response.headers())?;
                }
                _ => return Ok(response),
            }
        }
    }

    /// Whether an address is one of this very server, and as safe on the way as what it was asked by first.
    fn is_registry(&self, address: &Uri) -> bool {
        let is_its_scheme = self.known_scheme().is_none_or(|scheme| address.scheme_str() == Some(name(scheme)));
        is_its_scheme && address.authority().is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(&self.endpoint.host))
    }

    /// One request and its answer.
    fn one(&self, ask: &Ask, address: &Uri, proof: Option<&str>) -> Answered {
        let proxy = proxy::of(address)?;
        let through = proxy.as_ref().map(|proxy| format!("through the proxy {}:{}: ", proxy.host(), proxy.port())).unwrap_or_default();
        let mut request = Request::builder().method(ask.method.clone()).uri(address.clone());
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        if let Some(proof) = proof {
            request = request.header("Authorization", proof);
        }
        let sent = match ask.content {
            Content::None if matches!(ask.method, Method::GET | Method::HEAD | Method::DELETE) => self.run(request, proxy, SendBody::none()),
            Content::None => self.run(request.header("Content-Length", "0"), proxy, &[][..]),
            Content::Bytes(bytes) => self.run(request.header("Content-Length", bytes.len()), proxy, bytes),
            Content::Part { file, from, length, sent } => {
                let mut part = Part { file, at: from, end: from + length, sent };
                self.run(request.header("Content-Length", length), proxy, SendBody::from_reader(&mut part))
            }
        };
        sent.map_err(|e| {
            let failure = failure::of_request(e, address);
            // A proxy that is away is away for both schemes.
            let is_other_scheme = failure.is_other_scheme && (through.is_empty() || !failure.is_unreachable);
            Failure { why: format!("{through}{}", failure.why), is_other_scheme, ..failure }
        })
    }

    fn run(&self, request: Builder, proxy: Option<Proxy>, content: impl ureq::AsSendBody) -> std::result::Result<Response<Body>, ureq::Error> {
        self.agent.run(self.agent.configure_request(request.body(content)?).proxy(proxy).build())
    }

    /// A request to somebody else than the registry: who gives tokens, who keeps a foreign layer.
    pub fn elsewhere(&self, method: Method, address: &str, headers: &[(&str, &str)], content: &[u8]) -> Answered {
        let mut here = parse(address)?;
        let ask = |here: &Uri| {
            let content = if content.is_empty() { Content::None } else { Content::Bytes(content) };
            self.one(&Ask { method: method.clone(), place: "", headers, content, again: true }, here, None)
        };
        for _ in 0..REDIRECTS {
            let response = ask(&here)?;
            // With a secret in it nothing is led on.
            let is_plain = method == Method::GET && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
            match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 if is_plain => here = next_place(&here, response.headers())?,
                0..=300 => return Ok(response),
                _ => return Err(Failure { asked: Some(format!("{method} {}", plain(&here.to_string()))), ..Failure::of_answer(response) }),
            }
        }
        Err(Failure::words(format!("it was led on more than {REDIRECTS} times, last to {}", plain(&here.to_string()))))
    }
}

/// A part of a file, read without moving anybody's place in it.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    sent: &'a (dyn Fn(u64) + Sync),
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let count = std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..most], self.at)?;
        self.at += count as u64;
        (self.sent)(self.at);
        Ok(count)
    }
}

fn name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

fn parse(address: &str) -> std::result::Result<Uri, Failure> {
    let uri = address.parse::<Uri>().ok().filter(|uri| uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https")));
    uri.ok_or_else(|| Failure::words(format!("{address:?} is no address")))
}

fn is_same_server(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.host() == other.host() && one.port_u16() == other.port_u16()
}

/// An address for people: without what is asked of it, which may be a secret.
pub fn plain(address: &str) -> &str {
    address.split('?').next().unwrap_or_default()
}

/// Where an answer leads: to a whole address or a path on the same server, and never from TLS to none.
fn next_place(here: &Uri, headers: &HeaderMap) -> std::result::Result<Uri, Failure> {
    let place = headers.get("Location").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let next = parse(&absolute(here, place))?;
    match (here.scheme_str(), next.scheme_str()) {
        (Some("https"), Some("http")) => {
            Err(Failure::words(format!("it leads from https to {}, where anybody could listen", plain(&next.to_string()))))
        }
        _ => Ok(next),
    }
}

/// A `Location` as a whole address.
pub fn absolute(here: &Uri, place: &str) -> String {
    let scheme = here.scheme_str().unwrap_or("https");
    match here.authority() {
        Some(authority) if place.starts_with('/') && !place.starts_with("//") => format!("{scheme}://{authority}{place}"),
        Some(_) if place.starts_with("//") => format!("{scheme}:{place}"),
        _ => place.to_string(),
    }
}

/// How long a server asks us to wait.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("Retry-After")?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}
