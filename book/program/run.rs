//! Types the book's commands, in a place of their own, and compares what they print with what stands on the page.
//!
//! A chapter is one session: a shell of root and one of an ordinary user, which stay from block to block. English is typed; Korean has
//! the same blocks. What is marked `‹…›` may be anything, a line that is only `…` may be any lines, and all else is compared as it stands.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::pages::LANGUAGES;
use crate::pages::console::{self, Typed};
use crate::pages::fences::lines;
use crate::{chapter, chapters, vm};

/// Seconds for one chapter: far more than any takes.
const PATIENCE: &str = "240";

/// Ends the output of a command.
pub const MARK: &str = "\u{1}end of the command\u{1}";

/// Where a block's commands are typed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// On this machine, in mounts, network and names of their own.
    Here,
    /// In a virtual machine with cgroup v2.
    Vm,
}

/// A block of commands: its first line in the file, and what is in it.
struct Block<'a> {
    lane: Lane,
    /// The line after the opening fence, from 1.
    first: usize,
    lines: Vec<&'a str>,
}

/// Runs the chapters whose names begin so, all when none is named, and says what differs.
///
/// # Errors
/// This isn't root, or the place for the commands can't be made.
pub fn run(root: &Path, bin: Option<&Path>, names: &[String], record: bool) -> Result<Vec<String>, String> {
    let own = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf)).unwrap_or_default();
    let bin = bin.map_or(own, PathBuf::from);
    if !bin.join("onggi").exists() {
        return Err(format!("there is no onggi in {}: `cargo build` makes it", bin.display()));
    }
    let files = chapters(root, "en")?;
    if let Some(name) = names.iter().find(|name| !files.iter().any(|file| file.starts_with(*name))) {
        return Err(format!("there is no chapter {name} in SUMMARY.md"));
    }
    let chosen: Vec<&String> = files.iter().filter(|file| names.is_empty() || names.iter().any(|name| file.starts_with(name))).collect();
    // Two at a time: a chapter has a place of its own, and often waits.
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(file) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let wrong = type_chapter(root, &bin, file, record);
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(file.as_str(), wrong);
        }
    };
    std::thread::scope(|scope| drop([scope.spawn(work), scope.spawn(work)]));
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.into_values().collect::<Result<Vec<_>, _>>().map(|wrong| wrong.concat())
}

/// What differs in one chapter.
fn type_chapter(root: &Path, bin: &Path, file: &str, record: bool) -> Result<Vec<String>, String> {
    let text = chapter(root, "en", file)?;
    let blocks = blocks(&text);
    let printed = printed(root, bin, &blocks).map_err(|why| format!("{file}: {why}"))?;
    if record {
        return write(root, file, &text, &blocks, &printed).map(|()| Vec::new());
    }
    Ok(compare(file, &blocks, &printed))
}

/// The blocks of commands.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found: Vec<Block> = Vec::new();
    for line in lines(text) {
        let lane = match line.fence.info {
            "console" => Lane::Here,
            "console,vm" => Lane::Vm,
            _ => continue,
        };
        if line.fence.opens() {
            found.push(Block { lane, first: line.number + 1, lines: Vec::new() });
        } else if let Some(block) = found.last_mut().filter(|_| line.fence.inside) {
            block.lines.push(line.text);
        }
    }
    found
}

