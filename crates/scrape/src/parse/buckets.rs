//! Native histograms out of classic ones: the buckets' bounds become custom bounds (NHCB).
//!
//! The rules are Prometheus' (`util/convertnhcb`): buckets are cumulative and must not fall, the
//! last one is +Inf with the count of all, and counts that are no integers make it a histogram of
//! floats.

use std::sync::Arc;

use model::histogram::{
    Buckets, CUSTOM_SCHEMA, CounterReset, FloatHistogram, Histogram, IntBuckets, IntHistogram,
};

/// The series of a classic histogram, as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classic {
    /// Upper bound and cumulative count, ascending.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    /// Something contradicts itself: there will be no histogram.
    broken: bool,
}

impl Classic {
    pub(crate) fn clear(&mut self) {
        self.buckets.clear();
        self.count = None;
        self.sum = 0.0;
        self.broken = false;
    }

    pub(crate) fn set_bucket(&mut self, bound: f64, count: f64) {
        if bound.is_nan() || count < 0.0 {
            self.broken = true;
            return;
        }
        let at = self.buckets.partition_point(|(b, _)| *b < bound);
        if self.buckets.get(at).is_some_and(|(b, _)| *b == bound) {
            return;
        }
        let before = at.checked_sub(1).and_then(|i| self.buckets.get(i));
        let after = self.buckets.get(at);
        if before.is_some_and(|(_, c)| count < *c) || after.is_some_and(|(_, c)| count > *c) {
            self.broken = true;
            return;
        }
        self.buckets.insert(at, (bound, count));
    }

    pub(crate) fn set_count(&mut self, count: f64) {
        self.broken |= count < 0.0;
        self.count = Some(count);
    }

    pub(crate) fn set_sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// The histogram; none if the series contradict each other.
    pub(crate) fn convert(&mut self, counter_reset: CounterReset) -> Option<Histogram> {
        if self.broken {
            return None;
        }
        let last = self.buckets.last().copied();
        let count = self.count.or(last.map(|(_, count)| count)).unwrap_or(0.0);
        if last.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        if self.buckets.last().is_none_or(|(_, all)| *all != count) {
            return None;
        }
        let bounds = self.buckets.iter().map(|(bound, _)| *bound);
        let custom_values: Arc<[f64]> = bounds.filter(|b| *b != f64::INFINITY).collect();
        // Integers up to here are floats without loss.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let whole = self
            .buckets
            .iter()
            .all(|(_, c)| c.fract() == 0.0 && *c <= EXACT);
        let mut before = 0.0;
        let counts = self.buckets.iter().map(|(_, count)| {
            let own = *count - before;
            before = *count;
            own
        });
        let indexed = (0..).zip(counts);
        let histogram = if whole {
            Histogram::Int(IntHistogram {
                counter_reset,
                schema: CUSTOM_SCHEMA,
                count: count as u64,
                sum: self.sum,
                positive: compacted(indexed.map(|(i, c)| (i, c as i64)), 2),
                custom_values,
                ..IntHistogram::default()
            })
        } else {
            Histogram::Float(FloatHistogram {
                counter_reset,
                schema: CUSTOM_SCHEMA,
                count,
                sum: self.sum,
                positive: Buckets::from_pairs(indexed.filter(|(_, c)| *c != 0.0)),
                custom_values,
                ..FloatHistogram::default()
            })
        };
        histogram.validate().is_ok().then_some(histogram)
    }
}

/// Buckets without empty ones, but for runs of at most `gap` between others.
pub(crate) fn compacted(pairs: impl Iterator<Item = (i32, i64)>, gap: i32) -> IntBuckets {
    let mut last: Option<i32> = None;
    IntBuckets::from_pairs(
        pairs
            .filter(|(_, count)| *count != 0)
            .flat_map(|(i, count)| {
                let from = match last.replace(i) {
                    Some(before)
                        if i.wrapping_sub(before) > 1 && i.wrapping_sub(before) - 1 <= gap =>
                    {
                        before + 1
                    }
                    _ => i,
                };
                (from..i).map(|empty| (empty, 0)).chain([(i, count)])
            }),
    )
}

#[cfg(test)]
mod tests {
    use model::histogram::Span;

    use super::*;

    fn classic(buckets: &[(f64, f64)], count: Option<f64>) -> Classic {
        let mut classic = Classic::default();
        for (bound, c) in buckets {
            classic.set_bucket(*bound, *c);
        }
        if let Some(count) = count {
            classic.set_count(count);
        }
        classic.set_sum(3.5);
        classic
    }

    #[test]
    fn buckets_become_custom_bounds() {
        let mut c = classic(&[(1.0, 2.0), (0.5, 1.0), (f64::INFINITY, 4.0)], Some(4.0));
        let Some(Histogram::Int(h)) = c.convert(CounterReset::Unknown) else {
            panic!("no histogram of integers");
        };
        assert_eq!(*h.custom_values, [0.5, 1.0]);
        assert_eq!(h.positive.counts().collect::<Vec<_>>(), [1, 1, 2]);
        assert_eq!((h.count, h.sum), (4, 3.5));
        // No +Inf bucket: the rest is in it.
        let mut c = classic(&[(1.0, 2.0)], Some(2.5));
        let Some(Histogram::Float(h)) = c.convert(CounterReset::Gauge) else {
            panic!("no histogram of floats");
        };
        assert_eq!(h.positive.counts, [2.0, 0.5]);
        assert_eq!(h.counter_reset, CounterReset::Gauge);
    }

    #[test]
    fn contradictions_make_no_histogram() {
        for (buckets, count) in [
            (&[(1.0, 2.0), (2.0, 1.0)][..], Some(2.0)),
            (&[(1.0, -1.0)], Some(2.0)),
            (&[(f64::NAN, 1.0)], Some(2.0)),
            (&[(f64::INFINITY, 1.0)], Some(2.0)),
        ] {
            assert_eq!(classic(buckets, count).convert(CounterReset::Unknown), None);
        }
    }

    #[test]
    fn short_gaps_are_kept() {
        let pairs = [(0, 0), (1, 1), (2, 0), (3, 0), (4, 2), (5, 0), (8, 3)];
        let buckets = compacted(pairs.into_iter(), 2);
        let span = |offset, length| Span { offset, length };
        assert_eq!(buckets.spans, [span(1, 4), span(3, 1)]);
        let counts: Vec<i64> = buckets.counts().collect();
        assert_eq!(counts, [1, 0, 0, 2, 3]);
        assert_eq!(compacted(pairs.into_iter(), 0).spans.len(), 3);
    }
}
