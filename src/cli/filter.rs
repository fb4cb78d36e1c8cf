//! `--filter key=value`, as often as one likes: values of one key widen the choice, another key narrows it.
//!
//! Read: docker ps(1), "Filtering".

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::id;

/// What was asked for, by key.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the values of `--filter`.
    ///
    /// # Errors
    /// Invalid for what is no `key=value`, and for a key that isn't allowed, with those that are.
    pub fn parse(texts: &[String], allowed: &[&str]) -> Result<Filters> {
        let mut filters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in texts {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("use --filter {text}"), "invalid argument: bad format of filter (expected name=value)"))?;
            let key = key.trim().to_ascii_lowercase();
            if !allowed.contains(&key.as_str()) {
                let near = id::nearest(&key, allowed.iter().copied()).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
                let hint = format!("{near}the filters here are {}", allowed.join(", "));
                return Err(Error::invalid(format!("use --filter {text}"), format!("invalid filter '{key}'")).hint(hint));
            }
            let values = filters.entry(key).or_default();
            if !values.iter().any(|known| known == value.trim()) {
                values.push(value.trim().into());
            }
        }
        Ok(Filters(filters))
    }

    /// The values asked for under a key; none when it wasn't asked for.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a key was asked for.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Whether one of the key's values fits; so does everything when the key wasn't asked for.
    pub fn any(&self, key: &str, fits: impl FnMut(&str) -> bool) -> bool {
        let mut fits = fits;
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// Whether something has all labels that were asked for, `key` or `key=value`, and none of those that it must not have (`label!`).
    pub fn labels<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some(pair) => labels.clone().any(|label| label == pair),
            None => labels.clone().any(|(key, _)| key == wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    /// The value of a key that is yes or no.
    ///
    /// # Errors
    /// Invalid for another word.
    pub fn switch(&self, key: &str) -> Result<Option<bool>> {
        match self.values(key) {
            [] => Ok(None),
            [value] => match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "t" => Ok(Some(true)),
                "false" | "0" | "f" => Ok(Some(false)),
                _ => Err(Error::invalid(format!("use --filter {key}={value}"), "it is neither true nor false")),
            },
            values => Err(Error::invalid(format!("use --filter {key}={}", values.join(&format!(" --filter {key}="))), "one of them is enough")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Filters> {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        Filters::parse(&texts, &["status", "name", "label", "dangling"])
    }

    #[test]
    fn values_of_one_key_widen_and_another_key_narrows() {
        let filters = parse(&["status=exited", "status=created", "name=web"]).unwrap();
        assert!(filters.any("status", |value| value == "created"));
        assert!(!filters.any("status", |value| value == "running"));
        assert!(filters.any("label", |_| false), "nobody asked");
        assert_eq!(filters.values("name"), ["web"]);
    }

    #[test]
    fn all_labels_must_be_there() {
        let filters = parse(&["label=a", "label=b=2"]).unwrap();
        assert!(filters.labels([("a", "1"), ("b", "2")].into_iter()));
        assert!(!filters.labels([("a", "1"), ("b", "3")].into_iter()));
        assert!(!filters.labels([("b", "2")].into_iter()));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_and_the_list() {
        let told = parse(&["staus=exited"]).unwrap_err().to_string();
        assert_eq!(
            told,
            "cannot use --filter staus=exited\n  invalid filter 'staus'\n  hint: did you mean status? the filters here are status, name, label, dangling"
        );
        assert!(parse(&["exited"]).unwrap_err().to_string().contains("bad format of filter"));
    }

    #[test]
    fn a_switch_is_yes_or_no() {
        assert_eq!(parse(&["dangling=true"]).unwrap().switch("dangling").unwrap(), Some(true));
        assert_eq!(parse(&["dangling=0"]).unwrap().switch("dangling").unwrap(), Some(false));
        assert!(parse(&["dangling=maybe"]).unwrap().switch("dangling").is_err());
        assert!(parse(&["dangling=1", "dangling=0"]).unwrap().switch("dangling").is_err());
    }
}
