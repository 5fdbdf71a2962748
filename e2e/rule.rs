//! The `rule` role over a real Prometheus, our sidecar and querier, telling a real Alertmanager.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::alerts::{ALERTMANAGER, alertmanager};
use crate::fleet::{Role, ours, role, wait};
use crate::peers::thanos;
use crate::process::{Process, available, free_port};

/// A wire between two processes that can be cut so that nobody hears of it: packets are dropped.
struct Wire {
    port: u16,
    open: watch::Sender<bool>,
}

impl Wire {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().port();
        let (open, is_open) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let is_open = is_open.clone();
                tokio::spawn(async move {
                    let mut waiting = is_open.clone();
                    if waiting.wait_for(|open| *open).await.is_err() {
                        return;
                    }
                    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    let (near_read, near_write) = near.into_split();
                    let (far_read, far_write) = far.into_split();
                    tokio::join!(
                        carry(near_read, far_write, is_open.clone()),
                        carry(far_read, near_write, is_open)
                    );
                });
            }
        });
        Self { port: at, open }
    }

    fn cut(&self, cut: bool) {
        self.open.send_replace(!cut);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut open: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if open.wait_for(|open| *open).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}

/// A real Prometheus with external labels, scraping itself.
async fn prometheus(dir: &Path, name: &str, port: u16, more: &str) -> Process {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  evaluation_interval: 500ms\n  external_labels: {{prometheus: {name}}}\nscrape_configs:\n- job_name: self\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n{more}"
    );
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    let mut process = Process::start(
        "prometheus",
        &dir,
        port,
        [
            "--config.file=prometheus.yml".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--storage.tsdb.path=data".to_owned(),
            "--query.lookback-delta=3s".to_owned(),
        ],
    );
    process.wait_for("/-/ready").await;
    process
}

async fn sidecar(dir: &Path, name: &str, port: u16) -> Role {
    let args = [
        format!("--prometheus.url=http://127.0.0.1:{port}"),
        format!("--tsdb.path={}", dir.join(name).join("data").display()),
        "--prometheus.get_config_interval=1s".to_owned(),
        "--prometheus.get_config_timeout=1s".to_owned(),
    ];
    role(&ours(), dir, "sidecar", &args).await
}

/// The names of the alerts that an Alertmanager holds for active.
async fn active(alertmanager: &Process) -> BTreeSet<String> {
    let answer = alertmanager.get("/api/v2/alerts", &[]).await;
    let alerts = answer.as_array().cloned().unwrap_or_default();
    let name = |a: &Value| a["labels"]["alertname"].as_str().unwrap_or("").to_owned();
    alerts.iter().map(name).collect()
}

