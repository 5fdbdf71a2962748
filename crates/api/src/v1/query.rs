//! `query` and `query_range`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use model::{Cancel, Millis, Scope, Str};
use promql::profile::Profiling;
use promql::value::{InstantSample, QueryOptions, RangeSeries};
use promql::{Evaluator, InstantQuery, QueryResult, RangeQuery, Value};

use super::{Api, gather, stats};
use crate::encode::{self, Encode};
use crate::error::{ApiError, mark_partial, tail};
use crate::json;
use crate::params::{Params, parse_duration, quoted};

const TRUNCATED: &str = "results truncated due to limit";

pub(super) async fn instant(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let ts = params.time_or("time", api.clock.now())?;
    let (mut options, _guard) = options(&params)?;
    gather::apply(&api, &params, None, &mut options)?;
    let query = InstantQuery {
        expr: params.get("query").into(),
        ts,
        options,
    };
    let result = evaluator(&api)?.instant(query).await?;
    Ok(answer(&api, &params, result, limit))
}

pub(super) async fn range(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (start, end, step) = grid(&api, &params)?;
    let (mut options, _guard) = options(&params)?;
    gather::apply(&api, &params, Some(step), &mut options)?;
    let query = RangeQuery {
        expr: params.get("query").into(),
        start,
        end,
        step,
        options,
    };
    let result = evaluator(&api)?.range(query).await?;
    Ok(answer(&api, &params, result, limit))
}

/// `start`, `end` and `step` of a range query, ms. Over many stores a step may be left out, as in
/// Thanos: then there are about 250 of them.
pub(super) fn grid(api: &Api, params: &Params) -> Result<(Millis, Millis, Millis), ApiError> {
    const MOST_POINTS: i128 = 11_000;
    let (start, end) = (params.time("start")?, params.time("end")?);
    if end < start {
        let why = "end timestamp must not be before start time";
        return Err(ApiError::param("end", why));
    }
    let step = match (&api.gathering, params.get("step")) {
        (Some(gathering), "") => {
            let least = gathering.default_step.saturating_mul(1_000_000);
            // Seconds, as there.
            let even = end.saturating_sub(start) / 1000 / 250;
            even.saturating_mul(1_000_000_000).max(least)
        }
        _ => duration(params, "step")?,
    };
    if step <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. \
                   Try a positive integer";
        return Err(ApiError::param("step", why));
    }
    let span = i128::from(end) - i128::from(start);
    if span * 1_000_000 / i128::from(step) > MOST_POINTS {
        return Err(ApiError::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. \
             Try decreasing the query resolution (?step=XX)",
        ));
    }
    // Steps have the resolution of timestamps.
    Ok((start, end, (step / 1_000_000).max(1)))
}

pub(super) fn evaluator(api: &Api) -> Result<&Arc<dyn Evaluator>, ApiError> {
    api.evaluator
        .as_ref()
        .ok_or_else(|| ApiError::not_served("queries"))
}

/// The parameter `name` as nanoseconds.
fn duration(params: &Params, name: &str) -> Result<i64, ApiError> {
    parse_duration(params.get(name)).map_err(|why| ApiError::param(name, why))
}

/// What the parameters set. The query is cancelled when the guard is dropped, which happens when
/// the client goes away before its answer.
pub(super) fn options(
    params: &Params,
) -> Result<(QueryOptions, model::scope::CancelOnDrop), ApiError> {
    let timeout = match params.get("timeout") {
        "" => None,
        _ => {
            let nanos = duration(params, "timeout")?;
            Some(Duration::from_nanos(nanos.max(0).unsigned_abs()))
        }
    };
    let lookback = match params.get("lookback_delta") {
        "" => None,
        text => {
            let nanos = parse_duration(text).map_err(|why| {
                ApiError::bad(format!("error parsing lookback delta duration: {why}"))
            })?;
            // Zero means "as configured", as in Prometheus.
            Some(nanos / 1_000_000).filter(|&ms| ms > 0)
        }
    };
    let cancel = Cancel::default();
    let guard = cancel.on_drop();
    let profiling = match (params.get("analyze"), params.get("stats")) {
        ("true" | "1", _) => Profiling::Analyze,
        (_, "") => Profiling::Off,
        _ => Profiling::Statistics,
    };
    let options = QueryOptions {
        lookback,
        timeout,
        cancel,
        profiling,
        origin: params.origin(),
        ..QueryOptions::default()
    };
    Ok((options, guard))
}

