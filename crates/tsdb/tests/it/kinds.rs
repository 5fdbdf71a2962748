//! Every kind of sample through the whole database: taken, cut, moved to files, read again after a
//! restart.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use chunk::memory::StoredSeries;
use chunk::suite;
use futures::executor::block_on;
use model::histogram::{
    Buckets, CUSTOM_SCHEMA, CounterReset, FloatHistogram, Histogram, IntBuckets, IntHistogram, Span,
};
use model::report::{Admin, ExemplarReport, HeadReport, Metadata, MetadataReport, MetricType};
use model::sink::{Column, Exemplar, HistogramSample, SeriesMetadata};
use model::{
    Batch, Encoding, Labels, Matcher, Millis, Reject, STALE_NAN, Scope, Select, Source, TimeRange,
    is_stale,
};
use proptest::prelude::*;
use tsdb::{Db, Options, Starts};

/// Everything that a query gets, chunk by chunk, with exact counts.
pub(crate) fn stored(db: &Db) -> Vec<StoredSeries> {
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = db.open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select::new(vec![], TimeRange::ALL));
    let mut all: BTreeMap<Labels, StoredSeries> = BTreeMap::new();
    for batch in suite::batches(rows).unwrap() {
        for i in 0..batch.len() {
            let labels = batch.label_set(i, &scope.symbols);
            let one = all.entry(labels.clone()).or_insert(StoredSeries {
                labels,
                ..StoredSeries::default()
            });
            for c in batch.chunks_of(i) {
                let bytes = batch.bytes_of(c);
                match c.encoding {
                    Encoding::XOR | Encoding::XOR2 => {
                        let mut columns = chunk::Columns::default();
                        chunk::decode(c.encoding, bytes, &mut columns).unwrap();
                        one.floats.extend(columns.samples());
                    }
                    encoding => {
                        let rows = chunk::histogram::rows(encoding, bytes).unwrap();
                        assert_eq!(
                            (rows[0].ts, rows[rows.len() - 1].ts),
                            (c.min, c.max),
                            "bounds of a chunk"
                        );
                        one.histograms.extend(rows);
                    }
                }
            }
        }
    }
    all.into_values().collect()
}

/// That a database holds just this.
pub(crate) fn same(db: &Db, want: &[StoredSeries]) {
    let got = stored(db);
    let labels =
        |all: &[StoredSeries]| -> Vec<Labels> { all.iter().map(|s| s.labels.clone()).collect() };
    assert_eq!(labels(&got), labels(want));
    for (a, b) in got.iter().zip(want) {
        assert!(suite::same_samples(&a.floats, &b.floats), "{}", a.labels);
        let times =
            |s: &StoredSeries| -> Vec<_> { s.histograms.iter().map(|h| (h.ts, h.start)).collect() };
        assert_eq!(times(a), times(b), "{}", a.labels);
        for (x, y) in a.histograms.iter().zip(&b.histograms) {
            assert!(alike(&x.value, &y.value), "{} at {}", a.labels, x.ts);
        }
    }
}

fn quiet(min_block: Millis) -> Options {
    Options {
        min_block,
        max_block: Some(min_block),
        max_exemplars: 100,
        patience: std::time::Duration::from_millis(50),
        ..Options::quiet()
    }
}

fn set(i: u64) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

/// An integer histogram that has seen `n` observations in `buckets` buckets.
pub(crate) fn int(n: u64, buckets: usize) -> Histogram {
    let counts: Vec<i64> = (0..buckets as u64).map(|i| (n + i) as i64).collect();
    let deltas = counts
        .iter()
        .scan(0, |last, c| Some(c - std::mem::replace(last, *c)));
    Histogram::Int(IntHistogram {
        schema: 2,
        zero_threshold: 0.001,
        zero_count: 1,
        count: 1 + counts.iter().sum::<i64>() as u64,
        sum: n as f64 * 1.5,
        positive: IntBuckets {
            spans: vec![Span {
                offset: 3,
                length: buckets as u32,
            }],
            deltas: deltas.collect(),
        },
        ..IntHistogram::default()
    })
}

pub(crate) fn float(n: u64) -> Histogram {
    float_as(n, CounterReset::Unknown)
}

pub(crate) fn gauge(n: u64) -> Histogram {
    float_as(n, CounterReset::Gauge)
}

