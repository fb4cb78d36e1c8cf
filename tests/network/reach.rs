//! Who reaches whom: neighbours, other networks, the host, the world.

use crate::host::{HOST, Host, WORLD, WORLD6};

#[test]
fn on_the_default_bridge_addresses_are_all_there_is() {
    let Some(host) = Host::new() else { return };
    host.up("web", &[]);
    host.up("db", &["--hostname", "database"]);
    let [web, db] = ["web", "db"].map(|name| host.ip(name, "bridge"));
    let gateway = host.inspected("web", "{{.NetworkSettings.Gateway}}");
    for target in [&db, &gateway, HOST, WORLD] {
        assert!(host.pings("web", target), "{target}");
    }
    for name in ["db", "database", &host.id_of("db").unwrap()[..12]] {
        assert!(host.resolve("web", name).is_empty(), "{name} has a name on the default bridge");
    }
    assert!(host.exec("web", "cat /etc/resolv.conf").is_some_and(|text| !text.contains("127.0.0.11")));
    let _echo = host.serve("world", "tcp", 7);
    assert_eq!(host.ask("web", "tcp", &format!("{WORLD}:7")).as_deref(), Some(HOST), "who goes out has the host's address");
    let _udp = host.serve("world", "udp", 7);
    assert_eq!(host.ask("web", "udp", &format!("{WORLD}:7")).as_deref(), Some(HOST));
    let _own = host.serve("host", "tcp", 9);
    assert_eq!(host.ask("web", "tcp", &format!("{gateway}:9")).as_deref(), Some(&*web), "the host sees who it is");
    // Nobody comes in: not even a neighbour who uses the host as its router.
    let _closed = host.serve("web", "tcp", 80);
    host.shell("world", &format!("ip route add {web} via {HOST}"));
    assert!(host.is_closed("world", &format!("{web}:80")) && !host.is_closed("host", &format!("{web}:80")));
    assert_eq!(host.ask("db", "tcp", &format!("{web}:80")).as_deref(), Some(&*db));

    // A link is the old way to a name; the container must be there.
    let hosts = host.does(&["run", "--rm", "--link", "db:data", "base", "cat", "/etc/hosts"]);
    assert!(hosts.lines().any(|line| line.starts_with(&db) && line.contains("data") && line.contains("db")), "{hosts}");
    assert_eq!(host.does(&["run", "--rm", "--link", "db:data", "base", "getent", "hosts", "data"]).split_whitespace().next(), Some(&*db));
    host.fails(&["run", "--rm", "--link", "missing:data", "base", "true"], &["missing"]);
}

#[test]
fn networks_are_apart_until_a_container_is_on_both() {
    let Some(host) = Host::new() else { return };
    for (name, range) in [("front", "10.1.0.0/24"), ("back", "10.2.0.0/24")] {
        host.does(&["network", "create", "--subnet", range, name]);
    }
    host.up("web", &["--network", "front"]);
    host.up("db", &["--network", "back"]);
    host.up("plain", &[]);
    let plain = host.ip("plain", "bridge");
    let _servers = ["web", "db", "plain"].map(|name| host.serve(name, "tcp", 80));
    let pairs = [("web", "10.2.0.2"), ("db", "10.1.0.2"), ("web", plain.as_str()), ("plain", "10.1.0.2"), ("plain", "10.2.0.2")];
    for (from, to) in pairs {
        assert!(host.is_closed(from, &format!("{to}:80")), "{from} reaches {to}");
    }
    for name in ["web", "db", "plain"] {
        assert!(host.pings(name, WORLD), "{name} reaches the world");
    }
    host.does(&["network", "connect", "back", "web"]);
    assert_eq!(host.ask("web", "tcp", "10.2.0.2:80").as_deref(), Some("10.2.0.3"));
    assert_eq!(host.ask("db", "tcp", "10.2.0.3:80").as_deref(), Some("10.2.0.2"));
    assert!(host.is_closed("db", "10.1.0.2:80"), "but not the other network of its neighbour");
    host.does(&["network", "disconnect", "back", "web"]);
    assert!(host.is_closed("web", "10.2.0.2:80"));
}

