//! Published ports: every form of `-p`, from everywhere, and who has one.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use crate::host::{HOST, HOST6, Host, WORLD};
use crate::support::jar::until;

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "front"]);
    host.does(&["network", "create", "--subnet", "10.2.0.0/24", "back"]);
    host.up(
        "web",
        &[
            "--network",
            "front",
            "-p",
            "8080:80",
            "-p",
            "5353:53/udp",
            "-p",
            "127.0.0.1:8081:80",
            "-p",
            "[::1]:8082:80",
            "-p",
            &format!("{HOST}:8083:80"),
        ],
    );
    host.up("near", &["--network", "front"]);
    host.up("far", &["--network", "back"]);
    let (tcp, udp) = (host.serve("web", "tcp", 80), host.serve("web", "udp", 53));
    for (protocol, port) in [("tcp", 8080), ("udp", 5353)] {
        let at = |address: &str| format!("{address}:{port}");
        assert_eq!(host.ask("world", protocol, &at(HOST)).as_deref(), Some(WORLD), "{protocol}: the source is kept");
        for (from, to) in [
            ("host", "127.0.0.1"),
            ("host", "[::1]"),
            ("host", HOST),
            ("host", "10.1.0.1"),
            ("web", HOST),
            ("web", "10.1.0.1"),
            ("near", HOST),
            ("near", "10.1.0.1"),
            ("far", HOST),
            ("far", "10.2.0.1"),
        ] {
            assert!(host.ask(from, protocol, &at(to)).is_some(), "{protocol} from {from} to {to}");
        }
        assert!(host.ask("world", protocol, &at(&format!("[{HOST6}]"))).is_some(), "{protocol} over IPv6");
    }
    // Only where it was said.
    for (port, open, closed) in [(8081, "127.0.0.1", HOST), (8082, "[::1]", "127.0.0.1"), (8083, HOST, "127.0.0.1")] {
        assert!(host.ask("host", "tcp", &format!("{open}:{port}")).is_some(), "{open}:{port}");
        assert!(host.is_closed("host", &format!("{closed}:{port}")), "{closed}:{port}");
    }
    assert!(host.is_closed("world", &format!("{HOST}:8081")) && host.is_closed("world", &format!("[{HOST6}]:8082")));
    assert_eq!(host.ask("world", "tcp", &format!("{HOST}:8083")).as_deref(), Some(WORLD));
    assert!(host.is_closed("world", &format!("{HOST}:80")), "what isn't published is closed");

    assert_eq!(
        host.does(&["port", "web"]),
        format!(
            "53/udp -> 0.0.0.0:5353\n53/udp -> [::]:5353\n80/tcp -> 0.0.0.0:8080\n80/tcp -> 127.0.0.1:8081\n80/tcp -> {HOST}:8083\n\
             80/tcp -> [::]:8080\n80/tcp -> [::1]:8082"
        )
    );
    assert_eq!(host.does(&["port", "web", "53/udp"]), "0.0.0.0:5353\n[::]:5353");
    host.fails(&["port", "web", "99"], &["99"]);
    let shown: serde_json::Value = serde_json::from_str(&host.inspected("web", "{{json .NetworkSettings.Ports}}")).unwrap();
    assert_eq!(shown["53/udp"][0], serde_json::json!({ "HostIp": "0.0.0.0", "HostPort": "5353" }));
    assert_eq!(host.inspected("web", "{{(index (index .HostConfig.PortBindings \"80/tcp\") 1).HostIp}}"), "127.0.0.1");

    // With its end the doors are shut.
    drop((tcp, udp));
    host.does(&["stop", "-t", "0", "web"]);
    assert!(host.is_closed("host", "127.0.0.1:8080") && host.is_closed("world", &format!("{HOST}:8080")));
    assert!(!host.rules().contains("10.1.0.2"), "{}", host.rules());
    host.does(&["start", "web"]);
    let _tcp = host.serve("web", "tcp", 80);
    assert_eq!(host.ask("world", "tcp", &format!("{HOST}:8080")).as_deref(), Some(WORLD));
}

