//! A place of its own for one test's containers: a folder that is `ONGGI_ROOT`, with the base image in it already.
//!
//! The image is made once a build, below `target/tmp`; each test gets hard links to its files, for nobody writes to them.
//! When the jar is dropped, all that is in it is removed.
//!
//! See it: `ls target/tmp` while a test runs.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use onggi::sys::namespace;

pub const ONGGI: &str = env!("CARGO_BIN_EXE_onggi");
pub const RUNTIME: &str = env!("CARGO_BIN_EXE_onggi-runtime");

/// One test's `ONGGI_ROOT`.
pub struct Jar {
    pub root: PathBuf,
}

/// What a command said, and how it ended; 128+n when a signal ended it.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Jar {
    /// A jar with the base image, or `None` after having said that only root can have one.
    ///
    /// # Panics
    /// When the image can't be made.
    pub fn new() -> Option<Jar> {
        if !nix::unistd::geteuid().is_root() {
            super::skip_for_want_of("these containers are root's, and this is not root");
            return None;
        }
        let jar = Jar::empty();
        let copied = Command::new("cp").arg("-al").arg(base().join("data")).arg(&jar.root).status();
        assert!(copied.is_ok_and(|status| status.success()), "link the base image into {}", jar.root.display());
        // Each chooses its own networks.
        let _ = fs::remove_dir_all(jar.root.join("data/networks"));
        // Linked too, the store's locks would be held together with those of all other jars.
        for lock in ["in_use.lock", "repositories.lock", "base.lock"] {
            let _ = fs::remove_file(jar.root.join("data/images").join(lock));
        }
        Some(jar)
    }

    /// A jar with nothing in it.
    pub fn empty() -> Jar {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("jar-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&root).expect("make a jar");
        own_network();
        Jar { root }
    }

    /// `onggi WORDS`, with nothing on its standard input and English words on its output.
    pub fn onggi(&self, words: &[&str]) -> Command {
        let mut command = Command::new(ONGGI);
        command.args(words).env("ONGGI_ROOT", &self.root).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// `onggi run --rm WORDS`, to its end.
    pub fn run(&self, words: &[&str]) -> Said {
        said(self.onggi(&["run", "--rm"]).args(words).output().expect("start onggi"))
    }

    /// The standard output of `onggi run --rm WORDS`, without the white space at its end.
    ///
    /// # Panics
    /// When the exit code isn't 0.
    #[track_caller]
    pub fn shows(&self, words: &[&str]) -> String {
        let said = self.run(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out.trim_end().to_string()
    }

    /// Asserts that `onggi run --rm WORDS` ends with this code, and that each of these parts is in its standard error.
    #[track_caller]
    pub fn refuses(&self, words: &[&str], code: i32, parts: &[&str]) {
        let said = self.run(words);
        assert_eq!(said.code, code, "{words:?}: {} {}", said.out, said.err);
        for part in parts {
            assert!(said.err.contains(part), "{words:?}: {part:?} is not in {}", said.err);
        }
    }

    /// Starts `onggi run --rm --name NAME WORDS` with pipes, and waits until its program runs.
    #[track_caller]
    pub fn begin(&self, name: &str, words: &[&str]) -> Child {
        let mut command = self.onggi(&["run", "--rm", "--name", name]);
        let child = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start onggi");
        until("the container runs", || self.init_of(name).is_some_and(is_program));
        child
    }

    /// The ID of the container of this name.
    pub fn id_of(&self, name: &str) -> Option<String> {
        fs::read_link(self.root.join("data/names").join(name)).ok().map(|id| id.display().to_string())
    }

    /// The IDs of all containers.
    pub fn ids(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("data/containers")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// A container's record as it is on disk, or None when there is none.
    pub fn record(&self, id: &str) -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(self.root.join("data/containers").join(id).join("container.json")).ok()?).ok()
    }

    /// What a command said, whatever its exit code.
    pub fn says(&self, words: &[&str]) -> Said {
        said(self.onggi(words).output().expect("start onggi"))
    }

    /// The standard output of a command, without the white space at its end.
    ///
    /// # Panics
    /// When the exit code isn't 0.
    #[track_caller]
    pub fn does(&self, words: &[&str]) -> String {
        let said = self.says(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out.trim_end().to_string()
    }

    /// The PID on this machine of a container's first process.
    pub fn init_of(&self, name: &str) -> Option<i32> {
        let state = fs::read(self.root.join("run/oci").join(self.id_of(name)?).join("state.json")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
        state["init"]["pid"].as_i64().map(|pid| pid as i32)
    }

    /// What is left of containers: records, names, marks, the runtime's state, mounts below the jar.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for folder in ["data/containers", "data/names", "run/running", "run/oci", "run/oci/.creating"] {
            let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()).filter(|path| !is_hidden(path)).map(|path| path.display().to_string()));
        }
        let root = self.root.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(mounts.lines().filter(|line| line.contains(&root)).map(str::to_string));
        left
    }

    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.left(), Vec::<String>::new());
    }
}

impl Drop for Jar {
    fn drop(&mut self) {
        // What a failed test left running would outlive it.
        for id in self.ids() {
            let _ = self.onggi(&["rm", "-f", &id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// From here on this test's thread, and all that it starts, is on a network of its own: the bridges and rules of its containers are not the
/// machine's, and end with the test.
fn own_network() {
    thread_local!(static IS_MADE: Cell<bool> = const { Cell::new(false) });
    if nix::unistd::geteuid().is_root() && !IS_MADE.replace(true) {
        namespace::unshare(namespace::CLONE_NEWNET).expect("make a network namespace");
        namespace::loopback_up().expect("switch its loopback device on");
    }
}

/// The folder with the base image of this build of onggi.
fn base() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(tmp).expect("make target/tmp");
    let built = fs::metadata(ONGGI).and_then(|meta| meta.modified()).expect("when onggi was built");
    let stamp = built.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let base = tmp.join("base");
    // One test program makes it, the others wait.
    let lock = File::create(tmp.join("base.lock")).expect("open the lock of the base image");
    lock.lock().expect("lock the base image");
    if fs::read_to_string(base.join("made-by")).ok() != Some(stamp.to_string()) {
        let _ = fs::remove_dir_all(&base);
        let made = said(
            Command::new(ONGGI).args(["run", "--rm", "--network", "none", "base", "true"]).env("ONGGI_ROOT", &base).output().expect("start onggi"),
        );
        assert_eq!(made.code, 0, "make the base image: {}", made.err);
        fs::write(base.join("made-by"), stamp.to_string()).expect("note who made the base image");
    }
    base
}

/// What a finished command said.
pub fn said(output: Output) -> Said {
    use std::os::unix::process::ExitStatusExt;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

/// Waits until something is so.
///
/// # Panics
/// After 20 seconds.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "still not, after 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a container's first process is its program already, and not our own that makes it.
fn is_program(pid: i32) -> bool {
    let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name(&pid.to_string());
    !name.is_empty() && !name.starts_with("onggi") && name.trim_end().parse::<i32>().is_err() && !name.starts_with("memfd")
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}
