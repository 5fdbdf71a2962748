use std::path::Path;
use std::sync::Arc;

use block::Meta;
use bucket::{Bucket, Catalog, CatalogOptions, Error, Shipper, ShipperOptions};
use model::{Labels, TimeRange};
use s3kit::{Fault, Op, Rule};
use ulid::Ulid;

use crate::kit;

const START: i64 = 1_700_000_000_000;

fn block(dir: &Path, n: u64, level: u32, samples: i64) -> Ulid {
    let start = START + n as i64 * 7_200_000;
    let mut meta = Meta::new(
        Ulid::from_parts(start as u64, n.into()),
        TimeRange::new(start, start + 7_199_999),
    );
    meta.compaction.level = level;
    let series: &[(&str, i64)] = match samples {
        0 => &[],
        _ => &[("a_metric", samples), ("b_metric", samples)],
    };
    kit::write_block(&dir.join(meta.ulid.to_string()), meta.clone(), series);
    meta.ulid
}

fn labels() -> Labels {
    Labels::from_pairs([("cluster", "test"), ("replica", "0")])
}

fn shipper(bucket: &Arc<Bucket>, dir: &Path) -> Shipper {
    let options = ShipperOptions::new(dir, labels());
    Shipper::new(Arc::clone(bucket), options, &metrics::Registry::new()).unwrap()
}

