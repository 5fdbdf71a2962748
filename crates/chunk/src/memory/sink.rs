use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::sink::Column;
use model::{
    Appended, Batch, BoxFuture, Labels, Millis, Reject, Rejected, Sample, SeriesRef, SeriesRows,
    Sink, SinkError, is_stale,
};

use super::{MemorySource, Stamped, StoredSeries};
use crate::HistogramRow;

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
        batch.check_columns()?;
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
