//! Several replicas of one series made one.
//!
//! [`union`] keeps every timestamp once; [`penalty`] follows one replica and changes to another
//! only where the first has a gap, as Thanos' queriers do (`pkg/dedup/iter.go`), so that the
//! distance between samples stays that of a single replica.

use model::{Millis, is_stale};

use crate::Columns;

mod mixed;

/// What a replica that was not chosen has to stay behind at the first sample, ms: no distance
/// between samples is known yet.
const FIRST_PENALTY: Millis = 5_000;

/// So many lanes are folded at once.
const MAX_FOLD: usize = 64;

/// Adds the samples of `next` to `base`; where both have a timestamp, `base` wins. Both ascend,
/// and so does the result. `scratch` is memory to work in.
///
/// Where histograms lose their neighbours by that, they no longer know about resets.
///
/// Costs what overlaps: samples of `base` before `next` begins are not touched.
pub fn union(base: &mut Columns, next: &Columns, scratch: &mut Columns) {
    if !base.histograms.is_empty() || !next.histograms.is_empty() {
        return mixed::union(base, next, scratch);
    }
    let Some(&first) = next.ts.first() else {
        return;
    };
    let start = base.ts.partition_point(|&t| t < first);
    if start == base.len() {
        base.extend_from(next, 0);
        return;
    }
    scratch.clear();
    scratch.extend_from(base, start);
    base.truncate(start);
    base.reserve(scratch.len() + next.len());
    let (mut a, mut b) = (0, 0);
    while let (Some(&ta), Some(&tb)) = (scratch.ts.get(a), next.ts.get(b)) {
        if ta <= tb {
            base.push(ta, scratch.values[a]);
            base.started(scratch.start(a));
            a += 1;
            b += (ta == tb) as usize;
        } else {
            base.push(tb, next.values[b]);
            base.started(next.start(b));
            b += 1;
        }
    }
    base.extend_from(scratch, a);
    base.extend_from(next, b);
}

/// Deduplicates `lanes` (each ascending) into `out`, which is cleared first.
///
/// The lanes are folded: ((0 + 1) + 2) + ... In each pair the earlier sample is taken; whichever
/// side was not taken must then be twice the last distance ahead to be considered again. With
/// `counter`, a side whose value lies under the last one taken when sides change is raised to it,
/// so that no reset appears that no target made. Histograms are chosen by their time alone, and where
/// sides change they no longer know about resets. Start timestamps come along with their samples.
pub fn penalty(lanes: &[Columns], counter: bool, out: &mut Columns) {
    out.clear();
    match lanes {
        [] => {}
        [one] => out.extend_from_all(one),
        _ if lanes
            .iter()
            .any(|l| !l.histograms.is_empty() || !l.starts.is_empty()) =>
        {
            mixed::penalty(lanes, counter, out);
        }
        _ if lanes.len() <= MAX_FOLD => fold(lanes, counter, out),
        _ => {
            // Nobody runs so many replicas; what only a hostile peer sends is folded in parts, so
            // that the recursion stays shallow.
            let mut parts: Vec<Columns> = Vec::with_capacity(lanes.len().div_ceil(MAX_FOLD));
            for part in lanes.chunks(MAX_FOLD) {
                let mut folded = Columns::default();
                fold(part, counter, &mut folded);
                parts.push(folded);
            }
            penalty(&parts, counter, out);
        }
    }
}

/// Two lanes or more.
fn fold(lanes: &[Columns], counter: bool, out: &mut Columns) {
    let [_, _, ..] = lanes else {
        return out.extend_from(lanes.first().unwrap_or(&Columns::default()), 0);
    };
    out.reserve(lanes.iter().map(Columns::len).max().unwrap_or(0));
    let mut fold = Fold::of(lanes, counter);
    let top = lanes.len() - 1;
    while fold.next(top) {
        let (ts, value) = fold.at(top);
        out.push(ts, value);
        if top == 1 {
            fold.run(out);
        }
    }
}

