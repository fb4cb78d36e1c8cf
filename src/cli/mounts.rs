//! `-v`, `--mount`, `--tmpfs` and `--volumes-from`: four ways to say what is mounted where.
//!
//! Read: docker run(1) `--volume`, `--mount`.

use std::path::{Path, PathBuf};

use crate::engine::request::{Below, NamedVolume, Volume};
use crate::error::{Doing, Error, Result};
use crate::volume;

const PROPAGATIONS: [&str; 6] = ["shared", "rshared", "slave", "rslave", "private", "rprivate"];
/// How fresh what others write must be, on machines where Docker has to copy it; here all see the same file.
const CONSISTENCIES: [&str; 4] = ["default", "consistent", "cached", "delegated"];

/// `/host:/container[:ro,rslave]`, `name:/container[:ro,nocopy]`, `/container`
///
/// # Errors
/// Invalid.
pub fn short(text: &str) -> Result<Volume> {
    let doing = || format!("use --volume {text}");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(Error::invalid(doing(), "it has too many colons; write /host:/container[:ro]")),
    };
    if source.is_empty() && parts.len() > 1 {
        return Err(Error::invalid(doing(), "invalid volume specification: the source is empty"));
    }
    let target = target_of(target, &doing())?;
    // A relative path is meant from here when it looks like one.
    let is_path = source.starts_with('/') || source.starts_with('.') || source.starts_with('~');
    let (mut read_only, mut no_copy, mut propagation) = (false, false, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" if !is_path => no_copy = true,
            _ if PROPAGATIONS.contains(&option) && is_path => propagation = Some(option.to_string()),
            _ if CONSISTENCIES.contains(&option) => {}
            // SELinux labels of the content: without SELinux there is nothing to label, as with Docker.
            "z" | "Z" if !crate::runtime::labels::selinux_is_on() => {}
            _ => return Err(Error::invalid(doing(), format!("invalid mode: {option}"))),
        }
    }
    if is_path {
        let source = std::path::absolute(source).doing(doing)?;
        return Ok(Volume::Bind { source, target, read_only, propagation, make_source: true, below: Below::Enabled });
    }
    if !source.is_empty() {
        volume::check_name(source)?;
    }
    let (name, mode, anonymous) = (source.to_string(), options.to_string(), source.is_empty());
    Ok(Volume::Named(NamedVolume { name, target, read_only, anonymous, no_copy, mode, ..NamedVolume::default() }))
}

/// The fields of a `--mount`.
#[derive(Default)]
struct Fields {
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    bind: Option<(Below, Option<String>)>,
    volume: Option<NamedVolume>,
    tmpfs: Option<Vec<String>>,
}

/// `type=bind,source=/host,target=/container,readonly`
///
/// # Errors
/// Invalid, NotFound.
pub fn long(text: &str) -> Result<Volume> {
    let doing = || format!("use --mount {text}");
    let wrong = |why: String| Error::invalid(doing(), why);
    let (mut kind, mut fields) = ("volume".to_string(), Fields::default());
    for field in values(text).map_err(wrong)? {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        match (key.to_ascii_lowercase().as_str(), value) {
            ("type", Some(value)) => kind = value.to_ascii_lowercase(),
            (key, value) => set(&mut fields, key, value).map_err(wrong)?,
        }
    }
    let target = target_of(fields.target.as_deref().ok_or_else(|| wrong("target is required".into()))?, &doing())?;
    let mixed = [("bind", fields.bind.is_some()), ("volume", fields.volume.is_some()), ("tmpfs", fields.tmpfs.is_some())];
    if let Some((other, _)) = mixed.iter().find(|(own, given)| *given && *own != kind) {
        return Err(wrong(format!("cannot mix '{other}-*' options with mount type '{kind}'")));
    }
    match kind.as_str() {
        "tmpfs" if fields.source.is_some() => Err(wrong("source is not for a tmpfs".into())),
        "tmpfs" => {
            let mut options = fields.tmpfs.unwrap_or_default();
            options.extend(fields.read_only.then(|| "ro".to_string()));
            Ok(Volume::Tmpfs { target, options })
        }
        "bind" => bind(fields, target, &doing()),
        "volume" => {
            let name = fields.source.unwrap_or_default();
            if !name.is_empty() {
                volume::check_name(&name)?;
            }
            let (anonymous, read_only) = (name.is_empty(), fields.read_only);
            let mode = if anonymous { "z" } else { "" }.to_string();
            Ok(Volume::Named(NamedVolume { name, target, read_only, anonymous, mode, ..fields.volume.unwrap_or_default() }))
        }
        other => Err(wrong(format!("type {other:?} is neither bind, volume nor tmpfs"))),
    }
}

