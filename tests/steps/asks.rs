//! What each step is asked, as functions over the step: a later one has to answer all that an earlier one was asked. Where the engine does
//! the same, the same look is taken at a container of the engine.
//!
//! See it: `/proc/P` while `probe wait` runs in a step. Read: the chapters of the book with the steps' names.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::world::{Place, Step, USER, descendants, end, engine_facts, host_facts, refused};
use crate::support::jar::{Jar, said, until};
use crate::support::kernel::{Mount, Process};

/// The namespaces that no container shares with the host.
const OWN: [&str; 5] = ["mnt", "pid", "uts", "ipc", "net"];

/// Chapter 01: its root is the image's and not the host's.
#[track_caller]
pub fn has_a_root_of_its_own(step: &Step, place: &Place) {
    assert!(step.shows(&["cat", "/etc/os-release"]).contains("Onggi base"), "{}", step.name());
    assert_eq!(step.shows(&["pwd"]), "/", "{}", step.name());
    let dir = place.dir.display().to_string();
    assert_eq!(step.run(&["test", "-e", &dir]).code, 1, "{} sees {dir}", step.name());
    assert_eq!(step.run(&["test", "-e", &format!("../../..{dir}")]).code, 1, "{} sees {dir}", step.name());
    let (child, probe) = step.begin(&[]);
    let root = |process: Process| fs::metadata(process.path("root")).map(|meta| (meta.dev(), meta.ino())).unwrap();
    let host = fs::metadata("/").unwrap();
    assert_ne!(root(probe), (host.dev(), host.ino()), "{}", step.name());
    if ["01", "02", "03"].contains(&step.number) {
        let jar = fs::metadata(place.dir.join(if step.is_user { "users-jar" } else { "jar" })).unwrap();
        assert_eq!(root(probe), (jar.dev(), jar.ino()), "{}", step.name());
    }
    end_probe(child, probe);
}

/// Exit codes are the command's; what can't be run has the shell's.
#[track_caller]
pub fn passes_the_exit_code_on(step: &Step) {
    for code in [0, 1, 7, 255] {
        assert_eq!(step.run(&["probe", "exit", &code.to_string()]).code, code, "{}", step.name());
    }
    for (command, code) in [("nosuch", 127), ("/nosuch", 127), ("/etc/passwd", 126), ("/etc", 126)] {
        refused(step, &step.run(&[command]), code, command);
    }
    let (child, probe) = step.begin(&[]);
    kill(Pid::from_raw(probe.0), Signal::SIGKILL).unwrap();
    assert_eq!(end_code(child), 137, "{}", step.name());
}

