//! A full disk, `kill -9`, thousands of senseless requests, clients that say nothing: the registry stays small and whole.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use onggi::image::digest::Digest;

use crate::served::{MANIFEST, Served, begin};
use crate::support::jar::{Jar, until};
use crate::support::skip_for_want_of;

/// In KiB: less than what 30 laptops may cost.
const SMALL: u64 = 64 << 10;

#[test]
fn a_push_that_was_cut_by_kill_9_leaves_nothing_that_is_served() {
    let served = Served::new(&[]);
    let kept = served.put_image("x", "1", &[b"layer"]);
    let place = served.ask("POST", "/v2/x/blobs/uploads/", &[], b"").header("location").to_string();
    let mut stream = begin(&served.host, "PATCH", &place, &[], Some(100 << 20));
    stream.write_all(&vec![7; 10 << 20]).unwrap();
    let uploads = served.folder().join("uploads");
    let arrived = || std::fs::read_dir(&uploads).unwrap().flatten().any(|entry| entry.metadata().is_ok_and(|meta| meta.len() > 5 << 20));
    until("a part of the blob is there", arrived);
    let served = Served::with(served.murder(), &[]);
    assert_eq!(std::fs::read_dir(&uploads).unwrap().count(), 0);
    assert_eq!(served.fetch(&place).code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(served.fetch("/v2/x/manifests/1").header("docker-content-digest"), kept.as_str());
    // Again, at moments that nobody chose.
    let mut jar = Some(served.murder());
    for round in 0..12u64 {
        let served = Served::with(jar.take().unwrap(), &[]);
        let host = served.host.clone();
        let pushing = std::thread::spawn(move || push_until_it_fails(&host, round));
        std::thread::sleep(Duration::from_millis(5 + round * 7));
        jar = Some(served.murder());
        pushing.join().unwrap();
    }
    let served = Served::with(jar.unwrap(), &[]);
    let tags = served.fetch("/v2/x/tags/list").json();
    for tag in tags["tags"].as_array().unwrap() {
        let manifest = served.fetch(&format!("/v2/x/manifests/{}", tag.as_str().unwrap()));
        assert_eq!(Digest::of(&manifest.body).as_str(), manifest.header("docker-content-digest"));
        for layer in manifest.json()["layers"].as_array().unwrap() {
            let digest = layer["digest"].as_str().unwrap();
            assert_eq!(Digest::of(&served.fetch(&format!("/v2/x/blobs/{digest}")).body).as_str(), digest);
        }
    }
}

/// Pushes images without caring for answers, until nobody answers.
fn push_until_it_fails(host: &str, round: u64) {
    for count in 0.. {
        let layer = vec![count as u8; 300_000];
        let config = br#"{"architecture":"amd64","os":"linux"}"#;
        let descriptor = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()});
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)]})
        .to_string();
        let blob = |bytes: &[u8]| format!("POST /v2/x/blobs/uploads/?digest={} HTTP/1.1\r\nContent-Length: {}\r\n", Digest::of(bytes), bytes.len());
        let put = format!("PUT /v2/x/manifests/{round}-{count} HTTP/1.1\r\nContent-Type: {MANIFEST}\r\nContent-Length: {}\r\n", manifest.len());
        for (head, body) in [(blob(&layer), layer.as_slice()), (blob(config), config), (put, manifest.as_bytes())] {
            let Ok(mut stream) = TcpStream::connect(host) else { return };
            let _ = stream.write_all(format!("{head}Host: {host}\r\nConnection: close\r\n\r\n").as_bytes()).and_then(|()| stream.write_all(body));
            let mut answer = Vec::new();
            if stream.read_to_end(&mut answer).is_err() || answer.is_empty() {
                return;
            }
        }
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_room_for_the_next() {
    if !nix::unistd::geteuid().is_root() {
        return skip_for_want_of("only root can make a small file system");
    }
    let jar = Jar::empty();
    let folder = jar.root.join("small");
    std::fs::create_dir(&folder).unwrap();
    let script = format!("mount -t tmpfs -o size=4m none {0} && exec \"$@\"", folder.display());
    let root = folder.join("registry").display().to_string();
    let command = jar.onggi(&["registry", "serve", "--addr", "127.0.0.1:0", "--root", &root]);
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_os_string()).collect();
    let mut mounted = Command::new("unshare");
    mounted.args(["-m", "sh", "-c", &script, "sh"]).args(words).env("ONGGI_ROOT", &jar.root).stdin(Stdio::null());
    let served = Served::of(jar, &mut mounted);
    let (big, half) = (vec![1; 6 << 20], vec![2; 2 << 20]);
    for _ in 0..3 {
        let full = served.ask("POST", &format!("/v2/x/blobs/uploads/?digest={}", Digest::of(&big)), &[], &big);
        assert_eq!(full.status, 507, "{full:?}");
        assert!(full.text().contains("ENOSPC: no space left on device"), "{full:?}");
        let place = served.ask("POST", "/v2/x/blobs/uploads/", &[], b"").header("location").to_string();
        assert_eq!(served.ask("PATCH", &place, &[], &big).status, 507);
        assert_eq!(served.fetch(&place).status, 404);
    }
    served.put_image("x", "1", &[&half]);
    let rest = vec![3; 3 << 20];
    assert_eq!(served.ask("POST", &format!("/v2/x/blobs/uploads/?digest={}", Digest::of(&rest)), &[], &rest).status, 507);
    assert_eq!(served.fetch(&format!("/v2/x/blobs/{}", Digest::of(&half))).body, half);
    served.put_image("x", "2", &[b"small"]);
}

