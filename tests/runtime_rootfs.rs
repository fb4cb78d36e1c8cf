//! The root file system: what is made in `/dev`, what is hidden and read-only, how the root propagates, what is left of the host's.
//!
//! Read: config.md "Root", config-linux.md "Default Devices", "Devices", "Masked Paths", "Readonly Paths", "Rootfs Mount Propagation".

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use serde_json::json;
use support::container::{Bench, Container};
use support::kernel::{Process, host};

fn device(process: Process, path: &str) -> (u64, u64, u32, u32, u32) {
    let stat = fs::symlink_metadata(process.file(path)).unwrap();
    let number = stat.rdev();
    (libc::major(number) as u64, libc::minor(number) as u64, stat.mode() & 0o7777, stat.uid(), stat.gid())
}

#[test]
fn the_default_devices_and_links_are_there() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    for (name, major, minor) in [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)] {
        assert_eq!(device(container.process(), &format!("/dev/{name}")), (major, minor, 0o666, 0, 0), "{name}");
    }
    for (name, target) in
        [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx")]
    {
        assert_eq!(fs::read_link(container.process().file(&format!("/dev/{name}"))).unwrap(), Path::new(target));
    }
    let names: Vec<String> = fs::read_dir(container.process().file("/dev")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 14, "six devices, five links, mqueue, pts, shm and nothing of the host's: {names:?}");
}

#[test]
fn devices_have_their_kind_number_mode_and_owner() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        spec["linux"]["devices"] = json!([
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 6 },
            { "path": "/dev/deep/er/block", "type": "b", "major": 7, "minor": 300, "fileMode": 0o600 },
            { "path": "/dev/pipe", "type": "p", "fileMode": 0o622 },
            { "path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5 },
            { "path": "/outside", "type": "c", "major": 1, "minor": 3 },
        ]);
    });
    let process = container.process();
    assert_eq!(device(process, "/dev/fuse"), (10, 229, 0o640, 5, 6));
    assert_eq!(device(process, "/dev/deep/er/block"), (7, 300, 0o600, 0, 0));
    assert!(fs::metadata(process.file("/dev/deep/er/block")).unwrap().file_type().is_block_device());
    assert!(fs::metadata(process.file("/dev/pipe")).unwrap().file_type().is_fifo());
    assert_eq!(device(process, "/dev/pipe").2, 0o622);
    assert_eq!(device(process, "/dev/unbuffered"), (1, 5, 0o666, 0, 0));
    assert_eq!(device(process, "/outside"), (1, 3, 0o666, 0, 0));
    container.delete();
    fs::remove_file(container.rootfs().join("outside")).unwrap();
}

/// A `/dev` bound from elsewhere is somebody else's: nothing is made in it.
#[test]
fn a_dev_that_is_bound_is_left_as_it_is() {
    let Some(bench) = Bench::new() else { return };
    let dev = bench.dir.join("dev");
    fs::create_dir(&dev).unwrap();
    let container = bench.container(|spec| {
        let dev = dev.to_str().unwrap();
        spec["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }, { "destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"] }]);
    });
    container.run().ok();
    assert_eq!(fs::read_dir(&dev).unwrap().count(), 0);
}

#[test]
fn the_containers_terminals_messages_and_memory_are_its_own() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let process = container.process();
    for (point, kind) in [("/dev/pts", "devpts"), ("/dev/mqueue", "mqueue"), ("/dev/shm", "tmpfs"), ("/proc", "proc"), ("/sys", "sysfs")] {
        assert_eq!(process.mount(point).fstype, kind);
        assert!(process.mount(point).has("nosuid") && process.mount(point).has("noexec"), "{point}");
    }
    assert!(process.mount("/sys").has("ro"));
    assert_eq!(fs::metadata(process.file("/dev/shm")).unwrap().mode() & 0o7777, 0o1777);
    let names: Vec<_> = fs::read_dir(process.file("/dev/pts")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["ptmx"], "no terminal of the host's");
    assert!(process.mount("/dev/pts").super_options.contains(&"ptmxmode=666".to_string()));
    // Only its own processes: `/proc` is of its PID namespace.
    let pids =
        fs::read_dir(process.file("/proc")).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().parse::<u32>().is_ok()).count();
    assert_eq!(pids, 1);
}

#[test]
fn the_cgroup_mount_shows_the_containers_group_as_the_root_and_read_only() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| spec["linux"]["resources"] = json!({ "pids": { "limit": 71 } }));
    let process = container.process();
    let mounts: Vec<_> = process.mounts().into_iter().filter(|m| m.point.starts_with("/sys/fs/cgroup")).collect();
    assert!(!mounts.is_empty() && mounts.iter().all(|m| m.has("ro") && m.has("nosuid")), "{mounts:?}");
    for line in container.seen()["cgroup"].as_array().unwrap() {
        assert!(line.as_str().unwrap().ends_with(":/"), "{line}");
    }
    let inside = ["/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"].map(|file| fs::read_to_string(process.file(file)).ok());
    assert!(inside.iter().flatten().any(|text| text == "71\n"), "{inside:?}");
    assert_eq!(fs::read_to_string(process.cgroup("pids").join("pids.max")).unwrap(), "71\n");
}

