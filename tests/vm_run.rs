//! `onggi run` and `onggi-runtime` as on a student's machine: cgroup v2 alone, as root, as a user with a range of ids, and on an
//! initramfs. The tests in `guest` run in a VM.
//!
//! See it: `cargo test --test vm_run`. Read: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.

mod support;

use support::guest::guest_tests_pass;
use support::vm::Variant;

#[test]
fn containers_run_on_cgroup_v2() {
    guest_tests_pass("guest", Variant::TmpfsRoot, &[]);
}

#[test]
fn containers_run_on_an_initramfs_where_pivot_root_can_not() {
    guest_tests_pass("initramfs", Variant::InitramfsRoot, &[]);
}

/// A program of ours, in the VM: (exit code, standard output, standard error).
#[cfg(test)]
mod jar {
    use std::process::Command;

    pub fn onggi(args: &[&str]) -> (i32, String, String) {
        run(Command::new(env!("CARGO_BIN_EXE_onggi")).args(args))
    }

    pub fn run(command: &mut Command) -> (i32, String, String) {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// What a container that runs `probe` says of itself.
    pub fn facts(args: &[&str]) -> serde_json::Value {
        let (code, out, err) = onggi(&[&["run", "--rm"], args, &["base", "probe"]].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    }
}

mod guest {
    use super::jar::{facts, onggi, run};
    use super::support::vm;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The cgroup of the only container, found from outside while it runs `command`; `look` is called with its folder.
    fn while_running(options: &[&str], look: impl FnOnce(&Path)) {
        let args = [&["run", "--rm"], options, &["base", "sleep", "60"]].concat();
        let mut child = Command::new(env!("CARGO_BIN_EXE_onggi")).args(args).spawn().unwrap();
        let dir = (0..500).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            group_with_processes()
        });
        look(&dir.expect("the container's cgroup with its process"));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }

