//! Native histograms with float counts.
//!
//! The shape is Prometheus' (`model/histogram/float_histogram.go`): sparse buckets with absolute
//! counts, listed by spans. Bucket `i` of an exponential schema `s` (-4 to 8) holds the
//! observations in `(base^(i-1), base^i]` with `base = 2^(2^-s)`; in the custom schema (-53) the
//! upper bounds are [`FloatHistogram::custom_values`] and then +Inf.

mod bounds;
mod validate;
mod view;

use std::sync::Arc;

pub use bounds::{ldexp, upper_bound};
pub use validate::{InvalidHistogram, Side as InvalidSide, Value as InvalidValue};
pub use view::{Bucket, Side, View};

/// The schema of histograms whose bounds are listed.
pub const CUSTOM_SCHEMA: i32 = -53;

/// What is known about a reset between this histogram and the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterReset {
    /// Nothing.
    #[default]
    Unknown,
    /// There was one.
    Reset,
    /// There was none.
    NotReset,
    /// It is a gauge, which knows no resets.
    Gauge,
}

/// A run of buckets next to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Index of the first bucket (first span), or how many buckets were left out since the last
    /// span.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// Buckets of one sign.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Which buckets there are.
    pub spans: Vec<Span>,
    /// Their counts, one for each bucket of the spans.
    pub counts: Vec<f64>,
}

/// A native histogram with float counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    /// What is known about a reset before it.
    pub counter_reset: CounterReset,
    /// -4 to 8, or [`CUSTOM_SCHEMA`].
    pub schema: i32,
    /// Observations of at most this magnitude are in the zero bucket.
    pub zero_threshold: f64,
    /// Count of the zero bucket.
    pub zero_count: f64,
    /// Count of all observations.
    pub count: f64,
    /// Sum of all observations; the stale marker stands here.
    pub sum: f64,
    /// Buckets of positive observations (all of them in the custom schema).
    pub positive: Buckets,
    /// Buckets of negative observations.
    pub negative: Buckets,
    /// Upper bounds of the custom schema, ascending, without +Inf.
    pub custom_values: Arc<[f64]>,
}

/// Buckets of one sign with integer counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntBuckets {
    /// Which buckets there are.
    pub spans: Vec<Span>,
    /// The first count, then each count's difference to the one before it.
    pub deltas: Vec<i64>,
}

/// A native histogram with integer counts: what instrumented programs expose, and the form in which
/// encoding 2 and the write-ahead log keep it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntHistogram {
    /// What is known about a reset before it.
    pub counter_reset: CounterReset,
    /// -4 to 8, or [`CUSTOM_SCHEMA`].
    pub schema: i32,
    /// Observations of at most this magnitude are in the zero bucket.
    pub zero_threshold: f64,
    /// Count of the zero bucket.
    pub zero_count: u64,
    /// Count of all observations.
    pub count: u64,
    /// Sum of all observations; the stale marker stands here.
    pub sum: f64,
    /// Buckets of positive observations (all of them in the custom schema).
    pub positive: IntBuckets,
    /// Buckets of negative observations.
    pub negative: IntBuckets,
    /// Upper bounds of the custom schema, ascending, without +Inf.
    pub custom_values: Arc<[f64]>,
}

/// A native histogram as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Histogram {
    /// With integer counts.
    Int(IntHistogram),
    /// With float counts.
    Float(FloatHistogram),
}

impl IntBuckets {
    /// The counts.
    pub fn counts(&self) -> impl Iterator<Item = i64> {
        self.deltas.iter().scan(0i64, |count, delta| {
            *count = count.wrapping_add(*delta);
            Some(*count)
        })
    }

    /// Buckets from pairs of index and count with ascending indexes.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let mut out = Self::default();
        let mut before = 0;
        let spans = pairs.into_iter().map(|(index, count)| {
            out.deltas.push(count.wrapping_sub(before));
            before = count;
            index
        });
        let spans = spans_of(spans);
        Self { spans, ..out }
    }

    /// The buckets as pairs of index and count, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (i32, i64)> {
        indexes(&self.spans).zip(self.counts())
    }

    fn to_float(&self) -> Buckets {
        Buckets {
            spans: self.spans.clone(),
            counts: self.counts().map(|count| count as f64).collect(),
        }
    }
}

