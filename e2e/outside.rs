//! From outside: with a web configuration nothing answers without credentials but probes, in any
//! role; and what is secret in configurations and flags is in no log, page, metric or error.

use std::path::Path;
use std::sync::LazyLock;

use crate::exporter::Exporter;
use crate::fleet::ours;
use crate::process::{Process, free_port};

/// What `test` becomes by bcrypt, as the web configuration wants it.
const WEB: &str =
    "basic_auth_users:\n  ada: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay\n";

/// Every secret contains this.
const SECRET: &str = "s3cr3t";

/// Places that say much of a process.
const PATHS: &[&str] = &[
    "/",
    "/query",
    "/graph",
    "/classic/graph",
    "/status",
    "/flags",
    "/config",
    "/targets",
    "/metrics",
    "/version",
    "/federate?match[]=up",
    "/favicon.svg",
    "/assets/none.js",
    "/debug/pprof/heap",
    "/-/reload",
    "/-/quit",
    "/api/v1/query?query=up",
    "/api/v1/query_range?query=up&start=0&end=1&step=1",
    "/api/v1/labels",
    "/api/v1/series?match[]=up",
    "/api/v1/targets",
    "/api/v1/scrape_pools/config?scrapePool=shy",
    "/api/v1/rules",
    "/api/v1/alerts",
    "/api/v1/alertmanagers",
    "/api/v1/stores",
    "/api/v1/blocks",
    "/api/v1/notifications",
    "/api/v1/features",
    "/api/v1/status/config",
    "/api/v1/status/flags",
    "/api/v1/status/runtimeinfo",
    "/api/v1/status/buildinfo",
    "/api/v1/status/tsdb",
    "/api/v1/status/bucket",
    "/api/v1/status/self_metrics",
    "/api/v1/status/walreplay",
    "/api/v1/nothing",
    "/nowhere",
];

async fn get(process: &Process, path: &str, password: Option<&str>) -> (u16, String) {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);
    let mut request = CLIENT.get(process.url(path));
    if let Some(password) = password {
        request = request.basic_auth("ada", Some(password));
    }
    let answer = request.send().await.unwrap();
    (
        answer.status().as_u16(),
        answer.text().await.unwrap_or_default(),
    )
}

/// Where a text says a secret.
fn leak(text: &str) -> Option<String> {
    let at = text.find(SECRET)?;
    let before: String = text[..at].chars().rev().take(120).collect();
    let before: String = before.chars().rev().collect();
    Some(before + &text[at..].chars().take(40).collect::<String>())
}

