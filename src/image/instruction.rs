//! One line of a Dockerfile that changes an image's settings only: what `import --change` and `commit --change` take.
//!
//! Read: docker import(1). Source: the Dockerfile reference.

use serde_json::json;

use super::manifest::{ContainerConfig, Healthcheck};
use crate::error::{Error, Result};

/// Does to the settings what the line says, such as `CMD ["/bin/sh"]` or `ENV A=1`.
///
/// # Errors
/// Invalid for another instruction, or one without what it needs.
pub fn apply(config: &mut ContainerConfig, line: &str) -> Result<()> {
    let wrong = |why: &str| Error::invalid(format!("apply the change {line:?}"), why);
    let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(wrong("it is not INSTRUCTION and what it needs"));
    }
    match word.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = command(rest, config),
        "ENTRYPOINT" => config.entrypoint = command(rest, config),
        "ENV" => {
            for (key, value) in pairs(rest).ok_or_else(|| wrong("ENV needs NAME=VALUE"))? {
                config.env.retain(|one| one.split('=').next() != Some(&key));
                config.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest).ok_or_else(|| wrong("LABEL needs KEY=VALUE"))?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                let ends: Vec<_> = number.split('-').map(str::parse::<u16>).collect();
                if ends.len() > 2 || ends.iter().any(|end| end.is_err()) || !["tcp", "udp", "sctp"].contains(&protocol) {
                    return Err(wrong("EXPOSE needs a port, such as 80 or 53/udp"));
                }
                config.exposed_ports.insert(format!("{number}/{protocol}"), json!({}));
            }
        }
        "USER" => config.user = rest.into(),
        "WORKDIR" => {
            let joined = std::path::Path::new("/").join(&config.working_dir).join(rest);
            config.working_dir = joined.to_string_lossy().into_owned();
        }
        "VOLUME" => {
            let folders = json_words(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_string).collect());
            config.volumes.extend(folders.into_iter().map(|folder| (folder, json!({}))));
        }
        "STOPSIGNAL" => config.stop_signal = Some(rest.into()),
        "SHELL" => config.shell = json_words(rest).ok_or_else(|| wrong("SHELL needs a list in JSON"))?,
        "ONBUILD" => config.on_build.push(rest.into()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest).map_err(|why| wrong(&why))?),
        other => return Err(wrong(&format!("{other} is not a valid change command"))),
    }
    Ok(())
}

/// A list in JSON as it is; a line goes to the shell.
fn command(text: &str, config: &ContainerConfig) -> Vec<String> {
    let usual = || vec!["/bin/sh".into(), "-c".into()];
    json_words(text).unwrap_or_else(|| {
        let mut words = if config.shell.is_empty() { usual() } else { config.shell.clone() };
        words.push(text.into());
        words
    })
}

fn json_words(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// `A=1 B="two words"`, or of old `A all the rest`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let words = words(text);
    if !words.first()?.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(key.into(), value.trim().into())]);
    }
    words.iter().map(|word| word.split_once('=').filter(|(key, _)| !key.is_empty()).map(|(key, value)| (key.into(), value.into()))).collect()
}

/// Words, with quotes and backslashes taken off.
fn words(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(letters.next()),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (_, Some(open)) if letter == open => quote = None,
            (_, None) if letter.is_whitespace() => all.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    all.extend(word);
    all
}

/// `NONE`, or `[--interval=30s …] CMD command`.
fn healthcheck(text: &str) -> std::result::Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let (key, value) = option.split_once('=').ok_or_else(|| format!("--{option} needs a value"))?;
        let wrong = || format!("--{key}={value} is no time such as 30s");
        match key {
            "interval" => check.interval = nanoseconds(value).ok_or_else(wrong)?,
            "timeout" => check.timeout = nanoseconds(value).ok_or_else(wrong)?,
            "start-period" => check.start_period = nanoseconds(value).ok_or_else(wrong)?,
            "start-interval" => check.start_interval = nanoseconds(value).ok_or_else(wrong)?,
            "retries" => check.retries = value.parse().map_err(|_| format!("{value:?} is no number"))?,
            _ => return Err(format!("HEALTHCHECK knows no --{key}")),
        }
        rest = after.trim_start();
    }
    check.test = match rest.split_once(char::is_whitespace) {
        None if rest.eq_ignore_ascii_case("none") => vec!["NONE".into()],
        Some((word, command)) if word.eq_ignore_ascii_case("cmd") => match json_words(command.trim()) {
            Some(words) => std::iter::once("CMD".to_string()).chain(words).collect(),
            None => vec!["CMD-SHELL".into(), command.trim().into()],
        },
        _ => return Err("HEALTHCHECK needs NONE, or CMD and a command".into()),
    };
    Ok(check)
}

/// `1m30s`, `500ms`, as Go writes times.
fn nanoseconds(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 6] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[digits..end])?;
        sum += rest[..digits].parse::<f64>().ok()? * unit;
        rest = &rest[end..];
    }
    (!text.is_empty() && sum < u64::MAX as f64).then_some(sum as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> ContainerConfig {
        let mut config = ContainerConfig::default();
        lines.iter().for_each(|line| apply(&mut config, line).unwrap());
        config
    }

    #[test]
    fn each_instruction_changes_its_setting() {
        let config = after(&[
            "CMD [\"a\", \"b\"]",
            "entrypoint run it",
            "ENV A=1 B=\"two words\" C=x\\ y",
            "ENV A 2 and more",
            "LABEL k='v w'",
            "EXPOSE 80 53/udp",
            "WORKDIR /a",
            "WORKDIR b",
            "VOLUME [\"/data\"]",
            "STOPSIGNAL SIGQUIT",
            "HEALTHCHECK --interval=5s --retries=3 CMD true",
        ]);
        assert_eq!(config.cmd, ["a", "b"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "run it"]);
        assert_eq!(config.env, ["B=two words", "C=x y", "A=2 and more"]);
        assert_eq!(config.labels["k"], "v w");
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!((config.working_dir.as_str(), config.stop_signal.as_deref()), ("/a/b", Some("SIGQUIT")));
        assert!(config.volumes.contains_key("/data"));
        let check = config.healthcheck.unwrap();
        assert_eq!((check.test, check.interval, check.retries), (vec!["CMD-SHELL".to_string(), "true".into()], 5_000_000_000, 3));
    }

    #[test]
    fn what_is_no_change_is_refused_by_name() {
        for line in ["", "CMD", "RUN rm -rf /", "FROM scratch", "EXPOSE http", "ENV =x", "SHELL sh", "HEALTHCHECK true"] {
            let error = apply(&mut ContainerConfig::default(), line).unwrap_err();
            assert!(error.to_string().contains("apply the change"), "{error}");
        }
    }
}
