//! The `*_over_time` functions.

use super::stacks::Stacks;
use super::{Cols, Out, Param, Scratch};
use crate::numbers::{kahan_inc, nan_first, quantile_of_sorted};

/// Joins two compensated sums.
#[inline(always)]
fn join_sums(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    kahan_inc(b.0, a.0, a.1 + b.1)
}

/// Whether adding up could overflow, so that the result depends on the order.
fn may_overflow(values: &[f64]) -> bool {
    values.iter().any(|v| v.abs() >= 1e290)
}

/// `sum_over_time`
pub(crate) fn sum(cols: &Cols<'_>, scratch: &mut Scratch, out: &mut Out<'_>) {
    let values = cols.values;
    let finish = |(s, c): (f64, f64)| Some(if s.is_infinite() { s } else { s + c });
    if cols.overlapping() && !may_overflow(values) {
        let mut stacks = Stacks::new(&mut scratch.pairs);
        cols.each(out, |_, lo, hi| {
            finish(stacks.window(lo, hi, |i| (values[i], 0.0), join_sums))
        });
    } else {
        cols.each(out, |_, lo, hi| {
            let mut sum = (0.0, 0.0);
            for &v in &values[lo..hi] {
                sum = kahan_inc(v, sum.0, sum.1);
            }
            finish(sum)
        });
    }
}

/// `avg_over_time`: sum by count, or the incremental mean where the sum overflows.
pub(crate) fn avg(cols: &Cols<'_>, scratch: &mut Scratch, out: &mut Out<'_>) {
    let values = cols.values;
    if cols.overlapping() && !may_overflow(values) {
        let mut stacks = Stacks::new(&mut scratch.pairs);
        cols.each(out, |_, lo, hi| {
            let (s, c) = stacks.window(lo, hi, |i| (values[i], 0.0), join_sums);
            let n = (hi - lo) as f64;
            Some(s / n + c / n)
        });
    } else {
        cols.each(out, |_, lo, hi| Some(mean(&values[lo..hi])));
    }
}

/// The mean of `values`, of which there is at least one.
fn mean(values: &[f64]) -> f64 {
    let (mut sum, mut c, mut count) = (values[0], 0.0, 1.0);
    let mut incremental: Option<f64> = None;
    for &v in &values[1..] {
        count += 1.0;
        let mut mean = match incremental {
            Some(mean) => mean,
            None => {
                let next = kahan_inc(v, sum, c);
                if !next.0.is_infinite() {
                    (sum, c) = next;
                    continue;
                }
                c /= count - 1.0;
                sum / (count - 1.0)
            }
        };
        let q = (count - 1.0) / count;
        (mean, c) = kahan_inc(v / count, q * mean, q * c);
        incremental = Some(mean);
    }
    match incremental {
        Some(mean) => mean + c,
        None => sum / count + c / count,
    }
}

/// `min_over_time`, `max_over_time`: NaN gives way to any number.
pub(crate) fn extreme(
    cols: &Cols<'_>,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
    better: impl Fn(f64, f64) -> bool,
) {
    let values = cols.values;
    let join = |a: f64, b: f64| if better(b, a) || a.is_nan() { b } else { a };
    if cols.overlapping() {
        let mut stacks = Stacks::new(&mut scratch.floats);
        cols.each(out, |_, lo, hi| {
            Some(stacks.window(lo, hi, |i| values[i], join))
        });
    } else {
        cols.each(out, |_, lo, hi| values[lo..hi].iter().copied().reduce(join));
    }
}

/// `ts_of_min_over_time`, `ts_of_max_over_time`: the newest of equal ones, in seconds.
pub(crate) fn ts_of_extreme(
    cols: &Cols<'_>,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
    better: impl Fn(f64, f64) -> bool,
) {
    let (ts, values) = (cols.ts, cols.values);
    let join = |a: u32, b: u32| {
        let (va, vb) = (values[a as usize], values[b as usize]);
        if better(vb, va) || va.is_nan() { b } else { a }
    };
    let mut stacks = Stacks::new(&mut scratch.indexes);
    cols.each(out, |_, lo, hi| {
        let best = stacks.window(lo, hi, |i| i as u32, join);
        Some(ts[best as usize] as f64 / 1000.0)
    });
}

/// Count, compensated mean and sum of squared deviations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    n: f64,
    mean: (f64, f64),
    squares: f64,
}

