//! The Thanos side with real processes: two real Prometheus as a pair with replica labels, one of
//! them killed for a while, a sidecar beside each, an S3 server that verifies signatures, a store
//! and stacked queriers. Where a real `thanos` is found, its roles stand in for ours, one at a time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::peers::thanos;
use crate::process::{Process, available, free_port, node_exporter};

mod mixed;

/// Our own program.
pub fn ours() -> PathBuf {
    env!("CARGO_BIN_EXE_epimetheus").into()
}

/// A role of ours or of Thanos': the flags are the same.
pub struct Role {
    /// The process.
    pub process: Process,
    /// Where it serves gRPC.
    pub grpc: u16,
}

/// Starts a role on free ports and waits until it is ready.
pub async fn role(program: &Path, dir: &Path, name: &str, args: &[String]) -> Role {
    let (http, grpc) = (free_port(), free_port());
    let mut all = vec![
        name.to_owned(),
        format!("--http-address=127.0.0.1:{http}"),
        format!("--grpc-address=127.0.0.1:{grpc}"),
        "--log.level=info".to_owned(),
    ];
    all.extend_from_slice(args);
    let mut process = Process::start(program, dir, http, all);
    process.wait_for("/-/ready").await;
    Role { process, grpc }
}

async fn querier(program: &Path, dir: &Path, endpoints: &[u16]) -> Role {
    let mut args = vec!["--query.replica-label=replica".to_owned()];
    args.extend(
        endpoints
            .iter()
            .map(|port| format!("--endpoint=127.0.0.1:{port}")),
    );
    role(program, dir, "query", &args).await
}

async fn store(program: &Path, dir: &Path, objstore: &str) -> Role {
    let data = dir.join(format!("store-{}", free_port()));
    let args = [
        objstore.to_owned(),
        format!("--data-dir={}", data.display()),
        "--sync-block-duration=1s".to_owned(),
    ];
    role(program, dir, "store", &args).await
}

struct Replica {
    prometheus: Option<Process>,
    port: u16,
    dir: PathBuf,
}

impl Replica {
    fn new(dir: &Path, name: &str, exporter: u16) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  external_labels:\n    cluster: e2e\n    replica: {name}\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{exporter}']\n"
        );
        std::fs::write(dir.join("prometheus.yml"), text).unwrap();
        Self {
            prometheus: None,
            port: free_port(),
            dir,
        }
    }

    async fn start(&mut self) {
        let mut prometheus = Process::start(
            "prometheus",
            &self.dir,
            self.port,
            [
                "--config.file=prometheus.yml".to_owned(),
                format!("--web.listen-address=127.0.0.1:{}", self.port),
                "--storage.tsdb.path=data".to_owned(),
                "--storage.tsdb.min-block-duration=20s".to_owned(),
                "--storage.tsdb.max-block-duration=20s".to_owned(),
            ],
        );
        prometheus.wait_for("/-/ready").await;
        self.prometheus = Some(prometheus);
    }

    async fn sidecar(&self, program: &Path, objstore: &str, ships: bool) -> Role {
        let mut args = vec![
            format!("--prometheus.url=http://127.0.0.1:{}", self.port),
            format!("--tsdb.path={}", self.dir.join("data").display()),
            "--prometheus.get_config_interval=1s".to_owned(),
        ];
        if ships {
            args.push(objstore.to_owned());
            args.push(match program == ours() {
                true => "--shipper.sync-interval=1s".to_owned(),
                // Thanos looks at the start, and then every 30 s. What ours shipped is not its own.
                false => "--shipper.meta-file-name=theirs.json".to_owned(),
            });
        }
        role(program, &self.dir, "sidecar", &args).await
    }
}

/// An answer whose series stand in a fixed order.
fn sorted(result: &Value) -> Vec<Value> {
    let mut series = result.as_array().cloned().unwrap_or_default();
    series.sort_by_key(|s| s["metric"].to_string());
    series
}

