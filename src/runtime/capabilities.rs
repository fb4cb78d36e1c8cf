//! Capabilities: root's power, cut into 41 pieces, of which a container gets a few.
//!
//! The kernel object is five sets of bits in each thread. *Permitted* is what it may use, *effective* what it uses now. What is left
//! of them after execve is the rest's business: the *bounding* set is the most that any program run from here can get, *ambient* is
//! what an ordinary program gets for an ordinary user, *inheritable* must hold what is ambient.
//!
//! ```text
//! the order in a container's init           why there
//! keep_capabilities(true)                   setresuid away from 0 empties permitted otherwise
//! apply_bounding                            needs CAP_SETPCAP, which most containers are about to lose
//! setresgid, setgroups, setresuid           need CAP_SETGID, CAP_SETUID; empties effective and ambient in any case
//! apply                                     permitted may only shrink: after all that needed what it drops
//! no_new_privs, seccomp, execve             see there
//! ```
//!
//! See it: `grep Cap /proc/P/status`, `capsh --decode=…`. Read: capabilities(7), capset(2), PR_CAP_AMBIENT(2const).

use std::fmt;

use super::spec::CapabilitySets;
use crate::error::{Doing, Error, Result};
use crate::sys;
use crate::sys::ids;

/// All capabilities by name; the place in the list is the number (<linux/capability.h>).
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What Docker gives a container of whom nobody said anything: enough for package managers and servers that start as root, nothing
/// that reaches the host's kernel, devices or network.
pub const DOCKER_DEFAULT: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

static BOUND: sys::Reason = sys::Reason {
    id: "capabilities.bounding",
    en: "What leaves the bounding set can never be had again in this container, not by any setuid program either",
    ko: "경계 집합에서 빠진 권한은 이 컨테이너에서 다시 얻을 수 없습니다. setuid 프로그램으로도 안 됩니다",
    see: "grep CapBnd /proc/{P}/status",
};

static SET: sys::Reason = sys::Reason {
    id: "capabilities.set",
    en: "Root in a container is root with a few capabilities left: the others are given up now",
    ko: "컨테이너 안의 root는 권한 몇 가지만 남은 root입니다. 나머지는 지금 내려놓습니다",
    see: "grep Cap /proc/{P}/status",
};

/// The number of the capability with exactly this name, as config.json spells it: `CAP_CHOWN`.
pub fn number(name: &str) -> Option<u32> {
    NAMES.iter().position(|known| *known == name).map(|at| at as u32)
}

/// The name of a capability; a number from a newer kernel than this list has none.
pub fn name(number: u32) -> Option<&'static str> {
    NAMES.get(number as usize).copied()
}

/// The names of the capabilities in a set, as `/proc/P/status` shows it in hexadecimal.
pub fn names(set: u64) -> Vec<String> {
    (0..64).filter(|number| set & 1 << number != 0).map(|at| name(at).map_or(format!("CAP_{at}"), str::to_string)).collect()
}

/// The highest number that the running kernel knows.
pub fn last_cap() -> u32 {
    let told = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok().and_then(|text| text.trim().parse().ok());
    // Without /proc: the first number of which the kernel has not heard is one too high.
    told.unwrap_or_else(|| (0..64).find(|&cap| ids::in_bounding_set(cap).is_none()).map_or(63, |cap: u32| cap.saturating_sub(1)))
}

/// A capability as people type it: `net_admin`, `NET_ADMIN` and `CAP_NET_ADMIN` are `CAP_NET_ADMIN`.
///
/// # Errors
/// Invalid, with the name that was perhaps meant.
pub fn parse(word: &str) -> Result<&'static str> {
    let wanted = normal(word);
    if let Some(number) = number(&wanted) {
        return Ok(NAMES[number as usize]);
    }
    let (nearest, distance) = NAMES.iter().map(|name| (name, distance(&wanted, name))).min_by_key(|(_, distance)| *distance).unwrap_or((&"", 0));
    // More than a slip or two away is another word.
    let hint = match distance <= 3 {
        true => format!("did you mean {nearest}?"),
        false => "capabilities(7) lists them all; ALL stands for each of them".into(),
    };
    Err(Error::invalid(format!("add or drop the capability {word:?}"), "there is no capability of this name").hint(hint))
}

