//! Other programs' pushes and pulls: what one pushed, all others pull with the same digest; and the folder is a layout that they read.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::served::Served;
use crate::support::jar::{Jar, Said, said, until};
use crate::support::peer;
use crate::support::short::Short;

/// A dockerd of our own, for as long as this lives.
struct Docker {
    host: String,
    daemon: Child,
    _jar: Jar,
    _short: Short,
}

impl Docker {
    /// With these settings, as they stand in `/etc/docker/daemon.json`.
    fn new(settings: &str) -> Option<Docker> {
        let (dockerd, _) = (peer("dockerd")?, peer("docker")?);
        let jar = Jar::empty();
        std::fs::write(jar.root.join("daemon.json"), settings).unwrap();
        let short = Short::new();
        let host = short.host();
        let log = std::fs::File::create(jar.root.join("log")).unwrap();
        let daemon = Command::new(dockerd)
            .args(short.dockerd(&jar.root))
            .arg("--config-file")
            .arg(jar.root.join("daemon.json"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start dockerd");
        let docker = Docker { host, daemon, _jar: jar, _short: short };
        until("dockerd answers", || docker.says(&["version"]).code == 0);
        Some(docker)
    }

    fn says(&self, words: &[&str]) -> Said {
        said(Command::new("docker").args(["-H", &self.host]).args(words).stdin(Stdio::null()).output().expect("start docker"))
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let said = self.says(words);
        assert_eq!(said.code, 0, "docker {words:?}: {}{}", said.out, said.err);
        said.out
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.daemon.id() as i32), nix::sys::signal::SIGTERM);
        let _ = self.daemon.wait();
    }
}

/// A program's output; it must succeed.
#[track_caller]
fn does(program: &PathBuf, words: &[&str]) -> String {
    let said = said(Command::new(program).args(words).stdin(Stdio::null()).output().expect("start it"));
    assert_eq!(said.code, 0, "{} {words:?}: {}{}", program.display(), said.out, said.err);
    said.out
}

/// An archive with some files, to make images of.
fn archive(served: &Served, name: &str) -> String {
    let (folder, archive) = (served.jar.root.join(name), served.jar.root.join(format!("{name}.tar")));
    std::fs::create_dir_all(folder.join("etc")).unwrap();
    std::fs::write(folder.join("etc/name"), name).unwrap();
    std::fs::write(folder.join("zeros"), vec![0; 3 << 20]).unwrap();
    let done = Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".").status();
    assert!(done.unwrap().success());
    archive.display().to_string()
}

