//! Sums and means of histograms over a window.

use std::sync::Arc;

use chunk::HistogramRef;
use model::histogram::CounterReset;

use super::{Mixed, Notes, To};
use crate::annotations::{Note, Operation};
use crate::histogram::Histogram;
use crate::histogram::sum::{Added, Incompatible, Sum};

/// `sum_over_time` and `avg_over_time`.
pub(super) fn over_time(
    mixed: &Mixed<'_>,
    notes: &mut Notes<'_>,
    to: &mut To<'_>,
    of: impl Fn(&Mixed<'_>, (usize, usize), &mut Added) -> Option<Result<Histogram, Incompatible>>,
) {
    mixed.each(|i, p| {
        to.nothing(i);
        if p.has_floats() {
            notes.named(Note::Mixed);
            return;
        }
        let mut added = Added::default();
        match of(mixed, p.histograms, &mut added) {
            Some(Ok(h)) => {
                let hint = |wanted: CounterReset| {
                    (p.histograms.0..p.histograms.1)
                        .filter_map(|i| mixed.get(i))
                        .any(|h| h.scalars.counter_reset == wanted)
                };
                if hint(CounterReset::Reset) && hint(CounterReset::NotReset) {
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

pub(super) fn sum(
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

pub(super) fn mean(
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

pub(super) fn is_large(h: HistogramRef<'_>) -> bool {
    let s = h.scalars;
    let numbers = [s.zero_count, s.count, s.sum];
    numbers.iter().chain(h.counts).any(|v| v.abs() > LARGE)
}

impl Sum {
    fn is_large(&self) -> bool {
        self.largest() > LARGE
    }
}
