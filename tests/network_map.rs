//! `onggi network map` and `onggi network trace` against the kernel: what is drawn is what is there, and each way to break a network is
//! found, named, and mended by the remedy that is told.
//!
//! See it: `onggi network map`, `onggi network trace web db:5432`. Read: ip-link(8), nft(8).

#[path = "network_map/street.rs"]
mod street;
mod support;

use serde_json::Value;
use street::Street;

#[test]
fn the_map_as_text_fits_and_shows_networks_cables_names_and_ports() {
    let Some(street) = Street::new() else { return };
    street.network("front", "172.30.0.0/24", &[]);
    street.network("back", "172.31.0.0/24", &["--internal"]);
    street.container("web", &["--network", "front", "--ip", "172.30.0.10", "--network-alias", "www", "-p", "8080:80"]);
    street.jar.does(&["network", "connect", "--ip", "172.31.0.10", "back", "web"]);
    street.container("db", &["--network", "back"]);
    street.container("alone", &[]);
    street.container("onhost", &["--network", "host"]);
    let map = street.jar.does(&["network", "map"]);
    assert!(map.lines().all(|line| line.chars().count() <= 80 && line == line.trim_end()), "{map}");
    let mut settings = insta::Settings::clone_current();
    for (pattern, same) in [
        (r"host \S+ ·", "host NAME ·"),
        (r"net:\[\d+\]", "net:[INODE]"),
        (r"PID \d+", "PID N"),
        (r"INODE\] ─+", "INODE] ──"),
        (r"veth[0-9a-f]{7}", "veth1234567"),
        (r"og-[0-9a-f]{12}", "og-123456789abc"),
        (r"\b[0-9a-f]{12}\b", "123456789abc"),
        (r"received .*│", "received …, sent … │"),
    ] {
        settings.add_filter(pattern, same);
    }
    settings.bind(|| insta::assert_snapshot!("map", map));
    let one = street.jar.does(&["network", "map", "back"]);
    assert!(one.contains("network back") && !one.contains("alone") && !one.contains("network front"), "{one}");
    assert!(street.jar.says(&["network", "map", "bakc"]).err.contains("did you mean back?"));
}

#[test]
fn the_map_as_json_says_what_ip_and_proc_say() {
    let Some(street) = Street::new() else { return };
    street.network("front", "172.30.0.0/24", &["--ipv6"]);
    street.container("web", &["--network", "front", "-p", "8080:80"]);
    let _listener = street.listen("web", "0.0.0.0:80");
    std::net::TcpStream::connect("192.0.2.10:8080").unwrap();
    std::net::TcpStream::connect("192.0.2.10:8080").unwrap();
    let map = street.map();
    let web = &map["containers"][0];
    let pid = street.pid("web");
    let inode = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!((&web["name"], &web["pid"]), (&Value::from("web"), &Value::from(pid)));
    assert_eq!(format!("net:[{}]", web["namespace"]), inode.to_string_lossy());
    let cable = &web["cables"][0];
    let links: Value = serde_json::from_str(&street.within("web", "ip -j address show eth0")).unwrap();
    let told: Vec<String> = links[0]["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|info| info["scope"] == "global")
        .map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]))
        .collect();
    assert_eq!(cable["addresses"], serde_json::json!(told));
    assert_eq!(cable["mac"], links[0]["address"]);
    let outside: Value = serde_json::from_str(&street.run("ip", &["-j", "link", "show", cable["outside"].as_str().unwrap()])).unwrap();
    assert_eq!(outside[0]["master"], map["networks"].as_array().unwrap().iter().find(|network| network["name"] == "front").unwrap()["link"]);
    let port = web["ports"].as_array().unwrap().iter().find(|port| port["host"] == "0.0.0.0:8080").unwrap();
    assert_eq!((&port["container"], &port["connections"]), (&Value::from("80/tcp"), &Value::from(2)));
    assert!(cable["received"]["packets"].as_u64().unwrap() >= 2, "{cable}");
    assert_eq!(map["host"]["uplinks"][0]["link"], "eth0");
    assert_eq!(map["unknown"], serde_json::json!([]));
}

