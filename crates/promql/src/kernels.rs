//! What is computed of one series: sliding windows over its decoded columns.
//!
//! A kernel reads timestamps and values once, moves a window along the grid and writes one value
//! (or none) per step. Cost is O(samples + steps) wherever the result allows it; where Prometheus'
//! floating point result depends on the order of every sample in the window (`deriv`,
//! `mad_over_time`, smoothing), each window is walked.

pub(crate) mod extended;
pub(crate) mod histograms;
pub(crate) mod instant;
pub(crate) mod over_time;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod stacks;
pub(crate) mod xrate;

#[cfg(test)]
mod tests;

use model::Millis;

use crate::grid::{Grid, Slide, Window};

/// The steps a kernel writes: one value a step, and which of them are there.
pub(crate) struct Out<'a> {
    pub(crate) values: &'a mut [f64],
    /// Bit `i % 64` of word `i / 64` says whether step `i` has a value.
    pub(crate) bits: &'a mut [u64],
}

impl Out<'_> {
    #[inline(always)]
    pub(crate) fn set(&mut self, i: usize, v: f64) {
        self.values[i] = v;
        self.bits[i >> 6] |= 1 << (i & 63);
    }
}

/// Buffers a kernel reuses from series to series.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) indexes: Vec<u32>,
    pub(crate) counts: Vec<u32>,
    pub(crate) floats: Vec<f64>,
    pub(crate) keys: Vec<i64>,
    pub(crate) pairs: Vec<(f64, f64)>,
    pub(crate) moments: Vec<over_time::Moments>,
    pub(crate) times: Vec<Millis>,
}

/// A function over range vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RangeFn {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Changes,
    Resets,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Last,
    First,
    Present,
    Stddev,
    Stdvar,
    Quantile,
    Mad,
    TsOfFirst,
    TsOfLast,
    TsOfMin,
    TsOfMax,
    Xrate,
    Xincrease,
    Xdelta,
}

impl RangeFn {
    const NAMES: [(Self, &'static str); 29] = [
        (Self::Rate, "rate"),
        (Self::Increase, "increase"),
        (Self::Delta, "delta"),
        (Self::Irate, "irate"),
        (Self::Idelta, "idelta"),
        (Self::Changes, "changes"),
        (Self::Resets, "resets"),
        (Self::Deriv, "deriv"),
        (Self::PredictLinear, "predict_linear"),
        (
            Self::DoubleExponentialSmoothing,
            "double_exponential_smoothing",
        ),
        (Self::Sum, "sum_over_time"),
        (Self::Avg, "avg_over_time"),
        (Self::Min, "min_over_time"),
        (Self::Max, "max_over_time"),
        (Self::Count, "count_over_time"),
        (Self::Last, "last_over_time"),
        (Self::First, "first_over_time"),
        (Self::Present, "present_over_time"),
        (Self::Stddev, "stddev_over_time"),
        (Self::Stdvar, "stdvar_over_time"),
        (Self::Quantile, "quantile_over_time"),
        (Self::Mad, "mad_over_time"),
        (Self::TsOfFirst, "ts_of_first_over_time"),
        (Self::TsOfLast, "ts_of_last_over_time"),
        (Self::TsOfMin, "ts_of_min_over_time"),
        (Self::TsOfMax, "ts_of_max_over_time"),
        (Self::Xrate, "xrate"),
        (Self::Xincrease, "xincrease"),
        (Self::Xdelta, "xdelta"),
    ];

    /// The function of this name; `absent_over_time` asks where samples are present.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = match name {
            "absent_over_time" => "present_over_time",
            name => name,
        };
        let found = Self::NAMES.iter().find(|(_, n)| *n == name);
        found.map(|(f, _)| *f)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(f, _)| *f == self);
        found.map_or("", |(_, n)| n)
    }

    /// How far before its range it looks, ms.
    pub(crate) fn looks_before(self) -> Millis {
        match self {
            Self::Xrate | Self::Xincrease | Self::Xdelta => xrate::LOOKBACK,
            _ => 0,
        }
    }

    /// Whether the result is still the metric it was computed of.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::Last | Self::First)
    }
}

/// A scalar argument: the same at every step, or one value a step.
#[derive(Clone, Debug)]
pub(crate) enum Param {
    Const(f64),
    Steps(std::sync::Arc<[f64]>),
}

impl Param {
    #[inline]
    pub(crate) fn at(&self, i: usize) -> f64 {
        match self {
            Param::Const(v) => *v,
            Param::Steps(v) => v.get(i).copied().unwrap_or(f64::NAN),
        }
    }

    /// Every value once, in order, for checks over all steps.
    pub(crate) fn iter(&self, steps: usize) -> impl Iterator<Item = f64> + '_ {
        let n = match self {
            Param::Const(_) => steps.min(1),
            Param::Steps(_) => steps,
        };
        (0..n).map(|i| self.at(i))
    }
}

