//! A folder becomes the root of one command. Nothing else is its own: it still has the host's processes, network and host name.
//!
//! Try it: `mkdir jar; onggi export $(onggi create base) | tar -x -C jar; step-01 jar sh`
//! See it: `ls -l /proc/PID/root` in another shell, PID being the command's
//! Read: chroot(2), path_resolution(7), execve(2)

use std::env;
use std::fmt::Display;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use nix::errno::Errno;
use nix::unistd::{chdir, chroot};

const NAME: &str = env!("CARGO_BIN_NAME");
const USAGE: &str = "ROOTFS COMMAND [ARG]...";

/// Why it can't be, and the exit code that says so: 125 is for this program's own failures, 126 and 127 are for the command's.
struct Failure(i32, String);
type Result<T> = std::result::Result<T, Failure>;

/// What is asked for.
struct Request {
    rootfs: String,
    command: Vec<String>,
}

fn main() {
    exit(parse().and_then(|request| run(&request)).unwrap_or_else(tell))
}

fn parse() -> Result<Request> {
    let mut words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let rootfs = words.next().ok_or_else(usage)?;
    let command: Vec<String> = words.collect();
    if command.is_empty() {
        return Err(usage());
    }
    Ok(Request { rootfs, command })
}

/// Answers the exit code, if it answers: on the good path this process becomes the command.
fn run(request: &Request) -> Result<i32> {
    enter(&request.rootfs)?;
    Err(execute(&request.command))
}

/// From here on every path begins in `rootfs`.
fn enter(rootfs: &str) -> Result<()> {
    chroot(rootfs).map_err(|error| match error {
        Errno::EPERM => Failure(125, "chroot asks for CAP_SYS_CHROOT, which root has; step-02 gets it from a user namespace".into()),
        error => failed(format!("chroot to {rootfs}"))(error),
    })?;
    // chroot(2) moves only the beginning of absolute paths. The working directory is still outside, and `..` leads on from there.
    chdir("/").map_err(failed("enter the root"))
}

/// Becomes the command: same process, same PID, other program. Comes back only to say why not.
fn execute(command: &[String]) -> Failure {
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    Failure(code, format!("{}: {error}", command[0]))
}

fn usage() -> Failure {
    Failure(125, format!("usage: {NAME} {USAGE}"))
}

/// For `map_err`: what was tried, and then what the kernel says.
fn failed<E: Display>(tried: impl Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure(125, format!("{tried}: {error}"))
}

fn tell(Failure(code, why): Failure) -> i32 {
    eprintln!("{NAME}: {why}");
    code
}
