use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chunk::memory::StoredSeries;
use chunk::{Columns, HistogramRow, aggregate, xor};
use model::histogram::{CounterReset, Histogram, IntBuckets, IntHistogram};
use model::{Labels, STALE_NAN, Sample, Scope, Select, Source as _, TimeRange, is_stale};
use proptest::prelude::*;

use super::*;
use crate::suite::{self, Plan};
use crate::{BlockSource, Tombstones};

type Series = BTreeMap<Labels, Vec<Sample>>;

fn write(dir: &Path, series: &Series) -> Option<Meta> {
    let plan = Plan {
        per_chunk: 7,
        ..Plan::default()
    };
    plan.write(dir, suite::floats(series.clone())).unwrap()
}

fn open(dir: &Path, meta: &Meta) -> Arc<Block> {
    Arc::new(Block::open(&dir.join(meta.ulid.to_string())).unwrap())
}

fn read(block: Arc<Block>) -> Series {
    let scope = Scope::unbounded(TimeRange::ALL);
    let source = BlockSource::new(vec![block]);
    let view = source.open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select::new(vec![], TimeRange::ALL));
    chunk::suite::collect(rows, &scope, TimeRange::ALL).unwrap()
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

/// One series of histograms (counts grow with time) and floats, at these times.
/// Merges replicas of one series, each given as chunks of timestamps, whose values say the replica.
fn deduplicated(replicas: &[&[&[i64]]]) -> Vec<(i64, usize)> {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = Vec::new();
    for (n, chunks) in replicas.iter().enumerate() {
        let symbols = SymbolSet::collect(["a", "b"]);
        let meta = Meta::new(Ulid::generate(), TimeRange::new(0, 9999));
        let mut writer = Writer::create(dir.path(), meta, symbols).unwrap();
        let encode = |ts: &&[i64]| {
            let mut encoder = xor::Encoder::new();
            ts.iter().for_each(|t| encoder.append(*t, n as f64));
            (ts[0], ts[ts.len() - 1], encoder.into_bytes())
        };
        let encoded: Vec<_> = chunks.iter().map(encode).collect();
        let chunks: Vec<Chunk<'_>> = encoded
            .iter()
            .map(|(min, max, data)| Chunk::xor(*min, *max, data))
            .collect();
        writer.add(&[(0, 1)], &chunks).unwrap();
        blocks.push(open(dir.path(), &writer.finish().unwrap().unwrap()));
    }
    let (mut merger, _) = Merger::new(&blocks, Overlap::Penalty).unwrap();
    let mut merged = Merged::default();
    assert!(merger.next(&mut merged).unwrap());
    let mut columns = Columns::default();
    for c in &merged.chunks {
        chunk::decode(c.encoding, &c.data, &mut columns).unwrap();
    }
    assert!(columns.ascends());
    columns.iter().map(|(ts, v)| (ts, v as usize)).collect()
}

#[test]
fn replicas_are_followed_one_at_a_time() {
    for (replicas, want) in [
        // Apart: both stay.
        (
            [&[&[1, 2][..], &[3, 8]][..], &[&[19, 20][..]]],
            vec![(1, 0), (2, 0), (3, 0), (8, 0), (19, 1), (20, 1)],
        ),
        // What overlaps is taken from one.
        (
            [&[&[1, 2][..], &[3, 8]][..], &[&[7, 9][..], &[10]]],
            vec![(1, 0), (2, 0), (3, 0), (8, 0), (10, 1)],
        ),
        (
            [&[&[1, 2, 3, 5][..]][..], &[&[2, 3, 5][..]]],
            vec![(1, 0), (2, 0), (3, 0), (5, 0)],
        ),
        // A gap of more than two distances is filled by the other.
        (
            [
                &[&[10_000, 20_000, 30_000, 60_000, 70_000][..]][..],
                &[&[10_100, 20_100, 30_100, 40_100, 50_100, 60_100][..]],
            ],
            vec![
                (10_000, 0),
                (20_000, 0),
                (30_000, 0),
                (50_100, 1),
                (60_100, 1),
            ],
        ),
    ] {
        assert_eq!(deduplicated(&replicas), want, "{replicas:?}");
    }
}

