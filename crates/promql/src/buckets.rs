//! Quantiles and fractions of classic histograms.

/// A cumulative bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    /// Upper bound, inclusive.
    pub(crate) bound: f64,
    /// Observations up to it.
    pub(crate) count: f64,
}

/// How falling counts were corrected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fixed {
    /// Lowest and highest bound concerned.
    pub(crate) bounds: (f64, f64),
    /// The largest correction.
    pub(crate) max_diff: f64,
}

/// Counts that differ less than this (relatively) are taken to be equal.
const TOLERANCE: f64 = 1e-12;

/// The q-quantile of `buckets`, which are sorted by bound, at least one; and how counts had to be
/// corrected, if any fell.
pub(crate) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Fixed>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !ends_at_infinity(buckets) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let fixed = make_monotonic(buckets);
    if buckets.len() < 2 {
        return (f64::NAN, fixed);
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if observations == 0.0 {
        return (f64::NAN, fixed);
    }
    let mut rank = q * observations;
    // The first bucket that reaches the rank, in the order of Go's sort.Search.
    let b = search(last, |i| buckets[i].count >= rank);
    let value = if b == last {
        buckets[last - 1].bound
    } else if b == 0 && buckets[0].bound <= 0.0 {
        buckets[0].bound
    } else {
        let (mut start, end, mut count) = (0.0, buckets[b].bound, buckets[b].count);
        if b > 0 {
            start = buckets[b - 1].bound;
            count -= buckets[b - 1].count;
            rank -= buckets[b - 1].count;
        }
        start + (end - start) * (rank / count)
    };
    (value, fixed)
}

/// The share of observations between `lower` and `upper`; buckets as for [`quantile`].
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !ends_at_infinity(buckets) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets.last().map_or(0.0, |b| b.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut rank = 0.0;
    let mut from = if buckets[0].bound <= 0.0 {
        f64::NEG_INFINITY
    } else {
        0.0
    };
    for (i, b) in buckets.iter().enumerate() {
        if i > 0 {
            from = buckets[i - 1].bound;
        }
        let to = b.bound;
        let interpolate = |v: f64| {
            if from == f64::NEG_INFINITY {
                b.count
            } else {
                rank + (b.count - rank) * (v - from) / (to - from)
            }
        };
        for (wanted, at) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if at.is_none() {
                if from >= wanted {
                    *at = Some(rank);
                } else if to > wanted {
                    *at = Some(interpolate(wanted));
                }
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank = b.count;
    }
    let capped = |rank: Option<f64>| rank.filter(|r| *r <= count).unwrap_or(count);
    (capped(upper_rank) - capped(lower_rank)) / count
}

fn ends_at_infinity(buckets: &[Bucket]) -> bool {
    buckets.last().is_some_and(|b| b.bound == f64::INFINITY)
}

/// Adds up buckets of equal bounds.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|b, kept| {
        let equal = b.bound == kept.bound;
        if equal {
            kept.count += b.count;
        }
        equal
    });
}

/// Counts must not fall. Tiny differences are evened out silently.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<Fixed> {
    let mut fixed: Option<Fixed> = None;
    let mut previous = buckets.first()?.count;
    for b in &mut buckets[1..] {
        if b.count == previous {
            continue;
        }
        if almost_equal(previous, b.count) {
            b.count = previous;
        } else if b.count < previous {
            let diff = previous - b.count;
            b.count = previous;
            let f = fixed.get_or_insert(Fixed {
                bounds: (f64::INFINITY, f64::NEG_INFINITY),
                max_diff: 0.0,
            });
            f.bounds = (f.bounds.0.min(b.bound), f.bounds.1.max(b.bound));
            f.max_diff = f.max_diff.max(diff);
        } else {
            previous = b.count;
        }
    }
    fixed
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

/// The least `i` of `0..n` that satisfies `is`, or `n`; Go's binary search, whose answer is defined
/// even where `is` is not monotonic (counts that are NaN).
fn search(n: usize, is: impl Fn(usize) -> bool) -> usize {
    let (mut lo, mut hi) = (0, n);
    while lo < hi {
        let mid = (lo + hi) / 2;
        if is(mid) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    lo
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(all: &[(f64, f64)]) -> Vec<Bucket> {
        all.iter()
            .map(|&(bound, count)| Bucket { bound, count })
            .collect()
    }

    #[test]
    fn quantiles_interpolate_inside_a_bucket() {
        let h = [(0.1, 5.0), (0.2, 10.0), (f64::INFINITY, 10.0)];
        let q = |q, h: &[(f64, f64)]| quantile(q, &mut histogram(h)).0;
        assert_eq!(q(0.5, &h), 0.1);
        assert!((q(0.75, &h) - 0.15).abs() < 1e-12);
        assert_eq!(q(1.5, &h), f64::INFINITY);
        assert!(q(0.5, &h[..2]).is_nan());
        let top = [(0.1, 5.0), (f64::INFINITY, 10.0)];
        assert_eq!(q(0.9, &top), 0.1);
        let fell = [(0.1, 5.0), (0.2, 3.0), (f64::INFINITY, 10.0)];
        let (_, fixed) = quantile(0.5, &mut histogram(&fell));
        assert_eq!(
            fixed,
            Some(Fixed {
                bounds: (0.2, 0.2),
                max_diff: 2.0
            })
        );
    }

    #[test]
    fn fractions_interpolate_at_both_ends() {
        let h = [(1.0, 4.0), (2.0, 8.0), (f64::INFINITY, 8.0)];
        let f = |lower, upper| fraction(lower, upper, &mut histogram(&h));
        assert_eq!(f(0.0, 1.0), 0.5);
        assert_eq!(f(0.5, 1.5), 0.5);
        assert_eq!(f(f64::NEG_INFINITY, f64::INFINITY), 1.0);
        assert_eq!(f(2.0, 1.0), 0.0);
    }
}
