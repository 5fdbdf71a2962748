//! Rules in the server, and their alerts in a real Alertmanager.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Process, available, free_port};

/// The program.
pub const ALERTMANAGER: &str = "prometheus-alertmanager";

/// A real Alertmanager without a cluster.
pub fn alertmanager(dir: &Path, port: u16) -> Process {
    let config = dir.join("alertmanager.yml");
    std::fs::write(
        &config,
        "route: {receiver: nobody, group_wait: 1s}\nreceivers: [{name: nobody}]\n",
    )
    .unwrap();
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.path={}", dir.join("alertmanager").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_owned(),
    ];
    Process::start(ALERTMANAGER, dir, port, args)
}

/// The alerts that Alertmanager knows, by name, once they are `wanted`.
async fn told(alertmanager: &Process, wanted: &[&str]) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = alertmanager.get("/api/v2/alerts", &[]).await;
        let mut alerts = answer.as_array().cloned().unwrap_or_default();
        let name = |a: &Value| a["labels"]["alertname"].as_str().unwrap_or("").to_owned();
        alerts.sort_by_key(name);
        if alerts.iter().map(name).eq(wanted.iter().copied()) {
            return alerts;
        }
        assert!(Instant::now() < end, "wanted {wanted:?}, got {answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_fire_resolve_and_survive_restarts() {
    if !available(ALERTMANAGER, "alerts_fire_resolve_and_survive_restarts") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut manager = alertmanager(dir.path(), port);
    manager.wait_for("/-/ready").await;

    let rules = |threshold: u32| {
        let text = format!(
            "groups:\n- name: g\n  interval: 500ms\n  rules:\n\
             \x20 - {{record: 'time:is', expr: 'vector(time())'}}\n\
             \x20 - alert: Down\n    expr: up{{job=\"gone\"}} < {threshold}\n    for: 1s\n    labels: {{severity: page}}\n\
             \x20   annotations: {{summary: '{{{{ $labels.instance }}}} is down ({{{{ $value }}}})'}}\n\
             \x20 - {{alert: Watchdog, expr: 'time:is > 0'}}\n"
        );
        std::fs::write(dir.path().join("rules.yml"), text).unwrap();
    };
    rules(1);
    let config = dir.path().join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s, external_labels: {{cluster: one, replica: a}}}}\n\
             rule_files: ['rules*.yml']\n\
             alerting:\n  alert_relabel_configs: [{{action: labeldrop, regex: replica}}]\n\
             \x20 alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n\
             scrape_configs: [{{job_name: gone, static_configs: [{{targets: ['127.0.0.1:1']}}]}}]\n"
        ),
    )
    .unwrap();
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()),
        "--web.enable-lifecycle".to_owned(),
        "--rules.alert.resend-delay=5s".to_owned(),
        "--rules.alert.for-grace-period=0s".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut ours = Process::epimetheus(dir.path(), "server", &args);
    ours.wait_for("/-/ready").await;

    let alerts = told(&manager, &["Down", "Watchdog"]).await;
    let labels = serde_json::json!({
        "alertname": "Down", "cluster": "one", "instance": "127.0.0.1:1", "job": "gone", "severity": "page",
    });
    assert_eq!(alerts[0]["labels"], labels);
    assert_eq!(
        alerts[0]["annotations"]["summary"],
        "127.0.0.1:1 is down (0)"
    );
    let started = alerts[0]["startsAt"].clone();

    // A new Alertmanager without memory is told again; our own restart goes on with the alert.
    manager.kill();
    std::fs::remove_dir_all(dir.path().join("alertmanager")).unwrap();
    let mut manager = alertmanager(dir.path(), port);
    manager.wait_for("/-/ready").await;
    let alerts = told(&manager, &["Down", "Watchdog"]).await;
    assert_eq!(alerts[0]["startsAt"], started);
    let since = ours
        .query("ALERTS_FOR_STATE{alertname=\"Down\"}", now())
        .await;
    assert!(ours.stop());
    let mut ours = Process::epimetheus(dir.path(), "server", &args);
    ours.wait_for("/-/ready").await;
    // Not what the process before has left.
    let anew = format!(
        "timestamp(ALERTS{{alertname=\"Down\",alertstate=\"firing\"}}) > {}",
        now()
    );
    ours.wait_until(&anew, |r| r.as_array().is_some_and(|r| !r.is_empty()))
        .await;
    let again = ours
        .query("ALERTS_FOR_STATE{alertname=\"Down\"}", now())
        .await;
    assert_eq!(again[0]["value"][1], since[0]["value"][1], "{again}");

    // It was never resolved in between.
    let alerts = told(&manager, &["Down", "Watchdog"]).await;
    assert_eq!(alerts[0]["startsAt"], started);

    // The rule no longer holds: the alert is resolved, and the series ends.
    rules(0);
    let client = reqwest::Client::new();
    let reloaded = client.post(ours.url("/-/reload")).send().await.unwrap();
    assert!(reloaded.status().is_success());
    told(&manager, &["Watchdog"]).await;
    ours.wait_until("ALERTS{alertname=\"Down\"}", |r| {
        r.as_array().is_some_and(Vec::is_empty)
    })
    .await;
    let rules = ours.get("/api/v1/rules", &[("type", "alert")]).await;
    let states: Vec<_> = rules["data"]["groups"][0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["name"].as_str().unwrap(), r["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("Down", "inactive"), ("Watchdog", "firing")]);
    assert!(ours.stop());
}

fn now() -> f64 {
    model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0
}
