//! `onggi network`: the networks that there are, and who is on them.
//!
//! Read: docker-network(1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::filter::Filters;
use super::network_map::{self, MapArgs};
use super::network_trace::{self, TraceArgs};
use super::networking::link;
use super::table::{self, Column, Listing};
use super::{each, inspect, prune, say, values};
use crate::engine::home::Home;
use crate::engine::networks::create::{self, Wanted};
use crate::engine::networks::network::{self, Network};
use crate::engine::networks::{connect, describe};
use crate::engine::request::Attachment;
use crate::engine::{names, sweep};
use crate::error::{Class, Error, Result};
use crate::id;
use crate::network::cidr::Cidr;

/// What can be done with networks.
#[derive(Debug, Subcommand)]
pub enum Networks {
    /// List the networks
    #[command(visible_alias = "list", after_help = "Example:\n  onggi network ls --filter driver=bridge")]
    Ls(LsArgs),
    /// Make a network whose containers find each other by name
    #[command(after_help = "Examples:\n  onggi network create front\n  onggi network create --subnet 172.30.0.0/24 --gateway 172.30.0.254 back")]
    Create(CreateArgs),
    /// Show all about networks, and who is on them
    #[command(after_help = "Example:\n  onggi network inspect --format '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{println}}{{end}}' front")]
    Inspect(InspectArgs),
    /// Remove networks that nobody uses
    #[command(visible_alias = "remove", after_help = "Example:\n  onggi network rm front back")]
    Rm(RmArgs),
    /// Put a container on one more network
    #[command(after_help = "Example:\n  onggi network connect --alias db back postgres")]
    Connect(ConnectArgs),
    /// Draw what the kernel has now: bridges, cables, namespaces, addresses, ports, names
    #[command(after_help = "Examples:\n  onggi network map\n  onggi network map -o map.svg front")]
    Map(MapArgs),
    /// Tell hop by hop what lies between two containers, and send a packet to prove it
    #[command(after_help = "Examples:\n  onggi network trace web db:5432\n  onggi network trace web host:53/udp")]
    Trace(TraceArgs),
    /// Take a container off a network
    #[command(after_help = "Example:\n  onggi network disconnect back postgres")]
    Disconnect(DisconnectArgs),
    /// Remove all networks that no container uses
    #[command(after_help = "Example:\n  onggi network prune -f --filter until=24h")]
    Prune(prune::PruneArgs),
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only those that fit: name=, id=, driver=bridge, type=custom|builtin, label=, scope=local, dangling=true
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// How to show them: table, json, 'table TEMPLATE' or a Go template such as '{{.ID}} {{.Name}}'
    #[arg(long, value_name = "FORM")]
    format: Option<String>,
    /// Show whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Print IDs alone
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What carries it: bridge
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge", hide_default_value = true)]
    driver: String,
    /// Its range of addresses: 172.30.0.0/24 (once more for IPv6)
    #[arg(long, value_name = "RANGE")]
    subnet: Vec<Cidr>,
    /// The host's address on it, through which all else is reached
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,
    /// The part of its subnet from which addresses are chosen
    #[arg(long, value_name = "RANGE")]
    ip_range: Vec<Cidr>,
    /// An address to leave to somebody else: router=172.30.0.5
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// Nothing gets in or out
    #[arg(long)]
    internal: bool,
    /// Give it IPv6, too
    #[arg(long)]
    ipv6: bool,
    /// A label to find it by: tier=web
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// com.docker.network.driver.mtu=1400, com.docker.network.bridge.name=br0, ….enable_icc=false, ….enable_ip_masquerade=false
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Accepted: containers can be connected to every network by hand
    #[arg(long)]
    attachable: bool,
    /// How far it reaches: local
    #[arg(long, value_name = "SCOPE", value_parser = ["local"])]
    scope: Option<String>,
    /// Who hands out its addresses: default
    #[arg(long, value_name = "DRIVER", value_parser = ["default"])]
    ipam_driver: Option<String>,
    /// Its name
    name: String,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// How to show it: json, or a Go template
    #[arg(short, long, value_name = "FORM")]
    format: Option<String>,
    /// Accepted: everything is shown anyway
    #[arg(short, long)]
    verbose: bool,
    /// Name, or (the beginning of) its ID
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RmArgs {
    /// One that isn't there is no failure
    #[arg(short, long)]
    force: bool,
    /// Name, or (the beginning of) its ID
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// One more name for it there
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Its IPv4 address there
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address there
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Call another container there by a name of its own: NAME[:ALIAS]
    #[arg(long, value_name = "NAME")]
    link: Vec<String>,
    /// The network with the highest number has the way out
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true, allow_negative_numbers = true)]
    gw_priority: i32,
    /// Network: its name, or (the beginning of) its ID
    network: String,
    /// Container: its name, or (the beginning of) its ID
    container: String,
}

#[derive(Debug, Args)]
pub struct DisconnectArgs {
    /// Also a container that is gone already
    #[arg(short, long)]
    force: bool,
    /// Network: its name, or (the beginning of) its ID
    network: String,
    /// Container: its name, or (the beginning of) its ID
    container: String,
}

