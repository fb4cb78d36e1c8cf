//! The tour's stop at networks: two containers on a network of their own, made for it and removed with it. One is found by its name, gets a
//! packet, and the map shows what lies between.
//!
//! See it: `onggi network map`, `onggi network trace`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::cli::network_map::{self, gather};
use crate::engine::home::Home;
use crate::engine::networks::create::{self, Wanted};
use crate::engine::networks::{live, network};
use crate::engine::request::{Attachment, NetworkMode, Request};
use crate::engine::{record, remove, run};
use crate::error::{Error, Result};
use crate::inspect::network_proof as proof;
use crate::network::ports::Protocol;

/// What was seen there.
pub struct Town {
    /// `bob is 172.18.0.3`
    pub name: String,
    /// What became of a packet.
    pub packet: String,
    pub map: String,
}

const PATIENCE: Duration = Duration::from_secs(2);

/// Makes both, looks, and removes them, whatever happens in between.
///
/// # Errors
/// Unsupported or Denied where this user can have no networks.
pub fn visit(home: &Home) -> Result<Town> {
    let name = format!("tour-{}", std::process::id());
    let network = create::create(home, &Wanted { name: name.clone(), ..Wanted::default() })?;
    let mut made = Vec::new();
    let seen = look(home, &name, &mut made);
    for id in &made {
        if let Ok(record) = record::load(home, id) {
            remove::remove(home, &record, true, true)?;
        }
    }
    create::remove(home, &network)?;
    seen
}

fn look(home: &Home, network: &str, made: &mut Vec<String>) -> Result<Town> {
    for alias in ["alice", "bob"] {
        let request = Request {
            image: "base".into(),
            command: vec!["sleep".into(), "60".into()],
            name: Some(format!("{alias}-{}", std::process::id())),
            remove: true,
            hostname: Some(alias.into()),
            network: NetworkMode::Own,
            attachments: vec![Attachment { network: network.into(), aliases: vec![alias.into()], ..Attachment::default() }],
            ..Request::default()
        };
        made.push(run::run(home, &request, None, &mut |_| {})?.id);
    }
    let (alice, bob) = (record::load(home, &made[0])?, live::of_container(home, &made[1])?);
    let pid = alice.state.init.map_or(0, |init| init.pid);
    let server = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 11).into(), 53);
    let found: Option<Vec<IpAddr>> = proof::inside(pid, || proof::resolve(server, "bob", PATIENCE))?;
    let address = bob.first().and_then(|endpoint| endpoint.ipv4()).map(|cidr| cidr.address);
    let (Some(address), Some(found)) = (address, found) else {
        return Err(Error::invalid("ask for bob's address", "nobody answered"));
    };
    let said = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let (outcome, took) = proof::inside(pid, || proof::send(SocketAddr::new(address, 7), Protocol::Tcp, PATIENCE))?;
    let arrives = match outcome {
        proof::Outcome::Answered | proof::Outcome::Refused => "arrives at",
        _ => "does not arrive at",
    };
    Ok(Town {
        name: format!("alice asks 127.0.0.11, its monitor: bob is {said}"),
        packet: format!("a packet from alice {arrives} {address}, in {:.1} ms", took.as_secs_f64() * 1000.0),
        map: network_map::text_of(&gather::gather(home, &[network::find(home, network)?.id])?),
    })
}
