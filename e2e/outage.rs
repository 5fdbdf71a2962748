//! An object store that is away, in each of the ways in which it can be: nothing is restarted, nothing is
//! lost, what is not in it is answered, and what waited is shipped.

use std::path::Path;
use std::time::{Duration, Instant};

use block::Meta;
use s3kit::{Fault, Op, Rule, Server};
use serde_json::Value;

use crate::fleet::{Role, ours, role, wait};
use crate::process::{Process, available, free_port, node_exporter};

/// The store gateway of the folder.
async fn store_of(dir: &Path, s3: &Server) -> Role {
    let args = [
        objstore(s3),
        format!("--data-dir={}", dir.join("store").display()),
        "--sync-block-duration=500ms".to_owned(),
    ];
    role(&ours(), dir, "store", &args).await
}

fn objstore(s3: &Server) -> String {
    let (access, secret) = s3.keys();
    format!(
        "--objstore.config=type: S3\nconfig:\n  bucket: {}\n  endpoint: {}\n  access_key: {access}\n  secret_key: {secret}\n  insecure: true\n  bucket_lookup_type: path\n  http_config: {{response_header_timeout: 2s}}\n",
        s3.bucket(),
        s3.host_port()
    )
}

async fn prometheus(dir: &Path, exporter: u16) -> Process {
    std::fs::create_dir_all(dir).unwrap();
    let text = format!(
        "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  external_labels: {{cluster: e2e}}\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{exporter}']\n"
    );
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    let port = free_port();
    let args = [
        "--config.file=prometheus.yml".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--storage.tsdb.path=data".to_owned(),
        "--storage.tsdb.min-block-duration=12s".to_owned(),
        "--storage.tsdb.max-block-duration=12s".to_owned(),
    ];
    let mut prometheus = Process::start("prometheus", dir, port, args);
    prometheus.wait_for("/-/ready").await;
    prometheus
}

/// Blocks in the bucket, in the order in which they became visible, by their time.
fn shipped(s3: &Server) -> Vec<i64> {
    let log = s3.counters().log();
    let metas = log
        .iter()
        .filter(|r| r.op == Op::Put && r.status == 200 && r.key.ends_with("/meta.json"));
    metas
        .filter_map(|r| Meta::parse(&s3.get(&r.key)?).ok())
        .map(|meta| meta.min_time)
        .collect()
}

/// Blocks on Prometheus' disk.
fn local(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir.join("data")).unwrap().flatten();
    entries
        .filter(|e| e.path().join("meta.json").is_file())
        .count()
}

