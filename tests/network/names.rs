//! Names on a user-defined network: who answers to which, and what happens to them when containers come, go and change.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::host::Host;
use crate::support::jar::until;
use crate::support::peer;

/// `front` with `web` (10.1.0.2) and `db` (10.1.0.3, alias `store`, host name `postgres`).
fn town() -> Option<Host> {
    let host = Host::new()?;
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "front"]);
    host.up("web", &["--network", "front"]);
    host.up("db", &["--network", "front", "--network-alias", "store", "--hostname", "postgres"]);
    Some(host)
}

/// A question to 127.0.0.11 in a container: the reply's code and its answers' last bytes.
fn question(host: &Host, container: &str, protocol: &str, name: &str, kind: u16) -> (u8, Vec<Vec<u8>>) {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, (kind >> 8) as u8, kind as u8, 0, 1]);
    let reply = host.inside(container, || {
        let mut bytes = vec![0; 4096];
        if protocol == "tcp" {
            let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], &message].concat()).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            bytes.truncate(u16::from_be_bytes(length).into());
            stream.read_exact(&mut bytes).unwrap();
        } else {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.send_to(&message, "127.0.0.11:53").unwrap();
            let length = socket.recv(&mut bytes).unwrap();
            bytes.truncate(length);
        }
        bytes
    });
    assert_eq!(reply[..2], [0x12, 0x34]);
    let count = u16::from_be_bytes([reply[6], reply[7]]);
    let mut at = message.len();
    let mut answers = Vec::new();
    for _ in 0..count {
        // A name, or two bytes that point to one.
        while reply[at] != 0 && reply[at] < 0xc0 {
            at += usize::from(reply[at]) + 1;
        }
        at += if reply[at] >= 0xc0 { 2 } else { 1 };
        let length = usize::from(u16::from_be_bytes([reply[at + 8], reply[at + 9]]));
        answers.push(reply[at + 10..at + 10 + length].to_vec());
        at += 10 + length;
    }
    (reply[3] & 15, answers)
}

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;

#[test]
fn a_container_answers_to_its_name_its_aliases_its_id_and_its_host_name() {
    let Some(host) = town() else { return };
    let id = host.id_of("db").unwrap();
    for name in ["db", "store", "postgres", &id[..12], "db.front", "store.front", "DB", "Store", "db."] {
        assert_eq!(host.resolve("web", name), ["10.1.0.3"], "{name}");
    }
    for name in ["missing", "db.back", "d"] {
        assert!(host.resolve("web", name).is_empty(), "{name}");
    }
    assert!(host.pings("web", "10.1.0.3") && host.exec("web", "ping -c1 -W1 store").is_some());
    // Itself, too; and back from an address to a name.
    assert_eq!(host.resolve("db", "db"), ["10.1.0.3"]);
    assert_eq!(
        host.exec("web", "getent hosts 10.1.0.3").as_deref().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")),
        Some("10.1.0.3 db.front".into())
    );
    assert!(host.exec("web", "nslookup db").is_some_and(|text| text.contains("127.0.0.11") && text.contains("10.1.0.3")));
    for protocol in ["udp", "tcp"] {
        assert_eq!(question(&host, "web", protocol, "db", A), (0, vec![vec![10, 1, 0, 3]]), "{protocol}");
        assert_eq!(question(&host, "web", protocol, "dB.fRoNt.", A), (0, vec![vec![10, 1, 0, 3]]), "{protocol}");
        // It has no IPv6 address, but it is there: not NXDOMAIN, after which a resolver would give up.
        assert_eq!(question(&host, "web", protocol, "db", AAAA), (0, vec![]), "{protocol}");
        let (code, names) = question(&host, "web", protocol, "3.0.1.10.in-addr.arpa", PTR);
        assert!(code == 0 && names.iter().any(|name| name.starts_with(b"\x02db\x05front")), "{names:?}");
    }
    let text = host.exec("web", "cat /etc/resolv.conf").unwrap();
    assert!(text.contains("nameserver 127.0.0.11\n") && text.contains("ndots:0"), "{text}");
}

#[test]
fn several_containers_under_one_alias_take_turns() {
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "front"]);
    host.up("web", &["--network", "front"]);
    for n in 3..6 {
        host.up(&format!("api{n}"), &["--network", "front", "--network-alias", "api"]);
    }
    assert_eq!(host.resolve("web", "api"), ["10.1.0.3", "10.1.0.4", "10.1.0.5"]);
    let first: std::collections::BTreeSet<u8> = (0..12).map(|_| question(&host, "web", "udp", "api", A).1[0][3]).collect();
    assert_eq!(first.into_iter().collect::<Vec<_>>(), [3, 4, 5], "each is the first once in a while");
    host.does(&["stop", "-t", "0", "api4"]);
    assert_eq!(host.resolve("web", "api"), ["10.1.0.3", "10.1.0.5"]);
}

