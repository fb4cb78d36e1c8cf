//! Clients of registries, each with a folder of its own: Onggi, docker (with a daemon of the test's own), podman, skopeo and umoci.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use onggi::image::digest::Digest;
use serde_json::Value;

use crate::support::jar::{Jar, until};
use crate::support::peer;
use crate::support::short::{Short, unmount_below};

/// The distribution project's own registry; it ends when dropped.
pub struct Distribution {
    pub host: String,
    server: Child,
    _folder: Jar,
}

impl Distribution {
    pub fn new() -> Option<Distribution> {
        let program = peer("docker-registry")?;
        let folder = Jar::empty();
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (conf, data) = (folder.root.join("conf.yml"), folder.root.join("data"));
        let storage = format!("storage: {{filesystem: {{rootdirectory: {:?}}}, delete: {{enabled: true}}}}", data.display().to_string());
        fs::write(&conf, format!("version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n{storage}\nhttp: {{addr: {host:?}}}\n"))
            .unwrap();
        let log = fs::File::create(folder.root.join("log")).unwrap();
        let mut command = Command::new(program);
        let server = command.arg("serve").arg(conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let registry = Distribution { host, server, _folder: folder };
        until("docker-registry listens", || TcpStream::connect(&registry.host).is_ok());
        Some(registry)
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What a client has of an image.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// Of the manifest or index, as the registry has it.
    pub manifest: String,
    /// The config's digest.
    pub id: String,
}

pub enum Client {
    Onggi(Jar),
    Docker { words: Vec<String>, daemon: Child, folder: Jar, _short: Short },
    Podman { words: Vec<String>, folder: Jar, _short: Short },
    Skopeo { program: PathBuf, folder: Jar },
    Umoci { program: PathBuf, skopeo: PathBuf, folder: Jar },
}

impl Client {
    pub fn name(&self) -> &'static str {
        match self {
            Client::Onggi(_) => "onggi",
            Client::Docker { .. } => "docker",
            Client::Podman { .. } => "podman",
            Client::Skopeo { .. } => "skopeo",
            Client::Umoci { .. } => "umoci",
        }
    }

    pub fn docker() -> Option<Client> {
        let (dockerd, docker, folder) = (peer("dockerd")?, peer("docker")?, Jar::empty());
        let short = Short::new();
        let host = short.host();
        let daemon = Command::new(dockerd)
            .args(short.dockerd(&folder.root))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.root.join("log")).unwrap())
            .spawn()
            .unwrap();
        let words = vec![docker.display().to_string(), "-H".into(), host];
        let client = Client::Docker { words, daemon, folder, _short: short };
        until("dockerd answers", || client.command(&["version"]).output().is_ok_and(|done| done.status.success()));
        Some(client)
    }

    pub fn podman() -> Option<Client> {
        let (podman, folder, short) = (peer("podman")?, Jar::empty(), Short::new());
        let words = [vec![podman.display().to_string()], short.podman(&folder.root)].concat();
        Some(Client::Podman { words, folder, _short: short })
    }

    /// All that are installed; each that is not says so.
    pub fn all() -> Vec<Client> {
        let skopeo = || peer("skopeo").map(|program| Client::Skopeo { program, folder: Jar::empty() });
        let umoci = || Some(Client::Umoci { program: peer("umoci")?, skopeo: peer("skopeo")?, folder: Jar::empty() });
        let found = [Some(Client::Onggi(Jar::empty())), Client::docker(), Client::podman(), skopeo(), umoci()];
        found.into_iter().flatten().collect()
    }

    fn folder(&self) -> &Path {
        match self {
            Client::Onggi(jar) => &jar.root,
            Client::Docker { folder, .. } | Client::Podman { folder, .. } => &folder.root,
            Client::Skopeo { folder, .. } | Client::Umoci { folder, .. } => &folder.root,
        }
    }

    /// The client's own command.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = match self {
            Client::Onggi(jar) => jar.onggi(words),
            Client::Docker { words: own, .. } | Client::Podman { words: own, .. } => {
                let mut command = Command::new(&own[0]);
                command.args(&own[1..]).args(words);
                command
            }
            Client::Skopeo { program, .. } | Client::Umoci { program, .. } => {
                let mut command = Command::new(program);
                command.args(words);
                command
            }
        };
        command.stdin(Stdio::null()).current_dir(self.folder()).env("HOME", self.folder()).env_remove("DOCKER_CONFIG");
        command
    }

    /// Its standard output; a failure fails the test.
    #[track_caller]
    pub fn shows(&self, words: &[&str]) -> String {
        runs(self.command(words))
    }

    /// Makes an image of its own with one file in it, under this name.
    pub fn make(&self, name: &str, archive: &[u8]) {
        match self {
            Client::Onggi(_) | Client::Docker { .. } | Client::Podman { .. } => {
                let mut import = self.command(&["import", "-", name]);
                let mut child = import.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                child.stdin.take().unwrap().write_all(archive).unwrap();
                assert!(child.wait().unwrap().success(), "{} import", self.name());
            }
            Client::Skopeo { folder, .. } => {
                let layer = crate::faulty::content::Layer::gzipped(archive);
                crate::faulty::Image::of(&[layer]).write_layout(&folder.root.join(place(name)), "1");
            }
            Client::Umoci { folder, .. } => {
                let (layout, tree) = (folder.root.join(place(name)), folder.root.join("tree"));
                fs::create_dir_all(&tree).unwrap();
                tar::Archive::new(archive).unpack(&tree).unwrap();
                self.shows(&["init", "--layout", layout.to_str().unwrap()]);
                let image = format!("{}:1", layout.display());
                self.shows(&["new", "--image", &image]);
                self.shows(&["insert", "--image", &image, tree.to_str().unwrap(), "/"]);
            }
        }
    }

    /// Pushes what it has under this name.
    #[track_caller]
    pub fn push(&self, name: &str) {
        match self {
            Client::Onggi(_) | Client::Docker { .. } => drop(self.shows(&["push", name])),
            Client::Podman { .. } => drop(self.shows(&["push", "-q", "--tls-verify=false", name])),
            Client::Skopeo { .. } | Client::Umoci { .. } => {
                self.copy(&format!("oci:{}:1", place(name)), &format!("docker://{name}"));
            }
        }
    }

    /// Pulls, even what it has, and tells what it has got.
    #[track_caller]
    pub fn pull(&self, name: &str) -> Held {
        let _ = self.command(&["rmi", "-f", name]).output();
        match self {
            Client::Onggi(_) | Client::Docker { .. } => {
                let said = self.shows(&["pull", name]);
                let manifest = said.lines().find_map(|line| line.strip_prefix("Digest: ")).unwrap_or_else(|| panic!("{said}"));
                Held { manifest: manifest.into(), id: self.shows(&["image", "inspect", "--format", "{{.Id}}", name]).trim().into() }
            }
            Client::Podman { .. } => {
                self.shows(&["pull", "-q", "--tls-verify=false", name]);
                let shown = self.shows(&["image", "inspect", "--format", "{{.Digest}} sha256:{{.Id}}", name]);
                let (manifest, id) = shown.trim().split_once(' ').unwrap();
                Held { manifest: manifest.into(), id: id.into() }
            }
            Client::Skopeo { .. } => self.pull_layout(name),
            Client::Umoci { folder, .. } => {
                let held = self.pull_layout(name);
                let bundle = folder.root.join(format!("bundle-{}", count()));
                self.shows(&["unpack", "--image", &format!("{}:1", place(name)), bundle.to_str().unwrap()]);
                held
            }
        }
    }

    fn pull_layout(&self, name: &str) -> Held {
        self.copy(&format!("docker://{name}"), &format!("dir:copy-{}", place(name)));
        let folder = self.folder().join(format!("copy-{}", place(name)));
        let bytes = fs::read(folder.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        if matches!(self, Client::Umoci { .. }) {
            self.copy(&format!("docker://{name}"), &format!("oci:{}:1", place(name)));
        }
        Held { manifest: Digest::of(&bytes).to_string(), id: manifest["config"]["digest"].as_str().unwrap_or_default().into() }
    }

    /// Pushes a folder in the OCI's layout as it is.
    #[track_caller]
    pub fn push_layout(&self, folder: &Path, name: &str) {
        self.copy_with(&["--preserve-digests"], &format!("oci:{}:1", folder.display()), &format!("docker://{name}"));
    }

    fn copy(&self, from: &str, to: &str) {
        self.copy_with(&[], from, to);
    }

    /// `skopeo copy`
    #[track_caller]
    fn copy_with(&self, options: &[&str], from: &str, to: &str) {
        let program = match self {
            Client::Skopeo { program, .. } | Client::Umoci { skopeo: program, .. } => program,
            _ => panic!("{} copies nothing", self.name()),
        };
        let mut command = Command::new(program);
        command.args(["copy", "-q", "--all", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
        command.args(options).args([from, to]);
        command.current_dir(self.folder()).env("HOME", self.folder()).stdin(Stdio::null());
        runs(command);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Client::Docker { daemon, .. } = self {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), nix::sys::signal::Signal::SIGTERM);
            let _ = daemon.wait();
        }
        // Mounts that the engine keeps (its netns, its shm) would hold the folder.
        unmount_below(self.folder());
    }
}

#[track_caller]
fn runs(mut command: Command) -> String {
    let done = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}: {out}{err}");
    out.into_owned()
}

/// A folder's name for an image's.
fn place(name: &str) -> String {
    name.replace(['/', ':'], "_")
}

fn count() -> u32 {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
