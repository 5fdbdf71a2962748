//! Exemplars: the last ones, of all series together, in a ring (`tsdb/exemplar.go` of Prometheus).
//!
//! Each series with exemplars has the list of its places in the ring, ascending by time. A new one
//! takes the place of the oldest one of all.

use std::collections::VecDeque;

use hashbrown::HashMap;
use model::sink::Exemplar;
use model::{Labels, Matcher, Millis, Reject, SeriesRef, TimeRange};
use parking_lot::Mutex;

use crate::stats::ExemplarStats;

/// So many characters the labels of an exemplar may have.
const MAX_CHARACTERS: usize = 128;

/// Whether the labels of an exemplar are short enough.
pub(crate) fn fits(labels: &Labels) -> bool {
    let characters = labels
        .iter()
        .map(|(n, v)| n.chars().count() + v.chars().count());
    characters.sum::<usize>() <= MAX_CHARACTERS
}

/// What is to be done with an exemplar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Store it.
    Take,
    /// It is there already, or none are stored: no error.
    Pass,
    No(Reject),
}

#[derive(Debug)]
struct Stored {
    series: u32,
    labels: Labels,
    value: f64,
    ts: Millis,
    timed: bool,
}

impl Stored {
    fn is(&self, e: &Exemplar) -> bool {
        let any_time = !self.timed && !e.timed;
        self.labels == e.labels && (any_time || self.ts == e.ts) && self.value == e.value
    }
}

#[derive(Debug)]
struct OfSeries {
    labels: Labels,
    /// Places in the ring, ascending by time.
    places: VecDeque<u32>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Grows up to `size`.
    stored: Vec<Stored>,
    /// Where the next one goes once the ring is full: the oldest.
    next: usize,
    size: usize,
    /// How much older than its series' newest an exemplar may be, ms.
    window: Millis,
    series: HashMap<u32, OfSeries>,
}

/// The exemplars of a head.
#[derive(Debug)]
pub(crate) struct Exemplars {
    ring: Mutex<Ring>,
    stats: std::sync::Arc<ExemplarStats>,
}

impl Exemplars {
    pub(crate) fn new(size: usize, stats: std::sync::Arc<ExemplarStats>) -> Self {
        stats.max.set(size as i64);
        Self {
            ring: Mutex::new(Ring {
                size,
                ..Ring::default()
            }),
            stats,
        }
    }

    /// Changes how many are kept; the newest stay.
    pub(crate) fn resize(&self, size: usize) {
        let ring = &mut *self.ring.lock();
        ring.stored.rotate_left(ring.next);
        let gone = ring.stored.len().saturating_sub(size);
        let kept: Vec<Stored> = ring.stored.drain(..).skip(gone).collect();
        let labels: HashMap<u32, Labels> =
            ring.series.drain().map(|(id, s)| (id, s.labels)).collect();
        ring.next = 0;
        ring.size = size;
        for stored in kept {
            if let Some(labels) = labels.get(&stored.series) {
                ring.put(stored, || labels.clone());
            }
        }
        ring.stored.shrink_to_fit();
        self.stats.max.set(size as i64);
        ring.tell(&self.stats);
    }

    /// Takes exemplars that are older than their series' newest by up to `window` ms.
    pub(super) fn set_window(&self, window: Millis) {
        self.ring.lock().window = window.max(0);
    }

    pub(crate) fn judge(&self, series: u32, e: &Exemplar) -> Judged {
        self.ring.lock().judge(series, e)
    }

    /// Stores an exemplar, if it still can be; `labels` are those of its series.
    pub(crate) fn add(&self, series: u32, e: &Exemplar, labels: impl FnOnce() -> Labels) -> Judged {
        let ring = &mut *self.ring.lock();
        let judged = ring.judge(series, e);
        match judged {
            Judged::Take => {}
            Judged::No(Reject::ExemplarOutOfOrder) => {
                self.stats.out_of_order.inc();
                return judged;
            }
            other => return other,
        }
        let stored = Stored {
            series,
            labels: e.labels.clone(),
            value: e.value,
            ts: e.ts,
            timed: e.timed,
        };
        if ring.put(stored, labels) {
            self.stats.appended.inc();
            ring.tell(&self.stats);
        }
        Judged::Take
    }

