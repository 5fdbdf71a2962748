//! The words of the house, and the seams between its rooms.
//!
//! Three traits carry everything: [`Source`] is asked for series, [`Sink`] is given samples, and
//! `promql::Evaluator` (one floor up) turns an expression into steps. A query opens one [`View`]
//! of a source; the view pins what it sees, and its [`Scope`] carries deadline, cancellation,
//! budget and the symbol table that all its answers share.
//!
//! ```
//! use model::{Labels, Matcher, MatchOp};
//!
//! let series = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
//! let matcher = Matcher::new(MatchOp::Regex, "job", "no.+").unwrap();
//! assert!(matcher.matches(series.get("job").unwrap_or("")));
//! ```
//!
//! Useful for: anything two rooms say to each other. Not useful for: bytes on disk (`block`,
//! `tsdb`), bytes on the network (`wire`), or anything that waits.

pub mod budget;
pub mod escaping;
pub mod histogram;
pub mod labels;
pub mod matcher;
pub mod owner;
pub mod regex;
pub mod relabel;
pub mod report;
pub mod sample;
pub mod scope;
pub mod settings;
pub mod sink;
pub mod source;
pub mod symbols;
pub mod text;
pub mod time;

pub use budget::{Budget, OverBudget, Reservation};
pub use labels::{Labels, LabelsBuilder, METRIC_NAME};
pub use matcher::{MatchOp, Matcher};
pub use sample::{STALE_NAN, Sample, is_stale};
pub use scope::{Cancel, Scope, Statistics, Stopped};
pub use sink::{Appended, Batch, Reject, Rejected, SeriesRef, SeriesRows, Sink, SinkError};
pub use source::{
    Answer, Capabilities, ChunkRef, Cursor, Encoding, Extent, Hints, Kind, LabelSelect, Order,
    Projection, Rows, Select, SeriesBatch, SeriesEntry, Source, SourceError, View,
};
pub use symbols::{Symbol, Symbols};
pub use time::{Millis, TimeRange};

/// A shared, immutable string.
pub type Str = std::sync::Arc<str>;

/// A boxed future, as the seams return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// A boxed stream, as the seams return it.
pub type BoxStream<'a, T> = std::pin::Pin<Box<dyn futures_core::Stream<Item = T> + Send + 'a>>;
