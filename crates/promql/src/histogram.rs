//! Native histograms as operators exchange them.
//!
//! A [`Histogram`] never changes once it is shared. Its layout is shared too: the steps of one
//! series, and often the series of one metric, have the same buckets, and then arithmetic is a loop
//! over two lists of counts. What depends on buckets that differ is slower and stands in [`sum`].

pub(crate) mod quantile;
pub(crate) mod sum;
pub(crate) mod text;
pub(crate) mod trim;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use chunk::HistogramRef;
use chunk::histograms::{Layout, Scalars};
use model::histogram::{Buckets, CUSTOM_SCHEMA, CounterReset, FloatHistogram, Side, View};

/// A native histogram.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    pub(crate) scalars: Scalars,
    pub(crate) layout: Arc<Layout>,
    /// Absolute counts: those of the positive buckets, then those of the negative ones.
    pub(crate) counts: Vec<f64>,
    /// Whether empty buckets count as not there: a result that Prometheus would compact. They stay
    /// in the lists, so that the layout stays the same from step to step.
    pub(crate) compacted: bool,
}

/// A histogram at a step of a row.
pub(crate) type Point = (u32, Arc<Histogram>);

impl Histogram {
    pub(crate) fn of(h: HistogramRef<'_>) -> Self {
        Self {
            scalars: h.scalars,
            layout: Arc::clone(h.layout),
            counts: h.counts.to_vec(),
            compacted: false,
        }
    }

    pub(crate) fn of_float(h: &FloatHistogram) -> Self {
        let layout = Layout {
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            positive: h.positive.spans.clone(),
            negative: h.negative.spans.clone(),
            custom_values: Arc::clone(&h.custom_values),
        };
        let (positive, negative) = (&h.positive.counts, &h.negative.counts);
        let split = layout.positive_len();
        let mut counts = vec![0.0; layout.len()];
        // Spans and lists of counts that do not fit each other only damage can make.
        counts.iter_mut().zip(positive).for_each(|(to, v)| *to = *v);
        let rest = counts.get_mut(split..).unwrap_or_default();
        rest.iter_mut().zip(negative).for_each(|(to, v)| *to = *v);
        Self {
            scalars: Scalars {
                counter_reset: h.counter_reset,
                zero_count: h.zero_count,
                count: h.count,
                sum: h.sum,
            },
            layout: Arc::new(layout),
            counts,
            compacted: false,
        }
    }

