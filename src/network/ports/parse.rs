//! What stands after `-p` and `--expose`, in Docker's grammar and, where it is wrong, Docker's words.
//!
//! Read: docker run(1), "-p, --publish" and "--expose".

use std::net::IpAddr;

use super::{Binding, Protocol};

/// The ports of one `-p`: `80`, `8080:80`, `127.0.0.1:8080:80/udp`, `[::1]::80`, `8000-8002:80-82` (one for each),
/// `8000-8010:80` (any free one), or `published=8080,target=80,protocol=udp`.
///
/// # Errors
/// A sentence about the part that is wrong.
pub fn parse(text: &str) -> Result<Vec<Binding>, String> {
    if text.contains('=') {
        return parse(&short_form(text)?);
    }
    let parts: Vec<&str> = text.rsplitn(3, ':').collect();
    let (container, host_ports, address) = (parts[0], parts.get(1).copied().unwrap_or_default(), parts.get(2).copied().unwrap_or_default());
    let (ports, protocol) = split_protocol(container);
    if ports.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let protocol = protocol_of(protocol)?;
    let host = address_of(address)?;
    let (from, to) = range(ports).filter(|(from, _)| *from > 0).ok_or_else(|| format!("invalid containerPort: {ports}"))?;
    let (first, last) = match host_ports {
        "" => (0, 0),
        // Zero is any free port; it begins no range.
        _ => range(host_ports).filter(|(first, last)| *first > 0 || *last == 0).ok_or_else(|| format!("invalid hostPort: {host_ports}"))?,
    };
    let binding = |first, last, container| Binding { host, first, last, container, protocol };
    if from == to {
        return Ok(vec![binding(first, last, from)]);
    }
    if last == 0 {
        return Ok((from..=to).map(|container| binding(0, 0, container)).collect());
    }
    if to - from != last - first {
        return Err(format!("invalid ranges specified for container and host Ports: {ports} and {host_ports}"));
    }
    Ok((from..=to).map(|container| binding(first + (container - from), first + (container - from), container)).collect())
}

/// The ports of one `--expose`: `80`, `80/udp`, `8000-8010/tcp`.
///
/// # Errors
/// A sentence about the part that is wrong.
pub fn parse_expose(text: &str) -> Result<Vec<(u16, Protocol)>, String> {
    if text.contains(':') {
        return Err(format!("invalid port format for --expose: {text}"));
    }
    let (ports, protocol) = split_protocol(text);
    let protocol = protocol_of(protocol)?;
    let (from, to) = range(ports).filter(|(from, _)| *from > 0).ok_or_else(|| format!("invalid range format for --expose: {text}"))?;
    Ok((from..=to).map(|port| (port, protocol)).collect())
}

/// `published=8080,target=80,protocol=tcp` as `8080:80/tcp`.
fn short_form(text: &str) -> Result<String, String> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            // On one machine both mean the same: a port of this host. Only a swarm makes a difference.
            Some(("mode", "host" | "ingress")) => {}
            Some(("mode", value)) => return Err(format!("invalid publish mode value ({value}): must be either 'ingress' or 'host'")),
            Some((key, _)) if !key.is_empty() => return Err(format!("invalid field key: {key}; known are published, target, protocol and mode")),
            _ => return Err(format!("invalid publish opts format (should be name=value but got '{field}')")),
        }
    }
    if target.is_empty() {
        return Err("missing mandatory field 'target'".into());
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// `80/udp` as ports and protocol; without one it is TCP.
fn split_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        None | Some((_, "")) => (text.trim_end_matches('/'), "tcp"),
        Some(both) => both,
    }
}

fn protocol_of(word: &str) -> Result<Protocol, String> {
    match word.to_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => {
            Err("sctp can't be published here: only tcp and udp are; containers on one network reach each other's sctp ports without it".into())
        }
        _ => Err(format!("invalid proto: {word}")),
    }
}

fn address_of(text: &str) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| format!("invalid IP address {text}: missing ']' in address"))?,
        None => text,
    };
    bare.parse().map(Some).map_err(|_| format!("invalid IP address: {bare}"))
}

