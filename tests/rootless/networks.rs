//! Networks without root's rights: the bridges are in a network namespace of the user's own, and a program speaks for it outside.
//!
//! The host is a network namespace of the test's, whose only address beside 127.0.0.1 stands for the outside.
//!
//! See it: `ps -u 12347 -o pid,comm` while it runs. Read: slirp4netns(1).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use onggi::sys::namespace::{self, CLONE_NEWNET};

use super::HomeOf;
use super::background::{members, soon};
use super::support::jar::{Said, said};

const OUTSIDE: &str = "192.0.2.1";

/// This thread's commands get a network namespace, and a device for the way out that any user may open.
pub fn a_host_of_its_own(home: &HomeOf) {
    namespace::unshare(CLONE_NEWNET).unwrap();
    namespace::loopback_up().unwrap();
    assert!(Command::new("ip").args(["address", "add", &format!("{OUTSIDE}/32"), "dev", "lo"]).status().unwrap().success());
    let tun = home.dir.join("tun");
    assert!(Command::new("mknod").arg(&tun).args(["c", "10", "200"]).status().unwrap().success());
    std::fs::set_permissions(&tun, std::fs::Permissions::from_mode(0o666)).unwrap();
}

/// The user's processes of that name, by PID.
fn living(home: &HomeOf, name: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_one = |pid: &i32| {
        let owned = std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == home.user);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        owned && stat.contains(&format!("({name})")) && !stat.contains(") Z ")
    };
    pids.filter(is_one).collect()
}

/// pasta goes by the name of the variant that suits the processor.
fn pasta(home: &HomeOf) -> Vec<i32> {
    ["pasta", "passt", "pasta.avx2", "passt.avx2"].iter().flat_map(|name| living(home, name)).collect()
}

#[track_caller]
fn nobody_is_left(home: &HomeOf) {
    soon("keeper, way out and proxies have ended, and nobody lives in the user namespace", || {
        let is_gone = |name: &&str| living(home, name).is_empty();
        ["onggi-network", "onggi-netns", "slirp4netns", "onggi-proxy"].iter().all(is_gone) && pasta(home).is_empty() && members(home).is_empty()
    });
    assert!(!home.dir.join("onggi-root/run/network.sock").exists());
}

pub fn nobody_stays_when_the_last_has_left(home: &HomeOf) {
    nobody_is_left(home);
    home.says(&["run", "-d", "--name", "one", "base", "sleep", "1000"]);
    assert_eq!(living(home, "onggi-network").len(), 1);
    home.says(&["rm", "-f", "one"]);
    nobody_is_left(home);
    // Who is on no network needs no keeper.
    home.says(&["run", "-d", "--name", "one", "--network", "none", "base", "sleep", "1000"]);
    assert!(living(home, "onggi-network").is_empty());
    home.says(&["rm", "-f", "one"]);
}

pub fn containers_find_each_other_by_name(home: &HomeOf) {
    home.says(&["network", "create", "town"]);
    home.says(&["network", "create", "village"]);
    home.says(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "town",
        "--network-alias",
        "shop",
        "base",
        "busybox",
        "nc",
        "-ll",
        "-p",
        "80",
        "-e",
        "cat",
    ]);
    home.says(&["run", "-d", "--name", "guest", "--network", "town", "base", "sleep", "1000"]);
    home.says(&["run", "-d", "--name", "stranger", "--network", "village", "base", "sleep", "1000"]);
    let call = |from: &str, to: &str| home.onggi(&["exec", from, "sh", "-c", &format!("echo hello | busybox nc -w 5 {to} 80")]);
    for name in ["web", "shop", "web.town"] {
        soon("it is heard", || call("guest", name).out == "hello\n");
    }
    let address = home.says(&["exec", "web", "hostname", "-i"]);
    assert_ne!(call("stranger", "web").code, 0, "its name is known elsewhere");
    assert_ne!(call("stranger", &address).out, "hello\n", "{address} is reached from another network");
    // While it runs it can come to the other network.
    home.says(&["network", "connect", "town", "stranger"]);
    assert_eq!(call("stranger", "web").out, "hello\n");
    home.says(&["network", "disconnect", "town", "stranger"]);
    assert_ne!(call("stranger", "web").code, 0);
    // One without a network, and with it without the user's ground, can come to one, and keeps the ground by itself.
    home.says(&["run", "-d", "--name", "hermit", "--network", "none", "base", "sleep", "1000"]);
    home.says(&["network", "connect", "town", "hermit"]);
    assert_eq!(call("hermit", "web").out, "hello\n");
    home.says(&["rm", "-f", "web", "guest", "stranger"]);
    assert_eq!(living(home, "onggi-network").len(), 1, "hermit is still there");
    home.says(&["rm", "-f", "hermit"]);
    home.says(&["network", "rm", "town", "village"]);
    nobody_is_left(home);
}

