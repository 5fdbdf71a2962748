//! Reading a histogram bucket by bucket, wherever its parts lie.

use super::bounds::upper_bound;
use super::{CUSTOM_SCHEMA, FloatHistogram, Span};

/// A bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether an observation of the lower bound is in here.
    pub lower_inclusive: bool,
    /// Whether an observation of the upper bound is in here.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
}

/// Spans and counts of one sign.
#[derive(Clone, Copy, Debug, Default)]
pub struct Side<'a> {
    /// Which buckets there are.
    pub spans: &'a [Span],
    /// Their counts.
    pub counts: &'a [f64],
}

/// A histogram whose parts lie anywhere.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// -4 to 8, or [`CUSTOM_SCHEMA`].
    pub schema: i32,
    /// Observations of at most this magnitude are in the zero bucket.
    pub zero_threshold: f64,
    /// Count of the zero bucket.
    pub zero_count: f64,
    /// Count of all observations.
    pub count: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// Buckets of positive observations.
    pub positive: Side<'a>,
    /// Buckets of negative observations.
    pub negative: Side<'a>,
    /// Upper bounds of the custom schema.
    pub custom_values: &'a [f64],
}

impl<'a> Side<'a> {
    /// Indexes and counts, ascending.
    pub fn ascending(self) -> impl Iterator<Item = (i32, f64)> + 'a {
        let mut next: i32 = 0;
        let indexes = self.spans.iter().flat_map(move |span| {
            let first = next.saturating_add(span.offset);
            next = first.saturating_add(i32::try_from(span.length).unwrap_or(i32::MAX));
            first..next
        });
        indexes.zip(self.counts.iter().copied())
    }

    /// Indexes and counts, descending.
    pub fn descending(self) -> impl Iterator<Item = (i32, f64)> + 'a {
        let total: usize = self.spans.iter().map(|s| s.length as usize).sum();
        // A count that no span stands for, or the other way round, only damage can make.
        let counts = self.counts.get(..total.min(self.counts.len()));
        let missing = total.saturating_sub(self.counts.len());
        let end = self.spans.iter().fold(0i32, |end, span| {
            let length = i32::try_from(span.length).unwrap_or(i32::MAX);
            end.saturating_add(span.offset).saturating_add(length)
        });
        let mut end = end;
        let indexes = self.spans.iter().rev().flat_map(move |span| {
            let length = i32::try_from(span.length).unwrap_or(i32::MAX);
            let first = end.saturating_sub(length);
            let here = (first..end).rev();
            end = first.saturating_sub(span.offset);
            here
        });
        let counts = counts.unwrap_or_default().iter().rev().copied();
        indexes.skip(missing).zip(counts)
    }
}

impl<'a> View<'a> {
    /// Whether its bounds are listed.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// The upper bound of bucket `index`.
    fn bound(&self, index: i32) -> f64 {
        if !self.is_custom() {
            return upper_bound(self.schema, index);
        }
        match usize::try_from(index) {
            Err(_) => f64::NEG_INFINITY,
            Ok(i) => self.custom_values.get(i).copied().unwrap_or(f64::INFINITY),
        }
    }

    /// Positive bucket `index`; not cut by the zero bucket.
    pub fn positive_bucket(&self, index: i32, count: f64) -> Bucket {
        let (lower, upper) = (self.bound(index.saturating_sub(1)), self.bound(index));
        let custom = self.is_custom();
        Bucket {
            lower,
            upper,
            lower_inclusive: if custom { index == 0 } else { lower < 0.0 },
            upper_inclusive: custom || upper > 0.0,
            count,
        }
    }

    /// Negative bucket `index`; not cut by the zero bucket.
    pub fn negative_bucket(&self, index: i32, count: f64) -> Bucket {
        let (lower, upper) = (-self.bound(index), -self.bound(index.saturating_sub(1)));
        Bucket {
            lower,
            upper,
            lower_inclusive: lower < 0.0,
            upper_inclusive: upper > 0.0,
            count,
        }
    }

