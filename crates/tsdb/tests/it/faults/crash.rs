//! The process dies, or the power fails, at every step.

use std::path::Path;
use std::time::Duration;

use block::fs::sim::{Dice, Loss};
use tsdb::wal::SyncMode;
use tsdb::{Db, Options};

use super::content::{assert_same, content, judge};
use super::effort;
use super::script::{Deed, Run, STEP, options, random, recover};

#[derive(Default)]
struct Tally {
    points: usize,
    recoveries: usize,
    lost: usize,
}

/// Lays out what a crash after `steps` steps leaves, opens it, and judges it.
fn try_point(run: &Run, seed: u64, steps: usize, loss: Loss, tally: &mut Tally) {
    let left = tempfile::tempdir().unwrap();
    run.fs.lay_out(steps, loss, seed, left.path()).unwrap();
    let (before, after, what) = run.at(steps);
    let place = || {
        format!(
            "script {seed}, {loss:?} at step {steps} ({}) during {what}",
            run.fs.describe(steps)
        )
    };
    tally.points += 1;
    let (db, fs) = recover(left.path());
    let found = content(&db);
    if let Err(e) = judge(&found, &before, &after) {
        tally.lost += 1;
        panic!("{}: {e}", place());
    }
    assert_eq!(db.replayed().unknown, 0, "{}", place());
    let damaged = &db.replayed().damaged;
    assert!(damaged.is_empty(), "{}: {damaged:?}", place());
    no_leftovers(left.path(), &place);
    let mut dice = Dice::new(seed ^ steps as u64);
    // What was made whole again stays whole: through another crash, and at work.
    if dice.below(4) == 0 {
        let again = dice.below(fs.steps() + 1);
        let twice = tempfile::tempdir().unwrap();
        fs.lay_out(again, loss, seed, twice.path()).unwrap();
        let (db, _) = recover(twice.path());
        assert_same(&content(&db), &found, &format!("{}, and again", place()));
        tally.recoveries += 1;
    }
    if dice.below(8) == 0 {
        drop(db);
        let now = found.keys().map(|k| k.1).max().unwrap_or(0);
        let mut next = Run::on(left, found, now);
        next.all(&random(seed ^ steps as u64, 12));
        next.all(&[Deed::Flush, Deed::Reopen]);
    }
    if dice.below(8) == 0 {
        snapshots(run, steps, seed, loss);
    }
}

/// Snapshots that were acknowledged can be opened and hold what was there then.
fn snapshots(run: &Run, steps: usize, seed: u64, loss: Loss) {
    let left = tempfile::tempdir().unwrap();
    run.fs.lay_out(steps, loss, seed, left.path()).unwrap();
    for done in run.done.iter().filter(|d| d.steps.1 <= steps) {
        if let Some(name) = &done.snapshot {
            let (db, _) = recover(&left.path().join("snapshots").join(name));
            let when = format!("snapshot of script {seed}, {loss:?} at step {steps}");
            assert_same(&content(&db), &done.after, &when);
        }
    }
}

fn no_leftovers(dir: &Path, place: &dyn Fn() -> String) {
    for folder in [dir.to_owned(), dir.join("wal")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let half = name.contains(".tmp") || name.contains(".bad") || name.contains("corrupt");
            assert!(!half, "{}: {name} is left", place());
        }
    }
}

fn sweep(loss: Loss, quick: u64, change: impl Fn(&mut Options)) {
    let (seeds, every) = effort(quick);
    let mut tally = Tally::default();
    for seed in 0..seeds {
        let mut run = Run::new(&change);
        run.all(&random(seed, 60));
        let mut dice = Dice::new(seed);
        let steps = run.fs.steps();
        if every {
            (0..=steps).for_each(|s| try_point(&run, seed, s, loss, &mut tally));
        } else {
            for _ in 0..120 {
                try_point(&run, seed, dice.below(steps + 1), loss, &mut tally);
            }
        }
    }
    println!(
        "{loss:?}: {} crash points of {seeds} scripts, {} crashes during recovery, {} points with samples lost",
        tally.points, tally.recoveries, tally.lost
    );
}

#[test]
fn a_kill_at_any_step_loses_nothing_acknowledged() {
    sweep(Loss::Kill, 2, |_| {});
}

#[test]
fn a_kill_during_retention_shows_nothing_half() {
    sweep(Loss::Kill, 1, |o| o.retention.time = 8_000);
}

/// A kill leaves much that no fsync has seen. The next process builds on it, and what that one has
/// synced must not hang in the air when the power fails.
#[test]
fn a_power_failure_after_a_kill_loses_nothing_that_was_synced_since() {
    let (seeds, every) = effort(2);
    let mut points = 0;
    for seed in 0..seeds {
        let mut first = Run::new(|o| o.wal.sync = SyncMode::Interval(Duration::from_secs(3600)));
        first.all(&random(seed, 40));
        let mut dice = Dice::new(seed);
        for _ in 0..if every { 300 } else { 6 } {
            let steps = dice.below(first.fs.steps() + 1);
            let left = tempfile::tempdir().unwrap();
            let fs = first.fs.go_on(steps, seed, left.path()).unwrap();
            let (before, after, what) = first.at(steps);
            let place = format!("script {seed}, killed at step {steps} during {what}");
            let found = {
                let db = Db::open(left.path(), options(&fs)).unwrap();
                content(&db)
            };
            judge(&found, &before, &after).unwrap_or_else(|e| panic!("{place}: {e}"));
            let now = found.keys().map(|k| k.1).max().unwrap_or(0).max(STEP);
            let mut second = Run::go_on(left, fs, found, now);
            second.all(&[Deed::Sync]);
            let synced = second.fs.steps();
            second.all(&random(seed ^ steps as u64, 12));
            for _ in 0..4 {
                let steps = synced + dice.below(second.fs.steps() + 1 - synced);
                let left = tempfile::tempdir().unwrap();
                second
                    .fs
                    .lay_out(steps, Loss::Power, seed ^ points, left.path())
                    .unwrap();
                let (before, after, what) = second.at(steps);
                let (db, _) = recover(left.path());
                let place = format!("{place}, without power at step {steps} during {what}");
                judge(&content(&db), &before, &after).unwrap_or_else(|e| panic!("{place}: {e}"));
                assert_eq!(db.replayed().unknown, 0, "{place}");
                points += 1;
            }
        }
    }
    println!("{points} power failures after kills of {seeds} scripts, 0 points with samples lost");
}

#[test]
fn a_power_failure_at_any_step_loses_nothing_power_safe() {
    sweep(Loss::Power, 2, |_| {});
}
