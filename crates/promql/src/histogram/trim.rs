//! `</` and `>/`: the part of a histogram below or above a value.

use model::histogram::Bucket;

use super::Histogram;
use super::quantile::fraction_below;

/// The observations below (`upper`) or above `at`; buckets that `at` cuts are divided as quantiles
/// divide them. Count and sum are estimated anew if anything was cut off.
pub(crate) fn trim(h: &Histogram, at: f64, upper: bool) -> Histogram {
    let custom = h.is_custom();
    let view = h.view();
    let buckets: Vec<(Bucket, bool)> = view
        .positive
        .ascending()
        .map(|(i, count)| (view.positive_bucket(i, count), true))
        .chain(
            view.negative
                .ascending()
                .map(|(i, count)| (view.negative_bucket(i, count), false)),
        )
        .collect();
    let mut out = h.clone();
    let (mut count, mut sum, mut cut) = (0.0, 0.0, false);
    // Buckets of each sign that hold anything.
    let mut signs = (false, false);
    for ((b, positive), cell) in buckets.iter().zip(&mut out.counts) {
        if b.count == 0.0 {
            continue;
        }
        if *positive {
            signs.0 = true;
        } else {
            signs.1 = true;
        }
        let (inside, divided) = if upper {
            (b.upper <= at, b.lower < at)
        } else {
            (b.lower >= at, b.upper > at)
        };
        let (kept, middle) = if inside {
            (b.count, middle(b.lower, b.upper, *positive, custom))
        } else if divided {
            part(b, at, upper, *positive, custom)
        } else {
            // NaN is neither below nor above.
            (0.0, 0.0)
        };
        if kept != b.count {
            *cell = kept;
            cut = true;
        }
        count += kept;
        sum += middle * kept;
    }
    if out.scalars.zero_count > 0.0 {
        let (kept, middle) = zero_part(&view.zero_bucket(), at, signs, upper);
        if kept != out.scalars.zero_count {
            out.scalars.zero_count = kept;
            cut = true;
        }
        sum += middle * kept;
        count += kept;
    }
    if cut {
        out.scalars.count = count;
        out.scalars.sum = sum;
        out.compacted = true;
    }
    out
}

/// What stays of a bucket that `at` cuts, and the middle of that.
fn part(b: &Bucket, at: f64, upper: bool, positive: bool, custom: bool) -> (f64, f64) {
    if b.lower == f64::NEG_INFINITY || b.upper == f64::INFINITY {
        return endless_part(b, at, upper);
    }
    let below = if at <= b.lower {
        0.0
    } else if at >= b.upper {
        b.count
    } else {
        b.count * fraction_below(b, at, custom)
    };
    if upper {
        (below, middle(b.lower, at, positive, custom))
    } else {
        (b.count - below, middle(at, b.upper, positive, custom))
    }
}

/// The same of a bucket without one of its bounds: nothing is known of how it is filled, so where
/// `at` lies in it, it goes whole.
fn endless_part(b: &Bucket, at: f64, upper: bool) -> (f64, f64) {
    let finite = |v: f64| if v.is_infinite() { 0.0 } else { v };
    if b.lower == f64::NEG_INFINITY {
        // A first bucket with a positive bound is taken to start at zero.
        let from_zero = b.upper > 0.0 && b.upper != f64::INFINITY;
        if upper {
            if at >= b.upper {
                return (b.count, 0.0);
            }
            if at > 0.0 && from_zero {
                return (b.count * at / b.upper, at / 2.0);
            }
            if b.upper <= 0.0 {
                return (b.count, at);
            }
            return (0.0, finite(b.upper));
        }
        if at <= b.lower {
            return (b.count, 0.0);
        }
        if at >= 0.0 && b.upper > at && b.upper != f64::INFINITY {
            return (b.count * (1.0 - at / b.upper), (at + b.upper) / 2.0);
        }
        return (0.0, finite(b.upper));
    }
    if !upper && at >= b.lower {
        return (b.count, at);
    }
    (0.0, finite(b.lower))
}

/// What stays of the zero bucket, and the middle of that.
fn zero_part(b: &Bucket, at: f64, signs: (bool, bool), upper: bool) -> (f64, f64) {
    let (mut from, mut to) = (b.lower, b.upper);
    match signs {
        (false, true) => to = 0.0,
        (true, false) => from = 0.0,
        _ => {}
    }
    let whole = (b.count, (from + to) / 2.0);
    if at <= from {
        return if upper { (0.0, 0.0) } else { whole };
    }
    if at >= to {
        return if upper { whole } else { (0.0, 0.0) };
    }
    let share = if upper { at - from } else { to - at } / (to - from);
    let middle = if upper { from + at } else { at + to } / 2.0;
    (b.count * share, middle)
}

/// The middle of what lies between two bounds.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => return 0.0,
        (true, false) if upper > 0.0 => return upper / 2.0,
        (true, false) => return upper,
        (false, true) => return lower,
        (false, false) => {}
    }
    if linear {
        return (lower + upper) / 2.0;
    }
    let middle = (lower * upper).abs().sqrt();
    if positive { middle } else { -middle }
}
