//! A selector and the kernel over it.

use std::cell::Cell;
use std::sync::Arc;

use chunk::{Dedup, Want};
use model::source::Aggregate;
use model::{Millis, TimeRange, is_stale};

use super::block::{Pair, Row};
use super::context::{Context, execution};
use super::operator::{Description, Yield};
use super::pipe::JobMemory;
use super::scalar::ScalarOp;
use super::tally::{self, Steps};
use crate::ast::Span;
use crate::grid::{Grid, Window};
use crate::kernels::extended::{self, Extension};
use crate::kernels::histograms::{self, Mixed, Newest, Notes};
use crate::kernels::{self, Cols, Out, Param, RangeFn, Stop, rate};
use crate::value::QueryError;

/// What is computed of each series of a selector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kernel {
    /// The newest sample.
    Newest(Newest),
    /// The value at the step, interpolated; the window is wider by so many ms.
    InstantSmoothed(model::Millis),
    /// A function over the range.
    Range(RangeFn),
    /// A function over a range whose borders are found otherwise.
    Extended(RangeFn, Extension),
}

/// A range function with its parameters and what it may say.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) kernel: Kernel,
    pub(crate) params: Vec<ScalarOp>,
    /// Where its arguments stand, for annotations.
    pub(crate) spans: Vec<Span>,
    /// Whether the metric name is dropped.
    pub(crate) drops_name: bool,
}

/// Reads series and runs a kernel over them.
#[derive(Clone)]
pub(crate) struct Scan {
    /// Which of the query's questions is read.
    pub(crate) question: usize,
    pub(crate) text: String,
    pub(crate) window: Window,
    /// Samples that matter.
    pub(crate) reach: TimeRange,
    /// The column of downsampled data that is read.
    pub(crate) column: Aggregate,
    pub(crate) function: Function,
    /// Of histograms, only counts and sums matter.
    pub(crate) no_buckets: bool,
    /// Which part of the plan its steps are those of.
    pub(crate) part: usize,
}

pub(crate) struct ReadyScan {
    pub(crate) want: Want,
    pub(crate) part: usize,
    window: Window,
    function: ReadyFunction,
    no_buckets: bool,
}

/// A function whose parameters are known.
pub(crate) struct ReadyFunction {
    kernel: Kernel,
    params: Vec<Param>,
    span: Span,
    drops_name: bool,
    /// Whether nothing can be smoothed with some of the factors.
    wrong_factors: bool,
}

impl Kernel {
    /// Whether start timestamps make a difference.
    fn uses_starts(self) -> bool {
        use RangeFn::{Increase, Irate, Rate, Resets};
        matches!(
            self,
            Kernel::Newest(Newest::Start)
                | Kernel::Range(Rate | Increase | Irate | Resets)
                | Kernel::Extended(Resets, _)
        )
    }
}

impl Function {
    pub(crate) async fn ready(
        &self,
        cx: &Arc<Context>,
        grid: &Grid,
    ) -> Result<ReadyFunction, QueryError> {
        let mut params = Vec::with_capacity(self.params.len());
        for param in &self.params {
            params.push(param.eval(cx, grid).await?);
        }
        let smooths = self.kernel == Kernel::Range(RangeFn::DoubleExponentialSmoothing);
        let ready = ReadyFunction {
            wrong_factors: smooths
                && params
                    .iter()
                    .any(|p| p.iter(grid.count).any(is_wrong_factor)),
            kernel: self.kernel,
            params,
            span: self.spans.first().copied().unwrap_or_default(),
            drops_name: self.drops_name,
        };
        ready.check(grid)?;
        Ok(ready)
    }
}

/// Whether nothing can be smoothed with this factor. Written so that NaN passes.
fn is_wrong_factor(factor: f64) -> bool {
    factor <= 0.0 || factor >= 1.0
}

