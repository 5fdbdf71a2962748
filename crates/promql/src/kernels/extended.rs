//! `anchored` and `smoothed` range selectors, and `smoothed` instant ones.
//!
//! The window that slides is wider than the range: by the lookback at its start, and for `smoothed`
//! at its end too. Borders are then taken from the samples around them instead of extrapolated.

use model::Millis;

use super::rate::{differ, pair_counts, start_reset};
use super::{Cols, Out, RangeFn, Scratch};

/// How the borders of a range are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    /// Interpolate at the borders; otherwise the sample at or before the start counts.
    pub(crate) smoothed: bool,
    /// By how much the window is wider, ms.
    pub(crate) lookback: Millis,
}

impl Extension {
    /// Whether `func` can be computed of such a range.
    pub(crate) fn allows(self, func: RangeFn) -> bool {
        use RangeFn::*;
        match func {
            Rate | Increase | Delta => true,
            Changes | Resets => !self.smoothed,
            _ => false,
        }
    }

    /// The border of the range itself in a window that ends at `end`: start and end.
    pub(super) fn range(self, end: Millis, window: Millis) -> (Millis, Millis) {
        if self.smoothed {
            let end = end - self.lookback;
            (end - (window - 2 * self.lookback), end)
        } else {
            (end - (window - self.lookback), end)
        }
    }
}

/// The value at `t` on the line between two samples; a counter that fell starts from zero.
fn interpolate(a: (Millis, f64), b: (Millis, f64), t: Millis, counter: bool) -> f64 {
    let from = if counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * (t - a.0) as f64 / (b.0 - a.0) as f64
}

/// Runs a function that the extension allows.
pub(crate) fn run(
    func: RangeFn,
    extension: Extension,
    cols: &Cols<'_>,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
) {
    match func {
        RangeFn::Changes => {
            let values = cols.values;
            let changed = |i: usize| differ(values[i - 1], values[i]);
            pairs(extension, cols, scratch, out, changed);
        }
        RangeFn::Resets => {
            let values = cols.values;
            let reset =
                |i: usize| values[i] < values[i - 1] || start_reset(cols.ts, cols.starts, i);
            pairs(extension, cols, scratch, out, reset);
        }
        _ => rate(func, extension, cols, scratch, out),
    }
}

fn rate(
    func: RangeFn,
    extension: Extension,
    cols: &Cols<'_>,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
) {
    let counter = func != RangeFn::Delta;
    let (ts, values) = (cols.ts, cols.values);
    let sample = |i: usize| (ts[i], values[i]);
    // resets[i]: how many of the samples up to i fell.
    let fell = &mut scratch.indexes;
    fell.clear();
    if counter {
        let falls = values.windows(2).enumerate();
        fell.extend(
            falls
                .filter(|(_, pair)| pair[1] < pair[0])
                .map(|(i, _)| i as u32 + 1),
        );
    }
    let window = cols.window.range;
    cols.each(out, |i, lo, hi| {
        let (start, end) = extension.range(cols.window.end(cols.grid, i), window);
        let last = hi - 1;
        let inside = &ts[lo..last];
        // The last sample at or before the start, if there is one.
        let mut first = (lo + inside.partition_point(|&t| t <= start)).max(lo + 1) - 1;
        let mut last = if extension.smoothed {
            lo + inside.partition_point(|&t| t < end)
        } else {
            last
        };
        if ts[last] <= start || (extension.smoothed && ts[first] > end) {
            return None;
        }
        let left = if extension.smoothed && ts[first] < start {
            interpolate(sample(first), sample(first + 1), start, counter)
        } else {
            values[first]
        };
        let right = if extension.smoothed && last > lo && ts[last] > end {
            interpolate(sample(last - 1), sample(last), end, counter)
        } else {
            values[last]
        };
        let mut result = right - left;
        if counter {
            // Only samples strictly inside: the borders stand for those outside.
            if ts[first] <= start {
                first += 1;
            }
            let end_index = if ts[last] >= end {
                last
            } else {
                last += 1;
                last
            };
            let mut previous = left;
            let mut correction = 0.0;
            if first < end_index {
                if values[first] < previous {
                    correction += previous;
                }
                let from = fell.partition_point(|&r| r as usize <= first);
                for &r in fell[from..]
                    .iter()
                    .take_while(|&&r| (r as usize) < end_index)
                {
                    correction += values[r as usize - 1];
                }
                previous = values[end_index - 1];
            }
            if right < previous {
                correction += previous;
            }
            result += correction;
        }
        if func == RangeFn::Rate {
            result /= (end - start) as f64 / 1000.0;
        }
        Some(result)
    });
}

/// `changes` and `resets` of an anchored range: the sample at or before the start is the first.
pub(super) fn pairs(
    extension: Extension,
    cols: &Cols<'_>,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
    is: impl Fn(usize) -> bool,
) {
    let counts = pair_counts(cols.ts.len(), is, &mut scratch.counts);
    let window = cols.window.range;
    cols.each(out, |i, lo, hi| {
        let (start, _) = extension.range(cols.window.end(cols.grid, i), window);
        let after = lo + cols.ts[lo..hi].partition_point(|&t| t <= start);
        if after >= hi {
            return None;
        }
        let first = after.max(lo + 1) - 1;
        Some(f64::from(counts[hi - 1] - counts[first]))
    });
}

/// The samples of an extended range selector on its own, with one at each border of the range; the
/// window that ends at `end` is `range` long.
pub(crate) fn extend(
    extension: Extension,
    (end, range): (Millis, Millis),
    columns: &mut chunk::Columns,
) {
    let (start, end) = extension.range(end, range);
    let (ts, values) = (&columns.ts, &columns.values);
    let Some(mut last) = ts.len().checked_sub(1) else {
        return;
    };
    let sample = |i: usize| (ts[i], values[i]);
    let mut first = ts[..last].partition_point(|&t| t <= start).max(1) - 1;
    if extension.smoothed {
        last = ts[..last].partition_point(|&t| t < end);
    }
    let mut out = chunk::Columns::default();
    if ts[last] > start {
        let left = if extension.smoothed && ts[first] < start {
            interpolate(sample(first), sample(first + 1), start, false)
        } else {
            values[first]
        };
        let right = if extension.smoothed && last > 0 && ts[last] > end {
            interpolate(sample(last - 1), sample(last), end, false)
        } else {
            values[last]
        };
        if ts[first] <= start {
            first += 1;
        }
        let behind = if ts[last] >= end { last } else { last + 1 };
        out.push(start, left);
        for i in first..behind {
            out.push(ts[i], values[i]);
        }
        out.push(end, right);
    }
    *columns = out;
}

/// A `smoothed` instant selector: the value at the step itself, on the line between its
/// neighbours; the last one where none follows.
pub(crate) fn instant(lookback: Millis, cols: &Cols<'_>, out: &mut Out<'_>) {
    let (ts, values) = (cols.ts, cols.values);
    cols.each(out, |i, lo, hi| {
        let at = cols.window.end(cols.grid, i) - lookback;
        let next = lo + ts[lo..hi].partition_point(|&t| t < at);
        if next < hi && ts[next] == at {
            return Some(values[next]);
        }
        if next == lo {
            return None;
        }
        let before = (ts[next - 1], values[next - 1]);
        if next == hi {
            return Some(before.1);
        }
        Some(interpolate(before, (ts[next], values[next]), at, false))
    });
}
