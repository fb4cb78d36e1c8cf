//! The name server of containers, asked over real sockets, by programs and libraries of others, and by clients and servers that mean it ill.
//!
//! See it: `cargo test --test dns -- --nocapture`. Read: RFC 1035, RFC 5452, RFC 6891, RFC 7766.

#[path = "dns/hostile.rs"]
mod hostile;
#[path = "dns/namespace.rs"]
mod namespace;
#[path = "dns/serving.rs"]
mod serving;
mod support;
#[path = "dns/upstream.rs"]
mod upstream;

use std::net::IpAddr;

use onggi::network::dns::Names;
use onggi::network::dns::message::{self, Read};
use proptest::prelude::*;
use simple_dns::rdata::RData;
use simple_dns::{Name, Packet, PacketFlag, QTYPE, RCODE, TYPE};

use serving::{Serving, addresses, ask_tcp, question, question_with_room, receive_tcp, send_tcp};

/// `web` has many addresses, `db` one of each kind, `only4` one.
fn names() -> Names {
    let mut names = Names::new();
    (0..100).for_each(|last| names.add("web", IpAddr::from([10, 1, 0, last])));
    names.add("db", "10.1.1.1".parse().unwrap());
    names.add("db", "fd00::1".parse().unwrap());
    names.add("Only4.Shop.", "10.1.1.2".parse().unwrap());
    names.add_reverse("10.1.1.1".parse().unwrap(), "db.shop");
    names.add_reverse("fd00::1".parse().unwrap(), "db.shop");
    names
}

fn answer(packet: &[u8]) -> Vec<u8> {
    match message::read(packet) {
        Read::Question(question) => names().answer(&question, 0, question.room()).expect("a name that is known"),
        other => panic!("{other:?}"),
    }
}

proptest! {
    /// Another library writes the question and reads the answer.
    #[test]
    fn what_we_answer_is_what_another_library_reads(
        labels in prop::collection::vec("[a-zA-Z0-9_-]{1,63}", 1..4),
        given in prop::collection::vec(any::<IpAddr>(), 1..6),
        kind in prop::sample::select(vec![TYPE::A, TYPE::AAAA, TYPE::MX, TYPE::TXT]),
        id in any::<u16>(),
        turn in any::<usize>(),
        edns in any::<bool>(),
    ) {
        let name = labels.join(".");
        let mut names = Names::new();
        given.iter().for_each(|address| names.add(&name.to_lowercase(), *address));
        let packet = if edns { question_with_room(id, &name, kind, 4096) } else { question(id, &name, kind) };
        let Read::Question(question) = message::read(&packet) else { panic!("not a question") };
        let bytes = names.answer(&question, turn, question.room()).unwrap();
        let reply = Packet::parse(&bytes).unwrap();

        prop_assert_eq!(reply.id(), id);
        prop_assert_eq!(reply.rcode(), RCODE::NoError);
        prop_assert!(reply.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED));
        prop_assert_eq!(&reply.questions[0].qname, &Name::new(&name).unwrap());
        prop_assert_eq!(reply.opt().is_some(), edns);
        prop_assert!(reply.answers.iter().all(|record| record.ttl == 0 && record.name == Name::new(&name).unwrap()));
        let mut expected: Vec<IpAddr> = given.iter().copied().filter(|a| match kind { TYPE::A => a.is_ipv4(), TYPE::AAAA => a.is_ipv6(), _ => false }).collect();
        expected.sort();
        expected.dedup();
        let mut got = addresses(&bytes);
        got.sort();
        prop_assert_eq!(got, expected);
    }

    /// Whatever comes, it is read to its end or refused.
    #[test]
    fn no_packet_makes_the_reader_panic(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Read::Question(question) = message::read(&packet) {
            names().answer(&question, 3, question.room());
        }
        message::reply(&packet, 7, &packet);
    }
}

#[test]
fn an_address_is_led_back_to_its_name() {
    for arpa in ["1.1.1.10.in-addr.arpa", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.IP6.ARPA"] {
        let bytes = answer(&question(5, arpa, TYPE::PTR));
        let reply = Packet::parse(&bytes).unwrap();
        assert!(matches!(&reply.answers[0].rdata, RData::PTR(name) if name.0 == Name::new("db.shop").unwrap()), "{reply:?}");
        assert_eq!(Packet::parse(&answer(&question(5, arpa, TYPE::A))).unwrap().answers.len(), 0);
    }
}

