//! Data points of OTLP metrics, and the histograms that they become.

use model::histogram::{CUSTOM_SCHEMA, CounterReset, Histogram, IntBuckets, IntHistogram};
use model::{Millis, STALE_NAN};
use wire::fields::{BadMessage, Fields, Value};

use super::values::{Attribute, attribute, millis};

/// The finest and the coarsest schema that can be kept.
const FINEST: i32 = 8;
const COARSEST: i32 = -4;
/// Where OTLP says none.
const ZERO_THRESHOLD: f64 = 1e-128;

/// The kinds of metrics, by the number of their field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge = 5,
    Sum = 7,
    Histogram = 9,
    Exponential = 10,
    Summary = 11,
}

impl Kind {
    pub(super) fn of(field: u32) -> Option<Self> {
        [
            Self::Gauge,
            Self::Sum,
            Self::Histogram,
            Self::Exponential,
            Self::Summary,
        ]
        .into_iter()
        .find(|k| *k as u32 == field)
    }
}

/// A data point of any kind; what its kind does not have is empty.
#[derive(Debug, Default)]
pub(super) struct Point<'a> {
    pub(super) attributes: Vec<Attribute<'a>>,
    pub(super) exemplars: Vec<&'a [u8]>,
    pub(super) ts: Millis,
    pub(super) start: Millis,
    value: f64,
    pub(super) count: u64,
    sum: Option<f64>,
    counts: Vec<u64>,
    pub(super) bounds: Vec<f64>,
    pub(super) quantiles: Vec<(f64, f64)>,
    scale: i64,
    zero_count: u64,
    positive: (i32, Vec<u64>),
    negative: (i32, Vec<u64>),
    none: bool,
}

impl<'a> Point<'a> {
    pub(super) fn read(kind: Kind, message: &'a [u8]) -> Result<Self, BadMessage> {
        let mut p = Self::default();
        let mut fields = Fields::new(message);
        while let Some((number, v)) = fields.next_field()? {
            match (number, kind) {
                (2, _) => p.start = millis(v.number()),
                (3, _) => p.ts = millis(v.number()),
                (4, Kind::Gauge | Kind::Sum) => p.value = v.double(),
                (6, Kind::Gauge | Kind::Sum) => p.value = v.signed() as f64,
                (5, Kind::Gauge | Kind::Sum) => p.exemplars.push(v.bytes()),
                (4, _) => p.count = v.number(),
                (5, _) => p.sum = Some(v.double()),
                (6, Kind::Histogram) => each_fixed(v, |n| p.counts.push(n))?,
                (7, Kind::Histogram) => v.each_double(|b| p.bounds.push(b))?,
                (8, Kind::Histogram) | (11, Kind::Exponential) => p.exemplars.push(v.bytes()),
                (6, Kind::Exponential) => p.scale = v.zigzag(),
                (7, Kind::Exponential) => p.zero_count = v.number(),
                (8, Kind::Exponential) => p.positive = buckets(v)?,
                (9, Kind::Exponential) => p.negative = buckets(v)?,
                (6, Kind::Summary) => p.quantiles.push(quantile(v)?),
                (7, Kind::Gauge | Kind::Sum | Kind::Summary)
                | (9, Kind::Histogram)
                | (1, Kind::Exponential) => p.attributes.push(attribute(v.bytes())?),
                (8, Kind::Gauge | Kind::Sum | Kind::Summary)
                | (10, Kind::Histogram | Kind::Exponential) => p.none = v.number() & 1 != 0,
                _ => {}
            }
        }
        Ok(p)
    }

    /// A value of this point: stale if nothing was recorded.
    pub(super) fn shown(&self, value: f64) -> f64 {
        if self.none { STALE_NAN } else { value }
    }

    pub(super) fn value(&self) -> f64 {
        self.shown(self.value)
    }

    pub(super) fn sum(&self) -> Option<f64> {
        self.sum.map(|sum| self.shown(sum))
    }

