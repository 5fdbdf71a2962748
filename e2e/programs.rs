//! The binary under the names of the programs that it stands in for, and its tools beside theirs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::process::{Process, available, free_port};

/// A folder with a link to the binary under each name.
fn links() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["prometheus", "promtool", "thanos"] {
        let binary = env!("CARGO_BIN_EXE_epimetheus");
        std::os::unix::fs::symlink(binary, dir.path().join(name)).unwrap();
    }
    dir
}

fn run(program: &Path, dir: &Path, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(stdin.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn code(out: &Output) -> i32 {
    out.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn each_name_takes_its_own_command_line() {
    let dir = links();
    let dir = dir.path();
    for name in ["prometheus", "promtool", "thanos"] {
        let out = run(&dir.join(name), dir, &["--version"], "");
        let said = text(&out.stdout);
        assert_eq!(code(&out), 0);
        assert!(said.starts_with(&format!("{name}, version ")), "{said}");
        for key in [
            "  build user:",
            "  build date:",
            "  go version:",
            "  platform:",
            "  tags:",
        ] {
            assert!(said.contains(key), "{said}");
        }
        let help = run(&dir.join(name), dir, &["--help"], "");
        assert_eq!((code(&help), help.stderr.len()), (0, 0));
    }
    for (name, args, want) in [
        ("prometheus", &["--nope"][..], 1),
        ("prometheus", &["server"], 1),
        ("promtool", &["--nope"], 1),
        ("promtool", &["server"], 1),
        ("promtool", &["check", "config", "--nope", "x"], 1),
        ("thanos", &["--nope"], 2),
        ("thanos", &["server"], 2),
        ("thanos", &["store", "--nope"], 2),
        ("thanos", &["store", "--help"], 0),
        ("promtool", &["promql", "format", "a+b"], 1),
        (
            "promtool",
            &["--experimental", "promql", "format", "a+b"],
            0,
        ),
        (
            "promtool",
            &["promql", "format", "a+b", "--experimental"],
            0,
        ),
    ] {
        let out = run(&dir.join(name), dir, args, "");
        assert_eq!(code(&out), want, "{name} {args:?}: {}", text(&out.stderr));
    }
    // A flag comes first: that is a server, which misses its configuration.
    let own = Path::new(env!("CARGO_BIN_EXE_epimetheus"));
    let out = run(own, dir, &["--config.file=/nowhere.yml"], "");
    assert!(
        text(&out.stderr).contains("/nowhere.yml"),
        "{}",
        text(&out.stderr)
    );
    assert_eq!(code(&out), 1);
}

#[tokio::test]
async fn a_server_under_the_name_of_prometheus_and_tools_that_ask_it() {
    let dir = links();
    let dir = dir.path();
    std::fs::write(dir.join("p.yml"), "global: {query_log_file: q.log}\n").unwrap();
    std::fs::create_dir(dir.join("data")).unwrap();
    let left = "[{\"query\":\"left_by_a_crash\",\"timestamp_sec\":1}\0\0,\0";
    std::fs::write(dir.join("data/queries.active"), left).unwrap();
    let port = free_port();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let args = ["--config.file=p.yml", "--storage.tsdb.path=data", &listen];
    let mut server = Process::start(dir.join("prometheus"), dir, port, args);
    server.wait_for("/-/ready").await;
    // What ran at a crash is said, and what runs now is logged.
    let log = server.log();
    assert!(
        log.contains("These queries didn't finish in the last run"),
        "{log}"
    );
    assert!(log.contains("left_by_a_crash"), "{log}");
    server.query("1 + 1", 60.0).await;
    let line = std::fs::read_to_string(dir.join("q.log")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!(line["msg"], "promql query logged");
    assert_eq!(line["params"]["query"], "1 + 1");
    assert_eq!(line["params"]["start"], "1970-01-01T00:01:00.000Z");
    assert_eq!(
        line["httpRequest"],
        serde_json::json!({"clientIP": "127.0.0.1", "method": "GET", "path": "/api/v1/query"})
    );
    assert_eq!(line["stats"]["samples"]["samplesRead"], 0);
    assert_eq!(line["spanID"], "0000000000000000");
    assert_eq!(line["traceID"], "0".repeat(32));
    assert!(
        line["stats"]["timings"]["innerEvalTime"].is_number(),
        "{line}"
    );
    let (promtool, url) = (dir.join("promtool"), server.url(""));
    for what in ["healthy", "ready"] {
        let out = run(
            &promtool,
            dir,
            &["check", what, "--url", &format!("{url}/")],
            "",
        );
        assert_eq!(code(&out), 0);
        assert!(
            text(&out.stderr).starts_with("  SUCCESS:  "),
            "{}",
            text(&out.stderr)
        );
    }
    let nobody = format!("--url=http://127.0.0.1:{}", free_port());
    assert_eq!(
        code(&run(&promtool, dir, &["check", "healthy", &nobody], "")),
        1
    );
    let elsewhere = format!("--url={url}/elsewhere");
    let out = run(&promtool, dir, &["check", "ready", &elsewhere], "");
    assert!(
        text(&out.stderr).contains("status=404"),
        "{}",
        text(&out.stderr)
    );

    let out = run(&promtool, dir, &["debug", "metrics", &url], "");
    assert_eq!(code(&out), 0, "{}", text(&out.stderr));
    let mut listed = Command::new("tar");
    let listed = listed
        .args(["-xzOf", "debug.tar.gz", "metrics.txt"])
        .current_dir(dir)
        .output();
    let metrics = text(&listed.unwrap().stdout);
    assert!(metrics.contains("epimetheus_build_info"), "{metrics}");
}

/// The promtool on `PATH`, if it is one of Prometheus 3.
fn promtool(test: &str) -> Option<PathBuf> {
    if !available("promtool", test) {
        return None;
    }
    let out = Command::new("promtool")
        .args(["check", "healthy", "--help"])
        .output();
    if !out.is_ok_and(|o| o.status.success() && text(&o.stdout).contains("--[no-]version")) {
        println!("SKIPPED {test}: promtool is older than 3");
        return None;
    }
    Some("promtool".into())
}

const METRICS: &str = "# HELP good_total Fine.\n# TYPE good_total counter\ngood_total 1\n\
    # TYPE bad counter\nbad{le=\"1\"} 1\n\
    # HELP gauge_total_gauge x\n# TYPE gauge_total_gauge gauge\ngauge_total_gauge{camelCase=\"1\"} 2\n\
    # HELP wait_milliseconds x\n# TYPE wait_milliseconds histogram\n\
    wait_milliseconds_bucket{le=\"1\"} 1\nwait_milliseconds_bucket{le=\"+Inf\"} 2\n\
    wait_milliseconds_sum 3\nwait_milliseconds_count 2\n\
    # HELP size_kb x\n# TYPE size_kb gauge\nsize_kb 1\nnoHelp:x 1\n\
    # HELP s x\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n\
    # HELP items_count x\n# TYPE items_count gauge\nitems_count{quantile=\"1\"} 1\n";

#[test]
fn metrics_are_linted() {
    let dir = links();
    let ours = dir.path().join("promtool");
    let out = run(
        &ours,
        dir.path(),
        &["check", "metrics"],
        "# HELP a_total b\n# TYPE a_total counter\na_total 1\n",
    );
    assert_eq!((code(&out), out.stderr.len()), (0, 0));
    assert_eq!(
        code(&run(&ours, dir.path(), &["check", "metrics"], "bro ken{")),
        1
    );
    assert_eq!(
        code(&run(
            &ours,
            dir.path(),
            &["check", "metrics", "--lint=none"],
            ""
        )),
        1
    );
    let out = run(&ours, dir.path(), &["check", "metrics"], METRICS);
    assert_eq!(code(&out), 3);
    let said = text(&out.stderr);
    assert!(
        said.contains("wait_milliseconds use base unit \"seconds\" instead of \"milliseconds\"\n"),
        "{said}"
    );

    let Some(theirs) = promtool("metrics_are_linted") else {
        return;
    };
    for args in [
        &["check", "metrics"][..],
        &["check", "metrics", "--extended", "--lint=none"],
    ] {
        let want = run(&theirs, dir.path(), args, METRICS);
        let got = run(&ours, dir.path(), args, METRICS);
        assert_eq!(text(&got.stderr), text(&want.stderr));
        // Metrics with as many series come in any order there.
        let rows = |out: &Output| {
            let mut rows: Vec<String> = text(&out.stdout).lines().map(String::from).collect();
            rows.sort();
            rows
        };
        assert_eq!(rows(&got), rows(&want));
        assert_eq!(code(&got), code(&want));
    }
}

#[test]
fn discovery_of_a_job_is_shown() {
    let dir = links();
    let write = |file: &str, more: &str| {
        let config = format!(
            "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: [x:1, y:2, drop:3]\n    \
             labels: {{env: prod, __meta_x: y}}\n{more}  relabel_configs:\n  \
             - {{source_labels: [__address__], regex: 'drop.*', action: drop}}\n  \
             - {{source_labels: [__meta_x], target_label: kept}}\n"
        );
        std::fs::write(dir.path().join(file), config).unwrap();
    };
    write("p.yml", "");
    write("files.yml", "  file_sd_configs: [{files: [t.json]}]\n");
    std::fs::write(dir.path().join("t.json"), r#"[{"targets": ["z:9"]}]"#).unwrap();
    let ours = dir.path().join("promtool");
    let check = ["check", "service-discovery"];
    let out = run(&ours, dir.path(), &[check[0], check[1], "p.yml", "b"], "");
    assert_eq!(code(&out), 1);
    assert_eq!(text(&out.stderr), "Job b not found. Select one of:\n\ta\n");
    let read = |program: &Path, file: &str| {
        let args = [check[0], check[1], "--timeout=1s", file, "a"];
        let out = run(program, dir.path(), &args, "");
        assert_eq!(code(&out), 0, "{}", text(&out.stderr));
        let mut results: Vec<serde_json::Value> = serde_json::from_slice(&out.stdout).unwrap();
        results.sort_by_key(ToString::to_string);
        results
    };
    let got = read(&ours, "p.yml");
    assert_eq!(got.len(), 3);
    assert!(got.iter().any(|r| r["labels"]["kept"] == "y"), "{got:?}");
    assert_eq!(read(&ours, "files.yml").len(), 4);
    if let Some(theirs) = promtool("discovery_of_a_job_is_shown") {
        assert_eq!(got, read(&theirs, "p.yml"));
    }
}

#[test]
fn files_are_judged_as_promtool_judges_them() {
    let dir = links();
    let job = |more: &str| format!("scrape_configs:\n- job_name: a\n{more}");
    let rules =
        "groups:\n- name: g\n  rules:\n  - {record: a, expr: b}\n  - {record: a, expr: c}\n";
    for (file, content) in [
        ("good.yml", job("  static_configs: [{targets: ['x:1']}]\n")),
        (
            "url.yml",
            job("  static_configs: [{targets: ['http://x:1']}]\n"),
        ),
        (
            "sd.yml",
            job("  file_sd_configs: [{files: [bad.json, none.json]}]\n"),
        ),
        (
            "late.yml",
            job("  file_sd_configs: [{files: [none.json]}]\n"),
        ),
        (
            "token.yml",
            job("  authorization: {credentials_file: none}\n"),
        ),
        ("slow.yml", job("  scrape_interval: 10m\n")),
        ("norules.yml", "rule_files: [none.yml]\n".to_owned()),
        ("twins.yml", "rule_files: [rules.yml]\n".to_owned()),
        ("rules.yml", rules.to_owned()),
        ("bad.json", "[{\"targets\": 1}]".to_owned()),
        ("web.yml", "http_server_config: {http2: true}\n".to_owned()),
        (
            "badweb.yml",
            "tls_server_config: {cert_file: none}\n".to_owned(),
        ),
    ] {
        std::fs::write(dir.path().join(file), content).unwrap();
    }
    let ours = dir.path().join("promtool");
    let theirs = promtool("files_are_judged_as_promtool_judges_them");
    for (args, want) in [
        (&["config", "good.yml"][..], 0),
        (&["config", "url.yml"], 1),
        (&["config", "sd.yml"], 1),
        (&["config", "--syntax-only", "sd.yml"], 0),
        (&["config", "late.yml"], 0),
        (&["config", "token.yml"], 1),
        (&["config", "--syntax-only", "token.yml"], 0),
        (&["config", "slow.yml", "--lint-fatal"], 0),
        (&["config", "slow.yml", "--lint=all"], 0),
        (
            &[
                "config",
                "slow.yml",
                "--lint=too-long-scrape-interval",
                "--lint-fatal",
            ],
            3,
        ),
        (
            &[
                "config",
                "slow.yml",
                "--lint=all",
                "--lint-fatal",
                "--query.lookback-delta=1h",
            ],
            0,
        ),
        (&["config", "norules.yml"], 1),
        (&["config", "twins.yml"], 0),
        (&["config", "twins.yml", "--lint-fatal"], 3),
        (&["config", "twins.yml", "--lint=none", "--lint-fatal"], 0),
        (&["config", "good.yml", "none.yml"], 1),
        (&["rules", "rules.yml", "--lint-fatal"], 3),
        (&["web-config", "web.yml"], 0),
        (&["web-config", "web.yml", "badweb.yml"], 1),
    ] {
        let mut line = vec!["check"];
        line.extend(args);
        let out = run(&ours, dir.path(), &line, "");
        assert_eq!(
            code(&out),
            want,
            "{args:?}: {}{}",
            text(&out.stdout),
            text(&out.stderr)
        );
        if let Some(theirs) = &theirs {
            let out = run(theirs, dir.path(), &line, "");
            assert_eq!(code(&out), want, "promtool {args:?}: {}", text(&out.stderr));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_are_those_of_pprof_or_said_to_be_missing() {
    use std::io::Read as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("prometheus.yml"), "").unwrap();
    let args = ["--config.file=prometheus.yml", "--storage.tsdb.path=data"];
    let mut server = Process::epimetheus(dir.path(), "server", &args);
    server.wait_for("/-/ready").await;
    let profile = server.url("/debug/pprof/profile?seconds=1");
    let (first, second) = tokio::join!(reqwest::get(&profile), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        reqwest::get(&profile).await
    });
    // One at a time.
    assert_eq!(second.unwrap().status().as_u16(), 503);
    let first = first.unwrap();
    assert_eq!(first.status().as_u16(), 200);
    let mut bytes = Vec::new();
    let packed = first.bytes().await.unwrap();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut bytes)
        .unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("nanoseconds"), "{text}");
    // What is allocated while somebody watches: the answers to this, for one.
    let profile = server.url("/debug/pprof/heap?seconds=2");
    let watching = tokio::spawn(reqwest::get(profile));
    while !watching.is_finished() {
        server.text("/metrics").await;
    }
    let packed = watching.await.unwrap().unwrap();
    assert_eq!(packed.status().as_u16(), 200);
    let packed = packed.bytes().await.unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut bytes)
        .unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("inuse_space"), "{text}");
    assert!(text.contains("metrics::"), "{text}");
    let (status, text) = server.status("/debug/pprof/goroutine", &[]).await;
    assert_eq!(status, 501, "{text}");
    let (status, _) = server
        .status("/debug/pprof/profile", &[("seconds", "0")])
        .await;
    assert_eq!(status, 400);
    assert!(server.stop(), "{}", server.log());
}
