//! Samples of one series, floats and histograms, made into chunks.

use model::{Encoding, Millis, TimeRange};

use crate::histogram::{self, HistogramRow, Outcome};
use crate::{ChunkError, xor, xor2};

/// So many samples a chunk gets, unless said otherwise: what Prometheus puts into one that it encodes
/// again.
pub const CHUNK_SAMPLES: usize = 120;

/// A chunk that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedChunk {
    /// First and last timestamp.
    pub range: TimeRange,
    /// How the bytes are encoded.
    pub encoding: Encoding,
    /// How many samples there are.
    pub samples: usize,
    /// The bytes.
    pub data: Vec<u8>,
}

/// Makes chunks of samples that ascend. A chunk ends when it has as many samples as it may, when a
/// sample of another kind comes, and where its encoding demands it.
///
/// ```
/// let mut chunker = chunk::Chunker::default();
/// for i in 0..200 {
///     chunker.float(i * 15_000, 0, i as f64);
/// }
/// let chunks = chunker.finish();
/// assert_eq!(chunks.iter().map(|c| c.samples).collect::<Vec<_>>(), [120, 80]);
/// ```
#[derive(Debug)]
pub struct Chunker {
    limit: usize,
    xor2: bool,
    open: Open,
    range: TimeRange,
    done: Vec<EncodedChunk>,
}

#[derive(Debug)]
enum Open {
    Nothing,
    Floats(xor::Encoder),
    Started(xor2::Encoder),
    Histograms(histogram::Encoder),
}

impl Default for Chunker {
    fn default() -> Self {
        Self {
            limit: CHUNK_SAMPLES,
            xor2: false,
            open: Open::Nothing,
            range: TimeRange::EMPTY,
            done: Vec::new(),
        }
    }
}

impl Chunker {
    /// Lets chunks have so many samples from now on.
    pub fn set_limit(&mut self, samples: usize) {
        self.limit = samples.clamp(1, u16::MAX as usize);
    }

    /// Makes chunks of encoding XOR2 for all floats, not only where start timestamps ask for it.
    pub fn set_xor2(&mut self, yes: bool) {
        self.xor2 = yes;
    }

    /// Adds a float with its start timestamp (0: unknown).
    pub fn float(&mut self, ts: Millis, start: Millis, value: f64) {
        // An open chunk takes what it can hold; what is wanted is asked where one begins.
        let fits = match &self.open {
            Open::Floats(e) => start == 0 && e.len() < self.limit,
            Open::Started(e) => e.len() < self.limit,
            _ => false,
        };
        if !fits {
            self.cut();
            self.open = match self.xor2 || start != 0 {
                true => Open::Started(xor2::Encoder::new()),
                false => Open::Floats(xor::Encoder::new()),
            };
        }
        match &mut self.open {
            Open::Floats(encoder) => encoder.append(ts, value),
            Open::Started(encoder) => encoder.append(ts, start, value),
            _ => return,
        }
        self.range = self.range.union(TimeRange::new(ts, ts));
    }

    /// Adds a histogram. An error if its number of buckets is not what its spans say.
    pub fn histogram(&mut self, row: &HistogramRow) -> Result<(), ChunkError> {
        let starts = row.start != 0;
        let fits = |e: &histogram::Encoder| {
            let same = histogram::Encoder::new(&row.value, starts).encoding() == e.encoding();
            same && e.len() < self.limit
        };
        if !matches!(&self.open, Open::Histograms(e) if fits(e)) {
            self.cut();
            self.open = Open::Histograms(histogram::Encoder::new(&row.value, starts));
        }
        if let Open::Histograms(encoder) = &mut self.open {
            let (encoding, samples) = (encoder.encoding(), encoder.len());
            if let Outcome::Cut(data) = encoder.append(row.ts, row.start, &row.value)? {
                self.done.push(EncodedChunk {
                    range: std::mem::replace(&mut self.range, TimeRange::EMPTY),
                    encoding,
                    samples,
                    data,
                });
            }
            self.range = self.range.union(TimeRange::new(row.ts, row.ts));
        }
        Ok(())
    }

    /// Ends the open chunk.
    pub fn cut(&mut self) {
        let (encoding, samples, data) = match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => return,
            Open::Floats(e) => (Encoding::XOR, e.len(), e.into_bytes()),
            Open::Started(e) => (Encoding::XOR2, e.len(), e.into_bytes()),
            Open::Histograms(e) => (e.encoding(), e.len(), e.into_bytes()),
        };
        let range = std::mem::replace(&mut self.range, TimeRange::EMPTY);
        if samples > 0 {
            self.done.push(EncodedChunk {
                range,
                encoding,
                samples,
                data,
            });
        }
    }

    /// The chunks that are ready.
    pub fn take(&mut self) -> Vec<EncodedChunk> {
        std::mem::take(&mut self.done)
    }

    /// All chunks, the open one too.
    pub fn finish(mut self) -> Vec<EncodedChunk> {
        self.cut();
        self.done
    }
}
