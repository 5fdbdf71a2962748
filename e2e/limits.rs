//! A disk that is full and memory that is used up: refused with words, nothing lost, and on it goes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;

use crate::process::Process;

/// A target of which the test says how many series it has, and whether they are others at each
/// scrape.
struct Target {
    port: u16,
    shape: Arc<Shape>,
}

#[derive(Default)]
struct Shape {
    scrapes: AtomicUsize,
    series: AtomicUsize,
    churns: AtomicBool,
}

/// Bytes of the label that makes the series large.
const LABEL: usize = 1_000;

impl Target {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shape = Arc::<Shape>::default();
        let serve = |State(shape): State<Arc<Shape>>| async move {
            let scrape = shape.scrapes.fetch_add(1, Ordering::Relaxed);
            let mut text = format!("scrapes_total {scrape}\n");
            let kin = if shape.churns.load(Ordering::Relaxed) {
                scrape
            } else {
                0
            };
            for i in 0..shape.series.load(Ordering::Relaxed) {
                let _ = writeln!(text, "big{{i=\"{kin}-{i:0>LABEL$}\"}} 1");
            }
            text
        };
        let router = axum::Router::new()
            .route("/metrics", get(serve))
            .with_state(Arc::clone(&shape));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, shape }
    }

    fn has(&self, series: usize, churns: bool) {
        self.shape.churns.store(churns, Ordering::Relaxed);
        self.shape.series.store(series, Ordering::Relaxed);
    }

    fn config(&self, dir: &Path, interval: &str) -> PathBuf {
        let path = dir.join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\nscrape_configs:\n- job_name: e2e\n  static_configs:\n  - targets: ['127.0.0.1:{}']\n",
            self.port
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A small file system of its own, as long as it lives.
struct Small(PathBuf);

impl Small {
    /// None where nothing can be mounted.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output();
        mounted
            .is_ok_and(|out| out.status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The value of a metric without labels.
async fn metric(process: &Process, name: &str) -> f64 {
    let text = process.text("/metrics").await;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|v| v.trim().parse().ok()).unwrap_or(0.0)
}

/// Waits until `met` holds of a metric.
async fn until(process: &Process, name: &str, met: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..900 {
        let value = metric(process, name).await;
        if met(value) {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} never came to be as awaited:\n{}", process.log());
}

/// (time, value) of what was scraped, from the first.
async fn scraped(process: &Process) -> Vec<(String, String)> {
    let now = model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0;
    let result = process.query("scrapes_total[1h]", now).await;
    let values = result[0]["values"].as_array().cloned().unwrap_or_default();
    let pair = |v: &serde_json::Value| (v[0].to_string(), v[1].to_string());
    values.iter().map(pair).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("tsdb");
    let Some(_small) = Small::mount(&data, "8m") else {
        println!("SKIPPED a_full_disk_loses_nothing_and_recovers: a tmpfs cannot be mounted here");
        return;
    };
    let target = Target::start().await;
    let config = target.config(dir.path(), "50ms");
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", data.display()),
        "--storage.tsdb.min-block-duration=2s".to_owned(),
        "--storage.tsdb.max-block-duration=2s".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut ours = Process::epimetheus(dir.path(), "server", &args);
    ours.wait_for("/-/ready").await;
    let taken = "prometheus_tsdb_head_samples_appended_total{type=\"float\"}";
    until(&ours, taken, |n| n > 100.0).await;

    // Nothing fits any more.
    let ballast = data.join("ballast");
    let full = std::fs::write(&ballast, vec![1; 9 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let refused = until(&ours, "prometheus_tsdb_wal_writes_failed_total", |n| {
        n > 5.0
    })
    .await;
    let said = ours.log();
    assert!(said.contains("No space left"), "{said}");
    // It answers all the same, and what it answers stays.
    let seen = scraped(&ours).await;
    assert!(seen.len() > 20, "{}", seen.len());
    // Longer than a block: a cut has failed by then, too.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(scraped(&ours).await[..seen.len()], seen);

    std::fs::remove_file(&ballast).unwrap();
    let before = metric(&ours, taken).await;
    until(&ours, taken, |n| n > before + 100.0).await;
    let more = scraped(&ours).await;
    assert_eq!(more[..seen.len()], seen);
    assert!(more.len() > seen.len());
    ours.kill();

    let mut ours = Process::epimetheus(dir.path(), "server", &args);
    ours.wait_for("/-/ready").await;
    let again = scraped(&ours).await;
    assert_eq!(again[..more.len()], more);
    assert!(ours.stop());
    println!(
        "{refused} writes refused, {} samples seen and found again",
        more.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_is_used_up_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::start().await;
    let config = target.config(dir.path(), "1s");
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()),
        "--memory.limit=64MB".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut ours = Process::epimetheus(dir.path(), "server", &args);
    ours.wait_for("/-/ready").await;

    // Some series, and a query that wants more of them than it may hold.
    target.has(3_000, false);
    until(&ours, "prometheus_tsdb_head_series", |n| n > 3_000.0).await;
    let now = model::time::Clock::now(&model::time::WallClock) / 1000;
    let (start, end) = (now.to_string(), (now + 280).to_string());
    let params = [
        ("query", "big * 2"),
        ("start", &start),
        ("end", &end),
        ("step", "0.05"),
    ];
    let (status, answer) = ours.status("/api/v1/query_range", &params).await;
    assert_eq!(status, 422, "{answer}");
    for word in ["bytes", "limited to", "--memory.limit"] {
        assert!(answer.contains(word), "{answer}");
    }
    let (status, answer) = ours
        .status("/api/v1/query", &[("query", "count(big)")])
        .await;
    assert_eq!(status, 200, "{answer}");

    // More series than the head may hold.
    target.has(5_000, true);
    until(&ours, "epimetheus_tsdb_appends_refused_total", |n| n > 0.0).await;
    let (status, _) = ours
        .status("/api/v1/query", &[("query", "scrapes_total")])
        .await;
    assert_eq!(status, 200);
    let said = ours.log();
    assert!(said.contains("the head holds"), "{said}");
    assert!(said.contains("--memory.limit"), "{said}");

    // The flood ends: it recovers by itself.
    target.has(0, false);
    let taken = "prometheus_tsdb_head_samples_appended_total{type=\"float\"}";
    let before = metric(&ours, taken).await;
    until(&ours, taken, |n| n > before + 10.0).await;
    assert!(ours.stop());
}
