//! Any sequence of deeds and crashes equals the model.

use std::sync::Arc;

use block::fs::sim::Loss;
use model::TimeRange;
use proptest::prelude::*;

use super::content::{assert_same, content, judge};
use super::script::{BLOCK, Deed, Run, STEP, recover};

#[derive(Clone, Debug)]
enum Act {
    Do(Deed),
    /// The last deed is interrupted this many steps (per mille of its own) from its beginning.
    Crash(Loss, u64, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let series = prop::collection::btree_set(0..6usize, 1..4);
    let span = (0..8_000i64, 0..2 * BLOCK);
    prop_oneof![
        12 => series.prop_map(|s| Act::Do(Deed::Append(s.into_iter().collect()))),
        3 => (0..6usize, 0..2 * BLOCK).prop_map(|(s, back)| Act::Do(Deed::Late(s, back))),
        3 => Just(Act::Do(Deed::Maintain)),
        1 => Just(Act::Do(Deed::Flush)),
        1 => Just(Act::Do(Deed::CleanTombstones)),
        1 => Just(Act::Do(Deed::Snapshot)),
        1 => Just(Act::Do(Deed::Reopen)),
        2 => (0..6usize, span).prop_map(|(s, (from, len))| {
            Act::Do(Deed::Delete(s, TimeRange::new(from, from + len)))
        }),
        2 => (any::<bool>(), any::<u64>(), 0..1000usize).prop_map(|(power, seed, at)| {
            let loss = if power { Loss::Power } else { Loss::Kill };
            Act::Crash(loss, seed, at)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("EPIMETHEUS_FAULT_SEEDS")
            .ok()
            .and_then(|n| n.parse::<u32>().ok())
            .map_or(12, |n| n.saturating_mul(50)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_equals_the_model(acts in prop::collection::vec(act(), 1..60)) {
        let mut run = Run::new(|_| {});
        for act in acts {
            match act {
                Act::Do(deed) => run.all(&[deed]),
                Act::Crash(loss, seed, at) => {
                    let Some(last) = run.done.last() else { continue };
                    let (from, to) = last.steps;
                    let steps = from + (to - from) * at / 1000;
                    let left = tempfile::tempdir().unwrap();
                    run.fs.lay_out(steps, loss, seed, left.path()).unwrap();
                    let (before, after, what) = run.at(steps);
                    let (db, _) = recover(left.path());
                    let found = content(&db);
                    if let Err(e) = judge(&found, &before, &after) {
                        panic!("{loss:?} at step {steps} during {what}: {e}");
                    }
                    drop(db);
                    // Life goes on with what is left.
                    let now = run.now.max(STEP);
                    run = Run::on(left, found, now);
                }
            }
        }
        let want = Arc::clone(&run.model);
        run.all(&[Deed::Flush, Deed::Reopen]);
        assert_same(&content(run.db()), &want, "at the end");
    }
}
