//! A range function over the steps of an inner expression.

use std::sync::Arc;

use model::histogram::CounterReset;

use super::block::{Row, RowRef, each_set};
use super::context::{Context, Held};
use super::operator::{Description, Operator, Yield};
use super::pipe::JobMemory;
use super::scan::{Function, Kernel, ReadyFunction};
use super::tally::{self, Steps};
use crate::grid::{Grid, Window};
use crate::value::QueryError;

/// Feeds the rows of `input`, which lie on a grid of their own, to a range kernel. Rows must be
/// whole series.
#[derive(Clone)]
pub(crate) struct Subquery {
    pub(crate) input: Arc<dyn Operator>,
    pub(crate) inner: Grid,
    pub(crate) window: Window,
    pub(crate) function: Function,
    /// Which part of the plan its steps are those of.
    pub(crate) part: usize,
}

pub(crate) struct ReadySubquery {
    /// The memory of the columns of a row, for each job.
    _columns: Held,
    pub(crate) part: usize,
    inner: Grid,
    window: Window,
    function: ReadyFunction,
}

impl Subquery {
    pub(crate) async fn ready(
        &self,
        cx: &Arc<Context>,
        grid: &Grid,
    ) -> Result<ReadySubquery, QueryError> {
        Ok(ReadySubquery {
            _columns: cx.hold_columns(self.inner.count)?,
            part: self.part,
            inner: self.inner,
            window: self.window,
            function: self.function.ready(cx, grid).await?,
        })
    }

    /// What it is, at so many steps.
    pub(crate) fn describe(&self, steps: usize) -> Description {
        let kernel = match self.function.kernel {
            Kernel::Range(f) | Kernel::Extended(f, _) => f.name().to_owned(),
            _ => "instant".to_owned(),
        };
        Description::new(
            format!(
                "Subquery[{kernel}] range={}ms step={}ms",
                self.window.range, self.inner.step
            ),
            true,
            "credits x block",
        )
        .yields(Yield::Beside)
        .over([self.input.describe()])
        .over(self.function.params.iter().map(|p| p.describe(steps)))
    }
}

impl ReadySubquery {
    pub(crate) fn row(
        &self,
        cx: &Context,
        grid: &Grid,
        inner: RowRef<'_>,
        memory: &mut JobMemory,
        row: &mut Row,
    ) -> Result<(), QueryError> {
        let columns = &mut memory.columns;
        columns.clear();
        let mut bits = Vec::new();
        each_set(inner.float_bits(&mut bits), |i| {
            columns.push(self.inner.at(i), inner.values[i]);
        });
        for (i, h) in inner.histograms {
            let h = h.settled();
            let mut scalars = h.scalars;
            // Samples between the steps are not seen, or one sample is seen at several steps: what
            // was known about resets is not.
            if !h.is_gauge() {
                scalars.counter_reset = CounterReset::Unknown;
            }
            columns.histograms.shared_layout(&h.layout);
            let ts = self.inner.at(*i as usize);
            columns
                .histograms
                .push(ts, scalars, h.counts.iter().copied());
        }
        row.labels.extend_from_slice(inner.labels);
        row.drop_name = inner.drop_name;
        self.function.run(cx, grid, &self.window, memory, row)
    }

    /// Counts what the steps looked at of the row in `memory`; the answer is what the windows add to
    /// the samples of `row`, as [`tally::measure`] has it.
    pub(crate) fn measure(
        &self,
        grid: &Grid,
        memory: &JobMemory,
        row: &Row,
        steps: Option<&mut Steps>,
    ) -> u64 {
        let own = row.samples();
        tally::measure(&memory.columns, grid, &self.window, own, false, steps)
    }
}
