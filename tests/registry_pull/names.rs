//! Names, platforms, and what is said: the plain pull.

use serde_json::json;

use crate::faulty::content::{Layer, noise};
use crate::faulty::scene::Scene;
use crate::faulty::{Fault, Image};
use crate::support;

fn short(digest: &str) -> &str {
    &digest["sha256:".len()..][..12]
}

/// Three layers, the lowest of which is shared by all of these images.
fn three(seed: u64) -> Image {
    let file = |name: &'static str, seed| Layer::of(&[(name, &noise(seed, 5_000)[..])]);
    Image::of(&[file("below", 0), file("middle", seed), file("top", seed + 1000)])
}

#[test]
fn another_client_finds_the_registry_of_these_tests_right() {
    let (Some(scene), Some(skopeo)) = (Scene::new(), support::peer("skopeo")) else { return };
    let image = three(1);
    scene.registry.put("team/web", "1", &image);
    let (from, to) = (format!("docker://{}", scene.registry.name("team/web:1")), format!("docker://{}", scene.registry.name("team/other:2")));
    let mut copy = std::process::Command::new(skopeo);
    copy.args(["copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to]);
    let done = copy.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(scene.registry.manifest("team/other", "2"), Some(image.bytes));
}

#[test]
fn each_layer_is_told_as_docker_tells_it_and_layers_that_are_here_are_not_fetched() {
    let Some(scene) = Scene::new() else { return };
    let (one, two) = (three(1), three(2));
    scene.registry.put("team/web", "1", &one);
    scene.registry.put("team/web", "2", &two);
    let said = scene.pulls("team/web:1", &one);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "1: Pulling from team/web");
    for layer in one.layers() {
        assert!(lines.contains(&&*format!("{}: Pull complete", short(&layer))), "{said}");
    }
    let name = scene.registry.name("team/web:1");
    let end = [format!("Digest: {}", one.digest), format!("Status: Downloaded newer image for {name}"), name];
    assert_eq!(lines[lines.len() - 3..], end, "{said}");

    scene.registry.forget_asked();
    let said = scene.pulls("team/web:2", &two);
    let [below, middle, top] = &two.layers()[..] else { panic!("three layers") };
    assert!(said.contains(&format!("{}: Already exists", short(below))), "{said}");
    assert!(said.contains(&format!("{}: Pull complete", short(middle))), "{said}");
    assert_eq!((scene.registry.count(below), scene.registry.count(middle), scene.registry.count(top)), (0, 1, 1));
}

#[test]
fn a_pull_of_what_is_here_asks_once_and_changes_nothing() {
    let Some(scene) = Scene::new() else { return };
    let image = three(1);
    scene.registry.put("team/web", "1", &image);
    scene.pulls("team/web:1", &image);
    scene.registry.forget_asked();
    let said = scene.pulls("team/web:1", &image);
    let name = scene.registry.name("team/web:1");
    assert_eq!(said, format!("1: Pulling from team/web\nDigest: {}\nStatus: Image is up to date for {name}\n{name}\n", image.digest));
    let asked: Vec<String> = scene.registry.asked().iter().map(|request| request.line()).collect();
    assert_eq!(asked, ["HEAD /v2/team/web/manifests/1"]);
    // By its digest it is what it is: once it has that name, nobody is asked.
    let by_digest = format!("team/web@{}", image.digest);
    scene.pulls(&by_digest, &image);
    scene.registry.forget_asked();
    scene.pulls(&by_digest, &image);
    assert_eq!(scene.registry.asked().len(), 0, "{:?}", scene.registry.asked());
}

#[test]
fn a_tag_that_means_another_image_now_is_moved_and_the_old_one_stays_without_a_name() {
    let Some(scene) = Scene::new() else { return };
    let (one, two) = (three(1), three(2));
    scene.registry.put("team/web", "latest", &one);
    scene.pulls("team/web", &one);
    scene.registry.put("team/web", "latest", &two);
    let said = scene.pulls("team/web", &two);
    assert!(said.contains("Using default tag: latest\nlatest: Pulling from team/web\n") && said.contains("Status: Downloaded newer image"), "{said}");
    assert_eq!(scene.says(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]).out.trim(), one.id);
}

