//! Who is on a network now: its endpoints, each with the address that it holds. The file is the pool of addresses and the list of names
//! in one: an address that stands in it is taken, a name that stands in it resolves.
//!
//! The file is replaced as a whole; a monitor that answers questions for names sees by its inode that it is another one.
//!
//! See it: `cat /run/onggi/networks/*.json`.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::network::{self, Network, Networks, Subnet};
use crate::engine::home::Home;
use crate::engine::record;
use crate::engine::request::Attachment;
use crate::error::{Class, Doing, Error, Result};
use crate::id;
use crate::network::cidr::Cidr;
use crate::network::nat::Published;

/// A container's place on one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub id: String,
    /// The container's ID.
    pub container: String,
    pub network: String,
    pub network_name: String,
    /// The container's name.
    pub name: String,
    /// Other names for it on this network: aliases, its short ID, its host name.
    pub aliases: Vec<String>,
    /// With the length of the subnet's prefix.
    pub addresses: Vec<Cidr>,
    pub gateways: Vec<IpAddr>,
    pub mac: String,
    /// The end of its pair of links on the host's side.
    pub link: String,
    /// The end inside: eth0.
    pub inside: String,
    /// Ports of the host that lead here.
    #[serde(default)]
    pub published: Vec<Published>,
}

impl Endpoint {
    pub fn ipv4(&self) -> Option<Cidr> {
        self.addresses.iter().copied().find(|cidr| cidr.address.is_ipv4())
    }

    pub fn ipv6(&self) -> Option<Cidr> {
        self.addresses.iter().copied().find(|cidr| cidr.address.is_ipv6())
    }

    pub fn mac_bytes(&self) -> [u8; 6] {
        let mut bytes = [0; 6];
        for (byte, hex) in bytes.iter_mut().zip(self.mac.split(':')) {
            *byte = u8::from_str_radix(hex, 16).unwrap_or(0);
        }
        bytes
    }
}

/// The file of a network's endpoints.
pub fn file(home: &Home, network: &str) -> PathBuf {
    home.run.join("networks").join(format!("{network}.json"))
}

/// The endpoints of a network; nobody when there is no file.
///
/// # Errors
/// EACCES; Invalid for a damaged file.
pub fn endpoints(home: &Home, network: &str) -> Result<Vec<Endpoint>> {
    let file = file(home, network);
    match std::fs::read(&file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        text => {
            let text = text.doing(|| format!("read {}", file.display()))?;
            serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("read {}", file.display()), e.to_string()))
        }
    }
}

/// The endpoints of a container on all networks.
///
/// # Errors
/// EACCES.
pub fn of_container(home: &Home, container: &str) -> Result<Vec<Endpoint>> {
    let mut found = Vec::new();
    for network in networks_with_endpoints(home)? {
        found.extend(endpoints(home, &network)?.into_iter().filter(|endpoint| endpoint.container == container));
    }
    found.sort_by(|a, b| a.inside.cmp(&b.inside));
    Ok(found)
}

/// Gives a container another name on all networks.
///
/// # Errors
/// ENOSPC.
pub fn rename(home: &Home, container: &str, new: &str) -> Result<()> {
    if of_container(home, container)?.is_empty() {
        return Ok(());
    }
    let networks = network::lock(home)?;
    for endpoint in of_container(home, container)? {
        networks.change_endpoints(&endpoint.network, |there| {
            there.iter_mut().filter(|other| other.container == container).for_each(|other| other.name = new.into());
        })?;
    }
    Ok(())
}

/// The IDs of networks that somebody is, or was, on since the machine's start.
///
/// # Errors
/// EACCES.
pub fn networks_with_endpoints(home: &Home) -> Result<Vec<String>> {
    let dir = home.run.join("networks");
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(|| format!("read {}", dir.display()))?,
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter_map(|name| name.strip_suffix(".json").map(str::to_string)).collect())
}

