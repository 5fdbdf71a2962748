//! From tokens to a tree.

use std::collections::BTreeMap;
use std::fmt;

use super::lex::{Kind, Token, tokens};

/// Nesting of actions and parentheses that is believed.
const MAX_DEPTH: usize = 100;

/// A tree and the templates defined beside it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) root: Vec<Node>,
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

/// A part of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template {
        pos: usize,
        name: String,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

/// `{{if pipe}} list {{else}} other {{end}}` and its kin.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) list: Vec<Node>,
    pub(super) otherwise: Option<Vec<Node>>,
}

/// `$x := a | b c`
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub(super) pos: usize,
    pub(super) variables: Vec<String>,
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// A function or value and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) pos: usize,
    pub(super) args: Vec<Arg>,
}

/// An operand.
#[derive(Clone, Debug)]
pub(super) struct Arg {
    pub(super) pos: usize,
    pub(super) what: Operand,
}

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Int {
        text: String,
        value: i64,
    },
    Float {
        text: String,
        value: f64,
    },
    String {
        quoted: String,
        value: String,
    },
    Function(String),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`: the name and fields.
    Variable(String, Vec<String>),
    Pipe(Box<Pipe>),
    /// `(pipe).a.b`
    Chain(Box<Arg>, Vec<String>),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            let sign = if self.assigns { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.variables.join(", "))?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            command.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            arg.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |f: &mut fmt::Formatter<'_>, fields: &[String]| {
            fields.iter().try_for_each(|name| write!(f, ".{name}"))
        };
        match &self.what {
            Operand::Dot => f.write_str("."),
            Operand::Nil => f.write_str("nil"),
            Operand::Bool(b) => b.fmt(f),
            Operand::Int { text, .. } | Operand::Float { text, .. } => f.write_str(text),
            Operand::String { quoted, .. } => f.write_str(quoted),
            Operand::Function(name) => f.write_str(name),
            Operand::Field(names) => fields(f, names),
            Operand::Variable(name, names) => {
                f.write_str(name)?;
                fields(f, names)
            }
            Operand::Pipe(pipe) => write!(f, "({pipe})"),
            Operand::Chain(arg, names) => {
                arg.fmt(f)?;
                fields(f, names)
            }
        }
    }
}

/// Parses a template. `known` says which functions there are. The message of an error starts with
/// the line.
pub(super) fn parse(input: &str, known: &dyn Fn(&str) -> bool) -> Result<Tree, String> {
    let mut parser = Parser {
        input,
        tokens: tokens(input),
        next: 0,
        variables: vec!["$".to_owned()],
        known,
        defined: BTreeMap::new(),
        loops: 0,
        depth: 0,
    };
    let (root, end) = parser.list(true)?;
    match end {
        Ends::Input => Ok(Tree {
            root,
            defined: parser.defined,
        }),
        Ends::End => Err(parser.error("unexpected {{end}}")),
        Ends::Else => Err(parser.error("unexpected {{else}}")),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Input,
    End,
    Else,
}

struct Parser<'a> {
    input: &'a str,
    tokens: Vec<Token>,
    next: usize,
    variables: Vec<String>,
    known: &'a dyn Fn(&str) -> bool,
    defined: BTreeMap<String, Vec<Node>>,
    loops: usize,
    depth: usize,
}

type Parsed<T> = Result<T, String>;

impl Parser<'_> {
    /// An error at the token read last.
    fn error(&self, message: impl fmt::Display) -> String {
        let last = self.next.saturating_sub(1).min(self.tokens.len() - 1);
        let pos = self.tokens.get(last).map_or(0, |t| t.pos);
        let line = 1 + super::newlines(self.input, pos);
        format!("{line}: {message}")
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Parsed<T> {
        if token.kind == Kind::Error {
            return Err(self.error(&token.text));
        }
        Err(self.error(format!("unexpected {} in {context}", token.shown())))
    }

    fn peek(&self) -> &Token {
        // The last token, which ends the input, is never passed.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len());
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
    }

    fn take_after_space(&mut self) -> Token {
        self.skip_space();
        self.take()
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("max expression depth exceeded"));
        }
        Ok(())
    }

    /// Nodes up to an `{{end}}`, an `{{else}}` or, at the top, the end of the input.
    fn list(&mut self, top: bool) -> Parsed<(Vec<Node>, Ends)> {
        let mut nodes = Vec::new();
        loop {
            let token = self.take_after_space();
            match token.kind {
                Kind::Text => nodes.push(Node::Text(token.text)),
                Kind::End if top => return Ok((nodes, Ends::Input)),
                Kind::End => return Err(self.error("unexpected EOF")),
                Kind::LeftDelim => {
                    self.skip_space();
                    if self.peek().kind != Kind::Keyword {
                        let pipe = self.pipeline("command", Kind::RightDelim)?;
                        nodes.push(Node::Action(pipe));
                        continue;
                    }
                    let keyword = self.take();
                    match keyword.text.as_str() {
                        "end" => {
                            self.expect(Kind::RightDelim, "end")?;
                            return Ok((nodes, Ends::End));
                        }
                        "else" => {
                            self.skip_space();
                            let follows = self.peek();
                            let chained = follows.kind == Kind::Keyword
                                && matches!(follows.text.as_str(), "if" | "with");
                            if !chained {
                                self.expect(Kind::RightDelim, "else")?;
                            }
                            return Ok((nodes, Ends::Else));
                        }
                        _ => nodes.extend(self.keyword(&keyword, top)?),
                    }
                }
                _ => return self.unexpected(&token, "input"),
            }
        }
    }

    fn keyword(&mut self, keyword: &Token, top: bool) -> Parsed<Option<Node>> {
        let pos = keyword.pos;
        Ok(Some(match keyword.text.as_str() {
            "if" => Node::If(self.control("if")?),
            "with" => Node::With(self.control("with")?),
            "range" => Node::Range(self.control("range")?),
            word @ ("break" | "continue") => {
                let token = self.take_after_space();
                if token.kind != Kind::RightDelim {
                    return self.unexpected(&token, &format!("{{{{{word}}}}}"));
                }
                if self.loops == 0 {
                    return Err(self.error(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                if word == "break" {
                    Node::Break
                } else {
                    Node::Continue
                }
            }
            "template" => {
                self.skip_space();
                let pos = self.peek().pos;
                let name = self.template_name("template clause")?;
                self.skip_space();
                let pipe = if self.peek().kind == Kind::RightDelim {
                    self.take();
                    None
                } else {
                    Some(self.pipeline("template clause", Kind::RightDelim)?)
                };
                Node::Template { pos, name, pipe }
            }
            "block" => {
                let name = self.template_name("block clause")?;
                let pipe = self.pipeline("block clause", Kind::RightDelim)?;
                self.define(name.clone(), "block clause")?;
                Node::Template {
                    pos,
                    name,
                    pipe: Some(pipe),
                }
            }
            "define" if top => {
                let name = self.template_name("define clause")?;
                self.expect(Kind::RightDelim, "define clause")?;
                self.define(name, "define clause")?;
                return Ok(None);
            }
            _ => return self.unexpected(keyword, "command"),
        }))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.take_after_space();
        if token.kind == kind {
            Ok(token)
        } else {
            self.unexpected(&token, context)
        }
    }

    fn template_name(&mut self, context: &str) -> Parsed<String> {
        let token = self.take_after_space();
        match token.kind {
            Kind::String | Kind::RawString => self.unquote(&token),
            _ => self.unexpected(&token, context),
        }
    }

    /// The body of a template of its own: other variables, other loops.
    fn define(&mut self, name: String, context: &str) -> Parsed<()> {
        self.deeper()?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (list, end) = self.list(false)?;
        if end != Ends::End {
            return Err(self.error(format!("unexpected {{{{else}}}} in {context}")));
        }
        self.variables = variables;
        self.loops = loops;
        self.depth -= 1;
        let empty = |nodes: &[Node]| {
            nodes
                .iter()
                .all(|n| matches!(n, Node::Text(text) if text.trim().is_empty()))
        };
        match self.defined.get(&name) {
            Some(old) if !empty(old) && !empty(&list) => {
                let name = super::format::quote(&name);
                Err(self.error(format!("multiple definition of template {name}")))
            }
            Some(old) if !empty(old) => Ok(()),
            _ => {
                self.defined.insert(name, list);
                Ok(())
            }
        }
    }

    fn control(&mut self, context: &str) -> Parsed<Branch> {
        self.deeper()?;
        let scope = self.variables.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let is_loop = usize::from(context == "range");
        self.loops += is_loop;
        let (list, end) = self.list(false)?;
        self.loops -= is_loop;
        let otherwise = match end {
            Ends::Else => Some(self.otherwise(context)?),
            _ => None,
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(Branch {
            pipe,
            list,
            otherwise,
        })
    }

    /// What follows `{{else`: a list up to `{{end}}`, or a chained `if` or `with` that shares it.
    fn otherwise(&mut self, context: &str) -> Parsed<Vec<Node>> {
        self.skip_space();
        let follows = self.peek().clone();
        if follows.kind == Kind::Keyword {
            if follows.text != context {
                return self.unexpected(&follows, "else");
            }
            self.take();
            let branch = self.control(context)?;
            return Ok(vec![if context == "if" {
                Node::If(branch)
            } else {
                Node::With(branch)
            }]);
        }
        let (list, end) = self.list(false)?;
        if end != Ends::End {
            return Err(self.error("expected end; found {{else}}"));
        }
        Ok(list)
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        self.deeper()?;
        self.skip_space();
        let mut pipe = Pipe {
            pos: self.peek().pos,
            variables: Vec::new(),
            assigns: false,
            commands: Vec::new(),
        };
        self.declarations(&mut pipe, context)?;
        loop {
            self.skip_space();
            match self.peek().kind {
                kind if kind == end => {
                    self.take();
                    break;
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => {
                    let token = self.take();
                    return self.unexpected(&token, context);
                }
            }
        }
        if pipe.commands.is_empty() {
            return Err(self.error(format!("missing value for {context}")));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            let first = command.args.first().map(|a| &a.what);
            if matches!(
                first,
                Some(
                    Operand::Bool(_)
                        | Operand::Dot
                        | Operand::Nil
                        | Operand::Int { .. }
                        | Operand::Float { .. }
                        | Operand::String { .. }
                )
            ) {
                let stage = i + 1;
                return Err(self.error(format!("non executable command in pipeline stage {stage}")));
            }
        }
        self.depth -= 1;
        Ok(pipe)
    }

    /// `$x :=`, `$x =` or, for a range, `$i, $x :=`.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<()> {
        while self.peek().kind == Kind::Variable {
            let back = self.next;
            let variable = self.take();
            self.skip_space();
            match self.peek().kind {
                kind @ (Kind::Assign | Kind::Declare) => {
                    self.take();
                    pipe.assigns = kind == Kind::Assign;
                    pipe.variables.push(variable.text.clone());
                    self.variables.push(variable.text);
                    return Ok(());
                }
                Kind::Char if self.peek().text == "," => {
                    self.take();
                    pipe.variables.push(variable.text.clone());
                    self.variables.push(variable.text);
                    if context != "range" || pipe.variables.len() >= 2 {
                        return Err(self.error(format!("too many declarations in {context}")));
                    }
                    self.skip_space();
                    if !matches!(
                        self.peek().kind,
                        Kind::Variable | Kind::RightDelim | Kind::RightParen
                    ) {
                        return Err(self.error("range can only initialize variables"));
                    }
                }
                _ => {
                    self.next = back;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Parsed<Command> {
        self.skip_space();
        let mut command = Command {
            pos: self.peek().pos,
            args: Vec::new(),
        };
        loop {
            self.skip_space();
            if let Some(arg) = self.operand()? {
                command.args.push(arg);
            }
            let token = self.take();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelim | Kind::RightParen => {
                    self.next -= 1;
                    break;
                }
                Kind::Pipe => break,
                _ => return self.unexpected(&token, "operand"),
            }
        }
        if command.args.is_empty() {
            return Err(self.error("empty command"));
        }
        Ok(command)
    }

    fn operand(&mut self) -> Parsed<Option<Arg>> {
        let Some(term) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        // Go says that a chain stands where its first field does.
        let chained = self.peek().pos;
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.take().text.trim_start_matches('.').to_owned());
        }
        let Arg { pos, what } = term;
        let what = match what {
            Operand::Field(mut first) => {
                first.append(&mut names);
                Operand::Field(first)
            }
            Operand::Variable(name, mut first) => {
                first.append(&mut names);
                Operand::Variable(name, first)
            }
            what @ (Operand::Function(_) | Operand::Pipe(_) | Operand::Chain(..)) => {
                Operand::Chain(Box::new(Arg { pos, what }), names)
            }
            what => {
                let shown = super::format::quote(&Arg { pos, what }.to_string());
                return Err(self.error(format!("unexpected . after term {shown}")));
            }
        };
        Ok(Some(Arg { pos: chained, what }))
    }

    fn term(&mut self) -> Parsed<Option<Arg>> {
        let token = self.peek().clone();
        let what = match token.kind {
            Kind::Identifier => {
                self.take();
                if !(self.known)(&token.text) {
                    let name = super::format::quote(&token.text);
                    return Err(self.error(format!("function {name} not defined")));
                }
                Operand::Function(token.text)
            }
            Kind::Dot => Operand::Dot,
            Kind::Nil => Operand::Nil,
            Kind::Variable => {
                self.take();
                if !self.variables.contains(&token.text) {
                    let name = super::format::quote(&token.text);
                    return Err(self.error(format!("undefined variable {name}")));
                }
                Operand::Variable(token.text, Vec::new())
            }
            Kind::Field => Operand::Field(vec![token.text.trim_start_matches('.').to_owned()]),
            Kind::Bool => Operand::Bool(token.text == "true"),
            Kind::CharConstant | Kind::Number => {
                self.take();
                return self.number(token).map(Some);
            }
            Kind::String | Kind::RawString => {
                self.take();
                Operand::String {
                    value: self.unquote(&token)?,
                    quoted: token.text,
                }
            }
            Kind::LeftParen => {
                self.take();
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                let what = Operand::Pipe(Box::new(pipe));
                return Ok(Some(Arg {
                    pos: token.pos,
                    what,
                }));
            }
            _ => return Ok(None),
        };
        if matches!(token.kind, Kind::Dot | Kind::Nil | Kind::Field | Kind::Bool) {
            self.take();
        }
        Ok(Some(Arg {
            pos: token.pos,
            what,
        }))
    }

    fn unquote(&self, token: &Token) -> Parsed<String> {
        super::format::unquote(&token.text).ok_or_else(|| self.error("invalid syntax"))
    }

    fn number(&self, token: Token) -> Parsed<Arg> {
        let Token { text, pos, kind } = token;
        let what = if kind == Kind::CharConstant {
            let value = super::format::unquote(&text)
                .and_then(|s| {
                    let mut chars = s.chars();
                    chars.next().filter(|_| chars.next().is_none())
                })
                .ok_or_else(|| self.error(format!("malformed character constant: {text}")))?;
            let value = i64::from(value as u32);
            Operand::Int { text, value }
        } else if let Some(value) = super::format::parse_int(&text) {
            Operand::Int { text, value }
        } else if let Some(value) = super::format::parse_float(&text) {
            Operand::Float { text, value }
        } else {
            let shown = super::format::quote(&text);
            return Err(self.error(format!("illegal number syntax: {shown}")));
        };
        Ok(Arg { pos, what })
    }
}
