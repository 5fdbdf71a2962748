use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use model::{Labels, MatchOp, Matcher};
use proptest::prelude::*;

use super::*;

/// Ids are places in the list.
struct Memory {
    lists: BTreeMap<(String, String), Vec<u32>>,
    count: u32,
}

impl Memory {
    fn new(series: &[Labels]) -> Self {
        let mut lists: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
        for (i, labels) in series.iter().enumerate() {
            for (n, v) in labels {
                lists
                    .entry((n.into(), v.into()))
                    .or_default()
                    .push(i as u32);
            }
        }
        Self {
            lists,
            count: series.len() as u32,
        }
    }
}

impl Index for Memory {
    type Key = u32;
    type Error = Infallible;

    fn all(&self) -> Result<Vec<u32>, Infallible> {
        Ok((0..self.count).collect())
    }

    fn find(&self, name: &str, value: &str) -> Result<Option<u32>, Infallible> {
        let at = self.lists.keys().position(|k| k.0 == name && k.1 == value);
        Ok(at.map(|i| i as u32))
    }

    fn values(
        &self,
        name: &str,
        _prefix: &str,
        each: &mut dyn FnMut(&str, u32),
    ) -> Result<(), Infallible> {
        for (i, key) in self.lists.keys().enumerate() {
            if key.0 == name {
                each(&key.1, i as u32);
            }
        }
        Ok(())
    }

    fn postings(&self, keys: &[u32], each: &mut dyn FnMut(&[u32])) -> Result<(), Infallible> {
        for key in keys {
            each(self.lists.values().nth(*key as usize).unwrap());
        }
        Ok(())
    }
}

fn list() -> impl Strategy<Value = Vec<u32>> {
    let small = prop::collection::btree_set(0u32..200, 0..30);
    let large = prop::collection::btree_set(0u32..5_000, 0..600);
    let wide = prop::collection::btree_set(any::<u32>(), 0..20);
    prop_oneof![small, large, wide].prop_map(|s| s.into_iter().collect())
}

proptest! {
    #[test]
    fn sets_are_sets(a in list(), b in list()) {
        let (sa, sb): (BTreeSet<u32>, BTreeSet<u32>) =
            (a.iter().copied().collect(), b.iter().copied().collect());
        let mut common = a.clone();
        sets::intersect(&mut common, &b);
        prop_assert!(common.iter().eq(sa.intersection(&sb)));
        let mut rest = a.clone();
        sets::subtract(&mut rest, &b);
        prop_assert!(rest.iter().eq(sa.difference(&sb)));
    }

    #[test]
    fn unions_are_sets(lists in prop::collection::vec(list(), 0..12)) {
        let mut union = sets::Union::new();
        let mut want = BTreeSet::new();
        for l in &lists {
            union.add(l);
            want.extend(l.iter().copied());
        }
        prop_assert!(union.finish().into_iter().eq(want));
    }

    #[test]
    fn every_series_is_judged_as_by_itself(
        series in prop::collection::vec(
            prop::collection::btree_map("[abc]", "[xyz]|xy|", 0..3), 0..12),
        matchers in prop::collection::vec(
            (0usize..4, "[abcd]", prop_oneof![
                Just("x".to_owned()), Just(String::new()), Just(".*".to_owned()),
                Just(".+".to_owned()), Just("x|y".to_owned()), Just("x|".to_owned()),
                Just("x.*".to_owned()), Just("[yz]".to_owned()), Just("^$".to_owned()),
                Just("(x|xy)".to_owned()),
            ]), 0..4),
    ) {
        let series: Vec<Labels> = series.into_iter().map(Labels::from_pairs).collect();
        let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        let matchers: Vec<Matcher> = matchers
            .into_iter()
            .map(|(op, n, v)| Matcher::new(ops[op], n, v).unwrap())
            .collect();
        let want: Vec<u32> = series
            .iter()
            .enumerate()
            .filter(|(_, l)| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or(""))))
            .map(|(i, _)| i as u32)
            .collect();
        let got = resolve(&Memory::new(&series), &matchers).unwrap();
        prop_assert_eq!(got, want);
    }
}

/// An index of many values whose query is cancelled while they are tried.
struct Cancelling {
    values: usize,
    at: usize,
    cancel: model::Cancel,
}

impl Index for Cancelling {
    type Key = u32;
    type Error = std::convert::Infallible;

    fn all(&self) -> Result<Vec<u32>, Self::Error> {
        Ok((0..self.values as u32).collect())
    }

    fn find(&self, _: &str, _: &str) -> Result<Option<u32>, Self::Error> {
        Ok(None)
    }

    fn values(&self, _: &str, _: &str, each: &mut dyn FnMut(&str, u32)) -> Result<(), Self::Error> {
        for i in 0..self.values {
            if i == self.at {
                self.cancel.cancel();
            }
            each(&format!("value-{i}"), i as u32);
        }
        Ok(())
    }

    fn postings(&self, keys: &[u32], each: &mut dyn FnMut(&[u32])) -> Result<(), Self::Error> {
        keys.iter().for_each(|key| each(&[*key]));
        Ok(())
    }
}

#[test]
fn no_value_is_tried_long_after_the_query_ended() {
    let matcher = |op, value| model::Matcher::new(op, "l", value).unwrap();
    for (matcher, found) in [
        (matcher(model::MatchOp::Regex, "value-.*[0-9]"), 100_000),
        (matcher(model::MatchOp::NotRegex, "value-.*[0-9]"), 0),
    ] {
        let index = |at| Cancelling {
            values: 100_000,
            at,
            cancel: model::Cancel::default(),
        };
        let tried = |index: &Cancelling| {
            let mut scope = model::Scope::new(model::TimeRange::ALL, model::Budget::unlimited());
            scope.cancel = index.cancel.clone();
            let until = Until {
                index,
                scope: &scope,
            };
            let Ok(plan) = Plan::new(&until, std::slice::from_ref(&matcher));
            let Ok(ids) = plan.run(&until);
            (plan.keys().count(), ids.len(), until.stopped())
        };
        assert_eq!(tried(&index(usize::MAX)), (100_000, found, false));
        let (keys, ids, stopped) = tried(&index(10_000));
        assert!(stopped && keys < 11_000, "{keys} values were tried");
        // Whoever cancelled looks at that, not at what is found.
        assert!(ids == 0 || found == 0, "{ids}");
    }
}
