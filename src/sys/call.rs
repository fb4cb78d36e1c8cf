//! The one door through which every system call that makes or enters a container goes.
//!
//! A call through this door leaves three traces: an error that knows its name and arguments ([`SysError`]); when somebody
//! listens, an [`Event`] (`--explain`, the REPL, the web page); and in debug builds a place where the tests can make it fail or
//! die ([`fault`](self)). When nobody listens it costs one atomic load.
//!
//! See it: `onggi run --explain --rm base true`. Read: intro(2), errno(3).

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// A system call that failed: its name, its arguments as the man page writes them, and the kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysError {
    pub call: Cow<'static, str>,
    pub args: String,
    errno: i32,
}

impl SysError {
    /// The fact that `call(args)` gave `errno`.
    pub fn new(call: impl Into<Cow<'static, str>>, args: impl Into<String>, errno: Errno) -> SysError {
        SysError { call: call.into(), args: args.into(), errno: errno as i32 }
    }

    /// The kernel's answer.
    pub fn errno(&self) -> Errno {
        Errno::from_raw(self.errno)
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}) = {}", self.call, self.args, errno_text(self.errno()))
    }
}

impl std::error::Error for SysError {}

/// `EPERM: operation not permitted`
pub fn errno_text(errno: Errno) -> String {
    let words = errno.desc();
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => format!("{errno:?}: {}{}", first.to_lowercase(), letters.as_str()),
        None => format!("{errno:?}"),
    }
}

/// `Result` of a thin system call.
pub type SysResult<T> = Result<T, SysError>;

/// Why the next calls are made, in one line for a beginner, and where their effect can be seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Reason {
    /// A stable name, `rootfs.pivot`.
    pub id: &'static str,
    pub en: &'static str,
    pub ko: &'static str,
    /// A file or a command; `{P}` stands for the container's PID on the host.
    pub see: &'static str,
}

/// One system call, just answered.
#[derive(Debug)]
pub struct Event<'a> {
    pub call: &'static str,
    pub args: &'a str,
    pub result: Result<i64, Errno>,
    pub reason: Option<&'static Reason>,
}

type Observer = fn(&Event);
static OBSERVER: OnceLock<Observer> = OnceLock::new();

thread_local! {
    static REASON: Cell<Option<&'static Reason>> = const { Cell::new(None) };
}

/// From here on, every call in this process (and the children that it clones) is told to `observer`.
pub fn observe(observer: Observer) {
    let _ = OBSERVER.set(observer);
}

/// The calls that follow on this thread are made for this reason.
pub fn because(reason: &'static Reason) {
    REASON.set(Some(reason));
}

/// Makes a system call through the door. `raw` is the call (−1 and errno when it fails, as libc does); `args` writes its arguments
/// out and is only called for an error or a listener.
///
/// # Errors
/// Whatever the kernel answers.
pub fn call(name: &'static str, args: impl Fn() -> String, raw: impl FnOnce() -> libc::c_long) -> SysResult<i64> {
    let answer = match fault::before(name) {
        Some(injected) => Err(injected),
        // EINTR is not retried here: a caller that may be interrupted says so itself.
        None => match raw() {
            -1 => Err(Errno::last()),
            value => Ok(value),
        },
    };
    if let Some(observer) = OBSERVER.get() {
        observer(&Event { call: name, args: &args(), result: answer, reason: REASON.get() });
    }
    answer.map_err(|errno| SysError::new(name, args(), errno))
}

/// Makes a chosen call fail or kill its process, so that the tests can stand at every step of a container's creation.
/// `ONGGI_FAULT=init:12=EIO` fails the twelfth call of the process that plays `init`; `=kill` ends the process before it.
/// Debug builds only: a release build has no such door.
pub mod fault {
    use nix::errno::Errno;
    #[cfg(debug_assertions)]
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Which part this process plays from now on: `create`, `stage`, `init`, `start`, `exec`, `delete`.
    #[cfg(not(debug_assertions))]
    pub fn role(_name: &'static str) {}
    #[cfg(not(debug_assertions))]
    pub(super) fn before(_call: &str) -> Option<Errno> {
        None
    }

    #[cfg(debug_assertions)]
    static COUNT: AtomicU64 = AtomicU64::new(0);
    #[cfg(debug_assertions)]
    static ROLE: std::sync::Mutex<&'static str> = std::sync::Mutex::new("create");
    /// Opened before the root changes, after which its path means nothing.
    #[cfg(debug_assertions)]
    static LOG: std::sync::OnceLock<Option<std::fs::File>> = std::sync::OnceLock::new();

    /// Which part this process plays from now on: `create`, `stage`, `init`, `start`, `exec`, `delete`, `ground`. Starts its count anew.
    #[cfg(debug_assertions)]
    pub fn role(name: &'static str) {
        *ROLE.lock().unwrap_or_else(|e| e.into_inner()) = name;
        COUNT.store(0, Ordering::Relaxed);
        log();
    }

    #[cfg(debug_assertions)]
    fn log() -> Option<&'static std::fs::File> {
        let open = || std::fs::OpenOptions::new().append(true).create(true).open(std::env::var_os("ONGGI_FAULT_LOG")?).ok();
        LOG.get_or_init(open).as_ref()
    }

    /// The log's descriptor, for who closes all others.
    pub fn output() -> Option<std::os::fd::BorrowedFd<'static>> {
        #[cfg(debug_assertions)]
        return log().map(std::os::fd::AsFd::as_fd);
        #[cfg(not(debug_assertions))]
        None
    }

    #[cfg(debug_assertions)]
    pub(super) fn before(call: &str) -> Option<Errno> {
        let plan = std::env::var("ONGGI_FAULT").ok()?;
        let (place, what) = plan.split_once('=')?;
        let (role, number) = place.split_once(':')?;
        if role != *ROLE.lock().unwrap_or_else(|e| e.into_inner()) {
            return None;
        }
        if COUNT.fetch_add(1, Ordering::Relaxed) + 1 != number.parse::<u64>().ok()? {
            return None;
        }
        if let Some(mut file) = log() {
            use std::io::Write;
            let _ = writeln!(file, "{role} {number} {call} {what}");
        }
        if what == "kill" {
            // Not by a signal: a container's first process is PID 1, and spared those that it sends to itself.
            super::super::process::exit_now(128 + libc::SIGKILL);
        }
        Some(match what {
            "EPERM" => Errno::EPERM,
            "ENOSPC" => Errno::ENOSPC,
            _ => Errno::EIO,
        })
    }
}
