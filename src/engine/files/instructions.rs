//! `commit --change`: the Dockerfile's instructions that change only an image's settings.
//!
//! Read: Dockerfile reference; docker commit(1).

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::image::manifest::{ContainerConfig, Healthcheck};
use crate::runtime::signal;

/// Changes settings as one text says; several instructions stand on lines of their own.
///
/// # Errors
/// Invalid, with the instruction.
pub fn apply(settings: &mut ContainerConfig, text: &str) -> Result<()> {
    for line in text.replace("\\\n", " ").lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        one(settings, line).map_err(|why| Error::invalid(format!("apply the change {line:?}"), why))?;
    }
    Ok(())
}

fn one(settings: &mut ContainerConfig, line: &str) -> std::result::Result<(), String> {
    let (name, rest) = line.split_once(char::is_whitespace).map_or((line, ""), |(name, rest)| (name, rest.trim()));
    let name = name.to_ascii_uppercase();
    if rest.is_empty() {
        return Err(format!("{name} needs a value"));
    }
    let env = settings.env.clone();
    let words = || words(rest, &env);
    match name.as_str() {
        "CMD" => settings.cmd = command(rest, &settings.shell),
        "ENTRYPOINT" => settings.entrypoint = command(rest, &settings.shell),
        "ENV" => pairs(rest, &env)?.into_iter().for_each(|(key, value)| set_variable(&mut settings.env, &key, &value)),
        "LABEL" => settings.labels.extend(pairs(rest, &env)?),
        "EXPOSE" => {
            for port in words()?.iter().map(|word| ports(word)).collect::<std::result::Result<Vec<_>, _>>()?.into_iter().flatten() {
                settings.exposed_ports.insert(port, Value::Object(Map::new()));
            }
        }
        "USER" => settings.user = words()?.join(" "),
        "VOLUME" => {
            let volumes = json_list(rest).map_or_else(words, Ok)?;
            settings.volumes.extend(volumes.into_iter().map(|place| (place, Value::Object(Map::new()))));
        }
        "WORKDIR" => {
            let base = if settings.working_dir.is_empty() { "/" } else { &settings.working_dir };
            settings.working_dir = std::path::Path::new(base).join(words()?.join(" ")).display().to_string();
        }
        "STOPSIGNAL" => {
            let wanted = words()?.join(" ");
            signal::number(&wanted).map_err(|e| e.one_line())?;
            settings.stop_signal = Some(wanted);
        }
        "ONBUILD" => {
            let later = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if matches!(later.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                return Err(format!("{later} isn't allowed as an ONBUILD trigger"));
            }
            settings.on_build.push(rest.to_string());
        }
        "HEALTHCHECK" => settings.healthcheck = Some(health_check(rest)?),
        _ => return Err(format!("{} is not a valid change command", name.to_ascii_lowercase())),
    }
    Ok(())
}

/// `["a", "b"]`, or a line for the shell.
fn command(text: &str, shell: &[String]) -> Vec<String> {
    json_list(text).unwrap_or_else(|| {
        let shell: Vec<String> = if shell.is_empty() { ["/bin/sh", "-c"].map(String::from).to_vec() } else { shell.to_vec() };
        [shell, vec![text.to_string()]].concat()
    })
}

fn json_list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn set_variable(env: &mut Vec<String>, key: &str, value: &str) {
    let new = format!("{key}={value}");
    match env.iter_mut().find(|old| old.split('=').next() == Some(key)) {
        Some(old) => *old = new,
        None => env.push(new),
    }
}

/// `A=1 B="x y"`, or the old form `A x y`.
fn pairs(text: &str, env: &[String]) -> std::result::Result<Vec<(String, String)>, String> {
    let words = words(text, env)?;
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).ok_or_else(|| format!("{text} must have two arguments"))?;
        return Ok(vec![(key.to_string(), expand(value.trim(), env))]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
            _ => Err(format!("can't find = in {word:?}; it must be of the form name=value")),
        })
        .collect()
}

