use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use block::index::{self, Reader, Version};
use block::merge::{merge, meta_of};
use block::read_at::FileAt;
use block::{Block, BlockError, BlockSource, Meta, Tombstones};
use model::{Cancel, Labels, Matcher, Scope, Select, Source as _, TimeRange};
use ulid::Ulid;

use crate::support::{Series, assert_same, copy_dir, data, parse_dump, read};

const FLOATS: &str = "generated_by_2.42/block_floats/01M83373T6A2J79QZ1V7RA5WS6";
const HISTOGRAMS: &str = "generated_by_2.42/block_native_histograms/01M83367ZGHEQ5SGB78Z4H1DG3";

#[test]
fn every_sample_of_a_real_block() {
    let (Some(dir), Some(expected)) = (data(FLOATS), data("generated_by_2.42/expected")) else {
        return;
    };
    let dump = std::fs::read_to_string(expected.join("block_floats.dump.txt")).unwrap();
    let want = parse_dump(&dump);
    let block = Arc::new(Block::open(&dir).unwrap());
    let got = read(vec![Arc::clone(&block)]);
    assert_same(&got, &want);
    let stats = block.meta().stats;
    let samples: usize = got.values().map(Vec::len).sum();
    assert_eq!(stats.num_samples, samples as u64);
    assert_eq!(stats.num_series, got.len() as u64);
    // The meta is written as it was read.
    let text = std::fs::read(dir.join("meta.json")).unwrap();
    assert_eq!(block.meta().to_json(), text);
    // Written again by a merge of one, it is the same, to the byte.
    let out = tempfile::tempdir().unwrap();
    let meta = meta_of(Ulid::generate(), &[block.meta()]);
    let one = [Arc::clone(&block)];
    let meta = merge(&one, out.path(), meta, &Cancel::default())
        .unwrap()
        .unwrap();
    let again = out.path().join(meta.ulid.to_string());
    assert_eq!(meta.stats.num_chunks, stats.num_chunks);
    assert_same(&read(vec![Arc::new(Block::open(&again).unwrap())]), &want);
    let file = |d: &Path, name: &str| std::fs::read(d.join(name)).unwrap();
    for name in ["chunks/000001", "tombstones"] {
        assert!(file(&again, name) == file(&dir, name), "{name} differs");
    }
    // The same block twice is the block.
    let meta = meta_of(Ulid::generate(), &[block.meta(), block.meta()]);
    let two = [Arc::clone(&block), block];
    let meta = merge(&two, out.path(), meta, &Cancel::default())
        .unwrap()
        .unwrap();
    assert_eq!(meta.stats.num_chunks, stats.num_chunks);
}

