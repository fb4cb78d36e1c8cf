//! A bundle: a folder with `config.json` and a root file system. Read here, and refused here when it makes no sense.
//!
//! An invalid config gets one line that names the JSON path and the reason, before anything is made.
//!
//! Read: bundle.md and config.md of the OCI runtime specification.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::mount_options;
use super::spec::{Linux, NamespaceKind, Process, Spec};
use crate::error::{Class, Doing, Error, Result};

/// A bundle on disk, read and checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Absolute.
    pub dir: PathBuf,
    pub spec: Spec,
}

/// Reads `config.json` in `dir`.
///
/// # Errors
/// NotFound without the folder or the file; Invalid with the JSON path of what is wrong.
pub fn load(dir: &Path) -> Result<Bundle> {
    let dir = std::fs::canonicalize(dir).doing(|| format!("open the bundle {}", dir.display()))?;
    let file = dir.join("config.json");
    let text = std::fs::read_to_string(&file).doing(|| format!("read {}", file.display()))?;
    let spec = parse(&text, &file)?;
    Ok(Bundle { dir, spec })
}

/// Reads and checks the text of a config.json; `file` is its name in errors.
///
/// # Errors
/// Invalid with the JSON path.
pub fn parse(text: &str, file: &Path) -> Result<Spec> {
    let doing = || format!("use {}", file.display());
    let mut json = serde_json::Deserializer::from_str(text);
    let spec: Spec = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        let reason = e.into_inner().to_string();
        Error::invalid(doing(), if path == "." { reason } else { format!("{path}: {reason}") })
    })?;
    json.end().map_err(|e| Error::invalid(doing(), e.to_string()))?;
    check(&spec).map_err(|wrong| Error::invalid(doing(), format!("{}: {}", wrong.path, wrong.reason)))?;
    Ok(spec)
}

/// A value that makes no sense.
#[derive(Debug)]
pub struct Wrong {
    pub path: String,
    pub reason: String,
}

type Checked = std::result::Result<(), Wrong>;

fn wrong(path: impl Into<String>, reason: impl Into<String>) -> Checked {
    Err(Wrong { path: path.into(), reason: reason.into() })
}

fn check(spec: &Spec) -> Checked {
    check_version(&spec.oci_version)?;
    let Some(root) = &spec.root else { return wrong("root", "it is missing") };
    if root.path.as_os_str().is_empty() {
        return wrong("root.path", "it is empty");
    }
    let no_linux = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&no_linux);
    if let Some(process) = &spec.process {
        check_process(process, "process")?;
    }
    for (name, text) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        match text {
            Some(text) if text.contains('\0') => return wrong(name, "it has a NUL in it"),
            Some(text) if text.len() > 64 => return wrong(name, "it is longer than 64 bytes"),
            Some(text) if !text.is_empty() && !has(linux, NamespaceKind::Uts) => {
                return wrong(name, "it needs a uts namespace in linux.namespaces, or the host's name would change");
            }
            _ => {}
        }
    }
    check_mounts(spec, linux)?;
    check_hooks(spec)?;
    check_linux(linux)
}

fn check_version(version: &str) -> Checked {
    let mut numbers = version.split(['-', '+']).next().unwrap_or_default().split('.');
    let major = numbers.next().unwrap_or_default();
    let rest: Vec<_> = numbers.collect();
    if version.is_empty() {
        return wrong("ociVersion", "it is missing");
    }
    if rest.len() != 2 || [major, rest[0], rest[1]].iter().any(|n| n.parse::<u32>().is_err()) {
        return wrong("ociVersion", format!("{version:?} is no version"));
    }
    if major != "1" {
        return wrong("ociVersion", format!("{version} is not a version 1; this runtime knows 1.x"));
    }
    Ok(())
}

