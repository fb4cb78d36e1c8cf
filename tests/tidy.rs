//! Asks the sources whether they keep the house's rules: who imports whom, where `unsafe` is, which names and words are used.
//!
//! All that is wrong is told at once, as `path:line: what`. The rules themselves are tested below on small made-up sources.
//!
//! See it: `cargo test --test tidy`. Read: the book's chapter on the architecture.

#[path = "tidy/rust_code.rs"]
mod rust_code;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use rust_code::{RustCode, Token};

/// Who may import whom: only downwards. Modules on one level don't import each other; `src/bin` and `build.rs` are on top too.
const LEVELS: [(&str, u32); 22] = [
    ("sys", 0),
    ("error", 1),
    ("id", 1),
    ("clock", 1),
    ("locale", 1),
    ("runtime", 2),
    ("image", 2),
    ("network", 2),
    ("volume", 2),
    ("engine", 3),
    ("inspect", 3),
    ("build", 4),
    ("compose", 5),
    ("api", 6),
    ("registry", 6),
    ("cli", 7),
    ("repl", 8),
    ("web", 8),
    ("lab", 8),
    ("workshop", 8),
    ("main", 9),
    ("lib", 9),
];

/// More lines than this in `src` or `steps`, and a file is two files.
const LONG: usize = 400;

/// Files that are rightly longer, and why.
const LONG_FOR_A_REASON: &[(&str, &str)] = &[
    ("src/cli/oci.rs", "one short function a command of the OCI runtime, one after the other"),
    ("src/runtime/cgroups/dbus.rs", "one wire format, both ways; the last seventh are its tests"),
    ("src/runtime/cgroups/kernel_tests.rs", "tests, one after the other"),
    ("src/runtime/cgroups/stats.rs", "the same numbers from v1 and v2, side by side"),
    ("src/runtime/cgroups/systemd.rs", "357 lines and their tests"),
    ("src/runtime/cgroups/v2.rs", "391 lines and their tests"),
    ("src/sys/probe/facts.rs", "one fact after the other, each a function that stands alone"),
    ("src/runtime/spec.rs", "the specification's structs, one for one, and nothing else"),
];

/// Names that say nothing about what is in there.
const EMPTY_NAMES: [&str; 5] = ["utils", "common", "helper", "helpers", "manager"];

/// A file of the repository: its path from the root, and what it says.
struct Source {
    path: String,
    text: String,
}

/// One broken rule. Sorted by place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

#[test]
fn the_sources_keep_the_rules_of_the_house() {
    let Some(sources) = repository() else { return support::skip_for_want_of("this is no git work tree, whose files could be listed") };
    let findings = check(&sources, LONG_FOR_A_REASON);
    let told: Vec<_> = findings.iter().map(|finding| format!("{}:{}: {}", finding.path, finding.line, finding.message)).collect();
    assert!(told.is_empty(), "{} broken rules:\n{}\n", told.len(), told.join("\n"));
}

/// The text files that git tracks or would track.
fn repository() -> Option<Vec<Source>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A clone that another user owns is as readable as any.
    let list = ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(root).output().ok().filter(|output| output.status.success())?;
    let paths = String::from_utf8(output.stdout).ok()?;
    let read = |path: &str| Some(Source { path: path.to_string(), text: std::fs::read_to_string(root.join(path)).ok()? });
    Some(paths.split_terminator('\0').filter_map(read).collect())
}

