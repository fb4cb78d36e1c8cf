//! What the real kernel says to all of this, on whatever the host has: v1, hybrid or v2. Groups are made below
//! `/onggi-test-PID-NAME` only, and are gone afterwards. Needs root.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::error::Class;
use crate::sys::process::{self, Clone, Forked};

/// A place below our own folder of the test, or None (and a word) where it can't be.
fn ours(name: &str) -> Option<Place> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: making cgroups needs root");
        return None;
    }
    // A folder for each test: who makes it, empties it.
    let path = format!("/onggi-test-{}-{name}/{name}", std::process::id());
    let layout = detect().unwrap();
    let place = place(&Request { layout: &layout, cgroups_path: Some(&path), id: name, systemd: false, rootless: false, limits: true }).unwrap();
    let place = place.filter(|place| place.dirs().iter().all(|dir| dir.ancestors().any(|level| level.join("cgroup.procs").exists())));
    if place.is_none() {
        eprintln!("skipped: no cgroup file system is mounted here");
    }
    place
}

fn resources(json: serde_json::Value) -> Resources {
    serde_json::from_value(json).unwrap()
}

/// A child that waits for a line before it does anything; killed and reaped when dropped.
struct Waiting(Child);

impl Waiting {
    fn shell(script: &str) -> Waiting {
        let script = format!("read go; {script}");
        Waiting(Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn go(&mut self) -> Vec<String> {
        writeln!(self.0.stdin.take().unwrap(), "go").unwrap();
        BufReader::new(self.0.stdout.take().unwrap()).lines().map(Result::unwrap).collect()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A made group with `child` in it. Its end kills what is inside.
struct Group(Place);

impl Group {
    fn with(mut place: Place, child: &Waiting, limits: &Resources) -> Group {
        let created = create(&mut place, limits).unwrap();
        attach(&place, child.pid(), limits).unwrap();
        apply(&place, limits, false).unwrap();
        created.keep();
        Group(place)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        kill_all(&self.0, libc::SIGKILL).unwrap();
        remove(&self.0).unwrap();
        assert!(self.0.dirs().iter().all(|dir| !dir.exists()), "the group is gone");
    }
}

#[test]
fn a_group_lives_from_its_making_to_its_removal() {
    let Some(place) = ours("life") else { return };
    let child = Waiting::shell("sleep 100");
    let limits = resources(json!({"memory": {"limit": 67108864}, "pids": {"limit": 16}, "cpu": {"shares": 512, "quota": 50000, "period": 100000}}));
    let group = Group::with(place, &child, &limits);
    let place = &group.0;
    assert_eq!(processes(place), [child.pid()]);
    let stats = stats(place);
    assert_eq!((stats.memory.usage.limit, stats.pids.limit, stats.pids.current), (67_108_864, 16, 1));

    assert!(!frozen(place));
    freeze(place, true).unwrap();
    assert!(frozen(place));
    freeze(place, false).unwrap();
    assert!(!frozen(place));

    apply(place, &resources(json!({"memory": {"limit": 33554432}, "pids": {"limit": -1}, "cpu": {"quota": -1}})), true).unwrap();
    let after = super::stats(place);
    assert_eq!((after.memory.usage.limit, after.pids.limit), (33_554_432, 0));
    let parents: Vec<_> = place.dirs().iter().map(|dir| dir.parent().unwrap().to_path_buf()).collect();
    drop(group);
    assert!(parents.iter().all(|dir| !dir.exists()), "we made the parents too");
}

#[test]
fn a_frozen_group_with_groups_inside_is_killed_and_removed() {
    let Some(place) = ours("nested") else { return };
    let (outer, inner) = (Waiting::shell("sleep 100"), Waiting::shell("sleep 100"));
    let group = Group::with(place, &outer, &Resources::default());
    for dir in group.0.dirs() {
        // As a container with a writable cgroup file system would. v2 allows a process in the middle as long as no controller is
        // handed further down.
        let sub = dir.join("a");
        std::fs::create_dir_all(sub.join("b")).unwrap();
        if dir.join("cpuset.mems").exists() && !group.0.is_unified() {
            v1::inherit_cpuset(&sub).unwrap();
        }
        std::fs::write(sub.join("cgroup.procs"), inner.pid().to_string()).unwrap();
    }
    let mut both = [outer.pid(), inner.pid()];
    both.sort_unstable();
    assert_eq!(processes(&group.0), both);
    freeze(&group.0, true).unwrap();
}

#[test]
fn another_containers_group_is_refused_with_its_processes() {
    let Some(mut place) = ours("taken") else { return };
    let child = Waiting::shell("sleep 100");
    let _group = Group::with(place.clone(), &child, &Resources::default());
    let error = create(&mut place, &Resources::default()).err().unwrap();
    assert_eq!(error.class, Class::Conflict);
    assert!(error.one_line().contains(&child.pid().to_string()), "{error}");
}

#[test]
fn a_failed_create_leaves_nothing() {
    let Some(mut place) = ours("undone") else { return };
    drop(create(&mut place, &Resources::default()).unwrap());
    assert!(place.dirs().iter().all(|dir| !dir.exists()));
}

#[test]
fn what_a_crash_left_under_our_own_name_is_taken_over_and_removed() {
    let Some(mut place) = ours("crash") else { return };
    create(&mut place, &Resources::default()).unwrap().keep();
    let mut again = Place { made: vec![], named_by_us: true, ..place.clone() };
    create(&mut again, &Resources::default()).unwrap().keep();
    assert!(again.made.is_empty());
    remove(&again).unwrap();
    assert!(place.dirs().iter().all(|dir| !dir.exists()));
    remove(&place).unwrap();
}

#[test]
fn what_is_still_populated_is_not_removed_and_says_why() {
    let Some(place) = ours("busy") else { return };
    let child = Waiting::shell("sleep 100");
    let group = Group::with(place, &child, &Resources::default());
    let error = remove(&group.0).unwrap_err();
    assert_eq!(error.class, Class::Conflict);
    assert!(error.one_line().contains(&format!("{} (sh)", child.pid())), "{error}");
}

#[test]
fn devices_are_closed_but_for_the_allowed_and_open_again_after_an_update() {
    let Some(place) = ours("devices") else { return };
    if super::devices::rules(&default_rules()).is_err() || !std::path::Path::new("/dev/kmsg").exists() {
        eprintln!("skipped: there is no /dev/kmsg to try");
        return;
    }
    let script = "true < /dev/null && echo null; true > /dev/zero && echo zero; true < /dev/kmsg && echo kmsg; exit 0";
    let mut limits = resources(json!({"devices": [{"allow": false, "access": "rwm"}]}));
    limits.devices.extend(default_rules());
    let mut child = Waiting::shell(script);
    let group = Group::with(place, &child, &limits);
    assert_eq!(child.go(), ["null", "zero"]);

    // The last rule wins, also in part: reading zero is taken back, writing is not.
    limits.devices.push(serde_json::from_value(json!({"allow": false, "type": "c", "major": 1, "minor": 5, "access": "r"})).unwrap());
    apply(&group.0, &limits, true).unwrap();
    let mut child = Waiting::shell("true < /dev/zero && echo read; true > /dev/zero && echo write; true <> /dev/zero && echo both; exit 0");
    attach(&group.0, child.pid(), &limits).unwrap();
    assert_eq!(child.go(), ["write"]);

    apply(&group.0, &resources(json!({"devices": [{"allow": true}]})), true).unwrap();
    let mut child = Waiting::shell(script);
    attach(&group.0, child.pid(), &limits).unwrap();
    assert_eq!(child.go(), ["null", "zero", "kmsg"]);
}

#[test]
fn memory_running_out_is_told() {
    let Some(place) = ours("oom") else { return };
    // A buffer of five times the limit, filled.
    let mut child = Waiting::shell("dd if=/dev/zero of=/dev/null bs=100M count=1; exit 0");
    let limits = resources(json!({"memory": {"limit": 20971520, "swap": 20971520}}));
    let group = Group::with(place, &child, &limits);
    let mut watcher = oom_events(&group.0).unwrap();
    assert_eq!(watcher.look(), Some(None));
    let waiting = std::thread::spawn(move || watcher.wait());
    child.go();
    assert!(waiting.join().unwrap().unwrap().is_some_and(|count| count >= 1));
    let mut ends = oom_events(&group.0).unwrap();
    drop(group);
    assert_eq!(ends.wait(), Ok(None), "a watcher ends with its group");
}

#[test]
fn values_that_the_kernel_refuses_are_told_by_name() {
    let Some(place) = ours("refused") else { return };
    let child = Waiting::shell("sleep 100");
    let group = Group::with(place, &child, &Resources::default());
    let cpus = apply(&group.0, &resources(json!({"cpu": {"cpus": "4000"}})), true).unwrap_err();
    assert_eq!(cpus.class, Class::Invalid);
    assert!(cpus.one_line().contains("cpuset.cpus"), "{cpus}");
    let disk = json!({"blockIO": {"throttleReadBpsDevice": [{"major": 240, "minor": 77, "rate": 1000}]}});
    let disk = apply(&group.0, &resources(disk), true).unwrap_err();
    assert_eq!(disk.class, Class::NotFound, "{disk}");
    let unified = apply(&group.0, &resources(json!({"unified": {"memory.nonsense": "1"}})), true).unwrap_err();
    assert_eq!(unified.class, Class::Unsupported);
    assert!(unified.one_line().contains("memory.nonsense"), "{unified}");
}

#[test]
fn memory_and_swap_go_down_and_up_together() {
    let Some(place) = ours("swap") else { return };
    let child = Waiting::shell("sleep 100");
    let size = |limit: u64, swap: u64| resources(json!({"memory": {"limit": limit << 20, "swap": swap << 20}}));
    let group = Group::with(place, &child, &size(100, 200));
    for (limit, swap) in [(50, 60), (300, 400), (200, 200)] {
        apply(&group.0, &size(limit, swap), true).unwrap();
        let memory = stats(&group.0).memory;
        assert_eq!((memory.usage.limit >> 20, memory.swap.limit >> 20), (limit, swap));
    }
}

#[test]
fn a_process_is_born_in_its_group_on_v2() {
    let Some(mut place) = ours("born") else { return };
    let created = create(&mut place, &Resources::default()).unwrap();
    let Some(dir) = dir_fd(&place).unwrap().filter(|_| place.is_unified()) else {
        eprintln!("skipped: only a host with v2 alone has CLONE_INTO_CGROUP for all controllers");
        return;
    };
    let (read, write) = crate::sys::fd::pipe().unwrap();
    match process::clone3(&Clone { cgroup: Some(dir.as_fd()), ..Clone::default() }).unwrap() {
        // Only calls that are safe after a fork among threads.
        Forked::Child => {
            let _ = nix::unistd::read(&read, &mut [0]);
            process::exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            assert_eq!(processes(&place), [pid]);
            let name = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            assert!(name.trim_end().ends_with("/born"), "{name}");
            nix::unistd::write(&write, b"x").unwrap();
            process::wait(pidfd.as_fd()).unwrap();
        }
    }
    created.keep();
    remove(&place).unwrap();
}

#[test]
fn a_newcomer_goes_where_init_is_when_the_group_was_divided() {
    let Some(place) = ours("divided") else { return };
    if !place.is_unified() {
        eprintln!("skipped: only v2 forbids processes in groups that are divided");
        return;
    }
    let child = Waiting::shell("sleep 100");
    let group = Group::with(place, &child, &Resources::default());
    let dir = group.0.unified.clone().unwrap();
    std::fs::create_dir(dir.join("init.scope")).unwrap();
    std::fs::write(dir.join("init.scope/cgroup.procs"), child.pid().to_string()).unwrap();
    std::fs::write(dir.join("cgroup.subtree_control"), "+pids").unwrap();
    let newcomer = Waiting::shell("sleep 100");
    assert_eq!(attach(&group.0, newcomer.pid(), &Resources::default()).unwrap_err().class, Class::Conflict);
    let home = exec_dir(&group.0, child.pid()).unwrap().unwrap();
    let home = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&home))).unwrap();
    assert_eq!(home, dir.join("init.scope"));
}

#[test]
fn a_parent_with_processes_can_not_divide_its_controllers() {
    let Some(place) = ours("crowd") else { return };
    if !place.is_unified() {
        eprintln!("skipped: only v2 has the rule");
        return;
    }
    let child = Waiting::shell("sleep 100");
    let group = Group::with(place.clone(), &child, &Resources::default());
    let mut inside = Place { unified: place.unified.map(|dir| dir.join("inside")), ..place };
    let error = create(&mut inside, &resources(json!({"memory": {"limit": 1048576}}))).err().unwrap();
    assert_eq!(error.class, Class::Conflict, "{error}");
    assert!(error.one_line().contains(&child.pid().to_string()), "{error}");
    let kind = std::fs::read_to_string(group.0.unified.as_ref().unwrap().join("cgroup.type")).unwrap();
    assert_eq!(kind, "domain\n", "the refusal changed nothing");
    // Without limits nothing is divided, and it works.
    drop(create(&mut inside, &Resources::default()).unwrap());
    drop(group);
}

#[test]
fn below_a_threaded_group_only_threaded_controllers_can_be_had() {
    let Some(place) = ours("threads") else { return };
    if !place.is_unified() {
        eprintln!("skipped: only v2 has threaded groups");
        return;
    }
    // A group that is threaded makes its parent a threaded domain, and a new neighbour invalid.
    let top = place.mounts[0].join(format!("onggi-threads-{}", std::process::id()));
    std::fs::create_dir_all(top.join("threaded")).unwrap();
    std::fs::write(top.join("threaded/cgroup.type"), "threaded").unwrap();
    let mut inside = Place { unified: Some(top.join("inside")), ..place };
    let error = create(&mut inside, &resources(json!({"memory": {"limit": 1048576}}))).err().unwrap();
    assert_eq!(error.class, Class::Unsupported, "{error}");
    let limits = resources(json!({"pids": {"limit": 5}}));
    let created = create(&mut inside, &limits).unwrap();
    let child = Waiting::shell("sleep 100");
    std::fs::write(top.join("cgroup.procs"), child.pid().to_string()).unwrap();
    attach(&inside, child.pid(), &limits).unwrap();
    apply(&inside, &limits, false).unwrap();
    assert_eq!(processes(&inside), [child.pid()]);
    created.keep();
    kill_all(&inside, libc::SIGKILL).unwrap();
    drop(child);
    remove(&inside).unwrap();
    std::fs::remove_dir(top.join("threaded")).unwrap();
    std::fs::remove_dir(top).unwrap();
}

#[test]
fn every_limit_of_v2_can_be_read_back() {
    let Some(place) = ours("all") else { return };
    if !place.is_unified() {
        eprintln!("skipped: this host has v1");
        return;
    }
    let child = Waiting::shell("sleep 100");
    let mut limits = resources(json!({
        "memory": {"limit": 104857600, "swap": 209715200, "reservation": 1048576, "checkBeforeUpdate": true},
        "cpu": {"shares": 2048, "quota": 20000, "period": 50000, "burst": 5000, "cpus": "0", "mems": "0", "idle": 1},
        "pids": {"limit": 9}, "unified": {"memory.high": "94371840", "cgroup.max.depth": "3"}
    }));
    if std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        limits.hugepage_limits = serde_json::from_value(json!([{"pageSize": "2MB", "limit": 4194304}])).unwrap();
    }
    let group = Group::with(place, &child, &limits);
    let dir = group.0.unified.clone().unwrap();
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap().trim().to_string();
    for (file, value) in [
        ("memory.max", "104857600"),
        ("memory.swap.max", "104857600"),
        ("memory.low", "1048576"),
        ("memory.high", "94371840"),
        ("cpu.max", "20000 50000"),
        ("cpu.max.burst", "5000"),
        ("cpu.idle", "1"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "9"),
        ("cgroup.max.depth", "3"),
    ] {
        assert_eq!(read(file), value, "{file}");
    }
    if !limits.hugepage_limits.is_empty() {
        assert_eq!((read("hugetlb.2MB.max"), read("hugetlb.2MB.rsvd.max")), ("4194304".into(), "4194304".into()));
    }
    // Busy again, with a weight; a quota below the old burst.
    apply(&group.0, &resources(json!({"cpu": {"idle": 0, "shares": 1024, "quota": 3000, "burst": 1000}})), true).unwrap();
    assert_eq!(
        (read("cpu.idle"), read("cpu.weight"), read("cpu.max"), read("cpu.max.burst")),
        ("0".into(), "39".into(), "3000 50000".into(), "1000".into())
    );
}

