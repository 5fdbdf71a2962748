//! `rate` and its kin over histograms, extrapolated or between borders that are found otherwise.

use std::sync::Arc;

use chunk::HistogramRef;
use chunk::histograms::is_reset;
use model::Millis;
use model::histogram::{CUSTOM_SCHEMA, CounterReset};

use super::{Facts, Mixed, Notes, To, change};
use crate::annotations::{Note, Operation};
use crate::histogram::Histogram;
use crate::histogram::sum::{Incompatible, Sum};
use crate::kernels::RangeFn;
use crate::kernels::extended::Extension;
use crate::kernels::rate::Reach;

/// `rate`, `increase` and `delta`.
pub(super) fn rates(
    func: RangeFn,
    mixed: &Mixed<'_>,
    extension: Option<Extension>,
    notes: &mut Notes<'_>,
    to: &mut To<'_>,
) {
    let counter = func != RangeFn::Delta;
    let facts = mixed.facts(counter && extension.is_none());
    let seconds = |range: Millis| (func == RangeFn::Rate).then_some(range as f64 / 1000.0);
    mixed.each(|i, p| {
        to.nothing(i);
        if p.has_floats() {
            notes.named(Note::Mixed);
            return;
        }
        let end = mixed.cols.window.end(mixed.cols.grid, i);
        let range = mixed.cols.window.range;
        let h = match extension {
            Some(extension) => {
                let (start, end) = extension.range(end, range);
                let window = Borders {
                    at: p.histograms,
                    start,
                    end,
                    smoothed: extension.smoothed,
                };
                extended_rate(mixed, &window, counter, seconds(end - start), notes)
            }
            None => {
                let reach = (end - range, end);
                extrapolated(
                    mixed,
                    &facts,
                    p.histograms,
                    reach,
                    counter,
                    seconds(range),
                    notes,
                )
            }
        };
        if let Some(h) = h {
            to.histogram(i, Arc::new(h));
        }
    });
}

pub(super) fn extrapolated(
    mixed: &Mixed<'_>,
    facts: &Facts,
    (lo, hi): (usize, usize),
    (start, end): (Millis, Millis),
    counter: bool,
    seconds: Option<f64>,
    notes: &mut Notes<'_>,
) -> Option<Histogram> {
    let ts = &mixed.histograms.ts;
    let starts = if counter { mixed.starts() } else { &[] };
    let reach = Reach {
        first_t: ts[lo],
        last_t: ts[hi - 1],
        n: hi - lo,
        start,
        end,
    };
    let zero_at = reach.zero_at(starts, lo);
    let mut sum = None;
    if hi - lo > 1 {
        let said = notes.all.len();
        sum = Some(match change(mixed, facts, lo, hi, counter, notes) {
            Ok(sum) => sum,
            Err(keep) => {
                if !keep {
                    notes.all.truncate(said);
                }
                notes.named(Note::MixedSchemas);
                return None;
            }
        });
    } else if zero_at.is_none() {
        return None;
    }
    let first = mixed.get(lo)?;
    if zero_at.is_some() {
        match &mut sum {
            None => sum = Some(Sum::plain(first)),
            Some(sum) => {
                // The first one's empty buckets come after those of the others have gone.
                sum.drop_empty();
                match sum.add(first, 1.0) {
                    Ok(added) => notes.added(added, Operation::Addition),
                    Err(Incompatible) => {
                        notes.named(Note::MixedSchemas);
                        return None;
                    }
                }
            }
        }
    }
    let alone = hi - lo == 1;
    let mut h = sum?.finish();
    let grown = (first.scalars.count, h.scalars.count);
    let mut factor = reach.factor(counter.then_some(grown), zero_at);
    if let Some(seconds) = seconds {
        factor /= seconds;
    }
    h.scale(factor);
    if !alone {
        h.scalars.counter_reset = CounterReset::Gauge;
        h.compacted |= zero_at.is_none();
    }
    Some(h)
}

/// A window of an `anchored` or `smoothed` range.
pub(super) struct Borders {
    /// Histograms of the wider window.
    at: (usize, usize),
    /// Where the range itself starts and ends.
    start: Millis,
    end: Millis,
    smoothed: bool,
}

