//! Seccomp: a small program that the kernel runs before every system call of a process, and that decides what becomes of it.
//!
//! The kernel object is a *filter*: classic BPF instructions that may read one struct (`seccomp_data`: the call's number, the
//! architecture, six arguments) and end in a verdict. Filters only add up: they outlive execve, go to all children, and nothing
//! takes them off.
//!
//! See it: `grep Seccomp /proc/P/status` (2 is "filter", and how many of them). Read: seccomp(2), seccomp_unotify(2),
//! Documentation/userspace-api/seccomp_filter.rst.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::call::{SysError, SysResult, call};
use super::flag_names;
use super::mount::owned;

/// One instruction of classic BPF, `struct sock_filter` of <linux/filter.h>.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do: class, size or operation, and where the operand comes from.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// How many when it does not.
    pub jump_false: u8,
    /// The operand.
    pub k: u32,
}

/// The kernel takes no longer program than this (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;

const FLAG_NAMES: &[(u64, &str)] = &[
    (libc::SECCOMP_FILTER_FLAG_TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"),
    (libc::SECCOMP_FILTER_FLAG_LOG, "SECCOMP_FILTER_FLAG_LOG"),
    (libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    (libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, "SECCOMP_FILTER_FLAG_NEW_LISTENER"),
    (libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH, "SECCOMP_FILTER_FLAG_TSYNC_ESRCH"),
    (libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
];

/// seccomp(2) SECCOMP_SET_MODE_FILTER: from now on this process is judged by `program`. With SECCOMP_FILTER_FLAG_NEW_LISTENER among
/// `flags` (the `SECCOMP_FILTER_FLAG_*` of <linux/seccomp.h>) it gives the descriptor on which a supervisor is asked.
///
/// # Errors
/// EACCES with neither CAP_SYS_ADMIN nor no_new_privs; EINVAL for a program that the kernel's checker refuses or a flag that this
/// kernel doesn't know; EBUSY for a second listener; ESRCH when SECCOMP_FILTER_FLAG_TSYNC found a thread with other filters;
/// ENOMEM when all filters together are too long.
pub fn set_mode_filter(program: &[Instruction], flags: u64) -> SysResult<Option<OwnedFd>> {
    let describe = || format!("SECCOMP_SET_MODE_FILTER, {}, /* {} instructions */", flag_names(flags, FLAG_NAMES), program.len());
    // The length is 16 bits wide in the kernel's struct: a longer program would be loaded cut, that is, as another program.
    if program.len() > MAX_INSTRUCTIONS {
        return Err(SysError::new("seccomp", describe(), Errno::EINVAL));
    }
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `fprog` points at `len` live instructions of the kernel's layout (asserted below), which it copies and never writes.
    let raw = || unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) };
    let value = call("seccomp", describe, raw)?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
        return Ok(Some(owned(value)));
    }
    // The odd one: TSYNC fails by giving the ID of the thread that stood in its way, which is no -1.
    if value != 0 { Err(SysError::new("seccomp", describe(), Errno::ESRCH)) } else { Ok(None) }
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>() && align_of::<Instruction>() >= align_of::<libc::sock_filter>());

/// seccomp(2) SECCOMP_GET_ACTION_AVAIL: whether this kernel knows the verdict (one of `SECCOMP_RET_*`).
///
/// # Errors
/// ENOSYS on a kernel without seccomp, EINVAL before Linux 4.14.
pub fn action_available(action: u32) -> SysResult<bool> {
    let raw = || {
        // SAFETY: the kernel reads one live u32.
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) }
    };
    match call("seccomp", || format!("SECCOMP_GET_ACTION_AVAIL, 0, {action:#x}"), raw) {
        Ok(_) => Ok(true),
        Err(e) if e.errno() == Errno::EOPNOTSUPP => Ok(false),
        Err(e) => Err(e),
    }
}

/// How long the messages between the kernel and a supervisor are, in bytes (`struct seccomp_notif_sizes`).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct NotifSizes {
    pub notification: u16,
    pub response: u16,
    pub data: u16,
}

/// seccomp(2) SECCOMP_GET_NOTIF_SIZES. The structs may grow with the kernel: a supervisor asks first.
///
/// # Errors
/// EINVAL before Linux 5.0.
pub fn notif_sizes() -> SysResult<NotifSizes> {
    let mut sizes = NotifSizes::default();
    // SAFETY: the kernel writes three u16, for which there is room.
    let raw = || unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
    call("seccomp", || "SECCOMP_GET_NOTIF_SIZES, 0".into(), raw)?;
    Ok(sizes)
}

