//! `deriv`, `predict_linear`, `double_exponential_smoothing`. Each window is walked: the result
//! depends on the order of all of its samples, and a different order differs visibly.

use model::Millis;

use super::{Cols, Out, Param};
use crate::numbers::kahan_inc;

/// Least squares: slope per second, and the value at `at`.
fn linear(ts: &[Millis], values: &[f64], at: Millis) -> (f64, f64) {
    let first = values[0];
    if values.iter().skip(1).all(|&v| v == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let (mut x1, mut y1, mut xy, mut x2) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    for (&t, &y) in ts.iter().zip(values) {
        let x = t.saturating_sub(at) as f64 / 1e3;
        x1 = kahan_inc(x, x1.0, x1.1);
        y1 = kahan_inc(y, y1.0, y1.1);
        xy = kahan_inc(x * y, xy.0, xy.1);
        x2 = kahan_inc(x * x, x2.0, x2.1);
    }
    let n = values.len() as f64;
    let (x1, y1, xy, x2) = (x1.0 + x1.1, y1.0 + y1.1, xy.0 + xy.1, x2.0 + x2.1);
    let covariance = xy - x1 * y1 / n;
    let variance = x2 - x1 * x1 / n;
    let slope = covariance / variance;
    (slope, y1 / n - slope * x1 / n)
}

/// `deriv`
pub(crate) fn deriv(cols: &Cols<'_>, out: &mut Out<'_>) {
    cols.each(out, |_, lo, hi| {
        (hi - lo >= 2).then(|| linear(&cols.ts[lo..hi], &cols.values[lo..hi], cols.ts[lo]).0)
    });
}

/// `predict_linear`: relative to the time of evaluation, whatever the offset.
pub(crate) fn predict_linear(cols: &Cols<'_>, ahead: &Param, out: &mut Out<'_>) {
    cols.each(out, |i, lo, hi| {
        (hi - lo >= 2).then(|| {
            let now = cols.grid.at(i);
            let (slope, intercept) = linear(&cols.ts[lo..hi], &cols.values[lo..hi], now);
            slope * ahead.at(i) + intercept
        })
    });
}

/// `double_exponential_smoothing`; the factors were checked to lie inside (0, 1).
pub(crate) fn smooth(cols: &Cols<'_>, smoothing: &Param, trend: &Param, out: &mut Out<'_>) {
    cols.each(out, |i, lo, hi| {
        let values = &cols.values[lo..hi];
        if values.len() < 2 {
            return None;
        }
        let (sf, tf) = (smoothing.at(i), trend.at(i));
        let (mut s0, mut s1) = (0.0, values[0]);
        let mut b = values[1] - values[0];
        for (n, &v) in values.iter().enumerate().skip(1) {
            if n > 1 {
                b = tf * (s1 - s0) + (1.0 - tf) * b;
            }
            let y = (1.0 - sf) * (s1 + b);
            (s0, s1) = (s1, sf * v + y);
        }
        Some(s1)
    });
}
