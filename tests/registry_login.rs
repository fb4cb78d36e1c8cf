//! `onggi login` and `logout`, against the reference registry with passwords, and beside `docker` and `skopeo`, which share the file.
//!
//! See it: `jq . ~/.docker/config.json`. Read: docker-login(1).

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use support::jar::{Jar, Said, said, until};
use support::peer;

const SERVER: &str = "localhost:5000";

/// The reference registry, for which `me` has the password `pa:ss`, and a home of one's own.
struct Registry {
    jar: Jar,
    child: Child,
}

impl Registry {
    fn start() -> Option<Registry> {
        let (program, htpasswd) = (peer("docker-registry")?, peer("htpasswd")?);
        if !nix::unistd::geteuid().is_root() {
            support::skip_for_want_of("a network namespace is root's, and this is not root");
            return None;
        }
        let jar = Jar::empty();
        let at = jar.root.display();
        let line = Command::new(htpasswd).args(["-Bbn", "me", "pa:ss"]).output().unwrap();
        fs::write(jar.root.join("htpasswd"), line.stdout).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {at}/registry}}}}\nhttp: {{addr: 'localhost:5000'}}\n\
             auth: {{htpasswd: {{realm: test, path: {at}/htpasswd}}}}\n"
        );
        fs::write(jar.root.join("config.yml"), config).unwrap();
        fs::create_dir(jar.root.join("home")).unwrap();
        let log = File::create(jar.root.join("log")).unwrap();
        let child = Command::new(program).arg("serve").arg(jar.root.join("config.yml")).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        until("the registry listens", || std::net::TcpStream::connect(SERVER).is_ok());
        Some(Registry { jar, child })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.jar.onggi(words);
        command.env("HOME", self.jar.root.join("home")).env_remove("DOCKER_CONFIG").env_remove("XDG_CONFIG_HOME");
        command
    }

    /// `onggi WORDS` with this on its standard input.
    fn says(&self, words: &[&str], input: &str) -> Said {
        let mut child = self.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        said(child.wait_with_output().unwrap())
    }

    fn config(&self) -> PathBuf {
        self.jar.root.join("home/.docker/config.json")
    }

    fn peer(&self, program: &str, words: &[&str]) -> Said {
        said(Command::new(program).args(words).env("HOME", self.jar.root.join("home")).stdin(Stdio::null()).output().unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn good_credentials_are_kept_for_their_owner_alone_until_logout() {
    let Some(registry) = Registry::start() else { return };
    let said = registry.says(&["login", "-u", "me", "--password-stdin", SERVER], "pa:ss\n");
    assert_eq!((said.code, said.out.as_str()), (0, "Login Succeeded\n"), "{}", said.err);
    let warning = format!("WARNING! Your credentials are stored unencrypted in '{}'.\n", registry.config().display());
    assert!(said.err.contains(&warning), "{}", said.err);
    let expected = "{\n\t\"auths\": {\n\t\t\"localhost:5000\": {\n\t\t\t\"auth\": \"bWU6cGE6c3M=\"\n\t\t}\n\t}\n}";
    assert_eq!(fs::read_to_string(registry.config()).unwrap(), expected);
    assert_eq!(fs::metadata(registry.config()).unwrap().permissions().mode() & 0o777, 0o600);

    let again = registry.says(&["login", SERVER], "");
    assert_eq!((again.code, again.out.as_str()), (0, "Authenticating with existing credentials...\nLogin Succeeded\n"), "{}", again.err);
    assert_eq!(registry.says(&["logout", SERVER], "").out, "Removing login credentials for localhost:5000\n");
    assert_eq!(registry.says(&["logout", SERVER], "").out, "Not logged in to localhost:5000\n");
    assert_eq!(registry.says(&["logout"], "").out, "Not logged in to https://index.docker.io/v1/\n");
    assert_eq!(fs::read_to_string(registry.config()).unwrap(), "{\n\t\"auths\": {}\n}");
}

#[test]
fn a_wrong_password_is_refused_and_nothing_is_kept_or_shown() {
    let Some(registry) = Registry::start() else { return };
    let said = registry.says(&["login", "-u", "me", "-p", "geheim", SERVER], "");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("unauthorized: incorrect username or password") && said.err.contains(SERVER), "{}", said.err);
    assert!(said.err.contains("WARNING! Using --password via the CLI is insecure. Use --password-stdin."), "{}", said.err);
    assert!(!said.err.contains("geheim") && !registry.config().exists(), "{}", said.err);
}

#[test]
fn what_cannot_be_asked_for_is_said_as_docker_says_it() {
    let Some(registry) = Registry::start() else { return };
    for (words, part) in [
        (&["login", "-u", "me", SERVER][..], "Cannot perform an interactive login from a non TTY device"),
        (&["login", "--password-stdin", SERVER], "the --password-stdin option requires --username to be set"),
        (&["login", "-u", "me", "-p", "x", "--password-stdin", SERVER], "cannot be used with"),
        (&["login", "-u", "me", "--password-stdin", SERVER], "Password Required"),
        (&["login", "-u", "a:b", "-p", "x", "../etc"], "no host name"),
    ] {
        let said = registry.says(words, "");
        assert!(said.code != 0 && said.err.contains(part), "{words:?}: {}", said.err);
    }
}

#[test]
fn docker_and_skopeo_use_what_we_keep() {
    let Some(registry) = Registry::start() else { return };
    let (Some(_), Some(_)) = (peer("docker"), peer("skopeo")) else { return };
    let image = registry.jar.root.join("image");
    fs::create_dir(&image).unwrap();
    let manifest = push_empty_image(&registry, &image);
    assert_ne!(registry.peer("docker", &["manifest", "inspect", "--insecure", "localhost:5000/x:1"]).code, 0, "nobody may yet");

    assert_eq!(registry.says(&["login", "-u", "me", "--password-stdin", SERVER], "pa:ss").code, 0);
    let shown = registry.peer("docker", &["manifest", "inspect", "--insecure", "localhost:5000/x:1"]);
    assert!(shown.code == 0 && shown.out.contains("schemaVersion"), "{}{}", shown.out, shown.err);
    let authfile = registry.config().display().to_string();
    let shown = registry.peer("skopeo", &["inspect", "--raw", "--tls-verify=false", "--authfile", &authfile, "docker://localhost:5000/x:1"]);
    assert_eq!(shown.out, manifest, "{}", shown.err);

    assert_eq!(registry.says(&["logout", SERVER], "").code, 0);
    assert_ne!(registry.peer("docker", &["manifest", "inspect", "--insecure", "localhost:5000/x:1"]).code, 0);
}

/// An image without layers at `localhost:5000/x:1`, put there by skopeo: its manifest.
fn push_empty_image(registry: &Registry, image: &std::path::Path) -> String {
    let config = r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let digest = onggi::image::digest::Digest::of(config.as_bytes());
    fs::write(image.join(digest.hex()), config).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{},"digest":"{digest}"}},"layers":[]}}"#,
        config.len()
    );
    fs::write(image.join("manifest.json"), &manifest).unwrap();
    fs::write(image.join("version"), "Directory Transport Version: 1.1\n").unwrap();
    let from = format!("dir:{}", image.display());
    let policy = ["copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds", "me:pa:ss", &from, "docker://localhost:5000/x:1"];
    let copied = registry.peer("skopeo", &policy);
    assert_eq!(copied.code, 0, "{}", copied.err);
    manifest
}

