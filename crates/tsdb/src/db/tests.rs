use model::{Labels, Reject};

use super::*;

fn set(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn rows(t: Millis, n: usize) -> Vec<(Labels, Millis, f64)> {
    (0..n).map(|i| (set(i), t, (t + i as i64) as f64)).collect()
}

#[test]
fn what_was_appended_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let db = Db::open(dir.path(), Options::quiet()).unwrap();
        assert_eq!(db.replayed().samples, round * 70);
        assert_eq!(db.replayed().series, if round == 0 { 0 } else { 7 });
        for t in 0..10 {
            let took = db
                .append_samples(&rows(round as i64 * 1000 + t, 7))
                .unwrap();
            assert_eq!(took.samples, 7);
        }
        let late = db.append_samples(&rows(round as i64 * 1000, 1)).unwrap();
        assert_eq!(late.rejected[0].reason, Reject::OutOfOrder);
    }
}

#[test]
fn a_log_may_give_series_any_numbers() {
    use crate::wal::{Records, Wal, WalOptions, record};
    use block::fs::OsFs;

    let dir = tempfile::tempdir().unwrap();
    let far = u64::from(u32::MAX) - 300;
    let mut records = Records::new(Default::default());
    record::begin_series(records.out());
    record::put_label_set(records.out(), far, &set(0));
    record::put_label_set(records.out(), 7, &set(1));
    record::put_label_set(records.out(), u64::MAX - 1, &set(2));
    records.end();
    for t in 1..4 {
        let w = record::SamplesWriter::begin(records.out(), far, t);
        for series in [far, 7, u64::MAX - 1, far + 9, 1 << 40] {
            w.push(records.out(), series, t, 1.0);
        }
        records.end();
    }
    let (folder, fs) = (dir.path().join("wal"), Arc::new(OsFs));
    let wal = Wal::open(&folder, WalOptions::default(), fs, Arc::default()).unwrap();
    wal.settle(wal.append(&mut records).unwrap()).unwrap();
    drop(wal);
    for _ in 0..2 {
        let db = Db::open(dir.path(), Options::quiet()).unwrap();
        let replayed = db.replayed();
        let found = (replayed.series, replayed.samples, replayed.unknown);
        assert_eq!(found, (3, 15, 6));
    }
}

#[test]
fn the_lock_keeps_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    assert!(matches!(
        Db::open(dir.path(), Options::quiet()),
        Err(Error::Locked(_))
    ));
    drop(db);
    assert!(!dir.path().join("lock").exists());
    Db::open(dir.path(), Options::quiet()).unwrap();
}

#[test]
fn leftovers_are_removed_and_rubbish_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "01M83373T6A2J79QZ1V7RA5WS6.tmp-for-creation",
        "01M83373T6A2J79QZ1V7RA5WS7.tmp-for-deletion",
        "wal/checkpoint.00000001.tmp",
        "chunk_snapshot.000001.0000000001",
        "chunks_head",
    ] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("000001"), "long enough").unwrap();
    }
    std::fs::create_dir(dir.path().join("unrelated")).unwrap();
    let _db = Db::open(dir.path(), Options::quiet()).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    // A damaged file of chunks is damage: then no snapshot is thrown away either.
    let snapshot = "chunk_snapshot.000001.0000000001.bad";
    assert_eq!(left, [snapshot, "chunks_head", "lock", "unrelated", "wal"]);
    assert!(dir.path().join("chunks_head/000001.bad").exists());
}

#[test]
fn damage_in_the_middle_costs_only_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    for t in 0..3 {
        let db = Db::open(dir.path(), Options::quiet()).unwrap();
        for k in 0..10 {
            db.append_samples(&rows(t * 1000 + k, 5)).unwrap();
        }
    }
    let path = dir.path().join("wal/00000001");
    let mut bytes = std::fs::read(&path).unwrap();
    let n = bytes.len();
    bytes[n - 40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    assert_eq!(db.replayed().damaged.len(), 1);
    assert!(dir.path().join("wal/00000001.bad").exists());
    assert!((120..150).contains(&db.replayed().samples));
    assert_eq!(db.head_range(), Some(TimeRange::new(0, 2009)));
    drop(db);
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    assert!(db.replayed().damaged.is_empty());
}

