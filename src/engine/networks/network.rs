//! What a network is: one file each. Three are always there, as in Docker: `bridge`, `host` and `none`.
//!
//! See it: `cat /var/lib/onggi/networks/*.json`. Read: docker-network(1).

use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::pools;
use crate::clock;
use crate::engine::home::Home;
use crate::engine::record;
use crate::error::{Class, Doing, Error, Result};
use crate::id;
use crate::network::cidr::Cidr;

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub driver: Driver,
    /// RFC 3339.
    pub created: String,
    pub subnets: Vec<Subnet>,
    /// Nothing gets in or out.
    pub internal: bool,
    /// As it was said: here a container can be put on any network by hand.
    pub attachable: bool,
    pub ipv6: bool,
    /// Sorted.
    pub labels: Vec<(String, String)>,
    /// As they were given, sorted: `com.docker.network.driver.mtu` and so on.
    pub options: Vec<(String, String)>,
    /// The name of its bridge.
    pub link: String,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Its containers may speak with each other.
    pub icc: bool,
    /// What leaves bears the host's address.
    pub masquerade: bool,
    /// The address of the host at which ports are published when none is said.
    pub publish_at: Option<IpAddr>,
}

/// What carries a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    #[default]
    Bridge,
    Host,
    /// Docker's word for `none`.
    Null,
}

/// One range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    pub subnet: Cidr,
    pub gateway: IpAddr,
    /// Addresses are chosen from here; those that are asked for may be elsewhere in the subnet.
    #[serde(default)]
    pub range: Option<Cidr>,
    /// Reserved for others, by name (`--aux-address`).
    #[serde(default)]
    pub reserved: Vec<(String, IpAddr)>,
}

impl Driver {
    pub fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }
}

impl Network {
    /// Whether it is there by itself, and can't be removed.
    pub fn is_predefined(&self) -> bool {
        is_predefined(&self.name)
    }

    /// Whether its containers find each other by name: on the default bridge they don't, as in Docker.
    pub fn has_names(&self) -> bool {
        self.driver == Driver::Bridge && self.name != "bridge"
    }
}

/// `bridge`, `host`, `none`.
pub fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

/// The right to change networks and who is on them, until it is dropped.
#[must_use]
pub struct Networks<'a> {
    pub home: &'a Home,
    _lock: File,
}

/// Waits for the right to change networks, and makes those that are always there.
///
/// # Errors
/// EACCES, ENOSPC; Conflict when no range of addresses is free for the default bridge.
pub fn lock(home: &Home) -> Result<Networks<'_>> {
    let path = home.run.join("networks.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).doing(|| format!("open {}", path.display()))?;
    file.lock().doing(|| format!("lock {}", path.display()))?;
    for dir in [dir(home), home.run.join("networks")] {
        if !dir.is_dir() {
            std::fs::create_dir_all(&dir).doing(|| format!("make {}", dir.display()))?;
        }
    }
    let networks = Networks { home, _lock: file };
    if !dir(home).join("default").exists() {
        networks.make_predefined()?;
    }
    Ok(networks)
}

impl Networks<'_> {
    fn make_predefined(&self) -> Result<()> {
        let there = list_files(self.home)?;
        for (name, driver) in [("bridge", Driver::Bridge), ("host", Driver::Host), ("none", Driver::Null)] {
            if there.iter().any(|network| network.name == name) {
                continue;
            }
            let mut network = Network { id: id::random()?, name: name.into(), driver, created: now(), icc: true, ..Network::default() };
            if driver == Driver::Bridge {
                network.masquerade = true;
                network.link = if is_the_machines_own(self.home) { "onggi0".into() } else { link_name(&network.id) };
                network.subnets = vec![pools::choose(self.home, &there)?];
            }
            self.save(&network)?;
        }
        std::fs::write(dir(self.home).join("default"), "").doing(|| "make the default networks".into())
    }

    /// Writes a network down.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn save(&self, network: &Network) -> Result<()> {
        record::write_json(&file(self.home, &network.id), network)
    }

    /// Forgets a network.
    pub fn forget(&self, network: &Network) {
        let _ = std::fs::remove_file(file(self.home, &network.id));
    }
}

