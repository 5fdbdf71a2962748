//! All chunks of one series as one pair of columns.

use model::source::Aggregate;
use model::{ChunkRef, SeriesBatch, TimeRange};

use crate::{ChunkError, Columns, dedup};

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
    /// The column of downsampled data. Raw chunks stand in for any of them.
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
}

impl SeriesDecoder {
    /// A decoder without memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes series `i` of `batch` into `out`, which is cleared first. Timestamps ascend, each
    /// occurs once, all lie in the range.
    ///
    /// Within a lane the chunk that comes first in the batch wins where two have a timestamp.
    /// Chunks outside the range are not opened.
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
            used += usize::from(!lane.is_empty());
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
        for chunk in chunks {
            let wanted = chunk.aggregate == want.aggregate || chunk.aggregate == Aggregate::Raw;
            if !wanted || chunk.max < want.range.min || chunk.min > want.range.max {
                continue;
            }
            if previous.is_some_and(|p| same(batch, p, chunk)) {
                continue;
            }
            previous = Some(chunk);
            decoded.chunks += 1;
            let start = out.len();
            crate::decode(chunk.encoding, batch.bytes_of(chunk), out)?;
            decoded.samples += (out.len() - start) as u64;
            // The references' bounds are only a promise: the samples themselves decide.
            let from = start.saturating_sub(1);
            if crate::columns::ascends(&out.ts[from..]) {
                continue;
            }
            self.chunk.clear();
            self.chunk.extend_from(out, start);
            out.truncate(start);
            if !self.chunk.ascends() {
                sort(&mut self.chunk);
            }
            dedup::union(out, &self.chunk, &mut self.scratch);
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
    let mut samples: Vec<(i64, f64)> = columns.iter().collect();
    samples.sort_by_key(|s| s.0);
    samples.dedup_by_key(|s| s.0);
    columns.clear();
    for (ts, value) in samples {
        columns.push(ts, value);
    }
}
