//! What an expression evaluates to, and the door to evaluating it.

use std::sync::Arc;

use model::histogram::FloatHistogram;
use model::{BoxFuture, Labels, Millis, Scope, Str};

use crate::exec::operator::Description;
use crate::profile::{Profile, Profiling};

/// Answers expressions: the engine, an HTTP or gRPC client, a frontend.
pub trait Evaluator: Send + Sync {
    /// Evaluates at one time.
    fn instant(&self, query: InstantQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>>;

    /// Evaluates at `start, start + step, ... <= end`.
    fn range(&self, query: RangeQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>>;

    /// The plan that would answer, without running it; `None` if this evaluator shows none.
    fn explain(&self, query: &Explain) -> Option<Result<Description, QueryError>> {
        let _ = query;
        None
    }
}

/// An expression at one time.
#[derive(Clone, Debug)]
pub struct InstantQuery {
    /// The expression.
    pub expr: Str,
    /// When, ms.
    pub ts: Millis,
    /// How it is to be evaluated.
    pub options: QueryOptions,
}

/// An expression on a grid.
#[derive(Clone, Debug)]
pub struct RangeQuery {
    /// The expression.
    pub expr: Str,
    /// First step, ms.
    pub start: Millis,
    /// Last step at the latest, ms.
    pub end: Millis,
    /// Distance of steps, ms; positive.
    pub step: Millis,
    /// How it is to be evaluated.
    pub options: QueryOptions,
}

/// A query whose plan is asked for.
#[derive(Clone, Debug)]
pub struct Explain {
    /// The expression.
    pub expr: Str,
    /// First step, ms; the time of an instant query.
    pub start: Millis,
    /// Last step at the latest, ms.
    pub end: Millis,
    /// Distance of steps, ms; `None` for an instant query.
    pub step: Option<Millis>,
    /// How it would be evaluated.
    pub options: QueryOptions,
}

/// What a single query may set.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// How far back an instant selector looks, ms; `None`: the engine's default.
    pub lookback: Option<Millis>,
    /// How long it may take; `None`: the engine's default.
    pub timeout: Option<std::time::Duration>,
    /// Ends it early.
    pub cancel: model::Cancel,
    /// What is to be measured.
    pub profiling: Profiling,
    /// Whose data is asked for.
    pub tenant: Option<Str>,
    /// What to do when a part of the data cannot be had.
    pub partial_response: model::scope::PartialResponse,
    /// How the answers of many stores are brought together.
    pub gather: model::scope::Gather,
    /// Who asks.
    pub origin: Origin,
}

/// Who asks a query, for the log of queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody of whom anything is known.
    #[default]
    Unknown,
    /// A request.
    Request {
        /// The address that it came from, without port.
        client: Str,
        /// Its method.
        method: Str,
        /// Its path.
        path: Str,
    },
    /// A rule group.
    RuleGroup {
        /// The file that defines it.
        file: Str,
        /// Its name.
        name: Str,
    },
}

/// The answer to a query.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// The value.
    pub value: Value,
    /// Warnings, as the API shows them (`PromQL warning: ...`), each once.
    pub warnings: Vec<Str>,
    /// Infos, likewise.
    pub infos: Vec<Str>,
    /// Its memory, held until this is dropped, if the evaluator knows.
    pub scope: Option<Arc<Scope>>,
    /// What it took, if that was asked for and the evaluator knows.
    pub profile: Option<Arc<Profile>>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number at a time.
    Scalar(Millis, f64),
    /// A text at a time.
    String(Millis, String),
    /// Series with one sample each, in the order of evaluation.
    Vector(Vec<InstantSample>),
    /// Series with samples, ascending by labels.
    Matrix(Vec<RangeSeries>),
}

/// A series with one sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstantSample {
    /// Its labels.
    pub labels: Labels,
    /// The sample's time, ms.
    pub ts: Millis,
    /// Its value; 0 where there is a histogram.
    pub value: f64,
    /// Its native histogram, if it is one.
    pub histogram: Option<Arc<FloatHistogram>>,
}

/// A native histogram as Prometheus prints it: `{count:3, sum:4.5, (1,2]:3}`.
pub fn histogram_text(h: &FloatHistogram) -> String {
    crate::histogram::text::text(&crate::histogram::Histogram::of_float(h))
}

/// A series with samples: floats as columns of equal length, native histograms apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeSeries {
    /// Its labels.
    pub labels: Labels,
    /// Times of floats, ms, ascending.
    pub ts: Vec<Millis>,
    /// Values.
    pub values: Vec<f64>,
    /// Native histograms with their times, ms, ascending; none of them a float's.
    pub histograms: Vec<(Millis, Arc<FloatHistogram>)>,
}

/// Why a query has no answer. The API turns the variant into `errorType`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The expression or a parameter is wrong (`bad_data`).
    #[error("{0}")]
    BadData(String),
    /// It failed while it ran (`execution`).
    #[error("{0}")]
    Execution(String),
    /// Whoever asked has gone (`canceled`).
    #[error("query was canceled in {0}")]
    Canceled(&'static str),
    /// It took too long (`timeout`).
    #[error("query timed out in {0}")]
    Timeout(&'static str),
    /// The data cannot be had now (`unavailable`).
    #[error("{0}")]
    Unavailable(String),
    /// A defect (`internal`).
    #[error("{0}")]
    Internal(String),
}