#[test]
fn a_closed_database_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    db.close().unwrap();
    assert!(db.append_samples(&rows(0, 1)).is_err());
}

#[test]
fn samples_whose_labels_are_lost_find_no_other_owner() {
    let dir = tempfile::tempdir().unwrap();
    {
        let db = Db::open(dir.path(), Options::quiet()).unwrap();
        db.append_samples(&rows(1000, 2)).unwrap();
        db.inner.wal.rotate().unwrap();
        // A third series: its labels in one segment, its second sample in the next one.
        db.append_samples(&rows(2000, 3)).unwrap();
        db.inner.wal.rotate().unwrap();
        db.append_samples(&rows(3000, 3)).unwrap();
    }
    let path = dir.path().join("wal/00000001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    {
        let db = Db::open(dir.path(), Options::quiet()).unwrap();
        assert_eq!(db.replayed().unknown, 1);
        assert_eq!(db.replayed().damaged.len(), 1);
        db.append_samples(&[(set(77), 4000, 4.0)]).unwrap();
    }
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    let all = all(&db);
    let mine: Vec<_> = all[&set(77)].iter().map(|s| (s.ts, s.value)).collect();
    assert_eq!(mine, [(4000, 4.0)]);
}

#[test]
fn what_is_refused_reaches_neither_log_nor_memory() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    db.append_samples(&rows(1000, 3)).unwrap();
    let bytes = super::local::size(&dir.path().join("wal")).unwrap();
    db.refuse(Some("too much".to_owned()));
    for refused in [rows(2000, 3), rows(2000, 5)] {
        let e = db.append_samples(&refused).unwrap_err();
        assert!(
            matches!(
                &e,
                SinkError::Failed {
                    kind: model::Kind::Limit,
                    ..
                }
            ),
            "{e:?}"
        );
        assert!(e.to_string().contains("too much"));
    }
    assert_eq!(super::local::size(&dir.path().join("wal")).unwrap(), bytes);
    assert_eq!(all(&db).values().flatten().count(), 3);
    db.refuse(None);
    db.append_samples(&rows(2000, 5)).unwrap();
    assert_eq!(all(&db).values().flatten().count(), 8);
}

#[test]
fn it_is_a_sink_and_a_source() {
    use std::collections::BTreeMap;

    use model::{Sample, Scope, Select, Source};

    // Folders live as long as the test.
    let dirs = std::cell::RefCell::new(Vec::new());
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options::quiet()).unwrap();
        dirs.borrow_mut().push(dir);
        db
    };
    chunk::suite::sink("Db", make, |db| {
        let scope = Scope::unbounded(TimeRange::ALL);
        let view = db.open(Arc::clone(&scope)).unwrap();
        let rows = view.select(Select::new(vec![], TimeRange::ALL));
        chunk::suite::collect(rows, &scope, TimeRange::ALL).unwrap()
    });
    chunk::suite::source("Db", |series| {
        let db = make();
        let mut by_time: BTreeMap<i64, Vec<(Labels, Millis, f64)>> = BTreeMap::new();
        for (labels, samples) in series {
            for Sample { ts, value } in samples {
                by_time
                    .entry(ts)
                    .or_default()
                    .push((labels.clone(), ts, value));
            }
        }
        for rows in by_time.values() {
            let took = db.append_samples(rows).unwrap();
            assert_eq!(took.rejected, []);
        }
        Arc::new(db)
    });
}

