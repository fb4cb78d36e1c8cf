//! What these tests ask of a jar again and again: a container's state, its log, its processes.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::jar::{Jar, Said, said, until};
use crate::support::kernel::Process;

/// Says `ready`, and ends by itself with 3 at SIGTERM.
pub const POLITE: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
/// Says `ready`, and ignores SIGTERM.
pub const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";

/// `run -d --name NAME OPTIONS base sh -c SCRIPT`, until it has written `ready`.
#[track_caller]
pub fn background(jar: &Jar, name: &str, options: &[&str], script: &str) -> String {
    let id = jar.does(&[&["run", "-d", "--name", name], options, &["base", "sh", "-c", script]].concat());
    until_logged(jar, &id, "ready", 1);
    id
}

/// A part of its record's state.
#[track_caller]
pub fn state(jar: &Jar, name: &str, key: &str) -> Value {
    let record = jar.id_of(name).and_then(|id| jar.record(&id)).unwrap_or_else(|| panic!("{name} has no record"));
    record["state"][key].clone()
}

#[track_caller]
pub fn until_status(jar: &Jar, name: &str, status: &str) {
    until(&format!("{name} is {status}"), || state(jar, name, "status") == status);
}

pub fn log_file(jar: &Jar, id: &str) -> PathBuf {
    jar.root.join("data/containers").join(id).join(format!("{id}-json.log"))
}

/// What it has written on both streams.
pub fn logged(jar: &Jar, id: &str) -> String {
    let lines = fs::read_to_string(log_file(jar, id)).unwrap_or_default();
    lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["log"].as_str().map(str::to_string)).collect()
}

#[track_caller]
pub fn until_logged(jar: &Jar, id: &str, text: &str, times: usize) {
    until(&format!("{text:?} is in the log {times} times"), || logged(jar, id).matches(text).count() >= times);
}

/// The container's first process.
#[track_caller]
pub fn init(jar: &Jar, name: &str) -> Process {
    process(jar, name, "init")
}

/// Its monitor.
#[track_caller]
pub fn monitor(jar: &Jar, name: &str) -> Process {
    process(jar, name, "monitor")
}

#[track_caller]
fn process(jar: &Jar, name: &str, which: &str) -> Process {
    let pid = state(jar, name, which)["pid"].as_i64().unwrap_or_else(|| panic!("{name} has no {which}"));
    Process(pid as i32)
}

pub fn send(process: Process, signal: Signal) {
    kill(Pid::from_raw(process.0), signal).unwrap();
}

/// A command with pipes at all three ends.
pub fn begun(jar: &Jar, words: &[&str]) -> Child {
    jar.onggi(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start onggi")
}

/// Gives a command all of its input, and hears what it says.
pub fn fed(jar: &Jar, words: &[&str], input: &[u8]) -> Said {
    let mut child = begun(jar, words);
    let mut stdin = child.stdin.take().unwrap();
    let bytes = input.to_vec();
    // It may read no more: then the pipe is closed, which is no concern of the writer's.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    let said = said(child.wait_with_output().expect("wait for onggi"));
    writer.join().unwrap();
    said
}

/// Asserts how a command fails: its code, and parts of what it says.
#[track_caller]
pub fn fails(jar: &Jar, words: &[&str], code: i32, parts: &[&str]) -> Said {
    let said = jar.says(words);
    assert_eq!(said.code, code, "{words:?}: {} {}", said.out, said.err);
    for part in parts {
        assert!(said.err.contains(part), "{words:?}: {part:?} is not in {}", said.err);
    }
    said
}