#[test]
fn an_internal_network_has_no_way_out_and_no_way_in() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--internal", "--subnet", "10.1.0.0/24", "inner"]);
    host.up("web", &["--network", "inner", "-p", "8080:80"]);
    host.up("db", &["--network", "inner"]);
    assert!(host.pings("web", "10.1.0.3") && host.resolve("web", "db") == ["10.1.0.3"]);
    assert!(!host.pings("web", WORLD) && !host.pings("web", HOST));
    assert_eq!(host.exec("web", "ip route show default").as_deref(), Some(""));
    assert!(host.resolve("web", "example.org").is_empty());
    let _server = host.serve("web", "tcp", 80);
    assert!(host.is_closed("world", &format!("{HOST}:8080")), "a published port opens no internal network");
    host.shell("world", &format!("ip route add 10.1.0.0/24 via {HOST}"));
    assert!(host.is_closed("world", "10.1.0.2:80"));
    // With another network beside it the world is there, through that.
    host.does(&["network", "connect", "bridge", "db"]);
    assert!(host.pings("db", WORLD) && !host.pings("web", WORLD));
}

#[test]
fn without_icc_neighbours_do_not_hear_each_other() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "-o", "com.docker.network.bridge.enable_icc=false", "apart"]);
    host.up("web", &["--network", "apart", "-p", "8080:80"]);
    host.up("db", &["--network", "apart"]);
    let _server = host.serve("web", "tcp", 80);
    assert!(host.is_closed("db", "10.1.0.2:80") && !host.pings("db", "10.1.0.2"));
    assert!(host.pings("db", WORLD) && host.pings("db", "10.1.0.1"));
    assert_eq!(host.ask("world", "tcp", &format!("{HOST}:8080")).as_deref(), Some(WORLD));
    assert!(host.ask("db", "tcp", &format!("{HOST}:8080")).is_some(), "what is published is for everybody");
}

#[test]
fn ipv6_is_there_for_who_asks() {
    let Some(host) = Host::new() else { return };
    let id = host.does(&["network", "create", "--ipv6", "six"]);
    let shown = host.network("six");
    let ranges: Vec<&str> = shown["IPAM"]["Config"].as_array().unwrap().iter().map(|pool| pool["Subnet"].as_str().unwrap()).collect();
    let own = format!("fd{}:{}:{}::/64", &id[..2], &id[2..6], &id[6..10]);
    let is_own = |range: &str| range.parse::<onggi::network::Cidr>().unwrap() == own.parse().unwrap();
    assert!(shown["EnableIPv6"] == true && ranges.iter().any(|range| is_own(range)), "{ranges:?} {own}");
    host.does(&["network", "create", "--subnet", "10.6.0.0/24", "--subnet", "fd00:6::/64", "--gateway", "fd00:6::99", "both"]);
    host.up("web", &["--network", "both", "-p", "8080:80", "--network-alias", "site"]);
    host.up("db", &["--network", "both", "--ip6", "fd00:6::42"]);
    let six = "{{(index .NetworkSettings.Networks \"both\").GlobalIPv6Address}}";
    assert_eq!((host.inspected("web", six).as_str(), host.inspected("db", six).as_str()), ("fd00:6::1", "fd00:6::42"));
    assert_eq!(host.exec("web", "ip -6 route show default | cut -d' ' -f1-5").as_deref(), Some("default via fd00:6::99 dev eth0"));
    for target in ["fd00:6::42", "10.6.0.3", "fd00:6::99", WORLD6, WORLD] {
        assert!(host.pings("web", target), "{target}");
    }
    assert_eq!(host.resolve("web", "db"), ["10.6.0.3", "fd00:6::42"]);
    let _server = host.serve("web", "tcp", 80);
    assert_eq!(host.ask("world", "tcp", &format!("[{}]:8080", crate::host::HOST6)).as_deref(), Some(WORLD6), "the source is kept");
    assert!(host.ask("host", "tcp", "[::1]:8080").is_some() && host.ask("host", "tcp", "127.0.0.1:8080").is_some());
    let _echo = host.serve("world", "tcp", 7);
    assert_eq!(host.ask("db", "tcp", &format!("[{WORLD6}]:7")).as_deref(), Some(crate::host::HOST6));
    // Who has only IPv4 is reached on the host's IPv6 through its monitor.
    host.up("four", &["-p", "8044:80"]);
    let _four = host.serve("four", "tcp", 80);
    assert!(host.ask("host", "tcp", "[::1]:8044").is_some());
    assert!(host.ask("world", "tcp", &format!("[{}]:8044", crate::host::HOST6)).is_some());
}

#[test]
fn the_hosts_forwarding_is_switched_on_when_it_is_needed() {
    let Some(host) = Host::new() else { return };
    let forwarding = || host.shell("host", "cat /proc/sys/net/ipv4/ip_forward").trim().to_string();
    assert_eq!(forwarding(), "0");
    host.does(&["run", "--rm", "--network", "none", "base", "true"]);
    host.does(&["run", "--rm", "--network", "host", "base", "true"]);
    assert_eq!(forwarding(), "0");
    host.up("web", &[]);
    assert_eq!(forwarding(), "1");
    assert!(host.pings("web", WORLD));
}
