use model::histogram::{CUSTOM_SCHEMA, Span};
use model::{STALE_NAN, is_stale};
use proptest::prelude::*;

use super::*;

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

/// Positive buckets by absolute counts.
fn int(spans: &[Span], counts: &[i64]) -> IntHistogram {
    let mut left = 0;
    let deltas = counts.iter().map(|c| c - std::mem::replace(&mut left, *c));
    IntHistogram {
        schema: 1,
        count: counts.iter().sum::<i64>() as u64,
        sum: counts.iter().sum::<i64>() as f64 * 1.5,
        zero_threshold: 1e-128,
        positive: IntBuckets {
            spans: spans.to_vec(),
            deltas: deltas.collect(),
        },
        ..IntHistogram::default()
    }
}

fn float(spans: &[Span], counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema: 1,
        count: counts.iter().sum(),
        sum: counts.iter().sum::<f64>() * 1.5,
        positive: Buckets {
            spans: spans.to_vec(),
            counts: counts.to_vec(),
        },
        ..FloatHistogram::default()
    }
}

fn stale() -> Histogram {
    Histogram::Int(IntHistogram {
        sum: STALE_NAN,
        count: 99,
        ..IntHistogram::default()
    })
}

fn gauge(mut h: IntHistogram) -> Histogram {
    h.counter_reset = CounterReset::Gauge;
    Histogram::Int(h)
}

fn encoder(list: &[Histogram]) -> Encoder {
    let mut e = Encoder::new(&list[0], false);
    for (i, h) in list.iter().enumerate() {
        let outcome = e.append(i as i64 * 10, 0, h).unwrap();
        assert!(!matches!(outcome, Outcome::Cut(_)), "{i}: {h:?}");
    }
    e
}

/// The histograms of a chunk with spans as short as can be, without what is known of resets.
fn counts(e: &Encoder) -> Vec<Vec<(i32, i64)>> {
    let rows = rows(e.encoding(), e.bytes()).unwrap();
    rows.iter()
        .map(|row| match &row.value {
            Histogram::Int(h) => h.positive.iter().collect(),
            Histogram::Float(_) => panic!("a float histogram"),
        })
        .collect()
}

#[test]
fn what_fits_and_what_does_not() {
    use CounterReset::{Gauge, NotReset, Reset, Unknown};
    let base = || int(&[span(0, 2), span(1, 1)], &[3, 0, 4]);
    let with = |change: &dyn Fn(&mut IntHistogram)| {
        let mut h = int(&[span(0, 2), span(1, 1)], &[5, 0, 4]);
        change(&mut h);
        Histogram::Int(h)
    };
    // What comes after `base`; and what the next chunk's header says, if there is one.
    let cases: Vec<(&str, Histogram, Result<Outcome, CounterReset>)> = vec![
        (
            "the same again",
            Histogram::Int(base()),
            Ok(Outcome::Appended),
        ),
        ("more", with(&|_| ()), Ok(Outcome::Appended)),
        ("a stale marker", stale(), Ok(Outcome::Appended)),
        (
            "new buckets",
            Histogram::Int(int(&[span(0, 4)], &[3, 1, 1, 4])),
            Ok(Outcome::Recoded),
        ),
        (
            "without the empty bucket",
            Histogram::Int(int(&[span(0, 1), span(2, 1)], &[3, 4])),
            Ok(Outcome::Appended),
        ),
        (
            "new buckets, and without the empty one",
            Histogram::Int(int(&[span(-2, 1), span(1, 1), span(1, 2)], &[1, 3, 1, 4])),
            Ok(Outcome::Recoded),
        ),
        (
            "a bucket fell",
            with(&|h| h.positive.deltas = vec![2, -1, 9]),
            Err(Reset),
        ),
        (
            "a bucket is gone",
            Histogram::Int(int(&[span(0, 1)], &[100])),
            Err(Reset),
        ),
        ("the count fell", with(&|h| h.count = 1), Err(Reset)),
        (
            "the zero count fell",
            {
                let mut h = base();
                h.zero_count = 0;
                Histogram::Int(h)
            },
            Ok(Outcome::Appended),
        ),
        ("it says so", with(&|h| h.counter_reset = Reset), Err(Reset)),
        ("another schema", with(&|h| h.schema = 0), Err(Unknown)),
        (
            "another zero bucket",
            with(&|h| h.zero_threshold = 0.5),
            Err(Unknown),
        ),
        ("a gauge", with(&|h| h.counter_reset = Gauge), Err(Gauge)),
        ("floats", Histogram::Float(base().to_float()), Err(Unknown)),
    ];
    for (what, next, want) in cases {
        let mut e = encoder(&[Histogram::Int(base())]);
        let before = e.bytes().to_vec();
        let got = e.append(100, 0, &next).unwrap();
        match want {
            Ok(outcome) => assert_eq!((got, e.len()), (outcome, 2), "{what}"),
            Err(reset) => {
                assert_eq!(got, Outcome::Cut(before), "{what}");
                assert_eq!((e.counter_reset(), e.len()), (reset, 1), "{what}");
            }
        }
    }
    // Only stale markers follow a stale marker.
    let mut e = encoder(&[Histogram::Int(base()), stale(), stale()]);
    assert!(matches!(
        e.append(100, 0, &with(&|_| ())),
        Ok(Outcome::Cut(_))
    ));
    assert_eq!(e.counter_reset(), Unknown);
    // Cut for other reasons: the header says whether there was a reset.
    let mut e = encoder(&[Histogram::Int(base())]);
    e.cut(100, 0, &with(&|_| ())).unwrap();
    assert_eq!(e.counter_reset(), NotReset);
    e.cut(100, 0, &Histogram::Int(base())).unwrap();
    assert_eq!(e.counter_reset(), Reset);
}

