//! Judging the rows of a batch against memory, before anything is logged.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use model::histogram::Histogram;
use model::{Batch, Millis, Reject, SinkError};

use super::super::Head;
use super::super::exemplars::Judged;
use super::super::open::Newest;
use super::super::page::{Series, Taken};
use super::{Held, Scratch, Verdict, Window};

/// What the rows of a batch so far will have left as the newest sample of a series.
#[derive(Clone, Copy)]
enum End {
    Float(Millis, f64),
    /// The place of the row among the histograms; none for a marker given as a float.
    Histogram(Millis, Option<usize>, bool),
}

#[inline]
fn of_taken(taken: Taken, ts: Millis, window: Window) -> Verdict {
    match taken {
        Taken::No(reason) => window.otherwise(ts, reason),
        Taken::Same => Verdict::Same,
        Taken::Yes | Taken::NewChunk => Verdict::Take,
    }
}

/// What becomes of a float, given its series' newest sample.
#[inline]
fn verdict(newest: Newest, ts: Millis, value: f64, window: Window) -> Verdict {
    match window.check(ts) {
        Some(reason) => window.otherwise(ts, reason),
        None => of_taken(Series::check(newest, ts, value), ts, window),
    }
}

/// The same of a float marker for a series of histograms.
#[cold]
fn marker(taken: Taken, float_counts: bool, ts: Millis, window: Window) -> Verdict {
    if let Some(reason) = window.check(ts) {
        return window.otherwise(ts, reason);
    }
    match (of_taken(taken, ts, window), float_counts) {
        (Verdict::Take, false) => Verdict::TakeIntMarker,
        (Verdict::Take, true) => Verdict::TakeFloatMarker,
        (other, _) => other,
    }
}

/// What becomes of a histogram.
fn histogram(
    taken: impl FnOnce() -> Taken,
    ts: Millis,
    value: &Histogram,
    window: Window,
) -> Verdict {
    if let Err(e) = value.validate() {
        return Verdict::Reject(Reject::InvalidHistogram(e));
    }
    match window.check(ts) {
        Some(reason) => window.otherwise(ts, reason),
        None => of_taken(taken(), ts, window),
    }
}

impl Head {
    /// One verdict a row, and one an exemplar.
    pub(super) fn judge(
        &self,
        batch: &Batch,
        window: Window,
        scratch: &mut Scratch,
    ) -> Result<(), SinkError> {
        let Scratch {
            verdicts,
            order,
            exemplars,
            ..
        } = scratch;
        verdicts.clear();
        order.clear();
        exemplars.clear();
        let tag = self.tags.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let pages = self.pages.read();
        let mut held = Held::new(&pages);
        let mut stale = Vec::new();
        let mut repeated = false;
        for (row, ((r, &ts), &value)) in batch
            .refs
            .iter()
            .zip(&batch.ts)
            .zip(&batch.values)
            .enumerate()
        {
            let series = self.own(r).and_then(|id| {
                let (page, slot) = held.get(id)?;
                page.series.get_mut(slot)?.as_mut()
            });
            let Some(series) = series else {
                stale.push(row);
                continue;
            };
            repeated |= series.checked == tag;
            series.checked = tag;
            verdicts.push(match series.stale(value) {
                None => verdict(series.newest(), ts, value, window),
                Some(h) => {
                    let taken = series.check_histogram(ts, &h);
                    marker(taken, matches!(h, Histogram::Float(_)), ts, window)
                }
            });
        }
        for (at, h) in batch.histograms.iter().enumerate() {
            let series = self.own(&h.series).and_then(|id| {
                let (page, slot) = held.get(id)?;
                page.series.get_mut(slot)?.as_mut()
            });
            let Some(series) = series else {
                stale.push(batch.refs.len() + at);
                continue;
            };
            repeated |= series.checked == tag;
            series.checked = tag;
            let taken = || series.check_histogram(h.ts, &h.value);
            verdicts.push(histogram(taken, h.ts, &h.value, window));
        }
        if !stale.is_empty() {
            self.stats.series_not_found.add(stale.len() as u64);
            return Err(SinkError::Stale(stale));
        }
        if repeated {
            self.judge_repeated(batch, window, &mut held, verdicts, order);
        }
        drop(held);
        drop(pages);
        exemplars.extend(batch.exemplars.iter().map(|e| match self.own(&e.series) {
            Some(id) if self.has(id.into()) => self.exemplars.judge(id, e),
            _ => Judged::Pass,
        }));
        Ok(())
    }

