//! A disk that is full, refuses a write, a read or an fsync: at every step of a script.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, Mutex};

use block::fs::sim::{Deed as Step, Dice, Failure, Loss, Plan};
use model::{Kind, TimeRange};
use tsdb::Db;

use super::content::{Content, Seen, ask, assert_same, content, judge};
use super::effort;
use super::script::{Deed, Run, labels, options, random, recover};

/// What is wrong with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// From a step on, for so many attempts, nothing that takes space is done.
    Full,
    /// From a step on, so many attempts to change something fail, whatever they are.
    Broken,
    /// From a step on, so many reads fail.
    Unreadable,
    /// From a step on, so many fsyncs fail.
    Unsynced,
}

/// A plan that begins at step `from` and ends after `times` failures.
fn plan(trouble: Trouble, from: usize, times: usize, seed: u64) -> Plan {
    let mut left = times;
    let mut dice = Dice::new(seed ^ from as u64);
    Box::new(move |number: usize, step: Step, _: &Path| {
        if number < from || left == 0 {
            return None;
        }
        let hit = match trouble {
            Trouble::Full => step.takes_space(),
            Trouble::Broken => step != Step::Read,
            Trouble::Unreadable => step == Step::Read,
            Trouble::Unsynced => matches!(step, Step::Sync | Step::SyncDir),
        };
        if !hit {
            return None;
        }
        left -= 1;
        let written = match step {
            Step::Append(len) => dice.below(len + 1),
            _ => 0,
        };
        Some(match trouble {
            Trouble::Full => Failure::full(written),
            _ => Failure::broken(written),
        })
    })
}

#[derive(Default)]
struct Tally {
    points: usize,
    failed_steps: usize,
    failed_deeds: usize,
}

/// Runs a script on a disk that fails at `from`.
fn try_point(trouble: Trouble, seed: u64, script: &[Deed], from: usize, tally: &mut Tally) {
    let mut dice = Dice::new(seed.wrapping_add(from as u64));
    let times = [1, 1, 2, 10, 100][dice.below(5)];
    let mut run = Run::new(|_| {});
    run.fs.fail(Some(plan(trouble, from, times, seed)));
    let said = RefCell::new(Vec::new());
    let place = |what: &str| {
        format!(
            "script {seed}, {trouble:?} from step {from} for {times} attempts: {what}; failed: {:#?}",
            said.borrow()
        )
    };
    let mut refused: Vec<Content> = Vec::new();
    let mut undeleted = Content::new();
    let mut unsynced: Vec<Content> = Vec::new();
    for deed in script {
        if run.db.is_none() {
            // It could not be opened; the disk gets better, and it is tried again.
            run.fs.fail(None);
            run.open()
                .unwrap_or_else(|e| panic!("{}", place(&format!("not opened afterwards: {e}"))));
            let found = run.content();
            adopt(Arc::make_mut(&mut run.model), &found, &mut refused);
        }
        run.deed(deed);
        let done = run.done.last().unwrap().clone();
        if let Some(e) = &done.error {
            tally.failed_deeds += 1;
            said.borrow_mut().push(format!("{deed:?}: {e}"));
        }
        if run.db.is_none() {
            continue;
        }
        let found = run.content();
        match &done.error {
            None => {
                let mut want = (*done.after).clone();
                // What was refused and could not be cut off the log either may come back, whole,
                // with the next start; the log takes nothing until one of the two has happened.
                if matches!(deed, Deed::Reopen) {
                    adopt(&mut want, &found, &mut refused);
                    run.model = Arc::new(want.clone());
                }
                assert_same(&found, &want, &place(&format!("after {deed:?}")));
            }
            Some(e) => {
                if let Err(wrong) = judge(&found, &done.before, &done.after) {
                    panic!(
                        "{}",
                        place(&format!("{deed:?} failed with {e}, and {wrong}"))
                    );
                }
                if matches!(deed, Deed::Append(_) | Deed::Late(..)) {
                    let mut batch = (*done.after).clone();
                    batch.retain(|key, _| !done.before.contains_key(key));
                    let taken = batch.keys().all(|key| found.contains_key(key));
                    let list = if taken { &mut unsynced } else { &mut refused };
                    list.push(batch);
                }
                if matches!(deed, Deed::Delete(..)) {
                    let gone = done.before.iter().filter(|(k, _)| !found.contains_key(k));
                    undeleted.extend(gone.map(|(k, v)| (k.clone(), *v)));
                }
                // What came of it is what there is from now on.
                run.model = Arc::new(found);
            }
        }
    }
    run.fs.fail(None);
    if run.db.is_none() {
        run.open().unwrap();
    }
    tally.points += 1;
    tally.failed_steps += run.fs.failed();
    // There is room again: it goes on without a restart.
    run.all(&[
        Deed::Append(vec![0, 1, 2]),
        Deed::Maintain,
        Deed::Append(vec![0, 1, 2]),
        // What was only refused its fsync gets another one.
        Deed::Sync,
    ]);
    let live = Arc::clone(&run.model);
    for loss in [Loss::Kill, Loss::Power] {
        let left = tempfile::tempdir().unwrap();
        run.fs
            .lay_out(run.fs.steps(), loss, seed, left.path())
            .unwrap();
        let (db, _) = recover(left.path());
        let when = place(&format!("memory and disk differ after {loss:?}"));
        let mut found = content(&db);
        if loss == Loss::Power {
            // A deletion that was not acknowledged may be undone,
            found.retain(|key, _| live.contains_key(key) || !undeleted.contains_key(key));
            // and what was refused its fsync, if a restart came before the next one, be lost.
            let again = script.iter().any(|deed| matches!(deed, Deed::Reopen));
            for (key, seen) in unsynced.iter().flatten().filter(|_| again) {
                if live.contains_key(key) {
                    found.insert(key.clone(), *seen);
                }
            }
        }
        assert_same(&found, &live, &when);
        assert_eq!(db.replayed().unknown, 0, "{}", place("unknown series"));
    }
    run.all(&[Deed::Flush, Deed::Reopen]);
}

