//! The options of `run` and `create` that say how a container is reached and whom it reaches.
//!
//! Read: docker-run(1) `--network`, `--publish`, `--dns`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;

use super::values;
use crate::engine::request::{Attachment, Dns, NetworkMode, Request};
use crate::error::{Error, Result};
use crate::network::ports;

#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Connect it to a network: a name, bridge, host, none, container:NAME; or name=NET,alias=A,ip=… (again and again)
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// One more name for it on its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Its IPv4 address: 172.30.0.10
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address: fd00::10
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Its link's MAC address: 02:42:ac:11:00:02
    #[arg(long, value_name = "MAC", value_parser = mac)]
    mac_address: Option<String>,
    /// Call another container of its network by a name of one's own: NAME[:ALIAS]
    #[arg(long, value_name = "NAME")]
    link: Vec<String>,
    /// Let a port of the host lead to one of its: [ADDRESS:][HOST:]CONTAINER[/udp]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Let a free port of the host lead to each port that its image exposes
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// A port that it offers: 80, 8000-8010, 53/udp
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// A DNS server to ask, instead of the host's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// A domain to search for short names; . for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// An option of resolv.conf(5): ndots:2
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// One more line in /etc/hosts; the address host-gateway is the host's
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
}

/// Puts what was said of networks into the request.
///
/// # Errors
/// Invalid for options that contradict each other.
pub fn fill(args: &NetworkArgs, request: &mut Request) -> Result<()> {
    for text in &args.publish {
        let publish = ports::parse(text).map_err(|why| Error::invalid(format!("use --publish {text}"), why))?;
        request.ports.extend(publish);
    }
    for text in &args.expose {
        request.expose.extend(ports::parse_expose(text).map_err(|why| Error::invalid(format!("use --expose {text}"), why))?);
    }
    request.publish_all = args.publish_all;
    request.dns = Dns { servers: args.dns.clone(), search: args.dns_search.clone(), options: args.dns_option.clone() };
    request.hosts = args.add_host.iter().map(|text| values::host(text)).collect::<Result<_>>()?;
    (request.network, request.attachments) = networks(&args.network)?;
    let is_own = |what: &str, used: bool| match used && request.network != NetworkMode::Own {
        true => Err(conflict(what, &args.network[0])),
        false => Ok(()),
    };
    is_own("--network-alias", !args.network_alias.is_empty())?;
    is_own("--ip", args.ip.is_some() || args.ip6.is_some())?;
    is_own("--link", !args.link.is_empty())?;
    is_own("--mac-address", args.mac_address.is_some())?;
    if let NetworkMode::Container(_) = request.network {
        let shared = [
            ("port publishing", !request.ports.is_empty() || request.publish_all),
            ("--expose", !request.expose.is_empty()),
            ("hostname", request.hostname.is_some()),
            ("custom host-to-IP mapping", !request.hosts.is_empty()),
            ("dns", request.dns != Dns::default()),
        ];
        if let Some((what, _)) = shared.iter().find(|(_, used)| *used) {
            return Err(conflict(what, &args.network[0]));
        }
    }
    if let Some(first) = request.attachments.first_mut() {
        first.aliases.extend(args.network_alias.iter().cloned());
        first.ip = first.ip.or(args.ip);
        first.ip6 = first.ip6.or(args.ip6);
        first.mac = first.mac.take().or_else(|| args.mac_address.clone());
        first.links.extend(args.link.iter().map(|text| link(text)));
    }
    Ok(())
}

fn conflict(what: &str, network: &str) -> Error {
    Error::invalid("choose the container's networks", format!("conflicting options: {what} and the network {network}"))
}

/// `db:database`: (database, db).
pub fn link(text: &str) -> (String, String) {
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    (alias.into(), container.into())
}

fn networks(words: &[String]) -> Result<(NetworkMode, Vec<Attachment>)> {
    let mut attachments = Vec::new();
    for word in words {
        let alone = |mode| match words.len() {
            1 => Ok((mode, Vec::new())),
            _ => Err(conflict(&format!("--network {word}"), "of its own beside it")),
        };
        match (word.as_str(), word.split_once(':')) {
            ("none", _) => return alone(NetworkMode::None),
            ("host", _) => return alone(NetworkMode::Host),
            (_, Some(("container", other))) if !other.is_empty() => return alone(NetworkMode::Container(other.into())),
            ("" | "container:", _) => return Err(Error::invalid(format!("use --network {word}"), "it names no network")),
            ("default", _) => attachments.push(Attachment { network: "bridge".into(), ..Attachment::default() }),
            (long, _) if long.contains('=') => attachments.push(attachment(long)?),
            (name, _) => attachments.push(Attachment { network: name.into(), ..Attachment::default() }),
        }
    }
    if attachments.is_empty() {
        attachments.push(Attachment { network: "bridge".into(), ..Attachment::default() });
    }
    Ok((NetworkMode::Own, attachments))
}

/// `name=front,alias=web,ip=172.30.0.10`
fn attachment(text: &str) -> Result<Attachment> {
    let doing = || format!("use --network {text}");
    let mut attachment = Attachment::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| Error::invalid(doing(), format!("{field:?} is no KEY=VALUE")))?;
        let wrong = || Error::invalid(doing(), format!("invalid value {value:?} for {key}"));
        match key {
            "name" => attachment.network = value.into(),
            "alias" => attachment.aliases.push(value.into()),
            "ip" => attachment.ip = Some(value.parse().map_err(|_| wrong())?),
            "ip6" => attachment.ip6 = Some(value.parse().map_err(|_| wrong())?),
            "mac-address" => attachment.mac = Some(mac(value).map_err(|why| Error::invalid(doing(), why))?),
            "gw-priority" => attachment.priority = value.parse().map_err(|_| wrong())?,
            _ => return Err(Error::invalid(doing(), format!("unknown key {key:?}: name, alias, ip, ip6, mac-address, gw-priority are known"))),
        }
    }
    match attachment.network.is_empty() {
        true => Err(Error::invalid(doing(), "it names no network: name=…")),
        false => Ok(attachment),
    }
}

fn mac(text: &str) -> std::result::Result<String, String> {
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2)).collect();
    match bytes {
        Some(bytes) if bytes.len() == 6 && bytes[0] & 1 == 0 => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")),
        _ => Err("a MAC address of one link is six bytes such as 02:42:ac:11:00:02".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_name_or_a_list_of_its_settings() {
        let (mode, attachments) = networks(&["front".into(), "name=back,alias=db,ip=10.0.0.9,gw-priority=1".into()]).unwrap();
        assert_eq!((mode, attachments.len()), (NetworkMode::Own, 2));
        assert_eq!((attachments[1].network.as_str(), attachments[1].ip), ("back", Some(Ipv4Addr::new(10, 0, 0, 9))));
        assert_eq!(networks(&[]).unwrap().1[0].network, "bridge");
        assert_eq!(networks(&["container:web".into()]).unwrap().0, NetworkMode::Container("web".into()));
        for wrong in [vec!["host", "front"], vec!["name=a,colour=red"], vec!["alias=x"], vec![""]] {
            assert!(networks(&wrong.iter().map(|word| word.to_string()).collect::<Vec<_>>()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_mac_address_is_six_bytes_and_one_links() {
        assert_eq!(mac("02-42-AC-11-00-02").unwrap(), "02:42:ac:11:00:02");
        for wrong in ["", "02:42:ac:11:00", "ff:ff:ff:ff:ff:ff", "02:42:ac:11:00:0g", "2:42:ac:11:00:02"] {
            assert!(mac(wrong).is_err(), "{wrong}");
        }
    }
}