/// Streams are those of the caller.
#[track_caller]
pub fn passes_the_streams_on(step: &Step, place: &Place) {
    let said = step.run(&["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"), "{}", step.name());
    let mut child = step.on(&[], &["cat"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through").unwrap();
    assert_eq!(said_out(child), "through", "{}", step.name());
    let open = |facts: &Value| facts["fds"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(open(&step.facts()), open(&host_facts(place)), "{}: not more than the caller has left open", step.name());
}

/// However it ends, the mounts, cgroups, processes and files are those of before.
#[track_caller]
pub fn leaves_nothing(step: &Step) {
    // What it keeps on purpose is made by the first.
    step.run(&["true"]);
    let before = step.traces_at_rest();
    let same = |how: &str| step.leaves_only(&before, how);
    let limits: &[&str] = if step.number >= "03" && !step.is_user { &["--memory", "64m", "--pids", "20"] } else { &[] };
    assert_eq!(said(step.on(limits, &["sh", "-c", "echo x > /tmp/x; mkdir -m 0 /tmp/y; exit 3"]).output().unwrap()).code, 3, "{}", step.name());
    fs::remove_file(step_jar(step).join("tmp/x")).ok();
    fs::remove_dir(step_jar(step).join("tmp/y")).ok();
    same("an ordinary end");
    step.run(&["nosuch"]);
    same("a command that isn't there");
    let (child, probe) = step.begin(limits);
    kill(Pid::from_raw(probe.0), Signal::SIGKILL).unwrap();
    assert_eq!(end_code(child), 137, "{}", step.name());
    same("the command is killed");
    // Who began these tests may have had a signal ignored, and then it is for a program that leaves it as it is: 01 and 02.
    let ignored = u64::from_str_radix(&Process(std::process::id() as i32).status("SigIgn"), 16).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        if step.number < "03" && ignored & (1 << (signal as i32 - 1)) != 0 {
            continue;
        }
        // The command itself is told to end in 01 and from 06 on, and a shell does as it likes; in between the kernel ends all.
        let is_passed_on = step.number == "01" || step.number >= "06";
        let command: &[&str] = if is_passed_on { &["sleep", "1000"] } else { &["sh", "-c", "sleep 1000; true"] };
        let (child, _) = step.begin_with(limits, command, "sleep");
        assert_eq!(end(child, signal), 128 + signal as i32, "{}, {signal}", step.name());
        same(signal.as_ref());
    }
}

/// Where its command writes: the jar itself, as long as there is no layer above it.
fn step_jar(step: &Step) -> std::path::PathBuf {
    let command = step.words(&[]);
    command.get_current_dir().unwrap().join(if step.is_user { "users-jar" } else { "jar" })
}

/// Chapter 02: namespaces, PID, host name, mounts and network are its own. The engine's container is looked at in the same way.
#[track_caller]
pub fn is_isolated(step: &Step, place: &Place, jar: &Jar) {
    let host = host_facts(place);
    looks_isolated(&step.facts(), &host, &step.name());
    looks_isolated(&engine_facts(jar, &[]), &host, "the engine's container");
    let (child, probe) = step.begin(&[]);
    for kind in OWN {
        let ours = fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap();
        assert_ne!(Path::new(&probe.namespace(kind)), ours, "{}, {kind}", step.name());
    }
    // The last number is its PID in its own namespace: 1, or the first child's of an init.
    let numbers: Vec<i32> = probe.status("NSpid").split(' ').map(|number| number.parse().unwrap()).collect();
    assert!(numbers.len() == 2 && numbers[1] <= 2, "{}: {numbers:?}", step.name());
    let roots: Vec<Mount> = probe.mounts().into_iter().filter(|mount| mount.point == "/").collect();
    assert_eq!(roots.len(), 1, "{}: the old root is gone: {roots:?}", step.name());
    assert!(
        probe.mounts().iter().all(|mount| mount.optional.is_empty() || mount.propagation() == ["master"]),
        "{}: {:?}",
        step.name(),
        probe.mounts()
    );
    if step.is_user {
        let map = probe.read("uid_map").split_whitespace().map(str::to_string).collect::<Vec<_>>();
        assert_eq!(map, ["0".to_string(), USER.to_string(), "1".to_string()], "{}", step.name());
        assert_eq!(fs::metadata(probe.path("")).unwrap().uid(), USER, "{}", step.name());
    }
    end_probe(child, probe);
    let ps = step.shows(&["sh", "-c", "echo /proc/[0-9]*"]);
    assert!(ps.split(' ').count() <= 3, "{}: {ps}", step.name());
    assert_eq!(step.shows(&["ls", "/proc/self/root/proc/1/root/"]), step.shows(&["ls", "/"]), "{}", step.name());
}

#[track_caller]
fn looks_isolated(facts: &Value, host: &Value, name: &str) {
    for kind in OWN {
        assert_ne!(facts["namespaces"][kind], host["namespaces"][kind], "{name}, {kind}");
    }
    assert_ne!(facts["hostname"], host["hostname"], "{name}");
    assert_eq!(facts["uid"], 0, "{name}");
    assert_eq!(facts["nspid"].as_array().map(Vec::len), Some(1), "{name}: nothing of outer PID namespaces is seen");
    assert!(facts["pid"].as_u64().is_some_and(|pid| pid <= 2), "{name}: {}", facts["pid"]);
}

/// Chapter 03: the limits are in the kernel's files, as those of the engine are, and hold.
#[track_caller]
pub fn is_limited(step: &Step, jar: &Jar) {
    let options = ["--memory", "64m", "--cpus", "0.5", "--pids", "20"];
    if step.is_user {
        let said = said(step.on(&options, &["true"]).output().unwrap());
        return refused(step, &said, 125, "cgroup");
    }
    let (child, probe) = step.begin(&options);
    let limits = limits_of(probe);
    end_probe(child, probe);
    let mut engine = jar.begin("limited", &["--network", "none", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "base", "probe", "wait"]);
    assert_eq!(limits, limits_of(Process(jar.init_of("limited").unwrap())), "{}", step.name());
    jar.does(&["stop", "limited"]);
    engine.wait().unwrap();
    let grows = ["awk", "BEGIN { x = \"0123456789abcdef\"; while (1) x = x x }"];
    assert_eq!(said(step.on(&["--memory", "16m"], &grows).output().unwrap()).code, 137, "{}", step.name());
    let forks = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 </proc/version & done; wait"];
    let said = said(step.on(&["--pids", "5"], &forks).output().unwrap());
    assert!(said.code != 0 && said.err.to_lowercase().contains("fork"), "{}: {said:?}", step.name());
}

fn limits_of(process: Process) -> Vec<String> {
    let files = [
        ("memory", "memory.limit_in_bytes", "memory.max"),
        ("cpu", "cpu.cfs_quota_us", "cpu.max"),
        ("cpu", "cpu.cfs_period_us", "cpu.max"),
        ("pids", "pids.max", "pids.max"),
    ];
    let read = |(controller, old, new): (&str, &str, &str)| {
        let group = process.cgroup(controller);
        assert!(group.components().count() > 4, "{} is nobody's own", group.display());
        let text = fs::read_to_string(group.join(old)).or_else(|_| fs::read_to_string(group.join(new)));
        text.unwrap_or_else(|e| panic!("{}: {e}", group.display())).trim().to_string()
    };
    files.map(read).to_vec()
}

/// Bad words on the command line are told in one line.
#[track_caller]
pub fn says_what_is_wrong_with_limits(step: &Step) {
    for (options, part) in [
        (["--memory", "64x"], "64x"),
        (["--memory", "-1"], "-1"),
        (["--memory", ""], ""),
        (["--cpus", "many"], "many"),
        (["--cpus", "0"], "0"),
        (["--pids", "few"], "few"),
        (["--nonsense", "1"], ""),
    ] {
        refused(step, &said(step.on(&options, &["true"]).output().unwrap()), 125, part);
    }
}

/// Chapter 04: the root is an overlay; what is written stays in the upper layer, which goes with the run.
#[track_caller]
pub fn has_layers(step: &Step) {
    let script = "echo mine > /etc/motd; rm /etc/shells; rm -r /usr/share; mkdir /usr/share; ls -A /usr/share /etc/shells 2>/dev/null; cat /etc/motd";
    assert_eq!(step.shows(&["sh", "-c", script]), "/usr/share:\nmine", "{}", step.name());
    // The next run finds all as it was.
    assert!(step.shows(&["ls", "/etc"]).lines().all(|name| name != "motd"), "{}", step.name());
    assert!(step.shows(&["cat", "/etc/shells"]).contains("/bin/sh"), "{}", step.name());
    let (child, probe) = step.begin(&[]);
    let root = probe.mount("/");
    assert_eq!(root.fstype, "overlay", "{}: {root:?}", step.name());
    let option = |key: &str| root.super_options.iter().find_map(|option| option.strip_prefix(key)?.strip_prefix('=').map(str::to_string));
    let upper = option("upperdir").unwrap_or_else(|| panic!("{}: {root:?}", step.name()));
    assert!(Path::new(&upper).starts_with(step.state()), "{}: {upper}", step.name());
    let lower = option("lowerdir").or_else(|| option("lowerdir+")).unwrap();
    assert!(Path::new(&lower).join("etc/shells").exists(), "{}: {lower}", step.name());
    end_probe(child, probe);
    assert!(!Path::new(&upper).exists(), "{}: {upper}", step.name());
}

/// Ends a probe that waits, and sees that the step goes with it.
#[track_caller]
pub fn end_probe(child: Child, probe: Process) {
    kill(Pid::from_raw(probe.0), Signal::SIGTERM).unwrap();
    let id = child.id() as i32;
    end_code(child);
    until("all processes of the step have ended", || descendants(id).iter().all(|process| !process.lives()));
}

fn end_code(mut child: Child) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let status = child.wait().unwrap();
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap()
}

fn said_out(child: Child) -> String {
    said(child.wait_with_output().unwrap()).out
}
