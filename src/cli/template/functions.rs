//! The functions that a template may call: Go's own, and those that Docker adds (`json`, `join`, `upper`, `pad` …).
//!
//! Read: pkg.go.dev/text/template, "Functions"; docs.docker.com/engine/cli/formatting.

use std::cmp::Ordering;

use serde_json::Value;

use super::printf;

/// All of them. `and` and `or` look at their operands one by one, which is the evaluator's work.
pub const NAMES: [&str; 24] = [
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "json",
    "prettyjson",
    "join",
    "split",
    "lower",
    "upper",
    "title",
    "pad",
    "truncate",
];

/// Padding above this is refused: a template must not fill the memory.
const WIDEST: i64 = 1_000_000;

/// The value of a function.
///
/// # Errors
/// What is wrong with its operands, in Go's words.
pub fn call(name: &str, operands: &[&Value]) -> Result<Value, String> {
    let wants = |least: usize, most: usize| match operands.len() {
        found if found < least || found > most => {
            let want = if most == usize::MAX { format!("at least {least}") } else { least.to_string() };
            Err(format!("wrong number of args for {name}: want {want} got {found}"))
        }
        _ => Ok(()),
    };
    match name {
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => {
            if operands.len() == 1 && name == "eq" {
                return Err("error calling eq: missing argument for comparison".into());
            }
            wants(2, if name == "eq" { usize::MAX } else { 2 })?;
            compare(name, operands).map_err(|why| format!("error calling {name}: {why}")).map(Value::Bool)
        }
        "print" => Ok(printf::spaced(operands, false).into()),
        "println" => Ok(printf::spaced(operands, true).into()),
        "printf" => {
            wants(1, usize::MAX)?;
            Ok(printf::format(text(name, operands[0])?, &operands[1..]).into())
        }
        "index" | "slice" => {
            wants(1, usize::MAX)?;
            let done = if name == "index" { index(operands) } else { slice(operands) };
            done.map_err(|why| format!("error calling {name}: {why}"))
        }
        "join" | "split" => {
            wants(2, 2)?;
            let separator = text(name, operands[1])?;
            if name == "split" {
                return Ok(text(name, operands[0])?.split(separator).map(Value::from).collect::<Vec<_>>().into());
            }
            let Value::Array(list) = operands[0] else { return Err(wrong_type(name, "a list", operands[0])) };
            Ok(list.iter().map(printf::plain).collect::<Vec<_>>().join(separator).into())
        }
        "pad" => {
            wants(3, 3)?;
            let (before, after) = (number(name, operands[1])?, number(name, operands[2])?);
            match text(name, operands[0])? {
                "" => Ok("".into()),
                source => Ok(format!("{}{source}{}", " ".repeat(before), " ".repeat(after)).into()),
            }
        }
        "truncate" => {
            wants(2, 2)?;
            Ok(text(name, operands[0])?.chars().take(number(name, operands[1])?).collect::<String>().into())
        }
        _ => {
            wants(1, 1)?;
            one(name, operands[0])
        }
    }
}

/// The functions of one operand.
fn one(name: &str, value: &Value) -> Result<Value, String> {
    Ok(match name {
        "not" => (!truth(value)).into(),
        "len" => length(value).ok_or_else(|| format!("error calling len: len of type {}", kind(value)))?.into(),
        "json" => serde_json::to_string(&visible(value)).unwrap_or_default().into(),
        "prettyjson" => serde_json::to_string_pretty(&visible(value)).unwrap_or_default().into(),
        "lower" => text(name, value)?.to_lowercase().into(),
        "upper" => text(name, value)?.to_uppercase().into(),
        "title" => title(text(name, value)?).into(),
        _ => return Err(format!("function {name:?} not defined")),
    })
}

/// What `if` takes for true: not false, zero, empty or missing.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => printf::shown(map).next().is_some(),
    }
}

/// A value without what is hidden in it.
pub fn visible(value: &Value) -> Value {
    match value {
        Value::Object(map) => printf::shown(map).map(|(key, value)| (key.clone(), visible(value))).collect::<serde_json::Map<_, _>>().into(),
        Value::Array(list) => list.iter().map(visible).collect::<Vec<_>>().into(),
        _ => value.clone(),
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Null => Some(0),
        Value::String(text) => Some(text.len()),
        Value::Array(list) => Some(list.len()),
        Value::Object(map) => Some(printf::shown(map).count()),
        _ => None,
    }
}

