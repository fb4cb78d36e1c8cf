//! Every system call of a container's making fails once, and its process dies once before each: the error names the call, and the next
//! command leaves nothing behind.
//!
//! Debug builds have a door for it (`src/sys/call.rs`, `fault`): `ONGGI_FAULT=init:12=EIO` fails the twelfth call of the process that plays
//! `init`, `=kill` ends that process before it. Which roles there are: `create`, `stage`, `init`, `start`, `exec`, `delete`.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::container::{Bench, Container, Done, with_namespace, with_user_namespace};

/// More calls than any role makes.
const ENOUGH: u32 = 2000;

/// Runs a command with a fault. None when it did not fire: the process makes fewer calls than that.
fn with_fault(container: &Container, plan: &str, words: &[&str]) -> Option<(Done, String)> {
    let log = container.bench.dir.join("fault");
    let _ = fs::remove_file(&log);
    let mut command = container.bench.runtime();
    command.args(words).env("ONGGI_FAULT", plan).env("ONGGI_FAULT_LOG", &log);
    let done = container.bench.finish(&mut command);
    let fired = fs::read_to_string(log).unwrap_or_default();
    // Before it is `create` a process starts itself anew, from a copy that can't be written to; it does without where that fails.
    Some((done, fired.lines().last()?.to_string()))
}

/// The next command sweeps; then only containers that are there may be.
fn nothing_is_left(bench: &Bench, what: &str) {
    bench.run(&["list", "--quiet"]).ok();
    bench.is_clean_after(what);
}

/// Stands at every call of `role` in `create`, or every `step`th, with each of `ends`. Answers how many calls the role makes.
fn at_every_call_of_create(role: &str, step: usize, ends: &[&str], edit: impl Fn(&mut Value)) -> u32 {
    let Some(bench) = Bench::new() else { return 1 };
    let container = bench.container(|spec| edit(spec));
    let bundle = container.bundle.to_str().unwrap();
    let mut calls = 0;
    for end in ends {
        for number in (1..ENOUGH).step_by(step) {
            let plan = format!("{role}:{number}={end}");
            let Some((done, fired)) = with_fault(&container, &plan, &["create", "--bundle", bundle, &container.id]) else {
                container.delete();
                break;
            };
            calls = number;
            if done.code == 0 {
                // A call that we can do without: then the container is whole.
                assert_ne!(*end, "kill", "{fired} went unnoticed");
                assert_eq!(container.status(), "created", "{fired}");
                container.delete();
            } else if *end != "kill" {
                let call = fired.split(' ').nth(2).unwrap();
                assert!(done.err.contains("onggi-runtime: cannot "), "{fired}: {}", done.err);
                let named = done.err.contains(&format!("{call}(")) && done.err.contains(&format!("= {end}"));
                // What we are allowed is asked, and "nothing" is an answer too.
                assert!(named || call == "capget", "{fired} is told as: {}", done.err);
            }
            nothing_is_left(&bench, &fired);
        }
    }
    assert!(calls > 0, "the door of {role} was never used");
    // And without a fault the same bundle is fine.
    container.create();
    container.delete();
    calls
}

/// What every container has; not all of the many mounts, which are made alike.
fn plain(spec: &mut Value) {
    spec["mounts"].as_array_mut().unwrap().retain(|mount| ["/proc", "/dev", "/dev/pts"].iter().any(|kept| mount["destination"] == *kept));
    spec["linux"]["maskedPaths"] = json!(["/proc/keys"]);
    spec["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
}

/// Enters another's time offsets and user namespace: what needs a stage process.
fn staged(spec: &mut Value) {
    plain(spec);
    with_user_namespace(spec, 100_000);
    with_namespace(spec, "time", None);
    spec["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 10 } });
}

/// As much of config.json as one container can have.
fn rich(spec: &mut Value) {
    plain(spec);
    spec["process"]["oomScoreAdj"] = json!(100);
    spec["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o77 });
    spec["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH" });
    spec["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 3 });
    spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "33" });
    spec["linux"]["resources"] = json!({ "pids": { "limit": 50 }, "memory": { "limit": 100_000_000 } });
    spec["linux"]["devices"] = json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "uid": 1, "gid": 1 }]);
    spec["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["chroot"], "action": "SCMP_ACT_ERRNO" }] });
    spec["linux"]["rootfsPropagation"] = json!("private");
    spec["root"]["readonly"] = json!(true);
}

