//! Who may: basic authentication, tokens, what becomes of them in the middle, and that no secret goes where it has no business.

use crate::faulty::content::{Layer, basic, noise};
use crate::faulty::scene::Scene;
use crate::faulty::{Auth, Fault, Image, Registry};

fn three() -> Image {
    Image::of(&[1, 2, 3].map(|seed| Layer::of(&[(&*format!("file{seed}"), &noise(seed, 60_000)[..])])))
}

fn scene() -> Option<(Scene, Image)> {
    let scene = Scene::new()?;
    let image = three();
    scene.registry.put("team/web", "1", &image);
    Some((scene, image))
}

fn anybody() -> Auth {
    Auth::Token { user: None, tokens: Vec::new() }
}

/// As `docker login` writes it.
fn remember(scene: &Scene, host: &str, user: &str, password: &str) {
    let folder = scene.jar.root.join("home/.docker");
    std::fs::create_dir_all(&folder).unwrap();
    let auth = basic(user, password).trim_start_matches("Basic ").to_string();
    std::fs::write(folder.join("config.json"), serde_json::json!({"auths": {host: {"auth": auth}}}).to_string()).unwrap();
}

#[test]
fn a_token_for_anybody_is_fetched_once_with_the_scope_that_is_needed() {
    let Some((scene, image)) = scene() else { return };
    scene.registry.asks_for(anybody());
    scene.pulls("team/web:1", &image);
    let asked = scene.registry.asked();
    let tokens: Vec<&String> = asked.iter().map(|request| &request.path).filter(|path| path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    let scope = tokens[0].replace("%3A", ":").replace("%2F", "/");
    assert!(scope.contains("scope=repository:team/web:pull") && scope.contains("service=faulty"), "{scope}");
    assert!(asked.iter().all(|request| !request.header("authorization").is_some_and(|value| value.starts_with("Basic"))), "nobody has logged in");
}

#[test]
fn who_has_logged_in_is_known_by_password_and_by_token() {
    let Some((scene, image)) = scene() else { return };
    scene.registry.asks_for(Auth::Basic("kim".into(), "비밀:password".into()));
    scene.refuses("team/web:1", &["team/web"]);
    remember(&scene, &scene.registry.host, "kim", "wrong");
    let said = scene.refuses("team/web:1", &["team/web"]);
    assert!(!said.contains("wrong"), "a secret in an error: {said}");
    remember(&scene, &scene.registry.host, "kim", "비밀:password");
    scene.pulls("team/web:1", &image);

    let Some((scene, image)) = self::scene() else { return };
    scene.registry.asks_for(Auth::Token { user: Some(("kim".into(), "pw".into())), tokens: Vec::new() });
    scene.refuses("team/web:1", &["team/web"]);
    remember(&scene, &scene.registry.host, "kim", "pw");
    scene.pulls("team/web:1", &image);
    // The password goes to the token server alone.
    for request in scene.registry.asked().iter().filter(|request| !request.path.starts_with("/token")) {
        assert!(!request.header("authorization").is_some_and(|value| value.starts_with("Basic")), "{request:?}");
    }
}

#[test]
fn a_token_that_has_expired_in_the_middle_is_fetched_anew() {
    let Some((scene, image)) = scene() else { return };
    scene.registry.asks_for(anybody());
    scene.registry.fails("/blobs/", 1, Fault::Unauthorized);
    scene.pulls("team/web:1", &image);
    assert_eq!(scene.registry.count("/token"), 2);
}

#[test]
fn a_token_that_never_counts_is_not_asked_for_without_end() {
    let Some((scene, _)) = scene() else { return };
    scene.registry.asks_for(anybody());
    scene.registry.fails("/manifests/", usize::MAX, Fault::Unauthorized);
    let said = scene.refuses("team/web:1", &["team/web"]);
    assert!(said.contains("onggi login") || said.contains("denied") || said.contains("401"), "{said}");
    assert!(scene.registry.count("/token") <= 4, "{} tokens", scene.registry.count("/token"));
}

#[test]
fn a_token_server_may_answer_anything() {
    let Some((scene, image)) = scene() else { return };
    scene.registry.asks_for(anybody());
    for fault in [
        Fault::Bytes(b"{}".to_vec()),
        Fault::Bytes(b"no JSON".to_vec()),
        Fault::Bytes(br#"{"token": 5}"#.to_vec()),
        Fault::Bytes(br#"{"token": "a\r\nX-Evil: 1"}"#.to_vec()),
        Fault::Bytes(vec![b' '; 8 << 20]),
        Fault::Endless,
        Fault::Status(403, vec![]),
        Fault::Status(404, vec![]),
        Fault::Redirect(307, "/token".into()),
    ] {
        scene.registry.fails("/token", usize::MAX, fault.clone());
        let said = scene.refuses("team/web:1", &[]);
        assert!(said.contains("token") || said.contains(&scene.registry.host), "{fault:?}: {said}");
        scene.registry.is_well();
    }
    assert!(scene.registry.asked().iter().all(|request| request.header("x-evil").is_none()));
    // The other name of the same field, as some write it.
    scene.registry.asks_for(Auth::Token { user: None, tokens: vec!["good".into()] });
    scene.registry.fails("/token", usize::MAX, Fault::Bytes(br#"{"access_token": "good"}"#.to_vec()));
    scene.pulls("team/web:1", &image);
}

#[test]
fn a_challenge_may_say_anything() {
    let Some((scene, _)) = scene() else { return };
    for challenge in [
        "",
        "Bearer",
        "Bearer realm=",
        "Bearer realm=\"not a url\"",
        "Bearer realm=\"file:///etc/passwd\"",
        "Bearer realm=\"http://127.0.0.1:1/token\",service=\"x\"",
        "Digest realm=\"x\", nonce=\"y\"",
        "Bearer realm=\"http://127.0.0.1:1/token",
        "Negotiate",
    ] {
        scene.registry.fails("/v2/", usize::MAX, Fault::Status(401, vec![("WWW-Authenticate", challenge.into())]));
        scene.refuses("team/web:1", &["team/web"]);
        scene.registry.is_well();
    }
}

#[test]
fn what_is_ours_never_follows_to_another_host() {
    let Some((scene, image)) = scene() else { return };
    let elsewhere = Registry::new();
    elsewhere.put("team/web", "1", &image);
    for auth in [Auth::Basic("kim".into(), "pw".into()), Auth::Token { user: Some(("kim".into(), "pw".into())), tokens: Vec::new() }] {
        remember(&scene, &scene.registry.host, "kim", "pw");
        scene.registry.asks_for(auth);
        for status in [301, 302, 303, 307, 308] {
            scene.registry.fails("/blobs/", usize::MAX, Fault::Redirect(status, format!("http://{}{{path}}", elsewhere.host)));
            let said = scene.pull("team/web:1");
            assert_eq!(said.code, 0, "{status}: {}", said.err);
            scene.assert_right("team/web:1", &image);
            scene.says(&["rmi", "-f", &scene.registry.name("team/web:1")]);
            scene.registry.is_well();
        }
    }
    let asked = elsewhere.asked();
    assert!(asked.len() >= 40, "{}", asked.len());
    for request in asked {
        let secrets = request.headers.iter().filter(|(name, value)| name == "authorization" || name == "cookie" || value.contains("token-"));
        assert_eq!(secrets.count(), 0, "{request:?}");
    }
}
