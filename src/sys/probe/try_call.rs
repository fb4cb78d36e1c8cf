//! `probe try CALL`: one system call, and the kernel's answer to it: `{"call":"mknod","errno":1,"error":"EPERM"}`.
//!
//! What could do harm where it is allowed is asked in a form that fails later, for another reason: reboot(2) with a wrong magic number
//! gives EPERM to who may not, and EINVAL to who may. Each such form is named below. Given arguments, the real thing is tried.
//!
//! Read: errno(3), capabilities(7).

use core::ffi::CStr;

use crate::json::Json;
use crate::kernel::{self, AT_FDCWD, Errno, call, fill, number, plain, with_text};
use crate::{Strings, parse};

const EINVAL: Errno = 22;

/// Tries the call named by argument 2 and prints the answer; 0 when it could be tried at all.
pub fn print(argv: Strings) -> i32 {
    let Some(name) = argv.bytes(2) else {
        let _ = kernel::write_all(2, b"probe: usage: probe try CALL [ARG]...\n");
        return 2;
    };
    let mut json = Json::new();
    let Some(answer) = attempt(name, argv.skip(3), &mut json) else {
        let _ = kernel::write_all(2, b"probe: no such call, or its arguments are missing\n");
        return 2;
    };
    if json.is_empty() {
        json.open(b'{');
    }
    json.key("call");
    json.text(name);
    json.key("errno");
    json.signed(answer.err().unwrap_or(0) as i64);
    match answer {
        Ok(value) => {
            json.key("value");
            json.number(value as u64);
        }
        Err(errno) => {
            json.key("error");
            json.text(error_name(errno).as_bytes());
        }
    }
    json.close(b'}');
    json.end();
    json.failed.is_some() as i32
}

/// None when there is no such call or an argument is missing. What some calls have to tell beyond a number they begin in `json`.
fn attempt(name: &[u8], args: Strings, json: &mut Json) -> Option<Result<usize, Errno>> {
    let text = |index| args.get(index);
    let value = |index| args.bytes(index).and_then(parse);
    Some(match name {
        // Without arguments: a type that no kernel has, so ENODEV to who may mount.
        b"mount" => mount(text(0).unwrap_or(c"none"), text(1).unwrap_or(c"/"), text(2).unwrap_or(c"onggi-no-such-type")),
        b"unshare-user" => plain(number::UNSHARE, [0x1000_0000]),
        b"unshare" => plain(number::UNSHARE, [value(0)?]),
        // NULL of size 0: EINVAL from the call itself, ENOSYS from a filter or an old kernel.
        b"clone3" => plain(number::CLONE3, [0, 0]),
        b"keyctl" => plain(number::KEYCTL, [0, -3isize as usize, 0]),
        b"ptrace" => plain(number::PTRACE, [0, 0, 0, 0]), // PTRACE_TRACEME
        // A wrong magic number: EINVAL to who may reboot. Nobody is.
        b"reboot" => plain(number::REBOOT, [0, 0, 0, 0]),
        b"mknod" => {
            let kind = match args.bytes(1)? {
                b"c" => 0o020000,
                b"b" => 0o060000,
                b"p" => 0o010000,
                _ => return None,
            };
            let (major, minor) = (value(2).unwrap_or(0), value(3).unwrap_or(0));
            with_text(number::MKNODAT, [AT_FDCWD, 0, kind | 0o600, (major & 0xfff) << 8 | minor & 0xff | (minor & !0xff) << 12, 0, 0], 1, text(0)?)
        }
        b"open" => kernel::open(text(0)?, open_flags(args.bytes(1).unwrap_or(b"r"))?),
        b"read" => read(text(0)?, json),
        b"write" => write(text(0)?, args.bytes(1)?),
        b"chroot" => with_text(number::CHROOT, [0; 6], 0, text(0).unwrap_or(c"/")),
        // Without a name: a length below zero, so EINVAL to who may.
        b"sethostname" => match text(0) {
            Some(name) => with_text(number::SETHOSTNAME, [0, name.to_bytes().len(), 0, 0, 0, 0], 0, name),
            None => plain(number::SETHOSTNAME, [0, usize::MAX]),
        },
        b"setuid" => plain(number::SETUID, [value(0)?]),
        b"socket" => plain(number::SOCKET, [family(args.bytes(0)?)?, kind(args.bytes(1).unwrap_or(b"stream"))?, value(2).unwrap_or(0)]),
        b"kill" => plain(number::KILL, [value(0)?, value(1)?]),
        b"bind-port" => bind_port(value(0)?),
        b"io_uring_setup" => fill(number::IO_URING_SETUP, [1, 0, 0, 0, 0, 0], 1, &mut [0u32; 30]),
        b"personality" => plain(number::PERSONALITY, [value(0)?]),
        b"alloc" => alloc(value(0)?),
        b"fork" => fork(value(0)?),
        b"spin" => spin(value(0)? as u64),
        b"setxattr" => setxattr(text(0)?, text(1)?, args.bytes(2)?),
        b"syscall" => {
            let mut numbers = [0; 6];
            for (index, place) in numbers.iter_mut().enumerate() {
                *place = value(index + 1).unwrap_or(0);
            }
            // SAFETY: whoever types a number for a pointer wants to see EFAULT; this process ends right after.
            unsafe { call(value(0)?, numbers) }
        }
        _ => return None,
    })
}

