//! What the command says: invalid configs in one line with their JSON path, versions, the log file, the commands that are refused.
//!
//! Read: config.md of the OCI runtime specification, runc(8) on `--log`.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::container::Bench;

type Edit = fn(&mut Value);

/// Configs that make no sense, each in one way.
const BAD: &[Edit] = &[
    |s| s["ociVersion"] = json!("2.0.0"),
    |s| s["ociVersion"] = json!("one"),
    |s| s["ociVersion"] = json!(""),
    |s| s["root"] = Value::Null,
    |s| s["root"]["path"] = json!(""),
    |s| s["process"]["args"] = json!([]),
    |s| s["process"]["args"] = json!(["a\0b"]),
    |s| s["process"]["args"] = json!("sh"),
    |s| s["process"]["cwd"] = json!("relative"),
    |s| s["process"]["env"] = json!(["NAME"]),
    |s| s["process"]["user"]["uid"] = json!(-1),
    |s| s["process"]["user"]["umask"] = json!(0o1000),
    |s| s["process"]["rlimits"] = json!([{ "type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1 }]),
    |s| s["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }]),
    |s| s["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }]),
    |s| s["process"]["oomScoreAdj"] = json!(1001),
    |s| s["process"]["scheduler"] = json!({ "policy": "SCHED_FAST" }),
    |s| s["process"]["scheduler"] = json!({ "policy": "SCHED_OTHER", "nice": 20 }),
    |s| s["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }),
    |s| s["hostname"] = json!("x".repeat(65)),
    |s| s["linux"]["namespaces"] = json!([{ "type": "mount" }]),
    |s| s["linux"]["namespaces"] = json!([{ "type": "uts" }]),
    |s| s["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "uts" }, { "type": "mount" }]),
    |s| s["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "uts" }, { "type": "flat" }]),
    |s| s["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "uts" }, { "type": "pid", "path": "proc/1" }]),
    |s| s["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "uts" }, { "type": "user" }]),
    |s| s["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]),
    |s| s["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 1 } }),
    |s| s["linux"]["timeOffsets"] = json!({ "realtime": { "secs": 1 } }),
    |s| s["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 1 }]),
    |s| s["linux"]["devices"] = json!([{ "path": "dev/x", "type": "c", "major": 1, "minor": 1 }]),
    |s| s["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "c", "major": -1, "minor": 1 }]),
    |s| s["linux"]["rootfsPropagation"] = json!("public"),
    |s| s["linux"]["sysctl"] = json!({ "kernel.panic": "1" }),
    |s| s["linux"]["sysctl"] = json!({ "net/../kernel/panic": "1" }),
    |s| s["linux"]["cgroupsPath"] = json!("/a/../../b"),
    |s| s["linux"]["personality"] = json!({ "domain": "LINUX64" }),
    |s| s["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_NOTHING" }),
    |s| s["mounts"][0]["destination"] = json!(""),
    |s| s["mounts"][0]["options"] = json!([""]),
    |s| s["mounts"][0] = json!({ "destination": "/x", "type": "bind", "source": "/", "options": ["bind", "size=1"] }),
    |s| s["mounts"][0] = json!({ "destination": "/x", "type": "bind", "options": ["bind"] }),
    |s| s["hooks"] = json!({ "prestart": [{ "path": "relative" }] }),
    |s| s["hooks"] = json!({ "poststop": [{ "path": "/bin/true", "timeout": 0 }] }),
];

#[test]
fn each_invalid_config_gets_one_line_with_the_json_path() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|_| {});
    let good = fs::read(container.bundle.join("config.json")).unwrap();
    let log = bench.dir.join("log.json");
    let mut told = String::new();
    for edit in BAD {
        fs::write(container.bundle.join("config.json"), &good).unwrap();
        container.edit(edit);
        let _ = fs::remove_file(&log);
        let mut command = bench.runtime();
        command.args(["--log-format", "json", "--log"]).arg(&log).args(["create", "--bundle"]).arg(&container.bundle).arg(&container.id);
        bench.finish(&mut command).refused();
        let record: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
        told.push_str(&record["msg"].as_str().unwrap().replace(container.bundle.to_str().unwrap(), "BUNDLE"));
        told.push('\n');
        assert_eq!(bench.leaks(), Vec::<String>::new());
    }
    insta::assert_snapshot!(told.replace(&container.id, "ID"));
}

#[test]
fn text_that_is_no_config_is_refused_with_its_place() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|_| {});
    for (text, place) in [("", "EOF"), ("{", "line 1"), ("[]", "ociVersion"), ("{} {}", "trailing"), ("{\"ociVersion\": 1}", "ociVersion")] {
        fs::write(container.bundle.join("config.json"), text).unwrap();
        let error = container.create_with(&[]).refused();
        assert!(error.contains(place), "{text:?}: {error}");
    }
    fs::remove_file(container.bundle.join("config.json")).unwrap();
    assert!(container.create_with(&[]).refused().contains("config.json"));
}

#[test]
fn any_version_1_runs_and_unknown_fields_are_passed_over() {
    let Some(bench) = Bench::new() else { return };
    for version in ["1.0.0", "1.2.1", "1.99.0", "1.3.0-rc.1", "1.0.2-dev"] {
        let container = bench.container(|spec| {
            spec["ociVersion"] = json!(version);
            spec["process"]["fromTheFuture"] = json!({ "a": [1, 2] });
            spec["linux"]["later"] = json!(true);
            spec["vm"] = json!({});
        });
        container.run().ok();
    }
}

#[test]
fn nulls_stand_for_what_is_not_there() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        for field in ["uidMappings", "gidMappings", "sysctl", "resources", "devices", "seccomp", "maskedPaths", "readonlyPaths"] {
            spec["linux"][field] = Value::Null;
        }
        for field in ["rlimits", "capabilities", "oomScoreAdj", "consoleSize"] {
            spec["process"][field] = Value::Null;
        }
        spec["mounts"][0]["options"] = Value::Null;
        spec["hooks"] = json!({ "prestart": null, "poststop": [{ "path": "/bin/true", "args": null, "env": null, "timeout": null }] });
    });
    container.run().ok();
}

#[test]
fn errors_go_to_the_log_as_records_that_callers_can_read() {
    let Some(bench) = Bench::new() else { return };
    let log = bench.dir.join("log");
    let file = log.to_str().unwrap();
    bench.finish(bench.runtime().args(["--log", file, "--log-format", "json", "state", "nobody"])).refused();
    let record: Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim()).unwrap();
    assert_eq!(record["level"], "error");
    assert!(record["msg"].as_str().unwrap().contains("does not exist"), "{record}");
    assert!(record["time"].as_str().unwrap().ends_with('Z') || record["time"].as_str().unwrap().contains('+'), "{record}");
    bench.finish(bench.runtime().args(["--log", file, "--log-format", "text", "state", "nobody"])).refused();
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.lines().nth(1).unwrap().contains("level=error msg="), "{text}");
}

#[test]
fn checkpoints_are_refused_in_words() {
    let Some(bench) = Bench::new() else { return };
    for verb in ["checkpoint", "restore"] {
        assert!(bench.run(&[verb, "--work-path", "/x", "anybody"]).refused().contains("does not checkpoint or restore"));
    }
}

#[test]
fn spec_writes_a_config_that_runs_and_overwrites_none() {
    let Some(bench) = Bench::new() else { return };
    let dir = bench.dir.join("new");
    let path = dir.to_str().unwrap();
    bench.run(&["spec", "--bundle", path]).ok();
    assert!(bench.run(&["spec", "--bundle", path]).refused().contains("it exists"));
    let version = bench.finish(std::process::Command::new(env!("CARGO_BIN_EXE_onggi-runtime")).arg("--version")).ok().out;
    assert!(version.starts_with("onggi-runtime version ") && version.contains("\nspec: 1.2"), "{version}");
}