/// What the tests of filters need: a filter can't be taken off, so it is tried on in a child.
#[cfg(test)]
pub(crate) mod trial {
    use super::super::process::{Exit, exit_now, no_new_privileges};
    use nix::errno::Errno;

    /// Runs `body` in a child with no_new_privs set, and says how the child ended. The body has this thread only.
    pub(crate) fn in_child(body: impl FnOnce() -> i32) -> Exit {
        // SAFETY: the child makes system calls and leaves by _exit; the allocator's locks are put right in it by fork(3), others it leaves alone.
        match unsafe { nix::unistd::fork() }.expect("fork") {
            nix::unistd::ForkResult::Child => {
                let _ = no_new_privileges();
                exit_now(body())
            }
            nix::unistd::ForkResult::Parent { child } => match nix::sys::wait::waitpid(child, None).expect("waitpid") {
                nix::sys::wait::WaitStatus::Exited(_, code) => Exit::Code(code),
                nix::sys::wait::WaitStatus::Signaled(_, signal, _) => Exit::Signal(signal as i32),
                other => panic!("the child neither ended nor died: {other:?}"),
            },
        }
    }

    /// Makes a system call by number: 0 when it succeeds, its errno otherwise.
    pub(crate) fn errno_of(number: i64, args: [u64; 3]) -> i32 {
        // SAFETY: the tests pass integers, or pointers that are NULL; the kernel checks both.
        match unsafe { libc::syscall(number, args[0], args[1], args[2]) } {
            -1 => Errno::last_raw(),
            _ => 0,
        }
    }

    /// Makes a 32-bit system call (`int 0x80`) from this 64-bit process: the call's value, or minus the errno.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn call_32(number: u32, arg: u32) -> i32 {
        let value: u64;
        // SAFETY: rbx belongs to LLVM and is put back; the kernel clobbers r8 to r11 on this path; the tests' calls touch no memory.
        unsafe {
            std::arch::asm!(
                "xchg {arg:r}, rbx", "int 0x80", "xchg {arg:r}, rbx",
                arg = inout(reg) arg as u64 => _, inout("rax") number as u64 => value,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        value as i32
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::Exit;
    use super::trial::{errno_of, in_child};
    use super::*;

    const fn instruction(code: u32, k: u32) -> Instruction {
        Instruction { code: code as u16, jump_true: 0, jump_false: 0, k }
    }

    /// "getppid is refused with EXDEV, the rest is allowed", in the four instructions that it takes.
    fn no_getppid() -> [Instruction; 4] {
        let compare = Instruction { jump_false: 1, ..instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_getppid as u32) };
        [
            instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
            compare,
            instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EXDEV as u32),
            instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ]
    }

    #[test]
    fn a_filter_gives_the_errno_that_it_says() {
        let filter = no_getppid();
        let exit = in_child(|| match set_mode_filter(&filter, 0) {
            Ok(None) => errno_of(libc::SYS_getppid, [0; 3]),
            _ => 99,
        });
        assert_eq!(exit, Exit::Code(libc::EXDEV));
    }

    #[test]
    fn a_program_without_an_end_is_refused_and_named() {
        let filter = [instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
        let error = set_mode_filter(&filter, libc::SECCOMP_FILTER_FLAG_LOG).unwrap_err();
        assert_eq!(error.to_string(), "seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, /* 1 instructions */) = EINVAL: invalid argument");
    }

    #[test]
    fn a_program_longer_than_the_kernel_takes_is_refused_uncut() {
        let filter = vec![instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW); 65537];
        assert_eq!(set_mode_filter(&filter, 0).unwrap_err().errno(), Errno::EINVAL);
    }

    #[test]
    fn the_listener_is_a_descriptor() {
        let filter = no_getppid();
        let exit = in_child(|| match set_mode_filter(&filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER) {
            Ok(Some(_)) => 0,
            _ => 99,
        });
        assert_eq!(exit, Exit::Code(0));
    }

    #[test]
    fn the_kernel_knows_the_usual_verdicts_and_no_others() {
        assert!(action_available(libc::SECCOMP_RET_KILL_PROCESS).unwrap());
        assert!(action_available(libc::SECCOMP_RET_USER_NOTIF).unwrap());
        assert!(!action_available(0x1234_0000).unwrap());
        assert!(notif_sizes().unwrap().notification >= 80);
    }
}
