//! Making, naming and ending processes.
//!
//! A PID is a number that the kernel gives out again; a *pidfd* is a handle on one process that never means another.
//!
//! See it: `ps`, `/proc/P/status`. Read: clone3(2), pidfd_open(2), pidfd_send_signal(2), waitid(2), prctl(2), execve(2).

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::call::{SysError, SysResult, call};
use super::flag_names;
use super::mount::owned;
use super::namespace::{CLONE_INTO_CGROUP, CLONE_NAMES};

/// What clone3(2) is to make.
#[derive(Debug, Default)]
pub struct Clone<'a> {
    /// `CLONE_NEW*`, `CLONE_PARENT`.
    pub flags: u64,
    /// A cgroup v2 directory in which the child is born (CLONE_INTO_CGROUP, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Who came out of [`clone3`].
pub enum Forked {
    /// In the parent: the child's PID as seen from here, and a handle on it.
    Parent { pid: i32, pidfd: OwnedFd },
    /// In the child, which has a copy of everything.
    Child,
}

/// clone3(2) without a shared memory: a fork with new namespaces.
///
/// Only to be called in a process with one thread: the child has just the calling one, and locks that others held stay shut.
///
/// # Errors
/// EPERM for a namespace that the caller may not make, ENOSPC for one too many, EBUSY for a cgroup that takes no processes.
pub fn clone3(plan: &Clone) -> SysResult<Forked> {
    let mut pidfd: RawFd = -1;
    // SAFETY: zeroed is the documented default of every field.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = plan.flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    // With CLONE_PARENT the caller is not the one who is told of the child's end (clone(2): EINVAL otherwise).
    args.exit_signal = if plan.flags & libc::CLONE_PARENT as u64 != 0 { 0 } else { libc::SIGCHLD as u64 };
    if let Some(cgroup) = plan.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let (flags, signal) = (args.flags, if args.exit_signal == 0 { "0" } else { "SIGCHLD" });
    let pid = call(
        "clone3",
        || format!("{{flags={}, exit_signal={signal}}}", flag_names(flags, CLONE_NAMES)),
        // SAFETY: without CLONE_VM the child works on a copy of this memory, like after fork(2). One thread: see above.
        || unsafe { libc::syscall(libc::SYS_clone3, &mut args, size_of::<libc::clone_args>()) },
    )?;
    Ok(match pid {
        0 => Forked::Child,
        _ => Forked::Parent { pid: pid as i32, pidfd: owned(pidfd as i64) },
    })
}

/// pidfd_open(2).
///
/// # Errors
/// ESRCH when there is no such process.
pub fn pidfd_open(pid: i32) -> SysResult<OwnedFd> {
    // SAFETY: integers only.
    let fd = call("pidfd_open", || format!("{pid}, 0"), || unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    Ok(owned(fd))
}

/// pidfd_send_signal(2): signal 0 asks whether the process is still there.
///
/// # Errors
/// ESRCH when it is gone (or a zombie that was reaped), EPERM.
pub fn pidfd_send_signal(pidfd: BorrowedFd, signal: i32) -> SysResult<()> {
    call(
        "pidfd_send_signal",
        || format!("pidfd {}, {}", pidfd_pid(pidfd).unwrap_or(0), signal_name(signal)),
        // SAFETY: NULL siginfo is allowed and means what kill(2) sends.
        || unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<()>(), 0) },
    )?;
    Ok(())
}

/// `SIGTERM`, or the number of a real-time signal.
pub fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(signal) => signal.to_string(),
        Err(_) => signal.to_string(),
    }
}

/// The PID behind a pidfd, as this process' `/proc` sees it; None when the process was reaped or lives in a sibling namespace.
pub fn pidfd_pid(pidfd: BorrowedFd) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    (pid > 0).then_some(pid)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// The exit code that a shell, and Docker, shows for it: 128 + n for a signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// waitid(2) on a child: waits until it ends, and reaps it.
///
/// # Errors
/// ECHILD when it is no child of ours.
pub fn wait(pidfd: BorrowedFd) -> SysResult<Exit> {
    wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, 0).map(|exit| exit.unwrap_or(Exit::Code(0)))
}