#[test]
fn by_digest_the_manifest_is_the_one_that_has_it() {
    let Some(scene) = Scene::new() else { return };
    let (one, two) = (three(1), three(2));
    scene.registry.put("team/web", "1", &one);
    scene.registry.put("team/web", "2", &two);
    let by_digest = format!("team/web@{}", one.digest);
    let said = scene.pulls(&by_digest, &one);
    assert!(said.starts_with(&format!("{}: Pulling from team/web\n", scene.registry.name(&by_digest))), "{said}");
    assert!(said.contains(&format!("Digest: {}\n", one.digest)), "{said}");
    // The digest says which one, whatever the tag says.
    scene.pulls(&format!("team/web:1@{}", two.digest), &two);
    assert_eq!(scene.registry.count("/manifests/1"), 0, "the tag is not asked for");
    // It gets a name, but not the tag's.
    assert_eq!(scene.says(&["image", "inspect", &scene.registry.name("team/web:1")]).code, 1);
}

#[test]
fn quiet_says_the_name_alone() {
    let Some(scene) = Scene::new() else { return };
    let image = three(1);
    scene.registry.put("web", "1", &image);
    let said = scene.says(&["pull", "-q", &scene.registry.name("web:1")]);
    assert_eq!((said.code, said.out, said.err), (0, format!("{}\n", scene.registry.name("web:1")), String::new()));
    scene.assert_right("web:1", &image);
}

#[test]
fn all_tags_are_pulled_and_a_tag_with_it_is_refused() {
    let Some(scene) = Scene::new() else { return };
    let images = [three(1), three(2), three(3)];
    for (tag, image) in ["a", "b", "latest"].iter().zip(&images) {
        scene.registry.put("web", tag, image);
    }
    let said = scene.says(&["pull", "-a", &scene.registry.name("web")]);
    assert_eq!(said.code, 0, "{}", said.err);
    for (tag, image) in ["a", "b", "latest"].iter().zip(&images) {
        assert!(said.out.contains(&format!("{tag}: Pulling from web\n")), "{}", said.out);
        scene.assert_right(&format!("web:{tag}"), image);
    }
    let said = scene.says(&["pull", "-a", &scene.registry.name("web:a")]);
    assert!(said.code == 1 && said.err.contains("tag can't be used with --all-tags/-a"), "{}", said.err);
}