#[test]
fn replicas_of_histograms_stay_exact() {
    let dir = tempfile::tempdir().unwrap();
    let given = |ts: &[i64], salt: u64| {
        let row = |&ts: &i64| HistogramRow {
            ts,
            start: 0,
            value: Histogram::Int(IntHistogram {
                schema: 3,
                count: (1 << 60) + ts as u64 + salt,
                sum: ts as f64,
                positive: IntBuckets::from_pairs([(0, 1 << 60), (1, ts + salt as i64)]),
                ..IntHistogram::default()
            }),
        };
        StoredSeries::histograms(labels(0), ts.iter().map(row).collect())
    };
    let write = |ts: &[i64], salt| {
        let series = vec![given(ts, salt)];
        let meta = Plan::default().write(dir.path(), series).unwrap().unwrap();
        open(dir.path(), &meta)
    };
    let first = write(&[10_000, 20_000, 30_000], 1);
    let second = write(&[10_500, 20_500, 30_500, 40_500, 50_500, 60_500], 2);
    let blocks = [Arc::clone(&first), Arc::clone(&second)];
    let (mut merger, _) = Merger::new(&blocks, Overlap::Penalty).unwrap();
    let mut merged = Merged::default();
    assert!(merger.next(&mut merged).unwrap());
    let rows: Vec<HistogramRow> = merged
        .chunks
        .iter()
        .flat_map(|c| chunk::histogram::rows(c.encoding, &c.data).unwrap())
        .collect();
    let ts: Vec<i64> = rows.iter().map(|r| r.ts).collect();
    assert_eq!(ts, [10_000, 20_000, 30_000, 50_500, 60_500]);
    let wanted = [given(&[20_000], 1), given(&[50_500], 2)];
    for want in wanted.into_iter().flat_map(|s| s.histograms) {
        let row = rows.iter().find(|r| r.ts == want.ts).unwrap();
        assert_eq!(plain(row.value.clone()), plain(want.value));
    }
}

fn both(histograms: &[i64], floats: &[i64], salt: u64) -> StoredSeries {
    let histogram = |&ts: &i64| HistogramRow {
        ts,
        start: 0,
        value: Histogram::Int(IntHistogram {
            schema: 3,
            count: (1 << 60) + ts as u64 * 3 + salt,
            sum: if ts % 50 == 49 { STALE_NAN } else { ts as f64 },
            positive: IntBuckets::from_pairs([(0, 1 << 60), (2 + (ts / 40) as i32, ts * 3)]),
            ..IntHistogram::default()
        }),
    };
    let float = |&ts: &i64| Sample {
        ts,
        value: ts as f64 + salt as f64,
    };
    StoredSeries {
        labels: labels(0),
        floats: floats.iter().map(float).collect(),
        histograms: histograms.iter().map(histogram).collect(),
        ..StoredSeries::default()
    }
}

/// The floats and the histograms of a series.
type Both = (Vec<(i64, f64)>, Vec<(i64, Histogram)>);

/// All samples of the one series of a block, exact.
fn exact(block: &Arc<Block>) -> Both {
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = BlockSource::new(vec![Arc::clone(block)])
        .open(Arc::clone(&scope))
        .unwrap();
    let rows = view.select(Select::new(vec![], TimeRange::ALL));
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    for batch in chunk::suite::batches(rows).unwrap() {
        for c in &batch.chunks {
            let bytes = batch.bytes_of(c);
            if c.encoding == Encoding::XOR {
                let mut columns = Columns::default();
                chunk::decode(c.encoding, bytes, &mut columns).unwrap();
                floats.extend(columns.iter());
                assert_eq!(
                    (columns.ts[0], columns.ts[columns.len() - 1]),
                    (c.min, c.max)
                );
            } else {
                let rows = chunk::histogram::rows(c.encoding, bytes).unwrap();
                assert_eq!((rows[0].ts, rows[rows.len() - 1].ts), (c.min, c.max));
                histograms.extend(rows.into_iter().map(|row| (row.ts, plain(row.value))));
            }
        }
    }
    (floats, histograms)
}

/// Without empty buckets and what is known of resets.
fn plain(h: Histogram) -> Histogram {
    let Histogram::Int(mut h) = h else { return h };
    if is_stale(h.sum) {
        return Histogram::Int(IntHistogram::default());
    }
    h.positive = IntBuckets::from_pairs(h.positive.iter().filter(|b| b.1 != 0).collect::<Vec<_>>());
    h.counter_reset = CounterReset::Unknown;
    Histogram::Int(h)
}

