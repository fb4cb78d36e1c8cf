//! A registry for tests that answers right, and wrong where a rule says so; it remembers all that it was asked.
//!
//! ```text
//! let registry = Registry::new();                        // http://127.0.0.1:PORT, on the test's own network
//! registry.put("team/web", "1", &image);
//! registry.fails("GET /v2/team/web/blobs/", 2, Fault::Cut(1000));   // the next two of these requests
//! registry.count("GET /v2/team/web/blobs/")              // how many came, failed or not
//! ```
//! Source: OCI distribution specification 1.1; the distribution project's token specification.
#![allow(dead_code)] // every test program compiles this module and uses its own part of it

pub mod content;
pub mod http;
pub mod scene;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use onggi::image::digest::Digest;
use serde_json::json;

pub use content::Image;
pub use http::{Answer, Fault, Request};

/// The server; it ends when dropped.
pub struct Registry {
    /// `127.0.0.1:PORT`
    pub host: String,
    inside: Arc<Inside>,
}

struct Inside {
    host: String,
    content: Mutex<Content>,
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<Request>>,
    auth: Mutex<Auth>,
    over: AtomicBool,
}

#[derive(Default)]
struct Content {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    begun: usize,
}

struct Rule {
    part: String,
    times: usize,
    fault: Fault,
}

/// What a request must bring along.
pub enum Auth {
    Nothing,
    Basic(String, String),
    /// A token of `/token`, there for this user and password or for anybody; those that count now.
    Token {
        user: Option<(String, String)>,
        tokens: Vec<String>,
    },
}

