//! The machine's restart, and PIDs that mean somebody else by now.

use std::fs;
use std::process::{Child, Command};

use serde_json::{Value, json};

use super::life_jar::*;
use crate::support::jar::{Jar, until};

/// Changes a container's record as it is on disk.
fn forge(jar: &Jar, name: &str, change: impl FnOnce(&mut Value)) {
    let id = jar.id_of(name).unwrap();
    let mut record = jar.record(&id).unwrap();
    change(&mut record);
    fs::write(jar.root.join("data/containers").join(&id).join("container.json"), record.to_string()).unwrap();
}

/// As after a power cut: all processes are gone, and all that was not on disk.
fn cut_the_power(jar: &Jar, running: &[&str]) {
    for name in running {
        let (init, monitor) = (init(jar, name), monitor(jar, name));
        send(monitor, nix::sys::signal::Signal::SIGKILL);
        until("it has gone", || !monitor.lives() && !init.lives());
        forge(jar, name, |record| record["state"]["boot"] = "another life of this machine".into());
    }
    // What the kernel keeps in memory a real restart takes away, too.
    for name in running {
        for group in crate::support::kernel::cgroups_named(&jar.id_of(name).unwrap()) {
            let _ = fs::remove_dir(group);
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = jar.root.display().to_string();
    for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(&root)) {
        assert!(Command::new("umount").args(["-l", point]).status().unwrap().success());
    }
    fs::remove_dir_all(jar.root.join("run")).unwrap();
}

#[test]
fn after_the_machines_restart_those_come_back_whose_policy_says_so() {
    let Some(jar) = Jar::new() else { return };
    for (name, policy) in [("always", "always"), ("unless", "unless-stopped"), ("failed", "on-failure"), ("plain", "no")] {
        background(&jar, name, &["--restart", policy], POLITE);
    }
    background(&jar, "unless-not", &["--restart", "unless-stopped"], POLITE);
    jar.does(&["stop", "unless-not"]);
    background(&jar, "always-stopped", &["--restart", "always"], POLITE);
    jar.does(&["stop", "always-stopped"]);
    jar.does(&["create", "--name", "never", "--restart", "always", "base", "sh", "-c", POLITE]);
    background(&jar, "brief", &["--rm"], POLITE);

    cut_the_power(&jar, &["always", "unless", "failed", "plain", "brief"]);
    let listed = jar.does(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    for name in ["always", "unless", "failed", "plain"] {
        assert!(listed.contains(&format!("{name} Exited (255)")), "{listed}");
    }
    assert!(listed.contains("never Created") && listed.contains("unless-not Exited (3)"), "{listed}");

    let mut started: Vec<String> = jar.does(&["system", "boot"]).lines().map(String::from).collect();
    started.sort();
    // Docker's `always` means: also one that was stopped by hand before.
    assert_eq!(started, ["always", "always-stopped", "failed", "unless"]);
    for name in &started {
        assert!(init(&jar, name).lives());
    }
    assert_eq!(jar.id_of("brief"), None, "--rm is kept, too");
    assert_eq!(jar.does(&["system", "boot"]), "", "once is enough");
    for name in jar.does(&["ps", "-aq"]).lines() {
        jar.does(&["rm", "-f", name]);
    }
    jar.assert_nothing_left();
}

#[test]
fn the_unit_for_systemd_calls_this_command() {
    let Some(jar) = Jar::new() else { return };
    let unit = jar.does(&["system", "boot", "--unit"]);
    assert!(unit.contains("Type=oneshot") && unit.contains("system boot\n") && unit.contains("WantedBy="), "{unit}");
    let program = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")?.split(' ').next()).unwrap();
    assert!(fs::metadata(program).unwrap().is_file());
}

struct Stranger(Child);

impl Stranger {
    fn new() -> Stranger {
        Stranger(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Another start time than the one that the record remembers: this is not who it was.
    fn as_recorded(&self) -> Value {
        json!({ "pid": self.0.id(), "start_time": 1 })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stranger_who_got_the_pid_is_neither_signalled_nor_entered() {
    let Some(jar) = Jar::new() else { return };
    let mut stranger = Stranger::new();
    // The monitor lives, and the first process' PID is the stranger's.
    for (n, words) in
        [&["stop", "-t", "1"][..], &["kill"], &["kill", "-s", "USR1"], &["rm", "-f"], &["exec"], &["restart", "-t", "1"]].iter().enumerate()
    {
        let name = format!("reused{n}");
        let id = background(&jar, &name, &[], POLITE);
        let real = init(&jar, &name);
        forge(&jar, &name, |record| record["state"]["init"] = stranger.as_recorded());
        let state_file = jar.root.join("run/oci").join(&id).join("state.json");
        let mut oci: Value = serde_json::from_slice(&fs::read(&state_file).unwrap()).unwrap();
        oci["init"] = stranger.as_recorded();
        fs::write(&state_file, oci.to_string()).unwrap();
        let mut all = words.to_vec();
        all.push(&name);
        all.extend(words.first().filter(|word| **word == "exec").map(|_| "true"));
        let mut command = begun(&jar, &all);
        // The real one is still there, so that a stop may wait for ever: its end ends that.
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(stranger.lives(), "{words:?}");
        if real.lives() {
            send(real, nix::sys::signal::Signal::SIGKILL);
        }
        until("the command has ended", || command.try_wait().unwrap().is_some());
        assert!(stranger.lives(), "{words:?}");
        jar.says(&["rm", "-f", &name]);
    }
    assert!(stranger.lives());
}

#[test]
fn a_stranger_who_got_the_monitors_pid_makes_no_container_run() {
    let Some(jar) = Jar::new() else { return };
    let mut stranger = Stranger::new();
    background(&jar, "ghost", &[], POLITE);
    let monitor = monitor(&jar, "ghost");
    send(monitor, nix::sys::signal::Signal::SIGKILL);
    until("it has gone", || !monitor.lives());
    let id = jar.id_of("ghost").unwrap();
    forge(&jar, "ghost", |record| {
        record["state"]["monitor"] = stranger.as_recorded();
        record["state"]["init"] = stranger.as_recorded();
    });
    fs::write(jar.root.join("run/running").join(&id), stranger.as_recorded().to_string()).unwrap();
    assert_eq!(jar.does(&["ps", "-q"]), "");
    fails(&jar, &["exec", "ghost", "true"], 1, &["is not running"]);
    fails(&jar, &["kill", "ghost"], 1, &["is not running"]);
    jar.does(&["stop", "ghost"]);
    jar.does(&["start", "ghost"]);
    jar.does(&["rm", "-f", "ghost"]);
    assert!(stranger.lives());
    jar.assert_nothing_left();
}
