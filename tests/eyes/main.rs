//! What goes wrong in a container's life when nobody thinks of it: streams that others keep open, files that are damaged or lost, a
//! reader that stands still.
//!
//! See it: `cargo test --test eyes`. Read: poll(2), signal(7), flock(2).

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::jar::{Jar, until};
use support::kernel::Process;

/// A container that runs until it is killed.
const STUBBORN: &[&str] = &["base", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"];

fn begin(jar: &Jar, name: &str, options: &[&str]) -> String {
    jar.does(&[&["run", "-d", "--name", name], options, STUBBORN].concat())
}

fn monitor(jar: &Jar, id: &str) -> Process {
    Process(jar.record(id).unwrap()["state"]["monitor"]["pid"].as_i64().unwrap() as i32)
}

/// Its exit code, or None when it doesn't end in time.
fn ends_within(seconds: u64, mut child: Child) -> Option<i32> {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

fn begun(jar: &Jar, words: &[&str]) -> Child {
    jar.onggi(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The time that a process has had on the processor, in ticks of a hundredth of a second.
fn ticks(process: Process) -> u64 {
    let stat = process.read("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn an_exec_whose_child_keeps_its_streams_comes_back() {
    let Some(jar) = Jar::new() else { return };
    begin(&jar, "keeper", &[]);
    let child = begun(&jar, &["exec", "keeper", "sh", "-c", "sleep 60 & exit 4"]);
    assert_eq!(ends_within(15, child), Some(4));
    // What it writes before it falls silent is shown.
    assert_eq!(jar.does(&["exec", "keeper", "sh", "-c", "(sleep 1; echo late; exec sleep 60) & echo soon"]), "soon\nlate");
}

#[test]
fn who_waits_for_the_rest_of_an_exec_can_be_interrupted() {
    let Some(jar) = Jar::new() else { return };
    begin(&jar, "talker", &[]);
    let child = begun(&jar, &["exec", "talker", "sh", "-c", "(while :; do echo x; sleep 0.1; done) & exit 5"]);
    std::thread::sleep(Duration::from_millis(1500));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(ends_within(15, child), Some(5));
}

#[test]
fn a_damaged_record_is_passed_over_and_can_be_removed() {
    let Some(jar) = Jar::new() else { return };
    let file = |id: &str| jar.root.join("data/containers").join(id).join("container.json");
    let (named, unnamed, running) = (jar.does(&["create", "--name", "hurt", "base"]), jar.does(&["create", "base"]), begin(&jar, "alive", &[]));
    jar.does(&["create", "--name", "well", "base"]);
    fs::write(jar.root.join("data/containers/.stray"), "").unwrap();
    let (monitor, init) = (monitor(&jar, &running), Process(jar.init_of("alive").unwrap()));
    for id in [&named, &unnamed, &running] {
        fs::write(file(id), "{\"id\": 1").unwrap();
    }

    jar.does(&["container", "prune", "-f"]);
    assert!(!jar.does(&["ps", "-a"]).contains("well"), "what is not damaged goes");
    assert!(init.lives() && file(&named).exists(), "whether the others run nobody can read");

    jar.does(&["rm", "-f", "hurt", &unnamed[..12], &running]);
    until("its monitor has ended", || !init.lives() && !monitor.lives());
    fs::remove_file(jar.root.join("data/containers/.stray")).unwrap();
    assert_eq!(jar.ids(), Vec::<String>::new());
    assert!(jar.root.join("run/running").read_dir().unwrap().next().is_none());
    jar.does(&["create", "--name", "hurt", "base"]);
}

#[test]
fn a_container_outlives_the_folder_of_its_state_and_can_be_stopped() {
    let Some(jar) = Jar::new() else { return };
    let id = begin(&jar, "survivor", &[]);
    // Its monitor may still write there.
    until("it has looked for what others left", || jar.root.join("run/boot").exists());
    until("the folder is gone", || fs::remove_dir_all(jar.root.join("run")).is_ok());
    assert!(jar.does(&["ps"]).contains("survivor"));
    let record = jar.record(&id).unwrap();
    let groups = &record["state"]["cgroup"];
    let v1 = groups["legacy"].as_object().into_iter().flat_map(|groups| groups.values());
    let groups: Vec<&str> = v1.chain([&groups["unified"]]).filter_map(|dir| dir.as_str()).collect();
    assert!(groups.iter().any(|dir| std::path::Path::new(dir).exists()));
    assert_eq!(ends_within(15, begun(&jar, &["stop", "-t", "0", "survivor"])), Some(0));
    assert!(!groups.iter().any(|dir| std::path::Path::new(dir).exists()), "{groups:?}");
    assert_eq!(jar.record(&id).unwrap()["state"]["exitCode"], 137);
    jar.does(&["rm", "survivor"]);
    jar.assert_nothing_left();
}

#[test]
fn wait_does_not_wait_for_a_run_that_was_killed() {
    let Some(jar) = Jar::new() else { return };
    let id = jar.does(&["create", "--name", "half", "base"]);
    let mut record = jar.record(&id).unwrap();
    record["state"]["monitor"] = serde_json::json!({ "pid": i32::MAX, "start_time": 1 });
    fs::write(jar.root.join("data/containers").join(&id).join("container.json"), record.to_string()).unwrap();
    assert_eq!(ends_within(10, begun(&jar, &["wait", "half"])), Some(0));
}

#[test]
fn a_monitor_whose_client_stands_still_rests_and_can_be_ended() {
    let Some(jar) = Jar::new() else { return };
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    // More than fits into its pipes: the rest stays with the monitor.
    let words = ["run", "--name", "full", "base", "sh", "-c", "head -c 180000 /dev/zero"];
    let mut client = jar.onggi(&words).stdout(Stdio::from(write)).spawn().unwrap();
    until("it has ended", || jar.id_of("full").and_then(|id| jar.record(&id)).is_some_and(|record| record["state"]["status"] == "exited"));
    let client_pid = client.id() as i32;
    let mut monitors = support::kernel::all_processes()
        .into_iter()
        .filter(|process| process.read("comm") == "onggi-monitor\n" && process.lives() && process.status("PPid") == client_pid.to_string());
    let monitor = monitors.next().expect("its monitor waits for the client");
    let before = ticks(monitor);
    std::thread::sleep(Duration::from_secs(1));
    assert!(ticks(monitor) - before < 20, "it spins");
    kill(Pid::from_raw(monitor.0), Signal::SIGTERM).unwrap();
    until("the monitor has ended", || !monitor.lives());
    drop(read);
    client.wait().unwrap();
}

#[test]
fn a_monitor_can_wait_longer_than_its_clock_counts() {
    let Some(jar) = Jar::new() else { return };
    let words = ["run", "-d", "--name", "patient", "--stop-timeout", "18446744073709551615", "base", "sh", "-c"];
    let id = jar.does(&[&words[..], &["trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done"]].concat());
    until("it is ready", || jar.does(&["logs", "patient"]) == "ready");
    kill(Pid::from_raw(monitor(&jar, &id).0), Signal::SIGTERM).unwrap();
    assert_eq!(jar.does(&["wait", "patient"]), "3");
}

#[test]
fn attach_to_a_monitor_that_stands_still_can_be_interrupted() {
    let Some(jar) = Jar::new() else { return };
    let id = begin(&jar, "still", &[]);
    let monitor = Pid::from_raw(monitor(&jar, &id).0);
    kill(monitor, Signal::SIGSTOP).unwrap();
    let child = begun(&jar, &["attach", "still"]);
    std::thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let ended = ends_within(10, child);
    kill(monitor, Signal::SIGCONT).unwrap();
    assert!(ended.is_some());
}

#[test]
fn a_sparse_gigabyte_in_place_of_a_record_is_not_read_whole() {
    let Some(jar) = Jar::new() else { return };
    let id = jar.does(&["create", "--name", "huge", "base"]);
    let file = fs::File::create(jar.root.join("data/containers").join(&id).join("container.json")).unwrap();
    file.write_all_at(b"x", 8 << 30).unwrap();
    let mut child = jar.onggi(&["ps", "-a"]);
    assert!(child.output().unwrap().status.success());
    jar.does(&["rm", "-f", "huge"]);
    assert_eq!(jar.ids(), Vec::<String>::new());
}

#[test]
fn a_client_that_asks_and_never_listens_keeps_the_monitor_from_nobody() {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
    use std::os::fd::AsRawFd;
    let Some(jar) = Jar::new() else { return };
    let id = begin(&jar, "asked", &[]);
    // By the descriptor of its folder: a socket's address is short.
    let folder = fs::File::open(jar.root.join("run/monitors")).unwrap();
    let address = UnixAddr::new(format!("/proc/self/fd/{}/{id}", folder.as_raw_fd()).as_str()).unwrap();
    let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    connect(client.as_raw_fd(), &address).unwrap();
    let ask = br#"{"Attach":{"stdin":false,"stdout":true,"stderr":true,"size":null}}"#;
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let _ = send(client.as_raw_fd(), ask, MsgFlags::MSG_DONTWAIT);
    }
    assert_eq!(ends_within(15, begun(&jar, &["rm", "-f", "asked"])), Some(0));
    assert_eq!(jar.ids(), Vec::<String>::new());
}

#[test]
fn what_a_removal_needs_is_there_before_the_disk_is_full() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["create", "base"]);
    assert!(jar.root.join("data/removing").is_dir() && jar.root.join("data/names.lock").exists());
}
