//! `linux.namespaces` and what belongs to them: new, shared with the host, joined by path; maps, names, clocks, settings.
//!
//! Read: namespaces(7), config-linux.md "Namespaces", "User namespace mappings", "Offset for Time Namespace", "Sysctl".

mod support;

use std::fs;

use serde_json::{Value, json};
use support::container::{Bench, Container, with_namespace, with_user_namespace, without_namespace};
use support::kernel::{Process, host};

/// Type in config.json and name in `/proc/P/ns`.
const KINDS: [(&str, &str); 8] =
    [("user", "user"), ("pid", "pid"), ("network", "net"), ("mount", "mnt"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup"), ("time", "time")];

fn join(spec: &mut Value, kind: &str, process: Process) {
    let (_, file) = KINDS.iter().find(|(name, _)| *name == kind).unwrap();
    with_namespace(spec, kind, Some(process.path("ns").join(file).to_str().unwrap()));
}

#[test]
fn a_namespace_that_is_named_is_new() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        with_user_namespace(spec, 100_000);
        with_namespace(spec, "time", None);
    });
    for (kind, file) in KINDS {
        assert_ne!(container.process().namespace(file), host().namespace(file), "{kind}");
    }
    let process = container.process();
    assert_eq!(process.status("NSpid"), format!("{} 1", process.0));
}

#[test]
fn a_namespace_that_is_not_named_is_the_hosts() {
    let Some(bench) = Bench::new() else { return };
    for (kind, file) in KINDS {
        if kind == "mount" {
            continue; // mounts without one are refused; see runtime_lifecycle
        }
        let container = bench.waiting(|spec| {
            without_namespace(spec, kind);
            if kind == "uts" {
                spec["hostname"].take();
            }
        });
        assert_eq!(container.process().namespace(file), host().namespace(file), "{kind}");
        container.delete();
    }
}

#[test]
fn a_namespace_with_a_path_is_entered() {
    let Some(bench) = Bench::new() else { return };
    let first = bench.waiting(|spec| with_namespace(spec, "time", None));
    for (kind, file) in KINDS.into_iter().filter(|(kind, _)| !["user", "mount"].contains(kind)) {
        let second = bench.waiting(|spec| {
            join(spec, kind, first.process());
            if kind == "uts" {
                spec["hostname"].take();
            }
        });
        assert_eq!(second.process().namespace(file), first.process().namespace(file), "{kind}");
        assert_ne!(second.process().namespace("mnt"), first.process().namespace("mnt"), "{kind}");
        second.delete();
    }
}

#[test]
fn a_mount_namespace_can_be_entered_too() {
    let Some(bench) = Bench::new() else { return };
    let first = bench.waiting(|_| {});
    let second = bench.waiting(|spec| {
        join(spec, "mount", first.process());
        spec["mounts"] = json!([]);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        // A path of the other's view.
        spec["root"]["path"] = json!("/");
    });
    assert_eq!(second.process().namespace("mnt"), first.process().namespace("mnt"));
}

/// A pod: the second container shares the first's user, network, IPC and PID namespaces, and all must be entered as that user's root.
#[test]
fn a_pod_shares_user_network_ipc_and_pid_namespaces() {
    let Some(bench) = Bench::new() else { return };
    let first = bench.waiting(|spec| with_user_namespace(spec, 200_000));
    let second = bench.waiting(|spec| {
        for kind in ["user", "network", "ipc", "pid"] {
            join(spec, kind, first.process());
        }
    });
    for file in ["user", "net", "ipc", "pid"] {
        assert_eq!(second.process().namespace(file), first.process().namespace(file), "{file}");
    }
    for file in ["mnt", "uts", "cgroup"] {
        assert_ne!(second.process().namespace(file), first.process().namespace(file), "{file}");
    }
    assert_eq!(second.process().status("Uid"), "200000 200000 200000 200000");
    assert_eq!(second.process().status("NSpid").split(' ').count(), 2);
}

