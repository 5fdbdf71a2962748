//! A process is killed while it appends: what it acknowledged is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use model::{Batch, Labels};
use tsdb::wal::SyncMode;
use tsdb::{Db, Options};

use crate::all;

const DIR: &str = "EPIMETHEUS_TSDB_CHILD_DIR";
const FROM: &str = "EPIMETHEUS_TSDB_CHILD_FROM";
const SERIES: usize = 40;

fn set(i: i64) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn options() -> Options {
    let mut options = Options {
        // Short blocks, so that cutting, checkpoints and merging are interrupted too.
        min_block: 2_000,
        max_block: Some(6_000),
        maintain_every: Some(Duration::from_millis(20)),
        ..Options::quiet()
    };
    options.wal.segment_size = 64 * 1024;
    options.wal.sync = SyncMode::Interval(Duration::from_millis(10));
    options
}

/// What the child does when the parent test runs this same binary: appends for ever, a step of 100
/// ms of data at a time, and says so. Some series come and go.
#[test]
fn child() {
    let (Some(dir), Ok(from)) = (std::env::var_os(DIR), std::env::var(FROM)) else {
        return;
    };
    let db = Db::open(dir, options()).unwrap();
    let mut step: i64 = from.parse().unwrap();
    let mut out = std::io::stdout().lock();
    loop {
        let sets: Vec<Labels> = (0..SERIES as i64)
            .map(|i| set(if i < 30 { i } else { i + step / 10 * 10 }))
            .collect();
        let refs = db.resolve_now(&sets).unwrap();
        let mut batch = Batch::default();
        for r in refs {
            batch.push(r, step * 100, step as f64);
        }
        match db.append_now(batch) {
            Ok(took) => assert!(took.rejected.is_empty(), "{:?}", took.rejected),
            // Garbage collection came between the two calls.
            Err(model::SinkError::Stale(_)) => continue,
            Err(e) => panic!("{e}"),
        }
        writeln!(out, "ack {step}").unwrap();
        out.flush().unwrap();
        step += 1;
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<i64, ()> = BTreeMap::new();
    let mut next = 0;
    let mut seed = std::process::id();
    for _ in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "durability::child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(DIR, dir.path())
            .env(FROM, next.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        let steps = 5 + (seed >> 16) % 120;
        let out = child.stdout.take().unwrap();
        let mut lines = BufReader::new(out).lines();
        let mut seen = 0;
        for line in lines.by_ref() {
            let line = line.unwrap();
            // The test harness may put its own words before the first.
            if let Some(at) = line.find("ack ") {
                let step: i64 = line[at + 4..].parse().unwrap();
                acknowledged.insert(step, ());
                seen += 1;
                if seen == steps {
                    break;
                }
            }
        }
        child.kill().unwrap();
        // What it still managed to say before it died counts as well.
        for line in lines.map_while(Result::ok) {
            if let Some(step) = line.strip_prefix("ack ").and_then(|s| s.parse().ok()) {
                acknowledged.insert(step, ());
            }
        }
        let status = child.wait_with_output().unwrap();
        assert_eq!(seen, steps, "{}", String::from_utf8_lossy(&status.stderr));
        let db = Db::open(
            dir.path(),
            Options {
                maintain_every: None,
                ..options()
            },
        )
        .unwrap();
        assert!(
            db.replayed().damaged.is_empty(),
            "{:?}",
            db.replayed().damaged
        );
        assert_eq!(db.replayed().unknown, 0);
        let there = all(&db);
        for &step in acknowledged.keys() {
            for i in 0..SERIES as i64 {
                let labels = set(if i < 30 { i } else { i + step / 10 * 10 });
                let found = there.get(&labels).is_some_and(|s| {
                    s.iter()
                        .any(|s| s.ts == step * 100 && s.value == step as f64)
                });
                assert!(
                    found,
                    "step {step} of {labels} was acknowledged and is gone"
                );
            }
        }
        // One more step may have reached the log without being acknowledged; never half of one.
        let last = there.values().flatten().map(|s| s.ts).max().unwrap() / 100;
        next = last + 1;
    }
    assert!(acknowledged.len() > 100);
}

/// A series goes, is made anew under another number while the log still has the old one, and a
/// restart calls both by the first: what was logged under the second must outlive checkpoints.
#[test]
fn a_series_that_came_back_keeps_its_samples() {
    for back in (71..91).step_by(2) {
        let dir = tempfile::tempdir().unwrap();
        let options = || Options {
            maintain_every: None,
            ..options()
        };
        let mut db = Db::open(dir.path(), options()).unwrap();
        let mut want = BTreeMap::new();
        for step in 1..back + 50 {
            if step % 5 == 0 {
                // What a cut leaves for later is done by the next round.
                db.maintain().unwrap();
                db.maintain().unwrap();
            }
            // Each start begins a segment: those before the guest comes back let its first number
            // live in the log, those after let the next checkpoint take in its second.
            let after = [2, 4, 6, 16, 28, 40].contains(&(step - back));
            if after || [32, 36, 40, 44].contains(&step) {
                drop(db);
                db = Db::open(dir.path(), options()).unwrap();
                assert_eq!(all(&db), want, "back {back}, step {step}");
            }
            let guest = step == 1 || step >= back;
            let rows: Vec<_> = (0..1 + i64::from(guest))
                .map(|i| (set(i), step * 100, step as f64))
                .collect();
            let took = db.append_samples(&rows).unwrap();
            assert!(took.rejected.is_empty(), "{:?}", took.rejected);
            for (labels, ts, value) in rows {
                let samples: &mut Vec<_> = want.entry(labels).or_default();
                samples.push(model::Sample { ts, value });
            }
        }
    }
}

/// A crash inside the write of a large scrape leaves all of it or nothing.
#[test]
fn of_a_scrape_of_floats_a_crash_leaves_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options {
        maintain_every: None,
        ..Options::quiet()
    };
    let db = Db::open(dir.path(), options()).unwrap();
    let sets: Vec<Labels> = (0..20_000).map(set).collect();
    let refs = db.resolve_now(&sets).unwrap();
    let segment = dir.path().join("wal/00000000");
    let len = || std::fs::metadata(&segment).unwrap().len();
    let scrape = |step: i64| {
        let mut batch = Batch::default();
        for (i, r) in refs.iter().enumerate() {
            batch.push(*r, step * 1000, (i as f64 * step as f64).sin());
        }
        assert_eq!(db.append_now(batch).unwrap().samples, sets.len());
    };
    scrape(1);
    let before = len();
    scrape(2);
    let after = len();
    drop(db);
    // More than a record of 64 KiB, which it once was cut into.
    assert!(after - before > 3 * (64 << 10), "{}", after - before);
    let bytes = std::fs::read(&segment).unwrap();
    for part in 0..=6 {
        let end = before + (after - before) * part / 6;
        let torn = tempfile::tempdir().unwrap();
        std::fs::create_dir(torn.path().join("wal")).unwrap();
        let path = torn.path().join("wal/00000000");
        std::fs::write(path, &bytes[..end as usize]).unwrap();
        let db = Db::open(torn.path(), options()).unwrap();
        let scrapes = if part == 6 { 2 } else { 1 };
        assert_eq!(db.replayed().samples, scrapes * 20_000, "part {part}");
    }
}
