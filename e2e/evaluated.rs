//! Rules in our server beside the same rules in a real Prometheus: what they record, and what they cost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::fleet::ours;
use crate::peers::prometheus3;
use crate::process::{Process, available, cpu, free_port};
use crate::rule::metric;

/// Samples of a series by second.
async fn by_second(server: &Process, selector: &str) -> BTreeMap<i64, String> {
    let answer = server.query(&format!("{selector}[2m]"), now()).await;
    let series = answer.as_array().cloned().unwrap_or_default();
    let mut all = BTreeMap::new();
    for one in series {
        for sample in one["values"].as_array().into_iter().flatten() {
            let at = sample[0].as_f64().unwrap().floor() as i64;
            all.insert(at, sample[1].as_str().unwrap().to_owned());
        }
    }
    all
}

/// The same rules in a real Prometheus and in ours, over what they record themselves: every second
/// has the same values and the same states of alerts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_record_and_alert_as_in_prometheus() {
    const NAME: &str = "rules_record_and_alert_as_in_prometheus";
    if !available("prometheus", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(
        dir.join("rules.yml"),
        "groups:\n- name: waves\n  interval: 1s\n  rules:\n\
         \x20 - {record: wave, expr: 'label_replace(floor(vector(time())) % 10, \"job\", \"x\", \"\", \"\")'}\n\
         \x20 - {record: 'wave:avg', expr: 'avg_over_time(wave[9500ms])', labels: {kind: mean}}\n\
         \x20 - {record: 'wave:high', expr: wave > 6}\n\
         \x20 - {alert: High, expr: wave > 3, for: 2s, labels: {of: '{{ $labels.job }}'}}\n\
         \x20 - {alert: Kept, expr: wave > 7, labels: {severity: page}}\n\
         \x20 - {record: 'alerts:firing', expr: 'count(ALERTS{alertstate=\"firing\"}) or vector(0)'}\n",
    )
    .unwrap();
    std::fs::write(dir.join("prometheus.yml"), "rule_files: [rules.yml]\n").unwrap();
    let port = free_port();
    let mut theirs = Process::start(
        "prometheus",
        dir,
        port,
        [
            "--config.file=prometheus.yml".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--storage.tsdb.path=theirs".to_owned(),
        ],
    );
    let mut ours = Process::epimetheus(
        dir,
        "server",
        &["--config.file=prometheus.yml", "--storage.tsdb.path=ours"],
    );
    theirs.wait_for("/-/ready").await;
    ours.wait_for("/-/ready").await;
    tokio::time::sleep(Duration::from_secs(36)).await;
    // Windows and pending alerts reach back before both were there.
    let first = async |server: &Process| *by_second(server, "wave").await.keys().next().unwrap();
    let from = first(&theirs).await.max(first(&ours).await) + 13;
    let mut compared = 0;
    for selector in [
        "wave",
        "wave:avg",
        "wave:high",
        "ALERTS{alertname=\"High\",alertstate=\"pending\"}",
        "ALERTS{alertname=\"High\",alertstate=\"firing\"}",
        "ALERTS{alertname=\"Kept\"}",
        "alerts:firing",
    ] {
        let (mut a, mut b) = (
            by_second(&theirs, selector).await,
            by_second(&ours, selector).await,
        );
        let to = from + 20;
        a.retain(|at, _| (from..to).contains(at));
        b.retain(|at, _| (from..to).contains(at));
        assert!(!a.is_empty(), "{selector}");
        assert_eq!(a, b, "{selector}");
        compared += a.len();
    }
    println!("{compared} samples are equal");
    let rules = async |server: &Process| {
        let answer = server.get("/api/v1/rules", &[]).await;
        let mut groups = answer["data"]["groups"].clone();
        for group in groups.as_array_mut().unwrap() {
            for key in ["evaluationTime", "lastEvaluation"] {
                assert!(group[key].is_number() || group[key].is_string());
                group[key] = Value::Null;
            }
            for rule in group["rules"].as_array_mut().unwrap() {
                for key in [
                    "evaluationTime",
                    "lastEvaluation",
                    "state",
                    "alerts",
                    "keepFiringFor",
                ] {
                    rule.as_object_mut().unwrap().remove(key);
                }
            }
        }
        groups
    };
    assert_eq!(rules(&ours).await, rules(&theirs).await);
    assert!(ours.stop());
}