fn bind(fields: Fields, target: PathBuf, doing: &str) -> Result<Volume> {
    let wrong = |why: String| Error::invalid(doing, why);
    let source: PathBuf = fields.source.ok_or_else(|| wrong("source is required".into()))?.into();
    if !source.is_absolute() {
        return Err(wrong(format!("{} is not an absolute path", source.display())));
    }
    let (below, propagation) = fields.bind.unwrap_or_default();
    if matches!(below, Below::Writable | Below::Readonly) && !fields.read_only {
        let word = if below == Below::Writable { "writable" } else { "readonly" };
        return Err(wrong(format!("option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction")));
    }
    if below == Below::Readonly && propagation.as_deref() != Some("rprivate") {
        return Err(wrong("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".into()));
    }
    std::fs::metadata(&source).doing(|| format!("bind {}", source.display()))?;
    Ok(Volume::Bind { source, target, read_only: fields.read_only, propagation, make_source: false, below })
}

/// One `key=value`; Docker's words, without those that belong to other systems.
fn set(fields: &mut Fields, key: &str, value: Option<&str>) -> Result<(), String> {
    let switch = |value: Option<&str>| match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    };
    let pair = |text: &str| text.split_once('=').map_or((text.to_string(), String::new()), |(key, value)| (key.to_string(), value.to_string()));
    match (key, value) {
        ("source" | "src", Some(value)) => fields.source = Some(value.into()),
        ("target" | "dst" | "destination", Some(value)) => fields.target = Some(value.into()),
        ("readonly" | "ro", value) => fields.read_only = switch(value)?,
        ("consistency", Some(value)) if CONSISTENCIES.contains(&value.to_ascii_lowercase().as_str()) => {}
        ("bind-propagation", Some(value)) if PROPAGATIONS.contains(&value) => fields.bind.get_or_insert_default().1 = Some(value.into()),
        ("bind-nonrecursive", value) => {
            let below = &mut fields.bind.get_or_insert_default().0;
            *below = if switch(value)? { Below::Disabled } else { Below::Enabled };
        }
        ("bind-recursive", Some(value)) => {
            fields.bind.get_or_insert_default().0 = match value {
                "enabled" => Below::Enabled,
                "disabled" => Below::Disabled,
                "writable" => Below::Writable,
                "readonly" => Below::Readonly,
                _ => return Err(format!("invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")")),
            }
        }
        ("volume-nocopy", value) => fields.volume.get_or_insert_default().no_copy = switch(value)?,
        ("volume-subpath", Some(value)) => fields.volume.get_or_insert_default().subpath = Some(subpath(value)?),
        ("volume-label", Some(value)) => fields.volume.get_or_insert_default().labels.push(pair(value)),
        ("volume-driver", Some("local")) => drop(fields.volume.get_or_insert_default()),
        ("volume-driver", Some(other)) => return Err(format!("volume driver {other:?} isn't there: the only one is local")),
        ("volume-opt", Some(value)) => fields.volume.get_or_insert_default().options.push(pair(value)),
        ("tmpfs-size", Some(value)) => fields.tmpfs.get_or_insert_default().push(format!("size={}", super::size::bytes(value)?)),
        ("tmpfs-mode", Some(value)) => {
            let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
            let mode = mode.ok_or_else(|| format!("invalid value for {key}: {value}"))?;
            fields.tmpfs.get_or_insert_default().push(format!("mode={mode:o}"));
        }
        (key, Some(value)) => return Err(format!("unexpected key or value '{key}={value}'")),
        (key, None) => return Err(format!("invalid field '{key}' must be a key=value pair")),
    }
    Ok(())
}

fn subpath(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let stays = path.components().all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
    if stays && !text.is_empty() { Ok(path.to_path_buf()) } else { Err(format!("subpath must be a relative path within the volume: {text:?}")) }
}

