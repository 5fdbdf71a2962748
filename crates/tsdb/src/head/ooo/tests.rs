use proptest::prelude::*;

use super::store::{Inserted, Store};
use super::*;

fn float(ts: Millis, value: f64) -> OooSample {
    let value = OooValue::Float(value);
    OooSample {
        ts,
        start: 0,
        value,
    }
}

fn floats(samples: &[OooSample]) -> Vec<(Millis, f64)> {
    let floats = samples.iter().map(|s| match &s.value {
        OooValue::Float(value) => (s.ts, *value),
        OooValue::Histogram(h) => panic!("{h:?}"),
    });
    floats.collect()
}

fn decoded(store: &Store, slot: usize, range: (Millis, Millis)) -> Vec<(Millis, f64)> {
    let mut all = Vec::new();
    store.see(slot, range, |seen| {
        let mut columns = chunk::Columns::default();
        chunk::decode(seen.encoding, seen.bytes, &mut columns).unwrap();
        assert!(columns.ascends());
        assert_eq!(columns.ts.first(), Some(&seen.min));
        assert_eq!(columns.ts.last(), Some(&seen.max));
        all.extend(columns.iter());
    });
    all
}

const ALL: (Millis, Millis) = (Millis::MIN, Millis::MAX);

#[test]
fn chunks_are_sorted_and_closed_at_their_cap() {
    let mut store = Store::default();
    for i in 0..70i64 {
        let ts = (i * 37) % 71 * 10;
        let first = i % 32 == 0;
        let want = if first {
            Inserted::NewChunk
        } else {
            Inserted::Yes
        };
        assert_eq!(store.insert(3, float(ts, i as f64), 0), want);
    }
    assert_eq!(
        store.insert(3, float((69 * 37) % 71 * 10, 5.0), 0),
        Inserted::Same
    );
    assert_eq!((store.chunks(3), store.chunks(4)), (3, 0));
    assert_eq!(decoded(&store, 3, ALL).len(), 70);
    assert!(store.has(3) && store.any(3, (0, 0)) && !store.any(3, (-9, -1)) && !store.any(4, ALL));
    store.delete(3, (100, 600));
    assert!(
        decoded(&store, 3, ALL)
            .iter()
            .all(|s| s.0 < 100 || s.0 > 600)
    );
    store.remove(3);
    assert!(store.is_empty());
}

#[test]
fn epochs_part_what_is_cut_from_what_comes() {
    let mut store = Store::default();
    store.insert(1, float(50, 1.0), 0);
    store.insert(1, float(40, 2.0), 0);
    store.insert(1, float(45, 3.0), 1);
    store.insert(2, float(7000, 4.0), 1);
    assert_eq!(store.older(1).collect::<Vec<_>>(), [1]);
    let mut samples = Vec::new();
    store.samples(1, 1, ALL, &mut samples).unwrap();
    assert_eq!(floats(&samples), [(40, 2.0), (50, 1.0)]);
    assert_eq!(store.next(1, 41), Some(50));
    assert_eq!(store.next(2, 41), Some(45));
    assert_eq!(store.next(2, 60), Some(7000));
    assert_eq!(store.drop_before(1), 1);
    assert_eq!(decoded(&store, 1, ALL), [(45, 3.0)]);
    assert_eq!(store.span(1), Some((45, 45)));
}

proptest! {
    #[test]
    fn like_a_list(rows in prop::collection::vec((0usize..4, -50i64..50, 0u32..3), 0..200)) {
        let mut store = Store::default();
        let mut model: Vec<(usize, Millis, f64, u32)> = Vec::new();
        let mut epoch = 0;
        for (i, (slot, ts, step)) in rows.into_iter().enumerate() {
            epoch += u32::from(step == 2 && i % 20 == 0);
            if store.insert(slot, float(ts, i as f64), epoch) != Inserted::Same {
                model.push((slot, ts, i as f64, epoch));
            }
        }
        for slot in 0..4 {
            for cut in 0..epoch + 2 {
                let mut want: Vec<(Millis, f64)> = model.iter().filter(|m| m.0 == slot && m.3 < cut && m.1 >= -20 && m.1 <= 30).map(|m| (m.1, m.2)).collect();
                want.sort_by_key(|s| s.0);
                want.dedup_by_key(|s| s.0);
                let mut got = Vec::new();
                store.samples(slot, cut, (-20, 30), &mut got).unwrap();
                prop_assert_eq!(floats(&got), want);
            }
            let mut want: Vec<_> = model.iter().filter(|m| m.0 == slot).map(|m| m.1).collect();
            let mut got: Vec<_> = decoded(&store, slot, ALL).iter().map(|s| s.0).collect();
            want.sort_unstable();
            got.sort_unstable();
            prop_assert_eq!(got, want);
        }
    }
}

fn histogram(ts: Millis, n: u64) -> OooSample {
    let value = model::histogram::IntHistogram {
        count: n,
        sum: n as f64,
        positive: model::histogram::IntBuckets {
            spans: vec![model::histogram::Span {
                offset: 0,
                length: 1,
            }],
            deltas: vec![n as i64],
        },
        ..Default::default()
    };
    OooSample {
        ts,
        start: 0,
        value: OooValue::Histogram(Box::new(model::histogram::Histogram::Int(value))),
    }
}

#[test]
fn kinds_lie_in_chunks_of_their_own() {
    let mut store = Store::default();
    let mut want = Vec::new();
    for i in 0..80i64 {
        let ts = i * 13 % 83;
        let sample = match i % 7 {
            0..3 => float(ts, i as f64),
            _ => histogram(ts, 5 + i as u64),
        };
        store.insert(0, sample.clone(), 0);
        want.push(sample);
    }
    want.sort_by_key(|s| s.ts);
    let mut got = Vec::new();
    store.samples(0, 1, ALL, &mut got).unwrap();
    let known = |s: &OooSample| match &s.value {
        OooValue::Float(v) => (s.ts, true, *v),
        OooValue::Histogram(h) => (s.ts, false, h.sum()),
    };
    assert!(got.iter().map(known).eq(want.iter().map(known)));
    let mut kinds = std::collections::BTreeSet::new();
    store.see(0, ALL, |seen| {
        kinds.insert(seen.encoding.0);
    });
    assert_eq!(kinds.len(), 2);
    store.delete(0, (10, 70));
    store.samples(0, 1, ALL, &mut got).unwrap();
    let left = want.iter().filter(|s| s.ts < 10 || s.ts > 70).map(known);
    assert!(got.iter().map(known).eq(left));
}
