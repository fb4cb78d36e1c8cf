//! Pull-through: once from outside, then from here; thirty clients at once; nobody outside; and a registry outside that lies.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use onggi::image::digest::Digest;

use crate::served::{MANIFEST, Served, ask, begin};
use crate::support::jar::Jar;

/// Reads an answer without keeping it: how many bytes of content, and whether they are all this byte.
fn drained(mut stream: TcpStream, byte: u8) -> (u64, bool) {
    let (mut buffer, expected) = (vec![0; 1 << 20], vec![byte; 1 << 20]);
    let (mut total, mut is_right) = (0, head_of(&mut stream).starts_with("HTTP/1.1 200"));
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        is_right &= buffer[..count] == expected[..count];
        total += count as u64;
    }
    (total, is_right)
}

#[test]
fn thirty_clients_pull_300_megabytes_that_come_once_from_outside() {
    const SIZE: usize = 300 << 20;
    let outside = Served::new(&[]);
    let layer = vec![b'o'; SIZE];
    let manifest = outside.put_image("team/web", "1", &[&layer]);
    let digest = Digest::of(&layer);
    drop(layer);
    let mirror = Served::new(&["--mirror-of", &outside.host]);
    let host = &mirror.host;
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(move || {
                let found = ask(host, "GET", "/v2/team/web/manifests/1", &[], b"");
                assert_eq!(Digest::of(&found.body), Digest::parse(found.header("docker-content-digest")).unwrap());
                // Of a blob that nobody has, they hear so.
                assert_eq!(ask(host, "GET", &format!("/v2/team/web/blobs/{}", Digest::of(b"nobody has it")), &[], b"").status, 404);
            });
        }
    });
    std::thread::scope(|scope| {
        let path = format!("/v2/team/web/blobs/{digest}");
        for _ in 0..30 {
            let path = path.clone();
            scope.spawn(move || assert_eq!(drained(begin(host, "GET", &path, &[], Some(0)), b'o'), (SIZE as u64, true)));
        }
    });
    assert!(mirror.peak() < 64 << 10, "{} KiB", mirror.peak());
    assert_eq!(mirror.fetch("/v2/team/web/manifests/1").header("docker-content-digest"), manifest.as_str());
    let said = mirror.end();
    assert!(said.contains("9.44GB served") && said.contains("315MB fetched from outside"), "{said}");
    let outside = outside.end();
    assert!(outside.starts_with("315MB served"), "{outside}");
}

#[test]
fn a_tag_that_moves_outside_moves_here_after_a_while_and_one_that_was_pushed_here_is_ours() {
    let outside = Served::new(&[]);
    let first = outside.put_image("x", "1", &[b"first"]);
    let mirror = Served::new(&["--mirror-of", &outside.host]);
    let digest = |served: &Served| served.fetch("/v2/x/manifests/1").header("docker-content-digest").to_string();
    assert_eq!(digest(&mirror), first.as_str());
    let second = outside.put_image("x", "1", &[b"second"]);
    assert_eq!(digest(&mirror), first.as_str(), "asked a moment ago");
    let mirror = Served::with(mirror.murder(), &["--mirror-of", &outside.host]);
    assert_eq!(digest(&mirror), second.as_str(), "a new server has asked nobody yet");
    assert_eq!(mirror.fetch(&format!("/v2/x/blobs/{}", Digest::of(b"second"))).body, b"second");
    let own = mirror.put_image("x", "1", &[b"own"]);
    let mirror = Served::with(mirror.murder(), &["--mirror-of", &outside.host]);
    assert_eq!(digest(&mirror), own.as_str());
    assert_eq!(mirror.fetch("/v2/x/manifests/nothing").status, 404);
    assert_eq!(mirror.fetch(&format!("/v2/x/blobs/{}", Digest::of(b"nothing"))).status, 404);
}