#[test]
fn a_name_without_an_ipv6_address_is_still_a_name() {
    let bytes = answer(&question(1, "oNLY4.sHOP", TYPE::AAAA));
    let reply = Packet::parse(&bytes).unwrap();
    assert_eq!((reply.rcode(), reply.answers.len()), (RCODE::NoError, 0));
    assert_eq!(addresses(&answer(&question(1, "only4.shop", TYPE::A))), ["10.1.1.2".parse::<IpAddr>().unwrap()]);
    // The case of the question comes back as it was (draft-vixie-dnsext-dns0x20).
    assert!(bytes.windows(5).any(|part| part == b"oNLY4"));
}

#[test]
fn a_question_for_anything_gets_all_addresses() {
    let mut packet = question(1, "db", TYPE::A);
    let kind = packet.len() - 4;
    packet[kind..kind + 2].copy_from_slice(&u16::from(QTYPE::ANY).to_be_bytes());
    assert_eq!(addresses(&answer(&packet)).len(), 2);
}

#[test]
fn an_answer_is_as_long_as_the_client_takes() {
    let plain = answer(&question(1, "web", TYPE::A));
    assert!(plain.len() <= 512 && Packet::parse(&plain).unwrap().has_flags(PacketFlag::TRUNCATION));
    assert!((28..=31).contains(&addresses(&plain).len()));

    let some = answer(&question_with_room(1, "web", TYPE::A, 1000));
    assert!(some.len() <= 1000 && Packet::parse(&some).unwrap().has_flags(PacketFlag::TRUNCATION));
    // Less than 512 is read as 512 (RFC 6891, 6.2.3).
    assert!(answer(&question_with_room(1, "web", TYPE::A, 0)).len() > 480);

    let all = answer(&question_with_room(1, "web", TYPE::A, 4096));
    assert_eq!(addresses(&all).len(), 100);
    assert!(!Packet::parse(&all).unwrap().has_flags(PacketFlag::TRUNCATION));
}

#[test]
fn each_answer_begins_with_another_address() {
    let serving = Serving::start(names(), vec![], true);
    let mut firsts: Vec<IpAddr> = (0..100).map(|id| addresses(&serving.ask(&question(id, "web", TYPE::A)))[0]).collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), 100);
}

#[test]
fn questions_over_tcp_may_come_in_pieces_and_many_at_once() {
    let serving = Serving::start(names(), vec![], true);
    assert_eq!(addresses(&ask_tcp(serving.tcp, &question(1, "web", TYPE::A))).len(), 100);

    let mut stream = std::net::TcpStream::connect(serving.tcp).unwrap();
    stream.set_nodelay(true).unwrap();
    let one = send_tcp(&question(7, "db", TYPE::A));
    for byte in &one {
        std::io::Write::write_all(&mut stream, &[*byte]).unwrap();
    }
    assert_eq!(addresses(&receive_tcp(&mut stream)).len(), 1);

    let many: Vec<u8> = (0..500).flat_map(|id| send_tcp(&question(id, "web", TYPE::A))).collect();
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &many).unwrap());
    for id in 0..500 {
        assert_eq!(Packet::parse(&receive_tcp(&mut stream)).unwrap().id(), id);
    }
    writing.join().unwrap();
}

#[test]
fn a_client_that_has_said_all_is_answered_all() {
    let serving = Serving::start(names(), vec![], true);
    let mut stream = std::net::TcpStream::connect(serving.tcp).unwrap();
    let three: Vec<u8> = (0..3).flat_map(|id| send_tcp(&question(id, "db", TYPE::A))).collect();
    std::io::Write::write_all(&mut stream, &three).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    (0..3).for_each(|id| assert_eq!(Packet::parse(&receive_tcp(&mut stream)).unwrap().id(), id));
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 1]).unwrap(), 0, "closed");
}

/// An address that changes between an answer and the next question, while the server may still be at the first.
#[test]
fn no_question_is_answered_with_names_older_than_itself() {
    let serving = Serving::start(names(), vec![], true);
    let socket = serving.client();
    let mut buffer = [0; 512];
    for id in 0..10_000u16 {
        let address = IpAddr::from([10, 1, (id >> 8) as u8, id as u8]);
        let mut moved = Names::new();
        moved.add("db", address);
        serving.know(moved);
        socket.send(&question(id, "db", TYPE::A)).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(addresses(&buffer[..length]), [address]);
    }
}

#[test]
fn how_many_questions_a_second() {
    let serving = Serving::start(names(), vec![], true);
    let socket = serving.client();
    let packet = question(1, "db", TYPE::A);
    let mut buffer = [0; 512];
    let begin = std::time::Instant::now();
    for _ in 0..10_000 {
        socket.send(&packet).unwrap();
        socket.recv(&mut buffer).unwrap();
    }
    support::say(&format!("one client, one question at a time: {:.0} questions a second", 10_000.0 / begin.elapsed().as_secs_f64()));
}
