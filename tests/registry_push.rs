//! `push` to a registry that answers right, and wrong: what is there afterwards, what was sent, and to whom.
//!
//! See it: `onggi push localhost:5000/web`. Read: docker push(1). Source: OCI distribution specification 1.1, "Push".

#[path = "support/faulty/mod.rs"]
mod faulty;
mod support;

use faulty::content::{Layer, archive, basic, noise};
use faulty::scene::{Scene, assert_clear};
use faulty::{Auth, Fault, Image, Registry};

/// A scene whose jar has the image `web:1` of that registry, and the registry knows of nothing any more but the repository `web`.
fn scene(image: &Image) -> Option<Scene> {
    let mut scene = Scene::new()?;
    scene.registry.put("web", "1", image);
    scene.pulls("web:1", image);
    let from = scene.registry.name("web:1");
    scene.registry = Registry::new();
    assert_eq!(scene.says(&["tag", &from, &scene.registry.name("team/web:2")]).code, 0);
    Some(scene)
}

fn two_layers() -> Image {
    Image::of(&[1, 2].map(|seed| Layer::of(&[(&*format!("file{seed}"), &noise(seed, 50_000)[..])])))
}

/// More than one part of an upload, and not compressed, so that it is as big on its way.
fn big() -> Image {
    let files = archive(&[("zeros", &vec![0; 70 << 20])]);
    Image::of(&[Layer::sent_as(&files, files.clone(), onggi::image::manifest::LAYER)])
}

