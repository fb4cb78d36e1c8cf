//! A question at the terminal, whose answer may be one that nobody should see.
//!
//! While a password is typed the terminal doesn't show it (no ECHO). Ctrl-C then comes as a message, so that the terminal is as it was
//! before this program ends of it.
//!
//! See it: `stty -a -F /dev/pts/N` while it asks. Read: termios(3), signalfd(2).

use std::io::{Write, stdout};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::os::fd::AsFd;

use crate::error::{Class, Doing, Error, Result};
use crate::sys::fd::standard;

/// A terminal gives lines of 4095 bytes at most.
const LONGEST: usize = 4096;

/// Asks on standard output, and reads a line from standard input, which is a terminal; with `shown` it is seen while it is typed.
///
/// # Errors
/// System at the end of input; EIO. A signal ends the program, with the terminal as it was.
pub fn ask(question: &str, shown: bool) -> Result<String> {
    let mut out = stdout();
    let _ = write!(out, "{question}").and_then(|()| out.flush());
    if shown {
        return read_line(None);
    }
    let signals = Signals::take()?;
    let hidden = Hidden::begin()?;
    let line = read_line(Some(&signals));
    drop(hidden);
    // The Enter that wasn't shown.
    let _ = writeln!(out);
    drop(signals);
    line
}

/// A terminal that shows nothing of what is typed. Dropped, it is as it was.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Result<Hidden> {
        let doing = || "hide what is typed".to_string();
        let before = tcgetattr(standard(0)).doing(doing)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(standard(0), SetArg::TCSADRAIN, &quiet).doing(doing)?;
        Ok(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(standard(0), SetArg::TCSADRAIN, &self.0);
    }
}

/// The signals that end or stop a program, as messages. Dropped, those that came do what they always do.
struct Signals {
    set: SigSet,
    messages: SignalFd,
    came: std::cell::Cell<Option<Signal>>,
}

impl Signals {
    fn take() -> Result<Signals> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP].into_iter().collect();
        set.thread_block().doing(|| "take over the signals".into())?;
        let messages = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).doing(|| "take over the signals".into())?;
        Ok(Signals { set, messages, came: None.into() })
    }

    /// Whether one came that ends the program. A Ctrl-Z stops nobody who is being asked.
    fn came(&self) -> bool {
        while let Ok(Some(message)) = self.messages.read_signal() {
            let signal = Signal::try_from(message.ssi_signo as i32).ok();
            self.came.set(signal.filter(|signal| *signal != Signal::SIGTSTP).or(self.came.get()));
        }
        self.came.get().is_some()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.set.thread_unblock();
        if let Some(signal) = self.came.get() {
            let _ = raise(signal);
        }
    }
}

/// A terminal gives a line at a time, and nothing of the next one.
fn read_line(signals: Option<&Signals>) -> Result<String> {
    let doing = || "read from the terminal".to_string();
    let mut line = vec![0; LONGEST];
    let input = standard(0);
    loop {
        let mut fds = vec![PollFd::new(input, PollFlags::POLLIN)];
        fds.extend(signals.map(|signals| PollFd::new(signals.messages.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            polled => polled.doing(doing)?,
        };
        if signals.is_some_and(Signals::came) {
            return Err(Error::new(Class::System, doing(), "a signal came"));
        }
        match nix::unistd::read(input, &mut line) {
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Ok(0) => return Err(Error::new(Class::System, doing(), "it ended without an answer")),
            read => line.truncate(read.doing(doing)?),
        }
        let text = String::from_utf8(line).map_err(|_| Error::invalid(doing(), "the answer is no text"))?;
        return Ok(text.trim_end_matches(['\n', '\r']).to_string());
    }
}