#[test]
fn what_docker_keeps_is_good_for_us() {
    let Some(registry) = Registry::start() else { return };
    let Some(_) = peer("docker") else { return };
    fs::create_dir(registry.config().parent().unwrap()).unwrap();
    fs::write(registry.config(), "{\n\t\"psFormat\": \"table {{.ID}}\",\n\t\"zebra\": 1.50\n}").unwrap();
    // No daemon is at this address: then docker asks the registry itself.
    let kept = registry.peer("docker", &["-H", "tcp://127.0.0.1:1", "login", "-u", "me", "-p", "pa:ss", SERVER]);
    assert_eq!(kept.code, 0, "{}", kept.err);
    let again = registry.says(&["login", SERVER], "");
    assert!(again.out.ends_with("Login Succeeded\n"), "{}{}", again.out, again.err);
    let before = fs::read_to_string(registry.config()).unwrap();
    assert_eq!(registry.says(&["login", "-u", "me", "--password-stdin", SERVER], "pa:ss").code, 0);
    let after = fs::read_to_string(registry.config()).unwrap();
    assert_eq!(after, before, "the same thing in the same layout");
}

/// A credential program that keeps one answer in a file, and writes down its words.
const PROGRAM: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 2
echo "$*" >> words
case $1 in
    store) cat > kept ;;
    get) cat > asked; if test -e kept; then cat kept; else echo credentials not found in native keychain; exit 1; fi ;;
    erase) cat > asked; rm -f kept ;;
