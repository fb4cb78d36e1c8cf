//! A folder becomes the root of one command. Nothing else is its own: it still has the host's processes, network and host name.
//!
//! Try it: `onggi create --name jar base; mkdir jar; onggi export jar | tar -x -C jar; onggi rm jar; step-01 jar sh`
//! See it: `ls -l /proc/PID/root` in another shell, PID being the command's
//! Read: chroot(2), path_resolution(7), execve(2)

use std::env;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use nix::unistd::{chdir, chroot, geteuid};
use onggi::error::{Class, Doing, Error, Result};

const NAME: &str = env!("CARGO_BIN_NAME");
const USAGE: &str = "ROOTFS COMMAND [ARG]...";

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
    if command.is_empty() { Err(usage()) } else { Ok(Request { rootfs, command }) }
}

/// Comes back only with a failure: on the good path this process becomes the command.
fn run(request: &Request) -> Result<i32> {
    enter(&request.rootfs)?;
    execute(&request.command)
}

/// From here on every path begins in `rootfs`.
fn enter(rootfs: &str) -> Result<()> {
    if !geteuid().is_root() {
        let why = "it asks for CAP_SYS_CHROOT, which root has; step-02 gets it from a user namespace";
        return Err(Error::new(Class::Denied, "chroot", why));
    }
    chroot(rootfs).doing(|| format!("chroot to {rootfs}"))?;
    // chroot(2) moves only the beginning of absolute paths. The working directory is still outside, and `..` leads on from there.
    chdir("/").doing(|| "enter the new root".into())
}

/// Becomes the command: same process, same PID, another program. Comes back only to say why not.
fn execute(command: &[String]) -> Result<i32> {
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    let class = if error.kind() == ErrorKind::NotFound { Class::CommandNotFound } else { Class::CommandNotRunnable };
    Err(Error::io(format!("run {}", command[0]), &error).class(class))
}

fn usage() -> Error {
    Error::invalid("begin", format!("usage: {NAME} {USAGE}"))
}

/// One line. Exit code 125 is for our own failures, 126 and 127 are for the command's, as in a shell.
fn tell(error: Error) -> i32 {
    eprintln!("{NAME}: {}", error.one_line());
    error.exit_code().into()
}