/// Waits until an Alertmanager holds an alert for active, or not; how long that took.
async fn until(alertmanager: &Process, alert: &str, is: bool, role: &Process) -> Duration {
    const MOST: u64 = 60;
    let began = Instant::now();
    while active(alertmanager).await.contains(alert) != is {
        assert!(
            began.elapsed() < Duration::from_secs(MOST),
            "{alert} is {} after {MOST} s\n{}",
            if is { "not told" } else { "not resolved" },
            role.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    began.elapsed()
}

/// The value of a metric of a process, summed over its members that hold `label`.
pub async fn metric(process: &Process, name: &str, label: &str) -> f64 {
    let text = process.text("/metrics").await;
    text.lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// The rule of a group, as the API shows it.
async fn shown(process: &Process, group: &str) -> Value {
    let rules = process
        .get("/api/v1/rules", &[("rule_group[]", group)])
        .await;
    rules["data"]["groups"][0]["rules"][0].clone()
}

fn write_targets(file: &Path, targets: &str) {
    let half = file.with_extension("half");
    std::fs::write(&half, format!("[{{\"targets\": [{targets}]}}]")).unwrap();
    std::fs::rename(half, file).unwrap();
}

/// The seed's rule: `absent(up{prometheus="..."})`, in three failures, with both strategies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prometheus_that_is_gone_is_noticed_in_every_way_it_can_go() {
    const NAME: &str = "a_prometheus_that_is_gone_is_noticed_in_every_way_it_can_go";
    if !available("prometheus", NAME) || !available(ALERTMANAGER, NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let port = free_port();
    let mut prom = prometheus(dir, "p1", port, "").await;
    let beside = sidecar(dir, "p1", port).await;
    let wire = Wire::to(beside.grpc).await;
    let targets = dir.join("stores.json");
    let there = format!("\"127.0.0.1:{}\"", wire.port);
    write_targets(&targets, &there);
    let querier = role(
        &ours(),
        dir,
        "query",
        &[
            format!("--store.sd-files={}", targets.display()),
            "--store.sd-interval=1s".to_owned(),
            "--query.lookback-delta=3s".to_owned(),
            "--store.response-timeout=1s".to_owned(),
            "--endpoint.info-timeout=1s".to_owned(),
        ],
    )
    .await;
    let am_port = free_port();
    let mut manager = alertmanager(dir, am_port);
    manager.wait_for("/-/ready").await;

    let rules = dir.join("rules").join("team");
    std::fs::create_dir_all(&rules).unwrap();
    let group = |strategy: &str, alert: &str| {
        format!(
            "- name: {strategy}\n  interval: 500ms\n  partial_response_strategy: {strategy}\n  rules:\n  - alert: {alert}\n    expr: absent(up{{prometheus=\"p1\"}})\n    for: 1s\n    labels: {{severity: page}}\n"
        )
    };
    let text = format!(
        "groups:\n{}{}",
        group("abort", "GoneAbort"),
        group("warn", "GoneWarn")
    );
    std::fs::write(rules.join("gone.yml"), text).unwrap();
    let ruler = role(
        &ours(),
        dir,
        "rule",
        &[
            format!("--query=127.0.0.1:{}", querier.process.port),
            format!("--alertmanagers.url=http://127.0.0.1:{am_port}"),
            format!("--rule-file={}/rules/*/*.yml", dir.display()),
            format!("--data-dir={}", dir.join("ruler").display()),
            "--label=replica=\"a\"".to_owned(),
            "--alert.label-drop=replica".to_owned(),
            "--alert.query-url=http://query.example".to_owned(),
            "--resend-delay=1s".to_owned(),
        ],
    )
    .await;
    // The mixin's alert for failing evaluations, in a real Prometheus that scrapes the ruler.
    let watch_port = free_port();
    std::fs::create_dir_all(dir.join("watch")).unwrap();
    std::fs::write(
        dir.join("watch").join("mixin.yml"),
        "groups:\n- name: mixin\n  rules:\n  - alert: ThanosRuleHighRuleEvaluationFailures\n    expr: sum by (job, instance) (rate(prometheus_rule_evaluation_failures_total{job=\"rule\"}[5s])) / sum by (job, instance) (rate(prometheus_rule_evaluations_total{job=\"rule\"}[5s])) * 100 > 5\n    for: 1s\n",
    )
    .unwrap();
    let watch = prometheus(
        dir,
        "watch",
        watch_port,
        &format!(
            "- job_name: rule\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\nrule_files: [mixin.yml]\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{am_port}']}}]}}]}}\n",
            ruler.process.port
        ),
    )
    .await;

    // All is well: both rules are evaluated, nothing fires.
    let ruler = &ruler.process;
    wait("evaluations", 30, async || {
        metric(ruler, "prometheus_rule_evaluations_total", "").await >= 6.0
            && shown(ruler, "abort").await["health"] == "ok"
    })
    .await;
    // While the first store was looked for, it may have failed.
    wait("quiet", 60, async || active(&manager).await.is_empty()).await;
    let rule = shown(ruler, "warn").await;
    assert_eq!(rule["labels"]["replica"], "a", "{rule}");
    let groups = ruler.get("/api/v1/rules", &[]).await;
    assert_eq!(
        groups["data"]["groups"][0]["partialResponseStrategy"],
        "ABORT"
    );

    // Dead, its sidecar alive: what is missing is known, so `abort` refuses to judge.
    let refuses = async |what: &str| {
        let failures = metric(ruler, "prometheus_rule_evaluation_failures_total", "abort").await;
        let took = until(&manager, "GoneWarn", true, ruler).await;
        println!("{what}: GoneWarn told after {took:?}");
        wait("failures", 30, async || {
            let now = metric(ruler, "prometheus_rule_evaluation_failures_total", "abort").await;
            now > failures && shown(ruler, "abort").await["health"] == "err"
        })
        .await;
        let rule = shown(ruler, "abort").await;
        assert!(
            rule["lastError"].as_str().is_some_and(|e| !e.is_empty()),
            "{rule}"
        );
        assert_eq!(rule["state"], "inactive", "{rule}");
        let took = until(
            &manager,
            "ThanosRuleHighRuleEvaluationFailures",
            true,
            &watch,
        )
        .await;
        println!("{what}: the mixin's alert told after {took:?} more");
        assert!(!active(&manager).await.contains("GoneAbort"));
        assert!(metric(ruler, "thanos_rule_evaluation_with_warnings_total", "warn").await > 0.0);
    };
    let heals = async |what: &str| {
        for alert in [
            "GoneWarn",
            "GoneAbort",
            "ThanosRuleHighRuleEvaluationFailures",
        ] {
            let took = until(&manager, alert, false, ruler).await;
            println!("{what}: {alert} resolved after {took:?}");
        }
        wait("health", 30, async || {
            shown(ruler, "abort").await["health"] == "ok"
        })
        .await;
    };
    prom.kill();
    refuses("dead").await;
    prom = prometheus(dir, "p1", port, "").await;
    heals("dead").await;

    // Gone from discovery: nobody knows that anything is missing, so both fire.
    write_targets(&targets, "");
    for alert in ["GoneAbort", "GoneWarn"] {
        let took = until(&manager, alert, true, ruler).await;
        println!("not discovered: {alert} told after {took:?}");
    }
    let told = manager
        .get("/api/v2/alerts", &[("filter", "alertname=GoneAbort")])
        .await;
    assert_eq!(
        told[0]["labels"],
        serde_json::json!({"alertname": "GoneAbort", "prometheus": "p1", "severity": "page"})
    );
    assert_eq!(
        told[0]["generatorURL"],
        "http://query.example/graph?g0.expr=absent%28up%7Bprometheus%3D%22p1%22%7D%29&g0.tab=1"
    );
    write_targets(&targets, &there);
    heals("not discovered").await;

    // In discovery, but its packets are dropped: as if it was dead, once the timeouts have passed.
    wire.cut(true);
    refuses("packets dropped").await;
    wire.cut(false);
    heals("packets dropped").await;
    drop(prom);
}

/// What is recorded is answered by queriers, and shipped; rules are told and reloaded. Where a real
/// Thanos is found, its querier stands in for ours on both sides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ruler_is_a_store_and_ships() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("empty.yml"), "").unwrap();
    let mut server = Process::epimetheus(
        dir,
        "server",
        &["--config.file=empty.yml", "--storage.tsdb.path=querier"],
    );
    server.wait_for("/-/ready").await;
    let bucket = dir.join("bucket");
    std::fs::write(
        dir.join("bucket.yml"),
        format!(
            "type: FILESYSTEM\nconfig: {{directory: {}}}\n",
            bucket.display()
        ),
    )
    .unwrap();
    let rules = |text: &str| std::fs::write(dir.join("rules.yml"), text).unwrap();
    let good = "groups:\n- {name: g, interval: 1s, limit: 5, rules: [{record: 'time:now', expr: vector(time()), labels: {team: a}}, {alert: Always, expr: 'time:is > 0'}]}\n";
    rules(good);
    let ruler_port = free_port();
    let ruler_grpc = free_port();
    let querier_args = |grpc: u16| {
        [
            format!("--endpoint=127.0.0.1:{grpc}"),
            "--query.replica-label=replica".to_owned(),
        ]
    };
    let mut ruler = Process::start(
        ours(),
        dir,
        ruler_port,
        [
            "rule".to_owned(),
            format!("--http-address=127.0.0.1:{ruler_port}"),
            format!("--grpc-address=127.0.0.1:{ruler_grpc}"),
            format!("--query=http://127.0.0.1:{}", server.port),
            "--query.http-method=GET".to_owned(),
            "--rule-file=rules*.yml".to_owned(),
            "--data-dir=ruler".to_owned(),
            "--label=replica=\"a\"".to_owned(),
            "--label=region=\"eu\"".to_owned(),
            "--tsdb.block-duration=10s".to_owned(),
            "--objstore.config-file=bucket.yml".to_owned(),
            "--shipper.sync-interval=1s".to_owned(),
        ],
    );
    ruler.wait_for("/-/ready").await;
    let mut queriers = vec![(
        "ours",
        role(&ours(), dir, "query", &querier_args(ruler_grpc)).await,
    )];
    if let Some(thanos) = thanos("a_ruler_is_a_store_and_ships") {
        let theirs = role(&thanos, dir, "query", &querier_args(ruler_grpc)).await;
        queriers.push(("thanos", theirs));
    }
    for (name, querier) in &queriers {
        let found = querier
            .process
            .wait_until("time:now", |r| !r[0].is_null())
            .await;
        assert_eq!(
            found[0]["metric"],
            serde_json::json!({"__name__": "time:now", "region": "eu", "team": "a"}),
            "{name}"
        );
        let stores = querier.process.get("/api/v1/stores", &[]).await;
        assert_eq!(
            stores["data"]["rule"].as_array().map(Vec::len),
            Some(1),
            "{name}: {stores}"
        );
    }
    if let Some((_, querier)) = queriers.iter().find(|(name, _)| *name == "thanos") {
        let told = querier.process.get("/api/v1/rules", &[]).await;
        let group = &told["data"]["groups"][0];
        assert_eq!(
            (&group["name"], &group["limit"]),
            (&"g".into(), &5.into()),
            "{told}"
        );
        // A querier shows the alerts first, whatever the order in the file is; ours does the same.
        let queries: Vec<_> = (0..2).map(|i| &group["rules"][i]["query"]).collect();
        assert_eq!(queries, ["time:is > 0", "vector(time())"], "{told}");
        assert_eq!(group["rules"][1]["labels"]["region"], "eu", "{told}");
        let (_, own) = &queriers[0];
        let own = own.process.get("/api/v1/rules", &[]).await;
        for (i, query) in queries.into_iter().enumerate() {
            assert_eq!(
                own["data"]["groups"][0]["rules"][i]["query"], *query,
                "{own}"
            );
        }
        // A ruler may ask a querier of Thanos'.
        let other = role(
            &ours(),
            dir,
            "rule",
            &[
                format!("--query=127.0.0.1:{}", querier.process.port),
                "--rule-file=over*.yml".to_owned(),
                "--data-dir=over".to_owned(),
            ],
        )
        .await;
        std::fs::write(
            dir.join("over.yml"),
            "groups: [{name: o, interval: 1s, partial_response_strategy: warn, rules: [{record: over, expr: 'sum(time:now)'}]}]",
        )
        .unwrap();
        other.process.signal("HUP");
        wait("an evaluation over Thanos' querier", 30, async || {
            shown(&other.process, "o").await["health"] == "ok"
        })
        .await;
    }

    // Blocks are in the bucket, and say who made them.
    let mut meta = Value::Null;
    wait("a block", 120, async || {
        let blocks = std::fs::read_dir(&bucket).into_iter().flatten().flatten();
        let metas = blocks.filter_map(|b| std::fs::read(b.path().join("meta.json")).ok());
        let found: Vec<Vec<u8>> = metas.collect();
        if let Some(text) = found.first() {
            meta = serde_json::from_slice(text).unwrap();
        }
        !found.is_empty()
    })
    .await;
    assert_eq!(meta["thanos"]["source"], "ruler", "{meta}");
    assert_eq!(
        meta["thanos"]["labels"],
        serde_json::json!({"region": "eu", "replica": "a"})
    );

    // A file that is wrong changes nothing; one that is right is taken over.
    let client = reqwest::Client::new();
    let reload = async || client.post(ruler.url("/-/reload")).send().await.unwrap();
    rules("groups: [{name: g, rules: [{record: a, expr: sum(}]}]");
    let refused = reload().await;
    assert_eq!(refused.status().as_u16(), 500);
    assert!(refused.text().await.unwrap().contains("rules.yml"));
    assert_eq!(
        metric(&ruler, "thanos_rule_config_last_reload_successful", "").await,
        0.0
    );
    assert_eq!(shown(&ruler, "g").await["name"], "time:now");
    rules(&good.replace("time:now", "time:then"));
    assert_eq!(reload().await.status().as_u16(), 200);
    assert_eq!(
        metric(&ruler, "thanos_rule_config_last_reload_successful", "").await,
        1.0
    );
    assert_eq!(shown(&ruler, "g").await["name"], "time:then");
    assert_eq!(
        metric(&ruler, "thanos_rule_loaded_rules", "strategy=\"ABORT\"").await,
        2.0
    );
    // It is not ended over HTTP.
    let quit = client.post(ruler.url("/-/quit")).send().await.unwrap();
    assert_eq!(quit.status().as_u16(), 404);
    assert!(ruler.stop(), "{}", ruler.log());
}
