//! Local blocks: merged, kept, held, set aside, deleted, copied.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use model::report::{Admin as _, HeadReport as _};
use model::{Labels, Matcher, Millis, TimeRange};
use tsdb::{Db, Options, Retention, Space};

use crate::{Series, all, copy};

const HOUR: Millis = 3_600_000;
/// The last block ends with its last sample, so much before the hour.
const CRUMB: Millis = 60_000;
/// A time that is a border of all ranges.
const START: Millis = 1_700_000_000_000 / (162 * HOUR) * (162 * HOUR);

fn set(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", "some_metric".to_owned()),
        ("i", i.to_string()),
        ("quote", "a\"b\\c\n".to_owned()),
    ])
}

/// Samples of `series` every minute and `shift` ms from `from` to `to` (hours after the start).
fn fill(db: &Db, series: std::ops::Range<usize>, (from, to): (Millis, Millis), shift: Millis) {
    let mut t = START + from * HOUR;
    while t < START + to * HOUR {
        let rows: Vec<_> = series
            .clone()
            .map(|i| {
                (
                    set(i),
                    t + shift,
                    (t / 60_000 % 977) as f64 + i as f64 / 8.0,
                )
            })
            .collect();
        assert_eq!(db.append_samples(&rows).unwrap().rejected, []);
        t += 60_000;
    }
}

fn options() -> Options {
    Options {
        patience: Duration::from_millis(50),
        max_block: Some(2 * HOUR),
        ..Options::quiet()
    }
}

/// Blocks of two hours in `dir`, and nothing else.
fn blocks(dir: &Path, series: std::ops::Range<usize>, hours: (Millis, Millis), shift: Millis) {
    let own = tempfile::tempdir().unwrap();
    let db = Db::open(own.path(), options()).unwrap();
    fill(&db, series, hours, shift);
    for ulid in db.flush_all().unwrap() {
        let name = ulid.to_string();
        copy(&own.path().join(&name), &dir.join(name));
    }
}

/// What each promtool that is there says.
fn promtools(args: &[&str]) -> Vec<(String, String)> {
    let newer = std::env::var("EPIMETHEUS_PROMTOOL3").unwrap_or_else(|_| "promtool3".into());
    let mut outputs = Vec::new();
    for tool in ["promtool".to_owned(), newer] {
        match Command::new(&tool).args(args).output() {
            Ok(out) => {
                let error = String::from_utf8_lossy(&out.stderr).into_owned();
                assert!(out.status.success(), "{tool} {args:?}: {error}");
                outputs.push((tool, String::from_utf8(out.stdout).unwrap()));
            }
            Err(e) => println!("SKIPPED: {tool}: {e}"),
        }
    }
    outputs
}

fn dump(dir: &Path) -> Vec<(String, Vec<String>)> {
    // A promtool wants one.
    std::fs::create_dir_all(dir.join("wal")).unwrap();
    promtools(&["tsdb", "dump", dir.to_str().unwrap()])
        .into_iter()
        .map(|(tool, text)| {
            let mut lines: Vec<String> = text.lines().map(String::from).collect();
            lines.sort();
            (tool, lines)
        })
        .collect()
}

fn levels(db: &Db) -> Vec<u32> {
    db.local_blocks().iter().map(|b| b.level).collect()
}

fn samples(series: &Series) -> usize {
    series.values().map(Vec::len).sum()
}

#[test]
fn overlapping_blocks_become_one_and_prometheus_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    // The same, the same series at other times, other series, and a long one over all of them.
    blocks(dir.path(), 0..5, (0, 6), 0);
    blocks(dir.path(), 0..5, (2, 4), 0);
    blocks(dir.path(), 2..7, (2, 6), 7_000);
    blocks(dir.path(), 9..11, (3, 4), 0);
    let before = dump(dir.path());
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    let seen = all(&db);
    assert_eq!(samples(&seen), 5 * 360 + 5 * 240 + 2 * 60);
    let round = db.maintain().unwrap();
    assert!(!round.merged.is_empty());
    assert_eq!(all(&db), seen);
    let list = db.local_blocks();
    assert!(list.windows(2).all(|w| w[0].max <= w[1].min), "{list:?}");
    assert!(db.stats().storage.vertical.get() > 0);
    drop(db);
    assert_eq!(dump(dir.path()), before);
    assert_eq!(all(&Db::open(dir.path(), Options::quiet()).unwrap()), seen);
}

