//! The three files of `/etc` that belong to the container and not to its image: hostname, hosts, resolv.conf. They stand in the
//! container's folder and are bound over the image's.
//!
//! Read: hosts(5), resolv.conf(5), hostname(5).

use std::path::{Path, PathBuf};

use super::request::{NetworkMode, Request};
use crate::error::{Doing, Result};

/// Writes them into `dir`; answers (file, place in the container).
///
/// # Errors
/// ENOSPC.
pub fn write(dir: &Path, request: &Request, hostname: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let files = [("hostname", format!("{hostname}\n")), ("hosts", hosts(request, hostname)), ("resolv.conf", resolv_conf())];
    let mut bound = Vec::new();
    for (name, text) in files {
        let file = dir.join(name);
        std::fs::write(&file, text).doing(|| format!("write {}", file.display()))?;
        bound.push((file, Path::new("/etc").join(name)));
    }
    Ok(bound)
}

fn hosts(request: &Request, hostname: &str) -> String {
    let mut text = match request.network {
        NetworkMode::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        NetworkMode::None => concat!(
            "127.0.0.1\tlocalhost\n",
            "::1\tlocalhost ip6-localhost ip6-loopback\n",
            "fe00::0\tip6-localnet\n",
            "ff00::0\tip6-mcastprefix\n",
            "ff02::1\tip6-allnodes\n",
            "ff02::2\tip6-allrouters\n"
        )
        .to_string(),
    };
    for (name, address) in &request.hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    if request.network == NetworkMode::None {
        text.push_str(&format!("127.0.0.1\t{hostname}\n"));
    }
    text
}

fn resolv_conf() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}
