//! The monitor itself: how much it needs, what it leaves, and what happens to whoever kills it.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;

use super::life_jar::*;
use crate::support::jar::{Jar, until};
use crate::support::kernel::{Process, all_processes};
use crate::support::peer;

/// Anonymous memory of its own, in kB.
fn own_memory(process: Process) -> u64 {
    process.status("RssAnon").split(' ').next().unwrap().parse().unwrap()
}

/// In kB. What is compiled without optimization has a deeper stack and more to relocate.
const MOST: u64 = if cfg!(debug_assertions) { 4096 } else { 2048 };

/// A clock that goes 1000 times faster, and waits that are as much shorter: two hundred restarts fit into a test.
const FAST_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    static struct timespec first;
    if (syscall(SYS_clock_gettime, id, now)) return -1;
    if (id != CLOCK_MONOTONIC) return 0;
    if (!first.tv_sec) first = *now;
    long long past = (now->tv_sec - first.tv_sec) * 1000000000LL + (now->tv_nsec - first.tv_nsec);
    past *= 1000;
    now->tv_sec = first.tv_sec + past / 1000000000;
    now->tv_nsec = past % 1000000000;
    return 0;
}
int poll(struct pollfd *fds, nfds_t count, int timeout) {
    struct timespec wait = { timeout / 1000000, timeout % 1000000 * 1000L };
    return syscall(SYS_ppoll, fds, count, timeout < 0 ? (void *)0 : &wait, (void *)0, _NSIG / 8);
}
"#;

#[test]
fn two_hundred_restarts_cost_the_monitor_no_memory() {
    let Some(jar) = Jar::new() else { return };
    let Some(cc) = peer("cc") else { return };
    let (source, library) = (jar.root.join("clock.c"), jar.root.join("clock.so"));
    fs::write(&source, FAST_CLOCK).unwrap();
    assert!(Command::new(cc).args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).status().unwrap().success());
    let script = "seq 1 300; exit 1";
    let begun = jar.onggi(&["run", "-d", "--name", "flaps", "--restart", "always", "base", "sh", "-c", script]).env("LD_PRELOAD", &library).output();
    assert!(begun.unwrap().status.success());
    let monitor = monitor(&jar, "flaps");
    let restarts = || state(&jar, "flaps", "restarts").as_i64().unwrap();
    let mut early = 0;
    let began = std::time::Instant::now();
    while restarts() < 200 {
        assert!(began.elapsed().as_secs() < 120 && monitor.lives(), "{} restarts, {:?}", restarts(), state(&jar, "flaps", "error"));
        if early == 0 && restarts() >= 20 {
            early = own_memory(monitor);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let late = own_memory(monitor);
    let open = fs::read_dir(monitor.path("fd")).unwrap().count();
    jar.does(&["stop", "-t", "0", "flaps"]);
    assert!(late < MOST, "{late} kB of its own");
    assert!(late <= early + 128, "{early} kB after 20 restarts, {late} kB after 200");
    assert!(open < 40, "{open} descriptors");
}

#[test]
fn a_monitor_has_one_thread_and_little_memory() {
    let Some(jar) = Jar::new() else { return };
    let id = background(&jar, "small", &[], "echo ready; seq 1 200000; echo done; exec sleep 1000");
    until_logged(&jar, &id, "done", 1);
    let monitor = monitor(&jar, "small");
    assert_eq!(monitor.status("Threads"), "1");
    assert!(own_memory(monitor) < MOST, "{} kB", own_memory(monitor));
    assert_eq!(monitor.read("comm").trim(), "onggi-monitor");
}

#[test]
fn the_monitor_of_a_command_that_had_much_to_do_is_small_too() {
    if Jar::new().is_none() {
        return;
    }
    // There is no image here yet: `run` makes it first.
    let jar = Jar::empty();
    jar.does(&["run", "-d", "--name", "first", "base", "sleep", "1000"]);
    let memory = own_memory(monitor(&jar, "first"));
    assert!(memory < MOST, "{memory} kB");
}

#[test]
fn sigterm_to_a_monitor_stops_its_container_as_stop_would() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "calm", &["--restart", "always"], POLITE);
    let monitor = monitor(&jar, "calm");
    send(monitor, Signal::SIGTERM);
    until("the monitor has gone", || !monitor.lives());
    assert_eq!((state(&jar, "calm", "status"), state(&jar, "calm", "exitCode")), ("exited".into(), 3.into()));
    // The machine goes down so, and comes up again.
    assert_eq!(jar.does(&["system", "boot"]), "calm");
    assert!(init(&jar, "calm").lives());
    jar.does(&["rm", "-f", "calm"]);

    // One that doesn't listen gets SIGKILL in the end, one that is frozen too.
    background(&jar, "deaf", &["--stop-timeout", "1"], STUBBORN);
    let monitor_of_deaf = super::life_jar::monitor(&jar, "deaf");
    send(monitor_of_deaf, Signal::SIGTERM);
    until("the monitor has gone", || !monitor_of_deaf.lives());
    assert_eq!(state(&jar, "deaf", "exitCode"), 137);
    background(&jar, "cold", &["--stop-timeout", "1"], POLITE);
    jar.does(&["pause", "cold"]);
    let monitor_of_cold = super::life_jar::monitor(&jar, "cold");
    send(monitor_of_cold, Signal::SIGTERM);
    until("the monitor has gone", || !monitor_of_cold.lives());
    assert_eq!(state(&jar, "cold", "status"), "exited");
}

