//! `onggi registry`: serve images to a classroom, find such a registry, and pull by way of it.
//!
//! See it: the page at the address that `serve` says. Source: OCI distribution specification 1.1.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::registry_ls::{LsArgs, ls};
use super::{complain, say};
use crate::engine::home::Home;
use crate::error::{Class, Doing, Error, Result};
use crate::image::reference::Reference;
use crate::image::registry::{credentials, settings};
use crate::registry::auth::Auth;
use crate::registry::clients::Reached;
use crate::registry::tls::Tls;
use crate::registry::{self, Options, addresses, find};

/// What can be done with registries.
#[derive(Debug, Subcommand)]
pub enum Registry {
    /// Serve images to the classroom, until Ctrl-C
    #[command(after_help = "Examples:
  onggi registry serve
  onggi registry serve --mirror-of docker.io --announce
  onggi registry serve --root /media/usb/images --read-only")]
    Serve(ServeArgs),
    /// Find registries on the same network, among those that announce themselves
    #[command(after_help = "Example:\n  onggi registry find")]
    Find(FindArgs),
    /// List the repositories of a registry, the tags of one, or the parts of an image
    #[command(after_help = "Examples:\n  onggi registry ls localhost:5000\n  onggi registry ls localhost:5000/team/web:1")]
    Ls(LsArgs),
    /// Ask this registry first for the images of the Docker Hub
    #[command(after_help = "Example:\n  onggi registry use http://192.168.0.10:5000")]
    Use(UseArgs),
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen: at all of this machine's addresses, or at one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:5000")]
    addr: SocketAddr,
    /// The folder of the images, an OCI image layout [default: registry, in the folder of the engine's data]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Fetch what is not here from this registry, once
    #[arg(long, value_name = "REGISTRY")]
    mirror_of: Option<String>,
    /// Take no images and delete none
    #[arg(long)]
    read_only: bool,
    /// Let in only this user; `ps` shows the password to everybody on this machine
    #[arg(long, value_name = "USER:PASSWORD", group = "who")]
    auth: Option<String>,
    /// The same, from a file with the line USER:PASSWORD; - is standard input
    #[arg(long, value_name = "FILE", group = "who")]
    auth_file: Option<PathBuf>,
    /// Let in the users of a file that `htpasswd -B` wrote
    #[arg(long, value_name = "FILE", group = "who")]
    htpasswd: Option<PathBuf>,
    /// Speak TLS, with a certificate that is made on the spot
    #[arg(long, conflicts_with_all = ["cert", "key"])]
    tls: bool,
    /// Speak TLS with this certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Print a line for each request
    #[arg(short, long)]
    verbose: bool,
    /// Answer `onggi registry find` (multicast DNS)
    #[arg(long)]
    announce: bool,
    /// The name under which it is announced [default: this machine's]
    #[arg(long, value_name = "NAME", requires = "announce")]
    name: Option<String>,
}