/// All broken rules, in the order of their places.
fn check(sources: &[Source], long_for_a_reason: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let mut report = |line: usize, message: String| findings.push(Finding { path: source.path.clone(), line, message });
        check_path(source, &mut report);
        check_talk(source, &mut report);
        if source.path.ends_with(".rs") {
            let code = rust_code::read(&source.text);
            if !belongs_to_another_program(source, sources) {
                check_imports(source, &code, &mut report);
            }
            check_words(source, &code, &mut report);
            check_shape(source, long_for_a_reason, &mut report);
        }
        if source.path.rsplit('/').next() == Some("Cargo.toml") {
            check_dependencies(source, &mut report);
        }
    }
    check_stems(sources, &mut findings);
    for (path, _) in long_for_a_reason {
        let still_long = sources.iter().any(|source| source.path == *path && source.text.lines().count() > LONG);
        if !still_long {
            findings.push(Finding { path: path.to_string(), line: 1, message: format!("is not over {LONG} lines: its exception can go") });
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

/// A folder with a `main.rs` of its own is a program of its own, and its `crate` is not ours.
fn belongs_to_another_program(source: &Source, sources: &[Source]) -> bool {
    let folders = Path::new(&source.path).ancestors().skip(1).filter(|folder| folder.starts_with("src") && *folder != Path::new("src"));
    folders.into_iter().any(|folder| sources.iter().any(|other| Path::new(&other.path) == folder.join("main.rs")))
}

fn check_path(source: &Source, report: &mut impl FnMut(usize, String)) {
    for part in source.path.split('/') {
        let name = part.split('.').next().unwrap_or_default();
        if EMPTY_NAMES.contains(&name) {
            report(1, format!("`{name}` says nothing about what is in there: name it after that"));
        }
    }
}

/// The history of the work isn't the reader's: no numbers of issues or pull requests, nothing of who worked when.
fn check_talk(source: &Source, report: &mut impl FnMut(usize, String)) {
    // The rule has to name what it refuses.
    if source.path == "tests/tidy.rs" {
        return;
    }
    let numbered = ["issue", "issues", "pr", "pull request", "ticket", "session"];
    let phrases = ["previous session", "earlier session", "last session", "next session", "work session", "sub-agent", "subagent"];
    for (at, line) in source.text.lines().enumerate() {
        let lower = line.to_lowercase();
        let has_number = |word: &str| {
            lower.match_indices(word).any(|(start, _)| {
                let begins = !lower[..start].ends_with(|letter: char| letter.is_alphanumeric() || "-_/".contains(letter));
                let after = &lower[start + word.len()..];
                let after = after.strip_prefix(" #").or_else(|| after.strip_prefix('#')).or_else(|| after.strip_prefix(' '));
                begins && after.is_some_and(|after| after.starts_with(|letter: char| letter.is_ascii_digit()))
            })
        };
        if numbered.iter().any(|word| has_number(word)) || phrases.iter().any(|phrase| lower.contains(phrase)) {
            report(at + 1, "talks of the work's own history, which its reader does not have: say what is, and why".into());
        }
    }
}

fn check_imports(source: &Source, code: &RustCode, report: &mut impl FnMut(usize, String)) {
    let Some(module) = module_path(&source.path) else { return };
    let own = module.first().map_or("lib", String::as_str);
    let Some(own_level) = level(own) else {
        return report(1, format!("`{own}` has no level: give it one in LEVELS in tests/tidy.rs"));
    };
    for import in rust_code::imports(&code.tokens, &module) {
        let target = import.target;
        let Some(target_level) = level(&target) else {
            if own_level < 9 {
                report(
                    import.line,
                    format!("`crate::{target}` is in lib.rs (level 9) or in a module without a level; name the module below {own_level} that has it"),
                );
            }
            continue;
        };
        // Failures are told in one way: `error` lies below its own neighbours too.
        let is_error = target == "error" && own_level >= 1;
        if target != own && !is_error && target_level >= own_level {
            let why = if target_level == own_level { "modules on one level don't import each other" } else { "imports only go down" };
            report(import.line, format!("`{own}` (level {own_level}) imports `{target}` (level {target_level}): {why}"));
        }
    }
}

fn level(module: &str) -> Option<u32> {
    LEVELS.iter().find(|(name, _)| *name == module).map(|(_, level)| *level)
}

/// `src/runtime/cgroups/v2.rs` is `runtime::cgroups::v2`; what belongs to no module of the library is the root.
fn module_path(path: &str) -> Option<Vec<String>> {
    if path == "build.rs" {
        return Some(Vec::new());
    }
    let inside = path.strip_prefix("src/")?;
    if inside.starts_with("bin/") || inside == "lib.rs" || inside == "main.rs" {
        return Some(Vec::new());
    }
    let module = inside.strip_suffix("/mod.rs").or_else(|| inside.strip_suffix(".rs"))?;
    Some(module.split('/').map(str::to_string).collect())
}

fn check_words(source: &Source, code: &RustCode, report: &mut impl FnMut(usize, String)) {
    // What the learner fills in is marked as such.
    let is_exercise = source.path.starts_with("exercises/");
    for (at, token) in code.tokens.iter().enumerate() {
        let before = |offset: usize| at.checked_sub(offset).map_or("", |at| &*code.tokens[at].text);
        let after = code.tokens.get(at + 1).map_or("", |token| &*token.text);
        let text = &*token.text;
        match text {
            "unsafe" if !source.path.starts_with("src/sys/") => report(token.line, "`unsafe` outside src/sys: make it a thin call there".into()),
            "dbg" if after == "!" => report(token.line, "`dbg!` is for the desk, not for the repository".into()),
            "todo" | "unimplemented" if after == "!" && !is_exercise => report(token.line, format!("`{text}!`: finish it, or leave it out")),
            "ignore" if before(1) == "[" && before(2) == "#" => {
                report(token.line, "an ignored test is never seen again: let it say why it is skipped, or delete it".into());
            }
            _ => check_name(text, before(1), token, report),
        }
    }
    let unfinished = ["TODO", "FIXME", "XXX"];
    for (line, comment) in &code.comments {
        if let Some(word) = unfinished.iter().find(|word| has_word(comment, word)).filter(|_| !is_exercise) {
            report(*line, format!("a comment says {word}: finish it, or say what is and why"));
        }
    }
}

fn check_name(name: &str, before: &str, token: &Token, report: &mut impl FnMut(usize, String)) {
    if EMPTY_NAMES.contains(&name) {
        report(token.line, format!("`{name}` says nothing about what it is: name it after that"));
    }
    let is_type = ["struct", "enum", "trait", "type", "union"].contains(&before);
    if let Some(ending) = ["Manager", "Helper", "Helpers", "Utils"].iter().find(|ending| is_type && name.ends_with(**ending)) {
        report(token.line, format!("`{name}`: what is it, if not a {ending}?"));
    }
    if let Some(prefix) = ["get_", "do_", "handle_"].iter().find(|prefix| before == "fn" && name.starts_with(**prefix)) {
        report(token.line, format!("`{name}`: a function is the kernel's or the CLI's verb, without `{prefix}`"));
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|part| part == word)
}

fn check_shape(source: &Source, long_for_a_reason: &[(&str, &str)], report: &mut impl FnMut(usize, String)) {
    let in_house = |folders: &[&str]| folders.iter().any(|folder| source.path.starts_with(folder));
    if in_house(&["src/", "steps/", "tests/"]) && !source.text.starts_with("//!") {
        report(1, "begins without a `//!` that says what this is and where it can be seen".into());
    }
    let lines = source.text.lines().count();
    if in_house(&["src/", "steps/"]) && lines > LONG && !long_for_a_reason.iter().any(|(path, _)| *path == source.path) {
        report(LONG + 1, format!("{lines} lines: two files, or an exception with its reason in tests/tidy.rs"));
    }
}

/// Each dependency says on its line (on one of its lines) what it is for.
fn check_dependencies(source: &Source, report: &mut impl FnMut(usize, String)) {
    let mut in_dependencies = false;
    let mut open: Option<(usize, String)> = None;
    let mut depth = 0;
    for (at, line) in source.text.lines().enumerate() {
        let (code, reason) = split_toml_comment(line);
        if depth == 0 && code.trim_start().starts_with('[') {
            let table = code.trim().trim_matches(['[', ']']);
            in_dependencies = table.split('.').next_back().is_some_and(|last| last.ends_with("dependencies"));
            // `[dependencies.name]` is one dependency in a table of its own.
            if let Some((_, name)) = table.rsplit_once("dependencies.").filter(|_| reason.is_none()) {
                report(at + 1, format!("dependency `{name}` has no `# reason`"));
            }
            continue;
        }
        if !in_dependencies || (depth == 0 && code.trim().is_empty()) {
            continue;
        }
        let name = code.split(['=', '.']).next().unwrap_or_default().trim().to_string();
        let (first, name) = open.take().unwrap_or((at + 1, name));
        depth += code.matches(['[', '{']).count() as i32 - code.matches([']', '}']).count() as i32;
        match (reason, depth) {
            (None, 0) if !name.is_empty() => report(first, format!("dependency `{name}` has no `# reason`")),
            (None, _) => open = Some((first, name)),
            // Told: the rest of its lines needs no reason, which an empty name notes.
            (Some(_), 1..) => open = Some((first, String::new())),
            (Some(_), _) => {}
        }
        if depth == 0 {
            open = None;
        }
    }
}

/// A line of TOML before and after its `#`, which inside quotes is a letter.
fn split_toml_comment(line: &str) -> (&str, Option<&str>) {
    let mut quote = None;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (None, '#') => return (&line[..at], Some(line[at + 1..].trim()).filter(|reason| !reason.is_empty())),
            _ => {}
        }
    }
    (line, None)
}

