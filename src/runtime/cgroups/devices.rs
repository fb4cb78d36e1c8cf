//! Which device nodes a container may make, read and write: v1 keeps a list in two files, v2 asks a BPF program (see `filter`).
//!
//! A node in the file system is only a name for a driver's number, and a container's root may make any. What it can *do* with it
//! is decided here.
//!
//! See it: v1 `cat …/devices.list`; v2 `bpftool cgroup show …`; inside, `dd if=/dev/sda` says "Operation not permitted".
//! Read: cgroup-v1/devices.rst, cgroup-v2.rst ("Device controller"), config-linux.md ("Allowed Device list").

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::filter;
use super::place::Place;
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::spec::DeviceRule;
use crate::sys::{Reason, because, bpf, fs, path};

static DEVICES: Reason = Reason {
    id: "cgroup.devices",
    en: "a device number opens a driver; a filter on the group says which may be opened, whatever nodes the container makes",
    ko: "장치 번호는 드라이버로 가는 문입니다. 컨테이너가 어떤 노드를 만들든 그룹의 필터가 열 수 있는 것을 정합니다",
    see: "bpftool cgroup show /sys/fs/cgroup/onggi/*; cat /sys/fs/cgroup/devices/onggi/*/devices.list",
};

/// Access bits as the kernel numbers them (BPF_DEVCG_ACC_*).
pub const MKNOD: u8 = 1;
pub const READ: u8 = 2;
pub const WRITE: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Block,
    Char,
}

/// A rule of the config, checked. None is "any".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub allow: bool,
    pub kind: Option<Kind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// [`MKNOD`], [`READ`], [`WRITE`].
    pub access: u8,
}

impl Rule {
    pub const ALL: u8 = MKNOD | READ | WRITE;
}

/// The rules that every container gets after its own, as with runc: nodes may be made, and the devices without which no program
/// runs may be used (config-linux.md, "Default Devices").
pub fn default_rules() -> Vec<DeviceRule> {
    let rule = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind.into()),
        major,
        minor,
        access: Some(access.into()),
    };
    // null, zero, full, random, urandom; tty, console, ptmx; the pseudo terminals.
    let used = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    let mut rules = vec![rule("c", None, None, "m"), rule("b", None, None, "m")];
    rules.extend(used.map(|(major, minor)| rule("c", Some(major), Some(minor), "rwm")));
    rules.push(rule("c", Some(136), None, "rwm"));
    rules
}

/// Puts the rules in force; an empty list changes nothing. Without CAP_SYS_ADMIN over the host (in a user namespace) they are left
/// out: no device node can be made or opened there that wasn't given, so there is nothing to guard.
///
/// # Errors
/// Invalid for a rule that makes no sense, Unsupported for what v1's list can't say, System when the kernel refuses the program.
pub fn apply(place: &Place, list: &[DeviceRule], update: bool) -> Result<()> {
    let rules = rules(list)?;
    if rules.is_empty() || (place.unified.is_none() && place.legacy.is_empty()) || unprivileged() {
        return Ok(());
    }
    because(&DEVICES);
    match (place.legacy.get("devices"), &place.unified) {
        (Some(dir), _) => apply_v1(dir, &rules),
        (None, Some(dir)) => apply_v2(dir, &rules, update),
        (None, None) => Err(Error::new(Class::Unsupported, "restrict the container's devices", "the v1 controller \"devices\" isn't mounted")),
    }
}

/// Without the host's own CAP_SYS_ADMIN: another user, or inside a user namespace (whose root has it only there).
fn unprivileged() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
    !initial || !nix::unistd::geteuid().is_root()
}

/// The config's rules, checked.
///
/// # Errors
/// Invalid for an unknown type or access, or a number that no device can have.
pub fn rules(list: &[DeviceRule]) -> Result<Vec<Rule>> {
    list.iter().map(checked).collect()
}

