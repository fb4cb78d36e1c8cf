//! Being found on the same network: by `onggi registry find`, and by another implementation of multicast DNS.

use std::process::Command;

use crate::served::Served;
use crate::support::jar::said;
use crate::support::{peer, skip_for_want_of};

/// A network with two names in this test's own network namespace, whose packets all come back.
fn with_network() -> bool {
    let Some(ip) = peer("ip") else { return false };
    let up = "ip link add street type veth peer name house && ip address add 10.7.0.1/24 dev street && ip link set street up && ip link set house up";
    Command::new("sh").args(["-c", &up.replace("ip ", &format!("{} ", ip.display()))]).status().is_ok_and(|status| status.success())
}

#[test]
fn a_registry_that_announces_itself_is_found_by_its_name() {
    if !nix::unistd::geteuid().is_root() {
        return skip_for_want_of("only root can make a network");
    }
    let quiet = Served::new(&[]);
    if !with_network() {
        return;
    }
    let nobody = quiet.jar.says(&["registry", "find", "--timeout", "1"]);
    assert!(nobody.code == 1 && nobody.err.contains("nobody answered in 1 s") && nobody.err.contains("--announce"), "{nobody:?}");
    let served = Served::new(&["--announce", "--name", "Room 5. 도커"]);
    let port = served.host.rsplit(':').next().unwrap().to_string();
    let found = quiet.jar.does(&["registry", "find", "--timeout", "1"]);
    assert_eq!(found, format!("http://10.7.0.1:{port}  Room 5. 도커"));
    // Debian's own, which finds Debian's modules.
    let python = "/usr/bin/python3";
    let script = "import sys, time, zeroconf as z
class Seen:
    def add_service(self, conf, kind, name):
        info = conf.get_service_info(kind, name)
        print('+', name, info.parsed_addresses(), info.port, info.properties, flush=True)
    def remove_service(self, conf, kind, name): print('-', name, flush=True)
    def update_service(self, *_): pass
conf = z.Zeroconf(interfaces=['10.7.0.1'])
z.ServiceBrowser(conf, '_onggi-registry._tcp.local.', Seen())
time.sleep(2); print('.', flush=True); sys.stdin.read(); time.sleep(1)";
    if !Command::new(python).args(["-c", "import zeroconf"]).output().is_ok_and(|output| output.status.success()) {
        return skip_for_want_of("python3-zeroconf is not installed");
    }
    let mut other = Command::new(python);
    let mut other = other.args(["-c", script]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = [0; 400];
    let mut length = 0;
    while !first[..length].ends_with(b".\n") {
        let count = std::io::Read::read(other.stdout.as_mut().unwrap(), &mut first[length..]).unwrap();
        assert!(count > 0, "python ended");
        length += count;
    }
    served.end();
    drop(other.stdin.take());
    let rest = said(other.wait_with_output().unwrap()).out;
    let first = String::from_utf8_lossy(&first[..length]).into_owned();
    let line = format!("+ Room 5. 도커._onggi-registry._tcp.local. ['10.7.0.1'] {port} {{b'scheme': b'http'}}");
    assert!(first.contains(&line), "{first}");
    assert!(rest.contains("- Room 5. 도커._onggi-registry._tcp.local."), "it says that it is gone: {rest}");
}
