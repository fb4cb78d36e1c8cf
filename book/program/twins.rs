//! Each English section has its Korean twin. `book/twins.tsv` notes, for each section, what both said when somebody last saw that they
//! say the same: the hash of one, the hash of the other. When only one differs from its note, the other was forgotten.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::pages::LANGUAGES;
use crate::pages::fences::{Section, sections};
use crate::{chapter, chapters};

const FILE: &str = "book/twins.tsv";

/// `04_overlay.md#see` → the hashes of its text in both languages.
type Sections = BTreeMap<String, [String; 2]>;

/// Sections that were changed in one language only, or not noted since both were.
pub fn check(root: &Path) -> Vec<String> {
    let (Ok(noted), Ok(found)) = (noted(root), found(root)) else { return vec![format!("{FILE}: cannot be read")] };
    let mut wrong: Vec<String> = found.iter().filter_map(|(name, now)| changed(name, noted.get(name)?, now)).collect();
    let fresh: Vec<&str> = found.keys().filter(|name| !noted.contains_key(*name)).map(String::as_str).collect();
    if !fresh.is_empty() {
        wrong.push(format!("{FILE}: not noted yet, `onggi-book twins` does when both languages say them: {}", fresh.join(" ")));
    }
    wrong.extend(noted.keys().filter(|name| !found.contains_key(*name)).map(|name| format!("{FILE}: {name} is gone; note it: `onggi-book twins`")));
    wrong
}

fn changed(name: &str, noted: &[String; 2], now: &[String; 2]) -> Option<String> {
    match (noted[0] == now[0], noted[1] == now[1]) {
        (true, true) => None,
        (false, true) => Some(format!("book/ko/src/{name}: its English twin has changed and it has not")),
        (true, false) => Some(format!("book/en/src/{name}: its Korean twin has changed and it has not")),
        (false, false) => Some(format!("{FILE}: {name} has changed in both languages; note it: `onggi-book twins`")),
    }
}

/// Notes what both say now.
///
/// # Errors
/// A section has changed in one language only and isn't among `only_one`.
pub fn record(root: &Path, only_one: &[String]) -> Result<(), String> {
    let (noted, found) = (noted(root)?, found(root)?);
    let forgotten: Vec<_> = found
        .iter()
        .filter(|(name, _)| !only_one.contains(name))
        .filter_map(|(name, now)| changed(name, noted.get(name)?, now))
        .filter(|what| what.contains("its "))
        .collect();
    if !forgotten.is_empty() {
        return Err(format!("{}\nsay --only-one SECTION for a change that the twin doesn't need", forgotten.join("\n")));
    }
    let mut text = String::new();
    for (name, [en, ko]) in &found {
        let _ = writeln!(text, "{name}\t{en}\t{ko}");
    }
    fs::write(root.join(FILE), text).map_err(|e| format!("cannot write {FILE}: {e}"))
}

fn noted(root: &Path) -> Result<Sections, String> {
    let text = match fs::read_to_string(root.join(FILE)) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Sections::new()),
        Err(e) => return Err(format!("cannot read {FILE}: {e}")),
    };
    let row = |line: &str| {
        let mut parts = line.split('\t').map(String::from);
        Some((parts.next()?, [parts.next()?, parts.next()?]))
    };
    text.lines().map(|line| row(line).ok_or_else(|| format!("{FILE}: {line}: three columns are needed"))).collect()
}

fn found(root: &Path) -> Result<Sections, String> {
    let mut found = Sections::new();
    for (at, lang) in LANGUAGES.iter().enumerate() {
        for file in chapters(root, lang)? {
            for Section { id, text, .. } in sections(&chapter(root, lang, &file)?) {
                found.entry(format!("{file}#{id}")).or_default()[at] = hash(&text);
            }
        }
    }
    Ok(found)
}

/// FNV-1a, 64 bits: it sees changes, and needs to withstand nobody.
fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_was_forgotten_is_named() {
        let (one, two) = (["1".to_string(), "2".to_string()], ["3".to_string(), "2".to_string()]);
        assert_eq!(changed("04.md#see", &one, &one), None);
        assert!(changed("04.md#see", &one, &two).unwrap().starts_with("book/ko/src/04.md#see"));
    }
}
