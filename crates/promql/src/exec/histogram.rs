//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, of classic buckets and of
//! native histograms.

use std::sync::Arc;

use futures_util::stream::TryStreamExt as _;
use model::Symbol;

use super::block::{Block, Row, RowRef, is_set};
use super::context::{Context, Weigh as _};
use super::index::{Key, LabelIndex};
use super::operator::{Blocks, Description, Operator, blocking};
use super::pace::Pace;
use super::pipe::Pipe;
use super::scalar::ScalarOp;
use crate::annotations::{Forced, Note};
use crate::ast::Span;
use crate::buckets::{self, Bucket};
use crate::grid::Grid;
use crate::histogram::Histogram;
use crate::histogram::quantile::{self, Nans};
use crate::kernels::Param;
use crate::value::QueryError;
use model::text::parse_float;

/// What is computed of each histogram.
#[derive(Clone)]
pub(crate) enum Of {
    /// Quantiles and where they were written, each with its own label if there are several.
    Quantiles(Vec<(ScalarOp, Span)>, Option<model::Str>),
    /// The share of observations between two bounds.
    Fraction(ScalarOp, ScalarOp),
}

/// Groups classic buckets by all labels but `le` (the name included), native histograms by all
/// labels, and computes one series a group.
pub(crate) struct OfHistograms {
    pub(crate) of: Of,
    pub(crate) input: Pipe,
    /// Where the buckets were written.
    pub(crate) span: Span,
    pub(crate) grid: Grid,
}

/// The series of a group.
#[derive(Default)]
struct Members<'a> {
    /// Buckets with their bounds.
    classic: Vec<(f64, RowRef<'a>)>,
    native: Vec<RowRef<'a>>,
}

enum Ready {
    Quantiles(Vec<(Param, Symbol)>, Symbol),
    Fraction(Param, Param),
}

impl Operator for OfHistograms {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let (grid, span) = (self.grid, self.span);
            let ready = match &self.of {
                Of::Quantiles(all, label) => {
                    let mut quantiles = Vec::new();
                    for (q, span) in all {
                        let q = q.eval(&cx, &grid).await?;
                        for bad in q.iter(grid.count).filter(|q| !(0.0..=1.0).contains(q)) {
                            cx.say(|a| a.invalid_quantile(bad, *span));
                        }
                        let value = match label {
                            Some(_) => {
                                let text = open_metrics(q.at(0));
                                cx.scope.symbols.intern(&text)
                            }
                            None => Symbol::EMPTY,
                        };
                        quantiles.push((q, value));
                    }
                    let label = label.as_ref().map(|l| cx.scope.symbols.intern(l));
                    Ready::Quantiles(quantiles, label.unwrap_or(Symbol::EMPTY))
                }
                Of::Fraction(lower, upper) => {
                    Ready::Fraction(lower.eval(&cx, &grid).await?, upper.eval(&cx, &grid).await?)
                }
            };
            let blocks: Vec<Block> = self.input.blocks(&cx).try_collect().await?;
            let block = cx
                .run(blocks.weight(), move |cx| {
                    computed(cx, &ready, &blocks, &grid, span)
                })
                .await?;
            Ok(vec![block])
        })
    }

    fn describe(&self) -> Description {
        let name = match &self.of {
            Of::Quantiles(..) => "HistogramQuantile",
            Of::Fraction(..) => "HistogramFraction",
        };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let number = |q: &ScalarOp| q.describe(self.grid.count);
        match &self.of {
            Of::Quantiles(all, None) => before.extend(all.iter().map(|(q, _)| number(q))),
            Of::Quantiles(all, Some(_)) => after.extend(all.iter().map(|(q, _)| number(q))),
            Of::Fraction(lower, upper) => before.extend([number(lower), number(upper)]),
        }
        Description::new(name, false, "buckets x steps x 8 B")
            .over(before)
            .over([self.input.describe()])
            .over(after)
    }
}

/// A number as a label value of OpenMetrics: with a point or an exponent.
fn open_metrics(v: f64) -> String {
    let text = model::text::format_g(v);
    if text.contains(['.', 'e', 'N', 'I']) {
        text
    } else {
        format!("{text}.0")
    }
}

