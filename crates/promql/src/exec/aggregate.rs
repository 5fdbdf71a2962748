//! Streaming aggregations: `sum`, `avg`, `count`, `min`, `max`, `group`, `stddev`, `stdvar`.
//!
//! Each job adds its series into group vectors of its own; these are merged in the order of the
//! batches. Sums are compensated pairs, so the result does not depend on how many threads there
//! are, and raw series are never kept.

use std::sync::Arc;

use futures_util::stream::StreamExt as _;

mod histograms;

use histograms::Cell;
use model::{Symbol, Symbols};

use super::block::{
    Block, Pair, Row, RowRef, bytes_of, clear, each_set, full, is_set, unite, words,
};
use super::context::{Context, Held};
use super::index::{Key, LabelIndex};
use super::operator::{Blocks, Description, Operator, Yield, blocking};
use super::pipe::Pipe;
use crate::annotations::Note;
use crate::ast::Span;
use crate::histogram::Point;
use crate::numbers::kahan_inc;
use crate::value::QueryError;

/// So many groups are finished between two looks at whether the query goes on: a thousand steps, each of
/// which may be a histogram.
fn groups_at_once(steps: usize) -> usize {
    (1024 / steps.max(1)).max(1)
}

/// What is kept of a group and how series are added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
}

/// `op by (labels) (input)`
pub(crate) struct Aggregate {
    pub(crate) op: Op,
    pub(crate) key: Grouping,
    pub(crate) input: Pipe,
    /// Where the input was written.
    pub(crate) span: Span,
}

/// `by` or `without`, as written.
#[derive(Clone, Debug)]
pub(crate) struct Grouping {
    pub(crate) without: bool,
    pub(crate) labels: Vec<model::Str>,
}

impl Grouping {
    pub(crate) fn key(&self, cx: &Context) -> Key {
        let symbols = &cx.scope.symbols;
        if self.without {
            Key::all_but(&self.labels, model::METRIC_NAME, symbols)
        } else {
            Key::only(&self.labels, symbols)
        }
    }
}

impl std::fmt::Display for Grouping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.without { "without" } else { "by" };
        let labels: Vec<&str> = self.labels.iter().map(|l| &**l).collect();
        write!(f, "{how} ({})", labels.join(", "))
    }
}

impl Operator for Aggregate {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let key = self.key.key(&cx);
            let op = self.op;
            let mut partials = self.input.jobs(&cx, move |cx, pipe, work| {
                let mut groups = Groups::new(op, pipe.grid.count, cx.name_symbol());
                let mut labels = Vec::new();
                pipe.drive(cx, work, &mut |row: &mut Row| {
                    key.of(&row.labels, &mut labels);
                    groups.room(cx, 1, &labels, &row.histograms)?;
                    groups.add(&labels, row.as_ref());
                    Ok(())
                })?;
                groups.hold(cx)?;
                Ok(groups)
            });
            let mut all: Option<Groups> = None;
            while let Some(partial) = partials.next().await {
                let partial = partial?;
                all = Some(match all {
                    None => partial,
                    Some(mut all) => {
                        cx.run(partial.bytes(), move |cx| {
                            all.room(cx, partial.index.len(), &[], &[])?;
                            all.merge(partial, || cx.check())?;
                            all.hold(cx)?;
                            Ok(all)
                        })
                        .await?
                    }
                });
            }
            let Some(all) = all else {
                return Ok(Vec::new());
            };
            let span = self.span;
            let block = cx
                .run(all.bytes(), move |cx| {
                    let mut say = |note: Note| cx.say(|a| a.note(&note, span));
                    cx.make_block((all.index.len(), all.steps), || {
                        all.finish(&cx.scope.symbols, &mut say, || cx.check())
                    })
                })
                .await?;
            Ok(vec![block])
        })
    }

    fn describe(&self) -> Description {
        let name = format!("Aggregate[{:?}] {}", self.op, self.key);
        Description::new(name, false, "groups x steps x 24 B x (credits + 1)")
            .yields(Yield::Instead)
            .over([self.input.describe()])
    }
}

