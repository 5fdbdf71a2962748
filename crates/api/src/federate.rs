//! `/federate`: the newest sample of every series that is asked for, as a target would show it.
//!
//! As Prometheus has it (`web/federate.go`): untyped metrics with timestamps, external labels where
//! a series has none of its own, an empty `instance` where nobody sets one, no series that has
//! ended. Names that are no old ones are spelled as the client's `Accept` has it. Native histograms
//! go out in protobuf only, those with custom buckets as classic ones in text.

mod format;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chunk::samples::{Samples, Value};
use http::{HeaderMap, StatusCode, header};
use model::escaping::EscapingScheme;
use model::histogram::{CUSTOM_SCHEMA, CounterReset, FloatHistogram, Span};
use model::labels::is_legacy_metric_name;
use model::{
    Labels, METRIC_NAME, Millis, Order, Scope, Select, SeriesBatch, SourceError, TimeRange,
    is_stale,
};
use tokio::runtime::Handle;
use wire::put;

use self::format::Format;
use crate::Options;
use crate::params::Params;
use crate::rows::Sorted;

/// The newest sample of a series.
struct Newest {
    labels: Labels,
    ts: Millis,
    value: Shown,
}

enum Shown {
    Float(f64),
    Histogram(FloatHistogram),
}

pub(crate) async fn federate(
    State(options): State<Arc<Options>>,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let failed = |status: StatusCode, text: String| {
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            options.counters.federation_errors.inc();
        }
        (status, format!("{text}\n")).into_response()
    };
    let Some(source) = options.local.as_ref().or(options.source.as_ref()) else {
        return failed(StatusCode::NOT_FOUND, "404 page not found".to_owned());
    };
    if options.ready.get() != crate::ready::State::Ready {
        let text = "Service Unavailable".to_owned();
        return failed(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let sets = match params.any_selectors() {
        // Nothing is asked for where nothing is said, unlike `{a=""}`, which many series are.
        Ok(sets) => sets.into_iter().filter(|matchers| !matchers.is_empty()),
        Err(why) => return failed(StatusCode::BAD_REQUEST, why),
    };
    let now = options.clock.now();
    let range = TimeRange::new(now - options.lookback, now);
    let budget = options.budget.child("one request", options.budget.limit());
    let scope = Arc::new(Scope::new(range, budget).with_timeout(options.timeout));
    let view = match source.open(Arc::clone(&scope)) {
        Ok(view) => view,
        Err(e) => return failed(StatusCode::INTERNAL_SERVER_ERROR, e.message),
    };
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let format = Format::of(accept.unwrap_or(""));
    let ours = (options.external_labels)();
    let runtime = Handle::current();
    let body = tokio::task::spawn_blocking(move || {
        let selects = sets.map(|matchers| Select {
            order: Order::ByLabels {
                without: Vec::new(),
            },
            ..Select::new(matchers, range)
        });
        let rows = selects.map(|select| view.select(select)).collect();
        let mut newest = newest(Sorted::new(rows, &scope.symbols, runtime)?, &scope)?;
        newest.sort_by(|a, b| a.labels.name().cmp(b.labels.name()));
        Ok::<_, SourceError>(write(&newest, &ours, format))
    })
    .await;
    match body {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, format.content_type())], body).into_response(),
        Ok(Err(e)) => failed(StatusCode::INTERNAL_SERVER_ERROR, e.message),
        Err(e) => failed(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

fn newest(mut rows: Sorted<'_>, scope: &Scope) -> Result<Vec<Newest>, SourceError> {
    let mut all = Vec::new();
    let mut more = |labels: &Labels, found: &[(&SeriesBatch, usize)]| -> Result<(), SourceError> {
        scope.check()?;
        let chunks = found
            .iter()
            .flat_map(|(batch, i)| batch.chunks_of(*i).iter().map(move |c| (batch, c)));
        // The newest sample is in one of the chunks that reach furthest.
        let mut chunks: Vec<_> = chunks.collect();
        chunks.sort_by_key(|(_, c)| std::cmp::Reverse(c.max));
        let mut best: Option<(Millis, Value)> = None;
        for (batch, chunk) in chunks {
            if best.as_ref().is_some_and(|(ts, _)| chunk.max <= *ts) {
                break;
            }
            let mut samples = Samples::default();
            samples.add(chunk.encoding, batch.bytes_of(chunk))?;
            let within = samples
                .as_slice()
                .iter()
                .rev()
                .find(|s| scope.range.contains(s.ts));
            if let Some(sample) = within
                && best.as_ref().is_none_or(|(ts, _)| sample.ts > *ts)
            {
                best = Some((sample.ts, sample.value.clone()));
            }
        }
        let Some((ts, value)) = best else {
            return Ok(());
        };
        let value = match value {
            Value::Float(value) if !is_stale(value) => Shown::Float(value),
            Value::Histogram(h) if !is_stale(h.sum()) => Shown::Histogram(h.to_float()),
            _ => return Ok(()),
        };
        if !labels.name().is_empty() {
            all.push(Newest {
                labels: labels.clone(),
                ts,
                value,
            });
        }
        Ok(())
    };
    while rows.next(&mut more)? {}
    Ok(all)
}

/// The labels of a sample as others see it: without name, in pairs.
fn outside<'a>(labels: &'a Labels, ours: &'a Labels) -> Vec<(&'a str, &'a str)> {
    let mut pairs: Vec<(&str, &str)> = labels.iter().filter(|(n, _)| *n != METRIC_NAME).collect();
    let own = pairs.len();
    let instance = ours.get("instance").is_none().then_some(("instance", ""));
    let mut more: Vec<(&str, &str)> = ours.iter().chain(instance).collect();
    more.sort_unstable();
    for pair in more {
        if !pairs.iter().take(own).any(|(n, _)| *n == pair.0) {
            pairs.push(pair);
        }
    }
    pairs
}

