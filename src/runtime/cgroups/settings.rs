//! One limit is one file and the text to write into it. v1 and v2 make lists of these from a config; here they are written, and a
//! refusal by the kernel is put into words.
//!
//! See it: `grep -r . /sys/fs/cgroup/onggi/web1 2>/dev/null`. Read: cgroup-v2.rst ("Interface Files").

use std::path::Path;

use nix::errno::Errno;

use crate::error::{Class, Error, Result, SysError};
use crate::sys::fs;

/// `value` for the file `file` of a group's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub file: String,
    pub value: String,
    pub absent: Absent,
}

/// What it means when the group has no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The limit can't be had.
    Fail,
    /// Nothing: without the file, things are as the value says.
    Same,
    /// The limit has another file and form on this kernel.
    Instead(Box<Setting>),
}

impl Setting {
    pub fn new(file: impl Into<String>, value: impl ToString) -> Setting {
        Setting { file: file.into(), value: value.to_string(), absent: Absent::Fail }
    }

    pub fn if_absent(mut self, absent: Absent) -> Setting {
        self.absent = absent;
        self
    }

    /// `memory` of `memory.max`; cgroup's own files belong to no controller.
    pub fn controller(&self) -> Option<&str> {
        let name = self.file.split('.').next()?;
        (name != "cgroup").then_some(name)
    }
}

/// Writes one setting into the group `dir`.
///
/// # Errors
/// The kernel's refusal, told in terms of the limit.
pub fn set(dir: &Path, setting: &Setting) -> Result<()> {
    match fs::write(&dir.join(&setting.file), &setting.value) {
        Err(e) if e.errno() == Errno::ENOENT => match &setting.absent {
            Absent::Same => Ok(()),
            Absent::Instead(other) => set(dir, other),
            Absent::Fail => Err(refused(dir, setting, e)),
        },
        Err(e) => Err(refused(dir, setting, e)),
        Ok(()) => Ok(()),
    }
}

/// The number in a file such as `memory.current`; `max` is [`u64::MAX`].
pub fn number(dir: &Path, file: &str) -> Option<u64> {
    match std::fs::read_to_string(dir.join(file)).ok()?.trim() {
        "max" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

fn refused(dir: &Path, setting: &Setting, fact: SysError) -> Error {
    let Setting { file, value, .. } = setting;
    let errno = fact.errno();
    let error = Error::sys(format!("set {file} to {value:?}"), fact);
    match errno {
        Errno::ENOENT => missing(dir, setting, error),
        Errno::EBUSY if file.starts_with("memory.") => {
            let used = number(dir, "memory.usage_in_bytes").or_else(|| number(dir, "memory.current"));
            error.class(Class::Conflict).hint(format!(
                "the container uses {} bytes, and the kernel could not push it below the new limit; stop something in it or set a higher one",
                used.map_or("more".into(), |bytes| bytes.to_string())
            ))
        }
        Errno::EINVAL if file.starts_with("cpu.rt_") => {
            error.class(Class::Invalid).hint("real-time needs a share in every group above: see cpu.rt_runtime_us of the parents")
        }
        Errno::EINVAL if file.starts_with("memory.memsw") => {
            error.class(Class::Invalid).hint("`swap` is memory and swap together, so it can't be below the memory limit")
        }
        Errno::EINVAL | Errno::ERANGE | Errno::EACCES if file.starts_with("cpuset.") => {
            error.class(Class::Invalid).hint("it must be a list of numbers like 0-3,7, inside what the parent group has (cpuset.cpus.effective)")
        }
        Errno::EINVAL | Errno::ERANGE | Errno::EOVERFLOW => {
            error.class(Class::Invalid).hint(format!("the kernel does not take this value for {file}; a parent's limit may forbid it too"))
        }
        Errno::ENODEV | Errno::ENXIO => error.class(Class::NotFound).hint("there is no such whole disk; see `lsblk` for the numbers"),
        Errno::EOPNOTSUPP => error.class(Class::Unsupported).hint(format!("this kernel knows {file}, but no longer does it")),
        Errno::EPERM | Errno::EACCES | Errno::EROFS => error.class(Class::Denied).hint(super::DELEGATION),
        _ => error,
    }
}

/// The file isn't there: because its controller isn't, or because this kernel doesn't know it.
fn missing(dir: &Path, setting: &Setting, error: Error) -> Error {
    let error = error.class(Class::Unsupported);
    if !dir.exists() {
        return error.class(Class::NotFound).hint(format!("the cgroup {} is gone", dir.display()));
    }
    let controllers = std::fs::read_to_string(dir.join("cgroup.controllers")).ok();
    match (setting.controller(), controllers) {
        (Some(name), Some(have)) if !have.split_whitespace().any(|one| one == name) => {
            error.hint(format!("this group has no controller {name:?}, only: {}", have.trim()))
        }
        _ if setting.file.contains("swap") || setting.file.contains("memsw") => {
            error.hint("this kernel does not count swap; boot it with swapaccount=1")
        }
        _ => error.hint(format!("this kernel has no file {} in {}", setting.file, dir.display())),
    }
}