/// Takes refused batches for some that were not, as far as they are there: a batch is a few records,
/// and floats are the first of them.
fn adopt(want: &mut Content, found: &Content, refused: &mut [Content]) {
    let floats = |c: &Content| c.values().filter(|s| matches!(s, Seen::Float(_))).count();
    for batch in refused {
        let mut there = batch.clone();
        there.retain(|key, seen| found.get(key) == Some(seen));
        if floats(&there) == floats(batch) {
            batch.retain(|key, _| !there.contains_key(key));
            want.append(&mut there);
        }
    }
}

fn sweep(trouble: Trouble) {
    let (seeds, every) = effort(2);
    let mut tally = Tally::default();
    for seed in 0..seeds {
        let script = random(seed, 40);
        let mut run = Run::new(|_| {});
        run.all(&script);
        let steps = run.fs.steps();
        let mut dice = Dice::new(seed);
        if every {
            (0..steps).for_each(|s| try_point(trouble, seed, &script, s, &mut tally));
        } else {
            for _ in 0..12 {
                try_point(trouble, seed, &script, dice.below(steps), &mut tally);
            }
        }
    }
    assert!(tally.failed_deeds > 0);
    println!(
        "{trouble:?}: {} points of {seeds} scripts, {} steps and {} deeds failed, 0 samples lost",
        tally.points, tally.failed_steps, tally.failed_deeds
    );
}

#[test]
fn a_full_disk_at_any_step_loses_nothing() {
    sweep(Trouble::Full);
}

#[test]
fn a_broken_disk_at_any_step_loses_nothing() {
    sweep(Trouble::Broken);
}

#[test]
fn a_disk_that_cannot_be_read_at_any_step_loses_nothing() {
    sweep(Trouble::Unreadable);
}

#[test]
fn an_fsync_that_fails_at_any_step_loses_nothing_power_safe() {
    sweep(Trouble::Unsynced);
}

/// Points that once went wrong.
#[test]
fn what_went_wrong_once_does_not_again() {
    for (trouble, seed, from) in [
        // A refused batch stayed in the log as a whole and came back after later ones.
        (Trouble::Broken, 0, 68),
        // A block's tombstones were written, its meta was not, and memory did not know.
        (Trouble::Full, 3, 149),
        // The log had a batch that memory had refused, because only its fsync had failed.
        (Trouble::Unsynced, 0, 56),
        (Trouble::Unsynced, 3, 148),
        // A block that was written, but not published, missed a deletion.
        (Trouble::Broken, 3, 125),
        // A file of head chunks that could not be synced was followed by another, whose chunks hid
        // samples of the log when the power had taken the first.
        (Trouble::Broken, 0, 223),
        (Trouble::Unsynced, 0, 223),
    ] {
        let script = random(seed, 40);
        try_point(trouble, seed, &script, from, &mut Tally::default());
    }
}

