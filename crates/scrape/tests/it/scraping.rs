//! The manager against targets that run in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use chunk::memory::MemorySink;
use metrics::Registry;
use model::report::{Health, MetadataReport, MetricType, Targets};
use model::{Labels, Sample, Sink, is_stale};
use parking_lot::Mutex;
use scrape::config::{Global, ScrapeConfig};
use scrape::{Group, Manager, Options};
use tokio::net::TcpListener;

/// A target whose answer can be changed.
pub(crate) struct Exporter {
    pub(crate) address: String,
    answer: Arc<Mutex<(u16, &'static str, String)>>,
    asked: Arc<AtomicUsize>,
    headers: Arc<Mutex<HeaderMap>>,
}

const TEXT: &str = "text/plain; version=0.0.4";
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

impl Exporter {
    pub(crate) async fn start(body: &str) -> Self {
        let answer = Arc::new(Mutex::new((200, TEXT, body.to_owned())));
        let asked = Arc::new(AtomicUsize::new(0));
        let headers = Arc::new(Mutex::new(HeaderMap::new()));
        let (a, n, h) = (
            Arc::clone(&answer),
            Arc::clone(&asked),
            Arc::clone(&headers),
        );
        let app = Router::new().fallback(get(move |request_headers: HeaderMap| {
            n.fetch_add(1, Ordering::SeqCst);
            *h.lock() = request_headers;
            let (status, kind, body) = a.lock().clone();
            let body: Vec<u8> = match kind {
                PROTOBUF => body.chars().map(|c| c as u8).collect(),
                _ => body.into_bytes(),
            };
            async move {
                (
                    StatusCode::from_u16(status).unwrap(),
                    [("content-type", kind)],
                    body,
                )
                    .into_response()
            }
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            answer,
            asked,
            headers,
        }
    }

    pub(crate) fn answer(&self, status: u16, kind: &'static str, body: &str) {
        *self.answer.lock() = (status, kind, body.to_owned());
    }

    /// Waits for `more` scrapes to have been taken in.
    pub(crate) async fn scraped(&self, more: usize) {
        // One more than asked for: then those before are done.
        let until = self.asked.load(Ordering::SeqCst) + more + 1;
        for _ in 0..2_000 {
            if self.asked.load(Ordering::SeqCst) >= until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not scraped");
    }
}

/// An answer in protobuf, as text only the test's server can hold: one latin-1 character a byte.
const PROTOBUF: &str = "application/vnd.google.protobuf; \
     proto=io.prometheus.client.MetricFamily; encoding=delimited";

pub(crate) struct Set {
    pub(crate) sink: Arc<MemorySink>,
    pub(crate) manager: Manager,
}

impl Set {
    fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let sink = Arc::new(MemorySink::new());
        let shared: Arc<dyn Sink> = Arc::clone(&sink) as Arc<dyn Sink>;
        let manager = Manager::new(shared, &Registry::new(), options).unwrap();
        Self { sink, manager }
    }

    pub(crate) async fn job(&self, yaml: &str, addresses: &[&str]) {
        self.apply(yaml).await;
        self.targets(addresses).await;
    }

    async fn apply(&self, yaml: &str) {
        self.manager.apply(&[config(yaml)]).await.unwrap();
    }

    async fn targets(&self, addresses: &[&str]) {
        let group = Group {
            source: "test".into(),
            labels: Labels::default(),
            targets: addresses
                .iter()
                .map(|a| Labels::from_pairs([("__address__", *a)]))
                .collect(),
        };
        self.manager.sync("test", vec![Arc::new(group)]).await;
    }

    /// Samples by series, the instance left out.
    fn samples(&self) -> BTreeMap<String, Vec<Sample>> {
        let all = self.sink.series();
        all.into_iter()
            .map(|(labels, samples)| {
                let mut builder = labels.builder();
                builder.remove("instance").remove("job");
                (builder.build().to_string(), samples)
            })
            .collect()
    }

    fn values(&self, series: &str) -> Vec<f64> {
        let samples = self.samples();
        samples
            .get(series)
            .map(|s| s.iter().map(|s| s.value).collect())
            .unwrap_or_default()
    }

    fn last(&self, series: &str) -> Option<f64> {
        self.values(series).last().copied()
    }
}

fn config(yaml: &str) -> ScrapeConfig {
    let yaml = format!("{{job_name: test, scrape_interval: 50ms, scrape_timeout: 50ms, {yaml}}}");
    let mut config: ScrapeConfig = serde_saphyr::from_str(&yaml).unwrap();
    let mut global = Global::default();
    global.complete().unwrap();
    config.complete(&global).unwrap();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_reports_and_metadata() {
    let exporter = Exporter::start(
        "# HELP a what\n# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 2\nhisto_bucket{le=\"1\"} 3\n",
    )
    .await;
    let set = Set::new();
    set.job("", &[&exporter.address]).await;
    exporter.scraped(3).await;
    set.manager.stop().await;
    assert!(set.values(r#"a{x="2"}"#).len() >= 3);
    assert_eq!(set.last(r#"a{x="2"}"#), Some(2.0));
    assert_eq!(set.last("up"), Some(1.0));
    assert_eq!(set.last("scrape_samples_scraped"), Some(3.0));
    assert_eq!(set.last("scrape_samples_post_metric_relabeling"), Some(3.0));
    let added = set.values("scrape_series_added");
    assert_eq!((added[0], added.last()), (3.0, Some(&0.0)));
    assert!(
        set.last("scrape_duration_seconds")
            .is_some_and(|d| d > 0.0 && d < 1.0)
    );
    assert_eq!(
        set.sink.stale_markers(),
        0,
        "the process goes on where it was"
    );
    let sent = exporter.headers.lock().clone();
    assert!(
        sent["accept"]
            .to_str()
            .unwrap()
            .starts_with("application/openmetrics-text;version=1.0.0")
    );
    assert_eq!(sent["accept-encoding"], "gzip");
    assert_eq!(sent["x-prometheus-scrape-timeout-seconds"], "0.05");
    // Timestamps lie on a grid.
    let all = set.samples();
    let ts: Vec<i64> = all["up"].iter().map(|s| s.ts).collect();
    assert!(ts.windows(2).all(|w| w[1] > w[0]), "{ts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_while_running() {
    let exporter = Exporter::start("# HELP a what\n# TYPE a counter\na 1\n").await;
    let set = Set::new();
    let yaml = "relabel_configs: [{source_labels: [__address__], regex: 'gone:1', action: drop}]";
    set.job(yaml, &[&exporter.address, "gone:1", "127.0.0.1:1"])
        .await;
    let before = set.manager.targets();
    assert_eq!((before.active.len(), before.dropped.len()), (2, 1));
    exporter.scraped(2).await;
    let report = set.manager.targets();
    let by_url = |url: &str| {
        report
            .active
            .iter()
            .find(|t| t.scrape_url.contains(url))
            .unwrap()
    };
    let up = by_url(&exporter.address);
    assert_eq!((up.health, up.last_error.as_str()), (Health::Up, ""));
    assert_eq!((up.interval, up.timeout), (50, 50));
    let down = by_url("127.0.0.1:1/");
    assert_eq!(down.health, Health::Down);
    assert!(
        down.last_error.contains("onnection refused"),
        "{}",
        down.last_error
    );
    assert_eq!(&*report.dropped_counts[0].0, "test");
    assert_eq!(report.dropped_counts[0].1, 1);
    let metadata = set.manager.metadata(Some("a"));
    assert_eq!(metadata.len(), 1);
    assert_eq!(metadata[0].1[0].kind, MetricType::Counter);
    assert_eq!(&*metadata[0].1[0].help, "what");
    let of_targets = set.manager.target_metadata(
        &[model::Matcher::new(model::MatchOp::Equal, "job", "test").unwrap()],
        None,
    );
    assert_eq!(of_targets.len(), 1);
    assert_eq!(set.manager.metadata(Some("b")), []);
    set.manager.stop().await;
    assert_eq!(set.manager.targets().active.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanishes_is_marked_stale() {
    let exporter = Exporter::start("a 1\nb 2\n").await;
    let set = Set::new();
    set.job("", &[&exporter.address]).await;
    exporter.scraped(2).await;
    exporter.answer(200, TEXT, "b 2\nc 3\n");
    exporter.scraped(2).await;
    assert!(set.last("a").is_some_and(is_stale));
    assert_eq!((set.last("b"), set.last("c")), (Some(2.0), Some(3.0)));
    // A failed scrape ends all series but the reports.
    exporter.answer(500, TEXT, "");
    exporter.scraped(2).await;
    assert!(set.last("b").is_some_and(is_stale) && set.last("c").is_some_and(is_stale));
    assert_eq!(set.last("up"), Some(0.0));
    let markers = set.sink.stale_markers();
    let error = set.manager.targets().active[0].last_error.clone();
    assert_eq!(
        error,
        "server returned HTTP status 500 Internal Server Error"
    );
    exporter.scraped(2).await;
    assert_eq!(set.sink.stale_markers(), markers, "marked once");
    exporter.answer(200, TEXT, "a 4\nb 5\n");
    exporter.scraped(2).await;
    assert_eq!(
        (set.last("a"), set.last("b"), set.last("up")),
        (Some(4.0), Some(5.0), Some(1.0))
    );
    set.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_is_marked_after_two_intervals_unless_it_comes_back() {
    let exporter = Exporter::start("a 1\n").await;
    let set = Set::new();
    set.job("", &[&exporter.address]).await;
    exporter.scraped(2).await;
    set.targets(&[]).await;
    set.targets(&[&exporter.address]).await;
    exporter.scraped(4).await;
    assert_eq!(set.sink.stale_markers(), 0);
    set.targets(&[]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(set.last("a").is_some_and(is_stale) && set.last("up").is_some_and(is_stale));
    // A job that goes is marked in the same way.
    set.targets(&[&exporter.address]).await;
    exporter.scraped(2).await;
    assert_eq!(set.last("a"), Some(1.0));
    set.manager.apply(&[]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(set.last("a").is_some_and(is_stale));
    set.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relabelling_honoring_and_timestamps() {
    let exporter =
        Exporter::start("a{job=\"mine\"} 1\nb 2 1000\ndrop_me 3\ndrop_me 3 1000\n").await;
    let set = Set::new();
    let drop =
        "metric_relabel_configs: [{source_labels: [__name__], regex: 'drop.*', action: drop}]";
    set.job(
        &format!("honor_timestamps: false, {drop}"),
        &[&exporter.address],
    )
    .await;
    exporter.scraped(3).await;
    assert!(set.samples().contains_key(r#"a{exported_job="mine"}"#));
    assert!(!set.samples().contains_key("drop_me"));
    assert!(set.samples()["b"].iter().all(|s| s.ts > 1_000));
    assert_eq!(set.last("scrape_samples_scraped"), Some(4.0));
    assert_eq!(set.last("scrape_samples_post_metric_relabeling"), Some(2.0));
    // The target goes on under other settings: what they do not make any more has ended.
    set.apply("honor_labels: true").await;
    exporter.scraped(3).await;
    assert!(set.last(r#"a{exported_job="mine"}"#).is_some_and(is_stale));
    let kept = set
        .sink
        .series()
        .into_keys()
        .any(|l| l.name() == "a" && l.get("job") == Some("mine"));
    assert!(kept);
    assert_eq!(set.last("drop_me"), Some(3.0));
    set.manager.stop().await;

    let set = Set::new();
    exporter.answer(200, TEXT, &format!("b 2 1000\nc 3 {}\n", i64::MAX / 2));
    set.job("", &[&exporter.address]).await;
    exporter.scraped(3).await;
    assert_eq!(
        set.samples()["b"],
        [Sample {
            ts: 1_000,
            value: 2.0
        }]
    );
    assert!(!set.samples().contains_key("c"), "far in the future");
    exporter.answer(200, TEXT, "c 3\n");
    exporter.scraped(2).await;
    assert_eq!(
        set.sink.stale_markers(),
        0,
        "explicit timestamps are not tracked"
    );
    set.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_fail_the_whole_scrape() {
    for (yaml, error) in [
        ("sample_limit: 2", "sample limit exceeded"),
        ("body_size_limit: 10B", "body size limit exceeded"),
        (
            "label_limit: 3",
            "label_limit exceeded (metric: c, number of labels: 5, limit: 3)",
        ),
        (
            "label_value_length_limit: 18",
            "label_value_length_limit exceeded",
        ),
        (
            "target_limit: 1",
            "target_limit exceeded (number of targets: 2, limit: 1)",
        ),
        (
            "metric_name_validation_scheme: legacy",
            "invalid metric name or label names",
        ),
    ] {
        let exporter = Exporter::start("a 1\nb 2\n").await;
        let set = Set::new();
        set.job(
            &format!("extra_scrape_metrics: true, {yaml}"),
            &[&exporter.address],
        )
        .await;
        if !yaml.starts_with("body") {
            exporter.scraped(2).await;
            assert_eq!(set.last("a"), Some(1.0), "{yaml}");
        }
        exporter.answer(
            200,
            TEXT,
            "a 1\nb 2\nc{x=\"12345678901234567890\",y=\"2\"} 3\n{\"d.e\"} 4\n",
        );
        if yaml.starts_with("target") {
            set.targets(&[&exporter.address, "127.0.0.1:1"]).await;
            tokio::time::sleep(Duration::from_millis(250)).await;
        } else {
            exporter.scraped(2).await;
        }
        let report = set.manager.targets();
        assert!(
            report.active[0].last_error.starts_with(error),
            "{}",
            report.active[0].last_error
        );
        assert_eq!(set.last("up"), Some(0.0), "{yaml}");
        assert_eq!(set.last("c"), None, "{yaml}: nothing of it is stored");
        assert!(set.last("a").is_none_or(is_stale), "{yaml}");
        if yaml.starts_with("sample") {
            assert_eq!(set.last("scrape_samples_scraped"), Some(4.0));
            assert_eq!(set.last("scrape_samples_post_metric_relabeling"), Some(4.0));
            assert_eq!(set.last("scrape_sample_limit"), Some(2.0));
        }
        let size = if yaml.starts_with("body") {
            Some(-1.0)
        } else {
            set.last("scrape_body_size_bytes")
        };
        assert_eq!(set.last("scrape_body_size_bytes"), size);
        set.manager.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_references_are_resolved_again() {
    let exporter = Exporter::start("a 1\nb 2\n").await;
    let set = Set::new();
    set.job("", &[&exporter.address]).await;
    exporter.scraped(2).await;
    set.sink.expire();
    exporter.answer(200, TEXT, "a 5\n");
    exporter.scraped(3).await;
    assert_eq!((set.last("a"), set.last("up")), (Some(5.0), Some(1.0)));
    set.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openmetrics_and_answers_that_do_not_say_what_they_are() {
    let exporter = Exporter::start("").await;
    exporter.answer(200, OPENMETRICS, "# TYPE a counter\na_total 1\n# EOF\n");
    let set = Set::new();
    set.job("", &[&exporter.address]).await;
    exporter.scraped(2).await;
    assert_eq!(set.last("a_total"), Some(1.0));
    exporter.answer(200, OPENMETRICS, "a_total 1\n");
    exporter.scraped(2).await;
    let error = |set: &Set| set.manager.targets().active[0].last_error.clone();
    assert!(error(&set).contains("data does not end with # EOF"));
    exporter.answer(200, "text/html", "a_total 2\n");
    exporter.scraped(2).await;
    assert!(
        error(&set).contains("received unsupported Content-Type"),
        "{}",
        error(&set)
    );
    set.apply("fallback_scrape_protocol: PrometheusText0.0.4")
        .await;
    exporter.scraped(2).await;
    assert_eq!(set.last("a_total"), Some(2.0));
    set.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn big_bodies_are_read_compressed() {
    use std::fmt::Write as _;
    let mut body = String::new();
    for i in 0..5_000 {
        let _ = writeln!(
            body,
            "metric_{}{{number=\"{i}\",text=\"some text to be long\"}} {i}",
            i % 50
        );
    }
    let app = Router::new()
        .route(
            "/metrics",
            get(move || async move { ([("content-type", TEXT)], body) }),
        )
        .layer(tower_http::compression::CompressionLayer::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let set = Set::new();
    let yaml = "extra_scrape_metrics: true";
    set.manager
        .apply(&[{
            let mut config = config(yaml);
            config.scrape_interval.0 = 500;
            config.scrape_timeout.0 = 500;
            config
        }])
        .await
        .unwrap();
    set.targets(&[&address]).await;
    for _ in 0..100 {
        if set.values("up").len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    set.manager.stop().await;
    assert_eq!(set.last("scrape_samples_scraped"), Some(5000.0));
    assert_eq!(
        set.last(r#"metric_49{number="4999", text="some text to be long"}"#),
        Some(4999.0)
    );
    assert!(
        set.last("scrape_body_size_bytes")
            .is_some_and(|b| b > 250_000.0)
    );
    assert_eq!(set.values("scrape_series_added").last(), Some(&0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_set_up_changes_nothing() {
    let exporter = Exporter::start("a 1\n").await;
    let set = Set::new();
    set.job("", &[&exporter.address]).await;
    let bad = config("tls_config: {ca_ref: a}");
    let error = set
        .manager
        .apply(std::slice::from_ref(&bad))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "job \"test\": not supported in this version: tls_config.ca_ref"
    );
    exporter.scraped(2).await;
    assert_eq!(set.last("up"), Some(1.0));
    set.manager.stop().await;
    let lenient = Set::with(Options {
        allow_unsupported: true,
        ..Options::default()
    });
    lenient.manager.apply(&[bad]).await.unwrap();
    assert!(lenient.manager.jobs().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_owned_targets_are_scraped() {
    struct Nothing;
    impl model::owner::Owner for Nothing {
        fn owns(&self, _: u64, _: i64) -> bool {
            false
        }
        fn generation(&self) -> u64 {
            0
        }
    }
    let exporter = Exporter::start("a 1\n").await;
    let set = Set::with(Options {
        owner: Arc::new(Nothing),
        ..Options::default()
    });
    set.job("", &[&exporter.address]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(exporter.asked.load(Ordering::SeqCst), 0);
    set.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_node_exporter() {
    let Some(program) = ["prometheus-node-exporter", "node_exporter"]
        .into_iter()
        .find(|p| {
            std::process::Command::new(p)
                .arg("--version")
                .output()
                .is_ok()
        })
    else {
        println!("SKIPPED: no node_exporter on PATH");
        return;
    };
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let address = format!("127.0.0.1:{port}");
    let mut child = std::process::Command::new(program)
        .arg(format!("--web.listen-address={address}"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let set = Set::new();
    let mut config = config("");
    config.scrape_interval.0 = 1_000;
    config.scrape_timeout.0 = 1_000;
    set.manager.apply(&[config]).await.unwrap();
    set.targets(&[&address]).await;
    for _ in 0..200 {
        if set.values("up").iter().filter(|v| **v == 1.0).count() >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let _ = child.kill();
    let _ = child.wait();
    set.manager.stop().await;
    assert!(
        set.last("scrape_samples_scraped")
            .is_some_and(|n| n > 100.0)
    );
    assert!(set.last("node_load1").is_some());
    let metadata = set.manager.metadata(Some("node_load1"));
    assert!(metadata.is_empty(), "stopped managers know no targets");
    println!("{} series of a real node_exporter", set.samples().len());
}

fn histogram_body(count: u64) -> String {
    use prost::Message as _;
    use wire::proto::io::prometheus::client as pb;
    let family = pb::MetricFamily {
        name: Some("h".into()),
        r#type: Some(pb::MetricType::Histogram as i32),
        metric: vec![pb::Metric {
            histogram: Some(pb::Histogram {
                sample_count: Some(2 * count),
                sample_sum: Some(1.0),
                schema: Some(8),
                positive_span: vec![pb::BucketSpan {
                    offset: Some(1),
                    length: Some(2),
                }],
                positive_delta: vec![count as i64, 0],
                bucket: vec![pb::Bucket {
                    cumulative_count: Some(count),
                    upper_bound: Some(1.0),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    };
    family
        .encode_length_delimited_to_vec()
        .into_iter()
        .map(char::from)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_come_in_protobuf() {
    let exporter = Exporter::start("").await;
    exporter.answer(200, PROTOBUF, &histogram_body(3));
    let set = Set::new();
    set.job(
        "scrape_native_histograms: true, always_scrape_classic_histograms: true, \
         native_histogram_min_bucket_factor: 2",
        &[&exporter.address],
    )
    .await;
    exporter.scraped(2).await;
    let accept = exporter.headers.lock()["accept"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        accept.starts_with("application/vnd.google.protobuf;"),
        "{accept}"
    );
    // The sink loses its references: histograms are resolved again too.
    set.sink.expire();
    exporter.scraped(2).await;
    assert_eq!(set.last("up"), Some(1.0));
    assert_eq!(set.last("h_count"), Some(6.0));
    assert_eq!(set.last(r#"h_bucket{le="1.0"}"#), Some(3.0));
    let of = |name: &str| {
        let mut rows = Vec::new();
        for series in set.sink.stored() {
            if series.labels.name() == name {
                rows = series.histograms.clone();
            }
        }
        rows
    };
    let rows = of("h");
    assert!(rows.len() >= 3, "{rows:?}");
    match &rows.last().unwrap().value {
        model::histogram::Histogram::Int(h) => assert_eq!((h.schema, h.count), (0, 6)),
        other => panic!("{other:?}"),
    }
    // Gone, and marked.
    exporter.answer(200, TEXT, "other 1\n");
    exporter.scraped(2).await;
    set.manager.stop().await;
    assert!(set.sink.stale_markers() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_histograms_are_converted() {
    let exporter = Exporter::start(
        "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 2\nh_bucket{le=\"+Inf\",a=\"1\"} 5\n\
         h_sum{a=\"1\"} 7\nh_count{a=\"1\"} 5\nh_bucket{a=\"2\",le=\"+Inf\"} 1\n\
         # TYPE other counter\nother 4\n",
    )
    .await;
    let set = Set::new();
    set.job(
        "convert_classic_histograms_to_nhcb: true",
        &[&exporter.address],
    )
    .await;
    exporter.scraped(3).await;
    set.manager.stop().await;
    assert_eq!(set.last("other"), Some(4.0));
    let names: Vec<String> = set.samples().into_keys().collect();
    assert!(!names.iter().any(|n| n.starts_with("h_")), "{names:?}");
    let histograms: Vec<_> = set
        .sink
        .stored()
        .into_iter()
        .filter(|s| !s.histograms.is_empty())
        .map(|s| {
            (
                s.labels.get("a").unwrap().to_owned(),
                s.histograms[0].value.clone(),
            )
        })
        .collect();
    assert_eq!(histograms.len(), 2);
    match &histograms[0].1 {
        model::histogram::Histogram::Int(h) => {
            assert_eq!((h.schema, h.count, h.sum), (-53, 5, 7.0));
            assert_eq!(*h.custom_values, [1.0]);
        }
        other => panic!("{other:?}"),
    }
    // The report counts what was shown.
    assert_eq!(set.last("scrape_samples_scraped"), Some(3.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_beyond_the_limit_are_made_coarser() {
    let exporter = Exporter::start("").await;
    exporter.answer(200, PROTOBUF, &histogram_body(3));
    let set = Set::new();
    set.job(
        "scrape_native_histograms: true, native_histogram_bucket_limit: 1",
        &[&exporter.address],
    )
    .await;
    exporter.scraped(2).await;
    // Two buckets next to each other fall together when the resolution is lowered.
    assert_eq!(set.last("up"), Some(1.0));
    set.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_scrapes_are_logged_to_a_file() {
    let exporter = Exporter::start("").await;
    exporter.answer(500, TEXT, "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("failures.log");
    let set = Set::new();
    set.job(
        &format!("scrape_failure_log_file: {}", file.display()),
        &[&exporter.address],
    )
    .await;
    exporter.scraped(2).await;
    set.manager.stop().await;
    let text = std::fs::read_to_string(&file).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["msg"].as_str().unwrap().contains("500"), "{line}");
    assert!(line["target"].as_str().unwrap().contains(&exporter.address));
}