fn float_as(n: u64, reset: CounterReset) -> Histogram {
    Histogram::Float(FloatHistogram {
        counter_reset: reset,
        schema: 1,
        count: n as f64 + 0.5,
        sum: n as f64,
        positive: Buckets {
            spans: vec![Span {
                offset: -1,
                length: 2,
            }],
            counts: vec![n as f64, 0.5],
        },
        ..FloatHistogram::default()
    })
}

pub(crate) fn custom(n: u64) -> Histogram {
    Histogram::Int(IntHistogram {
        schema: CUSTOM_SCHEMA,
        count: 2 * n,
        sum: n as f64,
        positive: IntBuckets {
            spans: vec![Span {
                offset: 0,
                length: 2,
            }],
            deltas: vec![n as i64, 0],
        },
        custom_values: [0.1, 2.5].into(),
        ..IntHistogram::default()
    })
}

fn marker() -> Histogram {
    Histogram::Int(IntHistogram {
        sum: STALE_NAN,
        ..IntHistogram::default()
    })
}

#[test]
fn a_sink_and_source_of_histograms() {
    let dirs = std::cell::RefCell::new(Vec::new());
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options::quiet()).unwrap();
        dirs.borrow_mut().push(dir);
        db
    };
    suite::histogram_sink("Db", make, stored);
    let build = |series: Vec<StoredSeries>| {
        let db = make();
        let labels: Vec<Labels> = series.iter().map(|s| s.labels.clone()).collect();
        let refs = db.resolve_now(&labels).unwrap();
        let mut by_time: BTreeMap<Millis, Batch> = BTreeMap::new();
        for (one, &r) in series.iter().zip(&refs) {
            for s in &one.floats {
                by_time.entry(s.ts).or_default().push(r, s.ts, s.value);
            }
            for h in &one.histograms {
                let row = HistogramSample {
                    series: r,
                    ts: h.ts,
                    start: h.start,
                    value: h.value.clone(),
                };
                by_time.entry(h.ts).or_default().histograms.push(row);
            }
        }
        for batch in by_time.into_values() {
            let took = db.append_now(batch).unwrap();
            assert_eq!(took.rejected, []);
        }
        db
    };
    suite::histogram_source("Db", |series| Arc::new(build(series)));
    // The same from files of chunks, from blocks, and after a restart.
    suite::histogram_source("files", |series| {
        let db = build(series);
        let dir = db.dir().to_owned();
        drop(db);
        Arc::new(Db::open(dir, Options::quiet()).unwrap())
    });
    suite::histogram_source("blocks", |series| {
        let db = build(series);
        db.flush_all().unwrap();
        Arc::new(db)
    });
}

/// How many chunks lie in files, and how many bytes those have.
fn filed(db: &Db) -> (u64, i64) {
    let stats = &db.stats().chunk_files;
    (stats.written.get(), stats.bytes.get())
}

#[test]
fn finished_chunks_leave_memory_and_are_not_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let options = quiet(7_200_000);
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let labels: Vec<Labels> = (0..80).map(set).collect();
    let refs = db.resolve_now(&labels).unwrap();
    for k in 0..400i64 {
        let mut batch = Batch::default();
        for (i, &series) in refs.iter().enumerate() {
            match i % 4 {
                3 => batch.histograms.push(HistogramSample {
                    series,
                    ts: k * 15_000,
                    start: 0,
                    value: int(k as u64 * 7, 8),
                }),
                _ => batch.push(series, k * 15_000, (k * i as i64) as f64),
            }
        }
        assert_eq!(db.append_now(batch).unwrap().rejected, []);
        if k == 200 {
            let before = stored(&db);
            db.maintain().unwrap();
            assert!(filed(&db).0 >= 60, "{:?}", filed(&db));
            same(&db, &before);
        }
    }
    let before = stored(&db);
    let bytes = db.head_bytes();
    let chunks = db.head(1).chunks;
    db.maintain().unwrap();
    assert!(db.head_bytes() < bytes);
    same(&db, &before);
    let stone = |i: &str| vec![Matcher::equal("i", i)];
    // In a file, across its border, and the end of what there is.
    block_on(db.delete_series(stone("1"), TimeRange::new(500_000, 700_000))).unwrap();
    block_on(db.delete_series(stone("3"), TimeRange::new(1_000_000, 4_000_000))).unwrap();
    block_on(db.delete_series(stone("5"), TimeRange::ALL)).unwrap();
    let before = stored(&db);
    assert_eq!(before.len(), 79);
    drop(db);

    for _ in 0..2 {
        let db = Db::open(dir.path(), quiet(7_200_000)).unwrap();
        assert!(db.replayed().damaged.is_empty(), "{:?}", db.replayed());
        assert_eq!(filed(&db).0, 0);
        same(&db, &before);
        let now = db.head(1).chunks;
        assert!(
            now <= chunks && now + 8 > chunks,
            "{now} of {chunks} chunks"
        );
        // Nothing older than what was deleted is taken.
        let refs = db.resolve_now(&[set(5)]).unwrap();
        let mut batch = Batch::default();
        batch.push(refs[0], 399 * 15_000 - 1, 1.0);
        let reason = db.append_now(batch).unwrap().rejected[0].reason;
        assert_eq!(reason, Reject::OutOfOrder);
        db.maintain().unwrap();
        same(&db, &before);
    }
    // What is in blocks goes from the files.
    let db = Db::open(dir.path(), options).unwrap();
    let refs = db.resolve_now(&labels).unwrap();
    for k in 0..3 {
        let mut batch = Batch::default();
        batch.push(refs[0], (k + 3) * 7_200_000, 1.0);
        db.append_now(batch).unwrap();
        db.maintain().unwrap();
    }
    assert!(filed(&db).1 < 500, "{:?}", filed(&db));
    assert!(stored(&db).len() >= 79);
}

