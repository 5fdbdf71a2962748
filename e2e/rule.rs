//! The `rule` role over a real Prometheus, our sidecar and querier, telling a real Alertmanager.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::alerts::{ALERTMANAGER, alertmanager};
use crate::fleet::{Role, ours, role, thanos, wait};
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
async fn metric(process: &Process, name: &str, label: &str) -> f64 {
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

/// A receiver of Alertmanager's webhooks.
#[derive(Clone, Default)]
struct Webhook(Arc<Mutex<Vec<Value>>>);

impl Webhook {
    /// Listens, and gives the route's part of an Alertmanager's configuration.
    async fn listen(&self) -> u16 {
        let heard = self.clone();
        let take = move |axum::Json(body): axum::Json<Value>| async move {
            heard.0.lock().push(body);
        };
        let app = axum::Router::new().route("/", axum::routing::post(take));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, app).await });
        port
    }

    /// Status, start and instance of every alert of that name in every notification, in order.
    fn about(&self, alert: &str) -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        for body in self.0.lock().iter() {
            for one in body["alerts"].as_array().into_iter().flatten() {
                if one["labels"]["alertname"] == alert {
                    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
                    let instance = text(&one["labels"]["instance"]);
                    all.push((text(&one["status"]), text(&one["startsAt"]), instance));
                }
            }
        }
        all
    }
}

/// A real Alertmanager that tells a webhook of everything at once, and of nothing twice.
fn telling(dir: &Path, port: u16, webhook: u16) -> Process {
    let config = dir.join("telling.yml");
    std::fs::write(
        &config,
        format!(
            "route: {{receiver: hook, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 4h}}\nreceivers: [{{name: hook, webhook_configs: [{{url: 'http://127.0.0.1:{webhook}/'}}]}}]\n"
        ),
    )
    .unwrap();
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.path={}", dir.join("telling").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_owned(),
    ];
    Process::start(ALERTMANAGER, dir, port, args)
}

fn amtool(port: u16, args: &[&str]) -> String {
    let done = std::process::Command::new("amtool")
        .arg(format!("--alertmanager.url=http://127.0.0.1:{port}"))
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "amtool {args:?}: {text}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    text
}

/// Alerts fire, are grouped, silenced and resolved; the Alertmanager is restarted in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amtool_sees_groups_and_silences_over_a_restart() {
    const NAME: &str = "amtool_sees_groups_and_silences_over_a_restart";
    if !available(ALERTMANAGER, NAME) || !available("amtool", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let webhook = Webhook::default();
    let hook = webhook.listen().await;
    let port = free_port();
    let mut manager = telling(dir, port, hook);
    manager.wait_for("/-/ready").await;
    let rules = |down: &str, quiet: &str| {
        let text = format!(
            "groups:\n- name: g\n  interval: 500ms\n  rules:\n  - alert: Down\n    expr: label_replace(vector(1), 'instance', 'a', '', '') {down} or label_replace(vector(1), 'instance', 'b', '', '') {down}\n  - alert: Quiet\n    expr: vector(1) {quiet}\n"
        );
        std::fs::write(dir.join("rules.yml"), text).unwrap();
    };
    rules("> 0", "> 2");
    std::fs::write(
        dir.join("prometheus.yml"),
        format!("rule_files: [rules.yml]\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]}}\n"),
    )
    .unwrap();
    let args = [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=tsdb",
        "--web.enable-lifecycle",
        "--rules.alert.resend-delay=1s",
    ];
    let mut server = Process::epimetheus(dir, "server", &args);
    server.wait_for("/-/ready").await;
    let client = reqwest::Client::new();
    let reload = async |server: &Process| {
        let answer = client.post(server.url("/-/reload")).send().await.unwrap();
        assert!(answer.status().is_success());
    };

    // Both instances in one group.
    wait("the group", 30, async || webhook.about("Down").len() >= 2).await;
    let first = webhook.0.lock()[0].clone();
    assert_eq!(
        first["groupLabels"],
        serde_json::json!({"alertname": "Down"})
    );
    let seen = amtool(
        port,
        &["alert", "query", "alertname=Down", "--output=simple"],
    );
    assert_eq!(
        seen.lines().filter(|l| l.starts_with("Down")).count(),
        2,
        "{seen}"
    );

    // A silence holds back another alert, also after a restart of the Alertmanager.
    let comment = ["--comment=c", "--author=a", "--duration=10m"];
    let mut add = vec!["silence", "add", "alertname=Quiet"];
    add.extend(comment);
    let silence = amtool(port, &add).trim().to_owned();
    rules("> 0", "> 0");
    reload(&server).await;
    wait("the silenced alert", 30, async || {
        amtool(port, &["alert", "query", "--silenced", "--output=simple"]).contains("Quiet")
    })
    .await;
    assert!(manager.stop());
    let mut manager = telling(dir, port, hook);
    manager.wait_for("/-/ready").await;
    wait("being told again", 30, async || {
        amtool(port, &["alert", "query", "--silenced", "--output=simple"]).contains("Quiet")
    })
    .await;
    assert_eq!(webhook.about("Quiet"), []);
    amtool(port, &["silence", "expire", &silence]);
    wait("the silence to end", 30, async || {
        !webhook.about("Quiet").is_empty()
    })
    .await;

    // Nothing was said of the group meanwhile but that it fires; now it is over.
    let firing = |(status, ..): &(String, String, String)| status == "firing";
    assert!(webhook.about("Down").iter().all(firing));
    rules("> 2", "> 0");
    reload(&server).await;
    wait("the end", 60, async || {
        let resolved = webhook.about("Down");
        ["a", "b"].iter().all(|instance| {
            resolved
                .iter()
                .any(|(status, _, i)| status == "resolved" && i == instance)
        })
    })
    .await;
    let seen = amtool(port, &["alert", "query", "--output=simple"]);
    assert!(seen.contains("Quiet") && !seen.contains("Down"), "{seen}");
    assert!(server.stop());
}

