//! How the process is doing, beyond the facts of `status`: notifications, the progress of the
//! replay, our own metrics as JSON, and which features there are.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use metrics::{Kind, MetricFamily, Value};
use model::regex::Regex;
use promql::ast::{AggregateOp, BinaryOp};
use promql::features::Features;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::Api;
use crate::error::{ApiError, success};
use crate::params::Params;

/// Features by category, as `features` answers them.
pub type FeatureTable = BTreeMap<&'static str, BTreeMap<&'static str, bool>>;

/// How far the replay of the WAL is, in segments.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Replay {
    /// The first one.
    pub min: u64,
    /// The last one.
    pub max: u64,
    /// The one that is read.
    pub current: u64,
}

pub(super) async fn replay(State(api): State<Api>) -> Result<Response, ApiError> {
    let replay = api
        .replay
        .as_ref()
        .ok_or_else(|| ApiError::not_served("the WAL's state"))?;
    success(&replay())
}

pub(super) async fn notifications(State(api): State<Api>) -> Result<Response, ApiError> {
    let notices = api.notices.as_ref();
    success(&notices.map(|n| n.shown()).unwrap_or_default())
}

/// Server-sent events; 204, after which browsers do not ask again, if nobody more may listen.
pub(super) async fn live(State(api): State<Api>) -> Response {
    let Some(listening) = api.notices.as_ref().and_then(|notices| notices.listen()) else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let events = listening.map(|notice| {
        let notice = serde_json::to_string(&notice).unwrap_or_default();
        Ok::<_, Infallible>(Bytes::from(format!("data: {notice}\n\n")))
    });
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

pub(super) async fn self_metrics(
    State(api): State<Api>,
    params: Params,
) -> Result<Response, ApiError> {
    let wanted = match params.get("metric_name_pattern") {
        "" => None,
        pattern => {
            let regex = Regex::wrapped(pattern);
            let wrong = |e| ApiError::bad(format!("invalid metric_name_pattern: {e}"));
            Some(regex.map_err(wrong)?)
        }
    };
    // Collectors may count what they report, so not on a thread that serves.
    let families = tokio::task::spawn_blocking(move || {
        let shown = |family: &MetricFamily| {
            let name = &family.desc.name;
            wanted.as_ref().is_none_or(|regex| regex.is_match(name))
        };
        let families = api.registry.gather().into_iter();
        families.filter(shown).map(family).collect::<Vec<_>>()
    });
    let families = families.await.map_err(|panic| {
        let kind = crate::error::ErrorType::Internal;
        ApiError::new(kind, format!("error gathering self metrics: {panic}"))
    })?;
    success(&families)
}

/// A family as the JSON form of `io.prometheus.client.MetricFamily`: 64-bit integers are texts.
fn family(family: MetricFamily) -> Json {
    let desc = &family.desc;
    let kind = match desc.kind {
        Kind::Counter => "COUNTER",
        Kind::Gauge => "GAUGE",
        Kind::Histogram => "HISTOGRAM",
        Kind::Summary => "SUMMARY",
        Kind::Unknown => "UNTYPED",
    };
    let field = match desc.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        _ => "untyped",
    };
    let metrics = family.metrics.iter().map(|metric| {
        let mut shown = Map::new();
        let labels = desc.labels.iter().zip(&metric.labels);
        let labels = labels.map(|(name, value)| json!({"name": &**name, "value": &**value}));
        let labels: Vec<Json> = labels.collect();
        if !labels.is_empty() {
            shown.insert("label".to_owned(), labels.into());
        }
        let pairs = |pairs: &[(f64, u64)]| -> Vec<Json> {
            let pairs = pairs.iter().filter(|(bound, _)| bound.is_finite());
            let pair = |(bound, n): &(f64, u64)| {
                json!({"cumulativeCount": n.to_string(), "upperBound": float(*bound)})
            };
            pairs.map(pair).collect()
        };
        let (field, value) = match &metric.value {
            Value::Number(number) => (field, json!({"value": float(*number)})),
            Value::Histogram {
                buckets,
                sum,
                count,
            } => (
                "histogram",
                json!({
                    "sampleCount": count.to_string(),
                    "sampleSum": float(*sum),
                    "bucket": pairs(buckets),
                }),
            ),
            Value::Summary {
                quantiles,
                sum,
                count,
            } => {
                let quantiles = quantiles.iter();
                let quantiles = quantiles
                    .map(|(q, value)| json!({"quantile": float(*q), "value": float(*value)}));
                (
                    "summary",
                    json!({
                        "sampleCount": count.to_string(),
                        "sampleSum": float(*sum),
                        "quantile": quantiles.collect::<Vec<_>>(),
                    }),
                )
            }
        };
        shown.insert(field.to_owned(), value);
        Json::Object(shown)
    });
    json!({
        "name": &*desc.name,
        "help": &*desc.help,
        "type": kind,
        "metric": metrics.collect::<Vec<_>>(),
    })
}

