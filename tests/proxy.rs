//! Published ports from the host's side: held sockets, and the process that copies what arrives at them into another network namespace.
//!
//! Two namespaces stand for the host and the container; nothing of this machine's own network is touched.
//!
//! See it: `ps -C onggi-proxy` while it runs. Read: network_namespaces(7), tcp(7), udp(7).

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use onggi::error::Class;
use onggi::network::ports::{self, Binding, Held, Protocol};
use onggi::network::proxy::{self, Way};
use onggi::sys::namespace::{self, CLONE_NEWNET};
use onggi::sys::process::{self, Clone, Forked};
use onggi::sys::{fd, ids};

/// The host's ports of the test's proxy, and who serves them in the container.
struct World {
    container: OwnedFd,
    echo: SocketAddr,
    echo_v6: SocketAddr,
    last_word: SocketAddr,
    nobody: SocketAddr,
    datagrams: SocketAddr,
    proxy: OwnedFd,
}

// One test: the process that is forked must be the only one with threads at work.
#[test]
fn what_arrives_at_a_published_port_reaches_the_container() {
    if !nix::unistd::geteuid().is_root() {
        return support::skip_for_want_of("only root makes network namespaces");
    }
    namespace::unshare(CLONE_NEWNET).unwrap();
    namespace::loopback_up().unwrap();
    it_ends_with_its_parent();
    let world = World::make();
    it_keeps_nothing_that_it_does_not_need(&world);
    bytes_go_both_ways(&world);
    each_side_may_end_first(&world);
    a_side_that_reads_slowly_holds_the_other_back(&world);
    a_refused_connection_is_reset(&world);
    datagrams_are_answered_from_where_they_were_sent_to(&world);
    a_thousand_connections_live_at_once(&world);
    without_descriptors_it_waits(&world);
    ports_are_held(&world);
}

impl World {
    fn make() -> World {
        let host = fs::File::open("/proc/thread-self/ns/net").unwrap();
        namespace::unshare(CLONE_NEWNET).unwrap();
        namespace::loopback_up().unwrap();
        let container: OwnedFd = fs::File::open("/proc/thread-self/ns/net").unwrap().into();
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let last_word = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        namespace::setns(host.as_fd(), CLONE_NEWNET).unwrap();
        let mut ways = Vec::new();
        let mut way = |to: SocketAddr, protocol| -> Vec<SocketAddr> {
            let held = ports::hold(&binding(None, 0, 0, protocol)).unwrap();
            let addresses = held.iter().map(|held| held.address).collect();
            ways.extend(held.into_iter().map(|Held { socket, protocol, .. }| Way { socket, protocol, to }));
            addresses
        };
        let tcp = |listener: &TcpListener| listener.local_addr().unwrap();
        let echo_at = way(tcp(&echo), Protocol::Tcp);
        let last_word_at = way(tcp(&last_word), Protocol::Tcp);
        let nobody_at = way(closed, Protocol::Tcp);
        let datagrams_at = way(datagrams.local_addr().unwrap(), Protocol::Udp);
        assert_eq!(echo_at.len(), 2, "IPv4 and IPv6");
        assert_eq!(echo_at[0].port(), echo_at[1].port());
        let proxy = proxy::begin(ways, Some(container.as_fd())).unwrap();
        thread::spawn(move || echo.incoming().for_each(|stream| drop(thread::spawn(move || send_back(stream.unwrap())))));
        thread::spawn(move || last_word.incoming().for_each(|stream| drop(thread::spawn(move || speak_and_listen(stream.unwrap())))));
        thread::spawn(move || {
            let mut bytes = [0; 65536];
            while let Ok((length, from)) = datagrams.recv_from(&mut bytes) {
                datagrams.send_to(&bytes[..length], from).unwrap();
            }
        });
        World {
            container,
            echo: local(echo_at[0]),
            echo_v6: local(echo_at[1]),
            last_word: local(last_word_at[0]),
            nobody: local(nobody_at[0]),
            datagrams: local(datagrams_at[0]),
            proxy,
        }
    }
}

fn binding(host: Option<IpAddr>, first: u16, last: u16, protocol: Protocol) -> Binding {
    Binding { host, first, last, container: 80, protocol }
}

/// The loopback address at which an address of all is reached.
fn local(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(ip, address.port())
}

