//! Binary operators between vectors.
//!
//! The "one" side is hashed by its matching labels, the other streamed past it. Which series have
//! met is kept as bits per step, so that duplicates are found exactly where Prometheus finds them:
//! among series that have a value at the same step.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use model::Symbol;

use super::block::{Block, Pair, Row, RowRef, clear, count, each_set, first_common, unite, words};
use super::context::{Context, Held, Weigh as _, execution};
use super::index::{Key, LabelIndex};
use super::operator::{Blocks, Description, Operator, left_first};
use super::pace::Pace;
use super::pipe::Pipe;
use crate::annotations::Note;
use crate::arith::{self, OfHistograms, with_operator};
use crate::ast::{BinaryOp, Cardinality, Matching, Span};
use crate::histogram::{Histogram, Point};
use crate::value::QueryError;

/// `many op one`, with sides as written.
pub(crate) struct Join {
    pub(crate) op: BinaryOp,
    pub(crate) bool_modifier: bool,
    pub(crate) matching: Matching,
    pub(crate) lhs: Pipe,
    pub(crate) rhs: Pipe,
    /// Where the whole operation was written.
    pub(crate) span: Span,
}

/// Where two series meet: a step, and the block and row of the later one.
type Met = (usize, (u32, u32));

/// How two series of a match become one.
struct Rules {
    op: BinaryOp,
    bool_modifier: bool,
    key: Key,
    on: bool,
    one_to_one: bool,
    /// The one side was written on the left.
    swapped: bool,
    labels: Vec<Symbol>,
    include: Vec<Symbol>,
    drops_name: bool,
    delayed_flag: bool,
    /// Values for a missing one, and for a missing many side.
    fill_one: Option<f64>,
    fill_many: Option<f64>,
    span: Span,
}

/// The hashed side and everything known about matches so far.
struct State {
    one: Vec<Block>,
    keys: LabelIndex,
    /// Rows (block, row) of each key.
    rows: Vec<Vec<(u32, u32)>>,
    /// Steps at which the many side has any series.
    many_present: Vec<u64>,
    one_present: Vec<u64>,
    /// Steps at which a key has been matched.
    matched: Vec<u64>,
    /// Result labels of group modifiers: steps taken.
    results: LabelIndex,
    taken: Vec<u64>,
    /// The first step that is wrong, and why.
    wrong: Option<(usize, QueryError)>,
    /// What has to be said about each step: as in Prometheus, only the last of its pairs of which
    /// something has to be. Empty until there is such a pair.
    notes: Vec<Option<Note>>,
    held: Held,
}

impl Operator for Join {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        let swapped = self.matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped {
            (&self.rhs, &self.lhs)
        } else {
            (&self.lhs, &self.rhs)
        };
        let steps = many.grid.count;
        let symbols = &cx.scope.symbols;
        let m = &self.matching;
        let intern = |names: &[model::Str]| names.iter().map(|n| symbols.intern(n)).collect();
        let (fill_left, fill_right) = m.fill;
        let rules = Arc::new(Rules {
            op: self.op,
            bool_modifier: self.bool_modifier,
            key: matching_key(m, &cx),
            on: m.on,
            one_to_one: m.card == Cardinality::OneToOne,
            swapped,
            labels: intern(&m.labels),
            include: intern(&m.include),
            drops_name: arith::changes_schema(self.op) || (self.bool_modifier && !cx.delayed_names),
            delayed_flag: self.bool_modifier && cx.delayed_names,
            // As Prometheus has it: whichever side is the one side, `fill_right` stands in for it.
            fill_one: fill_right,
            fill_many: fill_left,
            span: self.span,
        });
        let (many, one) = (many.blocks(&cx), one.blocks(&cx));
        let build = {
            let (cx, rules) = (Arc::clone(&cx), Arc::clone(&rules));
            async move {
                let one: Vec<Block> = one.try_collect().await?;
                let bytes = one.weight();
                cx.run(bytes, move |cx| State::build(cx, &rules, one, steps))
                    .await
            }
        };
        let probed = async move {
            let state = match build.await {
                Ok(state) => state,
                Err(e) if !swapped => return Err(left_first(e, many).await),
                Err(e) => return Err(e),
            };
            Ok(probe(cx, rules, many, state, steps))
        };
        stream::once(probed).try_flatten().boxed()
    }

    fn describe(&self) -> Description {
        let m = &self.matching;
        let how = if m.on { "on" } else { "ignoring" };
        let labels: Vec<&str> = m.labels.iter().map(|l| &**l).collect();
        let name = format!(
            "Join[{}] {how} ({}) {:?}",
            self.op.as_str(),
            labels.join(", "),
            m.card
        );
        Description::new(
            name,
            true,
            "one side: series x steps x 8 B; streams the other",
        )
        .over([self.lhs.describe(), self.rhs.describe()])
    }
}