esac
"#;

#[test]
fn a_credential_program_keeps_the_password_and_no_file_or_command_line_shows_it() {
    let Some(registry) = Registry::start() else { return };
    let folder = registry.jar.root.join("programs");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("docker-credential-drawer");
    fs::write(&program, PROGRAM).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(registry.config().parent().unwrap()).unwrap();
    fs::write(registry.config(), r#"{"credHelpers": {"localhost:5000": "drawer"}}"#).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let says = |words: &[&str], input: &str| {
        let mut command = registry.command(words);
        let mut child = command.env("PATH", &path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start onggi");
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        said(child.wait_with_output().unwrap())
    };
    let first = says(&["login", "-u", "me", "--password-stdin", SERVER], "pa:ss");
    assert_eq!((first.code, first.out.as_str(), first.err.as_str()), (0, "Login Succeeded\n", ""));
    assert_eq!(fs::read_to_string(folder.join("kept")).unwrap(), r#"{"ServerURL":"localhost:5000","Username":"me","Secret":"pa:ss"}"#);
    let file = fs::read_to_string(registry.config()).unwrap();
    assert!(file.contains("\"localhost:5000\": {}") && file.contains("drawer") && !file.contains("cGE6c3M"), "{file}");
    assert!(says(&["login", SERVER], "").out.contains("Authenticating with existing credentials...\nLogin Succeeded"));
    assert_eq!(fs::read_to_string(folder.join("asked")).unwrap(), SERVER);
    assert!(says(&["logout", SERVER], "").out.starts_with("Removing"));
    assert!(!folder.join("kept").exists());
    assert_eq!(fs::read_to_string(folder.join("words")).unwrap(), "store\nget\nget\nerase\n");
    let missing = registry.says(&["login", "-u", "me", "--password-stdin", SERVER], "pa:ss");
    assert!(missing.code == 1 && missing.err.contains("docker-credential-drawer"), "{}", missing.err);
}

/// What runs in a terminal, and the terminal.
struct Window {
    master: File,
    slave: std::os::fd::OwnedFd,
    child: Child,
    seen: String,
}

impl Window {
    fn open(command: &Command) -> Window {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            value.map(|value| session.env(name, value));
        }
        let child = session.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Window { master: File::from(pty.master), slave: pty.slave, child, seen: String::new() }
    }

    #[track_caller]
    fn sees(&mut self, text: &str) {
        let mut chunk = [0; 4096];
        while !self.seen.contains(text) {
            let count = self.master.read(&mut chunk).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn shows_what_is_typed(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ECHO)
    }
}

#[test]
fn a_password_that_is_typed_is_not_seen() {
    let Some(registry) = Registry::start() else { return };
    let mut window = Window::open(&registry.command(&["login", SERVER]));
    window.sees("Username: ");
    window.types("me\r");
    window.sees("Password: ");
    until("nothing is shown", || !window.shows_what_is_typed());
    window.types("pa:ss\r");
    window.sees("Login Succeeded");
    assert!(!window.seen.contains("pa:ss"), "{}", window.seen);
    assert!(window.child.wait().unwrap().success() && window.shows_what_is_typed());
}

#[test]
fn ctrl_c_at_the_password_leaves_the_terminal_as_it_was() {
    use std::os::unix::process::ExitStatusExt;
    let Some(registry) = Registry::start() else { return };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut window = Window::open(&registry.command(&["login", "-u", "me", SERVER]));
        window.sees("Password: ");
        until("nothing is shown", || !window.shows_what_is_typed());
        match signal {
            Signal::SIGINT => window.types("\x03"),
            other => kill(Pid::from_raw(window.child.id() as i32), other).unwrap(),
        }
        assert_eq!(window.child.wait().unwrap().signal(), Some(signal as i32), "{}", window.seen);
        assert!(window.shows_what_is_typed());
    }
    assert!(!registry.config().exists());
}