async fn ask(query: &Role, expr: &str) -> (Value, Duration) {
    let begun = Instant::now();
    let params = [("query", expr), ("timeout", "5s")];
    let answer = query.process.get("/api/v1/query", &params).await;
    (answer, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_costs_nothing_but_its_answers() {
    const NAME: &str = "a_bucket_that_is_away_costs_nothing_but_its_answers";
    if !available("prometheus", NAME) || !available("prometheus-node-exporter", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let s3 = Server::start(s3kit::Config::default()).unwrap();
    let exporter = node_exporter(dir).await;
    let home = dir.join("a");
    let prometheus = prometheus(&home, exporter.port).await;
    let sidecar = role(
        &ours(),
        &home,
        "sidecar",
        &[
            format!("--prometheus.url=http://127.0.0.1:{}", prometheus.port),
            format!("--tsdb.path={}", home.join("data").display()),
            "--shipper.sync-interval=500ms".to_owned(),
            objstore(&s3),
        ],
    )
    .await;
    let store = store_of(dir, &s3).await;
    let endpoints = [
        format!("--endpoint=127.0.0.1:{}", sidecar.grpc),
        format!("--endpoint=127.0.0.1:{}", store.grpc),
        // A store that says nothing for so long is left out.
        "--store.response-timeout=2s".to_owned(),
    ];
    let query = role(&ours(), dir, "query", &endpoints).await;
    wait("blocks in the bucket", 120, async || {
        shipped(&s3).len() >= 2
    })
    .await;
    let blocks = async |role: &Role| {
        let text = role.process.text("/metrics").await;
        let line = text
            .lines()
            .find(|l| l.starts_with("thanos_bucket_store_blocks_loaded "));
        line.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or(-1.0)
    };
    wait("the store to see them", 60, async || {
        blocks(&store).await >= 2.0
    })
    .await;
    wait("the querier to see them", 30, async || {
        let stores = query.process.get("/api/v1/stores", &[]).await;
        stores["data"]["store"][0]["maxTime"].as_i64().unwrap_or(0) > 0
    })
    .await;

    // What nobody has asked for yet is in no cache.
    let mut names = [
        "node_load1",
        "node_load5",
        "node_load15",
        "node_memory_MemFree_bytes",
        "node_procs_running",
        "node_time_seconds",
    ]
    .into_iter();
    for fault in [
        Fault::Unavailable,
        Fault::Forbidden,
        Fault::Hang,
        Fault::Reset,
        Fault::Delay(Duration::from_secs(8)),
        Fault::Truncate(10),
    ] {
        let known = blocks(&store).await;
        s3.faults().add(Rule::always(fault));
        // Recent data is answered, in time, whatever the store can say of older data.
        let name = names.next().unwrap();
        let (answer, took) = ask(&query, &format!("count_over_time({name}[1m])")).await;
        assert!(took < Duration::from_secs(9), "{fault:?}: {took:?}");
        assert_eq!(answer["status"], "success", "{fault:?}: {answer}");
        assert_eq!(
            answer["data"]["result"].as_array().map(Vec::len),
            Some(1),
            "{fault:?}: {answer}"
        );
        // The store names its blocks, or the querier the store that does not answer.
        let warnings = answer["warnings"].to_string();
        let address = format!("127.0.0.1:{}", store.grpc);
        let named = warnings.contains(&address) || warnings.contains("block 0");
        assert!(named, "{fault:?}: {answer}");
        let params = [("query", name), ("partial_response", "false")];
        let whole = query.process.get("/api/v1/query", &params).await;
        assert_eq!(whole["status"], "error", "{fault:?}: {whole}");
        // Listings fail or lie meanwhile: no block is forgotten for that.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(blocks(&store).await >= known, "{fault:?}");
        s3.faults().clear();
    }

    // What is started during an outage answers what it can.
    let mut store = store;
    assert!(
        store.process.stop(),
        "a clean stop:\n{}",
        store.process.log()
    );
    s3.faults().add(Rule::always(Fault::Unavailable));
    let second = role(
        &ours(),
        &home,
        "sidecar",
        &[
            format!("--prometheus.url=http://127.0.0.1:{}", prometheus.port),
            format!("--tsdb.path={}", home.join("data").display()),
            "--shipper.meta-file-name=second.json".to_owned(),
            objstore(&s3),
        ],
    )
    .await;
    let alone = role(
        &ours(),
        dir,
        "query",
        &[format!("--endpoint=127.0.0.1:{}", second.grpc)],
    )
    .await;
    wait("an answer", 30, async || {
        let (answer, _) = ask(&alone, "up").await;
        answer["data"]["result"]
            .as_array()
            .is_some_and(|r| r.len() == 1)
    })
    .await;
    // A store knows what was there before it was restarted, and the querier that something is missing.
    let again = store_of(dir, &s3).await;
    let with_store = role(
        &ours(),
        dir,
        "query",
        &[
            format!("--endpoint=127.0.0.1:{}", second.grpc),
            format!("--endpoint=127.0.0.1:{}", again.grpc),
        ],
    )
    .await;
    wait("an answer with a warning", 30, async || {
        let (answer, _) = ask(&with_store, "up").await;
        let said = answer["warnings"].to_string();
        answer["data"]["result"][0].is_object() && said.contains("not known yet")
    })
    .await;
    let waiting = local(&home);
    wait("a backlog", 60, async || local(&home) >= waiting + 2).await;
    drop((second, alone, with_store));
    let had = shipped(&s3).len();
    let begun = Instant::now();
    s3.faults().clear();
    wait("the restarted store to see the bucket", 60, async || {
        blocks(&again).await >= 2.0
    })
    .await;
    drop(again);

    // The backlog is shipped, none left out, the oldest first, and one block after the other.
    wait("the backlog", 120, async || {
        let mut known: Vec<i64> = shipped(&s3);
        known.sort_unstable();
        known.dedup();
        known.len() >= local(&home)
    })
    .await;
    let backlog = shipped(&s3).split_off(had);
    assert!(backlog.len() >= 2 && backlog.is_sorted(), "{backlog:?}");
    let log = s3.counters().log();
    let mut puts: Vec<_> = log
        .iter()
        .filter(|r| r.op == Op::Put && r.start > begun)
        .filter_map(|r| Some((r.start, r.key.split_once('/')?.0)))
        .collect();
    puts.sort();
    let mut folders: Vec<&str> = puts.into_iter().map(|(_, folder)| folder).collect();
    folders.dedup();
    let distinct = folders.iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(distinct.len(), folders.len(), "{folders:?}");
    for mut role in [query, sidecar] {
        assert!(role.process.stop(), "a clean stop:\n{}", role.process.log());
    }
}

/// A new volume, and a bucket that is away: what rules need is here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_server_evaluates_rules_though_its_bucket_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let s3 = Server::start(s3kit::Config::default()).unwrap();
    s3.faults().add(Rule::always(Fault::Unavailable));
    std::fs::write(
        dir.join("rules.yml"),
        "groups:\n- name: g\n  interval: 1s\n  rules:\n\
         \x20 - {record: near, expr: 'sum(rate(prometheus_http_requests_total[5m])) * 0 + 1'}\n\
         \x20 - {record: far, expr: 'count(count_over_time(up[1h]))'}\n",
    )
    .unwrap();
    let port = free_port();
    std::fs::write(
        dir.join("prometheus.yml"),
        format!("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  external_labels: {{cluster: e2e}}\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: own\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"),
    )
    .unwrap();
    let args = [
        "server".to_owned(),
        "--config.file=prometheus.yml".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        objstore(&s3),
    ];
    let mut server = Process::start(ours(), dir, port, args);
    server.wait_for("/-/ready").await;
    let full = |v: &Value| v.as_array().is_some_and(|a| !a.is_empty());
    server.wait_until("near", full).await;
    let groups = server.get("/api/v1/rules", &[]).await;
    let rules = &groups["data"]["groups"][0]["rules"];
    assert_eq!(rules[0]["health"], "ok", "{groups}");
    // It looks further back than the server has been there, and says why it fails.
    let said = rules[1]["lastError"].as_str().unwrap_or_default();
    assert!(said.contains("not known yet"), "{groups}");
    // Nothing is held against the bucket once it is back.
    s3.faults().clear();
    server.wait_until("far", full).await;
}
