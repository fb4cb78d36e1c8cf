//! The lane with cgroup v2: the tests in `guest` run in a VM whose kernel has that hierarchy alone, whatever this machine has.
//!
//! See it: `cargo test --test cgroup_v2`. Read: cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst.

mod support;

use std::time::Duration;

use support::guest::guest_tests_pass;
use support::vm::{Variant, Vm, VmPlan};

#[test]
fn the_cgroup_v2_lane_passes_in_a_vm() {
    guest_tests_pass("guest", Variant::TmpfsRoot, &[]);
}

#[test]
fn the_lane_without_pivot_root_passes_in_a_vm() {
    guest_tests_pass("guest_on_initramfs", Variant::InitramfsRoot, &[]);
}

#[test]
fn what_a_command_says_and_its_exit_code_come_out_of_the_vm() {
    let Some(vm) = Vm::find() else { return };
    let command = ["sh", "-c", "echo \"it's $0\"; printf 'no newline' >&2; exit 7", "quoted 'twice'"].map(str::to_string).to_vec();
    let outcome = vm.run(&VmPlan { files: Vec::new(), command, timeout: Duration::from_secs(60), variant: Variant::InitramfsRoot });
    assert_eq!((outcome.exit_code, &*outcome.output), (7, "it's quoted 'twice'\nno newline"));
}

/// As on a student's machine.
mod guest {
    use super::support::vm;
    use std::fs;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    #[test]
    fn cgroup2_is_the_only_hierarchy_and_has_every_controller() {
        if !vm::inside() {
            return;
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(mounts.lines().any(|line| line.starts_with("cgroup2 /sys/fs/cgroup cgroup2 ")), "{mounts}");
        assert!(!mounts.contains(" cgroup "), "a v1 hierarchy is mounted:\n{mounts}");
        assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), "0::/\n");
        let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        for name in ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"] {
            assert!(controllers.split_whitespace().any(|word| word == name), "{name} is not in {controllers}");
        }
    }

    #[test]
    fn cgroup_kill_ends_every_process_of_a_cgroup() {
        if !vm::inside() {
            return;
        }
        let cgroup = Path::new("/sys/fs/cgroup/kill-me");
        fs::create_dir(cgroup).unwrap();
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(cgroup.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        fs::write(cgroup.join("cgroup.kill"), "1").unwrap();
        let status = sleeper.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        fs::remove_dir(cgroup).unwrap();
    }

    #[test]
    fn a_process_over_memory_max_is_killed() {
        if !vm::inside() {
            return;
        }
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").unwrap();
        let cgroup = Path::new("/sys/fs/cgroup/small");
        fs::create_dir(cgroup).unwrap();
        fs::write(cgroup.join("memory.max"), "8M").unwrap();
        // tail keeps a line until it ends, and this one never does.
        let glutton = "echo $$ > /sys/fs/cgroup/small/cgroup.procs && tail -n 1 /dev/zero";
        let status = Command::new("sh").args(["-c", glutton]).status().unwrap();
        assert!(!status.success());
        let events = fs::read_to_string(cgroup.join("memory.events")).unwrap();
        assert!(events.contains("oom_kill 1"), "{events}");
        fs::remove_dir(cgroup).unwrap();
    }

    #[test]
    fn pivot_root_is_possible() {
        if !vm::inside() {
            return;
        }
        assert!(super::pivot_root_onto_a_tmpfs().is_ok());
    }

    #[test]
    fn an_overlay_keeps_its_lower_layer_as_it_was() {
        if !vm::inside() {
            return;
        }
        let script = "mkdir /tmp/l /tmp/u /tmp/w /tmp/m && echo old > /tmp/l/file && \
                      mount -t overlay overlay -o lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w /tmp/m && \
                      echo new > /tmp/m/file && umount /tmp/m && cat /tmp/l/file /tmp/u/file";
        assert_eq!(output_of(Command::new("sh").args(["-c", script])), "old\nnew\n");
    }

    #[test]
    fn a_bridge_and_a_veth_pair_can_be_made() {
        if !vm::inside() {
            return;
        }
        let script = "ip link add onggi-test type bridge && ip link add va type veth peer name vb && ip link set va master onggi-test && \
                      ip link show va | grep -c 'master onggi-test' && ip link del va && ip link del onggi-test";
        assert_eq!(output_of(Command::new("sh").args(["-c", script])), "1\n");
    }

    #[test]
    fn a_user_without_rights_makes_a_user_namespace() {
        if !vm::inside() {
            return;
        }
        assert_eq!(output_of(student("unshare -r id -u")), "0\n");
    }

    #[test]
    fn newuidmap_maps_the_subordinate_ids_of_a_user_without_rights() {
        if !vm::inside() || super::support::peer("newuidmap").is_none() {
            return;
        }
        let mut sleeper = student("exec unshare -U sleep 1000").spawn().unwrap();
        let user = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
        let pid = sleeper.id().to_string();
        while user(&pid) == user("self") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        output_of(student(&format!("newuidmap {pid} 0 1000 1 1 100000 65536")));
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        let numbers: Vec<_> = map.split_whitespace().collect();
        assert_eq!(numbers, ["0", "1000", "1", "1", "100000", "65536"]);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    /// A shell line as the user `student`, who owns nothing here but a home.
    fn student(line: &str) -> &mut Command {
        let command = Box::leak(Box::new(Command::new("sh")));
        command.args(["-c", line]).uid(1000).gid(1000).env("HOME", "/home/student").current_dir("/home/student")
    }

    fn output_of(command: &mut Command) -> String {
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

/// As on a machine that never left its initramfs.
mod guest_on_initramfs {
    use super::support::vm;

    #[test]
    fn pivot_root_is_refused() {
        if !vm::inside() {
            return;
        }
        let said = super::pivot_root_onto_a_tmpfs().unwrap_err();
        assert!(said.contains("Invalid argument"), "{said}");
    }
}

/// What a runtime does with a rootfs, in a mount namespace of its own; the error is what busybox's pivot_root said.
fn pivot_root_onto_a_tmpfs() -> Result<(), String> {
    let script = "mount --make-rprivate / && mkdir -p /tmp/new && mount -t tmpfs new /tmp/new && mkdir /tmp/new/old && \
                  cd /tmp/new && pivot_root . old";
    let output = std::process::Command::new("unshare").args(["-m", "sh", "-c", script]).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
