//! Out-of-order samples through the whole database, beside a simple model of it.

use std::collections::BTreeMap;

use model::report::Admin as _;
use model::{Labels, Matcher, Reject, Sample, Scope, Select, Source};
use proptest::prelude::*;

use super::*;

fn set(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn options() -> Options {
    Options {
        min_block: 1000,
        max_block: Some(9000),
        out_of_order_window: 5000,
        ..Options::quiet()
    }
}

type All = BTreeMap<Labels, Vec<Sample>>;

fn all(db: &Db, range: TimeRange) -> All {
    let scope = Scope::unbounded(range);
    let view = db.open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select::new(vec![], range));
    let any = chunk::suite::collect(rows, &scope, range).unwrap();
    // Sorted answers come by another way.
    let mut select = Select::new(vec![], range);
    select.order = model::Order::ByLabels { without: vec![] };
    let sorted = chunk::suite::collect_in_order(view.select(select), &scope, range).unwrap();
    assert!(sorted.is_sorted_by(|a, b| a.0 < b.0));
    let sorted: All = sorted.into_iter().collect();
    assert_eq!(format!("{any:?}"), format!("{sorted:?}"));
    any
}

fn one(db: &Db, i: usize, ts: Millis, value: f64) -> Option<Reject> {
    let took = db.append_samples(&[(set(i), ts, value)]).unwrap();
    took.rejected.first().map(|r| r.reason)
}

fn wbl(dir: &Path) -> Vec<u64> {
    let segments = crate::wal::segments(&dir.join("wbl")).unwrap();
    segments
        .iter()
        .map(|s| s.1.metadata().unwrap().len())
        .collect()
}

#[test]
fn refused_and_taken_as_prometheus_does() {
    let dir = tempfile::tempdir().unwrap();
    let closed = Options {
        out_of_order_window: 0,
        ..options()
    };
    let db = Db::open(dir.path(), closed.clone()).unwrap();
    assert_eq!(one(&db, 0, 10_000, 1.0), None);
    assert_eq!(one(&db, 0, 9_900, 1.0), Some(Reject::OutOfOrder));
    assert_eq!(one(&db, 0, 9_000, 1.0), Some(Reject::OutOfBounds));
    assert!(!dir.path().join("wbl").exists());
    db.set_out_of_order_window(5000).unwrap();
    // The newest sample itself is judged as ever.
    assert_eq!(one(&db, 0, 10_000, 1.0), None);
    assert_eq!(one(&db, 0, 10_000, 2.0), Some(Reject::Duplicate));
    for ts in [9_900, 9_000, 5_000] {
        assert_eq!(one(&db, 0, ts, 7.0), None);
    }
    assert_eq!(one(&db, 0, 4_999, 7.0), Some(Reject::TooOld));
    assert_eq!(one(&db, 1, 4_999, 7.0), Some(Reject::TooOld));
    // A new series, before what the ordered chunks take.
    assert_eq!(one(&db, 1, 5_001, 8.0), None);
    // Of two values at one time the first stays, silently.
    assert_eq!(one(&db, 0, 9_000, 9.0), None);
    let stats = db.stats();
    assert_eq!(stats.ooo_appended.get(), 4);
    assert_eq!((stats.too_old.get(), stats.out_of_order.get()), (2, 1));
    let want = all(&db, TimeRange::ALL);
    assert_eq!(want[&set(0)].len(), 4);
    assert_eq!((want[&set(0)][1].ts, want[&set(0)][1].value), (9_000, 7.0));
    assert_eq!(want[&set(1)][0].value, 8.0);
    assert_eq!(all(&db, TimeRange::new(0, 5_000)).len(), 1);
    assert_eq!(db.ordered_from(), Some(10_000));
    // A smaller window refuses, and keeps what is there.
    db.set_out_of_order_window(100).unwrap();
    assert_eq!(one(&db, 0, 9_800, 1.0), Some(Reject::TooOld));
    drop(db);
    let db = Db::open(dir.path(), closed).unwrap();
    // The one that came twice is in the log too.
    assert_eq!(db.replayed().out_of_order, 5);
    assert_eq!(all(&db, TimeRange::ALL), want);
    assert_eq!(one(&db, 0, 9_900, 1.0), Some(Reject::OutOfOrder));
}