    pub(crate) fn as_ref(&self) -> HistogramRef<'_> {
        HistogramRef {
            scalars: self.scalars,
            layout: &self.layout,
            counts: &self.counts,
        }
    }

    /// The histogram as results show it.
    pub(crate) fn to_float(&self) -> FloatHistogram {
        let mut h = self.as_ref().to_histogram();
        if self.compacted {
            h.compact();
        }
        h
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.layout.schema == CUSTOM_SCHEMA
    }

    pub(crate) fn is_gauge(&self) -> bool {
        self.scalars.counter_reset == CounterReset::Gauge
    }

    pub(crate) fn view(&self) -> View<'_> {
        view(self.as_ref())
    }

    /// Whether there is a bucket of each sign, positive and negative.
    pub(crate) fn signs(&self) -> (bool, bool) {
        let any = |counts: &[f64]| {
            if self.compacted {
                counts.iter().any(|c| *c != 0.0)
            } else {
                !counts.is_empty()
            }
        };
        let h = self.as_ref();
        (any(h.positive()), any(h.negative()))
    }

    /// How many samples it counts as.
    pub(crate) fn points(&self) -> usize {
        points(self.as_ref())
    }

    /// Bytes of its own.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.counts.capacity() * 8
    }

    /// The same without the buckets that count as not there, for what asks which there are: whether
    /// a bucket is there or empty is not the same once counts fall below zero.
    pub(crate) fn settled(&self) -> Cow<'_, Self> {
        match self.compacted && self.counts.contains(&0.0) {
            true => Cow::Owned(Self::of_float(&self.to_float())),
            false => Cow::Borrowed(self),
        }
    }

    /// Multiplies everything. Falling counts make it a gauge.
    pub(crate) fn scale(&mut self, factor: f64) {
        if !factor.is_finite()
            && let Cow::Owned(settled) = self.settled()
        {
            // An empty bucket becomes NaN, one that is not there stays so.
            *self = settled;
        }
        self.scalars.zero_count = self.zero_of_copy() * factor;
        self.scalars.count *= factor;
        self.scalars.sum *= factor;
        self.counts.iter_mut().for_each(|c| *c *= factor);
        if factor < 0.0 {
            self.scalars.counter_reset = CounterReset::Gauge;
        }
    }

    /// The zero bucket of a copy: one of custom buckets has none. That shows only where the sign of a zero
    /// does: negated twice, such a histogram equals itself no more.
    fn zero_of_copy(&self) -> f64 {
        if self.is_custom() {
            0.0
        } else {
            self.scalars.zero_count
        }
    }

    /// Divides everything; by zero, buckets vanish.
    pub(crate) fn divide(&mut self, by: f64) {
        if by.is_nan()
            && let Cow::Owned(settled) = self.settled()
        {
            *self = settled;
        }
        self.scalars.zero_count = self.zero_of_copy() / by;
        self.scalars.count /= by;
        self.scalars.sum /= by;
        if by == 0.0 {
            self.counts.clear();
            self.layout = Arc::new(Layout {
                positive: Vec::new(),
                negative: Vec::new(),
                ..Layout::clone(&self.layout)
            });
            return;
        }
        self.counts.iter_mut().for_each(|c| *c /= by);
        if by < 0.0 {
            self.scalars.counter_reset = CounterReset::Gauge;
        }
    }

    /// Whether both have the same buckets with the same numbers, bit for bit.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        let (a, b) = (&self.scalars, &other.scalars);
        let bits = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let same = self.layout.schema == other.layout.schema
            && self.layout.zero_threshold == other.layout.zero_threshold
            && bits(a.count, b.count)
            && bits(a.sum, b.sum)
            && bits(a.zero_count, b.zero_count)
            && (!self.is_custom() || self.layout.custom_values == other.layout.custom_values);
        if !same {
            return false;
        }
        let (x, y) = (self.view(), other.view());
        let equal = |a: Side<'_>, b: Side<'_>| {
            let shown = |side: Side<'_>, compacted: bool| {
                side.ascending()
                    .filter(move |(_, c)| !compacted || *c != 0.0)
                    .map(|(i, c)| (i, c.to_bits()))
                    .collect::<Vec<_>>()
            };
            shown(a, self.compacted) == shown(b, other.compacted)
        };
        equal(x.positive, y.positive) && equal(x.negative, y.negative)
    }
}

/// How many samples a histogram counts as, against `query.max-samples`: its size by that of a
/// float sample.
pub(crate) fn points(h: HistogramRef<'_>) -> usize {
    const STRUCT: usize = 168;
    let l = h.layout;
    let parts = l.positive.len() + l.negative.len() + h.counts.len() + l.custom_values.len();
    (STRUCT + parts * 8 + 8) / 16
}

/// The parts of a histogram in a column.
pub(crate) fn view(h: HistogramRef<'_>) -> View<'_> {
    h.view()
}

/// A literal of the test language plus (or minus) another, once.
pub(crate) fn combined(
    a: &FloatHistogram,
    b: &FloatHistogram,
    sign: f64,
) -> Result<FloatHistogram, sum::Incompatible> {
    let mut sum = sum::Sum::plain(Histogram::of_float(a).as_ref());
    sum.add(Histogram::of_float(b).as_ref(), sign)?;
    Ok(sum.finish().to_float())
}

/// Buckets from pairs of index and count.
pub(crate) fn spans_of(pairs: impl IntoIterator<Item = i32>) -> Vec<model::histogram::Span> {
    Buckets::from_pairs(pairs.into_iter().map(|i| (i, 0.0))).spans
}
