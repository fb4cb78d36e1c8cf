//! A container's life from outside: create, start, state, kill, delete, pause, list, ps, events, update, and many at once.
//!
//! Read: runtime.md of the OCI runtime specification, runc(8).

mod support;

use std::fs;

use serde_json::{Value, json};
use support::container::{Bench, Container, end_of, wait_for, with_mount, without_namespace};
use support::kernel::{Process, cgroups_named, host};

fn waits(spec: &mut Value) {
    spec["process"]["args"] = json!(["/bin/probe", "wait"]);
}

#[test]
fn the_state_follows_the_container_through_its_life() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        waits(spec);
        spec["annotations"] = json!({ "org.example.key": "value", "empty": "" });
    });
    assert!(container.tell("state").refused().contains("does not exist"));
    container.create();
    let created = container.state();
    assert_eq!((&created["status"], &created["id"], &created["ociVersion"]), (&json!("created"), &json!(container.id), &json!("1.2.1")));
    assert_eq!(created["bundle"], json!(container.bundle));
    assert_eq!(created["annotations"], json!({ "org.example.key": "value", "empty": "" }));
    // Everything is there but its program: no line of the probe's, and the runtime's own name.
    assert!(container.process().lives() && container.process().read("comm").starts_with("onggi"));
    let pid = container.process();
    container.start();
    container.seen();
    assert_eq!((container.status().as_str(), container.process()), ("running", pid));
    assert_eq!(pid.read("comm"), "probe\n");
    bench.run(&["pause", &container.id]).ok();
    assert_eq!(container.status(), "paused");
    bench.run(&["resume", &container.id]).ok();
    assert_eq!(container.status(), "running");
    bench.run(&["kill", &container.id, "KILL"]).ok();
    wait_for("its end", || (container.status() == "stopped").then_some(()));
    assert_eq!(container.state()["pid"], 0);
    bench.run(&["delete", &container.id]).ok();
    assert!(container.tell("state").refused().contains("does not exist"));
}

#[test]
fn start_needs_a_created_container() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    assert!(container.tell("start").refused().contains("running"));
    bench.run(&["kill", &container.id, "9"]).ok();
    wait_for("its end", || (container.status() == "stopped").then_some(()));
    assert!(container.tell("start").refused().contains("stopped"));
    assert!(bench.run(&["start", "nobody"]).refused().contains("does not exist"));
}

#[test]
fn an_id_is_taken_once_and_must_be_a_name() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    assert!(container.create_with(&[]).refused().contains("already exists"));
    assert_eq!(container.status(), "running", "the first one is not harmed");
    for id in ["../x", "", ".hidden", "a/b", "ä"] {
        let mut command = bench.runtime();
        command.args(["create", "--bundle"]).arg(&container.bundle).arg(id);
        assert!(bench.finish(&mut command).refused().contains("as a container's ID"), "{id:?}");
    }
}

#[test]
fn of_twenty_that_create_the_same_id_at_once_one_wins() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(waits);
    let quiet = std::process::Stdio::null;
    let mut all: Vec<_> = (0..20).map(|_| container.command("create", &[]).stdout(quiet()).stderr(quiet()).spawn().unwrap()).collect();
    let winners = all.iter_mut().filter_map(|child| (end_of(child) == 0).then_some(())).count();
    assert_eq!(winners, 1);
    assert_eq!(container.status(), "created");
    container.delete();
}

#[test]
fn twenty_containers_at_once_all_run_and_leave_nothing() {
    let Some(bench) = Bench::new() else { return };
    let containers: Vec<Container> =
        (0..20).map(|number| bench.container(|spec| spec["process"]["args"] = json!(["/bin/probe", "exit", number.to_string()]))).collect();
    let errors = |c: &Container| fs::File::create(c.bundle.join("stderr")).unwrap();
    let mut runs: Vec<_> = containers.iter().map(|c| c.command("run", &[]).stderr(errors(c)).spawn().unwrap()).collect();
    let codes: Vec<i32> = runs.iter_mut().map(end_of).collect();
    let told: String = containers.iter().map(|c| fs::read_to_string(c.bundle.join("stderr")).unwrap()).collect();
    assert_eq!(codes, (0..20).collect::<Vec<_>>(), "{told}");
}

#[test]
fn a_hundred_in_a_row_leave_the_host_as_it_was() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "exit", "3"]);
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    });
    let mounts = host().mounts().len();
    for _ in 0..100 {
        assert_eq!(container.run().code, 3);
    }
    assert_eq!(host().mounts().len(), mounts);
    bench.is_clean();
}

