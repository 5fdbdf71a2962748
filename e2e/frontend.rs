//! The `query-frontend` role in front of a real Prometheus.

use std::time::Duration;

use crate::fleet::{ours, wait};
use crate::process::{Process, available, free_port};

async fn posted(process: &Process, path: &str, form: &[(&str, &str)]) -> (u16, String) {
    let mut url = url::Url::parse(&process.url(path)).unwrap();
    url.query_pairs_mut().extend_pairs(form);
    let body = url.query().unwrap().to_owned();
    url.set_query(None);
    let answer = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_pass_and_answers_are_the_queriers() {
    const NAME: &str = "questions_pass_and_answers_are_the_queriers";
    if !available("prometheus", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (down, up) = (free_port(), free_port());
    let mut front = Process::start(
        ours(),
        dir,
        up,
        [
            "query-frontend".to_owned(),
            format!("--http-address=127.0.0.1:{up}"),
            format!("--query-frontend.downstream-url=http://127.0.0.1:{down}"),
            "--query-frontend.log-queries-longer-than=-1s".to_owned(),
            "--query-range.max-query-length=1h".to_owned(),
            "--query-range.split-interval=12h".to_owned(),
        ],
    );
    front.wait_for("/-/healthy").await;
    assert_eq!(front.status("/-/ready", &[]).await.0, 503);
    let refused = front.status("/api/v1/query", &[("query", "up")]).await;
    assert_eq!(refused.0, 503, "{}", refused.1);

    std::fs::write(
        dir.join("prometheus.yml"),
        format!("global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{down}']}}]}}]\n"),
    )
    .unwrap();
    let start = || {
        Process::start(
            "prometheus",
            dir,
            down,
            [
                "--config.file=prometheus.yml".to_owned(),
                format!("--web.listen-address=127.0.0.1:{down}"),
                "--storage.tsdb.path=data".to_owned(),
            ],
        )
    };
    let mut prometheus = start();
    prometheus.wait_for("/-/ready").await;
    front.wait_for("/-/ready").await;
    prometheus
        .wait_until("count_over_time(up[1m]) > 8", |r| !r[0].is_null())
        .await;

    // Same answers, byte for byte, by GET and by POST; pages and other endpoints, too.
    let end = model::time::Clock::now(&model::time::WallClock) / 1000 - 1;
    let (start_at, end_at) = ((end - 3).to_string(), end.to_string());
    let range = [
        (
            "query",
            "sum by (job) (rate(prometheus_http_requests_total[3s]))",
        ),
        ("start", start_at.as_str()),
        ("end", end_at.as_str()),
        ("step", "1"),
    ];
    let instant = [
        ("query", "up == 1 and up{job=\"self\"}"),
        ("time", end_at.as_str()),
    ];
    let matched = [
        ("match[]", "{job=\"self\"}"),
        ("start", start_at.as_str()),
        ("end", end_at.as_str()),
    ];
    for (path, params) in [
        ("/api/v1/query_range", &range[..]),
        ("/api/v1/query", &instant[..]),
        ("/api/v1/labels", &matched[..]),
        ("/api/v1/series", &matched[..]),
        ("/api/v1/label/job/values", &matched[..]),
        ("/api/v1/status/buildinfo", &[]),
        ("/api/v1/query", &[("query", "sum(")]),
        ("/api/v1/nothing", &[]),
        ("/graph", &[]),
    ] {
        let (through, direct) = (
            front.status(path, params).await,
            prometheus.status(path, params).await,
        );
        assert_eq!(through, direct, "{path}");
        if path.starts_with("/api/v1/query") {
            assert_eq!(posted(&front, path, params).await, direct, "POST {path}");
        }
    }
    // A range off the grid of its step is moved onto it.
    let off = format!("{end}.7");
    let moved = [range[0], range[1], ("end", off.as_str()), range[3]];
    assert_eq!(
        front.status("/api/v1/query_range", &moved).await,
        prometheus.status("/api/v1/query_range", &range).await
    );
    let long = [range[0], ("start", "0"), range[2], ("step", "3600")];
    let (status, text) = front.status("/api/v1/query_range", &long).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("exceeds the limit"), "{text}");

    let metrics = front.text("/metrics").await;
    for line in [
        "thanos_query_frontend_queries_total{op=\"query_range\"} 4",
        "thanos_query_frontend_queries_total{op=\"series\"} 1",
        "cortex_query_frontend_retries_count{tripperware=\"query_instant\"}",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let log = front.log();
    assert!(
        log.contains("slow query detected") && log.contains("param_query"),
        "{log}"
    );
    assert!(
        log.contains(
            "--query-range.split-interval has no effect: queries are not split in this version"
        ),
        "{log}"
    );

    // Its readiness follows the querier's.
    prometheus.kill();
    wait("not ready", 30, async || {
        front.status("/-/ready", &[]).await.0 == 503
    })
    .await;
    let mut prometheus = start();
    prometheus.wait_for("/-/ready").await;
    tokio::time::timeout(Duration::from_secs(10), front.wait_for("/-/ready"))
        .await
        .unwrap();
    assert!(front.stop());
}
