//! Whether a result is the expected one.

use std::collections::BTreeMap;

use model::histogram::{Buckets, FloatHistogram};
use model::{Labels, Millis, is_stale};

use super::script::{Eval, Wanted};
use crate::parse::SequenceValue;
use crate::value::{InstantSample, QueryResult, RangeSeries, Value};

/// Relative difference that values may have.
const TOLERANCE: f64 = 1e-6;

/// Whether two values are the same to [`TOLERANCE`]: stale markers and other NaNs each to their
/// like.
pub(super) fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// Compares the annotations.
pub(super) fn annotations(eval: &Eval, result: &QueryResult) -> Result<(), String> {
    for (kind, some, none, wanted, got) in [
        (
            "warning",
            eval.some_warn,
            eval.no_warn,
            &eval.warn,
            &result.warnings,
        ),
        (
            "info",
            eval.some_info,
            eval.no_info,
            &eval.info,
            &result.infos,
        ),
    ] {
        if (some || !wanted.is_empty()) && got.is_empty() {
            return Err(format!("expected {kind} annotations but got none"));
        }
        if none && !got.is_empty() {
            return Err(format!("unexpected {kind} annotations: {got:?}"));
        }
        if wanted.is_empty() {
            continue;
        }
        if let Some(missing) = wanted.iter().find(|w| !got.iter().any(|g| w.matches(g))) {
            return Err(format!(
                "expected {kind} annotation {missing}, but got {got:?}"
            ));
        }
        let known = |text: &str| wanted.iter().any(|w: &Wanted| w.matches(text));
        if let Some(other) = got.iter().find(|g| !known(g)) {
            return Err(format!("unexpected {kind} annotation {other:?}"));
        }
    }
    Ok(())
}

/// Expected series by their labels, each with its place in the script.
type Expected<'a> = BTreeMap<&'a Labels, (usize, &'a [SequenceValue])>;

fn expected(eval: &Eval) -> Expected<'_> {
    let series = eval.series.iter().enumerate();
    series
        .map(|(place, (labels, values))| (labels, (place, values.as_slice())))
        .collect()
}

/// Compares the value.
pub(super) fn value(eval: &Eval, got: &Value) -> Result<(), String> {
    match got {
        Value::Scalar(_, got) => match eval.scalar {
            None => Err(format!(
                "expected vector or matrix result, but got scalar {got}"
            )),
            Some(wanted) if almost_equal(wanted, *got) => Ok(()),
            Some(wanted) => Err(format!("expected scalar {wanted} but got {got}")),
        },
        Value::String(_, got) => {
            let wanted = eval.string.as_deref().unwrap_or("");
            if got == wanted {
                Ok(())
            } else {
                Err(format!("expected string {wanted:?} but got {got:?}"))
            }
        }
        Value::Vector(_) | Value::Matrix(_) if eval.scalar.is_some() => {
            Err("expected scalar result, but got series".to_owned())
        }
        Value::Vector(got) => vector(eval, got),
        Value::Matrix(got) => matrix(eval, got),
    }
}

fn vector(eval: &Eval, got: &[InstantSample]) -> Result<(), String> {
    let expected = expected(eval);
    let mut seen = Vec::with_capacity(got.len());
    for (place, sample) in got.iter().enumerate() {
        let (labels, value) = (&sample.labels, Point::of_sample(sample));
        let Some((wanted_place, wanted)) = expected.get(labels) else {
            return Err(format!("unexpected series {labels} with {value}"));
        };
        if eval.ordered && *wanted_place != place {
            return Err(format!(
                "expected {labels} at position {} but it was at {}",
                wanted_place + 1,
                place + 1
            ));
        }
        match wanted.first() {
            Some(SequenceValue::Omitted) | None => {
                return Err(format!("expected nothing for {labels} but got {value}"));
            }
            Some(wanted) => value
                .is(wanted)
                .map_err(|wanted| format!("expected {wanted} for {labels} but got {value}"))?,
        }
        if seen.contains(&labels) {
            return Err(format!("{labels} came twice"));
        }
        seen.push(labels);
    }
    missing(&expected, &seen)
}

fn missing(expected: &Expected<'_>, seen: &[&Labels]) -> Result<(), String> {
    match expected.keys().find(|labels| !seen.contains(labels)) {
        Some(labels) => Err(format!("expected series {labels} not found")),
        None => Ok(()),
    }
}

/// Range results come sorted by labels.
pub(super) fn sorted(got: &[RangeSeries]) -> Result<(), String> {
    for pair in got.windows(2) {
        if let [a, b] = pair
            && a.labels > b.labels
        {
            return Err(format!(
                "matrix is not sorted: {} stands behind {}",
                b.labels, a.labels
            ));
        }
    }
    Ok(())
}