#[test]
fn overlapping_blocks_stay_when_they_must() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..3, (0, 2), 0);
    blocks(dir.path(), 1..4, (0, 2), 500);
    let options = Options {
        merge_overlapping: false,
        ..options()
    };
    let db = Db::open(dir.path(), options).unwrap();
    let seen = all(&db);
    assert_eq!(db.maintain().unwrap().merged, []);
    assert_eq!(levels(&db), [1, 1]);
    assert_eq!(all(&db), seen);
}

#[test]
fn long_merges_are_read_by_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..20, (0, 26), 0);
    let before = dump(dir.path());
    let options = Options {
        max_block: Some(18 * HOUR),
        ..options()
    };
    let db = Db::open(dir.path(), options).unwrap();
    let seen = all(&db);
    db.maintain().unwrap();
    assert_eq!(levels(&db), [3, 2, 1]);
    assert_eq!(all(&db), seen);
    drop(db);
    assert_eq!(dump(dir.path()), before);
    for (tool, text) in promtools(&["tsdb", "list", dir.path().to_str().unwrap()]) {
        assert_eq!(text.lines().count(), 4, "{tool}: {text}");
        assert!(text.contains("18h0m0s"), "{tool}: {text}");
    }
}

#[test]
fn what_is_to_be_shipped_is_not_merged() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..3, (0, 10), 0);
    let options = Options {
        max_block: Some(6 * HOUR),
        ..options()
    };
    let db = Db::open(dir.path(), options).unwrap();
    let seen = all(&db);
    let first = db.local_blocks()[1].ulid.to_string();
    let held = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&held);
    db.set_hold(Some(Arc::new(move |ulid| {
        ulid.to_string() == first && asked.load(Ordering::Relaxed)
    })));
    assert_eq!(db.maintain().unwrap().merged, []);
    let stats = &db.stats().storage;
    assert_eq!(stats.unshipped.get(), 1);
    assert!(stats.unshipped_age.get() >= 0.0);
    held.store(false, Ordering::Relaxed);
    assert_eq!(db.maintain().unwrap().merged.len(), 1);
    assert_eq!(levels(&db), [2, 1, 1]);
    assert_eq!((stats.unshipped.get(), stats.unshipped_age.get()), (0, 0.0));
    assert_eq!(all(&db), seen);
}

#[test]
fn what_another_ships_is_not_merged_but_may_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..3, (0, 10), 0);
    let options = Options {
        max_block: Some(6 * HOUR),
        delay: Some(Arc::new(|_| true)),
        retention: Retention::time(4 * HOUR - CRUMB),
        ..options()
    };
    let db = Db::open(dir.path(), options).unwrap();
    let round = db.maintain().unwrap();
    assert_eq!(round.merged, []);
    assert_eq!(round.deleted.len(), 3);
}

/// A disk whose size and free space a test sets.
#[derive(Clone)]
struct Disk(Arc<(AtomicU64, AtomicU64)>);

impl Disk {
    fn new(total: u64, available: u64) -> Self {
        Self(Arc::new((total.into(), available.into())))
    }

    fn options(&self) -> Options {
        let disk = self.clone();
        Options {
            disk: Arc::new(move |_| {
                Ok(Space {
                    total: disk.0.0.load(Ordering::Relaxed),
                    available: disk.0.1.load(Ordering::Relaxed),
                })
            }),
            ..options()
        }
    }
}

