//! A template's letters become tokens: text as it is, and inside `{{ }}` fields, words, strings, numbers and signs.
//!
//! Read: pkg.go.dev/text/template, "Text and spaces" and "Actions".

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text outside of actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `.Name`
    Field(String),
    /// `.`
    Dot,
    /// `$x`, `$`: with its sign.
    Variable(String),
    /// `if`, `range`, `len` …
    Word(String),
    /// A string, in quotes or raw, as it is meant.
    Quoted(String),
    Integer(i64),
    Float(f64),
    /// `|`
    Pipe,
    /// `(`
    Left,
    /// `)`
    Right,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub kind: Kind,
    /// Bytes from the template's beginning.
    pub at: usize,
    pub end: usize,
    /// White space comes before it: `.A .B` are two operands, `.A.B` is one.
    pub apart: bool,
}

/// What is wrong, and where (bytes from the beginning).
pub type Fault = (usize, String);

/// The tokens of a template. With `escapes`, a backslash and `t` or `n` in its text are a tab and a line feed, since a shell's
/// argument seldom has real ones.
///
/// # Errors
/// The first thing that is no token.
pub fn tokens(text: &str, escapes: bool) -> Result<Vec<Token>, Fault> {
    let mut all = Vec::new();
    let mut at = 0;
    let mut trim = false;
    while at < text.len() {
        let open = text[at..].find("{{").map(|found| at + found);
        let mut plain = &text[at..open.unwrap_or(text.len())];
        if std::mem::take(&mut trim) {
            plain = plain.trim_start_matches(SPACES);
        }
        let Some(open) = open else {
            push_text(&mut all, plain, at, escapes);
            break;
        };
        let mut inside = open + 2;
        if has_trim_begin(&text[inside..]) {
            plain = plain.trim_end_matches(SPACES);
            inside += 2;
        }
        push_text(&mut all, plain, at, escapes);
        (at, trim) = match text[inside..].trim_start_matches(SPACES).starts_with("/*") {
            true => comment(text, inside)?,
            false => {
                all.push(Token { kind: Kind::Open, at: open, end: inside, apart: false });
                action(text, inside, &mut all)?
            }
        };
    }
    Ok(all)
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

fn push_text(all: &mut Vec<Token>, text: &str, at: usize, escapes: bool) {
    if !text.is_empty() {
        let kind = Kind::Text(if escapes { text.replace("\\t", "\t").replace("\\n", "\n") } else { text.into() });
        all.push(Token { kind, at, end: at + text.len(), apart: false });
    }
}

/// `{{- `: the space belongs to it, or `{{-3}}` would be something else.
fn has_trim_begin(rest: &str) -> bool {
    rest.starts_with('-') && rest[1..].starts_with(SPACES)
}

/// The place behind `*/}}`, and whether the white space behind that goes.
fn comment(text: &str, inside: usize) -> Result<(usize, bool), Fault> {
    let closed = text[inside..].find("*/").ok_or((inside, "unclosed comment".to_string()))?;
    let rest = &text[inside + closed + 2..];
    let tail = rest.trim_start_matches(SPACES);
    let behind = |tail: &str| text.len() - tail.len();
    match (tail.strip_prefix("}}"), tail.strip_prefix("-}}")) {
        (Some(after), _) if rest.starts_with("}}") => Ok((behind(after), false)),
        (_, Some(after)) if rest.len() > tail.len() => Ok((behind(after), true)),
        _ => Err((inside, "comment ends before closing delimiter".into())),
    }
}

/// Reads up to `}}`: the place behind, and whether the white space behind that goes.
fn action(text: &str, begin: usize, all: &mut Vec<Token>) -> Result<(usize, bool), Fault> {
    let mut at = begin;
    loop {
        let rest = text[at..].trim_start_matches(SPACES);
        let apart = text.len() - rest.len() > at || at == begin;
        at = text.len() - rest.len();
        let trims = apart && rest.starts_with("-}}");
        if trims || rest.starts_with("}}") {
            let end = at + if trims { 3 } else { 2 };
            all.push(Token { kind: Kind::Close, at, end, apart });
            return Ok((end, trims));
        }
        let Some(letter) = rest.chars().next() else { return Err((text.len(), "unclosed action".into())) };
        let (kind, length) = token(rest, letter).map_err(|message| (at, message))?;
        all.push(Token { kind, at, end: at + length, apart });
        at += length;
    }
}

/// One token and its length.
fn token(rest: &str, letter: char) -> Result<(Kind, usize), String> {
    let word = |from: usize| from + rest[from..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len() - from);
    Ok(match letter {
        '|' => (Kind::Pipe, 1),
        '(' => (Kind::Left, 1),
        ')' => (Kind::Right, 1),
        ',' => (Kind::Comma, 1),
        ':' if rest.starts_with(":=") => (Kind::Declare, 2),
        '=' => (Kind::Assign, 1),
        '"' => quoted(rest)?,
        '\'' => character(rest)?,
        '`' => {
            let end = rest[1..].find('`').ok_or("unterminated raw quoted string")?;
            (Kind::Quoted(rest[1..=end].into()), end + 2)
        }
        '$' => (Kind::Variable(rest[..word(1)].into()), word(1)),
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => match word(1) {
            1 => (Kind::Dot, 1),
            end => (Kind::Field(rest[1..end].into()), end),
        },
        '0'..='9' | '+' | '-' | '.' => number(rest)?,
        _ if letter.is_alphabetic() || letter == '_' => (Kind::Word(rest[..word(0)].into()), word(0)),
        _ => return Err(format!("unrecognized character in action: U+{:04X} '{letter}'", letter as u32)),
    })
}

/// `"…"` with Go's escapes.
fn quoted(rest: &str) -> Result<(Kind, usize), String> {
    let mut value = String::new();
    let mut letters = rest.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Kind::Quoted(value), at + 1)),
            '\n' => break,
            '\\' => value.push(escape(&mut letters)?),
            _ => value.push(letter),
        }
    }
    Err("unterminated quoted string".into())
}