fn computed(
    cx: &Context,
    ready: &Ready,
    blocks: &[Block],
    grid: &Grid,
    span: Span,
) -> Result<Block, QueryError> {
    let symbols = &cx.scope.symbols;
    let le = symbols.intern("le");
    let (key, mut labels) = (Key::AllBut(vec![le]), Vec::new());
    let mut groups = LabelIndex::default();
    let mut members: Vec<Members<'_>> = Vec::new();
    let (mut beside, mut pace) = (cx.growing()?, Pace::default());
    for row in blocks.iter().flat_map(Block::rows) {
        pace.step(cx, row.labels.len() * 4)?;
        // A reference with its bound, and perhaps a group.
        let of_row = size_of_val(&row) + size_of::<Members<'_>>() + size_of_val(row.labels);
        beside.add(of_row + 32)?;
        if !row.histograms.is_empty() {
            let (g, new) = groups.intern(row.labels);
            if new {
                members.push(Members::default());
            }
            members[g].native.push(row);
            if row.histograms.len() == super::block::count(row.bits) {
                continue;
            }
        }
        let text = symbols.get(super::block::value_of(row.labels, le));
        let Some(bound) = parse_float(text) else {
            let name = if cx.delayed_names {
                super::block::value_of(row.labels, cx.name_symbol())
            } else {
                Symbol::EMPTY
            };
            cx.say(|a| a.bad_bucket_label(symbols.get(name), text, span));
            continue;
        };
        key.of(row.labels, &mut labels);
        let (g, new) = groups.intern(&labels);
        if new {
            members.push(Members::default());
        }
        members[g].classic.push((bound, row));
    }
    for members in &mut members {
        // Sorted once; a stable sort keeps equal bounds in order of appearance.
        let bounds = |a: &(f64, _), b: &(f64, _)| a.0.partial_cmp(&b.0);
        let classic = &mut members.classic;
        classic.sort_by(|a, b| bounds(a, b).unwrap_or(std::cmp::Ordering::Equal));
    }
    // Quantile by quantile, native histograms first: aggregations see this order.
    let native = |g: &usize| !members[*g].native.is_empty();
    let (mut order, classic): (Vec<_>, Vec<_>) = (0..members.len()).partition(native);
    order.extend(classic);
    let n = match ready {
        Ready::Quantiles(all, _) => all.len(),
        Ready::Fraction(..) => 1,
    };
    let mut out = cx.build(grid.count)?;
    let (mut row, mut buckets) = (Row::default(), Vec::new());
    for which in 0..n {
        for &g in &order {
            row.reset(grid.count);
            row.labels.extend_from_slice(groups.labels(g));
            if let Ready::Quantiles(all, label) = ready
                && *label != Symbol::EMPTY
            {
                row.set(*label, all[which].1, symbols);
            }
            row.drop_name = cx.delayed_names;
            if !cx.delayed_names {
                cx.drop_metadata(&mut row.labels);
            }
            let name = if cx.delayed_names {
                symbols.get(super::block::value_of(groups.labels(g), cx.name_symbol()))
            } else {
                ""
            };
            let group = Group {
                members: &members[g],
                ready,
                which,
                grid,
            };
            let mut said = Said {
                cx,
                name,
                span,
                forced: None,
            };
            let of_step = members[g].classic.len() * 2 + members[g].native.len() * 16;
            for i in 0..grid.count {
                pace.step(cx, of_step)?;
                if let Some(value) = group.at(i, &mut buckets, &mut said) {
                    row.values[i] = value;
                    row.bits[i >> 6] |= 1 << (i & 63);
                }
            }
            if let Some(forced) = said.forced {
                cx.say(|a| a.forced_monotonicity(name, forced, span));
            }
            if !row.is_empty() {
                out.push(row.as_ref())?;
            }
        }
    }
    out.finish()
}

/// A group and what is computed of it.
struct Group<'a> {
    members: &'a Members<'a>,
    ready: &'a Ready,
    /// Which of the quantiles.
    which: usize,
    grid: &'a Grid,
}

/// What there is to say about a group.
struct Said<'a> {
    cx: &'a Context,
    name: &'a str,
    span: Span,
    forced: Option<Forced>,
}

impl Said<'_> {
    fn note(&self, note: fn(model::Str) -> Note) {
        let note = note(self.name.into());
        self.cx.say(|a| a.note(&note, self.span));
    }
}

impl Group<'_> {
    /// The value at step `i`; `buckets` is memory to work in.
    fn at(&self, i: usize, buckets: &mut Vec<Bucket>, said: &mut Said<'_>) -> Option<f64> {
        buckets.clear();
        for (bound, r) in &self.members.classic {
            if is_set(r.bits, i) && r.histogram(i).is_none() {
                buckets.push(Bucket {
                    bound: *bound,
                    count: r.values[i],
                });
            }
        }
        let native = self.members.native.iter().find_map(|r| r.histogram(i));
        if let Some(h) = native {
            if !buckets.is_empty() {
                said.note(Note::MixedClassicNative);
                return None;
            }
            return Some(self.native(i, h, said));
        }
        if buckets.is_empty() {
            return None;
        }
        Some(match self.ready {
            Ready::Quantiles(all, _) => {
                let (v, fixed) = buckets::quantile(all[self.which].0.at(i), buckets);
                // Prometheus fixes the buckets in place: a later quantile finds nothing to fix.
                let is_quantile = |q: f64| (0.0..=1.0).contains(&q);
                let before = all[..self.which].iter();
                let is_first = before.map(|(q, _)| q.at(i)).all(|q| !is_quantile(q));
                if let Some(fixed) = fixed.filter(|_| is_first) {
                    let ts = self.grid.at(i);
                    let f = Forced {
                        ts: (ts, ts),
                        buckets: fixed.bounds,
                        max_diff: fixed.max_diff,
                        count: 1,
                    };
                    said.forced = Some(said.forced.map_or(f, |all| all.join(f)));
                }
                v
            }
            Ready::Fraction(lower, upper) => buckets::fraction(lower.at(i), upper.at(i), buckets),
        })
    }

    fn native(&self, i: usize, h: &Histogram, said: &Said<'_>) -> f64 {
        match self.ready {
            Ready::Quantiles(all, _) => {
                let (v, nans) = quantile::quantile(all[self.which].0.at(i), h);
                match nans {
                    Some(Nans::Result) => said.note(Note::NansResult),
                    Some(Nans::Skew) => said.note(Note::NansSkew),
                    None => {}
                }
                v
            }
            Ready::Fraction(lower, upper) => {
                let (v, nans) = quantile::fraction(lower.at(i), upper.at(i), h);
                if nans {
                    said.note(Note::NansFraction);
                }
                v
            }
        }
    }
}
