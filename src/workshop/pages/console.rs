//! Blocks of commands and what they print: `$ ` before what anybody types, `# ` where root is needed.
//!
//! `‹…›` in the output marks what differs each time; a line that is only `…` stands for lines left out.

use std::fmt::Write;

/// A command with its output, as they stand in a chapter.
#[derive(Debug, PartialEq, Eq)]
pub struct Typed<'a> {
    /// `$` or `#`.
    pub prompt: char,
    /// More than one when it goes on after `> `.
    pub command: Vec<&'a str>,
    pub output: Vec<&'a str>,
    /// Of the command's first line, in the block, from 0.
    pub at: usize,
}

/// The commands of a block. Output before the first command has none, and is refused.
///
/// # Errors
/// The first line that belongs to no command.
pub fn typed<'a>(block: &[&'a str]) -> Result<Vec<Typed<'a>>, String> {
    let mut found: Vec<Typed> = Vec::new();
    for (at, line) in block.iter().enumerate() {
        if let Some(command) = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")) {
            let prompt = if line.starts_with('$') { '$' } else { '#' };
            found.push(Typed { prompt, command: vec![command], output: Vec::new(), at });
            continue;
        }
        let last = found.last_mut().ok_or_else(|| format!("`{line}` comes before any command"))?;
        match line.strip_prefix("> ") {
            Some(more) if last.output.is_empty() => last.command.push(more),
            _ => last.output.push(line),
        }
    }
    Ok(found)
}

/// The block as HTML: prompt, command, output, and in it what varies.
pub fn html(block: &[&str]) -> String {
    let mut out = String::from("<pre class=\"console\"><code class=\"nohighlight\">");
    let mut is_typed = false;
    for line in block {
        let command = ["$ ", "# "].iter().find(|prompt| line.starts_with(**prompt)).or_else(|| {
            let goes_on = is_typed && line.starts_with("> ");
            goes_on.then_some(&"> ")
        });
        is_typed = command.is_some();
        match command {
            Some(prompt) => {
                let _ = writeln!(out, "<span class=\"prompt\">{}</span><span class=\"typed\">{}</span>", escape(prompt), escape(&line[2..]));
            }
            None => {
                let varies = escape(line).replace('‹', "<i class=\"varies\">").replace('›', "</i>");
                let _ = writeln!(out, "<span class=\"output\">{varies}</span>");
            }
        }
    }
    out + "</code></pre>\n"
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_output_are_told_apart() {
        let block = ["# onggi run base \\", "> ls", "bin", "> not typed", "$ id"];
        let found = typed(&block).unwrap();
        assert_eq!(found[0], Typed { prompt: '#', command: vec!["onggi run base \\", "ls"], output: vec!["bin", "> not typed"], at: 0 });
        assert_eq!((found[1].prompt, found[1].at), ('$', 4));
        assert!(typed(&["bin"]).is_err());
    }

    #[test]
    fn what_varies_is_marked_and_nothing_is_markup() {
        let html = html(&["$ echo '<b>'", "<b> ‹3f2a›"]);
        assert!(html.contains("<span class=\"typed\">echo '&lt;b&gt;'</span>"), "{html}");
        assert!(html.contains("&lt;b&gt; <i class=\"varies\">3f2a</i>"), "{html}");
    }
}