/// Gives each sample that is chosen, with its lane and its place there.
fn walk(lanes: &[Columns], counter: bool, mut chosen: impl FnMut(Millis, f64, usize, usize)) {
    let mut fold = Fold::of(lanes, counter);
    let top = lanes.len() - 1;
    while fold.next(top) {
        let lane = fold.chosen(top);
        let (ts, value) = fold.lanes[lane].at();
        chosen(ts, value, lane, fold.lanes[lane].pos);
    }
}

struct Lane<'a> {
    columns: &'a Columns,
    pos: usize,
    /// Added to every value.
    raised: f64,
}

impl Lane<'_> {
    fn live(&self) -> bool {
        self.pos < self.columns.len()
    }

    fn at(&self) -> (Millis, f64) {
        // Asked of live lanes only; the last sample stands for a lane that has ended.
        let pos = self.pos.min(self.columns.len() - 1);
        (self.columns.ts[pos], self.value(pos))
    }

    /// The value at `pos`, raised. Adding to a stale marker, even nothing, would make it another number.
    fn value(&self, pos: usize) -> f64 {
        let value = self.columns.values[pos];
        match self.raised == 0.0 || is_stale(value) {
            true => value,
            false => value + self.raised,
        }
    }

    /// Goes to the first sample at or after `ts`, back too: a penalty that has become smaller
    /// brings back what a larger one passed over.
    fn seek(&mut self, ts: Millis) -> bool {
        let all = &self.columns.ts;
        let here = all.get(self.pos).is_none_or(|&t| t >= ts);
        let before = self.pos > 0 && all[self.pos - 1] >= ts;
        if !here && all.get(self.pos + 1).is_some_and(|&t| t >= ts) {
            self.pos += 1;
        } else if !here || before {
            self.pos = all.partition_point(|&t| t < ts);
        }
        self.live()
    }
}

/// Side `a` is the pair below (or lane 0), side `b` a lane.
struct Pair {
    last: Option<Millis>,
    a_live: bool,
    b_live: bool,
    a_penalty: Millis,
    b_penalty: Millis,
    use_a: bool,
}

struct Fold<'a> {
    lanes: Vec<Lane<'a>>,
    /// Pair `n` (from 1, at `n - 1`) joins what is below it with lane `n`.
    pairs: Vec<Pair>,
    counter: bool,
}

impl<'a> Fold<'a> {
    /// Two lanes or more, before the first sample is chosen.
    fn of(lanes: &'a [Columns], counter: bool) -> Self {
        let of_columns = |columns| Lane {
            columns,
            pos: 0,
            raised: 0.0,
        };
        let mut fold = Fold {
            lanes: lanes.iter().map(of_columns).collect(),
            pairs: Vec::with_capacity(lanes.len() - 1),
            counter,
        };
        // Every pair looks at its first samples before it chooses; what a pair gives first is asked
        // for by the pair around it.
        for n in 1..lanes.len() {
            let a_live = if n == 1 {
                fold.lanes[0].live()
            } else {
                fold.next(n - 1)
            };
            fold.pairs.push(Pair {
                last: None,
                a_live,
                b_live: fold.lanes[n].live(),
                a_penalty: 0,
                b_penalty: 0,
                use_a: true,
            });
        }
        fold
    }