impl Networks<'_> {
    /// Writes down who is on a network from now on.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn change_endpoints(&self, network: &str, change: impl FnOnce(&mut Vec<Endpoint>)) -> Result<()> {
        let mut there = endpoints(self.home, network)?;
        change(&mut there);
        record::write_json(&file(self.home, network), &there)
    }

    /// A place on a network for a container, not written down yet: its addresses are free, its links have names.
    ///
    /// # Errors
    /// Conflict for an address that is taken or when all are; Invalid for one outside of the subnets.
    pub fn place(&self, network: &Network, who: &Who, wanted: &Attachment, inside: &str) -> Result<Endpoint> {
        let there = endpoints(self.home, &network.id)?;
        let mut addresses = Vec::new();
        for subnet in &network.subnets {
            let asked = if subnet.subnet.address.is_ipv4() { wanted.ip.map(IpAddr::V4) } else { wanted.ip6.map(IpAddr::V6) };
            addresses.push(Cidr { address: address(network, subnet, &there, asked)?, prefix: subnet.subnet.prefix });
        }
        refuse_addresses_without_subnet(network, wanted)?;
        let mac = wanted.mac.clone().unwrap_or_else(|| mac_of(&addresses));
        let mut aliases = wanted.aliases.clone();
        aliases.push(id::short(who.id).into());
        aliases.extend(who.hostname.filter(|hostname| *hostname != who.name).map(str::to_string));
        let mut seen = HashSet::new();
        aliases.retain(|alias| seen.insert(alias.clone()));
        let end = id::random()?;
        Ok(Endpoint {
            link: format!("veth{}", &end[..7]),
            id: end,
            container: who.id.into(),
            network: network.id.clone(),
            network_name: network.name.clone(),
            name: who.name.into(),
            aliases,
            addresses,
            gateways: if network.internal { Vec::new() } else { network.subnets.iter().map(|subnet| subnet.gateway).collect() },
            mac,
            inside: inside.into(),
            published: Vec::new(),
        })
    }
}

/// Whose endpoint it shall be.
pub struct Who<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub hostname: Option<&'a str>,
}

fn refuse_addresses_without_subnet(network: &Network, wanted: &Attachment) -> Result<()> {
    let has = |v4: bool| network.subnets.iter().any(|subnet| subnet.subnet.address.is_ipv4() == v4);
    let lost = wanted.ip.map(IpAddr::V4).filter(|_| !has(true)).or(wanted.ip6.map(IpAddr::V6).filter(|_| !has(false)));
    match lost {
        None => Ok(()),
        Some(address) => {
            let why = format!("no configured subnet contains IP address {address}");
            Err(Error::invalid(format!("join the network {}", network.name), why))
        }
    }
}

/// The address that was asked for, or the lowest that is free.
fn address(network: &Network, subnet: &Subnet, there: &[Endpoint], asked: Option<IpAddr>) -> Result<IpAddr> {
    let doing = || format!("join the network {}", network.name);
    let holder = |address: IpAddr| there.iter().find(|endpoint| endpoint.addresses.iter().any(|cidr| cidr.address == address));
    if let Some(address) = asked {
        if !subnet.subnet.contains(address) {
            return Err(Error::invalid(doing(), format!("no configured subnet contains IP address {address}: it is {}", subnet.subnet)));
        }
        let holder = match address {
            address if address == subnet.gateway => Some("the gateway".to_string()),
            address if is_border(&subnet.subnet, address) => Some("the whole subnet".to_string()),
            address => holder(address).map(|endpoint| format!("container {}", endpoint.name)),
        };
        return match holder {
            Some(holder) => Err(Error::new(Class::Conflict, doing(), format!("address {address} is already in use by {holder}"))),
            None => Ok(address),
        };
    }
    let mut taken: HashSet<IpAddr> = there.iter().flat_map(|endpoint| &endpoint.addresses).map(|cidr| cidr.address).collect();
    taken.insert(subnet.gateway);
    taken.extend(subnet.reserved.iter().map(|(_, address)| *address));
    let range = subnet.range.unwrap_or(subnet.subnet);
    // One more than there are holders is enough to look at, beside the subnet's first and last.
    let candidates = hosts(&range).take(taken.len() + 3);
    candidates.into_iter().find(|address| !taken.contains(address) && !is_border(&subnet.subnet, *address)).ok_or_else(|| {
        let why = format!("no available IPv4 addresses on this network's address pools: all of {range} are in use");
        let why = if range.address.is_ipv4() { why } else { why.replace("IPv4", "IPv6") };
        Error::new(Class::Conflict, doing(), why).hint("remove containers from it, or make a larger one: onggi network create --subnet …")
    })
}

