//! The templates of alerts' labels and annotations.
//!
//! The language is Go's `text/template` with Prometheus' functions, and errors have Go's words, so
//! that rule files and runbooks written for Prometheus stay true.
//!
//! ```
//! use model::Labels;
//! use rules::template::{Env, Root, Template};
//!
//! let text = "{{ $labels.instance }} is at {{ $value | humanizePercentage }}";
//! let template = Template::parse("high", text).unwrap();
//! let root = Root {
//!     labels: Labels::from_pairs([("instance", "web-1")]),
//!     value: 0.9751.into(),
//!     ..Root::default()
//! };
//! assert_eq!(template.expand(root, &Env::default()).unwrap(), "web-1 is at 97.51%");
//! ```

mod exec;
mod format;
mod functions;
mod lex;
mod parse;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use model::Millis;

pub use functions::functions;
pub use value::{Number, Root, Sample};

/// What templates of alerts start with, so that people need not write it.
const PROLOGUE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// What functions of templates ask for.
pub struct Env<'a> {
    /// Evaluates an expression.
    pub query: &'a dyn Fn(&str) -> Result<Vec<Sample>, String>,
    /// The time of evaluation, ms.
    pub now: Millis,
    /// The URL under which the process is reached.
    pub external_url: &'a str,
}

impl Default for Env<'_> {
    fn default() -> Self {
        Self {
            query: &|_| Err("queries are not served here".to_owned()),
            now: 0,
            external_url: "",
        }
    }
}

impl Env<'_> {
    fn path_prefix(&self) -> &str {
        let after = self.external_url.split_once("://").map(|(_, rest)| rest);
        match after.and_then(|rest| rest.find('/').map(|i| (rest, i))) {
            Some((rest, i)) => rest.get(i..).unwrap_or(""),
            None => "",
        }
    }
}

/// A template that was understood.
#[derive(Clone, Debug)]
pub struct Template {
    name: String,
    text: String,
    tree: parse::Tree,
    asks: bool,
}

impl Template {
    /// Parses the template of the alert `name`. The error says line and reason.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let name = format!("__alert_{name}");
        let text = format!("{PROLOGUE}{text}");
        let tree = parse::parse(&text, &|name| functions::find(name).is_some())
            .map_err(|message| format!("template: {name}:{message}"))?;
        Ok(Self {
            asks: text.contains("query"),
            name,
            text,
            tree,
        })
    }

    /// Whether it may call `query`, so that expanding it takes time.
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// The text that it makes of an alert.
    pub fn expand(&self, root: Root, env: &Env<'_>) -> Result<String, String> {
        let exec = exec::Exec::new(&self.name, &self.text, &self.tree, env);
        exec.run(value::Value::Root(Arc::new(root)))
            .map_err(|message| format!("error executing template {}: {message}", self.name))
    }
}

/// A link to the graph of an expression, relative to the external URL.
pub fn graph_link(expr: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=0", functions::query_escape(expr))
}

/// The text of a string as Go code writes it: in double quotes with escapes, or in backquotes.
pub fn unquote(literal: &str) -> Option<String> {
    format::unquote(literal)
}

/// A text as a part of a URL's query.
pub(crate) fn query_escape(text: &str) -> String {
    functions::query_escape(text)
}

/// A link to the table of an expression, relative to the external URL.
pub fn table_link(expr: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=1", functions::query_escape(expr))
}

/// Lines that end before `pos`.
fn newlines(text: &str, pos: usize) -> usize {
    let before = text.as_bytes().get(..pos).unwrap_or_default();
    before.iter().filter(|b| **b == b'\n').count()
}

/// A span of ms as Go's `time.Duration` prints it.
pub(crate) fn go_duration(ms: Millis) -> String {
    format::duration(ms.saturating_mul(1_000_000))
}
