//! Random commands in several processes at once, with `kill -9` of commands, monitors and containers thrown in; after each step what is
//! on disk and in the kernel is compared with what must be true.
//!
//! `ONGGI_SURVIVAL_SEED=7 ONGGI_SURVIVAL_STEPS=10000 cargo test --test survival` replays, or goes on for longer.
//!
//! See it: `watch onggi ps -a` beside it. Read: signal(7), flock(2), rename(2).

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use support::jar::{Jar, Said, until};

/// xorshift64*: the same seed gives the same commands.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// What must be true of a container that one worker alone touches. Several, when a command was killed in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Absent,
    Created,
    Running,
    Paused,
    Exited,
}

/// Counts up, ends by itself at SIGTERM, and says each number once.
const PROGRAM: &str = "trap 'exit 0' TERM; i=0; while :; do echo $i; echo e$i >&2; i=$((i+1)); sleep 0.01; done";

struct Worker<'a> {
    jar: &'a Jar,
    number: u64,
    dice: Dice,
    /// Each of its own containers, and what it may be.
    model: BTreeMap<String, Vec<Is>>,
    told: Vec<String>,
}

impl Worker<'_> {
    fn step(&mut self) {
        let name = format!("w{}-{}", self.number, self.dice.roll(3));
        let before = self.model.get(&name).cloned().unwrap_or(vec![Is::Absent]);
        let (words, after): (Vec<&str>, fn(Is) -> Is) = match self.dice.roll(14) {
            0..=2 => (vec!["run", "-d", "--name", &name, "base", "sh", "-c", PROGRAM], |is| if is == Is::Absent { Is::Running } else { is }),
            3 => (vec!["create", "--name", &name, "base", "sh", "-c", PROGRAM], |is| if is == Is::Absent { Is::Created } else { is }),
            4 | 5 => (vec!["start", &name], |is| match is {
                Is::Created | Is::Exited => Is::Running,
                other => other,
            }),
            6 => (vec!["stop", "-t", "5", &name], |is| match is {
                Is::Running | Is::Paused => Is::Exited,
                other => other,
            }),
            7 => (vec!["restart", "-t", "5", &name], |is| if is == Is::Absent { is } else { Is::Running }),
            8 => (vec!["kill", &name], |is| match is {
                Is::Running | Is::Paused => Is::Exited,
                other => other,
            }),
            9 => (vec!["pause", &name], |is| if is == Is::Running { Is::Paused } else { is }),
            10 => (vec!["unpause", &name], |is| if is == Is::Paused { Is::Running } else { is }),
            11 => (vec!["rm", &name], |is| if matches!(is, Is::Created | Is::Exited) { Is::Absent } else { is }),
            12 => (vec!["rm", "-f", &name], |_| Is::Absent),
            _ => (vec!["exec", &name, "true"], |is| is),
        };
        self.told.push(format!("{} ({before:?})", words[..words.len().min(5)].join(" ")));
        let mut after: Vec<Is> = before.iter().map(|is| after(*is)).collect();
        // A stop signal waits in a frozen container until that goes on: what is true then is nobody's to say now.
        let may_be_killed = !(before.contains(&Is::Paused) && matches!(words[0], "stop" | "restart" | "kill"));
        match self.dice.roll(8) {
            0 if may_be_killed => {
                // The command is killed somewhere in the middle: it happened or it didn't. A restart has a state between the two.
                let mut command = self.jar.onggi(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                std::thread::sleep(Duration::from_millis(self.dice.roll(25)));
                let _ = command.kill();
                command.wait().unwrap();
                self.told.push("  killed".into());
                // What it had set going comes to its end: a signal that was sent, a monitor that was begun.
                std::thread::sleep(Duration::from_millis(300));
                after.extend(&before);
                let begun = before.contains(&Is::Absent) && matches!(words[0], "run" | "create");
                after.extend(begun.then_some(Is::Created));
                after.extend(matches!(words[0], "restart" | "stop" | "rm").then_some(Is::Exited).filter(|_| before != [Is::Absent]));
            }
            1 if before.iter().any(|is| matches!(is, Is::Running | Is::Paused)) => {
                // What stands frozen (on cgroup v1) can't die before it goes on.
                let whom = if self.dice.roll(2) == 0 || before.contains(&Is::Paused) { "monitor" } else { "init" };
                after = before.clone();
                self.kill_process(&name, whom);
                self.told.push(format!("  instead: kill -9 of its {whom}"));
                after.iter_mut().for_each(|is| {
                    if matches!(*is, Is::Running | Is::Paused) {
                        *is = Is::Exited;
                    }
                });
            }
            _ => {
                let Said { code, err, .. } = self.jar.says(&words);
                self.told.push(format!("  → {code} {}", err.lines().nth(1).unwrap_or("").trim()));
                assert!(code <= 1 || code == 125, "{}: {words:?} → {code}\n{err}", self.story());
            }
        }
        let is = self.look(&name, &after);
        self.model.insert(name, vec![is]);
    }

    fn kill_process(&self, name: &str, whom: &str) {
        let Some(record) = self.jar.id_of(name).and_then(|id| self.jar.record(&id)) else { return };
        let Some(pid) = record["state"][whom]["pid"].as_i64() else { return };
        let init = record["state"]["init"]["pid"].as_i64().unwrap_or(0);
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        until("its process has ended", || {
            // Any command clears up behind a monitor; without one a frozen process keeps its death before it.
            self.jar.says(&["exec", name, "true"]);
            !is_alive(init)
        });
    }

    /// What it is now, in a moment of rest; it must be one of those that it may be.
    fn look(&self, name: &str, may_be: &[Is]) -> Is {
        let mut is = Is::Absent;
        for _ in 0..400 {
            is = self.state(name);
            if may_be.contains(&is) {
                return is;
            }
            // A monitor that learns of the end just now.
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{name} is {is:?}, and may be {may_be:?}\n{}", self.story());
    }

    fn state(&self, name: &str) -> Is {
        let Some(record) = self.jar.id_of(name).and_then(|id| self.jar.record(&id)).filter(|record| record["name"] == name) else {
            return Is::Absent;
        };
        let attended = record["state"]["monitor"]["pid"].as_i64().is_some_and(is_alive);
        match record["state"]["status"].as_str() {
            Some("created") => Is::Created,
            Some("running") if attended => {
                if is_frozen(&record) {
                    Is::Paused
                } else {
                    Is::Running
                }
            }
            _ => Is::Exited,
        }
    }

    fn story(&self) -> String {
        let tail = self.told.len().saturating_sub(30);
        format!("worker {}, its last steps:\n{}", self.number, self.told[tail..].join("\n"))
    }
}

fn is_alive(pid: i64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !matches!(rest.trim_start().chars().next(), None | Some('Z' | 'X')))
}