/// What each command of each block printed; nothing for the blocks of a virtual machine that this machine can't start, which has been said.
fn printed(root: &Path, bin: &Path, blocks: &[Block]) -> Result<Vec<Vec<String>>, String> {
    let mut all: Vec<Vec<String>> = vec![Vec::new(); blocks.len()];
    for lane in [Lane::Here, Lane::Vm] {
        let mut commands = Vec::new();
        for (at, block) in blocks.iter().enumerate().filter(|(_, block)| block.lane == lane) {
            commands.extend(console::typed(&block.lines)?.into_iter().map(|typed| (at, typed)));
        }
        if commands.is_empty() {
            continue;
        }
        let typed: Vec<&Typed> = commands.iter().map(|(_, typed)| typed).collect();
        let outputs = match lane {
            Lane::Here => session(root, bin, &typed)?,
            Lane::Vm => match vm::session(bin, &typed.iter().map(|typed| typed.command.join("\n")).collect::<Vec<_>>()) {
                Some(outputs) => outputs,
                None => continue,
            },
        };
        // What follows the last mark is the shell's end.
        if outputs.len() <= commands.len() {
            let last = outputs.last().map_or("", String::as_str);
            return Err(format!("the session ended after {} of {} commands:\n{last}", outputs.len().saturating_sub(1), commands.len()));
        }
        commands.iter().zip(outputs).for_each(|((at, _), output)| all[*at].push(output));
    }
    Ok(all)
}

/// What each command printed here, and what the shell said at its end.
fn session(root: &Path, bin: &Path, commands: &[&Typed]) -> Result<Vec<String>, String> {
    let says = |e: std::io::Error| format!("cannot run the book's commands: {e}");
    // timeout(1) ends what hangs, and all that it started.
    let mut shell = Command::new("timeout")
        .args(["--kill-after", "5", PATIENCE, "bash"])
        .arg(root.join("book/program/lane.sh"))
        .arg(bin)
        .args(["bash", "--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(says)?;
    let (Some(mut input), Some(output)) = (shell.stdin.take(), shell.stdout.take()) else { return Err("bash has no streams".into()) };
    let script = script(commands);
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let mut all = String::new();
    for line in BufReader::new(output).split(b'\n') {
        all.push_str(&String::from_utf8_lossy(&line.map_err(says)?));
        all.push('\n');
    }
    let _ = writer.join();
    shell.wait().map_err(says)?;
    Ok(all.split(MARK).map(|output| output.strip_prefix('\n').unwrap_or(output).to_string()).collect())
}

/// The session as a script for root's shell. The user's shell is a second process that reads from a pipe; both say when they are done.
fn script(commands: &[&Typed]) -> String {
    let mut script = String::from(
        "exec 2>&1\nmkfifo /tmp/.to-student /tmp/.from-student\nchmod 666 /tmp/.to-student /tmp/.from-student\n\
         su-student bash --norc -s </tmp/.to-student & disown\nexec 7>/tmp/.to-student 8<>/tmp/.from-student\n",
    );
    for Typed { prompt, command, .. } in commands {
        // In braces, and with nothing to read: a command that reads would take the rest of the script.
        let typed = format!("{{\n{}\n}} </dev/null\n", command.join("\n"));
        if *prompt == '#' {
            script.push_str(&typed);
        } else {
            script.push_str(&format!("cat >&7 <<'ONGGI'\n{typed}echo >/tmp/.from-student\nONGGI\nread -r -u 8 _\n"));
        }
        script.push_str(&format!("printf '{MARK}\\n'\n"));
    }
    script + "exec 7>&-\nexit 0\n"
}

fn compare(file: &str, blocks: &[Block], printed: &[Vec<String>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (block, printed) in blocks.iter().zip(printed) {
        for (typed, printed) in console::typed(&block.lines).unwrap_or_default().iter().zip(printed) {
            let printed = told(typed, printed);
            if !fits(&typed.output, &printed) {
                let line = block.first + typed.at;
                let side = |lines: &[&str]| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
                wrong.push(format!(
                    "book/en/src/{file}:{line}: {}\n  on the page\n{}  printed\n{}",
                    typed.command.join("\n"),
                    side(&typed.output),
                    side(&printed)
                ));
            }
        }
    }
    wrong
}

/// The lines printed. Whoever types first makes the base image, which is told once: a page that doesn't show it means a reader who has it.
fn told<'a>(typed: &Typed, printed: &'a str) -> Vec<&'a str> {
    const FIRST: &str = "onggi: made the image base ";
    let is_shown = typed.output.iter().any(|line| line.starts_with(FIRST));
    printed.lines().map(str::trim_end).filter(|line| is_shown || !line.starts_with(FIRST)).collect()
}

/// Whether the lines are those of the page, where `…` is any lines.
fn fits(page: &[&str], printed: &[&str]) -> bool {
    match page.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "…" => (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..])),
        Some((first, rest)) => printed.split_first().is_some_and(|(line, others)| line_fits(first.trim_end(), line) && fits(rest, others)),
    }
}

