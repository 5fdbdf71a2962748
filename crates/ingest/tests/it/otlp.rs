//! OTLP metrics into a sink. Requests are written by hand: the peers' definitions are not ours.

use std::sync::Arc;

use axum::body::Body;
use chunk::memory::MemorySink;
use http::Request;
use http_body_util::BodyExt as _;
use ingest::Receiver;
use ingest::receive::{Options, OtlpSettings, Strategy};
use metrics::Registry;
use model::Sink;
use model::histogram::Histogram;
use model::time::ManualClock;
use tower::ServiceExt as _;
use wire::put;

const NOW: i64 = 1_700_000_000_000;

fn fixed(out: &mut Vec<u8>, field: u32, n: u64) {
    put::key(out, field, 1);
    out.extend_from_slice(&n.to_le_bytes());
}

fn attributes(out: &mut Vec<u8>, field: u32, pairs: &[(&str, &str)]) {
    for (name, value) in pairs {
        put::nested(out, field, |out| {
            put::bytes(out, 1, name.as_bytes());
            put::nested(out, 2, |out| put::bytes(out, 1, value.as_bytes()));
        });
    }
}

/// One resource with one scope and these metrics.
fn request(metrics: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    put::nested(&mut out, 1, |out| {
        put::nested(out, 1, |out| {
            let all = [
                ("service.name", "shop"),
                ("service.namespace", "eu"),
                ("service.instance.id", "i-1"),
                ("host.name", "h"),
            ];
            attributes(out, 1, &all);
        });
        put::nested(out, 2, |out| {
            put::nested(out, 1, |out| put::bytes(out, 1, b"lib"));
            for metric in metrics {
                put::bytes(out, 2, metric);
            }
        });
    });
    out
}

fn metric(name: &str, unit: &str, kind: u32, data: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put::bytes(&mut out, 1, name.as_bytes());
    put::some_bytes(&mut out, 3, unit.as_bytes());
    put::nested(&mut out, kind, data);
    out
}

fn times(out: &mut Vec<u8>) {
    fixed(out, 2, (NOW as u64 - 60_000) * 1_000_000);
    fixed(out, 3, NOW as u64 * 1_000_000);
}

fn counter(temporality: u64) -> Vec<u8> {
    metric("http.requests", "By", 7, |out| {
        put::nested(out, 1, |out| {
            times(out);
            fixed(out, 6, 42);
            attributes(out, 7, &[("http.method", "GET"), ("http_method", "x")]);
        });
        put::number(out, 2, temporality);
        put::number(out, 3, 1);
    })
}

fn explicit() -> Vec<u8> {
    metric("latency", "s", 9, |out| {
        put::nested(out, 1, |out| {
            times(out);
            fixed(out, 4, 6);
            put::key(out, 5, 1);
            out.extend_from_slice(&9.5f64.to_le_bytes());
            let counts = [1u64, 2, 3].map(f64::from_bits);
            put::packed_doubles(out, 6, &counts);
            put::packed_doubles(out, 7, &[0.5, 1.0]);
        });
        put::number(out, 2, 2);
    })
}

fn exponential() -> Vec<u8> {
    metric("size", "", 10, |out| {
        put::nested(out, 1, |out| {
            times(out);
            fixed(out, 4, 6);
            put::number(out, 6, put::zigzag(10));
            fixed(out, 7, 1);
            put::nested(out, 8, |out| {
                put::number(out, 1, put::zigzag(4));
                put::packed(out, 2, [1, 1, 1, 1, 1]);
            });
        });
        put::number(out, 2, 2);
    })
}

struct Set {
    sink: Arc<MemorySink>,
    receiver: Receiver,
}

impl Set {
    fn new(settings: OtlpSettings) -> Self {
        let sink = Arc::new(MemorySink::new());
        let clock = ManualClock::default();
        clock.set(NOW);
        let options = Options {
            clock: Arc::new(clock),
            ..Options::default()
        };
        let shared = Arc::clone(&sink) as Arc<dyn Sink>;
        let receiver = Receiver::new(shared, options, &Registry::new()).unwrap();
        receiver.set_otlp(settings);
        Self { sink, receiver }
    }

    async fn send(&self, body: Vec<u8>) -> (u16, String) {
        self.send_as("application/x-protobuf", body).await
    }