impl IntHistogram {
    /// Lowers the resolution of an exponential histogram to `schema`, if it is higher.
    pub fn reduce_to(&mut self, schema: i32) {
        if self.schema == CUSTOM_SCHEMA || schema >= self.schema {
            return;
        }
        let map = coarser(self.schema, schema);
        for buckets in [&mut self.positive, &mut self.negative] {
            let mut pairs: Vec<(i32, i64)> = Vec::with_capacity(buckets.deltas.len());
            for (index, count) in buckets.iter() {
                let index = map(index);
                match pairs.last_mut() {
                    Some((last, sum)) if *last == index => *sum = sum.wrapping_add(count),
                    _ => pairs.push((index, count)),
                }
            }
            *buckets = IntBuckets::from_pairs(pairs);
        }
        self.schema = schema;
    }

    /// The same with float counts, as PromQL sees it.
    pub fn to_float(&self) -> FloatHistogram {
        FloatHistogram {
            counter_reset: self.counter_reset,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive: self.positive.to_float(),
            negative: self.negative.to_float(),
            custom_values: Arc::clone(&self.custom_values),
        }
    }
}

impl Histogram {
    /// The same with float counts.
    pub fn to_float(&self) -> FloatHistogram {
        match self {
            Self::Int(h) => h.to_float(),
            Self::Float(h) => h.clone(),
        }
    }

    /// How many entries its positive and negative buckets have, empty ones included.
    pub fn entries(&self) -> usize {
        match self {
            Self::Int(h) => h.positive.deltas.len() + h.negative.deltas.len(),
            Self::Float(h) => h.positive.counts.len() + h.negative.counts.len(),
        }
    }

    /// Forgets what is known about a reset before it, unless it is a gauge.
    pub fn forget_reset(&mut self) {
        let reset = match self {
            Self::Int(h) => &mut h.counter_reset,
            Self::Float(h) => &mut h.counter_reset,
        };
        if *reset != CounterReset::Gauge {
            *reset = CounterReset::Unknown;
        }
    }

    /// The sum of observations; the stale marker stands here.
    pub fn sum(&self) -> f64 {
        match self {
            Self::Int(h) => h.sum,
            Self::Float(h) => h.sum,
        }
    }
}

/// Why two histograms cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot apply this operation on histograms with a mix of exponential and custom bucket schemas"
)]
pub struct IncompatibleSchemas;

impl Buckets {
    /// The buckets as pairs of index and count, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (i32, f64)> {
        indexes(&self.spans).zip(self.counts.iter().copied())
    }

    /// Buckets from pairs of index and count with ascending indexes.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (i32, f64)>) -> Self {
        let mut counts = Vec::new();
        let indexes = pairs.into_iter().map(|(index, count)| {
            counts.push(count);
            index
        });
        let spans = spans_of(indexes);
        Self { spans, counts }
    }

    /// Without empty buckets.
    fn compacted(&self) -> Self {
        Self::from_pairs(self.iter().filter(|(_, count)| *count != 0.0))
    }

    /// With indexes changed by `map`, which must not reorder them; counts that fall together are
    /// added.
    fn mapped(&self, map: impl Fn(i32) -> i32) -> Self {
        let mut pairs: Vec<(i32, f64)> = Vec::with_capacity(self.counts.len());
        for (index, count) in self.iter() {
            let index = map(index);
            match pairs.last_mut() {
                Some((last, sum)) if *last == index => *sum += count,
                _ => pairs.push((index, count)),
            }
        }
        Self::from_pairs(pairs)
    }

    /// These counts plus `factor` times the others'.
    fn plus(&self, other: &Self, factor: f64) -> Self {
        let mut pairs = Vec::with_capacity(self.counts.len() + other.counts.len());
        let mut others = other.iter().peekable();
        for (index, count) in self.iter() {
            while let Some((i, c)) = others.next_if(|(i, _)| *i < index) {
                pairs.push((i, factor * c));
            }
            let more = others.next_if(|(i, _)| *i == index);
            pairs.push((index, count + more.map_or(0.0, |(_, c)| factor * c)));
        }
        pairs.extend(others.map(|(i, c)| (i, factor * c)));
        Self::from_pairs(pairs)
    }
}

