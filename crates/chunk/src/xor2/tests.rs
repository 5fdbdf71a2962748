use proptest::prelude::*;

use super::*;

/// Times with jitter and jumps, values of all sorts, starts that change now and then.
fn samples() -> impl Strategy<Value = Vec<(i64, i64, f64)>> {
    let step = (
        prop_oneof![
            6 => Just(15_000i64),
            2 => 14_000i64..16_000,
            1 => 1i64..10_000_000,
            1 => 1i64..1 << 50,
        ],
        prop_oneof![
            4 => Just(None),
            3 => (0i64..1000).prop_map(|v| Some(v as f64)),
            1 => Just(Some(STALE_NAN)),
            1 => any::<u64>().prop_map(|bits| Some(f64::from_bits(bits))),
        ],
        prop_oneof![8 => Just(None), 1 => (-20_000i64..20_000).prop_map(Some)],
    );
    (any::<bool>(), prop::collection::vec(step, 1..300)).prop_map(|(starts, steps)| {
        let (mut ts, mut start, mut value) = (1_600_000_000_000i64, 0, 1.0);
        let mut list = Vec::new();
        for (step, next, started) in steps {
            ts += step;
            value = next.unwrap_or(value);
            if let Some(distance) = started
                && starts
            {
                start = ts - distance;
            }
            list.push((ts, start, value));
        }
        list
    })
}

fn encode(list: &[(i64, i64, f64)]) -> Encoder {
    let mut e = Encoder::new();
    for &(ts, start, value) in list {
        e.append(ts, start, value);
    }
    e
}

fn columns(list: &[(i64, i64, f64)]) -> Columns {
    let mut columns = Columns::default();
    for &(ts, start, value) in list {
        columns.push(ts, value);
        columns.started(start);
    }
    columns
}

#[test]
fn a_steady_series_takes_a_bit_a_sample() {
    let list: Vec<_> = (0..120).map(|i| (i * 15_000, 0, 7.5)).collect();
    let e = encode(&list);
    // Header, first sample, distance and a bit, and 118 bits.
    assert_eq!(e.bytes().len(), 3 + 9 + 3 + 119_usize.div_ceil(8) - 1);
    let mut out = Columns::default();
    decode(e.bytes(), &mut out).unwrap();
    assert_eq!(out, columns(&list));
    assert!(out.starts.is_empty());
}

#[test]
fn starts_that_stay_are_told_once() {
    let list: Vec<_> = (0..100).map(|i| (i * 15_000, 5, 7.5)).collect();
    let without: Vec<_> = list.iter().map(|s| (s.0, 0, s.2)).collect();
    let e = encode(&list);
    assert_eq!(e.bytes().len(), encode(&without).bytes().len() + 1);
    let mut out = Columns::default();
    decode(e.bytes(), &mut out).unwrap();
    assert_eq!(out.starts, [5; 100]);
}

#[test]
fn damage_is_an_error_and_changes_nothing() {
    let e = encode(&[
        (10, 1, 1.0),
        (20, 1, 2.0),
        (30, 25, 2.5),
        (1 << 40, 0, STALE_NAN),
    ]);
    let mut out = columns(&[(1, 0, 1.0)]);
    for len in 0..e.bytes().len() {
        assert!(decode(&e.bytes()[..len], &mut out).is_err(), "{len}");
        assert_eq!(out, columns(&[(1, 0, 1.0)]));
    }
    assert!(decode(&[0xff, 0xff, 0, 0], &mut out).is_err());
}

proptest! {
    #[test]
    fn what_is_appended_is_read(list in samples(), at in 0usize..300) {
        let mut e = Encoder::new();
        for (i, &(ts, start, value)) in list.iter().enumerate() {
            e.append(ts, start, value);
            if i == at {
                e = Encoder::resume(e.bytes()).unwrap();
            }
            prop_assert_eq!(e.last_value().map(f64::to_bits), Some(value.to_bits()));
            prop_assert_eq!(e.previous_ts(), i.checked_sub(1).map(|i| list[i].0));
        }
        let at_once = encode(&list);
        prop_assert_eq!(e.bytes(), at_once.bytes());
        let mut out = Columns::default();
        decode(e.bytes(), &mut out).unwrap();
        prop_assert_eq!(out, columns(&list));
    }

    #[test]
    fn any_bytes_are_samples_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut out = Columns::default();
        let _ = decode(&bytes, &mut out);
        let _ = Encoder::resume(&bytes);
    }
}
