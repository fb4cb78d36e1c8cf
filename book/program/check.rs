//! What can be wrong in the book without running anything, told as `path:line: what`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::pages::fences::{id, lines};
use crate::pages::{self, LANGUAGES, console};
use crate::twins;
use crate::{chapter, chapters};

/// What a chapter and its twin must have in common, and what is checked in each.
#[derive(Default)]
struct Outline<'a> {
    /// Line, level, ID.
    headings: Vec<(usize, usize, Option<&'a str>)>,
    /// Line, what the fence says, the lines inside.
    blocks: Vec<(usize, &'a str, Vec<&'a str>)>,
    /// Line and text of `{{#…}}`.
    directives: Vec<(usize, &'a str)>,
    /// Line, words, file.
    pictures: Vec<(usize, &'a str, &'a str)>,
    /// Line and target.
    links: Vec<(usize, &'a str)>,
}

/// All that is wrong.
pub fn check(root: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut texts: BTreeMap<(&str, String), String> = BTreeMap::new();
    for lang in LANGUAGES {
        match chapters(root, lang) {
            Ok(files) => wrong.extend(unlisted(root, lang, &files)),
            Err(why) => return vec![why],
        }
        for file in chapters(root, lang).unwrap_or_default() {
            match chapter(root, lang, &file) {
                Ok(text) => drop(texts.insert((lang, file), text)),
                Err(why) => wrong.push(why),
            }
        }
    }
    if chapters(root, "en") != chapters(root, "ko") {
        wrong.push("book/ko/src/SUMMARY.md: other chapters, or another order, than in English".into());
    }
    let outlines: BTreeMap<_, _> = texts.iter().map(|((lang, file), text)| ((*lang, file.as_str()), outline(text))).collect();
    for ((lang, file), outline) in &outlines {
        let path = format!("book/{lang}/src/{file}");
        let mut here = own(root, outline);
        here.extend(outline.links.iter().filter_map(|(line, target)| Some((*line, link(&outlines, lang, file, target)?))));
        if let Err(what) = pages::expand(root, lang, &texts[&(*lang, file.to_string())]) {
            wrong.extend(what.lines().map(|what| format!("{path}:{what}")));
        }
        if let Some(twin) = outlines.get(&("ko", *file)).filter(|_| *lang == "en") {
            wrong.extend(apart(file, outline, twin));
        }
        wrong.extend(here.into_iter().map(|(line, what)| format!("{path}:{line}: {what}")));
    }
    wrong.extend(LANGUAGES.iter().flat_map(|lang| misnamed(root, lang, &texts)));
    wrong.extend(notes(root, &texts));
    wrong.extend(twins::check(root));
    wrong
}

fn unlisted(root: &Path, lang: &str, listed: &[String]) -> Vec<String> {
    let there = fs::read_dir(root.join(format!("book/{lang}/src"))).into_iter().flatten().flatten();
    let there = there.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name != "SUMMARY.md");
    there.filter(|name| !listed.contains(name)).map(|name| format!("book/{lang}/src/{name}: SUMMARY.md doesn't list it")).collect()
}

/// Chapters that the table of contents calls by another name than they do themselves.
fn misnamed(root: &Path, lang: &str, texts: &BTreeMap<(&str, String), String>) -> Vec<String> {
    let path = format!("book/{lang}/src/SUMMARY.md");
    let summary = fs::read_to_string(root.join(&path)).unwrap_or_default();
    let entries = summary.lines().filter_map(|line| line.split_once('[')?.1.strip_suffix(')')?.split_once("]("));
    let own =
        |file: &str| texts.iter().find(|((of, name), _)| *of == lang && name == file).and_then(|(_, text)| text.lines().next()?.strip_prefix("# "));
    let wrong = entries
        .filter_map(|(title, file)| own(file).filter(|own| *own != title).map(|own| format!("{path}: {file} is called `{own}`, not `{title}`")));
    wrong.collect()
}

fn outline(text: &str) -> Outline<'_> {
    let mut found = Outline::default();
    for line in lines(text) {
        let (number, text, fence) = (line.number, line.text, line.fence);
        if fence.opens() {
            found.blocks.push((number, fence.info, Vec::new()));
        } else if fence.inside {
            if let Some((_, _, inside)) = found.blocks.last_mut() {
                inside.push(text);
            }
        } else if !fence.is_fence {
            let level = text.len() - text.trim_start_matches('#').len();
            if level > 0 && text[level..].starts_with(' ') {
                found.headings.push((number, level, id(text)));
            }
            found.directives.extend(pages::directive(text).map(|directive| (number, directive)));
            found.pictures.extend(pages::picture(text).map(|(words, file)| (number, words, file)));
            found.links.extend(targets(text).map(|target| (number, target)));
        }
    }
    found
}

