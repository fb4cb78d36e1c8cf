//! Processes that live on when the command that began them has ended, and its terminal is closed.
//!
//! See it: `ps -eo pid,ppid,sid,tty,comm | grep onggi`. Read: setsid(2), daemon(7).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Doing, Result};
use crate::runtime::explain;
use crate::sys::{fd, process};

/// From here on no terminal, no working directory and no descriptor of the caller's is held; only `kept` ones stay. `ps` shows `name`.
///
/// # Errors
/// EPERM for the leader of a process group; EMFILE.
pub fn leave_the_terminal(name: &CStr, kept: &[BorrowedFd]) -> Result<()> {
    let doing = || "leave the terminal".to_string();
    process::setsid().doing(doing)?;
    process::set_name(name);
    process::umask(0o022);
    std::env::set_current_dir("/").doing(doing)?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").doing(doing)?;
    for number in 0..3 {
        fd::dup_onto(null.as_fd(), number).doing(doing)?;
    }
    drop(null);
    // What the command needed until here (an image may have been made) is not needed any more.
    process::give_back_memory();
    let kept: Vec<BorrowedFd> = kept.iter().copied().chain(explain::output()).collect();
    process::close_all_but(3, &kept).doing(doing)
}
