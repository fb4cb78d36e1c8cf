//! The editions: chapters are expanded into a folder of their own, and mdBook makes pages of them.
//!
//! ```text
//! target/book/index.html   goes on to the edition of the browser's language
//!             en/  ko/     the editions
//!             code/        the sources that they link to, a page each
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mdbook_driver::MDBook;
use mdbook_driver::config::Config;

use crate::pages::{self, LANGUAGES};
use crate::{chapter, chapters};

const TITLES: [(&str, &str); 2] = [("en", "Onggi: containers from the inside"), ("ko", "옹기: 안에서 보는 컨테이너")];

const INDEX: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Onggi</title>\
<script>location.replace((navigator.language.startsWith('ko') ? 'ko' : 'en') + '/index.html')</script></head>\
<body><p><a href=\"en/index.html\">English</a> · <a href=\"ko/index.html\">한국어</a></p></body></html>\n";

/// Builds both editions into `place`, which is made anew, and gives it back.
///
/// # Errors
/// What names nothing in a chapter, with file and line; what mdBook refuses.
pub fn build(root: &Path, place: &Path) -> Result<PathBuf, String> {
    let says = |e: std::io::Error| format!("cannot write {}: {e}", place.display());
    if place.exists() {
        fs::remove_dir_all(place).map_err(says)?;
    }
    let mut sources = BTreeSet::new();
    for lang in LANGUAGES {
        let expanded = place.join("expanded").join(lang);
        fs::create_dir_all(&expanded).map_err(says)?;
        fs::copy(root.join(format!("book/{lang}/src/SUMMARY.md")), expanded.join("SUMMARY.md")).map_err(says)?;
        for file in chapters(root, lang)? {
            let text = pages::expand(root, lang, &chapter(root, lang, &file)?)
                .map_err(|wrong| wrong.lines().map(|line| format!("book/{lang}/src/{file}:{line}")).collect::<Vec<_>>().join("\n"))?;
            sources.extend(pages::sources(&text).map(String::from));
            fs::write(expanded.join(&file), text).map_err(says)?;
        }
        render(root, lang, &expanded, &place.join(lang))?;
    }
    for file in sources {
        let page = place.join("code").join(format!("{file}.html"));
        fs::create_dir_all(page.parent().unwrap_or(place)).map_err(says)?;
        let text = pages::source(root, &file)?;
        fs::write(page, pages::source_page(&file, &text)).map_err(says)?;
    }
    fs::create_dir_all(place.join("code")).map_err(says)?;
    fs::copy(root.join("book/theme/source.css"), place.join("code/source.css")).map_err(says)?;
    fs::write(place.join("index.html"), INDEX).map_err(says)?;
    fs::remove_dir_all(place.join("expanded")).map_err(says)?;
    Ok(place.to_path_buf())
}

fn render(root: &Path, lang: &str, expanded: &Path, place: &Path) -> Result<(), String> {
    let says = |e: &dyn std::fmt::Display| format!("mdBook, edition {lang}: {e:#}");
    let mut config = Config::from_disk(root.join("book/book.toml")).map_err(|e| says(&e))?;
    config.book.title = TITLES.iter().find(|(of, _)| *of == lang).map(|(_, title)| title.to_string());
    config.book.language = Some(lang.to_string());
    config.book.src = expanded.to_path_buf();
    config.build.build_dir = place.to_path_buf();
    // All has been expanded; only the index page is mdBook's to find.
    config.build.use_default_preprocessors = false;
    MDBook::load_with_config(root.join("book"), config).and_then(|book| book.build()).map_err(|e| says(&e))
}