/// The labels two sides must have in common.
pub(crate) fn matching_key(m: &Matching, cx: &Context) -> Key {
    let symbols = &cx.scope.symbols;
    if m.on {
        Key::only(&m.labels, symbols)
    } else {
        Key::all_but(&m.labels, model::METRIC_NAME, symbols)
    }
}

/// Streams the many side past the state.
fn probe(cx: Arc<Context>, rules: Arc<Rules>, many: Blocks, state: State, steps: usize) -> Blocks {
    let state = (many, Some(state), cx, rules);
    stream::try_unfold(state, move |(mut many, state, cx, rules)| async move {
        let Some(mut state) = state else {
            return Ok(None);
        };
        let job_rules = Arc::clone(&rules);
        match many.next().await.transpose()? {
            Some(block) => {
                let (out, state) = cx
                    .run(block.weight(), move |cx| {
                        let mut out = state.probe(cx, &job_rules, &block, steps)?;
                        if state.wrong.is_some() {
                            // The error comes at the end; what stands on this must not find it
                            // first, and by another name.
                            out = Block::new(steps);
                        }
                        Ok((out, state))
                    })
                    .await?;
                Ok(Some((out, (many, Some(state), cx, rules))))
            }
            None => {
                let out = cx
                    .run(state.held.bytes(), move |cx| {
                        let out = state.fill(cx, &job_rules, steps)?;
                        state.finish(cx, &job_rules)?;
                        Ok(out)
                    })
                    .await?;
                Ok(Some((out, (many, None, cx, rules))))
            }
        }
    })
    .try_filter(|block| {
        let empty = block.is_empty();
        async move { !empty }
    })
    .boxed()
}

impl State {
    fn build(
        cx: &Context,
        rules: &Rules,
        one: Vec<Block>,
        steps: usize,
    ) -> Result<State, QueryError> {
        let (mut keys, mut key) = (LabelIndex::default(), Vec::new());
        let mut rows: Vec<Vec<(u32, u32)>> = Vec::new();
        let mut one_present = vec![0; words(steps)];
        // Of each row a key with its labels, a list of one, and which steps were matched.
        let count: usize = one.iter().map(Block::len).sum();
        let labels: usize = one.iter().map(Block::bytes_of_labels).sum();
        let of_row = 2 * size_of::<Vec<(u32, u32)>>() + 48 + words(steps) * 8;
        let mut held = cx.hold(count.saturating_mul(of_row).saturating_add(2 * labels))?;
        let mut pace = Pace::default();
        for (b, block) in one.iter().enumerate() {
            for (r, row) in block.rows().enumerate() {
                pace.step(cx, row.bits.len() + row.labels.len())?;
                rules.key.of(row.labels, &mut key);
                let (k, new) = keys.intern(&key);
                if new {
                    rows.push(Vec::new());
                }
                rows[k].push((b as u32, r as u32));
                unite(&mut one_present, row.bits);
            }
        }
        let bytes = keys.bytes() + rows.len() * 40 + rows.len() * words(steps) * 8;
        held.resize(bytes)?;
        let matched = vec![0; keys.len() * words(steps)];
        Ok(State {
            one,
            keys,
            rows,
            many_present: vec![0; words(steps)],
            one_present,
            matched,
            results: LabelIndex::default(),
            taken: Vec::new(),
            wrong: None,
            notes: Vec::new(),
            held,
        })
    }

