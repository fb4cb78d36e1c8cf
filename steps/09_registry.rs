//! Images come from a registry, over HTTP: a tag leads to a manifest, that to blobs, each fetched by its digest and checked while it comes.
//!
//! Try it: `onggi registry serve & onggi tag base localhost:5000/base; onggi push localhost:5000/base; step-09 run localhost:5000/base id`
//! See it: `curl -v 127.0.0.1:5000/v2/base/manifests/latest`, `find /run/onggi-steps/pulled`, `strace -f -e trace=network step-09 pull …`
//! Read: the OCI distribution specification "Pulling manifests", RFC 9112 (HTTP/1.1)

#[path = "08_volume.rs"]
#[allow(dead_code)] // its `main`
pub mod volume;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser};
use onggi::error::{Class, Doing, Error, Result};
use onggi::id;
use onggi::image::digest::{Digest, Hashing};
use onggi::image::manifest::{Descriptor, Manifest};
use onggi::image::platform;
use onggi::image::reference::Reference;
use onggi::image::resolve::ManifestOrIndex;
use onggi::workshop::steps::{self, Hooks, words};
use serde::de::DeserializeOwned;
use volume::Volumes;
use volume::bridge::container::{self, NAME};

/// What may stand behind a tag: an index for several kinds of machines, or the manifest for one.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

// What is asked for; `More` are the options that a step adds. The documentation is what `--help` says.
/// Run containers, and look after them
#[derive(Parser)]
#[command(infer_long_args = true)]
pub enum Request<More: Args> {
    /// Fetch an image from a registry
    Pull { name: String },
    #[command(flatten)]
    Before(words::Request<More>),
}

fn main() {
    steps::main(NAME, act::<Volumes>)
}

pub fn act<More: Args + Hooks>(request: Request<More>) -> Result<i32> {
    match request {
        Request::Pull { name } => show(&name),
        Request::Before(words::Request::Run(mut wanted)) => {
            wanted.image = find(&wanted.image)?;
            container::act(words::Request::Run(wanted))
        }
        Request::Before(other) => container::act(other),
    }
}

/// Pulls, and says where the layout is.
fn show(name: &str) -> Result<i32> {
    println!("{}", pull(&Reference::parse(name)?)?.display());
    Ok(0)
}

/// A layout as it is; of what is none, but has a registry in its name, the layout that it was or is now pulled into.
fn find(image: &Path) -> Result<PathBuf> {
    let name = image.to_string_lossy();
    match Reference::parse(&name) {
        Ok(reference) if !image.exists() && reference.registry != "docker.io" => {
            let layout = place(&reference)?;
            if layout.exists() { Ok(layout) } else { pull(&reference) }
        }
        _ => Ok(image.into()),
    }
}

/// Where a pulled image is.
fn place(reference: &Reference) -> Result<PathBuf> {
    Ok(steps::folder("pulled")?.join(reference.to_string().replace('/', "_")))
}

/// Fetches an image into a layout: aside, and only when all of it has come and is right does it get its name.
fn pull(from: &Reference) -> Result<PathBuf> {
    let layout = place(from)?;
    let aside = layout.with_file_name(format!(".{}", id::random()?));
    let pulled = fetch(from, &aside).and_then(|()| {
        let _ = fs::remove_dir_all(&layout);
        fs::rename(&aside, &layout).doing(|| "keep the image".into())
    });
    pulled.inspect_err(|_| drop(fs::remove_dir_all(&aside))).map(|()| layout)
}

/// A tag is asked once for what it stands for. From there on all things have digests, which say whether they are the right ones.
fn fetch(from: &Reference, layout: &Path) -> Result<()> {
    let tag = from.digest.as_ref().map(Digest::to_string).or(from.tag.clone()).unwrap_or_default();
    let (media_type, mut body) = get(from, "manifests", &tag)?;
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes).doing(|| format!("read the manifest of {from}"))?;
    let found = match json(&bytes)? {
        ManifestOrIndex::Manifest(_) => Descriptor::new(&media_type, Digest::of(&bytes), bytes.len() as u64),
        ManifestOrIndex::Index(index) => {
            let missing = || Error::new(Class::NotFound, format!("pull {from}"), "it has no image for this kind of machine");
            platform::choose(&index.manifests, &platform::host()).cloned().ok_or_else(missing)?
        }
    };
    fs::create_dir_all(layout.join("blobs/sha256")).doing(|| format!("make {}", layout.display()))?;
    let manifest = keep(from, "manifests", &found, layout)?;
    let manifest: Manifest = json(&fs::read(&manifest).doing(|| format!("read {}", manifest.display()))?)?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        keep(from, "blobs", blob, layout)?;
    }
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [found] });
    let files = [("index.json", index.to_string()), ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.into())];
    files.iter().try_for_each(|(name, text)| fs::write(layout.join(name), text).doing(|| format!("write {name}")))
}

/// Writes what has this digest into the layout, hashing it on its way. Answers where it is.
fn keep(from: &Reference, kind: &str, wanted: &Descriptor, layout: &Path) -> Result<PathBuf> {
    let doing = || format!("fetch {} of {from}", wanted.digest);
    let (_, mut body) = get(from, kind, wanted.digest.as_str())?;
    let path = layout.join("blobs/sha256").join(wanted.digest.hex());
    let mut file = Hashing::new(File::create(&path).doing(doing)?);
    io::copy(&mut body, &mut file).doing(doing)?;
    let (_, digest, size) = file.finish();
    match (&digest, size) == (&wanted.digest, wanted.size) {
        true => Ok(path),
        false => Err(Error::invalid(doing(), format!("what came are {size} bytes with the digest {digest}"))),
    }
}

/// One GET of HTTP/1.1 (RFC 9112): a line with what is wanted, headers, an empty line; back come a line with the status, headers, an empty
/// line, and a body, as long as a header says. Answers the body's type, and the body.
fn get(from: &Reference, kind: &str, what: &str) -> Result<(String, io::Take<BufReader<TcpStream>>)> {
    let Reference { registry, repository, .. } = from;
    let doing = || format!("GET http://{registry}/v2/{repository}/{kind}/{what}");
    let host = registry.split_once(':').map_or(registry.as_str(), |(host, _)| host);
    if host != "localhost" && !host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()) {
        return Err(Error::new(Class::Unsupported, doing(), "only from this machine (127.0.0.1:PORT): TLS and tokens are left to `onggi pull`"));
    }
    let stream = TcpStream::connect(registry).doing(doing)?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).doing(doing)?;
    let ask = format!("GET /v2/{repository}/{kind}/{what} HTTP/1.1\r\nHost: {registry}\r\nAccept: {MANIFESTS}\r\nConnection: close\r\n\r\n");
    (&stream).write_all(ask.as_bytes()).doing(doing)?;
    let mut answer = BufReader::new(stream);
    let head: Vec<String> = (&mut answer).take(1 << 16).lines().map_while(io::Result::ok).take_while(|line| !line.is_empty()).collect();
    let status = head.first().and_then(|line| line.split_once(' ')).map_or("no answer of HTTP", |(_, status)| status);
    if !status.starts_with("200 ") {
        return Err(Error::new(Class::NotFound, doing(), status));
    }
    let header = |wanted: &str| {
        let fields = head.iter().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name, value.trim())).find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let untold = || Error::invalid(doing(), "the answer doesn't say how long it is");
    let length = header("content-length").and_then(|text| text.parse().ok()).ok_or_else(untold)?;
    Ok((header("content-type").unwrap_or_default().into(), answer.take(length)))
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::invalid("read a manifest", e.to_string()))
}
