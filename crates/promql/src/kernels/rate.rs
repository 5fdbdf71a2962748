//! `rate`, `increase`, `delta`, `irate`, `idelta`, `changes`, `resets`.

use model::Millis;

use super::{Cols, Out, Scratch};
use crate::numbers::kahan_inc;

/// With more resets in a window than this, their sum comes from a prefix sum of double the
/// precision instead of being added up.
const FEW_RESETS: usize = 8;

/// Whether a start timestamp says that the counter was reset between two samples, each given as its
/// start and its time.
pub(super) fn started_between(prev: (Millis, Millis), cur: (Millis, Millis)) -> bool {
    let ((prev_start, prev_t), (start, t)) = (prev, cur);
    // Not set, later than the sample, or at it, which means unknown.
    if start == 0 || start >= t || start < prev_t {
        return false;
    }
    // At the sample before: a delta, if that one has a start of its own.
    start > prev_t || (prev_start <= prev_t && prev_start != 0 && prev_start != prev_t)
}

/// Whether a sample claims a start before the sample before it, and another one than that.
pub(super) fn overlaps(prev: (Millis, Millis), start: Millis) -> bool {
    start != 0 && start < prev.1 && start != prev.0
}

/// Whether start timestamp `i` (none, if they are not known or not used) says that there was a
/// reset.
#[inline(always)]
pub(super) fn start_reset(ts: &[Millis], starts: &[Millis], i: usize) -> bool {
    !starts.is_empty() && started_between((starts[i - 1], ts[i - 1]), (starts[i], ts[i]))
}

/// The samples of a window, and what it reaches over.
pub(super) struct Reach {
    pub(super) first_t: Millis,
    pub(super) last_t: Millis,
    /// How many samples.
    pub(super) n: usize,
    /// Start (exclusive) and end of the range.
    pub(super) start: Millis,
    pub(super) end: Millis,
}

impl Reach {
    /// The start of the first sample, if it lies inside: the counter was zero then.
    pub(super) fn zero_at(&self, starts: &[Millis], lo: usize) -> Option<Millis> {
        let start = starts.get(lo).copied()?;
        (start != 0 && start > self.start && start < self.first_t).then_some(start)
    }

