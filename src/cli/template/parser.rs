//! Tokens become a tree: text, actions, and the blocks between `if`, `range`, `with` and their `end`.
//!
//! Read: pkg.go.dev/text/template, "Actions" and "Pipelines".

use super::functions;
use super::lexer::{Fault, Kind, Token};

/// A piece of a template.
#[derive(Debug, Clone)]
pub enum Node {
    Text(String),
    /// Prints its value, unless it declares a variable.
    Action(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
}

/// `{{if …}} body {{else}} otherwise {{end}}`
#[derive(Debug, Clone)]
pub struct Branch {
    pub pipeline: Pipeline,
    pub body: Vec<Node>,
    pub otherwise: Vec<Node>,
}

/// `$x := a | b c`: each command gets the value of the one before as its last operand.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub variables: Vec<String>,
    /// `=` and not `:=`.
    pub assigns: bool,
    pub commands: Vec<Command>,
}

/// A function or a field with its operands, or a value alone.
#[derive(Debug, Clone)]
pub struct Command {
    pub operands: Vec<Operand>,
    pub place: Place,
}

/// Where it stands in the template, for errors.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub at: usize,
    pub begin: usize,
    pub end: usize,
}

/// A value, and the fields taken from it.
#[derive(Debug, Clone)]
pub struct Operand {
    pub base: Base,
    pub fields: Vec<String>,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub enum Base {
    Dot,
    Variable(String),
    Function(String),
    Literal(serde_json::Value),
    Nested(Box<Pipeline>),
}

/// Blocks and parentheses in each other, at most: a hostile template must not overflow the stack.
const DEEPEST: usize = 64;

/// The tree of a template.
///
/// # Errors
/// The first thing that doesn't fit.
pub fn parse(tokens: &[Token], length: usize) -> Result<Vec<Node>, Fault> {
    let mut parser = Parser { tokens, next: 0, length, depth: 0, loops: 0, variables: vec!["$".into()] };
    let (nodes, ending) = parser.nodes()?;
    match ending {
        None => Ok(nodes),
        Some((word, at)) => Err((at, format!("unexpected {{{{{word}}}}}"))),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    length: usize,
    depth: usize,
    loops: usize,
    /// Those in scope.
    variables: Vec<String>,
}

/// The word that ended a run of nodes, `end` or `else`, and where.
type Ending = Option<(&'static str, usize)>;

impl Parser<'_> {
    fn nodes(&mut self) -> Result<(Vec<Node>, Ending), Fault> {
        let mut nodes = Vec::new();
        while let Some(token) = self.take() {
            match token.kind {
                Kind::Text(text) => nodes.push(Node::Text(text)),
                Kind::Open => match self.peek() {
                    Some(Kind::Word(word)) if word == "end" || word == "else" => {
                        let ending = if word == "end" { "end" } else { "else" };
                        self.next += 1;
                        return Ok((nodes, Some((ending, token.at))));
                    }
                    _ => nodes.push(self.action(token.at)?),
                },
                _ => return Err((token.at, "unexpected token outside of an action".into())),
            }
        }
        Ok((nodes, None))
    }

    /// What follows `{{`, unless it ends a block.
    fn action(&mut self, at: usize) -> Result<Node, Fault> {
        let word = match self.peek() {
            Some(Kind::Word(word)) => word.clone(),
            _ => String::new(),
        };
        match word.as_str() {
            "if" | "with" | "range" => {
                self.next += 1;
                self.block(&word, at)
            }
            "break" | "continue" => {
                self.next += 1;
                self.close(&word)?;
                match self.loops {
                    0 => Err((at, format!("{{{{{word}}}}} outside {{{{range}}}}"))),
                    _ => Ok(if word == "break" { Node::Break } else { Node::Continue }),
                }
            }
            "define" | "template" | "block" => Err((at, format!("{{{{{word}}}}} is not for one-line templates"))),
            _ => {
                let pipeline = self.pipeline("command")?;
                self.close("command")?;
                Ok(Node::Action(pipeline))
            }
        }
    }

    fn block(&mut self, word: &str, at: usize) -> Result<Node, Fault> {
        self.deeper(at)?;
        let scope = self.variables.len();
        let pipeline = self.pipeline(word)?;
        self.close(word)?;
        self.loops += usize::from(word == "range");
        let (body, mut ending) = self.nodes()?;
        self.loops -= usize::from(word == "range");
        let mut otherwise = Vec::new();
        if let Some(("else", place)) = ending {
            ending = match self.peek() {
                // `else if` is an `if` in an `else`, and takes the `end` of both.
                Some(Kind::Word(next)) if next == word && word != "range" => {
                    let next = next.clone();
                    self.next += 1;
                    otherwise.push(self.block(&next, place)?);
                    Some(("done", place))
                }
                _ => {
                    self.close("else")?;
                    let (nodes, ending) = self.nodes()?;
                    otherwise = nodes;
                    ending
                }
            };
        }
        match ending {
            Some(("end", _)) => self.close("end")?,
            Some(("else", place)) => return Err((place, "expected end; found {{else}}".into())),
            Some(_) => {}
            None => return Err((self.length, "unexpected EOF".into())),
        }
        self.variables.truncate(scope);
        self.depth -= 1;
        let branch = Branch { pipeline, body, otherwise };
        Ok(match word {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }

    /// Up to the `}}` or `)` that ends it, which stays. A range may have two variables.
    fn pipeline(&mut self, context: &str) -> Result<Pipeline, Fault> {
        let mut variables = Vec::new();
        let mut assigns = false;
        let start = self.next;
        while let Some(Kind::Variable(name)) = self.peek() {
            variables.push(name.clone());
            self.next += 1;
            match self.peek() {
                Some(Kind::Comma) if context == "range" && variables.len() == 1 => self.next += 1,
                Some(Kind::Declare | Kind::Assign) => {
                    assigns = self.peek() == Some(&Kind::Assign);
                    break;
                }
                _ => break,
            }
        }
        match self.peek() {
            Some(Kind::Declare | Kind::Assign) if !variables.is_empty() => self.next += 1,
            // A variable that is only read.
            _ => {
                self.next = start;
                variables.clear();
            }
        }
        if let Some(unknown) = variables.iter().find(|name| assigns && !self.variables.contains(name)) {
            return Err((self.place(), format!("undefined variable {unknown:?}")));
        }
        let mut commands = vec![self.command(context)?];
        while self.peek() == Some(&Kind::Pipe) {
            self.next += 1;
            let command = self.command(context)?;
            let first = &command.operands[0];
            let callable = matches!(first.base, Base::Function(_)) || (!first.fields.is_empty() && !matches!(first.base, Base::Nested(_)));
            if !callable {
                return Err((first.place.begin, format!("non executable command in pipeline stage {}", commands.len() + 1)));
            }
            commands.push(command);
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, assigns, commands })
    }

    fn command(&mut self, context: &str) -> Result<Command, Fault> {
        let mut operands: Vec<Operand> = Vec::new();
        let begin = self.place();
        while !matches!(self.peek(), None | Some(Kind::Close | Kind::Right | Kind::Pipe)) {
            if !operands.is_empty() && !self.tokens[self.next].apart {
                return Err((self.place(), format!("unexpected {} in operand", self.shown())));
            }
            operands.push(self.operand()?);
        }
        let Some(last) = operands.last() else { return Err((begin, format!("missing value for {context}"))) };
        let place = Place { at: begin, begin, end: last.place.end };
        Ok(Command { operands, place })
    }

    fn operand(&mut self) -> Result<Operand, Fault> {
        let begin = self.place();
        let Some(token) = self.take() else { return Err((self.length, "unexpected EOF".into())) };
        let mut fields = Vec::new();
        let base = match token.kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Base::Dot
            }
            Kind::Variable(name) if self.variables.contains(&name) => Base::Variable(name),
            Kind::Variable(name) => return Err((begin, format!("undefined variable {name:?}"))),
            Kind::Quoted(text) => Base::Literal(text.into()),
            Kind::Integer(number) => Base::Literal(number.into()),
            Kind::Float(number) => Base::Literal(number.into()),
            Kind::Word(word) => match word.as_str() {
                "true" | "false" => Base::Literal((word == "true").into()),
                "nil" => Base::Literal(serde_json::Value::Null),
                _ if functions::NAMES.contains(&word.as_str()) => Base::Function(word),
                _ => return Err((begin, format!("function {word:?} not defined"))),
            },
            Kind::Left => {
                self.deeper(begin)?;
                let pipeline = self.pipeline("parenthesized pipeline")?;
                self.depth -= 1;
                match self.take().map(|token| token.kind) {
                    Some(Kind::Right) => Base::Nested(Box::new(pipeline)),
                    _ => return Err((begin, "unclosed left paren".into())),
                }
            }
            _ => {
                self.next -= 1;
                return Err((begin, format!("unexpected {} in operand", self.shown())));
            }
        };
        // Go's place of a chain of fields is that of its second one.
        let mut at = begin;
        while let Some(Kind::Field(name)) = self.peek().filter(|_| !self.tokens[self.next].apart) {
            if matches!(base, Base::Literal(_) | Base::Function(_)) {
                return Err((self.place(), format!("unexpected {} after term", self.shown())));
            }
            if at == begin {
                at = self.tokens[self.next].at;
            }
            fields.push(name.clone());
            self.next += 1;
        }
        let end = self.tokens[self.next - 1].end;
        Ok(Operand { base, fields, place: Place { at, begin, end } })
    }

    fn close(&mut self, context: &str) -> Result<(), Fault> {
        match self.peek() {
            Some(Kind::Close) => {
                self.next += 1;
                Ok(())
            }
            None => Err((self.length, "unclosed action".into())),
            Some(_) => Err((self.place(), format!("unexpected {} in {context}", self.shown()))),
        }
    }

    fn deeper(&mut self, at: usize) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEEPEST { Err((at, format!("more than {DEEPEST} blocks or parentheses in each other"))) } else { Ok(()) }
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += usize::from(token.is_some());
        token
    }

    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    /// Where the next token is.
    fn place(&self) -> usize {
        self.tokens.get(self.next).map_or(self.length, |token| token.at)
    }

