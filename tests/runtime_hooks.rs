//! Hooks: the six kinds in their order, the namespaces in which they run, the state that they read, and what their failure undoes.
//!
//! Read: config.md "POSIX-platform Hooks", runtime.md "Lifecycle".

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::container::{Bench, Container, with_mount};
use support::kernel::host;

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs a line of shell.
fn shell(line: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] })
}

/// A container with busybox as `/bin/sh` (for the hooks inside) and a folder `/notes` that host and container share.
fn with_notes<'a>(bench: &'a Bench, busybox: &Path, edit: impl FnOnce(&mut Value, &Path)) -> (Container<'a>, PathBuf) {
    let notes = bench.dir.join("notes");
    fs::create_dir_all(&notes).unwrap();
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        with_mount(spec, notes.to_str().unwrap(), "bind", notes.to_str().unwrap(), &["bind"]);
        edit(spec, &notes);
    });
    for name in ["sh", "cat", "readlink"] {
        fs::copy(busybox, container.rootfs().join("bin").join(name)).unwrap();
    }
    (container, notes)
}

#[test]
fn the_six_kinds_run_in_order_in_their_namespaces_with_the_state_on_stdin() {
    let (Some(bench), Some(busybox)) = (Bench::new(), support::peer("busybox")) else { return };
    let (container, notes) = with_notes(&bench, &busybox, |spec, notes| {
        spec["annotations"] = json!({ "created": "created" });
        for kind in KINDS {
            let n = notes.display();
            spec["hooks"][kind] = json!([shell(&format!(
                "echo {kind} >> {n}/order; cat > {n}/{kind}; readlink /proc/self/ns/mnt > {n}/{kind}.mnt; readlink /proc/self/ns/uts > {n}/{kind}.uts"
            ))]);
        }
    });
    let read = |name: &str| fs::read_to_string(notes.join(name)).unwrap_or_default();
    let order = || read("order").split_whitespace().map(String::from).collect::<Vec<_>>();
    container.create();
    assert_eq!(order(), KINDS[..3]);
    let (pid, inside) = (container.process().0, container.process().namespace("mnt"));
    container.start();
    container.seen();
    assert_eq!(order(), KINDS[..5]);
    container.delete();
    assert_eq!(order(), KINDS);

    for (kind, status, in_container) in [
        ("prestart", "creating", false),
        ("createRuntime", "creating", false),
        ("createContainer", "creating", true),
        ("startContainer", "created", true),
        ("poststart", "running", false),
        ("poststop", "stopped", false),
    ] {
        let state: Value = serde_json::from_str(&read(kind)).unwrap_or_else(|e| panic!("{kind}: {e}: {:?}", read(kind)));
        assert_eq!((&state["id"], &state["status"]), (&json!(container.id), &json!(status)), "{kind}");
        assert_eq!((&state["bundle"], &state["annotations"]), (&json!(container.bundle), &json!({ "created": "created" })), "{kind}");
        let namespace = if in_container { inside.clone() } else { host().namespace("mnt") };
        assert_eq!(read(&format!("{kind}.mnt")).trim(), namespace, "{kind}");
        // As each of them counts processes; when all is over there is none.
        let seen_pid = if kind == "poststop" {
            0
        } else if in_container {
            1
        } else {
            pid
        };
        assert_eq!(state["pid"], seen_pid, "{kind}");
        assert!(state["created"].is_string(), "{kind}: {state}");
    }
}

#[test]
fn hooks_of_one_kind_run_in_the_order_of_the_list_with_their_arguments_and_environment() {
    let Some(bench) = Bench::new() else { return };
    let log = bench.dir.join("log");
    let container = bench.container(|spec| {
        let line = format!("echo \"$0 $1 $VALUE ${{HOME-none}}\" >> {}", log.display());
        spec["hooks"]["createRuntime"] = json!([
            { "path": "/bin/sh", "args": ["sh", "-c", line, "first", "one"], "env": ["VALUE=1"] },
            { "path": "/bin/sh", "args": ["sh", "-c", line, "second", "two"], "env": ["VALUE=2"] },
        ]);
    });
    container.run().ok();
    assert_eq!(fs::read_to_string(log).unwrap(), "first one 1 none\nsecond two 2 none\n");
}

