//! A source and a sink that live in memory: for tests of whatever stands on the seams.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::sink::Column;
use model::source::{Aggregate, Capabilities};
use model::{
    Answer, Appended, Batch, BoxFuture, ChunkRef, Cursor, Extent, LabelSelect, Labels, Matcher,
    Millis, Order, Reject, Rejected, Rows, Sample, Scope, Select, SeriesBatch, SeriesRef,
    SeriesRows, Sink, SinkError, Source, SourceError, Str, TimeRange, View, is_stale,
};

use crate::chunker::CHUNK_SAMPLES;
use crate::{Chunker, EncodedChunk, HistogramRow};

/// Series in a batch.
const BATCH_SERIES: usize = 64;

/// A series with everything that is stored of it.
#[derive(Clone, Debug, Default)]
pub struct StoredSeries {
    /// Its labels.
    pub labels: Labels,
    /// Its floats, ascending.
    pub floats: Vec<Sample>,
    /// Their start timestamps, ms (0: unknown); empty when none is known, else one per float.
    pub starts: Vec<Millis>,
    /// Its histograms, ascending; none has the timestamp of a float.
    pub histograms: Vec<HistogramRow>,
}

impl StoredSeries {
    /// A series of floats.
    pub fn floats(labels: Labels, floats: Vec<Sample>) -> Self {
        Self {
            labels,
            floats,
            ..Self::default()
        }
    }

    /// A series of histograms.
    pub fn histograms(labels: Labels, histograms: Vec<HistogramRow>) -> Self {
        Self {
            labels,
            histograms,
            ..Self::default()
        }
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// Its samples as chunks of at most 120 samples, in their order.
    ///
    /// # Panics
    /// If a histogram's number of buckets is not what its spans say.
    pub fn chunks(&self) -> Vec<EncodedChunk> {
        self.chunks_of(CHUNK_SAMPLES)
    }

    /// Its samples as chunks of at most so many samples, in their order.
    ///
    /// # Panics
    /// If a histogram's number of buckets is not what its spans say.
    #[expect(
        clippy::expect_used,
        reason = "for tests, which say what is wrong by panicking"
    )]
    pub fn chunks_of(&self, samples: usize) -> Vec<EncodedChunk> {
        let mut chunker = Chunker::default();
        chunker.set_limit(samples);
        let mut histograms = self.histograms.iter().peekable();
        for (i, s) in self.floats.iter().enumerate() {
            while let Some(h) = histograms.next_if(|h| h.ts < s.ts) {
                chunker.histogram(h).expect("buckets that fit their spans");
            }
            let start = self.starts.get(i).copied().unwrap_or(0);
            chunker.float(s.ts, start, s.value);
        }
        for h in histograms {
            chunker.histogram(h).expect("buckets that fit their spans");
        }
        chunker.finish()
    }
}

/// Series in memory, as chunks of at most 120 samples.
#[derive(Clone, Debug)]
pub struct MemorySource {
    series: Arc<Vec<Stored>>,
    stream: bool,
}

#[derive(Debug)]
struct Stored {
    labels: Labels,
    chunks: Vec<EncodedChunk>,
}

impl Stored {
    fn overlapping(&self, range: TimeRange) -> impl Iterator<Item = &EncodedChunk> {
        self.chunks.iter().filter(move |c| c.range.overlaps(range))
    }

    fn matches(&self, matchers: &[Matcher], range: TimeRange) -> bool {
        matchers
            .iter()
            .all(|m| m.matches(self.labels.get(&m.name).unwrap_or("")))
            && self.overlapping(range).next().is_some()
    }
}

impl MemorySource {
    /// A source of these series; the samples of each ascend. Equal label sets become one series.
    pub fn new(series: Vec<(Labels, Vec<Sample>)>) -> Self {
        let floats = |(labels, floats)| StoredSeries::floats(labels, floats);
        Self::with_histograms(series.into_iter().map(floats).collect())
    }