#[test]
fn a_new_user_namespace_beside_a_joined_network_works() {
    let Some(bench) = Bench::new() else { return };
    let first = bench.waiting(|_| {});
    let second = bench.waiting(|spec| {
        with_user_namespace(spec, 300_000);
        join(spec, "network", first.process());
        // sysfs belongs to the network namespace's owner, which this user namespace is not.
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys" && mount["destination"] != "/sys/fs/cgroup");
    });
    assert_eq!(second.process().namespace("net"), first.process().namespace("net"));
    assert_ne!(second.process().namespace("user"), first.process().namespace("user"));
}

#[test]
fn a_path_to_another_kind_or_to_no_namespace_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let refused = |path: &str| bench.container(|spec| with_namespace(spec, "network", Some(path))).run().refused();
    assert!(refused("/proc/self/ns/uts").contains("it is no net namespace"));
    assert!(refused("/etc/hostname").contains("it is no net namespace"));
    assert!(refused("/no/such/namespace").contains("ENOENT"));
    bench.is_clean();
}

#[test]
fn the_maps_are_exactly_the_configs() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        with_namespace(spec, "user", None);
        spec["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 5000, "size": 10 }, { "containerID": 100, "hostID": 7000, "size": 1 }]);
        spec["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 6000, "size": 200 }]);
        spec["process"]["user"] = json!({ "uid": 100, "gid": 100, "additionalGids": [7] });
    });
    let map = |name: &str| container.process().read(name).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(map("uid_map"), "0 5000 10 100 7000 1");
    assert_eq!(map("gid_map"), "0 6000 200");
    assert_eq!(container.process().read("setgroups").trim(), "allow");
    assert_eq!(container.process().status("Uid"), "7000 7000 7000 7000");
    assert_eq!(container.process().status("Gid"), "6100 6100 6100 6100");
    assert_eq!(container.process().status("Groups"), "6007");
    let seen = container.seen();
    assert_eq!((&seen["uid"], &seen["groups"]), (&json!(100), &json!([7])));
}

#[test]
fn an_id_outside_of_the_map_is_refused_and_nothing_stays() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        with_user_namespace(spec, 100_000);
        spec["process"]["user"] = json!({ "uid": 70_000, "gid": 0 });
    });
    assert!(container.run().refused().contains("setresuid(70000"));
    bench.is_clean();
}

#[test]
fn a_user_namespace_has_devices_terminals_and_a_root_that_it_may_read() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| with_user_namespace(spec, 400_000));
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        use std::os::unix::fs::FileTypeExt;
        assert!(fs::metadata(container.process().file(&format!("/dev/{name}"))).unwrap().file_type().is_char_device(), "{name}");
    }
    assert_eq!(container.exec(&[], &["/bin/probe", "try", "write", "/dev/null", "x"]).ok().json()["errno"], 0);
}

#[test]
fn clocks_are_shifted_by_the_offsets() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        with_namespace(spec, "time", None);
        spec["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000, "nanosecs": 5 }, "monotonic": { "secs": 2_000_000 } });
    });
    let offsets = container.process().read("timens_offsets");
    let rows: Vec<Vec<&str>> = offsets.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["monotonic", "2000000", "0"], ["boottime", "1000000", "5"]]);
    let clocks = container.seen()["clocks"].clone();
    let seconds = |name: &str| clocks[name].as_u64().unwrap() / 1_000_000_000;
    let uptime: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((seconds("boottime") as f64 - uptime - 1_000_000.0).abs() < 60.0);
    assert!(seconds("monotonic") - seconds("boottime") >= 999_000, "{clocks}");
}