#[test]
fn tombstones_of_a_real_block() {
    let (Some(dir), Some(deleted), Some(expected)) = (
        data(FLOATS),
        data("generated_by_2.42/block_floats_tombstones"),
        data("generated_by_2.42/expected"),
    ) else {
        return;
    };
    let dump = std::fs::read_to_string(expected.join("block_floats.dump.txt")).unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_dir(&dir, copy.path());
    copy_dir(&deleted, copy.path());
    let tombstones = Tombstones::read(&block::fs::OsFs, &deleted).unwrap();
    let bytes = std::fs::read(deleted.join("tombstones")).unwrap();
    // Prometheus writes the series in the order of a Go map, so only the records are the same.
    assert_eq!(tombstones.encode().len(), bytes.len());
    assert_eq!(
        Tombstones::decode(&tombstones.encode()).unwrap(),
        tombstones
    );
    let block = Arc::new(Block::open(copy.path()).unwrap());
    assert_eq!(block.meta().stats.num_tombstones, tombstones.len() as u64);

    let mut want = parse_dump(&dump);
    let ids = block.index().all_series().unwrap();
    let mut removed = 0;
    for (samples, id) in want.values_mut().zip(ids) {
        let before = samples.len();
        let deleted = tombstones.of(id as u64);
        samples.retain(|s| !deleted.iter().any(|d| d.contains(s.ts)));
        removed += before - samples.len();
    }
    want.retain(|_, s| !s.is_empty());
    assert!(removed > 0);
    let got = read(vec![Arc::clone(&block)]);
    assert_same(&got, &want);
    let json = std::fs::read(expected.join("block_floats_with_tombstones.query_range.json"));
    let answers: serde_json::Value = serde_json::from_slice(&json.unwrap()).unwrap();
    let mut plain = 0;
    for query in answers["queries"].as_array().unwrap() {
        let text = query["query"].as_str().unwrap();
        if !text.contains('(') {
            check_selector(text, query, &got);
            plain += 1;
        }
    }
    assert_eq!(plain, 5);

    let out = tempfile::tempdir().unwrap();
    let meta = meta_of(Ulid::generate(), &[block.meta()]);
    let meta = merge(&[block], out.path(), meta, &Cancel::default())
        .unwrap()
        .unwrap();
    let clean = Block::open(&out.path().join(meta.ulid.to_string())).unwrap();
    assert!(clean.tombstones().is_empty());
    assert_same(&read(vec![Arc::new(clean)]), &want);
}

/// Compares what Prometheus answered to the range query `name{job="..."}` with the samples that
/// were read: at each step the newest within five minutes, unless it is a stale marker.
fn check_selector(text: &str, query: &serde_json::Value, got: &Series) {
    let (name, job) = match text.split_once("{job=\"") {
        Some((name, rest)) => (name, Some(rest.trim_end_matches("\"}"))),
        None => (text, None),
    };
    let ms = |v: &serde_json::Value| (v.as_f64().unwrap() * 1000.0).round() as i64;
    let steps = ms(&query["start"])..=ms(&query["end"]);
    let step = ms(&query["step"]) as usize;
    let mut want: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
    for (labels, samples) in got {
        if labels.name() != name || job.is_some_and(|j| labels.get("job") != Some(j)) {
            continue;
        }
        let values: Vec<(i64, f64)> = steps
            .clone()
            .step_by(step)
            .filter_map(|t| {
                let newest = samples.iter().rev().find(|s| s.ts <= t)?;
                let fresh = newest.ts > t - 300_000 && !model::is_stale(newest.value);
                fresh.then_some((t, newest.value))
            })
            .collect();
        if !values.is_empty() {
            want.insert(labels.clone(), values);
        }
    }
    let result = query["response"]["data"]["result"].as_array().unwrap();
    assert_eq!(result.len(), want.len(), "{text}");
    for series in result {
        let metric = series["metric"].as_object().unwrap();
        let pairs = metric
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str().unwrap()));
        let labels = Labels::from_pairs(pairs);
        let want = &want[&labels];
        let values = series["values"].as_array().unwrap();
        assert_eq!(values.len(), want.len(), "{text}: {labels}");
        for (point, (t, v)) in values.iter().zip(want) {
            let value: f64 = point[1].as_str().unwrap().parse().unwrap();
            let same = value == *v || value.is_nan() && v.is_nan();
            assert!(
                ms(&point[0]) == *t && same,
                "{text}: {labels}: {point}, read {v} at {t}"
            );
        }
    }
}

