//! Which sockets wait for others in the network namespace of a process, as the kernel lists them.
//!
//! See it: `nsenter -t PID -n ss -tuln`. Read: proc_pid_net(5) (`tcp`, `tcp6`, `udp`, `udp6`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::{Doing, Result};
use crate::network::ports::Protocol;

/// Where programs listen (TCP) or take datagrams (UDP) in the namespace of this process.
///
/// # Errors
/// NotFound when the process is gone.
pub fn listening(pid: i32, protocol: Protocol) -> Result<Vec<SocketAddr>> {
    let mut all = Vec::new();
    for family in ["", "6"] {
        let path = format!("/proc/{pid}/net/{protocol}{family}");
        match std::fs::read_to_string(&path) {
            // A kernel without IPv6.
            Err(e) if family == "6" && e.kind() == std::io::ErrorKind::NotFound => {}
            text => all.extend(parse(&text.doing(|| format!("read {path}"))?, protocol)),
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// A socket that listens here takes what is sent there. One at `::` takes IPv4, too, unless it says otherwise, which isn't shown.
pub fn takes(listener: &SocketAddr, sent: IpAddr) -> bool {
    let at = listener.ip();
    at == sent || at.is_unspecified() && (at.is_ipv6() || sent.is_ipv4())
}

fn parse(text: &str, protocol: Protocol) -> Vec<SocketAddr> {
    // tcp_states.h: TCP_LISTEN; a UDP socket without a peer is in TCP_CLOSE.
    let waits = if protocol == Protocol::Tcp { "0A" } else { "07" };
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (own, state) = (words.next()?, words.nth(1)?);
        (state == waits).then(|| address(own))?
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// `0100007F:0035`: each word of the address as the machine has it in memory, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':').filter(|(address, _)| matches!(address.len(), 8 | 32))?;
    let words = address.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let address = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_and_others_are_not() {
        let loopback = if cfg!(target_endian = "little") { "0B00007F" } else { "7F00000B" };
        let text = format!(
            "  sl  local_address rem_address   st tx_queue\n   0: {loopback}:0035 00000000:0000 0A 0:0\n   1: {loopback}:1F90 0100007F:0001 01 0:0\n"
        );
        assert_eq!(parse(&text, Protocol::Tcp), ["127.0.0.11:53".parse().unwrap()]);
        assert_eq!(address("00000000000000000000000000000000:0050"), Some("[::]:80".parse().unwrap()));
        for wrong in ["", "1:2", "0000000G:0050", "00000000:zz"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_listener_takes_what_its_address_says() {
        let takes = |at: &str, sent: &str| takes(&at.parse().unwrap(), sent.parse().unwrap());
        assert!(takes("0.0.0.0:80", "172.17.0.2") && takes("[::]:80", "172.17.0.2") && takes("[::]:80", "fd00::2"));
        assert!(!takes("127.0.0.1:80", "172.17.0.2") && !takes("0.0.0.0:80", "fd00::2"));
    }
}
