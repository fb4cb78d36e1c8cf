//! The values of options that are more than a word: variables, limits, devices, addresses.
//!
//! Read: docker run(1).

use std::path::PathBuf;

use super::human;
use crate::engine::request::{HostDevice, Log, Namespace, Restart};
use crate::error::{Doing, Error, Result};
use crate::runtime::spec::Rlimit;
use crate::sys::sched::RLIMITS;

/// Files first, then `-e`: a later one wins. NAME alone takes the caller's value, and is left out when there is none.
///
/// # Errors
/// NotFound for a file, Invalid for a line without a name.
pub fn environment(files: &[PathBuf], pairs: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).doing(|| format!("read the environment file {}", file.display()))?;
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.split('=').next().unwrap_or_default();
            if name.is_empty() || name.contains(char::is_whitespace) {
                let place = format!("use the environment file {}, line {}", file.display(), number + 1);
                return Err(Error::invalid(place, format!("{name:?} is no name of a variable")));
            }
            all.push(line.to_string());
        }
    }
    all.extend(pairs.iter().cloned());
    let mut env = Vec::new();
    for text in all {
        match text.split_once('=') {
            Some(("", _)) => return Err(Error::invalid(format!("set the variable {text:?}"), "it has no name")),
            Some(_) => env.push(text),
            None => env.extend(std::env::var(&text).ok().map(|value| format!("{text}={value}"))),
        }
    }
    Ok(env)
}

/// `KEY=VALUE`, or KEY alone.
pub fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.into(), value.into())
}

/// `NAME=VALUE` for an option that makes no sense without a value.
///
/// # Errors
/// Invalid.
pub fn required_pair(option: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(Error::invalid(format!("use {option} {text}"), "it is not NAME=VALUE")),
    }
}

/// `NAME:ADDRESS` for /etc/hosts.
///
/// # Errors
/// Invalid.
pub fn host(text: &str) -> Result<(String, String)> {
    let wrong = || Error::invalid(format!("use --add-host {text}"), "it is not NAME:ADDRESS");
    let (name, address) = text.split_once([':', '=']).ok_or_else(wrong)?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if bare != "host-gateway" {
        bare.parse::<std::net::IpAddr>().map_err(|_| wrong())?;
    }
    Ok((name.into(), bare.into()))
}

/// A number of CPUs, such as 0.5.
///
/// # Errors
/// What is wrong with the text.
pub fn cpus(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.01..1e6).contains(&number) => Ok(number),
        _ => Err("it is not a number of CPUs from 0.01 up".into()),
    }
}

/// `nofile=1024:2048`; -1 is unlimited.
///
/// # Errors
/// What is wrong with the text.
pub fn ulimit(text: &str) -> std::result::Result<Rlimit, String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=SOFT[:HARD]")?;
    let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
    if !RLIMITS.iter().any(|(known, _)| *known == kind) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        if text == "-1" || text == "unlimited" { Ok(u64::MAX) } else { text.parse::<u64>().map_err(|_| format!("{text:?} is no number")) }
    };
    let (soft, hard) = match value.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(value)?, number(value)?),
    };
    if soft > hard {
        return Err("ulimit soft limit must be less than or equal to hard limit".into());
    }
    Ok(Rlimit { kind, soft, hard })
}

/// `/dev/x[:/dev/y[:rwm]]`
///
/// # Errors
/// What is wrong with the text.
pub fn device(text: &str) -> std::result::Result<HostDevice, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_access = |word: &str| !word.is_empty() && word.chars().all(|c| "rwm".contains(c));
    let (source, target, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, target] => (source, target, "rwm"),
        [source, target, access] if is_access(access) => (source, target, access),
        _ => return Err("it is not /dev/x[:/dev/y[:rwm]]".into()),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err("a device is named by its absolute path".into());
    }
    Ok(HostDevice { source: source.into(), target: target.into(), access: access.into() })
}

/// `host` or `private`.
///
/// # Errors
/// For another word.
pub fn namespace(text: &str) -> std::result::Result<Namespace, String> {
    match text {
        "host" => Ok(Namespace::Host),
        "private" | "" => Ok(Namespace::Own),
        _ => Err("it is neither host nor private".into()),
    }
}

/// `no`, `always`, `unless-stopped`, `on-failure[:TIMES]`.
///
/// # Errors
/// For another word.
pub fn restart(text: &str) -> std::result::Result<Restart, String> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("no" | "", "") => Ok(Restart::No),
        ("always", "") => Ok(Restart::Always),
        ("unless-stopped", "") => Ok(Restart::UnlessStopped),
        ("on-failure", "") => Ok(Restart::OnFailure(0)),
        ("on-failure", times) => times.parse().map(Restart::OnFailure).map_err(|_| format!("{times:?} is no number of times")),
        ("always" | "unless-stopped" | "no", _) => Err("maximum retry count can only be used with 'on-failure'".into()),
        _ => Err("it is none of no, always, unless-stopped, on-failure[:TIMES]".into()),
    }
}