/// Blocks of one series with histograms and floats, merged and compared with a map.
fn check_both(inputs: Vec<(Vec<i64>, Vec<i64>)>, deleted: Option<TimeRange>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut floats, mut histograms) = (BTreeMap::new(), BTreeMap::new());
    let mut blocks = Vec::new();
    for (salt, (of_histograms, of_floats)) in inputs.into_iter().enumerate() {
        let only = |t: &&i64| !of_histograms.contains(t);
        let of_floats: Vec<i64> = of_floats.iter().filter(only).copied().collect();
        let series = both(&of_histograms, &of_floats, salt as u64);
        let plan = Plan {
            per_chunk: 9,
            ..Plan::default()
        };
        let Some(meta) = plan.write(dir.path(), vec![series.clone()]).unwrap() else {
            continue;
        };
        let path = dir.path().join(meta.ulid.to_string());
        let mut tombstones = Tombstones::new();
        if let Some(deleted) = deleted
            && salt == 0
        {
            let id = Block::open(&path).unwrap().index().all_series().unwrap()[0];
            tombstones.add(id as u64, deleted);
        }
        tombstones.write(&path).unwrap();
        let block = open(dir.path(), &meta);
        let gone = |ts: i64| salt == 0 && deleted.is_some_and(|d| d.contains(ts));
        let (mut of_block, mut of_block_h) = (Vec::new(), Vec::new());
        for s in series.floats.iter().filter(|s| !gone(s.ts)) {
            of_block.push((s.ts, s.value));
            if !histograms.contains_key(&s.ts) {
                floats.entry(s.ts).or_insert(s.value);
            }
        }
        for h in series.histograms.into_iter().filter(|h| !gone(h.ts)) {
            of_block_h.push((h.ts, plain(h.value.clone())));
            if !floats.contains_key(&h.ts) {
                histograms.entry(h.ts).or_insert(plain(h.value));
            }
        }
        // The block by itself, tombstones and all.
        assert_eq!(exact(&block), (of_block, of_block_h));
        blocks.push(block);
    }
    let metas: Vec<&Meta> = blocks.iter().map(|b| b.meta()).collect();
    let meta = meta_of(Ulid::generate(), &metas);
    let merged = merge(&blocks, dir.path(), meta, &Cancel::default()).unwrap();
    let Some(meta) = merged else {
        assert!(floats.is_empty() && histograms.is_empty());
        return;
    };
    assert_eq!(meta.stats.num_float_samples, floats.len() as u64);
    assert_eq!(meta.stats.num_histogram_samples, histograms.len() as u64);
    let want = (
        floats.into_iter().collect(),
        histograms.into_iter().collect(),
    );
    assert_eq!(exact(&open(dir.path(), &meta)), want);
}

#[test]
fn histograms_are_merged_exactly() {
    let times = |range: std::ops::Range<i64>, step: usize| range.step_by(step).collect::<Vec<_>>();
    // Side by side, on top of each other, in and out of floats, and cut by a tombstone.
    check_both(
        vec![(times(0..100, 1), vec![]), (times(100..200, 1), vec![])],
        None,
    );
    check_both(
        vec![(times(0..100, 2), vec![]), (times(0..150, 3), vec![])],
        None,
    );
    check_both(
        vec![
            (times(0..50, 1), times(50..90, 1)),
            (times(30..60, 1), times(10..20, 1)),
        ],
        Some(TimeRange::new(5, 14)),
    );
    check_both(
        vec![(times(0..300, 1), vec![])],
        Some(TimeRange::new(100, 249)),
    );
}