#[test]
fn new_buckets_are_empty_in_the_rows_before() {
    let e = encoder(
        &[
            Histogram::Int(int(&[span(0, 2), span(1, 1)], &[3, 0, 4])),
            Histogram::Int(int(&[span(0, 2), span(1, 1)], &[3, 0, 5])),
            Histogram::Int(int(&[span(-2, 1), span(1, 1), span(1, 2)], &[1, 3, 1, 6])),
            Histogram::Int(int(&[span(0, 1), span(1, 2)], &[0; 3])).clone(),
        ][..3],
    );
    assert_eq!(
        counts(&e),
        [
            [(-2, 0), (0, 3), (1, 0), (2, 0), (3, 4)],
            [(-2, 0), (0, 3), (1, 0), (2, 0), (3, 5)],
            [(-2, 1), (0, 3), (1, 0), (2, 1), (3, 6)],
        ]
    );
}

#[test]
fn gauges_rise_and_fall() {
    let e = encoder(&[
        gauge(int(&[span(0, 2)], &[3, 4])),
        gauge(int(&[span(1, 2)], &[1, 2])),
        gauge(int(&[span(0, 1)], &[9])),
        gauge(IntHistogram {
            sum: STALE_NAN,
            ..IntHistogram::default()
        }),
    ]);
    assert_eq!(e.counter_reset(), CounterReset::Gauge);
    let rows = rows(e.encoding(), e.bytes()).unwrap();
    assert_eq!(
        counts(&e),
        [
            vec![(0, 3), (1, 4), (2, 0)],
            vec![(0, 0), (1, 1), (2, 2)],
            vec![(0, 9), (1, 0), (2, 0)],
            vec![],
        ]
    );
    let Histogram::Int(h) = &rows[1].value else {
        panic!("{rows:?}")
    };
    assert_eq!(h.counter_reset, CounterReset::Gauge);
}

#[test]
fn columns_say_what_rows_say() {
    let custom: Arc<[f64]> = Arc::from([0.005, 1.0, 33_554.43, 1e9, -0.5]);
    let mut all = vec![
        Histogram::Int(int(&[span(0, 2)], &[3, 4])),
        Histogram::Int(int(&[span(0, 2)], &[3, 9])),
        stale(),
        Histogram::Float(float(&[span(-4, 2), span(3, 1)], &[0.5, 4.0, 1e300])),
        Histogram::Float(float(&[span(-4, 2), span(3, 1)], &[0.75, 4.0, 1e300])),
    ];
    for (count, bucket) in [(4, [1, 3]), (5, [1, 4])] {
        let mut h = int(&[span(1, 2)], &bucket);
        h.schema = CUSTOM_SCHEMA;
        h.zero_threshold = 0.0;
        h.count = count;
        h.custom_values = Arc::clone(&custom);
        all.push(Histogram::Int(h));
    }
    let mut two_sided = int(&[span(0, 1)], &[7]);
    two_sided.negative = IntBuckets::from_pairs([(-3, 2), (5, 1)]);
    two_sided.zero_count = 12;
    all.push(Histogram::Int(two_sided));
    let mut e = Encoder::new(&all[0], true);
    let mut chunks = Vec::new();
    for (i, h) in all.iter().enumerate() {
        let encoding = e.encoding();
        if let Outcome::Cut(chunk) = e.append(i as i64 * 10, i as i64 / 2, h).unwrap() {
            chunks.push((encoding, chunk));
        }
    }
    chunks.push((e.encoding(), e.bytes().to_vec()));
    let mut columns = Columns::default();
    let mut listed = Vec::new();
    for (encoding, chunk) in &chunks {
        decode(*encoding, chunk, &mut columns).unwrap();
        listed.extend(rows(*encoding, chunk).unwrap());
        assert_eq!(
            crate::sample_count(*encoding, chunk),
            Ok(rows(*encoding, chunk).unwrap().len())
        );
    }
    assert_eq!(listed.len(), all.len());
    for (i, row) in listed.iter().enumerate() {
        let column = columns.histograms.get(i).unwrap();
        assert_eq!((row.ts, row.start), (i as i64 * 10, i as i64 / 2));
        assert_eq!(columns.histograms.ts[i], row.ts);
        assert_eq!(columns.histograms.starts[i], row.start);
        if is_stale(row.value.sum()) {
            assert!(column.is_stale() && column.counts.is_empty());
            continue;
        }
        assert_eq!(column.to_histogram(), row.value.to_float(), "{i}");
        let mut given = all[i].to_float();
        given.counter_reset = row.value.to_float().counter_reset;
        assert_eq!(given, row.value.to_float(), "{i}");
    }
}

