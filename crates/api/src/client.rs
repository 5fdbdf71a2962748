//! Asking others: an [`Evaluator`] over the HTTP API of queriers, and over Thanos' Query service.
//!
//! Queriers of a [`Queriers`] are asked in random order, one after the other, until one answers:
//! first those over HTTP, then those over gRPC. What Thanos adds to the HTTP API is sent along,
//! unless only Prometheus' own parameters are wanted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::scope::PartialResponse;
use model::time::{Clock as _, WallClock};
use model::{BoxFuture, Labels, Millis};
use promql::value::{InstantSample, QueryOptions, RangeSeries};
use promql::{Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery, Value};
use serde::Deserialize;
use wire::client::{HttpClient, Method, redacted};

use histogram::Native;

/// An answer may have this many bytes.
const MOST_BYTES: usize = 512 << 20;

mod grpc;
mod histogram;

pub use grpc::{GrpcQuerier, GrpcQueriers};

/// Addresses as they are known at each question.
pub type Addresses = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// A group of queriers that are asked in the same way.
#[derive(Clone)]
pub struct Querier {
    /// How they are asked.
    pub client: HttpClient,
    /// Their URLs as they are known now, without a slash at the end.
    pub urls: Addresses,
}

/// How queriers are asked.
#[derive(Clone, Debug)]
pub struct QueriersOptions {
    /// Parameters stand in the body of a POST, else in the URL of a GET.
    pub post: bool,
    /// Send what only Thanos understands (`dedup`, `partial_response`, ...).
    pub thanos_params: bool,
    /// How long one may take to answer.
    pub timeout: Duration,
}

impl Default for QueriersOptions {
    fn default() -> Self {
        Self {
            post: true,
            thanos_params: true,
            timeout: Duration::from_secs(120),
        }
    }
}

/// Answers expressions by asking queriers.
#[derive(Clone)]
pub struct Queriers(Arc<Inner>);

struct Inner {
    queriers: Vec<Querier>,
    grpc: GrpcQueriers,
    options: QueriersOptions,
    /// Where the next order begins.
    dice: AtomicU64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar((f64, String)),
    String((f64, String)),
    Vector(Vec<Sample>),
    Matrix(Vec<Series>),
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    value: Option<(f64, String)>,
    #[serde(default)]
    histogram: Option<(f64, Native)>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<(f64, Native)>,
}

/// A question of either kind.
enum Question {
    Instant(InstantQuery),
    Range(RangeQuery),
}

impl Question {
    fn options(&self) -> &QueryOptions {
        match self {
            Self::Instant(query) => &query.options,
            Self::Range(query) => &query.options,
        }
    }

    /// Where it is asked over HTTP, and its parameters.
    fn over_http(&self) -> (&'static str, Vec<(&'static str, String)>) {
        match self {
            Self::Instant(query) => (
                "/api/v1/query",
                vec![
                    ("query", query.expr.to_string()),
                    ("time", seconds(query.ts)),
                ],
            ),
            Self::Range(query) => (
                "/api/v1/query_range",
                vec![
                    ("query", query.expr.to_string()),
                    ("start", seconds(query.start)),
                    ("end", seconds(query.end)),
                    ("step", seconds(query.step)),
                ],
            ),
        }
    }
}

impl Queriers {
    /// Asks these queriers: those over HTTP before those over gRPC.
    pub fn new(queriers: Vec<Querier>, grpc: GrpcQueriers, options: QueriersOptions) -> Self {
        Self(Arc::new(Inner {
            queriers,
            grpc,
            options,
            dice: AtomicU64::new(WallClock.now().unsigned_abs()),
        }))
    }

    /// Whether any of them says that it is ready; over gRPC, whether it answers.
    pub async fn any_is_ready(&self) -> bool {
        const PATIENCE: Duration = Duration::from_secs(5);
        for (client, url) in self.0.in_any_order() {
            let Ok(request) = client.get(&format!("{url}/-/ready")) else {
                continue;
            };
            let asked = tokio::time::timeout(PATIENCE, client.send(request)).await;
            if matches!(asked, Ok(Ok(answer)) if answer.status().is_success()) {
                return true;
            }
        }
        for address in self.0.grpc.addresses() {
            let query = InstantQuery {
                expr: "1".into(),
                ts: WallClock.now(),
                options: QueryOptions {
                    timeout: Some(PATIENCE),
                    ..QueryOptions::default()
                },
            };
            let asked = async { self.0.grpc.querier(&address)?.ask_instant(&query).await };
            let asked = tokio::time::timeout(PATIENCE, asked).await;
            if matches!(asked, Ok(Ok(_))) {
                return true;
            }
        }
        false
    }

