//! The names that a container's networks know: what its monitor answers when the program inside asks 127.0.0.11.
//!
//! They stand in the networks' files of endpoints. A file is replaced whenever somebody comes or goes, so that another inode says that it is
//! time to read it anew; the old one is kept open meanwhile, lest its number be given to the new one.
//!
//! See it: `onggi exec web cat /etc/resolv.conf`, `onggi exec web nslookup db`. Read: resolv.conf(5), inode(7).

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;

use super::live::{self, Endpoint};
use super::network;
use crate::engine::home::Home;
use crate::engine::record::Record;
use crate::network::dns::Names;

/// The names of one container's world.
pub struct Zone {
    files: Vec<Seen>,
    /// What this container calls others by itself (`--link`): name, container's ID.
    links: Vec<(String, String)>,
    names: Rc<Names>,
}

/// A file of endpoints as it was when it was read.
struct Seen {
    path: PathBuf,
    file: Option<File>,
    network: String,
}

impl Zone {
    /// The names on the networks that a container is on.
    pub fn of(home: &Home, record: &Record) -> Zone {
        let named = record.networks.iter().filter_map(|a| network::load(home, &a.network).ok()).filter(|network| network.has_names());
        let files = named.map(|network| Seen { path: live::file(home, &network.id), file: None, network: network.name });
        let links = record.networks.iter().flat_map(|a| a.links.clone()).collect();
        let mut zone = Zone { files: files.collect(), links, names: Rc::new(Names::new()) };
        zone.read();
        zone
    }

    /// Whether there is any network with names.
    pub fn has_names(&self) -> bool {
        !self.files.is_empty()
    }

    /// The names as they are at this moment.
    pub fn names(&mut self) -> Rc<Names> {
        if self.files.iter().any(Seen::is_old) {
            self.read();
        }
        Rc::clone(&self.names)
    }

    fn read(&mut self) {
        let mut names = Names::new();
        for seen in &mut self.files {
            seen.file = File::open(&seen.path).ok();
            let endpoints: Vec<Endpoint> =
                seen.file.as_ref().and_then(|file| serde_json::from_reader(std::io::BufReader::new(file)).ok()).unwrap_or_default();
            for endpoint in &endpoints {
                let links = self.links.iter().filter(|(_, container)| *container == endpoint.container).map(|(name, _)| name);
                let own = std::iter::once(&endpoint.name).chain(&endpoint.aliases).chain(links);
                for name in own {
                    for cidr in &endpoint.addresses {
                        names.add(name, cidr.address);
                        names.add(&format!("{name}.{}", seen.network), cidr.address);
                    }
                }
                for cidr in &endpoint.addresses {
                    names.add_reverse(cidr.address, &format!("{}.{}", endpoint.name, seen.network));
                }
            }
        }
        self.names = Rc::new(names);
    }
}

impl Seen {
    fn is_old(&self) -> bool {
        let facts = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let now = std::fs::metadata(&self.path).ok().map(facts);
        now != self.file.as_ref().and_then(|file| file.metadata().ok()).map(facts)
    }
}
