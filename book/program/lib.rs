//! The program that builds, serves, checks and tries the book.
//!
//! `cargo run -p onggi-book -- build` makes both editions in `target/book`; `check` reads what can be read, `run` types the commands.

#[path = "../../src/workshop/pages/mod.rs"]
pub mod pages;

pub mod check;
pub mod edition;
pub mod run;
pub mod serve;
pub mod support;
pub mod terminal;
pub mod twins;
pub mod vm;

use std::path::{Path, PathBuf};

/// The checkout in which this program works: the folder above it with `book/book.toml`, or the one it was built in.
pub fn root() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let found = here.ancestors().find(|folder| folder.join("book/book.toml").is_file());
    found.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), Path::to_path_buf)
}

/// The chapters' file names of one language, in the order of SUMMARY.md.
///
/// # Errors
/// SUMMARY.md can't be read.
pub fn chapters(root: &Path, lang: &str) -> Result<Vec<String>, String> {
    let path = root.join(format!("book/{lang}/src/SUMMARY.md"));
    let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    Ok(text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(file, _)| file.to_string()).filter(|file| !file.is_empty()).collect())
}

/// One chapter's Markdown, as it was written.
///
/// # Errors
/// It can't be read.
pub fn chapter(root: &Path, lang: &str, file: &str) -> Result<String, String> {
    let path = root.join(format!("book/{lang}/src/{file}"));
    std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}
