//! Half an hour of churn beside a real Prometheus: what must not grow would.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::extract::Path;
use axum::routing::get;

use crate::fleet::ours;
use crate::peers::prometheus3;
use crate::process::{Process, available, cpu, free_port, status};
use crate::rule::metric;

const TARGETS: usize = 40;
/// Series of a target that live on, and as many that do not.
const KIND: u64 = 125;
/// Samples of memory are taken so often.
const LOOK: Duration = Duration::from_secs(5);

/// What a target says `minute` minutes after the start: in each minute a tenth of its short-lived series get other names.
fn page(target: usize, minute: u64, value: u64) -> String {
    let mut text = String::new();
    for i in 0..KIND {
        let _ = writeln!(text, "steady_total{{i=\"{i}\"}} {}", value * (i + 1));
        let generation = (minute + i) / 10;
        let _ = writeln!(
            text,
            "brief{{i=\"{i}\",pod=\"p-{target}-{generation}\"}} {i}"
        );
    }
    text
}

async fn targets() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let start = Instant::now();
    let serve = move |Path(target): Path<usize>| async move {
        let passed = start.elapsed();
        page(target, passed.as_secs() / 60, passed.as_millis() as u64)
    };
    let router = axum::Router::new().route("/t/{target}", get(serve));
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

fn configure(dir: &std::path::Path, port: u16) {
    let mut text =
        "global: {scrape_interval: 15s, evaluation_interval: 15s}\nrule_files: [rules.yml]\n\
                    scrape_configs:\n- job_name: churn\n  static_configs:\n"
            .to_owned();
    for target in 0..TARGETS {
        let _ = writeln!(
            text,
            "  - {{targets: ['127.0.0.1:{port}'], labels: {{__metrics_path__: /t/{target}, target: '{target}'}}}}"
        );
    }
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    let mut rules = "groups:\n- name: g\n  rules:\n".to_owned();
    for i in 0..20 {
        let _ = writeln!(
            rules,
            "  - {{record: 'rate:{i}', expr: 'sum by (target) (rate(steady_total{{i=\"{i}\"}}[1m]))'}}"
        );
    }
    rules.push_str("  - {alert: Down, expr: up == 0, for: 1m}\n");
    std::fs::write(dir.join("rules.yml"), rules).unwrap();
}

/// Whether a dashboard's query over the last quarter of an hour succeeds, on a connection of its own.
async fn answers(server: &Process) -> bool {
    let end = model::time::Clock::now(&model::time::WallClock) / 1000;
    let query = "sum+by+(target)+(rate({__name__=~%22steady_total%7Cbrief%22}[1m]))";
    let path = format!(
        "/api/v1/query_range?query={query}&start={}&end={end}&step=15",
        end - 900
    );
    let client = reqwest::Client::builder().pool_max_idle_per_host(0);
    let client = client.timeout(Duration::from_secs(60)).build().unwrap();
    let answer = client.get(server.url(&path)).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// The looks of some of the 35 minutes; a busy machine has fewer of them, evenly.
fn within(looks: &[[u64; 3]], minutes: std::ops::Range<usize>) -> &[[u64; 3]] {
    &looks[minutes.start * looks.len() / 35..minutes.end * looks.len() / 35]
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// `EPIMETHEUS_MEASURE=target/release/epimetheus cargo test -p app --test e2e -- --ignored --nocapture half_an_hour`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of 35 minutes"]
async fn half_an_hour_of_churn() {
    const NAME: &str = "half_an_hour_of_churn";
    if !available("prometheus", NAME) {
        return;
    }
    let own = std::env::var_os("EPIMETHEUS_MEASURE").map_or_else(ours, PathBuf::from);
    let theirs = prometheus3(NAME).unwrap_or_else(|| "prometheus".into());
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    configure(dir, targets().await);
    let mut servers = Vec::new();
    for (name, program) in [("ours", own), ("prometheus", theirs)] {
        let port = free_port();
        let mut args = vec![
            "--config.file=prometheus.yml".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            format!("--storage.tsdb.path=data-{name}"),
            "--storage.tsdb.min-block-duration=2m".to_owned(),
            "--storage.tsdb.max-block-duration=6m".to_owned(),
            "--storage.tsdb.retention.time=15m".to_owned(),
        ];
        if name == "ours" {
            args.insert(0, "server".to_owned());
        }
        servers.push((name, Process::start(&program, dir, port, args)));
    }
    for (_, server) in &mut servers {
        server.wait_for("/-/ready").await;
    }
    // A row of memory, threads and files for each look.
    let mut looks: Vec<Vec<[u64; 3]>> = vec![Vec::new(); servers.len()];
    let mut failed = vec![0; servers.len()];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(35 * 60) {
        tokio::time::sleep(LOOK).await;
        let asks = looks[0].len().is_multiple_of(4);
        for (i, ((_, server), looks)) in servers.iter().zip(&mut looks).enumerate() {
            if asks && !answers(server).await {
                failed[i] += 1;
            }
            let of =
                |kind: &str| std::fs::read_dir(format!("/proc/{}/{kind}", server.id())).unwrap();
            let (threads, files) = (of("task"), of("fd"));
            looks.push([
                status(server.id(), "VmRSS:") >> 20,
                threads.count() as u64,
                files.count() as u64,
            ]);
        }
    }
    for (((name, server), looks), failed) in servers.iter().zip(&looks).zip(&failed) {
        let column = |c: usize, minutes| -> Vec<u64> {
            within(looks, minutes).iter().map(|row| row[c]).collect()
        };
        let all = column(0, 5..35);
        println!(
            "{name}: MiB {} in minutes 5 to 19, {} in 20 to 34, {} to {}; threads {}, files {} to {}; {:.1} s of CPU, missed {}, {failed} queries failed",
            median(&column(0, 5..20)),
            median(&column(0, 20..35)),
            all.iter().min().unwrap(),
            all.iter().max().unwrap(),
            column(1, 5..35).iter().max().unwrap(),
            column(2, 5..20).iter().max().unwrap(),
            column(2, 20..35).iter().max().unwrap(),
            cpu(server.id()).unwrap().0,
            metric(server, "prometheus_rule_group_iterations_missed_total", "").await,
        );
    }
    assert_eq!(failed[0], 0);
    let (_, ours) = &servers[0];
    // From minute 18 on as many blocks go as come.
    let memory = |minutes| {
        median(
            &within(&looks[0], minutes)
                .iter()
                .map(|row| row[0])
                .collect::<Vec<_>>(),
        )
    };
    let (before, after) = (memory(18..26), memory(26..34));
    println!("ours: {before} MiB in minutes 18 to 25, {after} in 26 to 33");
    assert!(after * 10 <= before * 11, "{before} MiB became {after}");
    // Every scrape of the last ten minutes is there, through all cuts and compactions.
    let now = model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0;
    let least = "min(count_over_time(up[10m])) >= bool 39 and min(min_over_time(up[10m])) == 1";
    assert_eq!(
        ours.query(least, now).await[0]["value"][1],
        "1",
        "{}",
        ours.log()
    );
}
