//! `onggi search`, against a server that stands in the Hub's place, by TLS and under its name, and against a registry of one's own.
//!
//! The Hub's place is a name in `/etc/hosts`, which only the searching process sees, and port 443 of a network that only this test has.
//! openssl(1) serves files there: a file's name is the request, its content the answer.
//!
//! See it: `onggi search nginx`. Read: docker-search(1), openssl-s_server(1).

mod support;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::jar::{Jar, Said, said, until};
use support::peer;

/// A server, ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A jar, and a Hub that believes to be `index.docker.io`.
struct Hub {
    jar: Jar,
    _server: Server,
}

impl Hub {
    fn start() -> Option<Hub> {
        peer("openssl")?;
        let jar = own_jar()?;
        let folder = jar.root.join("hub");
        fs::create_dir_all(folder.join("v1")).unwrap();
        fs::write(folder.join("hosts"), "127.0.0.1 localhost index.docker.io\n").unwrap();
        openssl(&folder, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ours");
        openssl(
            &folder,
            "req -x509 -newkey rsa:2048 -nodes -keyout hub.key -out hub.crt -days 2 -subj /CN=hub -CA ca.crt -CAkey ca.key \
             -addext subjectAltName=DNS:index.docker.io -addext basicConstraints=critical,CA:FALSE",
        );
        let mut command = Command::new("openssl");
        command.args("s_server -accept 443 -cert hub.crt -key hub.key -HTTP -quiet".split_whitespace()).current_dir(&folder);
        let server = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the Hub listens", || std::net::TcpStream::connect("127.0.0.1:443").is_ok());
        Some(Hub { jar, _server: server })
    }

    /// What the Hub says when it is asked this.
    fn answers(&self, request: &str, answer: &str) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
        fs::write(self.jar.root.join("hub").join(request), head + answer).unwrap();
    }

    /// Has searchers believe the Hub.
    fn is_trusted(&self) {
        let folder = self.jar.root.join("home/.config/onggi/certs.d/docker.io");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(self.jar.root.join("hub/ca.crt"), folder.join("ca.crt")).unwrap();
    }

    /// `onggi search WORDS`, for which the Hub's name leads here.
    fn search(&self, words: &[&str]) -> Said {
        let onggi = command(&self.jar, words);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", r#"mount --bind "$0" /etc/hosts && exec "$@""#]).arg(self.jar.root.join("hub/hosts"));
        command.arg(onggi.get_program()).args(onggi.get_args());
        for (name, value) in onggi.get_envs() {
            value.map(|value| command.env(name, value));
        }
        said(command.stdin(Stdio::null()).output().unwrap())
    }
}

fn own_jar() -> Option<Jar> {
    if !nix::unistd::geteuid().is_root() {
        support::skip_for_want_of("a network namespace is root's, and this is not root");
        return None;
    }
    Some(Jar::empty())
}

fn command(jar: &Jar, words: &[&str]) -> Command {
    let mut command = jar.onggi(&["search"]);
    command.args(words).env("HOME", jar.root.join("home"));
    for other in ["DOCKER_CONFIG", "XDG_CONFIG_HOME", "HTTPS_PROXY", "https_proxy"] {
        command.env_remove(other);
    }
    command
}

#[track_caller]
fn openssl(folder: &PathBuf, words: &str) {
    let made = said(Command::new("openssl").args(words.split_whitespace()).current_dir(folder).output().unwrap());
    assert_eq!(made.code, 0, "{}", made.err);
}

const NGINX: &str = r#"{"num_results": 3, "query": "nginx", "results": [
    {"name": "nginx", "description": "Official build of Nginx.\nIt serves pages, and does so since 2004.", "star_count": 21000, "is_official": true, "is_automated": false},
    {"name": "team/nginx", "description": "\u001b[2Jevil", "star_count": 7, "is_official": false, "is_automated": true},
    {"name": "bare/nginx"}
]}"#;

