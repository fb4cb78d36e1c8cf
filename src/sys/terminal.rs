//! Terminals: a pair of ends, of which the program has the slave and whoever looks at it the master.
//!
//! See it: `tty`, `stty -a`, `ls -l /dev/pts`. Read: pty(7), pts(4), ioctl_tty(2), termios(3), ioctl_tiocgptpeer(2).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::call::{SysResult, call};
use super::mount::{fd_name, owned};

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// Unlocks the master's slave (TIOCSPTLCK) and opens it (TIOCGPTPEER): no path is looked up, so nobody can put another file there.
///
/// # Errors
/// ENOTTY when `master` is no pseudo-terminal, EIO.
pub fn open_slave(master: BorrowedFd) -> SysResult<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one live int.
    call("ioctl", || "master, TIOCSPTLCK, 0".into(), || unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &unlock) as _ })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags by value.
    let raw = || unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags) as _ };
    call("ioctl", || "master, TIOCGPTPEER, O_RDWR|O_NOCTTY|O_CLOEXEC".into(), raw).map(owned)
}

/// Makes this the controlling terminal of the caller's session (TIOCSCTTY): Ctrl-C now means SIGINT.
///
/// # Errors
/// EPERM when the caller leads no session.
pub fn make_controlling(terminal: BorrowedFd) -> SysResult<()> {
    call(
        "ioctl",
        || format!("{}, TIOCSCTTY, 0", fd_name(terminal.as_raw_fd())),
        // SAFETY: TIOCSCTTY takes an int by value.
        || unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) as _ },
    )?;
    Ok(())
}

/// The size of a terminal's window (TIOCGWINSZ).
///
/// # Errors
/// ENOTTY.
pub fn size(terminal: BorrowedFd) -> SysResult<Size> {
    // SAFETY: zeroed is a valid winsize.
    let mut window: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one live winsize.
    call("ioctl", || "terminal, TIOCGWINSZ".into(), || unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ as _, &mut window) as _ })?;
    Ok(Size { rows: window.ws_row, columns: window.ws_col })
}

/// Sets it (TIOCSWINSZ); the program in front gets SIGWINCH.
///
/// # Errors
/// ENOTTY.
pub fn resize(terminal: BorrowedFd, size: Size) -> SysResult<()> {
    let window = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    call(
        "ioctl",
        || format!("terminal, TIOCSWINSZ, {{{}, {}}}", size.rows, size.columns),
        // SAFETY: TIOCSWINSZ reads one live winsize.
        || unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, &window) as _ },
    )?;
    Ok(())
}