#[test]
fn a_name_follows_its_container() {
    let Some(host) = town() else { return };
    // Its address is somebody else's after the restart.
    host.does(&["stop", "-t", "0", "db"]);
    assert!(host.resolve("web", "db").is_empty());
    host.up("other", &["--network", "front"]);
    assert_eq!(host.ip("other", "front"), "10.1.0.3");
    host.does(&["start", "db"]);
    assert_eq!((host.resolve("web", "db"), host.resolve("web", "store")), (vec!["10.1.0.4".to_string()], vec!["10.1.0.4".to_string()]));
    assert!(host.pings("web", "10.1.0.4"));
    host.does(&["rename", "db", "data"]);
    assert!(host.resolve("web", "db").is_empty());
    assert_eq!((host.resolve("web", "data"), host.resolve("other", "store")), (vec!["10.1.0.4".to_string()], vec!["10.1.0.4".to_string()]));
    assert!(host.network("front")["Containers"].as_object().unwrap().values().any(|member| member["Name"] == "data"));
    // While others come and go there is always an answer, and always the right one.
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            for _ in 0..6 {
                host.does(&["restart", "-t", "0", "other"]);
            }
        });
        while !busy.is_finished() {
            assert_eq!(question(&host, "web", "udp", "data", A), (0, vec![vec![10, 1, 0, 4]]));
        }
    });
    host.does(&["rm", "-f", "data"]);
    assert!(host.resolve("web", "data").is_empty());
}

#[test]
fn a_link_is_a_name_for_one_container_alone() {
    let Some(host) = town() else { return };
    host.up("app", &["--network", "front", "--link", "db:database"]);
    assert_eq!(host.resolve("app", "database"), ["10.1.0.3"]);
    assert!(host.resolve("web", "database").is_empty());
    host.up("late", &[]);
    host.does(&["network", "connect", "--link", "db:things", "front", "late"]);
    assert_eq!((host.resolve("late", "things"), host.resolve("late", "web")), (vec!["10.1.0.3".to_string()], vec!["10.1.0.2".to_string()]));
}

#[test]
fn a_container_may_have_a_name_server_of_its_own() {
    let Some(host) = town() else { return };
    // At all addresses, as dnsmasq and its like do: 127.0.0.11 stays ours.
    let server = host.serve_at("db", "udp", "0.0.0.0:53");
    let _stream = host.serve_at("db", "tcp", "0.0.0.0:53");
    assert_eq!(host.resolve("db", "web"), ["10.1.0.2"]);
    assert_eq!(host.ask("web", "udp", "10.1.0.3:53").as_deref(), Some("10.1.0.2"), "it is reached by others");
    assert_eq!(host.ask("db", "udp", "127.0.0.1:53").as_deref(), Some("127.0.0.1"));
    drop(server);
}

#[test]
fn both_c_libraries_find_names() {
    let Some(host) = town() else { return };
    let (Some(_), Some(compiler)) = (peer("gcc"), peer("musl-gcc")) else { return };
    let source = host.root.join("find.c");
    std::fs::write(&source, FIND).unwrap();
    for (compiler, options, program) in [("gcc", &["-static"][..], "with-glibc"), (compiler.to_str().unwrap(), &["-static"], "with-musl")] {
        let program = host.root.join(program);
        let output = Command::new(compiler).args(options).arg("-w").arg("-o").arg(&program).arg(&source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mount = format!("{}:/find:ro", program.display());
        for (name, found) in [("db", "10.1.0.3"), ("store", "10.1.0.3"), ("db.front", "10.1.0.3"), ("missing", "none"), ("localhost", "127.0.0.1")] {
            // glibc's static resolver still wants its host's libraries: it says so on standard error, and works where they are.
            let said = host.does(&["run", "--rm", "--network", "front", "-v", &mount, "base", "/find", name]);
            assert_eq!(said, found, "{} {name}", program.display());
        }
    }
}

/// Prints the first IPv4 address of a name.
const FIND: &str = r#"
#include <stdio.h>
#include <netdb.h>
#include <arpa/inet.h>
#include <sys/socket.h>
int main(int argc, char **argv) {
    struct addrinfo wanted = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;
    char text[64];
    if (getaddrinfo(argv[1], 0, &wanted, &found)) { puts("none"); return 0; }
    inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text);
    puts(text);
    return 0;
}
"#;