/// The active alert of that name, as the API of a server shows it: since when, in seconds.
async fn since(server: &Process, alert: &str) -> Option<(String, f64)> {
    let answer = server.get("/api/v1/alerts", &[]).await;
    let alerts = answer["data"]["alerts"].as_array()?;
    let one = alerts.iter().find(|a| a["labels"]["alertname"] == alert)?;
    let at: jiff::Timestamp = one["activeAt"].as_str()?.parse().ok()?;
    Some((
        one["state"].as_str()?.to_owned(),
        at.as_millisecond() as f64 / 1000.0,
    ))
}

/// A real Prometheus with one alert that fires and one at more than half of its `for` is stopped,
/// and our server takes its folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_go_on_when_our_server_takes_the_folder_of_a_prometheus() {
    const NAME: &str = "alerts_go_on_when_our_server_takes_the_folder_of_a_prometheus";
    if !available("prometheus", NAME) || !available(ALERTMANAGER, NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let webhook = Webhook::default();
    let hook = webhook.listen().await;
    let am = free_port();
    let mut manager = telling(dir, am, hook);
    manager.wait_for("/-/ready").await;
    std::fs::write(
        dir.join("rules.yml"),
        "groups:\n- name: g\n  interval: 1s\n  rules:\n  - {alert: Fires, expr: vector(1), for: 2s}\n  - {alert: Waits, expr: vector(1), for: 25s}\n",
    )
    .unwrap();
    std::fs::write(
        dir.join("prometheus.yml"),
        format!("rule_files: [rules.yml]\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{am}']}}]}}]}}\n"),
    )
    .unwrap();
    let flags = [
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        "--rules.alert.for-grace-period=0s".to_owned(),
        // What is told holds for four of these.
        "--rules.alert.resend-delay=5s".to_owned(),
    ];
    let port = free_port();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let mut theirs = Process::start(
        "prometheus",
        dir,
        port,
        flags.iter().cloned().chain([listen]),
    );
    theirs.wait_for("/-/ready").await;
    wait("the first alert", 30, async || {
        !webhook.about("Fires").is_empty()
    })
    .await;
    let (_, began) = since(&theirs, "Waits").await.unwrap();
    let left = began + 15.0 - now();
    tokio::time::sleep(Duration::from_secs_f64(left.max(0.0))).await;
    let stopped = now();
    assert!(theirs.stop());

    let args: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut ours = Process::epimetheus(dir, "server", &args);
    ours.wait_for("/-/ready").await;
    wait("the pending alert to fire", 60, async || {
        since(&ours, "Waits")
            .await
            .is_some_and(|(state, _)| state == "firing")
    })
    .await;
    let (fired, (_, restored)) = (now(), since(&ours, "Waits").await.unwrap());
    let away = restored - began;
    println!(
        "stopped after 15 of 25 s, went on {away:.1} s later, fired after {:.1} s",
        fired - stopped
    );
    // The time it was away does not count, what was before does.
    assert!(fired - stopped < 25.0, "it began anew");
    assert!(
        fired - began >= 25.0 + away - 2.0,
        "{began} {restored} {fired}"
    );
    wait("the second alert", 30, async || {
        !webhook.about("Waits").is_empty()
    })
    .await;
    // Longer than what Prometheus told holds.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let told = webhook.about("Fires");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "firing");
    let held = manager
        .get("/api/v2/alerts", &[("filter", "alertname=Fires")])
        .await;
    assert_eq!(
        moment(&held[0]["startsAt"]),
        told[0].1.parse().unwrap(),
        "{held}"
    );
    assert!(ours.stop());
}

