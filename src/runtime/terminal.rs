//! The container's terminal: a pseudo-terminal of its own `/dev/pts`, whose master goes to whoever sits in front of it.
//!
//! The slave is opened through the master (TIOCGPTPEER), and `/dev/console` is bound from that descriptor: no path of the image is
//! trusted on the way (CVE-2025-52565).
//!
//! See it: `ls -l /proc/P/fd`, `ls /proc/P/root/dev/pts`. Read: pty(7), config.md "terminal", runc's docs/terminals.md.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::spec::Process;
use crate::error::{Class, Doing, Error, Result};
use crate::sys::terminal::{self, Size};
use crate::sys::{Reason, because, fd, mount, path};

static TERMINAL: Reason = Reason {
    id: "terminal.open",
    en: "a terminal of its own: what is typed goes in at one end, the program sits at the other",
    ko: "자기만의 터미널: 입력은 한쪽 끝으로 들어가고 프로그램은 다른 쪽 끝에 있다",
    see: "ls -l /proc/{P}/fd",
};

/// Opens a pseudo-terminal in the container's `/dev/pts` (the caller has pivoted), sends its master over `console`, and makes its slave
/// this process' standard input, output, error and controlling terminal.
///
/// # Errors
/// ENOENT without a devpts mount; EPIPE when nobody listens at the console socket.
pub fn open(process: &Process, console: BorrowedFd, new_mounts: bool) -> Result<()> {
    because(&TERMINAL);
    let root = path::open_root("/".as_ref()).doing(|| "open the root".into())?;
    let master = path::open_in(root.as_fd(), "/dev/pts/ptmx".as_ref(), libc::O_RDWR | libc::O_NOCTTY);
    let master = master.doing(|| "open /dev/pts/ptmx".into()).map_err(|e| e.hint("process.terminal needs a devpts mounted at /dev/pts"))?;
    // Only the kernel's own devpts has this magic: an image can't put a file of its own in the terminal's place.
    if mount::filesystem_magic(master.as_fd()).doing(|| "look at /dev/pts/ptmx".into())? != libc::DEVPTS_SUPER_MAGIC {
        return Err(Error::invalid("open a terminal", "/dev/pts is no devpts"));
    }
    let slave = terminal::open_slave(master.as_fd()).doing(|| "open the terminal's other end".into())?;
    if let Some(size) = process.console_size.filter(|size| size.height > 0 || size.width > 0) {
        terminal::resize(slave.as_fd(), Size { rows: size.height, columns: size.width }).doing(|| "set process.consoleSize".into())?;
    }
    if new_mounts {
        bind_console(root.as_fd(), &slave)?;
    }
    // The name is what runc sends, and what conmon and containerd print.
    fd::send(console, b"/dev/ptmx", &[master.as_fd()]).doing(|| "send the terminal over the console socket".into())?;
    own(slave.as_fd(), process)
}

/// Takes the master that [`open`] has sent.
///
/// # Errors
/// System when none came.
pub fn take(console: BorrowedFd) -> Result<OwnedFd> {
    let doing = || "take the container's terminal".to_string();
    let (_, fds) = fd::receive(console).doing(doing)?;
    fds.into_iter().next().ok_or_else(|| Error::new(Class::System, doing(), "none came"))
}

/// `/dev/console` is the terminal too, for programs that write there.
fn bind_console(root: BorrowedFd, slave: &OwnedFd) -> Result<()> {
    let doing = || "bind /dev/console".to_string();
    let dev = path::make_dirs_in(root, "/dev".as_ref(), 0o755).doing(doing)?;
    match path::mknodat(&dev, "console".as_ref(), libc::S_IFREG | 0o600, 0) {
        Err(e) if e.errno() != nix::errno::Errno::EEXIST => return Err(Error::sys(doing(), e)),
        _ => {}
    }
    let resolve = path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS;
    let place = path::openat2(dev.as_fd(), Path::new("console"), libc::O_PATH | libc::O_NOFOLLOW, 0, resolve).doing(doing)?;
    let tree = mount::clone_tree(Some(slave.as_fd()), "".as_ref(), false).doing(doing)?;
    mount::move_mount(tree.as_fd(), place.as_fd()).doing(doing)
}

/// The slave becomes 0, 1 and 2 and the controlling terminal; it belongs to the program's user. Only *this* descriptor is chowned,
/// which we made: never one that we were given (a peer once gave the host's /dev/null away like that).
fn own(slave: BorrowedFd, process: &Process) -> Result<()> {
    terminal::make_controlling(slave).doing(|| "make it the controlling terminal".into())?;
    let uid = nix::unistd::Uid::from_raw(process.user.uid);
    // EINVAL: the user isn't mapped in this user namespace; EPERM: we may not give it away. The terminal works all the same.
    let _ = nix::unistd::fchown(slave, Some(uid), None);
    for number in 0..=2 {
        fd::dup_onto(slave, number).doing(|| "make it the standard streams".into())?;
    }
    Ok(())
}
