//! Capabilities, filters and namespaces, as the kernel has them for the program.
//!
//! See it: `grep Cap /proc/self/status`, `ls -l /proc/self/ns`. Read: capabilities(7), seccomp(2), namespaces(7).

use crate::support::jar::Jar;

fn effective(jar: &Jar, options: &[&str]) -> u64 {
    let mut words = options.to_vec();
    words.extend(["base", "sed", "-n", "s/^CapEff:\t//p", "/proc/self/status"]);
    u64::from_str_radix(&jar.shows(&words), 16).unwrap()
}

#[test]
fn exactly_the_capabilities_asked_for_are_held() {
    let Some(jar) = Jar::new() else { return };
    const DOCKER: u64 = 0xa80425fb;
    const NET_ADMIN: u64 = 1 << 12;
    const CHOWN: u64 = 1;
    assert_eq!(effective(&jar, &[]), DOCKER);
    assert_eq!(effective(&jar, &["--cap-add", "NET_ADMIN"]), DOCKER | NET_ADMIN);
    assert_eq!(effective(&jar, &["--cap-add", "cap_net_admin", "--cap-drop", "chown"]), (DOCKER | NET_ADMIN) & !CHOWN);
    assert_eq!(effective(&jar, &["--cap-drop", "ALL"]), 0);
    assert_eq!(effective(&jar, &["--cap-drop", "ALL", "--cap-add", "CHOWN"]), CHOWN);
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = all.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let ours = u64::from_str_radix(ours, 16).unwrap();
    assert_eq!(effective(&jar, &["--privileged"]), ours);
    assert_eq!(effective(&jar, &["--cap-add", "ALL"]), ours);
    jar.refuses(&["--cap-add", "NONSENSE", "base", "true"], 125, &["NONSENSE", "capabilities(7)"]);
}

