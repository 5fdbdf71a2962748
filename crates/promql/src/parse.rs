//! Text to tree: [`parse`], with Prometheus' own error texts.
//!
//! The lexer makes tokens, a Pratt parser the tree, the checker the types. All three say what
//! Prometheus 3.14 says about a wrong expression, word by word, since people search for those
//! words; and at the same place, since the UI underlines it.
//!
//! ```
//! use promql::{features::Features, parse::parse};
//!
//! let expr = parse("sum by (job) (rate(http_requests_total[5m])) > 0", &Features::default()).unwrap();
//! assert_eq!(expr.to_string(), "sum by (job) (rate(http_requests_total[5m])) > 0");
//!
//! let errors = parse("sum(rate(up))", &Features::default()).unwrap_err();
//! assert_eq!(
//!     errors.to_string(),
//!     "1:10: parse error: expected type range vector in call to function \"rate\", got instant vector"
//! );
//! ```

mod check;
mod duration;
mod expr;
mod lexer;
mod number;
mod parser;
mod selector;
mod series;
mod token;

use model::{Labels, Matcher, Str};

use crate::ast::{Expr, Span};
use crate::features::Features;
use parser::Parser;

pub(crate) use number::{parse_int, parse_number};
pub use series::{MAX_VALUES, SequenceValue, SeriesDescription, parse_series};

/// How deep parentheses, calls and the like may be nested. (Prometheus knows no such limit; the
/// stack does.)
pub const MAX_NESTING: u32 = 256;

/// How deep a tree may be: what follows each other from left to right, as `a + b + c`, is nested
/// in the tree though not in the text.
pub const MAX_DEPTH: u32 = 512;

/// Something wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where.
    pub span: Span,
    /// What, in Prometheus' words.
    pub message: String,
}

/// Everything wrong with a text, in the order it was found; shown as its first error:
/// `LINE:COL: parse error: TEXT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.first())]
pub struct ParseErrors {
    /// The text.
    pub query: Str,
    /// At least one error.
    pub errors: Vec<ParseError>,
}

impl ParseErrors {
    fn first(&self) -> String {
        match self.errors.first() {
            Some(error) => format!(
                "{}: parse error: {}",
                position(&self.query, error.span.start),
                error.message
            ),
            None => "error contains no error message".to_owned(),
        }
    }
}

/// `LINE:COL` of a byte of `query`, both from 1, columns in bytes, as error texts and annotations
/// show it.
pub fn position(query: &str, at: u32) -> String {
    if query.is_empty() {
        return "unknown position".to_owned();
    }
    let Some(before) = query.as_bytes().get(..at as usize) else {
        return "invalid position".to_owned();
    };
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|b| **b != b'\n').count();
    format!("{line}:{column}")
}

/// Reads and checks an expression.
pub fn parse(text: &str, features: &Features) -> Result<Expr, ParseErrors> {
    let mut parser = Parser::new(text, features, false)?;
    let expr = parser.whole_expression();
    match expr {
        // Types are looked at only when the text makes a tree.
        Some(mut expr) if parser.errors.is_empty() => {
            check::check(&mut expr, text, &mut parser.errors);
            parser.finish(expr)
        }
        Some(expr) => parser.finish(expr),
        None => Err(parser.into_errors()),
    }
}

/// Reads a series selector, as `match[]` and federation take it: `name{matchers}`. Whether any
/// matcher rules out the empty label set is the caller's business.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseErrors> {
    let mut parser = Parser::new(text, &Features::ALL, false)?;
    match parser.whole_selector() {
        Some(matchers) => parser.finish(matchers),
        None => Err(parser.into_errors()),
    }
}

/// Reads a label set, `name{label="value", ...}`.
pub fn parse_metric(text: &str) -> Result<Labels, ParseErrors> {
    let mut parser = Parser::new(text, &Features::ALL, false)?;
    match parser.whole_metric() {
        Some(labels) => parser.finish(labels),
        None => Err(parser.into_errors()),
    }
}

#[cfg(test)]
mod tests;