#[test]
fn ports_are_chosen_from_ranges_at_random_and_from_the_image() {
    let Some(host) = Host::new() else { return };
    host.up("range", &["-p", "7000-7002:80-82", "-p", "7100-7110:90", "-p", "7200-7202:7200-7202"]);
    assert_eq!(host.does(&["port", "range", "81"]), "0.0.0.0:7001\n[::]:7001");
    assert_eq!(host.does(&["port", "range", "90"]), "0.0.0.0:7100\n[::]:7100");
    host.up("next", &["-p", "7100-7110:90"]);
    assert_eq!(host.does(&["port", "next", "90"]), "0.0.0.0:7101\n[::]:7101");
    let _server = host.serve("range", "tcp", 82);
    assert_eq!(host.ask("world", "tcp", &format!("{HOST}:7002")).as_deref(), Some(WORLD));
    let listed = host.does(&["ps", "--format", "{{.Ports}}", "--filter", "name=range"]);
    assert_eq!(
        listed,
        "0.0.0.0:7200-7202->7200-7202/tcp, [::]:7200-7202->7200-7202/tcp, 0.0.0.0:7000->80/tcp, [::]:7000->80/tcp, 0.0.0.0:7001->81/tcp, [::]:7001->81/tcp, 0.0.0.0:7002->82/tcp, [::]:7002->82/tcp, 0.0.0.0:7100->90/tcp, [::]:7100->90/tcp"
    );

    host.up("random", &["-p", "80", "-p", "127.0.0.1::81", "-p", "53/udp"]);
    let port = |name: &str, inner: &str| host.does(&["port", name, inner]).lines().next().unwrap().to_string();
    let chosen: u16 = port("random", "80").rsplit(':').next().unwrap().parse().unwrap();
    assert!(chosen >= 32768 && port("random", "81").starts_with("127.0.0.1:") && port("random", "53/udp").starts_with("0.0.0.0:"));
    let _random = host.serve("random", "tcp", 80);
    assert_eq!(host.ask("world", "tcp", &format!("{HOST}:{chosen}")).as_deref(), Some(WORLD));

    host.up("all", &["-P", "--expose", "80", "--expose", "90-91/udp"]);
    let all = host.does(&["port", "all"]);
    assert!(all.contains("80/tcp -> 0.0.0.0:") && all.contains("90/udp") && all.contains("91/udp"), "{all}");
    host.up("some", &["--expose", "80", "-p", "8090:90"]);
    assert_eq!(host.does(&["ps", "--format", "{{.Ports}}", "--filter", "name=some"]), "80/tcp, 0.0.0.0:8090->90/tcp, [::]:8090->90/tcp");

    for (form, parts) in [
        ("8080:80/sctp", &["sctp"][..]),
        ("80:80:80:80", &["80:80:80:80"]),
        ("web:80", &["web"]),
        ("8080:", &["8080:"]),
        ("70000:80", &["70000"]),
        ("8000-8001:80-82", &["8000-8001"]),
        ("10.77.0.1:80:80", &["10.77.0.1 is no address of this host"]),
        ("0:0", &["containerPort"]),
    ] {
        host.fails(&["run", "--rm", "-p", form, "base", "true"], parts);
    }
}

#[test]
fn who_has_a_port_is_named() {
    let Some(host) = Host::new() else { return };
    host.up("web", &["-p", "8080:80", "-p", "127.0.0.1:9090:90"]);
    let taken = host.fails(&["run", "--rm", "-p", "8080:80", "base", "true"], &["0.0.0.0:8080", "port is already allocated", "container web has it"]);
    assert_eq!(taken.code, 125);
    host.fails(&["run", "--rm", "-p", "127.0.0.1:8080:80", "base", "true"], &["container web has it"]);
    host.fails(&["run", "--rm", "-p", "9090:80", "base", "true"], &["container web has it"]);
    host.does(&["run", "--rm", "-p", "8080:80/udp", "base", "true"]);
    host.does(&["create", "--name", "late", "-p", "8080:80", "base", "true"]);
    for verb in ["start", "restart"] {
        assert_eq!(host.fails(&[verb, "late"], &["container web has it"]).code, 1);
    }

    let stranger = host.inside("host", || TcpListener::bind("127.0.0.1:7070").unwrap());
    let own = format!("(PID {})", std::process::id());
    host.fails(&["run", "--rm", "-p", "7070:80", "base", "true"], &["7070", "already allocated", &own]);
    let quiet = host.inside("host", || UdpSocket::bind("[::]:7071").unwrap());
    host.fails(&["run", "--rm", "-p", "7071:80/udp", "base", "true"], &["7071", &own]);
    drop((stranger, quiet));
    host.does(&["run", "--rm", "-p", "7070:80", "base", "true"]);
    host.does(&["rm", "-f", "web"]);
    host.does(&["run", "--rm", "-p", "8080:80", "base", "true"]);
}