    /// The same of series that may have histograms and start timestamps.
    pub fn with_histograms(series: Vec<StoredSeries>) -> Self {
        let mut by_labels: BTreeMap<Labels, BTreeMap<Millis, Stamped>> = BTreeMap::new();
        for one in series {
            let of_labels = by_labels.entry(one.labels).or_default();
            for (i, s) in one.floats.iter().enumerate() {
                let start = one.starts.get(i).copied().unwrap_or(0);
                let float = Stamped::Float(s.value, start);
                of_labels.entry(s.ts).or_insert(float);
            }
            for h in one.histograms {
                of_labels.entry(h.ts).or_insert(Stamped::Histogram(h));
            }
        }
        let series = by_labels.into_iter().map(|(labels, samples)| {
            let mut one = StoredSeries::floats(labels, Vec::new());
            for (ts, sample) in samples {
                match sample {
                    Stamped::Float(value, start) => {
                        one.floats.push(Sample { ts, value });
                        one.starts.push(start);
                    }
                    Stamped::Histogram(h) => one.histograms.push(h),
                }
            }
            Stored {
                chunks: one.chunks(),
                labels: one.labels,
            }
        });
        Self {
            series: Arc::new(series.collect()),
            stream: false,
        }
    }

    /// The same source, answering [`Rows::Stream`] (or, again, [`Rows::Cursors`]).
    pub fn answering_streams(mut self, yes: bool) -> Self {
        self.stream = yes;
        self
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

/// The value of a sample, with its start timestamp.
#[derive(Clone)]
enum Stamped {
    Float(f64, Millis),
    Histogram(HistogramRow),
}

impl Stamped {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a, _), Self::Float(b, _)) => a.to_bits() == b.to_bits(),
            (Self::Histogram(a), Self::Histogram(b)) => {
                a.value == b.value || is_stale(a.value.sum()) && is_stale(b.value.sum())
            }
            _ => false,
        }
    }
}

impl Source for MemorySource {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(MemoryView {
            source: self.clone(),
            scope,
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        let range = self
            .series
            .iter()
            .flat_map(|s| &s.chunks)
            .fold(TimeRange::EMPTY, |all, c| all.union(c.range));
        Arc::new(Extent {
            parts: vec![(Labels::default(), range)],
            capabilities: Capabilities {
                sharding: true,
                without_labels: true,
                projection: true,
            },
        })
    }
}

struct MemoryView {
    source: MemorySource,
    scope: Arc<Scope>,
}

impl MemoryView {
    fn names(
        &self,
        select: &LabelSelect,
        pick: impl Fn(&Labels, &mut BTreeSet<Str>),
    ) -> Result<Answer<Vec<Str>>, SourceError> {
        self.scope.check()?;
        let mut found = BTreeSet::new();
        for series in self.source.series.iter() {
            if series.matches(&select.matchers, select.range) {
                pick(&series.labels, &mut found);
            }
        }
        let limit = if select.limit == 0 {
            usize::MAX
        } else {
            select.limit
        };
        Ok(found.into_iter().take(limit).collect::<Vec<_>>().into())
    }
}

impl View for MemoryView {
    fn select(&self, select: Select) -> Rows {
        let stream = self.source.stream;
        let mut cursor = MemoryCursor {
            source: self.source.clone(),
            scope: Arc::clone(&self.scope),
            select,
            found: None,
        };
        if !stream {
            return Rows::Cursors(vec![Box::new(cursor)]);
        }
        let mut over = false;
        Rows::Stream(Box::pin(futures::stream::iter(std::iter::from_fn(
            move || {
                if over {
                    return None;
                }
                let next = cursor.next().transpose();
                over = !matches!(next, Some(Ok(_)));
                next
            },
        ))))
    }

    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        let found = self.names(&select, |labels, found| {
            found.extend(labels.iter().map(|(n, _)| Str::from(n)));
        });
        Box::pin(std::future::ready(found))
    }

    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        let found = self.names(&select, |labels, found| {
            found.extend(labels.get(&name).map(Str::from));
        });
        Box::pin(std::future::ready(found))
    }
}

struct MemoryCursor {
    source: MemorySource,
    scope: Arc<Scope>,
    select: Select,
    /// What is still to come: the labels to show and the place of the series.
    found: Option<std::vec::IntoIter<(Labels, usize)>>,
}

impl MemoryCursor {
    fn find(&self) -> Vec<(Labels, usize)> {
        let select = &self.select;
        let without: &[Str] = match &select.order {
            Order::Any => &[],
            Order::ByLabels { without } => without,
        };
        let mut scratch = Vec::new();
        let mut found: Vec<(Labels, usize)> = Vec::new();
        for (i, series) in self.source.series.iter().enumerate() {
            if !series.matches(&select.matchers, select.range) {
                continue;
            }
            let shown = Labels::from_sorted(
                series
                    .labels
                    .iter()
                    .filter(|(n, _)| without.iter().all(|w| **w != **n)),
            );
            let shard = select.hints.shard.as_ref();
            if shard.is_none_or(|s| s.owns(shown.iter(), &mut scratch)) {
                found.push((shown, i));
            }
        }
        found.sort();
        if select.hints.limit > 0 {
            found.truncate(select.hints.limit);
        }
        for (shown, _) in &mut found {
            *shown = Labels::from_sorted(
                shown
                    .iter()
                    .filter(|(n, _)| select.hints.projection.keeps(n)),
            );
        }
        found
    }
}