#[test]
fn a_teacher_who_is_logged_in_outside_is_told_what_that_means_here() {
    let jar = Jar::empty();
    std::fs::create_dir(jar.root.join("docker")).unwrap();
    std::fs::write(jar.root.join("docker/config.json"), r#"{"auths":{"registry.invalid":{"auth":"dTpw"}}}"#).unwrap();
    let mut command = jar.onggi(&["registry", "serve", "--addr", "127.0.0.1:0", "--mirror-of", "registry.invalid"]);
    command.env("DOCKER_CONFIG", jar.root.join("docker"));
    let served = Served::of(jar, &mut command);
    assert!(served.greeting.contains("what you may pull there, everybody may pull here"), "{}", served.greeting);
}

#[test]
fn when_nobody_answers_outside_what_is_here_is_served() {
    let outside = Served::new(&[]);
    let manifest = outside.put_image("x", "1", &[b"layer"]);
    let words = ["--mirror-of".to_string(), outside.host.clone()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mirror = Served::new(&words);
    assert_eq!(mirror.fetch("/v2/x/manifests/1").status, 200);
    assert_eq!(mirror.fetch(&format!("/v2/x/blobs/{}", Digest::of(b"layer"))).body, b"layer");
    drop(outside);
    let mirror = Served::with(mirror.murder(), &words);
    for _ in 0..3 {
        assert_eq!(mirror.fetch("/v2/x/manifests/1").header("docker-content-digest"), manifest.as_str());
        assert_eq!(mirror.fetch(&format!("/v2/x/blobs/{}", Digest::of(b"layer"))).body, b"layer");
        let absent = mirror.fetch("/v2/x/manifests/2");
        assert_eq!(absent.status, 502, "{absent:?}");
    }
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_never_given_whole_nor_kept() {
    let wanted = Digest::of(&[1; 200_000]);
    // First, for with it comes this test's own network.
    let jar = Jar::empty();
    let liar = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = liar.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in liar.incoming().flatten() {
            lie(stream);
        }
    });
    let mirror = Served::with(jar, &["--mirror-of", &host]);
    for _ in 0..2 {
        let (length, _) = drained(begin(&mirror.host, "GET", &format!("/v2/x/blobs/{wanted}"), &[], Some(0)), 2);
        assert!(length < 200_000, "the wrong blob was given whole");
        let files = |folder: &str| std::fs::read_dir(mirror.folder().join(folder)).unwrap().count();
        assert_eq!((files("blobs/sha256"), files("uploads")), (0, 0));
    }
    let manifest = mirror.fetch(&format!("/v2/x/manifests/{wanted}"));
    let found = Digest::of(&[2; 200_000]);
    assert!(manifest.status == 502 && manifest.text().contains(found.as_str()), "{manifest:?}");
    assert!(mirror.end().contains("kB fetched from outside"), "it was asked");
}

#[test]
fn a_blob_is_sent_on_while_it_arrives_and_fetched_on_where_the_line_broke() {
    let content: Vec<u8> = (0..1_000_000u32).map(|number| (number * 7 % 251) as u8).collect();
    let digest = Digest::of(&content);
    let jar = Jar::empty();
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = outside.local_addr().unwrap().to_string();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let sent = content.clone();
    std::thread::spawn(move || {
        let mut requests = 0;
        for mut stream in outside.incoming().flatten() {
            let head = head_of(&mut stream).to_lowercase();
            requests += 1;
            // The first time the line breaks in the middle, when we are told to.
            let (status, from, to) = match head.contains("range: bytes=600000-") {
                true => (format!("206 Partial Content\r\nContent-Range: bytes 600000-999999/{}", sent.len()), 600_000, sent.len()),
                false => ("200 OK".to_string(), 0, 600_000),
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", sent.len() - from);
            stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&sent[from..to])).unwrap();
            if requests == 1 {
                wait.recv().unwrap();
            }
        }
    });
    let mirror = Served::with(jar, &["--mirror-of", &host]);
    let mut client = begin(&mirror.host, "GET", &format!("/v2/x/blobs/{digest}"), &[], Some(0));
    let head = head_of(&mut client);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 1000000"), "{head}");
    let mut early = vec![0; 500_000];
    client.read_exact(&mut early).unwrap();
    go_on.send(()).unwrap();
    let mut late = Vec::new();
    client.read_to_end(&mut late).unwrap();
    assert!([early, late].concat() == content, "what came is not what was sent");
    assert!(mirror.fetch(&format!("/v2/x/blobs/{digest}")).body == content);
    assert!(mirror.end().contains("2.00MB served, 0B received, 1.00MB fetched"));
}

/// The head of a request or an answer.
fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut one = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut one).expect("the head");
        head.push(one[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Answers every request on a connection with 200,000 bytes that nobody asked for.
fn lie(mut stream: TcpStream) {
    std::thread::spawn(move || {
        let mut head = Vec::new();
        let mut one = [0];
        while matches!(stream.read(&mut one), Ok(1)) {
            head.push(one[0]);
            if head.ends_with(b"\r\n\r\n") {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: 200000\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&[2; 200_000]));
                head.clear();
            }
        }
    });
}