#[test]
fn what_kernel_and_engine_disagree_about_is_marked() {
    let Some(street) = Street::new() else { return };
    street.network("front", "172.30.0.0/24", &[]);
    street.container("web", &["--network", "front"]);
    let map = street.map();
    let front = map["networks"].as_array().unwrap().iter().find(|network| network["name"] == "front").unwrap()["link"].as_str().unwrap().to_string();
    street.run("ip", &["link", "add", "stray0", "type", "veth", "peer", "name", "stray1"]);
    street.run("ip", &["link", "set", "stray0", "master", &front]);
    street.run("ip", &["address", "del", "172.30.0.1/24", "dev", &front]);
    street.within("web", "ip address flush dev eth0");
    let text = street.jar.does(&["network", "map"]);
    for part in ["! stray0 is plugged into", "! its address 172.30.0.1/24 is missing", "! its address 172.30.0.2/24 is missing inside"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let cable = map["containers"][0]["cables"][0]["outside"].as_str().unwrap();
    street.run("ip", &["link", "del", cable]);
    let text = street.jar.does(&["network", "map"]);
    assert!(text.contains(&format!("! the kernel has no link {cable}")) && text.contains("! there is no eth0 in its namespace"), "{text}");
}

#[test]
fn a_picture_is_written_by_the_ending_of_its_name() {
    let Some(street) = Street::new() else { return };
    street.container("web", &[]);
    for (file, begins) in [("map.svg", "<svg xmlns"), ("map.json", "{\n"), ("map.txt", "host ")] {
        let path = street.jar.root.join(file);
        street.jar.does(&["network", "map", "-o", path.to_str().unwrap()]);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with(begins) && text.contains("web"), "{text}");
    }
    let refused = street.jar.says(&["network", "map", "-o", "map.png"]);
    assert!(refused.code != 0 && refused.err.contains("map.svg, map.json or map.txt"), "{}", refused.err);
}

#[test]
fn a_packet_that_arrives_is_predicted_and_proved() {
    let Some(street) = Street::new() else { return };
    street.network("front", "172.30.0.0/24", &[]);
    street.container("web", &["--network", "front", "-p", "8080:80"]);
    street.container("db", &["--network", "front", "--network-alias", "postgres"]);
    street.container("side", &["--network", "container:web"]);
    street.container("alone", &[]);
    let _db = street.listen("db", "0.0.0.0:5432");
    let _web = street.listen("web", "0.0.0.0:80");
    let _own = street.listen("db", "127.0.0.1:6000");
    street.echo("db", "0.0.0.0:53");
    for (from, to, port) in [
        ("web", "db:5432", 5432),
        ("web", "db", 5432),
        ("web", "postgres:5432", 5432),
        ("web", "DB.front:5432", 5432),
        ("web", "db:53/udp", 53),
        ("side", "db:5432", 5432),
        ("alone", "192.0.2.10:8080", 8080),
        ("alone", "host:8080", 8080),
        ("web", "host:8080", 8080),
        ("db", "db:5432", 5432),
    ] {
        let trace = street.trace(from, to);
        trace.assert("passes", true, Some(true));
        assert_eq!(trace.json["proof"]["outcome"], "answered", "{from} {to}: {}", trace.json);
        assert!(trace.json["address"].as_str().unwrap().ends_with(&format!(":{port}")), "{from} {to}: {}", trace.json);
    }
    for (to, part) in [("db:99", "somebody does on 5432"), ("db:6000", "is open at 127.0.0.1:6000 only"), ("db:5432/udp", "somebody does on 53")] {
        let trace = street.trace("web", to);
        trace.assert("nobody", true, Some(true));
        assert!(trace.hop("listener")["seen"].as_str().unwrap().contains(part), "{to}: {}", trace.json);
        assert_eq!(trace.json["proof"]["outcome"], "refused", "{to}: {}", trace.json);
    }
}

