//! Downsampling: of each window of 5 minutes or 1 hour only count, sum, minimum, maximum and the counter
//! are left (`pkg/compact/downsample` of Thanos, whose chunks these are: see [`chunk::aggregate`]).
//!
//! A sample stands at the end of its window, or at the last sample that there is. NaN and stale markers
//! count for nothing. Counters go on across resets, and each chunk begins and ends with a value as it was
//! scraped, so that whoever reads the next one knows of a reset between them. Of histograms count, sum
//! and counter are left, in a layout that all of a chunk have in common; their counter goes on across
//! the chunks of a block.

mod floats;
mod histograms;
pub mod plan;
#[cfg(test)]
mod tests;

use block::merge::MergedChunk;
use chunk::aggregate::{self, Part};
use chunk::{ChunkError, Columns, EncodedChunk, Histograms};
use model::histogram::{CUSTOM_SCHEMA, CounterReset};
use model::source::Aggregate;
use model::{Encoding, Millis, TimeRange};

use histograms::Carry;

/// What a scrape is assumed to be apart, ms: only the size of chunks depends on it.
const RAW_STEP: Millis = 60_000;

/// So many samples a chunk gets, about.
const PER_CHUNK: i64 = 140;

/// So many raw samples go into a chunk at most, for its header has 16 bits.
const MOST: usize = 60_000;

/// Why a series could not be downsampled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownsampleError {
    /// A chunk cannot be read.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// Chunks overlap.
    #[error(
        "found overlapping chunks: one ends at {end}, the next begins at {begin}; chunks are expected to be ordered by time and not to overlap"
    )]
    Overlap {
        /// Where the earlier one ends.
        end: Millis,
        /// Where the later one begins.
        begin: Millis,
    },
    /// Histograms that have nothing in common.
    #[error("histograms of one chunk cannot be added: {0}")]
    Incompatible(#[from] model::histogram::IncompatibleSchemas),
}

/// The end of the window of `resolution` that `ts` lies in.
fn window_end(ts: Millis, resolution: Millis) -> Millis {
    ts.saturating_sub(ts.rem_euclid(resolution))
        .saturating_add(resolution - 1)
}

/// How many chunks to make of `count` samples that were `step` apart.
fn chunk_count(range: TimeRange, step: Millis, resolution: Millis, count: usize) -> usize {
    let length = range.max.saturating_sub(range.min).max(0);
    let fullness = count as f64 / (length as f64 / step as f64);
    let fullness = if fullness > 1.0 || fullness.is_nan() {
        1.0
    } else {
        fullness
    };
    let expected = ((length / resolution) as f64 * fullness) as i64 + 1;
    let mut chunks = 1;
    while expected / chunks > PER_CHUNK {
        chunks += 1;
    }
    chunks as usize
}

/// Which histograms may share a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    custom: bool,
    gauge: bool,
}

/// Downsamples series, one after the other, in memory that it keeps.
#[derive(Debug, Default)]
pub struct Downsampler {
    columns: Columns,
    floats: Vec<(Millis, f64)>,
    histograms: Histograms,
    batch: Vec<(Millis, f64)>,
}

impl Downsampler {
    /// Downsamples the chunks of one series, ascending, from resolution `from` (0: raw) to `to` and adds
    /// the chunks to `out`.
    pub fn series(
        &mut self,
        chunks: &[MergedChunk],
        from: Millis,
        to: Millis,
        out: &mut Vec<EncodedChunk>,
    ) -> Result<(), DownsampleError> {
        for pair in chunks.windows(2) {
            if let [a, b] = pair
                && a.max >= b.min
            {
                return Err(DownsampleError::Overlap {
                    end: a.max,
                    begin: b.min,
                });
            }
        }
        match from {
            0 => self.raw(chunks, to, out),
            _ => self.aggregates(chunks, from, to, out),
        }
    }

