//! Names and IDs of containers, and the name that somebody meant who typed another.

use std::io::Read;

use crate::error::{Doing, Error, Result};

/// A fresh container ID: 256 random bits in hexadecimal, as Docker's.
///
/// # Errors
/// EIO.
pub fn random() -> Result<String> {
    let mut bytes = [0u8; 32];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).doing(|| "make a random ID".into())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The form in which people see an ID.
pub fn short(id: &str) -> &str {
    &id[..id.len().min(12)]
}

/// Two words for a container without a name, chosen by its ID.
pub fn pleasant_name(id: &str) -> String {
    // What a potter does, and what is kept in a jar.
    const FIRST: [&str; 16] = [
        "brave", "calm", "clever", "earthen", "gentle", "glazed", "golden", "happy", "humble", "kind", "lively", "patient", "quiet", "round",
        "sturdy", "warm",
    ];
    const SECOND: [&str; 16] = [
        "barley",
        "chili",
        "cabbage",
        "doenjang",
        "garlic",
        "ginger",
        "jang",
        "jujube",
        "kiln",
        "kimchi",
        "millet",
        "onggi",
        "perilla",
        "persimmon",
        "radish",
        "sesame",
    ];
    let byte = |at: usize| id.get(at..at + 2).and_then(|hex| usize::from_str_radix(hex, 16).ok()).unwrap_or(0);
    format!("{}_{}", FIRST[byte(0) % 16], SECOND[byte(2) % 16])
}

/// Checks a name that somebody chose (Docker's rule).
///
/// # Errors
/// Invalid.
pub fn check_name(name: &str) -> Result<()> {
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = letters.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    match first && rest && (2..=128).contains(&name.len()) {
        true => Ok(()),
        false => Err(Error::invalid(
            format!("use {name:?} as a container's name"),
            "a name has 2 to 128 of [a-zA-Z0-9_.-] and begins with a letter or digit",
        )),
    }
}

/// The name that is most like another: fewest letters to change, upper and lower case being one; none when too much differs.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let rated = known.map(|known| {
        let other = known.to_lowercase();
        let part = lower.len() > 2 && other.starts_with(&lower);
        (if part { 1 } else { distance(&lower, &other) }, known)
    });
    rated.min_by_key(|(distance, _)| *distance).filter(|(distance, _)| *distance <= 1 + lower.len() / 3).map(|(_, known)| known)
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], at + 1);
        for (column, against) in other.iter().enumerate() {
            let replaced = corner + usize::from(letter != *against);
            corner = row[column + 1];
            row[column + 1] = replaced.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let nearest = |text| nearest(text, ["web1", "database", "cache"].into_iter());
        assert_eq!((nearest("wbe1"), nearest("data"), nearest("Cashe")), (Some("web1"), Some("database"), Some("cache")));
        assert_eq!(nearest("something-else"), None);
    }

    #[test]
    fn ids_are_long_and_differ_and_give_names() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, two);
        assert_eq!(short(&one).len(), 12);
        check_name(&pleasant_name(&one)).unwrap();
        assert!(check_name("../etc").is_err() && check_name("x").is_err() && check_name("-web").is_err());
    }
}
