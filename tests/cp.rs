//! `cp` in all directions, on containers that run and that don't; what a container does to its own names meanwhile changes nothing
//! outside of it.
//!
//! See it: `onggi cp web:/etc -`. Read: docker cp(1), openat2(2); CVE-2018-15664.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use onggi::image::tar_header::{self, Header, Kind};
use support::jar::{Jar, Said, said};

impl Place {
    /// A jar with a container `cc` that runs, or only has been created, and a folder on the host.
    fn new(runs: bool, options: &[&str]) -> Option<Place> {
        let jar = Jar::new()?;
        let verb: &[&str] = if runs { &["run", "-d"] } else { &["create"] };
        let made = said(jar.onggi(verb).args(["--name", "cc"]).args(options).args(["base", "sleep", "1000"]).output().unwrap());
        assert_eq!(made.code, 0, "{}", made.err);
        let host = jar.root.join("host");
        fs::create_dir(&host).unwrap();
        Some(Place { jar, host })
    }

    fn says(&self, words: &[&str]) -> Said {
        said(self.jar.onggi(words).current_dir(&self.host).output().unwrap())
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let said = self.says(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out
    }

    #[track_caller]
    fn refuses(&self, words: &[&str], part: &str) {
        let said = self.says(words);
        assert_eq!(said.code, 1, "{words:?}: {}", said.err);
        assert!(said.err.contains(part), "{words:?}: {part:?} is not in {}", said.err);
    }

    fn unpacks(&self, archive: &[u8], place: &str) -> Said {
        let mut child = self.jar.onggi(&["cp", "-", place]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that refuses the archive reads no further.
        let _ = child.stdin.take().unwrap().write_all(archive);
        said(child.wait_with_output().unwrap())
    }
}

struct Place {
    jar: Jar,
    host: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.jar.onggi(&["rm", "-f", "cc"]).output();
    }
}

#[test]
fn files_and_folders_go_in_and_come_out_as_they_were() {
    for runs in [false, true] {
        let Some(place) = Place::new(runs, &[]) else { return };
        let tree = place.host.join("tree");
        fs::create_dir_all(tree.join("deep/er")).unwrap();
        fs::write(tree.join("file"), "one").unwrap();
        fs::write(tree.join("deep/er/한글 name"), vec![7u8; 3_000_000]).unwrap();
        fs::hard_link(tree.join("file"), tree.join("deep/second")).unwrap();
        symlink("file", tree.join("link")).unwrap();
        symlink("/surely/nowhere", tree.join("dangling")).unwrap();
        fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o4750)).unwrap();
        std::os::unix::fs::chown(tree.join("deep"), Some(1234), Some(2345)).unwrap();
        nix::unistd::mkfifo(&tree.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::open(tree.join("deep")).unwrap().set_modified(long_ago).unwrap();

        place.does(&["cp", "tree", "cc:/root"]);
        place.does(&["cp", "-a", "cc:/root/tree", "back"]);
        let list = |dir: &Path| {
            let out = std::process::Command::new("find").arg(".").args(["-printf", "%P %y %m %U:%G %l %T@ %n\\n"]).current_dir(dir).output().unwrap();
            let mut lines: Vec<_> = String::from_utf8(out.stdout).unwrap().lines().map(str::to_string).collect();
            lines.sort();
            lines
        };
        assert_eq!(list(&tree), list(&place.host.join("back")));
        assert_eq!(fs::read(place.host.join("back/deep/er/한글 name")).unwrap(), vec![7u8; 3_000_000]);

        // Without -a what comes out is ours.
        place.does(&["cp", "cc:/root/tree/deep", "ours"]);
        assert_eq!(fs::metadata(place.host.join("ours")).unwrap().uid(), 0);
        // And as an archive.
        let archive = place.jar.onggi(&["cp", "cc:/root/tree", "-"]).output().unwrap().stdout;
        assert_eq!(place.unpacks(&archive, "cc:/srv").code, 0);
        place.does(&["cp", "-a", "cc:/srv/tree", "third"]);
        assert_eq!(list(&tree), list(&place.host.join("third")));
        drop(place);
    }
}

