//! Names and values that are searched for, in ours and in a real Prometheus 3 that has scraped the same.

use crate::peers::prometheus3;
use crate::process::{Process, free_port};

/// A target with a few metrics, some of them alike.
async fn target() -> u16 {
    const TEXT: &str = "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n\
        http_requests_total{code=\"200\",handler=\"/api/v1/query\"} 1\n\
        http_requests_total{code=\"404\",handler=\"/api/v1/query_range\"} 1\n\
        # TYPE http_request_duration_seconds gauge\nhttp_request_duration_seconds{handler=\"/\"} 2\n\
        # TYPE node_cpu_seconds_total counter\nnode_cpu_seconds_total{mode=\"idle\"} 3\n\
        node_memory_MemTotal_bytes 4\nprocess_cpu_seconds_total 5\nhtpt_requets 6\n";
    let app = axum::Router::new().route("/metrics", axum::routing::get(|| async { TEXT }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_find_what_prometheus_finds() {
    let Some(theirs) = prometheus3("searches_find_what_prometheus_finds") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs: [{{job_name: j, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]\n",
        target().await
    );
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    let mut servers = Vec::new();
    for (program, data) in [(crate::fleet::ours(), "ours"), (theirs, "theirs")] {
        let port = free_port();
        let mut args = vec![
            "--config.file=prometheus.yml".to_owned(),
            format!("--storage.tsdb.path={data}"),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--enable-feature=search-api".to_owned(),
            "--web.search.max-limit=50".to_owned(),
        ];
        if data == "ours" {
            args.insert(0, "server".to_owned());
        }
        let mut server = Process::start(program, dir, port, args);
        server.wait_for("/-/ready").await;
        server
            .wait_until("http_requests_total", |r| !r[0].is_null())
            .await;
        servers.push(server);
    }
    let searches = [
        "metric_names?",
        "metric_names?search[]=cpu&include_score=true&include_metadata=true",
        "metric_names?search[]=htreq&sort_by=score&include_score=1",
        "metric_names?search[]=http_requets&fuzz_alg=jarowinkler&fuzz_threshold=70&sort_by=score&include_score=1",
        "metric_names?search[]=MEM&search[]=cpu&case_sensitive=false&sort_by=alpha&sort_dir=dsc",
        "metric_names?search[]=nowhere",
        "metric_names?limit=40&batch_size=2",
        "metric_names?match[]=http_requests_total&match[]=up",
        "label_names?search[]=e&include_score=true&sort_by=score",
        "label_values?label=handler&search[]=query&include_score=true",
        "label_values?",
        "metric_names?limit=51",
        "metric_names?limit=x",
        "metric_names?sort_by=x",
        "metric_names?sort_by=score",
        "metric_names?sort_dir=asc",
        "metric_names?fuzz_alg=x",
        "metric_names?fuzz_threshold=101",
        "metric_names?case_sensitive=x",
        "metric_names?start=10&end=5",
    ];
    for search in searches {
        let path = format!("/api/v1/search/{search}");
        let (own, other) =
            tokio::join!(servers[0].status(&path, &[]), servers[1].status(&path, &[]));
        assert_eq!(own, other, "{search}");
    }
    // Switched off, it says so.
    let mut plain = Process::epimetheus(
        dir,
        "server",
        &["--config.file=prometheus.yml", "--storage.tsdb.path=plain"],
    );
    plain.wait_for("/-/ready").await;
    let (status, text) = plain.status("/api/v1/search/metric_names", &[]).await;
    assert_eq!(status, 503);
    assert!(text.contains("search API disabled"), "{text}");
}
