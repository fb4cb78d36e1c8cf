//! Small programs inside the kernel: bpf(2), as far as a device filter of cgroup v2 needs it.
//!
//! cgroup v2 has no file for devices. Instead a program of type BPF_PROG_TYPE_CGROUP_DEVICE hangs on the cgroup's directory, and
//! the kernel asks it at each open(2) and mknod(2) of a device node: 1 lets it pass, 0 gives EPERM.
//!
//! See it: `bpftool cgroup show /sys/fs/cgroup/onggi/web1`, `bpftool prog dump xlated id N`.
//! Read: bpf(2), the kernel's Documentation/bpf/standardization/instruction-set.rst, include/uapi/linux/bpf.h.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::call::{SysError, SysResult, call};
use super::mount::{fd_name, owned};

/// One instruction: eight bytes, the registers as two halves of one (low: destination, high: source).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    pub registers: u8,
    /// How many instructions a jump skips, or where in memory a load reads.
    pub offset: i16,
    pub immediate: i32,
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_DETACH: i32 = 9;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_PROG_QUERY: i32 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

// The kernel's `union bpf_attr` has one layout for each command; these are its first fields, in order. The kernel takes what is
// left out as zero (bpf(2): "size").

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    _padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Loads a device filter: the kernel's verifier walks every path through it before it is accepted.
///
/// # Errors
/// EINVAL or EACCES when the verifier refuses it (its last words are in the arguments), EPERM without CAP_BPF or CAP_SYS_ADMIN.
pub fn load_device_filter(program: &[Instruction]) -> SysResult<OwnedFd> {
    match load(program, &mut []) {
        Err(e) if matches!(e.errno(), Errno::EINVAL | Errno::EACCES) => {
            // Only now is the log worth its price.
            let mut log = vec![0u8; 65536];
            let again = load(program, &mut log);
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            let said = String::from_utf8_lossy(&log[..end]).trim_end().lines().rev().take(3).collect::<Vec<_>>().join(" < ");
            again.map_err(|e| SysError::new("bpf", format!("{}, verifier: {said}", e.args), e.errno()))
        }
        answer => answer,
    }
}

fn load(program: &[Instruction], log: &mut [u8]) -> SysResult<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attr = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    attr.name[..13].copy_from_slice(b"onggi_devices");
    if !log.is_empty() {
        (attr.log_level, attr.log_size, attr.log) = (1, log.len() as u32, log.as_mut_ptr() as u64);
    }
    let describe = || format!("BPF_PROG_LOAD, {{prog_type=BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt={}}}", program.len());
    Ok(owned(command(BPF_PROG_LOAD, describe, &mut attr)?))
}

/// Hangs `program` on the cgroup, beside what ancestors hang there: an access passes when all programs let it (BPF_F_ALLOW_MULTI).
/// With `replaced`, it takes that program's place in one step (Linux 5.6).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN or CAP_SYS_ADMIN, EINVAL on an older kernel with `replaced`, ENOENT when `replaced` isn't there.
pub fn attach(cgroup: BorrowedFd, program: BorrowedFd, replaced: Option<BorrowedFd>) -> SysResult<()> {
    let mut attr = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    let flags = if replaced.is_some() { "BPF_F_ALLOW_MULTI|BPF_F_REPLACE" } else { "BPF_F_ALLOW_MULTI" };
    let describe = || format!("BPF_PROG_ATTACH, {{{}, BPF_CGROUP_DEVICE, {flags}}}", fd_name(cgroup.as_raw_fd()));
    command(BPF_PROG_ATTACH, describe, &mut attr).map(drop)
}

/// Takes `program` off the cgroup.
///
/// # Errors
/// ENOENT when it isn't there, EPERM.
pub fn detach(cgroup: BorrowedFd, program: BorrowedFd) -> SysResult<()> {
    let mut attr = Attach { target: cgroup.as_raw_fd() as u32, program: program.as_raw_fd() as u32, kind: BPF_CGROUP_DEVICE, ..Attach::default() };
    command(BPF_PROG_DETACH, || format!("BPF_PROG_DETACH, {{{}, BPF_CGROUP_DEVICE}}", fd_name(cgroup.as_raw_fd())), &mut attr).map(drop)
}

/// The numbers of the device filters on the cgroup itself (not its ancestors').
///
/// # Errors
/// EPERM without CAP_NET_ADMIN or CAP_SYS_ADMIN.
pub fn attached(cgroup: BorrowedFd) -> SysResult<Vec<u32>> {
    // The kernel allows at most 64 on one cgroup (BPF_CGROUP_MAX_PROGS).
    let mut ids = vec![0u32; 64];
    let mut attr = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    command(BPF_PROG_QUERY, || format!("BPF_PROG_QUERY, {{{}, BPF_CGROUP_DEVICE}}", fd_name(cgroup.as_raw_fd())), &mut attr)?;
    ids.truncate(attr.count as usize);
    Ok(ids)
}

/// A descriptor of the loaded program with this number.
///
/// # Errors
/// ENOENT when it is gone, EPERM without CAP_SYS_ADMIN.
pub fn program(id: u32) -> SysResult<OwnedFd> {
    let mut attr = ById { id, ..ById::default() };
    Ok(owned(command(BPF_PROG_GET_FD_BY_ID, || format!("BPF_PROG_GET_FD_BY_ID, {{prog_id={id}}}"), &mut attr)?))
}

fn command<T>(number: i32, describe: impl Fn() -> String, attr: &mut T) -> SysResult<i64> {
    // SAFETY: `attr` is one of the structs above, live and writable, with its size told; the pointers inside it are to slices that
    // the callers keep alive, each with its length beside it.
    call("bpf", describe, || unsafe { libc::syscall(libc::SYS_bpf, number, std::ptr::from_mut(attr), size_of::<T>()) })
}