    async fn send_as(&self, kind: &str, body: Vec<u8>) -> (u16, String) {
        let request = Request::post("/otlp/v1/metrics")
            .header("content-type", kind)
            .body(Body::from(body))
            .unwrap();
        let answer = self.receiver.otlp().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(text.to_vec()).unwrap())
    }

    /// Series with their last value.
    fn floats(&self) -> Vec<String> {
        let series = self.sink.series();
        let line = |(labels, samples): (&model::Labels, &Vec<model::Sample>)| {
            format!("{labels} {}", samples.last().unwrap().value)
        };
        series.iter().map(line).collect()
    }
}

fn usual() -> OtlpSettings {
    OtlpSettings {
        sanitize_underscore: true,
        preserve_underscores: true,
        ..OtlpSettings::default()
    }
}

#[tokio::test]
async fn metrics_become_series() {
    let set = Set::new(usual());
    let body = request(&[counter(2), explicit(), exponential()]);
    assert_eq!(set.send(body.clone()).await, (200, String::new()));
    let mut floats = set.floats();
    floats.sort();
    assert_eq!(
        floats,
        [
            r#"http_requests_bytes_total{http_method="GET;x", instance="i-1", job="eu/shop"} 42"#,
            r#"latency_seconds_bucket{instance="i-1", job="eu/shop", le="+Inf"} 6"#,
            r#"latency_seconds_bucket{instance="i-1", job="eu/shop", le="0.5"} 1"#,
            r#"latency_seconds_bucket{instance="i-1", job="eu/shop", le="1"} 3"#,
            r#"latency_seconds_count{instance="i-1", job="eu/shop"} 6"#,
            r#"latency_seconds_sum{instance="i-1", job="eu/shop"} 9.5"#,
            r#"target_info{host_name="h", instance="i-1", job="eu/shop"} 1"#,
        ]
    );
    let stored = set.sink.stored();
    let native = stored.iter().find(|s| s.labels.name() == "size").unwrap();
    match &native.histograms[0].value {
        // Five buckets of scale 10 are two of schema 8.
        Histogram::Int(h) => {
            let all: Vec<_> = h.positive.iter().collect();
            assert_eq!((h.schema, h.count, h.zero_count), (8, 6, 1));
            assert_eq!(all, [(2, 4), (3, 1)]);
        }
        other => panic!("{other:?}"),
    }
    // The same again is no error.
    assert_eq!(set.send(body).await.0, 200);
}

/// What the protobuf above says.
const IN_JSON: &str = r#"{"resourceMetrics": [{
    "resource": {"attributes": [
        {"key": "service.name", "value": {"stringValue": "shop"}},
        {"key": "service.namespace", "value": {"stringValue": "eu"}},
        {"key": "service.instance.id", "value": {"stringValue": "i-1"}},
        {"key": "host.name", "value": {"stringValue": "h"}}]},
    "scopeMetrics": [{"scope": {"name": "lib"}, "metrics": [
        {"name": "http.requests", "unit": "By", "sum": {
            "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{
            "startTimeUnixNano": "1699999940000000000", "timeUnixNano": "1700000000000000000", "asInt": "42",
            "attributes": [{"key": "http.method", "value": {"stringValue": "GET"}},
                           {"key": "http_method", "value": {"stringValue": "x"}}]}]}},
        {"name": "latency", "unit": "s", "histogram": {
            "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "dataPoints": [{
            "startTimeUnixNano": "1699999940000000000", "timeUnixNano": 1700000000000000000, "count": "6",
            "sum": 9.5, "bucketCounts": ["1", "2", "3"], "explicitBounds": [0.5, 1]}]}},
        {"name": "size", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [{
            "startTimeUnixNano": "1699999940000000000", "timeUnixNano": "1700000000000000000", "count": 6,
            "scale": 10, "zeroCount": "1", "positive": {"offset": 4, "bucketCounts": ["1", "1", 1, 1, 1]}}]}}
    ]}]}]}"#;

