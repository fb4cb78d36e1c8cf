//! A process' share and limits that are its own and not its group's: rlimits, priorities, personality, session keyring.
//!
//! See it: `/proc/P/limits`, `chrt -p P`, `ionice -p P`, `/proc/P/personality`. Read: prlimit(2), sched_setattr(2),
//! ioprio_set(2), personality(2), keyctl(2), session-keyring(7).

use super::call::{SysResult, call};
use super::{c_string, flag_names};

/// The resources of setrlimit(2) by their names in config.json.
pub const RLIMITS: &[(&str, u32)] = &[
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
];

/// setrlimit(2), in 64 bits.
///
/// # Errors
/// EPERM when `hard` rises without CAP_SYS_RESOURCE, EINVAL when soft is above hard.
pub fn setrlimit(resource: u32, name: &str, soft: u64, hard: u64) -> SysResult<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    call(
        "prlimit64",
        || format!("0, {name}, {{soft={soft}, hard={hard}}}, NULL"),
        // SAFETY: pid 0 is this process; one live struct is read, none written.
        || unsafe { libc::prlimit64(0, resource as _, &limit, std::ptr::null_mut()) as _ },
    )?;
    Ok(())
}

/// getrlimit(2): (soft, hard) of process `pid`, 0 being this one.
///
/// # Errors
/// ESRCH, EPERM.
pub fn rlimit_of(pid: i32, resource: u32) -> SysResult<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: NULL means "don't set"; one live struct is written.
    call("prlimit64", || format!("{pid}, {resource}, NULL"), || unsafe { libc::prlimit64(pid, resource as _, std::ptr::null(), &mut limit) as _ })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// What sched_setattr(2) takes (its version 0, 48 bytes).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Scheduling {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_setattr(2) on this process.
///
/// # Errors
/// EPERM, EINVAL (priority out of the policy's range), EBUSY (no bandwidth for a deadline).
pub fn sched_setattr(mut attr: Scheduling) -> SysResult<()> {
    attr.size = size_of::<Scheduling>() as u32;
    call(
        "sched_setattr",
        || format!("0, {attr:?}, 0"),
        // SAFETY: one live struct whose size it tells.
        || unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attr, 0) },
    )?;
    Ok(())
}

/// ioprio_set(2) on this process: class 1 real-time, 2 best effort, 3 idle; level 0 (first) to 7.
///
/// # Errors
/// EPERM, EINVAL.
pub fn ioprio_set(class: u32, level: u32) -> SysResult<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = class << IOPRIO_CLASS_SHIFT | level;
    call(
        "ioprio_set",
        || format!("IOPRIO_WHO_PROCESS, 0, {value:#x}"),
        // SAFETY: integers only.
        || unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) },
    )?;
    Ok(())
}

/// personality(2).
///
/// # Errors
/// EINVAL.
pub fn personality(persona: u64) -> SysResult<()> {
    let names = [(0x0008, "PER_LINUX32"), (0x0040000, "ADDR_NO_RANDOMIZE")];
    // SAFETY: integers only.
    call("personality", || flag_names(persona, &names), || unsafe { libc::personality(persona) as _ })?;
    Ok(())
}

/// A new session keyring of this name (keyctl KEYCTL_JOIN_SESSION_KEYRING): keys of the host's session are out of reach.
///
/// # Errors
/// ENOSYS without keyrings, EDQUOT, EPERM.
pub fn join_session_keyring(name: &str) -> SysResult<i64> {
    let name_c = c_string(name)?;
    call(
        "keyctl",
        || format!("KEYCTL_JOIN_SESSION_KEYRING, {name:?}"),
        // SAFETY: a valid C string.
        || unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name_c.as_ptr(), 0, 0, 0) },
    )
}

/// set_mempolicy(2): from which NUMA nodes this process' memory comes.
///
/// # Errors
/// EINVAL for nodes that do not exist or a mode that needs some, EPERM.
pub fn set_mempolicy(mode: u32, nodes: &[u64]) -> SysResult<()> {
    let bits = nodes.len() * 64 + 1;
    call(
        "set_mempolicy",
        || format!("{mode:#x}, {nodes:?}, {bits}"),
        // SAFETY: pointer and length in bits of one live slice.
        || unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) },
    )?;
    Ok(())
}