/// Step, exercise and the chapters of both languages share one stem; a place that doesn't exist yet is asked nothing.
fn check_stems(sources: &[Source], findings: &mut Vec<Finding>) {
    let mut places: BTreeMap<&str, BTreeMap<String, &str>> = BTreeMap::new();
    for source in sources {
        for place in ["steps/", "exercises/", "solutions/", "book/en/", "book/ko/"] {
            let Some(inside) = source.path.strip_prefix(place) else { continue };
            // A chapter may be anywhere in its book, an exercise is a folder or a file.
            let name = if place.starts_with("book/") {
                inside.rsplit('/').next().and_then(|file| file.strip_suffix(".md"))
            } else {
                inside.split('/').next().map(|name| name.strip_suffix(".rs").unwrap_or(name))
            };
            if let Some(stem) = name.filter(|name| is_stem(name)) {
                places.entry(place).or_default().entry(stem.to_string()).or_insert(&source.path);
            }
        }
    }
    let all: BTreeSet<_> = places.values().flat_map(|stems| stems.keys()).collect();
    for (place, stems) in &places {
        for stem in all.iter().filter(|stem| !stems.contains_key(**stem)) {
            let Some(witness) = places.values().find_map(|stems| stems.get(*stem)) else { continue };
            findings.push(Finding { path: witness.to_string(), line: 1, message: format!("`{stem}` is missing in {place}") });
        }
    }
}

