//! The health check: a command in the container, again and again, whose exit code says how it is.
//!
//! ```text
//! starting  → healthy     one success
//! healthy   → unhealthy   `retries` failures in a row; during the start period failures don't count
//! ```
//! See it: `onggi inspect -f '{{json .State.Health}}' web1`. Read: Dockerfile reference, HEALTHCHECK.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use crate::clock;
use crate::engine::record::{self, Probe};
use crate::error::{Doing, Result};
use crate::image::manifest::Healthcheck;
use crate::runtime::exec;
use crate::runtime::spec::Process;
use crate::runtime::state::Store;
use crate::sys::{fd, process};

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u64 = 3;
/// As much of its output is kept.
const OUTPUT: usize = 4096;
/// As many runs are kept.
const KEPT: usize = 5;

/// The health check of one life.
pub struct Health {
    check: Healthcheck,
    began: Instant,
    next: Instant,
    running: Option<Running>,
    pub now: record::Health,
}

struct Running {
    pidfd: OwnedFd,
    /// None at its end.
    output: Option<OwnedFd>,
    said: Vec<u8>,
    began: SystemTime,
    deadline: Instant,
    timed_out: bool,
}

fn or(nanoseconds: u64, default: Duration) -> Duration {
    if nanoseconds == 0 { default } else { Duration::from_nanos(nanoseconds) }
}

impl Health {
    pub fn new(check: Healthcheck) -> Health {
        let now = record::Health { status: "starting".into(), ..record::Health::default() };
        let mut health = Health { check, began: Instant::now(), next: Instant::now(), running: None, now };
        health.next = Instant::now() + health.interval();
        health
    }

    /// Ends with its container: what still runs is no longer wanted, and is not left a zombie.
    pub fn end(self) {
        if let Some(running) = self.running {
            let _ = process::pidfd_send_signal(running.pidfd.as_fd(), libc::SIGKILL);
            let _ = process::wait(running.pidfd.as_fd());
        }
    }

    /// When something is to be done next.
    pub fn due(&self) -> Instant {
        self.running.as_ref().map_or(self.next, |running| running.deadline)
    }

