//! `rate`, `increase`, `delta`, `irate`, `idelta`, `changes`, `resets`.

use super::{Cols, Out, Scratch};
use crate::numbers::kahan_inc;

/// With more resets in a window than this, their sum comes from a prefix sum of double the
/// precision instead of being added up.
const FEW_RESETS: usize = 8;

/// `rate`, `increase` (`counter`) and `delta`, extrapolated to the window's borders as Prometheus
/// 3 does it.
pub(crate) fn extrapolated(
    cols: &Cols<'_>,
    counter: bool,
    per_second: bool,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
) {
    let (ts, values) = (cols.ts, cols.values);
    let resets = &mut scratch.indexes;
    resets.clear();
    if counter {
        // Positions whose value fell; NaN compares false, so it is no reset.
        for (i, pair) in values.windows(2).enumerate() {
            if pair[1] < pair[0] {
                resets.push(i as u32 + 1);
            }
        }
    }
    let lost = prefix_sums(values, resets, &mut scratch.pairs);
    let range = cols.window.range;
    let seconds = range as f64 / 1000.0;
    // Resets inside the window are those behind its first sample.
    let (mut first_reset, mut end_reset) = (0, 0);
    cols.each(out, |i, lo, hi| {
        let n = hi - lo;
        if n < 2 {
            return None;
        }
        let (first_t, last_t) = (ts[lo], ts[hi - 1]);
        let first = values[lo];
        let mut result = values[hi - 1] - first;
        if !resets.is_empty() {
            while first_reset < resets.len() && resets[first_reset] as usize <= lo {
                first_reset += 1;
            }
            end_reset = end_reset.max(first_reset);
            while end_reset < resets.len() && (resets[end_reset] as usize) < hi {
                end_reset += 1;
            }
            if lost && end_reset - first_reset > FEW_RESETS {
                let (a, b) = (scratch.pairs[first_reset], scratch.pairs[end_reset]);
                result += (b.0 - a.0) + (b.1 - a.1);
            } else {
                for &r in &resets[first_reset..end_reset] {
                    result += values[r as usize - 1];
                }
            }
        }
        let end = cols.window.end(cols.grid, i);
        let start = end - range;
        let mut to_start = (first_t - start) as f64 / 1000.0;
        let mut to_end = (end - last_t) as f64 / 1000.0;
        let sampled = (last_t - first_t) as f64 / 1000.0;
        let average = sampled / (n - 1) as f64;
        let threshold = average * 1.1;
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if counter && result > 0.0 && first >= 0.0 {
            // A counter cannot have been below zero.
            let to_zero = sampled * (first / result);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        let mut factor = if sampled == 0.0 {
            1.0
        } else {
            (sampled + to_start + to_end) / sampled
        };
        if per_second {
            factor /= seconds;
        }
        Some(result * factor)
    });
}

/// Fills `sums` with the compensated sums of the values lost at the first 0, 1, 2, ... resets.
/// False if there are few resets, or if a value is not finite: then sums are not differences.
fn prefix_sums(values: &[f64], resets: &[u32], sums: &mut Vec<(f64, f64)>) -> bool {
    sums.clear();
    if resets.len() <= FEW_RESETS {
        return false;
    }
    let (mut s, mut c) = (0.0, 0.0);
    sums.push((s, c));
    for &r in resets {
        (s, c) = kahan_inc(values[r as usize - 1], s, c);
        if !s.is_finite() {
            return false;
        }
        sums.push((s, c));
    }
    true
}

/// `irate` and `idelta`: the last two samples of the window.
pub(crate) fn last_two(cols: &Cols<'_>, counter: bool, out: &mut Out<'_>) {
    let (ts, values) = (cols.ts, cols.values);
    cols.each(out, |_, lo, hi| {
        if hi - lo < 2 {
            return None;
        }
        let (prev, last) = (values[hi - 2], values[hi - 1]);
        let interval = ts[hi - 1] - ts[hi - 2];
        if interval == 0 {
            return None;
        }
        let result = if counter && last < prev {
            last
        } else {
            last - prev
        };
        Some(if counter {
            result / (interval as f64 / 1000.0)
        } else {
            result
        })
    });
}

/// `changes` and `resets`: how many neighbours `(previous, current)` in the window satisfy `is`.
pub(crate) fn count_pairs(
    cols: &Cols<'_>,
    is: impl Fn(f64, f64) -> bool,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
) {
    // counts[i]: pairs among the first i + 1 samples.
    let counts = &mut scratch.counts;
    counts.clear();
    let mut seen = 0;
    counts.push(0);
    for pair in cols.values.windows(2) {
        seen += u32::from(is(pair[0], pair[1]));
        counts.push(seen);
    }
    cols.each(out, |_, lo, hi| {
        Some(f64::from(counts[hi - 1] - counts[lo]))
    });
}
