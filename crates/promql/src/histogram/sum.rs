//! Adding histograms up, compensated or not, whatever their buckets are.

use chunk::histograms::wider;
use std::sync::Arc;

use chunk::HistogramRef;
use chunk::histograms::{Layout, Scalars};
use model::histogram::{CUSTOM_SCHEMA, CounterReset, Span, upper_bound};

use super::{Histogram, spans_of, view};
use crate::numbers::kahan_inc;

/// Exponential and custom buckets cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot apply this operation on histograms with a mix of exponential and custom bucket schemas"
)]
pub(crate) struct Incompatible;

/// What adding had to put up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Added {
    /// One knew of a reset, the other of none.
    pub(crate) collision: bool,
    /// Custom bounds differed.
    pub(crate) reconciled: bool,
}

/// A sum of histograms.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    scalars: Scalars,
    /// Compensations of the scalars.
    lost: [f64; 3],
    layout: Arc<Layout>,
    counts: Vec<f64>,
    /// Compensations of the counts, one each; empty if the sum is a plain one.
    comps: Vec<f64>,
    compensated: bool,
    compacted: bool,
}

/// A bucket on its own: index, count, compensation.
type Bucket = (i32, f64, f64);

impl Sum {
    /// A sum that starts with `h`, added up as it comes.
    pub(crate) fn plain(h: HistogramRef<'_>) -> Self {
        let mut scalars = h.scalars;
        if h.layout.schema == CUSTOM_SCHEMA {
            // There is no zero bucket; at most a zero whose sign is another.
            scalars.zero_count = 0.0;
        }
        Self {
            scalars,
            lost: [0.0; 3],
            layout: Arc::clone(h.layout),
            counts: h.counts.to_vec(),
            comps: Vec::new(),
            compensated: false,
            compacted: false,
        }
    }

    /// A sum that starts with `h`, compensated.
    pub(crate) fn compensated(h: HistogramRef<'_>) -> Self {
        let mut sum = Self::plain(h);
        sum.compensated = true;
        sum.comps = vec![0.0; sum.counts.len()];
        sum
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.layout.schema == CUSTOM_SCHEMA
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + (self.counts.capacity() + self.comps.capacity()) * 8
    }

    /// The largest magnitude in here.
    pub(crate) fn largest(&self) -> f64 {
        let s = &self.scalars;
        [s.zero_count, s.count, s.sum]
            .iter()
            .chain(&self.counts)
            .fold(0.0, |most: f64, v| most.max(v.abs()))
    }

    /// Whether a number in here is infinite.
    pub(crate) fn overflows(&self) -> bool {
        let s = &self.scalars;
        [s.zero_count, s.count, s.sum]
            .iter()
            .chain(&self.counts)
            .any(|v| v.is_infinite())
    }

