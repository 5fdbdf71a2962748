//! A source and a sink that live in memory: for tests of whatever stands on the seams.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::sink::Column;
use model::source::{Aggregate, Capabilities};
use model::{
    Answer, Appended, Batch, BoxFuture, ChunkRef, Cursor, Encoding, Extent, LabelSelect, Labels,
    Matcher, Millis, Order, Reject, Rejected, Rows, Sample, Scope, Select, SeriesBatch, SeriesRef,
    SeriesRows, Sink, SinkError, Source, SourceError, Str, TimeRange, View, is_stale,
};

use crate::xor::Encoder;

/// Samples in a chunk, as Prometheus cuts them.
const CHUNK_SAMPLES: usize = 120;
/// Series in a batch.
const BATCH_SERIES: usize = 64;

/// Series in memory, as XOR chunks of at most 120 samples.
#[derive(Clone, Debug)]
pub struct MemorySource {
    series: Arc<Vec<Stored>>,
    stream: bool,
}

#[derive(Debug)]
struct Stored {
    labels: Labels,
    chunks: Vec<(TimeRange, Vec<u8>)>,
}

impl Stored {
    fn overlapping(&self, range: TimeRange) -> impl Iterator<Item = &(TimeRange, Vec<u8>)> {
        self.chunks.iter().filter(move |c| c.0.overlaps(range))
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
        let mut by_labels: BTreeMap<Labels, BTreeMap<Millis, f64>> = BTreeMap::new();
        for (labels, samples) in series {
            let of_labels = by_labels.entry(labels).or_default();
            for s in samples {
                of_labels.entry(s.ts).or_insert(s.value);
            }
        }
        let series = by_labels
            .into_iter()
            .map(|(labels, samples)| {
                let samples: Vec<_> = samples.into_iter().collect();
                Stored {
                    labels,
                    chunks: samples.chunks(CHUNK_SAMPLES).map(encode).collect(),
                }
            })
            .collect();
        Self {
            series: Arc::new(series),
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

fn encode(samples: &[(Millis, f64)]) -> (TimeRange, Vec<u8>) {
    let mut encoder = Encoder::new();
    let mut range = TimeRange::EMPTY;
    for &(ts, value) in samples {
        encoder.append(ts, value);
        range = range.union(TimeRange::new(ts, ts));
    }
    (range, encoder.into_bytes())
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
            .fold(TimeRange::EMPTY, |all, c| all.union(c.0));
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
                for (range, bytes) in series.overlapping(self.select.range) {
                    batch.chunks.push(ChunkRef {
                        min: range.min,
                        max: range.max,
                        encoding: Encoding::XOR,
                        aggregate: Aggregate::Raw,
                        lane: 0,
                        buffer: 0,
                        offset: buffer.len() as u32,
                        len: bytes.len() as u32,
                    });
                    buffer.extend_from_slice(bytes);
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
    series: Vec<(Labels, Vec<Sample>)>,
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

    /// Every series that has samples.
    pub fn series(&self) -> BTreeMap<Labels, Vec<Sample>> {
        self.state()
            .series
            .iter()
            .filter(|(_, samples)| !samples.is_empty())
            .cloned()
            .collect()
    }

    /// The samples of one series; empty if it is not known. Stale markers are among them.
    pub fn samples(&self, labels: &Labels) -> Vec<Sample> {
        let state = self.state();
        let id = state.ids.get(labels).copied();
        id.and_then(|id| state.series.get(id as usize))
            .map(|s| s.1.clone())
            .unwrap_or_default()
    }

    /// How many stale markers there are.
    pub fn stale_markers(&self) -> usize {
        let state = self.state();
        let all = state.series.iter().flat_map(|s| &s.1);
        all.filter(|s| is_stale(s.value)).count()
    }

    /// Exemplars and metadata rows taken so far.
    pub fn extras(&self) -> (usize, usize) {
        let state = self.state();
        (state.exemplars, state.metadata)
    }

    /// A source of what is here now.
    pub fn source(&self) -> MemorySource {
        MemorySource::new(self.state().series.clone())
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
        let stale: Vec<usize> = (0..rows).filter(|&i| !known(&batch.refs[i])).collect();
        if !stale.is_empty() {
            return Err(SinkError::Stale(stale));
        }
        // What each series will end with, so that an atomic batch is judged before it is taken.
        let mut ends: HashMap<u64, Sample> = HashMap::new();
        let mut rejected = Vec::new();
        let mut taken = Vec::with_capacity(rows);
        for row in 0..rows {
            let id = batch.refs[row].id;
            let sample = Sample {
                ts: batch.ts[row],
                value: batch.values[row],
            };
            let end = ends.get(&id).or_else(|| self.series[id as usize].1.last());
            let reason = match end {
                Some(end) if end.ts > sample.ts => Some(Reject::OutOfOrder),
                Some(end) if end.ts == sample.ts => {
                    if end.value.to_bits() == sample.value.to_bits() {
                        taken.push(None);
                        continue;
                    }
                    Some(Reject::Duplicate)
                }
                _ => None,
            };
            match reason {
                Some(reason) => {
                    let rejection = Rejected {
                        column: Column::Floats,
                        row,
                        reason,
                    };
                    if batch.atomic {
                        return Err(SinkError::Rejected(rejection));
                    }
                    rejected.push(rejection);
                }
                None => {
                    ends.insert(id, sample);
                    taken.push(Some((id, sample)));
                }
            }
        }
        let samples = taken.len();
        for (id, sample) in taken.into_iter().flatten() {
            self.series[id as usize].1.push(sample);
        }
        let exemplars = batch.exemplars.len();
        self.exemplars += exemplars;
        self.metadata += batch.metadata.len();
        batch.clear();
        Ok(Appended {
            samples,
            histograms: 0,
            exemplars,
            rejected,
            batch,
        })
    }
}

impl Sink for MemorySink {
    fn resolve(&self, rows: SeriesRows) -> BoxFuture<'static, Result<Vec<SeriesRef>, SinkError>> {
        let mut state = self.state();
        let state = &mut *state;
        let refs = rows.labels.into_iter().map(|labels| {
            let series = &mut state.series;
            let id = *state.ids.entry(labels).or_insert_with_key(|labels| {
                series.push((labels.clone(), Vec::new()));
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
