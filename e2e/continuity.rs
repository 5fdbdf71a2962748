//! What people are told of alerts while everything that tells them is restarted: a real Alertmanager
//! behind our server and our rulers, before a webhook.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::alerts::ALERTMANAGER;
use crate::fleet::{ours, role, wait};
use crate::process::{Process, available, free_port};

/// A receiver of Alertmanager's webhooks.
#[derive(Clone, Default)]
pub struct Webhook(Arc<Mutex<Vec<Value>>>);

impl Webhook {
    /// Listens, and gives the route's part of an Alertmanager's configuration.
    pub async fn listen(&self) -> u16 {
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
    pub fn about(&self, alert: &str) -> Vec<(String, String, String)> {
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
pub fn telling(dir: &Path, port: u16, webhook: u16) -> Process {
    telling_with(dir, port, webhook, &[])
}

/// The same with more flags.
pub fn telling_with(dir: &Path, port: u16, webhook: u16, more: &[&str]) -> Process {
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
    let more = more.iter().map(|flag| (*flag).to_owned());
    Process::start(ALERTMANAGER, dir, port, args.into_iter().chain(more))
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

fn moment(text: &Value) -> jiff::Timestamp {
    text.as_str().unwrap().parse().unwrap()
}

fn now() -> f64 {
    model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0
}