#[test]
fn finished_chunks_lie_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        min_block: 100_000,
        max_block: Some(100_000),
        out_of_order_window: 40_000,
        ..Options::quiet()
    };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    for i in 0..20 {
        assert_eq!(one(&db, i, 40_000, 1.0), None);
        for k in 0..600 {
            // Every value needs its bits.
            let value = (k as f64 * 0.7 + i as f64).sin();
            assert_eq!(one(&db, i, 39_000 - (k * 7919) % 38_000, value), None);
        }
    }
    let want = all(&db, TimeRange::ALL);
    let files = || {
        let files = std::fs::read_dir(dir.path().join("chunks_head")).unwrap();
        files
            .map(|f| f.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    let (bytes, before) = (db.head_bytes(), files());
    db.maintain().unwrap();
    assert_eq!(all(&db, TimeRange::ALL), want);
    let (saved, written) = (bytes - db.head_bytes(), files() - before);
    // 18 of 19 chunks each.
    assert!(saved > 20 * 18 * 32 * 8, "{saved} bytes of {bytes}");
    assert!(written as usize > saved, "{written} bytes written");
    // Once is enough.
    db.maintain().unwrap();
    assert_eq!(files(), before + written);
    // A start makes them anew from the log, and so do deletions.
    drop(db);
    let db = Db::open(dir.path(), options.clone()).unwrap();
    assert_eq!(all(&db, TimeRange::ALL), want);
    db.maintain().unwrap();
    let gone = TimeRange::new(10_000, 20_000);
    let matchers = vec![Matcher::equal("i", "3")];
    futures::executor::block_on(db.delete_series(matchers, gone)).unwrap();
    let mut left = want.clone();
    left.get_mut(&set(3))
        .unwrap()
        .retain(|s| !gone.contains(s.ts));
    assert_eq!(all(&db, TimeRange::ALL), left);
    // The files may go before what is in them lies in a block.
    db.flush_all().unwrap();
    assert_eq!(all(&db, TimeRange::ALL), left);
    drop(db);
    let db = Db::open(dir.path(), options).unwrap();
    assert_eq!(all(&db, TimeRange::ALL), left);
}

#[test]
fn a_cut_writes_them_into_blocks_and_empties_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    for t in 0..60 {
        for i in 0..3 {
            assert_eq!(one(&db, i, 3000 + t * 100, t as f64), None);
        }
        if t >= 10 {
            // 1.05 s behind: across stretches, and some 50 a series.
            assert_eq!(one(&db, t as usize % 2, 1950 + t * 100, -1.0), None);
        }
    }
    // A series that has nothing else.
    assert_eq!(one(&db, 9, 4_000, 5.0), None);
    let want = all(&db, TimeRange::ALL);
    let held = db.open(Scope::unbounded(TimeRange::ALL)).unwrap();
    drop(held);
    let round = db.maintain().unwrap();
    let metas: Vec<_> = db
        .inner
        .layout()
        .blocks
        .iter()
        .map(|b| b.meta().clone())
        .collect();
    assert!(round.cut.len() > 8, "{round:?}");
    assert!(
        metas
            .iter()
            .all(|m| m.min_time % 1000 == 0 && m.max_time % 1000 == 0)
    );
    // Nothing is left but the segment that is open.
    assert_eq!(wbl(dir.path()), [0]);
    assert_eq!(db.inner.head.ooo_range(), None);
    assert_eq!(all(&db, TimeRange::ALL), want);
    // What the head still has is not lost to a block that reaches further.
    let ordered = metas.iter().filter(|m| m.compaction.in_order());
    let end = ordered.map(|m| m.max_time).max().unwrap();
    assert_eq!(blocks::end(&db.inner.layout().blocks), end);
    drop(db);
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(all(&db, TimeRange::ALL), want);
    // The series without ordered samples went once its block was written.
    db.maintain().unwrap();
    assert_eq!(all(&db, TimeRange::ALL), want);
}

