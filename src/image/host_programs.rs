//! The programs that `base` takes from the host: which ones, and where they are.
//!
//! See it: `onggi run --rm base ls /usr/bin`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What people reach for in a container, by what it is for. A host has most of them.
pub const TOOLS: &str = "
    sh bash dash env true false test [ printf echo expr seq sleep timeout time
    ls cat cp mv rm mkdir rmdir ln touch chmod chown chgrp stat readlink realpath dirname basename mktemp mkfifo mknod dd od hexdump truncate install sync
    grep egrep fgrep sed awk mawk gawk find xargs sort uniq cut tr wc head tail tee diff cmp paste comm split rev tac nl fold fmt
    ps top free kill pgrep pkill pidof uptime nproc nice renice ionice chrt taskset nohup setsid prlimit time watch w vmstat pmap
    id whoami groups who tty stty clear reset tput su login
    hostname uname date pwd which cal
    df du mount umount findmnt mountpoint losetup lsblk
    ip ss ping nc wget curl getent nslookup arp route netstat ifconfig
    tar gzip gunzip zcat cpio md5sum sha256sum base64 xxd
    unshare nsenter lsns capsh setpriv chroot pivot_root switch_root strace getcap setfattr getfattr
    less more vi nano
";

/// The ones that busybox fills in, where it has them and the host has no program of that name.
pub const APPLETS: &str = "
    vi less more wget nc nslookup arp route netstat ifconfig ping watch top free uptime hexdump xxd time clear reset which cal diff cpio
    pidof killall setsid chroot pivot_root switch_root mkfifo mknod ed bc dc lsof tree unzip bzip2 xz dos2unix usleep telnet
    traceroute httpd udhcpc crond syslogd ash adduser addgroup
";

/// Of [`TOOLS`], what is not worth its libraries, or needs files of the host that are none of a container's business: taken from
/// busybox or not at all.
const LEFT_TO_BUSYBOX: &[&str] = &["vi", "curl", "wget", "nc", "su", "login", "nslookup", "strace", "w", "who", "cal", "xxd"];

/// Where programs are on most hosts. They come before PATH, so that the same host makes the same image for everybody.
const DIRS: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin", "/usr/local/bin", "/usr/local/sbin"];

/// The names that the image should have, each once, in a fixed order.
pub fn wanted() -> impl Iterator<Item = &'static str> {
    let mut seen = HashSet::new();
    TOOLS.split_whitespace().filter(move |name| !LEFT_TO_BUSYBOX.contains(name) && seen.insert(*name))
}

/// The host's program of this name, as it is found, links and all.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    let mut places = DIRS.iter().map(PathBuf::from).chain(on_path).map(|dir| dir.join(name));
    places.find(|place| place.canonicalize().is_ok_and(|real| real.is_file() && !is_private(&real)))
}

/// What lies in somebody's home is theirs.
fn is_private(path: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute() && home.components().count() > 1);
    ["/home", "/root", "/tmp", "/var/tmp"].iter().any(|dir| path.starts_with(dir)) || home.is_some_and(|home| path.starts_with(home))
}

/// Which of [`APPLETS`] this busybox has: its table of names is a run of strings in the file.
pub fn applets_of(busybox: &[u8]) -> Vec<&'static str> {
    let strings: HashSet<&[u8]> = busybox.split(|&b| b == 0).filter(|text| (2..16).contains(&text.len())).collect();
    APPLETS.split_whitespace().filter(|name| strings.contains(name.as_bytes())).collect()
}

/// The interpreter of a script, from its first line.
pub fn interpreter(bytes: &[u8]) -> Option<PathBuf> {
    let line = bytes.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let path = std::str::from_utf8(line).ok()?.split_whitespace().next()?;
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_found_and_homes_are_left_alone() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program"), None);
        assert!(is_private(Path::new("/root/.cargo/bin/x")) && is_private(Path::new("/home/u/bin/ls")) && !is_private(Path::new("/usr/bin/ls")));
    }

    #[test]
    fn a_script_names_its_interpreter() {
        assert_eq!(interpreter(b"#! /bin/sh -e\nexit"), Some("/bin/sh".into()));
        assert_eq!(interpreter(b"\x7fELF"), None);
    }

    #[test]
    fn applets_are_read_off_the_table() {
        assert_eq!(applets_of(b"\x7fELF\0ash\0vi\0nosuch\0"), ["vi", "ash"]);
    }
}
