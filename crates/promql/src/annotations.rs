//! Warnings and infos beside a result, with Prometheus' texts and positions.

use std::collections::BTreeMap;

use model::{Millis, Str};

use crate::ast::Span;
use model::text::{format_g, format_general};

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
    /// How often, for texts that count.
    times: Option<u64>,
}

/// What was done to histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Addition => "addition",
            Operation::Subtraction => "subtraction",
            Operation::Aggregation => "aggregation",
        }
    }
}

/// Something to say about histograms, kept until it is known whether it has to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Floats and histograms of one series (its name).
    Mixed(Str),
    /// Floats and histograms in a group.
    MixedGroup,
    /// Exponential and custom buckets (the metric's name).
    MixedSchemas(Str),
    /// Classic and native histograms of one name.
    MixedClassicNative(Str),
    NotCounter(Str),
    NotGauge(Str),
    /// Histograms beside floats in the range of a function that knows floats only.
    IgnoredInRange(Str),
    /// Histograms under an aggregation that knows floats only.
    IgnoredInAggregation(&'static str),
    /// A binary operator between types it does not know.
    Types(&'static str, &'static str, &'static str),
    /// A binary operator between exponential and custom buckets.
    Layouts(&'static str),
    /// Custom bounds differed.
    Reconciled(Operation),
    /// Resets known and known not to be.
    Collision(Operation),
    NansResult(Str),
    NansSkew(Str),
    NansFraction(Str),
    /// Start times that lie before the sample before.
    Overlap(Str),
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
    /// Says a note about what was written at `span`.
    pub(crate) fn note(&mut self, note: &Note, span: Span) {
        match note {
            Note::Mixed(name) => self.warn(
                format!(
                    "encountered a mix of histograms and floats for metric name {}",
                    quoted(name)
                ),
                span,
            ),
            Note::MixedGroup => self.warn(
                "encountered a mix of histograms and floats for aggregation",
                span,
            ),
            Note::MixedSchemas(name) => self.warn(
                format!(
                    "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                    quoted(name)
                ),
                span,
            ),
            Note::MixedClassicNative(name) => self.warn(
                with_metric(
                    "vector contains a mix of classic and native histograms".to_owned(),
                    name,
                ),
                span,
            ),
            Note::NotCounter(name) => self.warn(
                format!(
                    "this native histogram metric is not a counter: {}",
                    quoted(name)
                ),
                span,
            ),
            Note::NotGauge(name) => self.warn(
                format!(
                    "this native histogram metric is not a gauge: {}",
                    quoted(name)
                ),
                span,
            ),
            Note::IgnoredInRange(name) => self.info(
                format!(
                    "ignored histograms in a range containing both floats and histograms for metric name {}",
                    quoted(name)
                ),
                span,
            ),
            Note::IgnoredInAggregation(op) => {
                self.info(format!("ignored histogram in {op} aggregation"), span);
            }
            Note::Types(lhs, op, rhs) => self.info(
                format!(
                    "incompatible sample types encountered for binary operator \"{op}\": {lhs} {op} {rhs}"
                ),
                span,
            ),
            Note::Layouts(op) => self.warn(
                format!("incompatible bucket layout encountered for binary operator {op}"),
                span,
            ),
            Note::Reconciled(op) => self.info(
                format!(
                    "mismatched custom buckets were reconciled during {}",
                    op.as_str()
                ),
                span,
            ),
            Note::Collision(op) => self.warn(
                format!(
                    "conflicting counter resets during histogram {}",
                    op.as_str()
                ),
                span,
            ),
            Note::NansResult(name) => self.info(
                with_metric(
                    "input to histogram_quantile has NaN observations, result is NaN".to_owned(),
                    name,
                ),
                span,
            ),
            Note::NansSkew(name) => self.info(
                with_metric(
                    "input to histogram_quantile has NaN observations, result is skewed higher"
                        .to_owned(),
                    name,
                ),
                span,
            ),
            Note::NansFraction(name) => self.info(
                with_metric(
                    "input to histogram_fraction has NaN observations, which are excluded from all fractions"
                        .to_owned(),
                    name,
                ),
                span,
            ),
            Note::Overlap(name) => {
                let text = format!(
                    "sample has start time that overlaps with previous sample timestamp for metric {}",
                    quoted(name)
                );
                self.add_counted(Level::Warning, text, span, None, Some(1));
            }
        }
    }

    fn add(&mut self, level: Level, text: String, span: Span, forced: Option<Forced>) {
        self.add_counted(level, text, span, forced, None);
    }

    fn add_counted(
        &mut self,
        level: Level,
        text: String,
        span: Span,
        forced: Option<Forced>,
        times: Option<u64>,
    ) {
        self.said
            .entry((level, text))
            .and_modify(|said| {
                // One text is shown once, where it was said last: operands come before what uses
                // them, from left to right. Only forced buckets are added to those said first.
                let order = |s: Span| (s.end, std::cmp::Reverse(s.start));
                if (order(span) > order(said.span)) != forced.is_some() {
                    said.span = span;
                }
                said.forced = match (said.forced, forced) {
                    (Some(a), Some(b)) => Some(a.join(b)),
                    (a, b) => a.or(b),
                };
                said.times = match (said.times, times) {
                    (Some(a), Some(b)) => Some(a + b),
                    (a, b) => a.or(b),
                };
            })
            .or_insert(Said {
                span,
                forced,
                times,
            });
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
            self.add_counted(level, text, said.span, said.forced, said.times);
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
                    format_general(f.max_diff, 2),
                    f.count,
                    rfc3339(f.ts.0),
                    rfc3339(f.ts.1),
                )
            });
            let counted = said.times.filter(|n| *n > 1);
            let details = details
                .or(counted.map(|n| format!(" ({n} occurrences)")))
                .unwrap_or_default();
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
