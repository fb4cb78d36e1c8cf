//! Work that Ctrl-C ends in good order: what is under way is cut, everybody cleans up behind them, and the answer says that it was that.
//!
//! Read: signalfd(2), pthread_sigmask(3).

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Class, Doing, Error, Result};
use crate::image::registry::cancel;
use crate::sys::fd;

/// Does the work, with SIGINT, SIGTERM and SIGHUP ending all transfers of it. `doing` names it, should they come.
///
/// # Errors
/// Those of the work; Interrupted.
pub fn interruptible<T>(doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let story = || "wait for signals".to_string();
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).doing(story)?;
    let done = watched(&signals, work);
    // A signal that came when all was done is ours still, and not to end us now.
    while SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK).is_ok_and(|pending| matches!(pending.read_signal(), Ok(Some(_)))) {}
    before.thread_set_mask().doing(story)?;
    match cancel::is_on() {
        true => Err(Error::new(Class::Interrupted, doing, "it was interrupted")),
        false => done,
    }
}

fn watched<T>(signals: &SigSet, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let story = || "wait for signals".to_string();
    let pending = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC).doing(story)?;
    let (done, is_doing) = fd::pipe().doing(story)?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut both = [PollFd::new(pending.as_fd(), PollFlags::POLLIN), PollFd::new(done.as_fd(), PollFlags::POLLIN)];
            while poll(&mut both, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
            if both[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
                cancel::cancel();
            }
        });
        let worked = work();
        drop(is_doing);
        worked
    })
}