    /// Multiplies everything, compensations included.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.each(|v| *v *= factor);
    }

    /// Divides everything, compensations included.
    pub(crate) fn divide(&mut self, by: f64) {
        self.each(|v| *v /= by);
    }

    fn each(&mut self, f: impl Fn(&mut f64)) {
        let s = &mut self.scalars;
        [&mut s.zero_count, &mut s.count, &mut s.sum]
            .into_iter()
            .chain(&mut self.lost)
            .chain(&mut self.counts)
            .chain(&mut self.comps)
            .for_each(f);
    }

    /// The histogram, compensations added.
    pub(crate) fn finish(mut self) -> Histogram {
        self.scalars.zero_count += self.lost[0];
        self.scalars.count += self.lost[1];
        self.scalars.sum += self.lost[2];
        for (count, comp) in self.counts.iter_mut().zip(&self.comps) {
            *count += comp;
        }
        Histogram {
            scalars: self.scalars,
            layout: self.layout,
            counts: self.counts,
            compacted: self.compacted,
        }
    }

    /// Adds `sign` times `h`.
    pub(crate) fn add(&mut self, h: HistogramRef<'_>, sign: f64) -> Result<Added, Incompatible> {
        if self.is_custom() != (h.layout.schema == CUSTOM_SCHEMA) {
            return Err(Incompatible);
        }
        let collision = self.meet_hint(h.scalars.counter_reset);
        let added = |reconciled| {
            Ok(Added {
                collision,
                reconciled,
            })
        };
        if starts_in_zero(h.layout) {
            let mut other = Sum::plain(h);
            let reconciled = !self.same_scale(h.layout) && self.align(&mut other);
            other.leave_zero_bucket();
            self.add_sum(&other, sign);
            return added(reconciled);
        }
        if Arc::ptr_eq(&self.layout, h.layout) || *self.layout == **h.layout {
            self.add_scalars(&h.scalars, sign);
            self.add_run(0, h.counts, sign);
            return added(false);
        }
        if self.same_scale(h.layout) {
            self.add_scalars(&h.scalars, sign);
            self.add_buckets(h.layout, h.counts, sign);
            return added(false);
        }
        if self.is_custom() {
            let common = self.common_bounds(h.layout);
            self.rebound(&common);
            self.add_scalars(&h.scalars, sign);
            self.add_finer(h, sign);
            return added(true);
        }
        let mut other = if self.compensated {
            Sum::compensated(h)
        } else {
            Sum::plain(h)
        };
        let reconciled = self.align(&mut other);
        self.add_sum(&other, sign);
        added(reconciled)
    }

    /// Adds custom buckets whose bounds are those of `self` and others between them. One after the other,
    /// as Prometheus does: their sum may round to another one, and what is nothing there is something here.
    fn add_finer(&mut self, h: HistogramRef<'_>, sign: f64) {
        let bounds = Arc::clone(&self.layout.custom_values);
        let finer = view(h).positive.ascending();
        let mapped: Vec<(i32, f64)> = finer
            .map(|(index, count)| (coarser(index, &h.layout.custom_values, &bounds), count))
            .collect();
        let mut indexes: Vec<i32> = mapped.iter().map(|(index, _)| *index).collect();
        indexes.dedup();
        self.grow(&Layout {
            positive: spans_of(indexes),
            ..Layout::clone(&self.layout)
        });
        let places: Vec<i32> = self.buckets().0.iter().map(|b| b.0).collect();
        for (index, count) in mapped {
            if let Ok(at) = places.binary_search(&index) {
                self.add_run(at, &[count], sign);
            }
        }
    }

    /// Custom bounds that are those of both.
    fn common_bounds(&self, other: &Layout) -> Arc<[f64]> {
        let mine = self.layout.custom_values.iter();
        mine.filter(|b| other.custom_values.contains(b))
            .copied()
            .collect()
    }

    /// Adds a sum of later histograms.
    pub(crate) fn merge(&mut self, mut other: Sum) -> Result<Added, Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        let collision = self.meet_hint(other.scalars.counter_reset);
        let reconciled = !self.same_scale(&other.layout) && self.align(&mut other);
        self.add_sum(&other, 1.0);
        Ok(Added {
            collision,
            reconciled,
        })
    }

    /// Adds a sum of the same scale, compensations as values of their own.
    fn add_sum(&mut self, other: &Sum, sign: f64) {
        self.compacted |= other.compacted;
        self.add_scalars(&other.scalars, sign);
        for (lost, more) in self.lost.iter_mut().zip(other.lost) {
            *lost += sign * more;
        }
        self.add_buckets(&other.layout, &other.counts, sign);
        if other.comps.iter().any(|c| *c != 0.0) {
            self.add_buckets(&other.layout, &other.comps, sign);
        }
    }

    /// Combines what is known about resets; whether that is a contradiction.
    fn meet_hint(&mut self, other: CounterReset) -> bool {
        use CounterReset::{Gauge, Unknown};
        let mine = self.scalars.counter_reset;
        if mine == other || mine == Gauge {
            return false;
        }
        self.scalars.counter_reset = if other == Gauge { Gauge } else { Unknown };
        ![mine, other].iter().any(|h| matches!(h, Gauge | Unknown))
    }

    fn same_scale(&self, other: &Layout) -> bool {
        same_scale(&self.layout, other)
    }

    fn add_scalars(&mut self, s: &Scalars, sign: f64) {
        let mine = &mut self.scalars;
        let cells = [&mut mine.zero_count, &mut mine.count, &mut mine.sum];
        let more = [s.zero_count, s.count, s.sum];
        for ((cell, lost), v) in cells.into_iter().zip(&mut self.lost).zip(more) {
            if self.compensated {
                (*cell, *lost) = kahan_inc(sign * v, *cell, *lost);
            } else {
                *cell += sign * v;
            }
        }
    }

    /// Adds counts to those from place `at` on.
    #[inline]
    fn add_run(&mut self, at: usize, counts: &[f64], sign: f64) {
        let Some(mine) = self.counts.get_mut(at..at + counts.len()) else {
            return;
        };
        if self.compensated {
            let comps = self.comps.get_mut(at..).unwrap_or_default();
            for ((cell, comp), v) in mine.iter_mut().zip(comps).zip(counts) {
                (*cell, *comp) = kahan_inc(sign * v, *cell, *comp);
            }
        } else {
            for (cell, v) in mine.iter_mut().zip(counts) {
                *cell += sign * v;
            }
        }
    }

    /// Adds buckets of the same scale, making room for those that are new.
    fn add_buckets(&mut self, layout: &Layout, counts: &[f64], sign: f64) {
        let covered = covers(&self.layout.positive, &layout.positive)
            && covers(&self.layout.negative, &layout.negative);
        if !covered {
            self.grow(layout);
        }
        let mine = Arc::clone(&self.layout);
        let (split, from) = (mine.positive_len(), layout.positive_len());
        let mut run = |to: usize, at: usize, len: usize| {
            if let Some(counts) = counts.get(at..at + len) {
                self.add_run(to, counts, sign);
            }
        };
        walk(&mine.positive, &layout.positive, &mut run);
        walk(&mine.negative, &layout.negative, |to, at, len| {
            run(split + to, from + at, len);
        });
    }

    fn grow(&mut self, layout: &Layout) {
        let old = Arc::clone(&self.layout);
        let new = Layout {
            positive: union(&old.positive, &layout.positive),
            negative: union(&old.negative, &layout.negative),
            ..Layout::clone(&old)
        };
        let (split, from) = (new.positive_len(), old.positive_len());
        let moved = |counts: &[f64]| {
            let mut out = vec![0.0; new.len()];
            let mut copy = |to: usize, at: usize, len: usize| {
                if let (Some(to), Some(at)) = (out.get_mut(to..to + len), counts.get(at..at + len))
                {
                    to.copy_from_slice(at);
                }
            };
            walk(&new.positive, &old.positive, &mut copy);
            walk(&new.negative, &old.negative, |to, at, len| {
                copy(split + to, from + at, len);
            });
            out
        };
        self.counts = moved(&self.counts);
        if self.compensated {
            self.comps = moved(&self.comps);
        }
        self.layout = Arc::new(new);
    }

    /// Brings both to the same scale: the lower resolution, the wider zero bucket, the bounds that
    /// both have. Whether custom bounds differed.
    fn align(&mut self, other: &mut Sum) -> bool {
        if self.is_custom() {
            let common = self.common_bounds(&other.layout);
            self.rebound(&common);
            other.rebound(&common);
            return true;
        }
        while self.layout.zero_threshold != other.layout.zero_threshold {
            if self.layout.zero_threshold > other.layout.zero_threshold {
                other.widen(self.layout.zero_threshold);
            } else if self.layout.zero_threshold < other.layout.zero_threshold {
                self.widen(other.layout.zero_threshold);
                self.drop_empty();
            } else {
                // One of them is no number.
                break;
            }
        }
        let schema = self.layout.schema.min(other.layout.schema);
        self.reduce(schema);
        other.reduce(schema);
        false
    }

    /// The buckets one by one, positive and negative.
    fn buckets(&self) -> (Vec<Bucket>, Vec<Bucket>) {
        let of = |counts: &[f64]| {
            let h = HistogramRef {
                scalars: self.scalars,
                layout: &self.layout,
                counts,
            };
            let view = view(h);
            let list = |side: model::histogram::Side<'_>| side.ascending().collect::<Vec<_>>();
            (list(view.positive), list(view.negative))
        };
        let (positive, negative) = of(&self.counts);
        let comps = if self.compensated {
            of(&self.comps)
        } else {
            Default::default()
        };
        let joined = |counts: Vec<(i32, f64)>, comps: Vec<(i32, f64)>| {
            let comps = comps.into_iter().map(|(_, c)| c);
            counts
                .into_iter()
                .zip(comps.chain(std::iter::repeat(0.0)))
                .map(|((i, count), comp)| (i, count, comp))
                .collect()
        };
        (joined(positive, comps.0), joined(negative, comps.1))
    }

    /// Takes other buckets; indexes ascend.
    fn set_buckets(&mut self, positive: &[Bucket], negative: &[Bucket], layout: Layout) {
        let all = || positive.iter().chain(negative);
        self.counts = all().map(|b| b.1).collect();
        if self.compensated {
            self.comps = all().map(|b| b.2).collect();
        }
        self.layout = Arc::new(Layout {
            positive: spans_of(positive.iter().map(|b| b.0)),
            negative: spans_of(negative.iter().map(|b| b.0)),
            ..layout
        });
    }

    /// Lowers the resolution to `schema`, if it is higher.
    pub(crate) fn reduce(&mut self, schema: i32) {
        if schema >= self.layout.schema || self.is_custom() {
            return;
        }
        let shift = (self.layout.schema - schema).min(31);
        let (positive, negative) = self.buckets();
        // Bucket i lies in bucket ceil(i / 2^shift).
        let map = |index: i32| (index.saturating_sub(1) >> shift) + 1;
        let (positive, negative) = (self.mapped(positive, map), self.mapped(negative, map));
        let layout = Layout {
            schema,
            ..Layout::clone(&self.layout)
        };
        self.set_buckets(&positive, &negative, layout);
    }

    /// Changes custom bounds to `bounds`, some of the present ones; empty buckets go.
    fn rebound(&mut self, bounds: &Arc<[f64]>) {
        let old = Arc::clone(&self.layout.custom_values);
        let (positive, _) = self.buckets();
        let mut positive = self.mapped(positive, |index| coarser(index, &old, bounds));
        positive.retain(|b| b.1 != 0.0 || b.2 != 0.0);
        let layout = Layout {
            custom_values: Arc::clone(bounds),
            ..Layout::clone(&self.layout)
        };
        self.compacted = true;
        self.set_buckets(&positive, &[], layout);
    }

    /// Buckets with other indexes, in the same order; those that fall together are added up.
    fn mapped(&self, buckets: Vec<Bucket>, map: impl Fn(i32) -> i32) -> Vec<Bucket> {
        let mut out: Vec<Bucket> = Vec::with_capacity(buckets.len());
        for (index, count, comp) in buckets {
            let index = map(index);
            match out.last_mut() {
                Some((last, sum, lost)) if *last == index => {
                    if self.compensated {
                        (*sum, *lost) = kahan_inc(count, *sum, *lost);
                        (*sum, *lost) = kahan_inc(comp, *sum, *lost);
                    } else {
                        *sum += count;
                    }
                }
                _ => out.push((index, count, comp)),
            }
        }
        out
    }

    /// Forgets populated buckets within the zero bucket, which should not be there: as in
    /// Prometheus, they are not added.
    fn leave_zero_bucket(&mut self) {
        let (schema, threshold) = (self.layout.schema, self.layout.zero_threshold);
        let (mut positive, mut negative) = self.buckets();
        for side in [&mut positive, &mut negative] {
            side.retain(|(index, _, _)| upper_bound(schema, *index) > threshold);
        }
        self.set_buckets(&positive, &negative, Layout::clone(&self.layout));
    }

    /// Removes empty buckets, as Prometheus does with the histogram that is added to when its zero bucket
    /// has grown. Where counts are negative, a quantile tells.
    pub(crate) fn drop_empty(&mut self) {
        let (mut positive, mut negative) = self.buckets();
        for side in [&mut positive, &mut negative] {
            side.retain(|(_, count, comp)| *count != 0.0 || *comp != 0.0);
        }
        self.set_buckets(&positive, &negative, Layout::clone(&self.layout));
    }

    /// Moves what lies within `threshold`, and the rest of a populated bucket that it cuts, into
    /// the zero bucket.
    fn widen(&mut self, mut threshold: f64) {
        let schema = self.layout.schema;
        let (mut positive, mut negative) = self.buckets();
        threshold = wider(schema, threshold, || {
            positive.iter().chain(&negative).map(|b| (b.0, b.1))
        });
        let mut zero = (self.scalars.zero_count, self.lost[0]);
        for side in [&mut positive, &mut negative] {
            side.retain(|(index, count, comp)| {
                let stays = upper_bound(schema, index.saturating_sub(1)) >= threshold;
                if !stays {
                    zero = kahan_inc(*count, zero.0, zero.1);
                    zero = kahan_inc(*comp, zero.0, zero.1);
                }
                stays
            });
        }
        (self.scalars.zero_count, self.lost[0]) = if self.compensated {
            zero
        } else {
            (zero.0 + zero.1, 0.0)
        };
        let layout = Layout {
            zero_threshold: threshold,
            ..Layout::clone(&self.layout)
        };
        self.set_buckets(&positive, &negative, layout);
    }
}

