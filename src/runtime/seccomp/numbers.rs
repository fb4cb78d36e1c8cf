//! Which number a system call has, in each of the ways in which this machine's programs can call.
//!
//! A filter sees numbers, a profile has names, and the two meet in an ABI: `open` is 2 for a 64-bit PC program, 5 for a 32-bit one
//! on the same kernel, and does not exist at all on 64-bit ARM. A filter that forgets one ABI leaves a door open.
//!
//! See it: `ausyscall --dump`, arch/x86/entry/syscalls/syscall_64.tbl. Read: syscall(2), syscalls(2).

use syscalls::{aarch64, arm, x86, x86_64};

/// One way of making system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abi {
    X86_64,
    X86,
    /// 64-bit PC calls with 32-bit pointers: the numbers of x86_64 with bit 30 set, and some of its own.
    X32,
    Aarch64,
    Arm,
}

/// Bit 30 of a call's number says x32 (`__X32_SYSCALL_BIT`); the architecture that the kernel reports is still x86_64.
pub const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// The ABI that libseccomp, and config.json, call `SCMP_ARCH_…`.
    pub fn parse(name: &str) -> Option<Abi> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Abi::X86_64,
            "SCMP_ARCH_X86" => Abi::X86,
            "SCMP_ARCH_X32" => Abi::X32,
            "SCMP_ARCH_AARCH64" => Abi::Aarch64,
            "SCMP_ARCH_ARM" => Abi::Arm,
            "SCMP_ARCH_NATIVE" => return Abi::native(),
            _ => return None,
        })
    }

    /// The ABI of the programs that this kernel was made for; None where we know no numbers.
    pub fn native() -> Option<Abi> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Abi::X86_64),
            "x86" => Some(Abi::X86),
            "aarch64" => Some(Abi::Aarch64),
            "arm" => Some(Abi::Arm),
            _ => None,
        }
    }

    /// What the kernel puts into `seccomp_data.arch` (`AUDIT_ARCH_*` of <linux/audit.h>: the ELF machine, 64-bit, little-endian).
    pub fn audit_arch(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are 32 bits wide: the upper half of `seccomp_data.args` says nothing then.
    pub fn narrow(self) -> bool {
        matches!(self, Abi::X86 | Abi::X32 | Abi::Arm)
    }
}

/// Architectures of libseccomp whose numbers we don't know. No kernel that Onggi runs on makes their calls.
pub const FOREIGN: &[&str] = &[
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// The number of the call `name` in `abi`; None when there is no such call.
pub fn syscall_number(abi: Abi, name: &str) -> Option<u32> {
    match abi {
        Abi::X86_64 => find(&X86_64, name, |id| x86_64::Sysno::new(id).map(|call| call.name())),
        Abi::X86 => find(&X86, name, |id| x86::Sysno::new(id).map(|call| call.name())),
        Abi::Aarch64 => find(&AARCH64, name, |id| aarch64::Sysno::new(id).map(|call| call.name())),
        Abi::Arm => find(&ARM, name, |id| arm::Sysno::new(id).map(|call| call.name())).or_else(|| listed(ARM_PRIVATE, name)),
        Abi::X32 => {
            let own = find(&X32, name, |at| X32_OWN.get(at).map(|call| call.0)).map(|at| X32_OWN[at as usize].1);
            own.or_else(|| syscall_number(Abi::X86_64, name)).map(|number| number | X32_BIT)
        }
    }
}

/// Whether the number is one of 32-bit ARM's private calls, which are far above all others and say nothing about their age.
pub fn private(number: u32) -> bool {
    (0xf_0000..0x10_0000).contains(&number)
}

/// Where a 32-bit PC program can also make the call `name`: through one of the two old multiplexers, whose first argument is then
/// the number given here (socketcall(2), ipc(2)). Who forbids `socket` and forgets `socketcall` has forbidden nothing.
pub fn multiplexed(name: &str) -> Option<(&'static str, u32)> {
    let family = |calls: &[(&str, u32)]| calls.iter().find(|(call, _)| *call == name).map(|(_, sub)| *sub);
    family(SOCKETCALL).map(|sub| ("socketcall", sub)).or_else(|| family(IPC).map(|sub| ("ipc", sub)))
}

/// A table from name to number that the compiler fills in: `hash(name)` is the place to look at first, the next free one the place
/// to be. A profile of 400 names is looked up in three ABIs before each start of a container; comparing each name with each took
/// ten times as long. A slot holds the number plus one; 0 is empty.
type Table = [u16; SLOTS];
const SLOTS: usize = 1024;
/// No number of the tables is larger (the newest call of `syscalls` 0.8 is 469).
const HIGHEST: usize = 600;

static X86_64: Table = {
    let mut table = [0; SLOTS];
    let mut id = 0;
    while id <= HIGHEST {
        if let Some(call) = x86_64::Sysno::new(id) {
            place(&mut table, call.name(), id);
        }
        id += 1;
    }
    table
};
static X86: Table = {
    let mut table = [0; SLOTS];
    let mut id = 0;
    while id <= HIGHEST {
        if let Some(call) = x86::Sysno::new(id) {
            place(&mut table, call.name(), id);
        }
        id += 1;
    }
    table
};
static AARCH64: Table = {
    let mut table = [0; SLOTS];
    let mut id = 0;
    while id <= HIGHEST {
        if let Some(call) = aarch64::Sysno::new(id) {
            place(&mut table, call.name(), id);
        }
        id += 1;
    }
    table
};
static ARM: Table = {
    let mut table = [0; SLOTS];
    let mut id = 0;
    while id <= HIGHEST {
        if let Some(call) = arm::Sysno::new(id) {
            place(&mut table, call.name(), id);
        }
        id += 1;
    }
    table
};

/// Of x32's own calls: their places in the list.
static X32: Table = {
    let mut table = [0; SLOTS];
    let mut at = 0;
    while at < X32_OWN.len() {
        place(&mut table, X32_OWN[at].0, at);
        at += 1;
    }
    table
};

const fn place(table: &mut Table, name: &str, id: usize) {
    let mut slot = hash(name);
    while table[slot] != 0 {
        slot = (slot + 1) % SLOTS;
    }
    table[slot] = id as u16 + 1;
}

fn find(table: &Table, name: &str, name_of: impl Fn(usize) -> Option<&'static str>) -> Option<u32> {
    let mut slot = hash(name);
    while table[slot] != 0 {
        let id = table[slot] as usize - 1;
        if name_of(id) == Some(name) {
            return Some(id as u32);
        }
        slot = (slot + 1) % SLOTS;
    }
    None
}

/// FNV-1a, the shortest hash that spreads names well.
const fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let mut hash = 0x811c_9dc5u32;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ hash >> 16) as usize % SLOTS
}

