//! `--restart`: which container is started again, when, and how somebody puts an end to it.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::life_jar::*;
use crate::support::jar::{Jar, until};

fn restarts(jar: &Jar, name: &str) -> i64 {
    state(jar, name, "restarts").as_i64().unwrap()
}

#[track_caller]
fn until_another_life(jar: &Jar, name: &str, before: crate::support::kernel::Process) {
    until("it lives again", || {
        let init = state(jar, name, "init")["pid"].as_i64();
        init.is_some_and(|pid| pid as i32 != before.0) && state(jar, name, "status") == "running"
    });
}

#[test]
fn no_and_a_good_end_under_on_failure_are_the_end() {
    let Some(jar) = Jar::new() else { return };
    for (policy, code) in [("no", 1), ("on-failure", 0), ("on-failure:3", 0)] {
        let name = format!("ends-{}", policy.replace(':', "-"));
        jar.does(&["run", "-d", "--name", &name, "--restart", policy, "base", "sh", "-c", &format!("exit {code}")]);
        assert_eq!(jar.does(&["wait", &name]), code.to_string());
        assert_eq!((state(&jar, &name, "status"), restarts(&jar, &name)), ("exited".into(), 0), "{policy}");
    }
    fails(&jar, &["run", "--restart", "sometimes", "base", "true"], 125, &["sometimes"]);
    fails(&jar, &["run", "--restart", "always:3", "base", "true"], 125, &["always:3"]);
}

#[test]
fn on_failure_tries_as_often_as_it_says_and_waits_longer_each_time() {
    let Some(jar) = Jar::new() else { return };
    let id = jar.does(&["run", "-d", "--name", "tries", "--restart", "on-failure:3", "base", "sh", "-c", "echo life; exit 6"]);
    until_status(&jar, "tries", "exited");
    assert_eq!((state(&jar, "tries", "exitCode"), restarts(&jar, "tries")), (6.into(), 3));
    assert_eq!(jar.does(&["wait", "tries"]), "6");
    assert_eq!(logged(&jar, &id), "life\n".repeat(4));
    let times: Vec<f64> = fs::read_to_string(log_file(&jar, &id)).unwrap().lines().map(seconds).collect();
    for (gap, least) in times.windows(2).zip([0.1, 0.2, 0.4]) {
        assert!(gap[1] - gap[0] >= least, "{times:?}");
    }
    // A start by hand counts anew.
    jar.does(&["start", "tries"]);
    assert_eq!(jar.does(&["wait", "tries"]), "6", "wait is over with the first end, as under docker");
    until_status(&jar, "tries", "exited");
    assert_eq!((restarts(&jar, "tries"), logged(&jar, &id)), (3, "life\n".repeat(8)));
}

/// The second of the hour in which a line was written.
fn seconds(line: &str) -> f64 {
    let line: Value = serde_json::from_str(line).unwrap();
    let time = line["time"].as_str().unwrap();
    time[14..16].parse::<f64>().unwrap() * 60.0 + time[17..].trim_end_matches('Z').parse::<f64>().unwrap()
}

#[test]
fn always_and_unless_stopped_come_back_until_somebody_stops_them() {
    let Some(jar) = Jar::new() else { return };
    for policy in ["always", "unless-stopped", "on-failure"] {
        let id = background(&jar, policy, &["--restart", policy], POLITE);
        let (first, monitor) = (init(&jar, policy), monitor(&jar, policy));
        send(first, Signal::SIGKILL);
        until_another_life(&jar, policy, first);
        assert_eq!(restarts(&jar, policy), 1);
        assert!(monitor.lives(), "one monitor for all lives");
        until_logged(&jar, &id, "ready", 2);
        assert_eq!(jar.does(&["stop", policy]), policy);
        assert!(
            !monitor.lives() || {
                std::thread::sleep(Duration::from_millis(300));
                !monitor.lives()
            }
        );
        assert_eq!((state(&jar, policy, "status"), state(&jar, policy, "exitCode"), restarts(&jar, policy)), ("exited".into(), 3.into(), 1));
    }
    // `kill` means it, too; any other signal is a word to the program.
    background(&jar, "shot", &["--restart", "always"], POLITE);
    jar.does(&["kill", "shot"]);
    assert_eq!(state(&jar, "shot", "status"), "exited");
}