#[test]
fn every_rule_of_retention_can_change_while_running() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..3, (0, 20), 0);
    let disk = Disk::new(0, 0);
    let db = Db::open(dir.path(), disk.options()).unwrap();
    let stats = &db.stats().storage;
    let bytes = |db: &Db| db.local_blocks().iter().map(|b| b.bytes).sum::<u64>();
    assert_eq!(db.maintain().unwrap().deleted, []);
    assert_eq!(levels(&db).len(), 10);
    // By time.
    db.set_retention(Retention::time(16 * HOUR - CRUMB));
    assert_eq!(db.maintain().unwrap().deleted.len(), 2);
    assert_eq!(
        (stats.time_retentions.get(), stats.size_retentions.get()),
        (1, 0)
    );
    assert_eq!(stats.limits.0.get(), 16 * 3600 - 60);
    // By size: everything counts, and one byte too few takes one block.
    let wal: u64 = std::fs::read_dir(dir.path().join("wal"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    let now = bytes(&db) + wal;
    db.set_retention(Retention::bytes(now));
    assert_eq!(db.maintain().unwrap().deleted, []);
    db.set_retention(Retention::bytes(now - 1));
    assert_eq!(db.maintain().unwrap().deleted.len(), 1);
    assert_eq!(
        (stats.time_retentions.get(), stats.size_retentions.get()),
        (1, 1)
    );
    // By share, which goes before the size.
    disk.0
        .0
        .store((bytes(&db) + wal - 1) * 2, Ordering::Relaxed);
    disk.0.1.store(u64::MAX, Ordering::Relaxed);
    let half = Retention {
        time: 0,
        bytes: 1,
        percent: 50.0,
    };
    db.set_retention(half);
    assert_eq!(db.maintain().unwrap().deleted.len(), 1);
    assert_eq!(stats.limits.2.get(), 50.0);
    assert_eq!(levels(&db).len(), 6);
    db.set_retention(Retention::NONE);
    assert_eq!(db.maintain().unwrap().deleted, []);
    assert_eq!(db.retention(), Retention::NONE);
    let left = all(&db);
    assert_eq!(left[&set(0)].first().unwrap().ts, START + 8 * HOUR);
}

#[test]
fn only_a_full_disk_takes_what_was_not_shipped() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..3, (0, 10), 0);
    let disk = Disk::new(1 << 40, 1 << 39);
    let db = Db::open(dir.path(), disk.options()).unwrap();
    db.set_hold(Some(Arc::new(|_| true)));
    db.set_retention(Retention::time(6 * HOUR - CRUMB));
    let oldest = db.local_blocks()[0].ulid.clone();
    assert_eq!(db.maintain().unwrap().deleted, []);
    let stats = &db.stats().storage;
    assert_eq!(stats.held.get(), 2);
    assert!(db.local_blocks().iter().all(|b| b.shipped == Some(false)));
    disk.0.1.store(1 << 20, Ordering::Relaxed);
    let gone = db.maintain().unwrap().deleted;
    assert_eq!(gone.len(), 2, "not more than what is beyond the retention");
    let lost = db.absent_blocks().lost;
    assert_eq!(lost[0].ulid, oldest, "the oldest goes first");
    assert_eq!((lost[0].min, lost[0].max), (START, START + 2 * HOUR));
    assert_eq!(lost.len(), 2);
    assert_eq!(stats.held.get(), 0);
    assert_eq!(levels(&db).len(), 3);
}

#[test]
fn a_block_that_cannot_be_merged_is_marked_and_goes_on_answering() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..3, (0, 16), 0);
    let options = Options {
        max_block: Some(6 * HOUR),
        ..options()
    };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let second = db.local_blocks()[1].ulid.to_string();
    drop(db);
    let segment = dir.path().join(&second).join("chunks/000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.len() - 30;
    bytes[at] ^= 0x55;
    std::fs::write(&segment, bytes).unwrap();
    let db = Db::open(dir.path(), options.clone()).unwrap();
    assert!(db.maintain().is_err());
    assert_eq!(db.stats().storage.compactions_failed.get(), 1);
    // The next round leaves them alone and goes on behind them.
    assert_eq!(db.maintain().unwrap().merged.len(), 1);
    assert_eq!(levels(&db), [1, 1, 1, 2, 1, 1]);
    let meta = std::fs::read_to_string(dir.path().join(&second).join("meta.json")).unwrap();
    assert!(meta.contains("\"failed\": true"), "{meta}");
    drop(db);
    let db = Db::open(dir.path(), options).unwrap();
    assert_eq!(db.maintain().unwrap().merged, [], "also after a restart");
}