/// The state of all groups.
pub(crate) struct Groups {
    op: Op,
    steps: usize,
    index: LabelIndex,
    drop_name: Vec<bool>,
    /// Sum, mean, extreme or count.
    a: Vec<f64>,
    /// Compensation of a sum, or the sum of squared deviations.
    b: Vec<f64>,
    /// How many series, where the operation needs it.
    n: Vec<f64>,
    bits: Vec<u64>,
    /// Steps of an average that overflowed: `a` is a running mean there. Empty until one does.
    running: Vec<u64>,
    /// Whether a histogram was met under `sum` or `avg`.
    with_cells: bool,
    /// Histograms of group g at step s: number `g * steps + s`. Empty until there is one.
    cells: Vec<Option<Box<Cell>>>,
    /// Whether a histogram was met that the operation does not know.
    ignored: bool,
    /// The symbol of the label that names metrics.
    name: Symbol,
    held: Option<Held>,
    /// For so many groups there is memory.
    roomy: usize,
    /// Bytes of histograms that were added since the groups were counted.
    met: usize,
}

impl Groups {
    pub(crate) fn new(op: Op, steps: usize, name: Symbol) -> Self {
        Self {
            op,
            steps,
            index: LabelIndex::default(),
            drop_name: Vec::new(),
            a: Vec::new(),
            b: Vec::new(),
            n: Vec::new(),
            bits: Vec::new(),
            running: Vec::new(),
            with_cells: false,
            cells: Vec::new(),
            ignored: false,
            name,
            held: None,
            roomy: 0,
            met: 0,
        }
    }

    fn bytes(&self) -> usize {
        self.index.bytes()
            + (self.a.capacity() + self.b.capacity() + self.n.capacity() + self.bits.capacity()) * 8
            + self.cells.capacity() * 8
            + self
                .cells
                .iter()
                .flatten()
                .map(|c| c.bytes())
                .sum::<usize>()
    }

    fn hold(&mut self, cx: &Context) -> Result<(), QueryError> {
        let bytes = self.bytes();
        (self.roomy, self.met) = (self.index.len(), 0);
        match &mut self.held {
            Some(held) => held.resize(bytes),
            None => {
                self.held = Some(cx.hold(bytes)?);
                Ok(())
            }
        }
    }

    /// Sees to it that there is memory for so many groups more, and for histograms, before they are
    /// there. `labels` are those of the group, if it is one.
    fn room(
        &mut self,
        cx: &Context,
        groups: usize,
        labels: &[Pair],
        histograms: &[Point],
    ) -> Result<(), QueryError> {
        if histograms.is_empty() && self.index.len() + groups <= self.roomy {
            return Ok(());
        }
        // Lists grow by doubling.
        let lists = match self.op {
            Op::Avg | Op::Stddev | Op::Stdvar => 3,
            Op::Sum => 2,
            _ => 1,
        } + usize::from(self.with_cells || !histograms.is_empty());
        let of_group = self.steps * lists * 8 + words(self.steps) * 8 + labels.len() * 8 + 48;
        let known = self.index.len();
        if known + groups > self.roomy {
            self.roomy = (known + groups).max(known * 2);
        }
        // As large as their operands, and once more what rounding took off them.
        if !histograms.is_empty() && self.index.find(labels).is_none() {
            self.met += 2 * bytes_of(histograms);
        }
        let bytes = self.roomy.saturating_mul(of_group).saturating_add(self.met);
        match &mut self.held {
            Some(held) if held.bytes() >= bytes => Ok(()),
            Some(held) => held.resize(bytes),
            none => {
                *none = Some(cx.hold(bytes)?);
                Ok(())
            }
        }
    }

    /// The number of the group, made if it is new.
    fn group(&mut self, labels: &[Pair], drop_name: bool) -> (usize, bool) {
        let (group, new) = self.index.intern(labels);
        if new {
            self.drop_name.push(drop_name);
            let len = (group + 1) * self.steps;
            let first = match self.op {
                Op::Min | Op::Max => f64::NAN,
                _ => 0.0,
            };
            self.a.resize(len, first);
            if matches!(self.op, Op::Sum | Op::Avg | Op::Stddev | Op::Stdvar) {
                self.b.resize(len, 0.0);
            }
            if matches!(self.op, Op::Avg | Op::Stddev | Op::Stdvar) {
                self.n.resize(len, 0.0);
            }
            self.bits.resize((group + 1) * words(self.steps), 0);
            if !self.running.is_empty() {
                self.running.resize(self.bits.len(), 0);
            }
            if self.with_cells {
                self.cells.resize_with(len, || None);
            }
        } else {
            self.drop_name[group] |= drop_name;
        }
        (group, new)
    }

