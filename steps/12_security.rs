//! Root in a container is not root: few capabilities, none to be won back, a filter for system calls, and the kernel's own files covered.
//!
//! Try it: `step-12 run base.tar sh -c 'grep -E "Cap|NoNew|Seccomp" /proc/self/status; unshare -U true; mount -t tmpfs t /mnt'`
//! See it: `grep -E 'CapBnd|CapEff|NoNewPrivs|Seccomp' /proc/PID/status`, `capsh --decode=00000000a80425fb`, `grep /proc/ /proc/PID/mountinfo`
//! Read: capabilities(7), prctl(2), seccomp(2), bpf(4), the kernel's userspace-api/no_new_privs.rst and seccomp_filter.rst

#[path = "09_registry.rs"]
#[allow(dead_code)] // its `main`
mod registry;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use clap::Args;
use nix::unistd::Pid;
use onggi::error::{Doing, Result};
use onggi::sys::SysResult;
use onggi::sys::ids::{Capabilities, capget, capset, drop_from_bounding_set, in_bounding_set};
use onggi::sys::mount::{Attributes, MOUNT_ATTR_RDONLY, clone_tree, mount_setattr, move_mount, new_filesystem};
use onggi::sys::path;
use onggi::sys::process::no_new_privileges;
use onggi::sys::seccomp::{Instruction, set_mode_filter};
use onggi::workshop::steps::{self, Hooks};
use registry::volume::Volumes;
use registry::volume::bridge::container::NAME;

/// The capabilities, in the order of their numbers (<linux/capability.h>).
#[rustfmt::skip]
const CAPABILITIES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
    "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
    "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
    "PERFMON", "BPF", "CHECKPOINT_RESTORE",
];
/// What root in a container keeps, as in Docker: enough for package managers and servers, nothing that reaches the host.
#[rustfmt::skip]
const KEPT: [&str; 14] = [
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD",
    "AUDIT_WRITE", "SETFCAP",
];
const SYS_ADMIN: u64 = 1 << 21;

/// Calls that are nobody's in a container: about the host's kernel, or about keyrings, which know no namespaces.
#[rustfmt::skip]
const CLOSED: [i64; 8] = [
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl, libc::SYS_kexec_load, libc::SYS_swapon, libc::SYS_swapoff,
    libc::SYS_userfaultfd, libc::SYS_io_uring_setup,
];
/// Calls that CAP_SYS_ADMIN opens. In a user namespace everybody would have that, and so reach kernel code that few have tried to break.
#[rustfmt::skip]
const ADMINS: [i64; 11] = [
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_fsopen, libc::SYS_open_tree, libc::SYS_move_mount,
    libc::SYS_mount_setattr, libc::SYS_unshare, libc::SYS_setns, libc::SYS_bpf, libc::SYS_perf_event_open,
];
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 of <linux/audit.h>.
const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
/// From this number on, a 64-bit x86 kernel takes calls in a third way (x32): the same calls under other numbers.
const X32: u32 = 0x4000_0000;

