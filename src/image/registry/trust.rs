//! Whom to believe that they are a registry: authorities and client certificates of one's own, where Docker and Podman keep them.
//!
//! ```text
//! /etc/docker/certs.d/lab:5000/ca.crt        an authority: any name, but this ending
//!                             /client.cert   who we are, with
//!                             /client.key    its key
//! ```
//! The same in `/etc/containers/certs.d`, `/etc/onggi/certs.d`, and below `~/.config` for one user.
//!
//! Read: docker's "Verify repository client with certificates", containers-certs.d(5).

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::reference;

/// Whom to believe, and how to say who we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Files of authorities (PEM), besides the machine's own.
    pub authorities: Vec<PathBuf>,
    /// The files of our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Believe everybody.
    pub skip_verify: bool,
}

/// The folders in which hosts have folders, the user's own first.
pub fn folders() -> Vec<PathBuf> {
    let own = own_config().map(|config| ["onggi", "containers", "docker"].map(|whose| config.join(whose)));
    let dotted = home().map(|home| home.join(".docker"));
    let all = own.into_iter().flatten().chain(dotted).chain(["onggi", "containers", "docker"].map(|whose| Path::new("/etc").join(whose)));
    all.map(|folder| folder.join("certs.d")).collect()
}

/// `XDG_CONFIG_HOME`, or `~/.config`.
pub fn own_config() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|config| config.is_absolute());
    config.or_else(|| home().map(|home| home.join(".config")))
}

pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}

/// What these folders have for a host. The Hub's hosts have those of `docker.io` too.
///
/// # Errors
/// Invalid for a certificate without its key, or a key without its certificate.
pub fn of(folders: &[PathBuf], host: &str) -> Result<Trust> {
    let mut trust = Trust::default();
    // It becomes a folder's name.
    if !reference::is_host(host) {
        return Ok(trust);
    }
    let hub = Some("docker.io").filter(|_| host.ends_with(".docker.io"));
    for folder in folders {
        for name in [Some(host), hub].into_iter().flatten() {
            add(&mut trust, &folder.join(name), host)?;
        }
    }
    Ok(trust)
}

fn add(trust: &mut Trust, folder: &Path, host: &str) -> Result<()> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in &files {
        let Some(ending) = file.extension() else { continue };
        let half = |other: &str| files.iter().find(|half| **half == file.with_extension(other)).cloned();
        let missing = |other: &str, hint: &str| {
            let why = format!("{} has no {} beside it", file.display(), file.with_extension(other).display());
            Error::invalid(format!("use the certificates for {host}"), why).hint(hint)
        };
        if ending == "crt" {
            trust.authorities.push(file.clone());
        } else if ending == "cert" {
            let key = half("key").ok_or_else(|| missing("key", "a certificate of ours needs its key; an authority's certificate ends in .crt"))?;
            trust.client.get_or_insert((file.clone(), key));
        } else if ending == "key" {
            half("cert").ok_or_else(|| missing("cert", "the key's certificate ends in .cert"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::Folder;

    fn write(folder: &Folder, names: &[&str]) {
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn a_hosts_folder_has_authorities_and_the_client_pair() {
        let (own, machine) = (Folder::new(), Folder::new());
        write(&own, &["lab:5000/ca.crt", "lab:5000/readme", "lab/other.crt"]);
        write(&machine, &["lab:5000/z.crt", "lab:5000/me.cert", "lab:5000/me.key", "docker.io/hub.crt"]);
        let folders = [own.path().to_path_buf(), machine.path().to_path_buf()];
        let trust = of(&folders, "lab:5000").unwrap();
        let at = machine.path().join("lab:5000");
        assert_eq!(trust.authorities, [own.path().join("lab:5000/ca.crt"), at.join("z.crt")]);
        assert_eq!(trust.client, Some((at.join("me.cert"), at.join("me.key"))));
        assert_eq!(of(&folders, "registry-1.docker.io").unwrap().authorities, [machine.path().join("docker.io/hub.crt")]);
        assert_eq!(of(&folders, "other:5000").unwrap(), Trust::default());
        assert_eq!(of(&folders, "..").unwrap(), Trust::default());
    }

    #[test]
    fn a_missing_half_is_named() {
        for (name, other) in [("lab/me.cert", "me.key"), ("lab/me.key", "me.cert")] {
            let folder = Folder::new();
            write(&folder, &[name]);
            let error = of(&[folder.path().to_path_buf()], "lab").unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(other) && error.contains("lab"), "{error}");
        }
    }
}