/// The network's own address, and in IPv4 the one that means all.
fn is_border(subnet: &Cidr, address: IpAddr) -> bool {
    let last = (subnet.address.is_ipv4() && subnet.prefix < 31).then(|| subnet.broadcast());
    let first = (subnet.prefix < if subnet.address.is_ipv4() { 31 } else { 127 }).then(|| subnet.network());
    first == Some(address) || last == Some(address)
}

/// All addresses of a range, the lowest first.
fn hosts(range: &Cidr) -> impl Iterator<Item = IpAddr> + use<> {
    let (first, bits) = match range.network() {
        IpAddr::V4(first) => (u128::from(u32::from(first)), 32 - u32::from(range.prefix)),
        IpAddr::V6(first) => (u128::from(first), 128 - u32::from(range.prefix)),
    };
    let is_v4 = range.address.is_ipv4();
    let count = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
    (0..count).map(move |n| match is_v4 {
        true => IpAddr::V4(Ipv4Addr::from((first + n) as u32)),
        false => IpAddr::V6(Ipv6Addr::from(first + n)),
    })
}

/// The same address has the same MAC each time, so that what its neighbours remember (ARP) stays true when another container gets it.
fn mac_of(addresses: &[Cidr]) -> String {
    let bytes = match addresses.first().map(|cidr| cidr.address) {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => {
            let octets = address.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
        None => [0; 4],
    };
    format!("02:42:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(subnet: &str, gateway: &str, range: Option<&str>) -> Network {
        let subnet = Subnet {
            subnet: subnet.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            range: range.map(|r| r.parse().unwrap()),
            reserved: Vec::new(),
        };
        Network { name: "n".into(), subnets: vec![subnet], ..Network::default() }
    }

    fn holder(address: &str) -> Endpoint {
        Endpoint {
            id: String::new(),
            container: String::new(),
            network: String::new(),
            network_name: String::new(),
            name: "web".into(),
            aliases: Vec::new(),
            addresses: vec![Cidr { address: address.parse().unwrap(), prefix: 24 }],
            gateways: Vec::new(),
            mac: String::new(),
            link: String::new(),
            inside: String::new(),
            published: Vec::new(),
        }
    }

    #[test]
    fn the_lowest_free_address_is_given_and_never_a_border_or_the_gateway() {
        let net = network("10.1.0.0/29", "10.1.0.1", None);
        let mut there = Vec::new();
        let mut given = Vec::new();
        while let Ok(next) = address(&net, &net.subnets[0], &there, None) {
            given.push(next.to_string());
            there.push(holder(&next.to_string()));
        }
        assert_eq!(given, ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]);
        there.remove(1);
        assert_eq!(address(&net, &net.subnets[0], &there, None).unwrap().to_string(), "10.1.0.3");
    }

    #[test]
    fn a_range_bounds_what_is_chosen_but_not_what_is_asked_for() {
        let net = network("10.1.0.0/24", "10.1.0.1", Some("10.1.0.128/30"));
        assert_eq!(address(&net, &net.subnets[0], &[], None).unwrap().to_string(), "10.1.0.128");
        let asked = |text: &str, there: &[Endpoint]| address(&net, &net.subnets[0], there, Some(text.parse().unwrap()));
        assert_eq!(asked("10.1.0.7", &[]).unwrap().to_string(), "10.1.0.7");
        assert!(asked("10.1.0.7", &[holder("10.1.0.7")]).unwrap_err().one_line().contains("web"));
        for wrong in ["10.1.0.1", "10.1.0.0", "10.1.0.255", "10.2.0.1"] {
            assert!(asked(wrong, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ipv6_counts_as_far_as_it_must() {
        let net = network("fd00:1::/64", "fd00:1::1", None);
        assert_eq!(address(&net, &net.subnets[0], &[holder("fd00:1::2")], None).unwrap().to_string(), "fd00:1::3");
        assert_eq!(mac_of(&["172.17.0.2/16".parse().unwrap()]), "02:42:ac:11:00:02");
    }
}
