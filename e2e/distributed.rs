//! `--query.mode=distributed`: a querier leaves aggregations to the queriers below it, ours and Thanos' in
//! all places, and answers what it would answer alone.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fleet::{Role, ours, role, wait};
use crate::peers::thanos;

const START: i64 = 1_700_006_400;
const HOURS: i64 = 2;

/// A bucket with the data of a cluster, in which two replicas say the same.
fn bucket(dir: &Path, cluster: &str, salt: i64) -> String {
    let mut text = String::from("# TYPE c counter\n");
    for series in 0..12i64 {
        for i in 0..HOURS * 240 {
            let (job, value) = (series % 3, i * (series * 7 + salt + 1));
            let at = START + i * 15;
            let _ = writeln!(
                text,
                "c_total{{job=\"j{job}\",s=\"{series}\"}} {value} {at}"
            );
        }
    }
    text.push_str("# TYPE g gauge\n");
    for series in 0..12i64 {
        for i in 0..HOURS * 240 {
            let (job, value) = (series % 3, (i * (series + 3 + salt)) % 101);
            let at = START + i * 15;
            let _ = writeln!(text, "g{{job=\"j{job}\",s=\"{series}\"}} {value} {at}");
        }
    }
    text.push_str("# EOF\n");
    let input = dir.join(format!("{cluster}.txt"));
    std::fs::write(&input, text).unwrap();
    let (blocks, objects) = (dir.join(format!("{cluster}-blocks")), dir.join(cluster));
    let config = format!(
        "type: FILESYSTEM\nconfig: {{directory: {}}}\n",
        objects.display()
    );
    let run = |args: &[&str]| {
        let out = Command::new(ours()).args(args).output().unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    let (input, blocks) = (input.to_str().unwrap(), blocks.to_str().unwrap());
    run(&[
        "tools",
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        input,
        blocks,
    ]);
    for replica in ["a", "b"] {
        run(&[
            "tools",
            "bucket",
            "upload-blocks",
            &format!("--label=cluster=\"{cluster}\""),
            &format!("--label=replica=\"{replica}\""),
            &format!("--path={blocks}"),
            &format!("--objstore.config={config}"),
        ]);
        let _ = std::fs::remove_file(format!("{blocks}/thanos.shipper.json"));
    }
    format!("--objstore.config={config}")
}

/// A querier over a store over a bucket.
async fn leaf(program: &Path, dir: &Path, objstore: &str) -> (Role, Role) {
    let args = [
        objstore.to_owned(),
        format!(
            "--data-dir={}",
            dir.join(format!("store-{}", crate::process::free_port()))
                .display()
        ),
    ];
    let store = role(&ours(), dir, "store", &args).await;
    let args = [
        format!("--endpoint=127.0.0.1:{}", store.grpc),
        "--query.replica-label=replica".to_owned(),
    ];
    (role(program, dir, "query", &args).await, store)
}

async fn root(program: &Path, dir: &Path, leaves: [&Role; 2], mode: &str) -> Role {
    let mut args = vec![
        format!("--query.mode={mode}"),
        "--query.replica-label=replica".to_owned(),
        "--query.max-concurrent-select=1".to_owned(),
    ];
    args.extend(leaves.map(|leaf| format!("--endpoint=127.0.0.1:{}", leaf.grpc)));
    let root = role(program, dir, "query", &args).await;
    wait("a querier to know its leaves", 60, async || {
        let stores = root.process.get("/api/v1/stores", &[]).await;
        let well = |s: &&Value| s["lastError"].is_null();
        let list = stores["data"]["query"].as_array();
        list.is_some_and(|l| l.iter().filter(well).count() == 2)
    })
    .await;
    root
}

const QUERIES: &[&str] = &[
    "sum(g)",
    "sum by (job) (rate(c_total[5m]))",
    "count by (cluster) (g > 30)",
    "avg by (job) (g)",
    "min(g) - max(g)",
    "topk(1, c_total)",
    "sum without (s, cluster) (increase(c_total[10m]))",
    "sum(g) / count(g)",
    "stddev by (job) (sum by (cluster, job) (g))",
    "max_over_time(sum(g)[20m:1m])",
    "quantile(0.5, g)",
    "rate(c_total{cluster=\"eu\",job=\"j1\"}[5m])",
    "absent(sum(nothing))",
];

/// All series, ascending.
async fn answer(of: &Role, path: &str, more: &[(&str, &str)], query: &str) -> Vec<Value> {
    let mut params = vec![("query", query)];
    params.extend_from_slice(more);
    let answer = of.process.get(path, &params).await;
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let found = answer["data"]["result"].as_array().cloned();
    let mut found = found.unwrap_or_default();
    found.sort_by_key(|s| s["metric"].to_string());
    found
}

/// Equal but for the last digits, where what is summed in another order may differ.
fn close(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(k, v): (&String, &Value)| b.get(k).is_some_and(|w| close(v, w));
            a.len() == b.len() && a.iter().all(same)
        }
        (Value::String(x), Value::String(y)) => {
            let number = |t: &String| t.parse::<f64>().ok();
            let near = |x: f64, y: f64| (x - y).abs() <= 1e-12 * x.abs().max(y.abs());
            x == y || number(x).zip(number(y)).is_some_and(|(x, y)| near(x, y))
        }
        (a, b) => a == b,
    }
}

