//! `network create` and `network rm`.
//!
//! Read: docker-network-create(1).

use std::net::{IpAddr, Ipv4Addr};

use super::ground;
use super::live;
use super::network::{self, Driver, Network, Networks, Subnet};
use super::pools;
use crate::engine::events;
use crate::engine::home::Home;
use crate::engine::record;
use crate::error::{Class, Error, Result};
use crate::id;
use crate::network::cidr::Cidr;
use crate::network::{self as net, bridge, link, nat};

/// A network to be.
#[derive(Debug, Default, Clone)]
pub struct Wanted {
    pub name: String,
    pub subnets: Vec<Cidr>,
    /// One for each subnet that shall not have the first of its addresses.
    pub gateways: Vec<IpAddr>,
    pub ranges: Vec<Cidr>,
    /// Name and address: reserved for others.
    pub reserved: Vec<(String, IpAddr)>,
    pub internal: bool,
    pub attachable: bool,
    pub ipv6: bool,
    pub labels: Vec<(String, String)>,
    pub options: Vec<(String, String)>,
}

/// Makes a network, and its bridge, so that what the kernel refuses is said now.
///
/// # Errors
/// Conflict for a name or a subnet that is taken; Invalid for an option or an address outside; Denied without the right to make links.
pub fn create(home: &Home, wanted: &Wanted) -> Result<Network> {
    let doing = || format!("create the network {}", wanted.name);
    check_name(&wanted.name)?;
    let networks = network::lock(home)?;
    let there = network::list(home)?;
    if there.iter().any(|other| other.name == wanted.name) {
        return Err(Error::new(Class::Conflict, doing(), format!("network with name {} already exists", wanted.name)));
    }
    let mut made = Network {
        id: id::random()?,
        name: wanted.name.clone(),
        driver: Driver::Bridge,
        created: network::now(),
        internal: wanted.internal,
        attachable: wanted.attachable,
        icc: true,
        masquerade: true,
        labels: sorted(&wanted.labels),
        options: sorted(&wanted.options),
        ..Network::default()
    };
    made.link = network::link_name(&made.id);
    apply_options(&mut made)?;
    if there.iter().any(|other| other.link == made.link) {
        return Err(Error::new(Class::Conflict, doing(), format!("another network's bridge is called {} already", made.link)));
    }
    made.subnets = subnets(home, wanted, &made.id, &there)?;
    made.ipv6 = made.subnets.iter().any(|subnet| subnet.subnet.address.is_ipv6());
    refuse_strangers_link(home, &made)?;
    networks.save(&made)?;
    // Where there is no ground yet, whoever comes to this network first makes both.
    let ready = ground::present(home).and_then(|ground| ground.map_or(Ok(()), |ground| ground.inside(|| networks_link(home, &made).map(drop))));
    if let Err(e) = ready {
        let _ = remove_link(home, &made);
        networks.forget(&made);
        return Err(e);
    }
    events::network(home, &made, "create", None);
    Ok(made)
}

/// A link that is there is somebody's: it would go when this network is removed.
fn refuse_strangers_link(home: &Home, network: &Network) -> Result<()> {
    let Some(ground) = ground::present(home)? else { return Ok(()) };
    match ground.inside(|| link::find(&net::open()?, &network.link).map(|found| found.is_some()))? {
        false => Ok(()),
        true => {
            let why = format!("this machine has a link called {} already, and it is none of our networks'", network.link);
            Err(Error::new(Class::Conflict, format!("create the network {}", network.name), why).hint(format!("ip link show {}", network.link)))
        }
    }
}

/// Sees that a network's bridge is there, with its rules. What is there already costs one look.
///
/// # Errors
/// Denied without CAP_NET_ADMIN; Conflict when another link has its name.
pub fn networks_link(home: &Home, network: &Network) -> Result<u32> {
    let gateways: Vec<Cidr> = network.subnets.iter().map(|s| Cidr { address: s.gateway, prefix: s.subnet.prefix }).collect();
    let index = bridge::ensure(&bridge::Bridge { name: &network.link, addresses: &gateways, mtu: network.mtu, mac: Some(bridge_mac(&network.id)) })?;
    let cidrs: Vec<Cidr> = network.subnets.iter().map(|subnet| subnet.subnet).collect();
    if nat::ensure(&network::table(home), &rules(network, &cidrs))? {
        restore_rules(home)?;
    }
    if !network.internal {
        bridge::forwarding(false)?;
        if network.ipv6 {
            bridge::forwarding(true)?;
        }
    }
    Ok(index)
}