#[test]
fn damaged_files_of_chunks_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = quiet(7_200_000);
    let db = Db::open(dir.path(), options.clone()).unwrap();
    for k in 0..350 {
        let rows: Vec<_> = (0..20).map(|i| (set(i), k * 10_000, k as f64)).collect();
        db.append_samples(&rows).unwrap();
        if k % 100 == 0 {
            db.maintain().unwrap();
        }
    }
    drop(db);
    // The last file may end in anything; this one has another behind it.
    let db = Db::open(dir.path(), quiet(7_200_000)).unwrap();
    for k in 350..700 {
        let rows: Vec<_> = (0..20).map(|i| (set(i), k * 10_000, k as f64)).collect();
        db.append_samples(&rows).unwrap();
    }
    let before = stored(&db);
    drop(db);
    let file = std::fs::read_dir(dir.path().join("chunks_head"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .min()
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&file, bytes).unwrap();
    let db = Db::open(dir.path(), options.clone()).unwrap();
    assert_eq!(db.replayed().damaged.len(), 1);
    assert_eq!(db.stats().chunk_files.corruptions.get(), 1);
    assert!(file.with_extension("bad").exists());
    same(&db, &before);
    drop(db);
    let db = Db::open(dir.path(), options).unwrap();
    assert!(db.replayed().damaged.is_empty());
    same(&db, &before);
}

#[test]
fn a_series_changes_its_kind_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), quiet(7_200_000)).unwrap();
    let r = db.resolve_now(&[set(0)]).unwrap()[0];
    let histogram = |ts, value| HistogramSample {
        series: r,
        ts,
        start: 0,
        value,
    };
    let mut batch = Batch::default();
    // One batch, in any order: they are taken by time.
    batch.push(r, 40, 4.0);
    batch.push(r, 10, 1.0);
    batch.push(r, 50, STALE_NAN);
    batch.histograms.push(histogram(30, int(5, 3)));
    batch
        .histograms
        .push(histogram(20, float_as(3, CounterReset::Unknown)));
    batch
        .histograms
        .push(histogram(20, float_as(3, CounterReset::Gauge)));
    batch
        .histograms
        .push(histogram(20, float_as(4, CounterReset::Unknown)));
    let took = db.append_now(batch).unwrap();
    assert_eq!((took.samples, took.histograms), (3, 3));
    assert_eq!(took.rejected.len(), 1);
    assert_eq!(
        (took.rejected[0].column, took.rejected[0].row),
        (Column::Histograms, 3)
    );
    assert_eq!(took.rejected[0].reason, Reject::Duplicate);
    // A marker given as a float ends a series of histograms.
    let mut batch = Batch::default();
    batch.histograms.push(histogram(60, int(9, 3)));
    db.append_now(batch).unwrap();
    let mut batch = Batch::default();
    batch.push(r, 70, STALE_NAN);
    assert_eq!(db.append_now(batch).unwrap().rejected, []);
    let mut batch = Batch::default();
    batch.push(r, 70, STALE_NAN);
    batch.push(r, 70, 1.0);
    let took = db.append_now(batch).unwrap();
    assert_eq!(took.rejected.len(), 1);
    let check = |db: &Db| {
        let one = &stored(db)[0];
        let floats: Vec<_> = one.floats.iter().map(|s| s.ts).collect();
        let rows: Vec<_> = one.histograms.iter().map(|h| h.ts).collect();
        assert_eq!((floats, rows), (vec![10, 40, 50], vec![20, 30, 60, 70]));
        assert!(is_stale(one.histograms[3].value.sum()));
        assert!(matches!(one.histograms[3].value, Histogram::Int(_)));
    };
    check(&db);
    drop(db);
    let db = Db::open(dir.path(), quiet(7_200_000)).unwrap();
    check(&db);
    db.maintain().unwrap();
    assert_eq!(db.stats().head.stale_series.get(), 1);
    assert_eq!(db.stats().head.histogram_series.get(), 1);
    // A marker has no buckets.
    assert_eq!(db.stats().head.histogram_buckets.get(), 0);
    let others = db.resolve_now(&[set(7), set(8)]).unwrap();
    for (ts, buckets) in [(80, [4, 6]), (90, [3, 6])] {
        let mut batch = Batch::default();
        for (&series, buckets) in others.iter().zip(buckets) {
            let value = int(ts as u64, buckets);
            batch.histograms.push(HistogramSample {
                series,
                ts,
                start: 0,
                value,
            });
        }
        assert_eq!(db.append_now(batch).unwrap().rejected, []);
    }
    db.maintain().unwrap();
    assert_eq!(db.stats().head.histogram_series.get(), 3);
    assert_eq!(db.stats().head.histogram_buckets.get(), 3 + 6);
}

