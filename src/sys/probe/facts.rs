//! `probe facts`: what a process can know about the place in which it runs, as one JSON object.
//!
//! Each fact comes from a system call or a file of `/proc`, read now, by this process. Where `/proc` is missing, the facts that only it
//! has are `null`, and the others are there all the same.
//!
//! See it: `onggi run --rm base probe`. Read: proc(5), proc_pid_status(5), proc_pid_mountinfo(5), namespaces(7), credentials(7).

use core::ffi::CStr;

use crate::Start;
use crate::json::Json;
use crate::kernel::{self, File, fill, number, plain};
use crate::try_call::clock;

/// Prints the facts; `blocked` is the signal mask that this process was started with. Answers 1 when nobody reads.
pub fn print(start: Start, blocked: u64) -> i32 {
    let mut json = Json::new();
    let j = &mut json;
    j.open(b'{');
    identity(j);
    uts(j);
    started_with(j, start);
    namespaces(j);
    privileges(j);
    descriptors(j);
    limits(j);
    lines(j, "cgroup", c"/proc/self/cgroup");
    mounts(j);
    user_namespace(j);
    terminals(j);
    scheduling(j);
    time(j);
    keyring(j);
    signals(j, blocked);
    line(j, "boot_id", c"/proc/sys/kernel/random/boot_id");
    line(j, "label", c"/proc/self/attr/current");
    j.close(b'}');
    j.end();
    j.failed.is_some() as i32
}

/// A key with a number that a call answered, or null.
fn answer(j: &mut Json, key: &str, answer: Result<usize, kernel::Errno>) {
    j.key(key);
    match answer {
        Ok(value) => j.number(value as u64),
        Err(_) => j.null(),
    }
}

fn identity(j: &mut Json) {
    answer(j, "pid", plain(number::GETPID, []));
    answer(j, "ppid", plain(number::GETPPID, []));
    answer(j, "sid", plain(number::GETSID, [0]));
    answer(j, "pgid", plain(number::GETPGID, [0]));
    let calls = [
        (number::GETRESUID, number::SETFSUID, ["uid", "euid", "suid", "fsuid"]),
        (number::GETRESGID, number::SETFSGID, ["gid", "egid", "sgid", "fsgid"]),
    ];
    for (three, fs, [real, effective, saved, file]) in calls {
        let mut ids = [u32::MAX; 3];
        let at = &raw mut ids as usize;
        // SAFETY: three pointers into one live array.
        let _ = unsafe { kernel::call(three, [at, at + 4, at + 8, 0, 0, 0]) };
        for (key, id) in [real, effective, saved].into_iter().zip(ids) {
            j.key(key);
            j.number(id as u64);
        }
        // An impossible id changes nothing; the answer is the present one (setfsuid(2)).
        answer(j, file, plain(fs, [u32::MAX as usize]).map(|id| id as u32 as usize));
    }
    j.key("groups");
    j.open(b'[');
    // 65536 is the kernel's NGROUPS_MAX.
    let count = plain(number::GETGROUPS, [0, 0]).unwrap_or(0);
    if let Ok(address) = plain(number::MMAP, [0, (count + 1) * 4, 3, 0x22, usize::MAX, 0]) {
        let count = plain(number::GETGROUPS, [count, address]).unwrap_or(0);
        for index in 0..count {
            // SAFETY: the kernel wrote `count` numbers into the mapping made for them.
            j.number(unsafe { *(address as *const u32).add(index) } as u64);
        }
    }
    j.close(b']');
    // umask(2) can only be read by setting it.
    let mask = plain(number::UMASK, [0o022]).unwrap_or(0);
    let _ = plain(number::UMASK, [mask]);
    j.key("umask");
    j.text(&[b'0', b'0' + (mask >> 6 & 7) as u8, b'0' + (mask >> 3 & 7) as u8, b'0' + (mask & 7) as u8]);
}

fn uts(j: &mut Json) {
    let mut names = [[0u8; 65]; 6];
    let _ = fill(number::UNAME, [0; 6], 0, &mut names);
    for (key, name) in ["sysname", "hostname", "release", "version", "machine", "domainname"].into_iter().zip(&names) {
        j.key(key);
        j.text(name.split(|&b| b == 0).next().unwrap_or_default());
    }
}

