//! When an expression is evaluated, and which samples a step looks at.

use model::{Millis, TimeRange};

/// The steps of an evaluation: `start, start + step, ...`, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// First step, ms.
    pub start: Millis,
    /// Distance of steps, ms; positive.
    pub step: Millis,
    /// How many steps there are.
    pub count: usize,
}

impl Grid {
    /// A single step.
    pub fn instant(ts: Millis) -> Self {
        Self {
            start: ts,
            step: 1,
            count: 1,
        }
    }

    /// Steps from `start` to `end` at the latest; none if `end` lies before `start`.
    pub fn range(start: Millis, end: Millis, step: Millis) -> Self {
        let step = step.max(1);
        let count = if end < start {
            0
        } else {
            end.saturating_sub(start) / step + 1
        };
        Self {
            start,
            step,
            count: usize::try_from(count).unwrap_or(usize::MAX),
        }
    }

    /// The time of step `i`, ms.
    #[inline]
    pub fn at(&self, i: usize) -> Millis {
        self.start
            .saturating_add(self.step.saturating_mul(i as i64))
    }

    /// The time of the last step, ms; the start if there is none.
    pub fn end(&self) -> Millis {
        self.at(self.count.saturating_sub(1))
    }

    /// Only the first step.
    pub fn first(&self) -> Self {
        Self {
            count: self.count.min(1),
            ..*self
        }
    }
}

/// What a step looks at: `(t - range, t]` where `t` is the step's time (or `at`) less `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// How far back, ms: the range of a range selector, the lookback of an instant one.
    pub range: Millis,
    /// `offset`, ms.
    pub offset: Millis,
    /// `@`, ms: replaces the time of every step.
    pub at: Option<Millis>,
}

impl Window {
    /// The last timestamp step `i` looks at.
    #[inline]
    pub fn end(&self, grid: &Grid, i: usize) -> Millis {
        self.at
            .unwrap_or_else(|| grid.at(i))
            .saturating_sub(self.offset)
    }

    /// All timestamps that any step looks at.
    pub fn reach(&self, grid: &Grid) -> TimeRange {
        if grid.count == 0 || self.range <= 0 {
            return TimeRange::EMPTY;
        }
        let last = grid.count - 1;
        TimeRange::new(
            self.end(grid, 0)
                .saturating_sub(self.range)
                .saturating_add(1),
            self.end(grid, last),
        )
    }
}

/// Indexes of the samples in the window of each step, moved forward only.
#[derive(Debug, Default)]
pub(crate) struct Slide {
    /// First sample inside.
    pub(crate) lo: usize,
    /// One past the last sample inside.
    pub(crate) hi: usize,
    /// By how much both moved last.
    strides: (usize, usize),
}

impl Slide {
    /// Moves to the window `(end - range, end]`; ends must not fall, and the range is positive.
    #[inline(always)]
    pub(crate) fn to(&mut self, ts: &[Millis], end: Millis, range: Millis) {
        self.hi = behind(ts, self.hi, end, &mut self.strides.1);
        let start = end.saturating_sub(range);
        self.lo = behind(ts, self.lo, start, &mut self.strides.0).min(self.hi);
    }

    /// Starts at the first window by bisection, for long columns and few steps.
    pub(crate) fn starting(ts: &[Millis], end: Millis, range: Millis) -> Self {
        let start = end.saturating_sub(range);
        let lo = ts.partition_point(|&t| t <= start);
        Self {
            lo,
            hi: lo,
            strides: (0, 0),
        }
    }
}

/// The first index from `from` on whose timestamp is later than `limit`. Steps and samples mostly
/// come at even distances, so it is tried first whether the last `stride` leads there again.
#[inline(always)]
fn behind(ts: &[Millis], from: usize, limit: Millis, stride: &mut usize) -> usize {
    let guess = from + *stride;
    if guess <= ts.len()
        && (guess == 0 || guess == from || ts[guess - 1] <= limit)
        && (guess == ts.len() || ts[guess] > limit)
    {
        return guess;
    }
    let mut at = from;
    while let Some(&t) = ts.get(at)
        && t <= limit
    {
        at += 1;
    }
    *stride = at - from;
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_left_open() {
        let ts = [0, 10, 20, 30, 40];
        let w = Window {
            range: 20,
            offset: 0,
            at: None,
        };
        let grid = Grid::range(20, 45, 10);
        assert_eq!((grid.count, grid.end()), (3, 40));
        assert_eq!(w.reach(&grid), TimeRange::new(1, 40));
        let mut slide = Slide::starting(&ts, w.end(&grid, 0), w.range);
        let seen: Vec<_> = (0..3)
            .map(|i| {
                slide.to(&ts, w.end(&grid, i), w.range);
                ts[slide.lo..slide.hi].to_vec()
            })
            .collect();
        assert_eq!(seen, [[10, 20], [20, 30], [30, 40]]);
        assert_eq!(Grid::range(5, 4, 1).count, 0);
    }
}
