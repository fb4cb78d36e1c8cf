//! Containers made by `onggi-runtime` for one test, and the proof that nothing is left of them.
//!
//! Every test has a [`Bench`] of its own: a folder with `--root` and the bundles. What its containers leave behind is found by the
//! bench's name, which is in every cgroup's name, every mount's root and every process' environment; other tests don't disturb it.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::kernel::Process;

const RUNTIME: &str = env!("CARGO_BIN_EXE_onggi-runtime");
/// What the runtime and all that it starts have in their environment, until they become the container's program.
const MARK: &str = "ONGGI_BENCH";

/// A test's own place.
pub struct Bench {
    pub dir: PathBuf,
    pub name: String,
    made: Cell<u32>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    /// The same, which must have gone well.
    #[track_caller]
    pub fn ok(self) -> Done {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    /// The error of a command that must have failed.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_ne!(self.code, 0, "it went well: {}", self.out);
        self.err
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }
}

/// Asks again and again until `look` answers something; a test that would hang fails instead.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Bench {
    /// None, said in one line, for who is not root.
    pub fn new() -> Option<Bench> {
        if !nix::unistd::geteuid().is_root() {
            super::skip_for_want_of("containers are made by root here");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("onggi-t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).unwrap();
        // For the tests that go on as another user.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        Some(Bench { dir, name, made: Cell::new(0) })
    }

    /// `--root`.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The runtime with its `--root`, to be given more words.
    pub fn runtime(&self) -> Command {
        let mut command = Command::new(RUNTIME);
        command.arg("--root").arg(self.root()).env(MARK, &self.name).stdin(Stdio::null());
        command
    }

    /// Runs one command of the runtime to its end.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Done {
        self.finish(self.runtime().args(words))
    }

    /// Runs any command to its end. Its output goes to files: a container that it leaves running holds no pipe of ours open.
    #[track_caller]
    pub fn finish(&self, command: &mut Command) -> Done {
        let number = self.next();
        let [out, err] = ["out", "err"].map(|kind| self.dir.join(format!("{kind}.{number}")));
        let mut child = command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap()).spawn().unwrap();
        let code = end_of(&mut child);
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Done { code, out: read(&out), err: read(&err) }
    }

    fn next(&self) -> u32 {
        self.made.replace(self.made.get() + 1)
    }

    /// A bundle whose program prints the probe's facts, changed by `edit`.
    pub fn container(&self, edit: impl FnOnce(&mut Value)) -> Container<'_> {
        let id = format!("{}-{}", self.name, self.next());
        let container = Container { bench: self, bundle: self.dir.join(&id), id };
        let bin = container.rootfs().join("bin");
        fs::create_dir_all(&bin).unwrap();
        // Places that a user namespace's root could not make in a folder of ours.
        for place in ["proc", "sys", "dev"] {
            fs::create_dir(container.rootfs().join(place)).unwrap();
        }
        fs::write(bin.join("probe"), onggi::image::probe::PROBE).unwrap();
        fs::set_permissions(bin.join("probe"), fs::Permissions::from_mode(0o755)).unwrap();
        container.edit(|spec| {
            *spec = base_spec();
            edit(spec);
        });
        container
    }

    /// A container that runs, and whose program waits to be looked at.
    #[track_caller]
    pub fn waiting(&self, edit: impl FnOnce(&mut Value)) -> Container<'_> {
        let container = self.container(|spec| {
            spec["process"]["args"] = json!(["/bin/probe", "wait"]);
            edit(spec);
        });
        container.create();
        container.start();
        container.seen();
        container
    }

    /// What the containers of this bench have left on the host, one line each.
    pub fn leaks(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mark = format!("{MARK}={}", self.name);
        let host = super::kernel::host();
        let (our_mounts, our_view) = (host.read("mountinfo"), host.namespace("mnt"));
        if our_mounts.contains(&self.name) {
            found.push("a mount of the bench on the host".into());
        }
        // Who has ended waits for its parent, the machine's PID 1, and has nothing any more; neither has a thread of the kernel.
        for process in super::kernel::all_processes() {
            let environment = process.read("environ");
            let told = |what: &str| format!("process {} ({}) {what}", process.0, process.read("comm").trim());
            if environment.split('\0').any(|pair| pair == mark) && process.lives() {
                found.push(told("is the runtime's"));
            }
            if process.read("cgroup").contains(&self.name) && process.lives() {
                found.push(told("is in a cgroup of the bench"));
            }
            let elsewhere = fs::read_link(process.path("ns/mnt")).is_ok_and(|view| view.to_string_lossy() != our_view);
            if elsewhere && process.read("mountinfo").contains(&self.name) {
                found.push(told("sees a mount of the bench"));
            }
        }
        found.extend(super::kernel::cgroups_named(&self.name).into_iter().map(|dir| format!("cgroup {}", dir.display())));
        for dir in [self.root(), self.root().join(".creating")] {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if ![".creating", ".lock"].iter().any(|kept| entry.file_name() == *kept) {
                    found.push(format!("file {}", entry.path().display()));
                }
            }
        }
        found
    }

    /// Waits until nothing is left, or fails with what is.
    #[track_caller]
    pub fn is_clean(&self) {
        self.is_clean_after("all");
    }

    /// The same, and says after what.
    #[track_caller]
    pub fn is_clean_after(&self, what: &str) {
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let leaks = self.leaks();
            if leaks.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "after {what}: {leaks:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if !id.starts_with('.') {
                let _ = self.runtime().args(["delete", "--force", &id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            }
        }
        if !std::thread::panicking() {
            self.is_clean();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Waits for a child with a deadline: its exit code, or 128 and its signal.
#[track_caller]
pub fn end_of(child: &mut Child) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        }
        if Instant::now() >= end {
            let _ = child.kill();
            panic!("a command did not end");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What `onggi-runtime spec` writes, with the probe as its program and no terminal.
fn base_spec() -> Value {
    static SPEC: OnceLock<Value> = OnceLock::new();
    SPEC.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("onggi-spec-{}", std::process::id()));
        let written = Command::new(RUNTIME).arg("spec").arg("--bundle").arg(&dir).status().unwrap();
        assert!(written.success());
        let mut spec: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/bin/probe"]);
        spec["root"]["readonly"] = json!(false);
        spec
    })
    .clone()
}

