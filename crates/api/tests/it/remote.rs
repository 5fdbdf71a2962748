//! Remote read and federation.

use std::sync::Arc;

use api::{Options, ReadLimits};
use axum::body::Body;
use chunk::memory::{MemorySource, StoredSeries};
use chunk::{Columns, HistogramRow};
use http::Request;
use http_body_util::BodyExt as _;
use model::histogram::{Histogram, IntBuckets, IntHistogram, Span};
use model::{Labels, Sample};
use prost::Message as _;
use tower::ServiceExt as _;
use wire::proto::prometheus as pb;

use crate::fakes::{labels, options};

const NOW: i64 = 1_700_000_000_000;

fn source() -> MemorySource {
    let samples = |from: i64, n: i64| -> Vec<Sample> {
        let at = |i| Sample {
            ts: NOW - from + i * 1000,
            value: i as f64 / 2.0,
        };
        (0..n).map(at).collect()
    };
    let histogram = HistogramRow {
        ts: NOW - 1000,
        start: 0,
        value: Histogram::Int(IntHistogram {
            count: 3,
            sum: 1.5,
            positive: IntBuckets {
                spans: vec![Span {
                    offset: 0,
                    length: 2,
                }],
                deltas: vec![1, 1],
            },
            ..IntHistogram::default()
        }),
    };
    let mut stale = samples(20_000, 5);
    stale.push(Sample {
        ts: NOW - 1000,
        value: model::STALE_NAN,
    });
    MemorySource::with_histograms(vec![
        StoredSeries::floats(
            labels(&[("__name__", "b"), ("job", "x")]),
            samples(300_000, 300),
        ),
        StoredSeries::floats(
            labels(&[("__name__", "a.b"), ("from", "there"), ("q", "\"\\\n")]),
            samples(10_000, 5),
        ),
        StoredSeries::floats(labels(&[("__name__", "gone")]), stale),
        StoredSeries::histograms(labels(&[("__name__", "h")]), vec![histogram]),
    ])
}

fn app(read: ReadLimits) -> axum::Router {
    let clock = model::time::ManualClock::default();
    clock.set(NOW);
    api::router(Options {
        source: Some(Arc::new(source())),
        external_labels: Arc::new(|| Labels::from_pairs([("from", "here")])),
        clock: Arc::new(clock),
        read,
        ..options()
    })
}

fn read_request(streamed: bool, name: &str) -> pb::ReadRequest {
    let matcher = |name: &str, value: &str| pb::LabelMatcher {
        r#type: 2,
        name: name.into(),
        value: value.into(),
    };
    let mut ours = matcher("from", "here");
    ours.r#type = 0;
    pb::ReadRequest {
        queries: vec![pb::Query {
            start_timestamp_ms: NOW - 200_000,
            end_timestamp_ms: NOW,
            // That it is ours is known.
            matchers: vec![matcher("__name__", name), ours],
            hints: None,
        }],
        accepted_response_types: vec![i32::from(streamed)],
    }
}