impl Moments {
    fn of(v: f64) -> Self {
        Self {
            n: 1.0,
            mean: (v, 0.0),
            squares: if v.is_finite() { 0.0 } else { f64::NAN },
        }
    }

    /// Chan's formula, with the mean in double the precision: a small deviation beside a large
    /// mean survives.
    fn join(a: Self, b: Self) -> Self {
        let n = a.n + b.n;
        let delta = (b.mean.0 - a.mean.0) + (b.mean.1 - a.mean.1);
        Self {
            n,
            mean: kahan_inc(delta * (b.n / n), a.mean.0, a.mean.1),
            squares: a.squares + b.squares + delta * delta * (a.n * b.n / n),
        }
    }
}

/// `stdvar_over_time`, `stddev_over_time`: `finish` makes the result of the variance.
pub(crate) fn variance(
    cols: &Cols<'_>,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
    finish: impl Fn(f64) -> f64,
) {
    let values = cols.values;
    if cols.overlapping() {
        let mut stacks = Stacks::new(&mut scratch.moments);
        cols.each(out, |_, lo, hi| {
            let m = stacks.window(lo, hi, |i| Moments::of(values[i]), Moments::join);
            Some(finish(m.squares / m.n))
        });
    } else {
        cols.each(out, |_, lo, hi| {
            let (mut count, mut mean, mut aux) = (0.0, (0.0, 0.0), (0.0, 0.0));
            for &v in &values[lo..hi] {
                count += 1.0;
                let delta = v - (mean.0 + mean.1);
                mean = kahan_inc(delta / count, mean.0, mean.1);
                aux = kahan_inc(delta * (v - (mean.0 + mean.1)), aux.0, aux.1);
            }
            Some(finish((aux.0 + aux.1) / count))
        });
    }
}

/// A key that orders as numbers do, with every NaN before them.
fn key(v: f64) -> i64 {
    if v.is_nan() {
        return i64::MIN;
    }
    let bits = v.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn unkey(key: i64) -> f64 {
    if key == i64::MIN {
        return f64::NAN;
    }
    f64::from_bits((key ^ (((key >> 63) as u64) >> 1) as i64) as u64)
}

/// `quantile_over_time`: overlapping windows keep a sorted buffer, into which samples are moved
/// one by one.
pub(crate) fn quantile(cols: &Cols<'_>, q: &Param, scratch: &mut Scratch, out: &mut Out<'_>) {
    let values = cols.values;
    let Scratch { keys, floats, .. } = scratch;
    if !cols.overlapping() {
        cols.each(out, |i, lo, hi| {
            floats.clear();
            floats.extend_from_slice(&values[lo..hi]);
            floats.sort_unstable_by(nan_first);
            Some(quantile_of_sorted(q.at(i), floats))
        });
        return;
    }
    keys.clear();
    let (mut from, mut to) = (0, 0);
    cols.each(out, |i, lo, hi| {
        if lo >= to {
            keys.clear();
            (from, to) = (lo, lo);
        }
        while from < lo {
            if let Ok(at) = keys.binary_search(&key(values[from])) {
                keys.remove(at);
            }
            from += 1;
        }
        while to < hi {
            let k = key(values[to]);
            let at = keys.partition_point(|&x| x < k);
            keys.insert(at, k);
            to += 1;
        }
        let q = q.at(i);
        if !(0.0..=1.0).contains(&q) {
            return Some(quantile_of_sorted(q, &[0.0]));
        }
        let last = keys.len() - 1;
        let rank = q * last as f64;
        let lower = rank.floor() as usize;
        let weight = rank - rank.floor();
        let (a, b) = (unkey(keys[lower]), unkey(keys[(lower + 1).min(last)]));
        Some(a * (1.0 - weight) + b * weight)
    });
}

/// `mad_over_time`: the median of the distances to the median. Walks every window.
pub(crate) fn mad(cols: &Cols<'_>, scratch: &mut Scratch, out: &mut Out<'_>) {
    let values = cols.values;
    let floats = &mut scratch.floats;
    cols.each(out, |_, lo, hi| {
        if values[lo..hi].iter().any(|v| v.is_nan()) {
            return Some(f64::NAN);
        }
        floats.clear();
        floats.extend_from_slice(&values[lo..hi]);
        floats.sort_unstable_by(nan_first);
        let median = quantile_of_sorted(0.5, floats);
        for v in floats.iter_mut() {
            *v = (*v - median).abs();
        }
        floats.sort_unstable_by(nan_first);
        Some(quantile_of_sorted(0.5, floats))
    });
}
