//! A jar with an image that has something to fill volumes with.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::Mode;

use crate::support::jar::Jar;

/// A jar with the image `full`: `/data` holds one of each kind, `/link` leads to it, and `/srv` is a VOLUME with one file.
pub fn full() -> Option<Jar> {
    let jar = Jar::new()?;
    let tree = tree(&jar.root.join("tree"));
    let srv = jar.root.join("index.html");
    fs::write(&srv, "hello\n").unwrap();
    jar.does(&["create", "--name", "maker", "base"]);
    jar.does(&["cp", "-a", &tree.display().to_string(), "maker:/data"]);
    jar.does(&["cp", &srv.display().to_string(), "maker:/srv/"]);
    jar.does(&["cp", &link(&jar, "/data"), "maker:/link"]);
    jar.does(&["commit", "-c", "VOLUME /srv", "maker", "full"]);
    jar.does(&["rm", "maker"]);
    Some(jar)
}

fn link(jar: &Jar, target: &str) -> String {
    let link = jar.root.join("link");
    symlink(target, &link).unwrap();
    link.display().to_string()
}

/// A file of each kind, with owners, modes, attributes and old times.
pub fn tree(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir.join("folder/empty")).unwrap();
    fs::write(dir.join("plain"), "plain\n").unwrap();
    fs::write(dir.join("folder/한글 이름"), "옹기\n").unwrap();
    fs::hard_link(dir.join("plain"), dir.join("folder/hard")).unwrap();
    symlink("/etc/passwd", dir.join("away")).unwrap();
    symlink("plain", dir.join("near")).unwrap();
    nix::unistd::mkfifo(&dir.join("fifo"), Mode::from_bits_truncate(0o640)).unwrap();
    fs::write(dir.join("setuid"), "#!/bin/sh\n").unwrap();
    chown(dir.join("setuid"), Some(7), Some(8)).unwrap();
    fs::set_permissions(dir.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(dir.join("folder"), fs::Permissions::from_mode(0o1777)).unwrap();
    chown(dir, Some(1234), Some(2345)).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o750)).unwrap();
    let set = Command::new("setfattr").args(["-n", "user.onggi", "-v", "clay"]).arg(dir.join("plain")).status();
    assert!(set.is_ok_and(|set| set.success()), "setfattr");
    let old = ["plain", "near", "folder", "."].map(|name| dir.join(name));
    let touched = Command::new("touch").args(["-h", "-d", "2001-02-03 04:05:06.5 UTC"]).args(old).status();
    assert!(touched.is_ok_and(|touched| touched.success()), "touch");
    dir.to_path_buf()
}

/// Names, kinds, modes, owners, sizes, number of names, targets and times of all that is in a folder, one a line.
pub fn look(dir: &Path) -> String {
    let form = "%P %y %m %U:%G %s %n %l %T@\n";
    let out = Command::new("find").arg(dir).args(["-not", "-type", "d", "-printf", form, "-o", "-printf", "%P %y %m %U:%G %T@\n"]).output().unwrap();
    let mut lines: Vec<String> = String::from_utf8(out.stdout).unwrap().lines().map(String::from).collect();
    lines.sort();
    lines.join("\n")
}

/// The folder that containers see of a volume.
pub fn data(jar: &Jar, name: &str) -> PathBuf {
    jar.root.join("data/volumes").join(name).join("_data")
}

/// The names of all volumes.
pub fn names(jar: &Jar) -> Vec<String> {
    jar.does(&["volume", "ls", "-q"]).lines().map(String::from).collect()
}
