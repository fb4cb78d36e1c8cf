//! Hooks: programs that config.json wants run at six moments of a container's life, with its state on their standard input.
//!
//! Read: config.md "POSIX-platform Hooks", runtime.md "Lifecycle".

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::spec::Hook;
use crate::error::{Class, Error, Result};

/// Runs the hooks of one kind (`prestart`, …) in their order; the first that fails ends it.
///
/// # Errors
/// When a hook can't be started, ends with another code than 0, or is killed at its time-out. `doing` names it by its JSON path.
pub fn run(kind: &str, hooks: &[Hook], state: &str) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        let doing = || format!("run hooks.{kind}[{index}] {}", hook.path.display());
        run_one(hook, state).map_err(|why| Error::new(Class::System, doing(), why))?;
    }
    Ok(())
}

/// Runs all of them, whatever each does: what comes after the end of a container can't be stopped. Answers what went wrong.
pub fn run_all(kind: &str, hooks: &[Hook], state: &str) -> Vec<Error> {
    let one = |hook: &Hook| run(kind, std::slice::from_ref(hook), state).err();
    hooks.iter().filter_map(one).collect()
}

fn run_one(hook: &Hook, state: &str) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    // The hook's environment is what config.json says and nothing of ours.
    command.env_clear().envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    // In a group of its own, so that the time-out reaches its children too.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.max(0) as u64));
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that doesn't read its input is within its rights.
        let _ = stdin.write_all(state.as_bytes());
    }
    // Its words are read without blocking, so that a child of it that keeps the pipe open can't hold us.
    let mut stderr = child.stderr.take();
    let mut words = Vec::new();
    if let Some(pipe) = &stderr {
        let _ = nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
    }
    let mut pause = Duration::from_micros(200);
    loop {
        listen(&mut stderr, &mut words);
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            listen(&mut stderr, &mut words);
            let said = String::from_utf8_lossy(&words).trim().to_string();
            let said = if said.is_empty() { said } else { format!(": {said}") };
            return match (status.code(), status.signal()) {
                (Some(0), _) => Ok(()),
                (Some(code), _) => Err(format!("it ended with code {code}{said}")),
                (None, signal) => Err(format!("it was ended by signal {}{said}", signal.unwrap_or(0))),
            };
        }
        if deadline.is_some_and(|end| Instant::now() >= end) {
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
            return Err(format!("it took longer than its timeout of {} s", hook.timeout.unwrap_or(0)));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn listen(pipe: &mut Option<std::process::ChildStderr>, words: &mut Vec<u8>) {
    use std::io::Read;
    let Some(pipe) = pipe else { return };
    let mut chunk = [0u8; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut chunk) {
        let room = 16384usize.saturating_sub(words.len());
        words.extend_from_slice(&chunk[..length.min(room)]);
    }
}
