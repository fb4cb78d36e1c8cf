//! A page of the book as HTML: its chapter, the table of contents beside it, the same page in the other language, and a search.
//!
//! See it: `curl $(onggi book --no-open)`. Source: CommonMark, GitHub's alerts.

use std::fmt::Write;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html};

use super::pages::console::escape;
use super::pages::fences::{Section, sections};
use super::pages::{self, LANGUAGES};
use super::shelf::{self, Entry};
use crate::error::Result;

/// What a browser gets.
pub struct Page {
    pub status: u16,
    pub kind: &'static str,
    pub text: String,
}

const HTML: &str = "text/html; charset=utf-8";
const LOOK: &str = concat!(include_str!("reader.css"), include_str!("../../book/theme/onggi.css"));

/// The page at a path: `/ko/04_overlay.html`, `/ko/search?q=…`, `/code/src/main.rs.html`, `/look.css`.
pub fn page(path: &str, query: &str) -> Page {
    let text = |kind, text: &str| Page { status: 200, kind, text: text.into() };
    let path = path.trim_start_matches('/');
    match path.split_once('/') {
        None if path.is_empty() => found(chapter("en", "introduction.md")),
        None if path == "look.css" => text("text/css", LOOK),
        None if path == "behaviour.js" => text("text/javascript", include_str!("reader.js")),
        Some(("code", "source.css")) => text("text/css", include_str!("../../book/theme/source.css")),
        Some(("code", file)) => found(file.strip_suffix(".html").and_then(|file| Some(pages::source_page(file, &shelf::source(file).ok()?)))),
        Some((lang, "search")) if LANGUAGES.contains(&lang) => found(search(lang, &asked(query)).ok()),
        Some((lang, file)) if LANGUAGES.contains(&lang) => found(file.strip_suffix(".html").and_then(|file| chapter(lang, &format!("{file}.md")))),
        _ => found(None),
    }
}

fn found(page: Option<String>) -> Page {
    match page {
        Some(text) => Page { status: 200, kind: HTML, text },
        None => Page { status: 404, kind: HTML, text: "<!DOCTYPE html><title>404</title><p>There is no such page. <a href=\"/en/introduction.html\">English</a> <a href=\"/ko/introduction.html\">한국어</a></p>".into() },
    }
}

fn chapter(lang: &str, file: &str) -> Option<String> {
    let text = shelf::page(lang, file).ok()?;
    let title = text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(file);
    document(lang, file, title, &to_html(&text)).ok()
}

fn to_html(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_HEADING_ATTRIBUTES | Options::ENABLE_GFM | Options::ENABLE_STRIKETHROUGH;
    let mut out = String::with_capacity(markdown.len() * 2);
    html::push_html(&mut out, Parser::new_ext(markdown, options).map(to_pages));
    // Wide tables scroll in themselves.
    out.replace("<table>", "<div class=\"table-wrapper\"><table>").replace("</table>", "</table></div>")
}

/// Links to chapters are links to their pages.
fn to_pages(event: Event) -> Event {
    let Event::Start(Tag::Link { link_type, dest_url, title, id }) = event else { return event };
    let is_chapter = !dest_url.contains("://") && !dest_url.contains('/');
    let dest_url = if is_chapter { CowStr::from(dest_url.replacen(".md", ".html", 1)) } else { dest_url };
    Event::Start(Tag::Link { link_type, dest_url, title, id })
}

/// The words of an edition that stand outside its chapters: search, contents, the other language's name and code.
fn words(lang: &str) -> [&'static str; 5] {
    match lang {
        "ko" => ["찾기", "차례", "English", "en", "찾은 것이 없습니다."],
        _ => ["Search", "Contents", "한국어", "ko", "Nothing was found."],
    }
}