async fn ask(app: axum::Router, message: &pb::ReadRequest) -> (u16, String, Vec<u8>) {
    let body = wire::remote::encode(message).unwrap();
    let request = Request::post("/api/v1/read")
        .body(Body::from(body))
        .unwrap();
    let answer = app.oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, kind, bytes.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_read_remotely() {
    let limits = ReadLimits::default();
    let (status, kind, body) = ask(app(limits), &read_request(false, "b|h")).await;
    assert_eq!((status, kind.as_str()), (200, "application/x-protobuf"));
    let answer: pb::ReadResponse = wire::remote::decode(&body, 1 << 20).unwrap();
    let series = &answer.results[0].timeseries;
    assert_eq!(series.len(), 2);
    let text = |s: &pb::TimeSeries| wire::convert::remote_labels(&s.labels).to_string();
    assert_eq!(text(&series[0]), r#"b{from="here", job="x"}"#);
    assert_eq!(series[0].samples.len(), 200);
    assert_eq!(series[0].samples[0].timestamp, NOW - 200_000);
    assert_eq!(series[1].histograms[0].timestamp, NOW - 1000);
    let few = ReadLimits {
        samples: 100,
        ..ReadLimits::default()
    };
    let (status, _, body) = ask(app(few), &read_request(false, "b|h")).await;
    assert_eq!(
        (status, String::from_utf8_lossy(&body).trim()),
        (400, "exceeded sample limit (100)")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_read_in_frames() {
    let limits = ReadLimits {
        frame_bytes: 200,
        ..ReadLimits::default()
    };
    let (status, kind, body) = ask(app(limits), &read_request(true, ".+")).await;
    assert_eq!(status, 200);
    assert_eq!(
        kind,
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    );
    let mut rest = wire::fields::Fields::new(&body);
    let (mut frames, mut counted) = (0, std::collections::BTreeMap::<String, usize>::new());
    while !rest.rest().is_empty() {
        let len = rest.varint().unwrap();
        let crc = u32::from_be_bytes(rest.take(4).unwrap().try_into().unwrap());
        let message = rest.take(len).unwrap();
        assert_eq!(crc32c::crc32c(message), crc);
        frames += 1;
        let message = pb::ChunkedReadResponse::decode(message).unwrap();
        for series in message.chunked_series {
            let labels = wire::convert::remote_labels(&series.labels);
            for chunk in series.chunks {
                let mut columns = Columns::default();
                let encoding = model::Encoding(chunk.r#type as u8);
                chunk::decode(encoding, &chunk.data, &mut columns).unwrap();
                let n = columns.len() + columns.histograms.len();
                *counted.entry(labels.to_string()).or_default() += n;
            }
        }
    }
    assert!(frames >= 4, "{frames}");
    assert_eq!(counted[r#"h{from="here"}"#], 1);
    // Its own label stays, though the question was for ours.
    assert!(counted.keys().any(|k| k.contains("there")), "{counted:?}");
}

async fn federate(query: &str, accept: &str) -> (u16, String, Vec<u8>) {
    let request = Request::get(format!("/federate?{query}"))
        .header("accept", accept)
        .body(Body::empty())
        .unwrap();
    let answer = app(ReadLimits::default()).oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, kind, bytes.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_samples_are_federated() {
    // Two selectors, one series each only once.
    let query = "match[]=%7B__name__%3D~%22.%2B%22%7D&match[]=b";
    for (accept, escaping, name, begin) in [
        ("text/plain", "underscores", "a_b", "a_b{"),
        (
            "text/plain;escaping=values",
            "values",
            "U__a_2e_b",
            "U__a_2e_b{",
        ),
        (
            "*/*;escaping=allow-utf-8",
            "allow-utf-8",
            "\"a.b\"",
            "{\"a.b\",",
        ),
    ] {
        let (status, kind, body) = federate(query, accept).await;
        assert_eq!(status, 200);
        assert_eq!(
            kind,
            format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}")
        );
        let expected = format!(
            "# TYPE {name} untyped\n\
             {begin}from=\"there\",q=\"\\\"\\\\\\n\",instance=\"\"}} 2 1699999994000\n\
             # TYPE b untyped\n\
             b{{job=\"x\",from=\"here\",instance=\"\"}} 149.5 1699999999000\n"
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }
    let (status, _, body) = federate("match[]=%7B%7D", "").await;
    assert_eq!((status, body.len()), (200, 0));
    let (status, _, body) = federate("match[]=%7Bnone=%22%22%7D", "").await;
    assert!(status == 200 && !body.is_empty());
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.9,text/plain;q=0.5";
    let (_, kind, body) = federate("match[]=h", accept).await;
    assert!(
        kind.starts_with("application/vnd.google.protobuf"),
        "{kind}"
    );
    let family =
        wire::proto::io::prometheus::client::MetricFamily::decode_length_delimited(body.as_slice())
            .unwrap();
    let histogram = family.metric[0].histogram.as_ref().unwrap();
    assert_eq!(histogram.sample_count_float, Some(3.0));
    assert_eq!(histogram.positive_count, [1.0, 2.0]);
    let (status, ..) = federate("match[]=%7B", "").await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_off_says_so() {
    for (path, flag) in [
        ("/api/v1/write", "--web.enable-remote-write-receiver"),
        ("/api/v1/otlp/v1/metrics", "--web.enable-otlp-receiver"),
    ] {
        let request = Request::post(path).body(Body::empty()).unwrap();
        let answer = app(ReadLimits::default()).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 404);
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains(flag));
    }
    let agent = api::router(Options {
        agent: true,
        ..options()
    });
    let request = Request::get("/api/v1/query?query=1")
        .body(Body::empty())
        .unwrap();
    let answer = agent.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 422);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("unavailable with Prometheus Agent"));
}
