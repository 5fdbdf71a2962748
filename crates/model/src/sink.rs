//! Giving samples.
//!
//! Labels are resolved to [`SeriesRef`]s once; batches of columns are appended by reference from
//! then on. One scrape is one batch, so rolling back is simply not appending.

use crate::histogram::{Histogram, InvalidHistogram};
use crate::source::Kind;
use crate::{BoxFuture, Labels, Millis};

/// Something that takes samples.
pub trait Sink: Send + Sync {
    /// The references of these series, creating those that are new. One per row, in order.
    fn resolve(&self, rows: SeriesRows) -> BoxFuture<'static, Result<Vec<SeriesRef>, SinkError>>;

    /// Appends a batch. When it returns, what was taken is acknowledged: it survives the death of
    /// this process.
    fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Appended, SinkError>>;
}

/// Series to resolve.
#[derive(Clone, Debug, Default)]
pub struct SeriesRows {
    /// The label sets.
    pub labels: Vec<Labels>,
}

/// A series of one sink. References of a generation that has ended are reported by
/// [`SinkError::Stale`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef {
    /// The sink's number of the series.
    pub id: u64,
    /// When it was given out.
    pub generation: u32,
}

/// Samples as columns. `refs`, `ts` and `values` have equal lengths.
#[derive(Debug, Default)]
pub struct Batch {
    /// Which series.
    pub refs: Vec<SeriesRef>,
    /// When, ms since the Unix epoch.
    pub ts: Vec<Millis>,
    /// What; a stale marker is [`crate::STALE_NAN`].
    pub values: Vec<f64>,
    /// Start timestamps, ms; empty when none is known, else one per sample (0: unknown).
    pub starts: Vec<Millis>,
    /// Native histograms.
    pub histograms: Vec<HistogramSample>,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
    /// Metadata that is new or has changed.
    pub metadata: Vec<SeriesMetadata>,
    /// All or nothing: the first row that is rejected rejects the batch.
    pub atomic: bool,
}

impl Batch {
    /// Adds a float sample.
    pub fn push(&mut self, series: SeriesRef, ts: Millis, value: f64) {
        self.refs.push(series);
        self.ts.push(ts);
        self.values.push(value);
    }

    /// Number of float samples.
    pub fn len(&self) -> usize {
        self.refs.len()
    }

    /// Whether the columns fit each other, as whoever takes the batch asks first.
    pub fn check_columns(&self) -> Result<(), SinkError> {
        let rows = self.refs.len();
        let starts_fit = self.starts.is_empty() || self.starts.len() == rows;
        if self.ts.len() != rows || self.values.len() != rows || !starts_fit {
            let text = "the columns of the batch differ in length";
            return Err(SinkError::failed(Kind::Invalid, text));
        }
        Ok(())
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty()
            && self.histograms.is_empty()
            && self.exemplars.is_empty()
            && self.metadata.is_empty()
    }

    /// Empties every column and keeps the memory.
    pub fn clear(&mut self) {
        self.refs.clear();
        self.ts.clear();
        self.values.clear();
        self.starts.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata.clear();
        self.atomic = false;
    }
}

/// A native histogram of a series at a time. A stale marker is [`crate::STALE_NAN`] as its sum.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    /// Which series.
    pub series: SeriesRef,
    /// When, ms since the Unix epoch.
    pub ts: Millis,
    /// Start timestamp, ms; 0: unknown.
    pub start: Millis,
    /// What.
    pub value: Histogram,
}

/// An exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Which series.
    pub series: SeriesRef,
    /// Its own labels (trace id, ...).
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// Its time, ms.
    pub ts: Millis,
    /// Whether that was told; otherwise it is the time of the scrape, and the same exemplar at
    /// another time is the same.
    pub timed: bool,
}

/// Type, unit and help of a series' metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesMetadata {
    /// Which series.
    pub series: SeriesRef,
    /// What is known.
    pub metadata: crate::report::Metadata,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Appended {
    /// Float samples taken.
    pub samples: usize,
    /// Native histograms taken.
    pub histograms: usize,
    /// Exemplars taken.
    pub exemplars: usize,
    /// Rows that were not taken.
    pub rejected: Vec<Rejected>,
    /// The batch's buffers, emptied, to be used again.
    pub batch: Batch,
}

/// A row that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which of the batch's lists it stands in.
    pub column: Column,
    /// Its place there.
    pub row: usize,
    /// Why.
    pub reason: Reject,
}

/// The lists of a [`Batch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Column {
    /// Float samples.
    #[default]
    Floats,
    /// Native histograms.
    Histograms,
    /// Exemplars.
    Exemplars,
}

/// Why a sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    /// There is a newer sample.
    #[error("out of order sample")]
    OutOfOrder,
    /// There is another value at that time.
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// Older than the head can take.
    #[error("out of bounds")]
    OutOfBounds,
    /// Older than the out-of-order window.
    #[error("too old sample")]
    TooOld,
    /// Further in the future than is believed.
    #[error("too far in the future")]
    TooFarInFuture,
    /// It is no histogram.
    #[error(transparent)]
    InvalidHistogram(#[from] InvalidHistogram),
    /// There is a newer exemplar.
    #[error("out of order exemplar")]
    ExemplarOutOfOrder,
    /// Its labels have too many characters.
    #[error("label length for exemplar exceeds maximum of 128 UTF-8 characters")]
    ExemplarLabels,
}

/// Why nothing was taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SinkError {
    /// These rows' references have expired: resolve them again. Places in the floats, and counted on
    /// behind them the places in the histograms.
    #[error("{} series references have expired", .0.len())]
    Stale(Vec<usize>),
    /// An atomic batch had a row that cannot be taken.
    #[error("row {}: {}", .0.row, .0.reason)]
    Rejected(Rejected),
    /// Anything else.
    #[error("{message}")]
    Failed {
        /// What can be done about it.
        kind: Kind,
        /// What, where, and the remedy.
        message: String,
    },
}

impl SinkError {
    /// An error of `kind`.
    pub fn failed(kind: Kind, message: impl Into<String>) -> Self {
        Self::Failed {
            kind,
            message: message.into(),
        }
    }
}
