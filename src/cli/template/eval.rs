//! A template's tree and a value become text.
//!
//! Read: pkg.go.dev/text/template, "Actions", "Arguments" and "Variables".

use std::borrow::Cow;

use serde_json::Value;

use super::functions::{self, truth};
use super::parser::{Base, Branch, Command, Node, Operand, Pipeline, Place};
use super::printf;
use crate::id;

/// Nodes visited and bytes made, at most: ranges in each other must end in a reader's lifetime.
const BUDGET: usize = 64 << 20;

/// A value that is borrowed from the input as long as it can be.
type Item<'v> = Cow<'v, Value>;

/// What went wrong and where; with the nearest field that exists, where one was asked for that doesn't.
#[derive(Debug)]
pub struct Fault {
    pub place: Place,
    pub message: String,
    pub hint: Option<String>,
}

/// The text.
///
/// # Errors
/// The first thing that has no value.
pub fn execute(nodes: &[Node], value: &Value) -> Result<String, Fault> {
    let dot = Cow::Borrowed(value);
    let header = value.get("_labels").is_some_and(Value::is_string);
    let mut evaluator = Evaluator { out: String::new(), variables: vec![("$", dot.clone())], budget: BUDGET, header };
    evaluator.nodes(nodes, &dot)?;
    Ok(evaluator.out)
}

struct Evaluator<'v> {
    out: String,
    variables: Vec<(&'v str, Item<'v>)>,
    budget: usize,
    /// The value is a table's header: its words stay as they are.
    header: bool,
}

/// How a run of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

const NOWHERE: Place = Place { at: 0, begin: 0, end: 0 };

