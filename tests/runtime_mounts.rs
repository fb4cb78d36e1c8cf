//! `mounts` of config.json: every option as a flag in `/proc/P/mountinfo`, and where a mount lands.
//!
//! Read: config.md "Mounts" and "Linux mount options", mount(8), proc_pid_mountinfo(5), shared_subtrees.rst of the kernel.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use support::container::{Bench, with_mount, with_user_namespace};
use support::kernel::host;

/// A tree on the host, mounted for one test: `DIR` is a tmpfs with `file`, `DIR/below` another one.
struct Tree<'a>(&'a Bench);

impl Tree<'_> {
    fn new(bench: &Bench, propagation: MsFlags) -> Tree<'_> {
        let tree = Tree(bench);
        fs::create_dir(tree.path()).unwrap();
        mount(Some("tmpfs"), &tree.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        mount(None::<&str>, &tree.path(), None::<&str>, propagation, None::<&str>).unwrap();
        fs::write(tree.path().join("file"), "hello").unwrap();
        fs::create_dir(tree.path().join("below")).unwrap();
        mount(Some("tmpfs"), &tree.path().join("below"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        tree
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.dir.join("tree")
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        let _ = umount2(&self.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn each_option_is_a_flag_of_the_mount() {
    let Some(bench) = Bench::new() else { return };
    let expected: &[(&[&str], &[&str], &[&str])] = &[
        (&[], &["rw", "relatime"], &["nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"]),
        (&["ro"], &["ro"], &["rw"]),
        (&["ro", "rw"], &["rw"], &["ro"]),
        (&["nosuid"], &["nosuid"], &[]),
        (&["nosuid", "suid"], &[], &["nosuid"]),
        (&["nodev"], &["nodev"], &[]),
        (&["nodev", "dev"], &[], &["nodev"]),
        (&["noexec"], &["noexec"], &[]),
        (&["noexec", "exec"], &[], &["noexec"]),
        (&["noatime"], &["noatime"], &["relatime"]),
        (&["relatime"], &["relatime"], &["noatime"]),
        (&["noatime", "atime"], &["relatime"], &["noatime"]),
        (&["strictatime"], &[], &["relatime", "noatime"]),
        (&["nodiratime"], &["nodiratime"], &[]),
        (&["nodiratime", "diratime"], &[], &["nodiratime"]),
        (&["nosymfollow"], &["nosymfollow"], &[]),
        (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
        (&["ro", "nosuid", "nodev", "noexec"], &["ro", "nosuid", "nodev", "noexec"], &[]),
    ];
    let host_dir = bench.dir.join("source");
    fs::create_dir(&host_dir).unwrap();
    let container = bench.waiting(|spec| {
        for (number, (options, ..)) in expected.iter().enumerate() {
            with_mount(spec, &format!("/new/{number}"), "tmpfs", "tmpfs", options);
            with_mount(spec, &format!("/bound/{number}"), "bind", host_dir.to_str().unwrap(), &[&["bind"], *options].concat());
        }
    });
    for (number, (options, there, absent)) in expected.iter().enumerate() {
        for folder in ["new", "bound"] {
            let mounted = container.process().mount(&format!("/{folder}/{number}"));
            let flags = &mounted.options;
            assert!(there.iter().all(|flag| mounted.has(flag)), "{folder} {options:?} gives {flags:?}");
            assert!(absent.iter().all(|flag| !mounted.has(flag)), "{folder} {options:?} gives {flags:?}");
        }
    }
}

#[test]
fn an_option_with_an_r_before_it_holds_for_the_mounts_below_too() {
    let Some(bench) = Bench::new() else { return };
    let tree = Tree::new(&bench, MsFlags::MS_PRIVATE);
    let words = ["rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnodiratime", "rnosymfollow"];
    let container = bench.waiting(|spec| {
        for word in words {
            with_mount(spec, &format!("/{word}"), "bind", tree.path().to_str().unwrap(), &["rbind", word]);
            with_mount(spec, &format!("/own-{word}"), "bind", tree.path().to_str().unwrap(), &["rbind", &word[1..]]);
        }
    });
    for word in words {
        let flags = |point: &str| container.process().mount(point).has(&word[1..]);
        assert!(flags(&format!("/{word}")) && flags(&format!("/{word}/below")), "{word}");
        assert!(flags(&format!("/own-{word}")) && !flags(&format!("/own-{word}/below")), "{}", &word[1..]);
    }
    assert!(host().mount(tree.path().to_str().unwrap()).has("rw"), "the host's own mount keeps its flags");
}

#[test]
fn propagation_is_what_the_option_says() {
    let Some(bench) = Bench::new() else { return };
    let tree = Tree::new(&bench, MsFlags::MS_SHARED | MsFlags::MS_REC);
    let expected: &[(&str, &[&str])] = &[("shared", &["shared"]), ("slave", &["master"]), ("private", &[]), ("unbindable", &["unbindable"])];
    let container = bench.waiting(|spec| {
        for (word, _) in expected {
            for word in [word.to_string(), format!("r{word}")] {
                with_mount(spec, &format!("/{word}"), "bind", tree.path().to_str().unwrap(), &["rbind", &word]);
            }
        }
    });
    for (word, kinds) in expected {
        for word in [word.to_string(), format!("r{word}")] {
            let own = container.process().mount(&format!("/{word}"));
            assert!(kinds.iter().all(|kind| own.propagation().contains(kind)), "{word}: {own:?}");
            assert_eq!(kinds.is_empty(), own.propagation().is_empty(), "{word}: {own:?}");
        }
        let below = container.process().mount(&format!("/r{word}/below"));
        assert_eq!(kinds.is_empty(), below.propagation().is_empty(), "r{word}: {below:?}");
    }
}

/// What `slave` and `shared` are for: a mount that the host makes later comes in, and with `shared` one from inside goes out.
#[test]
fn a_mount_that_the_host_makes_later_comes_into_a_slave_and_not_into_a_private_one() {
    let Some(bench) = Bench::new() else { return };
    let tree = Tree::new(&bench, MsFlags::MS_SHARED);
    let container = bench.waiting(|spec| {
        with_mount(spec, "/slave", "bind", tree.path().to_str().unwrap(), &["rbind", "rslave"]);
        with_mount(spec, "/private", "bind", tree.path().to_str().unwrap(), &["rbind", "rprivate"]);
    });
    fs::create_dir(tree.path().join("later")).unwrap();
    mount(Some("tmpfs"), &tree.path().join("later"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let there = |point: &str| container.process().mounts().iter().any(|mount| mount.point == point);
    assert!(there("/slave/later") && !there("/private/later"));
}

#[test]
fn files_and_folders_are_bound() {
    let Some(bench) = Bench::new() else { return };
    let tree = Tree::new(&bench, MsFlags::MS_PRIVATE);
    let file = tree.path().join("file");
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        with_mount(spec, "/a/new/file", "bind", file.to_str().unwrap(), &["bind", "ro"]);
        with_mount(spec, "/one", "none", tree.path().to_str().unwrap(), &["bind"]);
        with_mount(spec, "/all", "none", tree.path().to_str().unwrap(), &["rbind"]);
        // From a path relative to the bundle.
        spec["mounts"].as_array_mut().unwrap().push(json!({ "destination": "/relative", "source": "beside", "options": ["bind"] }));
    });
    fs::create_dir(container.bundle.join("beside")).unwrap();
    container.create();
    container.start();
    let process = container.process();
    assert_eq!(fs::read_to_string(process.file("/a/new/file")).unwrap(), "hello");
    assert!(process.mount("/a/new/file").has("ro"));
    let point_count = |prefix: &str| process.mounts().iter().filter(|mount| mount.point.starts_with(prefix)).count();
    assert_eq!((point_count("/one"), point_count("/all"), point_count("/relative")), (1, 2, 1));
}

#[test]
fn a_bind_of_nothing_is_refused_by_its_source() {
    let Some(bench) = Bench::new() else { return };
    let error = bench.container(|spec| with_mount(spec, "/x", "bind", "/no/such/place", &["bind"])).run().refused();
    assert!(error.contains("/x") && error.contains("/no/such/place") && error.contains("ENOENT"), "{error}");
    bench.is_clean();
}

#[test]
fn a_tmpfs_has_its_size_mode_and_owner() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        with_mount(spec, "/t", "tmpfs", "tmpfs", &["size=65536", "mode=1750", "uid=12", "gid=34", "nr_inodes=99"]);
        with_mount(spec, "/inherits", "tmpfs", "tmpfs", &[]);
    });
    let process = container.process();
    let stat = fs::metadata(process.file("/t")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o1750, 12, 34));
    let options = process.mount("/t").super_options;
    assert!(options.contains(&"size=64k".to_string()) && options.contains(&"nr_inodes=99".to_string()), "{options:?}");
}

#[test]
fn a_tmpfs_over_a_folder_keeps_its_permissions_and_with_tmpcopyup_its_content() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        with_mount(spec, "/full", "tmpfs", "tmpfs", &["tmpcopyup"]);
        with_mount(spec, "/empty", "tmpfs", "tmpfs", &[]);
    });
    for name in ["full", "empty"] {
        let dir = container.rootfs().join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(dir.join("file"), "content").unwrap();
        std::os::unix::fs::chown(dir.join("file"), Some(3), Some(4)).unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        symlink("../../etc/hostname", dir.join("sub/link")).unwrap();
    }
    container.create();
    container.start();
    let process = container.process();
    for name in ["full", "empty"] {
        assert_eq!(fs::metadata(process.file(name)).unwrap().mode() & 0o7777, 0o1777, "{name}");
    }
    assert_eq!(fs::read_dir(process.file("/empty")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(process.file("/full/file")).unwrap(), "content");
    let stat = fs::metadata(process.file("/full/file")).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (3, 4));
    assert_eq!(fs::read_link(process.file("/full/sub/link")).unwrap(), Path::new("../../etc/hostname"));
    container.delete();
    assert_eq!(fs::read_to_string(container.rootfs().join("full/file")).unwrap(), "content", "the image keeps its own");
}

