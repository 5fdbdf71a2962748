//! Samples that move between servers: remote write both ways, remote read, federation, protobuf.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::routing::get;
use serde_json::Value;

use crate::peers::prometheus3;
use crate::process::{Process, available, free_port};

/// An exporter of counters that move on with every scrape.
pub async fn counting() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let scrapes = Arc::new(AtomicU64::new(0));
    let answer = move || {
        let n = scrapes.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut body =
                String::from("# HELP counted_total Scrapes.\n# TYPE counted_total counter\n");
            for series in 0..20 {
                body.push_str(&format!(
                    "counted_total{{series=\"{series}\"}} {}\n",
                    n * 20 + series
                ));
            }
            body
        }
    };
    let router = axum::Router::new().route("/metrics", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// The numbers of the scrapes of which `query` finds a sample: its first counter, whole.
pub async fn numbers(server: &Process, query: &str) -> BTreeSet<u64> {
    let answer = server.get("/api/v1/query", &[("query", query)]).await;
    let values = answer["data"]["result"][0]["values"].as_array().cloned();
    let number = |v: &Value| v[1].as_str()?.parse::<f64>().ok();
    let values = values.unwrap_or_default();
    values
        .iter()
        .filter_map(number)
        .map(|v| v as u64 / 20)
        .collect()
}

/// Scrapes between the first and the last that are not there.
pub fn gaps(of: &BTreeSet<u64>) -> Vec<u64> {
    let (first, last) = (of.first().copied(), of.last().copied());
    let all = first.unwrap_or(0)..=last.unwrap_or(0);
    all.filter(|n| !of.contains(n)).collect()
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn prometheus(dir: &Path, port: u16, config: &str, data: &str, more: &[&str]) -> Process {
    let mut args = vec![
        format!("--config.file={config}"),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--storage.tsdb.path={}", dir.join(data).display()),
    ];
    args.extend(more.iter().map(|a| (*a).to_owned()));
    Process::start("prometheus", dir, port, args)
}

fn ours(dir: &Path, port: u16, config: &str, data: &str, more: &[&str]) -> Process {
    let mut args = vec![
        "server".to_owned(),
        format!("--config.file={config}"),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--storage.tsdb.path={}", dir.join(data).display()),
    ];
    args.extend(more.iter().map(|a| (*a).to_owned()));
    Process::start(env!("CARGO_BIN_EXE_epimetheus"), dir, port, args)
}

/// Series number -> (time, value) of every sample of `counted_total`.
type Samples = BTreeMap<String, BTreeSet<(String, String)>>;

async fn samples(of: &Process) -> Samples {
    let params = [("query", "counted_total[1h]")];
    let answer = of.get("/api/v1/query", &params).await;
    let mut all = Samples::new();
    for series in answer["data"]["result"].as_array().unwrap_or(&Vec::new()) {
        let name = series["metric"]["series"].as_str().unwrap().to_owned();
        let values = series["values"].as_array().unwrap().iter();
        let values = values.map(|v| (v[0].to_string(), v[1].as_str().unwrap().to_owned()));
        all.entry(name).or_default().extend(values);
    }
    all
}

fn count(samples: &Samples) -> usize {
    samples.values().map(BTreeSet::len).sum()
}

/// How many samples of `all` are not in `got`.
fn missing(all: &Samples, got: &Samples) -> usize {
    let none = BTreeSet::new();
    let lost = |(series, values): (&String, &BTreeSet<_>)| {
        values.difference(got.get(series).unwrap_or(&none)).count()
    };
    all.iter().map(lost).sum()
}

/// Waits until all samples of `from` have come to `to`.
async fn arrives(from: &Process, to: &Process, at_least: usize) {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let all = samples(from).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        let got = samples(to).await;
        let lost = missing(&all, &got);
        if lost == 0 && count(&all) >= at_least {
            println!("{} samples arrived", count(&all));
            return;
        }
        assert!(
            Instant::now() < end,
            "{lost} of {} samples are missing\n{}\n{}",
            count(&all),
            from.log(),
            to.log()
        );
    }
}

const FAST_QUEUE: &str = "queue_config: {batch_send_deadline: 100ms, max_samples_per_send: 50, min_backoff: 50ms, max_backoff: 200ms}";

/// About now, and a moment of late between two samples, seconds: 2.x takes those at the edge of a window
/// in, 3.x does not.
async fn between_samples(source: &Process) -> (f64, f64) {
    let now = model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0 - 0.3;
    let seen = source.query("counted_total{series=\"7\"}[1s]", now).await;
    let last = seen[0]["values"]
        .as_array()
        .and_then(|all| all.last())
        .unwrap();
    (now, last[0].as_f64().unwrap() - 0.05)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_prometheus_writes_to_us() {
    if !available("prometheus", "real_prometheus_writes_to_us") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (target, port) = (counting().await, free_port());
    let config = format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, external_labels: {{from: debian}}}}\n\
         scrape_configs:\n- job_name: e2e\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n\
         remote_write:\n- url: http://127.0.0.1:{port}/api/v1/write\n  {FAST_QUEUE}\n"
    );
    let config = write(dir, "prometheus.yml", &config);
    let empty = write(dir, "empty.yml", "");
    let receive = ["--web.enable-remote-write-receiver"];
    let mut receiver = ours(dir, port, &empty, "ours", &receive);
    receiver.wait_for("/-/ready").await;
    let mut sender = prometheus(dir, free_port(), &config, "theirs", &[]);
    sender.wait_for("/-/ready").await;
    receiver
        .wait_until("count(counted_total{from=\"debian\"})", |r| {
            r[0]["value"][1] == "20"
        })
        .await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        receiver.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        receiver = ours(dir, port, &empty, "ours", &receive);
        receiver.wait_for("/-/ready").await;
    }
    arrives(&sender, &receiver, 600).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_write_to_real_servers() {
    if !available("prometheus", "we_write_to_real_servers") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (target, theirs, victoria) = (counting().await, free_port(), free_port());
    let with_victoria = available(
        "victoria-metrics",
        "we_write_to_real_servers to VictoriaMetrics",
    );
    let mut config = format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, external_labels: {{from: us}}}}\n\
         scrape_configs:\n- job_name: e2e\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n\
         remote_write:\n- url: http://127.0.0.1:{theirs}/api/v1/write\n  {FAST_QUEUE}\n  \
         write_relabel_configs: [{{source_labels: [__name__], regex: scrape_.*, action: drop}}]\n"
    );
    if with_victoria {
        config += &format!("- url: http://127.0.0.1:{victoria}/api/v1/write\n  {FAST_QUEUE}\n");
    }
    let config = write(dir, "ours.yml", &config);
    let empty = write(dir, "empty.yml", "");
    let receive = ["--web.enable-remote-write-receiver"];
    let start_victoria = || {
        let args = [
            format!("-httpListenAddr=127.0.0.1:{victoria}"),
            format!("-storageDataPath={}", dir.join("victoria").display()),
            "-retentionPeriod=100y".to_owned(),
        ];
        Process::start("victoria-metrics", dir, victoria, args)
    };
    let mut receiver = prometheus(dir, theirs, &empty, "theirs", &receive);
    receiver.wait_for("/-/ready").await;
    let mut vm = with_victoria.then(start_victoria);
    if let Some(vm) = &mut vm {
        vm.wait_for("/health").await;
    }
    let port = free_port();
    let mut sender = ours(dir, port, &config, "ours", &[]);
    sender.wait_for("/-/ready").await;
    receiver
        .wait_until("count(counted_total{from=\"us\"})", |r| {
            r[0]["value"][1] == "20"
        })
        .await;
    // The receivers die and come back, and so do we: in good order, and not.
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        receiver.kill();
        if let Some(vm) = &mut vm {
            vm.stop();
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        if round == 1 {
            sender.kill();
        }
        receiver = prometheus(dir, theirs, &empty, "theirs", &receive);
        vm = with_victoria.then(start_victoria);
        receiver.wait_for("/-/ready").await;
        if let Some(vm) = &mut vm {
            vm.wait_for("/health").await;
        }
        if round == 2 {
            assert!(sender.stop(), "{}", sender.log());
        }
        if round > 0 {
            sender = ours(dir, port, &config, "ours", &[]);
            sender.wait_for("/-/ready").await;
        }
    }
    arrives(&sender, &receiver, 500).await;
    let dropped = receiver
        .get("/api/v1/query", &[("query", "scrape_samples_scraped")])
        .await;
    assert_eq!(dropped["data"]["result"], Value::Array(Vec::new()));
    if let Some(vm) = &vm {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let all = samples(&sender).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
            vm.status("/internal/force_flush", &[]).await;
            let got = exported(vm).await;
            let lost = missing(&all, &got);
            if lost == 0 {
                println!("{} samples arrived at VictoriaMetrics", count(&all));
                break;
            }
            assert!(Instant::now() < end, "{lost} are missing\n{}", sender.log());
        }
    }
    let metrics = sender.text("/metrics").await;
    for name in [
        "samples_total",
        "shards",
        "queue_highest_sent_timestamp_seconds",
    ] {
        let name = format!("prometheus_remote_storage_{name}{{");
        assert!(metrics.contains(&name), "{name}");
    }
}

