//! One item of a Rust source, found by its name: `fn run`, `struct Layout`, `impl Drop for Guard`, `impl Server / fn send`.
//!
//! rustfmt makes it simple: an item ends at the first closing bracket that stands as far left as the item begins.

/// The item, moved to the left margin.
#[derive(Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line of the item itself, from 1; comments and attributes stand above it.
    pub first: usize,
    pub text: String,
}

/// The item of that name with its comments; all of the text when the name is empty.
///
/// # Errors
/// There is none of that name, or more than one.
pub fn find(text: &str, item: &str) -> Result<Excerpt, String> {
    let lines: Vec<&str> = text.lines().collect();
    if item.is_empty() {
        return Ok(Excerpt { first: 1, text: text.trim_end().to_string() });
    }
    let (mut from, mut to) = (0, lines.len());
    let mut at = 0;
    for name in item.split(" / ") {
        let found: Vec<usize> = (from..to).filter(|at| is_item(lines[*at], name)).collect();
        at = match found[..] {
            [one] => one,
            [] => return Err(format!("there is no `{item}`")),
            _ => return Err(format!("`{item}` is there {} times; say `impl X / {name}`", found.len())),
        };
        (from, to) = (at, end(&lines, at));
    }
    while from > 0 && is_above(lines[from - 1]) {
        from -= 1;
    }
    let margin = indentation(lines[at]);
    let moved: Vec<&str> = lines[from..to].iter().map(|line| line.get(margin..).unwrap_or("")).collect();
    Ok(Excerpt { first: at + 1, text: moved.join("\n") })
}

/// Whether the line begins the item of that name: `pub const fn stack(` for `fn stack`.
fn is_item(line: &str, name: &str) -> bool {
    let mut line = line.trim_start();
    loop {
        let words = ["pub ", "pub(crate) ", "pub(super) ", "async ", "unsafe ", "extern \"C\" "];
        let bare = words.iter().find_map(|word| line.strip_prefix(word));
        match bare.or_else(|| line.strip_prefix("const ").filter(|rest| name.starts_with("fn ") && rest.starts_with("fn "))) {
            Some(rest) => line = rest,
            None => break,
        }
    }
    let is_kind = ["fn ", "struct ", "enum ", "const ", "static ", "type ", "trait ", "impl", "mod ", "macro_rules! "]
        .iter()
        .any(|kind| name.starts_with(kind));
    let after = line.strip_prefix(name).filter(|_| is_kind);
    after.is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_'))
}

/// The line after the item's last.
fn end(lines: &[&str], at: usize) -> usize {
    let margin = indentation(lines[at]);
    let is_over = |line: &str| line.ends_with(['}', ';']) || line.ends_with("},");
    if is_over(lines[at]) {
        return at + 1;
    }
    let closes = |line: &str| indentation(line) == margin && line.trim_start().starts_with(['}', ']', ')', '"']) && is_over(line);
    (at + 1..lines.len()).find(|next| closes(lines[*next])).map_or(lines.len(), |last| last + 1)
}

/// Comments and attributes belong to what follows them.
fn is_above(line: &str) -> bool {
    let line = line.trim_start();
    (line.starts_with("//") && !line.starts_with("//!")) || line.starts_with("#[")
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! Head.\n\n/// Two\n/// lines.\n#[must_use]\npub fn one(\n    a: u8,\n) -> u8 {\n    a\n}\n\nconst TABLE: [u8; 2] = [\n    1,\n    2,\n];\n\nconst N: u8 = 1;\n\nimpl Drop for Guard {\n    // Why.\n    fn drop(&mut self) {\n        one(1);\n    }\n}\n\nimpl Other {\n    fn drop(self) {}\n}\n";

    #[test]
    fn an_item_is_found_with_what_stands_above_it() {
        let found = find(SOURCE, "fn one").unwrap();
        assert_eq!(found, Excerpt { first: 6, text: "/// Two\n/// lines.\n#[must_use]\npub fn one(\n    a: u8,\n) -> u8 {\n    a\n}".into() });
        assert_eq!(find(SOURCE, "const TABLE").unwrap().text.lines().count(), 4);
        assert_eq!(find(SOURCE, "const N").unwrap().text, "const N: u8 = 1;");
        assert_eq!(find(SOURCE, "impl Drop for Guard / fn drop").unwrap().text, "// Why.\nfn drop(&mut self) {\n    one(1);\n}");
    }

    #[test]
    fn a_name_that_is_missing_or_there_twice_is_told() {
        assert_eq!(find(SOURCE, "fn on").unwrap_err(), "there is no `fn on`");
        assert!(find(SOURCE, "fn drop").unwrap_err().contains("2 times"));
    }
}
