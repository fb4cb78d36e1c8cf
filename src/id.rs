//! Names and IDs of containers.

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

#[cfg(test)]
mod tests {
    use super::*;

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
