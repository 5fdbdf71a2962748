//! Samples looked at per step, as Prometheus counts them for `stats`: a range function's whole
//! window at each step ("queryable"), and of it what the step before did not look at ("read").

use parking_lot::Mutex;

use chunk::Columns;
use model::Millis;

use super::block::RowRef;
use crate::grid::{Grid, Slide, Window};
use crate::histogram::points;

/// The samples of all steps of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSamples {
    /// The steps' times, ms.
    pub ts: Vec<Millis>,
    /// `totalQueryableSamplesPerStep`
    pub queryable: Vec<u64>,
    /// `samplesReadPerStep`
    pub read: Vec<u64>,
}

/// How the samples of a part with steps of its own count for what is around it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Within {
    /// It is the whole query.
    Root,
    /// Computed at the first step for all steps of the part of this number.
    Invariant(usize),
    /// The inner expression of a subquery in the part of this number: its window reads anew.
    Subquery(usize, Window),
}

/// One part of the plan with steps of its own.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) grid: Grid,
    pub(crate) within: Within,
}

/// Counts per step and part; does nothing unless somebody will ask.
#[derive(Debug)]
pub(crate) struct Tally {
    parts: Vec<(Part, Mutex<Steps>)>,
}

/// Counts of one part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    queryable: Vec<u64>,
    read: Vec<u64>,
}

impl Steps {
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            queryable: vec![0; steps],
            read: vec![0; steps],
        }
    }

    /// So many samples at a single step.
    pub(crate) fn one(samples: u64) -> Self {
        Self {
            queryable: vec![samples],
            read: vec![samples],
        }
    }

    fn grow(&mut self, steps: usize) {
        if self.queryable.len() < steps {
            self.queryable.resize(steps, 0);
            self.read.resize(steps, 0);
        }
    }

    /// A sample at each present step; histograms count by their size.
    pub(crate) fn present(&mut self, row: RowRef<'_>) {
        let mut add = |i: usize, n: u64| {
            self.queryable[i] += n;
            self.read[i] += n;
        };
        super::block::each_set(row.bits, |i| add(i, 1));
        for (i, h) in row.histograms {
            add(*i as usize, h.points() as u64 - 1);
        }
    }

    fn add(&mut self, other: &Steps) {
        self.grow(other.queryable.len());
        let pairs = [
            (&mut self.queryable, &other.queryable),
            (&mut self.read, &other.read),
        ];
        for (into, from) in pairs {
            into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        }
    }
}

/// How many samples there are; histograms count by their size.
pub(crate) fn samples(columns: &Columns) -> usize {
    columns.len()
        + columns
            .histograms
            .iter()
            .map(|(_, h)| points(h))
            .sum::<usize>()
}

/// Walks the windows over the samples of a series; `steps` counts each, as read only where the
/// samples come from a source (`read`).
///
/// The answer is how many samples there are at most beside the `own` ones that the series has in the
/// end: the last window, which is still there then, or the widest, while they are not yet.
pub(crate) fn measure(
    columns: &Columns,
    grid: &Grid,
    window: &Window,
    own: usize,
    read: bool,
    mut steps: Option<&mut Steps>,
) -> u64 {
    if window.range <= 0 || grid.count == 0 {
        return 0;
    }
    let mut floats = Walk::new(&columns.ts, Vec::new(), grid, window);
    let histograms = &columns.histograms;
    let mut sizes = Vec::with_capacity(histograms.len() + 1);
    if !histograms.is_empty() {
        sizes.push(0);
        for (_, h) in histograms.iter() {
            sizes.push(sizes.last().copied().unwrap_or(0) + points(h));
        }
    }
    let mut histograms = Walk::new(&histograms.ts, sizes, grid, window);
    let (mut widest, mut last) = (0, 0);
    for i in 0..grid.count {
        let end = window.end(grid, i);
        let (a, fresh_a) = floats.to(end, window.range);
        let (b, fresh_b) = histograms.to(end, window.range);
        last = a + b;
        widest = widest.max(last);
        if let Some(steps) = &mut steps {
            steps.queryable[i] += (a + b) as u64;
            if read {
                steps.read[i] += (fresh_a + fresh_b) as u64;
            }
        }
    }
    widest.saturating_sub(own).max(last) as u64
}

