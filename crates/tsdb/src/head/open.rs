//! The chunk that a series' next sample goes to, and when another one is begun
//! (`appendPreprocessor` and `histogramsAppendPreprocessor` of Prometheus).

use chunk::{histogram, xor, xor2};
use model::histogram::{FloatHistogram, Histogram, IntHistogram};
use model::{Encoding, Millis, STALE_NAN, is_stale};

/// Samples a chunk of floats is planned to have.
const SAMPLES: usize = 120;
/// With so many of them it is planned when a chunk ends.
const PLANNED: usize = SAMPLES / 4;
/// A chunk of floats is cut beyond this many bytes, whatever the plan says.
const MAX_BYTES: usize = 1024 - xor::MAX_SAMPLE_BYTES;
/// What a new chunk of floats has room for.
const FIRST_BYTES: usize = 48;
/// Bytes a chunk of histograms is planned to have,
const HISTOGRAM_BYTES: usize = 1024;
/// and samples it has at least.
const HISTOGRAM_SAMPLES: usize = 10;

/// How chunks are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunking {
    /// None crosses a multiple of this, ms.
    pub(super) range: Millis,
    /// Floats are encoded as XOR2.
    pub(super) xor2: bool,
    /// Start timestamps are kept.
    pub(super) starts: bool,
}

/// The open chunk of a series.
#[derive(Default)]
pub(super) enum Open {
    #[default]
    None,
    Floats(xor::Encoder),
    Xor2(Box<xor2::Encoder>),
    Histograms(Box<OpenHistograms>),
}

pub(super) struct OpenHistograms {
    pub(super) encoder: histogram::Encoder,
    /// Entries of positive and negative buckets that the newest histogram came with.
    pub(super) buckets: u32,
    /// The time of its end has been planned.
    planned: bool,
}

/// The newest sample of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Newest {
    None,
    Float(Millis, f64),
    /// A histogram, or a sample that is known by its time only.
    At(Millis),
}

impl Newest {
    pub(super) fn ts(self) -> Option<Millis> {
        match self {
            Self::None => None,
            Self::Float(ts, _) | Self::At(ts) => Some(ts),
        }
    }
}

/// When a chunk from `start` that has reached `now` one part of `parts` full should be cut so that
/// chunks of equal length fill the time until `max` (`computeChunkEndTime` of Prometheus).
pub(super) fn cut_time(start: Millis, now: Millis, max: Millis, parts: f64) -> Millis {
    let n = (max - start) as f64 / ((now - start + 1) as f64 * parts);
    if n <= 1.0 {
        return max;
    }
    (start as f64 + (max - start) as f64 / n.floor()) as Millis
}

/// How many samples fit into a chunk of floats before it has to be asked again whether it
/// [ends](Open::ends_before_float), as long as they come before it is planned to.
pub(super) fn sure_floats(open: &xor::Encoder) -> usize {
    let n = open.len();
    let planned = match n {
        // Then its end is planned.
        0..PLANNED => PLANNED - n,
        PLANNED => 0,
        _ => (2 * SAMPLES).saturating_sub(n),
    };
    match MAX_BYTES.checked_sub(open.bytes().len()) {
        Some(room) => planned.min(room / xor::MAX_SAMPLE_BYTES + 1),
        None => 0,
    }
}

impl Open {
    pub(super) fn floats(chunking: Chunking) -> Self {
        match chunking.xor2 {
            false => Self::Floats(xor::Encoder::with_capacity(FIRST_BYTES)),
            true => Self::Xor2(Box::default()),
        }
    }

    pub(super) fn histograms(value: &Histogram, starts: bool) -> Self {
        Self::Histograms(Box::new(OpenHistograms {
            encoder: histogram::Encoder::new(value, starts),
            buckets: 0,
            planned: false,
        }))
    }

    #[inline]
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    #[inline]
    pub(super) fn newest(&self) -> Newest {
        match self {
            Self::None => Newest::None,
            Self::Floats(e) => match e.last_ts().zip(e.last_value()) {
                Some((ts, value)) => Newest::Float(ts, value),
                None => Newest::None,
            },
            Self::Xor2(e) => match e.last_ts().zip(e.last_value()) {
                Some((ts, value)) => Newest::Float(ts, value),
                None => Newest::None,
            },
            Self::Histograms(h) => h.encoder.last_ts().map_or(Newest::None, Newest::At),
        }
    }

    pub(super) fn previous_ts(&self) -> Option<Millis> {
        match self {
            Self::None => None,
            Self::Floats(e) => e.previous_ts(),
            Self::Xor2(e) => e.previous_ts(),
            Self::Histograms(h) => h.encoder.previous_ts(),
        }
    }