fn checked(rule: &DeviceRule) -> Result<Rule> {
    let wrong = |why: String| Error::invalid(format!("use the device rule {}", serde_json::to_string(rule).unwrap_or_default()), why);
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("b") => Some(Kind::Block),
        Some("c" | "u") => Some(Kind::Char),
        Some(other) => return Err(wrong(format!("{other:?} is no type of device: a, b or c"))),
    };
    let mut access = 0;
    for letter in rule.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => return Err(wrong(format!("{other:?} is no access: r, w and m are"))),
        };
    }
    let number = |value: Option<i64>, bits: u32| match value {
        None | Some(-1) => Ok(None),
        Some(value) if (0..1 << bits).contains(&value) => Ok(Some(value as u32)),
        Some(value) => Err(wrong(format!("{value} is no number of a device"))),
    };
    // A dev_t of the kernel has 12 and 20 bits.
    Ok(Rule { allow: rule.allow, kind, major: number(rule.major, 12)?, minor: number(rule.minor, 20)?, access })
}

fn apply_v2(dir: &Path, rules: &[Rule], update: bool) -> Result<()> {
    let story = || format!("restrict the devices of {}", dir.display());
    let cgroup = path::open_root(dir).doing(story)?;
    let program = bpf::load_device_filter(&filter::assemble(rules)).doing(story)?;
    // A new group has none. In a living one the new program takes the old one's place, so that no moment is without.
    let old = if update { bpf::attached(cgroup.as_fd()).doing(story)? } else { Vec::new() };
    let old = old.into_iter().map(bpf::program).collect::<std::result::Result<Vec<_>, _>>().doing(story)?;
    if let [one] = old.as_slice()
        && bpf::attach(cgroup.as_fd(), program.as_fd(), Some(one.as_fd())).is_ok()
    {
        return Ok(());
    }
    bpf::attach(cgroup.as_fd(), program.as_fd(), None).doing(story)?;
    old.iter().try_for_each(|one| bpf::detach(cgroup.as_fd(), one.as_fd())).doing(story)
}

fn apply_v1(dir: &Path, rules: &[Rule]) -> Result<()> {
    let story = || format!("restrict the devices of {}", dir.display());
    let mut open: Option<(PathBuf, OwnedFd)> = None;
    for (file, line) in lines_v1(rules)? {
        let path = dir.join(file);
        // One rule a write; the file stays open for the next.
        if open.as_ref().is_none_or(|(before, _)| *before != path) {
            let opened = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(&path).doing(story)?;
            open = Some((path, opened.into()));
        }
        let Some((path, file)) = &open else { continue };
        fs::write_to(file, path, &line)
            .map_err(|e| Error::sys(story(), e).hint("a group can't be allowed more than its parent: see devices.list there"))?;
    }
    Ok(())
}

/// Type, major and minor number (None is any), access.
pub type Exception = (Kind, Option<u32>, Option<u32>, u8);

/// What the rules mean as v1's list can say it: one default (all or nothing) with exceptions. An exception can only be taken back as
/// it was given: a hole in a wider one can't be said.
fn list_v1(rules: &[Rule]) -> Result<(bool, Vec<Exception>)> {
    let everything = |rule: &Rule| rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none() && rule.access == Rule::ALL;
    let start = rules.iter().rposition(everything);
    // Nothing is allowed at first, as on v2.
    let default = start.is_some_and(|at| rules[at].allow);
    let mut exceptions: Vec<Exception> = Vec::new();
    for rule in &rules[start.map_or(0, |at| at + 1)..] {
        // The kernel takes `a` for everything, numbers or not: a rule for any type is two.
        let kinds = rule.kind.map_or(vec![Kind::Block, Kind::Char], |kind| vec![kind]);
        for kind in kinds {
            if rule.allow == default {
                take_back(&mut exceptions, rule, kind)?;
            } else {
                exceptions.push((kind, rule.major, rule.minor, rule.access));
            }
        }
    }
    Ok((default, exceptions))
}