/// The bucket among `bounds` that bucket `index` of the finer bounds `of` lies in.
fn coarser(index: i32, of: &[f64], bounds: &[f64]) -> i32 {
    let upper = usize::try_from(index).ok().and_then(|i| of.get(i));
    let upper = upper.copied().unwrap_or(f64::INFINITY);
    bounds.partition_point(|bound| *bound < upper) as i32
}

/// Whether indexes mean the same buckets.
fn same_scale(a: &Layout, b: &Layout) -> bool {
    a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && (a.schema != CUSTOM_SCHEMA || a.custom_values == b.custom_values)
}

/// Whether all of these can be added up in any order: nothing has to be brought to another scale,
/// which would depend on what was added before.
pub(crate) fn in_any_order<'a>(layouts: impl IntoIterator<Item = &'a Arc<Layout>>) -> bool {
    let mut layouts = layouts.into_iter();
    let Some(first) = layouts.next() else {
        return true;
    };
    let mut last = first;
    !starts_in_zero(first)
        && layouts.all(|layout| {
            let known = Arc::ptr_eq(last, layout);
            last = layout;
            known || (same_scale(first, layout) && !starts_in_zero(layout))
        })
}

/// Whether there is a bucket within the zero bucket.
fn starts_in_zero(layout: &Layout) -> bool {
    let inside = |spans: &[Span]| {
        spans
            .first()
            .is_some_and(|s| upper_bound(layout.schema, s.offset) <= layout.zero_threshold)
    };
    layout.schema != CUSTOM_SCHEMA && (inside(&layout.positive) || inside(&layout.negative))
}

