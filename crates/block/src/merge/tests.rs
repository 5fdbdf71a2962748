use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chunk::{suite, xor};
use model::{Labels, Sample, Scope, Select, Source as _, TimeRange};
use proptest::prelude::*;

use super::*;
use crate::{BlockSource, Tombstones};

type Series = BTreeMap<Labels, Vec<Sample>>;

fn write(dir: &Path, series: &Series) -> Option<Meta> {
    let all = series.values().flatten();
    let range = all.fold(TimeRange::EMPTY, |r, s| r.union(TimeRange::new(s.ts, s.ts)));
    let strings = series
        .keys()
        .flat_map(|l| l.iter())
        .flat_map(|(n, v)| [n, v]);
    let meta = Meta::new(Ulid::generate(), range);
    let mut writer = Writer::create(dir, meta, SymbolSet::collect(strings)).unwrap();
    for (labels, samples) in series {
        let encoded: Vec<_> = samples
            .chunks(7)
            .map(|c| {
                let mut e = xor::Encoder::new();
                c.iter().for_each(|s| e.append(s.ts, s.value));
                (c[0].ts, c[c.len() - 1].ts, e.into_bytes())
            })
            .collect();
        let chunks: Vec<Chunk<'_>> = encoded
            .iter()
            .map(|(min, max, data)| Chunk {
                min: *min,
                max: *max,
                encoding: Encoding::XOR,
                data,
            })
            .collect();
        writer.add_labels(labels, &chunks).unwrap();
    }
    writer.finish().unwrap()
}

fn open(dir: &Path, meta: &Meta) -> Arc<Block> {
    Arc::new(Block::open(&dir.join(meta.ulid.to_string())).unwrap())
}

fn read(block: Arc<Block>) -> Series {
    let scope = Scope::unbounded(TimeRange::ALL);
    let source = BlockSource::new(vec![block]);
    let view = source.open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select::new(vec![], TimeRange::ALL));
    suite::collect(rows, &scope, TimeRange::ALL).unwrap()
}

fn check(inputs: Vec<Series>, deletions: Vec<(usize, usize, i64, i64)>) {
    let dir = tempfile::tempdir().unwrap();
    let mut want: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
    let mut blocks = Vec::new();
    for (b, series) in inputs.iter().enumerate() {
        let Some(meta) = write(dir.path(), series) else {
            continue;
        };
        let path = dir.path().join(meta.ulid.to_string());
        let ids = Block::open(&path).unwrap().index().all_series().unwrap();
        let mut tombstones = Tombstones::new();
        for &(of, nth, min, max) in &deletions {
            if of == b && nth < ids.len() {
                tombstones.add(ids[nth] as u64, TimeRange::new(min, max));
            }
        }
        tombstones.write(&path).unwrap();
        for ((labels, samples), id) in series.iter().filter(|s| !s.1.is_empty()).zip(ids) {
            let deleted = tombstones.of(id as u64);
            for s in samples {
                if !deleted.iter().any(|d| d.contains(s.ts)) {
                    let of_labels = want.entry(labels.clone()).or_default();
                    of_labels.entry(s.ts).or_insert(s.value);
                }
            }
        }
        blocks.push(open(dir.path(), &meta));
    }
    let want: Series = want
        .into_iter()
        .map(|(l, s)| {
            let samples = s.into_iter().map(|(ts, value)| Sample { ts, value });
            (l, samples.collect())
        })
        .collect();
    let metas: Vec<&Meta> = blocks.iter().map(|b| b.meta()).collect();
    let meta = meta_of(Ulid::generate(), &metas);
    let merged = merge(&blocks, dir.path(), meta, &Cancel::default()).unwrap();
    match merged {
        None => assert!(want.is_empty()),
        Some(meta) => {
            let samples: usize = want.values().map(Vec::len).sum();
            assert_eq!(meta.stats.num_samples, samples as u64);
            assert_eq!(meta.stats.num_series, want.len() as u64);
            let block = open(dir.path(), &meta);
            assert_eq!(read(Arc::clone(&block)), want);
            // No two chunks of a series overlap any more.
            let ids = block.index().all_series().unwrap();
            let mut reader = block.index().series();
            for id in ids {
                let (mut labels, mut chunks) = (Vec::new(), Vec::new());
                reader
                    .decode(id, &[], TimeRange::ALL, &mut labels, &mut chunks)
                    .unwrap();
                assert!(chunks.windows(2).all(|w| w[0].max < w[1].min));
            }
        }
    }
    let left: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.contains("tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn ramp(start: i64, n: i64, value: f64) -> Vec<Sample> {
    (0..n)
        .map(|i| Sample {
            ts: start + i,
            value,
        })
        .collect()
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

#[test]
fn side_by_side_and_on_top() {
    let series = |list: &[(usize, i64, i64)], value: f64| -> Series {
        list.iter()
            .map(|&(i, start, n)| (labels(i), ramp(start, n, value)))
            .collect()
    };
    check(vec![], vec![]);
    check(
        vec![
            series(&[(0, 0, 50), (1, 0, 50)], 1.0),
            series(&[(1, 50, 50), (2, 50, 300)], 2.0),
        ],
        vec![],
    );
    check(
        vec![
            series(&[(0, 0, 50), (1, 0, 50)], 1.0),
            series(&[(0, 0, 50), (1, 20, 50), (3, 0, 1)], 1.0),
            series(&[(1, 10, 5), (3, 0, 1)], 3.0),
        ],
        vec![(0, 0, 10, 20), (1, 1, 0, 30), (2, 1, 0, 100)],
    );
    check(vec![series(&[(0, 0, 50)], 1.0)], vec![(0, 0, 0, 100)]);
}

#[test]
fn the_meta_says_where_it_comes_from() {
    let a = Meta::new(Ulid::generate(), TimeRange::new(0, 99));
    let mut b = Meta::new(Ulid::generate(), TimeRange::new(100, 199));
    b.compaction.level = 3;
    b.compaction.sources.push(a.ulid);
    let m = meta_of(Ulid::generate(), &[&a, &b]);
    assert_eq!((m.min_time, m.max_time), (0, 200));
    assert_eq!(m.compaction.level, 4);
    assert_eq!(m.compaction.sources.len(), 2);
    assert_eq!(m.compaction.parents.len(), 2);
}

#[test]
fn cancelled_it_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), &Series::from([(labels(0), ramp(0, 10, 1.0))])).unwrap();
    let block = open(dir.path(), &meta);
    let cancel = Cancel::default();
    cancel.cancel();
    let result = merge(
        &[Arc::clone(&block)],
        dir.path(),
        meta_of(Ulid::generate(), &[block.meta()]),
        &cancel,
    );
    assert!(matches!(result, Err(BlockError::Stopped(_))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn like_maps(
        inputs in prop::collection::vec(
            prop::collection::btree_map(0usize..6, prop::collection::btree_map(0i64..200, 0i32..3, 1..60), 0..5),
            1..4),
        deletions in prop::collection::vec((0usize..4, 0usize..6, 0i64..200, 0i64..60), 0..4),
    ) {
        let inputs: Vec<Series> = inputs
            .into_iter()
            .map(|m| m.into_iter().map(|(i, s)| {
                let samples = s.into_iter().map(|(ts, v)| Sample { ts, value: v as f64 });
                (labels(i), samples.collect())
            }).collect())
            .collect();
        let deletions = deletions.into_iter().map(|(b, n, min, len)| (b, n, min, min + len)).collect();
        check(inputs, deletions);
    }
}