    /// Adds a series to its group.
    pub(crate) fn add(&mut self, labels: &[Pair], row: RowRef<'_>) {
        let (group, _) = self.group(labels, row.drop_name);
        let (steps, base) = (self.steps, group * self.steps);
        let values = row.values;
        let mut scratch = Vec::new();
        let floats = row.float_bits(&mut scratch);
        let mut present = floats;
        match self.op {
            Op::Count | Op::Group => present = row.bits,
            Op::Sum | Op::Avg if !row.histograms.is_empty() || self.with_cells => {
                self.meet(group, row, floats);
                present = row.bits;
            }
            _ => self.ignored |= !row.histograms.is_empty(),
        }
        match self.op {
            Op::Sum => {
                let a = &mut self.a[base..base + steps];
                let b = &mut self.b[base..base + steps];
                runs(floats, steps, |from, to| {
                    let cells = a[from..to].iter_mut().zip(&mut b[from..to]);
                    for ((a, b), v) in cells.zip(&values[from..to]) {
                        (*a, *b) = kahan_inc(*v, *a, *b);
                    }
                });
            }
            Op::Count => {
                let a = &mut self.a[base..base + steps];
                runs(row.bits, steps, |from, to| {
                    a[from..to].iter_mut().for_each(|n| *n += 1.0);
                });
            }
            Op::Group => {}
            Op::Min => {
                let a = &mut self.a[base..base + steps];
                each_set(floats, |i| {
                    if a[i] > values[i] || a[i].is_nan() {
                        a[i] = values[i];
                    }
                });
            }
            Op::Max => {
                let a = &mut self.a[base..base + steps];
                each_set(floats, |i| {
                    if a[i] < values[i] || a[i].is_nan() {
                        a[i] = values[i];
                    }
                });
            }
            Op::Avg => each_set(floats, |i| self.average(group, i, values[i])),
            Op::Stddev | Op::Stdvar => each_set(floats, |i| {
                let (at, v) = (base + i, values[i]);
                self.n[at] += 1.0;
                let n = self.n[at];
                if n == 1.0 {
                    self.a[at] = v;
                    self.b[at] = if v.is_finite() { 0.0 } else { f64::NAN };
                } else {
                    let delta = v - self.a[at];
                    self.a[at] += delta / n;
                    self.b[at] += delta * (v - self.a[at]);
                }
            }),
        }
        let words = words(steps);
        unite(&mut self.bits[group * words..(group + 1) * words], present);
    }

    fn start_cells(&mut self) {
        if !self.with_cells {
            self.with_cells = true;
            self.cells
                .resize_with(self.index.len() * self.steps, || None);
        }
    }

    /// Adds the histograms of a series to a group, and notes floats beside them.
    fn meet(&mut self, group: usize, row: RowRef<'_>, floats: &[u64]) {
        let name = super::block::value_of(row.labels, self.name);
        let (base, words) = (group * self.steps, words(self.steps));
        self.start_cells();
        let before = &self.bits[group * words..(group + 1) * words];
        for (i, h) in row.histograms {
            let i = *i as usize;
            match &mut self.cells[base + i] {
                Some(cell) => cell.add(h, name),
                none => {
                    let cell = Cell::new(self.op, h, name, is_set(before, i));
                    *none = Some(Box::new(cell));
                }
            }
        }
        each_set(floats, |i| {
            if let Some(cell) = &mut self.cells[base + i] {
                cell.meet_float();
            }
        });
    }

    fn is_running(&self, group: usize, i: usize) -> bool {
        let words = words(self.steps);
        !self.running.is_empty() && is_set(&self.running[group * words..(group + 1) * words], i)
    }

    /// Turns the sum at a step into a mean, because the sum would overflow.
    fn start_running(&mut self, group: usize, i: usize) {
        let words = words(self.steps);
        if self.running.is_empty() {
            self.running.resize(self.bits.len(), 0);
        }
        let at = group * self.steps + i;
        self.running[group * words + (i >> 6)] |= 1 << (i & 63);
        self.a[at] /= self.n[at];
        self.b[at] /= self.n[at];
    }