#[test]
fn what_the_networks_do_not_know_is_asked_of_the_hosts_server() {
    let Some(host) = Host::new() else { return };
    // One that only the host's own loopback knows, as systemd-resolved is.
    let server = Resolver::on(&host, "127.0.0.53:53");
    host.own_file("/etc/resolv.conf", "nameserver 127.0.0.53\nsearch example.test\noptions edns0\n");
    host.does(&["network", "create", "--subnet", "10.1.0.0/24", "front"]);
    host.up("web", &["--network", "front"]);
    assert_eq!(host.resolve("web", "somewhere.test"), ["192.0.2.7"]);
    assert_eq!(host.resolve("web", "web"), ["10.1.0.2"]);
    assert_eq!(host.exec("web", "cat /etc/resolv.conf").as_deref(), Some("nameserver 127.0.0.11\nsearch example.test\noptions edns0 ndots:0"));
    // On the default bridge its address would be the container's own loopback: the monitor answers there, too.
    host.up("plain", &[]);
    assert_eq!(host.resolve("plain", "somewhere.test"), ["192.0.2.7"]);
    assert_eq!(host.resolve("plain", "nowhere.web"), Vec::<String>::new());
    assert!(host.resolve("web", "nowhere.test").is_empty());
    assert_eq!(question(&host, "web", "tcp", "somewhere.test", A), (0, vec![vec![192, 0, 2, 7]]));
    assert_eq!(question(&host, "web", "udp", "nowhere.test", A).0, 3);
    // An internal network's questions stay inside.
    host.does(&["network", "create", "--internal", "inner"]);
    host.up("inner", &["--network", "inner"]);
    assert!(host.resolve("inner", "somewhere.test").is_empty() && !host.resolve("inner", "inner").is_empty());
    let asked = server.asked();
    assert!(asked.iter().any(|name| name == "somewhere.test") && !asked.iter().any(|name| name == "web"), "{asked:?}");
    // Somebody's own server instead, which is reached from the container's side.
    let far = Resolver::on(&host, "203.0.113.1:53");
    host.up("own", &["--network", "front", "--dns", "203.0.113.1"]);
    assert_eq!(host.resolve("own", "elsewhere.test"), ["192.0.2.7"]);
    until("it was asked", || far.asked().iter().any(|name| name == "elsewhere.test"));
    drop((server, far));
    assert!(host.resolve("web", "somewhere.test").is_empty() && host.resolve("web", "web") == ["10.1.0.2"], "ours are there without it");
}

/// A name server that answers 192.0.2.7 to everything but `nowhere…`, and remembers what it was asked.
pub struct Resolver {
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    over: std::sync::Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Resolver {
    pub fn on(host: &Host, at: &str) -> Resolver {
        use std::sync::atomic::Ordering;
        let (udp, tcp) = host.inside("host", || (UdpSocket::bind(at).unwrap(), std::net::TcpListener::bind(at).unwrap()));
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (asked, over) = (std::sync::Arc::default(), std::sync::Arc::<std::sync::atomic::AtomicBool>::default());
        let (heard, ended) = (std::sync::Arc::clone(&asked), over.clone());
        let first = std::thread::spawn(move || {
            let mut bytes = [0; 1500];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((length, from)) = udp.recv_from(&mut bytes) {
                    let _ = udp.send_to(&answer(&bytes[..length], &heard), from);
                }
            }
        });
        let (heard, ended) = (std::sync::Arc::clone(&asked), over.clone());
        let second = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = tcp.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let mut length = [0; 2];
                let _ = stream.read_exact(&mut length);
                let mut bytes = vec![0; u16::from_be_bytes(length).into()];
                let _ = stream.read_exact(&mut bytes);
                let reply = answer(&bytes, &heard);
                let _ = stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat());
            }
        });
        Resolver { asked, over, threads: vec![first, second] }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn answer(message: &[u8], heard: &std::sync::Mutex<Vec<String>>) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while message.get(at).is_some_and(|length| *length != 0) {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..end]).to_lowercase());
        at = end;
    }
    let (name, is_a) = (labels.join("."), message[at + 2] == 1);
    let is_missing = name.starts_with("nowhere");
    let count = u8::from(is_a && !is_missing);
    let mut reply = [&message[..2], &[0x81, if is_missing { 0x83 } else { 0x80 }, 0, 1, 0, count, 0, 0, 0, 0], &message[12..at + 5]].concat();
    if count == 1 {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    }
    heard.lock().unwrap().push(name);
    reply
}