/// `04_overlay`
fn is_stem(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 3 && bytes[0].is_ascii_digit() && bytes[1].is_ascii_digit() && bytes[2] == b'_'
}

/// The rules, asked about sources of a few lines.
mod rules {
    use super::*;

    /// What is wrong with one file, as `line: message`.
    #[track_caller]
    fn wrong(path: &str, text: &str) -> Vec<String> {
        let source = Source { path: path.into(), text: text.into() };
        check(&[source], &[]).into_iter().map(|finding| format!("{}: {}", finding.line, finding.message)).collect()
    }

    #[track_caller]
    fn assert_wrong(path: &str, text: &str, line: usize, part: &str) {
        let findings = wrong(path, text);
        assert!(findings.len() == 1 && findings[0].starts_with(&format!("{line}: ")) && findings[0].contains(part), "{findings:#?}");
    }

    #[track_caller]
    fn assert_right(path: &str, text: &str) {
        assert_eq!(wrong(path, text), Vec::<String>::new());
    }

    #[test]
    fn an_import_goes_down() {
        assert_right("src/runtime/init.rs", "//! x\nuse crate::sys::mount;\nuse crate::error::Result;\nuse crate::runtime::bundle;\n");
        assert_right("src/error.rs", "//! x\npub use crate::sys::call::SysError;\n");
        assert_right("src/main.rs", "//! x\nuse onggi::cli;\n");
    }

    #[test]
    fn an_import_that_goes_up_is_found_in_its_line() {
        assert_wrong("src/runtime/init.rs", "//! x\n\nuse crate::engine::run;\n", 3, "`runtime` (level 2) imports `engine` (level 3)");
        assert_wrong("src/sys/call.rs", "//! x\nfn f() -> crate::error::Result<()> {}\n", 2, "`error` (level 1)");
    }

    #[test]
    fn modules_on_one_level_do_not_import_each_other() {
        assert_wrong("src/image/mod.rs", "//! x\nuse crate::runtime::spec;\n", 2, "one level");
    }

