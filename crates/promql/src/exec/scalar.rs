//! Scalars: one number a step, computed before the series that need them.

use std::sync::Arc;

use futures_util::FutureExt as _;
use model::BoxFuture;

use super::block::{each_set, words};
use super::context::Context;
use super::operator::{Description, Yield, fold};
use super::pace::Pace;
use super::pipe::Pipe;
use crate::arith;
use crate::ast::BinaryOp;
use crate::grid::Grid;
use crate::kernels::Param;
use crate::numbers::{go_max, go_min};
use crate::value::QueryError;

/// A scalar expression.
#[derive(Clone)]
pub(crate) enum ScalarOp {
    Const(f64),
    /// `time()`
    Time,
    /// `scalar(vector)`
    Of(Arc<Pipe>),
    Neg(Arc<ScalarOp>),
    Binary(BinaryOp, Arc<ScalarOp>, Arc<ScalarOp>),
    Max(Arc<ScalarOp>, Arc<ScalarOp>),
    Min(Arc<ScalarOp>, Arc<ScalarOp>),
    /// The same at every step: computed at this one.
    Once(Arc<ScalarOp>, Grid),
}

impl ScalarOp {
    /// Its value at every step.
    pub(crate) fn eval<'a>(
        &'a self,
        cx: &'a Arc<Context>,
        grid: &'a Grid,
    ) -> BoxFuture<'a, Result<Param, QueryError>> {
        async move {
            let steps = grid.count;
            Ok(match self {
                ScalarOp::Const(v) => Param::Const(*v),
                ScalarOp::Time => {
                    hold(cx, steps)?;
                    Param::Steps((0..steps).map(|i| grid.at(i) as f64 / 1000.0).collect())
                }
                ScalarOp::Of(pipe) => {
                    // They are copied in the end.
                    let _beside = cx.hold(steps.saturating_mul(9))?;
                    hold(cx, steps)?;
                    let state = (vec![f64::NAN; steps], vec![0u64; words(steps)]);
                    let (values, _) = fold(cx, pipe.blocks(cx), state, |cx, state, block| {
                        let (values, seen) = state;
                        let (mut scratch, mut pace) = (Vec::new(), Pace::default());
                        for row in block.rows() {
                            pace.step(cx, row.values.len())?;
                            each_set(row.float_bits(&mut scratch), |i| {
                                let bit = 1 << (i & 63);
                                // Only a single series has a scalar.
                                values[i] = if seen[i >> 6] & bit == 0 {
                                    row.values[i]
                                } else {
                                    f64::NAN
                                };
                                seen[i >> 6] |= bit;
                            });
                        }
                        Ok(())
                    })
                    .await?;
                    Param::Steps(values.into())
                }
                ScalarOp::Neg(a) => map(cx, a.eval(cx, grid).await?, |v| -v)?,
                ScalarOp::Once(a, first) => Param::Const(a.eval(cx, first).await?.at(0)),
                ScalarOp::Binary(op, a, b) => {
                    let (a, b) = (a.eval(cx, grid).await?, b.eval(cx, grid).await?);
                    let f = arith::scalar_function(*op);
                    zip(cx, a, b, steps, f)?
                }
                ScalarOp::Max(a, b) | ScalarOp::Min(a, b) => {
                    let (x, y) = (a.eval(cx, grid).await?, b.eval(cx, grid).await?);
                    let f = match self {
                        ScalarOp::Max(..) => go_max,
                        _ => go_min,
                    };
                    zip(cx, x, y, steps, f)?
                }
            })
        }
        .boxed()
    }

    /// Whether it is a number written in the query, and such a one.
    pub(crate) fn is(&self, such: impl Fn(f64) -> bool) -> bool {
        matches!(self, ScalarOp::Const(v) if such(*v))
    }

    /// A number at each of so many steps, and what it reads.
    pub(crate) fn describe(&self, steps: usize) -> Description {
        let number = Description::number(steps);
        match self {
            ScalarOp::Const(_) | ScalarOp::Time => number,
            ScalarOp::Of(pipe) => {
                let scalar = Description::new("Scalar", false, "steps").numbers(steps);
                scalar.over([pipe.describe()])
            }
            ScalarOp::Neg(a) => a.describe(steps),
            ScalarOp::Binary(_, a, b) | ScalarOp::Max(a, b) | ScalarOp::Min(a, b) => {
                number.over([a.describe(steps), b.describe(steps)])
            }
            ScalarOp::Once(a, _) => number.yields(Yield::Instead).over([a.describe(1)]),
        }
    }
}

/// Counts a number at each step until the query ends.
fn hold(cx: &Context, steps: usize) -> Result<(), QueryError> {
    cx.keep(cx.hold(steps.saturating_mul(8))?);
    Ok(())
}

fn map(cx: &Context, a: Param, f: impl Fn(f64) -> f64) -> Result<Param, QueryError> {
    Ok(match a {
        Param::Const(v) => Param::Const(f(v)),
        Param::Steps(v) => {
            hold(cx, v.len())?;
            Param::Steps(v.iter().map(|v| f(*v)).collect())
        }
    })
}

fn zip(
    cx: &Context,
    a: Param,
    b: Param,
    steps: usize,
    f: impl Fn(f64, f64) -> f64,
) -> Result<Param, QueryError> {
    Ok(match (&a, &b) {
        (Param::Const(a), Param::Const(b)) => Param::Const(f(*a, *b)),
        _ => {
            hold(cx, steps)?;
            Param::Steps((0..steps).map(|i| f(a.at(i), b.at(i))).collect())
        }
    })
}
