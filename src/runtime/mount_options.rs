//! The words of a mount's `options`, as mount(8) and config.md ("Linux mount options") define them, turned into what the new mount
//! calls take: attributes of the mount itself, propagation, and options of the file system.
//!
//! Read: mount(8) "FILESYSTEM-INDEPENDENT MOUNT OPTIONS", mount_setattr(2).

use crate::error::{Error, Result};
use crate::sys::mount::{
    Attributes, MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME, MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE,
};

/// The options of one mount, understood.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options {
    /// Some(recursive) for `bind` and `rbind`.
    pub bind: Option<bool>,
    pub remount: bool,
    /// For the mount alone.
    pub own: Attributes,
    /// For the mount and all below it (`rro`, `rnosuid` …).
    pub recursive: Attributes,
    /// `MS_SHARED` …, and whether it holds for the mounts below too.
    pub propagation: Option<(u64, bool)>,
    /// Some(recursive) for `idmap` and `ridmap`.
    pub idmap: Option<bool>,
    pub tmpcopyup: bool,
    /// Options of the file system: `size=64m` → ("size", Some("64m")).
    pub data: Vec<(String, Option<String>)>,
}

/// Word, attribute, whether the word sets it or clears it. With an `r` before it, the word holds recursively.
const ATTRIBUTES: &[(&str, u64, bool)] = &[
    ("ro", MOUNT_ATTR_RDONLY, true),
    ("rw", MOUNT_ATTR_RDONLY, false),
    ("nosuid", MOUNT_ATTR_NOSUID, true),
    ("suid", MOUNT_ATTR_NOSUID, false),
    ("nodev", MOUNT_ATTR_NODEV, true),
    ("dev", MOUNT_ATTR_NODEV, false),
    ("noexec", MOUNT_ATTR_NOEXEC, true),
    ("exec", MOUNT_ATTR_NOEXEC, false),
    ("nodiratime", MOUNT_ATTR_NODIRATIME, true),
    ("diratime", MOUNT_ATTR_NODIRATIME, false),
    ("nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, true),
    ("symfollow", MOUNT_ATTR_NOSYMFOLLOW, false),
];

/// The three ways of keeping access times are one field of the mount, not three flags. Their opposites mean the kernel's default.
const ACCESS_TIMES: &[(&str, u64)] = &[
    ("relatime", 0),
    ("norelatime", MOUNT_ATTR_STRICTATIME),
    ("noatime", MOUNT_ATTR_NOATIME),
    ("atime", 0),
    ("strictatime", MOUNT_ATTR_STRICTATIME),
    ("nostrictatime", 0),
];

const PROPAGATIONS: &[(&str, u64)] = &[("shared", MS_SHARED), ("slave", MS_SLAVE), ("private", MS_PRIVATE), ("unbindable", MS_UNBINDABLE)];

/// Words for the file system as a whole, which fsconfig(2) takes under the same name.
const FILESYSTEM_FLAGS: &[&str] = &["sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime"];
/// Words that change nothing: the default, or what only mount(8) itself looks at.
const NOTHING: &[&str] = &["defaults", "loud", "silent", "iversion", "noiversion", "acl", "noacl", "auto", "noauto", "nouser", "_netdev", "nofail"];

/// All words that hold for every mount, for `features`.
pub fn known() -> Vec<String> {
    let mut words: Vec<String> = ["bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup"].map(String::from).to_vec();
    let single = ATTRIBUTES.iter().map(|a| a.0).chain(ACCESS_TIMES.iter().map(|a| a.0)).chain(PROPAGATIONS.iter().map(|p| p.0));
    words.extend(single.flat_map(|word| [word.to_string(), format!("r{word}")]));
    words.extend(FILESYSTEM_FLAGS.iter().chain(NOTHING).map(|word| word.to_string()));
    words.sort();
    words
}

/// Understands the options of the mount whose JSON path is `path`.
///
/// # Errors
/// Invalid for a word that makes no sense on a bind mount; on other mounts an unknown word is the file system's to refuse.
pub fn parse(options: &[String], path: &str) -> Result<Options> {
    let mut parsed = Options::default();
    for (index, word) in options.iter().enumerate() {
        if !understand(word, &mut parsed) {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value.to_string())),
                None => (word.as_str(), None),
            };
            if key.is_empty() {
                return Err(Error::invalid(format!("use {path}.options[{index}]"), "an option is empty"));
            }
            parsed.data.push((key.to_string(), value));
        }
    }
    if parsed.bind.is_some()
        && let Some((key, _)) = parsed.data.iter().find(|(key, _)| !FILESYSTEM_FLAGS.contains(&key.as_str()))
    {
        return Err(Error::invalid(format!("use {path}.options"), format!("{key:?} is not an option of a bind mount")));
    }
    Ok(parsed)
}

