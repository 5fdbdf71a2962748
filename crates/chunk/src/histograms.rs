//! Decoded native histograms, column by column.
//!
//! Neighbouring histograms of a series nearly always have the same buckets, so their layout is held
//! once and their counts lie in one flat list: a row costs no allocation.

mod reset;

pub use reset::{is_reset, wider};

use std::sync::Arc;

use model::histogram::{Buckets, CounterReset, FloatHistogram, Side, Span, View};
use model::{Millis, TimeRange, is_stale};

use crate::histogram::field::{Int, Xor};

/// Which buckets there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// -4 to 8, or [`model::histogram::CUSTOM_SCHEMA`].
    pub schema: i32,
    /// Observations of at most this magnitude are in the zero bucket.
    pub zero_threshold: f64,
    /// Spans of the positive buckets (all of them in the custom schema).
    pub positive: Vec<Span>,
    /// Spans of the negative buckets.
    pub negative: Vec<Span>,
    /// Upper bounds of the custom schema, ascending, without +Inf.
    pub custom_values: Arc<[f64]>,
}

impl Layout {
    /// How many positive buckets there are.
    pub fn positive_len(&self) -> usize {
        length(&self.positive)
    }

    /// How many buckets there are, of both signs.
    pub fn len(&self) -> usize {
        self.positive_len() + length(&self.negative)
    }

    /// Whether there is no bucket but the zero bucket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn length(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.length as usize).sum()
}

/// The part of a histogram that is not a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scalars {
    /// What is known about a reset before it.
    pub counter_reset: CounterReset,
    /// Count of the zero bucket.
    pub zero_count: f64,
    /// Count of all observations.
    pub count: f64,
    /// Sum of all observations; the stale marker stands here.
    pub sum: f64,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    scalars: Scalars,
    layout: u32,
    /// Where its counts start; they end where the layout says.
    counts: usize,
}

/// A histogram in [`Histograms`].
#[derive(Clone, Copy, Debug)]
pub struct HistogramRef<'a> {
    /// All but the buckets.
    pub scalars: Scalars,
    /// Which buckets; the same for neighbours as long as [`Arc::ptr_eq`] holds.
    pub layout: &'a Arc<Layout>,
    /// Absolute counts: those of the positive buckets, then those of the negative ones.
    pub counts: &'a [f64],
}

impl<'a> HistogramRef<'a> {
    /// Whether it is a stale marker.
    pub fn is_stale(&self) -> bool {
        is_stale(self.scalars.sum)
    }

    /// Absolute counts of the positive buckets.
    pub fn positive(&self) -> &[f64] {
        self.counts
            .get(..self.layout.positive_len())
            .unwrap_or_default()
    }

    /// Absolute counts of the negative buckets.
    pub fn negative(&self) -> &[f64] {
        self.counts
            .get(self.layout.positive_len()..)
            .unwrap_or_default()
    }

    /// For whoever asks about its buckets.
    pub fn view(&self) -> View<'a> {
        let layout: &'a Layout = self.layout;
        let (positive, negative) = self
            .counts
            .split_at(layout.positive_len().min(self.counts.len()));
        View {
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: self.scalars.zero_count,
            count: self.scalars.count,
            sum: self.scalars.sum,
            positive: Side {
                spans: &layout.positive,
                counts: positive,
            },
            negative: Side {
                spans: &layout.negative,
                counts: negative,
            },
            custom_values: &layout.custom_values,
        }
    }

    /// The histogram on its own.
    pub fn to_histogram(&self) -> FloatHistogram {
        let buckets = |spans: &[Span], counts: &[f64]| Buckets {
            spans: spans.to_vec(),
            counts: counts.to_vec(),
        };
        FloatHistogram {
            counter_reset: self.scalars.counter_reset,
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.scalars.zero_count,
            count: self.scalars.count,
            sum: self.scalars.sum,
            positive: buckets(&self.layout.positive, self.positive()),
            negative: buckets(&self.layout.negative, self.negative()),
            custom_values: Arc::clone(&self.layout.custom_values),
        }
    }
}

/// The native histograms of a series.
///
/// Reuse one for many series: [`Histograms::clear`] keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct Histograms {
    /// Timestamps, ms since the Unix epoch.
    pub ts: Vec<Millis>,
    /// Start timestamps, ms (0: unknown); empty when none is known, else one per histogram.
    pub starts: Vec<Millis>,
    rows: Vec<Row>,
    layouts: Vec<Arc<Layout>>,
    pub(crate) counts: Vec<f64>,
    /// Memory for decoders.
    pub(crate) ints: Vec<Int>,
    pub(crate) xors: Vec<Xor>,
}

impl Histograms {
    /// How many histograms there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Removes all histograms and keeps the memory.
    pub fn clear(&mut self) {
        self.ts.clear();
        self.starts.clear();
        self.rows.clear();
        self.layouts.clear();
        self.counts.clear();
    }