fn mount(source: &CStr, target: &CStr, fstype: &CStr) -> Result<usize, Errno> {
    let all = [source.as_ptr() as usize, target.as_ptr() as usize, fstype.as_ptr() as usize, 0, 0, 0];
    // SAFETY: three live C strings, and NULL for the options.
    unsafe { call(number::MOUNT, all) }
}

fn setxattr(path: &CStr, name: &CStr, value: &[u8]) -> Result<usize, Errno> {
    let all = [path.as_ptr() as usize, name.as_ptr() as usize, value.as_ptr() as usize, value.len(), 0, 0];
    // SAFETY: two live C strings, pointer and length of one live slice.
    unsafe { call(number::SETXATTR, all) }
}

fn open_flags(word: &[u8]) -> Option<usize> {
    Some(match word {
        b"r" => 0,
        b"w" => 1,
        b"rw" => 2,
        _ => return None,
    })
}

/// Reads the file's first 4096 bytes into `text`.
fn read(path: &CStr, json: &mut Json) -> Result<usize, Errno> {
    let mut room = [0u8; 4096];
    let fd = kernel::open(path, 0)?;
    let count = fill(number::READ, [fd, 0, room.len(), 0, 0, 0], 1, &mut room)?;
    json.open(b'{');
    json.key("text");
    json.text(room.get(..count).unwrap_or_default());
    Ok(count)
}

fn write(path: &CStr, bytes: &[u8]) -> Result<usize, Errno> {
    let fd = kernel::open(path, 1)?;
    kernel::write_all(fd, bytes)?;
    Ok(bytes.len())
}

fn family(word: &[u8]) -> Option<usize> {
    Some(match word {
        b"unix" => 1,
        b"inet" => 2,
        b"inet6" => 10,
        b"netlink" => 16,
        b"packet" => 17,
        b"alg" => 38,
        b"vsock" => 40,
        number => parse(number)?,
    })
}

fn kind(word: &[u8]) -> Option<usize> {
    Some(match word {
        b"stream" => 1,
        b"dgram" => 2,
        b"raw" => 3,
        number => parse(number)?,
    })
}

fn bind_port(port: usize) -> Result<usize, Errno> {
    let socket = plain(number::SOCKET, [2, 1, 0])?;
    // struct sockaddr_in: the family in this machine's byte order, the port in the network's, 0.0.0.0.
    let [high, low] = (port as u16).to_be_bytes();
    let mut address = [2, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0u8];
    fill(number::BIND, [socket, 0, address.len(), 0, 0, 0], 1, &mut address)
}

