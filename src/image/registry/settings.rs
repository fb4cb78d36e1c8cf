//! Which server is asked for which registry's images, and how: mirrors, plain HTTP, authorities of one's own.
//!
//! ```text
//! /etc/onggi/registries.json           the machine's           {"registry-mirrors": ["http://teacher:5000"],
//! ~/.config/onggi/registries.json      the user's, first         "insecure-registries": ["lab:5000", "10.0.0.0/8"],
//!                                                                "mirrors": {"ghcr.io": ["https://mirror.lab/ghcr"]}}
//! ```
//! The first two keys are those of Docker's `daemon.json`; `registry-mirrors` are for the Hub, `mirrors` for all others.
//! A registry on this machine itself (localhost) is asked by plain HTTP without being named here.
//!
//! See it: `onggi pull` of a registry that isn't there names each server that was asked. Read: dockerd(8), "registry-mirror", hosts(5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use super::hosts::Scheme;
use super::hosts::{Insecure, Mirror, addresses, is_loopback};
use super::settings_file;
use super::trust;
pub use super::trust::Trust;
use crate::error::{Class, Error, Result};
use crate::image::reference;

/// The name of the Hub in references.
pub const HUB: &str = "docker.io";

/// The server that the Hub's images come from.
pub const HUB_HOST: &str = "registry-1.docker.io";

/// One server to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As in a URL: `registry-1.docker.io`, `localhost:5000`, `[::1]:5000`.
    pub host: String,
    /// Tried in this order.
    pub schemes: Vec<Scheme>,
    /// The path before `/v2`: empty, or with a slash at its beginning and none at its end.
    pub prefix: String,
    /// Whose repositories these are: `docker.io`. Another than `host` for the Hub and for mirrors.
    pub registry: String,
    pub is_mirror: bool,
    pub trust: Trust,
}

/// What the settings' files say.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    mirrors: BTreeMap<String, Vec<Mirror>>,
    insecure: Vec<Insecure>,
    /// The folders that may have authorities for a host.
    certificates: Vec<PathBuf>,
}

/// One file, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Written {
    registry_mirrors: Vec<String>,
    insecure_registries: Vec<String>,
    mirrors: BTreeMap<String, Vec<String>>,
}

impl Settings {
    /// Reads the machine's settings, and the user's.
    ///
    /// # Errors
    /// Invalid, with the file named, for unknown keys and for what is no mirror, host or range; EACCES.
    pub fn load() -> Result<Settings> {
        Settings::read(&[Some(machine_file()), own_file()].map(Option::unwrap_or_default), trust::folders())
    }

    /// The same, for who is a mirror: it asks the registries themselves.
    pub fn without_mirrors(self) -> Settings {
        Settings { mirrors: BTreeMap::new(), ..self }
    }

    /// Later files go before earlier ones.
    fn read(files: &[PathBuf], certificates: Vec<PathBuf>) -> Result<Settings> {
        let mut settings = Settings { certificates, ..Settings::default() };
        for file in files {
            if let Some(text) = settings_file::read(file)? {
                let added = settings.add(&text).map_err(|e| Error { doing: format!("read {}", file.display()), ..e });
                added.map_err(|e| if e.hint.is_some() { e } else { e.hint(KEYS) })?;
            }
        }
        Ok(settings)
    }

    fn add(&mut self, text: &[u8]) -> Result<()> {
        let read = &mut serde_json::Deserializer::from_slice(text);
        let written: Written = serde_path_to_error::deserialize(read).map_err(|e| Error::invalid("", e.to_string()))?;
        let hubs = (HUB.to_string(), written.registry_mirrors);
        for (registry, urls) in written.mirrors.into_iter().chain([hubs]) {
            if !reference::is_host(&registry) {
                return Err(Error::invalid("", format!("{registry:?} is no registry: it should be a host, with or without a port")));
            }
            let mut mirrors = urls.iter().map(|url| Mirror::parse(url)).collect::<Result<Vec<_>>>()?;
            let known = self.mirrors.entry(registry).or_default();
            known.retain(|known| !mirrors.contains(known));
            mirrors.append(known);
            *known = mirrors;
        }
        for text in &written.insecure_registries {
            self.insecure.push(Insecure::parse(text)?);
        }
        Ok(())
    }