    /// The zero bucket.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// The part of a bucket that the zero bucket leaves.
    fn cut(&self, mut bucket: Bucket) -> Bucket {
        if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
            bucket.upper = -self.zero_threshold;
        } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
            bucket.lower = self.zero_threshold;
        }
        bucket
    }

    fn zero(&self) -> impl Iterator<Item = Bucket> + use<> {
        (self.zero_count > 0.0)
            .then(|| self.zero_bucket())
            .into_iter()
    }

    /// All buckets, ascending by bound; a zero bucket without observations is left out, other
    /// empty buckets are not.
    pub fn ascending(self) -> impl Iterator<Item = Bucket> + 'a {
        let negative = self.negative.descending();
        let positive = self.positive.ascending();
        let zero = self.zero();
        negative
            .map(move |(i, count)| self.cut(self.negative_bucket(i, count)))
            .chain(zero)
            .chain(positive.map(move |(i, count)| self.cut(self.positive_bucket(i, count))))
    }

    /// All buckets, descending by bound.
    pub fn descending(self) -> impl Iterator<Item = Bucket> + 'a {
        let negative = self.negative.ascending();
        let positive = self.positive.descending();
        let zero = self.zero();
        positive
            .map(move |(i, count)| self.cut(self.positive_bucket(i, count)))
            .chain(zero)
            .chain(negative.map(move |(i, count)| self.cut(self.negative_bucket(i, count))))
    }
}

impl FloatHistogram {
    /// Its parts.
    pub fn view(&self) -> View<'_> {
        View {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive: Side {
                spans: &self.positive.spans,
                counts: &self.positive.counts,
            },
            negative: Side {
                spans: &self.negative.spans,
                counts: &self.negative.counts,
            },
            custom_values: &self.custom_values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Buckets;
    use super::*;

    #[test]
    fn buckets_come_in_order_from_both_ends() {
        let h = FloatHistogram {
            zero_threshold: 0.6,
            zero_count: 9.0,
            positive: Buckets::from_pairs([(0, 1.0), (1, 2.0), (4, 3.0)]),
            negative: Buckets::from_pairs([(-1, 4.0), (2, 5.0)]),
            ..FloatHistogram::default()
        };
        let up: Vec<_> = h
            .view()
            .ascending()
            .map(|b| (b.lower, b.upper, b.count))
            .collect();
        assert_eq!(
            up,
            [
                (-4.0, -2.0, 5.0),
                (-0.5, -0.6, 4.0),
                (-0.6, 0.6, 9.0),
                (0.6, 1.0, 1.0),
                (1.0, 2.0, 2.0),
                (8.0, 16.0, 3.0)
            ]
        );
        let mut down: Vec<_> = h
            .view()
            .descending()
            .map(|b| (b.lower, b.upper, b.count))
            .collect();
        down.reverse();
        assert_eq!(down, up);
        let custom = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            custom_values: [2.0, 5.0].into(),
            positive: Buckets::from_pairs([(0, 1.0), (2, 3.0)]),
            ..FloatHistogram::default()
        };
        let all: Vec<_> = custom.view().ascending().collect();
        assert_eq!((all[0].lower, all[0].upper), (f64::NEG_INFINITY, 2.0));
        assert!(all[0].lower_inclusive && all[0].upper_inclusive);
        assert_eq!((all[1].lower, all[1].upper), (5.0, f64::INFINITY));
        assert!(!all[1].lower_inclusive && all[1].upper_inclusive);
    }

    #[test]
    fn damaged_counts_do_no_harm() {
        let mut h = FloatHistogram {
            positive: Buckets::from_pairs([(0, 1.0), (1, 2.0), (4, 3.0)]),
            ..FloatHistogram::default()
        };
        h.positive.counts.pop();
        let down: Vec<_> = h.view().positive.descending().collect();
        assert_eq!(down, [(1, 2.0), (0, 1.0)]);
        h.positive.counts.extend([1.0; 9]);
        assert_eq!(h.view().ascending().count(), 3);
        assert_eq!(h.view().descending().count(), 3);
    }
}