fn document(lang: &str, file: &str, title: &str, content: &str) -> Result<String> {
    let [search, contents, other_name, other, _] = words(lang);
    let here = file.replace(".md", ".html");
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"{lang}\" class=\"light js\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{} · Onggi</title><link rel=\"stylesheet\" href=\"/look.css\"><script src=\"/behaviour.js\" defer></script></head>\n\
         <body class=\"reader\"><nav aria-label=\"{contents}\"><p><a class=\"language\" lang=\"{other}\" href=\"/{other}/{here}\">{other_name}</a></p>\
         <form action=\"/{lang}/search\"><input type=\"search\" name=\"q\" aria-label=\"{search}\" placeholder=\"{search}\"></form>\n",
        escape(title)
    );
    // Writing to a String can't fail.
    for entry in shelf::contents(lang)? {
        let _ = match entry {
            Entry::Part(part) => writeln!(page, "<p class=\"part-title\">{}</p>", escape(&part)),
            Entry::Chapter(title, None) => writeln!(page, "<p class=\"draft\">{}</p>", escape(&title)),
            Entry::Chapter(title, Some(of)) => {
                let current = if of == file { " aria-current=\"page\"" } else { "" };
                writeln!(page, "<p><a href=\"/{lang}/{}\"{current}>{}</a></p>", of.replace(".md", ".html"), escape(&title))
            }
        };
    }
    let _ = write!(page, "</nav><main class=\"content\">\n{content}\n</main></body></html>\n");
    Ok(page)
}

/// The sections that have all words, best first: a word in a heading counts as much as twenty in the text.
fn search(lang: &str, asked: &str) -> Result<String> {
    let [heading, .., nothing] = words(lang);
    let query: Vec<String> = asked.to_lowercase().split_whitespace().map(String::from).collect();
    let mut hits = Vec::new();
    for entry in shelf::contents(lang)? {
        let Entry::Chapter(title, Some(file)) = entry else { continue };
        for Section { id, title: section, text } in sections(&shelf::page(lang, &file)?) {
            let (name, text) = (section.to_lowercase(), text.to_lowercase());
            let score = |word: &String| 20 * name.matches(word.as_str()).count() + text.matches(word.as_str()).count();
            if !query.is_empty() && query.iter().all(|word| score(word) > 0) {
                hits.push((query.iter().map(score).sum::<usize>(), format!("{}#{id}", file.replace(".md", ".html")), title.clone(), section));
            }
        }
    }
    hits.sort_by_key(|hit| std::cmp::Reverse(hit.0));
    let mut content = format!("<h1>{heading}: {}</h1>\n", escape(asked));
    for (_, place, chapter, section) in hits.iter().take(50) {
        let _ = writeln!(content, "<p><a href=\"/{lang}/{place}\">{} · {}</a></p>", escape(chapter), escape(section));
    }
    if hits.is_empty() {
        let _ = writeln!(content, "<p>{nothing}</p>");
    }
    document(lang, "search", heading, &content)
}

/// `q=%EB%84%A4+x` → the words. Bytes that are no UTF-8 find nothing.
fn asked(query: &str) -> String {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("q=")).unwrap_or_default();
    let (mut bytes, mut rest) = (Vec::new(), value.bytes());
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).unwrap_or(0) as u8;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => digit() << 4 | digit(),
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_asks_for_is_read() {
        assert_eq!(asked("q=%EB%84%A4%EC%9E%84+a%2Bb&x=1"), "네임 a+b");
        assert_eq!(asked("q=%"), "\0");
        assert_eq!(asked(""), "");
    }

    #[test]
    fn links_to_chapters_become_links_to_pages_and_others_stay() {
        let html = to_html("[a](04_overlay.md#see) [b](https://example.org/x.md) [c](../code/src/main.rs.html#L1)\n\n## H {#h}\n");
        for part in ["href=\"04_overlay.html#see\"", "href=\"https://example.org/x.md\"", "href=\"../code/src/main.rs.html#L1\"", "<h2 id=\"h\">"] {
            assert!(html.contains(part), "{part}: {html}");
        }
    }
}