fn is_frozen(record: &Value) -> bool {
    let groups = &record["state"]["cgroup"];
    let v1 = groups["legacy"]["freezer"].as_str().map(|dir| Path::new(dir).join("freezer.state"));
    let v2 = groups["unified"].as_str().map(|dir| Path::new(dir).join("cgroup.events"));
    let text = v1.or(v2).and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    text.trim() == "FROZEN" || text.contains("frozen 1")
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn whatever_is_killed_when_nothing_is_lost_and_nothing_is_left() {
    let Some(jar) = Jar::new() else { return };
    let steps = number("ONGGI_SURVIVAL_STEPS", 1000);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let seed = number("ONGGI_SURVIVAL_SEED", now);
    support::say(&format!("survival: ONGGI_SURVIVAL_SEED={seed} ONGGI_SURVIVAL_STEPS={steps}"));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let jar = &jar;
            scope.spawn(move || {
                let dice = Dice(seed.wrapping_mul(4).wrapping_add(number).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let mut worker = Worker { jar, number, dice, model: BTreeMap::new(), told: Vec::new() };
                for _ in 0..steps / 4 {
                    worker.step();
                }
            });
        }
    });
    every_process_has_a_record_and_every_name_a_container(&jar);
    for id in jar.ids() {
        the_log_counts_without_a_gap(&jar, &id);
        jar.does(&["rm", "-f", &id]);
    }
    jar.does(&["run", "--rm", "base", "true"]);
    until("all marks are gone", || jar.left().is_empty());
    until("all processes are gone", || monitors_of(&jar).is_empty());
    let cgroups: Vec<String> = cgroups_of_onggi();
    assert!(!cgroups.iter().any(|group| jar.ids().iter().any(|id| group.contains(id))), "{cgroups:?}");
}

fn every_process_has_a_record_and_every_name_a_container(jar: &Jar) {
    // A killed monitor's container is cleared by the next command.
    jar.does(&["run", "--rm", "base", "true"]);
    let records: Vec<Value> = jar.ids().iter().map(|id| jar.record(id).unwrap_or_else(|| panic!("{id} has no record"))).collect();
    let live: Vec<i64> = records.iter().filter_map(|record| record["state"]["monitor"]["pid"].as_i64()).collect();
    // A monitor that has just been told to end may take a moment.
    until("every monitor belongs to a record", || monitors_of(jar).iter().all(|pid| live.contains(pid)));
    for record in &records {
        let name = record["name"].as_str().unwrap();
        assert_eq!(jar.id_of(name).as_deref(), record["id"].as_str(), "{name}");
        let id = record["id"].as_str().unwrap();
        let there = cgroups_of_onggi().iter().any(|group| group.contains(id));
        assert_eq!(there, record["state"]["status"] == "running", "cgroup of {name}: {record}");
    }
}

/// The PIDs of this jar's monitors.
fn monitors_of(jar: &Jar) -> Vec<i64> {
    let root = jar.root.display().to_string();
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i64>() else { continue };
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if name.trim() == "onggi-monitor" && String::from_utf8_lossy(&environment).contains(&root) && is_alive(pid) {
            pids.push(pid);
        }
    }
    pids
}

fn cgroups_of_onggi() -> Vec<String> {
    let mut found = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let groups = [hierarchy.path().join("onggi"), hierarchy.path()];
        for group in groups.iter().filter(|group| group.ends_with("onggi")) {
            found.extend(fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path().display().to_string()));
        }
    }
    found
}

/// Each life counts from 0 without a gap, on both streams, in order.
fn the_log_counts_without_a_gap(jar: &Jar, id: &str) {
    let file = jar.root.join("data/containers").join(id).join(format!("{id}-json.log"));
    let mut next = BTreeMap::from([("stdout".to_string(), 0u64), ("stderr".to_string(), 0)]);
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{id}: {line:?} {e}"));
        let stream = line["stream"].as_str().unwrap().to_string();
        let number: u64 = line["log"].as_str().unwrap().trim().trim_start_matches('e').parse().unwrap();
        let expected = next.get_mut(&stream).unwrap();
        assert!(number == *expected || number == 0, "{id}: {stream} has {number} after {}", *expected as i64 - 1);
        *expected = number + 1;
    }
}
