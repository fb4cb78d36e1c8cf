//! `onggi run` on a machine with cgroup v2 alone, in a VM: limits in its files, the device filter, and a user with subordinate ids.
//!
//! See it: `cargo test --test vm_run`. Read: cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst, subuid(5).

mod support;

use support::vm::{Variant, guest_tests_pass};

#[test]
fn onggi_run_on_cgroup_v2_passes_in_a_vm() {
    guest_tests_pass("guest", Variant::TmpfsRoot, &[]);
}

#[test]
fn onggi_run_on_an_initramfs_passes_in_a_vm() {
    guest_tests_pass("guest_on_initramfs", Variant::InitramfsRoot, &[]);
}

/// `onggi run --rm WORDS`, as root.
fn run(words: &[&str]) -> support::jar::Said {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onggi"));
    command.args(["run", "--rm"]).args(words).stdin(std::process::Stdio::null());
    support::jar::said(command.output().unwrap())
}

#[track_caller]
fn shows(words: &[&str]) -> String {
    let said = run(words);
    assert_eq!(said.code, 0, "{words:?}: {}", said.err);
    said.out.trim_end().to_string()
}

/// As on a student's machine.
mod guest {
    use super::support::jar::{Said, said};
    use super::support::vm;
    use super::{run, shows};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn limits_are_in_the_files_of_cgroup_v2() {
        if !vm::inside() {
            return;
        }
        let files = "cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.max pids.max cpuset.cpus";
        let limits = ["--memory", "64m", "--memory-swap", "96m", "--cpus", "0.5", "--pids-limit", "20", "--cpuset-cpus", "0"];
        let told = shows(&[&limits[..], &["base", "sh", "-c", files]].concat());
        assert_eq!(told, format!("{}\n{}\n50000 100000\n20\n0", 64 << 20, 32 << 20));
        assert_eq!(run(&["--memory", "16m", "base", "tail", "-n", "1", "/dev/zero"]).code, 137);
        assert_ne!(run(&["--pids-limit", "3", "base", "sh", "-c", "for i in 1 2 3 4 5; do sleep 1 & done; wait"]).code, 0);
        let left = std::fs::read_dir("/sys/fs/cgroup/onggi").into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()).count();
        assert_eq!(left, 0, "cgroups are left");
    }

    #[test]
    fn the_device_filter_refuses_a_node_made_inside() {
        if !vm::inside() {
            return;
        }
        let told = run(&["base", "sh", "-c", "mknod /k c 1 11 && cat /k"]);
        assert!(told.code != 0 && told.err.contains("not permitted"), "{told:?}");
        assert_eq!(shows(&["base", "sh", "-c", "mknod /z c 1 5 && head -c 3 /z | wc -c"]), "3");
    }

    #[test]
    fn a_user_with_subordinate_ids_is_many_users_inside() {
        if !vm::inside() {
            return;
        }
        let told = student("run --rm base cat /proc/self/uid_map");
        let numbers: Vec<_> = told.out.split_whitespace().collect();
        assert_eq!(numbers, ["0", "1000", "1", "1", "100000", "65536"], "{told:?}");
        let told = student("run --rm -u 5:6 base id -u");
        assert_eq!((told.code, told.out.trim()), (0, "5"), "{told:?}");
        let told = student("run --rm --memory 64m base true");
        assert!(told.code == 125 && told.err.contains("Delegate=yes"), "{told:?}");
    }

    #[test]
    fn in_a_delegated_cgroup_a_user_sets_limits() {
        if !vm::inside() {
            return;
        }
        // What systemd's Delegate=yes does.
        let delegate = "cd /sys/fs/cgroup && echo '+memory +cpu +pids' > cgroup.subtree_control && mkdir -p student/session && \
                        chown -R 1000:1000 student && echo '+memory +cpu +pids' > student/cgroup.subtree_control";
        assert!(Command::new("sh").args(["-c", delegate]).status().unwrap().success());
        let line = format!(
            "read go; exec {} run --rm --memory 64m --pids-limit 20 base sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max'",
            env!("CARGO_BIN_EXE_onggi")
        );
        let mut command = Command::new("sh");
        command.args(["-c", &line]).uid(1000).gid(1000).current_dir("/home/student");
        command.env("HOME", "/home/student").env("XDG_RUNTIME_DIR", "/run/user/1000");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::fs::write("/sys/fs/cgroup/student/session/cgroup.procs", child.id().to_string()).unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
        let told = said(child.wait_with_output().unwrap());
        assert_eq!((told.code, &*told.out), (0, "67108864\n20\n"), "{told:?}");
    }

    fn student(words: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onggi"));
        command.args(words.split(' ')).uid(1000).gid(1000).current_dir("/home/student").stdin(Stdio::null());
        said(command.env("HOME", "/home/student").env("XDG_RUNTIME_DIR", "/run/user/1000").output().unwrap())
    }
}

/// As on a machine that never left its initramfs, where pivot_root(2) is refused.
mod guest_on_initramfs {
    use super::support::vm;
    use super::{run, shows};

    #[test]
    fn without_pivot_root_the_root_is_moved() {
        if !vm::inside() {
            return;
        }
        assert_eq!(shows(&["base", "sh", "-c", "echo 한글; pwd"]), "한글\n/");
        assert_eq!(run(&["base", "sh", "-c", "test ! -e /vm/command"]).code, 0, "the machine's own root is out of reach");
        assert_eq!(run(&["base", "sh", "-c", "exit 9"]).code, 9);
    }
}
