//! A new volume is filled from the image's folder: all of it, once, or not at all.
//!
//! See it: `ls -la /var/lib/onggi/volumes/NAME`. Read: docker run(1) `--volume`, `nocopy`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::pot::{data, full, look, names};
use crate::support::jar::{Jar, said, until};

#[test]
fn owners_modes_links_attributes_and_times_arrive() {
    let Some(jar) = full() else { return };
    jar.shows(&["-v", "copy:/data", "full", "true"]);
    let copy = data(&jar, "copy");
    assert_eq!(look(&copy), look(&jar.root.join("tree")));
    let inode = |name: &str| fs::metadata(copy.join(name)).unwrap().ino();
    assert_eq!(inode("plain"), inode("folder/hard"));
    let attribute = Command::new("getfattr").args(["--only-values", "-n", "user.onggi"]).arg(copy.join("plain")).output().unwrap();
    assert_eq!(attribute.stdout, b"clay");
    assert_eq!(fs::read_dir(copy.parent().unwrap()).unwrap().count(), 2, "only the data and its JSON are there");
}

#[test]
fn only_an_empty_volume_is_filled_and_only_when_a_container_is_made() {
    let Some(jar) = full() else { return };
    jar.does(&["volume", "create", "early"]);
    jar.shows(&["-v", "early:/data", "full", "true"]);
    assert!(data(&jar, "early").join("plain").exists());
    fs::write(data(&jar, "early").join("mine"), "mine").unwrap();
    fs::remove_file(data(&jar, "early").join("plain")).unwrap();
    jar.shows(&["-v", "early:/data", "full", "true"]);
    assert!(!data(&jar, "early").join("plain").exists(), "what was removed stays so while something is left");
    jar.does(&["create", "--name", "later", "-v", "emptied:/data", "full", "true"]);
    for entry in fs::read_dir(data(&jar, "emptied")).unwrap().flatten() {
        fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path())).unwrap();
    }
    jar.does(&["start", "-a", "later"]);
    assert_eq!(fs::read_dir(data(&jar, "emptied")).unwrap().count(), 0, "a start fills nothing");
    jar.shows(&["-v", "bare:/data:nocopy", "full", "true"]);
    jar.shows(&["--mount", "src=bare2,dst=/data,volume-nocopy", "full", "true"]);
    for bare in ["bare", "bare2"] {
        assert_eq!(fs::read_dir(data(&jar, bare)).unwrap().count(), 0);
    }
}

#[test]
fn a_place_behind_a_link_of_the_image_is_the_containers_own() {
    let Some(jar) = full() else { return };
    jar.shows(&["-v", "linked:/link", "full", "test", "-f", "/data/plain"]);
    assert!(data(&jar, "linked").join("plain").exists(), "/link leads to /data");
    let etc = jar.root.join("etc");
    symlink("/etc", &etc).unwrap();
    jar.does(&["create", "--name", "sly", "base"]);
    jar.does(&["cp", &etc.display().to_string(), "sly:/outside"]);
    jar.does(&["commit", "sly", "sly"]);
    jar.shows(&["-v", "inside:/outside", "sly", "true"]);
    assert!(!data(&jar, "inside").join("shadow").exists() && data(&jar, "inside").join("passwd").exists(), "the image's /etc, never the host's");
    jar.refuses(&["-v", "file:/etc/passwd", "base", "true"], 125, &["cannot mount volume over existing file, file exists /etc/passwd"]);
    assert!(!names(&jar).contains(&"file".into()), "a volume made for nothing goes again");
}