/// Runs `func` over the columns of one series. `values` must not hold stale markers. Every step of
/// `out` that has a result is set.
pub(crate) fn run(
    func: RangeFn,
    params: &[Param],
    cols: &Cols<'_>,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
) {
    let (ts, values) = (cols.ts, cols.values);
    let param = |i: usize| params.get(i).cloned().unwrap_or(Param::Const(f64::NAN));
    match func {
        RangeFn::Rate => rate::extrapolated(cols, true, true, scratch, out),
        RangeFn::Increase => rate::extrapolated(cols, true, false, scratch, out),
        RangeFn::Delta => rate::extrapolated(cols, false, false, scratch, out),
        RangeFn::Irate => rate::last_two(cols, true, out),
        RangeFn::Idelta => rate::last_two(cols, false, out),
        RangeFn::Changes => {
            let changed = |i: usize| rate::differ(values[i - 1], values[i]);
            rate::count_pairs(cols, changed, scratch, out);
        }
        RangeFn::Resets => {
            let reset =
                |i: usize| values[i] < values[i - 1] || rate::start_reset(ts, cols.starts, i);
            rate::count_pairs(cols, reset, scratch, out);
        }
        RangeFn::Deriv => regression::deriv(cols, out),
        RangeFn::PredictLinear => regression::predict_linear(cols, &param(0), out),
        RangeFn::DoubleExponentialSmoothing => {
            regression::smooth(cols, &param(0), &param(1), out);
        }
        RangeFn::Sum => over_time::sum(cols, scratch, out),
        RangeFn::Avg => over_time::avg(cols, scratch, out),
        RangeFn::Min => over_time::extreme(cols, scratch, out, |cur, best| cur < best),
        RangeFn::Max => over_time::extreme(cols, scratch, out, |cur, best| cur > best),
        RangeFn::TsOfMin => over_time::ts_of_extreme(cols, scratch, out, |c, best| c <= best),
        RangeFn::TsOfMax => over_time::ts_of_extreme(cols, scratch, out, |c, best| c >= best),
        RangeFn::Count => cols.each(out, |_, lo, hi| Some((hi - lo) as f64)),
        RangeFn::Last => cols.each(out, |_, _, hi| Some(values[hi - 1])),
        RangeFn::First => cols.each(out, |_, lo, _| Some(values[lo])),
        RangeFn::Present => cols.each(out, |_, _, _| Some(1.0)),
        RangeFn::TsOfFirst => cols.each(out, |_, lo, _| Some(ts[lo] as f64 / 1000.0)),
        RangeFn::TsOfLast => cols.each(out, |_, _, hi| Some(ts[hi - 1] as f64 / 1000.0)),
        RangeFn::Stddev => over_time::variance(cols, scratch, out, f64::sqrt),
        RangeFn::Stdvar => over_time::variance(cols, scratch, out, |v| v),
        RangeFn::Quantile => over_time::quantile(cols, &param(0), scratch, out),
        RangeFn::Mad => over_time::mad(cols, scratch, out),
        RangeFn::Xrate => xrate::run(xrate::Kind::Rate, cols, scratch, out),
        RangeFn::Xincrease => xrate::run(xrate::Kind::Increase, cols, scratch, out),
        RangeFn::Xdelta => xrate::run(xrate::Kind::Delta, cols, scratch, out),
    }
}

/// One series and the windows over it.
#[derive(Clone, Copy)]
pub(crate) struct Cols<'a> {
    pub(crate) ts: &'a [Millis],
    pub(crate) values: &'a [f64],
    /// Start timestamps, one each; empty if they are not known or not used.
    pub(crate) starts: &'a [Millis],
    pub(crate) grid: &'a Grid,
    pub(crate) window: &'a Window,
    pub(crate) stop: Stop<'a>,
}

/// Tells functions that walk large windows when nobody wants their result any more.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stop<'a>(pub(crate) Option<&'a dyn Fn() -> bool>);

/// The samples of windows between two looks.
const STRIDE: usize = 1 << 16;
/// Fewer are never looked at in between, if each window had all: some ten milliseconds.
const LONG: usize = 1 << 23;

impl Stop<'_> {
    /// Whether to give up, having walked a window of so many samples more.
    #[inline(always)]
    pub(crate) fn after(self, samples: usize, walked: &mut usize) -> bool {
        *walked += samples + 1;
        *walked > STRIDE && self.look(walked)
    }

    #[cold]
    fn look(self, walked: &mut usize) -> bool {
        *walked = 0;
        self.0.is_some_and(|stop| stop())
    }
}

impl Cols<'_> {
    /// Calls `f(step, lo, hi)` for each step whose window `lo..hi` is not empty, unless it is stopped.
    #[inline(always)]
    pub(crate) fn each(
        &self,
        out: &mut Out<'_>,
        mut f: impl FnMut(usize, usize, usize) -> Option<f64>,
    ) {
        self.windows(|i, lo, hi| {
            if let Some(v) = f(i, lo, hi) {
                out.set(i, v);
            }
        });
    }

    /// The same without a result.
    #[inline(always)]
    pub(crate) fn windows(&self, mut f: impl FnMut(usize, usize, usize)) {
        if self.ts.is_empty() || self.window.range <= 0 || self.grid.count == 0 {
            return;
        }
        let range = self.window.range;
        let mut slide = Slide::starting(self.ts, self.window.end(self.grid, 0), range);
        // Most series are done before it would matter.
        let long = self.ts.len().saturating_mul(self.grid.count) > LONG;
        let mut walked = 0;
        for i in 0..self.grid.count {
            slide.to(self.ts, self.window.end(self.grid, i), range);
            if slide.lo < slide.hi {
                if long && self.stop.after(slide.hi - slide.lo, &mut walked) {
                    return;
                }
                f(i, slide.lo, slide.hi);
            } else if slide.lo == self.ts.len() {
                return;
            }
        }
    }

    /// Whether windows overlap so much that carrying state from step to step pays: with few
    /// samples a window, or one window only, walking each is cheaper (and bit for bit what
    /// Prometheus computes).
    pub(crate) fn overlapping(&self) -> bool {
        if self.grid.count < 2 || self.window.at.is_some() || self.ts.len() < 24 {
            return false;
        }
        let span = self.ts[self.ts.len() - 1].saturating_sub(self.ts[0]).max(1);
        // Samples a window holds, and how many windows hold the same sample.
        let density = self.ts.len() as f64 / span as f64;
        let per_window = density * self.window.range as f64;
        let shared = self.window.range as f64 / self.grid.step as f64;
        per_window > 12.0 && shared > 1.5
    }
}
