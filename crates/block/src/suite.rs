//! Blocks for tests.

use std::path::Path;

use chunk::memory::StoredSeries;
use model::{Labels, Sample, TimeRange};
use ulid::Ulid;

use crate::index::SymbolSet;
use crate::{BlockError, Chunk, Meta, Writer};

/// How a block is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Samples in a chunk, at most.
    pub per_chunk: usize,
    /// Bytes of a segment, at most.
    pub segment: u64,
    /// The time that the block is said to cover; none: that of its samples.
    pub range: Option<TimeRange>,
}

impl Default for Plan {
    /// As a head writes blocks, but in small segments, so that there are several.
    fn default() -> Self {
        Self {
            per_chunk: 120,
            segment: 20_000,
            range: None,
        }
    }
}

impl Plan {
    /// Writes a block of these series into the directory `parent`. None if there is no sample.
    ///
    /// # Panics
    /// If a histogram's number of buckets is not what its spans say.
    pub fn write(
        &self,
        parent: &Path,
        mut series: Vec<StoredSeries>,
    ) -> Result<Option<Meta>, BlockError> {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        let chunks: Vec<_> = series.iter().map(|s| s.chunks_of(self.per_chunk)).collect();
        let all = chunks.iter().flatten();
        let range = all.fold(TimeRange::EMPTY, |range, c| range.union(c.range));
        let pairs = series.iter().flat_map(|s| s.labels.iter());
        let symbols = SymbolSet::collect(pairs.flat_map(|(name, value)| [name, value]));
        let meta = Meta::new(Ulid::generate(), self.range.unwrap_or(range));
        let mut writer = Writer::with_segments(parent, meta, symbols, self.segment)?;
        for (series, chunks) in series.iter().zip(&chunks) {
            let chunks: Vec<Chunk<'_>> = chunks.iter().map(Chunk::from).collect();
            writer.add_labels(&series.labels, &chunks)?;
        }
        writer.finish()
    }
}

/// Series of floats, as [`Plan::write`] takes them.
pub fn floats(series: impl IntoIterator<Item = (Labels, Vec<Sample>)>) -> Vec<StoredSeries> {
    let series = series.into_iter();
    series
        .map(|(labels, samples)| StoredSeries::floats(labels, samples))
        .collect()
}
