//! Functions over ranges that hold native histograms, alone or beside floats.
//!
//! The float kernels run first, over the floats alone; what they wrote is then put right at the
//! steps whose windows hold histograms. So a series without histograms never comes here.

mod means;
mod slopes;
mod totals;

use std::sync::Arc;

use chunk::histograms::is_reset;
use chunk::{HistogramRef, Histograms};
use model::histogram::{CUSTOM_SCHEMA, CounterReset};
use model::{Millis, Str, is_stale};

use super::extended::{self, Extension};
use super::rate::{self, overlaps, start_reset};
use super::{Cols, Out, RangeFn, Scratch};
use crate::annotations::{Note, Operation};
use crate::exec::block::{Row, clear};
use crate::grid::Slide;
use crate::histogram::Histogram;
use crate::histogram::sum::{Added, Incompatible, Sum};
use means::{What, over_time};
use slopes::{interpolated, rates};

pub(crate) use means::Mean;
pub(crate) use totals::without_buckets;

/// What there is to say about a series; each note once, unless it counts.
pub(crate) struct Notes<'a> {
    name: &'a str,
    pub(crate) all: Vec<Note>,
}

impl<'a> Notes<'a> {
    /// Notes about the metric `name`.
    pub(crate) fn new(name: &'a str) -> Self {
        Self {
            name,
            all: Vec::new(),
        }
    }

    fn add(&mut self, note: Note) {
        if matches!(note, Note::Overlap(_)) || !self.all.contains(&note) {
            self.all.push(note);
        }
    }

    fn named(&mut self, note: fn(Str) -> Note) {
        let note = note(self.name.into());
        self.add(note);
    }

    /// A start that lies before the sample before.
    pub(crate) fn overlap(&mut self) {
        self.named(Note::Overlap);
    }

    fn added(&mut self, added: Added, operation: Operation) {
        if added.reconciled {
            self.add(Note::Reconciled(operation));
        }
    }
}

/// A series with histograms and the windows over it.
pub(crate) struct Mixed<'a> {
    /// The floats.
    pub(crate) cols: Cols<'a>,
    pub(crate) histograms: &'a Histograms,
    /// Whether start timestamps are used.
    pub(crate) use_starts: bool,
}

/// What is known of neighbouring histograms.
struct Facts {
    /// Histograms that a reset came before, ascending.
    resets: Vec<usize>,
    /// Histograms whose start lies before the sample before.
    overlaps: Vec<usize>,
    /// All have one schema, and none is a gauge.
    plain: bool,
}

/// Places of the window of one step: floats, histograms.
struct Places {
    floats: (usize, usize),
    histograms: (usize, usize),
}

impl Places {
    fn has_floats(&self) -> bool {
        self.floats.0 < self.floats.1
    }
}

impl<'a> Mixed<'a> {
    fn get(&self, i: usize) -> Option<HistogramRef<'a>> {
        self.histograms.get(i)
    }

    fn starts(&self) -> &'a [Millis] {
        if self.use_starts {
            &self.histograms.starts
        } else {
            &[]
        }
    }

    /// Calls `f` with each step whose window holds histograms, unless it is stopped.
    fn each(&self, mut f: impl FnMut(usize, Places)) {
        let (grid, window) = (self.cols.grid, self.cols.window);
        let ts = &self.histograms.ts;
        if grid.count == 0 || window.range <= 0 {
            return;
        }
        let first = window.end(grid, 0);
        let mut floats = Slide::starting(self.cols.ts, first, window.range);
        let mut histograms = Slide::starting(ts, first, window.range);
        // A histogram is as much as its buckets.
        let size = self.get(0).map_or(1, |h| h.counts.len() + 1);
        let mut walked = 0;
        for i in 0..grid.count {
            let end = window.end(grid, i);
            floats.to(self.cols.ts, end, window.range);
            histograms.to(ts, end, window.range);
            if histograms.lo < histograms.hi {
                let samples = (histograms.hi - histograms.lo) * size;
                if self.cols.stop.after(samples, &mut walked) {
                    return;
                }
                let places = Places {
                    floats: (floats.lo, floats.hi),
                    histograms: (histograms.lo, histograms.hi),
                };
                f(i, places);
            } else if histograms.lo == ts.len() {
                return;
            }
        }
    }

    fn facts(&self, counter: bool) -> Facts {
        let n = self.histograms.len();
        let starts = self.starts();
        let ts = &self.histograms.ts;
        let mut facts = Facts {
            resets: Vec::new(),
            overlaps: Vec::new(),
            plain: true,
        };
        let mut prev: Option<HistogramRef<'_>> = None;
        for i in 0..n {
            let Some(cur) = self.get(i) else { break };
            facts.plain &= cur.scalars.counter_reset != CounterReset::Gauge;
            if let Some(prev) = prev {
                facts.plain &= cur.layout.schema == prev.layout.schema;
                if counter {
                    if start_reset(ts, starts, i) || is_reset(cur, prev) {
                        facts.resets.push(i);
                    }
                    if !starts.is_empty() && overlaps((starts[i - 1], ts[i - 1]), starts[i]) {
                        facts.overlaps.push(i);
                    }
                }
            }
            prev = Some(cur);
        }
        facts
    }
}

