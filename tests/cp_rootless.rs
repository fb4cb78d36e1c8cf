//! A container's files, without root's rights: user 12346, who is in no file of this machine.
//!
//! See it: `ls -l /proc/P/ns/user` for each of their containers. Read: user_namespaces(7).

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::jar::{ONGGI, Said, said};

const USER: u32 = 12346;

struct HomeOf(PathBuf);

impl HomeOf {
    fn says(&self, words: &[&str]) -> Said {
        let mut command = Command::new(self.0.join("onggi"));
        command.args(words).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.0).env("ONGGI_ROOT", self.0.join("root"));
        said(command.uid(USER).gid(USER).current_dir(&self.0).stdin(Stdio::null()).output().unwrap())
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let said = self.says(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out
    }
}

impl Drop for HomeOf {
    fn drop(&mut self) {
        self.says(&["rm", "-f", "web"]);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_user_without_rights_reaches_the_files_of_their_containers() {
    if !nix::unistd::geteuid().is_root() {
        return support::skip_for_want_of("only root becomes another user");
    }
    let home = HomeOf(std::env::temp_dir().join(format!("onggi-cp-rootless-{}", std::process::id())));
    std::fs::create_dir_all(&home.0).unwrap();
    std::fs::copy(ONGGI, home.0.join("onggi")).unwrap();
    std::fs::set_permissions(home.0.join("onggi"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(home.0.join("file"), "mine").unwrap();
    for path in [home.0.clone(), home.0.join("file")] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    home.does(&["run", "-d", "--name", "web", "base", "sh", "-c", "echo theirs > /new; exec sleep 1000"]);
    support::jar::until("it has written", || home.does(&["diff", "web"]) == "A /new\n");
    for runs in [true, false] {
        home.does(&["cp", "file", "web:/srv/file"]);
        home.does(&["cp", "web:/new", "got"]);
        let got = home.0.join("got");
        assert_eq!((std::fs::read_to_string(&got).unwrap().as_str(), std::fs::metadata(&got).unwrap().uid()), ("theirs\n", USER));
        assert_eq!(home.does(&["diff", "web"]), "A /new\nC /srv\nA /srv/file\n");
        home.does(&["export", "-o", "all.tar", "web"]);
        home.does(&["commit", "web", "image"]);
        assert_eq!(home.does(&["run", "--rm", "image", "cat", "/srv/file"]), "mine");
        if runs {
            assert_eq!(home.does(&["exec", "web", "cat", "/srv/file"]), "mine");
            home.does(&["kill", "web"]);
            home.does(&["wait", "web"]);
        }
    }
}