#[test]
fn a_refused_write_is_said_and_counted() {
    let run = Run::new(|_| {});
    let db = run.db();
    db.append_samples(&[(labels(0), 1_000, 1.0)]).unwrap();
    run.fs.fail(Some(plan(Trouble::Full, 0, usize::MAX, 1)));
    let e = db.append_samples(&[(labels(0), 2_000, 2.0)]).unwrap_err();
    let text = e.to_string();
    assert!(text.contains("wal/00000000"), "{text}");
    assert!(text.contains("No space left"), "{text}");
    assert!(
        matches!(
            e,
            model::SinkError::Failed {
                kind: Kind::Unavailable,
                ..
            }
        ),
        "{e:?}"
    );
    assert_eq!(content(db).len(), 1);
    run.fs.fail(None);
    db.append_samples(&[(labels(0), 2_000, 2.0)]).unwrap();
    assert_eq!(content(db).len(), 2);
}

/// Short reads are legal, and a read that fails is no damage: nothing may be cut or set aside.
#[test]
fn reads_that_fail_or_are_short_harm_nothing() {
    let mut run = Run::new(|_| {});
    run.all(&random(7, 60));
    run.all(&[Deed::Append(vec![0, 1, 2]), Deed::Late(0, 100)]);
    let want = Arc::clone(&run.model);
    run.db = None;
    // How many reads opening takes, and a query; of which files.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let count = |run: &Run| {
        let seen = Arc::clone(&seen);
        run.fs.fail(Some(Box::new(move |_, step, path| {
            if step == Step::Read {
                seen.lock().unwrap().push(path.to_owned());
            }
            None
        })));
    };
    count(&run);
    run.open().unwrap();
    let opening = std::mem::take(&mut *seen.lock().unwrap());
    content(run.db());
    let asking = std::mem::take(&mut *seen.lock().unwrap());
    run.db = None;
    for what in [
        "/wal/",
        "/wbl/",
        "/chunks_head/",
        "/index",
        "/chunks/",
        "meta.json",
    ] {
        let of = |path: &std::path::PathBuf| path.to_str().unwrap().contains(what);
        assert!(opening.iter().any(of), "nothing of {what} is read");
    }
    assert!(!asking.is_empty());
    // The order of reads is not always the same: one thread reads ahead.
    let broken = Arc::new(Mutex::new(None));
    let break_read = |run: &Run, bad: usize| {
        let broken = Arc::clone(&broken);
        let mut n = 0;
        run.fs.fail(Some(Box::new(move |_, step, path| {
            n += usize::from(step == Step::Read);
            let hit = step == Step::Read && n == bad + 1;
            hit.then(|| {
                *broken.lock().unwrap() = path.parent().map(std::path::Path::to_owned);
                Failure::broken(0)
            })
        })));
    };
    for bad in 0..opening.len() {
        break_read(&run, bad);
        let e = Db::open(run.dir.path(), options(&run.fs))
            .map(drop)
            .unwrap_err();
        assert_eq!(e.kind(), Kind::Unavailable, "{e}");
        let folder = broken.lock().unwrap().take().unwrap();
        let named = folder.strip_prefix(run.dir.path()).unwrap();
        let named = named.iter().next().unwrap().to_str().unwrap();
        assert!(e.to_string().contains(named), "{e} does not name {named}");
    }
    run.fs.fail(None);
    run.open().unwrap();
    for bad in 0..asking.len() {
        break_read(&run, bad);
        let e = ask(run.db(), TimeRange::ALL).unwrap_err();
        assert_eq!(e.kind, Kind::Unavailable, "{e}");
    }
    let mut dice = Dice::new(3);
    run.fs.fail(Some(Box::new(move |_, step, path| {
        // What is read at a place comes whole or not at all.
        let at_a_place = path.ends_with("index") || path.parent().unwrap().ends_with("chunks");
        (step == Step::Read && !at_a_place).then(|| Failure::broken(1 + dice.below(2_000)))
    })));
    run.open().unwrap();
    assert_same(&content(run.db()), &want, "after short reads");
    assert!(run.db().replayed().damaged.is_empty());
}
