//! A host of a test's own: a jar in a network namespace, with a cable `up0` to another one, the world.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use onggi::sys::namespace;
use serde_json::Value;

use crate::support::jar::{Jar, Said};
use crate::support::peer;

/// What the host and the world have as addresses on the cable.
pub const HOST: &str = "203.0.113.1";
pub const WORLD: &str = "203.0.113.2";
pub const HOST6: &str = "2001:db8::1";
pub const WORLD6: &str = "2001:db8::2";

/// A jar on a host of its own.
pub struct Host {
    jar: Jar,
    own: File,
    world: File,
}

impl Deref for Host {
    type Target = Jar;

    fn deref(&self) -> &Jar {
        &self.jar
    }
}

/// Answers each asker with the address that it sees, until dropped.
pub struct Server {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// None when this is not root, or a program is missing.
    pub fn new() -> Option<Host> {
        for program in ["ip", "nft", "ping", "conntrack"] {
            peer(program)?;
        }
        let jar = Jar::new()?;
        // With one thread for all tests, the last one's host would be this one's, too.
        let own = fresh_namespace();
        let world = std::thread::scope(|scope| scope.spawn(fresh_namespace).join().unwrap());
        let host = Host { jar, own, world };
        let there = format!("/proc/{}/fd/{}", std::process::id(), host.world.as_raw_fd());
        run("ip", &["link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", &there]);
        for (place, v4, v6) in [("host", HOST, HOST6), ("world", WORLD, WORLD6)] {
            host.shell(place, &format!("ip address add {v4}/24 dev up0; ip address add {v6}/64 dev up0 nodad; ip link set up0 up"));
        }
        host.shell("host", &format!("ip route add default via {WORLD}; ip -6 route add default via {WORLD6}"));
        // A new namespace has what the machine has: the engine has to switch it on.
        host.shell("host", "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
        // Nobody is at home there, which is told at once.
        host.own_file("/etc/resolv.conf", &format!("nameserver {WORLD}\n"));
        Some(host)
    }

    /// Another text in a file of the machine, for this test and all that it starts: in a mount namespace of their own.
    #[track_caller]
    pub fn own_file(&self, path: &str, text: &str) {
        let new = self.root.join(path.replace('/', "-"));
        let is_mounted = new.exists();
        std::fs::write(&new, text).unwrap();
        if is_mounted {
            return;
        }
        namespace::unshare(namespace::CLONE_NEWNS).expect("make a mount namespace");
        // Slaves still see it go when the machine unmounts something; nothing of ours gets out.
        run("mount", &["--make-rslave", "/"]);
        run("mount", &["--bind", new.to_str().unwrap(), path]);
    }

    /// `run -d --name NAME OPTIONS base sleep 1000`.
    #[track_caller]
    pub fn up(&self, name: &str, options: &[&str]) -> String {
        self.does(&[&["run", "-d", "--name", name], options, &["base", "sleep", "1000"]].concat())
    }

    /// What a command says when it fails, as it has to.
    #[track_caller]
    pub fn fails(&self, words: &[&str], parts: &[&str]) -> Said {
        let said = self.says(words);
        assert_ne!(said.code, 0, "{words:?} went well: {}", said.out);
        for part in parts {
            assert!(said.err.contains(part), "{words:?}: {part:?} is not in {}", said.err);
        }
        said
    }

    /// `inspect -f FORMAT NAME`.
    #[track_caller]
    pub fn inspected(&self, name: &str, format: &str) -> String {
        self.does(&["inspect", "-f", format, name])
    }

    /// The container's address on a network.
    #[track_caller]
    pub fn ip(&self, name: &str, network: &str) -> String {
        self.inspected(name, &format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}"))
    }

    /// `network inspect` of one network.
    #[track_caller]
    pub fn network(&self, name: &str) -> Value {
        let all: Value = serde_json::from_str(&self.does(&["network", "inspect", name])).unwrap();
        all[0].clone()
    }

    /// A program's output in a running container, or None when it fails.
    pub fn exec(&self, name: &str, script: &str) -> Option<String> {
        let said = self.says(&["exec", name, "sh", "-c", script]);
        (said.code == 0).then(|| said.out.trim_end().to_string())
    }

    /// The addresses to which a name resolves in a container, sorted.
    pub fn resolve(&self, container: &str, name: &str) -> Vec<String> {
        let out = self.exec(container, &format!("getent ahosts {name}")).unwrap_or_default();
        let mut found: Vec<String> = out.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_string).collect();
        found.sort();
        found.dedup();
        found
    }