/// The row being written.
struct To<'a> {
    row: &'a mut Row,
}

impl To<'_> {
    fn nothing(&mut self, i: usize) {
        clear(&mut self.row.bits, i);
    }

    fn float(&mut self, i: usize, v: f64) {
        self.row.values[i] = v;
        self.row.bits[i >> 6] |= 1 << (i & 63);
    }

    fn histogram(&mut self, i: usize, h: Arc<Histogram>) {
        self.row.bits[i >> 6] |= 1 << (i & 63);
        self.row.histograms.push((i as u32, h));
    }
}

/// Puts right what the float kernel of `func` wrote into `row`.
pub(crate) fn run(
    func: RangeFn,
    mixed: &Mixed<'_>,
    scratch: &mut Scratch,
    notes: &mut Notes<'_>,
    row: &mut Row,
) {
    let mut to = To { row };
    match func {
        RangeFn::Rate | RangeFn::Increase | RangeFn::Delta => {
            rates(func, mixed, None, notes, &mut to);
        }
        RangeFn::Irate => last_two(true, mixed, notes, &mut to),
        RangeFn::Idelta => last_two(false, mixed, notes, &mut to),
        RangeFn::Changes | RangeFn::Resets => pairs(func, mixed, None, scratch, to.row),
        RangeFn::Sum => over_time(mixed, notes, &mut to, What::Sum),
        RangeFn::Avg => over_time(mixed, notes, &mut to, What::Mean),
        RangeFn::Count => mixed.each(|i, p| {
            let n = p.floats.1 - p.floats.0 + p.histograms.1 - p.histograms.0;
            to.float(i, n as f64);
        }),
        RangeFn::Present => mixed.each(|i, _| to.float(i, 1.0)),
        RangeFn::First => borders(
            mixed,
            &mut to,
            |p| (p.floats.0, p.histograms.0),
            |f, h| f < h,
        ),
        RangeFn::Last => {
            let last = |p: &Places| (p.floats.1.wrapping_sub(1), p.histograms.1 - 1);
            borders(mixed, &mut to, last, |f, h| f > h);
        }
        RangeFn::TsOfFirst => mixed.each(|i, p| {
            let h = mixed.histograms.ts[p.histograms.0];
            let f = p.has_floats().then(|| mixed.cols.ts[p.floats.0]);
            to.float(i, f.map_or(h, |f| f.min(h)) as f64 / 1000.0);
        }),
        RangeFn::TsOfLast => mixed.each(|i, p| {
            let h = mixed.histograms.ts[p.histograms.1 - 1];
            let f = p.has_floats().then(|| mixed.cols.ts[p.floats.1 - 1]);
            to.float(i, f.map_or(h, |f| f.max(h)) as f64 / 1000.0);
        }),
        // These know floats only.
        _ => mixed.each(|_, p| {
            if p.has_floats() {
                notes.named(Note::IgnoredInRange);
            }
        }),
    }
}

/// The same for `anchored` and `smoothed` ranges.
pub(crate) fn run_extended(
    func: RangeFn,
    extension: Extension,
    mixed: &Mixed<'_>,
    scratch: &mut Scratch,
    notes: &mut Notes<'_>,
    row: &mut Row,
) {
    match func {
        RangeFn::Changes | RangeFn::Resets => pairs(func, mixed, Some(extension), scratch, row),
        _ => rates(func, mixed, Some(extension), notes, &mut To { row }),
    }
}

