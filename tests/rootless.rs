//! Containers of a user without rights: of user 12345, who is in no file of this machine, so that one id is all there is to map, and of
//! user 12346, to whom files that only their commands see grant a range.
//!
//! See it: `setpriv --reuid 12345 --regid 12345 --clear-groups onggi run --rm base cat /proc/self/uid_map`. Read: user_namespaces(7).

#[path = "rootless/background.rs"]
mod background;
#[path = "rootless/networks.rs"]
mod networks;
mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::jar::{ONGGI, Said, said};

const USER: u32 = 12345;

/// Puts files of the user's home over those of this machine, for what comes after it alone.
const WITH_A_RANGE: &str = "mount --bind $1/passwd /etc/passwd && mount --bind $1/subid /etc/subuid && mount --bind $1/subid /etc/subgid \
    && user=$2 && shift 2 && exec setpriv --reuid $user --regid $user --clear-groups \"$@\"";

/// The same, for a machine on which /dev/net/tun is for everybody, as it is where udev runs.
const WITH_A_WAY_OUT: &str =
    "mount --bind $1/tun /dev/net/tun && user=$2 && shift 2 && exec setpriv --reuid $user --regid $user --clear-groups \"$@\"";

/// A home of that user's, with a copy of the program that they can reach.
struct HomeOf {
    dir: PathBuf,
    user: u32,
    /// What is done before a command, by root.
    before: Option<&'static str>,
}

impl HomeOf {
    fn make(user: u32, before: Option<&'static str>) -> Option<HomeOf> {
        if !nix::unistd::geteuid().is_root() {
            support::skip_for_want_of("only root becomes another user");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("onggi-rootless-{}-{user}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::copy(ONGGI, dir.join("onggi")).unwrap();
        std::fs::set_permissions(dir.join("onggi"), std::fs::Permissions::from_mode(0o755)).unwrap();
        // newuidmap(1) wants its user to have a name.
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap() + &format!("jarmaker:x:{user}:{user}::{}:/bin/sh\n", dir.display());
        std::fs::write(dir.join("passwd"), passwd).unwrap();
        std::fs::write(dir.join("subid"), "jarmaker:300000:65536\n").unwrap();
        std::os::unix::fs::chown(&dir, Some(user), Some(user)).unwrap();
        Some(HomeOf { dir, user, before })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = if let Some(script) = self.before {
            let mut command = Command::new("/usr/bin/unshare");
            command.args(["--mount", "sh", "-c", script, "sh"]).arg(&self.dir).arg(self.user.to_string()).arg(self.dir.join("onggi"));
            command
        } else {
            let mut command = Command::new(self.dir.join("onggi"));
            // As root, std gives the supplementary groups up with the change of user.
            command.uid(self.user).gid(self.user);
            command
        };
        self.settle(&mut command, words);
        command
    }

    /// The user's surroundings.
    fn settle(&self, command: &mut Command, words: &[&str]) {
        command.args(words).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.dir).env("LC_ALL", "C.UTF-8");
        command.env("ONGGI_ROOT", self.dir.join("onggi-root")).current_dir(&self.dir).stdin(Stdio::null());
    }

    fn onggi(&self, words: &[&str]) -> Said {
        said(self.command(words).output().unwrap())
    }

    /// What a command prints that must succeed.
    #[track_caller]
    fn says(&self, words: &[&str]) -> String {
        let said = self.onggi(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out.trim_end().to_string()
    }

    #[track_caller]
    fn shows(&self, words: &[&str]) -> String {
        self.says(&[&["run", "--rm"][..], words].concat())
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
        // What a test that failed has left running.
        let containers = std::fs::read_dir(self.dir.join("onggi-root/data/containers")).into_iter().flatten().flatten();
        for container in containers {
            self.onggi(&["rm", "-f", &container.file_name().to_string_lossy()]);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

// One test and one home: the base image is made once.
#[test]
fn a_user_without_rights_runs_containers() {
    let Some(home) = HomeOf::make(USER, None) else { return };
    root_inside_is_the_user_outside(&home);
    options_that_need_no_rights_work(&home);
    what_needs_rights_is_refused_with_a_hint(&home);
    the_tour_and_the_doctor_work(&home);
    background::containers_live_on_and_stay_within_reach(&home);
    nothing_is_left(&home);
}

#[test]
fn a_user_with_a_range_of_ids_runs_containers_in_the_background() {
    if support::peer("newuidmap").is_none() {
        return;
    }
    let Some(home) = HomeOf::make(USER + 1, Some(WITH_A_RANGE)) else { return };
    background::containers_live_on_and_stay_within_reach(&home);
    background::other_users_of_the_image_come_from_the_range(&home);
    nothing_is_left(&home);
}

#[test]
fn a_user_without_rights_has_networks() {
    let Some(home) = HomeOf::make(USER + 2, Some(WITH_A_WAY_OUT)) else { return };
    if support::peer("busybox").is_none() || support::peer("ip").is_none() {
        return;
    }
    networks::a_host_of_its_own(&home);
    // The base image is made by the first who needs it.
    home.shows(&["base", "true"]);
    networks::nobody_stays_when_the_last_has_left(&home);
    networks::containers_find_each_other_by_name(&home);
    networks::map_and_trace_look_into_the_ground(&home);
    networks::published_ports_lead_to_the_container(&home);
    networks::ten_at_once_share_one_ground(&home);
    networks::without_a_program_for_it_there_is_no_way_out(&home);
    networks::a_killed_keeper_is_replaced(&home);
    networks::a_killed_monitor_leaves_nothing_on_the_network(&home);
    if support::peer("slirp4netns").is_some() {
        networks::the_outside_is_reached(&home);
    }
    if support::peer("pasta").is_some() {
        networks::pasta_is_as_good_a_way_out(&home);
    }
    nothing_is_left(&home);
}

fn nothing_is_left(home: &HomeOf) {
    background::soon("no process is left in the user namespace", || background::members(home).is_empty());
    let left = Command::new("find").arg(home.dir.join("onggi-root")).args(["-path", "*/containers/*"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

fn root_inside_is_the_user_outside(home: &HomeOf) {
    let told = home.shows(&["base", "sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; cat /proc/self/setgroups"]);
    assert_eq!(told, format!("0\n0\n 0 {USER} 1\n 0 {USER} 1\ndeny"));
    let shared = home.dir.join("shared");
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