async fn exported(vm: &Process) -> Samples {
    let (_, text) = vm
        .status("/api/v1/export", &[("match[]", "counted_total")])
        .await;
    let mut all = Samples::new();
    for line in text.lines() {
        let series: Value = serde_json::from_str(line).unwrap();
        let name = series["metric"]["series"].as_str().unwrap().to_owned();
        let pairs = series["timestamps"].as_array().unwrap().iter();
        let pairs = pairs
            .zip(series["values"].as_array().unwrap())
            .map(|(ts, value)| {
                let ms = ts.as_i64().unwrap();
                let text = match ms % 1000 {
                    0 => format!("{}", ms / 1000),
                    rest => format!("{}.{rest:03}", ms / 1000),
                };
                // The API leaves out zeros at the end.
                let text: Value = serde_json::from_str(&text).unwrap();
                (text.to_string(), format!("{}", value.as_f64().unwrap()))
            });
        all.entry(name).or_default().extend(pairs);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_prometheus_reads_from_us_and_federates() {
    if !available("prometheus", "real_prometheus_reads_from_us_and_federates") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (target, port) = (counting().await, free_port());
    let config = format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, external_labels: {{from: us}}}}\n\
         scrape_configs:\n- job_name: e2e\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
    );
    let config = write(dir, "ours.yml", &config);
    let mut source = ours(dir, port, &config, "ours", &[]);
    source.wait_for("/-/ready").await;
    let reading = format!(
        "remote_read: [{{url: 'http://127.0.0.1:{port}/api/v1/read', read_recent: true}}]\n"
    );
    let reading = write(dir, "reading.yml", &reading);
    let mut reader = prometheus(dir, free_port(), &reading, "reader", &[]);
    let federating = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs:\n- job_name: federate\n  honor_labels: true\n  metrics_path: /federate\n  \
         params: {{'match[]': ['{{job=\"e2e\"}}']}}\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    );
    let federating = write(dir, "federating.yml", &federating);
    let mut federation = prometheus(dir, free_port(), &federating, "federation", &[]);
    let mut own = ours(dir, free_port(), &federating, "own-federation", &[]);
    reader.wait_for("/-/ready").await;
    federation.wait_for("/-/ready").await;
    own.wait_for("/-/ready").await;
    let full = |r: &Value| r[0]["value"][1] == "20";
    source.wait_until("count(counted_total)", full).await;
    // Both series of frames and of samples are read: 2.x asks for frames first.
    reader
        .wait_until("count(counted_total{from=\"us\"})", full)
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_, at) = between_samples(&source).await;
    for query in [
        "sum(counted_total)",
        "sum(sum_over_time(counted_total[1s])) > 0",
        "count({job=\"e2e\"})",
    ] {
        let (want, got) = (source.query(query, at).await, reader.query(query, at).await);
        assert_eq!(got[0]["value"][1], want[0]["value"][1], "{query}");
    }
    let label = "count(counted_total{from=\"us\",job=\"e2e\"})";
    federation.wait_until(label, full).await;
    own.wait_until(label, full).await;
    let (status, text) = source
        .status("/federate", &[("match[]", "counted_total{series=\"7\"}")])
        .await;
    assert_eq!(status, 200);
    assert!(
        text.starts_with("# TYPE counted_total untyped\ncounted_total{"),
        "{text}"
    );
    let (status, _) = source.status("/federate", &[("match[]", "{")]).await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_histograms_of_real_prometheus() {
    let name = "native_histograms_of_real_prometheus";
    let Some(program) = prometheus3(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (target, port) = (free_port(), free_port());
    let plain = write(dir, "target.yml", "");
    let args = [
        format!("--config.file={plain}"),
        format!("--web.listen-address=127.0.0.1:{target}"),
        format!("--storage.tsdb.path={}", dir.join("target").display()),
    ];
    let mut target_process = Process::start(&program, dir, target, args);
    target_process.wait_for("/-/ready").await;
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, scrape_native_histograms: true}}\n\
         scrape_configs:\n- job_name: prometheus\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
    );
    let config = write(dir, "ours.yml", &config);
    let mut scraper = ours(dir, port, &config, "ours", &[]);
    scraper.wait_for("/-/ready").await;
    let query = "histogram_count(prometheus_http_request_duration_seconds{handler=\"/metrics\"})";
    let counts = scraper
        .wait_until(query, |r| {
            r[0]["value"][1]
                .as_str()
                .is_some_and(|v| v.parse::<f64>().unwrap() > 3.0)
        })
        .await;
    println!("native: {counts}");
    let classic = scraper
        .get(
            "/api/v1/query",
            &[("query", "prometheus_http_request_duration_seconds_bucket")],
        )
        .await;
    assert_eq!(classic["data"]["result"], Value::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_write_2_0_to_a_real_prometheus_3() {
    const NAME: &str = "we_write_2_0_to_a_real_prometheus_3";
    let Some(program) = prometheus3(NAME) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (target, receiving, port) = (counting().await, free_port(), free_port());
    // Its own native histograms and exemplars' carrier: it is a target, too.
    let config = format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, scrape_native_histograms: true, external_labels: {{from: us}}}}\n\
         scrape_configs:\n- job_name: e2e\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n\
         - job_name: prometheus\n  static_configs: [{{targets: ['127.0.0.1:{receiving}']}}]\n\
         remote_write:\n- url: http://127.0.0.1:{receiving}/api/v1/write\n  protobuf_message: io.prometheus.write.v2.Request\n  \
         send_exemplars: true\n  send_native_histograms: true\n  {FAST_QUEUE}\n"
    );
    let config = write(dir, "ours.yml", &config);
    let empty = write(dir, "empty.yml", "");
    let start = || {
        let args = [
            format!("--config.file={empty}"),
            format!("--web.listen-address=127.0.0.1:{receiving}"),
            format!("--storage.tsdb.path={}", dir.join("theirs").display()),
            "--web.enable-remote-write-receiver".to_owned(),
            "--enable-feature=metadata-wal-records".to_owned(),
        ];
        Process::start(&program, dir, receiving, args)
    };
    let mut receiver = start();
    receiver.wait_for("/-/ready").await;
    let mut sender = ours(dir, port, &config, "ours", &[]);
    sender.wait_for("/-/ready").await;
    let full = |r: &Value| r[0]["value"][1] == "20";
    receiver
        .wait_until("count(counted_total{from=\"us\"})", full)
        .await;
    let failed = sender.text("/metrics").await;
    let failed: Vec<_> = failed
        .lines()
        .filter(|l| l.starts_with("prometheus_remote_storage_samples_failed_total{"))
        .collect();
    assert!(failed.iter().all(|l| l.ends_with(" 0")), "{failed:?}");
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        receiver.kill();
        if round == 1 {
            sender.kill();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        receiver = start();
        receiver.wait_for("/-/ready").await;
        if round == 1 {
            sender = ours(dir, port, &config, "ours", &[]);
            sender.wait_for("/-/ready").await;
        }
    }
    arrives(&sender, &receiver, 500).await;
    let native = "histogram_count(prometheus_http_request_duration_seconds{from=\"us\",handler=\"/metrics\"}) > 0";
    receiver.wait_until(native, |r| !r[0].is_null()).await;
    // What was on its way when we died comes twice.
    let log = receiver.log();
    let wrong = log
        .lines()
        .find(|l| l.contains("level=ERROR") && !l.contains("ut of order"));
    assert_eq!(wrong, None);
}

