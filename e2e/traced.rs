//! Traces: of one query from a querier to the server that holds the data, of scrapes and of rules, sent
//! to a collector; where a real Thanos is found, it stands in the middle of the trace.

use std::path::Path;

use crate::fleet::{Role, ours, role, wait};
use crate::peers::thanos;
use crate::process::{Process, free_port};

mod collector;

use collector::{Collector, Span};

const SECRET: &str = "a-secret-of-the-collector";

/// A trace that somebody else began, and wants to be sent.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

struct Server {
    process: Process,
    grpc: u16,
}

fn tracing_section(collector: &Collector) -> String {
    format!(
        "tracing:\n  client_type: http\n  endpoint: 127.0.0.1:{}\n  insecure: true\n  sampling_fraction: 1\n  compression: gzip\n  timeout: 5s\n  headers: {{x-tenant: {SECRET}}}\n",
        collector.http
    )
}

/// A server that scrapes itself and evaluates a rule.
async fn server(dir: &Path, tracing: &str) -> Server {
    let port = free_port();
    std::fs::write(
        dir.join("rules.yml"),
        "groups:\n- name: g\n  interval: 500ms\n  rules:\n  - {record: up:sum, expr: sum(up)}\n  - {record: bad, expr: 'up * on() group_left() {__name__=~\"up|up:sum\"}'}\n",
    )
    .unwrap();
    write_config(dir, port, tracing);
    let grpc = free_port();
    let args = [
        "server".to_owned(),
        "--config.file=prometheus.yml".to_owned(),
        "--web.enable-lifecycle".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--grpc-address=127.0.0.1:{grpc}"),
    ];
    let mut process = Process::start(ours(), dir, port, args);
    process.wait_for("/-/ready").await;
    process
        .wait_until("up:sum", |v| v.as_array().is_some_and(|a| !a.is_empty()))
        .await;
    Server { process, grpc }
}

fn write_config(dir: &Path, port: u16, tracing: &str) {
    let text = format!(
        "global:\n  query_log_file: queries.log\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  external_labels: {{cluster: e2e}}\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: own\n  static_configs:\n  - targets: ['127.0.0.1:{port}']\n{tracing}"
    );
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
}

/// A querier that sends its traces over gRPC with TLS.
async fn querier(
    program: &Path,
    dir: &Path,
    collector: &Collector,
    below: u16,
    name: &str,
) -> Role {
    let tracing = format!(
        "type: OTLP\nconfig:\n  client_type: grpc\n  service_name: {name}\n  endpoint: localhost:{}\n  compression: gzip\n  headers: {{x-tenant: {SECRET}}}\n  tls_config: {{ca_file: {}}}\n  sampler_type: parentbasedneversample\n",
        collector.grpc,
        collector.ca.display()
    );
    let args = [
        format!("--endpoint=127.0.0.1:{below}"),
        format!("--tracing.config={tracing}"),
    ];
    role(program, dir, "query", &args).await
}

