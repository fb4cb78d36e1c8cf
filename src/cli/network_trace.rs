//! `onggi network trace`: what lies between two containers, hop by hop, and where a packet would stop; then one is sent to prove it.
//!
//! Read: ip-route(8), bridge(8), nft(8), resolv.conf(5); <https://wiki.nftables.org>, "Netfilter hooks".

mod arrival;
mod hops;
mod names;
mod world;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use colored::Colorize;
use serde::{Deserialize, Serialize};

use super::oci::{print_json, quiet_pipe};
use crate::engine::home::Home;
use crate::engine::networks::ground;
use crate::error::{Class, Error, Result};
use crate::inspect::network as facts;
use crate::inspect::network_proof::{self as proof, Outcome};
use crate::network::link::mac_text;
use crate::network::ports::Protocol;
use world::World;

#[derive(Debug, Args)]
pub struct TraceArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// The container that sends
    #[arg(value_name = "CONTAINER")]
    from: String,
    /// To whom: a container's name or alias, an address, host, a name in the world; with a port: db:5432, dns:53/udp
    #[arg(value_name = "TO[:PORT][/udp]")]
    to: String,
}

/// What stands between the two, one after the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// `name`, `route`, `cable`, `bridge`, `rule`, `nat`, `host`, `filter`, `listener`.
    pub name: String,
    pub answer: Answer,
    pub seen: String,
    /// The command that shows the same.
    pub see: String,
    /// What helps; empty when nothing is wrong.
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Passes,
    Stops,
    /// Somebody else's rules decide.
    Unknown,
    /// It arrives, and nobody listens.
    Nobody,
}

impl Hop {
    pub fn new(name: &str, seen: impl Into<String>, see: impl Into<String>) -> Hop {
        Hop { name: name.into(), answer: Answer::Passes, seen: seen.into(), see: see.into(), remedy: String::new() }
    }

    pub fn stops(self, remedy: impl Into<String>) -> Hop {
        Hop { answer: Answer::Stops, remedy: remedy.into(), ..self }
    }

    pub fn unknown(self, remedy: impl Into<String>) -> Hop {
        Hop { answer: Answer::Unknown, remedy: remedy.into(), ..self }
    }
}

/// A destination as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub port: Option<u16>,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    from: String,
    to: String,
    /// What the name stands for.
    address: Option<SocketAddr>,
    protocol: Protocol,
    hops: Vec<Hop>,
    proof: Option<Proof>,
    prediction: Answer,
    /// It got there, by the name that was given.
    arrives: bool,
    /// None: nothing was predicted, or nothing could be sent.
    agree: Option<bool>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Proof {
    #[serde(flatten)]
    outcome: Outcome,
    microseconds: u64,
    /// Who stands behind the next hop's address, as the sender's kernel has learned it.
    neighbour: Option<(IpAddr, Option<String>)>,
}

/// So long an answer is waited for: on one machine it takes microseconds, but a neighbour who was silent before is asked again only once a
/// second (arp(7), retrans_time).
const PATIENCE: Duration = Duration::from_secs(2);

/// Traces: 0 when the packet arrives (also where nobody listens), 1 when not.
///
/// # Errors
/// NotFound for the sender; Conflict when it doesn't run; Invalid for a destination that is none.
pub fn trace(args: &TraceArgs) -> Result<u8> {
    let home = Home::open()?;
    let target = parse(&args.to)?;
    let world = World::gather(&home, &args.from)?;
    let (address, mut hops) = names::resolve(&world, &target)?;
    let (mut sent_to, mut proof) = (None, None);
    if let Some(address) = address {
        let ground = ground::present(&home)?.ok_or_else(|| no_ground(&world))?;
        let walked = ground.inside(|| hops::walk(&world, address, target.port, target.protocol))?;
        let to = SocketAddr::new(address, walked.port);
        hops.extend(walked.hops);
        proof = Some(prove(&world, to, target.protocol, walked.next)?);
        sent_to = Some(to);
    }
    let trace = judge(&world, args, &target, sent_to, hops, proof);
    if args.json {
        print_json(&trace)?
    } else {
        tell(&trace).or_else(quiet_pipe)?
    }
    Ok(u8::from(!trace.arrives))
}