#[test]
fn what_docker_podman_or_skopeo_pushed_all_others_pull_with_the_same_digest() {
    if !nix::unistd::geteuid().is_root() {
        return crate::support::skip_for_want_of("these engines are root's, and this is not root");
    }
    let (Some(docker), Some(podman), Some(skopeo), Some(umoci)) = (Docker::new("{}"), peer("podman"), peer("skopeo"), peer("umoci")) else { return };
    let served = Served::new(&[]);
    let host = &served.host;
    let name = |who: &str| format!("{host}/{who}/web:1");
    let store = |folder: &str| served.jar.root.join(folder).display().to_string();
    let short = Short::new();
    let podman_does = |words: &[&str]| {
        let own = short.podman(&served.jar.root);
        does(&podman, &[&own.iter().map(String::as_str).collect::<Vec<_>>(), words].concat())
    };
    // Each pushes an image of its own.
    docker.does(&["import", &archive(&served, "docker"), &name("docker")]);
    let pushed = docker.does(&["push", &name("docker")]);
    podman_does(&["import", &archive(&served, "podman"), &name("podman")]);
    podman_does(&["push", "--tls-verify=false", &name("podman")]);
    let layout = store("layout");
    does(&umoci, &["init", "--layout", &layout]);
    does(&umoci, &["new", "--image", &format!("{layout}:one")]);
    archive(&served, "skopeo");
    does(&umoci, &["insert", "--image", &format!("{layout}:one"), &store("skopeo"), "/skopeo"]);
    let skopeo_name = format!("docker://{}", name("skopeo"));
    does(&skopeo, &["copy", "--dest-tls-verify=false", &format!("oci:{layout}:one"), &skopeo_name]);
    // A second push sends nothing.
    assert!(docker.does(&["push", &name("docker")]).contains("Layer already exists"));
    for who in ["docker", "podman", "skopeo"] {
        let digest = served.ask("HEAD", &format!("/v2/{who}/web/manifests/1"), &[], b"").header("docker-content-digest").to_string();
        let seen = does(&skopeo, &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{}", name(who))]);
        assert_eq!(seen.trim(), digest, "skopeo of {who}");
        assert!(docker.does(&["pull", &name(who)]).contains(&format!("Digest: {digest}")), "docker of {who}");
        podman_does(&["pull", "--tls-verify=false", &name(who)]);
        let known = podman_does(&["image", "inspect", "--format", "{{.RepoDigests}}", &name(who)]);
        assert!(known.contains(&format!("{host}/{who}/web@{digest}")), "podman of {who}: {known}");
        assert!(served.jar.does(&["pull", &name(who)]).contains(&format!("Digest: {digest}")), "onggi of {who}");
        // Out of the folder itself, which is a layout.
        if who == "docker" {
            // skopeo knows Docker's own type of manifests in registries, and not in layouts; onggi knows both.
            continue;
        }
        let (folder, copy) = (served.folder().display().to_string(), store(&format!("copy-{who}")));
        does(&skopeo, &["copy", "--preserve-digests", &format!("oci:{folder}:{who}/web:1"), &format!("oci:{copy}:1")]);
        let index: serde_json::Value = serde_json::from_slice(&std::fs::read(format!("{copy}/index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["digest"], digest.as_str(), "the layout of {who}");
    }
    assert!(pushed.contains("digest: sha256:"), "{pushed}");
    let loaded = Jar::empty().does(&["load", "-i", &served.folder().display().to_string()]);
    assert!(["docker/web:1", "podman/web:1", "skopeo/web:1"].iter().all(|name| loaded.contains(name)), "{loaded}");
}

#[test]
fn the_settings_that_it_tells_are_taken_by_docker_and_podman_as_they_are() {
    if !nix::unistd::geteuid().is_root() {
        return crate::support::skip_for_want_of("these engines are root's, and this is not root");
    }
    let (Some(podman), Some(skopeo), Some(umoci)) = (peer("podman"), peer("skopeo"), peer("umoci")) else { return };
    let served = Served::new(&["--mirror-of", "docker.io"]);
    let store = |folder: &str| served.jar.root.join(folder).display().to_string();
    archive(&served, "files");
    let layout = store("layout");
    does(&umoci, &["init", "--layout", &layout]);
    does(&umoci, &["new", "--image", &format!("{layout}:one")]);
    does(&umoci, &["insert", "--image", &format!("{layout}:one"), &store("files"), "/files"]);
    // Pushed here, it is ours, and nobody outside is asked.
    let name = format!("docker://{}/library/jar:1", served.host);
    does(&skopeo, &["copy", "--dest-tls-verify=false", &format!("oci:{layout}:one"), &name]);
    let digest = served.ask("HEAD", "/v2/library/jar/manifests/1", &[], b"").header("docker-content-digest").to_string();
    let line = served.greeting.lines().find_map(|line| line.trim().strip_prefix("docker ")).expect("docker's settings");
    let Some(docker) = Docker::new(line.trim().trim_end_matches(" in /etc/docker/daemon.json")) else { return };
    assert!(docker.does(&["pull", "jar:1"]).contains(&format!("Digest: {digest}")));
    let lines = served.greeting.lines().skip_while(|line| !line.contains("registries.conf.d")).skip(1);
    let lines: Vec<&str> = lines.take_while(|line| line.starts_with("    ")).map(str::trim).collect();
    let settings = store("registries.conf");
    std::fs::write(&settings, lines.join("\n")).unwrap();
    let short = Short::new();
    let mut pull = Command::new(&podman);
    pull.args(short.podman(&served.jar.root)).args(["pull", "docker.io/library/jar:1"]);
    let pulled = said(pull.env("CONTAINERS_REGISTRIES_CONF", &settings).stdin(Stdio::null()).output().unwrap());
    assert_eq!(pulled.code, 0, "{lines:?}: {}", pulled.err);
}

#[test]
fn onggi_loads_the_folder_as_it_is_and_pulls_through_the_mirror_that_it_was_told_to_use() {
    let Some(jar) = Jar::new() else { return };
    let Some(skopeo) = peer("skopeo") else { return };
    let saved = jar.root.join("base.tar").display().to_string();
    jar.does(&["save", "-o", &saved, "base"]);
    let served = Served::new(&[]);
    does(&skopeo, &["copy", "--dest-tls-verify=false", &format!("oci-archive:{saved}"), &format!("docker://{}/library/base:1", served.host)]);
    let loaded = Jar::empty();
    let names = loaded.does(&["load", "-i", &served.folder().display().to_string()]);
    assert!(names.contains("base:1"), "{names}");
    // A mirror of the Hub, which has the image already.
    let url = format!("http://{}", served.host);
    let config = loaded.root.join("config");
    let run = |command: &mut Command| said(command.env("XDG_CONFIG_HOME", &config).output().unwrap());
    // In a user namespace of one user, who has settings of his own: root's are the machine's, which a test leaves alone.
    let told = |more: &[&str]| {
        let mut inside = Command::new("unshare");
        inside.args(["-r", crate::support::jar::ONGGI, "registry", "use"]).args(more).env("ONGGI_ROOT", &loaded.root).stdin(Stdio::null());
        run(&mut inside)
    };
    let used = told(&[&url]);
    assert_eq!(used.code, 0, "{}", used.err);
    assert!(used.out.contains(&format!("{url} is asked first")) && config.join("onggi/registries.json").exists(), "{}", used.out);
    let pulled = run(&mut loaded.onggi(&["pull", "base:1"]));
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert!(pulled.out.contains("docker.io/library/base:1"), "{}", pulled.out);
    assert_eq!(told(&["--remove", &url]).code, 0);
    let written = std::fs::read_to_string(config.join("onggi/registries.json")).unwrap_or_default();
    assert!(!written.contains(&served.host), "{written}");
}