#[test]
fn the_hub_answers_with_dockers_columns() {
    let Some(hub) = Hub::start() else { return };
    hub.is_trusted();
    hub.answers("v1/search?q=nginx&n=25", NGINX);
    let shown = hub.search(&["nginx"]);
    let expected = "NAME         DESCRIPTION                                     STARS     OFFICIAL\n\
                    nginx        Official build of Nginx. It serves pages, an…   21000     [OK]\n\
                    team/nginx   [2Jevil                                         7         \n\
                    bare/nginx                                                   0         \n";
    assert_eq!((shown.out.as_str(), shown.code), (expected, 0), "{}", shown.err);
    // Official images are asked for by their short names.
    assert_eq!(hub.search(&["docker.io/library/nginx"]).out, expected);
    assert!(hub.search(&["--no-trunc", "nginx"]).out.contains("It serves pages, and does so since 2004.   21000"));
    let official = hub.search(&["--filter", "is-official=true", "--format", "{{.Name}} {{.StarCount}}", "nginx"]);
    assert_eq!(official.out, "nginx 21000\n");
    assert_eq!(hub.search(&["-f", "stars=7", "-f", "is-official=false", "--format", "{{.Name}}", "nginx"]).out, "team/nginx\n");
    hub.answers("v1/search?q=nginx&n=2", NGINX);
    assert_eq!(hub.search(&["--limit", "2", "--format", "{{.Name}}", "nginx"]).out, "nginx\nteam/nginx\n", "a server that gives too many");
    hub.answers("v1/search?q=%EC%98%B9%EA%B8%B0%20%26&n=25", r#"{"results": null}"#);
    assert_eq!(hub.search(&["옹기 &"]).out.lines().count(), 1);
}

#[test]
fn a_hub_that_nobody_vouches_for_is_not_believed() {
    let Some(hub) = Hub::start() else { return };
    hub.answers("v1/search?q=nginx&n=25", NGINX);
    let refused = hub.search(&["nginx"]);
    assert!(refused.code == 1 && refused.out.is_empty() && refused.err.contains("certificate"), "{}{}", refused.out, refused.err);
}

#[test]
fn what_is_no_answer_is_one_clear_error() {
    let Some(hub) = Hub::start() else { return };
    hub.is_trusted();
    for answer in ["<html>login to our wifi</html>", "[1]", r#"{"results": 7}"#] {
        hub.answers("v1/search?q=nginx&n=25", answer);
        let said = hub.search(&["nginx"]);
        assert!(said.code == 1 && said.err.contains("its answer can't be read"), "{}", said.err);
    }
}

#[test]
fn wrong_words_are_refused_as_docker_refuses_them() {
    let Some(jar) = own_jar() else { return };
    for (words, part) in [
        (&["--limit", "101", "x"][..], "limit 101 is outside the range of [1, 100]"),
        (&["--limit=-1", "x"], "limit -1 is outside the range of [1, 100]"),
        (&["--filter", "stars=many", "x"], "invalid filter 'stars=many'"),
        (&["--filter", "star=1", "x"], "did you mean stars?"),
        (&["--filter", "is-official=maybe", "x"], "neither true nor false"),
        (&["https://x/y"], "should not have a scheme"),
    ] {
        let said = said(command(&jar, words).output().unwrap());
        assert!(said.code == 1 && said.err.contains(part), "{words:?}: {}", said.err);
    }
}

#[test]
fn without_the_hub_a_mirror_is_named_that_may_be_nearer() {
    let Some(jar) = own_jar() else { return };
    fs::create_dir_all(jar.root.join("home/.config/onggi")).unwrap();
    fs::write(jar.root.join("home/.config/onggi/registries.json"), r#"{"registry-mirrors": ["http://localhost:5000"]}"#).unwrap();
    let said = said(command(&jar, &["nginx"]).output().unwrap());
    assert!(said.code == 1 && said.err.contains("`onggi search localhost:5000/nginx`"), "{}", said.err);
}

#[test]
fn a_registry_of_ones_own_is_looked_through() {
    let Some(program) = peer("docker-registry") else { return };
    let Some(jar) = own_jar() else { return };
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/registry}}}}\nhttp: {{addr: 'localhost:5000'}}\n",
        jar.root.display()
    );
    fs::write(jar.root.join("config.yml"), config).unwrap();
    // Repositories are folders with a folder of layers.
    for name in ["team/web", "team/webapp", "db"] {
        fs::create_dir_all(jar.root.join("registry/docker/registry/v2/repositories").join(name).join("_layers")).unwrap();
    }
    let log = File::create(jar.root.join("log")).unwrap();
    let child = Command::new(program).arg("serve").arg(jar.root.join("config.yml")).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let _server = Server(child);
    until("the registry listens", || std::net::TcpStream::connect("localhost:5000").is_ok());
    let names = |words: &[&str]| {
        let said = said(command(&jar, words).args(["--format", "{{.Name}}"]).output().unwrap());
        assert_eq!(said.code, 0, "{}", said.err);
        said.out
    };
    assert_eq!(names(&["localhost:5000/web"]), "localhost:5000/team/web\nlocalhost:5000/team/webapp\n");
    assert_eq!(names(&["localhost:5000/WEB", "--limit", "1"]), "localhost:5000/team/web\n");
    assert_eq!(names(&["localhost:5000"]).lines().count(), 3);
    assert_eq!(names(&["localhost:5000/nothing"]), "");
}
