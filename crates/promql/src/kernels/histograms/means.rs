//! Sums and means of histograms over a window.

use std::sync::Arc;

use chunk::HistogramRef;
use model::histogram::CounterReset;

use super::{Mixed, Notes, To};
use crate::annotations::{Note, Operation};
use crate::histogram::Histogram;
use crate::histogram::sum::{Added, Incompatible, Sum, in_any_order};

/// Windows are slid over once they hold this many times what there is to add then.
const PAYS: usize = 2;
/// Bytes that the sums of a sliding window may take.
const SLIDING_BYTES: usize = 32 << 20;

/// What is asked of the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Sum,
    Mean,
}

/// `sum_over_time` and `avg_over_time`. Where all histograms have one scale, each is added twice and
/// each step adds two sums, however long the windows are. Where something has to be brought to
/// another scale the order matters, and each window is added up by itself.
pub(super) fn over_time(mixed: &Mixed<'_>, notes: &mut Notes<'_>, to: &mut To<'_>, what: What) {
    let hints = Hints::of(mixed);
    let mut sliding = slides(mixed, what).then(Sliding::default);
    mixed.each(|i, p| {
        to.nothing(i);
        if p.has_floats() {
            notes.named(Note::Mixed);
            return;
        }
        let (lo, hi) = p.histograms;
        let mut added = Added::default();
        let result = match (&mut sliding, what) {
            (Some(sliding), _) => sliding.window(mixed, lo, hi).map(|sum| {
                sum.map(|mut sum| {
                    if what == What::Mean {
                        sum.divide((hi - lo) as f64);
                    }
                    sum.finish()
                })
            }),
            (None, What::Sum) => sum(mixed, (lo, hi), &mut added),
            (None, What::Mean) => mean(mixed, (lo, hi), &mut added),
        };
        match result {
            Some(Ok(h)) => {
                if hints.contradict(lo, hi) {
                    notes.add(Note::Collision(Operation::Aggregation));
                }
                notes.added(added, Operation::Aggregation);
                to.histogram(i, Arc::new(h));
            }
            Some(Err(Incompatible)) => notes.named(Note::MixedSchemas),
            None => {}
        }
    });
}

/// Which histograms say that a reset came before them, and which that none did; ascending.
struct Hints {
    resets: Vec<usize>,
    not: Vec<usize>,
}

impl Hints {
    fn of(mixed: &Mixed<'_>) -> Self {
        let with = |wanted: CounterReset| {
            let all = 0..mixed.histograms.len();
            all.filter(|&i| {
                let h = mixed.get(i);
                h.is_some_and(|h| h.scalars.counter_reset == wanted)
            })
            .collect()
        };
        Self {
            resets: with(CounterReset::Reset),
            not: with(CounterReset::NotReset),
        }
    }

    /// Whether both are said between `lo` and `hi`.
    fn contradict(&self, lo: usize, hi: usize) -> bool {
        [&self.resets, &self.not].iter().all(|list| {
            let next = list.partition_point(|&i| i < lo);
            list.get(next).is_some_and(|&i| i < hi)
        })
    }
}

/// Whether sliding gives what adding up each window would give, and pays.
fn slides(mixed: &Mixed<'_>, what: What) -> bool {
    let (mut steps, mut inside, mut widest) = (0, 0, 0);
    mixed.each(|_, p| {
        let n = p.histograms.1 - p.histograms.0;
        (steps, inside) = (steps + 1, inside + n);
        widest = widest.max(n);
    });
    let n = mixed.histograms.len();
    if inside < PAYS * 2 * (steps + n) {
        return false;
    }
    let all = || (0..n).filter_map(|i| mixed.get(i));
    let buckets = all().map(|h| h.layout.len()).max().unwrap_or(0);
    let bytes = widest * (size_of::<Sum>() + buckets * 2 * size_of::<f64>());
    // A mean goes another way where the sum would overflow.
    let most = LARGE / n as f64;
    bytes <= SLIDING_BYTES
        && in_any_order(all().map(|h| h.layout))
        && (what == What::Sum || !all().any(|h| exceeds(h, most)))
}

