//! What happens to one series alone: functions of its values, of its labels, filters.

use std::sync::Arc;

use model::{Str, Symbol};

use super::block::Row;
use super::context::Context;
use super::operator::{Description, Yield};
use super::scalar::ScalarOp;
use crate::annotations::Note;
use crate::arith::{self, with_operator};
use crate::ast::{BinaryOp, Span};
use crate::grid::Grid;
use crate::histogram::{Histogram, Point};
use crate::kernels::Param;
use crate::labels_fn::{LabelJoin, LabelReplace};
use crate::numbers::{go_max, go_min};
use crate::value::QueryError;

/// A step of a pipe.
#[derive(Clone)]
pub(crate) enum Stage {
    /// A function of one value; the name goes, and so do histograms.
    Value(&'static str, fn(f64) -> f64),
    /// Unary minus.
    Negate,
    /// A function of one histogram; the name goes, and so do floats.
    Histogram(&'static str, fn(&Histogram) -> f64),
    /// Floats pass, histograms do not.
    Floats,
    /// Everything passes.
    All,
    /// Nothing passes.
    Nothing,
    /// `clamp*`: lower and upper bound.
    Clamp(ScalarOp, ScalarOp),
    /// `round`
    Round(ScalarOp),
    /// `timestamp` of anything but a selector.
    StepTime,
    /// `vector op scalar`, or `scalar op vector` if `swapped`.
    Scalar {
        op: BinaryOp,
        scalar: ScalarOp,
        swapped: bool,
        bool_modifier: bool,
        /// Where the whole operation was written.
        span: Span,
    },
    LabelReplace(Arc<LabelReplace>),
    LabelJoin(Arc<LabelJoin>),
    /// `limit_ratio`
    Ratio(ScalarOp, Span),
    /// A value that does not depend on the step, at each of `n` steps.
    Repeat(usize),
}

/// A stage whose scalars are known.
pub(crate) enum ReadyStage {
    Value(fn(f64) -> f64),
    Negate,
    Histogram(fn(&Histogram) -> f64),
    Floats,
    All,
    Nothing,
    Clamp(Param, Param),
    Round(Param),
    StepTime(Grid),
    Scalar {
        op: BinaryOp,
        scalar: Param,
        swapped: bool,
        bool_modifier: bool,
        span: Span,
    },
    LabelReplace(Arc<LabelReplace>, Symbol, Symbol),
    LabelJoin(Arc<LabelJoin>, Symbol, Vec<Symbol>),
    Ratio(Param),
    Repeat(usize),
}

impl Stage {
    pub(crate) async fn ready(
        &self,
        cx: &Arc<Context>,
        grid: &Grid,
    ) -> Result<ReadyStage, QueryError> {
        let symbol = |name: &Str| cx.scope.symbols.intern(name);
        Ok(match self {
            Stage::Value(_, f) => ReadyStage::Value(*f),
            Stage::Negate => ReadyStage::Negate,
            Stage::Histogram(_, f) => ReadyStage::Histogram(*f),
            Stage::Floats => ReadyStage::Floats,
            Stage::All => ReadyStage::All,
            Stage::Nothing => ReadyStage::Nothing,
            Stage::Clamp(min, max) => {
                ReadyStage::Clamp(min.eval(cx, grid).await?, max.eval(cx, grid).await?)
            }
            Stage::Round(to) => ReadyStage::Round(to.eval(cx, grid).await?),
            Stage::StepTime => ReadyStage::StepTime(*grid),
            Stage::Scalar {
                op,
                scalar,
                swapped,
                bool_modifier,
                span,
            } => ReadyStage::Scalar {
                op: *op,
                scalar: scalar.eval(cx, grid).await?,
                swapped: *swapped,
                bool_modifier: *bool_modifier,
                span: *span,
            },
            Stage::LabelReplace(f) => {
                ReadyStage::LabelReplace(Arc::clone(f), symbol(&f.dst), symbol(&f.src))
            }
            Stage::LabelJoin(f) => ReadyStage::LabelJoin(
                Arc::clone(f),
                symbol(&f.dst),
                f.src.iter().map(symbol).collect(),
            ),
            Stage::Ratio(ratio, span) => {
                let ratio = ratio.eval(cx, grid).await?;
                super::limit::check_ratio(cx, &ratio, grid.count, *span)?;
                ReadyStage::Ratio(ratio)
            }
            Stage::Repeat(n) => ReadyStage::Repeat(*n),
        })
    }

    /// What it is over `below`, at so many steps.
    pub(crate) fn describe(&self, below: Description, steps: usize) -> Description {
        let (name, scalars): (String, Vec<&ScalarOp>) = match self {
            Stage::Value(name, _) | Stage::Histogram(name, _) => ((*name).to_owned(), vec![]),
            Stage::Negate => ("-".to_owned(), vec![]),
            Stage::Floats => ("floats".to_owned(), vec![]),
            Stage::All => ("all".to_owned(), vec![]),
            Stage::Nothing => ("nothing".to_owned(), vec![]),
            Stage::Clamp(min, max) => {
                let bounds = [min, max].into_iter().filter(|b| !b.is(f64::is_infinite));
                ("clamp".to_owned(), bounds.collect())
            }
            // What a query says by saying nothing is not held.
            Stage::Round(to) if to.is(|to| to == 1.0) => ("round".to_owned(), vec![]),
            Stage::Round(to) => ("round".to_owned(), vec![to]),
            Stage::StepTime => ("timestamp".to_owned(), vec![]),
            Stage::Scalar { op, scalar, .. } => {
                (format!("Scalar operation {}", op.as_str()), vec![scalar])
            }
            Stage::LabelReplace(_) => ("label_replace".to_owned(), vec![]),
            Stage::LabelJoin(_) => ("label_join".to_owned(), vec![]),
            Stage::Ratio(ratio, _) => ("limit_ratio".to_owned(), vec![ratio]),
            Stage::Repeat(n) => (
                format!("Repeat x {n} (does not depend on the step)"),
                vec![],
            ),
        };
        // Prometheus changes these in place.
        let in_place = matches!(
            self,
            Stage::Negate | Stage::LabelReplace(_) | Stage::LabelJoin(_)
        );
        let mut stage = Description::new(name, true, "one row");
        stage.result = match self {
            _ if in_place => Yield::Input,
            Stage::Repeat(_) | Stage::Ratio(..) => Yield::Instead,
            _ => Yield::Gathered,
        };
        let first = matches!(self, Stage::Scalar { swapped: true, .. } | Stage::Ratio(..));
        let numbers = scalars.into_iter().map(|s| s.describe(steps));
        match first {
            true => stage.over(numbers).over([below]),
            false => stage.over([below]).over(numbers),
        }
    }
}

impl ReadyStage {
    /// Changes `row`; a row left without any step has vanished.
    pub(crate) fn apply(&self, cx: &Context, row: &mut Row) -> Result<(), QueryError> {
        match self {
            ReadyStage::Value(f) => {
                row.keep_floats();
                values(row, |_, v| f(v));
                drop_name(cx, row);
            }
            ReadyStage::Negate => {
                values(row, |_, v| -v);
                for (_, h) in &mut row.histograms {
                    Arc::make_mut(h).scale(-1.0);
                }
                drop_name(cx, row);
            }
            ReadyStage::Histogram(f) => {
                row.bits.fill(0);
                let Row {
                    values,
                    bits,
                    histograms,
                    ..
                } = row;
                for (i, h) in histograms.drain(..) {
                    let i = i as usize;
                    values[i] = f(&h);
                    bits[i >> 6] |= 1 << (i & 63);
                }
                if cx.delayed_names {
                    row.drop_name = true;
                } else {
                    // Unlike other functions these leave type and unit.
                    let name = cx.name_symbol();
                    row.labels.retain(|(n, _)| *n != name);
                }
            }
            ReadyStage::Floats => row.keep_floats(),
            ReadyStage::All => {}
            ReadyStage::Nothing => {
                row.bits.fill(0);
                row.histograms.clear();
            }
            ReadyStage::Clamp(min, max) => {
                row.keep_floats();
                filter_map(row, |i, v| {
                    let (min, max) = (min.at(i), max.at(i));
                    // Not `max >= min`: NaN bounds give NaN.
                    if max < min {
                        None
                    } else {
                        Some(go_max(min, go_min(max, v)))
                    }
                });
                drop_name(cx, row);
            }
            ReadyStage::Round(to) => {
                row.keep_floats();
                values(row, |i, v| {
                    let inverse = 1.0 / to.at(i);
                    (v * inverse + 0.5).floor() / inverse
                });
                drop_name(cx, row);
            }
            ReadyStage::StepTime(grid) => {
                row.histograms.clear();
                values(row, |i, _| grid.at(i) as f64 / 1000.0);
                drop_name(cx, row);
            }
            ReadyStage::Scalar {
                op,
                scalar,
                swapped,
                bool_modifier,
                span,
            } => {
                let trims = matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
                let histograms = if trims || !row.histograms.is_empty() {
                    with_histograms(cx, row, *op, scalar, *swapped, *span)
                } else {
                    Vec::new()
                };
                scalar_operation(cx, row, *op, scalar, *swapped, *bool_modifier);
                for (i, h) in histograms {
                    row.bits[i as usize >> 6] |= 1 << (i & 63);
                    row.histograms.push((i, h));
                }
            }
            ReadyStage::LabelReplace(f, dst, src) => {
                let symbols = &cx.scope.symbols;
                if let Some(value) = f.value(symbols.get(row.get(*src))) {
                    row.set(*dst, symbols.intern(&value), symbols);
                    row.drop_name &= *dst != cx.name_symbol();
                }
            }
            ReadyStage::LabelJoin(f, dst, src) => {
                let symbols = &cx.scope.symbols;
                let value = f.value(src.iter().map(|s| symbols.get(row.get(*s))));
                row.set(*dst, symbols.intern(&value), symbols);
                row.drop_name &= *dst != cx.name_symbol();
            }
            ReadyStage::Ratio(ratio) => {
                let offset = super::limit::offset(&cx.scope.symbols, &row.labels);
                filter_map(row, |i, v| {
                    super::limit::in_ratio(ratio.at(i), offset).then_some(v)
                });
                row.drop_cleared();
            }
            ReadyStage::Repeat(n) => {
                let v = row.values.first().copied().unwrap_or(f64::NAN);
                if let Some((_, h)) = row.histograms.pop() {
                    let all = (0..*n as u32).map(|i| (i, Arc::clone(&h)));
                    row.histograms.extend(all);
                }
                row.values.clear();
                row.values.resize(*n, v);
                row.bits.clear();
                row.bits
                    .extend((0..super::block::words(*n)).map(|w| super::block::full(*n, w)));
            }
        }
        Ok(())
    }
}

fn drop_name(cx: &Context, row: &mut Row) {
    if cx.delayed_names {
        row.drop_name = true;
    } else {
        cx.drop_metadata(&mut row.labels);
    }
}

/// Replaces every value; steps that are not present may be computed too, which does no harm.
#[inline(always)]
fn values(row: &mut Row, f: impl Fn(usize, f64) -> f64) {
    for (i, v) in row.values.iter_mut().enumerate() {
        *v = f(i, *v);
    }
}

/// Replaces the values of present steps, or removes the step.
#[inline(always)]
fn filter_map(row: &mut Row, f: impl Fn(usize, f64) -> Option<f64>) {
    let Row { values, bits, .. } = row;
    for (w, word) in bits.iter_mut().enumerate() {
        let mut rest = *word;
        while rest != 0 {
            let bit = rest.trailing_zeros() as usize;
            let i = w * 64 + bit;
            match f(i, values[i]) {
                Some(v) => values[i] = v,
                None => *word &= !(1 << bit),
            }
            rest &= rest - 1;
        }
    }
}

/// Takes the histograms of `row` out, and gives what `op` makes of them.
#[cold]
fn with_histograms(
    cx: &Context,
    row: &mut Row,
    op: BinaryOp,
    scalar: &Param,
    swapped: bool,
    span: Span,
) -> Vec<Point> {
    let mut out = Vec::new();
    let mut note = None;
    let name = op.as_str();
    let taken = std::mem::take(&mut row.histograms);
    for (i, h) in &taken {
        super::block::clear(&mut row.bits, *i as usize);
        let s = scalar.at(*i as usize);
        match arith::with_scalar(op, h, s, swapped) {
            Some(h) => out.push((*i, Arc::new(h))),
            None if swapped => note = Some(Note::Types("float", name, "histogram")),
            None => note = Some(Note::Types("histogram", name, "float")),
        }
    }
    if matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) && !row.is_empty() {
        row.bits.fill(0);
        note = Some(Note::Types("float", name, "float"));
    }
    if let Some(note) = note {
        cx.say(|a| a.note(&note, span));
    }
    out
}

fn scalar_operation(
    cx: &Context,
    row: &mut Row,
    op: BinaryOp,
    scalar: &Param,
    swapped: bool,
    bool_modifier: bool,
) {
    if op.is_comparison() && !bool_modifier {
        // A filter: the vector's value stays, on whichever side it stands.
        let holds = arith::scalar_function(op);
        filter_map(row, |i, v| {
            let s = scalar.at(i);
            let holds = if swapped { holds(s, v) } else { holds(v, s) };
            (holds != 0.0).then_some(v)
        });
        return;
    }
    with_operator!(op, f => match (scalar, swapped) {
        (Param::Const(s), false) => row.values.iter_mut().for_each(|v| *v = f(*v, *s)),
        (Param::Const(s), true) => row.values.iter_mut().for_each(|v| *v = f(*s, *v)),
        (scalar, false) => values(row, |i, v| f(v, scalar.at(i))),
        (scalar, true) => values(row, |i, v| f(scalar.at(i), v)),
    });
    if arith::changes_schema(op) || bool_modifier {
        drop_name(cx, row);
    }
}

/// Steps at which any row of a block has a value, united into `bits`.
pub(crate) fn presence(bits: &mut [u64], rows: &super::block::Block) {
    for row in rows.rows() {
        super::block::unite(bits, row.bits);
    }
}