async fn compare(a: &Role, b: &Role, what: &str) {
    let (start, end) = ((START + 1800).to_string(), (START + 7000).to_string());
    let grid = [("start", start.as_str()), ("end", &end), ("step", "30")];
    let at = [("time", end.as_str())];
    let between = format!("{}.250", START + 5000);
    let between = [("time", between.as_str())];
    for query in QUERIES {
        for (path, params) in [
            ("/api/v1/query_range", &grid[..]),
            ("/api/v1/query", &at),
            ("/api/v1/query", &between),
        ] {
            let (found, wanted) = (
                answer(a, path, params, query).await,
                answer(b, path, params, query).await,
            );
            assert!(!wanted.is_empty(), "{query}");
            let (found, wanted) = (Value::from(found), Value::from(wanted));
            assert!(
                close(&found, &wanted),
                "{what}, {query} {params:?}: {found}\n{wanted}"
            );
        }
    }
}

/// How often a querier was asked over its Query service.
async fn asked(role: &Role) -> f64 {
    let text = reqwest::get(role.process.url("/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let lines = text.lines().filter(|l| {
        l.starts_with("grpc_server_handled_total{") && l.contains("grpc_service=\"thanos.Query\"")
    });
    lines
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaf_queriers_aggregate_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let buckets = [bucket(dir, "eu", 0), bucket(dir, "us", 5)];
    let (eu, _eu_store) = leaf(&ours(), dir, &buckets[0]).await;
    let (mut us, _us_store) = leaf(&ours(), dir, &buckets[1]).await;
    let alone = root(&ours(), dir, [&eu, &us], "local").await;
    let distributed = root(&ours(), dir, [&eu, &us], "distributed").await;
    let before = asked(&eu).await;
    compare(&distributed, &alone, "ours over ours").await;
    let after = asked(&eu).await;
    assert!(after > before + 20.0, "{before} {after}");

    if let Some(thanos) = thanos("leaf_queriers_aggregate_their_own") {
        let (theirs, _their_store) = leaf(&thanos, dir, &buckets[1]).await;
        let mixed = root(&ours(), dir, [&eu, &theirs], "distributed").await;
        compare(&mixed, &alone, "ours over ours and Thanos'").await;
        // Theirs cuts off what lies between two seconds, so only full ones can be compared.
        let above = root(&thanos, dir, [&eu, &us], "distributed").await;
        let at = (START + 7000).to_string();
        for query in QUERIES.iter().filter(|q| !q.starts_with("topk")) {
            let params = [("time", at.as_str())];
            let found = answer(&above, "/api/v1/query", &params, query).await;
            let wanted = answer(&alone, "/api/v1/query", &params, query).await;
            let (found, wanted) = (Value::from(found), Value::from(wanted));
            assert!(
                close(&found, &wanted),
                "Thanos' over ours, {query}: {found}\n{wanted}"
            );
        }
    }

    // One is cut off: it is named, and the other's part is there.
    us.process.kill();
    let address = format!("127.0.0.1:{}", us.grpc);
    let params = [("query", "sum by (cluster) (g)"), ("time", "1700010000")];
    let part = distributed.process.get("/api/v1/query", &params).await;
    assert_eq!(
        part["data"]["result"][0]["metric"]["cluster"], "eu",
        "{part}"
    );
    assert_eq!(part["data"]["result"].as_array().map(Vec::len), Some(1));
    assert!(
        part["warnings"][0].as_str().unwrap().contains(&address),
        "{part}"
    );
    let strict = [params[0], params[1], ("partial_response", "false")];
    let error = distributed.process.get("/api/v1/query", &strict).await;
    assert!(
        error["error"].as_str().unwrap().contains(&address),
        "{error}"
    );
}
