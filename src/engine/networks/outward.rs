//! The way from an ordinary user's network namespace to the outside: a program that reads the packets from a TAP device in there, and
//! speaks for them through ordinary sockets on the host. Any user may do that; making a link to the host is root's.
//!
//! Either slirp4netns(1) or pasta(1), whichever is installed. Without both, containers reach each other and nothing else;
//! `onggi doctor` says so. What the program complains of is in `network.log`, beside the keeper's socket.
//!
//! See it: `ps -C slirp4netns,pasta -o args`. Read: slirp4netns(1), pasta(1).

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::Mode;

use crate::engine::home::Home;
use crate::error::{Doing, Result};
use crate::runtime::program::find_on_path;
use crate::sys::process::{self, Clone, Forked};
use crate::sys::{c_string, fd};

/// So many milliseconds it may take to come up; a container that starts meanwhile would find no way out.
const READY_WITHIN: u16 = 5000;

/// The program that runs; it ends when this is dropped, and with this process at the latest.
#[must_use]
pub struct Outward {
    pub pidfd: OwnedFd,
}

impl Outward {
    /// Begins the program and waits until the namespace, at its path below /proc, has its way out. None when none is installed, or it fails.
    ///
    /// # Errors
    /// EMFILE, EAGAIN.
    pub fn begin(home: &Home, namespace: &str) -> Result<Option<Outward>> {
        let doing = || "start the way out of your networks".to_string();
        let Some((program, is_slirp)) = find() else { return Ok(None) };
        let log = File::create(home.run.join("network.log")).doing(doing)?;
        let (ready, theirs) = if is_slirp { fd::pipe().map(|(read, write)| (read, Some(write))).doing(doing)? } else { (fifo(home)?, None) };
        let words = match &theirs {
            Some(write) => slirp4netns(namespace, write.as_raw_fd()),
            None => pasta(namespace, &ready_file(home)),
        };
        let argv: Vec<CString> = words.iter().map(c_string).collect::<Result<_, _>>().doing(doing)?;
        let Forked::Parent { pidfd, .. } = process::clone3(&Clone::default()).doing(doing)? else { become_it(&program, &argv, &log, theirs) };
        drop(theirs);
        let outward = Outward { pidfd };
        let mut waits = [&ready, &outward.pidfd].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        let _ = poll(&mut waits, READY_WITHIN);
        let is_ready = matches!(nix::unistd::read(&ready, &mut [0]), Ok(1..));
        let _ = std::fs::remove_file(ready_file(home));
        Ok(is_ready.then_some(outward))
    }
}

impl Drop for Outward {
    fn drop(&mut self) {
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(self.pidfd.as_fd());
    }
}

fn find() -> Option<(PathBuf, bool)> {
    let slirp = find_on_path("slirp4netns").map(|program| (program, true));
    slirp.or_else(|| find_on_path("pasta").map(|program| (program, false)))
}

/// 10.0.2.100 on tap0, the outside behind 10.0.2.2; but what listens on the host's own 127.0.0.1 is not for containers.
fn slirp4netns(namespace: &str, ready: i32) -> Vec<String> {
    let ready = format!("--ready-fd={ready}");
    ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", &ready, "--netns-type=path", namespace, "tap0"].map(String::from).into()
}

/// The host's own address and routes, on a device of the same name. Nothing is forwarded inwards: ports are published by us. It writes
/// its PID when it is ready.
fn pasta(namespace: &str, ready: &Path) -> Vec<String> {
    let shut = ["--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none"];
    let words = ["pasta", "--foreground", "--config-net", "--quiet", "--runas", "0:0", "--netns-only", "--netns", namespace, "--pid"];
    words.into_iter().map(String::from).chain([ready.display().to_string()]).chain(shut.map(String::from)).collect()
}

fn ready_file(home: &Home) -> PathBuf {
    home.run.join("network.ready")
}

/// A FIFO in the place of pasta's PID file, open for reading; it closes what it inherits, so that there is no other way to hear of it.
fn fifo(home: &Home) -> Result<OwnedFd> {
    let (path, doing) = (ready_file(home), || "start the way out of your networks".to_string());
    let _ = std::fs::remove_file(&path);
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).doing(doing)?;
    // fifo(7): without O_NONBLOCK the open would wait for a writer.
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).map(OwnedFd::from).doing(doing)
}

fn become_it(program: &Path, argv: &[CString], log: &File, ready: Option<OwnedFd>) -> ! {
    let _ = process::die_with_parent();
    let _ = fd::dup_onto(log.as_fd(), 1);
    let _ = fd::dup_onto(log.as_fd(), 2);
    if let Some(ready) = &ready {
        let _ = fd::set_cloexec(ready.as_fd(), false);
    }
    let env: Vec<CString> =
        std::env::vars_os().filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()).collect();
    if let Ok(program) = c_string(program) {
        let _ = process::execve(&program, argv, &env);
    }
    process::exit_now(127)
}