impl ReadyFunction {
    /// Parameters that no series can be computed with.
    fn check(&self, grid: &Grid) -> Result<(), QueryError> {
        if let Kernel::Extended(func, extension) = self.kernel
            && !extension.allows(func)
            && grid.count > 0
        {
            let (modifier, functions) = if extension.smoothed {
                ("smoothed", "delta, increase, rate")
            } else {
                ("anchored", "changes, delta, increase, rate, resets")
            };
            let name = match func {
                // Only `absent_over_time` has use for names.
                RangeFn::Present if !self.drops_name => "absent_over_time",
                func => func.name(),
            };
            return Err(execution(format!(
                "{modifier} modifier can only be used with: {functions} - not with {name}"
            )));
        }
        Ok(())
    }

    /// Factors that nothing can be smoothed with. They are an error only where there is something to
    /// smooth, as in Prometheus.
    fn check_factors(&self, cols: &Cols<'_>, histograms: &[Millis]) -> Result<(), QueryError> {
        let [smoothing, trend] = &self.params[..] else {
            return Ok(());
        };
        let (grid, window) = (cols.grid, cols.window);
        let factors = smoothing.iter(grid.count).zip(trend.iter(grid.count));
        for (i, (sf, tf)) in factors.enumerate() {
            let (bad, name, short) = match (is_wrong_factor(sf), is_wrong_factor(tf)) {
                (true, _) => (sf, "smoothing", "sf"),
                (_, true) => (tf, "trend", "tf"),
                _ => continue,
            };
            let end = window.end(grid, i);
            let some = |ts: &[Millis]| {
                let newest = ts.partition_point(|t| *t <= end).checked_sub(1);
                newest.is_some_and(|at| ts[at] > end - window.range)
            };
            if some(cols.ts) || some(histograms) {
                return Err(execution(format!(
                    "invalid {name} factor. Expected: 0 < {short} < 1, got: {bad:.6}"
                )));
            }
        }
        Ok(())
    }

    /// Runs it over columns without stale markers (instant kernels want them) into `row`, whose
    /// labels are the input's.
    pub(crate) fn run(
        &self,
        cx: &Context,
        grid: &Grid,
        window: &Window,
        memory: &mut JobMemory,
        row: &mut Row,
    ) -> Result<(), QueryError> {
        let JobMemory {
            columns, scratch, ..
        } = memory;
        let starts = cx.start_timestamps && self.kernel.uses_starts();
        let stopped = Cell::new(false);
        let stop = || {
            stopped.set(cx.check().is_err());
            stopped.get()
        };
        let cols = Cols {
            ts: &columns.ts,
            values: &columns.values,
            starts: if starts { &columns.starts } else { &[] },
            grid,
            window,
            stop: Stop(Some(&stop)),
        };
        if self.wrong_factors {
            self.check_factors(&cols, &columns.histograms.ts)?;
        }
        let mut out = Out {
            values: &mut row.values,
            bits: &mut row.bits,
        };
        match self.kernel {
            Kernel::Newest(what) => kernels::instant::select(&cols, what, &mut out),
            Kernel::InstantSmoothed(lookback) => extended::instant(lookback, &cols, &mut out),
            Kernel::Extended(func, extension) => {
                extended::run(func, extension, &cols, scratch, &mut out);
            }
            Kernel::Range(func) => kernels::run(func, &self.params, &cols, scratch, &mut out),
        }
        let any_starts = starts && (!cols.starts.is_empty());
        if any_starts || !columns.histograms.is_empty() {
            let mixed = Mixed {
                cols,
                histograms: &columns.histograms,
                use_starts: starts,
            };
            self.histograms(cx, &mixed, scratch, row)?;
        }
        if stopped.get() {
            // It may be half a row.
            cx.check()?;
        }
        if !row.is_empty()
            && let Kernel::Range(func) | Kernel::Extended(func, _) = self.kernel
        {
            self.annotate(func, cx, grid, row);
        }
        if self.drops_name {
            if cx.delayed_names {
                row.drop_name = true;
            } else {
                cx.drop_metadata(&mut row.labels);
            }
        }
        Ok(())
    }

