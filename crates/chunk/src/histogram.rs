//! Chunks of native histograms, with integer or float counts, as Prometheus writes them
//! (`tsdb/chunkenc/histogram.go`, `float_histogram.go`, and with start timestamps
//! `histogram_st.go`, `float_histogram_st.go`).
//!
//! ```text
//! encodings 2, 3: u16 number of samples, big-endian | u8 counter reset in the two upper bits
//! encodings 5, 6: u16 counter reset in the two upper bits, number of samples | u8 start timestamps
//!     counter reset: 00 unknown  10 reset  01 no reset  11 gauge
//! layout:   zero threshold (0: 0 | 1..254: 2^(b-244) | 255 + 64 bits)
//!           varbit schema | positive spans | negative spans | custom bounds (schema -53 only)
//!     spans:  uvarbit number, of each: uvarbit length, varbit offset
//!     bounds: uvarbit number, of each: uvarbit 1000 * bound + 1, or a zero bit and 64 bits
//! sample 0: varbit t | count | zero count | 64 bits sum | buckets
//!     integers: uvarbit counts, varbit buckets (each as difference to its left neighbour)
//!     floats:   64 bits each
//! sample n: varbit dod t | count | zero count | xor sum | buckets
//!     integers: varbit dod of each     floats: xor, in a window of its own for each
//! after each sample of encodings 5 and 6: its start timestamp, if it must be told
//!
//! varbit: 0 | 10 3 bits | 110 6 | 1110 9 | 11110 12 | 111110 18 | 1111110 25 | 11111110 56 | 11111111 64
//! dod: the difference to the difference before, which is 0 at first    xor: see the float chunks
//! ```
//!
//! A chunk has one layout and, but for gauges, no reset inside. A stale marker has no buckets and
//! only stale markers after it in its chunk.

use std::sync::Arc;

use model::histogram::{
    Buckets, CounterReset, FloatHistogram, Histogram, IntBuckets, IntHistogram,
};
use model::{Encoding, Millis};

use crate::starts::Starts;
use crate::{ChunkError, Columns, Histograms};

mod decoder;
mod encoder;
pub(crate) mod field;
mod layout;
mod spans;
#[cfg(test)]
mod tests;

use decoder::Decoder;
use encoder::{Taken, Typed};
use field::{Field, Int, Xor};

/// The first bytes of a chunk.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    /// Whether there are start timestamps.
    starts: bool,
    count: usize,
    reset: CounterReset,
}

impl Header {
    const BYTES: usize = 3;
    /// Encodings 5 and 6 have 14 bits for the number of samples.
    const COUNT_ST: usize = 0x3fff;

    fn new(encoding: Encoding) -> Self {
        Self {
            starts: encoding == Encoding::HISTOGRAM_ST || encoding == Encoding::FLOAT_HISTOGRAM_ST,
            ..Self::default()
        }
    }

    fn read(self, [a, b, c]: [u8; Self::BYTES]) -> Self {
        let count = u16::from_be_bytes([a, b]) as usize;
        let (count, flags) = match self.starts {
            true => (count & Self::COUNT_ST, a),
            false => (count, c),
        };
        Self {
            count,
            reset: match flags >> 6 {
                0b00 => CounterReset::Unknown,
                0b01 => CounterReset::NotReset,
                0b10 => CounterReset::Reset,
                _ => CounterReset::Gauge,
            },
            ..self
        }
    }

    fn write(self, starts: Starts, bytes: &mut [u8]) {
        let flags: u8 = match self.reset {
            CounterReset::Unknown => 0b00 << 6,
            CounterReset::NotReset => 0b01 << 6,
            CounterReset::Reset => 0b10 << 6,
            CounterReset::Gauge => 0b11 << 6,
        };
        let [a, b] = (self.count as u16).to_be_bytes();
        if let Some(header) = bytes.first_chunk_mut::<{ Self::BYTES }>() {
            *header = match self.starts {
                true => [a | flags, b, starts.header()],
                false => [a, b, flags],
            };
        }
    }

    fn is_full(self) -> bool {
        let most = match self.starts {
            true => Self::COUNT_ST,
            false => u16::MAX as usize,
        };
        self.count >= most
    }
}

/// A histogram at a time, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramRow {
    /// When, ms since the Unix epoch.
    pub ts: Millis,
    /// Start timestamp, ms; 0: unknown.
    pub start: Millis,
    /// What.
    pub value: Histogram,
}

