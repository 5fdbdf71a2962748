//! A line of the log of queries, with Prometheus' fields.

use model::Millis;
use model::time::{Clock as _, WallClock};
use promql::value::Origin;
use promql::{QueryError, QueryResult};
use serde::Serialize;
use serde_json::{Value, json};
use wire::trace::Ids;

use super::Asked;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'static str,
    msg: &'static str,
    params: Params<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    stats: Value,
    #[serde(rename = "spanID")]
    span: String,
    #[serde(rename = "traceID")]
    trace: String,
    #[serde(rename = "httpRequest", skip_serializing_if = "Option::is_none")]
    request: Option<Value>,
    #[serde(rename = "ruleGroup", skip_serializing_if = "Option::is_none")]
    group: Option<Value>,
}

#[derive(Serialize)]
struct Params<'a> {
    end: String,
    query: &'a str,
    start: String,
    /// In whole seconds, as there.
    step: Millis,
}

/// The line about a query that took so many seconds, with the ids of the span that asked; zeros where
/// nobody traces.
pub(super) fn line(
    asked: &Asked,
    seconds: f64,
    ids: Option<Ids>,
    answer: &Result<QueryResult, QueryError>,
) -> String {
    let profile = answer
        .as_ref()
        .ok()
        .and_then(|result| result.profile.as_ref());
    let stats = profile.and_then(|p| serde_json::from_slice(&api::statistics(p, false)).ok());
    // Of one that failed only the time is known.
    let failed = || json!({"timings": {"evalTotalTime": seconds, "execTotalTime": seconds}});
    let stats = stats.unwrap_or_else(failed);
    let (request, group) = match &asked.origin {
        Origin::Unknown => (None, None),
        Origin::Request {
            client,
            method,
            path,
        } => {
            let request = json!({"clientIP": client, "method": method, "path": path});
            (Some(request), None)
        }
        Origin::RuleGroup { file, name } => (None, Some(json!({"file": file, "name": name}))),
    };
    let (span, trace) = match ids {
        Some(ids) => (ids.span, ids.trace),
        None => ("0".repeat(16), "0".repeat(32)),
    };
    let line = Line {
        time: date(WallClock.now()),
        level: "INFO",
        msg: "promql query logged",
        params: Params {
            end: date(asked.end),
            query: &asked.expr,
            start: date(asked.start),
            step: asked.step / 1000,
        },
        error: answer.as_ref().err().map(ToString::to_string),
        stats,
        span,
        trace,
        request,
        group,
    };
    // Numbers and texts can always be written.
    serde_json::to_string(&line).unwrap_or_default()
}

fn date(ms: Millis) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => ms.to_string(),
    }
}