    fn average(&mut self, group: usize, i: usize, v: f64) {
        let at = group * self.steps + i;
        let running = self.is_running(group, i);
        if !running {
            let (s, c) = kahan_inc(v, self.a[at], self.b[at]);
            // A first value that is infinite overflows nothing.
            if !s.is_infinite() || self.n[at] == 0.0 {
                (self.a[at], self.b[at]) = (s, c);
                self.n[at] += 1.0;
                return;
            }
            self.start_running(group, i);
        }
        self.n[at] += 1.0;
        let n = self.n[at];
        let q = (n - 1.0) / n;
        (self.a[at], self.b[at]) = kahan_inc(v / n, q * self.a[at], q * self.b[at]);
    }

    /// Adds the groups of a later batch.
    /// `check` is asked again and again whether the query goes on.
    pub(crate) fn merge(
        &mut self,
        mut other: Groups,
        check: impl Fn() -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let (steps, words) = (self.steps, words(self.steps));
        let at_once = groups_at_once(steps);
        self.ignored |= other.ignored;
        let mut cells = std::mem::take(&mut other.cells);
        let other = &other;
        if other.with_cells {
            self.start_cells();
        }
        let mut floats = Vec::new();
        for from in 0..other.index.len() {
            if from.is_multiple_of(at_once) {
                check()?;
            }
            let labels = other.index.labels(from);
            let (to, new) = self.group(labels, other.drop_name[from]);
            let bits = &other.bits[from * words..(from + 1) * words];
            let (base, source) = (to * steps, from * steps);
            let range = source..source + steps;
            let all = bits;
            let mut bits = bits;
            if self.with_cells {
                floats.clear();
                floats.extend_from_slice(all);
                self.merge_cells(to, cells.get_mut(range.clone()), &mut floats);
                bits = &floats;
            }
            if new && other.running.is_empty() {
                self.a[base..].copy_from_slice(&other.a[range.clone()]);
                if !self.b.is_empty() {
                    self.b[base..].copy_from_slice(&other.b[range.clone()]);
                }
                if !self.n.is_empty() {
                    self.n[base..].copy_from_slice(&other.n[range]);
                }
            } else {
                self.merge_group(to, other, from, bits);
            }
            unite(&mut self.bits[to * words..(to + 1) * words], all);
        }
        Ok(())
    }

    /// Adds the cells of a group of a later batch; `floats` are its steps, from which those without
    /// floats are removed.
    fn merge_cells(
        &mut self,
        to: usize,
        theirs: Option<&mut [Option<Box<Cell>>]>,
        floats: &mut [u64],
    ) {
        let (base, words) = (to * self.steps, words(self.steps));
        let before = &self.bits[to * words..(to + 1) * words];
        let mut theirs = theirs.unwrap_or_default().iter_mut();
        for i in 0..self.steps {
            let theirs = theirs.next().and_then(Option::take);
            let mine = &mut self.cells[base + i];
            match (mine, theirs) {
                (mine, Some(mut cell)) => {
                    if !cell.floats {
                        clear(floats, i);
                    }
                    match mine {
                        Some(mine) => mine.merge(*cell),
                        None => {
                            if is_set(before, i) {
                                cell.come_after_float();
                            }
                            *mine = Some(cell);
                        }
                    }
                }
                (Some(mine), None) if is_set(floats, i) => mine.meet_float(),
                _ => {}
            }
        }
    }

