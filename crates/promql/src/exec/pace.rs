//! How long a job may go on without a look at whether its query does.

use std::cmp::Ordering;

use super::context::Context;
use crate::value::QueryError;

/// About a millisecond of work: samples, steps and labels touched.
const STRIDE: usize = 1 << 17;
/// Values that are sorted at once.
const RUN: usize = 1 << 13;

/// Counts work, and looks now and then whether the query goes on.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: usize,
}

impl Pace {
    /// Some work was done; ends the query once it was cancelled or is late.
    pub(crate) fn step(&mut self, cx: &Context, work: usize) -> Result<(), QueryError> {
        // A row that has no step is work, too.
        self.since += work + 16;
        if self.since < STRIDE {
            return Ok(());
        }
        self.since = 0;
        cx.check()
    }
}

/// Sorts as [`slice::sort_by`] does, and ends early once the query was cancelled or is late.
pub(crate) fn sort<T>(
    cx: &Context,
    mut all: Vec<T>,
    order: impl Fn(&T, &T) -> Ordering,
) -> Result<Vec<T>, QueryError> {
    for run in all.chunks_mut(RUN) {
        cx.check()?;
        run.sort_by(&order);
    }
    let mut width = RUN;
    while width < all.len() {
        let mut merged = Vec::with_capacity(all.len());
        let mut rest = all.into_iter();
        loop {
            // Two runs that lie side by side; equal ones stay in their order.
            let mut left = rest
                .by_ref()
                .take(width)
                .collect::<Vec<T>>()
                .into_iter()
                .peekable();
            let mut right = rest
                .by_ref()
                .take(width)
                .collect::<Vec<T>>()
                .into_iter()
                .peekable();
            if left.peek().is_none() {
                break;
            }
            let mut pace = Pace::default();
            while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
                pace.step(cx, 0)?;
                let next = match order(a, b) {
                    Ordering::Greater => right.next(),
                    _ => left.next(),
                };
                merged.extend(next);
            }
            merged.extend(left);
            merged.extend(right);
        }
        all = merged;
        width *= 2;
    }
    Ok(all)
}
