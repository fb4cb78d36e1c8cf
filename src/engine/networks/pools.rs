//! Which ranges of addresses a new network gets: Docker's, the first that meets nothing the host knows a way to.
//!
//! See it: `ip route`, `onggi network ls`. Read: rtnetlink(7), RFC 1918, RFC 4193.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ground;
use super::network::{Network, Subnet};
use crate::engine::home::Home;
use crate::error::{Class, Error, Result};
use crate::network::cidr::Cidr;

/// A range for a network of which nobody has said where it shall be.
///
/// # Errors
/// Conflict when all are in use.
pub fn choose(home: &Home, networks: &[Network]) -> Result<Subnet> {
    let known = ground::known_ranges(home)?;
    let is_free = |candidate: &Cidr| {
        !known.iter().any(|range| range.overlaps(candidate))
            && !networks.iter().flat_map(|network| &network.subnets).any(|subnet| subnet.subnet.overlaps(candidate))
    };
    match default_pools().find(is_free) {
        Some(subnet) => Ok(Subnet { subnet, gateway: first_host(&subnet), range: None, reserved: Vec::new() }),
        None => {
            let why = "all predefined address pools have been fully subnetted: each is a network's already, or the host has a route to it";
            Err(Error::new(Class::Conflict, "find addresses for the network", why)
                .hint("`onggi network prune` frees those that nobody uses; or choose: --subnet 10.200.0.0/24"))
        }
    }
}

/// Docker's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 and on.
fn default_pools() -> impl Iterator<Item = Cidr> {
    let cidr = |address: [u8; 4], prefix| Cidr { address: IpAddr::V4(Ipv4Addr::from(address)), prefix };
    let large = (17..=31u8).map(move |second| cidr([172, second, 0, 0], 16));
    let small = (0..=15u8).map(move |third| cidr([192, 168, third * 16, 0], 20));
    large.chain(small)
}

/// A range of IPv6 of this network's own (RFC 4193): its forty bits are the first of its ID, which is random.
pub fn unique_local(id: &str) -> Subnet {
    let bits = u64::from_str_radix(id.get(..10).unwrap_or("0"), 16).unwrap_or(0);
    let address = Ipv6Addr::from((0xfdu128 << 120) | (u128::from(bits) << 80));
    let subnet = Cidr { address: IpAddr::V6(address), prefix: 64 };
    Subnet { subnet, gateway: first_host(&subnet), range: None, reserved: Vec::new() }
}

/// The first address behind the network's own: the gateway, where nobody says another.
pub fn first_host(subnet: &Cidr) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from(u32::from(address) + 1)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) + 1)),
    }
}

/// Refuses a range that another network has, or that the host reaches otherwise.
///
/// # Errors
/// Conflict, which names the other.
pub fn refuse_overlap(home: &Home, wanted: &Cidr, networks: &[Network]) -> Result<()> {
    let other = networks.iter().find(|network| network.subnets.iter().any(|subnet| subnet.subnet.overlaps(wanted)));
    if let Some(other) = other {
        let why = format!("Pool overlaps with other one on this address space: network {} has it", other.name);
        return Err(Error::new(Class::Conflict, format!("use the subnet {wanted}"), why));
    }
    if let Some(range) = ground::known_ranges(home)?.iter().find(|range| range.overlaps(wanted)) {
        let why = format!("the host has a route to {range} already: its own traffic would go astray");
        return Err(Error::new(Class::Conflict, format!("use the subnet {wanted}"), why).hint("`ip route` shows what leads there"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_are_dockers_and_meet_nowhere() {
        let all: Vec<Cidr> = default_pools().collect();
        assert_eq!(all.len(), 31);
        assert_eq!((all[0].to_string(), all[15].to_string()), ("172.17.0.0/16".into(), "192.168.0.0/20".into()));
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| !other.overlaps(one)));
        }
        assert_eq!(first_host(&all[0]).to_string(), "172.17.0.1");
    }

    #[test]
    fn an_own_range_of_ipv6_comes_from_the_id() {
        let subnet = unique_local(&"0123456789ab".repeat(6)[..64]);
        assert_eq!((subnet.subnet.to_string(), subnet.gateway.to_string()), ("fd01:2345:6789::/64".into(), "fd01:2345:6789::1".into()));
    }
}