/// Takes memory and touches each page of it: MiB that were got.
fn alloc(mib: usize) -> Result<usize, Errno> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
    for _ in 0..mib {
        let address = plain(number::MMAP, [0, 1 << 20, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, usize::MAX, 0])?;
        for page in 0..256 {
            // SAFETY: within the megabyte that the kernel just gave.
            unsafe { ((address + page * 4096) as *mut u8).write_volatile(1) };
        }
    }
    Ok(mib)
}

/// Makes children that sleep, as many as it may up to `count`, and ends them again: how many there were at once.
fn fork(count: usize) -> Result<usize, Errno> {
    let address = plain(number::MMAP, [0, (count + 1) * 8, 3, 0x22, usize::MAX, 0])?;
    let children = address as *mut usize;
    let mut made = 0;
    let mut refused = None;
    while made < count && refused.is_none() {
        match kernel::fork() {
            Ok(0) => sleep_until_killed(),
            Ok(pid) => {
                // SAFETY: room for `count` numbers was mapped above.
                unsafe { children.add(made).write(pid) };
                made += 1;
            }
            Err(errno) => refused = Some(errno),
        }
    }
    for index in 0..made {
        // SAFETY: written above.
        let pid = unsafe { children.add(index).read() };
        let _ = plain(number::KILL, [pid, 9]);
        let _ = plain(number::WAIT4, [pid, 0, 0, 0]);
    }
    match refused {
        Some(errno) if made == 0 => Err(errno),
        _ => Ok(made),
    }
}

fn sleep_until_killed() -> ! {
    const PR_SET_PDEATHSIG: usize = 1;
    let _ = plain(number::PRCTL, [PR_SET_PDEATHSIG, 9]);
    let nothing = 0u64;
    loop {
        // SAFETY: a live, empty set; no siginfo and no time limit: waits for ever.
        let _ = unsafe { call(number::RT_SIGTIMEDWAIT, [&raw const nothing as usize, 0, 0, 8, 0, 0]) };
    }
}

/// Burns the processor for `ms` milliseconds of real time: how many of processor time it got.
fn spin(ms: u64) -> Result<usize, Errno> {
    const CLOCK_MONOTONIC: usize = 1;
    const CLOCK_PROCESS_CPUTIME_ID: usize = 2;
    let end = clock(CLOCK_MONOTONIC)? + ms * 1_000_000;
    while clock(CLOCK_MONOTONIC)? < end {
        for _ in 0..10_000 {
            core::hint::black_box(());
        }
    }
    Ok((clock(CLOCK_PROCESS_CPUTIME_ID)? / 1_000_000) as usize)
}

/// A clock in nanoseconds.
pub fn clock(id: usize) -> Result<u64, Errno> {
    let mut time = [0u64; 2];
    fill(number::CLOCK_GETTIME, [id, 0, 0, 0, 0, 0], 1, &mut time)?;
    Ok(time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1]))
}

/// The name of an errno that a container's walls answer with; the rest is in the number.
pub fn error_name(errno: Errno) -> &'static str {
    match errno {
        1 => "EPERM",
        2 => "ENOENT",
        3 => "ESRCH",
        5 => "EIO",
        6 => "ENXIO",
        7 => "E2BIG",
        8 => "ENOEXEC",
        9 => "EBADF",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        17 => "EEXIST",
        19 => "ENODEV",
        20 => "ENOTDIR",
        21 => "EISDIR",
        EINVAL => "EINVAL",
        24 => "EMFILE",
        26 => "ETXTBSY",
        28 => "ENOSPC",
        30 => "EROFS",
        38 => "ENOSYS",
        40 => "ELOOP",
        93 => "EPROTONOSUPPORT",
        95 => "EOPNOTSUPP",
        97 => "EAFNOSUPPORT",
        98 => "EADDRINUSE",
        126 => "ENOKEY",
        _ => "see errno(3)",
    }
}