    /// The servers to ask for a registry's images, in this order: its mirrors when one is going to pull, then the registry itself.
    ///
    /// # Errors
    /// Invalid when a certificate's or a key's other half is missing in `certs.d`.
    pub fn endpoints(&self, registry: &str, push: bool) -> Result<Vec<Endpoint>> {
        let mirrors = self.mirrors.get(registry).filter(|_| !push).map_or(&[][..], Vec::as_slice);
        let mut endpoints = Vec::new();
        for Mirror { scheme, host, prefix } in mirrors {
            let schemes = scheme.map_or_else(|| self.schemes(host), |scheme| vec![scheme]);
            let (host, prefix, registry) = (host.clone(), prefix.clone(), registry.to_string());
            endpoints.push(Endpoint { trust: self.trust(&host)?, host, schemes, prefix, registry, is_mirror: true });
        }
        let host = if registry == HUB { HUB_HOST } else { registry };
        let (schemes, trust) = (self.schemes(host), self.trust(host)?);
        endpoints.push(Endpoint { host: host.into(), schemes, prefix: String::new(), registry: registry.into(), is_mirror: false, trust });
        Ok(endpoints)
    }

    /// Whom to believe that they are this host: also for the servers that a registry sends one to for a token.
    ///
    /// # Errors
    /// Invalid when a certificate's or a key's other half is missing in `certs.d`.
    pub fn trust(&self, host: &str) -> Result<Trust> {
        let trust = trust::of(&self.certificates, host)?;
        // Whoever has put an authority there wants it to be asked.
        let skip_verify = trust.authorities.is_empty() && self.is_insecure(host);
        Ok(Trust { skip_verify, ..trust })
    }

    fn schemes(&self, host: &str) -> Vec<Scheme> {
        if self.is_insecure(host) { vec![Scheme::Http, Scheme::Https] } else { vec![Scheme::Https] }
    }

    fn is_insecure(&self, host: &str) -> bool {
        if is_loopback(host) || self.insecure.contains(&Insecure::Host(host.to_string())) {
            return true;
        }
        let nets: Vec<_> = self.insecure.iter().filter(|insecure| matches!(insecure, Insecure::Net(..))).collect();
        // Asking for addresses takes time, so only when there is something to compare them with.
        !nets.is_empty() && addresses(host).iter().any(|address| nets.iter().any(|net| net.contains(*address)))
    }
}

const KEYS: &str = "the keys are registry-mirrors, insecure-registries (lists) and mirrors (registry: list), as in \
                    {\"registry-mirrors\": [\"http://teacher:5000\"], \"insecure-registries\": [\"teacher:5000\"]}";

/// The file for all users of this machine.
fn machine_file() -> PathBuf {
    "/etc/onggi/registries.json".into()
}

/// This user's own file, below `XDG_CONFIG_HOME` or `~/.config`.
fn own_file() -> Option<PathBuf> {
    trust::own_config().map(|config| config.join("onggi/registries.json"))
}

/// The file that is to be changed: the machine's for root.
fn changed_file() -> Result<PathBuf> {
    // Root of a user namespace is an ordinary user outside.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if nix::unistd::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return Ok(machine_file());
    }
    own_file().ok_or_else(|| Error::new(Class::NotFound, "find the settings", "neither HOME nor XDG_CONFIG_HOME is set"))
}

/// From now on this mirror is asked first for the Hub's images: the file that says so, the machine's for root and else the user's own.
///
/// # Errors
/// Invalid for what is no URL of a mirror; EACCES, ENOSPC.
pub fn add_mirror(url: &str) -> Result<PathBuf> {
    let file = changed_file()?;
    Mirror::parse(url).map_err(|e| Error { doing: format!("use the mirror {url}"), ..e })?;
    change_list(&file, "registry-mirrors", |mirrors| {
        mirrors.retain(|known| !is_same_mirror(known, url));
        mirrors.insert(0, url.to_string());
    })?;
    Ok(file)
}