#[test]
fn a_filter_is_on_unless_it_is_refused_and_may_be_ones_own() {
    let Some(jar) = Jar::new() else { return };
    let mode = |options: &[&str]| {
        let mut words = options.to_vec();
        words.extend(["base", "sed", "-n", "s/^Seccomp:\t//p", "/proc/self/status"]);
        jar.shows(&words)
    };
    assert_eq!(mode(&[]), "2");
    assert_eq!(mode(&["--security-opt", "seccomp=unconfined"]), "0");
    assert_eq!(mode(&["--privileged"]), "0");
    let own = jar.root.join("own.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
    std::fs::write(&own, profile).unwrap();
    let own = format!("seccomp={}", own.display());
    let told = jar.run(&["--security-opt", &own, "base", "mkdir", "/x"]);
    assert!(told.code == 1 && told.err.contains("Function not implemented"), "{told:?}");
    let bad = jar.root.join("bad.json");
    std::fs::write(&bad, r#"{"defaultAction": "SCMP_ACT_NONSENSE"}"#).unwrap();
    jar.refuses(&["--security-opt", &format!("seccomp={}", bad.display()), "base", "true"], 125, &["bad.json", "defaultAction"]);
    jar.refuses(&["--security-opt", "seccomp=/no/such", "base", "true"], 125, &["/no/such"]);
}

#[test]
fn no_new_privileges_and_the_masks_hold() {
    let Some(jar) = Jar::new() else { return };
    let privileges = ["base", "sed", "-n", "s/^NoNewPrivs:\t//p", "/proc/self/status"];
    assert_eq!(jar.shows(&privileges), "0");
    assert_eq!(jar.shows(&[&["--security-opt", "no-new-privileges"][..], &privileges].concat()), "1");
    assert_eq!(jar.shows(&["base", "sh", "-c", "cat /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | wc -c"]), "0");
    assert_ne!(jar.run(&["base", "sh", "-c", "echo 0 > /proc/sys/kernel/panic"]).code, 0);
    assert_ne!(jar.run(&["base", "sh", "-c", "echo b > /proc/sysrq-trigger"]).code, 0);
    assert_ne!(jar.run(&["base", "mount", "-t", "tmpfs", "x", "/mnt"]).code, 0);
    assert_eq!(jar.shows(&["--privileged", "base", "sh", "-c", "mount -t tmpfs x /mnt && echo mounted"]), "mounted");
    let systempaths = ["--security-opt", "systempaths=unconfined", "base", "sh", "-c", "grep -c ' /proc/sys ' /proc/self/mountinfo; true"];
    assert_eq!(jar.shows(&systempaths), "0");
}

#[test]
fn a_read_only_root_takes_no_write_but_its_volumes_do() {
    let Some(jar) = Jar::new() else { return };
    let told = jar.run(&["--read-only", "base", "touch", "/x"]);
    assert!(told.code != 0 && told.err.contains("Read-only file system"), "{told:?}");
    assert_eq!(jar.shows(&["--read-only", "--tmpfs", "/tmp", "base", "sh", "-c", "echo ok > /tmp/x && cat /tmp/x"]), "ok");
}

fn namespace(jar: &Jar, options: &[&str], kind: &str) -> String {
    let link = format!("/proc/self/ns/{kind}");
    jar.shows(&[options, &["base", "readlink", &link]].concat())
}

#[test]
fn each_namespace_is_its_own_unless_the_host_is_asked_for() {
    let Some(jar) = Jar::new() else { return };
    // The thread's, for its network is its own.
    let host = |kind: &str| std::fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap().display().to_string();
    for kind in ["pid", "mnt", "uts", "net", "ipc", "cgroup"] {
        assert_ne!(namespace(&jar, &[], kind), host(kind), "{kind}");
    }
    for (option, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net")] {
        assert_eq!(namespace(&jar, &[option, "host"], kind), host(kind), "{option} host");
    }
    assert_eq!(jar.shows(&["--network", "none", "base", "sh", "-c", "ls /sys/class/net; cat /sys/class/net/lo/operstate"]), "lo\nunknown");
    assert_eq!(jar.shows(&["--uts", "host", "base", "hostname"]), nix::unistd::gethostname().unwrap().to_string_lossy());
    // In the host's PIDs its first process is not 1, and it ends with its program all the same.
    assert_ne!(jar.shows(&["--pid", "host", "base", "sh", "-c", "echo $$"]), "1");
    jar.assert_nothing_left();
}

#[test]
fn sysctls_of_its_namespaces_are_set_and_others_refused() {
    let Some(jar) = Jar::new() else { return };
    assert_eq!(jar.shows(&["--sysctl", "kernel.msgmax=4096", "base", "cat", "/proc/sys/kernel/msgmax"]), "4096");
    assert_eq!(jar.shows(&["--sysctl", "net.ipv4.ip_forward=1", "base", "cat", "/proc/sys/net/ipv4/ip_forward"]), "1");
    jar.refuses(&["--sysctl", "kernel.randomize_va_space=2", "base", "true"], 125, &["kernel.randomize_va_space"]);
    jar.refuses(&["--sysctl", "net.ipv4.ip_forward=1", "--network", "host", "base", "true"], 125, &["net.ipv4.ip_forward"]);
    jar.refuses(&["--sysctl", "nothing", "base", "true"], 125, &["NAME=VALUE"]);
}

#[test]
fn no_descriptor_of_ours_is_open_inside() {
    let Some(jar) = Jar::new() else { return };
    // 3 is the folder that ls reads.
    assert_eq!(jar.shows(&["base", "ls", "/proc/self/fd"]), "0\n1\n2\n3");
}

#[test]
fn a_device_of_the_host_is_there_when_asked_for_and_only_then() {
    let Some(jar) = Jar::new() else { return };
    let source = if std::path::Path::new("/dev/loop-control").exists() { "/dev/loop-control" } else { "/dev/kmsg" };
    assert_ne!(jar.run(&["base", "test", "-e", source]).code, 0);
    let number = |line: String| line;
    let host = std::process::Command::new("stat").args(["-c", "%t:%T", source]).output().unwrap().stdout;
    let inside = jar.shows(&["--device", &format!("{source}:/dev/mine:r"), "base", "stat", "-c", "%t:%T", "/dev/mine"]);
    assert_eq!(number(inside), String::from_utf8(host).unwrap().trim_end());
    let read_only = jar.run(&["--device", &format!("{source}:/dev/mine:r"), "base", "sh", "-c", "echo x > /dev/mine"]);
    assert!(read_only.code != 0 && read_only.err.contains("Operation not permitted"), "{read_only:?}");
    jar.refuses(&["--device", "/dev/no-such", "base", "true"], 125, &["/dev/no-such"]);
    // A node made inside is not a device that may be opened.
    let made = jar.run(&["base", "sh", "-c", "mknod /tmp/k c 1 11 && cat /tmp/k"]);
    assert!(made.err.contains("Operation not permitted"), "{made:?}");
}
