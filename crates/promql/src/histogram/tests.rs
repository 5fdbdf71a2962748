//! Arithmetic of histograms with different buckets, against buckets one by one.

use std::collections::BTreeMap;

use model::histogram::Buckets;
use proptest::prelude::*;

use super::sum::Sum;
use super::*;
use chunk::histograms::is_reset;

fn histogram(schema: i32, pairs: &BTreeMap<i32, u8>) -> FloatHistogram {
    let positive = Buckets::from_pairs(pairs.iter().map(|(i, c)| (*i, f64::from(*c))));
    FloatHistogram {
        schema,
        count: positive.counts.iter().sum(),
        sum: 1.0,
        positive,
        ..FloatHistogram::default()
    }
}

/// The buckets of a lower resolution, one by one.
fn reduced(h: &FloatHistogram, schema: i32) -> BTreeMap<i32, f64> {
    let mut out = BTreeMap::new();
    for (i, count) in h.positive.iter() {
        let place = f64::from(i) / 2f64.powi(h.schema - schema);
        *out.entry(place.ceil() as i32).or_insert(0.0) += count;
    }
    out
}

fn pairs() -> impl Strategy<Value = BTreeMap<i32, u8>> {
    prop::collection::btree_map(-40i32..40, any::<u8>(), 0..20)
}

proptest! {
    #[test]
    fn sums_are_those_of_the_buckets(
        all in prop::collection::vec((0i32..4, pairs()), 1..6),
        compensated in any::<bool>(),
    ) {
        let all: Vec<_> = all.iter().map(|(s, p)| histogram(*s, p)).collect();
        let lowest = all.iter().map(|h| h.schema).min().unwrap();
        let mut want: BTreeMap<i32, f64> = BTreeMap::new();
        for h in &all {
            for (i, count) in reduced(h, lowest) {
                *want.entry(i).or_insert(0.0) += count;
            }
        }
        let inner: Vec<_> = all.iter().map(Histogram::of_float).collect();
        let first = inner[0].as_ref();
        let mut sum = if compensated {
            Sum::compensated(first)
        } else {
            Sum::plain(first)
        };
        for h in &inner[1..] {
            sum.add(h.as_ref(), 1.0).unwrap();
        }
        let got = sum.finish().to_float();
        prop_assert_eq!(got.schema, lowest);
        prop_assert_eq!(got.positive.iter().collect::<BTreeMap<_, _>>(), want);
        prop_assert_eq!(got.count, all.iter().map(|h| h.count).sum::<f64>());
    }

    #[test]
    fn what_only_grows_was_not_reset(before in pairs(), more in pairs()) {
        let mut after = before.clone();
        for (i, c) in &more {
            let cell = after.entry(*i).or_insert(0);
            *cell = cell.saturating_add(*c);
        }
        let (a, b) = (histogram(2, &before), histogram(2, &after));
        let (a, b) = (Histogram::of_float(&a), Histogram::of_float(&b));
        prop_assert!(!is_reset(b.as_ref(), a.as_ref()));
        let fell = before.iter().any(|(i, c)| after[i] > *c) || a.counts.iter().sum::<f64>() < b.counts.iter().sum::<f64>();
        prop_assert_eq!(is_reset(a.as_ref(), b.as_ref()), fell);
    }
}

#[test]
fn custom_bounds_meet_where_both_have_them() {
    let custom = |bounds: &[f64], counts: &[f64]| FloatHistogram {
        schema: CUSTOM_SCHEMA,
        count: counts.iter().sum(),
        positive: Buckets::from_pairs((0..).zip(counts.iter().copied())),
        custom_values: bounds.into(),
        ..FloatHistogram::default()
    };
    let a = Histogram::of_float(&custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]));
    let b = Histogram::of_float(&custom(&[1.0, 5.0, 9.0], &[1.0, 1.0, 1.0, 1.0]));
    let mut sum = Sum::plain(a.as_ref());
    assert!(sum.add(b.as_ref(), 1.0).unwrap().reconciled);
    let sum = sum.finish().to_float();
    assert_eq!(*sum.custom_values, [1.0, 5.0]);
    assert_eq!(sum.positive.counts, [2.0, 6.0, 6.0]);
    let exponential = Histogram::of_float(&histogram(0, &BTreeMap::from([(1, 1)])));
    assert!(
        Sum::plain(a.as_ref())
            .add(exponential.as_ref(), 1.0)
            .is_err()
    );
    assert!(is_reset(b.as_ref(), a.as_ref()), "fewer up to 5");
}

#[test]
fn trimming_keeps_what_lies_on_one_side() {
    let h = Histogram::of_float(&histogram(0, &BTreeMap::from([(1, 4), (3, 8)])));
    let below = trim::trim(&h, 2.0, true).to_float();
    assert_eq!((below.count, below.positive.counts), (4.0, vec![4.0]));
    let above = trim::trim(&h, 2.0, false).to_float();
    assert_eq!((above.count, above.positive.counts), (8.0, vec![8.0]));
    let half = trim::trim(&h, 2f64.powf(2.5), true).to_float();
    assert!((half.count - 8.0).abs() < 1e-9);
    assert_eq!(text::text(&h), "{count:12, sum:1, (1,2]:4, (4,8]:8}");
}

#[test]
fn finer_custom_buckets_are_added_one_after_the_other() {
    let custom = |bounds: &[f64], counts: &[f64]| {
        let pairs = (0..).zip(counts.iter().copied());
        let positive = Buckets::from_pairs(pairs);
        Histogram::of_float(&FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count: positive.counts.iter().sum(),
            positive,
            custom_values: bounds.to_vec().into(),
            ..FloatHistogram::default()
        })
    };
    let (a, b, c) = (0.1, 0.2, 0.3);
    let coarse = custom(&[1.0], &[0.0, a + b + c]);
    let fine = custom(&[1.0, 2.0, 3.0], &[0.0, a, b, c]);
    let mut sum = Sum::plain(coarse.as_ref());
    assert!(sum.add(fine.as_ref(), -1.0).unwrap().reconciled);
    let left = sum.finish();
    // At once it would be nothing.
    let one_by_one = (a + b + c) - a - b - c;
    assert_ne!(one_by_one, 0.0);
    assert_eq!(left.counts.last(), Some(&one_by_one));
}
