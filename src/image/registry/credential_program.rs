//! Programs that keep credentials: `docker-credential-NAME`, which is asked on its standard input and answers on its standard output.
//!
//! ```text
//! get     ← lab:5000                                                    → {"ServerURL": …, "Username": …, "Secret": …}
//! store   ← {"ServerURL": "lab:5000", "Username": …, "Secret": …}
//! erase   ← lab:5000
//! ```
//! What is secret goes through pipes only: everybody may read a command line (`ps`).
//!
//! Read: <https://github.com/docker/docker-credential-helpers>.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use crate::error::{Class, Doing, Error, Result};

/// Somebody may have to type the passphrase of a keyring meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer is some hundred bytes.
const BIGGEST_ANSWER: usize = 1 << 20;

/// As whom a token is kept that stands for a user.
const TOKEN: &str = "<token>";

/// What came of asking.
pub enum Found {
    Credentials(Credentials),
    /// The program has nothing for this registry.
    Nothing,
    NoProgram,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

/// What the program has for a key.
///
/// # Errors
/// What the program said; System when it doesn't answer in time, or what nobody understands.
pub fn find(name: &str, key: &str) -> Result<Found> {
    let doing = || format!("find the credentials for {key}");
    let Some(answer) = ask(name, "get", key, PATIENCE).map_err(|e| Error { doing: doing(), ..e })? else { return Ok(Found::NoProgram) };
    if !answer.is_well {
        return match answer.text.contains("credentials not found") {
            true => Ok(Found::Nothing),
            false => Err(said(name, &answer, doing())),
        };
    }
    // The error would show what it couldn't read.
    let kept: Kept = serde_json::from_str(&answer.text)
        .map_err(|_| Error::new(Class::System, doing(), format!("docker-credential-{name} answered something else than credentials")))?;
    Ok(match kept.username.as_str() {
        "" if kept.secret.is_empty() => Found::Nothing,
        TOKEN => Found::Credentials(Credentials::IdentityToken(kept.secret)),
        _ => Found::Credentials(Credentials::Password { user: kept.username, password: kept.secret }),
    })
}

/// Gives the program credentials to keep.
///
/// # Errors
/// NotFound when there is no such program; else as [`find`].
pub fn store(name: &str, key: &str, user: &str, credentials: &Credentials) -> Result<()> {
    let (username, secret) = match credentials {
        Credentials::Password { password, .. } => (user, password),
        Credentials::IdentityToken(token) => (TOKEN, token),
    };
    let kept = Kept { server_url: key.into(), username: username.into(), secret: secret.clone() };
    let doing = || format!("keep the credentials for {key}");
    let text = serde_json::to_string(&kept).map_err(|e| Error::new(Class::System, doing(), e.to_string()))?;
    succeed(name, "store", key, &text, doing())
}

/// Has the program forget what it has for a key.
///
/// # Errors
/// As [`store`].
pub fn erase(name: &str, key: &str) -> Result<()> {
    succeed(name, "erase", key, key, format!("forget the credentials for {key}"))
}

/// Whether it is a name, and not a way out of the folders of PATH.
///
/// # Errors
/// Invalid.
pub fn check_name(name: &str) -> Result<()> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && name.len() <= 64;
    if is_name { Ok(()) } else { Err(Error::invalid(format!("use the credential program {name:?}"), "its name is none: letters, digits, - _ .")) }
}

/// The failure of a program that isn't there.
pub fn missing(name: &str, key: &str) -> Error {
    let why = format!("docker-credential-{name} keeps them, and is in no folder of PATH");
    let hint = format!("install docker-credential-{name}, or remove {name:?} from the file");
    Error::new(Class::NotFound, format!("reach the credentials for {key}"), why).hint(hint)
}

fn succeed(name: &str, verb: &str, key: &str, input: &str, doing: String) -> Result<()> {
    match ask(name, verb, input, PATIENCE).map_err(|e| Error { doing: doing.clone(), ..e })? {
        None => Err(missing(name, key)),
        Some(answer) if answer.is_well || (verb == "erase" && answer.text.contains("credentials not found")) => Ok(()),
        Some(answer) => Err(said(name, &answer, doing)),
    }
}

/// A program's own words of failure; one line, for they are a stranger's.
fn said(name: &str, answer: &Answer, doing: String) -> Error {
    let line: String = answer.text.trim().lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    let words = if line.is_empty() { "it failed without a word".into() } else { line };
    Error::new(Class::System, doing, format!("docker-credential-{name}: {words}"))
}

struct Answer {
    is_well: bool,
    text: String,
}

/// Starts the program, tells it something, and hears its answer; None when there is no such program. Its standard error is ours.
fn ask(name: &str, verb: &str, input: &str, patience: Duration) -> Result<Option<Answer>> {
    let program = format!("docker-credential-{name}");
    let mut command = Command::new(&program);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        spawned => spawned.doing(|| format!("start {program}"))?,
    };
    let answer = talk(&mut child, &program, input, Instant::now() + patience);
    if answer.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    answer.map(Some)
}

fn talk(child: &mut Child, program: &str, input: &str, deadline: Instant) -> Result<Answer> {
    let doing = || format!("talk to {program}");
    if let Some(mut stdin) = child.stdin.take() {
        // Fits into the pipe. One that doesn't listen is heard all the same.
        match stdin.write_all(input.as_bytes()) {
            Err(e) if e.kind() != ErrorKind::BrokenPipe => return Err(e).doing(doing),
            _ => {}
        }
    }
    let mut bytes = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let mut chunk = [0; 4096];
        loop {
            wait_until(&stdout, deadline, program)?;
            match stdout.read(&mut chunk).doing(doing)? {
                0 => break,
                count => bytes.extend_from_slice(&chunk[..count]),
            }
            if bytes.len() > BIGGEST_ANSWER {
                return Err(Error::new(Class::System, doing(), "it doesn't stop answering"));
            }
        }
    }
    loop {
        if let Some(status) = child.try_wait().doing(doing)? {
            return Ok(Answer { is_well: status.success(), text: String::from_utf8_lossy(&bytes).into_owned() });
        }
        if Instant::now() >= deadline {
            return Err(silent(program));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_until(from: &impl AsFd, deadline: Instant, program: &str) -> Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(silent(program)),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e).doing(|| format!("talk to {program}")),
        }
    }
}

fn silent(program: &str) -> Error {
    Error::new(Class::System, format!("talk to {program}"), format!("{program} doesn't answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for name in ["desktop", "desktop.exe", "osxkeychain", "ecr-login", "a_b"] {
            assert!(check_name(name).is_ok());
        }
        for name in ["", ".", "..", "../x", "a/b", "a b", "-x", "a\0b", "a;b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn one_that_is_silent_is_ended() {
        let mut child = Command::new("sleep").arg("100").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        let error = talk(&mut child, "sleep", "x", began + Duration::from_millis(50)).err().unwrap().to_string();
        assert!(error.contains("doesn't answer") && began.elapsed() < Duration::from_secs(5), "{error}");
        let _ = child.kill();
        let _ = child.wait();
    }

    #[test]
    fn one_that_never_stops_is_ended() {
        let mut child = Command::new("yes").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let error = talk(&mut child, "yes", "x", Instant::now() + Duration::from_secs(20)).err().unwrap().to_string();
        assert!(error.contains("doesn't stop"), "{error}");
        let _ = child.kill();
        let _ = child.wait();
    }
}