#[test]
fn kill_9_of_a_monitor_ends_its_container_and_the_next_command_says_so() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "orphan", &["--restart", "always"], POLITE);
    let (init, monitor) = (init(&jar, "orphan"), monitor(&jar, "orphan"));
    send(monitor, Signal::SIGKILL);
    until("the kernel ends its container", || !init.lives());
    let status = jar.does(&["ps", "-a", "--format", "{{.Status}}"]);
    assert!(status.starts_with("Exited (137)"), "{status}");
    fails(&jar, &["exec", "orphan", "true"], 1, &["is not running"]);
    assert_eq!(state(&jar, "orphan", "status"), "exited");
    jar.does(&["start", "orphan"]);
    jar.does(&["rm", "-f", "orphan"]);
    jar.assert_nothing_left();
}

#[test]
fn kill_9_of_a_monitor_between_two_lives_leaves_a_container_that_has_ended() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["run", "-d", "--name", "flaps", "--restart", "always", "base", "sh", "-c", "exit 8"]);
    until("it waits", || state(&jar, "flaps", "restarts").as_i64() >= Some(2) && state(&jar, "flaps", "status") == "restarting");
    let monitor = monitor(&jar, "flaps");
    send(monitor, Signal::SIGKILL);
    until("it has gone", || !monitor.lives());
    let status = jar.does(&["ps", "-a", "--format", "{{.Status}}"]);
    assert!(status.starts_with("Exited (8)"), "its own exit code is known: {status}");
    assert_eq!(jar.does(&["wait", "flaps"]), "8");
    jar.does(&["rm", "flaps"]);
    jar.assert_nothing_left();
}

#[test]
fn a_command_that_is_killed_takes_nothing_with_it() {
    let Some(jar) = Jar::new() else { return };
    let mut front = begun(&jar, &["run", "--name", "front", "base", "sh", "-c", POLITE]);
    until("it runs", || jar.id_of("front").is_some_and(|id| logged(&jar, &id).contains("ready")));
    front.kill().unwrap();
    front.wait().unwrap();
    assert!(init(&jar, "front").lives(), "its monitor looks after it, as a daemon would");
    assert_eq!(jar.does(&["stop", "front"]), "front");
    assert_eq!(state(&jar, "front", "exitCode"), 3);
}

#[test]
fn monitors_and_helpers_leave_no_zombies() {
    let Some(jar) = Jar::new() else { return };
    // Each life ends in the middle of a health check.
    let options = ["--restart", "always", "--health-cmd", "sleep 1000", "--health-interval", "10ms"];
    let script = "echo ready; sleep 0.3; exit 1";
    background(&jar, "sick", &options, script);
    until("it has lived four times", || state(&jar, "sick", "restarts").as_i64() >= Some(3));
    let monitor = monitor(&jar, "sick");
    let children = all_processes().into_iter().filter(|process| {
        let stat = process.read("stat");
        let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        fields.first() == Some(&"Z") && fields.get(1) == Some(&&*monitor.0.to_string())
    });
    assert!(children.count() <= 1, "the dead of earlier lives are not kept");
    jar.does(&["rm", "-f", "sick"]);
}
