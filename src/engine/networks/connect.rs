//! `network connect` and `network disconnect`: a container changes its networks, while it runs or for its next start.
//!
//! Read: docker-network-connect(1).

use std::os::fd::AsFd;

use super::attach;
use super::create::still_free;
use super::ground::{self, Ground};
use super::live::{self, Who};
use super::network::{self, Driver, Network};
use super::unfinished;
use crate::engine::home::Home;
use crate::engine::monitor::control;
use crate::engine::record::{self, Record};
use crate::engine::request::{Attachment, NetworkMode};
use crate::engine::{etc_files, events};
use crate::error::{Class, Error, Result};

/// Puts a container on one more network.
///
/// # Errors
/// Conflict when it is there already, or shares another's network; those of [`attach::attach`].
pub fn connect(home: &Home, network: &Network, container: &Record, wanted: Attachment) -> Result<()> {
    let doing = || format!("connect {} to the network {}", container.name, network.name);
    if network.driver != Driver::Bridge {
        let why = format!("container cannot be connected to the {} network: it is chosen when it is created", network.name);
        return Err(Error::new(Class::Denied, doing(), why));
    }
    let (held, record) = record::hold(home, &container.id)?;
    match &record.network {
        NetworkMode::Host | NetworkMode::Container(_) => {
            let why = "container sharing network namespace with another container or host cannot be connected to any other network";
            return Err(Error::new(Class::Denied, doing(), why));
        }
        NetworkMode::None | NetworkMode::Own => {}
    }
    if record.networks.iter().any(|a| a.network == network.id) {
        let why = format!("endpoint with name {} already exists in network {}", record.name, network.name);
        return Err(Error::new(Class::Denied, doing(), why));
    }
    check(network, &wanted)?;
    let wanted = Attachment { network: network.id.clone(), name: network.name.clone(), ..wanted };
    let _changing = unfinished::begin(home, &record.id)?;
    let mut all = record.networks.clone();
    all.push(wanted);
    // An ordinary user's ground has to stay until the container's monitor has it, too.
    let ground = if record.is_active() { Some(ground::get(home)?) } else { None };
    if let (Some(ground), Some(init)) = (&ground, record.state.init) {
        plug_in(home, ground, network, &Record { networks: all.clone(), ..record.clone() }, init.pid)?;
    }
    let saved = record::change_held(home, &record.id, |record| {
        record.networks = all;
        record.network = NetworkMode::Own;
    })?;
    events::network(home, network, "connect", Some(&saved.id));
    if let Err(e) = tell_monitor(home, &saved) {
        // A port that was closed on an internal network can be taken now.
        drop(held);
        let _ = disconnect(home, network, &saved);
        return Err(e);
    }
    Ok(())
}

/// What a container is on, with networks that were removed and made anew under their old names.
///
/// # Errors
/// ENOSPC.
pub fn renew(home: &Home, record: Record) -> Result<Record> {
    let new_of = |a: &Attachment| match network::load(home, &a.network) {
        Ok(_) => None,
        Err(_) => network::find(home, &a.name).ok().filter(|network| network.driver == Driver::Bridge),
    };
    if !record.networks.iter().any(|a| new_of(a).is_some()) {
        return Ok(record);
    }
    record::change_held(home, &record.id, |record| {
        for a in &mut record.networks {
            a.network = new_of(a).map_or_else(|| a.network.clone(), |network| network.id);
        }
    })
}

/// Plugs a container into the last of the networks that it is on from now on.
fn plug_in(home: &Home, ground: &Ground, network: &Network, record: &Record, pid: i32) -> Result<()> {
    let namespace = attach::namespace_of(pid)?;
    let networks = network::lock(home)?;
    let network = &still_free(&networks, network.clone())?;
    let wanted = record.networks.last().cloned().unwrap_or_default();
    let used: Vec<String> = live::of_container(home, &record.id)?.into_iter().map(|endpoint| endpoint.inside).collect();
    let inside = (0..).map(|n| format!("eth{n}")).find(|name| !used.contains(name)).unwrap_or_default();
    let hostname = etc_files::hostname(home, &record.id);
    let who = Who { id: &record.id, name: &record.name, hostname: hostname.as_deref() };
    let endpoint = networks.place(network, &who, &wanted, &inside)?;
    networks.change_endpoints(&network.id, |there| there.push(endpoint.clone()))?;
    let done = ground.inside(|| {
        attach::plug_in(home, network, &endpoint, &[], namespace.as_fd())?;
        attach::set_routes(home, &record.id, &record.networks, &namespace)
    });
    if done.is_err() {
        let _ = attach::detach_one(&networks, &endpoint);
    }
    done
}

/// Takes a container off a network.
///
/// # Errors
/// NotFound when it isn't on it.
pub fn disconnect(home: &Home, network: &Network, container: &Record) -> Result<()> {
    let (_held, record) = record::hold(home, &container.id)?;
    if !record.networks.iter().any(|a| a.network == network.id) {
        let why = format!("container {} is not connected to network {}", record.name, network.name);
        return Err(Error::new(Class::NotFound, format!("disconnect {} from the network {}", record.name, network.name), why));
    }
    let mut left = record.networks.clone();
    left.retain(|a| a.network != network.id);
    let _changing = unfinished::begin(home, &record.id)?;
    if let Some(init) = record.state.init.filter(|_| record.is_active()) {
        let namespace = attach::namespace_of(init.pid)?;
        let networks = network::lock(home)?;
        for endpoint in live::endpoints(home, &network.id)?.iter().filter(|endpoint| endpoint.container == record.id) {
            attach::detach_one(&networks, endpoint)?;
        }
        if let Some(ground) = ground::present(home)? {
            ground.inside(|| attach::set_routes(home, &record.id, &left, &namespace))?;
        }
    }
    let saved = record::change_held(home, &record.id, |record| record.networks = left)?;
    events::network(home, network, "disconnect", Some(&saved.id));
    tell_monitor(home, &saved)
}

/// The container's monitor answers for other names now, and lets its ports lead elsewhere.
///
/// # Errors
/// Conflict for a port that is taken.
pub fn tell_monitor(home: &Home, record: &Record) -> Result<()> {
    if record.is_active()
        && let Some(ports) = control::wake_for_networks(home, &record.id)?
        && ports != record.state.ports
    {
        record::change_held(home, &record.id, |record| record.state.ports = ports)?;
    }
    Ok(())
}

/// What doesn't go with this network.
///
/// # Errors
/// Invalid.
pub fn check(network: &Network, wanted: &Attachment) -> Result<()> {
    let doing = || format!("join the network {}", network.name);
    if network.has_names() {
        return Ok(());
    }
    if wanted.ip.is_some() || wanted.ip6.is_some() {
        return Err(Error::invalid(doing(), "user specified IP address is supported on user defined networks only"));
    }
    match wanted.aliases.is_empty() {
        true => Ok(()),
        false => Err(Error::invalid(doing(), "network-scoped aliases are only supported for user-defined networks")),
    }
}