/// The fields of one line of comma-separated values; `"a,b"` is one, and `""` in it a quotation mark (RFC 4180).
fn values(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '"' => return Err("a quotation mark stands in the middle of a field".into()),
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    if quoted { Err("a quotation mark is not closed".into()) } else { Ok(fields) }
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

/// `container[:ro|rw]`: the container and the mode.
///
/// # Errors
/// Invalid.
pub fn from(text: &str) -> Result<(String, String)> {
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    match (name, mode) {
        ("", _) => Err(Error::invalid(format!("use --volumes-from {text}"), "malformed volumes-from specification: it names no container")),
        (_, "" | "ro" | "rw" | "z" | "Z") => Ok((name.into(), mode.into())),
        _ => Err(Error::invalid(format!("use --volumes-from {text}"), format!("invalid mode: {mode}"))),
    }
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

    fn named(name: &str) -> NamedVolume {
        NamedVolume { name: name.into(), target: "/b".into(), anonymous: name.is_empty(), ..NamedVolume::default() }
    }

    #[test]
    fn the_three_forms_say_the_same() {
        let bind =
            Volume::Bind { source: "/a".into(), target: "/b".into(), read_only: true, propagation: None, make_source: true, below: Below::Enabled };
        assert_eq!(short("/a:/b:ro").unwrap(), bind);
        assert_eq!(short("/a:/b//:ro").unwrap(), bind);
        let Volume::Bind { source, read_only: true, make_source: false, .. } = long("type=bind,src=/,dst=/b,readonly").unwrap() else { panic!() };
        assert_eq!(source, Path::new("/"));
        assert_eq!(tmpfs("/t:size=1m").unwrap(), Volume::Tmpfs { target: "/t".into(), options: vec!["size=1m".into()] });
    }

    #[test]
    fn a_volume_has_a_name_or_none() {
        assert_eq!(short("data:/b").unwrap(), Volume::Named(named("data")));
        assert_eq!(short("/b").unwrap(), Volume::Named(named("")));
        let read_only = NamedVolume { read_only: true, no_copy: true, mode: "ro,nocopy".into(), ..named("data") };
        assert_eq!(short("data:/b:ro,nocopy").unwrap(), Volume::Named(read_only));
        let all = long(
            r#"type=volume,src=data,dst=/b,volume-subpath=a/b,volume-label=k=v,volume-opt=type=tmpfs,"volume-opt=o=size=1m,mode=700",volume-nocopy"#,
        );
        let options = vec![("type".into(), "tmpfs".into()), ("o".into(), "size=1m,mode=700".into())];
        let labels = vec![("k".into(), "v".into())];
        assert_eq!(all.unwrap(), Volume::Named(NamedVolume { no_copy: true, subpath: Some("a/b".into()), labels, options, ..named("data") }));
        assert_eq!(from("web:ro").unwrap(), ("web".into(), "ro".into()));
        assert!(from(":ro").is_err() && from("web:x").is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for wrong in
            ["", "d:/b", "da ta:/b", "data", "/a:b", "/a:/", "/a:/b:rx", "/a:/b:ro:more", "/a:/b/../c", ":/b", "/a:/b:nocopy", "data:/b:rslave"]
        {
            assert!(short(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "type=bind,src=/",
            "type=bind,dst=/b",
            "type=npipe,dst=/b",
            "nonsense",
            "type=bind,src=/surely/not/there,dst=/b",
            "type=bind,src=/,dst=/b,volume-nocopy",
            "type=bind,src=/,dst=/b,bind-recursive=readonly",
            "type=bind,src=/,dst=/b,readonly,bind-recursive=readonly",
            "type=bind,src=/,dst=/b,bind-recursive=sometimes",
            "dst=/b,volume-subpath=../c",
            "dst=/b,volume-subpath=/c",
            "dst=/b,volume-driver=nfs",
            "dst=/b,size=1",
            "type=tmpfs,dst=/b,tmpfs-mode=9",
            "type=tmpfs,src=x,dst=/b",
            "dst=/b,\"open",
        ] {
            assert!(long(wrong).is_err(), "{wrong}");
        }
        assert!(tmpfs("/t:wrong").is_err());
    }
}