    /// Bytes of the lists.
    pub fn bytes(&self) -> usize {
        (self.ts.capacity() + self.starts.capacity() + self.counts.capacity()) * 8
            + self.rows.capacity() * size_of::<Row>()
            + self.layouts.capacity() * size_of::<Layout>()
            + self.ints.capacity() * size_of::<Int>()
            + self.xors.capacity() * size_of::<Xor>()
    }

    /// Starts a run of histograms with these buckets; [`Histograms::push`] adds to it.
    pub fn layout(&mut self, layout: Layout) {
        if self.layouts.last().is_none_or(|last| **last != layout) {
            self.layouts.push(Arc::new(layout));
        }
    }

    /// The same with a layout that is shared; it is not compared with others.
    pub fn shared_layout(&mut self, layout: &Arc<Layout>) {
        if self
            .layouts
            .last()
            .is_none_or(|last| !Arc::ptr_eq(last, layout))
        {
            self.layouts.push(Arc::clone(layout));
        }
    }

    /// The place of a layout.
    pub(crate) fn place(&mut self, layout: Layout) -> u32 {
        self.layout(layout);
        (self.layouts.len() - 1) as u32
    }

    /// Adds a histogram whose `buckets` counts have been added already.
    #[inline]
    pub(crate) fn push_counted(
        &mut self,
        ts: Millis,
        scalars: Scalars,
        layout: u32,
        buckets: usize,
    ) {
        self.ts.push(ts);
        if !self.starts.is_empty() {
            self.starts.push(0);
        }
        self.rows.push(Row {
            scalars,
            layout,
            counts: self.counts.len() - buckets,
        });
    }

    /// Adds a histogram without buckets, as a stale marker is.
    pub(crate) fn push_empty(&mut self, ts: Millis, scalars: Scalars) {
        let empty = self.layouts.iter().rposition(|layout| layout.is_empty());
        let layout = match empty {
            Some(place) => place as u32,
            None => self.place(Layout::default()),
        };
        self.push_counted(ts, scalars, layout, 0);
    }

    /// Adds a histogram of the layout given last. `counts` are absolute: those of the positive
    /// buckets, then those of the negative ones; missing ones are 0 and too many are left out.
    pub fn push(&mut self, ts: Millis, scalars: Scalars, counts: impl IntoIterator<Item = f64>) {
        if self.layouts.is_empty() {
            self.layouts.push(Arc::default());
        }
        let buckets = self.layouts.last().map_or(0, |layout| layout.len());
        let end = self.counts.len() + buckets;
        self.counts.extend(counts.into_iter().take(buckets));
        self.counts.resize(end, 0.0);
        self.push_counted(ts, scalars, (self.layouts.len() - 1) as u32, buckets);
    }

    /// Adds a histogram that stands on its own.
    pub fn push_histogram(&mut self, ts: Millis, h: &FloatHistogram) {
        self.layout(Layout {
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            positive: h.positive.spans.clone(),
            negative: h.negative.spans.clone(),
            custom_values: Arc::clone(&h.custom_values),
        });
        let scalars = Scalars {
            counter_reset: h.counter_reset,
            zero_count: h.zero_count,
            count: h.count,
            sum: h.sum,
        };
        let counts = h.positive.counts.iter().chain(&h.negative.counts);
        self.push(ts, scalars, counts.copied());
    }

    /// Says when the histogram added last started, ms.
    pub fn started(&mut self, start: Millis) {
        if start == 0 && self.starts.is_empty() {
            return;
        }
        self.starts.resize(self.ts.len(), 0);
        if let Some(last) = self.starts.last_mut() {
            *last = start;
        }
    }