impl Registry {
    pub fn new() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        Registry::at(listener)
    }

    /// With a socket that listens already.
    pub fn at(listener: TcpListener) -> Registry {
        let host = listener.local_addr().expect("an address").to_string();
        let inside = Arc::new(Inside {
            host: host.clone(),
            content: Mutex::default(),
            rules: Mutex::default(),
            asked: Mutex::default(),
            auth: Mutex::new(Auth::Nothing),
            over: AtomicBool::new(false),
        });
        let server = inside.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.over.load(Ordering::Relaxed) {
                    return;
                }
                let server = server.clone();
                std::thread::spawn(move || serve(&server, stream));
            }
        });
        Registry { host, inside }
    }

    /// `127.0.0.1:PORT/REPOSITORY:TAG`
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Has an image with all its blobs, by this tag and by its digest.
    pub fn put(&self, repository: &str, tag: &str, image: &Image) {
        for (digest, bytes) in &image.blobs {
            self.put_blob(digest, bytes);
        }
        for inner in &image.inner {
            self.put_manifest(repository, &inner.digest, &inner.media_type, &inner.bytes);
        }
        for reference in [tag, &image.digest] {
            self.put_manifest(repository, reference, &image.media_type, &image.bytes);
        }
    }

    pub fn put_blob(&self, digest: &str, bytes: &[u8]) {
        lock(&self.inside.content).blobs.insert(digest.into(), bytes.into());
    }

    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) {
        lock(&self.inside.content).manifests.insert((repository.into(), reference.into()), (media_type.into(), bytes.into()));
    }

    /// The manifest of this name, as it was pushed.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Vec<u8>> {
        lock(&self.inside.content).manifests.get(&(repository.into(), reference.into())).map(|(_, bytes)| bytes.clone())
    }

    pub fn has_blob(&self, digest: &str) -> bool {
        lock(&self.inside.content).blobs.contains_key(digest)
    }

    /// The next so many requests whose line has this part end like this; what is said last counts first.
    pub fn fails(&self, part: &str, times: usize, fault: Fault) {
        lock(&self.inside.rules).insert(0, Rule { part: part.into(), times, fault });
    }

    /// From now on all is right again.
    pub fn is_well(&self) {
        lock(&self.inside.rules).clear();
    }

    pub fn asks_for(&self, auth: Auth) {
        *lock(&self.inside.auth) = auth;
    }

    /// No token that was given counts any more.
    pub fn forget_tokens(&self) {
        if let Auth::Token { tokens, .. } = &mut *lock(&self.inside.auth) {
            tokens.clear();
        }
    }

    /// All requests until now.
    pub fn asked(&self) -> Vec<Request> {
        lock(&self.inside.asked).clone()
    }

    pub fn forget_asked(&self) {
        lock(&self.inside.asked).clear();
    }

    /// How many requests came whose line has this part.
    pub fn count(&self, part: &str) -> usize {
        lock(&self.inside.asked).iter().filter(|request| request.line().contains(part)).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.inside.over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(&self.host);
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn serve(server: &Inside, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    let is_over = || server.over.load(Ordering::Relaxed);
    while let Ok(Some(request)) = Request::read(&mut reader) {
        lock(&server.asked).push(Request { body: Vec::new(), ..request.clone() });
        let fault = server.fault_of(&request);
        let answer = match &fault {
            Fault::Unauthorized => server.challenge(&request),
            // What is refused is not done; what is answered wrong is.
            Fault::Status(..) | Fault::Redirect(..) => Answer::default(),
            fault => server.answer(&request, fault),
        };
        if !answer.write(&mut writer, &request, &fault, is_over).unwrap_or(false) || is_over() {
            let _ = writer.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

impl Inside {
    fn fault_of(&self, request: &Request) -> Fault {
        let line = request.line();
        let mut rules = lock(&self.rules);
        let Some(rule) = rules.iter_mut().find(|rule| rule.times > 0 && line.contains(&rule.part)) else { return Fault::None };
        rule.times -= 1;
        rule.fault.clone()
    }

    fn answer(&self, request: &Request, fault: &Fault) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if path == "/token" {
            return self.token(request);
        }
        if !self.may(request) {
            return self.challenge(request);
        }
        let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
        match (&*request.method, &parts[..]) {
            (_, [""]) => Answer::new(200, "{}"),
            (_, ["_catalog"]) => self.catalog(),
            (_, [name @ .., "tags", "list"]) => self.tags(&name.join("/")),
            (method, [name @ .., "manifests", reference]) => self.manifests(method, &name.join("/"), reference, request),
            (_, [_, .., "referrers", _]) => Answer::new(200, r#"{"schemaVersion":2,"manifests":[]}"#),
            ("POST", [name @ .., "blobs", "uploads", ""]) => self.begin_upload(&name.join("/"), query),
            (method, [name @ .., "blobs", "uploads", id]) => self.upload(method, &name.join("/"), id, query, request),
            (_, [_, .., "blobs", digest]) => self.blob(digest, request, fault),
            _ => Answer::error(404, "NAME_UNKNOWN"),
        }
    }

    fn blob(&self, digest: &str, request: &Request, fault: &Fault) -> Answer {
        let Some(bytes) = lock(&self.content).blobs.get(digest).cloned() else { return Answer::error(404, "BLOB_UNKNOWN") };
        let total = bytes.len();
        let whole = Answer::new(200, bytes).with("Docker-Content-Digest", digest).with("Content-Type", "application/octet-stream");
        match (request.range(), fault) {
            (None, _) | (_, Fault::NoRange) => whole,
            (Some(_), Fault::OtherRange) => whole.part(total / 3),
            (Some(from), _) => whole.part(from),
        }
    }

    fn manifests(&self, method: &str, repository: &str, reference: &str, request: &Request) -> Answer {
        let mut content = lock(&self.content);
        if method == "PUT" {
            let digest = Digest::of(&request.body).to_string();
            let media_type = request.header("content-type").unwrap_or_default().to_string();
            for reference in [reference, &digest] {
                content.manifests.insert((repository.into(), reference.into()), (media_type.clone(), request.body.clone()));
            }
            return Answer::new(201, "").with("Docker-Content-Digest", digest).with("Location", &request.path);
        }
        let Some((media_type, bytes)) = content.manifests.get(&(repository.into(), reference.into())) else {
            return Answer::error(404, "MANIFEST_UNKNOWN");
        };
        Answer::new(200, &**bytes).with("Content-Type", media_type).with("Docker-Content-Digest", Digest::of(bytes).to_string())
    }

    fn tags(&self, repository: &str) -> Answer {
        let content = lock(&self.content);
        let of_it = content.manifests.keys().filter(|(name, reference)| name == repository && !reference.contains(':'));
        let tags: Vec<&String> = of_it.map(|(_, tag)| tag).collect();
        match tags.is_empty() {
            true => Answer::error(404, "NAME_UNKNOWN"),
            false => Answer::new(200, json!({"name": repository, "tags": tags}).to_string()).with("Content-Type", "application/json"),
        }
    }

    fn catalog(&self) -> Answer {
        let mut names: Vec<String> = lock(&self.content).manifests.keys().map(|(name, _)| name.clone()).collect();
        names.dedup();
        Answer::new(200, json!({"repositories": names}).to_string()).with("Content-Type", "application/json")
    }

    fn begin_upload(&self, repository: &str, query: &str) -> Answer {
        let mut content = lock(&self.content);
        if let Some(digest) = of_query(query, "mount").filter(|digest| content.blobs.contains_key(digest)) {
            return Answer::new(201, "").with("Location", format!("/v2/{repository}/blobs/{digest}"));
        }
        content.begun += 1;
        let id = format!("upload{}", content.begun);
        content.uploads.insert(id.clone(), Vec::new());
        Answer::new(202, "").with("Location", format!("/v2/{repository}/blobs/uploads/{id}?state=0")).with("Range", "0-0")
    }

    fn upload(&self, method: &str, repository: &str, id: &str, query: &str, request: &Request) -> Answer {
        let mut content = lock(&self.content);
        let Some(bytes) = content.uploads.get_mut(id) else { return Answer::error(404, "BLOB_UPLOAD_UNKNOWN") };
        bytes.extend(&request.body);
        let there = bytes.len();
        if method != "PUT" {
            let next = format!("/v2/{repository}/blobs/uploads/{id}?state={there}");
            let status = if method == "GET" { 204 } else { 202 };
            return Answer::new(status, "").with("Location", next).with("Range", format!("0-{}", there.saturating_sub(1)));
        }
        let bytes = content.uploads.remove(id).unwrap_or_default();
        let digest = Digest::of(&bytes).to_string();
        if of_query(query, "digest").as_ref() != Some(&digest) {
            return Answer::error(400, "DIGEST_INVALID");
        }
        content.blobs.insert(digest.clone(), bytes);
        Answer::new(201, "").with("Location", format!("/v2/{repository}/blobs/{digest}")).with("Docker-Content-Digest", digest)
    }

    fn may(&self, request: &Request) -> bool {
        let given = request.header("authorization").unwrap_or_default();
        match &*lock(&self.auth) {
            Auth::Nothing => true,
            Auth::Basic(user, password) => given == content::basic(user, password),
            Auth::Token { tokens, .. } => given.strip_prefix("Bearer ").is_some_and(|token| tokens.iter().any(|one| one == token)),
        }
    }

    fn challenge(&self, request: &Request) -> Answer {
        let repository = request.path.trim_start_matches("/v2/").split("/blobs/").next().unwrap_or_default();
        let repository = repository.split("/manifests/").next().unwrap_or_default().split("/tags/").next().unwrap_or_default();
        let how = match &*lock(&self.auth) {
            Auth::Basic(..) => r#"Basic realm="faulty""#.to_string(),
            _ => format!(r#"Bearer realm="http://{}/token",service="faulty",scope="repository:{repository}:pull""#, self.host),
        };
        Answer::error(401, "UNAUTHORIZED").with("WWW-Authenticate", how)
    }

    fn token(&self, request: &Request) -> Answer {
        let Auth::Token { user, tokens } = &mut *lock(&self.auth) else { return Answer::error(404, "UNKNOWN") };
        let given = request.header("authorization");
        if user.as_ref().is_some_and(|(user, password)| given != Some(&content::basic(user, password))) {
            return Answer::error(401, "UNAUTHORIZED");
        }
        let token = format!("token-{}", Digest::of(format!("{}{}", tokens.len(), request.path).as_bytes()).short());
        tokens.push(token.clone());
        Answer::new(200, json!({"token": token, "expires_in": 300}).to_string()).with("Content-Type", "application/json")
    }
}

fn of_query(query: &str, key: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/"))
}