/// `first_over_time` and `last_over_time`.
fn borders(
    mixed: &Mixed<'_>,
    to: &mut To<'_>,
    places: impl Fn(&Places) -> (usize, usize),
    float_wins: impl Fn(Millis, Millis) -> bool,
) {
    let mut shared: Option<(usize, Arc<Histogram>)> = None;
    mixed.each(|i, p| {
        let (f, h) = places(&p);
        if p.has_floats() && float_wins(mixed.cols.ts[f], mixed.histograms.ts[h]) {
            return;
        }
        to.nothing(i);
        if let Some(h) = one(mixed, h, &mut shared) {
            to.histogram(i, h);
        }
    });
}

/// Histogram `place`; the steps that show it share it.
fn one(
    mixed: &Mixed<'_>,
    place: usize,
    shared: &mut Option<(usize, Arc<Histogram>)>,
) -> Option<Arc<Histogram>> {
    if let Some((at, h)) = shared
        && *at == place
    {
        return Some(Arc::clone(h));
    }
    let h = Arc::new(Histogram::of(mixed.get(place)?));
    *shared = Some((place, Arc::clone(&h)));
    Some(h)
}

/// By how much a window's histograms changed, resets corrected. An error means that exponential and
/// custom buckets meet, and whether what was said before stands.
fn change(
    mixed: &Mixed<'_>,
    facts: &Facts,
    lo: usize,
    hi: usize,
    counter: bool,
    notes: &mut Notes<'_>,
) -> Result<Sum, bool> {
    let get = |i: usize| mixed.get(i).ok_or(true);
    let (first, last) = (get(lo)?, get(hi - 1)?);
    let gauge = |h: &HistogramRef<'_>| h.scalars.counter_reset == CounterReset::Gauge;
    let custom = |h: &HistogramRef<'_>| h.layout.schema == CUSTOM_SCHEMA;
    if counter && (gauge(&first) || gauge(&last)) {
        notes.named(Note::NotCounter);
    }
    let behind_first = facts.resets.partition_point(|&r| r <= lo);
    let resets = &facts.resets[behind_first..];
    let resets = &resets[..resets.partition_point(|&r| r < hi)];
    // A first histogram right before a reset does not matter, nor do its buckets.
    let skips_first = resets.first() == Some(&(lo + 1));
    let base = if skips_first { get(lo + 1)? } else { first };
    if custom(&last) != custom(&base) {
        return Err(true);
    }
    let mut schema = last.layout.schema.min(base.layout.schema);
    if counter && !facts.plain {
        for i in lo + 1..hi - 1 {
            let h = get(i)?;
            if gauge(&h) {
                notes.named(Note::NotCounter);
            }
            schema = schema.min(h.layout.schema);
            if custom(&h) != custom(&base) {
                return Err(false);
            }
        }
    }
    let mut sum = Sum::plain(last);
    sum.reduce(schema);
    let mut add = |h: HistogramRef<'_>, sign: f64, operation| match sum.add(h, sign) {
        Ok(added) => {
            notes.added(added, operation);
            Ok(())
        }
        Err(Incompatible) => Err(false),
    };
    if skips_first {
        // Nothing is subtracted, but in the second one's buckets.
        if custom(&base) && base.layout.custom_values != last.layout.custom_values {
            let empty = empty_like(&base, &last);
            add(empty.as_ref(), -1.0, Operation::Subtraction)?;
            let starts = mixed.starts();
            // Counts below zero are a reset even after nothing.
            if is_reset(base, empty.as_ref()) || start_reset(&mixed.histograms.ts, starts, lo + 1) {
                add(empty.as_ref(), 1.0, Operation::Addition)?;
            }
        }
    } else {
        add(first, -1.0, Operation::Subtraction)?;
    }
    if counter {
        let behind = facts.overlaps.partition_point(|&i| i <= lo);
        let overlap = facts.overlaps.get(behind).is_some_and(|&i| i < hi);
        for &r in resets.iter().skip(usize::from(skips_first)) {
            add(get(r - 1)?, 1.0, Operation::Addition)?;
        }
        if overlap {
            notes.overlap();
        }
    } else if !gauge(&first) || !gauge(&last) {
        notes.named(Note::NotGauge);
    }
    Ok(sum)
}