#[test]
fn names_that_lead_nowhere_are_explained() {
    let Some(street) = Street::new() else { return };
    street.network("front", "172.30.0.0/24", &[]);
    street.network("back", "172.31.0.0/24", &[]);
    street.container("web", &["--network", "front"]);
    street.container("db", &["--network", "back"]);
    street.container("one", &[]);
    street.container("two", &[]);
    street.container("none", &["--network", "none"]);
    street.jar.does(&["create", "--name", "asleep", "--network", "front", "base", "true"]);
    street.trace("web", "webb").stops_at("name", "did you mean web?");
    street.trace("web", "asleep").stops_at("name", "onggi start asleep");
    street.trace("none", "host").stops_at("name", "onggi network connect");
    // By its name it goes nowhere, by its address it would.
    let trace = street.trace("one", "two");
    trace.stops_at("name", "onggi network create app && onggi network connect app one");
    assert_eq!((&trace.json["agree"], &trace.json["proof"]["outcome"]), (&Value::Bool(true), &Value::from("refused")), "{}", trace.json);
    street.mend(&trace, "one", "two");
    let trace = street.trace("web", "db");
    trace.stops_at("name", "onggi network connect back web");
    trace.also_stops_at("rule", "into a network");
    street.mend(&trace, "web", "db");
    let refused = street.jar.says(&["network", "trace", "asleep", "web"]);
    assert!(refused.code == 1 && refused.err.contains("not running") && refused.err.contains("onggi start asleep"), "{}", refused.err);
}

#[test]
fn a_network_that_keeps_its_containers_apart_or_inside_is_named() {
    let Some(street) = Street::new() else { return };
    street.network("apart", "172.30.0.0/24", &["-o", "com.docker.network.bridge.enable_icc=false"]);
    street.network("inner", "172.31.0.0/24", &["--internal"]);
    street.container("one", &["--network", "apart"]);
    street.container("two", &["--network", "apart"]);
    street.container("three", &["--network", "inner"]);
    let trace = street.trace("one", "two:80");
    trace.assert("stops", false, Some(true));
    trace.stops_at("bridge", "onggi network create app");
    street.mend(&trace, "one", "two:80");
    let trace = street.trace("three", "192.0.2.10:80");
    trace.assert("stops", false, Some(true));
    trace.stops_at("route", "onggi network connect bridge three");
    street.mend(&trace, "three", "192.0.2.10:80");
}

