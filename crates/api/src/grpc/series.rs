//! Values as the series of remote write, which is how the Query service carries them.

use model::histogram::{Buckets, CounterReset, FloatHistogram, Span};
use model::{Labels, Millis};
use promql::Value;
use promql::value::{InstantSample, RangeSeries};
use wire::convert;
use wire::proto::prometheus::{self as prom, TimeSeries};

fn buckets(from: &Buckets) -> (Vec<prom::BucketSpan>, Vec<f64>) {
    let spans = from.spans.iter().map(|s| prom::BucketSpan {
        offset: s.offset,
        length: s.length,
    });
    (spans.collect(), from.counts.clone())
}

fn histogram(ts: Millis, h: &FloatHistogram) -> prom::Histogram {
    use prom::histogram::{Count, ResetHint, ZeroCount};
    let (positive_spans, positive_counts) = buckets(&h.positive);
    let (negative_spans, negative_counts) = buckets(&h.negative);
    prom::Histogram {
        sum: h.sum,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        negative_spans,
        negative_counts,
        positive_spans,
        positive_counts,
        reset_hint: (match h.counter_reset {
            CounterReset::Unknown => ResetHint::Unknown,
            CounterReset::Reset => ResetHint::Yes,
            CounterReset::NotReset => ResetHint::No,
            CounterReset::Gauge => ResetHint::Gauge,
        }) as i32,
        timestamp: ts,
        custom_values: h.custom_values.to_vec(),
        count: Some(Count::CountFloat(h.count)),
        zero_count: Some(ZeroCount::ZeroCountFloat(h.zero_count)),
        ..Default::default()
    }
}

fn sample(timestamp: Millis, value: f64) -> prom::Sample {
    prom::Sample { value, timestamp }
}

fn of_instant(one: &InstantSample) -> TimeSeries {
    let (mut samples, mut histograms) = (Vec::new(), Vec::new());
    match &one.histogram {
        Some(h) => histograms.push(histogram(one.ts, h)),
        None => samples.push(sample(one.ts, one.value)),
    }
    TimeSeries {
        labels: convert::to_remote_labels(&one.labels),
        samples,
        histograms,
        ..Default::default()
    }
}

fn of_range(series: &RangeSeries) -> TimeSeries {
    let samples = series.ts.iter().zip(&series.values);
    TimeSeries {
        labels: convert::to_remote_labels(&series.labels),
        samples: samples.map(|(ts, value)| sample(*ts, *value)).collect(),
        histograms: series
            .histograms
            .iter()
            .map(|(ts, h)| histogram(*ts, h))
            .collect(),
        ..Default::default()
    }
}

/// The series of a value, one after the other.
pub(super) fn series(value: Value) -> Box<dyn Iterator<Item = TimeSeries> + Send> {
    match value {
        Value::Scalar(ts, value) => Box::new(std::iter::once(TimeSeries {
            labels: convert::to_remote_labels(&Labels::default()),
            samples: vec![sample(ts, value)],
            ..Default::default()
        })),
        // A string is no series; there is no message for it.
        Value::String(..) => Box::new(std::iter::empty()),
        Value::Vector(all) => Box::new(all.into_iter().map(|s| of_instant(&s))),
        Value::Matrix(all) => Box::new(all.into_iter().map(|s| of_range(&s))),
    }
}

/// The sample of an instant query's series; none if there is none in it.
pub(crate) fn to_instant(series: TimeSeries, ts: Millis) -> Result<Option<InstantSample>, String> {
    let labels = convert::remote_labels(&series.labels);
    let (sample, histogram) = (series.samples.last(), series.histograms.into_iter().last());
    Ok(match (sample, histogram) {
        (_, Some(h)) => Some(InstantSample {
            labels,
            ts,
            value: 0.0,
            histogram: Some(to_histogram(h)?.into()),
        }),
        (Some(sample), None) => Some(InstantSample {
            labels,
            ts,
            value: sample.value,
            histogram: None,
        }),
        (None, None) => None,
    })
}

