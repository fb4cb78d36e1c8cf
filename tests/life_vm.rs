//! A container's life on cgroup v2 alone, as on a student's machine. The tests in `guest` run in a VM.
//!
//! See it: `cargo test --test life_vm`. Read: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.

mod support;

use support::guest::guest_tests_pass;
use support::vm::Variant;

#[test]
fn a_life_on_cgroup_v2() {
    guest_tests_pass("guest", Variant::TmpfsRoot, &[]);
}

mod guest {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    use serde_json::Value;

    use super::support::jar::{ONGGI, Said, said};
    use super::support::vm;

    fn says(words: &[&str]) -> Said {
        said(std::process::Command::new(ONGGI).args(words).output().unwrap())
    }

    #[track_caller]
    fn does(words: &[&str]) -> String {
        let said = says(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out.trim_end().to_string()
    }

    #[track_caller]
    fn inspected(name: &str, format: &str) -> String {
        does(&["inspect", "-f", format, name])
    }

    fn group(id: &str) -> PathBuf {
        PathBuf::from("/sys/fs/cgroup/onggi").join(id)
    }

    fn read(id: &str, file: &str) -> String {
        fs::read_to_string(group(id).join(file)).unwrap_or_default().trim().to_string()
    }

    #[track_caller]
    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        for _ in 0..600 {
            if is_so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("still not: {what}");
    }

    const POLITE: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

    #[test]
    fn from_run_d_to_rm() {
        if !vm::inside() {
            return;
        }
        let id = does(&["run", "-d", "--name", "life", "--memory", "64m", "base", "sh", "-c", POLITE]);
        until("it is ready", || says(&["logs", "life"]).out.contains("ready"));
        assert_eq!(does(&["exec", "life", "sh", "-c", "cat /proc/self/cgroup"]), "0::/");
        assert_eq!(read(&id, "cgroup.procs").lines().next().map(str::to_string), Some(inspected("life", "{{.State.Pid}}")));

        does(&["pause", "life"]);
        assert!(read(&id, "cgroup.events").contains("frozen 1"));
        assert_eq!(inspected("life", "{{.State.Status}}"), "paused");
        let refused = says(&["exec", "life", "true"]);
        assert!(refused.code == 1 && refused.err.contains("is paused"), "{refused:?}");
        does(&["unpause", "life"]);
        assert!(read(&id, "cgroup.events").contains("frozen 0"));

        does(&["update", "--memory", "96m", "--memory-swap", "128m", "--pids-limit", "44", "--cpus", "0.5", "life"]);
        assert_eq!(
            (read(&id, "memory.max"), read(&id, "pids.max"), read(&id, "cpu.max")),
            ((96 << 20).to_string(), "44".into(), "50000 100000".into())
        );
        let stats = does(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", "life"]);
        assert!(stats.starts_with("life ") && stats.ends_with("/ 96MiB"), "{stats}");

        does(&["restart", "life"]);
        assert_eq!(read(&id, "memory.max"), (96 << 20).to_string());
        until("it is ready again", || says(&["logs", "life"]).out.matches("ready").count() == 2);
        does(&["pause", "life"]);
        does(&["stop", "-t", "60", "life"]);
        assert_eq!(inspected("life", "{{.State.ExitCode}}"), "3");
        assert!(!group(&id).exists());
        does(&["rm", "life"]);
    }

    #[test]
    fn who_takes_too_much_memory_is_remembered_as_such() {
        if !vm::inside() {
            return;
        }
        does(&["run", "-d", "--name", "greedy", "--memory", "32m", "--memory-swap", "32m", "base", "probe", "try", "alloc", "128"]);
        assert_eq!(does(&["wait", "greedy"]), "137");
        assert_eq!(inspected("greedy", "{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Status}}"), "true 137 exited");
        let modest = says(&["run", "--name", "modest", "--memory", "32m", "base", "true"]);
        assert_eq!((modest.code, inspected("modest", "{{.State.OOMKilled}}")), (0, "false".into()), "{modest:?}");
        does(&["rm", "greedy", "modest"]);
    }

    #[test]
    fn a_restart_policy_brings_it_back_in_a_new_group() {
        if !vm::inside() {
            return;
        }
        let id = does(&["run", "-d", "--name", "again", "--restart", "on-failure:2", "base", "sh", "-c", "echo life; sleep 0.1; exit 5"]);
        until("it has ended for good", || inspected("again", "{{.State.Status}}") == "exited");
        assert_eq!(inspected("again", "{{.RestartCount}}"), "2");
        assert_eq!(does(&["logs", "again"]), "life\nlife\nlife");
        assert!(!group(&id).exists());
        does(&["rm", "again"]);

        let id = does(&["run", "-d", "--name", "shot", "base", "sh", "-c", POLITE]);
        let record: Value = serde_json::from_str(&does(&["inspect", "shot"])).unwrap();
        assert_eq!(record[0]["Id"], *id);
        does(&["pause", "shot"]);
        does(&["kill", "shot"]);
        assert_eq!(inspected("shot", "{{.State.ExitCode}}"), "137");
        assert!(!group(&id).exists());
        does(&["rm", "shot"]);
    }
}