    fn raw(
        &mut self,
        chunks: &[MergedChunk],
        resolution: Millis,
        out: &mut Vec<EncodedChunk>,
    ) -> Result<(), DownsampleError> {
        self.floats.clear();
        self.histograms.clear();
        let mut carry = Carry::default();
        for chunk in chunks {
            self.columns.clear();
            chunk::decode(chunk.encoding, &chunk.data, &mut self.columns)?;
            if !self.columns.is_empty() {
                self.flush_histograms(resolution, &mut carry, out)?;
                carry = Carry::default();
            }
            let mut last = None;
            for (ts, value) in self.columns.iter() {
                // What goes back in time is left out.
                if !model::is_stale(value) && last.is_none_or(|last| ts >= last) {
                    self.floats.push((ts, value));
                    last = Some(ts);
                }
            }
            let columns = std::mem::take(&mut self.columns);
            let added = self.add_histograms(&columns.histograms, resolution, &mut carry, out);
            self.columns = columns;
            added?;
        }
        self.flush_floats(resolution, out);
        self.flush_histograms(resolution, &mut carry, out)
    }

    fn add_histograms(
        &mut self,
        rows: &Histograms,
        resolution: Millis,
        carry: &mut Carry,
        out: &mut Vec<EncodedChunk>,
    ) -> Result<(), DownsampleError> {
        if !rows.is_empty() {
            self.flush_floats(resolution, out);
        }
        let mut last = None;
        for i in 0..rows.len() {
            let (Some(row), Some(&ts)) = (rows.get(i), rows.ts.get(i)) else {
                continue;
            };
            if row.scalars.sum.is_nan() || last.is_some_and(|last| ts < last) {
                continue;
            }
            last = Some(ts);
            let before = self.histograms.len().checked_sub(1);
            let before = before.and_then(|i| self.histograms.get(i)).map(kind);
            if before.is_some_and(|before| before != kind(row)) {
                self.flush_histograms(resolution, carry, out)?;
                *carry = Carry::default();
            }
            self.histograms.shared_layout(row.layout);
            let counts = row.counts.iter().copied();
            self.histograms.push(ts, row.scalars, counts);
        }
        Ok(())
    }

    fn flush_floats(&mut self, resolution: Millis, out: &mut Vec<EncodedChunk>) {
        let data = &self.floats;
        let (Some(first), Some(last)) = (data.first(), data.last()) else {
            return;
        };
        let range = TimeRange::new(first.0, last.0);
        let count = chunk_count(range, RAW_STEP, resolution, data.len());
        let ts = |i: usize| data.get(i).map(|s| s.0);
        for part in batches(data.len(), count, resolution, ts) {
            self.batch.clear();
            let samples = data.get(part).unwrap_or_default().iter();
            self.batch
                .extend(samples.copied().filter(|(_, value)| !value.is_nan()));
            out.extend(floats::chunk(&self.batch, resolution));
        }
        self.floats.clear();
    }

    fn flush_histograms(
        &mut self,
        resolution: Millis,
        carry: &mut Carry,
        out: &mut Vec<EncodedChunk>,
    ) -> Result<(), DownsampleError> {
        let data = &self.histograms;
        let (Some(&first), Some(&last)) = (data.ts.first(), data.ts.last()) else {
            return Ok(());
        };
        let range = TimeRange::new(first, last);
        let count = chunk_count(range, RAW_STEP, resolution, data.len());
        let ts = |i: usize| data.ts.get(i).copied();
        for part in batches(data.len(), count, resolution, ts) {
            out.extend(histograms::chunk(data, part, resolution, carry)?);
        }
        self.histograms.clear();
        Ok(())
    }

