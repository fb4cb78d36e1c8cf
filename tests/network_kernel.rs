//! Asks the real kernel whether bridges, cables and rules do what they say. Each test has network namespaces of its own: `host`, with a
//! cable to `world` and containers behind its bridges. Nothing of this machine's network is touched.
//!
//! See it: `ip netns` while it runs. Read: ip-netns(8), nft(8).

mod support;
#[path = "network_kernel/town.rs"]
mod town;

use std::net::{IpAddr, SocketAddr};

use onggi::network::nat::{self, Published, Subnet};
use onggi::network::ports::Protocol;
use onggi::network::{Cidr, address, bridge, conntrack, link, open, veth};
use town::Town;

const TABLE: &str = "onggi";

fn port(host: Option<&str>, host_port: u16, protocol: Protocol, to: &str) -> Published {
    Published { host: host.map(|host| host.parse().unwrap()), host_port, protocol, to: to.parse::<SocketAddr>().unwrap() }
}

#[test]
fn containers_speak_with_each_other_and_with_the_world() {
    let Some(mut town) = Town::new() else { return };
    town.network("br0", "172.18.0.1/16", "fd18::1/64", |_| {});
    let (a, b) = (town.container("br0", "172.18.0.2/16", "fd18::2/64"), town.container("br0", "172.18.0.3/16", "fd18::3/64"));
    for (target, name) in
        [("172.18.0.3", "neighbour"), ("fd18::3", "neighbour"), ("172.18.0.1", "gateway"), ("203.0.113.2", "world"), ("2001:db8::2", "world")]
    {
        assert!(town.pings(&a, target), "{name} {target}");
    }
    for (protocol, any) in [("tcp", "0.0.0.0"), ("udp", "0.0.0.0"), ("tcp", "::"), ("udp", "::")] {
        let v6 = any == "::";
        let server = town.serve(&b, protocol, any, 80);
        assert_eq!(town.ask(&a, protocol, if v6 { "fd18::3" } else { "172.18.0.3" }, 80).as_deref(), Some(if v6 { "fd18::2" } else { "172.18.0.2" }));
        drop(server);
        // What leaves has the host's address.
        let server = town.serve("world", protocol, any, 80);
        let (world, host) = if v6 { ("2001:db8::2", "2001:db8::1") } else { ("203.0.113.2", "203.0.113.1") };
        assert_eq!(town.ask(&a, protocol, world, 80).as_deref(), Some(host), "{protocol}");
        drop(server);
    }
}

#[test]
fn a_published_port_is_reached_from_everywhere_and_an_unpublished_one_from_nowhere() {
    let Some(mut town) = Town::new() else { return };
    town.network("br0", "172.18.0.1/16", "fd18::1/64", |_| {});
    town.network("br1", "172.19.0.1/16", "fd19::1/64", |_| {});
    let (a, b) = (town.container("br0", "172.18.0.2/16", "fd18::2/64"), town.container("br0", "172.18.0.3/16", "fd18::3/64"));
    let c = town.container("br1", "172.19.0.2/16", "fd19::2/64");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let word = protocol.to_string();
        for (host, to, hosts_own, outside, any) in [
            (None, "172.18.0.2:80", "203.0.113.1", "203.0.113.2", "0.0.0.0"),
            (Some("203.0.113.1"), "172.18.0.2:80", "203.0.113.1", "203.0.113.2", "0.0.0.0"),
            (None, "[fd18::2]:80", "2001:db8::1", "2001:db8::2", "::"),
            (Some("2001:db8::1"), "[fd18::2]:80", "2001:db8::1", "2001:db8::2", "::"),
        ] {
            let server = town.serve(&a, &word, any, 80);
            let ports = [port(host, 8080, protocol, to)];
            assert_eq!(town.ask("world", &word, hosts_own, 8080), None, "before");
            town.inside("host", || nat::publish(TABLE, &ports).unwrap());
            // Its source is seen as it is.
            assert_eq!(town.ask("world", &word, hosts_own, 8080).as_deref(), Some(outside), "from outside");
            for who in [a.as_str(), &b, &c, "host"] {
                assert!(town.ask(who, &word, hosts_own, 8080).is_some(), "{word} {host:?} from {who}");
            }
            let used = town.inside("host", || nat::counters(TABLE).unwrap());
            assert!(used.len() == 1 && used[0].port == ports[0] && used[0].connections >= 4, "{used:?}");
            town.inside("host", || nat::unpublish(TABLE, &ports).unwrap());
            assert_eq!(town.ask("world", &word, hosts_own, 8080), None, "after");
            town.inside("host", || nat::unpublish(TABLE, &ports).unwrap());
            drop(server);
        }
    }
}

