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
fn leftovers_are_removed_and_chunk_files_retired() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "01M83373T6A2J79QZ1V7RA5WS6.tmp-for-creation",
        "01M83373T6A2J79QZ1V7RA5WS7.tmp-for-deletion",
        "wal/checkpoint.00000001.tmp",
        "chunks_head",
    ] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("000001"), "x").unwrap();
    }
    std::fs::create_dir(dir.path().join("unrelated")).unwrap();
    let _db = Db::open(dir.path(), Options::quiet()).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["lock", "unrelated", "wal"]);
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