/// The bucket indexes that spans list.
fn indexes(spans: &[Span]) -> impl Iterator<Item = i32> {
    let mut next: i32 = 0;
    spans.iter().flat_map(move |span| {
        let first = next.saturating_add(span.offset);
        next = first.saturating_add(i32::try_from(span.length).unwrap_or(i32::MAX));
        first..next
    })
}

/// Spans of ascending bucket indexes.
fn spans_of(indexes: impl Iterator<Item = i32>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next: i32 = 0;
    for index in indexes {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(Span {
                offset: index.saturating_sub(next),
                length: 1,
            }),
        }
        next = index.saturating_add(1);
    }
    spans
}

/// Where a bucket of schema `from` lies in schema `to`, which is lower: bucket i in ceil(i / 2^shift).
fn coarser(from: i32, to: i32) -> impl Fn(i32) -> i32 {
    let shift = from.saturating_sub(to).min(31);
    move |index: i32| (index.saturating_sub(1) >> shift) + 1
}

impl FloatHistogram {
    /// Whether its bounds are listed.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Removes empty buckets.
    pub fn compact(&mut self) {
        self.positive = self.positive.compacted();
        self.negative = self.negative.compacted();
    }

    /// Lowers the resolution of an exponential histogram to `schema`, if it is higher.
    pub fn reduce_to(&mut self, schema: i32) {
        if self.is_custom() || schema >= self.schema {
            return;
        }
        let map = coarser(self.schema, schema);
        self.positive = self.positive.mapped(&map);
        self.negative = self.negative.mapped(&map);
        self.schema = schema;
    }

    /// Adds `other`: to the lower of the two resolutions, the wider zero bucket, the bounds that
    /// both have.
    pub fn add(&mut self, other: &Self) -> Result<(), IncompatibleSchemas> {
        self.combine(other, 1.0)
    }