#[test]
fn an_index_of_version_1() {
    let Some(dir) = data("index_format_v1") else {
        return;
    };
    let block = Arc::new(Block::open(&dir).unwrap());
    assert_eq!(block.index().version(), Version::V1);
    let got = read(vec![Arc::clone(&block)]);
    assert_eq!(got.len() as u64, block.meta().stats.num_series);
    let samples: usize = got.values().map(Vec::len).sum();
    assert_eq!(samples as u64, block.meta().stats.num_samples);
    // Matchers find what they should.
    let scope = Scope::unbounded(TimeRange::ALL);
    let source = BlockSource::new(vec![Arc::clone(&block)]);
    let view = source.open(Arc::clone(&scope)).unwrap();
    let (name, value) = got.keys().next().unwrap().iter().next().unwrap();
    let rows = view.select(Select::new(
        vec![Matcher::equal(name, value)],
        TimeRange::ALL,
    ));
    let found = chunk::suite::collect(rows, &scope, TimeRange::ALL).unwrap();
    let with = got.keys().filter(|l| l.get(name) == Some(value)).count();
    assert_eq!(found.len(), with);
    // Merged, it becomes version 2.
    let out = tempfile::tempdir().unwrap();
    let meta = meta_of(Ulid::generate(), &[block.meta()]);
    let meta = merge(&[block], out.path(), meta, &Cancel::default())
        .unwrap()
        .unwrap();
    let new = Block::open(&out.path().join(meta.ulid.to_string())).unwrap();
    assert_eq!(new.index().version(), Version::V2);
    assert_same(&read(vec![Arc::new(new)]), &got);
}

/// Every histogram of a real block is read, and encoded again it gives the same bytes.
#[test]
fn real_histograms() {
    let Some(dir) = data(HISTOGRAMS) else {
        return;
    };
    let block = Arc::new(Block::open(&dir).unwrap());
    let stats = block.meta().stats;
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = BlockSource::new(vec![Arc::clone(&block)])
        .open(Arc::clone(&scope))
        .unwrap();
    let rows = view.select(Select::new(vec![], TimeRange::ALL));
    let batches = chunk::suite::batches(rows).unwrap();
    let (mut chunks, mut histograms) = (0, 0);
    for batch in &batches {
        for c in batch
            .chunks
            .iter()
            .filter(|c| c.encoding != model::Encoding::XOR)
        {
            let bytes = batch.bytes_of(c);
            let mut columns = chunk::Columns::default();
            chunk::decode(c.encoding, bytes, &mut columns).unwrap();
            let rows = chunk::histogram::rows(c.encoding, bytes).unwrap();
            assert_eq!(columns.histograms.len(), rows.len());
            let mut again = chunk::histogram::Encoder::new(&rows[0].value, false);
            for (row, (ts, column)) in rows.iter().zip(columns.histograms.iter()) {
                assert_eq!((row.ts, row.value.to_float()), (ts, column.to_histogram()));
                let outcome = again.append(row.ts, row.start, &row.value).unwrap();
                assert_eq!(outcome, chunk::histogram::Outcome::Appended);
            }
            let header = chunk::histogram::Encoder::resume(c.encoding, bytes).unwrap();
            again.set_counter_reset(header.counter_reset());
            assert_eq!(again.bytes(), bytes);
            chunks += 1;
            histograms += rows.len();
        }
    }
    assert!(chunks > 0);
    let floats: usize = read(vec![block]).values().map(Vec::len).sum();
    assert_eq!((floats + histograms) as u64, stats.num_samples);
}

#[test]
fn a_block_to_be_repaired_is_refused() {
    let Some(dir) = data("repair_index_version/01BZJ9WJQPWHGNC2W4J9TA62KC") else {
        return;
    };
    assert!(matches!(
        Meta::read(&dir),
        Err(BlockError::Version { version: 2, .. })
    ));
    // Its index says version 2 and has the references of version 1: an error, not nonsense.
    let index = Reader::open(Arc::new(FileAt::open(&dir.join(index::FILE)).unwrap()));
    if let Ok(index) = index {
        let ids = index.all_series().unwrap_or_default();
        let mut reader = index.series();
        let (mut labels, mut chunks) = (Vec::new(), Vec::new());
        let failed = ids.is_empty()
            || ids.iter().any(|&id| {
                let read = reader.decode(id, &[], TimeRange::ALL, &mut labels, &mut chunks);
                read.is_err()
            });
        assert!(failed);
    }
}