/// First and last index (exclusive) of each span.
fn intervals(spans: &[Span]) -> impl Iterator<Item = (i64, i64)> + '_ {
    let mut next = 0i64;
    spans.iter().filter_map(move |span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        (span.length > 0).then_some((first, next))
    })
}

/// Calls `run(place in a, place in b, how many)` for stretches of `b`'s buckets that `a` has; false
/// once one is missing.
fn walk(a: &[Span], b: &[Span], mut run: impl FnMut(usize, usize, usize)) -> bool {
    let mut mine = intervals(a);
    let mut present = mine.next();
    let (mut place, mut theirs) = (0usize, 0usize);
    for (mut at, end) in intervals(b) {
        while at < end {
            let Some((from, to)) = present else {
                return false;
            };
            if to <= at {
                place += (to - from) as usize;
                present = mine.next();
                continue;
            }
            if from > at {
                return false;
            }
            let len = (to.min(end) - at) as usize;
            run(place + (at - from) as usize, theirs, len);
            theirs += len;
            at += len as i64;
        }
    }
    true
}

fn covers(a: &[Span], b: &[Span]) -> bool {
    walk(a, b, |_, _, _| {})
}

/// The buckets of either.
fn union(a: &[Span], b: &[Span]) -> Vec<Span> {
    let mut all: Vec<(i64, i64)> = intervals(a).chain(intervals(b)).collect();
    all.sort_unstable();
    let mut out: Vec<Span> = Vec::new();
    let mut end = 0i64;
    for (from, to) in all {
        match out.last_mut() {
            Some(last) if from <= end => {
                last.length += (to - end).max(0) as u32;
                end = end.max(to);
            }
            _ => {
                out.push(Span {
                    offset: (from - end) as i32,
                    length: (to - from) as u32,
                });
                end = to;
            }
        }
    }
    out
}