impl Cursor for MemoryCursor {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        self.scope.check()?;
        let mut found = match self.found.take() {
            Some(found) => found,
            None => self.find().into_iter(),
        };
        let mut batch = SeriesBatch::default();
        let mut buffer = Vec::new();
        let mut reservation = self.scope.budget.reserve("series", 0)?;
        for (labels, i) in found.by_ref().take(BATCH_SERIES) {
            self.scope.symbols.intern_labels(&labels, &mut batch.labels);
            let series = &self.source.series[i];
            if !self.select.skip_chunks {
                for chunk in series.overlapping(self.select.range) {
                    batch.chunks.push(ChunkRef {
                        min: chunk.range.min,
                        max: chunk.range.max,
                        encoding: chunk.encoding,
                        aggregate: Aggregate::Raw,
                        lane: 0,
                        buffer: 0,
                        offset: buffer.len() as u32,
                        len: chunk.data.len() as u32,
                    });
                    buffer.extend_from_slice(&chunk.data);
                }
            }
            batch.finish_series();
        }
        self.found = Some(found);
        if batch.is_empty() {
            return Ok(None);
        }
        let bytes = buffer.len()
            + batch.labels.len() * size_of::<(model::Symbol, model::Symbol)>()
            + batch.chunks.len() * size_of::<ChunkRef>();
        reservation.grow("series", bytes as u64)?;
        batch.reservation = Some(reservation);
        batch.buffers.push(buffer.into());
        Ok(Some(batch))
    }
}

/// A sink in memory: samples of a series must ascend.
#[derive(Debug, Default)]
pub struct MemorySink {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    generation: u32,
    ids: HashMap<Labels, u64>,
    series: Vec<StoredSeries>,
    exemplars: usize,
    metadata: usize,
}

impl MemorySink {
    /// An empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every reference given out so far expire; samples stay.
    pub fn expire(&self) {
        self.state().generation += 1;
    }

    /// The floats of every series that has any.
    pub fn series(&self) -> BTreeMap<Labels, Vec<Sample>> {
        let state = self.state();
        let floats = state.series.iter().filter(|s| !s.floats.is_empty());
        floats
            .map(|s| (s.labels.clone(), s.floats.clone()))
            .collect()
    }

    /// Every series that has floats or histograms.
    pub fn stored(&self) -> Vec<StoredSeries> {
        let state = self.state();
        state
            .series
            .iter()
            .filter(|s| !s.is_empty())
            .cloned()
            .collect()
    }

    /// The floats of one series; empty if it is not known. Stale markers are among them.
    pub fn samples(&self, labels: &Labels) -> Vec<Sample> {
        self.one(labels).floats
    }

    /// The histograms of one series; empty if it is not known. Stale markers are among them.
    pub fn histograms(&self, labels: &Labels) -> Vec<HistogramRow> {
        self.one(labels).histograms
    }

    fn one(&self, labels: &Labels) -> StoredSeries {
        let state = self.state();
        let id = state.ids.get(labels).copied();
        id.and_then(|id| state.series.get(id as usize))
            .cloned()
            .unwrap_or_default()
    }

    /// How many stale markers there are.
    pub fn stale_markers(&self) -> usize {
        let state = self.state();
        let floats = state.series.iter().flat_map(|s| &s.floats);
        let histograms = state.series.iter().flat_map(|s| &s.histograms);
        floats.filter(|s| is_stale(s.value)).count()
            + histograms.filter(|h| is_stale(h.value.sum())).count()
    }

    /// Exemplars and metadata rows taken so far.
    pub fn extras(&self) -> (usize, usize) {
        let state = self.state();
        (state.exemplars, state.metadata)
    }

    /// A source of what is here now.
    pub fn source(&self) -> MemorySource {
        MemorySource::with_histograms(self.state().series.clone())
    }
}

