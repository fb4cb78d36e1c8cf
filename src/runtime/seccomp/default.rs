//! The profile of who brings none: what Docker's containers may call.
//!
//! A list of what is allowed, not of what is forbidden: the kernel gets new calls every year, and one that nobody has thought about
//! should not be open. What an ordinary program needs is here, by purpose. What needs a capability is opened together with it: a
//! container with CAP_SYS_TIME may set the clock, so `clock_settime` passes the filter, and the kernel's own check decides.
//!
//! What is missing is the lesson. Not here: `add_key`, `keyctl` (keyrings know no namespaces), `kexec_load`, `swapon` (the host's),
//! `userfaultfd` and `io_uring_*` (the way of many exploits), `mount`, `unshare`, `setns` (each new user namespace opens kernel
//! code to people without privileges), `ustat`, `sysfs`, `uselib` (nobody has called them in decades).
//!
//! See it: `onggi run --rm base unshare -U true` gives EPERM, with `--cap-add SYS_ADMIN` it works. Read: capabilities(7), syscalls(2);
//! the profile followed is moby/profiles of 2026, seccomp/default.json.

use super::Abi;
use crate::runtime::spec::{Seccomp, SeccompArg, SeccompRule};

/// The default profile for a container with these capabilities (its bounding set, in config.json's words: `CAP_CHOWN`).
pub fn default_profile(capabilities: &[String]) -> Seccomp {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let mut names: Vec<&str> = ALWAYS.concat();
    for (_, calls) in WITH.iter().filter(|(capability, _)| has(capability)) {
        names.extend_from_slice(calls);
    }
    let mut syscalls = vec![rule(&names, "SCMP_ACT_ALLOW", &[])];
    for &(op, family) in SOCKET_FAMILIES {
        syscalls.push(rule(&["socket"], "SCMP_ACT_ALLOW", &[(op, family, None)]));
    }
    for &persona in PERSONALITIES {
        syscalls.push(rule(&["personality"], "SCMP_ACT_ALLOW", &[("SCMP_CMP_EQ", persona, None)]));
    }
    if !has("CAP_SYS_ADMIN") {
        // Processes and threads, but no namespaces. clone3's flags are behind a pointer, where no filter can look, so there is no
        // clone3 here at all: ENOSYS, and the C library goes back to clone.
        syscalls.push(rule(&["clone"], "SCMP_ACT_ALLOW", &[("SCMP_CMP_MASKED_EQ", NEW_NAMESPACES, Some(0))]));
        syscalls.push(SeccompRule { errno_ret: Some(libc::ENOSYS as u32), ..rule(&["clone3"], "SCMP_ACT_ERRNO", &[]) });
    }
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(libc::EPERM as u32),
        architectures: architectures().iter().map(|name| name.to_string()).collect(),
        syscalls,
        ..Seccomp::default()
    }
}

/// The machine's own way of calling and the older ones that its kernel still serves.
fn architectures() -> &'static [&'static str] {
    match Abi::native() {
        Some(Abi::X86_64) => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        Some(Abi::Aarch64) => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    }
}

/// A rule for `names`, with conditions on their first argument.
fn rule(names: &[&str], action: &str, first_argument: &[(&str, u64, Option<u64>)]) -> SeccompRule {
    let condition = |&(op, value, value_two): &(&str, u64, Option<u64>)| SeccompArg { index: 0, value, value_two, op: op.into() };
    SeccompRule {
        names: names.iter().map(|name| name.to_string()).collect(),
        action: action.into(),
        errno_ret: None,
        args: first_argument.iter().map(condition).collect(),
    }
}

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. (NEWTIME shares its bit with clone's exit signal: clone can't.)
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// All families of sockets but two. AF_ALG (38) is the kernel's cryptography, through which page cache of the host could be
/// written (CVE-2026-31431); AF_VSOCK (40) speaks to the hypervisor and knows no network namespaces.
///
/// Not "unequal 38": the kernel looks at the lower 32 bits of the argument, a filter at all 64, and 2³²+38 is unequal and still means
/// AF_ALG. What is said with "less" and "equal" leaves no such number through.
const SOCKET_FAMILIES: &[(&str, u64)] = &[
    ("SCMP_CMP_LT", 38),
    ("SCMP_CMP_EQ", 39), // NFC
    ("SCMP_CMP_EQ", 41), // KCM
    ("SCMP_CMP_EQ", 42), // QIPCRTR
    ("SCMP_CMP_EQ", 43), // SMC
    ("SCMP_CMP_EQ", 44), // XDP
    ("SCMP_CMP_EQ", 45), // MCTP
];

