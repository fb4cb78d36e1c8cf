//! What the engine knows that a trace has to know: networks, who is on them, and the container that sends.

use std::net::IpAddr;

use crate::engine::home::Home;
use crate::engine::names;
use crate::engine::networks::live::{self, Endpoint};
use crate::engine::networks::network::{self, Network};
use crate::engine::record::{self, Record};
use crate::engine::request::NetworkMode;
use crate::error::{Class, Error, Result};

/// The engine's part of the facts.
pub struct World<'a> {
    pub home: &'a Home,
    /// The name of our table of rules.
    pub table: String,
    pub networks: Vec<Network>,
    /// All of them, on all networks.
    pub endpoints: Vec<Endpoint>,
    pub running: Vec<Record>,
    /// The container that sends, and the one whose network it uses: itself, as a rule.
    pub from: Record,
    pub owner: Record,
    /// A process in the sender's network namespace.
    pub pid: i32,
}

impl World<'_> {
    /// Everything, as seen from this container.
    ///
    /// # Errors
    /// NotFound; Conflict when it doesn't run.
    pub fn gather<'a>(home: &'a Home, from: &str) -> Result<World<'a>> {
        let from = names::find(home, from)?;
        let Some(init) = from.state.init.filter(|_| from.is_active()) else {
            let why = format!("container {} is not running", from.name);
            return Err(Error::new(Class::Conflict, format!("trace from {}", from.name), why).hint(format!("onggi start {}", from.name)));
        };
        let owner = match &from.network {
            NetworkMode::Container(other) => record::load(home, other)?,
            _ => from.clone(),
        };
        let networks = network::list(home)?;
        let mut endpoints = Vec::new();
        for network in &networks {
            endpoints.extend(live::endpoints(home, &network.id)?);
        }
        let running = record::list(home, false)?.into_iter().filter(|record| record.is_active()).collect();
        Ok(World { home, table: network::table(home), networks, endpoints, running, from, owner, pid: init.pid })
    }

    /// The sender's places on networks.
    pub fn own(&self) -> Vec<&Endpoint> {
        self.of(&self.owner.id)
    }

    /// A container's places on networks, the first of its links first.
    pub fn of(&self, container: &str) -> Vec<&Endpoint> {
        let mut all: Vec<&Endpoint> = self.endpoints.iter().filter(|endpoint| endpoint.container == container).collect();
        all.sort_by_key(|endpoint| (endpoint.inside.len(), &endpoint.inside));
        all
    }

    pub fn network(&self, id: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.id == id)
    }

    /// The network whose bridge has this name.
    pub fn network_of_link(&self, link: &str) -> Option<&Network> {
        self.networks.iter().find(|network| !network.link.is_empty() && network.link == link)
    }

    /// Who has this address on a network.
    pub fn holder(&self, network: &str, address: IpAddr) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.network == network && endpoint.addresses.iter().any(|cidr| cidr.address == address))
    }

    /// The first process of the container behind an endpoint.
    pub fn pid_of(&self, endpoint: &Endpoint) -> Option<i32> {
        self.running.iter().find(|record| record.id == endpoint.container)?.state.init.map(|init| init.pid)
    }
}