#[test]
fn twenty_containers_at_once_fill_a_volume_once() {
    let Some(jar) = full() else { return };
    let run = |n: usize| {
        let name = format!("c{n}");
        let words = [
            "run",
            "--rm",
            "--name",
            &name,
            "-v",
            "crowd:/data",
            "full",
            "sh",
            "-c",
            "cat /data/plain '/data/folder/한글 이름'; echo $HOSTNAME >> /data/log",
        ];
        jar.onggi(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..20).map(run).collect();
    for child in children {
        let told = said(child.wait_with_output().unwrap());
        assert_eq!((told.code, told.out.as_str()), (0, "plain\n옹기\n"), "{}", told.err);
    }
    let log = fs::read_to_string(data(&jar, "crowd").join("log")).unwrap();
    assert_eq!(log.lines().collect::<BTreeSet<_>>().len(), 20, "all wrote into the same folder");
    jar.assert_nothing_left();
}

#[test]
fn whoever_is_killed_in_the_middle_leaves_no_half_of_a_copy() {
    let Some(jar) = full() else { return };
    let many = "mkdir -p /many/a /many/b; i=0; while [ $i -lt 1500 ]; do echo $i > /many/a/$i; echo $i > /many/b/$i; i=$((i+1)); done";
    jar.does(&["run", "--name", "maker", "full", "sh", "-c", many]);
    jar.does(&["commit", "maker", "many"]);
    jar.does(&["rm", "maker"]);
    let volume = jar.root.join("data/volumes/half");
    let mut caught = 0;
    for round in 0..6 {
        let mut child = jar.onggi(&["create", "-v", "half:/many", "many"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = || fs::read_dir(volume.join("filling/a")).is_ok_and(|files| files.count() > 10 * round);
        until("the copy has begun", || begun() || child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        if volume.join("filling").exists() {
            caught += 1;
            assert_eq!(fs::read_dir(volume.join("_data")).unwrap().count(), 0, "nothing of it is seen");
        } else {
            break;
        }
    }
    assert!(caught > 0, "nobody was killed in the middle");
    assert_eq!(jar.shows(&["-v", "half:/many", "many", "sh", "-c", "ls /many/a /many/b | wc -l"]).trim(), "3003");
    assert!(!volume.join("filling").exists() && !volume.join("image").exists());
    // Killed before the last step: the next use goes on.
    fs::rename(volume.join("_data/b"), jar.root.join("b")).unwrap();
    fs::create_dir(volume.join("filled")).unwrap();
    fs::rename(jar.root.join("b"), volume.join("filled/b")).unwrap();
    assert_eq!(jar.shows(&["-v", "half:/many", "many", "sh", "-c", "ls /many/a /many/b | wc -l"]).trim(), "3003");
    assert!(!volume.join("filled").exists());
}

#[test]
fn on_a_full_disk_the_file_is_named_and_nothing_stays() {
    let Some(jar) = full() else { return };
    jar.does(&["run", "--name", "maker", "base", "sh", "-c", "mkdir /big; echo x > /big/a; head -c 3000000 /dev/zero > /big/zeros"]);
    jar.does(&["commit", "maker", "big"]);
    let volumes = jar.root.join("data/volumes");
    fs::create_dir_all(&volumes).unwrap();
    std::thread::scope(|scope| {
        // This thread's mounts, and those of what it starts, are nobody else's.
        let small = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some("none"), &volumes, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
            jar.does(&["volume", "create", "before"]);
            for name in ["new", "before"] {
                jar.refuses(&["-v", &format!("{name}:/big"), "big", "true"], 125, &["/big/zeros", "ENOSPC"]);
            }
            assert_eq!(names(&jar), ["before"]);
            assert_eq!(fs::read_dir(volumes.join("before/_data")).unwrap().count(), 0);
            assert_eq!(fs::read_dir(volumes.join("before")).unwrap().count(), 2);
            jar.does(&["volume", "rm", "before"]);
        });
        small.join().unwrap();
    });
    assert_eq!(jar.ids().len(), 1);
}

#[test]
fn a_volume_that_a_running_container_has_is_filled_before_its_eyes() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["run", "-d", "--name", "first", "-v", "shared:/nothing/here", "base", "sleep", "1000"]);
    jar.shows(&["-v", "shared:/etc", "base", "true"]);
    assert!(jar.does(&["exec", "first", "ls", "/nothing/here"]).contains("passwd"));
    jar.does(&["exec", "first", "sh", "-c", "echo still > /nothing/here/mine"]);
    assert_eq!(fs::read_to_string(data(&jar, "shared").join("mine")).unwrap(), "still\n");
}