    fn fail(&mut self, step: usize, error: impl FnOnce() -> QueryError) {
        if self.wrong.as_ref().is_none_or(|(first, _)| step < *first) {
            self.wrong = Some((step, error()));
        }
    }

    fn probe(
        &mut self,
        cx: &Context,
        rules: &Rules,
        block: &Block,
        steps: usize,
    ) -> Result<Block, QueryError> {
        let mut out = cx.build(steps)?;
        let (mut key, mut row, mut pace) = (Vec::new(), Row::default(), Pace::default());
        let w = words(steps);
        for many in block.rows() {
            self.room(1, many.labels.len(), w)?;
            unite(&mut self.many_present, many.bits);
            rules.key.of(many.labels, &mut key);
            let found = self.keys.find(&key);
            let mut missing = many.bits.to_vec();
            if let Some(k) = found {
                for n in 0..self.rows[k].len() {
                    pace.step(cx, steps)?;
                    let (b, r) = self.rows[k][n];
                    let one = self.one[b as usize].row(r as usize);
                    row.reset(steps);
                    for (i, word) in row.bits.iter_mut().enumerate() {
                        *word = many.bits[i] & one.bits[i];
                        missing[i] &= !*word;
                    }
                    if row.is_empty() {
                        continue;
                    }
                    rules.labels(cx, many.labels, one.labels, &mut row);
                    // The bits that met, before the comparison filters them.
                    let mut met = row.bits.clone();
                    let (m, o) = (Operand::Row(many), Operand::Row(one));
                    let apart = rules.histograms(m, o, &mut row, &mut met, &mut self.notes);
                    rules.values(many.values, Side::Row(one.values), &mut row);
                    apart.put(&mut row);
                    self.claim(rules, k, &met, &row, w);
                    if !row.is_empty() {
                        out.push(row.as_ref())?;
                    }
                }
            }
            if let Some(fill) = rules.fill_one
                && count(&missing) > 0
            {
                let k = match found {
                    Some(k) => k,
                    None => {
                        let (k, _) = self.keys.intern(&key);
                        self.rows.push(Vec::new());
                        self.matched.resize(self.keys.len() * w, 0);
                        k
                    }
                };
                row.reset(steps);
                row.bits.copy_from_slice(&missing);
                let absent = rules.matching_labels(cx, many.labels);
                rules.labels(cx, many.labels, &absent, &mut row);
                let (m, o) = (Operand::Row(many), Operand::Fill);
                let apart = rules.histograms(m, o, &mut row, &mut missing, &mut self.notes);
                rules.values(many.values, Side::Fill(fill), &mut row);
                apart.put(&mut row);
                self.claim(rules, k, &missing, &row, w);
                if !row.is_empty() {
                    out.push(row.as_ref())?;
                }
            }
        }
        self.held.resize(self.bytes())?;
        out.finish()
    }

    fn bytes(&self) -> usize {
        self.keys.bytes()
            + self.results.bytes()
            + (self.taken.capacity() + self.matched.capacity()) * 8
            + self.rows.len() * 40
    }

    /// Sees to it that there is memory for so many rows more that are claimed, each with so many
    /// labels.
    fn room(&mut self, rows: usize, labels: usize, w: usize) -> Result<(), QueryError> {
        let more = rows * ((labels + 8) * 16 + w * 16 + 80);
        // Lists grow by doubling.
        let bytes = self.bytes() + more;
        if bytes > self.held.bytes() {
            self.held.resize(bytes + self.bytes() / 2 + more)?;
        }
        Ok(())
    }