#[test]
fn networks_are_apart() {
    let Some(mut town) = Town::new() else { return };
    town.network("br0", "172.18.0.1/16", "fd18::1/64", |_| {});
    town.network("br1", "172.19.0.1/16", "fd19::1/64", |_| {});
    town.network("br2", "172.20.0.1/16", "fd20::1/64", |network| network.internal = true);
    town.network("br3", "172.21.0.1/16", "fd21::1/64", |network| network.icc = false);
    let of = |town: &mut Town, n: u8| -> [String; 2] {
        [2, 3].map(|k| town.container(&format!("br{}", n - 18), &format!("172.{n}.0.{k}/16"), &format!("fd{n}::{k}/64")))
    };
    let ([a, _], [b, _], [internal, _], [closed, _]) = (of(&mut town, 18), of(&mut town, 19), of(&mut town, 20), of(&mut town, 21));
    let v6 = |address: &str| address.contains(':');
    for (from, to) in [(&a, "172.19.0.2"), (&b, "172.18.0.2"), (&a, "fd19::2"), (&b, "fd18::2"), (&a, "172.20.0.2"), (&a, "fd20::2")] {
        assert!(!town.pings(from, to), "{from} reaches {to}");
    }
    for to in ["203.0.113.2", "2001:db8::2", "172.18.0.2", "fd18::2"] {
        assert!(!town.pings(&internal, to), "from an internal network to {to}");
    }
    assert!(town.pings(&internal, "172.20.0.3") && town.pings(&internal, "fd20::3") && town.pings(&internal, "172.20.0.1"));
    assert!(!town.pings(&closed, "172.21.0.3") && !town.pings(&closed, "fd21::3"), "icc=false");
    assert!(town.pings(&closed, "203.0.113.2") && town.pings(&closed, "172.21.0.1"));
    // A machine beside the host that uses it as its router.
    for to in ["172.18.0.2", "fd18::2"] {
        let (family, via) = if v6(to) { ("-6", "2001:db8::1") } else { ("-4", "203.0.113.1") };
        town.ip("world", &[family, "route", "add", to, "via", via]);
        assert!(!town.pings("world", to), "from outside to {to}");
    }
}

#[test]
fn what_is_half_made_is_finished_and_what_is_removed_is_gone() {
    let Some(town) = Town::new() else { return };
    let addresses = ["172.18.0.1/16".parse::<Cidr>().unwrap(), "fd18::1/64".parse().unwrap()];
    town.inside("host", || {
        let wanted = bridge::Bridge { name: "br0", addresses: &addresses, mtu: Some(1400), mac: None };
        let socket = open().unwrap();
        town::run("ip", &["link", "add", "br0", "type", "bridge"]);
        let index = bridge::ensure(&wanted).unwrap();
        assert_eq!(bridge::ensure(&wanted).unwrap(), index);
        let found = address::addresses(&socket).unwrap();
        assert!(addresses.iter().all(|cidr| found.contains(&address::Address { index, cidr: *cidr })), "{found:?}");
        let subnet = Subnet { link: "br0", cidrs: &addresses, masquerade: true, internal: false, icc: true };
        nat::ensure(TABLE, &subnet).unwrap();
        let whole = town::run("nft", &["list", "ruleset"]);
        town::run("nft", &["flush", "chain", "inet", TABLE, "forward"]);
        town::run("nft", &["delete", "element", "inet", TABLE, "open", "{ br0 . br0 }"]);
        nat::ensure(TABLE, &subnet).unwrap();
        assert_eq!(town::run("nft", &["list", "ruleset"]), whole);
        town::run("nft", &["-j", "list", "ruleset"]);
        insta::assert_snapshot!("ruleset", whole);
        assert_eq!(nat::tables().unwrap(), [TABLE]);
        nat::remove_network(TABLE, &subnet).unwrap();
        nat::remove_network(TABLE, &subnet).unwrap();
        nat::remove_table(TABLE).unwrap();
        nat::remove_table(TABLE).unwrap();
        nat::remove_network(TABLE, &subnet).unwrap();
        assert_eq!(town::run("nft", &["list", "ruleset"]), "");
        bridge::remove("br0").unwrap();
        bridge::remove("br0").unwrap();
        assert!(link::find(&socket, "br0").unwrap().is_none());
        town::run("ip", &["link", "add", "br0", "type", "veth"]);
        let refused = bridge::ensure(&wanted).unwrap_err();
        assert!(refused.to_string().contains("which is a veth"), "{refused}");
        assert!(bridge::remove("br0").is_err());
    });
}