    fn merge_group(&mut self, to: usize, other: &Groups, from: usize, bits: &[u64]) {
        let (base, source) = (to * self.steps, from * self.steps);
        match self.op {
            Op::Sum => runs(bits, self.steps, |lo, hi| {
                for i in lo..hi {
                    let (s, c) = (other.a[source + i], other.b[source + i]);
                    let at = base + i;
                    (self.a[at], self.b[at]) = kahan_inc(s, self.a[at], self.b[at] + c);
                }
            }),
            Op::Count => each_set(bits, |i| self.a[base + i] += other.a[source + i]),
            Op::Group => {}
            Op::Min => each_set(bits, |i| {
                let (a, v) = (&mut self.a[base + i], other.a[source + i]);
                if *a > v || a.is_nan() {
                    *a = v;
                }
            }),
            Op::Max => each_set(bits, |i| {
                let (a, v) = (&mut self.a[base + i], other.a[source + i]);
                if *a < v || a.is_nan() {
                    *a = v;
                }
            }),
            Op::Avg => each_set(bits, |i| {
                let (at, theirs) = (base + i, source + i);
                let (mut s, mut c, m) = (other.a[theirs], other.b[theirs], other.n[theirs]);
                let other_runs = other.is_running(from, i);
                if !self.is_running(to, i) && !other_runs {
                    let (sum, comp) = kahan_inc(s, self.a[at], self.b[at] + c);
                    if !sum.is_infinite() || self.n[at] == 0.0 {
                        (self.a[at], self.b[at]) = (sum, comp);
                        self.n[at] += m;
                        return;
                    }
                }
                if !other_runs {
                    (s, c) = (s / m, c / m);
                }
                if self.n[at] == 0.0 {
                    self.n[at] = 1.0;
                    self.start_running(to, i);
                    (self.a[at], self.b[at], self.n[at]) = (s, c, m);
                    return;
                }
                if !self.is_running(to, i) {
                    self.start_running(to, i);
                }
                let n = self.n[at] + m;
                let (mine, theirs) = (self.n[at] / n, m / n);
                (self.a[at], self.b[at]) = kahan_inc(
                    s * theirs,
                    self.a[at] * mine,
                    self.b[at] * mine + c * theirs,
                );
                self.n[at] = n;
            }),
            Op::Stddev | Op::Stdvar => each_set(bits, |i| {
                let (at, theirs) = (base + i, source + i);
                let (m, mean, squares) = (other.n[theirs], other.a[theirs], other.b[theirs]);
                let n = self.n[at] + m;
                if self.n[at] == 0.0 {
                    (self.a[at], self.b[at]) = (mean, squares);
                } else {
                    let delta = mean - self.a[at];
                    self.b[at] += squares + delta * delta * (self.n[at] * m / n);
                    self.a[at] += delta * (m / n);
                }
                self.n[at] = n;
            }),
        }
    }

    /// The results, one row a group, in order of first appearance, and what has to be said.
    /// `check` is asked again and again whether the query goes on.
    pub(crate) fn finish(
        mut self,
        symbols: &Symbols,
        say: &mut dyn FnMut(Note),
        check: impl Fn() -> Result<(), QueryError>,
    ) -> Result<Block, QueryError> {
        let (steps, words) = (self.steps, words(self.steps));
        let at_once = groups_at_once(steps);
        if self.ignored {
            say(Note::IgnoredInAggregation(self.op.name()));
        }
        for group in 0..self.index.len() {
            if group.is_multiple_of(at_once) {
                check()?;
            }
            for i in 0..steps {
                let at = group * steps + i;
                self.a[at] = match self.op {
                    Op::Sum => self.a[at] + self.b[at],
                    Op::Avg if self.is_running(group, i) => self.a[at] + self.b[at],
                    Op::Avg => self.a[at] / self.n[at] + self.b[at] / self.n[at],
                    Op::Count | Op::Min | Op::Max => self.a[at],
                    Op::Group => 1.0,
                    Op::Stdvar => self.b[at] / self.n[at],
                    Op::Stddev => (self.b[at] / self.n[at]).sqrt(),
                };
            }
        }
        let mut block = Block::new(steps);
        let mut cells = std::mem::take(&mut self.cells).into_iter();
        let mut histograms: Vec<Point> = Vec::new();
        for group in 0..self.index.len() {
            if group.is_multiple_of(at_once) {
                check()?;
            }
            let bits = &mut self.bits[group * words..(group + 1) * words];
            histograms.clear();
            for (i, cell) in cells.by_ref().take(steps).enumerate() {
                let Some(cell) = cell else { continue };
                match cell.finish(symbols, say) {
                    Some(h) => histograms.push((i as u32, h)),
                    None => clear(bits, i),
                }
            }
            if bits.iter().any(|w| *w != 0) {
                block.push(RowRef {
                    labels: self.index.labels(group),
                    drop_name: self.drop_name[group],
                    values: &self.a[group * steps..(group + 1) * steps],
                    bits,
                    histograms: &histograms,
                });
            }
        }
        Ok(block)
    }
}