#[test]
fn what_is_no_histogram_is_refused_with_prometheus_words() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), quiet(7_200_000)).unwrap();
    let r = db.resolve_now(&[set(0)]).unwrap()[0];
    let Histogram::Int(mut h) = int(5, 3) else {
        unreachable!()
    };
    h.count += 1;
    let mut batch = Batch::default();
    batch.histograms.push(HistogramSample {
        series: r,
        ts: 10,
        start: 0,
        value: Histogram::Int(h),
    });
    batch.push(r, 20, 1.0);
    let took = db.append_now(batch).unwrap();
    assert_eq!((took.samples, took.histograms), (1, 0));
    assert!(
        took.rejected[0].reason.to_string().starts_with(
            "19 observations found in buckets, but the Count field is 20: histogram's observation"
        ),
        "{}",
        took.rejected[0].reason
    );
    assert_eq!(db.stats().head.histograms_invalid.get(), 1);
    // Too far behind the newest, and unknown.
    let mut batch = Batch::default();
    batch.push(r, 100_000_000, 1.0);
    db.append_now(batch).unwrap();
    let row = |ts, series| HistogramSample {
        series,
        ts,
        start: 0,
        value: int(1, 1),
    };
    let mut batch = Batch::default();
    batch.histograms.push(row(50, r));
    let took = db.append_now(batch).unwrap();
    assert_eq!(took.rejected[0].reason, Reject::OutOfBounds);
    let mut batch = Batch::default();
    batch.push(r, 100_000_001, 1.0);
    let gone = model::SeriesRef { id: 77, ..r };
    batch.histograms.push(row(100_000_002, gone));
    match db.append_now(batch) {
        Err(model::SinkError::Stale(rows)) => assert_eq!(rows, [1]),
        other => panic!("{other:?}"),
    }
}

fn metadata(kind: MetricType, help: &str) -> Metadata {
    Metadata {
        kind,
        help: help.into(),
        unit: "seconds".into(),
    }
}