    /// Notes that key `k` has been matched at the steps `met`, and finds those at which it already
    /// was.
    fn claim(&mut self, rules: &Rules, k: usize, met: &[u64], row: &Row, w: usize) {
        let matched = &mut self.matched[k * w..(k + 1) * w];
        if rules.one_to_one {
            let twice = first_common(matched, met);
            unite(matched, met);
            if let Some(step) = twice {
                self.fail(step, || {
                    execution("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")
                });
            }
            return;
        }
        unite(matched, met);
        let mut labels: Vec<Pair> = row.labels.clone();
        labels.push((Symbol(u32::MAX), Symbol(k as u32)));
        let (result, _) = self.results.intern(&labels);
        self.taken.resize(self.results.len() * w, 0);
        let taken = &mut self.taken[result * w..(result + 1) * w];
        let twice = first_common(taken, met);
        unite(taken, met);
        if let Some(step) = twice {
            self.fail(step, || {
                execution("multiple matches for labels: grouping labels must ensure unique matches")
            });
        }
    }

    /// Series of the one side that met nobody, against the fill value of the many side.
    fn fill(&mut self, cx: &Context, rules: &Rules, steps: usize) -> Result<Block, QueryError> {
        let mut out = cx.build(steps)?;
        let Some(fill) = rules.fill_many else {
            return out.finish();
        };
        let w = words(steps);
        let (mut row, mut pace) = (Row::default(), Pace::default());
        for k in 0..self.rows.len() {
            for n in 0..self.rows[k].len() {
                pace.step(cx, steps)?;
                self.room(1, row.labels.len(), w)?;
                let (b, r) = self.rows[k][n];
                let one = self.one[b as usize].row(r as usize);
                row.reset(steps);
                for (i, word) in row.bits.iter_mut().enumerate() {
                    *word = one.bits[i] & !self.matched[k * w + i];
                }
                if row.is_empty() {
                    continue;
                }
                let absent = rules.matching_labels(cx, one.labels);
                rules.labels(cx, &absent, one.labels, &mut row);
                let mut met = row.bits.clone();
                let (m, o) = (Operand::Fill, Operand::Row(one));
                let apart = rules.histograms(m, o, &mut row, &mut met, &mut self.notes);
                rules.fill_values(fill, one, &mut row);
                apart.put(&mut row);
                self.claim(rules, k, &met, &row, w);
                if !row.is_empty() {
                    out.push(row.as_ref())?;
                }
            }
        }
        out.finish()
    }

    /// Fails if the one side had two series for one match at a step at which anything could match.
    fn finish(&mut self, cx: &Context, rules: &Rules) -> Result<(), QueryError> {
        if !self.notes.is_empty() {
            let mut all: Vec<Note> = self.notes.drain(..).flatten().collect();
            all.dedup();
            cx.say(|a| all.iter().for_each(|note| a.note(note, rules.span)));
        }
        let filled = rules.fill_one.is_some() || rules.fill_many.is_some();
        let mut relevant = self.many_present.clone();
        if filled {
            unite(&mut relevant, &self.one_present);
        }
        // The first in the order of steps, then of series.
        let mut duplicate: Option<(Met, Vec<Pair>, Vec<Pair>)> = None;
        let mut pace = Pace::default();
        for rows in self.rows.iter().filter(|rows| rows.len() > 1) {
            let mut seen = vec![0u64; relevant.len()];
            for &(b, r) in rows {
                pace.step(cx, relevant.len())?;
                let row = self.one[b as usize].row(r as usize);
                let now: Vec<u64> = row.bits.iter().zip(&relevant).map(|(a, b)| a & b).collect();
                if let Some(step) = first_common(&seen, &now)
                    && duplicate.as_ref().is_none_or(|d| (step, (b, r)) < d.0)
                {
                    let first = rows
                        .iter()
                        .map(|&(b, r)| self.one[b as usize].row(r as usize))
                        .find(|other| super::block::is_set(other.bits, step));
                    let first = first.map_or_else(Vec::new, |f| f.labels.to_vec());
                    duplicate = Some(((step, (b, r)), first, row.labels.to_vec()));
                }
                unite(&mut seen, &now);
            }
        }
        if let Some(((step, _), a, b)) = duplicate
            && self.wrong.as_ref().is_none_or(|(first, _)| step <= *first)
        {
            let group = cx.text(&rules.matching_labels(cx, &b));
            let (mut a, mut b) = (cx.text(&a), cx.text(&b));
            if a > b {
                std::mem::swap(&mut a, &mut b);
            }
            let side = if rules.swapped { "left" } else { "right" };
            return Err(execution(format!(
                "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{a}, {b}];many-to-many matching not allowed: matching labels must be unique on one side"
            )));
        }
        match self.wrong.take() {
            Some((_, e)) => Err(e),
            None => Ok(()),
        }
    }
}

