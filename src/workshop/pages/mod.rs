//! The book's pages: what stands in `book/*/src` becomes Markdown that any renderer understands.
//!
//! A chapter never holds a copy of code. It names it, and here the name is replaced by what the sources say:
//!
//! | in a chapter | becomes |
//! |---|---|
//! | `{{#code steps/04_overlay.rs fn stack}}` | that function, with a link to its place |
//! | `{{#diff 03_cgroups 04_overlay}}` | what changes from one step to the next |
//! | `[text](src:src/runtime/init.rs#fn run)` | a link to that line |
//! | a block marked `console` | commands and output told apart, `‹…›` marked as what varies |
//! | `![words](pictures/layers.svg)` | the drawing itself, so that it has the page's colours |
//!
//! It uses the standard library only: `build.rs` and the program `onggi-book` include it by its path.
//!
//! See it: `cargo run -p onggi-book -- expand 04`. Read: <https://spec.commonmark.org/0.31.2/#html-blocks>.

pub mod console;
pub mod difference;
pub mod excerpt;
pub mod fences;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use console::escape;
use fences::{Line, lines};

/// The two editions, each a folder below `book`.
pub const LANGUAGES: [&str; 2] = ["en", "ko"];

/// One chapter's text, ready for a renderer.
///
/// `root` is the checkout, `lang` one of [`LANGUAGES`].
///
/// # Errors
/// All that names nothing, as `line: what`, one a line.
pub fn expand(root: &Path, lang: &str, text: &str) -> Result<String, String> {
    let (mut out, mut wrong) = (String::new(), Vec::new());
    let mut block: Option<(String, Vec<&str>)> = None;
    for Line { number, text: line, fence } in lines(text) {
        if fence.opens_console() {
            block = Some((fence.info.to_string(), Vec::new()));
            continue;
        }
        if let Some((_, inside)) = &mut block {
            if !fence.is_fence {
                inside.push(line);
                continue;
            }
            let (info, inside) = block.take().unwrap_or_default();
            let place = match (info.as_str(), lang) {
                ("console,vm", "ko") => "<p class=\"listing\">가상 머신에서</p>\n\n",
                ("console,vm", _) => "<p class=\"listing\">in a virtual machine</p>\n\n",
                _ => "",
            };
            let _ = writeln!(out, "{place}{}", console::html(&inside));
            continue;
        }
        let expanded = if fence.inside || fence.is_fence { Ok(line.to_string()) } else { expand_line(root, lang, line) };
        match expanded {
            Ok(line) => out.push_str(&line),
            Err(what) => wrong.push(format!("{number}: {what}")),
        }
        out.push('\n');
    }
    if wrong.is_empty() { Ok(out) } else { Err(wrong.join("\n")) }
}

fn expand_line(root: &Path, lang: &str, line: &str) -> Result<String, String> {
    if let Some(directive) = directive(line) {
        return match directive.split_once(' ') {
            Some(("code", what)) => listing(root, what),
            Some(("diff", steps)) => diff(root, lang, steps),
            _ => Err(format!("`{directive}` is no directive: there are code and diff")),
        };
    }
    match picture(line) {
        Some((words, name)) => figure(root, lang, words, name),
        None => links(root, line),
    }
}

/// `{{#code …}}`, alone on its line: what stands after the `#`.
pub fn directive(line: &str) -> Option<&str> {
    line.trim().strip_prefix("{{#")?.strip_suffix("}}")
}

/// `![words](pictures/name.svg)`, alone on its line.
pub fn picture(line: &str) -> Option<(&str, &str)> {
    line.trim().strip_prefix("![")?.strip_suffix(')')?.split_once("](pictures/")
}

/// An item of a source as a listing, its place above it.
fn listing(root: &Path, what: &str) -> Result<String, String> {
    let (file, item) = what.split_once(' ').unwrap_or((what, ""));
    let text = read(root, file)?;
    let found = excerpt::find(&text, item).map_err(|why| format!("{file}: {why}"))?;
    let kind = file.rsplit_once('.').map_or("text", |(_, kind)| if kind == "rs" { "rust" } else { kind });
    let place = format!("<p class=\"listing\"><a href=\"{}\">{file}:{}</a></p>", place(file, found.first), found.first);
    Ok(format!("{place}\n\n```{kind}\n{}\n```\n", found.text))
}