#[test]
fn a_port_is_free_as_soon_as_its_container_is_gone() {
    let Some(host) = Host::new() else { return };
    for round in 0..50 {
        host.up("web", &["-p", "8080:80", "-p", "8080:80/udp"]);
        if round % 10 == 0 {
            // Whoever has been there through the monitor's own copying leaves nothing, either.
            let _server = host.serve("web", "tcp", 80);
            assert!(host.ask("host", "tcp", "127.0.0.1:8080").is_some(), "round {round}");
        }
        host.does(&["rm", "-f", "web"]);
    }
    // After --rm the port is free when the command has ended.
    for _ in 0..5 {
        host.does(&["run", "--rm", "-p", "8080:80", "base", "true"]);
    }
    // A start that fails, at whatever point, gives all ports back.
    host.up("other", &["-p", "8081:80"]);
    for words in [
        &["-p", "8080:80", "base", "no-such-program"][..],
        &["-p", "8080:80", "-p", "8081:80", "base", "true"],
        &["-p", "8080:80", "-w", "/etc/passwd", "base", "true"],
        &["-p", "8080:80", "--network", "missing", "base", "true"],
    ] {
        host.fails(&[&["run", "--rm"], words].concat(), &[]);
        assert!(host.inside("host", || TcpListener::bind("[::]:8080").is_ok()), "{words:?}");
    }
    assert_eq!(host.rules().matches(": 172.").count(), host.rules().matches("8081").count(), "{}", host.rules());
}

#[test]
fn a_dead_containers_flow_does_not_haunt_the_next_one() {
    let Some(host) = Host::new() else { return };
    host.up("first", &["-p", "5353:53/udp"]);
    let server = host.serve("first", "udp", 53);
    let client = host.inside("world", || UdpSocket::bind("0.0.0.0:40000").unwrap());
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    client.connect(format!("{HOST}:5353")).unwrap();
    let answer = || {
        client.send(b"who").ok()?;
        client.recv(&mut [0; 64]).ok()
    };
    assert!(answer().is_some());
    drop(server);
    host.does(&["rm", "-f", "first"]);
    assert!(!host.shell("host", "conntrack -L -p udp 2>/dev/null || true").contains("dport=5353"), "the flow is forgotten");
    // The same stranger from the same port, and another container at another address.
    host.up("holder", &[]);
    host.up("second", &["-p", "5353:53/udp"]);
    assert_ne!(host.ip("second", "bridge"), host.ip("holder", "bridge"));
    let _server = host.serve("second", "udp", 53);
    until("the second one answers", || answer().is_some());
}

#[test]
fn a_port_follows_its_container_through_its_networks() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "front"]);
    host.up("web", &["-p", "8080:80"]);
    let server = host.serve("web", "tcp", 80);
    host.does(&["network", "connect", "front", "web"]);
    let from_everywhere = || {
        let inner = host.ask("host", "tcp", "127.0.0.1:8080").is_some();
        (inner, host.ask("world", "tcp", &format!("{HOST}:8080")))
    };
    assert_eq!(from_everywhere(), (true, Some(WORLD.into())), "on two");
    host.does(&["network", "disconnect", "bridge", "web"]);
    assert_eq!(from_everywhere(), (true, Some(WORLD.into())), "on the other alone");
    drop(server);
    host.does(&["restart", "-t", "0", "web"]);
    let _server = host.serve("web", "tcp", 80);
    assert_eq!(from_everywhere(), (true, Some(WORLD.into())), "after a restart");
}
