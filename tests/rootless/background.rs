//! Containers in the background, without root's rights: each command is a process of its own, and all must meet in one user namespace.
//!
//! See it: `ls ONGGI_ROOT/run/userns` while one runs. Read: user_namespaces(7).

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::HomeOf;

/// The PIDs of those that are said to live in the user namespace.
pub fn members(home: &HomeOf) -> Vec<String> {
    let entries = std::fs::read_dir(home.dir.join("onggi-root/run/userns")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Those of them that are monitors and commands: the keeper of the networks is there for them.
fn guests(home: &HomeOf) -> usize {
    let is_keeper = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "onggi-network\n");
    members(home).iter().filter(|pid| !is_keeper(pid)).count()
}

/// Asserts that something comes true.
#[track_caller]
pub fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn containers_live_on_and_stay_within_reach(home: &HomeOf) {
    // The base image is made by the first who needs it.
    home.shows(&["base", "true"]);
    commands_at_once_meet_in_one_namespace(home);
    every_verb_reaches_a_container(home);
    a_killed_command_leaves_its_container_within_reach(home);
    a_command_killed_anywhere_leaves_the_next_one_a_way(home);
    policies_and_health_checks_work(home);
}

fn commands_at_once_meet_in_one_namespace(home: &HomeOf) {
    soon("the next ones will be the first", || members(home).is_empty());
    let names = ["one", "two", "three", "four"];
    let begun: Vec<_> = names
        .iter()
        .map(|name| home.command(&["run", "-d", "--name", name, "base", "sleep", "1000"]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut command in begun {
        assert!(command.wait().unwrap().success());
    }
    let namespaces: Vec<_> = names.iter().map(|name| home.says(&["exec", name, "readlink", "/proc/self/ns/user"])).collect();
    assert!(namespaces.iter().all(|namespace| *namespace == namespaces[0]), "{namespaces:?}");
    soon("the four monitors are its members, and no command any more", || guests(home) == 4);
    home.says(&["rm", "-f", "one", "two", "three", "four"]);
    soon("the namespace went with its last process", || members(home).is_empty());
}

fn every_verb_reaches_a_container(home: &HomeOf) {
    home.says(&["run", "-d", "--name", "jar", "base", "sh", "-c", "trap 'exit 5' TERM; trap 'touch /heard' USR1; while :; do sleep 0.1; done"]);
    assert_eq!(home.says(&["exec", "jar", "id", "-u"]), "0");
    // No cgroup was delegated here: that is said, with the remedy, and the container runs on.
    let paused = home.onggi(&["pause", "jar"]);
    assert!(paused.code == 1 && paused.err.contains("it has no cgroup") && paused.err.contains("onggi doctor"), "{paused:?}");
    home.says(&["kill", "-s", "USR1", "jar"]);
    soon("the signal has come", || home.onggi(&["exec", "jar", "test", "-e", "/heard"]).code == 0);
    home.says(&["restart", "jar"]);
    home.says(&["stop", "jar"]);
    assert_eq!(home.says(&["wait", "jar"]), "5");
    home.says(&["start", "jar"]);
    // It reads what came before, and its exit code is the container's.
    let attached = home.command(&["attach", "--no-stdin", "jar"]).stdout(Stdio::piped()).spawn().unwrap();
    soon("the command is a member, too", || guests(home) == 2);
    home.says(&["exec", "-d", "jar", "sh", "-c", "echo from inside > /proc/1/fd/1; kill -TERM 1"]);
    let output = attached.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stdout)), (Some(5), "from inside\n"));
    home.says(&["rm", "jar"]);
}

fn a_killed_command_leaves_its_container_within_reach(home: &HomeOf) {
    let mut command = home.command(&["run", "--name", "jar", "base", "sleep", "1000"]).spawn().unwrap();
    soon("the container runs", || home.onggi(&["exec", "jar", "true"]).code == 0);
    command.kill().unwrap();
    command.wait().unwrap();
    assert_eq!(home.says(&["exec", "jar", "cat", "/proc/1/comm"]), "sleep");
    soon("the entry of the killed one is cleared by the next", || home.onggi(&["exec", "jar", "true"]).code == 0 && guests(home) == 1);
    home.says(&["rm", "-f", "jar"]);
    soon("nobody is left", || members(home).is_empty());
}

/// Before each of its system calls, up to where the container's own making begins.
fn a_command_killed_anywhere_leaves_the_next_one_a_way(home: &HomeOf) {
    for call in 1..=16 {
        let plan = format!("create:{call}=kill");
        let killed = home.command(&["run", "-d", "--name", "killed", "base", "sleep", "1000"]).env("ONGGI_FAULT", plan).output().unwrap();
        home.says(&["run", "-d", "--name", "next", "base", "sleep", "1000"]);
        home.says(&["exec", "next", "true"]);
        if killed.status.success() {
            home.says(&["exec", "killed", "true"]);
        }
        home.says(&["rm", "-f", "next", "killed"]);
        soon("nobody is left", || members(home).is_empty());
    }
}

fn policies_and_health_checks_work(home: &HomeOf) {
    let told = |id: &str| std::fs::read_to_string(home.dir.join("onggi-root/data/containers").join(id).join("container.json")).unwrap_or_default();
    let id = home.says(&["run", "-d", "--restart", "always", "base", "sh", "-c", "sleep 0.1; exit 3"]);
    soon("it was started again twice", || told(&id).contains("\"restarts\":2"));
    home.says(&["rm", "-f", &id]);
    let check = ["--health-cmd", "test -e /ready", "--health-interval", "100ms"];
    let id = home.says(&[&["run", "-d"], &check[..], &["base", "sleep", "1000"]].concat());
    home.says(&["exec", &id, "touch", "/ready"]);
    soon("the check has run inside", || told(&id).contains("\"status\":\"healthy\""));
    home.says(&["rm", "-f", &id]);
    let id = home.says(&["run", "-d", "--rm", "base", "sleep", "0.1"]);
    soon("it went with its end", || told(&id).is_empty());
}

pub fn other_users_of_the_image_come_from_the_range(home: &HomeOf) {
    let id = home.says(&["run", "-d", "-u", "33:33", "base", "sleep", "1000"]);
    assert_eq!(home.says(&["exec", &id, "id", "-u"]), "33");
    assert_eq!(home.says(&["exec", "-u", "5:7", &id, "sh", "-c", "touch /tmp/x; stat -c %u:%g /tmp/x"]), "5:7");
    let outside = std::fs::metadata(home.dir.join("onggi-root/data/containers").join(&id).join("upper/tmp/x")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&outside), 300_004);
    // Other ids by now: the container is reached all the same, and the user is told.
    std::fs::write(home.dir.join("subid"), "jarmaker:400000:65536\n").unwrap();
    let said = home.onggi(&["exec", "-u", "5", &id, "id", "-u"]);
    assert!(said.out == "5\n" && said.err.contains("other user and group ids"), "{said:?}");
    std::fs::write(home.dir.join("subid"), "jarmaker:300000:65536\n").unwrap();
    home.says(&["rm", "-f", &id]);
}
