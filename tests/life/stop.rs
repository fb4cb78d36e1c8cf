//! `stop`, `kill`, `pause`, `rm`, `wait`: what reaches the first process, when, and what is left of it.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::life_jar::*;
use crate::support::jar::{Jar, said, until};
use crate::support::kernel::cgroups_named;

#[test]
fn stop_asks_and_the_program_chooses_its_exit_code() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "asked", &[], POLITE);
    assert_eq!(jar.does(&["stop", "asked"]), "asked");
    assert_eq!((state(&jar, "asked", "status"), state(&jar, "asked", "exitCode")), ("exited".into(), 3.into()));
    // One that doesn't run is stopped already.
    assert_eq!(jar.does(&["stop", "asked"]), "asked");
    background(&jar, "second", &[], POLITE);
    let said = fails(&jar, &["stop", "asked", "nobody", "second"], 1, &["No such container: nobody"]);
    assert_eq!(said.out, "asked\nsecond\n");
}

#[test]
fn who_ignores_sigterm_dies_at_the_deadline_and_not_later() {
    let Some(jar) = Jar::new() else { return };
    // As the command says, as the container says (the command's word counts more), and the two with their default of ten seconds apart.
    let cases: [(&[&str], &[&str]); 3] = [
        (&[], &["stop", "-t", "1", "deaf0"]),
        (&["--stop-timeout", "1"], &["stop", "deaf1"]),
        (&["--stop-timeout", "60"], &["stop", "--time=1", "deaf2"]),
    ];
    for (n, (options, stop)) in cases.iter().enumerate() {
        let name = format!("deaf{n}");
        background(&jar, &name, options, STUBBORN);
        let began = Instant::now();
        jar.does(stop);
        assert!(began.elapsed() >= Duration::from_secs(1), "it had its second");
        assert!(began.elapsed() < Duration::from_secs(9), "and no more: {:?}", began.elapsed());
        assert_eq!(state(&jar, &name, "exitCode"), 137);
    }
    background(&jar, "deaf3", &[], STUBBORN);
    jar.does(&["stop", "-t", "0", "deaf3"]);
    assert_eq!(state(&jar, "deaf3", "exitCode"), 137);
}

#[test]
fn the_stop_signal_is_the_containers_or_the_commands() {
    let Some(jar) = Jar::new() else { return };
    let script = "trap 'exit 11' USR1; trap 'exit 12' INT; echo ready; while :; do sleep 1000 & wait $!; done";
    background(&jar, "usr1", &["--stop-signal", "SIGUSR1"], script);
    jar.does(&["stop", "-t", "60", "usr1"]);
    assert_eq!(state(&jar, "usr1", "exitCode"), 11);
    background(&jar, "int", &["--stop-signal", "SIGUSR1"], script);
    jar.does(&["stop", "-t", "60", "-s", "INT", "int"]);
    assert_eq!(state(&jar, "int", "exitCode"), 12);
    fails(&jar, &["stop", "-s", "NOPE", "int"], 1, &["NOPE"]);
}

#[test]
fn kill_sends_signals_by_name_and_by_number() {
    let Some(jar) = Jar::new() else { return };
    let script = "for s in USR1 USR2 HUP; do trap \"echo got $s\" $s; done; trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done";
    let id = background(&jar, "heard", &[], script);
    for (times, word) in ["SIGUSR1", "USR1", "usr1", "10"].iter().enumerate() {
        assert_eq!(jar.does(&["kill", "-s", word, "heard"]), "heard");
        until_logged(&jar, &id, "got USR1", times + 1);
    }
    jar.does(&["kill", "--signal=HUP", "heard"]);
    until_logged(&jar, &id, "got HUP", 1);
    fails(&jar, &["kill", "-s", "NOPE", "heard"], 1, &["NOPE"]);
    fails(&jar, &["kill", "-s", "99", "heard"], 1, &["99"]);
    jar.does(&["kill", "--signal=SIGTERM", "heard"]);
    assert_eq!(jar.does(&["wait", "heard"]), "5");
    fails(&jar, &["kill", "heard"], 1, &["is not running"]);
    jar.does(&["start", "heard"]);
    until_logged(&jar, &id, "ready", 2);
    jar.does(&["kill", "heard"]);
    assert_eq!((state(&jar, "heard", "status"), state(&jar, "heard", "exitCode")), ("exited".into(), 137.into()));
}

