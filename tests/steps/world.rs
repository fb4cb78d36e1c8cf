//! Where the steps are tried: a mount namespace for each test with a /run of its own, a folder with a root file system and an image for
//! all of them, root and a user without rights; and what is asked of every step.
//!
//! See it: `ls /tmp/onggi-steps-*` while the tests run.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onggi::sys::namespace;
use serde_json::Value;

use crate::support;
use crate::support::jar::{Jar, Said, said, until};
use crate::support::kernel::{Process, all_processes};

/// Nobody's ID on this machine, so that one ID is all there is to map.
pub const USER: u32 = 12347;

/// A folder that everybody may look into: `jar` has the files of the image `base`, `users-jar` too, and there they are the user's;
/// `base.tar` is the image.
pub struct Place {
    pub dir: PathBuf,
    _jar: Jar,
}

/// The place, in a test that has a /run of its own from here on; None after having said that only root can try this.
pub fn place() -> Option<Arc<Place>> {
    static PLACE: Mutex<Weak<Place>> = Mutex::new(Weak::new());
    let jar = Jar::new()?;
    own_run();
    let mut kept = PLACE.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(place) = kept.upgrade() {
        return Some(place);
    }
    let dir = std::env::temp_dir().join(format!("onggi-steps-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("jar")).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    let id = jar.does(&["create", "base"]);
    let mut export = jar.onggi(&["export", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let unpacked = Command::new("tar").arg("-x").arg("-C").arg(dir.join("jar")).stdin(export.stdout.take().unwrap()).status().unwrap();
    assert!(export.wait().unwrap().success() && unpacked.success());
    let copied = Command::new("cp").args(["-a", "jar", "users-jar"]).current_dir(&dir).status().unwrap();
    let given = Command::new("chown").args(["-hR", &format!("{USER}:{USER}"), "users-jar"]).current_dir(&dir).status().unwrap();
    assert!(copied.success() && given.success());
    jar.does(&["save", "base", "-o", &dir.join("base.tar").display().to_string()]);
    fs::set_permissions(dir.join("base.tar"), Permissions::from_mode(0o644)).unwrap();
    let place = Arc::new(Place { dir, _jar: jar });
    *kept = Arc::downgrade(&place);
    Some(place)
}

/// From here on this test's thread and all that it starts have an empty /run, with a folder for the user.
fn own_run() {
    // One test at a time, for each counts what is there of a step on the whole machine. Each is a thread, and its turn ends with it.
    static TURN: Mutex<()> = Mutex::new(());
    thread_local!(static MINE: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) });
    if MINE.with_borrow(Option::is_some) {
        return;
    }
    let turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    MINE.with_borrow_mut(|mine| *mine = Some(turn));
    const NONE: Option<&str> = None;
    namespace::unshare(namespace::CLONE_NEWNS).unwrap();
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    fs::create_dir("/run/user").unwrap();
    std::os::unix::fs::chown("/run/user", Some(USER), Some(USER)).unwrap();
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// One step, as root or as an ordinary user.
#[derive(Clone)]
pub struct Step {
    pub number: &'static str,
    pub is_user: bool,
    /// The program, where everybody may run it.
    program: PathBuf,
    place: Arc<Place>,
}

impl Step {
    pub fn new(place: &Arc<Place>, number: &'static str, built: &str, is_user: bool) -> Step {
        let program = place.dir.join(format!("step-{number}"));
        // Another test may run it, and a file that runs can't be written: a new one takes its name.
        if !program.exists() {
            let aside = place.dir.join(format!("step-{number}.{:?}", std::thread::current().id()));
            fs::copy(built, &aside).unwrap();
            fs::set_permissions(&aside, Permissions::from_mode(0o755)).unwrap();
            fs::rename(&aside, &program).unwrap();
        }
        Step { number, is_user, program, place: place.clone() }
    }

    /// What is said of it when it fails.
    pub fn name(&self) -> String {
        format!("step-{} as {}", self.number, if self.is_user { "a user" } else { "root" })
    }

    /// `step-NN WORDS`.
    pub fn words(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(&self.place.dir).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        if self.is_user {
            command.uid(USER).gid(USER).env("XDG_RUNTIME_DIR", "/run/user").env("HOME", "/run/user");
        }
        command
    }

    /// The step on the jar or the image, with these options of its own and this command to run.
    pub fn on(&self, options: &[&str], command: &[&str]) -> Command {
        let (verb, source): (&[&str], &str) = match self.number {
            "01" | "02" | "03" | "04" => (&[], if self.is_user { "users-jar" } else { "jar" }),
            "05" => (&[], "base.tar"),
            _ => (&["run", "--rm"], "base.tar"),
        };
        self.words(&[verb, options, &[source], command].concat())
    }

    pub fn run(&self, command: &[&str]) -> Said {
        said(self.on(&[], command).output().unwrap())
    }

    pub fn says(&self, words: &[&str]) -> Said {
        said(self.words(words).output().unwrap())
    }

    /// What a command in it prints, which must go well.
    #[track_caller]
    pub fn shows(&self, command: &[&str]) -> String {
        let said = self.run(command);
        assert_eq!(said.code, 0, "{}, {command:?}: {} {}", self.name(), said.out, said.err);
        said.out.trim_end().to_string()
    }

    /// The facts of the probe in it.
    #[track_caller]
    pub fn facts(&self) -> Value {
        serde_json::from_str(&self.shows(&["probe"])).unwrap()
    }

    /// Starts the step with `probe wait` in it, which ends at SIGTERM only when it is told, and finds the probe.
    #[track_caller]
    pub fn begin(&self, options: &[&str]) -> (Child, Process) {
        self.begin_with(options, &["probe", "wait"], "probe")
    }

    /// The same with another command, whose name in `ps` is `comm`.
    #[track_caller]
    pub fn begin_with(&self, options: &[&str], command: &[&str], comm: &str) -> (Child, Process) {
        let step = self.on(options, command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut found = None;
        until(&format!("{} runs {comm}", self.name()), || {
            found = descendants(step.id() as i32).into_iter().find(|process| process.read("comm").trim_end() == comm);
            found.is_some()
        });
        (step, found.unwrap())
    }

    /// Its folder for what is short-lived.
    pub fn state(&self) -> PathBuf {
        Path::new(if self.is_user { "/run/user" } else { "/run" }).join("onggi-steps")
    }

    /// What is there of it on the host: mounts, cgroups, processes, files. What is kept on purpose, layers and images, is left out.
    pub fn traces(&self) -> BTreeSet<String> {
        let mut traces: BTreeSet<String> = fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().map(str::to_string).collect();
        let groups = support::kernel::cgroups_named(&format!("step-{}-", self.number));
        traces.extend(groups.iter().map(|group| group.display().to_string()));
        let here = self.program.display().to_string();
        let is_ours = |process: &Process| process.read("cmdline").starts_with(&here);
        traces.extend(all_processes().iter().filter(|process| is_ours(process)).map(|process| format!("process {}", process.0)));
        for entry in fs::read_dir(self.state()).into_iter().flatten().flatten() {
            match entry.file_name().to_str() {
                Some("layers" | "images" | "network" | "pulled" | "volumes") => {}
                Some("containers") => traces.extend(fs::read_dir(entry.path()).unwrap().flatten().map(|entry| entry.path().display().to_string())),
                _ => drop(traces.insert(entry.path().display().to_string())),
            }
        }
        traces
    }
}

impl Step {
    /// The same while nothing of it runs: who has been told to end, and is still on the way out, is waited for.
    pub fn traces_at_rest(&self) -> BTreeSet<String> {
        until(&format!("{} has no process", self.name()), || !self.traces().iter().any(|trace| trace.starts_with("process ")));
        self.traces()
    }

    /// All is as it was.
    #[track_caller]
    pub fn leaves_only(&self, before: &BTreeSet<String>, how: &str) {
        let now = self.traces_at_rest();
        let (more, less): (Vec<_>, Vec<_>) = (now.difference(before).collect(), before.difference(&now).collect());
        assert!(now == *before, "{} after {how}: left {more:#?}, gone {less:#?}", self.name());
    }
}

/// All processes below this one, itself included.
pub fn descendants(pid: i32) -> Vec<Process> {
    let mut found = vec![Process(pid)];
    let all: Vec<(Process, i32)> = all_processes().into_iter().filter_map(|process| Some((process, parent(process)?))).collect();
    let mut at = 0;
    while at < found.len() {
        let this = found[at].0;
        found.extend(all.iter().filter(|(_, parent)| *parent == this).map(|(process, _)| *process));
        at += 1;
    }
    found
}

fn parent(process: Process) -> Option<i32> {
    process.read("stat").rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// How a step that is told to end ends.
#[track_caller]
pub fn end(mut step: Child, signal: Signal) -> i32 {
    kill(Pid::from_raw(step.id() as i32), signal).unwrap();
    use std::os::unix::process::ExitStatusExt;
    let status = step.wait().unwrap();
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap()
}

/// The facts of the probe in a container of the engine with these options.
#[track_caller]
pub fn engine_facts(jar: &Jar, options: &[&str]) -> Value {
    serde_json::from_str(&jar.shows(&[options, &["base", "probe"]].concat())).unwrap()
}

/// The facts of the probe on this host, in this thread's namespaces.
pub fn host_facts(place: &Place) -> Value {
    let output = Command::new(place.dir.join("jar/usr/bin/probe")).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A command that must fail with this code, and one line on standard error with this in it.
#[track_caller]
pub fn refused(step: &Step, said: &Said, code: i32, part: &str) {
    let begin = format!("step-{}: cannot ", step.number);
    assert_eq!(said.code, code, "{}: {said:?}", step.name());
    assert!(said.err.starts_with(&begin) && said.err.lines().count() == 1 && said.err.contains(part), "{}, {part}: {said:?}", step.name());
}

/// The paths below `onggi::` that a step imports, one by one: `image::snapshot::Prepared`.
pub fn imports(text: &str) -> Vec<String> {
    let uses = text.split("use onggi::").skip(1).filter_map(|rest| rest.split(';').next());
    uses.flat_map(|path| expand(&path.split_whitespace().collect::<String>())).collect()
}

fn expand(path: &str) -> Vec<String> {
    let Some((before, group)) = path.split_once('{') else { return vec![path.trim_end_matches(',').to_string()] };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in group.chars() {
        depth += (letter == '{') as i32 - (letter == '}') as i32;
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(letter),
        }
    }
    parts.iter().filter(|part| !part.is_empty()).flat_map(|part| expand(&format!("{before}{part}"))).collect()
}

/// The source of a step.
pub fn source(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("steps").join(file)).unwrap()
}
