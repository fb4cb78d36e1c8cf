//! The way from an ordinary user's network namespace to the outside: a program that reads the packets from a TAP device in there, and
//! speaks for them through ordinary sockets on the host. Any user may do that; making a link to the host is root's.
//!
//! Either slirp4netns(1) or pasta(1), whichever is installed. Without both, containers reach each other and nothing else;
//! `onggi doctor` says so. What the program complains of is in `network.log`, beside the keeper's socket.
//!
//! See it: `ps -C slirp4netns,pasta -o args`. Read: slirp4netns(1), pasta(1).

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::engine::home::Home;
use crate::error::{Doing, Result};
use crate::runtime::program::find_on_path;
use crate::sys::process::{self, Clone, Forked};
use crate::sys::{c_string, fd, watch};

/// So long it may take to come up; a container that starts meanwhile would find no way out.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// The program that runs; it ends when this is dropped, and with this process at the latest.
#[must_use]
pub struct Outward {
    pub pidfd: OwnedFd,
}

impl Outward {
    /// Begins the program and waits until the namespace has its way out. None when none is installed, or it fails.
    ///
    /// # Errors
    /// EMFILE, EAGAIN.
    pub fn begin(home: &Home, namespace: BorrowedFd) -> Result<Option<Outward>> {
        let doing = || "start the way out of your networks".to_string();
        let Some((program, is_slirp)) = find() else { return Ok(None) };
        let (read, write) = fd::pipe().doing(doing)?;
        let log = File::create(home.run.join("network.log")).doing(doing)?;
        let place = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        let words = if is_slirp { slirp4netns(&place, write.as_raw_fd()) } else { pasta(&place) };
        let argv: Vec<CString> = words.iter().map(c_string).collect::<Result<_, _>>().doing(doing)?;
        let Forked::Parent { pidfd, .. } = process::clone3(&Clone::default()).doing(doing)? else { become_it(&program, &argv, &log, &write) };
        drop(write);
        let outward = Outward { pidfd };
        // slirp4netns writes a byte when it is ready; the end of the pipe comes when it isn't there any more.
        let waited = watch::wait_readable(read.as_fd(), Some(READY_WITHIN.as_millis() as u16)).doing(doing)?;
        let is_ready = waited && matches!(nix::unistd::read(&read, &mut [0]), Ok(1..));
        Ok(is_ready.then_some(outward))
    }
}

impl Drop for Outward {
    fn drop(&mut self) {
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(self.pidfd.as_fd());
    }
}

fn find() -> Option<(std::path::PathBuf, bool)> {
    let slirp = find_on_path("slirp4netns").map(|program| (program, true));
    slirp.or_else(|| find_on_path("pasta").map(|program| (program, false)))
}

/// 10.0.2.100 on tap0, the outside behind 10.0.2.2; but what listens on the host's own 127.0.0.1 is not for containers.
fn slirp4netns(place: &str, ready: i32) -> Vec<String> {
    let ready = format!("--ready-fd={ready}");
    ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", &ready, "--netns-type=path", place, "tap0"].map(String::from).into()
}

/// The host's own address and routes, on a device of the same name. Nothing is forwarded inwards: ports are published by us.
fn pasta(place: &str) -> Vec<String> {
    let shut = ["--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none"];
    let words = ["pasta", "--foreground", "--config-net", "--quiet", "--runas", "0:0"].into_iter().chain(shut).chain(["--netns", place]);
    words.map(String::from).collect()
}

fn become_it(program: &Path, argv: &[CString], log: &File, ready: &OwnedFd) -> ! {
    let _ = process::die_with_parent();
    let _ = fd::dup_onto(log.as_fd(), 1);
    let _ = fd::dup_onto(log.as_fd(), 2);
    let _ = fd::set_cloexec(ready.as_fd(), false);
    let env: Vec<CString> = std::env::vars().filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok()).collect();
    if let Ok(program) = c_string(program) {
        let _ = process::execve(&program, argv, &env);
    }
    process::exit_now(127)
}
