//! Who may come in, and by which door: passwords, TLS, read-only; and the page for people.

use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onggi::image::digest::Digest;

use crate::served::{MANIFEST, Served};
use crate::support::jar::{Jar, said};
use crate::support::peer;

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

/// `student` with the password `onggi-jar`, as `htpasswd -nbBC 5` wrote it.
const HTPASSWD: &str = "student:$2y$05$3Nkth3t3TvaswuhKgF46eeRIQpiAy5O6KZkSV7TJ1zxhz6vHwRepq\n";

#[test]
fn only_who_knows_the_password_comes_in() {
    let jar = Jar::empty();
    let (pair, users, weak) = (jar.root.join("pair"), jar.root.join("users"), jar.root.join("weak"));
    std::fs::write(&pair, "student:onggi-jar\n").unwrap();
    std::fs::write(&users, format!("# the class\n{HTPASSWD}")).unwrap();
    std::fs::write(&weak, "student:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n").unwrap();
    for words in [["--auth", "student:onggi-jar"], ["--auth-file", pair.to_str().unwrap()], ["--htpasswd", users.to_str().unwrap()]] {
        let served = Served::new(&words);
        assert!(served.greeting.contains("without --tls everybody on the network can read the passwords"));
        for path in ["/", "/v2/", "/v2/_catalog", "/nowhere"] {
            let stranger = served.fetch(path);
            assert_eq!((stranger.status, stranger.code().as_str()), (401, "UNAUTHORIZED"));
            assert!(stranger.header("www-authenticate").starts_with("Basic realm="), "{stranger:?}");
        }
        let with = |pair: &str| served.ask("GET", "/v2/", &[("Authorization", &basic(pair))], b"").status;
        assert_eq!((with("student:onggi-jar"), with("student:onggi-jar")), (200, 200));
        assert_eq!((with("student:wrong"), with("teacher:onggi-jar"), with("student:")), (401, 401, 401));
        let upload = served.ask("POST", "/v2/x/blobs/uploads/", &[], &[0; 100_000]);
        assert_eq!(upload.status, 401);
    }
    let refused = said(jar.onggi(&["registry", "serve", "--htpasswd", weak.to_str().unwrap()]).output().unwrap());
    assert!(refused.code != 0 && refused.err.contains("bcrypt") && refused.err.contains("line 1"), "{}", refused.err);
}

#[test]
fn a_read_only_registry_gives_and_takes_nothing_even_from_a_medium_that_cannot_be_written() {
    let served = Served::new(&[]);
    let digest = served.put_image("x", "1", &[b"layer"]);
    let root = served.folder();
    served.ask("POST", "/v2/x/blobs/uploads/", &[], b"");
    let (folder, jar) = (root.display().to_string(), served.murder());
    let script = format!("mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec \"$@\"");
    let mut command = jar.onggi(&["registry", "serve", "--addr", "127.0.0.1:0", "--read-only", "--root", &folder]);
    if nix::unistd::geteuid().is_root() {
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_os_string()).collect();
        let mut mounted = Command::new("unshare");
        mounted.args(["-m", "sh", "-c", &script, "sh"]).args(words).env("ONGGI_ROOT", &jar.root).stdin(Stdio::null());
        command = mounted;
    }
    let served = Served::of(jar, &mut command);
    assert_eq!(served.fetch("/v2/x/manifests/1").header("docker-content-digest"), digest.as_str());
    let manifest = served.fetch("/v2/x/manifests/1").text();
    for (method, path) in [("POST", "/v2/x/blobs/uploads/"), ("PUT", "/v2/x/manifests/2"), ("DELETE", "/v2/x/manifests/1")] {
        let answer = served.ask(method, path, &[("Content-Type", MANIFEST)], manifest.as_bytes());
        assert_eq!((answer.status, answer.code().as_str(), answer.header("allow")), (405, "UNSUPPORTED", "GET, HEAD"));
        assert!(answer.text().contains("read-only"), "{answer:?}");
    }
}

#[test]
fn a_folder_has_one_server_and_a_folder_of_other_things_has_none() {
    let served = Served::new(&[]);
    let second = served.jar.says(&["registry", "serve", "--addr", "127.0.0.1:0"]);
    assert!(second.code != 0 && second.err.contains("another registry serves this folder already"), "{}", second.err);
    let other = served.jar.root.join("data");
    let strange = served.jar.says(&["registry", "serve", "--addr", "127.0.0.1:0", "--root", other.to_str().unwrap()]);
    assert!(strange.code != 0 && strange.err.contains("other things"), "{}", strange.err);
    let taken = served.jar.says(&["registry", "serve", "--addr", &served.host, "--root", served.jar.root.join("new").to_str().unwrap()]);
    assert!(taken.code != 0 && taken.err.contains("EADDRINUSE"), "{}", taken.err);
}