#[test]
fn what_is_set_aside_says_why() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..3, (0, 4), 0);
    let names: Vec<String> = {
        let db = Db::open(dir.path(), options()).unwrap();
        db.local_blocks()
            .iter()
            .map(|b| b.ulid.to_string())
            .collect()
    };
    std::fs::write(dir.path().join(&names[0]).join("index"), "rubbish").unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    let aside = db.absent_blocks().quarantined;
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].folder, format!("{}.corrupt", names[0]));
    assert!(aside[0].reason.contains("index"), "{aside:?}");
    assert!(aside[0].since > 0);
    assert_eq!(db.stats().storage.quarantined.get(), 1);
    assert_eq!(all(&db)[&set(0)].len(), 120);
}

#[test]
fn blocks_that_come_and_go_while_running_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    fill(&db, 0..2, (4, 5), 0);
    db.maintain().unwrap();
    assert_eq!(levels(&db).len(), 0);
    blocks(dir.path(), 3..5, (0, 2), 0);
    let name = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.join("index").exists())
        .unwrap();
    // Still arriving: no reason to set it aside.
    let index = std::fs::read(name.join("index")).unwrap();
    std::fs::write(name.join("index"), &index[..index.len() / 2]).unwrap();
    db.maintain().unwrap();
    assert_eq!(levels(&db).len(), 0);
    assert_eq!(db.absent_blocks().quarantined, []);
    std::fs::write(name.join("index"), &index).unwrap();
    db.maintain().unwrap();
    assert_eq!(all(&db)[&set(3)].len(), 120);
    assert_eq!(all(&db)[&set(0)].len(), 60, "the head answers as before");
    std::fs::remove_dir_all(&name).unwrap();
    db.maintain().unwrap();
    assert_eq!(all(&db).len(), 2);
}

#[test]
fn parents_that_a_crash_left_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..3, (0, 8), 0);
    let copied = tempfile::tempdir().unwrap();
    copy(dir.path(), copied.path());
    let options = Options {
        max_block: Some(6 * HOUR),
        ..options()
    };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let seen = all(&db);
    let merged = db.maintain().unwrap().merged[0].to_string();
    drop(db);
    copy(&dir.path().join(&merged), &copied.path().join(&merged));
    let db = Db::open(copied.path(), options).unwrap();
    assert_eq!(levels(&db), [2, 1]);
    assert_eq!(all(&db), seen);
}

#[test]
fn deleting_and_cleaning_up_leaves_what_prometheus_would() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..6, (0, 6), 0);
    let db = Db::open(dir.path(), options()).unwrap();
    fill(&db, 0..6, (6, 7), 0);
    let delete = |i: &str, from: Millis, to: Millis| {
        let range = TimeRange::new(START + from * HOUR, START + to * HOUR);
        block_on(db.delete_series(vec![Matcher::equal("i", i)], range)).unwrap();
    };
    delete("0", -1, 100);
    delete("1", 1, 3);
    delete("2", 0, 2);
    delete("2", 5, 100);
    let want = all(&db);
    assert_eq!(want.len(), 5);
    assert_eq!(want[&set(1)].len(), 7 * 60 - 121);
    // A tombstone deletes both ends: one sample of the next block goes too.
    assert_eq!(want[&set(2)].len(), 3 * 60 - 1);
    let before = dump(dir.path());
    block_on(db.clean_tombstones()).unwrap();
    assert_eq!(all(&db), want);
    assert_eq!(levels(&db), [1, 1, 1]);
    for block in db.local_blocks() {
        let name = dir.path().join(block.ulid.to_string());
        assert_eq!(std::fs::metadata(name.join("tombstones")).unwrap().len(), 9);
    }
    assert_eq!(dump(dir.path()), before);
    // Everything of a block: it goes altogether.
    let range = TimeRange::new(START, START + 2 * HOUR - 1);
    block_on(db.delete_series(vec![], range)).unwrap();
    assert_eq!(levels(&db).len(), 3);
    block_on(db.clean_tombstones()).unwrap();
    assert_eq!(levels(&db).len(), 2);
    assert_eq!(samples(&all(&db)), samples(&want) - 120 * 3 - 60);
}

