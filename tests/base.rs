//! The image `base`: the same host makes the same bytes, nothing secret is in it, its programs run, and it is made once.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use onggi::error::Class;
use onggi::image::base::{self, Made};
use onggi::image::digest::Digest;
use onggi::image::{resolve, store::Store};

/// A folder that is gone at the end, and a store in it.
struct Home {
    path: PathBuf,
    store: Store,
}

impl Home {
    fn new(name: &str) -> Home {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("base-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let store = Store::open(&path).unwrap();
        Home { path, store }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// One base for the tests that only look at it.
fn rootfs() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let home = Home::new("shared");
        let layers = base::ensure(&home.store).unwrap().0.layers;
        // Kept for the whole run; the next run of this test removes what an old one left.
        for old in fs::read_dir(home.path.parent().unwrap()).unwrap().flatten() {
            let name = old.file_name().into_string().unwrap_or_default();
            let is_dead = name.strip_prefix("base-shared-").is_some_and(|pid| !Path::new("/proc").join(pid).exists());
            if is_dead {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        std::mem::forget(home);
        layers[0].clone()
    })
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(all_files(&path));
        }
        found.push(path);
    }
    found
}

/// What a command of the image's own shell prints, run with the image as its root.
fn in_base(command: &str) -> String {
    let mut chroot = Command::new("chroot");
    chroot.arg(rootfs()).args(["/bin/sh", "-c", command]).env_clear();
    let output = chroot.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8").output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// This very program again, to make the image in a process of its own, in another environment.
fn make_apart(home: &Home) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "umask 077; exec \"$0\" --exact made_in_a_process_of_its_own --nocapture"]).arg(std::env::current_exe().unwrap());
    shell
        .env_clear()
        .env("ONGGI_TEST_BASE", &home.path)
        .env("PATH", "/nonexistent:/usr/games")
        .env("HOME", "/nonexistent")
        .env("LANG", "ko_KR.UTF-8");
    shell.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

/// Makes nothing when the tests are run; the others start it with a home of theirs.
#[test]
fn made_in_a_process_of_its_own() {
    if let Some(home) = std::env::var_os("ONGGI_TEST_BASE") {
        base::ensure(&Store::open(Path::new(&home)).unwrap()).unwrap();
    }
}

#[test]
fn the_same_host_makes_the_same_image() {
    let (one, two) = (Home::new("one"), Home::new("two"));
    let (first, made) = base::ensure(&one.store).unwrap();
    let Made::Now { files, bytes, took, missing } = made else { panic!("{made:?}") };
    println!("{files} files, {} KiB, {took:?}, without {missing:?}", bytes / 1024);
    assert!(files > 50 && bytes > 1 << 20);
    // Neither the umask, nor the environment, nor the time goes into it.
    assert!(make_apart(&two).status().unwrap().success());
    let (second, made) = base::ensure(&two.store).unwrap();
    assert_eq!(made, Made::Before);
    assert_eq!((&first.id, &first.manifest), (&second.id, &second.manifest));
    assert_eq!(base::remake(&two.store).unwrap().0.manifest, first.manifest);
}

#[test]
fn a_first_use_that_is_killed_leaves_nothing_half() {
    let home = Home::new("killed");
    for milliseconds in [3, 10, 20, 40, 60, 80, 120, 160, 240, 320, 500] {
        let mut maker = make_apart(&home).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        maker.kill().unwrap();
        maker.wait().unwrap();
        for blob in fs::read_dir(home.path.join("images/blobs/sha256")).into_iter().flatten().flatten() {
            let digest = Digest::of(&fs::read(blob.path()).unwrap());
            assert_eq!(digest.hex(), blob.file_name().to_str().unwrap(), "killed after {milliseconds} ms");
        }
        for snapshot in fs::read_dir(home.path.join("snapshots")).into_iter().flatten().flatten() {
            assert!(snapshot.path().join("fs/var/tmp").exists(), "killed after {milliseconds} ms");
        }
    }
    let (image, _) = base::ensure(&home.store).unwrap();
    let (expected, found) = (all_files(rootfs()).len(), all_files(&image.layers[0]).len());
    assert_eq!(expected, found);
    // The first to make something clears up after the killed ones.
    base::remake(&home.store).unwrap();
    home.store.put(b"anything new").unwrap();
    assert_eq!(fs::read_dir(home.path.join("tmp")).unwrap().count(), 1, "only the lock stays");
}

