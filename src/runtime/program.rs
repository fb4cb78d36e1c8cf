//! Finding the container's program, waiting for the word to start it, and becoming it.
//!
//! Read: execve(2), exec(3) on PATH, fifo(7), docker run(1) "Exit status".

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::init::c_strings;
use super::spec::Process;
use super::sync::Socket;
use crate::error::{Class, Doing, Error, Result};
use crate::sys::{fs, path, process};

/// Whether the *caller's* PATH has a program.
pub fn on_path(program: &str) -> bool {
    find_on_path(program).is_some()
}

/// The program's file, by the *caller's* PATH.
pub fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons' tools stand in folders that an ordinary user's PATH may lack.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let runs = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    folders.map(|dir| dir.join(program)).find(runs)
}

/// How the program is told to start.
pub enum Start {
    /// `create` and `start` are two commands: a byte through the FIFO. Whoever waits holds it open for reading *and* writing, so its
    /// open never blocks and it needs no path; when it becomes the program the FIFO closes, and the starter at the other end is told
    /// so by the kernel (poll(2): POLLERR, no reader is left). What went wrong stands in `report`.
    Fifo { fifo: OwnedFd, report: OwnedFd },
    /// At once (`exec`): the pair of sockets tells what went wrong, until it closes at execve.
    AtOnce,
}

/// The FIFO on which the first process waits, and the file for its last words; both open before it is cloned, so that it needs no path.
///
/// # Errors
/// ENOSPC, EEXIST.
pub(super) fn waiting_room(dir: &Path) -> Result<Start> {
    let (fifo, report) = (dir.join("exec.fifo"), dir.join("exec.error"));
    fs::mkfifo(&fifo, 0o600).doing(|| "make the FIFO for start".into())?;
    let open = |path: &Path| {
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_CLOEXEC).open(path)
    };
    let fifo = open(&fifo).doing(|| "open the FIFO for start".into())?.into();
    let report = open(&report).doing(|| "open the file for errors".into())?.into();
    Ok(Start::Fifo { fifo, report })
}

impl Start {
    /// Returns when the program shall start.
    ///
    /// # Errors
    /// EIO.
    pub fn wait(&self) -> Result<()> {
        let Start::Fifo { fifo, .. } = self else { return Ok(()) };
        loop {
            match nix::unistd::read(fifo, &mut [0u8; 1]) {
                Err(Errno::EINTR) => continue,
                Ok(0) => process::exit_now(1),
                done => return done.map(drop).doing(|| "wait for start".into()),
            }
        }
    }

    /// Closes everything that this process has open beside what it needs to start, 0, 1, 2 and what the caller passes on.
    ///
    /// That it would close at execve(2) anyway is too late: `/proc/self/fd/N/../../bin/sh` is looked up before, and through a folder
    /// of the host that is still open as N it names the *host's* file (CVE-2024-21626). It is an image's link or PATH that may say so.
    ///
    /// # Errors
    /// EINVAL.
    pub fn close_the_rest(&self, parent: &Socket, preserve_fds: i32) -> Result<()> {
        let doing = || "close our descriptors".to_string();
        let first = 3 + preserve_fds;
        let ours = match self {
            Start::Fifo { fifo, report } => vec![parent.as_fd(), fifo.as_fd(), report.as_fd()],
            Start::AtOnce => vec![parent.as_fd()],
        };
        // What --explain tells is told over a descriptor, too; it is the caller's standard error and no folder.
        let telling = super::explain::output().into_iter().chain(crate::sys::call::fault::output());
        let kept: Vec<_> = ours.into_iter().chain(telling).collect();
        process::close_all_but(first, &kept).doing(doing)?;
        process::cloexec_from(first).doing(doing)
    }

    /// Tells the starter why there is no program, and ends.
    ///
    /// # Errors
    /// Never returns.
    pub fn fail<T>(&self, parent: &Socket, error: Error) -> Result<T> {
        match self {
            Start::Fifo { report, .. } => {
                let text = serde_json::to_vec(&error).unwrap_or_default();
                let _ = nix::unistd::write(report, &text);
            }
            Start::AtOnce => {
                let _ = parent.tell(&super::sync::Message::Failed(Box::new(error.clone())));
            }
        }
        process::exit_now(error.exit_code().into())
    }
}

/// Where a program was found.
pub struct Found(CString);