#[test]
fn exemplars_and_metadata_are_kept_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = quiet(1000);
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let exemplar = |series, ts, trace: &str| Exemplar {
        series,
        labels: Labels::from_pairs([("trace_id", trace)]),
        value: ts as f64,
        ts,
        timed: true,
    };
    for k in 0..40i64 {
        let refs = db.resolve_now(&[set(0), set(k as u64)]).unwrap();
        let mut batch = Batch::default();
        batch.push(refs[0], k * 100, 1.0);
        if k > 0 {
            batch.push(refs[1], k * 100, 1.0);
        }
        if k % 10 == 0 {
            batch.exemplars.push(exemplar(refs[0], k * 100, "a"));
            batch.exemplars.push(exemplar(refs[0], -5, "late"));
        }
        let kind = match k {
            0..20 => MetricType::Counter,
            _ => MetricType::Gauge,
        };
        batch.metadata.push(SeriesMetadata {
            series: refs[0],
            metadata: metadata(kind, "What it is."),
        });
        let took = db.append_now(batch).unwrap();
        if k % 10 == 0 {
            assert_eq!(took.exemplars, 1);
            assert_eq!(took.rejected[0].column, Column::Exemplars);
            assert_eq!(took.rejected[0].reason.to_string(), "out of order exemplar");
        }
        db.maintain().unwrap();
    }
    let check = |db: &Db, times: &[i64]| {
        let matchers = vec![
            vec![Matcher::equal("i", "0")],
            vec![Matcher::equal("x", "y")],
        ];
        let found = block_on(db.exemplars(matchers, TimeRange::new(0, 2999)));
        assert_eq!(found.len(), usize::from(!times.is_empty()));
        if let Some((labels, exemplars)) = found.first() {
            assert_eq!(*labels, set(0));
            assert_eq!(exemplars.iter().map(|e| e.ts).collect::<Vec<_>>(), times);
        }
        let known = db.metadata(None);
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].1, [metadata(MetricType::Gauge, "What it is.")]);
        assert_eq!(db.metadata(Some("other")), []);
    };
    // The very first came before the late one of the same batch.
    check(&db, &[0, 1000, 2000]);
    drop(db);
    // The log has been cut meanwhile: only the newer ones are there.
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let left = db.replayed().exemplars;
    assert!(left >= 1, "no exemplar is left in the log");
    let matchers = vec![vec![Matcher::equal("i", "0")]];
    let found = block_on(db.exemplars(matchers, TimeRange::ALL));
    assert_eq!(found[0].1.last().map(|e| e.ts), Some(3000));
    check_metadata(&db);
    db.set_max_exemplars(0);
    let matchers = vec![vec![Matcher::equal("i", "0")]];
    assert_eq!(block_on(db.exemplars(matchers, TimeRange::ALL)), []);
}

fn check_metadata(db: &Db) {
    let known = db.metadata(Some("m"));
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].1, [metadata(MetricType::Gauge, "What it is.")]);
}

#[test]
fn start_timestamps_become_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        starts: Starts::Zeros,
        ..quiet(7_200_000)
    };
    let db = Db::open(dir.path(), options).unwrap();
    let refs = db.resolve_now(&[set(0), set(1)]).unwrap();
    let scrape = |ts: Millis, start: Millis| {
        let mut batch = Batch::default();
        batch.push(refs[0], ts, ts as f64);
        batch.starts.push(start);
        batch.histograms.push(HistogramSample {
            series: refs[1],
            ts,
            start,
            value: int(ts as u64, 4),
        });
        assert_eq!(db.append_now(batch).unwrap().rejected, []);
    };
    scrape(1000, 500);
    scrape(2000, 500);
    // It began anew; then one that claims to have begun after its own sample.
    scrape(3000, 2500);
    scrape(4000, 4500);
    let all = stored(&db);
    let floats: Vec<_> = all[0].floats.iter().map(|s| (s.ts, s.value)).collect();
    let want = [
        (500, 0.0),
        (1000, 1000.0),
        (2000, 2000.0),
        (2500, 0.0),
        (3000, 3000.0),
        (4000, 4000.0),
    ];
    assert_eq!(floats, want);
    let rows: Vec<_> = all[1].histograms.iter().map(|h| h.ts).collect();
    assert_eq!(rows, want.map(|w| w.0));
    assert_eq!(all[1].histograms[3].value.sum(), 0.0);
}

#[test]
fn series_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_series: 10,
        ..quiet(1000)
    };
    let db = Db::open(dir.path(), options).unwrap();
    let labels: Vec<Labels> = (0..10).map(set).collect();
    db.resolve_now(&labels).unwrap();
    db.resolve_now(&labels).unwrap();
    let e = db.resolve_now(&[set(3), set(10)]).unwrap_err();
    assert!(e.to_string().contains("limit of 10 series"), "{e}");
    assert_eq!(db.stats().head.series_limited.get(), 1);
}