/// A side of a pair, where histograms may be.
#[derive(Clone, Copy)]
enum Operand<'a> {
    Row(RowRef<'a>),
    Fill,
}

impl<'a> Operand<'a> {
    fn histograms(&self) -> &'a [Point] {
        match self {
            Operand::Row(row) => row.histograms,
            Operand::Fill => &[],
        }
    }

    fn histogram(&self, i: usize) -> Option<&'a Arc<Histogram>> {
        match self {
            Operand::Row(row) => row.histogram(i),
            Operand::Fill => None,
        }
    }
}

/// Results of steps with histograms, while the floats of a row are computed.
#[derive(Default)]
struct Apart {
    floats: Vec<(usize, f64)>,
    histograms: Vec<Point>,
}

impl Apart {
    fn put(self, row: &mut Row) {
        let Row {
            values,
            bits,
            histograms,
            ..
        } = row;
        for (i, v) in self.floats {
            values[i] = v;
            bits[i >> 6] |= 1 << (i & 63);
        }
        for (i, h) in self.histograms {
            bits[i as usize >> 6] |= 1 << (i & 63);
            histograms.push((i, h));
        }
    }
}

/// The values of the one side.
#[derive(Clone, Copy)]
enum Side<'a> {
    Row(&'a [f64]),
    Fill(f64),
}

impl Rules {
    /// The labels two sides must share, as error texts and fill values show them: `ignoring` leaves
    /// the name out too.
    fn matching_labels(&self, cx: &Context, labels: &[Pair]) -> Vec<Pair> {
        let name = cx.name_symbol();
        labels
            .iter()
            .filter(|(n, _)| {
                if self.on {
                    self.labels.contains(n)
                } else {
                    *n != name && !self.labels.contains(n)
                }
            })
            .copied()
            .collect()
    }

    /// The labels of a result, into `row`.
    fn labels(&self, cx: &Context, many: &[Pair], one: &[Pair], row: &mut Row) {
        row.labels.clear();
        row.labels.extend(
            many.iter()
                .filter(|(n, _)| {
                    if self.drops_name && cx.is_metadata(*n) {
                        return false;
                    }
                    !self.one_to_one || self.on == self.labels.contains(n)
                })
                .copied(),
        );
        for &name in &self.include {
            let value = super::block::value_of(one, name);
            row.set(name, value, &cx.scope.symbols);
        }
        row.drop_name = self.delayed_flag;
    }