fn normal(word: &str) -> String {
    let upper = word.trim().to_ascii_uppercase();
    if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

/// How many letters have to be put in, taken out or changed to get from one word to the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + (a != b) as usize;
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// `--cap-add` and `--cap-drop` as Docker means them. ALL added: all that the kernel knows but those dropped. ALL dropped: only those
/// added. Otherwise the default without those dropped and with those added (what is both dropped and added is there).
///
/// # Errors
/// Invalid for a word that is no capability.
pub fn add_drop(default: &[&str], add: &[String], drop: &[String]) -> Result<Vec<String>> {
    let all = |words: &[String]| words.iter().any(|word| normal(word) == "CAP_ALL");
    let listed =
        |words: &[String]| -> Result<Vec<&'static str>> { words.iter().filter(|word| normal(word) != "CAP_ALL").map(|word| parse(word)).collect() };
    let (added, dropped) = (listed(add)?, listed(drop)?);
    let known = || NAMES.iter().copied().take(last_cap() as usize + 1);
    let chosen: Vec<&str> = match (all(add), all(drop)) {
        (true, _) => known().filter(|name| !dropped.contains(name)).collect(),
        (false, true) => added,
        (false, false) => default.iter().copied().filter(|name| !dropped.contains(name)).chain(added).collect(),
    };
    let mut result: Vec<String> = Vec::with_capacity(chosen.len());
    for name in chosen {
        if !result.iter().any(|there| there == name) {
            result.push(name.to_string());
        }
    }
    Ok(result)
}

/// The capabilities of a container by Docker's options: all of them for `--privileged`.
///
/// # Errors
/// As [`add_drop`].
pub fn docker_set(privileged: bool, add: &[String], drop: &[String]) -> Result<Vec<String>> {
    match privileged {
        true => add_drop(DOCKER_DEFAULT, &["ALL".to_string()], drop),
        false => add_drop(DOCKER_DEFAULT, add, drop),
    }
}

/// Whether this process may set user and group ids at will, and so write any map of a user namespace below its own.
pub fn has_setid() -> bool {
    const BOTH: u64 = 1 << 6 | 1 << 7;
    ids::capget().is_ok_and(|caps| caps.effective & BOTH == BOTH)
}

/// The five sets as bits: bit n is capability number n.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// A capability that config.json asks for and that the container does not get: worth a warning, not a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub name: String,
    /// The sets it was to be in: `bounding`, `effective` …
    pub sets: Vec<&'static str>,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No capability has this name, or this kernel doesn't know it (the specification wants it passed over with a warning).
    Unknown,
    /// We don't have it ourselves, and nobody can give what they don't have.
    NotOurs,
    /// Its set may hold only what another set holds too: effective and ambient what is permitted, ambient what is inheritable.
    NotCovered,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets = self.sets.join(", ");
        match self.why {
            Why::Unknown => write!(f, "{:?} is not a capability of this kernel: left out of {sets}", self.name),
            Why::NotOurs => write!(f, "{} left out of {sets}: this process does not have it itself", self.name),
            Why::NotCovered => write!(f, "{} left out of {sets}: not in the sets that this one depends on", self.name),
        }
    }
}

/// What this process could give: its permitted and its bounding set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ours {
    pub permitted: u64,
    pub bounding: u64,
}

impl Ours {
    /// Asks the kernel. To be asked in the process that becomes the container's, after it entered its user namespace: there it has
    /// all of them, whatever it had outside.
    ///
    /// # Errors
    /// None on a kernel of the last fifteen years.
    pub fn ask() -> Result<Ours> {
        let permitted = ids::capget().doing(|| "ask for our own capabilities".into())?.permitted;
        let bounding = (0..64).filter(|&cap| ids::in_bounding_set(cap) == Some(true)).map(|cap| 1 << cap).sum();
        Ok(Ours { permitted, bounding })
    }
}

/// The sets of config.json as far as we can give them, and what had to be left out.
///
/// The kernel would refuse the whole capset(2) for one capability too many (EPERM). A container that asks for CAP_SYS_RESOURCE on a host
/// that has been denied it should run all the same, as it would after asking for nothing: without.
pub fn sets(wanted: &CapabilitySets, ours: Ours) -> (Sets, Vec<LeftOut>) {
    let mut left_out = Vec::new();
    let bounding = set("bounding", &wanted.bounding, ours.bounding, &mut left_out);
    let permitted = set("permitted", &wanted.permitted, ours.permitted, &mut left_out);
    // capset(2): what becomes inheritable must have been permitted, and be within the bounding set, which shrinks before.
    let inheritable = set("inheritable", &wanted.inheritable, ours.permitted & ours.bounding, &mut left_out);
    let inheritable = cover("inheritable", inheritable, bounding, &mut left_out);
    let effective = set("effective", &wanted.effective, ours.permitted, &mut left_out);
    let effective = cover("effective", effective, permitted, &mut left_out);
    let ambient = set("ambient", &wanted.ambient, ours.permitted & ours.bounding, &mut left_out);
    let ambient = cover("ambient", ambient, permitted & inheritable, &mut left_out);
    (Sets { bounding, effective, inheritable, permitted, ambient }, left_out)
}