#[derive(Debug, Args)]
pub struct FindArgs {
    /// How many seconds to listen for answers
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

#[derive(Debug, Args)]
pub struct UseArgs {
    /// Believe whoever answers there, whatever the certificate says; http:// means that, too
    #[arg(long)]
    insecure: bool,
    /// No longer ask it
    #[arg(long)]
    remove: bool,
    /// The registry's address
    #[arg(value_name = "URL")]
    url: String,
}

/// Does it: the exit code.
///
/// # Errors
/// Those of the verb.
pub fn registry(verb: &Registry) -> Result<u8> {
    match verb {
        Registry::Serve(args) => serve(args),
        Registry::Find(args) => look_around(args),
        Registry::Ls(args) => ls(args),
        Registry::Use(args) => use_mirror(args),
    }
}

fn serve(args: &ServeArgs) -> Result<u8> {
    let data = Home::find()?.data;
    let root = args.root.clone().unwrap_or_else(|| data.join("registry"));
    let mirror_of = args.mirror_of.as_deref().map(registry_name).transpose()?;
    let tls = tls(args, &data)?;
    let fingerprint = tls.as_ref().filter(|_| args.tls).map(Tls::fingerprint);
    let is_tls = tls.is_some();
    let (auth, announced) = (auth(args)?, args.announce.then(|| args.name.clone().unwrap_or_else(addresses::host_name)));
    let has_auth = auth.is_some();
    let tell = args.verbose.then(|| Box::new(|line: &str| drop(say(line))) as registry::server::Tell);
    let options =
        Options { address: args.addr, root: root.clone(), mirror_of: mirror_of.clone(), read_only: args.read_only, auth, tls, announced, tell };
    let running = registry::serve(options)?;
    let reached = Reached::at(running.address(), is_tls, mirror_of);
    introduce(&reached, &root, fingerprint)?;
    if has_auth && !is_tls {
        say("  warning  without --tls everybody on the network can read the passwords")?;
    }
    if let Some(outside) = reached.mirror_of.as_deref().filter(|outside| !has_auth && credentials::find(outside).is_ok_and(|found| found.is_some())) {
        say(format!("  warning  you are logged in at {outside}: what you may pull there, everybody may pull here; `onggi logout` ends that"))?;
    }
    say("Ctrl-C ends it.")?;
    say(running.until_told()?)
}

fn introduce(reached: &Reached, root: &Path, fingerprint: Option<String>) -> Result<u8> {
    let urls: Vec<String> = reached.hosts.iter().map(|host| reached.url(host)).collect();
    say(format!("Registry at {}", urls.join(", ")))?;
    say(format!("  images   {}", root.display()))?;
    if let Some(outside) = &reached.mirror_of {
        say(format!("  mirror   of {outside}: what is not here is fetched once"))?;
    }
    if let Some(fingerprint) = fingerprint {
        say(format!("  trust    {}/ca.crt", reached.url(reached.host())))?;
        say(format!("           SHA-256 {fingerprint}"))?;
    }
    say(format!("  onggi    {}", reached.for_onggi()))?;
    say(format!("  docker   {}", reached.for_docker()))?;
    say("  podman   in /etc/containers/registries.conf.d/onggi.conf:")?;
    for line in reached.for_podman() {
        say(format!("             {line}"))?;
    }
    Ok(0)
}

/// The registry's name as references have it.
fn registry_name(text: &str) -> Result<String> {
    let name = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text).trim_end_matches('/');
    let wrong = || Error::invalid(format!("be a mirror of {text:?}"), "this is no registry: it should be a host, with or without a port");
    // Checked as the first part of a reference.
    let reference = Reference::parse(&format!("{name}/x/y")).map_err(|_| wrong())?;
    if reference.registry == name || name == "index.docker.io" { Ok(reference.registry) } else { Err(wrong()) }
}

fn tls(args: &ServeArgs, data: &Path) -> Result<Option<Tls>> {
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        return Tls::of_files(cert, key).map(Some);
    }
    if !args.tls {
        return Ok(None);
    }
    let mut hosts =
        vec!["localhost".to_string(), "127.0.0.1".into(), "::1".into(), addresses::host_name(), format!("{}.local", addresses::host_name())];
    hosts.extend(addresses::own().iter().map(|own| own.address.to_string()));
    if !args.addr.ip().is_unspecified() {
        hosts.push(args.addr.ip().to_string());
    }
    hosts.sort();
    hosts.dedup();
    Tls::made(&data.join("registry-tls"), &hosts).map(Some)
}

fn auth(args: &ServeArgs) -> Result<Option<Auth>> {
    if let Some(file) = &args.htpasswd {
        return Auth::of_htpasswd(file).map(Some);
    }
    let pair = match (&args.auth, &args.auth_file) {
        (Some(pair), _) => pair.clone(),
        (None, Some(file)) => first_line(file)?,
        (None, None) => return Ok(None),
    };
    Auth::of_pair(&pair).map(Some)
}

fn first_line(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().take(4096).read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|file| file.take(4096).read_to_string(&mut text)),
    };
    read.doing(|| format!("read the user and password from {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_string())
}

fn look_around(args: &FindArgs) -> Result<u8> {
    let found = find::find(Duration::from_secs(args.timeout))?;
    for one in &found {
        let scheme = if one.is_tls { "https" } else { "http" };
        say(format!("{scheme}://{}  {}", one.address, one.name))?;
    }
    match found.first() {
        Some(_) => Ok(0),
        None => {
            let nothing = Error::new(Class::NotFound, "find a registry", format!("nobody answered in {} s", args.timeout));
            complain(&nothing.hint("only those that were started with `onggi registry serve --announce`, on the same network, can be found"));
            Ok(1)
        }
    }
}

fn use_mirror(args: &UseArgs) -> Result<u8> {
    let url = args.url.as_str();
    // What is written with http:// is meant so, for pushes and for names such as HOST/team/web, too.
    let (host, is_plain) = match url.split_once("://") {
        Some((scheme, host)) => (host, scheme == "http"),
        None => (url, false),
    };
    let host = host.split('/').next().unwrap_or_default();
    if args.remove {
        let file = settings::remove_mirror(url)?;
        if is_plain || args.insecure {
            let _ = settings::remove_insecure(host);
        }
        return say(format!("{} says so no longer.", file.display()));
    }
    let file = settings::add_mirror(url)?;
    if is_plain || args.insecure {
        settings::add_insecure(host)?;
    }
    say(format!("From now on {url} is asked first for images of the Docker Hub ({}).", file.display()))?;
    say(format!("Others of its images are called {host}/NAME:TAG, as in `onggi pull {host}/team/web:1`."))
}