/// 10,000 rules a minute, in real Prometheuses and in ours side by side:
/// `EPIMETHEUS_MEASURE=target/release/epimetheus cargo test -p app --test e2e -- --ignored --nocapture ten_thousand`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of minutes"]
async fn ten_thousand_rules() {
    const NAME: &str = "ten_thousand_rules";
    if !available("prometheus", NAME) || !available("prometheus-node-exporter", NAME) {
        return;
    }
    let own = std::env::var_os("EPIMETHEUS_MEASURE").map_or_else(ours, PathBuf::from);
    let mut programs = vec![("ours", own), ("prometheus", "prometheus".into())];
    programs.extend(prometheus3(NAME).map(|three| ("prometheus 3", three)));
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let exporter = crate::process::node_exporter(dir).await;
    let mut text = "groups:\n".to_owned();
    for group in 0..100 {
        text.push_str(&format!("- name: g{group}\n  interval: 1m\n  rules:\n"));
        for rule in 0..50 {
            text.push_str(&format!(
                "  - {{record: 'cpu:{group}:{rule}', expr: 'sum by (mode) (rate(node_cpu_seconds_total[2m])) + {rule}'}}\n  - {{alert: A{group}x{rule}, expr: node_filesystem_avail_bytes < {rule}, for: 5m}}\n"
            ));
        }
    }
    std::fs::write(dir.join("rules.yml"), text).unwrap();
    std::fs::write(
        dir.join("prometheus.yml"),
        format!(
            "global: {{scrape_interval: 15s}}\nrule_files: [rules.yml]\nscrape_configs: [{{job_name: node, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]\n",
            exporter.port
        ),
    )
    .unwrap();
    let mut servers = Vec::new();
    for (i, (name, program)) in programs.iter().enumerate() {
        let port = free_port();
        let mut args = vec![
            "--config.file=prometheus.yml".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            format!("--storage.tsdb.path=data-{i}"),
        ];
        if i == 0 {
            args.insert(0, "server".to_owned());
        }
        servers.push((*name, Process::start(program, dir, port, args)));
    }
    for (_, server) in &mut servers {
        server.wait_for("/-/ready").await;
    }
    tokio::time::sleep(Duration::from_secs(90)).await;
    let taken = |process: &Process| cpu(process.id()).unwrap().0;
    let before: Vec<f64> = servers.iter().map(|(_, s)| taken(s)).collect();
    tokio::time::sleep(Duration::from_secs(180)).await;
    let spent = servers.iter().zip(before);
    let spent: Vec<f64> = spent.map(|((_, s), before)| taken(s) - before).collect();
    let first = spent[0];
    for ((name, server), spent) in servers.iter().zip(&spent) {
        let missed = metric(server, "prometheus_rule_group_iterations_missed_total", "").await;
        let done = metric(server, "prometheus_rule_evaluations_total", "").await;
        let text = server.text("/metrics").await;
        let mut groups: Vec<f64> = text
            .lines()
            .filter(|l| l.starts_with("prometheus_rule_group_last_duration_seconds"))
            .filter_map(|l| l.rsplit(' ').next()?.parse().ok())
            .collect();
        groups.sort_by(f64::total_cmp);
        println!(
            "{name}: {done} evaluations, {missed} ticks missed, a group took {:.3} s, the slowest {:.3} s; {spent:.1} s of CPU in 180 s, {:.2} x ours",
            groups[groups.len() / 2],
            groups[groups.len() - 1],
            spent / first,
        );
    }
}

fn now() -> f64 {
    model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0
}
