//! What this machine offers to containers: each finding with the fact behind it and, where something is missing, the exact remedy.
//!
//! Read: namespaces(7), user_namespaces(7), cgroups(7), and the documents named at each finding.

use std::os::fd::AsFd;
use std::path::Path;

use nix::unistd::geteuid;

use super::host_network;
use crate::runtime::cgroups::{self, Layout};
use crate::runtime::program::on_path;
use crate::runtime::{labels, users};
use crate::sys::namespace::CLONE_NEWUSER;
use crate::sys::process::{self, Clone, Forked};

/// One line of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What is asked.
    pub name: &'static str,
    pub yes: bool,
    /// The fact that was seen.
    pub seen: String,
    /// What to do about a no; empty for a yes.
    pub remedy: String,
    /// Without it no container runs here at all.
    pub needed: bool,
}

pub(super) fn finding(name: &'static str, yes: bool, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { name, yes, seen: seen.into(), remedy: if yes { String::new() } else { remedy.into() }, needed: false }
}

/// All findings, in the order in which a container needs them.
pub fn findings(store: &Path) -> Vec<Finding> {
    let mut all = vec![kernel(), namespaces(), privileges(), user_namespaces(), apparmor()];
    all.extend(rootless_helpers());
    all.push(way_out());
    all.extend(control_groups());
    all.extend([overlay(), store_upper(store), seccomp()]);
    all.extend(host_network::findings());
    all.extend([kvm(), qemu(), terminal(), locale()]);
    all
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let remedy = "boot a newer kernel: Debian 12, Ubuntu 22.04, Fedora 34 and all later have one";
    Finding { needed: true, ..finding("Linux 5.12 or later (mount_setattr)", version >= (5, 12), release, remedy) }
}

fn namespaces() -> Finding {
    let kinds = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"];
    let missing: Vec<&str> = kinds.into_iter().filter(|kind| !Path::new("/proc/self/ns").join(kind).exists()).collect();
    let seen = if missing.is_empty() { "all eight kinds".into() } else { format!("missing: {}", missing.join(" ")) };
    let remedy = "the kernel needs CONFIG_NAMESPACES and CONFIG_*_NS; a distribution's kernel has them";
    Finding { needed: true, ..finding("namespaces", missing.is_empty(), seen, remedy) }
}

fn privileges() -> Finding {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    if !geteuid().is_root() {
        let remedy = "not needed: onggi runs rootless; with sudo it also has all cgroups and devices";
        return finding("root's rights", false, format!("user {}", geteuid()), remedy);
    }
    let held = crate::sys::ids::capget().map(|caps| caps.effective).unwrap_or(0);
    let remedy = "this is a container without rights: run it with --privileged, or use the host";
    finding("root's rights", held & CAP_SYS_ADMIN != 0, format!("uid 0, capabilities {held:x}"), remedy)
}

/// Tries it: what settings say and what the kernel does are two things.
fn user_namespaces() -> Finding {
    const NAME: &str = "user namespaces (for rootless)";
    match process::clone3(&Clone { flags: CLONE_NEWUSER, cgroup: None }) {
        Ok(Forked::Child) => process::exit_now(0),
        Ok(Forked::Parent { pidfd, .. }) => {
            let _ = process::wait(pidfd.as_fd());
            finding(NAME, true, "one was made", "")
        }
        Err(e) => {
            let is_zero = |path: &str| read(path).as_deref() == Some("0");
            let remedy = if is_zero("/proc/sys/kernel/unprivileged_userns_clone") {
                "sudo sysctl -w kernel.unprivileged_userns_clone=1"
            } else if is_zero("/proc/sys/user/max_user_namespaces") {
                "sudo sysctl -w user.max_user_namespaces=10000"
            } else {
                "inside of a container its seccomp profile forbids it; else see user_namespaces(7)"
            };
            finding(NAME, false, e.to_string(), remedy)
        }
    }
}

fn apparmor() -> Finding {
    let restricted = read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1");
    let seen = match (labels::apparmor_is_on(), restricted) {
        (false, _) => "AppArmor is off",
        (true, false) => "AppArmor does not restrict them",
        (true, true) => "AppArmor restricts them",
    };
    let remedy = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (until the next boot; a file in /etc/sysctl.d keeps it)";
    finding("user namespaces are not restricted by AppArmor", !restricted, seen, remedy)
}

fn rootless_helpers() -> Vec<Finding> {
    let both = ["newuidmap", "newgidmap"].iter().all(|name| on_path(name));
    let ranges = [users::granted_range("/etc/subuid"), users::granted_range("/etc/subgid")];
    let seen = match ranges {
        [Some((first, count)), Some(_)] => format!("{count} ids from {first} on"),
        _ if geteuid().is_root() => "root needs none".into(),
        _ => "no range for this user".into(),
    };
    let name = nix::unistd::User::from_uid(geteuid()).ok().flatten().map_or_else(|| "USER".into(), |user| user.name);
    let granted = ranges.iter().all(Option::is_some) || geteuid().is_root();
    let installed = if both { "installed" } else { "not installed" };
    vec![
        finding("newuidmap and newgidmap (rootless, more than one user)", both, installed, "sudo apt install uidmap   (Fedora: shadow-utils)"),
        finding(
            "a range in /etc/subuid and /etc/subgid",
            granted,
            seen,
            format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"),
        ),
    ]
}