#[test]
fn it_is_a_real_image_that_is_found_by_its_names() {
    let home = Home::new("named");
    assert_eq!(resolve(&home.store, "base").unwrap_err().class, Class::NotFound);
    let (image, _) = base::ensure(&home.store).unwrap();
    assert_eq!(base::ensure(&home.store).unwrap().1, Made::Before);
    let began = Instant::now();
    for name in ["base", "base:latest", "docker.io/library/base", image.id.as_str(), image.id.short(), &format!("base@{}", image.manifest)] {
        assert_eq!(resolve(&home.store, name).unwrap().id, image.id, "{name}");
    }
    println!("six names resolved in {:?}", began.elapsed());
    assert_eq!(image.config.config.env[1], "LANG=C.UTF-8");
    assert_eq!(image.layers.len(), 1);
    // An image whose snapshot was lost is unpacked again from its blobs.
    fs::remove_dir_all(image.layers[0].parent().unwrap()).unwrap();
    assert!(resolve(&home.store, "base").unwrap().layers[0].join("usr/bin/probe").exists());
    let error = resolve(&home.store, "no-such-image").unwrap_err();
    assert!(error.to_string().contains("no-such-image") && error.hint.is_some(), "{error}");
}

#[test]
fn many_first_uses_at_once_make_one_image() {
    let home = Home::new("together");
    let made: Vec<Made> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| base::ensure(&home.store).unwrap().1)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| **made != Made::Before).count(), 1, "{made:?}");
    assert_eq!(fs::read_dir(home.path.join("tmp")).unwrap().count(), 1, "only the lock stays");
}

#[test]
fn nothing_of_the_host_but_its_programs_is_in_it() {
    let files = all_files(rootfs());
    let inside = |path: &Path| path.strip_prefix(rootfs()).unwrap().to_path_buf();
    for path in &files {
        let name = inside(path);
        let meta = path.symlink_metadata().unwrap();
        assert_eq!(meta.mode() & 0o6000, 0, "{} is setuid", name.display());
        assert_eq!(meta.mtime(), 0, "{} has a time", name.display());
        assert!(meta.uid() == 0 || name.starts_with("home/student"), "{}", name.display());
    }
    let in_etc: Vec<String> = files
        .iter()
        .map(|p| inside(p))
        .filter(|p| p.parent() == Some(Path::new("etc")))
        .map(|p| p.file_name().unwrap().to_str().unwrap().to_string())
        .collect();
    let ours = ["passwd", "group", "nsswitch.conf", "os-release", "profile", "bash.bashrc", "shells", "host.conf"];
    assert!(in_etc.iter().all(|name| ours.contains(&name.as_str())), "{in_etc:?}");
    for secret in ["etc/shadow", "etc/machine-id", "etc/resolv.conf", "etc/hosts", "etc/hostname", "etc/ssh", "root/.ssh", "root/.bash_history"] {
        assert!(!files.contains(&rootfs().join(secret)), "{secret}");
    }
    let passwd = fs::read_to_string(rootfs().join("etc/passwd")).unwrap();
    assert_eq!(passwd.lines().map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>(), ["root", "student", "nobody"]);
    let mode = |path: &str| fs::metadata(rootfs().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("root"), mode("usr/bin/probe")), (0o1777, 0o700, 0o755));
}

#[test]
fn its_programs_run_in_it() {
    if !nix::unistd::geteuid().is_root() {
        return support::skip_for_want_of("chroot(2) needs root");
    }
    let listing = in_base("ls / && cat /etc/os-release && echo 한글 | grep -c 한글 && id -un && expr 6 \\* 7");
    for part in ["bin", "proc", "usr", "Onggi base", "1\n", "root", "42"] {
        assert!(listing.contains(part), "{part} in {listing}");
    }
    assert_eq!(in_base("printf '%s' \"$(printf 한글 | wc -m)\"").trim(), "2", "C.UTF-8 knows Korean letters");
    assert!(in_base("probe facts").starts_with('{'));
    // Each program finds all its libraries: the linker itself is asked.
    let broken = in_base(
        "for p in /usr/bin/* /usr/sbin/*; do case $p in *busybox|*probe) continue;; esac; LD_TRACE_LOADED_OBJECTS=1 $p 2>&1 </dev/null | grep 'not found' | sed \"s|^|$p|\"; done; true",
    );
    assert_eq!(broken, "");
}
