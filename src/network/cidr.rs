//! An address with the length of its network's prefix: `172.18.0.1/16`, `fd00::1/64`.
//!
//! Read: RFC 4632 (CIDR notation), RFC 4291 section 2.3.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An address and the number of its leading bits that name its network. The prefix never exceeds the address' bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    /// Address and prefix; one that is longer than the address is cut to the address' length.
    pub fn new(address: IpAddr, prefix: u8) -> Cidr {
        Cidr { address, prefix: prefix.min(bits(address)) }
    }

    /// The network's first address, all host bits 0.
    pub fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() & self.mask() as u32).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & self.mask()).into(),
        }
    }

    /// The network's last address, all host bits 1; in IPv4 its broadcast address.
    pub fn broadcast(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() | !(self.mask() as u32)).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() | !self.mask()).into(),
        }
    }

    /// Whether the network holds `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Cidr::new(address, self.prefix).network() == self.network()
    }

    /// Whether some address is in both networks.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        let (wide, narrow) = if self.prefix <= other.prefix { (self, other) } else { (other, self) };
        wide.contains(narrow.address)
    }

    /// The prefix as bits, in the low 32 of them for IPv4.
    fn mask(&self) -> u128 {
        let host = bits(self.address).saturating_sub(self.prefix);
        u128::MAX.checked_shl(host.into()).unwrap_or(0)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Cidr, Error> {
        let wrong = || Error::invalid(format!("read {text:?} as a network"), "it is no address with a prefix, as in 172.18.0.0/16 or fd00::/64");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        // `parse` alone would take "+8".
        let prefix: u8 = prefix.bytes().all(|c| c.is_ascii_digit()).then(|| prefix.parse().ok()).flatten().ok_or_else(wrong)?;
        if prefix > bits(address) { Err(wrong()) } else { Ok(Cidr { address, prefix }) }
    }
}

impl TryFrom<String> for Cidr {
    type Error = Error;

    fn try_from(text: String) -> Result<Cidr, Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn first_and_last_address_of_a_network() {
        for (text, first, last) in [
            ("172.18.0.5/16", "172.18.0.0", "172.18.255.255"),
            ("10.0.0.1/32", "10.0.0.1", "10.0.0.1"),
            ("1.2.3.4/0", "0.0.0.0", "255.255.255.255"),
            ("fd00::5/64", "fd00::", "fd00::ffff:ffff:ffff:ffff"),
            ("::1/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::1/128", "::1", "::1"),
        ] {
            assert_eq!((cidr(text).network().to_string(), cidr(text).broadcast().to_string()), (first.into(), last.into()), "{text}");
            assert_eq!(cidr(text).to_string(), text);
        }
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.1.0.0/16")) && cidr("10.1.0.0/16").overlaps(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.0.0.0/16").overlaps(&cidr("10.1.0.0/16")));
        assert!(!cidr("0.0.0.0/0").overlaps(&cidr("::/0")));
        assert!(cidr("fd00::/64").contains("fd00::1".parse().unwrap()) && !cidr("fd00::/64").contains("fd00:0:0:1::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.1", "10.0.0.1/33", "10.0.0.1/+8", "10.0.0.1/", "10.0.0/8", "fd00::/129", "fd00::/-1", "a/8", "10.0.0.1/8/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
