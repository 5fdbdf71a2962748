//! An agent beside real receivers: nothing is lost on the way, whoever dies, and its folder is that of
//! Prometheus' agent.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::fleet::wait;
use crate::peers::prometheus3;
use crate::process::{Process, available, free_port};
use crate::remote::{counting, gaps, numbers};

fn config(dir: &Path, target: u16, receiver: u16) -> String {
    let path = dir.join("agent.yml");
    let text = format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, external_labels: {{from: agent}}}}\n\
         scrape_configs:\n- job_name: e2e\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n\
         remote_write:\n- url: http://127.0.0.1:{receiver}/api/v1/write\n  \
         queue_config: {{batch_send_deadline: 100ms, max_samples_per_send: 50, min_backoff: 50ms, max_backoff: 200ms}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

async fn agent(dir: &Path, config: &str) -> Process {
    let mut agent = Process::epimetheus(
        dir,
        "server",
        &[
            "--agent",
            &format!("--config.file={config}"),
            "--storage.agent.wal-truncate-frequency=1s",
            "--storage.agent.retention.min-time=1s",
        ],
    );
    agent.wait_for("/-/ready").await;
    agent
}

async fn receiver(dir: &Path, port: u16) -> Process {
    let empty = dir.join("empty.yml");
    std::fs::write(&empty, "").unwrap();
    let args = [
        format!("--config.file={}", empty.display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--storage.tsdb.path={}", dir.join("theirs").display()),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    let mut receiver = Process::start("prometheus", dir, port, args);
    receiver.wait_for("/-/ready").await;
    receiver
}

/// Which scrapes of the counting target have arrived.
async fn arrived(receiver: &Process) -> BTreeSet<u64> {
    let query = "counted_total{series=\"0\",from=\"agent\",job=\"e2e\"}[1h]";
    numbers(receiver, query).await
}

fn segments(dir: &Path) -> usize {
    let wal = std::fs::read_dir(dir.join("data-agent/wal")).unwrap();
    wal.flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_file()))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_loses_nothing_on_the_way() {
    const NAME: &str = "an_agent_loses_nothing_on_the_way";
    if !available("prometheus", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (target, port) = (counting().await, free_port());
    let config = config(dir, target, port);
    let mut theirs = receiver(dir, port).await;
    let mut ours = agent(dir, &config).await;
    let full = |r: &Value| r[0]["value"][1] == "20";
    let all = "count(counted_total{from=\"agent\"})";
    theirs.wait_until(all, full).await;

    // What it keeps is a log, and nothing can be asked.
    let names: BTreeSet<String> = std::fs::read_dir(dir.join("data-agent"))
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    let wanted = ["lock", "remote_write", "wal"].map(String::from);
    assert_eq!(names, BTreeSet::from(wanted));
    let (status, text) = ours.status("/api/v1/query", &[("query", "up")]).await;
    assert_eq!(status, 422, "{text}");
    assert!(text.contains("unavailable with Prometheus Agent"), "{text}");
    let metrics = ours.text("/metrics").await;
    for name in [
        "prometheus_agent_active_series 2",
        "prometheus_agent_samples_appended_total{type=\"float\"}",
        "prometheus_remote_storage_samples_total{",
    ] {
        assert!(metrics.contains(name), "{name}");
    }
    assert!(!metrics.contains("prometheus_tsdb_head_series"));

    // The receiver is away for longer than the log is truncated: what is not sent stays.
    theirs.kill();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let waiting = segments(dir);
    assert!(waiting > 4, "{waiting} segments");
    ours.kill();
    let mut ours = agent(dir, &config).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let theirs = receiver(dir, port).await;
    theirs.wait_until(all, full).await;
    ours.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut ours = agent(dir, &config).await;
    let before = arrived(&theirs).await.last().copied().unwrap_or(0);
    wait("what was scraped since", 60, async || {
        arrived(&theirs).await.last() > Some(&(before + 20))
    })
    .await;
    // What was sent goes.
    wait("the log to be truncated", 30, async || {
        segments(dir) < waiting
    })
    .await;
    assert!(ours.stop(), "{}", ours.log());
    let arrived = arrived(&theirs).await;
    // A scrape that was under way when the agent died was never written down.
    let gaps = gaps(&arrived);
    println!("{} scrapes arrived, {gaps:?} did not", arrived.len());
    assert!(arrived.len() > 60, "{}", arrived.len());
    assert!(gaps.len() <= 2, "{gaps:?}\n{}", ours.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_is_that_of_prometheus_agent() {
    const NAME: &str = "the_folder_is_that_of_prometheus_agent";
    let Some(program) = prometheus3(NAME) else {
        return;
    };
    if !available("prometheus", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (target, port) = (counting().await, free_port());
    let config = config(dir, target, port);
    let theirs = receiver(dir, port).await;
    let real = || {
        let port = free_port();
        let args = [
            "--agent".to_owned(),
            format!("--config.file={config}"),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        Process::start(&program, dir, port, args)
    };
    let mut last = 0;
    for round in 0..4 {
        let mut one = match round % 2 {
            0 => agent(dir, &config).await,
            _ => real(),
        };
        one.wait_for("/-/ready").await;
        wait("samples", 60, async || {
            arrived(&theirs).await.last() > Some(&(last + 10))
        })
        .await;
        last = arrived(&theirs).await.last().copied().unwrap_or(0);
        let log = one.log();
        match round {
            // Killed, and what it left is read by the other.
            0 | 1 => one.kill(),
            _ => assert!(one.stop(), "{log}"),
        }
        let series = log.contains("level=error") || log.contains("level=ERROR");
        assert!(!series && !log.contains("orrupt"), "{round}: {log}");
    }
    // Each went on with the series of the others: one series a label set, no sample is refused.
    let all = theirs
        .get("/api/v1/query", &[("query", "count(counted_total)")])
        .await;
    assert_eq!(all["data"]["result"][0]["value"][1], "20", "{all}");
}