fn answer(api: &Api, params: &Params, result: QueryResult, limit: usize) -> Response {
    let QueryResult {
        mut value,
        mut warnings,
        infos,
        scope,
        profile,
    } = result;
    let mut cut = |len: usize| {
        let too_many = limit > 0 && len > limit;
        if too_many {
            warnings.push(TRUNCATED.into());
        }
        too_many
    };
    match &mut value {
        Value::Vector(samples) if cut(samples.len()) => samples.truncate(limit),
        Value::Matrix(series) if cut(series.len()) => series.truncate(limit),
        _ => {}
    }
    let asked = params.get("stats");
    if !matches!(asked, "" | "true" | "all") {
        let text = format!(
            "value {} for parameter \"stats\" is deprecated and will be rejected in the next \
             major release, use \"true\" or \"all\"",
            quoted(asked)
        );
        warnings.push(text.into());
    }
    // What stands behind the result.
    let mut extra = Vec::new();
    if let Some(profile) = profile {
        if !asked.is_empty() {
            extra.extend_from_slice(b",\"stats\":");
            let per_step = api.per_step_stats && asked == "all";
            extra.extend(stats::statistics(&profile, per_step));
        }
        if matches!(params.get("analyze"), "true" | "1") {
            extra.extend_from_slice(b",\"analysis\":");
            stats::plan(&mut extra, &profile.plan, true);
        }
    }
    let partial = warnings.clone();
    let encoder = ResultEncoder {
        value,
        extra,
        warnings,
        infos,
        at: 0,
        inside: None,
        begun: false,
        _scope: scope,
    };
    mark_partial(encode::respond(encoder), &partial)
}

/// Writes a result, and remembers where it was.
struct ResultEncoder {
    value: Value,
    /// More fields of `data`, each after a comma.
    extra: Vec<u8>,
    warnings: Vec<Str>,
    infos: Vec<Str>,
    /// Series (or samples of a vector) written.
    at: usize,
    /// Samples of the present series written; none if not even its labels are.
    inside: Option<usize>,
    begun: bool,
    /// The query's memory is held until its result is written.
    _scope: Option<Arc<Scope>>,
}

impl ResultEncoder {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":\"");
        out.extend_from_slice(match &self.value {
            Value::Scalar(..) => b"scalar",
            Value::String(..) => b"string",
            Value::Vector(_) => b"vector",
            Value::Matrix(_) => b"matrix",
        });
        out.extend_from_slice(b"\",\"result\":");
        match &self.value {
            Value::Scalar(ts, value) => json::sample(out, *ts, *value),
            Value::String(ts, text) => {
                out.push(b'[');
                json::timestamp(out, *ts);
                out.push(b',');
                json::string(out, text);
                out.push(b']');
            }
            Value::Vector(_) | Value::Matrix(_) => out.push(b'['),
        }
    }

    /// Writes series until enough is written; says whether all are.
    fn series(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        match &self.value {
            Value::Scalar(..) | Value::String(..) => return true,
            Value::Vector(samples) => {
                while let Some(sample) = samples.get(self.at) {
                    if out.len() >= until {
                        return false;
                    }
                    metric(out, &sample.labels, self.at);
                    match &sample.histogram {
                        Some(histogram) => {
                            out.extend_from_slice(b",\"histogram\":");
                            json::histogram(out, sample.ts, histogram);
                        }
                        None => {
                            out.extend_from_slice(b",\"value\":");
                            json::sample(out, sample.ts, sample.value);
                        }
                    }
                    out.push(b'}');
                    self.at += 1;
                }
            }
            Value::Matrix(series) => {
                while let Some(one) = series.get(self.at) {
                    let written = self.inside.unwrap_or_else(|| {
                        metric(out, &one.labels, self.at);
                        0
                    });
                    if let Some(inside) = samples(out, one, written, until) {
                        self.inside = Some(inside);
                        return false;
                    }
                    out.push(b'}');
                    self.at += 1;
                    self.inside = None;
                }
            }
        }
        out.push(b']');
        true
    }
}