#[test]
fn names_and_settings_are_the_containers_own() {
    let Some(bench) = Bench::new() else { return };
    let before = (fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap());
    let container = bench.waiting(|spec| {
        spec["hostname"] = json!("옹기");
        spec["domainname"] = json!("example.org");
        spec["linux"]["sysctl"] =
            json!({ "net.ipv4.ip_default_ttl": "33", "kernel.shmmni": "77", "fs.mqueue.msg_max": "12", "net/ipv4/conf/lo/forwarding": "1" });
    });
    let seen = container.seen();
    assert_eq!((seen["hostname"].as_str(), seen["domainname"].as_str()), (Some("옹기"), Some("example.org")));
    for (file, value) in
        [("net/ipv4/ip_default_ttl", "33"), ("kernel/shmmni", "77"), ("fs/mqueue/msg_max", "12"), ("net/ipv4/conf/lo/forwarding", "1")]
    {
        let read = container.exec(&[], &["/bin/probe", "try", "read", &format!("/proc/sys/{file}")]).ok().json();
        assert_eq!(read["text"], format!("{value}\n"), "{file}");
    }
    let after = (fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap());
    assert_eq!(before, after, "the host keeps its own");
}

#[test]
fn the_loopback_device_of_a_new_network_is_up_and_the_only_one() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let devices = container.process().read("net/dev");
    let names: Vec<&str> = devices.lines().skip(2).filter_map(|line| line.trim().split(':').next()).filter(|name| *name != "lo").collect();
    // Some kernels give each new namespace its fallback tunnels (sit0, tunl0 …), all down.
    assert!(names.iter().all(|name| name.ends_with('0')), "{names:?}");
    // An address on lo has a local route as long as the device is up.
    assert!(container.process().read("net/fib_trie").contains("127.0.0.1"));
}

/// Without a PID namespace of its own a container is more than its first process: all in its cgroup are ended with it.
#[test]
fn without_a_pid_namespace_all_processes_end_with_the_container() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| without_namespace(spec, "pid"));
    let pid_file = bench.dir.join("pid");
    bench.run(&["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), &container.id, "/bin/probe", "wait"]).ok();
    let second = Process(fs::read_to_string(pid_file).unwrap().parse().unwrap());
    assert!(second.lives() && second.read("cgroup").contains(&container.id));
    container.delete();
    support::container::wait_for("the second process' end", || (!second.lives()).then_some(()));
}

/// uid 1000 of this machine with the runtime, on a bundle of its own.
fn as_user(bench: &Bench, container: &Container, home: &std::path::Path, verb: &[&str]) -> support::container::Done {
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=1000", "--regid=1000", "--clear-groups", "--"]).arg(env!("CARGO_BIN_EXE_onggi-runtime"));
    command.arg("--root").arg(home.join("root")).args(verb).arg("--bundle").arg(&container.bundle).arg(&container.id);
    command.env("XDG_RUNTIME_DIR", home).env("ONGGI_BENCH", &bench.name).stdin(std::process::Stdio::null());
    bench.finish(&mut command)
}

/// The runtime must be reachable by that user: a build folder below `/root` is not.
fn user_can_run() -> bool {
    let asked = std::process::Command::new("setpriv")
        .args(["--reuid=1000", "--regid=1000", "--clear-groups", "--", env!("CARGO_BIN_EXE_onggi-runtime"), "--version"])
        .output();
    let can = asked.is_ok_and(|output| output.status.success());
    if !can {
        support::skip_for_want_of("uid 1000 can't reach the runtime's program in this build folder");
    }
    can
}

fn rootless(spec: &mut Value) {
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    without_namespace(spec, "network");
    with_namespace(spec, "user", None);
    (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (map.clone(), map);
    spec["linux"]["resources"].take();
    spec["linux"].as_object_mut().unwrap().remove("resources");
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    for mount in mounts {
        if mount["destination"] == "/dev/pts" {
            mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
        }
        if mount["destination"] == "/sys" {
            *mount = json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] });
        }
    }
}

fn home_of_user(bench: &Bench, container: &Container) -> std::path::PathBuf {
    let home = bench.dir.join("home");
    fs::create_dir_all(&home).unwrap();
    for path in [home.clone(), container.bundle.clone(), container.rootfs(), container.rootfs().join("bin"), container.rootfs().join("bin/probe")] {
        std::os::unix::fs::chown(path, Some(1000), Some(1000)).unwrap();
    }
    home
}