/// Nothing, counted in the buckets of `h`; the zero bucket is that of `like`.
fn empty_like(h: &HistogramRef<'_>, like: &HistogramRef<'_>) -> Histogram {
    let layout = chunk::histograms::Layout {
        schema: h.layout.schema,
        zero_threshold: like.layout.zero_threshold,
        positive: Vec::new(),
        negative: Vec::new(),
        custom_values: Arc::clone(&h.layout.custom_values),
    };
    Histogram {
        scalars: Default::default(),
        layout: Arc::new(layout),
        counts: Vec::new(),
        compacted: false,
    }
}

/// `irate` and `idelta`.
fn last_two(counter: bool, mixed: &Mixed<'_>, notes: &mut Notes<'_>, to: &mut To<'_>) {
    let (floats, histograms) = (mixed.cols.ts, &mixed.histograms.ts);
    mixed.each(|i, p| {
        let ((flo, fhi), (hlo, hhi)) = (p.floats, p.histograms);
        // The newest samples, of whichever kind.
        let newest = |f: usize, h: usize| {
            let (f, h) = (
                (f > flo).then(|| floats[f - 1]),
                (h > hlo).then(|| histograms[h - 1]),
            );
            match (f, h) {
                (Some(f), Some(h)) => Some(h > f),
                (None, Some(_)) => Some(true),
                (Some(_), None) => Some(false),
                (None, None) => None,
            }
        };
        let before =
            |(f, h): (usize, usize), kind: bool| if kind { (f, h - 1) } else { (f - 1, h) };
        // There is a histogram, so there is a newest sample.
        let Some(last) = newest(fhi, hhi) else { return };
        let rest = before((fhi, hhi), last);
        let Some(prev) = newest(rest.0, rest.1) else {
            to.nothing(i);
            return;
        };
        if !last && !prev {
            // Both are floats, which were the last of the floats too.
            return;
        }
        to.nothing(i);
        if last != prev {
            notes.named(Note::Mixed);
            return;
        }
        let (cur, old) = (hhi - 1, hhi - 2);
        let (Some(a), Some(b)) = (mixed.get(old), mixed.get(cur)) else {
            return;
        };
        let interval = histograms[cur] - histograms[old];
        let gauge = |h: &HistogramRef<'_>| h.scalars.counter_reset == CounterReset::Gauge;
        if counter && (gauge(&a) || gauge(&b)) {
            notes.named(Note::NotCounter);
        }
        if !counter && (!gauge(&a) || !gauge(&b)) {
            notes.named(Note::NotGauge);
        }
        let mut sum = Sum::plain(b);
        let reset = counter && (start_reset(histograms, mixed.starts(), cur) || is_reset(b, a));
        if !reset {
            match sum.add(a, -1.0) {
                Ok(added) => notes.added(added, Operation::Subtraction),
                Err(Incompatible) => {
                    notes.named(Note::MixedSchemas);
                    return;
                }
            }
        }
        let mut h = sum.finish();
        h.scalars.counter_reset = CounterReset::Gauge;
        h.compacted = true;
        if counter {
            h.divide(interval as f64 / 1000.0);
        }
        to.histogram(i, Arc::new(h));
    });
}

/// `changes` and `resets`, over floats and histograms in the order of time.
fn pairs(
    func: RangeFn,
    mixed: &Mixed<'_>,
    extension: Option<Extension>,
    scratch: &mut Scratch,
    row: &mut Row,
) {
    let (floats, histograms) = (mixed.cols.ts, &mixed.histograms.ts);
    let mut times = std::mem::take(&mut scratch.times);
    times.clear();
    let (mut f, mut h) = (0, 0);
    // Places of the samples: floats, and histograms behind them all.
    let mut order: Vec<(bool, usize)> = Vec::with_capacity(floats.len() + histograms.len());
    while f < floats.len() || h < histograms.len() {
        let float = h >= histograms.len() || (f < floats.len() && floats[f] < histograms[h]);
        if float {
            times.push(floats[f]);
            order.push((true, f));
            f += 1;
        } else {
            times.push(histograms[h]);
            order.push((false, h));
            h += 1;
        }
    }
    let start = |(float, i): (bool, usize)| {
        let starts = if float {
            mixed.cols.starts
        } else {
            mixed.starts()
        };
        starts.get(i).copied().unwrap_or(0)
    };
    let values = mixed.cols.values;
    let differ = |i: usize| {
        let ((fa, a), (fb, b)) = (order[i - 1], order[i]);
        if fa != fb {
            return true;
        }
        if func == RangeFn::Resets
            && rate::started_between(
                (start(order[i - 1]), times[i - 1]),
                (start(order[i]), times[i]),
            )
        {
            return true;
        }
        if fa {
            return if func == RangeFn::Resets {
                values[b] < values[a]
            } else {
                rate::differ(values[a], values[b])
            };
        }
        let (Some(a), Some(b)) = (mixed.get(a), mixed.get(b)) else {
            return false;
        };
        if func == RangeFn::Resets {
            is_reset(b, a)
        } else {
            !Histogram::of(a).equals(&Histogram::of(b))
        }
    };
    row.bits.fill(0);
    let cols = Cols {
        ts: &times,
        values: &[],
        starts: &[],
        ..mixed.cols
    };
    let mut out = Out {
        values: &mut row.values,
        bits: &mut row.bits,
    };
    match extension {
        Some(extension) => extended::pairs(extension, &cols, scratch, &mut out, differ),
        None => rate::count_pairs(&cols, differ, scratch, &mut out),
    }
    scratch.times = times;
}

