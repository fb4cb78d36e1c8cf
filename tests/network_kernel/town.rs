//! A town of network namespaces: `host` with a cable to `world`, bridges on the host, containers behind them.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use onggi::network::nat::{self, Subnet};
use onggi::network::{Cidr, bridge, open, veth};
use onggi::sys::netlink::{NETLINK_ROUTE, open_in};

use super::TABLE;
use super::support::{peer, skip_for_want_of};

static TOWNS: AtomicU32 = AtomicU32::new(0);

/// Its namespaces are named after the process, and go with it.
pub struct Town {
    name: String,
    namespaces: Vec<String>,
    closed: Vec<String>,
}

/// Answers each asker with the address that it sees, until dropped.
pub struct Server {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Town {
    /// `host` and `world` with a cable between them; none when this machine lacks a program or the right.
    pub fn new() -> Option<Town> {
        for program in ["ip", "nft", "conntrack", "ping"] {
            peer(program)?;
        }
        if !nix::unistd::geteuid().is_root() {
            skip_for_want_of("only root makes network namespaces");
            return None;
        }
        let name = format!("onggi-{}-{}", std::process::id(), TOWNS.fetch_add(1, Ordering::Relaxed));
        let mut town = Town { name, namespaces: Vec::new(), closed: Vec::new() };
        town.namespace("host");
        town.namespace("world");
        let world = town.path("world");
        town.ip("host", &["link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", world.rsplit('/').next().unwrap()]);
        for (who, v4, v6) in [("host", "203.0.113.1/24", "2001:db8::1/64"), ("world", "203.0.113.2/24", "2001:db8::2/64")] {
            // Forwarding needs the link's own address, which waits a second for duplicates otherwise.
            town.inside(who, || std::fs::write("/proc/sys/net/ipv6/conf/up0/accept_dad", "0").unwrap());
            town.ip(who, &["addr", "add", v4, "dev", "up0"]);
            town.ip(who, &["addr", "add", v6, "dev", "up0", "nodad"]);
            town.ip(who, &["link", "set", "up0", "up"]);
        }
        town.inside("host", || {
            // A new namespace has what the machine has.
            for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{path}"), "0").unwrap();
            }
            assert!(bridge::forwarding(false).unwrap() && bridge::forwarding(true).unwrap());
            assert!(!bridge::forwarding(false).unwrap() && !bridge::forwarding(true).unwrap());
        });
        Some(town)
    }

    fn namespace(&mut self, name: &str) {
        run("ip", &["netns", "add", &format!("{}-{name}", self.name)]);
        self.namespaces.push(name.into());
        self.ip(name, &["link", "set", "lo", "up"]);
    }

    fn path(&self, name: &str) -> String {
        format!("/run/netns/{}-{name}", self.name)
    }

    /// A network of the host.
    pub fn network(&mut self, link: &str, v4: &str, v6: &str, edit: impl FnOnce(&mut Subnet) + Send) {
        let addresses: [Cidr; 2] = [v4.parse().unwrap(), v6.parse().unwrap()];
        let closed = self.inside("host", || {
            bridge::ensure(&bridge::Bridge { name: link, addresses: &addresses, mtu: None, mac: None }).unwrap();
            let mut subnet = Subnet { link, cidrs: &addresses, masquerade: true, internal: false, icc: true };
            edit(&mut subnet);
            nat::ensure(TABLE, &subnet).unwrap();
            !subnet.icc
        });
        if closed {
            self.closed.push(link.into());
        }
    }

    /// A container on a network, by its name.
    pub fn container(&mut self, link: &str, v4: &str, v6: &str) -> String {
        let name = format!("c{}", self.namespaces.len());
        self.namespace(&name);
        let addresses: [Cidr; 2] = [v4.parse().unwrap(), v6.parse().unwrap()];
        let last = v4.split('/').next().unwrap().parse::<std::net::Ipv4Addr>().unwrap().octets();
        let gateways = addresses.map(|cidr| match cidr.network() {
            IpAddr::V4(a) => IpAddr::from(std::net::Ipv4Addr::from_bits(a.to_bits() + 1)),
            IpAddr::V6(a) => IpAddr::from(std::net::Ipv6Addr::from_bits(a.to_bits() + 1)),
        });
        self.inside("host", || {
            let namespace = std::fs::File::open(self.path(&name)).unwrap();
            let (host, inside) = (open().unwrap(), open_in(namespace.as_fd(), NETLINK_ROUTE).unwrap());
            let wanted = veth::Veth {
                name: &format!("v{name}"),
                bridge: onggi::network::link::find(&host, link).unwrap().unwrap().index,
                inside: "eth0",
                mac: [2, 0x42, last[0], last[1], last[2], last[3]],
                addresses: &addresses,
                gateways: &gateways,
                mtu: None,
                isolated: self.closed.iter().any(|closed| closed == link),
            };
            veth::connect(&host, &inside, namespace.as_fd(), &wanted).unwrap();
        });
        name
    }

    /// What `work` answers in a namespace, on a thread of its own.
    pub fn inside<T: Send>(&self, who: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(self.path(who)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn ip(&self, who: &str, words: &[&str]) {
        let name = format!("{}-{who}", self.name);
        run("ip", &[&["-n", &name], words].concat());
    }

    pub fn pings(&self, who: &str, target: &str) -> bool {
        let name = format!("{}-{who}", self.name);
        let words = ["netns", "exec", &name, "ping", "-c", "3", "-i", "0.4", "-W", "1", target];
        Command::new("ip").args(words).output().unwrap().status.success()
    }

    /// A server in a namespace.
    pub fn serve(&self, who: &str, protocol: &str, address: &str, port: u16) -> Server {
        let at = SocketAddr::new(address.parse().unwrap(), port);
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = if protocol == "tcp" {
            let listener = self.inside(who, || TcpListener::bind(at).unwrap());
            listener.set_nonblocking(true).unwrap();
            std::thread::spawn(move || {
                while !until.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((mut stream, from)) => drop(std::io::Write::write_all(&mut stream, from.ip().to_string().as_bytes())),
                        Err(_) => std::thread::sleep(Duration::from_millis(2)),
                    }
                }
            })
        } else {
            let socket = self.inside(who, || UdpSocket::bind(at).unwrap());
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            std::thread::spawn(move || {
                while !until.load(Ordering::Relaxed) {
                    let mut bytes = [0; 16];
                    if let Ok((_, from)) = socket.recv_from(&mut bytes) {
                        let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
                    }
                }
            })
        };
        Server { over, thread: Some(thread) }
    }

    /// Which address the server saw, when there is one that answers.
    pub fn ask(&self, who: &str, protocol: &str, address: &str, port: u16) -> Option<String> {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        self.inside(who, || {
            let patience = Duration::from_millis(700);
            if protocol == "tcp" {
                let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
                stream.set_read_timeout(Some(patience)).unwrap();
                let mut text = String::new();
                std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
                return Some(text);
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
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        for name in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}-{name}", self.name)]).status();
        }
    }
}

/// The output of a program that has to succeed.
#[track_caller]
pub fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
