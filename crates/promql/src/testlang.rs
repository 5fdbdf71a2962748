//! The `.test` language: scripts that load series, evaluate queries and say what must come out.
//!
//! It is the language of Prometheus' conformance corpus (`promql/promqltest`), so that its files
//! run here unchanged, and of behaviour tests of our own. A [`Backend`] makes an evaluator over the
//! series that a script has loaded; [`run`] does the rest and says how each `eval` went.
//!
//! Every instant `eval` is run again in two ways, which must give the same: with the evaluation
//! time written into the query (`@`), at other times; and as the middle step of a range query.
//!
//! ```
//! use std::sync::Arc;
//! use promql::testlang::{Backend, Series, run};
//!
//! struct None;
//! impl Backend for None {
//!     fn evaluator(&self, _: &[Series]) -> Result<Arc<dyn promql::Evaluator>, String> {
//!         Err("not implemented: any engine".to_owned())
//!     }
//! }
//!
//! let report = run("load 1m\n  up 1 0\n\neval instant at 1m up\n  up 0\n", "up.test", &None);
//! assert_eq!(report.counts().not_implemented, 1);
//! ```

mod engine;
mod judge;
mod nhcb;
mod report;
mod rerun;
mod run;
mod script;
mod start_times;

use std::sync::Arc;

use model::histogram::FloatHistogram;
use model::{Labels, Millis};

use crate::value::Evaluator;

pub use engine::OverEngine;
pub use report::{Case, Counts, Outcome, Report, text_report};
pub use run::run;

/// A loaded series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its samples, ascending by time.
    pub samples: Vec<LoadedSample>,
}

/// A sample of a loaded series.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedSample {
    /// Its time, ms since the Unix epoch.
    pub ts: Millis,
    /// Its start timestamp, ms; 0: none.
    pub start: Millis,
    /// What was observed.
    pub value: LoadedValue,
}

/// The value of a loaded sample.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadedValue {
    /// A number; may be the stale marker.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// Makes evaluators for scripts.
pub trait Backend {
    /// An evaluator over exactly `series` (ascending by labels, each label set once), with the
    /// settings that the corpus assumes: the whole language ([`crate::features::Features::ALL`]),
    /// delayed name removal and start timestamps on, lookback 5m, subquery step 1m, at most 10000
    /// samples a query.
    ///
    /// An error whose text begins with `not implemented` (here, or of a query) counts as such.
    fn evaluator(&self, series: &[Series]) -> Result<Arc<dyn Evaluator>, String>;
}

#[cfg(test)]
mod tests;
