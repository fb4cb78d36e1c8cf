//! `onggi network` and its words: what is listed, made, shown, joined, left and removed, each asserted by its effect on links and addresses.

use serde_json::Value;

use crate::host::{Host, begins};

#[test]
fn networks_are_listed_as_docker_lists_them() {
    let Some(host) = Host::new() else { return };
    let table = host.does(&["network", "ls"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]);
    let rows: Vec<&[&str]> = lines[1..].iter().map(|line| &line[1..]).collect();
    assert_eq!(rows, [["bridge", "bridge", "local"], ["host", "host", "local"], ["none", "null", "local"]]);
    let id = host.does(&["network", "create", "--label", "tier=web", "front"]);
    let other = host.does(&["network", "create", "--internal", "--label", "tier=data", "--label", "kept", "back"]);
    assert!(id.len() == 64 && id != other && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");

    let names = |filters: &[&str]| {
        let words: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        host.does(&[&["network", "ls", "--format", "{{.Name}}"], &words[..]].concat()).lines().collect::<Vec<_>>().join(" ")
    };
    for (filters, found) in [
        (&["name=r"][..], "bridge front"),
        (&["driver=bridge"], "back bridge front"),
        (&["driver=null"], "none"),
        (&["driver=null", "driver=host"], "host none"),
        (&["type=custom"], "back front"),
        (&["type=builtin"], "bridge host none"),
        (&["label=tier"], "back front"),
        (&["label=tier=web"], "front"),
        (&["label=tier", "label=kept"], "back"),
        (&["scope=local", "name=back"], "back"),
        (&["scope=swarm"], ""),
        (&["dangling=true"], "back front"),
        (&["name=none", "type=custom"], ""),
        (&[&format!("id={}", &id[..8])], "front"),
    ] {
        assert_eq!(names(filters), found, "{filters:?}");
    }
    host.fails(&["network", "ls", "--filter", "colour=red"], &["colour"]);
    assert_eq!(host.does(&["network", "ls", "-q", "-f", "name=front"]), id[..12]);
    assert_eq!(host.does(&["network", "ls", "-q", "--no-trunc", "-f", "name=front"]), id);
    let json: Value = serde_json::from_str(&host.does(&["network", "ls", "--format", "json", "-f", "name=back"])).unwrap();
    assert_eq!(
        (&json["Name"], &json["Driver"], &json["Internal"], &json["IPv6"]),
        (&"back".into(), &"bridge".into(), &"true".into(), &"false".into())
    );
    let labelled = host.does(&["network", "ls", "--format", "{{.Name}} {{.Label \"tier\"}} {{.Scope}}", "-f", "label=tier=web"]);
    assert_eq!(labelled, "front web local");
    assert!(host.does(&["network", "list", "-q"]).lines().count() == 5, "an alias of ls");
}

#[test]
fn what_create_is_told_is_true_of_links_and_addresses() {
    let Some(host) = Host::new() else { return };
    let words = "--driver bridge --subnet 172.30.0.0/24 --gateway 172.30.0.254 --ip-range 172.30.0.128/25 --aux-address router=172.30.0.129 \
                 -o com.docker.network.bridge.name=br-front -o com.docker.network.driver.mtu=1400 --label a=b --attachable front";
    host.does(&[&["network", "create"], &words.split_whitespace().collect::<Vec<_>>()[..]].concat());
    let address = host.shell("host", "ip -o -4 address show dev br-front");
    assert!(address.contains("172.30.0.254/24"), "{address}");
    host.up("web", &["--network", "front"]);
    assert_eq!(host.ip("web", "front"), "172.30.0.128");
    host.up("db", &["--network", "front"]);
    assert_eq!(host.ip("db", "front"), "172.30.0.130", "129 is the router's");
    host.up("far", &["--network", "front", "--ip", "172.30.0.7"]);
    assert_eq!(host.ip("far", "front"), "172.30.0.7");
    assert_eq!(host.exec("web", "cat /sys/class/net/eth0/mtu").as_deref(), Some("1400"));
    assert!(host.shell("host", "ip link show master br-front").contains("mtu 1400"));
    assert_eq!(host.exec("web", "ip route show default | cut -d' ' -f1-5").as_deref(), Some("default via 172.30.0.254 dev eth0"));
    let shown = host.network("front");
    let pool = &shown["IPAM"]["Config"][0];
    assert_eq!((&pool["Subnet"], &pool["Gateway"], &pool["IPRange"]), (&"172.30.0.0/24".into(), &"172.30.0.254".into(), &"172.30.0.128/25".into()));
    assert_eq!((&pool["AuxiliaryAddresses"]["router"], &shown["Labels"]["a"]), (&"172.30.0.129".into(), &"b".into()));
    assert_eq!((&shown["Attachable"], &shown["Internal"], &shown["Driver"]), (&true.into(), &false.into(), &"bridge".into()));
    assert_eq!(shown["Options"]["com.docker.network.driver.mtu"], "1400");
    let members: Vec<&str> = shown["Containers"].as_object().unwrap().values().map(|member| member["IPv4Address"].as_str().unwrap()).collect();
    assert!(members.len() == 3 && members.contains(&"172.30.0.7/24"), "{members:?}");
    let format = "{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.MacAddress}}{{println}}{{end}}";
    assert!(host.does(&["network", "inspect", "-f", format, "front"]).contains("far 172.30.0.7/24 02:42:ac:1e:00:07"));

    // The link goes with the network, and comes back with the next container when somebody removed it.
    host.does(&["rm", "-f", "web", "db", "far"]);
    host.shell("host", "ip link delete br-front");
    host.up("web", &["--network", "front"]);
    assert!(host.pings("web", "172.30.0.254"));
    host.does(&["rm", "-f", "web"]);
    host.does(&["network", "rm", "front"]);
    assert!(!host.links().contains(&"br-front".to_string()) && !host.rules().contains("br-front"), "{:?} {}", host.links(), host.rules());
}

#[test]
fn what_can_not_be_made_is_said_and_leaves_nothing() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "172.30.0.0/24", "front"]);
    host.shell("host", "ip link add own0 type veth peer name own1; ip address add 10.9.0.1/24 dev own0; ip link set own0 up");
    let before = (host.links(), host.rules(), host.does(&["network", "ls", "-q"]));
    for (words, parts) in [
        ("front", &["network with name front already exists"][..]),
        ("bridge", &["predefined bridge network"]),
        ("-x", &["-x"]),
        ("no/name", &["[a-zA-Z0-9]"]),
        ("--driver overlay many", &["overlay", "bridge"]),
        ("--subnet 172.30.0.128/25 many", &["overlaps", "front"]),
        ("--subnet 10.9.0.0/16 many", &["the host has a route to 10.9.0.0/24", "ip route"]),
        ("--subnet 203.0.113.0/24 many", &["the host has a route to 203.0.113.0/24"]),
        ("--subnet 10.8.0.0/24 --gateway 10.7.0.1 many", &["no matching subnet for gateway 10.7.0.1"]),
        ("--subnet 10.8.0.0/24 --ip-range 10.7.0.0/25 many", &["no matching subnet for range 10.7.0.0/25"]),
        ("--subnet 10.8.0.0/24 --aux-address a=10.7.0.9 many", &["no matching subnet for aux-address"]),
        ("--subnet 10.8.0.0/31 many", &["room for a gateway"]),
        ("--subnet 10.8.0.0/33 many", &["10.8.0.0/33"]),
        ("--gateway 10.8.0.1 many", &["no matching subnet for gateway"]),
        ("-o colour=red many", &["colour", "com.docker.network"]),
        ("-o com.docker.network.driver.mtu=big many", &["68 to 65535"]),
        ("-o com.docker.network.bridge.name=a-name-that-is-too-long many", &["1 to 15"]),
        ("-o com.docker.network.bridge.name=own0 many", &["own0", "already"]),
    ] {
        let words: Vec<&str> = words.split_whitespace().collect();
        host.fails(&[&["network", "create"], &words[..]].concat(), parts);
        assert_eq!((host.links(), host.rules(), host.does(&["network", "ls", "-q"])), before, "{words:?}");
    }
}