/// Does it: the exit code.
///
/// # Errors
/// Those of the verb.
pub fn networks(verb: &Networks) -> Result<u8> {
    match verb {
        Networks::Ls(args) => ls(args),
        Networks::Create(args) => create_one(args),
        Networks::Inspect(args) => inspect_all(args),
        Networks::Rm(args) => rm(args),
        Networks::Connect(args) => connect_one(args),
        Networks::Map(args) => network_map::map(args),
        Networks::Trace(args) => network_trace::trace(args),
        Networks::Disconnect(args) => disconnect_one(args),
        Networks::Prune(args) => prune::networks(args),
    }
}

const COLUMNS: [Column; 4] = [
    Column { header: "NETWORK ID", field: "ID" },
    Column { header: "NAME", field: "Name" },
    Column { header: "DRIVER", field: "Driver" },
    Column { header: "SCOPE", field: "Scope" },
];

const HEADERS: &[(&str, &str)] = &[("CreatedAt", "CREATED AT"), ("Internal", "INTERNAL"), ("IPv4", "IPV4"), ("IPv6", "IPV6"), ("Labels", "LABELS")];

fn ls(args: &LsArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["name", "id", "driver", "type", "label", "scope", "dangling"])?;
    if let Some(wrong) = filters.values("type").iter().find(|value| !matches!(value.as_str(), "custom" | "builtin")) {
        return Err(Error::invalid(format!("use --filter type={wrong}"), "it is neither custom nor builtin"));
    }
    let dangling = filters.switch("dangling")?;
    let home = Home::open()?;
    let mut rows = Vec::new();
    for network in network::list(&home)? {
        let kind = if network.is_predefined() { "builtin" } else { "custom" };
        let labels = network.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let fits = filters.any("name", |text| network.name.contains(text))
            && filters.any("id", |text| network.id.contains(text))
            && filters.any("driver", |text| network.driver.name() == text)
            && filters.any("type", |text| kind == text)
            && filters.any("scope", |text| text == "local")
            && filters.labels(labels);
        if !fits {
            continue;
        }
        let is_dangling = || Ok::<bool, Error>(!network.is_predefined() && !create::has_containers(&home, &network)?);
        if dangling.map_or(Ok(true), |wanted| is_dangling().map(|is| is == wanted))? {
            rows.push(row(&network, args.no_trunc));
        }
    }
    let listing = Listing { columns: COLUMNS.to_vec(), headers: HEADERS, rows };
    table::print(&listing, args.format.as_deref(), args.quiet.then_some("ID")).map(|()| 0)
}

fn row(network: &Network, no_trunc: bool) -> Value {
    let labels: Vec<String> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "ID": if no_trunc { &network.id } else { id::short(&network.id) },
        "Name": network.name,
        "Driver": network.driver.name(),
        "Scope": "local",
        "CreatedAt": network.created,
        "Internal": network.internal.to_string(),
        "IPv4": (network.driver == network::Driver::Bridge).to_string(),
        "IPv6": network.ipv6.to_string(),
        "Labels": labels.join(","),
        "_labels": network.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect::<Map<String, Value>>(),
    })
}

fn create_one(args: &CreateArgs) -> Result<u8> {
    if args.driver != "bridge" {
        let why = format!("driver {:?} is not here: bridge is; host and none are networks that are there already", args.driver);
        return Err(Error::invalid(format!("create the network {}", args.name), why));
    }
    let reserved = args.aux_address.iter().map(|text| {
        let (name, address) = values::required_pair("--aux-address", text)?;
        let address = address.parse().map_err(|_| Error::invalid(format!("use --aux-address {text}"), "it is not NAME=ADDRESS"))?;
        Ok((name, address))
    });
    let wanted = Wanted {
        name: args.name.clone(),
        subnets: args.subnet.clone(),
        gateways: args.gateway.clone(),
        ranges: args.ip_range.clone(),
        reserved: reserved.collect::<Result<_>>()?,
        internal: args.internal,
        attachable: args.attachable,
        ipv6: args.ipv6,
        labels: args.label.iter().map(|text| values::pair(text)).collect(),
        options: args.opt.iter().map(|text| values::required_pair("--opt", text)).collect::<Result<_>>()?,
    };
    say(create::create(&Home::open()?, &wanted)?.id)
}

fn inspect_all(args: &InspectArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let found = args.networks.iter().map(|name| network::find(&home, name).and_then(|network| describe::network(&home, &network)));
    inspect::print(found, args.format.as_deref())
}

fn rm(args: &RmArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    each(&args.networks, |name| match network::find(&home, name) {
        Err(e) if args.force && e.class == Class::NotFound => Ok(0),
        found => {
            create::remove(&home, &found?)?;
            say(name)
        }
    })
}

fn connect_one(args: &ConnectArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let network = network::find(&home, &args.network)?;
    let container = names::find(&home, &args.container)?;
    let links = args.link.iter().map(|text| {
        let (alias, other) = link(text);
        Ok((alias, names::find(&home, &other)?.id))
    });
    let wanted = Attachment {
        aliases: args.alias.clone(),
        ip: args.ip,
        ip6: args.ip6,
        links: links.collect::<Result<_>>()?,
        priority: args.gw_priority,
        ..Attachment::default()
    };
    connect::connect(&home, &network, &container, wanted).map(|()| 0)
}

fn disconnect_one(args: &DisconnectArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let network = network::find(&home, &args.network)?;
    match names::find(&home, &args.container) {
        // What it left there was swept a moment ago.
        Err(e) if args.force && e.class == Class::NotFound => Ok(0),
        found => connect::disconnect(&home, &network, &found?).map(|()| 0),
    }
}