    #[test]
    fn each_member_of_a_group_is_asked_in_its_own_line() {
        let group = "//! x\nuse crate::{\n    error::{Error, Result},\n    sys,\n    cli::args,\n    image::{self, layers::{a, b}},\n};\n";
        let findings = wrong("src/volume.rs", group);
        assert_eq!(findings.len(), 2, "{findings:#?}");
        assert!(findings[0].starts_with("5: `volume` (level 2) imports `cli`"), "{findings:#?}");
        assert!(findings[1].starts_with("6: `volume` (level 2) imports `image`"), "{findings:#?}");
    }

    #[test]
    fn super_is_followed_to_the_root() {
        assert_right("src/runtime/cgroups/v2.rs", "//! x\nuse super::super::init;\nuse super::v1;\n");
        assert_wrong("src/runtime/cgroups/v2.rs", "//! x\nuse super::super::super::engine;\n", 2, "`engine`");
        assert_wrong("src/volume.rs", "//! x\nuse super::{sys, image::store};\n", 2, "`image`");
    }

    #[test]
    fn super_in_an_inline_module_is_its_file() {
        let tests = "//! x\nfn f() { if true {} }\n#[cfg(test)]\nmod tests {\n    use super::*;\n    use super::image;\n}\n";
        assert_right("src/volume.rs", tests);
        assert_wrong("src/volume.rs", &tests.replace("super::image", "super::super::image"), 6, "`image`");
        assert_wrong("src/volume.rs", &format!("{tests}use super::image;\n"), 8, "`image`");
    }

