//! The probe: a small program of our own that runs *inside* a container and says what it sees there.
//!
//! It has no C library and needs no file of the image, so it runs in an empty root, and what it prints is the kernel's answer and
//! nobody's interpretation. The checks of the exercises, the tests and `onggi inspect --live` read it. It is also `--init`: the
//! smallest PID 1 that forwards signals and reaps orphans.
//!
//! ```text
//! probe [facts]          one JSON object of facts about this place
//! probe wait             the same; then one line for each signal, until SIGTERM
//! probe exit N           ends with this code
//! probe signal N         ends by this signal
//! probe try CALL [ARG]…  tries one system call: {"call":"mount","errno":1,"error":"EPERM"}
//! probe init -- CMD …    runs CMD as its only child, forwards signals, reaps orphans
//! ```
//!
//! See it: `onggi run --rm base probe`. Read: syscalls(2), proc(5). Built by `build.rs`, embedded by `src/image/probe.rs`.
#![no_std]
#![no_main]
#![no_builtins]

mod facts;
mod init;
mod json;
mod kernel;
mod try_call;

use core::ffi::{CStr, c_char};

/// The strings that the kernel put above the stack: argv or the environment.
#[derive(Clone, Copy)]
pub struct Strings(*const *const c_char);

impl Strings {
    /// String number `index`; None from the end on (argv and envp end with NULL).
    pub fn get(self, index: usize) -> Option<&'static CStr> {
        for i in 0..=index {
            // SAFETY: entries up to the first NULL are there, and the loop ends at it.
            if unsafe { *self.0.add(i) }.is_null() {
                return None;
            }
        }
        // SAFETY: not NULL, so the kernel put a C string there, which stays for the life of the process.
        Some(unsafe { CStr::from_ptr(*self.0.add(index)) })
    }

    pub fn bytes(self, index: usize) -> Option<&'static [u8]> {
        self.get(index).map(CStr::to_bytes)
    }

    pub fn iter(self) -> impl Iterator<Item = &'static CStr> {
        (0..).map_while(move |index| self.get(index))
    }

    /// The strings from number `count` on, which must not be past the end.
    pub fn skip(self, count: usize) -> Strings {
        // SAFETY: an address within the array, or of the NULL at its end.
        Strings(unsafe { self.0.add(count) })
    }

    /// The array itself, as execve(2) takes it.
    pub fn pointer(self) -> usize {
        self.0 as usize
    }
}

/// What this process was started with.
#[derive(Clone, Copy)]
pub struct Start {
    pub argv: Strings,
    pub env: Strings,
}

/// Where `_start` goes on, with the address of argc (the stack's first word).
///
/// # Safety
/// Only for `_start`, at the beginning.
unsafe extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: the kernel's layout (execve(2), the ABI's "initial process stack"): argc, argv…, NULL, envp…, NULL.
    let start = unsafe {
        let argc = *stack;
        Start { argv: Strings(stack.add(1).cast()), env: Strings(stack.add(argc + 2).cast()) }
    };
    kernel::exit(run(start))
}

fn run(start: Start) -> i32 {
    let name = start.argv.bytes(0).unwrap_or_default();
    let name = name.rsplit(|&b| b == b'/').next().unwrap_or_default();
    if name == b"docker-init" || name == b"init" {
        return init::init(start, 1);
    }
    let number = |index| start.argv.bytes(index).and_then(parse).unwrap_or(0);
    match start.argv.bytes(1) {
        None | Some(b"facts") => facts::print(start, init::mask()),
        Some(b"wait") => init::wait(start),
        Some(b"exit") => number(2) as i32,
        Some(b"signal") => init::die(number(2)),
        Some(b"try") => try_call::print(start.argv),
        Some(b"init") => init::init(start, 2),
        Some(_) => {
            let _ = kernel::write_all(2, b"probe: usage: probe [facts | wait | exit N | signal N | try CALL [ARG]... | init -- CMD [ARG]...]\n");
            2
        }
    }
}

/// A number in decimal, with a sign, or in hexadecimal (`0x…`) or octal (`0…`).
pub fn parse(text: &[u8]) -> Option<usize> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (base, digits) = match text {
        [b'0', b'x', rest @ ..] => (16, rest),
        [b'0', rest @ ..] if !rest.is_empty() => (8, rest),
        _ => (10, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0usize;
    for &digit in digits {
        let digit = (digit as char).to_digit(base)?;
        value = value.checked_mul(base as usize)?.checked_add(digit as usize)?;
    }
    Some(if negative { value.wrapping_neg() } else { value })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    let _ = kernel::write_all(2, b"probe: a bug in the probe\n");
    kernel::exit(134)
}

// The precompiled `core` was made for unwinding and names this function; with panic=abort nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
