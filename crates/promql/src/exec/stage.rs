//! What happens to one series alone: functions of its values, of its labels, filters.

use std::sync::Arc;

use model::{Str, Symbol};

use super::block::Row;
use super::context::Context;
use super::operator::Description;
use super::scalar::ScalarOp;
use crate::arith::{self, with_operator};
use crate::ast::BinaryOp;
use crate::grid::Grid;
use crate::kernels::Param;
use crate::labels_fn::{LabelJoin, LabelReplace};
use crate::numbers::{go_max, go_min};
use crate::value::QueryError;

/// A step of a pipe.
#[derive(Clone)]
pub(crate) enum Stage {
    /// A function of one value; the name goes.
    Value(&'static str, fn(f64) -> f64),
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
    },
    LabelReplace(Arc<LabelReplace>),
    LabelJoin(Arc<LabelJoin>),
    /// `limit_ratio`
    Ratio(ScalarOp, crate::ast::Span),
    /// A value that does not depend on the step, at each of `n` steps.
    Repeat(usize),
}

/// A stage whose scalars are known.
pub(crate) enum ReadyStage {
    Value(fn(f64) -> f64),
    Clamp(Param, Param),
    Round(Param),
    StepTime(Grid),
    Scalar {
        op: BinaryOp,
        scalar: Param,
        swapped: bool,
        bool_modifier: bool,
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
            } => ReadyStage::Scalar {
                op: *op,
                scalar: scalar.eval(cx, grid).await?,
                swapped: *swapped,
                bool_modifier: *bool_modifier,
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

    pub(crate) fn describe(&self) -> Description {
        let (name, scalars): (String, Vec<&ScalarOp>) = match self {
            Stage::Value(name, _) => ((*name).to_owned(), vec![]),
            Stage::Clamp(min, max) => ("clamp".to_owned(), vec![min, max]),
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
            Stage::Value("-", _) | Stage::LabelReplace(_) | Stage::LabelJoin(_)
        );
        let mut stage = Description::new(name, true, "one row");
        stage.yields = !in_place;
        stage.over(scalars.into_iter().flat_map(ScalarOp::children))
    }
}

impl ReadyStage {
    /// Changes `row`; a row left without any step has vanished.
    pub(crate) fn apply(&self, cx: &Context, row: &mut Row) -> Result<(), QueryError> {
        match self {
            ReadyStage::Value(f) => {
                values(row, |_, v| f(v));
                drop_name(cx, row);
            }
            ReadyStage::Clamp(min, max) => {
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
                values(row, |i, v| {
                    let inverse = 1.0 / to.at(i);
                    (v * inverse + 0.5).floor() / inverse
                });
                drop_name(cx, row);
            }
            ReadyStage::StepTime(grid) => {
                values(row, |i, _| grid.at(i) as f64 / 1000.0);
                drop_name(cx, row);
            }
            ReadyStage::Scalar {
                op,
                scalar,
                swapped,
                bool_modifier,
            } => scalar_operation(cx, row, *op, scalar, *swapped, *bool_modifier),
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
                let labels = cx.scope.symbols.labels(&row.labels);
                let offset = labels.hash64() as f64 / u64::MAX as f64;
                filter_map(row, |i, v| {
                    super::limit::in_ratio(ratio.at(i), offset).then_some(v)
                });
            }
            ReadyStage::Repeat(n) => {
                let v = row.values.first().copied().unwrap_or(f64::NAN);
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