#[test]
fn a_network_goes_only_when_nobody_is_on_it() {
    let Some(host) = Host::new() else { return };
    for name in ["front", "back", "third", "fourth"] {
        host.does(&["network", "create", "--label", name, name]);
    }
    let fresh = host.links().len();
    assert_eq!(fresh, 4, "{:?}", host.links());
    host.up("web", &["--network", "front"]);
    host.fails(&["network", "rm", "front"], &["has active endpoints", "web", "network disconnect"]);
    host.fails(&["network", "rm", "bridge"], &["pre-defined network"]);
    host.fails(&["network", "rm", "bridg"], &["network bridg not found", "did you mean bridge?"]);
    // The others go nevertheless.
    let said = host.fails(&["network", "rm", "front", "third"], &["active endpoints"]);
    assert_eq!((said.code, said.out.trim()), (1, "third"));
    assert_eq!(host.does(&["network", "rm", "-f", "missing"]), "");
    let id = host.does(&["network", "ls", "-q", "-f", "name=fourth"]);
    assert_eq!(host.does(&["network", "rm", &id]), id);

    // Who is not running keeps a network from prune, as in Docker, but not from rm.
    host.does(&["create", "--name", "later", "--network", "back", "base", "true"]);
    assert_eq!(host.does(&["network", "prune", "-f"]), "");
    host.does(&["network", "create", "--label", "old", "fifth"]);
    assert!(host.does(&["network", "prune", "-f", "--filter", "until=1h"]).is_empty());
    assert!(host.does(&["network", "prune", "-f", "--filter", "label!=old"]).is_empty());
    assert_eq!(host.does(&["network", "prune", "-f", "--filter", "label=old"]), "Deleted Networks:\nfifth");
    assert!(host.does(&["network", "prune"]).starts_with("WARNING! This will remove all custom networks not used by at least one container."));
    host.does(&["network", "rm", "back"]);
    let gone = host.fails(&["start", "later"], &["network back"]);
    assert!(gone.err.contains("onggi network create back") && host.inspected("later", "{{.State.Status}}") == "created", "{}", gone.err);
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "back"]);
    assert_eq!(host.does(&["start", "-a", "later"]), "");
    host.does(&["network", "disconnect", "front", "web"]);
    host.does(&["rm", "-f", "web", "later"]);
    host.does(&["network", "rm", "front", "back"]);
    assert!(!host.links().iter().any(|link| link.starts_with("og-") || link.starts_with("veth")), "{:?}", host.links());
}

