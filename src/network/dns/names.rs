//! What the networks of one container know: names with their addresses, and addresses with their names.
//!
//! Read: RFC 1035, 3.5 (in-addr.arpa); RFC 3596 (AAAA, ip6.arpa).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{self, A, AAAA, ANY, Answer, PTR, Question};

/// Names and addresses. Case and a dot at the end make no difference.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Names {
    forward: HashMap<String, Vec<IpAddr>>,
    reverse: HashMap<IpAddr, Vec<String>>,
}

impl Names {
    /// No name at all.
    pub fn new() -> Names {
        Names::default()
    }

    /// One more address of `name`, behind those that it has.
    pub fn add(&mut self, name: &str, address: IpAddr) {
        let addresses = self.forward.entry(plain(name)).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    /// One more name of `address`: what a question for its PTR record is answered with.
    pub fn add_reverse(&mut self, address: IpAddr, name: &str) {
        let names = self.reverse.entry(address).or_default();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }

    /// The answer of at most `room` bytes, or `None` when the name isn't one of ours. Each `turn` begins with another address.
    pub fn answer(&self, question: &Question, turn: usize, room: usize) -> Option<Vec<u8>> {
        let name = question.name.as_ref().filter(|_| question.is_internet())?;
        if let Some(addresses) = self.forward.get(name) {
            return Some(answer_addresses(question, addresses, turn, room));
        }
        let names = self.reverse.get(&address_of(name)?)?;
        let mut answer = Answer::new(question, room);
        if question.kind == PTR || question.kind == ANY {
            let _ = names.iter().filter_map(|name| message::labels(name)).all(|labels| answer.add(PTR, &labels));
        }
        Some(answer.finish())
    }
}

/// A name that is known has no error, even without an address of the kind that was asked for: at NXDOMAIN for AAAA, musl would not
/// look at the answer for A.
fn answer_addresses(question: &Question, addresses: &[IpAddr], turn: usize, room: usize) -> Vec<u8> {
    let wanted = |address: &&IpAddr| matches!((question.kind, address), (ANY, _) | (A, IpAddr::V4(_)) | (AAAA, IpAddr::V6(_)));
    let wanted: Vec<&IpAddr> = addresses.iter().filter(wanted).collect();
    let mut answer = Answer::new(question, room);
    let first = turn.checked_rem(wanted.len()).unwrap_or(0);
    let _ = wanted[first..].iter().chain(&wanted[..first]).all(|address| match address {
        IpAddr::V4(address) => answer.add(A, &address.octets()),
        IpAddr::V6(address) => answer.add(AAAA, &address.octets()),
    });
    answer.finish()
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The address that `4.3.2.1.in-addr.arpa` or 32 hexadecimal digits before `.ip6.arpa` stand for.
fn address_of(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let [d, c, b, a] = digits.parse::<Ipv4Addr>().ok()?.octets();
        return Some(Ipv4Addr::new(a, b, c, d).into());
    }
    let digits = name.strip_suffix(".ip6.arpa").filter(|digits| digits.len() == 63)?;
    let number = digits.rsplit('.').try_fold((0u128, 0), |(number, count), digit| {
        let value = u128::from(u8::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?);
        Some((number << 4 | value, count + 1))
    });
    number.filter(|(_, count)| *count == 32).map(|(number, _)| Ipv6Addr::from(number).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_are_addresses() {
        assert_eq!(address_of("4.3.2.10.in-addr.arpa"), Some("10.2.3.4".parse().unwrap()));
        let digits = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(address_of(digits), Some("2001:db8::1".parse().unwrap()));
        for wrong in ["3.2.10.in-addr.arpa", "x.3.2.10.in-addr.arpa", "in-addr.arpa", "1.0.ip6.arpa", &digits.replace("8.b", "8bb")] {
            assert_eq!(address_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn case_and_the_last_dot_make_no_difference() {
        assert_eq!(plain("Web.Shop."), plain("web.shop"));
    }
}