fn started_with(j: &mut Json, start: Start) {
    let mut room = [0u8; 4096];
    j.key("cwd");
    match fill(number::GETCWD, [0, room.len(), 0, 0, 0, 0], 0, &mut room) {
        Ok(length) => j.text(room.get(..length.saturating_sub(1)).unwrap_or_default()),
        Err(_) => j.null(),
    }
    link(j, "exe", c"/proc/self/exe");
    for (key, strings) in [("argv", start.argv), ("env", start.env)] {
        j.key(key);
        j.open(b'[');
        for text in strings.iter() {
            j.text(text.to_bytes());
        }
        j.close(b']');
    }
}

fn namespaces(j: &mut Json) {
    j.key("namespaces");
    j.open(b'{');
    link(j, "cgroup", c"/proc/self/ns/cgroup");
    link(j, "ipc", c"/proc/self/ns/ipc");
    link(j, "mnt", c"/proc/self/ns/mnt");
    link(j, "net", c"/proc/self/ns/net");
    link(j, "pid", c"/proc/self/ns/pid");
    link(j, "pid_for_children", c"/proc/self/ns/pid_for_children");
    link(j, "time", c"/proc/self/ns/time");
    link(j, "time_for_children", c"/proc/self/ns/time_for_children");
    link(j, "user", c"/proc/self/ns/user");
    link(j, "uts", c"/proc/self/ns/uts");
    j.close(b'}');
    j.key("nspid");
    numbers_of_status(j, b"NSpid:");
}

fn privileges(j: &mut Json) {
    const PR_CAPBSET_READ: usize = 23;
    const PR_CAP_AMBIENT: usize = 47;
    const PR_CAP_AMBIENT_IS_SET: usize = 1;
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 reads the header and writes two structs of three u32, all live.
    let _ = unsafe { kernel::call(number::CAPGET, [&raw const header as usize, &raw mut data as usize, 0, 0, 0, 0]) };
    let join = |at: usize| data.get(at).copied().unwrap_or(0) as u64 | (data.get(at + 3).copied().unwrap_or(0) as u64) << 32;
    let each = |ask: &dyn Fn(usize) -> Result<usize, kernel::Errno>| (0..64).filter(|&cap| ask(cap) == Ok(1)).fold(0u64, |set, cap| set | 1 << cap);
    j.key("capabilities");
    j.open(b'{');
    for (key, set) in [
        ("inheritable", join(2)),
        ("permitted", join(1)),
        ("effective", join(0)),
        ("bounding", each(&|cap| plain(number::PRCTL, [PR_CAPBSET_READ, cap]))),
        ("ambient", each(&|cap| plain(number::PRCTL, [PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0]))),
    ] {
        j.key(key);
        j.hex(set);
    }
    j.close(b'}');
    answer(j, "no_new_privs", plain(number::PRCTL, [39, 0, 0, 0, 0]));
    answer(j, "securebits", plain(number::PRCTL, [27]));
    answer(j, "dumpable", plain(number::PRCTL, [3]));
    answer(j, "subreaper", read_int(|room| fill(number::PRCTL, [37, 0, 0, 0, 0, 0], 1, room)));
    answer(j, "parent_death_signal", read_int(|room| fill(number::PRCTL, [2, 0, 0, 0, 0, 0], 1, room)));
    j.key("seccomp");
    number_of_status(j, b"Seccomp:");
    j.key("seccomp_filters");
    number_of_status(j, b"Seccomp_filters:");
    answer(j, "personality", plain(number::PERSONALITY, [u32::MAX as usize]));
    j.key("oom_score_adj");
    match File::open(c"/proc/self/oom_score_adj") {
        Ok(mut file) => signed(j, &mut file),
        Err(_) => j.null(),
    }
}

fn read_int(ask: impl FnOnce(&mut i32) -> Result<usize, kernel::Errno>) -> Result<usize, kernel::Errno> {
    let mut value = 0i32;
    ask(&mut value).map(|_| value as usize)
}

