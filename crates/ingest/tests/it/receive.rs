//! Remote write 1.x and 2.0 into a sink, over HTTP without a network.

use std::sync::Arc;

use axum::body::Body;
use chunk::memory::MemorySink;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use ingest::Receiver;
use ingest::receive::{Message, Options};
use metrics::Registry;
use model::time::ManualClock;
use model::{Labels, Sink};
use prost::Message as _;
use tower::ServiceExt as _;
use wire::proto::io::prometheus::write::v2;
use wire::proto::prometheus as v1;

const NOW: i64 = 1_700_000_000_000;
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

struct Set {
    sink: Arc<MemorySink>,
    receiver: Receiver,
}

impl Set {
    fn new() -> Self {
        let sink = Arc::new(MemorySink::new());
        let clock = ManualClock::default();
        clock.set(NOW);
        let options = Options {
            accepted: vec![Message::V1, Message::V2],
            metadata: true,
            clock: Arc::new(clock),
            ..Options::default()
        };
        let shared = Arc::clone(&sink) as Arc<dyn Sink>;
        let receiver = Receiver::new(shared, options, &Registry::new()).unwrap();
        Self { sink, receiver }
    }

    async fn send(&self, kind: &str, plain: &[u8]) -> (u16, String, Response<()>) {
        let body = snap::raw::Encoder::new().compress_vec(plain).unwrap();
        let request = Request::post("/write")
            .header("content-type", kind)
            .header("content-encoding", "snappy")
            .body(Body::from(body))
            .unwrap();
        let response = self.receiver.remote_write().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (
            parts.status.as_u16(),
            String::from_utf8(text.to_vec()).unwrap(),
            Response::from_parts(parts, ()),
        )
    }

    async fn v1(&self, request: &v1::WriteRequest) -> (u16, String) {
        let kind = "application/x-protobuf";
        let (status, text, _) = self.send(kind, &request.encode_to_vec()).await;
        (status, text)
    }

    fn values(&self, pairs: &[(&str, &str)]) -> Vec<(i64, f64)> {
        let samples = self
            .sink
            .samples(&Labels::from_pairs(pairs.iter().copied()));
        samples.iter().map(|s| (s.ts, s.value)).collect()
    }
}

fn series(pairs: &[(&str, &str)], samples: &[(i64, f64)]) -> v1::TimeSeries {
    v1::TimeSeries {
        labels: pairs
            .iter()
            .map(|(name, value)| v1::Label {
                name: (*name).into(),
                value: (*value).into(),
            })
            .collect(),
        samples: samples
            .iter()
            .map(|(timestamp, value)| v1::Sample {
                timestamp: *timestamp,
                value: *value,
            })
            .collect(),
        ..Default::default()
    }
}

fn of(timeseries: Vec<v1::TimeSeries>) -> v1::WriteRequest {
    v1::WriteRequest {
        timeseries,
        ..Default::default()
    }
}

const UP: &[(&str, &str)] = &[("__name__", "up"), ("job", "a")];

#[tokio::test]
async fn version_1_is_taken_as_a_whole_or_not_at_all() {
    let set = Set::new();
    let request = of(vec![
        series(UP, &[(NOW, 1.0), (NOW + 1, 2.0)]),
        // Labels that are none cost their series only.
        series(&[("job", "nameless")], &[(NOW, 1.0)]),
        series(
            &[("__name__", "twice"), ("a", "1"), ("a", "2")],
            &[(NOW, 1.0)],
        ),
        // Not sorted, but labels.
        series(&[("z", "1"), ("__name__", "b")], &[(NOW, 3.0)]),
    ]);
    assert_eq!(set.v1(&request).await, (204, String::new()));
    assert_eq!(set.values(UP), [(NOW, 1.0), (NOW + 1, 2.0)]);
    assert_eq!(set.values(&[("__name__", "b"), ("z", "1")]), [(NOW, 3.0)]);
    assert_eq!(set.sink.series().len(), 2);
    // The same series again, known by its key; and after all references have expired.
    let next = of(vec![series(UP, &[(NOW + 2, 3.0)])]);
    assert_eq!(set.v1(&next).await.0, 204);
    set.sink.expire();
    let next = of(vec![series(UP, &[(NOW + 3, 4.0)])]);
    assert_eq!(set.v1(&next).await.0, 204);
    assert_eq!(set.values(UP).len(), 4);
    // One sample that cannot be taken, and nothing is.
    let request = of(vec![
        series(&[("__name__", "new")], &[(NOW, 1.0)]),
        series(UP, &[(NOW, 9.0)]),
    ]);
    let (status, text) = set.v1(&request).await;
    assert_eq!((status, text.as_str()), (400, "out of order sample\n"));
    assert_eq!(set.values(&[("__name__", "new")]), []);
    let far = of(vec![series(UP, &[(NOW + 3_600_000, 9.0)])]);
    let (status, text) = set.v1(&far).await;
    assert_eq!(status, 400);
    assert!(text.contains("too far in the future"), "{text}");
}