/// All samples, as a query gets them.
fn all(db: &Db) -> std::collections::BTreeMap<Labels, Vec<model::Sample>> {
    use model::{Scope, Select, Source};
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = db.open(Arc::clone(&scope)).unwrap();
    let mut select = Select::new(vec![], TimeRange::ALL);
    select.hints.step = 1;
    chunk::suite::collect(view.select(select), &scope, TimeRange::ALL).unwrap()
}

fn small() -> Options {
    Options {
        min_block: 1000,
        max_block: Some(1000),
        patience: std::time::Duration::from_millis(50),
        ..Options::quiet()
    }
}

#[test]
fn samples_may_come_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    let now = model::TimeRange::new(db.inner.head.now(), Millis::MAX);
    let may = |range| model::Source::extent(&db).may_hold(range, &[]);
    assert!(may(now), "it is empty and may not be in a moment");
    assert!(!may(model::TimeRange::new(0, 1000)));
    db.append_samples(&rows(500, 1)).unwrap();
    assert!(may(now) && may(model::TimeRange::new(0, 1000)));
    assert!(!may(model::TimeRange::new(0, 499)));
}

#[test]
fn blocks_are_cut_and_nothing_changes_for_queries() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let mut cut = 0;
    for t in 0..100 {
        db.append_samples(&rows(t * 100, 20 + t as usize)).unwrap();
        if t % 10 == 9 {
            let before = all(&db);
            cut += db.maintain().unwrap().cut.len();
            assert_eq!(all(&db), before, "at {t}");
        }
    }
    assert_eq!(cut, 9);
    assert_eq!(db.head_range(), Some(TimeRange::new(9000, 9900)));
    let before = all(&db);
    assert_eq!(before[&set(0)].len(), 100);
    let segments = wal_files(&db);
    assert!(
        segments.iter().any(|s| s.starts_with("checkpoint.")),
        "{segments:?}"
    );
    // A sample older than the head is refused.
    let late = db.append_samples(&[(set(500), 8999, 1.0)]).unwrap();
    assert_eq!(late.rejected[0].reason, Reject::OutOfBounds);
    drop(db);
    let db = Db::open(dir.path(), small()).unwrap();
    assert!(db.replayed().damaged.is_empty());
    assert_eq!(all(&db), before);
    assert_eq!(db.flush_all().unwrap().len(), 1);
    assert_eq!(all(&db), before);
    assert_eq!(db.head_range(), None);
    db.append_samples(&rows(9950, 3)).unwrap();
    let before = all(&db);
    drop(db);
    let db = Db::open(dir.path(), small()).unwrap();
    assert_eq!(all(&db), before);
}

