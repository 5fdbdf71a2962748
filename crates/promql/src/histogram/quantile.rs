//! Quantiles, fractions and deviations of native histograms.

use model::histogram::Bucket;

use super::Histogram;
use crate::elementary::{exp2, log2};
use crate::numbers::kahan_inc;

/// What has to be said about observations that are no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nans {
    /// The quantile lies among them.
    Result,
    /// They move the quantile up.
    Skew,
}

/// Where in a bucket `v` lies, 0 to 1. Exponential buckets are even on a logarithmic scale.
pub(super) fn fraction_below(b: &Bucket, v: f64, linear: bool) -> f64 {
    if linear {
        return (v - b.lower) / (b.upper - b.lower);
    }
    let (lower, upper) = (log2(b.lower.abs()), log2(b.upper.abs()));
    let at = log2(v.abs());
    if v > 0.0 {
        (at - lower) / (upper - lower)
    } else {
        1.0 - (at - upper) / (lower - upper)
    }
}

/// The q-quantile.
pub(crate) fn quantile(q: f64, h: &Histogram) -> (f64, Option<Nans>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    let total = h.scalars.count;
    if total == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    // With a sum that is NaN, some observations may be in no bucket: those above all others.
    let nans = h.scalars.sum.is_nan();
    if nans || q < 0.5 {
        let buckets = h.view().ascending().filter(|b| is_there(h, b));
        from_side(h, q * total, true, buckets, nans)
    } else {
        let buckets = h.view().descending().filter(|b| is_there(h, b));
        from_side(h, (1.0 - q) * total, false, buckets, nans)
    }
}

/// Whether a bucket would be left by compacting: where counts are negative, empty ones matter.
fn is_there(h: &Histogram, b: &Bucket) -> bool {
    !h.compacted || b.count != 0.0
}

fn from_side(
    h: &Histogram,
    mut rank: f64,
    up: bool,
    mut buckets: impl Iterator<Item = Bucket>,
    nans: bool,
) -> (f64, Option<Nans>) {
    let total = h.scalars.count;
    let mut count = 0.0;
    let mut bucket = Bucket {
        lower: 0.0,
        upper: 0.0,
        lower_inclusive: false,
        upper_inclusive: false,
        count: 0.0,
    };
    for b in buckets.by_ref() {
        bucket = b;
        if b.count == 0.0 {
            continue;
        }
        count += b.count;
        if count >= rank {
            break;
        }
    }
    let custom = h.is_custom();
    if custom {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(&mut bucket, h.signs());
    }
    count = count.min(total);
    if count < rank {
        return if nans {
            (f64::NAN, Some(Nans::Result))
        } else {
            (bucket.upper, None)
        };
    }
    rank = if up {
        rank - (count - bucket.count)
    } else {
        count - rank
    };
    let mut said = None;
    if nans {
        for b in buckets {
            // As in Prometheus, the last bucket is then the one that is measured.
            bucket = b;
            count += b.count;
        }
        if count < total {
            said = Some(Nans::Skew);
        }
    }
    let fraction = rank / bucket.count;
    if custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return (
            bucket.lower + (bucket.upper - bucket.lower) * fraction,
            said,
        );
    }
    let (lower, upper) = (log2(bucket.lower.abs()), log2(bucket.upper.abs()));
    let value = if bucket.lower > 0.0 {
        exp2(lower + (upper - lower) * fraction)
    } else {
        -exp2(upper + (lower - upper) * (1.0 - fraction))
    };
    (value, said)
}

/// The zero bucket of a histogram that has buckets of one sign only reaches to zero only.
fn one_sided(bucket: &mut Bucket, (positive, negative): (bool, bool)) {
    match (positive, negative) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

/// The share of observations between `lower` and `upper`, and whether some are no number.
pub(crate) fn fraction(lower: f64, upper: f64, h: &Histogram) -> (f64, bool) {
    let total = h.scalars.count;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    let custom = h.is_custom();
    let signs = h.signs();
    let (mut count, mut rank) = (0.0, 0.0);
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut buckets = h.view().ascending().filter(|b| is_there(h, b));
    for mut b in buckets.by_ref() {
        count += b.count;
        let zero = b.lower <= 0.0 && b.upper >= 0.0;
        if zero {
            one_sided(&mut b, signs);
        }
        let at = |v: f64| {
            let linear = custom || zero;
            if linear && b.lower == f64::NEG_INFINITY {
                // An endless bucket counts whole.
                b.count
            } else {
                rank + b.count * fraction_below(&b, v, linear)
            }
        };
        for (wanted, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if found.is_none() && b.lower >= wanted {
                *found = Some(rank);
            }
        }
        for (wanted, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if found.is_none() && b.lower < wanted && b.upper > wanted {
                *found = Some(at(wanted));
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank += b.count;
    }
    let mut nans = false;
    if h.scalars.sum.is_nan() {
        // One by one: the comparison below is about the last bits.
        for b in buckets {
            count += b.count;
        }
        nans = count < total;
    } else {
        count = total;
    }
    let capped = |rank: Option<f64>| match rank {
        Some(rank) if rank > count => count,
        Some(rank) => rank,
        None => count,
    };
    ((capped(upper_rank) - capped(lower_rank)) / total, nans)
}

/// The variance, every observation taken to be in the middle of its bucket.
pub(crate) fn variance(h: &Histogram) -> f64 {
    let mean = h.scalars.sum / h.scalars.count;
    let custom = h.is_custom();
    let (mut sum, mut comp) = (0.0, 0.0);
    for b in h.view().ascending().filter(|b| b.count != 0.0) {
        let middle = if custom {
            (b.upper + b.lower) / 2.0
        } else if b.lower <= 0.0 && b.upper >= 0.0 {
            0.0
        } else {
            let middle = (b.upper * b.lower).sqrt();
            if b.upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        (sum, comp) = kahan_inc(b.count * delta * delta, sum, comp);
    }
    (sum + comp) / h.scalars.count
}