#[tokio::test]
async fn blocks_are_shipped_once_and_whole() {
    let (server, bucket) = kit::s3();
    let dir = tempfile::tempdir().unwrap();
    let second = block(dir.path(), 2, 1, 100);
    let first = block(dir.path(), 1, 1, 100);
    let compacted = block(dir.path(), 3, 2, 100);
    let empty = block(dir.path(), 4, 1, 0);
    std::fs::create_dir(dir.path().join("wal")).unwrap();
    std::fs::create_dir(dir.path().join(format!("{first}.tmp-for-creation"))).unwrap();

    let ship = shipper(&bucket, dir.path());
    assert!(ship.holds(first) && ship.holds(second));
    assert!(
        !ship.holds(compacted) && !ship.holds(empty),
        "they never go"
    );
    let report = ship.sync().await.unwrap();
    assert_eq!(report.uploaded, [first, second], "oldest first");
    assert_eq!((report.skipped, report.failed.len()), (2, 0), "{report:?}");
    assert!(!ship.holds(first) && !ship.holds(second));

    let log = server.counters().log();
    let puts: Vec<&str> = log
        .iter()
        .filter(|r| r.op == Op::Put && r.key.starts_with(&first.to_string()))
        .map(|r| r.key.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(puts.last(), Some(&"meta.json"), "{puts:?}");
    assert_eq!(puts.len(), 3);
    assert_eq!(server.keys_under("").len(), 6, "tombstones stay here");

    let meta = Meta::parse(&server.get(&format!("{first}/meta.json")).unwrap()).unwrap();
    let thanos = meta.thanos.unwrap();
    assert_eq!(
        thanos.labels.get("cluster").map(String::as_str),
        Some("test")
    );
    assert_eq!((thanos.source.as_str(), thanos.version), ("sidecar", 1));
    assert_eq!(thanos.segment_files, ["000001"]);
    let files: Vec<_> = thanos.files.iter().map(|f| f.rel_path.as_str()).collect();
    assert_eq!(files, ["chunks/000001", "index", "meta.json"]);
    let index = server.get(&format!("{first}/index")).unwrap();
    assert_eq!(thanos.files[1].size_bytes, index.len() as u64);
    assert!(thanos.index_stats.series_max_size > 0);
    assert!(thanos.upload_time.unwrap().ends_with('Z'));
    let local = Meta::read(&dir.path().join(first.to_string())).unwrap();
    assert!(local.thanos.is_none(), "the local block stays as it is");

    let state = std::fs::read_to_string(dir.path().join("thanos.shipper.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["version"], 1);
    assert_eq!(state["uploaded"].as_array().unwrap().len(), 2);
    assert!(
        !dir.path()
            .join("thanos/upload")
            .join(first.to_string())
            .exists()
    );

    // A second look, and a second process, ask for nothing.
    server.counters().reset();
    assert_eq!(ship.sync().await.unwrap().present, 2);
    let again = shipper(&bucket, dir.path());
    assert!(!again.holds(first));
    assert_eq!(again.sync().await.unwrap().present, 2);
    assert_eq!(server.counters().all().requests, 0);
    // Without its memory it asks whether they are there, and sends nothing.
    std::fs::write(dir.path().join("thanos.shipper.json"), "{half").unwrap();
    let forgetful = shipper(&bucket, dir.path());
    assert!(forgetful.holds(first), "better safe");
    assert_eq!(forgetful.sync().await.unwrap().present, 2);
    assert_eq!(server.counters().of(Op::Put).requests, 0);
    // What is gone here is forgotten.
    std::fs::remove_dir_all(dir.path().join(first.to_string())).unwrap();
    forgetful.sync().await.unwrap();
    let state = std::fs::read_to_string(dir.path().join("thanos.shipper.json")).unwrap();
    assert!(!state.contains(&first.to_string()) && state.contains(&second.to_string()));

    let catalog = Catalog::new(bucket, CatalogOptions::default(), &metrics::Registry::new());
    let catalog = catalog.unwrap();
    catalog.sync().await.unwrap();
    let snapshot = catalog.snapshot();
    assert_eq!(snapshot.blocks.len(), 2);
    assert_eq!(snapshot.blocks[0].labels, labels());
}

#[tokio::test]
async fn what_broke_off_goes_on() {
    let (server, bucket) = kit::s3();
    let dir = tempfile::tempdir().unwrap();
    let ulid = block(dir.path(), 1, 1, 5000);
    let ship = shipper(&bucket, dir.path());
    // The chunks arrive, the index does not.
    server
        .faults()
        .add(Rule::always(Fault::Unavailable).on(Op::Put).key("/index"));
    let report = ship.sync().await.unwrap();
    assert_eq!(report.failed.len(), 1);
    assert!(ship.holds(ulid));
    assert!(
        server.get(&format!("{ulid}/meta.json")).is_none(),
        "not seen before it is whole"
    );
    server.faults().clear();
    server.counters().reset();
    assert_eq!(ship.sync().await.unwrap().uploaded, [ulid]);
    assert_eq!(
        server
            .counters()
            .requests(Op::Put, &format!("{ulid}/chunks")),
        0
    );
    assert_eq!(server.counters().of(Op::Put).requests, 2);
    // The answer to the last put was lost: it is there, so nothing is sent again.
    let other = block(dir.path(), 2, 1, 10);
    server
        .faults()
        .add(Rule::always(Fault::LostAnswer).on(Op::Put).key("meta.json"));
    assert_eq!(ship.sync().await.unwrap().failed.len(), 1);
    server.faults().clear();
    let report = ship.sync().await.unwrap();
    assert_eq!((report.uploaded.len(), report.present), (0, 2));
    assert!(!ship.holds(other));
}

#[tokio::test]
async fn bad_blocks_do_not_stop_good_ones() {
    let (_dir, bucket) = kit::filesystem();
    let dir = tempfile::tempdir().unwrap();
    let no_index = block(dir.path(), 1, 1, 10);
    std::fs::remove_file(dir.path().join(no_index.to_string()).join("index")).unwrap();
    let torn = block(dir.path(), 2, 1, 10);
    let index = dir.path().join(torn.to_string()).join("index");
    let bytes = std::fs::read(&index).unwrap();
    std::fs::write(&index, &bytes[..bytes.len() - 9]).unwrap();
    let no_meta = block(dir.path(), 3, 1, 10);
    std::fs::write(dir.path().join(no_meta.to_string()).join("meta.json"), "{").unwrap();
    let no_chunks = block(dir.path(), 4, 1, 10);
    std::fs::write(
        dir.path().join(no_chunks.to_string()).join("chunks/000001"),
        "",
    )
    .unwrap();
    let good = block(dir.path(), 5, 1, 10);
    let registry = metrics::Registry::new();
    let options = ShipperOptions::new(dir.path(), labels());
    let ship = Shipper::new(Arc::clone(&bucket), options, &registry).unwrap();
    let report = ship.sync().await.unwrap();
    assert_eq!(report.uploaded, [good]);
    assert_eq!(report.failed.len(), 4, "{:?}", report.failed);
    for bad in [no_index, torn, no_meta, no_chunks] {
        assert!(ship.holds(bad));
        assert!(!bucket.exists(&format!("{bad}/meta.json")).await.unwrap());
        let named = report
            .failed
            .iter()
            .any(|(name, _)| *name == bad.to_string());
        assert!(named, "{bad} in {:?}", report.failed);
    }
    let mut text = Vec::new();
    metrics::encode(&registry.gather(), metrics::Format::Text, &mut text);
    let text = String::from_utf8(text).unwrap();
    for line in [
        "thanos_shipper_uploads_total 1",
        "thanos_shipper_upload_failures_total 3",
        "thanos_shipper_dir_syncs_total 1",
        "thanos_shipper_dir_sync_failures_total 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn without_labels_nothing_is_shipped() {
    let (_dir, bucket) = kit::filesystem();
    let dir = tempfile::tempdir().unwrap();
    block(dir.path(), 1, 1, 10);
    let options = ShipperOptions::new(dir.path(), Labels::default());
    let ship = Shipper::new(bucket, options, &metrics::Registry::new()).unwrap();
    let e = ship.sync().await.unwrap_err();
    assert!(matches!(e, Error::Refused(_)), "{e}");
    assert!(e.to_string().contains("external_labels"));
}

#[tokio::test]
async fn compacted_blocks_on_demand() {
    let (_dir, bucket) = kit::filesystem();
    let dir = tempfile::tempdir().unwrap();
    let compacted = block(dir.path(), 1, 3, 10);
    let options = ShipperOptions {
        upload_compacted: true,
        ..ShipperOptions::new(dir.path(), labels())
    };
    let ship = Shipper::new(bucket, options, &metrics::Registry::new()).unwrap();
    assert!(ship.holds(compacted));
    assert_eq!(ship.sync().await.unwrap().uploaded, [compacted]);
}

#[tokio::test]
async fn a_compacted_block_over_shipped_ones_stays_here() {
    let (server, bucket) = kit::s3();
    let dir = tempfile::tempdir().unwrap();
    let first = block(dir.path(), 1, 1, 100);
    shipper(&bucket, dir.path()).sync().await.unwrap();
    // The same two hours once more, compacted, and two hours that the bucket does not have.
    let mut meta = Meta::read(&dir.path().join(first.to_string())).unwrap();
    meta.ulid = Ulid::from_parts(meta.ulid.timestamp_ms() + 1, 99);
    meta.compaction.level = 2;
    let over = meta.ulid;
    kit::write_block(
        &dir.path().join(over.to_string()),
        meta,
        &[("a_metric", 100)],
    );
    let beside = block(dir.path(), 2, 3, 100);
    let options = ShipperOptions {
        upload_compacted: true,
        ..ShipperOptions::new(dir.path(), labels())
    };
    let ship = Shipper::new(Arc::clone(&bucket), options, &metrics::Registry::new()).unwrap();
    let report = ship.sync().await.unwrap();
    assert_eq!(report.uploaded, [beside]);
    assert_eq!(report.failed.len(), 1, "{report:?}");
    assert!(
        report.failed[0].1.contains(&first.to_string()),
        "{report:?}"
    );
    assert!(server.get(&format!("{over}/meta.json")).is_none());
    // Others' blocks do not matter.
    let labels = Labels::from_pairs([("cluster", "other")]);
    let options = ShipperOptions {
        upload_compacted: true,
        state_file: "other.json".to_owned(),
        ..ShipperOptions::new(dir.path(), labels)
    };
    let ship = Shipper::new(bucket, options, &metrics::Registry::new()).unwrap();
    let report = ship.sync().await.unwrap();
    assert_eq!(report.uploaded, [over], "{report:?}");
}