/// Windows over samples of one kind.
struct Walk<'a> {
    ts: &'a [Millis],
    /// Sizes of the first 0, 1, 2, ... samples; empty if each counts as one.
    sizes: Vec<usize>,
    slide: Slide,
    seen: usize,
}

impl<'a> Walk<'a> {
    fn new(ts: &'a [Millis], sizes: Vec<usize>, grid: &Grid, window: &Window) -> Self {
        let slide = Slide::starting(ts, window.end(grid, 0), window.range);
        Self {
            seen: slide.lo,
            ts,
            sizes,
            slide,
        }
    }

    /// How large the next window is, and what of it no window before it had.
    fn to(&mut self, end: Millis, range: Millis) -> (usize, usize) {
        let slide = &mut self.slide;
        slide.to(self.ts, end, range);
        let sizes = &self.sizes;
        let size = |from: usize, to: usize| match (sizes.get(from), sizes.get(to)) {
            (Some(from), Some(to)) => to.saturating_sub(*from),
            _ => to.saturating_sub(from),
        };
        let all = size(slide.lo, slide.hi);
        let fresh = size(self.seen.max(slide.lo), slide.hi);
        self.seen = self.seen.max(slide.hi);
        (all, fresh)
    }
}

impl Tally {
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        // No memory before there are rows of that many steps, which were counted.
        let parts = parts.into_iter().map(|part| (part, Mutex::default()));
        Self {
            parts: parts.collect(),
        }
    }

    /// Adds what a job has counted for part `id`.
    pub(crate) fn add(&self, id: usize, steps: &Steps) {
        if let Some((_, into)) = self.parts.get(id) {
            into.lock().add(steps);
        }
    }

    /// What the whole query has looked at.
    pub(crate) fn finish(&self) -> StepSamples {
        // Parts stand behind what is around them.
        for (id, (part, steps)) in self.parts.iter().enumerate().rev() {
            let (outer, window) = match part.within {
                Within::Root => continue,
                Within::Invariant(outer) => (outer, None),
                Within::Subquery(outer, window) => (outer, Some(window)),
            };
            let Some((around, into)) = self.parts.get(outer).filter(|_| outer < id) else {
                continue;
            };
            let steps = steps.lock();
            if steps.queryable.is_empty() {
                continue;
            }
            let mut into = into.lock();
            into.grow(around.grid.count);
            match window {
                None => {
                    let once = steps.queryable.first().copied().unwrap_or(0);
                    into.queryable.iter_mut().for_each(|n| *n += once);
                    if let Some(first) = into.read.first_mut() {
                        *first += steps.read.iter().sum::<u64>();
                    }
                }
                Some(window) => {
                    for (k, n) in steps.read.iter().enumerate().filter(|(_, n)| **n > 0) {
                        if let Some(step) = reader(part.grid.at(k), &around.grid, &window) {
                            into.read[step] += n;
                        }
                    }
                }
            }
        }
        let Some((part, steps)) = self.parts.first() else {
            return StepSamples::default();
        };
        let mut steps = steps.lock();
        steps.grow(part.grid.count);
        StepSamples {
            ts: (0..part.grid.count).map(|i| part.grid.at(i)).collect(),
            queryable: steps.queryable.clone(),
            read: steps.read.clone(),
        }
    }
}

/// The step of `outer` that reads the inner step at `at` first; none if it lies between windows.
fn reader(at: Millis, outer: &Grid, window: &Window) -> Option<usize> {
    let last = outer.count.checked_sub(1)?;
    if last == 0 || window.at.is_some() {
        return Some(0);
    }
    let at = at.saturating_add(window.offset);
    let after = at.saturating_sub(outer.start).max(0);
    let step = after.saturating_add(outer.step - 1) / outer.step;
    let step = usize::try_from(step).map_or(last, |s| s.min(last));
    (at > outer.at(step).saturating_sub(window.range)).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_count_again_and_reads_once() {
        let columns: Columns = (0..10).map(|i| (i * 10, 0.0)).collect();
        let grid = Grid::range(40, 90, 25);
        let window = Window {
            range: 30,
            offset: 0,
            at: None,
        };
        let mut steps = Steps::new(grid.count);
        assert_eq!(
            measure(&columns, &grid, &window, 0, true, Some(&mut steps)),
            3
        );
        // (10, 40], (35, 65], (60, 90]
        assert_eq!(steps.queryable, [3, 3, 3]);
        assert_eq!(steps.read, [3, 2, 3]);
    }
}
