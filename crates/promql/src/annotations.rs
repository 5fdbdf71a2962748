//! Warnings and infos beside a result, with Prometheus' texts and positions.

use std::collections::BTreeMap;

use model::{Millis, Str};

use crate::ast::Span;
use model::text::format_g;

/// Something worth saying about a result. The texts are those of Prometheus
/// (`util/annotations/annotations.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Warning,
    Info,
}

/// What has been said, each text once.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    said: BTreeMap<(Level, String), Said>,
    /// Warnings of sources: shown as they are.
    source: Vec<Str>,
}

#[derive(Clone, Debug)]
struct Said {
    span: Span,
    forced: Option<Forced>,
}

/// How far buckets had to be corrected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forced {
    pub(crate) ts: (Millis, Millis),
    pub(crate) buckets: (f64, f64),
    pub(crate) max_diff: f64,
    pub(crate) count: u64,
}

impl Forced {
    pub(crate) fn join(self, o: Self) -> Self {
        Self {
            ts: (self.ts.0.min(o.ts.0), self.ts.1.max(o.ts.1)),
            buckets: (
                self.buckets.0.min(o.buckets.0),
                self.buckets.1.max(o.buckets.1),
            ),
            max_diff: self.max_diff.max(o.max_diff),
            count: self.count + o.count,
        }
    }
}

impl Annotations {
    fn add(&mut self, level: Level, text: String, span: Span, forced: Option<Forced>) {
        self.said
            .entry((level, text))
            .and_modify(|said| {
                // One text is shown once, at its last place.
                if span.start > said.span.start {
                    said.span = span;
                }
                said.forced = match (said.forced, forced) {
                    (Some(a), Some(b)) => Some(a.join(b)),
                    (a, b) => a.or(b),
                };
            })
            .or_insert(Said { span, forced });
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>, span: Span) {
        self.add(Level::Warning, text.into(), span, None);
    }

    pub(crate) fn info(&mut self, text: impl Into<String>, span: Span) {
        self.add(Level::Info, text.into(), span, None);
    }

    pub(crate) fn invalid_quantile(&mut self, q: f64, span: Span) {
        let q = format_g(q);
        self.warn(
            format!("quantile value should be between 0 and 1, got {q}"),
            span,
        );
    }

    pub(crate) fn invalid_ratio(&mut self, r: f64, to: f64, span: Span) {
        let (r, to) = (format_g(r), format_g(to));
        self.warn(
            format!("ratio value should be between -1 and 1, got {r}, capping to {to}"),
            span,
        );
    }

    pub(crate) fn possible_non_counter(&mut self, metric: &str, span: Span) {
        self.info(
            format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quoted(metric)
            ),
            span,
        );
    }

    pub(crate) fn bad_bucket_label(&mut self, metric: &str, le: &str, span: Span) {
        let text = format!(
            "bucket label \"le\" is missing or has a malformed value of {}",
            quoted(le)
        );
        self.warn(with_metric(text, metric), span);
    }

    pub(crate) fn forced_monotonicity(&mut self, metric: &str, forced: Forced, span: Span) {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        self.add(
            Level::Info,
            with_metric(text.to_owned(), metric),
            span,
            Some(forced),
        );
    }

    pub(crate) fn sort_in_range_query(&mut self, span: Span) {
        self.warn(
            "sort is ineffective for range queries since results are always ordered by labels",
            span,
        );
    }

    /// A warning of a source.
    pub(crate) fn of_source(&mut self, text: &Str) {
        if !self.source.contains(text) {
            self.source.push(Str::clone(text));
        }
    }

    pub(crate) fn merge(&mut self, other: Annotations) {
        for ((level, text), said) in other.said {
            self.add(level, text, said.span, said.forced);
        }
        for text in &other.source {
            self.of_source(text);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.said.is_empty() && self.source.is_empty()
    }

    /// Warnings and infos as the API shows them, with places in `query`.
    pub(crate) fn texts(&self, query: &str) -> (Vec<Str>, Vec<Str>) {
        let (mut warnings, mut infos) = (self.source.clone(), Vec::new());
        for ((level, text), said) in &self.said {
            let place = place(query, said.span);
            let details = said.forced.map(|f| {
                format!(
                    ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                    format_g(f.buckets.0),
                    format_g(f.buckets.1),
                    two_digits(f.max_diff),
                    f.count,
                    rfc3339(f.ts.0),
                    rfc3339(f.ts.1),
                )
            });
            let details = details.unwrap_or_default();
            match level {
                Level::Warning => {
                    warnings.push(format!("PromQL warning: {text}{details} ({place})").into());
                }
                Level::Info => infos.push(format!("PromQL info: {text}{details} ({place})").into()),
            }
        }
        (warnings, infos)
    }
}

fn quoted(s: &str) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = model::labels::write_quoted(&mut out, s);
    out
}

fn with_metric(text: String, metric: &str) -> String {
    if metric.is_empty() {
        text
    } else {
        format!("{text} for metric name {}", quoted(metric))
    }
}

/// `line:column`, both from 1; columns count bytes.
fn place(query: &str, span: Span) -> String {
    let Some(before) = query.get(..span.start as usize) else {
        return "invalid position".to_owned();
    };
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |i| i + 1) + 1;
    format!("{line}:{column}")
}

/// Go's `%.2g`.
fn two_digits(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return format_g(v);
    }
    let text = format!("{v:.1e}");
    let rounded: f64 = text.parse().unwrap_or(v);
    let exponent: i32 = text
        .split_once('e')
        .and_then(|(_, e)| e.parse().ok())
        .unwrap_or(0);
    if (-4..2).contains(&exponent) {
        return format_g(rounded);
    }
    let (digits, _) = text.split_once('e').unwrap_or((&text, ""));
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn rfc3339(ms: Millis) -> String {
    jiff::Timestamp::from_second(ms / 1000).map_or_else(|_| ms.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_said_once_with_its_place() {
        let mut a = Annotations::default();
        let span = Span { start: 5, end: 9 };
        a.possible_non_counter("up", span);
        a.possible_non_counter("up", span);
        a.invalid_quantile(1.5, Span { start: 0, end: 3 });
        let forced = Forced {
            ts: (60_000, 60_000),
            buckets: (0.1, 10.0),
            max_diff: 123.4,
            count: 1,
        };
        a.forced_monotonicity("", forced, span);
        a.forced_monotonicity(
            "",
            Forced {
                ts: (0, 0),
                ..forced
            },
            span,
        );
        let (warnings, infos) = a.texts("rate\n(up)");
        assert_eq!(
            warnings,
            [Str::from(
                "PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:1)"
            )]
        );
        assert!(infos[0].ends_with(
            ", from buckets 0.1 to 10, with a max diff of 1.2e+02, over 2 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (2:1)"
        ), "{}", infos[0]);
        assert_eq!(
            &*infos[1],
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"up\" (2:1)"
        );
    }
}