/// The writes that bring the kernel's list there.
fn lines_v1(rules: &[Rule]) -> Result<Vec<(&'static str, String)>> {
    let (default, exceptions) = list_v1(rules)?;
    let (reset, except) = if default { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    let mut lines = vec![(reset, "a".to_string())];
    for (kind, major, minor, access) in exceptions {
        let number = |number: Option<u32>| number.map_or("*".into(), |number| number.to_string());
        let letter = if kind == Kind::Block { 'b' } else { 'c' };
        lines.push((except, format!("{letter} {}:{} {}", number(major), number(minor), letters(access))));
    }
    Ok(lines)
}

/// `rwm`
pub fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect()
}

/// What v1's list allows; None when it allows all but some.
///
/// # Errors
/// Unsupported for what the list can't say.
pub fn allowed_v1(rules: &[Rule]) -> Result<Option<Vec<Exception>>> {
    let (default, exceptions) = list_v1(rules)?;
    Ok((!default).then_some(exceptions))
}

fn take_back(exceptions: &mut Vec<Exception>, rule: &Rule, kind: Kind) -> Result<()> {
    let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    let covers = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
    for exception in exceptions.iter_mut().filter(|e| e.0 == kind && e.3 & rule.access != 0 && meets(e.1, rule.major) && meets(e.2, rule.minor)) {
        if !(covers(rule.major, exception.1) && covers(rule.minor, exception.2)) {
            let why = format!("the list of cgroup v1 can't take {rule:?} out of a wider rule before it");
            return Err(
                Error::new(Class::Unsupported, "restrict the container's devices", why).hint("cgroup v2 can, or name the allowed devices one by one")
            );
        }
        exception.3 &= !rule.access;
    }
    exceptions.retain(|exception| exception.3 != 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: serde_json::Value) -> Result<Vec<String>> {
        let list: Vec<DeviceRule> = serde_json::from_value(json).unwrap();
        Ok(lines_v1(&rules(&list)?)?.into_iter().map(|(file, line)| format!("{} {line}", file.trim_start_matches("devices."))).collect())
    }

    #[test]
    fn v1_starts_from_nothing_and_allows_one_by_one() {
        let list = serde_json::json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
            {"allow": true, "type": "c", "access": "m"}]);
        assert_eq!(lines(list).unwrap(), ["deny a", "allow c 1:3 rw", "allow c *:* m"]);
    }

    #[test]
    fn a_privileged_container_is_allowed_all() {
        assert_eq!(lines(serde_json::json!([{"allow": false}, {"allow": true, "type": "a", "major": -1, "minor": -1}])).unwrap(), ["allow a"]);
    }

    #[test]
    fn a_later_rule_takes_back_an_earlier_one() {
        let list =
            serde_json::json!([{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}, {"allow": false, "major": 1, "access": "w"}]);
        assert_eq!(lines(list).unwrap(), ["deny a", "allow c 1:3 rm"]);
        let gone = serde_json::json!([{"allow": true, "type": "b", "major": 8, "minor": 0}, {"allow": false, "type": "b", "access": "rwm"}]);
        assert_eq!(lines(gone).unwrap(), ["deny a"]);
    }

    #[test]
    fn a_hole_in_a_wide_rule_is_refused_and_not_ignored() {
        let list = serde_json::json!([{"allow": true, "type": "c", "access": "rwm"}, {"allow": false, "type": "c", "major": 1, "minor": 3}]);
        assert_eq!(lines(list).unwrap_err().class, Class::Unsupported);
    }

    #[test]
    fn an_any_type_rule_with_numbers_is_two_in_v1() {
        assert_eq!(lines(serde_json::json!([{"allow": true, "type": "a", "major": 7}])).unwrap(), ["deny a", "allow b 7:* rwm", "allow c 7:* rwm"]);
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for json in [
            serde_json::json!([{"allow": true, "type": "p"}]),
            serde_json::json!([{"allow": true, "access": "rx"}]),
            serde_json::json!([{"allow": true, "major": 5000}]),
        ] {
            assert_eq!(lines(json.clone()).unwrap_err().class, Class::Invalid, "{json}");
        }
    }
}
