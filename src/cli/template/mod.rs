//! `--format '{{.Names}}: {{.State}}'`: the part of Go's templates that people use with Docker, over JSON.
//!
//! A template is read once ([`Template::parse`]) and then executed for each row: `lexer` makes tokens of letters, `parser` a tree of
//! tokens, `eval` text of the tree and a value; `functions` and `printf` are what it may call.
//!
//! Read: pkg.go.dev/text/template; docs.docker.com/engine/cli/formatting.

mod eval;
mod functions;
mod lexer;
mod parser;
mod printf;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::error::{Error, Result};

pub use functions::visible;

/// A template that is well-formed.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    nodes: Vec<parser::Node>,
}

impl Template {
    /// Reads a template as it is written.
    ///
    /// # Errors
    /// Invalid, with the line.
    pub fn parse(text: &str) -> Result<Template> {
        Template::read(text, false)
    }

    /// Reads a template for the rows of a listing: `\t` and `\n` in its text are a tab and a line feed.
    ///
    /// # Errors
    /// Invalid, with the line.
    pub fn parse_row(text: &str) -> Result<Template> {
        Template::read(text, true)
    }

    fn read(text: &str, escapes: bool) -> Result<Template> {
        let nodes = lexer::tokens(text, escapes).and_then(|tokens| parser::parse(&tokens, text.len()));
        let nodes = nodes.map_err(|(at, message)| {
            let line = text[..at].matches('\n').count() + 1;
            wrong(text, format!("template: :{line}: {message}"))
        })?;
        Ok(Template { text: text.into(), nodes })
    }

    /// The text that it makes of a value.
    ///
    /// # Errors
    /// Invalid, with line and column: a field that isn't there (and the nearest that is), an operand of the wrong type.
    pub fn execute(&self, value: &Value) -> Result<String> {
        eval::execute(&self.nodes, value).map_err(|fault| {
            let (line, column) = place(&self.text, fault.place.at);
            let source = &self.text[fault.place.begin..fault.place.end];
            // Go shows 20 letters of it.
            let source = match source.char_indices().nth(20) {
                Some((end, _)) => format!("{}...", &source[..end]),
                None => source.into(),
            };
            let error = wrong(&self.text, format!("template: :{line}:{column}: executing \"\" at <{source}>: {}", fault.message));
            match fault.hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }

    /// The fields that it asks of its value, in their order, such as `ID` of `{{.ID}}`; with what is inside of blocks.
    pub fn fields(&self) -> Vec<&str> {
        let mut names = Vec::new();
        nodes_fields(&self.nodes, &mut names);
        names
    }
}

fn wrong(text: &str, why: String) -> Error {
    Error::invalid(format!("use --format {text:?}"), format!("template parsing error: {why}"))
}

/// Line from 1, column in bytes from 0, as Go counts them.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    (before.matches('\n').count() + 1, before.len() - before.rfind('\n').map_or(0, |line| line + 1))
}

fn nodes_fields<'a>(nodes: &'a [parser::Node], names: &mut Vec<&'a str>) {
    for node in nodes {
        match node {
            parser::Node::Action(pipeline) => pipeline_fields(pipeline, names),
            parser::Node::If(branch) | parser::Node::With(branch) | parser::Node::Range(branch) => {
                pipeline_fields(&branch.pipeline, names);
                nodes_fields(&branch.body, names);
                nodes_fields(&branch.otherwise, names);
            }
            _ => {}
        }
    }
}

fn pipeline_fields<'a>(pipeline: &'a parser::Pipeline, names: &mut Vec<&'a str>) {
    for operand in pipeline.commands.iter().flat_map(|command| &command.operands) {
        match &operand.base {
            parser::Base::Nested(pipeline) => pipeline_fields(pipeline, names),
            _ => names.extend(operand.fields.first().map(String::as_str)),
        }
    }
}
