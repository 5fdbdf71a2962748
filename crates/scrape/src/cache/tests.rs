use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// The same, slow and plain.
#[derive(Default)]
struct Plain {
    refs: BTreeMap<String, u64>,
    dropped: BTreeSet<String>,
    tracked: BTreeSet<u64>,
    next: u64,
}

/// One body: series with whether they are tracked; and whether the scrape is taken in.
type Body = (Vec<(u8, bool)>, bool);

fn text(series: u8) -> String {
    format!("series_{}{{label=\"{}\"}}", series % 5, series)
}

fn scrape(
    cache: &mut Cache,
    plain: &mut Plain,
    (body, commit): &Body,
) -> Result<(), TestCaseError> {
    cache.begin();
    let mut seen = BTreeSet::new();
    let mut now = BTreeSet::new();
    let mut added: Vec<(String, Option<u64>)> = Vec::new();
    for (series, tracked) in body {
        let text = text(*series);
        let expected = cache.expected() == text.as_bytes();
        let known = cache.look_up(text.as_bytes(), expected, *tracked);
        let again = !seen.insert(text.clone());
        let fresh = added.iter().find(|(t, _)| *t == text).map(|(_, id)| *id);
        let known_ref = fresh.unwrap_or_else(|| plain.refs.get(&text).copied());
        let is_dropped = plain.dropped.contains(&text) || fresh == Some(None);
        match known {
            Known::New => {
                prop_assert!(known_ref.is_none() && !is_dropped, "{text} is not new");
                // Every seventh series is dropped.
                let drop = series % 7 == 0;
                let place = cache
                    .add(text.as_bytes(), MetricType::Unknown, drop, *tracked)
                    .unwrap();
                if drop {
                    added.push((text, None));
                } else {
                    plain.next += 1;
                    cache.set_ref(
                        place,
                        SeriesRef {
                            id: plain.next,
                            generation: 1,
                        },
                    );
                    if *tracked {
                        now.insert(plain.next);
                    }
                    added.push((text, Some(plain.next)));
                }
            }
            Known::Series(_, series) => {
                prop_assert!(!again && !is_dropped, "{text}");
                prop_assert_eq!(Some(series.id), known_ref);
                if *tracked {
                    now.insert(series.id);
                }
            }
            Known::Again(..) => prop_assert!(again && !is_dropped, "{text}"),
            Known::Dropped => prop_assert!(is_dropped, "{text}"),
        }
    }
    if *commit {
        let gone: Vec<u64> = cache.vanished().iter().map(|s| s.id).collect();
        let want: Vec<u64> = plain.tracked.difference(&now).copied().collect();
        prop_assert_eq!(gone, want);
        cache.commit();
        for (text, id) in added {
            match id {
                Some(id) => drop(plain.refs.insert(text, id)),
                None => drop(plain.dropped.insert(text)),
            }
        }
        plain.refs.retain(|text, _| seen.contains(text));
        plain.dropped.retain(|text| seen.contains(text));
        prop_assert_eq!(cache.len(), plain.refs.len() + plain.dropped.len());
        plain.tracked = now;
    } else {
        let gone: Vec<u64> = cache.vanish().iter().map(|s| s.id).collect();
        let want: Vec<u64> = plain.tracked.iter().copied().collect();
        prop_assert_eq!(gone, want);
        plain.tracked.clear();
    }
    let mut tracked: Vec<u64> = cache.tracked().iter().map(|s| s.id).collect();
    tracked.sort_unstable();
    prop_assert_eq!(tracked, plain.tracked.iter().copied().collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn does_what_a_plain_map_does(
        bodies in prop::collection::vec(
            (prop::collection::vec((0u8..20, prop::bool::weighted(0.9)), 0..25), prop::bool::weighted(0.8)),
            1..12,
        )
    ) {
        let mut cache = Cache::default();
        let mut plain = Plain::default();
        for body in &bodies {
            // Twice, since the second time most is where it is expected.
            scrape(&mut cache, &mut plain, body)?;
            scrape(&mut cache, &mut plain, body)?;
        }
    }
}

#[test]
fn scrapes_may_go_on_for_ever() {
    let (mut cache, mut plain) = (Cache::default(), Plain::default());
    let both: Body = (vec![(1, true), (2, true)], true);
    for _ in 0..70_000 {
        scrape(&mut cache, &mut plain, &both).unwrap();
    }
    scrape(&mut cache, &mut plain, &(vec![(1, true)], true)).unwrap();
}

#[test]
fn what_is_inherited_vanishes_unless_it_is_shown_again() {
    let series = |id| SeriesRef { id, generation: 1 };
    let mut cache = Cache::inheriting(vec![series(1), series(2)]);
    cache.begin();
    assert!(matches!(cache.look_up(b"a", false, true), Known::New));
    let place = cache.add(b"a", MetricType::Gauge, false, true).unwrap();
    cache.set_ref(place, series(2));
    assert_eq!(cache.vanished(), [series(1)]);
    cache.commit();
    assert_eq!(cache.tracked(), [series(2)]);
}

#[test]
fn two_texts_of_one_series_end_together() {
    let series = SeriesRef {
        id: 9,
        generation: 0,
    };
    let mut cache = Cache::default();
    cache.begin();
    for text in [b"a{x=\"1\"}".as_slice(), b"a{x=\"1\",}"] {
        assert!(matches!(cache.look_up(text, false, true), Known::New));
        let place = cache.add(text, MetricType::Gauge, false, true).unwrap();
        cache.set_ref(place, series);
    }
    cache.commit();
    cache.begin();
    assert!(matches!(
        cache.look_up(b"a{x=\"1\",}", false, true),
        Known::Series(..)
    ));
    assert_eq!(cache.vanished(), []);
    cache.commit();
    cache.begin();
    assert_eq!(cache.vanished(), [series]);
}