#[test]
fn volumes_are_part_of_what_is_seen_whether_it_runs_or_not() {
    let Some(jar) = Jar::new() else { return };
    let shared = jar.root.join("shared");
    fs::create_dir_all(shared.join("inner")).unwrap();
    fs::write(shared.join("there"), "host").unwrap();
    drop(jar);
    for runs in [true, false] {
        fs::create_dir_all(shared.join("inner")).unwrap();
        fs::write(shared.join("there"), "host").unwrap();
        let source = shared.display().to_string();
        let Some(place) = Place::new(runs, &["-v", &format!("{source}:/v"), "-v", &format!("{source}/inner:/v/inner:ro")]) else { return };
        fs::write(place.host.join("file"), "new").unwrap();
        place.does(&["cp", "cc:/v/there", "."]);
        assert_eq!(fs::read_to_string(place.host.join("there")).unwrap(), "host");
        place.does(&["cp", "file", "cc:/v/"]);
        assert_eq!(fs::read_to_string(shared.join("file")).unwrap(), "new");
        place.refuses(&["cp", "file", "cc:/v/inner/x"], "mounted volume is marked read-only");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&place.jar.root.display().to_string()), "{mounts}");
    }
    fs::remove_dir_all(shared.parent().unwrap()).unwrap();
}

#[test]
fn what_may_not_be_is_refused_in_dockers_words() {
    let Some(place) = Place::new(true, &["--read-only"]) else { return };
    fs::write(place.host.join("file"), "").unwrap();
    fs::create_dir(place.host.join("folder")).unwrap();
    place.refuses(&["cp", "file", "cc:/root/"], "container rootfs is marked read-only");
    place.refuses(&["cp", "cc:/proc/version", "."], "Could not find the file /proc/version in container cc");
    place.refuses(&["cp", "cc:/nope", "."], "Could not find the file /nope in container cc");
    place.refuses(&["cp", "cc:/etc", "file"], "cannot copy directory");
    place.refuses(&["cp", "cc:/etc/passwd", "no/where"], "invalid output path: directory");
    place.refuses(&["cp", "cc:/etc/passwd", "new/"], "no such directory");
    place.refuses(&["cp", "cc:/etc/passwd/", "."], "not a directory");
    place.refuses(&["cp", "cc:/etc/passwd", "/dev/null"], "must be a directory or a regular file: got a device");
    place.refuses(&["cp", "nope:/x", "."], "No such container: nope");
    place.refuses(&["cp", "cc:/x", "cc:/y"], "copying between containers is not supported");
    place.refuses(&["cp", "file", "folder"], "must specify at least one container source");
    place.refuses(&["cp", "missing", "cc:/tmp"], "no such file or directory");
    // What is mounted over a file of the container is not replaced below it.
    let Some(place) = Place::new(true, &[]) else { return };
    fs::write(place.host.join("file"), "").unwrap();
    place.refuses(&["cp", "file", "cc:/etc/hosts"], "device or resource busy");
    assert!(place.does(&["exec", "cc", "cat", "/etc/hosts"]).contains("localhost"));
    place.refuses(&["cp", "file", "cc:/proc/x"], "kernel's own");
}

#[test]
fn a_full_disk_is_named_and_leaves_no_half_of_a_file() {
    let Some(place) = Place::new(true, &["--tmpfs", "/small:size=256k"]) else { return };
    fs::write(place.host.join("big"), vec![1u8; 1 << 20]).unwrap();
    place.refuses(&["cp", "big", "cc:/small/"], "ENOSPC");
    assert_eq!(place.does(&["exec", "cc", "ls", "/small"]), "");
}