/// The bits of the named capabilities that are also in `ours`.
fn set(which: &'static str, wanted: &[String], ours: u64, left_out: &mut Vec<LeftOut>) -> u64 {
    let mut bits = 0;
    for name in wanted {
        match number(name) {
            Some(number) if ours & 1 << number != 0 => bits |= 1 << number,
            Some(number) if ids::in_bounding_set(number).is_some() => leave_out(left_out, name, which, Why::NotOurs),
            _ => leave_out(left_out, name, which, Why::Unknown),
        }
    }
    bits
}

/// The bits of `set` that are in `cover`, too.
fn cover(which: &'static str, set: u64, cover: u64, left_out: &mut Vec<LeftOut>) -> u64 {
    for name in names(set & !cover) {
        leave_out(left_out, &name, which, Why::NotCovered);
    }
    set & cover
}

/// One line a capability, not one a set.
fn leave_out(left_out: &mut Vec<LeftOut>, name: &str, which: &'static str, why: Why) {
    match left_out.iter_mut().find(|item| item.name == name && item.why == why) {
        Some(item) if item.sets.contains(&which) => {}
        Some(item) => item.sets.push(which),
        None => left_out.push(LeftOut { name: name.to_string(), sets: vec![which], why }),
    }
}

/// Takes all others out of the bounding set.
///
/// # Errors
/// Denied without CAP_SETPCAP when there is something to be taken out.
pub fn apply_bounding(sets: &Sets) -> Result<()> {
    sys::because(&BOUND);
    // The kernel says itself where its capabilities end; newer ones than our list are dropped like the rest.
    for cap in (0..64).take_while(|&cap| ids::in_bounding_set(cap).is_some()) {
        if sets.bounding & 1 << cap == 0 && ids::in_bounding_set(cap) == Some(true) {
            ids::drop_from_bounding_set(cap).doing(|| format!("take {} out of the bounding set", name(cap).unwrap_or("a capability")))?;
        }
    }
    Ok(())
}