/// `db`, `db:5432`, `172.30.0.3:53/udp`, `[fd00::2]:80`.
fn parse(text: &str) -> Result<Target> {
    let wrong = |why: &str| Error::invalid(format!("trace to {text:?}"), why).hint("db, db:5432, 172.30.0.3:53/udp, [fd00::2]:80, host:8080");
    let (place, protocol) = match text.rsplit_once('/') {
        None => (text, Protocol::Tcp),
        Some((place, "tcp")) => (place, Protocol::Tcp),
        Some((place, "udp")) => (place, Protocol::Udp),
        Some(_) => return Err(wrong("behind the slash stands tcp or udp")),
    };
    let bare_v6 = place.parse::<std::net::Ipv6Addr>().is_ok();
    let (name, port) = match place.rsplit_once(':').filter(|_| !bare_v6 && !place.ends_with(']')) {
        None => (place, None),
        Some((name, port)) => {
            (name, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("behind the colon stands a port from 1 to 65535"))?))
        }
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(wrong("it names nobody"));
    }
    Ok(Target { name: name.into(), port, protocol })
}

fn prove(world: &World, to: SocketAddr, protocol: Protocol, next: Option<IpAddr>) -> Result<Proof> {
    let (outcome, took) = proof::inside(world.pid, || proof::send(to, protocol, PATIENCE))?;
    let ground = ground::present(world.home)?.ok_or_else(|| no_ground(world))?;
    let learned = ground.inside(|| Ok(facts::of(world.pid)?.neighbours)).unwrap_or_default();
    let mac = |next: IpAddr| learned.iter().find(|neighbour| neighbour.address == next).and_then(|neighbour| neighbour.mac).map(mac_text);
    Ok(Proof { outcome, microseconds: took.as_micros() as u64, neighbour: next.map(|next| (next, mac(next))) })
}

/// An ordinary user's networks are made with the first container on one.
fn no_ground(world: &World) -> Error {
    let why = "this user has no networks yet";
    Error::new(Class::NotFound, format!("trace from {}", world.from.name), why).hint("onggi network create app")
}

fn judge(world: &World, args: &TraceArgs, target: &Target, address: Option<SocketAddr>, hops: Vec<Hop>, proof: Option<Proof>) -> Trace {
    let named = !hops.iter().any(|hop| hop.name == "name" && hop.answer == Answer::Stops);
    let way: Vec<Answer> = hops.iter().filter(|hop| hop.name != "name").map(|hop| hop.answer).collect();
    let worst = |answer| way.contains(&answer).then_some(answer);
    let prediction = worst(Answer::Stops).or(worst(Answer::Unknown)).or(worst(Answer::Nobody)).unwrap_or(Answer::Passes);
    let arrived = proof.as_ref().is_some_and(|proof| match &proof.outcome {
        Outcome::Answered | Outcome::Refused => true,
        // Over UDP silence is an answer, too: of a program that takes the datagram, or of a rule that drops it.
        Outcome::Silence => {
            target.protocol == Protocol::Udp && prediction != Answer::Stops && proof.neighbour.as_ref().is_none_or(|(_, mac)| mac.is_some())
        }
        Outcome::Failed { .. } => false,
    });
    let agree = proof.as_ref().filter(|_| prediction != Answer::Unknown).map(|_| arrived == (prediction != Answer::Stops));
    let prediction = if address.is_none() { Answer::Stops } else { prediction };
    let (from, to) = (world.from.name.clone(), args.to.clone());
    Trace { from, to, address, protocol: target.protocol, hops, proof, prediction, arrives: named && arrived, agree }
}