impl<'v> Evaluator<'v> {
    fn nodes(&mut self, nodes: &'v [Node], dot: &Item<'v>) -> Result<Flow, Fault> {
        for node in nodes {
            self.spend(1, NOWHERE)?;
            let scope = self.variables.len();
            let flow = match node {
                Node::Text(text) => {
                    self.print(text, NOWHERE)?;
                    Flow::On
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    self.bind(pipeline, &value);
                    if pipeline.variables.is_empty() {
                        let place = pipeline.commands[0].place;
                        match &*value {
                            Value::Null => self.print("<no value>", place)?,
                            Value::String(text) => self.print(text, place)?,
                            other => self.print(&printf::plain(other), place)?,
                        }
                    }
                    // Its variable lives to the end of the block.
                    continue;
                }
                Node::If(branch) => {
                    let value = self.pipeline(&branch.pipeline, dot)?;
                    self.bind(&branch.pipeline, &value);
                    self.nodes(if truth(&value) { &branch.body } else { &branch.otherwise }, dot)?
                }
                Node::With(branch) => {
                    let value = self.pipeline(&branch.pipeline, dot)?;
                    self.bind(&branch.pipeline, &value);
                    if truth(&value) { self.nodes(&branch.body, &value)? } else { self.nodes(&branch.otherwise, dot)? }
                }
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            self.variables.truncate(scope);
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn range(&mut self, branch: &'v Branch, dot: &Item<'v>) -> Result<Flow, Fault> {
        let place = branch.pipeline.commands[0].place;
        let items = items(self.pipeline(&branch.pipeline, dot)?).map_err(|kind| fault(place, format!("range can't iterate over {kind}")))?;
        if items.is_empty() {
            return self.nodes(&branch.otherwise, dot);
        }
        let scope = self.variables.len();
        for (key, item) in items {
            self.spend(1, place)?;
            match branch.pipeline.variables.as_slice() {
                [one] => self.set(branch.pipeline.assigns, one, item.clone()),
                [first, second] => {
                    self.set(branch.pipeline.assigns, first, key);
                    self.set(branch.pipeline.assigns, second, item.clone());
                }
                _ => {}
            }
            let flow = self.nodes(&branch.body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn bind(&mut self, pipeline: &'v Pipeline, value: &Item<'v>) {
        if let Some(name) = pipeline.variables.first() {
            self.set(pipeline.assigns, name, value.clone());
        }
    }

    fn set(&mut self, assigns: bool, name: &'v str, value: Item<'v>) {
        match self.variables.iter_mut().rev().find(|(known, _)| assigns && *known == name) {
            Some(variable) => variable.1 = value,
            None => self.variables.push((name, value)),
        }
    }

    fn pipeline(&mut self, pipeline: &'v Pipeline, dot: &Item<'v>) -> Result<Item<'v>, Fault> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(&mut self, command: &'v Command, dot: &Item<'v>, last: Option<Item<'v>>) -> Result<Item<'v>, Fault> {
        let (first, rest) = command.operands.split_first().ok_or_else(|| fault(command.place, "missing value for command".into()))?;
        self.spend(1, command.place)?;
        let Base::Function(name) = &first.base else {
            if matches!(first.base, Base::Literal(Value::Null)) {
                return Err(fault(command.place, "nil is not a command".into()));
            }
            if rest.is_empty() && last.is_none() {
                return self.operand(first, dot);
            }
            return self.method(first, rest, dot, last);
        };
        if name == "and" || name == "or" {
            // The first that decides is the value; the others aren't looked at.
            let mut value = None;
            for operand in rest {
                let next = self.operand(operand, dot)?;
                if truth(&next) == (name == "or") {
                    return Ok(next);
                }
                value = Some(next);
            }
            let none = || fault(command.place, format!("wrong number of args for {name}: want at least 1 got 0"));
            return last.or(value).ok_or_else(none);
        }
        let mut operands = Vec::new();
        for operand in rest {
            operands.push(self.operand(operand, dot)?);
        }
        operands.extend(last);
        if self.header && ["json", "title", "lower", "upper", "truncate"].contains(&name.as_str()) && !operands.is_empty() {
            return Ok(operands.swap_remove(0));
        }
        let borrowed: Vec<&Value> = operands.iter().map(|operand| &**operand).collect();
        let value = functions::call(name, &borrowed).map_err(|message| fault(command.place, message))?;
        self.spend(size(&value), command.place)?;
        Ok(Cow::Owned(value))
    }

    /// `.Label "key"`: the value of a label, in rows that have them.
    fn method(&mut self, first: &'v Operand, rest: &'v [Operand], dot: &Item<'v>, last: Option<Item<'v>>) -> Result<Item<'v>, Fault> {
        let shown = first.fields.last().map_or("operand", String::as_str);
        let not_a_method = || fault(first.place, format!("{shown} is not a method but has arguments"));
        let Some((name, fields)) = first.fields.split_last() else {
            return Err(fault(first.place, "can't give argument to non-function".into()));
        };
        let receiver = self.walk(self.base(first, dot)?, fields, first.place)?;
        let labels = receiver.get("_labels").filter(|_| name == "Label").ok_or_else(not_a_method)?;
        let mut operands = Vec::new();
        for operand in rest {
            operands.push(self.operand(operand, dot)?);
        }
        operands.extend(last);
        match operands.as_slice() {
            [key] if key.is_string() => {
                let key = key.as_str().unwrap_or_default();
                let header = || key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ");
                let value = if labels.is_string() { header().into() } else { labels.get(key).cloned().unwrap_or_else(|| "".into()) };
                Ok(Cow::Owned(value))
            }
            _ => Err(fault(first.place, "wrong number of args for Label: want 1, a name".into())),
        }
    }

    fn operand(&mut self, operand: &'v Operand, dot: &Item<'v>) -> Result<Item<'v>, Fault> {
        let base = match &operand.base {
            Base::Nested(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Function(name) => functions::call(name, &[]).map(Cow::Owned).map_err(|message| fault(operand.place, message))?,
            _ => self.base(operand, dot)?,
        };
        self.walk(base, &operand.fields, operand.place)
    }

    fn base(&self, operand: &'v Operand, dot: &Item<'v>) -> Result<Item<'v>, Fault> {
        match &operand.base {
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| fault(operand.place, format!("undefined variable: {name}")))
            }
            Base::Literal(value) => Ok(Cow::Borrowed(value)),
            _ => Ok(dot.clone()),
        }
    }