#[test]
fn what_is_not_there_is_named() {
    let Some(scene) = Scene::new() else { return };
    scene.registry.put("web", "1", &three(1));
    scene.refuses("web:2", &[&scene.registry.name("web"), "/manifests/2", "404 Not Found", "manifest unknown"]);
    scene.refuses("nobody/knows:1", &[&scene.registry.name("nobody/knows")]);
    scene.refuses(&format!("web@{}", crate::faulty::content::digest(b"x")), &[&scene.registry.name("web")]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let said = scene.says(&["pull", &format!("{nobody}/web:1")]);
    assert!(said.code == 1 && said.err.contains(&nobody) && said.err.contains("nobody listens"), "{}", said.err);
    let said = scene.says(&["pull", "Web:1"]);
    assert!(said.code == 1 && said.err.contains("lower"), "{}", said.err);
}

#[test]
fn of_an_index_the_image_for_this_machine_is_taken_or_the_one_that_is_asked_for() {
    let Some(scene) = Scene::new() else { return };
    let here = onggi::image::manifest::architecture();
    let foreign = |architecture: &str, seed| {
        Image::with_config(&[Layer::of(&[("file", &noise(seed, 3_000)[..])])], json!({"architecture": architecture, "os": "linux", "config": {}}))
    };
    let (ours, theirs, armv7) = (three(1), foreign("riscv64", 2), foreign("arm", 3));
    let ours_at = format!("linux/{here}");
    let platforms = [("windows/amd64", foreign("amd64", 4)), ("linux/riscv64", theirs.clone()), ("unknown/unknown", foreign("", 5))];
    let index =
        Image::index(&[&platforms[..], &[(&*ours_at, ours.clone()), ("linux/arm/v6", foreign("arm", 6)), ("linux/arm/v7", armv7.clone())]].concat());
    scene.registry.put("web", "1", &index);
    let right = |image: &Image| Image { inner: vec![image.clone()], blobs: image.blobs.clone(), id: image.id.clone(), ..index.clone() };
    let said = scene.pulls("web:1", &right(&ours));
    assert!(said.contains(&format!("Digest: {}\n", index.digest)), "the index's digest is the image's: {said}");
    assert_eq!(scene.registry.count(&theirs.layers()[0]), 0, "the others' layers are not fetched");
    scene.registry.forget_asked();
    scene.pulls("web:1", &right(&ours));
    assert_eq!(scene.registry.asked().len(), 1, "{:?}", scene.registry.asked());

    for (platform, image) in [("linux/riscv64", &theirs), ("linux/arm/v7", &armv7)] {
        let said = scene.says(&["pull", "--platform", platform, &scene.registry.name("web:1")]);
        assert_eq!(said.code, 0, "{platform}: {}", said.err);
        for layer in image.layers() {
            assert_eq!(scene.registry.count(&layer), 1, "{platform}");
        }
        scene.assert_intact();
    }
    let said = scene.says(&["pull", "--platform", "linux/s390x", &scene.registry.name("web:1")]);
    assert!(said.code == 1 && said.err.contains("linux/s390x"), "{}", said.err);
    let said = scene.says(&["pull", "--platform", "nonsense/a/b/c", &scene.registry.name("web:1")]);
    assert!(said.code == 1 && said.err.contains("nonsense"), "{}", said.err);
    scene.assert_intact();
}

#[test]
fn an_index_without_anything_for_this_machine_says_what_it_has() {
    let Some(scene) = Scene::new() else { return };
    let index = Image::index(&[("linux/riscv64", Image::small(1)), ("unknown/unknown", Image::small(2))]);
    scene.registry.put("web", "1", &index);
    scene.refuses("web:1", &["linux/riscv64", onggi::image::manifest::architecture()]);
    scene.registry.put("web", "2", &Image::index(&[]));
    scene.refuses("web:2", &[&scene.registry.name("web"), "nothing"]);
}

#[test]
fn a_run_pulls_what_is_missing_and_never_and_always_are_obeyed() {
    let Some(scene) = Scene::new() else { return };
    let (one, two) = (three(1), three(2));
    scene.registry.put("web", "1", &one);
    let name = scene.registry.name("web:1");
    let create = |words: &[&str]| scene.says(&[&["create", "--network", "none"], words, &[&*name]].concat());
    let said = create(&["--pull", "never"]);
    assert!(said.code == 125 && said.err.contains(&name), "{}", said.err);
    assert_eq!(scene.registry.asked().len(), 0);
    let said = create(&[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains(&format!("Unable to find image '{name}' locally")), "{}", said.err);
    assert_eq!(said.out.lines().count(), 1, "the ID alone: {}", said.out);
    scene.assert_right("web:1", &one);
    scene.registry.forget_asked();
    assert_eq!(create(&[]).code, 0);
    assert_eq!(scene.registry.asked().len(), 0, "what is here is not asked for");
    scene.registry.put("web", "1", &two);
    assert_eq!(create(&["--pull", "always", "-q"]).code, 0);
    scene.assert_right("web:1", &two);
    // The registry is away: what is here serves, unless it is to be the newest.
    scene.registry.fails("/v2/", usize::MAX, Fault::Status(404, vec![]));
    assert_eq!(create(&["--pull", "missing"]).code, 0);
    assert_eq!(create(&["--pull", "always"]).code, 125);
    assert_eq!(create(&["--pull", "nonsense"]).code, 125);
}
