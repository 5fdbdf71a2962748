//! Whether a result is the expected one.

use std::collections::BTreeMap;

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
        let (labels, value) = (&sample.labels, sample.value);
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
            Some(SequenceValue::Float(wanted)) if almost_equal(*wanted, value) => {}
            Some(SequenceValue::Float(wanted)) => {
                return Err(format!("expected {wanted} for {labels} but got {value}"));
            }
            Some(SequenceValue::Histogram { .. }) => {
                return Err(format!("expected a histogram for {labels} but got {value}"));
            }
            Some(SequenceValue::Omitted) | None => {
                return Err(format!("expected nothing for {labels} but got {value}"));
            }
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
        let mut points: Vec<(Millis, f64)> = Vec::with_capacity(wanted.len());
        for (i, value) in wanted.iter().enumerate() {
            let ts = eval.start + eval.step * i as Millis;
            if ts > eval.end {
                return Err(format!(
                    "expected {} points for {labels}, but there are not so many steps",
                    wanted.len()
                ));
            }
            match value {
                SequenceValue::Omitted => {}
                SequenceValue::Float(value) => points.push((ts, *value)),
                SequenceValue::Histogram { .. } => {
                    return Err(format!(
                        "expected histograms for {labels} but got {}",
                        shown(series)
                    ));
                }
            }
        }
        if points.len() != series.ts.len() || points.len() != series.values.len() {
            return Err(format!(
                "expected {} points for {labels} but got {}",
                points.len(),
                shown(series)
            ));
        }
        for ((ts, wanted), (got_ts, got)) in
            points.into_iter().zip(series.ts.iter().zip(&series.values))
        {
            if ts != *got_ts || !almost_equal(wanted, *got) {
                return Err(format!(
                    "expected {wanted} at {ts} for {labels} but got {}",
                    shown(series)
                ));
            }
        }
        seen.push(labels);
    }
    missing(&expected, &seen)
}

/// A series' points for a message.
fn shown(series: &RangeSeries) -> String {
    let points = series.ts.iter().zip(&series.values);
    let points: Vec<String> = points.map(|(ts, value)| format!("{value} @{ts}")).collect();
    format!("[{}]", points.join(" "))
}