#[test]
fn signals_are_sent_by_name_and_number() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    for (index, (word, number)) in [("SIGHUP", 1), ("usr1", 10), ("12", 12), ("RTMIN+3", 37)].into_iter().enumerate() {
        bench.run(&["kill", &container.id, word]).ok();
        let line = wait_for("the signal", || fs::read_to_string(container.bundle.join("stdout")).unwrap().lines().nth(index + 1).map(String::from));
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["signal"], number, "{word}");
    }
    assert!(bench.run(&["kill", &container.id, "SIGNONSENSE"]).refused().contains("no such signal"));
    // The default is SIGTERM, at which the probe ends by itself.
    bench.run(&["kill", &container.id]).ok();
    wait_for("its end", || (container.status() == "stopped").then_some(()));
    assert!(bench.run(&["kill", &container.id]).refused().contains("container not running"));
}

#[test]
fn kill_all_reaches_every_process() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| without_namespace(spec, "pid"));
    let pid_file = bench.dir.join("pid");
    container.exec(&["--detach", "--pid-file", pid_file.to_str().unwrap()], &["/bin/probe", "wait"]).ok();
    let second = Process(fs::read_to_string(pid_file).unwrap().parse().unwrap());
    let first = container.process();
    bench.run(&["kill", "--all", &container.id, "KILL"]).ok();
    wait_for("the end of both", || (!first.lives() && !second.lives()).then_some(()));
}

#[test]
fn delete_refuses_what_runs_unless_forced_and_is_quiet_about_nobody_then() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let process = container.process();
    assert!(bench.run(&["delete", &container.id]).refused().contains("is not stopped"));
    assert!(process.lives());
    bench.run(&["delete", "--force", &container.id]).ok();
    assert!(!process.lives());
    bench.run(&["delete", "--force", &container.id]).ok();
    assert!(bench.run(&["delete", &container.id]).refused().contains("does not exist"));
    // A created one has nothing to lose.
    let created = bench.container(waits);
    created.create();
    bench.run(&["delete", &created.id]).ok();
    bench.is_clean();
}

#[test]
fn two_deletes_at_once_do_the_work_once() {
    let Some(bench) = Bench::new() else { return };
    let log = bench.dir.join("hooks");
    for _ in 0..5 {
        let container = bench.container(|spec| {
            waits(spec);
            spec["hooks"] = json!({ "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", format!("echo once >> {}", log.display())] }] });
        });
        container.create();
        let quiet = std::process::Stdio::null;
        let mut all: Vec<_> =
            (0..4).map(|_| bench.runtime().args(["delete", "--force", &container.id]).stdout(quiet()).stderr(quiet()).spawn().unwrap()).collect();
        assert!(all.iter_mut().all(|child| end_of(child) == 0));
        assert_eq!(fs::read_to_string(&log).unwrap(), "once\n");
        fs::remove_file(&log).unwrap();
    }
}

#[test]
fn a_paused_container_stands_still_in_the_kernels_freezer() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let group = container.process().cgroup("freezer");
    let frozen = || {
        let old = fs::read_to_string(group.join("freezer.state")).unwrap_or_default();
        let new = fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
        old == "FROZEN\n" || new.contains("frozen 1")
    };
    assert!(!frozen());
    bench.run(&["pause", &container.id]).ok();
    assert!(frozen());
    assert!(bench.run(&["pause", &container.id]).refused().contains("paused"));
    assert!(container.exec(&[], &["/bin/probe"]).refused().contains("paused"));
    bench.run(&["resume", &container.id]).ok();
    assert!(!frozen());
    assert!(bench.run(&["resume", &container.id]).refused().contains("running"));
    // SIGKILL need not wait for somebody to resume it, and neither need delete.
    bench.run(&["pause", &container.id]).ok();
    bench.run(&["kill", &container.id, "KILL"]).ok();
    wait_for("its end", || (container.status() == "stopped").then_some(()));
    let other = bench.waiting(|_| {});
    bench.run(&["pause", &other.id]).ok();
    other.delete();
}

#[test]
fn list_tells_of_all_as_table_json_and_ids() {
    let Some(bench) = Bench::new() else { return };
    let (running, created) = (bench.waiting(|_| {}), bench.container(waits));
    created.create();
    let states = bench.run(&["list", "--format", "json"]).ok().json();
    let told: Vec<(&str, &str)> = states.as_array().unwrap().iter().map(|s| (s["id"].as_str().unwrap(), s["status"].as_str().unwrap())).collect();
    assert_eq!(told, [(&*running.id, "running"), (&*created.id, "created")]);
    let table = bench.run(&["list"]).ok().out;
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(words[1][..3], [&running.id, &running.process().0.to_string(), "running"]);
    assert_eq!(bench.run(&["list", "--quiet"]).ok().out, format!("{}\n{}\n", running.id, created.id));
}