/// Files of the kernel that tell about the host, and others through which it is changed.
#[rustfmt::skip]
const MASKED: [&str; 12] = [
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What this step adds to a container.
#[derive(Args)]
struct Security {
    #[command(flatten)]
    volumes: Volumes,
    /// Leave it one more capability, such as NET_ADMIN
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_add: Vec<u64>,
    /// Leave it all, as in step 09
    #[arg(long)]
    privileged: bool,
}

fn main() {
    steps::main(NAME, registry::act::<Security>)
}

/// The bit of a capability: its number is its place in the list.
fn capability(name: &str) -> std::result::Result<u64, String> {
    let name = name.to_uppercase();
    let number = CAPABILITIES.iter().position(|known| *known == name.strip_prefix("CAP_").unwrap_or(&name));
    number.map(|number| 1 << number).ok_or_else(|| "no capability has this name, see capabilities(7)".into())
}

impl Hooks for Security {
    fn create_runtime(&mut self, child: Pid) -> Result<()> {
        self.volumes.create_runtime(child)
    }

    fn create_container(&self, root: BorrowedFd) -> Result<()> {
        self.volumes.create_container(root)?;
        if self.privileged { Ok(()) } else { mask(root).doing(|| "cover the kernel's own files".into()) }
    }

    fn start_container(&self) -> Result<()> {
        if self.privileged {
            return Ok(());
        }
        let kept = KEPT.iter().flat_map(|name| capability(name)).chain(self.cap_add.iter().copied()).fold(0, |set, bit| set | bit);
        drop_capabilities(kept).doing(|| "give up capabilities".into())?;
        // Nothing that is executed from here on gives more than we have now, be it set-user-ID or with capabilities of its own. Only who has
        // promised that may load a filter without CAP_SYS_ADMIN: it could lie to a program that is somebody else's root (seccomp(2)).
        no_new_privileges().doing(|| "give up new privileges".into())?;
        set_mode_filter(&filter(kept), 0).map(drop).doing(|| "load the filter".into())
    }

    fn poststop(&mut self) {
        self.volumes.poststop();
    }
}

/// Takes away all capabilities but those whose bits are in `kept`.
fn drop_capabilities(kept: u64) -> SysResult<()> {
    for number in 0..64 {
        // What has left the bounding set no execve(2) brings back, not even of root's or of a file with set-user-ID.
        if kept & 1 << number == 0 && in_bounding_set(number) == Some(true) {
            drop_from_bounding_set(number)?;
        }
    }
    let ours = capget()?.permitted & kept;
    capset(Capabilities { effective: ours, permitted: ours, inheritable: 0 })
}

/// The program that the kernel runs before each system call (seccomp(2)): it sees the call's number, the architecture and the arguments, and
/// ends in a verdict.
fn filter(kept: u64) -> Vec<Instruction> {
    let load = |offset: u32| Instruction { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jump_true: 0, jump_false: 0, k: offset };
    // Where the comparison holds the next instruction follows, a verdict; else it is skipped.
    let when = |comparison: u32, k: u32| Instruction { code: (libc::BPF_JMP | comparison | libc::BPF_K) as u16, jump_true: 0, jump_false: 1, k };
    let verdict = |k: u32| Instruction { code: (libc::BPF_RET | libc::BPF_K) as u16, jump_true: 0, jump_false: 0, k };
    let refuse = |errno: i32| verdict(libc::SECCOMP_RET_ERRNO | errno as u32);
    // A number means another call on another architecture, and one processor may serve several: only its own is let in.
    let mut program = vec![load(4), Instruction { jump_true: 1, jump_false: 0, ..when(libc::BPF_JEQ, ARCHITECTURE) }, refuse(libc::ENOSYS)];
    program.extend([load(0), when(libc::BPF_JGE, X32), refuse(libc::ENOSYS)]);
    let admins = if kept & SYS_ADMIN == 0 { &ADMINS[..] } else { &[] };
    for call in CLOSED.iter().chain(admins) {
        program.extend([when(libc::BPF_JEQ, *call as u32), refuse(libc::EPERM)]);
    }
    if kept & SYS_ADMIN == 0 {
        // clone3's flags are behind a pointer, where no filter can look; told that there is none, the C library takes clone.
        program.extend([when(libc::BPF_JEQ, libc::SYS_clone3 as u32), refuse(libc::ENOSYS)]);
        let skip = Instruction { jump_false: 3, ..when(libc::BPF_JEQ, libc::SYS_clone as u32) };
        program.extend([skip, load(16), when(libc::BPF_JSET, NEW_NAMESPACES), refuse(libc::EPERM)]);
    }
    program.push(verdict(libc::SECCOMP_RET_ALLOW));
    program
}

/// Covers what is the host's alone. Before the pivot, for files are covered with the host's /dev/null: the container's own could be anything
/// (CVE-2025-31133).
fn mask(root: BorrowedFd) -> SysResult<()> {
    let found = |name: &str| path::open_in(root, Path::new(name), libc::O_PATH).ok();
    for place in READ_ONLY.iter().filter_map(|name| found(name)) {
        let tree = clone_tree(Some(place.as_fd()), Path::new(""), true)?;
        mount_setattr(tree.as_fd(), Attributes { set: MOUNT_ATTR_RDONLY, ..Attributes::default() }, true, None)?;
        move_mount(tree.as_fd(), place.as_fd())?;
    }
    for place in MASKED.iter().filter_map(|name| found(name)) {
        let is_folder = path::stat(place.as_fd())?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let cover = if is_folder { new_filesystem("tmpfs", None, &[], MOUNT_ATTR_RDONLY)? } else { clone_tree(None, Path::new("/dev/null"), false)? };
        move_mount(cover.as_fd(), place.as_fd())?;
    }
    Ok(())
}