/// `80` or `80-82`.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u16>().ok()).flatten();
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each port as `address first-last container protocol`.
    #[track_caller]
    fn assert_means(text: &str, meant: &[&str]) {
        let host = |binding: &Binding| binding.host.map_or("*".to_string(), |address| address.to_string());
        let told = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let told: Vec<_> = told.iter().map(|b| format!("{} {}-{} {} {}", host(b), b.first, b.last, b.container, b.protocol)).collect();
        assert_eq!(told, meant, "{text}");
    }

    #[test]
    fn every_form_of_docker_is_understood() {
        assert_means("80", &["* 0-0 80 tcp"]);
        assert_means("80/udp", &["* 0-0 80 udp"]);
        assert_means("8080:80", &["* 8080-8080 80 tcp"]);
        assert_means("0:80", &["* 0-0 80 tcp"]);
        assert_means(":80", &["* 0-0 80 tcp"]);
        assert_means("8080:80/TCP", &["* 8080-8080 80 tcp"]);
        assert_means("127.0.0.1:8080:80", &["127.0.0.1 8080-8080 80 tcp"]);
        assert_means("127.0.0.1::80", &["127.0.0.1 0-0 80 tcp"]);
        assert_means("0.0.0.0:8080:80", &["0.0.0.0 8080-8080 80 tcp"]);
        assert_means("[::1]:8080:80/udp", &["::1 8080-8080 80 udp"]);
        assert_means("::1:8080:80", &["::1 8080-8080 80 tcp"]);
        assert_means("[::]::80", &[":: 0-0 80 tcp"]);
    }

    #[test]
    fn ranges_go_side_by_side_or_offer_a_choice() {
        assert_means("8000-8002:80-82", &["* 8000-8000 80 tcp", "* 8001-8001 81 tcp", "* 8002-8002 82 tcp"]);
        assert_means("80-81", &["* 0-0 80 tcp", "* 0-0 81 tcp"]);
        assert_means("8000-8010:80", &["* 8000-8010 80 tcp"]);
        assert_means("127.0.0.1:53-54:53-54/udp", &["127.0.0.1 53-53 53 udp", "127.0.0.1 54-54 54 udp"]);
        assert_means("65535:65535", &["* 65535-65535 65535 tcp"]);
    }

    #[test]
    fn the_long_form_is_the_short_one_in_words() {
        assert_means("published=8080,target=80", &["* 8080-8080 80 tcp"]);
        assert_means("target=80,published=8080,protocol=udp,mode=host", &["* 8080-8080 80 udp"]);
        assert_means("target=80", &["* 0-0 80 tcp"]);
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        let wrong = [
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("http", "invalid containerPort: http"),
            ("0", "invalid containerPort: 0"),
            ("65536", "invalid containerPort: 65536"),
            ("+80", "invalid containerPort: +80"),
            ("82-80", "invalid containerPort: 82-80"),
            ("x:80", "invalid hostPort: x"),
            ("70000:80", "invalid hostPort: 70000"),
            ("0-5:80", "invalid hostPort: 0-5"),
            ("1.2.3:8080:80", "invalid IP address: 1.2.3"),
            ("localhost:8080:80", "invalid IP address: localhost"),
            ("[::1:8080:80", "invalid IP address [::1: missing ']' in address"),
            ("8000-8001:80-82", "invalid ranges specified for container and host Ports: 80-82 and 8000-8001"),
            ("80/icmp", "invalid proto: icmp"),
            ("published=8080", "missing mandatory field 'target'"),
            ("target=80,mode=x", "invalid publish mode value (x): must be either 'ingress' or 'host'"),
            ("target=80,name", "invalid publish opts format (should be name=value but got 'name')"),
        ];
        for (text, why) in wrong {
            assert_eq!(parse(text), Err(why.into()), "{text}");
        }
        assert!(parse("80/sctp").is_err_and(|why| why.contains("only tcp and udp")));
    }

    #[test]
    fn exposed_ports_are_of_the_container_alone() {
        assert_eq!(parse_expose("80"), Ok(vec![(80, Protocol::Tcp)]));
        assert_eq!(parse_expose("53-54/udp"), Ok(vec![(53, Protocol::Udp), (54, Protocol::Udp)]));
        assert_eq!(parse_expose("8080:80"), Err("invalid port format for --expose: 8080:80".into()));
        assert_eq!(parse_expose("82-80"), Err("invalid range format for --expose: 82-80".into()));
    }
}
