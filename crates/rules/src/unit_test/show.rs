//! How tests show times, alerts and samples: in promtool's words.

use std::fmt::Write as _;

use model::{Labels, Millis};
use promql::value::{RangeSeries, histogram_text};

use crate::rule::Made;

/// A duration as Prometheus shows it.
pub(super) fn shown(ms: Millis) -> String {
    model::time::format_duration(ms)
}

/// A time since the epoch as Go shows a duration.
pub(super) fn shown_time(ms: Millis) -> String {
    crate::template::go_duration(ms)
}

pub(super) fn list(alerts: &[(Labels, Labels)]) -> String {
    let pad = " ".repeat(12);
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut out = format!("[\n{pad}");
    for (i, (labels, annotations)) in alerts.iter().enumerate() {
        if i > 0 {
            let _ = write!(out, ",\n{pad}");
        }
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{i}:\n{pad}  Labels:{labels}\n{pad}  Annotations:{annotations}"
        );
    }
    let _ = write!(out, "\n{pad}]");
    out
}

pub(super) fn samples(all: &[Made]) -> String {
    if all.is_empty() {
        return "nil".to_owned();
    }
    let shown: Vec<String> = all
        .iter()
        .map(|made| {
            let labels = pairs(&made.labels);
            match &made.histogram {
                Some(h) => format!("{labels} {}", histogram_text(h)),
                None => {
                    let value = model::text::format_e(made.value, None).replace('e', "E");
                    format!("{labels} {value}")
                }
            }
        })
        .collect();
    shown.join(", ")
}

/// All pairs, the name among them.
fn pairs(labels: &Labels) -> String {
    let pair = |(name, value): (&str, &str)| {
        let name = match model::labels::is_legacy_label_name(name) {
            true => name.to_owned(),
            false => model::text::quote(name),
        };
        format!("{name}={}", model::text::quote(value))
    };
    let all: Vec<String> = labels.iter().map(pair).collect();
    format!("{{{}}}", all.join(", "))
}

/// Series with all their samples, as Prometheus shows a matrix.
pub(super) fn matrix(all: &[RangeSeries]) -> String {
    let series = |one: &RangeSeries| {
        let floats = one.ts.iter().zip(&one.values);
        let floats = floats.map(|(ts, v)| format!("{} @[{ts}]", model::text::format_f(*v)));
        let histograms = one.histograms.iter();
        let histograms = histograms.map(|(ts, h)| format!("{} @[{ts}]", histogram_text(h)));
        let samples: Vec<String> = floats.chain(histograms).collect();
        format!("{} =>\n{}", pairs(&one.labels), samples.join("\n"))
    };
    let all: Vec<String> = all.iter().map(series).collect();
    all.join("\n")
}