/// Checks a `process` object; also the one that `exec --process` reads.
///
/// # Errors
/// The path, beginning with `at`, and the reason.
pub fn check_process(process: &Process, at: &str) -> Checked {
    if process.args.is_empty() {
        return wrong(format!("{at}.args"), "it is empty");
    }
    if process.args[0].is_empty() {
        return wrong(format!("{at}.args[0]"), "it is empty");
    }
    if !process.cwd.is_absolute() {
        return wrong(format!("{at}.cwd"), format!("{:?} is not an absolute path", process.cwd));
    }
    for (name, list) in [("args", &process.args), ("env", &process.env)] {
        if let Some(index) = list.iter().position(|text| text.contains('\0')) {
            return wrong(format!("{at}.{name}[{index}]"), "it has a NUL in it");
        }
    }
    if let Some(index) = process.env.iter().position(|pair| pair.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
        return wrong(format!("{at}.env[{index}]"), format!("{:?} is not NAME=value", process.env[index]));
    }
    if process.user.umask.is_some_and(|mask| mask > 0o777) {
        return wrong(format!("{at}.user.umask"), "it is more than 0777");
    }
    let mut seen = BTreeSet::new();
    for (index, limit) in process.rlimits.iter().enumerate() {
        let path = format!("{at}.rlimits[{index}]");
        if !crate::sys::sched::RLIMITS.iter().any(|(name, _)| *name == limit.kind) {
            return wrong(format!("{path}.type"), format!("{:?} is no resource of setrlimit(2)", limit.kind));
        }
        if !seen.insert(&limit.kind) {
            return wrong(format!("{path}.type"), format!("{} is there twice", limit.kind));
        }
        if limit.soft > limit.hard {
            return wrong(format!("{path}.soft"), format!("{} is above the hard limit {}", limit.soft, limit.hard));
        }
    }
    if process.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return wrong(format!("{at}.oomScoreAdj"), "it is not between -1000 and 1000");
    }
    super::attributes::check(process, at).map_err(|(path, reason)| Wrong { path, reason })
}

fn check_mounts(spec: &Spec, linux: &Linux) -> Checked {
    for (index, mount) in spec.mounts.iter().enumerate() {
        let path = format!("mounts[{index}]");
        if mount.destination.as_os_str().is_empty() {
            return wrong(format!("{path}.destination"), "it is empty");
        }
        if has_nul(&mount.destination) || mount.source.as_ref().is_some_and(|s| s.contains('\0')) {
            return wrong(path, "a path has a NUL in it");
        }
        if let Err(e) = mount_options::parse(&mount.options, &path) {
            return wrong(format!("{path}.options"), e.cause.map_or_else(String::new, |cause| cause.to_string()));
        }
    }
    let touches_mounts = !spec.mounts.is_empty() || !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty();
    if touches_mounts && !makes(linux, NamespaceKind::Mount) {
        return wrong("linux.namespaces", "mounts, maskedPaths and readonlyPaths need a new mount namespace, or the host's mounts would change");
    }
    Ok(())
}

fn check_hooks(spec: &Spec) -> Checked {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    let kinds = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, list) in kinds {
        for (index, hook) in list.iter().enumerate() {
            if !hook.path.is_absolute() {
                return wrong(format!("hooks.{kind}[{index}].path"), format!("{:?} is not an absolute path", hook.path));
            }
            if hook.timeout.is_some_and(|seconds| seconds <= 0) {
                return wrong(format!("hooks.{kind}[{index}].timeout"), "it is not more than 0");
            }
        }
    }
    Ok(())
}

