//! The `rule` role that keeps nothing: what it records goes to a real Prometheus and to a server of
//! ours, and what it was about to tell it learns from a querier. And rulers that ask over gRPC.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::fleet::{Role, ours, role, wait};
use crate::peers::thanos;
use crate::process::{Process, available, free_port};

/// When, and what.
type Ticks = BTreeSet<(String, String)>;

async fn ticks(of: &Process, metric: &str) -> Ticks {
    let query = format!("{metric}[1h]");
    let answer = of.get("/api/v1/query", &[("query", &query)]).await;
    let series = answer["data"]["result"].as_array().cloned();
    let values = series.into_iter().flatten().filter_map(|s| {
        let values = s["values"].as_array().cloned()?;
        Some(
            values
                .into_iter()
                .map(|v| (v[0].to_string(), v[1].to_string())),
        )
    });
    values.flatten().collect()
}

async fn prometheus(dir: &Path, port: u16) -> Process {
    std::fs::write(
        dir.join("prometheus.yml"),
        "global: {external_labels: {prometheus: p1}}\n",
    )
    .unwrap();
    let mut process = Process::start(
        "prometheus",
        dir,
        port,
        [
            "--config.file=prometheus.yml".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--storage.tsdb.path=prometheus".to_owned(),
            "--web.enable-remote-write-receiver".to_owned(),
        ],
    );
    process.wait_for("/-/ready").await;
    process
}

