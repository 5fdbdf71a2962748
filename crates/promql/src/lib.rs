//! PromQL: parse, plan and execute over a [`model::Source`].
//!
//! `ast` is what was written, with the place of every node; `parse` makes it from text with
//! Prometheus' own error texts; `plan` says what has to be done; `exec` does it, series-major and
//! streaming. [`Evaluator`] is the door that rules, api and tools use.
//!
//! Useful for: finished steps from an expression. Not useful for: HTTP, JSON, storage.

pub mod ast;
pub mod features;
pub mod functions;
pub mod parse;
pub mod prettify;
mod print;
pub mod testlang;
pub mod value;

pub use value::{Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery, Value};