/// What became of a histogram given to an [`Encoder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the chunk.
    Appended,
    /// It is in the chunk, whose bytes were written anew because it has new buckets.
    Recoded,
    /// It did not fit, because of a reset, another layout, a stale marker before it, or because it is
    /// of another kind: this is the chunk before it, and the encoder has begun another chunk with
    /// it.
    Cut(Vec<u8>),
}

/// An open chunk of integer or of float histograms. It cuts itself where the encoding demands
/// it; cutting for size or time is up to whoever appends: [`Encoder::cut`].
///
/// ```
/// use chunk::histogram::{Encoder, Outcome};
/// use model::histogram::{Histogram, IntHistogram};
///
/// let histogram = |count| Histogram::Int(IntHistogram { count, ..IntHistogram::default() });
/// let mut encoder = Encoder::new(&histogram(0), false);
/// assert_eq!(encoder.append(10, 0, &histogram(3))?, Outcome::Appended);
/// assert_eq!(encoder.append(20, 0, &histogram(7))?, Outcome::Appended);
/// let Outcome::Cut(chunk) = encoder.append(30, 0, &histogram(2))? else {
///     panic!("a count that falls begins a new chunk");
/// };
/// let rows: Vec<_> = chunk::histogram::rows(model::Encoding::HISTOGRAM, &chunk)?;
/// assert_eq!(rows.iter().map(|row| row.ts).collect::<Vec<_>>(), [10, 20]);
/// # Ok::<(), chunk::ChunkError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Int(Typed<Int>),
    Float(Typed<Xor>),
}

/// Runs something on either kind.
macro_rules! either {
    ($kind:expr, $typed:ident => $do:expr) => {
        match $kind {
            Kind::Int($typed) => $do,
            Kind::Float($typed) => $do,
        }
    };
}

impl Encoder {
    /// An empty chunk for histograms of the kind of `histogram`, with or without start timestamps.
    pub fn new(histogram: &Histogram, starts: bool) -> Self {
        let header = Header {
            starts,
            ..Header::default()
        };
        Self(match histogram {
            Histogram::Int(_) => Kind::Int(Typed::new(header)),
            Histogram::Float(_) => Kind::Float(Typed::new(header)),
        })
    }

    /// Goes on with a chunk as if its histograms had just been appended.
    pub fn resume(encoding: Encoding, chunk: &[u8]) -> Result<Self, ChunkError> {
        let header = Header::new(encoding);
        match encoding {
            Encoding::HISTOGRAM | Encoding::HISTOGRAM_ST => {
                Ok(Self(Kind::Int(Typed::resume(header, chunk)?)))
            }
            Encoding::FLOAT_HISTOGRAM | Encoding::FLOAT_HISTOGRAM_ST => {
                Ok(Self(Kind::Float(Typed::resume(header, chunk)?)))
            }
            Encoding(other) => Err(ChunkError::UnknownEncoding(other)),
        }
    }

    /// How the bytes are encoded.
    pub fn encoding(&self) -> Encoding {
        match (&self.0, self.header().starts) {
            (Kind::Int(_), false) => Encoding::HISTOGRAM,
            (Kind::Int(_), true) => Encoding::HISTOGRAM_ST,
            (Kind::Float(_), false) => Encoding::FLOAT_HISTOGRAM,
            (Kind::Float(_), true) => Encoding::FLOAT_HISTOGRAM_ST,
        }
    }

    fn header(&self) -> Header {
        either!(&self.0, typed => typed.header())
    }