    /// Histogram `i`.
    pub fn get(&self, i: usize) -> Option<HistogramRef<'_>> {
        let row = self.rows.get(i)?;
        let layout = self.layouts.get(row.layout as usize)?;
        Some(HistogramRef {
            scalars: row.scalars,
            layout,
            counts: self.counts.get(row.counts..row.counts + layout.len())?,
        })
    }

    /// The histograms with their times.
    pub fn iter(&self) -> impl Iterator<Item = (Millis, HistogramRef<'_>)> + '_ {
        (0..self.len()).filter_map(|i| Some((*self.ts.get(i)?, self.get(i)?)))
    }

    /// Keeps the histograms for which `keep` (given place and time) holds. Memory of the others'
    /// counts is kept until [`Histograms::clear`].
    pub fn retain(&mut self, mut keep: impl FnMut(usize, Millis) -> bool) {
        let keep: Vec<bool> = self
            .ts
            .iter()
            .enumerate()
            .map(|(i, t)| keep(i, *t))
            .collect();
        let kept = |i: &mut usize| {
            let yes = keep.get(*i).copied().unwrap_or(false);
            *i += 1;
            yes
        };
        let (mut a, mut b, mut c) = (0, 0, 0);
        self.ts.retain(|_| kept(&mut a));
        self.rows.retain(|_| kept(&mut b));
        self.starts.retain(|_| kept(&mut c));
    }

    /// Keeps the first `len` histograms.
    pub fn truncate(&mut self, len: usize) {
        if let Some(first) = self.rows.get(len) {
            self.counts.truncate(first.counts);
        }
        self.ts.truncate(len);
        self.rows.truncate(len);
        self.starts.truncate(len);
        // Counts that a decoder added for a row that did not come whole.
        let end = self.rows.last().map_or(0, |row| {
            let layout = self.layouts.get(row.layout as usize);
            row.counts + layout.map_or(0, |layout| layout.len())
        });
        self.counts.truncate(end);
    }

    /// Drops those histograms of `start..` that lie outside `range`. Their timestamps must ascend.
    pub(crate) fn clip_from(&mut self, start: usize, range: TimeRange) {
        let Some(tail) = self.ts.get(start..) else {
            return;
        };
        let end = start + tail.partition_point(|&t| t <= range.max);
        let skip = start + tail.partition_point(|&t| t < range.min);
        self.truncate(end);
        let skip = skip.min(end);
        self.ts.drain(start..skip);
        self.rows.drain(start..skip);
        if !self.starts.is_empty() {
            self.starts.drain(start..skip);
        }
    }

    /// Adds the histograms `from..` of another list.
    pub fn extend_from(&mut self, other: &Histograms, from: usize) {
        for i in from..other.len() {
            self.push_from(other, i);
        }
    }

    /// Adds histogram `i` of another list; layouts are shared.
    pub(crate) fn push_from(&mut self, other: &Histograms, i: usize) {
        let (Some(&ts), Some(row), Some(h)) = (other.ts.get(i), other.rows.get(i), other.get(i))
        else {
            return;
        };
        let Some(layout) = other.layouts.get(row.layout as usize) else {
            return;
        };
        let same = |last: &Arc<Layout>| Arc::ptr_eq(last, layout) || **last == **layout;
        if !self.layouts.last().is_some_and(same) {
            self.layouts.push(Arc::clone(layout));
        }
        self.counts.extend_from_slice(h.counts);
        let place = (self.layouts.len() - 1) as u32;
        self.push_counted(ts, h.scalars, place, h.counts.len());
        self.started(other.starts.get(i).copied().unwrap_or(0));
    }

    /// Forgets what the histogram added last knows about a reset, unless it is a gauge: what comes
    /// before it is not what its writer had before it.
    pub(crate) fn forget_reset(&mut self) {
        if let Some(row) = self.rows.last_mut()
            && row.scalars.counter_reset != CounterReset::Gauge
        {
            row.scalars.counter_reset = CounterReset::Unknown;
        }
    }
}

/// Equal timestamps, start timestamps and layouts, and bit-equal numbers.
impl PartialEq for Histograms {
    fn eq(&self, other: &Self) -> bool {
        let start = |h: &Self, i| h.starts.get(i).copied().unwrap_or(0);
        let number = |a: f64, b: f64| a.to_bits() == b.to_bits();
        self.ts == other.ts
            && (0..self.len()).all(|i| {
                let (Some(a), Some(b)) = (self.get(i), other.get(i)) else {
                    return false;
                };
                start(self, i) == start(other, i)
                    && (Arc::ptr_eq(a.layout, b.layout) || a.layout == b.layout)
                    && a.scalars.counter_reset == b.scalars.counter_reset
                    && number(a.scalars.zero_count, b.scalars.zero_count)
                    && number(a.scalars.count, b.scalars.count)
                    && number(a.scalars.sum, b.scalars.sum)
                    && a.counts.len() == b.counts.len()
                    && a.counts.iter().zip(b.counts).all(|(a, b)| number(*a, *b))
            })
    }
}

impl FromIterator<(Millis, FloatHistogram)> for Histograms {
    fn from_iter<T: IntoIterator<Item = (Millis, FloatHistogram)>>(iter: T) -> Self {
        let mut all = Self::default();
        for (ts, h) in iter {
            all.push_histogram(ts, &h);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(first: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema: 1,
            count: counts.iter().sum(),
            sum: 4.5,
            positive: Buckets::from_pairs((first..).zip(counts.iter().copied())),
            negative: Buckets::from_pairs([(3, 7.0)]),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn histograms_come_back_and_share_layouts() {
        let given = [
            (10, histogram(0, &[1.0, 2.0])),
            (20, histogram(0, &[2.0, 2.0])),
            (30, histogram(1, &[3.0])),
        ];
        let mut all: Histograms = given.iter().cloned().collect();
        let back: Vec<_> = all.iter().map(|(t, h)| (t, h.to_histogram())).collect();
        assert_eq!(back, given);
        let layouts: Vec<_> = all.iter().map(|(_, h)| Arc::as_ptr(h.layout)).collect();
        assert!(layouts[0] == layouts[1] && layouts[1] != layouts[2]);

        all.started(5);
        assert_eq!(all.starts, [0, 0, 5]);
        all.retain(|_, t| t != 20);
        let mut copy = Histograms::default();
        copy.extend_from(&all, 1);
        assert_eq!((copy.ts, copy.starts), (vec![30], vec![5]));
        assert_eq!(all.get(1).unwrap().to_histogram(), given[2].1);
        assert_eq!(all.get(2).map(|h| h.scalars), None);
    }
}