/// The targets of a line's links, code spans aside.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// What is wrong in one chapter, by itself.
fn own(root: &Path, outline: &Outline) -> Vec<(usize, String)> {
    let (mut wrong, mut ids) = (Vec::new(), BTreeSet::new());
    for (line, level, id) in &outline.headings {
        match id {
            None if *level > 1 => wrong.push((*line, "this heading has no ID: end it in {#name}".into())),
            Some(id) if !ids.insert(id) => wrong.push((*line, format!("#{id} is there twice"))),
            _ => {}
        }
    }
    for (line, info, inside) in outline.blocks.iter().filter(|(_, info, _)| info.split(',').next() == Some("console")) {
        if !["console", "console,vm"].contains(info) {
            wrong.push((*line, format!("`{info}`: a block of commands is `console` or `console,vm`")));
        }
        wrong.extend(console::typed(inside).err().map(|why| (*line, why)));
    }
    for (line, words, file) in &outline.pictures {
        if words.chars().count() < 20 {
            wrong.push((*line, format!("{file}: its text alternative says too little")));
        }
        let drawing = fs::read_to_string(root.join("book/pictures").join(file)).unwrap_or_default();
        let lacks = ["<title", "<desc", "viewBox"].into_iter().filter(|part| !drawing.contains(part)).map(|part| format!("{file}: it has no {part}"));
        let has = ["<script", "<image", "href=\"http", "url(http"]
            .into_iter()
            .filter(|part| drawing.contains(part))
            .map(|part| format!("{file}: it has {part}"));
        wrong.extend(lacks.chain(has).map(|what| (*line, what)));
    }
    wrong
}

/// What is wrong with a link to another page, or on this one.
fn link(outlines: &BTreeMap<(&str, &str), Outline>, lang: &str, file: &str, target: &str) -> Option<String> {
    if ["src:", "../../../", "pictures/"].iter().any(|start| target.starts_with(start)) {
        return None; // expanding looks at these
    }
    if target.starts_with("http") {
        let is_address = target.starts_with("https://") && !target.contains(char::is_whitespace);
        return (!is_address).then(|| format!("{target}: an address begins with https://"));
    }
    let (page, anchor) = target.split_once('#').unwrap_or((target, ""));
    let page = if page.is_empty() { file } else { page };
    let Some(there) = outlines.get(&(lang, page)) else { return Some(format!("there is no chapter {page}")) };
    let has = anchor.is_empty() || there.headings.iter().any(|(_, _, id)| *id == Some(anchor));
    (!has).then(|| format!("{page} has no heading #{anchor}"))
}

/// Where a chapter and its twin are not built alike.
fn apart(file: &str, en: &Outline, ko: &Outline) -> Vec<String> {
    fn first<T: PartialEq>(en: &[(usize, T)], ko: &[(usize, T)]) -> Option<(usize, usize)> {
        let at = (0..en.len().max(ko.len())).find(|at| en.get(*at).map(|one| &one.1) != ko.get(*at).map(|one| &one.1))?;
        Some((en.get(at).map_or(0, |one| one.0), ko.get(at).map_or(0, |one| one.0)))
    }
    let headings = |of: &Outline| of.headings.iter().map(|(line, level, id)| (*line, (*level, id.map(String::from)))).collect::<Vec<_>>();
    let blocks = |of: &Outline| {
        let same = |info: &str, inside: &[&str]| if info.starts_with("console") { inside.join("\n") } else { String::new() };
        of.blocks.iter().map(|(line, info, inside)| (*line, (info.to_string(), same(info, inside)))).collect::<Vec<_>>()
    };
    let pictures = |of: &Outline| of.pictures.iter().map(|(line, _, file)| (*line, file.to_string())).collect::<Vec<_>>();
    let found = [
        ("headings", first(&headings(en), &headings(ko))),
        ("blocks", first(&blocks(en), &blocks(ko))),
        ("listings", first(&en.directives, &ko.directives)),
        ("pictures", first(&pictures(en), &pictures(ko))),
    ];
    let told = |(what, lines): (&str, Option<(usize, usize)>)| {
        let (en, ko) = lines?;
        Some(format!("book/ko/src/{file}:{ko}: its {what} are not those of book/en/src/{file}:{en}"))
    };
    found.into_iter().filter_map(told).collect()
}

/// Headings of the course notes that a map of them leaves out.
fn notes(root: &Path, texts: &BTreeMap<(&str, String), String>) -> Vec<String> {
    let Ok(list) = fs::read_to_string(root.join("book/notes.tsv")) else { return vec!["book/notes.tsv: cannot be read".into()] };
    let headings: Vec<&str> = list.lines().filter_map(|line| line.split('\t').nth(2)).collect();
    let mut wrong = Vec::new();
    for lang in LANGUAGES {
        let Some(text) = texts.get(&(lang, "notes.md".to_string())) else { continue };
        let mut rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
        for heading in &headings {
            match rows.iter().position(|row| row == heading) {
                Some(at) => drop(rows.remove(at)),
                None => wrong.push(format!("book/{lang}/src/notes.md: the notes' heading `{heading}` has no row")),
            }
        }
    }
    wrong
}