/// `'x'` is the letter's number.
fn character(rest: &str) -> Result<(Kind, usize), String> {
    let mut letters = rest.char_indices().skip(1);
    let unclosed = || "unterminated character constant".to_string();
    let letter = match letters.next().ok_or_else(unclosed)?.1 {
        '\\' => escape(&mut letters)?,
        letter => letter,
    };
    match letters.next() {
        Some((at, '\'')) => Ok((Kind::Integer(letter as i64), at + 1)),
        _ => Err(unclosed()),
    }
}

/// The letter meant by what follows a backslash.
fn escape(letters: &mut impl Iterator<Item = (usize, char)>) -> Result<char, String> {
    let (_, letter) = letters.next().ok_or("unterminated quoted string")?;
    let digits = match letter {
        'n' => return Ok('\n'),
        't' => return Ok('\t'),
        'r' => return Ok('\r'),
        'a' => return Ok('\u{7}'),
        'b' => return Ok('\u{8}'),
        'f' => return Ok('\u{c}'),
        'v' => return Ok('\u{b}'),
        '\\' | '"' | '\'' => return Ok(letter),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return Err(format!("invalid syntax: \\{letter} is no escape")),
    };
    let hex: String = letters.take(digits).map(|(_, letter)| letter).collect();
    let number = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits);
    number.and_then(char::from_u32).ok_or_else(|| format!("invalid syntax: \\{letter}{hex} is no letter"))
}

/// `12`, `-3`, `1_000`, `0x1f`, `2.5`, `1e3`.
fn number(rest: &str) -> Result<(Kind, usize), String> {
    let mut end = 0;
    for letter in rest.chars() {
        let after_exponent = rest[..end].ends_with(['e', 'E']) && !rest.trim_start_matches(['+', '-']).starts_with("0x");
        match letter {
            '+' | '-' if end == 0 || after_exponent => {}
            _ if letter.is_alphanumeric() || letter == '.' || letter == '_' => {}
            _ => break,
        }
        end += letter.len_utf8();
    }
    let plain = rest[..end].replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = [("0x", 16), ("0X", 16), ("0b", 2), ("0o", 8)].iter().find_map(|(mark, radix)| Some((digits.strip_prefix(*mark)?, *radix)));
    let integer = match radix {
        Some((digits, radix)) => i64::from_str_radix(digits, radix).ok().map(|number| number * sign),
        None => plain.parse::<i64>().ok(),
    };
    let float = || plain.parse::<f64>().ok().filter(|number| number.is_finite() && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.'));
    match (integer, float()) {
        (Some(integer), _) => Ok((Kind::Integer(integer), end)),
        (None, Some(float)) => Ok((Kind::Float(float), end)),
        _ => Err(format!("bad number syntax: {:?}", &rest[..end])),
    }
}
