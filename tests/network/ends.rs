//! What is on the host because of networks, and what is not there any more afterwards, whoever was killed.

use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::{HOST, Host, WORLD};
use crate::support::jar::until;

/// The rules of the host, with names in them that are the same in each run, and elements in an order of their own: a hash has none.
fn told(host: &Host) -> String {
    let rules = host.rules();
    let table = rules.lines().find_map(|line| line.strip_prefix("table inet ")).unwrap_or_default().trim_end_matches(" {").to_string();
    let mut parts = rules.replace(&table, "onggi");
    let mut told = String::new();
    while let Some((before, rest)) = parts.split_once("elements = { ") {
        let (elements, after) = rest.split_once(" }").unwrap();
        let mut elements: Vec<&str> = elements.split(',').map(str::trim).collect();
        elements.sort_unstable();
        told += &format!("{before}elements = {{ {} }}", elements.join(", "));
        parts = after.to_string();
    }
    told + &parts
}

#[test]
fn the_rules_of_two_networks_and_their_ports() {
    let Some(host) = Host::new() else { return };
    let bridge = |name: &str| format!("com.docker.network.bridge.name={name}");
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "-o", &bridge("br-front"), "front"]);
    host.does(&["network", "create", "--internal", "--subnet", "10.2.0.0/24", "-o", &bridge("br-back"), "back"]);
    host.up("web", &["--network", "front", "--network", "back", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", &format!("{HOST}:5353:53/udp")]);
    insta::assert_snapshot!("rules", told(&host));
    host.does(&["rm", "-f", "web"]);
    host.does(&["network", "rm", "front", "back"]);
    let left = host.rules();
    assert!(!left.contains("br-") && !left.contains("8080") && !left.contains("10."), "{left}");
    assert_eq!(host.links(), Vec::<String>::new());
}

#[test]
fn what_a_killed_monitor_leaves_the_next_command_removes() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "front"]);
    host.up("stays", &["--network", "front"]);
    for life in 0..3 {
        let id = host.up("web", &["--network", "front", "-p", "8080:80", "-p", "5353:53/udp"]);
        {
            let _server = host.serve("web", "tcp", 80);
            assert!(host.ask("host", "tcp", "127.0.0.1:8080").is_some(), "its proxy has begun");
        }
        assert!(host.rules().contains("10.1.0.3") && host.links().len() == 3, "{:?}", host.links());
        let monitor = host.record(&id).unwrap()["state"]["monitor"]["pid"].as_i64().unwrap();
        kill(Pid::from_raw(monitor as i32), Signal::SIGKILL).unwrap();
        until("its port is free, with it and its proxy gone", || host.inside("host", || TcpListener::bind("[::]:8080").is_ok()));
        let listed = host.does(&["network", "inspect", "-f", "{{len .Containers}}", "front"]);
        assert_eq!(listed, "1", "life {life}");
        assert!(!host.rules().contains("10.1.0.3"), "{}", host.rules());
        until("its links are gone", || host.links().len() == 2);
        assert!(host.resolve("stays", "web").is_empty());
        assert_eq!(host.inspected("web", "{{.State.ExitCode}} {{.NetworkSettings.Networks.front.IPAddress}}"), "137");
        host.does(&["rm", "web"]);
    }
}

#[test]
fn rules_and_bridges_that_somebody_removed_come_back() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "-o", "com.docker.network.bridge.name=br-front", "front"]);
    host.up("web", &["--network", "front", "-p", "8080:80"]);
    let _server = host.serve("web", "tcp", 80);
    let before = host.rules();
    host.shell("host", "nft flush ruleset");
    assert!(!host.pings("web", WORLD));
    host.up("next", &[]);
    assert_eq!(host.ask("world", "tcp", &format!("{HOST}:8080")).as_deref(), Some(WORLD));
    assert!(host.pings("web", WORLD));
    host.does(&["rm", "-f", "next"]);
    host.does(&["rm", "-f", "web"]);
    host.shell("host", "ip link delete br-front; echo 0 >/proc/sys/net/ipv4/ip_forward");
    host.up("again", &["--network", "front"]);
    assert!(host.pings("again", WORLD) && before.contains("br-front"));
}

#[test]
fn a_run_leaves_no_trace_of_its_own() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "front"]);
    host.does(&["run", "--rm", "-p", "8080:80", "--network", "front", "base", "true"]);
    let before = (host.links(), host.rules());
    for words in [&["-p", "8080:80"][..], &["--network", "front", "-p", "9090:80/udp"], &["--network", "front", "--network", "bridge"]] {
        host.does(&[&["run", "--rm"], words, &["base", "true"]].concat());
        host.says(&[&["run", "--rm"], words, &["base", "no-such-program"]].concat());
    }
    host.does(&["network", "rm", "front"]);
    host.does(&["network", "create", "front"]);
    host.does(&["network", "rm", "front"]);
    until("all links of containers are gone", || !host.links().iter().any(|link| link.starts_with("veth")));
    assert_eq!(before.0.len(), 1);
    let entries = host.shell("host", "conntrack -L 2>/dev/null || true");
    assert!(!entries.contains("dport=8080"), "{entries}");
    let files = std::fs::read_dir(host.root.join("run/networks")).unwrap().count();
    assert!(files <= 1, "only the default bridge has a file");
}

#[test]
fn a_range_that_the_host_uses_otherwise_by_now_is_left_to_it() {
    let Some(host) = Host::new() else { return };
    host.up("web", &[]);
    let first = host.ip("web", "bridge");
    host.does(&["network", "create", "--subnet", "10.5.0.0/24", "front"]);
    host.does(&["rm", "-f", "web"]);
    // As after the machine's start: our bridges are not there yet, another engine's is.
    let links = host.links().iter().map(|link| format!("ip link delete {link}; ")).collect::<String>();
    let range = first.rsplitn(3, '.').last().unwrap();
    host.shell("host", &format!("{links} ip link add own0 type bridge; ip link set own0 up; ip address add {range}.0.1/16 dev own0"));
    host.up("web", &[]);
    let second = host.ip("web", "bridge");
    assert!(!second.starts_with(range) && host.pings("web", WORLD), "{first} {second}");
    assert_eq!(host.network("bridge")["IPAM"]["Config"][0]["Gateway"], host.inspected("web", "{{.NetworkSettings.Gateway}}"));
    // A range that somebody chose is theirs to change.
    host.shell("host", "ip address add 10.5.0.77/24 dev own0");
    host.fails(&["run", "--rm", "--network", "front", "base", "true"], &["the host has a route to 10.5.0.0/24", "ip route"]);
    host.fails(&["network", "connect", "front", "web"], &["the host has a route to 10.5.0.0/24"]);
    host.shell("host", "ip address del 10.5.0.77/24 dev own0");
    host.does(&["network", "connect", "front", "web"]);
}
