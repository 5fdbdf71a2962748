//! A range query that does not fit its memory as a whole, run for some of its steps after the others.
//!
//! What most operators hold grows with the steps (`groups x steps x 24 B`), so half of the steps take
//! half of the memory. How much it will be is not known before the series are there: the query is
//! tried, and where its budget refuses, the steps are halved. Windows share the query's view, so they
//! see the same data; the answer, what is said of it and the verdict of `query.max-samples` are those
//! of the whole.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{Labels, Scope, View};

use super::Inner;
use super::run::{Before, Failed, Plan, Ran};
use crate::annotations::Annotations;
use crate::exec::context::{Held, TOO_MANY_SAMPLES};
use crate::exec::operator::Description;
use crate::grid::Grid;
use crate::plan::windows::Divisible;
use crate::profile::{Profiling, StepSamples};
use crate::value::{QueryError, RangeSeries, Value};

/// Steps are halved until there would be more windows than this: each reads once more what the ranges
/// of its first steps reach back to, and whole chunks.
const MOST: usize = 64;

impl Inner {
    /// Runs the plan, which has `failed` as a `whole` for want of memory, in windows of its steps.
    pub(super) async fn in_windows(
        &self,
        mut plan: Plan,
        whole: Description,
        over: (&Arc<dyn View>, &Arc<Scope>),
        profiling: Profiling,
        failed: Failed,
    ) -> Result<Ran, QueryError> {
        let budget = &over.1.budget;
        let divisible = plan.root.divisible(self.options.delayed_name_removal);
        let (refused, grid) = (failed.error, plan.grid());
        // The answer is held whole, whatever the windows are.
        let too_large = |answered: u64| answered > budget.limit() / 2;
        if divisible == Divisible::No || too_large(failed.answered) {
            return Err(refused);
        }
        let whole = Arc::new(whole);
        // The plan of a single step looks different.
        let least = grid.count.div_ceil(MOST).max(2);
        let (mut width, mut first) = (grid.count.div_ceil(2), 0);
        if width < least {
            return Err(refused);
        }
        let mut all = All::default();
        while first < grid.count {
            let left = grid.count - first;
            let window = Grid {
                start: grid.at(first),
                count: if left <= width + 1 { left } else { width },
                ..grid
            };
            let before = Before {
                whole: &whole,
                plan: all.plan.as_ref(),
                yielded: all.yielded,
            };
            let prepared = plan.lower(window)?;
            match self
                .attempt(&plan, prepared, over, profiling, Some(before))
                .await
            {
                Ok(ran) => {
                    first += window.count;
                    all.add(ran);
                }
                Err(failed) if budget.take_refusal() => {
                    if width <= least || too_large(all.answered() + failed.answered) {
                        return Err(refused);
                    }
                    width = width.div_ceil(2).max(least);
                }
                // It may only seem to be too many.
                Err(failed) if divisible == Divisible::Recounted && is_too_many(&failed.error) => {
                    return Err(refused);
                }
                Err(failed) => return Err(failed.error),
            }
        }
        Ok(all.finish(grid.count))
    }
}

fn is_too_many(error: &QueryError) -> bool {
    matches!(error, QueryError::Execution(text) if text == TOO_MANY_SAMPLES)
}

/// What the windows have given so far.
#[derive(Default)]
struct All {
    windows: usize,
    series: HashMap<Labels, RangeSeries>,
    said: Annotations,
    plan: Option<Description>,
    samples: StepSamples,
    yielded: u64,
    held: Vec<Held>,
}

impl All {
    /// Bytes of the answer.
    fn answered(&self) -> u64 {
        self.held.iter().map(|held| held.bytes() as u64).sum()
    }

    /// Adds what the next window has given.
    fn add(&mut self, ran: Ran) {
        self.windows += 1;
        if let Value::Matrix(series) = ran.value {
            series.into_iter().for_each(|series| self.append(series));
        }
        self.said.merge(ran.said);
        self.plan = ran.plan;
        self.samples.ts.extend(ran.samples.ts);
        self.samples.queryable.extend(ran.samples.queryable);
        self.samples.read.extend(ran.samples.read);
        self.yielded = ran.yielded;
        self.held.extend(ran.held);
    }

    fn append(&mut self, series: RangeSeries) {
        match self.series.entry(series.labels.clone()) {
            Entry::Vacant(place) => {
                place.insert(series);
            }
            Entry::Occupied(mut place) => {
                let all = place.get_mut();
                all.ts.extend(series.ts);
                all.values.extend(series.values);
                all.histograms.extend(series.histograms);
            }
        }
    }

    /// The answer for all `steps`.
    fn finish(self, steps: usize) -> Ran {
        let mut series: Vec<RangeSeries> = self.series.into_values().collect();
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        let windows = self.windows;
        let plan = self.plan.map(|plan| {
            let name = format!("Windows of steps: {steps} steps in {windows} windows");
            let around = Description::new(name, false, "the answer, and what one window holds");
            around.transparent().over([plan])
        });
        Ran {
            value: Value::Matrix(series),
            said: self.said,
            plan,
            samples: self.samples,
            yielded: self.yielded,
            held: self.held,
        }
    }
}
