//! The probe tells the truth: each fact that it prints about itself is what `/proc` tells the test about it from outside.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The probe as a file on the host.
fn probe() -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    Command::new(PATH.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{}", std::process::id()));
        fs::write(&path, onggi::image::probe::PROBE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }))
}

fn facts(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// `probe wait`, with its facts read: it stays there to be looked at from outside, and is killed at the end.
struct Waiting {
    child: Child,
    lines: BufReader<ChildStdout>,
    facts: Value,
}

fn waiting(command: &mut Command) -> Waiting {
    let mut child = command.arg("wait").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    Waiting { child, lines, facts: serde_json::from_str(&line).unwrap() }
}

impl Waiting {
    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    fn status(&self, key: &str) -> String {
        let status = self.proc("status");
        status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or_else(|| panic!("{key} in {status}")).trim().to_string()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().map(|n| n.parse().unwrap()).collect()
}

#[test]
fn identity_is_what_proc_says() {
    let run = waiting(&mut probe());
    let f = &run.facts;
    assert_eq!(f["pid"], run.child.id());
    assert_eq!(f["ppid"], std::process::id());
    let ids = |keys: [&str; 4]| keys.map(|key| f[key].as_u64().unwrap()).to_vec();
    assert_eq!(ids(["uid", "euid", "suid", "fsuid"]), numbers(&run.status("Uid")));
    assert_eq!(ids(["gid", "egid", "sgid", "fsgid"]), numbers(&run.status("Gid")));
    let groups: Vec<u64> = f["groups"].as_array().unwrap().iter().map(|g| g.as_u64().unwrap()).collect();
    assert_eq!(groups, numbers(&run.status("Groups")));
    assert_eq!(f["umask"], run.status("Umask").as_str());
    let stat = run.proc("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!((f["pgid"].to_string().as_str(), f["sid"].to_string().as_str()), (fields[2], fields[3]));
    assert_eq!(f["cwd"].as_str().unwrap(), std::env::current_dir().unwrap().to_str().unwrap());
}

#[test]
fn privileges_are_what_proc_says() {
    let run = waiting(&mut probe());
    let f = &run.facts;
    for (key, name) in [("inheritable", "CapInh"), ("permitted", "CapPrm"), ("effective", "CapEff"), ("bounding", "CapBnd"), ("ambient", "CapAmb")] {
        assert_eq!(f["capabilities"][key], run.status(name).as_str(), "{key}");
    }
    assert_eq!(f["no_new_privs"].to_string(), run.status("NoNewPrivs"));
    assert_eq!(f["seccomp"].to_string(), run.status("Seccomp"));
    assert_eq!(f["seccomp_filters"].to_string(), run.status("Seccomp_filters"));
    assert_eq!(f["signals"]["ignored"], run.status("SigIgn").as_str());
    assert_eq!(f["oom_score_adj"].to_string(), run.proc("oom_score_adj").trim());
    assert_eq!(f["personality"].as_u64().unwrap(), u64::from_str_radix(run.proc("personality").trim(), 16).unwrap());
}

#[test]
fn namespaces_mounts_and_maps_are_what_proc_says() {
    let run = waiting(&mut probe());
    let f = &run.facts;
    for (kind, name) in f["namespaces"].as_object().unwrap() {
        let link = fs::read_link(format!("/proc/{}/ns/{kind}", run.child.id())).unwrap();
        assert_eq!(name.as_str().unwrap(), link.to_str().unwrap());
    }
    assert_eq!(f["namespaces"].as_object().unwrap().len(), 10);
    let mountinfo = run.proc("mountinfo");
    let mounts = f["mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), mountinfo.lines().count());
    for (mount, line) in mounts.iter().zip(mountinfo.lines()) {
        let word = |key: &str| mount[key].as_str().unwrap().replace(' ', "\\040");
        let optional: String = mount["optional"].as_array().unwrap().iter().map(|o| format!("{} ", o.as_str().unwrap())).collect();
        let again = format!(
            "{} {} {} {} {} {} {optional}- {} {} {}",
            mount["id"],
            mount["parent"],
            word("device"),
            word("root"),
            word("point"),
            word("options"),
            word("fstype"),
            word("source"),
            word("super_options")
        );
        assert_eq!(again, line);
    }
    let map = &f["uid_map"][0];
    assert_eq!(vec![map[0].as_u64().unwrap(), map[1].as_u64().unwrap(), map[2].as_u64().unwrap()], numbers(&run.proc("uid_map"))[..3]);
    let cgroup: Vec<&str> = f["cgroup"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert_eq!(cgroup.join("\n"), run.proc("cgroup").trim_end());
}

#[test]
fn limits_and_descriptors_are_what_proc_says() {
    let run = waiting(&mut probe());
    let limits = run.proc("limits");
    let nofile: Vec<&str> = limits.lines().find(|l| l.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(run.facts["rlimits"]["NOFILE"]["soft"].to_string(), nofile[3]);
    assert_eq!(run.facts["rlimits"]["NOFILE"]["hard"].to_string(), nofile[4]);
    assert_eq!(run.facts["rlimits"].as_object().unwrap().len(), 16);
    let mut fds: Vec<String> =
        fs::read_dir(format!("/proc/{}/fd", run.child.id())).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    fds.sort();
    let mut told: Vec<&String> = run.facts["fds"].as_object().unwrap().keys().collect();
    told.sort();
    assert_eq!(told, fds.iter().collect::<Vec<_>>());
    assert_eq!(run.facts["fds"]["0"], "/dev/null");
    assert_eq!(run.facts["tty"], serde_json::json!([null, null, null]));
}

#[test]
fn strings_of_any_bytes_become_valid_json() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let odd = OsStr::from_bytes(b"\xff \xc3\xa9 \xed\xa0\x80 \xe2\x82");
    let facts = facts(probe().arg("facts").args(["quote\" back\\slash\n\x01", "한글 \u{1f3fa}"]).arg(odd).env_clear().env("X", odd));
    let argv: Vec<&str> = facts["argv"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
    assert_eq!(argv[2..], ["quote\" back\\slash\n\x01", "한글 \u{1f3fa}", "\\xff é \\xed\\xa0\\x80 \\xe2\\x82"]);
    assert_eq!(facts["env"], serde_json::json!(["X=\\xff é \\xed\\xa0\\x80 \\xe2\\x82"]));
}

#[test]
fn a_megabyte_of_environment_is_printed_whole() {
    let mut command = probe();
    command.env_clear();
    for number in 0..10 {
        command.env(format!("V{number}"), "x".repeat(100_000));
    }
    let facts = facts(&mut command);
    assert_eq!(facts["env"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().len()).sum::<usize>(), 10 * 100_003);
}

#[test]
fn wait_tells_each_signal_and_ends_at_sigterm() {
    let mut run = waiting(&mut probe());
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGWINCH, Signal::SIGTERM] {
        run.signal(signal);
        let mut line = String::new();
        run.lines.read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((told["signal"].as_i64(), told["sender"].as_u64()), (Some(signal as i64), Some(std::process::id() as u64)));
    }
    assert_eq!(run.child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_ends_as_it_is_told() {
    assert_eq!(probe().args(["exit", "42"]).status().unwrap().code(), Some(42));
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGILL, Signal::SIGUSR1] {
        assert_eq!(probe().args(["signal", &(signal as i32).to_string()]).status().unwrap().signal(), Some(signal as i32));
    }
    assert_eq!(probe().arg("nonsense").stderr(Stdio::null()).status().unwrap().code(), Some(2));
}

#[test]
fn try_answers_with_the_kernels_errno() {
    let attempt = |words: &[&str]| facts(probe().arg("try").args(words));
    assert_eq!(attempt(&["open", "/no/such/file"])["error"], "ENOENT");
    assert_eq!(attempt(&["read", "/proc/sys/kernel/ostype"])["text"], "Linux\n");
    assert_eq!(attempt(&["clone3"])["error"], "EINVAL");
    assert_eq!(attempt(&["socket", "inet"])["errno"], 0);
    assert_eq!(attempt(&["fork", "20"])["value"], 20);
    assert_eq!(attempt(&["alloc", "4"])["value"], 4);
    assert_eq!(attempt(&["kill", "999999999", "0"])["error"], "ESRCH");
    let getppid = if cfg!(target_arch = "x86_64") { "110" } else { "173" };
    assert_eq!(attempt(&["syscall", getppid])["value"], std::process::id());
}

#[test]
fn init_answers_with_its_childs_end() {
    let run = |words: &[&str]| -> Output { probe().arg("init").args(words).output().unwrap() };
    assert_eq!(run(&["--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    assert_eq!(run(&["--", "no-such-command"]).status.code(), Some(127));
    assert_eq!(run(&["--", "/etc/hostname"]).status.code(), Some(126));
    let mut named_init = probe();
    named_init.arg0("/sbin/docker-init").args(["--", "sh", "-c", "exit 8"]);
    assert_eq!(named_init.status().unwrap().code(), Some(8));
}

#[test]
fn init_forwards_signals_and_reaps_orphans() {
    let mut child = probe()
        // The inner shell leaves an orphan behind; `$PPID` is init, whose children are then counted.
        .args(["init", "--", "sh", "-c", "(true & true & exec true); trap 'exit 9' HUP; echo $PPID; while :; do sleep 0.05; done"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut pid = String::new();
    lines.read_line(&mut pid).unwrap();
    assert_eq!(pid.trim(), child.id().to_string());
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children", pid = child.id())).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while numbers(&children()).len() != 1 {
        assert!(Instant::now() < end, "zombies stay: {}", children());
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGHUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
}