/// Instant selectors over series with histograms: the newest sample of each window.
pub(crate) fn select(mixed: &Mixed<'_>, what: Newest, row: &mut Row) -> Result<(), ()> {
    let (floats, histograms) = (mixed.cols.ts, &mixed.histograms.ts);
    let mut to = To { row };
    let mut shared = None;
    let mut failed = false;
    mixed.each(|i, p| {
        let at = p.histograms.1 - 1;
        let t = histograms[at];
        if p.has_floats() && floats[p.floats.1 - 1] > t {
            return;
        }
        to.nothing(i);
        let Some(h) = mixed.get(at).filter(|h| !is_stale(h.scalars.sum)) else {
            return;
        };
        match what {
            Newest::Value => {
                if let Some(h) = one(mixed, at, &mut shared) {
                    to.histogram(i, h);
                }
            }
            Newest::Time => to.float(i, t as f64 / 1000.0),
            Newest::Start => {
                let start = mixed.histograms.starts.get(at).copied().unwrap_or(0);
                to.float(i, start as f64 / 1000.0);
            }
            Newest::InfoTime => {
                let _ = h;
                failed = true;
            }
        }
    });
    if failed { Err(()) } else { Ok(()) }
}

/// What is wanted of the newest sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// Itself.
    Value,
    /// Its time, in seconds.
    Time,
    /// Its start timestamp, in seconds.
    Start,
    /// Its time, which must be a float's.
    InfoTime,
}

/// `smoothed` instant selectors over series with histograms.
pub(crate) fn smoothed(lookback: Millis, mixed: &Mixed<'_>, notes: &mut Notes<'_>, row: &mut Row) {
    let ts = &mixed.histograms.ts;
    let mut to = To { row };
    mixed.each(|i, p| {
        to.nothing(i);
        if p.has_floats() {
            notes.named(Note::Mixed);
            return;
        }
        let (lo, hi) = p.histograms;
        let at = mixed.cols.window.end(mixed.cols.grid, i) - lookback;
        let next = lo + ts[lo..hi].partition_point(|&t| t < at);
        let sample = |i: usize| Some((ts[i], mixed.get(i)?));
        let h = if next < hi && ts[next] == at {
            mixed.get(next).map(Histogram::of)
        } else if next == lo {
            None
        } else if next == hi {
            mixed.get(next - 1).map(|h| {
                let mut h = Histogram::of(h);
                // The hint was about the sample, not about the value.
                h.scalars.counter_reset = CounterReset::Unknown;
                h
            })
        } else if let (Some(a), Some(b)) = (sample(next - 1), sample(next)) {
            if (a.1.layout.schema == CUSTOM_SCHEMA) != (b.1.layout.schema == CUSTOM_SCHEMA) {
                notes.named(Note::MixedSchemas);
                return;
            }
            let gauge = |h: &HistogramRef<'_>| h.scalars.counter_reset == CounterReset::Gauge;
            let counter = !gauge(&a.1) || !gauge(&b.1);
            interpolated(a, b, at, counter, notes)
        } else {
            None
        };
        if let Some(h) = h {
            to.histogram(i, Arc::new(h));
        }
    });
}