#[test]
fn finer_schemas_are_read_at_the_finest_known_one() {
    let mut h = int(&[span(1, 4)], &[1, 2, 3, 4]);
    h.schema = 9;
    let e = encoder(&[Histogram::Int(h.clone()), Histogram::Int(h)]);
    assert_eq!(counts(&e), [[(1, 3), (2, 7)], [(1, 3), (2, 7)]]);
    let mut columns = Columns::default();
    decode(e.encoding(), e.bytes(), &mut columns).unwrap();
    let row = columns.histograms.get(1).unwrap();
    assert_eq!((row.layout.schema, row.counts), (8, &[3.0, 7.0][..]));
}

#[test]
fn damage_is_an_error_and_changes_nothing() {
    let h = Histogram::Float(float(&[span(0, 3)], &[1.0, 2.0, 3.0]));
    let e = encoder(&[h.clone(), h]);
    let mut columns = Columns::default();
    decode(e.encoding(), e.bytes(), &mut columns).unwrap();
    let before = columns.clone();
    for len in 0..e.bytes().len() {
        let cut = &e.bytes()[..len];
        assert_eq!(
            decode(e.encoding(), cut, &mut columns),
            Err(ChunkError::Truncated),
            "{len}"
        );
        assert_eq!(columns, before);
        assert!(rows(e.encoding(), cut).is_err());
    }
    // A span of 4294967295 buckets, a list of as many spans, an unknown schema.
    let mut w = crate::bits::Writer::resume(vec![0, 9, 0], 24);
    let mut long = w.clone();
    for (w, many) in [(&mut w, false), (&mut long, true)] {
        w.bits(0, 8);
        w.varbit(0);
        w.uvarbit(if many { u64::MAX } else { 1 });
        w.uvarbit(u32::MAX as u64);
        w.varbit(0);
        assert_eq!(
            decode(Encoding::HISTOGRAM, w.bytes(), &mut columns),
            Err(ChunkError::Truncated)
        );
    }
    assert_eq!(
        decode(
            Encoding::HISTOGRAM,
            &[0, 1, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 100],
            &mut columns
        ),
        Err(ChunkError::Corrupt("unknown histogram schema"))
    );
    // What does not fit its spans is not appended.
    let mut e = e;
    let mut h = float(&[span(0, 3)], &[1.0, 2.0]);
    assert!(e.append(1000, 0, &Histogram::Float(h.clone())).is_err());
    h.positive.spans = vec![span(0, 1), span(-1, 1)];
    assert!(e.append(1000, 0, &Histogram::Float(h)).is_err());
    assert_eq!(e.len(), 2);
}

