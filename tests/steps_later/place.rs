//! A machine of a test's own for the steps: network, world, `/run`, and the base image as an archive.

use std::cell::RefCell;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::{Host, run};
use crate::support::jar::{Said, said, until};
use crate::support::kernel::{Process, all_processes};

/// A step: its number, its program and its text.
pub type Step = (&'static str, &'static str, &'static str);

/// The steps of which this file's tests are made, in their order.
pub const STEPS: [Step; 4] = [
    ("step-07", env!("CARGO_BIN_EXE_step-07"), include_str!("../../steps/07_bridge.rs")),
    ("step-08", env!("CARGO_BIN_EXE_step-08"), include_str!("../../steps/08_volume.rs")),
    ("step-09", env!("CARGO_BIN_EXE_step-09"), include_str!("../../steps/09_registry.rs")),
    ("step-12", env!("CARGO_BIN_EXE_step-12"), include_str!("../../steps/12_security.rs")),
];

/// The steps from this one on.
pub fn from(name: &str) -> impl Iterator<Item = &'static Step> {
    STEPS.iter().skip_while(move |step| step.0 != name)
}

pub struct Place {
    pub host: Host,
    /// `onggi save base`.
    pub layout: String,
    begun: RefCell<Vec<Process>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // What a failed test left running would outlive it: with its command a container ends.
        for process in self.begun.take().into_iter().filter(Process::lives) {
            let _ = kill(Pid::from_raw(process.0), Signal::SIGKILL);
        }
    }
}

impl Place {
    /// None when this is not root, or a program is missing.
    pub fn new() -> Option<Place> {
        let host = Host::new()?;
        // The host has a mount namespace of its own already.
        run("mount", &["-t", "tmpfs", "-o", "mode=755", "run", "/run"]);
        let layout = host.root.join("base.tar").display().to_string();
        host.does(&["save", "base", "-o", &layout]);
        Some(Place { host, layout, begun: RefCell::default() })
    }

    /// A step's command, to its end.
    pub fn says(&self, step: &Step, words: &[&str]) -> Said {
        said(Command::new(step.1).args(words).stdin(Stdio::null()).output().unwrap())
    }

    /// What it prints when all goes well.
    #[track_caller]
    pub fn does(&self, step: &Step, words: &[&str]) -> String {
        let said = self.says(step, words);
        assert_eq!(said.code, 0, "{} {words:?}: {}", step.0, said.err);
        said.out.trim_end().to_string()
    }

    /// What it says in one line when it refuses.
    #[track_caller]
    pub fn refuses(&self, step: &Step, words: &[&str], parts: &[&str]) {
        let said = self.says(step, words);
        assert_eq!((said.code, said.err.lines().count()), (125, 1), "{} {words:?}: {said:?}", step.0);
        assert!(said.err.starts_with(&format!("{}: ", step.0)) && parts.iter().all(|part| said.err.contains(part)), "{words:?}: {}", said.err);
    }

    /// The facts that the probe tells in a container with these options.
    #[track_caller]
    pub fn facts(&self, step: &Step, options: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.does(step, &[&["run", "--rm"], options, &[&self.layout, "probe"]].concat())).unwrap()
    }

    /// A container in the background, that sleeps. Answers its process.
    #[track_caller]
    pub fn begin(&self, step: &Step, name: &str, options: &[&str]) -> Process {
        self.start(step, name, options, &["sleep", &Place::seconds()])
    }

    /// So many seconds as nobody else sleeps.
    fn seconds() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("{}{:04}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// A container in the background with this program, whose words no other process has. Answers its process.
    #[track_caller]
    pub fn start(&self, step: &Step, name: &str, options: &[&str], command: &[&str]) -> Process {
        self.does(step, &[&["run", "-d", "--name", name], options, &[&self.layout], command].concat());
        self.found(command)
    }

    /// The process that has these words, once it is there.
    #[track_caller]
    fn found(&self, command: &[&str]) -> Process {
        let wanted: String = command.iter().map(|word| format!("{word}\0")).collect();
        let mut found = None;
        until("the program runs", || {
            found = all_processes().into_iter().find(|process| process.read("cmdline") == wanted && process.read("status").contains("NSpid:"));
            found.is_some()
        });
        self.begun.borrow_mut().extend(found);
        found.unwrap()
    }

    /// `run` with a command that sleeps, as a child of ours; with the process of the command.
    #[track_caller]
    pub fn background(&self, step: &Step, options: &[&str]) -> (Child, Process) {
        let seconds = Place::seconds();
        let words = [&["run", "--rm"], options, &[&self.layout, "sleep", &seconds]].concat();
        let child = Command::new(step.1).args(&words).stdin(Stdio::null()).spawn().unwrap();
        (child, self.found(&words[words.len() - 2..]))
    }

    /// How a child of ours ends that gets a signal; with it the container's command has ended.
    #[track_caller]
    pub fn ended(&self, (mut child, process): (Child, Process), signal: Signal) -> i32 {
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let status = child.wait().unwrap();
        until("the command has ended", || !process.lives());
        status.code().or(status.signal().map(|signal| 128 + signal)).unwrap()
    }

    /// The names of all containers.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir("/run/onggi-steps/containers").into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Ends a container and forgets it.
    #[track_caller]
    pub fn end(&self, step: &Step, name: &str) {
        self.does(step, &["stop", name]);
        self.does(step, &["rm", name]);
    }

    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let within = |folder: &str| {
            let entries = fs::read_dir(PathBuf::from("/run/onggi-steps").join(folder)).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let kept = ["containers", "images", "network", "pulled", "volumes"];
        assert_eq!(within("containers"), Vec::<String>::new());
        assert!(within("").iter().all(|name| kept.contains(&name.as_str())), "{:?}", within(""));
        assert_eq!((self.host.links(), self.host.rules()), (Vec::<String>::new(), String::new()));
    }
}