#[test]
fn an_idmapped_mount_shows_other_owners() {
    let Some(bench) = Bench::new() else { return };
    let source = bench.dir.join("files");
    fs::create_dir(&source).unwrap();
    for (name, id) in [("zero", 0), ("ten", 10)] {
        fs::write(source.join(name), "").unwrap();
        std::os::unix::fs::chown(source.join(name), Some(id), Some(id)).unwrap();
    }
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        with_mount(spec, "/mapped", "bind", source.to_str().unwrap(), &["bind", "idmap"]);
        let mount = spec["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        for map in ["uidMappings", "gidMappings"] {
            mount[map] = json!([{ "containerID": 0, "hostID": 5000, "size": 100 }]);
        }
    });
    let created = container.create_with(&[]);
    if created.err.contains("MOUNT_ATTR_IDMAP") && created.err.contains("EINVAL") {
        return support::skip_for_want_of("this file system has no idmapped mounts");
    }
    created.ok();
    container.start();
    let owner = |name: &str| fs::metadata(container.process().file(&format!("/mapped/{name}"))).unwrap().uid();
    assert_eq!((owner("zero"), owner("ten")), (5000, 5010));
    assert_eq!(fs::metadata(source.join("ten")).unwrap().uid(), 10, "on disk nothing changes");
}