    /// The next token as Go names it.
    fn shown(&self) -> String {
        match self.peek() {
            None => "EOF".into(),
            Some(Kind::Field(name)) => format!("<.{name}>"),
            Some(Kind::Word(word)) if ["if", "else", "end", "range", "with"].contains(&word.as_str()) => format!("<{word}>"),
            Some(Kind::Word(word)) => format!("{word:?}"),
            Some(Kind::Variable(name)) => format!("{name:?}"),
            Some(Kind::Quoted(text)) => format!("{text:?}"),
            Some(Kind::Integer(number)) => format!("{:?}", number.to_string()),
            Some(Kind::Float(number)) => format!("{:?}", number.to_string()),
            Some(Kind::Dot) => "<.>".into(),
            Some(Kind::Pipe) => "\"|\"".into(),
            Some(Kind::Left) => "\"(\"".into(),
            Some(Kind::Right) => "\")\"".into(),
            Some(Kind::Comma) => "\",\"".into(),
            Some(Kind::Declare) => "\":=\"".into(),
            Some(Kind::Assign) => "\"=\"".into(),
            Some(Kind::Open) => "\"{{\"".into(),
            Some(Kind::Close) => "\"}}\"".into(),
            Some(Kind::Text(text)) => format!("{text:?}"),
        }
    }
}