#[test]
fn while_a_container_swaps_a_folder_for_a_link_nothing_outside_is_read_or_written() {
    let Some(place) = Place::new(true, &[]) else { return };
    let outside = place.jar.root.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "outside").unwrap();
    fs::write(place.host.join("victim"), "x").unwrap();
    fs::create_dir_all(place.host.join("tree/secret.d")).unwrap();
    fs::write(place.host.join("tree/victim"), "x").unwrap();
    let up = "../".repeat(30);
    place.does(&[
        "exec",
        "cc",
        "sh",
        "-c",
        &format!(
            "mkdir -p /x/a; echo inside > /x/a/secret; ln -s {up}{} /x/b; ln -s {} /x/c",
            &outside.display().to_string()[1..],
            outside.display()
        ),
    ]);
    let inside = PathBuf::from(format!("/proc/{}/root/x", place.jar.init_of("cc").unwrap()));
    let stop = AtomicBool::new(false);
    let mut copied = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |one: &str, other: &str| {
                let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &inside.join(one), nix::fcntl::AT_FDCWD, &inside.join(other), flags).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                for link in ["b", "c"] {
                    exchange("a", link);
                    exchange("a", link);
                }
            }
        });
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            let _ = fs::remove_dir_all(place.host.join("got"));
            let _ = fs::remove_file(place.host.join("one"));
            place.says(&["cp", "victim", "cc:/x/a/victim"]);
            place.says(&["cp", "tree/.", "cc:/x/a"]);
            place.says(&["cp", "-L", "cc:/x/a/secret", "one"]);
            place.says(&["cp", "cc:/x/.", "got"]);
            if let Ok(text) = fs::read_to_string(place.host.join("one")) {
                assert_eq!(text, "inside\n");
                copied += 1;
            }
            for name in ["a", "b", "c"] {
                let found = place.host.join("got").join(name);
                if fs::symlink_metadata(&found).is_ok_and(|meta| meta.is_dir()) {
                    assert_ne!(fs::read_to_string(found.join("secret")).unwrap_or_default(), "outside");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(copied > 0, "not one copy came through");
    let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "outside");
}

fn archive(entries: &[(Kind, &str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, link) in entries {
        let mut header = Header::new(*kind, name.as_bytes());
        header.link = link.as_bytes().to_vec();
        header.write(&mut bytes).unwrap();
    }
    tar_header::end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_one_copy_reads_another_writes_into_the_same_container() {
    for runs in [false, true] {
        let Some(place) = Place::new(runs, &[]) else { return };
        fs::create_dir(place.host.join("from")).unwrap();
        // More than a pipe holds.
        fs::write(place.host.join("from/big"), vec![3u8; 2 << 20]).unwrap();
        place.does(&["cp", "from", "cc:/srv/from"]);
        place.does(&["cp", "from", "cc:/srv/to"]);
        let mut reader = place.jar.onggi(&["cp", "cc:/srv/from", "-"]).stdout(Stdio::piped()).spawn().unwrap();
        let writer = place.jar.onggi(&["cp", "-", "cc:/srv/to"]).stdin(reader.stdout.take().unwrap()).output().unwrap();
        assert!(reader.wait().unwrap().success() && writer.status.success(), "{}", String::from_utf8_lossy(&writer.stderr));
        place.does(&["cp", "cc:/srv/to/from/big", "back"]);
        assert_eq!(fs::read(place.host.join("back")).unwrap(), vec![3u8; 2 << 20]);
    }
}

#[test]
fn an_archive_stays_in_the_folder_that_it_is_unpacked_into() {
    for runs in [false, true] {
        let Some(place) = Place::new(runs, &[]) else { return };
        fs::create_dir(place.host.join("t")).unwrap();
        place.does(&["cp", "t", "cc:/srv/t"]);
        let hostile: [&[(Kind, &str, &str)]; 6] = [
            &[(Kind::File, "../evil", "")],
            &[(Kind::File, "a/../../evil", "")],
            &[(Kind::Symlink, "l", "/srv"), (Kind::File, "l/evil", "")],
            &[(Kind::Symlink, "l", ".."), (Kind::Folder, "l/evil/", "")],
            &[(Kind::HardLink, "h", "../../../etc/passwd")],
            &[(Kind::Symlink, "l", "/etc"), (Kind::HardLink, "h", "l/passwd")],
        ];
        for entries in hostile {
            let said = place.unpacks(&archive(entries), "cc:/srv/t");
            assert_eq!(said.code, 1, "{entries:?}");
        }
        // An absolute name is one in the folder.
        assert_eq!(place.unpacks(&archive(&[(Kind::File, "/abs/file", "")]), "cc:/srv/t").code, 0);
        let cut = &archive(&[(Kind::File, "whole", ""), (Kind::File, "cut", "")])[..700];
        assert_eq!(place.unpacks(cut, "cc:/srv/t").code, 1);
        let diff = place.does(&["diff", "cc"]);
        assert!(!diff.contains("evil") && diff.contains("A /srv/t/abs/file\n") && !diff.contains("/srv/t/h\n"), "{diff}");
    }
}