fn wal_files(db: &Db) -> Vec<String> {
    std::fs::read_dir(db.dir().join("wal"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn churn_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    for t in 0..60i64 {
        let rows: Vec<_> = (0..50)
            .map(|i| (set(i + 10 * t as usize), t * 100, i as f64))
            .collect();
        db.append_samples(&rows).unwrap();
        if t % 5 == 0 {
            db.maintain().unwrap();
        }
    }
    let before = all(&db);
    let series = db.stats().series.get();
    assert!(series < 300, "{series} of 640 series are left");
    drop(db);
    let db = Db::open(dir.path(), small()).unwrap();
    assert_eq!(db.replayed().unknown, 0, "a checkpoint lost series");
    assert_eq!(all(&db), before);
}

#[test]
fn a_view_keeps_what_it_began_with() {
    use model::{Scope, Select, Source};
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    for t in 0..40 {
        db.append_samples(&rows(t * 100, 5)).unwrap();
    }
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = db.open(Arc::clone(&scope)).unwrap();
    let before = all(&db);
    // The first block is written, but the head waits for the view.
    assert_eq!(db.maintain().unwrap().cut.len(), 1);
    assert_eq!(db.maintain().unwrap().cut.len(), 0);
    let rows = view.select(Select::new(vec![], TimeRange::ALL));
    drop(view);
    assert_eq!(db.maintain().unwrap().cut.len(), 0, "the rows hold on too");
    let seen = chunk::suite::collect(rows, &scope, TimeRange::ALL).unwrap();
    assert_eq!(seen, before);
    assert_eq!(db.maintain().unwrap().cut.len(), 2);
    assert_eq!(all(&db), before);
}

#[test]
fn old_blocks_go_unless_they_are_held() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        retention: Retention::time(3000),
        ..small()
    };
    let db = Db::open(dir.path(), options).unwrap();
    let held: Arc<Mutex<Option<ulid::Ulid>>> = Arc::default();
    let asked = Arc::clone(&held);
    db.set_hold(Some(Arc::new(move |ulid| *asked.lock() == Some(ulid))));
    for t in 0..30 {
        db.append_samples(&rows(t * 100, 5)).unwrap();
    }
    let first = db.maintain().unwrap();
    *held.lock() = first.cut.first().copied();
    for t in 30..80 {
        db.append_samples(&rows(t * 100, 5)).unwrap();
        db.maintain().unwrap();
    }
    let left = model::report::HeadReport::local_blocks(&db);
    assert!(left.iter().any(|b| b.shipped == Some(false) && b.min == 0));
    assert!(left.iter().all(|b| b.min == 0 || b.max > 4000), "{left:?}");
    *held.lock() = None;
    assert_eq!(db.maintain().unwrap().deleted, first.cut[..1]);
    assert!(!db.dir().join(first.cut[0].to_string()).exists());
}

#[test]
fn size_is_kept_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        retention: Retention::bytes(30_000),
        ..small()
    };
    let db = Db::open(dir.path(), options).unwrap();
    for t in 0..200 {
        db.append_samples(&rows(t * 100, 20)).unwrap();
        if t % 10 == 0 {
            db.maintain().unwrap();
        }
    }
    db.maintain().unwrap();
    let left = model::report::HeadReport::local_blocks(&db);
    let bytes: u64 = left.iter().map(|b| b.bytes).sum();
    assert!(
        bytes <= 30_000 && !left.is_empty(),
        "{bytes} bytes in {}",
        left.len()
    );
    assert!(left[0].min > 0);
}

#[test]
fn blocks_merge_by_threes() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_block: Some(9000),
        ..small()
    };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let mut merged = 0;
    for t in 0..250 {
        db.append_samples(&rows(t * 100, 7)).unwrap();
        let round = db.maintain().unwrap();
        merged += round.merged.len();
    }
    assert!(merged > 5);
    let levels: Vec<u32> = model::report::HeadReport::local_blocks(&db)
        .iter()
        .map(|b| b.level)
        .collect();
    assert!(levels.contains(&3) && levels.contains(&1), "{levels:?}");
    let before = all(&db);
    assert!(before.values().all(|s| s.len() == 250));
    drop(db);
    assert_eq!(all(&Db::open(dir.path(), options).unwrap()), before);
}

#[test]
fn a_damaged_block_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    for t in 0..50 {
        db.append_samples(&rows(t * 100, 5)).unwrap();
    }
    let cut = db.maintain().unwrap().cut;
    drop(db);
    std::fs::write(
        dir.path().join(cut[0].to_string()).join("index"),
        b"rubbish",
    )
    .unwrap();
    std::fs::remove_file(dir.path().join(cut[1].to_string()).join("meta.json")).unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    assert_eq!(db.replayed().damaged.len(), 2);
    assert!(dir.path().join(format!("{}.corrupt", cut[0])).exists());
    assert_eq!(all(&db)[&set(0)].len(), 50 - 20);
}