/// The open descriptors and what they are open on; the one that this very look opens is left out.
fn descriptors(j: &mut Json) {
    const O_DIRECTORY: usize = if cfg!(target_arch = "x86_64") { 0o200000 } else { 0o40000 };
    const F_GETFD: usize = 1;
    j.key("fds");
    j.open(b'{');
    let Ok(dir) = kernel::open(c"/proc/self/fd", O_DIRECTORY) else {
        // Without /proc the numbers can be asked for one by one, their names not.
        for fd in (0..4096).filter(|&fd| plain(number::FCNTL, [fd, F_GETFD]).is_ok()) {
            decimal_key(j, fd);
            j.null();
        }
        return j.close(b'}');
    };
    let mut entries = [0u8; 4096];
    while let Ok(length @ 1..) = fill(number::GETDENTS64, [dir, 0, entries.len(), 0, 0, 0], 1, &mut entries) {
        let mut rest = entries.get(..length).unwrap_or_default();
        // struct linux_dirent64: inode 8, offset 8, length of this entry 2, type 1, name.
        while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, _, name @ ..] = rest {
            let entry = u16::from_le_bytes([*low, *high]) as usize;
            let name = name.split(|&b| b == 0).next().unwrap_or_default();
            if let Some(fd) = crate::parse(name).filter(|&fd| fd != dir) {
                decimal_key(j, fd);
                let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
                for (place, &byte) in path.iter_mut().skip(14).zip(name) {
                    *place = byte;
                }
                let mut room = [0u8; 4096];
                match CStr::from_bytes_until_nul(&path).map(|path| kernel::read_link(path, &mut room)) {
                    Ok(Ok(target)) => j.text(target),
                    _ => j.null(),
                }
            }
            rest = rest.get(entry.max(1)..).unwrap_or_default();
        }
    }
    j.close(b'}');
    let _ = plain(number::CLOSE, [dir]);
}

fn decimal_key(j: &mut Json, number: usize) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    while at > 0 && (rest > 0 || at == digits.len()) {
        at -= 1;
        if let Some(place) = digits.get_mut(at) {
            *place = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
    }
    j.key(core::str::from_utf8(digits.get(at..).unwrap_or_default()).unwrap_or_default());
}