/// Sums of windows, by two stacks as in [`stacks`](crate::kernels::stacks): nothing is subtracted.
#[derive(Default)]
struct Sliding {
    /// The sums of what lies between each place and the cut, the shortest first.
    suffixes: Vec<Sum>,
    cut: usize,
    right: Option<Sum>,
    end: usize,
}

impl Sliding {
    /// The sum of `lo..hi`, which is not empty; neither end falls from call to call.
    fn window(
        &mut self,
        mixed: &Mixed<'_>,
        lo: usize,
        hi: usize,
    ) -> Option<Result<Sum, Incompatible>> {
        if lo >= self.cut {
            self.suffixes.clear();
            let mut suffix = Sum::compensated(mixed.get(hi - 1)?);
            for i in (lo..hi - 1).rev() {
                let mut next = suffix.clone();
                self.suffixes.push(suffix);
                if let Err(e) = next.add(mixed.get(i)?, 1.0) {
                    return Some(Err(e));
                }
                suffix = next;
            }
            self.suffixes.push(suffix);
            (self.cut, self.end, self.right) = (hi, hi, None);
        }
        while self.end < hi {
            let next = mixed.get(self.end)?;
            match &mut self.right {
                None => self.right = Some(Sum::compensated(next)),
                Some(right) => {
                    if let Err(e) = right.add(next, 1.0) {
                        return Some(Err(e));
                    }
                }
            }
            self.end += 1;
        }
        let mut sum = self.suffixes.get(self.cut - 1 - lo)?.clone();
        if let Some(right) = &self.right
            && let Err(e) = sum.merge(right.clone())
        {
            return Some(Err(e));
        }
        Some(Ok(sum))
    }
}

fn sum(
    mixed: &Mixed<'_>,
    (lo, hi): (usize, usize),
    said: &mut Added,
) -> Option<Result<Histogram, Incompatible>> {
    let mut sum = Sum::compensated(mixed.get(lo)?);
    for i in lo + 1..hi {
        match sum.add(mixed.get(i)?, 1.0) {
            Ok(added) => said.reconciled |= added.reconciled,
            Err(e) => return Some(Err(e)),
        }
    }
    Some(Ok(sum.finish()))
}

fn mean(
    mixed: &Mixed<'_>,
    (lo, hi): (usize, usize),
    said: &mut Added,
) -> Option<Result<Histogram, Incompatible>> {
    let mut mean = Mean::new(mixed.get(lo)?);
    for i in lo + 1..hi {
        match mean.add(mixed.get(i)?) {
            Ok(added) => said.reconciled |= added.reconciled,
            Err(e) => return Some(Err(e)),
        }
    }
    Some(Ok(mean.finish()))
}

/// The mean of histograms: their sum by their number, or the running mean once the sum would
/// overflow.
#[derive(Clone, Debug)]
pub(crate) struct Mean {
    sum: Sum,
    n: f64,
    running: bool,
}

impl Mean {
    pub(crate) fn new(h: HistogramRef<'_>) -> Self {
        Self {
            sum: Sum::compensated(h),
            n: 1.0,
            running: false,
        }
    }

    pub(crate) fn sum(&self) -> &Sum {
        &self.sum
    }

    pub(crate) fn add(&mut self, h: HistogramRef<'_>) -> Result<Added, Incompatible> {
        self.n += 1.0;
        if !self.running {
            if !self.sum.is_large() && !is_large(h) {
                return self.sum.add(h, 1.0);
            }
            let mut next = self.sum.clone();
            let added = next.add(h, 1.0)?;
            if !next.overflows() {
                self.sum = next;
                return Ok(added);
            }
            self.running = true;
            self.sum.divide(self.n - 1.0);
        }
        self.sum.scale((self.n - 1.0) / self.n);
        let mut part = Histogram::of(h);
        part.divide(self.n);
        self.sum.add(part.as_ref(), 1.0)
    }

