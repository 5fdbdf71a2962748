//! Walking the tree.

use std::sync::Arc;

use super::functions::{self, Param};
use super::parse::{Arg, Branch, Command, Node, Operand, Pipe, Tree};
use super::value::Value;
use super::{Env, format};

/// Templates that call each other, and what a `range` holds, nest at most so deep.
const MAX_DEPTH: usize = 100;
/// Text that a template may write.
const MAX_OUTPUT: usize = 4 << 20;

/// How a list of nodes ended.
enum Flow {
    Through,
    Break,
    Continue,
}

type Done<T> = Result<T, String>;

/// Runs a template.
pub(super) struct Exec<'a> {
    pub(super) name: &'a str,
    pub(super) input: &'a str,
    pub(super) tree: &'a Tree,
    pub(super) env: &'a Env<'a>,
    out: String,
    variables: Vec<(String, Value)>,
    /// Where it is, for errors: byte offset and text.
    at: (usize, String),
    /// The template that runs.
    running: String,
    depth: usize,
}

impl<'a> Exec<'a> {
    pub(super) fn new(name: &'a str, input: &'a str, tree: &'a Tree, env: &'a Env<'a>) -> Self {
        Self {
            name,
            input,
            tree,
            env,
            out: String::new(),
            variables: Vec::new(),
            at: (0, String::new()),
            running: name.to_owned(),
            depth: 0,
        }
    }

    pub(super) fn run(mut self, dot: Value) -> Done<String> {
        self.variables.push(("$".to_owned(), dot.clone()));
        self.list(&self.tree.root, &dot)?;
        Ok(self.out)
    }

    fn error(&self, message: impl std::fmt::Display) -> String {
        let (pos, context) = &self.at;
        let line = 1 + super::newlines(self.input, *pos);
        let before = self.input.get(..*pos).unwrap_or("");
        let column = before.rfind('\n').map_or(*pos, |i| pos - i - 1);
        let running = format::quote(&self.running);
        format!(
            "template: {}:{line}:{column}: executing {running} at <{context}>: {message}",
            self.name
        )
    }

    fn fail<T>(&self, message: impl std::fmt::Display) -> Done<T> {
        Err(self.error(message))
    }

