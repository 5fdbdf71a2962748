//! A part of an expression as it is asked of peers.

use std::sync::Arc;

use model::{Millis, Str};

use super::build::Query;
use crate::ast::{At, Duration, Expr, ExprKind, TimeShift};
use crate::grid::Grid;
use crate::peers::Peer;
use crate::value::{InstantQuery, QueryOptions, RangeQuery};

/// What is asked, and of whom.
pub(crate) struct Remote {
    /// It means the same on any grid, and on any evaluator of the language.
    expr: Expr,
    lookback: Millis,
    pub(crate) peers: Arc<[Peer]>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({})", self.expr)
    }
}

/// A question of either kind.
pub(crate) enum Question {
    Instant(InstantQuery),
    Range(RangeQuery),
}

impl Remote {
    /// None if it cannot be said so that it means the same there.
    pub(super) fn new(mut expr: Expr, query: &Query, peers: Vec<Peer>) -> Option<Self> {
        resolve(&mut expr, query)?;
        Some(Self {
            expr,
            lookback: query.lookback,
            peers: peers.into(),
        })
    }

    /// The text of the question.
    pub(crate) fn text(&self) -> String {
        self.expr.to_string()
    }

    /// The question at the steps of `grid`. None if they are not at full seconds, which is what the
    /// service counts in, and cannot be brought there.
    pub(crate) fn on(&self, grid: &Grid, options: QueryOptions) -> Option<Question> {
        let options = QueryOptions {
            lookback: Some(self.lookback),
            ..options
        };
        let is_full = |ms: Millis| ms.rem_euclid(1000) == 0;
        match grid.count {
            0 => None,
            1 => {
                let mut expr = std::borrow::Cow::Borrowed(&self.expr);
                if !is_full(grid.start) {
                    pin(expr.to_mut(), grid.start)?;
                }
                Some(Question::Instant(InstantQuery {
                    expr: Str::from(expr.to_string()),
                    ts: grid.start,
                    options,
                }))
            }
            _ if is_full(grid.start) && is_full(grid.step) => Some(Question::Range(RangeQuery {
                expr: Str::from(self.text()),
                start: grid.start,
                end: grid.end(),
                step: grid.step,
                options,
            })),
            _ => None,
        }
    }
}

/// Puts what depends on the query or on who evaluates it into words that do not.
fn resolve(expr: &mut Expr, query: &Query) -> Option<()> {
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => Some(()),
        ExprKind::Vector(selector) => shift(&mut selector.at, query),
        ExprKind::Matrix(matrix) => {
            known(&mut matrix.range, query, false)?;
            shift(&mut matrix.selector.at, query)
        }
        ExprKind::Subquery(subquery) => {
            known(&mut subquery.range, query, false)?;
            let step = match &subquery.step {
                Some(step) => query.duration(step, false).ok()?,
                None => 0,
            };
            let step = match (step, &subquery.range) {
                (0, Duration::Known(range)) => (query.subquery_step)(*range),
                (step, _) => step,
            };
            subquery.step = Some(Duration::Known(step));
            shift(&mut subquery.at, query)?;
            resolve(&mut subquery.expr, query)
        }
        ExprKind::Call(call) => call.args.iter_mut().try_for_each(|arg| resolve(arg, query)),
        ExprKind::Aggregate(aggregate) => {
            if let Some(param) = &mut aggregate.param {
                resolve(param, query)?;
            }
            resolve(&mut aggregate.expr, query)
        }
        ExprKind::Binary(binary) => {
            resolve(&mut binary.lhs, query)?;
            resolve(&mut binary.rhs, query)
        }
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => resolve(inner, query),
    }
}

fn known(duration: &mut Duration, query: &Query, may_be_negative: bool) -> Option<()> {
    // What is wrong with it is said where it is evaluated here.
    let ms = query.duration(duration, may_be_negative).ok()?;
    *duration = Duration::Known(ms);
    Some(())
}

fn shift(shift: &mut TimeShift, query: &Query) -> Option<()> {
    if let Some(offset) = &mut shift.offset {
        known(offset, query, true)?;
    }
    shift.at = shift.at.map(|at| match at {
        At::Time(at) => At::Time(at),
        At::Start => At::Time(query.start),
        At::End => At::Time(query.end),
    });
    Some(())
}

/// Lets all selectors look from `ts`, wherever the expression is evaluated. None if it depends on that
/// in other ways.
fn pin(expr: &mut Expr, ts: Millis) -> Option<()> {
    let at = |shift: &mut TimeShift| {
        shift.at.get_or_insert(At::Time(ts));
    };
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => {}
        ExprKind::Vector(selector) => at(&mut selector.at),
        ExprKind::Matrix(matrix) => at(&mut matrix.selector.at),
        // What is inside has times of its own.
        ExprKind::Subquery(subquery) => at(&mut subquery.at),
        ExprKind::Call(call) if matches!(call.func.name, "time" | "predict_linear") => return None,
        ExprKind::Call(call) => call.args.iter_mut().try_for_each(|arg| pin(arg, ts))?,
        ExprKind::Aggregate(aggregate) => {
            if let Some(param) = &mut aggregate.param {
                pin(param, ts)?;
            }
            pin(&mut aggregate.expr, ts)?;
        }
        ExprKind::Binary(binary) => {
            pin(&mut binary.lhs, ts)?;
            pin(&mut binary.rhs, ts)?;
        }
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => pin(inner, ts)?,
    }
    Some(())
}
