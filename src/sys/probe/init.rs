//! Signals and children: `probe wait`, `probe signal`, and `probe init`, the smallest useful PID 1.
//!
//! The kernel spares PID 1 every signal that it has no handler for, even SIGTERM; and orphans become its children, zombies until
//! it waits for them. A shell or a server as PID 1 knows neither. The trick here needs no handler at all: all signals are blocked, a
//! blocked signal is never thrown away, and rt_sigtimedwait(2) hands them over one by one.
//!
//! See it: `onggi run --init base ps`, `grep Sig /proc/1/status`. Read: pid_namespaces(7), signal(7), sigtimedwait(2), wait4(2).

use core::arch::asm;

use crate::json::Json;
use crate::kernel::{self, Errno, fill, number, plain};
use crate::{Start, facts};

const SIGCHLD: usize = 17;
const SIGINT: usize = 2;
const SIGTERM: usize = 15;
const SIGTTIN: usize = 21;
const SIGTTOU: usize = 22;
const SIG_SETMASK: usize = 2;

/// The set of blocked signals.
pub fn mask() -> u64 {
    let mut old = 0u64;
    let _ = fill(number::RT_SIGPROCMASK, [SIG_SETMASK, 0, 0, 8, 0, 0], 2, &mut old);
    old
}

fn set_mask(mut set: u64) {
    let _ = fill(number::RT_SIGPROCMASK, [SIG_SETMASK, 0, 0, 8, 0, 0], 1, &mut set);
}

/// Waits for a signal: (its number, who sent it).
fn next_signal() -> (usize, u32) {
    let all = u64::MAX;
    loop {
        let mut info = [0u32; 32];
        // SAFETY: a live set of the size that is told, a live siginfo (128 bytes), and no time limit.
        let answer = unsafe { kernel::call(number::RT_SIGTIMEDWAIT, [&raw const all as usize, &raw mut info as usize, 0, 8, 0, 0]) };
        if let Ok(signal) = answer {
            return (signal, info.get(4).copied().unwrap_or(0));
        }
    }
}

/// wait4(2) for any child that ended, without waiting: (PID, exit code, 128 + n for a signal).
fn reap() -> Option<(usize, i32)> {
    const WNOHANG: usize = 1;
    let mut status = 0i32;
    match fill(number::WAIT4, [usize::MAX, 0, WNOHANG, 0, 0, 0], 1, &mut status) {
        Ok(0) | Err(_) => None,
        Ok(pid) if status & 0x7f == 0 => Some((pid, status >> 8 & 0xff)),
        Ok(pid) => Some((pid, 128 + (status & 0x7f))),
    }
}

/// Prints the facts, then a line for each signal; ends with 0 at SIGTERM and 130 at SIGINT.
pub fn wait(start: Start) -> i32 {
    // Blocked before anything is printed: who reads the facts may send a signal at once.
    let inherited = mask();
    set_mask(u64::MAX);
    let printed = facts::print(start, inherited);
    if printed != 0 {
        return printed;
    }
    loop {
        let (signal, sender) = next_signal();
        let mut json = Json::new();
        json.open(b'{');
        json.key("signal");
        json.number(signal as u64);
        json.key("sender");
        json.number(sender as u64);
        json.close(b'}');
        json.end();
        match signal {
            SIGTERM => return 0,
            SIGINT => return 128 + SIGINT as i32,
            SIGCHLD => while reap().is_some() {},
            _ => {}
        }
    }
}

/// Ends this process by a signal.
pub fn die(signal: usize) -> i32 {
    const PR_SET_DUMPABLE: usize = 4;
    let _ = plain(number::PRCTL, [PR_SET_DUMPABLE, 0]); // no core file left behind
    set_mask(0);
    // PID 1 can't kill itself with kill(2), but a fault is forced on it like on anybody.
    match signal {
        // SAFETY: meant to fault; nothing runs after it.
        4 => unsafe { fault_illegal() },
        // SAFETY: meant to fault; address 8 is never mapped (vm.mmap_min_addr).
        11 => unsafe { fault_memory() },
        _ => {}
    }
    let _ = plain(number::GETPID, []).and_then(|pid| plain(number::KILL, [pid, signal]));
    let _ = kernel::write_all(2, b"probe: still alive: the kernel spares PID 1 its own signals\n");
    128 + signal as i32
}

#[cfg(target_arch = "x86_64")]
unsafe fn fault_illegal() {
    // SAFETY: the caller wants the fault.
    unsafe { asm!("ud2") }
}