impl Op {
    /// Its name, where a note mentions it.
    fn name(self) -> &'static str {
        match self {
            Op::Min => "min",
            Op::Max => "max",
            Op::Stddev => "stddev",
            Op::Stdvar => "stdvar",
            Op::Sum => "sum",
            Op::Avg => "avg",
            Op::Count => "count",
            Op::Group => "group",
        }
    }
}

/// Calls `f(from, to)` for stretches of present steps: whole words at once where they are full.
#[inline(always)]
fn runs(bits: &[u64], steps: usize, mut f: impl FnMut(usize, usize)) {
    for (w, &word) in bits.iter().enumerate() {
        if word == 0 {
            continue;
        }
        let base = w * 64;
        if word == full(steps, w) {
            f(base, (base + 64).min(steps));
            continue;
        }
        let mut rest = word;
        while rest != 0 {
            let from = rest.trailing_zeros() as usize;
            let len = (!(rest >> from)).trailing_zeros() as usize;
            f(base + from, base + from + len);
            if from + len >= 64 {
                break;
            }
            rest &= !0 << (from + len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<f64>]) -> Row {
        let mut row = Row::default();
        row.reset(values.len());
        for (i, v) in values.iter().enumerate() {
            if let Some(v) = v {
                row.values[i] = *v;
                row.bits[i >> 6] |= 1 << (i & 63);
            }
        }
        row
    }

    fn results(op: Op, batches: &[Vec<Row>], steps: usize) -> Vec<Option<f64>> {
        let mut all: Option<Groups> = None;
        for batch in batches {
            let mut groups = Groups::new(op, steps, Symbol::EMPTY);
            for row in batch {
                groups.add(&[], row.as_ref());
            }
            match &mut all {
                None => all = Some(groups),
                Some(all) => all.merge(groups, || Ok(())).unwrap(),
            }
        }
        let block = all
            .unwrap()
            .finish(&Symbols::default(), &mut |_| {}, || Ok(()))
            .unwrap();
        let row = block.row(0);
        (0..steps)
            .map(|i| is_set(row.bits, i).then(|| row.values[i]))
            .collect()
    }

    #[test]
    fn batches_merge_to_what_one_batch_gives() {
        let steps = 130;
        let rows: Vec<Row> = (0..9)
            .map(|r| {
                let values: Vec<_> = (0..steps)
                    .map(|i| ((i * 7 + r * 3) % 5 != 0).then(|| (r * 31 + i) as f64 / 7.0 - 20.0))
                    .collect();
                row(&values)
            })
            .collect();
        for op in [
            Op::Sum,
            Op::Avg,
            Op::Count,
            Op::Min,
            Op::Max,
            Op::Group,
            Op::Stddev,
            Op::Stdvar,
        ] {
            let one = results(op, std::slice::from_ref(&rows), steps);
            let many: Vec<Vec<Row>> = rows.chunks(2).map(<[Row]>::to_vec).collect();
            let many = results(op, &many, steps);
            for (i, (a, b)) in one.iter().zip(&many).enumerate() {
                let (a, b) = (a.unwrap_or(-1.0), b.unwrap_or(-1.0));
                assert!(
                    (a - b).abs() <= 1e-9 * a.abs().max(1e-3),
                    "{op:?} {i}: {a} {b}"
                );
            }
        }
    }

    #[test]
    fn sums_are_compensated_across_batches() {
        let batches: Vec<Vec<Row>> = [1e100, 1.0, -1e100].map(|v| vec![row(&[Some(v)])]).into();
        assert_eq!(results(Op::Sum, &batches, 1), [Some(1.0)]);
    }

    #[test]
    fn averages_do_not_overflow() {
        for split in [1, 2, 3] {
            let rows: Vec<Row> = [1e308, 1.2e308, 1.4e308].map(|v| row(&[Some(v)])).into();
            let batches: Vec<Vec<Row>> = rows.chunks(split).map(<[Row]>::to_vec).collect();
            let got = results(Op::Avg, &batches, 1)[0].unwrap();
            assert!((got / 1.2e308 - 1.0).abs() < 1e-12, "{got}");
        }
        let batches = vec![vec![row(&[Some(f64::INFINITY)])], vec![row(&[Some(1.0)])]];
        assert_eq!(results(Op::Avg, &batches, 1), [Some(f64::INFINITY)]);
    }
}
