//! Asking for series.
//!
//! A [`Source`] is opened once per query; the [`View`] it gives pins head isolation, block set
//! and endpoint set for all selectors of that query. `select` answers with [`Rows`]: either
//! cursors (CPU only) or a stream (waits for I/O), both of which yield [`SeriesBatch`]es: labels
//! as symbols of the query's one table, chunks as references into a few shared buffers. Nobody
//! but the query engine opens the chunks.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    BoxFuture, BoxStream, Labels, Matcher, Millis, OverBudget, Reservation, Scope, Stopped, Str,
    Symbol, Symbols, TimeRange,
};

/// Something that can be asked for series.
pub trait Source: Send + Sync {
    /// Pins what a query will see. Cheap; released on drop.
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError>;

    /// What can be in here, for pruning.
    fn extent(&self) -> Arc<Extent>;
}

/// A source as one query sees it.
pub trait View: Send + Sync {
    /// The series that match, with the chunks that overlap the range.
    fn select(&self, select: Select) -> Rows;

    /// The label names of the series that match, ascending.
    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>;

    /// The values of label `name` of the series that match, ascending.
    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>;
}

/// What can be in a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extent {
    /// Label sets that every series of a part carries, with the part's time range. Empty: nothing
    /// is known, so nothing can be pruned.
    pub parts: Vec<(Labels, TimeRange)>,
    /// What the source understands of a [`Select`].
    pub capabilities: Capabilities,
}

impl Extent {
    /// Whether a series of this extent could lie in `range` and satisfy `matchers`.
    pub fn may_hold(&self, range: TimeRange, matchers: &[Matcher]) -> bool {
        self.parts.is_empty()
            || self.parts.iter().any(|(labels, part)| {
                part.overlaps(range)
                    && matchers
                        .iter()
                        .all(|m| labels.get(&m.name).is_none_or(|value| m.matches(value)))
            })
    }
}

/// What a source does with the finer points of a [`Select`]. Whoever asks does the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Obeys `Hints::shard`.
    pub sharding: bool,
    /// Obeys `Order::ByLabels::without`.
    pub without_labels: bool,
    /// Obeys `Hints::projection`.
    pub projection: bool,
}

/// One selector's question.
#[derive(Clone, Debug)]
pub struct Select {
    /// All must match. At least one does not match the empty string, except from tools.
    pub matchers: Vec<Matcher>,
    /// Chunks that overlap this range are wanted (whole: they may reach beyond it).
    pub range: TimeRange,
    /// In which order series must come.
    pub order: Order,
    /// What the answer is for.
    pub hints: Hints,
    /// The coarsest downsampled resolution that will do, ms; 0 means raw only.
    pub max_resolution: Millis,
    /// Which aggregates are wanted of downsampled data (bits of [`Aggregate`]).
    pub aggregates: u8,
    /// No chunks: labels only.
    pub skip_chunks: bool,
}

impl Select {
    /// Raw samples of the series that match, in any order, without hints.
    pub fn new(matchers: Vec<Matcher>, range: TimeRange) -> Self {
        Self {
            matchers,
            range,
            order: Order::Any,
            hints: Hints::default(),
            max_resolution: 0,
            aggregates: Aggregate::Raw as u8,
            skip_chunks: false,
        }
    }
}

/// The column of a downsampled chunk. The values are bits of [`Select::aggregates`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it: Thanos' Aggr values")]
pub enum Aggregate {
    #[default]
    Raw = 1,
    Count = 2,
    Sum = 4,
    Min = 8,
    Max = 16,
    Counter = 32,
}

/// The order of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Any order; each series comes once.
    #[default]
    Any,
    /// Ascending by labels, after the labels named in `without` were removed. Series that become
    /// equal by that follow each other; each keeps its own lanes.
    ByLabels {
        /// Labels to remove (replica labels).
        without: Vec<Str>,
    },
}

/// What an answer is for. A source may use or ignore every hint but `limit`, which it may only
/// use where it would not change which series are complete.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    /// The function or aggregation that eats the samples.
    pub func: Option<Str>,
    /// Range of a range selector, ms.
    pub range: Millis,
    /// Step of a range query, ms; 0 for instant queries.
    pub step: Millis,
    /// `by` (true) or `without` (false) and the labels of the aggregation around the selector.
    pub grouping: Option<(bool, Vec<Str>)>,
    /// Which labels are needed. Series stay apart even where their projections are equal.
    pub projection: Projection,
    /// Take only one part of the series.
    pub shard: Option<Shard>,
    /// At most this many series; 0 means all.
    pub limit: usize,
}