    fn write(&mut self, text: &str) -> Done<()> {
        if self.out.len() + text.len() > MAX_OUTPUT {
            return self.fail(format_args!("more than {MAX_OUTPUT} bytes of text"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn list(&mut self, nodes: &'a [Node], dot: &Value) -> Done<Flow> {
        for node in nodes {
            match self.node(node, dot)? {
                Flow::Through => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Through)
    }

    fn node(&mut self, node: &'a Node, dot: &Value) -> Done<Flow> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.write(&value.shown())?;
                }
            }
            Node::If(branch) => {
                let scope = self.variables.len();
                let value = self.pipe(dot, &branch.pipe)?;
                let flow = self.branch(branch, value.truth(), dot, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::With(branch) => {
                let scope = self.variables.len();
                let value = self.pipe(dot, &branch.pipe)?;
                let flow = self.branch(branch, value.truth(), &value, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range(branch) => return self.range(branch, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Template { pos, name, pipe } => {
                self.call_template(*pos, name, pipe.as_ref(), dot)?
            }
        }
        Ok(Flow::Through)
    }

    fn branch(
        &mut self,
        branch: &'a Branch,
        yes: bool,
        inner: &Value,
        outer: &Value,
    ) -> Done<Flow> {
        match (&branch.otherwise, yes) {
            (_, true) => self.list(&branch.list, inner),
            (Some(list), false) => self.list(list, outer),
            (None, false) => Ok(Flow::Through),
        }
    }

    fn call_template(
        &mut self,
        pos: usize,
        name: &'a str,
        pipe: Option<&'a Pipe>,
        dot: &Value,
    ) -> Done<()> {
        let shown = match pipe {
            Some(pipe) => format!("{{{{template {} {pipe}}}}}", format::quote(name)),
            None => format!("{{{{template {}}}}}", format::quote(name)),
        };
        self.at = (pos, shown);
        let tree = self.tree;
        let Some(list) = tree.defined.get(name) else {
            let name = format::quote(name);
            return self.fail(format_args!("template {name} not defined"));
        };
        if self.depth == MAX_DEPTH {
            return self.fail(format_args!(
                "exceeded maximum template depth ({MAX_DEPTH})"
            ));
        }
        let dot = match pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Value::None,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_owned(), dot.clone())]);
        let running = std::mem::replace(&mut self.running, name.to_owned());
        self.depth += 1;
        self.list(list, &dot)?;
        self.depth -= 1;
        self.running = running;
        self.variables = variables;
        Ok(())
    }

    fn range(&mut self, branch: &'a Branch, dot: &Value) -> Done<Flow> {
        let scope = self.variables.len();
        let over = self.pipe(dot, &branch.pipe)?;
        let names = branch.pipe.variables.clone();
        let assigns = branch.pipe.assigns;
        self.variables.truncate(scope);
        let items: Vec<(Value, Value)> = match &over {
            Value::None => Vec::new(),
            Value::Int(n) => {
                if names.len() > 1 {
                    return self.fail(format_args!(
                        "can't use {n} to iterate over more than one variable"
                    ));
                }
                let count = usize::try_from(*n).unwrap_or(0).min(MAX_OUTPUT);
                (0..count as i64)
                    .map(|i| (Value::Int(i), Value::Int(i)))
                    .collect()
            }
            Value::Samples(list) => list
                .iter()
                .enumerate()
                .map(|(i, s)| (Value::Int(i as i64), Value::Sample(Arc::clone(s))))
                .collect(),
            Value::Labels(labels) => labels
                .iter()
                .map(|(n, v)| (Value::text(n), Value::text(v)))
                .collect(),
            Value::Args(map) => map
                .iter()
                .map(|(n, v)| (Value::text(n), v.clone()))
                .collect(),
            other => {
                return self.fail(format_args!("range can't iterate over {}", other.shown()));
            }
        };
        if items.is_empty() {
            let flow = match &branch.otherwise {
                Some(list) => self.list(list, dot)?,
                None => Flow::Through,
            };
            self.variables.truncate(scope);
            return Ok(flow);
        }
        for (key, item) in items {
            let values = match names.len() {
                0 => vec![],
                1 => vec![item.clone()],
                _ => vec![key, item.clone()],
            };
            for (name, value) in names.iter().zip(values) {
                if assigns {
                    self.assign(name, value);
                } else {
                    self.variables.push((name.clone(), value));
                }
            }
            let flow = self.list(&branch.list, &item)?;
            self.variables.truncate(scope);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::Through)
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some(place) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            place.1 = value;
        }
    }

    fn pipe(&mut self, dot: &Value, pipe: &'a Pipe) -> Done<Value> {
        self.at = (pipe.pos, pipe.to_string());
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Value::None);
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, dot: &Value, command: &'a Command, last: Option<Value>) -> Done<Value> {
        let Some(first) = command.args.first() else {
            return Ok(Value::None);
        };
        if let Operand::Function(name) = &first.what {
            return self.function(dot, first, name, command, last);
        }
        // Nothing but a function takes arguments here.
        let takes_no_arguments = match &first.what {
            Operand::Field(_) | Operand::Chain(..) | Operand::Variable(..) => {
                self.at = (first.pos, first.to_string());
                let value = self.operand(dot, first)?;
                if let Some(method) = self.method(dot, first, &value, command)? {
                    return Ok(method);
                }
                if command.args.len() > 1 || last.is_some() {
                    self.at = (first.pos, first.to_string());
                    let name = match &first.what {
                        Operand::Field(names)
                        | Operand::Chain(_, names)
                        | Operand::Variable(_, names) => names.last(),
                        _ => None,
                    };
                    return match name {
                        Some(name) => self.fail(format_args!(
                            "{name} has arguments but cannot be invoked as function"
                        )),
                        None => {
                            self.fail(format_args!("can't give argument to non-function {first}"))
                        }
                    };
                }
                return Ok(value);
            }
            _ => command.args.len() > 1 || last.is_some(),
        };
        self.at = (first.pos, first.to_string());
        if takes_no_arguments {
            return self.fail(format_args!("can't give argument to non-function {first}"));
        }
        if matches!(first.what, Operand::Nil) {
            return self.fail("nil is not a command");
        }
        self.operand(dot, first)
    }

    /// `$t.Format "2006"`: the one method with an argument that people use.
    fn method(
        &mut self,
        dot: &Value,
        first: &'a Arg,
        value: &Value,
        command: &'a Command,
    ) -> Done<Option<Value>> {
        let Value::Layout(ns) = value else {
            return Ok(None);
        };
        let [_, layout] = command.args.as_slice() else {
            self.at = (first.pos, first.to_string());
            let got = command.args.len() - 1;
            return self.fail(format_args!(
                "wrong number of args for Format: want 1 got {got}"
            ));
        };
        let layout = self.argument(dot, layout, Param::Str)?;
        Ok(Some(Value::text(&format::time(*ns, &layout.print()))))
    }

    /// An operand that is no function.
    fn operand(&mut self, dot: &Value, arg: &'a Arg) -> Done<Value> {
        match &arg.what {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Value::None),
            Operand::Bool(b) => Ok(Value::Bool(*b)),
            Operand::Int { text, value } => {
                // Anything that looks like a float is one, even if it is whole.
                let hex = text.to_ascii_lowercase().contains("0x");
                Ok(match text.contains(['.', 'e', 'E', 'p', 'P']) && !hex {
                    true if !text.starts_with('\'') => Value::Float(*value as f64),
                    _ => Value::Int(*value),
                })
            }
            Operand::Float { value, .. } => Ok(Value::Float(*value)),
            Operand::String { value, .. } => Ok(Value::text(value)),
            Operand::Field(names) => {
                self.at = (arg.pos, arg.to_string());
                self.fields(dot.clone(), names)
            }
            Operand::Variable(name, names) => {
                self.at = (arg.pos, arg.to_string());
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                let Some((_, value)) = found else {
                    return self.fail(format_args!("undefined variable: {name}"));
                };
                self.fields(value.clone(), names)
            }
            Operand::Pipe(pipe) => self.pipe(dot, pipe),
            Operand::Chain(inner, names) => {
                self.at = (arg.pos, arg.to_string());
                let value = match &inner.what {
                    Operand::Function(name) => self.function_value(
                        dot,
                        inner,
                        name,
                        &[],
                        None,
                        (inner.pos, inner.to_string()),
                    )?,
                    _ => self.operand(dot, inner)?,
                };
                self.fields(value, names)
            }
            Operand::Function(name) => {
                let at = (arg.pos, arg.to_string());
                self.function_value(dot, arg, name, &[], None, at)
            }
        }
    }

    fn fields(&self, mut value: Value, names: &[String]) -> Done<Value> {
        for name in names {
            value = match value.field(name) {
                Some(value) => value,
                None if matches!(value, Value::None) => {
                    return self.fail(format_args!(
                        "nil data; no entry for key {}",
                        format::quote(name)
                    ));
                }
                None => {
                    let kind = value.kind();
                    return self.fail(format_args!("can't evaluate field {name} in type {kind}"));
                }
            };
        }
        Ok(value)
    }

    fn function(
        &mut self,
        dot: &Value,
        first: &'a Arg,
        name: &'a str,
        command: &'a Command,
        last: Option<Value>,
    ) -> Done<Value> {
        let at = (command.pos, command.to_string());
        let args = command.args.get(1..).unwrap_or_default();
        self.function_value(dot, first, name, args, last, at)
    }

    fn function_value(
        &mut self,
        dot: &Value,
        node: &'a Arg,
        name: &'a str,
        args: &'a [Arg],
        last: Option<Value>,
        whole: (usize, String),
    ) -> Done<Value> {
        self.at = (node.pos, node.to_string());
        let Some(function) = functions::find(name) else {
            return self.fail(format_args!(
                "{} is not a defined function",
                format::quote(name)
            ));
        };
        let given = args.len() + usize::from(last.is_some());
        if let Err(want) = function.accepts(given) {
            return self.fail(format_args!(
                "wrong number of args for {name}: want {want} got {given}"
            ));
        }
        let mut values = Vec::with_capacity(given);
        if matches!(name, "and" | "or") {
            // These two stop at the first that decides.
            for arg in args {
                let value = self.argument(dot, arg, Param::Any)?;
                if value.truth() == (name == "or") {
                    return Ok(value);
                }
                values.push(value);
            }
            return Ok(last.or_else(|| values.pop()).unwrap_or(Value::None));
        }
        for (i, arg) in args.iter().enumerate() {
            values.push(self.argument(dot, arg, function.param(i))?);
        }
        if let Some(last) = last {
            values.push(self.checked(last, function.param(args.len()))?);
        }
        functions::call(name, values, self.env).map_err(|message| {
            self.at = whole;
            match message {
                functions::Failed::Calling(message) => {
                    self.error(format_args!("error calling {name}: {message}"))
                }
                functions::Failed::Plain(message) => message,
            }
        })
    }

    fn argument(&mut self, dot: &Value, arg: &'a Arg, param: Param) -> Done<Value> {
        self.at = (arg.pos, arg.to_string());
        match (&arg.what, param) {
            (Operand::Nil, Param::Any) => return Ok(Value::None),
            (Operand::Nil, Param::Samples) => return Ok(Value::Samples(Arc::default())),
            (Operand::Nil, _) => {
                return self.fail(format_args!("cannot assign nil to {}", param.kind()));
            }
            (Operand::Bool(_) | Operand::Int { .. } | Operand::Float { .. }, Param::Str) => {
                return self.fail(format_args!("expected string; found {arg}"));
            }
            (
                Operand::Bool(_)
                | Operand::Int { .. }
                | Operand::Float { .. }
                | Operand::String { .. },
                Param::Sample | Param::Samples,
            ) => {
                return self.fail(format_args!(
                    "can't handle {arg} for arg of type {}",
                    param.kind()
                ));
            }
            _ => {}
        }
        let value = self.operand(dot, arg)?;
        self.checked(value, param)
    }

    /// A value that goes where `param` is wanted.
    fn checked(&self, value: Value, param: Param) -> Done<Value> {
        let fits = match (&value, param) {
            (_, Param::Any)
            | (Value::Str(_), Param::Str)
            | (Value::Sample(_), Param::Sample)
            | (Value::Samples(_), Param::Samples) => true,
            (Value::None, _) => {
                return self.fail(format_args!("invalid value; expected {}", param.kind()));
            }
            _ => false,
        };
        if fits {
            return Ok(value);
        }
        let (want, got) = (param.kind(), value.kind());
        self.fail(format_args!(
            "wrong type for value; expected {want}; got {got}"
        ))
    }
}