#[test]
fn a_container_joins_and_leaves_networks_while_it_runs_and_before() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "front"]);
    host.does(&["network", "create", "--subnet", "10.2.0.0/24", "back"]);
    host.up("web", &["--network", "front"]);
    host.up("db", &["--network", "back"]);
    assert!(!host.pings("web", "10.2.0.2") && host.resolve("web", "db").is_empty());

    host.does(&["network", "connect", "--ip", "10.2.0.9", "--alias", "www", "--alias", "site", "back", "web"]);
    assert_eq!(host.ip("web", "back"), "10.2.0.9");
    assert_eq!(host.exec("web", "ip -o -4 address show dev eth1 | awk '{print $4}'").as_deref(), Some("10.2.0.9/24"));
    assert!(host.pings("web", "10.2.0.2") && host.pings("db", "10.2.0.9"));
    for (from, name, to) in [("web", "db", "10.2.0.2"), ("db", "web", "10.2.0.9"), ("db", "www", "10.2.0.9"), ("db", "site", "10.2.0.9")] {
        assert_eq!(host.resolve(from, name), [to], "{name} for {from}");
    }
    // The way to the world is that of the network whose name is first, as in Docker.
    assert_eq!(host.exec("web", "ip route show default | cut -d' ' -f1-5").as_deref(), Some("default via 10.2.0.1 dev eth1"));
    for (words, parts) in [
        (&["connect", "back", "web"][..], &["endpoint with name web already exists in network back"][..]),
        (&["connect", "bridge", "--alias", "x", "web"], &["alias"]),
        (&["connect", "bridge", "--ip", "172.17.0.77", "web"], &["user defined networks only"]),
        (&["connect", "host", "web"], &["host"]),
        (&["connect", "missing", "web"], &["network missing not found"]),
        (&["connect", "front", "missing"], &["No such container: missing"]),
        (&["connect", "--ip", "10.2.0.9", "back", "db"], &["endpoint with name db already exists"]),
        (&["disconnect", "bridge", "web"], &["web is not connected to network bridge"]),
    ] {
        host.fails(&[&["network"], words].concat(), parts);
    }

    host.does(&["network", "disconnect", "back", "web"]);
    assert!(!host.pings("web", "10.2.0.2") && host.resolve("web", "db").is_empty() && host.resolve("db", "web").is_empty());
    assert_eq!(host.exec("web", "ls /sys/class/net | tr '\\n' ' '").as_deref(), Some("eth0 lo"));
    assert_eq!(host.exec("web", "ip route show default | cut -d' ' -f1-5").as_deref(), Some("default via 10.1.0.1 dev eth0"));
    host.does(&["network", "disconnect", "front", "web"]);
    assert_eq!(host.exec("web", "ls /sys/class/net").as_deref(), Some("lo"));

    // For its next start, too; and a restart keeps them.
    host.does(&["create", "--name", "later", "--network", "front", "--network-alias", "soon", "base", "sleep", "1000"]);
    host.does(&["network", "connect", "--ip", "10.2.0.77", "back", "later"]);
    assert_eq!(host.network("back")["Containers"].as_object().unwrap().len(), 1, "it isn't there before it runs");
    for verb in ["start", "restart"] {
        host.does(&[&[verb][..], if verb == "restart" { &["-t", "0", "later"] } else { &["later"] }].concat());
        assert_eq!((host.ip("later", "front").as_str(), host.ip("later", "back").as_str()), ("10.1.0.2", "10.2.0.77"), "{verb}");
        assert_eq!(host.resolve("db", "later"), ["10.2.0.77"], "{verb}");
    }
    host.does(&["network", "disconnect", "-f", "back", "later"]);
    host.does(&["network", "disconnect", "-f", "back", "missing"]);
    assert!(begins(&host.ip("later", "front"), "10.1."));
}

