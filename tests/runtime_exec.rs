//! `exec`: one more process, in every namespace and cgroup of the first one, and with nothing more.
//!
//! Read: setns(2), runc's `exec`; CVE-2016-9962, CVE-2024-21626.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::container::{Bench, Container, with_namespace, with_user_namespace, without_namespace};
use support::kernel::Process;

/// A second process that waits, found by its PID file.
fn second(container: &Container) -> Process {
    let file = container.bench.dir.join(format!("{}.pid", container.id));
    container.exec(&["--detach", "--pid-file", file.to_str().unwrap()], &["/bin/probe", "wait"]).ok();
    Process(fs::read_to_string(file).unwrap().parse().unwrap())
}

/// The same in the foreground: the command stays its parent. (A detached one has the machine's PID 1, which may take its time to reap, and
/// a PID namespace ends with its last zombie.)
fn attended(container: &Container) -> (Process, std::process::Child) {
    let file = container.bench.dir.join(format!("{}.pid", container.id));
    let mut command = container.bench.runtime();
    command.args(["exec", "--pid-file", file.to_str().unwrap(), &container.id, "/bin/probe", "wait"]);
    let child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let pid = support::container::wait_for("the PID file", || fs::read_to_string(&file).ok());
    (Process(pid.parse().unwrap()), child)
}

fn same_place(container: &Container, what: &str) {
    let (first, (second, mut command)) = (container.process(), attended(container));
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        assert_eq!(second.namespace(kind), first.namespace(kind), "{kind} of a container {what}");
    }
    assert_eq!(second.read("cgroup"), first.read("cgroup"), "{what}");
    assert_eq!(second.read("mountinfo"), first.read("mountinfo"), "{what}");
    container.delete();
    assert_eq!(support::container::end_of(&mut command), 137, "{what}");
}

#[test]
fn it_is_in_all_namespaces_and_cgroups_of_the_first_process() {
    let Some(bench) = Bench::new() else { return };
    same_place(&bench.waiting(|_| {}), "as it is by default");
    same_place(&bench.waiting(|spec| with_namespace(spec, "time", None)), "with a time namespace");
    same_place(&bench.waiting(|spec| with_user_namespace(spec, 100_000)), "with a user namespace");
    for kind in ["pid", "network", "ipc", "uts", "cgroup"] {
        let container = bench.waiting(|spec| {
            without_namespace(spec, kind);
            spec["hostname"].take();
        });
        same_place(&container, &format!("without {kind}"));
    }
}

#[test]
fn its_exit_code_is_its_own_and_a_missing_program_is_127() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let code = |words: &[&str]| container.exec(&[], words).code;
    assert_eq!(code(&["/bin/probe", "exit", "0"]), 0);
    assert_eq!(code(&["/bin/probe", "exit", "77"]), 77);
    assert_eq!(code(&["/bin/probe", "signal", "9"]), 137);
    assert_eq!(code(&["/bin/probe", "signal", "15"]), 143);
    assert_eq!(code(&["/no/such/program"]), 127);
    assert_eq!(code(&["/bin"]), 126);
    assert_eq!(container.status(), "running");
}

#[test]
fn it_has_the_containers_environment_and_what_is_added() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        spec["process"]["env"] = json!(["HOME=/h", "A=1"]);
        spec["process"]["user"] = json!({ "uid": 10, "gid": 20, "additionalGids": [30] });
    });
    let seen = container.exec(&["--env", "B=2", "--cwd", "/proc"], &["/bin/probe"]).ok().json();
    assert_eq!(seen["env"], json!(["HOME=/h", "A=1", "B=2"]));
    assert_eq!((&seen["cwd"], &seen["uid"], &seen["gid"], &seen["groups"]), (&json!("/proc"), &json!(10), &json!(20), &json!([30])));
    let seen = container.exec(&["--user", "5:6", "--additional-gids", "7"], &["/bin/probe"]).ok().json();
    assert_eq!((&seen["uid"], &seen["gid"], &seen["groups"]), (&json!(5), &json!(6), &json!([7, 30])));
    // A value that is given again takes the place of the old one, for who reads the first as for who reads the last.
    let seen = container.exec(&["--env", "A=9"], &["/bin/probe"]).ok().json();
    let told: Vec<&str> = seen["env"].as_array().unwrap().iter().filter_map(Value::as_str).filter(|pair| pair.starts_with("A=")).collect();
    assert_eq!(told, ["A=9"]);
}