    /// Of two lanes, after one was chosen: adds what follows in it and lies before anything that the other one
    /// may give. Where a replica misses nothing that is all there is.
    fn run(&mut self, out: &mut Columns) {
        let ([a, b], [pair]) = (&mut self.lanes[..], &mut self.pairs[..]) else {
            return;
        };
        let (lane, other, other_live, penalty) = match pair.use_a {
            true => (a, b, pair.b_live, &mut pair.b_penalty),
            false => (b, a, pair.a_live, &mut pair.a_penalty),
        };
        let (Some(last), Some(&other_end)) = (&mut pair.last, other.columns.ts.last()) else {
            return;
        };
        let from = lane.pos + 1;
        let mut to = from;
        for &ts in lane.columns.ts.get(from..).unwrap_or_default() {
            if other_live {
                // The other one's next sample is this one or lies behind it.
                let next = last.saturating_add(1).saturating_add(*penalty);
                if ts >= next || other_end < next {
                    break;
                }
                *penalty = ts.saturating_sub(*last).saturating_mul(2);
            }
            *last = ts;
            to += 1;
        }
        if lane.raised == 0.0 {
            out.ts.extend_from_slice(&lane.columns.ts[from..to]);
            out.values.extend_from_slice(&lane.columns.values[from..to]);
        } else {
            (from..to).for_each(|pos| out.push(lane.columns.ts[pos], lane.value(pos)));
        }
        lane.pos = to - 1;
    }
}

// Side `n` is lane 0 for 0, else pair `n`. Recursion is as deep as there are lanes: `MAX_FOLD`.
impl Fold<'_> {
    fn at(&self, n: usize) -> (Millis, f64) {
        self.lanes[self.chosen(n)].at()
    }

    /// The lane that side `n` follows.
    fn chosen(&self, mut n: usize) -> usize {
        while n > 0 && self.pairs[n - 1].use_a {
            n -= 1;
        }
        n
    }

    fn seek(&mut self, n: usize, ts: Millis) -> bool {
        if n == 0 {
            return self.lanes[0].seek(ts);
        }
        // Step by step, so that gaps below are seen.
        while self.at(n).0 < ts {
            if !self.next(n) {
                return false;
            }
        }
        true
    }

    fn next(&mut self, n: usize) -> bool {
        let pair = &self.pairs[n - 1];
        let was_a = pair.use_a;
        let was_live = if was_a { pair.a_live } else { pair.b_live };
        let last_value = (self.counter && was_live).then(|| self.at(n).1);
        let pair = &self.pairs[n - 1];
        let after = |penalty: Millis| match pair.last {
            Some(last) => last.saturating_add(1).saturating_add(penalty),
            None => Millis::MIN,
        };
        let (a_from, b_from) = (after(pair.a_penalty), after(pair.b_penalty));
        let (a_live, b_live) = (pair.a_live, pair.b_live);
        let a_live = a_live && self.seek(n - 1, a_from);
        let b_live = b_live && self.lanes[n].seek(b_from);
        let a_ts = if a_live { self.at(n - 1).0 } else { 0 };
        let b_ts = if b_live { self.lanes[n].at().0 } else { 0 };
        let pair = &mut self.pairs[n - 1];
        (pair.a_live, pair.b_live) = (a_live, b_live);
        if !a_live && !b_live {
            return false;
        }
        pair.use_a = a_live && (!b_live || a_ts <= b_ts);
        let ts = if pair.use_a { a_ts } else { b_ts };
        let distance = match pair.last {
            Some(last) => ts.saturating_sub(last).saturating_mul(2),
            None => FIRST_PENALTY,
        };
        if pair.use_a {
            pair.a_penalty = 0;
            if b_live {
                pair.b_penalty = distance;
            }
        } else {
            pair.b_penalty = 0;
            if a_live {
                pair.a_penalty = distance;
            }
        }
        pair.last = Some(ts);
        if pair.use_a != was_a
            && let Some(last_value) = last_value
        {
            if a_live {
                self.raise(n - 1, last_value);
            }
            if b_live {
                self.lanes[n].raise(last_value);
            }
        }
        true
    }

    /// Raises everything below side `n` that lies under `last`.
    fn raise(&mut self, n: usize, last: f64) {
        for m in (1..=n).rev() {
            if self.pairs[m - 1].b_live {
                self.lanes[m].raise(last);
            }
            if !self.pairs[m - 1].a_live {
                return;
            }
        }
        self.lanes[0].raise(last);
    }
}

