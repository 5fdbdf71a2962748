//! A backup that is made while compaction and writes go on, and restored: what docs/backup.md says.

use crate::fleet::wait;

use super::*;

/// Copies every block that `to` does not have.
fn replicate(from: &str, to: &str) {
    let command = [
        "tools",
        "bucket",
        "replicate",
        "--single-run",
        "--compaction-max=9",
    ];
    output(
        ours()
            .args(command)
            .arg(format!("--objstore.config-file={from}"))
            .arg(format!("--objstore-to.config-file={to}")),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks(dir.path(), 26);
    let (first, first_config) = filesystem(dir.path(), "first");
    let (second, second_config) = filesystem(dir.path(), "second");
    upload(&blocks, &first_config);
    let scratch = dir.path().join("scratch");
    let before = samples(&first, &scratch);
    assert_eq!(before.len(), 26 * 30 * 4);
    // While a compactor works at the first bucket.
    let mut compactor = waiting(dir.path(), "d", &first_config, &[]);
    replicate(&first_config, &second_config);
    compactor.wait_for("/-/ready").await;
    let end = Instant::now() + Duration::from_secs(120);
    while metas(&first).len() != 7 {
        assert!(Instant::now() < end, "{}", compactor.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    replicate(&first_config, &second_config);
    let answer = compactor.get("/api/v1/blocks", &[("view", "global")]).await;
    assert_eq!(answer["status"], "success");
    assert!(
        compactor
            .text("/metrics")
            .await
            .contains("thanos_compact_iterations_total")
    );
    assert!(compactor.stop(), "{}", compactor.log());
    assert_eq!(samples(&first, &scratch), before);

    // The first bucket is lost. The second one is as good, and becomes a new first one.
    std::fs::remove_dir_all(&first).unwrap();
    assert_eq!(samples(&second, &scratch), before);
    std::fs::create_dir_all(&first).unwrap();
    replicate(&second_config, &first_config);
    assert_eq!(samples(&first, &scratch), before);

    // A mark set by mistake is taken back.
    let block = metas(&first).into_keys().next().unwrap();
    let mark = |extra: &str| {
        output(
            ours()
                .args([
                    "tools",
                    "bucket",
                    "mark",
                    "--marker=deletion-mark.json",
                    extra,
                ])
                .arg(format!("--id={block}"))
                .arg(format!("--objstore.config-file={first_config}")),
        )
    };
    mark("--details=by mistake");
    assert!(!metas(&first).contains_key(&block));
    mark("--remove");
    assert!(metas(&first).contains_key(&block));
}

/// A server that scrapes itself.
fn server(dir: &Path, data: &Path, config: &str) -> Process {
    let port = free_port();
    let text = format!(
        "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\n  external_labels: {{cluster: e2e}}\nscrape_configs:\n- job_name: own\n  static_configs:\n  - targets: ['127.0.0.1:{port}']\n    labels: {{instance: one}}\n"
    );
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    let args = [
        "server".to_owned(),
        format!("--config.file={}", dir.join("prometheus.yml").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--storage.tsdb.path={}", data.display()),
        "--storage.tsdb.min-block-duration=4s".to_owned(),
        "--storage.tsdb.max-block-duration=4s".to_owned(),
        "--shipper.sync-interval=300ms".to_owned(),
        "--store.sync-interval=300ms".to_owned(),
        "--web.enable-admin-api".to_owned(),
        format!("--objstore.config-file={config}"),
    ];
    Process::start(env!("CARGO_BIN_EXE_epimetheus"), dir, port, args)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_with_the_newest_hours_is_restored_though_everything_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (first, first_config) = filesystem(dir, "first");
    let (second, second_config) = filesystem(dir, "second");
    upload(&blocks(dir, 26), &first_config);
    let data = dir.join("data");
    let mut running = server(dir, &data, &first_config);
    running.wait_for("/-/ready").await;
    let shipped = || {
        let of_server = |m: &Value| m["thanos"]["labels"]["cluster"] == "e2e";
        metas(&first).values().filter(|m| of_server(m)).count()
    };
    wait("blocks of the server in the bucket", 60, async || {
        shipped() >= 2
    })
    .await;
    // Compaction and writes go on while the backup is made.
    let mut compactor = waiting(dir, "d", &first_config, &[]);
    replicate(&first_config, &second_config);

    // Up to a second ago all of it shall be there again; what is younger may still be on its way.
    let now = model::time::Clock::now(&model::time::WallClock);
    let time = (now - 1000) as f64 / 1000.0;
    let question = "{__name__=~\"up|epimetheus_build_info|scrape_samples_scraped\"}[10m]";
    let before = running.query(question, time).await;
    let samples = |answer: &Value| -> usize {
        let series = answer.as_array().into_iter().flatten();
        series
            .map(|s| s["values"].as_array().map_or(0, Vec::len))
            .sum()
    };
    assert!(samples(&before) > 3 * 20, "{before}");
    let client = reqwest::Client::new();
    let made = client.post(running.url("/api/v1/admin/tsdb/snapshot"));
    let made = made.send().await.unwrap().bytes().await.unwrap();
    let made: Value = serde_json::from_slice(&made).unwrap();
    let snapshot = data
        .join("snapshots")
        .join(made["data"]["name"].as_str().unwrap());
    output(
        ours()
            .args([
                "tools",
                "bucket",
                "upload-blocks",
                "--label=cluster=\"e2e\"",
            ])
            .arg(format!("--path={}", snapshot.display()))
            .arg(format!("--objstore.config-file={second_config}")),
    );
    compactor.wait_for("/-/ready").await;

    // The server, its disk and the bucket are lost.
    running.kill();
    compactor.kill();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::remove_dir_all(&first).unwrap();
    std::fs::create_dir_all(&first).unwrap();
    assert!(metas(&second).len() > 13, "{:?}", metas(&second).keys());
    replicate(&second_config, &first_config);
    let mut again = server(dir, &data, &first_config);
    again.wait_for("/-/ready").await;
    let sorted = |answer: &Value| {
        let mut series = answer.as_array().cloned().unwrap_or_default();
        series.sort_by_key(|s| s["metric"].to_string());
        series
    };
    let mut found = Value::Null;
    wait("the answers of before", 60, async || {
        found = again.query(question, time).await;
        samples(&found) >= samples(&before)
    })
    .await;
    assert_eq!(sorted(&found), sorted(&before));
    assert!(again.stop(), "{}", again.log());
}