    /// Upper bounds with cumulative counts, without +Inf.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, f64)> {
        let counts = self.counts.iter().scan(0u64, |sum, count| {
            *sum = sum.wrapping_add(*count);
            Some(*sum)
        });
        let shown = |(bound, count): (&f64, u64)| (*bound, self.shown(count as f64));
        self.bounds.iter().zip(counts).map(shown)
    }

    fn base(&self, delta: bool) -> IntHistogram {
        IntHistogram {
            counter_reset: if delta {
                CounterReset::Gauge
            } else {
                CounterReset::Unknown
            },
            count: self.count,
            sum: self.shown(self.sum.unwrap_or(0.0)),
            ..IntHistogram::default()
        }
    }

    /// The explicit buckets as custom bounds.
    pub(super) fn custom(&self, delta: bool) -> Histogram {
        Histogram::Int(IntHistogram {
            schema: CUSTOM_SCHEMA,
            positive: dense(0, &self.counts),
            custom_values: self.bounds.as_slice().into(),
            ..self.base(delta)
        })
    }

    /// The exponential buckets.
    pub(super) fn exponential(&self, delta: bool) -> Result<Histogram, String> {
        let scale = i32::try_from(self.scale).unwrap_or(i32::MIN);
        if scale < COARSEST {
            return Err(format!(
                "cannot convert exponential to native histogram. Scale must be >= {COARSEST}, was {scale}"
            ));
        }
        let down = (scale - FINEST).max(0) as u32;
        Ok(Histogram::Int(IntHistogram {
            schema: scale.min(FINEST),
            zero_threshold: ZERO_THRESHOLD,
            zero_count: self.zero_count,
            positive: exponential(&self.positive, down),
            negative: exponential(&self.negative, down),
            ..self.base(delta)
        }))
    }
}

/// Buckets out of counts of neighbours; those of OTLP begin one lower than ours.
fn exponential((offset, counts): &(i32, Vec<u64>), down: u32) -> IntBuckets {
    let down = down.min(31);
    let mut merged: Vec<(i32, u64)> = Vec::new();
    for (i, count) in (0i32..).zip(counts) {
        let index = (offset.saturating_add(i) >> down).saturating_add(1);
        match merged.last_mut() {
            Some((last, sum)) if *last == index => *sum = sum.wrapping_add(*count),
            _ => merged.push((index, *count)),
        }
    }
    let first = merged.first().map_or(0, |(index, _)| *index);
    let counts: Vec<u64> = merged.into_iter().map(|(_, count)| count).collect();
    dense(first, &counts)
}

/// Buckets of neighbours from an index on, without long runs of empty ones.
fn dense(first: i32, counts: &[u64]) -> IntBuckets {
    const GAP: i32 = 2;
    let mut last: Option<i32> = None;
    let pairs = (first..).zip(counts).filter(|(_, count)| **count != 0);
    IntBuckets::from_pairs(pairs.flat_map(|(i, count)| {
        let from = match last.replace(i) {
            Some(before) if i - before > 1 && i - before - 1 <= GAP => before + 1,
            _ => i,
        };
        let filled = (from..i).map(|empty| (empty, 0));
        filled.chain([(i, *count as i64)])
    }))
}

fn each_fixed(value: Value<'_>, mut visit: impl FnMut(u64)) -> Result<(), BadMessage> {
    value.each_double(|bits| visit(bits.to_bits()))
}

fn buckets(value: Value<'_>) -> Result<(i32, Vec<u64>), BadMessage> {
    let (mut offset, mut counts) = (0, Vec::new());
    let mut fields = value.fields();
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => offset = value.zigzag() as i32,
            2 => value.each_varint(|n| counts.push(n))?,
            _ => {}
        }
    }
    Ok((offset, counts))
}

fn quantile(value: Value<'_>) -> Result<(f64, f64), BadMessage> {
    let (mut quantile, mut float) = (0.0, 0.0);
    let mut fields = value.fields();
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => quantile = value.double(),
            2 => float = value.double(),
            _ => {}
        }
    }
    Ok((quantile, float))
}
