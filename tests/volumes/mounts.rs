//! Where volumes and binds are mounted, and with what: asked of the kernel, from inside.
//!
//! See it: `cat /proc/self/mountinfo` inside. Read: mount_setattr(2), mount_namespaces(7), docker run(1) `--mount`.

use std::fs;
use std::os::unix::fs::symlink;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::pot::{data, full, names};
use crate::support::jar::Jar;

#[test]
fn one_volume_lies_inside_of_another_and_missing_places_are_made() {
    let Some(jar) = Jar::new() else { return };
    jar.shows(&["-v", "inner:/a/b", "-v", "outer:/a", "base", "sh", "-c", "echo i > /a/b/i; echo o > /a/o"]);
    assert!(data(&jar, "inner").join("i").exists() && data(&jar, "outer").join("o").exists());
    assert!(!data(&jar, "outer").join("b/i").exists());
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("inner"), "nothing of it shows on the host");
}

#[test]
fn a_part_of_a_volume_is_mounted_and_no_link_leads_out_of_it() {
    let Some(jar) = Jar::new() else { return };
    jar.shows(&[
        "-v",
        "vv:/v",
        "base",
        "sh",
        "-c",
        "mkdir -p /v/a/b; echo deep > /v/a/b/f; ln -s a/b /v/in; ln -s /etc /v/out; ln -s ../../../../etc /v/up",
    ]);
    let part = |subpath: &str| format!("type=volume,src=vv,dst=/p,volume-subpath={subpath}");
    assert_eq!(jar.shows(&["--mount", &part("a/b"), "base", "cat", "/p/f"]), "deep");
    assert_eq!(jar.shows(&["--mount", &part("in"), "base", "cat", "/p/f"]), "deep");
    assert_eq!(jar.shows(&["--mount", &part("a/b/f"), "base", "cat", "/p"]), "deep");
    for out in ["out", "up"] {
        jar.refuses(&["--mount", &part(out), "base", "cat", "/p/passwd"], 125, &["it leads out of the volume"]);
    }
    jar.refuses(&["--mount", &part("no"), "base", "true"], 125, &["no such file or directory"]);
    jar.refuses(&["--mount", &part("../x"), "base", "true"], 125, &["subpath must be a relative path within the volume"]);
    // While somebody swaps a folder and a link to the host's /etc, what is mounted is always the folder.
    let (volume, stop) = (data(&jar, "vv"), std::sync::atomic::AtomicBool::new(false));
    fs::create_dir(volume.join("swap")).unwrap();
    fs::write(volume.join("swap/f"), "ours\n").unwrap();
    symlink("/etc", volume.join("swap.link")).unwrap();
    let exchange = || {
        nix::fcntl::renameat2(
            nix::fcntl::AT_FDCWD,
            &volume.join("swap"),
            nix::fcntl::AT_FDCWD,
            &volume.join("swap.link"),
            nix::fcntl::RenameFlags::RENAME_EXCHANGE,
        )
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                exchange().unwrap();
            }
        });
        for _ in 0..10 {
            let told = jar.run(&["--mount", &part("swap"), "base", "sh", "-c", "cat /p/f; cat /p/passwd /p/hostname"]);
            assert!(told.code == 125 && told.err.contains("leads out") || told.out == "ours\n", "{told:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn options_of_a_volume_say_what_is_mounted_in_its_stead() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=1770,uid=7", "tt"]);
    jar.does(&["run", "-d", "--name", "one", "-v", "tt:/t", "base", "sh", "-c", "stat -c '%a %u' /t; echo shared > /t/f; exec sleep 1000"]);
    crate::support::jar::until("it has written", || jar.says(&["exec", "one", "cat", "/t/f"]).out == "shared\n");
    assert_eq!(jar.does(&["logs", "one"]), "1770 7");
    assert_eq!(jar.shows(&["-v", "tt:/u", "base", "cat", "/u/f"]), "shared", "one tmpfs for all who run");
    jar.does(&["rm", "-f", "one"]);
    assert_ne!(jar.run(&["-v", "tt:/t", "base", "cat", "/t/f"]).code, 0, "with the last of them it is gone");
    let host = jar.root.join("host");
    fs::create_dir(&host).unwrap();
    let device = format!("device={}", host.display());
    jar.does(&["volume", "create", "-o", "type=none", "-o", &device, "-o", "o=bind", "bb"]);
    jar.shows(&["-v", "bb:/etc", "base", "sh", "-c", "echo x > /etc/x"]);
    assert!(host.join("x").exists() && host.join("passwd").exists(), "it is filled, too");
    jar.does(&["volume", "rm", "bb"]);
    assert!(host.join("x").exists(), "the host's folder is not ours to remove");
    let mount =
        "type=volume,src=made,dst=/m,volume-label=a=b,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,\"volume-opt=o=size=64k\"";
    assert!(jar.shows(&["--mount", mount, "base", "grep", " /m ", "/proc/self/mounts"]).contains("size=64k"));
    assert_eq!(jar.does(&["volume", "inspect", "-f", "{{.Labels.a}} {{.Options.type}}", "made"]), "b tmpfs");
}

