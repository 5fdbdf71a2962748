//! PromQL: parse, plan and execute over a [`model::Source`].
//!
//! [`ast`] is what was written, with the place of every node; [`parse`](mod@parse) makes it from
//! text with Prometheus' own error texts; `plan` says what has to be done, and its passes how to do
//! less of it; `exec` does it, series-major and streaming, with the sliding windows of `kernels`.
//! [`Engine`] is all of that behind [`Evaluator`], the door that rules, api and tools use.
//!
//! ```
//! use std::sync::Arc;
//! use chunk::memory::MemorySource;
//! use model::{Labels, Sample};
//! use promql::{Engine, EngineOptions, Evaluator, InstantQuery, Value};
//!
//! let labels = Labels::from_pairs([("__name__", "requests_total"), ("job", "web")]);
//! let samples = (0..20).map(|i| Sample { ts: i * 15_000, value: i as f64 * 30.0 }).collect();
//! let source = Arc::new(MemorySource::new(vec![(labels, samples)]));
//! let pool = Arc::new(rayon::ThreadPoolBuilder::new().build().unwrap());
//! let engine = Engine::new(source, EngineOptions::default(), pool);
//!
//! let query = InstantQuery {
//!     expr: "sum by (job) (rate(requests_total[1m]))".into(),
//!     ts: 240_000,
//!     options: Default::default(),
//! };
//! let result = futures::executor::block_on(engine.instant(query)).unwrap();
//! let Value::Vector(samples) = result.value else { panic!() };
//! assert_eq!(samples[0].labels.to_string(), r#"{job="web"}"#);
//! assert!((samples[0].value - 2.0).abs() < 1e-9);
//! ```
//!
//! Useful for: finished steps from an expression. Not useful for: HTTP, JSON, storage.

mod annotations;
mod arith;
pub mod ast;
mod buckets;
mod deep;
mod elementary;
mod engine;
mod exec;
pub mod features;
pub mod functions;
mod functions_map;
mod gate;
mod grid;
mod histogram;
mod kernels;
mod labels_fn;
mod numbers;
pub mod parse;
pub mod parse_tree;
pub mod peers;
mod plan;
pub mod prettify;
mod print;
pub mod profile;
pub mod testlang;
mod timer;
pub mod value;

pub use engine::{Engine, EngineOptions, Watch};
pub use exec::operator::Description;
pub use value::{Evaluator, Explain, InstantQuery, QueryError, QueryResult, RangeQuery, Value};