/// Asks until there is an answer, and gives the headers of it.
async fn ask(querier: &Process, header: (&str, &str)) -> reqwest::header::HeaderMap {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let url = querier.url("/api/v1/query?query=sum(up)");
        let request = reqwest::Client::new().get(url).header(header.0, header.1);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let headers = answer.headers().clone();
        if answer.text().await.unwrap().contains("\"value\"") {
            return headers;
        }
        assert!(std::time::Instant::now() < end, "{}", querier.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The spans of one trace.
fn of(collector: &Collector, trace: &str) -> Vec<Span> {
    let mut spans = collector.spans();
    spans.retain(|s| s.trace == trace);
    spans
}

fn named<'a>(spans: &'a [Span], service: &str, name: &str) -> Vec<&'a Span> {
    let is = |s: &&Span| s.service == service && s.name == name;
    spans.iter().filter(is).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_follows_a_query_from_the_querier_to_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    let server = server(dir.path(), &tracing_section(&collector)).await;
    let querier = querier(&ours(), dir.path(), &collector, server.grpc, "q").await;
    let headers = ask(
        &querier.process,
        ("traceparent", &format!("00-{TRACE}-{PARENT}-01")),
    )
    .await;
    assert_eq!(headers["x-thanos-trace-id"], TRACE);
    wait("the trace", 30, async || {
        let spans = of(&collector, TRACE);
        !named(&spans, "prometheus", "/thanos.Store/Series").is_empty()
            && !named(&spans, "q", "promqlExec").is_empty()
    })
    .await;
    let spans = of(&collector, TRACE);
    let request = named(&spans, "q", "/query HTTP[server]")[0];
    assert_eq!(request.parent, PARENT);
    assert_eq!(request.attributes["http.response.status_code"], "200");
    assert_eq!(request.attributes["url.path"], "/api/v1/query");
    let exec = named(&spans, "q", "promqlExec");
    let exec = exec.iter().find(|s| s.parent == request.id).unwrap();
    assert_eq!(exec.attributes["query"], "sum(up)");
    let eval = named(&spans, "q", "promqlEval");
    let eval = eval.iter().find(|s| s.parent == exec.id).unwrap();
    let inner = named(&spans, "q", "promqlInnerEval");
    let inner = inner.iter().find(|s| s.parent == eval.id).unwrap();
    // One call of the one is a part of the other's.
    let calls = named(&spans, "q", "/thanos.Store/Series");
    let call = calls.iter().find(|s| s.parent == inner.id).unwrap();
    assert_eq!(call.attributes["rpc.grpc.status_code"], "OK");
    assert_eq!(
        call.attributes["server.address"],
        format!("127.0.0.1:{}", server.grpc)
    );
    let answers = named(&spans, "prometheus", "/thanos.Store/Series");
    assert!(answers.iter().any(|s| s.parent == call.id), "{spans:#?}");

    // Who asks for it is traced, though of the querier's own traces none is sent.
    let headers = ask(&querier.process, ("x-thanos-force-tracing", "1")).await;
    let forced = headers["x-thanos-trace-id"].to_str().unwrap().to_owned();
    assert_ne!(forced, TRACE);
    wait("the forced trace", 30, async || {
        let spans = of(&collector, &forced);
        !named(&spans, "prometheus", "/thanos.Store/Series").is_empty()
    })
    .await;
    let headers = ask(&querier.process, ("x-other", "1")).await;
    assert!(!headers.contains_key("x-thanos-trace-id"));
    assert!(
        collector
            .spans()
            .iter()
            .all(|s| s.service != "q" || [TRACE, &forced].contains(&s.trace.as_str()))
    );

    // Of the server, everything.
    wait("scrapes and rules", 30, async || {
        let spans = collector.spans();
        let rules = named(&spans, "prometheus", "rule");
        !named(&spans, "prometheus", "Scrape").is_empty()
            && rules
                .iter()
                .any(|s| s.attributes["name"] == "up:sum" && !s.failed)
            && rules
                .iter()
                .any(|s| s.attributes["name"] == "bad" && s.failed)
    })
    .await;
    let spans = collector.spans();
    let scrapes = named(&spans, "prometheus", "HTTP GET");
    let scrape = scrapes
        .iter()
        .find(|s| s.attributes["url.path"] == "/metrics")
        .unwrap();
    assert!(
        named(&spans, "prometheus", "Scrape")
            .iter()
            .any(|s| s.id == scrape.parent)
    );
    // It scrapes itself: the request that it answers is of the trace in which it asked.
    assert!(
        named(&spans, "prometheus", "GET /metrics")
            .iter()
            .any(|s| !s.parent.is_empty())
    );
    // Both ways have brought them, compressed, with the header that is nowhere else.
    let headers = collector.headers();
    assert!(
        headers.iter().all(|h| *h == (SECRET.to_owned(), true)),
        "{headers:?}"
    );
    assert!(!collector.holds(SECRET));
    assert!(!server.process.log().contains("traces could not be sent"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_begins_and_ends_tracing() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    let mut server = server(dir.path(), "").await;
    let port = server.process.port;
    let reload = async |expected: u16| {
        let url = format!("http://127.0.0.1:{port}/-/reload");
        let answer = reqwest::Client::new().post(url).send().await.unwrap();
        assert_eq!(answer.status(), expected);
    };
    let ask = async || {
        let url = format!("http://127.0.0.1:{port}/api/v1/query?query=up");
        reqwest::get(url).await.unwrap();
    };
    assert!(collector.spans().is_empty());
    write_config(dir.path(), port, &tracing_section(&collector));
    reload(200).await;
    ask().await;
    wait("a request", 30, async || {
        !named(&collector.spans(), "prometheus", "GET /api/v1/query").is_empty()
    })
    .await;
    // The log of queries names the span that asked.
    let request = named(&collector.spans(), "prometheus", "GET /api/v1/query")[0].clone();
    let log = std::fs::read_to_string(dir.path().join("queries.log")).unwrap();
    let line = log.lines().find(|l| l.contains(&request.id)).unwrap();
    assert!(
        line.contains(&format!("\"traceID\":\"{}\"", request.trace)),
        "{line}"
    );
    // A section that cannot be obeyed changes nothing.
    write_config(
        dir.path(),
        port,
        "tracing: {endpoint: 'localhost:1', tls_config: {ca_file: /nowhere.pem}}\n",
    );
    reload(500).await;
    let seen = collector.spans().len();
    wait("more of them", 30, async || collector.spans().len() > seen).await;
    write_config(dir.path(), port, "");
    reload(200).await;
    // What was ended before still comes, then nothing more.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let seen = collector.spans().len();
    ask().await;
    assert!(server.process.stop());
    assert_eq!(collector.spans().len(), seen);
}

/// What is left when the process ends is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_are_sent_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    let mut server = server(dir.path(), &tracing_section(&collector)).await;
    let url = server.process.url("/api/v1/format_query?query=last");
    reqwest::get(url).await.unwrap();
    assert!(server.process.stop());
    let spans = collector.spans();
    assert!(!named(&spans, "prometheus", "GET /api/v1/format_query").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_through_a_real_thanos() {
    let Some(thanos) = thanos("a_trace_goes_through_a_real_thanos") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    let server = server(dir.path(), &tracing_section(&collector)).await;
    let middle = querier(&thanos, dir.path(), &collector, server.grpc, "thanos").await;
    let top = querier(&ours(), dir.path(), &collector, middle.grpc, "q").await;
    ask(
        &top.process,
        ("traceparent", &format!("00-{TRACE}-{PARENT}-01")),
    )
    .await;
    wait("all three", 30, async || {
        let spans = of(&collector, TRACE);
        let has = |service| spans.iter().any(|s| s.service == service);
        has("q") && has("thanos") && has("prometheus")
    })
    .await;
    let spans = of(&collector, TRACE);
    // Each span but the first stands below another one that was sent.
    for (below, above) in [("prometheus", "thanos"), ("thanos", "q")] {
        let parents: Vec<&Span> = spans.iter().filter(|s| s.service == above).collect();
        assert!(
            spans
                .iter()
                .any(|s| s.service == below && parents.iter().any(|p| p.id == s.parent)),
            "{below} below {above}: {spans:#?}"
        );
    }
}