#[test]
fn an_ordinary_user_becomes_root_of_a_container_with_one_id() {
    let Some(bench) = Bench::new() else { return };
    if support::peer("setpriv").is_none() || !user_can_run() {
        return;
    }
    let container = bench.container(rootless);
    let home = home_of_user(&bench, &container);
    let seen = as_user(&bench, &container, &home, &["run"]).ok().json();
    assert_eq!((&seen["uid"], &seen["pid"]), (&json!(0), &json!(1)));
    assert_eq!((&seen["uid_map"], &seen["gid_map"]), (&json!([[0, 1000, 1]]), &json!([[0, 1000, 1]])));
    assert_eq!(seen["setgroups"], "deny");
    bench.is_clean();
    assert_eq!(fs::read_dir(home.join("root/.creating")).unwrap().count(), 0);
}

#[test]
fn an_ordinary_user_without_the_subordinate_ids_is_told_where_to_look() {
    let Some(bench) = Bench::new() else { return };
    if support::peer("setpriv").is_none() || support::peer("newuidmap").is_none() || !user_can_run() {
        return;
    }
    let container = bench.container(|spec| {
        rootless(spec);
        for map in ["uidMappings", "gidMappings"] {
            spec["linux"][map].as_array_mut().unwrap().push(json!({ "containerID": 1, "hostID": 3_000_000_000u32, "size": 1000 }));
        }
    });
    let home = home_of_user(&bench, &container);
    let error = as_user(&bench, &container, &home, &["run"]).refused();
    assert!(error.contains("newgidmap") && error.contains("/etc/subuid"), "{error}");
    bench.is_clean();
}

/// newuidmap(1) asks /etc/subuid: here it sees files of the test's own, in a mount namespace that the host knows nothing of.
#[test]
fn an_ordinary_user_with_subordinate_ids_maps_them_too() {
    let Some(bench) = Bench::new() else { return };
    if support::peer("newuidmap").is_none() || support::peer("unshare").is_none() || !user_can_run() {
        return;
    }
    let container = bench.container(|spec| {
        rootless(spec);
        for map in ["uidMappings", "gidMappings"] {
            spec["linux"][map].as_array_mut().unwrap().push(json!({ "containerID": 1, "hostID": 500_000, "size": 1000 }));
        }
        spec["process"]["user"] = json!({ "uid": 7, "gid": 8 });
    });
    let home = home_of_user(&bench, &container);
    let etc = bench.dir.join("etc");
    fs::create_dir(&etc).unwrap();
    for (name, text) in [("passwd", "potter:x:1000:1000::/:/bin/sh\n"), ("subuid", "potter:500000:65536\n"), ("subgid", "potter:500000:65536\n")] {
        fs::write(etc.join(name), text).unwrap();
    }
    let script = format!(
        "for f in passwd subuid subgid; do [ -e /etc/$f ] || exit 9; mount --bind {etc}/$f /etc/$f || exit 8; done; \
         exec setpriv --reuid=1000 --regid=1000 --clear-groups -- {runtime} --root {root} run --bundle {bundle} {id}",
        etc = etc.display(),
        runtime = env!("CARGO_BIN_EXE_onggi-runtime"),
        root = home.join("root").display(),
        bundle = container.bundle.display(),
        id = container.id
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).env("XDG_RUNTIME_DIR", &home).env("ONGGI_BENCH", &bench.name);
    let done = bench.finish(command.stdin(std::process::Stdio::null()));
    if done.code == 9 {
        support::skip_for_want_of("/etc has no subuid and subgid to be covered");
        return;
    }
    let seen = done.ok().json();
    assert_eq!((&seen["uid"], &seen["gid"]), (&json!(7), &json!(8)));
    assert_eq!(seen["uid_map"], json!([[0, 1000, 1], [1, 500_000, 1000]]));
    assert_eq!(seen["gid_map"], json!([[0, 1000, 1], [1, 500_000, 1000]]));
}