fn limits(j: &mut Json) {
    // In the order of the kernel's numbers, 0 to 15 (the same on both machines).
    let names = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME";
    j.key("rlimits");
    j.open(b'{');
    for (resource, name) in names.split(' ').enumerate() {
        let mut limit = [0u64; 2];
        let answered = fill(number::PRLIMIT64, [0, resource, 0, 0, 0, 0], 3, &mut limit);
        j.key(name);
        if answered.is_err() {
            j.null();
            continue;
        }
        j.open(b'{');
        j.key("soft");
        j.number(limit[0]);
        j.key("hard");
        j.number(limit[1]);
        j.close(b'}');
    }
    j.close(b'}');
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, field by field.
fn mounts(j: &mut Json) {
    j.key("mounts");
    let Ok(mut file) = File::open(c"/proc/self/mountinfo") else { return j.null() };
    j.open(b'[');
    while file.peek().is_some() {
        j.open(b'{');
        for key in ["id", "parent"] {
            j.key(key);
            signed(j, &mut file);
        }
        for key in ["device", "root", "point", "options"] {
            j.key(key);
            field(j, &mut file);
        }
        j.key("optional");
        j.open(b'[');
        // As many as there are, up to a lone dash.
        while !matches!(file.peek(), Some(b'-' | b'\n') | None) {
            field(j, &mut file);
        }
        j.close(b']');
        while !matches!(file.peek(), Some(b' ' | b'\n') | None) {
            file.next();
        }
        file.next();
        for key in ["fstype", "source", "super_options"] {
            j.key(key);
            field(j, &mut file);
        }
        while !matches!(file.next(), Some(b'\n') | None) {}
        j.close(b'}');
    }
    j.close(b']');
}

/// One word up to a blank, which is eaten, or the line's end, which is not. The kernel writes blanks in names as `\040`.
fn field(j: &mut Json, file: &mut File) {
    j.begin();
    loop {
        match file.peek() {
            None | Some(b'\n') => break,
            Some(b' ') => {
                file.next();
                break;
            }
            Some(b'\\') => {
                file.next();
                let mut byte = 0u8;
                for _ in 0..3 {
                    byte = byte << 3 | file.next().unwrap_or(b'0') & 7;
                }
                j.byte(byte);
            }
            Some(byte) => {
                file.next();
                j.byte(byte);
            }
        }
    }
    j.finish();
}

fn user_namespace(j: &mut Json) {
    for (key, path) in [("uid_map", c"/proc/self/uid_map"), ("gid_map", c"/proc/self/gid_map"), ("timens_offsets", c"/proc/self/timens_offsets")] {
        let named = key == "timens_offsets";
        j.key(key);
        let Ok(mut file) = File::open(path) else {
            j.null();
            continue;
        };
        j.open(b'[');
        while file.peek().is_some() {
            j.open(b'[');
            if named {
                field(j, &mut file);
            }
            while !matches!(file.peek(), Some(b'\n') | None) {
                if file.peek() == Some(b' ') {
                    file.next();
                } else {
                    signed(j, &mut file);
                }
            }
            file.next();
            j.close(b']');
        }
        j.close(b']');
    }
    line(j, "setgroups", c"/proc/self/setgroups");
}

/// The terminals behind descriptors 0, 1 and 2; null for what is none.
fn terminals(j: &mut Json) {
    const TCGETS: usize = 0x5401;
    const TIOCGPGRP: usize = 0x540f;
    const TIOCGWINSZ: usize = 0x5413;
    j.key("tty");
    j.open(b'[');
    for fd in 0..3 {
        if fill(number::IOCTL, [fd, TCGETS, 0, 0, 0, 0], 2, &mut [0u8; 64]).is_err() {
            j.null();
            continue;
        }
        let mut size = [0u16; 4];
        let _ = fill(number::IOCTL, [fd, TIOCGWINSZ, 0, 0, 0, 0], 2, &mut size);
        j.open(b'{');
        j.key("rows");
        j.number(size[0] as u64);
        j.key("columns");
        j.number(size[1] as u64);
        // Only of the controlling terminal (ENOTTY otherwise).
        answer(j, "foreground", read_int(|room| fill(number::IOCTL, [fd, TIOCGPGRP, 0, 0, 0, 0], 2, room)));
        j.close(b'}');
    }
    j.close(b']');
}

fn scheduling(j: &mut Json) {
    // struct sched_attr: size, policy, flags (two words), nice, priority, then runtime, deadline, period of two words each.
    let mut attr = [0u32; 14];
    let length = size_of_val(&attr);
    let known = fill(number::SCHED_GETATTR, [0, 0, length, 0, 0, 0], 1, &mut attr).is_ok();
    j.key("scheduler");
    if known {
        j.open(b'{');
        j.key("policy");
        j.number(attr[1] as u64);
        j.key("nice");
        j.signed(attr[4] as i32 as i64);
        j.key("priority");
        j.number(attr[5] as u64);
        j.close(b'}');
    } else {
        j.null();
    }
    const IOPRIO_WHO_PROCESS: usize = 1;
    j.key("ioprio");
    match plain(number::IOPRIO_GET, [IOPRIO_WHO_PROCESS, 0]) {
        Ok(value) => {
            j.open(b'{');
            j.key("class");
            j.number((value >> 13) as u64);
            j.key("level");
            j.number((value & 7) as u64);
            j.close(b'}');
        }
        Err(_) => j.null(),
    }
    let mut set = [0u64; 128];
    let length = fill(number::SCHED_GETAFFINITY, [0, size_of_val(&set), 0, 0, 0, 0], 2, &mut set).unwrap_or(0);
    j.key("cpus");
    bits(j, set.get(..length / 8).unwrap_or_default());
    let mut nodes = [0u64; 16];
    let mut mode = 0u32;
    // SAFETY: an int and a set of 1024 bits, both live; no address is asked about.
    let policy = unsafe { kernel::call(number::GET_MEMPOLICY, [&raw mut mode as usize, &raw mut nodes as usize, 1024, 0, 0, 0]) };
    j.key("memory_policy");
    if policy.is_ok() {
        j.open(b'{');
        j.key("mode");
        j.number(mode as u64);
        j.key("nodes");
        bits(j, &nodes);
        j.close(b'}');
    } else {
        j.null();
    }
}

/// The numbers of the bits that are set.
fn bits(j: &mut Json, words: &[u64]) {
    j.open(b'[');
    for (index, word) in words.iter().enumerate() {
        for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
            j.number((index * 64 + bit) as u64);
        }
    }
    j.close(b']');
}