#[tokio::test]
async fn histograms_and_exemplars_of_version_1() {
    let set = Set::new();
    let mut with = series(&[("__name__", "h")], &[]);
    with.histograms.push(v1::Histogram {
        count: Some(v1::histogram::Count::CountInt(3)),
        sum: 1.5,
        schema: 1,
        positive_spans: vec![v1::BucketSpan {
            offset: 0,
            length: 2,
        }],
        positive_deltas: vec![1, 1],
        timestamp: NOW,
        ..Default::default()
    });
    let mut counted = series(UP, &[(NOW, 1.0)]);
    counted.exemplars.push(v1::Exemplar {
        labels: vec![v1::Label {
            name: "id".into(),
            value: "x".into(),
        }],
        value: 1.0,
        timestamp: NOW,
    });
    assert_eq!(set.v1(&of(vec![with.clone(), counted])).await.0, 204);
    let rows = set
        .sink
        .histograms(&Labels::from_pairs([("__name__", "h")]));
    assert_eq!((rows.len(), rows[0].value.sum()), (1, 1.5));
    assert_eq!(set.sink.extras().0, 1);
    with.histograms[0].count = Some(v1::histogram::Count::CountInt(4));
    let (status, text) = set.v1(&of(vec![with])).await;
    assert_eq!(status, 400);
    assert!(text.contains("3 observations found in buckets"), "{text}");
}

#[tokio::test]
async fn of_version_2_what_can_be_taken_is() {
    let set = Set::new();
    let symbols = [
        "", "__name__", "up", "job", "a", "help", "seconds", "id", "x",
    ];
    let sample = |timestamp, value| v2::Sample {
        value,
        timestamp,
        start_timestamp: NOW - 500,
    };
    let request = |timeseries| v2::Request {
        symbols: symbols.map(String::from).to_vec(),
        timeseries,
    };
    let up = v2::TimeSeries {
        labels_refs: vec![1, 2, 3, 4],
        samples: vec![sample(NOW, 1.0)],
        exemplars: vec![v2::Exemplar {
            labels_refs: vec![7, 8],
            value: 1.0,
            timestamp: NOW,
        }],
        metadata: Some(v2::Metadata {
            r#type: v2::metadata::MetricType::Counter as i32,
            help_ref: 5,
            unit_ref: 6,
        }),
        histograms: Vec::new(),
    };
    let (status, text, response) = set
        .send(V2, &request(vec![up.clone()]).encode_to_vec())
        .await;
    assert_eq!((status, text.as_str()), (204, ""));
    let written = |response: &Response<()>, what: &str| {
        let name = format!("x-prometheus-remote-write-{what}-written");
        response.headers()[name.as_str()]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        ["samples", "histograms", "exemplars"].map(|w| written(&response, w)),
        ["1", "0", "1"]
    );
    assert_eq!(set.sink.extras(), (1, 1));
    assert_eq!(set.values(UP), [(NOW, 1.0)]);
    let other = v2::TimeSeries {
        samples: vec![sample(NOW - 5, 5.0), sample(NOW + 5, 6.0)],
        exemplars: Vec::new(),
        ..up.clone()
    };
    let nowhere = v2::TimeSeries {
        labels_refs: vec![1, 99],
        ..other.clone()
    };
    let nameless = v2::TimeSeries {
        labels_refs: vec![3, 4],
        ..other.clone()
    };
    let empty = v2::TimeSeries {
        samples: Vec::new(),
        ..other.clone()
    };
    let all = request(vec![nowhere, nameless, empty, other]);
    let (status, text, response) = set.send(V2, &all.encode_to_vec()).await;
    assert_eq!(status, 400);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "parsing labels for series: a reference points outside the message",
            r#"invalid metric name or labels, got {job="a"}"#,
            r#"TimeSeries must contain at least one sample or histogram for series up{job="a"}"#,
            r#"out of order sample for series up{job="a"}"#,
        ]
    );
    assert_eq!(written(&response, "samples"), "1");
    assert_eq!(set.values(UP), [(NOW, 1.0), (NOW + 5, 6.0)]);
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let set = Set::new();
    let request = Request::post("/write")
        .body(Body::from("no snappy"))
        .unwrap();
    let response = set.receiver.remote_write().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 400);
    for kind in ["application/x-protobuf", V2] {
        let (status, text, _) = set.send(kind, &[0x2a, 0x7f, 1]).await;
        assert_eq!(status, 400, "{kind}: {text}");
    }
    // A length that nobody can mean.
    let request = Request::post("/write")
        .body(Body::from(vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]))
        .unwrap();
    let response = set.receiver.remote_write().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 413);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn hostile_requests_are_answered(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let set = Set::new();
            for (kind, field) in [("application/x-protobuf", 0x0a), (V2, 0x2a)] {
                let framed = [&[field, bytes.len() as u8], bytes.as_slice()].concat();
                set.send(kind, &framed).await;
            }
        });
    }
}