/// `80`, `443/udp`, `8000-8002/tcp`.
fn ports(text: &str) -> std::result::Result<Vec<String>, String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("Invalid proto: {protocol}"));
    }
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| format!("Invalid containerPort: {text}"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("Invalid range specified for port: {range}"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// `NONE`, or `[--interval=5s …] CMD command`.
fn health_check(text: &str) -> std::result::Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, behind) = option.split_once(char::is_whitespace).ok_or("it has no command")?;
        let (key, value) = option.split_once('=').ok_or_else(|| format!("--{option} has no value"))?;
        match key {
            "interval" => check.interval = nanoseconds(value)?,
            "timeout" => check.timeout = nanoseconds(value)?,
            "start-period" => check.start_period = nanoseconds(value)?,
            "start-interval" => check.start_interval = nanoseconds(value)?,
            "retries" => check.retries = value.parse().map_err(|_| format!("--retries={value} is no number"))?,
            _ => return Err(format!("unknown flag: --{key}")),
        }
        rest = behind.trim_start();
    }
    let (kind, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match (kind.to_ascii_uppercase().as_str(), json_list(line.trim())) {
        ("NONE", _) if line.is_empty() => vec!["NONE".into()],
        ("CMD", _) if line.trim().is_empty() => return Err("missing command after HEALTHCHECK CMD".into()),
        ("CMD", Some(list)) => [vec!["CMD".to_string()], list].concat(),
        ("CMD", None) => vec!["CMD-SHELL".into(), line.trim().into()],
        (other, _) => return Err(format!("unknown type {other:?} in HEALTHCHECK (try CMD)")),
    };
    Ok(check)
}

/// `1m30s`, `500ms`.
fn nanoseconds(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("{text:?} is no duration; write 30s, 1m30s, 500ms");
    let (mut rest, mut total) = (text, 0f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        total += number * seconds;
        rest = &rest[unit..];
    }
    if text.is_empty() || total * 1e9 >= u64::MAX as f64 { Err(wrong()) } else { Ok((total * 1e9) as u64) }
}

/// Splits at blanks outside of quotes, and puts variables in; not between single quotes.
fn words(text: &str, env: &[String]) -> std::result::Result<Vec<String>, String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\'' | '"', None) => (quote, begun) = (Some(c), true),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => word.extend(rest.next()),
            ('$', None | Some('"')) => {
                let mut name = String::from("$");
                let braced = rest.next_if_eq(&'{').is_some();
                while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                if braced && rest.next_if_eq(&'}').is_none() {
                    return Err(format!("{text:?} has a variable without an end"));
                }
                word.push_str(&expand(&name, env));
                begun = true;
            }
            (c, None) if c.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (c, _) => word.push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("{text:?} has a quote without an end"));
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// The text with `$NAME` replaced by the variable's value, which is empty when it isn't set.
fn expand(text: &str, env: &[String]) -> String {
    let mut parts = text.split('$');
    let mut whole = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        let (name, behind) = part.split_at(end);
        let value = env.iter().find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value);
        match name {
            "" => whole.push('$'),
            _ => whole.push_str(value.unwrap_or_default()),
        }
        whole.push_str(behind);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(lines: &[&str]) -> ContainerConfig {
        let mut settings = ContainerConfig { env: vec!["PATH=/bin".into()], ..ContainerConfig::default() };
        lines.iter().for_each(|line| apply(&mut settings, line).unwrap());
        settings
    }

    #[test]
    fn each_instruction_changes_its_setting() {
        let is = changed(&[
            r#"CMD ["echo","a b"]"#,
            "entrypoint run it",
            r#"ENV A=1 B="x y" PATH=$PATH:/opt C='$A'"#,
            "ENV D d e",
            "LABEL k=v \"with blank\"=\"1 2\"",
            "EXPOSE 80 443/udp 8000-8001",
            "USER bob:staff",
            "VOLUME /v /w",
            "VOLUME [\"/x\"]",
            "WORKDIR /a\nWORKDIR b",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN ls",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f x",
        ]);
        assert_eq!(is.cmd, ["echo", "a b"]);
        assert_eq!(is.entrypoint, ["/bin/sh", "-c", "run it"]);
        assert_eq!(is.env, ["PATH=/bin:/opt", "A=1", "B=x y", "C=$A", "D=d e"]);
        assert_eq!(is.labels.into_iter().collect::<Vec<_>>(), [("k".into(), "v".into()), ("with blank".into(), "1 2".to_string())]);
        assert_eq!(is.exposed_ports.into_keys().collect::<Vec<_>>(), ["443/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!((is.user.as_str(), is.working_dir.as_str(), is.stop_signal.as_deref()), ("bob:staff", "/a/b", Some("SIGINT")));
        assert_eq!(is.volumes.into_keys().collect::<Vec<_>>(), ["/v", "/w", "/x"]);
        assert_eq!(is.on_build, ["RUN ls"]);
        let check = is.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (90_000_000_000, 2));
        assert_eq!(check.test, ["CMD-SHELL", "curl -f x"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            "RUN ls",
            "FOO x",
            "EXPOSE xx",
            "EXPOSE 0",
            "ENV",
            "ENV A",
            "LABEL 'x",
            "STOPSIGNAL NONSENSE",
            "ONBUILD FROM x",
            "HEALTHCHECK RUN x",
            "HEALTHCHECK --interval=5 CMD x",
        ] {
            assert!(apply(&mut ContainerConfig::default(), wrong).is_err(), "{wrong}");
        }
    }
}