/// What JSON has no number for is a text.
fn float(number: f64) -> Json {
    match number {
        n if n.is_nan() => "NaN".into(),
        n if n == f64::INFINITY => "Infinity".into(),
        n if n == f64::NEG_INFINITY => "-Infinity".into(),
        n if n.fract() == 0.0 && n.abs() < 1e15 => (n as i64).into(),
        n => n.into(),
    }
}

pub(super) async fn features(State(api): State<Api>) -> Result<Response, ApiError> {
    let mut table = api.feature_table.clone();
    let served = BTreeMap::from([
        ("admin", api.admin.is_some()),
        ("exclude_alerts", true),
        ("label_values_match", true),
        ("lifecycle", api.lifecycle.is_some()),
        ("openapi_3.1", true),
        ("openapi_3.2", true),
        ("otlp_write_receiver", api.otlp.is_some()),
        ("query_stats", true),
        ("query_warnings", true),
        ("remote_write_receiver", api.remote_write.is_some()),
        ("search", api.search.is_some()),
        ("search_fuzz_alg_jarowinkler", true),
        ("search_fuzz_alg_subsequence", true),
        ("time_range_labels", true),
        ("time_range_series", true),
    ]);
    table.insert("api", served);
    language(&mut table, api.features, api.per_step_stats);
    success(&table)
}

/// What of PromQL is there, and on.
fn language(table: &mut FeatureTable, features: Features, per_step_stats: bool) {
    let promql = table.entry("promql").or_default();
    promql.extend(
        [
            "at_modifier",
            "bool",
            "by",
            "group_left",
            "group_right",
            "ignoring",
            "negative_offset",
            "offset",
            "on",
            "per_query_lookback_delta",
            "subqueries",
            "without",
        ]
        .map(|name| (name, true)),
    );
    promql.extend([
        ("anchored", features.extended_range_selectors),
        ("smoothed", features.extended_range_selectors),
        ("duration_expr", features.duration_expr),
        ("fill", features.binop_fill_modifiers),
        ("fill_left", features.binop_fill_modifiers),
        ("fill_right", features.binop_fill_modifiers),
        ("per_step_stats", per_step_stats),
    ]);
    let functions = promql::functions::all().iter();
    let functions = functions.map(|f| {
        let on = !f.experimental || features.experimental_functions;
        (f.name, on)
    });
    table.insert("promql_functions", functions.collect());
    let matching = ["=~", "!~", "@"].into_iter();
    let binary = BinaryOp::ALL.into_iter().map(BinaryOp::as_str);
    let aggregate = AggregateOp::ALL.into_iter().map(|op| {
        let on = !op.is_experimental() || features.experimental_functions;
        (op.as_str(), on)
    });
    let operators = matching.chain(binary).map(|name| (name, true));
    table.insert("promql_operators", operators.chain(aggregate).collect());
}
