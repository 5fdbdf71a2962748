//! PromQL: parse, plan and execute over a [`model::Source`].
//!
//! `ast` is what was written, with the place of every node; `parse` makes it from text with
//! Prometheus' own error texts; `plan` says what has to be done; `exec` does it, series-major and
//! streaming. [`Evaluator`] is the door that rules, api and tools use.
//!
//! Useful for: finished steps from an expression. Not useful for: HTTP, JSON, storage.

mod annotations;
mod arith;
pub mod ast;
mod buckets;
mod engine;
mod exec;
pub mod features;
pub mod functions;
mod functions_map;
mod gate;
mod grid;
mod kernels;
mod labels_fn;
mod numbers;
pub mod parse;
pub mod parse_tree;
mod plan;
pub mod prettify;
mod print;
pub mod testlang;
mod timer;
pub mod value;

pub use engine::{Engine, EngineOptions};
pub use exec::operator::Description;
pub use value::{Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery, Value};
