//! Discoverers run, and what they find is published.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use discovery::config::Discovery;
use discovery::{Found, Manager, ManagerOptions};
use metrics::{Registry, Value};
use tokio::sync::watch;

fn read(yaml: &str) -> Discovery {
    serde_saphyr::from_str(yaml).unwrap()
}

fn manager(registry: &Registry) -> Manager {
    let options = ManagerOptions {
        reload_interval: Duration::from_millis(10),
    };
    Manager::new("scrape", registry, options).unwrap()
}

/// The addresses of a job, sorted; nothing if there is no such job.
fn addresses(found: &Found, job: &str) -> Option<Vec<String>> {
    let targets = found.get(job)?.iter().flat_map(|g| &g.targets);
    let mut all: Vec<String> = targets
        .map(|t| t.get("__address__").unwrap().to_owned())
        .collect();
    all.sort();
    Some(all)
}

/// Waits until a job has these targets.
async fn until(found: &mut watch::Receiver<Found>, job: &str, want: &[&str]) {
    let there = found.wait_for(|f| addresses(f, job).is_some_and(|a| a == want));
    let waited = tokio::time::timeout(Duration::from_secs(20), there)
        .await
        .is_ok();
    assert!(
        waited,
        "{job}: {:?}, not {want:?}",
        addresses(&found.borrow(), job)
    );
}

/// Puts a file in its place in one step, as those who write target files should.
fn put(path: &Path, text: &str) {
    let aside = path.with_extension("tmp");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(&aside, path).unwrap();
}

fn number(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let metrics = families
        .iter()
        .filter(|f| *f.desc.name == *name)
        .flat_map(|f| &f.metrics);
    metrics
        .map(|m| {
            if let Value::Number(n) = m.value {
                n
            } else {
                0.0
            }
        })
        .sum()
}

#[tokio::test]
async fn static_targets_are_there_at_once() {
    let registry = Registry::new();
    let manager = manager(&registry);
    let found = manager.subscribe();
    let a = read("static_configs: [{targets: [a:1, b:2], labels: {x: y}}, {targets: [c:3]}]");
    let empty = read("{}");
    manager.apply([("a", &a), ("none", &empty)]);
    let first = found.borrow().clone();
    assert_eq!(addresses(&first, "a").unwrap(), ["a:1", "b:2", "c:3"]);
    assert_eq!(addresses(&first, "none").unwrap(), [""; 0]);
    assert_eq!(first["a"][0].labels.to_string(), r#"{x="y"}"#);
    assert_eq!(number(&registry, "prometheus_sd_discovered_targets"), 3.0);

    // What does not change stays the same list; what is not wanted goes.
    manager.apply([("a", &a)]);
    let second = found.borrow().clone();
    assert!(Arc::ptr_eq(&first["a"], &second["a"]));
    assert_eq!(addresses(&second, "none"), None);
    manager.apply([]);
    assert!(found.borrow().is_empty());
    assert_eq!(number(&registry, "prometheus_sd_discovered_targets"), 0.0);
}

#[tokio::test]
async fn files_come_change_break_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (
        folder.path().join("one.json"),
        folder.path().join("two.yml"),
    );
    put(
        &one,
        r#"[{"targets": ["a:1"], "labels": {"x": "1"}}, {"targets": ["b:1"]}]"#,
    );
    let registry = Registry::new();
    let manager = manager(&registry);
    let mut found = manager.subscribe();
    let mut job = read("file_sd_configs: [{files: ['*.json', 'two.yml'], refresh_interval: 50ms}]");
    job.set_folder(folder.path());
    manager.apply([("files", &job)]);
    until(&mut found, "files", &["a:1", "b:1"]).await;
    let labels = found.borrow()["files"][0].labels.to_string();
    assert_eq!(
        labels,
        format!(r#"{{__meta_filepath="{}", x="1"}}"#, one.display())
    );

    put(
        &two,
        "- targets: ['c:1']\n# a comment\n- targets:\n  - d:1\n",
    );
    until(&mut found, "files", &["a:1", "b:1", "c:1", "d:1"]).await;
    put(&one, r#"[{"targets": ["a:2"]}]"#);
    until(&mut found, "files", &["a:2", "c:1", "d:1"]).await;

    // A broken file keeps what it said, and is counted.
    let errors = number(&registry, "prometheus_sd_file_read_errors_total");
    for broken in ["- targats: [x]\n", "- null\n", "nonsense", "- targets: [\n"] {
        put(&two, broken);
        let before = number(&registry, "prometheus_sd_file_read_errors_total");
        while number(&registry, "prometheus_sd_file_read_errors_total") < before + 1.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(number(&registry, "prometheus_sd_file_read_errors_total") >= errors + 4.0);
    assert_eq!(
        addresses(&found.borrow(), "files").unwrap(),
        ["a:2", "c:1", "d:1"]
    );

    put(&two, "");
    until(&mut found, "files", &["a:2"]).await;
    put(
        &folder.path().join("three.json"),
        r#"[{"targets": ["e:1"]}]"#,
    );
    until(&mut found, "files", &["a:2", "e:1"]).await;
    std::fs::remove_file(&one).unwrap();
    until(&mut found, "files", &["e:1"]).await;
}

#[tokio::test]
async fn one_discoverer_serves_all_jobs_that_ask_for_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yml");
    put(&file, "- targets: [a:1]\n");
    let registry = Registry::new();
    let manager = manager(&registry);
    let mut found = manager.subscribe();
    let mut job = read("file_sd_configs: [{files: [t.yml], refresh_interval: 1h}]");
    job.set_folder(folder.path());
    manager.apply([("x", &job), ("y", &job)]);
    until(&mut found, "x", &["a:1"]).await;
    until(&mut found, "y", &["a:1"]).await;
    assert!(Arc::ptr_eq(
        &found.borrow()["x"][0],
        &found.borrow()["y"][0]
    ));

    // It goes on over a change of the others, and a job that joins knows all at once.
    manager.apply([("y", &job), ("z", &job)]);
    assert_eq!(addresses(&found.borrow(), "z").unwrap(), ["a:1"]);
    assert_eq!(addresses(&found.borrow(), "x"), None);
}

#[tokio::test]
async fn publications_keep_their_distance() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yml");
    let options = ManagerOptions {
        reload_interval: Duration::from_secs(3600),
    };
    let registry = Registry::new();
    let manager = Manager::new("scrape", &registry, options).unwrap();
    let mut found = manager.subscribe();
    let mut job = read("file_sd_configs: [{files: [t.yml], refresh_interval: 50ms}]");
    job.set_folder(folder.path());
    put(&file, "- targets: [a:1]\n");
    manager.apply([("x", &job)]);
    until(&mut found, "x", &["a:1"]).await;
    put(&file, "- targets: [b:1]\n");
    while number(&registry, "prometheus_sd_received_updates_total") < 2.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(addresses(&found.borrow(), "x").unwrap(), ["a:1"]);
    // Whoever changes the configuration sees everything at once.
    manager.apply([("x", &job)]);
    assert_eq!(addresses(&found.borrow(), "x").unwrap(), ["b:1"]);
}

#[tokio::test]
async fn long_lists_of_targets_are_no_attack() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yml");
    let list: String = (0..60_000)
        .map(|i| format!("- targets: [h{i}:1]\n  # c\n"))
        .collect();
    put(&file, &list);
    let manager = manager(&Registry::new());
    let mut found = manager.subscribe();
    let mut job = read("file_sd_configs: [{files: [t.yml]}]");
    job.set_folder(folder.path());
    manager.apply([("x", &job)]);
    let began = SystemTime::now();
    found.wait_for(|f| f["x"].len() == 60_000).await.unwrap();
    println!("{:?}", began.elapsed());
}