#[test]
fn a_hook_that_fails_before_the_program_runs_undoes_the_container() {
    let Some(bench) = Bench::new() else { return };
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let container = bench.container(|spec| spec["hooks"][kind] = json!([shell("echo not today >&2; exit 3")]));
        let error = container.create_with(&[]).refused();
        assert!(error.contains(&format!("hooks.{kind}[0]")) && error.contains("code 3") && error.contains("not today"), "{error}");
        bench.is_clean();
    }
    let missing = bench.container(|spec| spec["hooks"]["createRuntime"] = json!([{ "path": "/no/such/hook" }]));
    assert!(missing.create_with(&[]).refused().contains("/no/such/hook"));
    bench.is_clean();
}

#[test]
fn a_start_container_hook_that_fails_keeps_the_program_from_running() {
    let Some(bench) = Bench::new() else { return };
    // The path is one of the container.
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        spec["hooks"]["startContainer"] = json!([{ "path": "/bin/probe", "args": ["probe", "exit", "4"] }]);
    });
    container.create();
    let error = container.tell("start").refused();
    assert!(error.contains("hooks.startContainer[0]") && error.contains("code 4"), "{error}");
    support::container::wait_for("its end", || (container.status() == "stopped").then_some(()));
    assert_eq!(fs::read_to_string(container.bundle.join("stdout")).unwrap(), "");
}

#[test]
fn failures_after_the_start_are_warnings_and_the_other_hooks_run_all_the_same() {
    let Some(bench) = Bench::new() else { return };
    let log = bench.dir.join("log");
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        for kind in ["poststart", "poststop"] {
            spec["hooks"][kind] = json!([shell("exit 5"), shell(&format!("echo {kind} >> {}", log.display()))]);
        }
    });
    container.create();
    let started = container.tell("start").ok();
    assert!(started.err.contains("warning") && started.err.contains("hooks.poststart"), "{}", started.err);
    assert_eq!(container.status(), "running");
    let deleted = bench.run(&["delete", "--force", &container.id]).ok();
    assert!(deleted.err.contains("hooks.poststop"), "{}", deleted.err);
    assert_eq!(fs::read_to_string(log).unwrap(), "poststart\npoststop\n");
}

#[test]
fn a_hook_that_takes_too_long_is_ended_with_its_children() {
    let Some(bench) = Bench::new() else { return };
    let mark = format!("10{}", std::process::id());
    let container = bench.container(|spec| {
        spec["hooks"]["createRuntime"] = json!([shell(&format!("sleep {mark} & sleep {mark}"))]);
        spec["hooks"]["createRuntime"][0]["timeout"] = json!(1);
    });
    let began = Instant::now();
    assert!(container.create_with(&[]).refused().contains("timeout of 1 s"));
    assert!(began.elapsed() < Duration::from_secs(10));
    let sleeps = || support::kernel::all_processes().into_iter().filter(|p| p.read("cmdline").contains(&mark) && p.read("comm") == "sleep\n").count();
    support::container::wait_for("the end of its children", || (sleeps() == 0).then_some(()));
    bench.is_clean();
}

/// The state does not fit into a pipe, and the hook doesn't read it.
#[test]
fn a_hook_that_ignores_a_long_state_holds_up_nothing() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        spec["annotations"] = json!({ "long": "x".repeat(200_000) });
        spec["hooks"]["createRuntime"] = json!([shell("exec sleep 0.1"), shell("exit 0"), shell("exec cat >/dev/null")]);
    });
    container.run().ok();
}