    /// Takes the steps with histograms out of `row` and gives their results. Those that make no
    /// sense leave `met` too, and a note.
    fn histograms(
        &self,
        many: Operand<'_>,
        one: Operand<'_>,
        row: &mut Row,
        met: &mut [u64],
        notes: &mut Vec<Option<Note>>,
    ) -> Apart {
        let trims = matches!(self.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        if many.histograms().is_empty() && one.histograms().is_empty() && !trims {
            return Apart::default();
        }
        self.histograms_apart(many, one, row, met, notes)
    }

    #[cold]
    fn histograms_apart(
        &self,
        many: Operand<'_>,
        one: Operand<'_>,
        row: &mut Row,
        met: &mut [u64],
        notes: &mut Vec<Option<Note>>,
    ) -> Apart {
        let value = |side: Operand<'_>, fill: Option<f64>, i: usize| match side {
            Operand::Row(row) => row.values[i],
            Operand::Fill => fill.unwrap_or(f64::NAN),
        };
        let trims = matches!(self.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        let name = self.op.as_str();
        let mut apart = Apart::default();
        let present = row.bits.clone();
        each_set(&present, |i| {
            let (m, o) = (many.histogram(i), one.histogram(i));
            if m.is_none() && o.is_none() && !trims {
                return;
            }
            clear(&mut row.bits, i);
            let (fm, fo) = (value(many, self.fill_many, i), value(one, self.fill_one, i));
            let ((l, fl), (r, fr)) = if self.swapped {
                ((o, fo), (m, fm))
            } else {
                ((m, fm), (o, fo))
            };
            let (kind, other) = match (l, r) {
                (Some(_), Some(_)) => ("histogram", "histogram"),
                (Some(_), None) => ("histogram", "float"),
                (None, Some(_)) => ("float", "histogram"),
                (None, None) => ("float", "float"),
            };
            let wrong = Note::Types(kind, name, other);
            let result = match (l, r) {
                (Some(l), Some(r)) => arith::between(self.op, l, r),
                (Some(h), None) => match arith::with_scalar(self.op, h, fr, false) {
                    Some(h) => OfHistograms::Is(Box::new(h), None),
                    None => OfHistograms::Nothing(wrong),
                },
                (None, Some(h)) => match arith::with_scalar(self.op, h, fl, true) {
                    Some(h) => OfHistograms::Is(Box::new(h), None),
                    None => OfHistograms::Nothing(wrong),
                },
                (None, None) => OfHistograms::Nothing(wrong),
            };
            let note = match result {
                OfHistograms::Is(h, note) => {
                    apart.histograms.push((i as u32, Arc::new(*h)));
                    note
                }
                OfHistograms::Keeps(kept) => {
                    if self.bool_modifier {
                        apart.floats.push((i, f64::from(u8::from(kept))));
                    } else if kept {
                        apart
                            .histograms
                            .extend(l.map(|h| (i as u32, Arc::clone(h))));
                    }
                    None
                }
                OfHistograms::Nothing(note) => {
                    clear(met, i);
                    Some(note)
                }
            };
            if note.is_some() {
                notes.resize(notes.len().max(present.len() * 64), None);
                notes[i] = note;
            }
        });
        apart
    }

    /// The values at the steps that `row` has; comparisons remove steps.
    fn values(&self, many: &[f64], one: Side<'_>, row: &mut Row) {
        let at = |i: usize| match one {
            Side::Row(values) => values[i],
            Side::Fill(v) => v,
        };
        self.compute(|i| many[i], at, row);
    }

    fn fill_values(&self, fill: f64, one: RowRef<'_>, row: &mut Row) {
        self.compute(|_| fill, |i| one.values[i], row);
    }

    #[inline(always)]
    fn compute(&self, many: impl Fn(usize) -> f64, one: impl Fn(usize) -> f64, row: &mut Row) {
        let Row { values, bits, .. } = row;
        let swapped = self.swapped;
        let sides = |i: usize| {
            let (m, o) = (many(i), one(i));
            if swapped { (o, m) } else { (m, o) }
        };
        if self.op.is_comparison() && !self.bool_modifier {
            let holds = arith::scalar_function(self.op);
            for (w, word) in bits.iter_mut().enumerate() {
                let mut rest = *word;
                while rest != 0 {
                    let bit = rest.trailing_zeros() as usize;
                    let (l, r) = sides(w * 64 + bit);
                    if holds(l, r) == 0.0 {
                        *word &= !(1 << bit);
                    }
                    values[w * 64 + bit] = l;
                    rest &= rest - 1;
                }
            }
            return;
        }
        with_operator!(self.op, f => each_set(bits, |i| {
            let (l, r) = sides(i);
            values[i] = f(l, r);
        }));
    }
}
