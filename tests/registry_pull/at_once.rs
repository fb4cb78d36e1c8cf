//! Several at once, and an end in the middle: each blob is fetched once, what is finished stays, what is half goes on or goes away.

use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::faulty::content::{Layer, noise};
use crate::faulty::scene::Scene;
use crate::faulty::{Fault, Image};
use crate::support::jar::{said, until};

const SLOW: Fault = Fault::Slow(20_000, Duration::from_millis(60));

/// Layers of 200 kB each; equal numbers are equal layers.
fn image(seeds: &[u64]) -> Image {
    let layers: Vec<Layer> = seeds.iter().map(|seed| Layer::of(&[(&*format!("file{seed}"), &noise(*seed, 200_000)[..])])).collect();
    Image::of(&layers)
}

fn scene(seeds: &[u64]) -> Option<(Scene, Image)> {
    let (scene, image) = (Scene::new()?, image(seeds));
    scene.registry.put("web", "1", &image);
    Some((scene, image))
}

fn begin(scene: &Scene, rest: &str) -> Child {
    scene.onggi(&["pull", &scene.registry.name(rest)]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn ends_well(child: Child) -> String {
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    said.out
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// Waits until the layer is asked for, and some of it has come.
fn is_under_way(scene: &Scene, layer: &str) {
    until("the layer is asked for", || scene.registry.count(&format!("GET /v2/web/blobs/{layer}")) > 0);
    std::thread::sleep(Duration::from_millis(250));
}

#[test]
fn five_pulls_at_once_fetch_each_blob_once() {
    let Some((scene, image)) = scene(&[1, 2, 3]) else { return };
    scene.registry.fails("GET /v2/web/blobs/", usize::MAX, SLOW);
    let pulls: Vec<Child> = (0..5).map(|_| begin(&scene, "web:1")).collect();
    pulls.into_iter().for_each(|pull| drop(ends_well(pull)));
    scene.assert_right("web:1", &image);
    for layer in image.layers() {
        assert_eq!(scene.registry.count(&format!("GET /v2/web/blobs/{layer}")), 1, "{layer}");
    }
}

#[test]
fn images_that_share_a_layer_share_its_download() {
    let Some((scene, one)) = scene(&[1, 2]) else { return };
    let two = image(&[1, 3]);
    scene.registry.put("other", "1", &two);
    scene.registry.fails("GET /v2/", usize::MAX, SLOW);
    let pulls = [begin(&scene, "web:1"), begin(&scene, "other:1")];
    pulls.into_iter().for_each(|pull| drop(ends_well(pull)));
    scene.assert_right("web:1", &one);
    scene.assert_right("other:1", &two);
    assert_eq!(scene.registry.count(&one.layers()[0]), 1);
}

#[test]
fn who_waits_for_another_ones_download_goes_on_when_that_one_dies() {
    let Some((scene, image)) = scene(&[1]) else { return };
    scene.registry.fails("GET /v2/web/blobs/", usize::MAX, SLOW);
    let mut first = begin(&scene, "web:1");
    is_under_way(&scene, &image.layers()[0]);
    let second = begin(&scene, "web:1");
    std::thread::sleep(Duration::from_millis(150));
    first.kill().unwrap();
    first.wait().unwrap();
    ends_well(second);
    scene.assert_right("web:1", &image);
}

#[test]
fn a_pull_that_was_killed_is_gone_on_with() {
    let Some((scene, image)) = scene(&[1, 2]) else { return };
    scene.registry.fails(&image.layers()[1], 1, SLOW);
    let mut first = begin(&scene, "web:1");
    is_under_way(&scene, &image.layers()[1]);
    first.kill().unwrap();
    first.wait().unwrap();
    scene.assert_whole();
    assert_eq!(scene.references(), serde_json::Value::Null);
    scene.registry.forget_asked();
    scene.pulls("web:1", &image);
    assert_eq!(scene.registry.count(&image.layers()[0]), 0, "it was finished");
    let ranges: Vec<_> =
        scene.registry.asked().iter().filter(|request| request.path.contains(&image.layers()[1])).map(|request| request.range()).collect();
    assert!(matches!(ranges[..], [Some(20_000..)]), "{ranges:?}");
}

#[test]
fn killed_at_any_time_the_next_one_brings_it_to_its_end() {
    let Some((scene, image)) = scene(&[1, 2, 3]) else { return };
    scene.registry.fails("GET /v2/web/blobs/", usize::MAX, Fault::Slow(20_000, Duration::from_millis(8)));
    for round in 0..12 {
        let mut pull = begin(&scene, "web:1");
        std::thread::sleep(Duration::from_millis(5 + 17 * round));
        pull.kill().unwrap();
        pull.wait().unwrap();
        scene.assert_whole();
        if round % 4 == 3 {
            scene.pulls("web:1", &image);
            scene.says(&["rmi", "-f", &scene.registry.name("web:1")]);
            scene.assert_intact();
        }
    }
    scene.pulls("web:1", &image);
}

#[test]
fn what_was_half_and_is_never_asked_for_again_is_cleared() {
    let Some((scene, image)) = scene(&[1]) else { return };
    scene.registry.fails(&image.layers()[0], 1, SLOW);
    let mut pull = begin(&scene, "web:1");
    is_under_way(&scene, &image.layers()[0]);
    pull.kill().unwrap();
    pull.wait().unwrap();
    assert_eq!(scene.begun().len(), 1);
    assert_eq!(scene.says(&["image", "prune", "-af"]).code, 0);
    scene.assert_intact();
    assert_eq!((scene.begun(), scene.blobs()), (Vec::new(), Vec::new()));
}

#[test]
fn ctrl_c_leaves_the_finished_layers_and_nothing_half() {
    for ending in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let Some((scene, image)) = scene(&[1, 2]) else { return };
        scene.registry.fails(&image.layers()[1], 1, Fault::Slow(10_000, Duration::from_millis(200)));
        let pull = begin(&scene, "web:1");
        is_under_way(&scene, &image.layers()[1]);
        let began = std::time::Instant::now();
        signal(&pull, ending);
        let said = said(pull.wait_with_output().unwrap());
        assert!(said.code == 130, "{ending}: {} {}", said.code, said.err);
        assert!(began.elapsed() < Duration::from_secs(15), "{ending}: {:?}", began.elapsed());
        assert!(!said.err.contains("panicked"), "{}", said.err);
        scene.assert_intact();
        assert_eq!((scene.begun(), scene.references()), (Vec::new(), serde_json::Value::Null));
        scene.registry.forget_asked();
        let said = scene.pulls("web:1", &image);
        assert!(said.contains("Already exists"), "{ending}: {said}");
        assert_eq!(scene.registry.count(&image.layers()[0]), 0, "{ending}");
    }
}

#[test]
fn a_server_that_says_nothing_does_not_keep_ctrl_c_waiting() {
    let Some((scene, image)) = scene(&[1]) else { return };
    for part in ["/manifests/1", &*image.layers()[0]] {
        scene.registry.forget_asked();
        scene.registry.fails(part, usize::MAX, Fault::Silent);
        let pull = begin(&scene, "web:1");
        until("it is asked", || scene.registry.count(part) > 0);
        std::thread::sleep(Duration::from_millis(100));
        let began = std::time::Instant::now();
        signal(&pull, Signal::SIGINT);
        let said = said(pull.wait_with_output().unwrap());
        assert!(said.code != 0 && began.elapsed() < Duration::from_secs(15), "{part}: {} after {:?}", said.code, began.elapsed());
        scene.registry.is_well();
        scene.assert_intact();
    }
}

#[test]
fn a_prune_in_the_middle_takes_nothing_that_is_needed() {
    let Some((scene, image)) = scene(&[1, 2, 3]) else { return };
    scene.registry.fails("GET /v2/web/blobs/", usize::MAX, SLOW);
    for _ in 0..2 {
        let mut pull = begin(&scene, "web:1");
        while pull.try_wait().unwrap().is_none() {
            let said = scene.says(&["image", "prune", "-f"]);
            assert_eq!(said.code, 0, "{}", said.err);
        }
        ends_well(pull);
        scene.assert_right("web:1", &image);
        assert_eq!(scene.says(&["image", "prune", "-af"]).code, 0);
        assert_eq!(scene.blobs(), [""; 0]);
        scene.assert_intact();
    }
}

#[test]
fn an_image_may_be_removed_while_another_one_with_its_layers_comes() {
    let Some((scene, _)) = scene(&[1, 2]) else { return };
    let other = image(&[1, 2, 3]);
    scene.registry.put("other", "1", &other);
    for _ in 0..3 {
        scene.registry.is_well();
        assert_eq!(scene.pull("web:1").code, 0);
        scene.registry.fails(&other.layers()[2], 1, SLOW);
        scene.registry.forget_asked();
        let pull = begin(&scene, "other:1");
        until("the third is asked for", || scene.registry.count(&other.layers()[2]) > 0);
        let said = scene.says(&["rmi", &scene.registry.name("web:1")]);
        assert_eq!(said.code, 0, "{}", said.err);
        ends_well(pull);
        scene.assert_right("other:1", &other);
        assert_eq!(scene.registry.count(&other.layers()[0]), 0, "it was here");
        assert_eq!(scene.says(&["rmi", &scene.registry.name("other:1")]).code, 0);
        scene.assert_intact();
        assert_eq!(scene.blobs(), [""; 0]);
    }
}