/// The same without waiting: None as long as it runs.
///
/// # Errors
/// ECHILD when it is no child of ours.
pub fn try_wait(pidfd: BorrowedFd) -> SysResult<Option<Exit>> {
    wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, libc::WNOHANG)
}

/// Reaps one child that has ended, whoever it is.
///
/// # Errors
/// ECHILD when there are no children.
pub fn reap() -> SysResult<Option<Exit>> {
    wait_id(libc::P_ALL, 0, libc::WNOHANG)
}

fn wait_id(kind: libc::idtype_t, id: u32, options: i32) -> SysResult<Option<Exit>> {
    loop {
        // SAFETY: zeroed is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the struct is live and writable.
        let raw = || unsafe { libc::waitid(kind, id, &mut info, libc::WEXITED | options) as _ };
        match call("waitid", || format!("{}, {id}, WEXITED", if kind == libc::P_PIDFD { "P_PIDFD" } else { "P_ALL" }), raw) {
            Err(e) if e.errno() == Errno::EINTR => continue,
            Err(e) => return Err(e),
            Ok(_) => {}
        }
        // SAFETY: waitid filled the struct in for a child's end, for which these fields are defined; with WNOHANG and nobody it left zeros.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return Ok(match (pid, info.si_code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some(Exit::Code(status)),
            _ => Some(Exit::Signal(status)),
        });
    }
}

/// prctl(2) with integers.
///
/// # Errors
/// See prctl(2) for the option.
pub fn prctl(option: i32, name: &'static str, args: [u64; 4]) -> SysResult<i64> {
    call(
        "prctl",
        || format!("{name}, {}", args[0]),
        // SAFETY: only options whose arguments are integers are passed here.
        || unsafe { libc::prctl(option, args[0], args[1], args[2], args[3]) as _ },
    )
}

/// Gains nothing from setuid programs and file capabilities, now and in all descendants (PR_SET_NO_NEW_PRIVS).
///
/// # Errors
/// None on a kernel of the last ten years.
pub fn no_new_privileges() -> SysResult<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", [1, 0, 0, 0]).map(drop)
}

/// Whether others may look into this process: with 0, `/proc/self/exe` and memory are closed to all but the host's root.
///
/// # Errors
/// EINVAL for another value.
pub fn set_dumpable(on: bool) -> SysResult<()> {
    prctl(libc::PR_SET_DUMPABLE, "PR_SET_DUMPABLE", [on as u64, 0, 0, 0]).map(drop)
}

/// This process is sent SIGKILL when its parent ends (PR_SET_PDEATHSIG); cleared by an execve of a setuid program.
///
/// # Errors
/// None.
pub fn die_with_parent() -> SysResult<()> {
    prctl(libc::PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG", [libc::SIGKILL as u64, 0, 0, 0]).map(drop)
}

/// setsid(2): a session of its own, without a controlling terminal.
///
/// # Errors
/// EPERM when already a group leader.
pub fn setsid() -> SysResult<()> {
    // SAFETY: no arguments.
    call("setsid", String::new, || unsafe { libc::setsid() as _ })?;
    Ok(())
}

/// execve(2): this process becomes another program. Returns only when it could not.
pub fn execve(program: &CString, argv: &[CString], envp: &[CString]) -> SysError {
    let list = |strings: &[CString]| {
        let mut pointers: Vec<*const libc::c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    let (argv_p, envp_p) = (list(argv), list(envp));
    let describe = || {
        let words: Vec<_> = argv.iter().map(|a| format!("{:?}", a.to_string_lossy())).collect();
        format!("{}, [{}], /* {} vars */", program.to_string_lossy(), words.join(", "), envp.len())
    };
    // A successful execve never comes back to tell, so listeners are told before it.
    if let Err(injected) = call("execve", describe, || 0) {
        return injected;
    }
    // SAFETY: both lists are arrays of valid C strings that end with NULL and live until the call returns.
    unsafe { libc::execve(program.as_ptr(), argv_p.as_ptr(), envp_p.as_ptr()) };
    SysError::new("execve", describe(), Errno::last())
}

/// close_range(2) with CLOSE_RANGE_CLOEXEC: every descriptor from `first` on closes at the next execve.
///
/// # Errors
/// EINVAL.
pub fn cloexec_from(first: RawFd) -> SysResult<()> {
    call(
        "close_range",
        || format!("{first}, ~0U, CLOSE_RANGE_CLOEXEC"),
        // SAFETY: integers only; nothing is closed now.
        || unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) },
    )?;
    Ok(())
}