/// RFC 3339.
pub fn now() -> String {
    clock::rfc3339(SystemTime::now())
}

/// The bridge of a network: as long as a link's name may be.
pub fn link_name(id: &str) -> String {
    format!("og-{}", id::short(id))
}

/// The table of our rules: another root has another one, that two engines on one machine don't meet.
pub fn table(home: &Home) -> String {
    match is_the_machines_own(home) {
        true => "onggi".into(),
        false => format!("onggi-{}", id::short(&crate::image::digest::Digest::of(home.data.as_os_str().as_encoded_bytes()).hex()[..8])),
    }
}

fn is_the_machines_own(home: &Home) -> bool {
    std::env::var_os("ONGGI_ROOT").is_none_or(|root| root.is_empty()) && home.data.is_absolute()
}

fn dir(home: &Home) -> PathBuf {
    home.data.join("networks")
}

fn file(home: &Home, id: &str) -> PathBuf {
    dir(home).join(format!("{id}.json"))
}

/// All networks: the three that are always there first, then by name.
///
/// # Errors
/// EACCES; Invalid for a damaged file.
pub fn list(home: &Home) -> Result<Vec<Network>> {
    if !dir(home).join("default").exists() {
        drop(lock(home)?);
    }
    let mut all = list_files(home)?;
    all.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    Ok(all)
}

/// Those that are in files, in no order: the three that are always there once a container has needed one of them.
///
/// # Errors
/// EACCES; Invalid for a damaged file.
pub fn list_files(home: &Home) -> Result<Vec<Network>> {
    let dir = dir(home);
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(|| format!("read {}", dir.display()))?,
    };
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    let mut all = Vec::new();
    for file in files {
        match std::fs::read(&file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            text => {
                let text = text.doing(|| format!("read {}", file.display()))?;
                let network = serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("read {}", file.display()), e.to_string()))?;
                all.push(network);
            }
        }
    }
    Ok(all)
}

/// The network that somebody means: by its name, its ID, or the beginning of its ID, in this order.
///
/// # Errors
/// NotFound; Conflict when several IDs begin like this.
pub fn find(home: &Home, text: &str) -> Result<Network> {
    let all = list(home)?;
    if let Some(network) = all.iter().find(|network| network.name == text).or_else(|| all.iter().find(|network| network.id == text)) {
        return Ok(network.clone());
    }
    let mut fitting = all.iter().filter(|network| !text.is_empty() && network.id.starts_with(text));
    match (fitting.next(), fitting.next()) {
        (Some(network), None) => Ok(network.clone()),
        (Some(one), Some(other)) => {
            let why = format!("network {text} is ambiguous: {} and {}", id::short(&one.id), id::short(&other.id));
            Err(Error::new(Class::Conflict, format!("find the network {text}"), why).hint("give more of its ID"))
        }
        _ => {
            let error = Error::new(Class::NotFound, format!("find the network {text}"), format!("network {text} not found"));
            Err(match id::nearest(text, all.iter().map(|network| network.name.as_str())) {
                Some(name) => error.hint(format!("did you mean {name}?")),
                None => error.hint("`onggi network ls` lists those that there are, `onggi network create` makes one; `onggi book 07`"),
            })
        }
    }
}

/// A network by its full ID.
///
/// # Errors
/// NotFound; Invalid when the file is damaged.
pub fn load(home: &Home, id: &str) -> Result<Network> {
    let path = file(home, id);
    let text = std::fs::read(&path).doing(|| format!("read the network {}", id::short(id)))?;
    serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("read {}", path.display()), e.to_string()))
}