fn send_back(mut stream: TcpStream) {
    let mut bytes = vec![0; 65536];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

/// Ends its own side first, and reads the other to its end, slowly at first.
fn speak_and_listen(mut stream: TcpStream) {
    stream.write_all(b"the last word").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    thread::sleep(Duration::from_millis(300));
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn pid(world: &World) -> i32 {
    process::pidfd_pid(world.proxy.as_fd()).expect("the proxy lives")
}

fn it_ends_with_its_parent() {
    let (ours, theirs) = fd::pipe().unwrap();
    let Forked::Parent { pidfd, .. } = process::clone3(&Clone::default()).unwrap() else {
        let held = ports::hold(&binding(None, 0, 0, Protocol::Tcp)).unwrap();
        let ways = held.into_iter().map(|held| Way { socket: held.socket, protocol: held.protocol, to: held.address }).collect();
        let proxy = proxy::begin(ways, None).unwrap();
        let pid = process::pidfd_pid(proxy.as_fd()).unwrap();
        while fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() != "onggi-proxy\n" {
            thread::sleep(Duration::from_millis(1));
        }
        nix::unistd::write(&theirs, &pid.to_ne_bytes()).unwrap();
        process::exit_now(0)
    };
    let mut bytes = [0; 4];
    assert_eq!(nix::unistd::read(&ours, &mut bytes), Ok(4));
    process::wait(pidfd.as_fd()).unwrap();
    let proxy = i32::from_ne_bytes(bytes);
    support::jar::until("the proxy ends", || {
        fs::read_to_string(format!("/proc/{proxy}/stat")).map_or(true, |stat| stat.contains("(onggi-proxy) Z") || !stat.contains("(onggi-proxy)"))
    });
}

fn it_keeps_nothing_that_it_does_not_need(world: &World) {
    // It has settled when it answers.
    connect(world.echo).write_all(b"x").unwrap();
    connect(world.echo).shutdown(Shutdown::Both).unwrap();
    let proxy = pid(world);
    support::jar::until("it has settled", || {
        let status = fs::read_to_string(format!("/proc/{proxy}/status")).unwrap();
        ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"].iter().all(|line| status.contains(line))
    });
    for entry in fs::read_dir(format!("/proc/{proxy}/fd")).unwrap().flatten() {
        let Ok(to) = fs::read_link(entry.path()) else { continue };
        let to = to.display().to_string();
        let known = to == "/dev/null" || ["socket:", "pipe:", "anon_inode:[eventpoll]"].iter().any(|kind| to.starts_with(kind));
        assert!(known, "{to}");
    }
    assert_eq!(
        fs::read_link(format!("/proc/{proxy}/ns/net")).unwrap(),
        fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&world.container))).unwrap()
    );
}

fn bytes_go_both_ways(world: &World) {
    for to in [world.echo, world.echo_v6] {
        let mut stream = connect(to);
        for word in ["a", "word", "and another"] {
            stream.write_all(word.as_bytes()).unwrap();
            let mut told = vec![0; word.len()];
            stream.read_exact(&mut told).unwrap();
            assert_eq!(told, word.as_bytes());
        }
    }
}

fn each_side_may_end_first(world: &World) {
    // The client: its last byte is followed by all that comes back.
    let sent: Vec<u8> = (0..20_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut stream = connect(world.echo);
    let mut writer = stream.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    writing.join().unwrap();
    assert!(told == sent, "{} of {} bytes, or others", told.len(), sent.len());
    // The container: what is sent afterwards still goes in.
    let mut stream = connect(world.last_word);
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    assert_eq!(told, "the last word");
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

fn a_side_that_reads_slowly_holds_the_other_back(world: &World) {
    let mut stream = connect(world.echo);
    stream.set_nonblocking(true).unwrap();
    let (chunk, mut sent, began) = (vec![7; 1 << 16], 0, Instant::now());
    // Nobody reads what comes back, so at some point no more goes in.
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(300) && began.elapsed() < Duration::from_secs(20) {
        match stream.write(&chunk) {
            Ok(length) => (sent, last) = (sent + length, Instant::now()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(e) => panic!("{e}"),
        }
    }
    assert!(sent < 100_000_000, "{sent} bytes have disappeared into the proxy");
    let before = cpu_ticks(world);
    thread::sleep(Duration::from_millis(500));
    assert!(cpu_ticks(world) - before <= 5, "it waits, and works all the same");
    stream.set_nonblocking(false).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    assert_eq!(told.len(), sent);
}

fn a_refused_connection_is_reset(world: &World) {
    let mut stream = connect(world.nobody);
    let told = stream.read(&mut [0; 1]);
    assert!(told.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset), "{told:?}");
}

fn datagrams_are_answered_from_where_they_were_sent_to(world: &World) {
    let clients: Vec<UdpSocket> = (0..5).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for (at, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.send_to(&[at as u8; 3], world.datagrams).unwrap();
    }
    for (at, client) in clients.iter().enumerate() {
        let mut bytes = [0; 16];
        assert_eq!(client.recv_from(&mut bytes).unwrap(), (3, world.datagrams));
        assert_eq!(bytes[..3], [at as u8; 3]);
    }
    // Another address of the host, though one socket is bound to all: who is connected to it hears nobody else.
    let other = SocketAddr::from(([127, 0, 0, 2], world.datagrams.port()));
    clients[0].connect(other).unwrap();
    let long = vec![9; 60_000];
    clients[0].send(&long).unwrap();
    let mut bytes = vec![0; 65536];
    assert_eq!(clients[0].recv(&mut bytes).unwrap(), long.len());
    let v6 = UdpSocket::bind("[::1]:0").unwrap();
    v6.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    v6.connect(("::1", world.datagrams.port())).unwrap();
    v6.send(b"six").unwrap();
    assert_eq!(v6.recv(&mut bytes).unwrap(), 3);
}

fn a_thousand_connections_live_at_once(world: &World) {
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| connect(world.echo)).collect();
    for (at, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&(at as u32).to_be_bytes()).unwrap();
    }
    for (at, stream) in streams.iter_mut().enumerate() {
        let mut told = [0; 4];
        stream.read_exact(&mut told).unwrap();
        assert_eq!(u32::from_be_bytes(told), at as u32);
    }
    drop(streams);
    let open = || fs::read_dir(format!("/proc/{}/fd", pid(world))).unwrap().count();
    support::jar::until("their descriptors are closed", || open() < 40);
}

