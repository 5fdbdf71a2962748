//! Our server where a real Prometheus would stand: with a real Thanos sidecar beside it, and beside a
//! real Prometheus that scrapes the same node_exporter and etcd.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::fleet::{Role, ours, role, wait};
use crate::peers::thanos;
use crate::process::{Process, available, free_port, node_exporter};

fn server(dir: &Path, more: &[&str]) -> Process {
    let data = format!("--storage.tsdb.path={}", dir.join("data").display());
    let config = format!("--config.file={}", dir.join("prometheus.yml").display());
    let mut args = vec![data.as_str(), config.as_str()];
    args.extend(more);
    Process::epimetheus(dir, "server", &args)
}

/// The series of an answer, in a fixed order.
fn sorted(answer: &Value) -> Vec<Value> {
    let mut all = answer.as_array().cloned().unwrap_or_default();
    all.sort_by_key(|s| s["metric"].to_string());
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_thanos_sidecar_beside_our_server() {
    const NAME: &str = "a_real_thanos_sidecar_beside_our_server";
    let Some(thanos) = thanos(NAME) else {
        return;
    };
    if !available("prometheus-node-exporter", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let exporter = node_exporter(dir).await;
    // The sidecar writes what the server reads.
    let template = |cluster: &str| {
        let text = format!(
            "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  evaluation_interval: 500ms\n  external_labels: {{cluster: {cluster}, replica: a, from: $(SIDECAR_TEST)}}\n\
             rule_files: [rules.yml]\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{}']\n",
            exporter.port
        );
        std::fs::write(dir.join("template.yml"), text).unwrap();
    };
    template("one");
    std::fs::write(
        dir.join("rules.yml"),
        "groups:\n- name: g\n  rules:\n  - {record: 'up:sum', expr: 'sum(up)'}\n  - {alert: Always, expr: 'vector(1)'}\n",
    )
    .unwrap();
    std::fs::write(
        dir.join("prometheus.yml"),
        "global: {external_labels: {cluster: none}}\n",
    )
    .unwrap();
    let blocks = dir.join("bucket");
    std::fs::create_dir_all(&blocks).unwrap();
    std::fs::write(
        dir.join("bucket.yml"),
        format!(
            "type: FILESYSTEM\nconfig:\n  directory: {}\n",
            blocks.display()
        ),
    )
    .unwrap();
    let mut ours_up = server(
        dir,
        &[
            "--web.enable-lifecycle",
            "--storage.tsdb.min-block-duration=20s",
            "--storage.tsdb.max-block-duration=20s",
        ],
    );
    ours_up.wait_for("/-/ready").await;

    let path = |name: &str| dir.join(name).display().to_string();
    let args = [
        format!("--prometheus.url=http://127.0.0.1:{}", ours_up.port),
        format!("--tsdb.path={}", path("data")),
        format!("--objstore.config-file={}", path("bucket.yml")),
        "--prometheus.get_config_interval=1s".to_owned(),
        format!("--reloader.config-file={}", path("template.yml")),
        format!("--reloader.config-envsubst-file={}", path("prometheus.yml")),
        "--reloader.watch-interval=1s".to_owned(),
        "--reloader.retry-interval=1s".to_owned(),
    ];
    // The variable that it puts into the configuration comes from its environment.
    let launcher = dir.join("thanos-with-env");
    std::fs::write(
        &launcher,
        format!(
            "#!/bin/sh\nSIDECAR_TEST=envsubst exec {} \"$@\"\n",
            thanos.display()
        ),
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&launcher, mode).unwrap();
    let sidecar = role(&launcher, dir, "sidecar", &args).await;
    wait("the flags to be checked", 30, async || {
        sidecar
            .process
            .log()
            .contains("successfully validated prometheus flags")
    })
    .await;
    let up = async |role: &Role, cluster: &str| {
        let one = role
            .process
            .query(
                "up",
                model::time::Clock::now(&model::time::WallClock) as f64 / 1e3,
            )
            .await;
        one[0]["metric"]["cluster"] == cluster && one[0]["metric"]["from"] == "envsubst"
    };
    let endpoint = [format!("--endpoint=127.0.0.1:{}", sidecar.grpc)];
    let our_querier = role(&ours(), dir, "query", &endpoint).await;
    let their_querier = role(&thanos, dir, "query", &endpoint).await;
    for querier in [&our_querier, &their_querier] {
        wait("the labels of the reloaded file", 60, async || {
            up(querier, "one").await
        })
        .await;
    }

    // Through its StoreAPI they read what we have; frames are read, not samples.
    ours_up
        .wait_until("count_over_time(up[10m]) > 20", |r| !r[0].is_null())
        .await;
    let time = model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0 - 1.1;
    for question in [
        "count({__name__=~\"node_.+\"})",
        "sum by (mode) (node_cpu_seconds_total)",
        "node_filesystem_size_bytes",
        "sum(count_over_time(node_cpu_seconds_total[8s]))",
        "sum(rate(node_cpu_seconds_total[8s])) by (cpu)",
        "up:sum",
    ] {
        let mine = sorted(&ours_up.query(question, time).await);
        assert!(!mine.is_empty(), "{question}");
        for querier in [&our_querier, &their_querier] {
            let through = sorted(&querier.process.query(question, time).await);
            assert_eq!(through.len(), mine.len(), "{question}");
            for (a, b) in through.iter().zip(&mine) {
                assert_eq!(a["value"], b["value"], "{question}: {a} and {b}");
            }
        }
    }
    let metrics = sidecar.process.text("/metrics").await;
    let frames = metrics
        .lines()
        .find(|l| l.starts_with("prometheus_store_received_frames_count"))
        .and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(frames.is_some_and(|n| n > 0.0), "{metrics}");
    for querier in [&our_querier, &their_querier] {
        let targets = querier.process.get("/api/v1/targets", &[]).await;
        let labels = &targets["data"]["activeTargets"][0]["labels"];
        assert_eq!(labels["job"], "node", "{targets}");
        let rules = querier.process.get("/api/v1/rules", &[]).await;
        let names: BTreeSet<&str> = rules["data"]["groups"][0]["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|r| r["name"].as_str())
            .collect();
        assert_eq!(names, BTreeSet::from(["Always", "up:sum"]), "{rules}");
        let metadata = querier
            .process
            .get("/api/v1/metadata", &[("metric", "node_cpu_seconds_total")])
            .await;
        assert_eq!(
            metadata["data"]["node_cpu_seconds_total"][0]["type"], "counter",
            "{metadata}"
        );
        let values = querier.process.get("/api/v1/label/mode/values", &[]).await;
        assert!(
            values["data"]
                .as_array()
                .is_some_and(|v| v.contains(&Value::from("idle"))),
            "{values}"
        );
    }

    // Blocks are uploaded as they are cut, with the labels.
    let metas = || -> Vec<Value> {
        let folders = std::fs::read_dir(&blocks).unwrap().flatten();
        let metas = folders.filter_map(|f| std::fs::read(f.path().join("meta.json")).ok());
        metas
            .filter_map(|m| serde_json::from_slice(&m).ok())
            .collect()
    };
    wait("a block in the bucket", 150, async || !metas().is_empty()).await;
    for meta in metas() {
        assert_eq!(meta["thanos"]["source"], "sidecar", "{meta}");
        assert_eq!(meta["thanos"]["labels"]["replica"], "a", "{meta}");
        assert!(meta["stats"]["numSamples"].as_u64() > Some(0), "{meta}");
    }

    // A new file of rules and labels: the sidecar sees it, we reload, the sidecar reads our labels again.
    template("two");
    wait("the new labels", 60, async || {
        up(&their_querier, "two").await
    })
    .await;
    let flags = ours_up.get("/api/v1/status/flags", &[]).await;
    assert_eq!(flags["data"]["storage.tsdb.min-block-duration"], "20s");
    for mut role in [our_querier, their_querier] {
        role.process.stop();
    }
    drop(sidecar);
    assert!(ours_up.stop(), "{}", ours_up.log());
}

/// The series of a job as others see them: labels only.
async fn series(of: &Process, job: &str) -> BTreeSet<String> {
    let selector = format!("{{job=\"{job}\"}}");
    let answer = of
        .get("/api/v1/series", &[("match[]", selector.as_str())])
        .await;
    let all = answer["data"].as_array().cloned().unwrap_or_default();
    let bound = |mut one: Value| {
        for name in ["le", "quantile"] {
            // 3.x writes bounds as floats, 2.x as they come.
            if let Some(text) = one[name].as_str()
                && text.parse::<i64>().is_ok()
            {
                one[name] = format!("{text}.0").into();
            }
        }
        one.to_string()
    };
    all.into_iter().map(bound).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_exporter_and_etcd_give_the_series_that_they_give_to_prometheus() {
    const NAME: &str = "node_exporter_and_etcd_give_the_series_that_they_give_to_prometheus";
    if !available("prometheus", NAME) || !available("prometheus-node-exporter", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let exporter = node_exporter(dir).await;
    let mut jobs = vec![("node", exporter.port)];
    let etcd = available("etcd", NAME).then(|| {
        let (client, peer) = (free_port(), free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let args = [
            format!("--data-dir={}", dir.join("etcd").display()),
            format!("--listen-client-urls={}", url(client)),
            format!("--advertise-client-urls={}", url(client)),
            format!("--listen-peer-urls={}", url(peer)),
            format!("--initial-advertise-peer-urls={}", url(peer)),
            format!("--initial-cluster=default={}", url(peer)),
        ];
        jobs.push(("etcd", client));
        Process::start("etcd", dir, client, args)
    });
    let mut etcd = etcd;
    if let Some(etcd) = &mut etcd {
        etcd.wait_for("/health").await;
    }
    let mut config =
        String::from("global: {scrape_interval: 500ms, scrape_timeout: 500ms}\nscrape_configs:\n");
    for (job, port) in &jobs {
        config +=
            &format!("- job_name: {job}\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n");
    }
    std::fs::write(dir.join("prometheus.yml"), config).unwrap();
    let port = free_port();
    let mut theirs = Process::start(
        "prometheus",
        dir,
        port,
        [
            format!("--config.file={}", dir.join("prometheus.yml").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            format!("--storage.tsdb.path={}", dir.join("theirs").display()),
        ],
    );
    let mut ours = server(dir, &[]);
    theirs.wait_for("/-/ready").await;
    ours.wait_for("/-/ready").await;
    for (job, _) in &jobs {
        let scraped = format!("count_over_time(up{{job=\"{job}\"}}[5m]) > 4");
        for process in [&ours, &theirs] {
            process.wait_until(&scraped, |r| !r[0].is_null()).await;
        }
        // Whatever comes up for one a moment before the other does.
        let mut sets = (BTreeSet::new(), BTreeSet::new());
        wait("equal series", 30, async || {
            sets = (series(&ours, job).await, series(&theirs, job).await);
            let differ: Vec<_> = sets.0.symmetric_difference(&sets.1).collect();
            if !differ.is_empty() {
                println!("{job}: {} differ, such as {}", differ.len(), differ[0]);
            }
            differ.is_empty()
        })
        .await;
        assert!(sets.0.len() > 50, "{job}: {}", sets.0.len());
        println!("{job}: {} equal series", sets.0.len());
        // What does not change between two scrapes is equal, value for value.
        let constant = match *job {
            "node" => {
                "{__name__=~\"node_(boot_time_seconds|uname_info|memory_MemTotal_bytes|filesystem_size_bytes|cpu_info|os_info)\"}"
            }
            _ => {
                "{__name__=~\"etcd_(server_version|server_has_leader|server_id|cluster_version|mvcc_db_total_size_in_bytes)\"}"
            }
        };
        let now = model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0;
        let values = |answer: &Value| -> Vec<String> {
            sorted(answer)
                .iter()
                .map(|s| format!("{} {}", s["metric"], s["value"][1]))
                .collect()
        };
        let (mine, other) = (
            values(&ours.query(constant, now).await),
            values(&theirs.query(constant, now).await),
        );
        assert!(mine.len() > 3, "{mine:?}");
        assert_eq!(mine, other, "{job}");
        let metadata = |of: &Value| of["data"].clone();
        let names = [("metric", "process_cpu_seconds_total")];
        assert_eq!(
            metadata(&ours.get("/api/v1/metadata", &names).await),
            metadata(&theirs.get("/api/v1/metadata", &names).await)
        );
    }
    assert!(ours.stop(), "{}", ours.log());
}