/// A range query's series.
pub(crate) fn to_range(series: TimeSeries) -> Result<RangeSeries, String> {
    let histograms = series.histograms.into_iter();
    Ok(RangeSeries {
        labels: convert::remote_labels(&series.labels),
        ts: series.samples.iter().map(|s| s.timestamp).collect(),
        values: series.samples.iter().map(|s| s.value).collect(),
        histograms: histograms
            .map(|h| Ok((h.timestamp, to_histogram(h)?.into())))
            .collect::<Result<_, String>>()?,
    })
}

fn to_buckets(spans: Vec<prom::BucketSpan>, counts: Vec<f64>) -> Buckets {
    Buckets {
        spans: spans
            .into_iter()
            .map(|s| Span {
                offset: s.offset,
                length: s.length,
            })
            .collect(),
        counts,
    }
}

/// Counts are floats in what is computed; where they are not, they are made so.
fn to_histogram(h: prom::Histogram) -> Result<FloatHistogram, String> {
    use prom::histogram::{Count, ResetHint, ZeroCount};
    let counts = |counts: Vec<f64>, deltas: &[i64]| {
        if !counts.is_empty() {
            return counts;
        }
        let mut count = 0i64;
        let add = |delta: &i64| {
            count = count.wrapping_add(*delta);
            count as f64
        };
        deltas.iter().map(add).collect()
    };
    let found = FloatHistogram {
        counter_reset: match h.reset_hint() {
            ResetHint::Unknown => CounterReset::Unknown,
            ResetHint::Yes => CounterReset::Reset,
            ResetHint::No => CounterReset::NotReset,
            ResetHint::Gauge => CounterReset::Gauge,
        },
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: match h.zero_count {
            Some(ZeroCount::ZeroCountInt(n)) => n as f64,
            Some(ZeroCount::ZeroCountFloat(n)) => n,
            None => 0.0,
        },
        count: match h.count {
            Some(Count::CountInt(n)) => n as f64,
            Some(Count::CountFloat(n)) => n,
            None => 0.0,
        },
        sum: h.sum,
        positive: to_buckets(
            h.positive_spans,
            counts(h.positive_counts, &h.positive_deltas),
        ),
        negative: to_buckets(
            h.negative_spans,
            counts(h.negative_counts, &h.negative_deltas),
        ),
        custom_values: h.custom_values.into(),
    };
    found.validate().map_err(|e| e.to_string())?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read_back() {
        let span = |offset, length| Span { offset, length };
        let native = FloatHistogram {
            counter_reset: CounterReset::Gauge,
            schema: 3,
            zero_threshold: 1e-9,
            zero_count: 1.5,
            count: 10.5,
            sum: -3.25,
            positive: Buckets {
                spans: vec![span(-3, 2), span(4, 1)],
                counts: vec![1.0, 2.0, 3.0],
            },
            negative: Buckets {
                spans: vec![span(0, 1)],
                counts: vec![3.0],
            },
            custom_values: [].into(),
        };
        let labels = Labels::from_pairs([("a", "b")]);
        let sample = InstantSample {
            labels: labels.clone(),
            ts: 7,
            value: 0.0,
            histogram: Some(native.clone().into()),
        };
        let sent = series(Value::Vector(vec![sample.clone()])).next().unwrap();
        assert_eq!(to_instant(sent, 7).unwrap(), Some(sample));
        let range = RangeSeries {
            labels,
            ts: vec![1, 2],
            values: vec![3.0, 4.0],
            histograms: vec![(5, native.into())],
        };
        let sent = series(Value::Matrix(vec![range.clone()])).next().unwrap();
        assert_eq!(to_range(sent).unwrap(), range);
        // Buckets that the spans do not have.
        let wrong = prom::Histogram {
            positive_counts: vec![1.0],
            ..Default::default()
        };
        assert!(to_histogram(wrong).is_err());
    }
}