    fn ask(&self, question: Question) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let options = question.options();
            let limit = options.timeout.unwrap_or(inner.options.timeout);
            let cancelled = options.cancel.cancelled();
            tokio::select! {
                answer = tokio::time::timeout(limit, inner.ask_any(&question)) => match answer {
                    Ok(answer) => answer,
                    Err(_) => Err(QueryError::Timeout("query of a querier")),
                },
                () = cancelled => Err(QueryError::Canceled("query of a querier")),
            }
        })
    }
}

impl Evaluator for Queriers {
    fn instant(&self, query: InstantQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        self.ask(Question::Instant(query))
    }

    fn range(&self, query: RangeQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        self.ask(Question::Range(query))
    }
}

impl Inner {
    /// Every URL once, in an order of chance, with whom it is asked by.
    fn in_any_order(&self) -> Vec<(&HttpClient, String)> {
        let mut all: Vec<(&HttpClient, String)> = Vec::new();
        for querier in &self.queriers {
            for url in (querier.urls)() {
                if !all.iter().any(|(_, known)| *known == url) {
                    all.push((&querier.client, url));
                }
            }
        }
        self.shuffle(&mut all);
        all
    }

    /// A step of an LCG is chance enough to spread the load.
    fn shuffle<T>(&self, all: &mut [T]) {
        for left in (2..=all.len() as u64).rev() {
            let dice = self
                .dice
                .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mixed = (dice ^ (dice >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 17;
            // Both are below the length.
            all.swap((mixed % left) as usize, (left - 1) as usize);
        }
    }

    async fn ask_any(&self, question: &Question) -> Result<QueryResult, QueryError> {
        let mut failed = None;
        let mut note = |querier: &str, error: QueryError| {
            tracing::debug!(querier, %error, "a querier has no answer");
            failed = Some(error);
        };
        let (path, params) = question.over_http();
        for (client, url) in self.in_any_order() {
            let asked = self.ask_one(client, &url, path, &params, question.options());
            match asked.await {
                Ok(result) => return Ok(result),
                Err(error) => {
                    let shown = url
                        .parse()
                        .map_or_else(|_| url.clone(), |url| redacted(&url));
                    note(&shown, error);
                }
            }
        }
        let mut addresses = self.grpc.addresses();
        self.shuffle(&mut addresses);
        for address in addresses {
            let asked = match (self.grpc.querier(&address), question) {
                (Ok(querier), Question::Instant(query)) => querier.ask_instant(query).await,
                (Ok(querier), Question::Range(query)) => querier.ask_range(query).await,
                (Err(e), _) => Err(e),
            };
            match asked {
                Ok(result) => return Ok(result),
                Err(error) => note(&address, error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            QueryError::Unavailable("no query API server reachable: none is known".to_owned())
        }))
    }

    async fn ask_one(
        &self,
        client: &HttpClient,
        url: &str,
        path: &str,
        params: &[(&'static str, String)],
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let away = |e: &dyn std::fmt::Display| {
            QueryError::Unavailable(format!("no query API server reachable: {e}"))
        };
        let method = match self.options.post {
            true => Method::POST,
            false => Method::GET,
        };
        let mut request = client
            .request(method, &format!("{url}{path}"))
            .map_err(|e| away(&e))?;
        let shown = redacted(request.url());
        {
            let mut pairs = request.url_mut().query_pairs_mut();
            pairs.extend_pairs(params);
            if let Some(lookback) = options.lookback {
                pairs.append_pair("lookback_delta", &seconds(lookback));
            }
            if self.options.thanos_params {
                pairs.append_pair("dedup", "true");
                let partial = options.partial_response == PartialResponse::Warn;
                pairs.append_pair("partial_response", if partial { "true" } else { "false" });
            }
        }
        if self.options.post {
            let form = request.url().query().unwrap_or_default().to_owned();
            request.url_mut().set_query(None);
            request.headers_mut().insert(
                http::header::CONTENT_TYPE,
                http::HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
            *request.body_mut() = Some(form.into());
        }
        let answer = client.send(request).await.map_err(|e| away(&e))?;
        let status = answer.status();
        let body = wire::client::body(answer, MOST_BYTES)
            .await
            .map_err(|e| away(&e))?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|e| away(&format!("{shown} answered {status}: {e}")))?;
        result(answer)
    }
}

/// Milliseconds as the API reads seconds.
fn seconds(ms: Millis) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1000, ms % 1000)
}

fn millis(seconds: f64) -> Millis {
    (seconds * 1000.0).round() as Millis
}

fn number(text: &str) -> Result<f64, QueryError> {
    // Go's `+Inf` and `NaN` are read, too.
    let wrong = |_| QueryError::Internal(format!("a querier answered {text:?}, no number"));
    text.parse().map_err(wrong)
}

fn result(answer: Answer) -> Result<QueryResult, QueryError> {
    let data = match answer.data {
        Some(data) if answer.status == "success" => data,
        _ => {
            let text = answer.error;
            return Err(match answer.error_type.as_str() {
                "bad_data" => QueryError::BadData(text),
                "execution" => QueryError::Execution(text),
                "unavailable" => QueryError::Unavailable(text),
                _ => QueryError::Internal(text),
            });
        }
    };
    let value = match data {
        Data::Scalar((ts, value)) => Value::Scalar(millis(ts), number(&value)?),
        Data::String((ts, text)) => Value::String(millis(ts), text),
        Data::Vector(samples) => {
            let mut vector = Vec::with_capacity(samples.len());
            for sample in samples {
                let (ts, value, histogram) = match (sample.value, sample.histogram) {
                    (Some((ts, value)), _) => (ts, number(&value)?, None),
                    (None, Some((ts, native))) => {
                        let whole = native.whole().ok_or_else(not_whole)?;
                        (ts, 0.0, Some(Arc::new(whole)))
                    }
                    (None, None) => {
                        let text = "a querier answered a series without a value";
                        return Err(QueryError::Internal(text.to_owned()));
                    }
                };
                vector.push(InstantSample {
                    labels: Labels::from_pairs(sample.metric),
                    ts: millis(ts),
                    value,
                    histogram,
                });
            }
            Value::Vector(vector)
        }
        Data::Matrix(all) => {
            let mut matrix = Vec::with_capacity(all.len());
            for series in all {
                let mut values = Vec::with_capacity(series.values.len());
                for (_, value) in &series.values {
                    values.push(number(value)?);
                }
                matrix.push(RangeSeries {
                    labels: Labels::from_pairs(series.metric),
                    ts: series.values.iter().map(|(ts, _)| millis(*ts)).collect(),
                    values,
                    histograms: series
                        .histograms
                        .iter()
                        .map(|(ts, native)| {
                            let whole = native.whole().ok_or_else(not_whole)?;
                            Ok((millis(*ts), Arc::new(whole)))
                        })
                        .collect::<Result<_, QueryError>>()?,
                });
            }
            Value::Matrix(matrix)
        }
    };
    Ok(QueryResult {
        value,
        warnings: answer.warnings.into_iter().map(Into::into).collect(),
        infos: answer.infos.into_iter().map(Into::into).collect(),
        scope: None,
        profile: None,
    })
}

/// What would be recorded is another histogram.
fn not_whole() -> QueryError {
    QueryError::Execution(
        "the answer has native histograms with custom bounds, which cannot be had whole over HTTP; \
         ask over gRPC, or make it a float, as histogram_quantile, histogram_sum and \
         histogram_count do"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<QueryResult, QueryError> {
        result(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn answers_are_read() {
        let answer = read(
            r#"{"status":"success","data":{"resultType":"vector","result":[
                {"metric":{"__name__":"up","job":"a"},"value":[1.5,"+Inf"]},
                {"metric":{},"value":[1,"NaN"]}],"stats":{}},"warnings":["w"]}"#,
        )
        .unwrap();
        let Value::Vector(samples) = answer.value else {
            panic!("a vector");
        };
        assert_eq!(samples[0].labels.to_string(), r#"up{job="a"}"#);
        assert_eq!((samples[0].ts, samples[0].value), (1500, f64::INFINITY));
        assert!(samples[1].value.is_nan());
        assert_eq!(*answer.warnings[0], *"w");
        let scalar = r#"{"status":"success","data":{"result":[2,"3"],"resultType":"scalar"}}"#;
        assert_eq!(read(scalar).unwrap().value, Value::Scalar(2000, 3.0));
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1,"2"],[2.5,"-3"]]}]}}"#;
        let Value::Matrix(series) = read(matrix).unwrap().value else {
            panic!("a matrix");
        };
        assert_eq!(
            (&series[0].ts[..], &series[0].values[..]),
            (&[1000, 2500][..], &[2.0, -3.0][..])
        );
    }

    #[test]
    fn errors_keep_their_kind_and_their_words() {
        let error = read(r#"{"status":"error","errorType":"execution","error":"too much"}"#);
        assert!(matches!(error, Err(QueryError::Execution(text)) if text == "too much"));
        let error = read(r#"{"status":"error","errorType":"internal","error":"store x is away"}"#);
        assert_eq!(error.unwrap_err().to_string(), "store x is away");
        let native = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"1","3","1"]]}]}]}}"#;
        assert!(
            read(native)
                .unwrap_err()
                .to_string()
                .contains("native histograms")
        );
    }

    #[test]
    fn times_keep_their_milliseconds() {
        assert_eq!(seconds(1_700_000_000_123), "1700000000.123");
        assert_eq!(seconds(-1), "-0.001");
    }
}
