//! The same targets, scraped by us and by real Prometheus: equal answers.

use crate::compare::equal;
use crate::exporter::{Exporter, STEP_MS};
use crate::process::{Process, available, free_port};

const TICKS: usize = 80;

/// Queries that mean the same in Prometheus 2.x and 3.x when they are asked off the sample grid.
/// (`atan2` does not: 2.x keeps the metric name.)
const QUERIES: &[&str] = &[
    "e2e_temperature",
    "e2e_temperature{zone=\"north\"}",
    "e2e_temperature{sensor=~\"s[0-3]\"}",
    "e2e_temperature{sensor!~\"s(1|2)\",zone!=\"south\"}",
    "{__name__=~\"e2e_zone.*\"}",
    "e2e_temperature offset 2m",
    "-e2e_temperature",
    "e2e_temperature * 2 + 1",
    "e2e_temperature > 10",
    "e2e_temperature > bool 10",
    "10 < e2e_temperature",
    "e2e_temperature % 7",
    "e2e_temperature ^ 2",
    "sum(e2e_temperature)",
    "sum by (zone) (e2e_temperature)",
    "avg without (sensor) (e2e_temperature)",
    "min by (zone) (e2e_temperature)",
    "max(e2e_temperature)",
    "count by (zone) (e2e_temperature)",
    "group by (zone) (e2e_temperature)",
    "stddev(e2e_temperature{sensor=~\"s[0125]\"})",
    "stdvar by (zone) (e2e_temperature{sensor=~\"s[0125]\"})",
    "topk(3, e2e_temperature{sensor!=\"s3\"})",
    "bottomk(2, e2e_temperature{sensor!=\"s3\"})",
    "quantile(0.7, e2e_temperature{sensor=~\"s[0125]\"})",
    "count_values(\"v\", round(e2e_temperature{sensor=~\"s[0125]\"}))",
    "irate(e2e_requests_total[2m])",
    "idelta(e2e_temperature[2m])",
    "deriv(e2e_temperature[3m])",
    "predict_linear(e2e_temperature{sensor=\"s0\"}[3m], 600)",
    "changes(e2e_temperature[3m])",
    "resets(e2e_requests_total[10m])",
    "avg_over_time(e2e_temperature[3m])",
    "min_over_time(e2e_temperature[3m])",
    "max_over_time(e2e_temperature[3m])",
    "sum_over_time(e2e_temperature[3m])",
    "count_over_time(e2e_temperature[3m])",
    "last_over_time(e2e_temperature[3m])",
    "present_over_time(e2e_temperature[3m])",
    "quantile_over_time(0.3, e2e_temperature[3m])",
    "stddev_over_time(e2e_temperature{sensor=~\"s[0125]\"}[3m])",
    "stdvar_over_time(e2e_temperature{sensor=~\"s[0125]\"}[3m])",
    "sum by (code) (e2e_requests_total)",
    "e2e_temperature * on (zone) group_left (owner) e2e_zone_info",
    "sum by (zone) (e2e_temperature) / on (zone) count by (zone) (e2e_temperature)",
    "e2e_requests_total{code=\"500\"} / ignoring (code) e2e_requests_total{code=\"200\"}",
    "e2e_temperature and on (zone) e2e_zone_info{owner=\"ada\"}",
    "e2e_temperature unless on (sensor) (e2e_temperature > 10)",
    "e2e_zone_info or e2e_temperature",
    "label_replace(e2e_zone_info, \"z\", \"$1-x\", \"zone\", \"(no|so).*\")",
    "label_join(e2e_zone_info, \"both\", \"/\", \"zone\", \"owner\")",
    "absent(e2e_nothing{a=\"b\"})",
    "absent(e2e_zone_info)",
    "absent_over_time(e2e_nothing[5m])",
    "clamp(e2e_temperature, 0, 20)",
    "clamp_min(e2e_temperature, 5)",
    "round(e2e_temperature, 0.5)",
    "abs(e2e_temperature)",
    "ceil(e2e_temperature)",
    "exp(e2e_zone_info)",
    "ln(e2e_latency_seconds_count)",
    "sqrt(e2e_latency_seconds_count)",
    "sgn(e2e_temperature)",
    "histogram_quantile(0.9, e2e_latency_seconds_bucket)",
    "histogram_quantile(0.5, sum by (le) (e2e_latency_seconds_bucket))",
    "max_over_time(sum by (zone) (e2e_temperature)[3m:30s])",
    "avg_over_time((e2e_temperature > 0)[2m:15s])",
    "scalar(sum(e2e_zone_info)) + 1",
    "vector(time())",
    "time() - timestamp(e2e_zone_info)",
    "hour(e2e_requests_total)",
    "day_of_week()",
    "e2e_temperature @ end()",
    "sort_desc(e2e_temperature{sensor!=\"s3\"})",
    "1 + 2 * 3",
];