#[test]
fn stop_and_kill_of_all_its_processes_leave_no_cgroup() {
    let Some(jar) = Jar::new() else { return };
    let id = background(&jar, "many", &[], "for i in 1 2 3; do (trap '' TERM; exec sleep 1000) & done; echo ready; wait");
    assert!(!cgroups_named(&id).is_empty());
    jar.does(&["kill", "many"]);
    assert_eq!(cgroups_named(&id), Vec::<std::path::PathBuf>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&id), "its root is no longer mounted");
}

#[test]
fn pause_freezes_every_process_until_unpause() {
    let Some(jar) = Jar::new() else { return };
    let id = background(&jar, "cold", &[], "echo ready; i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.01; done");
    let count = || jar_file(&jar, &id, "upper/count");
    until("it counts", || !count().is_empty());
    assert_eq!(jar.does(&["pause", "cold"]), "cold");
    let frozen = count();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(count(), frozen);
    assert!(frozen_says(&jar, "cold"), "the kernel's freezer holds it");
    fails(&jar, &["pause", "cold"], 1, &["is already paused"]);
    fails(&jar, &["exec", "cold", "true"], 1, &["is paused, unpause the container before exec"]);
    fails(&jar, &["attach", "--no-stdin", "cold"], 1, &["cannot attach to a paused container"]);
    fails(&jar, &["rm", "cold"], 1, &["cold", "paused"]);
    assert_eq!(jar.does(&["unpause", "cold"]), "cold");
    until("it goes on", || count() != frozen);
    fails(&jar, &["unpause", "cold"], 1, &["is not paused"]);
    jar.does(&["stop", "-t", "0", "cold"]);
    fails(&jar, &["pause", "cold"], 1, &["is not running"]);
}

fn jar_file(jar: &Jar, id: &str, name: &str) -> String {
    fs::read_to_string(jar.root.join("data/containers").join(id).join(name)).unwrap_or_default()
}

fn frozen_says(jar: &Jar, name: &str) -> bool {
    let groups = state(jar, name, "cgroup");
    let old = groups["legacy"]["freezer"].as_str().map(|dir| fs::read_to_string(format!("{dir}/freezer.state")).unwrap_or_default());
    let new = groups["unified"].as_str().map(|dir| fs::read_to_string(format!("{dir}/cgroup.events")).unwrap_or_default());
    old.is_some_and(|text| text.trim() == "FROZEN") || new.is_some_and(|text| text.contains("frozen 1"))
}

#[test]
fn stop_kill_and_rm_end_a_paused_container() {
    let Some(jar) = Jar::new() else { return };
    for words in [&["stop", "-t", "20", "cold"][..], &["kill", "cold"], &["restart", "-t", "20", "cold"]] {
        background(&jar, "cold", &[], POLITE);
        jar.does(&["pause", "cold"]);
        let before = init(&jar, "cold");
        jar.does(words);
        assert!(!before.lives(), "{words:?}");
        jar.does(&["rm", "-f", "cold"]);
    }
    background(&jar, "cold", &[], POLITE);
    jar.does(&["pause", "cold"]);
    jar.does(&["rm", "-f", "cold"]);
    jar.assert_nothing_left();
}

#[test]
fn a_running_container_is_not_removed_without_force() {
    let Some(jar) = Jar::new() else { return };
    let id = background(&jar, "busy", &[], POLITE);
    jar.does(&["create", "--name", "idle", "base", "true"]);
    jar.does(&["create", "--name", "idle2", "base", "true"]);
    let said = fails(&jar, &["rm", "busy"], 1, &["busy", "is running", "stop the container before removing or force remove"]);
    assert_eq!(said.out, "");
    assert!(init(&jar, "busy").lives());
    // What can be removed is, and the exit code tells that not all could.
    let said = fails(&jar, &["rm", "idle", "nobody", "busy", "idle2"], 1, &["No such container: nobody", "busy"]);
    assert_eq!(said.out, "idle\nidle2\n");
    assert_eq!(jar.ids(), [id]);
    assert_eq!(jar.does(&["rm", "-f", "-v", "busy"]), "busy");
    jar.assert_nothing_left();
    // As under docker, with -f one that isn't there is told and is no failure.
    assert_eq!(fails(&jar, &["rm", "-f", "busy"], 0, &["No such container: busy"]).out, "");
}

