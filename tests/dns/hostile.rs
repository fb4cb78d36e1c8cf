//! Packets that no library would write.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use simple_dns::{Packet, TYPE};

use super::names;
use super::serving::{Serving, addresses, ask_tcp, question, question_with_room, receive_tcp, send_tcp};

/// The same numbers in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

fn hostile(numbers: &mut Numbers) -> Vec<u8> {
    let mut packet = match numbers.next(3) {
        0 => (0..numbers.next(600)).map(|_| numbers.next(256) as u8).collect(),
        1 => question(1, "db", TYPE::A),
        _ => question_with_room(1, "web", TYPE::A, 4096),
    };
    for _ in 0..numbers.next(8) {
        if !packet.is_empty() {
            let at = numbers.next(packet.len());
            packet[at] = [0, 1, 0xc0, 0xff, 63, 64, 12, numbers.next(256) as u8][numbers.next(8)];
        }
    }
    packet.truncate(numbers.next(packet.len() + 40));
    packet
}

#[test]
fn ten_thousand_hostile_packets_and_it_answers() {
    let serving = Serving::start(names(), vec![], true);
    let (client, mut numbers) = (serving.client(), Numbers(4711));
    for sent in 1..=10_000 {
        client.send(&hostile(&mut numbers)).unwrap();
        // Not faster than the socket's buffer takes them: what it drops is not read by anybody.
        if sent % 100 == 0 {
            assert_eq!(addresses(&serving.ask(&question(1, "db", TYPE::A))).len(), 1);
        }
    }
    for _ in 0..300 {
        let mut stream = TcpStream::connect(serving.tcp).unwrap();
        let _ = stream.write_all(&send_tcp(&hostile(&mut numbers)));
        let _ = stream.write_all(&hostile(&mut numbers));
    }
    assert_eq!(addresses(&ask_tcp(serving.tcp, &question(1, "db", TYPE::A))).len(), 1);
}

#[test]
fn each_fault_has_its_answer() {
    let serving = Serving::start(names(), vec![], true);
    let good = question_with_room(0x4242, "db", TYPE::A, 1232);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        let reply = serving.ask(&packet);
        assert_eq!(reply[..2], [0x42, 0x42]);
        assert_eq!(reply[2] & 0x80, 0x80);
        reply[3] & 15
    };
    let opt = good[good.len() - 11..].to_vec();
    assert_eq!(changed(&|_| {}), 0);
    assert_eq!(changed(&|packet| packet.truncate(4)), 1, "a header that is cut off");
    assert_eq!(changed(&|packet| packet.truncate(14)), 1, "a name that is cut off");
    assert_eq!(changed(&|packet| packet[5] = 0), 1, "no question");
    assert_eq!(changed(&|packet| packet[5] = 2), 1, "two questions");
    assert_eq!(changed(&|packet| packet[12..14].copy_from_slice(&[0xc0, 12])), 1, "a name that points to itself");
    assert_eq!(changed(&|packet| packet[11] = 9), 1, "more records than there are");
    assert_eq!(changed(&|packet| packet[2] = 0x28), 4, "an update");
    assert_eq!(
        changed(&|packet| {
            packet[11] = 2;
            packet.extend(&opt);
        }),
        1,
        "two OPT records"
    );
    // BADVERS is 16: its lower bits are 0, its upper bits are in the OPT record.
    let mut version = good.clone();
    let at = version.len() - 5;
    version[at] = 1;
    let reply = serving.ask(&version);
    assert_eq!((reply[3] & 15, reply[reply.len() - 6]), (0, 1));
}

#[test]
fn an_answer_is_not_answered() {
    let serving = Serving::start(names(), vec![], true);
    let client = serving.client();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut packet = question(1, "db", TYPE::A);
    packet[2] |= 0x80;
    client.send(&packet).unwrap();
    assert!(client.recv(&mut [0; 512]).is_err());
}

#[test]
fn more_connections_than_are_kept_cost_the_quietest_its_place() {
    let serving = Serving::start(names(), vec![], true);
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(serving.tcp).unwrap();
        stream.write_all(&send_tcp(&question(1, "db", TYPE::A))).unwrap();
        assert_eq!(Packet::parse(&receive_tcp(&mut stream)).unwrap().id(), 1);
        streams.push(stream);
    }
    assert!(matches!(streams[0].read(&mut [0; 1]), Ok(0)), "the oldest is closed");
    let last = streams.last_mut().unwrap();
    last.write_all(&send_tcp(&question(2, "db", TYPE::A))).unwrap();
    assert_eq!(Packet::parse(&receive_tcp(last)).unwrap().id(), 2);
}

#[test]
fn a_client_that_does_not_read_costs_little() {
    let serving = Serving::start(names(), vec![], true);
    let mut stream = TcpStream::connect(serving.tcp).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let packet = send_tcp(&question(1, "web", TYPE::A)).repeat(1000);
    let mut written = 0;
    while written < 100 << 20 && stream.write_all(&packet).is_ok() {
        written += packet.len();
    }
    assert!(written < 100 << 20, "it read on and on");
    assert_eq!(addresses(&serving.ask(&question(1, "db", TYPE::A))).len(), 1);
}