fn write(all: &[Newest], ours: &Labels, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = |n: &Newest| match &n.value {
        Shown::Float(_) => Kind::Untyped,
        Shown::Histogram(h) if h.counter_reset == CounterReset::Gauge => Kind::GaugeHistogram,
        Shown::Histogram(_) => Kind::Histogram,
    };
    let shown = |n: &&Newest| match &n.value {
        Shown::Histogram(h) => format.protobuf || h.schema == CUSTOM_SCHEMA,
        Shown::Float(_) => true,
    };
    let all: Vec<&Newest> = all.iter().filter(shown).collect();
    let families = all.chunk_by(|a, b| a.labels.name() == b.labels.name() && kind(a) == kind(b));
    for family in families {
        let Some(first) = family.first() else {
            continue;
        };
        let name = format.escaping.apply(first.labels.name());
        let names = (&*name, format.escaping);
        match format.protobuf {
            true => write_message(&mut out, names, kind(first), family, ours),
            false => write_text(&mut out, names, kind(first), family, ours),
        }
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Untyped = 3,
    Histogram = 4,
    GaugeHistogram = 5,
}

/// A name in text: in quotes where it is no old one.
fn push_name(text: &mut String, name: &str) {
    match is_legacy_metric_name(name) {
        true => text.push_str(name),
        false => {
            text.push('"');
            push_value(text, name);
            text.push('"');
        }
    }
}

/// What stands between quotes in text.
fn push_value(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

fn write_text(
    out: &mut Vec<u8>,
    (name, escaping): (&str, EscapingScheme),
    kind: Kind,
    family: &[&Newest],
    ours: &Labels,
) {
    let kind = match kind {
        Kind::Untyped => "untyped",
        Kind::Histogram => "histogram",
        Kind::GaugeHistogram => "gaugehistogram",
    };
    let mut text = String::new();
    text.push_str("# TYPE ");
    push_name(&mut text, name);
    text.push_str(&format!(" {kind}\n"));
    let quoted = !is_legacy_metric_name(name);
    for sample in family {
        let pairs = outside(&sample.labels, ours);
        let mut line = |suffix: &str, le: Option<&str>, value: f64| {
            // A name in quotes stands among the labels.
            let whole = format!("{name}{suffix}");
            if quoted {
                text.push('{');
            }
            push_name(&mut text, &whole);
            let all = pairs.iter().copied().chain(le.map(|le| ("le", le)));
            for (i, (name, value)) in all.enumerate() {
                text.push(if i == 0 && !quoted { '{' } else { ',' });
                push_name(&mut text, &escaping.apply(name));
                text.push_str("=\"");
                push_value(&mut text, value);
                text.push('"');
            }
            if quoted || !pairs.is_empty() || le.is_some() {
                text.push('}');
            }
            text.push_str(&format!(" {} {}\n", go_float(value), sample.ts));
        };
        match &sample.value {
            Shown::Float(value) => line("", None, *value),
            Shown::Histogram(h) => {
                let mut infinite = false;
                for (bound, count) in classic(h) {
                    infinite |= bound == f64::INFINITY;
                    line("_bucket", Some(&go_float(bound)), count);
                }
                if !infinite {
                    line("_bucket", Some("+Inf"), h.count);
                }
                line("_sum", None, h.sum);
                line("_count", None, h.count);
            }
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// A float as Go's `strconv.AppendFloat(.., 'g', -1, 64)` writes it.
fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return value.to_string();
    }
    // `1e-5` becomes `1e-05`.
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, number) = match exponent.strip_prefix('-') {
                Some(number) => ('-', number),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{number:0>2}")
        }
        None => text,
    }
}

/// Upper bounds and cumulative counts of custom buckets.
fn classic(h: &FloatHistogram) -> Vec<(f64, f64)> {
    let mut sum = 0.0;
    let buckets = h.positive.iter().map(|(index, count)| {
        sum += count;
        let bound = usize::try_from(index)
            .ok()
            .and_then(|i| h.custom_values.get(i));
        (bound.copied().unwrap_or(f64::INFINITY), sum)
    });
    buckets.collect()
}

fn write_message(
    out: &mut Vec<u8>,
    (name, escaping): (&str, EscapingScheme),
    kind: Kind,
    family: &[&Newest],
    ours: &Labels,
) {
    let mut message = Vec::new();
    put::bytes(&mut message, 1, name.as_bytes());
    put::number(&mut message, 3, kind as u64);
    for sample in family {
        put::nested(&mut message, 4, |out| {
            for (name, value) in outside(&sample.labels, ours) {
                put::nested(out, 1, |out| {
                    put::bytes(out, 1, escaping.apply(name).as_bytes());
                    put::bytes(out, 2, value.as_bytes());
                });
            }
            match &sample.value {
                Shown::Float(value) => put::nested(out, 5, |out| {
                    put::key(out, 1, 1);
                    out.extend_from_slice(&value.to_le_bytes());
                }),
                Shown::Histogram(h) => put::nested(out, 7, |out| write_histogram(out, h)),
            }
            put::number(out, 6, sample.ts as u64);
        });
    }
    put::varint(out, message.len() as u64);
    out.extend_from_slice(&message);
}

fn write_histogram(out: &mut Vec<u8>, h: &FloatHistogram) {
    put::double(out, 2, h.sum);
    put::double(out, 4, h.count);
    if h.schema == CUSTOM_SCHEMA {
        for (bound, count) in classic(h) {
            put::nested(out, 3, |out| {
                put::double(out, 2, bound);
                put::double(out, 4, count);
            });
        }
        return;
    }
    put::number(out, 5, put::zigzag(i64::from(h.schema)));
    put::double(out, 6, h.zero_threshold);
    put::double(out, 8, h.zero_count);
    let spans = |out: &mut Vec<u8>, field, spans: &[Span]| {
        for span in spans {
            put::nested(out, field, |out| {
                put::number(out, 1, put::zigzag(i64::from(span.offset)));
                put::number(out, 2, u64::from(span.length));
            });
        }
    };
    spans(out, 9, &h.negative.spans);
    put::packed_doubles(out, 11, &h.negative.counts);
    spans(out, 12, &h.positive.spans);
    put::packed_doubles(out, 14, &h.positive.counts);
    if h.positive.spans.is_empty() && h.negative.spans.is_empty() && h.zero_threshold == 0.0 {
        // Without any bucket it still is a native histogram.
        spans(out, 12, &[Span::default()]);
    }
}
