//! What a crash, a full disk or a wrong store leaves: nothing that the next command doesn't clear, and an error that says what it was.
//!
//! See it: `kill -9` an `onggi-monitor`, then `find $ONGGI_ROOT/run`. Read: prctl(2) PR_SET_PDEATHSIG.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::jar::{Jar, ONGGI, said, until};

#[test]
fn kill_9_of_onggi_leaves_the_container_to_its_monitor() {
    let Some(jar) = Jar::new() else { return };
    let mut onggi = jar.begin("orphaned", &["base", "sleep", "1000"]);
    let init = jar.init_of("orphaned").unwrap();
    kill(Pid::from_raw(onggi.id() as i32), Signal::SIGKILL).unwrap();
    onggi.wait().unwrap();
    assert_eq!(said(jar.onggi(&["exec", "orphaned", "echo", "alive"]).output().unwrap()).out, "alive\n");
    assert!(std::path::Path::new(&format!("/proc/{init}")).exists());
    assert_eq!(said(jar.onggi(&["rm", "-f", "orphaned"]).output().unwrap()).out, "orphaned\n");
    jar.assert_nothing_left();
}

#[test]
fn kill_9_of_the_monitor_ends_the_container_and_the_next_command_clears_up() {
    let Some(jar) = Jar::new() else { return };
    assert_eq!(said(jar.onggi(&["run", "-d", "--rm", "--name", "orphaned", "base", "sleep", "1000"]).output().unwrap()).code, 0);
    let init = jar.init_of("orphaned").unwrap();
    let groups = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
    let id = jar.id_of("orphaned").unwrap();
    assert!(groups.contains(&id), "{groups}");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(jar.root.join("data/containers").join(&id).join("container.json")).unwrap()).unwrap();
    kill(Pid::from_raw(record["state"]["monitor"]["pid"].as_i64().unwrap() as i32), Signal::SIGKILL).unwrap();
    until("its process has ended", || !std::path::Path::new(&format!("/proc/{init}")).exists());
    // The name is free again at once, for whoever had it is gone.
    let told = jar.run(&["--name", "orphaned", "base", "true"]);
    assert_eq!(told.code, 0, "{}", told.err);
    jar.assert_nothing_left();
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("*{id}*")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn kill_9_of_run_at_any_moment_leaves_a_container_or_nothing() {
    let Some(jar) = Jar::new() else { return };
    for milliseconds in (0..60).step_by(5) {
        let mut onggi = jar.onggi(&["run", "--rm", "base", "sleep", "1000"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        kill(Pid::from_raw(onggi.id() as i32), Signal::SIGKILL).unwrap();
        onggi.wait().unwrap();
    }
    until("nothing is left", || {
        for entry in std::fs::read_dir(jar.root.join("data/containers")).unwrap().flatten() {
            said(jar.onggi(&["rm", "-f", &entry.file_name().to_string_lossy()]).output().unwrap());
        }
        assert_eq!(jar.run(&["base", "true"]).code, 0);
        jar.left().is_empty()
    });
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let Some(jar) = Jar::new() else { return };
    // A private mount namespace: nobody else sees the tiny disk, and it goes with the last process in it.
    let script = format!(
        "set -e; mkdir disk; mount -t tmpfs -o size=2m,nr_inodes=400 disk disk; export ONGGI_ROOT=$PWD/disk; \
         code=0; {ONGGI} run --rm base true || code=$?; echo code $code; find disk/data/containers disk/data/names disk/run/running disk/data/snapshots disk/data/tmp -mindepth 1 -not -name '.*'"
    );
    let told = said(Command::new("unshare").args(["-m", "sh", "-c", &script]).current_dir(&jar.root).output().unwrap());
    assert!(told.err.contains("ENOSPC"), "{told:?}");
    assert_eq!(told.out, "code 125\n", "{}", told.err);

    let script = format!(
        "set -e; mkdir disk; mount -t tmpfs -o size=80m disk disk; cp -a data disk/; export ONGGI_ROOT=$PWD/disk; \
         {ONGGI} run --rm base true; head -c 100m /dev/zero > disk/full 2>/dev/null || true; \
         code=0; {ONGGI} run --rm base true || code=$?; echo code $code; rm disk/full; \
         {ONGGI} run --rm base true; find disk/data/containers disk/data/names disk/run/running disk/run/oci -mindepth 1 -not -name '.*'"
    );
    let again = Command::new("unshare").args(["-m", "sh", "-c", &script.replace("mkdir disk", "mkdir -p disk")]).current_dir(&jar.root).output();
    let told = said(again.unwrap());
    assert!(told.err.contains("ENOSPC"), "{told:?}");
    assert_eq!(told.out, "code 125\n", "{}", told.err);
}

#[test]
fn a_read_only_store_is_named() {
    let Some(jar) = Jar::new() else { return };
    let script = format!("mount --bind . . && mount -o remount,bind,ro . && ONGGI_ROOT=$PWD {ONGGI} run --rm base true");
    let told = said(Command::new("unshare").args(["-m", "sh", "-c", &script]).current_dir(&jar.root).output().unwrap());
    assert!(told.code == 125 && told.err.contains("EROFS"), "{told:?}");
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let Some(jar) = Jar::new() else { return };
    let version = jar.root.join("data/version");
    // A link to the shared image's file: another one takes its place, it isn't written to.
    std::fs::remove_file(&version).unwrap();
    std::fs::write(&version, "99\n").unwrap();
    jar.refuses(&["base", "true"], 125, &["version 99"]);
}

#[test]
fn a_failure_on_the_way_leaves_nothing() {
    let Some(jar) = Jar::new() else { return };
    jar.refuses(&["base", "nonsense"], 127, &[]);
    jar.refuses(&["--sysctl", "kernel.randomize_va_space=2", "base", "true"], 125, &[]);
    jar.refuses(&["-v", "/etc/passwd:/etc", "base", "true"], 125, &[]);
    jar.refuses(&["-v", "/dev/null/x:/y", "base", "true"], 125, &["/dev/null/x"]);
    jar.assert_nothing_left();
}