#[test]
fn masked_files_are_empty_and_masked_folders_too() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        spec["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/interrupts", "/secret", "/secrets", "/not/there", "/linked"]);
    });
    fs::write(container.rootfs().join("secret"), "text").unwrap();
    fs::create_dir(container.rootfs().join("secrets")).unwrap();
    fs::write(container.rootfs().join("secrets/one"), "text").unwrap();
    fs::write(container.rootfs().join("target"), "text").unwrap();
    symlink("target", container.rootfs().join("linked")).unwrap();
    container.create();
    container.start();
    let read = |path: &str| container.exec(&[], &["/bin/probe", "try", "read", path]).ok().json();
    for path in ["/proc/keys", "/proc/interrupts", "/secret", "/target"] {
        assert_eq!((read(path)["errno"].clone(), read(path)["value"].clone()), (json!(0), json!(0)), "{path}");
    }
    assert_eq!(read("/secrets/one")["error"], "ENOENT");
    let process = container.process();
    assert!(process.mount("/secrets").has("ro"));
    assert_eq!(device(process, "/secret").0, 1, "it is /dev/null");
    assert!(!container.rootfs().join("not").exists());
}

#[test]
fn read_only_paths_can_be_read_and_not_written() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let attempt = |words: &[&str]| container.exec(&[], &[&["/bin/probe", "try"], words].concat()).ok().json();
    assert_eq!(attempt(&["read", "/proc/sys/kernel/ostype"])["text"], "Linux\n");
    assert_eq!(attempt(&["write", "/proc/sys/kernel/hostname", "x"])["error"], "EROFS");
    assert_eq!(attempt(&["write", "/proc/irq/default_smp_affinity", "1"])["error"], "EROFS");
    assert!(container.process().mount("/proc/sys").has("ro"));
}

/// On most machines systemd makes the host's mounts shared: then an unmount travels, unless it is stopped. The host is played by a mount
/// namespace of the test's own.
#[test]
fn letting_go_of_the_old_root_unmounts_nothing_on_a_host_with_shared_mounts() {
    let Some(bench) = Bench::new() else { return };
    if support::peer("unshare").is_none() {
        return;
    }
    for propagation in ["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate"] {
        let container = bench.container(|spec| spec["linux"]["rootfsPropagation"] = json!(propagation));
        let script = "cat /proc/self/mountinfo; echo; \"$@\" >/dev/null || exit; cat /proc/self/mountinfo";
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--propagation", "shared", "sh", "-c", script, "sh"]);
        let run = container.command("run", &[]);
        let done = bench.finish(command.arg(run.get_program()).args(run.get_args()).env("ONGGI_BENCH", &bench.name)).ok();
        let (before, after) = done.out.split_once("\n\n").unwrap();
        assert!(before.contains("shared:") && before.lines().eq(after.lines()), "{propagation}:\n{before}\n\n{after}");
    }
}

#[test]
fn a_read_only_root_takes_no_file_and_its_mounts_still_do() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| spec["root"]["readonly"] = json!(true));
    assert!(container.process().mount("/").has("ro"));
    assert!(container.process().mount("/dev/shm").has("rw"));
    let attempt = container.exec(&[], &["/bin/probe", "try", "mknod", "/x", "p"]).ok().json();
    assert_eq!(attempt["error"], "EROFS");
    assert_eq!(container.exec(&[], &["/bin/probe", "try", "mknod", "/dev/shm/x", "p"]).ok().json()["errno"], 0);
    assert!(host().mount("/").has("rw"));
    container.delete();
    fs::write(container.rootfs().join("x"), "the folder itself is not read-only").unwrap();
}

#[test]
fn the_roots_propagation_is_the_configs() {
    let Some(bench) = Bench::new() else { return };
    for (word, kinds) in
        [("shared", vec!["shared"]), ("private", vec![]), ("unbindable", vec!["unbindable"]), ("rprivate", vec![]), ("rshared", vec!["shared"])]
    {
        let container = bench.waiting(|spec| spec["linux"]["rootfsPropagation"] = json!(word));
        assert_eq!(container.process().mount("/").propagation(), kinds, "{word}");
        container.delete();
    }
    let silent = bench.waiting(|_| {});
    assert!(!silent.process().mount("/").propagation().contains(&"shared"));
}

fn sees_only_its_root(container: &Container) {
    let process = container.process();
    assert!(fs::read_dir(process.file("/")).unwrap().all(|e| e.unwrap().file_name() != "usr"), "no file of the host's");
    let points: Vec<String> = process.mounts().into_iter().map(|m| m.point).collect();
    assert!(!points.iter().any(|point| point.contains("onggi-t")), "{points:?}");
    // `..` of the root is the root.
    let up = container.exec(&["--cwd", "/.."], &["/bin/probe"]).ok().json();
    assert_eq!(up["cwd"], "/");
}

#[test]
fn nothing_of_the_hosts_root_is_left_after_the_pivot() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    sees_only_its_root(&container);
    assert_eq!(container.process().mounts().iter().filter(|mount| mount.point == "/").count(), 1);
}

#[test]
fn without_pivot_the_root_is_moved_and_no_proc_of_the_host_stays_below() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| spec["process"]["args"] = json!(["/bin/probe", "wait"]));
    container.create_with(&["--no-pivot"]).ok();
    container.start();
    container.seen();
    sees_only_its_root(&container);
    let procs = container.process().mounts().into_iter().filter(|mount| mount.fstype == "proc" && mount.root == "/").count();
    assert_eq!(procs, 1);
}

#[test]
fn a_root_that_is_missing_or_no_folder_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let missing = bench.container(|spec| spec["root"]["path"] = json!("nowhere"));
    assert!(missing.run().refused().contains("root.path"));
    let file = bench.container(|spec| spec["root"]["path"] = json!("config.json"));
    assert!(file.run().refused().contains("is no folder"));
    bench.is_clean();
}

#[test]
fn a_root_by_an_absolute_path_or_a_link_is_used() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|_| {});
    symlink("rootfs", container.bundle.join("link")).unwrap();
    container.edit(|spec| spec["root"]["path"] = json!("link"));
    container.run().ok();
    container.edit(|spec| spec["root"]["path"] = json!(container.rootfs()));
    container.run().ok();
}
