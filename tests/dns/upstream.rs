//! Names that aren't ours: good, slow, broken and forged servers.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::{Packet, RCODE, TYPE};

use super::names;
use super::serving::{Serving, addresses, ask_tcp, question, question_with_room, receive, receive_tcp, send_tcp};
use onggi::network::dns::Names;

/// A server that answers each question with what `answer` makes of it.
fn upstream(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&answer(&buffer[..length]), from);
        }
    });
    address
}

/// The question turned into an answer with a code.
fn with_code(code: u8) -> impl Fn(&[u8]) -> Vec<u8> + Send + 'static {
    move |packet| {
        let mut reply = packet.to_vec();
        reply[2] |= 0x80;
        reply[3] = code;
        reply
    }
}

/// 192.0.2.`last`, for every name.
fn with_address(last: u8) -> impl Fn(&[u8]) -> Vec<u8> + Send + 'static {
    move |packet| {
        let mut reply = packet[..packet.len()].to_vec();
        reply[2] |= 0x80;
        reply[7] = 1;
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
        reply
    }
}

fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn code(packet: &[u8]) -> RCODE {
    Packet::parse(packet).unwrap().rcode()
}

#[test]
fn an_unknown_name_is_asked_further_and_its_answer_comes_back_as_it_is() {
    let serving = Serving::start(names(), vec![upstream(with_address(1))], true);
    let reply = serving.ask(&question(0x1234, "example.com", TYPE::A));
    assert_eq!(Packet::parse(&reply).unwrap().id(), 0x1234);
    assert_eq!(addresses(&reply), ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    let nowhere = Serving::start(names(), vec![upstream(with_code(3))], true);
    assert_eq!(code(&nowhere.ask(&question(1, "nowhere.example", TYPE::A))), RCODE::NameError);
}

#[test]
fn a_container_without_a_way_out_is_told_so() {
    let serving = Serving::start(names(), vec![upstream(with_address(1))], false);
    assert_eq!(code(&serving.ask(&question(1, "example.com", TYPE::A))), RCODE::ServerFailure);
    assert_eq!(code(&ask_tcp(serving.tcp, &question(1, "example.com", TYPE::A))), RCODE::ServerFailure);
    let reply = serving.ask(&question_with_room(1, "example.com", TYPE::A, 1232));
    assert!(Packet::parse(&reply).unwrap().opt().is_some());
}

#[test]
fn the_second_server_is_asked_when_the_first_fails() {
    let (_socket, mute) = silent();
    let closed = silent().1;
    for (first, at_least) in [(upstream(with_code(2)), 0), (upstream(with_code(5)), 0), (closed, 0), (mute, 2)] {
        let serving = Serving::start(names(), vec![first, upstream(with_address(2))], true);
        let begin = Instant::now();
        assert_eq!(addresses(&serving.ask(&question(1, "example.com", TYPE::A))), ["192.0.2.2".parse::<std::net::IpAddr>().unwrap()]);
        let took = begin.elapsed();
        assert!((at_least..at_least + 1).contains(&took.as_secs()), "{took:?}");
    }
    let serving = Serving::start(names(), vec![upstream(with_code(5)), closed], true);
    assert_eq!(code(&serving.ask(&question(1, "example.com", TYPE::A))), RCODE::ServerFailure);
}

#[test]
fn forged_answers_are_passed_over() {
    let (server, address) = silent();
    let serving = Serving::start(names(), vec![address], true);
    let client = serving.client();
    client.send(&question(9, "bank.example", TYPE::A)).unwrap();
    let mut buffer = [0; 512];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    let asked = &buffer[..length];

    // From another address, with every ID.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for id in 0..=u16::MAX {
        let mut forged = with_address(66)(asked);
        forged[..2].copy_from_slice(&id.to_be_bytes());
        let _ = stranger.send_to(&forged, from);
    }
    // From the right one: another ID, another name, a question, nothing.
    let mut wrong_id = with_address(66)(asked);
    wrong_id[0] ^= 1;
    let mut wrong_name = with_address(66)(asked);
    wrong_name[13] ^= 1;
    let mut no_answer = with_address(66)(asked);
    no_answer[2] &= 0x7f;
    for forged in [wrong_id, wrong_name, no_answer, vec![], asked[..5].to_vec()] {
        server.send_to(&forged, from).unwrap();
    }
    server.send_to(&with_address(1)(asked), from).unwrap();
    assert_eq!(addresses(&receive(&client)), ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn each_question_has_an_id_and_a_port_of_its_own() {
    let (server, address) = silent();
    let serving = Serving::start(names(), vec![address], true);
    let client = serving.client();
    let mut seen = std::collections::BTreeSet::new();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..100 {
        client.send(&question(1, "example.com", TYPE::A)).unwrap();
        let mut buffer = [0; 512];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        seen.insert(from.port());
        ids.insert([buffer[0], buffer[1]]);
    }
    assert!(seen.len() > 95 && ids.len() > 95, "{} ports, {} IDs", seen.len(), ids.len());
}

#[test]
fn who_asks_over_tcp_is_answered_from_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let asked = receive_tcp(&mut stream);
            let mut long = with_address(1)(&asked);
            long.resize(60_000, 0);
            std::io::Write::write_all(&mut stream, &send_tcp(&long)).unwrap();
        }
    });
    let serving = Serving::start(names(), vec![silent().1, address], true);
    assert_eq!(ask_tcp(serving.tcp, &question(3, "long.example", TYPE::A)).len(), 60_000);
}

#[test]
fn more_questions_than_are_kept_get_an_answer_at_once_and_names_go_on() {
    let (_server, address) = silent();
    let serving = Serving::start(names(), vec![address], true);
    let client = serving.client();
    let mut refused = 0;
    for id in 0..1500u16 {
        client.send(&question(id, "slow.example", TYPE::A)).unwrap();
        if id % 50 == 49 {
            assert_eq!(addresses(&serving.ask(&question(1, "db", TYPE::A))).len(), 1);
            // All that were refused until now are answered before that name is.
            client.set_nonblocking(true).unwrap();
            refused += std::iter::from_fn(|| client.recv(&mut [0; 512]).ok()).count();
        }
    }
    assert!(refused >= 400, "{refused}");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(addresses(&serving.ask(&question(1, "db", TYPE::A))).len(), 1);
    serving.know(Names::new());
}