/// One bundle, and the container that is made from it.
pub struct Container<'a> {
    pub bench: &'a Bench,
    pub id: String,
    pub bundle: PathBuf,
}

impl Container<'_> {
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// Changes config.json.
    pub fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.bundle.join("config.json");
        let mut spec = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        edit(&mut spec);
        fs::write(path, serde_json::to_vec_pretty(&spec).unwrap()).unwrap();
    }

    /// `VERB --bundle … ID`, with `options` before the ID.
    pub fn command(&self, verb: &str, options: &[&str]) -> Command {
        let mut command = self.bench.runtime();
        command.arg(verb).arg("--bundle").arg(&self.bundle).args(options).arg(&self.id);
        command
    }

    /// In the foreground, to its end.
    #[track_caller]
    pub fn run(&self) -> Done {
        self.bench.finish(&mut self.command("run", &[]))
    }

    /// In the foreground: what the probe saw.
    #[track_caller]
    pub fn facts(&self) -> Value {
        self.run().ok().json()
    }

    /// `create`, which must go well. What the program will print goes to a file.
    #[track_caller]
    pub fn create(&self) {
        self.create_with(&[]).ok();
    }

    #[track_caller]
    pub fn create_with(&self, options: &[&str]) -> Done {
        let [out, err] = [self.output(), self.bundle.join("stderr")];
        let mut command = self.command("create", options);
        let mut child = command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap()).spawn().unwrap();
        Done { code: end_of(&mut child), out: String::new(), err: fs::read_to_string(err).unwrap() }
    }

    fn output(&self) -> PathBuf {
        self.bundle.join("stdout")
    }

    #[track_caller]
    pub fn start(&self) {
        self.tell("start").ok();
    }

    /// `VERB ID`.
    #[track_caller]
    pub fn tell(&self, verb: &str) -> Done {
        self.bench.run(&[verb, &self.id])
    }

    /// `exec ID WORDS…`.
    #[track_caller]
    pub fn exec(&self, options: &[&str], words: &[&str]) -> Done {
        self.bench.run(&[&["exec"], options, &[&self.id], words].concat())
    }

    #[track_caller]
    pub fn delete(&self) {
        self.bench.run(&["delete", "--force", &self.id]).ok();
    }

    /// What the waiting probe printed when it began.
    #[track_caller]
    pub fn seen(&self) -> Value {
        wait_for("the probe's facts", || {
            let text = fs::read_to_string(self.output()).ok()?;
            let line = text.split_once('\n')?.0;
            Some(serde_json::from_str(line).unwrap())
        })
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        self.tell("state").ok().json()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_string()
    }

    /// Its first process, to be asked from outside.
    #[track_caller]
    pub fn process(&self) -> Process {
        Process(self.state()["pid"].as_i64().unwrap() as i32)
    }
}

/// Removes a kind of namespace from a config.
pub fn without_namespace(spec: &mut Value, kind: &str) {
    spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != kind);
}

/// Adds one, or gives the one that is there a path.
pub fn with_namespace(spec: &mut Value, kind: &str, path: Option<&str>) {
    without_namespace(spec, kind);
    let added = match path {
        Some(path) => json!({ "type": kind, "path": path }),
        None => json!({ "type": kind }),
    };
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(added);
}

/// Adds a new user namespace whose ids begin at `first` on the host.
pub fn with_user_namespace(spec: &mut Value, first: u32) {
    with_namespace(spec, "user", None);
    for map in ["uidMappings", "gidMappings"] {
        spec["linux"][map] = json!([{ "containerID": 0, "hostID": first, "size": 65536 }]);
    }
}

/// Adds one mount at the end.
pub fn with_mount(spec: &mut Value, destination: &str, kind: &str, source: &str, options: &[&str]) {
    let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
    spec["mounts"].as_array_mut().unwrap().push(mount);
}