fn tell(trace: &Trace) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let address = trace.address.map_or_else(String::new, |address| format!("  ({address}/{})", trace.protocol));
    writeln!(out, "{}{address}\n", format!("{} → {}", trace.from, trace.to).bold())?;
    for hop in &trace.hops {
        let sign = match hop.answer {
            Answer::Passes => "✓".green(),
            Answer::Stops => "✗".red().bold(),
            Answer::Unknown => "?".yellow(),
            Answer::Nobody => "○".yellow(),
        };
        writeln!(out, "{sign} {:<9} {}", hop.name, hop.seen)?;
        if !hop.see.is_empty() {
            writeln!(out, "            {}", format!("see: {}", hop.see).dimmed())?;
        }
        if !hop.remedy.is_empty() {
            writeln!(out, "            {}", format!("→ {}", hop.remedy).yellow())?;
        }
    }
    writeln!(out, "\nprediction  {}", predicted(trace))?;
    if let Some(proof) = &trace.proof {
        writeln!(out, "proof       {}", proved(trace, proof))?;
    }
    match trace.agree {
        Some(true) => writeln!(out, "            both agree"),
        Some(false) => writeln!(out, "            {}", format!("they do not agree: {}", suspicion(trace)).yellow()),
        None => Ok(()),
    }
}

fn predicted(trace: &Trace) -> String {
    let stop = trace.hops.iter().rfind(|hop| hop.answer == Answer::Stops);
    let by_name = trace.hops.iter().any(|hop| hop.name == "name" && hop.answer == Answer::Stops);
    match (trace.prediction, by_name) {
        (Answer::Stops, true) if trace.address.is_none() => "it goes nowhere: the name leads to no address".into(),
        (Answer::Stops, true) => format!("by its name it goes nowhere; by its address it stops at the {}", stop.map_or("name", |hop| &hop.name)),
        (Answer::Stops, _) => format!("it stops at the {}", stop.map_or("name", |hop| &hop.name)),
        (_, true) => "by its name it goes nowhere; to its address it would get through".into(),
        (Answer::Passes, _) => "it arrives".into(),
        (Answer::Nobody, _) => "it arrives, and nobody listens".into(),
        (Answer::Unknown, _) => "others' rules decide".into(),
    }
}

fn proved(trace: &Trace, proof: &Proof) -> String {
    let time = format!("{:.1} ms", proof.microseconds as f64 / 1000.0);
    let said = match (&proof.outcome, trace.protocol) {
        (Outcome::Answered, Protocol::Tcp) => format!("connected from inside {} in {time}", trace.from),
        (Outcome::Answered, Protocol::Udp) => format!("answered in {time}"),
        (Outcome::Refused, _) => format!("refused in {time}: it arrives, nobody listens"),
        (Outcome::Silence, Protocol::Tcp) => format!("no answer within {time}"),
        (Outcome::Silence, Protocol::Udp) => format!("no answer within {time}, and no refusal: over UDP both is possible"),
        (Outcome::Failed { errno }, _) => format!("{errno} after {time}"),
    };
    match &proof.neighbour {
        None => said,
        Some((address, Some(mac))) => format!("{said}; {address} is {mac}"),
        Some((address, None)) => format!("{said}; nobody says to be {address}"),
    }
}

fn suspicion(trace: &Trace) -> &'static str {
    match trace.proof.as_ref().and_then(|proof| proof.neighbour.as_ref()) {
        _ if trace.arrives => "something lets it pass that was not seen",
        Some((_, Some(_))) => "it gets as far as the next hop; rules that are not ours, or the program itself, keep it there (nft monitor trace)",
        _ => "the next hop does not answer to its address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_as_people_write_them() {
        let read = |text: &str| parse(text).map(|target| (target.name, target.port, target.protocol)).ok();
        assert_eq!(read("db"), Some(("db".into(), None, Protocol::Tcp)));
        assert_eq!(read("db:53/udp"), Some(("db".into(), Some(53), Protocol::Udp)));
        assert_eq!(read("fd00::2"), Some(("fd00::2".into(), None, Protocol::Tcp)));
        assert_eq!(read("[fd00::2]:80/tcp"), Some(("fd00::2".into(), Some(80), Protocol::Tcp)));
        assert_eq!(read("[fd00::2]"), Some(("fd00::2".into(), None, Protocol::Tcp)));
        for wrong in ["", ":80", "db:0", "db:x", "db:70000", "db:80/sctp", "a b"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