/// From now on this mirror is not asked: the file that had said so.
///
/// # Errors
/// NotFound when that file has no such mirror; EACCES, ENOSPC.
pub fn remove_mirror(url: &str) -> Result<PathBuf> {
    take_away("registry-mirrors", url, "mirror", |known| is_same_mirror(known, url))
}

/// From now on this registry (`teacher:5000`) is asked by plain HTTP too: the file that says so.
///
/// # Errors
/// Invalid for what is neither host nor range of addresses; EACCES, ENOSPC.
pub fn add_insecure(registry: &str) -> Result<PathBuf> {
    let file = changed_file()?;
    Insecure::parse(registry).map_err(|e| Error { doing: format!("use {registry} without TLS"), ..e })?;
    change_list(&file, "insecure-registries", |all| {
        all.retain(|known| known != registry);
        all.push(registry.to_string());
    })?;
    Ok(file)
}

/// From now on this registry is asked by TLS only: the file that had said otherwise.
///
/// # Errors
/// NotFound when that file doesn't name it; EACCES, ENOSPC.
pub fn remove_insecure(registry: &str) -> Result<PathBuf> {
    take_away("insecure-registries", registry, "insecure registry", |known| known == registry)
}

fn is_same_mirror(one: &str, other: &str) -> bool {
    matches!((Mirror::parse(one), Mirror::parse(other)), (Ok(one), Ok(other)) if one == other)
}

fn take_away(key: &str, value: &str, kind: &str, is_it: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let file = changed_file()?;
    let mut found = false;
    if settings_file::read(&file)?.is_some() {
        change_list(&file, key, |all| {
            let before = all.len();
            all.retain(|known| !is_it(known));
            found = all.len() < before;
        })?;
    }
    match found {
        true => Ok(file),
        false => Err(Error::new(Class::NotFound, format!("remove the {kind} {value}"), format!("{} names no such {kind}", file.display()))),
    }
}

