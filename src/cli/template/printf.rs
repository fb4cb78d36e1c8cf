//! Go's way of printing: `map[a:1 b:2]`, `[a b]`, `<nil>`, `1e+06`, and `%-10s` and its kind.
//!
//! Read: pkg.go.dev/fmt, "Printing".

use serde_json::Value;

use super::functions;

/// Widths above this are refused, as Go refuses them: a format must not fill the memory.
const WIDEST: usize = 1_000_000;

/// A value as `%v` prints it.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => general(float, None),
            None => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => format!("map[{}]", shown(map).map(|(key, value)| format!("{key}:{}", plain(value))).collect::<Vec<_>>().join(" ")),
    }
}

/// A map without what is hidden in it.
pub fn shown(map: &serde_json::Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    map.iter().filter(|(key, _)| !key.starts_with('_'))
}

/// Operands one after another: a space between two of which neither is a string (`print`), or between all (`println`).
pub fn spaced(operands: &[&Value], always: bool) -> String {
    let mut out = String::new();
    for (at, value) in operands.iter().enumerate() {
        if at > 0 && (always || (!value.is_string() && !operands[at - 1].is_string())) {
            out.push(' ');
        }
        out.push_str(&plain(value));
    }
    if always {
        out.push('\n');
    }
    out
}

/// What stands between `%` and the verb.
#[derive(Debug, Default, Clone)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `printf`: wrong verbs and missing operands are said in the text, as Go does.
pub fn format(text: &str, operands: &[&Value]) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (spec, length) = spec(rest, operands, &mut next, &mut out);
        rest = &rest[length..];
        let Some(verb) = rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        rest = &rest[verb.len_utf8()..];
        match operands.get(next) {
            _ if verb == '%' => out.push('%'),
            Some(value) => {
                next += 1;
                write(&mut out, verb, &spec, value, true);
            }
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    out.push_str(rest);
    if next < operands.len() {
        let extra: Vec<String> = operands[next..].iter().map(|value| wrong_operand(value)).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn spec(rest: &str, operands: &[&Value], next: &mut usize, out: &mut String) -> (Spec, usize) {
    let mut spec = Spec::default();
    let bytes = rest.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'-' => spec.minus = true,
            b'+' => spec.plus = true,
            b'#' => spec.sharp = true,
            b' ' => spec.space = true,
            b'0' => spec.zero = true,
            _ => break,
        }
        at += 1;
    }
    spec.width = count(bytes, &mut at, operands, next, out);
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        spec.precision = Some(count(bytes, &mut at, operands, next, out).unwrap_or(0));
    }
    (spec, at)
}

/// A number of columns or digits: in the text, or `*` and the next operand.
fn count(bytes: &[u8], at: &mut usize, operands: &[&Value], next: &mut usize, out: &mut String) -> Option<usize> {
    if bytes.get(*at) == Some(&b'*') {
        *at += 1;
        let number = operands.get(*next).and_then(|value| value.as_u64()).filter(|number| *number <= WIDEST as u64);
        *next += 1;
        if number.is_none() {
            out.push_str("%!(BADWIDTH)");
        }
        return number.map(|number| number as usize);
    }
    let digits = bytes[*at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&bytes[*at..*at + digits]).ok()?.parse().ok();
    *at += digits;
    number.filter(|number| *number <= WIDEST)
}

/// One operand. Lists and maps are printed item by item, each with the same verb.
fn write(out: &mut String, verb: char, spec: &Spec, value: &Value, top: bool) {
    match value {
        Value::Array(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                out.push_str(if at > 0 { " " } else { "" });
                write(out, verb, spec, item, false);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            for (at, (key, item)) in shown(map).enumerate() {
                out.push_str(if at > 0 { " " } else { "" });
                write(out, verb, spec, &key.as_str().into(), false);
                out.push(':');
                write(out, verb, spec, item, false);
            }
            out.push(']');
        }
        Value::Null if top && verb != 'v' => out.push_str(&format!("%!{verb}(<nil>)")),
        Value::Null => pad(out, spec, "<nil>"),
        Value::Bool(yes) if verb == 't' || verb == 'v' => pad(out, spec, if *yes { "true" } else { "false" }),
        Value::String(text) => string(out, verb, spec, text, value),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => float_number(out, verb, spec, float, value),
            None => integer(out, verb, spec, number.as_i64().map_or_else(|| number.as_u64().unwrap_or(0).into(), i128::from), value),
        },
        Value::Bool(_) => mismatch(out, verb, value),
    }
}

