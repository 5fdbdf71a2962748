//! The same for series that have histograms beside their floats, or start timestamps.

use model::Millis;

use super::{MAX_FOLD, walk};
use crate::Columns;

/// A sample of some columns.
#[derive(Clone, Copy)]
enum Place {
    Float(usize),
    Histogram(usize),
}

/// Goes through floats and histograms by time.
#[derive(Default)]
struct Walk {
    float: usize,
    histogram: usize,
}

impl Walk {
    /// The next sample. Of a float and a histogram at one time the float stands for both: a chunk
    /// holds one kind only, so a time in both is one that was written twice.
    fn peek(&self, columns: &Columns) -> Option<(Millis, Place)> {
        let float = columns.ts.get(self.float);
        let histogram = columns.histograms.ts.get(self.histogram);
        match (float, histogram) {
            (Some(&f), h) if h.is_none_or(|&h| f <= h) => Some((f, Place::Float(self.float))),
            (_, Some(&h)) => Some((h, Place::Histogram(self.histogram))),
            _ => None,
        }
    }

    /// Passes over everything up to `ts`.
    fn pass(&mut self, columns: &Columns, ts: Millis) {
        while columns.ts.get(self.float).is_some_and(|&t| t <= ts) {
            self.float += 1;
        }
        while columns
            .histograms
            .ts
            .get(self.histogram)
            .is_some_and(|&t| t <= ts)
        {
            self.histogram += 1;
        }
    }
}

fn push(out: &mut Columns, from: &Columns, place: Place, neighbours: bool) {
    match place {
        Place::Float(i) => {
            if let (Some(&ts), Some(&value)) = (from.ts.get(i), from.values.get(i)) {
                out.push(ts, value);
                out.started(from.start(i));
            }
        }
        Place::Histogram(i) => {
            out.histograms.push_from(&from.histograms, i);
            if !neighbours {
                out.histograms.forget_reset();
            }
        }
    }
}

/// [`super::union`] for any columns.
pub(super) fn union(base: &mut Columns, next: &Columns, scratch: &mut Columns) {
    let Some((first, _)) = next.bounds() else {
        return;
    };
    // What lies before stays where it is.
    let floats = base.ts.partition_point(|&t| t < first);
    let histograms = base.histograms.ts.partition_point(|&t| t < first);
    scratch.clear();
    scratch.extend_from(base, floats);
    scratch.histograms.extend_from(&base.histograms, histograms);
    base.truncate(floats);
    base.histograms.truncate(histograms);

    let (mut ours, mut theirs) = (Walk::default(), Walk::default());
    let mut was_ours = !base.holds_nothing();
    let mut first = base.holds_nothing();
    loop {
        let (a, b) = (ours.peek(scratch), theirs.peek(next));
        let is_ours = match (a, b) {
            (Some((a, _)), Some((b, _))) => a <= b,
            (a, _) => a.is_some(),
        };
        let (from, chosen) = if is_ours { (&*scratch, a) } else { (next, b) };
        let Some((ts, place)) = chosen else {
            return;
        };
        push(base, from, place, first || was_ours == is_ours);
        ours.pass(scratch, ts);
        theirs.pass(next, ts);
        (was_ours, first) = (is_ours, false);
    }
}

/// [`super::penalty`] for any columns.
pub(super) fn penalty(lanes: &[Columns], counter: bool, out: &mut Columns) {
    if lanes.len() > MAX_FOLD {
        let fold = |part: &[Columns]| {
            let mut folded = Columns::default();
            super::penalty(part, counter, &mut folded);
            folded
        };
        let parts: Vec<Columns> = lanes.chunks(MAX_FOLD).map(fold).collect();
        return super::penalty(&parts, counter, out);
    }
    // Every sample of a lane on one time line. A histogram is no number, and neither lies under
    // another value nor over it.
    let mut lines = Vec::with_capacity(lanes.len());
    let mut places = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let mut line = Columns::default();
        let mut of_line = Vec::with_capacity(lane.len() + lane.histograms.len());
        let mut walk = Walk::default();
        while let Some((ts, place)) = walk.peek(lane) {
            let value = match place {
                Place::Float(i) => lane.values.get(i).copied().unwrap_or(f64::NAN),
                Place::Histogram(_) => f64::NAN,
            };
            line.push(ts, value);
            of_line.push(place);
            walk.pass(lane, ts);
        }
        lines.push(line);
        places.push(of_line);
    }
    let mut before: Option<(usize, usize)> = None;
    walk(&lines, counter, |ts, value, lane, i| {
        let neighbours = before.is_none_or(|before| before == (lane, i.wrapping_sub(1)));
        before = Some((lane, i));
        match places[lane].get(i) {
            Some(Place::Float(place)) => {
                out.push(ts, value);
                out.started(lanes[lane].start(*place));
            }
            Some(&place) => push(out, &lanes[lane], place, neighbours),
            None => {}
        }
    });
}