#[cfg(target_arch = "aarch64")]
unsafe fn fault_illegal() {
    // SAFETY: the caller wants the fault.
    unsafe { asm!("udf #0") }
}

#[cfg(target_arch = "x86_64")]
unsafe fn fault_memory() {
    // SAFETY: the caller wants the fault.
    unsafe { asm!("mov byte ptr [{}], 0", in(reg) 8usize) }
}

#[cfg(target_arch = "aarch64")]
unsafe fn fault_memory() {
    // SAFETY: the caller wants the fault.
    unsafe { asm!("strb wzr, [{}]", in(reg) 8usize) }
}

/// Runs the command that starts at argument `first` (after `--`) as our child until it ends; answers its exit code.
pub fn init(start: Start, mut first: usize) -> i32 {
    if start.argv.bytes(first) == Some(b"--version") {
        let _ = kernel::write_all(1, b"onggi init\n");
        return 0;
    }
    if start.argv.bytes(first) == Some(b"--") {
        first += 1;
    }
    if start.argv.get(first).is_none() {
        let _ = kernel::write_all(2, b"init: usage: init -- CMD [ARG]...\n");
        return 2;
    }
    // When we aren't PID 1, orphans come to us all the same.
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    let _ = plain(number::PRCTL, [PR_SET_CHILD_SUBREAPER, 1]);
    let inherited = mask();
    set_mask(u64::MAX);
    let child = match kernel::fork() {
        Ok(0) => become_command(start, first, inherited),
        Ok(pid) => pid,
        Err(errno) => return complain(b"fork", errno, 125),
    };
    // Also in the parent: whichever is first, the group is there before anybody signals it.
    let _ = plain(number::SETPGID, [child, child]);
    loop {
        let (signal, _) = next_signal();
        match signal {
            SIGCHLD => {
                // SIGCHLD stands for one or more children that ended: all that wait are reaped.
                let mut ours = None;
                while let Some((pid, code)) = reap() {
                    if pid == child {
                        ours = Some(code);
                    }
                }
                if let Some(code) = ours {
                    return code;
                }
            }
            // The terminal's words to *us* as a background group; nothing for the child.
            SIGTTIN | SIGTTOU => {}
            _ => {
                let _ = plain(number::KILL, [child, signal]);
            }
        }
    }
}

/// The child: a process group of its own, in front of the terminal if there is one, then the command.
fn become_command(start: Start, first: usize, inherited: u64) -> ! {
    const TIOCSPGRP: usize = 0x5410;
    let _ = plain(number::SETPGID, [0, 0]);
    // SIGTTOU, which a background process gets for this, is blocked still. ENOTTY when stdin is no terminal.
    let mut group = plain(number::GETPID, []).unwrap_or(0) as i32;
    let _ = fill(number::IOCTL, [0, TIOCSPGRP, 0, 0, 0, 0], 2, &mut group);
    set_mask(inherited);
    let argv = start.argv.skip(first);
    let name = argv.bytes(0).unwrap_or_default();
    let errno = execute(name, argv.pointer(), start);
    const ENOENT: Errno = 2;
    const ENOTDIR: Errno = 20;
    let code = if errno == ENOENT || errno == ENOTDIR { 127 } else { 126 };
    kernel::exit(complain(name, errno, code))
}

/// execve(2), with a search through PATH for a name without a slash. Returns only when it could not.
fn execute(name: &[u8], argv: usize, start: Start) -> Errno {
    let path = start.env.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let path = if name.contains(&b'/') { b"" } else { path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") };
    let mut worst = 2;
    for dir in path.split(|&b| b == b':') {
        let mut full = [0u8; 4097];
        let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        if dir.len() + name.len() + 2 > full.len() {
            continue;
        }
        for (place, &byte) in full.iter_mut().zip(dir.iter().chain(slash).chain(name)) {
            *place = byte;
        }
        // SAFETY: a buffer that ends with NUL, and the two arrays that the kernel made for us.
        let Err(errno) = (unsafe { kernel::call(number::EXECVE, [full.as_ptr() as usize, argv, start.env.pointer(), 0, 0, 0]) }) else { continue };
        // "Not there" in one folder says nothing about the next; anything worse is worth telling.
        if errno != 2 && errno != 20 {
            worst = errno;
        }
    }
    worst
}

fn complain(name: &[u8], errno: Errno, code: i32) -> i32 {
    let word = crate::try_call::error_name(errno).as_bytes();
    for part in [b"init: cannot run ", name, b": ", word, b"\n"] {
        let _ = kernel::write_all(2, part);
    }
    code
}