/// Which labels of a series are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Projection {
    /// All of them.
    #[default]
    All,
    /// Only these.
    Include(Vec<Str>),
    /// All but these.
    Exclude(Vec<Str>),
}

impl Projection {
    /// Whether the label `name` is wanted.
    pub fn keeps(&self, name: &str) -> bool {
        match self {
            Projection::All => true,
            Projection::Include(names) => names.iter().any(|n| **n == *name),
            Projection::Exclude(names) => names.iter().all(|n| **n != *name),
        }
    }
}

/// One part of a set of series: those whose hash over some labels is `index` modulo `total`.
/// The hash is Thanos': xxh64 over `name 0xff value 0xff` of the labels in (`by`) or not in
/// `labels`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0.
    pub index: u64,
    /// How many parts there are.
    pub total: u64,
    /// Whether `labels` are the ones that count, or those that do not.
    pub by: bool,
    /// Label names.
    pub labels: Vec<Str>,
}

impl Shard {
    /// Whether a series with these labels (sorted by name; without those that an order removes)
    /// belongs to this part. `scratch` is memory to work in. No total means no parts: all belong.
    pub fn owns<'a>(
        &self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        scratch: &mut Vec<u8>,
    ) -> bool {
        if self.total <= 1 {
            return true;
        }
        scratch.clear();
        for (name, value) in labels {
            if self.labels.iter().any(|l| **l == *name) == self.by {
                scratch.extend_from_slice(name.as_bytes());
                scratch.push(0xff);
                scratch.extend_from_slice(value.as_bytes());
                scratch.push(0xff);
            }
        }
        xxhash_rust::xxh64::xxh64(scratch, 0) % self.total == self.index
    }
}

/// The question of a label request.
#[derive(Clone, Debug)]
pub struct LabelSelect {
    /// All must match; may be empty.
    pub matchers: Vec<Matcher>,
    /// Only series that may have samples in here.
    pub range: TimeRange,
    /// At most this many answers; 0 means all.
    pub limit: usize,
}

/// A value with what has to be said about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer<T> {
    /// The value.
    pub value: T,
    /// Warnings, each once.
    pub warnings: Vec<Str>,
}

impl<T> From<T> for Answer<T> {
    fn from(value: T) -> Self {
        Self {
            value,
            warnings: Vec::new(),
        }
    }
}

/// The series of one select.
pub enum Rows {
    /// CPU only: disjoint, may be run in parallel.
    Cursors(Vec<Box<dyn Cursor>>),
    /// Waits for I/O. Ends after its first error.
    Stream(BoxStream<'static, Result<SeriesBatch, SourceError>>),
}

impl Rows {
    /// No series.
    pub fn empty() -> Self {
        Rows::Cursors(Vec::new())
    }
}

/// Yields batches without ever waiting. Runs on the CPU pool.
pub trait Cursor: Send {
    /// The next batch; none at the end.
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError>;

    /// What the next batch will hold at most, if that is found out in a few dozen microseconds: a
    /// little is read at once by whoever asks, instead of on the CPU pool.
    fn ahead(&mut self) -> Option<Ahead> {
        None
    }

    /// Where the batch given last stands among those of all cursors of the select, if these take
    /// from one list: no two batches have the same number, and those of one cursor ascend. With
    /// numbers, what is made of all batches does not depend on which cursor was given which.
    fn number(&self) -> Option<u64> {
        None
    }
}

/// What comes next of a [`Cursor`], about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// How many series at most.
    pub series: usize,
    /// Bytes to read for them, of index and chunks.
    pub bytes: usize,
}

/// How a chunk's bytes are encoded: the encoding byte of a TSDB block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoding(pub u8);

impl Encoding {
    /// Gorilla XOR floats.
    pub const XOR: Encoding = Encoding(1);
    /// Integer native histograms.
    pub const HISTOGRAM: Encoding = Encoding(2);
    /// Float native histograms.
    pub const FLOAT_HISTOGRAM: Encoding = Encoding(3);
    /// XOR floats with start timestamps.
    pub const XOR2: Encoding = Encoding(4);
    /// Integer native histograms with start timestamps.
    pub const HISTOGRAM_ST: Encoding = Encoding(5);
    /// Float native histograms with start timestamps.
    pub const FLOAT_HISTOGRAM_ST: Encoding = Encoding(6);
    /// Thanos' aggregate chunk of downsampled blocks.
    pub const AGGREGATE: Encoding = Encoding(0xff);
}