    /// Exemplars in `range` of the series that satisfy one of the lists of matchers, ascending by
    /// labels, each series' by time.
    pub(crate) fn select(
        &self,
        matchers: &[Vec<Matcher>],
        range: TimeRange,
        generation: u32,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        let ring = self.ring.lock();
        let wanted = |labels: &Labels| {
            matchers.iter().any(|all| {
                all.iter()
                    .all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
            })
        };
        let mut found: Vec<(Labels, Vec<Exemplar>)> = Vec::new();
        for (&id, of) in ring.series.iter().filter(|(_, of)| wanted(&of.labels)) {
            let stored = of
                .places
                .iter()
                .filter_map(|&p| ring.stored.get(p as usize));
            let all: Vec<Exemplar> = stored
                .filter(|s| range.contains(s.ts))
                .map(|s| Exemplar {
                    series: SeriesRef {
                        id: id.into(),
                        generation,
                    },
                    labels: s.labels.clone(),
                    value: s.value,
                    ts: s.ts,
                    timed: s.timed,
                })
                .collect();
            if !all.is_empty() {
                found.push((of.labels.clone(), all));
            }
        }
        // A series that came back has another number.
        found.sort_by(|a, b| (&a.0, a.1[0].ts).cmp(&(&b.0, b.1[0].ts)));
        found.dedup_by(|b, a| {
            let same = a.0 == b.0;
            if same {
                a.1.append(&mut b.1);
                a.1.sort_by_key(|e| e.ts);
            }
            same
        });
        found
    }
}

impl Ring {
    fn newest(&self, series: u32) -> Option<&Stored> {
        let place = *self.series.get(&series)?.places.back()?;
        self.stored.get(place as usize)
    }

    fn judge(&self, series: u32, e: &Exemplar) -> Judged {
        if self.size == 0 {
            return Judged::Pass;
        }
        if !fits(&e.labels) {
            return Judged::No(Reject::ExemplarLabels);
        }
        let Some(newest) = self.newest(series) else {
            return Judged::Take;
        };
        if newest.is(e) {
            return Judged::Pass;
        }
        let late = e.ts < newest.ts && e.ts <= newest.ts.saturating_sub(self.window);
        // At one time they ascend by value, then by labels: so that duplicates are known without
        // looking at all of them.
        let disordered = e.ts == newest.ts
            && (e.value < newest.value
                || (e.value == newest.value && e.labels.hash64() < newest.labels.hash64()));
        match late || disordered {
            true => Judged::No(Reject::ExemplarOutOfOrder),
            false => Judged::Take,
        }
    }

    /// False if a late one is there already.
    fn put(&mut self, stored: Stored, labels: impl FnOnce() -> Labels) -> bool {
        let ts_of = |ring: &Self, place: u32| ring.stored.get(place as usize).map(|s| s.ts);
        let series = stored.series;
        if let Some(of) = self.series.get(&series)
            && self.newest(series).is_some_and(|n| stored.ts < n.ts)
            && of.places.iter().any(|&p| ts_of(self, p) == Some(stored.ts))
        {
            return false;
        }
        let ts = stored.ts;
        let place = if self.stored.len() < self.size {
            self.stored.push(stored);
            (self.stored.len() - 1) as u32
        } else {
            let place = self.next;
            let Some(slot) = self.stored.get_mut(place) else {
                return false;
            };
            let old = std::mem::replace(slot, stored);
            self.next = (place + 1) % self.size;
            if let Some(of) = self.series.get_mut(&old.series) {
                // Nearly always the first.
                if let Some(at) = of.places.iter().position(|&p| p as usize == place) {
                    of.places.remove(at);
                }
                if of.places.is_empty() && old.series != series {
                    self.series.remove(&old.series);
                }
            }
            place as u32
        };
        let stored = &self.stored;
        let of = self.series.entry(series).or_insert_with(|| OfSeries {
            labels: labels(),
            places: VecDeque::new(),
        });
        let ts_at = |&p: &u32| stored.get(p as usize).map_or(Millis::MIN, |s| s.ts);
        let at = of.places.partition_point(|p| ts_at(p) <= ts);
        of.places.insert(at, place);
        true
    }