pub(super) fn extended_rate(
    mixed: &Mixed<'_>,
    w: &Borders,
    counter: bool,
    seconds: Option<f64>,
    notes: &mut Notes<'_>,
) -> Option<Histogram> {
    let (lo, hi) = w.at;
    let ts = &mixed.histograms.ts;
    let inside = &ts[lo..hi - 1];
    let first = (lo + inside.partition_point(|&t| t <= w.start)).max(lo + 1) - 1;
    let last = if w.smoothed {
        lo + inside.partition_point(|&t| t < w.end)
    } else {
        hi - 1
    };
    if ts[last] <= w.start || (w.smoothed && ts[first] > w.end) {
        return None;
    }
    let custom = mixed.get(first)?.layout.schema == CUSTOM_SCHEMA;
    for i in first..=last {
        let h = mixed.get(i)?;
        if (h.layout.schema == CUSTOM_SCHEMA) != custom {
            notes.named(Note::MixedSchemas);
            return None;
        }
        if counter && h.scalars.counter_reset == CounterReset::Gauge {
            notes.named(Note::NotCounter);
        }
    }
    let sample = |i: usize| Some((ts[i], mixed.get(i)?));
    let left = if w.smoothed && ts[first] < w.start {
        interpolated(sample(first)?, sample(first + 1)?, w.start, counter, notes)?
    } else {
        Histogram::of(mixed.get(first)?)
    };
    let right = if w.smoothed && last > lo && ts[last] > w.end {
        interpolated(sample(last - 1)?, sample(last)?, w.end, counter, notes)?
    } else {
        Histogram::of(mixed.get(last)?)
    };
    if !counter && (!left.is_gauge() || !right.is_gauge()) {
        notes.named(Note::NotGauge);
    }
    let mut sum = Sum::plain(right.as_ref());
    let mut add = |sum: &mut Sum, h: HistogramRef<'_>, sign, operation| match sum.add(h, sign) {
        Ok(added) => {
            notes.added(added, operation);
            Some(())
        }
        Err(Incompatible) => {
            notes.named(Note::MixedSchemas);
            None
        }
    };
    add(&mut sum, left.as_ref(), -1.0, Operation::Subtraction)?;
    if counter {
        // The first histogram is what `left` stands for, the last what `right` does.
        let mut from = first + 1;
        let mut prev = left.as_ref();
        if w.smoothed && ts[first] < w.start && is_reset(mixed.get(first + 1)?, mixed.get(first)?) {
            // `left` lies behind that reset already.
            prev = mixed.get(first + 1)?;
            from += 1;
        }
        if from <= last {
            let mut correction: Option<Sum> = None;
            let ends = std::iter::once(right.as_ref());
            let between = (from..last).filter_map(|i| mixed.get(i));
            for h in between.chain(ends) {
                if is_reset(h, prev) {
                    match &mut correction {
                        None => correction = Some(Sum::plain(prev)),
                        Some(sum) => add(sum, prev, 1.0, Operation::Addition)?,
                    }
                }
                prev = h;
            }
            if let Some(correction) = correction {
                let correction = correction.finish();
                add(&mut sum, correction.as_ref(), 1.0, Operation::Addition)?;
            }
        }
    }
    let mut h = sum.finish();
    if let Some(seconds) = seconds {
        h.divide(seconds);
    }
    h.scalars.counter_reset = CounterReset::Gauge;
    h.compacted = true;
    Some(h)
}

/// The histogram at `t` on the line between two; a counter that was reset starts from zero.
pub(super) fn interpolated(
    a: (Millis, HistogramRef<'_>),
    b: (Millis, HistogramRef<'_>),
    t: Millis,
    counter: bool,
    notes: &mut Notes<'_>,
) -> Option<Histogram> {
    if t == a.0 {
        return Some(Histogram::of(a.1));
    }
    if t == b.0 {
        return Some(Histogram::of(b.1));
    }
    let fraction = (t - a.0) as f64 / (b.0 - a.0) as f64;
    if counter && is_reset(b.1, a.1) {
        let mut h = Histogram::of(b.1);
        h.scale(fraction);
        return Some(h);
    }
    let mut sum = Sum::plain(b.1);
    for (sign, operation) in [(-1.0, Operation::Subtraction), (1.0, Operation::Addition)] {
        match sum.add(a.1, sign) {
            Ok(added) => notes.added(added, operation),
            Err(Incompatible) => {
                notes.named(Note::MixedSchemas);
                return None;
            }
        }
        if sign < 0.0 {
            sum.scale(fraction);
        }
    }
    Some(sum.finish())
}
