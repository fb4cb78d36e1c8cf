//! Blobs: how they come, how they go, and what is refused on the way.

use std::io::Write;

use onggi::image::digest::Digest;

use crate::served::{Served, answer, begin};

const CONTENT: &[u8] = b"an earthen jar keeps what it is given";

fn uploads(served: &Served) -> usize {
    std::fs::read_dir(served.folder().join("uploads")).unwrap().count()
}

#[test]
fn an_empty_registry_tells_its_version_and_lists_nothing() {
    let served = Served::new(&[]);
    let version = served.fetch("/v2/");
    assert_eq!((version.status, version.header("docker-distribution-api-version")), (200, "registry/2.0"));
    assert_eq!(served.fetch("/v2/_catalog").text(), r#"{"repositories":[]}"#);
    assert_eq!((served.fetch("/v2/x/tags/list").status, served.fetch("/v2/x/tags/list").code().as_str()), (404, "NAME_UNKNOWN"));
    assert_eq!(served.fetch("/v2/x/manifests/1").code(), "MANIFEST_UNKNOWN");
    assert_eq!(served.fetch(&format!("/v2/x/blobs/{}", Digest::of(b"x"))).code(), "BLOB_UNKNOWN");
    assert_eq!(served.ask("POST", "/v2/_catalog", &[], b"").status, 405);
    assert_eq!(served.ask("BREW", "/v2/", &[], b"").status, 405);
    assert!(served.end().contains("0B served"));
}

#[test]
fn each_request_is_told_in_a_line_to_who_wants_to_see_them() {
    let served = Served::new(&["-v"]);
    served.put_blob("x", CONTENT);
    served.fetch("/v2/x/tags/list?n=1");
    let said = served.end();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("127.0.0.1 POST /v2/x/blobs/uploads/?digest=sha256:") && lines[0].ends_with(" 201 0 B"), "{said}");
    assert!(lines[1].starts_with("127.0.0.1 GET /v2/x/tags/list?n=1 404 "), "{said}");
}