/// What changes from one step to the next, folded.
fn diff(root: &Path, lang: &str, steps: &str) -> Result<String, String> {
    let (from, to) = steps.split_once(' ').ok_or_else(|| format!("diff {steps}: two steps are needed"))?;
    let text = |step: &str| read(root, &format!("steps/{step}.rs"));
    let changes = difference::unified(&text(from)?, &text(to)?);
    let count = |sign: char| changes.lines().filter(|line| line.starts_with(sign)).count();
    let number = |step: &str| step.split('_').next().unwrap_or_default().to_string();
    let (from, to, more, less) = (number(from), number(to), count('+'), count('-'));
    let title = match lang {
        "ko" => format!("{from}단계에서 {to}단계로: {more}줄이 늘고 {less}줄이 빠집니다"),
        _ => format!("From step {from} to step {to}: {more} lines come, {less} go"),
    };
    Ok(format!("<details class=\"diff\"><summary>{title}</summary>\n\n```diff\n{changes}```\n\n</details>\n"))
}

/// The drawing itself, with the labels of one language: those have a line of their own. A block of HTML ends at an empty line, so it has none.
fn figure(root: &Path, lang: &str, words: &str, name: &str) -> Result<String, String> {
    let drawing = read(root, &format!("book/pictures/{name}"))?;
    let drawing = drawing.find("<svg").map_or(drawing.as_str(), |start| &drawing[start..]);
    let other: Vec<_> = LANGUAGES.iter().filter(|other| **other != lang).map(|other| format!("class=\"{other}\"")).collect();
    let is_shown = |line: &&str| !line.trim().is_empty() && !other.iter().any(|other| line.contains(other)) && !line.trim().starts_with("<style>");
    let drawing: Vec<_> = drawing.lines().filter(is_shown).collect();
    Ok(format!(
        "<figure class=\"picture\" role=\"img\" aria-label=\"{}\">\n{}\n</figure>\n",
        escape(words).replace('"', "&quot;"),
        drawing.join("\n")
    ))
}

/// Links to sources get the page of the source, and the line of what they name.
fn links(root: &Path, line: &str) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(start) = rest.find("](src:").or_else(|| rest.find("](../../../")) {
        let target = &rest[start + 2..];
        let end = closing(target).ok_or_else(|| format!("no `)` after {target}"))?;
        let named = target[..end].trim_start_matches("src:").trim_start_matches("../../../");
        let (file, item) = named.split_once('#').unwrap_or((named, ""));
        let first = if item.is_empty() {
            if !root.join(file).exists() {
                return Err(format!("there is no {file}"));
            }
            1
        } else {
            excerpt::find(&read(root, file)?, item).map_err(|why| format!("{file}: {why}"))?.first
        };
        let _ = write!(out, "{}]({}", &rest[..start], place(file, first));
        rest = &rest[start + 2 + end..];
    }
    Ok(out + rest)
}

/// Where the link's own `)` is: an item may have parentheses, too.
fn closing(target: &str) -> Option<usize> {
    let mut open = 0;
    target.char_indices().find_map(|(at, letter)| {
        match letter {
            '(' => open += 1,
            ')' if open == 0 => return Some(at),
            ')' => open -= 1,
            _ => {}
        }
        None
    })
}

/// The page of a source, seen from a chapter.
fn place(file: &str, line: usize) -> String {
    format!("../code/{file}.html#L{line}")
}

/// A source as a page, each line with an anchor.
pub fn source_page(file: &str, text: &str) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{file}</title>\n\
         <link rel=\"stylesheet\" href=\"{}source.css\"></head><body><h1>{file}</h1>\n<pre class=\"source\">",
        "../".repeat(file.matches('/').count() + 1)
    );
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let _ = writeln!(page, "<a id=\"L{number}\" href=\"#L{number}\">{number:>4}</a> {}", escape(line));
    }
    page + "</pre></body></html>\n"
}

/// The sources whose pages an expanded chapter links to.
pub fn sources(expanded: &str) -> impl Iterator<Item = &str> {
    expanded.split("../code/").skip(1).filter_map(|rest| rest.split_once(".html#").map(|(file, _)| file))
}

/// A source as it is, or the names in a folder.
///
/// # Errors
/// It can't be read.
pub fn source(root: &Path, file: &str) -> Result<String, String> {
    let path = root.join(file);
    if !path.is_dir() {
        return read(root, file);
    }
    let entries = fs::read_dir(&path).map_err(|e| format!("cannot read {file}: {e}"))?.flatten();
    let mut names: Vec<_> = entries.map(|entry| format!("{}\n", entry.file_name().to_string_lossy())).collect();
    names.sort();
    Ok(names.concat())
}

fn read(root: &Path, file: &str) -> Result<String, String> {
    if file.split('/').any(|part| part == "..") {
        return Err(format!("{file}: only what is in this repository"));
    }
    fs::read_to_string(root.join(file)).map_err(|e| format!("cannot read {file}: {e}"))
}
