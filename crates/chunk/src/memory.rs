//! A source and a sink that live in memory: for tests of whatever stands on the seams.

mod sink;
mod source;

pub use sink::MemorySink;
pub use source::MemorySource;

use model::{Labels, Millis, Sample, is_stale};

use crate::chunker::CHUNK_SAMPLES;
use crate::{Chunker, EncodedChunk, HistogramRow};

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