    /// What histograms and start timestamps change about the result of the floats.
    #[cold]
    fn histograms(
        &self,
        cx: &Context,
        mixed: &Mixed<'_>,
        scratch: &mut kernels::Scratch,
        row: &mut Row,
    ) -> Result<(), QueryError> {
        let symbols = &cx.scope.symbols;
        let mut notes = Notes::new(symbols.get(row.get(cx.name_symbol())));
        let counts_overlaps = matches!(
            self.kernel,
            Kernel::Range(RangeFn::Rate | RangeFn::Increase)
        );
        if counts_overlaps {
            rate::overlapping_starts(&mixed.cols, || notes.overlap());
        }
        if !mixed.histograms.is_empty() {
            match self.kernel {
                Kernel::Newest(what) => {
                    if histograms::select(mixed, what, row).is_err() {
                        let labels = cx.text(&row.labels);
                        return Err(execution(format!(
                            "this should be an info metric, with float samples: {labels}"
                        )));
                    }
                }
                Kernel::InstantSmoothed(lookback) => {
                    histograms::smoothed(lookback, mixed, &mut notes, row);
                }
                Kernel::Extended(func, extension) => {
                    histograms::run_extended(func, extension, mixed, scratch, &mut notes, row);
                }
                Kernel::Range(func) => histograms::run(func, mixed, scratch, &mut notes, row),
            }
        }
        if !notes.all.is_empty() {
            cx.say(|a| notes.all.iter().for_each(|note| a.note(note, self.span)));
        }
        Ok(())
    }

    fn annotate(&self, func: RangeFn, cx: &Context, grid: &Grid, row: &Row) {
        match func {
            RangeFn::Rate | RangeFn::Increase if row.has_floats() => {
                let name = cx.scope.symbols.get(row.get(cx.name_symbol()));
                let counter = ["_total", "_sum", "_count", "_bucket"];
                if !name.is_empty() && !counter.iter().any(|end| name.ends_with(end)) {
                    cx.say(|a| a.possible_non_counter(name, self.span));
                }
            }
            RangeFn::Quantile => {
                for q in self.params.iter().flat_map(|p| p.iter(grid.count)) {
                    if !(0.0..=1.0).contains(&q) {
                        cx.say(|a| a.invalid_quantile(q, self.span));
                    }
                }
            }
            _ => {}
        }
    }
}

impl Scan {
    pub(crate) async fn ready(
        &self,
        cx: &Arc<Context>,
        grid: &Grid,
    ) -> Result<ReadyScan, QueryError> {
        let counter = matches!(
            self.function.kernel,
            Kernel::Range(
                RangeFn::Rate
                    | RangeFn::Increase
                    | RangeFn::Irate
                    | RangeFn::Resets
                    | RangeFn::Xrate
                    | RangeFn::Xincrease
            ) | Kernel::Extended(RangeFn::Rate | RangeFn::Increase | RangeFn::Resets, _)
        );
        Ok(ReadyScan {
            want: Want {
                range: self.reach,
                aggregate: self.column,
                dedup: Dedup::Penalty { counter },
            },
            part: self.part,
            window: self.window,
            function: self.function.ready(cx, grid).await?,
            no_buckets: self.no_buckets,
        })
    }