    /// Adds a mean of later histograms.
    pub(crate) fn merge(&mut self, mut other: Mean) -> Result<Added, Incompatible> {
        let n = self.n + other.n;
        if !self.running && !other.running {
            let mut next = self.sum.clone();
            let added = next.merge(other.sum.clone())?;
            if !next.overflows() {
                (self.sum, self.n) = (next, n);
                return Ok(added);
            }
        }
        for mean in [&mut *self, &mut other] {
            if !mean.running {
                mean.running = true;
                mean.sum.divide(mean.n);
            }
            mean.sum.scale(mean.n / n);
        }
        self.n = n;
        self.sum.merge(other.sum)
    }

    pub(crate) fn finish(mut self) -> Histogram {
        if !self.running {
            self.sum.divide(self.n);
        }
        self.sum.finish()
    }
}

/// From here on a sum may overflow.
const LARGE: f64 = 1e300;

fn is_large(h: HistogramRef<'_>) -> bool {
    exceeds(h, LARGE)
}

fn exceeds(h: HistogramRef<'_>, most: f64) -> bool {
    let s = h.scalars;
    let numbers = [s.zero_count, s.count, s.sum];
    numbers.iter().chain(h.counts).any(|v| v.abs() > most)
}

impl Sum {
    fn is_large(&self) -> bool {
        self.largest() > LARGE
    }
}

#[cfg(test)]
mod tests {
    use chunk::Histograms;
    use model::histogram::{Buckets, FloatHistogram, Span};
    use proptest::prelude::*;

    use super::*;
    use crate::grid::{Grid, Window};
    use crate::kernels::Cols;

    fn histogram((buckets, at, count): (u32, i32, f64)) -> FloatHistogram {
        let counts: Vec<f64> = (0..buckets).map(|i| count * f64::from(i) + 0.1).collect();
        FloatHistogram {
            schema: 1,
            zero_threshold: 0.001,
            zero_count: 1.0,
            count: counts.iter().sum::<f64>() + 1.0,
            sum: count * 1.7,
            positive: Buckets {
                spans: vec![Span {
                    offset: at,
                    length: buckets,
                }],
                counts,
            },
            ..FloatHistogram::default()
        }
    }

    proptest! {
        #[test]
        fn sliding_gives_the_sums_of_the_windows(
            all in prop::collection::vec((1..6u32, 0..4i32, -1e3..1e9), 40..120),
            range in 3_000..60_000i64,
            step in 100..2_000i64,
        ) {
            let mut histograms = Histograms::default();
            for (k, one) in all.iter().enumerate() {
                histograms.push_histogram(k as i64 * 1000, &histogram(*one));
            }
            let grid = Grid { start: 0, step, count: (all.len() as i64 * 1000 / step) as usize };
            let window = Window { range, offset: 0, at: None };
            let mixed = Mixed {
                cols: Cols { ts: &[], values: &[], starts: &[], grid: &grid, window: &window, stop: Default::default() },
                histograms: &histograms,
                use_starts: false,
            };
            let mut sliding = Sliding::default();
            let mut failed = None;
            mixed.each(|_, p| {
                let (lo, hi) = p.histograms;
                let slid = sliding.window(&mixed, lo, hi).unwrap().unwrap().finish();
                let alone = sum(&mixed, (lo, hi), &mut Added::default()).unwrap().unwrap();
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
                let s = (slid.scalars, alone.scalars);
                let same = slid.layout == alone.layout
                    && near(s.0.sum, s.1.sum)
                    && near(s.0.count, s.1.count)
                    && near(s.0.zero_count, s.1.zero_count)
                    && slid.counts.iter().zip(&alone.counts).all(|(a, b)| near(*a, *b));
                if !same {
                    failed = Some((lo, hi));
                }
            });
            prop_assert_eq!(failed, None);
        }
    }
}
