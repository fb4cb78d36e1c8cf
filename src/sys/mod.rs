//! Thin, honest system calls. The only room with `unsafe` in it; it knows no container.
//!
//! Each function is one call of the manual's section 2 under its own name, with Rust's types for its arguments, through the one
//! door in [`call`]. A SAFETY comment is an argument: which obligation there is, and where it was met.
#![allow(unsafe_code)]

pub mod bpf;
pub mod call;
pub mod child_mount;
pub mod fd;
pub mod fs;
pub mod ids;
pub mod inet;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod path;
pub mod process;
pub mod sched;
pub mod seccomp;
pub mod terminal;
pub mod time;
pub mod watch;
pub mod xattr;

pub use call::{Reason, SysError, SysResult, because};

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

/// A path or string as the kernel takes it.
///
/// # Errors
/// EINVAL when it has a NUL inside.
pub fn c_string(text: impl AsRef<Path>) -> SysResult<CString> {
    let bytes = text.as_ref().as_os_str().as_bytes();
    CString::new(bytes).map_err(|_| SysError::new("c_string", String::from_utf8_lossy(bytes), Errno::EINVAL))
}

/// The names of the flags set in `bits`, as the man page writes them: `MS_REC|MS_PRIVATE`; what has no name in hexadecimal.
pub fn flag_names(mut bits: u64, names: &[(u64, &str)]) -> String {
    let mut words = Vec::new();
    for &(bit, name) in names {
        if bit != 0 && bits & bit == bit {
            words.push(name.to_string());
            bits &= !bit;
        }
    }
    if bits != 0 || words.is_empty() {
        words.push(if bits == 0 { "0".into() } else { format!("{bits:#x}") });
    }
    words.join("|")
}