    /// Rare (timestamps in an exposition, or backfilling): a row is judged by what the rows before it
    /// will have left. With histograms among them they are taken by time.
    #[cold]
    fn judge_repeated(
        &self,
        batch: &Batch,
        window: Window,
        held: &mut Held<'_>,
        verdicts: &mut [Verdict],
        order: &mut Vec<u32>,
    ) {
        let floats = batch.refs.len();
        order.extend(0..verdicts.len() as u32);
        if !batch.histograms.is_empty() {
            order.sort_by_key(|&row| match (row as usize).checked_sub(floats) {
                None => batch.ts[row as usize],
                Some(at) => batch.histograms[at].ts,
            });
        }
        let mut ends: HashMap<u64, End> = HashMap::new();
        for &row in order.iter() {
            let row = row as usize;
            let (id, v, end) = match row.checked_sub(floats) {
                None => {
                    let (r, ts, value) = (batch.refs[row], batch.ts[row], batch.values[row]);
                    let v = self.judge_float(batch, (r.id, ts, value), &ends, held, window);
                    let end = match v {
                        Verdict::TakeIntMarker => End::Histogram(ts, None, false),
                        Verdict::TakeFloatMarker => End::Histogram(ts, None, true),
                        _ => End::Float(ts, value),
                    };
                    (r.id, v, end)
                }
                Some(at) => {
                    let h = &batch.histograms[at];
                    let taken = || match ends.get(&h.series.id) {
                        Some(end) => end.check_histogram(batch, h.ts, &h.value),
                        None => series(held, h.series.id)
                            .map_or(Taken::Yes, |s| s.check_histogram(h.ts, &h.value)),
                    };
                    let v = histogram(taken, h.ts, &h.value, window);
                    let float = matches!(h.value, Histogram::Float(_));
                    (h.series.id, v, End::Histogram(h.ts, Some(at), float))
                }
            };
            if v.takes() {
                ends.insert(id, end);
            }
            verdicts[row] = v;
        }
    }

    fn judge_float(
        &self,
        batch: &Batch,
        (id, ts, value): (u64, Millis, f64),
        ends: &HashMap<u64, End>,
        held: &mut Held<'_>,
        window: Window,
    ) -> Verdict {
        match ends.get(&id) {
            Some(&End::Float(t, v)) => verdict(Newest::Float(t, v), ts, value, window),
            Some(&End::Histogram(t, at, float)) if model::is_stale(value) => {
                let known = at.and_then(|at| batch.histograms.get(at));
                let taken = match (ts.cmp(&t), known) {
                    (std::cmp::Ordering::Greater, _) => Taken::Yes,
                    (std::cmp::Ordering::Less, _) => Taken::No(Reject::OutOfOrder),
                    (_, Some(h)) if !model::is_stale(h.value.sum()) => Taken::No(Reject::Duplicate),
                    _ => Taken::Same,
                };
                marker(taken, float, ts, window)
            }
            Some(&End::Histogram(t, ..)) => verdict(Newest::At(t), ts, value, window),
            None => match series(held, id) {
                None => verdict(Newest::None, ts, value, window),
                Some(series) => match series.stale(value) {
                    None => verdict(series.newest(), ts, value, window),
                    Some(h) => {
                        let taken = series.check_histogram(ts, &h);
                        let float = matches!(h, Histogram::Float(_));
                        marker(taken, float, ts, window)
                    }
                },
            },
        }
    }
}

/// A series that was found a moment ago.
fn series<'a>(held: &'a mut Held<'_>, id: u64) -> Option<&'a Series> {
    let (page, slot) = held.get(u32::try_from(id).ok()?)?;
    page.get(slot)
}

impl End {
    fn check_histogram(self, batch: &Batch, ts: Millis, value: &Histogram) -> Taken {
        let (t, same) = match self {
            End::Float(t, _) => (t, false),
            End::Histogram(t, at, _) => {
                let known = at.and_then(|at| batch.histograms.get(at));
                (t, known.is_some_and(|h| h.value.same(value)))
            }
        };
        match ts.cmp(&t) {
            std::cmp::Ordering::Greater => Taken::Yes,
            std::cmp::Ordering::Less => Taken::No(Reject::OutOfOrder),
            std::cmp::Ordering::Equal if same => Taken::Same,
            std::cmp::Ordering::Equal => Taken::No(Reject::Duplicate),
        }
    }
}
