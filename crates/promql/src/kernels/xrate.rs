//! Thanos' `xrate`, `xincrease` and `xdelta`: the last sample before the range counts, too, and
//! nothing is extrapolated beyond the data.
//!
//! The rules are those of Thanos' own engine (`ringbuffer/functions.go`), its whole seconds and its
//! zero for too few samples included.

use model::Millis;

use super::{Cols, Out, Scratch};

/// How far before the range a sample is looked for, ms. The window that slides is wider by it.
pub(crate) const LOOKBACK: Millis = 3_600_000;

/// Which of the three it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rate,
    Increase,
    Delta,
}

/// Runs one of them over windows that are wider than the range by [`LOOKBACK`].
pub(crate) fn run(kind: Kind, cols: &Cols<'_>, scratch: &mut Scratch, out: &mut Out<'_>) {
    let (ts, values) = (cols.ts, cols.values);
    let Some(&appeared) = ts.first() else {
        return;
    };
    // Where values fall, and how many of the samples up to one differ from that before it.
    let Scratch {
        indexes: falls,
        counts: changes,
        ..
    } = scratch;
    falls.clear();
    changes.clear();
    let mut changed = 0;
    changes.push(0);
    for (i, pair) in values.windows(2).enumerate() {
        if pair[1] < pair[0] {
            falls.push(i as u32 + 1);
        }
        changed += u32::from(pair[0] != pair[1]);
        changes.push(changed);
    }
    let range = cols.window.range - LOOKBACK;
    // Thanos divides by whole seconds.
    let seconds = (range / 1000) as f64;
    cols.each(out, |i, lo, hi| {
        let end = cols.window.end(cols.grid, i);
        let start = end - range;
        let last = hi - 1;
        // One sample at or before the start, and those after it. That one alone is an answer, too: nothing
        // has changed.
        let inside = lo + ts[lo..hi].partition_point(|&t| t <= start);
        let mut first = inside.max(lo + 1) - 1;
        let increase = kind == Kind::Increase;
        if increase && changes[last] == changes[first] && end <= range.saturating_add(appeared) {
            // A counter that has just begun came from zero.
            return Some(values[first]);
        }
        let mut n = last - first + 1;
        let mut sampled = (ts[last] - ts[first]) as f64;
        let mut average = sampled / (n as f64 - 1.0);
        if !increase && (start - ts[first]) as f64 > average {
            // The sample before the range is too far from it.
            if n < 3 {
                return Some(0.0);
            }
            first += 1;
            n -= 1;
            sampled = (ts[last] - ts[first]) as f64;
            average = sampled / (n as f64 - 1.0);
        }
        let mut lost = 0.0;
        if kind != Kind::Delta {
            let from = falls.partition_point(|&f| f as usize <= first);
            for &f in falls[from..].iter().take_while(|&&f| f as usize <= last) {
                lost += values[f as usize - 1];
            }
        }
        let mut result = values[last] - values[first] + lost;
        let to_end = (end - ts[last]) as f64;
        if !increase && ts[first] <= start && to_end < average {
            result *= seconds / (sampled / 1000.0);
        }
        if kind == Kind::Rate {
            result /= seconds;
        }
        Some(result)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Grid, Window};
    use crate::kernels::Stop;

    fn at(kind: Kind, samples: &[(Millis, f64)], range: Millis, end: Millis) -> Option<f64> {
        let (ts, values): (Vec<_>, Vec<_>) = samples.iter().copied().unzip();
        let cols = Cols {
            ts: &ts,
            values: &values,
            starts: &[],
            grid: &Grid::instant(end),
            window: &Window {
                range: range + LOOKBACK,
                offset: 0,
                at: None,
            },
            stop: Stop::default(),
        };
        let (mut v, mut bits) = ([0.0], [0]);
        let mut out = Out {
            values: &mut v,
            bits: &mut bits,
        };
        run(kind, &cols, &mut Scratch::default(), &mut out);
        (bits[0] == 1).then_some(v[0])
    }

    /// The cases of Thanos' documentation of the functions: 5 a second, every 5 s.
    #[test]
    fn steady_counters_give_their_slope() {
        let samples: Vec<_> = (0..=10).map(|i| (i * 5_000, i as f64 * 10.0)).collect();
        assert_eq!(at(Kind::Rate, &samples, 50_000, 50_000), Some(2.0));
        assert_eq!(at(Kind::Increase, &samples, 50_000, 50_000), Some(100.0));
        assert_eq!(at(Kind::Increase, &samples, 5_000, 50_000), Some(10.0));
        assert_eq!(at(Kind::Rate, &samples, 10_000, 27_000), Some(2.0));
        assert_eq!(at(Kind::Delta, &samples, 20_000, 30_000), Some(40.0));
        assert_eq!(at(Kind::Rate, &samples, 5_000, 120_000), Some(0.0));
        let much_later = 50_000 + 5_000 + LOOKBACK;
        assert_eq!(at(Kind::Rate, &samples, 5_000, much_later - 1), Some(0.0));
        assert_eq!(at(Kind::Rate, &samples, 5_000, much_later), None);
    }

    #[test]
    fn a_new_counter_came_from_zero() {
        let samples = [(100_000, 7.0), (115_000, 7.0)];
        assert_eq!(at(Kind::Increase, &samples, 60_000, 120_000), Some(7.0));
        assert_eq!(at(Kind::Increase, &samples, 60_000, 161_000), Some(0.0));
        assert_eq!(at(Kind::Rate, &samples[..1], 60_000, 120_000), Some(0.0));
    }

    #[test]
    fn resets_are_added_and_far_samples_dropped() {
        let samples = [(0, 10.0), (15_000, 20.0), (30_000, 5.0), (45_000, 6.0)];
        assert_eq!(at(Kind::Increase, &samples, 45_000, 45_000), Some(16.0));
        // The first is 30 s before the range, the samples 15 s apart.
        let gap = [(0, 1.0), (100_000, 2.0), (115_000, 4.0)];
        assert_eq!(at(Kind::Delta, &gap, 20_000, 115_000), Some(2.0));
        assert_eq!(at(Kind::Delta, &gap[..2], 5_000, 205_000), Some(0.0));
        assert_eq!(at(Kind::Delta, &gap[..2], 20_000, 115_000), Some(0.2));
    }
}
