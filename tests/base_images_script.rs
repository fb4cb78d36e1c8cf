//! `scripts/base-images` itself: what it makes again and what not, where it puts it, and what is left of it when it is stopped.
//!
//! See it: `scripts/base-images --refresh debian`, and Ctrl-C. Read: flock(1), unshare(1), the OCI's image-layout.md.

#[path = "base_images/made.rs"]
mod made;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use made::{all_made, base_images, eventually, fetch, jar_with};
use support::jar::{Jar, ONGGI, said};
use support::{peer, skip_for_want_of};

#[test]
fn a_second_run_makes_nothing_and_asks_nobody() {
    // The jar's network leads nowhere, and the images are loaded by a second run.
    let Some(jar) = jar_with(&["debian", "redis"]) else { return };
    let again = said(base_images(&["--load", "debian", "redis"]).env("ONGGI_ROOT", &jar.root).output().unwrap());
    assert_eq!((again.code, &*again.err), (0, ""));
    // It says what it has, and loads nothing that is there.
    assert!(again.out.starts_with("debian:latest    Debian 12") && !again.out.contains("Loaded"), "{}", again.out);
}

#[test]
fn a_name_without_a_recipe_and_an_unknown_option_are_refused() {
    for (words, reason) in [
        (&["nginx", "mysql"][..], "there is no recipe for 'mysql'"),
        (&["--push"], "there is no option --push"),
        (&["--to"], "--to needs a registry"),
        (&["--sources", "/no/such/file"], "there is no file /no/such/file"),
    ] {
        let refused = said(base_images(words).output().unwrap());
        assert!(refused.code != 0 && refused.err.contains(reason), "{words:?}: {} {}", refused.code, refused.err);
    }
    assert!(said(base_images(&["--help"]).output().unwrap()).out.contains("--to localhost:5000/library"));
}

#[test]
fn a_stopped_run_leaves_nothing_behind() {
    if !nix::unistd::geteuid().is_root() {
        return skip_for_want_of("images are made of packages by root, and this is not root");
    }
    if peer("mmdebstrap").is_none() || peer("jq").is_none() || peer("getfattr").is_none() {
        return;
    }
    let jar = Jar::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let cache = jar.root.join(signal.as_str());
        let mut run = base_images(&["debian"]);
        // In a network that leads nowhere it is soon over: this proxy never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://{}", silent.local_addr().unwrap());
        run.env("XDG_CACHE_HOME", &cache).env("http_proxy", &proxy).env("https_proxy", proxy);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let place = cache.join("onggi/base-images");
        eventually("mmdebstrap works", || runs_in(&cache, "mmdebstrap"));
        kill(Pid::from_raw(run.id() as i32), signal).unwrap();
        run.wait().unwrap();
        eventually("nothing of it runs", || !runs_in(&cache, ""));
        if signal == Signal::SIGKILL {
            // Who is killed can't tidy up; the next run does.
            let mut next = base_images(&["debian"]);
            said(next.env("XDG_CACHE_HOME", &cache).env("PATH", only_without_mmdebstrap(&jar)).output().unwrap());
        }
        assert_eq!(names_in(&place), [".lock"], "after {signal}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*cache.to_string_lossy()), "{mounts}");
    }
}

/// Whether a process has this folder in its environment, and this word in its command line.
fn runs_in(cache: &Path, word: &str) -> bool {
    let mark = format!("XDG_CACHE_HOME={}", cache.display());
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has = |file: PathBuf, word: &str| fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(word));
    processes.into_iter().any(|process| has(process.join("environ"), &mark) && has(process.join("cmdline"), word))
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A PATH with what the script needs before it makes anything, and not with what it makes images with.
fn only_without_mmdebstrap(jar: &Jar) -> PathBuf {
    let bin = jar.root.join("bin");
    fs::create_dir(&bin).unwrap();
    let programs = "bash cat cut dirname dpkg echo env find flock grep jq mkdir mktemp nproc readlink rm sed sha256sum sort xargs";
    let link = format!("for program in {programs}; do ln -s \"$(type -P $program)\" {}; done", bin.display());
    assert!(Command::new("bash").args(["-c", &link]).status().unwrap().success());
    bin
}

#[test]
fn what_is_missing_is_named_with_the_way_to_get_it() {
    if peer("jq").is_none() {
        return;
    }
    let jar = Jar::empty();
    let mut run = base_images(&["debian"]);
    let missing = said(run.env("XDG_CACHE_HOME", jar.root.join("cache")).env("PATH", only_without_mmdebstrap(&jar)).output().unwrap());
    assert_eq!(missing.code, 1, "{}", missing.err);
    assert!(missing.err.contains("missing: ") && missing.err.contains("apt-get install") && missing.err.contains("mmdebstrap"), "{}", missing.err);
}

#[test]
fn a_registry_gets_them_under_its_own_name() {
    let (Some(registry), Some(_)) = (peer("docker-registry"), peer("curl")) else { return };
    if all_made().is_none() {
        return;
    }
    let jar = Jar::empty();
    let config = jar.root.join("registry.yml");
    let storage = jar.root.join("registry");
    let storage = format!("storage: {{filesystem: {{rootdirectory: {}}}}}", storage.display());
    fs::write(&config, format!("version: 0.1\n{storage}\nhttp: {{addr: \"127.0.0.1:5000\"}}\n")).unwrap();
    let mut server = Command::new(registry).arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the registry answers", || fetch("http://127.0.0.1:5000/v2/") == "{}");
    let pushed = said(base_images(&["--to", "localhost:5000/library", "debian", "redis"]).env("ONGGI_ROOT", &jar.root).output().unwrap());
    let catalog = fetch("http://127.0.0.1:5000/v2/_catalog");
    let tags = fetch("http://127.0.0.1:5000/v2/library/redis/tags/list");
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(pushed.code, 0, "{}{}", pushed.out, pushed.err);
    assert_eq!(catalog.trim(), r#"{"repositories":["library/debian","library/redis"]}"#);
    assert!(tags.contains("\"latest\"") && tags.contains("\"7.0\""), "{tags}");
    // What it took to push them isn't among the images here.
    let images = Command::new(ONGGI).args(["images", "-q"]).env("ONGGI_ROOT", &jar.root).output().unwrap();
    assert_eq!(said(images).out, "");
}

#[test]
fn shellcheck_finds_nothing_in_the_scripts() {
    let Some(shellcheck) = peer("shellcheck") else { return };
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");
    let list = "grep -rlE '^(#!/.*sh$|# shellcheck shell)' \"$1\" | xargs \"$0\"";
    let checked = said(Command::new("sh").args(["-c", list]).arg(shellcheck).arg(scripts).output().unwrap());
    assert_eq!((checked.code, &*checked.out), (0, ""));
}
