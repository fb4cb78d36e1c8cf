//! `-v`, `--mount` and `--tmpfs`: three ways to say what is mounted where.
//!
//! Read: docker run(1) `--volume`, `--mount`.

use std::path::PathBuf;

use crate::engine::request::Volume;
use crate::error::{Doing, Error, Result};

const PROPAGATIONS: [&str; 6] = ["shared", "rshared", "slave", "rslave", "private", "rprivate"];

/// `/host:/container[:ro,rslave]`
///
/// # Errors
/// Invalid.
pub fn short(text: &str) -> Result<Volume> {
    let doing = || format!("use --volume {text}");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        [_] => return Err(Error::invalid(doing(), "this version knows bind mounts only: write /host:/container")),
        _ => return Err(Error::invalid(doing(), "it has too many colons; write /host:/container[:ro]")),
    };
    let source = match source {
        "" => return Err(Error::invalid(doing(), "invalid volume specification: the source is empty")),
        // A relative path is meant from here when it looks like one.
        source if source.starts_with('/') || source.starts_with('.') || source.starts_with('~') => std::path::absolute(source).doing(doing)?,
        name => return Err(Error::invalid(doing(), format!("{name:?} names a volume, and this version knows bind mounts only; write a path"))),
    };
    let (mut read_only, mut propagation) = (false, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            _ if PROPAGATIONS.contains(&option) => propagation = Some(option.to_string()),
            // SELinux labels of the content: without SELinux there is nothing to label, as with Docker.
            "z" | "Z" if !crate::runtime::labels::selinux_is_on() => {}
            _ => return Err(Error::invalid(doing(), format!("invalid mode: {option}"))),
        }
    }
    Ok(Volume::Bind { source, target: target_of(target, &doing())?, read_only, propagation, make_source: true })
}

/// `type=bind,source=/host,target=/container,readonly`
///
/// # Errors
/// Invalid, NotFound.
pub fn long(text: &str) -> Result<Volume> {
    let doing = || format!("use --mount {text}");
    let (mut kind, mut source, mut target, mut read_only, mut propagation) = ("volume", None, None, false, None);
    let mut options = Vec::new();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        match (key.to_ascii_lowercase().as_str(), value) {
            ("type", Some(value)) => kind = value,
            ("source" | "src", Some(value)) => source = Some(value),
            ("target" | "dst" | "destination", Some(value)) => target = Some(value),
            ("readonly" | "ro", None | Some("true" | "1")) => read_only = true,
            ("readonly" | "ro", Some("false" | "0")) => read_only = false,
            ("bind-propagation", Some(value)) if PROPAGATIONS.contains(&value) => propagation = Some(value.to_string()),
            ("tmpfs-size", Some(value)) => options.push(format!("size={}", super::size::bytes(value).map_err(|why| Error::invalid(doing(), why))?)),
            ("tmpfs-mode", Some(value)) => options.push(format!("mode={value}")),
            _ => return Err(Error::invalid(doing(), format!("unexpected key or value {field:?}"))),
        }
    }
    let target = target_of(target.ok_or_else(|| Error::invalid(doing(), "target is required"))?, &doing())?;
    match kind {
        "tmpfs" => {
            options.extend(read_only.then(|| "ro".to_string()));
            Ok(Volume::Tmpfs { target, options })
        }
        "bind" => {
            let source: PathBuf = source.ok_or_else(|| Error::invalid(doing(), "source is required"))?.into();
            if !source.is_absolute() {
                return Err(Error::invalid(doing(), format!("{} is not an absolute path", source.display())));
            }
            std::fs::metadata(&source).doing(|| format!("bind {}", source.display()))?;
            Ok(Volume::Bind { source, target, read_only, propagation, make_source: false })
        }
        other => Err(Error::invalid(doing(), format!("type {other:?} is neither bind nor tmpfs, which this version knows"))),
    }
}

/// `/place[:size=64m,mode=700]`
///
/// # Errors
/// Invalid.
pub fn tmpfs(text: &str) -> Result<Volume> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let doing = format!("use --tmpfs {text}");
    let options: Vec<String> = options.split(',').filter(|option| !option.is_empty()).map(String::from).collect();
    for option in &options {
        let known = matches!(
            option.as_str(),
            "rw" | "ro" | "nosuid" | "suid" | "nodev" | "dev" | "noexec" | "exec" | "noatime" | "nodiratime" | "relatime" | "strictatime" | "sync"
        );
        let sized = ["size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks="].iter().any(|key| option.starts_with(key));
        if !known && !sized {
            return Err(Error::invalid(doing, format!("invalid tmpfs option: {option}")));
        }
    }
    Ok(Volume::Tmpfs { target: target_of(target, &doing)?, options })
}

fn target_of(text: &str, doing: &str) -> Result<PathBuf> {
    let target = PathBuf::from(text);
    match target.is_absolute() && target.file_name().is_some() && !text.contains("/..") {
        // As few slashes as needed, so that places can be compared.
        true => Ok(target.components().collect()),
        false => Err(Error::invalid(doing, format!("invalid mount path: {text:?} must be absolute, and not /"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_say_the_same() {
        let bind = Volume::Bind { source: "/a".into(), target: "/b".into(), read_only: true, propagation: None, make_source: true };
        assert_eq!(short("/a:/b:ro").unwrap(), bind);
        assert_eq!(short("/a:/b//:ro").unwrap(), bind);
        assert_eq!(
            long("type=bind,src=/,dst=/b,readonly").unwrap(),
            Volume::Bind { source: "/".into(), target: "/b".into(), read_only: true, propagation: None, make_source: false }
        );
        assert_eq!(tmpfs("/t:size=1m").unwrap(), Volume::Tmpfs { target: "/t".into(), options: vec!["size=1m".into()] });
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for wrong in ["", "/a", "data:/b", "/a:b", "/a:/", "/a:/b:rx", "/a:/b:ro:more", "/a:/b/../c"] {
            assert!(short(wrong).is_err(), "{wrong}");
        }
        for wrong in ["type=bind,src=/", "type=bind,dst=/b", "type=npipe,dst=/b", "nonsense", "type=bind,src=/surely/not/there,dst=/b"] {
            assert!(long(wrong).is_err(), "{wrong}");
        }
        assert!(tmpfs("/t:wrong").is_err());
    }
}