/// A network that somebody is about to join. While it had no bridge the host may have got another way to its range, another engine's bridge
/// for one: the default network moves to another range then.
///
/// # Errors
/// Conflict for a network whose range was chosen when it was made.
pub fn still_free(networks: &Networks, network: Network) -> Result<Network> {
    let home = networks.home;
    // An ordinary user's bridges are where nobody else makes any.
    if home.rootless || link::find(&net::open()?, &network.link)?.is_some() || !live::endpoints(home, &network.id)?.is_empty() {
        return Ok(network);
    }
    let overlap = network.subnets.iter().try_for_each(|subnet| pools::refuse_overlap(home, &subnet.subnet, &[]));
    match overlap {
        Ok(()) => Ok(network),
        Err(e) if e.class != Class::Conflict || !network.is_predefined() => Err(e),
        Err(_) => {
            let others: Vec<Network> = network::list(home)?.into_iter().filter(|other| other.id != network.id).collect();
            let moved = Network { subnets: vec![pools::choose(home, &others)?], ..network };
            networks.save(&moved).map(|()| moved)
        }
    }
}

/// Somebody has flushed our rules (`nft flush ruleset`): those of all networks in use, and their ports, come back.
fn restore_rules(home: &Home) -> Result<()> {
    let table = network::table(home);
    for id in live::networks_with_endpoints(home)? {
        let Ok(network) = network::load(home, &id) else { continue };
        let cidrs: Vec<Cidr> = network.subnets.iter().map(|subnet| subnet.subnet).collect();
        nat::ensure(&table, &rules(&network, &cidrs))?;
        let published: Vec<_> = live::endpoints(home, &id)?.into_iter().flat_map(|endpoint| endpoint.published).collect();
        if !published.is_empty() {
            nat::publish(&table, &published)?;
        }
    }
    Ok(())
}

fn rules<'a>(network: &'a Network, cidrs: &'a [Cidr]) -> nat::Subnet<'a> {
    nat::Subnet { link: &network.link, cidrs, masquerade: network.masquerade, internal: network.internal, icc: network.icc }
}

/// A bridge's MAC is its own and stays, else it would be the lowest of its ports' and change with them.
fn bridge_mac(id: &str) -> [u8; 6] {
    let byte = |at: usize| u8::from_str_radix(id.get(at..at + 2).unwrap_or("0"), 16).unwrap_or(0);
    [0x02, 0x42, byte(0), byte(2), byte(4), byte(6)]
}

/// Removes a network that nobody uses.
///
/// # Errors
/// Conflict when somebody is on it, whom it names; Denied for one that is always there.
pub fn remove(home: &Home, network: &Network) -> Result<()> {
    let doing = || format!("remove the network {}", network.name);
    if network.is_predefined() {
        return Err(Error::new(Class::Denied, doing(), format!("{} is a pre-defined network and cannot be removed", network.name)));
    }
    let networks = network::lock(home)?;
    remove_held(&networks, network)?;
    events::network(home, network, "destroy", None);
    Ok(())
}

fn remove_held(networks: &Networks, network: &Network) -> Result<()> {
    let home = networks.home;
    let there = live::endpoints(home, &network.id)?;
    if !there.is_empty() {
        let names: Vec<&str> = there.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let why = format!("network {} has active endpoints ({})", network.name, names.join(", "));
        return Err(Error::new(Class::Conflict, format!("remove the network {}", network.name), why)
            .hint(format!("onggi network disconnect {} {}", network.name, names[0])));
    }
    remove_link(home, network)?;
    let _ = std::fs::remove_file(live::file(home, &network.id));
    networks.forget(network);
    Ok(())
}

fn remove_link(home: &Home, network: &Network) -> Result<()> {
    let Some(ground) = ground::present(home)? else { return Ok(()) };
    ground.inside(|| {
        let cidrs: Vec<Cidr> = network.subnets.iter().map(|subnet| subnet.subnet).collect();
        bridge::remove(&network.link)?;
        nat::remove_network(&network::table(home), &rules(network, &cidrs))
    })
}

/// Whether a container, running or not, is to be on this network.
///
/// # Errors
/// EACCES.
pub fn has_containers(home: &Home, network: &Network) -> Result<bool> {
    Ok(record::list(home, true)?.iter().any(|record| record.networks.iter().any(|a| a.network == network.id)))
}

fn check_name(name: &str) -> Result<()> {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if name.is_empty() || !letters || !name.as_bytes()[0].is_ascii_alphanumeric() || name.len() > 128 {
        let why = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most 128";
        return Err(Error::invalid(format!("create the network {name:?}"), why));
    }
    match network::is_predefined(name) || name == "container" || name == "default" {
        true => {
            Err(Error::new(Class::Denied, format!("create the network {name}"), format!("operation is not permitted on predefined {name} network")))
        }
        false => Ok(()),
    }
}

