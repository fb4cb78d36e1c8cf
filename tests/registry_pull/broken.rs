//! Each thing that goes wrong on the way, once: what heals is tried again, what does not is told in one clear message; nothing half stays.

use std::time::{Duration, Instant};

use crate::faulty::content::{Layer, noise};
use crate::faulty::scene::Scene;
use crate::faulty::{Fault, Image};

const FOR_EVER: usize = usize::MAX;

/// Big enough that a body comes in many pieces.
fn big(seed: u64) -> Image {
    Image::of(&[Layer::of(&[("noise", &noise(seed, 300_000)[..])])])
}

/// Twice each of these, and then all is right.
#[track_caller]
fn heals(part: &str, fault: Fault) {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    scene.registry.fails(part, 2, fault);
    scene.pulls("web:1", &image);
    assert!(scene.registry.count(part) >= 3, "{part} was not asked for again");
}

#[test]
fn a_blob_that_is_cut_off_goes_on_where_it_ended() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    let layer = format!("/blobs/{}", image.layers()[0]);
    scene.registry.fails(&layer, 2, Fault::Cut(100_000));
    scene.pulls("web:1", &image);
    let ranges: Vec<Option<usize>> =
        scene.registry.asked().iter().filter(|request| request.line().contains(&layer)).map(|request| request.range()).collect();
    assert!(ranges.len() == 3 && ranges[0].is_none() && ranges[1].is_some_and(|from| from > 50_000), "{ranges:?}");
    assert!(ranges[2] > ranges[1], "{ranges:?}");
}

#[test]
fn a_server_that_is_overloaded_is_asked_again_later() {
    heals("GET /v2/web/blobs/", Fault::Status(503, vec![]));
    heals("GET /v2/web/blobs/", Fault::Status(500, vec![]));
    heals("GET /v2/web/blobs/", Fault::Status(502, vec![]));
    heals("/manifests/", Fault::Status(503, vec![]));
}

#[test]
fn who_says_when_to_come_again_is_obeyed() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    scene.registry.fails("/blobs/", 1, Fault::Status(429, vec![("Retry-After", "2".into())]));
    let began = Instant::now();
    scene.pulls("web:1", &image);
    assert!(began.elapsed() >= Duration::from_secs(2) && began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    // A date that is past means at once; one far away is not waited for.
    for (seed, date) in [(2, "Wed, 21 Oct 2015 07:28:00 GMT"), (3, "Fri, 31 Dec 2100 23:59:59 GMT"), (4, "86400"), (5, "soon"), (6, "-1")] {
        let image = big(seed);
        scene.registry.put("web", "1", &image);
        scene.registry.fails("/blobs/", 1, Fault::Status(429, vec![("Retry-After", date.into())]));
        let began = Instant::now();
        let said = scene.pull("web:1");
        assert!(began.elapsed() < Duration::from_secs(70), "{date}: {:?}", began.elapsed());
        assert!(said.code == 0 || said.err.contains("429") || said.err.contains("too many"), "{date}: {}", said.err);
        scene.assert_intact();
    }
}

#[test]
fn a_connection_that_ends_too_early_is_made_again() {
    heals("/blobs/", Fault::Gone);
    heals("/manifests/", Fault::Gone);
    heals("/blobs/", Fault::Cut(0));
    heals("/manifests/", Fault::Cut(10));
    heals("/blobs/", Fault::Length(1000));
}

#[test]
fn a_length_that_is_not_told_or_told_in_chunks_is_no_fault() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    scene.registry.fails("/v2/", FOR_EVER, Fault::Chunked);
    scene.pulls("web:1", &image);
}

#[test]
fn wrong_bytes_are_never_kept() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    let layer = image.layers()[0].clone();
    for at in [0, 5, 1000, 299_999] {
        scene.registry.fails(&layer, FOR_EVER, Fault::Flip(at));
        scene.refuses("web:1", &[&layer[7..19]]);
        scene.registry.is_well();
    }
    for (part, named) in [(&image.id, &image.id[7..19]), (&"GET /v2/web/manifests/1".to_string(), "web")] {
        scene.registry.fails(part, FOR_EVER, Fault::Flip(20));
        scene.refuses("web:1", &[named]);
        scene.registry.is_well();
    }
    scene.pulls("web:1", &image);
}