/// With a user namespace the files of the host's root belong to root inside.
#[test]
fn an_idmapped_mount_in_a_user_namespace_belongs_to_its_root() {
    let Some(bench) = Bench::new() else { return };
    let source = bench.dir.join("files");
    fs::create_dir(&source).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(source.join("secret"), "for root").unwrap();
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "try", "read", "/mapped/secret"]);
        with_user_namespace(spec, 100_000);
        with_mount(spec, "/mapped", "bind", source.to_str().unwrap(), &["bind", "idmap"]);
    });
    fs::create_dir(container.rootfs().join("mapped")).unwrap();
    assert_eq!(container.facts()["text"], "for root");
}

#[test]
fn destinations_through_links_stay_inside_and_missing_ones_are_made() {
    let Some(bench) = Bench::new() else { return };
    let outside = bench.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        with_mount(spec, "/link/made/deep", "tmpfs", "tmpfs", &[]);
        with_mount(spec, "/up/x", "tmpfs", "tmpfs", &[]);
        with_mount(spec, "relative/place", "tmpfs", "tmpfs", &[]);
    });
    symlink(&outside, container.rootfs().join("link")).unwrap();
    symlink("../../../../../../../..", container.rootfs().join("up")).unwrap();
    container.create();
    container.start();
    let points: Vec<String> = container.process().mounts().into_iter().map(|mount| mount.point).collect();
    assert!(points.contains(&format!("{}/made/deep", outside.display())), "{points:?}");
    assert!(points.contains(&"/x".to_string()) && points.contains(&"/relative/place".to_string()), "{points:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was made outside");
}

#[test]
fn a_mount_into_proc_or_over_a_linked_proc_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let into = bench.container(|spec| with_mount(spec, "/proc/sys/kernel", "tmpfs", "tmpfs", &[]));
    assert!(into.run().refused().contains("inside /proc"));
    let linked = bench.container(|_| {});
    fs::remove_dir(linked.rootfs().join("proc")).unwrap();
    fs::create_dir(linked.rootfs().join("elsewhere")).unwrap();
    symlink("elsewhere", linked.rootfs().join("proc")).unwrap();
    assert!(linked.run().refused().contains("ELOOP"));
    let by_link = bench.container(|spec| with_mount(spec, "/innocent/self", "tmpfs", "tmpfs", &[]));
    symlink("/proc", by_link.rootfs().join("innocent")).unwrap();
    by_link.run().refused();
    bench.is_clean();
}

#[test]
fn no_mount_of_the_container_is_seen_on_the_host() {
    let Some(bench) = Bench::new() else { return };
    let ours = |text: String| text.lines().filter(|line| line.contains("onggi-t")).count();
    let container = bench.waiting(|spec| with_mount(spec, "/visible", "tmpfs", "here-it-is", &["shared"]));
    assert!(container.process().read("mountinfo").contains("here-it-is"));
    assert!(!host().read("mountinfo").contains("here-it-is"));
    assert_eq!(ours(host().read("mountinfo").lines().filter(|line| line.contains(&bench.name)).collect::<Vec<_>>().join("\n")), 0);
}
