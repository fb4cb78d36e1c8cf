//! Manifests: taken when all that they need is here, listed in pages, referred to, deleted with what only they needed.

use std::process::Command;

use onggi::image::digest::Digest;
use serde_json::{Value, json};

use crate::served::{INDEX, MANIFEST, Served};

/// As if the blobs had lain there for an hour.
fn age(served: &Served) {
    let blobs = served.folder().join("blobs/sha256");
    let done = Command::new("find").arg(&blobs).args(["-type", "f", "-exec", "touch", "-d", "1 hour ago", "{}", "+"]).status();
    assert!(done.unwrap().success());
}

fn blobs(served: &Served) -> usize {
    std::fs::read_dir(served.folder().join("blobs/sha256")).unwrap().count()
}

fn index_json(served: &Served) -> Value {
    serde_json::from_slice(&std::fs::read(served.folder().join("index.json")).unwrap()).unwrap()
}

#[test]
fn a_manifest_is_found_by_tag_and_by_digest_with_its_own_bytes() {
    let served = Served::new(&[]);
    let manifest = served.manifest("team/web", &[b"layer"], &Value::Null);
    let digest = Digest::of(manifest.as_bytes());
    let put = served.put_manifest("team/web", "1", MANIFEST, &manifest);
    assert_eq!((put.status, put.header("docker-content-digest")), (201, digest.as_str()));
    for place in ["1", digest.as_str()] {
        let path = format!("/v2/team/web/manifests/{place}");
        let found = served.fetch(&path);
        assert_eq!((found.status, found.text().as_str(), found.header("content-type")), (200, manifest.as_str(), MANIFEST));
        let head = served.ask("HEAD", &path, &[], b"");
        assert_eq!((head.status, head.header("docker-content-digest"), head.body.len()), (200, digest.as_str(), 0));
        assert_eq!(head.header("content-length"), manifest.len().to_string());
    }
    assert_eq!(served.fetch(&format!("/v2/team/other/manifests/{digest}")).status, 404, "another repository has it not");
    let name = &index_json(&served)["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!(name, "team/web:1");
}

#[test]
fn a_manifest_that_lacks_something_or_is_none_is_refused() {
    let served = Served::new(&[]);
    let manifest = served.manifest("x", &[b"layer"], &Value::Null);
    let refused = |place: &str, media_type: &str, manifest: &str, code: &str| {
        let answer = served.put_manifest("x", place, media_type, manifest);
        assert_eq!((answer.status / 100, answer.code().as_str()), (4, code), "{answer:?}");
    };
    refused("1", MANIFEST, &manifest.replace(&Digest::of(b"layer").to_string(), Digest::of(b"other").as_str()), "MANIFEST_BLOB_UNKNOWN");
    refused("1", MANIFEST, &manifest.replace("\"size\":5", "\"size\":6"), "MANIFEST_BLOB_UNKNOWN");
    refused(Digest::of(b"other").as_str(), MANIFEST, &manifest, "DIGEST_INVALID");
    refused("1", INDEX, &manifest, "MANIFEST_INVALID");
    refused("1", "text/html", &manifest.replace(MANIFEST, "text/html"), "MANIFEST_INVALID");
    refused("1", MANIFEST, "{}", "MANIFEST_INVALID");
    refused("1", MANIFEST, "not json", "MANIFEST_INVALID");
    refused("1", "application/vnd.docker.distribution.manifest.v1+prettyjws", r#"{"schemaVersion":1,"fsLayers":[]}"#, "MANIFEST_INVALID");
    refused("-x", MANIFEST, &manifest, "MANIFEST_INVALID");
    let big = format!("{manifest}{}", " ".repeat(4 << 20));
    let answer = served.put_manifest("x", "1", MANIFEST, &big);
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(served.fetch("/v2/_catalog").text(), r#"{"repositories":[]}"#);
}

#[test]
fn lists_come_in_pages_with_the_address_of_the_next() {
    let served = Served::new(&[]);
    let manifest = served.manifest("a", &[b"layer"], &Value::Null);
    for (name, tag) in [("a", "1"), ("a", "2"), ("a", "latest"), ("b", "1"), ("c/d", "1")] {
        assert_eq!(served.put_manifest(name, tag, MANIFEST, &manifest).status, 201);
    }
    let page = served.fetch("/v2/a/tags/list?n=2");
    assert_eq!((page.json(), page.header("link")), (json!({"name": "a", "tags": ["1", "2"]}), r#"</v2/a/tags/list?n=2&last=2>; rel="next""#));
    let next = served.fetch("/v2/a/tags/list?n=2&last=2");
    assert_eq!((next.json()["tags"].clone(), next.header("link")), (json!(["latest"]), ""));
    let page = served.fetch("/v2/_catalog?n=2");
    assert_eq!((page.json(), page.header("link")), (json!({"repositories": ["a", "b"]}), r#"</v2/_catalog?n=2&last=b>; rel="next""#));
    assert_eq!(served.fetch("/v2/_catalog?n=2&last=b").json(), json!({"repositories": ["c/d"]}));
    assert_eq!(served.fetch("/v2/a/tags/list?n=x").status, 400);
}

#[test]
fn referrers_are_found_by_their_subject_and_kind() {
    let served = Served::new(&[]);
    let image = served.put_image("x", "1", &[b"layer"]);
    let none = served.fetch(&format!("/v2/x/referrers/{image}"));
    assert_eq!((none.status, none.header("content-type"), none.json()["manifests"].clone()), (200, INDEX, json!([])));
    let subject = json!({"mediaType": MANIFEST, "digest": image, "size": 1});
    for kind in ["application/vnd.sbom", "application/vnd.signature"] {
        let more = json!({"subject": subject, "artifactType": kind, "annotations": {"by": "teacher"}});
        let manifest = served.manifest("x", &[kind.as_bytes()], &more);
        let put = served.put_manifest("x", Digest::of(manifest.as_bytes()).as_str(), MANIFEST, &manifest);
        assert_eq!((put.status, put.header("oci-subject")), (201, image.as_str()));
    }
    assert_eq!(served.fetch(&format!("/v2/x/referrers/{image}")).json()["manifests"].as_array().unwrap().len(), 2);
    let one = served.fetch(&format!("/v2/x/referrers/{image}?artifactType=application%2Fvnd.sbom"));
    assert_eq!((one.header("oci-filters-applied"), one.json()["manifests"].as_array().unwrap().len()), ("artifactType", 1));
    let found = &one.json()["manifests"][0];
    assert_eq!((found["artifactType"].clone(), found["annotations"]["by"].clone()), (json!("application/vnd.sbom"), json!("teacher")));
}

#[test]
fn referrers_that_say_much_come_in_pages() {
    let served = Served::new(&[]);
    let image = served.put_image("x", "1", &[b"layer"]);
    for number in 0..5 {
        let more = json!({"subject": {"mediaType": MANIFEST, "digest": image, "size": 1}, "annotations": {"much": "x".repeat(600_000), "number": number.to_string()}});
        let manifest = served.manifest("x", &[b"layer"], &more);
        assert_eq!(served.put_manifest("x", Digest::of(manifest.as_bytes()).as_str(), MANIFEST, &manifest).status, 201);
    }
    let (mut path, mut found, mut pages) = (format!("/v2/x/referrers/{image}"), std::collections::BTreeSet::new(), 0);
    while !path.is_empty() {
        let page = served.fetch(&path);
        assert!(page.body.len() < 3 << 20);
        found.extend(page.json()["manifests"].as_array().unwrap().iter().map(|one| one["digest"].to_string()));
        path = page.header("link").trim_start_matches('<').split('>').next().unwrap().to_string();
        pages += 1;
    }
    assert_eq!((found.len(), pages), (5, 3));
}

#[test]
fn an_index_keeps_its_images_without_lines_of_their_own() {
    let served = Served::new(&[]);
    let manifest = served.manifest("x", &[b"layer"], &Value::Null);
    let digest = Digest::of(manifest.as_bytes());
    let child = json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.len()});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}).to_string();
    assert_eq!(served.put_manifest("x", "1", INDEX, &index).code(), "MANIFEST_BLOB_UNKNOWN", "its image first");
    assert_eq!(served.put_manifest("x", digest.as_str(), MANIFEST, &manifest).status, 201);
    assert_eq!(served.put_manifest("x", "1", INDEX, &index).status, 201);
    // An index of indexes.
    let inner = json!({"mediaType": INDEX, "digest": Digest::of(index.as_bytes()), "size": index.len()});
    let outer = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}).to_string();
    assert_eq!(served.put_manifest("x", "all", INDEX, &outer).status, 201);
    assert_eq!(index_json(&served)["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(served.fetch(&format!("/v2/x/manifests/{digest}")).text(), manifest);
    age(&served);
    assert_eq!(served.ask("DELETE", "/v2/x/manifests/1", &[], b"").status, 202);
    assert_eq!(served.fetch(&format!("/v2/x/manifests/{digest}")).text(), manifest, "the other index still needs it");
}

#[test]
fn what_only_a_deleted_manifest_needed_is_collected() {
    let served = Served::new(&[]);
    let one = served.put_image("x", "1", &[b"shared", b"one"]);
    let two = served.put_image("x", "2", &[b"shared", b"two"]);
    let fresh = served.put_blob("x", b"of a push that is under way");
    assert_eq!(blobs(&served), 7);
    age(&served);
    served.ask("HEAD", &format!("/v2/x/blobs/{fresh}"), &[], b"");
    // A tag goes, its manifest stays.
    assert_eq!(served.ask("DELETE", "/v2/x/manifests/1", &[], b"").status, 202);
    assert_eq!((served.fetch("/v2/x/manifests/1").status, served.fetch(&format!("/v2/x/manifests/{one}")).status), (404, 200));
    assert_eq!(blobs(&served), 7);
    assert_eq!(served.ask("DELETE", &format!("/v2/x/manifests/{one}"), &[], b"").status, 202);
    assert_eq!(blobs(&served), 5, "its manifest and its own layer are gone");
    assert_eq!(served.fetch(&format!("/v2/x/blobs/{}", Digest::of(b"shared"))).body, b"shared");
    assert_eq!(served.ask("DELETE", &format!("/v2/x/manifests/{two}"), &[], b"").status, 202);
    assert_eq!((blobs(&served), served.fetch(&format!("/v2/x/blobs/{fresh}")).status), (1, 200));
    assert_eq!(served.ask("DELETE", &format!("/v2/x/manifests/{two}"), &[], b"").status, 404);
    assert_eq!(served.fetch("/v2/_catalog").text(), r#"{"repositories":[]}"#);
}
