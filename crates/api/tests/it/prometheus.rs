//! The same requests to a real Prometheus 2.42 and to us: status, error type and shape agree.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::fakes::{get, request, send};
use crate::served::client;

struct Reference {
    url: String,
    _folder: tempfile::TempDir,
    _child: Child,
}

/// Starts Debian's Prometheus; none where there is none.
async fn start() -> Option<Reference> {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = folder.path().join("prometheus.yml");
    let text = "scrape_configs: [{job_name: node, static_configs: [{targets: ['127.0.0.1:1']}]}]\n";
    std::fs::write(&config, text).unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let url = format!("http://127.0.0.1:{port}");
    let http = client();
    for _ in 0..300 {
        let ready = http.get(format!("{url}/-/ready")).send().await;
        if ready.is_ok_and(|r| r.status() == 200) {
            return Some(Reference {
                url,
                _folder: folder,
                _child: child,
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

/// Everything in `reference` is in `ours`, of the same kind; we may say more.
fn same_shape(path: &str, reference: &Value, ours: &Value) {
    match (reference, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for (name, value) in a {
                let Some(other) = b.get(name) else {
                    // Label sets and maps by name have keys of their own.
                    let free = ["/metric", "abels", "/data"];
                    assert!(free.iter().any(|f| path.ends_with(f)), "{path}: no {name}");
                    continue;
                };
                same_shape(&format!("{path}/{name}"), value, other);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if let (Some(a), Some(b)) = (a.first(), b.first()) {
                same_shape(path, a, b);
            }
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Null, Value::Null) => {}
        (a, b) => panic!("{path}: {a} is not {b}"),
    }
}

#[tokio::test]
async fn the_same_requests() {
    let Some(reference) = start().await else {
        println!("SKIPPED: no prometheus on PATH that starts");
        return;
    };
    let http = client();
    // Paths that mean the same to 2.42 and 3.x.
    let paths = "
        query?query=1
        query?query=1&time=1.5&stats=all
        query?query=\"x\"
        query?query=vector(1)
        query?query=absent_metric
        query?query=
        query
        query?query=up[
        query?query=up{
        query?query=sum(rate(up))
        query?query=up&time=foo
        query?query=up&time=2023-01-01T00:00:00Z
        query?query=up&time=2023-01-01T00:00:00%2B01:00
        query?query=up&time=2023-01-01
        query?query=up&timeout=foo
        query?query=up&timeout=1s
        query_range?query=1&start=0&end=10&step=1
        query_range?query=1&start=0&end=10&step=1m
        query_range?query=vector(1)&start=0&end=10&step=0.5
        query_range?query=up
        query_range?query=up&start=0
        query_range?query=up&start=0&end=1
        query_range?query=up&start=x&end=1&step=1
        query_range?query=up&start=0&end=x&step=1
        query_range?query=up&start=0&end=1&step=x
        query_range?query=up&start=0&end=1&step=0
        query_range?query=up&start=0&end=1&step=-1
        query_range?query=up&start=1&end=0&step=1
        query_range?query=up&start=0&end=11000&step=1
        query_range?query=up&start=0&end=11001&step=1
        query_range?query=\"x\"&start=0&end=1&step=1
        query_range?query=up[&start=0&end=1&step=1
        query_range?query=up&start=0&end=1&step=1&timeout=foo
        format_query?query=sum(up)by(job)
        format_query?query=sum(
        format_query
        labels
        labels?match[]=up
        labels?match[]={
        labels?match[]={}
        labels?start=foo
        labels?end=foo
        label/job/values
        label/job/values?match[]={}
        label/job/values?start=foo
        series
        series?match[]=up
        series?match[]=up&start=0&end=1
        series?match[]={}
        series?match[]={
        series?match[]=up&start=foo
        series?match[]=up&end=foo
        series?match[]=up&x=%zz
        targets
        targets?state=active
        targets?state=dropped
        targets?state=any
        targets/metadata
        targets/metadata?match_target={job=\"none\"}
        targets/metadata?match_target={
        targets/metadata?limit=x
        scrape_pools
        metadata
        metadata?limit=x
        rules
        rules?type=alert
        rules?type=x
        alerts
        alertmanagers
        status/config
        status/flags
        status/runtimeinfo
        status/buildinfo
        status/tsdb
        nowhere
    ";
    for path in paths.lines().map(str::trim).filter(|p| !p.is_empty()) {
        let path = format!("/api/v1/{path}");
        let escaped = request("GET", &path).uri().to_string();
        let theirs = http
            .get(format!("{}{escaped}", reference.url))
            .send()
            .await
            .unwrap();
        let status = theirs.status().as_u16();
        let kind = theirs.headers().get("content-type").cloned();
        let text = theirs.text().await.unwrap();
        let ours = get(&path).await;
        assert_eq!(ours.status, status, "{path}: {text} {}", ours.body);
        let is_json =
            |kind: Option<&http::HeaderValue>| kind.is_some_and(|k| k == "application/json");
        assert_eq!(
            is_json(ours.headers.get("content-type")),
            is_json(kind.as_ref()),
            "{path}"
        );
        if is_json(kind.as_ref()) {
            let theirs: Value = serde_json::from_str(&text).unwrap();
            let ours = ours.json();
            assert_eq!(ours["errorType"], theirs["errorType"], "{path}");
            same_shape(&path, &theirs, &ours);
        }
    }
    for (method, path) in [
        ("POST", "/-/reload"),
        ("PUT", "/-/reload"),
        ("GET", "/-/reload"),
        ("POST", "/-/quit"),
        ("GET", "/-/quit"),
        ("OPTIONS", "/api/v1/query"),
        ("DELETE", "/api/v1/query"),
        ("POST", "/api/v1/label/job/values"),
        ("POST", "/api/v1/targets"),
        ("GET", "/-/healthy"),
        ("GET", "/-/ready"),
        ("GET", "/version"),
        ("GET", "/metrics"),
    ] {
        let url = format!("{}{path}", reference.url);
        let theirs = http
            .request(method.parse().unwrap(), url)
            .send()
            .await
            .unwrap();
        let ours = send(crate::fakes::options(), request(method, path)).await;
        assert_eq!(ours.status, theirs.status().as_u16(), "{method} {path}");
        if ours.status == 403 {
            assert_eq!(ours.body, theirs.text().await.unwrap());
        }
    }
}
