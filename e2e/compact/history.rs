//! The history of a real Prometheus, blocks that it compacted among it, shipped by a sidecar with
//! `--shipper.upload-compacted`.

use std::sync::Arc;

use block::merge::{merge, meta_of};
use block::{Block, Meta};
use model::Cancel;
use ulid::Ulid;

use crate::fleet::wait;
use crate::peers::prometheus3;

use super::*;

/// Makes one block of some, which go; gives its name.
fn merged(data: &Path, inputs: &[Meta]) -> String {
    let open = |m: &Meta| Arc::new(Block::open(&data.join(m.ulid.to_string())).unwrap());
    let blocks: Vec<Arc<Block>> = inputs.iter().map(open).collect();
    let metas: Vec<&Meta> = inputs.iter().collect();
    let meta = meta_of(Ulid::generate(), &metas);
    let made = merge(&blocks, data, meta, &Cancel::default());
    let made = made.unwrap().unwrap();
    assert_eq!(made.compaction.level, 2);
    for input in inputs {
        std::fs::remove_dir_all(data.join(input.ulid.to_string())).unwrap();
    }
    made.ulid.to_string()
}

/// The blocks that the sidecar's state file names.
fn shipped(data: &Path) -> BTreeSet<String> {
    let Ok(text) = std::fs::read(data.join("thanos.shipper.json")) else {
        return BTreeSet::new();
    };
    let state: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(state["version"], 1);
    let names = state["uploaded"].as_array().into_iter().flatten();
    names.map(|n| n.as_str().unwrap().to_owned()).collect()
}

async fn metric(process: &Process, name: &str) -> String {
    let text = process.text("/metrics").await;
    let line = text.lines().find(|l| l.starts_with(name));
    line.and_then(|l| l.rsplit(' ').next())
        .unwrap_or("none")
        .to_owned()
}

async fn history_of(prometheus: &Path, dir: &Path) {
    let data = blocks(dir, 26);
    let dump = output(ours().args(["tools", "tsdb", "dump"]).arg(&data));
    let all: BTreeSet<String> = dump.lines().map(str::to_owned).collect();
    let mut local: Vec<Meta> = metas(&data)
        .into_values()
        .map(|meta| serde_json::from_value(meta).unwrap())
        .collect();
    local.sort_by_key(|meta| meta.min_time);
    assert_eq!(local.len(), 13);
    // Somebody has shipped the fifth block already, before it was compacted.
    let (bucket, bucket_config) = filesystem(dir, "bucket");
    let fifth = local[4].ulid.to_string();
    let alone = dir.join("alone");
    std::fs::create_dir_all(&alone).unwrap();
    output(
        Command::new("cp")
            .arg("-r")
            .arg(data.join(&fifth))
            .arg(&alone),
    );
    upload(&alone, &bucket_config);
    let first = merged(&data, &local[..3]);
    let second = merged(&data, &local[3..6]);
    let single: BTreeSet<String> = local[6..].iter().map(|m| m.ulid.to_string()).collect();

    let config = config(
        dir,
        "prometheus",
        "global: {external_labels: {region: eu}}\n",
    );
    let port = free_port();
    let args = [
        format!("--config.file={config}"),
        format!("--storage.tsdb.path={}", data.display()),
        "--storage.tsdb.retention.time=100y".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let mut beside = Process::start(prometheus, dir, port, args);
    beside.wait_for("/-/ready").await;
    let url = format!("--prometheus.url=http://127.0.0.1:{port}");
    let start = |more: &[&str]| {
        let port = free_port();
        let mut args = vec![
            "sidecar".to_owned(),
            format!("--http-address=127.0.0.1:{port}"),
            "--grpc-address=127.0.0.1:0".to_owned(),
            url.clone(),
            format!("--tsdb.path={}", data.display()),
            format!("--objstore.config-file={bucket_config}"),
        ];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        Process::start(env!("CARGO_BIN_EXE_epimetheus"), dir, port, args)
    };
    let in_bucket = || -> BTreeSet<String> { metas(&bucket).into_keys().collect() };
    let and = |more: &[&String]| -> BTreeSet<String> {
        single.iter().chain(more.iter().copied()).cloned().collect()
    };

    // What is compacted is shipped, unless the bucket has it already.
    let mut sidecar = start(&["--shipper.upload-compacted"]);
    wait("the history to be shipped", 60, async || {
        shipped(&data) == and(&[&first])
    })
    .await;
    assert_eq!(in_bucket(), and(&[&first, &fifth]));
    wait("the overlap to be told", 60, async || {
        let line = format!("shipping compacted block {second} is blocked");
        sidecar.log().contains(&line) && sidecar.log().contains(&fifth)
    })
    .await;
    assert_eq!(
        metric(&sidecar, "thanos_shipper_upload_compacted_done").await,
        "0"
    );
    assert_eq!(metric(&sidecar, "thanos_shipper_uploads_total").await, "8");
    assert_ne!(
        metric(&sidecar, "thanos_shipper_upload_failures_total").await,
        "0"
    );
    assert!(!bucket.join(&second).exists(), "nothing of it was uploaded");
    let meta = &metas(&bucket)[&first];
    assert_eq!(meta["compaction"]["level"], 2);
    let sources: Vec<String> = local[..3].iter().map(|m| m.ulid.to_string()).collect();
    assert_eq!(meta["compaction"]["sources"], serde_json::json!(sources));
    assert_eq!(
        meta["thanos"]["labels"],
        serde_json::json!({"region": "eu"})
    );
    assert_eq!(meta["thanos"]["source"], "sidecar");
    assert!(sidecar.stop(), "{}", sidecar.log());

    // Without the one in its way it is shipped, too, and nothing else again.
    let written = |name: &str| {
        let object = bucket.join(name).join("meta.json");
        object.metadata().unwrap().modified().unwrap()
    };
    let before = written(&first);
    std::fs::remove_dir_all(bucket.join(&fifth)).unwrap();
    let mut sidecar = start(&["--shipper.upload-compacted"]);
    wait("the rest to be shipped", 60, async || {
        shipped(&data) == and(&[&first, &second])
    })
    .await;
    wait("all of it to be told", 60, async || {
        metric(&sidecar, "thanos_shipper_upload_compacted_done").await == "1"
    })
    .await;
    assert_eq!(metric(&sidecar, "thanos_shipper_uploads_total").await, "1");
    assert_eq!(
        metric(&sidecar, "thanos_shipper_upload_failures_total").await,
        "0"
    );
    assert_eq!(written(&first), before);
    assert_eq!(in_bucket(), and(&[&first, &second]));
    let there = samples(&bucket, &dir.join("scratch"));
    assert!(
        there == all && !all.is_empty(),
        "{} {}",
        there.len(),
        all.len()
    );
    assert!(sidecar.stop(), "{}", sidecar.log());
    assert!(beside.stop(), "{}", beside.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_a_prometheus_is_shipped() {
    const NAME: &str = "the_history_of_a_prometheus_is_shipped";
    let mut servers: Vec<PathBuf> = prometheus3(NAME).into_iter().collect();
    if available("prometheus", NAME) {
        servers.push("prometheus".into());
    }
    for prometheus in servers {
        let dir = tempfile::tempdir().unwrap();
        history_of(&prometheus, dir.path()).await;
    }
}