/// Whether the line is that of the page, where `‹…›` is anything but nothing.
fn line_fits(page: &str, line: &str) -> bool {
    let Some((before, rest)) = page.split_once('‹') else { return page == line };
    let (Some(line), Some((_, after))) = (line.strip_prefix(before), rest.split_once('›')) else { return false };
    line.char_indices().skip(1).map(|(at, _)| at).chain([line.len()]).any(|at| at > 0 && line_fits(after, &line[at..]))
}

/// Puts what was printed into both languages. Output that still fits stays as it is, marks and all.
fn write(root: &Path, file: &str, text: &str, blocks: &[Block], printed: &[Vec<String>]) -> Result<(), String> {
    let mut fresh: Vec<Vec<String>> = Vec::new();
    for (block, printed) in blocks.iter().zip(printed) {
        let mut out: Vec<String> = Vec::new();
        if printed.is_empty() {
            out.extend(block.lines.iter().map(|line| line.to_string()));
        }
        for (typed, printed) in console::typed(&block.lines)?.iter().zip(printed) {
            let lines = told(typed, printed);
            out.extend(
                typed.command.iter().enumerate().map(|(at, line)| if at == 0 { format!("{} {line}", typed.prompt) } else { format!("> {line}") }),
            );
            let kept = if fits(&typed.output, &lines) { &typed.output } else { &lines };
            out.extend(kept.iter().map(|line| line.to_string()));
        }
        fresh.push(out);
    }
    for lang in LANGUAGES {
        let old = if lang == "en" { text.to_string() } else { chapter(root, lang, file)? };
        let mut out: Vec<&str> = Vec::new();
        let mut next = fresh.iter();
        for line in lines(&old) {
            let is_console = ["console", "console,vm"].contains(&line.fence.info);
            if is_console && line.fence.inside {
                continue;
            }
            out.push(line.text);
            if is_console && line.fence.opens() {
                out.extend(next.next().into_iter().flatten().map(String::as_str));
            }
        }
        let path = root.join(format!("book/{lang}/src/{file}"));
        fs::write(&path, out.join("\n") + "\n").map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_may_be_anything_and_nothing_else_may() {
        assert!(line_fits("up ‹2› s", "up 13 s") && line_fits("‹a›", "x y") && line_fits("a‹b›", "a b"));
        assert!(!line_fits("up ‹2› s", "down 2 s") && !line_fits("‹a› b", "b") && !line_fits("a", "a b") && !line_fits("a‹b›", "a"));
    }

    #[test]
    fn lines_left_out_may_be_any_and_none() {
        assert!(fits(&["a", "…", "z"], &["a", "b", "c", "z"]) && fits(&["a", "…"], &["a"]) && fits(&[], &[]));
        assert!(!fits(&["a", "…", "z"], &["a", "b"]) && !fits(&[], &["a"]) && !fits(&["a"], &[]));
    }

    #[test]
    fn blocks_are_found_with_their_place() {
        let found = blocks("x\n```console\n$ a\nb\n```\n```console,vm\n# c\n```\n```sh\nx\n```\n");
        assert_eq!(found.len(), 2);
        assert!(found[1].lane == Lane::Vm);
        assert_eq!((found[0].first, &found[0].lines[..]), (3, &["$ a", "b"][..]));
    }
}
