//! The language in which to speak: Korean where the locale says so, else English. Read: locale(7), "LC_MESSAGES".

/// Whether messages shall be Korean.
pub fn is_korean() -> bool {
    let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(set).is_some_and(|language| language.starts_with("ko"))
}