fn matrix(eval: &Eval, got: &[RangeSeries]) -> Result<(), String> {
    if eval.ordered {
        return Err("expected ordered result, but query returned a matrix".to_owned());
    }
    sorted(got)?;
    let expected = expected(eval);
    let mut seen = Vec::with_capacity(got.len());
    for series in got {
        let labels = &series.labels;
        let Some((_, wanted)) = expected.get(labels) else {
            return Err(format!("unexpected series {labels} with {}", shown(series)));
        };
        let mut points = Vec::with_capacity(wanted.len());
        for (i, value) in wanted.iter().enumerate() {
            let ts = eval.start + eval.step * i as Millis;
            if ts > eval.end {
                return Err(format!(
                    "expected {} points for {labels}, but there are not so many steps",
                    wanted.len()
                ));
            }
            if !matches!(value, SequenceValue::Omitted) {
                points.push((ts, value));
            }
        }
        let got = all_points(series);
        if points.len() != got.len() {
            return Err(format!(
                "expected {} points for {labels} but got {}",
                points.len(),
                shown(series)
            ));
        }
        for ((ts, wanted), (got_ts, got)) in points.into_iter().zip(got) {
            let differ = |wanted: String| {
                format!(
                    "expected {wanted} at {ts} for {labels} but got {}",
                    shown(series)
                )
            };
            got.is(wanted).map_err(differ)?;
            if ts != got_ts {
                return Err(differ(format!("{got}")));
            }
        }
        seen.push(labels);
    }
    missing(&expected, &seen)
}

/// A float or a histogram of a result.
enum Point<'a> {
    Float(f64),
    Histogram(&'a FloatHistogram),
}

impl<'a> Point<'a> {
    fn of_sample(sample: &'a InstantSample) -> Self {
        match &sample.histogram {
            Some(h) => Point::Histogram(h),
            None => Point::Float(sample.value),
        }
    }

    /// Whether it is `wanted`; otherwise the text of that.
    fn is(&self, wanted: &SequenceValue) -> Result<(), String> {
        match (wanted, self) {
            (SequenceValue::Omitted, _) => Err("nothing".to_owned()),
            (SequenceValue::Float(wanted), Point::Float(got)) if almost_equal(*wanted, *got) => {
                Ok(())
            }
            (SequenceValue::Float(wanted), _) => Err(wanted.to_string()),
            (
                SequenceValue::Histogram {
                    histogram,
                    hint_set,
                },
                got,
            ) => match got {
                Point::Histogram(got) if same(histogram, got, *hint_set) => Ok(()),
                _ => Err(text(histogram)),
            },
        }
    }
}

impl std::fmt::Display for Point<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Point::Float(v) => write!(f, "{v}"),
            Point::Histogram(h) => f.write_str(&text(h)),
        }
    }
}

/// All that a histogram is, for a message.
fn text(h: &FloatHistogram) -> String {
    let buckets = |b: &Buckets| b.iter().collect::<Vec<_>>();
    format!(
        "{{{{{:?} schema:{} count:{} sum:{} z_bucket:{} z_bucket_w:{} buckets:{:?} n_buckets:{:?} custom_values:{:?}}}}}",
        h.counter_reset,
        h.schema,
        h.count,
        h.sum,
        h.zero_count,
        h.zero_threshold,
        buckets(&h.positive),
        buckets(&h.negative),
        h.custom_values
    )
}

/// Whether two histograms are the same to [`TOLERANCE`], empty buckets aside.
fn same(wanted: &FloatHistogram, got: &FloatHistogram, with_hint: bool) -> bool {
    let buckets = |a: &Buckets, b: &Buckets| {
        let populated = |b: &Buckets| b.iter().filter(|(_, c)| *c != 0.0).collect::<Vec<_>>();
        let (a, b) = (populated(a), populated(b));
        a.len() == b.len()
            && a.iter()
                .zip(&b)
                .all(|(a, b)| a.0 == b.0 && almost_equal(a.1, b.1))
    };
    wanted.schema == got.schema
        && almost_equal(wanted.count, got.count)
        && almost_equal(wanted.sum, got.sum)
        && wanted.zero_threshold == got.zero_threshold
        && almost_equal(wanted.zero_count, got.zero_count)
        && (!wanted.is_custom() || wanted.custom_values == got.custom_values)
        && buckets(&wanted.positive, &got.positive)
        && buckets(&wanted.negative, &got.negative)
        && (!with_hint || wanted.counter_reset == got.counter_reset)
}

/// The points of a series in the order of time.
fn all_points(series: &RangeSeries) -> Vec<(Millis, Point<'_>)> {
    let floats = series.ts.iter().zip(&series.values);
    let mut all: Vec<_> = floats.map(|(ts, v)| (*ts, Point::Float(*v))).collect();
    let histograms = series.histograms.iter();
    all.extend(histograms.map(|(ts, h)| (*ts, Point::Histogram(h))));
    all.sort_by_key(|(ts, _)| *ts);
    all
}

/// A series' points for a message.
fn shown(series: &RangeSeries) -> String {
    let points = all_points(series).into_iter();
    let points: Vec<String> = points.map(|(ts, p)| format!("{p} @{ts}")).collect();
    format!("[{}]", points.join(" "))
}