/// `eq` is true when the first equals one of the others.
fn compare(name: &str, operands: &[&Value]) -> Result<bool, String> {
    if name == "eq" || name == "ne" {
        for other in &operands[1..] {
            if equal(operands[0], other)? {
                return Ok(name == "eq");
            }
        }
        return Ok(name == "ne");
    }
    let ordering = match (operands[0], operands[1]) {
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Number(_), Value::Number(_)) => numbers(operands[0], operands[1]).ok_or("incompatible types for comparison")?,
        (Value::String(_) | Value::Number(_), Value::String(_) | Value::Number(_)) => return Err("incompatible types for comparison".into()),
        _ => return Err("invalid type for comparison".into()),
    };
    Ok(match name {
        "lt" => ordering.is_lt(),
        "le" => ordering.is_le(),
        "gt" => ordering.is_gt(),
        _ => ordering.is_ge(),
    })
}

fn equal(one: &Value, other: &Value) -> Result<bool, String> {
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => Ok(numbers(one, other) == Some(Ordering::Equal)),
        (Value::Null, _) | (_, Value::Null) => Ok(one == other),
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => Ok(one == other),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => Err("non-comparable type".into()),
        _ => Err("incompatible types for comparison".into()),
    }
}

/// Whole numbers are compared as such: a float has no place for all of their digits.
fn numbers(one: &Value, other: &Value) -> Option<Ordering> {
    let whole = |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

/// `index .Ports "80/tcp" 0`
fn index(operands: &[&Value]) -> Result<Value, String> {
    let mut value = operands[0];
    for key in &operands[1..] {
        value = match (value, key) {
            (Value::Object(map), Value::String(key)) => match map.get(key.as_str()) {
                Some(value) => value,
                // A map of strings has an empty one for what it doesn't have.
                None if map.values().all(Value::is_string) => return Ok("".into()),
                None => &Value::Null,
            },
            (Value::Array(list), Value::Number(at)) => {
                at.as_u64().and_then(|at| list.get(at as usize)).ok_or_else(|| format!("index out of range: {at}"))?
            }
            // Of a text, the number of a byte.
            (Value::String(text), Value::Number(at)) => {
                let byte = at.as_u64().and_then(|at| text.as_bytes().get(at as usize));
                return byte.map(|byte| (*byte).into()).ok_or_else(|| format!("index out of range: {at}"));
            }
            (Value::Null, _) => return Err("index of untyped nil".into()),
            (Value::Array(_), _) => return Err(format!("cannot index slice/array with type {}", kind(key))),
            (Value::Object(_), _) => return Err(format!("value has type {}; should be string", kind(key))),
            _ => return Err(format!("can't index item of type {}", kind(value))),
        };
    }
    Ok(value.clone())
}

/// `slice .Id 0 12`, in bytes of a text and items of a list.
fn slice(operands: &[&Value]) -> Result<Value, String> {
    let length = match operands[0] {
        Value::String(_) | Value::Array(_) => length(operands[0]).unwrap_or(0),
        Value::Null => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", kind(other))),
    };
    let mut range = [0, length];
    if operands.len() > 3 {
        return Err(format!("too many slice indexes: {}", operands.len() - 1));
    }
    for (place, value) in range.iter_mut().zip(&operands[1..]) {
        *place = value.as_u64().filter(|at| *at <= length as u64).ok_or_else(|| format!("index out of range: {}", printf::plain(value)))? as usize;
    }
    let [from, to] = range;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match operands[0] {
        Value::String(text) => String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned().into(),
        Value::Array(list) => list[from..to].to_vec().into(),
        _ => Value::Null,
    })
}

/// Each word with a capital letter.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::new();
    for letter in text.chars() {
        match before.is_alphanumeric() || before == '_' || before == '\'' {
            true => out.push(letter),
            false => out.extend(letter.to_uppercase()),
        }
        before = letter;
    }
    out
}

fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| wrong_type(name, "string", value))
}

fn number(name: &str, value: &Value) -> Result<usize, String> {
    match value.as_i64() {
        Some(number @ 0..=WIDEST) => Ok(number as usize),
        Some(number) => Err(format!("error calling {name}: {number} is not between 0 and {WIDEST}")),
        None => Err(wrong_type(name, "int", value)),
    }
}

fn wrong_type(name: &str, wanted: &str, value: &Value) -> String {
    format!("wrong type for value of {name}; expected {wanted}; got {}", kind(value))
}

/// Go's name of a value's type.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