    /// Subtracts `other`, likewise.
    pub fn sub(&mut self, other: &Self) -> Result<(), IncompatibleSchemas> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &Self, factor: f64) -> Result<(), IncompatibleSchemas> {
        if self.is_custom() != other.is_custom() {
            return Err(IncompatibleSchemas);
        }
        let mut other = other.clone();
        self.counter_reset = match (self.counter_reset, other.counter_reset) {
            (a, b) if a == b => a,
            (CounterReset::Gauge, _) | (_, CounterReset::Gauge) => CounterReset::Gauge,
            _ => CounterReset::Unknown,
        };
        if self.is_custom() {
            if self.custom_values != other.custom_values {
                let common: Arc<[f64]> = self
                    .custom_values
                    .iter()
                    .filter(|bound| other.custom_values.contains(bound))
                    .copied()
                    .collect();
                self.rebound(&common);
                other.rebound(&common);
            }
        } else {
            while self.zero_threshold < other.zero_threshold
                || other.zero_threshold < self.zero_threshold
            {
                if self.zero_threshold > other.zero_threshold {
                    other.widen_zero_bucket(self.zero_threshold);
                } else {
                    self.widen_zero_bucket(other.zero_threshold);
                }
            }
            let schema = self.schema.min(other.schema);
            self.reduce_to(schema);
            other.reduce_to(schema);
            self.zero_count += factor * other.zero_count;
        }
        self.count += factor * other.count;
        self.sum += factor * other.sum;
        self.positive = self.positive.plus(&other.positive, factor);
        self.negative = self.negative.plus(&other.negative, factor);
        Ok(())
    }

    /// Changes custom bounds to `bounds`, some of the present ones.
    fn rebound(&mut self, bounds: &Arc<[f64]>) {
        let old = Arc::clone(&self.custom_values);
        self.positive = self.positive.mapped(|index| {
            let upper = usize::try_from(index)
                .ok()
                .and_then(|i| old.get(i))
                .copied()
                .unwrap_or(f64::INFINITY);
            bounds.partition_point(|bound| *bound < upper) as i32
        });
        self.custom_values = Arc::clone(bounds);
    }

    /// Moves what lies within `threshold` (and the rest of a bucket that it cuts) into the zero
    /// bucket.
    fn widen_zero_bucket(&mut self, mut threshold: f64) {
        let schema = self.schema;
        // A populated bucket that the threshold cuts moves the threshold to its end, which can
        // cut a bucket of the other sign.
        loop {
            let cut = [&self.positive, &self.negative]
                .into_iter()
                .flat_map(Buckets::iter)
                .filter(|(_, count)| *count != 0.0)
                .filter(|(index, _)| {
                    upper_bound(schema, index.saturating_sub(1)) < threshold
                        && upper_bound(schema, *index) > threshold
                })
                .map(|(index, _)| upper_bound(schema, index))
                .fold(threshold, f64::max);
            if cut <= threshold {
                break;
            }
            threshold = cut;
        }
        let inside = |index: i32| upper_bound(schema, index.saturating_sub(1)) < threshold;
        for buckets in [&mut self.positive, &mut self.negative] {
            self.zero_count += buckets
                .iter()
                .filter(|(index, _)| inside(*index))
                .map(|(_, count)| count)
                .sum::<f64>();
            *buckets = Buckets::from_pairs(buckets.iter().filter(|(index, _)| !inside(*index)));
        }
        self.zero_threshold = threshold;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(first: i32, counts: &[f64]) -> Buckets {
        Buckets::from_pairs((first..).zip(counts.iter().copied()))
    }

    fn histogram(schema: i32, first: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            count: counts.iter().sum(),
            sum: 1.0,
            positive: buckets(first, counts),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn pairs_and_spans_go_round() {
        let pairs = [(-3, 1.0), (-2, 0.0), (4, 2.0)];
        let b = Buckets::from_pairs(pairs);
        assert_eq!(
            b.spans,
            [
                Span {
                    offset: -3,
                    length: 2
                },
                Span {
                    offset: 5,
                    length: 1
                }
            ]
        );
        assert_eq!(b.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(
            b.compacted().iter().collect::<Vec<_>>(),
            [(-3, 1.0), (4, 2.0)]
        );
    }

    #[test]
    fn adding_meets_at_the_lower_resolution() {
        // Schema 1: (1, 1.41], (1.41, 2], (2, 2.83]; schema 0: (1, 2], (2, 4].
        let mut a = histogram(1, 1, &[1.0, 2.0, 4.0]);
        a.add(&histogram(0, 1, &[10.0, 20.0, 30.0])).unwrap();
        assert_eq!(a.schema, 0);
        assert_eq!(a.positive, buckets(1, &[13.0, 24.0, 30.0]));
        assert_eq!(a.count, 67.0);
        a.sub(&histogram(0, 1, &[10.0, 20.0, 30.0])).unwrap();
        a.compact();
        assert_eq!(a.positive, buckets(1, &[3.0, 4.0]));
    }

    #[test]
    fn zero_buckets_meet_at_the_wider_one() {
        let mut a = histogram(0, 0, &[1.0, 2.0, 4.0]); // (0.5, 1], (1, 2], (2, 4]
        let b = FloatHistogram {
            zero_threshold: 1.5,
            zero_count: 8.0,
            ..FloatHistogram::default()
        };
        a.add(&b).unwrap();
        // 1.5 cuts (1, 2], which is populated.
        assert_eq!((a.zero_threshold, a.zero_count), (2.0, 11.0));
        assert_eq!(a.positive, buckets(2, &[4.0]));
    }

    #[test]
    fn custom_bounds_meet_at_the_common_ones() {
        let custom = |bounds: &[f64], counts: &[f64]| FloatHistogram {
            custom_values: bounds.into(),
            ..histogram(CUSTOM_SCHEMA, 0, counts)
        };
        let mut a = custom(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0, 8.0]);
        a.add(&custom(&[1.0, 3.0], &[10.0, 20.0, 30.0])).unwrap();
        assert_eq!(*a.custom_values, [1.0, 3.0]);
        assert_eq!(a.positive, buckets(0, &[11.0, 26.0, 38.0]));
        assert!(a.add(&histogram(0, 0, &[1.0])).is_err());
    }
}
