//! Which images of a list are meant: `--filter`, and the name behind `onggi images`.
//!
//! Read: docker images(1), "Filtering".

use std::time::SystemTime;

use super::filter::Filters;
use super::human;
use super::images::{listed, repository};
use crate::clock;
use crate::error::Result;
use crate::image::list::Listed;
use crate::image::manifest::ImageConfig;
use crate::image::reference::Reference;
use crate::image::store::Store;

/// What was chosen.
pub struct Chosen<'a> {
    store: &'a Store,
    filters: &'a Filters,
    dangling: Option<bool>,
    /// Only those made before, or after.
    before: Option<String>,
    since: Option<String>,
    until: Option<SystemTime>,
}

impl<'a> Chosen<'a> {
    /// Reads the filters; `before` and `since` name images.
    ///
    /// # Errors
    /// Invalid, NotFound.
    pub fn new(store: &'a Store, filters: &'a Filters, all: &[Listed]) -> Result<Chosen<'a>> {
        let time_of = |key: &str| -> Result<Option<String>> {
            let Some(name) = filters.values(key).first() else { return Ok(None) };
            let image = listed(store, name, "find the image")?;
            Ok(all.iter().find(|one| one.id == image.id).map(|one| one.created.clone()))
        };
        Ok(Chosen {
            store,
            filters,
            dangling: filters.switch("dangling")?,
            before: time_of("before")?,
            since: time_of("since")?,
            until: filters.values("until").first().map(|text| human::moment("--filter until", text, SystemTime::now())).transpose()?,
        })
    }

    /// Whether the image is meant.
    ///
    /// # Errors
    /// Invalid when its config, asked for labels, is damaged.
    pub fn takes(&self, image: &Listed) -> Result<bool> {
        let of_time = |limit: &Option<String>, fits: fn(&SystemTime, &SystemTime) -> bool| {
            limit.as_deref().is_none_or(|limit| match (clock::parse_rfc3339(&image.created), clock::parse_rfc3339(limit)) {
                (Some(created), Some(limit)) => fits(&created, &limit),
                _ => false,
            })
        };
        let named = |image: &Listed| match self.filters.has("reference") {
            true => image.names.iter().any(|(name, _)| self.takes_name(name)),
            false => true,
        };
        let before_moment = self.until.is_none_or(|until| clock::parse_rfc3339(&image.created).is_none_or(|created| created < until));
        let fits = self.dangling.is_none_or(|dangling| dangling == image.names.is_empty())
            && of_time(&self.before, SystemTime::lt)
            && of_time(&self.since, SystemTime::gt)
            && before_moment
            && named(image);
        Ok(fits && self.has_labels(image)?)
    }

    /// Whether this one of an image's names is meant.
    pub fn takes_name(&self, name: &Reference) -> bool {
        let (whole, repository) = (name.familiar(), repository(name));
        self.filters.any("reference", |pattern| matches(pattern, &whole) || matches(pattern, &repository))
    }

    fn has_labels(&self, image: &Listed) -> Result<bool> {
        if !self.filters.has("label") && !self.filters.has("label!") {
            return Ok(true);
        }
        let config: ImageConfig = self.store.read_json(&image.id)?;
        let labels = config.config.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Ok(self.filters.labels(labels))
    }
}

/// Go's `path.Match`: `*` and `?` stand for anything but a slash, `[a-c]` for one of these letters, a backslash takes the next as it is.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Where to go on when what follows the last `*` doesn't fit: one letter later.
    let (mut at, mut here, mut again) = (0, 0, None);
    loop {
        match one(&pattern[at..], text.get(here)) {
            _ if at == pattern.len() && here == text.len() => return true,
            _ if pattern.get(at) == Some(&'*') => {
                again = Some((at + 1, here));
                at += 1;
                continue;
            }
            Some(length) => {
                at += length;
                here += 1;
                continue;
            }
            None => {}
        }
        match again {
            Some((star, from)) if from < text.len() && text[from] != '/' => {
                again = Some((star, from + 1));
                (at, here) = (star, from + 1);
            }
            _ => return false,
        }
    }
}

/// How long the pattern's part is that fits this one letter.
fn one(pattern: &[char], letter: Option<&char>) -> Option<usize> {
    let letter = *letter?;
    match pattern {
        ['?', ..] => (letter != '/').then_some(1),
        ['\\', escaped, ..] => (*escaped == letter).then_some(2),
        ['[', rest @ ..] => {
            let end = rest.iter().position(|c| *c == ']')?;
            let (inside, negated) = if rest[0] == '^' { (&rest[1..end], true) } else { (&rest[..end], false) };
            let mut found = false;
            let mut at = 0;
            while at < inside.len() {
                let (low, high) =
                    if inside.get(at + 1) == Some(&'-') && at + 2 < inside.len() { (inside[at], inside[at + 2]) } else { (inside[at], inside[at]) };
                found |= (low..=high).contains(&letter);
                at += if low == high && inside.get(at + 1) != Some(&'-') { 1 } else { 3 };
            }
            (found != negated).then_some(end + 2)
        }
        [plain, ..] => (*plain == letter).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_fit_as_gos_do() {
        for (pattern, text) in [
            ("base", "base"),
            ("b*", "base"),
            ("*", "base"),
            ("*:1*", "web:1.2"),
            ("team/*", "team/web"),
            ("we?", "web"),
            ("[a-w]eb", "web"),
            ("*b*e", "busybee"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("b", "base"), ("*", "team/web"), ("?", ""), ("[^w]eb", "web"), ("base", "bas"), ("*x", "base"), ("[", "[")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
