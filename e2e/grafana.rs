//! Grafana as a client: the requests that its Prometheus data source makes - both ways of asking,
//! health, version, labels, series, metadata, exemplars, rules - to a real Prometheus, to our
//! server, and to our querier over it: the answers are the same JSON.

use serde_json::Value;

use crate::compare::{close, without};
use crate::exporter::{Exporter, STEP_MS};
use crate::fleet::{ours, role};
use crate::peers::prometheus3;
use crate::process::{Process, available, free_port};

const NAME: &str = "grafana_sees_no_difference";
const TICKS: usize = 24;

const RULES: &str = "groups:
- name: g
  interval: 1s
  rules:
  - record: zone:temperature:avg
    expr: avg by (zone) (e2e_temperature)
    labels: {team: a}
  - alert: Always
    expr: vector(1) > 0
    labels: {severity: page}
    annotations: {summary: 'is {{ $value }}'}
  - alert: Never
    expr: vector(1) > 1
    for: 5m
    keep_firing_for: 1m
";

/// Asks as Grafana does: with the headers it adds, by GET or by a form.
async fn ask(
    server: &Process,
    method: &str,
    path: &str,
    params: &[(&str, String)],
) -> (u16, Value) {
    let client = reqwest::Client::new();
    let mut url = url::Url::parse(&server.url(path)).unwrap();
    let pairs = params.iter().map(|(name, value)| (*name, value.as_str()));
    let request = if method == "GET" {
        url.query_pairs_mut().extend_pairs(pairs);
        client.get(url.clone())
    } else {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        let kind = "application/x-www-form-urlencoded";
        client
            .post(url.clone())
            .header("content-type", kind)
            .body(form.extend_pairs(pairs).finish())
    };
    let answer = request
        .header("user-agent", "Grafana/12.1.0")
        .header("accept-encoding", "gzip")
        .header("x-dashboard-uid", "abc")
        .header("x-panel-id", "2")
        .header("x-grafana-org-id", "1")
        .header("fromalert", "false")
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let body = answer.text().await.unwrap();
    let body = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{url}: {e}: {body}"));
    (status, body)
}

/// An answer without what no two servers have in common: when they did something, and where their
/// files lie. The order in which series come counts only where the query sorts.
fn still(path: &str, answer: Value) -> Value {
    let keys = [
        "evaluationTime",
        "lastEvaluation",
        "activeAt",
        "keepFiringSince",
        "file",
        // A querier says these, too.
        "partialResponseStrategy",
        "alertmanager",
    ];
    let mut answer = without(answer, &keys);
    let list = match path {
        "/api/v1/query" | "/api/v1/query_range" => answer.pointer_mut("/data/result"),
        "/api/v1/series" | "/api/v1/query_exemplars" => answer.pointer_mut("/data"),
        _ => None,
    };
    if let Some(Value::Array(list)) = list {
        list.sort_by_cached_key(ToString::to_string);
    }
    // A querier, as Thanos', brings rules of many stores into one order.
    for group in answer
        .pointer_mut("/data/groups")
        .into_iter()
        .flat_map(|g| g.as_array_mut())
        .flatten()
    {
        if let Some(rules) = group["rules"].as_array_mut() {
            rules.sort_by_cached_key(|rule| rule["name"].to_string());
        }
    }
    answer
}

async fn server(program: &std::path::Path, dir: &std::path::Path, grpc: Option<u16>) -> Process {
    let port = free_port();
    let mut args = vec![
        "--config.file=../prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--enable-feature=exemplar-storage".to_owned(),
    ];
    if let Some(grpc) = grpc {
        args.insert(0, "server".to_owned());
        args.push(format!("--grpc-address=127.0.0.1:{grpc}"));
    }
    std::fs::create_dir_all(dir).unwrap();
    let mut process = Process::start(program, dir, port, args);
    process.wait_for("/-/ready").await;
    process
}

