//! Scalars: one number a step, computed before the series that need them.

use std::sync::Arc;

use futures_util::FutureExt as _;
use model::BoxFuture;

use super::block::{each_set, words};
use super::context::Context;
use super::operator::{Description, fold};
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
                    Param::Steps((0..steps).map(|i| grid.at(i) as f64 / 1000.0).collect())
                }
                ScalarOp::Of(pipe) => {
                    let state = (vec![f64::NAN; steps], vec![0u64; words(steps)]);
                    let (values, _) = fold(cx, pipe.blocks(cx), state, |_, state, block| {
                        let (values, seen) = state;
                        let mut scratch = Vec::new();
                        for row in block.rows() {
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
                ScalarOp::Neg(a) => map(a.eval(cx, grid).await?, |v| -v),
                ScalarOp::Binary(op, a, b) => {
                    let (a, b) = (a.eval(cx, grid).await?, b.eval(cx, grid).await?);
                    let f = arith::scalar_function(*op);
                    zip(a, b, steps, f)
                }
                ScalarOp::Max(a, b) => zip(
                    a.eval(cx, grid).await?,
                    b.eval(cx, grid).await?,
                    steps,
                    go_max,
                ),
                ScalarOp::Min(a, b) => zip(
                    a.eval(cx, grid).await?,
                    b.eval(cx, grid).await?,
                    steps,
                    go_min,
                ),
            })
        }
        .boxed()
    }

    /// What it reads, for `explain`.
    pub(crate) fn children(&self) -> Vec<Description> {
        match self {
            ScalarOp::Const(_) | ScalarOp::Time => Vec::new(),
            ScalarOp::Of(pipe) => {
                vec![Description::new("Scalar", false, "steps").over([pipe.describe()])]
            }
            ScalarOp::Neg(a) => a.children(),
            ScalarOp::Binary(_, a, b) | ScalarOp::Max(a, b) | ScalarOp::Min(a, b) => {
                let mut all = a.children();
                all.extend(b.children());
                all
            }
        }
    }
}

fn map(a: Param, f: impl Fn(f64) -> f64) -> Param {
    match a {
        Param::Const(v) => Param::Const(f(v)),
        Param::Steps(v) => Param::Steps(v.iter().map(|v| f(*v)).collect()),
    }
}

fn zip(a: Param, b: Param, steps: usize, f: impl Fn(f64, f64) -> f64) -> Param {
    match (&a, &b) {
        (Param::Const(a), Param::Const(b)) => Param::Const(f(*a, *b)),
        _ => Param::Steps((0..steps).map(|i| f(a.at(i), b.at(i))).collect()),
    }
}