#[test]
fn what_was_deleted_from_a_file_stays_deleted_and_later_samples_are_replayed() {
    use futures::executor::block_on;
    use model::Matcher;
    use model::report::Admin;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    for t in 0..300 {
        db.append_samples(&rows(t * 1000, 3)).unwrap();
    }
    // What is finished goes to a file.
    db.maintain().unwrap();
    assert!(dir.path().join("chunks_head/000001").exists());
    let one = vec![Matcher::equal("i", "1")];
    block_on(db.delete_series(one, TimeRange::new(100_000, Millis::MAX))).unwrap();
    // Those that lie before what the file has are not taken, though they were deleted.
    for t in 0..400 {
        let _ = db.append_samples(&rows(100_500 + t * 1000, 2));
    }
    let before = all(&db);
    assert!(before[&set(1)].len() > 100 && before[&set(2)].len() == 300);
    drop(db);
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    assert_eq!(all(&db), before);
}

#[test]
fn what_is_deleted_stays_deleted() {
    use futures::executor::block_on;
    use model::Matcher;
    use model::report::Admin;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    for t in 0..40 {
        db.append_samples(&rows(t * 100, 5)).unwrap();
    }
    db.maintain().unwrap();
    let first = |i: &str| vec![Matcher::equal("i", i)];
    block_on(db.delete_series(first("1"), TimeRange::ALL)).unwrap();
    block_on(db.delete_series(first("2"), TimeRange::new(500, 3500))).unwrap();
    db.append_samples(&rows(4000, 5)).unwrap();
    let check = |db: &Db| {
        let all = all(db);
        assert_eq!(all[&set(0)].len(), 41);
        assert_eq!(all[&set(1)].len(), 1);
        let kept: Vec<i64> = all[&set(2)].iter().map(|s| s.ts).collect();
        assert!(
            kept.iter().all(|t| !(500..=3500).contains(t)) && kept.len() == 10,
            "{kept:?}"
        );
    };
    check(&db);
    let name = block_on(db.snapshot(false)).unwrap();
    drop(db);
    let db = Db::open(dir.path(), small()).unwrap();
    check(&db);
    block_on(db.clean_tombstones()).unwrap();
    check(&db);
    check(&Db::open(dir.path().join("snapshots").join(name), small()).unwrap());
}

/// The series of a select batch by batch in the order of the numbers, cursors being asked in the
/// order that `turns` gives.
fn numbered(db: &Db, range: TimeRange, mut turns: impl FnMut(usize) -> usize) -> Vec<Vec<Labels>> {
    use model::{Rows, Scope, Select, Source};
    let scope = Scope::unbounded(range);
    let view = db.open(Arc::clone(&scope)).unwrap();
    let mut select = Select::new(vec![], range);
    select.hints.step = 1;
    let Rows::Cursors(mut cursors) = view.select(select) else {
        panic!("a database has cursors");
    };
    let mut batches = std::collections::BTreeMap::new();
    while !cursors.is_empty() {
        let turn = turns(cursors.len());
        let Some(batch) = cursors[turn].next().unwrap() else {
            cursors.remove(turn);
            continue;
        };
        let series = (0..batch.len()).map(|i| batch.label_set(i, &scope.symbols));
        let number = cursors[turn].number().unwrap();
        let same = batches.insert(number, series.collect());
        assert_eq!(same, None, "two batches have one number");
    }
    batches.into_values().collect()
}

#[test]
fn batches_are_the_same_whichever_cursor_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    for t in 0..24 {
        // Half of the series end early.
        let n = if t < 12 { 2100 } else { 1050 };
        db.append_samples(&rows(t * 100, n)).unwrap();
    }
    db.maintain().unwrap();
    let (head, both, block) = ((2000, 2300), (0, 2300), (0, 900));
    for (range, series) in [(head, 1050), (both, 2100), (block, 2100)] {
        let range = TimeRange::new(range.0, range.1);
        let first = numbered(&db, range, |_| 0);
        assert_eq!(first.iter().flatten().count(), series);
        assert!(first.len() > 4, "{} batches", first.len());
        let mut state = 1u64;
        for _ in 0..10 {
            let again = numbered(&db, range, |n| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as usize % n
            });
            assert_eq!(again, first);
        }
    }
}