/// A merged block has no hint: one that reaches further than the ordered data would make a restart
/// pass over what the log has of that time.
#[test]
fn a_block_that_reaches_into_the_head_is_not_merged() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    for (i, ts) in [(0, 20_130), (3, 20_260), (3, 20_259)] {
        assert_eq!(one(&db, i, ts, 1.0), None);
    }
    assert_eq!(db.flush_all().unwrap().len(), 2);
    assert_eq!(one(&db, 0, 20_390, 1.0), None);
    db.maintain().unwrap();
    let want = all(&db, TimeRange::ALL);
    drop(db);
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(all(&db, TimeRange::ALL), want);
    // Once the head is cut up to its end it is.
    assert_eq!(one(&db, 0, 23_000, 1.0), None);
    assert_eq!(db.maintain().unwrap().merged.len(), 1);
}

#[test]
fn deleted_ones_stay_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    one(&db, 0, 10_000, 1.0);
    for t in 0..40 {
        one(&db, 0, 6_000 + t * 10, t as f64);
    }
    let matchers = vec![Matcher::equal("i", "0")];
    let range = TimeRange::new(6_100, 6_300);
    let admin: &dyn model::report::Admin = &db;
    futures::executor::block_on(admin.delete_series(matchers, range)).unwrap();
    let want = all(&db, TimeRange::ALL);
    assert_eq!(want[&set(0)].len(), 1 + 40 - 21);
    one(&db, 0, 6_200, 99.0);
    let want: All = {
        let mut w = want;
        let list = w.get_mut(&set(0)).unwrap();
        list.push(Sample {
            ts: 6_200,
            value: 99.0,
        });
        list.sort_by_key(|s| s.ts);
        w
    };
    assert_eq!(all(&db, TimeRange::ALL), want);
    drop(db);
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(all(&db, TimeRange::ALL), want);
    let name = futures::executor::block_on(model::report::Admin::snapshot(&db, false)).unwrap();
    let copy = Db::open(dir.path().join("snapshots").join(name), options()).unwrap();
    assert_eq!(all(&copy, TimeRange::ALL), want);
}

#[test]
fn damage_in_their_log_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..2i64 {
        let db = Db::open(dir.path(), options()).unwrap();
        one(&db, 0, 10_000, 1.0);
        for t in 0..20 {
            one(&db, 0, 6_000 + round * 1000 + t * 10, t as f64);
        }
    }
    let path = dir.path().join("wbl/00000000");
    let mut bytes = std::fs::read(&path).unwrap();
    let n = bytes.len();
    bytes[n / 2] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(db.replayed().damaged.len(), 1);
    assert!(dir.path().join("wbl/00000000.bad").exists());
    assert!(
        (25..35).contains(&db.replayed().out_of_order),
        "{:?}",
        db.replayed()
    );
}

