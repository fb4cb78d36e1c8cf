//! Who a process is: user, groups, capabilities.
//!
//! See it: `grep -E 'Uid|Gid|Groups|Cap' /proc/P/status`. Read: credentials(7), setresuid(2), setgroups(2), capabilities(7).

use super::call::{SysResult, call};
use super::process::prctl;

/// setresuid(2): real, effective and saved user at once. Capabilities go unless PR_SET_KEEPCAPS was set.
///
/// # Errors
/// EPERM, EINVAL for a uid that this user namespace doesn't map.
pub fn setresuid(uid: u32) -> SysResult<()> {
    // The raw call: glibc's would signal all threads, and there is just one.
    // SAFETY: integers only.
    call("setresuid", || format!("{uid}, {uid}, {uid}"), || unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// setresgid(2).
///
/// # Errors
/// EPERM, EINVAL for a gid that this user namespace doesn't map.
pub fn setresgid(gid: u32) -> SysResult<()> {
    // SAFETY: integers only.
    call("setresgid", || format!("{gid}, {gid}, {gid}"), || unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    Ok(())
}

/// setgroups(2): the supplementary groups.
///
/// # Errors
/// EPERM, also in a user namespace whose `/proc/P/setgroups` says `deny`.
pub fn setgroups(groups: &[u32]) -> SysResult<()> {
    // SAFETY: pointer and length of one live slice.
    call("setgroups", || format!("{}, {groups:?}", groups.len()), || unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

/// Three sets of capabilities as bits (bit n is capability number n).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// capget(2) of this process.
///
/// # Errors
/// None on a kernel of the last fifteen years.
pub fn capget() -> SysResult<Capabilities> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads one header and writes two data structs, both live.
    call("capget", || "{_LINUX_CAPABILITY_VERSION_3, 0}".into(), || unsafe { libc::syscall(libc::SYS_capget, &mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| low as u64 | (high as u64) << 32;
    Ok(Capabilities {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// capset(2) of this process.
///
/// # Errors
/// EPERM for a permitted capability that it doesn't have.
pub fn capset(caps: Capabilities) -> SysResult<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (caps.effective >> shift) as u32,
        permitted: (caps.permitted >> shift) as u32,
        inheritable: (caps.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    call(
        "capset",
        || format!("effective={:#x}, permitted={:#x}, inheritable={:#x}", caps.effective, caps.permitted, caps.inheritable),
        // SAFETY: version 3 reads one header and two data structs, both live.
        || unsafe { libc::syscall(libc::SYS_capset, &mut header, data.as_ptr()) },
    )?;
    Ok(())
}

/// Whether capability number `cap` is in the bounding set; None when the kernel doesn't know that number.
pub fn in_bounding_set(cap: u32) -> Option<bool> {
    // SAFETY: PR_CAPBSET_READ takes one integer.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, cap as libc::c_ulong, 0, 0, 0) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Takes a capability out of the bounding set, for ever (PR_CAPBSET_DROP).
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn drop_from_bounding_set(cap: u32) -> SysResult<()> {
    prctl(libc::PR_CAPBSET_DROP, "PR_CAPBSET_DROP", [cap as u64, 0, 0, 0]).map(drop)
}

/// Whether setresuid(2) away from root keeps the permitted capabilities (PR_SET_KEEPCAPS); execve clears it.
///
/// # Errors
/// EPERM when SECBIT_KEEP_CAPS_LOCKED.
pub fn keep_capabilities(on: bool) -> SysResult<()> {
    prctl(libc::PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS", [on as u64, 0, 0, 0]).map(drop)
}

/// Empties the ambient set (PR_CAP_AMBIENT_CLEAR_ALL).
///
/// # Errors
/// None.
pub fn clear_ambient() -> SysResult<()> {
    prctl(libc::PR_CAP_AMBIENT, "PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL", [libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0, 0, 0]).map(drop)
}

/// Adds one capability to the ambient set (PR_CAP_AMBIENT_RAISE).
///
/// # Errors
/// EPERM unless it is permitted and inheritable.
pub fn raise_ambient(cap: u32) -> SysResult<()> {
    prctl(libc::PR_CAP_AMBIENT, "PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE", [libc::PR_CAP_AMBIENT_RAISE as u64, cap as u64, 0, 0]).map(drop)
}