    /// By what the change between the samples is to be multiplied so that it stands for the whole
    /// range; for a counter, `counter` is its first value and by how much it grew. A single sample
    /// has one only if it is known when it was zero.
    pub(super) fn factor(&self, counter: Option<(f64, f64)>, zero_at: Option<Millis>) -> f64 {
        let mut to_start = (self.first_t - self.start) as f64 / 1000.0;
        let mut to_end = (self.end - self.last_t) as f64 / 1000.0;
        let mut sampled = (self.last_t - self.first_t) as f64 / 1000.0;
        let average = if self.n > 1 {
            sampled / (self.n - 1) as f64
        } else {
            0.0
        };
        let threshold = average * 1.1;
        if let Some(zero_at) = zero_at {
            to_start = 0.0;
            sampled = (self.last_t - zero_at) as f64 / 1000.0;
        } else {
            if to_start >= threshold {
                to_start = average / 2.0;
            }
            if let Some((first, grown)) = counter
                && grown > 0.0
                && first >= 0.0
            {
                // A counter cannot have been below zero.
                let to_zero = sampled * (first / grown);
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        if sampled == 0.0 {
            1.0
        } else {
            (sampled + to_start + to_end) / sampled
        }
    }
}

/// What the times alone say about a window: the same for most windows of a series, since samples
/// and steps come at even distances.
#[derive(Default)]
struct Distances {
    /// From the start to the first sample, from the last one to the end, and between them, ms.
    ms: (Millis, Millis, Millis),
    n: usize,
    /// How far is extrapolated to the start, s.
    to_start: f64,
    /// Seconds between first and last sample.
    sampled: f64,
    /// The factor, if the counter does not come from zero inside the window.
    factor: f64,
}

impl Distances {
    #[inline(always)]
    fn of(&mut self, reach: &Reach) -> &Self {
        let ms = (
            reach.first_t - reach.start,
            reach.end - reach.last_t,
            reach.last_t - reach.first_t,
        );
        if ms != self.ms || reach.n != self.n {
            self.ms = ms;
            self.n = reach.n;
            self.to_start = ms.0 as f64 / 1000.0;
            self.sampled = ms.2 as f64 / 1000.0;
            self.factor = reach.factor(None, None);
        }
        self
    }
}

/// Positions of the samples before which there was a reset.
fn find_resets(ts: &[Millis], values: &[f64], starts: &[Millis], resets: &mut Vec<u32>) {
    /// So many neighbours are compared at once: most counters are rarely reset.
    const STRETCH: usize = 64;
    let mut from = 1;
    while from < values.len() {
        let to = values.len().min(from + STRETCH);
        // NaN compares false, so it is no reset.
        let pairs = values[from - 1..to - 1].iter().zip(&values[from..to]);
        let fell = pairs.fold(false, |any, (before, v)| any | (v < before));
        if fell || !starts.is_empty() {
            for i in from..to {
                if values[i] < values[i - 1] || start_reset(ts, starts, i) {
                    resets.push(i as u32);
                }
            }
        }
        from = to;
    }
}

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
    let starts = if counter { cols.starts } else { &[] };
    let resets = &mut scratch.indexes;
    resets.clear();
    if counter {
        find_resets(ts, values, starts, resets);
    }
    let lost = prefix_sums(values, resets, &mut scratch.pairs);
    let range = cols.window.range;
    let seconds = range as f64 / 1000.0;
    let mut distances = Distances::default();
    // Resets inside the window are those behind its first sample.
    let (mut first_reset, mut end_reset) = (0, 0);
    cols.each(out, |i, lo, hi| {
        let n = hi - lo;
        if n < 2 && starts.is_empty() {
            return None;
        }
        let end = cols.window.end(cols.grid, i);
        let reach = Reach {
            first_t: ts[lo],
            last_t: ts[hi - 1],
            n,
            start: end - range,
            end,
        };
        let zero_at = reach.zero_at(starts, lo);
        if n < 2 && zero_at.is_none() {
            return None;
        }
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
        if zero_at.is_some() {
            result += first;
        }
        let known = distances.of(&reach);
        // Back to zero is farther than all that was sampled, and so than the start of the window.
        let is_far = first >= result && known.to_start <= known.sampled;
        let mut factor = match zero_at {
            None if !counter || is_far => known.factor,
            _ => reach.factor(counter.then_some((first, result)), zero_at),
        };
        if per_second {
            factor /= seconds;
        }
        Some(result * factor)
    });
}

/// At how many steps a sample of the window claims a start before the sample before it.
pub(crate) fn overlapping_starts(cols: &Cols<'_>, mut found: impl FnMut()) {
    let (ts, starts) = (cols.ts, cols.starts);
    if starts.is_empty() {
        return;
    }
    let wrong: Vec<usize> = (1..ts.len())
        .filter(|&i| overlaps((starts[i - 1], ts[i - 1]), starts[i]))
        .collect();
    if wrong.is_empty() {
        return;
    }
    cols.windows(|_, lo, hi| {
        let behind_first = wrong.partition_point(|&i| i <= lo);
        if wrong.get(behind_first).is_some_and(|&i| i < hi) {
            found();
        }
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
        let starts = if counter { cols.starts } else { &[] };
        let result = if counter && (last < prev || start_reset(ts, starts, hi - 1)) {
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

/// `changes` and `resets`: how many neighbours `(previous, current)` in the window satisfy `is`,
/// given the index of the current one.
pub(crate) fn count_pairs(
    cols: &Cols<'_>,
    is: impl Fn(usize) -> bool,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
) {
    let counts = pair_counts(cols.ts.len(), is, &mut scratch.counts);
    cols.each(out, |_, lo, hi| {
        Some(f64::from(counts[hi - 1] - counts[lo]))
    });
}

/// How many of the first samples' neighbours satisfy `is`: number `i` is about the pairs among the
/// first `i + 1` samples.
pub(super) fn pair_counts(
    samples: usize,
    is: impl Fn(usize) -> bool,
    counts: &mut Vec<u32>,
) -> &[u32] {
    counts.clear();
    let mut seen = 0;
    counts.push(0);
    for i in 1..samples {
        seen += u32::from(is(i));
        counts.push(seen);
    }
    counts
}

/// Whether a float changed.
pub(super) fn differ(a: f64, b: f64) -> bool {
    a != b && !(a.is_nan() && b.is_nan())
}