/// A chunk somewhere in the buffers of a [`SeriesBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// First sample's timestamp, ms.
    pub min: Millis,
    /// Last sample's timestamp, ms.
    pub max: Millis,
    /// How the bytes are encoded.
    pub encoding: Encoding,
    /// Which column of downsampled data it is.
    pub aggregate: Aggregate,
    /// Which replica of the data it belongs to. Within a lane overlapping chunks are united by
    /// timestamp; across lanes replicas are deduplicated.
    pub lane: u16,
    /// Which buffer of the batch.
    pub buffer: u32,
    /// First byte.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
}

/// One series of a batch: where its labels and chunks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesEntry {
    /// End of its labels in [`SeriesBatch::labels`]; they start where the previous entry's end.
    pub labels_end: u32,
    /// End of its chunks in [`SeriesBatch::chunks`].
    pub chunks_end: u32,
}

/// A few series (64 to 256 for range queries, thousands for instant ones).
#[derive(Debug, Default)]
pub struct SeriesBatch {
    /// One entry a series.
    pub series: Vec<SeriesEntry>,
    /// Label pairs of all series, each series' sorted by name; symbols of the scope's table.
    pub labels: Vec<(Symbol, Symbol)>,
    /// Chunk references of all series, each series' sorted by (lane, min, max).
    pub chunks: Vec<ChunkRef>,
    /// What the chunk references point into.
    pub buffers: Vec<Bytes>,
    /// What has to be said about these series.
    pub warnings: Vec<Str>,
    /// The memory they hold.
    pub reservation: Option<Reservation>,
}

impl SeriesBatch {
    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The labels of series `i`.
    pub fn labels_of(&self, i: usize) -> &[(Symbol, Symbol)] {
        let start = if i == 0 {
            0
        } else {
            self.series[i - 1].labels_end as usize
        };
        &self.labels[start..self.series[i].labels_end as usize]
    }

    /// The chunks of series `i`.
    pub fn chunks_of(&self, i: usize) -> &[ChunkRef] {
        let start = if i == 0 {
            0
        } else {
            self.series[i - 1].chunks_end as usize
        };
        &self.chunks[start..self.series[i].chunks_end as usize]
    }

    /// The bytes of a chunk of this batch; empty if the reference points outside.
    pub fn bytes_of(&self, chunk: &ChunkRef) -> &[u8] {
        let (start, len) = (chunk.offset as usize, chunk.len as usize);
        self.buffers
            .get(chunk.buffer as usize)
            .and_then(|b| b.get(start..start.checked_add(len)?))
            .unwrap_or_default()
    }

    /// Ends a series: labels and chunks pushed since the last call are its own.
    pub fn finish_series(&mut self) {
        self.series.push(SeriesEntry {
            labels_end: self.labels.len() as u32,
            chunks_end: self.chunks.len() as u32,
        });
    }

    /// The label set of series `i`, with its strings taken from `symbols`.
    pub fn label_set(&self, i: usize, symbols: &Symbols) -> Labels {
        symbols.labels(self.labels_of(i))
    }
}

/// What whoever asked can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It does not exist.
    NotFound,
    /// The question is wrong.
    Invalid,
    /// Try again later.
    Unavailable,
    /// A limit was hit: ask for less.
    Limit,
    /// The data is damaged.
    Corrupt,
    /// Whoever asked has gone.
    Cancelled,
    /// It took too long.
    Timeout,
    /// A defect of ours.
    Internal,
}

/// Why a source could not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What can be done about it.
    pub kind: Kind,
    /// What, where, and the remedy.
    pub message: String,
}

impl SourceError {
    /// An error of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl From<OverBudget> for SourceError {
    fn from(e: OverBudget) -> Self {
        Self::new(Kind::Limit, e.to_string())
    }
}

impl From<Stopped> for SourceError {
    fn from(e: Stopped) -> Self {
        let kind = match e {
            Stopped::Cancelled => Kind::Cancelled,
            Stopped::Deadline => Kind::Timeout,
        };
        Self::new(kind, e.to_string())
    }
}