async fn receiver(dir: &Path, port: u16) -> Process {
    std::fs::write(dir.join("empty.yml"), "").unwrap();
    let args = [
        "server".to_owned(),
        "--config.file=empty.yml".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--storage.tsdb.path=server".to_owned(),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    let mut process = Process::start(ours(), dir, port, args);
    process.wait_for("/-/ready").await;
    process
}

/// A querier over a sidecar beside the Prometheus at `port`.
async fn querier(dir: &Path, port: u16) -> (Role, Role) {
    let args = [
        format!("--prometheus.url=http://127.0.0.1:{port}"),
        format!("--tsdb.path={}", dir.join("prometheus").display()),
        "--prometheus.get_config_interval=1s".to_owned(),
    ];
    let sidecar = role(&ours(), dir, "sidecar", &args).await;
    let args = [
        format!("--endpoint=127.0.0.1:{}", sidecar.grpc),
        "--query.replica-label=replica".to_owned(),
    ];
    let querier = role(&ours(), dir, "query", &args).await;
    (sidecar, querier)
}

/// The alert of the rules, as the ruler shows it.
async fn alert(ruler: &Process) -> Value {
    ruler.get("/api/v1/alerts", &[]).await["data"]["alerts"][0].clone()
}

fn since(alert: &Value) -> f64 {
    let at = alert["activeAt"].as_str().unwrap_or_default();
    at.parse::<jiff::Timestamp>()
        .map_or(f64::NAN, |t| t.as_millisecond() as f64 / 1000.0)
}

/// The flags of a ruler that keeps nothing.
fn stateless(querier: &Role) -> Vec<String> {
    vec![
        format!("--query=http://127.0.0.1:{}", querier.process.port),
        "--rule-file=rules.yml".to_owned(),
        "--data-dir=ruler".to_owned(),
        "--label=ruler=\"m\"".to_owned(),
        "--label=replica=\"a\"".to_owned(),
        // What the sidecar adds.
        "--restore-ignored-label=prometheus".to_owned(),
        "--for-grace-period=1s".to_owned(),
        "--remote-write.config-file=remote.yml".to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ruler_without_state_loses_nothing() {
    const NAME: &str = "a_ruler_without_state_loses_nothing";
    if !available("prometheus", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (prom_port, port) = (free_port(), free_port());
    let prom = prometheus(dir, prom_port).await;
    let mut server = receiver(dir, port).await;
    let (_sidecar, querier) = querier(dir, prom_port).await;

    std::fs::write(
        dir.join("rules.yml"),
        "groups: [{name: g, interval: 250ms, rules: [{record: tick, expr: 'vector(time())'}, {alert: Slow, expr: 'vector(1)', for: 25s, labels: {severity: page}}]}]",
    )
    .unwrap();
    let queue = "queue_config: {batch_send_deadline: 100ms, min_backoff: 50ms, max_backoff: 200ms}";
    std::fs::write(
        dir.join("remote.yml"),
        format!(
            "remote_write:\n- {{name: p, url: 'http://127.0.0.1:{prom_port}/api/v1/write', {queue}}}\n- {{name: s, url: 'http://127.0.0.1:{port}/api/v1/write', {queue}}}\n"
        ),
    )
    .unwrap();
    let mut ruler = role(&ours(), dir, "rule", &stateless(&querier)).await;
    for receiver in [&prom, &server] {
        let found = receiver.wait_until("tick", |r| !r[0].is_null()).await;
        assert_eq!(
            found[0]["metric"],
            serde_json::json!({"__name__": "tick", "ruler": "m", "replica": "a"})
        );
    }

    // It has rules, and no series.
    let args = [format!("--endpoint=127.0.0.1:{}", ruler.grpc)];
    let above = role(&ours(), dir, "query", &args).await;
    wait("the rules through a querier", 30, async || {
        let rules = above.process.get("/api/v1/rules", &[]).await;
        rules["data"]["groups"][0]["name"] == "g"
    })
    .await;
    let found = above
        .process
        .get("/api/v1/query", &[("query", "tick")])
        .await;
    assert_eq!(found["data"]["result"], serde_json::json!([]), "{found}");

    // One receiver is away, and the ruler is killed meanwhile.
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = alert(&ruler.process).await;
    assert_eq!(before["state"], "pending", "{before}");
    let killed = model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0;
    ruler.process.kill();
    let server = receiver(dir, port).await;
    ruler = role(&ours(), dir, "rule", &stateless(&querier)).await;
    wait("the alert to be restored", 20, async || {
        since(&alert(&ruler.process).await) < killed
    })
    .await;
    let after = alert(&ruler.process).await;
    let back = model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0;
    // The time in between does not count; what was recorded is in whole seconds.
    let (was, is) = (since(&before), since(&after));
    assert!(
        is >= was - 1.0 && is <= was + (back - killed) + 2.0,
        "{was} {is}"
    );
    assert_eq!(after["state"], "pending", "{after}");

    // Everything has come to both.
    tokio::time::sleep(Duration::from_secs(2)).await;
    wait("all ticks at both", 60, async || {
        let (theirs, own) = (ticks(&prom, "tick").await, ticks(&server, "tick").await);
        theirs.len() > 30 && theirs.difference(&own).next().is_none()
    })
    .await;
    assert!(ruler.process.stop(), "{}", ruler.process.log());
    wait("the last ticks at both", 30, async || {
        ticks(&prom, "tick").await == ticks(&server, "tick").await
    })
    .await;
}

/// Over gRPC: the Query service of our querier, and of Thanos' where there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ruler_asks_over_grpc() {
    const NAME: &str = "a_ruler_asks_over_grpc";
    if !available("prometheus", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let port = free_port();
    std::fs::write(
        dir.join("rules.yml"),
        "groups: [{name: g, interval: 1s, rules: [{record: tick, expr: 'vector(time())', labels: {a: b}}, {record: number, expr: '1 + 1'}, {record: none, expr: 'absent(tick)'}, {alert: Wrong, expr: 'absent(vector(1))'}]}]",
    )
    .unwrap();
    let _prom = prometheus(dir, port).await;
    let (sidecar, own) = querier(dir, port).await;
    let mut queriers = vec![("ours", own)];
    if let Some(thanos) = thanos(NAME) {
        let args = [format!("--endpoint=127.0.0.1:{}", sidecar.grpc)];
        queriers.push(("Thanos'", role(&thanos, dir, "query", &args).await));
    }
    for (whose, querier) in &queriers {
        let config = format!(
            "- static_configs: ['127.0.0.1:{}']\n- grpc_config: {{endpoint_addresses: ['127.0.0.1:{}']}}\n",
            // Nobody is there; so it is asked over gRPC.
            free_port(),
            querier.grpc
        );
        for how in [
            format!("--grpc-query-endpoint=127.0.0.1:{}", querier.grpc),
            format!("--query.config={config}"),
        ] {
            let data = dir.join(format!("ruler-{}", free_port()));
            let args = [
                how,
                "--rule-file=rules.yml".to_owned(),
                format!("--data-dir={}", data.display()),
                "--label=ruler=\"m\"".to_owned(),
            ];
            let ruler = role(&ours(), dir, "rule", &args).await;
            wait("evaluations over gRPC", 30, async || {
                let rules = ruler.process.get("/api/v1/rules", &[]).await;
                let rules = rules["data"]["groups"][0]["rules"].as_array().cloned();
                let rules = rules.unwrap_or_default();
                rules.len() == 4 && rules.iter().all(|r| r["health"] == "ok")
            })
            .await;
            let above = role(
                &ours(),
                dir,
                "query",
                &[format!("--endpoint=127.0.0.1:{}", ruler.grpc)],
            )
            .await;
            let found = above.process.wait_until("tick", |r| !r[0].is_null()).await;
            assert_eq!(
                found[0]["metric"],
                serde_json::json!({"__name__": "tick", "a": "b", "ruler": "m"}),
                "{whose}"
            );
            let found = above
                .process
                .wait_until("number", |r| !r[0].is_null())
                .await;
            assert_eq!(found[0]["value"][1], "2", "{whose}");
            let kept = ticks(&above.process, "tick").await;
            let off = kept.iter().filter(|(at, value)| {
                let value = value.trim_matches('"').parse::<f64>().unwrap_or(0.0);
                let at = at.parse::<f64>().unwrap_or(f64::MAX);
                !(0.0..1.0).contains(&(at - value))
            });
            assert_eq!(off.count(), 0, "{whose}: at the last full second: {kept:?}");
        }
    }
}