fn moment(text: &Value) -> jiff::Timestamp {
    text.as_str().unwrap().parse().unwrap()
}

fn now() -> f64 {
    model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0
}

/// Two replicas of `rule` are restarted one after the other while the Alertmanager restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_of_rulers_is_rolled_without_a_word() {
    const NAME: &str = "a_pair_of_rulers_is_rolled_without_a_word";
    if !available(ALERTMANAGER, NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let webhook = Webhook::default();
    let hook = webhook.listen().await;
    let am = free_port();
    let mut manager = telling(dir, am, hook);
    manager.wait_for("/-/ready").await;
    // Whatever answers expressions will do.
    std::fs::write(dir.join("empty.yml"), "").unwrap();
    let mut querier = Process::epimetheus(
        dir,
        "server",
        &["--config.file=empty.yml", "--storage.tsdb.path=querier"],
    );
    querier.wait_for("/-/ready").await;
    std::fs::write(
        dir.join("rules.yml"),
        "groups:\n- name: g\n  interval: 1s\n  rules:\n  - {alert: Steady, expr: vector(1), for: 2s}\n",
    )
    .unwrap();
    let ruler = async |name: &str| {
        let args = [
            format!("--query=127.0.0.1:{}", querier.port),
            format!("--alertmanagers.url=http://127.0.0.1:{am}"),
            format!("--rule-file={}", dir.join("rules.yml").display()),
            format!("--data-dir={}", dir.join(name).display()),
            format!("--label=replica=\"{name}\""),
            "--alert.label-drop=replica".to_owned(),
            "--resend-delay=3s".to_owned(),
            "--for-grace-period=0s".to_owned(),
        ];
        role(&ours(), dir, "rule", &args).await
    };
    let mut a = ruler("a").await;
    wait("the alert", 30, async || {
        !webhook.about("Steady").is_empty()
    })
    .await;
    let mut b = ruler("b").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(a.process.stop());
    a = ruler("a").await;
    assert!(manager.stop());
    let mut manager = telling(dir, am, hook);
    manager.wait_for("/-/ready").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(b.process.stop());
    b = ruler("b").await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let told = webhook.about("Steady");
    assert_eq!(told.len(), 1, "{told:?}\n{}", a.process.log());
    assert_eq!(told[0].0, "firing");
    let held = manager.get("/api/v2/alerts", &[]).await;
    assert_eq!(held.as_array().map(Vec::len), Some(1), "{held}");
    let began: jiff::Timestamp = told[0].1.parse().unwrap();
    assert_eq!(moment(&held[0]["startsAt"]), began, "{held}");
    for role in [&mut a, &mut b] {
        assert!(role.process.stop(), "{}", role.process.log());
    }
}

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
    match thanos() {
        Some(thanos) => {
            let theirs = role(&thanos, dir, "query", &querier_args(ruler_grpc)).await;
            queriers.push(("thanos", theirs));
        }
        None => println!(
            "SKIPPED: the part with a real thanos, which is neither on PATH nor in EPIMETHEUS_THANOS"
        ),
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
        assert_eq!(group["rules"][0]["query"], "vector(time())", "{told}");
        assert_eq!(group["rules"][0]["labels"]["region"], "eu", "{told}");
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

/// Seconds of CPU that a process has taken.
fn cpu(process: &Process) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// 10,000 rules a minute, in a real Prometheus and in ours side by side. Run it with a release
/// build: `cargo test --release -p app --test e2e -- --ignored --nocapture ten_thousand`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of minutes"]
async fn ten_thousand_rules() {
    const NAME: &str = "ten_thousand_rules";
    if !available("prometheus", NAME) || !available("prometheus-node-exporter", NAME) {
        return;
    }
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
    tokio::time::sleep(Duration::from_secs(90)).await;
    let before = (cpu(&ours), cpu(&theirs));
    tokio::time::sleep(Duration::from_secs(180)).await;
    let (own, other) = (cpu(&ours) - before.0, cpu(&theirs) - before.1);
    for (name, process) in [("ours", &ours), ("theirs", &theirs)] {
        let missed = metric(process, "prometheus_rule_group_iterations_missed_total", "").await;
        let done = metric(process, "prometheus_rule_evaluations_total", "").await;
        let longest = process.text("/metrics").await;
        let longest = longest
            .lines()
            .filter(|l| l.starts_with("prometheus_rule_group_last_duration_seconds"))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .fold(0.0, f64::max);
        println!(
            "{name}: {done} evaluations, {missed} ticks missed, the slowest group took {longest:.3} s"
        );
    }
    println!(
        "CPU in 180 s: {own:.1} s ours, {other:.1} s Prometheus', {:.2} x",
        own / other
    );
}