    fn group_with_processes() -> Option<PathBuf> {
        let groups = fs::read_dir("/sys/fs/cgroup/onggi").ok()?.flatten().map(|entry| entry.path());
        groups.into_iter().find(|dir| fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|text| !text.is_empty()))
    }

    fn read(dir: &Path, file: &str) -> String {
        fs::read_to_string(dir.join(file)).unwrap_or_else(|e| panic!("{file}: {e}")).trim().to_string()
    }

    #[test]
    fn limits_are_what_the_kernel_holds_the_container_to() {
        if !vm::inside() {
            return;
        }
        let options = ["--memory", "64m", "--memory-swap", "96m", "--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "33", "--cpuset-cpus", "1"];
        while_running(&options, |dir| {
            assert_eq!(read(dir, "memory.max"), (64 << 20).to_string());
            assert_eq!(read(dir, "memory.swap.max"), (32 << 20).to_string());
            assert_eq!(read(dir, "cpu.max"), "50000 100000");
            assert_eq!(read(dir, "pids.max"), "33");
            assert_eq!(read(dir, "cpuset.cpus"), "1");
            let weight: u32 = read(dir, "cpu.weight").parse().unwrap();
            assert!((1..100).contains(&weight), "half the usual shares weigh less than the usual 100: {weight}");
        });
        // The next command sweeps what the killed one left.
        assert_eq!(onggi(&["run", "--rm", "base", "true"]).0, 0);
        let left: Vec<_> = fs::read_dir("/sys/fs/cgroup/onggi").map(|d| d.flatten().filter(|e| e.path().is_dir()).collect()).unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        if !vm::inside() {
            return;
        }
        assert_eq!(facts(&[])["cgroup"], serde_json::json!(["0::/"]));
        let (code, out, err) = onggi(&["run", "--rm", "base", "sh", "-c", "cat /sys/fs/cgroup/cgroup.procs && ! mkdir /sys/fs/cgroup/x"]);
        assert!(code == 0 && out.starts_with("1\n"), "{code} {out} {err}");
    }

    #[test]
    fn who_takes_more_memory_than_allowed_is_killed() {
        if !vm::inside() {
            return;
        }
        let (code, ..) = onggi(&["run", "--rm", "--memory", "32m", "--memory-swap", "32m", "base", "probe", "try", "alloc", "128"]);
        assert_eq!(code, 137);
    }

    #[test]
    fn the_device_filter_stands_before_the_driver() {
        if !vm::inside() {
            return;
        }
        // Major 7, minor 0 is a loop device: the node can be made, and not be opened.
        let script = "mknod /tmp/loop b 7 0 && head -c 1 /tmp/loop";
        let (code, _, err) = onggi(&["run", "--rm", "base", "sh", "-c", script]);
        assert_ne!(code, 0);
        assert!(err.contains("Operation not permitted"), "{err}");
        let (code, _, err) = onggi(&["run", "--rm", "base", "sh", "-c", "head -c 1 /dev/zero > /dev/null"]);
        assert_eq!(code, 0, "{err}");
        let (code, _, err) = onggi(&["run", "--rm", "--privileged", "base", "sh", "-c", "head -c 0 /dev/loop0"]);
        assert_eq!(code, 0, "{err}");
    }

    #[test]
    fn pause_and_resume_are_the_groups_freezer() {
        if !vm::inside() {
            return;
        }
        let bundle = bundle("pause", &["/bin/busybox", "sleep", "60"]);
        let runtime = |args: &[&str]| run(Command::new(env!("CARGO_BIN_EXE_onggi-runtime")).args(["--root", "/run/pause"]).args(args));
        let detached = Command::new(env!("CARGO_BIN_EXE_onggi-runtime"))
            .args(["--root", "/run/pause", "run", "-d", "--bundle", bundle.to_str().unwrap(), "frozen"])
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(detached.success());
        let dir = Path::new("/sys/fs/cgroup/onggi/frozen");
        assert_eq!(runtime(&["pause", "frozen"]).0, 0);
        assert!(read(dir, "cgroup.events").contains("frozen 1"));
        assert_eq!(runtime(&["resume", "frozen"]).0, 0);
        assert!(read(dir, "cgroup.events").contains("frozen 0"));
        assert_eq!(runtime(&["update", "--memory", "50m", "--pids-limit", "7", "frozen"]).0, 0);
        assert_eq!((read(dir, "memory.max"), read(dir, "pids.max")), ((50 << 20).to_string(), "7".to_string()));
        let (code, out, err) = runtime(&["exec", "frozen", "/bin/busybox", "cat", "/proc/self/cgroup"]);
        assert_eq!((code, out.trim()), (0, "0::/"), "{err}");
        assert_eq!(runtime(&["delete", "--force", "frozen"]).0, 0);
        assert!(!dir.exists());
    }

    /// A bundle with busybox as its only program.
    pub fn bundle(name: &str, command: &[&str]) -> PathBuf {
        let dir = PathBuf::from(format!("/tmp/bundle-{name}"));
        fs::create_dir_all(dir.join("rootfs/bin")).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        fs::copy(busybox, dir.join("rootfs/bin/busybox")).unwrap();
        let (code, _, err) = run(Command::new(env!("CARGO_BIN_EXE_onggi-runtime")).args(["spec", "--bundle", dir.to_str().unwrap()]));
        assert_eq!(code, 0, "{err}");
        let file = dir.join("config.json");
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(command);
        fs::write(file, config.to_string()).unwrap();
        dir
    }

    /// As the user `student`, who has a range in /etc/subuid.
    fn student(setup: &str, args: &str) -> (i32, String, String) {
        let onggi = env!("CARGO_BIN_EXE_onggi");
        let command = format!("{setup} HOME=/home/student XDG_RUNTIME_DIR=/run/user/1000 exec {onggi} {args}");
        run(Command::new("su").args(["-s", "/bin/sh", "student", "-c", &command]))
    }

    #[test]
    fn a_student_without_rights_is_root_of_a_container_with_many_users() {
        if !vm::inside() {
            return;
        }
        let (code, out, err) = student("", "run --rm base probe");
        assert_eq!(code, 0, "{err}");
        let facts: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(facts["uid"], 0);
        assert_eq!(facts["uid_map"], serde_json::json!([[0, 1000, 1], [1, 100000, 65536]]));
        let (code, out, err) = student("", "run --rm -u 33:33 base sh -c 'touch /tmp/mine && stat -c %u:%g /tmp/mine'");
        assert_eq!((code, out.trim()), (0, "33:33"), "{err}");
    }

    #[test]
    fn limits_of_a_student_need_a_delegated_group_and_hold_in_one() {
        if !vm::inside() {
            return;
        }
        let (code, _, err) = student("", "run --rm --memory 64m base true");
        assert_eq!(code, 125);
        assert!(err.contains("no cgroup that this user may write to") && err.contains("Delegate=yes"), "{err}");
        // What systemd does with Delegate=yes: a folder that belongs to the user, and controllers handed down to it.
        let group = Path::new("/sys/fs/cgroup/delegated");
        fs::create_dir(group).unwrap();
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids +cpu").unwrap();
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            std::os::unix::fs::chown(group.join(file), Some(1000), Some(1000)).unwrap();
        }
        fs::create_dir(group.join("session")).unwrap();
        for file in ["", "cgroup.procs"] {
            std::os::unix::fs::chown(group.join("session").join(file), Some(1000), Some(1000)).unwrap();
        }
        let delegated = |args: &str| {
            let onggi = env!("CARGO_BIN_EXE_onggi");
            let command = format!("HOME=/home/student XDG_RUNTIME_DIR=/run/user/1000 exec {onggi} {args}");
            let script = r#"echo $$ > "$1/session/cgroup.procs" && exec su -s /bin/sh student -c "$2""#;
            run(Command::new("sh").args(["-c", script, "sh"]).arg(group).arg(command))
        };
        let (code, out, err) =
            delegated(r#"run --rm --memory 64m --pids-limit 9 base sh -c "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max""#);
        assert_eq!((code, &*out), (0, "67108864\n9\n"), "{err}");
        // The same in the background, where each command is another process of the student's.
        let does = |args: &str| {
            let (code, out, err) = delegated(args);
            assert_eq!(code, 0, "{args}: {err}");
            out
        };
        does("run -d --name jar --memory 64m base sleep 1000");
        assert_eq!(does("exec jar cat /sys/fs/cgroup/memory.max"), "67108864\n");
        does("pause jar");
        let (code, _, err) = delegated("exec jar true");
        assert!(code == 1 && err.contains("is paused"), "{err}");
        does("unpause jar");
        does("update --memory 48m jar");
        assert_eq!(does("exec -u 5 jar cat /sys/fs/cgroup/memory.max"), "50331648\n");
        does("rm -f jar");
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(fs::read_dir("/run/user/1000/onggi/userns").unwrap().count(), 0, "nobody lives in the namespace any more");
    }
}

mod initramfs {
    use super::guest::bundle;
    use super::jar::run;
    use super::support::vm;
    use std::process::Command;

    #[test]
    fn the_image_is_moved_over_the_root_and_the_hosts_proc_is_out_of_sight() {
        if !vm::inside() {
            return;
        }
        let bundle = bundle("moved", &["/bin/busybox", "sh", "-c", "/bin/busybox ls / && /bin/busybox cat /proc/self/mountinfo"]);
        let (code, out, err) = run(Command::new(env!("CARGO_BIN_EXE_onggi-runtime")).args([
            "--root",
            "/run/moved",
            "run",
            "--bundle",
            bundle.to_str().unwrap(),
            "moved",
        ]));
        assert_eq!(code, 0, "{err}");
        assert!(out.contains(" /tmp/bundle-moved/rootfs / "), "the image is the root: {out}");
        let procs = out.lines().filter(|line| line.contains(" - proc ")).filter_map(|line| line.split(' ').nth(4));
        assert!(procs.clone().all(|point| point.starts_with("/proc")), "no proc but the container's own: {out}");
        assert_eq!(procs.filter(|point| *point == "/proc").count(), 1, "{out}");
    }
}