#[test]
fn a_dead_container_is_forgotten() {
    let Some(mut town) = Town::new() else { return };
    town.network("br0", "172.18.0.1/16", "fd18::1/64", |_| {});
    let a = town.container("br0", "172.18.0.2/16", "fd18::2/64");
    assert!(town.pings(&a, "203.0.113.2") && town.pings(&a, "2001:db8::2"));
    let addresses: [IpAddr; 2] = ["172.18.0.2".parse().unwrap(), "fd18::2".parse().unwrap()];
    town.inside("host", || {
        let listed = || ["ipv4", "ipv6"].map(|family| town::run("conntrack", &["-L", "-f", family])).concat();
        assert!(listed().contains("172.18.0.2") && listed().contains("fd18::2"), "{}", listed());
        conntrack::forget(&addresses).unwrap();
        assert!(!listed().contains("172.18.0.2") && !listed().contains("fd18::2"), "{}", listed());
        let socket = open().unwrap();
        veth::silence(&socket, &a_end(&a)).unwrap();
        veth::silence(&socket, "missing").unwrap();
    });
    assert!(!town.pings(&a, "172.18.0.1"), "a silenced port passes packets");
    town.inside("host", || {
        let socket = open().unwrap();
        veth::disconnect(&socket, &a_end(&a)).unwrap();
        veth::disconnect(&socket, &a_end(&a)).unwrap();
        assert!(link::find(&socket, &a_end(&a)).unwrap().is_none());
    });
}

fn a_end(container: &str) -> String {
    format!("v{container}")
}

#[test]
fn a_thousand_published_ports_cost_the_last_what_the_first_did() {
    let Some(town) = Town::new() else { return };
    town.inside("host", || {
        nat::ensure(TABLE, &Subnet { link: "br0", cidrs: &["172.18.0.1/16".parse().unwrap()], masquerade: true, internal: false, icc: true })
            .unwrap();
        let ports: Vec<_> = (1..=2000).map(|n| port(None, n, Protocol::Tcp, "172.18.0.2:80")).collect();
        let times: Vec<_> = ports[..1000]
            .iter()
            .map(|port| {
                let begin = std::time::Instant::now();
                nat::publish(TABLE, std::slice::from_ref(port)).unwrap();
                begin.elapsed()
            })
            .collect();
        support::say(&format!("publishing the 10th port took {:?}, the 1,000th {:?}", times[9], times[999]));
        nat::publish(TABLE, &ports).unwrap();
        let elsewhere = port(None, 1, Protocol::Tcp, "172.18.0.9:80");
        nat::publish(TABLE, std::slice::from_ref(&elsewhere)).unwrap();
        let found = nat::counters(TABLE).unwrap();
        assert!(found.len() == 2000 && found.iter().any(|counted| counted.port == elsewhere));
        nat::unpublish(TABLE, &ports).unwrap();
        assert_eq!(nat::counters(TABLE).unwrap(), []);
    });
}
