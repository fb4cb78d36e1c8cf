//! `onggi book`: every page of both editions is there, every link leads somewhere, and words are found, Korean ones too.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use support::jar::{ONGGI, said};

/// `onggi book`, open for as long as this lives.
struct Book {
    program: Child,
    /// The page that it names.
    url: String,
}

impl Book {
    fn open(words: &[&str], locale: &str) -> Book {
        let mut command = Command::new(ONGGI);
        command.arg("book").args(words).arg("--no-open").env("LC_ALL", locale).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Book { program, url: url.trim().to_string() }
    }

    fn origin(&self) -> String {
        self.url.split('/').take(3).collect::<Vec<_>>().join("/")
    }

    /// Status and text of a path.
    fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let mut answer = agent.get(format!("{}{path}", self.origin())).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// The targets of a page's links, without their anchors; those to other machines aside.
fn links(page: &str) -> BTreeSet<String> {
    let targets =
        page.split("href=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(target, _)| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.starts_with("http")).map(String::from).collect()
}

#[test]
fn every_page_is_there_and_every_link_leads_somewhere() {
    let book = Book::open(&[], "C.UTF-8");
    assert!(book.url.ends_with("/en/introduction.html"), "{}", book.url);
    let mut waiting: Vec<String> = vec!["/en/introduction.html".into(), "/ko/introduction.html".into()];
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let (status, text) = book.get(&path);
        assert_eq!(status, 200, "{path}");
        if path.contains("/code/") {
            continue;
        }
        let folder = path.rsplit_once('/').unwrap().0;
        waiting.extend(links(&text).into_iter().map(|target| match target.strip_prefix("../") {
            Some(above) => format!("/{above}"),
            None if target.starts_with('/') => target,
            None => format!("{folder}/{target}"),
        }));
    }
    for page in ["/en/04_overlay.html", "/ko/04_overlay.html", "/ko/notes.html", "/code/src/runtime/init.rs.html", "/look.css"] {
        assert!(seen.contains(page), "no page links to {page}");
    }
    assert_eq!(book.get("/en/../../Cargo.toml").0, 404);
    assert_eq!(book.get("/code/../../../../etc/passwd.html").0, 404);
    assert_eq!(book.get("/en/nothing.html").0, 404);
}

#[test]
fn a_chapter_is_opened_by_its_number_in_the_language_of_the_locale() {
    assert!(Book::open(&["04"], "ko_KR.UTF-8").url.ends_with("/ko/04_overlay.html"));
    assert!(Book::open(&["07a"], "C").url.ends_with("/en/07a_dns.html"));
    assert!(Book::open(&["overlay", "--lang", "ko"], "C").url.ends_with("/ko/04_overlay.html"));
    let wrong = said(Command::new(ONGGI).args(["book", "99"]).output().unwrap());
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.err.contains("no such chapter") && wrong.err.contains("04_overlay"), "{}", wrong.err);
    let text = said(Command::new(ONGGI).args(["book", "04", "--text", "--lang", "ko"]).output().unwrap());
    assert!(text.out.starts_with("# 04") && text.out.contains("## ") && !text.out.contains("{{#"), "{}", &text.out[..200]);
}

#[test]
fn words_are_found_also_inside_korean_ones() {
    let book = Book::open(&[], "C");
    assert!(book.get("/en/search?q=copy-up").1.contains("04_overlay.html#"));
    assert!(book.get("/ko/search?q=%EB%84%A4%EC%9E%84%EC%8A%A4%ED%8E%98%EC%9D%B4%EC%8A%A4").1.contains("02_namespaces.html#"));
    let nothing = book.get("/en/search?q=%3Cscript%3Exyzzy").1;
    assert!(nothing.contains("Nothing was found") && !nothing.contains("<script>xyzzy"));
}

#[test]
fn hints_name_chapters_that_there_are() {
    let contents = said(Command::new(ONGGI).args(["book", "--text", "--lang", "en"]).output().unwrap()).out;
    let mut found = 0;
    let mut folders = vec![std::path::PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(&entry).unwrap();
            for (_, rest) in text.match_indices("`onggi book ").map(|(at, start)| text.split_at(at + start.len())) {
                let name = rest.split(['`', ' ']).next().unwrap();
                found += 1;
                assert!(contents.contains(&format!("]({name}_")) || name.starts_with('-'), "{}: `onggi book {name}`", entry.display());
            }
        }
    }
    assert!(found >= 7, "{found} hints");
}