fn way_out() -> Finding {
    const NAME: &str = "a way out of rootless networks (slirp4netns or pasta)";
    let Some(program) = ["slirp4netns", "pasta"].into_iter().find(|name| on_path(name)) else {
        let remedy = "sudo apt install slirp4netns; until then a rootless container reaches those on its networks, and nothing else";
        return finding(NAME, geteuid().is_root(), if geteuid().is_root() { "root needs none" } else { "not installed" }, remedy);
    };
    let opens = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let seen = opens.as_ref().map_or_else(|e| format!("{program}, but /dev/net/tun: {e}"), |_| program.into());
    finding(NAME, opens.is_ok(), seen, "sudo modprobe tun; sudo chmod 666 /dev/net/tun (udev does so on a usual system)")
}

fn control_groups() -> Vec<Finding> {
    let layout = cgroups::detect().ok();
    let names = |legacy: &[cgroups::Hierarchy]| legacy.iter().flat_map(|h| h.controllers.clone()).collect::<Vec<_>>().join(" ");
    let (version, controllers) = match &layout {
        Some(Layout::Unified(hierarchy)) => ("v2", read(&hierarchy.own_dir().join("cgroup.controllers").to_string_lossy()).unwrap_or_default()),
        Some(Layout::Hybrid { legacy, .. }) => ("v1, with a v2 beside it", names(legacy)),
        Some(Layout::Legacy(legacy)) if !legacy.is_empty() => ("v1", names(legacy)),
        _ => ("none", String::new()),
    };
    let missing: Vec<&str> = ["memory", "cpu", "pids"].into_iter().filter(|name| !controllers.split(' ').any(|c| c == *name)).collect();
    let may_write = |dir: &Path| nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok();
    let own = match &layout {
        Some(Layout::Unified(hierarchy)) => may_write(&hierarchy.own_dir()) || geteuid().is_root() && may_write(&hierarchy.mount),
        Some(layout) => layout.legacy().iter().any(|hierarchy| may_write(&hierarchy.own_dir())),
        None => false,
    };
    let delegate = "systemd-run --user --scope -p Delegate=yes $SHELL; for all controllers `Delegate=yes` in `sudo systemctl edit user@.service`";
    vec![
        finding("cgroups", version != "none", version, "sudo mount -t cgroup2 none /sys/fs/cgroup"),
        finding("controllers memory, cpu and pids", missing.is_empty(), controllers, format!("missing here: {}; {delegate}", missing.join(" "))),
        finding("a cgroup that this user may divide (for limits)", own, if own { "writable" } else { "not writable" }, delegate),
    ]
}

/// Whether the kernel has a module: at hand, built in, or to be loaded.
fn module(name: &str) -> Option<&'static str> {
    if Path::new("/sys/module").join(name).exists() {
        return Some("loaded");
    }
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let listed = |file: &str| read(&format!("/lib/modules/{release}/{file}")).is_some_and(|text| text.contains(&format!("/{name}.ko")));
    if listed("modules.builtin") { Some("built in") } else { listed("modules.dep").then_some("can be loaded") }
}

fn overlay() -> Finding {
    let known = read("/proc/filesystems").is_some_and(|text| text.lines().any(|line| line.ends_with("\toverlay")));
    let state = if known { Some("known to the kernel") } else { module("overlay") };
    let remedy = "sudo modprobe overlay; without it images are copied, which is slow";
    finding("overlay file system (layers)", state.is_some(), state.unwrap_or("not there"), remedy)
}

fn store_upper(store: &Path) -> Finding {
    let dir = store.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let magic = std::fs::File::open(dir).ok().and_then(|file| crate::sys::mount::filesystem_magic(&file).ok()).unwrap_or(0);
    // magic.h: these can't hold an upper layer's marks.
    let bad = [(0x794c_7630, "overlay"), (0x6969, "NFS"), (0x6573_5546, "FUSE")].iter().find(|(number, _)| *number == magic).map(|(_, name)| *name);
    let remedy = "set ONGGI_ROOT to a folder on ext4, xfs, btrfs or tmpfs; until then images are copied, which is slow";
    finding("a store that layers can be written on", bad.is_none(), format!("{}: {}", dir.display(), bad.unwrap_or("fits")), remedy)
}

fn seccomp() -> Finding {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    finding("seccomp (filter of system calls)", actions.contains("errno"), actions, "the kernel needs CONFIG_SECCOMP_FILTER")
}

fn kvm() -> Finding {
    let usable = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let seen = usable.as_ref().map_or_else(|e| e.to_string(), |_| "/dev/kvm opens".into());
    let remedy = "switch virtualisation on in the firmware and join the group kvm; without it QEMU emulates, which is slow";
    finding("KVM (fast virtual machines)", usable.is_ok(), seen, remedy)
}

fn qemu() -> Finding {
    let (program, package) =
        if cfg!(target_arch = "aarch64") { ("qemu-system-aarch64", "qemu-system-arm") } else { ("qemu-system-x86_64", "qemu-system-x86") };
    let there = on_path(program);
    finding("QEMU (virtual machines)", there, if there { "installed" } else { "not installed" }, format!("sudo apt install {package}"))
}

fn terminal() -> Finding {
    let there = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let seen = if there { std::env::var("TERM").unwrap_or_default() } else { "standard output is not one".into() };
    finding("a terminal", there, seen, "run it in a terminal to use -it and colours")
}

fn locale() -> Finding {
    let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let name = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default();
    let utf8 = name.to_lowercase().replace('-', "").contains("utf8");
    finding("a UTF-8 locale (한글)", utf8, if name.is_empty() { "none is set".into() } else { name }, "export LANG=C.UTF-8")
}