/// close_range(2): every descriptor from `first` on but the `kept` ones is closed *now*. For a process that ends in execve(2) or
/// [`exit_now`]: it must not use, nor drop, what it had open before.
///
/// # Errors
/// EINVAL.
pub fn close_all_but(first: RawFd, kept: &[BorrowedFd]) -> SysResult<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut next = first as u32;
    for end in kept.into_iter().chain([u32::MAX]) {
        if next < end {
            let last = end - 1;
            // SAFETY: integers only; that nobody uses these descriptors any more is the caller's promise.
            call("close_range", || format!("{next}, {last}, 0"), || unsafe { libc::syscall(libc::SYS_close_range, next, last, 0) })?;
        }
        next = next.max(end.saturating_add(1));
    }
    Ok(())
}

/// umask(2): the permission bits that new files don't get. Answers the old mask.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: no memory; umask(2) never fails.
    call("umask", || format!("{mask:04o}"), || unsafe { libc::umask(mask) as _ }).unwrap_or(0) as u32
}

/// Every signal back to its default action, none blocked: what a program expects to start with. execve(2) resets handlers but
/// keeps ignored signals ignored and the mask as it is.
pub fn default_signals() {
    // The kernel's own struct sigaction, four words; all zero is SIG_DFL without flags and mask. libc's signal(3) keeps 32 and 33 to
    // itself, and a caller that started us with posix_spawn(3) may have left just these two ignored.
    let default = [0u64; 4];
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: a live struct, no old one is asked for; SIGKILL and SIGSTOP only give EINVAL.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &default, std::ptr::null::<u64>(), size_of::<u64>()) };
    }
    // SAFETY: a live, emptied set.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Ends this process without running anything that was set up to run at exit in its parent's copy (_exit(2)).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// The start time of a process in clock ticks since boot: with the PID it names one process for ever (proc_pid_stat(5), field 22).
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, field 2, is in brackets and may hold anything, brackets and blanks too.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// execveat(2) with AT_EMPTY_PATH: becomes the program that `program` is open on. Returns only when it could not.
pub fn execveat(program: BorrowedFd, argv: &[CString], envp: &[CString]) -> SysError {
    let list = |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (argv_p, envp_p) = (list(argv), list(envp));
    let describe = || format!("{}, \"\", argv, envp, AT_EMPTY_PATH", super::mount::fd_name(program.as_raw_fd()));
    if let Err(injected) = call("execveat", describe, || 0) {
        return injected;
    }
    // SAFETY: an open descriptor, an empty C string, and two arrays of valid C strings that end with NULL.
    unsafe { libc::syscall(libc::SYS_execveat, program.as_raw_fd(), c"".as_ptr(), argv_p.as_ptr(), envp_p.as_ptr(), libc::AT_EMPTY_PATH) };
    SysError::new("execveat", describe(), Errno::last())
}

/// The name that ps(1) shows (PR_SET_NAME), at most 15 bytes.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: PR_SET_NAME reads a C string of at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Gives memory that was freed back to the kernel, which the allocator otherwise keeps (malloc_trim(3)).
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no argument that could be wrong; the allocator looks after its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
