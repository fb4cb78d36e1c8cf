//! `onggi login` and `logout`: the credentials for a registry, asked for, tried, and kept where Docker keeps them.
//!
//! See it: `jq .auths ~/.docker/config.json`. Read: docker-login(1), docker-logout(1).

use std::io::{IsTerminal, Read, Write};

use clap::Args;

use super::password;
use super::say;
use crate::error::{Class, Doing, Error, Result};
use crate::image::reference;
use crate::image::registry::auth;
use crate::image::registry::credentials::{self, Credentials, HUB_KEY, Place};
use crate::image::registry::settings::{HUB, Settings};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  onggi login localhost:5000\n  onggi login -u me --password-stdin lab:5000 < password.txt")]
pub struct LoginArgs {
    /// A registry, as images are named there; the Hub when there is none
    #[arg(value_name = "SERVER")]
    server: Option<String>,
    /// Who you are there
    #[arg(short, long)]
    username: Option<String>,
    /// Your password or token, for all on this machine to see
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Take the password or token from standard input
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  onggi logout localhost:5000")]
pub struct LogoutArgs {
    /// A registry, as images are named there; the Hub when there is none
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// A token is some kilobytes.
const LONGEST_PASSWORD: u64 = 64 << 10;

/// Tries the credentials, and keeps them when they are good.
///
/// # Errors
/// Denied when they aren't; Invalid for what can't be asked; what keeping them says.
pub fn login(args: &LoginArgs) -> Result<u8> {
    let registry = registry_of(args.server.as_deref())?;
    let settings = Settings::load()?;
    if args.password.is_some() {
        warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let password = match (&args.password, args.password_stdin) {
        (_, true) if args.username.is_none() => {
            return Err(Error::invalid(doing(&registry), "the --password-stdin option requires --username to be set"));
        }
        (_, true) => Some(password_from_stdin(&registry)?),
        (given, false) => given.clone(),
    };
    if args.username.is_none() && password.is_none() && login_again(&settings, &registry)? {
        return say("Login Succeeded");
    }
    let (user, password) = ask(&registry, args.username.as_deref(), password)?;
    let given = Credentials::Password { user: user.clone(), password };
    let kept = match auth::check(&settings, &registry, &given)? {
        Some(token) => Credentials::IdentityToken(token),
        None => given,
    };
    if let Place::File(file) = credentials::store(&registry, &user, &kept)? {
        warn(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            file.display()
        ));
    }
    say("Login Succeeded")
}

/// Forgets the credentials.
///
/// # Errors
/// Invalid for what is no registry; what forgetting them says.
pub fn logout(args: &LogoutArgs) -> Result<u8> {
    let registry = registry_of(args.server.as_deref())?;
    let told = if registry == HUB { HUB_KEY } else { &registry };
    match credentials::erase(&registry)? {
        true => say(format!("Removing login credentials for {told}")),
        false => say(format!("Not logged in to {told}")),
    }
}

/// Tries what is kept already: whether it is good still. When it isn't, and somebody sits at the terminal, they are asked.
fn login_again(settings: &Settings, registry: &str) -> Result<bool> {
    let Some(kept) = credentials::find(registry)? else { return Ok(false) };
    say("Authenticating with existing credentials...")?;
    match auth::check(settings, registry, &kept) {
        Ok(_) => Ok(true),
        Err(e) if e.class == Class::Denied && std::io::stdin().is_terminal() => {
            warn(&format!("Login did not succeed, error: {}", e.one_line()));
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// What wasn't given is asked for at the terminal.
fn ask(registry: &str, user: Option<&str>, password: Option<String>) -> Result<(String, String)> {
    if let (Some(user), Some(password)) = (user, &password) {
        return Ok((filled(registry, "Username", user)?, filled(registry, "Password", password)?));
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::invalid(doing(registry), "Cannot perform an interactive login from a non TTY device")
            .hint("onggi login -u USER --password-stdin SERVER < FILE"));
    }
    if registry == HUB {
        say("Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a Docker ID, head over to \
             https://hub.docker.com/ to create one.")?;
    }
    let user = match user {
        Some(user) => user.to_string(),
        None => password::ask("Username: ", true)?,
    };
    let user = filled(registry, "Username", user.trim())?;
    let password = match password {
        Some(password) => password,
        None => password::ask("Password: ", false)?,
    };
    Ok((user, filled(registry, "Password", &password)?))
}

fn filled(registry: &str, what: &str, value: &str) -> Result<String> {
    match value {
        "" => Err(Error::invalid(doing(registry), format!("{what} Required"))),
        value => Ok(value.to_string()),
    }
}

/// All of standard input, without the end of its last line.
fn password_from_stdin(registry: &str) -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().take(LONGEST_PASSWORD + 1).read_to_end(&mut bytes).doing(|| "read the password from standard input".into())?;
    if bytes.len() as u64 > LONGEST_PASSWORD {
        return Err(Error::invalid(doing(registry), format!("the password on standard input is longer than {LONGEST_PASSWORD} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::invalid(doing(registry), "the password on standard input is no text"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_string())
}

/// `https://index.docker.io/v1/` and `docker.io` are the Hub, `https://lab:5000/` is `lab:5000`.
fn registry_of(server: Option<&str>) -> Result<String> {
    let Some(server) = server else { return Ok(HUB.into()) };
    let rest = server.strip_prefix("https://").or(server.strip_prefix("http://")).unwrap_or(server);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => Ok(HUB.into()),
        host if reference::is_host(host) => Ok(host.to_string()),
        _ => Err(Error::invalid(format!("use the registry {server:?}"), "it is no host name with or without a port")),
    }
}

fn doing(registry: &str) -> String {
    format!("log in to the registry {registry}")
}

fn warn(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_has_many_names_and_a_url_is_its_host() {
        for hub in [None, Some("docker.io"), Some("index.docker.io"), Some("https://index.docker.io/v1/"), Some("registry-1.docker.io")] {
            assert_eq!(registry_of(hub).unwrap(), "docker.io");
        }
        assert_eq!(registry_of(Some("https://lab:5000/v2/")).unwrap(), "lab:5000");
        assert_eq!(registry_of(Some("[::1]:5000")).unwrap(), "[::1]:5000");
        for wrong in ["", "..", "a b", "ftp://x", "me@lab"] {
            assert!(registry_of(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
