//! The networks that are none of ours: the host's, none at all, and another container's.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::host::{Host, WORLD};

fn inode(host: &Host, place: &str) -> u64 {
    host.namespace(place).metadata().unwrap().ino()
}

#[test]
fn on_the_hosts_network_a_container_is_the_host() {
    let Some(host) = Host::new() else { return };
    host.up("web", &["--network", "host"]);
    assert_eq!(inode(&host, "web"), inode(&host, "host"));
    assert!(host.exec("web", "ip address").is_some_and(|text| text.contains("up0") && text.contains(crate::host::HOST)));
    assert_eq!(host.exec("web", "hostname"), Some(fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_string()));
    assert_eq!(host.inspected("web", "{{.HostConfig.NetworkMode}} {{len .NetworkSettings.Networks}}"), "host 1");
    // Docker says so, too, and goes on.
    let said = host.says(&["run", "--rm", "--network", "host", "-p", "8080:80", "base", "true"]);
    assert!(said.code == 0 && said.err.contains("Published ports are discarded when using host network mode"), "{said:?}");
    host.fails(&["network", "connect", "bridge", "web"], &["sharing network namespace with another container or host"]);
    assert_eq!(host.links(), Vec::<String>::new(), "nothing was made");
}

#[test]
fn without_a_network_there_is_loopback() {
    let Some(host) = Host::new() else { return };
    host.up("web", &["--network", "none"]);
    assert_eq!(host.exec("web", "ls /sys/class/net").as_deref(), Some("lo"));
    let _server = host.serve("web", "tcp", 80);
    assert!(host.ask("web", "tcp", "127.0.0.1:80").is_some() && !host.pings("web", WORLD));
    assert!(host.inspected("web", "{{json .NetworkSettings.Networks}}").contains("\"none\""));
    assert_eq!(host.links(), Vec::<String>::new(), "nothing was made");
    host.does(&["network", "create", "front"]);
    host.does(&["network", "connect", "front", "web"]);
    assert!(host.pings("web", WORLD));
}

#[test]
fn a_container_shares_anothers_network() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "front"]);
    host.up("web", &["--network", "front", "-p", "8080:80", "--hostname", "shop", "--add-host", "cash:10.9.9.9"]);
    let side = host.up("side", &["--network", "container:web"]);
    assert_eq!(inode(&host, "web"), inode(&host, "side"));
    for file in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        assert_eq!(host.exec("web", &format!("cat {file}")), host.exec("side", &format!("cat {file}")), "{file}");
    }
    assert_eq!(host.exec("side", "getent hosts cash | cut -d' ' -f1").as_deref(), Some("10.9.9.9"));
    // What one writes there, the other reads.
    host.exec("side", "echo 10.8.8.8 bank >>/etc/hosts").unwrap();
    assert_eq!(host.exec("web", "getent hosts bank | cut -d' ' -f1").as_deref(), Some("10.8.8.8"));
    host.does(&["exec", "-d", "side", "sh", "-c", "mkdir -p /w; echo hello >/w/index.html; httpd -f -p 80 -h /w"]);
    crate::support::jar::until("they meet on localhost", || host.exec("web", "wget -qO- http://127.0.0.1:80/").as_deref() == Some("hello"));
    assert!(!host.is_closed("host", "127.0.0.1:8080") || host.exec("side", "true").is_some());
    let web = host.id_of("web").unwrap();
    assert_eq!(host.inspected("side", "{{.HostConfig.NetworkMode}}"), format!("container:{web}"));
    for (words, part) in [
        (&["-p", "81:81"][..], "port publishing"),
        (&["--hostname", "x"], "hostname"),
        (&["--add-host", "a:1.1.1.1"], "host-to-IP"),
        (&["--dns", "1.1.1.1"], "dns"),
        (&["--expose", "80"], "expose"),
        (&["--network-alias", "x"], "alias"),
    ] {
        host.fails(&[&["run", "--rm", "--network", "container:web"], words, &["base", "true"]].concat(), &[part]);
    }
    host.fails(&["run", "--rm", "--network", "container:missing", "base", "true"], &["missing"]);
    host.fails(&["network", "connect", "bridge", "side"], &["sharing network namespace"]);
    // It goes on when the other ends; who comes then is told.
    host.does(&["stop", "-t", "0", "web"]);
    assert_eq!(host.exec("side", "cat /w/index.html").as_deref(), Some("hello"));
    host.fails(&["run", "--rm", "--network", "container:web", "base", "true"], &["web"]);
    host.does(&["rm", "-f", &side]);
    let late = host.fails(&["start", "missing"], &["No such container"]);
    assert_eq!(late.code, 1);
}
