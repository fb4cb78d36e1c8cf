//! The kernel without a C library: the instruction that enters it, the numbers of its calls on two machines, and the four memory
//! functions that the compiler itself calls.
//!
//! See it: `strace /usr/bin/probe`, `objdump -d /usr/bin/probe`. Read: syscall(2), syscalls(2).

use core::arch::{asm, global_asm};
use core::ffi::CStr;

/// What a failed call answers: ENOENT is 2.
pub type Errno = i32;

pub const EINTR: Errno = 4;
pub const AT_FDCWD: usize = -100isize as usize;

// The kernel starts a program with its stack pointer on argc and no return address: a function can't be the first thing to run.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {entry}", "ud2", entry = sym crate::entry);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x30, #0", "mov x0, sp", "bl {entry}", "brk #1", entry = sym crate::entry);

/// One system call, any of them.
///
/// # Safety
/// Arguments that the call takes as pointers must be good for what it does with them.
#[cfg(target_arch = "x86_64")]
pub unsafe fn call(number: usize, a: [usize; 6]) -> Result<usize, Errno> {
    let answer: isize;
    // SAFETY: the caller vouches for the pointers; `syscall` itself changes rcx, r11 and rax only.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3],
            in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if answer < 0 { Err(-answer as Errno) } else { Ok(answer as usize) }
}

/// One system call, any of them.
///
/// # Safety
/// Arguments that the call takes as pointers must be good for what it does with them.
#[cfg(target_arch = "aarch64")]
pub unsafe fn call(number: usize, a: [usize; 6]) -> Result<usize, Errno> {
    let answer: isize;
    // SAFETY: the caller vouches for the pointers; `svc` itself changes x0 only.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a[0] as isize => answer, in("x1") a[1], in("x2") a[2], in("x3") a[3],
            in("x4") a[4], in("x5") a[5], options(nostack));
    }
    if answer < 0 { Err(-answer as Errno) } else { Ok(answer as usize) }
}

/// The numbers of the calls that we make: (x86_64, aarch64).
pub mod number {
    const fn of(x86_64: usize, aarch64: usize) -> usize {
        if cfg!(target_arch = "x86_64") { x86_64 } else { aarch64 }
    }
    pub const READ: usize = of(0, 63);
    pub const WRITE: usize = of(1, 64);
    pub const CLOSE: usize = of(3, 57);
    pub const MMAP: usize = of(9, 222);
    pub const RT_SIGPROCMASK: usize = of(14, 135);
    pub const IOCTL: usize = of(16, 29);
    pub const GETPID: usize = of(39, 172);
    pub const SOCKET: usize = of(41, 198);
    pub const BIND: usize = of(49, 200);
    pub const CLONE: usize = of(56, 220);
    pub const EXECVE: usize = of(59, 221);
    pub const WAIT4: usize = of(61, 260);
    pub const KILL: usize = of(62, 129);
    pub const UNAME: usize = of(63, 160);
    pub const FCNTL: usize = of(72, 25);
    pub const GETCWD: usize = of(79, 17);
    pub const UMASK: usize = of(95, 166);
    pub const PTRACE: usize = of(101, 117);
    pub const SETUID: usize = of(105, 146);
    pub const SETPGID: usize = of(109, 154);
    pub const GETPPID: usize = of(110, 173);
    pub const GETGROUPS: usize = of(115, 158);
    pub const GETRESUID: usize = of(118, 148);
    pub const GETRESGID: usize = of(120, 150);
    pub const GETPGID: usize = of(121, 155);
    pub const SETFSUID: usize = of(122, 151);
    pub const SETFSGID: usize = of(123, 152);
    pub const GETSID: usize = of(124, 156);
    pub const CAPGET: usize = of(125, 90);
    pub const RT_SIGTIMEDWAIT: usize = of(128, 137);
    pub const PERSONALITY: usize = of(135, 92);
    pub const PRCTL: usize = of(157, 167);
    pub const CHROOT: usize = of(161, 51);
    pub const MOUNT: usize = of(165, 40);
    pub const REBOOT: usize = of(169, 142);
    pub const SETHOSTNAME: usize = of(170, 161);
    pub const SETXATTR: usize = of(188, 5);
    pub const SCHED_GETAFFINITY: usize = of(204, 123);
    pub const GETDENTS64: usize = of(217, 61);
    pub const CLOCK_GETTIME: usize = of(228, 113);
    pub const EXIT_GROUP: usize = of(231, 94);
    pub const GET_MEMPOLICY: usize = of(239, 236);
    pub const KEYCTL: usize = of(250, 219);
    pub const IOPRIO_GET: usize = of(252, 31);
    pub const OPENAT: usize = of(257, 56);
    pub const MKNODAT: usize = of(259, 33);
    pub const READLINKAT: usize = of(267, 78);
    pub const UNSHARE: usize = of(272, 97);
    pub const PRLIMIT64: usize = of(302, 261);
    pub const SCHED_GETATTR: usize = of(315, 275);
    pub const IO_URING_SETUP: usize = 425;
    pub const CLONE3: usize = 435;
}