    fn tell(&self, stats: &ExemplarStats) {
        stats.stored.set(self.stored.len() as i64);
        stats.series.set(self.series.len() as i64);
        let oldest = match self.stored.len() < self.size {
            true => self.stored.first(),
            false => self.stored.get(self.next),
        };
        let seconds = oldest.map_or(0.0, |s| s.ts as f64 / 1000.0);
        stats.oldest_seconds.set(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(ts: Millis, value: f64, trace: &str) -> Exemplar {
        Exemplar {
            series: SeriesRef {
                id: 0,
                generation: 0,
            },
            labels: Labels::from_pairs([("trace_id", trace)]),
            value,
            ts,
            timed: true,
        }
    }

    fn labels(series: u32) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", series.to_string())])
    }

    fn times(e: &Exemplars) -> Vec<(String, Vec<Millis>)> {
        let all = vec![vec![Matcher::equal("__name__", "m")]];
        let found = e.select(&all, TimeRange::ALL, 0);
        let of = |(l, all): &(Labels, Vec<Exemplar>)| {
            let ts = all.iter().map(|e| e.ts).collect();
            (l.get("i").unwrap().to_owned(), ts)
        };
        found.iter().map(of).collect()
    }

    #[test]
    fn the_newest_of_all_series_stay() {
        let e = Exemplars::new(3, Default::default());
        for (series, ts) in [(1, 10), (2, 20), (1, 30), (1, 40), (2, 50)] {
            let one = exemplar(ts, 1.0, "t");
            assert_eq!(e.add(series, &one, || labels(series)), Judged::Take);
        }
        assert_eq!(
            times(&e),
            [("1".into(), vec![30, 40]), ("2".into(), vec![50])]
        );
        e.resize(2);
        assert_eq!(times(&e), [("1".into(), vec![40]), ("2".into(), vec![50])]);
        e.resize(4);
        e.add(7, &exemplar(60, 1.0, "t"), || labels(7));
        e.add(7, &exemplar(70, 1.0, "t"), || labels(7));
        e.add(7, &exemplar(80, 1.0, "t"), || labels(7));
        assert_eq!(
            times(&e),
            [("2".into(), vec![50]), ("7".into(), vec![60, 70, 80])]
        );
        e.resize(0);
        assert_eq!(e.judge(1, &exemplar(90, 1.0, "t")), Judged::Pass);
        assert_eq!(times(&e), []);
    }

    #[test]
    fn order_duplicates_and_length_are_judged_as_prometheus_does() {
        let e = Exemplars::new(10, Default::default());
        let add = |one: &Exemplar| e.add(1, one, || labels(1));
        assert_eq!(add(&exemplar(10, 2.0, "a")), Judged::Take);
        assert_eq!(add(&exemplar(10, 2.0, "a")), Judged::Pass);
        assert_eq!(add(&exemplar(10, 3.0, "a")), Judged::Take);
        let no = Judged::No(Reject::ExemplarOutOfOrder);
        assert_eq!(add(&exemplar(10, 1.0, "a")), no);
        assert_eq!(add(&exemplar(9, 5.0, "a")), no);
        let long = exemplar(20, 1.0, &"é".repeat(121));
        assert_eq!(add(&long), Judged::No(Reject::ExemplarLabels));
        assert_eq!(add(&exemplar(20, 1.0, &"é".repeat(120))), Judged::Take);
        // Without a time of its own it is the same at every scrape.
        let untimed = |ts| Exemplar {
            timed: false,
            ..exemplar(ts, 1.0, "u")
        };
        assert_eq!(add(&untimed(30)), Judged::Take);
        assert_eq!(add(&untimed(40)), Judged::Pass);
        e.set_window(15);
        assert_eq!(add(&exemplar(25, 1.0, "late")), Judged::Take);
        assert_eq!(add(&exemplar(25, 1.0, "again")), Judged::Take);
        assert_eq!(add(&exemplar(15, 1.0, "late")), no);
        assert_eq!(times(&e), [("1".into(), vec![10, 10, 20, 25, 30])]);
    }
}