fn understand(word: &str, parsed: &mut Options) -> bool {
    match word {
        "bind" => parsed.bind = Some(parsed.bind.unwrap_or(false)),
        "rbind" => parsed.bind = Some(true),
        "remount" => parsed.remount = true,
        "idmap" => parsed.idmap = Some(false),
        "ridmap" => parsed.idmap = Some(true),
        "tmpcopyup" => parsed.tmpcopyup = true,
        _ if NOTHING.contains(&word) => {}
        _ => return understand_attribute(word, parsed),
    }
    true
}

fn understand_attribute(word: &str, parsed: &mut Options) -> bool {
    let recursive_word = word.strip_prefix('r');
    if let Some((attribute, sets)) = attribute(word) {
        change(&mut parsed.own, attribute, sets);
    } else if let Some(&(_, mode)) = ACCESS_TIMES.iter().find(|(name, _)| *name == word) {
        access_times(&mut parsed.own, mode);
    } else if let Some((kind, recursive)) = propagation(word) {
        parsed.propagation = Some((kind, recursive));
    } else if let Some((attribute, sets)) = recursive_word.and_then(attribute) {
        change(&mut parsed.recursive, attribute, sets);
    } else if let Some(&(_, mode)) = ACCESS_TIMES.iter().find(|(name, _)| Some(*name) == recursive_word) {
        access_times(&mut parsed.recursive, mode);
    } else {
        return false;
    }
    true
}

fn attribute(word: &str) -> Option<(u64, bool)> {
    ATTRIBUTES.iter().find(|(name, ..)| *name == word).map(|&(_, bit, sets)| (bit, sets))
}

/// `slave` → (MS_SLAVE, false), `rslave` → (MS_SLAVE, true). Also what `rootfsPropagation` holds.
pub fn propagation(word: &str) -> Option<(u64, bool)> {
    let find = |word: &str| PROPAGATIONS.iter().find(|(name, _)| *name == word).map(|p| p.1);
    find(word).map(|kind| (kind, false)).or_else(|| word.strip_prefix('r').and_then(find).map(|kind| (kind, true)))
}

fn change(attributes: &mut Attributes, bit: u64, sets: bool) {
    attributes.set &= !bit;
    attributes.clear &= !bit;
    *(if sets { &mut attributes.set } else { &mut attributes.clear }) |= bit;
}

fn access_times(attributes: &mut Attributes, mode: u64) {
    attributes.set &= !MOUNT_ATTR__ATIME;
    // The whole field must be cleared for any of its values to be set (mount_setattr(2)).
    attributes.clear |= MOUNT_ATTR__ATIME;
    attributes.set |= mode;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Options {
        parse(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>(), "mounts[0]").unwrap()
    }

    #[test]
    fn a_later_word_wins_over_an_earlier_one() {
        let options = parsed(&["ro", "nosuid", "rw", "suid", "noexec"]);
        assert_eq!(options.own.set, MOUNT_ATTR_NOEXEC);
        assert_eq!(options.own.clear, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
    }

    #[test]
    fn an_r_before_a_word_makes_it_recursive_but_relatime_is_a_word_of_its_own() {
        let options = parsed(&["rbind", "rro", "relatime"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.recursive.set, MOUNT_ATTR_RDONLY);
        assert_eq!(options.own.clear, MOUNT_ATTR__ATIME);
        assert_eq!(options.own.set, 0);
    }

    #[test]
    fn what_is_no_flag_belongs_to_the_file_system() {
        assert_eq!(parsed(&["size=64k", "sync"]).data, vec![("size".into(), Some("64k".into())), ("sync".into(), None)]);
    }

    #[test]
    fn a_bind_mount_takes_no_options_of_a_file_system() {
        let error = parse(&["bind".into(), "size=1".into()], "mounts[3]").unwrap_err();
        assert_eq!(error.one_line(), "cannot use mounts[3].options: \"size\" is not an option of a bind mount");
    }

    #[test]
    fn propagation_words_come_with_and_without_recursion() {
        assert_eq!(propagation("rslave"), Some((MS_SLAVE, true)));
        assert_eq!(propagation("shared"), Some((MS_SHARED, false)));
        assert_eq!(propagation("rprivate"), Some((MS_PRIVATE, true)));
        assert_eq!(propagation("nonsense"), None);
    }
}
