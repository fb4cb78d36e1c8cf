//! Step 07: a bridge, a cable for each container, and the ways out and in.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::host::{HOST, WORLD, run};
use crate::place::{Place, Step, from};
use crate::support::jar::until;
use crate::support::kernel::Process;

/// What `ip -j WORDS` says in the network namespace of a process.
fn ip(process: &Process, words: &[&str]) -> Value {
    let pid = process.0.to_string();
    serde_json::from_str(&run("nsenter", &[&["-t", &pid, "-n", "ip", "-j", "-d"], words].concat())).unwrap()
}

/// What the chapter is about, as the kernel tells it, with nothing in it of the engine's or the step's own choice.
fn facts(place: &Place, process: &Process) -> Value {
    let inside = &ip(process, &["address", "show", "dev", "eth0"])[0];
    let host: Value = serde_json::from_str(&place.host.shell("host", "ip -j -d address")).unwrap();
    let links = host.as_array().unwrap();
    let find = |key: &str, value: &Value| links.iter().find(|link| &link[key] == value).unwrap_or_else(|| panic!("no {key} {value} in {host}"));
    let port = find("ifindex", &inside["link_index"]);
    let bridge = find("ifname", &port["master"]);
    let first = |link: &Value| link["addr_info"].as_array().unwrap().iter().find(|one| one["family"] == "inet").unwrap().clone();
    let (own, gateway) = (first(inside), first(bridge));
    let routes = ip(process, &["route", "show", "default"]);
    let near = |one: &Value| one["local"].as_str().unwrap().rsplit_once('.').unwrap().0.to_string();
    serde_json::json!({
        "inside": [inside["linkinfo"]["info_kind"], inside["operstate"], own["scope"]],
        "peer's index on both sides": inside["ifindex"] == port["link_index"],
        "outside": [port["linkinfo"]["info_kind"], port["operstate"], bridge["linkinfo"]["info_kind"]],
        "one network": [near(&own) == near(&gateway), own["prefixlen"] == gateway["prefixlen"]],
        "the way out": [routes[0]["gateway"] == gateway["local"], routes[0]["dev"]],
        "lo": ip(process, &["link", "show", "dev", "lo"])[0]["flags"].as_array().unwrap().contains(&"UP".into()),
        "namespace": process.namespace("net") == crate::support::kernel::host().namespace("net"),
    })
}

#[test]
fn a_container_has_a_cable_to_a_bridge_as_the_engines_have() {
    let Some(place) = Place::new() else { return };
    place.host.up("engine", &[]);
    let wanted = facts(&place, &Process(place.host.init_of("engine").unwrap()));
    place.host.does(&["rm", "-f", "engine"]);
    place.host.does(&["system", "prune", "-f"]);
    for step in from("step-07") {
        let process = place.begin(step, "web", &[]);
        assert_eq!(facts(&place, &process), wanted, "{}", step.0);
        place.end(step, "web");
    }
}

/// Whom a process in the container's network meets at an address, by what is written there.
fn ask(process: &Process, to: &str) -> String {
    let (address, port) = to.split_once(':').unwrap();
    let script = format!("exec 3<>/dev/tcp/{address}/{port}; timeout 5 cat <&3");
    run("nsenter", &["-t", &process.0.to_string(), "-n", "bash", "-c", &script])
}

#[test]
fn packets_find_their_way_out_in_and_to_the_neighbour() {
    let Some(place) = Place::new() else { return };
    let _world = place.host.serve("world", "tcp", 7);
    for step in from("step-07") {
        comes_and_goes(&place, step);
        assert_eq!((place.host.links(), place.host.rules()), (Vec::new(), String::new()), "{}", step.0);
    }
    place.assert_nothing_left();
}

fn comes_and_goes(place: &Place, step: &Step) {
    let port = place.start(step, "web", &["-p", "8080:80"], &["httpd", "-f", "-p", "80", "-h", "/etc", "-r", step.0]);
    let other = place.begin(step, "other", &[]);
    assert_eq!(ask(&port, &format!("{WORLD}:7")), HOST, "{}: the world sees the host's address", step.0);
    let file = "os-release";
    let wanted = place.host.does(&["run", "--rm", "--network", "none", "base", "cat", "/etc/os-release"]);
    let fetch = |from: &str, at: &str| place.host.shell(from, &format!("curl -sS -m 5 http://{at}/{file}"));
    assert_eq!(fetch("world", &format!("{HOST}:8080")).trim_end(), wanted, "{}: from outside", step.0);
    assert_eq!(fetch("host", &format!("{HOST}:8080")).trim_end(), wanted, "{}: from the host", step.0);
    assert_eq!(fetch("host", "10.77.0.2:80").trim_end(), wanted);
    let near = run("nsenter", &["-t", &other.0.to_string(), "-n", "curl", "-sS", "-m", "5", &format!("http://10.77.0.2/{file}")]);
    assert_eq!(near.trim_end(), wanted, "{}: from the neighbour", step.0);
    // The bridge stays as long as somebody is on it.
    place.end(step, "web");
    assert_eq!(place.host.links().len(), 2, "{}: the bridge and one cable", step.0);
    assert!(!place.host.rules().contains("8080"));
    // The address is free again.
    let again = place.begin(step, "again", &[]);
    assert_eq!(ip(&again, &["-4", "address", "show", "dev", "eth0"])[0]["addr_info"][0]["local"], "10.77.0.2");
    place.end(step, "again");
    place.end(step, "other");
}

#[test]
fn however_a_container_ends_nothing_is_left() {
    let Some(place) = Place::new() else { return };
    for step in from("step-07") {
        let all = ["-p", "8080:80", "--memory", "64m"];
        let run = |command: &[&str]| place.says(step, &[&["run", "--rm"], &all[..], &[&place.layout], command].concat()).code;
        assert_eq!([run(&["sh", "-c", "exit 3"]), run(&["sh", "-c", "kill -9 $$"]), run(&["nosuch"]), run(&["/etc"])], [3, 137, 127, 126]);
        place.assert_nothing_left();
        // Ctrl-C, a closed terminal, and kill: the command gets it, and the container ends with the command.
        for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM] {
            let begun = place.background(step, &all);
            assert_eq!(place.ended(begun, signal), 128 + signal as i32, "{} {signal}", step.0);
            place.assert_nothing_left();
        }
        // A monitor that is killed can do nothing more; whoever comes next finds the way clear, and clears up.
        let begun = place.background(step, &all);
        until("its state is on disk", || {
            place.names().iter().any(|name| Path::new("/run/onggi-steps/containers").join(name).join("state.json").exists())
        });
        place.ended(begun, Signal::SIGKILL);
        let address = place.does(step, &["run", "--rm", "-p", "8080:80", &place.layout, "ip", "-4", "address", "show", "dev", "eth0"]);
        assert!(address.contains(" 10.77.0.2/24 "), "{}: {address}", step.0);
        assert_eq!((place.host.links(), place.host.rules()), (Vec::new(), String::new()), "{}", step.0);
        for name in place.names() {
            place.does(step, &["rm", &name]);
        }
        place.assert_nothing_left();
    }
}

#[test]
fn ports_that_are_none_are_refused_in_one_line() {
    let Some(place) = Place::new() else { return };
    for step in from("step-07") {
        for wrong in ["x", "80", "8080:0", "70000:80", "8080:80:90"] {
            place.refuses(step, &["run", "-p", wrong, &place.layout, "true"], &[wrong]);
        }
    }
    place.assert_nothing_left();
}