    #[inline]
    pub(super) fn last_ts(&self) -> Option<Millis> {
        match self {
            Self::None => None,
            Self::Floats(e) => e.last_ts(),
            Self::Xor2(e) => e.last_ts(),
            Self::Histograms(h) => h.encoder.last_ts(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Floats(e) => e.len(),
            Self::Xor2(e) => e.len(),
            Self::Histograms(h) => h.encoder.len(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Floats(e) => e.bytes(),
            Self::Xor2(e) => e.bytes(),
            Self::Histograms(h) => h.encoder.bytes(),
        }
    }

    pub(super) fn encoding(&self) -> Encoding {
        match self {
            Self::None | Self::Floats(_) => Encoding::XOR,
            Self::Xor2(_) => Encoding::XOR2,
            Self::Histograms(h) => h.encoder.encoding(),
        }
    }

    /// Reads what an append will change, so that it is in the cache.
    #[inline]
    pub(super) fn touch(&self) -> u8 {
        match self {
            Self::Floats(open) => open.touch(),
            _ => 0,
        }
    }

    /// Bytes of memory beside the struct.
    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Floats(e) => e.capacity(),
            Self::Xor2(e) => size_of::<xor2::Encoder>() + e.capacity(),
            Self::Histograms(h) => size_of::<OpenHistograms>() + h.encoder.capacity(),
        }
    }

    /// Whether the newest sample is a histogram that says the same.
    pub(super) fn last_is(&self, value: &Histogram) -> bool {
        matches!(self, Self::Histograms(h) if h.encoder.last_is(value))
    }

    /// Whether the newest sample is a stale marker.
    pub(super) fn is_stale(&self) -> bool {
        match self {
            Self::None => false,
            Self::Floats(e) => e.last_value().is_some_and(is_stale),
            Self::Xor2(e) => e.last_value().is_some_and(is_stale),
            Self::Histograms(h) => {
                let marker = marker(h.encoder.encoding());
                marker.is_some_and(|marker| self.last_is(&marker))
            }
        }
    }

    /// Whether a float at `ts` goes to another chunk than this one, which began at `start`. `cut_at`
    /// is when that is planned.
    #[inline]
    pub(super) fn ends_before_float(
        &self,
        ts: Millis,
        start: Millis,
        cut_at: &mut Millis,
        chunking: Chunking,
    ) -> bool {
        let (n, bytes) = match self {
            Self::Floats(open) if !chunking.xor2 => (open.len(), open.bytes().len()),
            Self::Xor2(open) if chunking.xor2 => (open.len(), open.bytes().len()),
            _ => return true,
        };
        if n == PLANNED {
            let now = self.last_ts().unwrap_or(ts);
            *cut_at = cut_time(start, now, *cut_at, 4.0);
        }
        ts >= *cut_at || n >= 2 * SAMPLES || bytes > MAX_BYTES
    }

    /// Adds a float to a chunk of floats; false if it is none.
    #[inline]
    pub(super) fn push(&mut self, (ts, start): (Millis, Millis), value: f64) -> bool {
        match self {
            Self::Floats(open) => open.append(ts, value),
            Self::Xor2(open) => open.append(ts, start, value),
            Self::None | Self::Histograms(_) => return false,
        }
        true
    }
}

/// The stale marker of histograms in this encoding; none if it is one of floats.
pub(super) fn marker(encoding: Encoding) -> Option<Histogram> {
    match encoding {
        Encoding::HISTOGRAM | Encoding::HISTOGRAM_ST => Some(Histogram::Int(IntHistogram {
            sum: STALE_NAN,
            ..IntHistogram::default()
        })),
        Encoding::FLOAT_HISTOGRAM | Encoding::FLOAT_HISTOGRAM_ST => {
            Some(Histogram::Float(FloatHistogram {
                sum: STALE_NAN,
                ..FloatHistogram::default()
            }))
        }
        _ => None,
    }
}

impl OpenHistograms {
    /// Whether a histogram at `ts` goes to another chunk than this one, which began at `start`, even
    /// if it would fit. `cut_at` is when that is planned; the range of `start` ends at `range_end`.
    pub(super) fn ends_before(
        &mut self,
        ts: Millis,
        (start, range_end): (Millis, Millis),
        cut_at: &mut Millis,
    ) -> bool {
        let (n, bytes) = (self.encoder.len(), self.encoder.bytes().len());
        let range_end = match self.planned {
            true => range_end,
            false => *cut_at,
        };
        if !self.planned && bytes >= HISTOGRAM_BYTES / 4 {
            let now = self.encoder.last_ts().unwrap_or(ts);
            let parts = HISTOGRAM_BYTES as f64 / bytes as f64;
            *cut_at = cut_time(start, now, *cut_at, parts);
            self.planned = true;
        }
        (ts >= *cut_at || bytes >= 2 * HISTOGRAM_BYTES)
            && (n >= HISTOGRAM_SAMPLES || ts >= range_end)
    }

    pub(super) fn has_starts(&self) -> bool {
        matches!(
            self.encoder.encoding(),
            Encoding::HISTOGRAM_ST | Encoding::FLOAT_HISTOGRAM_ST
        )
    }

    /// Another chunk has been begun.
    pub(super) fn begun(&mut self) {
        self.planned = false;
    }
}