#[test]
fn ps_and_events_tell_what_the_cgroup_holds() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let pid = container.process().0;
    assert_eq!(bench.run(&["ps", "--format", "json", &container.id]).ok().json(), json!([pid]));
    if support::peer("ps").is_some() {
        let table = bench.run(&["ps", &container.id]).ok().out;
        assert!(table.lines().count() == 2 && table.contains("/bin/probe wait"), "{table}");
    }
    let stats = bench.run(&["events", "--stats", &container.id]).ok().json();
    assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!(container.id)));
    for key in ["cpu", "memory", "pids"] {
        assert!(stats["data"][key].is_object(), "{key} in {stats}");
    }
    assert_eq!(stats["data"]["pids"]["current"], 1);
    assert!(stats["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert!(stats["data"]["cpu"]["usage"]["total"].as_u64().is_some());
}

#[test]
fn limits_are_in_the_kernels_files_and_update_changes_them() {
    let Some(bench) = Bench::new() else { return };
    let container = bench
        .waiting(|spec| spec["linux"]["resources"] = json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 40 }, "cpu": { "shares": 512 } }));
    let read = |controller: &str, old: &str, new: &str| {
        let group = container.process().cgroup(controller);
        fs::read_to_string(group.join(old)).or_else(|_| fs::read_to_string(group.join(new))).unwrap().trim().to_string()
    };
    let memory = || read("memory", "memory.limit_in_bytes", "memory.max");
    let pids = || read("pids", "pids.max", "pids.max");
    assert_eq!((memory(), pids()), ((64 << 20).to_string(), "40".to_string()));
    if container.process().cgroup("cpu").join("cpu.shares").exists() {
        assert_eq!(read("cpu", "cpu.shares", ""), "512");
    }
    bench.run(&["update", "--memory", "96m", "--pids-limit", "50", &container.id]).ok();
    assert_eq!((memory(), pids()), ((96 << 20).to_string(), "50".to_string()));
    let file = bench.dir.join("resources.json");
    fs::write(&file, r#"{ "pids": { "limit": 60 } }"#).unwrap();
    bench.run(&["update", "--resources", file.to_str().unwrap(), &container.id]).ok();
    assert_eq!((memory(), pids()), ((96 << 20).to_string(), "60".to_string()), "what isn't named stays");
    assert_eq!(container.exec(&[], &["/bin/probe", "try", "fork", "100"]).ok().json()["value"], 58, "its own two processes count");
}

#[test]
fn a_cgroup_by_the_configs_path_is_used_and_removed() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| spec["linux"]["cgroupsPath"] = json!(format!("/{}/deep/er", bench.name)));
    let path = container.process().read("cgroup");
    assert!(path.lines().all(|line| line.ends_with(&format!("/{}/deep/er", bench.name))), "{path}");
    assert!(!cgroups_named(&bench.name).is_empty());
    container.delete();
    assert_eq!(cgroups_named(&bench.name), Vec::<std::path::PathBuf>::new());
}

/// A record whose PID belongs to a stranger by now: it is not shown as running, and the stranger gets no signal.
#[test]
fn a_pid_given_to_a_stranger_is_never_touched() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let path = bench.root().join(&container.id).join("state.json");
    let before = fs::read(&path).unwrap();
    let mut record: Value = serde_json::from_slice(&before).unwrap();
    record["init"]["pid"] = json!(stranger.id());
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(container.status(), "stopped");
    assert!(bench.run(&["kill", &container.id, "KILL"]).refused().contains("container not running"));
    assert!(container.exec(&[], &["/bin/probe"]).refused().contains("not running"));
    assert!(bench.run(&["update", "--pids-limit", "9", &container.id]).refused().contains("not running"));
    let stranger_lives = Process(stranger.id() as i32).lives();
    fs::write(&path, before).unwrap();
    container.delete();
    let still = Process(stranger.id() as i32).lives();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(stranger_lives && still);
}

#[test]
fn pid_files_hold_the_first_process_and_go_with_a_failure() {
    let Some(bench) = Bench::new() else { return };
    let file = bench.dir.join("pid");
    let container = bench.container(waits);
    container.create_with(&["--pid-file", file.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), container.process().0.to_string());
    fs::remove_file(&file).unwrap();
    let bad = bench.container(|spec| with_mount(spec, "/x", "bind", "/no/such", &["bind"]));
    bad.create_with(&["--pid-file", file.to_str().unwrap()]).refused();
    assert!(!file.exists());
}