/// personality(2): plain, 32-bit, both with the kernel version told as 2.6, and the question what it is now. Not
/// ADDR_NO_RANDOMIZE and its like, which take defences away.
const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// What every container may call. Names with 32 or 64 at the end are 32-bit machines' younger brothers of the same call.
#[rustfmt::skip]
const ALWAYS: &[&[&str]] = &[
    // Open files: read, write, move about, copy between them.
    &[
        "open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "pipe", "pipe2", "read", "readv", "pread64",
        "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek", "_llseek", "readahead", "cachestat",
        "copy_file_range", "sendfile", "sendfile64", "splice", "tee", "vmsplice", "fcntl", "fcntl64", "flock", "ioctl", "fadvise64",
        "fadvise64_64", "arm_fadvise64_64", "fallocate", "truncate", "truncate64", "ftruncate", "ftruncate64", "sync", "syncfs", "fsync",
        "fdatasync", "sync_file_range", "sync_file_range2", "arm_sync_file_range",
    ],
    // Names of files: directories, links, what a name stands for. mknod still asks the kernel for CAP_MKNOD and the cgroup for the device.
    &[
        "getcwd", "chdir", "fchdir", "getdents", "getdents64", "mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "link", "linkat", "symlink",
        "symlinkat", "readlink", "readlinkat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "stat", "stat64", "fstat", "fstat64",
        "lstat", "lstat64", "newfstatat", "fstatat64", "statx", "statfs", "statfs64", "fstatfs", "fstatfs64", "access", "faccessat",
        "faccessat2", "name_to_handle_at", "listmount", "statmount",
    ],
    // Owners, modes, times and extended attributes of files.
    &[
        "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "fchown", "fchown32", "lchown", "lchown32", "fchownat", "umask",
        "utime", "utimes", "futimesat", "utimensat", "utimensat_time64", "getxattr", "lgetxattr", "fgetxattr", "getxattrat", "setxattr",
        "lsetxattr", "fsetxattr", "setxattrat", "listxattr", "llistxattr", "flistxattr", "listxattrat", "removexattr", "lremovexattr",
        "fremovexattr", "removexattrat",
    ],
    // Waiting for events on many files, and input and output that goes on meanwhile.
    &[
        "select", "_newselect", "pselect6", "pselect6_time64", "poll", "ppoll", "ppoll_time64", "epoll_create", "epoll_create1", "epoll_ctl",
        "epoll_ctl_old", "epoll_wait", "epoll_wait_old", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "signalfd", "signalfd4",
        "inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch", "fanotify_mark", "io_setup", "io_destroy", "io_submit",
        "io_cancel", "io_getevents", "io_pgetevents", "io_pgetevents_time64",
    ],
    // Memory.
    &[
        "brk", "mmap", "mmap2", "munmap", "mremap", "remap_file_pages", "mprotect", "pkey_alloc", "pkey_free", "pkey_mprotect", "mseal",
        "map_shadow_stack", "madvise", "mincore", "msync", "mlock", "mlock2", "munlock", "mlockall", "munlockall", "membarrier",
        "memfd_create", "memfd_secret", "cacheflush",
    ],
    // Processes: making, running, waiting, ending; looking into one's own children (safe since Linux 4.8: a tracer can't get its child
    // past the filter). clone has a rule of its own.
    &[
        "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid", "getpid", "getppid", "gettid", "getpgid",
        "getpgrp", "setpgid", "getsid", "setsid", "kill", "tkill", "tgkill", "pidfd_open", "pidfd_send_signal", "process_mrelease", "prctl",
        "arch_prctl", "modify_ldt", "set_tid_address", "set_thread_area", "get_thread_area", "set_tls", "set_robust_list", "get_robust_list",
        "rseq", "restart_syscall", "ptrace", "process_vm_readv", "process_vm_writev", "uretprobe", "breakpoint",
    ],
    // Turns on the processor, limits, accounts.
    &[
        "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getattr", "sched_setattr", "sched_getparam", "sched_setparam",
        "sched_getscheduler", "sched_setscheduler", "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval",
        "sched_rr_get_interval_time64", "getpriority", "setpriority", "ioprio_get", "ioprio_set", "getcpu", "getrlimit", "ugetrlimit",
        "setrlimit", "prlimit64", "getrusage", "times",
    ],
    // Signals, and the locks that threads wait on.
    &[
        "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
        "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaltstack", "sigprocmask", "sigreturn", "pause", "futex", "futex_time64",
        "futex_wait", "futex_waitv", "futex_wake", "futex_requeue",
    ],
    // Who one is, and giving up more: filters and rulesets that only ever take away.
    &[
        "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32", "getresuid", "getresuid32", "getresgid",
        "getresgid32", "getgroups", "getgroups32", "setuid", "setuid32", "setgid", "setgid32", "setreuid", "setreuid32", "setregid",
        "setregid32", "setresuid", "setresuid32", "setresgid", "setresgid32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32",
        "setgroups", "setgroups32", "capget", "capset", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
    ],
    // The network. socket has rules of its own; 32-bit programs get around them by socketcall, whose arguments no filter sees.
    &[
        "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt",
        "send", "sendto", "sendmsg", "sendmmsg", "recv", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64", "socketcall",
    ],
    // Messages, semaphores, shared memory of the container's own IPC namespace.
    &[
        "ipc", "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semtimedop", "semtimedop_time64", "semctl", "shmget", "shmat",
        "shmdt", "shmctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedsend_time64", "mq_timedreceive", "mq_timedreceive_time64",
        "mq_notify", "mq_getsetattr",
    ],
    // Clocks and timers: reading them, being woken by them. (adjtimex reads, too; to set, the kernel asks for CAP_SYS_TIME.)
    &[
        "time", "gettimeofday", "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "clock_nanosleep",
        "clock_nanosleep_time64", "nanosleep", "adjtimex", "clock_adjtime", "clock_adjtime64", "alarm", "getitimer", "setitimer",
        "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64",
        "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64",
    ],
    // The machine.
    &["uname", "sysinfo", "getrandom"],
];

