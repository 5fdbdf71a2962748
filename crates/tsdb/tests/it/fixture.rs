//! A log and a block that Prometheus 2.42 left.

use model::{Encoding, Labels, Sample, Scope, Select, TimeRange};
use tsdb::{Db, Options};

use crate::{all, copy, data};

#[test]
fn the_log_of_a_stopped_server_gives_what_its_snapshot_holds() {
    let dir = data().join("tsdb/generated_by_2.42");
    let log = dir.join("stopped_server_wal/wal");
    if !log.is_dir() {
        println!("SKIPPED: no {}", log.display());
        return;
    }
    let ours = tempfile::tempdir().unwrap();
    copy(&log, &ours.path().join("wal"));
    let db = Db::open(ours.path(), Options::quiet()).unwrap();
    let replayed = db.replayed();
    assert!(replayed.damaged.is_empty() && replayed.unknown == 0);
    assert!(replayed.histograms > 0);
    let got = all(&db);

    let blocks = dir.join("block_native_histograms");
    let path = std::fs::read_dir(blocks)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let block = std::sync::Arc::new(block::Block::open(&path).unwrap());
    let scope = Scope::unbounded(TimeRange::ALL);
    let mut cursor = block.select(Select::new(vec![], TimeRange::ALL), &scope);
    let mut compared = 0;
    while let Some(batch) = cursor.next().unwrap() {
        for i in 0..batch.len() {
            let labels: Labels = batch.label_set(i, &scope.symbols);
            let mut columns = chunk::Columns::default();
            for c in batch
                .chunks_of(i)
                .iter()
                .filter(|c| c.encoding == Encoding::XOR)
            {
                chunk::xor::decode(batch.bytes_of(c), &mut columns).unwrap();
            }
            let want: Vec<Sample> = columns.samples();
            let deleted = labels.name() == "fx_temp" && labels.get("room") == Some("nan");
            if want.is_empty() {
                assert!(!got.contains_key(&labels), "{labels}");
                continue;
            }
            if deleted {
                // Scraped once more after it was deleted.
                let last = want[want.len() - 1].ts;
                assert!(got[&labels].iter().all(|s| s.ts > last), "{labels}");
                continue;
            }
            let have = &got[&labels];
            assert!(
                chunk::suite::same_samples(&have[..want.len()], &want),
                "{labels}:\n{have:?}\nexpected to begin with\n{want:?}"
            );
            compared += want.len();
        }
    }
    assert!(compared > 100, "{compared}");
}