#[test]
fn a_blob_that_is_longer_or_shorter_than_its_descriptor_says_is_refused_before_the_disk_is_full() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    let layer = image.layers()[0].clone();
    let short = &layer[7..19];
    for bytes in [image.layer()[..100].to_vec(), Vec::new(), [&image.layer()[..], &[0; 1000]].concat()] {
        scene.registry.fails(&layer, FOR_EVER, Fault::Bytes(bytes));
        scene.refuses("web:1", &[short]);
        scene.registry.is_well();
    }
    let began = Instant::now();
    scene.registry.fails(&layer, FOR_EVER, Fault::Endless);
    scene.refuses("web:1", &[short]);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn manifests_configs_and_heads_without_an_end_are_left_alone_soon() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    for (part, fault) in [
        ("/manifests/1", Fault::Endless),
        (&*image.id, Fault::Endless),
        ("/manifests/1", Fault::EndlessHead),
        (&*image.layers()[0], Fault::EndlessHead),
        ("/manifests/1", Fault::Bytes(vec![b' '; 5 << 20])),
        ("/manifests/1", Fault::Bytes(b"[".repeat(1 << 20))),
        ("/manifests/1", Fault::Garbage),
    ] {
        let began = Instant::now();
        scene.registry.fails(part, FOR_EVER, fault.clone());
        scene.refuses("web:1", &[]);
        scene.registry.is_well();
        assert!(began.elapsed() < Duration::from_secs(60), "{part}: {:?}", began.elapsed());
    }
}

#[test]
fn who_falls_silent_is_given_up_some_time() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    let began = Instant::now();
    scene.registry.fails("/blobs/", 1, Fault::Silent);
    scene.pulls("web:1", &image);
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
}

#[test]
fn slow_is_no_fault() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    scene.registry.fails("/manifests/", FOR_EVER, Fault::Late(Duration::from_secs(2)));
    scene.registry.fails("/blobs/", FOR_EVER, Fault::Slow(50_000, Duration::from_millis(500)));
    scene.pulls("web:1", &image);
    assert_eq!(scene.registry.count(&image.layers()[0]), 1);
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_again() {
    for fault in [Fault::NoRange, Fault::OtherRange, Fault::Status(416, vec![])] {
        let Some(scene) = Scene::new() else { return };
        let image = big(1);
        scene.registry.put("web", "1", &image);
        let layer = image.layers()[0].clone();
        scene.registry.fails(&layer, 1, fault.clone());
        scene.registry.fails(&layer, 1, Fault::Cut(200_000));
        let said = scene.pull("web:1");
        assert_eq!(said.code, 0, "{fault:?}: {}", said.err);
        scene.assert_right("web:1", &image);
    }
}

#[test]
fn a_digest_header_that_is_not_the_bytes_digest_is_told() {
    let Some(scene) = Scene::new() else { return };
    let (image, other) = (big(1), big(2));
    scene.registry.put("web", "1", &image);
    scene.registry.fails("/manifests/1", FOR_EVER, Fault::Header("Docker-Content-Digest", other.digest.clone()));
    scene.refuses("web:1", &[&scene.registry.name("web")]);
    scene.registry.is_well();
    scene.registry.fails("/manifests/1", FOR_EVER, Fault::Header("Docker-Content-Digest", "sha256:../../etc".into()));
    let said = scene.pull("web:1");
    assert!(said.code == 0 || said.err.contains("digest"), "{}", said.err);
    scene.registry.is_well();
    // By digest only the bytes count.
    scene.registry.fails("/manifests/sha256", FOR_EVER, Fault::Bytes(other.bytes.clone()));
    scene.refuses(&format!("web@{}", image.digest), &[&image.digest[7..19]]);
}

#[test]
fn what_is_refused_is_not_asked_for_again() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    for status in [400, 403, 404, 405, 410] {
        scene.registry.forget_asked();
        scene.registry.fails(&image.layers()[0], FOR_EVER, Fault::Status(status, vec![]));
        scene.refuses("web:1", &[&image.layers()[0][7..19]]);
        scene.registry.is_well();
        assert_eq!(scene.registry.count(&image.layers()[0]), 1, "{status}");
    }
}

#[test]
fn a_server_that_stays_away_is_given_up_and_named() {
    let Some(scene) = Scene::new() else { return };
    let image = big(1);
    scene.registry.put("web", "1", &image);
    for (part, fault) in [("/manifests/", Fault::Status(503, vec![])), ("/blobs/", Fault::Gone), ("/blobs/", Fault::Cut(1000))] {
        let began = Instant::now();
        scene.registry.fails(part, FOR_EVER, fault.clone());
        scene.refuses("web:1", &[&scene.registry.host]);
        scene.registry.is_well();
        assert!(began.elapsed() < Duration::from_secs(90), "{part} {fault:?}: {:?}", began.elapsed());
    }
    scene.pulls("web:1", &image);
}