#[test]
fn ten_thousand_senseless_requests_cost_no_memory() {
    let served = Served::new(&["--mirror-of", "127.0.0.1:1"]);
    let mut stream = TcpStream::connect(&served.host).unwrap();
    let digest = Digest::of(b"nowhere");
    let mut sent = 0;
    let mut buffer = vec![0; 64 << 10];
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    while sent < 10_000 {
        let mut batch = String::new();
        for number in sent..sent + 50 {
            let path = match number % 8 {
                0 => format!("POST /v2/x{number}/blobs/uploads/"),
                1 => format!("GET /v2/x{number}/manifests/{number}"),
                2 => format!("GET /v2/x{number}/blobs/{digest}"),
                3 => format!("DELETE /v2/x{number}/manifests/1"),
                4 => format!("GET /v2/%2e%2e/{number}/manifests/1"),
                5 => format!("PATCH /v2/x/blobs/uploads/{number:032x}"),
                6 => format!("GET /v2/_catalog?n={number}&last={}", "z".repeat(2000)),
                _ => format!("BREW /{number}"),
            };
            batch += &format!("{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        }
        stream.write_all(batch.as_bytes()).unwrap();
        let mut answers = 0;
        while answers < 50 {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "it hung up after {sent} requests");
            answers += buffer[..count].windows(9).filter(|bytes| bytes == b"HTTP/1.1 ").count();
        }
        sent += 50;
    }
    drop(stream);
    // What is too long is not even kept.
    for _ in 0..20 {
        let mut stream = TcpStream::connect(&served.host).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n");
        let line = [b"X: ".as_slice(), &[b'y'; 8000], b"\r\n"].concat();
        for _ in 0..1000 {
            if stream.write_all(&line).is_err() {
                break;
            }
        }
    }
    assert_eq!(served.fetch("/v2/").status, 200);
    assert!(served.peak() < SMALL, "{} KiB", served.peak());
}

#[test]
fn big_manifests_come_one_after_the_other_whoever_sends_them() {
    let served = Served::new(&[]);
    let big = serde_json::json!({"annotations": {"why": "x".repeat((4 << 20) - 600)}});
    let manifest = served.manifest("x", &[b"layer"], &big);
    assert!(manifest.len() < 4 << 20);
    std::thread::scope(|scope| {
        for number in 0..40 {
            let (served, manifest) = (&served, &manifest);
            scope.spawn(move || {
                assert_eq!(served.put_manifest("x", &number.to_string(), MANIFEST, manifest).status, 201);
                assert_eq!(served.fetch(&format!("/v2/x/manifests/{number}")).body.len(), manifest.len());
            });
        }
    });
    assert_eq!(served.fetch("/").status, 200);
    assert!(served.peak() < SMALL, "{} KiB", served.peak());
}

#[test]
fn pushes_and_deletes_at_once_leave_images_that_are_whole() {
    let served = Served::new(&[]);
    std::thread::scope(|scope| {
        for number in 0..16u8 {
            let served = &served;
            scope.spawn(move || {
                let name = format!("team{}/web", number % 4);
                for round in 0..5u8 {
                    let own = [number, round];
                    let digest = served.put_image(&name, "latest", &[b"shared by all", &own]);
                    served.put_image(&name, &format!("{number}-{round}"), &[b"shared by all", &own, b"more"]);
                    if round % 2 == 0 {
                        // Another one may have done it already.
                        served.ask("DELETE", &format!("/v2/{name}/manifests/{digest}"), &[], b"");
                    }
                }
            });
        }
    });
    let count = |served: &Served| {
        let mut count = 0;
        for name in served.fetch("/v2/_catalog").json()["repositories"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            for tag in served.fetch(&format!("/v2/{name}/tags/list")).json()["tags"].as_array().unwrap() {
                let manifest = served.fetch(&format!("/v2/{name}/manifests/{}", tag.as_str().unwrap())).json();
                for layer in manifest["layers"].as_array().unwrap() {
                    let digest = layer["digest"].as_str().unwrap();
                    assert_eq!(Digest::of(&served.fetch(&format!("/v2/{name}/blobs/{digest}")).body).as_str(), digest);
                }
                count += 1;
            }
        }
        count
    };
    let before = count(&served);
    assert!(before >= 16 * 5, "{before}");
    assert_eq!(count(&Served::with(served.murder(), &[])), before, "what was said to be there is there after kill -9");
}

#[test]
fn clients_that_say_nothing_do_not_keep_the_others_out() {
    let served = Served::new(&[]);
    let digest = served.put_blob("x", &vec![5; 8 << 20]);
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&served.host).unwrap()).collect();
    // These ask, and don't take what they asked for.
    let stuck: Vec<TcpStream> = (0..50).map(|_| begin(&served.host, "GET", &format!("/v2/x/blobs/{digest}"), &[], Some(0))).collect();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(served.fetch(&format!("/v2/x/blobs/{digest}")).body.len(), 8 << 20);
    assert!(served.peak() < SMALL, "{} KiB", served.peak());
    // Ctrl-C doesn't wait for them for long.
    let began = Instant::now();
    served.end();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    drop((silent, stuck));
}