fn without_descriptors_it_waits(world: &World) {
    if support::peer("prlimit").is_none() {
        return;
    }
    let limit = |files: &str| {
        let done = Command::new("prlimit").args(["--pid", &pid(world).to_string(), &format!("--nofile={files}")]).status();
        assert!(done.unwrap().success());
    };
    limit("40:");
    let mut streams: Vec<TcpStream> = (0..60).map(|_| connect(world.echo)).collect();
    thread::sleep(Duration::from_millis(200));
    let before = cpu_ticks(world);
    thread::sleep(Duration::from_secs(1));
    assert!(cpu_ticks(world) - before <= 10, "{} hundredths of a second of work while nothing can be done", cpu_ticks(world) - before);
    limit("4096:");
    let served = |stream: &mut TcpStream| stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0])).is_ok();
    let count = streams.iter_mut().map(served).filter(|served| *served).count();
    assert!(count == 60, "{count} of 60 were served once there was room");
}

/// Hundredths of a second of work so far, of user and kernel (proc_pid_stat(5), fields 14 and 15).
fn cpu_ticks(world: &World) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid(world))).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

fn ports_are_held(world: &World) {
    let any = |first, last, protocol| ports::hold(&binding(None, first, last, protocol));
    for (protocol, taken) in [(Protocol::Tcp, world.echo), (Protocol::Udp, world.datagrams)] {
        let refused = any(taken.port(), taken.port(), protocol).unwrap_err();
        let why = format!("Bind for 0.0.0.0:{} failed: port is already allocated", taken.port());
        assert!(refused.class == Class::Conflict && refused.to_string().contains(&why), "{refused}");
        // Only the proxy has them still.
        assert!(refused.hint.as_ref().is_some_and(|hint| hint.contains(&format!("onggi-proxy (PID {})", pid(world)))), "{refused}");
    }
    // Another program's name is told, even where it has another address of the port.
    // (A port that no connection is given as its own: see ip_local_port_range.)
    let (port, theirs) = (20_000, TcpListener::bind("[::]:20000").unwrap());
    let at_loopback = ports::hold(&binding(Some(Ipv4Addr::LOCALHOST.into()), port, port, Protocol::Tcp)).unwrap_err();
    assert!(at_loopback.hint.as_ref().is_some_and(|hint| hint.contains(&format!("(PID {}) has it", std::process::id()))), "{at_loopback}");
    // A connection that has the port as its own end is in the way, too.
    let calling = TcpStream::connect(world.echo).unwrap();
    let end = calling.local_addr().unwrap().port();
    let refused = any(end, end, Protocol::Tcp).unwrap_err();
    assert!(refused.hint.as_ref().is_some_and(|hint| hint.contains(&format!("(PID {}) has it", std::process::id()))), "{refused}");
    // Of a range the next one is taken, until none is left.
    let first = any(port, port + 1, Protocol::Tcp).unwrap();
    assert!(first.iter().all(|held| held.address.port() == port + 1), "{first:?}");
    let none = any(port, port + 1, Protocol::Tcp).unwrap_err();
    assert!(none.to_string().contains(&format!("Bind for 0.0.0.0:{port}-{} failed: all ports are allocated", port + 1)), "{none}");
    drop((theirs, first));
    // Fifty times in a row the same port, with a connection each time: what is closed is free.
    for _ in 0..50 {
        let held = any(port, port, Protocol::Tcp).unwrap();
        drop((TcpStream::connect(("127.0.0.1", port)).unwrap(), held));
    }
    let foreign = ports::hold(&binding(Some([10, 9, 9, 9].into()), 0, 0, Protocol::Tcp)).unwrap_err();
    assert!(foreign.to_string().contains("10.9.9.9 is no address of this host"), "{foreign}");
    // A thread has capabilities of its own: without this one it is as any user.
    let all = ids::capget().unwrap();
    ids::capset(ids::Capabilities { effective: all.effective & !(1 << 10), ..all }).unwrap();
    let denied = any(80, 80, Protocol::Tcp).unwrap_err();
    ids::capset(all).unwrap();
    assert!(denied.class == Class::Denied && denied.hint.as_ref().is_some_and(|hint| hint.contains("ip_unprivileged_port_start=80")), "{denied}");
}