    /// How many histograms there are.
    pub fn len(&self) -> usize {
        self.header().count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the header says about a reset before the first histogram.
    pub fn counter_reset(&self) -> CounterReset {
        self.header().reset
    }

    /// The last histogram's timestamp; none if there is none.
    pub fn last_ts(&self) -> Option<Millis> {
        either!(&self.0, typed => typed.last_ts())
    }

    /// The timestamp of the histogram before the last; none if there are less than two.
    pub fn previous_ts(&self) -> Option<Millis> {
        either!(&self.0, typed => typed.previous_ts())
    }

    /// Whether the last histogram says the same as this one: appending it again at the same time is
    /// no duplicate. (Buckets that one of them lists and that are empty make a difference.)
    pub fn last_is(&self, histogram: &Histogram) -> bool {
        match (&self.0, histogram) {
            (Kind::Int(typed), Histogram::Int(h)) => typed.last_is(&h.into()),
            (Kind::Float(typed), Histogram::Float(h)) => typed.last_is(&h.into()),
            _ => false,
        }
    }

    /// The chunk as far as it goes.
    pub fn bytes(&self) -> &[u8] {
        either!(&self.0, typed => typed.bytes())
    }

    /// The chunk.
    pub fn into_bytes(self) -> Vec<u8> {
        either!(self.0, typed => typed.into_bytes())
    }

    /// Bytes of memory that the chunk holds, this struct not included.
    pub fn capacity(&self) -> usize {
        either!(&self.0, typed => typed.capacity())
    }

    /// Appends a histogram, whose number of buckets must be what its spans say (an error else, and
    /// the chunk is as it was).
    pub fn append(
        &mut self,
        ts: Millis,
        start: Millis,
        histogram: &Histogram,
    ) -> Result<Outcome, ChunkError> {
        if self.is_empty() && !self.takes(histogram) {
            let starts = self.header().starts;
            *self = Self::new(histogram, starts);
        }
        if self.header().is_full() {
            return self.cut(ts, start, histogram).map(Outcome::Cut);
        }
        let taken = match (&mut self.0, histogram) {
            (Kind::Int(typed), Histogram::Int(h)) => typed.append(ts, start, &h.into())?,
            (Kind::Float(typed), Histogram::Float(h)) => typed.append(ts, start, &h.into())?,
            _ => Taken::Cut(CounterReset::Unknown),
        };
        match taken {
            Taken::Appended => Ok(Outcome::Appended),
            Taken::Recoded => Ok(Outcome::Recoded),
            Taken::Cut(reset) => self.begin(reset, ts, start, histogram).map(Outcome::Cut),
        }
    }

    /// Begins a new chunk with a histogram, whether it would fit or not, and gives the one before
    /// it. The new one's header says whether there was a reset between them.
    pub fn cut(
        &mut self,
        ts: Millis,
        start: Millis,
        histogram: &Histogram,
    ) -> Result<Vec<u8>, ChunkError> {
        let reset = self.next_header(histogram);
        self.begin(reset, ts, start, histogram)
    }

    /// What the header of a chunk must say that begins with `histogram` and comes after this one.
    pub fn next_header(&self, histogram: &Histogram) -> CounterReset {
        match (&self.0, histogram) {
            _ if self.is_empty() => CounterReset::Unknown,
            (Kind::Int(typed), Histogram::Int(h)) => typed.next_header(&h.into()),
            (Kind::Float(typed), Histogram::Float(h)) => typed.next_header(&h.into()),
            _ => CounterReset::Unknown,
        }
    }

    /// Sets what the header says about a reset before the first histogram. Appending a first
    /// histogram that is a gauge, or that knows of a reset, overrules it.
    pub fn set_counter_reset(&mut self, reset: CounterReset) {
        either!(&mut self.0, typed => typed.set_reset(reset));
    }

    fn takes(&self, histogram: &Histogram) -> bool {
        matches!(
            (&self.0, histogram),
            (Kind::Int(_), Histogram::Int(_)) | (Kind::Float(_), Histogram::Float(_))
        )
    }

    fn begin(
        &mut self,
        reset: CounterReset,
        ts: Millis,
        start: Millis,
        histogram: &Histogram,
    ) -> Result<Vec<u8>, ChunkError> {
        let mut next = Self::new(histogram, self.header().starts);
        next.set_counter_reset(reset);
        next.append(ts, start, histogram)?;
        Ok(std::mem::replace(self, next).into_bytes())
    }
}

/// Decodes a chunk of histograms and adds them to `out.histograms`. After an error `out` is as it
/// was before.
///
/// Memory is only taken for what the bytes can hold; a row costs no allocation.
pub fn decode(encoding: Encoding, chunk: &[u8], out: &mut Columns) -> Result<(), ChunkError> {
    let out = &mut out.histograms;
    let before = out.len();
    let header = Header::new(encoding);
    let result = match encoding {
        Encoding::HISTOGRAM | Encoding::HISTOGRAM_ST => {
            let mut decoder = Decoder::new(header, chunk, std::mem::take(&mut out.ints))?;
            let result = columns(&mut decoder, out, Histogram::Int, int_row);
            out.ints = decoder.buckets;
            result
        }
        Encoding::FLOAT_HISTOGRAM | Encoding::FLOAT_HISTOGRAM_ST => {
            let mut decoder = Decoder::new(header, chunk, std::mem::take(&mut out.xors))?;
            let result = columns(&mut decoder, out, Histogram::Float, float_row);
            out.xors = decoder.buckets;
            result
        }
        Encoding(other) => Err(ChunkError::UnknownEncoding(other)),
    };
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn columns<F: Field, H>(
    decoder: &mut Decoder<'_, F>,
    out: &mut Histograms,
    wrap: impl Fn(H) -> Histogram,
    row: impl Fn(&Decoder<'_, F>) -> H,
) -> Result<(), ChunkError> {
    let mut place = None;
    while decoder.next(|count| out.counts.push(count))? {
        let ts = decoder.ts;
        if decoder.sum.is_stale() {
            // It has no buckets, whatever the chunk's layout says.
            out.push_empty(ts, decoder.scalars());
        } else if decoder.layout.schema > layout::SCHEMA_MAX {
            // Of a newer writer: read at the highest resolution that is known.
            out.counts
                .truncate(out.counts.len() - decoder.buckets.len());
            out.push_histogram(ts, &wrap(row(decoder)).to_float());
        } else {
            let layout = match place {
                Some(layout) => layout,
                None => *place.insert(out.place(decoder.layout.clone())),
            };
            out.push_counted(ts, decoder.scalars(), layout, decoder.buckets.len());
        }
        out.started(decoder.starts.start());
    }
    Ok(())
}

/// The histograms of a chunk one by one, with exact integers where they are integers: what it takes
/// to encode them again.
pub fn rows(encoding: Encoding, chunk: &[u8]) -> Result<Vec<HistogramRow>, ChunkError> {
    let header = Header::new(encoding);
    match encoding {
        Encoding::HISTOGRAM | Encoding::HISTOGRAM_ST => {
            all_rows(header, chunk, |decoder| Histogram::Int(int_row(decoder)))
        }
        Encoding::FLOAT_HISTOGRAM | Encoding::FLOAT_HISTOGRAM_ST => {
            all_rows(header, chunk, |decoder| {
                Histogram::Float(float_row(decoder))
            })
        }
        Encoding(other) => Err(ChunkError::UnknownEncoding(other)),
    }
}

fn all_rows<F: Field>(
    header: Header,
    chunk: &[u8],
    row: impl Fn(&Decoder<'_, F>) -> Histogram,
) -> Result<Vec<HistogramRow>, ChunkError> {
    let mut decoder = Decoder::new(header, chunk, Vec::new())?;
    let mut all = Vec::new();
    while decoder.next(|_| ())? {
        all.push(HistogramRow {
            ts: decoder.ts,
            start: decoder.starts.start(),
            value: row(&decoder),
        });
    }
    Ok(all)
}

fn int_row(decoder: &Decoder<'_, Int>) -> IntHistogram {
    if decoder.sum.is_stale() {
        return IntHistogram {
            sum: decoder.sum.value(),
            ..IntHistogram::default()
        };
    }
    let layout = &decoder.layout;
    let (positive, negative) = decoder.buckets.split_at(decoder.positive);
    let mut h = IntHistogram {
        counter_reset: decoder.counter_reset(),
        schema: layout.schema,
        zero_threshold: layout.zero_threshold,
        zero_count: decoder.zero.value() as u64,
        count: decoder.count.value() as u64,
        sum: decoder.sum.value(),
        positive: IntBuckets {
            spans: layout.positive.clone(),
            deltas: positive.iter().map(Int::value).collect(),
        },
        negative: IntBuckets {
            spans: layout.negative.clone(),
            deltas: negative.iter().map(Int::value).collect(),
        },
        custom_values: Arc::clone(&layout.custom_values),
    };
    h.reduce_to(layout::SCHEMA_MAX);
    h
}

fn float_row(decoder: &Decoder<'_, Xor>) -> FloatHistogram {
    if decoder.sum.is_stale() {
        return FloatHistogram {
            sum: decoder.sum.value(),
            ..FloatHistogram::default()
        };
    }
    let layout = &decoder.layout;
    let (positive, negative) = decoder.buckets.split_at(decoder.positive);
    let mut h = FloatHistogram {
        counter_reset: decoder.counter_reset(),
        schema: layout.schema,
        zero_threshold: layout.zero_threshold,
        zero_count: decoder.zero.value(),
        count: decoder.count.value(),
        sum: decoder.sum.value(),
        positive: Buckets {
            spans: layout.positive.clone(),
            counts: positive.iter().map(Xor::value).collect(),
        },
        negative: Buckets {
            spans: layout.negative.clone(),
            counts: negative.iter().map(Xor::value).collect(),
        },
        custom_values: Arc::clone(&layout.custom_values),
    };
    h.reduce_to(layout::SCHEMA_MAX);
    h
}