/// Looks `name` up in a list that is sorted by name.
fn listed(calls: &[(&str, u32)], name: &str) -> Option<u32> {
    calls.binary_search_by_key(&name, |(call, _)| call).ok().map(|at| calls[at].1)
}

/// Calls of x32 with structs of their own (the `x32` lines of syscall_64.tbl).
const X32_OWN: &[(&str, u32)] = &[
    ("execve", 520),
    ("execveat", 545),
    ("get_robust_list", 531),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("ioctl", 514),
    ("kexec_load", 528),
    ("move_pages", 533),
    ("mq_notify", 527),
    ("preadv", 534),
    ("preadv2", 546),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("ptrace", 521),
    ("pwritev", 535),
    ("pwritev2", 547),
    ("readv", 515),
    ("recvfrom", 517),
    ("recvmmsg", 537),
    ("recvmsg", 519),
    ("rt_sigaction", 512),
    ("rt_sigpending", 522),
    ("rt_sigqueueinfo", 524),
    ("rt_sigreturn", 513),
    ("rt_sigtimedwait", 523),
    ("rt_tgsigqueueinfo", 536),
    ("sendmmsg", 538),
    ("sendmsg", 518),
    ("set_robust_list", 530),
    ("setsockopt", 541),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("vmsplice", 532),
    ("waitid", 529),
    ("writev", 516),
];

/// 32-bit ARM's private calls (<asm/unistd.h>), and a second name that profiles use.
const ARM_PRIVATE: &[(&str, u32)] = &[
    ("breakpoint", 0xf_0001),
    ("cacheflush", 0xf_0002),
    ("get_tls", 0xf_0006),
    ("set_tls", 0xf_0005),
    ("sync_file_range2", 341),
    ("usr26", 0xf_0003),
    ("usr32", 0xf_0004),
];

/// <linux/net.h>, `SYS_*`.
const SOCKETCALL: &[(&str, u32)] = &[
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// <linux/ipc.h>.
const IPC: &[(&str, u32)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_another_number_in_each_abi() {
        let numbers = |name| [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm].map(|abi| syscall_number(abi, name));
        assert_eq!(numbers("open"), [Some(2), Some(5), Some(X32_BIT | 2), None, Some(5)]);
        assert_eq!(numbers("read"), [Some(0), Some(3), Some(X32_BIT), Some(63), Some(3)]);
        assert_eq!(numbers("execve"), [Some(59), Some(11), Some(X32_BIT | 520), Some(221), Some(11)]);
        assert_eq!(numbers("clone3"), [Some(435), Some(435), Some(X32_BIT | 435), Some(435), Some(435)]);
        assert_eq!(numbers("no_such_call"), [None; 5]);
        assert_eq!(numbers(""), [None; 5]);
    }

    #[test]
    fn every_call_of_the_tables_is_found_under_its_name() {
        // `HIGHEST` is above the last number of each table: nothing was left out when they were filled in.
        let last = [x86_64::Sysno::last().id(), x86::Sysno::last().id(), aarch64::Sysno::last().id(), arm::Sysno::last().id()];
        assert!(last.iter().all(|&id| id <= HIGHEST as i32));
        for id in 0..=HIGHEST {
            for (abi, name) in [
                (Abi::X86_64, x86_64::Sysno::new(id).map(|call| call.name())),
                (Abi::X86, x86::Sysno::new(id).map(|call| call.name())),
                (Abi::Aarch64, aarch64::Sysno::new(id).map(|call| call.name())),
                (Abi::Arm, arm::Sysno::new(id).map(|call| call.name())),
            ] {
                if let Some(name) = name {
                    assert_eq!(syscall_number(abi, name), Some(id as u32), "{abi:?} {name}");
                }
            }
        }
    }

    #[test]
    fn the_lists_that_are_searched_by_halves_are_sorted() {
        assert!(X32_OWN.is_sorted() && ARM_PRIVATE.is_sorted());
    }

    #[test]
    fn our_own_kernel_agrees() {
        assert_eq!(syscall_number(Abi::native().unwrap(), "seccomp"), Some(libc::SYS_seccomp as u32));
        assert_eq!(syscall_number(Abi::native().unwrap(), "openat2"), Some(libc::SYS_openat2 as u32));
    }
}
