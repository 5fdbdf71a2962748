//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, of classic buckets and of
//! native histograms.

use std::sync::Arc;

use futures_util::stream::TryStreamExt as _;
use model::Symbol;

use super::block::{Block, Row, RowRef, is_set};
use super::context::Context;
use super::index::{Key, LabelIndex};
use super::operator::{Blocks, Description, Operator, blocking};
use super::pipe::Pipe;
use super::scalar::ScalarOp;
use crate::annotations::{Forced, Note};
use crate::ast::Span;
use crate::buckets::{self, Bucket};
use crate::grid::Grid;
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
pub(crate) struct Histogram {
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

impl Operator for Histogram {
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
                .run(move |cx| cx.hold_block(computed(cx, &ready, &blocks, &grid, span)?))
                .await?;
            Ok(vec![block])
        })
    }

    fn describe(&self) -> Description {
        let name = match &self.of {
            Of::Quantiles(..) => "HistogramQuantile",
            Of::Fraction(..) => "HistogramFraction",
        };
        Description::new(name, false, "buckets x steps x 8 B").over([self.input.describe()])
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
    for row in blocks.iter().flat_map(Block::rows) {
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
    let steps = grid.count;
    let mut out = Block::new(steps);
    let (mut row, mut buckets) = (Row::default(), Vec::new());
    for (g, Members { classic, native }) in members.iter_mut().enumerate() {
        let rows = classic;
        // Sorted once; a stable sort keeps equal bounds in order of appearance.
        rows.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        let name = if cx.delayed_names {
            super::block::value_of(groups.labels(g), cx.name_symbol())
        } else {
            Symbol::EMPTY
        };
        let n = match ready {
            Ready::Quantiles(all, _) => all.len(),
            Ready::Fraction(..) => 1,
        };
        for which in 0..n {
            row.reset(steps);
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
            let mut forced: Option<Forced> = None;
            for i in 0..steps {
                buckets.clear();
                for (bound, r) in rows.iter() {
                    if is_set(r.bits, i) && r.histogram(i).is_none() {
                        buckets.push(Bucket {
                            bound: *bound,
                            count: r.values[i],
                        });
                    }
                }
                if let Some(h) = native.iter().find_map(|r| r.histogram(i)) {
                    let name = || model::Str::from(symbols.get(name));
                    if !buckets.is_empty() {
                        cx.say(|a| a.note(&Note::MixedClassicNative(name()), span));
                        continue;
                    }
                    let (value, note) = match ready {
                        Ready::Quantiles(all, _) => {
                            let (v, nans) = quantile::quantile(all[which].0.at(i), h);
                            let note = nans.map(|nans| match nans {
                                Nans::Result => Note::NansResult(name()),
                                Nans::Skew => Note::NansSkew(name()),
                            });
                            (v, note)
                        }
                        Ready::Fraction(lower, upper) => {
                            let (v, nans) = quantile::fraction(lower.at(i), upper.at(i), h);
                            (v, nans.then(|| Note::NansFraction(name())))
                        }
                    };
                    if let Some(note) = note {
                        cx.say(|a| a.note(&note, span));
                    }
                    row.values[i] = value;
                    row.bits[i >> 6] |= 1 << (i & 63);
                    continue;
                }
                if buckets.is_empty() {
                    continue;
                }
                row.values[i] = match ready {
                    Ready::Quantiles(all, _) => {
                        let (v, fixed) = buckets::quantile(all[which].0.at(i), &mut buckets);
                        if let Some(fixed) = fixed {
                            let ts = grid.at(i);
                            let f = Forced {
                                ts: (ts, ts),
                                buckets: fixed.bounds,
                                max_diff: fixed.max_diff,
                                count: 1,
                            };
                            forced = Some(forced.map_or(f, |all| all.join(f)));
                        }
                        v
                    }
                    Ready::Fraction(lower, upper) => {
                        buckets::fraction(lower.at(i), upper.at(i), &mut buckets)
                    }
                };
                row.bits[i >> 6] |= 1 << (i & 63);
            }
            if let Some(forced) = forced {
                cx.say(|a| a.forced_monotonicity(symbols.get(name), forced, span));
            }
            if !row.is_empty() {
                out.push(row.as_ref());
            }
        }
        cx.check()?;
    }
    Ok(out)
}
