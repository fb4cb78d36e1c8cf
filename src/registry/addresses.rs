//! Under which addresses others reach this machine.
//!
//! See it: `ip -4 -br address`. Read: getifaddrs(3), netdevice(7).

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// An address of ours, and how many of its bits are the network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Own {
    pub address: Ipv4Addr,
    pub mask: u32,
}

impl Own {
    /// Whether another machine is on this one's own network.
    pub fn is_neighbour(&self, other: Ipv4Addr) -> bool {
        u32::from(self.address) & self.mask == u32::from(other) & self.mask
    }
}

/// The addresses on networks with neighbours; those of bridges of containers, behind which there is no laptop, come last.
pub fn own() -> Vec<Own> {
    let wanted = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_MULTICAST;
    let mut all = Vec::new();
    for interface in getifaddrs().into_iter().flatten().filter(|interface| interface.flags.contains(wanted)) {
        let ip = |address: Option<nix::sys::socket::SockaddrStorage>| address.and_then(|address| Some(address.as_sockaddr_in()?.ip()));
        let (Some(address), Some(mask)) = (ip(interface.address), ip(interface.netmask)) else { continue };
        if !address.is_loopback() {
            let is_bridge = Path::new("/sys/class/net").join(&interface.interface_name).join("bridge").exists();
            all.push((Some(address) != outward(), is_bridge, Own { address, mask: mask.into() }));
        }
    }
    all.sort();
    all.into_iter().map(|(_, _, own)| own).collect()
}

/// The address with which this machine speaks to the world. Nothing is sent: connect(2) of a datagram socket only chooses the way.
fn outward() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    }
}

/// This machine's name, as one label.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let label: String =
        name.split('.').next().unwrap_or_default().chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    if label.is_empty() { "onggi".into() } else { label }
}