pub fn map_and_trace_look_into_the_ground(home: &HomeOf) {
    let map = |words: &[&str]| serde_json::from_str::<serde_json::Value>(&home.says(&[&["network", "map", "--json"], words].concat())).unwrap();
    let empty = map(&[]);
    assert_eq!(empty["containers"], serde_json::json!([]));
    home.says(&["network", "create", "--subnet", "172.30.0.0/24", "street"]);
    home.says(&["run", "-d", "--name", "one", "--network", "street", "base", "sleep", "1000"]);
    home.says(&["run", "-d", "--name", "two", "--network", "street", "base", "sleep", "1000"]);
    let there = map(&["street"]);
    assert_ne!(there["host"]["namespace"], empty["host"]["namespace"], "the bridges are not in the host's namespace");
    assert_eq!(there["containers"][1]["cables"][0]["addresses"], serde_json::json!(["172.30.0.3/24"]), "{there:#}");
    assert_eq!(there["unknown"], serde_json::json!([]));
    let told = home.says(&["network", "trace", "one", "two:80"]);
    assert!(told.contains("knows two: 172.30.0.3 on street") && told.contains("refused in") && told.contains("both agree"), "{told}");
    home.says(&["rm", "-f", "one", "two"]);
    home.says(&["network", "rm", "street"]);
    nobody_is_left(home);
}

pub fn published_ports_lead_to_the_container(home: &HomeOf) {
    let listen = ["base", "busybox", "nc", "-ll", "-p", "80", "-e", "cat"];
    let id = home.says(&[&["run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:5353:53/udp"], &listen[..]].concat());
    send_datagrams_back(home, &id);
    assert!(living(home, "onggi-proxy").is_empty(), "a proxy runs before anybody needs it");
    for address in ["127.0.0.1:8080", "[::1]:8080", "192.0.2.1:8080"] {
        soon("the container answers", || {
            let mut told = String::new();
            TcpStream::connect(address).is_ok_and(|mut stream| {
                stream
                    .write_all(b"hello")
                    .and_then(|()| stream.shutdown(std::net::Shutdown::Write))
                    .and_then(|()| stream.read_to_string(&mut told))
                    .is_ok()
                    && told == "hello"
            })
        });
    }
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    soon("the container answers datagrams", || udp.send_to(b"ping", "127.0.0.1:5353").is_ok() && udp.recv(&mut [0; 4]).is_ok());
    udp.send_to(b"end", "127.0.0.1:5353").unwrap();
    let refused = home.onggi(&["run", "-d", "-p", "8080:80", "base", "sleep", "1000"]);
    assert!(refused.code == 125 && refused.err.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{refused:?}");
    assert!(refused.err.contains("web"), "its holder is not named: {}", refused.err);
    // A proxy that is killed is replaced by the next who comes.
    let proxy = living(home, "onggi-proxy")[0];
    assert!(Command::new("kill").args(["-9", &proxy.to_string()]).status().unwrap().success());
    soon("another proxy serves", || {
        let mut told = String::new();
        let answered = TcpStream::connect("127.0.0.1:8080").and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"again")?;
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.read_to_string(&mut told)
        });
        answered.is_ok() && told == "again"
    });
    home.onggi(&["rm", "-f", "web"]);
    for id in home.says(&["ps", "-aq"]).lines() {
        home.says(&["rm", "-f", id]);
    }
    nobody_is_left(home);
    assert!(TcpListener::bind("127.0.0.1:8080").is_ok(), "the port is still held");
}

