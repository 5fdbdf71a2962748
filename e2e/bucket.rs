//! node_exporter -> all-in-one -> head -> block -> bucket, answered from the bucket alone after
//! the local data is gone. On a filesystem bucket, and on an S3 server that verifies signatures.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Process, available, node_exporter};

/// Blocks of 10 s, so that several are cut and shipped within a test.
const SHORT_BLOCKS: [&str; 4] = [
    "--storage.tsdb.min-block-duration=10s",
    "--storage.tsdb.max-block-duration=10s",
    "--shipper.sync-interval=500ms",
    "--store.sync-interval=500ms",
];

fn write_config(dir: &Path, exporter: u16) -> String {
    let file = dir.join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\n  external_labels:\n    cluster: e2e\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{exporter}']\n"
    );
    std::fs::write(&file, text).unwrap();
    format!("--config.file={}", file.display())
}

/// The samples of a range selector, asked at `time`.
async fn samples(process: &Process, selector: &str, time: f64) -> Value {
    process.query(selector, time).await
}

async fn blocks_in_bucket(process: &Process) -> u64 {
    let status = process.get("/api/v1/status/bucket", &[]).await;
    status["data"]["blocks"]
        .as_array()
        .map_or(0, |b| b.len() as u64)
}

async fn head_then_bucket_alone(dir: &Path, extra: &[&str]) {
    let exporter = node_exporter(dir).await;
    let config = write_config(dir, exporter.port);
    let data = format!("--data-dir={}", dir.join("data").display());
    let mut args = vec![config.as_str(), data.as_str()];
    args.extend(SHORT_BLOCKS);
    args.extend(extra);

    let mut ours = Process::epimetheus(dir, "all-in-one", &args);
    ours.wait_for("/-/ready").await;
    let up = ours
        .wait_until("count_over_time(up[1m]) > 4", |r| !r[0].is_null())
        .await;
    assert_eq!(up[0]["metric"]["job"], "node");

    // Wait for three blocks in the bucket, then pick a time that they hold.
    let end = Instant::now() + Duration::from_secs(120);
    while blocks_in_bucket(&ours).await < 3 {
        assert!(
            Instant::now() < end,
            "no blocks in the bucket:\n{}",
            ours.log()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let status = ours.get("/api/v1/status/bucket", &[]).await;
    let blocks = status["data"]["blocks"].as_array().unwrap();
    let shipped_until = blocks
        .iter()
        .map(|b| b["maxTime"].as_i64().unwrap())
        .max()
        .unwrap();
    let time = (shipped_until - 1) as f64 / 1000.0;
    let selectors = [
        "up[1m]",
        "node_cpu_seconds_total[1m]",
        "scrape_samples_scraped[1m]",
        "sum(rate(node_cpu_seconds_total[8s])) by (mode)",
        "count({__name__=~\"node_.+\"})",
    ];
    let mut before = Vec::new();
    for selector in selectors {
        let answer = samples(&ours, selector, time).await;
        assert!(
            !answer.as_array().unwrap().is_empty(),
            "{selector} has no answer"
        );
        before.push(answer);
    }
    assert!(ours.stop(), "a clean stop:\n{}", ours.log());
    drop(exporter);

    // The local data is lost; only the bucket is left.
    std::fs::remove_dir_all(dir.join("data/tsdb")).unwrap();
    let mut ours = Process::epimetheus(dir, "all-in-one", &args);
    ours.wait_for("/-/ready").await;
    for (selector, before) in selectors.iter().zip(&before) {
        let after = samples(&ours, selector, time).await;
        assert_eq!(
            sorted(&after),
            sorted(before),
            "{selector} from the bucket alone"
        );
    }
    let names = ours.get("/api/v1/label/mode/values", &[]).await;
    assert!(
        names["data"].as_array().unwrap().contains(&"idle".into()),
        "{names}"
    );
    assert!(ours.stop());
}

fn sorted(result: &Value) -> Vec<Value> {
    let mut series = result.as_array().cloned().unwrap_or_default();
    series.sort_by_key(|s| s["metric"].to_string());
    series
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filesystem_bucket_answers_alone() {
    if !available(
        "prometheus-node-exporter",
        "a_filesystem_bucket_answers_alone",
    ) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    head_then_bucket_alone(dir.path(), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_bucket_that_verifies_signatures_answers_alone() {
    if !available(
        "prometheus-node-exporter",
        "an_s3_bucket_that_verifies_signatures_answers_alone",
    ) {
        return;
    }
    let s3 = s3kit::Server::start(s3kit::Config::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (access, secret) = s3.keys();
    let yaml = format!(
        "type: S3\nconfig:\n  bucket: {}\n  endpoint: {}\n  access_key: {access}\n  secret_key: {secret}\n  insecure: true\n  bucket_lookup_type: path\n",
        s3.bucket(),
        s3.host_port()
    );
    let file = dir.path().join("bucket.yml");
    std::fs::write(&file, yaml).unwrap();
    let objstore = format!("--objstore.config-file={}", file.display());
    head_then_bucket_alone(dir.path(), &[&objstore]).await;
    let metas = s3
        .keys_under("")
        .into_iter()
        .filter(|k| k.ends_with("/meta.json"))
        .count();
    assert!(metas >= 3, "the blocks lie in the S3 bucket: {metas}");
    assert!(!dir.path().join("data/bucket").exists(), "and nowhere else");
}