/// Answers each request with what stands in `answer` then; returns the URL.
fn serve(answer: Arc<Mutex<String>>, seen: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://u:pass@{}/sd", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
            assert!(text.contains("accept: application/json"), "{text}");
            assert!(
                text.contains("x-prometheus-refresh-interval-seconds: "),
                "{text}"
            );
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(answer.lock().unwrap().as_bytes());
        }
    });
    url
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn http_servers_may_fail_for_a_while() {
    let json = "application/json; charset=utf-8";
    let groups = r#"[{"targets": ["a:1"], "labels": {"x": "1"}}, {"targets": ["b:1"]}]"#;
    let said = Arc::new(Mutex::new(answer("200 OK", json, groups)));
    let seen = Arc::new(AtomicUsize::new(0));
    let url = serve(Arc::clone(&said), Arc::clone(&seen));
    let registry = Registry::new();
    let manager = manager(&registry);
    let mut found = manager.subscribe();
    let job = read(&format!(
        "http_sd_configs: [{{url: '{url}', refresh_interval: 50ms}}]"
    ));
    manager.apply([("http", &job)]);
    until(&mut found, "http", &["a:1", "b:1"]).await;
    let labels = found.borrow()["http"][0].labels.to_string();
    assert!(
        labels.contains("__meta_url=\"http://u:xxxxx@") && labels.contains("x=\"1\""),
        "{labels}"
    );

    for wrong in [
        answer("500 Internal Server Error", json, groups),
        answer("200 OK", "text/html", "[]"),
        answer("200 OK", json, "{"),
        answer("200 OK", json, "[null]"),
        answer("200 OK", json, r#"[{"targets": [], "more": 1}]"#),
    ] {
        let before = number(&registry, "prometheus_sd_http_failures_total");
        *said.lock().unwrap() = wrong;
        let failed = async {
            while number(&registry, "prometheus_sd_http_failures_total") < before + 2.0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), failed)
            .await
            .unwrap();
    }
    assert_eq!(addresses(&found.borrow(), "http").unwrap(), ["a:1", "b:1"]);

    *said.lock().unwrap() = answer("200 OK", "application/json", r#"[{"targets": ["c:1"]}]"#);
    until(&mut found, "http", &["c:1"]).await;

    // Nobody asks any more once the job is gone.
    manager.apply([]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = seen.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(seen.load(Ordering::SeqCst), asked);
}