#[test]
fn much_deleted_blocks_are_written_again_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    blocks(dir.path(), 0..10, (0, 4), 0);
    let db = Db::open(dir.path(), options()).unwrap();
    block_on(db.delete_series(vec![Matcher::equal("i", "3")], TimeRange::ALL)).unwrap();
    let stones = |db: &Db| -> usize {
        let list = db.local_blocks();
        let files = list
            .iter()
            .map(|b| dir.path().join(b.ulid.to_string()).join("tombstones"));
        files
            .filter(|f| std::fs::metadata(f).unwrap().len() > 9)
            .count()
    };
    assert_eq!(stones(&db), 2);
    let merged = db.maintain().unwrap().merged;
    assert_eq!(merged.len(), 1, "the newest stays as it is");
    assert_eq!(stones(&db), 1);
    assert_eq!(all(&db).len(), 9);
}

#[test]
fn snapshots_while_everything_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_block: Some(18 * HOUR),
        ..options()
    };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let done = AtomicBool::new(false);
    let names = std::thread::scope(|scope| {
        let maintainer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                db.maintain().unwrap();
            }
        });
        let snapshots = scope.spawn(|| {
            let mut names = Vec::new();
            while !done.load(Ordering::Relaxed) {
                names.push(block_on(db.snapshot(names.len() % 3 == 2)).unwrap());
            }
            names
        });
        for hour in 0..30 {
            fill(&db, 0..3, (hour, hour + 1), 0);
        }
        done.store(true, Ordering::Relaxed);
        maintainer.join().unwrap();
        snapshots.join().unwrap()
    });
    let want = all(&db);
    let mut last = 0;
    for (i, name) in names.iter().enumerate() {
        let path = dir.path().join("snapshots").join(name);
        let copied = all(&Db::open(&path, options.clone()).unwrap());
        for (labels, got) in &copied {
            // A snapshot is what was there at a moment: all of the beginning, nothing torn.
            assert_eq!(got[..], want[labels][..got.len()], "{labels} in {name}");
        }
        let lengths: Vec<usize> = copied.values().map(Vec::len).collect();
        assert!(
            lengths.windows(2).all(|w| w[0] == w[1]),
            "{lengths:?}: half a batch"
        );
        if i % 3 != 2 {
            assert!(samples(&copied) >= last, "time goes on");
            last = samples(&copied);
        }
    }
    let name = block_on(db.snapshot(false)).unwrap();
    let path = dir.path().join("snapshots").join(&name);
    assert_eq!(all(&Db::open(&path, options).unwrap()), want);
    for (tool, lines) in dump(&path) {
        assert_eq!(lines.len(), samples(&want), "{tool}");
    }
}

/// What cuts cost follows from the samples, not from the time between them.
#[test]
fn samples_that_lie_very_far_apart_are_cut_one_by_one() {
    const SAMPLES: i64 = 60;
    for (late, first, step) in [
        (false, 0, 1_000_000_000_000),
        (false, i64::MIN / 2, i64::MAX / 100),
        // The last one lies at the end of all time: no block can hold it.
        (false, i64::MAX - (SAMPLES - 1) * (1 << 50), 1 << 50),
        (true, 0, 1_000_000_000),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            out_of_order_window: 1 << 40,
            ..Options::quiet()
        };
        let db = Db::open(dir.path(), options).unwrap();
        let mut order: Vec<i64> = (0..SAMPLES).collect();
        if late {
            order.reverse();
        }
        for i in order {
            db.append_samples(&[(set(0), first + i * step, i as f64)])
                .unwrap();
        }
        let before = all(&db);
        assert_eq!(before[&set(0)].len(), SAMPLES as usize);
        let cut = db.flush_all().unwrap().len() as i64;
        assert!((SAMPLES - 1..=SAMPLES).contains(&cut), "{cut} blocks");
        let tried = db.stats().storage.compactions_triggered.get() as i64;
        assert!(tried <= SAMPLES + 1, "{tried} cuts");
        assert_eq!(all(&db), before);
    }
}