    /// Field after field.
    fn walk(&self, mut value: Item<'v>, fields: &[String], place: Place) -> Result<Item<'v>, Fault> {
        for (at, name) in fields.iter().enumerate() {
            let above = if at > 0 { fields[at - 1].as_str() } else { "" };
            value = match value {
                Cow::Borrowed(value) => Cow::Borrowed(field(value, name, above, place)?),
                Cow::Owned(value) => Cow::Owned(field(&value, name, above, place)?.clone()),
            };
        }
        Ok(value)
    }

    fn print(&mut self, text: &str, place: Place) -> Result<(), Fault> {
        self.spend(text.len(), place)?;
        self.out.push_str(text);
        Ok(())
    }

    fn spend(&mut self, cost: usize, place: Place) -> Result<(), Fault> {
        self.budget = self.budget.checked_sub(cost).ok_or_else(|| fault(place, "it makes too much text, or takes too long".into()))?;
        Ok(())
    }
}

fn fault(place: Place, message: String) -> Fault {
    Fault { place, message, hint: None }
}

/// What a range goes over, with indices or sorted keys.
fn items(value: Item) -> Result<Vec<(Item, Item)>, &'static str> {
    let index = |at: usize| Cow::Owned(Value::from(at));
    let key = |key: &str| Cow::Owned(Value::from(key));
    Ok(match value {
        Cow::Borrowed(Value::Array(list)) => list.iter().enumerate().map(|(at, item)| (index(at), Cow::Borrowed(item))).collect(),
        Cow::Owned(Value::Array(list)) => list.into_iter().enumerate().map(|(at, item)| (index(at), Cow::Owned(item))).collect(),
        Cow::Borrowed(Value::Object(map)) => sorted(printf::shown(map).map(|(name, item)| (key(name), Cow::Borrowed(item))).collect()),
        Cow::Owned(Value::Object(map)) => sorted(map.into_iter().map(|(name, item)| (key(&name), Cow::Owned(item))).collect()),
        Cow::Borrowed(Value::Null) | Cow::Owned(Value::Null) => Vec::new(),
        other => return Err(functions::kind(&other)),
    })
}

fn sorted<'v>(mut items: Vec<(Item<'v>, Item<'v>)>) -> Vec<(Item<'v>, Item<'v>)> {
    items.sort_by(|one, other| one.0.as_str().cmp(&other.0.as_str()));
    items
}

/// Fields that say nothing are left out of what we print; a template may still ask whether they are there.
const OPTIONAL: [&str; 2] = ["Health", "Healthcheck"];

/// Fields whose keys are other people's words: what isn't in them is no mistake.
const OPEN: [&str; 10] =
    ["Labels", "Ports", "Networks", "PortBindings", "ExposedPorts", "Volumes", "Sysctls", "Options", "Annotations", "Containers"];

const NOTHING: &Value = &Value::Null;

/// A field of a record or map.
fn field<'a>(value: &'a Value, name: &str, above: &str, place: Place) -> Result<&'a Value, Fault> {
    match value {
        Value::Object(map) => {
            if let Some(value) = map.get(name) {
                return Ok(value);
            }
            let record = map.keys().all(|key| key.starts_with(|c: char| c.is_ascii_uppercase() || c == '_'));
            if map.is_empty() || !record || OPEN.contains(&above) || OPTIONAL.contains(&name) {
                return Ok(NOTHING);
            }
            let hint = id::nearest(name, printf::shown(map).map(|(key, _)| key.as_str())).map(|near| format!("did you mean .{near}?"));
            Err(Fault { place, message: format!("map has no entry for key {name:?}"), hint })
        }
        Value::Null => Err(fault(place, format!("nil pointer evaluating interface {{}}.{name}"))),
        _ => Err(fault(place, format!("can't evaluate field {name} in type {}", functions::kind(value)))),
    }
}

/// About how much memory a value takes.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(|item| size(item) + 32).sum(),
        Value::Object(map) => map.iter().map(|(key, item)| key.len() + size(item) + 32).sum(),
        _ => 8,
    }
}
