//! `load_with_nhcb`: native histograms with custom bounds from the classic ones just loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::histogram::{Buckets, CUSTOM_SCHEMA, FloatHistogram};
use model::{Labels, METRIC_NAME, Millis};

use super::{LoadedSample, LoadedValue, Series};
use crate::parse::parse_number;

/// What the classic series say about one time.
#[derive(Default)]
struct Classic {
    /// Upper bounds with cumulative counts, ascending by bound, each bound once.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

enum Part {
    Bucket(f64),
    Count,
    Sum,
}

/// The native histograms of the classic ones among `series`.
pub(super) fn convert(series: &[Series]) -> Result<Vec<Series>, String> {
    let mut found: BTreeMap<Labels, BTreeMap<Millis, Classic>> = BTreeMap::new();
    for one in series {
        let Some((base, part)) = part_of(&one.labels) else {
            continue;
        };
        let times = found.entry(base).or_default();
        for sample in &one.samples {
            if let LoadedValue::Float(value) = sample.value {
                times.entry(sample.ts).or_default().add(&part, value)?;
            }
        }
    }
    found
        .into_iter()
        .map(|(labels, times)| {
            let samples = times
                .into_iter()
                .map(|(ts, classic)| {
                    Ok(LoadedSample {
                        ts,
                        start: 0,
                        value: LoadedValue::Histogram(Arc::new(classic.native()?)),
                    })
                })
                .collect::<Result<_, String>>()?;
            Ok(Series { labels, samples })
        })
        .collect()
}

/// The labels of the histogram that a series belongs to, and what it says of it.
fn part_of(labels: &Labels) -> Option<(Labels, Part)> {
    let name = labels.name();
    let (base, part) = if let Some(base) = name.strip_suffix("_bucket") {
        let bound = bound(labels.get("le")?)?;
        (base, Part::Bucket(bound))
    } else if let Some(base) = name.strip_suffix("_count") {
        (base, Part::Count)
    } else {
        (name.strip_suffix("_sum")?, Part::Sum)
    };
    let mut builder = labels.builder();
    builder.set(METRIC_NAME, base).remove("le");
    Some((builder.build(), part))
}

/// A bound as Go's `ParseFloat` reads it; NaN is none.
fn bound(text: &str) -> Option<f64> {
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let magnitude = parse_number(unsigned).ok().filter(|v| !v.is_nan())?;
    Some(if negative { -magnitude } else { magnitude })
}

impl Classic {
    fn add(&mut self, part: &Part, value: f64) -> Result<(), String> {
        match *part {
            Part::Sum => self.sum = value,
            Part::Count => self.count = Some(value),
            Part::Bucket(bound) => {
                let at = self.buckets.partition_point(|(b, _)| *b < bound);
                let next = self.buckets.get(at);
                if next.is_some_and(|(b, _)| *b == bound) {
                    return Ok(());
                }
                let before = at.checked_sub(1).and_then(|i| self.buckets.get(i));
                if before.is_some_and(|(_, c)| value < *c) || next.is_some_and(|(_, c)| value > *c)
                {
                    return Err(format!("count is not cumulative at le={bound}"));
                }
                self.buckets.insert(at, (bound, value));
            }
        }
        Ok(())
    }

    fn native(mut self) -> Result<FloatHistogram, String> {
        let highest = self.buckets.last().copied();
        let count = self
            .count
            .or(highest.map(|(_, count)| count))
            .unwrap_or(0.0);
        match highest {
            Some((bound, highest)) if bound == f64::INFINITY => {
                if highest != count {
                    return Err(format!(
                        "count mismatch: count={count} != le=+Inf count={highest}"
                    ));
                }
            }
            _ => self.buckets.push((f64::INFINITY, count)),
        }
        let mut before = 0.0;
        let counts = self.buckets.iter().map(|(_, cumulative)| {
            let count = cumulative - before;
            before = *cumulative;
            count
        });
        let positive = Buckets::from_pairs((0..).zip(counts));
        let mut histogram = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count,
            sum: self.sum,
            positive,
            custom_values: self
                .buckets
                .iter()
                .map(|(bound, _)| *bound)
                .filter(|bound| bound.is_finite() || *bound < 0.0)
                .collect(),
            ..FloatHistogram::default()
        };
        histogram.compact();
        Ok(histogram)
    }
}
