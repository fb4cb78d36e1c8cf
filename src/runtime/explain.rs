//! `--explain`: each system call that makes a container, told as it happens, with the reason for it and where its effect is seen.
//!
//! It listens at the one door (`sys::call`). The container's first process inherits the listener and its copy of standard error, so
//! that both sides are told in one stream, as they happen. When nobody asks for it, it does not exist.
//!
//! Read: strace(1), which shows the same calls without the reasons.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

use crate::error::{Doing, Result};
use crate::sys::call::{Event, Reason, errno_text, observe};
use crate::sys::fd;

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

struct Telling {
    form: Form,
    korean: bool,
    colour: bool,
    out: OwnedFd,
}

static TELLING: OnceLock<Telling> = OnceLock::new();
static OVER: AtomicBool = AtomicBool::new(false);
/// The reason that was told last, so that it is told once for all the calls that it explains.
static LAST: AtomicPtr<Reason> = AtomicPtr::new(std::ptr::null_mut());
/// Whose turn it was: a change of process is told.
static SPEAKER: AtomicI32 = AtomicI32::new(0);

/// Calls that only ask or keep house: true, but no step of making a container.
const QUIET: &[&str] =
    &["fstat", "fstatfs", "statvfs", "fcntl", "waitid", "socketpair", "read", "getcwd", "capget", "pidfd_open", "open", "openat2", "dup2"];

/// From here on this process, and what it clones, tells its calls on standard error.
///
/// # Errors
/// EMFILE.
pub fn begin(form: Form, colour: bool) -> Result<()> {
    // A copy: the container's terminal will take the place of descriptor 2.
    let out = fd::duplicate(fd::standard(2)).doing(|| "keep standard error for --explain".into())?;
    let korean = crate::locale::is_korean();
    if TELLING.set(Telling { form, korean, colour, out }).is_ok() {
        observe(tell);
    }
    Ok(())
}

/// Where the calls are told, as long as they are.
pub fn output() -> Option<BorrowedFd<'static>> {
    TELLING.get().map(|telling| telling.out.as_fd())
}

/// From here on nothing is told by this process, and the caller's standard error is let go.
pub fn end() {
    let Some(telling) = TELLING.get() else { return };
    OVER.store(true, Ordering::Relaxed);
    // The descriptor can't be closed, as it is lent to all: it becomes one of nothing.
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = fd::dup_onto(null.as_fd(), telling.out.as_raw_fd());
        let _ = fd::set_cloexec(telling.out.as_fd(), true);
    }
}

fn tell(event: &Event) {
    let Some(telling) = TELLING.get().filter(|_| !OVER.load(Ordering::Relaxed)) else { return };
    let pid = host_pid();
    let text = match telling.form {
        Form::Json => json(event, pid),
        Form::Text if QUIET.contains(&event.call) => return,
        Form::Text => human(event, pid, telling),
    };
    // One write a line: two processes tell at once.
    let _ = nix::unistd::write(telling.out.as_fd(), text.as_bytes());
}

/// Our PID as the host sees it, as long as we see the host's /proc: in a new PID namespace getpid(2) says 1.
fn host_pid() -> i32 {
    static PID: AtomicI32 = AtomicI32::new(0);
    static OWN: AtomicI32 = AtomicI32::new(0);
    let own = std::process::id() as i32;
    if OWN.swap(own, Ordering::Relaxed) != own {
        let seen = std::fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse().ok());
        PID.store(seen.unwrap_or(own), Ordering::Relaxed);
    }
    PID.load(Ordering::Relaxed)
}

fn human(event: &Event, pid: i32, telling: &Telling) -> String {
    let (bold, dim, red, plain) = if telling.colour { ("\x1b[1;36m", "\x1b[2m", "\x1b[31m", "\x1b[0m") } else { ("", "", "", "") };
    let mut text = String::new();
    let reason = event.reason.map_or(std::ptr::null_mut(), |r| std::ptr::from_ref(r).cast_mut());
    let changed = LAST.swap(reason, Ordering::Relaxed) != reason;
    if (SPEAKER.swap(pid, Ordering::Relaxed) != pid || changed)
        && let Some(reason) = event.reason
    {
        let why = if telling.korean { reason.ko } else { reason.en };
        let see = reason.see.replace("{P}", &pid.to_string());
        text.push_str(&format!("{bold}● {why}{plain}   {dim}see: {see}{plain}\n"));
    }
    let answer = match event.result {
        Ok(value) => value.to_string(),
        Err(errno) => format!("{red}{}{plain}", errno_text(errno)),
    };
    text.push_str(&format!("  {dim}[{pid}]{plain} {}({}) = {answer}\n", event.call, shorten(event.args)));
    text
}

/// A container's ID or a digest has 64 hexadecimal digits; twelve tell them apart, and the line stays readable.
fn shorten(args: &str) -> String {
    let (mut out, mut run) = (String::with_capacity(args.len()), String::new());
    for letter in args.chars().chain(['\0']) {
        if letter.is_ascii_hexdigit() {
            run.push(letter);
            continue;
        }
        if run.len() == 64 {
            out.push_str(&run[..12]);
            out.push('…');
        } else {
            out.push_str(&run);
        }
        run.clear();
        if letter != '\0' {
            out.push(letter);
        }
    }
    out
}

fn json(event: &Event, pid: i32) -> String {
    let mut object = serde_json::json!({ "pid": pid, "call": event.call, "args": event.args });
    match event.result {
        Ok(value) => object["result"] = value.into(),
        Err(errno) => object["errno"] = format!("{errno:?}").into(),
    }
    if let Some(reason) = event.reason {
        object["reason"] =
            serde_json::json!({ "id": reason.id, "en": reason.en, "ko": reason.ko, "see": reason.see.replace("{P}", &pid.to_string()) });
    }
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn only_whole_ids_are_cut_short() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(shorten(&format!("/run/{id}/x, 0755")), "/run/0123456789ab…/x, 0755");
        assert_eq!(shorten("dead beef 0x1f"), "dead beef 0x1f");
    }
}