/// Asked at times by which every counter has several samples: see the note on 2.x below.
const RATES: &[&str] = &[
    "rate(e2e_requests_total[2m])",
    "increase(e2e_requests_total[3m])",
    "sum by (service) (rate(e2e_requests_total[2m]))",
    "delta(e2e_temperature{sensor=~\"s[0125]\"}[2m])",
    "histogram_quantile(0.9, sum by (le) (rate(e2e_latency_seconds_bucket[2m])))",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_equal_those_of_real_prometheus() {
    if !available("prometheus", "answers_equal_those_of_real_prometheus") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let now = model::time::Clock::now(&model::time::WallClock);
    // The last tick lies a little in the past, so that nothing is "in the future".
    let base = (now / STEP_MS - TICKS as i64 - 8) * STEP_MS;
    let exporter = Exporter::start(base).await;
    let config = dir.path().join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "global:\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\nscrape_configs:\n- job_name: e2e\n  static_configs:\n  - targets: ['127.0.0.1:{}']\n    labels: {{instance: x}}\n",
            exporter.port
        ),
    )
    .unwrap();
    let config = format!("--config.file={}", config.display());
    let port = free_port();
    let mut theirs = Process::start(
        "prometheus",
        dir.path(),
        port,
        [
            config.clone(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            format!(
                "--storage.tsdb.path={}",
                dir.path().join("theirs").display()
            ),
        ],
    );
    let path = format!("--storage.tsdb.path={}", dir.path().join("ours").display());
    let mut ours = Process::epimetheus(dir.path(), "server", &[&config, &path]);
    theirs.wait_for("/-/ready").await;
    ours.wait_for("/-/ready").await;
    exporter.run(TICKS, &["Prometheus", "Epimetheus"]).await;

    let mut differences = Vec::new();
    let mut compared = 0;
    for query in QUERIES.iter().chain(RATES) {
        for tick in [20, 41, 79] {
            let time = format!("{:.3}", (exporter.time(tick) + 1_007) as f64 / 1000.0);
            let params = [("query", *query), ("time", time.as_str())];
            let answers = (
                ours.get("/api/v1/query", &params).await,
                theirs.get("/api/v1/query", &params).await,
            );
            compared += 1;
            if let Err(e) = equal(query, &answers.0["data"], &answers.1["data"]) {
                differences.push(format!(
                    "{query} @ tick {tick}: {e}\n  ours   {}\n  theirs {}",
                    answers.0, answers.1
                ));
            }
        }
        let (start, end) = (exporter.time(15) + 7_007, exporter.time(78));
        let params = [
            ("query", *query),
            ("start", &format!("{:.3}", start as f64 / 1000.0)),
            ("end", &format!("{:.3}", end as f64 / 1000.0)),
            ("step", "20"),
        ];
        let answers = (
            ours.get("/api/v1/query_range", &params).await,
            theirs.get("/api/v1/query_range", &params).await,
        );
        compared += 1;
        if let Err(e) = equal(query, &answers.0["data"], &answers.1["data"]) {
            differences.push(format!("{query} range: {e}"));
        }
    }
    println!(
        "{} queries, {compared} answers compared, {} differ",
        QUERIES.len() + RATES.len(),
        differences.len()
    );
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