/// Steps of a counter or gauge: growth of buckets here and there, now and then something else.
fn series() -> impl Strategy<Value = Vec<(i64, i64, Histogram)>> {
    let step = (
        1i64..100_000,
        prop::collection::btree_map(-6i32..12, 0i64..1 << 20, 0..6),
        0u8..40,
        any::<u16>(),
    );
    (
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(step, 1..40),
    )
        .prop_map(|(gauge, floats, steps)| {
            let mut ts = -50_000;
            let mut start = 0;
            let mut held = std::collections::BTreeMap::<i32, i64>::new();
            let mut schema = 3;
            let mut list = Vec::new();
            for (step, grown, event, salt) in steps {
                ts += step;
                match event {
                    0 => held.clear(),
                    1 => schema -= 1,
                    2 => held.retain(|_, c| *c != 0),
                    3 | 4 => start = ts - step / 2,
                    _ => {}
                }
                for (bucket, more) in grown {
                    let count = held.entry(bucket).or_default();
                    *count = if gauge { more } else { *count + more };
                }
                let (low, high): (Vec<_>, Vec<_>) = held.iter().partition(|(b, _)| **b < 0);
                let buckets = |list: Vec<(&i32, &i64)>| {
                    IntBuckets::from_pairs(list.into_iter().map(|(b, c)| (*b, *c)))
                };
                let mut h = IntHistogram {
                    schema,
                    zero_threshold: 0.001,
                    zero_count: salt as u64 / 9000,
                    count: held.values().sum::<i64>() as u64 + salt as u64 / 9000,
                    sum: f64::from(salt) * 0.5,
                    positive: buckets(high),
                    negative: buckets(low),
                    ..IntHistogram::default()
                };
                if event == 5 {
                    h.sum = STALE_NAN;
                }
                if gauge {
                    h.counter_reset = CounterReset::Gauge;
                }
                list.push((
                    ts,
                    start,
                    match floats {
                        true => Histogram::Float(h.to_float()),
                        false => Histogram::Int(h),
                    },
                ));
            }
            list
        })
}

/// Without buckets that are empty and without what is known of resets.
fn plain(h: &Histogram) -> FloatHistogram {
    let mut h = h.to_float();
    if is_stale(h.sum) {
        return FloatHistogram::default();
    }
    h.counter_reset = CounterReset::Unknown;
    h.compact();
    h
}

proptest! {
    #[test]
    fn what_is_appended_is_read(list in series(), starts in any::<bool>()) {
        let mut e = Encoder::new(&list[0].2, starts);
        let mut chunks = Vec::new();
        for (ts, start, h) in &list {
            let encoding = e.encoding();
            if let Outcome::Cut(chunk) = e.append(*ts, *start, h).unwrap() {
                chunks.push((encoding, chunk));
            }
            prop_assert!(e.last_is(h) || e.len() > 1);
            // Going on with the bytes is the same as going on.
            let again = Encoder::resume(e.encoding(), e.bytes()).unwrap();
            prop_assert_eq!(again.bytes(), e.bytes());
            let mut so_far = Columns::default();
            decode(e.encoding(), e.bytes(), &mut so_far).unwrap();
            let times = &so_far.histograms.ts;
            let previous = times.len().checked_sub(2).map(|i| times[i]);
            prop_assert_eq!((e.previous_ts(), again.previous_ts()), (previous, previous));
            if ts % 3 == 0 {
                e = again;
            }
        }
        chunks.push((e.encoding(), e.into_bytes()));
        let mut columns = Columns::default();
        let mut listed = Vec::new();
        for (encoding, chunk) in &chunks {
            decode(*encoding, chunk, &mut columns).unwrap();
            let of_chunk = rows(*encoding, chunk).unwrap();
            // And they fit into one chunk again (but a stale marker does not know that it is a gauge).
            let mut again = Encoder::new(&of_chunk[0].value, starts);
            for row in of_chunk.iter().filter(|row| !is_stale(row.value.sum())) {
                let outcome = again.append(row.ts, row.start, &row.value).unwrap();
                prop_assert_eq!(outcome, Outcome::Appended);
            }
            listed.extend(of_chunk);
        }
        prop_assert_eq!(listed.len(), list.len());
        for (i, ((ts, start, h), row)) in list.iter().zip(&listed).enumerate() {
            prop_assert_eq!(*ts, row.ts);
            prop_assert_eq!(if starts { *start } else { 0 }, row.start);
            prop_assert_eq!(plain(h), plain(&row.value));
            let column = columns.histograms.get(i).unwrap().to_histogram();
            prop_assert_eq!(is_stale(h.sum()), is_stale(column.sum));
            if !is_stale(h.sum()) {
                prop_assert_eq!(column, row.value.to_float());
            }
        }
    }

    #[test]
    fn any_bytes_are_histograms_or_an_error(
        encoding in 2u8..=6,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut columns = Columns::default();
        let read = decode(Encoding(encoding), &bytes, &mut columns);
        prop_assert_eq!(columns.holds_nothing(), read.is_err() || columns.holds_nothing());
        let _ = rows(Encoding(encoding), &bytes);
        let _ = Encoder::resume(Encoding(encoding), &bytes);
    }
}
