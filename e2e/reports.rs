//! Rules, targets, metadata, exemplars and cardinality of several processes through one querier: two
//! real Prometheus as a pair, a sidecar beside each, a server of ours. Where a real `thanos` is found,
//! its querier and its sidecar stand in for ours.

use std::path::Path;

use serde_json::Value;

use crate::compare::without;
use crate::fleet::{Role, ours, role, wait};
use crate::peers::thanos;
use crate::process::{Process, available, free_port, node_exporter};

const RULES: &str = "groups:\n- name: g\n  interval: 1s\n  rules:\n  - record: job:up:sum\n    expr: sum by (job) (up)\n  - alert: AlwaysFires\n    expr: up == 1\n    for: 0s\n    labels: {severity: page}\n    annotations: {summary: 'up is {{ $value }}'}\n";

fn config(dir: &Path, name: &str, exporter: u16) {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n  external_labels:\n    cluster: e2e\n    replica: {name}\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{exporter}']\n"
    );
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    std::fs::write(dir.join("rules.yml"), RULES).unwrap();
}

async fn prometheus(dir: &Path, name: &str) -> Process {
    let port = free_port();
    let args = [
        "--config.file=prometheus.yml".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--storage.tsdb.path=data".to_owned(),
    ];
    let mut prometheus = Process::start("prometheus", &dir.join(name), port, args);
    prometheus.wait_for("/-/ready").await;
    prometheus
}

async fn querier(program: &Path, dir: &Path, endpoints: &[u16]) -> Role {
    let mut args = vec!["--query.replica-label=replica".to_owned()];
    args.extend(
        endpoints
            .iter()
            .map(|p| format!("--endpoint=127.0.0.1:{p}")),
    );
    role(program, dir, "query", &args).await
}

async fn sidecar(program: &Path, dir: &Path, prometheus: &Process) -> Role {
    let args = [
        format!("--prometheus.url=http://127.0.0.1:{}", prometheus.port),
        format!("--tsdb.path={}", dir.join("data").display()),
    ];
    role(program, dir, "sidecar", &args).await
}