fn check_linux(linux: &Linux) -> Checked {
    let mut seen = BTreeSet::new();
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        if !seen.insert(namespace.kind) {
            return wrong(format!("linux.namespaces[{index}].type"), format!("{} is there twice", namespace.kind.file()));
        }
        if namespace.path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return wrong(format!("linux.namespaces[{index}].path"), "it is not an absolute path");
        }
    }
    check_mappings(linux)?;
    for (clock, offset) in &linux.time_offsets {
        if clock != "monotonic" && clock != "boottime" {
            return wrong(format!("linux.timeOffsets.{clock}"), "only monotonic and boottime can be shifted");
        }
        if offset.nanosecs >= 1_000_000_000 {
            return wrong(format!("linux.timeOffsets.{clock}.nanosecs"), "it is a second or more");
        }
    }
    if !linux.time_offsets.is_empty() && !makes(linux, NamespaceKind::Time) {
        return wrong("linux.timeOffsets", "it needs a new time namespace in linux.namespaces");
    }
    for (index, device) in linux.devices.iter().enumerate() {
        if !matches!(device.kind.as_str(), "c" | "b" | "u" | "p") {
            return wrong(format!("linux.devices[{index}].type"), format!("{:?} is none of c, b, u, p", device.kind));
        }
        if !device.path.is_absolute() || device.path.file_name().is_none() {
            return wrong(format!("linux.devices[{index}].path"), "it is not an absolute path of a file");
        }
        let range = 0..=i64::from(u32::MAX);
        if !range.contains(&device.major) || !range.contains(&device.minor) {
            return wrong(format!("linux.devices[{index}]"), "major or minor is out of range");
        }
    }
    if let Some(word) = &linux.rootfs_propagation
        && !word.is_empty()
        && mount_options::propagation(word).is_none()
    {
        return wrong("linux.rootfsPropagation", format!("{word:?} is none of shared, slave, private, unbindable, with or without r"));
    }
    super::sysctl::check(linux).map_err(|(path, reason)| Wrong { path, reason })
}

fn check_mappings(linux: &Linux) -> Checked {
    let empty = (linux.uid_mappings.is_empty(), linux.gid_mappings.is_empty());
    if makes(linux, NamespaceKind::User) && (empty.0 || empty.1) {
        return wrong("linux.uidMappings", "a new user namespace needs uidMappings and gidMappings");
    }
    if !(has(linux, NamespaceKind::User) || empty.0 && empty.1) {
        return wrong("linux.uidMappings", "it needs a user namespace in linux.namespaces");
    }
    for (name, list) in [("uidMappings", &linux.uid_mappings), ("gidMappings", &linux.gid_mappings)] {
        if let Some(index) = list.iter().position(|m| m.size == 0) {
            return wrong(format!("linux.{name}[{index}].size"), "it is 0");
        }
    }
    Ok(())
}

fn has(linux: &Linux, kind: NamespaceKind) -> bool {
    linux.namespaces.iter().any(|n| n.kind == kind)
}

fn makes(linux: &Linux, kind: NamespaceKind) -> bool {
    linux.namespaces.iter().any(|n| n.kind == kind && n.path.is_none())
}

fn has_nul(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().contains(&0)
}

/// Where the bundle's root file system is: an existing folder.
///
/// # Errors
/// NotFound, or Invalid when it is no folder.
pub fn rootfs(bundle: &Bundle) -> Result<PathBuf> {
    let root = bundle.spec.root.clone().unwrap_or_default();
    let path = bundle.dir.join(&root.path);
    let doing = || format!("use root.path {}", root.path.display());
    let path = std::fs::canonicalize(&path).doing(doing)?;
    if !path.is_dir() {
        return Err(Error::invalid(doing(), format!("{} is no folder", path.display())));
    }
    Ok(path)
}

/// Writes a spec as `config.json` into `dir`, which is made. It must pass the checks of one that is read.
///
/// # Errors
/// Invalid, ENOSPC, EACCES.
pub fn write(dir: &Path, spec: &Spec) -> Result<()> {
    let doing = || format!("write {}", dir.join("config.json").display());
    check(spec).map_err(|wrong| Error::invalid("make the container's config", format!("{}: {}", wrong.path, wrong.reason)))?;
    let text = serde_json::to_string_pretty(spec).map_err(|e| Error::new(Class::System, doing(), e.to_string()))?;
    std::fs::create_dir_all(dir).doing(doing)?;
    std::fs::write(dir.join("config.json"), text).doing(doing)
}