/// What the container's image has no program for: a socket of ours in its network namespace.
fn send_datagrams_back(home: &HomeOf, id: &str) {
    let state = std::fs::read(home.dir.join("onggi-root/run/oci").join(id).join("state.json")).unwrap();
    let pid = serde_json::from_slice::<serde_json::Value>(&state).unwrap()["init"]["pid"].as_i64().unwrap();
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    std::thread::spawn(move || {
        namespace::setns(namespace.as_fd(), CLONE_NEWNET).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:53").unwrap();
        let mut bytes = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            socket.send_to(&bytes[..length], from).unwrap();
            if bytes.starts_with(b"end") {
                return;
            }
        }
    });
}

pub fn ten_at_once_share_one_ground(home: &HomeOf) {
    home.says(&["network", "create", "town"]);
    let names: Vec<String> = (0..10).map(|number| format!("house{number}")).collect();
    let run = |name: &String| {
        home.command(&["run", "-d", "--name", name, "--network", "town", "base", "sleep", "1000"]).stdout(Stdio::null()).spawn().unwrap()
    };
    for mut command in names.iter().map(run).collect::<Vec<_>>() {
        assert!(command.wait().unwrap().success());
    }
    assert_eq!(living(home, "onggi-network").len(), 1);
    let mut addresses: Vec<String> = names.iter().map(|name| home.says(&["exec", "house0", "getent", "hosts", name])).collect();
    addresses.iter_mut().for_each(|line| *line = line.split_whitespace().next().unwrap_or_default().to_string());
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 10, "{addresses:?}");
    let rest: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
    home.says(&rest);
    home.says(&["network", "rm", "town"]);
    nobody_is_left(home);
}

pub fn without_a_program_for_it_there_is_no_way_out(home: &HomeOf) {
    home.says(&["network", "create", "town"]);
    let alone = |words: &[&str]| without(home, "slirp4netns pasta", words);
    for name in ["web", "guest"] {
        let said = alone(&["run", "-d", "--name", name, "--network", "town", "base", "sleep", "1000"]);
        assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    }
    assert!(living(home, "slirp4netns").is_empty());
    assert_eq!(home.onggi(&["exec", "guest", "ping", "-c1", "-W5", "web"]).code, 0);
    home.says(&["rm", "-f", "web", "guest"]);
    home.says(&["network", "rm", "town"]);
    nobody_is_left(home);
}

/// A command on a machine on which these programs are not installed: their files are no programs.
fn without(home: &HomeOf, programs: &str, words: &[&str]) -> Said {
    let script = "mount --bind $1/tun /dev/net/tun; for program in PROGRAMS; do for dir in /usr/bin /bin /usr/sbin /sbin; do \
        test ! -e $dir/$program || mount --bind $1/passwd $dir/$program; done; done; \
        user=$2; shift 2; exec setpriv --reuid $user --regid $user --clear-groups \"$@\"";
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--mount", "sh", "-c", &script.replace("PROGRAMS", programs), "sh"]).arg(&home.dir).arg(home.user.to_string());
    home.settle(command.arg(home.dir.join("onggi")), words);
    said(command.output().unwrap())
}

pub fn pasta_is_as_good_a_way_out(home: &HomeOf) {
    let outside = TcpListener::bind((OUTSIDE, 0)).unwrap();
    let port = outside.local_addr().unwrap().port();
    std::thread::spawn(move || outside.incoming().for_each(|stream| drop(stream.unwrap().write_all(b"from outside\n"))));
    // It takes the addresses of the link on which the host's default route is.
    let bridge = "ip link add outside0 type bridge && ip address add 198.51.100.5/24 dev outside0 && ip link set outside0 up && \
        ip route add default via 198.51.100.1";
    assert!(Command::new("sh").args(["-c", bridge]).status().unwrap().success());
    let script = format!("busybox timeout 5 busybox nc {OUTSIDE} {port}");
    let told = without(home, "slirp4netns", &["run", "--rm", "base", "sh", "-c", &script]);
    // Debian 12's pasta has sent the same bytes twice on a busy machine; nothing else may come.
    assert!(!told.out.is_empty() && told.out.replace("from outside\n", "").is_empty(), "{told:?}");
    nobody_is_left(home);
}