fn time(j: &mut Json) {
    j.key("clocks");
    j.open(b'{');
    for (key, id) in [("realtime", 0), ("monotonic", 1), ("boottime", 7)] {
        answer(j, key, clock(id).map(|ns| ns as usize));
    }
    j.close(b'}');
}

/// The session keyring: its serial number and description (`keyring;0;0;3f1b0000;onggi-web1`).
fn keyring(j: &mut Json) {
    const KEYCTL_GET_KEYRING_ID: usize = 0;
    const KEYCTL_DESCRIBE: usize = 6;
    const KEY_SPEC_SESSION_KEYRING: usize = -3isize as usize;
    let mut room = [0u8; 4096];
    let serial = plain(number::KEYCTL, [KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0]);
    let described = fill(number::KEYCTL, [KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, 0, room.len(), 0, 0], 2, &mut room);
    j.key("keyring");
    j.open(b'{');
    answer(j, "serial", serial);
    j.key("description");
    match described {
        Ok(length @ 1..) => j.text(room.get(..length - 1).unwrap_or_default()),
        _ => j.null(),
    }
    j.close(b'}');
}

fn signals(j: &mut Json, blocked: u64) {
    j.key("signals");
    j.open(b'{');
    j.key("blocked");
    j.hex(blocked);
    for (key, name) in [("ignored", b"SigIgn:"), ("caught", b"SigCgt:")] {
        j.key(key);
        match status(name) {
            Some(mut file) => j.line(&mut file),
            None => j.null(),
        }
    }
    j.close(b'}');
}

fn link(j: &mut Json, key: &str, path: &CStr) {
    let mut room = [0u8; 4096];
    j.key(key);
    match kernel::read_link(path, &mut room) {
        Ok(target) => j.text(target),
        Err(_) => j.null(),
    }
}

/// The file's first line.
fn line(j: &mut Json, key: &str, path: &CStr) {
    j.key(key);
    // A security module that is off lets its file be opened, and not read.
    match File::open(path).map(|mut file| file.peek().map(|_| file)) {
        Ok(Some(mut file)) => j.line(&mut file),
        _ => j.null(),
    }
}

fn lines(j: &mut Json, key: &str, path: &CStr) {
    j.key(key);
    let Ok(mut file) = File::open(path) else { return j.null() };
    j.open(b'[');
    while file.peek().is_some() {
        j.line(&mut file);
    }
    j.close(b']');
}

/// `/proc/self/status`, read up to the value of the line that begins with `key`.
fn status(key: &[u8]) -> Option<File> {
    let mut file = File::open(c"/proc/self/status").ok()?;
    let mut matched = 0;
    let mut line_start = true;
    loop {
        let byte = file.next()?;
        if line_start || matched > 0 {
            matched = if key.get(matched) == Some(&byte) { matched + 1 } else { 0 };
        }
        line_start = byte == b'\n';
        if matched == key.len() {
            while file.peek() == Some(b'\t') {
                file.next();
            }
            return Some(file);
        }
    }
}

fn number_of_status(j: &mut Json, key: &[u8]) {
    match status(key) {
        Some(mut file) => signed(j, &mut file),
        None => j.null(),
    }
}

fn numbers_of_status(j: &mut Json, key: &[u8]) {
    let Some(mut file) = status(key) else { return j.null() };
    j.open(b'[');
    while !matches!(file.peek(), Some(b'\n') | None) {
        signed(j, &mut file);
    }
    j.close(b']');
}

/// A number up to a blank, which is eaten, or the line's end, which is not.
fn signed(j: &mut Json, file: &mut File) {
    let negative = file.peek() == Some(b'-');
    if negative {
        file.next();
    }
    let mut value = 0i64;
    while let Some(digit @ b'0'..=b'9') = file.peek() {
        value = value.wrapping_mul(10).wrapping_add((digit - b'0') as i64);
        file.next();
    }
    if matches!(file.peek(), Some(byte) if byte != b'\n') {
        file.next();
    }
    j.signed(if negative { -value } else { value });
}