#[test]
fn wait_tells_the_exit_codes_in_the_order_of_the_names() {
    let Some(jar) = Jar::new() else { return };
    let ends = |code: u8| format!("trap 'exit {code}' TERM; echo ready; while :; do sleep 1000 & wait $!; done");
    background(&jar, "four", &[], &ends(4));
    background(&jar, "five", &[], &ends(5));
    assert_eq!(jar.run(&["--name", "gone", "base", "true"]).code, 0);
    let waits = begun(&jar, &["wait", "four", "five"]);
    send(init(&jar, "five"), Signal::SIGTERM);
    until_status(&jar, "five", "exited");
    send(init(&jar, "four"), Signal::SIGTERM);
    let told = said(waits.wait_with_output().unwrap());
    assert_eq!((told.code, &*told.out), (0, "4\n5\n"), "{}", told.err);
    assert_eq!(jar.does(&["wait", "five"]), "5", "of one that has ended long ago");
    let said = fails(&jar, &["wait", "gone", "four"], 1, &["No such container: gone"]);
    assert_eq!(said.out, "4\n");
}

#[test]
fn wait_knows_the_exit_code_of_a_container_that_is_removed_with_its_end() {
    let Some(jar) = Jar::new() else { return };
    for _ in 0..3 {
        background(&jar, "brief", &["--rm"], "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait $!; done");
        let waits = [begun(&jar, &["wait", "brief"]), begun(&jar, &["wait", "brief"])];
        for wait in &waits {
            until("it waits", || waits_for_a_message(wait.id()));
        }
        send(init(&jar, "brief"), Signal::SIGTERM);
        for wait in waits {
            let told = said(wait.wait_with_output().unwrap());
            assert_eq!((told.code, &*told.out), (0, "7\n"), "{}", told.err);
        }
    }
    until("nothing is left", || jar.left().is_empty());
}

/// Whether it stands in recvmsg(2).
fn waits_for_a_message(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.starts_with(&format!("{} ", libc::SYS_recvmsg))
}

#[test]
fn restart_stops_and_starts_also_what_is_stopped_or_removes_itself() {
    let Some(jar) = Jar::new() else { return };
    let id = background(&jar, "anew", &["--stop-timeout", "60"], POLITE);
    let first = init(&jar, "anew");
    assert_eq!(jar.does(&["restart", "anew"]), "anew");
    assert!(!first.lives() && init(&jar, "anew").lives());
    until_logged(&jar, &id, "ready", 2);
    jar.does(&["stop", "anew"]);
    jar.does(&["restart", "-t", "5", "anew"]);
    assert!(init(&jar, "anew").lives());

    let id = background(&jar, "brief", &["--rm"], POLITE);
    jar.does(&["restart", "brief"]);
    until_logged(&jar, &id, "ready", 2);
    jar.does(&["stop", "brief"]);
    until("its end removes it still", || jar.id_of("brief").is_none());
}

#[test]
fn several_are_stopped_side_by_side_and_told_in_order() {
    let Some(jar) = Jar::new() else { return };
    let names = ["one", "two", "three", "four"];
    for name in names {
        // As process 1 it hears SIGTERM only if it asks to, and it doesn't.
        jar.does(&["run", "-d", "--name", name, "base", "sleep", "1000"]);
    }
    let began = Instant::now();
    let told = fails(&jar, &["stop", "-t", "6", "one", "two", "nobody", "three", "four"], 1, &["No such container: nobody"]);
    // One after the other, they would have had 24 seconds.
    assert!(began.elapsed() < Duration::from_secs(18), "{:?}", began.elapsed());
    assert_eq!(told.out, "one\ntwo\nthree\nfour\n");
    for name in names {
        assert_eq!(jar.does(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name]).trim(), "exited 137");
    }
}
