//! Samples of one series as they are stored: floats as they are, histograms with exact integers. The
//! way for whoever encodes chunks again; for reading there are [`Columns`].

use model::histogram::Histogram;
use model::{Encoding, Millis};

use crate::{ChunkError, Chunker, Columns, HistogramRow, histogram};

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(Box<Histogram>),
}

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// When, ms since the Unix epoch.
    pub ts: Millis,
    /// Start timestamp, ms; 0: unknown.
    pub start: Millis,
    /// What.
    pub value: Value,
}

/// Samples of one series, ascending.
///
/// ```
/// use chunk::samples::Samples;
///
/// let mut encoder = chunk::xor::Encoder::new();
/// for ts in 0..10 {
///     encoder.append(ts, 1.0);
/// }
/// let mut samples = Samples::default();
/// samples.add(model::Encoding::XOR, encoder.bytes())?;
/// samples.retain(|ts| ts % 2 == 0);
/// let mut chunker = chunk::Chunker::default();
/// samples.encode(&mut chunker)?;
/// assert_eq!(chunker.finish()[0].samples, 5);
/// # Ok::<(), chunk::ChunkError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<Stored>);

impl Samples {
    /// The samples.
    pub fn as_slice(&self) -> &[Stored] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the samples of a chunk; those whose time is here already are left out.
    pub fn add(&mut self, encoding: Encoding, chunk: &[u8]) -> Result<(), ChunkError> {
        let mut list = match encoding {
            Encoding::XOR | Encoding::XOR2 => {
                let mut columns = Columns::default();
                crate::decode(encoding, chunk, &mut columns)?;
                let floats = columns.iter().enumerate().map(|(i, (ts, value))| Stored {
                    ts,
                    start: columns.start(i),
                    value: Value::Float(value),
                });
                floats.collect::<Vec<_>>()
            }
            _ => {
                let rows = histogram::rows(encoding, chunk)?.into_iter();
                rows.map(Stored::from).collect()
            }
        };
        let ascends = |list: &[Stored]| list.windows(2).all(|w| w[0].ts < w[1].ts);
        if !ascends(&list) {
            return Err(ChunkError::Corrupt("samples out of order"));
        }
        let behind = match (self.0.last(), list.first()) {
            (Some(last), Some(first)) => last.ts < first.ts,
            _ => true,
        };
        self.0.append(&mut list);
        if !behind {
            // Stable: of equals the one that was here first comes first.
            self.0.sort_by_key(|s| s.ts);
            self.0.dedup_by_key(|s| s.ts);
        }
        Ok(())
    }

    /// Adds the samples of another list; those whose time is here already are left out.
    pub fn unite(&mut self, mut other: Samples) {
        let behind = match (self.0.last(), other.0.first()) {
            (Some(last), Some(first)) => last.ts < first.ts,
            _ => true,
        };
        self.0.append(&mut other.0);
        if !behind {
            self.0.sort_by_key(|s| s.ts);
            self.0.dedup_by_key(|s| s.ts);
        }
    }

    /// Deduplicates replicas as [`dedup::penalty`](crate::dedup::penalty) does, with every sample as it
    /// was stored. Where the replica changes, histograms no longer know about resets.
    pub fn penalty(mut lanes: Vec<Samples>) -> Self {
        // A sample's place in its lane and the lane's are a number that a float holds exactly.
        const PLACES: f64 = (1u64 << 32) as f64;
        let lines: Vec<Columns> = lanes
            .iter()
            .enumerate()
            .map(|(lane, samples)| {
                let places = samples.0.iter().enumerate();
                places
                    .map(|(i, s)| (s.ts, lane as f64 * PLACES + i as f64))
                    .collect()
            })
            .collect();
        let mut chosen = Columns::default();
        crate::dedup::penalty(&lines, false, &mut chosen);
        let mut out = Vec::with_capacity(chosen.len());
        let mut before: Option<f64> = None;
        for (_, place) in chosen.iter() {
            let (lane, i) = ((place / PLACES) as usize, (place % PLACES) as usize);
            let stored = lanes.get_mut(lane).and_then(|l| l.0.get_mut(i));
            let Some(stored) = stored else { continue };
            let mut stored = std::mem::replace(
                stored,
                Stored {
                    ts: 0,
                    start: 0,
                    value: Value::Float(0.0),
                },
            );
            let neighbours = before.is_none_or(|before| before + 1.0 == place);
            if let (Value::Histogram(h), false) = (&mut stored.value, neighbours) {
                h.forget_reset();
            }
            before = Some(place);
            out.push(stored);
        }
        Self(out)
    }

    /// Keeps the samples whose time is wanted.
    pub fn retain(&mut self, mut keep: impl FnMut(Millis) -> bool) {
        self.0.retain(|s| keep(s.ts));
    }

    /// Gives all samples to `chunker`.
    pub fn encode(self, chunker: &mut Chunker) -> Result<(), ChunkError> {
        for Stored { ts, start, value } in self.0 {
            match value {
                Value::Float(value) => chunker.float(ts, start, value),
                Value::Histogram(value) => chunker.histogram(&HistogramRow {
                    ts,
                    start,
                    value: *value,
                })?,
            }
        }
        Ok(())
    }
}

impl From<HistogramRow> for Stored {
    fn from(row: HistogramRow) -> Self {
        Self {
            ts: row.ts,
            start: row.start,
            value: Value::Histogram(Box::new(row.value)),
        }
    }
}

impl FromIterator<Stored> for Samples {
    /// Of ascending samples.
    fn from_iter<T: IntoIterator<Item = Stored>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}