/// More than replay hands over at once, on every worker.
#[test]
fn many_series_change_their_kind_within_batches() {
    const SERIES: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let options = quiet(7_200_000);
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let labels: Vec<Labels> = (0..SERIES).map(set).collect();
    let refs = db.resolve_now(&labels).unwrap();
    let mut taken = 0;
    for push in 0..20u64 {
        let mut batch = Batch::default();
        for (i, &series) in (0..SERIES).zip(&refs) {
            for k in 0..7u64 {
                let n = push * 7 + k;
                let ts = (n * 1000) as Millis + 1;
                // Some series never change, some now and then, some all the time.
                let value = match i % 5 {
                    0 => None,
                    1 => Some(int(n, 3)),
                    2 => (n / 5 % 2 == 0).then(|| int(n, 2)),
                    3 => (n % 2 == 0).then(|| float(n)),
                    _ => [None, Some(custom(n)), Some(int(n, 2))][(n % 3) as usize].clone(),
                };
                match value {
                    None => batch.push(series, ts, n as f64),
                    Some(value) => batch.histograms.push(HistogramSample {
                        series,
                        ts,
                        start: 0,
                        value,
                    }),
                }
            }
        }
        let took = db.append_now(batch).unwrap();
        assert_eq!(took.rejected, []);
        taken += took.samples + took.histograms;
    }
    assert_eq!(taken, 20 * 7 * SERIES as usize);
    let before = stored(&db);
    drop(db);
    // From the log, then from the log and files of chunks.
    for _ in 0..2 {
        let db = Db::open(dir.path(), options.clone()).unwrap();
        assert!(db.replayed().damaged.is_empty(), "{:?}", db.replayed());
        same(&db, &before);
        db.maintain().unwrap();
    }
}

/// A sample of the property test.
#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Histogram),
}

#[derive(Clone, Debug)]
enum Step {
    /// Series, how long after its newest, value.
    Append(Vec<(u64, Millis, Value)>),
    Maintain,
    Restart,
    Delete(u64, Millis, Millis),
    Flush,
}