/// What a reader asks of a source: the newest samples, and the labels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_read_from_real_prometheus() {
    const NAME: &str = "we_read_from_real_prometheus";
    if !available("prometheus", NAME) {
        return;
    }
    let mut programs = vec![PathBuf::from("prometheus")];
    programs.extend(prometheus3(NAME));
    for program in programs {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (target, port) = (counting().await, free_port());
        let config = format!(
            "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, external_labels: {{from: them}}}}\n\
             scrape_configs:\n- job_name: e2e\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
        );
        let config = write(dir, "theirs.yml", &config);
        let args = [
            format!("--config.file={config}"),
            format!("--web.listen-address=127.0.0.1:{port}"),
            format!("--storage.tsdb.path={}", dir.join("theirs").display()),
        ];
        let mut source = Process::start(&program, dir, port, args);
        source.wait_for("/-/ready").await;
        let reading = |required: &str| {
            format!(
                "global: {{evaluation_interval: 200ms}}\nrule_files: [rules.yml]\nremote_read: [{{url: 'http://127.0.0.1:{port}/api/v1/read', read_recent: true, {required}}}]\n"
            )
        };
        let config = write(dir, "reading.yml", &reading(""));
        let rules = "groups: [{name: g, rules: [{record: it_is, expr: time()}, {record: all, expr: count(counted_total)}]}]";
        write(dir, "rules.yml", rules);
        let mut reader = ours(
            dir,
            free_port(),
            &config,
            "reader",
            &["--web.enable-lifecycle"],
        );
        reader.wait_for("/-/ready").await;
        let full = |r: &Value| r[0]["value"][1] == "20";
        source.wait_until("count(counted_total)", full).await;
        // They know their own external labels.
        reader
            .wait_until("count(counted_total{from=\"them\",job=\"e2e\"})", full)
            .await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (now, at) = between_samples(&source).await;
        for query in [
            "sum(counted_total)",
            "sum(sum_over_time(counted_total[1s])) > 0",
            "count({job=\"e2e\"})",
            "sum(counted_total{series=~\"1.\"})",
        ] {
            let (want, got) = (source.query(query, at).await, reader.query(query, at).await);
            assert_eq!(
                got[0]["value"][1],
                want[0]["value"][1],
                "{}: {query}",
                program.display()
            );
        }
        let range = [
            ("query", "sum by (series) (counted_total)"),
            ("start", &format!("{}", at - 1.0)[..]),
            ("end", &format!("{at}")[..]),
            ("step", "0.25"),
        ];
        let (want, got) = (
            source.get("/api/v1/query_range", &range).await,
            reader.get("/api/v1/query_range", &range).await,
        );
        crate::compare::equal(range[0].1, &got["data"], &want["data"]).unwrap();
        let all = reader
            .get("/api/v1/series", &[("match[]", "counted_total")])
            .await;
        assert_eq!(all["data"].as_array().map(Vec::len), Some(20), "{all}");
        // The source is asked only for what it must be asked for.
        write(
            dir,
            "reading.yml",
            &reading("required_matchers: {job: other}"),
        );
        let reloaded = reqwest::Client::new().post(reader.url("/-/reload"));
        assert!(reloaded.send().await.unwrap().status().is_success());
        let none = reader.query("counted_total{job=\"e2e\"}", at).await;
        assert_eq!(none, Value::Array(Vec::new()));
        // A source that is gone is said, and what is here is answered.
        write(dir, "reading.yml", &reading(""));
        let reloaded = reqwest::Client::new().post(reader.url("/-/reload"));
        assert!(reloaded.send().await.unwrap().status().is_success());
        source.kill();
        let gone = reader
            .get("/api/v1/query", &[("query", "counted_total")])
            .await;
        assert_eq!(gone["status"], "success", "{gone}");
        assert!(
            gone["warnings"][0]
                .as_str()
                .is_some_and(|w| w.contains(&port.to_string())),
            "{gone}"
        );
        // Rules go on with what is here.
        let later = format!("it_is > {}", now + 1.0);
        reader.wait_until(&later, |r| !r[0].is_null()).await;
        let rules = reader.get("/api/v1/rules", &[]).await;
        let rules = rules["data"]["groups"][0]["rules"].as_array().cloned();
        assert!(
            rules.iter().flatten().all(|r| r["health"] == "ok"),
            "{rules:?}"
        );
    }
}