fn subnets(home: &Home, wanted: &Wanted, id: &str, there: &[Network]) -> Result<Vec<Subnet>> {
    let mut subnets: Vec<Subnet> = Vec::new();
    for cidr in &wanted.subnets {
        let subnet = Cidr::new(cidr.network(), cidr.prefix);
        let doing = || format!("use the subnet {cidr}");
        let most = if subnet.address.is_ipv4() { 30 } else { 126 };
        if subnet.prefix > most || subnet.prefix == 0 {
            return Err(Error::invalid(
                doing(),
                format!("its prefix must be between 1 and {most}: there must be room for a gateway and a container"),
            ));
        }
        if let Some(twice) = subnets.iter().find(|other| other.subnet.overlaps(&subnet)) {
            return Err(Error::invalid(doing(), format!("it overlaps with {}, which this network has already", twice.subnet)));
        }
        pools::refuse_overlap(home, &subnet, there)?;
        let gateway = wanted.gateways.iter().copied().find(|gateway| subnet.contains(*gateway)).unwrap_or_else(|| pools::first_host(&subnet));
        let range = wanted.ranges.iter().copied().find(|range| subnet.overlaps(range)).map(|range| Cidr::new(range.network(), range.prefix));
        let reserved = wanted.reserved.iter().filter(|(_, address)| subnet.contains(*address)).cloned().collect();
        subnets.push(Subnet { subnet, gateway, range, reserved });
    }
    if !subnets.iter().any(|subnet| subnet.subnet.address.is_ipv4()) {
        subnets.insert(0, pools::choose(home, there)?);
    }
    if wanted.ipv6 && !subnets.iter().any(|subnet| subnet.subnet.address.is_ipv6()) {
        subnets.push(pools::unique_local(id));
    }
    refuse_strays(wanted, &subnets)?;
    Ok(subnets)
}

/// A gateway, range or reserved address belongs into a subnet.
fn refuse_strays(wanted: &Wanted, subnets: &[Subnet]) -> Result<()> {
    let inside = |address: IpAddr| subnets.iter().any(|subnet| subnet.subnet.contains(address));
    let doing = || format!("create the network {}", wanted.name);
    if let Some(gateway) = wanted.gateways.iter().find(|gateway| !wanted.subnets.iter().any(|subnet| subnet.contains(**gateway))) {
        return Err(Error::invalid(doing(), format!("no matching subnet for gateway {gateway}")));
    }
    let lies_within = |range: &Cidr| subnets.iter().any(|s| s.subnet.contains(range.network()) && s.subnet.prefix <= range.prefix);
    if let Some(range) = wanted.ranges.iter().find(|range| !lies_within(range)) {
        return Err(Error::invalid(doing(), format!("no matching subnet for range {range}")));
    }
    match wanted.reserved.iter().find(|(_, address)| !inside(*address)) {
        Some((name, address)) => Err(Error::invalid(doing(), format!("no matching subnet for aux-address {name}={address}"))),
        None => Ok(()),
    }
}

/// The options of Docker's bridge driver, and their short forms.
fn apply_options(network: &mut Network) -> Result<()> {
    for (key, value) in network.options.clone() {
        let doing = || format!("use the option {key}={value}");
        let truth = || value.parse::<bool>().map_err(|_| Error::invalid(doing(), "it must be true or false"));
        match key.as_str() {
            "com.docker.network.driver.mtu" | "mtu" => {
                let mtu = value.parse().ok().filter(|mtu| (68..=65535).contains(mtu));
                network.mtu = Some(mtu.ok_or_else(|| Error::invalid(doing(), "an MTU is a number of bytes from 68 to 65535"))?);
            }
            "com.docker.network.bridge.name" => {
                let fits =
                    (1..16).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic() && b != b'/') && value != "." && value != "..";
                if !fits {
                    return Err(Error::invalid(doing(), "a link's name has 1 to 15 letters, and no slash or space"));
                }
                network.link = value;
            }
            "com.docker.network.bridge.enable_icc" | "icc" => network.icc = truth()?,
            "com.docker.network.bridge.enable_ip_masquerade" => network.masquerade = truth()?,
            "com.docker.network.bridge.host_binding_ipv4" => {
                let address = value.parse::<Ipv4Addr>().map_err(|_| Error::invalid(doing(), "it must be an IPv4 address of this host"))?;
                network.publish_at = Some(address.into());
            }
            _ => {
                let known = "com.docker.network.driver.mtu, and com.docker.network.bridge.{name,enable_icc,enable_ip_masquerade,host_binding_ipv4}";
                return Err(Error::invalid(doing(), format!("unknown option; known are {known}")));
            }
        }
    }
    Ok(())
}

fn sorted(pairs: &[(String, String)]) -> Vec<(String, String)> {
    let sorted: std::collections::BTreeMap<String, String> = pairs.iter().cloned().collect();
    sorted.into_iter().collect()
}