    /// What to wait for while the command runs: its output, and its end.
    pub fn waits_for(&self) -> Vec<BorrowedFd<'_>> {
        let Some(running) = &self.running else { return Vec::new() };
        running.output.iter().map(|output| output.as_fd()).chain([running.pidfd.as_fd()]).collect()
    }

    /// Goes on; true when it has found something new.
    pub fn step(&mut self, store: &Store, id: &str) -> bool {
        match &mut self.running {
            None if Instant::now() >= self.next => self.start(store, id),
            None => false,
            Some(running) => {
                running.read();
                if Instant::now() >= running.deadline && !running.timed_out {
                    running.timed_out = true;
                    let _ = process::pidfd_send_signal(running.pidfd.as_fd(), libc::SIGKILL);
                    running.deadline += Duration::from_secs(10);
                }
                let Ok(Some(exit)) = process::try_wait(running.pidfd.as_fd()) else { return false };
                running.read();
                let (code, output) = match running.timed_out {
                    true => (-1, format!("Health check exceeded timeout ({:?})", or(self.check.timeout, TIMEOUT))),
                    false => (exit.code(), String::from_utf8_lossy(&running.said).into_owned()),
                };
                let began = running.began;
                self.running = None;
                self.found(began, code, output);
                true
            }
        }
    }

    fn start(&mut self, store: &Store, id: &str) -> bool {
        let began = SystemTime::now();
        match self.command(store, id) {
            Ok((pidfd, output)) => {
                let deadline = Instant::now() + or(self.check.timeout, TIMEOUT);
                self.running = Some(Running { pidfd, output: Some(output), said: Vec::new(), began, deadline, timed_out: false });
                false
            }
            Err(e) => {
                self.found(began, -1, e.one_line());
                true
            }
        }
    }

    fn command(&self, store: &Store, id: &str) -> Result<(OwnedFd, OwnedFd)> {
        let doing = || "run the health check".to_string();
        let like = store.load(id)?.spec.process.unwrap_or_default();
        let args = match self.check.test[0].as_str() {
            "CMD-SHELL" => vec!["/bin/sh".to_string(), "-c".into(), self.check.test[1].clone()],
            _ => self.check.test[1..].to_vec(),
        };
        let (read, write) = fd::pipe().doing(doing)?;
        fd::set_nonblocking(read.as_fd()).doing(doing)?;
        let null = std::fs::File::open("/dev/null").doing(doing)?;
        let copy = fd::duplicate(write.as_fd()).doing(doing)?;
        let request = exec::Request {
            process: Process { args, terminal: false, console_size: None, ..like },
            pid_file: None,
            preserve_fds: 0,
            ignore_paused: false,
            console: None,
            stdio: Some([null.into(), write, copy]),
        };
        Ok((exec::exec(store, id, request)?.pidfd, read))
    }

    fn found(&mut self, began: SystemTime, code: i32, output: String) {
        let end = SystemTime::now();
        let probe = Probe { start: clock::rfc3339(began), end: clock::rfc3339(end), exit_code: code, output };
        if self.now.log.len() == KEPT {
            self.now.log.remove(0);
        }
        self.now.log.push(probe);
        let retries = if self.check.retries == 0 { RETRIES } else { self.check.retries };
        if code == 0 {
            self.now.failing_streak = 0;
            self.now.status = "healthy".into();
        } else if !self.is_starting() {
            self.now.failing_streak += 1;
            if u64::from(self.now.failing_streak) >= retries {
                self.now.status = "unhealthy".into();
            }
        }
        self.next = Instant::now() + self.interval();
    }

    fn is_starting(&self) -> bool {
        self.now.status == "starting" && self.began.elapsed() < Duration::from_nanos(self.check.start_period)
    }

    fn interval(&self) -> Duration {
        let usual = or(self.check.interval, INTERVAL);
        if self.is_starting() { or(self.check.start_interval, START_INTERVAL).min(usual) } else { usual }
    }
}

impl Running {
    /// Reads some of what it has said: one that never stops has its turn again, after all others.
    fn read(&mut self) {
        let mut chunk = [0u8; 4096];
        for _ in 0..16 {
            let Some(output) = &self.output else { break };
            match nix::unistd::read(output, &mut chunk) {
                Ok(0) => self.output = None,
                Ok(length) => {
                    let room = OUTPUT.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&chunk[..length.min(room)]);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => break,
                Err(_) => self.output = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start_period: u64) -> Health {
        let check = Healthcheck { test: vec!["CMD".into(), "true".into()], retries: 2, start_period, ..Healthcheck::default() };
        Health::new(check)
    }

    #[test]
    fn it_is_unhealthy_after_so_many_failures_and_well_after_one_success() {
        let mut health = check(0);
        health.found(SystemTime::now(), 1, "no".into());
        assert_eq!((health.now.status.as_str(), health.now.failing_streak), ("starting", 1));
        health.found(SystemTime::now(), 1, "no".into());
        assert_eq!(health.now.status, "unhealthy");
        health.found(SystemTime::now(), 0, String::new());
        assert_eq!((health.now.status.as_str(), health.now.failing_streak), ("healthy", 0));
        (0..9).for_each(|_| health.found(SystemTime::now(), 0, String::new()));
        assert_eq!(health.now.log.len(), KEPT);
    }

    #[test]
    fn failures_of_the_start_period_do_not_count() {
        let mut health = check(60_000_000_000);
        (0..5).for_each(|_| health.found(SystemTime::now(), 1, String::new()));
        assert_eq!((health.now.status.as_str(), health.now.failing_streak), ("starting", 0));
        assert_eq!(health.interval(), START_INTERVAL);
    }
}