#[test]
fn tls_is_spoken_with_a_certificate_made_on_the_spot_or_brought_along() {
    let (Some(curl), Some(openssl)) = (peer("curl"), peer("openssl")) else { return };
    let served = Served::new(&["--tls"]);
    let url = format!("https://{}", served.host);
    let ca = served.jar.root.join("data/registry-tls/cert.pem").display().to_string();
    let fetch = |words: &[&str]| said(Command::new(&curl).args(["-sS", "--max-time", "20"]).args(words).output().unwrap());
    assert!(served.greeting.contains(&format!("{url}/ca.crt")) && served.greeting.contains("SHA-256"), "{}", served.greeting);
    assert_eq!(fetch(&["--cacert", &ca, &format!("{url}/v2/_catalog")]).out, r#"{"repositories":[]}"#);
    assert_eq!(fetch(&["-k", &format!("{url}/ca.crt")]).out, std::fs::read_to_string(&ca).unwrap());
    assert_ne!(fetch(&[&format!("{url}/v2/")]).code, 0, "nobody has signed it");
    let plain = fetch(&[&format!("http://{}/v2/", served.host)]);
    assert_eq!(plain.out, "Client sent an HTTP request to an HTTPS server.\n");
    let seen = said(Command::new(&openssl).args(["x509", "-noout", "-fingerprint", "-sha256", "-in", &ca]).output().unwrap());
    let print = seen.out.trim().rsplit('=').next().unwrap().to_string();
    assert!(served.greeting.contains(&print), "{} {print}", served.greeting);
    assert!(!served.folder().join("key.pem").exists() && !served.folder().join("tls").exists(), "the key is not with the images");
    // The same one after a new start: clients trust it already.
    let before = std::fs::read(&ca).unwrap();
    let served = Served::with(served.murder(), &["--tls"]);
    assert_eq!(std::fs::read(&ca).unwrap(), before);
    // One's own.
    let place = |name: &str| served.jar.root.join(name).display().to_string();
    let made = Command::new(&openssl)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=own"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &place("key"), "-out", &place("cert")])
        .output();
    assert!(made.unwrap().status.success());
    let own = Served::with(Jar::empty(), &["--cert", &place("cert"), "--key", &place("key")]);
    assert_eq!(fetch(&["--cacert", &place("cert"), &format!("https://{}/v2/", own.host)]).out, "{}");
    let wrong = served.jar.says(&["registry", "serve", "--cert", &place("cert"), "--key", &ca.replace("cert.pem", "key.pem")]);
    assert!(wrong.code != 0 && wrong.err.contains("use the certificate"), "{}", wrong.err);
}

#[test]
fn the_page_shows_images_and_what_to_type_in_the_readers_language() {
    let served = Served::new(&["--mirror-of", "registry.invalid:5000"]);
    served.put_image("team/web", "1", &[b"shared", b"one"]);
    served.put_image("team/db", "2", &[b"shared", b"two"]);
    let page = served.fetch("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let text = page.text();
    let host = &served.host;
    for part in [
        "<html lang=\"en\">",
        "team/web:1",
        &format!("docker pull {host}/team/db:2"),
        &format!("onggi registry use http://{host}"),
        "registry.invalid:5000",
        Digest::of(b"shared").short(),
        "2 images share it",
        "linux/amd64",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("<script") && !text.contains("src="));
    let korean = served.ask("GET", "/", &[("Accept-Language", "ko-KR,ko;q=0.9,en;q=0.8")], b"").text();
    assert!(korean.contains("<html lang=\"ko\">") && korean.contains("우리 교실 레지스트리"), "{korean}");
    // A host that is none isn't repeated, and what stands in an image is text.
    let tricky = serde_json::json!({"architecture": "<script>alert(1)</script>", "os": "linux"}).to_string();
    let config = served.put_blob("x", tricky.as_bytes());
    let config = serde_json::json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": tricky.len()});
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).to_string();
    assert_eq!(served.put_manifest("x", "1", MANIFEST, &manifest).status, 201);
    let text = served.fetch("/").text();
    assert!(text.contains("&lt;script&gt;alert(1)") && !text.contains("<script"), "{text}");
}
