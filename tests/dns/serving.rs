//! A name server in a thread of the test, and clients that ask it. Questions are written and answers are read by another library.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollTimeout, poll};
use onggi::network::dns::{Names, Server};
use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE};

/// A server that runs until this is dropped.
pub struct Serving {
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    names: Arc<Mutex<Names>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub fn start(names: Names, upstream: Vec<SocketAddr>, forwards: bool) -> Serving {
        let sockets = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        Serving::at(sockets, names, upstream, forwards)
    }

    /// The monitor's loop, with nothing else in it.
    pub fn at(sockets: (UdpSocket, TcpListener), names: Names, upstream: Vec<SocketAddr>, forwards: bool) -> Serving {
        let (udp, tcp) = (sockets.0.local_addr().unwrap(), sockets.1.local_addr().unwrap());
        let (names, stop) = (Arc::new(Mutex::new(names)), Arc::new(AtomicBool::new(false)));
        let (known, stopped) = (Arc::clone(&names), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut server = Server::new(sockets.0, sockets.1, upstream, forwards).unwrap();
            let mut cached = Rc::new(known.lock().unwrap().clone());
            while !stopped.load(Ordering::Relaxed) {
                let wait = server.due().map_or(Duration::from_millis(50), |due| due.saturating_duration_since(Instant::now()));
                let wait = PollTimeout::try_from(wait.min(Duration::from_millis(50))).unwrap();
                let mut waits = server.waits().map(|(fd, flags)| PollFd::new(fd, flags));
                if poll(&mut waits, wait).unwrap() > 0 {
                    server.ready(&mut || {
                        let now = known.lock().unwrap();
                        if *now != *cached {
                            cached = Rc::new(now.clone());
                        }
                        Rc::clone(&cached)
                    });
                }
                if server.due().is_some_and(|due| due <= Instant::now()) {
                    server.on_time();
                }
            }
        });
        Serving { udp, tcp, names, stop, thread: Some(thread) }
    }

    /// Other names from now on.
    pub fn know(&self, names: Names) {
        *self.names.lock().unwrap() = names;
    }

    /// A socket that is connected to the server.
    pub fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.udp).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        socket
    }

    /// The answer to one packet.
    #[track_caller]
    pub fn ask(&self, packet: &[u8]) -> Vec<u8> {
        let socket = self.client();
        socket.send(packet).unwrap();
        receive(&socket)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let served = self.thread.take().unwrap().join();
        assert!(served.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

#[track_caller]
pub fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65535];
    let length = socket.recv(&mut buffer).expect("an answer");
    buffer[..length].to_vec()
}

fn query<'a>(id: u16, name: &'a str, kind: TYPE) -> Packet<'a> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new_unchecked(name), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet
}

pub fn question(id: u16, name: &str, kind: TYPE) -> Vec<u8> {
    query(id, name, kind).build_bytes_vec().unwrap()
}

/// With EDNS: the client takes `room` bytes.
pub fn question_with_room(id: u16, name: &str, kind: TYPE, room: u16) -> Vec<u8> {
    let mut packet = query(id, name, kind);
    *packet.opt_mut() = Some(OPT { opt_codes: vec![], udp_packet_size: room, version: 0 });
    packet.build_bytes_vec().unwrap()
}

/// The addresses in an answer, in its order.
pub fn addresses(packet: &[u8]) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(a) => IpAddr::from(a.address.to_be_bytes()),
        RData::AAAA(a) => IpAddr::from(a.address.to_be_bytes()),
        other => panic!("no address: {other:?}"),
    };
    Packet::parse(packet).unwrap().answers.iter().map(|record| address(&record.rdata)).collect()
}

/// A packet behind its length.
pub fn send_tcp(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes(), packet].concat()
}

pub fn receive_tcp(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut packet).unwrap();
    packet
}

pub fn ask_tcp(server: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.write_all(&send_tcp(packet)).unwrap();
    receive_tcp(&mut stream)
}