    /// What it is, at so many steps.
    pub(crate) fn describe(&self, steps: usize) -> Description {
        let kernel = match self.function.kernel {
            Kernel::Newest(Newest::Value) => "instant".to_owned(),
            Kernel::Newest(Newest::Time | Newest::InfoTime) => "timestamp".to_owned(),
            Kernel::Newest(Newest::Start) => "start_timestamp".to_owned(),
            Kernel::InstantSmoothed(_) => "smoothed".to_owned(),
            Kernel::Range(f) => f.name().to_owned(),
            Kernel::Extended(f, e) if e.smoothed => format!("smoothed {}", f.name()),
            Kernel::Extended(f, _) => format!("anchored {}", f.name()),
        };
        Description::new(
            format!("Scan[{kernel}] {}", self.text),
            true,
            "credits x (batch + columns of one series)",
        )
        .yields(match self.function.kernel {
            // Of `info` they are samples with their times.
            Kernel::Newest(Newest::Time | Newest::Start) => Yield::Selected,
            _ => Yield::Beside,
        })
        .over(self.function.params.iter().map(|p| p.describe(steps)))
    }
}

impl ReadyScan {
    /// The row of the series whose columns `memory` holds.
    pub(crate) fn row(
        &self,
        cx: &Context,
        grid: &Grid,
        labels: &[Pair],
        memory: &mut JobMemory,
        row: &mut Row,
    ) -> Result<(), QueryError> {
        let columns = &mut memory.columns;
        if columns.is_empty() && columns.histograms.is_empty() {
            return Ok(());
        }
        if self.no_buckets && !columns.histograms.is_empty() {
            std::mem::swap(&mut columns.histograms, &mut memory.whole);
            // An instant selector's window begins right behind its border.
            let newest = matches!(self.function.kernel, Kernel::Newest(_));
            let length = self.window.range - i64::from(newest);
            let ends = (0..grid.count).map(|i| self.window.end(grid, i));
            let windows = ends.map(|end| (end.saturating_sub(length), end));
            let to = &mut columns.histograms;
            histograms::without_buckets(&memory.whole, &columns.ts, windows, to);
        }
        if !matches!(self.function.kernel, Kernel::Newest(_)) {
            drop_stale(columns);
        }
        row.labels.extend_from_slice(labels);
        self.function.run(cx, grid, &self.window, memory, row)
    }

    /// Counts what the steps looked at of the series in `memory`; the answer is what the windows of a
    /// range function add to the samples of `row`, as [`tally::measure`] has it.
    pub(crate) fn measure(
        &self,
        grid: &Grid,
        memory: &JobMemory,
        row: &Row,
        steps: Option<&mut Steps>,
    ) -> u64 {
        if matches!(
            self.function.kernel,
            Kernel::Range(_) | Kernel::Extended(..)
        ) {
            let own = row.samples();
            return tally::measure(&memory.columns, grid, &self.window, own, true, steps);
        }
        // Prometheus counts no smoothed selector, and of `info` only what is joined.
        if let Some(steps) = steps.filter(|_| self.counts()) {
            steps.present(row.as_ref());
        }
        0
    }

    /// Whether the row at each step is what was looked at.
    fn counts(&self) -> bool {
        !matches!(
            self.function.kernel,
            Kernel::InstantSmoothed(_) | Kernel::Newest(Newest::InfoTime)
        )
    }
}

/// Removes stale markers.
pub(crate) fn drop_stale(columns: &mut chunk::Columns) {
    if columns.histograms.iter().any(|(_, h)| h.is_stale()) {
        let all = &columns.histograms;
        let stale: Vec<bool> = all.iter().map(|(_, h)| h.is_stale()).collect();
        columns.histograms.retain(|i, _| !stale[i]);
    }
    // Most series have none: many values are looked at at once.
    let stale = |part: &[f64]| part.iter().fold(false, |any, v| any | is_stale(*v));
    if !columns.values.chunks(64).any(stale) {
        return;
    }
    let Some(first) = columns.values.iter().position(|v| is_stale(*v)) else {
        return;
    };
    let mut to = first;
    for from in first..columns.values.len() {
        let v = columns.values[from];
        if !is_stale(v) {
            columns.values[to] = v;
            columns.ts[to] = columns.ts[from];
            if !columns.starts.is_empty() {
                columns.starts[to] = columns.starts[from];
            }
            to += 1;
        }
    }
    columns.truncate(to);
    columns.starts.truncate(to);
}