#[test]
fn create_survives_the_failure_of_each_of_its_calls() {
    at_every_call_of_create("create", 1, &["EIO"], rich);
}

#[test]
fn create_survives_its_own_death_at_each_call() {
    at_every_call_of_create("create", 1, &["kill"], rich);
}

#[test]
fn init_tells_the_failure_of_each_of_its_calls() {
    assert!(at_every_call_of_create("init", 1, &["EIO"], rich) > 50);
}

/// The view of the cgroups is made of as many mounts as there are hierarchies: hundreds of calls on v1, of which these are some.
#[test]
fn init_tells_failures_of_the_cgroup_mounts() {
    at_every_call_of_create("init", 13, &["EIO"], |_| {});
}

#[test]
fn create_survives_the_death_of_init_at_each_call() {
    at_every_call_of_create("init", 1, &["kill"], plain);
}

#[test]
fn create_survives_failure_and_death_of_the_stage_process() {
    at_every_call_of_create("stage", 1, &["EIO", "kill"], staged);
}

#[test]
fn create_with_a_stage_survives_failure_and_death_of_the_maker() {
    at_every_call_of_create("create", 1, &["EIO", "kill"], staged);
}

/// The calls of `init` after its last of `create` are made when `start` has spoken: execve(2) is the end of them.
#[test]
fn start_tells_a_failure_of_execve() {
    let calls = at_every_call_of_create("init", 1, &["EPERM"], plain);
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(plain);
    let mut told = Vec::new();
    for number in calls.saturating_sub(3)..calls + 20 {
        let log = bench.dir.join("fault");
        let _ = fs::remove_file(&log);
        let mut command = container.command("create", &[]);
        let created = bench.finish(command.env("ONGGI_FAULT", format!("init:{number}=EIO")).env("ONGGI_FAULT_LOG", &log));
        let started = (created.code == 0).then(|| container.tell("start"));
        let fired = fs::read_to_string(&log).unwrap_or_default();
        if let (Some(call), Some(started)) = (fired.split(' ').nth(2).map(String::from), started)
            && started.code != 0
        {
            assert!(started.err.contains(&format!("{call}(")) && started.err.contains("= EIO"), "{fired} is told as: {}", started.err);
            support::container::wait_for("its end", || (container.status() == "stopped").then_some(()));
            told.push(call);
        }
        container.delete();
        nothing_is_left(&bench, "a start that failed");
    }
    assert_eq!(told, ["execve"]);
}

#[test]
fn exec_survives_failure_and_death_at_each_call_and_the_container_lives_on() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(plain);
    let threads = || fs::read_to_string(container.process().cgroup("pids").join("cgroup.procs")).unwrap().lines().count();
    for role in ["exec", "stage", "init"] {
        for end in ["EIO", "kill"] {
            for number in 1..ENOUGH {
                let plan = format!("{role}:{number}={end}");
                let Some((done, fired)) = with_fault(&container, &plan, &["exec", &container.id, "/bin/probe", "exit", "7"]) else { break };
                if done.code == 7 {
                    assert_ne!(end, "kill", "{fired} went unnoticed");
                } else if end == "EIO" {
                    let call = fired.split(' ').nth(2).unwrap();
                    assert!(done.err.contains(&format!("{call}(")) && done.err.contains("= EIO"), "{fired} is told as: {}", done.err);
                }
                assert_eq!(container.status(), "running", "{fired}");
                support::container::wait_for("the end of what exec had begun", || (threads() == 1).then_some(()));
            }
        }
    }
}

#[test]
fn delete_can_be_said_again_after_failure_and_death_at_each_call() {
    let Some(bench) = Bench::new() else { return };
    for end in ["EIO", "kill"] {
        for number in 1..ENOUGH {
            let container = bench.container(plain);
            container.create();
            let fault = with_fault(&container, &format!("delete:{number}={end}"), &["delete", "--force", &container.id]);
            container.delete();
            let Some((_, fired)) = fault else { break };
            nothing_is_left(&bench, &fired);
        }
    }
}