#[test]
fn a_container_begins_on_several_networks() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "alpha"]);
    host.does(&["network", "create", "--subnet", "10.2.0.0/24", "beta"]);
    host.does(&["network", "create", "--subnet", "10.3.0.0/24", "--internal", "aaa"]);
    host.up(
        "many",
        &["--network", "alpha", "--network", "name=beta,ip=10.2.0.9,alias=nick,mac-address=02:42:0a:aa:bb:cc,gw-priority=5", "--network", "aaa"],
    );
    assert_eq!([host.ip("many", "alpha"), host.ip("many", "beta"), host.ip("many", "aaa")], ["10.1.0.2", "10.2.0.9", "10.3.0.2"]);
    assert_eq!(host.exec("many", "cat /sys/class/net/eth1/address").as_deref(), Some("02:42:0a:aa:bb:cc"));
    assert_eq!(host.exec("many", "ip route show default | cut -d' ' -f1-5").as_deref(), Some("default via 10.2.0.1 dev eth1"));
    host.up("peer", &["--network", "beta"]);
    assert_eq!(host.resolve("peer", "nick"), ["10.2.0.9"]);
    assert!(host.pings("many", crate::host::WORLD));
    host.fails(&["run", "--network", "alpha", "--network", "host", "base", "true"], &["host"]);
    host.fails(&["run", "--network", "missing", "base", "true"], &["network missing not found"]);
    host.fails(&["run", "--ip", "172.17.0.99", "base", "true"], &["user defined networks only"]);
    host.fails(&["run", "--network", "alpha", "--ip", "10.2.0.50", "base", "true"], &["10.2.0.50", "10.1.0.0/24"]);
    host.fails(&["run", "--network", "beta", "--ip", "10.2.0.9", "base", "true"], &["10.2.0.9 is already in use by container many"]);
    host.fails(&["run", "--network", "beta", "--ip", "10.2.0.1", "base", "true"], &["the gateway"]);
}

#[test]
fn addresses_run_out_and_come_back() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/29", "small"]);
    for n in 2..7 {
        host.up(&format!("c{n}"), &["--network", "small"]);
        assert_eq!(host.ip(&format!("c{n}"), "small"), format!("10.1.0.{n}"));
    }
    let full =
        host.fails(&["run", "-d", "--name", "late", "--network", "small", "base", "sleep", "9"], &["no available IPv4 addresses", "10.1.0.0/29"]);
    assert_eq!(full.code, 125);
    host.does(&["rm", "-f", "c4"]);
    host.does(&["rm", "-f", "late"]);
    let id = host.up("late", &["--network", "small"]);
    assert_eq!(host.ip("late", "small"), "10.1.0.4");
    assert_eq!(host.inspected("late", "{{.NetworkSettings.Networks.small.MacAddress}}"), "02:42:0a:01:00:04");
    assert!(host.pings("c2", "10.1.0.4"));
    let ids = host.network("small")["Containers"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert!(ids.len() == 5 && ids.contains(&id));
}

#[test]
fn what_happens_to_networks_is_told_as_events() {
    let Some(host) = Host::new() else { return };
    let id = host.does(&["network", "create", "front"]);
    let container = host.up("web", &["--network", "front"]);
    host.does(&["network", "disconnect", "front", "web"]);
    host.does(&["network", "connect", "front", "web"]);
    host.does(&["rm", "-f", "web"]);
    host.does(&["network", "rm", "front"]);
    let told = host.does(&["events", "--since", "1h", "--until", "0s", "--filter", "type=network", "--format", "json"]);
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<&str> = events.iter().filter(|event| event["Actor"]["ID"] == *id).map(|event| event["Action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "connect", "disconnect", "connect", "disconnect", "destroy"], "{told}");
    for event in events.iter().filter(|event| event["Actor"]["ID"] == *id) {
        let facts = &event["Actor"]["Attributes"];
        assert_eq!((&facts["name"], &facts["type"]), (&"front".into(), &"bridge".into()), "{event}");
        if event["Action"].as_str().unwrap().contains("connect") {
            assert_eq!(facts["container"], *container, "{event}");
        }
    }
    let only = host.does(&["events", "--since", "1h", "--until", "0s", "--filter", "network=front", "--filter", "event=destroy"]);
    assert_eq!(only.lines().count(), 1, "{only}");
}
