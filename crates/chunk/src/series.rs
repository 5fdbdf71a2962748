//! All chunks of one series as one pair of columns.

use model::source::Aggregate;
use model::{ChunkRef, SeriesBatch, TimeRange};

use crate::columns::ascends;
use crate::{ChunkError, Columns, aggregate, dedup};

mod column;
#[cfg(test)]
mod tests;

/// How replicas (lanes) of a series become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedup {
    /// Every timestamp once; the lower lane wins where both have it.
    Chain,
    /// Follow one replica, change at gaps: see [`dedup::penalty`].
    Penalty {
        /// Whether the samples are a counter's, which must not fall where replicas change.
        counter: bool,
    },
}

/// What is wanted of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Samples in here.
    pub range: TimeRange,
    /// The column of downsampled data. Raw chunks stand in for any of them (each sample being one
    /// where counts are wanted); where raw samples are wanted, downsampled data gives averages.
    pub aggregate: Aggregate,
    /// What to do with replicas.
    pub dedup: Dedup,
}

impl Want {
    /// Raw samples in `range`, replicas deduplicated by penalty.
    pub fn raw(range: TimeRange) -> Self {
        Self {
            range,
            aggregate: Aggregate::Raw,
            dedup: Dedup::Penalty { counter: false },
        }
    }
}

/// What it took to decode a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Chunks opened.
    pub chunks: u64,
    /// Samples in them.
    pub samples: u64,
}

/// Opens the chunks of series, one series after the other, in memory that it keeps.
#[derive(Debug, Default)]
pub struct SeriesDecoder {
    lanes: Vec<Columns>,
    chunk: Columns,
    scratch: Columns,
    parts: [Columns; 2],
}

