//! Decoded native histograms, column by column.
//!
//! Neighbouring histograms of a series nearly always have the same buckets, so their layout is held
//! once and their counts lie in one flat list: a row costs no allocation.

use std::sync::Arc;

use model::histogram::{Buckets, CounterReset, FloatHistogram, Span};
use model::{Millis, is_stale};

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
    /// Which buckets; equal for neighbours as long as [`std::ptr::eq`] holds.
    pub layout: &'a Layout,
    /// Absolute counts: those of the positive buckets, then those of the negative ones.
    pub counts: &'a [f64],
}

impl HistogramRef<'_> {
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
    counts: Vec<f64>,
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
    }

    /// Starts a run of histograms with these buckets; [`Histograms::push`] adds to it.
    pub fn layout(&mut self, layout: Layout) {
        if self.layouts.last().is_none_or(|last| **last != layout) {
            self.layouts.push(Arc::new(layout));
        }
    }

    /// Adds a histogram of the layout given last. `counts` are absolute: those of the positive
    /// buckets, then those of the negative ones; missing ones are 0 and too many are left out.
    pub fn push(&mut self, ts: Millis, scalars: Scalars, counts: impl IntoIterator<Item = f64>) {
        if self.layouts.is_empty() {
            self.layouts.push(Arc::default());
        }
        let start = self.counts.len();
        let end = start + self.layouts.last().map_or(0, |layout| layout.len());
        self.counts.extend(counts.into_iter().take(end - start));
        self.counts.resize(end, 0.0);
        self.ts.push(ts);
        if !self.starts.is_empty() {
            self.starts.push(0);
        }
        self.rows.push(Row {
            scalars,
            layout: (self.layouts.len() - 1) as u32,
            counts: start,
        });
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

    /// Adds the histograms `from..` of another list.
    pub fn extend_from(&mut self, other: &Histograms, from: usize) {
        let mut previous = None;
        for i in from..other.len() {
            let (Some(&ts), Some(row), Some(h)) =
                (other.ts.get(i), other.rows.get(i), other.get(i))
            else {
                return;
            };
            if previous != Some(row.layout) {
                previous = Some(row.layout);
                self.layout(h.layout.clone());
            }
            self.push(ts, h.scalars, h.counts.iter().copied());
            self.started(other.starts.get(i).copied().unwrap_or(0));
        }
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
        let layouts: Vec<_> = all
            .iter()
            .map(|(_, h)| std::ptr::from_ref(h.layout))
            .collect();
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