#[test]
fn a_working_directory_that_leads_outside_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    for number in 3..12 {
        container.exec(&["--cwd", &format!("/proc/self/fd/{number}")], &["/bin/probe"]).refused();
    }
    assert!(container.exec(&["--cwd", "/not/there"], &["/bin/probe"]).refused().contains("ENOENT"));
}

#[test]
fn no_new_privileges_can_be_added_but_not_taken_away() {
    let Some(bench) = Bench::new() else { return };
    let open = bench.waiting(|spec| spec["process"]["noNewPrivileges"] = json!(false));
    let told = |container: &Container, options: &[&str]| container.exec(options, &["/bin/probe"]).ok().json()["no_new_privs"].clone();
    assert_eq!((told(&open, &[]), told(&open, &["--no-new-privs"])), (json!(0), json!(1)));
    assert_eq!(told(&bench.waiting(|_| {}), &[]), 1);
}

#[test]
fn a_process_json_says_it_all() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let file = bench.dir.join("process.json");
    let mut process = json!({
        "args": ["/bin/probe", "facts", "x"], "cwd": "/dev", "env": ["ONLY=this", "HOME=/"],
        "user": { "uid": 8, "gid": 9, "umask": 0o77 }, "oomScoreAdj": 500,
        "rlimits": [{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }],
    });
    fs::write(&file, process.to_string()).unwrap();
    let seen = container.exec(&["--process", file.to_str().unwrap()], &[]).ok().json();
    assert_eq!((&seen["cwd"], &seen["env"], &seen["uid"]), (&json!("/dev"), &json!(["ONLY=this", "HOME=/"]), &json!(8)));
    assert_eq!((&seen["umask"], &seen["oom_score_adj"]), (&json!("0077"), &json!(500)));
    assert_eq!(seen["rlimits"]["CORE"], json!({ "soft": 0, "hard": 0 }));
    process["cwd"] = json!("relative");
    fs::write(&file, process.to_string()).unwrap();
    assert!(container.exec(&["--process", file.to_str().unwrap()], &[]).refused().contains("process.cwd"));
}

#[test]
fn it_needs_a_container_that_runs() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    bench.run(&["kill", &container.id, "KILL"]).ok();
    support::container::wait_for("its end", || (container.status() == "stopped").then_some(()));
    assert!(container.exec(&[], &["/bin/probe"]).refused().contains("not running"));
    assert!(bench.run(&["exec", "nobody", "/bin/probe"]).refused().contains("does not exist"));
    assert!(bench.waiting(|_| {}).exec(&[], &[]).refused().contains("no command"));
}

/// While it enters, nobody in the container may look into it: its `/proc` folder belongs to the host's root.
#[test]
fn many_at_once_all_end_with_their_own_code() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let mut all: Vec<_> =
        (0..20).map(|n| bench.runtime().args(["exec", &container.id, "/bin/probe", "exit", &n.to_string()]).spawn().unwrap()).collect();
    assert_eq!(all.iter_mut().map(support::container::end_of).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    let group = container.process().cgroup("pids").join("cgroup.procs");
    support::container::wait_for("the end of all", || (fs::read_to_string(&group).unwrap().lines().count() == 1).then_some(()));
}

#[test]
fn a_detached_process_goes_on_and_its_pid_file_is_the_hosts_number() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let process = second(&container);
    assert!(process.lives() && process.status("NSpid").split(' ').count() == 2);
    assert_eq!(process.read("cmdline"), "/bin/probe\0wait\0");
    container.delete();
    assert!(!process.lives(), "it ends with the PID namespace");
}
