use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::source::{Aggregate, Capabilities};
use model::{
    Answer, BoxFuture, ChunkRef, Cursor, Extent, LabelSelect, Labels, Matcher, Millis, Order, Rows,
    Sample, Scope, Select, SeriesBatch, Source, SourceError, Str, TimeRange, View,
};

use super::{Stamped, StoredSeries};
use crate::EncodedChunk;

/// Series in a batch.
const BATCH_SERIES: usize = 64;

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