/// Waits until the probe of readiness answers, with credentials or without.
async fn until_ready(process: &Process) {
    for _ in 0..600 {
        let asked = reqwest::Client::new()
            .get(process.url("/-/ready"))
            .basic_auth("ada", Some("test"));
        if asked.send().await.is_ok_and(|a| a.status() == 200) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("not ready:\n{}", process.log());
}

/// All roles that answer over HTTP, each with secrets in what it is given.
async fn roles(dir: &Path) -> Vec<(&'static str, Process)> {
    let exporter = Exporter::without_timestamps().await;
    std::fs::write(dir.join("web.yml"), WEB).unwrap();
    std::fs::create_dir_all(dir.join("bucket")).unwrap();
    // Nobody listens there: errors name it.
    let closed = free_port();
    std::fs::write(
        dir.join("s3.yml"),
        format!(
            "type: S3\nconfig:\n  bucket: b\n  endpoint: 127.0.0.1:{closed}\n  insecure: true\n  access_key: {SECRET}-key\n  secret_key: {SECRET}-bucket\n  max_retries: 1\n"
        ),
    )
    .unwrap();
    std::fs::write(
        dir.join("rules.yml"),
        "groups: [{name: g, interval: 1s, rules: [{alert: A, expr: vector(1)}]}]\n",
    )
    .unwrap();
    let http = format!(
        "basic_auth: {{username: u, password: {SECRET}-basic}}\n  proxy_url: http://u:{SECRET}-proxy@127.0.0.1:{closed}\n"
    );
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{a: b}}}}\n\
         rule_files: [rules.yml]\n\
         alerting:\n  alertmanagers:\n  - authorization: {{credentials: {SECRET}-alerts}}\n    static_configs: [{{targets: ['127.0.0.1:{closed}']}}]\n\
         scrape_configs:\n\
         - job_name: shy\n  authorization: {{credentials: {SECRET}-bearer}}\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n\
         - job_name: away\n  {http}  static_configs: [{{targets: ['127.0.0.1:{closed}']}}]\n\
         - job_name: found\n  http_sd_configs:\n  - url: http://u:{SECRET}-found@127.0.0.1:{closed}/sd\n\
         - job_name: token\n  oauth2: {{client_id: c, client_secret: {SECRET}-oauth, token_url: 'http://127.0.0.1:{closed}/t'}}\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n\
         remote_write:\n- url: http://u:{SECRET}-url@127.0.0.1:{closed}/write\n\
         remote_read:\n- url: http://u:{SECRET}-read@127.0.0.1:{closed}/read\n\n",
        exporter.port, exporter.port
    );
    std::fs::write(dir.join("prometheus.yml"), config).unwrap();
    let (server, query) = (free_port(), free_port());
    let grpc = free_port();
    let objstore = "--objstore.config-file=s3.yml".to_owned();
    let given: Vec<(&str, u16, Vec<String>)> = vec![
        (
            "server",
            server,
            vec![
                "--config.file=prometheus.yml".to_owned(),
                "--storage.tsdb.path=server".to_owned(),
                format!("--grpc-address=127.0.0.1:{grpc}"),
                "--web.config.file=web.yml".to_owned(),
                "--web.enable-lifecycle".to_owned(),
                format!(
                    "--objstore.config=type: S3\nconfig: {{bucket: b, endpoint: '127.0.0.1:{closed}', insecure: true, access_key: {SECRET}, secret_key: {SECRET}-inline}}"
                ),
            ],
        ),
        ("query", query, vec![format!("--endpoint=127.0.0.1:{grpc}")]),
        (
            "store",
            free_port(),
            vec!["--data-dir=store".to_owned(), objstore.clone()],
        ),
        (
            "rule",
            free_port(),
            vec![
                "--data-dir=rule".to_owned(),
                "--label=r=\"1\"".to_owned(),
                "--rule-file=rules.yml".to_owned(),
                "--eval-interval=1s".to_owned(),
                format!("--query=http://u:{SECRET}-query@127.0.0.1:{query}"),
                format!("--alertmanagers.url=http://u:{SECRET}-am@127.0.0.1:{closed}"),
                objstore.clone(),
            ],
        ),
        (
            "query-frontend",
            free_port(),
            vec![format!(
                "--query-frontend.downstream-url=http://ada:test@127.0.0.1:{query}"
            )],
        ),
    ];
    let mut started = Vec::new();
    for (role, port, args) in given {
        let mut all = vec![role.to_owned()];
        if role == "server" {
            all.push(format!("--web.listen-address=127.0.0.1:{port}"));
        } else {
            all.push(format!("--http-address=127.0.0.1:{port}"));
            all.push("--http.config=web.yml".to_owned());
        }
        if matches!(role, "query" | "store" | "rule") {
            all.push(format!("--grpc-address=127.0.0.1:{}", free_port()));
        }
        all.extend(args);
        started.push((role, Process::start(ours(), dir, port, all)));
    }
    for (role, process) in &started {
        // A gateway whose bucket is away is not ready, but speaks.
        if *role != "store" {
            until_ready(process).await;
        }
    }
    started
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_without_credentials_and_no_secret_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let roles = roles(dir.path()).await;
    for (role, process) in &roles {
        for path in PATHS {
            let (status, body) = get(process, path, None).await;
            assert_eq!(status, 401, "{role} {path}: {body}");
        }
        // Each takes its time, as bcrypt shall.
        for (path, password) in [("/metrics", "wrong"), ("/nowhere", "")] {
            let (status, body) = get(process, path, Some(password)).await;
            assert_eq!(status, 401, "{role} {path} {password:?}: {body}");
        }
        for path in ["/-/healthy", "/-/ready"] {
            let (status, body) = get(process, path, None).await;
            assert!(
                matches!(status, 200 | 401 | 503) && body.len() < 200,
                "{role} {path}: {status} {body}"
            );
        }
    }
    // Until what is away was asked for, and errors were made and logged.
    let server = &roles[0].1;
    for _ in 0..200 {
        let (_, targets) = get(server, "/api/v1/targets", Some("test")).await;
        if targets.matches("\"health\":\"down\"").count() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (role, process) in &roles {
        for path in PATHS.iter().filter(|p| !p.starts_with("/-/")) {
            let (status, body) = get(process, path, Some("test")).await;
            assert_ne!(status, 401, "{role} {path}: {body}");
            assert_eq!(leak(&body), None, "{role} {path}");
        }
        assert_eq!(leak(&process.log()), None, "the log of {role}");
    }
}