/// Sets permitted, effective and inheritable, and then ambient, which must be within the two others by then.
///
/// # Errors
/// Denied for what we don't have: [`sets`] leaves that out.
pub fn apply(sets: &Sets) -> Result<()> {
    sys::because(&SET);
    let three = ids::Capabilities { effective: sets.effective, permitted: sets.permitted, inheritable: sets.inheritable };
    ids::capset(three).doing(|| "set the container's capabilities".into())?;
    // The kernel lowers what is ambient along with permitted and inheritable, but keeps what still is in both: begin with none.
    ids::clear_ambient().doing(|| "empty the ambient set".into())?;
    for cap in (0..64).filter(|cap| sets.ambient & 1 << cap != 0) {
        ids::raise_ambient(cap).doing(|| format!("make {} ambient", name(cap).unwrap_or("a capability")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::Exit;
    use crate::sys::seccomp::trial::in_child;

    const ALL: Ours = Ours { permitted: (1 << 41) - 1, bounding: (1 << 41) - 1 };

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_string).collect()
    }

    /// The same capabilities in each set but ambient, as engines write it.
    fn everywhere(text: &str) -> CapabilitySets {
        let list = words(text);
        CapabilitySets { bounding: list.clone(), effective: list.clone(), inheritable: vec![], permitted: list, ambient: vec![] }
    }

    #[test]
    fn names_and_numbers_are_the_kernel_s() {
        assert_eq!([number("CAP_CHOWN"), number("CAP_SYS_ADMIN"), number("CAP_CHECKPOINT_RESTORE")], [Some(0), Some(21), Some(40)]);
        assert_eq!(number("cap_chown"), None, "config.json is exact");
        assert_eq!((name(24), name(41)), (Some("CAP_SYS_RESOURCE"), None));
        assert_eq!(names(1 | 1 << 40 | 1 << 63), ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE", "CAP_63"]);
        assert!(ids::in_bounding_set(last_cap()).is_some() && ids::in_bounding_set(last_cap() + 1).is_none());
        assert!(DOCKER_DEFAULT.len() == 14 && DOCKER_DEFAULT.iter().all(|name| number(name).is_some()));
    }

    #[test]
    fn people_may_type_them_as_they_like() {
        for word in ["net_admin", "NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN"] {
            assert_eq!(parse(word).unwrap(), "CAP_NET_ADMIN");
        }
        let error = parse("net_adnim").unwrap_err();
        assert_eq!(
            error.one_line(),
            "cannot add or drop the capability \"net_adnim\": there is no capability of this name (hint: did you mean CAP_NET_ADMIN?)"
        );
        assert!(parse("bananas").unwrap_err().hint.unwrap().contains("capabilities(7)"));
        assert!(parse("").is_err() && parse("권한").is_err());
    }

    #[test]
    fn adding_and_dropping_is_docker_s() {
        let with = |add: &str, drop: &str| add_drop(&["CAP_CHOWN", "CAP_KILL"], &words(add), &words(drop)).unwrap();
        assert_eq!(with("", ""), ["CAP_CHOWN", "CAP_KILL"]);
        assert_eq!(with("sys_time chown", "kill"), ["CAP_CHOWN", "CAP_SYS_TIME"]);
        assert_eq!(with("kill", "kill"), ["CAP_CHOWN", "CAP_KILL"]);
        assert_eq!(with("net_raw", "all"), ["CAP_NET_RAW"]);
        assert_eq!(with("", "ALL"), [""; 0]);
        let all = with("ALL", "CAP_SYS_ADMIN");
        assert!(all.len() == last_cap().min(40) as usize && !all.contains(&"CAP_SYS_ADMIN".to_string()));
        assert_eq!(with("all", "all").len(), last_cap().min(40) as usize + 1);
        assert!(add_drop(&[], &words("all nonsense"), &[]).is_err());
    }

    #[test]
    fn what_we_lack_is_left_out_and_said() {
        let ours = Ours { permitted: ALL.permitted & !(1 << 24), bounding: ALL.bounding & !(1 << 24) };
        let (sets, left_out) = sets(&everywhere("CAP_CHOWN CAP_SYS_RESOURCE CAP_NONSENSE"), ours);
        assert_eq!(sets, Sets { bounding: 1, effective: 1, permitted: 1, ..Sets::default() });
        let said: Vec<String> = left_out.iter().map(LeftOut::to_string).collect();
        assert_eq!(
            said,
            [
                "CAP_SYS_RESOURCE left out of bounding, permitted, effective: this process does not have it itself",
                "\"CAP_NONSENSE\" is not a capability of this kernel: left out of bounding, permitted, effective",
            ]
        );
    }

    #[test]
    fn a_set_holds_what_the_kernel_lets_it_hold() {
        let wanted = CapabilitySets {
            bounding: words("CAP_CHOWN CAP_KILL"),
            permitted: words("CAP_CHOWN"),
            effective: words("CAP_CHOWN CAP_KILL"),
            inheritable: words("CAP_CHOWN CAP_KILL CAP_MKNOD"),
            ambient: words("CAP_CHOWN CAP_KILL"),
        };
        let (sets, left_out) = sets(&wanted, ALL);
        let both = 1 | 1 << 5;
        assert_eq!(sets, Sets { bounding: both, effective: 1, inheritable: both, permitted: 1, ambient: 1 });
        let names: Vec<_> = left_out.iter().map(|item| (item.name.as_str(), item.sets.clone(), item.why)).collect();
        assert_eq!(names, [("CAP_MKNOD", vec!["inheritable"], Why::NotCovered), ("CAP_KILL", vec!["effective", "ambient"], Why::NotCovered)]);
    }

    /// Runs `body` in a child that has CAP_SETPCAP, or says why not.
    fn privileged(body: impl FnOnce() -> i32) -> Option<Exit> {
        let ours = Ours::ask().unwrap();
        if ours.permitted & 1 << 8 == 0 || ours.permitted & 1 << 7 == 0 {
            eprintln!("skipped: needs CAP_SETPCAP and CAP_SETUID");
            return None;
        }
        Some(in_child(body))
    }

    #[test]
    fn an_ordinary_user_keeps_just_what_was_meant_for_him() {
        let mut wanted = everywhere("CAP_CHOWN CAP_NET_BIND_SERVICE");
        (wanted.inheritable, wanted.ambient) = (words("CAP_NET_BIND_SERVICE"), words("CAP_NET_BIND_SERVICE"));
        let (sets, left_out) = sets(&wanted, Ours::ask().unwrap());
        let exit = privileged(|| {
            let done = || -> Result<()> {
                ids::keep_capabilities(true).doing(String::new)?;
                apply_bounding(&sets)?;
                ids::setresuid(1000).doing(String::new)?;
                apply(&sets)
            };
            if let Err(error) = done() {
                eprintln!("{error}");
                return 1;
            }
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let is = |line: &str| status.lines().any(|there| there == line);
            let lines = ["CapInh:\t0000000000000400", "CapPrm:\t0000000000000401", "CapEff:\t0000000000000401", "CapBnd:\t0000000000000401"];
            (!lines.iter().all(|line| is(line)) || !is("CapAmb:\t0000000000000400")) as i32 * 2
        });
        if exit.is_some() {
            assert_eq!((exit, left_out), (Some(Exit::Code(0)), vec![]));
        }
    }

    #[test]
    fn without_setpcap_the_bounding_set_stays_and_the_error_says_which() {
        let exit = privileged(|| {
            let _ = ids::capset(ids::Capabilities::default());
            match apply_bounding(&Sets::default()) {
                Err(error) if error.doing == "take CAP_CHOWN out of the bounding set" && error.class == crate::error::Class::Denied => 0,
                _ => 1,
            }
        });
        assert!(exit.is_none_or(|exit| exit == Exit::Code(0)));
    }
}