/// Changes one list of a file and nothing else; an empty one goes.
fn change_list(file: &Path, key: &str, change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
    settings_file::edit(file, |members| {
        let old: Vec<String> = members.member(key).map_err(|e| Error { doing: format!("read {}", file.display()), ..e })?;
        let mut list = old.clone();
        change(&mut list);
        if list.is_empty() {
            return Ok(members.remove(key));
        }
        members.set(key, &list)?;
        Ok(list != old)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::Folder;

    fn settings(text: &str) -> Result<Settings> {
        let folder = Folder::new();
        let file = folder.path().join("registries.json");
        std::fs::write(&file, text).unwrap();
        Settings::read(&[file], Vec::new())
    }

    /// `https://host/prefix`, with a `+` for each further scheme.
    fn asked(settings: &Settings, registry: &str, push: bool) -> Vec<String> {
        let told = |e: Endpoint| {
            let scheme = |s: &Scheme| if *s == Scheme::Http { "http" } else { "https" };
            format!("{}://{}{}", e.schemes.iter().map(scheme).collect::<Vec<_>>().join("+"), e.host, e.prefix)
        };
        settings.endpoints(registry, push).unwrap().into_iter().map(told).collect()
    }

    #[test]
    fn loopback_is_plain_http_first_and_all_else_is_https() {
        let settings = Settings::default();
        for here in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.0.1", "[::1]:5000", "a.localhost:80", "LOCALHOST"] {
            assert_eq!(asked(&settings, here, false), [format!("http+https://{here}")]);
            assert!(settings.trust(here).unwrap().skip_verify);
        }
        for there in ["ghcr.io", "10.0.0.1:5000", "localhost.example.com", "127.0.0.1.example.com", "[::2]:5000"] {
            assert_eq!(asked(&settings, there, true), [format!("https://{there}")]);
            assert!(!settings.trust(there).unwrap().skip_verify);
        }
        assert_eq!(asked(&settings, "docker.io", false), ["https://registry-1.docker.io"]);
    }

    #[test]
    fn a_mirror_is_asked_first_and_never_pushed_to() {
        let text = r#"{"registry-mirrors": ["http://teacher:5000", "mirror.lab/hub/"], "mirrors": {"ghcr.io": ["https://mirror.lab/ghcr"]}}"#;
        let settings = settings(text).unwrap();
        assert_eq!(asked(&settings, "docker.io", false), ["http://teacher:5000", "https://mirror.lab/hub", "https://registry-1.docker.io"]);
        assert_eq!(asked(&settings, "docker.io", true), ["https://registry-1.docker.io"]);
        assert_eq!(asked(&settings, "ghcr.io", false), ["https://mirror.lab/ghcr", "https://ghcr.io"]);
        let first = settings.endpoints("docker.io", false).unwrap().remove(0);
        assert!(first.is_mirror && first.registry == "docker.io");
    }

    #[test]
    fn a_range_of_addresses_is_insecure_as_a_whole() {
        let settings = settings(r#"{"insecure-registries": ["10.0.0.0/8", "lab:5000", "http://old.lab", "fd00::/8"]}"#).unwrap();
        for (host, insecure) in [
            ("10.9.8.7:5000", true),
            ("11.0.0.1:5000", false),
            ("lab:5000", true),
            ("lab", false),
            ("old.lab", true),
            ("[fd12::1]:5000", true),
            ("[fe80::1]:5000", false),
        ] {
            assert_eq!(settings.is_insecure(host), insecure, "{host}");
        }
        let all = Insecure::parse("0.0.0.0/0").unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
    }

    #[test]
    fn the_users_mirrors_go_before_the_machines() {
        let folder = Folder::new();
        let (machine, own) = (folder.path().join("machine"), folder.path().join("own"));
        std::fs::write(&machine, r#"{"registry-mirrors": ["http://a", "http://b"]}"#).unwrap();
        std::fs::write(&own, r#"{"registry-mirrors": ["http://c", "http://b"]}"#).unwrap();
        let settings = Settings::read(&[machine, own], Vec::new()).unwrap();
        assert_eq!(asked(&settings, "docker.io", false)[..3], ["http://c", "http://b", "http://a"]);
    }

    #[test]
    fn what_the_file_must_not_say_is_refused_with_its_name() {
        for (text, part) in [
            (r#"{"registry-mirror": []}"#, "unknown field `registry-mirror`"),
            (r#"{"registry-mirrors": "http://a"}"#, "registry-mirrors"),
            (r#"{"registry-mirrors": ["ftp://a"]}"#, "unsupported scheme"),
            (r#"{"registry-mirrors": ["http://a?b"]}"#, "query"),
            (r#"{"registry-mirrors": ["http://"]}"#, "host"),
            (r#"{"registry-mirrors": ["http://a/../b"]}"#, "path"),
            (r#"{"insecure-registries": ["10.0.0.0/33"]}"#, "range of addresses"),
            (r#"{"mirrors": {"a/b": []}}"#, "no registry"),
            ("[", "EOF"),
        ] {
            let error = settings(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("registries.json"), "{error}");
        }
        let error = settings(r#"{"registry-mirrors": ["http://me:secret@a"]}"#).unwrap_err().to_string();
        assert!(error.contains("onggi login") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_list_changes_and_all_else_in_the_file_stays() {
        let folder = Folder::new();
        let file = folder.path().join("registries.json");
        std::fs::write(&file, "{\n\t\"mirrors\": {},\n\t\"registry-mirrors\": [\n\t\t\"http://a/\"\n\t]\n}").unwrap();
        change_list(&file, "registry-mirrors", |list| list.insert(0, "http://b".into())).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "{\n\t\"mirrors\": {},\n\t\"registry-mirrors\": [\n\t\t\"http://b\",\n\t\t\"http://a/\"\n\t]\n}");
        change_list(&file, "registry-mirrors", Vec::clear).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\n\t\"mirrors\": {}\n}");
        assert!(is_same_mirror("http://a/", "http://a") && !is_same_mirror("http://a", "https://a"));
    }
}