#[test]
fn what_was_broken_by_hand_is_found_and_mended() {
    let Some(street) = Street::new() else { return };
    street.network("front", "172.30.0.0/24", &[]);
    street.container("web", &["--network", "front"]);
    street.container("db", &["--network", "front"]);
    let map = street.map();
    let cable = |name: &str| {
        map["containers"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()["cables"][0]["outside"].as_str().unwrap().to_string()
    };
    let bridge = map["networks"].as_array().unwrap().iter().find(|network| network["name"] == "front").unwrap()["link"].as_str().unwrap().to_string();
    let (web, db) = (cable("web"), cable("db"));
    let cases = [
        (
            "web",
            "ip route del default; ip route del 172.30.0.0/24".to_string(),
            "172.30.0.3:80",
            "route",
            "the route to its network front is missing",
        ),
        ("web", "ip route del default".into(), "192.0.2.10:80", "route", "its default route is missing"),
        ("web", "ip link set eth0 down".into(), "172.30.0.3:80", "route", "eth0 is down"),
        ("", format!("ip link set {web} down"), "db:80", "cable", "is down"),
        ("", format!("ip link set {db} nomaster"), "db:80", "cable", "is no port of"),
        ("", format!("ip link set {bridge} down"), "db:80", "cable", "is down"),
        ("", format!("ip address del 172.30.0.1/24 dev {bridge}"), "192.0.2.10:80", "bridge", "the bridge has lost its address"),
        ("db", "ip link set eth0 down".into(), "db:80", "cable", "eth0 is down inside db"),
        ("db", "ip address del 172.30.0.3/24 dev eth0".into(), "db:80", "cable", "has lost its address"),
        ("db", "ip route del 172.30.0.0/24 && ip route del default; true".into(), "db:80", "route", "has no way back"),
        ("", "sysctl -qw net.ipv4.ip_forward=0".into(), "192.0.2.1:80", "host", "forwarding is off"),
    ];
    for (place, command, to, hop, why) in cases {
        if place.is_empty() {
            street.run("sh", &["-c", &command])
        } else {
            street.within(place, &command)
        };
        let trace = street.trace("web", to);
        trace.assert("stops", false, Some(true));
        trace.also_stops_at(hop, why);
        if to != "192.0.2.1:80" {
            street.mend(&trace, "web", to);
        }
        // Whatever a mending leaves out is made good: a link that went down lost its routes.
        street.within("web", "ip link set eth0 up; ip route replace 172.30.0.0/24 dev eth0 src 172.30.0.2; ip route replace default via 172.30.0.1");
        street.within("db", "ip route replace 172.30.0.0/24 dev eth0 src 172.30.0.3; ip route replace default via 172.30.0.1");
    }
}

#[test]
fn rules_that_are_not_ours_are_named_and_the_proof_decides() {
    let Some(street) = Street::new() else { return };
    if support::peer("nft").is_none() {
        return;
    }
    street.network("front", "172.30.0.0/24", &[]);
    street.container("web", &["--network", "front", "-p", "8080:80"]);
    street.container("db", &["--network", "front"]);
    street.container("alone", &[]);
    let _web = street.listen("web", "0.0.0.0:80");
    street.within("db", "nft 'add table ip own; add chain ip own in { type filter hook input priority 0; }; add rule ip own in tcp dport 80 drop'");
    let trace = street.trace("web", "db:80");
    trace.assert("unknown", false, None);
    assert!(trace.hop("filter")["seen"].as_str().unwrap().contains("db has rules of its own: ip own in"), "{}", trace.json);
    street.trace("web", "db:81").assert("unknown", true, None);
    street.run("nft", &["add table inet mine; add chain inet mine passing { type filter hook forward priority 0; policy drop; }"]);
    let trace = street.trace("alone", "192.0.2.10:8080");
    trace.assert("unknown", false, None);
    let chains: Vec<_> = trace.json["hops"].as_array().unwrap().iter().filter(|hop| hop["name"] == "filter").collect();
    assert!(chains[0]["seen"].as_str().unwrap().starts_with("inet mine passing is not ours"), "{}", trace.json);
    street.run("sh", &["-c", chains[0]["remedy"].as_str().unwrap()]);
    street.run("nft", &["insert rule inet mine passing ct state established accept"]);
    street.trace("alone", "192.0.2.10:8080").assert("unknown", true, None);
}

#[test]
fn people_read_a_sign_a_hop_a_command_and_a_remedy() {
    let Some(street) = Street::new() else { return };
    street.network("front", "172.30.0.0/24", &[]);
    street.network("back", "172.31.0.0/24", &[]);
    street.container("web", &["--network", "front"]);
    street.container("db", &["--network", "back"]);
    let said = street.jar.says(&["network", "trace", "web", "db:5432"]);
    assert_eq!((said.code, &*said.err), (1, ""), "{}", said.out);
    let mut settings = insta::Settings::clone_current();
    for (pattern, same) in [
        (r"veth[0-9a-f]{7}", "veth1234567"),
        (r"og-[0-9a-f]{12}", "og-123456789abc"),
        (r"onggi-[0-9a-f]{8}", "onggi-12345678"),
        (r"-t \d+", "-t PID"),
        (r"[\d.]+ ms", "N ms"),
        (r"02:42(:[0-9a-f]{2}){4}", "MAC"),
    ] {
        settings.add_filter(pattern, same);
    }
    settings.bind(|| insta::assert_snapshot!("trace", said.out));
    for wrong in ["db:0", "db:80/icmp", ""] {
        assert_ne!(street.jar.says(&["network", "trace", "web", wrong]).code, 0, "{wrong}");
    }
}
