//! The config that `spec` writes to begin with, and that `engine` builds upon: what every container has.
//!
//! Read: config.md and config-linux.md "Default Filesystems", "Masked Paths".

use super::spec::{CapabilitySets, IdMapping, Linux, Mount, Namespace, NamespaceKind, OCI_VERSION, Process, Resources, Rlimit, Root, Spec};
use super::users;

/// What a program is allowed when nobody says otherwise in a hand-written config (runc's `spec` gives the same three).
const FEW: &[&str] = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// Files of the kernel that tell more than a container should know.
pub const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Files of the kernel through which a container could change the host.
pub const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A config that runs `sh` on the bundle's `rootfs`.
pub fn spec(rootless: bool) -> Spec {
    let sets = FEW.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let process = Process {
        terminal: true,
        args: vec!["sh".into()],
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(), "TERM=xterm".into()],
        cwd: "/".into(),
        capabilities: Some(CapabilitySets { bounding: sets.clone(), effective: sets.clone(), permitted: sets, ..CapabilitySets::default() }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 1024, hard: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    };
    let mut namespaces = vec![NamespaceKind::Pid, NamespaceKind::Ipc, NamespaceKind::Uts, NamespaceKind::Mount, NamespaceKind::Cgroup];
    namespaces.push(if rootless { NamespaceKind::User } else { NamespaceKind::Network });
    let mut linux = Linux {
        namespaces: namespaces.into_iter().map(|kind| Namespace { kind, path: None }).collect(),
        masked_paths: MASKED.iter().map(Into::into).collect(),
        readonly_paths: READ_ONLY.iter().map(Into::into).collect(),
        ..Linux::default()
    };
    if rootless {
        let own = |id: u32| vec![IdMapping { container_id: 0, host_id: id, size: 1 }];
        linux.uid_mappings = own(nix::unistd::geteuid().as_raw());
        linux.gid_mappings = own(nix::unistd::getegid().as_raw());
    } else {
        linux.resources = Some(Resources::default());
    }
    Spec {
        oci_version: OCI_VERSION.into(),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        mounts: mounts(rootless, rootless),
        process: Some(process),
        hostname: Some("onggi".into()),
        linux: Some(linux),
        ..Spec::default()
    }
}

/// The kernel's file systems that every Linux program expects. Without a network namespace of its own, a user namespace may not mount
/// sysfs: then the host's is bound. In a user namespace with one group, `gid=5` (tty) can't be given.
pub fn mounts(one_group: bool, bind_sys: bool) -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(|o| o.to_string()).collect(),
        ..Mount::default()
    };
    let pts: &[&str] = &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let sys = match bind_sys {
        true => mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]),
        false => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", if one_group { &pts[..5] } else { pts }),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

/// Whether the caller can only map one group: a user namespace made without newgidmap.
pub fn one_group_only() -> bool {
    users::in_user_namespace() && std::fs::read_to_string("/proc/self/gid_map").is_ok_and(|map| !map_covers(&map, 5))
}

fn map_covers(map: &str, id: u64) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        matches!(numbers[..], [inside, _, size] if (inside..inside + size).contains(&id))
    })
}