#[test]
fn a_blob_comes_whole_or_in_pieces_or_as_a_stream() {
    let served = Served::new(&[]);
    let digest = Digest::of(CONTENT);
    // In pieces that say where they belong.
    let begun = served.ask("POST", "/v2/team/web/blobs/uploads/", &[], b"");
    assert_eq!(begun.status, 202);
    let place = begun.header("location").to_string();
    let (first, rest) = CONTENT.split_at(10);
    let piece = served.ask("PATCH", &place, &[("Content-Range", "0-9")], first);
    assert_eq!((piece.status, piece.header("range"), piece.header("location")), (202, "0-9", place.as_str()));
    let early = served.ask("PATCH", &place, &[("Content-Range", "12-20")], &CONTENT[12..21]);
    assert_eq!((early.status, early.header("range")), (416, "0-9"), "{early:?}");
    assert_eq!(served.ask("PATCH", &place, &[("Content-Range", "0-9")], first).status, 416, "sent twice");
    let status = served.fetch(&place);
    assert_eq!((status.status, status.header("range")), (204, "0-9"));
    let end = served.ask("PUT", &format!("{place}?digest={digest}"), &[("Content-Range", &format!("10-{}", CONTENT.len() - 1))], rest);
    assert_eq!((end.status, end.header("docker-content-digest")), (201, digest.as_str()), "{end:?}");
    assert_eq!(served.fetch(end.header("location")).body, CONTENT);
    assert_eq!(served.fetch(&place).code(), "BLOB_UPLOAD_UNKNOWN");
    // As docker does: a stream of unknown length, and an empty end.
    let place = served.ask("POST", "/v2/team/web/blobs/uploads/", &[], b"").header("location").to_string();
    let mut stream = begin(&served.host, "PATCH", &place, &[], None);
    for piece in [b"stream".as_slice(), b"ed"] {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
        stream.write_all(piece).and_then(|()| stream.write_all(b"\r\n")).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(answer(stream, false).header("range"), "0-7");
    let colon = Digest::of(b"streamed").to_string().replace(':', "%3A");
    assert_eq!(served.ask("PUT", &format!("{place}?digest={colon}"), &[], b"").status, 201);
    // One of no bytes.
    let nothing = served.put_blob("team/web", b"");
    let empty = served.fetch(&format!("/v2/team/web/blobs/{nothing}"));
    assert_eq!((empty.status, empty.body.len(), empty.header("content-length")), (200, 0, "0"));
    assert_eq!(uploads(&served), 0);
}

#[test]
fn what_does_not_match_its_digest_is_refused_and_leaves_nothing() {
    let served = Served::new(&[]);
    let wrong = Digest::of(b"something else");
    let whole = served.ask("POST", &format!("/v2/x/blobs/uploads/?digest={wrong}"), &[], CONTENT);
    assert_eq!((whole.status, whole.code().as_str()), (400, "DIGEST_INVALID"));
    let place = served.ask("POST", "/v2/x/blobs/uploads/", &[], b"").header("location").to_string();
    served.ask("PATCH", &place, &[], CONTENT);
    assert_eq!(served.ask("PUT", &place, &[], b"").code(), "DIGEST_INVALID", "without a digest");
    assert_eq!(served.ask("PUT", &format!("{place}?digest=sha512:00"), &[], b"").code(), "DIGEST_INVALID");
    assert_eq!(served.ask("PUT", &format!("{place}?digest={wrong}"), &[], b"").code(), "DIGEST_INVALID");
    assert_eq!(served.fetch(&format!("/v2/x/blobs/{wrong}")).status, 404);
    assert_eq!(served.fetch(&format!("/v2/x/blobs/{}", Digest::of(CONTENT))).status, 404);
    // Given up.
    let place = served.ask("POST", "/v2/x/blobs/uploads/", &[], b"").header("location").to_string();
    served.ask("PATCH", &place, &[], CONTENT);
    assert_eq!(served.ask("DELETE", &place.replace("/x/", "/y/"), &[], b"").status, 404, "another repository's");
    assert_eq!(served.ask("DELETE", &place, &[], b"").status, 204);
    assert_eq!(uploads(&served), 0);
    assert_eq!(std::fs::read_dir(served.folder().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn a_stretch_of_a_blob_is_given_and_one_beyond_its_end_is_not() {
    let served = Served::new(&[]);
    let digest = served.put_blob("x", CONTENT);
    let path = format!("/v2/x/blobs/{digest}");
    let range = |range: &str| served.ask("GET", &path, &[("Range", range)], b"");
    let some = range("bytes=3-9");
    assert_eq!((some.status, some.body.as_slice()), (206, &CONTENT[3..10]));
    assert_eq!(some.header("content-range"), format!("bytes 3-9/{}", CONTENT.len()));
    assert_eq!(range("bytes=-5").body, &CONTENT[CONTENT.len() - 5..]);
    assert_eq!(range("bytes=30-").body, &CONTENT[30..]);
    let beyond = range("bytes=1000-");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, format!("bytes */{}", CONTENT.len()).as_str()));
    assert_eq!((range("bytes=0-1,5-6").status, range("nonsense").status), (200, 200));
    let head = served.ask("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, CONTENT.len().to_string().as_str(), 0));
    assert_eq!(head.header("etag"), format!("\"{digest}\""));
}

#[test]
fn a_blob_that_is_here_is_mounted_and_one_that_is_not_is_asked_for() {
    let served = Served::new(&[]);
    let digest = served.put_blob("one", CONTENT);
    let mounted = served.ask("POST", &format!("/v2/two/blobs/uploads/?mount={digest}&from=one"), &[], b"");
    assert_eq!((mounted.status, mounted.header("docker-content-digest")), (201, digest.as_str()));
    let other = Digest::of(b"not here");
    let begun = served.ask("POST", &format!("/v2/two/blobs/uploads/?mount={other}&from=one"), &[], b"");
    assert_eq!((begun.status, begun.header("location").starts_with("/v2/two/blobs/uploads/")), (202, true));
}

#[test]
fn a_blob_is_deleted_unless_a_manifest_needs_it() {
    let served = Served::new(&[]);
    served.put_image("x", "1", &[b"layer"]);
    let needed = format!("/v2/x/blobs/{}", Digest::of(b"layer"));
    assert_eq!(served.ask("DELETE", &needed, &[], b"").status, 405);
    let alone = served.put_blob("x", CONTENT);
    let alone = format!("/v2/x/blobs/{alone}");
    assert_eq!(served.ask("DELETE", &alone, &[], b"").status, 202);
    assert_eq!((served.ask("DELETE", &alone, &[], b"").status, served.fetch(&alone).status), (404, 404));
    assert_eq!(served.fetch(&needed).body, b"layer");
}

#[test]
fn a_path_never_leads_out_of_the_registry() {
    let served = Served::new(&[]);
    std::fs::write(served.jar.root.join("data/secret"), "secret").unwrap();
    for path in [
        "/v2/../secret",
        "/v2/../../data/secret/manifests/x",
        "/v2/%2e%2e/%2e%2e/manifests/secret",
        "/v2/a/manifests/..%2f..%2fsecret",
        "/v2/a/blobs/..%2f..%2f..%2fsecret",
        "/v2/a/blobs/sha256:..%2f..%2fsecret",
        "/v2/a/blobs/uploads/..%2f..%2f..%2fsecret",
        "/v2/a/blobs/uploads/../../../secret",
        "/v2/a/%00/manifests/x",
        "/../data/secret",
        "//v2/_catalog",
        "/secret",
    ] {
        for method in ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"] {
            let answer = served.ask(method, path, &[], b"");
            assert!((400..500).contains(&answer.status), "{method} {path}: {answer:?}");
            assert!(!answer.text().contains("secret\""), "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(std::fs::read_to_string(served.jar.root.join("data/secret")).unwrap(), "secret");
    assert_eq!(served.fetch("/v2/_catalog").text(), r#"{"repositories":[]}"#);
}
