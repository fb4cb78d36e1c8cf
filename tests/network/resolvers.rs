//! What is written into a container's `/etc/hosts` and `/etc/resolv.conf`, beside what Docker writes there.

use crate::host::Host;

const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n\
                     ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

#[test]
fn the_files_say_what_was_asked_for() {
    let Some(host) = Host::new() else { return };
    host.own_file("/etc/resolv.conf", "# of the host\nnameserver 203.0.113.2\nnameserver 127.0.0.53\nsearch lab.test corp.test\noptions timeout:3\n");
    let shows = |options: &[&str], file: &str| {
        let words = [&["run", "--rm", "--hostname", "box"], options, &["base", "cat", file]].concat();
        host.says(&words).out
    };
    let resolv = |options: &[&str]| shows(options, "/etc/resolv.conf");
    assert_eq!(resolv(&[]), "nameserver 203.0.113.2\nsearch lab.test corp.test\noptions timeout:3\n");
    assert_eq!(
        resolv(&["--dns", "9.9.9.9", "--dns", "1.1.1.1", "--dns-search", "x.test", "--dns-option", "ndots:2", "--dns-opt", "rotate"]),
        "nameserver 9.9.9.9\nnameserver 1.1.1.1\nsearch x.test\noptions ndots:2 rotate\n"
    );
    assert_eq!(resolv(&["--dns-search", "."]), "nameserver 203.0.113.2\noptions timeout:3\n");
    assert_eq!(resolv(&["--network", "host"]), "nameserver 203.0.113.2\nnameserver 127.0.0.53\nsearch lab.test corp.test\noptions timeout:3\n");
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "front"]);
    assert_eq!(resolv(&["--network", "front"]), "nameserver 127.0.0.11\nsearch lab.test corp.test\noptions timeout:3 ndots:0\n");
    assert_eq!(
        resolv(&["--network", "front", "--dns", "9.9.9.9", "--dns-opt", "ndots:5"]),
        "nameserver 127.0.0.11\nsearch lab.test corp.test\noptions ndots:5\n"
    );

    let hosts = |options: &[&str]| shows(options, "/etc/hosts");
    assert_eq!(hosts(&["--network", "front"]), format!("{HOSTS}10.1.0.2\tbox\n"));
    assert_eq!(
        hosts(&[
            "--network",
            "front",
            "--add-host",
            "db:192.0.2.5",
            "--add-host",
            "host.docker.internal:host-gateway",
            "--add-host",
            "six=2001:db8::5"
        ]),
        format!("{HOSTS}192.0.2.5\tdb\n10.1.0.1\thost.docker.internal\n2001:db8::5\tsix\n10.1.0.2\tbox\n")
    );
    assert_eq!(hosts(&["--network", "none"]), format!("{HOSTS}127.0.0.1\tbox\n"));
    assert_eq!(shows(&["--network", "front"], "/etc/hostname"), "box\n");
    host.fails(&["run", "--rm", "--add-host", "db", "base", "true"], &["db"]);
    host.fails(&["run", "--rm", "--add-host", "db:nowhere", "base", "true"], &["nowhere"]);
    host.fails(&["run", "--rm", "--dns", "nowhere", "base", "true"], &["nowhere"]);

    // What the container writes there stays until its end.
    host.up("web", &["--network", "front"]);
    host.exec("web", "echo 10.9.9.9 mine >>/etc/hosts").unwrap();
    assert_eq!(host.resolve("web", "mine"), ["10.9.9.9"]);
    host.does(&["restart", "-t", "0", "web"]);
    assert!(host.resolve("web", "mine").is_empty());
}
