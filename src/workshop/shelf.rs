//! Where the book stands: inside the program when it was built for release, else in the checkout, where an edit is seen at once.
//!
//! Both give chapters as [`super::pages::expand`] makes them; `build.rs` puts the first into `shelf.rs`.

use std::path::Path;

use super::pages;
use crate::error::{Class, Error, Result};

mod inside {
    include!(concat!(env!("OUT_DIR"), "/shelf.rs"));
}

/// A line of the table of contents.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    Part(String),
    /// Title and file; a chapter that isn't written has none.
    Chapter(String, Option<String>),
}

/// The table of contents of an edition.
///
/// # Errors
/// The checkout is gone.
pub fn contents(lang: &str) -> Result<Vec<Entry>> {
    // The first line is the title of the table itself.
    Ok(page(lang, "SUMMARY.md")?.lines().skip(1).filter_map(entry).collect())
}

/// `# Part`, `- [Title](file.md)`
fn entry(line: &str) -> Option<Entry> {
    if let Some(part) = line.strip_prefix("# ") {
        return Some(Entry::Part(part.trim().to_string()));
    }
    let (title, rest) = line.trim_start_matches([' ', '-']).strip_prefix('[')?.split_once("](")?;
    let file = rest.split_once(')')?.0;
    Some(Entry::Chapter(title.to_string(), Some(file.to_string()).filter(|file| !file.is_empty())))
}

/// A chapter's Markdown, expanded.
///
/// # Errors
/// NotFound; what [`pages::expand`] says of a checkout that is being edited.
pub fn page(lang: &str, file: &str) -> Result<String> {
    let doing = || format!("open the page {file} of the book");
    if !inside::PAGES.is_empty() {
        let found = inside::PAGES.iter().find(|(of, name, _)| *of == lang && *name == file);
        return found.map(|(_, _, text)| text.to_string()).ok_or_else(|| Error::new(Class::NotFound, doing(), "there is no such page"));
    }
    let path = checkout().join(format!("book/{lang}/src/{file}"));
    let is_name = !file.contains('/') && file.ends_with(".md");
    let text = is_name.then(|| std::fs::read_to_string(&path).ok()).flatten();
    let text = text.ok_or_else(|| Error::new(Class::NotFound, doing(), format!("cannot read {}", path.display())))?;
    pages::expand(checkout(), lang, &text).map_err(|why| Error::invalid(doing(), why))
}

/// A source that a chapter shows or links to.
///
/// # Errors
/// NotFound.
pub fn source(file: &str) -> Result<String> {
    let doing = || format!("open the source {file}");
    if !inside::PAGES.is_empty() {
        let found = inside::SOURCES.iter().find(|(name, _)| *name == file);
        return found.map(|(_, text)| text.to_string()).ok_or_else(|| Error::new(Class::NotFound, doing(), "the book has no such source"));
    }
    pages::source(checkout(), file).map_err(|why| Error::new(Class::NotFound, doing(), why))
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_contents_has_parts_chapters_and_gaps() {
        assert_eq!(entry("# Build it yourself"), Some(Entry::Part("Build it yourself".into())));
        assert_eq!(entry("- [04 Layers](04_overlay.md)"), Some(Entry::Chapter("04 Layers".into(), Some("04_overlay.md".into()))));
        assert_eq!(entry("- [Builds]()"), Some(Entry::Chapter("Builds".into(), None)));
        assert_eq!(entry(""), None);
    }
}