fn string(out: &mut String, verb: char, spec: &Spec, text: &str, value: &Value) {
    let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
    match verb {
        's' | 'v' => pad(out, spec, &cut),
        'q' => pad(out, spec, &quote(&cut, spec.plus)),
        'x' | 'X' => {
            let bytes = text.bytes().take(spec.precision.unwrap_or(usize::MAX));
            let hex: Vec<String> = bytes.map(|byte| if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") }).collect();
            pad(out, spec, &hex.join(if spec.space { " " } else { "" }));
        }
        _ => mismatch(out, verb, value),
    }
}

fn integer(out: &mut String, verb: char, spec: &Spec, number: i128, value: &Value) {
    let size = number.unsigned_abs();
    let letter = || char::from_u32(number as u32).unwrap_or('\u{fffd}');
    let digits = match verb {
        'd' | 'v' => size.to_string(),
        'x' => format!("{}{size:x}", if spec.sharp { "0x" } else { "" }),
        'X' => format!("{}{size:X}", if spec.sharp { "0X" } else { "" }),
        'o' => format!("{}{size:o}", if spec.sharp { "0" } else { "" }),
        'b' => format!("{size:b}"),
        'c' => return pad(out, spec, &letter().to_string()),
        'q' => return pad(out, spec, &format!("'{}'", letter())),
        'U' => return pad(out, spec, &format!("U+{size:04X}")),
        _ => return mismatch(out, verb, value),
    };
    signed(out, spec, number < 0, &digits);
}

fn float_number(out: &mut String, verb: char, spec: &Spec, number: f64, value: &Value) {
    let size = number.abs();
    let digits = match verb {
        'f' | 'F' => format!("{size:.*}", spec.precision.unwrap_or(6)),
        'e' => exponent(&format!("{size:.*e}", spec.precision.unwrap_or(6))),
        'g' | 'v' => general(size, spec.precision),
        _ => return mismatch(out, verb, value),
    };
    signed(out, spec, number.is_sign_negative(), &digits);
}

/// A sign, zeros up to the width where they are asked for, and the digits.
fn signed(out: &mut String, spec: &Spec, negative: bool, digits: &str) {
    let sign = match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    let width = spec.width.filter(|_| spec.zero && !spec.minus).unwrap_or(0);
    let zeros = width.saturating_sub(sign.len() + digits.len());
    pad(out, spec, &format!("{sign}{}{digits}", "0".repeat(zeros)));
}

/// Rust's `1.5e3` as Go's `1.5e+03`.
fn exponent(text: &str) -> String {
    let Some((digits, power)) = text.split_once('e') else { return text.into() };
    let power: i32 = power.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// `%g`: the shortest digits that mean the number, with an exponent below 1e-4, and from as many digits on as were asked for.
fn general(number: f64, precision: Option<usize>) -> String {
    let digits = match precision {
        Some(precision) => format!("{number:.*e}", precision.max(1) - 1),
        None => format!("{number:e}"),
    };
    let power: i32 = digits.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    let shown = digits.split('e').next().unwrap_or_default();
    let mantissa = if shown.contains('.') { shown.trim_end_matches('0').trim_end_matches('.') } else { shown };
    let limit = precision.map_or(SHORTEST_LIMIT, |precision| precision.max(1) as i32);
    if power < -4 || power >= limit {
        return exponent(&format!("{mantissa}e{power}"));
    }
    let places = (mantissa.bytes().filter(u8::is_ascii_digit).count() as i32 - 1 - power).max(0) as usize;
    format!("{number:.places$}")
}

/// From this power of ten on `%v` writes an exponent.
const SHORTEST_LIMIT: i32 = 6;

fn pad(out: &mut String, spec: &Spec, text: &str) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    match spec.minus {
        true => out.push_str(&format!("{text}{}", " ".repeat(missing))),
        false => out.push_str(&format!("{}{text}", " ".repeat(missing))),
    }
}

/// `%!d(string=x)`
fn mismatch(out: &mut String, verb: char, value: &Value) {
    out.push_str(&format!("%!{verb}({})", wrong_operand(value)));
}

fn wrong_operand(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        _ => format!("{}={}", functions::kind(value), plain(value)),
    }
}

/// Text in quotes, with Go's escapes for what can't be seen.
fn quote(text: &str, ascii: bool) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(letter),
            _ if (letter as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", letter as u32)),
            _ if !ascii && !letter.is_control() && (!letter.is_whitespace()) && letter != '\u{200b}' => out.push(letter),
            _ if letter as u32 > 0xffff => out.push_str(&format!("\\U{:08x}", letter as u32)),
            _ => out.push_str(&format!("\\u{:04x}", letter as u32)),
        }
    }
    out.push('"');
    out
}
