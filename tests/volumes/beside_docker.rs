//! The same volumes in Docker: what it fills them with, and what it tells of them.
//!
//! Read: docker-volume(1), docker-inspect(1).

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::pot;
use crate::support::jar::{Jar, Said, said, until};
use crate::support::peer;
use crate::support::short::Short;

/// A dockerd of our own, for as long as this lives.
struct Docker {
    host: String,
    daemon: Child,
    jar: Jar,
    _short: Short,
}

impl Docker {
    fn new() -> Option<Docker> {
        let (dockerd, _) = (peer("dockerd")?, peer("docker")?);
        let jar = Jar::empty();
        let short = Short::new();
        let host = short.host();
        let log = std::fs::File::create(jar.root.join("log")).unwrap();
        let daemon = Command::new(dockerd).args(short.dockerd(&jar.root)).stdout(Stdio::null()).stderr(log).spawn().expect("start dockerd");
        let docker = Docker { host, daemon, jar, _short: short };
        until("dockerd answers", || docker.says(&["version"]).code == 0);
        Some(docker)
    }

    fn says(&self, words: &[&str]) -> Said {
        said(Command::new("docker").args(["-H", &self.host]).args(words).stdin(Stdio::null()).output().expect("start docker"))
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let said = self.says(words);
        assert_eq!(said.code, 0, "docker {words:?}: {}", said.err);
        said.out.trim_end().to_string()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.says(&["rm", "-f", "one", "two"]);
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.daemon.id() as i32), nix::sys::signal::SIGTERM);
        let _ = self.daemon.wait();
    }
}

/// What both have is hidden: places on the disk, IDs and times.
fn told(text: &str, root: &Path) -> String {
    let text = text.replace(&root.display().to_string(), "ROOT");
    let word = |word: &str| if word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()) { "ID".to_string() } else { word.to_string() };
    let mut words = Vec::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (head, tail) = part.split_at(part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
        words.push(word(head) + tail);
    }
    words.concat()
}

#[test]
fn docker_fills_and_tells_the_same() {
    let Some(jar) = pot::full() else { return };
    let Some(docker) = Docker::new() else { return };
    let archive = jar.root.join("full.tar").display().to_string();
    jar.does(&["save", "-o", &archive, "full"]);
    docker.does(&["load", "-i", &archive]);
    for words in [
        &["volume", "create", "--label", "tier=db", "--label", "a=b", "made"][..],
        &["volume", "create", "made"],
        &[
            "create",
            "--network",
            "none",
            "--name",
            "one",
            "-v",
            "copy:/data",
            "-v",
            "/mine",
            "-v",
            "made:/made:ro",
            "--mount",
            "src=long,dst=/long",
            "full",
            "true",
        ],
        &["create", "--network", "none", "--name", "two", "--volumes-from", "one:ro", "--mount", "type=volume,dst=/other", "full", "true"],
        &["volume", "ls", "-q", "-f", "label=tier"],
        &["volume", "ls", "-f", "name=made"],
        &[
            "volume",
            "ls",
            "-f",
            "name=made",
            "--format",
            "{{.Driver}} {{.Name}} {{.Label \"a\"}} {{.Mountpoint}} {{.Scope}} {{.Size}} {{.Links}} {{.Status}}",
        ],
        &["volume", "ls", "-f", "dangling=true"],
        &["volume", "inspect", "-f", "{{.Driver}} {{.Labels}} {{.Mountpoint}} {{.Name}} {{.Options}} {{.Scope}}", "made", "copy"],
        &["ps", "-a", "-f", "volume=copy", "--format", "{{.Names}} {{.LocalVolumes}}"],
        &["ps", "-a", "-f", "volume=/made", "--format", "{{.Names}}"],
        &["inspect", "-f", "{{json .Config.Volumes}} {{json .HostConfig.VolumesFrom}}", "one", "two"],
        &["inspect", "-f", "{{json .HostConfig.Binds}}", "two"],
        &["start", "one"],
        &["wait", "one"],
        &["rm", "-v", "one"],
        &["volume", "ls", "--format", "{{.Driver}}"],
        &["rm", "-v", "two"],
        &["volume", "ls"],
        // Not compared: before version 23 its `volume prune` took volumes with a name, too.
        &["volume", "rm", "copy", "made"],
        &["volume", "ls", "-q"],
    ] {
        let ours = jar.does(words);
        let theirs = docker.does(words);
        assert_eq!(told(&ours, &jar.root), told(&theirs, &docker.jar.root), "{words:?}");
        if words.contains(&"two") && words[0] == "create" {
            for name in ["one", "two"] {
                let fields = "{{range .Mounts}}{{.Type}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}} {{.Propagation}} {{.Source}}\n{{end}}";
                let sorted = |text: String, root: &Path| {
                    let text = told(&text, root);
                    let mut lines: Vec<String> = text.lines().map(String::from).collect();
                    lines.sort();
                    lines
                };
                let ask = ["inspect", "-f", fields, name];
                assert_eq!(sorted(jar.does(&ask), &jar.root), sorted(docker.does(&ask), &docker.jar.root), "{name}");
            }
            let theirs = docker.jar.root.join("data/volumes/copy/_data");
            // Docker forgets the times of folders.
            let look = |dir: &Path| {
                let lines = pot::look(dir);
                let line = |line: &str| if line.contains(" d ") { line.rsplit_once(' ').unwrap().0.to_string() } else { line.to_string() };
                lines.lines().map(line).collect::<Vec<_>>()
            };
            assert_eq!(look(&pot::data(&jar, "copy")), look(&theirs));
        }
    }
    for words in [
        &["volume", "rm", "nope"][..],
        &["volume", "create", "a/b"],
        &["volume", "create", "-o", "type=x", "xx"],
        &["run", "--rm", "-v", "ff:/etc/passwd", "full", "true"],
    ] {
        let (ours, theirs) = (jar.says(words), docker.says(words));
        assert_eq!(ours.code, theirs.code, "{words:?} {} {}", ours.err, theirs.err);
    }
}
