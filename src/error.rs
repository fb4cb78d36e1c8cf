//! The story of a failure: what was being done, what the answer was, what to try next.
//!
//! Two types in all. [`SysError`] is the fact (a system call, its arguments, its errno); [`Error`] is the story around it.
//! An error prints as a question, an answer and a hint:
//!
//! ```text
//! onggi: cannot isolate the mounts of web1
//!   mount(none, /, NULL, MS_REC|MS_PRIVATE, NULL) = EPERM: operation not permitted
//!   hint: this user namespace does not own the mount namespace; run `onggi doctor`
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::sys::call::SysError;

/// What went wrong in kind. It decides the exit code of the command and the status of an HTTP answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The named thing does not exist.
    NotFound,
    /// The input (arguments, config, file) is wrong.
    Invalid,
    /// The state of things forbids it (name taken, container not running).
    Conflict,
    /// The caller may not.
    Denied,
    /// This kernel or host can't, or we don't.
    Unsupported,
    /// The kernel said no, and the input was fine.
    System,
    /// Somebody pressed Ctrl-C: exit code 130.
    Interrupted,
    /// The container's command does not exist: exit code 127.
    CommandNotFound,
    /// The container's command exists but can't be executed: exit code 126.
    CommandNotRunnable,
}

/// The answer to "why not?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A system call's own answer.
    Sys(SysError),
    /// A reason in words.
    Said(String),
}

/// A failure, told so that its reader knows what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    pub class: Class,
    /// What could not be done, as the words after "cannot": `isolate the mounts of web1`.
    pub doing: String,
    pub cause: Option<Box<Cause>>,
    pub hint: Option<String>,
}

/// `Result` with our [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure with its reason in words.
    pub fn new(class: Class, doing: impl Into<String>, why: impl Into<String>) -> Error {
        let why = why.into();
        let cause = (!why.is_empty()).then(|| Box::new(Cause::Said(why)));
        Error { class, doing: doing.into(), cause, hint: None }
    }

    /// Bad input, named by `doing`.
    pub fn invalid(doing: impl Into<String>, why: impl Into<String>) -> Error {
        Error::new(Class::Invalid, doing, why)
    }

    /// A failure that a system call told us of.
    pub fn sys(doing: impl Into<String>, cause: SysError) -> Error {
        let class = match cause.errno() {
            nix::errno::Errno::EPERM | nix::errno::Errno::EACCES => Class::Denied,
            nix::errno::Errno::ENOSYS => Class::Unsupported,
            _ => Class::System,
        };
        Error { class, doing: doing.into(), cause: Some(Box::new(Cause::Sys(cause))), hint: None }
    }

    /// A failure that the standard library told us of.
    pub fn io(doing: impl Into<String>, e: &std::io::Error) -> Error {
        let class = match e.kind() {
            std::io::ErrorKind::NotFound => Class::NotFound,
            std::io::ErrorKind::PermissionDenied => Class::Denied,
            _ => Class::System,
        };
        Error::new(class, doing, said(e))
    }

    /// The same failure with a word on what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure in another class.
    pub fn class(mut self, class: Class) -> Error {
        self.class = class;
        self
    }

    /// The exit code that Docker's commands use for a failure of this kind (docker run(1), "Exit status").
    pub fn exit_code(&self) -> u8 {
        match self.class {
            Class::Interrupted => 130,
            Class::CommandNotFound => 127,
            Class::CommandNotRunnable => 126,
            _ => 125,
        }
    }

    /// The whole story on one line, for `--log` records and runc's callers.
    pub fn one_line(&self) -> String {
        let mut line = format!("cannot {}", self.doing);
        if let Some(cause) = &self.cause {
            line.push_str(&format!(": {cause}"));
        }
        if let Some(hint) = &self.hint {
            line.push_str(&format!(" (hint: {hint})"));
        }
        line
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Sys(fact) => write!(f, "{fact}"),
            Cause::Said(why) => write!(f, "{why}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.doing)?;
        if let Some(cause) = &self.cause {
            write!(f, "\n  {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Turns a fact into a story: `mount(…).doing(|| "isolate the mounts".into())?`.
pub trait Doing<T> {
    /// Says what was being done when the call failed; the words follow "cannot".
    fn doing(self, story: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for Result<T, SysError> {
    fn doing(self, story: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|fact| Error::sys(story(), fact))
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, story: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::io(story(), &e))
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, story: impl FnOnce() -> String) -> Result<T> {
        self.map_err(std::io::Error::from).doing(story)
    }
}

/// An I/O error as `EACCES: permission denied` when the kernel said it, in its own words otherwise.
fn said(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(number) => crate::sys::call::errno_text(nix::errno::Errno::from_raw(number)),
        None => e.to_string(),
    }
}
