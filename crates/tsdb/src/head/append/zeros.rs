//! Start timestamps as samples: where a counter began to count, it was zero.

use model::histogram::{CounterReset, FloatHistogram, Histogram, IntHistogram};
use model::sink::HistogramSample;
use model::{Batch, Millis, SeriesRef};

use super::super::Head;
use super::super::place;

impl Head {
    /// The samples of zero that a batch's start timestamps stand for: those that lie before their
    /// sample and behind what the series has. Nearly always none.
    pub(super) fn zeros(&self, batch: &Batch) -> Option<Batch> {
        let mut zeros = Batch::default();
        let starts = batch.refs.iter().zip(&batch.ts).zip(&batch.starts);
        for ((series, &ts), &start) in starts {
            if self.is_new_start(series, start, ts) {
                zeros.push(*series, start, 0.0);
            }
        }
        for h in &batch.histograms {
            if self.is_new_start(&h.series, h.start, h.ts) {
                zeros.histograms.push(HistogramSample {
                    series: h.series,
                    ts: h.start,
                    start: 0,
                    value: zero(&h.value),
                });
            }
        }
        (!zeros.is_empty()).then_some(zeros)
    }

    fn is_new_start(&self, series: &SeriesRef, start: Millis, ts: Millis) -> bool {
        if start == 0 || start >= ts {
            return false;
        }
        let Some((number, slot)) = self.own(series).map(place) else {
            return false;
        };
        let page = self.page(number);
        page.is_some_and(|page| {
            let page = page.0.lock();
            let newest = page.get(slot).map(|s| s.newest().ts());
            newest.is_some_and(|newest| newest.is_none_or(|newest| start > newest))
        })
    }
}

/// No observation, in the buckets' own terms, so that no chunk is cut for it.
pub(crate) fn zero(of: &Histogram) -> Histogram {
    match of {
        Histogram::Int(h) => Histogram::Int(IntHistogram {
            counter_reset: CounterReset::Reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..IntHistogram::default()
        }),
        Histogram::Float(h) => Histogram::Float(FloatHistogram {
            counter_reset: CounterReset::Reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..FloatHistogram::default()
        }),
    }
}
