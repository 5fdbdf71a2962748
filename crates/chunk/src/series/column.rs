//! What downsampled data says in place of samples: averages, and counts of samples that are there.

use model::source::Aggregate;
use model::{ChunkRef, SeriesBatch, is_stale};

use crate::{ChunkError, Columns};

/// The chunk of counts that belongs to the chunk of sums at `i`: they cover the same time, and lie
/// close to each other.
fn counts_of(chunks: &[ChunkRef], i: usize) -> Option<&ChunkRef> {
    let sum = chunks.get(i)?;
    let near = chunks.get(i.saturating_sub(8)..(i + 9).min(chunks.len()))?;
    near.iter().find(|c| {
        c.aggregate == Aggregate::Count && (c.min, c.max, c.lane) == (sum.min, sum.max, sum.lane)
    })
}

/// Adds the averages of a chunk of sums: each is divided by the count of its time. `scratch` is memory
/// to work in.
pub(super) fn average(
    batch: &SeriesBatch,
    chunks: &[ChunkRef],
    i: usize,
    scratch: &mut [Columns; 2],
    out: &mut Columns,
) -> Result<(), ChunkError> {
    let [sums, counts] = scratch;
    sums.clear();
    counts.clear();
    let Some(count) = counts_of(chunks, i) else {
        return Err(ChunkError::Corrupt("downsampled sums come without counts"));
    };
    crate::decode(chunks[i].encoding, batch.bytes_of(&chunks[i]), sums)?;
    crate::decode(count.encoding, batch.bytes_of(count), counts)?;
    // Both ascend; a time that has no count has no average.
    let mut known = counts.iter().peekable();
    let mut count_at = |ts| {
        while known.next_if(|(at, _)| *at < ts).is_some() {}
        known.peek().filter(|(at, _)| *at == ts).map(|(_, n)| *n)
    };
    let (mut f, mut h) = (0, 0);
    loop {
        let (float, histogram) = (sums.ts.get(f), sums.histograms.ts.get(h));
        match (float, histogram) {
            (None, None) => return Ok(()),
            (Some(&ts), other) if other.is_none_or(|o| ts <= *o) => {
                if let Some(n) = count_at(ts) {
                    out.push(ts, sums.values[f] / n);
                }
                f += 1;
            }
            (_, Some(&ts)) => {
                if let (Some(n), Some(sum)) = (count_at(ts), sums.histograms.get(h)) {
                    let mut mean = sum.to_histogram();
                    mean.count /= n;
                    mean.sum /= n;
                    mean.zero_count /= n;
                    let buckets = [&mut mean.positive, &mut mean.negative];
                    for value in buckets.into_iter().flat_map(|b| &mut b.counts) {
                        *value /= n;
                    }
                    out.histograms.push_histogram(ts, &mean);
                }
                h += 1;
            }
            (Some(_), None) => return Ok(()), // ruled out above
        }
    }
}

/// Raw samples as counts of themselves: each is one. Stale markers stay what they are.
pub(super) fn ones(columns: &mut Columns, from: usize) {
    for value in columns.values.iter_mut().skip(from) {
        if !is_stale(*value) {
            *value = 1.0;
        }
    }
}

/// The same where there are histograms: they become floats.
pub(super) fn histogram_ones(columns: &mut Columns, scratch: &mut Columns) {
    if columns.histograms.is_empty() {
        return;
    }
    let times = columns.histograms.iter().filter(|(_, h)| !h.is_stale());
    let next: Columns = times.map(|(ts, _)| (ts, 1.0)).collect();
    columns.histograms.clear();
    crate::dedup::union(columns, &next, scratch);
}