/// A call whose arguments are integers only (or NULL).
pub fn plain<const N: usize>(number: usize, numbers: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&numbers);
    // SAFETY: no pointers; the few calls that this program makes this way touch no memory of ours.
    unsafe { call(number, all) }
}

/// A call that writes into `room`, whose address goes in as argument number `at`; the other arguments are integers.
pub fn fill<T>(number: usize, mut numbers: [usize; 6], at: usize, room: &mut T) -> Result<usize, Errno> {
    numbers[at] = &raw mut *room as usize;
    // SAFETY: the pointer is to a live value, of the type that the manual says for this call or a buffer whose length is told.
    unsafe { call(number, numbers) }
}

/// A call on a path or name, whose address goes in as argument number `at`.
pub fn with_text(number: usize, mut numbers: [usize; 6], at: usize, text: &CStr) -> Result<usize, Errno> {
    numbers[at] = text.as_ptr() as usize;
    // SAFETY: a live C string, which the call only reads.
    unsafe { call(number, numbers) }
}

/// Ends the process.
pub fn exit(code: i32) -> ! {
    loop {
        let _ = plain(number::EXIT_GROUP, [code as usize]);
    }
}

/// openat(2) from the working directory; closes at execve.
pub fn open(path: &CStr, flags: usize) -> Result<usize, Errno> {
    const O_CLOEXEC: usize = 0o2000000;
    with_text(number::OPENAT, [AT_FDCWD, 0, flags | O_CLOEXEC, 0, 0, 0], 1, path)
}

/// write(2), all of it.
pub fn write_all(fd: usize, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: pointer and length of one live slice.
        match unsafe { call(number::WRITE, [fd, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) } {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// fork(2), as clone(2) with SIGCHLD: 0 in the child.
pub fn fork() -> Result<usize, Errno> {
    const SIGCHLD: usize = 17;
    plain(number::CLONE, [SIGCHLD, 0, 0, 0, 0])
}

/// readlinkat(2): the part of `room` that holds the link's target.
pub fn read_link<'a>(path: &CStr, room: &'a mut [u8; 4096]) -> Result<&'a [u8], Errno> {
    // SAFETY: a live C string, and pointer and length of live room.
    let length = unsafe { call(number::READLINKAT, [AT_FDCWD, path.as_ptr() as usize, room.as_mut_ptr() as usize, room.len(), 0, 0]) }?;
    Ok(room.get(..length).unwrap_or_default())
}

/// A file read byte by byte through a buffer: no line is too long and no file too big.
pub struct File {
    pub fd: usize,
    buffer: [u8; 4096],
    used: usize,
    length: usize,
}

impl File {
    pub fn open(path: &CStr) -> Result<File, Errno> {
        Ok(File { fd: open(path, 0)?, buffer: [0; 4096], used: 0, length: 0 })
    }

    /// The next byte, which stays there to be read; None at the end.
    pub fn peek(&mut self) -> Option<u8> {
        if self.used >= self.length {
            let (fd, room) = (self.fd, self.buffer.len());
            self.length = fill(number::READ, [fd, 0, room, 0, 0, 0], 1, &mut self.buffer).unwrap_or(0);
            self.used = 0;
            if self.length == 0 {
                return None;
            }
        }
        self.buffer.get(self.used).copied()
    }

    pub fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.used += byte.is_some() as usize;
        byte
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = plain(number::CLOSE, [self.fd]);
    }
}

// The compiler turns copies into calls of these four, which otherwise the C library has. `#![no_builtins]` in main.rs keeps it from
// turning their own loops into calls of themselves.

/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for i in 0..count {
        // SAFETY: the caller vouches for `count` bytes on both sides.
        unsafe { *to.add(i) = *from.add(i) };
    }
    to
}

/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for i in 0..count {
        // Backwards when the target lies behind the source, so that nothing is overwritten before it was copied.
        let i = if (to as usize) < from as usize { i } else { count - 1 - i };
        // SAFETY: the caller vouches for `count` bytes on both sides.
        unsafe { *to.add(i) = *from.add(i) };
    }
    to
}

/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    for i in 0..count {
        // SAFETY: the caller vouches for `count` bytes.
        unsafe { *to.add(i) = byte as u8 };
    }
    to
}

/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    for i in 0..count {
        // SAFETY: the caller vouches for `count` bytes on both sides.
        let (x, y) = unsafe { (*a.add(i), *b.add(i)) };
        if x != y {
            return x as i32 - y as i32;
        }
    }
    0
}

/// # Safety
/// As bcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(a, b, count) }
}

/// # Safety
/// As strlen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller vouches for a NUL at the end.
    while unsafe { *text.add(length) } != 0 {
        length += 1;
    }
    length
}