#[test]
fn histograms_come_late_too() {
    use model::histogram::{IntBuckets, IntHistogram, Span};
    let histogram = |n: u64| {
        let positive = IntBuckets {
            spans: vec![Span {
                offset: 0,
                length: 1,
            }],
            deltas: vec![n as i64],
        };
        IntHistogram {
            count: n,
            sum: n as f64,
            positive,
            ..IntHistogram::default()
        }
    };
    let give = |db: &Db, ts: Millis, n: u64| {
        let refs = db.resolve_now(&[set(0)]).unwrap();
        let mut batch = Batch::default();
        batch.histograms.push(model::sink::HistogramSample {
            series: refs[0],
            ts,
            start: 0,
            value: model::histogram::Histogram::Int(histogram(n)),
        });
        let took = db.append_now(batch).unwrap();
        took.rejected.first().map(|r| r.reason)
    };
    let chunks = |db: &Db| {
        let scope = Scope::unbounded(TimeRange::ALL);
        let view = db.open(Arc::clone(&scope)).unwrap();
        let rows = view.select(Select::new(vec![], TimeRange::ALL));
        let mut sums: BTreeMap<Millis, f64> = BTreeMap::new();
        for batch in chunk::suite::batches(rows).unwrap() {
            for c in batch.chunks_of(0) {
                for row in chunk::histogram::rows(c.encoding, batch.bytes_of(c)).unwrap() {
                    sums.insert(row.ts, row.value.sum());
                }
            }
        }
        sums
    };
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    let mut want = BTreeMap::new();
    for (ts, n) in [(10_000, 9), (9_000, 3), (7_000, 5), (8_000, 4), (9_900, 1)] {
        assert_eq!(give(&db, ts, n), None);
        want.insert(ts, n as f64);
    }
    assert_eq!(give(&db, 4_999, 1), Some(Reject::TooOld));
    assert_eq!(chunks(&db), want);
    drop(db);
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(db.replayed().out_of_order, 4);
    assert_eq!(chunks(&db), want);
    db.flush_all().unwrap();
    let layout = db.inner.layout();
    let metas = layout.blocks.iter().map(|b| b.meta());
    let late = metas.filter(|m| !m.compaction.in_order());
    assert_eq!(late.map(|m| m.stats.num_samples).sum::<u64>(), 4);
    assert_eq!(chunks(&db), want);
}

#[derive(Clone, Debug)]
enum Step {
    /// Samples at these distances behind a clock that each step moves on.
    Append(Vec<(usize, Millis)>),
    Window(Millis),
    Maintain,
    Flush,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0usize..4, prop_oneof![Just(0), 0i64..300, 0i64..6000]);
    prop_oneof![
        12 => prop::collection::vec(row, 1..20).prop_map(Step::Append),
        1 => prop_oneof![Just(0), Just(500), Just(5000)].prop_map(Step::Window),
        2 => Just(Step::Maintain),
        1 => Just(Step::Flush),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn like_a_map(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options();
        let mut db = Db::open(dir.path(), options.clone()).unwrap();
        let mut model: BTreeMap<Labels, BTreeMap<Millis, f64>> = BTreeMap::new();
        let (mut now, mut n) = (20_000, 0.0);
        for step in steps {
            match step {
                Step::Append(rows) => {
                    now += 130;
                    let mut batch = Vec::new();
                    for (i, behind) in rows {
                        // A time once: which of two values an answer shows is nobody's promise.
                        let ts = now - behind;
                        let taken = model.get(&set(i)).is_some_and(|s| s.contains_key(&ts));
                        if !taken && !batch.iter().any(|b: &(Labels, Millis, f64)| b.0 == set(i) && b.1 == ts) {
                            n += 1.0;
                            batch.push((set(i), ts, n));
                        }
                    }
                    let took = db.append_samples(&batch).unwrap();
                    for r in &took.rejected {
                        let open = options.out_of_order_window > 0;
                        prop_assert_eq!(r.reason == Reject::TooOld, open, "{:?}", r);
                    }
                    for (row, (labels, ts, value)) in batch.into_iter().enumerate() {
                        if took.rejected.iter().all(|r| r.row != row) {
                            model.entry(labels).or_default().insert(ts, value);
                        }
                    }
                }
                Step::Window(window) => {
                    options.out_of_order_window = window;
                    db.set_out_of_order_window(window).unwrap();
                }
                Step::Maintain => drop(db.maintain().unwrap()),
                Step::Flush => drop(db.flush_all().unwrap()),
                Step::Restart => {
                    drop(db);
                    db = Db::open(dir.path(), options.clone()).unwrap();
                    prop_assert_eq!(db.replayed().unknown + db.replayed().out_of_order_unknown, 0);
                }
            }
            let want: All = model
                .iter()
                .map(|(l, s)| (l.clone(), s.iter().map(|(&ts, &value)| Sample { ts, value }).collect()))
                .collect();
            prop_assert_eq!(all(&db, TimeRange::ALL), want);
        }
    }
}