/// A time as Go writes it (`1m30s`, `500ms`), in nanoseconds.
///
/// # Errors
/// For what is no time, or is too short to do anything but check.
pub fn nanoseconds(text: &str) -> std::result::Result<i64, String> {
    let length = if text == "0" { Some(Default::default()) } else { human::length(text) };
    match length.and_then(|length| i64::try_from(length.as_nanos()).ok()) {
        Some(short) if short > 0 && short < 1_000_000 => Err("it cannot be less than 1ms".into()),
        Some(nanoseconds) => Ok(nanoseconds),
        None => Err(format!("{text:?} is no time such as 30s, 1m30s or 500ms")),
    }
}

/// Where what a container writes is kept.
///
/// # Errors
/// Unsupported for another driver, Invalid for another option.
pub fn log(driver: &str, options: &[String]) -> Result<Log> {
    let mut log = Log { kept: driver != "none", ..Log::default() };
    if !matches!(driver, "json-file" | "none") {
        let why = "this engine keeps logs as json-file, or not at all (none)";
        return Err(Error::new(crate::error::Class::Unsupported, format!("use --log-driver {driver}"), why));
    }
    for text in options {
        let (name, value) = required_pair("--log-opt", text)?;
        let wrong = |why: String| Error::invalid(format!("use --log-opt {text}"), why);
        match name.as_str() {
            "max-size" if log.kept => match super::size::bytes(&value).map_err(wrong)? {
                -1 => log.max_size = None,
                size if size > 0 => log.max_size = Some(size as u64),
                _ => return Err(wrong("a log of no size holds nothing".into())),
            },
            "max-file" if log.kept => match value.parse() {
                Ok(count) if count > 0 => log.max_file = count,
                _ => return Err(wrong("max-file is a number of files, 1 or more".into())),
            },
            _ => return Err(wrong(format!("unknown log opt '{name}' for {driver} log driver"))),
        }
    }
    if log.max_file > 1 && log.max_size.is_none() {
        return Err(Error::invalid("use --log-opt max-file", "max-file needs max-size: it says how many files of that size are kept"));
    }
    Ok(log)
}

/// Keys that end an attendance, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(pub Vec<u8>);

/// `ctrl-p,ctrl-q`, or single letters.
///
/// # Errors
/// For what is no key.
pub fn detach_keys(text: &str) -> std::result::Result<Keys, String> {
    let key = |word: &str| -> std::result::Result<u8, String> {
        match (word.strip_prefix("ctrl-").map(str::as_bytes), word.as_bytes()) {
            (Some([letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]), _) => Ok(letter.to_ascii_uppercase() - b'@'),
            (None, [byte]) => Ok(*byte),
            _ => Err(format!("{word:?} is no key: a letter, or ctrl- and one of a-z @ [ \\ ] ^ _")),
        }
    };
    if text.is_empty() {
        return Ok(Keys(Vec::new()));
    }
    text.split(',').map(key).collect::<std::result::Result<_, _>>().map(Keys)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn limits_and_devices_are_read_as_docker_reads_them() {
        assert_eq!(ulimit("nofile=10:20").unwrap(), Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 10, hard: 20 });
        assert_eq!(ulimit("core=-1").unwrap().soft, u64::MAX);
        assert!(ulimit("nofile=20:10").is_err() && ulimit("nonsense=1").is_err());
        assert_eq!(device("/dev/a:r").unwrap().access, "r");
        assert_eq!(device("/dev/a:/dev/b").unwrap().target, Path::new("/dev/b"));
        assert!(device("a").is_err() && device("/dev/a:/dev/b:x").is_err());
        assert!(host("db:10.0.0.1").is_ok() && host("db:::1").is_ok() && host("db").is_err());
    }

    #[test]
    fn times_and_policies_and_keys_are_read_as_docker_reads_them() {
        assert_eq!(nanoseconds("1m30s"), Ok(90_000_000_000));
        assert_eq!(nanoseconds("500ms"), Ok(500_000_000));
        assert!(nanoseconds("5").is_err() && nanoseconds("").is_err() && nanoseconds("1x").is_err() && nanoseconds("10us").is_err());
        assert_eq!(restart("on-failure:3"), Ok(Restart::OnFailure(3)));
        assert!(restart("always:3").is_err() && restart("sometimes").is_err());
        assert_eq!(detach_keys("ctrl-p,ctrl-q"), Ok(Keys(vec![16, 17])));
        assert_eq!(detach_keys("a,ctrl-["), Ok(Keys(vec![b'a', 27])));
        assert!(detach_keys("ctrl-1").is_err() && detach_keys("ab").is_err());
        assert_eq!(log("json-file", &["max-size=10k".into(), "max-file=3".into()]).unwrap().max_size, Some(10240));
        assert!(log("syslog", &[]).is_err() && log("none", &["max-size=1".into()]).is_err() && log("json-file", &["max-file=2".into()]).is_err());
    }

    #[test]
    fn a_variable_without_a_value_takes_the_callers() {
        let env = environment(&[], &["A=1".into(), "PATH".into(), "ONGGI_SURELY_NOT_SET".into()]).unwrap();
        assert_eq!(env.len(), 2);
        assert!(env[1].starts_with("PATH="));
        assert!(environment(&[], &["=x".into()]).is_err());
    }
}
