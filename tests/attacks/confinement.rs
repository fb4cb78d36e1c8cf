//! What a container's program may ask the kernel for, with Docker's defaults: the probe asks, and the kernel answers.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use onggi::runtime::{capabilities, seccomp::default_profile};
use serde_json::{Value, json};

use crate::jar::{Jar, answer, install};

/// A jar with Docker's capabilities and filter.
fn docker(name: &str) -> Option<Jar> {
    let mut jar = Jar::new(name)?;
    let set = capabilities::docker_set(false, &[], &[]).unwrap();
    jar.config["linux"]["seccomp"] = serde_json::to_value(default_profile(&set)).unwrap();
    jar.config["process"]["capabilities"] = json!({ "bounding": set, "effective": set, "permitted": set });
    jar.config["process"]["noNewPrivileges"] = json!(false);
    Some(jar)
}

fn attempt(jar: &Jar, words: &[&str]) -> Value {
    let mut all = vec!["/probe", "try"];
    all.extend(words);
    answer(&jar.exec(&all))
}

#[test]
fn calls_that_open_ways_out_are_refused() {
    let Some(mut jar) = docker("calls") else { return };
    jar.start_waiting();
    // clone3 takes its flags in memory, where no filter can look: to a C library it must not exist, so that it falls back.
    assert_eq!(attempt(&jar, &["clone3"])["error"], "ENOSYS");
    for words in [&["unshare-user"][..], &["mount"], &["keyctl"], &["io_uring_setup"], &["reboot"], &["unshare", "0x00020000"]] {
        assert_eq!(attempt(&jar, words)["error"], "EPERM", "{words:?}");
    }
    // bpf(2), kexec_load(2), open_by_handle_at(2), init_module(2), process_vm_readv(2) by number.
    #[cfg(target_arch = "x86_64")]
    for number in ["321", "246", "304", "175"] {
        assert_eq!(attempt(&jar, &["syscall", number])["error"], "EPERM", "{number}");
    }
}

#[test]
fn the_host_s_disk_and_memory_cannot_be_opened() {
    let Some(mut jar) = docker("devices") else { return };
    jar.start_waiting();
    for (kind, major, minor) in [("b", "254", "0"), ("b", "8", "0"), ("b", "7", "0"), ("c", "1", "1"), ("c", "10", "200")] {
        // The node may be made (CAP_MKNOD) or not: what counts is that nobody reads from it.
        let made = attempt(&jar, &["mknod", "/tmp/node", kind, major, minor]);
        if made["errno"] == 0 {
            assert_eq!(attempt(&jar, &["open", "/tmp/node", "r"])["error"], "EPERM", "{kind} {major}:{minor}");
            fs::remove_file(jar.rootfs("tmp/node")).unwrap();
        } else {
            assert_eq!(made["error"], "EPERM", "{made}");
        }
    }
}

#[test]
fn setuid_programs_gain_nothing_with_no_new_privileges() {
    let Some(mut jar) = docker("setuid") else { return };
    install(&jar.rootfs("setuid"));
    fs::set_permissions(jar.rootfs("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    jar.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    jar.args(&["/setuid"]);
    let free = jar.answer();
    assert_eq!(free["euid"], 0, "otherwise this shows nothing");
    // What it gained is bounded by Docker's set: no CAP_SYS_ADMIN (bit 21).
    let bits = |facts: &Value, set: &str| u64::from_str_radix(facts["capabilities"][set].as_str().unwrap(), 16).unwrap();
    assert_eq!(bits(&free, "effective") & !bits(&free, "bounding"), 0);
    assert_eq!(bits(&free, "bounding") & (1 << 21), 0);
    jar.config["process"]["noNewPrivileges"] = json!(true);
    let held = jar.answer();
    assert_eq!((&held["euid"], bits(&held, "effective")), (&json!(1000), 0));
}

#[test]
fn sysctls_and_cgroups_stay_in_their_place() {
    let Some(mut jar) = Jar::new("places") else { return };
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for name in ["net/../kernel/core_pattern", "net.ipv4./kernel/core_pattern", "net/ipv4/../../kernel/core_pattern", "kernel.core_pattern", "net"] {
        jar.config["linux"]["sysctl"] = json!({ name: "|/tmp/evil" });
        jar.refused();
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    jar.config["linux"]["sysctl"] = json!({});
    for path in ["../escaped", "/onggi/../../escaped", "/", "/onggi/x/../../.."] {
        jar.config["linux"]["cgroupsPath"] = json!(path);
        let said = jar.refused();
        assert!(said.contains("cgroupsPath"), "{path}: {said}");
    }
}

#[test]
fn a_program_has_no_terminal_of_the_host_to_type_into() {
    let Some(mut jar) = docker("tty") else { return };
    let facts = jar.answer();
    assert_eq!(facts["sid"], facts["pid"], "it leads a session of its own, which has no terminal");
    jar.args(&["/probe", "try", "open", "/dev/tty", "w"]);
    assert_eq!(jar.answer()["error"], "ENXIO");
}