impl SeriesDecoder {
    /// A decoder without memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes series `i` of `batch` into `out`, which is cleared first. Timestamps ascend, each
    /// occurs once, all lie in the range.
    ///
    /// Within a lane the chunk that comes first in the batch wins where two have a timestamp, floats
    /// or histograms; a histogram that lost its neighbours so no longer knows about resets.
    /// Chunks outside the range are not opened. Counter columns of downsampled data are added up over
    /// all chunks of a lane, raw ones among them, so that they have no resets.
    pub fn decode(
        &mut self,
        batch: &SeriesBatch,
        i: usize,
        want: &Want,
        out: &mut Columns,
    ) -> Result<Decoded, ChunkError> {
        out.clear();
        let chunks = batch.chunks_of(i);
        let mut decoded = Decoded::default();
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Ok(decoded);
        };
        if first.lane == last.lane {
            self.lane(batch, chunks, want, out, &mut decoded)?;
            return Ok(decoded);
        }
        let mut lanes = std::mem::take(&mut self.lanes);
        let result = self.replicas(batch, chunks, want, &mut lanes, out, &mut decoded);
        self.lanes = lanes;
        result.map(|()| decoded)
    }

    fn replicas(
        &mut self,
        batch: &SeriesBatch,
        chunks: &[ChunkRef],
        want: &Want,
        lanes: &mut Vec<Columns>,
        out: &mut Columns,
        decoded: &mut Decoded,
    ) -> Result<(), ChunkError> {
        let mut used = 0;
        for of_lane in chunks.chunk_by(|a, b| a.lane == b.lane) {
            if used == lanes.len() {
                lanes.push(Columns::default());
            }
            let lane = &mut lanes[used];
            lane.clear();
            self.lane(batch, of_lane, want, lane, decoded)?;
            used += usize::from(!lane.holds_nothing());
        }
        let lanes = &lanes[..used];
        match want.dedup {
            Dedup::Penalty { counter } => dedup::penalty(lanes, counter, out),
            Dedup::Chain => {
                for lane in lanes {
                    dedup::union(out, lane, &mut self.scratch);
                }
            }
        }
        Ok(())
    }

    /// The chunks of one lane, united and clipped, into `out` (which is empty).
    fn lane(
        &mut self,
        batch: &SeriesBatch,
        chunks: &[ChunkRef],
        want: &Want,
        out: &mut Columns,
        decoded: &mut Decoded,
    ) -> Result<(), ChunkError> {
        let mut previous: Option<&ChunkRef> = None;
        let counter = want.aggregate == Aggregate::Counter;
        let counter = counter && chunks.iter().any(|c| c.aggregate == Aggregate::Counter);
        let mut counter = counter.then(aggregate::Counter::default);
        for (i, chunk) in chunks.iter().enumerate() {
            let wanted = chunk.aggregate == want.aggregate
                || chunk.aggregate == Aggregate::Raw
                || (want.aggregate == Aggregate::Raw && chunk.aggregate == Aggregate::Sum);
            if !wanted || chunk.max < want.range.min || chunk.min > want.range.max {
                continue;
            }
            if previous.is_some_and(|p| same(batch, p, chunk)) {
                continue;
            }
            previous = Some(chunk);
            decoded.chunks += 1;
            if let Some(counter) = &mut counter {
                self.chunk.clear();
                crate::decode(chunk.encoding, batch.bytes_of(chunk), &mut self.chunk)?;
                decoded.samples += (self.chunk.len() + self.chunk.histograms.len()) as u64;
                counter.add(&self.chunk, out);
                continue;
            }
            let floats = out.len();
            let histograms = out.histograms.len();
            let last = out.bounds().map(|(_, last)| last);
            if chunk.aggregate != want.aggregate && chunk.aggregate == Aggregate::Sum {
                column::average(batch, chunks, i, &mut self.parts, out)?;
            } else {
                crate::decode(chunk.encoding, batch.bytes_of(chunk), out)?;
                if want.aggregate == Aggregate::Count && chunk.aggregate == Aggregate::Raw {
                    column::ones(out, floats);
                }
            }
            let more = out.histograms.len() - histograms;
            decoded.samples += (out.len() - floats + more) as u64;
            // The references' bounds are only a promise: the samples themselves decide.
            let added = (&out.ts[floats..], &out.histograms.ts[histograms..]);
            let follows = |ts: &[i64]| ts.first().is_none_or(|&t| last.is_none_or(|l| t > l));
            if ascends(added.0) && ascends(added.1) && follows(added.0) && follows(added.1) {
                continue;
            }
            self.chunk.clear();
            self.chunk.extend_from(out, floats);
            self.chunk
                .histograms
                .extend_from(&out.histograms, histograms);
            out.truncate(floats);
            out.histograms.truncate(histograms);
            if !self.chunk.ascends() {
                sort(&mut self.chunk);
            }
            dedup::union(out, &self.chunk, &mut self.scratch);
        }
        if want.aggregate == Aggregate::Count {
            column::histogram_ones(out, &mut self.scratch);
        }
        out.clip(want.range);
        Ok(())
    }
}

/// Whether two neighbours are the same chunk, as two copies of a block give it.
fn same(batch: &SeriesBatch, a: &ChunkRef, b: &ChunkRef) -> bool {
    (a.min, a.max, a.encoding, a.aggregate, a.len) == (b.min, b.max, b.encoding, b.aggregate, b.len)
        && batch.bytes_of(a) == batch.bytes_of(b)
}

/// Brings samples that an old defect or a hostile writer left in disorder into order; the first of
/// equal timestamps stays.
#[cold]
fn sort(columns: &mut Columns) {
    let given = std::mem::take(columns);
    let mut order: Vec<usize> = (0..given.len()).collect();
    order.sort_by_key(|&i| given.ts[i]);
    order.dedup_by_key(|i| given.ts[*i]);
    for i in order {
        columns.push(given.ts[i], given.values[i]);
        columns.started(given.start(i));
    }
    let all = &given.histograms;
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&i| all.ts[i]);
    order.dedup_by_key(|i| all.ts[*i]);
    let mut before = None;
    for i in order {
        columns.histograms.push_from(all, i);
        if before.is_some_and(|before| before + 1 != i) {
            columns.histograms.forget_reset();
        }
        before = Some(i);
    }
}
