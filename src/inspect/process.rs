//! What the kernel says of one process, read from outside.
//!
//! Read: proc(5), proc_pid_status(5), proc_pid_ns(5), proc_pid_mountinfo(5).

use std::path::{Path, PathBuf};

use crate::error::{Doing, Result};

/// A fact: its value, and the command that shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fact {
    pub value: String,
    pub source: String,
}

impl Fact {
    fn new(value: impl Into<String>, source: impl Into<String>) -> Fact {
        Fact { value: value.into(), source: source.into() }
    }
}

/// Reads `/proc/P/FILE`; `who` is a PID or `self`.
fn read(who: &str, file: &str) -> Result<(String, String)> {
    let path = format!("/proc/{who}/{file}");
    let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    Ok((text, path))
}

/// A line of `/proc/P/status`: `CapEff`, `NSpid`, `Seccomp` …
///
/// # Errors
/// NotFound when the process is gone.
pub fn status(who: &str, name: &str) -> Result<Fact> {
    let (text, path) = read(who, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
    Ok(Fact::new(line.split_whitespace().collect::<Vec<_>>().join(" "), format!("grep {name} {path}")))
}

/// The namespace of a kind (`pid`, `mnt` …): `pid:[4026531836]`.
///
/// # Errors
/// NotFound, EACCES.
pub fn namespace(who: &str, kind: &str) -> Result<Fact> {
    let path = format!("/proc/{who}/ns/{kind}");
    let link = std::fs::read_link(&path).doing(|| format!("read {path}"))?;
    Ok(Fact::new(link.to_string_lossy(), format!("readlink {path}")))
}

/// Whose setsid(2) a process lives under, and its terminal, or that it has none (proc_pid_stat(5), fields 6 and 7).
///
/// # Errors
/// NotFound when the process is gone.
pub fn session(who: &str) -> Result<Fact> {
    let (text, path) = read(who, "stat")?;
    let fields: Vec<&str> = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let field = |at: usize| fields.get(at).copied().unwrap_or("?");
    let terminal = if field(4) == "0" { "no terminal".to_string() } else { format!("terminal {}", field(4)) };
    Ok(Fact::new(format!("session {}, {terminal}", field(3)), format!("cat {path}")))
}

/// The type of the file system that is the process' root, and how many mounts it sees.
///
/// # Errors
/// NotFound, EACCES.
pub fn root_mount(who: &str) -> Result<Fact> {
    let (text, path) = read(who, "mountinfo")?;
    let line = text.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
    let fstype = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    Ok(Fact::new(format!("{fstype}, {} mounts", text.lines().count()), format!("head -1 {path}")))
}

/// The network devices that a process sees.
///
/// # Errors
/// NotFound, EACCES.
pub fn network_devices(who: &str) -> Result<Fact> {
    let (text, path) = read(who, "net/dev")?;
    let names: Vec<&str> = text.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    Ok(Fact::new(names.join(" "), format!("cat {path}")))
}

/// The ids that a process' user namespace maps.
///
/// # Errors
/// NotFound, EACCES.
pub fn uid_map(who: &str) -> Result<Fact> {
    let (text, path) = read(who, "uid_map")?;
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    Ok(Fact::new(lines.join("; "), format!("cat {path}")))
}

/// A file of a cgroup: the first of `files` that is there.
pub fn cgroup_file(dirs: &[PathBuf], files: &[&str]) -> Option<Fact> {
    let path = dirs.iter().flat_map(|dir| files.iter().map(|file| dir.join(file))).find(|path| path.exists())?;
    let text = std::fs::read_to_string(&path).ok()?;
    Some(Fact::new(text.trim(), format!("cat {}", path.display())))
}

/// How many processes `/proc` shows here.
pub fn process_count() -> usize {
    let names = std::fs::read_dir("/proc").map(|dir| dir.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>()).unwrap_or_default();
    names.iter().filter(|name| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit())).count()
}

/// How many mounts of this process' table lie below `dir`, and how many folders of cgroups are named by `id`: what a container could
/// have left behind.
pub fn mounts_below(dir: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter(|line| line.split(' ').nth(4).is_some_and(|point| Path::new(point).starts_with(dir))).count()
}
