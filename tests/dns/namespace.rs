//! The name server at 127.0.0.11 of a network namespace, as programs in there see it.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use onggi::network::dns::redirect;
use onggi::sys::namespace::{CLONE_NEWNET, unshare};
use simple_dns::TYPE;

use super::names;
use super::serving::{Serving, question, receive};
use super::support;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that is alone in a network namespace. Processes that it starts are in there too.
struct Inside {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    netns: File,
}

impl Inside {
    fn new() -> Option<Inside> {
        let (work, todo) = channel::<Work>();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            tell.send(unshare(CLONE_NEWNET).map(|()| File::open("/proc/thread-self/ns/net").unwrap())).unwrap();
            todo.into_iter().for_each(|work| work());
        });
        match told.recv().unwrap() {
            Ok(netns) => Some(Inside { work: Some(work), thread: Some(thread), netns }),
            Err(error) => {
                support::skip_for_want_of(&format!("a network namespace: {error}"));
                None
            }
        }
    }

    /// What `work` says in there.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.work.as_ref().unwrap().send(Box::new(move || drop(tell.send(work())))).unwrap();
        told.recv().expect("the thread inside panicked")
    }

    /// What a shell script prints in there, with a resolv.conf that names our server.
    fn shell(&self, script: &str) -> String {
        let script = format!("echo nameserver 127.0.0.11 >$D/resolv.conf; mount --bind $D/resolv.conf /etc/resolv.conf; {script}");
        self.run(move || {
            let dir = std::env::temp_dir().join(format!("onggi-dns-{}-{:?}", std::process::id(), std::thread::current().id()));
            std::fs::create_dir_all(&dir).unwrap();
            let ran = Command::new("unshare").args(["-m", "sh", "-c", &script]).env("D", &dir).output().unwrap();
            std::fs::remove_dir_all(&dir).unwrap();
            format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
        })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.work.take();
        let _ = self.thread.take().unwrap().join();
    }
}

fn serving() -> Option<(Inside, Serving)> {
    let inside = Inside::new()?;
    let sockets = redirect::open(inside.netns.as_fd()).unwrap();
    Some((inside, Serving::at(sockets, names(), vec![], false)))
}

#[test]
fn dig_is_answered_over_udp_and_tcp() {
    let (Some(_), Some((inside, _serving))) = (support::peer("dig"), serving()) else { return };
    assert_eq!(inside.shell("dig +short db A; dig +short +tcp DB. AAAA; dig +short -x 10.1.1.1"), "10.1.1.1\nfd00::1\ndb.shop.\n");
    let all = inside.shell("dig +noedns web A");
    assert!(all.contains("Truncated, retrying in TCP mode") && all.contains("ANSWER: 100"), "{all}");
    let edns = inside.shell("dig +bufsize=4096 +ignore web A");
    assert!(edns.contains("ANSWER: 100") && edns.contains("127.0.0.11#53"), "{edns}");
    assert!(inside.shell("dig nowhere.example").contains("SERVFAIL"));
}

#[test]
fn glibc_finds_names_and_addresses() {
    let (Some(_), Some((inside, _serving))) = (support::peer("getent"), serving()) else { return };
    // getaddrinfo(3), AI_ADDRCONFIG: kinds of addresses that the machine has none of, besides loopback, are not asked for.
    assert_eq!(inside.shell("ip address add 10.1.9.9/32 dev lo; ip address add fd00::9/128 dev lo"), "");
    assert_eq!(inside.shell("getent ahostsv4 only4.shop | head -1").split_whitespace().next(), Some("10.1.1.2"));
    assert_eq!(inside.shell("getent hosts 10.1.1.1").split_whitespace().collect::<Vec<_>>(), ["10.1.1.1", "db.shop"]);
    let both = inside.shell("getent ahosts db");
    assert!(both.contains("10.1.1.1") && both.contains("fd00::1"), "{both}");
}

#[test]
fn musl_finds_names() {
    let (Some(_), Some((inside, _serving))) = (support::peer("musl-gcc"), serving()) else { return };
    let program = r#"
#include <stdio.h>
#include <netdb.h>
#include <arpa/inet.h>
int main(int argc, char **argv) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int error = getaddrinfo(argv[1], NULL, &hints, &list);
    if (error) return printf("%s\n", gai_strerror(error)), 1;
    for (char text[64]; list; list = list->ai_next)
        if (!getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST)) puts(text);
}
"#;
    let script = format!(
        "cat >$D/find.c <<'END'\n{program}\nEND\nmusl-gcc -static -o $D/find $D/find.c && for n in only4.shop db; do $D/find $n | sort | head -2; done"
    );
    assert_eq!(inside.shell(&script), "10.1.1.2\n10.1.1.1\nfd00::1\n");
}

#[test]
fn a_container_may_have_a_name_server_of_its_own() {
    let Some((inside, _serving)) = serving() else { return };
    let both = inside.run(|| {
        let own = UdpSocket::bind("0.0.0.0:53").is_ok() && TcpListener::bind("0.0.0.0:53").is_ok();
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        client.connect("127.0.0.11:53").unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        client.send(&question(1, "db", TYPE::A)).unwrap();
        (own, super::addresses(&receive(&client)).len())
    });
    assert_eq!(both, (true, 1));
}

/// With rules of the container's own that track connections and let nothing else in.
#[test]
fn a_firewall_in_the_container_does_not_stop_answers() {
    let (Some(_), Some(_), Some((inside, _serving))) = (support::peer("nft"), support::peer("dig"), serving()) else { return };
    let rules = "add table ip own; add chain ip own in { type filter hook input priority 0; policy drop; }; \
        add chain ip own out { type filter hook output priority 0; }; add rule ip own out ct state invalid drop; \
        add rule ip own in ct state invalid drop; add rule ip own in ct state established,related accept; add rule ip own in iif lo accept";
    let script = format!("nft '{rules}'; dig +short +timeout=2 db A; dig +short +tcp +timeout=2 db A; nft list table inet onggi-dns | grep -c set");
    assert_eq!(inside.shell(&script), "10.1.1.1\n10.1.1.1\n4\n");
}

#[test]
fn what_the_redirect_costs() {
    let Some(inside) = Inside::new() else { return };
    let begin = std::time::Instant::now();
    let sockets = redirect::open(inside.netns.as_fd()).unwrap();
    support::say(&format!("the sockets and the redirect are made in {:?}", begin.elapsed()));
    let serving = Serving::at(sockets, names(), vec![], false);
    for server in [serving.udp, "127.0.0.11:53".parse().unwrap()] {
        let took = inside.run(move || {
            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            client.connect(server).unwrap();
            // Straight to the port, the answer seems to come from port 53: only an open socket takes it.
            let open = UdpSocket::bind("0.0.0.0:0").unwrap();
            let socket = if server.port() == 53 { client } else { open };
            let packet = question(1, "db", TYPE::A);
            let begin = std::time::Instant::now();
            for _ in 0..10_000 {
                match server.port() {
                    53 => socket.send(&packet).unwrap(),
                    _ => socket.send_to(&packet, server).unwrap(),
                };
                socket.recv(&mut [0; 512]).unwrap();
            }
            begin.elapsed()
        });
        support::say(&format!("{server}: {:.0} questions a second", 10_000.0 / took.as_secs_f64()));
    }
}
