//! What is logged of requests by Thanos' YAML; where a real Thanos is found, it says the same.

use std::collections::BTreeSet;
use std::path::Path;

use crate::fleet::{ours, role, wait};
use crate::peers::thanos;
use crate::process::{Process, free_port};

const CONFIG: &str = "http:\n  config:\n  - path: /api/v1/query\n    port: PORT\n  options:\n    level: DEBUG\n    decision:\n      log_start: true\n      log_end: true\ngrpc:\n  config:\n  - service: thanos.info.Info\n    method: Info\n  options:\n    level: DEBUG\n    decision:\n      log_start: false\n      log_end: true\n";

/// The lines about calls, each as its message and the names of its fields.
fn calls(log: &str) -> BTreeSet<(String, BTreeSet<String>)> {
    let lines = log.lines().filter(|l| l.contains(" call\""));
    let of = |line: &str| {
        let names = line.split(' ').filter_map(|part| part.split_once('='));
        let names = names.map(|(name, _)| name.to_owned());
        // Each has its own words for where in the program it stands.
        let names = names.filter(|n| n.contains('.') && !n.starts_with("grpc.request"));
        let end = if line.contains("finished call") {
            "finished"
        } else {
            "started"
        };
        (end.to_owned(), names.collect())
    };
    lines.map(of).collect()
}

async fn logged(program: &Path, dir: &Path) -> String {
    let (http, grpc) = (free_port(), free_port());
    let args = [
        "query".to_owned(),
        format!("--http-address=127.0.0.1:{http}"),
        format!("--grpc-address=127.0.0.1:{grpc}"),
        "--log.level=debug".to_owned(),
        format!(
            "--request.logging-config={}",
            CONFIG.replace("PORT", &http.to_string())
        ),
    ];
    let mut process = Process::start(program, dir, http, args);
    process.wait_for("/-/ready").await;
    process.get("/api/v1/status/buildinfo", &[]).await;
    // Another one asks it how it is.
    let asker = role(
        &ours(),
        dir,
        "query",
        &[format!("--endpoint=127.0.0.1:{grpc}")],
    )
    .await;
    // The path as Thanos compares it has the query; in a body it has none.
    let client = reqwest::Client::new();
    let asked = client
        .post(process.url("/api/v1/query"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("query=1")
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 200);
    wait("all kinds of lines", 30, async || {
        let log = process.log();
        calls(&log).len() >= 3 && log.contains("grpc.code=OK")
    })
    .await;
    drop(asker);
    process.log()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_logged_as_thanos_logs_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = logged(&ours(), dir.path()).await;
    let has = |what: &[&str]| {
        log.lines()
            .any(|line| what.iter().all(|w| line.contains(w)))
    };
    assert!(
        has(&[
            "finished call",
            "protocol=http",
            "thanos.method_name=query",
            "http.status_code=200"
        ]),
        "{log}"
    );
    assert!(has(&["started call", "POST /api/v1/query"]), "{log}");
    assert!(
        has(&[
            "finished call",
            "grpc.service=thanos.info.Info",
            "grpc.code=OK"
        ]),
        "{log}"
    );
    assert!(!has(&["call\"", "/api/v1/status/buildinfo"]), "{log}");
    assert!(!has(&["started call", "grpc.service"]), "{log}");
    if let Some(thanos) = thanos("requests_are_logged_as_thanos_logs_them") {
        let theirs = logged(&thanos, dir.path()).await;
        assert_eq!(calls(&log), calls(&theirs), "{log}\n{theirs}");
    }
}