pub fn a_killed_keeper_is_replaced(home: &HomeOf) {
    home.says(&["network", "create", "town"]);
    home.says(&["run", "-d", "--name", "web", "--network", "town", "base", "sleep", "1000"]);
    let keeper = living(home, "onggi-network")[0];
    assert!(Command::new("kill").args(["-9", &keeper.to_string()]).status().unwrap().success());
    soon("its way out went with it", || living(home, "slirp4netns").is_empty());
    home.says(&["run", "-d", "--name", "guest", "--network", "town", "base", "sleep", "1000"]);
    home.says(&["restart", "-t", "0", "web"]);
    assert_eq!(home.onggi(&["exec", "guest", "ping", "-c1", "-W5", "web"]).code, 0, "they meet again on the new ground");
    assert_eq!(living(home, "onggi-network").len(), 1);
    home.says(&["rm", "-f", "web", "guest"]);
    home.says(&["network", "rm", "town"]);
    nobody_is_left(home);
}

pub fn a_killed_monitor_leaves_nothing_on_the_network(home: &HomeOf) {
    home.says(&["network", "create", "town"]);
    home.says(&["run", "-d", "--name", "web", "--network", "town", "base", "sleep", "1000"]);
    let first = home.says(&["exec", "web", "hostname", "-i"]);
    let monitor = living(home, "onggi-monitor")[0];
    assert!(Command::new("kill").args(["-9", &monitor.to_string()]).status().unwrap().success());
    soon("the keeper goes with the last who called", || living(home, "onggi-network").is_empty() && living(home, "slirp4netns").is_empty());
    home.says(&["run", "-d", "--name", "next", "--network", "town", "base", "sleep", "1000"]);
    // The monitor of the next one clears up, once its own container runs.
    soon("the address of the dead is free", || home.shows(&["--network", "town", "base", "hostname", "-i"]) == first);
    home.says(&["rm", "-f", "web", "next"]);
    home.says(&["network", "rm", "town"]);
    nobody_is_left(home);
}

pub fn the_outside_is_reached(home: &HomeOf) {
    let outside = TcpListener::bind((OUTSIDE, 0)).unwrap();
    let port = outside.local_addr().unwrap().port();
    let inner = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let inner_port = inner.local_addr().unwrap().port();
    std::thread::spawn(move || outside.incoming().for_each(|stream| drop(stream.unwrap().write_all(b"from outside\n"))));
    std::thread::spawn(move || inner.incoming().for_each(|stream| drop(stream.unwrap().write_all(b"the host's own\n"))));
    let call = |options: &[&str], to: &str, port: u16| {
        let script = format!("busybox nc -w 5 {to} {port} < /dev/null");
        home.onggi(&[&["run", "--rm"], options, &["base", "sh", "-c", &script]].concat()).out
    };
    home.says(&["network", "create", "town"]);
    home.says(&["network", "create", "--internal", "cloister"]);
    assert_eq!(call(&[], OUTSIDE, port), "from outside\n");
    assert_eq!(call(&["--network", "town"], OUTSIDE, port), "from outside\n");
    assert_eq!(call(&["--network", "cloister"], OUTSIDE, port), "");
    // What listens on the host's own 127.0.0.1 is not for containers, by the way out's name for it either.
    assert_eq!(call(&[], "10.0.2.2", inner_port), "");
    // The way out that is killed comes back.
    home.says(&["run", "-d", "--name", "one", "base", "sleep", "1000"]);
    std::thread::sleep(Duration::from_millis(1100));
    let before = living(home, "slirp4netns");
    assert!(Command::new("kill").args(["-9", &before[0].to_string()]).status().unwrap().success());
    soon("there is another one", || {
        let now = living(home, "slirp4netns");
        now.len() == 1 && now != before
    });
    let script = format!("busybox nc -w 5 {OUTSIDE} {port} < /dev/null");
    soon("it is reached again", || home.onggi(&["exec", "one", "sh", "-c", &script]).out == "from outside\n");
    home.says(&["rm", "-f", "one"]);
    home.says(&["network", "rm", "town", "cloister"]);
    nobody_is_left(home);
}
