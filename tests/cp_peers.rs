//! The same copies with `docker cp` and `onggi cp`: exit codes, names, kinds, modes, owners and contents are the same afterwards.
//!
//! The daemon is our own; its container is created and never started, so that no rule of this machine changes.
//!
//! Read: docker cp(1).

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::jar::{Jar, said, until};
use support::peer;
use support::short::{Short, unmount_below};

/// One after the other, in a folder of the host; `C:` is the container.
const STEPS: &[&str] = &[
    "cp base C:/t",
    // In.
    "cp tree C:/t/new1",
    "cp tree/. C:/t/new2",
    "cp tree/. C:/t/new3/.",
    "cp tree C:/t/new4/",
    "cp tree C:/t/new1",
    "cp tree/ C:/t/new2",
    "cp tree/. C:/t/new1",
    "cp tree C:/t/file",
    "cp tree C:/t/no/where",
    "cp file C:/t/f1",
    "cp file C:/t/new1",
    "cp file C:/t/new1/",
    "cp file C:/t/f2/",
    "cp file C:/t/file",
    "cp file C:/t/file/",
    "cp file C:/t/no/where",
    "cp file C:/t/tolink",
    "cp file C:/t/dangling",
    "cp file C:/t/todir",
    "cp file C:/t/todir/inside",
    "cp owned C:/t/",
    "cp link C:/t/l1",
    "cp -L link C:/t/l2",
    "cp -L link C:/t/new2",
    "cp dirlink C:/t/l3",
    "cp dirlink/ C:/t/l4",
    "cp dirlink/. C:/t/l5",
    "cp -L dirlink C:/t/l6",
    "cp link/ C:/t/l7",
    "cp missing C:/t/x",
    "cp file/ C:/t/x",
    "cp file C:t/relative",
    "cp ./file C:/t/../t/./dots",
    "cp file C:/../t/up",
    "cp nodir C:/t/tree/nodir",
    "cp clash C:/t/new1/sub",
    "cp file C:/dev/null/x",
    // Out.
    "cp C:/t/base o1",
    "cp C:/t/dir o2",
    "cp C:/t/dir/. o3",
    "cp C:/t/dir o2",
    "cp C:/t/dir/ o3",
    "cp C:/t/dir/. o2",
    "cp C:/t/dir o4/",
    "cp C:/t/dir o5/.",
    "cp C:/t/dir file",
    "cp C:/t/dir no/where",
    "cp C:/t/file o6",
    "cp C:/t/file o2",
    "cp C:/t/file o2/",
    "cp C:/t/file o7/",
    "cp C:/t/file no/where",
    "cp C:/t/file link",
    "cp C:/t/file hostdangling",
    "cp C:/t/file dirlink",
    "cp C:/t/owned o8",
    "cp C:/t/tolink o9",
    "cp -L C:/t/tolink o10",
    "cp -L C:/t/tolink o2",
    "cp -L C:/t/dangling2 o11",
    "cp C:/t/dangling2 o11",
    "cp C:/t/todir o12",
    "cp C:/t/todir/ o13",
    "cp C:/t/todir/. o14",
    "cp -L C:/t/todir o15",
    "cp -L C:/t/todir o2",
    "cp C:/t/absolute/ o16",
    "cp C:/t/escape/. o17",
    "cp C:/t/file/ o18",
    "cp C:/t/missing o19",
    "cp C:/t/file /dev/null",
    "cp C:/t/dir C:/t/y",
    "cp file o20",
    "cp missingcontainer:/t o21",
    "cp - -",
    "cp - o22",
    "cp - C:/t/file",
    "cp - C:/t/missing",
    "cp -q C:/t/file o23",
    // Not all of /t: docker refuses a tree with a link that leads out of it, which we copy as the link it is.
    "cp C:/t/new1 .",
];

struct Daemon {
    host: String,
    child: Child,
    root: PathBuf,
    _short: Short,
}

impl Daemon {
    fn start(root: &Path) -> Option<Daemon> {
        let (dockerd, busybox) = (peer("dockerd")?, peer("busybox")?);
        peer("docker")?;
        let short = Short::new();
        let host = short.host();
        let place = |name: &str| root.join(name).display().to_string();
        let child = Command::new(dockerd)
            .args(short.dockerd(root))
            .stdout(Stdio::null())
            .stderr(fs::File::create(root.join("log")).unwrap())
            .spawn()
            .expect("start dockerd");
        let daemon = Daemon { host, child, root: root.to_path_buf(), _short: short };
        until("dockerd answers", || daemon.docker(&["version"]).output().is_ok_and(|output| output.status.success()));
        let files = root.join("rootfs");
        fs::create_dir_all(files.join("bin")).unwrap();
        fs::create_dir_all(files.join("dev")).unwrap();
        fs::copy(busybox, files.join("bin/sh")).unwrap();
        assert!(Command::new("tar").arg("-C").arg(&files).arg("-cf").arg(root.join("rootfs.tar")).arg(".").status().unwrap().success());
        for words in [vec!["import", &place("rootfs.tar"), "bb"], vec!["create", "--name", "cc", "bb", "sh"]] {
            let said = said(daemon.docker(&words).output().unwrap());
            assert_eq!(said.code, 0, "{}", said.err);
        }
        Some(daemon)
    }