#[test]
fn a_user_divides_the_group_that_was_delegated() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("skipped: this asks as a user");
        return;
    }
    let layout = detect().unwrap();
    let request = Request { layout: &layout, cgroups_path: None, id: "mine", systemd: false, rootless: true, limits: true };
    let Ok(Some(place)) = place(&request) else {
        eprintln!("skipped: no group was delegated to this user");
        return;
    };
    let child = Waiting::shell("sleep 100");
    let mut limits = resources(json!({"memory": {"limit": 33554432}, "pids": {"limit": 5}, "devices": [{"allow": false}]}));
    limits.devices.extend(default_rules());
    let group = Group::with(place, &child, &limits);
    assert_eq!(stats(&group.0).pids.limit, 5);
    assert_eq!(processes(&group.0), [child.pid()]);
}

#[test]
fn systemd_makes_updates_and_stops_a_scope() {
    let id = format!("test{}", std::process::id());
    let (layout, rootless) = (detect().unwrap(), !nix::unistd::geteuid().is_root());
    let request = Request { layout: &layout, cgroups_path: None, id: &id, systemd: true, rootless, limits: true };
    let mut place = match place(&request) {
        Ok(place) => place.unwrap(),
        Err(e) => return eprintln!("skipped: {}", e.one_line()),
    };
    let child = Waiting::shell("sleep 100");
    let mut limits = resources(
        json!({"memory": {"limit": 67108864, "swap": 67108864}, "pids": {"limit": 16}, "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"}}),
    );
    limits.devices.push(serde_json::from_value(json!({"allow": false})).unwrap());
    limits.devices.extend(default_rules());
    create(&mut place, &limits).unwrap().keep();
    assert!(dir_fd(&place).unwrap().is_none(), "the scope is made with its first process");
    let group = Group::with(place, &child, &limits);
    assert!(std::fs::read_to_string(format!("/proc/{}/cgroup", child.pid())).unwrap().contains(&format!("/onggi-{id}.scope")));
    assert_eq!(processes(&group.0), [child.pid()]);
    assert_eq!((stats(&group.0).memory.usage.limit, stats(&group.0).pids.limit), (67_108_864, 16));
    let newcomer = Waiting::shell("sleep 100");
    attach(&group.0, newcomer.pid(), &limits).unwrap();
    assert_eq!(processes(&group.0).len(), 2);
    apply(&group.0, &resources(json!({"pids": {"limit": 20}})), true).unwrap();
    let unit = group.0.unit.as_ref().unwrap().name.clone();
    let shown = Command::new("systemctl")
        .args(if rootless { &["--user"][..] } else { &[] })
        .args(["show", &unit, "-p", "TasksMax,MemoryMax,MemoryLimit,Delegate"])
        .output();
    if let Ok(shown) = shown {
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let memory = if group.0.is_unified() { "MemoryMax=67108864" } else { "MemoryLimit=67108864" };
        assert!(["TasksMax=20", memory, "Delegate=yes"].iter().all(|line| shown.contains(line)), "{shown}");
    }
}

#[test]
fn signals_reach_every_process() {
    let Some(place) = ours("signal") else { return };
    let mut child = Waiting::shell("sleep 100");
    let group = Group::with(place, &child, &Resources::default());
    kill_all(&group.0, libc::SIGTERM).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while child.0.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline, "SIGTERM ended it");
        std::thread::sleep(Duration::from_millis(5));
    }
}