/// What comes with a capability.
#[rustfmt::skip]
const WITH: &[(&str, &[&str])] = &[
    ("CAP_SYS_ADMIN", &[
        // Namespaces.
        "clone", "clone3", "unshare", "setns", "sethostname", "setdomainname",
        // Mounts, by the old calls and the new.
        "mount", "umount", "umount2", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount", "mount_setattr",
        // The rest of "the new root".
        "bpf", "perf_event_open", "fanotify_init", "quotactl", "quotactl_fd", "lookup_dcookie", "syslog", "lsm_get_self_attr",
        "lsm_set_self_attr", "lsm_list_modules",
    ]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]), // opens files by number, past all directories: the "shocker" escape
    ("CAP_PERFMON", &["perf_event_open"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["init_module", "finit_module", "delete_module"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::seccomp::syscall_number;

    #[test]
    fn no_name_is_listed_twice_and_each_has_a_number_somewhere() {
        let mut names = ALWAYS.concat();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in names.iter().chain(WITH.iter().flat_map(|(_, calls)| *calls)) {
            let somewhere = [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm].iter().any(|abi| syscall_number(*abi, name).is_some());
            assert!(somewhere || super::super::numbers::multiplexed(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_profile_is_what_config_json_can_say() {
        let profile = default_profile(&["CAP_SYS_CHROOT".into()]);
        let text = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<Seccomp>(&text).unwrap(), profile);
        assert!(profile.syscalls[0].names.iter().any(|name| name == "chroot"));
        assert!(!profile.syscalls[0].names.iter().any(|name| name == "mount"));
    }
}
