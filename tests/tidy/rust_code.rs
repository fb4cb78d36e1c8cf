//! Reads Rust just well enough to ask about it: what is code and what comment, which words stand where, which paths lead where.
//!
//! Not a parser: strings are emptied, comments set apart, and what is left is a row of words and signs with line numbers.
//! Read: the Rust reference, "Tokens" and "Paths".

/// A word (`unsafe`, `get_name`) or a sign (`::`, `{`) of the code, and its line, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A file taken apart.
pub struct RustCode {
    pub tokens: Vec<Token>,
    /// The text of each comment line with its number; doc comments too.
    pub comments: Vec<(usize, String)>,
}

/// Where the code names another module of its crate: `crate::image::store` in line 3 leads to `image`.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    /// The first name below the crate's root.
    pub target: String,
    pub line: usize,
}

/// Takes a Rust file apart.
pub fn read(text: &str) -> RustCode {
    let (code, comments) = split_comments(text);
    RustCode { tokens: tokens(&code), comments: comments.lines().map(str::trim).enumerate().map(|(at, line)| (at + 1, line.to_string())).collect() }
}

/// Every path of the file that goes through the crate's root, `crate::…` or enough `super::…`, each member of a group apart.
/// `module` is where the file stands: `["runtime", "cgroups"]`.
pub fn imports(tokens: &[Token], module: &[String]) -> Vec<Import> {
    let mut found = Vec::new();
    // The `mod name {` around the place, each with the depth of braces outside it.
    let mut inline_modules = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < tokens.len() {
        let is = |offset: usize, text: &str| tokens.get(at + offset).is_some_and(|token| token.text == text);
        let starts_path = at == 0 || tokens[at - 1].text != "::";
        if is(0, "mod") && is(2, "{") {
            inline_modules.push(depth);
            depth += 1;
            at += 3;
        } else if starts_path && is(1, "::") && (is(0, "crate") || is(0, "super") || is(0, "self")) {
            let (levels_up, after) = climb(tokens, at);
            let deep = module.len() + inline_modules.len();
            // `super` of a file's own inline module is the file; only a path that ends at the root leads elsewhere.
            if levels_up.is_none_or(|levels| levels >= deep && deep > 0) {
                found.extend(first_names(tokens, after));
            }
            at = after;
        } else {
            if is(0, "{") {
                depth += 1;
            } else if is(0, "}") {
                depth -= 1;
                inline_modules.pop_if(|outside| *outside == depth);
            }
            at += 1;
        }
    }
    found
}

/// How many modules up a path goes (`None`: to the root by `crate`), and where it goes on.
fn climb(tokens: &[Token], start: usize) -> (Option<usize>, usize) {
    if tokens[start].text == "crate" {
        return (None, start + 2);
    }
    let mut levels = 0;
    let mut at = start;
    while tokens.get(at + 1).is_some_and(|next| next.text == "::") && ["self", "super"].contains(&&*tokens[at].text) {
        levels += usize::from(tokens[at].text == "super");
        at += 2;
    }
    (Some(levels), at)
}

/// The first name of the path that goes on at `start`, or of each path of the group there.
fn first_names(tokens: &[Token], start: usize) -> Vec<Import> {
    let Some(first) = tokens.get(start) else { return Vec::new() };
    let import = |token: &Token| Import { target: token.text.clone(), line: token.line };
    if first.text != "{" {
        return if first.text == "*" { Vec::new() } else { vec![import(first)] };
    }
    let mut names = Vec::new();
    let mut depth = 0;
    for pair in tokens[start..].windows(2) {
        match &*pair[0].text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        let begins_member = depth == 1 && (pair[0].text == "{" || pair[0].text == ",");
        if begins_member && !["}", "*", "self"].contains(&&*pair[1].text) {
            names.push(import(&pair[1]));
        }
    }
    names
}

/// The file twice, with all its line ends: once only its code, strings emptied; once only its comments.
fn split_comments(text: &str) -> (String, String) {
    let (mut code, mut comments) = (String::new(), String::new());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest, code.chars().last()) {
            // What was a string is now an empty one.
            code.push_str("\"\"");
            code.extend(rest[..length].chars().filter(|letter| *letter == '\n'));
            comments.extend(rest[..length].chars().filter(|letter| *letter == '\n'));
            rest = &rest[length..];
            continue;
        } else {
            code.push(next);
            if next == '\n' {
                comments.push(next);
            }
            rest = &rest[next.len_utf8()..];
            continue;
        };
        comments.push_str(&rest[..length]);
        code.push(' ');
        code.extend(rest[..length].chars().filter(|letter| *letter == '\n'));
        rest = &rest[length..];
    }
    (code, comments)
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string or character that begins here, prefix (`r#`, `b`, `c`) included. A lifetime is none.
fn string(text: &str, before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let prefix =
        if in_word { 0 } else { ["br", "cr", "r", "b", "c"].iter().find(|prefix| text.starts_with(**prefix)).map_or(0, |prefix| prefix.len()) };
    let raw = text[..prefix].ends_with('r');
    let body = &text[prefix..];
    let hashes = if raw { body.len() - body.trim_start_matches('#').len() } else { 0 };
    if let Some(inner) = body[hashes..].strip_prefix('"') {
        let end = if raw {
            let close = format!("\"{}", "#".repeat(hashes));
            inner.find(&close).map_or(inner.len(), |at| at + close.len())
        } else {
            closing(inner, '"')
        };
        return Some(prefix + hashes + 1 + end);
    }
    let inner = (!raw).then(|| body.strip_prefix('\''))??;
    let mut letters = inner.chars();
    let first = letters.next()?;
    (first == '\\' || letters.next() == Some('\'')).then(|| prefix + 1 + closing(inner, '\''))
}

/// Where a string with escapes ends, its quote included.
fn closing(inner: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in inner.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + letter.len_utf8(),
            _ => {}
        }
    }
    inner.len()
}

fn tokens(code: &str) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                _ => word,
            };
            found.push(Token { text: rest[..length].to_string(), line: number + 1 });
            rest = rest[length..].trim_start();
        }
    }
    found
}
