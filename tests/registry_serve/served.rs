//! A registry for one test, and a client that sends exactly what it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onggi::image::digest::Digest;
use serde_json::Value;

use crate::support::jar::Jar;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry that runs.
pub struct Served {
    pub jar: Jar,
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    /// `127.0.0.1:41234`
    pub host: String,
    /// What it said until it was ready.
    pub greeting: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Served {
    /// `onggi registry serve WORDS` in a jar of its own.
    pub fn new(words: &[&str]) -> Served {
        Served::with(Jar::empty(), words)
    }

    /// The same in this jar.
    pub fn with(jar: Jar, words: &[&str]) -> Served {
        let mut command = jar.onggi(&["registry", "serve", "--addr", "127.0.0.1:0"]);
        command.args(words);
        Served::of(jar, &mut command)
    }

    /// A registry that this command starts.
    pub fn of(jar: Jar, command: &mut Command) -> Served {
        let config = jar.root.join("config");
        command.env("XDG_CONFIG_HOME", config).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("start the registry");
        let mut out = BufReader::new(child.stdout.take().expect("its output"));
        let (mut greeting, mut host) = (String::new(), String::new());
        while !greeting.ends_with("Ctrl-C ends it.\n") {
            let mut line = String::new();
            assert!(out.read_line(&mut line).expect("read what it says") > 0, "the registry ended: {greeting}");
            if let Some(url) = line.strip_prefix("Registry at ") {
                host = url.trim().rsplit('/').next().unwrap_or_default().to_string();
            }
            greeting.push_str(&line);
        }
        Served { jar, child, out, host, greeting }
    }

    pub fn folder(&self) -> PathBuf {
        self.jar.root.join("data/registry")
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The most memory that it has had, in KiB.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Ctrl-C: what it says at its end.
    pub fn end(mut self) -> String {
        kill(self.pid(), Signal::SIGINT).expect("interrupt the registry");
        let mut last = String::new();
        self.out.read_to_string(&mut last).expect("its last words");
        assert!(self.child.wait().expect("its end").success(), "{last}");
        last
    }

    /// `kill -9`: its jar.
    pub fn murder(mut self) -> Jar {
        self.child.kill().expect("kill the registry");
        self.child.wait().expect("its end");
        std::mem::replace(&mut self.jar, Jar { root: PathBuf::from("/nonexistent/onggi") })
    }

    /// Sends a request and takes the whole answer.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(&self.host, method, path, headers, body)
    }

    pub fn fetch(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Puts a blob there in one request.
    pub fn put_blob(&self, name: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let answer = self.ask("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], content);
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    /// Puts an image of these layers there: the manifest's digest.
    pub fn put_image(&self, name: &str, tag: &str, layers: &[&[u8]]) -> Digest {
        let manifest = self.manifest(name, layers, &Value::Null);
        let answer = self.put_manifest(name, tag, MANIFEST, &manifest);
        assert_eq!(answer.status, 201, "{answer:?}");
        Digest::of(manifest.as_bytes())
    }

    /// A manifest whose blobs are there, with `more` fields.
    pub fn manifest(&self, name: &str, layers: &[&[u8]], more: &Value) -> String {
        let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).to_string();
        let descriptor = |kind: &str, content: &[u8]| {
            let digest = self.put_blob(name, content);
            serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": content.len()})
        };
        let config = descriptor("config.v1+json", config.as_bytes());
        let layers: Vec<Value> = layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect();
        let mut manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        for (key, value) in more.as_object().into_iter().flatten() {
            manifest[key] = value.clone();
        }
        manifest.to_string()
    }

    pub fn put_manifest(&self, name: &str, place: &str, media_type: &str, manifest: &str) -> Answer {
        self.ask("PUT", &format!("/v2/{name}/manifests/{place}"), &[("Content-Type", media_type)], manifest.as_bytes())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The specification's word for what is wrong.
    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_else(|| panic!("no code: {self:?}")).to_string()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request on a connection of its own; the path goes out as it is written here.
pub fn ask(host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = begin(host, method, path, headers, Some(body.len() as u64));
    // Who is refused early may find the way closed.
    let _ = stream.write_all(body);
    answer(stream, method == "HEAD")
}

/// Sends the head of a request; without a length the body is a stream of chunks.
pub fn begin(host: &str, method: &str, path: &str, headers: &[(&str, &str)], length: Option<u64>) -> TcpStream {
    let mut stream = TcpStream::connect(host).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    head += &match length {
        Some(length) => format!("Content-Length: {length}\r\n"),
        None => "Transfer-Encoding: chunked\r\n".into(),
    };
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes()).expect("send the head");
    stream
}

/// Takes an answer to the connection's end.
pub fn answer(stream: TcpStream, head: bool) -> Answer {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).expect("the status");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"));
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).expect("a header");
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_string()),
            None => break,
        };
    }
    let mut body = Vec::new();
    stream.read_to_end(&mut body).expect("the body");
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        body = joined(&body);
    }
    let told = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
    assert!(head || told.is_none_or(|length| length >= body.len()), "longer than it says: {headers:?}");
    Answer { status, headers, body }
}

/// The content of chunks.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(end) = chunks.windows(2).position(|pair| pair == b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&chunks[..end]), 16).unwrap_or(0);
        let from = end + 2;
        if length == 0 || chunks.len() < from + length + 2 {
            break;
        }
        all.extend_from_slice(&chunks[from..from + length]);
        chunks = &chunks[from + length + 2..];
    }
    all
}