/// `,"values":[...],"histograms":[...]`, each if there are any, from sample number `from` on (floats
/// count first); the next number once enough is written.
fn samples(out: &mut Vec<u8>, one: &RangeSeries, from: usize, until: usize) -> Option<usize> {
    let floats = one.ts.len();
    let all = floats + one.histograms.len();
    for number in from..all {
        if out.len() >= until {
            return Some(number);
        }
        let histograms = number >= floats;
        if number == 0 || number == floats {
            let name: &[u8] = if histograms {
                b",\"histograms\":["
            } else {
                b",\"values\":["
            };
            out.extend_from_slice(name);
        } else {
            out.push(b',');
        }
        if histograms {
            // The number lies between `floats` and the end of the list.
            let (ts, histogram) = &one.histograms[number - floats];
            json::histogram(out, *ts, histogram);
        } else if let Some(value) = one.values.get(number) {
            json::sample(out, one.ts[number], *value);
        }
        if number + 1 == all || number + 1 == floats {
            out.push(b']');
        }
    }
    None
}

/// `{"metric":{...}`, after a comma unless it is the first.
fn metric(out: &mut Vec<u8>, labels: &model::Labels, at: usize) {
    if at > 0 {
        out.push(b',');
    }
    out.extend_from_slice(b"{\"metric\":");
    json::labels(out, labels.iter());
}

/// Bytes of the text of labels: short pairs, of which most series have a handful.
fn of_labels(labels: &model::Labels) -> usize {
    labels.len() * 32 + 32
}

/// Bytes of the text of a sample, and of a histogram.
const SAMPLE: usize = 32;
const HISTOGRAM: usize = 512;

impl Encode for ResultEncoder {
    fn size(&self) -> usize {
        match &self.value {
            Value::Scalar(..) | Value::String(..) => 0,
            Value::Vector(samples) => {
                let one = |s: &InstantSample| {
                    let histogram = s.histogram.as_ref().map_or(0, |_| HISTOGRAM);
                    of_labels(&s.labels) + SAMPLE + histogram
                };
                samples.iter().map(one).sum()
            }
            Value::Matrix(series) => {
                let one = |s: &RangeSeries| {
                    of_labels(&s.labels) + s.ts.len() * SAMPLE + s.histograms.len() * HISTOGRAM
                };
                series.iter().map(one).sum()
            }
        }
    }

    fn fill(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        if !self.begun {
            self.begin(out);
            self.begun = true;
        }
        if !self.series(out, until) {
            return false;
        }
        out.extend_from_slice(&self.extra);
        out.push(b'}');
        tail(out, &self.warnings, &self.infos);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;
    use model::histogram::{Buckets, FloatHistogram};

    fn written(value: Value, until: impl Fn() -> usize) -> String {
        let mut encoder = ResultEncoder {
            value,
            extra: vec![],
            warnings: vec![],
            infos: vec![],
            at: 0,
            inside: None,
            begun: false,
            _scope: None,
        };
        let mut all = Vec::new();
        loop {
            let mut piece = Vec::new();
            let done = encoder.fill(&mut piece, until());
            all.extend(piece);
            if done {
                return String::from_utf8(all).unwrap();
            }
        }
    }

    #[test]
    fn pieces_of_any_length_make_the_same_whole() {
        let labels = |i: usize| Labels::from_pairs([("i", "x".repeat(i))]);
        let histogram = Arc::new(FloatHistogram {
            count: 3.0,
            sum: 4.5,
            positive: Buckets::from_pairs([(0, 1.0), (1, 2.0)]),
            ..FloatHistogram::default()
        });
        let matrix = Value::Matrix(
            (0..9)
                .map(|i| RangeSeries {
                    labels: labels(i),
                    ts: (0..i as i64 * 2).collect(),
                    values: (0..i * 2).map(|n| n as f64 / 3.0).collect(),
                    histograms: (0..i as i64 % 4)
                        .map(|n| (n + 100, Arc::clone(&histogram)))
                        .collect(),
                })
                .collect(),
        );
        let vector = Value::Vector(
            (0..9)
                .map(|i| InstantSample {
                    labels: labels(i),
                    ts: 5,
                    value: 0.5,
                    histogram: (i % 3 == 2).then(|| Arc::clone(&histogram)),
                })
                .collect(),
        );
        for value in [matrix, vector] {
            let whole = written(value.clone(), || usize::MAX);
            serde_json::from_str::<serde_json::Value>(&whole).unwrap();
            for piece in 1..200 {
                assert_eq!(written(value.clone(), || piece), whole, "pieces of {piece}");
            }
        }
    }
}