impl State {
    fn append(&mut self, mut batch: Batch) -> Result<Appended, SinkError> {
        let rows = batch.refs.len();
        let starts_fit = batch.starts.is_empty() || batch.starts.len() == rows;
        if batch.ts.len() != rows || batch.values.len() != rows || !starts_fit {
            return Err(SinkError::failed(
                model::Kind::Invalid,
                "the columns of the batch differ in length",
            ));
        }
        let known =
            |r: &SeriesRef| r.generation == self.generation && (r.id as usize) < self.series.len();
        let mut stale: Vec<usize> = (0..rows).filter(|&i| !known(&batch.refs[i])).collect();
        let of_histograms = batch.histograms.iter().enumerate();
        stale.extend(
            of_histograms
                .filter(|(_, h)| !known(&h.series))
                .map(|(i, _)| rows + i),
        );
        if !stale.is_empty() {
            return Err(SinkError::Stale(stale));
        }
        let floats = (0..rows).map(|row| {
            let start = batch.starts.get(row).copied().unwrap_or(0);
            let float = Stamped::Float(batch.values[row], start);
            (
                Column::Floats,
                row,
                batch.refs[row].id,
                batch.ts[row],
                float,
            )
        });
        let histograms = batch.histograms.iter().enumerate().map(|(row, h)| {
            let value = Stamped::Histogram(HistogramRow {
                ts: h.ts,
                start: h.start,
                value: h.value.clone(),
            });
            (Column::Histograms, row, h.series.id, h.ts, value)
        });
        // What each series will end with, so that an atomic batch is judged before it is taken.
        let mut ends: HashMap<u64, (Millis, Stamped)> = HashMap::new();
        let mut rejected = Vec::new();
        let mut taken = Vec::with_capacity(rows);
        let (mut samples, mut histogram_rows) = (0, 0);
        for (column, row, id, ts, value) in floats.chain(histograms) {
            let mut take = true;
            let end = match ends.get(&id) {
                Some((ts, value)) => Some((*ts, value.clone())),
                None => self.series[id as usize].last(),
            };
            let reason = match end {
                Some((end, _)) if end > ts => Some(Reject::OutOfOrder),
                Some((end, last)) if end == ts => {
                    take = false;
                    (!last.same(&value)).then_some(Reject::Duplicate)
                }
                _ => None,
            };
            if let Some(reason) = reason {
                let rejection = Rejected {
                    column,
                    row,
                    reason,
                };
                if batch.atomic {
                    return Err(SinkError::Rejected(rejection));
                }
                rejected.push(rejection);
                continue;
            }
            match column {
                Column::Floats => samples += 1,
                _ => histogram_rows += 1,
            }
            if take {
                ends.insert(id, (ts, value.clone()));
                taken.push((id, ts, value));
            }
        }
        for (id, ts, value) in taken {
            self.series[id as usize].push(ts, value);
        }
        let exemplars = batch.exemplars.len();
        self.exemplars += exemplars;
        self.metadata += batch.metadata.len();
        batch.clear();
        Ok(Appended {
            samples,
            histograms: histogram_rows,
            exemplars,
            rejected,
            batch,
        })
    }
}

impl StoredSeries {
    fn last(&self) -> Option<(Millis, Stamped)> {
        let float = self.floats.last().map(|s| {
            let start = self.starts.last().copied().unwrap_or(0);
            (s.ts, Stamped::Float(s.value, start))
        });
        let histogram = self.histograms.last();
        let histogram = histogram.map(|h| (h.ts, Stamped::Histogram(h.clone())));
        [float, histogram].into_iter().flatten().max_by_key(|s| s.0)
    }

    fn push(&mut self, ts: Millis, value: Stamped) {
        match value {
            Stamped::Float(value, start) => {
                self.floats.push(Sample { ts, value });
                self.starts.push(start);
            }
            Stamped::Histogram(h) => self.histograms.push(h),
        }
    }
}

impl Sink for MemorySink {
    fn resolve(&self, rows: SeriesRows) -> BoxFuture<'static, Result<Vec<SeriesRef>, SinkError>> {
        let mut state = self.state();
        let state = &mut *state;
        let refs = rows.labels.into_iter().map(|labels| {
            let series = &mut state.series;
            let id = *state.ids.entry(labels).or_insert_with_key(|labels| {
                series.push(StoredSeries::floats(labels.clone(), Vec::new()));
                series.len() as u64 - 1
            });
            SeriesRef {
                id,
                generation: state.generation,
            }
        });
        let refs = refs.collect();
        Box::pin(std::future::ready(Ok(refs)))
    }

    fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Appended, SinkError>> {
        let result = self.state().append(batch);
        Box::pin(std::future::ready(result))
    }
}