#[track_caller]
fn pushes(scene: &Scene, image: &Image) -> String {
    let said = scene.says(&["push", &scene.registry.name("team/web:2")]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert_eq!(scene.registry.manifest("team/web", "2").as_ref(), Some(&image.bytes));
    for (digest, _) in &image.blobs {
        assert!(scene.registry.has_blob(digest), "{digest} is not there");
    }
    said.out
}

#[track_caller]
fn refuses(scene: &Scene, parts: &[&str]) -> String {
    let said = scene.says(&["push", &scene.registry.name("team/web:2")]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert_clear(&said.err);
    for part in parts {
        assert!(said.err.contains(part), "{part:?} is not in {}", said.err);
    }
    assert_eq!(scene.registry.manifest("team/web", "2"), None, "a manifest before its blobs");
    said.err
}

#[test]
fn what_is_sent_is_what_is_not_there() {
    let image = two_layers();
    let Some(scene) = scene(&image) else { return };
    let said = pushes(&scene, &image);
    assert!(said.starts_with(&format!("The push refers to repository [{}]\n", scene.registry.name("team/web"))), "{said}");
    assert_eq!(said.matches(": Pushed\n").count(), 2, "{said}");
    assert!(said.ends_with(&format!("2: digest: {} size: {}\n", image.digest, image.bytes.len())), "{said}");
    scene.registry.forget_asked();
    let said = pushes(&scene, &image);
    assert_eq!(said.matches(": Layer already exists\n").count(), 2, "{said}");
    assert_eq!((scene.registry.count("POST"), scene.registry.count("PATCH"), scene.registry.count("PUT /v2/team/web/blobs")), (0, 0, 0));
}

#[test]
fn a_big_blob_goes_in_parts() {
    let image = big();
    let Some(scene) = scene(&image) else { return };
    pushes(&scene, &image);
    assert_eq!(scene.registry.count("PATCH"), 2);
}

#[test]
fn what_fails_once_or_twice_is_done_again() {
    let image = two_layers();
    for part in ["HEAD /v2/team/web/blobs", "HEAD /v2/team/web/manifests", "POST", "PUT /v2/team/web/blobs", "PUT /v2/team/web/manifests"] {
        for fault in [Fault::Status(503, vec![]), Fault::Gone, Fault::Cut(0), Fault::Garbage] {
            let Some(scene) = scene(&image) else { return };
            scene.registry.fails(part, 2, fault.clone());
            let said = scene.says(&["push", "-q", &scene.registry.name("team/web:2")]);
            assert_eq!(said.code, 0, "{part} {fault:?}: {}", said.err);
            pushes(&scene, &image);
        }
    }
}

#[test]
fn a_part_that_fails_goes_on_where_it_ended_or_from_the_beginning() {
    let image = big();
    for fault in [Fault::Status(503, vec![]), Fault::Gone, Fault::Status(404, vec![]), Fault::Status(416, vec![])] {
        let Some(scene) = scene(&image) else { return };
        scene.registry.fails("PATCH", 1, fault.clone());
        let said = scene.says(&["push", &scene.registry.name("team/web:2")]);
        assert_eq!(said.code, 0, "{fault:?}: {}", said.err);
        pushes(&scene, &image);
    }
}

#[test]
fn what_fails_for_ever_is_given_up() {
    let (small, big) = (two_layers(), big());
    for (image, part, fault) in [
        (&small, "POST", Fault::Status(503, vec![])),
        (&small, "PUT /v2/team/web/blobs", Fault::Status(500, vec![])),
        (&small, "PUT /v2/team/web/blobs", Fault::Status(400, vec![])),
        (&small, "PUT /v2/team/web/manifests", Fault::Status(413, vec![])),
        (&small, "POST", Fault::Status(403, vec![])),
        (&small, "POST", Fault::Header("Location", String::new())),
        (&small, "POST", Fault::Header("Location", "ftp://x/".into())),
        (&big, "PATCH", Fault::Status(503, vec![])),
    ] {
        let Some(scene) = scene(image) else { return };
        scene.registry.fails(part, usize::MAX, fault.clone());
        let began = std::time::Instant::now();
        let said = refuses(&scene, &[&scene.registry.name("team/web")]);
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "{part} {fault:?}: {:?}: {said}", began.elapsed());
    }
}

#[test]
fn a_token_allows_pushing_and_one_that_expires_in_the_middle_is_fetched_anew() {
    let image = big();
    let Some(scene) = scene(&image) else { return };
    let folder = scene.jar.root.join("home/.docker");
    std::fs::create_dir_all(&folder).unwrap();
    let auth = basic("kim", "pw").trim_start_matches("Basic ").to_string();
    std::fs::write(folder.join("config.json"), serde_json::json!({"auths": {&scene.registry.host: {"auth": auth}}}).to_string()).unwrap();
    scene.registry.asks_for(Auth::Token { user: Some(("kim".into(), "pw".into())), tokens: Vec::new() });
    for part in ["PATCH", "PUT /v2/team/web/blobs", "PUT /v2/team/web/manifests"] {
        scene.registry.fails(part, 1, Fault::Unauthorized);
    }
    pushes(&scene, &image);
    let asked = scene.registry.asked();
    let scopes = asked.iter().filter(|request| request.path.starts_with("/token")).map(|request| request.path.replace("%3A", ":"));
    assert!(scopes.map(|scope| scope.replace("%2F", "/").replace("%2C", ",")).all(|scope| scope.contains("repository:team/web:pull,push")));
    for request in asked.iter().filter(|request| !request.path.starts_with("/token")) {
        assert!(!request.header("authorization").is_some_and(|value| value.starts_with("Basic")), "{request:?}");
    }
}

#[test]
fn an_upload_may_go_to_another_host_and_what_is_ours_does_not() {
    let image = two_layers();
    let Some(scene) = scene(&image) else { return };
    let folder = scene.jar.root.join("home/.docker");
    std::fs::create_dir_all(&folder).unwrap();
    let auth = basic("kim", "pw").trim_start_matches("Basic ").to_string();
    std::fs::write(folder.join("config.json"), serde_json::json!({"auths": {&scene.registry.host: {"auth": auth}}}).to_string()).unwrap();
    scene.registry.asks_for(Auth::Basic("kim".into(), "pw".into()));
    let elsewhere = Registry::new();
    scene.registry.fails("POST", usize::MAX, Fault::Header("Location", format!("http://{}/v2/team/web/blobs/uploads/x?secret=1", elsewhere.host)));
    let said = scene.says(&["push", &scene.registry.name("team/web:2")]);
    assert!(said.code == 1 && !said.err.contains("secret"), "{}", said.err);
    assert!(elsewhere.asked().iter().all(|request| request.header("authorization").is_none()), "{:?}", elsewhere.asked());
}

#[test]
fn what_is_not_here_is_not_pushed() {
    let Some(scene) = Scene::new() else { return };
    let said = scene.says(&["push", &scene.registry.name("nothing:1")]);
    assert!(said.code == 1 && said.err.contains("An image does not exist locally with the tag"), "{}", said.err);
    assert_eq!(scene.registry.asked().len(), 0);
}
