//! The names of capabilities: the kernel's, config.json's, and what people type.
//!
//! See it: `capsh --print`, /proc/sys/kernel/cap_last_cap. Read: capabilities(7), <linux/capability.h>; docker-run(1), `--cap-add`.

use crate::error::{Error, Result};
use crate::id;
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
    let hint = match id::nearest(&wanted, NAMES.iter().copied()) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "capabilities(7) lists them all; ALL stands for each of them".into(),
    };
    Err(Error::invalid(format!("add or drop the capability {word:?}"), "there is no capability of this name").hint(hint))
}

fn normal(word: &str) -> String {
    let upper = word.trim().to_ascii_uppercase();
    if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_string).collect()
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
}
