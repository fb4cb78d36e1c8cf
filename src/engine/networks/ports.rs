//! The ports of the host that lead to a container: which ones it wants, and who has one that is taken.
//!
//! Read: docker-run(1) `--publish`, `--publish-all`, `--expose`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::live::Endpoint;
use super::network;
use crate::engine::home::Home;
use crate::engine::record::{self, Definition, Record};
use crate::engine::request::Request;
use crate::error::{Class, Doing, Result};
use crate::image::manifest::ContainerConfig;
use crate::network::ports::{self, Binding, Held, Protocol};
use crate::sys::fd;

/// Takes all ports that a container wants. They are held until what is answered is dropped.
///
/// # Errors
/// Conflict for a port that is taken, with its holder.
pub fn hold(home: &Home, record: &Record, definition: &Definition) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    if !leads_out(home, record) {
        return Ok(held);
    }
    for binding in wanted(home, record, definition) {
        match ports::hold(&binding) {
            Ok(more) => held.extend(more),
            Err(e) if e.class == Class::Conflict => return Err(with_our_holder(home, &binding, record, e)),
            Err(e) => return Err(e),
        }
    }
    Ok(held)
}

/// Whether any of its networks has a way in and out.
pub fn leads_out(home: &Home, record: &Record) -> bool {
    record.networks.iter().filter_map(|a| network::load(home, &a.network).ok()).any(|network| !network.internal)
}

fn wanted(home: &Home, record: &Record, definition: &Definition) -> Vec<Binding> {
    let request = &definition.request;
    let mut wanted = request.ports.clone();
    if request.publish_all {
        let exposed = exposed(request, &definition.image);
        let is_missing = |(port, protocol): &(u16, Protocol)| !request.ports.iter().any(|b| b.container == *port && b.protocol == *protocol);
        let any = |(container, protocol)| Binding { host: None, first: 0, last: 0, container, protocol };
        wanted.extend(exposed.into_iter().filter(is_missing).map(any));
    }
    // A network can say where its containers' ports are open.
    let at = record.networks.first().and_then(|a| network::load(home, &a.network).ok()).and_then(|network| network.publish_at);
    wanted.iter_mut().for_each(|binding| binding.host = binding.host.or(at));
    wanted
}

/// The ports that a container offers: its image's and its own.
pub fn exposed(request: &Request, image: &ContainerConfig) -> Vec<(u16, Protocol)> {
    let of_image = image.exposed_ports.keys().filter_map(|text| ports::parse_expose(text).ok()).flatten();
    let all: BTreeSet<(u16, Protocol)> = of_image.chain(request.expose.iter().copied()).collect();
    all.into_iter().collect()
}

/// When it is one of our containers that has the port, its name says more than its monitor's PID.
fn with_our_holder(home: &Home, binding: &Binding, own: &Record, error: crate::error::Error) -> crate::error::Error {
    let meets = |port: &record::Port| {
        let at_same = binding.host.is_none_or(|host| port.host.ip() == host || port.host.ip().is_unspecified());
        at_same && port.protocol == binding.protocol && (binding.first..=binding.last).contains(&port.host.port())
    };
    let running = record::list(home, false).unwrap_or_default();
    match running.iter().find(|other| other.id != own.id && other.is_active() && other.state.ports.iter().any(meets)) {
        Some(other) => error.hint(format!("container {} has it: onggi stop {0}, or publish another port", other.name)),
        None => error,
    }
}

/// The address of a container to which a held port leads: of its own family, else the other.
pub fn target(endpoints: &[Endpoint], held: &Held) -> Option<IpAddr> {
    let addresses = || endpoints.iter().flat_map(|endpoint| &endpoint.addresses).map(|cidr| cidr.address);
    addresses().find(|address| address.is_ipv4() == held.address.is_ipv4()).or_else(|| addresses().next())
}

/// The held socket once more, for who shall serve it.
///
/// # Errors
/// EMFILE.
pub fn share(held: &Held) -> Result<OwnedFd> {
    fd::duplicate(held.socket.as_fd()).doing(|| format!("share port {}", held.address.port()))
}