#[tokio::test]
async fn json_says_what_protobuf_says() {
    let (one, other) = (Set::new(usual()), Set::new(usual()));
    let body = request(&[counter(2), explicit(), exponential()]);
    assert_eq!(one.send(body).await.0, 200);
    let kind = "application/json; charset=utf-8";
    let answer = other.send_as(kind, IN_JSON.into()).await;
    assert_eq!(answer, (200, String::new()));
    assert_eq!(one.floats(), other.floats());
    let histograms = |set: &Set| -> Vec<String> {
        let stored = set.sink.stored();
        let all = stored.iter().flat_map(|s| &s.histograms);
        all.map(|h| format!("{h:?}")).collect()
    };
    assert_eq!(histograms(&one).len(), 1);
    assert_eq!(
        histograms(&one)[0].split_once("ts:").map(|p| p.1),
        histograms(&other)[0].split_once("ts:").map(|p| p.1)
    );
    let (status, text) = other
        .send_as(kind, b"{\"resourceMetrics\": 1}".to_vec())
        .await;
    assert_eq!(status, 400);
    assert!(text.contains("resourceMetrics: 1 is not a list"), "{text}");
}

#[tokio::test]
async fn settings_change_names_labels_and_histograms() {
    let set = Set::new(OtlpSettings {
        strategy: Strategy::NoTranslation,
        promote: vec!["host.name".to_owned()],
        promote_scope: true,
        keep_identifying: true,
        convert_histograms: true,
        native_delta: true,
        ..usual()
    });
    let body = request(&[counter(1), explicit()]);
    assert_eq!(set.send(body).await.0, 200);
    let floats = set.floats();
    let of = |name: &str| floats.iter().find(|f| f.contains(name)).unwrap();
    let requests = of("http.requests");
    assert!(requests.contains(r#""host.name"="h""#), "{requests}");
    assert!(requests.contains(r#"otel_scope_name="lib""#), "{requests}");
    assert!(
        of("target_info").contains(r#""service.name"="shop""#),
        "{floats:?}"
    );
    let stored = set.sink.stored();
    let native = stored
        .iter()
        .find(|s| s.labels.name() == "latency")
        .unwrap();
    match &native.histograms[0].value {
        Histogram::Int(h) => assert_eq!(*h.custom_values, [0.5, 1.0]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_as_a_whole() {
    let set = Set::new(usual());
    let (status, text) = set.send(request(&[explicit(), counter(1)])).await;
    assert_eq!(status, 500);
    assert_eq!(
        text,
        "invalid temporality and type combination for metric \"http.requests\"\n"
    );
    assert!(set.floats().is_empty());
    let whole = request(&[counter(2), explicit(), exponential()]);
    for end in 1..whole.len() {
        let (status, _) = set.send(whole[..end].to_vec()).await;
        assert!(status == 200 || status == 400, "{status}");
    }
    let request = Request::post("/otlp/v1/metrics")
        .header("content-type", "text/plain")
        .body(Body::empty())
        .unwrap();
    let answer = set.receiver.otlp().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_that_are_refused_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let options = tsdb::Options {
        max_exemplars: 10,
        ..tsdb::Options::quiet()
    };
    let db = Arc::new(tsdb::Db::open(dir.path(), options).unwrap());
    let registry = Registry::new();
    let receiver = Receiver::new(Arc::clone(&db) as _, Options::default(), &registry).unwrap();
    let send = async |seconds: u64, exemplars: &[(u64, u64)]| {
        let counter = metric("c", "", 7, |out| {
            put::nested(out, 1, |out| {
                fixed(out, 3, seconds * 1_000_000_000);
                fixed(out, 6, seconds);
                for &(ts, value) in exemplars {
                    put::nested(out, 5, |out| {
                        fixed(out, 2, ts * 1_000_000_000);
                        fixed(out, 6, value);
                    });
                }
            });
            put::number(out, 2, 2);
            put::number(out, 3, 1);
        });
        let request = Request::post("/otlp/v1/metrics")
            .header("content-type", "application/x-protobuf")
            .body(Body::from(request(&[counter])))
            .unwrap();
        let answer = receiver.otlp().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    send(100, &[(90, 1)]).await;
    // The same again is none, two that are older are.
    send(110, &[(90, 1), (80, 2), (100, 3), (70, 4)]).await;
    let name = "prometheus_api_otlp_out_of_order_exemplars_total";
    let families = registry.gather();
    let mut text = Vec::new();
    metrics::encode(&families, metrics::Format::Text, &mut text);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(&format!("{name} 2\n")), "{text}");
}
