//! A picture of what a terminal shows: a command is run in the place of the book's commands, and its lines become an SVG.
//!
//! Colours are asked for by CLICOLOR_FORCE and read as ECMA-48 writes them (console_codes(4), "SGR"). Hangul takes two columns.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::pages::console::escape;

/// Pixels of a column and of a line.
const COLUMN: f32 = 8.4;
const LINE: f32 = 20.0;
const MARGIN: f32 = 18.0;

/// Runs `typed` and writes what came, and the prompt before it, to `out`.
///
/// # Errors
/// It can't be run, or the picture can't be written.
pub fn picture(root: &Path, bin: &Path, out: &Path, lang: &str, most: usize, typed: &str) -> Result<(), String> {
    let locale = if lang == "ko" { "ko_KR.UTF-8" } else { "C.UTF-8" };
    let done = Command::new("bash")
        .arg(root.join("book/program/lane.sh"))
        .arg(bin)
        // The base image first: making it is told on standard error.
        .args(["bash", "-c", &format!("onggi run --rm base true 2>/dev/null; export CLICOLOR_FORCE=1 LANG={locale} LC_ALL={locale}; {typed}")])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run {typed}: {e}"))?;
    let text = String::from_utf8_lossy(&done.stdout);
    let lines: Vec<&str> = text.trim_end().lines().take(most).collect();
    if lines.is_empty() {
        return Err(format!("{typed} printed nothing: {}", String::from_utf8_lossy(&done.stderr)));
    }
    std::fs::write(out, svg(typed, &lines)).map_err(|e| format!("cannot write {}: {e}", out.display()))
}

fn svg(typed: &str, lines: &[&str]) -> String {
    let widest = lines.iter().map(|line| runs(line).iter().map(|run| columns(&run.text)).sum::<usize>()).max().unwrap_or_default().max(80);
    let (width, height) = (widest as f32 * COLUMN + 2.0 * MARGIN, (lines.len() + 1) as f32 * LINE + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"'DejaVu Sans Mono', 'D2Coding', 'Noto Sans Mono CJK KR', monospace\" \
         font-size=\"14\" fill=\"#dfe3ea\" xml:space=\"preserve\">\n<title>{0}</title>\n<desc>What a terminal shows after {0}</desc>\n\
         <rect width=\"{width:.0}\" height=\"{height:.0}\" rx=\"10\" fill=\"#181c25\"/>\n",
        escape(typed)
    );
    let prompt = format!("\u{1b}[2m$\u{1b}[0m \u{1b}[1m{typed}\u{1b}[0m");
    for (row, line) in [prompt.as_str()].iter().chain(lines).enumerate() {
        let (mut column, y) = (0, MARGIN + (row as f32 + 0.8) * LINE);
        for run in runs(line) {
            if !run.text.trim().is_empty() {
                let x = MARGIN + column as f32 * COLUMN;
                // Writing to a String can't fail.
                // Fonts disagree about how wide Hangul is; a terminal doesn't.
                let length = columns(&run.text) as f32 * COLUMN;
                let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{length:.1}\"{}>{}</text>", run.look, escape(&run.text));
            }
            column += columns(&run.text);
        }
    }
    svg + "</svg>\n"
}

/// A piece of a line that looks the same throughout.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    text: String,
    look: String,
}

fn runs(line: &str) -> Vec<Run> {
    let (mut found, mut look) = (Vec::new(), String::new());
    for (at, part) in line.split("\u{1b}[").enumerate() {
        let text = match part.split_once('m').filter(|_| at > 0) {
            Some((codes, text)) => {
                look = codes.split(';').fold(look, styled);
                text
            }
            None => part,
        };
        if !text.is_empty() {
            found.push(Run { text: text.to_string(), look: look.clone() });
        }
    }
    found
}

/// What one code of "Select Graphic Rendition" adds; 0 and nothing take all away.
fn styled(look: String, code: &str) -> String {
    let more = match code {
        "1" => " font-weight=\"700\"",
        "2" | "90" => " fill=\"#97a2b3\"",
        "31" | "91" => " fill=\"#f29aa8\"",
        "32" | "92" => " fill=\"#9ddba7\"",
        "33" | "93" => " fill=\"#f0b183\"",
        "34" | "94" => " fill=\"#8fc4f5\"",
        "35" | "95" => " fill=\"#d3aaf2\"",
        "36" | "96" => " fill=\"#85d4d9\"",
        _ => return String::new(),
    };
    // An attribute may stand there once.
    let name = more.split('=').next().unwrap_or_default();
    if look.contains(name) { look } else { look + more }
}

/// Hangul and what else East Asian Width calls wide takes two.
fn columns(text: &str) -> usize {
    text.chars()
        .map(|letter| {
            if matches!(letter, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{ff00}'..='\u{ff60}') {
                2
            } else {
                1
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_attributes_and_hangul_takes_two_columns() {
        let found = runs("a\u{1b}[1;32mb\u{1b}[0mc");
        assert_eq!(
            found.iter().map(|run| (run.text.as_str(), run.look.as_str())).collect::<Vec<_>>(),
            [("a", ""), ("b", " font-weight=\"700\" fill=\"#9ddba7\""), ("c", "")]
        );
        assert_eq!(columns("가a"), 3);
        assert!(svg("x < y", &["\u{1b}[31m<&"]).contains(">&lt;&amp;</text>"));
    }
}
