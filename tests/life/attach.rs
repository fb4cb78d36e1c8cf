//! `attach` and `run -a`: who sees what, and what a signal to the one who looks does to the container.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::ChildStdout;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::life_jar::*;
use crate::support::jar::{Jar, said, until};

/// Ends with 3 at SIGTERM; says `line N` at each SIGUSR1.
const SPEAKS: &str = "n=0; trap 'n=$((n+1)); echo line $n; echo err $n >&2' USR1; trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done";

fn line(reader: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

/// Lets the container speak until somebody who has just come has heard it.
fn until_heard(jar: &Jar, name: &str, reader: &mut BufReader<ChildStdout>) -> String {
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(line(reader)));
        loop {
            jar.does(&["kill", "-s", "USR1", name]);
            if let Ok(line) = heard.recv_timeout(std::time::Duration::from_millis(50)) {
                return line;
            }
        }
    })
}

#[test]
fn two_who_attach_see_the_same_and_both_learn_the_exit_code() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "stage", &[], SPEAKS);
    let mut all: Vec<_> = (0..2).map(|_| begun(&jar, &["attach", "stage"])).collect();
    let mut readers: Vec<_> = all.iter_mut().map(|child| BufReader::new(child.stdout.take().unwrap())).collect();
    readers.iter_mut().for_each(|reader| drop(until_heard(&jar, "stage", reader)));
    jar.does(&["stop", "stage"]);
    let rest: Vec<String> = readers
        .iter_mut()
        .map(|reader| {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            rest
        })
        .collect();
    assert!(rest[0].ends_with(&rest[1]) || rest[1].ends_with(&rest[0]), "{rest:?}");
    for child in all {
        let told = said(child.wait_with_output().unwrap());
        assert_eq!(told.code, 3, "{told:?}");
        assert!(told.err.contains("err "), "its standard error comes as standard error");
    }
}

#[test]
fn a_signal_to_whoever_looks_reaches_the_container_unless_told_otherwise() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "stage", &[], SPEAKS);
    let mut looks = begun(&jar, &["attach", "--sig-proxy=false", "stage"]);
    let mut reader = BufReader::new(looks.stdout.take().unwrap());
    until_heard(&jar, "stage", &mut reader);
    kill(Pid::from_raw(looks.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(said(looks.wait_with_output().unwrap()).code, 143);
    assert!(init(&jar, "stage").lives());

    let mut looks = begun(&jar, &["attach", "stage"]);
    let mut reader = BufReader::new(looks.stdout.take().unwrap());
    until_heard(&jar, "stage", &mut reader);
    kill(Pid::from_raw(looks.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(said(looks.wait_with_output().unwrap()).code, 3);
    assert_eq!(state(&jar, "stage", "exitCode"), 3);
}

#[test]
fn what_is_typed_reaches_a_container_that_listens_and_its_input_stays_open() {
    let Some(jar) = Jar::new() else { return };
    let id =
        jar.does(&["run", "-d", "-i", "--name", "ear", "base", "sh", "-c", "while read -r line; do echo \"got $line\"; done; echo over; exit 6"]);
    for n in ["one", "two"] {
        let mut types = begun(&jar, &["attach", "ear"]);
        types.stdin.take().unwrap().write_all(format!("{n}\n").as_bytes()).unwrap();
        until_logged(&jar, &id, &format!("got {n}"), 1);
        // Its input has ended, and it looks on.
        assert!(types.try_wait().unwrap().is_none());
        types.kill().unwrap();
        types.wait().unwrap();
    }
    assert!(!logged(&jar, &id).contains("over"));
    // One that has no input doesn't wait for any.
    background(&jar, "deaf", &[], POLITE);
    let deaf = begun(&jar, &["attach", "deaf"]);
    jar.does(&["stop", "deaf"]);
    assert_eq!(said(deaf.wait_with_output().unwrap()).code, 3);
    fails(&jar, &["attach", "deaf"], 1, &["cannot attach to a stopped container, start it first"]);
    fails(&jar, &["attach", "nobody"], 1, &["No such container: nobody"]);
}

#[test]
fn run_a_shows_the_streams_that_it_names_and_the_log_keeps_all() {
    let Some(jar) = Jar::new() else { return };
    let script = "echo out; echo err >&2; exit 5";
    for (n, (options, out, err)) in
        [(&["-a", "stdout"][..], "out\n", ""), (&["-a", "stderr"], "", "err\n"), (&["-a", "stdout", "-a", "STDERR"], "out\n", "err\n")]
            .iter()
            .enumerate()
    {
        let name = format!("a{n}");
        let said = jar.says(&[&["run", "--name", &name], *options, &["base", "sh", "-c", script]].concat());
        assert_eq!((said.code, &*said.out, &*said.err), (5, *out, *err), "{options:?}");
        let mut lines: Vec<String> = logged(&jar, &jar.id_of(&name).unwrap()).lines().map(String::from).collect();
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
    }
    let said = fed(&jar, &["run", "--rm", "-i", "-a", "stdin", "-a", "stdout", "base", "sh", "-c", "cat; echo unseen >&2"], b"typed");
    assert_eq!((said.code, &*said.out, &*said.err), (0, "typed", ""));
}

#[test]
fn output_larger_than_a_pipe_just_before_the_end_is_not_cut() {
    let Some(jar) = Jar::new() else { return };
    let script = "trap go=1 USR1; echo ready; while [ -z \"$go\" ]; do echo tick; sleep 0.02; done; seq 1 100000; seq 1 50000 >&2; exit 2";
    let id = background(&jar, "much", &[], script);
    let mut looks = begun(&jar, &["attach", "much"]);
    // A first line from the container: it is attached.
    let mut out = BufReader::new(looks.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    let reading = std::thread::spawn(move || out.lines().map(Result::unwrap).filter(|line| line != "tick" && line != "ready").collect::<Vec<_>>());
    jar.does(&["kill", "-s", "USR1", "much"]);
    let told = said(looks.wait_with_output().unwrap());
    let lines = reading.join().unwrap();
    assert_eq!((told.code, lines.len(), told.err.lines().count()), (2, 100_000, 50_000));
    assert!(lines.last().unwrap() == "100000" && told.err.ends_with("50000\n"));
    assert_eq!(logged(&jar, &id).lines().filter(|line| *line != "tick").count(), 150_001);
}

/// How many sockets its monitor has open: one for calls, and one for each caller.
fn monitor_sockets(jar: &Jar, name: &str) -> usize {
    let entries = std::fs::read_dir(monitor(jar, name).path("fd")).into_iter().flatten().flatten();
    entries.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))).count()
}

#[test]
fn who_looks_and_is_killed_leaves_the_container_running() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "stage", &[], SPEAKS);
    let before = monitor_sockets(&jar, "stage");
    for _ in 0..3 {
        let mut looks = begun(&jar, &["attach", "stage"]);
        let mut reader = BufReader::new(looks.stdout.take().unwrap());
        until_heard(&jar, "stage", &mut reader);
        looks.kill().unwrap();
        looks.wait().unwrap();
    }
    until("its monitor has forgotten them", || monitor_sockets(&jar, "stage") == before);
    assert!(init(&jar, "stage").lives());
    assert_eq!(jar.does(&["stop", "stage"]), "stage");
}