/// An answer without what changes from moment to moment.
fn still(value: Value) -> Value {
    let keys = [
        "evaluationTime",
        "lastEvaluation",
        "lastScrape",
        "lastScrapeDuration",
        "activeAt",
    ];
    without(value, &keys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_querier_reports_what_all_report() {
    const NAME: &str = "a_querier_reports_what_all_report";
    if !available("prometheus", NAME) || !available("prometheus-node-exporter", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let exporter = node_exporter(dir).await;
    for name in ["a", "b", "c"] {
        config(dir, name, exporter.port);
    }
    let (a, b) = (prometheus(dir, "a").await, prometheus(dir, "b").await);
    let beside_a = sidecar(&ours(), &dir.join("a"), &a).await;
    let mut beside_b = sidecar(&ours(), &dir.join("b"), &b).await;
    let grpc = free_port();
    let server = Process::epimetheus(
        &dir.join("c"),
        "server",
        &[
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            &format!("--grpc-address=127.0.0.1:{grpc}"),
        ],
    );
    let leaf = querier(&ours(), dir, &[beside_a.grpc, beside_b.grpc, grpc]).await;
    let global = querier(&ours(), dir, &[leaf.grpc]).await;
    let http = &leaf.process;

    // Three replicas are one.
    wait("alerts of all", 60, async || {
        let alerts = http.get("/api/v1/alerts", &[]).await;
        alerts["data"]["alerts"]
            .as_array()
            .is_some_and(|a| !a.is_empty())
    })
    .await;
    let rules = http.get("/api/v1/rules", &[]).await;
    assert!(rules["warnings"].is_null(), "{rules}");
    let groups = rules["data"]["groups"].as_array().unwrap();
    // The same file, the same group, the same rules.
    assert_eq!(groups.len(), 1, "{rules}");
    for group in groups {
        assert_eq!(group["partialResponseStrategy"], "ABORT", "{group}");
        let rules = group["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 2);
        let alert = &rules[0];
        assert_eq!(alert["type"], "alerting");
        let labels = serde_json::json!({"cluster": "e2e", "severity": "page"});
        assert_eq!(alert["labels"], labels);
    }
    let only = http.get("/api/v1/rules", &[("type", "record")]).await;
    let only = only["data"]["groups"].as_array().unwrap().clone();
    assert!(
        only.iter().all(|g| g["rules"][0]["name"] == "job:up:sum"),
        "{only:?}"
    );

    let targets = http.get("/api/v1/targets", &[("state", "active")]).await;
    let active = targets["data"]["activeTargets"].as_array().unwrap().clone();
    // One exporter, scraped three times; servers of other versions discover it with other labels.
    assert!((1..3).contains(&active.len()), "{targets}");
    assert_eq!(active[0]["health"], "up");
    assert!(active[0]["labels"]["replica"].is_null());

    let metadata = http
        .get("/api/v1/metadata", &[("metric", "node_cpu_seconds_total")])
        .await;
    assert_eq!(
        metadata["data"]["node_cpu_seconds_total"][0]["type"], "counter",
        "{metadata}"
    );
    let all = http.get("/api/v1/metadata", &[("limit", "3")]).await;
    assert_eq!(all["data"].as_object().map(|m| m.len()), Some(3));

    let series = |h: &Value| h["data"]["headStats"]["numSeries"].as_u64().unwrap();
    let (mut head, mut one) = (Value::Null, Value::Null);
    // Until the third has scraped, too.
    wait("all heads", 30, async || {
        head = http.get("/api/v1/status/tsdb", &[("limit", "5")]).await;
        one = a.get("/api/v1/status/tsdb", &[("limit", "5")]).await;
        series(&head) > 2 * series(&one)
    })
    .await;
    assert_eq!(
        head["data"]["seriesCountByMetricName"]
            .as_array()
            .map(Vec::len),
        Some(5)
    );
    let none = [("match[]", "{cluster=\"other\"}")];
    let none = http.get("/api/v1/status/tsdb", &none).await;
    assert_eq!(series(&none), 0, "{none}");

    let (from, to) = [("start", "0"), ("end", "4102444800")].into();
    let exemplars = http
        .get(
            "/api/v1/query_exemplars",
            &[("query", "up{cluster=\"e2e\"}"), from, to],
        )
        .await;
    assert_eq!(exemplars["status"], "success", "{exemplars}");
    assert_eq!(exemplars["data"], serde_json::json!([]));

    // A querier over a querier says the same.
    for path in ["/api/v1/rules", "/api/v1/targets", "/api/v1/metadata"] {
        let (ours, over) = (
            http.get(path, &[]).await,
            global.process.get(path, &[]).await,
        );
        assert_eq!(still(ours), still(over), "{path}");
    }

    if let Some(thanos) = thanos(NAME) {
        let theirs = querier(&thanos, dir, &[beside_a.grpc, beside_b.grpc, grpc]).await;
        wait("their querier to know ours", 30, async || {
            let stores = theirs.process.get("/api/v1/stores", &[]).await;
            stores["data"]["sidecar"].as_array().map(Vec::len) == Some(3)
        })
        .await;
        same_as(
            &theirs,
            http,
            "Thanos' querier over our sidecars and server",
        )
        .await;
        let their_sidecar = sidecar(&thanos, &dir.join("b"), &b).await;
        let mixed = querier(&ours(), dir, &[beside_a.grpc, their_sidecar.grpc, grpc]).await;
        same_as(&mixed, http, "our querier over Thanos' sidecar").await;
        let over = querier(&ours(), dir, &[theirs.grpc]).await;
        same_as(&over, http, "our querier over Thanos' querier").await;
        let over = querier(&thanos, dir, &[leaf.grpc]).await;
        wait("their querier to know ours", 30, async || {
            let stores = over.process.get("/api/v1/stores", &[]).await;
            stores["data"]["query"].is_array()
        })
        .await;
        same_as(&over, http, "Thanos' querier over our querier").await;
    }

    // One is gone: the rest answers, and it is named.
    let address = format!("127.0.0.1:{}", beside_b.grpc);
    beside_b.process.kill();
    let mut said = Value::Null;
    wait("a warning", 30, async || {
        said = http.get("/api/v1/rules", &[]).await;
        said["warnings"][0]
            .as_str()
            .is_some_and(|w| w.contains(&address))
    })
    .await;
    assert_eq!(said["data"]["groups"].as_array().map(Vec::len), Some(1));
    let strict = http
        .get("/api/v1/rules", &[("partial_response", "false")])
        .await;
    assert_eq!(strict["status"], "error", "{strict}");
    drop((server, a, b));
    for mut role in [leaf, global, beside_a] {
        assert!(role.process.stop(), "a clean stop:\n{}", role.process.log());
    }
}

/// Compares what two queriers report.
async fn same_as(theirs: &Role, ours: &Process, what: &str) {
    for path in [
        "/api/v1/metadata",
        "/api/v1/rules",
        "/api/v1/alerts",
        "/api/v1/targets",
    ] {
        let (a, b) = (
            ours.get(path, &[]).await,
            theirs.process.get(path, &[]).await,
        );
        let (a, b) = (sorted(path, still(a)), sorted(path, still(b)));
        assert_eq!(a, b, "{what}: {path}");
    }
    // Cardinality moves while it is asked for.
    let path = "/api/v1/status/tsdb";
    let (a, b) = (
        ours.get(path, &[]).await,
        theirs.process.get(path, &[]).await,
    );
    let series = |h: &Value| h["data"]["headStats"]["numSeries"].as_f64().unwrap_or(0.0);
    assert!(
        (series(&a) - series(&b)).abs() < series(&a) * 0.05,
        "{what}: {a} {b}"
    );
}

/// Lists whose order says nothing, in order; fields that only one of them has, removed.
fn sorted(path: &str, mut answer: Value) -> Value {
    if path.ends_with("targets") {
        for target in answer["data"]["activeTargets"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            // Prometheus has them, Thanos does not pass them on.
            if let Some(map) = target.as_object_mut() {
                map.remove("scrapeInterval");
                map.remove("scrapeTimeout");
            }
        }
        if let Some(data) = answer["data"].as_object_mut() {
            data.remove("droppedTargetCounts");
        }
    }
    if path.ends_with("metadata") {
        for list in answer["data"]
            .as_object_mut()
            .into_iter()
            .flat_map(|m| m.values_mut())
        {
            if let Some(list) = list.as_array_mut() {
                list.sort_by_key(Value::to_string);
            }
        }
    }
    if path.ends_with("alerts")
        && let Some(list) = answer["data"]["alerts"].as_array_mut()
    {
        list.sort_by_key(Value::to_string);
    }
    answer
}