/// One request: how, where, with what.
type Request = (&'static str, &'static str, Vec<(&'static str, String)>);

/// What is asked; `newer` is for Prometheus 3, whose words for two errors are others than before.
fn requests(start: f64, end: f64, newer: bool) -> Vec<Request> {
    let (from, to) = (|| ("start", start.to_string()), || ("end", end.to_string()));
    let range = |query: &str, step: &str| {
        vec![
            ("query", query.to_owned()),
            from(),
            to(),
            ("step", step.to_owned()),
        ]
    };
    let at = |query: &str| vec![("query", query.to_owned()), ("time", end.to_string())];
    let matching = |selector: &str| vec![("match[]", selector.to_owned()), from(), to()];
    let mut all = Vec::new();
    for method in ["GET", "POST"] {
        // "Save & test", and what alerting asks.
        all.push((
            method,
            "/api/v1/query",
            vec![("query", "1+1".to_owned()), ("time", "4".to_owned())],
        ));
        for query in [
            "e2e_temperature",
            "sum by (zone) (e2e_temperature)",
            "e2e_nothing",
            "histogram_quantile(0.9, e2e_latency_seconds_bucket)",
            "scalar(sum(e2e_zone_info))",
            "\"text\"",
            "e2e_temperature[1m]",
            "sum(",
            "rate(e2e_temperature)",
        ] {
            all.push((method, "/api/v1/query", at(query)));
        }
        for (query, step) in [
            ("e2e_temperature", "15"),
            ("sum(e2e_requests_total) by (code)", "60"),
            ("avg_over_time(e2e_temperature[1m])", "7.5"),
            ("e2e_temperature", "0"),
            ("e2e_temperature", "0.001"),
        ] {
            all.push((method, "/api/v1/query_range", range(query, step)));
        }
        if newer {
            let query = range("e2e_temperature[1m]", "15");
            all.push((method, "/api/v1/query_range", query));
        }
        all.push((
            method,
            "/api/v1/labels",
            vec![from(), to(), ("limit", "40000".to_owned())],
        ));
        all.push((
            method,
            "/api/v1/labels",
            matching("{__name__=\"e2e_temperature\"}"),
        ));
        all.push((
            method,
            "/api/v1/series",
            matching("e2e_temperature{zone=~\"n.*\"}"),
        ));
        all.push((method, "/api/v1/series", vec![from(), to()]));
        let exemplars = vec![("query", "e2e_requests_total".to_owned()), from(), to()];
        all.push((method, "/api/v1/query_exemplars", exemplars));
    }
    for (path, params) in [
        ("/api/v1/label/__name__/values", vec![from(), to()]),
        (
            "/api/v1/label/zone/values",
            matching("{__name__=\"e2e_temperature\"}"),
        ),
        ("/api/v1/label/zone/values", vec![]),
        ("/api/v1/metadata", vec![("limit", "1000".to_owned())]),
        (
            "/api/v1/metadata",
            vec![("metric", "e2e_requests_total".to_owned())],
        ),
        ("/api/v1/rules", vec![]),
        ("/api/v1/rules", vec![("type", "alert".to_owned())]),
        ("/api/v1/alerts", vec![]),
        (
            "/api/v1/format_query",
            vec![("query", "sum(a)by(b)".to_owned())],
        ),
    ] {
        all.push(("GET", path, params));
    }
    if newer {
        all.push(("GET", "/api/v1/label/no such/values", vec![]));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grafana_sees_no_difference() {
    let (real, newer) = match prometheus3(NAME) {
        Some(newer) => (newer, true),
        None if available("prometheus", NAME) => ("prometheus".into(), false),
        None => return,
    };
    let dir = tempfile::tempdir().unwrap();
    let now = model::time::Clock::now(&model::time::WallClock);
    let base = (now / STEP_MS - TICKS as i64 - 4) * STEP_MS;
    let exporter = Exporter::start(base).await;
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    std::fs::write(
        dir.path().join("prometheus.yml"),
        format!(
            "global:\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: e2e\n  static_configs:\n  - targets: ['127.0.0.1:{}']\n    labels: {{instance: x}}\n",
            exporter.port
        ),
    )
    .unwrap();
    let grpc = free_port();
    let theirs = server(&real, &dir.path().join("theirs"), None).await;
    let server = server(&ours(), &dir.path().join("ours"), Some(grpc)).await;
    let endpoint = [format!("--endpoint=127.0.0.1:{grpc}")];
    let querier = role(&ours(), dir.path(), "query", &endpoint).await;
    exporter.run(TICKS, &["Prometheus", "Epimetheus"]).await;
    // One of them may have seen what was there before the first tick: it is not asked for.
    // Until every rule was evaluated, and the querier knows the server.
    for process in [&theirs, &server, &querier.process] {
        process
            .wait_until("ALERTS{alertname=\"Always\"}", |r| !r[0].is_null())
            .await;
    }

    let (start, end) = (
        (exporter.time(6) + 1) as f64 / 1000.0,
        (exporter.time(TICKS) + 1) as f64 / 1000.0,
    );
    let mut differences = Vec::new();
    for (method, path, params) in requests(start, end, newer) {
        let (status, wanted) = ask(&theirs, method, path, &params).await;
        let wanted = still(path, wanted);
        for (name, process) in [("server", &server), ("query", &querier.process)] {
            let (our_status, got) = ask(process, method, path, &params).await;
            let got = still(path, got);
            if our_status != status || !close(&got, &wanted, 1e-9) {
                differences.push(format!(
                    "{name}: {method} {path} {params:?}:\n  theirs {status} {wanted}\n  ours   {our_status} {got}"
                ));
            }
        }
    }
    for (process, name) in [(&server, "server"), (&querier.process, "query")] {
        let (_, build) = ask(process, "GET", "/api/v1/status/buildinfo", &[]).await;
        let version = build["data"]["version"].as_str().unwrap();
        assert!(version.starts_with("3."), "{name}: {build}");
    }
    assert!(
        differences.is_empty(),
        "{} answers differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