/// Waits until `done`.
pub async fn wait(what: &str, seconds: u64, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !done().await {
        assert!(Instant::now() < end, "{what}: waited for {seconds} s");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

const QUESTIONS: [&str; 5] = [
    "count(up)",
    "count({__name__=~\"node_.+\"})",
    "sum by (mode) (node_cpu_seconds_total)",
    "count_over_time(up[10s])",
    "topk(3, node_cpu_seconds_total)",
];

/// What a querier says of a moment, in seconds.
pub async fn answers(querier: &Process, time: f64) -> Vec<Vec<Value>> {
    answers_of(querier, time, "true").await
}

async fn answers_of(querier: &Process, time: f64, dedup: &str) -> Vec<Vec<Value>> {
    let time = time.to_string();
    let mut all = Vec::new();
    for question in QUESTIONS {
        let params = [("query", question), ("time", &time), ("dedup", dedup)];
        let answer = querier.get("/api/v1/query", &params).await;
        assert_eq!(answer["status"], "success", "{question}: {answer}");
        all.push(sorted(&answer["data"]["result"]));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_of_prometheus_is_answered_from_sidecars_and_then_from_the_bucket() {
    const NAME: &str = "a_pair_of_prometheus_is_answered_from_sidecars_and_then_from_the_bucket";
    if !available("prometheus", NAME) || !available("prometheus-node-exporter", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let s3 = s3kit::Server::start(s3kit::Config::default()).unwrap();
    let (access, secret) = s3.keys();
    let yaml = format!(
        "type: S3\nconfig:\n  bucket: {}\n  endpoint: {}\n  access_key: {access}\n  secret_key: {secret}\n  insecure: true\n  bucket_lookup_type: path\n",
        s3.bucket(),
        s3.host_port()
    );
    std::fs::write(dir.join("bucket.yml"), yaml).unwrap();
    let objstore = format!(
        "--objstore.config-file={}",
        dir.join("bucket.yml").display()
    );
    let exporter = node_exporter(dir).await;
    let mut a = Replica::new(dir, "a", exporter.port);
    let mut b = Replica::new(dir, "b", exporter.port);
    a.start().await;
    b.start().await;
    let beside_a = a.sidecar(&ours(), &objstore, true).await;
    let beside_b = b.sidecar(&ours(), &objstore, true).await;
    let bucket = store(&ours(), dir, &objstore).await;
    let leaf = querier(&ours(), dir, &[beside_a.grpc, beside_b.grpc, bucket.grpc]).await;
    let global = querier(&ours(), dir, &[leaf.grpc]).await;

    // Replicas are one, unless they are wanted apart.
    let one = leaf.process.wait_until("up", |r| !r[0].is_null()).await;
    assert_eq!(one.as_array().unwrap().len(), 1, "{one}");
    assert_eq!(one[0]["metric"]["cluster"], "e2e");
    assert!(one[0]["metric"]["replica"].is_null());
    wait("both replicas", 30, async || {
        let apart = leaf
            .process
            .get("/api/v1/query", &[("query", "up"), ("dedup", "false")])
            .await;
        apart["data"]["result"]
            .as_array()
            .is_some_and(|r| r.len() == 2)
    })
    .await;
    let stores = leaf.process.get("/api/v1/stores", &[]).await;
    assert_eq!(
        stores["data"]["sidecar"].as_array().map(Vec::len),
        Some(2),
        "{stores}"
    );

    // One is killed: the other answers, and it is said that something is missing.
    a.prometheus.as_mut().unwrap().kill();
    let mut said = Value::Null;
    wait("a warning", 30, async || {
        said = leaf.process.get("/api/v1/query", &[("query", "up")]).await;
        said["warnings"].as_array().is_some_and(|w| !w.is_empty())
    })
    .await;
    assert_eq!(
        said["data"]["result"].as_array().map(Vec::len),
        Some(1),
        "{said}"
    );
    let whole = leaf
        .process
        .get(
            "/api/v1/query",
            &[("query", "up"), ("partial_response", "false")],
        )
        .await;
    assert_eq!(whole["status"], "error", "{whole}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    a.start().await;

    // Until both have shipped what they had since.
    let back = model::time::Clock::now(&model::time::WallClock);
    let shipped = |replica: &str| {
        let metas = s3.keys_under("").into_iter();
        let metas = metas.filter(|k| k.ends_with("/meta.json"));
        let metas = metas.filter_map(|k| serde_json::from_slice::<Value>(&s3.get(&k)?).ok());
        metas
            .filter(|m| m["thanos"]["labels"]["replica"] == replica)
            .filter_map(|m| m["maxTime"].as_i64())
            .max()
            .unwrap_or(0)
    };
    let common = || shipped("a").min(shipped("b"));
    wait("blocks of both in the bucket", 240, async || {
        common() > back + 25_000
    })
    .await;
    let newest = common();
    let seen = async || {
        let stores = leaf.process.get("/api/v1/stores", &[]).await;
        stores["data"]["store"][0]["maxTime"].as_i64().unwrap_or(0)
    };
    wait("the store to see them", 60, async || seen().await >= newest).await;
    // A moment that blocks of both hold.
    let time = (newest - 1) as f64 / 1000.0;
    let before = answers(&leaf.process, time).await;
    assert!(before.iter().all(|a| !a.is_empty()), "{before:?}");
    assert_eq!(
        answers(&global.process, time).await,
        before,
        "a querier over a querier"
    );

    if let Some(thanos) = thanos(NAME) {
        let fleet = mixed::Fleet {
            thanos: &thanos,
            dir,
            objstore: &objstore,
            one: &b,
            sidecars: [&beside_a, &beside_b],
            store: &bucket,
            querier: &leaf,
            time,
        };
        fleet.each_role_stands_in(&before).await;
    }

    // The local data is gone; only the bucket is left.
    drop((beside_a, beside_b));
    drop((a.prometheus.take(), b.prometheus.take()));
    std::fs::remove_dir_all(a.dir.join("data")).unwrap();
    std::fs::remove_dir_all(b.dir.join("data")).unwrap();
    let alone = querier(&ours(), dir, &[bucket.grpc]).await;
    assert_eq!(
        answers(&alone.process, time).await,
        before,
        "from the bucket alone"
    );

    for mut role in [global, leaf, alone, bucket] {
        assert!(role.process.stop(), "a clean stop:\n{}", role.process.log());
    }
}