    fn aggregates(
        &mut self,
        chunks: &[MergedChunk],
        from: Millis,
        to: Millis,
        out: &mut Vec<EncodedChunk>,
    ) -> Result<(), DownsampleError> {
        // Some writers left raw chunks in downsampled blocks: those are brought to the finer
        // resolution first.
        let mut mended: Vec<MergedChunk> = Vec::new();
        for chunk in chunks {
            if chunk.encoding == Encoding::AGGREGATE {
                mended.push(chunk.clone());
                continue;
            }
            let mut made = Vec::new();
            self.raw(std::slice::from_ref(chunk), from, &mut made)?;
            mended.extend(made.into_iter().map(MergedChunk::from));
        }
        let opened: Vec<Opened<'_>> = mended
            .iter()
            .map(Opened::new)
            .collect::<Result<_, ChunkError>>()?;
        for run in opened.chunk_by(|a, b| a.histograms == b.histograms) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let range = TimeRange::new(first.chunk.min, last.chunk.max);
            let samples = run.iter().map(|o| o.samples).sum();
            let count = chunk_count(range, from, to, samples);
            let mut carry = Carry::default();
            // Only along the borders of chunks, whose first and last values are those of the counter.
            for part in run.chunks((run.len() / count).max(1)) {
                match first.histograms {
                    true => out.extend(histograms::combine(part, to, &mut carry)?),
                    false => out.extend(floats::combine(part, to)?),
                }
            }
        }
        Ok(())
    }
}

fn kind(row: chunk::HistogramRef<'_>) -> Kind {
    Kind {
        custom: row.layout.schema == CUSTOM_SCHEMA,
        gauge: row.scalars.counter_reset == CounterReset::Gauge,
    }
}

/// An aggregate chunk taken apart.
struct Opened<'a> {
    chunk: &'a MergedChunk,
    parts: Vec<Part>,
    samples: usize,
    histograms: bool,
}

impl<'a> Opened<'a> {
    fn new(chunk: &'a MergedChunk) -> Result<Self, ChunkError> {
        let parts: Vec<Part> = aggregate::parts(&chunk.data).collect::<Result<_, _>>()?;
        let counter = parts.iter().find(|p| p.aggregate == Aggregate::Counter);
        let floats = [Encoding::XOR, Encoding::XOR2];
        Ok(Self {
            samples: chunk::sample_count(Encoding::AGGREGATE, &chunk.data)?,
            histograms: counter.is_some_and(|p| !floats.contains(&p.encoding)),
            chunk,
            parts,
        })
    }

    /// Adds the samples of a column to `out`.
    fn read(&self, aggregate: Aggregate, out: &mut Columns) -> Result<(), ChunkError> {
        match self.parts.iter().find(|p| p.aggregate == aggregate) {
            Some(part) => {
                let data = self.chunk.data.get(part.range.clone());
                chunk::decode(part.encoding, data.unwrap_or_default(), out)
            }
            None => Ok(()),
        }
    }
}

/// Cuts `len` samples into about `count` parts, none of which ends inside a window.
fn batches(
    len: usize,
    count: usize,
    resolution: Millis,
    ts: impl Fn(usize) -> Option<Millis>,
) -> impl Iterator<Item = std::ops::Range<usize>> {
    let size = (len / count.max(1) + 1).min(MOST);
    let mut from = 0;
    std::iter::from_fn(move || {
        let mut to = from + size.min(len.checked_sub(from)?);
        let last = ts(to.checked_sub(1)?)?;
        if to == from {
            return None;
        }
        let end = window_end(last, resolution);
        while ts(to).is_some_and(|ts| ts <= end) {
            to += 1;
        }
        let part = from..to;
        from = to;
        Some(part)
    })
}

/// Calls `window` with each run of samples that share a window and with the time that the run gets.
/// Gives that time of the last one.
fn windows(
    len: usize,
    resolution: Millis,
    ts: impl Fn(usize) -> Option<Millis>,
    mut window: impl FnMut(Millis, std::ops::Range<usize>),
) -> Option<Millis> {
    let last = ts(len.checked_sub(1)?)?;
    let mut from = 0;
    let mut at = None;
    while from < len {
        let end = window_end(ts(from)?, resolution).min(last);
        let mut to = from + 1;
        while to < len && ts(to).is_some_and(|ts| ts <= end) {
            to += 1;
        }
        window(end, from..to);
        at = Some(end);
        from = to;
    }
    at
}
