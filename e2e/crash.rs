//! kill -9 in the middle: whatever a query returned before is there afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::exporter::Exporter;
use crate::process::Process;

/// (series, timestamp text) -> value text, as queries gave them.
type Seen = BTreeMap<(String, String), String>;

async fn record(process: &Process, time: f64, seen: &mut Seen) {
    let selector = "{__name__=~\"e2e_.+|up\"}[1h]";
    for series in process.query(selector, time).await.as_array().unwrap() {
        for sample in series["values"].as_array().unwrap() {
            let key = (series["metric"].to_string(), sample[0].to_string());
            seen.insert(key, sample[1].as_str().unwrap().to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_seen_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let now = model::time::Clock::now(&model::time::WallClock);
    let exporter = Exporter::without_timestamps().await;
    let config = dir.path().join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "global:\n  scrape_interval: 50ms\n  scrape_timeout: 50ms\nscrape_configs:\n- job_name: e2e\n  static_configs:\n  - targets: ['127.0.0.1:{}']\n",
            exporter.port
        ),
    )
    .unwrap();
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()),
        "--storage.tsdb.min-block-duration=2s".to_owned(),
        "--storage.tsdb.max-block-duration=2s".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut seen = Seen::new();
    for round in 0..4 {
        let mut ours = Process::epimetheus(dir.path(), "server", &args);
        ours.wait_for("/-/ready").await;
        let far = now as f64 / 1000.0 + 600.0;
        let mut again = Seen::new();
        record(&ours, far, &mut again).await;
        let lost: Vec<_> = seen
            .iter()
            .filter(|(k, v)| again.get(*k) != Some(v))
            .collect();
        assert!(
            lost.is_empty(),
            "round {round}: {} of {} samples lost: {:?}\n{}",
            lost.len(),
            seen.len(),
            &lost[..lost.len().min(5)],
            ours.log()
        );
        // Each round dies at another moment of the scrape and cut cycle.
        for _ in 0..3 {
            exporter.run(7, &["Epimetheus"]).await;
            record(&ours, far, &mut seen).await;
        }
        tokio::time::sleep(Duration::from_millis(13 * round)).await;
        ours.kill();
    }
    println!("{} samples seen and found again", seen.len());
    assert!(
        seen.len() > 2_000,
        "the test must see samples: {}",
        seen.len()
    );
}