impl Lane<'_> {
    fn raise(&mut self, last: f64) {
        let value = self.at().1;
        if last > value {
            self.raised += last - value;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use model::STALE_NAN;

    fn columns(samples: &[(i64, f64)]) -> Columns {
        samples.iter().copied().collect()
    }

    fn ts(list: &[i64]) -> Columns {
        list.iter().map(|&t| (t, t as f64)).collect()
    }

    fn deduplicated(lanes: &[Columns], counter: bool) -> Columns {
        let mut out = Columns::default();
        penalty(lanes, counter, &mut out);
        out
    }

    #[test]
    fn one_replica_is_followed_until_it_has_a_gap() {
        let k = |list: &[i64]| ts(&list.iter().map(|t| t * 100).collect::<Vec<_>>());
        for (a, b, want) in [
            // The earlier one is followed, though the other has samples between.
            (
                k(&[101, 201, 301, 401]),
                k(&[100, 200, 300, 400]),
                k(&[100, 200, 300, 400]),
            ),
            // A single missed scrape is no reason to change.
            (
                k(&[100, 200, 400]),
                k(&[100, 200, 300, 400]),
                k(&[100, 200, 400]),
            ),
            (
                k(&[100, 200, 400]),
                k(&[150, 250, 350, 450]),
                k(&[100, 200, 400]),
            ),
            // More than two distances are, and then it stays.
            (
                k(&[100, 200, 300, 600, 700]),
                k(&[101, 201, 301, 401, 501, 601]),
                k(&[100, 200, 300, 501, 601]),
            ),
            // The rest of whichever is longer.
            (
                k(&[100, 200]),
                k(&[101, 201, 301, 401]),
                k(&[100, 200, 401]),
            ),
            (k(&[]), k(&[1, 2]), k(&[1, 2])),
            (k(&[]), k(&[]), k(&[])),
        ] {
            assert_eq!(
                deduplicated(&[a.clone(), b.clone()], false).ts,
                want.ts,
                "{a:?} {b:?}"
            );
        }
        let ten = ts(&[10_000, 20_000, 30_000, 40_000]);
        assert_eq!(deduplicated(&[ten.clone(), ts(&[20_000])], false), ten);
    }

    #[test]
    fn a_counter_does_not_fall_where_replicas_change() {
        let a = columns(&[
            (10_000, 8.0),
            (20_000, 9.0),
            (50_001, 10.0),
            (60_000, 11.0),
            (70_000, 12.0),
            (80_000, 13.0),
            (90_000, 14.0),
            (100_000, 15.0),
        ]);
        let b = columns(&[(10_001, 8.0), (45_001, 8.5), (55_001, 9.5), (65_001, 10.5)]);
        let times = [10_000, 20_000, 45_001, 55_001, 65_001, 90_000, 100_000];
        let raised = deduplicated(&[a.clone(), b.clone()], true);
        assert_eq!(raised.ts, times);
        assert_eq!(raised.values, [8.0, 9.0, 9.0, 10.0, 11.0, 14.0, 15.0]);
        let plain = deduplicated(&[a, b], false);
        assert_eq!(plain.ts, times);
        assert_eq!(plain.values, [8.0, 9.0, 8.5, 9.5, 10.5, 14.0, 15.0]);
    }

    #[test]
    fn a_thousand_lanes_do_not_overflow() {
        let lane = ts(&[10_000, 20_000, 30_000]);
        assert_eq!(deduplicated(&vec![lane.clone(); 1000], true), lane);
    }

    #[test]
    fn three_replicas_fold() {
        let lanes = [
            ts(&[10_000, 20_000, 80_000]),
            ts(&[10_100, 20_100, 30_100]),
            ts(&[
                10_200, 20_200, 30_200, 40_200, 50_200, 60_200, 70_200, 80_200,
            ]),
        ];
        let out = deduplicated(&lanes, false);
        assert!(out.ascends());
        assert_eq!(out.ts[..2], [10_000, 20_000]);
        assert!(out.ts.contains(&80_000) || out.ts.contains(&80_200));
    }

    #[test]
    fn start_timestamps_come_along() {
        let started = |list: &[(i64, i64)]| {
            let mut c = Columns::default();
            for &(ts, start) in list {
                c.push(ts, 1.0);
                c.started(start);
            }
            c
        };
        let a = started(&[(10_000, 5), (20_000, 5), (30_000, 5)]);
        let b = started(&[(15_000, 7), (20_000, 7), (90_000, 8), (100_000, 8)]);
        let (mut out, mut scratch) = (a.clone(), Columns::default());
        union(&mut out, &b, &mut scratch);
        assert_eq!(out.starts, [5, 7, 5, 5, 8, 8]);
        let out = deduplicated(&[a, b, ts(&[95_000])], false);
        assert_eq!(
            (out.ts, out.starts),
            (
                vec![10_000, 20_000, 30_000, 90_000, 100_000],
                vec![5, 5, 5, 8, 8]
            )
        );
    }

    fn lane() -> impl Strategy<Value = Columns> {
        prop::collection::btree_set(0i64..2_000_000, 0..60)
            .prop_map(|set| set.into_iter().map(|t| (t, t as f64 / 7.0)).collect())
    }

    /// A counter as it is scraped: every 15 s but for gaps and resets.
    fn scraped() -> impl Strategy<Value = Columns> {
        let scrape = (0i64..40, 0i64..300, 0u32..30);
        prop::collection::vec(scrape, 0..80).prop_map(|all| {
            let (mut ts, mut value) = (0, 0.0);
            all.into_iter()
                .map(|(gap, jitter, more)| {
                    ts += 15_000 * (gap - 36).max(1) + jitter;
                    value = if more == 0 {
                        0.0
                    } else {
                        value + f64::from(more)
                    };
                    (ts, value)
                })
                .collect()
        })
    }

    #[test]
    fn a_stale_marker_stays_one() {
        let a = columns(&[(10_000, 8.0), (20_000, 9.0), (50_001, STALE_NAN)]);
        let b = columns(&[(45_001, 8.5), (55_001, 9.5), (65_001, STALE_NAN)]);
        for counter in [false, true] {
            let one = deduplicated(&[a.clone(), Columns::default()], counter);
            assert!(is_stale(one.values[2]));
            let both = deduplicated(&[a.clone(), b.clone()], counter);
            assert_eq!(both.ts, [10_000, 20_000, 45_001, 55_001, 65_001]);
            assert!(is_stale(both.values[4]), "{both:?}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_went_in_and_ascends(
            lanes in prop::collection::vec(lane(), 0..5),
            counter in any::<bool>(),
        ) {
            let out = deduplicated(&lanes, counter);
            prop_assert!(out.ascends());
            for t in &out.ts {
                prop_assert!(lanes.iter().any(|l| l.ts.contains(t)));
            }
            prop_assert_eq!(out.is_empty(), lanes.iter().all(Columns::is_empty));
        }

        #[test]
        fn runs_of_two_lanes_are_those_of_one_step_after_the_other(
            a in scraped(), b in scraped(), counter in any::<bool>(),
        ) {
            let lanes = [a, b];
            let mut steps = Columns::default();
            walk(&lanes, counter, |ts, value, _, _| steps.push(ts, value));
            prop_assert_eq!(deduplicated(&lanes, counter), steps);
        }

        #[test]
        fn union_is_a_map(lanes in prop::collection::vec(lane(), 0..5)) {
            let mut want = std::collections::BTreeMap::new();
            let (mut out, mut scratch) = (Columns::default(), Columns::default());
            for (n, lane) in lanes.iter().enumerate() {
                let lane: Columns = lane.ts.iter().map(|&t| (t, n as f64)).collect();
                for (t, v) in lane.iter() {
                    want.entry(t).or_insert(v);
                }
                union(&mut out, &lane, &mut scratch);
            }
            let want: Columns = want.into_iter().collect();
            prop_assert_eq!(out, want);
        }
    }
}