    /// The network namespace of `host`, `world` or a container.
    #[track_caller]
    pub fn namespace(&self, place: &str) -> File {
        match place {
            "host" => self.own.try_clone().unwrap(),
            "world" => self.world.try_clone().unwrap(),
            name => {
                let pid = self.init_of(name).unwrap_or_else(|| panic!("{name} doesn't run"));
                File::open(format!("/proc/{pid}/ns/net")).unwrap()
            }
        }
    }

    /// What `work` answers in a namespace, on a thread of its own.
    #[track_caller]
    pub fn inside<T: Send>(&self, place: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = self.namespace(place);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A line of shell in a namespace, which has to go well.
    #[track_caller]
    pub fn shell(&self, place: &str, script: &str) -> String {
        self.inside(place, || run("sh", &["-ec", script]))
    }

    pub fn pings(&self, place: &str, target: &str) -> bool {
        self.inside(place, || Command::new("ping").args(["-c", "3", "-i", "0.3", "-W", "1", target]).output().unwrap().status.success())
    }

    /// A server on all addresses of a namespace.
    #[track_caller]
    pub fn serve(&self, place: &str, protocol: &str, port: u16) -> Server {
        self.serve_at(place, protocol, &format!("[::]:{port}"))
    }

    #[track_caller]
    pub fn serve_at(&self, place: &str, protocol: &str, at: &str) -> Server {
        let at: SocketAddr = at.parse().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let seen = |from: SocketAddr| from.ip().to_canonical().to_string();
        let thread = if protocol == "tcp" {
            let listener = self.inside(place, || TcpListener::bind(at).unwrap());
            listener.set_nonblocking(true).unwrap();
            std::thread::spawn(move || {
                while !until.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((mut stream, from)) => drop(stream.write_all(seen(from).as_bytes())),
                        Err(_) => std::thread::sleep(Duration::from_millis(2)),
                    }
                }
            })
        } else {
            let socket = self.inside(place, || UdpSocket::bind(at).unwrap());
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            std::thread::spawn(move || {
                while !until.load(Ordering::Relaxed) {
                    let mut bytes = [0; 16];
                    if let Ok((_, from)) = socket.recv_from(&mut bytes) {
                        let _ = socket.send_to(seen(from).as_bytes(), from);
                    }
                }
            })
        };
        Server { over, thread: Some(thread) }
    }

    /// Which address the server saw, when there is one that answers.
    #[track_caller]
    pub fn ask(&self, place: &str, protocol: &str, to: &str) -> Option<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.inside(place, || {
            let patience = Duration::from_millis(1500);
            if protocol == "tcp" {
                let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
                stream.set_read_timeout(Some(patience)).unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).ok()?;
                return Some(text).filter(|text| !text.is_empty());
            }
            let socket = UdpSocket::bind(if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.connect(to).ok()?;
            socket.send(b"who").ok()?;
            let mut bytes = [0; 64];
            let length = socket.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        })
    }

    /// Whether nobody answers there within a short time.
    pub fn is_closed(&self, place: &str, to: &str) -> bool {
        let to: SocketAddr = to.parse().unwrap();
        self.inside(place, || match TcpStream::connect_timeout(&to, Duration::from_millis(400)) {
            Err(_) => true,
            Ok(mut stream) => {
                stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
                !matches!(stream.read(&mut [0; 1]), Ok(1))
            }
        })
    }

    /// The links of the host, without `lo` and the cable.
    pub fn links(&self) -> Vec<String> {
        let out = self.shell("host", "ip -o link");
        let names = out.lines().filter_map(|line| line.split(": ").nth(1)).map(|name| name.split('@').next().unwrap_or(name).to_string());
        names.filter(|name| name != "lo" && name != "up0").collect()
    }

    /// The rules of the host as nft(8) shows them.
    pub fn rules(&self) -> String {
        self.shell("host", "nft list ruleset")
    }
}

/// This thread's new network namespace, with `lo` switched on.
fn fresh_namespace() -> File {
    namespace::unshare(namespace::CLONE_NEWNET).expect("make a network namespace");
    namespace::loopback_up().expect("switch its loopback device on");
    File::open("/proc/thread-self/ns/net").unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The output of a program that has to succeed.
#[track_caller]
pub fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a text is an address within a range such as `172.18.`.
pub fn begins(text: &str, start: &str) -> bool {
    text.starts_with(start) && text.parse::<IpAddr>().is_ok()
}