fn value() -> impl Strategy<Value = Value> {
    let reset = prop::sample::select(vec![CounterReset::Unknown, CounterReset::Gauge]);
    prop_oneof![
        6 => (-1e6..1e6).prop_map(Value::Float),
        1 => Just(Value::Float(STALE_NAN)),
        4 => (0..50u64, 1..6usize).prop_map(|(n, b)| Value::Histogram(int(n, b))),
        2 => (0..50u64, reset).prop_map(|(n, r)| Value::Histogram(float_as(n, r))),
        2 => (0..50u64).prop_map(|n| Value::Histogram(custom(n))),
        1 => Just(Value::Histogram(marker())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..6u64, 1..400i64, value());
    prop_oneof![
        20 => prop::collection::vec(row, 1..40).prop_map(Step::Append),
        4 => Just(Step::Maintain),
        2 => Just(Step::Restart),
        2 => (0..6u64, 0..6000i64, 0..3000i64).prop_map(|(i, a, n)| Step::Delete(i, a, a + n)),
        1 => Just(Step::Flush),
    ]
}

type Simple = HashMap<u64, Vec<(Millis, Value)>>;

fn compare(db: &Db, simple: &Simple) -> Result<(), TestCaseError> {
    let all = stored(db);
    for (i, samples) in simple {
        let labels = set(*i);
        let found = all.iter().find(|s| s.labels == labels);
        // A marker may stand for either kind: after a restart nobody knows of which one a series was.
        let flat = |ts: Millis, value: Value| match value {
            Value::Float(v) if is_stale(v) => (ts, None),
            Value::Histogram(h) if is_stale(h.sum()) => (ts, None),
            value => (ts, Some(value)),
        };
        let mut got = Vec::new();
        if let Some(one) = found {
            let floats = one.floats.iter().map(|s| flat(s.ts, Value::Float(s.value)));
            got.extend(floats);
            let rows = one.histograms.iter();
            got.extend(rows.map(|h| flat(h.ts, Value::Histogram(h.value.clone()))));
            got.sort_by_key(|s| s.0);
        }
        let times =
            |all: &[(Millis, Option<Value>)]| -> Vec<_> { all.iter().map(|s| s.0).collect() };
        let want: Vec<_> = samples.iter().map(|(ts, v)| flat(*ts, v.clone())).collect();
        prop_assert_eq!(times(&got), times(&want), "times of {}", i);
        for ((ts, a), (_, b)) in got.iter().zip(&want) {
            let same = match (a, b) {
                (None, None) => true,
                (Some(Value::Float(a)), Some(Value::Float(b))) => a.to_bits() == b.to_bits(),
                (Some(Value::Histogram(a)), Some(Value::Histogram(b))) => alike(a, b),
                _ => false,
            };
            prop_assert!(same, "{} at {}: {:?}\n{:?}", i, ts, a, b);
        }
    }
    Ok(())
}

/// Equal but for buckets that one of them lists though they are empty: chunks unite layouts.
fn alike(a: &Histogram, b: &Histogram) -> bool {
    if is_stale(a.sum()) || is_stale(b.sum()) {
        return is_stale(a.sum()) && is_stale(b.sum());
    }
    let (mut a, mut b) = (a.to_float(), b.to_float());
    a.compact();
    b.compact();
    a.counter_reset = CounterReset::Unknown;
    b.counter_reset = CounterReset::Unknown;
    a == b
}

/// `few`, unless more are asked for in the usual way.
fn cases(few: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(few)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(24), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_life_of_a_database_equals_a_list(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let options = quiet(2000);
        let mut db = Some(Db::open(dir.path(), options.clone()).unwrap());
        let mut simple = Simple::new();
        let mut newest = 0;
        let mut ends: HashMap<u64, Millis> = HashMap::new();
        for step in steps {
            match step {
                Step::Append(rows) => {
                    let db = db.as_ref().unwrap();
                    let labels: Vec<Labels> = rows.iter().map(|r| set(r.0)).collect();
                    let refs = db.resolve_now(&labels).unwrap();
                    let mut batch = Batch::default();
                    let mut of_floats = Vec::new();
                    let mut of_histograms = Vec::new();
                    // No series falls so far behind that it is refused for that.
                    let floor = newest - 700;
                    for ((i, after, value), &r) in rows.iter().zip(&refs) {
                        let end = ends.entry(*i).or_insert(0);
                        *end = (*end).max(floor) + after;
                        newest = newest.max(*end);
                        match value {
                            Value::Float(v) => {
                                of_floats.push((*i, *end, value.clone()));
                                batch.push(r, *end, *v);
                            }
                            Value::Histogram(h) => {
                                of_histograms.push((*i, *end, value.clone()));
                                batch.histograms.push(HistogramSample {
                                    series: r, ts: *end, start: 0, value: h.clone(),
                                });
                            }
                        }
                    }
                    let took = db.append_now(batch).unwrap();
                    // What the window refuses is refused; all else is taken.
                    for r in &took.rejected {
                        prop_assert_eq!(r.reason, Reject::OutOfBounds);
                    }
                    let refused = |column, row| took.rejected.iter().any(|r| (r.column, r.row) == (column, row));
                    let floats = of_floats.into_iter().enumerate().filter(|(row, _)| !refused(Column::Floats, *row));
                    let histograms = of_histograms.into_iter().enumerate().filter(|(row, _)| !refused(Column::Histograms, *row));
                    let mut taken: Vec<_> = floats.chain(histograms).map(|(_, r)| r).collect();
                    taken.sort_by_key(|r| r.1);
                    for (i, ts, value) in taken {
                        simple.entry(i).or_default().push((ts, value));
                    }
                }
                Step::Maintain => {
                    db.as_ref().unwrap().maintain().unwrap();
                }
                Step::Flush => {
                    db.as_ref().unwrap().flush_all().unwrap();
                }
                Step::Restart => {
                    drop(db.take());
                    let opened = Db::open(dir.path(), options.clone()).unwrap();
                    prop_assert!(opened.replayed().damaged.is_empty(), "{:?}", opened.replayed());
                    prop_assert_eq!(opened.replayed().unknown, 0);
                    db = Some(opened);
                }
                Step::Delete(i, min, max) => {
                    let matchers = vec![Matcher::equal("i", i.to_string())];
                    block_on(db.as_ref().unwrap().delete_series(matchers, TimeRange::new(min, max))).unwrap();
                    if let Some(all) = simple.get_mut(&i) {
                        all.retain(|(ts, _)| *ts < min || *ts > max);
                    }
                }
            }
            compare(db.as_ref().unwrap(), &simple)?;
        }
    }
}

#[test]
fn many_append_while_others_ask_cut_delete_and_take_snapshots() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Db::open(dir.path(), quiet(2000)).unwrap());
    let over = AtomicBool::new(false);
    const SERIES: u64 = 40;
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for writer in 0..3u64 {
            let db = &db;
            writers.push(scope.spawn(move || {
                let labels: Vec<Labels> = (0..SERIES)
                    .map(|i| Labels::from_pairs([("w", writer.to_string()), ("i", i.to_string())]))
                    .collect();
                for k in 1..250i64 {
                    // Every now and then another generation of series.
                    let mut labels = labels.clone();
                    labels.push(Labels::from_pairs([("gone", (k / 20).to_string())]));
                    let took = loop {
                        let refs = db.resolve_now(&labels).unwrap();
                        let mut batch = Batch::default();
                        for (i, &series) in refs.iter().take(SERIES as usize).enumerate() {
                            match i % 2 {
                                0 => batch.push(series, k * 40, k as f64),
                                _ => batch.histograms.push(HistogramSample {
                                    series,
                                    ts: k * 40,
                                    start: 0,
                                    value: int(k as u64, 1 + i % 5),
                                }),
                            }
                        }
                        match db.append_now(batch) {
                            // A cut has taken them away in between.
                            Err(model::SinkError::Stale(_)) => {}
                            done => break done.unwrap(),
                        }
                    };
                    for r in took.rejected {
                        assert_eq!(r.reason, Reject::OutOfBounds);
                    }
                }
            }));
        }
        let (db, over) = (&db, &over);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                db.maintain().unwrap();
                let matchers = vec![Matcher::equal("i", "7")];
                block_on(db.delete_series(matchers, TimeRange::new(0, 100))).unwrap();
                block_on(db.snapshot(false)).unwrap();
            }
        });
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // Of each writer, all series end with the same scrape.
                for writer in 0..3 {
                    let matchers = vec![Matcher::equal("w", writer.to_string())];
                    let scope = Scope::unbounded(TimeRange::ALL);
                    let view = db.open(Arc::clone(&scope)).unwrap();
                    let rows = view.select(Select::new(matchers, TimeRange::ALL));
                    let all = suite::collect_columns(rows, &scope, TimeRange::ALL).unwrap();
                    let ends: Vec<_> = all
                        .values()
                        .map(|c| c.ts.last().max(c.histograms.ts.last()).copied())
                        .collect();
                    assert!(
                        ends.windows(2).all(|w| w[0] == w[1]),
                        "half a scrape: {ends:?}"
                    );
                }
            }
        });
        // The others must end even if a writer has failed.
        let ends: Vec<_> = writers.into_iter().map(|w| w.join()).collect();
        over.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
    });
    let before = stored(&db);
    assert_eq!(before.len(), 3 * SERIES as usize);
    let dir: &Path = dir.path();
    drop(db);
    let db = Db::open(dir, quiet(2000)).unwrap();
    same(&db, &before);
}