/// Looks `process.args[0]` up: as it is when it has a slash, else in the folders of the *container's* PATH.
///
/// # Errors
/// CommandNotFound (127), CommandNotRunnable (126).
pub fn find(wanted: &Process) -> Result<Found> {
    let name = &wanted.args[0];
    let doing = || format!("run {name:?} in the container");
    if name.contains('/') {
        return match runnable(Path::new(name)) {
            Ok(()) => c_path(Path::new(name)),
            Err((class, why)) => Err(Error::new(class, doing(), why)),
        };
    }
    let search =
        wanted.env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut refused = None;
    for folder in search.split(':') {
        // An empty entry is the working directory (exec(3)).
        let candidate = if folder.is_empty() { PathBuf::from(".").join(name) } else { Path::new(folder).join(name) };
        match runnable(&candidate) {
            Ok(()) => return c_path(&candidate),
            Err((Class::CommandNotRunnable, why)) => refused = refused.or(Some(why)),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(why) => Error::new(Class::CommandNotRunnable, doing(), why),
        None => Error::new(Class::CommandNotFound, doing(), "executable file not found in $PATH"),
    })
}

fn c_path(path: &Path) -> Result<Found> {
    crate::sys::c_string(path).map(Found).doing(|| format!("run {}", path.display()))
}

fn runnable(path: &Path) -> std::result::Result<(), (Class, String)> {
    match std::fs::metadata(path) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::ELOOP)) => {
            Err((Class::CommandNotRunnable, format!("{}: permission denied", path.display())))
        }
        Err(_) => Err((Class::CommandNotFound, format!("{}: no such file or directory", path.display()))),
        Ok(found) if found.is_dir() => Err((Class::CommandNotRunnable, format!("{}: is a directory: permission denied", path.display()))),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Err((Class::CommandNotRunnable, format!("{}: permission denied", path.display()))),
        Ok(_) => Ok(()),
    }
}

/// Becomes the program. Returns only when the kernel refused.
pub fn execute(found: &Found, wanted: &Process, preserve_fds: i32) -> Error {
    let mut env = c_strings(&wanted.env);
    // Docker's and runc's kindness: a HOME when the image gives none.
    if !wanted.env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.extend(CString::new(format!("HOME={}", home_of(wanted.user.uid))));
    }
    if let Some(count) = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse::<i32>().ok()).filter(|&n| n > 0 && n <= preserve_fds) {
        // sd_listen_fds(3): the descriptors belong to PID 1 of the container.
        env.extend(CString::new(format!("LISTEN_FDS={count}")));
        env.extend(CString::new("LISTEN_PID=1"));
    }
    let fact = process::execve(&found.0, &c_strings(&wanted.args), &env);
    let class = match fact.errno() {
        Errno::ENOENT | Errno::ENOTDIR => Class::CommandNotFound,
        Errno::EACCES | Errno::ENOEXEC | Errno::EPERM | Errno::EISDIR | Errno::ELOOP | Errno::ETXTBSY | Errno::EINVAL => Class::CommandNotRunnable,
        _ => Class::System,
    };
    let hint = match fact.errno() {
        Errno::ENOEXEC => Some("it is neither a program for this machine nor a script that begins with #!"),
        Errno::ENOENT => Some("the file is there; its interpreter or its dynamic loader is not in the image"),
        _ => None,
    };
    let error = Error::sys(format!("run {:?} in the container", wanted.args[0]), fact).class(class);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The home of a user by the container's own /etc/passwd.
fn home_of(uid: u32) -> String {
    let mut text = String::new();
    // The file is the image author's: a FIFO in its place must not keep us waiting, nor a link lead to what is open here.
    if let Ok(file) = path::open_root("/".as_ref()).and_then(|root| path::open_file_in(root.as_fd(), "etc/passwd".as_ref())) {
        let _ = File::from(file).take(1 << 20).read_to_string(&mut text);
    }
    let line = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.len() > 5 && fields[2].parse() == Ok(uid));
    line.map(|fields| fields[5].to_string()).filter(|home| home.starts_with('/')).unwrap_or_else(|| "/".into())
}

/// The starter's side of [`Start::Fifo`]: sends the byte, and waits until the program runs or has failed.
///
/// # Errors
/// Conflict when nobody waits; else what `report` holds.
pub fn start(fifo: &Path, report: &Path) -> Result<()> {
    let doing = || "start the container's program".to_string();
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(fifo);
    let mut writer = match opened {
        // fifo(7): nobody has it open for reading.
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Err(Error::new(Class::Conflict, doing(), "its first process has ended")),
        other => other.doing(doing)?,
    };
    writer.write_all(&[0]).doing(doing)?;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    loop {
        // No events are asked for; POLLERR comes unasked, once the last reader is gone.
        let mut waiting = [PollFd::new(writer.as_fd(), PollFlags::empty())];
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.doing(doing)?,
        };
        break;
    }
    match std::fs::read(report) {
        Ok(text) if !text.is_empty() => {
            Err(serde_json::from_slice(&text).unwrap_or_else(|_| Error::new(Class::System, doing(), String::from_utf8_lossy(&text))))
        }
        _ => Ok(()),
    }
}