    #[test]
    fn a_program_of_its_own_has_a_root_of_its_own() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let sources = [source("src/sys/probe/main.rs", "//! x\nmod json;\n"), source("src/sys/probe/facts.rs", "//! x\nuse crate::json;\n")];
        assert_eq!(check(&sources, &[]), []);
    }

    #[test]
    fn every_module_above_sys_may_tell_errors() {
        assert_right("src/id.rs", "//! x\nuse crate::error::Result;\n");
        assert_wrong("src/error.rs", "//! x\nuse crate::id;\n", 2, "one level");
    }

    #[test]
    fn what_lib_rs_has_is_above_all_modules() {
        assert_wrong("src/engine/mod.rs", "//! x\nuse crate::VERSION;\n", 2, "lib.rs");
    }

    #[test]
    fn a_module_without_a_level_is_asked_for_one() {
        assert_wrong("src/weather.rs", "//! x\n", 1, "`weather` has no level");
    }

    #[test]
    fn strings_and_comments_import_nothing() {
        let text = "//! x, see crate::engine\n/* crate::cli /* crate::web */ crate::api */\nconst A: &str = \"crate::engine\";\nconst B: &str = r#\"\"crate::cli\"\"#;\n";
        assert_right("src/runtime/init.rs", text);
        assert_right("src/runtime/init.rs", "//! x\nfn f<'a>(a: &'a str, q: char) { let _ = ('\"', '\\'', b'\"', \"unsafe \\\" dbg!()\"); }\n");
    }

    #[test]
    fn a_line_after_a_long_string_keeps_its_number() {
        assert_wrong("src/runtime/init.rs", "//! x\nconst A: &str = \"one\ntwo \\\"\nthree\";\n/* four\n*/ use crate::engine;\n", 6, "`engine`");
    }

    #[test]
    fn unsafe_is_in_sys_only() {
        assert_right("src/sys/mount.rs", "//! x\nfn f() { unsafe { g() } }\n");
        assert_wrong("src/runtime/init.rs", "//! x\nfn f() {\n    unsafe { g() }\n}\n", 3, "`unsafe`");
        assert_right("src/runtime/init.rs", "//! x\n#![deny(unsafe_code)]\n");
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        assert_wrong("src/runtime/utils.rs", "//! x\n", 1, "`utils`");
        assert_wrong("src/runtime/mod.rs", "//! x\nmod common;\n", 2, "`common`");
        assert_wrong("src/image/store.rs", "//! x\npub struct LayerManager;\n", 2, "if not a Manager");
        assert_wrong("src/image/store.rs", "//! x\nimpl Store {\n    pub fn get_layer() {}\n}\n", 3, "`get_layer`");
        assert_wrong("src/image/store.rs", "//! x\nfn handle_request() {}\n", 2, "`handle_`");
        // Another's names are another's.
        assert_right("src/image/store.rs", "//! x\nfn f() { foreign::get_layer(); foreign::Manager::new(); dough(); }\n");
    }

    #[test]
    fn unfinished_work_is_refused_outside_the_exercises() {
        assert_wrong("src/volume.rs", "//! x\nfn f() {\n    todo!()\n}\n", 3, "`todo!`");
        assert_wrong("src/volume.rs", "//! x\nfn f() { dbg!(1); }\n", 2, "`dbg!`");
        assert_wrong("src/volume.rs", "//! x\nfn f() {} // FIXME later\n", 2, "FIXME");
        assert_wrong("tests/run.rs", "//! x\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n", 3, "ignored test");
        assert_right("exercises/04_overlay/main.rs", "fn f() { todo!(\"TODO: mount\") } // TODO: mount\n");
        assert_right("src/volume.rs", "//! x\nfn todo() {} // a todo list\n");
    }

    #[test]
    fn a_file_begins_with_what_it_is() {
        assert_wrong("src/volume.rs", "use crate::sys;\n", 1, "`//!`");
        assert_wrong("steps/04_overlay.rs", "fn main() {}\n", 1, "`//!`");
    }

    #[test]
    fn a_long_file_is_refused_unless_it_has_a_reason() {
        let long = format!("//! x\n{}", "const A: u32 = 1;\n".repeat(LONG));
        assert_wrong("src/volume.rs", &long, LONG + 1, "401 lines");
        let source = |text: &str| [Source { path: "src/volume.rs".into(), text: text.into() }];
        assert_eq!(check(&source(&long), &[("src/volume.rs", "tables")]), []);
        assert_eq!(check(&source("//! x\n"), &[("src/volume.rs", "tables")]).len(), 1, "an exception without need stays");
    }

    #[test]
    fn every_dependency_has_a_reason() {
        let right = "[package]\nname = \"x\"\n\n[dependencies]\na = \"1\" # reads a\nb = { version = \"1\", features = [\n  \"c\",\n  \"d\",\n] } # reads b\n\
                     [target.'cfg(unix)'.dev-dependencies]\n# a comment\ne = { version = \"1\", features = [ # reads e\n  \"f\",\n] }\n\
                     [dependencies.g] # reads g\nversion = \"1\"\n";
        assert_right("Cargo.toml", right);
        assert_wrong("steps/Cargo.toml", &right.replace(" # reads a", ""), 5, "`a`");
        assert_wrong("Cargo.toml", &right.replace(" # reads b", ""), 6, "`b`");
        assert_wrong("Cargo.toml", &right.replace(" # reads e", ""), 12, "`e`");
        assert_wrong("Cargo.toml", &right.replace(" # reads g", ""), 15, "`g`");
        assert_wrong("Cargo.toml", "[build-dependencies]\nh = { git = \"x#y\" }\n", 2, "`h`");
    }

    #[test]
    fn step_exercise_and_chapters_share_their_stems() {
        let source = |path: &str| Source { path: path.into(), text: "//! x\n".into() };
        let house = [
            "steps/04_overlay.rs",
            "exercises/04_overlay/task.md",
            "book/en/src/images/04_overlay.md",
            "book/ko/src/images/04_overlay.md",
            "book/en/src/SUMMARY.md",
        ];
        let mut sources: Vec<_> = house.iter().map(|path| source(path)).collect();
        assert_eq!(check(&sources, &[]), []);
        sources.push(source("book/ko/src/05_build.md"));
        let findings = check(&sources, &[]);
        assert_eq!(findings.len(), 3, "{findings:#?}");
        assert!(findings.iter().all(|finding| finding.path == "book/ko/src/05_build.md" && finding.message.contains("`05_build` is missing in")));
        // Places that don't exist yet are asked nothing.
        assert_eq!(check(&[source("steps/04_overlay.rs")], &[]), []);
    }

    #[test]
    fn the_history_of_the_work_is_not_told() {
        assert_wrong("README.md", "# Onggi\n\nFixed, see issue #12.\n", 3, "history");
        assert_wrong("src/volume.rs", "//! x\n// as of PR 7\n", 2, "history");
        assert_wrong("book/en/x.md", "as the previous session left it\n", 1, "history");
        assert_right("book/en/x.md", "setsid(2) makes a new session; https://github.com/opencontainers/runc/issues/12 tells more; issue a warning\n");
    }
}
