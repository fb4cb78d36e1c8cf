//! Containers of a user without rights: user 12345, who is in no file of this machine, so that one id is all there is to map.
//!
//! See it: `setpriv --reuid 12345 --regid 12345 --clear-groups onggi run --rm base cat /proc/self/uid_map`. Read: user_namespaces(7).

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::jar::{ONGGI, Said, said};

const USER: u32 = 12345;

/// A home of that user's, with a copy of the program that they can reach.
struct HomeOf(PathBuf);

impl HomeOf {
    fn make() -> Option<HomeOf> {
        if !nix::unistd::geteuid().is_root() {
            support::skip_for_want_of("only root becomes another user");
            return None;
        }
        let home = std::env::temp_dir().join(format!("onggi-rootless-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::copy(ONGGI, home.join("onggi")).unwrap();
        std::fs::set_permissions(home.join("onggi"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&home, Some(USER), Some(USER)).unwrap();
        Some(HomeOf(home))
    }

    fn onggi(&self, words: &[&str]) -> Said {
        let mut command = Command::new(self.0.join("onggi"));
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.0)
            .env("LC_ALL", "C.UTF-8")
            .env("ONGGI_ROOT", self.0.join("onggi-root"));
        // As root, std gives the supplementary groups up with the change of user.
        command.uid(USER).gid(USER).current_dir(&self.0).stdin(Stdio::null());
        said(command.output().unwrap())
    }

    #[track_caller]
    fn shows(&self, words: &[&str]) -> String {
        let said = self.onggi(&[&["run", "--rm"][..], words].concat());
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out.trim_end().to_string()
    }

    #[track_caller]
    fn refuses(&self, words: &[&str], parts: &[&str]) {
        let said = self.onggi(&[&["run", "--rm"][..], words].concat());
        assert_eq!(said.code, 125, "{said:?}");
        assert!(parts.iter().all(|part| said.err.contains(part)), "{parts:?} in {}", said.err);
    }
}

impl Drop for HomeOf {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// One test and one home: the base image is made once.
#[test]
fn a_user_without_rights_runs_containers() {
    let Some(home) = HomeOf::make() else { return };
    root_inside_is_the_user_outside(&home);
    options_that_need_no_rights_work(&home);
    what_needs_rights_is_refused_with_a_hint(&home);
    the_tour_and_the_doctor_work(&home);
    let left = Command::new("find").arg(home.0.join("onggi-root")).args(["-path", "*/containers/*"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

fn root_inside_is_the_user_outside(home: &HomeOf) {
    let told = home.shows(&["base", "sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; cat /proc/self/setgroups"]);
    assert_eq!(told, format!("0\n0\n 0 {USER} 1\n 0 {USER} 1\ndeny"));
    let shared = home.0.join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::os::unix::fs::chown(&shared, Some(USER), Some(USER)).unwrap();
    let volume = format!("{}:/v", shared.display());
    home.shows(&["-v", &volume, "base", "sh", "-c", "echo x > /v/x; echo y > /etc/new; test -e /etc/new"]);
    let meta = std::fs::metadata(shared.join("x")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (USER, USER));
    // What only root of this machine may read stays unread.
    let told = home.onggi(&["run", "--rm", "-v", "/etc/shadow:/s", "base", "cat", "/s"]);
    assert!(told.code == 1 && told.err.contains("Permission denied"), "{told:?}");
}

fn options_that_need_no_rights_work(home: &HomeOf) {
    assert_eq!(home.shows(&["--network", "none", "base", "ls", "/sys/class/net"]), "lo");
    assert_eq!(
        home.shows(&["--network", "host", "base", "readlink", "/proc/self/ns/net"]),
        std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string()
    );
    assert_eq!(home.shows(&["-h", "jar", "base", "hostname"]), "jar");
    assert_eq!(home.shows(&["--sysctl", "net.ipv4.ip_forward=1", "base", "cat", "/proc/sys/net/ipv4/ip_forward"]), "1");
    assert_eq!(home.shows(&["--read-only", "--tmpfs", "/t", "base", "sh", "-c", "echo t > /t/x; cat /t/x"]), "t");
    assert_eq!(home.shows(&["--device", "/dev/null:/dev/mine", "base", "stat", "-c", "%F", "/dev/mine"]), "character special file");
    assert_eq!(home.shows(&["--init", "base", "sh", "-c", "cat /proc/1/comm"]), "docker-init");
    assert!(home.shows(&["-t", "base", "tty"]).starts_with("/dev/pts/"));
    home.shows(&["--privileged", "base", "mount", "-t", "tmpfs", "x", "/mnt"]);
    home.shows(&["--pid", "host", "base", "true"]);
    home.shows(&["--ipc", "host", "base", "true"]);
    let exits = home.onggi(&["run", "--rm", "base", "sh", "-c", "exit 7"]);
    assert_eq!(exits.code, 7);
}

fn what_needs_rights_is_refused_with_a_hint(home: &HomeOf) {
    // Without systemd's delegation nothing can be limited, and that is said; it isn't ignored.
    home.refuses(&["--memory", "64m", "base", "true"], &["cannot limit the container's resources", "hint:", "Delegate=yes"]);
    home.refuses(&["--pids-limit", "64", "base", "true"], &["cannot limit the container's resources"]);
    home.refuses(&["-u", "5", "base", "true"], &["process.user.uid 5", "hint:", "/etc/subuid"]);
}

fn the_tour_and_the_doctor_work(home: &HomeOf) {
    let tour = home.onggi(&["tour", "--no-wait", "--lang", "en"]);
    assert!(tour.code == 0 && tour.out.contains("Afterwards nothing is left") && !tour.out.contains("still there"), "{tour:?}");
    let doctor = home.onggi(&["doctor"]);
    assert!(doctor.code == 0 && doctor.out.contains("no   a range in /etc/subuid"), "{doctor:?}");
}
