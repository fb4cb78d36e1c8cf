//! Limits in the kernel's files and in their effect: more memory or more processes than allowed are not had.
//!
//! See it: `cat /sys/fs/cgroup/memory/…/memory.limit_in_bytes`, `prlimit`. Read: cgroups(7), getrlimit(2).

use std::path::PathBuf;

use crate::support::jar::Jar;

/// The container's cgroup of a v1 controller, as the kernel tells it of the first process.
fn cgroup(pid: i32, controller: &str) -> PathBuf {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups.lines().find_map(|line| line.split_once(&format!(":{controller}:")).map(|(_, path)| path)).unwrap();
    PathBuf::from(format!("/sys/fs/cgroup/{controller}{path}"))
}

/// On a machine with cgroup v2 alone other files say it: the VM's tests read them.
fn has_v1() -> bool {
    let there = std::path::Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
    if !there {
        crate::support::say("note: no cgroup v1 here, whose files these tests read; the tests in the VM read those of v2");
    }
    there
}

#[test]
fn limits_are_in_the_kernels_files_and_the_cgroups_go_with_the_container() {
    let Some(jar) = Jar::new().filter(|_| has_v1()) else { return };
    let options = "--memory 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --pids-limit 20 --cpuset-cpus 0 --cpuset-mems 0";
    let words: Vec<&str> = options.split(' ').chain(["base", "sleep", "1000"]).collect();
    let mut onggi = jar.begin("limited", &words);
    let pid = jar.init_of("limited").unwrap();
    let read = |controller: &str, file: &str| std::fs::read_to_string(cgroup(pid, controller).join(file)).unwrap().trim().to_string();
    assert_eq!(read("memory", "memory.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(read("memory", "memory.soft_limit_in_bytes"), (32 << 20).to_string());
    assert_eq!((read("cpu", "cpu.cfs_quota_us"), read("cpu", "cpu.cfs_period_us")), ("50000".into(), "100000".into()));
    assert_eq!(read("cpu", "cpu.shares"), "512");
    assert_eq!(read("pids", "pids.max"), "20");
    assert_eq!((read("cpuset", "cpuset.cpus"), read("cpuset", "cpuset.mems")), ("0".into(), "0".into()));
    let dirs = ["memory", "cpu", "pids", "cpuset", "devices", "freezer"].map(|controller| cgroup(pid, controller));
    assert!(dirs.iter().all(|dir| dir.is_dir() && dir.components().count() > 5), "{dirs:?}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(onggi.wait().unwrap().code(), Some(137));
    assert!(!dirs.iter().any(|dir| dir.exists()), "{dirs:?}");
    jar.assert_nothing_left();
}

#[test]
fn more_memory_than_allowed_ends_in_137() {
    let Some(jar) = Jar::new() else { return };
    // tail keeps a line until it ends, and this one never does.
    let told = jar.run(&["--memory", "16m", "base", "tail", "-n", "1", "/dev/zero"]);
    assert_eq!(told.code, 137, "{told:?}");
    jar.assert_nothing_left();
}

#[test]
fn more_processes_than_allowed_are_refused() {
    let Some(jar) = Jar::new() else { return };
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait";
    let told = jar.run(&["--pids-limit", "5", "base", "sh", "-c", script]);
    assert!(told.code != 0 && told.err.to_lowercase().contains("fork"), "{told:?}");
    assert_eq!(jar.run(&["--pids-limit", "-1", "base", "true"]).code, 0);
}

#[test]
fn half_a_cpu_is_half_as_fast() {
    let Some(jar) = Jar::new() else { return };
    let throttled = "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; cat /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null; true";
    let told = jar.shows(&["--cpus", "0.1", "base", "sh", "-c", throttled]);
    let times = told.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap_or("0");
    assert!(times.parse::<u32>().unwrap() > 0, "{told}");
}

#[test]
fn a_parent_cgroup_is_used() {
    let Some(jar) = Jar::new().filter(|_| has_v1()) else { return };
    let parent = format!("onggi-test-{}", std::process::id());
    let mut onggi = jar.begin("child", &["--cgroup-parent", &parent, "base", "sleep", "1000"]);
    let pid = jar.init_of("child").unwrap();
    let dir = cgroup(pid, "memory");
    assert!(dir.display().to_string().contains(&format!("/{parent}/")), "{dir:?}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    onggi.wait().unwrap();
    assert!(!dir.exists());
    // The parent is who named it's.
    for controller in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = std::fs::remove_dir(controller.path().join(&parent));
    }
}

#[test]
fn ulimits_and_the_oom_score_are_the_programs() {
    let Some(jar) = Jar::new() else { return };
    assert_eq!(jar.shows(&["--ulimit", "nofile=100:200", "base", "sh", "-c", "ulimit -Sn; ulimit -Hn"]), "100\n200");
    assert_eq!(jar.shows(&["--ulimit", "core=0", "base", "sh", "-c", "grep -i core /proc/self/limits | tr -s ' '"]), "Max core file size 0 0 bytes");
    assert_eq!(jar.shows(&["--oom-score-adj", "500", "base", "cat", "/proc/self/oom_score_adj"]), "500");
    jar.refuses(&["--ulimit", "nofile=20:10", "base", "true"], 125, &["soft limit must be less than or equal to hard limit"]);
}

#[test]
fn impossible_limits_are_refused_and_leave_nothing() {
    let Some(jar) = Jar::new() else { return };
    for (options, part) in [
        (["--cpuset-cpus", "900"], "900"),
        (["--cpuset-mems", "900"], "900"),
        (["--cpus", "0"], "0.01"),
        (["--memory", "abc"], "abc"),
        (["--pids-limit", "many"], "many"),
        (["--cpu-quota", "1"], "cpu"),
    ] {
        jar.refuses(&[options[0], options[1], "base", "true"], 125, &[part]);
    }
    jar.assert_nothing_left();
}