#[test]
fn read_only_is_so_all_the_way_down_unless_it_is_said_otherwise() {
    let Some(jar) = Jar::new() else { return };
    let tree = jar.root.join("tree");
    fs::create_dir_all(tree.join("below")).unwrap();
    std::thread::scope(|scope| {
        let mounted = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some("below"), &tree.join("below"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            let run = |more: &str, script: &str| {
                let mount = format!("type=bind,src={},dst=/t{more}", tree.display());
                jar.run(&["--mount", &mount, "base", "sh", "-c", script]).code == 0
            };
            assert!(run("", "touch /t/x /t/below/x"));
            assert!(run(",readonly", "! touch /t/x 2>/dev/null && ! touch /t/below/x 2>/dev/null"));
            assert!(run(",readonly,bind-recursive=writable", "! touch /t/x 2>/dev/null && touch /t/below/y"));
            assert!(run(",ro,bind-recursive=readonly,bind-propagation=rprivate", "! touch /t/below/z 2>/dev/null"));
            assert!(run(",bind-recursive=disabled", "! test -e /t/below/x"));
            assert!(run(",bind-nonrecursive", "! test -e /t/below/x"));
            assert!(run(",bind-recursive=enabled,consistency=cached", "test -e /t/below/x"));
        });
        mounted.join().unwrap();
    });
}

#[test]
fn a_mount_travels_only_where_it_shall() {
    let Some(jar) = Jar::new() else { return };
    let tree = jar.root.join("tree");
    fs::create_dir_all(tree.join("below")).unwrap();
    std::thread::scope(|scope| {
        let mounted = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some(&tree), &tree, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            mount(None::<&str>, &tree, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
            for (name, word) in [("private", "rprivate"), ("slave", "rslave"), ("shared", "rshared")] {
                let bind = format!("{}:/t:{word}", tree.display());
                jar.does(&["run", "-d", "--name", name, "--cap-add", "SYS_ADMIN", "-v", &bind, "base", "sleep", "1000"]);
            }
            mount(Some("later"), &tree.join("below"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            fs::write(tree.join("below/seen"), "").unwrap();
            let sees = |name: &str| jar.says(&["exec", name, "test", "-e", "/t/below/seen"]).code == 0;
            assert_eq!(["private", "slave", "shared"].map(sees), [false, true, true]);
        });
        mounted.join().unwrap();
    });
}

#[test]
fn a_file_that_is_replaced_by_a_rename_is_the_old_one_until_the_next_start() {
    let Some(jar) = Jar::new() else { return };
    let file = jar.root.join("설정");
    fs::write(&file, "old\n").unwrap();
    jar.does(&["run", "-d", "--name", "web", "-v", &format!("{}:/etc/mine", file.display()), "base", "sleep", "1000"]);
    fs::write(jar.root.join("new"), "new\n").unwrap();
    fs::rename(jar.root.join("new"), &file).unwrap();
    assert_eq!(jar.does(&["exec", "web", "cat", "/etc/mine"]), "old");
    jar.does(&["restart", "-t", "0", "web"]);
    assert_eq!(jar.does(&["exec", "web", "cat", "/etc/mine"]), "new");
}

#[test]
fn files_are_copied_into_and_out_of_volumes_whether_it_runs_or_not() {
    let Some(jar) = full() else { return };
    let file = jar.root.join("in");
    let (file_text, out) = (file.display().to_string(), jar.root.join("out"));
    jar.does(&["create", "--name", "web", "-v", "db:/db", "-v", "locked:/locked:ro", "full", "sleep", "1000"]);
    for round in ["at rest", "running"] {
        fs::write(&file, round).unwrap();
        jar.does(&["cp", &file_text, "web:/db/한글"]);
        assert_eq!(fs::read_to_string(data(&jar, "db").join("한글")).unwrap(), round);
        jar.does(&["cp", "web:/srv/index.html", &out.display().to_string()]);
        assert_eq!(fs::read_to_string(&out).unwrap(), "hello\n");
        let told = jar.says(&["cp", &file_text, "web:/locked/x"]);
        assert!(told.code != 0 && told.err.contains("read-only"), "{told:?}");
        jar.does(&["start", "web"]);
    }
    // What is the volumes' is not the container's.
    let archive = jar.root.join("web.tar");
    jar.does(&["export", "-o", &archive.display().to_string(), "web"]);
    let listed = std::process::Command::new("tar").arg("-tf").arg(&archive).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let own: Vec<&str> =
        listed.lines().filter(|name| ["db", "srv", "locked"].iter().any(|place| name.trim_start_matches("./").starts_with(place))).collect();
    assert_eq!(own, ["db/", "locked/", "srv/", "srv/index.html"]);
    jar.does(&["commit", "web", "again"]);
    assert_eq!(jar.shows(&["again", "ls", "/db"]), "");
    jar.does(&["rm", "-f", "-v", "web"]);
    assert_eq!(names(&jar), ["db", "locked"]);
}

#[test]
fn without_its_volume_a_container_does_not_start() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["create", "--name", "web", "-v", "db:/db", "base", "true"]);
    fs::remove_dir_all(jar.root.join("data/volumes/db")).unwrap();
    let told = jar.says(&["start", "web"]);
    assert!(told.code == 1 && told.err.contains("get db: no such volume"), "{told:?}");
    assert!(jar.does(&["export", "-o", &jar.root.join("web.tar").display().to_string(), "web"]).is_empty());
}
