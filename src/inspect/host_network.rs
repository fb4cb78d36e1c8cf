//! What this machine offers to networks of containers: bridges, pairs of links and rules are tried in a namespace that goes at once.
//!
//! Read: network_namespaces(7), nft(8), Documentation/networking/ip-sysctl.rst.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use nix::unistd::geteuid;

use super::host::{Finding, finding};
use super::network_proof::in_child;
use crate::error::Result;
use crate::network::dns::resolv_conf;
use crate::network::veth::{self, Veth};
use crate::network::{self, Cidr, bridge, conntrack, nat};
use crate::sys::namespace::{CLONE_NEWNET, CLONE_NEWUSER};
use crate::sys::netlink;

/// All findings about networks, in the order in which a container needs them.
pub fn findings() -> Vec<Finding> {
    let tried = in_child(if geteuid().is_root() { CLONE_NEWNET } else { CLONE_NEWUSER | CLONE_NEWNET }, || Ok(try_all()));
    let mut all: Vec<Finding> = match tried {
        Ok(tried) => TRIES.iter().zip(tried).map(|(one, failure)| tried_one(one, failure)).collect(),
        Err(e) => TRIES.iter().map(|one| tried_one(one, Some(e.one_line()))).collect(),
    };
    all.push(forwarding());
    all.extend(others());
    all.push(resolver());
    all
}

/// What is tried: its name, the attempt, and what to do when it fails.
struct Try(&'static str, fn() -> Result<()>, &'static str);

const TRIES: [Try; 4] = [
    Try("bridges (a network's switch)", try_bridge, "sudo modprobe bridge"),
    Try("veth pairs (a container's cable)", try_veth, "sudo modprobe veth"),
    Try("nf_tables with address translation (ways in and out)", try_rules, "sudo modprobe -a nf_tables nft_chain_nat nft_masq nft_fib_inet nft_ct"),
    Try("connection tracking", try_conntrack, "sudo modprobe -a nf_conntrack nf_conntrack_netlink"),
];

fn try_all() -> Vec<Option<String>> {
    TRIES.iter().map(|one| one.1().err().map(|e| e.one_line())).collect()
}

fn tried_one(one: &Try, failure: Option<String>) -> Finding {
    let yes = failure.is_none();
    finding(one.0, yes, failure.unwrap_or_else(|| "tried: it works".into()), one.2)
}

const LINK: &str = "onggi0";

fn try_bridge() -> Result<()> {
    bridge::ensure(&bridge::Bridge { name: LINK, addresses: &[], mtu: None, mac: None }).map(drop)
}

fn try_veth() -> Result<()> {
    let here = File::open("/proc/thread-self/ns/net").map_err(|e| crate::error::Error::invalid("open our network namespace", e.to_string()))?;
    let host = network::open()?;
    let inside = netlink::open(netlink::NETLINK_ROUTE).map_err(|fact| crate::error::Error::sys("open a netlink socket", fact))?;
    let bridge = network::link::find(&host, LINK)?.map_or(0, |link| link.index);
    let (mac, addresses, gateways) = ([2, 0x42, 0, 0, 0, 2], &[], &[]);
    let cable = Veth { name: "veth0", bridge, inside: "eth0", mac, addresses, gateways, mtu: None, isolated: false };
    veth::connect(&host, &inside, here.as_fd(), &cable)
}

fn try_rules() -> Result<()> {
    let cidrs = [Cidr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 24)];
    nat::ensure("onggi", &nat::Subnet { link: LINK, cidrs: &cidrs, masquerade: true, internal: false, icc: true }).map(drop)
}

fn try_conntrack() -> Result<()> {
    conntrack::forget(&[Ipv4Addr::new(192, 0, 2, 1).into()])
}

fn forwarding() -> Finding {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    let is_on = std::fs::read_to_string(PATH).is_ok_and(|text| text.trim() != "0");
    let may = nix::unistd::access(PATH, nix::unistd::AccessFlags::W_OK).is_ok();
    // An ordinary user's networks have their own, where it can be switched on.
    let seen = match (is_on, may, geteuid().is_root()) {
        (true, ..) => "on",
        (false, true, _) => "off; the first network switches it on",
        (false, false, false) => "off; networks of ordinary users have their own",
        (false, false, true) => "off, and /proc/sys can't be written",
    };
    let yes = is_on || may || !geteuid().is_root();
    finding("forwarding of packets (from containers to the world)", yes, seen, "sysctl -w net.ipv4.ip_forward=1")
}

/// Only who may see the rules is told of them; of an ordinary user's networks they let pass what they let pass of him.
fn others() -> Option<Finding> {
    let chains = nat::dropping_chains().ok().filter(|_| geteuid().is_root())?;
    let legacy = std::fs::read_to_string("/proc/net/ip_tables_names").is_ok_and(|text| text.lines().any(|line| line == "filter"));
    let mut seen = if chains.is_empty() { "no chain drops what it doesn't know".to_string() } else { chains.join(", ") };
    if legacy {
        seen += "; the old iptables has a filter, too: iptables-legacy -S FORWARD";
    }
    let remedies: Vec<String> = chains.iter().map(|chain| nat::remedy(chain, &[LINK, "og-*"])).collect();
    Some(finding("no other firewall drops what containers send", chains.is_empty(), seen, remedies.join("; ")))
}

fn resolver() -> Finding {
    const NAME: &str = "a name server that containers can ask";
    let servers = resolv_conf::host().map(|conf| conf.nameservers).unwrap_or_default();
    let list = servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(" ");
    let on_loopback = |address: &IpAddr| address.to_canonical().is_loopback();
    let seen = match servers.iter().all(|server| on_loopback(&server.address)) {
        _ if servers.is_empty() => "/etc/resolv.conf names none".into(),
        true => format!("{list}, on loopback: the containers' monitors ask it for them"),
        false => list,
    };
    finding(NAME, !servers.is_empty(), seen, "write one into /etc/resolv.conf (nameserver 9.9.9.9), or give containers one: --dns 9.9.9.9")
}