#[test]
fn columns_of_downsampled_blocks_are_kept_and_cut() {
    let dir = tempfile::tempdir().unwrap();
    let column = |samples: &[(i64, f64)]| {
        let mut e = xor::Encoder::new();
        samples.iter().for_each(|(ts, value)| e.append(*ts, *value));
        e.into_bytes()
    };
    let counts = column(&[(99, 5.0), (199, 5.0), (299, 5.0)]);
    let counter = column(&[(0, 1.0), (99, 3.0), (199, 9.0), (299, 11.0), (299, 2.0)]);
    let data = aggregate::encode([
        Some((Encoding::XOR, &counts)),
        None,
        None,
        None,
        Some((Encoding::XOR, &counter)),
    ]);
    let chunk = Chunk {
        min: 0,
        max: 299,
        encoding: Encoding::AGGREGATE,
        data: &data,
    };
    let meta = Meta::new(Ulid::generate(), TimeRange::new(0, 299));
    let symbols = SymbolSet::collect(["a", "b"]);
    let mut writer = Writer::create(dir.path(), meta, symbols).unwrap();
    writer
        .add_labels(&Labels::from_pairs([("a", "b")]), &[chunk])
        .unwrap();
    let meta = writer.finish().unwrap().unwrap();
    assert_eq!(
        (meta.stats.num_samples, meta.stats.num_float_samples),
        (3, 0)
    );
    let read = |meta: &Meta, aggregates: u8| -> Vec<(model::source::Aggregate, Vec<i64>)> {
        let scope = Scope::unbounded(TimeRange::ALL);
        let source = BlockSource::new(vec![open(dir.path(), meta)]);
        let view = source.open(Arc::clone(&scope)).unwrap();
        let mut select = Select::new(vec![], TimeRange::ALL);
        select.aggregates = aggregates;
        let batches = chunk::suite::batches(view.select(select)).unwrap();
        let refs = batches
            .iter()
            .flat_map(|b| b.chunks.iter().map(move |c| (b, c)));
        refs.map(|(b, c)| {
            let mut columns = Columns::default();
            chunk::decode(c.encoding, b.bytes_of(c), &mut columns).unwrap();
            (c.aggregate, columns.ts)
        })
        .collect()
    };
    use model::source::Aggregate::{Count, Counter, Max};
    let times = vec![99, 199, 299];
    let counted = vec![0, 99, 199, 299, 299];
    assert_eq!(
        read(&meta, Count as u8 | Counter as u8),
        [(Count, times.clone()), (Counter, counted)]
    );
    assert_eq!(read(&meta, Count as u8), [(Count, times)]);
    assert_eq!(read(&meta, Max as u8), []);

    // Without what a tombstone deletes, in the block and merged.
    let path = dir.path().join(meta.ulid.to_string());
    let mut tombstones = Tombstones::new();
    tombstones.add(
        Block::open(&path).unwrap().index().all_series().unwrap()[0] as u64,
        TimeRange::new(50, 150),
    );
    tombstones.write(&path).unwrap();
    let want = [(Count, vec![199, 299]), (Counter, vec![0, 199, 299, 299])];
    assert_eq!(read(&meta, Count as u8 | Counter as u8), want);
    let block = open(dir.path(), &meta);
    let merged = meta_of(Ulid::generate(), &[block.meta()]);
    let merged = merge(
        &[Arc::clone(&block)],
        dir.path(),
        merged,
        &Cancel::default(),
    );
    let merged = merged.unwrap().unwrap();
    assert_eq!(read(&merged, Count as u8 | Counter as u8), want);
    // Two that overlap and are not the same are not mixed.
    let both = meta_of(Ulid::generate(), &[block.meta()]);
    let again = open(dir.path(), &merged);
    let result = merge(&[block, again], dir.path(), both, &Cancel::default());
    assert!(matches!(result, Err(BlockError::Invalid(_))));
}

#[test]
fn without_some_series_nothing_of_them_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let series: Series = (0..600)
        .map(|i| {
            (
                labels(i),
                vec![Sample {
                    ts: i as i64,
                    value: 1.0,
                }],
            )
        })
        .collect();
    let meta = write(dir.path(), &series).unwrap();
    let block = open(dir.path(), &meta);
    let ids = block.index().all_series().unwrap();
    let all: Vec<&Labels> = series.keys().collect();
    let dropped: Vec<usize> = (0..600).filter(|i| i % 3 != 0).collect();
    let of: Vec<u32> = dropped.iter().map(|&i| ids[i]).collect();
    let (mut merger, symbols) = Merger::without(&block, &of).unwrap();
    let mut made = Writer::create_on(
        fs::os(),
        dir.path(),
        meta_of(Ulid::from_parts(9, 9), &[&meta]),
        symbols,
    )
    .unwrap();
    let mut merged = Merged::default();
    while merger.next(&mut merged).unwrap() {
        let chunks: Vec<Chunk<'_>> = merged.chunks.iter().map(MergedChunk::borrow).collect();
        made.add(&merged.labels, &chunks).unwrap();
    }
    let made = open(dir.path(), &made.finish().unwrap().unwrap());
    let mut want = series.clone();
    for &i in &dropped {
        want.remove(all[i]);
    }
    let symbols: std::collections::BTreeSet<&str> = want
        .keys()
        .flat_map(|labels| labels.iter().flat_map(|(n, v)| [n, v]))
        .collect();
    assert!(made.index().symbols().iter().eq(symbols));
    assert_eq!(read(made), want);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn histograms_like_maps(
        inputs in prop::collection::vec(
            (prop::collection::btree_set(0i64..200, 0..60), prop::collection::btree_set(0i64..200, 0..40)),
            1..4),
        deleted in prop::option::of((0i64..200, 0i64..100)),
    ) {
        let list = |set: std::collections::BTreeSet<i64>| set.into_iter().collect::<Vec<_>>();
        check_both(
            inputs.into_iter().map(|(h, f)| (list(h), list(f))).collect(),
            deleted.map(|(min, len)| TimeRange::new(min, min + len)),
        );
    }

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