#[test]
fn start_timestamps_are_stored_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        starts: Starts::Store,
        ..quiet(7_200_000)
    };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let refs = db.resolve_now(&[set(0), set(1)]).unwrap();
    for k in 1..=300i64 {
        let mut batch = Batch::default();
        batch.push(refs[0], k * 1000, k as f64);
        batch.starts.push(k / 100 * 1000);
        batch.histograms.push(HistogramSample {
            series: refs[1],
            ts: k * 1000,
            start: k / 50 * 1000,
            value: int(k as u64, 4),
        });
        assert_eq!(db.append_now(batch).unwrap().rejected, []);
    }
    let check = |db: &Db| {
        let scope = Scope::unbounded(TimeRange::ALL);
        let view = db.open(Arc::clone(&scope)).unwrap();
        let rows = view.select(Select::new(vec![], TimeRange::ALL));
        let all = suite::collect_columns(rows, &scope, TimeRange::ALL).unwrap();
        let floats = &all[&set(0)];
        assert_eq!(floats.len(), 300);
        let histograms = &all[&set(1)].histograms;
        assert_eq!(histograms.len(), 300);
        for i in 0..300 {
            let k = i as i64 + 1;
            assert_eq!(floats.start(i), k / 100 * 1000, "float {i}");
            assert_eq!(histograms.starts[i], k / 50 * 1000, "histogram {i}");
        }
    };
    check(&db);
    drop(db);
    let db = Db::open(dir.path(), options.clone()).unwrap();
    check(&db);
    let matchers = vec![Matcher::equal("i", "5")];
    block_on(db.delete_series(matchers, TimeRange::ALL)).unwrap();
    db.flush_all().unwrap();
    check(&db);
    drop(db);
    check(&Db::open(dir.path(), options).unwrap());
}