#[test]
fn who_stops_it_while_it_waits_for_its_next_start_ends_the_waiting() {
    let Some(jar) = Jar::new() else { return };
    for (name, words) in [("stopped", &["stop", "stopped"][..]), ("killed", &["kill", "killed"]), ("removed", &["rm", "-f", "removed"])] {
        jar.does(&["run", "-d", "--name", name, "--restart", "always", "base", "sh", "-c", "exit 1"]);
        // The third wait is 400 ms long, and they get longer.
        until("it waits", || restarts(&jar, name) >= 2 && state(&jar, name, "status") == "restarting");
        assert!(fails(&jar, &["exec", name, "true"], 1, &[]).err.contains("restarting"));
        let monitor = monitor(&jar, name);
        assert_eq!(jar.does(words), name);
        until("its monitor has gone", || !monitor.lives());
        if name == "removed" {
            assert_eq!(jar.id_of(name), None);
        } else {
            assert_eq!(state(&jar, name, "status"), "exited");
            jar.does(&["rm", name]);
        }
    }
    jar.assert_nothing_left();
}

#[test]
fn a_restarting_container_can_be_restarted_by_hand() {
    let Some(jar) = Jar::new() else { return };
    let script = "test -e /well && { echo well; exec sleep 1000; }; touch /well.not; exit 1";
    let id = jar.does(&["run", "-d", "--name", "flaps", "--restart", "always", "base", "sh", "-c", script]);
    until("it waits", || restarts(&jar, "flaps") >= 2 && state(&jar, "flaps", "status") == "restarting");
    let well = jar.root.join("well");
    fs::write(&well, "").unwrap();
    jar.does(&["cp", &well.display().to_string(), "flaps:/well"]);
    jar.does(&["restart", "flaps"]);
    until_logged(&jar, &id, "well", 1);
    assert_eq!((state(&jar, "flaps", "status"), restarts(&jar, "flaps")), ("running".into(), 0));
    jar.does(&["stop", "-t", "0", "flaps"]);
}

#[test]
fn update_changes_the_policy_of_a_container_that_runs() {
    let Some(jar) = Jar::new() else { return };
    let id = background(&jar, "learns", &[], POLITE);
    assert_eq!(jar.does(&["update", "--restart", "always", "learns"]), "learns");
    let first = init(&jar, "learns");
    send(first, Signal::SIGKILL);
    until_another_life(&jar, "learns", first);
    until_logged(&jar, &id, "ready", 2);
    jar.does(&["update", "--restart", "no", "learns"]);
    send(init(&jar, "learns"), Signal::SIGKILL);
    assert_eq!(jar.does(&["wait", "learns"]), "137");
    assert_eq!(state(&jar, "learns", "status"), "exited");
    background(&jar, "brief", &["--rm"], POLITE);
    fails(&jar, &["update", "--restart", "always", "brief"], 1, &["AutoRemove"]);
}

#[test]
fn new_limits_hold_now_and_in_every_later_life() {
    let Some(jar) = Jar::new() else { return };
    let id = background(&jar, "grows", &["--restart", "always", "--memory", "64m", "--pids-limit", "50"], POLITE);
    let limits = || {
        let init = init(&jar, "grows");
        let read = |controller: &str, files: [&str; 2]| {
            let dir = init.cgroup(controller);
            files.iter().find_map(|file| fs::read_to_string(dir.join(file)).ok()).unwrap_or_default().trim().to_string()
        };
        (read("memory", ["memory.limit_in_bytes", "memory.max"]), read("pids", ["pids.max", "pids.max"]))
    };
    assert_eq!(limits(), ((64 << 20).to_string(), "50".into()));
    jar.does(&["update", "--memory", "96m", "--memory-swap", "-1", "--pids-limit", "60", "--cpus", "0.5", "grows"]);
    let new = ((96 << 20).to_string(), "60".to_string());
    assert_eq!(limits(), new);
    // Started again by its policy, in the same monitor.
    let first = init(&jar, "grows");
    send(first, Signal::SIGKILL);
    until_another_life(&jar, "grows", first);
    until_logged(&jar, &id, "ready", 2);
    assert_eq!(limits(), new, "after the restart by its policy");
    jar.does(&["restart", "grows"]);
    assert_eq!(limits(), new, "after the restart by hand");
}