    fn docker(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.host]).args(words).stdin(Stdio::null());
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        unmount_below(&self.root);
    }
}

/// What is copied: on the host, and in `base` what the container is given first.
fn prepare(folder: &Path) {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("a"), "a").unwrap();
    fs::write(tree.join("sub/b"), "bb").unwrap();
    symlink("a", tree.join("l")).unwrap();
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o751)).unwrap();
    fs::hard_link(tree.join("a"), tree.join("sub/again")).unwrap();
    std::os::unix::fs::chown(tree.join("sub"), Some(77), Some(78)).unwrap();
    fs::write(folder.join("file"), "file").unwrap();
    fs::write(folder.join("owned"), "owned").unwrap();
    std::os::unix::fs::chown(folder.join("owned"), Some(1234), Some(2345)).unwrap();
    fs::set_permissions(folder.join("owned"), fs::Permissions::from_mode(0o6755)).unwrap();
    symlink("file", folder.join("link")).unwrap();
    symlink("tree", folder.join("dirlink")).unwrap();
    symlink("made", folder.join("hostdangling")).unwrap();
    fs::write(folder.join("clash"), "clash").unwrap();
    let base = folder.join("base");
    fs::create_dir_all(base.join("dir/sub")).unwrap();
    fs::write(base.join("dir/f"), "inner").unwrap();
    symlink("f", base.join("dir/l")).unwrap();
    fs::write(base.join("file"), "inner file").unwrap();
    fs::write(base.join("owned"), "").unwrap();
    std::os::unix::fs::chown(base.join("owned"), Some(555), Some(666)).unwrap();
    for (name, target) in [
        ("tolink", "file"),
        ("todir", "dir"),
        ("dangling", "nowhere"),
        ("dangling2", "nowhere2"),
        ("absolute", "/t/dir"),
        ("escape", "../../../../t/dir"),
    ] {
        symlink(target, base.join(name)).unwrap();
    }
}

/// All that is in a folder, but for times.
fn list(folder: &Path, at: &str, lines: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, name) = (entry.path(), format!("{at}/{}", entry.file_name().display()));
        let meta = fs::symlink_metadata(&path).unwrap();
        let what = match meta.file_type() {
            kind if kind.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
            kind if kind.is_file() => fs::read_to_string(&path).unwrap(),
            _ => String::new(),
        };
        lines.push(format!("{name} {:o} {}:{} {what}", meta.mode(), meta.uid(), meta.gid()));
        if meta.is_dir() {
            list(&path, &name, lines);
        }
    }
}

/// What has come of it: each step's exit code, and at the end both sides.
fn play(folder: &Path, engine: &dyn Fn(&[&str]) -> Command) -> Vec<String> {
    fs::create_dir_all(folder.join("host")).unwrap();
    let host = folder.join("host");
    prepare(&host);
    let mut told = Vec::new();
    for step in STEPS {
        let words: Vec<String> = step.split(' ').map(|word| word.replacen("C:", "cc:", 1)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = said(engine(&words).current_dir(&host).output().unwrap());
        told.push(format!("{step} = {}", said.code));
    }
    let archive = engine(&["cp", "cc:/t", "-"]).output().unwrap().stdout;
    fs::write(folder.join("t.tar"), archive).unwrap();
    fs::create_dir(folder.join("inside")).unwrap();
    let unpacked = Command::new("tar").args(["--numeric-owner", "-xpf", "../t.tar"]).current_dir(folder.join("inside")).status();
    assert!(unpacked.unwrap().success());
    list(&host, "host", &mut told);
    list(&folder.join("inside"), "container", &mut told);
    told
}

#[test]
fn docker_copies_to_the_same_places() {
    let Some(jar) = Jar::new() else { return };
    let place = |name: &str| {
        let place = jar.root.join(name);
        fs::create_dir(&place).unwrap();
        place
    };
    let Some(daemon) = Daemon::start(&place("docker")) else { return };
    let theirs = play(&place("theirs"), &|words| daemon.docker(words));
    let made = said(jar.onggi(&["create", "--name", "cc", "base", "true"]).output().unwrap());
    assert_eq!(made.code, 0, "{}", made.err);
    let ours = play(&place("ours"), &|words| jar.onggi(words));
    let differ: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).map(|line| format!("docker: {line}")).collect();
    let more: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).map(|line| format!("onggi:  {line}")).collect();
    assert_eq!([differ, more].concat(), Vec::<String>::new());
    assert!(said(jar.onggi(&["rm", "cc"]).output().unwrap()).code == 0);
}
